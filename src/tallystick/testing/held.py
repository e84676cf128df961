"""The one connection of a sandbox: whose turn it is, which savepoints are open, and what its settings name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from tallystick.errors import Unavailable, Unsupported
from tallystick.stores.postgres.link import Link

PATIENCE = 20.0
Words = Mapping[str, str]
_CHECK = "SET CONSTRAINTS ALL IMMEDIATE"


@dataclass(frozen=True, slots=True)
class _Open:
    mark: str
    task: asyncio.Task[Any] | None

    def mine(self) -> bool:
        return self.task is None or self.task is asyncio.current_task() or self.task.done()


class Held:
    """A connection inside its outer transaction.

    Transactions of one task nest as savepoints. Other tasks wait until they are over, as they would wait for a pool of
    one; that is what makes a sandbox safe to use from ``asyncio.gather``.
    """

    def __init__(self, link: Link, deferred: str) -> None:
        self.link = link
        self._recheck = f"{_CHECK}; SET CONSTRAINTS {deferred} DEFERRED" if deferred else _CHECK
        self._lock = asyncio.Lock()
        self._freed = asyncio.Event()
        self._open: list[_Open] = []
        self._doubtful: list[str] = []
        self._settings: tuple[str | None, Words | None] | None = None
        self._count = 0

    # -- turns -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self, mark: str | None = None) -> AsyncIterator[None]:
        """The connection for one statement: of the transaction ``mark``, which must be the innermost, or of none."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._wait()
        except TimeoutError:
            raise Unavailable(
                "The sandbox's connection did not come free: another task holds a transaction open on it.",
                remedy="End the transaction before awaiting that task, or use the committing `tally` fixture.",
            ) from None
        try:
            await self._settle()
            if mark is not None and (not self._open or self._open[-1].mark != mark):
                raise Unsupported(
                    "Two transactions of a sandbox were interleaved.",
                    remedy="A sandbox has one connection, so transactions of several sessions must nest; use the "
                    "committing `tally` fixture or `race` for others.",
                )
            yield
        finally:
            self._lock.release()

    async def _wait(self) -> None:
        while True:
            await self._lock.acquire()
            if not self._open or self._open[-1].mine():
                return
            self._lock.release()
            self._freed.clear()
            await self._freed.wait()

    async def _settle(self) -> None:
        """Undo what was left in doubt by an error or a cancellation, innermost first."""
        while self._doubtful:
            mark = self._doubtful[0]
            cancelled = await self._say(f"ROLLBACK TO SAVEPOINT {mark}; RELEASE SAVEPOINT {mark}")
            self._settings = None
            self._doubtful.pop(0)
            if cancelled:
                raise asyncio.CancelledError

    async def _say(self, sql: str) -> bool:
        """A script that a cancellation cannot split; answers whether one came meanwhile.

        Cancelled on the server, a script between savepoints would end the outer transaction.
        """
        task, cancelled = asyncio.ensure_future(self.link.script(sql)), False
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                cancelled = True
        task.result()
        return cancelled

    async def _savepoint(self, mark: str, rest: str) -> None:
        if await self._say(f"SAVEPOINT {mark}{rest}"):
            self._doubtful.append(mark)
            raise asyncio.CancelledError

    def _mark(self) -> str:
        self._count += 1
        return f"kit{self._count}"

    # -- settings ----------------------------------------------------------------------------------------------

    def _dressing(self, tenant: str | None, words: Words | None) -> str:
        if tenant is None or self._settings == (tenant, words):
            return ""
        said = f"; SELECT set_config('tally.tenant', '{tenant}', true)"
        # A statement alone brings its actor; what the one before it said of reasons is over.
        for name in ("actor", "reason", "request") if words is not None else ("reason", "request"):
            told = (words or {}).get(name, "").encode().hex()
            said += f", set_config('tally.{name}', convert_from(decode('{told}', 'hex'), 'UTF8'), true)"
        return said

    async def dress(self, tenant: str | None, words: Words | None) -> None:
        """Make the settings name this tenant, actor, reason and request, if they do not."""
        said = self._dressing(tenant, words)
        if said:
            self._settings = None
            await self.link.script(said.removeprefix("; "))
            self._settings = (tenant, words)

    def forget_settings(self) -> None:
        """A rollback has taken the settings back to nobody knows what."""
        self._settings = None

    # -- statements and transactions -----------------------------------------------------------------------------

    @asynccontextmanager
    async def statement(self, tenant: str | None) -> AsyncIterator[None]:
        """A statement that would commit by itself: its failure undoes it and nothing else."""
        async with self.turn():
            mark = self._mark()
            await self._savepoint(mark, self._dressing(tenant, None))
            if tenant is not None:
                self._settings = (tenant, None)
            try:
                yield
                checked = "" if self._open else f"{self._recheck}; "
                cancelled = await self._say(f"{checked}RELEASE SAVEPOINT {mark}")
            except BaseException:
                self._doubtful.append(mark)
                raise
            if cancelled:
                raise asyncio.CancelledError

    async def begin(self, tenant: str | None, words: Words | None, *, read_only: bool) -> str:
        """Open a transaction; answers its savepoint."""
        async with self.turn():
            mark = self._mark()
            # A savepoint gives the access mode back when it is released.
            mode = "; SET LOCAL transaction_read_only = on" if read_only else ""
            await self._savepoint(mark, mode + self._dressing(tenant, words))
            self._open.append(_Open(mark, asyncio.current_task()))
            if tenant is not None:
                self._settings = (tenant, words)
            return mark

    async def commit(self, mark: str) -> str:
        """Release a transaction, checking what a commit would; answers the tag a commit would have."""
        try:
            async with self.turn(mark):
                checked = f"{self._recheck}; " if len(self._open) == 1 else ""
                cancelled = await self._say(f"{checked}RELEASE SAVEPOINT {mark}")
                # What the transaction set for itself outlives a savepoint.
                self._settings = None
                self._close(mark)
            if cancelled:
                raise asyncio.CancelledError
            return "COMMIT"
        except asyncpg.InFailedSQLTransactionError:
            self.abandon(mark)
            return "ROLLBACK"
        except BaseException:
            self.abandon(mark)
            raise

    async def rollback(self, mark: str) -> str:
        """Undo a transaction, and those opened inside it that nobody ended."""
        self.abandon(mark)
        async with self.turn():
            return "ROLLBACK"

    def abandon(self, mark: str) -> None:
        """Undo a transaction before the next statement."""
        if any(one.mark == mark for one in self._open):
            self._close(mark)
            self._doubtful.append(mark)

    def _close(self, mark: str) -> None:
        while self._open and self._open.pop().mark != mark:
            pass
        self._freed.set()

    async def check(self) -> None:
        """Check every deferred constraint now, as a commit would."""
        if self._open:
            self.abandon(self._open[0].mark)
        async with self.turn():
            await self.link.script(_CHECK)
