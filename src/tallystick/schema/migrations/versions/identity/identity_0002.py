"""legal holds, restrictions, retention policies and erasures

Revision identity_0002.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "identity_0002"
down_revision = "identity_0001"
branch_labels = None
depends_on = "kit_0004"
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

LEGAL_HOLD = Table(
    "legal_hold",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("matter", 'text COLLATE "C"'),
        Column("placed_at", "timestamp with time zone"),
        Column("released_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_legal_hold_matter_length", "char_length(matter) between 1 and 120"),
        Check("ck_legal_hold_order", "released_at is null or released_at >= placed_at"),
    ),
    foreign_keys=(
        ForeignKey("fk_legal_hold_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_legal_hold_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_legal_hold_user_id_matter",
            ("tenant_id", "user_id", "matter"),
            unique=True,
            where="(released_at is null)",
        ),
        Index(
            "ix_legal_hold_user_id_placed_at",
            ("tenant_id", "user_id", "placed_at", "id"),
            comment="holds on a person, oldest first",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('legal_hold')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('legal_hold')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "user_id", "matter", "placed_at", "released_at")),
        Grant("app", "UPDATE", columns=("released_at",)),
    ),
    comment="Nothing of a person is erased while this stands. Several matters may each hold the same person.",
)

RESTRICTION = Table(
    "restriction",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("ground", 'text COLLATE "C"'),
        Column("placed_at", "timestamp with time zone"),
        Column("lifted_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_restriction_ground",
            "ground in ('accuracy_contested', 'unlawful', 'needed_for_claims', 'objection_pending')",
        ),
        Check("ck_restriction_order", "lifted_at is null or lifted_at >= placed_at"),
    ),
    foreign_keys=(
        ForeignKey("fk_restriction_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_restriction_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_restriction_user_id", ("tenant_id", "user_id"), unique=True, where="(lifted_at is null)"),
        Index(
            "ix_restriction_user_id_placed_at",
            ("tenant_id", "user_id", "placed_at", "id"),
            comment="restrictions of a person, oldest first",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('restriction')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('restriction')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "user_id", "ground", "placed_at", "lifted_at")),
        Grant("app", "UPDATE", columns=("lifted_at",)),
    ),
    comment="A person's data is stored and not used while this stands; one at a time.",
)

RETENTION_POLICY = Table(
    "retention_policy",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("data_class", 'text COLLATE "C"'),
        Column("basis", 'text COLLATE "C"'),
        Column("reason", 'text COLLATE "C"'),
        Column("citation", 'text COLLATE "C"'),
        Column("minimum_months", "bigint"),
        Column("maximum_months", "bigint", nullable=True),
        Column("hold", "boolean"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_retention_policy_data_class_length", "char_length(data_class) between 1 and 63"),
        Check(
            "ck_retention_policy_basis",
            (
                "basis in ('consent', 'contract', 'legal_obligation', 'vital_interests', 'public_task', "
                "'legitimate_interests')"
            ),
        ),
        Check("ck_retention_policy_reason_length", "char_length(reason) between 3 and 300"),
        Check("ck_retention_policy_citation_length", "char_length(citation) between 0 and 200"),
        Check("ck_retention_policy_minimum", "minimum_months between 0 and 1200"),
        Check(
            "ck_retention_policy_maximum",
            "maximum_months is null or maximum_months between greatest(minimum_months, 1) and 1200",
        ),
    ),
    foreign_keys=(ForeignKey("fk_retention_policy_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_retention_policy_data_class", ("tenant_id", "data_class"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('retention_policy')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
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
                "data_class",
                "basis",
                "reason",
                "citation",
                "minimum_months",
                "maximum_months",
                "hold",
            ),
        ),
        Grant("app", "UPDATE", columns=("basis", "reason", "citation", "minimum_months", "maximum_months", "hold")),
        Grant("app", "DELETE"),
    ),
    comment="What a tenant decided for one retention class; it replaces the example that the library ships.",
)

ERASURE_REQUEST = Table(
    "erasure_request",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("ground", 'text COLLATE "C"'),
        Column("requested_at", "timestamp with time zone"),
        Column("status", 'text COLLATE "C"'),
        Column("refusal", 'text COLLATE "C"', nullable=True),
        Column("decided_at", "timestamp with time zone", nullable=True),
        Column("final_epoch", "bigint", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_erasure_request_ground",
            (
                "ground in ('no_longer_needed', 'consent_withdrawn', 'objection', 'unlawful', 'legal_obligation', "
                "'child')"
            ),
        ),
        Check("ck_erasure_request_status", "status in ('requested', 'on_hold', 'partial', 'executed', 'refused')"),
        Check(
            "ck_erasure_request_refusal",
            (
                "refusal in ('free_expression', 'legal_obligation', 'public_health', 'archiving', 'legal_claims', "
                "'unfounded')"
            ),
        ),
        Check("ck_erasure_request_refused", "(status = 'refused') = (refusal is not null)"),
        Check("ck_erasure_request_epoch", "final_epoch is null or final_epoch >= 1"),
    ),
    foreign_keys=(
        ForeignKey("fk_erasure_request_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_erasure_request_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_erasure_request_user_id",
            ("tenant_id", "user_id"),
            unique=True,
            where="(status in ('requested', 'on_hold', 'partial'))",
        ),
        Index(
            "ix_erasure_request_user_id_requested_at",
            ("tenant_id", "user_id", "requested_at", "id"),
            comment="what a person asked for, oldest first",
        ),
        Index(
            "ix_erasure_request_status_requested_at",
            ("tenant_id", "status", "requested_at", "id"),
            comment="requests to decide, oldest first",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('erasure_request')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('erasure_request')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('erasure_request', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['requested', 'on_hold']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('erasure_request', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'requested\' AND NEW."status" = '
                "ANY (ARRAY['on_hold', 'partial', 'executed', 'refused'])) OR (OLD.\"status\" = 'on_hold' "
                "AND NEW.\"status\" = ANY (ARRAY['requested', 'partial', 'executed', 'refused'])) OR "
                '(OLD."status" = \'partial\' AND NEW."status" = ANY (ARRAY[\'executed\'])) OR (OLD."status" IS '
                "NULL AND NEW.\"status\" = ANY (ARRAY['requested', 'on_hold']))) IS NOT TRUE"
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
                "user_id",
                "ground",
                "requested_at",
                "status",
                "refusal",
                "decided_at",
                "final_epoch",
            ),
        ),
        Grant("app", "UPDATE", columns=("status", "refusal", "decided_at", "final_epoch")),
    ),
    comment="A person's request to be erased; at most one at a time is open.",
)

ERASURE_STEP = Table(
    "erasure_step",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("request_id", "uuid"),
        Column("data_class", 'text COLLATE "C"'),
        Column("status", 'text COLLATE "C"'),
        Column("reason", 'text COLLATE "C"'),
        Column("citation", 'text COLLATE "C"'),
        Column("due_on", "date", nullable=True),
        Column("erased_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_erasure_step_data_class_length", "char_length(data_class) between 1 and 63"),
        Check("ck_erasure_step_status", "status in ('erased', 'kept')"),
        Check("ck_erasure_step_reason_length", "char_length(reason) between 0 and 300"),
        Check("ck_erasure_step_citation_length", "char_length(citation) between 0 and 200"),
        Check("ck_erasure_step_erased", "(status = 'erased') = (erased_at is not null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_erasure_step_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_erasure_step_request", ("tenant_id", "request_id"), "erasure_request", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_erasure_step_request_id_data_class", ("tenant_id", "request_id", "data_class"), unique=True),
        Index(
            "ix_erasure_step_status_due_on",
            ("tenant_id", "status", "due_on", "id"),
            where="status = 'kept'",
            comment="what is due to be erased",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('erasure_step')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('erasure_step')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('erasure_step', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['kept', 'erased']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('erasure_step', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'kept\' AND NEW."status" = ANY '
                "(ARRAY['erased'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY (ARRAY['kept', "
                "'erased']))) IS NOT TRUE"
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
                "request_id",
                "data_class",
                "status",
                "reason",
                "citation",
                "due_on",
                "erased_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("status", "reason", "citation", "due_on", "erased_at")),
    ),
    comment=("One class of the data that an erasure is about: erased, or kept until ``due_on`` for the stated reason."),
)


def upgrade() -> None:
    """Legal holds, restrictions, retention policies and erasures."""
    op.invoke(CreateTables(LEGAL_HOLD, RESTRICTION, RETENTION_POLICY, ERASURE_REQUEST, ERASURE_STEP))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(LEGAL_HOLD, RESTRICTION, RETENTION_POLICY, ERASURE_REQUEST, ERASURE_STEP)))
