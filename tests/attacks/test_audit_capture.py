"""Attacks on the capture of the audit log, a test for each row of the threat table that is capture's."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.audit.ground import SealedGround

from tallystick import Tallystick, TallystickError
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.testing.conformance.entities import Shelf

NIL = UUID(int=0)


async def entries(ground: SealedGround, tenant: UUID, op: str = "I") -> list[dict[str, Any]]:
    async with ground.connected("seal") as conn:
        rows = await conn.fetch(
            "SELECT body FROM tally_audit.entry WHERE tenant_id = $1 AND op = $2 AND \"table\" = 'kit_shelf' "
            "ORDER BY seq",
            tenant,
            op,
        )
    return [json.loads(r["body"]) for r in rows]


async def enter(conn: asyncpg.Connection, tenant: UUID) -> None:
    await conn.fetch(
        "SELECT set_config('tally.tenant', $1, false), set_config('tally.actor', 'attacker', false)", str(tenant)
    )


async def test_a04_a_session_in_replica_role_is_captured(sealed: SealedGround) -> None:
    """session_replication_role = replica skips ordinary triggers; capture and every guard of the log fire always."""
    tenant = await sealed.tenant()
    async with sealed.connected("superuser") as su:
        await enter(su, tenant)
        await su.execute("SET session_replication_role = replica")
        await su.execute(
            "INSERT INTO tally.kit_shelf (tenant_id, id, name, stock) VALUES ($1, $2, 'smuggled', 0)", tenant, uuid4()
        )
        for table in ("entry", "entry_default", "leaf", "node", "checkpoint"):
            with pytest.raises(asyncpg.PostgresError, match="refused"):
                await su.execute(f"TRUNCATE tally_audit.{table}")
        with pytest.raises(asyncpg.PostgresError, match="refused"):
            await su.execute("DELETE FROM tally_audit.entry")
    (entry,) = await entries(sealed, tenant)
    assert entry["new"]["name"] == "smuggled"
    async with sealed.connected("seal") as conn:
        weak = await conn.fetch(
            "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE c.relnamespace IN ('tally'::regnamespace, 'tally_audit'::regnamespace) AND NOT t.tgisinternal "
            "AND t.tgenabled <> 'A'"
        )
    assert weak == []


SETTINGS = {
    "bytea_output": ("hex", "escape"),
    "timezone": ("UTC", "Asia/Kathmandu", "America/St_Johns"),
    "datestyle": ("ISO, YMD", "German, DMY", "SQL, MDY"),
    "intervalstyle": ("iso_8601", "postgres_verbose"),
    "extra_float_digits": ("1", "-15"),
    "lc_monetary": ("C",),
    "xmlbinary": ("hex", "base64"),
}


async def test_a11_the_client_does_not_choose_how_values_look(sealed: SealedGround) -> None:
    tenant, seen = await sealed.tenant(), []
    choices = [(name, value) for name, values in SETTINGS.items() for value in values]
    async with sealed.connected("owner") as conn:
        await conn.execute(
            "CREATE TABLE tally.looks (tenant_id uuid, id uuid, b bytea, t timestamptz, i interval, f float8, d date, "
            "n numeric(78, 0)); CREATE TRIGGER tally_0_audit AFTER INSERT ON tally.looks FOR EACH ROW "
            "EXECUTE FUNCTION tally_audit.capture('looks')"
        )
        await enter(conn, tenant)
        for name, value in choices:
            await conn.fetch("SELECT set_config($1, $2, false)", name, value)
            await conn.execute(
                "INSERT INTO tally.looks VALUES ($1, $2, '\\x0102ff', '2026-07-01 12:00:00.5+00', "
                "'1 mon 2 days 3 hours', 0.1::float8 + 0.2::float8, '2026-07-01', 2::numeric ^ 256 - 1)",
                tenant,
                uuid4(),
            )
    async with sealed.connected("seal") as conn:
        for row in await conn.fetch("SELECT body FROM tally_audit.entry WHERE \"table\" = 'looks' ORDER BY seq"):
            seen.append(row["body"].partition('"b":')[2])
    assert len(seen) == len(choices)
    assert set(seen) == {
        '"\\\\x0102ff","t":"2026-07-01T12:00:00.5+00:00","i":"P1M2DT3H","f":0.30000000000000004,"d":"2026-07-01",'
        f'"n":{2**256 - 1}}}}}'
    }


async def test_a12_a_trigger_without_columns_to_leave_out_captures_whole_rows(sealed: SealedGround) -> None:
    """jsonb - NULL is NULL: a trigger with no arguments beyond the table must not turn images into nothing."""
    tenant = await sealed.tenant()
    (shelf,) = await sealed.shelves(tenant)
    (entry,) = await entries(sealed, tenant)
    assert (entry["key"], entry["new"]["name"], entry["new"]["tenant_id"]) == (str(shelf.id), shelf.name, str(tenant))
    async with sealed.connected("superuser") as su:
        bare = await su.fetchval(
            "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tally_audit.capture()'::regprocedure AND tgnargs = 0"
        )
        empty = await su.fetchval(
            "SELECT count(*) FROM tally_audit.entry WHERE op IN ('I', 'U', 'D') "
            "AND coalesce(body::jsonb -> 'new', 'null') = 'null' AND coalesce(body::jsonb -> 'old', 'null') = 'null'"
        )
    assert (bare, empty) == (0, 0)


async def test_a16_whoever_spoofs_the_actor_is_named_by_the_server(sealed: SealedGround) -> None:
    """The actor is what the client says; beside it stands the role that the server authenticated."""
    tenant = await sealed.tenant()
    for role in ("app", "superuser"):
        async with sealed.connected(role) as conn:
            await enter(conn, tenant)
            await conn.execute("SELECT set_config('tally.actor', 'user:the-boss', false)")
            await conn.execute(
                "INSERT INTO tally.kit_shelf (tenant_id, id, name, stock) VALUES ($1, $2, $3, 0)", tenant, uuid4(), role
            )
    app, su = await entries(sealed, tenant)
    assert (app["actor"], app["role"]) == ("user:the-boss", sealed.server.roles.app)
    assert su["actor"] == "user:the-boss"
    assert su["role"] not in (sealed.server.roles.app, sealed.server.roles.audit, None)


async def test_a19_a_month_that_nobody_made_does_not_stop_business(sealed: SealedGround) -> None:
    """A missing month goes to the default partition, which is seen at once, and is put right without a loss."""
    tenant = await sealed.tenant()
    month = datetime.now(UTC).strftime("entry_%Y_%m")
    async with sealed.connected("audit") as conn:
        await conn.execute(f"ALTER TABLE tally_audit.entry DETACH PARTITION tally_audit.{month}")
        await conn.execute(f"ALTER TABLE tally_audit.{month} RENAME TO lost_month")
    shelves = await sealed.shelves(tenant, 5)
    async with sealed.connected("seal") as conn:
        parts = {p["part"]: p["holds"] for p in await conn.fetch("SELECT * FROM tally_audit.partitions()")}
        assert parts["entry_default"] is True
        before = await conn.fetch("SELECT seq, salt, body FROM tally_audit.entry ORDER BY seq")
        made = await conn.fetchrow("SELECT * FROM tally_audit.make_partitions(3)")
        assert (made["made"], made["rescued"]) == (0, len(before))
        parts = {p["part"]: p["holds"] for p in await conn.fetch("SELECT * FROM tally_audit.partitions()")}
        assert (parts["entry_default"], parts[month]) == (False, True)
        assert await conn.fetch("SELECT seq, salt, body FROM tally_audit.entry ORDER BY seq") == before
    assert [e["key"] for e in await entries(sealed, tenant)] == [str(s.id) for s in shelves]
    await sealed.shelves(tenant, 1)
    async with sealed.connected("audit") as conn:
        assert await conn.fetchval("SELECT count(*) FROM tally_audit.entry_default") == 0
        weak = await conn.fetchval(
            "SELECT count(*) FROM pg_trigger t JOIN pg_inherits i ON i.inhrelid = t.tgrelid "
            "WHERE i.inhparent = 'tally_audit.entry'::regclass AND t.tgenabled <> 'A' AND NOT t.tgisinternal"
        )
        assert weak == 0


async def test_a19_months_are_made_ahead_while_writers_write(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    async with sealed.connected("app") as writer, sealed.connected("seal") as conn:
        await enter(writer, tenant)
        async with writer.transaction():
            await writer.execute(
                "INSERT INTO tally.kit_shelf (tenant_id, id, name, stock) VALUES ($1, $2, 'open', 0)", tenant, uuid4()
            )
            made = await asyncio.wait_for(conn.fetchrow("SELECT * FROM tally_audit.make_partitions(8)"), 60)
        assert made["made"] == 5
        months = [p["month"] for p in await conn.fetch("SELECT * FROM tally_audit.partitions()") if p["month"]]
    first = datetime.now(UTC).date().replace(day=1)
    wanted = [date(first.year + (first.month - 1 + n) // 12, (first.month - 1 + n) % 12 + 1, 1) for n in range(9)]
    assert sorted(months) == wanted


WRITES = (
    "INSERT INTO tally_audit.entry SELECT * FROM tally_audit.entry LIMIT 1",
    "UPDATE tally_audit.entry SET body = '{}'",
    "DELETE FROM tally_audit.entry",
    "TRUNCATE tally_audit.entry",
    "INSERT INTO tally_audit.leaf SELECT * FROM tally_audit.leaf",
    "UPDATE tally_audit.cursor SET seq = 0",
    "DELETE FROM tally_audit.checkpoint",
    "SELECT * FROM tally_audit.cursor",
    "SELECT * FROM tally_audit.entry_default",
    "SELECT nextval('tally_audit.entry_seq')",
    "SELECT tally_audit.put(gen_random_uuid(), 'I', 't', 'k', '\"old\":null')",
    "SELECT tally_audit.record_state('k', '{}')",
    "SELECT tally_audit.baseline(r, 'kit_shelf', '{}') FROM tally.kit_shelf r",
    "SELECT tally_audit.make_partitions(1)",
    "SELECT tally_audit.drop_bodies('2020-01-01')",
    "SELECT tally_audit.set_retention(1, 'none')",
    "SELECT tally_audit.empty_default()",
    "SELECT tally_audit.add_partition('x', 'DEFAULT')",
    "CREATE TABLE tally_audit.mine (x int)",
    "CREATE TRIGGER mine BEFORE INSERT ON tally_audit.entry FOR EACH ROW EXECUTE FUNCTION tally_audit.refuse()",
    "ALTER TABLE tally.kit_shelf DISABLE TRIGGER tally_0_audit",
)


@pytest.mark.parametrize("statement", WRITES)
async def test_the_application_cannot_touch_the_log(
    tally: Tallystick, tenant: str, statement: str, tally_server: Any
) -> None:
    settings = tally.settings
    conn = await asyncpg.connect(settings.database_url)
    try:
        info = await tally.tenants.resolve(tenant)
        await enter(conn, info.id)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(statement)
    finally:
        await conn.close()


SEAL = (
    "INSERT INTO tally_audit.entry SELECT * FROM tally_audit.entry LIMIT 1",
    "UPDATE tally_audit.leaf SET hash = sha256('x')",
    "DELETE FROM tally_audit.leaf",
    "UPDATE tally_audit.checkpoint SET note = ''",
    "SELECT tally_audit.set_retention(1, 'none')",
    "SELECT tally_audit.record('E', 't', 'k', '{}')",
    "SELECT tally_audit.baseline(r, 'kit_shelf', '{}') FROM tally_audit.leaf r",
    "SELECT * FROM tally.kit_shelf",
)


@pytest.mark.parametrize("statement", SEAL)
async def test_the_sealer_writes_leaves_and_nothing_else(sealed: SealedGround, statement: str) -> None:
    await sealed.shelves(await sealed.tenant())
    await sealed.seal()
    async with sealed.connected("seal") as conn:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.PostgresError)):
            await conn.execute(statement)


@pytest.mark.parametrize("op", ["I", "U", "D", "B", "P", "S", None])
async def test_events_cannot_pass_for_changes(tally: Tallystick, tenant: str, op: str | None) -> None:
    async with tally.session(tenant, actor="a") as db:
        with pytest.raises(TallystickError):
            await db.unit.call("SELECT tally_audit.record($1, 'kit_shelf', 'k', '{}'::jsonb)", (op,))


async def test_an_event_is_the_callers_tenants(tally: Tallystick, tenant: str) -> None:
    """Which tenant an event is of is the setting's, not the caller's; and no tenant sees another's entries."""
    other: TenantInfo = await tally.tenants.create(f"t-{uuid4().hex}", name="Another")
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        await db[Shelf].add(Shelf(name="one"))
        await db.unit.call(
            "SELECT tally_audit.record('E', 't', 'k', jsonb_build_object('tenant', $1::text))", (str(other.id),)
        )
        mine = await db.unit.call("SELECT DISTINCT tenant_id FROM tally_audit.entry", ())
        assert [r[0] for r in mine] == [db.tenant_id]
    async with tally.session(other, actor="b", permissions=("*",)) as db:
        assert {e.table for e in (await db.audit.entries()).items} == {"tenant"}
        for table in ("entry", "leaf", "node", "checkpoint"):
            rows = await db.unit.call(
                f"SELECT count(*) FROM tally_audit.{table} WHERE tenant_id <> $1", (db.tenant_id,)
            )
            assert rows[0][0] == 0


async def test_the_owner_of_the_data_does_not_own_the_log(sealed: SealedGround) -> None:
    await sealed.shelves(await sealed.tenant())
    async with sealed.connected("owner") as conn:
        for statement in (
            "SELECT * FROM tally_audit.entry",
            "DELETE FROM tally_audit.entry",
            "ALTER TABLE tally_audit.entry DISABLE TRIGGER ALL",
            "DROP FUNCTION tally_audit.capture() CASCADE",
            "ALTER FUNCTION tally_audit.capture() RESET ALL",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(statement)
