"""Data keys, one for each person and purpose class, wrapped by a key that is not in the database; and index keys.

Revision kit_0003. What is sealed can only be written while its key lives: a trigger on every table with sealed columns
looks the key up and holds it, so that a writer and whoever erases the person cannot pass each other. Of the keys of
blind indexes only the generation is here; a trigger sees to it that every row has the index that all searches ask for.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo, role

revision = "kit_0003"
down_revision = "kit_0002"
branch_labels = None
depends_on = None
accepted: dict[str, str] = {}

TEXT = 'text COLLATE "C"'
WALL = "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"
DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET bytea_output = 'hex'"
WALLS = (Policy("tenant_rw", WALL), Policy("tenant_wall", WALL, permissive=False))
NO_TRUNCATE = Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT")

KEY_STATE = Table(
    "key_state",
    comment="What every reader of sealed values has to know of a tenant's keys; only triggers write it.",
    primary_key=("tenant_id",),
    columns=(
        Column("tenant_id", "uuid"),
        Column("generation", "bigint", default="0"),
        Column("oldest_epoch", "integer", default="1"),
    ),
    checks=(Check("ck_key_state_numbers", "generation >= 0 AND oldest_epoch >= 1"),),
    foreign_keys=(ForeignKey("fk_key_state_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    policies=WALLS,
    triggers=(NO_TRUNCATE,),
    grants=(Grant("app", "SELECT"),),
)
DATA_KEY = Table(
    "data_key",
    comment="The wrapped key of one person and purpose class; without it nothing of theirs can be read.",
    columns=(
        Column("tenant_id", "uuid"),
        Column("id", "uuid", default="gen_random_uuid()"),
        Column("subject", "uuid"),
        Column("class", TEXT),
        Column("key_id", "bytea"),
        Column("epoch", "integer"),
        Column("wrapped", "bytea", nullable=True),
        Column("state", TEXT, default="'live'"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("changed_at", "timestamp with time zone", default="now()"),
    ),
    checks=(
        Check("ck_data_key_class", "char_length(class) BETWEEN 1 AND 63"),
        Check("ck_data_key_key_id", "octet_length(key_id) = 16"),
        Check("ck_data_key_epoch", "epoch >= 1"),
        Check("ck_data_key_state", "state IN ('live', 'erased')"),
        Check("ck_data_key_wrapped", "(state = 'live') = (wrapped IS NOT NULL) AND octet_length(wrapped) <= 4096"),
    ),
    foreign_keys=(ForeignKey("fk_data_key_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index("uq_data_key_subject_class", ("tenant_id", "subject", "class"), unique=True, comment="a person's key"),
        Index("uq_data_key_key_id", ("tenant_id", "key_id"), unique=True, comment="the key that a value names"),
        Index("ix_data_key_epoch", ("tenant_id", "epoch", "id"), where="state = 'live'", comment="keys to rewrap"),
    ),
    policies=WALLS,
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('data_key', 'wrapped')"),
        Trigger("tally_data_key", "BEFORE INSERT OR UPDATE", "tally.guard_data_key('data_key')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('data_key')"),
        NO_TRUNCATE,
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", ("tenant_id", "subject", "class", "key_id", "epoch", "wrapped")),
        Grant("app", "UPDATE", ("epoch", "wrapped", "state")),
    ),
)
INDEX_STATE = Table(
    "index_state",
    comment="Which generation of its key each blind index is under, and how far its rotation is; functions write it.",
    columns=(
        Column("tenant_id", "uuid"),
        Column("id", "uuid", default="gen_random_uuid()"),
        Column("logical", TEXT),
        Column("field", TEXT),
        Column("generation", "integer", default="1"),
        Column("phase", TEXT, default="'settled'"),
        Column("begun_at", "timestamp with time zone", default="now()"),
    ),
    checks=(
        Check("ck_index_state_generation", "generation BETWEEN 1 AND 65000"),
        Check("ck_index_state_phase", "phase IN ('settled', 'filling', 'clearing')"),
    ),
    foreign_keys=(ForeignKey("fk_index_state_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_index_state_logical_field", ("tenant_id", "logical", "field"), unique=True),),
    policies=WALLS,
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('index_state')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('index_state')"),
        NO_TRUNCATE,
    ),
    grants=(Grant("app", "SELECT"),),
)

FUNCTIONS = {
    # A key is made in an epoch that has not ended, wrapped anew, or erased once; erasing tells every reader.
    "tally.guard_data_key()": f"""
CREATE FUNCTION tally.guard_data_key() RETURNS trigger LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  oldest integer;
  drawn bigint;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF OLD.state = 'erased' OR (OLD.tenant_id, OLD.id, OLD.subject, OLD.class, OLD.key_id, OLD.created_at)
        IS DISTINCT FROM (NEW.tenant_id, NEW.id, NEW.subject, NEW.class, NEW.key_id, NEW.created_at) THEN
      RAISE EXCEPTION '% refused: rows of % are written once', TG_OP, TG_ARGV[0]
        USING ERRCODE = 'TS301', TABLE = TG_ARGV[0];
    END IF;
    NEW.changed_at := now();
    IF NEW.state = 'erased' THEN
      NEW.wrapped := NULL;
      NEW.epoch := OLD.epoch;
      -- Drawn, not counted: a number that a rolled back transaction has shown must never come again.
      drawn := 1 + (hashtextextended(gen_random_uuid()::text, 0) & 9223372036854775806);
      INSERT INTO tally.key_state (tenant_id, generation) VALUES (NEW.tenant_id, drawn)
      ON CONFLICT (tenant_id) DO UPDATE SET generation = excluded.generation;
      RETURN NEW;
    END IF;
  END IF;
  -- Held only against close_epochs(): who makes a key and who erases another person must not wait for each other.
  SELECT s.oldest_epoch INTO oldest FROM tally.key_state s WHERE s.tenant_id = NEW.tenant_id FOR KEY SHARE;
  IF NOT FOUND THEN
    INSERT INTO tally.key_state (tenant_id) VALUES (NEW.tenant_id) ON CONFLICT DO NOTHING;
    SELECT s.oldest_epoch INTO oldest FROM tally.key_state s WHERE s.tenant_id = NEW.tenant_id FOR KEY SHARE;
  END IF;
  -- Not to be seen is a snapshot from before the tenant's first key.
  IF oldest IS NULL OR NEW.epoch < oldest THEN
    RAISE EXCEPTION 'key epoch % has ended', NEW.epoch USING ERRCODE = 'TS311', TABLE = TG_ARGV[0];
  END IF;
  RETURN NEW;
END $f$""",
    # The arguments are the sealed columns. A value names its key in bytes 3 to 18; see privacy/envelope.py.
    "tally.sealed_live()": f"""
CREATE FUNCTION tally.sealed_live() RETURNS trigger LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  after jsonb := to_jsonb(NEW);
  before jsonb := CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) ELSE '{{}}' END;
  wanted bytea[];
  live bigint;
BEGIN
  SELECT array_agg(DISTINCT decode(substr(after ->> c, 7, 32), 'hex')) INTO wanted
  FROM unnest(TG_ARGV) AS c WHERE after ->> c IS NOT NULL AND after -> c IS DISTINCT FROM before -> c;
  IF wanted IS NULL THEN
    RETURN NEW;
  END IF;
  -- By whole key and nothing else: a planner that has no statistics yet would walk another index, all of the tenant's.
  SELECT count(*) FILTER (WHERE held.state = 'live') INTO live FROM unnest(wanted) AS w (id) CROSS JOIN LATERAL (
    SELECT k.state FROM tally.data_key k WHERE k.tenant_id = NEW.tenant_id AND k.key_id = w.id FOR SHARE) AS held;
  IF live <> cardinality(wanted) THEN
    RAISE EXCEPTION 'a sealed value of % names no living key', TG_TABLE_NAME
      USING ERRCODE = 'TS310', TABLE = TG_TABLE_NAME;
  END IF;
  RETURN NEW;
END $f$""",
    # The arguments are the table and the index columns of odd generations; even ones stand in the column named _next.
    # A value begins with its generation, two bytes. What this generation does not need is not kept.
    "tally.indexed()": f"""
CREATE FUNCTION tally.indexed() RETURNS trigger LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  after jsonb := to_jsonb(NEW);
  before jsonb := CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) ELSE '{{}}' END;
  surplus jsonb := '{{}}';
  mine text;
  held boolean := false;
  now_in text;
  next_in text;
  number integer;
  step text;
BEGIN
  FOREACH mine IN ARRAY TG_ARGV[1:] LOOP
    CONTINUE WHEN after ->> mine IS NULL AND after ->> (mine || '_next') IS NULL
      OR (after -> mine, after -> (mine || '_next')) IS NOT DISTINCT FROM (before -> mine, before -> (mine || '_next'));
    IF NOT held THEN
      -- Until this transaction ends no step of a rotation is taken.
      PERFORM pg_advisory_xact_lock_shared(hashtextextended('tally.index ' || NEW.tenant_id, 0));
      IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- Every step changes this row, so a snapshot from before one fails here.
        PERFORM 1 FROM tally.key_state k WHERE k.tenant_id = NEW.tenant_id FOR SHARE;
      END IF;
      held := true;
    END IF;
    number := 1;
    step := 'settled';
    SELECT s.generation, s.phase INTO number, step FROM tally.index_state s
    WHERE s.tenant_id = NEW.tenant_id AND s.logical = TG_ARGV[0] AND s.field = mine;
    IF NOT FOUND THEN
      number := 1;
      step := 'settled';
    END IF;
    now_in := CASE WHEN number % 2 = 1 THEN mine ELSE mine || '_next' END;
    next_in := CASE WHEN number % 2 = 1 THEN mine || '_next' ELSE mine END;
    -- A row from before the index was declared has none until one is filled, and then the next alone.
    IF (substr(after ->> now_in, 3, 4) IS DISTINCT FROM lpad(to_hex(number), 4, '0')
        AND (step <> 'filling' OR after ->> now_in IS NOT NULL)) OR (step = 'filling'
        AND substr(after ->> next_in, 3, 4) IS DISTINCT FROM lpad(to_hex(number + 1), 4, '0')) THEN
      RAISE EXCEPTION 'the index keys of %.% were rotated', TG_ARGV[0], mine
        USING ERRCODE = 'TS312', TABLE = TG_ARGV[0], COLUMN = mine;
    END IF;
    IF step <> 'filling' AND after ->> next_in IS NOT NULL THEN
      surplus := surplus || jsonb_build_object(next_in, NULL);
    END IF;
  END LOOP;
  IF surplus <> '{{}}' THEN
    NEW := jsonb_populate_record(NEW, surplus);
  END IF;
  RETURN NEW;
END $f$""",
    # Nothing can be wrapped in earlier epochs from here on; what still is, is for the caller to wrap anew.
    "tally.close_epochs(integer)": f"""
CREATE FUNCTION tally.close_epochs(before integer) RETURNS void LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  mine uuid := tally_sec.current_tenant();
BEGIN
  -- Waits for every transaction that is making a key.
  PERFORM 1 FROM tally.key_state s WHERE s.tenant_id = mine FOR UPDATE;
  INSERT INTO tally.key_state AS s (tenant_id, oldest_epoch) VALUES (mine, before)
  ON CONFLICT (tenant_id) DO UPDATE SET oldest_epoch = greatest(s.oldest_epoch, excluded.oldest_epoch);
END $f$""",
}


def upgrade() -> None:
    """Make the guards, then the tables."""
    op.invoke(Sql([*FUNCTIONS.values(), *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in FUNCTIONS)]))
    op.invoke(Sql([f"GRANT EXECUTE ON FUNCTION tally.close_epochs(integer) TO {role('app')}"]))
    op.invoke(CreateTables(KEY_STATE, DATA_KEY, INDEX_STATE))


def downgrade() -> None:
    """Remove the tables, then the guards."""
    op.invoke(Undo(CreateTables(KEY_STATE, DATA_KEY, INDEX_STATE)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS)]))
