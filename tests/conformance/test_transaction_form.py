"""The suite where no session setting is trusted, as behind a transaction pooler: every statement is a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest_asyncio

from tallystick import Tallystick
from tallystick.testing.conformance.transacting import Transactions
from tallystick.testing.conformance.walls import Walls
from tallystick.testing.conformance.writing import Writing


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store_app(tally: Tallystick) -> AsyncIterator[Tallystick]:
    settings = replace(tally.settings, pooler="transaction")
    async with Tallystick.open(settings=settings, entities=tally.entities, keys=tally.keys) as app:
        assert not app.store.affine
        yield app


class TestTransactionForm(Writing, Transactions, Walls):
    pass
