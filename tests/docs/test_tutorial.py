"""The tutorial is followed as it is written: files saved, commands run, what it shows compared with what comes."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import runpy
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from tests import entities
from tests.adoption.serving import served

from tallystick.cli.entry import execute
from tallystick.stores.embedded.server import EmbeddedServer

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(python|ini|sh|text)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FILES = {code.split("\n", 1)[0].removeprefix("# "): code for kind, code in BLOCKS if kind in ("python", "ini")}
_FOREIGN = ("DATABASE_", "POSTGRES_", "DB_", "TALLYSTICK_", "COLUMNS", "NO_COLOR", "FORCE_COLOR")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The newcomer's folder with every file in it, on an embedded server that is held between the commands."""
    for name in [n for n in os.environ if n.startswith(_FOREIGN)]:
        monkeypatch.delenv(name)
    made = Path(tempfile.mkdtemp(prefix="tallystick-tutorial-"))
    made.chmod(0o711)
    for name, code in FILES.items():
        (made / name).write_text(code)
    monkeypatch.chdir(made)
    monkeypatch.setenv("TALLYSTICK_DATA_DIR", str(made / "data"))
    monkeypatch.syspath_prepend(str(made))
    held = asyncio.run(EmbeddedServer.start(made / "data"))
    try:
        yield made
    finally:
        asyncio.run(held.stop())
        _forget()
        shutil.rmtree(made)


def _forget() -> None:
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def _run(line: str, key: str) -> None:
    program, *arguments = shlex.split(line.replace("tallystick/…", key))
    _forget()
    if program == "python":
        runpy.run_path(arguments[0], run_name="__main__")
    elif program == "tallystick":
        assert execute(arguments) == 0
    else:
        asyncio.run(_asked(arguments))


async def _asked(arguments: list[str]) -> None:
    """What curl prints, of the application that the block before started."""
    url, *headers = (a for a in arguments if a != "-H")
    async with (
        served(importlib.import_module("api").app) as base,
        httpx.AsyncClient(headers=dict(h.split(": ", 1) for h in headers)) as client,
    ):
        print((await client.get(url.replace("http://127.0.0.1:8000", base))).text)


def test_what_is_shown_is_what_comes(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key, commands, compared = "", [], 0
    for kind, text in BLOCKS:
        if kind == "sh":
            commands = [line for line in text.splitlines() if line.startswith(("python ", "tallystick ", "curl "))]
        elif kind == "text" and commands:
            capfd.readouterr()
            for line in commands:
                _run(line, key)
            out = capfd.readouterr().out
            key = next(iter(re.findall(r"verify with this key: (\S+)", out)), key)
            assert re.fullmatch(re.escape(text.strip()).replace("…", ".*?"), out.strip(), re.DOTALL), out
            compared += len(commands)
            commands = []
    assert compared == 12


async def test_its_tests_pass(db: Any, make: Any, race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the suite's server, whose Visit has all that the tutorial's has."""
    monkeypatch.setitem(sys.modules, "visits", entities)
    module = ModuleType("test_credit")
    exec(FILES["test_credit.py"], module.__dict__)
    await module.test_a_visit_is_planned_first(db, make)
    await module.test_a_payment_counts_once(db, make, race)
