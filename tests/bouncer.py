"""A real PgBouncer before the run's server, and the same tests with every session going through it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from tallystick.app import Tallystick
from tallystick.settings import Settings, build_url, connect_args

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
MISSING = "PgBouncer is not installed (Debian: apt install pgbouncer)"
SERVERS = 3


@contextlib.contextmanager
def pgbouncer(url: str, *, mode: str = "transaction", lenient: bool = False, more: str = "") -> Iterator[str]:
    """A pooler before the server of ``url``, for its role and every database; answers that URL through it.

    ``lenient`` lets it swallow startup parameters that it does not know, as administrators make it do; ``more`` are
    further lines of its settings.
    """
    target = connect_args(url)
    place = Path(tempfile.mkdtemp(prefix="tally-bouncer-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = target["host"] if isinstance(target["host"], str) else target["host"][0]
    server_port = target["port"] if isinstance(target["port"], int) else target["port"][0]
    (place / "users.txt").write_text(f'"{target["user"]}" "{target["password"]}"\n')
    (place / "bouncer.ini").write_text(
        f"[databases]\n* = host={host} port={server_port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
        f"auth_file = {place}/users.txt\nlogfile = {place}/log\npool_mode = {mode}\ndefault_pool_size = {SERVERS}\n"
        f"max_client_conn = 400\nadmin_users = {target['user']}\n{more}"
        + ("ignore_startup_parameters = jit,statement_timeout,extra_float_digits\n" if lenient else "")
    )
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        # It refuses to run as root, and the server's private socket is for the server's own account.
        owner = pwd.getpwuid(os.stat(host).st_uid) if host.startswith("/") else pwd.getpwnam("nobody")
        account = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        for file in (place, *place.iterdir()):
            os.chown(file, owner.pw_uid, owner.pw_gid)
    with open(place / "out", "wb") as out:
        process = subprocess.Popen(
            [str(PGBOUNCER), str(place / "bouncer.ini")], stdin=subprocess.DEVNULL, stdout=out, stderr=out, **account
        )
    try:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, (place / "out").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield build_url(
            host="127.0.0.1", port=port, user=target["user"], password=target["password"], database=target["database"]
        )
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(place, ignore_errors=True)


class Behind:
    """Sessions of any application on the run's server, opened by a twin of it that reaches the server through a pooler.

    A twin is the application again, with its entities, keys and clock, on connections of its own: what a test asks of
    ``tally.session`` happens there, and what it looks at beside it happens on the application itself.
    """

    def __init__(self, url: str) -> None:
        target = connect_args(url)
        self._place = {"host": target["host"], "port": target["port"]}
        self._account = (target["user"], target["password"])
        self._twins: weakref.WeakKeyDictionary[Tallystick, Tallystick] = weakref.WeakKeyDictionary()
        self._direct = Tallystick.session
        self._starting = asyncio.Lock()

    def patch(self, monkeypatch: Any) -> None:
        """Lead every session through the pooler from here on; a twin ends with its application."""

        def session(app: Tallystick, *args: Any, **named: Any) -> Any:
            context = self._direct(app, *args, **named)
            return _Led(self, app, context, args, named) if self._can(app, named) else context

        monkeypatch.setattr(Tallystick, "session", session)

    def _can(self, app: Tallystick, named: dict[str, Any]) -> bool:
        url, joins = app.settings.database_url, named.get("connection") is not None
        if app._database is None or url is None or app.settings.pooler != "session" or joins:
            return False
        target = connect_args(url)
        return (target.get("user"), target.get("password")) == self._account

    def settings(self, settings: Settings) -> Settings:
        """The same database, through the pooler."""
        assert settings.database_url is not None
        target = connect_args(settings.database_url)
        url = build_url(
            host=self._place["host"],
            port=self._place["port"],
            user=target["user"],
            password=target["password"],
            database=target["database"],
        )
        return replace(settings, database_url=url, pooler="transaction")

    async def twin(self, app: Tallystick) -> Tallystick:
        """The application's other self; the first sessions may come together."""
        async with self._starting:
            return await self._twin(app)

    async def _twin(self, app: Tallystick) -> Tallystick:
        found = self._twins.get(app)
        if found is None:
            found = Tallystick(
                self.settings(app.settings),
                app.domains,
                app.entities,
                keys=app.keys,
                clock=app.clock,
                version_locations=app.version_locations,
                verifier=app.verifier,
                logins=app.login_policy,
            )
            await found.start()
            self._twins[app] = found
            # Of this application alone: it may outlive the test that led its sessions here.
            closed_with_it: Any = app
            closed_with_it.close = partial(self._close_both, app)
        return found

    async def _close_both(self, app: Tallystick) -> None:
        twin = self._twins.pop(app, None)
        if twin is not None:
            await twin.close()
            with contextlib.suppress(ConnectionRefusedError):  # a pooler that has ended holds no connection
                await self._let_go(twin)
        await Tallystick.close(app)

    async def _let_go(self, twin: Tallystick) -> None:
        """Have the pooler end its connections to a database, which may be about to be dropped."""
        assert twin.settings.database_url is not None
        arguments = connect_args(twin.settings.database_url)
        console = await asyncpg.connect(**{**arguments, "database": "pgbouncer"}, statement_cache_size=0)
        try:
            for word in ("KILL", "RESUME"):
                await console.execute(f"{word} {arguments['database']}")
        finally:
            await console.close()


class _Led:
    """``async with`` of a session, opened on the twin."""

    def __init__(self, behind: Behind, app: Tallystick, context: Any, args: Any, named: Any) -> None:
        self._behind, self._app, self._context, self._given = behind, app, context, (args, named)

    async def __aenter__(self) -> Any:
        args, named = self._given
        twin = await self._behind.twin(self._app)
        self._context = self._behind._direct(twin, *args, **named)
        return await self._context.__aenter__()

    async def __aexit__(self, *cause: Any) -> Any:
        return await self._context.__aexit__(*cause)
