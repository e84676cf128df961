"""Masked read views for business intelligence, bound to the login: granting, revoking, bringing them up to date."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from tallystick.entity import spec_of
from tallystick.errors import Conflict, Denied, Invalid, NotFound, NotProvisioned, Unsupported
from tallystick.schema.bi_views import GROUND, View, view_of
from tallystick.schema.connect import acting_as_owner, connect
from tallystick.schema.ddl import checked_engine
from tallystick.schema.roles import BI_SCHEMA, SCHEMAS, Roles, quoted
from tallystick.settings import connect_args
from tallystick.spec import SCHEMA

if TYPE_CHECKING:
    import asyncpg
    from sqlalchemy import Connection

    from tallystick.entity import Entity
    from tallystick.spec import EntitySpec

T = TypeVar("T")
_THERE = "SELECT pg_catalog.to_regclass('tally_bi.reader') IS NOT NULL"
_COLUMNS = (
    "SELECT c.relname::text, a.attname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a "
    "ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
    "WHERE c.relnamespace = pg_catalog.to_regnamespace($1) AND c.relkind = ANY ($2::char[]) ORDER BY 1, a.attnum"
)
_UNUSED = (
    "SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'tally_bi'::regnamespace "
    "AND p.proname <> 'tenants' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d "
    "WHERE d.refobjid = p.oid AND d.classid = 'pg_rewrite'::regclass)"
)
_MADE = (
    "SELECT DISTINCT v.relname::text FROM pg_catalog.pg_class v JOIN pg_catalog.pg_rewrite w ON w.ev_class = v.oid "
    "JOIN pg_catalog.pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid "
    "JOIN pg_catalog.pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid "
    "WHERE v.relnamespace = 'tally_bi'::regnamespace AND p.pronamespace = v.relnamespace"
)
_ROLE = """
SELECT r.rolsuper OR r.rolbypassrls AS mighty, r.rolcanlogin AS login,
  ARRAY(SELECT o.rolname::text FROM pg_catalog.pg_roles o
    WHERE o.rolname = ANY ($2::text[]) AND pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER')) AS member,
  ARRAY(SELECT c.oid::regclass::text FROM pg_catalog.pg_class c WHERE c.relnamespace = ANY ($3::text[]::regnamespace[])
    AND c.relkind IN ('r', 'p') AND pg_catalog.has_any_column_privilege(r.oid, c.oid, 'SELECT') LIMIT 3) AS reads
FROM pg_catalog.pg_roles r WHERE r.rolname = $1
"""


@dataclass(frozen=True, slots=True)
class BiReader:
    """A login that reads the masked views: of one tenant, or with None of all."""

    role: str
    tenant_id: UUID | None


@dataclass(frozen=True, slots=True)
class BiReport:
    """What one run did: the views there are, those it changed, who reads them."""

    views: tuple[str, ...]
    changed: tuple[str, ...]
    readers: tuple[BiReader, ...]


async def grant_bi(
    admin_url: str,
    role: str,
    *,
    entities: Iterable[type[Entity]],
    tenant: str | UUID | None = None,
    all_tenants: bool = False,
    roles: Roles | None = None,
    engine: str = "plain",
) -> BiReport:
    """Let an existing login read the masked views of one tenant, or with ``all_tenants`` of all; makes them if needed.

    The login reads nothing else of ours and writes nothing; whose rows it sees hangs on who logged in, so no setting
    and no SET ROLE changes it. Raises ``NotFound`` for an unknown tenant, ``Invalid`` for an unknown role, ``Denied``
    for one that could go past the views, ``Conflict`` for one that reads another tenant already, ``Unsupported`` on
    Citus, ``NotProvisioned``, ``Unavailable``.
    """
    if (tenant is None) == (not all_tenants):
        raise Invalid(
            "A BI role reads one tenant, or all of them.", field="tenant", remedy="Give a tenant, or all_tenants=True."
        )
    roles = roles or Roles()
    _check_engine(engine)
    conn = await connect(connect_args(admin_url, name="TALLYSTICK_ADMIN_URL"))
    try:
        await _check_role(conn, role, roles)
        reader = BiReader(role, None if all_tenants else await _tenant(conn, tenant, roles))
        await _make_schema(conn, roles)
    finally:
        await conn.close()

    def work(connection: Connection) -> BiReport:
        for statement in GROUND:
            connection.exec_driver_sql(statement)
        _enter(connection, reader)
        return bring_up_to_date(connection, map(spec_of, entities))

    return await _run(admin_url, work, roles)


async def revoke_bi(admin_url: str, role: str, *, roles: Roles | None = None) -> bool:
    """Take the masked views away from a login; False when it had none. The role itself stays. Raises like above."""
    roles = roles or Roles()

    def work(connection: Connection) -> bool:
        if not connection.exec_driver_sql(_THERE).scalar_one():
            return False
        gone = connection.exec_driver_sql(f"DELETE FROM {BI_SCHEMA}.reader WHERE role = $1", (role,)).rowcount
        if connection.exec_driver_sql("SELECT pg_catalog.to_regrole($1) IS NOT NULL", (quoted(role),)).scalar_one():
            for kind in ("ALL TABLES IN", "ALL FUNCTIONS IN", ""):
                connection.exec_driver_sql(f"REVOKE ALL ON {kind} SCHEMA {BI_SCHEMA} FROM {quoted(role)}")
        return bool(gone)

    return await _run(admin_url, work, roles)


async def refresh_bi(
    admin_url: str, *, entities: Iterable[type[Entity]], roles: Roles | None = None, engine: str = "plain"
) -> BiReport:
    """Bring the masked views to what the tables are now; nothing where nobody was granted them. ``migrate`` does too.

    Raises ``Conflict`` when views of others stand on a view whose columns went away.
    """
    roles = roles or Roles()
    _check_engine(engine)
    return await _run(admin_url, lambda connection: bring_up_to_date(connection, map(spec_of, entities)), roles)


async def bi_readers(admin_url: str, *, roles: Roles | None = None) -> tuple[BiReader, ...]:
    """Every login that reads masked views."""
    conn = await connect(connect_args(admin_url, name="TALLYSTICK_ADMIN_URL"))
    try:
        async with acting_as_owner(conn, roles or Roles()):
            if not await conn.fetchval(_THERE):
                return ()
            rows = await conn.fetch(f"SELECT role::text, tenant_id FROM {BI_SCHEMA}.reader ORDER BY role")
            return tuple(BiReader(r["role"], r["tenant_id"]) for r in rows)
    finally:
        await conn.close()


def bring_up_to_date(connection: Connection, specs: Iterable[EntitySpec]) -> BiReport:
    """Make and replace views inside the caller's transaction, as the owner; nothing where there are none to have."""
    if not connection.exec_driver_sql(_THERE).scalar_one():
        return BiReport((), (), ())
    live, there = _columns(connection, SCHEMA, "rp"), _columns(connection, BI_SCHEMA, "v")
    wanted = sorted((s for s in specs if s.schema == SCHEMA and s.table in live), key=lambda s: s.table)
    changed = [
        s.table
        for s in wanted
        if _replace(connection, view_of(s, live[s.table], there.get(s.table, ())), there.get(s.table))
    ]
    made = set(connection.exec_driver_sql(_MADE).scalars())
    for table in sorted(made - set(live)):
        _dropped(connection, table)
        changed.append(table)
    for name in connection.exec_driver_sql(_UNUSED).scalars().all():
        connection.exec_driver_sql(f"DROP FUNCTION {name}")
    rows = connection.exec_driver_sql(
        f"SELECT r.role::text, r.tenant_id FROM {BI_SCHEMA}.reader r "
        "JOIN pg_catalog.pg_roles p ON p.rolname = r.role ORDER BY r.role"
    ).all()
    for role, _ in rows:
        _allow(connection, role)
    views = tuple(_columns(connection, BI_SCHEMA, "v"))
    return BiReport(views, tuple(changed), tuple(BiReader(role, tenant) for role, tenant in rows))


def _columns(connection: Connection, schema: str, kinds: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table, column in connection.exec_driver_sql(_COLUMNS, (schema, list(kinds))):
        found.setdefault(table, []).append(column)
    return found


def _replace(connection: Connection, view: View, there: Sequence[str] | None) -> bool:
    """Make one view what it should be; False when it is."""
    name = "SELECT pg_catalog.to_regprocedure($1) IS NOT NULL"
    if connection.exec_driver_sql(name, (f"{view.function}()",)).scalar_one():
        return False
    connection.exec_driver_sql(view.create_function)
    connection.exec_driver_sql(f"REVOKE ALL ON FUNCTION {view.function}() FROM PUBLIC")
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE OR REPLACE {view.create_view}")
    except DBAPIError as problem:
        # Columns went away or changed their type, which no replacing can do.
        if there is None or str(getattr(problem.orig, "sqlstate", "")) != "42P16":
            raise
    else:
        return True
    _dropped(connection, view.table)
    connection.exec_driver_sql(f"CREATE {view.create_view}")
    return True


def _dropped(connection: Connection, table: str) -> None:
    hanging = False
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"DROP VIEW {BI_SCHEMA}.{quoted(table)}")
    except DBAPIError as problem:
        if str(getattr(problem.orig, "sqlstate", "")) != "2BP01":
            raise
        hanging = True
    if hanging:
        raise Conflict(
            f"Views of others stand on {BI_SCHEMA}.{table}, whose columns changed.",
            rule="bi-view",
            remedy="Drop them, run `tallystick bi refresh`, and make them again.",
        )


def _enter(connection: Connection, reader: BiReader) -> None:
    found = connection.exec_driver_sql(
        f"INSERT INTO {BI_SCHEMA}.reader (role, tenant_id) VALUES ($1, $2) ON CONFLICT (role) DO UPDATE "
        "SET role = excluded.role RETURNING tenant_id",
        (reader.role, reader.tenant_id),
    ).scalar()
    if found != reader.tenant_id:
        raise Conflict(
            f"The role {reader.role} reads other tenants already.",
            rule="bi-reader",
            remedy=f"One login, one answer: `tallystick bi revoke {reader.role}` first, or use another role.",
        )


def _allow(connection: Connection, role: str) -> None:
    name = quoted(role)
    for statement in (
        f"GRANT USAGE ON SCHEMA {BI_SCHEMA} TO {name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {BI_SCHEMA} TO {name}",
        f"REVOKE ALL ON {BI_SCHEMA}.reader FROM {name}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {BI_SCHEMA} TO {name}",
        f"REVOKE ALL ON FUNCTION {BI_SCHEMA}.tenants() FROM {name}",
    ):
        connection.exec_driver_sql(statement)


def _check_engine(engine: str) -> None:
    if checked_engine(engine) == "citus":
        raise Unsupported("Masked views do not run on Citus.", remedy="Read from a replica on one PostgreSQL.")


async def _check_role(conn: asyncpg.Connection, role: str, roles: Roles) -> None:
    found = await conn.fetchrow(_ROLE, role, list(roles.all), list(SCHEMAS))
    if found is None or not found["login"]:
        raise Invalid(
            "There is no such login.",
            field="role",
            remedy="Let whoever administers the server run: CREATE ROLE name LOGIN PASSWORD '...';",
        )
    if found["mighty"] or found["member"] or found["reads"]:
        why = "goes past every wall" if found["mighty"] else "may act as a role of ours, or read our tables"
        raise Denied(f"The role {role} {why}.", remedy="Make a role for BI alone, with no rights but to log in.")


async def _tenant(conn: asyncpg.Connection, tenant: Any, roles: Roles) -> UUID:
    async with acting_as_owner(conn, roles):
        for row in await conn.fetch("SELECT id, slug FROM tally_ref.tenant_list()"):
            if tenant in (row["id"], row["slug"]):
                return UUID(str(row["id"]))
    raise NotFound("There is no such tenant.", entity="Tenant")


async def _make_schema(conn: asyncpg.Connection, roles: Roles) -> None:
    import asyncpg

    owner = await conn.fetchval(
        "SELECT pg_catalog.pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace WHERE nspname = $1", BI_SCHEMA
    )
    if owner is not None and owner != roles.owner:
        raise Conflict(
            f"The schema {BI_SCHEMA} exists and belongs to {owner}.", rule="schema-owner", remedy="Rename it."
        )
    with contextlib.suppress(asyncpg.DuplicateSchemaError):
        try:
            await conn.execute(f"CREATE SCHEMA IF NOT EXISTS {BI_SCHEMA} AUTHORIZATION {quoted(roles.owner)}")
        except asyncpg.InsufficientPrivilegeError as problem:
            raise NotProvisioned(
                f"The admin role may not make the schema {BI_SCHEMA}.",
                remedy="GRANT CREATE ON DATABASE ... TO it, or let a superuser run: "
                f"CREATE SCHEMA {BI_SCHEMA} AUTHORIZATION {quoted(roles.owner)};",
            ) from problem


async def _run(admin_url: str, work: Callable[[Connection], T], roles: Roles) -> T:
    from tallystick.schema.online import runner

    def whole(connection: Connection) -> T:
        with connection.begin():
            return work(connection)

    async with runner(admin_url, roles) as run:
        return await run.attempt("The masked views", whole)
