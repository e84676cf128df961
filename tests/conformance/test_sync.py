"""The conformance suite through the synchronous facade: the same tests, each call made by a thread."""

from __future__ import annotations

import pytest

from tallystick import Tallystick
from tallystick.testing.conformance.paging import Paging
from tallystick.testing.conformance.transacting import Transactions
from tallystick.testing.conformance.walls import Walls
from tallystick.testing.conformance.writing import Writing


@pytest.fixture(scope="session")
def store_app(tally: Tallystick) -> Tallystick:
    return tally


class TestSync(Writing, Transactions, Walls, Paging):
    pass
