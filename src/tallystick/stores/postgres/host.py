"""The application's own connection: finding asyncpg's in what was given, and running statements on it untouched.

Codecs and record classes that the application has set on its connection are its own affair; statements of the library
are encoded and decoded as on a connection of the library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import asyncpg

from tallystick.errors import Invalid, Unsupported

_KINDS = (
    "Give an asyncpg connection inside `async with connection.transaction()`, or SQLAlchemy's AsyncConnection or "
    "AsyncSession on the asyncpg dialect."
)


class Transacting:
    """A connection of asyncpg with a transaction open on it that somebody else began."""

    __slots__ = ("_orm", "raw")

    def __init__(self, raw: asyncpg.Connection, orm: Any = None) -> None:
        self.raw = raw
        self._orm = orm

    @classmethod
    async def of(cls, connection: Any) -> Self:
        """The driver's connection behind what the application works with, its transaction begun.

        SQLAlchemy's own begin when they are first used, and being joined is a use; asyncpg's never do by themselves.
        Raises ``Invalid`` for a connection without a transaction, ``Unsupported`` for other drivers.
        """
        if type(connection).__name__ == "async_scoped_session":
            connection = connection()
        orm = connection if hasattr(connection, "sync_session") else None
        found = cls(await _driver(connection), orm)
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
        """Raise ``Invalid`` unless a transaction is open."""
        raw = self.raw
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


async def _driver(connection: Any) -> asyncpg.Connection:
    raw: Any = connection
    module = type(connection).__module__
    if module.startswith("sqlalchemy.") or hasattr(connection, "sync_session") or hasattr(connection, "sync_engine"):
        raw = await _behind_sqlalchemy(connection)
    # What asyncpg's pool hands out stands in for a connection, until it is given back.
    raw = getattr(raw, "_con", raw)
    if not isinstance(raw, asyncpg.Connection):
        raise Unsupported("A session cannot join this kind of connection.", remedy=_KINDS)
    return raw


async def _behind_sqlalchemy(given: Any) -> Any:
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    problem = ""
    try:
        if isinstance(given, AsyncSession):
            given = await given.connection()
        if isinstance(given, AsyncConnection) and not given.closed:
            raw = (await given.get_raw_connection()).driver_connection
            if isinstance(raw, asyncpg.Connection) and not raw.is_in_transaction():
                # The driver's BEGIN is sent with the first statement, not by begin().
                await given.exec_driver_sql("SELECT 1")
            return raw
    except SQLAlchemyError as caught:
        problem = type(caught).__name__
    if problem:
        raise Invalid(f"SQLAlchemy has no transaction to join ({problem}).", field="connection", remedy=_KINDS)
    return given
