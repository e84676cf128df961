"""ticks, liquidations and observations

Revision vaults_0005.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "vaults_0005"
down_revision = "vaults_0004"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# The order is always assets, then vaults, each by id: ticks, deposits and liquidations cannot wait in a circle.
# uuid_eq() and not =, because the policy says it with = already: two equalities multiply, and the planner would believe
# that a tenant has one row.
TICK = """
CREATE FUNCTION tally.vault_tick() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $f$
DECLARE
  me uuid := NEW.tenant_id;
  changed uuid[];
  touched uuid[];
  named text;
BEGIN
  PERFORM 1 FROM tally.vault_asset a
    WHERE uuid_eq(a.tenant_id, me) AND coalesce(a.feed, a.code) = NEW.feed AND a.quote = NEW.quote
    ORDER BY a.id FOR NO KEY UPDATE;
  -- The latest shared price, read after the lock: whoever waited for a newer one does not put an older one over it.
  SELECT p.price, p.round, p.source, p.observed_at
    INTO NEW.price, NEW.price_round, NEW.price_source, NEW.priced_at
    FROM tally_ref.asset_price p WHERE p.asset = NEW.feed AND p.quote = NEW.quote;
  IF NOT FOUND THEN
    RETURN NEW;
  END IF;
  WITH done AS (
    UPDATE tally.vault_asset a SET price = NEW.price, price_round = NEW.price_round, price_source = NEW.price_source,
      priced_at = NEW.priced_at
    WHERE uuid_eq(a.tenant_id, me) AND coalesce(a.feed, a.code) = NEW.feed AND a.quote = NEW.quote
      AND (a.priced_at IS NULL OR ((NEW.priced_at, coalesce(NEW.price_round, -1)) > (a.priced_at,
        coalesce(a.price_round, -1))
        AND (NEW.price_source = a.price_source AND NEW.price_round < a.price_round) IS NOT TRUE))
    RETURNING a.id)
  SELECT array_agg(d.id) INTO changed FROM done d;
  IF changed IS NULL THEN
    RETURN NEW;
  END IF;
  NEW.applied := true;
  SELECT array_agg(l.id) INTO touched FROM (
    SELECT v.id FROM tally.vault v
    WHERE uuid_eq(v.tenant_id, me) AND v.id IN (SELECT p.vault_id FROM tally.vault_position p
      WHERE uuid_eq(p.tenant_id, me) AND p.asset_id = ANY (changed) AND p.quantity > 0)
    ORDER BY v.id FOR NO KEY UPDATE) l;
  IF touched IS NULL THEN
    RETURN NEW;
  END IF;
  NEW.vaults := cardinality(touched);
  PERFORM tally.vault_revalue(me, touched);
  NEW.alerts := tally.vault_watch(me, touched);
  named := coalesce(NEW.feed || '/' || NEW.quote || ' ' || NEW.price_source || ' round ' || NEW.price_round,
    NEW.feed || '/' || NEW.quote || ' ' || NEW.price_source || ' at ' || extract(epoch FROM NEW.priced_at));
  WITH fired AS (
    UPDATE tally.protection_rule r SET last_fired_at = NEW.applied_at
    FROM tally.vault v
    WHERE uuid_eq(r.tenant_id, me) AND r.vault_id = ANY (touched) AND r.enabled
      AND uuid_eq(v.tenant_id, me) AND v.id = r.vault_id AND v.status IN ('active', 'at_risk')
      AND (r.last_fired_at IS NULL OR r.last_fired_at + make_interval(secs => r.cooldown) <= NEW.applied_at)
      AND CASE r.metric WHEN 'ltv' THEN v.ltv_scaled >= r.threshold * 100000000
        ELSE v.health_scaled <= r.threshold * 100000000 END
      AND NOT EXISTS (SELECT FROM tally.rule_firing f
        WHERE uuid_eq(f.tenant_id, me) AND f.rule_id = r.id AND f.price_key = named)
    RETURNING r.id, r.vault_id, CASE r.metric WHEN 'ltv' THEN v.ltv_scaled ELSE v.health_scaled END AS observed)
  INSERT INTO tally.rule_firing (tenant_id, id, rule_id, vault_id, tick, price_key, observed, fired_at)
  SELECT me, gen_random_uuid(), f.id, f.vault_id, NEW.id, named, f.observed, NEW.applied_at FROM fired f;
  GET DIAGNOSTICS NEW.firings = ROW_COUNT;
  RETURN NEW;
END $f$"""

# Aave v3.3: half of the debt above a health factor of 0.95, all of it at that or less and where a side is small; what
# is left behind on either side is worth half of that least size, or nothing.
LIQUIDATE = """
CREATE FUNCTION tally.vault_liquidate() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid := NEW.tenant_id;
  v record;
  d record;
  c record;
  most numeric;
  paid numeric;
  taken numeric;
BEGIN
  IF NEW.origin = 'observed' THEN
    RETURN NEW;
  END IF;
  PERFORM 1 FROM tally.vault_asset a
    WHERE uuid_eq(a.tenant_id, me) AND a.id IN (NEW.debt_asset_id, NEW.collateral_asset_id)
    ORDER BY a.id FOR SHARE;
  PERFORM 1 FROM tally.vault x WHERE uuid_eq(x.tenant_id, me) AND x.id = NEW.vault_id FOR NO KEY UPDATE;
  SELECT x.status, x.health_scaled, x.debt_value INTO v
    FROM tally.vault x WHERE uuid_eq(x.tenant_id, me) AND x.id = NEW.vault_id;
  IF NOT FOUND THEN
    RETURN NEW;
  END IF;
  IF v.health_scaled IS NULL OR v.health_scaled >= 100000000 OR v.status NOT IN ('active', 'at_risk') THEN
    RAISE EXCEPTION 'the vault is healthy' USING ERRCODE = 'TS624', TABLE = TG_ARGV[0];
  END IF;
  SELECT p.quantity, a.price * ('1e' || (8 - a.decimals))::numeric AS unit, a.close_factor, a.full_close_health,
    a.min_position INTO d
    FROM tally.vault_position p JOIN tally.vault_asset a ON uuid_eq(a.tenant_id, me) AND a.id = p.asset_id
    WHERE uuid_eq(p.tenant_id, me) AND p.vault_id = NEW.vault_id AND p.asset_id = NEW.debt_asset_id
      AND p.side = 'debt';
  SELECT p.quantity, a.price * ('1e' || (8 - a.decimals))::numeric AS unit, 1 + a.bonus AS factor INTO c
    FROM tally.vault_position p JOIN tally.vault_asset a ON uuid_eq(a.tenant_id, me) AND a.id = p.asset_id
    WHERE uuid_eq(p.tenant_id, me) AND p.vault_id = NEW.vault_id AND p.asset_id = NEW.collateral_asset_id
      AND p.side = 'collateral';
  IF coalesce(d.quantity, 0) = 0 OR coalesce(c.quantity, 0) = 0 THEN
    RAISE EXCEPTION 'the vault has no such position' USING ERRCODE = 'TS625', TABLE = TG_ARGV[0];
  END IF;
  most := d.quantity;
  IF v.health_scaled > d.full_close_health * 100000000 AND ceil(d.quantity * d.unit) >= d.min_position
    AND trunc(c.quantity * c.unit) >= d.min_position THEN
    -- Of the exact debt, because its value is rounded up, and a part of that could be more of it than may be repaid.
    SELECT least(most, div(sum(p.quantity * a.price * ('1e' || (8 - a.decimals))::numeric) * d.close_factor, d.unit))
      INTO most
      FROM tally.vault_position p JOIN tally.vault_asset a ON uuid_eq(a.tenant_id, me) AND a.id = p.asset_id
      WHERE uuid_eq(p.tenant_id, me) AND p.vault_id = NEW.vault_id AND p.side = 'debt' AND p.quantity > 0;
  END IF;
  paid := coalesce(NEW.repaid, most);
  IF paid > most OR paid = 0 OR NEW.seized IS NOT NULL THEN
    RAISE EXCEPTION 'more than the close factor allows' USING ERRCODE = 'TS626', TABLE = TG_ARGV[0];
  END IF;
  taken := div(paid * d.unit * c.factor, c.unit);
  IF taken > c.quantity THEN
    taken := c.quantity;
    paid := least(paid, div(c.quantity * c.unit, d.unit * c.factor)
      + (mod(c.quantity * c.unit, d.unit * c.factor) > 0)::integer);
  END IF;
  IF paid < d.quantity AND taken < c.quantity AND (ceil((d.quantity - paid) * d.unit) * 2 < d.min_position
    OR trunc((c.quantity - taken) * c.unit) * 2 < d.min_position) THEN
    RAISE EXCEPTION 'dust would be left' USING ERRCODE = 'TS627', TABLE = TG_ARGV[0];
  END IF;
  NEW.repaid := paid;
  NEW.seized := taken;
  NEW.health_before := v.health_scaled;
  UPDATE tally.vault x SET status = 'liquidating'
    WHERE uuid_eq(x.tenant_id, me) AND x.id = NEW.vault_id;
  UPDATE tally.vault_position p SET quantity = p.quantity - CASE p.side WHEN 'debt' THEN paid ELSE taken END
    WHERE uuid_eq(p.tenant_id, me) AND p.vault_id = NEW.vault_id
      AND (p.side, p.asset_id) IN (('debt', NEW.debt_asset_id), ('collateral', NEW.collateral_asset_id));
  SELECT x.collateral_value, x.debt_value, x.ltv_scaled, x.health_scaled, x.max_ltv, x.warn_health INTO v
    FROM tally.vault x WHERE uuid_eq(x.tenant_id, me) AND x.id = NEW.vault_id;
  NEW.health_after := v.health_scaled;
  NEW.bad_debt := CASE WHEN v.collateral_value = 0 THEN v.debt_value ELSE 0 END;
  UPDATE tally.vault x SET status = CASE WHEN NEW.bad_debt > 0 THEN 'bad_debt'
      WHEN v.collateral_value = 0 THEN 'liquidated'
      WHEN v.health_scaled < v.warn_health * 100000000 OR v.ltv_scaled > v.max_ltv * 100000000 THEN 'at_risk'
      ELSE 'active' END
    WHERE uuid_eq(x.tenant_id, me) AND x.id = NEW.vault_id;
  PERFORM tally.vault_watch(me, ARRAY[NEW.vault_id]);
  RETURN NEW;
END $f$"""

OBSERVE = """
CREATE FUNCTION tally.vault_observe() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  SELECT x.ltv_scaled, x.health_scaled INTO NEW.derived_ltv, NEW.derived_health
    FROM tally.vault x WHERE uuid_eq(x.tenant_id, NEW.tenant_id) AND x.id = NEW.vault_id;
  -- Without debt others say an LTV of zero.
  NEW.mismatch := coalesce(abs(NEW.ltv::numeric - coalesce(NEW.derived_ltv, 0)) > NEW.tolerance * 100000000, false)
    OR coalesce(abs(NEW.health::numeric - NEW.derived_health) > NEW.tolerance * 100000000, NEW.health IS NOT NULL);
  RETURN NEW;
END $f$"""

PRICE_TICK = Table(
    "price_tick",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("feed", 'text COLLATE "C"'),
        Column("quote", 'text COLLATE "C"'),
        Column("applied_at", "timestamp with time zone"),
        Column("applied", "boolean", default="false"),
        Column("price", "numeric(38,18)", nullable=True),
        Column("price_round", "numeric(78,0)", nullable=True),
        Column("price_source", 'text COLLATE "C"', nullable=True),
        Column("priced_at", "timestamp with time zone", nullable=True),
        Column("vaults", "bigint", default="0"),
        Column("alerts", "bigint", default="0"),
        Column("firings", "bigint", default="0"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_price_tick_feed_length", "char_length(feed) between 1 and 32"),
        Check("ck_price_tick_quote_length", "char_length(quote) between 1 and 32"),
        Check(
            "ck_price_tick_price_round_range",
            (
                "price_round >= 0 and price_round < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
    ),
    foreign_keys=(ForeignKey("fk_price_tick_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index(
            "ix_price_tick_feed_created_at",
            ("tenant_id", "feed", "created_at", "id"),
            comment="what was applied of a feed",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('price_tick')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('price_tick')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_tick", "BEFORE INSERT", "tally.vault_tick('price_tick')"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "feed", "quote", "applied_at")),
    ),
    comment="The latest shared price of a feed, applied to the tenant; adding the row is what applies it.",
)

LIQUIDATION_EVENT = Table(
    "liquidation_event",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("vault_id", "uuid"),
        Column("origin", 'text COLLATE "C"'),
        Column("debt_asset_id", "uuid"),
        Column("repaid", "numeric(78,0)", nullable=True),
        Column("collateral_asset_id", "uuid"),
        Column("seized", "numeric(78,0)", nullable=True),
        Column("liquidator", "bytea", nullable=True),
        Column("chain_id", "bigint", nullable=True),
        Column("tx_hash", "bytea", nullable=True),
        Column("log_index", "bigint", nullable=True),
        Column("reference", 'text COLLATE "C"', nullable=True),
        Column("occurred_at", "timestamp with time zone"),
        Column("effective", "date"),
        Column("details", "jsonb"),
        Column("health_before", "bigint", nullable=True),
        Column("health_after", "bigint", nullable=True),
        Column("bad_debt", "numeric(78,0)", default="0"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_liquidation_event_origin", "origin in ('applied', 'observed')"),
        Check(
            "ck_liquidation_event_repaid_range",
            ("repaid >= 0 and repaid < 115792089237316195423570985008687907853269984665640564039457584007913129639936"),
        ),
        Check(
            "ck_liquidation_event_seized_range",
            ("seized >= 0 and seized < 115792089237316195423570985008687907853269984665640564039457584007913129639936"),
        ),
        Check("ck_liquidation_event_reference_length", "char_length(reference) between 1 and 120"),
        Check(
            "ck_liquidation_event_bad_debt_range",
            (
                "bad_debt >= 0 and bad_debt < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check("ck_liquidation_event_done", "repaid is not null and seized is not null"),
        Check(
            "ck_liquidation_event_chain",
            (
                "(tx_hash is null) = (log_index is null) and (tx_hash is null) = (chain_id is null) and (tx_hash "
                "is null or octet_length(tx_hash) = 32) and (log_index is null or log_index >= 0)"
            ),
        ),
        Check("ck_liquidation_event_liquidator_length", "octet_length(liquidator) between 20 and 64"),
    ),
    foreign_keys=(
        ForeignKey("fk_liquidation_event_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_liquidation_event_vault", ("tenant_id", "vault_id"), "vault", ("tenant_id", "id")),
        ForeignKey(
            "fk_liquidation_event_debt_asset",
            ("tenant_id", "debt_asset_id"),
            "vault_asset",
            ("tenant_id", "id"),
        ),
        ForeignKey(
            "fk_liquidation_event_collateral_asset",
            ("tenant_id", "collateral_asset_id"),
            "vault_asset",
            ("tenant_id", "id"),
        ),
    ),
    indexes=(
        Index(
            "uq_liquidation_event_chain_id_tx_hash_log_index",
            ("tenant_id", "chain_id", "tx_hash", "log_index"),
            unique=True,
        ),
        Index("uq_liquidation_event_reference", ("tenant_id", "reference"), unique=True),
        Index(
            "ix_liquidation_event_vault_id_occurred_at",
            ("tenant_id", "vault_id", "occurred_at", "id"),
            comment="the liquidations of a vault",
        ),
        Index(
            "ix_liquidation_event_occurred_at",
            ("tenant_id", "occurred_at", "id"),
            comment="liquidations by time",
        ),
        Index(
            "ix_liquidation_event_debt_asset_id",
            ("tenant_id", "debt_asset_id", "id"),
            comment="rows of one debt_asset",
        ),
        Index(
            "ix_liquidation_event_collateral_asset_id",
            ("tenant_id", "collateral_asset_id", "id"),
            comment="rows of one collateral_asset",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('liquidation_event')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('liquidation_event')"),
        Trigger("tally_liquidate", "BEFORE INSERT", "tally.vault_liquidate('liquidation_event')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=(
                "tenant_id",
                "id",
                "vault_id",
                "origin",
                "debt_asset_id",
                "repaid",
                "collateral_asset_id",
                "seized",
                "liquidator",
                "chain_id",
                "tx_hash",
                "log_index",
                "reference",
                "occurred_at",
                "effective",
                "details",
            ),
        ),
    ),
    comment=(
        "A liquidation. An applied one is judged and changes the vault; an observed one is written down as it was seen."
    ),
)

VAULT_OBSERVATION = Table(
    "vault_observation",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("vault_id", "uuid"),
        Column("source", 'text COLLATE "C"'),
        Column("observed_at", "timestamp with time zone"),
        Column("block", "bigint", nullable=True),
        Column("ltv", "bigint", nullable=True),
        Column("health", "bigint", nullable=True),
        Column("tolerance", "numeric(12,8)"),
        Column("details", "jsonb"),
        Column("derived_ltv", "bigint", nullable=True),
        Column("derived_health", "bigint", nullable=True),
        Column("mismatch", "boolean", default="false"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_vault_observation_source_length", "char_length(source) between 1 and 80"),
        Check("ck_vault_observation_tolerance", "tolerance >= 0"),
    ),
    foreign_keys=(
        ForeignKey("fk_vault_observation_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_vault_observation_vault", ("tenant_id", "vault_id"), "vault", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_vault_observation_vault_id_source_observed_at",
            ("tenant_id", "vault_id", "source", "observed_at"),
            unique=True,
        ),
        Index(
            "ix_vault_observation_vault_id_observed_at",
            ("tenant_id", "vault_id", "observed_at", "id"),
            comment="what was observed of a vault",
        ),
        Index(
            "ix_vault_observation_observed_at",
            ("tenant_id", "observed_at", "id"),
            where="mismatch",
            comment="observations that differ from what is derived",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('vault_observation')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('vault_observation')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_observe", "BEFORE INSERT", "tally.vault_observe('vault_observation')"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=(
                "tenant_id",
                "id",
                "vault_id",
                "source",
                "observed_at",
                "block",
                "ltv",
                "health",
                "tolerance",
                "details",
            ),
        ),
    ),
    comment=(
        "An LTV and a health factor that somebody observed, in hundred-millionths; the derived ones stand beside them."
    ),
)

FUNCTIONS = {
    TICK: "tally.vault_tick()",
    LIQUIDATE: "tally.vault_liquidate()",
    OBSERVE: "tally.vault_observe()",
}
TABLES = (
    PRICE_TICK,
    LIQUIDATION_EVENT,
    VAULT_OBSERVATION,
)


def upgrade() -> None:
    """Ticks, liquidations and observations."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
