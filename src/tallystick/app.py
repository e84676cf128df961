"""``Tallystick``: open, close, sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from tallystick.actors import checked_who
from tallystick.clock import Clock, SystemClock
from tallystick.database import Database
from tallystick.domains.catalog import chosen, entities_of
from tallystick.domains.identity.login_policy import LoginPolicy
from tallystick.domains.identity.tenants import TenantInfo, Tenants
from tallystick.entity import Entity, spec_of
from tallystick.errors import Declaration, Invalid, NotMigrated, NotProvisioned, Unavailable
from tallystick.extension import extensions, living
from tallystick.privacy.keys import KeyProvider
from tallystick.session import Session, SessionContext
from tallystick.settings import Settings

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.actors import Who
    from tallystick.audit.log import AuditLog
    from tallystick.domains.outbox.workers import OutboxWorkers
    from tallystick.domains.proofs.verifier import Verifier
    from tallystick.privacy.keyring import Keyring
    from tallystick.schema.budget import Budget
    from tallystick.schema.migrate import MigrationReport
    from tallystick.spec import EntitySpec
    from tallystick.stores.base import Store, Unit
    from tallystick.stores.embedded.server import EmbeddedServer
    from tallystick.stores.postgres.meter import Metrics
    from tallystick.stores.postgres.seeing import OnStatement
    from tallystick.stores.postgres.store import PostgresStore

SYSTEM_ACTOR = "system"


class Tallystick:
    """An application's hold on its database: one per process and event loop.

    Make it with ``Tallystick.open(...)`` and enter it. Without a database URL (argument, ``DATABASE_URL`` and its
    relatives) it runs on an embedded PostgreSQL in ``TALLYSTICK_DATA_DIR`` or ``.tallystick/``.
    """

    def __init__(
        self,
        settings: Settings,
        domains: tuple[str, ...],
        entities: tuple[type[Entity], ...],
        *,
        keys: KeyProvider | None,
        clock: Clock,
        version_locations: Sequence[str | Path],
        verifier: Verifier | None = None,
        logins: LoginPolicy | None = None,
        on_statement: OnStatement | None = None,
    ) -> None:
        self.settings = settings
        self.verifier = verifier
        self.login_policy = (logins or LoginPolicy()).checked()
        self.domains = domains
        self.entities = tuple(e for e in entities if e not in extensions(entities))
        self.clock = clock
        self.keys = keys
        self._on_statement = on_statement
        self.tenants = Tenants(self)
        self.extensions = extensions(entities)
        self._known = set(living((*entities_of(domains), *entities)))
        self._version_locations = tuple(version_locations)
        self._database: Database | None = None
        self._audit: AuditLog | None = None
        self._keyring: Keyring | None = None
        self._admin_url: str | None = settings.admin_url
        self._ready = False
        self._getting_ready = asyncio.Lock()
        _refuse_twins(self._known)
        self._watched = frozenset(s.table for s in map(spec_of, self._known) if s.audit_reads)

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        domains: Iterable[str] | None = None,
        entities: Iterable[type[Entity]] = (),
        settings: Settings | None = None,
        keys: KeyProvider | None = None,
        clock: Clock | None = None,
        version_locations: Sequence[str | Path] = (),
        verifier: Verifier | None = None,
        logins: LoginPolicy | None = None,
        on_statement: OnStatement | None = None,
    ) -> Self:
        """Describe an application; nothing is touched until it is entered.

        ``domains`` chooses the built-in domains (all by default), ``entities`` are your own. ``keys`` is the key
        provider of sealed fields; without it ``TALLYSTICK_KEY_FILE`` is used, and on the embedded server a
        development key. ``version_locations`` are folders with Alembic revisions of your own entities.
        ``verifier`` judges proofs; without one ``db.proofs.verify`` answers ``Unavailable``. ``logins`` are the rules
        of ``db.logins``, what a password's hash costs first of all. ``on_statement`` is called with a ``StatementRun``
        after every statement, on the event loop: for tracing, so it should be quick; what it raises is logged.
        """
        found = settings if settings is not None else Settings.load()
        if url is not None:
            found = Settings.load({}, **{**asdict(found), "database_url": url})
        return cls(
            found,
            chosen(domains),
            _classes(entities),
            keys=keys,
            clock=clock or SystemClock(),
            version_locations=version_locations,
            verifier=verifier,
            logins=logins,
            on_statement=on_statement,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the embedded server when it is the one to use, and check who we are on any other.

        Raises ``Unavailable``, ``NotProvisioned``, and ``Denied`` for a role that the tenant wall would not hold or a
        hardened database without its key, ``Invalid`` for a tenant key on a database that is not hardened.
        """
        if self._database is not None:
            return
        self._database = database = await Database.open(self.settings, self.keys, self._on_statement)
        self.keys = database.keys
        try:
            if self.settings.test_connection:
                await database.greet()
            if self.settings.auto_migrate:
                await self.migrate()
        except BaseException as problem:
            if isinstance(problem, NotProvisioned) and self._admin_url is not None:
                return
            await self.close()
            raise

    async def close(self) -> None:
        """Close every connection; the embedded server stops when its last user leaves."""
        audit, self._audit = self._audit, None
        if audit is not None:
            await audit.close()
        database, self._database, self._ready = self._database, None, False
        if database is not None:
            await database.close()

    async def migrate(self, **options: Any) -> MigrationReport:
        """Bring the schema to what this code and its entities need, as the admin role.

        On the embedded server it provisions first. Raises ``MigrationUnsafe`` with the corrected migration when a
        step would block or lose something, ``NotProvisioned`` without ``TALLYSTICK_ADMIN_URL``.
        """
        from tallystick.schema.migrate import migrate

        report = await migrate(
            self.admin_url,
            domains=self.domains,
            entities=self.entities,
            roles=self.settings.roles,
            engine=self.settings.engine,
            version_locations=self._version_locations,
            views=self.specs,
            **options,
        )
        self._ready = False
        return report

    async def ready(self) -> None:
        """Check once that the schema is at what this code needs. Raises ``NotMigrated``."""
        if self._ready:
            return
        async with self._getting_ready:
            if self._ready:
                return
            await self._opened.guard()
            await self._check_migrated()
            self._ready = True

    async def _check_migrated(self) -> None:
        from tallystick.schema.migrate import check_migrated

        await self.store.ask(
            lambda link: check_migrated(
                link.raw, self.domains, entities=self.entities, version_locations=self._version_locations
            )
        )

    async def metrics(self) -> Metrics:
        """How this process uses its database: connections, times and errors of statements, whether it is migrated.

        ``metrics().text()`` is what Prometheus reads. Asks the server for its revisions; raises ``Unavailable``.
        """
        return await self._opened.metrics(self._is_migrated)

    async def _is_migrated(self) -> bool:
        try:
            await self._check_migrated()
        except NotMigrated:
            return False
        return True

    async def connections(self) -> Budget:
        """How what the worker processes may open together fits in what the server has now. Raises ``Unavailable``."""
        return await self.store.budget()

    # -- sessions ----------------------------------------------------------------------------------------------

    def session(
        self,
        tenant: str | UUID | TenantInfo,
        *,
        actor: str,
        permissions: Iterable[str] | None = None,
        reason: str | None = None,
        request_id: str | None = None,
        connection: Any = None,
    ) -> SessionContext:
        """A session for one tenant (slug, id or info) and one actor: ``async with tally.session(...) as db``.

        ``actor`` is free text that every write records ("user:<id>", "job:nightly"). ``permissions`` are what it
        may do; by default those of the user account that "user:<id>" names. ``reason`` (why, up to 500 characters)
        and ``request_id`` go into the audit log with every change. ``connection`` is asyncpg's or SQLAlchemy's with
        a transaction of the application's own open on it, which the session then joins (docs/joining.md); whether
        that commits is the application's affair. Raises ``NotFound`` for an unknown tenant, ``Denied`` for an
        inactive one, ``NotMigrated``; of a connection, ``Invalid``, ``NotProvisioned`` and ``Unsupported``.
        """
        return SessionContext(self, tenant, checked_who(actor, reason, request_id), permissions, connection)

    async def system(
        self, *, actor: str = SYSTEM_ACTOR, reason: str | None = None, request_id: str | None = None
    ) -> AsyncIterator[Session]:
        """One session after another, for every active tenant: ``async for db in tally.system(): ...``.

        There is no session that sees several tenants; work across them is a loop.
        """
        who = checked_who(actor, reason, request_id)
        async for id, _, active in self.tenants.all():
            if active:
                async with SessionContext(self, id, who, ("*",)) as db:
                    yield db

    def _upkeep(self, tenant: str | UUID, *, actor: str, reason: str, permissions: Iterable[str]) -> SessionContext:
        """A session of the library's own, for what is owed to persons and keys when their tenant is closed too."""
        return SessionContext(self, tenant, checked_who(actor, reason), permissions, closed_too=True)

    async def joined(self, connection: Any) -> Store:
        """The store in a transaction that is open on a connection of the application's own."""
        return await self._opened.joined(connection)

    def unit(self, tenant: UUID, who: Who, within: Store | None = None) -> Unit:
        """A hand on the store for one session; it writes reads down where an entity asks for that."""
        store = within or self.store

        def fresh() -> Unit:
            return store.unit(tenant, who.actor, who.reason, who.request_id)

        if not self._watched:
            return fresh()
        from tallystick.audit.reads import ReadingUnit

        return cast("Unit", ReadingUnit(fresh(), fresh, self._watched))

    # -- parts -------------------------------------------------------------------------------------------------

    @property
    def store(self) -> PostgresStore:
        """The store; raises ``Unavailable`` before the application is entered."""
        return self._opened.store

    @property
    def _opened(self) -> Database:
        if self._database is None:
            raise Unavailable("Tallystick is not open.", remedy="Use `async with Tallystick.open(...) as tally`.")
        return self._database

    @property
    def keyring(self) -> Keyring | None:
        """The data keys at hand; None where no key provider is configured."""
        if self._keyring is None and self.keys is not None:
            from tallystick.privacy.keyring import Keyring

            self._keyring = Keyring(self.keys)
        return self._keyring

    @property
    def audit(self) -> AuditLog:
        """The audit logs of all tenants: ``seal()``, ``status()``, ``prove()``, ``export()``, by the sealing role."""
        if self._audit is None:
            from tallystick.audit.log import AuditLog

            self._audit = AuditLog(self)
        return self._audit

    @property
    def outbox(self) -> OutboxWorkers:
        """The outboxes of all tenants: ``run()`` hands their messages to handlers."""
        from tallystick.domains.outbox.workers import OutboxWorkers

        return OutboxWorkers(self)

    @property
    def server(self) -> EmbeddedServer | None:
        """The embedded server, when that is what runs."""
        return None if self._database is None else self._database.server

    @property
    def admin_url(self) -> str:
        """The URL that provisions and migrates. Raises ``NotProvisioned`` when none is configured."""
        server = self.server
        if server is not None:
            return server.url("admin")
        if self._admin_url is None:
            raise NotProvisioned(
                "Migrating needs the admin role.",
                remedy="Set TALLYSTICK_ADMIN_URL to the database owner's URL (not through a pooler).",
            )
        return self._admin_url

    @property
    def known(self) -> frozenset[type[Entity]]:
        """Every entity of this application, built in or its own."""
        return frozenset(self._known)

    @property
    def version_locations(self) -> tuple[str | Path, ...]:
        """The folders with revisions of the application's own entities."""
        return self._version_locations

    @property
    def specs(self) -> tuple[EntitySpec, ...]:
        """What the entities that this application was opened with are made of."""
        return tuple(map(spec_of, self._known))

    @property
    def is_ready(self) -> bool:
        """Whether role and schema were checked."""
        return self._ready

    def check_known(self, entity: type[Entity]) -> None:
        """Raise ``Invalid`` for an entity this application was not opened with."""
        if entity not in self._known and entity not in self.extensions:
            raise Invalid(
                f"{getattr(entity, '__name__', 'That')} is not an entity of this application.",
                remedy="Name it: Tallystick.open(entities=[...]), or choose its domain in domains=[...].",
            )


def _classes(entities: Any) -> tuple[type[Entity], ...]:
    try:
        return tuple(entities)
    except TypeError:
        pass
    raise Declaration("entities= is a collection of entity classes.", remedy="Write entities=[Visit].")


def _refuse_twins(entities: Iterable[type[Entity]]) -> None:
    seen: dict[str, type[Entity]] = {}
    for entity in entities:
        spec = spec_of(entity)
        other = seen.setdefault(spec.table, entity)
        if other is not entity:
            raise Declaration(
                f"{entity.__name__} and {other.__name__} use the same table {spec.table}.",
                entity=entity.__name__,
                remedy="Rename one, or give it Rules(table=...).",
            )


__all__ = ["Session", "Tallystick"]
