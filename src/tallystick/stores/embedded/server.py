"""The embedded server as everybody else sees it: start, url, stop."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self, TypeVar

from tallystick.errors import Unavailable
from tallystick.schema.roles import Roles
from tallystick.settings import build_url
from tallystick.stores.embedded import bootstrap
from tallystick.stores.embedded.binaries import Binaries
from tallystick.stores.embedded.cluster import Cluster, free_port
from tallystick.stores.embedded.files import storage_errors
from tallystick.stores.embedded.home import Home
from tallystick.stores.embedded.users import FileLock

Role = Literal["admin", "app", "seal"]
_T = TypeVar("_T")

# Crash recovery of a large database takes minutes, and a checkpoint at shutdown may too.
_START_TIMEOUT = 600.0
_STOP_TIMEOUT = 300.0
_STEP = 0.005
_PORT_ATTEMPTS = 20
_PATIENCE = 5
# While a port is fought over, another server may answer for a moment, and refuse.
_REFUSALS = 100


class EmbeddedServer:
    """A PostgreSQL server in a directory, shared by every process that starts it there.

    The first user starts it, the last one stops it, and a user that was killed counts as gone. It listens on a private
    socket and on the loopback address, asks for passwords, and outlives Ctrl-C in any one terminal. Roles other than
    ``admin`` exist once ``provision`` made them with :meth:`password`.
    """

    def __init__(self, home: Home, binaries: Binaries, roles: Roles, max_connections: int) -> None:
        self._home = home
        self._cluster = Cluster(home, binaries, max_connections)
        self._passwords: dict[str, str] = {}
        self._roles = roles
        self._lock = FileLock(home.lock)
        self._lease = FileLock(home.users)
        self._process = os.getpid()

    @classmethod
    async def start(
        cls,
        data_dir: Path | None = None,
        *,
        temporary: bool = False,
        binaries: Path | None = None,
        role_prefix: str = "tally",
        max_connections: int = 100,
    ) -> Self:
        """Start the server of a directory, or join it when it runs.

        ``data_dir`` defaults to ``.tallystick`` in the current directory; ``temporary`` makes a directory that the last
        user's :meth:`stop` removes. ``binaries`` is another PostgreSQL's ``bin`` directory (15 or later).
        ``max_connections`` counts when this call is what starts it.
        Raises ``Unavailable``, ``StorageFull``, ``Unsupported`` (another major version) or ``Invalid`` (a directory
        with other things in it).
        """
        roles = Roles(role_prefix)
        home = Home.temporary() if temporary and data_dir is None else Home.locate(data_dir)
        try:
            programs = await _in_thread(lambda: Binaries.find(home.account, binaries))
            home.make()
            server = cls(home, programs, roles, max_connections)
            await server._join(temporary=temporary)
        except BaseException:
            if temporary and data_dir is None:
                shutil.rmtree(home.root, ignore_errors=True)
            raise
        atexit.register(server._leave_at_exit)
        return server

    @property
    def data_dir(self) -> Path:
        """Where the server's files are; under root this may be a system directory."""
        return self._home.root

    @property
    def log_file(self) -> Path:
        """The server's log, without statements and row values."""
        return self._home.log

    @property
    def seal_key_file(self) -> Path:
        """Where the key that signs checkpoints of the audit trail is, once there was a sealer."""
        return self._home.seal_key

    @property
    def anchor_dir(self) -> Path:
        """Where checkpoints of the audit trail are kept, outside the database."""
        return self._home.anchors

    @property
    def key_dir(self) -> Path:
        """Where key epochs and the erasure ledger are kept, outside the database."""
        return self._home.keys

    @property
    def roles(self) -> Roles:
        """The roles that the URLs name."""
        return self._roles

    def password(self, role: Role) -> str:
        """The random password of a role; give those of ``app`` and ``seal`` to ``provision``."""
        return self._passwords[role]

    def url(self, role: Role, database: str = "tallystick") -> str:
        """A database URL with the role's password inside; the private socket where its path is short enough.

        Ask for it when connecting: after a crash the server may come back on another port.
        """
        user = {"admin": bootstrap.ADMIN, "app": self._roles.app, "seal": self._roles.seal}[role]
        return self._url(user, self._passwords[role], database)

    def development_key(self) -> bytes:
        """32 random bytes for the development key provider, made once and kept in the data directory."""
        return self._home.development_key()

    async def alive(self) -> bool:
        """True when this very cluster answers a query now, or says that its connections are all taken."""
        try:
            return await bootstrap.identify(self._url(*self._admin(), "postgres")) == self._cluster.system_identifier()
        except bootstrap.NotReady as error:
            return error.full and self._cluster.postmaster() is not None
        except Unavailable:
            return False

    async def recover(self) -> None:
        """Start the server again if it no longer answers, for instance after its process was killed.

        Raises ``Unavailable`` once :meth:`stop` was called: nobody would be there to stop it.
        """
        await self._lock.acquire(timeout=_START_TIMEOUT)
        try:
            if not self._lease.held:
                raise Unavailable("The embedded server was left already.", remedy="Call EmbeddedServer.start() again.")
            await self._ensure_running()
        finally:
            self._lock.release()

    async def ensure_database(self, name: str) -> None:
        """Make a database owned by the admin role unless it exists."""
        await bootstrap.make_database(self._url(*self._admin(), "postgres"), name)

    async def stop(self, *, force: bool = False) -> None:
        """Leave; the last user stops the server, and removes its directory when it was temporary.

        ``force`` stops it although others use it. Leaving twice does nothing.
        """
        await _in_thread(lambda: self._leave(force=force))
        atexit.unregister(self._leave_at_exit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"EmbeddedServer({str(self.data_dir)!r})"

    def _admin(self) -> tuple[str, str]:
        return bootstrap.ADMIN, self._passwords["admin"]

    def _url(self, user: str, password: str, database: str) -> str:
        host = str(self._home.socket) if self._home.socket_usable else "127.0.0.1"
        port = self._cluster.port()
        if port is None:
            raise Unavailable("The embedded server was never started here.", remedy="Call EmbeddedServer.start().")
        return build_url(host=host, port=port, user=user, password=password, database=database)

    async def _join(self, *, temporary: bool) -> None:
        with storage_errors(self._home.root):
            await self._lock.acquire(timeout=_START_TIMEOUT)
            try:
                if temporary:
                    self._home.mark_temporary()
                self._lease.try_acquire(shared=True)
                await self._ensure_running()
            except BaseException:
                self._leave_unlocked(force=False)
                raise
            finally:
                self._lock.release()

    async def _ensure_running(self) -> None:
        cluster = self._cluster
        self._passwords = self._home.passwords()
        if cluster.exists:
            cluster.check_version()
        else:
            durable = not self._home.is_temporary
            await _in_thread(lambda: cluster.create(self._passwords["postgres"], durable=durable))
        if cluster.postmaster() is None or not await self._await_ready(cluster.postmaster()):
            await self._launch()
        if not self._home.ready.exists():
            await bootstrap.bootstrap(
                lambda database: self._url("postgres", self._passwords["postgres"], database), self._passwords["admin"]
            )
            self._home.make_development_key()
            self._home.mark_ready()

    async def _launch(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        port = self._cluster.port()
        attempts = 0
        while True:
            port = free_port(port)
            self._cluster.configure(port)
            position = self._cluster.log_position()
            process = await _in_thread(self._cluster.launch)
            if await self._await_ready(process):
                return
            log = self._cluster.log_since(position)
            attempts += 1
            if "shared memory block" in log and time.monotonic() < deadline:
                # Workers of a killed server leave when they next wait for something; a busy one has to be asked.
                if attempts > _PATIENCE:
                    self._cluster.end_orphans()
                await asyncio.sleep(0.05)
            elif "could not create any TCP/IP sockets" in log and attempts < _PORT_ATTEMPTS:
                port = None
            else:
                raise self._cluster.start_failure(log)

    async def _await_ready(self, process: int | None) -> bool:
        """Ask until the server answers as this cluster; False when its process ended first."""
        refusals = 0
        deadline = time.monotonic() + _START_TIMEOUT
        user, password = self._admin() if self._home.ready.exists() else ("postgres", self._passwords["postgres"])
        while process is not None and self._cluster.is_running(process):
            try:
                if await bootstrap.identify(self._url(user, password, "postgres")) == self._cluster.system_identifier():
                    return True
            except bootstrap.NotReady as error:
                if error.full:
                    # Only a server that is up says so, and its process was just seen to be ours.
                    return True
                refusals += error.refused
            if refusals > _REFUSALS:
                raise Unavailable(
                    f"The embedded server in {self._home.root} does not take the passwords kept beside it.",
                    remedy="Restore passwords.json from a backup, or start in another directory.",
                )
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"The embedded server did not answer within {_START_TIMEOUT:g} seconds.",
                    remedy="Look at server.log in the data directory; a crash recovery may still be going on.",
                )
            await asyncio.sleep(_STEP)
        return False

    def _leave(self, *, force: bool) -> None:
        if self._process != os.getpid():
            # A forked child has a copy of the lease, not a lease of its own.
            self._lease.release()
            return
        if not self._lease.held and not force:
            return
        if not self._home.root.exists():
            self._lease.release()
            return
        self._lock.acquire_blocking(timeout=_START_TIMEOUT)
        try:
            self._leave_unlocked(force=force)
        finally:
            self._lock.release()

    def _leave_unlocked(self, *, force: bool) -> None:
        self._lease.release()
        alone = self._lease.try_acquire()
        throw_away = alone and self._home.is_temporary
        try:
            if alone or force:
                self._cluster.stop(timeout=_STOP_TIMEOUT, at_once=throw_away)
            if throw_away:
                shutil.rmtree(self._home.root, ignore_errors=True)
        finally:
            self._lease.release()

    def _leave_at_exit(self) -> None:
        if self._process == os.getpid():
            self._leave(force=False)


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run blocking work off the loop; when cancelled, wait for its end, because it holds the directory."""
    try:
        task = asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError:
        # The interpreter is ending and lends no threads any more: nobody else waits for this loop either.
        return work()
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise
