"""T1: the tenant was never set, was reset, is empty or is nonsense: each verb on each table raises, for each role."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest
from tests.attacks.conftest import Ground

UNSET = {
    "never set": "SELECT 1",
    "reset": "SET tally.tenant = '00000000-0000-0000-0000-000000000000'; RESET ALL",
    "discarded": "SET tally.tenant = '00000000-0000-0000-0000-000000000000'; DISCARD ALL",
    "empty": "SET tally.tenant = ''",
    "nonsense": "SET tally.tenant = 'everybody'",
    "two": "SET tally.tenant = '00000000-0000-0000-0000-000000000000,00000000-0000-0000-0000-000000000001'",
    "null": "SELECT set_config('tally.tenant', NULL, false)",
    "left over from a transaction": "BEGIN; SET LOCAL tally.tenant = '00000000-0000-0000-0000-000000000000'; COMMIT",
}
LOUD = (asyncpg.UndefinedObjectError, asyncpg.InvalidTextRepresentationError)


async def tenant_tables(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """Every tenant table with a column that an UPDATE may name."""
    rows = await connection.fetch(
        "SELECT c.relname::text AS name, (SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid "
        "AND a.attnum > 0 AND a.attname NOT IN ('tenant_id', 'id', 'version') AND a.attgenerated = '' "
        "ORDER BY has_column_privilege($1, c.oid, a.attnum, 'UPDATE') DESC, a.attnum LIMIT 1) AS changed "
        "FROM pg_class c WHERE relnamespace = 'tally'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1",
        "tally_app",
    )
    return [(r["name"], r["changed"]) for r in rows]


@pytest.mark.parametrize("role", ["app", "owner", "admin"])
@pytest.mark.parametrize("how", UNSET)
async def test_t01_unset_tenant_raises_for_every_verb_and_role(ground: Ground, role: str, how: str) -> None:
    (tenant,) = await ground.tenants(1)
    async with ground.tally.session(tenant.slug, actor="seeder") as db:
        await db.consume("users")
    async with ground.connected("owner") as owner:
        tables = await tenant_tables(owner)
    assert {"user_account", "application", "decision", "parcel", "trail", "usage"} <= {name for name, _ in tables}
    async with ground.connected(role) as connection:
        for statement in UNSET[how].split(";"):
            await connection.execute(statement)
        if role == "owner":
            # DISCARD ALL has reset the role as well.
            await connection.execute(f"SET ROLE {ground.server.roles.owner}")
        for table, changed in tables:
            for statement in (
                f"SELECT * FROM tally.{table}",
                f"SELECT count(*) FROM tally.{table}",
                f"UPDATE tally.{table} SET {changed} = {changed}",
                f"DELETE FROM tally.{table}",
                f"INSERT INTO tally.{table} (tenant_id) VALUES ('{tenant.id}')",
            ):
                # A table the role may not touch at all says so first; nothing ever answers.
                loud = LOUD if role == "owner" else (*LOUD, asyncpg.InsufficientPrivilegeError)
                with pytest.raises(loud):
                    await connection.fetch(statement)


async def test_t01_a_correct_but_unknown_tenant_sees_nothing(ground: Ground) -> None:
    async with ground.connected("app") as connection, ground.connected("owner") as owner:
        await connection.execute(f"SET tally.tenant = '{uuid4()}'")
        for table, _ in await tenant_tables(owner):
            assert await connection.fetchval(f"SELECT count(*) FROM tally.{table}") == 0
