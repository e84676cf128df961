"""Roles, schemas and rights, made from the non-superuser owner that a managed PostgreSQL hands out."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from tallystick.errors import NotProvisioned, Unavailable, Unsupported
from tallystick.schema.provision_script import LOCK, provision_sql, steps
from tallystick.schema.roles import ALL_SCHEMAS, SCHEMAS, Roles, quoted
from tallystick.schema.scram import scram_verifier
from tallystick.settings import connect_args
from tallystick.tls import tls_failure

__all__ = ["ProvisionReport", "provision", "provision_sql"]

OLDEST = 150_000
_ADMIN_OPTION_SINCE = 160_000
_ATTEMPTS = 8
_CONNECT_TIMEOUT = 30

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
        attempt = 1
        while True:
            try:
                async with connection.transaction(isolation="read_committed"):
                    return await _provision(connection, roles, verifiers, created_by_us)
            except _COLLISIONS:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0.01, 0.1) * attempt)  # noqa: S311  jitter, not a secret
                attempt += 1
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotProvisioned(f"The admin role lacks a right: {error.args[0]}.", remedy=REMEDY) from error
    except (asyncpg.PostgresError, OSError) as error:
        raise Unavailable(
            f"The database refused to be provisioned ({type(error).__name__}).", remedy="Look at the server's log."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            await connection.close(timeout=_CONNECT_TIMEOUT)


async def _connect(arguments: dict[str, Any]) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(**arguments, timeout=_CONNECT_TIMEOUT)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise tls_failure(error) or NotProvisioned(
            f"The server refused the admin connection ({type(error).__name__}).",
            remedy="Check user, password and database in TALLYSTICK_ADMIN_URL.",
        ) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise tls_failure(error) or Unavailable(
            f"The database server of TALLYSTICK_ADMIN_URL does not answer ({type(error).__name__}).",
            remedy="Check that the server runs and that host and port are right.",
        ) from error


async def _provision(
    connection: asyncpg.Connection, roles: Roles, verifiers: dict[str, str], created_by_us: bool
) -> ProvisionReport:
    await connection.execute(f"SET LOCAL statement_timeout = 0; SELECT pg_catalog.pg_advisory_xact_lock({LOCK})")
    # fetch, because fetchrow may say None; current_user always has a row.
    (before,) = await connection.fetch(STATE, list(roles.all), list(ALL_SCHEMAS))
    _check(before, roles, verifiers)
    await connection.execute(steps(roles, admin=None, created_by_us=created_by_us))
    for role, verifier in verifiers.items():
        await connection.execute(f"ALTER ROLE {role} PASSWORD '{verifier}'")
    # Asked from the script itself: a run in another database may have been faster since we looked.
    (answer,) = await connection.fetch("SELECT pg_catalog.current_setting('tally.made_roles') AS made")
    made = set(answer["made"].split())
    return ProvisionReport(
        database=before["database"],
        server_version=before["version"],
        roles=roles,
        created_roles=tuple(role for role in roles.all if role in made),
        created_schemas=tuple(schema for schema in SCHEMAS if schema not in before["schemas"]),
        passwords_set=tuple(verifiers),
        roles_without_password=tuple(
            role for role in (roles.app, roles.seal) if role in made and role not in verifiers
        ),
    )


REMEDY = (
    "Use a role that may in TALLYSTICK_ADMIN_URL, or give the output of `tallystick provision --sql` to whoever "
    "administers the server."
)

STATE = """
SELECT current_setting('server_version_num')::int AS version, current_database()::text AS database,
  current_user::text AS "user", me.rolsuper AS super, me.rolcreaterole AS create_role,
  has_database_privilege(current_database(), 'CREATE') AS create_schema,
  ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[])) AS roles,
  ARRAY(SELECT nspname::text FROM pg_namespace WHERE nspname = ANY ($2::text[])) AS schemas,
  ARRAY(SELECT ROW(nspname::text, pg_get_userbyid(nspowner)::text) FROM pg_namespace
    WHERE nspname = ANY ($2::text[])) AS schema_owners,
  ARRAY(SELECT ROW(r.rolname::text, a.name) FROM pg_roles AS r, LATERAL (VALUES
      ('SUPERUSER', rolsuper), ('BYPASSRLS', rolbypassrls), ('REPLICATION', rolreplication),
      ('CREATEROLE', rolcreaterole), ('CREATEDB', rolcreatedb)) AS a (name, has)
    WHERE a.has AND rolname = ANY ($1::text[])) AS mighty,
  ARRAY(SELECT ROW(rolname::text, rolcanlogin) FROM pg_roles WHERE rolname = ANY ($1::text[])) AS logins,
  ARRAY(SELECT ROW(member.rolname::text, parent.rolname::text) FROM pg_auth_members AS m
    JOIN pg_roles AS member ON member.oid = m.member JOIN pg_roles AS parent ON parent.oid = m.roleid
    WHERE member.rolname = ANY ($1::text[])) AS memberships,
  ARRAY(SELECT DISTINCT ON (r.oid) ROW(r.rolname::text, pg_describe_object(s.classid, s.objid, s.objsubid))
    FROM pg_roles AS r JOIN pg_shdepend AS s ON s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
    WHERE r.rolname = ANY ($1::text[]) AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = ANY ($2::text[]))
      AND (s.deptype = 'o' OR (r.rolcanlogin AND NOT EXISTS (
        SELECT FROM pg_db_role_setting AS c, unnest(c.setconfig) AS v
        WHERE c.setrole = r.oid AND v LIKE 'search_path=pg_catalog, tally%')))) AS others,
  ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[])
    AND pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION')) AS administered,
  ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[]) AND pg_has_role(current_user, oid,
    CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)) AS settable
FROM pg_roles AS me WHERE me.rolname = current_user
"""
"""``others`` are roles with our names that live by something here where no schema of ours is. What is granted to a
login counts, unless it has the search path that only we give."""


def _check(found: asyncpg.Record, roles: Roles, verifiers: Mapping[str, str]) -> None:
    """Say everything that is missing or dangerous at once, before anything is changed."""
    if found["version"] < OLDEST:
        raise Unsupported(
            f"The server is PostgreSQL {found['version'] // 10_000}.", remedy="Use PostgreSQL 15 or later."
        )
    problems = [*missing_rights(found, roles, verifiers), *dangers(found, roles)]
    if problems:
        raise NotProvisioned(f"Provisioning cannot go on: {'; '.join(problems)}.", remedy=REMEDY)


def missing_rights(found: asyncpg.Record, roles: Roles, verifiers: Mapping[str, str]) -> Iterator[str]:
    """What the role that is connected would need, given ``STATE`` as it found it."""
    user, database = found["user"], found["database"]
    missing = [role for role in roles.all if role not in found["roles"]]
    if missing and not (found["create_role"] or found["super"]):
        yield f"role {user} has no CREATEROLE, and {', '.join(missing)} must be made"
    missing_schemas = [schema for schema in SCHEMAS if schema not in found["schemas"]]
    if missing_schemas and not found["create_schema"]:
        yield f"role {user} has no CREATE on database {database}, and {', '.join(missing_schemas)} must be made"
    # Up to 15 CREATEROLE is enough to change any ordinary role; since 16 it takes ADMIN OPTION on that very role.
    rules_all = found["super"] or (found["version"] < _ADMIN_OPTION_SINCE and found["create_role"])
    for role in found["roles"]:
        if rules_all or role in found["administered"]:
            continue
        if role in verifiers:
            yield f"role {user} has no ADMIN OPTION on {role}, whose password is to be set"
        if role in {roles.owner, roles.audit} and role not in found["settable"]:
            yield f"role {user} may not SET ROLE {role}: GRANT {role} TO {quoted(user)} is missing"


def dangers(found: asyncpg.Record, roles: Roles) -> Iterator[str]:
    """What makes roles and schemas that already exist unfit, each with the statement that mends it."""
    for schema, owner in found["schema_owners"]:
        wanted = roles.audit if schema == "tally_audit" else roles.owner
        if owner != wanted:
            yield f"schema {schema} exists and belongs to {owner} instead of {wanted}"
    for role, thing in found["others"]:
        yield f"role {role} is another's, who needs it for {thing} (set TALLYSTICK_ROLE_PREFIX)"
    for role, attribute in found["mighty"]:
        yield f"role {role} has {attribute} (ALTER ROLE {role} NO{attribute})"
    for role, group in found["memberships"]:
        yield f"role {role} is a member of {group} (REVOKE {quoted(group)} FROM {role})"
    for role, login in found["logins"]:
        should = role in {roles.app, roles.seal}
        if login != should:
            right = "LOGIN" if should else "NOLOGIN"
            yield f"role {role} must have {right} (ALTER ROLE {role} {right})"
