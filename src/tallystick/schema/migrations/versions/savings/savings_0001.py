"""savings groups and their members

Revision savings_0001, the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "savings_0001"
down_revision = None
branch_labels = ("savings",)
depends_on = ["identity_0001", "ledger_0002"]
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# Only called when a term differs and the group no longer recruits, or what the start settled differs after it.
TERMS = """
CREATE FUNCTION tally.circle_terms() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RAISE EXCEPTION 'the terms of % are frozen', TG_ARGV[0] USING ERRCODE = 'TS611', TABLE = TG_ARGV[0];
END $f$"""

# The group's row is locked first, so that its members are counted one after the other.
MEMBERSHIP = """
CREATE FUNCTION tally.circle_membership() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  now_status text;
  pledge numeric;
  had numeric := CASE WHEN TG_OP = 'UPDATE' THEN OLD.collateral ELSE 0 END;
  was text := CASE WHEN TG_OP = 'UPDATE' THEN OLD.status END;
  was_place int := CASE WHEN TG_OP = 'UPDATE' THEN OLD.position END;
  more int := (NEW.status IN ('active', 'defaulted', 'completed'))::int
    - coalesce(was IN ('active', 'defaulted', 'completed'), false)::int;
BEGIN
  SELECT g.status, g.collateral_required INTO now_status, pledge FROM tally.savings_group g
    WHERE uuid_eq(g.tenant_id, NEW.tenant_id) AND g.id = NEW.group_id FOR NO KEY UPDATE;
  IF (NEW.status IS DISTINCT FROM was AND NEW.status IN ('invited', 'active', 'left') AND now_status <> 'recruiting')
    OR (NEW.status IS DISTINCT FROM was AND NEW.status = 'defaulted' AND now_status NOT IN ('active', 'paused'))
    OR (NEW.position IS DISTINCT FROM was_place AND now_status NOT IN ('recruiting', 'ready')) THEN
    RAISE EXCEPTION 'membership is frozen' USING ERRCODE = 'TS612', TABLE = TG_ARGV[0];
  END IF;
  -- Collateral comes in with who joins, as the group asks for it, and only goes from there.
  IF NEW.collateral > had AND (NEW.status <> 'active' OR was IS NOT DISTINCT FROM 'active' OR NEW.collateral <> pledge)
  THEN
    RAISE EXCEPTION 'collateral that was not left' USING ERRCODE = 'TS612', TABLE = TG_ARGV[0];
  END IF;
  IF more <> 0 THEN
    UPDATE tally.savings_group g SET members = g.members + more
      WHERE uuid_eq(g.tenant_id, NEW.tenant_id) AND g.id = NEW.group_id;
  END IF;
  RETURN NULL;
END $f$"""

SAVINGS_GROUP = Table(
    "savings_group",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("name", 'text COLLATE "C"'),
        Column("organizer_id", "uuid", nullable=True),
        Column("chain_id", "bigint", nullable=True),
        Column("contract", "bytea", nullable=True),
        Column("external_id", 'text COLLATE "C"', nullable=True),
        Column("asset", 'text COLLATE "C"'),
        Column("contribution_amount", "numeric(78,0)"),
        Column("frequency_days", "bigint"),
        Column("max_members", "bigint"),
        Column("order_kind", 'text COLLATE "C"'),
        Column("seed_hash", "bytea", nullable=True),
        Column("seed", "bytea", nullable=True),
        Column("bid_floor_bps", "bigint"),
        Column("grace_days", "bigint"),
        Column("late_fee", "numeric(78,0)"),
        Column("collateral_required", "numeric(78,0)"),
        Column("service_fee_bps", "bigint"),
        Column("mirrored", "boolean"),
        Column("status", 'text COLLATE "C"'),
        Column("rounds", "bigint"),
        Column("current_round", "bigint"),
        Column("started_on", "date", nullable=True),
        Column("ended_on", "date", nullable=True),
        Column("members", "bigint", default="0"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_savings_group_name_length", "char_length(name) between 1 and 200"),
        Check("ck_savings_group_external_id_length", "char_length(external_id) between 1 and 80"),
        Check("ck_savings_group_asset_length", "char_length(asset) between 2 and 32"),
        Check(
            "ck_savings_group_contribution_amount_range",
            (
                "contribution_amount >= 0 and contribution_amount < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check("ck_savings_group_order_kind", "order_kind in ('fixed', 'random', 'bidding', 'none')"),
        Check(
            "ck_savings_group_late_fee_range",
            (
                "late_fee >= 0 and late_fee < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check(
            "ck_savings_group_collateral_required_range",
            (
                "collateral_required >= 0 and collateral_required < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check(
            "ck_savings_group_status",
            "status in ('recruiting', 'ready', 'active', 'paused', 'completed', 'cancelled', 'dissolved')",
        ),
        Check("ck_savings_group_contribution", "contribution_amount > 0 or order_kind = 'none'"),
        Check("ck_savings_group_frequency", "frequency_days between 1 and 3660"),
        Check("ck_savings_group_max_members", "max_members >= 2 and (order_kind = 'none' or max_members <= 100)"),
        Check("ck_savings_group_full", "members between 0 and max_members"),
        Check("ck_savings_group_grace", "grace_days between 0 and 3660"),
        Check("ck_savings_group_service_fee", "service_fee_bps between 0 and 10000"),
        Check(
            "ck_savings_group_bid_floor",
            "bid_floor_bps between 0 and 10000 and (bid_floor_bps = 0 or order_kind = 'bidding')",
        ),
        Check("ck_savings_group_commitment", "(order_kind = 'random') = (seed_hash is not null)"),
        Check("ck_savings_group_seed", "seed is null or sha256(seed) = seed_hash"),
        Check("ck_savings_group_drawn", "order_kind <> 'random' or started_on is null or seed is not null"),
        Check(
            "ck_savings_group_chain",
            "(chain_id is null) = (contract is null) and (chain_id is null) = (external_id is null)",
        ),
        Check("ck_savings_group_mirror", "not mirrored or chain_id is not null"),
        Check("ck_savings_group_contract", "contract is null or octet_length(contract) between 20 and 64"),
        Check("ck_savings_group_round", "current_round between 0 and rounds"),
        Check(
            "ck_savings_group_started",
            "started_on is not null or status in ('recruiting', 'ready', 'cancelled')",
        ),
        Check(
            "ck_savings_group_ended",
            "(status in ('completed', 'cancelled', 'dissolved')) = (ended_on is not null)",
        ),
    ),
    foreign_keys=(
        ForeignKey("fk_savings_group_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_savings_group_organizer", ("tenant_id", "organizer_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_savings_group_chain_id_contract_external_id",
            ("tenant_id", "chain_id", "contract", "external_id"),
            unique=True,
        ),
        Index(
            "ix_savings_group_status_created_at",
            ("tenant_id", "status", "created_at", "id"),
            comment="groups of a status, newest first",
        ),
        Index("ix_savings_group_organizer_id", ("tenant_id", "organizer_id", "id"), comment="rows of one organizer"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('savings_group')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('savings_group')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('savings_group')",
            when='pg_trigger_depth() = 0 AND (OLD."members" IS DISTINCT FROM NEW."members")',
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('savings_group')",
            when='pg_trigger_depth() = 0 AND (NEW."members" IS DISTINCT FROM 0)',
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('savings_group', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['recruiting']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('savings_group', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'recruiting\' AND NEW."status" = '
                "ANY (ARRAY['ready', 'cancelled'])) OR (OLD.\"status\" = 'ready' AND NEW.\"status\" = ANY "
                "(ARRAY['active', 'cancelled'])) OR (OLD.\"status\" = 'active' AND NEW.\"status\" = ANY "
                "(ARRAY['completed', 'paused', 'dissolved'])) OR (OLD.\"status\" = 'paused' AND NEW.\"status\" "
                "= ANY (ARRAY['active', 'dissolved'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY "
                "(ARRAY['recruiting']))) IS NOT TRUE"
            ),
        ),
        Trigger(
            "tally_terms",
            "BEFORE UPDATE",
            "tally.circle_terms('savings_group')",
            when=(
                "(old.status <> 'recruiting' and (old.asset, old.contribution_amount, old.frequency_days, "
                "old.max_members, old.order_kind, old.seed_hash, old.bid_floor_bps, old.grace_days, old.late_fee, "
                "old.collateral_required, old.service_fee_bps, old.mirrored) is distinct from (new.asset, "
                "new.contribution_amount, new.frequency_days, new.max_members, new.order_kind, new.seed_hash, "
                "new.bid_floor_bps, new.grace_days, new.late_fee, new.collateral_required, new.service_fee_bps, "
                "new.mirrored)) or (old.started_on is not null and (old.rounds, old.started_on, old.seed) is "
                "distinct from (new.rounds, new.started_on, new.seed))"
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
                "name",
                "organizer_id",
                "chain_id",
                "contract",
                "external_id",
                "asset",
                "contribution_amount",
                "frequency_days",
                "max_members",
                "order_kind",
                "seed_hash",
                "seed",
                "bid_floor_bps",
                "grace_days",
                "late_fee",
                "collateral_required",
                "service_fee_bps",
                "mirrored",
                "status",
                "rounds",
                "current_round",
                "started_on",
                "ended_on",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=(
                "name",
                "asset",
                "contribution_amount",
                "frequency_days",
                "max_members",
                "order_kind",
                "seed_hash",
                "seed",
                "bid_floor_bps",
                "grace_days",
                "late_fee",
                "collateral_required",
                "service_fee_bps",
                "mirrored",
                "status",
                "rounds",
                "current_round",
                "started_on",
                "ended_on",
            ),
        ),
    ),
    comment=(
        "A rotating savings group (ROSCA: ajo, susu, tanda) and its terms, which are frozen once it stops recruiting."
    ),
)

GROUP_MEMBER = Table(
    "group_member",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("group_id", "uuid"),
        Column("user_id", "uuid"),
        Column("status", 'text COLLATE "C"'),
        Column("position", "bigint", nullable=True),
        Column("collateral", "numeric(78,0)"),
        Column("target", "numeric(78,0)", nullable=True),
        Column("external_id", 'text COLLATE "C"', nullable=True),
        Column("joined_at", "timestamp with time zone", nullable=True),
        Column("left_at", "timestamp with time zone", nullable=True),
        Column("has_received", "boolean", default="false"),
        Column("in_debt", "boolean", default="false"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_group_member_status", "status in ('invited', 'active', 'defaulted', 'left', 'completed')"),
        Check(
            "ck_group_member_collateral_range",
            (
                "collateral >= 0 and collateral < "
                "115792089237316195423570985008687907853269984665640564039457584007913129639936"
            ),
        ),
        Check(
            "ck_group_member_target_range",
            ("target >= 0 and target < 115792089237316195423570985008687907853269984665640564039457584007913129639936"),
        ),
        Check("ck_group_member_external_id_length", "char_length(external_id) between 1 and 80"),
        Check("ck_group_member_position", "position is null or position >= 1"),
        Check("ck_group_member_placed", "position is null or status not in ('invited', 'left')"),
        Check("ck_group_member_joined", "joined_at is not null or status in ('invited', 'left')"),
    ),
    foreign_keys=(
        ForeignKey("fk_group_member_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_group_member_group", ("tenant_id", "group_id"), "savings_group", ("tenant_id", "id")),
        ForeignKey("fk_group_member_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_group_member_group_id_user_id", ("tenant_id", "group_id", "user_id"), unique=True),
        Index(
            "uq_group_member_group_id_position",
            ("tenant_id", "group_id", "position"),
            unique=True,
            where="(position is not null)",
        ),
        Index(
            "uq_group_member_group_id_external_id",
            ("tenant_id", "group_id", "external_id"),
            unique=True,
            where="(external_id is not null)",
        ),
        Index("uq_group_member_id_group_id", ("tenant_id", "id", "group_id"), unique=True),
        Index(
            "ix_group_member_user_id_status",
            ("tenant_id", "user_id", "status", "id"),
            comment="the groups of a user",
        ),
        Index(
            "ix_group_member_group_id_in_debt",
            ("tenant_id", "group_id", "in_debt", "id"),
            where="in_debt",
            comment="who is behind in a group",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('group_member')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('group_member')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('group_member')",
            when=(
                'pg_trigger_depth() = 0 AND (OLD."has_received" IS DISTINCT FROM NEW."has_received" OR '
                'OLD."in_debt" IS DISTINCT FROM NEW."in_debt")'
            ),
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('group_member')",
            when=(
                'pg_trigger_depth() = 0 AND (NEW."has_received" IS DISTINCT FROM false OR NEW."in_debt" IS '
                "DISTINCT FROM false)"
            ),
        ),
        Trigger("tally_membership", "AFTER INSERT OR UPDATE", "tally.circle_membership('group_member')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('group_member', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['invited', 'active']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('group_member', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'invited\' AND NEW."status" = '
                "ANY (ARRAY['active', 'left'])) OR (OLD.\"status\" = 'active' AND NEW.\"status\" = ANY "
                "(ARRAY['left', 'defaulted', 'completed'])) OR (OLD.\"status\" = 'left' AND NEW.\"status\" = "
                "ANY (ARRAY['invited', 'active'])) OR (OLD.\"status\" = 'defaulted' AND NEW.\"status\" = ANY "
                "(ARRAY['completed'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY (ARRAY['invited', "
                "'active']))) IS NOT TRUE"
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
                "group_id",
                "user_id",
                "status",
                "position",
                "collateral",
                "target",
                "external_id",
                "joined_at",
                "left_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("status", "position", "collateral", "target", "joined_at", "left_at")),
    ),
    comment="A user's place in a group; the database freezes membership and order once the group is active.",
)

FUNCTIONS = {
    TERMS: "tally.circle_terms()",
    MEMBERSHIP: "tally.circle_membership()",
}
TABLES = (
    SAVINGS_GROUP,
    GROUP_MEMBER,
)


def upgrade() -> None:
    """Savings groups and their members."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
