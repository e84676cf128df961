"""journals, transfers, and the trigger that maintains balances

Revision ledger_0002.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo, role

revision = "ledger_0002"
down_revision = "ledger_0001"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# The argument is the logical table. The tenant is the rows' own, which the policies hold to the session's: they raise
# when none is set, for the owner too. Every statement on a tenant's table names that tenant and none joins one with the
# transition table: that is what a worker of Citus can run. Accounts are updated one by one in the order of their ids,
# which takes their locks (FOR NO KEY UPDATE) in that order; each statement begins after the locks before it were
# granted and so sees what they waited for.
APPLY = """
CREATE FUNCTION tally.ledger_apply() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid;
  journals uuid[];
  resolved uuid[];
  pendings uuid[] := '{}';
  reserved numeric[] := '{}';
  written timestamp with time zone;
  ceilings jsonb;
  day date;
  days date[];
  headers bigint;
  state text;
  lanes bigint;
  touched bigint;
  one record;
  held record;
BEGIN
  SELECT (array_agg(n.tenant_id))[1], array_agg(DISTINCT n.journal_id),
      array_agg(n.resolves_id) FILTER (WHERE n.resolves_id IS NOT NULL), max(n.created_at)
    INTO me, journals, resolved, written FROM fresh n;
  IF journals IS NULL THEN
    RETURN NULL;
  END IF;
  IF EXISTS (SELECT FROM fresh n WHERE n.tenant_id <> me) THEN
    RAISE EXCEPTION 'one statement posts for one tenant' USING ERRCODE = 'TS304', TABLE = TG_ARGV[0];
  END IF;

  -- A journal is whole when it is written: nothing is added to it in a later transaction.
  SELECT array_agg(DISTINCT j.effective), count(*) INTO days, headers FROM tally.journal j
    WHERE j.tenant_id = me AND j.id = ANY (journals) AND j.created_at = written;
  IF headers <> cardinality(journals) THEN
    RAISE EXCEPTION 'rows of % are written with their journal', TG_ARGV[0]
      USING ERRCODE = 'TS301', TABLE = TG_ARGV[0];
  END IF;

  FOREACH day IN ARRAY days LOOP
    SELECT p.status INTO state FROM tally.accounting_period p
      WHERE p.tenant_id = me AND p.starts_on <= day AND p.ends_on >= day FOR SHARE;
    IF NOT FOUND THEN
      PERFORM pg_advisory_xact_lock_shared(hashtextextended('tally period ' || me, 0));
      SELECT p.status INTO state FROM tally.accounting_period p
        WHERE p.tenant_id = me AND p.starts_on <= day AND p.ends_on >= day FOR SHARE;
    END IF;
    IF state <> 'open' THEN
      RAISE EXCEPTION 'the accounting period is %', state USING ERRCODE = 'TS302', TABLE = TG_ARGV[0];
    END IF;
  END LOOP;

  SELECT t.settings #> '{ledger,checker_above}' INTO ceilings FROM tally_ref.tenant t WHERE t.id = me;
  IF ceilings IS NOT NULL THEN
    FOR one IN
      SELECT n.journal_id, bool_or(n.total > (ceilings ->> n.asset)::numeric) AS above
      FROM (SELECT f.journal_id, f.asset, sum(f.amount) AS total FROM fresh f
        WHERE f.phase IN ('posted', 'pending') GROUP BY f.journal_id, f.asset) n
      GROUP BY n.journal_id
    LOOP
      CONTINUE WHEN one.above IS NOT TRUE;
      SELECT p.created_by AS maker, p.legs INTO held FROM tally.journal_proposal p
        JOIN tally.journal j ON j.tenant_id = p.tenant_id AND j.proposal_id = p.id
        WHERE p.tenant_id = me AND j.tenant_id = me AND j.id = one.journal_id;
      IF NOT FOUND OR held.maker = current_setting('tally.actor') OR held.legs IS DISTINCT FROM (
        SELECT jsonb_agg(jsonb_build_object('debit', f.debit_id, 'credit', f.credit_id, 'asset', f.asset,
          'amount', f.amount::text) ORDER BY f.seq) FROM fresh f WHERE f.journal_id = one.journal_id)
      THEN
        RAISE EXCEPTION 'the journal needs a second person' USING ERRCODE = 'TS407', TABLE = TG_ARGV[0];
      END IF;
    END LOOP;
  END IF;

  FOR held IN
    SELECT t.id, t.debit_id, t.credit_id, t.amount, t.phase FROM tally.transfer t
    WHERE t.tenant_id = me AND t.id = ANY (resolved)
  LOOP
    IF held.phase <> 'pending' OR NOT EXISTS (SELECT FROM fresh n WHERE n.resolves_id = held.id
      AND n.debit_id = held.debit_id AND n.credit_id = held.credit_id
      AND (n.amount = held.amount OR n.phase = 'post' AND n.amount < held.amount))
    THEN
      RAISE EXCEPTION 'the transfer does not fit what it resolves' USING ERRCODE = 'TS303', TABLE = TG_ARGV[0];
    END IF;
    pendings := pendings || held.id;
    reserved := reserved || held.amount;
  END LOOP;

  FOR one IN
    SELECT x.account, sum(x.dr) AS dr, sum(x.cr) AS cr, sum(x.dp) AS dp, sum(x.cp) AS cp,
      get_byte(uuid_send((array_agg(x.journal_id))[1]), 15) AS lot
    FROM (
      SELECT d.debit_id AS account, d.final AS dr, 0 AS cr, d.waits AS dp, 0 AS cp, d.journal_id FROM (
        SELECT n.*, CASE WHEN n.phase IN ('posted', 'post') THEN n.amount ELSE 0 END AS final,
          CASE n.phase WHEN 'pending' THEN n.amount WHEN 'posted' THEN 0
            ELSE -reserved[array_position(pendings, n.resolves_id)] END AS waits FROM fresh n) d
      UNION ALL
      SELECT c.credit_id, 0, c.final, 0, c.waits, c.journal_id FROM (
        SELECT n.*, CASE WHEN n.phase IN ('posted', 'post') THEN n.amount ELSE 0 END AS final,
          CASE n.phase WHEN 'pending' THEN n.amount WHEN 'posted' THEN 0
            ELSE -reserved[array_position(pendings, n.resolves_id)] END AS waits FROM fresh n) c
    ) x GROUP BY x.account ORDER BY x.account
  LOOP
    UPDATE tally.account a SET debits = a.debits + one.dr, credits = a.credits + one.cr,
        debits_pending = a.debits_pending + one.dp, credits_pending = a.credits_pending + one.cp
      WHERE a.tenant_id = me AND a.id = one.account AND a.stripes = 0;
    GET DIAGNOSTICS touched = ROW_COUNT;
    IF touched = 0 THEN
      SELECT a.stripes INTO lanes FROM tally.account a WHERE a.tenant_id = me AND a.id = one.account;
      UPDATE tally.account_stripe s SET debits = s.debits + one.dr, credits = s.credits + one.cr,
          debits_pending = s.debits_pending + one.dp, credits_pending = s.credits_pending + one.cp
        WHERE s.tenant_id = me AND s.account_id = one.account AND s.number = one.lot % nullif(lanes, 0);
      GET DIAGNOSTICS touched = ROW_COUNT;
    END IF;
    IF touched <> 1 THEN
      RAISE EXCEPTION 'an account of the journal was not touched' USING ERRCODE = 'TS304', TABLE = TG_ARGV[0];
    END IF;
  END LOOP;
  RETURN NULL;
END $f$"""

# What the trigger keeps, from the beginning: what was posted, and what is pending and not resolved yet.
SUMS = """
CREATE FUNCTION tally.account_sums(me uuid, accounts uuid[])
  RETURNS TABLE (id uuid, debits numeric, credits numeric, debits_pending numeric, credits_pending numeric)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT x.account, sum(x.dr), sum(x.cr), sum(x.dp), sum(x.cp)
  FROM (
    SELECT w.account, 0::numeric AS dr, 0::numeric AS cr, 0::numeric AS dp, 0::numeric AS cp
    FROM unnest(accounts) w (account)
    UNION ALL
    SELECT d.debit_id, CASE WHEN d.phase IN ('posted', 'post') THEN d.amount ELSE 0 END, 0,
      CASE WHEN d.phase = 'pending' AND NOT EXISTS (SELECT FROM tally.transfer r
        WHERE r.tenant_id = me AND r.resolves_id = d.id) THEN d.amount ELSE 0 END, 0
    FROM tally.transfer d WHERE d.tenant_id = me AND d.debit_id = ANY (accounts)
    UNION ALL
    SELECT c.credit_id, 0, CASE WHEN c.phase IN ('posted', 'post') THEN c.amount ELSE 0 END, 0,
      CASE WHEN c.phase = 'pending' AND NOT EXISTS (SELECT FROM tally.transfer r
        WHERE r.tenant_id = me AND r.resolves_id = c.id) THEN c.amount ELSE 0 END
    FROM tally.transfer c WHERE c.tenant_id = me AND c.credit_id = ANY (accounts)
  ) x GROUP BY x.account
$f$"""
# A striped account's own row stays at zero; were its stripes gone, its sums would be missed in it.
ACCOUNT_DERIVED = """
CREATE FUNCTION tally.account_derived(me uuid, accounts uuid[])
  RETURNS TABLE (id uuid, debits numeric, credits numeric, debits_pending numeric, credits_pending numeric)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  WITH asked AS MATERIALIZED (
    SELECT a.id, a.stripes > 0 AND EXISTS (SELECT FROM tally.account_stripe s
      WHERE s.tenant_id = me AND s.account_id = a.id) AS striped
    FROM tally.account a WHERE a.tenant_id = me AND a.id = ANY (accounts)
  )
  SELECT s.id, s.debits, s.credits, s.debits_pending, s.credits_pending
  FROM tally.account_sums(me, ARRAY(SELECT a.id FROM asked a WHERE NOT a.striped)) s
  UNION ALL
  SELECT a.id, 0, 0, 0, 0 FROM asked a WHERE a.striped
$f$"""
# Which stripe a transfer fell on is not kept. The first one of an account stands for all: it has what the others lack.
STRIPE_DERIVED = """
CREATE FUNCTION tally.account_stripe_derived(me uuid, stripes uuid[])
  RETURNS TABLE (id uuid, debits numeric, credits numeric, debits_pending numeric, credits_pending numeric)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  WITH lanes AS MATERIALIZED (
    SELECT o.account_id, (array_agg(o.id ORDER BY o.number))[1] AS first, sum(o.debits) AS debits,
      sum(o.credits) AS credits, sum(o.debits_pending) AS debits_pending, sum(o.credits_pending) AS credits_pending
    FROM tally.account_stripe o
    WHERE o.tenant_id = me AND o.account_id IN (SELECT a.account_id FROM tally.account_stripe a
      WHERE a.tenant_id = me AND a.id = ANY (stripes))
    GROUP BY o.account_id
  )
  SELECT f.id, f.debits + s.debits - l.debits, f.credits + s.credits - l.credits,
    f.debits_pending + s.debits_pending - l.debits_pending, f.credits_pending + s.credits_pending - l.credits_pending
  FROM tally.account_sums(me, ARRAY(SELECT n.account_id FROM lanes n WHERE n.first = ANY (stripes))) s
  JOIN lanes l ON l.account_id = s.id
  JOIN tally.account_stripe f ON f.tenant_id = me AND f.id = l.first
$f$"""

JOURNAL = Table(
    "journal",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("op", 'text COLLATE "C"'),
        Column("effective", "date"),
        Column("reverses_id", "uuid", nullable=True),
        Column("source", 'text COLLATE "C"', nullable=True),
        Column("source_id", "uuid", nullable=True),
        Column("description", 'text COLLATE "C"', nullable=True),
        Column("proposal_id", "uuid", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_journal_op_length", "char_length(op) between 1 and 64"),
        Check("ck_journal_source_length", "char_length(source) between 1 and 63"),
        Check("ck_journal_description_length", "char_length(description) between 0 and 500"),
        Check("ck_journal_source_pair", "(source is null) = (source_id is null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_journal_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_journal_reverses", ("tenant_id", "reverses_id"), "journal", ("tenant_id", "id")),
        ForeignKey("fk_journal_proposal", ("tenant_id", "proposal_id"), "journal_proposal", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_journal_reverses_id", ("tenant_id", "reverses_id"), unique=True),
        Index("uq_journal_proposal_id", ("tenant_id", "proposal_id"), unique=True),
        Index(
            "ix_journal_effective",
            ("tenant_id", "effective", "id"),
            comment="journals in order of their dates: exports, balances as of a date",
        ),
        Index(
            "ix_journal_source_id",
            ("tenant_id", "source_id", "id"),
            where="source_id is not null",
            comment="journals about one row",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('journal')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('journal')"),
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
                "op",
                "effective",
                "reverses_id",
                "source",
                "source_id",
                "description",
                "proposal_id",
            ),
        ),
    ),
    comment="Transfers that happened together, for one reason. Written once; a mistake is corrected by a reversal.",
)

TRANSFER = Table(
    "transfer",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("journal_id", "uuid"),
        Column("seq", "bigint"),
        Column("debit_id", "uuid"),
        Column("credit_id", "uuid"),
        Column("asset", 'text COLLATE "C"'),
        Column("amount", "numeric(38,0)"),
        Column("phase", 'text COLLATE "C"'),
        Column("resolves_id", "uuid", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_transfer_asset_length", "char_length(asset) between 2 and 32"),
        Check("ck_transfer_phase", "phase in ('posted', 'pending', 'post', 'void')"),
        Check("ck_transfer_seq", "seq between 1 and 1000"),
        Check("ck_transfer_amount", "amount > 0"),
        Check("ck_transfer_sides", "debit_id <> credit_id"),
        Check("ck_transfer_resolves_pair", "(phase in ('post', 'void')) = (resolves_id is not null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_transfer_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_transfer_journal", ("tenant_id", "journal_id"), "journal", ("tenant_id", "id")),
        ForeignKey("fk_transfer_resolves", ("tenant_id", "resolves_id"), "transfer", ("tenant_id", "id")),
        ForeignKey(
            "fk_transfer_debit_asset",
            ("tenant_id", "debit_id", "asset"),
            "account",
            ("tenant_id", "id", "asset"),
        ),
        ForeignKey(
            "fk_transfer_credit_asset",
            ("tenant_id", "credit_id", "asset"),
            "account",
            ("tenant_id", "id", "asset"),
        ),
    ),
    indexes=(
        Index("uq_transfer_journal_id_seq", ("tenant_id", "journal_id", "seq"), unique=True),
        Index("uq_transfer_resolves_id", ("tenant_id", "resolves_id"), unique=True),
        Index("ix_transfer_debit_id", ("tenant_id", "debit_id", "id"), comment="rows of one debit"),
        Index("ix_transfer_credit_id", ("tenant_id", "credit_id", "id"), comment="rows of one credit"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('transfer')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('transfer')"),
        Trigger(
            "tally_apply",
            "AFTER INSERT",
            "tally.ledger_apply('transfer')",
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
                "journal_id",
                "seq",
                "debit_id",
                "credit_id",
                "asset",
                "amount",
                "phase",
                "resolves_id",
            ),
        ),
    ),
    comment="An amount from one account to another of the same asset.",
)

DERIVED = {
    SUMS: "tally.account_sums(uuid, uuid[])",
    ACCOUNT_DERIVED: "tally.account_derived(uuid, uuid[])",
    STRIPE_DERIVED: "tally.account_stripe_derived(uuid, uuid[])",
}


def upgrade() -> None:
    """Journals, transfers, and the trigger that maintains balances."""
    op.invoke(Sql([APPLY, "REVOKE ALL ON FUNCTION tally.ledger_apply() FROM PUBLIC"]))
    op.invoke(CreateTables(JOURNAL, TRANSFER))
    for create, name in DERIVED.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
        op.invoke(Sql([f"GRANT EXECUTE ON FUNCTION {name} TO {role('app')}"]))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(DERIVED.values())]))
    op.invoke(Undo(CreateTables(JOURNAL, TRANSFER)))
    op.invoke(Sql(["DROP FUNCTION tally.ledger_apply()"]))
