"""Servers and databases not there, not ready, not ours, too full or too busy: told by type, in time, and got over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import func, select
from tests.badinput.support import refused, valid
from tests.entities import ALL, Shelf, Sink

from tallystick import Tallystick
from tallystick.domains.catalog import DOMAINS
from tallystick.errors import (
    CommitUnknown,
    Conflict,
    Denied,
    Invalid,
    NotMigrated,
    NotProvisioned,
    StorageFull,
    TallystickError,
    Unavailable,
)
from tallystick.schema.migrate import migrate
from tallystick.schema.provision import provision
from tallystick.settings import Settings, build_url, connect_args
from tallystick.stores.embedded import EmbeddedServer
from tallystick.testing import KitServer

FAST: dict[str, Any] = {"retry_attempts": 0, "connect_timeout": 5.0}


def application(url: str, keys: Any = None, **settings: Any) -> Tallystick:
    """An application on a URL, impatient unless told."""
    found = Settings.load({}, **({"database_url": url} | FAST | settings))
    return Tallystick.open(settings=found, entities=ALL, keys=keys)


async def starts_not(url: str, *kinds: type[TallystickError], within: float = 20.0, **settings: Any) -> TallystickError:
    started = time.monotonic()
    with refused(*kinds) as caught:
        async with application(url, **settings):
            pass
    assert time.monotonic() - started < within
    return caught.value


# -- not there -------------------------------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody else can take the port meanwhile.
        taken.bind(("127.0.0.1", 0))
        await starts_not(f"postgresql://a:b@127.0.0.1:{taken.getsockname()[1]}/x", Unavailable)


async def test_the_socket_is_not_there() -> None:
    await starts_not("postgresql://a:b@/x?host=/nonexistent", Unavailable)


async def test_the_name_has_no_address() -> None:
    await starts_not("postgresql://a:b@nowhere.invalid/x", Unavailable)


async def test_somebody_else_listens() -> None:
    """A port that answers and speaks no PostgreSQL, and one that says nothing at all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)

    for behaviour in (answer, silence):
        server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await starts_not(f"postgresql://a:b@127.0.0.1:{port}/x", Unavailable, connect_timeout=0.5)
        server.close()


async def test_a_server_without_tls_is_told(tally_server: KitServer, tally: Tallystick) -> None:
    target = connect_args(tally.settings.database_url or "")
    port = target["port"]
    url = (
        f"postgresql://{target['user']}:{target['password']}@127.0.0.1:{port}/{target['database']}?sslmode=verify-full"
    )
    await starts_not(url, Unavailable)


async def test_a_wrong_password(tally: Tallystick) -> None:
    target = connect_args(tally.settings.database_url or "")
    wrong = build_url(
        host=target["host"], port=target["port"], user=target["user"], password="wrong", database=target["database"]
    )
    await starts_not(wrong, NotProvisioned)
    nobody = build_url(
        host=target["host"], port=target["port"], user="nobody_at_all", password="x", database=target["database"]
    )
    await starts_not(nobody, NotProvisioned)


async def test_a_missing_database(tally: Tallystick) -> None:
    target = connect_args(tally.settings.database_url or "")
    for name in ("no_such_database", "x" * 63, "Ä'\"; --"):
        url = build_url(
            host=target["host"], port=target["port"], user=target["user"], password=target["password"], database=name
        )
        await starts_not(url, NotProvisioned)


async def test_an_admins_url(tally_server: KitServer, tally: Tallystick) -> None:
    await starts_not(tally.settings.admin_url or "", Denied)


@pytest.mark.parametrize("test_connection", [True, False])
async def test_a_superusers_url_is_refused_at_the_latest_by_the_first_session(
    tally_server: KitServer, tally: Tallystick, tenant: str, test_connection: bool
) -> None:
    url = superuser_url(tally_server, connect_args(tally.settings.database_url or "")["database"])
    with refused(Denied):
        async with application(url, test_connection=test_connection) as opened:
            async with opened.session(tenant, actor="a"):
                pass


def superuser_url(server: KitServer, database: str) -> str:
    if server.embedded is None:
        pytest.skip("the superuser of a named server is not ours")
    return server.embedded._url("postgres", server.embedded._passwords["postgres"], database)


# -- not ready -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def database(server: KitServer) -> AsyncIterator[str]:
    """An empty database; answers its name."""
    name = f"tally_bad_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(**connect_args(server.url("admin", "postgres")))
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield name
        # Closed connections take a moment to end, and the admin may not end the application's.
        for _ in range(100):
            if not await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name):
                break
            await asyncio.sleep(0.02)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def test_an_unprovisioned_database(tally_server: KitServer) -> None:
    async with database(tally_server) as name:
        await starts_not(tally_server.url("app", name), NotProvisioned)
        # With the admin's URL at hand it opens, so that it can be provisioned and migrated, and serves nothing yet.
        opened = application(tally_server.url("app", name), admin_url=tally_server.url("admin", name))
        async with opened:
            with refused(NotProvisioned):
                async with opened.session("anybody", actor="a"):
                    pass
            with refused(NotProvisioned):
                await opened.tenants.create("x", name="x")
            with refused(NotProvisioned):
                await opened.migrate()


async def test_an_unmigrated_database_and_one_that_is_behind(tally_server: KitServer) -> None:
    async with database(tally_server) as name:
        url, admin = tally_server.url("app", name), tally_server.url("admin", name)
        roles = tally_server.roles
        await provision(admin, roles=roles)
        async with application(url, role_prefix=roles.prefix) as opened:
            for attempt in (
                lambda: opened.ready(),
                lambda: opened.session("anybody", actor="a").__aenter__(),
                lambda: opened.tenants.create("x", name="x"),
            ):
                with refused(NotMigrated):
                    await attempt()
            # The ground alone, then the domains without the application's own entities.
            await migrate(admin, roles=roles)
            with refused(NotMigrated):
                await opened.tenants.create("x", name="x")
            await migrate(admin, roles=roles, domains=DOMAINS)
            with refused(NotMigrated):
                await opened.tenants.create("x", name="x")
            await migrate(admin, roles=roles, domains=DOMAINS, entities=ALL)
            await opened.tenants.create("x", name="x")
            async with opened.session("x", actor="a") as db:
                assert await db[Shelf].count() == 0
                # A table that goes away under a running application.
                connection = await asyncpg.connect(**connect_args(admin))
                await connection.execute(f"SET ROLE {roles.owner}; DROP TABLE tally.kit_shelf")
                await connection.close()
                with refused(NotMigrated):
                    await db[Shelf].count()
        async with application(url, role_prefix=roles.prefix) as opened:
            with refused(NotMigrated):
                await opened.ready()


async def test_migrating_without_the_admins_url(tally: Tallystick) -> None:
    async with application(tally.settings.database_url or "", admin_url=None) as opened:
        with refused(NotProvisioned):
            await opened.migrate()


@pytest.mark.parametrize("keys", [None, "development"])
async def test_no_keys_or_keys_that_protect_nothing(tally: Tallystick, tenant: str, keys: str | None) -> None:
    from tallystick.privacy.keys import DevelopmentKeys

    url = tally.settings.database_url or ""
    if keys:
        with refused(Denied):
            async with application(url, DevelopmentKeys()):
                pass
        return
    async with application(url) as opened, opened.session(tenant, actor="a") as db:
        with refused(Unavailable):
            await db[Sink].add(valid(name="somebody"))
        with refused(Unavailable):
            await db[Sink].find(Sink.email == "a@example.org")
        # What is not sealed works without.
        await db[Sink].add(valid())
        assert await db[Sink].count() == 1


def key_file(place: Path, content: bytes | None) -> Path:
    """A file of mode 0600 with that content, or the name of none."""
    file = place / "key"
    if content is not None:
        file.write_bytes(content)
        file.chmod(0o600)
    return file


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 32, b"zz" * 32, b"\x00" * 32, None], ids=range(6))
async def test_a_key_file_that_is_none(tally: Tallystick, tmp_path: Path, content: bytes | None) -> None:
    file = key_file(tmp_path, content)
    with refused(Invalid, Unavailable):
        async with application(tally.settings.database_url or "", key_file=file):
            pass


async def test_a_data_directory_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "something").write_text("x")
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18\n")
    for name in ("file", "other", "postgres", "file/below"):
        with refused(Invalid, Unavailable):
            async with Tallystick.open(settings=Settings.load({}, data_dir=tmp_path / name)):
                pass
    assert sorted(os.listdir(tmp_path)) == ["file", "other", "postgres"]


# -- too busy --------------------------------------------------------------------------------------------------


async def test_a_statement_that_takes_too_long(tally: Tallystick, tenant: str) -> None:
    url, slow = tally.settings.database_url or "", select(func.pg_sleep(60).label("x"))
    # Time enough for everything that is not slow, on a busy machine too.
    async with application(url, tally.keys, statement_timeout=0.8, pool_max=1) as opened:
        async with opened.session(tenant, actor="a") as db:
            started = time.monotonic()
            with refused(Unavailable):
                await db.fetch(slow, into=dict)
            with refused(Unavailable, Conflict):
                async with db.transaction():
                    await db[Sink].add(valid())
                    await db.fetch(slow, into=dict)
            assert time.monotonic() - started < 30
            # The connection has survived it, and nothing was kept.
            assert await db[Sink].count() == 0
        assert opened.store.pool.stats().open == 1


async def test_a_pool_that_is_used_up(tally: Tallystick, tenant: str) -> None:
    url = tally.settings.database_url or ""
    async with application(url, tally.keys, pool_max=2, pool_timeout=0.3) as opened:
        async with opened.session(tenant, actor="a") as one, opened.session(tenant, actor="b") as two:
            async with one.transaction(), two.transaction():
                async with opened.session(tenant, actor="c") as three:
                    for attempt in (
                        lambda: three[Sink].count(),
                        lambda: three[Sink].add(valid()),
                        lambda: three.transaction().__aenter__(),
                        lambda: opened.tenants.create(f"t-{uuid4().hex}", name="x"),
                    ):
                        started = time.monotonic()
                        with refused(Unavailable):
                            await attempt()
                        assert 0.2 < time.monotonic() - started < 20
                    waiting = asyncio.gather(*(three[Sink].count() for _ in range(5)), return_exceptions=True)
                    results = await waiting
                    assert {type(r) for r in results} == {Unavailable}
            async with opened.session(tenant, actor="d") as four:
                assert await four[Sink].count() == 0
        stats = opened.store.pool.stats()
        assert (stats.open, stats.idle, stats.waiting) == (2, 2, 0)


async def test_waiters_that_give_up_do_not_take_the_place_of_others(tally: Tallystick, tenant: str) -> None:
    """Whoever is cancelled at the moment it is served passes on what it got."""
    url = tally.settings.database_url or ""
    async with application(url, tally.keys, pool_max=1, pool_timeout=5.0) as opened:

        async def read(actor: str) -> int:
            async with opened.session(tenant, actor=actor) as db:
                return await db[Sink].count()

        for turn in range(30):
            tasks = [asyncio.create_task(read(f"w{n}")) for n in range(6)]
            await asyncio.sleep(0.0004 * (turn % 10))
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(r == 0 for r in results[1::2]), results
        stats = opened.store.pool.stats()
        assert (stats.waiting, stats.open - stats.idle) == (0, 0)


async def test_a_row_that_somebody_else_has_locked(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a") as one, tally.session(tenant, actor="b") as two:
        row = await one[Sink].add(valid())
        async with one.transaction(), two.transaction():
            await one[Sink].lock(row.id)
            with refused(Conflict):
                async with two.transaction():
                    await two[Sink].lock(row.id, wait=False)
            with refused(TallystickError):
                await two[Sink].lock(row.id, skip=True)


# -- going away ------------------------------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that a server's account may enter, as ``tmp_path`` is not."""
    made = Path(tempfile.mkdtemp(prefix="tally-bad-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def private(place: Path) -> AsyncIterator[tuple[EmbeddedServer, Tallystick]]:
    """A server of the test's own, reached by URL as any other, and an application on it that is impatient."""
    server = await EmbeddedServer.start(place / "data", temporary=True)
    try:
        await prepared(server)
        async with application(server.url("app"), pool_max=4) as opened:
            await opened.tenants.create("home", name="Home")
            yield server, opened
    finally:
        await server.stop(force=True)


async def prepared(server: EmbeddedServer) -> None:
    await provision(server.url("admin"), app_password=server.password("app"), created_by_us=True)
    await migrate(server.url("admin"), domains=DOMAINS, entities=ALL)


async def down(server: EmbeddedServer) -> None:
    await asyncio.to_thread(lambda: server._cluster.stop(timeout=30))


async def test_a_server_that_is_restarted(private: tuple[EmbeddedServer, Tallystick]) -> None:
    server, opened = private
    async with opened.session("home", actor="a") as db:
        await asyncio.gather(*(db[Sink].add(valid(number=n)) for n in range(8)))
        for _ in range(2):
            await down(server)
            for attempt in (
                lambda: db[Sink].count(),
                lambda: db[Sink].add(valid()),
                lambda: db.transaction().__aenter__(),
            ):
                with refused(Unavailable):
                    await attempt()
            await server.recover()
            failed = 0
            for _ in range(6):
                try:
                    assert await db[Sink].count() == 8
                except Unavailable:
                    failed += 1
            # No more calls fail than there were connections, and then it works again.
            assert failed <= 4
            assert await db[Sink].count() == 8
    assert opened.store.pool.stats().waiting == 0


async def test_a_server_that_goes_away_within_a_transaction(private: tuple[EmbeddedServer, Tallystick]) -> None:
    server, opened = private
    async with opened.session("home", actor="a") as db:
        with refused(Unavailable):
            async with db.transaction():
                await db[Sink].add(valid())
                async with db.transaction():
                    await db[Sink].add(valid())
                    await down(server)
                    await db[Sink].add(valid())
        assert db.unit.depth == 0
        await server.recover()
        with contextlib.suppress(Unavailable):
            await db[Sink].count()
        assert await db[Sink].count() == 0
        # Lost between the last statement and the commit: nobody can say, and so it is said.
        with refused(CommitUnknown, Unavailable):
            async with db.transaction():
                await db[Sink].add(valid(label="perhaps"))
                await down(server)
        await server.recover()
        with contextlib.suppress(Unavailable):
            await db[Sink].count()
        assert await db[Sink].count() in (0, 1)


TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tally_app'"


async def ended(administrator: asyncpg.Connection, opened: Tallystick) -> None:
    """End the application's connections, and wait until it has heard of it and the server has forgotten them."""
    idle = opened.store.pool._idle
    await administrator.execute(TERMINATE)
    async with asyncio.timeout(30):
        left = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'tally_app')"
        while await administrator.fetchval(left) or not all(link.raw.is_closed() for link in idle):
            pass


async def test_connections_that_an_administrator_ends(private: tuple[EmbeddedServer, Tallystick]) -> None:
    server, opened = private
    superuser = server._url("postgres", server._passwords["postgres"], "tallystick")
    async with opened.session("home", actor="a") as db:
        await asyncio.gather(*(db[Sink].count() for _ in range(4)))
        connection = await asyncpg.connect(**connect_args(superuser))
        try:
            await ended(connection, opened)
            assert await db[Sink].count() == 0
            with refused(Unavailable):
                async with db.transaction():
                    await db[Sink].add(valid())
                    await connection.execute(TERMINATE)
                    await db[Sink].count()
            assert await db[Sink].count() == 0
            # No more connections than the role may have.
            await connection.execute("ALTER ROLE tally_app CONNECTION LIMIT 1")
            await ended(connection, opened)
            async with db.transaction(), opened.session("home", actor="b") as other:
                await db[Sink].count()
                with refused(Unavailable):
                    await other[Sink].count()
            assert await db[Sink].count() == 0
        finally:
            await connection.close()


# -- too full --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 160 MB in memory, where one can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    place = Path(tempfile.mkdtemp(prefix="tally-full-"))
    place.chmod(0o711)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m,mode=711", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        place.rmdir()
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
    place.rmdir()


def fill(place: Path) -> Path:
    """Take all the space that is left."""
    ballast = place / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 65_536):
            pass
    return ballast


async def test_a_disk_that_is_full(small_disk: Path) -> None:
    data = small_disk / "data"
    data.mkdir(mode=0o711)
    server = await EmbeddedServer.start(data / "server", temporary=True)
    try:
        assert str(server.data_dir).startswith(str(small_disk))
        await prepared(server)
        async with application(server.url("app"), pool_max=2) as opened:
            await opened.tenants.create("home", name="Home")
            async with opened.session("home", actor="a") as db:
                row = await db[Sink].add(valid(label="before"))
                ballast = await asyncio.to_thread(fill, small_disk)
                bulky = [valid(note=f"{n} {'x' * 1_500}") for n in range(400)]
                for attempt in (
                    lambda: db[Sink].add_many(bulky),
                    lambda: one_by_one(db, bulky),
                    lambda: in_a_transaction(db, bulky),
                ):
                    with refused(StorageFull):
                        await attempt()
                    assert db.unit.depth == 0
                # Reading goes on, and nothing is half there.
                assert [r.id for r in await db[Sink].find(Sink.label == "before")] == [row.id]
                assert await db[Sink].count(Sink.label == "in the transaction") == 0
                kept = await db[Sink].count()
                ballast.unlink()
                # Space is back: the same write, as it was.
                assert len(await db[Sink].add_many(bulky)) == 400
                assert await db[Sink].count() == kept + 400
                assert (await db[Sink].update(row, number=5)).version == 2
    finally:
        await server.stop(force=True)


async def one_by_one(db: Any, rows: list[Sink]) -> None:
    for row in rows:
        await db[Sink].add(valid(note=row.note))


async def in_a_transaction(db: Any, rows: list[Sink]) -> None:
    async with db.transaction():
        await db[Sink].add(valid(label="in the transaction"))
        for row in rows:
            await db[Sink].add(valid(note=row.note, label="in the transaction"))


async def test_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    await asyncio.to_thread(fill, small_disk)
    with pytest.raises(StorageFull) as caught:
        await EmbeddedServer.start(small_disk / "data", temporary=True)
    assert caught.value.remedy
