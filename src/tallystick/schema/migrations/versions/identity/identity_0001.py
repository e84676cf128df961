"""user accounts, wallets, profiles, consents and disclosures

Revision identity_0001, after nothing: the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "identity_0001"
down_revision = None
branch_labels = ("identity",)
depends_on = "kit_0003"
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

KEY = (Column("tenant_id", "uuid"), Column("id", "uuid"))
STAMPS = (
    Column("version", "bigint", default="1"),
    Column("created_at", "timestamp with time zone", default="now()"),
    Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    Column("updated_at", "timestamp with time zone", default="now()"),
    Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
)
WALL = (
    Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
    Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
)

USER_ACCOUNT = Table(
    "user_account",
    (
        *KEY,
        Column("email", "bytea", nullable=True),
        Column("email_bidx", "bytea", nullable=True),
        Column("email_bidx_next", "bytea", nullable=True),
        Column("first_name", "bytea", nullable=True),
        Column("last_name", "bytea", nullable=True),
        Column("phone", "bytea", nullable=True),
        Column("phone_bidx", "bytea", nullable=True),
        Column("phone_bidx_next", "bytea", nullable=True),
        Column("phone_bidx_last4", "bytea", nullable=True),
        Column("phone_bidx_last4_next", "bytea", nullable=True),
        Column("role", 'text COLLATE "C"'),
        Column("permissions", "jsonb"),
        Column("status", 'text COLLATE "C"'),
        Column("is_verified", "boolean"),
        Column("password_hash", "bytea", nullable=True),
        Column("mfa_enabled", "boolean"),
        Column("mfa_secret", "bytea", nullable=True),
        Column("failed_login_attempts", "bigint"),
        Column("locked_until", "timestamp with time zone", nullable=True),
        Column("last_login_at", "timestamp with time zone", nullable=True),
        *STAMPS,
    ),
    checks=(
        Check(
            "ck_user_account_role",
            "role in ('user', 'borrower', 'lender', 'underwriter', 'reviewer', 'auditor', 'admin')",
        ),
        Check(
            "ck_user_account_status",
            "status in ('pending', 'active', 'suspended', 'locked', 'closed', 'erased')",
        ),
        Check("ck_user_account_failed_login_attempts", "failed_login_attempts between 0 and 1000000"),
        Check("ck_user_account_mfa", "not mfa_enabled or mfa_secret is not null"),
    ),
    foreign_keys=(ForeignKey("fk_user_account_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index("uq_user_account_email_bidx", ("tenant_id", "email_bidx"), unique=True),
        Index("uq_user_account_email_bidx_next", ("tenant_id", "email_bidx_next"), unique=True),
        Index(
            "ix_user_account_role_created_at",
            ("tenant_id", "role", "created_at", "id"),
            comment="accounts of a role, newest first",
        ),
        Index("ix_user_account_phone_bidx", ("tenant_id", "phone_bidx", "id"), comment="find by phone"),
        Index("ix_user_account_phone_bidx_next", ("tenant_id", "phone_bidx_next", "id"), comment="find by phone"),
        Index(
            "ix_user_account_phone_bidx_last4",
            ("tenant_id", "phone_bidx_last4", "id"),
            comment="find by phone_last4",
        ),
        Index(
            "ix_user_account_phone_bidx_last4_next",
            ("tenant_id", "phone_bidx_last4_next", "id"),
            comment="find by phone_last4",
        ),
    ),
    policies=WALL,
    triggers=(
        Trigger(
            "tally_0_audit",
            "AFTER INSERT OR UPDATE OR DELETE",
            (
                "tally_audit.capture('user_account', 'email_bidx', 'email_bidx_next', 'phone_bidx', "
                "'phone_bidx_next', 'phone_bidx_last4', 'phone_bidx_last4_next')"
            ),
        ),
        Trigger(
            "tally_indexed",
            "BEFORE INSERT OR UPDATE",
            "tally.indexed('user_account', 'email_bidx', 'phone_bidx', 'phone_bidx_last4')",
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_sealed",
            "BEFORE INSERT OR UPDATE",
            "tally.sealed_live('email', 'first_name', 'last_name', 'phone', 'password_hash', 'mfa_secret')",
        ),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('user_account', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['pending', 'active']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('user_account', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'pending\' AND NEW."status" = '
                "ANY (ARRAY['active', 'closed', 'erased'])) OR (OLD.\"status\" = 'active' AND NEW.\"status\" = "
                "ANY (ARRAY['suspended', 'locked', 'closed', 'erased'])) OR (OLD.\"status\" = 'suspended' "
                "AND NEW.\"status\" = ANY (ARRAY['active', 'closed', 'erased'])) OR (OLD.\"status\" = 'locked' "
                "AND NEW.\"status\" = ANY (ARRAY['active', 'suspended', 'closed', 'erased'])) OR "
                '(OLD."status" = \'closed\' AND NEW."status" = ANY (ARRAY[\'erased\'])) OR (OLD."status" IS NULL '
                "AND NEW.\"status\" = ANY (ARRAY['pending', 'active']))) IS NOT TRUE"
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
                "email",
                "email_bidx",
                "email_bidx_next",
                "first_name",
                "last_name",
                "phone",
                "phone_bidx",
                "phone_bidx_next",
                "phone_bidx_last4",
                "phone_bidx_last4_next",
                "role",
                "permissions",
                "status",
                "is_verified",
                "password_hash",
                "mfa_enabled",
                "mfa_secret",
                "failed_login_attempts",
                "locked_until",
                "last_login_at",
            ),
        ),
        Grant(
            "app",
            "UPDATE",
            columns=(
                "email",
                "email_bidx",
                "email_bidx_next",
                "first_name",
                "last_name",
                "phone",
                "phone_bidx",
                "phone_bidx_next",
                "phone_bidx_last4",
                "phone_bidx_last4_next",
                "role",
                "permissions",
                "status",
                "is_verified",
                "password_hash",
                "mfa_enabled",
                "mfa_secret",
                "failed_login_attempts",
                "locked_until",
                "last_login_at",
            ),
        ),
        Grant("app", "DELETE"),
    ),
    comment="A person's account with one tenant. The same person at another tenant is another account.",
)

WALLET = Table(
    "wallet",
    (
        *KEY,
        Column("user_id", "uuid"),
        Column("chain_id", "bigint"),
        Column("address", "bytea"),
        Column("is_primary", "boolean"),
        Column("verified_at", "timestamp with time zone", nullable=True),
        *STAMPS,
    ),
    checks=(
        Check("ck_wallet_address_length", "octet_length(address) between 20 and 64"),
        Check("ck_wallet_chain_positive", "chain_id > 0"),
    ),
    foreign_keys=(
        ForeignKey("fk_wallet_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_wallet_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_wallet_chain_id_address", ("tenant_id", "chain_id", "address"), unique=True),
        Index("uq_wallet_user_id", ("tenant_id", "user_id"), unique=True, where="(is_primary)"),
    ),
    policies=WALL,
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('wallet')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=("tenant_id", "id", "user_id", "chain_id", "address", "is_primary", "verified_at"),
        ),
        Grant("app", "UPDATE", columns=("user_id", "chain_id", "address", "is_primary", "verified_at")),
        Grant("app", "DELETE"),
    ),
    comment="An address on a chain that belongs to a user. Addresses are bytes: case and checksums cannot differ.",
)

USER_PROFILE = Table(
    "user_profile",
    (
        *KEY,
        Column("user_id", "uuid"),
        Column("legal_name", "bytea", nullable=True),
        Column("birth_date", "bytea", nullable=True),
        Column("ssn", "bytea", nullable=True),
        Column("ssn_bidx", "bytea", nullable=True),
        Column("ssn_bidx_next", "bytea", nullable=True),
        Column("ssn_bidx_last4", "bytea", nullable=True),
        Column("ssn_bidx_last4_next", "bytea", nullable=True),
        Column("ssn_mask", "bytea", nullable=True),
        Column("address", "bytea", nullable=True),
        Column("annual_income", "bigint", nullable=True),
        Column("asset", 'text COLLATE "C"', nullable=True),
        Column("employment_status", 'text COLLATE "C"', nullable=True),
        Column("employment_months", "bigint", nullable=True),
        Column("home_ownership", 'text COLLATE "C"', nullable=True),
        Column("debt_to_income", "numeric(9,6)", nullable=True),
        Column("privacy_settings", "jsonb"),
        *STAMPS,
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
        Index("ix_user_profile_ssn_bidx_next", ("tenant_id", "ssn_bidx_next", "id"), comment="find by ssn"),
        Index("ix_user_profile_ssn_bidx_last4", ("tenant_id", "ssn_bidx_last4", "id"), comment="find by ssn_last4"),
        Index(
            "ix_user_profile_ssn_bidx_last4_next",
            ("tenant_id", "ssn_bidx_last4_next", "id"),
            comment="find by ssn_last4",
        ),
    ),
    policies=WALL,
    triggers=(
        Trigger(
            "tally_0_audit",
            "AFTER INSERT OR UPDATE OR DELETE",
            (
                "tally_audit.capture('user_profile', 'ssn_bidx', 'ssn_bidx_next', 'ssn_bidx_last4', "
                "'ssn_bidx_last4_next')"
            ),
        ),
        Trigger(
            "tally_indexed",
            "BEFORE INSERT OR UPDATE",
            "tally.indexed('user_profile', 'ssn_bidx', 'ssn_bidx_last4')",
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_sealed",
            "BEFORE INSERT OR UPDATE",
            "tally.sealed_live('legal_name', 'birth_date', 'ssn', 'ssn_mask', 'address')",
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
                "user_id",
                "legal_name",
                "birth_date",
                "ssn",
                "ssn_bidx",
                "ssn_bidx_next",
                "ssn_bidx_last4",
                "ssn_bidx_last4_next",
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
                "ssn_bidx_next",
                "ssn_bidx_last4",
                "ssn_bidx_last4_next",
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
        *KEY,
        Column("user_id", "uuid"),
        Column("purpose", 'text COLLATE "C"'),
        Column("legal_basis", 'text COLLATE "C"'),
        Column("policy_version", 'text COLLATE "C"'),
        Column("granted_at", "timestamp with time zone"),
        Column("evidence", "jsonb", nullable=True),
        Column("withdrawn_at", "timestamp with time zone", nullable=True),
        *STAMPS,
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
    policies=WALL,
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('consent')"),
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

DISCLOSURE = Table(
    "disclosure",
    (
        *KEY,
        Column("entity", 'text COLLATE "C"'),
        Column("row_id", "uuid"),
        Column("field", 'text COLLATE "C"'),
        Column("reason", 'text COLLATE "C"'),
        *STAMPS,
    ),
    checks=(
        Check("ck_disclosure_entity_length", "char_length(entity) between 0 and 63"),
        Check("ck_disclosure_field_length", "char_length(field) between 0 and 63"),
        Check("ck_disclosure_reason_length", "char_length(reason) between 3 and 500"),
    ),
    foreign_keys=(ForeignKey("fk_disclosure_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index(
            "ix_disclosure_row_id_created_at",
            ("tenant_id", "row_id", "created_at", "id"),
            comment="who opened a row's secrets, newest first",
        ),
    ),
    policies=WALL,
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('disclosure')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('disclosure')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "entity", "row_id", "field", "reason")),
    ),
    comment="A sealed field of one row was opened by ``created_by`` for a stated reason. Never holds the value.",
)


def upgrade() -> None:
    """User accounts, wallets, profiles, consents and disclosures."""
    op.invoke(CreateTables(USER_ACCOUNT, WALLET, USER_PROFILE, CONSENT, DISCLOSURE))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(USER_ACCOUNT, WALLET, USER_PROFILE, CONSENT, DISCLOSURE)))
