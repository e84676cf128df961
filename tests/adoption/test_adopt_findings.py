"""What ``adopt`` and ``remove`` say about databases that are not as one would wish, and the commands themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from tests.adoption.orchard_host import PASSWORD, Orchard, drop_orchard, make_orchard
from tests.bouncer import MISSING, PGBOUNCER, pgbouncer

from tallystick import User, adopt, beside
from tallystick.cli.entry import execute
from tallystick.errors import Conflict, Invalid, NotProvisioned, StillReferenced, Unavailable
from tallystick.schema import remove_facts
from tallystick.schema.joining import allow_joining
from tallystick.schema.lint import lint
from tallystick.schema.migrate import migrate, status
from tallystick.schema.online import runner
from tallystick.schema.provision import provision
from tallystick.schema.remove import plan_removal, remove
from tallystick.schema.roles import quoted
from tallystick.settings import Settings, connect_args
from tallystick.testing.server import KitServer

DOMAINS = ("identity",)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def empty(tally_server: KitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Orchard]:
    """A managed database with nothing in it; each test leaves it so."""
    made = await make_orchard(tally_server, tmp_path_factory.mktemp("empty"))
    try:
        yield made
    finally:
        await drop_orchard(made)


@pytest.fixture
def environment(empty: Orchard, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "TALLYSTICK_SEAL_URL", "TALLYSTICK_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TALLYSTICK_ADMIN_URL", empty.owner_url)
    monkeypatch.setenv("TALLYSTICK_ROLE_PREFIX", empty.roles.prefix)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    conn = await asyncpg.connect(**connect_args(url))
    try:
        yield conn
    finally:
        await conn.close()


def superuser(orchard: Orchard) -> str:
    made = orchard.server.embedded
    if made is None:
        pytest.skip("needs a superuser, which a named server need not give")
    return made._url("postgres", made._passwords["postgres"], orchard.name)


async def nobody_connected(orchard: Orchard) -> None:
    for _ in range(100):
        if not (await plan_removal(orchard.owner_url, roles=orchard.roles)).sessions:
            return
        await asyncio.sleep(0.05)


async def codes(orchard: Orchard, url: str = "") -> set[str]:
    found = await adopt(url or orchard.owner_url, roles=orchard.roles, domains=DOMAINS)
    assert found.ready is not any(f.stops for f in found.findings)
    return {f.code for f in found.findings}


async def test_a_clean_database_has_no_findings_for_its_owner_or_a_superuser(empty: Orchard) -> None:
    assert await codes(empty) == set()
    found = await adopt(superuser(empty), roles=empty.roles, domains=DOMAINS)
    assert found.superuser
    assert found.ready
    assert found.host == ()


async def test_hazards_of_the_host_are_told(empty: Orchard) -> None:
    hazards = (
        "CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$",
        "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.watch()",
        "CREATE PUBLICATION everything FOR ALL TABLES",
        f"ALTER ROLE {quoted(empty.owner)} SET search_path = public, tally",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        # The owner is excepted; what the application would write is not.
        f"ALTER ROLE {quoted(empty.owner)} IN DATABASE {quoted(empty.name)} SET default_transaction_read_only = off",
        f"ALTER DATABASE {quoted(empty.name)} SET default_transaction_read_only = on",
    )
    back = (
        "SET default_transaction_read_only = off",
        f"ALTER DATABASE {quoted(empty.name)} RESET default_transaction_read_only",
        f"ALTER ROLE {quoted(empty.owner)} IN DATABASE {quoted(empty.name)} RESET ALL",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"ALTER ROLE {quoted(empty.owner)} RESET search_path",
        "DROP PUBLICATION everything",
        "DROP EVENT TRIGGER watch",
        "DROP FUNCTION public.watch()",
    )
    url = superuser(empty)
    async with connected(url) as conn:
        for statement in hazards:
            await conn.execute(statement)
        found = await codes(empty)
        app = empty.roles.app
        await conn.execute(
            f"SET default_transaction_read_only = off; CREATE ROLE {app} LOGIN; "
            f"ALTER ROLE {app} SET default_transaction_read_only = off"
        )
        assert await codes(empty) == found - {"read-only"} | {"roles-there"}
        await conn.execute(f"DROP ROLE {app}")
        for statement in back:
            await conn.execute(statement)
    assert found == {"event-trigger", "publication", "search-path", "public-creates", "read-only"}


async def test_another_installation_on_the_server_is_no_hazard(empty: Orchard) -> None:
    others = [f"{empty.owner}_second_{kind}" for kind in ("owner", "audit", "seal", "app")]
    async with connected(empty.owner_url) as conn:
        for role in others:
            await conn.execute(f"CREATE ROLE {role}")
        for role in others[2:]:
            await conn.execute(f"ALTER ROLE {role} SET search_path = tally, tally_ref, pg_catalog")
        found = await codes(empty)
        for role in others:
            await conn.execute(f"DROP ROLE {role}")
    assert found == set()


@pytest.mark.skipif(PGBOUNCER is None, reason=MISSING)
async def test_a_pooler_is_noticed(empty: Orchard) -> None:
    with pgbouncer(empty.owner_url) as url:
        assert await codes(empty, url) == {"pooler"}


async def test_a_role_without_rights_gets_the_sql_for_a_dba(empty: Orchard) -> None:
    reader = f"{empty.owner}_reader"
    async with connected(empty.owner_url) as conn:
        await conn.execute(f"CREATE ROLE {quoted(reader)} LOGIN PASSWORD '{PASSWORD}'")
        url = empty._url(reader, PASSWORD)
        found = await adopt(url, roles=empty.roles, domains=DOMAINS)
        assert not found.ready
        assert {f.code for f in found.findings} == {"right-missing"}
        assert found.commands[0] == (
            f"tallystick provision --sql --admin {reader} --database {empty.name} > tallystick.sql"
        )
        async with connected(superuser(empty)) as dba:
            await dba.execute(found.sql)
        there = await adopt(url, roles=empty.roles, domains=DOMAINS)
        assert there.ready
        assert there.sql == ""
        assert there.commands[0] == "tallystick migrate --domains identity"
        with pytest.raises(NotProvisioned, match="Nothing was removed"):
            await remove(empty.owner_url, roles=empty.roles)
        with pytest.raises(NotProvisioned, match="may not look into"):
            await lint(conn, empty.roles)
        assert set((await remove(url, roles=empty.roles)).kept) == set(empty.roles.all)
        async with connected(superuser(empty)) as dba:
            for role in empty.roles.all:
                await dba.execute(f"DROP ROLE {role}")
            await dba.execute(f"DROP ROLE {quoted(reader)}")


async def test_what_bears_our_names_and_is_not_ours_stops_it_and_is_left_alone(empty: Orchard) -> None:
    async with connected(empty.owner_url) as conn:
        await conn.execute("CREATE SCHEMA tally; CREATE TABLE tally.stick (notch int)")
        assert await codes(empty) == {"name-taken", "schema-not-ours"}
        with pytest.raises(Conflict, match="are not ours: tally"):
            await remove(empty.owner_url, roles=empty.roles, data_too=True)
        assert await conn.fetchval("SELECT count(*) FROM tally.stick") == 0
        await conn.execute("DROP SCHEMA tally CASCADE; CREATE SCHEMA tally_bi")
        assert await codes(empty) == {"name-taken"}
        with pytest.raises(NotProvisioned, match="schema tally_bi exists"):
            await provision(empty.owner_url, roles=empty.roles)
        await conn.execute("DROP SCHEMA tally_bi")


async def test_the_schema_of_masked_views_is_ours_too(empty: Orchard) -> None:
    await provision(empty.owner_url, roles=empty.roles)
    async with connected(empty.owner_url) as conn:
        await conn.execute(f"CREATE SCHEMA tally_bi AUTHORIZATION {empty.roles.owner}")
    assert await codes(empty) == set()
    assert "tally_bi" in (await remove(empty.owner_url, roles=empty.roles)).schemas


async def test_what_the_database_gives_every_session_does_not_reach_ours(empty: Orchard) -> None:
    everybody = {
        "default_transaction_isolation": "serializable",
        "row_security": "off",
        "quote_all_identifiers": "on",
        "lock_timeout": "1h",
        "statement_timeout": "1h",
        "idle_session_timeout": "1h",
        "idle_in_transaction_session_timeout": "1h",
    }
    async with connected(superuser(empty)) as conn:
        if conn.get_server_version() >= (17,):
            everybody["transaction_timeout"] = "1h"
        for name, value in everybody.items():
            await conn.execute(f"ALTER DATABASE {quoted(empty.name)} SET {name} = '{value}'")
        await provision(empty.owner_url, roles=empty.roles, app_password=PASSWORD)
        async with connected(empty.app_url(empty.roles.app)) as app:
            assert await app.fetchval("SHOW default_transaction_isolation") == "read committed"
            assert await app.fetchval("SHOW row_security") == "on"
        await migrate(empty.owner_url, roles=empty.roles)
        await conn.execute(f"CREATE ROLE {quoted(empty.name)} LOGIN PASSWORD '{PASSWORD}'")
        with pytest.raises(NotProvisioned, match="may not read how far"):
            await status(empty._url(empty.name, PASSWORD), roles=empty.roles)
        await conn.execute(f"DROP ROLE {quoted(empty.name)}")
        async with runner(empty.owner_url, empty.roles) as run:
            found = await run.connection.exec_driver_sql(
                "SELECT name, setting FROM pg_settings WHERE name = ANY ($1::text[])", (list(everybody),)
            )
            assert dict(map(tuple, found)) == {
                **dict.fromkeys(everybody, "0"),
                "lock_timeout": "500",  # whoever queues behind a migration waits no longer
                "default_transaction_isolation": "read committed",
                "row_security": "on",
                "quote_all_identifiers": "on",
            }
            assert await lint(run.lock, empty.roles) == []
        await conn.execute(f"ALTER DATABASE {quoted(empty.name)} RESET ALL")
    await nobody_connected(empty)
    await remove(empty.owner_url, roles=empty.roles)


async def test_a_login_that_becomes_the_owner_by_itself_removes_what_it_made(empty: Orchard) -> None:
    """``ALTER DATABASE ... SET role`` is how several people own tables together; without it one may drop no role."""
    login = f"{empty.owner}_ann"
    async with connected(superuser(empty)) as conn:
        await conn.execute(
            f"CREATE ROLE {quoted(login)} LOGIN PASSWORD '{PASSWORD}'; GRANT {quoted(empty.owner)} TO {quoted(login)}; "
            f"ALTER ROLE {quoted(login)} IN DATABASE {quoted(empty.name)} SET role = {quoted(empty.owner)}"
        )
        url = empty._url(login, PASSWORD)
        assert await codes(empty, url) == set()
        await provision(url, roles=empty.roles)
        assert (await remove(url, roles=empty.roles)).roles == empty.roles.all
        await conn.execute(f"DROP ROLE {quoted(login)}")


async def test_a_plan_that_the_server_breaks_off_says_so(empty: Orchard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remove_facts, "HANGING", "SELECT 1 / 0 WHERE $1::text[] IS NOT NULL")
    with pytest.raises(Unavailable, match="DivisionByZero"):
        await plan_removal(empty.owner_url, roles=empty.roles)


async def test_a_newer_revision_stops_it(empty: Orchard) -> None:
    await provision(empty.owner_url, roles=empty.roles)
    async with connected(empty.owner_url) as conn:
        await conn.execute(
            f"SET ROLE {empty.roles.owner}; CREATE TABLE tally_ref.schema_version (version_num text); "
            "INSERT INTO tally_ref.schema_version VALUES ('kit_9999'); RESET ROLE"
        )
        assert await codes(empty) == {"newer-revision"}
        await remove(empty.owner_url, roles=empty.roles)


async def test_roles_stay_while_something_else_needs_them(empty: Orchard) -> None:
    app = empty.roles.app
    await provision(empty.owner_url, roles=empty.roles, app_password=PASSWORD)
    async with connected(empty.owner_url) as conn:
        await conn.execute(f"CREATE TABLE public.letter (id int); GRANT SELECT ON public.letter TO {app}")
        async with connected(empty.app_url(app)):
            with pytest.raises(Conflict, match=f"still connected: {app}"):
                await remove(empty.owner_url, roles=empty.roles)
        plan = await plan_removal(empty.owner_url, roles=empty.roles)
        assert plan.kept == {app: "needed by table public.letter"}
        await nobody_connected(empty)
        done = await remove(empty.owner_url, roles=empty.roles)
        assert done.kept == plan.kept
        assert set(done.roles) == set(empty.roles.all) - {app}
        assert await codes(empty) == {"roles-there"}
        assert await conn.fetchval("SELECT has_table_privilege($1, 'public.letter', 'SELECT')", app)
        await conn.execute("DROP TABLE public.letter")
        assert (await remove(empty.owner_url, roles=empty.roles)).roles == (app,)


async def test_a_role_that_only_bears_our_name_is_left_alone(empty: Orchard) -> None:
    app, seal, group = empty.roles.app, empty.roles.seal, f"{empty.owner}_readers"
    async with connected(empty.owner_url) as conn:
        await conn.execute(f"CREATE ROLE {quoted(group)}; CREATE ROLE {app} LOGIN; CREATE ROLE {seal} LOGIN CREATEROLE")
        await conn.execute(f"GRANT {quoted(group)} TO {app}")
        plan = await plan_removal(empty.owner_url, roles=empty.roles)
        assert plan.drops == ()
        done = await remove(empty.owner_url, roles=empty.roles)
        assert done.roles == ()
        assert done.kept == {
            app: f"not ours: a member of {group}",
            seal: "not ours: it may do what no role of ours may",
        }
        assert await conn.fetchval("SELECT pg_has_role($1, $2, 'MEMBER')", app, group)
        await conn.execute(f"DROP ROLE {app}, {seal}, {quoted(group)}")


@pytest.mark.parametrize("right", ["owns", "reads"])
async def test_a_login_of_the_hosts_that_bears_our_name_is_not_taken_over(empty: Orchard, right: str) -> None:
    app = empty.roles.app
    async with connected(superuser(empty)) as conn:
        await conn.execute(f"CREATE ROLE {app} LOGIN; CREATE TABLE public.letter (id int)")
        give = f"ALTER TABLE public.letter OWNER TO {app}" if right == "owns" else f"GRANT SELECT ON letter TO {app}"
        await conn.execute(give)
        assert await codes(empty) == {"name-taken", "roles-there"}
        with pytest.raises(NotProvisioned, match=rf"role {app} is another's, who needs it for table (public\.)?letter"):
            await provision(superuser(empty), roles=empty.roles, app_password=PASSWORD)
        assert await conn.fetchval("SELECT rolconfig FROM pg_roles WHERE rolname = $1", app) is None
        await conn.execute(f"DROP TABLE public.letter; DROP ROLE {app}")


async def test_a_busy_table_is_waited_for_and_then_nothing_is_removed(empty: Orchard) -> None:
    await provision(empty.owner_url, roles=empty.roles)
    async with connected(empty.owner_url) as conn:
        await conn.execute(f"SET ROLE {empty.roles.owner}; CREATE TABLE tally.busy (id int); RESET ROLE")
        async with conn.transaction():
            await conn.execute(f"SET LOCAL ROLE {empty.roles.owner}")
            await conn.execute("LOCK TABLE tally.busy IN ACCESS SHARE MODE")
            with pytest.raises(Unavailable, match="nothing was removed"):
                await remove(empty.owner_url, roles=empty.roles, patience=0)
            waiting = asyncio.create_task(remove(empty.owner_url, roles=empty.roles))
            await asyncio.sleep(0.2)
        assert len((await waiting).schemas) == 4


async def test_views_functions_and_publications_of_the_host_are_never_dropped(empty: Orchard) -> None:
    await provision(empty.owner_url, roles=empty.roles)
    owner = empty.roles.owner
    async with connected(empty.owner_url) as conn:
        await conn.execute(
            f"SET ROLE {owner}; CREATE TABLE tally.thing (id int PRIMARY KEY); "
            f"GRANT USAGE ON SCHEMA tally TO {quoted(empty.owner)}; "
            f"GRANT SELECT, REFERENCES ON tally.thing TO {quoted(empty.owner)}; RESET ROLE; "
            "CREATE VIEW public.peek AS SELECT id FROM tally.thing; CREATE TABLE public.kept (t tally.thing, "
            'id int CONSTRAINT "Odd name" REFERENCES tally.thing)'
        )
        plan = await plan_removal(empty.owner_url, roles=empty.roles)
        assert sorted(h.what.removeprefix("foreign key ") for h in plan.hanging) == [
            '"Odd name" of public.kept on tally.thing',
            "column t of table public.kept",
            "view public.peek",
        ]
        with pytest.raises(StillReferenced) as refused:
            await remove(empty.owner_url, roles=empty.roles)
        assert 'ALTER TABLE public.kept DROP CONSTRAINT "Odd name";' in refused.value.remedy
        await conn.execute("DROP VIEW public.peek; DROP TABLE public.kept")
        await remove(empty.owner_url, roles=empty.roles)


async def test_what_the_host_made_among_ours_is_never_dropped(empty: Orchard) -> None:
    await provision(empty.owner_url, roles=empty.roles)
    owner = empty.roles.owner
    async with connected(superuser(empty)) as conn:
        await conn.execute(
            f"SET ROLE {owner}; CREATE TABLE tally.thing (id int PRIMARY KEY); RESET ROLE; "
            "CREATE TABLE tally.of_the_host (id serial, big int); INSERT INTO tally.of_the_host (big) VALUES (1);"
            "CREATE VIEW tally_ref.report AS SELECT 1 AS one; CREATE DOMAIN tally_audit.word AS text; "
            "CREATE FUNCTION tally_sec.theirs(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'; "
            "CREATE FUNCTION public.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
            'CREATE TRIGGER "Odd" AFTER INSERT ON tally.thing FOR EACH ROW EXECUTE FUNCTION public.noted()'
        )
        # Its parts are the extension's, and not named one by one.
        vector = await conn.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
        if vector:
            await conn.execute("CREATE EXTENSION vector SCHEMA tally")
        plan = await plan_removal(empty.owner_url, roles=empty.roles)
        who = await conn.fetchval("SELECT current_user")
        assert {h.what: h.sql for h in plan.hanging} == ({"extension vector": ""} if vector else {}) | {
            f"function tally_sec.theirs(integer) of {who}": (
                "ALTER ROUTINE tally_sec.theirs(integer) SET SCHEMA public;"
            ),
            f"table tally.of_the_host of {who}": "ALTER TABLE tally.of_the_host SET SCHEMA public;",
            "trigger Odd on table tally.thing": 'DROP TRIGGER "Odd" ON tally.thing;',
            f"type tally_audit.word of {who}": "ALTER TYPE tally_audit.word SET SCHEMA public;",
            f"view tally_ref.report of {who}": "ALTER VIEW tally_ref.report SET SCHEMA public;",
        }
        with pytest.raises(StillReferenced, match="of_the_host"):
            await remove(empty.owner_url, roles=empty.roles, data_too=True)
        await conn.execute("DROP EXTENSION IF EXISTS vector")
        for one in plan.hanging:
            await conn.execute(one.sql or "SELECT")
        await remove(empty.owner_url, roles=empty.roles, data_too=True)
        assert await conn.fetchval("SELECT big FROM public.of_the_host") == 1
        await conn.execute(
            "DROP TABLE public.of_the_host; DROP VIEW public.report; DROP DOMAIN public.word; "
            "DROP FUNCTION public.theirs(int); DROP FUNCTION public.noted()"
        )


_RIGHTS = """
SELECT r.rolname::text, r.rolinherit, ARRAY(SELECT pg_get_userbyid(m.roleid)::text FROM pg_auth_members m
    WHERE m.member = r.oid ORDER BY 1),
  (SELECT count(*) FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid)
FROM pg_roles r WHERE r.rolname = ANY ($1::text[]) ORDER BY 1
"""


async def test_roles_of_the_host_are_as_before_they_joined(empty: Orchard) -> None:
    login, app = f"{empty.owner}_web", empty.roles.app
    async with connected(empty.owner_url) as conn:
        await conn.execute(f"CREATE ROLE {quoted(login)} LOGIN; CREATE TABLE public.letter (id int)")
        before = await conn.fetch(_RIGHTS, [login, empty.owner])
        for kept in (False, True):
            await provision(empty.owner_url, roles=empty.roles)
            await conn.execute(f"SET ROLE {empty.roles.owner}; CREATE TABLE tally.thing (tenant_id int, id int)")
            await conn.execute("RESET ROLE")
            for role in (login, empty.owner):
                await allow_joining(empty.owner_url, role, roles=empty.roles, references=["thing"])
            assert (await adopt(empty.owner_url, roles=empty.roles, domains=DOMAINS)).joined == (empty.owner, login)
            if kept:
                await conn.execute(f"GRANT SELECT ON public.letter TO {app}")
            assert (await plan_removal(empty.owner_url, roles=empty.roles)).joined == (empty.owner, login)
            done = await remove(empty.owner_url, roles=empty.roles)
            assert done.kept == ({app: "needed by table public.letter"} if kept else {})
            if not kept:
                assert await conn.fetch(_RIGHTS, [login, empty.owner]) == before
            assert not await conn.fetchval(
                "SELECT count(*) FROM pg_auth_members m WHERE pg_get_userbyid(m.roleid) = $1 AND NOT m.admin_option",
                app,
            )
        await conn.execute("DROP TABLE public.letter")
        await remove(empty.owner_url, roles=empty.roles)
        assert await conn.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", app) == 0
        await conn.execute(f"DROP ROLE {quoted(login)}")


async def test_a_membership_that_another_database_may_need_stays_and_is_told(empty: Orchard) -> None:
    login, app, other = f"{empty.owner}_web", empty.roles.app, f"{empty.name}_2"
    async with connected(superuser(empty)) as conn:
        await conn.execute(f"CREATE ROLE {quoted(login)} LOGIN")
        await conn.execute(f"CREATE DATABASE {quoted(other)} OWNER {quoted(empty.owner)}")
        await provision(empty.owner_url, roles=empty.roles)
        second = empty.owner_url.replace(empty.name, other)
        await provision(second, roles=empty.roles)
        await allow_joining(empty.owner_url, login, roles=empty.roles)
        done = await remove(empty.owner_url, roles=empty.roles)
        assert done.roles == ()
        assert done.kept[app] == f"used by {other}; {login} may still act as it"
        assert await conn.fetchval("SELECT pg_has_role($1, $2, 'MEMBER')", login, app)
        gone = await remove(second, roles=empty.roles)
        assert set(gone.roles) == set(empty.roles.all)
        await conn.execute(f"DROP DATABASE {quoted(other)}")
        await conn.execute(f"DROP ROLE {quoted(login)}")


async def test_the_budget_and_the_way_to_join_are_told(empty: Orchard) -> None:
    settings = Settings(role_prefix=empty.roles.prefix, workers=500, pool_max=20)
    async with connected(empty.owner_url) as conn:
        await conn.execute("CREATE TABLE public.letter (id int)")
        found = await adopt(empty.owner_url, domains=DOMAINS, settings=settings)
        await conn.execute("DROP TABLE public.letter")
    assert found.ready
    assert [f.code for f in found.findings] == ["connections"]
    finding = found.findings[0]
    assert (finding.code, finding.stops) == ("connections", False)
    assert "500 workers with pools of 20 may open 10000 connections" in finding.problem
    assert finding.remedy.startswith("Run at most")
    assert found.connections.needed == 10_000
    assert found.connections.others >= 1
    assert found.facts["connections"].startswith("500 processes with pools of 20 may open 10000; ")
    assert found.join_command == f"tallystick provision --join {empty.owner}"
    assert f'GRANT {empty.roles.app} TO "{empty.owner}"' in found.join_sql
    await provision(empty.owner_url, roles=empty.roles, app_password=PASSWORD)
    ours = await adopt(empty.app_url(empty.roles.app), domains=DOMAINS, settings=settings)
    assert ours.join_command == ours.join_sql == ""
    assert ours.joined == ()
    await nobody_connected(empty)
    await remove(empty.owner_url, roles=empty.roles)
    through = Settings(role_prefix=empty.roles.prefix, workers=500, pool_max=20, pooler="transaction")
    assert (await adopt(empty.owner_url, domains=DOMAINS, settings=through)).findings == ()


@pytest.mark.usefixtures("environment")
def test_the_commands(empty: Orchard, capsys: pytest.CaptureFixture[str]) -> None:
    def cli(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = execute(list(arguments))
        return code, capsys.readouterr().out

    async def owner(statement: str) -> None:
        async with connected(empty.owner_url) as conn:
            await conn.execute(statement)

    code, out = cli("adopt", "--json", "--domains", "identity")
    assert code == 0
    told = json.loads(out)
    assert told["ready"] is True
    assert told["connections"]["fits"] is True
    assert told["join"]["command"] == f"tallystick provision --join {empty.owner}"
    assert told["join"]["joined"] == []
    code, out = cli("adopt", "--domains", "identity")
    assert code == 0
    assert "tallystick migrate --domains identity" in out
    assert f"tallystick provision --join {empty.owner}" in out
    assert "nothing was changed" in " ".join(out.split())
    assert cli("remove")[1].endswith("has nothing of Tallystick.\n")
    asyncio.run(provision(empty.owner_url, roles=empty.roles))
    code, out = cli("remove", "--json")
    assert code == 0
    assert json.loads(out)["roles"] == list(empty.roles.all)
    assert cli("remove")[0] == 0
    code, out = cli("remove", "--yes", "--json")
    assert code == 0
    assert json.loads(out)["schemas"] == ["tally", "tally_ref", "tally_sec", "tally_audit"]
    asyncio.run(owner("CREATE SCHEMA tally"))
    assert cli("adopt")[0] == 1
    assert cli("remove")[0] == 1
    assert cli("remove", "--yes")[0] == 5
    asyncio.run(owner("DROP SCHEMA tally"))


async def test_an_unknown_domain_is_refused(empty: Orchard) -> None:
    with pytest.raises(Invalid, match="no domain"):
        await adopt(empty.owner_url, domains=["lendings"])


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg"])
@pytest.mark.parametrize("all_schemas", [True, False])
async def test_a_key_into_ours_that_no_model_declares_is_left_alone(
    empty: Orchard, driver: str, all_schemas: bool
) -> None:
    if driver.endswith("psycopg"):
        pytest.importorskip("psycopg")
    metadata = sa.MetaData(naming_convention={"fk": "fk__%(table_name)s__%(column_0_N_name)s"})
    pair = (sa.Column("tenant_id", sa.Uuid), sa.Column("user_id", sa.Uuid))
    sa.Table("undeclared", metadata, *(c._copy() for c in pair))
    # Copies of ours in the host's metadata: not needed, but people make them.
    User.table.metadata.tables["tally_ref.tenant"].to_metadata(metadata)
    ours = User.table.to_metadata(metadata)
    sa.Table(
        "declared",
        metadata,
        *(c._copy() for c in pair),
        sa.ForeignKeyConstraint(["tenant_id", "user_id"], [ours.c.tenant_id, ours.c.id]),
    )
    setup = (
        "CREATE SCHEMA tally; CREATE TABLE tally.user_account (tenant_id uuid, id uuid, PRIMARY KEY (tenant_id, id)); "
        "CREATE TABLE public.undeclared (tenant_id uuid, user_id uuid, CONSTRAINT by_hand FOREIGN KEY "
        "(tenant_id, user_id) REFERENCES tally.user_account); CREATE TABLE public.declared (tenant_id uuid, "
        "user_id uuid, CONSTRAINT any_name FOREIGN KEY (tenant_id, user_id) REFERENCES tally.user_account)"
    )

    def differences(connection: sa.Connection, **hooks: Any) -> list[str]:
        options = {"include_schemas": all_schemas, **hooks}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        return sorted(d[0] for d in found if isinstance(d, tuple))

    async with connected(empty.owner_url) as conn:
        await conn.execute(setup)
        try:
            if driver.endswith("psycopg"):
                engine = sa.create_engine(empty.alchemy.set(drivername=driver))
                with engine.connect() as sync:
                    bare, beside_ours = differences(sync), differences(sync, **beside())
                engine.dispose()
            else:
                asynchronous = empty.engine()
                async with asynchronous.connect() as connection:
                    bare = await connection.run_sync(differences)
                    beside_ours = await connection.run_sync(lambda c: differences(c, **beside()))
                await asynchronous.dispose()
        finally:
            await conn.execute("DROP TABLE public.undeclared, public.declared; DROP SCHEMA tally CASCADE")
    assert "remove_fk" in bare
    assert beside_ours == []
