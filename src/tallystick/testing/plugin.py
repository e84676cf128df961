"""The pytest plugin: options, and what the workers of one run share. Fixtures are in ``fixtures.py``.

pytest imports this module in every environment that has Tallystick installed, so it imports nothing but pytest.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

# Tests that live outside test modules get pytest's assertions too.
pytest.register_assert_rewrite("tallystick.testing.conformance")

RUN = pytest.StashKey[str]()
WORKER = pytest.StashKey[str]()
ADMIN_URL = "TALLYSTICK_TEST_ADMIN_URL"
BINARIES = "TALLYSTICK_TEST_BINARIES"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that say which PostgreSQL the tests run on, and how factories are seeded."""
    group = parser.getgroup("tallystick")
    group.addoption(
        "--tally-binaries",
        metavar="DIR",
        type=Path,
        default=None,
        help=f"run the tests' server from another PostgreSQL's bin directory (15 or later); else ${BINARIES}",
    )
    group.addoption(
        "--tally-admin-url",
        metavar="URL",
        default=None,
        help="use a server that runs already, as a role that may create databases and roles; "
        f"else ${ADMIN_URL}; databases are made beside what is there and dropped at the end",
    )
    group.addoption(
        "--tally-seed", metavar="N", type=int, default=0, help="another seed for factories (each test has its own)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Agree on a name for the run, and offer the fixtures where asynchronous ones can run."""
    config.addinivalue_line("markers", "tally_needs(*capabilities): what a store must be able to do for this test")
    shared = getattr(config, "workerinput", None) or {}
    config.stash[RUN] = shared.get("tally_run") or uuid4().hex
    config.stash[WORKER] = shared.get("workerid") or "main"
    if find_spec("pytest_asyncio") is not None:
        from tallystick.testing import fixtures

        config.pluginmanager.register(fixtures, "tallystick.testing.fixtures")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each xdist worker which run it belongs to."""
    node.workerinput["tally_run"] = node.config.stash[RUN]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what workers that were killed have left of this run's server."""
    if hasattr(config, "workerinput") or RUN not in config.stash:
        return
    from tallystick.testing.places import directory_of

    if directory_of(config.stash[RUN]).exists():
        from tallystick.testing.server import clear_away

        clear_away(directory_of(config.stash[RUN]))


def admin_url(config: pytest.Config) -> str | None:
    """The server that was named, if any."""
    return config.getoption("--tally-admin-url") or os.environ.get(ADMIN_URL) or None


def binaries(config: pytest.Config) -> Path | None:
    """The bin directory that was named, if any."""
    named = config.getoption("--tally-binaries") or os.environ.get(BINARIES)
    return Path(named) if named else None
