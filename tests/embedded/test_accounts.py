"""Root, ordinary users, and directories that one of them made."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.errors import Invalid, Unavailable
from tallystick.stores.embedded import EmbeddedServer
from tallystick.stores.embedded.account import Account
from tallystick.stores.embedded.binaries import SYSTEM_ROOT

from .conftest import PACKAGES, SOURCE, Client, needs_root, running, serving, value

pytestmark = needs_root


@pytest.fixture(scope="module")
def ordinary() -> pwd.struct_passwd:
    """Somebody who is neither root nor the account that root's servers run as."""
    servers = Account.current()
    for entry in pwd.getpwall():
        if entry.pw_uid not in {0, servers.uid} and (entry.pw_uid >= 1000 or entry.pw_name == "nobody"):
            return entry
    pytest.skip("there is no ordinary account here")


@pytest.fixture(scope="module")
def python(ordinary: pwd.struct_passwd) -> str:
    """A Python that the ordinary account may run, with this library in it."""
    for candidate in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [candidate, "-c", "import asyncpg, msgspec, tallystick.stores.embedded"],
                user=ordinary.pw_uid,
                group=ordinary.pw_gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                check=False,
                env={"PYTHONPATH": f"{SOURCE}:{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    pytest.skip("the ordinary account may not run a Python that has this library")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def uid_of(process: int) -> int:
    return Path(f"/proc/{process}").stat().st_uid


async def test_root_runs_the_server_as_somebody_else_and_keeps_the_secrets(place: Path) -> None:
    async with serving(place / "data", temporary=True) as server:
        process = server._cluster.postmaster()
        assert process is not None
        assert uid_of(process) == Account.current().uid != 0
        assert server.data_dir == place / "data"
        owners = {entry.name: entry.stat().st_uid for entry in server.data_dir.iterdir()}
        assert {name for name, owner in owners.items() if owner != 0} == {"cluster", "socket"}
        assert mode(server.data_dir) == 0o711
        assert mode(server.data_dir / "passwords.json") == 0o600


async def test_a_private_home_is_never_opened_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = place / "private"
    project = home / "my project"
    project.mkdir(parents=True)
    home.chmod(0o700)
    project.chmod(0o755)
    monkeypatch.chdir(project)
    async with await EmbeddedServer.start() as server:
        assert server.data_dir.parent == SYSTEM_ROOT / "data"
        assert await value(server.url("admin"), "SELECT 1") == 1
        kept = server.data_dir
        # Whoever names the directory gets the same server.
        async with await EmbeddedServer.start(project / ".tallystick") as same:
            assert same.url("admin") == server.url("admin")
    try:
        assert (mode(home), mode(project)) == (0o700, 0o755)
        assert sorted(entry.name for entry in (project / ".tallystick").iterdir()) == [".gitignore", "location"]
        # The pointer goes where the project goes.
        monkeypatch.chdir(place)
        shutil.move(project, place / "moved")
        monkeypatch.chdir(place / "moved")
        async with await EmbeddedServer.start() as server:
            assert server.data_dir == kept
    finally:
        shutil.rmtree(kept)


async def test_a_strict_umask_does_not_lock_the_server_out(place: Path) -> None:
    before = os.umask(0o077)
    try:
        async with serving(place / "new" / "deep" / "data") as server:
            assert await server.alive()
    finally:
        os.umask(before)


async def test_a_planted_pointer_is_not_followed(place: Path) -> None:
    (place / "data").mkdir()
    for target in ("/etc", "../..", str(SYSTEM_ROOT / "data" / ".." / ".." / "x"), ""):
        (place / "data" / "location").write_text(target)
        with pytest.raises(Invalid, match="does not point"):
            await EmbeddedServer.start(place / "data")


async def test_an_ordinary_user_runs_it_in_the_project(place: Path, ordinary: pwd.struct_passwd, python: str) -> None:
    project = place / "proj ect"
    project.mkdir()
    os.chown(project, ordinary.pw_uid, ordinary.pw_gid)
    client = Client(None, python=python, cwd=project, user=ordinary.pw_uid, group=ordinary.pw_gid)
    _, postmaster, directory = await asyncio.to_thread(client.started)
    assert uid_of(postmaster) == ordinary.pw_uid
    assert directory == project / ".tallystick"
    assert mode(directory) == 0o700
    # The programs are run where pip put them.
    assert Path(os.readlink(f"/proc/{postmaster}/exe")).is_relative_to(PACKAGES)
    # Root may join, and leaves nothing behind that shuts the owner out.
    async with await EmbeddedServer.start(directory) as server:
        assert server._cluster.postmaster() == postmaster
        assert await asyncio.to_thread(client.finish) == ""
        os.kill(postmaster, 9)
        await server.recover()
        process = server._cluster.postmaster()
        assert process is not None
        assert uid_of(process) == ordinary.pw_uid
    assert {entry.stat().st_uid for entry in directory.rglob("*")} == {ordinary.pw_uid}
    again = Client(None, python=python, cwd=project, user=ordinary.pw_uid, group=ordinary.pw_gid)
    _, postmaster, _ = await asyncio.to_thread(again.started)
    assert await asyncio.to_thread(again.finish) == ""
    assert not running(postmaster)


async def test_an_ordinary_user_cannot_take_roots_server(place: Path, ordinary: pwd.struct_passwd, python: str) -> None:
    async with serving(place / "data", temporary=True):
        client = Client(place / "data", python=python, cwd=place, user=ordinary.pw_uid, group=ordinary.pw_gid)
        errors = await asyncio.to_thread(client.finish)
        assert "tallystick.errors.Unavailable: [TS-2100] This account may not use" in errors


async def test_a_place_that_cannot_be_written_is_a_typed_error(
    place: Path, ordinary: pwd.struct_passwd, python: str
) -> None:
    client = Client(None, python=python, cwd=place, user=ordinary.pw_uid, group=ordinary.pw_gid)
    errors = await asyncio.to_thread(client.finish)
    assert "tallystick.errors.Unavailable: [TS-2100] This account may not use" in errors
    assert "TALLYSTICK_DATA_DIR" in errors


async def test_without_any_unprivileged_account_root_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    with pytest.raises(Unavailable) as caught:
        await EmbeddedServer.start(temporary=True)
    assert "useradd" in caught.value.remedy
