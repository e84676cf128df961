"""Forgetting: blind indexes of erased persons are nulled, in rows that are written once too.

Revision kit_0004. No guard is opened: what may change in a guarded row is an index to null, and only where the value
that it belongs to names a key that was erased. A living person's index is as guarded as before, for the owner too.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.operations import Sql, role

revision = "kit_0004"
down_revision = "kit_0003"
branch_labels = None
depends_on = None
accepted: dict[str, str] = {}

INVOKER = "SET search_path = pg_catalog, pg_temp SET bytea_output = 'hex'"
DEFINER = f"SECURITY DEFINER {INVOKER}"

FORGETS = f"""
CREATE FUNCTION tally.forgets(tenant uuid, before jsonb, after jsonb) RETURNS boolean LANGUAGE sql STABLE {INVOKER}
AS $f$
  SELECT coalesce(bool_and(o.key ~ '_bidx(_next)?$' AND after -> o.key = 'null'::jsonb AND EXISTS (
    SELECT FROM tally.data_key k WHERE k.tenant_id = tenant AND k.state = 'erased' AND k.key_id =
      decode(substr(before ->> regexp_replace(o.key, '_bidx(_next)?$', ''), 7, 32), 'hex'))), false)
  FROM jsonb_each(before) o WHERE after -> o.key IS DISTINCT FROM o.value
$f$"""
REFUSE = f"""
CREATE OR REPLACE FUNCTION tally.refuse_change() RETURNS trigger LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  IF TG_OP = 'UPDATE' AND to_jsonb(OLD) ? 'tenant_id'
      AND tally.forgets((to_jsonb(OLD) ->> 'tenant_id')::uuid, to_jsonb(OLD), to_jsonb(NEW)) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION '% refused: rows of % are written once', TG_OP, TG_ARGV[0]
    USING ERRCODE = 'TS301', TABLE = TG_ARGV[0];
END $f$"""
REFUSE_BEFORE = """
CREATE OR REPLACE FUNCTION tally.refuse_change() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RAISE EXCEPTION '% refused: rows of % are written once', TG_OP, TG_ARGV[0]
    USING ERRCODE = 'TS301', TABLE = TG_ARGV[0];
END $f$"""
# Rows of the given persons (their own, and those whose subject column names one), wherever the value's key is erased.
FORGET = f"""
CREATE FUNCTION tally.forget_indexes(logical text, subject_column text, persons uuid[]) RETURNS bigint
  LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  mine uuid := tally_sec.current_tenant();
  gone bytea[];
  sets text;
  found text;
  touched bigint;
BEGIN
  SELECT array_agg(k.key_id) INTO gone FROM tally.data_key k
  WHERE k.tenant_id = mine AND k.subject = ANY (persons) AND k.state = 'erased';
  SELECT string_agg(format('%1$I = CASE WHEN substring(t.%2$I FROM 3 FOR 16) = ANY ($3) THEN NULL ELSE t.%1$I END',
      i.attname, s.attname), ', '),
    string_agg(format('t.%I IS NOT NULL AND substring(t.%I FROM 3 FOR 16) = ANY ($3)', i.attname, s.attname), ' OR ')
    INTO sets, found
  FROM pg_attribute i JOIN pg_attribute s ON s.attrelid = i.attrelid
    AND s.attname = regexp_replace(i.attname, '_bidx(_next)?$', '') AND s.atttypid = 'bytea'::regtype
  WHERE i.attrelid = to_regclass(format('tally.%I', logical)) AND i.attname ~ '_bidx(_next)?$'
    AND i.atttypid = 'bytea'::regtype AND i.attnum > 0 AND NOT i.attisdropped AND NOT s.attisdropped;
  IF gone IS NULL OR sets IS NULL THEN
    RETURN 0;
  END IF;
  EXECUTE format('UPDATE tally.%I t SET %s WHERE t.tenant_id = $1 AND (t.id = ANY ($2)%s) AND (%s)', logical, sets,
    CASE WHEN subject_column IS NULL THEN '' ELSE format(' OR t.%I = ANY ($2)', subject_column) END, found)
    USING mine, persons, gone;
  GET DIAGNOSTICS touched = ROW_COUNT;
  RETURN touched;
END $f$"""
NAMES = ("tally.forgets(uuid, jsonb, jsonb)", "tally.forget_indexes(text, text, uuid[])")


def upgrade() -> None:
    """Make the functions; the guard asks the first."""
    op.invoke(Sql([FORGETS, REFUSE, FORGET, *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in NAMES)]))
    op.invoke(Sql([f"GRANT EXECUTE ON FUNCTION {name} TO {role('app')}" for name in NAMES]))


def downgrade() -> None:
    """Give the guard its earlier text back."""
    op.invoke(Sql([REFUSE_BEFORE, *(f"DROP FUNCTION {name}" for name in reversed(NAMES))]))
