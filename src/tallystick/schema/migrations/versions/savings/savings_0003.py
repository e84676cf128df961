"""contributions

Revision savings_0003.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "savings_0003"
down_revision = "savings_0002"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

CONTRIBUTION = """
CREATE FUNCTION tally.circle_contribution() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  owing boolean;
BEGIN
  IF EXISTS (
    SELECT FROM tally.savings_group g WHERE uuid_eq(g.tenant_id, NEW.tenant_id) AND g.id = NEW.group_id
      AND ((NEW.kind = 'regular' AND g.order_kind <> 'none' AND g.contribution_amount <> NEW.amount)
        OR (NEW.status = 'confirmed' AND NOT g.mirrored AND NEW.covered < NEW.amount AND NOT EXISTS (
          SELECT FROM tally.journal j
          WHERE uuid_eq(j.tenant_id, NEW.tenant_id) AND j.id = NEW.journal_id AND j.source_id = NEW.group_id)))
  ) OR (TG_OP = 'UPDATE' AND OLD.covered <> NEW.covered AND (OLD.status = NEW.status OR NEW.status <> 'defaulted'))
    OR (TG_OP = 'UPDATE' AND OLD.status = 'confirmed' AND NEW.status = 'confirmed'
      AND (OLD.effective, OLD.journal_id) IS DISTINCT FROM (NEW.effective, NEW.journal_id)) THEN
    RAISE EXCEPTION 'a contribution of another amount' USING ERRCODE = 'TS614', TABLE = TG_ARGV[0];
  END IF;
  IF TG_OP = 'UPDATE' OR NEW.status NOT IN ('expected', 'confirmed') THEN
    SELECT EXISTS (SELECT FROM tally.contribution c
      WHERE uuid_eq(c.tenant_id, NEW.tenant_id) AND c.member_id = NEW.member_id AND c.kind = 'regular'
        AND c.status IN ('late', 'defaulted') AND c.covered < c.amount) INTO owing;
    UPDATE tally.group_member m SET in_debt = owing
      WHERE uuid_eq(m.tenant_id, NEW.tenant_id) AND m.id = NEW.member_id AND m.in_debt <> owing;
  END IF;
  RETURN NULL;
END $f$"""

CONTRIBUTION_TABLE = Table(
    "contribution",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("group_id", "uuid"),
        Column("round_id", "uuid"),
        Column("member_id", "uuid"),
        Column("kind", 'text COLLATE "C"'),
        Column("amount", "numeric(78,0)"),
        Column("covered", "numeric(78,0)"),
        Column("status", 'text COLLATE "C"'),
        Column("effective", "date", nullable=True),
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
        Check("ck_contribution_kind", "kind in ('regular', 'late_fee')"),
        Check(
            "ck_contribution_amount_range",
            ("amount >= 0 and amount < 115792089237316195423570985008687907853269984665640564039457584007913129639936"),
        ),
        Check(
            "ck_contribution_covered_range",
            (
                "covered >= 0 and covered < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check(
            "ck_contribution_status",
            "status in ('expected', 'pending', 'confirmed', 'failed', 'late', 'defaulted', 'waived', 'orphaned')",
        ),
        Check("ck_contribution_amount", "amount > 0"),
        Check("ck_contribution_covered", "covered <= amount"),
        Check("ck_contribution_paid", "status <> 'confirmed' or effective is not null"),
        Check(
            "ck_contribution_log",
            "(chain_id is null) = (tx_hash is null) and (chain_id is null) = (log_index is null)",
        ),
        Check("ck_contribution_hash", "tx_hash is null or octet_length(tx_hash) = 32"),
    ),
    foreign_keys=(
        ForeignKey("fk_contribution_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_contribution_group", ("tenant_id", "group_id"), "savings_group", ("tenant_id", "id")),
        ForeignKey("fk_contribution_journal", ("tenant_id", "journal_id"), "journal", ("tenant_id", "id")),
        ForeignKey(
            "fk_contribution_round_group",
            ("tenant_id", "round_id", "group_id"),
            "group_round",
            ("tenant_id", "id", "group_id"),
        ),
        ForeignKey(
            "fk_contribution_member_group",
            ("tenant_id", "member_id", "group_id"),
            "group_member",
            ("tenant_id", "id", "group_id"),
        ),
    ),
    indexes=(
        Index(
            "uq_contribution_round_id_member_id_kind",
            ("tenant_id", "round_id", "member_id", "kind"),
            unique=True,
        ),
        Index(
            "uq_contribution_chain_id_tx_hash_log_index",
            ("tenant_id", "chain_id", "tx_hash", "log_index"),
            unique=True,
        ),
        Index(
            "ix_contribution_group_id_status",
            ("tenant_id", "group_id", "status", "id"),
            comment="what is open in a group",
        ),
        Index(
            "ix_contribution_member_id_status",
            ("tenant_id", "member_id", "status", "id"),
            comment="what a member owes",
        ),
        Index("ix_contribution_journal_id", ("tenant_id", "journal_id", "id"), comment="rows of one journal"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('contribution')"),
        Trigger("tally_contribution", "AFTER INSERT OR UPDATE", "tally.circle_contribution('contribution')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('contribution')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('contribution', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['expected', 'confirmed', 'defaulted']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('contribution', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'expected\' AND NEW."status" = '
                "ANY (ARRAY['pending', 'confirmed', 'late', 'defaulted', 'waived'])) OR (OLD.\"status\" = "
                "'pending' AND NEW.\"status\" = ANY (ARRAY['confirmed', 'failed'])) OR (OLD.\"status\" = "
                "'failed' AND NEW.\"status\" = ANY (ARRAY['pending', 'confirmed', 'late', 'defaulted', "
                "'waived'])) OR (OLD.\"status\" = 'late' AND NEW.\"status\" = ANY (ARRAY['pending', "
                "'confirmed', 'defaulted', 'waived'])) OR (OLD.\"status\" = 'defaulted' AND NEW.\"status\" = "
                "ANY (ARRAY['pending', 'confirmed', 'waived'])) OR (OLD.\"status\" = 'confirmed' AND "
                'NEW."status" = ANY (ARRAY[\'orphaned\'])) OR (OLD."status" = \'orphaned\' AND NEW."status" = ANY '
                "(ARRAY['confirmed', 'failed'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY "
                "(ARRAY['expected', 'confirmed', 'defaulted']))) IS NOT TRUE"
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
                "covered",
                "status",
                "effective",
                "journal_id",
                "chain_id",
                "tx_hash",
                "log_index",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=("covered", "status", "effective", "journal_id", "chain_id", "tx_hash", "log_index"),
        ),
    ),
    comment="What a member owes in a round; one for each kind, and at most one for each log of a chain.",
    fillfactor=80,
)

FUNCTIONS = {
    CONTRIBUTION: "tally.circle_contribution()",
}
TABLES = (CONTRIBUTION_TABLE,)


def upgrade() -> None:
    """Contributions."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
