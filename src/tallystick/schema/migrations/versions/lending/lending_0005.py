"""pauses, and what lenders were paid

Revision lending_0005.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "lending_0005"
down_revision = "lending_0004"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

DELINQUENCY_PAUSE = Table(
    "delinquency_pause",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("loan_id", "uuid"),
        Column("starts_on", "date"),
        Column("ends_on", "date"),
        Column("reason", 'text COLLATE "C"', nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_delinquency_pause_reason_length", "char_length(reason) between 0 and 300"),
        Check("ck_delinquency_pause_span", "starts_on <= ends_on"),
    ),
    foreign_keys=(
        ForeignKey("fk_delinquency_pause_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_delinquency_pause_loan", ("tenant_id", "loan_id"), "loan", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "ix_delinquency_pause_loan_id_starts_on",
            ("tenant_id", "loan_id", "starts_on", "id"),
            comment="the pauses of a loan",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('delinquency_pause')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('delinquency_pause')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "loan_id", "starts_on", "ends_on", "reason")),
        Grant("app", "UPDATE", columns=("ends_on",)),
    ),
    comment=(
        "A span of days, both included, on which a loan does not grow later: a disaster, an illness, an agreement."
    ),
)

LENDER_PAYOUT = Table(
    "lender_payout",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("loan_id", "uuid"),
        Column("funding_id", "uuid"),
        Column("effective", "date"),
        Column("principal", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("interest", "bigint"),
        Column("journal_id", "uuid"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_lender_payout_asset", "char_length(asset) between 2 and 32"),
        Check("ck_lender_payout_amounts", "principal >= 0 and interest >= 0 and principal + interest > 0"),
    ),
    foreign_keys=(
        ForeignKey("fk_lender_payout_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_lender_payout_loan", ("tenant_id", "loan_id"), "loan", ("tenant_id", "id")),
        ForeignKey("fk_lender_payout_funding", ("tenant_id", "funding_id"), "loan_funding", ("tenant_id", "id")),
        ForeignKey("fk_lender_payout_journal", ("tenant_id", "journal_id"), "journal", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "ix_lender_payout_loan_id",
            ("tenant_id", "loan_id", "id"),
            comment="what the lenders of a loan were paid",
        ),
        Index("ix_lender_payout_funding_id", ("tenant_id", "funding_id", "id"), comment="what a lender was paid"),
        Index("ix_lender_payout_journal_id", ("tenant_id", "journal_id", "id"), comment="rows of one journal"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('lender_payout')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('lender_payout')"),
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
                "loan_id",
                "funding_id",
                "effective",
                "principal",
                "asset",
                "interest",
                "journal_id",
            ),
        ),
    ),
    comment="What a lender was paid of what came in for a loan: their part of its principal and of its interest.",
)


def upgrade() -> None:
    """Pauses, and what lenders were paid."""
    op.invoke(CreateTables(DELINQUENCY_PAUSE, LENDER_PAYOUT))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(DELINQUENCY_PAUSE, LENDER_PAYOUT)))
