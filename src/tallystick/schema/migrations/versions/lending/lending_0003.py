"""schedules, installments and transactions

Revision lending_0003.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "lending_0003"
down_revision = "lending_0002"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# uuid_eq() and not =, because the policy says it with = already: two equalities multiply, the planner believes that a
# tenant has one row, and any index looks as good to it as the right one. OFFSET 0 and the arrays keep it from reading
# all rows of a tenant for those of one statement, as it would before a table has statistics.
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
      THEN (SELECT max(x.effective) FROM (SELECT a.effective FROM tally.loan_allocation a
        JOIN LATERAL (SELECT * FROM tally.loan_schedule s
          WHERE s.tenant_id = me AND s.id = a.schedule_id OFFSET 0) s ON s.current
        WHERE uuid_eq(a.tenant_id, me) AND a.loan_id = l.id GROUP BY a.transaction_id, a.effective
        HAVING sum(a.principal + a.interest + a.fees + a.penalties) <> 0 OR sum(a.overpaid) <> 0) x) END
  FROM (
    SELECT w.id, coalesce(o.principal, 0) AS principal, coalesce(o.interest, 0) AS interest,
      coalesce(o.fees, 0) AS fees, coalesce(o.penalties, 0) AS penalties,
      coalesce(o.principal + o.interest + o.fees + o.penalties, 0) AS total, o.oldest,
      (SELECT coalesce(sum(a.overpaid), 0)::bigint FROM tally.loan_allocation a
        JOIN tally.loan_schedule s ON s.tenant_id = a.tenant_id AND s.id = a.schedule_id
        WHERE uuid_eq(a.tenant_id, me) AND a.loan_id = w.id AND a.overpaid <> 0 AND s.current) AS overpaid
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
      FROM tally.loan_installment i WHERE uuid_eq(i.tenant_id, me) AND i.loan_id = w.id AND i.current
    ) o ON true
  ) t
  WHERE uuid_eq(l.tenant_id, me) AND l.id = t.id AND l.id = ANY (loans);
END $f$"""

TOTAL = """
CREATE FUNCTION tally.loan_total() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid;
  loans uuid[];
BEGIN
  SELECT (array_agg(n.tenant_id))[1], array_agg(DISTINCT n.loan_id) INTO me, loans FROM fresh n;
  IF loans IS NULL THEN
    RETURN NULL;
  END IF;
  -- A plan goes when the next one is there and asks for no less principal.
  IF TG_OP = 'UPDATE' AND EXISTS (
    SELECT FROM (SELECT DISTINCT n.loan_id, n.schedule_id FROM fresh n WHERE NOT n.current) gone
    WHERE (SELECT coalesce(sum(i.principal), 0) FROM tally.loan_installment i
        WHERE uuid_eq(i.tenant_id, me) AND i.schedule_id = gone.schedule_id)
      > (SELECT coalesce(sum(i.principal), 0) FROM tally.loan_installment i
        JOIN LATERAL (SELECT * FROM tally.loan_schedule s
          WHERE s.tenant_id = me AND s.id = i.schedule_id OFFSET 0) s ON s.current
        WHERE uuid_eq(i.tenant_id, me) AND i.loan_id = gone.loan_id AND i.current)
  ) THEN
    RAISE EXCEPTION 'a plan without the next one' USING ERRCODE = 'TS501', TABLE = TG_ARGV[0];
  END IF;
  PERFORM tally.loan_totals(me, loans);
  RETURN NULL;
END $f$"""

PAID_OUT = """
CREATE FUNCTION tally.loan_paid_out() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid;
  loans uuid[];
BEGIN
  SELECT (array_agg(n.tenant_id))[1], array_agg(DISTINCT n.loan_id) INTO me, loans FROM fresh n;
  IF loans IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM 1 FROM tally.loan l WHERE uuid_eq(l.tenant_id, me) AND l.id = ANY (loans) ORDER BY l.id FOR NO KEY UPDATE;
  IF EXISTS (
    SELECT FROM fresh n JOIN tally.loan l ON uuid_eq(l.tenant_id, me) AND l.id = n.loan_id AND l.id = ANY (loans)
    LEFT JOIN LATERAL (
      SELECT * FROM tally.loan_transaction t
      WHERE uuid_eq(t.tenant_id, me) AND t.id = n.reverses_id OFFSET 0) t ON true
    WHERE l.asset <> n.asset OR (t.id IS NOT NULL AND (t.loan_id <> n.loan_id OR t.amount <> n.amount))
      OR n.effective < l.disbursed_on
  ) THEN
    RAISE EXCEPTION 'a transaction of another loan' USING ERRCODE = 'TS501', TABLE = TG_ARGV[0];
  END IF;
  IF EXISTS (
    SELECT FROM fresh n JOIN tally.loan l ON uuid_eq(l.tenant_id, me) AND l.id = n.loan_id AND l.id = ANY (loans)
    LEFT JOIN LATERAL (
      SELECT * FROM tally.loan_transaction t
      WHERE uuid_eq(t.tenant_id, me) AND t.id = n.reverses_id OFFSET 0) t ON true
    WHERE l.status = 'written_off'
      AND coalesce(t.kind, n.kind) NOT IN ('write_off', 'recovery', 'boarding', 'disbursement')
  ) THEN
    RAISE EXCEPTION 'the loan is written off' USING ERRCODE = 'TS502', TABLE = TG_ARGV[0];
  END IF;
  UPDATE tally.loan l SET disbursed = l.disbursed + d.amount
  FROM (
    SELECT n.loan_id AS id, sum(CASE WHEN n.kind = 'disbursement' THEN n.amount
      WHEN t.kind = 'disbursement' THEN -n.amount END)::bigint AS amount
    FROM fresh n LEFT JOIN LATERAL (
      SELECT * FROM tally.loan_transaction t
      WHERE uuid_eq(t.tenant_id, me) AND t.id = n.reverses_id OFFSET 0) t ON true
    WHERE 'disbursement' IN (n.kind, t.kind) GROUP BY n.loan_id
  ) d
  WHERE uuid_eq(l.tenant_id, me) AND l.id = d.id AND l.id = ANY (loans);
  RETURN NULL;
END $f$"""

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
        Index(
            "ix_loan_schedule_loan_id",
            ("tenant_id", "loan_id", "id"),
            where="reason in ('reschedule', 'reage', 'reamortize')",
            comment="restructured loans",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('loan_schedule')"),
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
            "ck_loan_installment_principal_settled", "principal_paid + principal_written_off between 0 and principal"
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
        ForeignKey("fk_loan_installment_schedule", ("tenant_id", "schedule_id"), "loan_schedule", ("tenant_id", "id")),
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
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('loan_installment')"),
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

LOAN_TRANSACTION = Table(
    "loan_transaction",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("loan_id", "uuid"),
        Column("seq", "bigint"),
        Column("kind", 'text COLLATE "C"'),
        Column("effective", "date"),
        Column("amount", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("principal", "bigint"),
        Column("interest", "bigint"),
        Column("fees", "bigint"),
        Column("penalties", "bigint"),
        Column("overpaid", "bigint"),
        Column("reverses_id", "uuid", nullable=True),
        Column("concerns_id", "uuid", nullable=True),
        Column("journal_id", "uuid", nullable=True),
        Column("external_id", 'text COLLATE "C"', nullable=True),
        Column("reason", 'text COLLATE "C"', nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_loan_transaction_kind",
            (
                "kind in ('disbursement', 'repayment', 'down_payment', 'goodwill', 'waiver', 'refund', "
                "'chargeback', 'charge_off', 'write_off', 'recovery', 'reversal', 'boarding', 'restructure')"
            ),
        ),
        Check("ck_loan_transaction_external_id_length", "char_length(external_id) between 1 and 120"),
        Check("ck_loan_transaction_reason_length", "char_length(reason) between 0 and 300"),
        Check("ck_loan_transaction_asset", "char_length(asset) between 2 and 32"),
        Check("ck_loan_transaction_seq", "seq >= 1"),
        Check("ck_loan_transaction_amount", "amount > 0"),
        Check("ck_loan_transaction_concerns", "(kind = 'chargeback') = (concerns_id is not null)"),
        Check("ck_loan_transaction_reverses", "(kind = 'reversal') = (reverses_id is not null)"),
        Check(
            "ck_loan_transaction_parts",
            (
                "kind in ('recovery', 'reversal', 'restructure', 'chargeback') or principal + interest + fees + "
                "penalties + overpaid = amount"
            ),
        ),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_transaction_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_loan_transaction_loan", ("tenant_id", "loan_id"), "loan", ("tenant_id", "id")),
        ForeignKey(
            "fk_loan_transaction_reverses", ("tenant_id", "reverses_id"), "loan_transaction", ("tenant_id", "id")
        ),
        ForeignKey(
            "fk_loan_transaction_concerns", ("tenant_id", "concerns_id"), "loan_transaction", ("tenant_id", "id")
        ),
        ForeignKey("fk_loan_transaction_journal", ("tenant_id", "journal_id"), "journal", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_loan_transaction_loan_id_seq", ("tenant_id", "loan_id", "seq"), unique=True),
        Index("uq_loan_transaction_reverses_id", ("tenant_id", "reverses_id"), unique=True),
        Index("uq_loan_transaction_journal_id", ("tenant_id", "journal_id"), unique=True),
        Index("uq_loan_transaction_external_id", ("tenant_id", "external_id"), unique=True),
        Index(
            "ix_loan_transaction_loan_id_effective_seq",
            ("tenant_id", "loan_id", "effective", "seq", "id"),
            comment="a loan's transactions by business date",
        ),
        Index("ix_loan_transaction_effective", ("tenant_id", "effective", "id"), comment="transactions of a period"),
        Index(
            "ix_loan_transaction_concerns_id",
            ("tenant_id", "concerns_id", "id"),
            where="concerns_id is not null",
            comment="the chargebacks of a payment",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('loan_transaction')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('loan_transaction')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_paid_out",
            "AFTER INSERT",
            "tally.loan_paid_out('loan_transaction')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
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
                "seq",
                "kind",
                "effective",
                "amount",
                "asset",
                "principal",
                "interest",
                "fees",
                "penalties",
                "overpaid",
                "reverses_id",
                "concerns_id",
                "journal_id",
                "external_id",
                "reason",
            ),
        ),
    ),
    comment="One thing that happened to a loan: kind, business date, amount, and its parts when it was recorded.",
)

FUNCTIONS = {TOTALS: "tally.loan_totals(uuid, uuid[])", TOTAL: "tally.loan_total()", PAID_OUT: "tally.loan_paid_out()"}
TABLES = (LOAN_SCHEDULE, LOAN_INSTALLMENT, LOAN_TRANSACTION)


def upgrade() -> None:
    """Schedules, installments and transactions."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
