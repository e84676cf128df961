"""reasons of decisions and adverse action notices

Revision underwriting_0002, after underwriting_0001.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import AddCheck, AddColumn, AddGrant, AddTrigger, CreateTables, Sql, Undo

revision = "underwriting_0002"
down_revision = "underwriting_0001"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

EXPLAINED = """
CREATE FUNCTION tally.decision_explained() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  total numeric;
BEGIN
  -- A null among them makes no sum, and is no explanation.
  SELECT CASE WHEN bool_and(s.value IS NOT NULL) IS NOT FALSE THEN NEW.base_value + coalesce(sum(s.value::numeric), 0)
    END INTO total FROM jsonb_each_text(NEW.shap) s;
  IF (abs(total - NEW.output_value) < 0.000001) IS NOT TRUE THEN
    RAISE EXCEPTION 'the attributions do not add up to the output' USING ERRCODE = 'TS907', TABLE = TG_ARGV[0];
  END IF;
  RETURN NEW;
END $f$"""

REASONS = """
CREATE FUNCTION tally.decision_reasons() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  INSERT INTO tally.decision_reason (tenant_id, id, decision_id, rank, code)
  SELECT NEW.tenant_id, gen_random_uuid(), NEW.id, r.rank, r.code
  FROM jsonb_array_elements_text(NEW.reasons) WITH ORDINALITY r(code, rank);
  RETURN NULL;
END $f$"""

# Fired after the row is there, so that whose tenant it is was judged before.
BY_DATABASE = """
CREATE FUNCTION tally.decision_by_database() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RAISE EXCEPTION 'rows of % are written by the database', TG_ARGV[0] USING ERRCODE = 'TS711', TABLE = TG_ARGV[0];
END $f$"""

# Whoever answers what they were asked is owed no notice of it any more.
COMPLETED = """
CREATE FUNCTION tally.application_completed() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  UPDATE tally.adverse_action_notice n SET moot_at = now()
  WHERE n.tenant_id = NEW.tenant_id AND n.application_id = NEW.id AND n.basis = 'incomplete' AND n.sent_at IS NULL
    AND n.moot_at IS NULL;
  RETURN NULL;
END $f$"""

COMPLETED_TRIGGER = Trigger(
    "tally_completed",
    "AFTER UPDATE",
    "tally.application_completed('application')",
    when="OLD.\"status\" = 'incomplete' AND NEW.\"status\" IN ('submitted', 'withdrawn')",
)

FUNCTIONS = {
    COMPLETED: "tally.application_completed()",
    EXPLAINED: "tally.decision_explained()",
    REASONS: "tally.decision_reasons()",
    BY_DATABASE: "tally.decision_by_database()",
}


DECISION_REASON = Table(
    "decision_reason",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("decision_id", "uuid"),
        Column("rank", "bigint"),
        Column("code", 'text COLLATE "C"'),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_decision_reason_code",
            (
                "code in ('application_incomplete', 'credit_references_insufficient', "
                "'credit_references_unacceptable', 'credit_references_unverifiable', 'employment_temporary', "
                "'employment_unverifiable', 'employment_length', 'income_insufficient', 'obligations_excessive', "
                "'income_unverifiable', 'residence_length', 'residence_temporary', 'residence_unverifiable', "
                "'no_credit_file', 'credit_experience_limited', 'poor_performance_with_us', "
                "'delinquent_obligations', 'collection_or_judgment', 'garnishment', 'foreclosure', 'bankruptcy', "
                "'recent_inquiries', 'collateral_insufficient', 'other')"
            ),
        ),
        Check("ck_decision_reason_rank", "rank between 1 and 4"),
    ),
    foreign_keys=(
        ForeignKey("fk_decision_reason_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_decision_reason_decision", ("tenant_id", "decision_id"), "decision", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_decision_reason_decision_id_rank", ("tenant_id", "decision_id", "rank"), unique=True),
        Index("uq_decision_reason_decision_id_code", ("tenant_id", "decision_id", "code"), unique=True),
        Index(
            "ix_decision_reason_code_created_at",
            ("tenant_id", "code", "created_at", "id"),
            comment="decisions of a period for a reason",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('decision_reason')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('decision_reason')"),
        Trigger(
            "tally_by_database",
            "AFTER INSERT",
            "tally.decision_by_database('decision_reason')",
            when="pg_trigger_depth() = 0",
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "decision_id", "rank", "code")),
    ),
    comment=(
        "One of the reasons of a decision; the database writes it from ``Decision.reasons``, for reports to count."
    ),
)

ADVERSE_ACTION_NOTICE = Table(
    "adverse_action_notice",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("application_id", "uuid"),
        Column("decision_id", "uuid", nullable=True),
        Column("basis", 'text COLLATE "C"'),
        Column("needed", 'text COLLATE "C"', nullable=True),
        Column("decided_on", "date"),
        Column("counted_from", "date"),
        Column("due_on", "date"),
        Column("moot_at", "timestamp with time zone", nullable=True),
        Column("sent_at", "timestamp with time zone", nullable=True),
        Column("channel", 'text COLLATE "C"', nullable=True),
        Column("bureau", 'text COLLATE "C"', nullable=True),
        Column("credit_score", "bytea", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_adverse_action_notice_basis", "basis in ('application', 'counter_offer', 'incomplete')"),
        Check("ck_adverse_action_notice_needed_length", "char_length(needed) between 1 and 2000"),
        Check("ck_adverse_action_notice_channel", "channel in ('mail', 'email', 'portal', 'in_person')"),
        Check("ck_adverse_action_notice_bureau_length", "char_length(bureau) between 1 and 100"),
        Check(
            "ck_adverse_action_notice_due",
            "due_on = counted_from + case basis when 'counter_offer' then 90 else 30 end",
        ),
        Check("ck_adverse_action_notice_counted", "counted_from <= decided_on"),
        Check("ck_adverse_action_notice_about", "(basis = 'incomplete') = (decision_id is null)"),
        Check("ck_adverse_action_notice_needed", "(basis = 'incomplete') = (needed is not null)"),
        Check(
            "ck_adverse_action_notice_moot",
            "moot_at is null or (basis = 'incomplete' and sent_at is null)",
        ),
        Check("ck_adverse_action_notice_sent", "(sent_at is null) = (channel is null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_adverse_action_notice_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey(
            "fk_adverse_action_notice_application",
            ("tenant_id", "application_id"),
            "application",
            ("tenant_id", "id"),
        ),
        ForeignKey(
            "fk_adverse_action_notice_decision",
            ("tenant_id", "decision_id"),
            "decision",
            ("tenant_id", "id"),
        ),
    ),
    indexes=(
        Index("uq_adverse_action_notice_decision_id", ("tenant_id", "decision_id"), unique=True),
        Index(
            "ix_adverse_action_notice_due_on",
            ("tenant_id", "due_on", "id"),
            where="((sent_at is null) and (moot_at is null))",
            comment="notices that are due",
        ),
        Index(
            "ix_adverse_action_notice_application_id",
            ("tenant_id", "application_id", "id"),
            comment="the notices of an application",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('adverse_action_notice')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('adverse_action_notice')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_sealed", "BEFORE INSERT OR UPDATE", "tally.sealed_live('credit_score')"),
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
                "basis",
                "needed",
                "decided_on",
                "counted_from",
                "due_on",
                "moot_at",
                "sent_at",
                "channel",
                "bureau",
                "credit_score",
            ),
        ),
        Grant("app", "UPDATE", columns=("moot_at", "sent_at", "channel", "bureau", "credit_score")),
    ),
    comment="A notice that is owed to an applicant, and whether it went out.",
)


def upgrade() -> None:
    """Reasons of decisions and adverse action notices."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(DECISION_REASON, ADVERSE_ACTION_NOTICE))
    op.invoke(AddTrigger("application", COMPLETED_TRIGGER))
    op.invoke(AddColumn("decision", Column("reasons", "jsonb", nullable=True)))
    op.invoke(AddColumn("decision", Column("other_reason", 'text COLLATE "C"', nullable=True)))
    op.invoke(
        AddCheck(
            "decision",
            Check("ck_decision_explained", "shap is null or (base_value is not null and output_value is not null)"),
        )
    )
    op.invoke(
        AddCheck(
            "decision",
            Check(
                "ck_decision_other_reason",
                "coalesce(reasons @> '[\"other\"]'::jsonb, false) = (other_reason is not null)",
            ),
        )
    )
    op.invoke(
        AddCheck(
            "decision",
            Check("ck_decision_other_reason_length", "char_length(other_reason) between 1 and 500"),
        )
    )
    op.invoke(
        AddCheck(
            "decision",
            Check("ck_decision_reasons", "reasons is null or jsonb_array_length(reasons) between 1 and 4"),
        )
    )
    op.invoke(
        AddCheck(
            "decision",
            Check("ck_decision_reasons_against", "reasons is null or outcome in ('declined', 'counter_offer')"),
        )
    )
    op.invoke(
        AddCheck(
            "decision",
            Check("ck_decision_reasons_of_decline", "not is_final or outcome <> 'declined' or reasons is not null"),
        )
    )
    op.invoke(
        AddTrigger(
            "decision",
            Trigger(
                "tally_explained",
                "BEFORE INSERT",
                "tally.decision_explained('decision')",
                when='NEW."shap" IS NOT NULL',
            ),
        )
    )
    op.invoke(
        AddTrigger(
            "decision",
            Trigger(
                "tally_reasons",
                "AFTER INSERT",
                "tally.decision_reasons('decision')",
                when='NEW."reasons" IS NOT NULL',
            ),
        )
    )
    op.invoke(AddGrant("decision", Grant("app", "INSERT", columns=("reasons", "other_reason"))))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(AddGrant("decision", Grant("app", "INSERT", columns=("reasons", "other_reason")))))
    op.invoke(
        Undo(
            AddTrigger(
                "decision",
                Trigger(
                    "tally_reasons",
                    "AFTER INSERT",
                    "tally.decision_reasons('decision')",
                    when='NEW."reasons" IS NOT NULL',
                ),
            ),
        )
    )
    op.invoke(
        Undo(
            AddTrigger(
                "decision",
                Trigger(
                    "tally_explained",
                    "BEFORE INSERT",
                    "tally.decision_explained('decision')",
                    when='NEW."shap" IS NOT NULL',
                ),
            ),
        )
    )
    op.invoke(
        Undo(
            AddCheck(
                "decision",
                Check(
                    "ck_decision_reasons_of_decline",
                    "not is_final or outcome <> 'declined' or reasons is not null",
                ),
            ),
        )
    )
    op.invoke(
        Undo(
            AddCheck(
                "decision",
                Check("ck_decision_reasons_against", "reasons is null or outcome in ('declined', 'counter_offer')"),
            ),
        )
    )
    op.invoke(
        Undo(
            AddCheck(
                "decision",
                Check("ck_decision_reasons", "reasons is null or jsonb_array_length(reasons) between 1 and 4"),
            ),
        )
    )
    op.invoke(
        Undo(
            AddCheck(
                "decision",
                Check("ck_decision_other_reason_length", "char_length(other_reason) between 1 and 500"),
            ),
        )
    )
    op.invoke(
        Undo(
            AddCheck(
                "decision",
                Check(
                    "ck_decision_other_reason",
                    "coalesce(reasons @> '[\"other\"]'::jsonb, false) = (other_reason is not null)",
                ),
            ),
        )
    )
    op.invoke(
        Undo(
            AddCheck(
                "decision",
                Check(
                    "ck_decision_explained",
                    "shap is null or (base_value is not null and output_value is not null)",
                ),
            ),
        )
    )
    op.invoke(Undo(AddColumn("decision", Column("other_reason", 'text COLLATE "C"', nullable=True))))
    op.invoke(Undo(AddColumn("decision", Column("reasons", "jsonb", nullable=True))))
    op.invoke(Undo(AddTrigger("application", COMPLETED_TRIGGER)))
    op.invoke(Undo(CreateTables(DECISION_REASON, ADVERSE_ACTION_NOTICE)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
