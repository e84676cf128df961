"""Transactions of a session: a block that never runs twice, and a function that may."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tallystick.errors import Invalid, Serialization

if TYPE_CHECKING:
    from tallystick.session import Session
    from tallystick.stores.base import Isolation, Unit

R = TypeVar("R")
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0


class Transaction:
    """``async with db.transaction()``: commits at the end, rolls back when the block raises; nested, a savepoint."""

    __slots__ = ("_isolation", "_read_only", "_unit")

    def __init__(self, unit: Unit, isolation: Isolation | None, *, read_only: bool) -> None:
        self._unit = unit
        self._isolation: Isolation | None = isolation
        self._read_only = read_only

    async def __aenter__(self) -> None:
        await self._unit.begin(self._isolation, read_only=self._read_only)

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self._unit.commit() if kind is None else self._unit.rollback())


async def run_atomic(
    db: Session, fn: Callable[[Session], Awaitable[R]], attempts: int, isolation: Isolation | None
) -> R:
    """Run ``fn`` in a transaction, again when the server proved that it was rolled back for concurrency's sake.

    Inside an open transaction it runs once, in a savepoint: only the outermost level can be replayed, or isolated
    otherwise.
    """
    if attempts.__class__ is not int or attempts < 1:
        raise Invalid("attempts should be a whole number from 1.", field="attempts", remedy="Leave it out for five.")
    if db.unit.depth:
        async with Transaction(db.unit, isolation, read_only=False):
            return await fn(db)
    attempt = 1
    while True:
        try:
            async with Transaction(db.unit, isolation, read_only=False):
                result = await fn(db)
        except Serialization:
            if attempt >= attempts:
                raise
        else:
            return result
        ceiling = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
        await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311  jitter, not a secret
        attempt += 1


class _Closed:
    """Stands in for the unit of a session that has ended."""

    depth = outer = 0

    def __getattr__(self, name: str) -> Any:
        raise Invalid("The session is closed.", remedy="Work inside `async with tally.session(...)`.")


CLOSED: Any = _Closed()
"""What a session that has ended works with."""
