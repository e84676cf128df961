"""``Session``: one tenant, one actor, at most one open transaction; hands repositories out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import date, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from tallystick.clock import business_date
from tallystick.domains.identity.permissions import Permissions
from tallystick.entity import Entity
from tallystick.privacy.sealer import Sealer
from tallystick.repositories import Repositories
from tallystick.repository import Repository
from tallystick.transaction import CLOSED, Transaction, run_atomic
from tallystick.values import rows_into

if TYPE_CHECKING:
    from tallystick.actors import Who
    from tallystick.app import Tallystick
    from tallystick.domains.identity.tenants import Tenant, TenantInfo
    from tallystick.plan import QueryPlan
    from tallystick.stores.base import Isolation, Store, Unit

R = TypeVar("R")


class Session(Repositories):
    """What an application works through: everything it reads and writes is this tenant's, by this actor.

    A session is cheap and belongs to one task: one per request or job. Outside ``transaction()`` each call commits.
    """

    __slots__ = ("_app", "_permissions", "_repositories", "actor", "sealer", "tenant", "tenant_id", "unit")

    def __init__(
        self,
        app: Tallystick,
        tenant: TenantInfo,
        who: Who,
        permissions: Iterable[str] | None,
        within: Store | None = None,
    ) -> None:
        self._app = app
        self.tenant = tenant
        self.tenant_id: UUID = tenant.id
        self.actor = who.actor
        self.unit: Unit = app.unit(tenant.id, who, within)
        self.sealer = Sealer(app.keyring, self.unit)
        self._permissions = Permissions(self, permissions)
        self._repositories: dict[type[Entity], Repository[Any]] = {}

    # -- transactions ------------------------------------------------------------------------------------------

    def transaction(self, isolation: Isolation | None = None, *, read_only: bool = False) -> Transaction:
        """A block that commits or rolls back as one and never runs twice; nested, a savepoint.

        ``isolation`` is "read committed" (PostgreSQL's default), "repeatable read" or "serializable". Raises
        ``CommitUnknown`` when the connection is lost while committing.
        """
        return Transaction(self.unit, isolation, read_only=read_only)

    async def atomic(
        self, fn: Callable[[Session], Awaitable[R]], *, attempts: int = 5, isolation: Isolation | None = None
    ) -> R:
        """Run ``fn(db)`` in a transaction and replay it when it lost a race that the server proved rolled back.

        ``fn`` may run several times, so it must do nothing but database work. A ``CommitUnknown`` is never
        replayed. Raises ``Serialization`` when all attempts lost.
        """
        return await run_atomic(self, fn, attempts, isolation)

    async def require(self, permission: str) -> None:
        """Raise ``RoleMissing`` unless this session's actor holds the permission (say, "applications.decide")."""
        await self._permissions.require(permission)

    async def tenant_record(self) -> Tenant:
        """The tenant's own record: settings, flags, plan, limits."""
        return await self._app.tenants.record(self)

    async def consume(self, metric: str, amount: int = 1, *, period: date | None = None) -> int:
        """Count towards a quota of the tenant, race-free; answers what is used now. Raises ``QuotaExceeded``."""
        return await self._app.tenants.consume(self, metric, amount, period)

    def has(self, domain: str) -> bool:
        """Whether the application has a built-in domain ("lending", "community", ...)."""
        return domain in self._app.domains

    def now(self) -> datetime:
        """The present moment, UTC, by the application's clock."""
        return self._app.clock.now()

    def today(self) -> date:
        """The tenant's business date: its time zone and cut-off decide when the day turns."""
        return business_date(self.now(), self.tenant.time_zone, self.tenant.cut_off)

    async def fetch(self, statement: Any, *, into: type[R]) -> list[R]:
        """Run a SELECT of your own (SQLAlchemy Core) inside the tenant's wall; rows become ``into``.

        The tenant's predicate is added to every tenant table of the statement. ``into`` is a msgspec Struct,
        dataclass, TypedDict, or ``dict``. Raises ``Unsupported`` for anything but a SELECT, and for raw text.
        """
        return rows_into(await self.unit.fetch(statement), into)

    async def explain(self, statement: Any, *, analyze: bool = False) -> QueryPlan:
        """How the database would read a SELECT of your own; see ``Repository.explain``. Raises like ``fetch``."""
        from tallystick.plan import read

        return read(*await self.unit.explain(None, statement, analyze=analyze))

    async def close(self) -> None:
        """End the session; an open transaction is rolled back, one that was joined stays the application's."""
        unit, self.unit = self.unit, CLOSED
        while unit.depth > unit.outer:
            await unit.rollback()


class SessionContext:
    """``async with tally.session(...) as db``."""

    __slots__ = ("_app", "_closed_too", "_connection", "_db", "_permissions", "_tenant", "_who")

    def __init__(
        self,
        app: Tallystick,
        tenant: Any,
        who: Who,
        permissions: Iterable[str] | None,
        connection: Any = None,
        *,
        closed_too: bool = False,
    ) -> None:
        self._app = app
        self._tenant = tenant
        self._who = who
        self._permissions = permissions
        self._connection = connection
        self._closed_too = closed_too
        self._db: Session | None = None

    async def __aenter__(self) -> Session:
        app = self._app
        find = app.tenants.find if self._closed_too else app.tenants.resolve
        info = app.tenants.known(self._tenant) or await find(self._tenant)
        within = None if self._connection is None else await app.joined(self._connection)
        self._db = Session(app, info, self._who, self._permissions, within)
        return self._db

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._db is not None:
            await self._db.close()
