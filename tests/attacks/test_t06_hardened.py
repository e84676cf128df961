"""T6, hardened: a database that believes signed tenants only, so that SQL that is injected cannot switch to another."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import func, select
from tests.attacks.conftest import Ground
from tests.attacks.entities import ENTITIES, Errand, Holder, Parcel, Stage, Trail, holder, parcel
from tests.attacks.test_t01_unset import UNSET, tenant_tables
from tests.schema.support import make_database

from tallystick import Entity, Ref, Tallystick, secret
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import (
    Denied,
    Invalid,
    MigrationUnsafe,
    NotMigrated,
    QuotaExceeded,
    TenantMissing,
    Unavailable,
    Unsupported,
)
from tallystick.privacy import tenant_key
from tallystick.schema.harden import harden, soften
from tallystick.schema.lint import lint
from tallystick.schema.migrate import migrate, rollback
from tallystick.schema.online import Progress
from tallystick.schema.tenants import for_each_tenant
from tallystick.seeds import plant
from tallystick.settings import Settings
from tallystick.testing import KitServer

Pair = tuple[TenantInfo, TenantInfo]
KEY = bytes(range(32))
SIGN = tenant_key.signer(KEY)
DOMAINS = ("identity", "underwriting")
LOUD = (asyncpg.UndefinedObjectError, asyncpg.InvalidTextRepresentationError)


class Visit(Entity):
    """A table that is made after the database was hardened."""

    holder: Ref[Holder]
    note: str = ""


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys") / "tenant"
    made.touch(mode=0o600)
    made.write_bytes(KEY)
    return made


async def made_from_template(server: KitServer, tally: Tallystick, suffix: str) -> Ground:
    template = await server.template(DOMAINS, ENTITIES, ())
    return Ground(server, await server.clone(template, suffix), tally.keys)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hard(tally_server: KitServer, tally: Tallystick, key_file: Path) -> AsyncIterator[Ground]:
    """A hardened database with the attackers' tables, and an application with its key."""
    made = await made_from_template(tally_server, tally, "_hardened")
    done = await harden(made.url("admin"), key=KEY, roles=tally_server.roles)
    assert (done.hardened, done.changed) == (True, True)
    assert done.policies >= 2 * len(ENTITIES)
    async with opened(made, tenant_key_file=key_file) as app:
        made.tally = app
        yield made
    await tally_server.drop(made.database)


@pytest_asyncio.fixture(loop_scope="session")
async def plain(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Ground]:
    """A database in plain mode, to be hardened."""
    made = await made_from_template(tally_server, tally, "_to_harden")
    yield made
    await tally_server.drop(made.database)


def opened(ground: Ground, *, entities: tuple[type[Entity], ...] = ENTITIES, **settings: Any) -> Tallystick:
    """An application on the domains of this module."""
    found = Settings.load(
        {},
        database_url=ground.url("app"),
        admin_url=ground.url("admin"),
        role_prefix=ground.server.roles.prefix,
        **settings,
    )
    return Tallystick.open(settings=found, domains=DOMAINS, entities=entities, keys=ground.keys)


@pytest_asyncio.fixture(loop_scope="session")
async def two(hard: Ground) -> Pair:
    """Two tenants with a holder each."""
    one, other = await hard.tenants(2)
    for tenant in (one, other):
        async with hard.tally.session(tenant, actor="seeder") as db:
            await db[Holder].add(holder(tenant.slug[:40]))
    return one, other


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
            if table == "usage" and "INSERT" in statement:
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
    async with hard.connected("app") as thief, opened(hard, tenant_key_file=key_file, pooler=pooler) as tally:

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


async def test_t06_a_session_that_somebody_poisoned_is_thrown_away(hard: Ground, two: Pair, key_file: Path) -> None:
    mine, other = two
    async with opened(hard, tenant_key_file=key_file, pool_max=1) as tally, tally.session(mine, actor="a") as db:
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
    async with opened(hard, tenant_key_file=key_file, pooler=pooler) as tally:
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
    assert sum(p.added for p in done) > 2
    await plant(hard.tally, "applications")
    async with hard.tally.session("harbour", actor="a", permissions=("*",)) as db:
        assert (await db.applications.statistics()).total == 250
        assert await db.applications.rates_by("age_band") is not None


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
    assert (await migrate(admin, roles=roles, domains=DOMAINS, entities=entities)).tables == ("visit",)
    async with opened(hard, entities=entities, tenant_key_file=key_file) as tally:
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
            number=number, before=before, labels=labels, after=labels and "kit_0001", up=up, down=down
        )
        (tmp_path / f"app_{number}.py").write_text(text)
    where: Any = {"version_locations": [tmp_path]}
    assert len((await migrate(admin, roles=roles, domains=DOMAINS, **where)).revisions) == 3
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
    assert (await migrate(admin, roles=roles, domains=DOMAINS, entities=entities)).tables == ("visit",)
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
    async with opened(plain) as tally:
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
            async with opened(plain, tenant_key_file=key_file) as keyed, keyed.session("back", actor="b") as other:
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
        await asyncio.sleep(1.5)
        assert not running.done()
        await transaction.rollback()
        assert (await running).hardened
    assert any("busy table" in p.detail for p in news)


async def test_t06_the_wrong_key_no_key_or_a_key_too_many_is_said_at_start(
    hard: Ground, ground: Ground, key_file: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    tenant_key.create(wrong)
    for pooler in ("session", "transaction"):
        with pytest.raises(Denied, match="has no key") as none:
            async with opened(hard, pooler=pooler):
                pass
        with pytest.raises(Denied, match="not the one") as other:
            async with opened(hard, tenant_key_file=wrong, pooler=pooler):
                pass
        assert "TALLYSTICK_TENANT_KEY_FILE" in none.value.remedy
        assert "TALLYSTICK_TENANT_KEY_FILE" in other.value.remedy
        with pytest.raises(Invalid, match="believes any tenant") as many:
            async with ground.opened(tenant_key_file=key_file, pooler=pooler):
                pass
        assert "tallystick harden" in many.value.remedy
    # Checked when the application is first used, where nothing is asked at start.
    async with opened(hard, test_connection=False) as late:
        with pytest.raises(Denied, match="has no key"):
            async with late.session("any", actor="a"):
                pass
    with pytest.raises(Unavailable):
        async with opened(hard, tenant_key_file=tmp_path / "missing"):
            pass
    wrong.chmod(0o644)
    with pytest.raises(Invalid):
        async with opened(hard, tenant_key_file=wrong):
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


def test_t06_a_signature_is_what_others_compute() -> None:
    """HMAC-SHA-256 of the id's text; the blocks for the database give the same by their own formula."""
    id = UUID("0198c5a0-0000-7000-8000-000000000001")
    inner, outer = tenant_key.pads(KEY)
    text = str(id).encode()
    by_hand = hashlib.sha256(outer + hashlib.sha256(inner + text).digest()).hexdigest()
    assert SIGN(id) == f"{id}.{by_hand}" == f"{id}.{hmac.digest(KEY, text, 'sha256').hex()}"
    assert not set(SIGN(id)) - set("0123456789abcdef-.")
