"""One embedded server for the tests of the command line, held for the run so that each command joins it quickly."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tallystick.cli.entry import execute
from tallystick.stores.embedded.server import EmbeddedServer

_FOREIGN = ("DATABASE_", "POSTGRES_", "DB_", "TALLYSTICK_", "COLUMNS", "NO_COLOR", "FORCE_COLOR")


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Said]
_PLANTED: set[Path] = set()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(_FOREIGN) and not name.startswith("TALLYSTICK_TEST_"):
            monkeypatch.delenv(name)


def folder() -> Path:
    """A directory that a server run by another account can reach, which pytest's own are not."""
    made = Path(tempfile.mkdtemp(prefix="tallystick-cli-"))
    made.chmod(0o711)
    return made


@pytest.fixture
def fresh() -> Iterator[Path]:
    """An empty directory for a server of the test's own."""
    made = folder()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """A server in a directory of its own, not migrated."""
    made = folder()
    held = asyncio.run(EmbeddedServer.start(made))
    yield held
    asyncio.run(held.stop())
    shutil.rmtree(made)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process."""

    def run(*arguments: str) -> Said:
        capfd.readouterr()
        code = execute(arguments)
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return run


@pytest.fixture
def data_dir(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The held server's directory, named in the environment, migrated and with the seeds in it."""
    monkeypatch.setenv("TALLYSTICK_DATA_DIR", str(server.data_dir))
    if server.data_dir not in _PLANTED:
        assert execute(["init"]) == 0
        assert execute(["seed"]) == 0
        _PLANTED.add(server.data_dir)
    return server.data_dir


def process(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The command line as a process of its own, with nothing but what it is told in its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME", "TMPDIR") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "tallystick.cli", *arguments],
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
