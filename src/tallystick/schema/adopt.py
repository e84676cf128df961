"""What Tallystick would do to a database that is in use already, said without doing any of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from tallystick.errors import Unavailable
from tallystick.schema import adopt_facts as ask
from tallystick.schema import branches
from tallystick.schema.adopt_findings import AdoptionFinding, Found, judged
from tallystick.schema.budget import Budget, question
from tallystick.schema.connect import acting_as_owner, connect
from tallystick.schema.joining import joining_sql
from tallystick.schema.provision import STATE, missing_rights, provision_sql
from tallystick.schema.remove_facts import JOINED
from tallystick.schema.roles import ALL_SCHEMAS, SCHEMAS, Roles
from tallystick.settings import Settings, connect_args

YOURS = "yours"
"""What the application's own entities are called among the domains."""
_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class DomainPlan:
    """What one domain would add: its tables that are missing, those that are there, revisions not yet applied.

    Of a built-in table that an extension adds to, the columns are named: "user_account.branch".
    """

    domain: str
    missing: tuple[str, ...]
    there: tuple[str, ...]
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostSchema:
    """A schema of the host's, none of which is touched; ``refer`` are the tables with foreign keys into ours."""

    name: str
    owners: tuple[str, ...]
    tables: tuple[str, ...]
    refer: tuple[str, ...]
    migrations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adoption:
    """What looking at a database found: ``ready`` when nothing stands in the way, ``adopted`` when all is done.

    ``commands`` are to be run next, in their order. ``sql`` is for a DBA, and empty unless a right is missing.
    ``connections`` are those that the application's processes may open, beside what the server has. ``joined`` are
    roles of the host's that may join sessions to their transactions; ``join_command`` and ``join_sql`` let one, and are
    empty where no role but ours is seen.
    """

    database: str
    server: str
    version: int
    user: str
    superuser: bool
    create_role: bool
    create_schema: bool
    facts: Mapping[str, str]
    roles: Mapping[str, bool]
    schemas: Mapping[str, bool]
    domains: tuple[DomainPlan, ...]
    host: tuple[HostSchema, ...]
    findings: tuple[AdoptionFinding, ...]
    connections: Budget
    joined: tuple[str, ...]
    commands: tuple[str, ...]
    sql: str
    join_command: str
    join_sql: str

    @property
    def ready(self) -> bool:
        """Whether provisioning and migrating can go on."""
        return not any(f.stops for f in self.findings)

    @property
    def adopted(self) -> bool:
        """Whether roles, schemas and every table asked for are there."""
        here = all(self.roles.values()) and all(self.schemas.values())
        return here and not any(d.missing or d.pending for d in self.domains)


async def look(
    url: str,
    *,
    settings: Settings,
    roles: Roles,
    tables: Mapping[str, Sequence[str]],
    only: Sequence[str] | None = None,
    version_locations: Sequence[str | Path] = (),
) -> Adoption:
    """Look at a live database and say what adopting it would add: ``tables`` by domain, ``yours`` the application's.

    ``only`` are the domains to name in the commands. Raises as ``tallystick.adopt`` does.
    """
    history = branches.history(version_locations)
    names = branches.chosen(history, [d for d in tables if d != YOURS], version_locations)
    found = await _look(url, roles, settings, [t for mine in tables.values() for t in mine if "." in t])
    applied = history.implied(found.versions or ())
    plans = tuple(
        DomainPlan(
            name,
            tuple(t for t in tables.get(name, ()) if t not in found.tables),
            tuple(t for t in tables.get(name, ()) if t in found.tables),
            tuple(r for r in history.order(name) if r not in applied) if name in history.branches else (),
        )
        for name in (*names, *((YOURS,) if tables.get(YOURS) else ()))
    )
    server, state = found.server, found.state
    rights = tuple(missing_rights(state, roles, {}))
    findings = tuple(
        sorted(
            judged(found, roles, rights, history),
            key=lambda f: not f.stops,
        )
    )
    there = frozenset(state["roles"])
    joins = _joins(found, roles)
    adoption = Adoption(
        database=server["database"],
        server=server["server"],
        version=server["version"],
        user=server["user"],
        superuser=server["super"],
        create_role=server["create_role"],
        create_schema=server["create_schema"],
        facts=_facts(found),
        roles={role: role in there for role in roles.all},
        schemas={schema: schema in found.schemas for schema in SCHEMAS},
        domains=plans,
        host=_host(found.host),
        findings=findings,
        connections=found.connections,
        joined=tuple(dict.fromkeys(found.joined)),
        commands=(),
        sql=provision_sql(roles, server["database"], admin=server["user"]) if rights else "",
        join_command=f"tallystick provision --join {shlex.quote(joins)}" if joins else "",
        join_sql=joining_sql(joins, roles=roles, version=server["version"]) if joins else "",
    )
    return _with_commands(adoption, only)


async def _look(url: str, roles: Roles, settings: Settings, columns: Sequence[str]) -> Found:
    """Ask everything in one read-only transaction. Raises ``Unavailable`` when the server breaks off."""
    conn = await connect(connect_args(url), name="the database")
    try:
        return await _asked(conn, roles, settings, columns)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        problem = Unavailable(
            f"The database could not be looked at ({type(error).__name__}).",
            remedy="Try again, and look at the server's log when it stays so.",
        )
    finally:
        conn.terminate()
    raise problem


async def _asked(conn: asyncpg.Connection, roles: Roles, settings: Settings, columns: Sequence[str]) -> Found:
    ours, all_roles = list(ALL_SCHEMAS), list(roles.all)
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        await conn.execute(f"SET LOCAL statement_timeout = '{_TIMEOUT}s'; SET LOCAL lock_timeout = '5s'")
        own_path = [p.strip(' "') for p in str(await conn.fetchval("SHOW search_path")).split(",")]
        await conn.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        (server,) = await conn.fetch(ask.SERVER, roles.app)
        (state,) = await conn.fetch(STATE, all_roles, ours)
        schemas = {r["name"]: r for r in await conn.fetch(ask.SCHEMAS, ours)}
        tables = frozenset(r[0] for r in await conn.fetch(ask.OURS, list(columns)))
        return Found(
            server=server,
            state=state,
            pooled=conn.get_server_pid() != server["process"],
            schemas=schemas,
            tables=tables,
            host=await conn.fetch(ask.HOST, ours),
            paths=await conn.fetch(ask.PATHS, all_roles),
            own_path=own_path,
            public_creates=bool(await conn.fetchval(ask.PUBLIC_CREATES)),
            watchers=await conn.fetch(ask.WATCHERS),
            publications=[r["name"] for r in await conn.fetch(ask.PUBLICATIONS, ours)],
            versions=await _versions(conn, roles),
            connections=Budget.of(settings, (await conn.fetch(question("$1"), roles.app))[0]),
            joined=[r["role"] for r in await conn.fetch(JOINED, roles.app, all_roles)],
        )


async def _versions(conn: asyncpg.Connection, roles: Roles) -> tuple[str, ...] | None:
    """The rows of our version table: none when there is no such table, None when this role may not read it."""
    if not await conn.fetchval(_VERSIONED):
        return ()
    try:
        async with acting_as_owner(conn, roles):
            return tuple(r[0] for r in await conn.fetch("SELECT version_num FROM tally_ref.schema_version"))
    except asyncpg.InsufficientPrivilegeError:
        return None


_VERSIONED = """
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'tally_ref' AND c.relname = 'schema_version')
"""


def _facts(found: Found) -> dict[str, str]:
    server = found.server
    tls = server["tls"] or ("none needed, a socket" if server["socket"] else "none, a local address")
    return {
        "connection": f"{'through a pooler' if found.pooled else 'direct'}; TLS: {tls}",
        "time zone": f"{server['time_zone']} (moments are stored with their zone, business days in the tenant's)",
        "text": f"{server['encoding']}, {server['locale']} (our columns sort by their own collation)",
        "extensions": f"none is needed; there: {', '.join(server['extensions']) or 'none'}",
        "connections": _budget(found.connections),
        "passwords": server["password_encryption"],
        "search path": ", ".join(found.own_path),
    }


def _budget(found: Budget) -> str:
    fits = f"{found.available} of {found.max_connections} are left for them"
    told = f"{found.workers} processes with pools of {found.pool_max} may open {found.needed}"
    return f"{told}; {'through a transaction pooler' if found.pooled else fits}"


def _joins(found: Found, roles: Roles) -> str:
    """The role that would join: of who owns the host's tables the first, or else who looks; none of ours."""
    candidates = [*(r["owner"] for r in found.host), found.server["user"]]
    return next((str(c) for c in candidates if c not in roles.all), "")


def _host(rows: Sequence[asyncpg.Record]) -> tuple[HostSchema, ...]:
    by_schema: dict[str, list[asyncpg.Record]] = {}
    for row in rows:
        by_schema.setdefault(row["schema"], []).append(row)
    return tuple(
        HostSchema(
            name,
            tuple(sorted({r["owner"] for r in mine})),
            tuple(r["name"] for r in mine),
            tuple(r["name"] for r in mine if r["refers"]),
            tuple(f"{r['name']} ({r['tool']})" for r in mine if r["tool"]),
        )
        for name, mine in by_schema.items()
    )


def _with_commands(found: Adoption, domains: Sequence[str] | None) -> Adoption:
    only = "" if domains is None else f" --domains {','.join(domains)}"
    steps: list[str] = []
    codes = {f.code for f in found.findings if f.stops}
    if "right-missing" in codes:
        admin, database = shlex.quote(found.user), shlex.quote(found.database)
        steps.append(f"tallystick provision --sql --admin {admin} --database {database} > tallystick.sql")
        steps.append(f"psql --dbname {database} --file tallystick.sql     # a DBA, once")
    elif not all((*found.roles.values(), *found.schemas.values())):
        steps.append("tallystick provision --app-password-env APP_PASSWORD --seal-password-env SEAL_PASSWORD")
    if codes - {"right-missing"}:
        steps = ["tallystick adopt     # again, when what stops it is mended"]
    elif not found.adopted:
        steps.append(f"tallystick migrate{only}")
        steps.append(f"tallystick schema lint{only}")
    else:
        steps.append(f"tallystick status{only}")
    return replace(found, commands=tuple(steps))
