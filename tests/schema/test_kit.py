"""The kit's own objects on a real server: tenants, quotas, guards, and the wall for every role."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
from enum import StrEnum
from uuid import uuid4

import asyncpg
import pytest
from tests.schema.support import Database, enter

from tallystick import Entity, Rules, Transitions, append_only
from tallystick.schema.migrate import migrate


class Stage(StrEnum):
    OPEN = "open"
    HELD = "held"
    DONE = "done"


class Case(Entity):
    """Something with a state machine."""

    stage: Stage | None = Stage.OPEN
    rank: int = 0

    rules = Rules(
        Transitions("stage", {Stage.OPEN: [Stage.HELD, Stage.DONE], Stage.HELD: [Stage.OPEN]}, initial=[Stage.OPEN]),
        table="cases",
    )


class Fact(Entity):
    """Something written once."""

    text: str

    rules = Rules(append_only())


async def test_tenants_are_made_found_and_changed_through_functions_only(kit: Database) -> None:
    conn = await kit.connect("app")
    tenant, other = uuid4(), uuid4()
    options = {"plan": "pro", "cut_off": "17:30", "settings": {"a": 1}, "time_zone": "Africa/Nairobi"}
    made = await conn.fetchrow(
        "SELECT * FROM tally_ref.tenant_create($1, 'sunrise', 'Sunrise', $2)", tenant, json.dumps(options)
    )
    assert (made["plan"], str(made["cut_off"]), made["version"]) == ("pro", "17:30:00", 1)
    await conn.execute("SELECT tally_ref.tenant_create($1, 'moon', 'Moon', '{}')", other)
    found = await conn.fetchrow("SELECT * FROM tally_ref.tenant_by_slug('sunrise')")
    assert dict(found) == {
        "id": tenant,
        "slug": "sunrise",
        "name": "Sunrise",
        "time_zone": "Africa/Nairobi",
        "cut_off": made["cut_off"],
        "is_active": True,
    }
    assert await conn.fetch("SELECT * FROM tally_ref.tenant_by_slug('nobody')") == []
    assert [r["slug"] for r in await conn.fetch("SELECT * FROM tally_ref.tenant_list()")] == ["moon", "sunrise"]
    with pytest.raises(asyncpg.UndefinedObjectError):
        await conn.fetch("SELECT * FROM tally_ref.tenant_self()")
    await enter(conn, tenant)
    assert [r["id"] for r in await conn.fetch("SELECT * FROM tally_ref.tenant_self()")] == [tenant]
    changed = await conn.fetchrow('SELECT * FROM tally_ref.tenant_update(\'{"name": "Sun", "version": 1}\')')
    assert (changed["name"], changed["version"], changed["plan"]) == ("Sun", 2, "pro")
    with pytest.raises(asyncpg.PostgresError, match="somebody else") as stale:
        await conn.execute('SELECT tally_ref.tenant_update(\'{"name": "Sun", "version": 1}\')')
    assert stale.value.sqlstate == "TS201"
    for changes in ({"slug": "x"}, {"id": str(other)}, {"created_at": "2020-01-01"}, {"time_zone": "Mars/Olympus"}):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await conn.execute("SELECT tally_ref.tenant_update($1)", json.dumps(changes))
        assert refused.value.sqlstate == "22023", changes
    for changes in ({"plan": "gold"}, {"max_users": -1}, {"settings": []}, {"name": ""}):
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute("SELECT tally_ref.tenant_update($1)", json.dumps(changes))
    await enter(conn, uuid4())
    with pytest.raises(asyncpg.PostgresError) as unknown:
        await conn.execute('SELECT tally_ref.tenant_update(\'{"name": "x"}\')')
    assert unknown.value.sqlstate == "TS100"
    for slug in ("Sun", "a b", "", "-a", str(uuid4()), "x" * 64):
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute("SELECT tally_ref.tenant_create($1, $2, 'x', '{}')", uuid4(), slug)
    with pytest.raises(asyncpg.UniqueViolationError):
        await conn.execute("SELECT tally_ref.tenant_create($1, 'moon', 'x', '{}')", uuid4())
    for statement in (
        "SELECT * FROM tally_ref.tenant",
        "INSERT INTO tally_ref.tenant (id) VALUES (gen_random_uuid())",
        "UPDATE tally_ref.tenant SET plan = 'pro'",
        "DELETE FROM tally_ref.tenant",
        "TRUNCATE tally_ref.tenant",
        "SELECT tally_ref.tenant_write(gen_random_uuid(), '{}', 1)",
        "DELETE FROM tally_ref.asset",
        "UPDATE tally_ref.schema_version SET version_num = 'x'",
        "SELECT * FROM tally_ref.backfill",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(statement)
    await conn.close()


async def test_assets_are_those_of_the_library(kit: Database) -> None:
    # What a new process knows: assets that a test registered in this one are not the library's.
    known = "from tallystick.assets import assets; print([(a.code, a.exponent) for a in assets()])"
    told = subprocess.run([sys.executable, "-c", known], capture_output=True, text=True, check=True).stdout
    stored = {(r["code"], r["exponent"]) for r in await kit.run("SELECT * FROM tally_ref.asset", role="app")}
    assert stored == set(ast.literal_eval(told))


async def test_a_quota_cannot_be_raced(kit: Database) -> None:
    tenant = await kit.tenant()

    async def use(number: int) -> int | str:
        conn = await kit.connect("app")
        try:
            await enter(conn, tenant)
            return await conn.fetchval("SELECT tally.consume('applications', '2026-11-01', 3, 50)")
        except asyncpg.PostgresError as error:
            return error.sqlstate
        finally:
            await conn.close()

    results = await asyncio.gather(*(use(n) for n in range(24)))
    assert sorted(r for r in results if isinstance(r, int)) == list(range(3, 49, 3))
    assert results.count("TS701") == 8
    conn = await kit.connect("app")
    await enter(conn, tenant)
    assert await conn.fetchval("SELECT used FROM tally.usage") == 48
    assert await conn.fetchval("SELECT tally.consume('applications', '2026-12-01', 3, 50)") == 3, "a new period"
    for amount, limit in ((60, 50), (9223372036854775807, 9223372036854775807)):
        with pytest.raises(asyncpg.PostgresError) as over:
            await conn.execute("SELECT tally.consume('applications', '2026-11-01', $1, $2)", amount, limit)
        assert over.value.sqlstate == "TS701"
    for amount, limit in ((0, 1), (-5, 1), (None, 1), (1, None)):
        with pytest.raises(asyncpg.PostgresError) as wrong:
            await conn.execute("SELECT tally.consume('applications', '2026-11-01', $1, $2)", amount, limit)
        assert wrong.value.sqlstate == "22023"
    for statement in (
        "INSERT INTO tally.usage VALUES (NULL)",
        "UPDATE tally.usage SET used = 0",
        "DELETE FROM tally.usage",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(statement)
    await conn.close()
    fresh = await kit.connect("app")
    with pytest.raises(asyncpg.UndefinedObjectError):
        await fresh.execute("SELECT tally.consume('applications', '2026-11-01', 1, 50)")
    await enter(fresh, uuid4())
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await fresh.execute("SELECT tally.consume('applications', '2026-11-01', 1, 50)")
    assert await fresh.fetch("SELECT * FROM tally.usage") == []
    await fresh.close()


@pytest.mark.parametrize("role", ["app", "owner"])
async def test_an_unset_tenant_raises_for_every_role(kit: Database, role: str) -> None:
    await migrate(kit.admin, roles=kit.roles, entities=[Case, Fact])
    conn = await kit.connect(role)
    allowed = [
        "SELECT * FROM tally.cases",
        "UPDATE tally.cases SET stage = NULL",
        "DELETE FROM tally.cases",
        "INSERT INTO tally.cases (tenant_id, id) VALUES (gen_random_uuid(), gen_random_uuid())",
    ]
    for setting in (None, "RESET", ""):
        if setting is not None:
            await conn.execute(f"SET tally.tenant = '{uuid4()}'")
            await conn.execute("RESET ALL" if setting else "SET tally.tenant = ''")
            if role == "owner":
                await conn.execute(f"SET ROLE {kit.roles.owner}")
        await conn.execute("SET tally.actor = 'user:1'")
        for statement in allowed:
            with pytest.raises(asyncpg.PostgresError) as loud:
                await conn.execute(statement)
            assert loud.value.sqlstate == ("42704" if setting is None else "22P02"), statement
    await conn.close()


async def test_an_actor_cannot_switch_the_tenant(kit: Database) -> None:
    mine, theirs = await kit.tenant("mine"), await kit.tenant("theirs")
    actor = f"x'; SET tally.tenant = '{theirs}'; --"
    conn = await kit.connect("app")
    async with conn.transaction():
        await conn.execute("SELECT tally.set_tenant($1, $2)", mine, actor)
        assert await conn.fetchval("SELECT current_setting('tally.tenant')") == str(mine)
        assert await conn.fetchval("SELECT current_setting('tally.actor')") == actor
    await conn.close()


async def test_stamps_are_the_databases(kit: Database) -> None:
    await migrate(kit.admin, roles=kit.roles, entities=[Case])
    tenant = await kit.tenant()
    conn = await kit.connect("app")
    await enter(conn, tenant, "user:7")
    row = await conn.fetchrow(
        "INSERT INTO tally.cases (tenant_id, id, stage, rank) VALUES ($1, $2, 'open', 1) RETURNING *",
        tenant,
        uuid4(),
    )
    assert (row["version"], row["created_by"], row["updated_by"]) == (1, "user:7", "user:7")
    await enter(conn, tenant, "user:8")
    changed = await conn.fetchrow("UPDATE tally.cases SET rank = 2 WHERE id = $1 RETURNING *", row["id"])
    assert (changed["version"], changed["created_by"], changed["updated_by"]) == (2, "user:7", "user:8")
    assert changed["created_at"] == row["created_at"]
    assert changed["updated_at"] > row["updated_at"]
    for column in ("tenant_id", "id", "version", "created_at", "created_by", "updated_at", "updated_by"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(f"UPDATE tally.cases SET {column} = {column}")
    for column in ("version", "created_at", "created_by", "updated_at", "updated_by"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(f"INSERT INTO tally.cases (tenant_id, id, {column}) VALUES (NULL, NULL, NULL)")
    await conn.execute("SET tally.actor = ''")
    with pytest.raises(asyncpg.NotNullViolationError):
        await conn.execute("UPDATE tally.cases SET rank = 3")
    with pytest.raises(asyncpg.NotNullViolationError):
        await conn.execute(
            "INSERT INTO tally.cases (tenant_id, id, stage, rank) VALUES ($1, $2, 'open', 1)", tenant, uuid4()
        )
    await conn.close()
    owner = await kit.connect("owner")
    await enter(owner, tenant)
    for change in ("id = gen_random_uuid()", "tenant_id = gen_random_uuid()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(f"UPDATE tally.cases SET {change}")
    await owner.execute("UPDATE tally.cases SET created_by = 'forged', version = 99, created_at = 'epoch'")
    kept = await owner.fetchrow("SELECT * FROM tally.cases")
    assert (kept["version"], kept["created_by"], kept["created_at"]) == (3, "user:7", row["created_at"])
    await owner.close()


@pytest.mark.parametrize("role", ["app", "owner"])
async def test_states_change_only_as_declared(kit: Database, role: str) -> None:
    await migrate(kit.admin, roles=kit.roles, entities=[Case])
    tenant = await kit.tenant()
    conn = await kit.connect(role)
    await enter(conn, tenant)
    case = uuid4()
    insert = "INSERT INTO tally.cases (tenant_id, id, stage, rank) VALUES ($1, $2, $3, 0)"
    await conn.execute(insert, tenant, case, "open")

    async def step(stage: str | None) -> str | None:
        try:
            await conn.execute("UPDATE tally.cases SET stage = $1 WHERE id = $2", stage, case)
        except asyncpg.PostgresError as error:
            return f"{error.sqlstate} {error.table_name}.{error.column_name} {error.detail}"
        return None

    assert [await step(s) for s in ("open", "held", "open", "done")] == [None] * 4
    assert await step("open") == "TS300 cases.stage done -> open"
    assert await step(None) == "TS300 cases.stage done -> ", "leaving the machine is no step either"
    with pytest.raises(asyncpg.PostgresError) as born:
        await conn.execute(insert, tenant, uuid4(), "done")
    assert (born.value.sqlstate, born.value.detail) == ("TS300", " -> done")
    await conn.execute(insert, tenant, uuid4(), None)
    with pytest.raises(asyncpg.PostgresError):
        await conn.execute("UPDATE tally.cases SET stage = 'done' WHERE stage IS NULL")
    await conn.execute("UPDATE tally.cases SET stage = 'open' WHERE stage IS NULL")
    await conn.close()


async def test_written_once_is_for_the_owner_too(kit: Database) -> None:
    await migrate(kit.admin, roles=kit.roles, entities=[Fact])
    tenant = await kit.tenant()
    app = await kit.connect("app")
    await enter(app, tenant)
    await app.execute("INSERT INTO tally.fact (tenant_id, id, text) VALUES ($1, $2, 'x')", tenant, uuid4())
    for statement in ("UPDATE tally.fact SET text = 'y'", "DELETE FROM tally.fact"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement)
    await app.close()
    owner = await kit.connect("owner")
    await enter(owner, tenant)
    for statement in ("UPDATE tally.fact SET text = 'y'", "DELETE FROM tally.fact"):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await owner.execute(statement)
        assert (refused.value.sqlstate, refused.value.table_name) == ("TS301", "fact")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="knows no tenants"):
        await owner.execute("TRUNCATE tally.fact")
    await owner.close()
    admin = await kit.connect()
    if await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        await admin.execute("SET session_replication_role = replica")
        await enter(admin, tenant)
        with pytest.raises(asyncpg.PostgresError) as still:
            await admin.execute("UPDATE tally.fact SET text = 'y'")
        assert still.value.sqlstate == "TS301"
    await admin.close()
