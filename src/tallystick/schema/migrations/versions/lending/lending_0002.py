"""pauses, funding, schedules and their installments

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

# What loans owe, from their current installments; and, once money was paid out, the status that follows from it.
TOTALS = """
CREATE FUNCTION tally.loan_totals(me uuid, loans uuid[]) RETURNS void LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  UPDATE tally.loan l SET principal_outstanding = t.principal, interest_outstanding = t.interest,
    fees_outstanding = t.fees, penalties_outstanding = t.penalties, outstanding = t.total,
    overpaid = t.overpaid, oldest_due = t.oldest,
    status = CASE WHEN l.status NOT IN ('active', 'overpaid', 'closed') THEN l.status
      WHEN t.total > 0 THEN 'active' WHEN t.overpaid > 0 THEN 'overpaid' ELSE 'closed' END,
    closed_on = CASE WHEN l.status IN ('active', 'overpaid', 'closed') AND t.total = 0 AND t.overpaid = 0
      THEN (SELECT max(a.effective) FROM tally.loan_allocation a WHERE a.tenant_id = me AND a.loan_id = l.id) END
  FROM (
    SELECT w.id, coalesce(o.principal, 0) AS principal, coalesce(o.interest, 0) AS interest,
      coalesce(o.fees, 0) AS fees, coalesce(o.penalties, 0) AS penalties,
      coalesce(o.principal + o.interest + o.fees + o.penalties, 0) AS total, o.oldest,
      (SELECT coalesce(sum(a.overpaid), 0)::bigint FROM tally.loan_allocation a
        JOIN tally.loan_schedule s ON s.tenant_id = a.tenant_id AND s.id = a.schedule_id
        WHERE a.tenant_id = me AND a.loan_id = w.id AND a.overpaid <> 0 AND s.current) AS overpaid
    FROM unnest(loans) w (id)
    LEFT JOIN LATERAL (
      SELECT sum(i.principal - i.principal_paid - i.principal_written_off)::bigint AS principal,
        sum(i.interest - i.interest_paid - i.interest_waived - i.interest_written_off)::bigint AS interest,
        sum(i.fees - i.fees_paid - i.fees_waived - i.fees_written_off)::bigint AS fees,
        sum(i.penalties - i.penalties_paid - i.penalties_waived - i.penalties_written_off)::bigint AS penalties,
        min(i.due) FILTER (WHERE i.principal + i.interest + i.fees + i.penalties > i.principal_paid
          + i.principal_written_off + i.interest_paid + i.interest_waived + i.interest_written_off + i.fees_paid
          + i.fees_waived + i.fees_written_off + i.penalties_paid + i.penalties_waived + i.penalties_written_off)
          AS oldest
      FROM tally.loan_installment i WHERE i.tenant_id = me AND i.loan_id = w.id AND i.current
    ) o ON true
  ) t
  WHERE l.tenant_id = me AND l.id = t.id;
END $f$"""

TOTAL = """
CREATE FUNCTION tally.loan_total() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid;
  loans uuid[];
BEGIN
  SELECT (array_agg(n.tenant_id))[1], array_agg(DISTINCT n.loan_id) INTO me, loans FROM fresh n;
  IF loans IS NOT NULL THEN
    PERFORM tally.loan_totals(me, loans);
  END IF;
  RETURN NULL;
END $f$"""

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

LOAN_SCHEDULE = Table(
    "loan_schedule",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("loan_id", "uuid"),
        Column("edition", "bigint"),
        Column("reason", 'text COLLATE "C"'),
        Column("since", "date"),
        Column("current", "boolean"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_loan_schedule_reason",
            "reason in ('original', 'tranche', 'boarded', 'reschedule', 'reage', 'reamortize')",
        ),
        Check("ck_loan_schedule_edition", "edition >= 1"),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_schedule_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_loan_schedule_loan", ("tenant_id", "loan_id"), "loan", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_loan_schedule_loan_id_edition", ("tenant_id", "loan_id", "edition"), unique=True),
        Index("uq_loan_schedule_loan_id", ("tenant_id", "loan_id"), unique=True, where="(current)"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('loan_schedule')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "loan_id", "edition", "reason", "since", "current")),
        Grant("app", "UPDATE", columns=("current",)),
    ),
    comment=(
        "A version of a loan's plan, in force from ``since`` until the next version's. Versions are never edited."
    ),
)

LOAN_INSTALLMENT = Table(
    "loan_installment",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("loan_id", "uuid"),
        Column("schedule_id", "uuid"),
        Column("seq", "bigint"),
        Column("kind", 'text COLLATE "C"'),
        Column("start", "date"),
        Column("due", "date"),
        Column("principal", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("interest", "bigint"),
        Column("fees", "bigint"),
        Column("penalties", "bigint"),
        Column("principal_paid", "bigint", default="0"),
        Column("interest_paid", "bigint", default="0"),
        Column("fees_paid", "bigint", default="0"),
        Column("penalties_paid", "bigint", default="0"),
        Column("interest_waived", "bigint", default="0"),
        Column("fees_waived", "bigint", default="0"),
        Column("penalties_waived", "bigint", default="0"),
        Column("principal_written_off", "bigint", default="0"),
        Column("interest_written_off", "bigint", default="0"),
        Column("fees_written_off", "bigint", default="0"),
        Column("penalties_written_off", "bigint", default="0"),
        Column("settled_on", "date", nullable=True),
        Column("current", "boolean"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_loan_installment_kind", "kind in ('regular', 'down_payment', 'additional')"),
        Check("ck_loan_installment_asset", "char_length(asset) between 2 and 32"),
        Check("ck_loan_installment_seq", "seq between 1 and 10000"),
        Check("ck_loan_installment_dates", "start <= due"),
        Check("ck_loan_installment_due", "principal >= 0 and interest >= 0 and fees >= 0 and penalties >= 0"),
        Check(
            "ck_loan_installment_principal_settled",
            "principal_paid + principal_written_off between 0 and principal",
        ),
        Check(
            "ck_loan_installment_interest_settled",
            "interest_paid + interest_waived + interest_written_off between 0 and interest",
        ),
        Check("ck_loan_installment_fees_settled", "fees_paid + fees_waived + fees_written_off between 0 and fees"),
        Check(
            "ck_loan_installment_penalties_settled",
            "penalties_paid + penalties_waived + penalties_written_off between 0 and penalties",
        ),
        Check(
            "ck_loan_installment_parts",
            (
                "least(principal_paid, interest_paid, fees_paid, penalties_paid, interest_waived, fees_waived, "
                "penalties_waived, principal_written_off, interest_written_off, fees_written_off, "
                "penalties_written_off) >= 0"
            ),
        ),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_installment_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_loan_installment_loan", ("tenant_id", "loan_id"), "loan", ("tenant_id", "id")),
        ForeignKey(
            "fk_loan_installment_schedule",
            ("tenant_id", "schedule_id"),
            "loan_schedule",
            ("tenant_id", "id"),
        ),
    ),
    indexes=(
        Index("uq_loan_installment_schedule_id_seq", ("tenant_id", "schedule_id", "seq"), unique=True),
        Index(
            "ix_loan_installment_loan_id_seq",
            ("tenant_id", "loan_id", "seq", "id"),
            where="current",
            comment="the current plan of a loan",
        ),
        Index(
            "ix_loan_installment_due",
            ("tenant_id", "due", "id"),
            where="current and settled_on is null",
            comment="what falls due when: expected cash flow",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('loan_installment')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('loan_installment')",
            when=(
                'pg_trigger_depth() = 0 AND (OLD."principal_paid" IS DISTINCT FROM NEW."principal_paid" OR '
                'OLD."interest_paid" IS DISTINCT FROM NEW."interest_paid" OR OLD."fees_paid" IS DISTINCT FROM '
                'NEW."fees_paid" OR OLD."penalties_paid" IS DISTINCT FROM NEW."penalties_paid" OR '
                'OLD."interest_waived" IS DISTINCT FROM NEW."interest_waived" OR OLD."fees_waived" IS DISTINCT '
                'FROM NEW."fees_waived" OR OLD."penalties_waived" IS DISTINCT FROM NEW."penalties_waived" OR '
                'OLD."principal_written_off" IS DISTINCT FROM NEW."principal_written_off" OR '
                'OLD."interest_written_off" IS DISTINCT FROM NEW."interest_written_off" OR OLD."fees_written_off" '
                'IS DISTINCT FROM NEW."fees_written_off" OR OLD."penalties_written_off" IS DISTINCT FROM '
                'NEW."penalties_written_off" OR OLD."settled_on" IS DISTINCT FROM NEW."settled_on")'
            ),
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('loan_installment')",
            when=(
                'pg_trigger_depth() = 0 AND (NEW."principal_paid" IS DISTINCT FROM 0 OR NEW."interest_paid" IS '
                'DISTINCT FROM 0 OR NEW."fees_paid" IS DISTINCT FROM 0 OR NEW."penalties_paid" IS DISTINCT FROM 0 '
                'OR NEW."interest_waived" IS DISTINCT FROM 0 OR NEW."fees_waived" IS DISTINCT FROM 0 OR '
                'NEW."penalties_waived" IS DISTINCT FROM 0 OR NEW."principal_written_off" IS DISTINCT FROM 0 OR '
                'NEW."interest_written_off" IS DISTINCT FROM 0 OR NEW."fees_written_off" IS DISTINCT FROM 0 OR '
                'NEW."penalties_written_off" IS DISTINCT FROM 0 OR NEW."settled_on" IS DISTINCT FROM NULL)'
            ),
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_total_changed",
            "AFTER UPDATE",
            "tally.loan_total('loan_installment')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        Trigger(
            "tally_total_new",
            "AFTER INSERT",
            "tally.loan_total('loan_installment')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
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
                "loan_id",
                "schedule_id",
                "seq",
                "kind",
                "start",
                "due",
                "principal",
                "asset",
                "interest",
                "fees",
                "penalties",
                "current",
            ),
        ),
        Grant("app", "UPDATE", columns=("current",)),
    ),
    comment="One installment of a version: what is due, and what of it was paid, waived and written off.",
    fillfactor=80,
)

FUNCTIONS = {
    FUNDED: "tally.loan_funded()",
    TOTALS: "tally.loan_totals(uuid, uuid[])",
    TOTAL: "tally.loan_total()",
}
TABLES = (DELINQUENCY_PAUSE, LOAN_FUNDING, LOAN_SCHEDULE, LOAN_INSTALLMENT)


def upgrade() -> None:
    """Pauses, funding, schedules and their installments."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
