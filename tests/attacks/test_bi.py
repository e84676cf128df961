"""The masked views of a BI login: whose rows they show hangs on who logged in, and on nothing that the login says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from tests.attacks.conftest import SIGN, Ground
from tests.attacks.entities import ENTITIES, Holder

from tallystick import Denied
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.schema.bi import bi_readers, grant_bi, revoke_bi
from tallystick.schema.bi_views import MASK
from tallystick.schema.harden import harden
from tallystick.schema.lint import lint
from tallystick.settings import connect_args

from tests.attacks.conftest import KEY  # isort: skip

PASSWORD = "only-for-this-test"
CANARY = "canary-4471"
REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.PostgresSyntaxError)


@dataclass
class Bi:
    """A database with two tenants, a login that reads one, and one that reads both."""

    ground: Ground
    mine: TenantInfo
    other: TenantInfo
    role: str
    everyone: str

    @asynccontextmanager
    async def connected(self, role: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        arguments: dict[str, Any] = connect_args(self.ground.url("app"))
        arguments |= {"user": role or self.role, "password": PASSWORD}
        conn = await asyncpg.connect(**arguments)
        try:
            yield conn
        finally:
            await conn.close()


async def login(ground: Ground) -> str:
    """A role of its own, which the test's end drops."""
    name = f"bi_{uuid4().hex[:12]}"
    async with ground.connected("admin") as admin:
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        await admin.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {ground.database} TO {name}")
    return name


async def drop(ground: Ground, *names: str) -> None:
    for name in names:
        await revoke_bi(ground.url("admin"), name, roles=ground.server.roles)
        async with ground.connected("admin") as admin:
            await admin.execute(f"REVOKE ALL ON DATABASE {ground.database} FROM {name}; DROP ROLE {name}")


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["plain", "hardened"])
async def bi(request: pytest.FixtureRequest, tally_server: Any, tally: Any, key_file: Any) -> AsyncIterator[Bi]:
    template = await tally_server.template(None, ENTITIES, ())
    ground = Ground(tally_server, await tally_server.clone(template, f"_bi_{request.param}"), tally.keys)
    more = {}
    if request.param == "hardened":
        await harden(ground.url("admin"), key=KEY, roles=tally_server.roles)
        more = {"tenant_key_file": key_file}
    async with ground.opened(**more) as app:
        ground.tally = app
        mine, other = await ground.tenants(2)
        for tenant in (mine, other):
            async with app.session(tenant, actor=CANARY) as db:
                await db[Holder].add(Holder(code=f"of-{tenant.slug}"[:40], email=f"{CANARY}@example.com"))
        role, everyone = await login(ground), await login(ground)
        options: dict[str, Any] = {"entities": ENTITIES, "roles": tally_server.roles}
        await grant_bi(ground.url("admin"), role, tenant=mine.slug, **options)
        await grant_bi(ground.url("admin"), everyone, all_tenants=True, **options)
        try:
            yield Bi(ground, mine, other, role, everyone)
        finally:
            await drop(ground, role, everyone)
    await tally_server.drop(ground.database)


async def ids(conn: asyncpg.Connection) -> set[Any]:
    return {r["tenant_id"] for r in await conn.fetch("SELECT tenant_id FROM tally_bi.holder")}


async def test_a_login_sees_its_tenant_masked(bi: Bi) -> None:
    async with bi.connected() as conn:
        (row,) = await conn.fetch("SELECT * FROM tally_bi.holder")
    assert row["tenant_id"] == bi.mine.id
    assert row["email"] == MASK
    assert row["name"] is None
    assert not [name for name in row.keys() if name.endswith(("_bidx", "_mask"))]  # noqa: SIM118
    assert CANARY not in repr(dict(row))
    async with bi.connected(bi.everyone) as conn:
        assert await ids(conn) >= {bi.mine.id, bi.other.id}


@pytest.mark.parametrize("how", ["SET", "SET LOCAL", "set_config", "option"])
async def test_no_setting_changes_whose_rows_they_are(bi: Bi, how: str) -> None:
    for value in (str(bi.other.id), SIGN(bi.other.id), "", "nonsense"):
        async with bi.connected() as conn, conn.transaction():
            if how.startswith("SET"):
                await conn.execute(f"{how} tally.tenant = '{value}'")
            elif how == "set_config":
                await conn.fetchval("SELECT set_config('tally.tenant', $1, true)", value)
            else:
                await conn.execute("SET row_security = off; SET search_path = pg_temp, tally_bi; SET role = none")
            assert await ids(conn) == {bi.mine.id}
            joined = "SELECT h.tenant_id FROM tally_bi.holder h, set_config('tally.tenant', $1, false)"
            assert {r[0] for r in await conn.fetch(joined, value)} == {bi.mine.id}


async def test_the_logins_own_default_changes_nothing(bi: Bi) -> None:
    default = f"ALTER ROLE {bi.role} SET tally.tenant = '{bi.other.id}'"
    async with bi.connected() as conn:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(f"SET tally.tenant = 'x'; {default}")
    async with bi.ground.connected("superuser") as superuser:
        await superuser.execute(default)
    async with bi.connected() as conn:
        assert await conn.fetchval("SHOW tally.tenant") == str(bi.other.id)
        assert await ids(conn) == {bi.mine.id}
    async with bi.ground.connected("superuser") as superuser:
        await superuser.execute(f"ALTER ROLE {bi.role} RESET tally.tenant")


async def test_what_the_function_sets_is_gone_afterwards(bi: Bi) -> None:
    async with bi.connected() as conn, conn.transaction():
        assert await ids(conn) == {bi.mine.id}
        assert await conn.fetchval("SELECT current_setting('tally.tenant', true)") in (None, "")
        seen = "SELECT current_setting('tally.tenant', true) FROM tally_bi.holder"
        assert {r[0] for r in await conn.fetch(seen)} <= {None, ""}


async def test_no_role_can_be_taken(bi: Bi) -> None:
    roles = bi.ground.server.roles
    async with bi.connected() as conn:
        for role in (*roles.all, bi.everyone, "postgres"):
            for words in ("SET ROLE", "SET SESSION AUTHORIZATION"):
                with pytest.raises((*REFUSED, asyncpg.InvalidParameterValueError, asyncpg.UndefinedObjectError)):
                    await conn.execute(f"{words} {role}")


async def test_a_member_of_a_reading_role_still_reads_by_its_own_login(bi: Bi) -> None:
    """Who may become the role that reads everything has its grants, and is nobody for the mapping."""
    async with bi.ground.connected("admin") as admin:
        await admin.execute(f"GRANT {bi.everyone} TO {bi.role}")
    try:
        async with bi.connected() as conn:
            await conn.execute(f"SET ROLE {bi.everyone}")
            assert await ids(conn) == {bi.mine.id}
    finally:
        async with bi.ground.connected("admin") as admin:
            await admin.execute(f"REVOKE {bi.everyone} FROM {bi.role}")
    stranger = await login(bi.ground)
    try:
        async with bi.ground.connected("admin") as admin:
            await admin.execute(f"GRANT {bi.everyone} TO {stranger}")
        async with bi.connected(stranger) as conn:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="reads no tenant"):
                await ids(conn)
    finally:
        async with bi.ground.connected("admin") as admin:
            await admin.execute(f"REVOKE {bi.everyone} FROM {stranger}")
        await drop(bi.ground, stranger)


async def test_a_function_in_the_condition_sees_nothing_that_the_view_hides(bi: Bi) -> None:
    """The classic leak of a view: a cheap function that tells what it is given, run before the view's own condition."""
    async with bi.connected() as conn:
        told: list[str] = []
        conn.add_log_listener(lambda _, message: told.append(str(message)))
        await conn.execute(
            "CREATE FUNCTION pg_temp.spy(anything text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
            "$$ BEGIN RAISE NOTICE 'seen %', anything; RETURN true; END $$"
        )
        await conn.fetch(
            "SELECT 1 FROM tally_bi.holder h WHERE pg_temp.spy(h::text) AND pg_temp.spy(h.tenant_id::text)"
        )
        assert told
        assert str(bi.other.id) not in "".join(told)
        assert CANARY not in "".join(told)
        with pytest.raises(asyncpg.PostgresError) as caught:
            await conn.fetch("SELECT (code || tenant_id)::int FROM tally_bi.holder")
        assert bi.other.slug not in str(caught.value)


async def test_things_of_pg_temp_stand_in_for_nothing(bi: Bi) -> None:
    async with bi.connected() as conn:
        await conn.execute(
            "CREATE TEMP TABLE reader (role name, tenant_id uuid); CREATE TEMP TABLE holder (tenant_id uuid);"
            f"INSERT INTO pg_temp.reader VALUES (session_user, '{bi.other.id}');"
            "CREATE FUNCTION pg_temp.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;"
            "CREATE FUNCTION pg_temp.tenants() RETURNS uuid[] LANGUAGE sql AS "
            f"$$ SELECT ARRAY['{bi.other.id}'::uuid] $$;"
            "SET search_path = pg_temp, tally_bi, pg_catalog"
        )
        assert {r[0] for r in await conn.fetch("SELECT tenant_id FROM tally_bi.holder")} == {bi.mine.id}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM tally.holder",
        "SELECT * FROM tally_ref.tenant",
        "SELECT * FROM tally_ref.tenant_list()",
        "SELECT * FROM tally_audit.entry",
        "SELECT * FROM tally_bi.reader",
        "SELECT tally_bi.tenants()",
        "SELECT tally_sec.token(gen_random_uuid())",
        "INSERT INTO tally_bi.reader (role) VALUES (session_user)",
        "UPDATE tally_bi.reader SET tenant_id = NULL",
        "INSERT INTO tally_bi.holder (code) VALUES ('x')",
        "DELETE FROM tally_bi.holder",
        "CREATE TABLE tally_bi.mine (x int)",
        "CREATE FUNCTION tally_bi.spy() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE VIEW tally_bi.holder AS SELECT 1",
        "ALTER VIEW tally_bi.holder SET (security_barrier = false)",
        "TRUNCATE tally.holder",
    ],
)
async def test_nothing_else_can_be_reached(bi: Bi, statement: str) -> None:
    for role in (bi.role, bi.everyone):
        async with bi.connected(role) as conn:
            # A view over a function cannot be written to at all; that is another code than a missing right.
            with pytest.raises((*REFUSED, asyncpg.ObjectNotInPrerequisiteStateError)):
                await conn.execute(statement)


async def test_the_catalogue_tells_no_tenant_and_no_value(bi: Bi) -> None:
    async with bi.ground.connected("owner") as owner:
        await owner.execute("ANALYZE tally.holder")
    async with bi.connected() as conn:
        stats = "SELECT count(*) FROM pg_stats WHERE schemaname IN ('tally', 'tally_bi')"
        assert await conn.fetchval(stats) == 0
        for catalogue in ("pg_db_role_setting", "pg_proc", "pg_roles"):
            text = repr(await conn.fetch(f"SELECT t::text FROM {catalogue} t"))
            assert str(bi.mine.id) not in text
            assert str(bi.other.id) not in text
        plan = repr(await conn.fetch("EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM tally_bi.holder"))
        assert str(bi.other.id) not in plan


async def test_what_the_schema_lint_says(bi: Bi) -> None:
    roles = bi.ground.server.roles
    async with bi.ground.connected("admin") as admin:
        assert [f for f in await lint(admin, roles) if "tally_bi" in str(f) or f.code == "bi-role"] == []
        await admin.execute(f"GRANT {roles.app} TO {bi.role}")
        try:
            assert [f.object for f in await lint(admin, roles) if f.code == "bi-role"] == [bi.role]
            with pytest.raises(Denied):
                await grant_bi(bi.ground.url("admin"), bi.role, tenant=bi.mine.id, entities=ENTITIES, roles=roles)
        finally:
            await admin.execute(f"REVOKE {roles.app} FROM {bi.role}")


async def test_revoked_it_reads_nothing(bi: Bi) -> None:
    role = await login(bi.ground)
    options: dict[str, Any] = {"entities": ENTITIES, "roles": bi.ground.server.roles}
    await grant_bi(bi.ground.url("admin"), role, tenant=bi.other.id, **options)
    async with bi.connected(role) as conn:
        assert await ids(conn) == {bi.other.id}
        assert await revoke_bi(bi.ground.url("admin"), role, roles=bi.ground.server.roles)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ids(conn)
    assert role not in {r.role for r in await bi_readers(bi.ground.url("admin"), roles=bi.ground.server.roles)}
    await drop(bi.ground, role)
