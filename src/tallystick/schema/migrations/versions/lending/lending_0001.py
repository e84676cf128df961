"""products, loans, schedules, transactions and their allocations

Revision lending_0001, after nothing: the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "lending_0001"
down_revision = None
branch_labels = ("lending",)
depends_on = ["kit_0001", "identity_0001", "ledger_0002"]
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

HISTORY = """
CREATE FUNCTION tally.loan_history() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF NEW.status = OLD.status THEN
      RETURN NULL;
    END IF;
    INSERT INTO tally.loan_status_change (tenant_id, id, loan_id, before, after, reason)
      VALUES (NEW.tenant_id, gen_random_uuid(), NEW.id, OLD.status, NEW.status, NEW.status_reason);
  ELSE
    INSERT INTO tally.loan_status_change (tenant_id, id, loan_id, before, after, reason)
      VALUES (NEW.tenant_id, gen_random_uuid(), NEW.id, NULL, NEW.status, NEW.status_reason);
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
  PERFORM 1 FROM tally.loan l WHERE l.tenant_id = me AND l.id = ANY (loans) ORDER BY l.id FOR NO KEY UPDATE;

  IF EXISTS (
    SELECT FROM fresh n
    LEFT JOIN tally.loan_transaction t ON t.tenant_id = me AND t.id = n.transaction_id AND t.loan_id = n.loan_id
    LEFT JOIN tally.loan_transaction c ON c.tenant_id = me AND c.id = n.cause_id AND c.loan_id = n.loan_id
    LEFT JOIN tally.loan_schedule s ON s.tenant_id = me AND s.id = n.schedule_id AND s.loan_id = n.loan_id
    LEFT JOIN tally.loan_installment i
      ON i.tenant_id = me AND i.id = n.installment_id AND i.schedule_id = n.schedule_id AND i.asset = n.asset
    WHERE t.id IS NULL OR c.id IS NULL OR s.id IS NULL OR (n.installment_id IS NOT NULL AND i.id IS NULL)
      OR t.effective <> n.effective OR t.asset <> n.asset
      OR n.settlement <> CASE t.kind WHEN 'waiver' THEN 'waived' WHEN 'write_off' THEN 'written_off' ELSE 'paid' END
  ) THEN
    RAISE EXCEPTION 'allocations of another loan' USING ERRCODE = 'TS501', TABLE = TG_ARGV[0];
  END IF;
  -- All of a transaction is allocated, and nothing of one that was reversed or that moves nothing.
  IF EXISTS (
    SELECT FROM (SELECT DISTINCT n.transaction_id, n.schedule_id FROM fresh n) n
    JOIN tally.loan_transaction t ON t.tenant_id = me AND t.id = n.transaction_id
    WHERE (SELECT sum(a.principal + a.interest + a.fees + a.penalties + a.overpaid) FROM tally.loan_allocation a
        WHERE a.tenant_id = me AND a.transaction_id = n.transaction_id AND a.schedule_id = n.schedule_id)
      <> CASE WHEN EXISTS (SELECT FROM tally.loan_transaction r WHERE r.tenant_id = me AND r.reverses_id = t.id) THEN 0
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
        SELECT a.effective FROM tally.loan_allocation a WHERE a.tenant_id = me AND a.installment_id = i.id
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
  WHERE i.tenant_id = me AND i.id = d.id;
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
  PERFORM 1 FROM tally.loan l WHERE l.tenant_id = me AND l.id = ANY (loans) ORDER BY l.id FOR NO KEY UPDATE;
  UPDATE tally.loan_installment i SET fees = i.fees + d.fees, penalties = i.penalties + d.penalties,
    principal = i.principal + d.principal, settled_on = NULL
  FROM (
    SELECT n.installment_id AS id, n.loan_id, n.asset,
      coalesce(sum(n.amount) FILTER (WHERE n.kind = 'fee'), 0)::bigint AS fees,
      coalesce(sum(n.amount) FILTER (WHERE n.kind = 'penalty'), 0)::bigint AS penalties,
      coalesce(sum(n.amount) FILTER (WHERE n.kind = 'chargeback'), 0)::bigint AS principal
    FROM fresh n GROUP BY n.installment_id, n.loan_id, n.asset
  ) d
  WHERE i.tenant_id = me AND i.id = d.id AND i.loan_id = d.loan_id AND i.asset = d.asset AND i.current;
  GET DIAGNOSTICS touched = ROW_COUNT;
  IF touched <> cardinality(places) THEN
    RAISE EXCEPTION 'an installment was not reached' USING ERRCODE = 'TS501', TABLE = TG_ARGV[0];
  END IF;
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
  PERFORM 1 FROM tally.loan l WHERE l.tenant_id = me AND l.id = ANY (loans) ORDER BY l.id FOR NO KEY UPDATE;
  IF EXISTS (
    SELECT FROM fresh n JOIN tally.loan l ON l.tenant_id = me AND l.id = n.loan_id
    LEFT JOIN tally.loan_transaction t ON t.tenant_id = me AND t.id = n.reverses_id
    WHERE l.asset <> n.asset OR (t.id IS NOT NULL AND (t.loan_id <> n.loan_id OR t.amount <> n.amount))
      OR n.effective < l.disbursed_on
  ) THEN
    RAISE EXCEPTION 'a transaction of another loan' USING ERRCODE = 'TS501', TABLE = TG_ARGV[0];
  END IF;
  IF EXISTS (
    SELECT FROM fresh n JOIN tally.loan l ON l.tenant_id = me AND l.id = n.loan_id
    LEFT JOIN tally.loan_transaction t ON t.tenant_id = me AND t.id = n.reverses_id
    WHERE l.status = 'written_off'
      AND coalesce(t.kind, n.kind) NOT IN ('write_off', 'recovery', 'boarding', 'disbursement')
  ) THEN
    RAISE EXCEPTION 'the loan is written off' USING ERRCODE = 'TS502', TABLE = TG_ARGV[0];
  END IF;
  UPDATE tally.loan l SET disbursed = l.disbursed + d.amount
  FROM (
    SELECT n.loan_id AS id, sum(CASE WHEN n.kind = 'disbursement' THEN n.amount
      WHEN t.kind = 'disbursement' THEN -n.amount END)::bigint AS amount
    FROM fresh n LEFT JOIN tally.loan_transaction t ON t.tenant_id = me AND t.id = n.reverses_id
    WHERE 'disbursement' IN (n.kind, t.kind) GROUP BY n.loan_id
  ) d
  WHERE l.tenant_id = me AND l.id = d.id;
  RETURN NULL;
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

BUSINESS_CALENDAR = Table(
    "business_calendar",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("code", 'text COLLATE "C"'),
        Column("weekend", "jsonb"),
        Column("holidays", "jsonb"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(Check("ck_business_calendar_code_length", "char_length(code) between 1 and 40"),),
    foreign_keys=(ForeignKey("fk_business_calendar_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_business_calendar_code", ("tenant_id", "code"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "code", "weekend", "holidays")),
        Grant("app", "UPDATE", columns=("weekend", "holidays")),
        Grant("app", "DELETE"),
    ),
    comment="The days on which a tenant does no business: weekdays (Monday 1 to Sunday 7) and holidays.",
)

LOAN_PRODUCT = Table(
    "loan_product",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("code", 'text COLLATE "C"'),
        Column("edition", "bigint"),
        Column("name", 'text COLLATE "C"'),
        Column("min_principal", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("max_principal", "bigint"),
        Column("min_rate", "numeric(12,8)"),
        Column("default_rate", "numeric(12,8)"),
        Column("max_rate", "numeric(12,8)"),
        Column("min_installments", "bigint"),
        Column("default_installments", "bigint"),
        Column("max_installments", "bigint"),
        Column("terms", "jsonb"),
        Column("servicing", "jsonb"),
        Column("calendar_id", "uuid", nullable=True),
        Column("active", "boolean"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_loan_product_code_length", "char_length(code) between 1 and 60"),
        Check("ck_loan_product_name_length", "char_length(name) between 1 and 200"),
        Check("ck_loan_product_asset", "char_length(asset) between 2 and 32"),
        Check("ck_loan_product_edition", "edition >= 1"),
        Check("ck_loan_product_principal", "0 < min_principal and min_principal <= max_principal"),
        Check("ck_loan_product_rate", "0 <= min_rate and min_rate <= default_rate and default_rate <= max_rate"),
        Check(
            "ck_loan_product_installments",
            (
                "1 <= min_installments and min_installments <= default_installments and default_installments <= "
                "max_installments and max_installments <= 3660"
            ),
        ),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_product_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey(
            "fk_loan_product_calendar",
            ("tenant_id", "calendar_id"),
            "business_calendar",
            ("tenant_id", "id"),
        ),
    ),
    indexes=(
        Index("uq_loan_product_code_edition", ("tenant_id", "code", "edition"), unique=True),
        Index("uq_loan_product_code", ("tenant_id", "code"), unique=True, where="(active)"),
        Index("ix_loan_product_calendar_id", ("tenant_id", "calendar_id", "id"), comment="rows of one calendar"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('loan_product')"),
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
                "code",
                "edition",
                "name",
                "min_principal",
                "asset",
                "max_principal",
                "min_rate",
                "default_rate",
                "max_rate",
                "min_installments",
                "default_installments",
                "max_installments",
                "terms",
                "servicing",
                "calendar_id",
                "active",
            ),
        ),
        Grant("app", "UPDATE", columns=("active",)),
    ),
    comment="What may be lent: amounts, rates, numbers of installments, and the policies, all as data.",
)

LOAN_NUMBER = Table(
    "loan_number",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("series", 'text COLLATE "C"'),
        Column("last", "bigint"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_loan_number_series_length", "char_length(series) between 1 and 20"),
        Check("ck_loan_number_last", "last >= 0"),
    ),
    foreign_keys=(ForeignKey("fk_loan_number_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_loan_number_series", ("tenant_id", "series"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('loan_number')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "series", "last")),
        Grant("app", "UPDATE", columns=("last",)),
    ),
    comment="The last number that was given to a loan of the tenant.",
)

LOAN = Table(
    "loan",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("number", "bigint"),
        Column("borrower_id", "uuid"),
        Column("product_id", "uuid"),
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
            "ix_loan_status_oldest_due",
            ("tenant_id", "status", "oldest_due", "id"),
            comment="collections worklist and portfolio at risk on the business date of today",
        ),
        Index(
            "ix_loan_disbursed_on",
            ("tenant_id", "disbursed_on", "id"),
            comment="loans by the day they were paid out: vintages",
        ),
        Index("ix_loan_product_id", ("tenant_id", "product_id", "id"), comment="rows of one product"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
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
    indexes=(
        Index(
            "ix_loan_status_change_loan_id_created_at",
            ("tenant_id", "loan_id", "created_at", "id"),
            comment="the history of a loan",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('loan_status_change')"),
        Trigger("tally_history_only", "BEFORE INSERT", "tally.loan_history_only('loan_status_change')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "loan_id", "before", "after", "reason")),
    ),
    comment="One step of a loan's life, written by the database when it happens; ``before`` is None for the first.",
)

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
            "fk_loan_transaction_reverses",
            ("tenant_id", "reverses_id"),
            "loan_transaction",
            ("tenant_id", "id"),
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
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
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
                "journal_id",
                "external_id",
                "reason",
            ),
        ),
    ),
    comment="One thing that happened to a loan: kind, business date, amount, and its parts when it was recorded.",
)

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
                "amount",
                "asset",
                "source_id",
            ),
        ),
    ),
    comment="Something added to what an installment owes: a fee, a penalty, or the amount of a chargeback.",
)


FUNCTIONS = {
    HISTORY: "tally.loan_history()",
    HISTORY_ONLY: "tally.loan_history_only()",
    TOTALS: "tally.loan_totals(uuid, uuid[])",
    TOTAL: "tally.loan_total()",
    ALLOCATE: "tally.loan_allocate()",
    CHARGE: "tally.loan_charge()",
    PAID_OUT: "tally.loan_paid_out()",
    FUNDED: "tally.loan_funded()",
}


def upgrade() -> None:
    """Products, loans, schedules, transactions and their allocations."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(
        CreateTables(
            BUSINESS_CALENDAR,
            LOAN_PRODUCT,
            LOAN_NUMBER,
            LOAN,
            LOAN_STATUS_CHANGE,
            DELINQUENCY_PAUSE,
            LOAN_FUNDING,
            LOAN_SCHEDULE,
            LOAN_INSTALLMENT,
            LOAN_TRANSACTION,
            LOAN_ALLOCATION,
            LOAN_CHARGE,
        )
    )


def downgrade() -> None:
    """Take it back."""
    op.invoke(
        Undo(
            CreateTables(
                BUSINESS_CALENDAR,
                LOAN_PRODUCT,
                LOAN_NUMBER,
                LOAN,
                LOAN_STATUS_CHANGE,
                DELINQUENCY_PAUSE,
                LOAN_FUNDING,
                LOAN_SCHEDULE,
                LOAN_INSTALLMENT,
                LOAN_TRANSACTION,
                LOAN_ALLOCATION,
                LOAN_CHARGE,
            ),
        )
    )
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
