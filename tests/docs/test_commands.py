"""Every command that the documentation names exists, with the options that it is given there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer import Context
from typer.main import get_command

from tallystick.cli.commands import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^ *(?:[A-Z_]+=\S+ +)*tallystick (.+)$", re.MULTILINE)
# A name with a digit, `tallystick req-71`, is a connection's and no command's.
INLINE = re.compile(r"(?<!`)`(?:[A-Z_]+=\S+ )?tallystick\s(?!\S*\d)([^`]+)`")


def commands(text: str) -> Iterator[str]:
    """What follows ``tallystick`` in shell blocks, indented lines and between backticks, without remarks."""
    for kind, block in FENCE.findall(text):
        if kind in ("", "sh"):
            yield from LINE.findall(block)
    prose = FENCE.sub("", text)
    yield from (found for found in LINE.findall(prose) if "`" not in found)
    yield from (" ".join(found.split()) for found in INLINE.findall(prose))


def test_commands_exist() -> None:
    root = get_command(app)
    context = Context(root)
    looked_at = 0
    for page in PAGES:
        for line in commands(page.read_text()):
            told = f"{page.relative_to(ROOT)}: tallystick {line}"
            words = shlex.split(re.split(r" {2,}| #", line)[0], posix=False)
            command: Any = root
            for word in words:
                if not hasattr(command, "get_command"):
                    break
                found = command.get_command(context, word)
                assert found is not None or word == "COMMAND" or (command is not root and word in (",", "...")), told
                if found is None:
                    break
                command = found
            known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            for word in words:
                if word.startswith("-"):
                    assert word.split("=")[0] in {*known, "--help", "--version"}, f"{told}: no option {word}"
            looked_at += 1
    assert looked_at > 60
