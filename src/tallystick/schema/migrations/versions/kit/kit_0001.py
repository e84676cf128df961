"""The ground: tenants, assets, quotas, and the guards that every tenant table uses.

Revision kit_0001, the first of its branch; every other branch depends on it.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo, role

revision = "kit_0001"
down_revision = None
branch_labels = ("kit",)
depends_on = None
accepted: dict[str, str] = {}

TEXT = 'text COLLATE "C"'
WALL = "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"
INVOKER = "SET search_path = pg_catalog, pg_temp"
DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

TENANT = Table(
    "tenant",
    schema="tally_ref",
    comment="Who the data belongs to: one lender, credit union or app; its plan, limits, time zone and settings.",
    primary_key=("id",),
    columns=(
        Column("id", "uuid"),
        Column("slug", TEXT),
        Column("name", TEXT),
        Column("domain", TEXT, nullable=True),
        Column("settings", "jsonb", default="'{}'::jsonb"),
        Column("feature_flags", "jsonb", default="'{}'::jsonb"),
        Column("plan", TEXT, default="'free'"),
        Column("time_zone", TEXT, default="'UTC'"),
        Column("cut_off", "time without time zone", default="'00:00'"),
        Column("is_active", "boolean", default="true"),
        Column("max_applications_per_month", "integer", default="10000"),
        Column("max_devices", "integer", default="100"),
        Column("max_users", "integer", default="50"),
        Column("billing_email", TEXT, nullable=True),
        Column("billing_address", "jsonb", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("updated_at", "timestamp with time zone", default="now()"),
    ),
    checks=(
        # A slug never looks like an id: a session opened by either is then never ambiguous.
        Check("ck_tenant_slug", "slug ~ '^[a-z0-9][a-z0-9-]{0,62}$' AND slug !~ '^[0-9a-f]{8}-[0-9a-f]{4}-'"),
        Check("ck_tenant_name", "char_length(name) BETWEEN 1 AND 200"),
        Check("ck_tenant_domain", "char_length(domain) BETWEEN 1 AND 253 AND domain = lower(domain)"),
        Check("ck_tenant_plan", "plan IN ('free', 'basic', 'pro', 'enterprise')"),
        Check("ck_tenant_settings", "jsonb_typeof(settings) = 'object' AND jsonb_typeof(feature_flags) = 'object'"),
        Check("ck_tenant_limits", "max_applications_per_month >= 0 AND max_devices >= 0 AND max_users >= 0"),
    ),
    indexes=(
        Index("uq_tenant_slug", ("slug",), unique=True, comment="a session by slug"),
        Index("uq_tenant_domain", ("domain",), unique=True, comment="a tenant by its domain"),
    ),
    triggers=(Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),),
)
ASSET = Table(
    "asset",
    schema="tally_ref",
    comment="What amounts are counted in, and how many decimals the minor unit has.",
    primary_key=("code",),
    columns=(Column("code", TEXT), Column("exponent", "integer"), Column("kind", TEXT)),
    checks=(
        Check("ck_asset_code", "char_length(code) BETWEEN 2 AND 32"),
        Check("ck_asset_exponent", "exponent BETWEEN 0 AND 77"),
        Check("ck_asset_kind", "kind IN ('fiat', 'token', 'commodity')"),
    ),
    triggers=(Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),),
    grants=(Grant("app", "SELECT"),),
)
SCHEMA_ENTITY = Table(
    "schema_entity",
    schema="tally_ref",
    comment="Tables that were made straight from a declaration, and what it said then.",
    primary_key=("name",),
    columns=(
        Column("name", TEXT),
        Column("declared", "jsonb"),
        Column("created_at", "timestamp with time zone", default="clock_timestamp()"),
    ),
    grants=(Grant("app", "SELECT"),),
)
BACKFILL = Table(
    "backfill",
    schema="tally_ref",
    comment="Which tenants a data migration has finished, so that it resumes where it stopped.",
    primary_key=("name", "tenant_id"),
    columns=(
        Column("name", TEXT),
        Column("tenant_id", "uuid"),
        Column("rows", "bigint"),
        Column("done_at", "timestamp with time zone", default="now()"),
    ),
)
USAGE = Table(
    "usage",
    comment="What a tenant has used of a limit in a period; only tally.consume writes it.",
    primary_key=("tenant_id", "metric", "period"),
    columns=(
        Column("tenant_id", "uuid"),
        Column("metric", TEXT),
        Column("period", "date"),
        Column("used", "bigint"),
        Column("limit_at", "bigint"),
    ),
    checks=(
        Check("ck_usage_metric", "char_length(metric) BETWEEN 1 AND 64"),
        Check("ck_usage_used", "used >= 0 AND used <= limit_at"),
    ),
    foreign_keys=(ForeignKey("fk_usage_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    policies=(Policy("tenant_rw", WALL), Policy("tenant_wall", WALL, permissive=False)),
    triggers=(Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),),
    grants=(Grant("app", "SELECT"),),
)

GUARDS = {
    "tally.touch()": f"""
CREATE FUNCTION tally.touch() RETURNS trigger LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  IF NEW.tenant_id IS DISTINCT FROM OLD.tenant_id OR NEW.id IS DISTINCT FROM OLD.id THEN
    RAISE EXCEPTION 'the tenant and the id of a row never change' USING ERRCODE = '42501', TABLE = TG_TABLE_NAME;
  END IF;
  -- Another key's blind index of the same value is no change of the row. No application gains by setting this.
  IF current_setting('tally.reindexing', true) = 'on' AND NOT EXISTS (SELECT FROM jsonb_each(to_jsonb(OLD)) o
      WHERE to_jsonb(NEW) -> o.key IS DISTINCT FROM o.value AND o.key !~ '_bidx(_last[0-9]+)?(_next)?$') THEN
    RETURN NEW;
  END IF;
  NEW.version := OLD.version + 1;
  NEW.created_at := OLD.created_at;
  NEW.created_by := OLD.created_by;
  NEW.updated_at := now();
  NEW.updated_by := nullif(current_setting('tally.actor'), '');
  RETURN NEW;
END $f$""",
    # The arguments are the logical table (a shard has another name) and the column; the trigger's WHEN has judged.
    "tally.refuse_transition()": f"""
CREATE FUNCTION tally.refuse_transition() RETURNS trigger LANGUAGE plpgsql {INVOKER} AS $f$
DECLARE
  before text;
  after text := to_jsonb(NEW) ->> TG_ARGV[1];
BEGIN
  IF TG_OP = 'UPDATE' THEN
    before := to_jsonb(OLD) ->> TG_ARGV[1];
  END IF;
  RAISE EXCEPTION '%.%: no step from % to %', TG_ARGV[0], TG_ARGV[1], coalesce(before, 'nothing'),
    coalesce(after, 'nothing')
    USING ERRCODE = 'TS300', TABLE = TG_ARGV[0], COLUMN = TG_ARGV[1],
      DETAIL = coalesce(before, '') || ' -> ' || coalesce(after, '');
END $f$""",
    "tally.refuse_change()": f"""
CREATE FUNCTION tally.refuse_change() RETURNS trigger LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  RAISE EXCEPTION '% refused: rows of % are written once', TG_OP, TG_ARGV[0]
    USING ERRCODE = 'TS301', TABLE = TG_ARGV[0];
END $f$""",
    # Keeps a key of a JSON column in a column of its own that was added later: the column, the JSON column, the key.
    "tally.fill()": f"""
CREATE FUNCTION tally.fill() RETURNS trigger LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  RETURN jsonb_populate_record(
    NEW, jsonb_build_object(TG_ARGV[0], coalesce(to_jsonb(NEW) -> TG_ARGV[1] -> TG_ARGV[2], 'null')));
END $f$""",
    "tally.refuse_truncate()": f"""
CREATE FUNCTION tally.refuse_truncate() RETURNS trigger LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  RAISE EXCEPTION 'TRUNCATE refused on %: it knows no tenants', TG_TABLE_NAME
    USING ERRCODE = '42501', TABLE = TG_TABLE_NAME;
END $f$""",
}

# The one place that says which tenant the setting names, for functions that read or write on the caller's behalf.
# Hardening (tallystick.schema.harden) replaces the first two by ones that check and make signed values; policies read
# the setting themselves until then, and fit_policies() gives them the text of the database's mode.
SECURE = {
    "tally_sec.current_tenant()": """
CREATE FUNCTION tally_sec.current_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
  RETURN pg_catalog.current_setting('tally.tenant')::uuid""",
    "tally_sec.token(uuid)": """
CREATE FUNCTION tally_sec.token(tenant uuid) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE RETURN tenant::text""",
    "tally_sec.fit_policies(text)": f"""
CREATE FUNCTION tally_sec.fit_policies(only_on text DEFAULT NULL) RETURNS integer LANGUAGE plpgsql {INVOKER} AS $f$
DECLARE
  plain text := '(tenant_id = ANY (ARRAY[(current_setting(''tally.tenant''::text))::uuid]))';
  signed text := '(tenant_id = ANY (ARRAY[( SELECT tally_sec.current_tenant() AS current_tenant)]))';
  hardened boolean := to_regclass('tally_sec.tenant_key') IS NOT NULL;
  other text := CASE WHEN hardened THEN plain ELSE signed END;
  item record;
  changed integer := 0;
BEGIN
  FOR item IN
    SELECT p.polname, c.relname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE c.relnamespace = 'tally'::regnamespace AND (only_on IS NULL OR c.oid = to_regclass(only_on))
      AND pg_get_expr(p.polqual, c.oid) = other
      AND coalesce(pg_get_expr(p.polwithcheck, c.oid), other) = other
    ORDER BY c.relname, p.polname
  LOOP
    EXECUTE format('ALTER POLICY %1$I ON tally.%2$I USING %3$s WITH CHECK %3$s', item.polname, item.relname,
      CASE WHEN hardened THEN signed ELSE plain END);
    changed := changed + 1;
  END LOOP;
  RETURN changed;
END $f$""",
}

FUNCTIONS = {
    # Citus forwards SET LOCAL statements to its workers and nothing else; the values arrive as parameters.
    "tally.set_tenant(uuid, text)": f"""
CREATE FUNCTION tally.set_tenant(tenant uuid, actor text) RETURNS void LANGUAGE plpgsql {INVOKER} AS $f$
BEGIN
  EXECUTE format('SET LOCAL tally.tenant = %L', tenant);
  EXECUTE format('SET LOCAL tally.actor = %L', actor);
END $f$""",
    "tally_ref.tenant_by_slug(text)": f"""
CREATE FUNCTION tally_ref.tenant_by_slug(wanted text)
  RETURNS TABLE (id uuid, slug text, name text, time_zone text, cut_off time, is_active boolean)
  LANGUAGE sql STABLE {DEFINER} AS $f$
  SELECT t.id, t.slug, t.name, t.time_zone, t.cut_off, t.is_active FROM tally_ref.tenant t WHERE t.slug = wanted
$f$""",
    "tally_ref.tenant_self()": f"""
CREATE FUNCTION tally_ref.tenant_self() RETURNS SETOF tally_ref.tenant LANGUAGE sql STABLE {DEFINER} AS $f$
  SELECT t.* FROM tally_ref.tenant t WHERE t.id = (SELECT tally_sec.current_tenant())
$f$""",
    "tally_ref.tenant_list()": f"""
CREATE FUNCTION tally_ref.tenant_list() RETURNS TABLE (id uuid, slug text, is_active boolean)
  LANGUAGE sql STABLE {DEFINER} AS $f$
  SELECT t.id, t.slug, t.is_active FROM tally_ref.tenant t ORDER BY t.slug
$f$""",
    "tally_ref.tenant_create(uuid, text, text, jsonb)": f"""
CREATE FUNCTION tally_ref.tenant_create(id uuid, slug text, name text, options jsonb DEFAULT '{{}}')
  RETURNS SETOF tally_ref.tenant LANGUAGE plpgsql {DEFINER} AS $f$
BEGIN
  INSERT INTO tally_ref.tenant AS t (id, slug, name) VALUES (tenant_create.id, tenant_create.slug, tenant_create.name);
  RETURN QUERY SELECT w.* FROM tally_ref.tenant_write(tenant_create.id, options, 1) w;
END $f$""",
    "tally_ref.tenant_update(jsonb)": f"""
CREATE FUNCTION tally_ref.tenant_update(changes jsonb) RETURNS SETOF tally_ref.tenant LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  me uuid := tally_sec.current_tenant();
  seen bigint;
BEGIN
  SELECT t.version INTO seen FROM tally_ref.tenant t WHERE t.id = me FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no such tenant' USING ERRCODE = 'TS100';
  END IF;
  IF changes ? 'version' AND (changes ->> 'version')::bigint <> seen THEN
    RAISE EXCEPTION 'the tenant was changed by somebody else' USING ERRCODE = 'TS201';
  END IF;
  RETURN QUERY SELECT w.* FROM tally_ref.tenant_write(me, changes - 'version', seen + 1) w;
END $f$""",
    "tally.consume(text, date, bigint, bigint)": f"""
CREATE FUNCTION tally.consume(metric text, period date, amount bigint, "limit" bigint)
  RETURNS bigint LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  total bigint;
BEGIN
  IF amount IS NULL OR amount <= 0 OR "limit" IS NULL THEN
    RAISE EXCEPTION 'an amount above zero and a limit are needed' USING ERRCODE = '22023';
  END IF;
  IF amount <= "limit" THEN
    INSERT INTO tally.usage AS u (tenant_id, metric, period, used, limit_at)
    VALUES (tally_sec.current_tenant(), consume.metric, consume.period, amount, "limit")
    ON CONFLICT ON CONSTRAINT pk_usage DO UPDATE SET used = u.used + excluded.used, limit_at = excluded.limit_at
    WHERE u.used <= excluded.limit_at - excluded.used
    RETURNING u.used INTO total;
  END IF;
  IF total IS NULL THEN
    RAISE EXCEPTION 'the limit % of % is used up', "limit", consume.metric
      USING ERRCODE = 'TS701', DETAIL = jsonb_build_object('metric', consume.metric, 'limit', "limit")::text;
  END IF;
  RETURN total;
END $f$""",
}
# Called by the two functions above, by nobody else.
INTERNAL = {
    "tally_ref.tenant_write(uuid, jsonb, bigint)": f"""
CREATE FUNCTION tally_ref.tenant_write(tenant uuid, changes jsonb, new_version bigint)
  RETURNS SETOF tally_ref.tenant LANGUAGE plpgsql {INVOKER} AS $f$
DECLARE
  unknown text;
BEGIN
  SELECT k INTO unknown FROM jsonb_object_keys(changes) k WHERE k <> ALL (ARRAY[
    'name', 'domain', 'settings', 'feature_flags', 'plan', 'time_zone', 'cut_off', 'is_active',
    'max_applications_per_month', 'max_devices', 'max_users', 'billing_email', 'billing_address']) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'a tenant has no setting %', unknown USING ERRCODE = '22023', COLUMN = unknown;
  END IF;
  IF changes ? 'time_zone' THEN
    PERFORM now() AT TIME ZONE (changes ->> 'time_zone');
  END IF;
  RETURN QUERY UPDATE tally_ref.tenant t SET
    (name, domain, settings, feature_flags, plan, time_zone, cut_off, is_active, max_applications_per_month,
     max_devices, max_users, billing_email, billing_address, version, updated_at)
    = (SELECT r.name, r.domain, r.settings, r.feature_flags, r.plan, r.time_zone, r.cut_off, r.is_active,
        r.max_applications_per_month, r.max_devices, r.max_users, r.billing_email, r.billing_address,
        new_version, now()
       FROM jsonb_populate_record(t, changes) r)
    WHERE t.id = tenant RETURNING t.*;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no such tenant' USING ERRCODE = 'TS100';
  END IF;
END $f$""",
}

# ISO 4217 as amended up to 2026: the active currencies that have a minor unit, by the decimals it has.
FIAT = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
        "CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF "
        "IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK "
        "MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP "
        "SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG "
        "YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}


def upgrade() -> None:
    """Make everything of the kit."""
    app = role("app")
    first = {**GUARDS, **SECURE}
    op.invoke(Sql([*first.values(), *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in first)]))
    op.invoke(Sql([f"GRANT EXECUTE ON FUNCTION tally_sec.current_tenant() TO {app}, {role('audit')}"]))
    op.invoke(CreateTables(TENANT, ASSET, SCHEMA_ENTITY, BACKFILL, USAGE))
    op.invoke(Sql([*INTERNAL.values(), *FUNCTIONS.values()]))
    op.invoke(Sql([f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in (*INTERNAL, *FUNCTIONS)]))
    op.invoke(Sql([f"GRANT EXECUTE ON FUNCTION {name} TO {app}" for name in FUNCTIONS]))
    rows = ", ".join(f"('{code}', {exponent}, 'fiat')" for exponent, codes in FIAT.items() for code in codes.split())
    op.invoke(Sql([f"INSERT INTO tally_ref.asset (code, exponent, kind) VALUES {rows}"]))


def downgrade() -> None:
    """Take it all away."""
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in (*FUNCTIONS, *INTERNAL)]))
    op.invoke(Undo(CreateTables(TENANT, ASSET, SCHEMA_ENTITY, BACKFILL, USAGE)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in (*SECURE, *GUARDS)]))
    op.invoke(Sql(["DROP TABLE IF EXISTS tally_sec.tenant_key"]))
