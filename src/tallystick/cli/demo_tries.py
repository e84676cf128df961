"""What the demo's stories are told with: things that were tried, by sixteen workers at once, and what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.session import Session

WORKERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One thing that was tried, and what came of it."""

    tried: str
    answer: str
    good: bool = True


@dataclass(slots=True, kw_only=True)
class Tries:
    """What a story tried; all answers were read from the database."""

    told: list[Told] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether everything came as it should."""
        return bool(self.told) and all(one.good for one in self.told)

    def tell(self, tried: str, answer: str, good: bool) -> None:
        """Add what was tried."""
        self.told.append(Told(tried=tried, answer=answer, good=good))

    async def refused(self, tried: str, call: Callable[[], Awaitable[Any]]) -> None:
        """Try what has to be refused."""
        from tallystick.errors import TallystickError

        try:
            await call()
        except TallystickError as problem:
            # What follows a colon is the text of a rule.
            self.tell(tried, f"refused: {problem.problem.partition(':')[0].rstrip('.')}", True)
        else:
            self.tell(tried, "it worked", False)

    def document(self) -> list[dict[str, Any]]:
        """What was tried, for programs."""
        return [{"tried": t.tried, "answer": t.answer, "good": t.good} for t in self.told]

    def show(self, out: Output) -> None:
        """What was tried, for people."""
        from rich.text import Text

        rows = []
        for one in self.told:
            mark = Text("✓", style="green") if one.good else Text("✗", style="bold red")
            rows.append((mark, one.tried, one.answer))
        out.table(("", "tried", "answer"), rows, flexible=("tried", "answer"))


async def at_once(tally: Tallystick, slug: str, fn: Callable[[Session, int], Awaitable[Any]]) -> list[Any]:
    """What many workers were answered, each in a session of its own, or the conflicts of those that lost."""
    from tallystick.errors import Conflict

    async def one(number: int) -> Any:
        async with tally.session(slug, actor=f"worker {number}", permissions=["*"]) as own:
            try:
                return await fn(own, number)
            except Conflict as lost:
                return lost

    return await asyncio.gather(*(one(n) for n in range(WORKERS)))


def won(answers: list[Any]) -> list[Any]:
    """The answers of those that neither lost nor found nothing left."""
    from tallystick.errors import Conflict

    return [one for one in answers if one is not None and not isinstance(one, Conflict)]
