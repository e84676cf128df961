"""T6, hardening: there and back, by whom and with which key, and migrations and the lint of a hardened database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.attacks.conftest import KEY, Ground
from tests.attacks.entities import ENTITIES, Holder, Parcel, holder, parcel
from tests.schema.support import make_database

from tallystick import Entity, Ref
from tallystick.errors import Denied, Invalid, MigrationUnsafe, NotMigrated, TenantMissing, Unavailable, Unsupported
from tallystick.privacy import tenant_key
from tallystick.schema.harden import harden, soften
from tallystick.schema.lint import lint
from tallystick.schema.migrate import migrate, rollback
from tallystick.schema.online import Progress
from tallystick.schema.tenants import for_each_tenant
from tallystick.testing import KitServer


class Visit(Entity):
    """A table that is made after the database was hardened."""

    holder: Ref[Holder]
    note: str = ""


REVISION = """
from alembic import op
from tallystick.schema.model import *
from tallystick.schema.operations import *
from tallystick.schema.online_operations import *
revision = "app_{number}"
down_revision = {before!r}
branch_labels = {labels!r}
depends_on = {after!r}
def upgrade():
    {up}
def downgrade():
    {down}
"""
COLUMN = 'AddColumn("visit", Column("former_id", "uuid", nullable=True))'
FOREIGN_KEY = (
    'AddForeignKey("visit", ForeignKey("fk_visit_former", ("tenant_id", "former_id"), "visit", ("tenant_id", "id")))'
)
BACKFILL = 'Backfill("visit", "note = \'filled\'", "note = \'\'")'


async def test_t06_migrations_up_and_down_on_a_hardened_database(hard: Ground, tmp_path: Path, key_file: Path) -> None:
    """New tables get the wall of the mode, keys are validated and rows changed tenant by tenant, all by the owner."""
    roles, admin = hard.server.roles, hard.url("admin")
    entities = (*ENTITIES, Visit)
    tenants = await hard.tenants(2)
    assert (await migrate(admin, roles=roles, entities=entities)).tables == ("visit",)
    async with hard.opened(entities=entities, tenant_key_file=key_file) as tally:
        for tenant in tenants:
            async with tally.session(tenant, actor="a") as db:
                await db[Visit].add(Visit(holder=(await db[Holder].add(holder("v"))).ref))
    steps = [
        (
            f"op.invoke({COLUMN}); op.invoke({FOREIGN_KEY})",
            f"op.invoke(Undo({FOREIGN_KEY})); op.invoke(Undo({COLUMN}))",
        ),
        ('op.invoke(Validate("visit", "fk_visit_former"))', "pass"),
        (f"op.invoke({BACKFILL})", f"op.invoke(Undo({BACKFILL}))"),
    ]
    for number, (up, down) in enumerate(steps, 1):
        before, labels = (f"app_{number - 1}", None) if number > 1 else (None, ("app",))
        text = REVISION.format(
            number=number, before=before, labels=labels, after=labels and "kit_0002", up=up, down=down
        )
        (tmp_path / f"app_{number}.py").write_text(text)
    where: Any = {"version_locations": [tmp_path]}
    assert len((await migrate(admin, roles=roles, **where)).revisions) == 3
    async with hard.connected("owner") as owner:
        notes: list[str] = []

        async def read(conn: asyncpg.Connection, _: UUID) -> None:
            notes.extend(r["note"] for r in await conn.fetch("SELECT note FROM tally.visit"))

        await for_each_tenant(owner, read)
        assert notes == ["filled", "filled"]
        assert (
            await owner.fetchval(
                "SELECT count(*) FROM pg_policies WHERE tablename = 'visit' AND qual LIKE '%tally_sec.current_tenant%'"
            )
            == 2
        )
    async with hard.connected("app") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await for_each_tenant(connection, read, name="no owner")
    async with hard.connected("admin") as connection:
        assert await lint(connection, roles, ENTITIES) == []
    assert len((await rollback(admin, branch="app", steps=3, roles=roles, **where)).revisions) == 3
    assert (await rollback(admin, branch="declared", steps=1, roles=roles)).tables == ("visit",)
    assert (await migrate(admin, roles=roles, entities=entities)).tables == ("visit",)
    assert (await rollback(admin, branch="declared", steps=1, roles=roles)).tables == ("visit",)


async def test_t06_the_lint_knows_the_mode_and_reports_a_mix(hard: Ground) -> None:
    roles = hard.server.roles
    wall = "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"
    mixes = {
        "policy-text": f"ALTER POLICY tenant_rw ON tally.holder USING ({wall}) WITH CHECK ({wall})",
        "tenant-function": "CREATE OR REPLACE FUNCTION tally_sec.current_tenant() RETURNS uuid LANGUAGE sql STABLE "
        "RETURN current_setting('tally.tenant')::uuid",
        "tenant-key": f"GRANT SELECT ON tally_sec.tenant_key TO {roles.app}",
        "tenant-setting": "CREATE FUNCTION tally.mine() RETURNS text LANGUAGE sql SET search_path = pg_catalog "
        "AS $$ SELECT current_setting('tally.tenant') $$",
    }
    async with hard.connected("admin") as connection:
        assert await lint(connection, roles) == []
        for code, sql in mixes.items():
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"SET LOCAL ROLE {roles.owner}; {sql}; SET LOCAL ROLE NONE")
            assert code in {f.code for f in await lint(connection, roles)}
            await transaction.rollback()


async def snapshot(ground: Ground) -> dict[str, str]:
    async with ground.connected("admin") as connection:
        rows = await connection.fetch(
            "SELECT p.oid::regprocedure::text AS name, "
            "pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') AS body FROM pg_proc p "
            "WHERE p.pronamespace::regnamespace::text LIKE 'tally%' UNION ALL "
            "SELECT c.oid::regclass::text, coalesce(c.relacl::text, '') FROM pg_class c "
            "WHERE c.relnamespace::regnamespace::text LIKE 'tally%' UNION ALL "
            "SELECT p.polrelid::regclass || '.' || p.polname, pg_get_expr(p.polqual, p.polrelid) "
            "|| coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') FROM pg_policy p"
        )
    return {r["name"]: r["body"] for r in rows}


async def test_t06_there_and_back_again(plain: Ground, key_file: Path) -> None:
    roles, admin = plain.server.roles, plain.url("admin")
    before = await snapshot(plain)
    async with plain.opened() as tally:
        tenant = await tally.tenants.create("back", name="Back")
        async with tally.session(tenant, actor="a") as db:
            await db[Holder].add(holder("kept"))
            # An application that is running when the database is hardened is refused, and is well again afterwards.
            first = await harden(admin, key=KEY, roles=roles)
            hardened = await snapshot(plain)
            assert first.changed
            with pytest.raises(TenantMissing):
                await db[Holder].count()
            again = await harden(admin, key=KEY, roles=roles)
            assert (again.hardened, again.changed, again.policies) == (True, False, 0)
            assert await snapshot(plain) == hardened != before
            async with plain.opened(tenant_key_file=key_file) as keyed, keyed.session("back", actor="b") as other:
                assert [h.code for h in await other[Holder].find()] == ["kept"]
                assert (await harden(admin, key=bytes(reversed(KEY)), roles=roles)).changed
                with pytest.raises(TenantMissing):
                    await other[Holder].count()
            undone = await soften(admin, roles=roles)
            assert (undone.hardened, undone.changed, undone.policies) == (False, True, first.policies)
            assert not (await soften(admin, roles=roles)).changed
            assert await snapshot(plain) == before
            assert [h.code for h in await db[Holder].find()] == ["kept"]
            await db[Parcel].add(parcel((await db[Holder].find())[0]))
            assert await db.consume("users") == 1
    async with plain.connected("admin") as connection:
        assert await lint(connection, roles, ENTITIES) == []


async def test_t06_a_busy_table_is_waited_for_in_short_turns(plain: Ground) -> None:
    news: list[Progress] = []
    async with plain.connected("owner") as blocker:
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("LOCK TABLE tally.errand IN ACCESS SHARE MODE")
        with pytest.raises(Unavailable):
            await harden(plain.url("admin"), key=KEY, roles=plain.server.roles, patience=0.1)
        running = asyncio.create_task(harden(plain.url("admin"), key=KEY, roles=plain.server.roles, report=news.append))
        async with asyncio.timeout(60):
            while not any("busy table" in p.detail for p in news):
                assert not running.done()
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        assert not running.done()
        await transaction.rollback()
        assert (await running).hardened


async def test_t06_the_wrong_key_no_key_or_a_key_too_many_is_said_at_start(
    hard: Ground, ground: Ground, key_file: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    tenant_key.create(wrong)
    for pooler in ("session", "transaction"):
        with pytest.raises(Denied, match="has no key") as none:
            async with hard.opened(pooler=pooler):
                pass
        with pytest.raises(Denied, match="not the one") as other:
            async with hard.opened(tenant_key_file=wrong, pooler=pooler):
                pass
        assert "TALLYSTICK_TENANT_KEY_FILE" in none.value.remedy
        assert "TALLYSTICK_TENANT_KEY_FILE" in other.value.remedy
        with pytest.raises(Invalid, match="believes any tenant") as many:
            async with ground.opened(tenant_key_file=key_file, pooler=pooler):
                pass
        assert "tallystick harden" in many.value.remedy
    # Checked when the application is first used, where nothing is asked at start.
    async with hard.opened(test_connection=False) as late:
        with pytest.raises(Denied, match="has no key"):
            async with late.session("any", actor="a"):
                pass
    with pytest.raises(Unavailable):
        async with hard.opened(tenant_key_file=tmp_path / "missing"):
            pass
    wrong.chmod(0o644)
    with pytest.raises(Invalid):
        async with hard.opened(tenant_key_file=wrong):
            pass


async def test_t06_a_function_that_would_not_understand_is_named_before_anything_changes(plain: Ground) -> None:
    async with plain.connected("owner") as owner:
        await owner.execute(
            "CREATE FUNCTION tally.mine() RETURNS uuid LANGUAGE sql SET search_path = pg_catalog "
            "AS $$ SELECT current_setting('tally.tenant')::uuid $$"
        )
        before = await snapshot(plain)
        with pytest.raises(MigrationUnsafe, match=r"tally\.mine\(\)"):
            await harden(plain.url("admin"), key=KEY, roles=plain.server.roles)
        assert await snapshot(plain) == before
        await owner.execute(
            "CREATE OR REPLACE FUNCTION tally.mine() RETURNS uuid LANGUAGE sql SET search_path = pg_catalog "
            "AS $$ SELECT tally_sec.current_tenant() $$"
        )
    assert (await harden(plain.url("admin"), key=KEY, roles=plain.server.roles)).hardened


async def test_t06_what_cannot_be_hardened(tally_server: KitServer, hard: Ground) -> None:
    admin, roles = hard.url("admin"), hard.server.roles
    for key in (b"", b"short", KEY + b"\0", bytes(32), "text"):
        with pytest.raises(Invalid):
            await harden(admin, key=key, roles=roles)  # type: ignore[arg-type]
    with pytest.raises(Unsupported):
        await harden(admin, key=KEY, roles=roles, engine="citus")
    bare = await make_database(tally_server)
    with pytest.raises(NotMigrated):
        await harden(bare.admin, key=KEY, roles=bare.roles)
    await tally_server.drop(bare.name)
