"""alerts, protection rules and what fired

Revision vaults_0004.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "vaults_0004"
down_revision = "vaults_0003"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}


RISK_ALERT = Table(
    "risk_alert",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("vault_id", "uuid"),
        Column("kind", 'text COLLATE "C"'),
        Column("severity", 'text COLLATE "C"'),
        Column("metric", 'text COLLATE "C"'),
        Column("observed", "bigint"),
        Column("threshold", "numeric(12,8)"),
        Column("state", 'text COLLATE "C"'),
        Column("resolved_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_risk_alert_kind", "kind in ('ltv_high', 'health_low', 'liquidatable', 'bad_debt')"),
        Check("ck_risk_alert_severity", "severity in ('info', 'low', 'medium', 'high', 'critical')"),
        Check("ck_risk_alert_metric", "metric in ('health', 'ltv')"),
        Check("ck_risk_alert_state", "state in ('open', 'acknowledged', 'suppressed', 'resolved')"),
        Check("ck_risk_alert_resolved", "(state = 'resolved') = (resolved_at is not null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_risk_alert_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_risk_alert_vault", ("tenant_id", "vault_id"), "vault", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_risk_alert_vault_id_kind",
            ("tenant_id", "vault_id", "kind"),
            unique=True,
            where="(state <> 'resolved')",
        ),
        Index(
            "ix_risk_alert_state_created_at",
            ("tenant_id", "state", "created_at", "id"),
            comment="alerts that stand, newest first",
        ),
        Index(
            "ix_risk_alert_vault_id_created_at",
            ("tenant_id", "vault_id", "created_at", "id"),
            comment="the alerts of a vault",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('risk_alert')"),
        Trigger(
            "tally_by_database",
            "AFTER INSERT",
            "tally.vault_by_database('risk_alert')",
            when="pg_trigger_depth() = 0",
        ),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('risk_alert')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_state",
            "BEFORE INSERT",
            "tally.refuse_transition('risk_alert', 'state')",
            when="NOT (NEW.\"state\" = ANY (ARRAY['open']))",
        ),
        Trigger(
            "tally_step_state",
            "BEFORE UPDATE",
            "tally.refuse_transition('risk_alert', 'state')",
            when=(
                'OLD."state" IS DISTINCT FROM NEW."state" AND ((OLD."state" = \'open\' AND NEW."state" = ANY '
                "(ARRAY['acknowledged', 'suppressed', 'resolved'])) OR (OLD.\"state\" = 'acknowledged' AND "
                "NEW.\"state\" = ANY (ARRAY['suppressed', 'resolved'])) OR (OLD.\"state\" = 'suppressed' AND "
                'NEW."state" = ANY (ARRAY[\'open\', \'resolved\'])) OR (OLD."state" IS NULL AND NEW."state" = ANY '
                "(ARRAY['open']))) IS NOT TRUE"
            ),
        ),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
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
                "kind",
                "severity",
                "metric",
                "observed",
                "threshold",
                "state",
                "resolved_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("state", "resolved_at")),
    ),
    comment="Something wrong with a vault; it is resolved when it is right again.",
)

PROTECTION_RULE = Table(
    "protection_rule",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("vault_id", "uuid"),
        Column("kind", 'text COLLATE "C"'),
        Column("metric", 'text COLLATE "C"'),
        Column("threshold", "numeric(12,8)"),
        Column("cooldown", "bigint"),
        Column("enabled", "boolean"),
        Column("action", "jsonb"),
        Column("last_fired_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_protection_rule_kind", "kind in ('alert', 'repay', 'top_up', 'unwind')"),
        Check("ck_protection_rule_metric", "metric in ('health', 'ltv')"),
        Check("ck_protection_rule_threshold", "threshold > 0"),
        Check("ck_protection_rule_cooldown", "cooldown between 0 and 315360000"),
    ),
    foreign_keys=(
        ForeignKey("fk_protection_rule_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_protection_rule_vault", ("tenant_id", "vault_id"), "vault", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "ix_protection_rule_vault_id",
            ("tenant_id", "vault_id", "id"),
            where="enabled",
            comment="rules that may fire for a vault",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('protection_rule')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('protection_rule')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('protection_rule')",
            when='pg_trigger_depth() = 0 AND (OLD."last_fired_at" IS DISTINCT FROM NEW."last_fired_at")',
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('protection_rule')",
            when='pg_trigger_depth() = 0 AND (NEW."last_fired_at" IS DISTINCT FROM NULL)',
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()", when="pg_trigger_depth() = 0"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=("tenant_id", "id", "vault_id", "kind", "metric", "threshold", "cooldown", "enabled", "action"),
        ),
        Grant("app", "UPDATE", columns=("kind", "metric", "threshold", "cooldown", "enabled", "action")),
    ),
    comment="Do something for a vault when its LTV reaches ``threshold``, or its health factor falls to it.",
)

RULE_FIRING = Table(
    "rule_firing",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("rule_id", "uuid"),
        Column("vault_id", "uuid"),
        Column("tick", "uuid"),
        Column("price_key", 'text COLLATE "C"'),
        Column("observed", "bigint"),
        Column("fired_at", "timestamp with time zone"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("lease_token", "uuid", nullable=True),
        Column("lease_until", "timestamp with time zone", nullable=True),
        Column("lease_by", 'text COLLATE "C"', nullable=True),
        Column("attempts", "bigint", default="0"),
        Column("done_at", "timestamp with time zone", nullable=True),
    ),
    foreign_keys=(
        ForeignKey("fk_rule_firing_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_rule_firing_rule", ("tenant_id", "rule_id"), "protection_rule", ("tenant_id", "id")),
        ForeignKey("fk_rule_firing_vault", ("tenant_id", "vault_id"), "vault", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_rule_firing_rule_id_price_key", ("tenant_id", "rule_id", "price_key"), unique=True),
        Index(
            "ix_rule_firing_vault_id_fired_at",
            ("tenant_id", "vault_id", "fired_at", "id"),
            comment="what fired for a vault",
        ),
        Index(
            "ix_rule_firing_queue",
            ("tenant_id", "created_at", "id"),
            where="done_at is null",
            comment="work items to claim",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('rule_firing')"),
        Trigger(
            "tally_by_database",
            "AFTER INSERT",
            "tally.vault_by_database('rule_firing')",
            when="pg_trigger_depth() = 0",
        ),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('rule_firing')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=("tenant_id", "id", "rule_id", "vault_id", "tick", "price_key", "observed", "fired_at"),
        ),
        Grant("app", "UPDATE", columns=("lease_token", "lease_until", "lease_by", "attempts", "done_at")),
    ),
    comment="A rule that fired: work for whoever protects vaults, claimed with ``db[RuleFiring].claim()``.",
)

TABLES = (
    RISK_ALERT,
    PROTECTION_RULE,
    RULE_FIRING,
)


def upgrade() -> None:
    """Alerts, protection rules and what fired."""
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
