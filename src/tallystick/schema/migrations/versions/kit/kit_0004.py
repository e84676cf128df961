"""Blind indexes of erased persons are nulled, and all of them change their keys, in rows that are written once too.

Revision kit_0004. No guard is opened: what may change in a guarded row is an index to null, and only where the value
that it belongs to names a key that was erased; and, while an index's key is rotated, the index that the step under way
is about. Otherwise a living person's index is as guarded as before, for the owner too.
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
CREATE FUNCTION tally.forgets(tenant uuid, logical_table text, before jsonb, after jsonb) RETURNS boolean
  LANGUAGE sql STABLE {INVOKER} AS $f$
  SELECT coalesce(bool_and(o.key ~ '_bidx(_last[0-9]+)?(_next)?$' AND (
    (after -> o.key = 'null'::jsonb AND EXISTS (
      SELECT FROM tally.data_key k WHERE k.tenant_id = tenant AND k.state = 'erased' AND k.key_id =
        decode(substr(before ->> regexp_replace(o.key, '_bidx(_last[0-9]+)?(_next)?$', ''), 7, 32), 'hex')))
    OR EXISTS (
      SELECT FROM tally.index_state s WHERE s.tenant_id = tenant AND s.logical = logical_table
        AND s.phase <> 'settled' AND o.key = s.field || CASE WHEN s.generation % 2 = 1 THEN '_next' ELSE '' END
        AND CASE s.phase WHEN 'filling' THEN substr(after ->> o.key, 3, 4) = lpad(to_hex(s.generation + 1), 4, '0')
          ELSE after -> o.key = 'null'::jsonb END))), false)
  FROM jsonb_each(before) o WHERE after -> o.key IS DISTINCT FROM o.value
$f$"""
REFUSE = f"""
CREATE OR REPLACE FUNCTION tally.refuse_change() RETURNS trigger LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  IF TG_OP = 'UPDATE' AND to_jsonb(OLD) ? 'tenant_id'
      AND tally.forgets((to_jsonb(OLD) ->> 'tenant_id')::uuid, TG_ARGV[0], to_jsonb(OLD), to_jsonb(NEW)) THEN
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
    AND s.attname = regexp_replace(i.attname, '_bidx(_last[0-9]+)?(_next)?$', '') AND s.atttypid = 'bytea'::regtype
  WHERE i.attrelid = to_regclass(format('tally.%I', logical)) AND i.attname ~ '_bidx(_last[0-9]+)?(_next)?$'
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
# One step of a rotation, taken alone: whoever is writing an index of the tenant has finished, nobody else begins. It
# does not wait for long, because writers wait behind it. A key is rotated again only when every process that goes by
# what it read a minute ago has read again since.
STEP = f"""
CREATE FUNCTION tally.index_step(logical_table text, index_column text, step text) RETURNS integer
  LANGUAGE plpgsql {DEFINER} SET lock_timeout = '1s' AS $f$
DECLARE
  mine uuid := tally_sec.current_tenant();
  held tally.index_state%ROWTYPE;
  waiting boolean;
BEGIN
  IF index_column !~ '_bidx(_last[0-9]+)?$' OR NOT EXISTS (SELECT FROM pg_attribute a
      WHERE a.attrelid = to_regclass(format('tally.%I', logical_table)) AND a.attname = index_column || '_next'
        AND NOT a.attisdropped) THEN
    RAISE EXCEPTION 'no such blind index' USING ERRCODE = '22023', COLUMN = 'column';
  END IF;
  SELECT * INTO held FROM tally.index_state s
  WHERE s.tenant_id = mine AND s.logical = logical_table AND s.field = index_column;
  -- The rows that a step has to have seen to do not come back: nobody writes such a row since the step before.
  IF step = 'switch' AND held.phase = 'filling' THEN
    EXECUTE format('SELECT EXISTS (SELECT FROM tally.%1$I t WHERE t.tenant_id = $1 AND t.%2$I IS NOT NULL AND '
      '(t.%3$I IS NULL OR substring(t.%3$I FROM 1 FOR 2) <> decode($2, ''hex'')))', logical_table,
      index_column || CASE WHEN held.generation % 2 = 1 THEN '' ELSE '_next' END,
      index_column || CASE WHEN held.generation % 2 = 1 THEN '_next' ELSE '' END)
      INTO waiting USING mine, lpad(to_hex(held.generation + 1), 4, '0');
  ELSIF step = 'settle' AND held.phase = 'clearing' THEN
    EXECUTE format('SELECT EXISTS (SELECT FROM tally.%I t WHERE t.tenant_id = $1 AND t.%I IS NOT NULL)', logical_table,
      index_column || CASE WHEN held.generation % 2 = 1 THEN '_next' ELSE '' END) INTO waiting USING mine;
  ELSIF step IS DISTINCT FROM 'begin' OR held.phase <> 'settled' OR held.begun_at > now() - interval '5 minutes' THEN
    RAISE EXCEPTION 'the step does not follow' USING ERRCODE = 'TS313', TABLE = logical_table;
  END IF;
  IF waiting THEN
    RETURN NULL;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('tally.index ' || mine, 0));
  IF step = 'begin' THEN
    INSERT INTO tally.index_state AS s (tenant_id, logical, field, phase)
    VALUES (mine, logical_table, index_column, 'filling')
    ON CONFLICT (tenant_id, logical, field) DO UPDATE SET phase = 'filling', begun_at = now()
      WHERE s.phase = 'settled' AND s.begun_at <= now() - interval '5 minutes'
    RETURNING * INTO held;
  ELSIF step = 'switch' THEN
    UPDATE tally.index_state s SET phase = 'clearing', generation = s.generation + 1
    WHERE s.tenant_id = mine AND s.id = held.id AND s.phase = 'filling' RETURNING * INTO held;
  ELSE
    UPDATE tally.index_state s SET phase = 'settled'
    WHERE s.tenant_id = mine AND s.id = held.id AND s.phase = 'clearing' RETURNING * INTO held;
  END IF;
  IF held.id IS NULL THEN
    RAISE EXCEPTION 'somebody else took the step' USING ERRCODE = 'TS313', TABLE = logical_table;
  END IF;
  -- Every reader of sealed values hears of it.
  INSERT INTO tally.key_state (tenant_id, generation)
  VALUES (mine, 1 + (hashtextextended(gen_random_uuid()::text, 0) & 9223372036854775806))
  ON CONFLICT (tenant_id) DO UPDATE SET generation = excluded.generation;
  RETURN held.generation;
END $f$"""
# A value that was written since it was opened, or whose person was erased, is left as it is; so is a row that somebody
# holds, which is asked for again. A row without any index is an erased person's, or from before there was the index.
FILL = f"""
CREATE FUNCTION tally.fill_index(logical_table text, index_column text, rows uuid[], seen bytea[], made bytea[])
  RETURNS bigint LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  mine uuid := tally_sec.current_tenant();
  number integer;
  touched bigint;
BEGIN
  SELECT s.generation INTO number FROM tally.index_state s
  WHERE s.tenant_id = mine AND s.logical = logical_table AND s.field = index_column AND s.phase = 'filling';
  IF number IS NULL THEN
    RAISE EXCEPTION 'not filling' USING ERRCODE = 'TS313', TABLE = logical_table;
  END IF;
  PERFORM set_config('tally.reindexing', 'on', true);
  EXECUTE format('UPDATE tally.%1$I t SET %2$I = w.made FROM unnest($2, $3, $4) AS w (id, seen, made) '
    'WHERE t.tenant_id = $1 AND t.id = w.id AND t.%3$I = w.seen AND t.id IN ('
    'SELECT h.id FROM tally.%1$I h WHERE h.tenant_id = $1 AND h.id = ANY ($2) AND (h.%4$I IS NOT NULL OR EXISTS ('
    'SELECT FROM tally.data_key k WHERE k.tenant_id = $1 AND k.key_id = substring(h.%3$I FROM 3 FOR 16) '
    'AND k.state = ''live'' FOR SHARE)) FOR NO KEY UPDATE SKIP LOCKED)',
    logical_table, index_column || CASE WHEN number % 2 = 1 THEN '_next' ELSE '' END,
    regexp_replace(index_column, '_bidx(_last[0-9]+)?$', ''),
    index_column || CASE WHEN number % 2 = 1 THEN '' ELSE '_next' END)
    USING mine, rows, seen, made;
  GET DIAGNOSTICS touched = ROW_COUNT;
  PERFORM set_config('tally.reindexing', '', true);
  RETURN touched;
END $f$"""
CLEAR = f"""
CREATE FUNCTION tally.clear_index(logical_table text, index_column text, batch integer) RETURNS bigint
  LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  mine uuid := tally_sec.current_tenant();
  number integer;
  touched bigint;
BEGIN
  SELECT s.generation INTO number FROM tally.index_state s
  WHERE s.tenant_id = mine AND s.logical = logical_table AND s.field = index_column AND s.phase = 'clearing';
  IF number IS NULL THEN
    RAISE EXCEPTION 'not clearing' USING ERRCODE = 'TS313', TABLE = logical_table;
  END IF;
  PERFORM set_config('tally.reindexing', 'on', true);
  EXECUTE format('UPDATE tally.%1$I t SET %2$I = NULL WHERE t.tenant_id = $1 AND t.id IN ('
    'SELECT h.id FROM tally.%1$I h WHERE h.tenant_id = $1 AND h.%2$I IS NOT NULL LIMIT $2 FOR NO KEY UPDATE '
    'SKIP LOCKED)', logical_table, index_column || CASE WHEN number % 2 = 1 THEN '_next' ELSE '' END)
    USING mine, batch;
  GET DIAGNOSTICS touched = ROW_COUNT;
  PERFORM set_config('tally.reindexing', '', true);
  RETURN touched;
END $f$"""
NAMES = (
    "tally.forgets(uuid, text, jsonb, jsonb)",
    "tally.forget_indexes(text, text, uuid[])",
    "tally.index_step(text, text, text)",
    "tally.fill_index(text, text, uuid[], bytea[], bytea[])",
    "tally.clear_index(text, text, integer)",
)


def upgrade() -> None:
    """Make the functions; the guard asks the first."""
    op.invoke(
        Sql(
            [
                FORGETS,
                REFUSE,
                FORGET,
                STEP,
                FILL,
                CLEAR,
                *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in NAMES),
            ]
        )
    )
    op.invoke(Sql([f"GRANT EXECUTE ON FUNCTION {name} TO {role('app')}" for name in NAMES]))


def downgrade() -> None:
    """Give the guard its earlier text back."""
    op.invoke(Sql([REFUSE_BEFORE, *(f"DROP FUNCTION {name}" for name in reversed(NAMES))]))
