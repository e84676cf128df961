"""The conformance suite on PostgreSQL, over the built-in entities too."""

from __future__ import annotations

import pytest

from tallystick import Tallystick
from tallystick.domains.catalog import DOMAINS, entities_of
from tallystick.testing.conformance import ENTITIES, StoreConformance


@pytest.fixture(scope="session")
def store_app(tally: Tallystick) -> Tallystick:
    return tally


class TestPostgres(StoreConformance):
    entities = (*entities_of(DOMAINS), *ENTITIES)
