"""The suite on a hardened database, with the session's signed tenant and with one in every transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tallystick import Tallystick
from tallystick.privacy import tenant_key
from tallystick.schema.harden import harden
from tallystick.testing import KitServer
from tallystick.testing.conformance import ENTITIES
from tallystick.testing.conformance.transacting import Transactions
from tallystick.testing.conformance.walls import Walls
from tallystick.testing.conformance.writing import Writing

DOMAINS = ("identity", "underwriting")


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["session", "transaction"])
async def store_app(
    request: pytest.FixtureRequest, tally_server: KitServer, tally: Tallystick, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Tallystick]:
    file = tmp_path_factory.mktemp("keys") / "tenant"
    key = tenant_key.create(file)
    template = await tally_server.template(DOMAINS, ENTITIES, ())
    name = await tally_server.clone(template, f"_hard_{request.param}")
    await harden(tally_server.url("admin", name), key=key, roles=tally_server.roles)
    settings = replace(
        tally.settings,
        database_url=tally_server.url("app", name),
        admin_url=tally_server.url("admin", name),
        tenant_key_file=Path(file),
        pooler=request.param,
    )
    async with Tallystick.open(settings=settings, domains=DOMAINS, entities=ENTITIES, keys=tally.keys) as app:
        assert app.store.signed
        yield app
    await tally_server.drop(name)


class TestHardened(Writing, Transactions, Walls):
    pass
