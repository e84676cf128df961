"""The application's own connection: finding asyncpg's in what was given, and running statements on it untouched.

Codecs and record classes that the application has set on its connection are its own affair; statements of the library
are encoded and decoded as on a connection of the library's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import asyncpg

from tallystick.errors import Invalid, Unsupported

_KINDS = (
    "Give an asyncpg connection inside `async with connection.transaction()`, or SQLAlchemy's AsyncConnection or "
    "AsyncSession on the asyncpg dialect."
)


class Transacting:
    """A connection of asyncpg with a transaction open on it that somebody else began."""

    __slots__ = ("_orm", "holds", "raw")

    def __init__(self, raw: asyncpg.Connection, orm: Any, holds: Callable[[], bool]) -> None:
        self.raw = raw
        self._orm = orm
        self.holds = holds

    @classmethod
    async def of(cls, connection: Any) -> Self:
        """The driver's connection behind what the application works with, its transaction begun.

        SQLAlchemy's own begin when they are first used, and being joined is a use; asyncpg's never do by themselves.
        Raises ``Invalid`` for a connection without a transaction, ``Unsupported`` for other drivers.
        """
        if type(connection).__name__ == "async_scoped_session":
            connection = connection()
        orm = connection if hasattr(connection, "sync_session") else None
        raw, holds = await _driver(connection)
        found = cls(raw, orm, holds)
        found.check()
        return found

    async def keep_up(self) -> None:
        """Have a savepoint that an ORM session promised sent before what comes now, which it is to undo.

        ``begin_nested()`` sends nothing; the session's next statement does, and ours are none of those.
        """
        orm = self._orm
        if orm is not None and orm.in_nested_transaction():
            await _behind_sqlalchemy(orm)

    def check(self) -> None:
        """Raise ``Invalid`` unless a transaction is open, and the one that was joined as far as a look at it tells."""
        raw = self.raw
        if not self.holds():
            # Nothing is sent: a pool may have handed the connection on, and somebody else be at work on it.
            raise over()
        if raw.is_closed():
            raise Invalid("The joined connection is closed.", field="connection", remedy=_KINDS)
        if not raw.is_in_transaction():
            raise Invalid("No transaction is open on the connection to join.", field="connection", remedy=_KINDS)

    async def execute(self, sql: str, args: Sequence[Any]) -> Any:
        """The one row of a statement that has one."""
        (row,) = await self.rows(sql, args)
        return row

    async def rows(self, sql: str, args: Sequence[Any], *, most: int = 0) -> list[Any]:
        """Rows of a statement, at ``most`` so many (0: all), whatever codecs the connection has been given."""
        return await self.raw._execute(  # type: ignore[no-any-return]
            sql, args, most, None, ignore_custom_codec=True, record_class=asyncpg.Record
        )


def over() -> Invalid:
    """What a session is told that outlived the transaction it joined."""
    return Invalid(
        "The transaction that this session joined is over; what its connection does now is somebody else's.",
        field="connection",
        remedy="End the session before the transaction; open another for the next one.",
    )


async def _driver(connection: Any) -> tuple[asyncpg.Connection, Callable[[], bool]]:
    """The driver's connection, and whether it still is in the hands of who gave it: a pool hands it on."""
    raw: Any = connection
    holds = _always
    module = type(connection).__module__
    if module.startswith("sqlalchemy.") or hasattr(connection, "sync_session") or hasattr(connection, "sync_engine"):
        lent = await _behind_sqlalchemy(connection)
        if lent is not None:
            raw, holds = lent.driver_connection, lambda: bool(lent.is_valid)
    elif hasattr(raw, "_con"):
        # What asyncpg's pool hands out stands in for a connection, until it is given back.
        raw = raw._con
        holds = lambda: connection._con is raw  # noqa: E731
    if not isinstance(raw, asyncpg.Connection):
        raise Unsupported("A session cannot join this kind of connection.", remedy=_KINDS)
    return raw, holds


def _always() -> bool:
    return True


async def _behind_sqlalchemy(given: Any) -> Any:
    """What SQLAlchemy's pool has lent to a session or connection of its asyncio's; None for anything else."""
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    problem = ""
    try:
        if isinstance(given, AsyncSession):
            given = await given.connection()
        if isinstance(given, AsyncConnection) and not given.closed:
            lent = await given.get_raw_connection()
            raw = lent.driver_connection
            if isinstance(raw, asyncpg.Connection) and not raw.is_in_transaction():
                # The driver's BEGIN is sent with the first statement, not by begin().
                await given.exec_driver_sql("SELECT 1")
            return lent
    except SQLAlchemyError as caught:
        problem = type(caught).__name__
    if problem:
        raise Invalid(f"SQLAlchemy has no transaction to join ({problem}).", field="connection", remedy=_KINDS)
    return None
