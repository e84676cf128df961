"""flags of bias

Revision underwriting_0005, after underwriting_0004.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "underwriting_0005"
down_revision = "underwriting_0004"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

BIAS_FLAG = Table(
    "bias_flag",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("attribute", 'text COLLATE "C"'),
        Column("group_label", 'text COLLATE "C"'),
        Column("reference_label", 'text COLLATE "C"'),
        Column("model_version", 'text COLLATE "C"'),
        Column("window_start", "timestamp with time zone", nullable=True),
        Column("window_end", "timestamp with time zone", nullable=True),
        Column("decided", "bigint"),
        Column("selected", "bigint"),
        Column("reference_decided", "bigint"),
        Column("reference_selected", "bigint"),
        Column("minimum", "bigint"),
        Column("state", 'text COLLATE "C"'),
        Column("closed_at", "timestamp with time zone", nullable=True),
        Column("note", 'text COLLATE "C"', nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_bias_flag_attribute_length", "char_length(attribute) between 1 and 63"),
        Check("ck_bias_flag_group_label_length", "char_length(group_label) between 1 and 100"),
        Check("ck_bias_flag_reference_label_length", "char_length(reference_label) between 1 and 100"),
        Check("ck_bias_flag_model_version_length", "char_length(model_version) between 0 and 50"),
        Check("ck_bias_flag_state", "state in ('open', 'acknowledged', 'mitigated', 'dismissed')"),
        Check("ck_bias_flag_note_length", "char_length(note) between 1 and 1000"),
        Check(
            "ck_bias_flag_counts",
            "selected between 0 and decided and reference_selected between 0 and reference_decided",
        ),
        Check("ck_bias_flag_enough", "minimum >= 1 and decided >= minimum and reference_decided >= minimum"),
        Check(
            "ck_bias_flag_adverse",
            "selected::numeric * reference_decided * 5 < reference_selected::numeric * decided * 4",
        ),
        Check("ck_bias_flag_closed", "(state in ('mitigated', 'dismissed')) = (closed_at is not null)"),
        Check("ck_bias_flag_dismissed", "state <> 'dismissed' or note is not null"),
    ),
    foreign_keys=(ForeignKey("fk_bias_flag_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index(
            "uq_bias_flag_attribute_group_label_model_version",
            ("tenant_id", "attribute", "group_label", "model_version"),
            unique=True,
            where="(state in ('open', 'acknowledged'))",
        ),
        Index(
            "ix_bias_flag_state_created_at",
            ("tenant_id", "state", "created_at", "id"),
            comment="flags of a state, newest first",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('bias_flag')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('bias_flag')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_state",
            "BEFORE INSERT",
            "tally.refuse_transition('bias_flag', 'state')",
            when="NOT (NEW.\"state\" = ANY (ARRAY['open']))",
        ),
        Trigger(
            "tally_step_state",
            "BEFORE UPDATE",
            "tally.refuse_transition('bias_flag', 'state')",
            when=(
                'OLD."state" IS DISTINCT FROM NEW."state" AND ((OLD."state" = \'open\' AND NEW."state" = ANY '
                "(ARRAY['acknowledged', 'mitigated', 'dismissed'])) OR (OLD.\"state\" = 'acknowledged' AND "
                'NEW."state" = ANY (ARRAY[\'mitigated\', \'dismissed\'])) OR (OLD."state" IS NULL AND NEW."state" '
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
                "attribute",
                "group_label",
                "reference_label",
                "model_version",
                "window_start",
                "window_end",
                "decided",
                "selected",
                "reference_decided",
                "reference_selected",
                "minimum",
                "state",
                "closed_at",
                "note",
            ),
        ),
        Grant("app", "UPDATE", columns=("state", "closed_at", "note")),
    ),
    comment="A group selected at less than four fifths of the rate of another, with the counts that say so.",
)


def upgrade() -> None:
    """Flags of bias."""
    op.invoke(CreateTables(BIAS_FLAG))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(BIAS_FLAG)))
