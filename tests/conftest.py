"""Fixtures of the whole suite: the testing kit's own, with the tests' entities."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tallystick import Entity

# Installed, the plugin registers itself; from a bare checkout it has to be named.
if not any(e.value == "tallystick.testing.plugin" for e in entry_points(group="pytest11")):
    pytest_plugins = ["tallystick.testing.plugin"]


# A busy machine is not a broken law.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(scope="session")
def tally_entities() -> Sequence[type[Entity]]:
    from tests.entities import ALL

    return ALL


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server-only", action="store_true", help="only the tests that run on the kit's server, for another PostgreSQL"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Folders of which the second server runs nothing need not be read for it."""
    return True if config.getoption("--server-only") and collection_path.name in _ONCE else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--server-only"):
        kept = [item for item in items if "tally_server" in getattr(item, "fixturenames", ()) and _again(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def pytest_collection_finish() -> None:
    """Thousands of tests are no garbage: whoever collects it, as benchmarks do before each turn, need not look."""
    gc.collect()
    gc.freeze()


# What they ask is answered in Python or by published numbers, or asked again by races, attacks and conformance tests,
# which do run twice: each domain's operations are among those.
_ONCE = frozenset(
    {
        *("badinput", "cli", "docs", "examples", "properties", "reference", "unit"),
        *("community", "identity", "lending", "proofs", "reputation", "savings", "underwriting", "vaults"),
    }
)


def _again(item: pytest.Item) -> bool:
    """Whether a test runs on the second server too: what a server decides, of a race the first repeat, no crash."""
    parts = frozenset(item.path.relative_to(item.config.rootpath).parts)
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    repeat = parameters.get("_", parameters.get("repeat", 0))
    again = "races" in parts and ((isinstance(repeat, int) and repeat > 0) or "crash" in item.path.name)
    return not parts & _ONCE and not again
