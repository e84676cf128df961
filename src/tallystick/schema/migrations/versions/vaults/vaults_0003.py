"""vaults and their positions

Revision vaults_0003.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo, role

revision = "vaults_0003"
down_revision = "vaults_0002"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

MOST = 2**256 - 1
TOP = 2**63 - 1
# What vaults hold and owe at the prices that are applied: collateral rounded down, debt up, LTV up, health down.
# Saturated at what the columns take, so that one absurd position does not stop the prices of all the others.
# Planned anew each time, for the number of vaults at hand: a plan that was made for one is quadratic for many.
DERIVED = f"""
CREATE FUNCTION tally.vault_derived(me uuid, vaults uuid[]) RETURNS TABLE (id uuid, collateral_value numeric,
  borrow_limit numeric, weighted_threshold numeric, debt_value numeric, ltv_scaled bigint, health_scaled bigint)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $f$
BEGIN
  RETURN QUERY SELECT s.id, s.collateral, s.borrow, s.weighted, s.debt,
    CASE WHEN s.debt = 0 THEN NULL WHEN s.collateral = 0 THEN {TOP}
      ELSE least(div(s.debt * 100000000 + s.collateral - 1, s.collateral), {TOP}) END::bigint AS ltv,
    CASE WHEN s.debt > 0 THEN least(div(s.weighted * 100000000, s.debt), {TOP}) END::bigint AS health
  FROM (
    SELECT p.id, least(coalesce(sum(p.held), 0), {MOST}) AS collateral,
      least(coalesce(sum(p.borrow), 0), {MOST}) AS borrow, least(coalesce(sum(p.weighted), 0), {MOST}) AS weighted,
      least(coalesce(sum(p.owed), 0), {MOST}) AS debt
    FROM (
      SELECT w.id, 0 AS owed, 0 AS held, 0 AS borrow, 0 AS weighted FROM unnest(vaults) w (id)
      UNION ALL
      SELECT p.vault_id, CASE p.side WHEN 'debt' THEN ceil(p.quantity * a.unit) END, x.held,
        trunc(x.held * a.ltv), trunc(x.held * a.threshold)
      FROM tally.vault_position p
      JOIN (SELECT a.id, a.ltv, a.threshold, a.price * ('1e' || (8 - a.decimals))::numeric AS unit
        FROM tally.vault_asset a WHERE uuid_eq(a.tenant_id, me) OFFSET 0) a ON a.id = p.asset_id
      CROSS JOIN LATERAL (SELECT CASE p.side WHEN 'collateral' THEN trunc(p.quantity * a.unit) END) x (held)
      WHERE uuid_eq(p.tenant_id, me) AND p.vault_id = ANY (vaults) AND p.quantity > 0
    ) p
    GROUP BY p.id
  ) s;
END $f$"""

REVALUE = """
CREATE FUNCTION tally.vault_revalue(me uuid, vaults uuid[]) RETURNS void LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $f$
BEGIN
  UPDATE tally.vault v SET collateral_value = t.collateral_value, borrow_limit = t.borrow_limit,
    weighted_threshold = t.weighted_threshold, debt_value = t.debt_value, ltv_scaled = t.ltv_scaled,
    health_scaled = t.health_scaled,
    status = CASE WHEN v.status NOT IN ('active', 'at_risk') THEN v.status
      WHEN t.health_scaled < v.warn_health * 100000000 OR t.ltv_scaled > v.max_ltv * 100000000 THEN 'at_risk'
      ELSE 'active' END
  FROM tally.vault_derived(me, vaults) t
  WHERE uuid_eq(v.tenant_id, me) AND v.id = t.id AND v.id = ANY (vaults);
END $f$"""

# Alerts that hold are raised unless one stands; those that stand and hold no more are resolved.
WATCH = """
CREATE FUNCTION tally.vault_watch(me uuid, vaults uuid[]) RETURNS bigint LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $f$
DECLARE
  raised bigint;
BEGIN
  UPDATE tally.risk_alert r SET state = 'resolved', resolved_at = now()
  FROM tally.vault v
  WHERE uuid_eq(r.tenant_id, me) AND r.state <> 'resolved' AND r.vault_id = ANY (vaults)
    AND uuid_eq(v.tenant_id, me) AND v.id = r.vault_id AND (CASE r.kind
      WHEN 'ltv_high' THEN v.ltv_scaled > v.max_ltv * 100000000
      WHEN 'health_low' THEN v.health_scaled < v.warn_health * 100000000
      WHEN 'liquidatable' THEN v.health_scaled < 100000000 AND v.status <> 'bad_debt'
      ELSE v.status = 'bad_debt' END) IS NOT TRUE;
  INSERT INTO tally.risk_alert AS r
    (tenant_id, id, vault_id, kind, severity, metric, observed, threshold, state)
  SELECT me, gen_random_uuid(), v.id, k.kind, k.severity, k.metric, k.observed, k.threshold, 'open'
  FROM tally.vault v
  CROSS JOIN LATERAL (VALUES
    ('ltv_high', 'medium', 'ltv', v.ltv_scaled, v.max_ltv, v.ltv_scaled > v.max_ltv * 100000000),
    ('health_low', 'high', 'health', v.health_scaled, v.warn_health, v.health_scaled < v.warn_health * 100000000),
    ('liquidatable', 'critical', 'health', v.health_scaled, 1, v.health_scaled < 100000000 AND v.status = 'at_risk'),
    ('bad_debt', 'critical', 'health', v.health_scaled, 1, v.status = 'bad_debt')
  ) k (kind, severity, metric, observed, threshold, holds)
  WHERE uuid_eq(v.tenant_id, me) AND v.id = ANY (vaults) AND v.status IN ('at_risk', 'bad_debt') AND k.holds
  ORDER BY v.id, k.kind
  ON CONFLICT (tenant_id, vault_id, kind) WHERE state <> 'resolved' DO NOTHING;
  GET DIAGNOSTICS raised = ROW_COUNT;
  RETURN raised;
END $f$"""

POSITION_CHANGED = """
CREATE FUNCTION tally.vault_position_changed() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid;
  assets uuid[];
  touched uuid[];
  quotes text[];
BEGIN
  SELECT (array_agg(n.tenant_id))[1], array_agg(DISTINCT n.asset_id), array_agg(DISTINCT n.vault_id)
    INTO me, assets, touched FROM fresh n;
  IF me IS NULL THEN
    RETURN NULL;
  END IF;
  -- FOR SHARE keeps a tick of these assets from missing vaults that begin to hold them here.
  PERFORM 1 FROM tally.vault_asset a
    WHERE uuid_eq(a.tenant_id, me) AND a.id = ANY (assets) ORDER BY a.id FOR SHARE;
  PERFORM 1 FROM tally.vault v
    WHERE uuid_eq(v.tenant_id, me) AND v.id = ANY (touched) ORDER BY v.id FOR NO KEY UPDATE;
  SELECT array_agg(DISTINCT v.quote) INTO quotes
    FROM tally.vault v WHERE uuid_eq(v.tenant_id, me) AND v.id = ANY (touched);
  IF EXISTS (
    SELECT FROM tally.vault_asset a WHERE uuid_eq(a.tenant_id, me)
      AND a.id = ANY (ARRAY(SELECT DISTINCT n.asset_id FROM fresh n WHERE n.quantity > 0))
      AND (a.price IS NULL OR a.quote <> ALL (quotes) OR (cardinality(quotes) > 1 AND EXISTS (
        SELECT FROM fresh n JOIN tally.vault v ON uuid_eq(v.tenant_id, me) AND v.id = n.vault_id
        WHERE n.asset_id = a.id AND n.quantity > 0 AND v.quote <> a.quote)))
  ) THEN
    RAISE EXCEPTION 'an asset without a price in the quote of its vault' USING ERRCODE = 'TS622', TABLE = TG_ARGV[0];
  END IF;
  IF EXISTS (
    SELECT FROM tally.vault v
    WHERE uuid_eq(v.tenant_id, me) AND v.id = ANY (touched) AND v.status IN ('liquidated', 'bad_debt', 'closed')
  ) THEN
    RAISE EXCEPTION 'the vault has ended' USING ERRCODE = 'TS623', TABLE = TG_ARGV[0];
  END IF;
  PERFORM tally.vault_revalue(me, touched);
  PERFORM tally.vault_watch(me, touched);
  RETURN NULL;
END $f$"""

VAULT = Table(
    "vault",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("agent_id", "uuid"),
        Column("chain_id", "bigint"),
        Column("contract", "bytea", nullable=True),
        Column("external_id", 'text COLLATE "C"'),
        Column("quote", 'text COLLATE "C"'),
        Column("status", 'text COLLATE "C"'),
        Column("max_ltv", "numeric(12,8)"),
        Column("warn_health", "numeric(12,8)"),
        Column("collateral_value", "numeric(78,0)", default="0"),
        Column("borrow_limit", "numeric(78,0)", default="0"),
        Column("weighted_threshold", "numeric(78,0)", default="0"),
        Column("debt_value", "numeric(78,0)", default="0"),
        Column("ltv_scaled", "bigint", nullable=True),
        Column("health_scaled", "bigint", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_vault_external_id_length", "char_length(external_id) between 1 and 120"),
        Check("ck_vault_quote_length", "char_length(quote) between 1 and 32"),
        Check(
            "ck_vault_status",
            ("status in ('pending', 'active', 'at_risk', 'paused', 'liquidating', 'liquidated', 'bad_debt', 'closed')"),
        ),
        Check(
            "ck_vault_collateral_value_range",
            (
                "collateral_value >= 0 and collateral_value < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check(
            "ck_vault_borrow_limit_range",
            (
                "borrow_limit >= 0 and borrow_limit < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check(
            "ck_vault_weighted_threshold_range",
            (
                "weighted_threshold >= 0 and weighted_threshold < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check(
            "ck_vault_debt_value_range",
            (
                "debt_value >= 0 and debt_value < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check("ck_vault_contract_length", "octet_length(contract) between 20 and 64"),
        Check("ck_vault_chain", "chain_id >= 0"),
        Check("ck_vault_limits", "max_ltv > 0 and warn_health >= 1"),
        Check(
            "ck_vault_derived",
            "(ltv_scaled is null) = (debt_value = 0) and (health_scaled is null) = (debt_value = 0)",
        ),
        Check(
            "ck_vault_ltv_is_derived",
            (
                "ltv_scaled = case when collateral_value = 0 then 9223372036854775807 else least(div(debt_value * "
                "100000000 + collateral_value - 1, collateral_value), 9223372036854775807) end"
            ),
        ),
        Check(
            "ck_vault_health_is_derived",
            (
                "health_scaled = case when debt_value > 0 then least(div(weighted_threshold * 100000000, "
                "debt_value), 9223372036854775807) end"
            ),
        ),
    ),
    foreign_keys=(
        ForeignKey("fk_vault_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_vault_agent", ("tenant_id", "agent_id"), "agent", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_vault_chain_id_contract_external_id",
            ("tenant_id", "chain_id", "contract", "external_id"),
            unique=True,
        ),
        Index(
            "uq_vault_chain_id_external_id",
            ("tenant_id", "chain_id", "external_id"),
            unique=True,
            where="(contract is null)",
        ),
        Index(
            "ix_vault_ltv_scaled",
            ("tenant_id", "ltv_scaled", "id"),
            where="ltv_scaled is not null",
            comment="vaults of high risk, by LTV",
        ),
        Index(
            "ix_vault_health_scaled",
            ("tenant_id", "health_scaled", "id"),
            where="health_scaled is not null and health_scaled < 150000000",
            comment="vaults near liquidation, by health factor",
        ),
        Index("ix_vault_agent_id", ("tenant_id", "agent_id", "id"), comment="rows of one agent"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger(
            "tally_0_audit",
            "AFTER INSERT OR DELETE",
            "tally_audit.capture('vault', 'collateral_value', 'borrow_limit', "
            "'weighted_threshold', 'debt_value', 'ltv_scaled', 'health_scaled')",
        ),
        Trigger(
            "tally_0_audit_step",
            "AFTER UPDATE",
            "tally_audit.capture('vault', 'collateral_value', 'borrow_limit', "
            "'weighted_threshold', 'debt_value', 'ltv_scaled', 'health_scaled')",
            '(OLD."tenant_id", OLD."id", OLD."agent_id", OLD."chain_id", OLD."contract", '
            'OLD."external_id", OLD."quote", OLD."status", OLD."max_ltv", OLD."warn_health", '
            'OLD."version", OLD."created_at", OLD."created_by", OLD."updated_at", '
            'OLD."updated_by") IS DISTINCT FROM (NEW."tenant_id", NEW."id", NEW."agent_id", '
            'NEW."chain_id", NEW."contract", NEW."external_id", NEW."quote", NEW."status", '
            'NEW."max_ltv", NEW."warn_health", NEW."version", NEW."created_at", NEW."created_by", '
            'NEW."updated_at", NEW."updated_by")',
        ),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('vault')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('vault')",
            when=(
                'pg_trigger_depth() = 0 AND (OLD."collateral_value" IS DISTINCT FROM NEW."collateral_value" OR '
                'OLD."borrow_limit" IS DISTINCT FROM NEW."borrow_limit" OR OLD."weighted_threshold" IS DISTINCT '
                'FROM NEW."weighted_threshold" OR OLD."debt_value" IS DISTINCT FROM NEW."debt_value" OR '
                'OLD."ltv_scaled" IS DISTINCT FROM NEW."ltv_scaled" OR OLD."health_scaled" IS DISTINCT FROM '
                'NEW."health_scaled")'
            ),
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('vault')",
            when=(
                'pg_trigger_depth() = 0 AND (NEW."collateral_value" IS DISTINCT FROM 0 OR NEW."borrow_limit" IS '
                'DISTINCT FROM 0 OR NEW."weighted_threshold" IS DISTINCT FROM 0 OR NEW."debt_value" IS DISTINCT '
                'FROM 0 OR NEW."ltv_scaled" IS DISTINCT FROM NULL OR NEW."health_scaled" IS DISTINCT FROM NULL)'
            ),
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('vault', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['pending', 'active']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('vault', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'pending\' AND NEW."status" = '
                "ANY (ARRAY['active', 'closed'])) OR (OLD.\"status\" = 'active' AND NEW.\"status\" = ANY "
                "(ARRAY['at_risk', 'paused', 'liquidating', 'closed'])) OR (OLD.\"status\" = 'at_risk' AND "
                "NEW.\"status\" = ANY (ARRAY['active', 'paused', 'liquidating', 'closed'])) OR (OLD.\"status\" "
                "= 'paused' AND NEW.\"status\" = ANY (ARRAY['active', 'at_risk', 'closed'])) OR "
                "(OLD.\"status\" = 'liquidating' AND NEW.\"status\" = ANY (ARRAY['active', 'at_risk', "
                "'liquidated', 'bad_debt'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY "
                "(ARRAY['pending', 'active']))) IS NOT TRUE"
            ),
        ),
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
                "agent_id",
                "chain_id",
                "contract",
                "external_id",
                "quote",
                "status",
                "max_ltv",
                "warn_health",
            ),
        ),
        Grant("app", "UPDATE", columns=("status", "max_ltv", "warn_health")),
    ),
    comment=(
        "Collateral and the debt against it, on a chain; its values, LTV and health factor are derived by the database."
    ),
    fillfactor=70,
)

VAULT_POSITION = Table(
    "vault_position",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("vault_id", "uuid"),
        Column("side", 'text COLLATE "C"'),
        Column("asset_id", "uuid"),
        Column("quantity", "numeric(78,0)"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_vault_position_side", "side in ('collateral', 'debt')"),
        Check(
            "ck_vault_position_quantity_range",
            (
                "quantity >= 0 and quantity < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
    ),
    foreign_keys=(
        ForeignKey("fk_vault_position_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_vault_position_vault", ("tenant_id", "vault_id"), "vault", ("tenant_id", "id")),
        ForeignKey("fk_vault_position_asset", ("tenant_id", "asset_id"), "vault_asset", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_vault_position_vault_id_side_asset_id",
            ("tenant_id", "vault_id", "side", "asset_id"),
            unique=True,
        ),
        Index(
            "ix_vault_position_asset_id_vault_id",
            ("tenant_id", "asset_id", "vault_id", "id"),
            where="quantity > 0",
            comment="vaults that a price touches",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('vault_position')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('vault_position')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_revalue_changed",
            "AFTER UPDATE",
            "tally.vault_position_changed('vault_position')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        Trigger(
            "tally_revalue_new",
            "AFTER INSERT",
            "tally.vault_position_changed('vault_position')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "vault_id", "side", "asset_id", "quantity")),
        Grant("app", "UPDATE", columns=("quantity",)),
    ),
    comment=(
        "How much of an asset a vault holds as collateral, or owes, in base units; a mirror of what the chain says."
    ),
    fillfactor=80,
)

FUNCTIONS = {
    REVALUE: "tally.vault_revalue(uuid, uuid[])",
    WATCH: "tally.vault_watch(uuid, uuid[])",
    POSITION_CHANGED: "tally.vault_position_changed()",
}
TABLES = (
    VAULT,
    VAULT_POSITION,
)

WORKED_OUT = "tally.vault_derived(uuid, uuid[])"


def upgrade() -> None:
    """Vaults and their positions."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))
    op.invoke(Sql([DERIVED, f"REVOKE ALL ON FUNCTION {WORKED_OUT} FROM PUBLIC"]))
    op.invoke(Sql([f"GRANT EXECUTE ON FUNCTION {WORKED_OUT} TO {role('app')}"]))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Sql([f"DROP FUNCTION {WORKED_OUT}"]))
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
