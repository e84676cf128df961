"""sessions of behaviour and its inputs

Revision reputation_0001, the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "reputation_0001"
down_revision = None
branch_labels = ("reputation",)
depends_on = "identity_0001"
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

PROCESSED = """
CREATE FUNCTION tally.behavior_processed() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF OLD.done_at IS NOT NULL AND NEW.done_at IS DISTINCT FROM OLD.done_at THEN
    RAISE EXCEPTION 'a processed row of % stays processed', TG_ARGV[0] USING ERRCODE = 'TS301', TABLE = TG_ARGV[0];
  END IF;
  NEW.processed_at := NEW.done_at;
  RETURN NEW;
END $f$"""

BEHAVIOR_SESSION = Table(
    "behavior_session",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("type", 'text COLLATE "C"'),
        Column("status", 'text COLLATE "C"'),
        Column("started_at", "timestamp with time zone"),
        Column("ended_at", "timestamp with time zone", nullable=True),
        Column("token_hash", "bytea", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_behavior_session_type", "type in ('web', 'mobile', 'api', 'wallet', 'import')"),
        Check(
            "ck_behavior_session_status",
            "status in ('open', 'closed', 'expired', 'abandoned', 'processing', 'scored')",
        ),
        Check("ck_behavior_session_token", "token_hash is null or octet_length(token_hash) = 32"),
        Check("ck_behavior_session_order", "ended_at is null or ended_at >= started_at"),
        Check("ck_behavior_session_ended", "(status = 'open') = (ended_at is null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_behavior_session_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_behavior_session_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_behavior_session_token_hash",
            ("tenant_id", "token_hash"),
            unique=True,
            where="(token_hash is not null)",
        ),
        Index("uq_behavior_session_id_user_id", ("tenant_id", "id", "user_id"), unique=True),
        Index(
            "ix_behavior_session_user_id_started_at",
            ("tenant_id", "user_id", "started_at", "id"),
            comment="a user's sessions, newest first",
        ),
        Index(
            "ix_behavior_session_status_started_at",
            ("tenant_id", "status", "started_at", "id"),
            comment="sessions of a status: those to process, those to expire",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('behavior_session')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('behavior_session', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['open']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('behavior_session', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'open\' AND NEW."status" = ANY '
                "(ARRAY['closed', 'expired', 'abandoned'])) OR (OLD.\"status\" = 'closed' AND NEW.\"status\" = "
                "ANY (ARRAY['processing'])) OR (OLD.\"status\" = 'processing' AND NEW.\"status\" = ANY "
                "(ARRAY['scored'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY (ARRAY['open']))) IS NOT "
                "TRUE"
            ),
        ),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=("tenant_id", "id", "user_id", "type", "status", "started_at", "ended_at", "token_hash"),
        ),
        Grant("app", "UPDATE", columns=("status", "ended_at")),
        Grant("app", "DELETE"),
    ),
    comment="One session of a user. ``token_hash`` is the SHA-256 of its token; the token itself is never stored.",
)

BEHAVIOR_INPUT = Table(
    "behavior_input",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("user_id", "uuid"),
        Column("session_id", "uuid", nullable=True),
        Column("client_session", 'text COLLATE "C"', nullable=True),
        Column("type", 'text COLLATE "C"'),
        Column("source", 'text COLLATE "C"'),
        Column("external_id", 'text COLLATE "C"'),
        Column("payload", "jsonb"),
        Column("payload_hash", "bytea", nullable=True),
        Column("occurred_at", "timestamp with time zone"),
        Column("processed_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("lease_token", "uuid", nullable=True),
        Column("lease_until", "timestamp with time zone", nullable=True),
        Column("lease_by", 'text COLLATE "C"', nullable=True),
        Column("attempts", "bigint", default="0"),
        Column("done_at", "timestamp with time zone", nullable=True),
    ),
    checks=(
        Check("ck_behavior_input_client_session_length", "char_length(client_session) between 1 and 200"),
        Check(
            "ck_behavior_input_type",
            "type in ('transaction', 'defi', 'nft', 'governance', 'social', 'login', 'survey', 'other')",
        ),
        Check("ck_behavior_input_source", "source in ('blockchain', 'api', 'web', 'mobile', 'oracle', 'manual')"),
        Check("ck_behavior_input_external_id_length", "char_length(external_id) between 1 and 200"),
        Check("ck_behavior_input_payload_hash", "payload_hash is null or octet_length(payload_hash) = 32"),
    ),
    foreign_keys=(
        ForeignKey("fk_behavior_input_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_behavior_input_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
        ForeignKey(
            "fk_behavior_input_session_user",
            ("tenant_id", "session_id", "user_id"),
            "behavior_session",
            ("tenant_id", "id", "user_id"),
        ),
    ),
    indexes=(
        Index(
            "uq_behavior_input_user_id_source_external_id",
            ("tenant_id", "user_id", "source", "external_id"),
            unique=True,
        ),
        Index(
            "ix_behavior_input_user_id_occurred_at",
            ("tenant_id", "user_id", "occurred_at", "id"),
            comment="a user's inputs by time",
        ),
        Index(
            "ix_behavior_input_session_id_occurred_at",
            ("tenant_id", "session_id", "occurred_at", "id"),
            comment="the inputs of a session",
        ),
        Index(
            "ix_behavior_input_client_session_occurred_at",
            ("tenant_id", "client_session", "occurred_at", "id"),
            comment="the inputs of an outside session",
        ),
        Index(
            "ix_behavior_input_type_occurred_at",
            ("tenant_id", "type", "occurred_at", "id"),
            comment="inputs of a type by time",
        ),
        Index(
            "ix_behavior_input_queue",
            ("tenant_id", "occurred_at", "id"),
            where="done_at is null",
            comment="work items to claim",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('behavior_input')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('behavior_input')",
            when='pg_trigger_depth() = 0 AND (OLD."processed_at" IS DISTINCT FROM NEW."processed_at")',
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('behavior_input')",
            when='pg_trigger_depth() = 0 AND (NEW."processed_at" IS DISTINCT FROM NULL)',
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_processed",
            "BEFORE UPDATE",
            "tally.behavior_processed('behavior_input')",
            when='OLD."done_at" IS DISTINCT FROM NEW."done_at"',
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
                "user_id",
                "session_id",
                "client_session",
                "type",
                "source",
                "external_id",
                "payload",
                "payload_hash",
                "occurred_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("lease_token", "lease_until", "lease_by", "attempts", "done_at")),
        Grant("app", "DELETE"),
    ),
    comment=(
        "One thing that a user did, once for each user, source and ``external_id`` however often it is delivered."
    ),
)

FUNCTIONS = {
    PROCESSED: "tally.behavior_processed()",
}
TABLES = (BEHAVIOR_SESSION, BEHAVIOR_INPUT)


def upgrade() -> None:
    """Sessions of behaviour and its inputs."""
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
