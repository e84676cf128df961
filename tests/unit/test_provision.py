"""Roles, schemas and rights on the newest and the oldest PostgreSQL, and the guard that checks who connects."""

from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tallystick.errors import Denied, Invalid, NotProvisioned, Unavailable, Unsupported
from tallystick.schema import guard
from tallystick.schema.guard import check_application_role
from tallystick.schema.provision import provision, provision_sql
from tallystick.schema.roles import SCHEMAS, Roles
from tallystick.schema.scram import scram_verifier
from tallystick.settings import build_url, connect_args
from tallystick.stores.embedded import EmbeddedServer

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "correct horse battery staple 1'2$3"
_numbers = itertools.count(1)


class Installation:
    """A fresh database and role prefix on a shared server."""

    def __init__(self, server: EmbeddedServer, number: int) -> None:
        self.server = server
        self.database = f"d{number}"
        self.roles = Roles(f"p{number}")
        self.admin = server.url("admin", self.database)
        self.super = server._url("postgres", server._passwords["postgres"], self.database)

    def url(self, user: str, password: str = PASSWORD) -> str:
        given = connect_args(self.admin)
        return build_url(host=given["host"], port=given["port"], user=user, password=password, database=self.database)

    async def run(self, statement: str, *, url: str | None = None) -> list[asyncpg.Record]:
        """Run a statement as the superuser, or as whoever the URL names."""
        connection = await asyncpg.connect(**connect_args(url or self.super))
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    async def plain_admin(self, rights: str = "") -> str:
        """A login of a managed server with these rights and no more."""
        name = f"{self.roles.prefix}_dba"
        await self.run(f"CREATE ROLE {name} LOGIN {rights} PASSWORD '{scram_verifier(PASSWORD)}'")
        return self.url(name)

    def psql(self, script: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
        given = connect_args(url or self.super)
        return subprocess.run(
            [self.server._cluster._binaries.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            input=script,
            env={
                "PGHOST": given["host"],
                "PGPORT": str(given["port"]),
                "PGUSER": given["user"],
                "PGPASSWORD": given["password"],
                "PGDATABASE": given["database"],
            },
            text=True,
            capture_output=True,
            check=False,
        )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(None, id="18"),
        pytest.param(
            DEBIAN_15,
            id="15",
            marks=pytest.mark.skipif(not DEBIAN_15.exists(), reason="Debian's PostgreSQL 15 is not installed"),
        ),
    ],
)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedServer]:
    started = await EmbeddedServer.start(temporary=True, binaries=request.param)
    yield started
    await started.stop()


@pytest.fixture
async def site(server: EmbeddedServer) -> Installation:
    made = Installation(server, next(_numbers))
    await server.ensure_database(made.database)
    return made


async def test_an_owner_that_is_no_superuser_provisions(site: Installation) -> None:
    report = await provision(site.admin, app_password=PASSWORD, seal_password=PASSWORD, roles=site.roles)
    assert report.database == site.database
    assert report.created_roles == site.roles.all
    assert report.created_schemas == SCHEMAS
    assert report.passwords_set == (site.roles.app, site.roles.seal)
    assert report.roles_without_password == ()
    found = await site.run(
        "SELECT rolname, rolcanlogin, rolinherit, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb"
        f" OR rolreplication AS mighty FROM pg_roles WHERE rolname LIKE '{site.roles.prefix}\\_%' ORDER BY 1"
    )
    assert [tuple(row) for row in found] == [
        (site.roles.app, True, False, False),
        (site.roles.audit, False, True, False),
        (site.roles.owner, False, True, False),
        (site.roles.seal, True, False, False),
    ]
    owners = await site.run(
        "SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname LIKE 'tally%' ORDER BY 1"
    )
    owner, audit = site.roles.owner, site.roles.audit
    assert [tuple(row) for row in owners] == [
        ("tally", owner),
        ("tally_audit", audit),
        ("tally_ref", owner),
        ("tally_sec", owner),
    ]
    (row,) = await site.run(
        "SELECT current_user, current_setting('search_path'), current_setting('statement_timeout'),"
        " current_setting('idle_in_transaction_session_timeout')",
        url=site.url(site.roles.app),
    )
    assert tuple(row) == (site.roles.app, "pg_catalog, tally", "30s", "30s")
    assert await site.run("SELECT 1", url=site.url(site.roles.seal))


async def test_a_second_run_does_nothing_and_keeps_passwords(site: Installation) -> None:
    await provision(site.admin, app_password=PASSWORD, roles=site.roles)
    before = await _fingerprint(site)
    report = await provision(site.admin, roles=site.roles)
    assert (report.created_roles, report.created_schemas, report.passwords_set) == ((), (), ())
    assert await _fingerprint(site) == before
    assert await site.run("SELECT 1", url=site.url(site.roles.app))
    with pytest.raises(asyncpg.InvalidPasswordError):
        await site.run("SELECT 1", url=site.url(site.roles.seal))


async def _fingerprint(site: Installation) -> list[tuple[object, ...]]:
    rows = await site.run(
        "SELECT 'role', rolname::text, rolpassword, xmin::text FROM pg_authid"
        f" WHERE rolname LIKE '{site.roles.prefix}\\_%' UNION ALL"
        " SELECT 'schema', nspname::text, nspacl::text, xmin::text FROM pg_namespace UNION ALL"
        " SELECT 'database', datname::text, datacl::text, xmin::text FROM pg_database"
        " WHERE datname = current_database() UNION ALL"
        " SELECT 'setting', setrole::regrole::text, setconfig::text, xmin::text FROM pg_db_role_setting ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def test_a_report_says_who_cannot_log_in_yet(site: Installation) -> None:
    report = await provision(site.admin, roles=site.roles)
    assert report.roles_without_password == (site.roles.app, site.roles.seal)


async def test_several_runs_at_once_in_one_and_in_two_databases(site: Installation) -> None:
    other = f"{site.database}b"
    await site.server.ensure_database(other)
    urls = [site.admin, site.server.url("admin", other)] * 3
    reports = await asyncio.gather(*(provision(url, app_password=PASSWORD, roles=site.roles) for url in urls))
    made = [role for report in reports for role in report.created_roles]
    assert sorted(made) == sorted(site.roles.all)
    assert sum(len(report.created_schemas) for report in reports) == 2 * len(SCHEMAS)


async def test_the_admin_acts_as_owner_only_by_set_role(site: Installation) -> None:
    await provision(site.admin, roles=site.roles)
    connection = await asyncpg.connect(**connect_args(site.admin))
    try:
        for role, schema in ((site.roles.owner, "tally"), (site.roles.audit, "tally_audit")):
            await connection.execute(f"SET ROLE {role}; CREATE TABLE {schema}.t (n int); RESET ROLE")
        if connection.get_server_version().major >= 16:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("SELECT * FROM tally.t")
    finally:
        await connection.close()


async def test_the_application_can_make_nothing(site: Installation) -> None:
    await provision(site.admin, app_password=PASSWORD, roles=site.roles, created_by_us=True)
    for schema in (*SCHEMAS, "public", "pg_temp"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await site.run(f"CREATE TABLE {schema}.mine (n int)", url=site.url(site.roles.app))


async def test_rights_of_the_public_are_taken_only_from_a_database_of_our_own(site: Installation) -> None:
    question = (
        "SELECT has_database_privilege('pg_monitor', current_database(), 'CONNECT'),"
        " has_schema_privilege('pg_monitor', 'public', 'USAGE')"
    )
    await provision(site.admin, roles=site.roles)
    assert tuple((await site.run(question))[0]) == (True, True)
    await provision(site.admin, roles=site.roles, app_password=PASSWORD, created_by_us=True)
    assert tuple((await site.run(question))[0]) == (False, False)
    assert await site.run("SELECT 1", url=site.url(site.roles.app))


async def test_every_missing_right_is_named(site: Installation) -> None:
    url = await site.plain_admin()
    with pytest.raises(NotProvisioned) as caught:
        await provision(url, roles=site.roles)
    text = str(caught.value)
    assert "no CREATEROLE" in text
    assert f"no CREATE on database {site.database}" in text
    assert all(name in text for name in (*site.roles.all, *SCHEMAS))
    assert "--sql" in caught.value.remedy
    assert not await site.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{site.roles.owner}'")


async def test_a_role_that_may_make_roles_and_schemas_is_enough(site: Installation) -> None:
    url = await site.plain_admin("CREATEROLE")
    await site.run(f"GRANT CREATE ON DATABASE {site.database} TO {site.roles.prefix}_dba")
    report = await provision(url, app_password=PASSWORD, roles=site.roles)
    assert report.created_schemas == SCHEMAS
    assert await site.run("SELECT 1", url=site.url(site.roles.app))


async def test_the_script_of_a_dba_does_the_same_and_a_weak_admin_confirms_it(site: Installation) -> None:
    url = await site.plain_admin()
    script = provision_sql(site.roles, site.database, admin=f"{site.roles.prefix}_dba")
    for _ in range(2):
        done = site.psql(script)
        assert (done.returncode, done.stderr) == (0, "")
    report = await provision(url, roles=site.roles)
    assert (report.created_roles, report.created_schemas) == ((), ())
    await site.run(f"SET ROLE {site.roles.owner}", url=url)
    if (await site.run("SHOW server_version_num"))[0][0] >= "160000":
        with pytest.raises(NotProvisioned, match="ADMIN OPTION"):
            await provision(url, roles=site.roles, app_password=PASSWORD)


async def test_the_script_as_the_owner_of_the_database(site: Installation) -> None:
    done = site.psql(provision_sql(site.roles), site.admin)
    assert (done.returncode, done.stderr) == (0, "")
    report = await provision(site.admin, roles=site.roles)
    assert (report.created_roles, report.created_schemas) == ((), ())


async def test_the_script_stops_in_another_database(site: Installation) -> None:
    done = site.psql(provision_sql(site.roles, "somebody's"))
    assert done.returncode != 0
    assert "another database" in done.stderr
    assert not await site.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{site.roles.owner}'")
    for name in ("", "a\0b", "x$tally$y"):
        with pytest.raises(Invalid):
            provision_sql(site.roles, name)
        with pytest.raises(Invalid):
            provision_sql(site.roles, admin=name)


async def test_without_being_able_to_become_the_owner_nothing_goes(site: Installation) -> None:
    assert site.psql(provision_sql(site.roles)).returncode == 0
    url = await site.plain_admin()
    with pytest.raises(NotProvisioned, match=f"may not SET ROLE {site.roles.owner}"):
        await provision(url, roles=site.roles)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("ALTER ROLE {app} SUPERUSER", "{app} has SUPERUSER"),
        ("ALTER ROLE {app} BYPASSRLS", "{app} has BYPASSRLS"),
        ("ALTER ROLE {seal} CREATEROLE", "{seal} has CREATEROLE"),
        ("ALTER ROLE {app} NOLOGIN", "{app} must have LOGIN"),
        ("ALTER ROLE {owner} LOGIN", "{owner} must have NOLOGIN"),
        ("GRANT {owner} TO {app}", "{app} is a member of {owner}"),
        ("ALTER SCHEMA tally OWNER TO postgres", "schema tally exists and belongs to postgres"),
    ],
)
async def test_roles_and_schemas_that_exist_but_are_unfit(site: Installation, damage: str, message: str) -> None:
    await provision(site.admin, roles=site.roles)
    names = {name: getattr(site.roles, name) for name in ("owner", "app", "seal")}
    await site.run(damage.format(**names))
    with pytest.raises(NotProvisioned) as caught:
        await provision(site.admin, roles=site.roles)
    assert message.format(**names) in str(caught.value)


async def test_passwords_travel_as_verifiers(site: Installation) -> None:
    await provision(site.admin, roles=site.roles, app_password=PASSWORD)
    ((stored,),) = await site.run(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{site.roles.app}'")
    assert stored.startswith("SCRAM-SHA-256$4096:")
    assert "correct horse" not in site.server.log_file.read_text()
    for bad in ("", "pässword", "tab\t"):
        with pytest.raises(Invalid) as caught:
            await provision(site.admin, roles=site.roles, app_password=bad)
        assert not bad or bad not in str(caught.value)


async def test_a_server_that_is_not_there_and_one_that_refuses(site: Installation) -> None:
    with pytest.raises(Unavailable, match="TALLYSTICK_ADMIN_URL"):
        await provision("postgresql://a:b@127.0.0.1:1/x")
    for url in (site.url("tally_admin", "wrong-password"), site.admin.replace(site.database, "nowhere")):
        with pytest.raises(NotProvisioned) as caught:
            await provision(url)
        assert "wrong-password" not in str(caught.value)
    with pytest.raises(Invalid, match="TALLYSTICK_ADMIN_URL"):
        await provision("postgresql://a:b@db.example.com/x?sslmode=require")


async def _guarded(site: Installation, url: str) -> list[str]:
    """Run the guard and return the statements it sent."""
    sent: list[str] = []
    connection = await asyncpg.connect(**connect_args(url))
    connection.add_query_logger(lambda record: sent.append(record.query))
    try:
        await check_application_role(connection, site.roles)
    finally:
        await connection.close()
    return sent


async def test_the_guard_lets_the_application_role_in_with_one_query(site: Installation) -> None:
    await provision(site.admin, roles=site.roles, app_password=PASSWORD)
    assert len(await _guarded(site, site.url(site.roles.app))) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("ALTER ROLE {app} SUPERUSER", "a superuser"),
        ("ALTER ROLE {app} BYPASSRLS", "BYPASSRLS"),
        ("ALTER ROLE {app} CREATEROLE", "CREATEROLE"),
        ("ALTER ROLE {app} REPLICATION", "REPLICATION"),
        ("GRANT pg_monitor TO {app}", "a member of"),
        ("GRANT {owner} TO {app}", "a member of"),
        ("CREATE TABLE tally.mine (n int); ALTER TABLE tally.mine OWNER TO {app}", "owns tally.mine"),
        ("ALTER SCHEMA tally_sec OWNER TO {app}", "owns tally_sec"),
    ],
)
async def test_t7_the_guard_refuses_a_role_that_the_wall_does_not_bind(
    site: Installation, damage: str, message: str
) -> None:
    await provision(site.admin, roles=site.roles, app_password=PASSWORD)
    connection = await asyncpg.connect(**connect_args(site.super))
    await connection.execute(damage.format(app=site.roles.app, owner=site.roles.owner))
    await connection.close()
    with pytest.raises(Denied, match=message) as caught:
        await _guarded(site, site.url(site.roles.app))
    assert site.roles.app in caught.value.remedy


async def test_t7_the_guard_refuses_superuser_admin_and_a_role_put_on_top(site: Installation) -> None:
    await provision(site.admin, roles=site.roles, app_password=PASSWORD)
    for url in (site.super, site.admin):
        with pytest.raises(Denied):
            await _guarded(site, url)
    connection = await asyncpg.connect(**connect_args(site.super))
    try:
        await connection.execute(f"SET ROLE {site.roles.app}")
        with pytest.raises(Denied, match="RESET ROLE"):
            await check_application_role(connection, site.roles)
    finally:
        await connection.close()


async def test_the_guard_says_when_nothing_is_provisioned(site: Installation) -> None:
    url = await site.plain_admin()
    with pytest.raises(NotProvisioned, match="tally, tally_ref, tally_sec, tally_audit"):
        await _guarded(site, url)


async def test_the_guard_on_a_connection_that_is_gone(site: Installation) -> None:
    connection = await asyncpg.connect(**connect_args(site.admin))
    await connection.close()
    with pytest.raises(Unavailable):
        await check_application_role(connection, site.roles)


def test_t16_old_servers_are_refused_and_unpatched_ones_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Unsupported, match="PostgreSQL 14"):
        guard._check_version(140_023)
    with caplog.at_level(logging.WARNING):
        for patched in (150_018, 160_014, 170_010, 180_004, 190_000):
            guard._check_version(patched)
        assert not caplog.records
        for old in (150_017, 160_013, 170_009, 180_003):
            guard._check_version(old)
        assert len(caplog.records) == 4
    assert "15.17" in caplog.text


def test_a_verifier_is_that_of_the_published_example(monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 7677 section 3: user "user", password "pencil", 4096 rounds.
    salt = bytes.fromhex("5b6d99689d12358eeca04b14 1236fa81".replace(" ", ""))
    monkeypatch.setattr("os.urandom", lambda _size: salt)
    assert scram_verifier("pencil") == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
