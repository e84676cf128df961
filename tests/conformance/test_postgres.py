"""The conformance suite on PostgreSQL, over the built-in entities too."""

from __future__ import annotations

import pytest

from tallystick import Tallystick
from tallystick.domains.catalog import DOMAINS, entities_of
from tallystick.entity import spec_of
from tallystick.testing.conformance import ENTITIES, StoreConformance

APART = {"LenderPayout", "Bid", "BehaviorSession"}


@pytest.fixture(scope="session")
def store_app(tally: Tallystick) -> Tallystick:
    return tally


class TestPostgres(StoreConformance):
    # Entities with guards of their own are written through the operations of their domain, which have their own tests;
    # a payout and a bid are about one of them, and a session that is over is not updated at will.
    entities = (*(e for e in entities_of(DOMAINS) if not spec_of(e).guards and e.__name__ not in APART), *ENTITIES)
