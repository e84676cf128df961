"""what logins keep: counts of attempts, tokens, used codes, recovery codes, external identities

Revision identity_0003, after identity_0002.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "identity_0003"
down_revision = "identity_0002"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

LOGIN_THROTTLE = Table(
    "login_throttle",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("scope", 'text COLLATE "C"'),
        Column("key", "bytea"),
        Column("tries", "bigint"),
        Column("since", "timestamp with time zone"),
        Column("open_at", "timestamp with time zone"),
        Column("refused", "boolean"),
        Column("known_until", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_login_throttle_scope", "scope in ('pair', 'source', 'account', 'tenant')"),
        Check("ck_login_throttle_key", "octet_length(key) = 32"),
        Check("ck_login_throttle_tries", "tries between 0 and 1000000"),
    ),
    foreign_keys=(ForeignKey("fk_login_throttle_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index("uq_login_throttle_scope_key", ("tenant_id", "scope", "key"), unique=True),
        Index("ix_login_throttle_since", ("tenant_id", "since", "id"), comment="counts that are over"),
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
            columns=("tenant_id", "id", "scope", "key", "tries", "since", "open_at", "refused", "known_until"),
        ),
        Grant("app", "UPDATE", columns=("tries", "since", "open_at", "refused", "known_until")),
        Grant("app", "DELETE"),
    ),
    comment="How many attempts there were, and from when on the next one is judged.",
    fillfactor=70,
)

LOGIN_TOKEN = Table(
    "login_token",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("use", 'text COLLATE "C"'),
        Column("digest", "bytea"),
        Column("expires_at", "timestamp with time zone"),
        Column("used_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_login_token_use", "use in ('challenge', 'reset')"),
        Check("ck_login_token_digest", "octet_length(digest) = 32"),
    ),
    foreign_keys=(
        ForeignKey("fk_login_token_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_login_token_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_login_token_digest", ("tenant_id", "digest"), unique=True),
        Index(
            "ix_login_token_user_id",
            ("tenant_id", "user_id", "id"),
            where="used_at is null",
            comment="a person's open tokens",
        ),
        Index("ix_login_token_expires_at", ("tenant_id", "expires_at", "id"), comment="tokens that are over"),
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
        Grant("app", "INSERT", columns=("tenant_id", "id", "user_id", "use", "digest", "expires_at", "used_at")),
        Grant("app", "UPDATE", columns=("used_at",)),
        Grant("app", "DELETE"),
    ),
    comment=(
        "A token that was given out, as its hash: 256 random bits need no slow one. It holds once and until it expires."
    ),
)

AUTHENTICATOR = Table(
    "authenticator",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("last_step", "bigint"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(Check("ck_authenticator_last_step", "last_step >= 0"),),
    foreign_keys=(
        ForeignKey("fk_authenticator_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_authenticator_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(Index("uq_authenticator_user_id", ("tenant_id", "user_id"), unique=True),),
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
        Grant("app", "INSERT", columns=("tenant_id", "id", "user_id", "last_step")),
        Grant("app", "UPDATE", columns=("last_step",)),
        Grant("app", "DELETE"),
    ),
    comment="The step (half minute, RFC 6238) of the code that a person used last. The secret is the account's.",
)

RECOVERY_CODE = Table(
    "recovery_code",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("digest", "bytea"),
        Column("used_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(Check("ck_recovery_code_digest", "octet_length(digest) = 32"),),
    foreign_keys=(
        ForeignKey("fk_recovery_code_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_recovery_code_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(Index("uq_recovery_code_user_id_digest", ("tenant_id", "user_id", "digest"), unique=True),),
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
        Grant("app", "INSERT", columns=("tenant_id", "id", "user_id", "digest", "used_at")),
        Grant("app", "UPDATE", columns=("used_at",)),
        Grant("app", "DELETE"),
    ),
    comment="One code of a person, as a keyed hash: 80 random bits need no slow one. It works once.",
)

EXTERNAL_IDENTITY = Table(
    "external_identity",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("issuer", 'text COLLATE "C"'),
        Column("subject", "bytea"),
        Column("subject_bidx", "bytea", nullable=True),
        Column("subject_bidx_next", "bytea", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(Check("ck_external_identity_issuer_length", "char_length(issuer) between 1 and 255"),),
    foreign_keys=(
        ForeignKey("fk_external_identity_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_external_identity_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_external_identity_issuer_subject_bidx", ("tenant_id", "issuer", "subject_bidx"), unique=True),
        Index(
            "uq_external_identity_issuer_subject_bidx_next",
            ("tenant_id", "issuer", "subject_bidx_next"),
            unique=True,
        ),
        Index("ix_external_identity_user_id", ("tenant_id", "user_id", "id"), comment="a person's identities"),
        Index("ix_external_identity_subject_bidx", ("tenant_id", "subject_bidx", "id"), comment="find by subject"),
        Index(
            "ix_external_identity_subject_bidx_next",
            ("tenant_id", "subject_bidx_next", "id"),
            comment="find by subject",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger(
            "tally_0_audit",
            "AFTER INSERT OR UPDATE OR DELETE",
            "tally_audit.capture('external_identity', 'subject_bidx', 'subject_bidx_next')",
        ),
        Trigger("tally_indexed", "BEFORE INSERT OR UPDATE", "tally.indexed('external_identity', 'subject_bidx')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_sealed", "BEFORE INSERT OR UPDATE", "tally.sealed_live('subject')"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=("tenant_id", "id", "user_id", "issuer", "subject", "subject_bidx", "subject_bidx_next"),
        ),
        Grant("app", "UPDATE", columns=("subject", "subject_bidx", "subject_bidx_next")),
        Grant("app", "DELETE"),
    ),
    comment="A person as an identity provider knows them; once in a tenant. Who has one has no password.",
)


def upgrade() -> None:
    """What logins keep."""
    op.invoke(CreateTables(LOGIN_THROTTLE, LOGIN_TOKEN, AUTHENTICATOR, RECOVERY_CODE, EXTERNAL_IDENTITY))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(LOGIN_THROTTLE, LOGIN_TOKEN, AUTHENTICATOR, RECOVERY_CODE, EXTERNAL_IDENTITY)))
