"""The ledger on a hardened database: its triggers act for the signed tenant and for no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.ledger.support import DAY, audit, books

from tallystick import Conflict, InsufficientFunds, Tallystick, usd
from tallystick.domains.ledger.transfers import transfer
from tallystick.privacy import tenant_key
from tallystick.schema.harden import harden
from tallystick.testing import KitServer

DOMAINS = ("identity", "ledger")


@pytest_asyncio.fixture(loop_scope="session", params=["session", "transaction"])
async def hardened(
    request: pytest.FixtureRequest, tally_server: KitServer, tally: Tallystick, tmp_path: Path
) -> AsyncIterator[Tallystick]:
    file = tmp_path / "tenant"
    key = tenant_key.create(file)
    name = await tally_server.clone(await tally_server.template(DOMAINS, (), ()), f"_ledger_{request.param}")
    await harden(tally_server.url("admin", name), key=key, roles=tally_server.roles)
    settings = replace(
        tally.settings,
        database_url=tally_server.url("app", name),
        admin_url=tally_server.url("admin", name),
        tenant_key_file=file,
        pooler=request.param,
    )
    async with Tallystick.open(settings=settings, domains=DOMAINS, keys=tally.keys) as app:
        yield app
    await tally_server.drop(name)


async def test_the_ledger_works_for_signed_tenants(hardened: Tallystick):
    await hardened.tenants.create("hard", name="Hard")
    async with hardened.session("hard", actor="test", permissions=("*",)) as db:
        cash, wallet = await books(db, stripes=2)
        await db.ledger.post([transfer(cash, wallet, usd("10"))], op="x", key="1", on=DAY)
        assert (await db.ledger.post([transfer(cash, wallet, usd("10"))], op="x", key="1", on=DAY)).replayed
        held = await db.ledger.pend([transfer(wallet, cash, usd("6"))], op="x", key="2", on=DAY)
        with pytest.raises(InsufficientFunds):
            await db.ledger.post([transfer(wallet, cash, usd("5"))], op="x", key="3", on=DAY)
        await db.ledger.settle(held.transfers[0], usd("5"), key="4", on=DAY)
        period = await db.ledger.periods.open(DAY, DAY)
        await db.ledger.periods.close(period.id)
        with pytest.raises(Conflict):
            await db.ledger.post([transfer(cash, wallet, usd("1"))], op="x", key="5", on=DAY)
        assert await db.ledger.balance(wallet) == usd("5")
        await audit(db)
