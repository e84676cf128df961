"""T5: on Citus only settings made by SET LOCAL in an explicit transaction reach the workers. The SQL that is sent."""

from __future__ import annotations

import re

import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Errand, Holder, Parcel, Stage, holder, parcel
from tests.attacks.links import watch

from tallystick.domains.identity.tenants import TenantInfo

Pair = tuple[TenantInfo, TenantInfo]


async def recorded(ground: Ground, tenant: TenantInfo) -> list[str]:
    """Everything that a session sends which does one of each."""
    sent: list[str] = []
    async with ground.opened(engine="citus") as tally:
        await tally.ready()
        watch(tally, record=sent)
        async with tally.session(tenant, actor="x', true), set_config('tally.tenant','y") as db:
            home = await db[Holder].add(holder("home"))
            await db[Holder].upsert(holder("home"), on=Holder.code)
            row = await db[Parcel].add(parcel(home, "one"))
            rows = await db[Parcel].add_many([parcel(home, f"many {i}") for i in range(5)])
            assert {r.created_by for r in rows} == {"x', true), set_config('tally.tenant','y"}
            row = await db[Parcel].update(await db[Parcel].get(row.id), count=3)
            await db[Parcel].update_where(Parcel.count == 3, stage=Stage.HELD)
            assert await db[Parcel].count() == 6
            assert await db[Parcel].exists(Parcel.label == "one")
            await db[Parcel].page(limit=2)
            await db[Errand].add(Errand(what="one"))
            async for item in db[Errand].claim():
                async with item:
                    pass
            async with db.transaction():
                await db[Parcel].lock(row.id)
                async with db.transaction():
                    await db[Parcel].purge(row.id, reason="over")
            await db.consume("users")
            await db.tenant_record()
    return sent


async def test_t05_every_statement_is_in_an_explicit_transaction_with_its_settings(ground: Ground, pair: Pair) -> None:
    sent = await recorded(ground, pair[0])
    inside = settled = False
    for sql in sent:
        if sql.startswith("BEGIN"):
            assert sql == "BEGIN"
            assert not inside
            inside, settled = True, False
        elif sql in ("COMMIT", "ROLLBACK"):
            inside = False
        elif sql == "SELECT tally.set_tenant($1, $2)":
            assert inside
            assert not settled
            settled = True
        elif "tally_ref.tenant_by_slug" not in sql:
            # The registry has no tenant; everything else does.
            assert inside, sql
            assert settled, sql


@pytest.mark.own_connection
async def test_t05_settings_travel_in_a_message_of_their_own_and_bulk_writes_as_values(
    ground: Ground, pair: Pair
) -> None:
    sent = await recorded(ground, pair[0])
    assert not [s for s in sent if "tally.tenant" in s or "tally.actor" in s]
    assert not [s for s in sent if "unnest" in s]
    assert not [s for s in sent if re.search(r"INSERT INTO .* SELECT", s)]
    bulk = [s for s in sent if s.startswith("INSERT INTO tally.parcel") and s.count("::uuid") > 2]
    assert len(bulk) == 2
    assert all(s.count("VALUES") == 1 for s in bulk)
    tenant_tables = [s for s in sent if re.search(r"(FROM|UPDATE|INTO) tally\.\w+", s)]
    assert tenant_tables
    assert all("tenant_id = $1" in s or s.startswith("INSERT INTO") for s in tenant_tables), tenant_tables


async def test_t05_what_was_written_that_way_is_isolated_like_the_rest(ground: Ground, pair: Pair) -> None:
    await recorded(ground, pair[0])
    async with ground.opened(engine="citus") as tally, tally.session(pair[1], actor="b") as db:
        assert await db[Parcel].count() == await db[Holder].count() == 0
