"""agents, assets of vaults and the history of their parameters

Revision vaults_0002.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "vaults_0002"
down_revision = "vaults_0001"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# Fired after the row is there, so that whose tenant it is was judged before.
BY_DATABASE = """
CREATE FUNCTION tally.vault_by_database() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RAISE EXCEPTION 'rows of % are written by the database', TG_ARGV[0] USING ERRCODE = 'TS621', TABLE = TG_ARGV[0];
END $f$"""

ASSET_CHANGED = """
CREATE FUNCTION tally.vault_asset_changed() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid := NEW.tenant_id;
  touched uuid[];
BEGIN
  INSERT INTO tally.vault_asset_change (tenant_id, id, asset_id, parameter, before, after, asset_version)
  SELECT me, gen_random_uuid(), NEW.id, k.name, k.before, k.after, NEW.version
  FROM (
    SELECT coalesce(o.key, n.key) AS name, o.value AS before, n.value AS after
    FROM jsonb_each_text(to_jsonb(OLD)) o FULL JOIN jsonb_each_text(to_jsonb(NEW)) n ON n.key = o.key
    WHERE coalesce(o.key, n.key) IN
      ('ltv', 'threshold', 'bonus', 'close_factor', 'full_close_health', 'min_position')
    UNION ALL
    SELECT 'details.' || coalesce(o.key, n.key), o.value, n.value
    FROM jsonb_each_text(OLD.details) o FULL JOIN jsonb_each_text(NEW.details) n ON n.key = o.key
  ) k
  WHERE k.before IS DISTINCT FROM k.after;
  IF (OLD.ltv, OLD.threshold) IS DISTINCT FROM (NEW.ltv, NEW.threshold) THEN
    SELECT array_agg(l.id) INTO touched FROM (
      SELECT v.id FROM tally.vault v
      WHERE uuid_eq(v.tenant_id, me) AND v.id IN (SELECT p.vault_id FROM tally.vault_position p
        WHERE uuid_eq(p.tenant_id, me) AND p.asset_id = NEW.id AND p.quantity > 0)
      ORDER BY v.id FOR NO KEY UPDATE) l;
    IF touched IS NOT NULL THEN
      PERFORM tally.vault_revalue(me, touched);
      PERFORM tally.vault_watch(me, touched);
    END IF;
  END IF;
  RETURN NULL;
END $f$"""

AGENT = Table(
    "agent",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("name", 'text COLLATE "C"'),
        Column("address", "bytea", nullable=True),
        Column("user_id", "uuid", nullable=True),
        Column("tier", 'text COLLATE "C"'),
        Column("credibility", "bigint"),
        Column("status", 'text COLLATE "C"'),
        Column("profile", "jsonb"),
        Column("profile_strategy", 'text COLLATE "C"', nullable=True, generated="profile ->> 'strategy'"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_agent_name_length", "char_length(name) between 1 and 200"),
        Check("ck_agent_tier", "tier in ('bronze', 'silver', 'gold', 'platinum')"),
        Check("ck_agent_status", "status in ('active', 'suspended', 'retired')"),
        Check("ck_agent_address_length", "octet_length(address) between 20 and 64"),
        Check("ck_agent_credibility", "credibility between 0 and 1000"),
    ),
    foreign_keys=(
        ForeignKey("fk_agent_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_agent_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_agent_address", ("tenant_id", "address"), unique=True),
        Index(
            "ix_agent_tier_credibility",
            ("tenant_id", "tier", "credibility", "id"),
            comment="agents of a tier, by credibility",
        ),
        Index(
            "ix_agent_profile_strategy",
            ("tenant_id", "profile_strategy", "id"),
            comment="agents by what they do",
        ),
        Index("ix_agent_user_id", ("tenant_id", "user_id", "id"), comment="rows of one user"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('agent')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('agent')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('agent', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['active']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('agent', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'active\' AND NEW."status" = ANY '
                "(ARRAY['suspended', 'retired'])) OR (OLD.\"status\" = 'suspended' AND NEW.\"status\" = ANY "
                "(ARRAY['active', 'retired'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY "
                "(ARRAY['active']))) IS NOT TRUE"
            ),
        ),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=("tenant_id", "id", "name", "address", "user_id", "tier", "credibility", "status", "profile"),
        ),
        Grant("app", "UPDATE", columns=("name", "address", "user_id", "tier", "credibility", "status", "profile")),
    ),
    comment="Who runs vaults: a person's, a desk's or a program's account, with a credibility from 0 to 1000.",
)

VAULT_ASSET = Table(
    "vault_asset",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("code", 'text COLLATE "C"'),
        Column("quote", 'text COLLATE "C"'),
        Column("feed", 'text COLLATE "C"', nullable=True),
        Column("decimals", "bigint"),
        Column("ltv", "numeric(12,8)"),
        Column("threshold", "numeric(12,8)"),
        Column("bonus", "numeric(12,8)"),
        Column("close_factor", "numeric(12,8)"),
        Column("full_close_health", "numeric(12,8)"),
        Column("min_position", "numeric(78,0)"),
        Column("details", "jsonb"),
        Column("price", "numeric(38,18)", nullable=True),
        Column("price_round", "numeric(78,0)", nullable=True),
        Column("price_source", 'text COLLATE "C"', nullable=True),
        Column("priced_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_vault_asset_code_length", "char_length(code) between 1 and 32"),
        Check("ck_vault_asset_quote_length", "char_length(quote) between 1 and 32"),
        Check("ck_vault_asset_feed_length", "char_length(feed) between 1 and 32"),
        Check(
            "ck_vault_asset_min_position_range",
            (
                "min_position >= 0 and min_position < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check(
            "ck_vault_asset_price_round_range",
            (
                "price_round >= 0 and price_round < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check("ck_vault_asset_decimals", "decimals between 0 and 77"),
        Check("ck_vault_asset_ltv", "0 <= ltv and ltv <= threshold and threshold < 1"),
        Check("ck_vault_asset_bonus", "bonus >= 0 and threshold * (1 + bonus) <= 1"),
        Check(
            "ck_vault_asset_close",
            "close_factor > 0 and close_factor <= 1 and full_close_health between 0 and 1",
        ),
    ),
    foreign_keys=(ForeignKey("fk_vault_asset_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_vault_asset_code", ("tenant_id", "code"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('vault_asset')"),
        Trigger(
            "tally_changed",
            "AFTER UPDATE",
            "tally.vault_asset_changed('vault_asset')",
            when="pg_trigger_depth() = 0",
        ),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('vault_asset')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('vault_asset')",
            when=(
                'pg_trigger_depth() = 0 AND (OLD."price" IS DISTINCT FROM NEW."price" OR OLD."price_round" IS '
                'DISTINCT FROM NEW."price_round" OR OLD."price_source" IS DISTINCT FROM NEW."price_source" OR '
                'OLD."priced_at" IS DISTINCT FROM NEW."priced_at")'
            ),
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('vault_asset')",
            when=(
                'pg_trigger_depth() = 0 AND (NEW."price" IS DISTINCT FROM NULL OR NEW."price_round" IS DISTINCT '
                'FROM NULL OR NEW."price_source" IS DISTINCT FROM NULL OR NEW."priced_at" IS DISTINCT FROM NULL)'
            ),
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()", when="pg_trigger_depth() = 0"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=(
                "tenant_id",
                "id",
                "code",
                "quote",
                "feed",
                "decimals",
                "ltv",
                "threshold",
                "bonus",
                "close_factor",
                "full_close_health",
                "min_position",
                "details",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=("ltv", "threshold", "bonus", "close_factor", "full_close_health", "min_position", "details"),
        ),
    ),
    comment="An asset that vaults hold or owe, with its risk parameters, all fractions of 1.",
)

VAULT_ASSET_CHANGE = Table(
    "vault_asset_change",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("asset_id", "uuid"),
        Column("parameter", 'text COLLATE "C"'),
        Column("before", 'text COLLATE "C"', nullable=True),
        Column("after", 'text COLLATE "C"', nullable=True),
        Column("asset_version", "bigint"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    foreign_keys=(
        ForeignKey("fk_vault_asset_change_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_vault_asset_change_asset", ("tenant_id", "asset_id"), "vault_asset", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "ix_vault_asset_change_asset_id_asset_version",
            ("tenant_id", "asset_id", "asset_version", "id"),
            comment="the history of an asset's parameters",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('vault_asset_change')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('vault_asset_change')"),
        Trigger(
            "tally_by_database",
            "AFTER INSERT",
            "tally.vault_by_database('vault_asset_change')",
            when="pg_trigger_depth() = 0",
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=("tenant_id", "id", "asset_id", "parameter", "before", "after", "asset_version"),
        ),
    ),
    comment="One parameter of an asset that was changed, written by the database; of ``details``, one key each.",
)

FUNCTIONS = {
    BY_DATABASE: "tally.vault_by_database()",
    ASSET_CHANGED: "tally.vault_asset_changed()",
}
TABLES = (
    AGENT,
    VAULT_ASSET,
    VAULT_ASSET_CHANGE,
)


def upgrade() -> None:
    """Agents, assets of vaults and the history of their parameters."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
