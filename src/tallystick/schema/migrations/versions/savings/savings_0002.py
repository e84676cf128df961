"""rounds of savings groups

Revision savings_0002.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "savings_0002"
down_revision = "savings_0001"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

ROUND = """
CREATE FUNCTION tally.circle_round() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF (NEW.status IN ('funded', 'defaulted') AND NEW.status <> OLD.status AND EXISTS (
      SELECT FROM tally.contribution c WHERE uuid_eq(c.tenant_id, NEW.tenant_id) AND c.round_id = NEW.id
        AND c.kind = 'regular' AND c.status NOT IN ('confirmed', 'waived', 'defaulted')))
    OR (NEW.status = 'paid_out' AND NOT EXISTS (
      SELECT FROM tally.payout p WHERE uuid_eq(p.tenant_id, NEW.tenant_id) AND p.round_id = NEW.id
        AND p.kind = 'pot' AND p.status <> 'void'))
    OR (OLD.recipient_id IS NOT NULL AND NEW.recipient_id IS DISTINCT FROM OLD.recipient_id)
    OR (OLD.status = 'open' AND NEW.status = 'closed' AND NOT EXISTS (
      SELECT FROM tally.savings_group g WHERE uuid_eq(g.tenant_id, NEW.tenant_id) AND g.id = NEW.group_id
        AND g.order_kind = 'none')) THEN
    RAISE EXCEPTION 'the round is not that far' USING ERRCODE = 'TS613', TABLE = TG_ARGV[0];
  END IF;
  RETURN NULL;
END $f$"""

GROUP_ROUND = Table(
    "group_round",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("group_id", "uuid"),
        Column("seq", "bigint"),
        Column("opens_on", "date"),
        Column("due_on", "date"),
        Column("recipient_id", "uuid", nullable=True),
        Column("status", 'text COLLATE "C"'),
        Column("closed_on", "date", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_group_round_status",
            "status in ('scheduled', 'open', 'collecting_late', 'funded', 'defaulted', 'paid_out', 'closed')",
        ),
        Check("ck_group_round_seq", "seq between 1 and 10000"),
        Check("ck_group_round_dates", "opens_on <= due_on"),
        Check("ck_group_round_closed", "(status = 'closed') = (closed_on is not null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_group_round_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_group_round_group", ("tenant_id", "group_id"), "savings_group", ("tenant_id", "id")),
        ForeignKey(
            "fk_group_round_recipient_group",
            ("tenant_id", "recipient_id", "group_id"),
            "group_member",
            ("tenant_id", "id", "group_id"),
        ),
    ),
    indexes=(
        Index("uq_group_round_group_id_seq", ("tenant_id", "group_id", "seq"), unique=True),
        Index(
            "uq_group_round_group_id_recipient_id",
            ("tenant_id", "group_id", "recipient_id"),
            unique=True,
            where="(recipient_id is not null)",
        ),
        Index(
            "uq_group_round_group_id",
            ("tenant_id", "group_id"),
            unique=True,
            where="(status not in ('scheduled', 'closed'))",
        ),
        Index("uq_group_round_id_group_id", ("tenant_id", "id", "group_id"), unique=True),
        Index(
            "ix_group_round_due_on",
            ("tenant_id", "due_on", "id"),
            where="status in ('open', 'collecting_late')",
            comment="rounds that fall due",
        ),
        Index("ix_group_round_recipient_id", ("tenant_id", "recipient_id", "id"), comment="rows of one recipient"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('group_round')"),
        Trigger(
            "tally_collected",
            "AFTER UPDATE",
            "tally.circle_round('group_round')",
            when="(old.status, old.recipient_id) is distinct from (new.status, new.recipient_id)",
        ),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('group_round')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('group_round', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['scheduled']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('group_round', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'scheduled\' AND NEW."status" = '
                "ANY (ARRAY['open'])) OR (OLD.\"status\" = 'open' AND NEW.\"status\" = ANY "
                "(ARRAY['collecting_late', 'funded', 'defaulted', 'closed'])) OR (OLD.\"status\" = "
                "'collecting_late' AND NEW.\"status\" = ANY (ARRAY['funded', 'defaulted'])) OR (OLD.\"status\" = "
                "'funded' AND NEW.\"status\" = ANY (ARRAY['paid_out', 'open'])) OR (OLD.\"status\" = "
                "'defaulted' AND NEW.\"status\" = ANY (ARRAY['paid_out', 'funded', 'open'])) OR "
                "(OLD.\"status\" = 'paid_out' AND NEW.\"status\" = ANY (ARRAY['closed', 'funded'])) OR "
                '(OLD."status" IS NULL AND NEW."status" = ANY (ARRAY[\'scheduled\']))) IS NOT TRUE'
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
                "seq",
                "opens_on",
                "due_on",
                "recipient_id",
                "status",
                "closed_on",
            ),
        ),
        Grant("app", "UPDATE", columns=("recipient_id", "status", "closed_on")),
    ),
    comment="One round, from ``opens_on`` to ``due_on``; at most one of a group is under way.",
)

FUNCTIONS = {
    ROUND: "tally.circle_round()",
}
TABLES = (GROUP_ROUND,)


def upgrade() -> None:
    """Rounds of savings groups."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
