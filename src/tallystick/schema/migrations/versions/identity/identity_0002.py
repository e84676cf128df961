"""profiles and consents

Revision identity_0002, after identity_0001.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "identity_0002"
down_revision = "identity_0001"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

USER_PROFILE = Table(
    "user_profile",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("legal_name", "bytea", nullable=True),
        Column("birth_date", "bytea", nullable=True),
        Column("ssn", "bytea", nullable=True),
        Column("ssn_bidx", "bytea", nullable=True),
        Column("ssn_mask", "bytea", nullable=True),
        Column("address", "bytea", nullable=True),
        Column("annual_income", "bigint", nullable=True),
        Column("asset", 'text COLLATE "C"', nullable=True),
        Column("employment_status", 'text COLLATE "C"', nullable=True),
        Column("employment_months", "bigint", nullable=True),
        Column("home_ownership", 'text COLLATE "C"', nullable=True),
        Column("debt_to_income", "numeric(9,6)", nullable=True),
        Column("privacy_settings", "jsonb"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_user_profile_annual_income_asset", "annual_income is null or asset is not null"),
        Check(
            "ck_user_profile_employment_status",
            "employment_status in ('employed', 'self_employed', 'unemployed', 'retired', 'student', 'other')",
        ),
        Check("ck_user_profile_home_ownership", "home_ownership in ('own', 'mortgage', 'rent', 'other')"),
        Check("ck_user_profile_asset", "char_length(asset) between 2 and 32"),
        Check("ck_user_profile_income", "annual_income is null or annual_income >= 0"),
        Check(
            "ck_user_profile_employment_months",
            "employment_months is null or employment_months between 0 and 1200",
        ),
        Check("ck_user_profile_debt_to_income", "debt_to_income is null or debt_to_income >= 0"),
    ),
    foreign_keys=(
        ForeignKey("fk_user_profile_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_user_profile_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_user_profile_user_id", ("tenant_id", "user_id"), unique=True),
        Index("ix_user_profile_ssn_bidx", ("tenant_id", "ssn_bidx", "id"), comment="find by ssn"),
    ),
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
        Grant(
            "app",
            "INSERT",
            columns=(
                "tenant_id",
                "id",
                "user_id",
                "legal_name",
                "birth_date",
                "ssn",
                "ssn_bidx",
                "ssn_mask",
                "address",
                "annual_income",
                "asset",
                "employment_status",
                "employment_months",
                "home_ownership",
                "debt_to_income",
                "privacy_settings",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=(
                "legal_name",
                "birth_date",
                "ssn",
                "ssn_bidx",
                "ssn_mask",
                "address",
                "annual_income",
                "asset",
                "employment_status",
                "employment_months",
                "home_ownership",
                "debt_to_income",
                "privacy_settings",
            ),
        ),
        Grant("app", "DELETE"),
    ),
    comment="The person behind an account; one for each user.",
)

CONSENT = Table(
    "consent",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("purpose", 'text COLLATE "C"'),
        Column("legal_basis", 'text COLLATE "C"'),
        Column("policy_version", 'text COLLATE "C"'),
        Column("granted_at", "timestamp with time zone"),
        Column("evidence", "jsonb", nullable=True),
        Column("withdrawn_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_consent_purpose",
            "purpose in ('data_processing', 'credit_check', 'ai_analysis', 'marketing', 'sharing', 'zk_proof')",
        ),
        Check(
            "ck_consent_legal_basis",
            (
                "legal_basis in ('consent', 'contract', 'legal_obligation', 'vital_interests', 'public_task', "
                "'legitimate_interests')"
            ),
        ),
        Check("ck_consent_policy_version_length", "char_length(policy_version) between 1 and 64"),
        Check("ck_consent_order", "withdrawn_at is null or withdrawn_at > granted_at"),
    ),
    foreign_keys=(
        ForeignKey("fk_consent_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_consent_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_consent_user_id_purpose",
            ("tenant_id", "user_id", "purpose"),
            unique=True,
            where="(withdrawn_at is null)",
        ),
        Index(
            "ix_consent_user_id_granted_at",
            ("tenant_id", "user_id", "granted_at", "id"),
            comment="what a person agreed to and took back, oldest first",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('consent')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
        Trigger(
            "tally_withdrawn",
            "BEFORE UPDATE",
            "tally.refuse_change('consent')",
            when=(
                'OLD."withdrawn_at" IS NOT NULL OR (OLD."user_id", OLD."purpose", OLD."legal_basis", '
                'OLD."policy_version", OLD."granted_at", OLD."evidence") IS DISTINCT FROM (NEW."user_id", '
                'NEW."purpose", NEW."legal_basis", NEW."policy_version", NEW."granted_at", NEW."evidence")'
            ),
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
                "user_id",
                "purpose",
                "legal_basis",
                "policy_version",
                "granted_at",
                "evidence",
                "withdrawn_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("withdrawn_at",)),
    ),
    comment="That a person agreed to one purpose under one version of a policy, and when they took it back.",
)


def upgrade() -> None:
    """Profiles and consents."""
    op.invoke(CreateTables(USER_PROFILE, CONSENT))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(USER_PROFILE, CONSENT)))
