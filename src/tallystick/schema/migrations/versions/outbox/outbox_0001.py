"""Messages that leave with the work that made them, and the lanes that put them in order.

Revision outbox_0001, after nothing: the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "outbox_0001"
down_revision = None
branch_labels = ("outbox",)
depends_on = ["kit_0004", "identity_0001"]
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# The lane's row is held until the transaction ends: whoever adds to the key next gets a later number, and only once
# this one has committed. A lane's numbers say nothing of other tenants, as a sequence would.
ORDER = """
CREATE FUNCTION tally.outbox_order() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF NEW.key IS NOT NULL THEN
    INSERT INTO tally.outbox_lane AS l (tenant_id, id, lane, last)
    VALUES (NEW.tenant_id, gen_random_uuid(), hashtextextended(NEW.topic || ' ' || NEW.key, 0) & 1023, 1)
    ON CONFLICT (tenant_id, lane) DO UPDATE SET last = l.last + 1
    RETURNING l.last INTO STRICT NEW.position;
  END IF;
  NEW.due_at := coalesce(NEW.due_at, now());
  NEW.tries := 0;
  NEW.token := NULL;
  RETURN NEW;
END $f$"""

OUTBOX_LANE = Table(
    "outbox_lane",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("lane", "bigint"),
        Column("last", "bigint", default="0"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(Check("ck_outbox_lane_lane", "lane between 0 and 1023"),),
    foreign_keys=(ForeignKey("fk_outbox_lane_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_outbox_lane_lane", ("tenant_id", "lane"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('outbox_lane')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('outbox_lane')",
            when='pg_trigger_depth() = 0 AND (OLD."last" IS DISTINCT FROM NEW."last")',
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('outbox_lane')",
            when='pg_trigger_depth() = 0 AND (NEW."last" IS DISTINCT FROM 0)',
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()", when="pg_trigger_depth() = 0"),
    ),
    grants=(Grant("app", "SELECT"), Grant("app", "INSERT", columns=("tenant_id", "id", "lane"))),
    comment=(
        "A counter that keys share: who adds a message of a key waits here for whoever added before and has not "
        "committed."
    ),
    fillfactor=50,
)

OUTBOX_MESSAGE = Table(
    "outbox_message",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("topic", 'text COLLATE "C"'),
        Column("key", 'text COLLATE "C"', nullable=True),
        Column("payload", "jsonb", nullable=True),
        Column("personal", "bytea", nullable=True),
        Column("subject_id", "uuid", nullable=True),
        Column("dedupe", 'text COLLATE "C"', nullable=True),
        Column("reason", 'text COLLATE "C"', nullable=True),
        Column("request_id", 'text COLLATE "C"', nullable=True),
        Column("position", "bigint", default="0"),
        Column("state", 'text COLLATE "C"'),
        Column("due_at", "timestamp with time zone", nullable=True),
        Column("token", "uuid", nullable=True),
        Column("tries", "bigint"),
        Column("error", 'text COLLATE "C"', nullable=True),
        Column("finished_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_outbox_message_topic_length", "char_length(topic) between 1 and 100"),
        Check("ck_outbox_message_key_length", "char_length(key) between 1 and 200"),
        Check("ck_outbox_message_dedupe_length", "char_length(dedupe) between 1 and 200"),
        Check("ck_outbox_message_reason_length", "char_length(reason) between 0 and 500"),
        Check("ck_outbox_message_request_id_length", "char_length(request_id) between 0 and 200"),
        Check("ck_outbox_message_state", "state in ('pending', 'done', 'dead', 'stuck', 'discarded')"),
        Check("ck_outbox_message_error_length", "char_length(error) between 1 and 100"),
        Check("ck_outbox_message_tries", "tries >= 0"),
        Check("ck_outbox_message_payload", "octet_length(payload::text) <= 131072"),
        Check("ck_outbox_message_finished", "(state in ('done', 'discarded')) = (finished_at is not null)"),
        Check("ck_outbox_message_held", "token is null or state = 'pending'"),
        Check("ck_outbox_message_personal", "personal is null or subject_id is not null"),
    ),
    foreign_keys=(
        ForeignKey("fk_outbox_message_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_outbox_message_subject", ("tenant_id", "subject_id"), "user_account", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "uq_outbox_message_topic_dedupe",
            ("tenant_id", "topic", "dedupe"),
            unique=True,
            where="(dedupe is not null)",
        ),
        Index(
            "ix_outbox_message_topic_key_position",
            ("tenant_id", "topic", "key", "position", "id"),
            where="key is not null and state in ('pending', 'stuck')",
            comment="the messages of a key that are not over, in order",
        ),
        Index(
            "ix_outbox_message_topic_due_at",
            ("tenant_id", "topic", "due_at", "id"),
            where="key is null and state = 'pending'",
            comment="messages without a key that are due",
        ),
        Index(
            "ix_outbox_message_topic_state_created_at",
            ("tenant_id", "topic", "state", "created_at", "id"),
            where="state in ('dead', 'stuck')",
            comment="dead letters",
        ),
        Index(
            "ix_outbox_message_subject_id",
            ("tenant_id", "subject_id", "id"),
            where="subject_id is not null",
            comment="messages about a person",
        ),
        Index(
            "ix_outbox_message_finished_at",
            ("tenant_id", "finished_at", "id"),
            where="finished_at is not null",
            comment="messages to purge",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('outbox_message')",
            when='pg_trigger_depth() = 0 AND (OLD."position" IS DISTINCT FROM NEW."position")',
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('outbox_message')",
            when='pg_trigger_depth() = 0 AND (NEW."position" IS DISTINCT FROM 0)',
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_order", "BEFORE INSERT", "tally.outbox_order()"),
        Trigger("tally_sealed", "BEFORE INSERT OR UPDATE", "tally.sealed_live('personal')"),
        Trigger(
            "tally_start_state",
            "BEFORE INSERT",
            "tally.refuse_transition('outbox_message', 'state')",
            when="NOT (NEW.\"state\" = ANY (ARRAY['pending']))",
        ),
        Trigger(
            "tally_step_state",
            "BEFORE UPDATE",
            "tally.refuse_transition('outbox_message', 'state')",
            when=(
                'OLD."state" IS DISTINCT FROM NEW."state" AND ((OLD."state" = \'pending\' AND NEW."state" = ANY '
                "(ARRAY['done', 'dead', 'stuck', 'discarded'])) OR (OLD.\"state\" = 'dead' AND NEW.\"state\" "
                "= ANY (ARRAY['pending', 'discarded'])) OR (OLD.\"state\" = 'stuck' AND NEW.\"state\" = ANY "
                "(ARRAY['pending', 'discarded'])) OR (OLD.\"state\" IS NULL AND NEW.\"state\" = ANY "
                "(ARRAY['pending']))) IS NOT TRUE"
            ),
        ),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()", when="pg_trigger_depth() = 0"),
        Trigger(
            "tally_unfinished",
            "BEFORE DELETE",
            "tally.refuse_change('outbox_message')",
            when="OLD.\"state\" not in ('done', 'discarded')",
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
                "topic",
                "key",
                "payload",
                "personal",
                "subject_id",
                "dedupe",
                "reason",
                "request_id",
                "state",
                "due_at",
                "token",
                "tries",
                "error",
                "finished_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("state", "due_at", "token", "tries", "error", "finished_at")),
        Grant("app", "DELETE"),
    ),
    comment="A message to be handled at least once, in order among those of its topic and key.",
    fillfactor=70,
)

NAME = "tally.outbox_order()"
TABLES = (OUTBOX_LANE, OUTBOX_MESSAGE)


def upgrade() -> None:
    """Messages that leave with the work that made them."""
    op.invoke(Sql([ORDER, f"REVOKE ALL ON FUNCTION {NAME} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {NAME}"]))
