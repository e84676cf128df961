"""The pins: one exact version for everything that the project names, and nothing else in the file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def _pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", line), f"{line!r} is not a name and a version"
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    return {canonicalize_name(name): version for name, version in pins.items()}


@pytest.mark.parametrize("extra", ["", "local", "test", "bench"])
def test_what_the_project_asks_for_is_pinned_and_allowed(extra: str) -> None:
    pins = _pins()
    for text in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        wanted = Requirement(text)
        if wanted.name != PROJECT["name"]:
            assert pins[canonicalize_name(wanted.name)] in wanted.specifier, text
