"""The audit log: what was changed, captured in the transaction that changed it, and where it is sealed.

Revision kit_0002. Everything here belongs to the audit role, so that the owner of the data cannot rewrite it.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Trigger
from tallystick.schema.operations import ENGINE, AddTrigger, Sql, Undo, role

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
    "retention": """
CREATE TABLE tally_audit.retention (
  only_one boolean DEFAULT true CONSTRAINT ck_retention_one CHECK (only_one),
  keep_months integer NOT NULL CONSTRAINT ck_retention_months CHECK (keep_months BETWEEN 1 AND 1200),
  basis text COLLATE "C" NOT NULL CONSTRAINT ck_retention_basis CHECK (char_length(basis) BETWEEN 1 AND 500),
  CONSTRAINT pk_retention PRIMARY KEY (only_one)
)""",
}
COMMENTS = {
    "entry": "What happened, in the exact words that are hashed; a partition a month.",
    "leaf": "The hash of every sealed entry, in the order of its tenant''s tree; kept when bodies are dropped.",
    "node": "Roots of complete subtrees, 256 wide, so that a proof reads few rows.",
    "checkpoint": "Signed roots of the trees.",
    "cursor": "How far sealing is.",
    "retention": "For how many months bodies of entries are kept at least, and why.",
}
INDEXES = (
    'CREATE INDEX ix_entry_key ON tally_audit.entry (tenant_id, "table", key, seq)',
    "CREATE INDEX ix_entry_xid ON tally_audit.entry (xid, seq)",
)
GUARDS = ("tally_audit.refuse()",)
KEPT = ("entry", "leaf", "node", "checkpoint")

FUNCTIONS = {
    "tally_audit.refuse()": f"""
CREATE FUNCTION tally_audit.refuse() RETURNS trigger LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  RAISE EXCEPTION '% refused: rows of % are written once', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'TS301', TABLE = TG_TABLE_NAME;
END $f$""",
    # The one place where an entry is worded. ``content`` is JSON and comes last: "old" and "new", or "event".
    "tally_audit.put(uuid, text, text, text, text)": f"""
CREATE FUNCTION tally_audit.put(tenant uuid, op text, logical text, key text, content text)
  RETURNS bigint LANGUAGE plpgsql {INVOKER} AS $f$
DECLARE
  number bigint := nextval('tally_audit.entry_seq');
  moment timestamptz := clock_timestamp();
  me xid8 := pg_current_xact_id();
  written bigint;
BEGIN
  INSERT INTO tally_audit.entry (tenant_id, seq, xid, at, "table", op, key, salt, body)
  VALUES (tenant, number, me, moment, logical, op, key, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    format('{{"tenant":"%s","seq":%s,"xid":%s,"at":"%s","table":%s,"op":"%s","key":%s,"actor":%s,"reason":%s,'
      '"request":%s,"role":%s,%s}}', tenant, number, me, to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      to_json(logical), op, to_json(key),
      coalesce(to_json(nullif(current_setting('tally.actor', true), ''))::text, 'null'),
      coalesce(to_json(nullif(current_setting('tally.reason', true), ''))::text, 'null'),
      coalesce(to_json(nullif(current_setting('tally.request', true), ''))::text, 'null'),
      to_json(session_user::text), content));
  GET DIAGNOSTICS written = ROW_COUNT;
  IF written <> 1 THEN
    RAISE EXCEPTION 'the audit log took % entries for one change of %', written, logical USING ERRCODE = 'TSA01';
  END IF;
  RETURN number;
END $f$""",
    # The arguments are the logical table (a shard has another name) and the columns that stay out of the log.
    "tally_audit.capture()": f"""
CREATE FUNCTION tally_audit.capture() RETURNS trigger LANGUAGE plpgsql {DEFINER} {PINNED} AS $f$
DECLARE
  tenant uuid;
  id uuid;
  before text := 'null';
  after text := 'null';
BEGIN
  IF TG_OP = 'DELETE' THEN
    tenant := OLD.tenant_id;
    id := OLD.id;
  ELSE
    tenant := NEW.tenant_id;
    id := NEW.id;
    after := CASE WHEN TG_NARGS = 1 THEN to_json(NEW)::text ELSE (to_jsonb(NEW) - TG_ARGV[1:])::text END;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    before := CASE WHEN TG_NARGS = 1 THEN to_json(OLD)::text ELSE (to_jsonb(OLD) - TG_ARGV[1:])::text END;
  END IF;
  IF before <> after THEN
    PERFORM tally_audit.put(tenant, left(TG_OP, 1), TG_ARGV[0], id::text, '"old":' || before || ',"new":' || after);
  END IF;
  RETURN NULL;
END $f$""",
    # The registry of tenants: each change goes to the log of the tenant that it is about.
    "tally_audit.capture_tenant()": f"""
CREATE FUNCTION tally_audit.capture_tenant() RETURNS trigger LANGUAGE plpgsql {DEFINER} {PINNED} AS $f$
DECLARE
  before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - TG_ARGV[1:] END;
  after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - TG_ARGV[1:] END;
  id text := coalesce(after, before) ->> 'id';
BEGIN
  IF before IS DISTINCT FROM after THEN
    PERFORM tally_audit.put(id::uuid, left(TG_OP, 1), TG_ARGV[0], id,
      '"old":' || coalesce(before::text, 'null') || ',"new":' || coalesce(after::text, 'null'));
  END IF;
  RETURN NULL;
END $f$""",
    # What the application says happened: an event of its own, or who read what.
    "tally_audit.record(text, text, text, jsonb)": f"""
CREATE FUNCTION tally_audit.record(op text, "table" text, key text, event jsonb)
  RETURNS bigint LANGUAGE plpgsql {DEFINER} {PINNED} AS $f$
BEGIN
  IF op IS NULL OR op NOT IN ('E', 'R') OR jsonb_typeof(event) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'only events and reads are recorded so' USING ERRCODE = '22023';
  END IF;
  IF octet_length(event::text) > 524288 OR octet_length("table") > 63 OR octet_length(key) > 512 THEN
    RAISE EXCEPTION 'the event is too long' USING ERRCODE = '22001';
  END IF;
  RETURN tally_audit.put(tally_sec.current_tenant(), op, "table", key, '"event":' || event::text);
END $f$""",
    # The installation's own log has the nil tenant.
    "tally_audit.record_state(text, jsonb)": f"""
CREATE FUNCTION tally_audit.record_state(key text, event jsonb) RETURNS bigint LANGUAGE sql {DEFINER} {PINNED} AS $f$
  SELECT tally_audit.put('00000000-0000-0000-0000-000000000000', 'S', 'tally_audit.state', key,
    '"event":' || event::text)
$f$""",
    # A row that was there before its table was audited, so that its next change has something to differ from.
    "tally_audit.baseline(anyelement, text, text[])": f"""
CREATE FUNCTION tally_audit.baseline(item anyelement, logical text, left_out text[])
  RETURNS bigint LANGUAGE plpgsql {DEFINER} {PINNED} AS $f$
DECLARE
  image jsonb := to_jsonb(item) - left_out;
  tenant uuid := image ->> 'tenant_id';
  last jsonb;
BEGIN
  IF tenant IS DISTINCT FROM tally_sec.current_tenant() THEN
    RAISE EXCEPTION 'a baseline is taken of the tenant that is set' USING ERRCODE = '42501';
  END IF;
  SELECT e.body::jsonb -> 'new' INTO last FROM tally_audit.entry e
  WHERE e.tenant_id = tenant AND e."table" = logical AND e.key = image ->> 'id' AND e.op IN ('I', 'U', 'D', 'B')
  ORDER BY e.seq DESC LIMIT 1;
  IF last = image THEN
    RETURN NULL;
  END IF;
  RETURN tally_audit.put(tenant, 'B', logical, image ->> 'id', '"old":null,"new":' || image::text);
END $f$""",
    # Nobody reaches a partition past its parent: it has row-level security of its own.
    "tally_audit.protect(text)": f"""
CREATE FUNCTION tally_audit.protect(part text) RETURNS void LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  EXECUTE format('ALTER TABLE tally_audit.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part);
  EXECUTE format('CREATE POLICY audit_read ON tally_audit.%I FOR SELECT TO %I USING (true)', part, current_user);
  EXECUTE format('CREATE TRIGGER tally_no_truncate BEFORE TRUNCATE ON tally_audit.%I '
    'FOR EACH STATEMENT EXECUTE FUNCTION tally_audit.refuse()', part);
  EXECUTE format('ALTER TABLE tally_audit.%I ENABLE ALWAYS TRIGGER tally_no_truncate', part);
END $f$""",
    # Attached, because creating a partition in place would wait for every writer.
    "tally_audit.add_partition(text, text)": f"""
CREATE FUNCTION tally_audit.add_partition(part text, bounds text) RETURNS void LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  EXECUTE format('CREATE TABLE tally_audit.%I (LIKE tally_audit.entry INCLUDING CONSTRAINTS)', part);
  PERFORM tally_audit.protect(part);
  EXECUTE format('ALTER TABLE tally_audit.entry ATTACH PARTITION tally_audit.%I %s', part, bounds);
  EXECUTE format('ALTER TABLE tally_audit.%I ENABLE ALWAYS TRIGGER tally_append_only', part);
END $f$""",
    "tally_audit.make_partition(date)": f"""
CREATE FUNCTION tally_audit.make_partition(month date) RETURNS boolean LANGUAGE plpgsql {INVOKER} AS $f$
DECLARE
  starts timestamp := date_trunc('month', month::timestamp);
  part text := to_char(starts, '"entry_"YYYY_MM');
BEGIN
  IF to_regclass('tally_audit.' || part) IS NOT NULL THEN
    RETURN false;
  END IF;
  PERFORM tally_audit.add_partition(part, format('FOR VALUES FROM (%L) TO (%L)',
    starts AT TIME ZONE 'UTC', (starts + interval '1 month') AT TIME ZONE 'UTC'));
  RETURN true;
END $f$""",
    # Entries that found no month of their own get one. They are the same rows: what is hashed does not move.
    "tally_audit.empty_default()": f"""
CREATE FUNCTION tally_audit.empty_default() RETURNS bigint LANGUAGE plpgsql {INVOKER} AS $f$
DECLARE
  month date;
  held bigint;
  moved bigint;
BEGIN
  IF NOT EXISTS (SELECT FROM tally_audit.entry_default) THEN
    RETURN 0;
  END IF;
  ALTER TABLE tally_audit.entry DETACH PARTITION tally_audit.entry_default;
  ALTER TABLE tally_audit.entry_default RENAME TO entry_overflow;
  PERFORM tally_audit.add_partition('entry_default', 'DEFAULT');
  FOR month IN SELECT DISTINCT date_trunc('month', e.at AT TIME ZONE 'UTC')::date FROM tally_audit.entry_overflow e LOOP
    PERFORM tally_audit.make_partition(month);
  END LOOP;
  SELECT count(*) INTO held FROM tally_audit.entry_overflow;
  INSERT INTO tally_audit.entry SELECT * FROM tally_audit.entry_overflow;
  GET DIAGNOSTICS moved = ROW_COUNT;
  IF moved <> held THEN
    RAISE EXCEPTION '% of % entries were moved', moved, held USING ERRCODE = 'TSA01';
  END IF;
  DROP TABLE tally_audit.entry_overflow;
  RETURN moved;
END $f$""",
    "tally_audit.make_partitions(integer)": f"""
CREATE FUNCTION tally_audit.make_partitions(ahead integer DEFAULT 3)
  RETURNS TABLE (made integer, rescued bigint) LANGUAGE plpgsql {DEFINER} {PINNED} SET lock_timeout = '500ms' AS $f$
BEGIN
  IF ahead IS NULL OR ahead NOT BETWEEN 0 AND 24 THEN
    RAISE EXCEPTION 'partitions are made up to 24 months ahead' USING ERRCODE = '22023';
  END IF;
  rescued := tally_audit.empty_default();
  made := 0;
  FOR i IN 0 .. ahead LOOP
    IF tally_audit.make_partition((date_trunc('month', now()) + make_interval(months => i))::date) THEN
      made := made + 1;
    END IF;
  END LOOP;
  RETURN NEXT;
END $f$""",
    # The default partition comes without bounds; it should never hold anything.
    "tally_audit.partitions()": f"""
CREATE FUNCTION tally_audit.partitions()
  RETURNS TABLE (part text, month date, bytes bigint, holds boolean) LANGUAGE plpgsql STABLE {DEFINER} AS $f$
BEGIN
  FOR part, month, bytes IN
    SELECT c.relname::text, to_date(substring(c.relname FROM '^entry_(\\d{{4}}_\\d{{2}})$'), 'YYYY_MM'),
      pg_total_relation_size(c.oid)
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'tally_audit.entry'::regclass
    ORDER BY c.relname
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM tally_audit.%I)', part) INTO holds;
    RETURN NEXT;
  END LOOP;
END $f$""",
    "tally_audit.set_retention(integer, text)": f"""
CREATE FUNCTION tally_audit.set_retention(months integer, basis text) RETURNS void LANGUAGE plpgsql {DEFINER} {PINNED}
AS $f$
BEGIN
  UPDATE tally_audit.retention SET keep_months = months, basis = set_retention.basis;
  PERFORM tally_audit.record_state('retention', jsonb_build_object('keep_months', months, 'basis', basis));
END $f$""",
    # Bodies and salts of a month go, the hashes of its entries stay, and that they went is an entry of each log.
    "tally_audit.drop_bodies(date)": f"""
CREATE FUNCTION tally_audit.drop_bodies(month date)
  RETURNS bigint LANGUAGE plpgsql {DEFINER} {PINNED} SET lock_timeout = '500ms' AS $f$
DECLARE
  starts date := date_trunc('month', month::timestamp);
  part text := to_char(starts, '"entry_"YYYY_MM');
  rule tally_audit.retention;
  one record;
  gone bigint := 0;
BEGIN
  SELECT * INTO rule FROM tally_audit.retention;
  IF starts + make_interval(months => rule.keep_months + 1) > now() THEN
    RAISE EXCEPTION 'entries are kept for % months', rule.keep_months USING ERRCODE = 'TSA02';
  END IF;
  IF to_regclass('tally_audit.' || part) IS NULL THEN
    RAISE EXCEPTION 'there is no month %', to_char(starts, 'YYYY-MM') USING ERRCODE = 'TSA03';
  END IF;
  -- Waits for whoever is still writing to that month, and for nobody else.
  EXECUTE format('LOCK TABLE tally_audit.%I IN SHARE MODE', part);
  FOR one IN EXECUTE format('SELECT e.tenant_id, count(*) AS entries, count(l.seq) AS sealed, min(e.seq) AS first, '
    'max(e.seq) AS last FROM tally_audit.%I e LEFT JOIN tally_audit.leaf l ON l.tenant_id = e.tenant_id '
    'AND l.seq = e.seq GROUP BY e.tenant_id', part)
  LOOP
    IF one.sealed < one.entries THEN
      RAISE EXCEPTION '% entries of % are not sealed yet', one.entries - one.sealed, to_char(starts, 'YYYY-MM')
        USING ERRCODE = 'TSA04';
    END IF;
    PERFORM tally_audit.put(one.tenant_id, 'P', 'tally_audit.entry', to_char(starts, 'YYYY-MM'), '"event":'
      || jsonb_build_object('month', to_char(starts, 'YYYY-MM'), 'entries', one.entries, 'first_seq', one.first,
        'last_seq', one.last, 'keep_months', rule.keep_months, 'basis', rule.basis)::text);
    gone := gone + one.entries;
  END LOOP;
  EXECUTE format('DROP TABLE tally_audit.%I', part);
  RETURN gone;
END $f$""",
}
# Citus forwards SET LOCAL statements to its workers and nothing else, as tally.set_tenant does.
SET_CAUSE = f"""
CREATE FUNCTION tally.set_cause(reason text, request text) RETURNS void LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  EXECUTE format('SET LOCAL tally.reason = %L', coalesce(reason, ''));
  EXECUTE format('SET LOCAL tally.request = %L', coalesce(request, ''));
END $f$"""
# Who may call which; trigger functions are called by nobody.
CALLERS = {
    "tally_audit.capture()": ("owner",),
    "tally_audit.capture_tenant()": ("owner",),
    "tally_audit.record(text, text, text, jsonb)": ("app",),
    "tally_audit.record_state(text, jsonb)": ("seal",),
    "tally_audit.baseline(anyelement, text, text[])": ("owner",),
    "tally_audit.make_partitions(integer)": ("seal", "owner"),
    "tally_audit.partitions()": ("seal", "owner"),
    "tally_audit.set_retention(integer, text)": ("owner",),
    "tally_audit.drop_bodies(date)": ("seal",),
}
TENANT = Trigger(
    "tally_0_audit",
    "AFTER INSERT OR UPDATE OR DELETE",
    # What bills are sent to is about people, and the log does not forget.
    "tally_audit.capture_tenant('tenant', 'billing_email', 'billing_address')",
)


def upgrade() -> None:
    """Make the log, as the role that owns it."""
    app, seal, audit = role("app"), role("seal"), role("audit")
    citus = op.get_context().opts[ENGINE] == "citus"
    # On Citus nothing is forced: an online move of a shard loses the rows of a forced table.
    force = "" if citus else ", FORCE ROW LEVEL SECURITY"
    functions = [f.replace(", FORCE ROW LEVEL SECURITY", force) for f in FUNCTIONS.values()]
    op.invoke(Sql([f"SET LOCAL ROLE {audit}", "CREATE SEQUENCE tally_audit.entry_seq"]))
    op.invoke(Sql([*TABLES.values(), *INDEXES]))
    if citus:
        op.invoke(Sql([f"SELECT create_distributed_table('tally_audit.{t}', 'tenant_id')" for t in KEPT]))
    op.invoke(Sql([f"COMMENT ON TABLE tally_audit.{name} IS '{text}'" for name, text in COMMENTS.items()]))
    op.invoke(Sql([*functions, *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in FUNCTIONS)]))
    op.invoke(
        Sql(
            [f"GRANT EXECUTE ON FUNCTION {name} TO {role(who)}" for name, callers in CALLERS.items() for who in callers]
        )
    )
    for table in KEPT:
        op.invoke(Sql(_kept(table, app, seal, audit, force)))
    op.invoke(
        Sql(
            [
                f"GRANT INSERT ON tally_audit.leaf, tally_audit.node, tally_audit.checkpoint TO {seal}",
                f"GRANT SELECT, UPDATE ON tally_audit.cursor TO {seal}",
                "INSERT INTO tally_audit.cursor (installation, system_identifier) "
                "SELECT gen_random_uuid(), system_identifier::text FROM pg_control_system()",
                f"GRANT SELECT ON tally_audit.retention TO {seal}, {role('owner')}",
                "INSERT INTO tally_audit.retention (keep_months, basis) VALUES (120, 'an example: longer than the "
                "records of credit decisions have to be kept anywhere we know of; set your own')",
                "SELECT tally_audit.add_partition('entry_default', 'DEFAULT')",
                "SELECT * FROM tally_audit.make_partitions()",
                f"SET LOCAL ROLE {role('owner')}",
                SET_CAUSE,
                "REVOKE ALL ON FUNCTION tally.set_cause(text, text) FROM PUBLIC",
                f"GRANT EXECUTE ON FUNCTION tally.set_cause(text, text) TO {app}",
            ]
        )
    )
    op.invoke(AddTrigger("tenant", TENANT, schema="tally_ref"))


def _kept(table: str, app: str, seal: str, audit: str, force: str) -> list[str]:
    """Who may read and write a table of the log, and that nobody changes what is in it."""
    name = f"tally_audit.{table}"
    return [
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY{force}",
        f"CREATE POLICY app_read ON {name} FOR SELECT TO {app} USING ({MINE})",
        f"CREATE POLICY seal_read ON {name} FOR SELECT TO {seal} USING (true)",
        f"CREATE POLICY audit_read ON {name} FOR SELECT TO {audit} USING (true)",
        f"CREATE POLICY writes ON {name} FOR INSERT TO {audit if table == 'entry' else seal} WITH CHECK (true)",
        f"CREATE TRIGGER tally_append_only BEFORE UPDATE OR DELETE ON {name} "
        "FOR EACH ROW EXECUTE FUNCTION tally_audit.refuse()",
        f"CREATE TRIGGER tally_no_truncate BEFORE TRUNCATE ON {name} "
        "FOR EACH STATEMENT EXECUTE FUNCTION tally_audit.refuse()",
        f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER tally_append_only, ENABLE ALWAYS TRIGGER tally_no_truncate",
        f"GRANT SELECT ON {name} TO {app}, {seal}",
    ]


def downgrade() -> None:
    """Take the log away, with everything in it."""
    op.invoke(Sql(["DROP FUNCTION tally.set_cause(text, text)"]))
    op.invoke(Undo(AddTrigger("tenant", TENANT, schema="tally_ref")))
    op.invoke(Sql([f"SET LOCAL ROLE {role('audit')}"]))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS) if name not in GUARDS]))
    op.invoke(Sql([f"DROP TABLE tally_audit.{name}" for name in reversed(TABLES)]))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in GUARDS]))
    op.invoke(Sql(["DROP SEQUENCE tally_audit.entry_seq", f"SET LOCAL ROLE {role('owner')}"]))
