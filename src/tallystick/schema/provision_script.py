"""The SQL that makes roles, schemas and rights: one text, run by ``provision`` and printed for a DBA.

Every step asks first and does only what is missing, so that a second run needs no rights at all, and a role without
CREATEROLE can confirm what a DBA applied.
"""

from __future__ import annotations

from tallystick.errors import Invalid
from tallystick.schema.roles import Roles

#: Any fixed number would do; it spells "tally" and keeps two runs in one database apart.
LOCK = 0x74616C6C79


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
        f"BEGIN;\n{check}{steps(roles, admin=admin, created_by_us=created_by_us)}COMMIT;\n"
    )


def _wrong_database(database: str) -> str:
    return (
        f"DO $tally$ BEGIN IF pg_catalog.current_database() <> {_literal(database, 'database')} THEN\n"
        f"  RAISE EXCEPTION 'This script is for another database.'; END IF; END $tally$;\n"
    )


def _literal(name: str, field: str) -> str:
    if not name or "\x00" in name or "$tally$" in name:
        raise Invalid(f"The name given as {field} is empty or cannot be quoted.", field=field, remedy="Check the name.")
    return "'" + name.replace("'", "''") + "'"


def steps(roles: Roles, *, admin: str | None, created_by_us: bool) -> str:
    """The script without its transaction. Our roles need no quotes: their prefix is a plain name."""
    who = "CURRENT_USER" if admin is None else _literal(admin, "admin")
    revoke = _REVOKE_PUBLIC if created_by_us else ""
    return _STEPS.format(
        lock=LOCK, owner=roles.owner, audit=roles.audit, app=roles.app, seal=roles.seal, admin=who, revoke=revoke
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
  made text[] := '{{}}';
BEGIN
  FOR item IN SELECT * FROM (VALUES
      ('{owner}', 'NOLOGIN'), ('{audit}', 'NOLOGIN'),
      ('{app}', 'LOGIN NOINHERIT'), ('{seal}', 'LOGIN NOINHERIT')) AS v (role, login) LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = item.role) THEN
      EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB', item.role, item.login);
      made := made || item.role;
    END IF;
  END LOOP;
  PERFORM set_config('tally.made_roles', array_to_string(made, ' '), true);

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
      ('{app}', 'default_transaction_isolation', 'read committed'), ('{app}', 'row_security', 'on'),
      ('{seal}', 'search_path', 'pg_catalog, tally_audit'), ('{seal}', 'statement_timeout', '5min'),
      ('{seal}', 'idle_in_transaction_session_timeout', '60s'), ('{seal}', 'row_security', 'on')
      ) AS v (role, name, value) LOOP
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
