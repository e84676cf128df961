"""The right to join: an application's own database role may act as Tallystick's, and may refer to its tables.

``tally.session(..., connection=conn)`` works in a transaction of the application's own role, which for that has to be
allowed to become the role that every policy binds. The right is to SET ROLE, not to inherit: outside a session the
application's statements can do no more than before. PostgreSQL 15 has no such distinction but the role's own NOINHERIT.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import asyncpg

from tallystick.errors import Invalid, NotProvisioned, Unavailable
from tallystick.schema.roles import SCHEMAS, Roles, quoted
from tallystick.settings import connect_args

_TIMEOUT = 30
_WITHOUT_INHERIT_SINCE = 160_000
_THERE = (
    "SELECT current_setting('server_version_num')::int AS version, "
    "EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS host, "
    "EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $2) AS ours, "
    "ARRAY(SELECT t FROM unnest($3::text[]) AS u (t) WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c "
    "WHERE c.relnamespace = 'tally'::regnamespace AND c.relname = t AND c.relkind IN ('r', 'p'))) AS missing"
)


def joining_sql(role: str, *, roles: Roles, references: Sequence[str] = (), version: int = 180_000) -> str:
    """The statements of ``allow_joining``, for whoever administers the server."""
    if role in roles.all or not role or "\0" in role:
        raise Invalid(
            "The role that joins is the application's own, not one of Tallystick's.",
            field="role",
            remedy="Name the role with which the application logs in.",
        )
    only_set = " WITH INHERIT FALSE, SET TRUE" if version >= _WITHOUT_INHERIT_SINCE else ""
    lines = [f"GRANT {roles.app} TO {quoted(role)}{only_set};"]
    if references:
        lines += [f"SET LOCAL ROLE {roles.owner};", f"GRANT USAGE ON SCHEMA {SCHEMAS[0]} TO {quoted(role)};"]
        lines += [
            f"GRANT REFERENCES (tenant_id, id) ON {SCHEMAS[0]}.{quoted(table)} TO {quoted(role)};"
            for table in references
        ]
        lines += ["RESET ROLE;"]
    return "\n".join(lines) + "\n"


async def allow_joining(
    admin_url: str, role: str, *, roles: Roles | None = None, references: Sequence[str] = ()
) -> str:
    """Let the application's own ``role`` join sessions to its transactions; answers the SQL that was run.

    ``references`` are tables of ours that its foreign keys may point at, by ``(tenant_id, id)``. One transaction, as
    often as you like. Raises ``Invalid`` for a role or table that does not exist, ``NotProvisioned`` when the admin
    lacks the right, ``Unavailable``.
    """
    roles = roles or Roles()
    try:
        connection = await asyncpg.connect(**connect_args(admin_url, name="TALLYSTICK_ADMIN_URL"), timeout=_TIMEOUT)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(f"The admin role cannot connect ({type(error).__name__}).") from error
    try:
        async with connection.transaction():
            (found,) = await connection.fetch(_THERE, role, roles.app, list(references))
            sql = joining_sql(role, roles=roles, references=references, version=found["version"])
            if not found["ours"]:
                raise NotProvisioned(f"The role {roles.app} does not exist.")
            if not found["host"] or found["missing"]:
                what = "role" if not found["host"] else "table"
                raise Invalid(f"There is no such {what}.", field=what, remedy=f"Check the name of the {what}.")
            await connection.execute(sql)
            return sql
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotProvisioned(
            f"The admin role lacks a right: {error.args[0]}.",
            remedy=f"Let a superuser run: GRANT {roles.app} TO {quoted(role)} WITH INHERIT FALSE, SET TRUE;",
        ) from error
    except (asyncpg.PostgresError, OSError) as error:
        raise Unavailable(f"The database refused the right to join ({type(error).__name__}).") from error
    finally:
        with contextlib.suppress(OSError):
            await connection.close(timeout=_TIMEOUT)
