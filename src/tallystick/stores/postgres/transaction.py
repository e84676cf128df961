"""The transaction of a unit on PostgreSQL: how it begins, nests, and ends, and whose it is.

It stands apart from the unit's statements because each of its ways to end leaves the link either surely clean or
closed, which is judged here alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.errors import CommitUnknown, Conflict, Invalid, TallystickError
from tallystick.stores.base import Isolation
from tallystick.stores.postgres.errors import FAILURES, commit_outcome_unknown, translate
from tallystick.stores.postgres.link import Link

if TYPE_CHECKING:
    from tallystick.stores.postgres.store import PostgresStore

STATEMENT_FAILURES = (*FAILURES, ValueError, OverflowError, TypeError, EOFError)
_ISOLATIONS = {
    None: "",
    "read committed": " ISOLATION LEVEL READ COMMITTED",
    "repeatable read": " ISOLATION LEVEL REPEATABLE READ",
    "serializable": " ISOLATION LEVEL SERIALIZABLE",
}


class PostgresTransaction:
    """At most one open transaction of a tenant and actor, on a link that is theirs until it ends."""

    __slots__ = (
        "_depth",
        "_link",
        "_owner",
        "_store",
        "_tag",
        "actor",
        "reason",
        "request",
        "tenant",
    )
    outer = 0
    mark = "s"  # what savepoints are called, before their number

    def __init__(
        self, store: PostgresStore, tenant: UUID, actor: str, reason: str | None = None, request: str | None = None
    ) -> None:
        self._store = store
        self.tenant = tenant
        self.actor = actor
        self.reason = reason
        self.request = request
        self._tag = store.tenant_setting(tenant)
        self._link: Link | None = None
        self._depth = 0
        self._owner: asyncio.Task[Any] | None = None

    @property
    def depth(self) -> int:
        """0 outside a transaction, 1 inside, more inside savepoints."""
        return self._depth

    def _mine(self) -> None:
        owner = self._owner
        if owner is not asyncio.current_task() and owner is not None and not owner.done():
            raise _elsewhere()

    async def begin(self, isolation: Isolation | None, *, read_only: bool) -> None:
        """Open a transaction with tenant and actor in the same message, or a savepoint inside one."""
        if self._link is not None:
            if isolation is not None or read_only:
                raise Invalid(
                    "A nested transaction is a savepoint and cannot change isolation or access mode.",
                    remedy="Give isolation and read_only to the outermost db.transaction().",
                )
            await self._script(f"SAVEPOINT {self.mark}{self._depth}")
            self._depth += 1
            return
        if isolation not in _ISOLATIONS:
            raise Invalid(
                "The isolation level is unknown.", remedy="One of: read committed, repeatable read, serializable."
            )
        if self._owner is not None:
            raise _elsewhere()
        # The session is taken from here on: two tasks that begin at once must not both believe they did.
        self._owner = asyncio.current_task()
        store, pool = self._store, self._store.pool
        problem: Exception
        try:
            if store.signed and store.affine:
                link = pool.take(self._tag) or await pool.acquire(self._tag)
            else:
                link = pool.take_any() or await pool.acquire(None)
            try:
                words = {"actor": self.actor, "reason": self.reason, "request": self.request}
                await self._store.open_transaction(
                    link,
                    self._tag,
                    {name: word for name, word in words.items() if word is not None},
                    _ISOLATIONS[isolation] + (" READ ONLY" if read_only else ""),
                )
            except BaseException:
                link.broken = True
                pool.release(link)
                raise
            self._link, self._depth = link, 1
            return
        except STATEMENT_FAILURES as caught:
            problem = caught
        finally:
            if self._link is None:
                self._owner = None
        raise translate(problem)

    async def commit(self) -> None:
        """Commit, or release the savepoint."""
        if self._depth > 1:
            # The level is over whatever happens now, or the outermost block would end one level too early and leave
            # its transaction open: what the session writes next would be lost with it.
            self._depth -= 1
            try:
                await self._script(f"RELEASE SAVEPOINT {self.mark}{self._depth}")
            except TallystickError:
                await self._script(f"ROLLBACK TO SAVEPOINT {self.mark}{self._depth}")
                raise
            return
        link = self._leave()
        failure: TallystickError
        try:
            tag = await link.script("COMMIT")
        except STATEMENT_FAILURES as problem:
            failure = self._uncommitted(problem, link)
        except BaseException:
            link.broken = True
            raise
        else:
            if tag == "COMMIT":
                return
            failure = Conflict(
                "The transaction had failed already and was rolled back.",
                remedy="Let errors leave the transaction, or catch them around a nested db.transaction().",
            )
        finally:
            self._store.pool.release(link)
        raise failure

    def _uncommitted(self, problem: Exception, link: Link) -> TallystickError:
        if not commit_outcome_unknown(problem):
            return translate(problem)
        link.broken = True
        return CommitUnknown("The connection was lost while committing; the transaction may or may not stand.")

    async def rollback(self) -> None:
        """Undo the transaction, or back to the savepoint; a link that is gone has rolled back too."""
        link = self._link
        if link is None:
            return
        if self._depth > 1:
            self._depth -= 1
            if not link.broken:
                await self._script(f"ROLLBACK TO SAVEPOINT {self.mark}{self._depth}")
            return
        self._leave()
        try:
            if not link.broken:
                await link.script("ROLLBACK")
        except STATEMENT_FAILURES:
            link.broken = True
        except BaseException:
            link.broken = True
            raise
        finally:
            self._store.pool.release(link)

    def _leave(self) -> Link:
        link = self._link
        if link is None:
            raise Invalid("No transaction is open.", remedy="Use async with db.transaction().")
        self._link, self._depth, self._owner = None, 0, None
        return link

    async def _script(self, sql: str) -> None:
        assert self._link is not None
        self._mine()
        problem: Exception
        try:
            await self._link.script(sql)
        except STATEMENT_FAILURES as caught:
            problem = caught
        else:
            return
        raise translate(problem)


def _elsewhere() -> Invalid:
    return Invalid(
        "Another task has a transaction open on this session.",
        remedy="Open a session per task; a session is cheap.",
    )
