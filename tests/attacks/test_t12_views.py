"""T12: views, materialised views and definer functions read with their owner's rights."""

from __future__ import annotations

import asyncpg
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, holder

from tallystick.domains.identity.tenants import TenantInfo
from tallystick.schema.lint import lint

Pair = tuple[TenantInfo, TenantInfo]
LENDING = ["loan_allocate", "loan_charge", "loan_funded", "loan_history", "loan_paid_out", "loan_total", "loan_totals"]
COUNT = "SELECT count(*) FROM tally.{} WHERE code = 'view'"


async def seen(ground: Ground, pair: Pair, made: str, dropped: str, asked: str, maker: str) -> tuple[int, list[str]]:
    """How many rows the application sees through an object that ``maker`` made, and what the lint says of it."""
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            await db[Holder].upsert(holder("view"), on=Holder.code)
    async with ground.connected(maker) as owner:
        if maker == "owner":
            await owner.execute(f"SET tally.tenant = '{pair[0].id}'")
        await owner.execute(made)
        try:
            async with ground.connected("app") as app:
                await app.execute(f"SET tally.tenant = '{pair[1].id}'")
                try:
                    count = await app.fetchval(asked)
                except asyncpg.InsufficientPrivilegeError:
                    count = -1
            async with ground.connected("admin") as admin:
                findings = [f"{f.object}: {f.problem}" for f in await lint(admin, ground.server.roles)]
        finally:
            await owner.execute(dropped)
    return count, [f for f in findings if "peephole" in f]


async def test_t12_a_view_with_the_invokers_rights_is_inside_the_wall(ground: Ground, pair: Pair) -> None:
    made = (
        "CREATE VIEW tally.peephole WITH (security_invoker = true) AS SELECT * FROM tally.holder;"
        "GRANT SELECT ON tally.peephole TO tally_app"
    )
    count, findings = await seen(ground, pair, made, "DROP VIEW tally.peephole", COUNT.format("peephole"), "owner")
    assert count == 1
    assert findings == []


@pytest.mark.parametrize(("maker", "leak"), [("owner", 1), ("superuser", 2)])
async def test_t12_a_view_with_its_owners_rights_is_found(ground: Ground, pair: Pair, maker: str, leak: int) -> None:
    """Through a superuser's view the wall is gone; through our owner's it holds, because the owner is inside it."""
    made = "CREATE VIEW tally.peephole AS SELECT * FROM tally.holder; GRANT SELECT ON tally.peephole TO tally_app"
    asked = f"{COUNT.format('peephole')} AND tenant_id = ANY ('{{{pair[0].id},{pair[1].id}}}')"
    count, findings = await seen(ground, pair, made, "DROP VIEW tally.peephole", asked, maker)
    assert count == leak
    assert findings


@pytest.mark.parametrize("maker", ["owner", "superuser"])
async def test_t12_a_materialised_view_is_a_copy_that_knows_no_tenant_and_is_found(
    ground: Ground, pair: Pair, maker: str
) -> None:
    made = (
        "CREATE MATERIALIZED VIEW tally.peephole AS SELECT * FROM tally.holder;"
        "GRANT SELECT ON tally.peephole TO tally_app"
    )
    asked = f"{COUNT.format('peephole')} AND tenant_id = '{pair[0].id}'"
    count, findings = await seen(ground, pair, made, "DROP MATERIALIZED VIEW tally.peephole", asked, maker)
    assert count == 1, "the other tenant's row, which is why the lint must find it"
    assert findings


@pytest.mark.parametrize(("maker", "leak"), [("owner", 1), ("superuser", 2)])
async def test_t12_a_definer_function_is_judged_by_its_owner_and_path(
    ground: Ground, pair: Pair, maker: str, leak: int
) -> None:
    ids = f"'{{{pair[0].id},{pair[1].id}}}'"
    made = (
        "CREATE FUNCTION tally.peephole() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS "
        f"$$ SELECT count(*) FROM tally.holder WHERE code = 'view' AND tenant_id = ANY ({ids}) $$;"
        "GRANT EXECUTE ON FUNCTION tally.peephole() TO tally_app"
    )
    count, findings = await seen(ground, pair, made, "DROP FUNCTION tally.peephole()", "SELECT tally.peephole()", maker)
    assert count == leak
    assert findings


async def test_t12_our_own_definer_functions_show_no_other_tenant(ground: Ground, pair: Pair) -> None:
    """What the application may call beyond its own rights: each is asked as one tenant about the other."""
    async with ground.connected("app") as app:
        callable_now = await app.fetch(
            "SELECT p.pronamespace::regnamespace::text || '.' || p.proname AS name FROM pg_proc p "
            "WHERE p.prosecdef AND p.pronamespace::regnamespace::text LIKE 'tally%' "
            "AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1"
        )
        # A new one has to be thought about here.
        assert [row["name"] for row in callable_now] == [
            # Empties the column of an index key that was rotated, and fills the next, in the tenant that is set, as far
            # as the step under way says: test_e6_nobody_else_moves_an_index.
            "tally.clear_index",
            # Closes key epochs of the tenant that is set: tests/privacy/test_rotation.py.
            "tally.close_epochs",
            "tally.consume",
            "tally.fill_index",
            # Drops blind indexes of erased people of the tenant that is set: tests/privacy/test_erasure.py.
            "tally.forget_indexes",
            # One step of a rotation in the tenant that is set.
            "tally.index_step",
            # Events and reads, for the tenant that is set: tests/attacks/test_audit_capture.py.
            "tally_audit.record",
            # Prices have no tenant: it writes what all read, and answers two counts.
            "tally_ref.market_record",
            "tally_ref.tenant_by_slug",
            "tally_ref.tenant_create",
            "tally_ref.tenant_list",
            "tally_ref.tenant_self",
            "tally_ref.tenant_update",
        ]
        # Those of lending run in triggers alone.
        assert await app.fetch(
            "SELECT p.proname::text AS name, has_function_privilege(p.oid, 'EXECUTE') AS mine FROM pg_proc p "
            "WHERE p.prosecdef AND p.pronamespace = 'tally'::regnamespace AND p.proname LIKE 'loan%' ORDER BY 1"
        ) == [(name, False) for name in LENDING]
        await app.execute(f"SET tally.tenant = '{pair[0].id}'")
        assert await app.fetchval("SELECT id FROM tally_ref.tenant_self()") == pair[0].id
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await app.fetch("SELECT * FROM tally_ref.tenant_update($1)", f'{{"id": "{pair[1].id}"}}')
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.fetch("SELECT * FROM tally_ref.tenant_write($1, '{}', 1)", pair[1].id)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.fetch("SELECT * FROM tally_ref.tenant")
        await app.fetch("SELECT tally.consume('users', '2026-01-01', 7, 10)")
        await app.execute(f"SET tally.tenant = '{pair[1].id}'")
        assert await app.fetchval("SELECT count(*) FROM tally.usage") == 0
        # Without a tenant they are as loud as a table.
        await app.execute("RESET ALL")
        for call in (
            "tally_ref.tenant_self()",
            "tally_ref.tenant_update('{}')",
            "tally.consume('users', '2026-01-01', 7, 10)",
        ):
            with pytest.raises((asyncpg.UndefinedObjectError, asyncpg.InvalidTextRepresentationError)):
                await app.fetch(f"SELECT * FROM {call}")


async def test_t12_a_path_of_the_callers_own_does_not_bend_a_definer_function(ground: Ground, pair: Pair) -> None:
    async with ground.connected("superuser") as root:
        await root.execute("CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO tally_app")
        await root.execute(
            f"CREATE FUNCTION trap.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT '{pair[1].id}'::text $$"
        )
        try:
            async with ground.connected("app") as app:
                await app.execute(f"SET search_path = trap, pg_catalog, tally; SET tally.tenant = '{pair[0].id}'")
                assert await app.fetchval("SELECT current_setting('tally.tenant')") == str(pair[1].id)
                assert await app.fetchval("SELECT id FROM tally_ref.tenant_self()") == pair[0].id
        finally:
            await root.execute("DROP SCHEMA trap CASCADE")
