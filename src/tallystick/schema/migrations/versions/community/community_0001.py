"""communities, memberships, trust and endorsements

Revision community_0001, after nothing: the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "community_0001"
down_revision = None
branch_labels = ("community",)
depends_on = ["kit_0003", "identity_0001"]
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

COMMUNITY = Table(
    "community",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("name", 'text COLLATE "C"'),
        Column("slug", 'text COLLATE "C"'),
        Column("asset", 'text COLLATE "C"'),
        Column("governance", "jsonb"),
        Column("status", 'text COLLATE "C"'),
        Column("min_reputation_to_borrow", "numeric(10,6)"),
        Column("max_loan_amount", "bigint", nullable=True),
        Column("max_loan_amount_asset", 'text COLLATE "C"', nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_community_name_length", "char_length(name) between 1 and 200"),
        Check("ck_community_slug_length", "char_length(slug) between 1 and 63"),
        Check("ck_community_asset_length", "char_length(asset) between 2 and 32"),
        Check("ck_community_status", "status in ('forming', 'active', 'suspended', 'dissolved')"),
        Check("ck_community_max_loan_amount_asset", "max_loan_amount is null or max_loan_amount_asset is not null"),
        Check("ck_community_reputation", "min_reputation_to_borrow between 0 and 1000"),
        Check("ck_community_max_loan", "max_loan_amount is null or max_loan_amount > 0"),
        Check("ck_community_one_asset", "max_loan_amount_asset is null or max_loan_amount_asset = asset"),
    ),
    foreign_keys=(ForeignKey("fk_community_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index("uq_community_slug", ("tenant_id", "slug"), unique=True),
        Index(
            "ix_community_status_created_at",
            ("tenant_id", "status", "created_at", "id"),
            comment="communities of a status, newest first",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('community')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('community')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('community', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['forming']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('community', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'forming\' AND NEW."status" = '
                "ANY (ARRAY['active', 'dissolved'])) OR (OLD.\"status\" = 'active' AND NEW.\"status\" = ANY "
                "(ARRAY['suspended', 'dissolved'])) OR (OLD.\"status\" = 'suspended' AND NEW.\"status\" = ANY "
                "(ARRAY['active', 'dissolved'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY "
                "(ARRAY['forming']))) IS NOT TRUE"
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
                "name",
                "slug",
                "asset",
                "governance",
                "status",
                "min_reputation_to_borrow",
                "max_loan_amount",
                "max_loan_amount_asset",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=(
                "name",
                "governance",
                "status",
                "min_reputation_to_borrow",
                "max_loan_amount",
                "max_loan_amount_asset",
            ),
        ),
    ),
    comment="A group of users with roles, rules and one asset in which it lends and stakes.",
)

COMMUNITY_MEMBERSHIP = Table(
    "community_membership",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("community_id", "uuid"),
        Column("user_id", "uuid"),
        Column("role", 'text COLLATE "C"'),
        Column("status", 'text COLLATE "C"'),
        Column("reputation", "numeric(10,6)"),
        Column("joined_at", "timestamp with time zone", nullable=True),
        Column("left_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_community_membership_role", "role in ('member', 'moderator', 'treasurer', 'admin')"),
        Check("ck_community_membership_status", "status in ('invited', 'active', 'suspended', 'left', 'banned')"),
        Check("ck_community_membership_reputation", "reputation between 0 and 1000"),
        Check("ck_community_membership_joined", "joined_at is not null or status in ('invited', 'left', 'banned')"),
    ),
    foreign_keys=(
        ForeignKey("fk_community_membership_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey(
            "fk_community_membership_community",
            ("tenant_id", "community_id"),
            "community",
            ("tenant_id", "id"),
        ),
        ForeignKey("fk_community_membership_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_community_membership_community_id_user_id", ("tenant_id", "community_id", "user_id"), unique=True),
        Index(
            "ix_community_membership_user_id_status",
            ("tenant_id", "user_id", "status", "id"),
            comment="the communities of a user",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('community_membership')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('community_membership')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('community_membership', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['invited', 'active']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('community_membership', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'invited\' AND NEW."status" = '
                "ANY (ARRAY['active', 'left', 'banned'])) OR (OLD.\"status\" = 'active' AND NEW.\"status\" = "
                "ANY (ARRAY['suspended', 'left', 'banned'])) OR (OLD.\"status\" = 'suspended' AND "
                "NEW.\"status\" = ANY (ARRAY['active', 'banned'])) OR (OLD.\"status\" = 'left' AND NEW.\"status\" "
                "= ANY (ARRAY['invited', 'active', 'banned'])) OR (OLD.\"status\" = 'banned' AND "
                'NEW."status" = ANY (ARRAY[\'left\'])) OR (OLD."status" IS NULL AND NEW."status" = ANY '
                "(ARRAY['invited', 'active']))) IS NOT TRUE"
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
                "community_id",
                "user_id",
                "role",
                "status",
                "reputation",
                "joined_at",
                "left_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("role", "status", "reputation", "joined_at", "left_at")),
    ),
    comment="A user's place in a community; one for each pair, whatever happens between them.",
)

TRUST_EDGE = Table(
    "trust_edge",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("from_user_id", "uuid"),
        Column("to_user_id", "uuid"),
        Column("community_id", "uuid", nullable=True),
        Column("weight", "bigint"),
        Column("valid_from", "date"),
        Column("valid_to", "date", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_trust_edge_weight", "weight between -10 and 10"),
        Check("ck_trust_edge_self", "from_user_id <> to_user_id"),
        Check("ck_trust_edge_order", "valid_to is null or valid_to >= valid_from"),
    ),
    foreign_keys=(
        ForeignKey("fk_trust_edge_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_trust_edge_from_user", ("tenant_id", "from_user_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_trust_edge_to_user", ("tenant_id", "to_user_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_trust_edge_community", ("tenant_id", "community_id"), "community", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_trust_edge_from_user_id_to_user_id_community_id",
            ("tenant_id", "from_user_id", "to_user_id", "community_id"),
            unique=True,
            where="(community_id is not null and valid_to is null)",
        ),
        Index(
            "uq_trust_edge_from_user_id_to_user_id",
            ("tenant_id", "from_user_id", "to_user_id"),
            unique=True,
            where="(community_id is null and valid_to is null)",
        ),
        Index(
            "ix_trust_edge_community_id_valid_from",
            ("tenant_id", "community_id", "valid_from", "id"),
            comment="the trust graph of a community, or of none, as of a day",
        ),
        Index(
            "ix_trust_edge_from_user_id_valid_from",
            ("tenant_id", "from_user_id", "valid_from", "id"),
            comment="whom a user trusts and trusted",
        ),
        Index(
            "ix_trust_edge_to_user_id_valid_from",
            ("tenant_id", "to_user_id", "valid_from", "id"),
            comment="who trusts a user and trusted them",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('trust_edge')"),
        Trigger(
            "tally_ended",
            "BEFORE UPDATE",
            "tally.refuse_change('trust_edge')",
            when=(
                'OLD."valid_to" IS NOT NULL OR (OLD."from_user_id", OLD."to_user_id", OLD."community_id", '
                'OLD."weight", OLD."valid_from") IS DISTINCT FROM (NEW."from_user_id", NEW."to_user_id", '
                'NEW."community_id", NEW."weight", NEW."valid_from")'
            ),
        ),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('trust_edge')"),
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
                "from_user_id",
                "to_user_id",
                "community_id",
                "weight",
                "valid_from",
                "valid_to",
            ),
        ),
        Grant("app", "UPDATE", columns=("valid_to",)),
    ),
    comment="One user's trust in another, from -10 (none at all) to 10, within a community or outside of any.",
)

ENDORSEMENT = Table(
    "endorsement",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("endorser_id", "uuid"),
        Column("endorsee_id", "uuid"),
        Column("community_id", "uuid"),
        Column("loan", "uuid", nullable=True),
        Column("stake", "bigint", nullable=True),
        Column("asset", 'text COLLATE "C"', nullable=True),
        Column("text", "bytea", nullable=True),
        Column("given_on", "date"),
        Column("ended_on", "date", nullable=True),
        Column("status", 'text COLLATE "C"'),
        Column("low", "uuid"),
        Column("high", "uuid"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_endorsement_stake_asset", "stake is null or asset is not null"),
        Check("ck_endorsement_status", "status in ('active', 'withdrawn', 'slashed')"),
        Check("ck_endorsement_asset", "char_length(asset) between 2 and 32"),
        Check("ck_endorsement_self", "endorser_id <> endorsee_id"),
        Check(
            "ck_endorsement_pair",
            "low = least(endorser_id, endorsee_id) and high = greatest(endorser_id, endorsee_id)",
        ),
        Check("ck_endorsement_stake", "stake is null or stake > 0"),
        Check("ck_endorsement_ended", "(status = 'active') = (ended_on is null)"),
        Check("ck_endorsement_order", "ended_on is null or ended_on >= given_on"),
    ),
    foreign_keys=(
        ForeignKey("fk_endorsement_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_endorsement_endorser", ("tenant_id", "endorser_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_endorsement_endorsee", ("tenant_id", "endorsee_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_endorsement_community", ("tenant_id", "community_id"), "community", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_endorsement_community_id_low_high",
            ("tenant_id", "community_id", "low", "high"),
            unique=True,
            where="(status = 'active')",
        ),
        Index(
            "ix_endorsement_endorsee_id_status",
            ("tenant_id", "endorsee_id", "status", "id"),
            comment="who vouches for a user",
        ),
        Index(
            "ix_endorsement_endorser_id_status",
            ("tenant_id", "endorser_id", "status", "id"),
            comment="for whom a user vouches",
        ),
        Index(
            "ix_endorsement_loan",
            ("tenant_id", "loan", "id"),
            where="loan is not null",
            comment="who vouches for a loan",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('endorsement')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('endorsement')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_sealed", "BEFORE INSERT OR UPDATE", "tally.sealed_live('text')"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('endorsement', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['active']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('endorsement', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'active\' AND NEW."status" = ANY '
                "(ARRAY['withdrawn', 'slashed'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY "
                "(ARRAY['active']))) IS NOT TRUE"
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
                "endorser_id",
                "endorsee_id",
                "community_id",
                "loan",
                "stake",
                "asset",
                "text",
                "given_on",
                "ended_on",
                "status",
                "low",
                "high",
            ),
        ),
        Grant("app", "UPDATE", columns=("ended_on", "status")),
    ),
    comment=(
        "A member vouches for another, for one loan or in general, with a stake that they lose when it goes wrong."
    ),
)


def upgrade() -> None:
    """Communities, memberships, trust and endorsements."""
    op.invoke(CreateTables(COMMUNITY, COMMUNITY_MEMBERSHIP, TRUST_EDGE, ENDORSEMENT))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(COMMUNITY, COMMUNITY_MEMBERSHIP, TRUST_EDGE, ENDORSEMENT)))
