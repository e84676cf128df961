"""payouts and bids

Revision savings_0004.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "savings_0004"
down_revision = "savings_0003"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# The round's row is locked first; the statement after it sees what the lock waited for.
PAYOUT = """
CREATE FUNCTION tally.circle_payout() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  r record;
  collected numeric;
  gone numeric;
BEGIN
  SELECT d.status, d.recipient_id, g.order_kind, g.mirrored INTO r FROM tally.group_round d
    JOIN tally.savings_group g ON uuid_eq(g.tenant_id, d.tenant_id) AND g.id = d.group_id
    WHERE uuid_eq(d.tenant_id, NEW.tenant_id) AND d.id = NEW.round_id FOR NO KEY UPDATE OF d;
  IF TG_OP = 'INSERT' THEN
    IF NEW.kind = 'share_out' THEN
      SELECT coalesce(sum(c.amount) FILTER (WHERE c.status = 'confirmed'), 0) INTO collected FROM tally.contribution c
        WHERE uuid_eq(c.tenant_id, NEW.tenant_id) AND c.member_id = NEW.member_id AND c.kind = 'regular';
      SELECT sum(p.amount + p.fee) INTO gone FROM tally.payout p
        WHERE uuid_eq(p.tenant_id, NEW.tenant_id) AND p.member_id = NEW.member_id AND p.status <> 'void';
    ELSE
      SELECT coalesce(sum(CASE WHEN c.status = 'confirmed' THEN c.amount ELSE c.covered END), 0) INTO collected
        FROM tally.contribution c
        WHERE uuid_eq(c.tenant_id, NEW.tenant_id) AND c.round_id = NEW.round_id AND c.kind = 'regular';
      SELECT sum(p.amount + p.fee) INTO gone FROM tally.payout p
        WHERE uuid_eq(p.tenant_id, NEW.tenant_id) AND p.round_id = NEW.round_id AND p.status <> 'void';
    END IF;
    IF gone > collected OR (NEW.kind = 'share_out') <> (r.order_kind = 'none')
      OR (NOT r.mirrored AND NEW.amount + NEW.fee > 0 AND NOT EXISTS (
        SELECT FROM tally.journal j
        WHERE uuid_eq(j.tenant_id, NEW.tenant_id) AND j.id = NEW.journal_id AND j.source_id = NEW.group_id))
      OR (NEW.kind = 'dividend' AND r.order_kind <> 'bidding')
      OR (NEW.kind = 'arrears' AND r.status NOT IN ('paid_out', 'closed'))
      OR (NEW.kind = 'pot' AND (r.status NOT IN ('funded', 'defaulted') OR r.recipient_id <> NEW.member_id
        OR (r.order_kind <> 'bidding' AND gone <> collected))) THEN
      RAISE EXCEPTION 'the payout does not fit its round' USING ERRCODE = 'TS615', TABLE = TG_ARGV[0];
    END IF;
  END IF;
  UPDATE tally.group_member m SET has_received = NEW.status <> 'void'
    WHERE uuid_eq(m.tenant_id, NEW.tenant_id) AND m.id = NEW.member_id AND NEW.kind = 'pot'
      AND m.has_received <> (NEW.status <> 'void');
  RETURN NULL;
END $f$"""

PAYOUT_TABLE = Table(
    "payout",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("group_id", "uuid"),
        Column("round_id", "uuid"),
        Column("member_id", "uuid"),
        Column("kind", 'text COLLATE "C"'),
        Column("amount", "numeric(78,0)"),
        Column("fee", "numeric(78,0)"),
        Column("in_debt", "boolean"),
        Column("cause_id", "uuid", nullable=True),
        Column("effective", "date"),
        Column("status", 'text COLLATE "C"'),
        Column("journal_id", "uuid", nullable=True),
        Column("chain_id", "bigint", nullable=True),
        Column("tx_hash", "bytea", nullable=True),
        Column("log_index", "bigint", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_payout_kind", "kind in ('pot', 'arrears', 'dividend', 'share_out')"),
        Check(
            "ck_payout_amount_range",
            ("amount >= 0 and amount < 115792089237316195423570985008687907853269984665640564039457584007913129639936"),
        ),
        Check(
            "ck_payout_fee_range",
            "fee >= 0 and fee < 115792089237316195423570985008687907853269984665640564039457584007913129639936",
        ),
        Check("ck_payout_status", "status in ('submitted', 'confirmed', 'failed', 'orphaned', 'void')"),
        Check("ck_payout_cause", "(kind = 'arrears') = (cause_id is not null)"),
        Check(
            "ck_payout_log",
            "(chain_id is null) = (tx_hash is null) and (chain_id is null) = (log_index is null)",
        ),
        Check("ck_payout_hash", "tx_hash is null or octet_length(tx_hash) = 32"),
    ),
    foreign_keys=(
        ForeignKey("fk_payout_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_payout_group", ("tenant_id", "group_id"), "savings_group", ("tenant_id", "id")),
        ForeignKey("fk_payout_cause", ("tenant_id", "cause_id"), "contribution", ("tenant_id", "id")),
        ForeignKey("fk_payout_journal", ("tenant_id", "journal_id"), "journal", ("tenant_id", "id")),
        ForeignKey(
            "fk_payout_round_group",
            ("tenant_id", "round_id", "group_id"),
            "group_round",
            ("tenant_id", "id", "group_id"),
        ),
        ForeignKey(
            "fk_payout_member_group",
            ("tenant_id", "member_id", "group_id"),
            "group_member",
            ("tenant_id", "id", "group_id"),
        ),
    ),
    indexes=(
        Index(
            "uq_payout_round_id",
            ("tenant_id", "round_id"),
            unique=True,
            where="(kind = 'pot' and status <> 'void')",
        ),
        Index(
            "uq_payout_group_id_member_id",
            ("tenant_id", "group_id", "member_id"),
            unique=True,
            where="(kind = 'pot' and status <> 'void')",
        ),
        Index(
            "uq_payout_round_id_member_id",
            ("tenant_id", "round_id", "member_id"),
            unique=True,
            where="(kind = 'dividend' and status <> 'void')",
        ),
        Index(
            "uq_payout_chain_id_tx_hash_log_index",
            ("tenant_id", "chain_id", "tx_hash", "log_index"),
            unique=True,
        ),
        Index(
            "ix_payout_group_id_effective",
            ("tenant_id", "group_id", "effective", "id"),
            comment="what a group paid, by date",
        ),
        Index("ix_payout_member_id", ("tenant_id", "member_id", "id"), comment="rows of one member"),
        Index("ix_payout_cause_id", ("tenant_id", "cause_id", "id"), comment="rows of one cause"),
        Index("ix_payout_journal_id", ("tenant_id", "journal_id", "id"), comment="rows of one journal"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('payout')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('payout')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_payout", "AFTER INSERT OR UPDATE OF status", "tally.circle_payout('payout')"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('payout', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['submitted', 'confirmed']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('payout', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'submitted\' AND NEW."status" = '
                "ANY (ARRAY['confirmed', 'failed'])) OR (OLD.\"status\" = 'failed' AND NEW.\"status\" = ANY "
                "(ARRAY['submitted', 'void'])) OR (OLD.\"status\" = 'confirmed' AND NEW.\"status\" = ANY "
                "(ARRAY['orphaned'])) OR (OLD.\"status\" = 'orphaned' AND NEW.\"status\" = ANY "
                "(ARRAY['submitted', 'void'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY "
                "(ARRAY['submitted', 'confirmed']))) IS NOT TRUE"
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
                "group_id",
                "round_id",
                "member_id",
                "kind",
                "amount",
                "fee",
                "in_debt",
                "cause_id",
                "effective",
                "status",
                "journal_id",
                "chain_id",
                "tx_hash",
                "log_index",
            ),
        ),
        Grant("app", "UPDATE", columns=("status", "chain_id", "tx_hash", "log_index")),
    ),
    comment="Money that went from the group to a member; a round has one pot, and a member receives one.",
)

BID = Table(
    "bid",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("group_id", "uuid"),
        Column("round_id", "uuid"),
        Column("member_id", "uuid"),
        Column("amount", "numeric(78,0)"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_bid_amount_range",
            ("amount >= 0 and amount < 115792089237316195423570985008687907853269984665640564039457584007913129639936"),
        ),
        Check("ck_bid_amount", "amount > 0"),
    ),
    foreign_keys=(
        ForeignKey("fk_bid_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_bid_group", ("tenant_id", "group_id"), "savings_group", ("tenant_id", "id")),
        ForeignKey(
            "fk_bid_round_group",
            ("tenant_id", "round_id", "group_id"),
            "group_round",
            ("tenant_id", "id", "group_id"),
        ),
        ForeignKey(
            "fk_bid_member_group",
            ("tenant_id", "member_id", "group_id"),
            "group_member",
            ("tenant_id", "id", "group_id"),
        ),
    ),
    indexes=(
        Index("uq_bid_round_id_member_id", ("tenant_id", "round_id", "member_id"), unique=True),
        Index("ix_bid_group_id", ("tenant_id", "group_id", "id"), comment="rows of one group"),
        Index("ix_bid_member_id", ("tenant_id", "member_id", "id"), comment="rows of one member"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('bid')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('bid')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "group_id", "round_id", "member_id", "amount")),
        Grant("app", "UPDATE", columns=("amount",)),
    ),
    comment="What a member would take for the pot of a round; a later bid of theirs is lower and replaces it.",
)

FUNCTIONS = {
    PAYOUT: "tally.circle_payout()",
}
TABLES = (
    PAYOUT_TABLE,
    BID,
)


def upgrade() -> None:
    """Payouts and bids."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
