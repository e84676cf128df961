"""The suite where no session setting is trusted, behind a real pooler and without: each statement is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio
from tests.bouncer import Behind

from tallystick import Tallystick
from tallystick.testing.conformance.transacting import Transactions
from tallystick.testing.conformance.walls import Walls
from tallystick.testing.conformance.writing import Writing


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["direct", "pgbouncer"])
async def store_app(
    request: pytest.FixtureRequest, tally: Tallystick, pooled: Callable[[], Behind]
) -> AsyncIterator[Tallystick]:
    settings = replace(tally.settings, pooler="transaction")
    if request.param == "pgbouncer":
        settings = pooled().settings(settings)
    async with Tallystick.open(settings=settings, entities=tally.entities, keys=tally.keys) as app:
        assert not app.store.affine
        yield app


class TestTransactionForm(Writing, Transactions, Walls):
    pass
