"""A sandbox: everything a test does through it happens, and nothing of it stays.

One connection is held inside one outer transaction; whatever looks like a transaction to the code under test is a
savepoint. The parts above the store do not know: a sandbox is a whole ``Tallystick`` on a store of its own.

What it cannot show, because there is one connection and one outer transaction:

* the server's ``now()`` stands still, so leases do not run out and stamps of one test are equal;
* isolation levels are accepted and mean read committed; a second session sees what the first has not committed;
* locks never wait. Use ``race``, or the committing ``tally`` fixture, where that matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from tallystick.app import Tallystick
from tallystick.database import Database
from tallystick.errors import TallystickError, Unsupported
from tallystick.session import SessionContext
from tallystick.stores.postgres.errors import FAILURES, translate
from tallystick.stores.postgres.link import Link
from tallystick.stores.postgres.pool import Pool, PoolLimits, PoolStats
from tallystick.stores.postgres.store import PostgresStore
from tallystick.testing.held import Held, Words

if TYPE_CHECKING:
    from tallystick.domains.identity.tenants import TenantInfo

_BEGIN = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0"
# Constraints that a commit would check, by name: checking them early must not make them immediate from then on.
_DEFERRED = """
SELECT coalesce(string_agg(format('%I.%I', n.nspname, c.conname), ', '), '')
FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.connamespace
WHERE c.condeferred AND has_schema_privilege(n.oid, 'USAGE')
"""


class Sandbox:
    """``async with Sandbox(tally) as sandbox``: sessions whose every write is undone at the end.

    ``sandbox.tally`` is handed to code that wants a ``Tallystick``. Leaving checks the deferred constraints, so that
    what a commit would have refused fails the test, and then rolls back.
    """

    def __init__(self, tally: Tallystick) -> None:
        self._outer = tally
        self._held: Held | None = None
        self._tally: Tallystick | None = None

    @property
    def tally(self) -> Tallystick:
        """The application inside the sandbox: sessions, tenants and ``system()`` work and leave nothing."""
        if self._tally is None:
            raise Unsupported("The sandbox is not open.", remedy="Use `async with Sandbox(tally) as sandbox`.")
        return self._tally

    def session(
        self, tenant: str | UUID | TenantInfo, *, actor: str = "test", permissions: Iterable[str] | None = ("*",)
    ) -> SessionContext:
        """A session inside the sandbox; by default its actor may do everything."""
        return self.tally.session(tenant, actor=actor, permissions=permissions)

    async def __aenter__(self) -> Self:
        pool = self._outer.store.pool
        link = await pool.acquire(None)
        try:
            await link.script(_BEGIN)
            (names,) = await link.row(_DEFERRED, ())
            held = Held(link, names)
            self._tally = _Inside(self._outer, held)
        except BaseException:
            link.broken = True
            pool.release(link)
            raise
        self._held = held
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held, self._tally = self._held, None, None
        if held is None:
            return
        failure: TallystickError | None = None
        try:
            await held.check()
        except FAILURES as caught:
            failure = translate(caught)
        finally:
            await self._undo(held.link)
        if failure is not None:
            raise failure

    async def _undo(self, link: Link) -> None:
        try:
            if not link.raw.is_closed():
                await link.script("ROLLBACK")
        except FAILURES:
            link.broken = True
        finally:
            self._outer.store.pool.release(link)


class _Inside(Tallystick):
    """The application inside a sandbox: as the outer one, on the held connection."""

    def __init__(self, outer: Tallystick, held: Held) -> None:
        super().__init__(
            outer.settings,
            outer.domains,
            outer.entities,
            keys=outer.keys,
            clock=outer.clock,
            version_locations=(),
            verifier=outer.verifier,
            logins=outer.login_policy,
        )
        self._database = Database(outer.settings, _SandboxStore(outer, held), None, outer.keys)
        self._ready = True

    async def close(self) -> None:
        """Stay open: the sandbox ends when it is left."""

    async def migrate(self, **options: Any) -> Any:
        """Refuse: a migration commits."""
        raise Unsupported("A sandbox cannot be migrated.", remedy="Migrate through the `tally` fixture.")


class _SandboxStore(PostgresStore):
    def __init__(self, outer: Tallystick, held: Held) -> None:
        super().__init__("", outer.settings)
        self.pool = _SandboxPool(held)
        self._compilers = outer.store._compilers

    async def open_transaction(self, link: Link, tenant: str, words: Words, mode: str) -> None:
        assert isinstance(link, _SandboxLink)
        await link.open(tenant, words, read_only="READ ONLY" in mode)


class _SandboxPool(Pool):
    """Hands out views of the one connection, as many as are asked for."""

    def __init__(self, held: Held) -> None:
        super().__init__(_never, PoolLimits(size=1, timeout=1))
        self._held = held

    def take(self, tenant: str) -> Link | None:
        return _SandboxLink(self._held, tenant)

    def take_any(self) -> Link | None:
        return _SandboxLink(self._held, None)

    async def acquire(self, tenant: str | None) -> Link:
        return _SandboxLink(self._held, tenant)

    def release(self, link: Link) -> None:
        assert isinstance(link, _SandboxLink)
        link.leave()

    async def close(self) -> None:
        return None

    def stats(self) -> PoolStats:
        return PoolStats(open=1)


async def _never() -> Link:
    raise Unsupported("A sandbox opens no connections of its own.")


class _SandboxLink(Link):
    """A view of the held connection: a transaction is a savepoint, and a statement alone is one of its own."""

    __slots__ = ("_held", "_mark", "_tag", "_words")

    def __init__(self, held: Held, tenant: str | None) -> None:
        super().__init__(held.link.raw, named=held.link.named)
        self.tenant = tenant
        self._held = held
        self._tag = tenant
        self._words: Words | None = None
        self._mark: str | None = None

    async def rows(self, sql: str, args: Any) -> list[Any]:
        return await self._run(self._held.link.rows, sql, args)  # type: ignore[no-any-return]

    async def row(self, sql: str, args: Any) -> Any:
        return await self._run(self._held.link.row, sql, args)

    async def _run(self, method: Any, sql: str, args: Any) -> Any:
        held = self._held
        if self._mark is None:
            async with held.statement(self._tag):
                return await method(sql, args)
        async with held.turn(self._mark):
            await held.dress(self._tag, self._words)
            return await method(sql, args)

    async def open(self, tenant: str, words: Words, *, read_only: bool) -> None:
        """BEGIN: a savepoint with the tenant, the actor, the reason and the request."""
        self._tag, self._words = tenant, words
        self._mark = await self._held.begin(tenant, words, read_only=read_only)

    async def script(self, sql: str) -> str:
        mark, held = self._mark, self._held
        if mark is None and sql == "BEGIN":
            self._mark = await held.begin(None, None, read_only=False)
            return sql
        if mark is None:
            raise Unsupported("A sandbox runs no script of its own outside a transaction.")
        if sql == "COMMIT":
            self._mark = None
            return await held.commit(mark)
        if sql == "ROLLBACK":
            self._mark = None
            return await held.rollback(mark)
        async with held.turn(mark):
            if sql.startswith("ROLLBACK"):
                held.forget_settings()
            return await held.link.script(sql)

    async def warm(self, tenant: str) -> None:
        self._tag = self.tenant = tenant

    def leave(self) -> None:
        """Given back: a transaction that nobody ended is undone before the next statement."""
        mark, self._mark = self._mark, None
        if mark is not None:
            self._held.abandon(mark)

    @property
    def in_transaction(self) -> bool:
        return self._mark is not None

    def kill(self) -> None:
        self.broken = True
        self.leave()
