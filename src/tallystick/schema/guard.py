"""The start-up guard: an application must not connect as a role that row-level security does not bind."""

from __future__ import annotations

import logging

import asyncpg

from tallystick.errors import Denied, NotProvisioned, Unavailable, Unsupported
from tallystick.schema.roles import SCHEMAS, Roles, quoted

_LOG = logging.getLogger("tallystick.schema")
_OLDEST = 15
# The minor releases of May 2026, which close holes in row-level security and elsewhere.
_PATCHED = {15: 18, 16: 14, 17: 10, 18: 4}

# One query. Ownership is looked up by role in pg_shdepend's index, which does not grow with the number of our tables.
_QUERY = """
SELECT current_setting('server_version_num')::int AS version, me.rolname::text AS "user", session_user::text AS login,
  me.rolsuper AS super, me.rolbypassrls AS bypass, me.rolcreaterole AS create_role,
  me.rolreplication AS replication,
  ARRAY(SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_shdepend AS d
    JOIN pg_catalog.pg_class AS c ON c.oid = d.objid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = me.oid AND d.deptype = 'o'
      AND d.classid = 'pg_catalog.pg_class'::regclass AND n.nspname = ANY ($1::text[])
      AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    ORDER BY 1 LIMIT 3) AS owned,
  ARRAY(SELECT nspname::text FROM pg_catalog.pg_namespace
    WHERE nspowner = me.oid AND nspname = ANY ($1::text[])) AS owned_schemas,
  ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_auth_members AS m JOIN pg_catalog.pg_roles AS r ON r.oid = m.roleid
    WHERE m.member = me.oid ORDER BY 1) AS member_of,
  ARRAY(SELECT s.name FROM unnest($1::text[]) AS s (name)
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = s.name
    WHERE n.oid IS NULL OR NOT has_schema_privilege(n.oid, 'USAGE')) AS closed
FROM pg_catalog.pg_roles AS me WHERE me.rolname = current_user
"""


async def check_application_role(conn: asyncpg.Connection, roles: Roles) -> None:
    """Refuse to serve through a connection whose role could see past the tenant wall.

    Row-level security does not bind superusers, roles with BYPASSRLS, or whoever can become the owner; with such a
    role everything seems to work and nothing is isolated. One query. Raises ``Denied`` with the statement that mends
    the role, ``NotProvisioned`` when schemas or rights are missing, ``Unsupported`` below PostgreSQL 15, and logs a
    warning for a minor release with known holes.
    """
    try:
        # fetch, because fetchrow may say None; current_user always has a row.
        (found,) = await conn.fetch(_QUERY, list(SCHEMAS))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise Unavailable(
            f"The database could not be asked about its roles ({type(error).__name__}).",
            remedy="Check the server and DATABASE_URL, and try again.",
        ) from error
    _check_version(found["version"])
    user = found["user"]
    use = f"Put the role {roles.app} in DATABASE_URL; `tallystick provision` makes it."
    if found["super"]:
        raise Denied(f"The application connects as {user}, a superuser: no tenant wall binds it.", remedy=use)
    if found["login"] != user:
        raise Denied(
            f"The application logs in as {found['login']} and acts as {user}: RESET ROLE would undo that.", remedy=use
        )
    for attribute, (right, why) in _ATTRIBUTES.items():
        if found[attribute]:
            raise Denied(
                f"The application connects as {user}, which has {right}: {why}.",
                remedy=f"{use} Or run: ALTER ROLE {quoted(user)} NO{right};",
            )
    if owned := found["owned_schemas"] or found["owned"]:
        raise Denied(
            f"The application connects as {user}, which owns {', '.join(owned)}: an owner can switch its policies off.",
            remedy=f"{use} Or run: REASSIGN OWNED BY {quoted(user)} TO {roles.owner};",
        )
    if found["member_of"]:
        groups = ", ".join(quoted(group) for group in found["member_of"])
        raise Denied(
            f"The application connects as {user}, which is a member of {groups}: it could act as that role.",
            remedy=f"{use} Or run: REVOKE {groups} FROM {quoted(user)};",
        )
    if found["closed"]:
        raise NotProvisioned(f"Role {user} cannot use the schemas {', '.join(found['closed'])}, or they do not exist.")


_ATTRIBUTES = {
    "bypass": ("BYPASSRLS", "no tenant wall binds it"),
    "create_role": ("CREATEROLE", "it could give itself other roles"),
    "replication": ("REPLICATION", "it could copy every tenant's rows"),
}


def _check_version(number: int) -> None:
    major, minor = divmod(number, 10_000)
    if major < _OLDEST:
        raise Unsupported(
            f"The server is PostgreSQL {major}, where views cannot be kept inside the tenant wall.",
            remedy=f"Use PostgreSQL {_OLDEST} or later.",
        )
    if minor < _PATCHED.get(major, 0):
        _LOG.warning(
            "PostgreSQL %d.%d has known security holes; upgrade to %d.%d or later.",
            major,
            minor,
            major,
            _PATCHED[major],
        )
