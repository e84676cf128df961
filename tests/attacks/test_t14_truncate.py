"""T14: TRUNCATE asks no policy and no row trigger. T15: COPY."""

from __future__ import annotations

import asyncpg
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, holder

from tallystick.domains.identity.tenants import TenantInfo

Pair = tuple[TenantInfo, TenantInfo]


async def tables(ground: Ground, schemas: str) -> list[str]:
    async with ground.connected("superuser") as connection:
        rows = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE c.relkind IN ('r', 'p') AND n.nspname IN ({schemas})"
        )
    return [row["name"] for row in rows]


@pytest.mark.parametrize("role", ["app", "owner", "admin", "superuser"])
@pytest.mark.parametrize("how", ["", " CASCADE", " RESTART IDENTITY CASCADE"])
async def test_t14_truncate_is_refused_to_everybody(ground: Ground, pair: Pair, role: str, how: str) -> None:
    async with ground.tally.session(pair[0], actor="a") as db:
        await db[Holder].add(holder("kept"))
    async with ground.connected(role) as connection:
        await connection.execute(f"SET tally.tenant = '{pair[0].id}'")
        for table in [*await tables(ground, "'tally'"), "tally_ref.tenant"]:
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)):
                await connection.execute(f"TRUNCATE {table}{how}")
    async with ground.tally.session(pair[0], actor="a") as db:
        assert await db[Holder].count() == 1


async def test_t14_a_replica_session_does_not_switch_the_guard_off(ground: Ground) -> None:
    async with ground.connected("superuser") as connection:
        await connection.execute("SET session_replication_role = 'replica'")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("TRUNCATE tally.holder CASCADE")
    async with ground.connected("app") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET session_replication_role = 'replica'")


async def test_t15_copy_in_is_refused_and_copy_out_is_walled(ground: Ground, pair: Pair) -> None:
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            await db[Holder].add(holder("mine", name=tenant.slug))
    mine, other = pair
    async with ground.connected("app") as connection:
        await connection.execute(f"SET tally.tenant = '{mine.id}'; SET tally.actor = 'a'")
        for tenant in pair:
            with pytest.raises(asyncpg.PostgresError) as caught:
                await connection.copy_records_to_table(
                    "holder",
                    schema_name="tally",
                    columns=["tenant_id", "id", "code"],
                    records=[(tenant.id, other.id, "x")],
                )
            assert caught.value.sqlstate in ("0A000", "42501")
        out = bytearray()

        async def write(data: bytes) -> None:
            out.extend(data)

        await connection.copy_from_table("holder", schema_name="tally", columns=["tenant_id"], output=write)
        await connection.copy_from_query("SELECT tenant_id FROM tally.holder", output=write)
        assert set(out.decode().split()) == {str(mine.id)}
        await connection.execute("RESET ALL")
        with pytest.raises((asyncpg.UndefinedObjectError, asyncpg.InvalidTextRepresentationError)):
            await connection.copy_from_table("holder", schema_name="tally", columns=["tenant_id"], output=write)


async def test_t15_bulk_writes_are_walled_row_by_row(ground: Ground, pair: Pair) -> None:
    """The statement that stands in for COPY: one foreign row and nothing of it is written."""
    mine, other = pair
    async with ground.connected("app") as connection:
        await connection.execute(f"SET tally.tenant = '{mine.id}'; SET tally.actor = 'a'")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute(
                "INSERT INTO tally.holder (tenant_id, id, code) SELECT * FROM "
                "unnest($1::uuid[], ARRAY[gen_random_uuid(), gen_random_uuid()], ARRAY['a', 'b'])",
                [mine.id, other.id],
            )
        assert await connection.fetchval("SELECT count(*) FROM tally.holder") == 0
