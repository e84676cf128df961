"""loans, their history and funding

Revision lending_0002.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "lending_0002"
down_revision = "lending_0001"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

HISTORY = """
CREATE FUNCTION tally.loan_history() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  earlier text := CASE WHEN TG_OP = 'UPDATE' THEN OLD.status END;
BEGIN
  IF NEW.status IS DISTINCT FROM earlier THEN
    INSERT INTO tally.loan_status_change (tenant_id, id, loan_id, step, before, after, reason)
      SELECT NEW.tenant_id, gen_random_uuid(), NEW.id, count(*) + 1, earlier, NEW.status, NEW.status_reason
      FROM tally.loan_status_change c WHERE c.tenant_id = NEW.tenant_id AND c.loan_id = NEW.id;
  END IF;
  RETURN NULL;
END $f$"""

# A history that a client could add to would prove nothing.
HISTORY_ONLY = """
CREATE FUNCTION tally.loan_history_only() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF pg_trigger_depth() < 2 THEN
    RAISE EXCEPTION 'rows of % are written by the database', TG_ARGV[0] USING ERRCODE = 'TS503', TABLE = TG_ARGV[0];
  END IF;
  RETURN NEW;
END $f$"""

FUNDED = """
CREATE FUNCTION tally.loan_funded() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  amount bigint := NEW.amount;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF (NEW.status = 'released') = (OLD.status = 'released') THEN
      RETURN NULL;
    END IF;
    amount := -NEW.amount;
  END IF;
  UPDATE tally.loan l SET funded = l.funded + amount
    WHERE l.tenant_id = NEW.tenant_id AND l.id = NEW.loan_id AND l.asset = NEW.asset
      AND (TG_OP = 'UPDATE' OR l.status = 'funding');
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the loan takes no funding' USING ERRCODE = 'TS504', TABLE = TG_ARGV[0];
  END IF;
  RETURN NULL;
END $f$"""

LOAN = Table(
    "loan",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("number", "bigint"),
        Column("borrower_id", "uuid"),
        Column("product_id", "uuid"),
        Column("community_id", "uuid", nullable=True),
        Column("external_id", 'text COLLATE "C"', nullable=True),
        Column("purpose", 'text COLLATE "C"', nullable=True),
        Column("principal", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("annual_rate", "numeric(12,8)"),
        Column("installments", "bigint"),
        Column("first_due", "date", nullable=True),
        Column("status", 'text COLLATE "C"'),
        Column("status_reason", 'text COLLATE "C"', nullable=True),
        Column("requested_on", "date"),
        Column("approved_on", "date", nullable=True),
        Column("disbursed_on", "date", nullable=True),
        Column("matures_on", "date", nullable=True),
        Column("charged_off_on", "date", nullable=True),
        Column("written_off_on", "date", nullable=True),
        Column("closed_on", "date", nullable=True),
        Column("fraud", "boolean"),
        Column("payout_id", "uuid", nullable=True),
        Column("boarded", "boolean"),
        Column("details", "jsonb"),
        Column("funded", "bigint", default="0"),
        Column("disbursed", "bigint", default="0"),
        Column("outstanding", "bigint", default="0"),
        Column("principal_outstanding", "bigint", default="0"),
        Column("interest_outstanding", "bigint", default="0"),
        Column("fees_outstanding", "bigint", default="0"),
        Column("penalties_outstanding", "bigint", default="0"),
        Column("overpaid", "bigint", default="0"),
        Column("oldest_due", "date", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_loan_external_id_length", "char_length(external_id) between 1 and 120"),
        Check("ck_loan_purpose_length", "char_length(purpose) between 0 and 120"),
        Check(
            "ck_loan_status",
            (
                "status in ('requested', 'funding', 'approved', 'disbursing', 'active', 'overpaid', 'closed', "
                "'written_off', 'rejected', 'withdrawn', 'cancelled', 'expired')"
            ),
        ),
        Check("ck_loan_status_reason_length", "char_length(status_reason) between 0 and 300"),
        Check("ck_loan_asset", "char_length(asset) between 2 and 32"),
        Check("ck_loan_principal", "principal > 0"),
        Check("ck_loan_terms", "installments between 1 and 3660 and annual_rate between 0 and 10"),
        Check("ck_loan_payout", "(status = 'disbursing') = (payout_id is not null)"),
        Check("ck_loan_funded", "funded between 0 and principal"),
        Check("ck_loan_disbursed", "disbursed between 0 and principal"),
        Check(
            "ck_loan_totals",
            (
                "principal_outstanding >= 0 and interest_outstanding >= 0 and fees_outstanding >= 0 and "
                "penalties_outstanding >= 0 and outstanding = principal_outstanding + interest_outstanding + "
                "fees_outstanding + penalties_outstanding"
            ),
        ),
        Check("ck_loan_overpaid", "overpaid >= 0"),
        Check("ck_loan_closed", "status <> 'closed' or (outstanding = 0 and overpaid = 0)"),
        Check("ck_loan_overpaying", "status <> 'overpaid' or (outstanding = 0 and overpaid > 0)"),
        Check("ck_loan_active", "status <> 'active' or outstanding > 0"),
        Check("ck_loan_written_off", "(status = 'written_off') = (written_off_on is not null)"),
        Check("ck_loan_charged_off", "charged_off_on is null or charged_off_on >= disbursed_on"),
        Check(
            "ck_loan_paid_out",
            "disbursed_on is not null or status not in ('active', 'overpaid', 'closed', 'written_off')",
        ),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_loan_borrower", ("tenant_id", "borrower_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_loan_product", ("tenant_id", "product_id"), "loan_product", ("tenant_id", "id")),
        ForeignKey("fk_loan_community", ("tenant_id", "community_id"), "community", ("tenant_id", "id")),
        ForeignKey("fk_loan_payout", ("tenant_id", "payout_id"), "transfer", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_loan_number", ("tenant_id", "number"), unique=True),
        Index("uq_loan_external_id", ("tenant_id", "external_id"), unique=True),
        Index(
            "ix_loan_borrower_id_status",
            ("tenant_id", "borrower_id", "status", "id"),
            comment="a borrower's open loans",
        ),
        Index(
            "ix_loan_community_id_status_created_at",
            ("tenant_id", "community_id", "status", "created_at", "id"),
            comment="a community's loans, newest first",
        ),
        Index(
            "ix_loan_status_oldest_due",
            ("tenant_id", "status", "oldest_due", "id"),
            comment="collections worklist and portfolio at risk on the business date of today",
            include=("principal_outstanding", "charged_off_on", "asset"),
        ),
        Index(
            "ix_loan_disbursed_on",
            ("tenant_id", "disbursed_on", "id"),
            comment="loans by the day they were paid out: vintages",
        ),
        Index("ix_loan_product_id", ("tenant_id", "product_id", "id"), comment="rows of one product"),
        Index("ix_loan_payout_id", ("tenant_id", "payout_id", "id"), comment="rows of one payout"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('loan')"),
        Trigger("tally_history", "AFTER INSERT OR UPDATE OF status", "tally.loan_history('loan')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('loan')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('loan')",
            when=(
                'pg_trigger_depth() = 0 AND (OLD."closed_on" IS DISTINCT FROM NEW."closed_on" OR OLD."funded" IS '
                'DISTINCT FROM NEW."funded" OR OLD."disbursed" IS DISTINCT FROM NEW."disbursed" OR '
                'OLD."outstanding" IS DISTINCT FROM NEW."outstanding" OR OLD."principal_outstanding" IS DISTINCT '
                'FROM NEW."principal_outstanding" OR OLD."interest_outstanding" IS DISTINCT FROM '
                'NEW."interest_outstanding" OR OLD."fees_outstanding" IS DISTINCT FROM NEW."fees_outstanding" OR '
                'OLD."penalties_outstanding" IS DISTINCT FROM NEW."penalties_outstanding" OR OLD."overpaid" IS '
                'DISTINCT FROM NEW."overpaid" OR OLD."oldest_due" IS DISTINCT FROM NEW."oldest_due")'
            ),
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('loan')",
            when=(
                'pg_trigger_depth() = 0 AND (NEW."closed_on" IS DISTINCT FROM NULL OR NEW."funded" IS DISTINCT '
                'FROM 0 OR NEW."disbursed" IS DISTINCT FROM 0 OR NEW."outstanding" IS DISTINCT FROM 0 OR '
                'NEW."principal_outstanding" IS DISTINCT FROM 0 OR NEW."interest_outstanding" IS DISTINCT FROM 0 '
                'OR NEW."fees_outstanding" IS DISTINCT FROM 0 OR NEW."penalties_outstanding" IS DISTINCT FROM 0 OR '
                'NEW."overpaid" IS DISTINCT FROM 0 OR NEW."oldest_due" IS DISTINCT FROM NULL)'
            ),
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('loan', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['requested', 'approved']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('loan', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'requested\' AND NEW."status" = '
                "ANY (ARRAY['funding', 'approved', 'rejected', 'withdrawn'])) OR (OLD.\"status\" = "
                "'funding' AND NEW.\"status\" = ANY (ARRAY['approved', 'expired', 'withdrawn'])) OR "
                "(OLD.\"status\" = 'approved' AND NEW.\"status\" = ANY (ARRAY['disbursing', 'active', "
                "'cancelled', 'withdrawn'])) OR (OLD.\"status\" = 'disbursing' AND NEW.\"status\" = ANY "
                "(ARRAY['active', 'approved'])) OR (OLD.\"status\" = 'active' AND NEW.\"status\" = ANY "
                "(ARRAY['closed', 'overpaid', 'written_off'])) OR (OLD.\"status\" = 'overpaid' AND "
                "NEW.\"status\" = ANY (ARRAY['active', 'closed'])) OR (OLD.\"status\" = 'closed' AND "
                'NEW."status" = ANY (ARRAY[\'active\', \'overpaid\'])) OR (OLD."status" IS NULL AND NEW."status" = '
                "ANY (ARRAY['requested', 'approved']))) IS NOT TRUE"
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
                "number",
                "borrower_id",
                "product_id",
                "community_id",
                "external_id",
                "purpose",
                "principal",
                "asset",
                "annual_rate",
                "installments",
                "first_due",
                "status",
                "status_reason",
                "requested_on",
                "approved_on",
                "disbursed_on",
                "matures_on",
                "charged_off_on",
                "written_off_on",
                "fraud",
                "payout_id",
                "boarded",
                "details",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=(
                "purpose",
                "principal",
                "asset",
                "annual_rate",
                "installments",
                "first_due",
                "status",
                "status_reason",
                "approved_on",
                "disbursed_on",
                "matures_on",
                "charged_off_on",
                "written_off_on",
                "fraud",
                "payout_id",
                "details",
            ),
        ),
    ),
    comment="Money lent to a borrower, or asked for.",
    fillfactor=80,
)

LOAN_STATUS_CHANGE = Table(
    "loan_status_change",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("loan_id", "uuid"),
        Column("step", "bigint"),
        Column("before", 'text COLLATE "C"', nullable=True),
        Column("after", 'text COLLATE "C"'),
        Column("reason", 'text COLLATE "C"', nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_loan_status_change_before",
            (
                "before in ('requested', 'funding', 'approved', 'disbursing', 'active', 'overpaid', 'closed', "
                "'written_off', 'rejected', 'withdrawn', 'cancelled', 'expired')"
            ),
        ),
        Check(
            "ck_loan_status_change_after",
            (
                "after in ('requested', 'funding', 'approved', 'disbursing', 'active', 'overpaid', 'closed', "
                "'written_off', 'rejected', 'withdrawn', 'cancelled', 'expired')"
            ),
        ),
        Check("ck_loan_status_change_reason_length", "char_length(reason) between 0 and 300"),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_status_change_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_loan_status_change_loan", ("tenant_id", "loan_id"), "loan", ("tenant_id", "id")),
    ),
    indexes=(Index("uq_loan_status_change_loan_id_step", ("tenant_id", "loan_id", "step"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('loan_status_change')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('loan_status_change')"),
        Trigger("tally_history_only", "AFTER INSERT", "tally.loan_history_only('loan_status_change')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "loan_id", "step", "before", "after", "reason")),
    ),
    comment="One step of a loan's life, written by the database when it happens; ``before`` is None for the first.",
)

LOAN_FUNDING = Table(
    "loan_funding",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("loan_id", "uuid"),
        Column("lender_id", "uuid"),
        Column("amount", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("effective", "date"),
        Column("status", 'text COLLATE "C"'),
        Column("journal_id", "uuid"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_loan_funding_status", "status in ('pledged', 'committed', 'released')"),
        Check("ck_loan_funding_asset", "char_length(asset) between 2 and 32"),
        Check("ck_loan_funding_amount", "amount > 0"),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_funding_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_loan_funding_loan", ("tenant_id", "loan_id"), "loan", ("tenant_id", "id")),
        ForeignKey("fk_loan_funding_lender", ("tenant_id", "lender_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_loan_funding_journal", ("tenant_id", "journal_id"), "journal", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "ix_loan_funding_loan_id_status",
            ("tenant_id", "loan_id", "status", "id"),
            comment="who funds a loan",
        ),
        Index(
            "ix_loan_funding_lender_id_status",
            ("tenant_id", "lender_id", "status", "id"),
            comment="what a lender has lent",
        ),
        Index("ix_loan_funding_journal_id", ("tenant_id", "journal_id", "id"), comment="rows of one journal"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('loan_funding')"),
        Trigger("tally_funded", "AFTER INSERT OR UPDATE OF status", "tally.loan_funded('loan_funding')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('loan_funding')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('loan_funding', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['pledged']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('loan_funding', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'pledged\' AND NEW."status" = '
                "ANY (ARRAY['committed', 'released'])) OR (OLD.\"status\" = 'committed' AND NEW.\"status\" = ANY "
                "(ARRAY['released'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY (ARRAY['pledged']))) IS "
                "NOT TRUE"
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
                "loan_id",
                "lender_id",
                "amount",
                "asset",
                "effective",
                "status",
                "journal_id",
            ),
        ),
        Grant("app", "UPDATE", columns=("status",)),
    ),
    comment=(
        "A lender's part of a loan. The parts of a loan never add up to more than the loan; the database sees to it."
    ),
)

FUNCTIONS = {
    HISTORY: "tally.loan_history()",
    HISTORY_ONLY: "tally.loan_history_only()",
    FUNDED: "tally.loan_funded()",
}
TABLES = (LOAN, LOAN_STATUS_CHANGE, LOAN_FUNDING)


def upgrade() -> None:
    """Loans, their history and funding."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
