"""The conformance suite on PostgreSQL, over the built-in entities too."""

from __future__ import annotations

import pytest
from tests.entities import APART

from tallystick import Tallystick
from tallystick.domains.catalog import DOMAINS, entities_of
from tallystick.entity import spec_of
from tallystick.testing.conformance import ENTITIES, StoreConformance


@pytest.fixture(scope="session")
def store_app(tally: Tallystick) -> Tallystick:
    return tally


class TestPostgres(StoreConformance):
    # Entities with guards of their own are written through the operations of their domain, which have their own tests.
    entities = (*(e for e in entities_of(DOMAINS) if not spec_of(e).guards and e.__name__ not in APART), *ENTITIES)
