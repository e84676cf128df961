"""The kit in a stranger's project: one server a run, whatever happens to it, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import asyncpg
import pytest

from tallystick.settings import connect_args
from tallystick.testing import KitServer
from tallystick.testing.server import _sweep

SETTINGS = """
[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "session"
asyncio_default_test_loop_scope = "session"
"""
CONFTEST = """
import pytest
from tallystick import Entity, Length, Money, Ref, Rules, Unique, User
from typing import Annotated

class Visit(Entity):
    borrower: Ref[User]
    place: Annotated[str, Length(40)]
    fee: Money
    rules = Rules(Unique("borrower", "place"))

@pytest.fixture(scope="session")
def tally_entities():
    return [Visit]

@pytest.fixture(scope="session")
def tally_domains():
    return ["identity"]
"""
TESTS = """
import os, pathlib
from conftest import Visit
from tallystick import Duplicate, usd

def note(server, name):
    pathlib.Path(os.environ["NOTES"], name).write_text(str(server.embedded.data_dir if server.embedded else ""))

async def test_made(db, make, tally_server):
    note(tally_server, "one")
    visit = await make(Visit, fee=usd("3"))
    assert (await db[Visit].get(visit.id)).fee == usd("3")

async def test_gone(db, tally_server):
    note(tally_server, "two")
    assert await db[Visit].count() == 0

async def test_raced(db, make, race):
    user = await make.user()
    result = await race(8, lambda s: s[Visit].add(Visit(borrower=user.ref, place="x", fee=usd(1))))
    assert (result.winners, result.kinds) == (1, {Duplicate})
    assert await db[Visit].count() == 1

async def test_outside(tally, tenant):
    async with tally.session(tenant, actor="someone") as db:
        assert await db[Visit].count() == 0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_visits.py").write_text(TESTS)
    (tmp_path / "notes").mkdir()
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_plugin(), *arguments]


def _plugin() -> list[str]:
    from importlib.metadata import entry_points

    named = any(e.value == "tallystick.testing.plugin" for e in entry_points(group="pytest11"))
    return [] if named else ["-p", "tallystick.testing.plugin"]


def environment(project: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TALLYSTICK_TEST"))}
    return {**kept, "NOTES": str(project / "notes"), "PYTHONPATH": str(Path(__file__).parents[3] / "src"), **more}


def run(project: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=project,
        env=environment(project, **more),
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )


def test_a_strangers_project(project: Path):
    done = run(project, "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    places = {(project / "notes" / name).read_text() for name in ("one", "two")}
    assert len(places) == 1
    assert not Path(places.pop()).exists()


def test_a_run_that_fails_leaves_nothing_either(project: Path):
    (project / "test_broken.py").write_text(
        textwrap.dedent("""
        import os
        from test_visits import note

        async def test_fails(db, tally_server):
            note(tally_server, "one")
            await db.transaction().__aenter__()
            raise ZeroDivisionError

        async def test_dies(db):
            os._exit(3)
        """)
    )
    done = run(project, "-n", "1", "test_broken.py")
    assert done.returncode != 0
    assert "1 failed" in done.stdout or "2 failed" in done.stdout
    place = Path((project / "notes" / "one").read_text())
    assert not place.exists(), done.stdout


def test_what_a_killed_run_left_is_swept_up(project: Path):
    (project / "test_slow.py").write_text(
        textwrap.dedent("""
        import asyncio
        from test_visits import note

        async def test_slow(db, tally_server):
            note(tally_server, "slow")
            await asyncio.sleep(600)
        """)
    )
    with (project / "out").open("wb") as out:
        process = subprocess.Popen(
            command("test_slow.py"),
            cwd=project,
            env=environment(project),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    note, deadline = project / "notes" / "slow", time.monotonic() + 60
    try:
        while not note.exists() or not note.read_text():
            assert time.monotonic() < deadline, (project / "out").read_text()
            time.sleep(0.05)
        place = Path(note.read_text())
        assert place.exists()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    # Whoever starts a run sweeps, another worker too, and what one is clearing away the other leaves to it.
    while place.exists():
        assert time.monotonic() < deadline
        _sweep()


def test_another_event_loop_is_refused_in_words(project: Path):
    (project / "pyproject.toml").write_text('[tool.pytest.ini_options]\nasyncio_mode = "auto"\n')
    done = run(project, "test_visits.py::test_gone")
    assert done.returncode != 0
    assert "asyncio_default_test_loop_scope" in done.stdout


async def test_a_named_server_gets_its_databases_and_gives_them_back(project: Path, tally_server: KitServer):
    url = tally_server.url("admin", "postgres")
    done = await asyncio.to_thread(run, project, "-n", "2", TALLYSTICK_TEST_ADMIN_URL=url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "notes" / "one").read_text() == ""
    connection = await asyncpg.connect(**connect_args(url))
    try:
        names = [r[0] for r in await connection.fetch("SELECT datname FROM pg_database")]
    finally:
        await connection.close()
    # A run's databases are named after it; tests that make others on this server meanwhile name them otherwise.
    runs = {found[1] for n in names if (found := re.match("tally_([0-9a-f]{12})", n))}
    assert runs <= {tally_server.run[:12]}


def test_a_named_server_that_is_not_there(project: Path):
    done = run(project, "test_visits.py::test_gone", "--tally-admin-url", "postgresql://x:y@127.0.0.1:1/postgres")
    assert done.returncode != 0
    assert "does not answer" in done.stdout
    assert "TS-2100" in done.stdout
