"""What a business-intelligence role sees of an entity, as SQL.

Each view reads a function that belongs to the owner and opens the tenants of the *login* one after the other, inside
the same wall as everybody. The wall needs a setting, and a role's own default could be read by everybody in the
catalogue, on a hardened database the signature with it; so the function sets it, for as long as it runs. What reads a
view can therefore push no condition, and no function of its own, below the wall.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from tallystick.rules import Readable
from tallystick.schema.model import quote_name, quote_text
from tallystick.schema.roles import BI_SCHEMA
from tallystick.spec import Kind

if TYPE_CHECKING:
    from tallystick.spec import EntitySpec, FieldSpec

MASK = "••••"
"""What stands where a value is sealed or could be about anybody; a missing value stays missing."""
_SHOWN = frozenset({Readable.CODE, Readable.TERMS})
_HIDDEN = frozenset({"created_by", "updated_by"})
_PINNED = "SET search_path = pg_catalog, pg_temp SET row_security = on"

GROUND = (
    f"CREATE TABLE IF NOT EXISTS {BI_SCHEMA}.reader (role name PRIMARY KEY, tenant_id uuid, "
    "granted_at timestamptz NOT NULL DEFAULT now(), granted_by name NOT NULL DEFAULT session_user)",
    f"COMMENT ON TABLE {BI_SCHEMA}.reader IS 'Which login reads which tenant; without a tenant it reads all.'",
    f"""
CREATE OR REPLACE FUNCTION {BI_SCHEMA}.tenants() RETURNS uuid[] LANGUAGE plpgsql STABLE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  mine record;
BEGIN
  -- The login, whatever role it has set since: neither a setting nor SET ROLE changes whose rows these are.
  SELECT r.tenant_id INTO mine FROM {BI_SCHEMA}.reader r WHERE r.role = session_user;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this login reads no tenant' USING ERRCODE = '42501';
  END IF;
  IF mine.tenant_id IS NOT NULL THEN
    RETURN ARRAY[mine.tenant_id];
  END IF;
  RETURN ARRAY(SELECT t.id FROM tally_ref.tenant t ORDER BY t.id);
END $f$""",
    f"REVOKE ALL ON FUNCTION {BI_SCHEMA}.tenants() FROM PUBLIC",
)
"""The mapping and who may ask it: nobody but the functions that read."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One column of a view: its type and the expression over the table ``t`` that makes it."""

    name: str
    type: str
    sql: str


@dataclass(frozen=True, slots=True)
class View:
    """The view of an entity: the function that reads, by a name that changes with what it answers, and the view."""

    table: str
    columns: tuple[Seen, ...]
    function: str
    create_function: str
    create_view: str


def seen(spec: EntitySpec) -> tuple[Seen, ...]:
    """What is shown of an entity: ids, states, dates, numbers, amounts, codes; the rest masked, bytes and actors not.

    An amount is the integer of its minor units, as stored, and ``<name>_major`` in whole units beside it.
    """
    found: list[Seen] = []
    names = {c.name for c in spec.columns}
    for field in spec.fields.values():
        if field.name in _HIDDEN or (field.kind is Kind.BYTES):
            continue
        if _masked(spec, field):
            column = f"t.{quote_name(field.column)}"
            mask = f"CASE WHEN {column} IS NOT NULL THEN {quote_text(MASK)} END"
            found.append(Seen(field.column, "text", mask))
            continue
        found += [Seen(c.name, _type(c.sql), f"t.{quote_name(c.name)}") for c in field.columns]
        if field.asset_column is not None and f"{field.column}_major" not in names:
            asset = quote_name(f"_{field.asset_column}")
            amount = f"t.{quote_name(field.column)}"
            major = f"round({amount} / power(10::numeric, {asset}.exponent), {asset}.exponent)"
            found.append(Seen(f"{field.column}_major", "numeric", major))
    have = {c.name for c in found}
    shared = {f.asset_column for f in spec.fields.values() if f.asset_column is not None}
    found += [Seen(n, "text", f"t.{quote_name(n)}") for n in sorted(shared - have)]
    return tuple(found)


def view_of(spec: EntitySpec, live: Collection[str], there: Collection[str] = ()) -> View:
    """The view of an entity over the columns that its table has now (``live``).

    Columns that the view has already (``there``) come first and in their order, so that it is replaced rather than
    made again, and what others built on it stands.
    """
    assets = sorted({f.asset_column for f in spec.fields.values() if f.asset_column in live} - {None})  # type: ignore[type-var]
    gone = {c.name for c in spec.columns} - set(live)
    columns = [c for c in seen(spec) if not any(f"t.{quote_name(n)}" in c.sql for n in gone)]
    order = {name: i for i, name in enumerate(there)}
    columns.sort(key=lambda c: order.get(c.name, len(order)))
    answers = ", ".join(f"{quote_name(c.name)} {c.type}" for c in columns)
    picked = ", ".join(c.sql for c in columns)
    joins = "".join(
        f" LEFT JOIN tally_ref.asset AS {quote_name(f'_{a}')} ON {quote_name(f'_{a}')}.code = t.{quote_name(str(a))}"
        for a in assets
    )
    body = f"""
DECLARE
  held text := coalesce(current_setting('tally.tenant', true), '');
  one uuid;
BEGIN
  FOREACH one IN ARRAY {BI_SCHEMA}.tenants() LOOP
    PERFORM set_config('tally.tenant', tally_sec.token(one), true);
    RETURN QUERY SELECT {picked} FROM {spec.schema}.{quote_name(spec.table)} AS t{joins} WHERE t.tenant_id = one;
  END LOOP;
  -- An error takes the setting back with the transaction; the end has to do it here.
  PERFORM set_config('tally.tenant', held, true);
END """
    digest = blake2b(f"{answers}{body}".encode(), digest_size=5).hexdigest()
    function = f"{BI_SCHEMA}.{quote_name(f'{spec.table[:50]}_{digest}')}"
    names = ", ".join(quote_name(c.name) for c in columns)
    return View(
        table=spec.table,
        columns=tuple(columns),
        function=function,
        create_function=f"CREATE FUNCTION {function}() RETURNS TABLE ({answers}) LANGUAGE plpgsql STABLE "
        f"SECURITY DEFINER {_PINNED} AS $f${body}$f$",
        create_view=f"VIEW {BI_SCHEMA}.{quote_name(spec.table)} WITH (security_invoker = true, security_barrier = true)"
        f" AS SELECT {names} FROM {function}()",
    )


def _masked(spec: EntitySpec, field: FieldSpec) -> bool:
    if field.sealed or field.custom:
        return True
    return field.kind in (Kind.TEXT, Kind.JSON) and not field.system and spec.readable.get(field.name) not in _SHOWN


def _type(sql: str) -> str:
    return sql.removesuffix(' COLLATE "C"')
