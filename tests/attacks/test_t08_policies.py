"""T8: a later permissive policy opens the table; the restrictive wall still stands."""

from __future__ import annotations

import asyncpg
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, holder

from tallystick.domains.identity.tenants import TenantInfo
from tallystick.schema.lint import lint

Pair = tuple[TenantInfo, TenantInfo]


async def test_t08_a_permissive_policy_for_everybody_opens_nothing(ground: Ground, pair: Pair) -> None:
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            await db[Holder].add(holder("mine", name=tenant.slug))
    async with ground.connected("owner") as owner:
        await owner.execute("CREATE POLICY oops ON tally.holder FOR ALL TO PUBLIC USING (true) WITH CHECK (true)")
        try:
            for tenant, other in (pair, pair[::-1]):
                async with ground.tally.session(tenant, actor="a") as db:
                    assert [h.name for h in await db[Holder].find()] == [tenant.slug]
                    assert await db[Holder].update_where(Holder.code == "mine", code="still mine") == 1
                async with ground.connected("app") as app:
                    await app.execute(f"SET tally.tenant = '{tenant.id}'")
                    assert await app.fetchval("SELECT count(*) FROM tally.holder") == 1
                    await app.execute("SET tally.actor = 'a'")
                    assert await app.execute(f"DELETE FROM tally.holder WHERE tenant_id = '{other.id}'") == "DELETE 0"
                    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                        await app.execute(
                            f"INSERT INTO tally.holder (tenant_id, id, code) "
                            f"VALUES ('{other.id}', gen_random_uuid(), 'planted')"
                        )
                    # Without a tenant it is as loud as ever.
                    await app.execute("RESET ALL")
                    with pytest.raises((asyncpg.UndefinedObjectError, asyncpg.InvalidTextRepresentationError)):
                        await app.fetch("SELECT * FROM tally.holder")
            async with ground.connected("admin") as admin:
                assert any("holder" in f.object for f in await lint(admin, ground.server.roles))
        finally:
            await owner.execute("DROP POLICY oops ON tally.holder")


async def test_t08_the_owner_is_inside_the_wall_too(ground: Ground, pair: Pair) -> None:
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            await db[Holder].add(holder("mine"))
    async with ground.connected("owner") as owner:
        await owner.execute(f"SET tally.tenant = '{pair[0].id}'; SET tally.actor = 'owner'")
        assert await owner.fetchval("SELECT count(*) FROM tally.holder") == 1
        assert await owner.execute("UPDATE tally.holder SET code = 'x'") == "UPDATE 1"
        assert await owner.execute(f"DELETE FROM tally.holder WHERE tenant_id = '{pair[1].id}'") == "DELETE 0"


async def test_t08_every_tenant_table_has_both_policies_for_everybody(ground: Ground) -> None:
    async with ground.connected("superuser") as connection:
        rows = await connection.fetch(
            "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, "
            "count(*) FILTER (WHERE p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}') AS open, "
            "count(*) FILTER (WHERE NOT p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}') AS wall, "
            "count(DISTINCT pg_get_expr(p.polqual, p.polrelid)) AS texts "
            "FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid "
            "WHERE c.relnamespace = 'tally'::regnamespace AND c.relkind IN ('r', 'p') GROUP BY 1, 2, 3"
        )
    assert len(rows) > 8
    for row in rows:
        assert tuple(row)[1:] == (True, True, 1, 1, 1), row
