"""keys of commands, accounts, accounting periods, proposals

Revision ledger_0001, the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "ledger_0001"
down_revision = None
branch_labels = ("ledger",)
depends_on = "kit_0003"
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

# The argument is the logical table; the policies judge whether the row's tenant is the session's. Opening a period
# waits for postings that found no period for their date (they hold the lock shared), so that none can end after it
# closed.
PERIOD_GUARD = """
CREATE FUNCTION tally.ledger_period() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  me uuid := NEW.tenant_id;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('tally period ' || me, 0));
  IF EXISTS (SELECT FROM tally.accounting_period p
    WHERE p.tenant_id = me AND p.starts_on <= NEW.ends_on AND p.ends_on >= NEW.starts_on)
  THEN
    RAISE EXCEPTION 'the period overlaps another' USING ERRCODE = 'TS305', TABLE = TG_ARGV[0];
  END IF;
  RETURN NEW;
END $f$"""

COMMAND_KEY = Table(
    "command_key",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("op", 'text COLLATE "C"'),
        Column("key", 'text COLLATE "C"'),
        Column("request", "bytea"),
        Column("results", "jsonb"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_command_key_op_length", "char_length(op) between 1 and 100"),
        Check("ck_command_key_key_length", "char_length(key) between 1 and 200"),
        Check("ck_command_key_request", "octet_length(request) = 32"),
    ),
    foreign_keys=(ForeignKey("fk_command_key_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_command_key_op_key", ("tenant_id", "op", "key"), unique=True),),
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
        Grant("app", "INSERT", columns=("tenant_id", "id", "op", "key", "request", "results")),
        Grant("app", "UPDATE", columns=("results",)),
        Grant("app", "DELETE"),
    ),
    comment="A command that was done: its operation, its key, a hash of the request and the ids of what it made.",
)

ACCOUNT = Table(
    "account",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("code", 'text COLLATE "C"'),
        Column("asset", 'text COLLATE "C"'),
        Column("kind", 'text COLLATE "C"'),
        Column("floor_rule", 'text COLLATE "C"'),
        Column("stripes", "bigint"),
        Column("name", 'text COLLATE "C"', nullable=True),
        Column("debits", "numeric(38,0)", default="0"),
        Column("credits", "numeric(38,0)", default="0"),
        Column("debits_pending", "numeric(38,0)", default="0"),
        Column("credits_pending", "numeric(38,0)", default="0"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_account_code_length", "char_length(code) between 1 and 120"),
        Check("ck_account_asset_length", "char_length(asset) between 2 and 32"),
        Check("ck_account_kind", "kind in ('asset', 'liability', 'equity', 'income', 'expense')"),
        Check("ck_account_floor_rule", "floor_rule in ('none', 'debits_le_credits', 'credits_le_debits')"),
        Check("ck_account_name_length", "char_length(name) between 0 and 200"),
        Check("ck_account_stripes", "stripes between 0 and 64"),
        Check("ck_account_striped", "stripes = 0 or floor_rule = 'none'"),
        Check("ck_account_pending", "debits_pending >= 0 and credits_pending >= 0"),
        Check(
            "ck_account_floor",
            (
                "(floor_rule <> 'debits_le_credits' or debits + debits_pending <= credits) and (floor_rule <> "
                "'credits_le_debits' or credits + credits_pending <= debits)"
            ),
        ),
    ),
    foreign_keys=(ForeignKey("fk_account_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index("uq_account_code", ("tenant_id", "code"), unique=True),
        Index("uq_account_id_asset", ("tenant_id", "id", "asset"), unique=True),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger(
            "tally_0_audit",
            "AFTER INSERT OR DELETE",
            "tally_audit.capture('account', 'debits', 'credits', 'debits_pending', 'credits_pending')",
        ),
        Trigger(
            "tally_0_audit_step",
            "AFTER UPDATE",
            "tally_audit.capture('account', 'debits', 'credits', 'debits_pending', 'credits_pending')",
            '(OLD."tenant_id", OLD."id", OLD."code", OLD."asset", OLD."kind", OLD."floor_rule", '
            'OLD."stripes", OLD."name", OLD."version", OLD."created_at", OLD."created_by", '
            'OLD."updated_at", OLD."updated_by") IS DISTINCT FROM (NEW."tenant_id", NEW."id", '
            'NEW."code", NEW."asset", NEW."kind", NEW."floor_rule", NEW."stripes", NEW."name", '
            'NEW."version", NEW."created_at", NEW."created_by", NEW."updated_at", NEW."updated_by")',
        ),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('account')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('account')",
            when=(
                'pg_trigger_depth() = 0 AND (OLD."debits" IS DISTINCT FROM NEW."debits" OR OLD."credits" IS '
                'DISTINCT FROM NEW."credits" OR OLD."debits_pending" IS DISTINCT FROM NEW."debits_pending" OR '
                'OLD."credits_pending" IS DISTINCT FROM NEW."credits_pending")'
            ),
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('account')",
            when=(
                'pg_trigger_depth() = 0 AND (NEW."debits" IS DISTINCT FROM 0 OR NEW."credits" IS DISTINCT FROM 0 '
                'OR NEW."debits_pending" IS DISTINCT FROM 0 OR NEW."credits_pending" IS DISTINCT FROM 0)'
            ),
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()", when="pg_trigger_depth() = 0"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant(
            "app",
            "INSERT",
            columns=("tenant_id", "id", "code", "asset", "kind", "floor_rule", "stripes", "name"),
        ),
        Grant("app", "UPDATE", columns=("name",)),
    ),
    comment="A place where money of one asset is. Everything but its name is settled when it is opened.",
    fillfactor=70,
)

ACCOUNT_STRIPE = Table(
    "account_stripe",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("account_id", "uuid"),
        Column("number", "bigint"),
        Column("debits", "numeric(38,0)", default="0"),
        Column("credits", "numeric(38,0)", default="0"),
        Column("debits_pending", "numeric(38,0)", default="0"),
        Column("credits_pending", "numeric(38,0)", default="0"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(Check("ck_account_stripe_number", "number between 0 and 63"),),
    foreign_keys=(
        ForeignKey("fk_account_stripe_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_account_stripe_account", ("tenant_id", "account_id"), "account", ("tenant_id", "id")),
    ),
    indexes=(Index("uq_account_stripe_account_id_number", ("tenant_id", "account_id", "number"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('account_stripe')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('account_stripe')",
            when=(
                'pg_trigger_depth() = 0 AND (OLD."debits" IS DISTINCT FROM NEW."debits" OR OLD."credits" IS '
                'DISTINCT FROM NEW."credits" OR OLD."debits_pending" IS DISTINCT FROM NEW."debits_pending" OR '
                'OLD."credits_pending" IS DISTINCT FROM NEW."credits_pending")'
            ),
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('account_stripe')",
            when=(
                'pg_trigger_depth() = 0 AND (NEW."debits" IS DISTINCT FROM 0 OR NEW."credits" IS DISTINCT FROM 0 '
                'OR NEW."debits_pending" IS DISTINCT FROM 0 OR NEW."credits_pending" IS DISTINCT FROM 0)'
            ),
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()", when="pg_trigger_depth() = 0"),
    ),
    grants=(Grant("app", "SELECT"), Grant("app", "INSERT", columns=("tenant_id", "id", "account_id", "number"))),
    comment="One of the rows over which a hot account's balance is spread; only their sum means anything.",
    fillfactor=70,
)

ACCOUNTING_PERIOD = Table(
    "accounting_period",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("starts_on", "date"),
        Column("ends_on", "date"),
        Column("name", 'text COLLATE "C"', nullable=True),
        Column("status", 'text COLLATE "C"'),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_accounting_period_name_length", "char_length(name) between 0 and 100"),
        Check("ck_accounting_period_status", "status in ('open', 'closing', 'closed')"),
        Check("ck_accounting_period_order", "starts_on <= ends_on"),
    ),
    foreign_keys=(ForeignKey("fk_accounting_period_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index("ix_accounting_period_starts_on", ("tenant_id", "starts_on", "id"), comment="the period of a date"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('accounting_period')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('accounting_period')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_period", "BEFORE INSERT", "tally.ledger_period('accounting_period')"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('accounting_period', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['open']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('accounting_period', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'open\' AND NEW."status" = ANY '
                "(ARRAY['closing'])) OR (OLD.\"status\" = 'closing' AND NEW.\"status\" = ANY (ARRAY['closed'])) "
                'OR (OLD."status" IS NULL AND NEW."status" = ANY (ARRAY[\'open\']))) IS NOT TRUE'
            ),
        ),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "starts_on", "ends_on", "name", "status")),
        Grant("app", "UPDATE", columns=("name", "status")),
    ),
    comment=(
        "The days from ``starts_on`` to ``ends_on``, both included. Periods do not overlap and are never reopened."
    ),
)

JOURNAL_PROPOSAL = Table(
    "journal_proposal",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("op", 'text COLLATE "C"'),
        Column("legs", "jsonb"),
        Column("effective", "date", nullable=True),
        Column("reverses", "uuid", nullable=True),
        Column("source", 'text COLLATE "C"', nullable=True),
        Column("source_id", "uuid", nullable=True),
        Column("description", 'text COLLATE "C"', nullable=True),
        Column("status", 'text COLLATE "C"'),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_journal_proposal_op_length", "char_length(op) between 1 and 64"),
        Check("ck_journal_proposal_source_length", "char_length(source) between 1 and 63"),
        Check("ck_journal_proposal_description_length", "char_length(description) between 0 and 500"),
        Check("ck_journal_proposal_status", "status in ('proposed', 'approved', 'rejected')"),
    ),
    foreign_keys=(ForeignKey("fk_journal_proposal_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index(
            "ix_journal_proposal_status_created_at",
            ("tenant_id", "status", "created_at", "id"),
            comment="proposals that wait, oldest first",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('journal_proposal')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('journal_proposal')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('journal_proposal', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['proposed']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('journal_proposal', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'proposed\' AND NEW."status" = '
                "ANY (ARRAY['approved', 'rejected'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY "
                "(ARRAY['proposed']))) IS NOT TRUE"
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
                "op",
                "legs",
                "effective",
                "reverses",
                "source",
                "source_id",
                "description",
                "status",
            ),
        ),
        Grant("app", "UPDATE", columns=("status",)),
    ),
    comment=("What its maker wants posted. A checker, who is somebody else, approves or rejects it; it never changes."),
)


def upgrade() -> None:
    """Keys of commands, accounts, accounting periods, proposals."""
    op.invoke(Sql([PERIOD_GUARD, "REVOKE ALL ON FUNCTION tally.ledger_period() FROM PUBLIC"]))
    op.invoke(CreateTables(COMMAND_KEY, ACCOUNT, ACCOUNT_STRIPE, ACCOUNTING_PERIOD, JOURNAL_PROPOSAL))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(COMMAND_KEY, ACCOUNT, ACCOUNT_STRIPE, ACCOUNTING_PERIOD, JOURNAL_PROPOSAL)))
    op.invoke(Sql(["DROP FUNCTION tally.ledger_period()"]))
