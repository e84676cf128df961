"""T9, T10, T11: what keys and constraints, which know no policies, could let through."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import ENTITIES, Holder, Parcel, holder, parcel

from tallystick import Ref, User, uuid7
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import Duplicate, StillReferenced, UnknownReference, WrongTenant

Pair = tuple[TenantInfo, TenantInfo]


async def test_t09_a_foreign_id_in_a_reference_is_told_like_one_that_does_not_exist(ground: Ground, pair: Pair) -> None:
    mine, other = pair
    async with ground.tally.session(other, actor="b") as db:
        theirs = await db[Holder].add(holder("theirs"))
    async with ground.tally.session(mine, actor="a") as db:
        home = await db[Holder].add(holder("home"))
        row = await db[Parcel].add(parcel(home, "row"))
        told = []
        for id in (theirs.id, uuid7()):
            for attempt in (
                lambda id=id: db[Parcel].add(parcel(id, "planted")),
                lambda id=id: db[Parcel].add_many([parcel(home, "a"), parcel(id, "b")]),
                lambda id=id: db[Parcel].upsert(parcel(id, "planted"), on=Parcel.label),
                lambda id=id: db[Parcel].update(row, holder=Ref(id)),
                lambda id=id: db[Parcel].update(row, holder=id),
                lambda id=id: db[Parcel].update_where(Parcel.label == "row", holder=Ref(id)),
            ):
                with pytest.raises(UnknownReference) as caught:
                    await attempt()
                told.append((str(caught.value), caught.value.entity, caught.value.field, caught.value.args))
                assert str(id) not in f"{caught.value} {caught.value!r}"
        half = len(told) // 2
        assert told[:half] == told[half:]
        assert await db[Parcel].count() == 1
        # What the client itself can see is told as what it is.
        with pytest.raises(WrongTenant):
            await db[Parcel].add(parcel(theirs, "planted"))
        with pytest.raises(WrongTenant):
            await db[Parcel].update(row, holder=theirs.ref)
        assert await db[Parcel].count() == 1


async def test_t09_no_row_can_point_across_tenants_even_past_every_policy(ground: Ground, pair: Pair) -> None:
    mine, other = pair
    async with ground.tally.session(other, actor="b") as db:
        theirs = await db[Holder].add(holder("theirs"))
    async with ground.connected("superuser") as connection:
        await connection.execute(f"SET tally.tenant = '{mine.id}'; SET tally.actor = 'root'")
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.execute(
                "INSERT INTO tally.parcel (tenant_id, id, holder_id, label, is_open, count, stage, document, tags, "
                "fee, asset) VALUES ($1, $2, $3, 'x', true, 0, 'open', '{}', '[]', 1, 'USD')",
                mine.id,
                uuid4(),
                theirs.id,
            )


async def test_t09_t10_every_foreign_key_carries_the_tenant_and_none_acts(ground: Ground) -> None:
    async with ground.connected("superuser") as connection:
        rows = await connection.fetch(
            "SELECT k.conname, k.conrelid::regclass::text AS source, k.confrelid::regclass::text AS target, "
            "k.confdeltype::text || k.confupdtype::text AS action, k.convalidated, "
            "ARRAY(SELECT a.attname::text FROM unnest(k.conkey) u JOIN pg_attribute a ON a.attrelid = k.conrelid "
            "AND a.attnum = u) AS columns, ARRAY(SELECT a.attname::text FROM unnest(k.confkey) u JOIN pg_attribute a "
            "ON a.attrelid = k.confrelid AND a.attnum = u) AS targets "
            "FROM pg_constraint k WHERE k.contype = 'f' AND k.connamespace = 'tally'::regnamespace"
        )
    assert len(rows) > 15
    for row in rows:
        assert row["action"] == "aa"
        assert row["convalidated"]
        assert row["columns"][0] == "tenant_id"
        if row["target"] != "tally_ref.tenant":
            assert row["targets"][:2] == ["tenant_id", "id"], row


async def test_t10_nothing_is_removed_with_the_row_it_refers_to(ground: Ground, pair: Pair) -> None:
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            home = await db[Holder].add(holder("home"))
            await db[Parcel].add(parcel(home, "one"))
            with pytest.raises(StillReferenced):
                await db[Holder].purge(home, reason="gone")
            with pytest.raises(StillReferenced):
                await db[Holder].purge_where(Holder.code == "home", reason="gone")
            assert await db[Holder].count() == await db[Parcel].count() == 1
    async with ground.connected("superuser") as connection:
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.execute("DELETE FROM tally_ref.tenant WHERE id = $1", pair[0].id)


async def test_t11_the_same_values_are_free_in_every_tenant(ground: Ground, pair: Pair) -> None:
    """A unique rule across tenants would answer whether somebody is another lender's customer."""
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            await db.users.add(User(email="ada@example.org"))
            home = await db[Holder].add(holder("code", email="ada@example.org"))
            await db[Parcel].add(parcel(home, "label"))
            await db[Holder].upsert(holder("code", email="other@example.org"), on=Holder.code)
            await db[Holder].upsert(holder("code", email="other@example.org"), on=Holder.email)
            with pytest.raises(Duplicate):
                await db.users.add(User(email="ADA@example.org"))
            with pytest.raises(Duplicate):
                await db[Parcel].add(parcel(home, "label"))
    # Not even the same id is taken: it is another row.
    id = uuid7()
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            await db[Holder].add(holder("same id", id=id))


async def test_t11_every_unique_index_starts_with_the_tenant(ground: Ground) -> None:
    async with ground.connected("superuser") as connection:
        rows = await connection.fetch(
            "SELECT i.indexrelid::regclass::text AS name, (SELECT attname::text FROM pg_attribute "
            "WHERE attrelid = i.indrelid AND attnum = i.indkey[0]) AS first FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'tally'::regnamespace"
        )
    assert len(rows) > len(ENTITIES) * 2
    assert {row["first"] for row in rows} == {"tenant_id"}


async def test_t11_equal_secrets_of_two_tenants_do_not_look_equal(ground: Ground, pair: Pair) -> None:
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            await db[Holder].add(holder("one", email="same@example.org", name="Same"))
    async with ground.connected("superuser") as connection:
        rows = await connection.fetch(
            "SELECT email, email_bidx, name FROM tally.holder WHERE tenant_id = ANY ($1)", [t.id for t in pair]
        )
    one, other = rows
    assert all(one[column] != other[column] for column in ("email", "email_bidx", "name"))
