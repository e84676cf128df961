"""reviews and counter-offers

Revision underwriting_0004, after underwriting_0003.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import AddTrigger, CreateTables, Sql, Undo

revision = "underwriting_0004"
down_revision = "underwriting_0003"
branch_labels = None
depends_on = "identity_0001"
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

FOUR_EYES = """
CREATE FUNCTION tally.review_four_eyes() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF EXISTS (SELECT FROM tally.application a WHERE a.tenant_id = NEW.tenant_id AND a.id = NEW.application_id
      AND (a.applicant_id = NEW.resolved_by_id OR a.created_by = 'user:' || NEW.resolved_by_id))
    OR EXISTS (SELECT FROM tally.decision d WHERE d.tenant_id = NEW.tenant_id
      AND d.application_id = NEW.application_id AND d.kind IN ('manual', 'override')
      AND d.decided_by_id = NEW.resolved_by_id AND d.id IS DISTINCT FROM NEW.decision_id) THEN
    RAISE EXCEPTION 'four eyes are missing on %', TG_ARGV[0] USING ERRCODE = 'TS712', TABLE = TG_ARGV[0];
  END IF;
  RETURN NEW;
END $f$"""

# A status that stands for a decision is one that a decision was made on; decided by no hand, not even in SQL.
SUPPORTED = """
CREATE FUNCTION tally.application_supported() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF (NEW.status IN ('approved', 'declined') AND NOT EXISTS (SELECT FROM tally.decision d
      WHERE d.tenant_id = NEW.tenant_id AND d.application_id = NEW.id AND d.is_final AND d.outcome = NEW.status))
    OR (OLD.status = 'counter_offered' AND EXISTS (SELECT FROM tally.counter_offer o
      WHERE o.tenant_id = NEW.tenant_id AND o.application_id = NEW.id AND o.state = 'offered')) THEN
    RAISE EXCEPTION 'no decision makes % %', TG_ARGV[0], NEW.status USING ERRCODE = 'TS713', TABLE = TG_ARGV[0];
  END IF;
  RETURN NEW;
END $f$"""

SUPPORTED_TRIGGER = Trigger(
    "tally_supported",
    "BEFORE UPDATE",
    "tally.application_supported('application')",
    when=(
        'OLD."status" IS DISTINCT FROM NEW."status" AND (NEW."status" IN (\'approved\', \'declined\') OR '
        "OLD.\"status\" = 'counter_offered')"
    ),
)

FUNCTIONS = {
    SUPPORTED: "tally.application_supported()",
    FOUR_EYES: "tally.review_four_eyes()",
}


REVIEW_TASK = Table(
    "review_task",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("application_id", "uuid"),
        Column("reason", 'text COLLATE "C"'),
        Column("state", 'text COLLATE "C"'),
        Column("claimed_by_id", "uuid", nullable=True),
        Column("claimed_at", "timestamp with time zone", nullable=True),
        Column("held_until", "timestamp with time zone", nullable=True),
        Column("escalated_for", 'text COLLATE "C"', nullable=True),
        Column("resolved_by_id", "uuid", nullable=True),
        Column("resolved_at", "timestamp with time zone", nullable=True),
        Column("decision_id", "uuid", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_review_task_reason_length", "char_length(reason) between 1 and 500"),
        Check("ck_review_task_state", "state in ('open', 'claimed', 'resolved', 'escalated', 'expired')"),
        Check("ck_review_task_escalated_for_length", "char_length(escalated_for) between 1 and 500"),
        Check(
            "ck_review_task_claimed",
            "state <> 'claimed' or (claimed_by_id is not null and held_until is not null)",
        ),
        Check(
            "ck_review_task_lease",
            "(held_until is null) = (claimed_at is null) and held_until > claimed_at is not false",
        ),
        Check("ck_review_task_escalated", "state <> 'escalated' or escalated_for is not null"),
        Check(
            "ck_review_task_resolved",
            "(state = 'resolved') = (resolved_by_id is not null and resolved_at is not null)",
        ),
        Check("ck_review_task_resolution", "(state = 'resolved') = (decision_id is not null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_review_task_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey(
            "fk_review_task_application",
            ("tenant_id", "application_id"),
            "application",
            ("tenant_id", "id"),
        ),
        ForeignKey("fk_review_task_claimed_by", ("tenant_id", "claimed_by_id"), "user_account", ("tenant_id", "id")),
        ForeignKey(
            "fk_review_task_resolved_by",
            ("tenant_id", "resolved_by_id"),
            "user_account",
            ("tenant_id", "id"),
        ),
        ForeignKey("fk_review_task_decision", ("tenant_id", "decision_id"), "decision", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_review_task_application_id",
            ("tenant_id", "application_id"),
            unique=True,
            where="(state in ('open', 'claimed', 'escalated'))",
        ),
        Index(
            "ix_review_task_state_created_at",
            ("tenant_id", "state", "created_at", "id"),
            comment="the review queue, a state at a time, oldest first",
        ),
        Index(
            "ix_review_task_claimed_by_id_state",
            ("tenant_id", "claimed_by_id", "state", "id"),
            comment="what a reviewer works on",
        ),
        Index(
            "ix_review_task_resolved_by_id",
            ("tenant_id", "resolved_by_id", "id"),
            comment="rows of one resolved_by",
        ),
        Index("ix_review_task_decision_id", ("tenant_id", "decision_id", "id"), comment="rows of one decision"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('review_task')"),
        Trigger(
            "tally_four_eyes",
            "BEFORE UPDATE",
            "tally.review_four_eyes('review_task')",
            when='NEW."resolved_by_id" IS NOT NULL',
        ),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('review_task')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_state",
            "BEFORE INSERT",
            "tally.refuse_transition('review_task', 'state')",
            when="NOT (NEW.\"state\" = ANY (ARRAY['open']))",
        ),
        Trigger(
            "tally_step_state",
            "BEFORE UPDATE",
            "tally.refuse_transition('review_task', 'state')",
            when=(
                'OLD."state" IS DISTINCT FROM NEW."state" AND ((OLD."state" = \'open\' AND NEW."state" = ANY '
                "(ARRAY['claimed', 'escalated', 'expired'])) OR (OLD.\"state\" = 'claimed' AND NEW.\"state\" = "
                "ANY (ARRAY['open', 'resolved', 'escalated', 'expired'])) OR (OLD.\"state\" = 'escalated' "
                'AND NEW."state" = ANY (ARRAY[\'claimed\', \'expired\'])) OR (OLD."state" IS NULL AND NEW."state" '
                "= ANY (ARRAY['open']))) IS NOT TRUE"
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
                "application_id",
                "reason",
                "state",
                "claimed_by_id",
                "claimed_at",
                "held_until",
                "escalated_for",
                "resolved_by_id",
                "resolved_at",
                "decision_id",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=(
                "state",
                "claimed_by_id",
                "claimed_at",
                "held_until",
                "escalated_for",
                "resolved_by_id",
                "resolved_at",
                "decision_id",
            ),
        ),
    ),
    comment="An application that a person has to look at; one stands for an application at a time.",
)

COUNTER_OFFER = Table(
    "counter_offer",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("application_id", "uuid"),
        Column("decision_id", "uuid"),
        Column("amount", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("months", "bigint"),
        Column("rate", "numeric(12,8)", nullable=True),
        Column("expires_at", "timestamp with time zone"),
        Column("state", 'text COLLATE "C"'),
        Column("answered_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_counter_offer_state", "state in ('offered', 'approved', 'withdrawn', 'expired')"),
        Check("ck_counter_offer_asset", "char_length(asset) between 2 and 32"),
        Check("ck_counter_offer_amount", "amount > 0"),
        Check("ck_counter_offer_months", "months between 1 and 600"),
        Check("ck_counter_offer_rate", "rate is null or rate >= 0"),
        Check("ck_counter_offer_answered", "(state = 'offered') = (answered_at is null)"),
        Check("ck_counter_offer_in_time", "state <> 'approved' or answered_at < expires_at"),
        Check("ck_counter_offer_not_early", "state <> 'expired' or answered_at >= expires_at"),
    ),
    foreign_keys=(
        ForeignKey("fk_counter_offer_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey(
            "fk_counter_offer_application",
            ("tenant_id", "application_id"),
            "application",
            ("tenant_id", "id"),
        ),
        ForeignKey("fk_counter_offer_decision", ("tenant_id", "decision_id"), "decision", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_counter_offer_application_id",
            ("tenant_id", "application_id"),
            unique=True,
            where="(state = 'offered')",
        ),
        Index(
            "ix_counter_offer_application_id_created_at",
            ("tenant_id", "application_id", "created_at", "id"),
            comment="the counter-offers of an application",
        ),
        Index(
            "ix_counter_offer_expires_at",
            ("tenant_id", "expires_at", "id"),
            where="state = 'offered'",
            comment="offers that run out",
        ),
        Index("ix_counter_offer_decision_id", ("tenant_id", "decision_id", "id"), comment="rows of one decision"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('counter_offer')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('counter_offer')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_state",
            "BEFORE INSERT",
            "tally.refuse_transition('counter_offer', 'state')",
            when="NOT (NEW.\"state\" = ANY (ARRAY['offered']))",
        ),
        Trigger(
            "tally_step_state",
            "BEFORE UPDATE",
            "tally.refuse_transition('counter_offer', 'state')",
            when=(
                'OLD."state" IS DISTINCT FROM NEW."state" AND ((OLD."state" = \'offered\' AND NEW."state" = ANY '
                "(ARRAY['approved', 'withdrawn', 'expired'])) OR (OLD.\"state\" IS NULL AND NEW.\"state\" = ANY "
                "(ARRAY['offered']))) IS NOT TRUE"
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
                "application_id",
                "decision_id",
                "amount",
                "asset",
                "months",
                "rate",
                "expires_at",
                "state",
                "answered_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("state", "answered_at")),
    ),
    comment=("Terms offered instead of those asked for; one stands for an application. ``rate`` is a yearly fraction."),
)


def upgrade() -> None:
    """Reviews and counter-offers."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(REVIEW_TASK, COUNTER_OFFER))
    op.invoke(AddTrigger("application", SUPPORTED_TRIGGER))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(AddTrigger("application", SUPPORTED_TRIGGER)))
    op.invoke(Undo(CreateTables(REVIEW_TASK, COUNTER_OFFER)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
