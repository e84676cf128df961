"""One PostgreSQL for a whole test run: a template database migrated once, and a clone of it for each worker.

Workers agree without files: the embedded server is shared through its directory, and who makes the template is decided
by an advisory lock on the server itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import asyncpg

from tallystick.domains.catalog import chosen, entities_of
from tallystick.entity import spec_of
from tallystick.errors import TallystickError, Unavailable
from tallystick.schema.migrate import migrate
from tallystick.schema.provision import provision
from tallystick.schema.roles import Roles, quoted
from tallystick.settings import build_url, connect_args
from tallystick.stores.embedded import EmbeddedServer
from tallystick.stores.embedded.users import FileLock
from tallystick.testing.places import PREFIX, directory_of

if TYPE_CHECKING:
    from tallystick.entity import Entity

#: Roles belong to the whole server; on one that is not ours the kit's must not meet an application's.
_FOREIGN_PREFIX = "tallytest"
_DROP_TRIES = 4
#: Every worker has pools, and racers that each need a connection of their own.
_CONNECTIONS = 400
_LOCK = "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended($1, 0))"
_USE = "SELECT pg_catalog.pg_advisory_lock_shared(pg_catalog.hashtextextended($1, 0))"
_LAST = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))"


class KitServer:
    """The server that a test run uses: an embedded one in a temporary directory, or one that was named.

    ``run`` is the same for all workers of a run, ``worker`` is not. Nothing is left behind on either kind of server but
    the four roles, with the prefix ``tallytest``, on one that was named.
    """

    def __init__(self, run: str, worker: str, server: EmbeddedServer | None, admin: str | None) -> None:
        self.run = run
        self.worker = worker
        self.embedded = server
        self.roles = server.roles if server is not None else Roles(_FOREIGN_PREFIX)
        self._admin = admin
        self._clones: list[str] = []
        self._holding: asyncpg.Connection | None = None

    @classmethod
    async def start(
        cls, run: str, worker: str = "main", *, binaries: Path | None = None, admin_url: str | None = None
    ) -> Self:
        """Start the run's embedded server, or join it; with ``admin_url``, use the server that runs there.

        ``binaries`` is another PostgreSQL's ``bin`` directory. Raises what ``EmbeddedServer.start`` does, and
        ``Unavailable`` for a named server that does not answer.
        """
        if admin_url is None:
            await asyncio.to_thread(_sweep)
            server = await EmbeddedServer.start(
                directory_of(run), temporary=True, binaries=binaries, max_connections=_CONNECTIONS
            )
            made = cls(run, worker, server, None)
            try:
                await made._hurry(server)
            except BaseException:
                await server.stop()
                raise
            return made
        made = cls(run, worker, None, admin_url)
        made._holding = await _connect(admin_url)
        await made._holding.execute(_USE, f"{run}-users")
        return made

    async def _hurry(self, server: EmbeddedServer) -> None:
        """Wait for no disk: what is on this server is thrown away, and after a crash it is not looked at."""
        superuser = server._url("postgres", server._passwords["postgres"], "postgres")
        async with self._alone(superuser) as connection:
            if await connection.fetchval("SHOW fsync") == "on":
                for name in ("fsync", "full_page_writes", "synchronous_commit"):
                    await connection.execute(f"ALTER SYSTEM SET {name} = off")
                await connection.execute("SELECT pg_catalog.pg_reload_conf()")

    def url(self, role: Literal["admin", "app", "seal"], database: str) -> str:
        """The URL of a database as one of the roles; a named server has no sealer of the kit's."""
        if self.embedded is not None:
            return self.embedded.url(role, database)
        assert self._admin is not None
        found = connect_args(self._admin)
        user, password = found.get("user"), found.get("password")
        if role != "admin":
            user, password = getattr(self.roles, role), self._password(role)
        host, port = found["host"], found["port"]
        if isinstance(host, list):
            host, port = host[0], port[0]
        return build_url(host=host, port=port, user=user, password=password, database=database)

    async def template(
        self,
        domains: Iterable[str] | None = None,
        entities: Sequence[type[Entity]] = (),
        version_locations: Sequence[str | Path] = (),
    ) -> str:
        """The name of the migrated template database; the first worker to ask makes it."""
        branches = chosen(domains)
        name = f"{self._stem}_t{_digest(branches, entities)}"
        async with self._alone() as admin:
            if not await admin.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
                draft = f"{name}_draft"
                await _drop(admin, draft)
                await admin.execute(f"CREATE DATABASE {quoted(draft)}")
                await self._provision(draft)
                await migrate(
                    self.url("admin", draft),
                    domains=branches,
                    entities=entities,
                    roles=self.roles,
                    version_locations=version_locations,
                )
                await admin.execute(f"ALTER DATABASE {quoted(draft)} RENAME TO {quoted(name)}")
        return name

    async def clone(self, template: str, suffix: str = "") -> str:
        """A copy of the template for this worker alone; dropped when the server is left."""
        name = f"{self._stem}_{self.worker}{suffix}"
        async with self._alone() as admin:
            await _drop(admin, name)
            # Copying files is by far the quickest where nothing waits for the disk, and slow where everything does.
            strategy = "" if self.embedded is None else " STRATEGY file_copy"
            await admin.execute(f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(template)}{strategy}")
            # A clone has the template's schemas and none of its database's rights.
            await self._provision(name)
        self._clones.append(name)
        return name

    async def drop(self, name: str) -> None:
        """Drop a clone now, whoever is connected to it."""
        async with self._alone() as admin:
            await _drop(admin, name)
        if name in self._clones:
            self._clones.remove(name)

    async def stop(self) -> None:
        """Drop this worker's clones; the last worker takes the rest with it."""
        server, self.embedded = self.embedded, None
        if server is not None:
            await server.stop()
            _forget(directory_of(self.run))
            return
        for name in tuple(self._clones):
            await self.drop(name)
        holding, self._holding = self._holding, None
        if holding is None:
            return
        try:
            await holding.execute("SELECT pg_catalog.pg_advisory_unlock_all()")
            if await holding.fetchval(_LAST, f"{self.run}-users"):
                rows = await holding.fetch("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", self._stem)
                for row in rows:
                    await _drop(holding, row["datname"])
        finally:
            await holding.close(timeout=10)

    @property
    def _stem(self) -> str:
        return f"tally_{self.run[:12]}"

    def _password(self, role: str) -> str:
        """The same for every run on a named server, so that two runs at once do not lock each other out."""
        if self.embedded is not None:
            return self.embedded.password(role)  # type: ignore[arg-type]
        assert self._admin is not None
        return blake2b(role.encode(), key=blake2b(self._admin.encode()).digest(), digest_size=24).hexdigest()

    async def _provision(self, database: str) -> None:
        await provision(
            self.url("admin", database),
            app_password=self._password("app"),
            seal_password=self._password("seal"),
            roles=self.roles,
            created_by_us=True,
        )

    @contextlib.asynccontextmanager
    async def _alone(self, url: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        """An admin connection outside the test databases, while no other worker makes or copies one."""
        connection = await _connect(url or self._admin or self.url("admin", "postgres"))
        try:
            await connection.execute(_LOCK, f"{self.run}-databases")
            yield connection
        finally:
            await connection.close(timeout=10)


def clear_away(directory: Path) -> None:
    """End an embedded server that nobody uses any more, and remove its directory; one in use is left alone."""
    with contextlib.suppress(TallystickError):
        asyncio.run(_join_and_leave(directory))
    _forget(directory)


async def _join_and_leave(directory: Path) -> None:
    server = await EmbeddedServer.start(directory, temporary=True)
    await server.stop()


def _forget(directory: Path) -> None:
    """Remove what is left where the server was: nothing, or under root the pointer to a place that is gone."""
    pointer = directory / "location"
    if pointer.exists() and not Path(pointer.read_text().strip()).exists():
        shutil.rmtree(directory, ignore_errors=True)


def _sweep() -> None:
    """End the servers of runs that were killed before they could; only this user's, for anybody may write there."""
    for left in directory_of("").parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            found = left.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            users = FileLock(left / "users")
            if (left / "temporary").exists() and (left / "ready").exists() and users.try_acquire():
                users.release()
                clear_away(left)


def _digest(domains: Iterable[str], entities: Iterable[type[Entity]]) -> str:
    named = (*entities_of(domains), *entities)
    said = repr([(s.table, s.columns, s.indexes, s.checks, s.queue, s.append_only) for s in map(spec_of, named)])
    return blake2b(said.encode(), digest_size=4).hexdigest()


async def _drop(connection: asyncpg.Connection, name: str) -> None:
    """Drop a database. The server waits five seconds for sessions that are ending; the admin may not end others'."""
    for _ in range(_DROP_TRIES - 1):
        with contextlib.suppress(asyncpg.ObjectInUseError):
            await connection.execute(f"DROP DATABASE IF EXISTS {quoted(name)}")
            return
    await connection.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")


async def _connect(url: str) -> asyncpg.Connection:
    failure: Unavailable
    try:
        return await asyncpg.connect(**connect_args(url), timeout=30)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        failure = Unavailable(
            f"The tests' server does not answer ({type(error).__name__}).",
            remedy="Check TALLYSTICK_TEST_ADMIN_URL, or unset it to use an embedded server.",
        )
    raise failure
