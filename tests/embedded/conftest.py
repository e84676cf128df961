"""Real servers in directories that are thrown away."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

import tallystick
from tallystick.settings import connect_args
from tallystick.stores.embedded import EmbeddedServer

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
SOURCE = Path(tallystick.__file__).parents[1]
PACKAGES = Path(asyncpg.__file__).parents[1]

CLIENT = """
import asyncio, os, signal, sys
from pathlib import Path
from tallystick.stores.embedded import EmbeddedServer

# A run that was started in the background of a shell ignores it, and so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main(directory, waits):
    server = await EmbeddedServer.start(Path(directory) if directory else None)
    print(server._cluster.system_identifier(), server._cluster.postmaster(), server.data_dir, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    if waits == "stop":
        await server.stop()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


class Client:
    """Another process that uses a server until its standard input ends."""

    def __init__(
        self,
        directory: Path | None,
        *,
        python: str = sys.executable,
        cwd: Path | None = None,
        ending: str = "stop",
        user: int | None = None,
        group: int | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [python, "-c", CLIENT, str(directory or ""), ending],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{SOURCE}:{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )

    def started(self) -> tuple[int, int, Path]:
        """Wait for the server: its system identifier, the process and the directory."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        identifier, postmaster, directory = line.split(" ", 2)
        return int(identifier), int(postmaster), Path(directory)

    def finish(self) -> str:
        """End the input, wait, and return what was written to standard error."""
        _, errors = self.process.communicate("\n", timeout=120)
        return errors


async def value(url: str, query: str, *arguments: object) -> object:
    """One value over a fresh connection."""
    connection = await asyncpg.connect(**connect_args(url))
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


def running(process: int) -> bool:
    """True when a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account may enter, as ``tmp_path`` is not; what servers left in it is removed."""
    made = Path(tempfile.mkdtemp(prefix="tally-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedServer]:
    started = await EmbeddedServer.start(temporary=True)
    yield started
    await started.stop()


@contextlib.asynccontextmanager
async def serving(directory: Path, **options: object) -> AsyncIterator[EmbeddedServer]:
    """A server that is stopped whatever happens."""
    started = await EmbeddedServer.start(directory, **options)  # type: ignore[arg-type]
    try:
        yield started
    finally:
        await started.stop(force=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
needs_15 = pytest.mark.skipif(not DEBIAN_15.exists(), reason="Debian's PostgreSQL 15 is not installed")
