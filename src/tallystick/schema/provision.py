"""Roles, schemas and rights, made from a non-superuser owner or printed as SQL for a DBA.

One script does both: ``provision`` runs what ``provision_sql`` prints. Every step asks first and does only what is
missing, so that a second run needs no rights at all and a role without CREATEROLE can confirm what a DBA applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import Any

import asyncpg

from tallystick.errors import Invalid, NotProvisioned, Unavailable, Unsupported
from tallystick.schema.roles import SCHEMAS, Roles
from tallystick.schema.scram import scram_verifier
from tallystick.settings import connect_args

_OLDEST = 150_000
_ATTEMPTS = 8
_CONNECT_TIMEOUT = 30
# Any fixed number would do; it spells "tally" and keeps two runs in one database apart.
_LOCK = 0x74616C6C79

# Two runs in two databases share the server's roles but not its advisory locks; the loser starts over.
_COLLISIONS = (
    asyncpg.DuplicateObjectError,
    asyncpg.DuplicateSchemaError,
    asyncpg.UniqueViolationError,
    asyncpg.InternalServerError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
)


@dataclass(frozen=True, slots=True)
class ProvisionReport:
    """What one run of ``provision`` found and did; a run that finds everything in place did nothing."""

    database: str
    server_version: int
    roles: Roles
    created_roles: tuple[str, ...]
    created_schemas: tuple[str, ...]
    passwords_set: tuple[str, ...]
    roles_without_password: tuple[str, ...]


async def provision(
    admin_url: str,
    *,
    app_password: str | None = None,
    seal_password: str | None = None,
    roles: Roles | None = None,
    created_by_us: bool = False,
) -> ProvisionReport:
    """Make the roles, schemas and rights in the database of ``admin_url``, in one transaction, as often as you like.

    Works as a non-superuser that may create roles and schemas, which is what managed PostgreSQL hands out, and gives
    that role SET on the two owner roles so that it can migrate. Passwords are sent as SCRAM verifiers; one that is
    not given is left as it is. ``created_by_us`` also takes PUBLIC's rights on the database away, which is right only
    where nothing else lives. Raises ``NotProvisioned`` naming every missing right, ``Unsupported`` below
    PostgreSQL 15, ``Unavailable`` when the server does not answer.
    """
    roles = roles or Roles()
    arguments = connect_args(admin_url, name="TALLYSTICK_ADMIN_URL")
    passwords = {roles.app: app_password, roles.seal: seal_password}
    verifiers = {role: scram_verifier(password) for role, password in passwords.items() if password is not None}
    connection = await _connect(arguments)
    try:
        for attempt in range(_ATTEMPTS):
            try:
                async with connection.transaction():
                    return await _provision(connection, roles, verifiers, created_by_us)
            except _COLLISIONS:
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(random.uniform(0.01, 0.1) * (attempt + 1))  # noqa: S311  jitter, not a secret
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotProvisioned(f"The admin role lacks a right: {error.args[0]}.", remedy=_REMEDY) from error
    except (asyncpg.PostgresError, OSError) as error:
        raise Unavailable(
            f"The database refused to be provisioned ({type(error).__name__}).", remedy="Look at the server's log."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            await connection.close(timeout=_CONNECT_TIMEOUT)
    raise AssertionError("unreachable")


def provision_sql(
    roles: Roles, database: str | None = None, *, admin: str | None = None, created_by_us: bool = False
) -> str:
    r"""The script for a DBA: run it in the database with psql, as a superuser or as the database's owner.

    ``admin`` is the role that will migrate, the one in ``TALLYSTICK_ADMIN_URL``; without it the role that runs the
    script is meant. Passwords are not in it: set them with ``\password``, which keeps them out of logs.
    """
    check = _wrong_database(database) if database is not None else ""
    return (
        f"-- Roles, schemas and rights of Tallystick, for PostgreSQL 15 and later. Safe to run again.\n"
        f"-- Then set the two passwords: \\password {roles.app}  and  \\password {roles.seal}\n"
        f"BEGIN;\n{check}{_script(roles, admin=admin, created_by_us=created_by_us)}COMMIT;\n"
    )


async def _connect(arguments: dict[str, Any]) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(**arguments, timeout=_CONNECT_TIMEOUT)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise NotProvisioned(
            f"The server refused the admin connection ({type(error).__name__}).",
            remedy="Check user, password and database in TALLYSTICK_ADMIN_URL.",
        ) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(
            f"The database server of TALLYSTICK_ADMIN_URL does not answer ({type(error).__name__}).",
            remedy="Check that the server runs and that host, port and TLS are right.",
        ) from error


async def _provision(
    connection: asyncpg.Connection, roles: Roles, verifiers: dict[str, str], created_by_us: bool
) -> ProvisionReport:
    await connection.execute(f"SELECT pg_catalog.pg_advisory_xact_lock({_LOCK})")
    before = await connection.fetchrow(_STATE, list(roles.all), list(SCHEMAS))
    _check(before, roles)
    await connection.execute(_script(roles, admin=None, created_by_us=created_by_us))
    for role, verifier in verifiers.items():
        await connection.execute(f"ALTER ROLE {role} PASSWORD '{verifier}'")
    missing_roles = tuple(role for role in roles.all if role not in before["roles"])
    return ProvisionReport(
        database=before["database"],
        server_version=before["version"],
        roles=roles,
        created_roles=missing_roles,
        created_schemas=tuple(schema for schema in SCHEMAS if schema not in before["schemas"]),
        passwords_set=tuple(verifiers),
        roles_without_password=tuple(
            role for role in (roles.app, roles.seal) if role in missing_roles and role not in verifiers
        ),
    )


_REMEDY = (
    "Use a role that has it in TALLYSTICK_ADMIN_URL, or give the output of `tallystick provision --sql` to whoever "
    "administers the server."
)

_STATE = """
SELECT current_setting('server_version_num')::int AS version, current_database()::text AS database,
  current_user::text AS "user", me.rolsuper AS super, me.rolcreaterole AS create_role,
  has_database_privilege(current_database(), 'CREATE') AS create_schema,
  ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[])) AS roles,
  ARRAY(SELECT nspname::text FROM pg_namespace WHERE nspname = ANY ($2::text[])) AS schemas,
  ARRAY(SELECT nspname || '=' || pg_get_userbyid(nspowner) FROM pg_namespace
    WHERE nspname = ANY ($2::text[])) AS schema_owners,
  ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[])
    AND (rolsuper OR rolbypassrls OR rolreplication OR rolcreaterole OR rolcreatedb)) AS mighty,
  ARRAY(SELECT member.rolname || ' in ' || owner.rolname FROM pg_auth_members AS m
    JOIN pg_roles AS member ON member.oid = m.member JOIN pg_roles AS owner ON owner.oid = m.roleid
    WHERE member.rolname = ANY ($1::text[])) AS memberships,
  ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[])
    AND NOT pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION')) AS not_ours
FROM pg_roles AS me WHERE me.rolname = current_user
"""


def _check(found: asyncpg.Record, roles: Roles) -> None:
    """Say everything that is missing or dangerous at once, before anything is changed."""
    if found["version"] < _OLDEST:
        raise Unsupported(
            f"The server is PostgreSQL {found['version'] // 10_000}.", remedy="Use PostgreSQL 15 or later."
        )
    problems = []
    missing_roles = [role for role in roles.all if role not in found["roles"]]
    if missing_roles and not (found["create_role"] or found["super"]):
        problems.append(f"role {found['user']} has no CREATEROLE, and {', '.join(missing_roles)} must be made")
    missing_schemas = [schema for schema in SCHEMAS if schema not in found["schemas"]]
    if missing_schemas and not found["create_schema"]:
        problems.append(
            f"role {found['user']} has no CREATE on database {found['database']}, "
            f"and {', '.join(missing_schemas)} must be made"
        )
    wanted = {schema: roles.audit if schema == "tally_audit" else roles.owner for schema in SCHEMAS}
    for entry in found["schema_owners"]:
        schema, _, owner = entry.partition("=")
        if owner != wanted[schema]:
            problems.append(f"schema {schema} exists and belongs to {owner} instead of {wanted[schema]}")
    problems += [f"role {role} has rights that go past the tenant wall" for role in found["mighty"]]
    problems += [f"a role is a member of another: {membership}" for membership in found["memberships"]]
    if problems:
        raise NotProvisioned(f"Provisioning cannot go on: {'; '.join(problems)}.", remedy=_REMEDY)


def _wrong_database(database: str) -> str:
    quoted = database.replace("'", "''")
    return (
        f"DO $tally$ BEGIN IF pg_catalog.current_database() <> '{quoted}' THEN\n"
        f"  RAISE EXCEPTION 'This script is for another database.'; END IF; END $tally$;\n"
    )


def _script(roles: Roles, *, admin: str | None, created_by_us: bool) -> str:
    """The steps. Names need no quoting: a prefix is checked to be a plain name, and the admin's is quoted."""
    if admin is not None and (not admin or "\x00" in admin):
        raise Invalid("The admin role's name is empty.", field="admin", remedy="Name an existing role.")
    who = "CURRENT_USER" if admin is None else "'" + admin.replace("'", "''") + "'"
    revoke = _REVOKE_PUBLIC if created_by_us else ""
    return _STEPS.format(
        lock=_LOCK, owner=roles.owner, audit=roles.audit, app=roles.app, seal=roles.seal, admin=who, revoke=revoke
    )


_REVOKE_PUBLIC = """
  IF EXISTS (SELECT FROM pg_database AS d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
      WHERE d.datname = current_database() AND a.grantee = 0) THEN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  END IF;
  IF EXISTS (SELECT FROM pg_namespace AS n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
      WHERE n.nspname = 'public' AND a.grantee = 0) THEN
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
  END IF;"""

_STEPS = """\
SELECT pg_catalog.pg_advisory_xact_lock({lock});
SET LOCAL search_path = pg_catalog, pg_temp;
DO $tally$
DECLARE
  item record;
  admin name := {admin};
  modern boolean := current_setting('server_version_num')::int >= 160000;
BEGIN
  FOR item IN SELECT * FROM (VALUES
      ('{owner}', 'NOLOGIN'), ('{audit}', 'NOLOGIN'),
      ('{app}', 'LOGIN NOINHERIT'), ('{seal}', 'LOGIN NOINHERIT')) AS v (role, login) LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = item.role) THEN
      EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB', item.role, item.login);
    END IF;
  END LOOP;

  -- Whoever migrates becomes an owner by SET ROLE, and only so: owning rights are never just there.
  FOR item IN SELECT * FROM (VALUES ('{owner}'), ('{audit}')) AS v (role) LOOP
    IF NOT pg_has_role(admin, item.role::name, CASE WHEN modern THEN 'SET' ELSE 'MEMBER' END) THEN
      EXECUTE format('GRANT %I TO %I', item.role, admin)
        || CASE WHEN modern THEN ' WITH SET TRUE, INHERIT FALSE' ELSE '' END;
    END IF;
  END LOOP;

  FOR item IN SELECT * FROM (VALUES
      ('{app}', 'search_path', 'pg_catalog, tally'), ('{app}', 'statement_timeout', '30s'),
      ('{app}', 'idle_in_transaction_session_timeout', '30s'),
      ('{seal}', 'search_path', 'pg_catalog, tally_audit'), ('{seal}', 'statement_timeout', '5min'),
      ('{seal}', 'idle_in_transaction_session_timeout', '60s')) AS v (role, name, value) LOOP
    IF NOT EXISTS (SELECT FROM pg_db_role_setting AS s JOIN pg_roles AS r ON r.oid = s.setrole
        WHERE s.setdatabase = 0 AND r.rolname = item.role
          AND EXISTS (SELECT FROM unnest(s.setconfig) AS c WHERE c LIKE item.name || '=%')) THEN
      EXECUTE format('ALTER ROLE %I SET %I = %s', item.role, item.name,
        CASE WHEN item.name = 'search_path' THEN item.value ELSE quote_literal(item.value) END);
    END IF;
  END LOOP;

  FOR item IN SELECT * FROM (VALUES
      ('tally', '{owner}'), ('tally_ref', '{owner}'), ('tally_sec', '{owner}'), ('tally_audit', '{audit}')
      ) AS v (schema, owner) LOOP
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = item.schema) THEN
      EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', item.schema, item.owner);
    END IF;
  END LOOP;

  -- The owner of each schema hands out its use, because the role that runs this does not inherit the owner's rights.
  FOR item IN SELECT * FROM (VALUES
      ('tally', '{owner}', '{app}'),
      ('tally_ref', '{owner}', '{app}'), ('tally_ref', '{owner}', '{audit}'), ('tally_ref', '{owner}', '{seal}'),
      ('tally_sec', '{owner}', '{app}'), ('tally_sec', '{owner}', '{audit}'), ('tally_sec', '{owner}', '{seal}'),
      ('tally_audit', '{audit}', '{app}'), ('tally_audit', '{audit}', '{owner}'),
      ('tally_audit', '{audit}', '{seal}')) AS v (schema, owner, grantee) LOOP
    IF NOT has_schema_privilege(item.grantee, item.schema, 'USAGE') THEN
      EXECUTE format('SET LOCAL ROLE %I', item.owner);
      EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', item.schema, item.grantee);
      RESET ROLE;
    END IF;
  END LOOP;
{revoke}
  FOR item IN SELECT * FROM (VALUES ('{app}'), ('{seal}')) AS v (role) LOOP
    IF NOT has_database_privilege(item.role, current_database(), 'CONNECT') THEN
      EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), item.role);
    END IF;
  END LOOP;
END $tally$;
"""
