"""The demo's story of savings circles: neighbours save, one stops paying, and each pot is asked for 16 times."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.domains.identity.users import User
    from tallystick.domains.savings.groups import SavingsGroup
    from tallystick.domains.savings.payouts import Payout
    from tallystick.money import Money
    from tallystick.session import Session

WORKERS = 16
_NAMES = ("Amina", "Bisi", "Chidi", "Dayo", "Efe")
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What happened in a round: who was to receive, and what they did."""

    round: int
    who: str
    what: str
    paid: Money | None = None


@dataclass(slots=True, kw_only=True)
class Circles:
    """What the story shows; all of it was read from the database."""

    turns: list[Turn] = field(default_factory=list)
    asked: int = 0
    payouts: int = 0
    received: list[str] = field(default_factory=list)
    claim: Money | None = None
    left: Money | None = None
    balanced: bool = False

    @property
    def held(self) -> bool:
        """Whether each pot was paid once, everybody received once, and the books are in balance."""
        once = self.payouts == len(self.received) == len(set(self.received)) == len(_NAMES)
        return once and self.balanced and self.left is not None and self.left.units == 0


async def save(tally: Tallystick, slug: str) -> Circles:
    """Five members draw their order, pay for five weeks, and one stops after receiving; each pot is raced for."""
    from tallystick.domains.savings.groups import OrderKind, SavingsGroup
    from tallystick.domains.savings.ordering import commitment
    from tallystick.money import usd

    story = Circles()
    seed = secrets.token_bytes(32)
    async with tally.session(slug, actor="demo", permissions=["*"]) as db:
        people = await _people(db)
        group = await db.circles.create(
            SavingsGroup(
                name="Friday circle",
                asset="USD",
                contribution_amount=usd("100").units,
                frequency_days=7,
                max_members=len(people),
                order_kind=OrderKind.RANDOM,
                seed_hash=commitment(seed),
                collateral_required=usd("150").units,
            ),
            key="found",
        )
        for person in people:
            await db.circles.join(group.id, person, key=f"join {person.id}")
        await db.circles.ready(group.id)
        await db.circles.draw(group.id, seed)
        begun = db.today() - _WEEK * 8
        group = await db.circles.start(group.id, on=begun, key="start")
        names = {m.id: m.user.value.first_name or "" for m in (await db.circles.circle(group.id)).members}
        users = {m.user.id: m.id for m in await db.circles.members(group.id)}
        first = (await db.circles.circle(group.id)).rounds[0].recipient
        assert first is not None
        stopped = next(p for p in people if users[p.id] == first.id)
        for n in range(len(people)):
            day = begun + _WEEK * n
            await _round(tally, db, story, group, people, stopped, n, day, names)
        await _end(db, story, group, stopped, names[first.id])
    return story


async def _people(db: Session) -> list[User]:
    from tallystick.domains.identity.users import User, UserStatus

    return await db.users.add_many([User(first_name=name, status=UserStatus.ACTIVE) for name in _NAMES])


async def _round(  # noqa: PLR0917
    tally: Tallystick,
    db: Session,
    story: Circles,
    group: SavingsGroup,
    people: list[User],
    stopped: User,
    n: int,
    day: date,
    names: dict[Any, str],
) -> None:
    paying = [p for p in people if not n or p.id != stopped.id]
    for person in paying:
        await db.circles.contribute(group.id, person, on=day, key=f"pay {n} {person.id}")
    told = f"all {len(paying)} pay"
    if n == 1:
        day += _WEEK + timedelta(days=1)
        await db.circles.default(group.id, stopped, on=day, key="default")
        told = f"4 pay; {stopped.first_name}, who has the first pot, does not: collateral does"
    elif n:
        told = "4 pay, and collateral what is left of it" if n == 2 else "4 pay; the pot is short by what is claimed"

    async def ask(worker: int) -> Payout | None:
        from tallystick.errors import Conflict

        async with tally.session(group.tenant_id, actor=f"worker {worker}", permissions=["circles.manage"]) as own:
            try:
                return await own.circles.pay_out(group.id, on=day, key=f"{n} of {worker}")
            except Conflict:
                return None

    paid = [p for p in await asyncio.gather(*(ask(w) for w in range(WORKERS))) if p is not None]
    story.asked += WORKERS
    story.payouts += len(paid)
    story.received += [names[p.member.id] for p in paid]
    turn = Turn(round=n + 1, who=names[paid[0].member.id], what=told, paid=group.money(paid[0].amount))
    story.turns.append(turn)
    await db.circles.advance(group.id, on=day, key=f"advance {n}")


async def _end(db: Session, story: Circles, group: SavingsGroup, stopped: User, name: str) -> None:
    from tallystick.errors import Conflict

    story.claim = (await db.circles.circle(group.id)).owed
    count = 0
    while True:
        try:
            await db.circles.contribute(group.id, stopped, key=f"late {count}")
        except Conflict:
            break
        count += 1
    what = f"after the end, {name} pays {count} late contributions: each goes to who received short"
    story.turns.append(Turn(round=0, who="", what=what))
    found = await db.circles.circle(group.id)
    story.left = found.held
    story.balanced = (await db.ledger.trial_balance()).balanced and not found.owed.units


def document(story: Circles) -> dict[str, Any]:
    """The story for programs."""
    return {
        "turns": [
            {"round": t.round, "who": t.who, "what": t.what, "paid": None if t.paid is None else str(t.paid)}
            for t in story.turns
        ],
        "asked": story.asked,
        "payouts": story.payouts,
        "claim": str(story.claim),
        "left": str(story.left),
        "balanced": story.balanced,
        "held": story.held,
    }


def show(out: Output, story: Circles) -> None:
    """The story for people."""
    rows = [(str(t.round or ""), t.who, t.what, str(t.paid or "")) for t in story.turns]
    columns = ("round", "receives", "what happened", "pot")
    out.table(columns, rows, right=("round", "pot"), flexible=("what happened",))
    told = f"Each pot was asked for by {WORKERS} workers at once: {story.asked} asked, {story.payouts} paid; "
    told += f"{story.claim} were claimed, and {story.left} are left in the pot."
    out.line(told, "bold green" if story.held else "bold red")
