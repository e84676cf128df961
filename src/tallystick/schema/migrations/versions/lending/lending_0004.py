"""where the money of transactions went, and charges

Revision lending_0004.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "lending_0004"
down_revision = "lending_0003"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# The loans are locked first, in the order of their ids; each later statement sees what the locks waited for.
ALLOCATE = """
CREATE FUNCTION tally.loan_allocate() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid;
  loans uuid[];
  places uuid[];
  touched bigint;
BEGIN
  SELECT (array_agg(n.tenant_id))[1], array_agg(DISTINCT n.loan_id),
      array_agg(DISTINCT n.installment_id) FILTER (WHERE n.installment_id IS NOT NULL)
    INTO me, loans, places FROM fresh n;
  IF loans IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM 1 FROM tally.loan l WHERE uuid_eq(l.tenant_id, me) AND l.id = ANY (loans) ORDER BY l.id FOR NO KEY UPDATE;

  IF EXISTS (
    SELECT FROM fresh n
    LEFT JOIN LATERAL (SELECT * FROM tally.loan_transaction t
      WHERE uuid_eq(t.tenant_id, me) AND t.id = n.transaction_id OFFSET 0) t ON t.loan_id = n.loan_id
    LEFT JOIN LATERAL (SELECT * FROM tally.loan_transaction c
      WHERE uuid_eq(c.tenant_id, me) AND c.id = n.cause_id OFFSET 0) c ON c.loan_id = n.loan_id
    LEFT JOIN LATERAL (SELECT * FROM tally.loan_schedule s
      WHERE uuid_eq(s.tenant_id, me) AND s.id = n.schedule_id OFFSET 0) s ON s.loan_id = n.loan_id
    LEFT JOIN LATERAL (SELECT * FROM tally.loan_installment i
      WHERE uuid_eq(i.tenant_id, me) AND i.id = n.installment_id OFFSET 0) i
      ON i.schedule_id = n.schedule_id AND i.asset = n.asset
    WHERE t.id IS NULL OR c.id IS NULL OR s.id IS NULL OR (n.installment_id IS NOT NULL AND i.id IS NULL)
      OR t.effective <> n.effective OR t.asset <> n.asset
      OR n.settlement <> CASE t.kind WHEN 'waiver' THEN 'waived' WHEN 'write_off' THEN 'written_off' ELSE 'paid' END
  ) THEN
    RAISE EXCEPTION 'allocations of another loan' USING ERRCODE = 'TS501', TABLE = TG_ARGV[0];
  END IF;
  -- All of a transaction is allocated, and nothing of one that was reversed or that moves nothing.
  IF EXISTS (
    SELECT FROM (SELECT DISTINCT n.transaction_id, n.schedule_id FROM fresh n) n
    CROSS JOIN LATERAL (
      SELECT * FROM tally.loan_transaction t WHERE uuid_eq(t.tenant_id, me) AND t.id = n.transaction_id OFFSET 0) t
    WHERE (SELECT sum(a.principal + a.interest + a.fees + a.penalties + a.overpaid) FROM tally.loan_allocation a
        WHERE uuid_eq(a.tenant_id, me) AND a.transaction_id = n.transaction_id AND a.schedule_id = n.schedule_id)
      <> CASE WHEN EXISTS (
          SELECT FROM tally.loan_transaction r WHERE uuid_eq(r.tenant_id, me) AND r.reverses_id = t.id) THEN 0
        WHEN t.kind = 'refund' THEN -t.amount
        WHEN t.kind IN ('repayment', 'down_payment', 'goodwill', 'waiver', 'write_off', 'boarding') THEN t.amount
        ELSE 0 END
  ) THEN
    RAISE EXCEPTION 'allocations are not the amount' USING ERRCODE = 'TS501', TABLE = TG_ARGV[0];
  END IF;

  IF places IS NULL THEN
    PERFORM tally.loan_totals(me, loans);
    RETURN NULL;
  END IF;
  UPDATE tally.loan_installment i SET
    principal_paid = i.principal_paid + d.principal_paid, interest_paid = i.interest_paid + d.interest_paid,
    fees_paid = i.fees_paid + d.fees_paid, penalties_paid = i.penalties_paid + d.penalties_paid,
    interest_waived = i.interest_waived + d.interest_waived, fees_waived = i.fees_waived + d.fees_waived,
    penalties_waived = i.penalties_waived + d.penalties_waived,
    principal_written_off = i.principal_written_off + d.principal_lost,
    interest_written_off = i.interest_written_off + d.interest_lost,
    fees_written_off = i.fees_written_off + d.fees_lost,
    penalties_written_off = i.penalties_written_off + d.penalties_lost,
    settled_on = CASE WHEN i.principal + i.interest + i.fees + i.penalties = d.total + i.principal_paid
        + i.principal_written_off + i.interest_paid + i.interest_waived + i.interest_written_off + i.fees_paid
        + i.fees_waived + i.fees_written_off + i.penalties_paid + i.penalties_waived + i.penalties_written_off
      THEN (SELECT max(x.effective) FROM (
        SELECT a.effective FROM tally.loan_allocation a WHERE uuid_eq(a.tenant_id, me) AND a.installment_id = i.id
        GROUP BY a.transaction_id, a.effective HAVING sum(a.principal + a.interest + a.fees + a.penalties) <> 0) x) END
  FROM (
    SELECT n.installment_id AS id, sum(n.principal + n.interest + n.fees + n.penalties)::bigint AS total,
      coalesce(sum(n.principal) FILTER (WHERE n.settlement = 'paid'), 0)::bigint AS principal_paid,
      coalesce(sum(n.interest) FILTER (WHERE n.settlement = 'paid'), 0)::bigint AS interest_paid,
      coalesce(sum(n.fees) FILTER (WHERE n.settlement = 'paid'), 0)::bigint AS fees_paid,
      coalesce(sum(n.penalties) FILTER (WHERE n.settlement = 'paid'), 0)::bigint AS penalties_paid,
      coalesce(sum(n.interest) FILTER (WHERE n.settlement = 'waived'), 0)::bigint AS interest_waived,
      coalesce(sum(n.fees) FILTER (WHERE n.settlement = 'waived'), 0)::bigint AS fees_waived,
      coalesce(sum(n.penalties) FILTER (WHERE n.settlement = 'waived'), 0)::bigint AS penalties_waived,
      coalesce(sum(n.principal) FILTER (WHERE n.settlement = 'written_off'), 0)::bigint AS principal_lost,
      coalesce(sum(n.interest) FILTER (WHERE n.settlement = 'written_off'), 0)::bigint AS interest_lost,
      coalesce(sum(n.fees) FILTER (WHERE n.settlement = 'written_off'), 0)::bigint AS fees_lost,
      coalesce(sum(n.penalties) FILTER (WHERE n.settlement = 'written_off'), 0)::bigint AS penalties_lost
    FROM fresh n WHERE n.installment_id IS NOT NULL GROUP BY n.installment_id
  ) d
  WHERE uuid_eq(i.tenant_id, me) AND i.id = d.id AND i.id = ANY (places);
  GET DIAGNOSTICS touched = ROW_COUNT;
  IF touched <> cardinality(places) THEN
    RAISE EXCEPTION 'an installment was not reached' USING ERRCODE = 'TS501', TABLE = TG_ARGV[0];
  END IF;
  RETURN NULL;
END $f$"""

CHARGE = """
CREATE FUNCTION tally.loan_charge() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid;
  loans uuid[];
  places uuid[];
  touched bigint;
BEGIN
  SELECT (array_agg(n.tenant_id))[1], array_agg(DISTINCT n.loan_id), array_agg(DISTINCT n.installment_id)
    INTO me, loans, places FROM fresh n;
  IF loans IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM 1 FROM tally.loan l WHERE uuid_eq(l.tenant_id, me) AND l.id = ANY (loans) ORDER BY l.id FOR NO KEY UPDATE;
  UPDATE tally.loan_installment i SET fees = i.fees + d.fees, penalties = i.penalties + d.penalties,
    principal = i.principal + d.principal, settled_on = NULL
  FROM (
    SELECT n.installment_id AS id, n.loan_id, n.asset,
      coalesce(sum(n.amount) FILTER (WHERE n.kind = 'fee'), 0)::bigint AS fees,
      coalesce(sum(n.amount) FILTER (WHERE n.kind = 'penalty'), 0)::bigint AS penalties,
      coalesce(sum(n.amount) FILTER (WHERE n.kind = 'chargeback'), 0)::bigint AS principal
    FROM fresh n GROUP BY n.installment_id, n.loan_id, n.asset
  ) d
  WHERE uuid_eq(i.tenant_id, me) AND i.id = d.id AND i.loan_id = d.loan_id AND i.asset = d.asset AND i.current
    AND i.id = ANY (places);
  GET DIAGNOSTICS touched = ROW_COUNT;
  IF touched <> cardinality(places) THEN
    RAISE EXCEPTION 'an installment was not reached' USING ERRCODE = 'TS501', TABLE = TG_ARGV[0];
  END IF;
  RETURN NULL;
END $f$"""

LOAN_ALLOCATION = Table(
    "loan_allocation",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("loan_id", "uuid"),
        Column("schedule_id", "uuid"),
        Column("transaction_id", "uuid"),
        Column("cause_id", "uuid"),
        Column("effective", "date"),
        Column("installment_id", "uuid", nullable=True),
        Column("settlement", 'text COLLATE "C"'),
        Column("principal", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("interest", "bigint"),
        Column("fees", "bigint"),
        Column("penalties", "bigint"),
        Column("overpaid", "bigint"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_loan_allocation_settlement", "settlement in ('paid', 'waived', 'written_off')"),
        Check("ck_loan_allocation_asset", "char_length(asset) between 2 and 32"),
        Check("ck_loan_allocation_overpaid", "(installment_id is null) = (overpaid <> 0)"),
        Check(
            "ck_loan_allocation_one_place",
            "overpaid = 0 or (principal = 0 and interest = 0 and fees = 0 and penalties = 0)",
        ),
        Check("ck_loan_allocation_waived", "settlement <> 'waived' or principal = 0"),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_allocation_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_loan_allocation_loan", ("tenant_id", "loan_id"), "loan", ("tenant_id", "id")),
        ForeignKey(
            "fk_loan_allocation_schedule",
            ("tenant_id", "schedule_id"),
            "loan_schedule",
            ("tenant_id", "id"),
        ),
        ForeignKey(
            "fk_loan_allocation_transaction",
            ("tenant_id", "transaction_id"),
            "loan_transaction",
            ("tenant_id", "id"),
        ),
        ForeignKey("fk_loan_allocation_cause", ("tenant_id", "cause_id"), "loan_transaction", ("tenant_id", "id")),
        ForeignKey(
            "fk_loan_allocation_installment",
            ("tenant_id", "installment_id"),
            "loan_installment",
            ("tenant_id", "id"),
        ),
    ),
    indexes=(
        Index(
            "ix_loan_allocation_transaction_id",
            ("tenant_id", "transaction_id", "id"),
            comment="where a transaction's money went",
        ),
        Index(
            "ix_loan_allocation_loan_id_effective",
            ("tenant_id", "loan_id", "effective", "id"),
            comment="what a loan had paid by a date",
        ),
        Index(
            "ix_loan_allocation_installment_id",
            ("tenant_id", "installment_id", "id"),
            where="installment_id is not null",
            comment="when an installment was settled",
        ),
        Index(
            "ix_loan_allocation_loan_id_schedule_id",
            ("tenant_id", "loan_id", "schedule_id", "id"),
            where="overpaid <> 0",
            comment="what is owed to a borrower",
        ),
        Index("ix_loan_allocation_schedule_id", ("tenant_id", "schedule_id", "id"), comment="rows of one schedule"),
        Index("ix_loan_allocation_cause_id", ("tenant_id", "cause_id", "id"), comment="rows of one cause"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('loan_allocation')"),
        Trigger(
            "tally_allocate",
            "AFTER INSERT",
            "tally.loan_allocate('loan_allocation')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('loan_allocation')"),
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
                "schedule_id",
                "transaction_id",
                "cause_id",
                "effective",
                "installment_id",
                "settlement",
                "principal",
                "asset",
                "interest",
                "fees",
                "penalties",
                "overpaid",
            ),
        ),
    ),
    comment=(
        "Where a part of a transaction went: to an installment, or, without one, to what is owed to the borrower."
    ),
)

LOAN_CHARGE = Table(
    "loan_charge",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("loan_id", "uuid"),
        Column("installment_id", "uuid"),
        Column("kind", 'text COLLATE "C"'),
        Column("code", 'text COLLATE "C"'),
        Column("due", "date"),
        Column("effective", "date"),
        Column("after", "bigint"),
        Column("amount", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("source_id", "uuid", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_loan_charge_kind", "kind in ('fee', 'penalty', 'chargeback')"),
        Check("ck_loan_charge_code_length", "char_length(code) between 1 and 40"),
        Check("ck_loan_charge_asset", "char_length(asset) between 2 and 32"),
        Check("ck_loan_charge_amount", "amount > 0"),
        Check("ck_loan_charge_effective", "effective <= due and after >= 1"),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_charge_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_loan_charge_loan", ("tenant_id", "loan_id"), "loan", ("tenant_id", "id")),
        ForeignKey(
            "fk_loan_charge_installment",
            ("tenant_id", "installment_id"),
            "loan_installment",
            ("tenant_id", "id"),
        ),
        ForeignKey("fk_loan_charge_source", ("tenant_id", "source_id"), "loan_transaction", ("tenant_id", "id")),
    ),
    indexes=(
        Index("ix_loan_charge_loan_id_due", ("tenant_id", "loan_id", "due", "id"), comment="the charges of a loan"),
        Index(
            "uq_loan_charge_installment_id_code",
            ("tenant_id", "installment_id", "code"),
            unique=True,
            where="(code = 'late')",
        ),
        Index("ix_loan_charge_source_id", ("tenant_id", "source_id", "id"), comment="rows of one source"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('loan_charge')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('loan_charge')"),
        Trigger(
            "tally_charge",
            "AFTER INSERT",
            "tally.loan_charge('loan_charge')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
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
                "installment_id",
                "kind",
                "code",
                "due",
                "effective",
                "after",
                "amount",
                "asset",
                "source_id",
            ),
        ),
    ),
    comment="Something added to what an installment owes: a fee, a penalty, or the amount of a chargeback.",
)

FUNCTIONS = {
    ALLOCATE: "tally.loan_allocate()",
    CHARGE: "tally.loan_charge()",
}
TABLES = (LOAN_ALLOCATION, LOAN_CHARGE)


def upgrade() -> None:
    """Where the money of transactions went, and charges."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
