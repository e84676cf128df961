"""Fixtures of the whole suite: the testing kit's own, with the tests' entities."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

import pytest

from tallystick import Entity

# Installed, the plugin registers itself; from a bare checkout it has to be named.
if not any(e.value == "tallystick.testing.plugin" for e in entry_points(group="pytest11")):
    pytest_plugins = ["tallystick.testing.plugin"]


@pytest.fixture(scope="session")
def tally_entities() -> Sequence[type[Entity]]:
    from tests.entities import ALL

    return ALL
