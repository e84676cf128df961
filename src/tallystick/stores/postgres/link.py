"""One connection: prepared statements, the tenant it carries, and whether it can still be trusted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import asyncpg

_STATEMENTS = 400
_STALE = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
_SET_TENANT = "SELECT set_config('tally.tenant', $1, false)"


class Link:
    """A server connection and the tenant its session setting names.

    ``tenant`` is what the server is known to hold: it is cleared before a change is sent and set after the server
    agreed, so doubt always reads as "none". ``broken`` marks a link whose state is uncertain (cancelled, timed
    out, lost); the pool closes such a link instead of handing it on.
    """

    __slots__ = ("_statements", "born", "broken", "named", "raw", "tenant", "used")

    def __init__(self, raw: Any, *, named: bool = True) -> None:
        self.raw = raw
        self.tenant: str | None = None
        self.broken = False
        self.named = named
        self.born = self.used = time.monotonic()
        self._statements: dict[str, Any] = {}

    async def rows(self, sql: str, args: Sequence[Any]) -> list[Any]:
        """Every row of a statement."""
        try:
            if not self.named:
                return cast("list[Any]", await self.raw.fetch(sql, *args))
            statement = self._statements.get(sql) or await self._prepare(sql)
            try:
                return cast("list[Any]", await statement.fetch(*args))
            except _STALE:
                return cast("list[Any]", await (await self._prepare_again(sql)).fetch(*args))
        except BaseException as problem:
            self.judge(problem)
            raise

    async def row(self, sql: str, args: Sequence[Any]) -> Any:
        """The first row of a statement, or None."""
        try:
            if not self.named:
                return await self.raw.fetchrow(sql, *args)
            statement = self._statements.get(sql) or await self._prepare(sql)
            try:
                return await statement.fetchrow(*args)
            except _STALE:
                return await (await self._prepare_again(sql)).fetchrow(*args)
        except BaseException as problem:
            self.judge(problem)
            raise

    async def script(self, sql: str) -> str:
        """One message of statements without parameters; answers the last command's tag."""
        try:
            return str(await self.raw.execute(sql))
        except BaseException as problem:
            self.judge(problem)
            raise

    async def warm(self, tenant: str) -> None:
        """Make the session setting name this tenant; never in a transaction, whose rollback would undo it unseen."""
        self.tenant = None
        await self.row(_SET_TENANT, (tenant,))
        self.tenant = tenant

    @property
    def in_transaction(self) -> bool:
        """Whether the server says a transaction is open."""
        return bool(self.raw.is_in_transaction())

    def kill(self) -> None:
        """Close without a goodbye: the socket goes now, and the server rolls back whatever was open."""
        self.broken = True
        self.raw.terminate()

    async def _prepare(self, sql: str) -> Any:
        statement = await self.raw.prepare(sql)
        if len(self._statements) >= _STATEMENTS:
            self._statements.pop(next(iter(self._statements)))
        self._statements[sql] = statement
        return statement

    async def _prepare_again(self, sql: str) -> Any:
        """A statement whose tables changed since it was prepared; called while that error is being handled."""
        self._statements.pop(sql, None)
        if self.raw.is_in_transaction():
            # Or each statement on the changed table would cost a replay of its own.
            self._statements.clear()
            raise  # noqa: PLE0704  the server has ended the transaction, so nothing can run again in it
        return await self._prepare(sql)

    def judge(self, problem: BaseException) -> None:
        """Mark the link broken unless the error is the server's verdict on a statement."""
        if isinstance(problem, asyncpg.PostgresError):
            state = str(getattr(problem, "sqlstate", None) or "")
            if state[:2] in ("08", "57") and state != "57014":
                self.broken = True
            elif state == "22P02" and "tally.tenant" in str(problem):
                # Somebody else has set the tenant of this session, or the database was hardened meanwhile.
                self.broken = True
        elif not isinstance(problem, asyncpg.InterfaceError) or self.raw.is_closed():
            self.broken = True
