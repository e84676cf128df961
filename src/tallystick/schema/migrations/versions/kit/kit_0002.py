"""The audit log: what was changed, captured in the transaction that changed it, and where it is sealed.

Revision kit_0002. Everything here belongs to the audit role, so that the owner of the data cannot rewrite it.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.operations import Sql, role

revision = "kit_0002"
down_revision = "kit_0001"
branch_labels = None
depends_on = None
accepted: dict[str, str] = {}

INVOKER = "SET search_path = pg_catalog, pg_temp"
DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
# How values look in a log that is hashed is not for clients to choose.
PINNED = (
    "SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET bytea_output = 'hex' SET intervalstyle = 'iso_8601' "
    "SET extra_float_digits = '1'"
)
MINE = "tenant_id = ANY (ARRAY[(SELECT tally_sec.current_tenant())])"

TABLES = {
    "entry": """
CREATE TABLE tally_audit.entry (
  tenant_id uuid NOT NULL,
  seq bigint NOT NULL,
  xid xid8 NOT NULL,
  at timestamptz NOT NULL,
  "table" text COLLATE "C" NOT NULL,
  op text COLLATE "C" NOT NULL CONSTRAINT ck_entry_op CHECK (op IN ('I', 'U', 'D', 'E', 'R', 'B', 'P', 'S')),
  key text COLLATE "C" NOT NULL,
  salt bytea NOT NULL CONSTRAINT ck_entry_salt CHECK (octet_length(salt) = 32),
  body text COLLATE "C" NOT NULL,
  CONSTRAINT pk_entry PRIMARY KEY (tenant_id, seq, at)
) PARTITION BY RANGE (at)""",
    "leaf": """
CREATE TABLE tally_audit.leaf (
  tenant_id uuid NOT NULL,
  idx bigint NOT NULL CONSTRAINT ck_leaf_idx CHECK (idx >= 0),
  seq bigint NOT NULL,
  at timestamptz NOT NULL,
  hash bytea NOT NULL CONSTRAINT ck_leaf_hash CHECK (octet_length(hash) = 32),
  CONSTRAINT pk_leaf PRIMARY KEY (tenant_id, idx),
  CONSTRAINT uq_leaf_seq UNIQUE (tenant_id, seq)
)""",
    "node": """
CREATE TABLE tally_audit.node (
  tenant_id uuid NOT NULL,
  level smallint NOT NULL CONSTRAINT ck_node_level CHECK (level > 0 AND level % 8 = 0),
  idx bigint NOT NULL CONSTRAINT ck_node_idx CHECK (idx >= 0),
  hash bytea NOT NULL CONSTRAINT ck_node_hash CHECK (octet_length(hash) = 32),
  CONSTRAINT pk_node PRIMARY KEY (tenant_id, level, idx)
)""",
    "checkpoint": """
CREATE TABLE tally_audit.checkpoint (
  tenant_id uuid NOT NULL,
  size bigint NOT NULL CONSTRAINT ck_checkpoint_size CHECK (size >= 0),
  root bytea NOT NULL CONSTRAINT ck_checkpoint_root CHECK (octet_length(root) = 32),
  note text COLLATE "C" NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT pk_checkpoint PRIMARY KEY (tenant_id, size)
)""",
    "cursor": """
CREATE TABLE tally_audit.cursor (
  only_one boolean DEFAULT true CONSTRAINT ck_cursor_one CHECK (only_one),
  installation uuid NOT NULL,
  epoch integer NOT NULL DEFAULT 1,
  system_identifier text COLLATE "C" NOT NULL,
  xid xid8 NOT NULL DEFAULT '0',
  seq bigint NOT NULL DEFAULT 0,
  fence bigint NOT NULL DEFAULT 0,
  CONSTRAINT pk_cursor PRIMARY KEY (only_one)
)""",
}
COMMENTS = {
    "entry": "What happened, in the exact words that are hashed; a partition a month.",
    "leaf": "The hash of every sealed entry, in the order of its tenant''s tree; kept when bodies are dropped.",
    "node": "Roots of complete subtrees, 256 wide, so that a proof reads few rows.",
    "checkpoint": "Signed roots of the trees.",
    "cursor": "How far sealing is.",
}
INDEXES = (
    'CREATE INDEX ix_entry_key ON tally_audit.entry (tenant_id, "table", key, seq)',
    "CREATE INDEX ix_entry_xid ON tally_audit.entry (xid, seq)",
)
KEPT = ("entry", "leaf", "node", "checkpoint")

FUNCTIONS = {
    "tally_audit.refuse()": f"""
CREATE FUNCTION tally_audit.refuse() RETURNS trigger LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  RAISE EXCEPTION '% refused: rows of % are written once', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'TS301', TABLE = TG_TABLE_NAME;
END $f$""",
    # The arguments are the logical table (a shard has another name) and the columns that stay out of the log.
    "tally_audit.capture()": f"""
CREATE FUNCTION tally_audit.capture() RETURNS trigger LANGUAGE plpgsql {DEFINER} {PINNED} AS $f$
DECLARE
  number bigint := nextval('tally_audit.entry_seq');
  moment timestamptz := clock_timestamp();
  left_out text[] := coalesce(TG_ARGV[1:], '{{}}');
  tenant uuid;
  id text;
  before text := 'null';
  after text := 'null';
  written bigint;
BEGIN
  IF TG_OP = 'DELETE' THEN
    tenant := OLD.tenant_id;
    id := OLD.id;
  ELSE
    tenant := NEW.tenant_id;
    id := NEW.id;
    after := to_jsonb(NEW) - left_out;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    before := to_jsonb(OLD) - left_out;
  END IF;
  IF before = after THEN
    RETURN NULL;
  END IF;
  INSERT INTO tally_audit.entry (tenant_id, seq, xid, at, "table", op, key, salt, body)
  VALUES (tenant, number, pg_current_xact_id(), moment, TG_ARGV[0], left(TG_OP, 1), id,
    uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    '{{"tenant":"' || tenant || '","seq":' || number || ',"xid":' || pg_current_xact_id()::text || ',"at":"'
      || to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","table":' || to_json(TG_ARGV[0]) || ',"op":"'
      || left(TG_OP, 1) || '","key":' || to_json(id)
      || ',"actor":' || coalesce(to_json(nullif(current_setting('tally.actor', true), ''))::text, 'null')
      || ',"reason":' || coalesce(to_json(nullif(current_setting('tally.reason', true), ''))::text, 'null')
      || ',"request":' || coalesce(to_json(nullif(current_setting('tally.request', true), ''))::text, 'null')
      || ',"role":' || to_json(session_user::text) || ',"old":' || before || ',"new":' || after || '}}');
  GET DIAGNOSTICS written = ROW_COUNT;
  IF written <> 1 THEN
    RAISE EXCEPTION 'the audit log took % entries for a change of %', written, TG_ARGV[0] USING ERRCODE = 'TS302';
  END IF;
  RETURN NULL;
END $f$""",
    # Everything that is no change of a row: events, reads, baselines, policies, the state of the schema.
    "tally_audit.write(uuid, text, text, text, jsonb)": f"""
CREATE FUNCTION tally_audit.write(tenant uuid, op text, "table" text, key text, event jsonb)
  RETURNS bigint LANGUAGE plpgsql {INVOKER} {PINNED} AS $f$
DECLARE
  number bigint := nextval('tally_audit.entry_seq');
  moment timestamptz := clock_timestamp();
  written bigint;
BEGIN
  INSERT INTO tally_audit.entry (tenant_id, seq, xid, at, "table", op, key, salt, body)
  VALUES (tenant, number, pg_current_xact_id(), moment, "table", op, key,
    uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    '{{"tenant":"' || tenant || '","seq":' || number || ',"xid":' || pg_current_xact_id()::text || ',"at":"'
      || to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","table":' || to_json("table") || ',"op":"'
      || op || '","key":' || to_json(key)
      || ',"actor":' || coalesce(to_json(nullif(current_setting('tally.actor', true), ''))::text, 'null')
      || ',"reason":' || coalesce(to_json(nullif(current_setting('tally.reason', true), ''))::text, 'null')
      || ',"request":' || coalesce(to_json(nullif(current_setting('tally.request', true), ''))::text, 'null')
      || ',"role":' || to_json(session_user::text)
      || CASE WHEN op = 'B' THEN ',"old":null,"new":' ELSE ',"event":' END || event || '}}');
  GET DIAGNOSTICS written = ROW_COUNT;
  IF written <> 1 THEN
    RAISE EXCEPTION 'the audit log took % entries for a record', written USING ERRCODE = 'TS302';
  END IF;
  RETURN number;
END $f$""",
    "tally_audit.record(text, text, text, jsonb)": f"""
CREATE FUNCTION tally_audit.record(op text, "table" text, key text, event jsonb)
  RETURNS bigint LANGUAGE plpgsql {DEFINER} AS $f$
BEGIN
  IF op IS NULL OR op NOT IN ('E', 'R') OR jsonb_typeof(event) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'only events and reads are recorded so' USING ERRCODE = '22023';
  END IF;
  IF octet_length(event::text) > 65536 OR octet_length("table") > 63 OR octet_length(key) > 512 THEN
    RAISE EXCEPTION 'the event is too long' USING ERRCODE = '22001';
  END IF;
  RETURN tally_audit.write(tally_sec.current_tenant(), op, "table", key, event);
END $f$""",
    # The installation's own log has the nil tenant.
    "tally_audit.record_state(text, jsonb)": f"""
CREATE FUNCTION tally_audit.record_state(key text, event jsonb) RETURNS bigint LANGUAGE sql {DEFINER} AS $f$
  SELECT tally_audit.write('00000000-0000-0000-0000-000000000000', 'S', 'tally_audit.state', key, event)
$f$""",
    "tally_audit.baseline(anyelement, text, text[])": f"""
CREATE FUNCTION tally_audit.baseline(item anyelement, logical text, left_out text[])
  RETURNS bigint LANGUAGE plpgsql {DEFINER} {PINNED} AS $f$
DECLARE
  image jsonb := to_jsonb(item) - left_out;
BEGIN
  IF (image ->> 'tenant_id')::uuid IS DISTINCT FROM tally_sec.current_tenant() THEN
    RAISE EXCEPTION 'a baseline is taken of the tenant that is set' USING ERRCODE = '42501';
  END IF;
  RETURN tally_audit.write((image ->> 'tenant_id')::uuid, 'B', logical, image ->> 'id', image);
END $f$""",
    # Attached, not created as a partition: that would wait for every writer.
    "tally_audit.make_partition(date)": f"""
CREATE FUNCTION tally_audit.make_partition(month date) RETURNS boolean LANGUAGE plpgsql {INVOKER} {PINNED} AS $f$
DECLARE
  first timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
  next timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
  name text := 'entry_' || to_char(first, 'YYYY_MM');
BEGIN
  IF to_regclass('tally_audit.' || name) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE tally_audit.%I (LIKE tally_audit.entry INCLUDING CONSTRAINTS)', name);
  PERFORM tally_audit.protect(name);
  EXECUTE format('ALTER TABLE tally_audit.entry ATTACH PARTITION tally_audit.%I FOR VALUES FROM (%L) TO (%L)',
    name, first, next);
  EXECUTE format('ALTER TABLE tally_audit.%I ENABLE ALWAYS TRIGGER tally_append_only', name);
  RETURN true;
END $f$""",
    # Nobody reaches a partition past its parent: it has row-level security of its own and no policy.
    "tally_audit.protect(text)": f"""
CREATE FUNCTION tally_audit.protect(part text) RETURNS void LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  EXECUTE format('ALTER TABLE tally_audit.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part);
  EXECUTE format('CREATE TRIGGER tally_no_truncate BEFORE TRUNCATE ON tally_audit.%I '
    'FOR EACH STATEMENT EXECUTE FUNCTION tally_audit.refuse()', part);
  EXECUTE format('ALTER TABLE tally_audit.%I ENABLE ALWAYS TRIGGER tally_no_truncate', part);
END $f$""",
    "tally_audit.make_partitions(integer)": f"""
CREATE FUNCTION tally_audit.make_partitions(ahead integer DEFAULT 3)
  RETURNS integer LANGUAGE plpgsql {DEFINER} SET timezone = 'UTC' SET lock_timeout = '500ms' AS $f$
DECLARE
  made integer := 0;
BEGIN
  IF ahead IS NULL OR ahead NOT BETWEEN 0 AND 24 THEN
    RAISE EXCEPTION 'partitions are made up to 24 months ahead' USING ERRCODE = '22023';
  END IF;
  FOR i IN 0 .. ahead LOOP
    IF tally_audit.make_partition((date_trunc('month', now()) + make_interval(months => i))::date) THEN
      made := made + 1;
    END IF;
  END LOOP;
  RETURN made;
END $f$""",
}
# Who may call which; trigger functions are called by nobody.
CALLERS = {
    "tally_audit.refuse()": (),
    "tally_audit.capture()": ("owner",),
    "tally_audit.record(text, text, text, jsonb)": ("app",),
    "tally_audit.record_state(text, jsonb)": ("seal",),
    "tally_audit.baseline(anyelement, text, text[])": ("owner",),
    "tally_audit.make_partitions(integer)": ("seal",),
}


def upgrade() -> None:
    """Make the log, as the role that owns it."""
    app, seal, audit = role("app"), role("seal"), role("audit")
    op.invoke(Sql([f"SET LOCAL ROLE {audit}"]))
    op.invoke(Sql(["CREATE SEQUENCE tally_audit.entry_seq"]))
    op.invoke(Sql([*TABLES.values(), *INDEXES]))
    op.invoke(Sql([f"COMMENT ON TABLE tally_audit.{name} IS '{text}'" for name, text in COMMENTS.items()]))
    op.invoke(Sql([*FUNCTIONS.values(), *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in FUNCTIONS)]))
    op.invoke(
        Sql(
            [f"GRANT EXECUTE ON FUNCTION {name} TO {role(who)}" for name, callers in CALLERS.items() for who in callers]
        )
    )
    for table in KEPT:
        op.invoke(
            Sql(
                [
                    f"ALTER TABLE tally_audit.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
                    f"CREATE POLICY app_read ON tally_audit.{table} FOR SELECT TO {app} USING ({MINE})",
                    f"CREATE POLICY seal_read ON tally_audit.{table} FOR SELECT TO {seal} USING (true)",
                    f"CREATE POLICY audit_read ON tally_audit.{table} FOR SELECT TO {audit} USING (true)",
                    f"CREATE POLICY writes ON tally_audit.{table} FOR INSERT "
                    f"TO {audit if table == 'entry' else seal} WITH CHECK (true)",
                    f"CREATE TRIGGER tally_append_only BEFORE UPDATE OR DELETE ON tally_audit.{table} "
                    "FOR EACH ROW EXECUTE FUNCTION tally_audit.refuse()",
                    f"CREATE TRIGGER tally_no_truncate BEFORE TRUNCATE ON tally_audit.{table} "
                    "FOR EACH STATEMENT EXECUTE FUNCTION tally_audit.refuse()",
                    f"ALTER TABLE tally_audit.{table} ENABLE ALWAYS TRIGGER tally_append_only, "
                    "ENABLE ALWAYS TRIGGER tally_no_truncate",
                    f"GRANT SELECT ON tally_audit.{table} TO {app}, {seal}",
                ]
            )
        )
    op.invoke(
        Sql(
            [
                f"GRANT INSERT ON tally_audit.leaf, tally_audit.node, tally_audit.checkpoint TO {seal}",
                f"GRANT SELECT, UPDATE ON tally_audit.cursor TO {seal}",
                "INSERT INTO tally_audit.cursor (installation, system_identifier) "
                "SELECT gen_random_uuid(), system_identifier::text FROM pg_control_system()",
                "CREATE TABLE tally_audit.entry_default PARTITION OF tally_audit.entry DEFAULT",
                "SELECT tally_audit.protect('entry_default')",
                "ALTER TABLE tally_audit.entry_default ENABLE ALWAYS TRIGGER tally_append_only",
                "SELECT tally_audit.make_partitions()",
                f"SET LOCAL ROLE {role('owner')}",
            ]
        )
    )


def downgrade() -> None:
    """Take the log away, with everything in it."""
    op.invoke(Sql([f"SET LOCAL ROLE {role('audit')}"]))
    op.invoke(Sql([f"DROP TABLE tally_audit.{name}" for name in reversed(TABLES)]))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS)]))
    op.invoke(Sql(["DROP SEQUENCE tally_audit.entry_seq", f"SET LOCAL ROLE {role('owner')}"]))
