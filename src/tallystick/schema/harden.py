"""The hardened mode: a database that believes the setting of a tenant only when it is signed.

In plain mode whoever can run SQL as the application role may set any tenant. Hardened, the setting is
``<uuid>.<signature>`` and one function checks it for every policy and every function that reads it. It is one mode for
the whole database, switched on and off in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallystick.errors import Denied, Invalid, MigrationUnsafe, NotMigrated, Unsupported
from tallystick.ids import NIL
from tallystick.privacy import tenant_key
from tallystick.schema.roles import Roles

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import asyncpg
    from sqlalchemy import Connection

    from tallystick.schema.online import Report

HARDENED = "SELECT pg_catalog.to_regclass('tally_sec.tenant_key') IS NOT NULL"
VERIFIER = """
DECLARE
  given text := current_setting('tally.tenant', true);
  pad record;
  signed text;
BEGIN
  SELECT k.inner_pad, k.outer_pad INTO pad FROM tally_sec.tenant_key k;
  signed := encode(sha256(pad.outer_pad || sha256(pad.inner_pad || convert_to(left(given, 36), 'UTF8'))), 'hex');
  -- What is compared is keyed once more, so that how long it takes says nothing of how much of a guess was right.
  IF octet_length(given) = 101 AND substr(given, 37, 1) = '.' AND
    sha256(pad.outer_pad || convert_to(substr(given, 38), 'UTF8')) = sha256(pad.outer_pad || convert_to(signed, 'UTF8'))
  THEN
    RETURN left(given, 36)::uuid;
  END IF;
  RAISE EXCEPTION 'tally.tenant holds no signed tenant' USING ERRCODE = '22P02';
END """
"""The body of the function that checks; the lint compares it with the one in the database."""

READERS = """
SELECT p.oid::regprocedure::text AS object FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname IN ('tally', 'tally_ref', 'tally_sec', 'tally_audit')
  AND p.oid <> pg_catalog.to_regprocedure('tally_sec.current_tenant()')
  AND p.prosrc ~ 'current_setting[(] *''tally[.]tenant' ORDER BY 1
"""
"""The functions that read the setting themselves, and would find a signed tenant where they expect an id."""

_DEFINER = "LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
_INVOKER = "LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp"
_TABLE = (
    "CREATE TABLE tally_sec.tenant_key (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), "
    "inner_pad bytea NOT NULL, outer_pad bytea NOT NULL)",
    "COMMENT ON TABLE tally_sec.tenant_key IS 'What signs the setting of a tenant; for the owner alone.'",
)
_SIGNED = (
    f"CREATE OR REPLACE FUNCTION tally_sec.current_tenant() RETURNS uuid {_DEFINER} AS $f${VERIFIER}$f$",
    f"CREATE OR REPLACE FUNCTION tally_sec.token(tenant uuid) RETURNS text {_INVOKER} AS $f$"
    "SELECT tenant || '.' || encode(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(tenant::text, 'UTF8'))), "
    "'hex') FROM tally_sec.tenant_key k $f$",
)
_PLAIN = (
    "DROP TABLE IF EXISTS tally_sec.tenant_key",
    "CREATE OR REPLACE FUNCTION tally_sec.current_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE "
    "RETURN pg_catalog.current_setting('tally.tenant')::uuid",
    "CREATE OR REPLACE FUNCTION tally_sec.token(tenant uuid) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE "
    "RETURN tenant::text",
)
_FIT = "SELECT tally_sec.fit_policies()"
_READY = "SELECT pg_catalog.to_regprocedure('tally_sec.fit_policies(text)') IS NOT NULL"


@dataclass(frozen=True, slots=True)
class HardenReport:
    """What one run found and did: the mode it leaves, whether it changed anything, how many policies it altered."""

    hardened: bool
    changed: bool
    policies: int


async def harden(
    admin_url: str,
    *,
    key: bytes,
    roles: Roles | None = None,
    engine: str = "plain",
    patience: float = 60.0,
    report: Report | None = None,
) -> HardenReport:
    """Make the database believe signed tenants only, in one transaction, as often as you like.

    From then on the application needs the same key (``TALLYSTICK_TENANT_KEY_FILE``); one that runs without it is
    refused. Another key than before takes its place. Locks are waited for half a second and tried again for
    ``patience`` seconds. Raises ``Invalid`` for a bad key, ``MigrationUnsafe`` naming functions that
    would not understand a signed tenant, ``Unsupported`` on Citus, ``NotMigrated``, ``NotProvisioned``,
    ``Unavailable``.
    """
    pads = tenant_key.pads(key)

    def work(connection: Connection) -> HardenReport:
        with connection.begin():
            there = _mode(connection)
            if readers := connection.exec_driver_sql(READERS).scalars().all():
                raise MigrationUnsafe(
                    f"These functions read the setting of the tenant themselves: {', '.join(readers)}.",
                    remedy="Let them call tally_sec.current_tenant() instead, then harden the database.",
                )
            found = None
            if there:
                rows = connection.exec_driver_sql("SELECT inner_pad, outer_pad FROM tally_sec.tenant_key").all()
                found = tuple(tuple(row) for row in rows)
            for statement in (*(() if there else _TABLE), *_SIGNED):
                connection.exec_driver_sql(statement)
            changed = found != (pads,)
            if changed:
                connection.exec_driver_sql("DELETE FROM tally_sec.tenant_key")
                connection.exec_driver_sql(
                    "INSERT INTO tally_sec.tenant_key (inner_pad, outer_pad) VALUES ($1, $2)", pads
                )
            policies = int(connection.exec_driver_sql(_FIT).scalar_one())
            return HardenReport(True, changed or policies > 0, policies)

    return await _run(admin_url, work, what="Hardening", roles=roles, engine=engine, patience=patience, report=report)


async def soften(
    admin_url: str,
    *,
    roles: Roles | None = None,
    engine: str = "plain",
    patience: float = 60.0,
    report: Report | None = None,
) -> HardenReport:
    """Undo ``harden``: a bare id is believed again, and the key is gone from the database.

    In one transaction, as often as you like. Raises like ``harden``.
    """

    def work(connection: Connection) -> HardenReport:
        with connection.begin():
            there = _mode(connection)
            for statement in _PLAIN:
                connection.exec_driver_sql(statement)
            policies = int(connection.exec_driver_sql(_FIT).scalar_one())
            return HardenReport(False, there or policies > 0, policies)

    return await _run(
        admin_url, work, what="Undoing the hardening", roles=roles, engine=engine, patience=patience, report=report
    )


def _mode(connection: Connection) -> bool:
    if not connection.exec_driver_sql(_READY).scalar_one():
        raise NotMigrated("The database has no schema of Tallystick that could be hardened.")
    return bool(connection.exec_driver_sql(HARDENED).scalar_one())


async def _run(
    admin_url: str,
    work: Callable[[Connection], HardenReport],
    *,
    what: str,
    roles: Roles | None,
    engine: str,
    patience: float,
    report: Report | None,
) -> HardenReport:
    from tallystick.schema.ddl import checked_engine
    from tallystick.schema.online import runner

    if checked_engine(engine) == "citus":
        raise Unsupported(
            "Citus has no hardened mode: its workers could not check a signature.", remedy="Keep the plain mode there."
        )
    async with runner(admin_url, roles or Roles(), "plain", patience=patience, report=report) as run:
        return await run.attempt(what, work)


async def check_tenant_mode(conn: asyncpg.Connection, sign: Callable[[UUID], str] | None) -> None:
    """Refuse to start with a key that the database does not use, or without the one it does. One query without a key.

    Raises ``Denied`` on a hardened database without its key, ``Invalid`` with a key on a plain one. A database that
    is not migrated yet has no mode and is left to those who say so.
    """
    import asyncpg

    (found,) = await conn.fetch(f"SELECT ({_READY}) AS ready, ({HARDENED}) AS hardened")
    if not found["ready"]:
        return
    hardened = found["hardened"]
    if sign is None:
        if hardened:
            raise Denied("This database believes signed tenants only, and the application has no key.", remedy=_REMEDY)
        return
    if not hardened:
        raise Invalid(
            "The application has a tenant key, and this database believes any tenant.",
            field="tenant_key_file",
            remedy="Run `tallystick harden` with TALLYSTICK_ADMIN_URL set, or unset TALLYSTICK_TENANT_KEY_FILE.",
        )
    wrong = False
    try:
        # One statement, so that the setting is gone with it.
        await conn.fetchval(
            "SELECT tally_sec.current_tenant() FROM pg_catalog.set_config('tally.tenant', $1, true) s", sign(NIL)
        )
    except asyncpg.InvalidTextRepresentationError:
        wrong = True
    if wrong:
        raise Denied("The application's tenant key is not the one of this database.", remedy=_REMEDY)


_REMEDY = (
    "Point TALLYSTICK_TENANT_KEY_FILE at the key that `tallystick harden` was given, or harden the database again with "
    "this one."
)
