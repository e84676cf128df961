"""T6, hardened: a database that believes signed tenants only, so that SQL that is injected cannot switch to another."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import func, select
from tests.attacks.conftest import KEY, SIGN, Ground
from tests.attacks.entities import Errand, Holder, Parcel, Stage, Trail, holder, parcel
from tests.attacks.test_t01_unset import LOUD, UNSET, tenant_tables

from tallystick import secret
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import QuotaExceeded, TenantMissing, Unsupported
from tallystick.privacy import tenant_key
from tallystick.seeds import plant

Pair = tuple[TenantInfo, TenantInfo]


def bad_mac(id: UUID, mac: bytes) -> str:
    return f"{id}.{mac.hex()}"


FORGED = {
    "bare": lambda mine, other: str(other),
    "one's own, bare": lambda mine, other: str(mine),
    "another's signature": lambda mine, other: f"{other}.{SIGN(mine)[37:]}",
    "one's own signature, other dash": lambda mine, other: f"{other}{SIGN(mine)[36:]}",
    "truncated by one": lambda mine, other: SIGN(other)[:-1],
    "truncated to the dot": lambda mine, other: SIGN(other)[:37],
    "longer by one": lambda mine, other: SIGN(other) + "0",
    "a space more": lambda mine, other: SIGN(other) + " ",
    "no dot": lambda mine, other: SIGN(other).replace(".", ":"),
    "capital digits": lambda mine, other: f"{other}.{SIGN(other)[37:].upper()}",
    "capital id": lambda mine, other: f"{str(other).upper()}.{SIGN(other)[37:]}",
    "nothing signed": lambda mine, other: bad_mac(other, bytes(32)),
    "another key": lambda mine, other: tenant_key.signer(bytes(reversed(KEY)))(other),
    "no key": lambda mine, other: bad_mac(other, hashlib.sha256(str(other).encode()).digest()),
    "an empty key": lambda mine, other: bad_mac(other, hmac.digest(b"", str(other).encode(), "sha256")),
    "the id's bytes": lambda mine, other: bad_mac(other, hmac.digest(KEY, other.bytes, "sha256")),
    "another hash": lambda mine, other: f"{other}.{hmac.new(KEY, str(other).encode(), 'sha512').hexdigest()[:64]}",
    "both": lambda mine, other: f"{SIGN(mine)},{SIGN(other)}",
    "bytes for characters": lambda mine, other: f"{other}." + "\u00e9" * 32,
    "SQL": lambda mine, other: f"{other}.' OR true --",
}


async def refused_everywhere(connection: asyncpg.Connection, tables: list[tuple[str, str]], tenant: UUID) -> None:
    """No verb answers on any table, nor any function that works for the caller's tenant."""
    loud = (*LOUD, asyncpg.InsufficientPrivilegeError)
    for table, changed in tables:
        for statement in (
            f"SELECT * FROM tally.{table}",
            f"SELECT count(*) FROM tally.{table} WHERE tenant_id = '{tenant}'",
            f"UPDATE tally.{table} SET {changed} = {changed}",
            f"DELETE FROM tally.{table}",
            f"INSERT INTO tally.{table} (tenant_id, id) VALUES ('{tenant}', gen_random_uuid())",
        ):
            if table in ("usage", "key_state") and "INSERT" in statement:
                continue
            with pytest.raises(loud):
                await connection.fetch(statement)
    for call in (
        "tally_sec.current_tenant()",
        "tally_ref.tenant_self()",
        'tally_ref.tenant_update(\'{"name": "Taken"}\')',
        "tally.consume('users', '2026-01-01', 1, 10)",
    ):
        with pytest.raises(LOUD):
            await connection.fetch(f"SELECT * FROM {call}")


@pytest.mark.parametrize("role", ["app", "owner"])
@pytest.mark.parametrize("how", FORGED)
async def test_t06_a_forged_tenant_is_refused_for_every_verb(hard: Ground, two: Pair, how: str, role: str) -> None:
    mine, other = two
    async with hard.connected(role) as connection, hard.connected("owner") as owner:
        tables = await tenant_tables(owner)
        await connection.execute("SELECT set_config('tally.actor', 'thief', false)")
        await connection.execute("SELECT set_config('tally.tenant', $1, false)", FORGED[how](mine.id, other.id))
        await refused_everywhere(connection, tables, other.id)
    async with hard.tally.session(other, actor="other") as db:
        assert [h.code for h in await db[Holder].find()] == [other.slug[:40]]


@pytest.mark.parametrize("how", UNSET)
async def test_t06_no_tenant_is_refused_as_ever(hard: Ground, two: Pair, how: str) -> None:
    async with hard.connected("app") as connection, hard.connected("owner") as owner:
        tables = await tenant_tables(owner)
        for statement in UNSET[how].split(";"):
            await connection.execute(statement)
        await refused_everywhere(connection, tables, two[0].id)


async def test_t06_injection_that_sets_another_tenant_gains_nothing(hard: Ground, two: Pair) -> None:
    """Raw SQL of the application's own, with the tenant as the library would set it, and a statement too many."""
    mine, other = two
    async with hard.connected("app") as connection:
        await connection.execute(
            "SELECT set_config('tally.tenant', $1, false)", hard.tally.store.tenant_setting(mine.id)
        )
        assert await connection.fetchval("SELECT code FROM tally.holder") == mine.slug[:40]
        for injected in (
            f"SET tally.tenant = '{other.id}'",
            f"SELECT set_config('tally.tenant', '{other.id}', false)",
            f"SELECT set_config('tally.tenant', '{other.id}' || substr(current_setting('tally.tenant'), 37), false)",
            f"BEGIN; SELECT tally.set_tenant('{other.id}', 'thief'); COMMIT; SET tally.tenant = '{other.id}'",
        ):
            await connection.execute(injected)
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                await connection.fetch("SELECT * FROM tally.holder")
        async with connection.transaction():
            await connection.execute("SELECT tally.set_tenant($1, 'thief')", other.id)
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                async with connection.transaction():
                    await connection.fetch("SELECT * FROM tally.holder")


async def test_t06_the_key_and_what_signs_are_out_of_reach(hard: Ground, two: Pair) -> None:
    other = two[1].id
    pads = tenant_key.pads(KEY)
    async with hard.connected("owner") as owner:
        await owner.execute("ANALYZE tally_sec.tenant_key")
    async with hard.connected("app") as connection:
        for attack in (
            "SELECT * FROM tally_sec.tenant_key",
            "SELECT count(*) FROM tally_sec.tenant_key",
            "UPDATE tally_sec.tenant_key SET only_one = true",
            "INSERT INTO tally_sec.tenant_key VALUES (true, '', '')",
            "DELETE FROM tally_sec.tenant_key",
            "TRUNCATE tally_sec.tenant_key",
            "DROP TABLE tally_sec.tenant_key",
            "COPY tally_sec.tenant_key TO STDOUT",
            "CREATE TABLE tally_sec.tenant_key2 ()",
            "CREATE TEMP TABLE tenant_key (inner_pad bytea); CREATE SCHEMA mine",
            f"SELECT tally_sec.token('{other}')",
            "SELECT tally_sec.fit_policies()",
            "ALTER POLICY tenant_rw ON tally.holder USING (true)",
            "CREATE OR REPLACE FUNCTION tally_sec.current_tenant() RETURNS uuid LANGUAGE sql RETURN gen_random_uuid()",
            f"SET ROLE {hard.server.roles.owner}",
        ):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.DuplicateTableError)):
                await connection.execute(attack)
        told = await connection.fetch("SELECT prosrc FROM pg_proc WHERE pronamespace = 'tally_sec'::regnamespace")
        told += await connection.fetch("SELECT s::text FROM pg_stats s WHERE tablename = 'tenant_key'")
        assert not [row for row in told if any(p.hex()[:16] in str(row[0]) for p in pads)]


@pytest.mark.parametrize("pooler", ["session", "transaction"])
async def test_t06_nobody_reads_a_signature_over_anothers_shoulder(
    hard: Ground, two: Pair, key_file: Path, pooler: str
) -> None:
    """Connections of one role see each other's statements in pg_stat_activity; a signature is never in one."""
    other = two[1]
    seen: set[str] = set()
    async with hard.connected("app") as thief, hard.opened(tenant_key_file=key_file, pooler=pooler) as tally:

        async def look() -> None:
            rows = await thief.fetch("SELECT pid, query FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            seen.update(r["query"] for r in rows if r["query"])

        async with tally.session(other, actor="other") as db:
            await db[Holder].count()
            await look()
            async with db.transaction():
                await look()
                await db[Holder].count()
                await look()
            await db[Holder].add_many([holder(f"h{n}") for n in range(3)])
            await look()
        assert any("BEGIN" in query or "set_config" in query or "tally.holder" in query for query in seen)
        assert not [query for query in seen if SIGN(other.id)[37:] in query]


@pytest.mark.own_connection
async def test_t06_a_session_that_somebody_poisoned_is_thrown_away(hard: Ground, two: Pair, key_file: Path) -> None:
    mine, other = two
    async with hard.opened(tenant_key_file=key_file, pool_max=1) as tally, tally.session(mine, actor="a") as db:
        assert await db[Holder].count() == 1
        for poison in (str(other.id), ""):
            (link,) = tally.store.pool._idle
            await link.raw.execute("SELECT set_config('tally.tenant', $1, false)", poison)
            with pytest.raises(TenantMissing):
                await db[Holder].count()
            assert link.raw.is_closed()
            assert await db[Holder].count() == 1
        async with db.transaction():
            assert await db[Holder].count() == 1


@pytest.mark.parametrize("pooler", ["session", "transaction"])
async def test_t06_everything_works_with_the_key(hard: Ground, key_file: Path, pooler: str) -> None:
    async with hard.opened(tenant_key_file=key_file, pooler=pooler) as tally:
        hard_tenant, neighbour = await hard.tenants(2)
        async with tally.session(neighbour, actor="n") as db:
            await db[Holder].add(holder("neighbour"))
        async with tally.session(hard_tenant.slug, actor="user", permissions=("*",)) as db:
            one = await db[Holder].add(holder("one"))
            two, three = await db[Holder].add_many([holder("two"), holder("three")])
            box = await db[Parcel].add(parcel(one, national_id=secret("123-45-6789")))
            assert await db[Parcel].reveal(box.id, Parcel.national_id, reason="test") == "123-45-6789"
            async with db.transaction():
                box = await db[Parcel].update(box, stage=Stage.HELD)
                assert (await db[Parcel].lock(box.id)).version == 2
                await db[Trail].add(Trail(parcel=box.ref, text="held"))
            assert await db[Parcel].update_where(Parcel.stage == Stage.HELD, remark="r") == 1
            assert (await db[Holder].upsert(holder("two"), on=Holder.code)).id == two.id
            await db[Holder].purge(three, reason="test")
            assert {h.code for h in (await db[Holder].page(limit=10)).items} == {"one", "two"}
            assert [h.code async for h in db[Holder].stream(Holder.code == "one")] == ["one"]
            rows = await db.fetch(select(Holder.table.c.code, func.count()).group_by(Holder.table.c.code), into=dict)
            assert len(rows) == 2
            await db[Errand].add(Errand(what="sweep"))
            async for item in db[Errand].claim(limit=5):
                async with item:
                    pass
            changed = await tally.tenants.update(db, name="Renamed", max_users=2)
            assert (changed.name, (await db.tenant_record()).max_users) == ("Renamed", 2)
            assert [await db.consume("users"), await db.consume("users")] == [1, 2]
            with pytest.raises(QuotaExceeded):
                await db.consume("users")
            with pytest.raises(Unsupported):
                await db.fetch(select(func.tally_sec.current_tenant()), into=dict)
        seen = [db.tenant.slug async for db in tally.system()]
        assert {hard_tenant.slug, neighbour.slug} <= set(seen)


async def test_t06_the_seeds_of_every_domain_are_planted(hard: Ground) -> None:
    done = await plant(hard.tally, "users")
    assert sum(p.added + p.present for p in done) > 2
    await plant(hard.tally, "applications")
    async with hard.tally.session("harbour", actor="a", permissions=("*",)) as db:
        assert (await db.applications.statistics()).total == 250
        assert await db.applications.rates_by("age_band") is not None


def test_t06_a_signature_is_what_others_compute() -> None:
    """HMAC-SHA-256 of the id's text; the blocks for the database give the same by their own formula."""
    id = UUID("0198c5a0-0000-7000-8000-000000000001")
    inner, outer = tenant_key.pads(KEY)
    text = str(id).encode()
    by_hand = hashlib.sha256(outer + hashlib.sha256(inner + text).digest()).hexdigest()
    assert SIGN(id) == f"{id}.{by_hand}" == f"{id}.{hmac.digest(KEY, text, 'sha256').hex()}"
    assert not set(SIGN(id)) - set("0123456789abcdef-.")
