"""proofs and what happened to them

Revision proofs_0002.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Sql, Undo

revision = "proofs_0002"
down_revision = "proofs_0001"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

ASKED = """
CREATE FUNCTION tally.proof_asked() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  PERFORM FROM tally.zk_verifying_key k WHERE k.tenant_id = NEW.tenant_id AND k.id = NEW.key_id
    AND k.retired_at IS NOT NULL FOR SHARE;
  IF FOUND THEN
    RAISE EXCEPTION 'the verifying key is retired' USING ERRCODE = 'TS902', TABLE = TG_ARGV[0];
  END IF;
  IF NEW.proof IS NOT NULL OR NEW.public_signals IS NOT NULL OR NEW.nullifier IS NOT NULL THEN
    RAISE EXCEPTION 'a request has no proof yet' USING ERRCODE = 'TS903', TABLE = TG_ARGV[0];
  END IF;
  IF NEW.user_id IS NOT NULL THEN
    PERFORM FROM tally.consent c WHERE c.tenant_id = NEW.tenant_id AND c.id = NEW.consent_id
      AND c.user_id = NEW.user_id AND c.purpose = 'zk_proof' AND c.withdrawn_at IS NULL FOR SHARE;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'no consent stands behind a request' USING ERRCODE = 'TS901', TABLE = TG_ARGV[0];
    END IF;
  END IF;
  RETURN NEW;
END $f$"""

RECEIVED = """
CREATE FUNCTION tally.proof_received() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF (OLD.proof, OLD.public_signals, OLD.nullifier) IS NOT DISTINCT FROM
    (NEW.proof, NEW.public_signals, NEW.nullifier) THEN
    RETURN NEW;
  END IF;
  IF OLD.status <> 'requested' OR clock_timestamp() >= OLD.answer_by THEN
    RAISE EXCEPTION 'the request takes no proof' USING ERRCODE = 'TS903', TABLE = TG_ARGV[0];
  END IF;
  IF NEW.user_id IS NOT NULL THEN
    PERFORM FROM tally.consent c WHERE c.tenant_id = NEW.tenant_id AND c.user_id = NEW.user_id
      AND c.purpose = 'zk_proof' AND c.withdrawn_at IS NULL FOR SHARE;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'no consent stands behind a proof' USING ERRCODE = 'TS901', TABLE = TG_ARGV[0];
    END IF;
  END IF;
  NEW.status := 'received';
  NEW.received_at := clock_timestamp();
  RETURN NEW;
END $f$"""

EVENT = """
CREATE FUNCTION tally.proof_event() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  p record;
  pad record;
  said bytea;
BEGIN
  SELECT z.*, k.sha256 AS key_hash INTO p FROM tally.zk_proof z
    JOIN tally.zk_verifying_key k ON k.tenant_id = z.tenant_id AND k.id = z.key_id
    WHERE z.tenant_id = NEW.tenant_id AND z.id = NEW.proof_id FOR NO KEY UPDATE OF z;
  IF NEW.kind IN ('consumed', 'revoked') THEN
    IF p.status <> 'verified' OR (NEW.kind = 'consumed' AND clock_timestamp() >= p.expires_at) THEN
      RAISE EXCEPTION 'the proof cannot be %', NEW.kind USING ERRCODE = 'TS906', TABLE = TG_ARGV[0];
    END IF;
  ELSE
    IF p.status NOT IN ('received', 'error') OR (NEW.kind = 'verified' AND clock_timestamp() >= p.expires_at) THEN
      RAISE EXCEPTION 'the proof waits for no verdict' USING ERRCODE = 'TS906', TABLE = TG_ARGV[0];
    END IF;
    SELECT v.inner_pad, v.outer_pad INTO pad FROM tally_sec.proof_verifier v WHERE v.name = NEW.verifier;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'no such verifier' USING ERRCODE = 'TS904', TABLE = TG_ARGV[0];
    END IF;
    said := convert_to(concat_ws('|', 'tallystick verdict 1', p.tenant_id, p.id, encode(p.key_hash, 'hex'),
      encode(sha256(p.proof), 'hex'),
      encode(sha256(convert_to(coalesce((SELECT string_agg(s.v, ',' ORDER BY s.n)
        FROM jsonb_array_elements_text(p.public_signals) WITH ORDINALITY AS s (v, n)), ''), 'UTF8')), 'hex'),
      coalesce(encode(p.nullifier, 'hex'), ''), NEW.kind, coalesce(NEW.reason, '')), 'UTF8');
    said := sha256(pad.outer_pad || sha256(pad.inner_pad || said));
    -- What is compared is keyed once more, so that how long it takes says nothing of how much of a guess was right.
    IF sha256(pad.outer_pad || said) <> sha256(pad.outer_pad || NEW.attestation) THEN
      RAISE EXCEPTION 'the attestation does not fit' USING ERRCODE = 'TS905', TABLE = TG_ARGV[0];
    END IF;
  END IF;
  UPDATE tally.zk_proof z SET status = NEW.kind WHERE z.tenant_id = NEW.tenant_id AND z.id = NEW.proof_id;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the proof cannot be reached' USING ERRCODE = 'TS906', TABLE = TG_ARGV[0];
  END IF;
  RETURN NULL;
END $f$"""

# Who may reach verdicts, and the blocks of their keys (RFC 2104): for the owner alone.
VERIFIERS = (
    'CREATE TABLE tally_sec.proof_verifier (name text COLLATE "C" PRIMARY KEY, inner_pad bytea NOT NULL, '
    "outer_pad bytea NOT NULL)",
    "REVOKE ALL ON tally_sec.proof_verifier FROM PUBLIC",
    "COMMENT ON TABLE tally_sec.proof_verifier IS 'What signs verdicts on proofs; for the owner alone.'",
)

ZK_PROOF = Table(
    "zk_proof",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("circuit_id", "uuid"),
        Column("key_id", "uuid"),
        Column("modulus", "bytea"),
        Column("user_id", "uuid", nullable=True),
        Column("consent_id", "uuid", nullable=True),
        Column("purpose", 'text COLLATE "C"'),
        Column("scope", 'text COLLATE "C"'),
        Column("challenge", "bytea"),
        Column("context", "bytea"),
        Column("expected", "jsonb"),
        Column("answer_by", "timestamp with time zone"),
        Column("expires_at", "timestamp with time zone"),
        Column("status", 'text COLLATE "C"', default="'requested'"),
        Column("proof", "bytea", nullable=True),
        Column("public_signals", "jsonb", nullable=True),
        Column("nullifier", "bytea", nullable=True),
        Column("received_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_zk_proof_purpose_length", "char_length(purpose) between 1 and 200"),
        Check("ck_zk_proof_scope_length", "char_length(scope) between 1 and 200"),
        Check(
            "ck_zk_proof_status",
            "status in ('requested', 'received', 'verified', 'rejected', 'error', 'consumed', 'revoked')",
        ),
        Check(
            "ck_zk_proof_challenge",
            "octet_length(challenge) = 32 and octet_length(context) = 32 and context < modulus",
        ),
        Check(
            "ck_zk_proof_nullifier",
            "nullifier is null or (octet_length(nullifier) = 32 and nullifier < modulus)",
        ),
        Check("ck_zk_proof_proof_size", "proof is null or octet_length(proof) between 1 and 1000000"),
        Check("ck_zk_proof_consent", "user_id is null or consent_id is not null"),
        Check(
            "ck_zk_proof_received",
            "(proof is null) = (received_at is null) and (proof is null) = (public_signals is null)",
        ),
        Check("ck_zk_proof_nullifier_of_proof", "nullifier is null or proof is not null"),
        Check("ck_zk_proof_order", "answer_by <= expires_at"),
    ),
    foreign_keys=(
        ForeignKey("fk_zk_proof_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_zk_proof_user", ("tenant_id", "user_id"), "user_account", ("tenant_id", "id")),
        ForeignKey("fk_zk_proof_consent", ("tenant_id", "consent_id"), "consent", ("tenant_id", "id")),
        ForeignKey(
            "fk_zk_proof_circuit_modulus",
            ("tenant_id", "circuit_id", "modulus"),
            "zk_circuit",
            ("tenant_id", "id", "modulus"),
        ),
        ForeignKey(
            "fk_zk_proof_key_circuit",
            ("tenant_id", "key_id", "circuit_id"),
            "zk_verifying_key",
            ("tenant_id", "id", "circuit_id"),
        ),
    ),
    indexes=(
        Index("uq_zk_proof_challenge", ("tenant_id", "challenge"), unique=True),
        Index(
            "uq_zk_proof_circuit_id_scope_nullifier",
            ("tenant_id", "circuit_id", "scope", "nullifier"),
            unique=True,
            where="(status in ('verified', 'consumed', 'revoked'))",
        ),
        Index(
            "ix_zk_proof_user_id_created_at",
            ("tenant_id", "user_id", "created_at", "id"),
            comment="a user's proofs, newest first",
        ),
        Index(
            "ix_zk_proof_status_expires_at",
            ("tenant_id", "status", "expires_at", "id"),
            comment="proofs of a status: those to judge, those that expire",
        ),
        Index("ix_zk_proof_key_id", ("tenant_id", "key_id", "id"), comment="rows of one key"),
        Index("ix_zk_proof_consent_id", ("tenant_id", "consent_id", "id"), comment="rows of one consent"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('zk_proof')"),
        Trigger("tally_asked", "BEFORE INSERT", "tally.proof_asked('zk_proof')"),
        Trigger(
            "tally_maintained",
            "BEFORE UPDATE",
            "tally.refuse_change('zk_proof')",
            when=(
                'pg_trigger_depth() = 0 AND (OLD."status" IS DISTINCT FROM NEW."status" OR OLD."received_at" IS '
                'DISTINCT FROM NEW."received_at")'
            ),
        ),
        Trigger(
            "tally_maintained_start",
            "BEFORE INSERT",
            "tally.refuse_change('zk_proof')",
            when=(
                'pg_trigger_depth() = 0 AND (NEW."status" IS DISTINCT FROM \'requested\' OR NEW."received_at" IS '
                "DISTINCT FROM NULL)"
            ),
        ),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_received", "BEFORE UPDATE", "tally.proof_received('zk_proof')"),
        Trigger(
            "tally_start_status",
            "BEFORE INSERT",
            "tally.refuse_transition('zk_proof', 'status')",
            when="NOT (NEW.\"status\" = ANY (ARRAY['requested']))",
        ),
        Trigger(
            "tally_step_status",
            "BEFORE UPDATE",
            "tally.refuse_transition('zk_proof', 'status')",
            when=(
                'OLD."status" IS DISTINCT FROM NEW."status" AND ((OLD."status" = \'requested\' AND NEW."status" = '
                "ANY (ARRAY['received'])) OR (OLD.\"status\" = 'received' AND NEW.\"status\" = ANY "
                "(ARRAY['verified', 'rejected', 'error'])) OR (OLD.\"status\" = 'error' AND NEW.\"status\" = "
                "ANY (ARRAY['verified', 'rejected'])) OR (OLD.\"status\" = 'verified' AND NEW.\"status\" = ANY "
                "(ARRAY['consumed', 'revoked'])) OR (OLD.\"status\" IS NULL AND NEW.\"status\" = ANY "
                "(ARRAY['requested']))) IS NOT TRUE"
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
                "circuit_id",
                "key_id",
                "modulus",
                "user_id",
                "consent_id",
                "purpose",
                "scope",
                "challenge",
                "context",
                "expected",
                "answer_by",
                "expires_at",
                "proof",
                "public_signals",
                "nullifier",
            ),
        ),
        Grant("app", "UPDATE", columns=("proof", "public_signals", "nullifier")),
        Grant("app", "DELETE"),
    ),
    comment="A request for one proof, and the proof that answers it.",
)

ZK_PROOF_EVENT = Table(
    "zk_proof_event",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("proof_id", "uuid"),
        Column("kind", 'text COLLATE "C"'),
        Column("reason", 'text COLLATE "C"', nullable=True),
        Column("verifier", 'text COLLATE "C"', nullable=True),
        Column("attestation", "bytea", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_zk_proof_event_kind", "kind in ('verified', 'rejected', 'error', 'consumed', 'revoked')"),
        Check("ck_zk_proof_event_reason_length", "char_length(reason) between 1 and 500"),
        Check("ck_zk_proof_event_verifier_length", "char_length(verifier) between 1 and 64"),
        Check("ck_zk_proof_event_reason", "kind = 'verified' or reason is not null"),
        Check("ck_zk_proof_event_verdict", "(kind in ('consumed', 'revoked')) = (verifier is null)"),
        Check("ck_zk_proof_event_attestation", "(verifier is null) = (attestation is null)"),
    ),
    foreign_keys=(
        ForeignKey("fk_zk_proof_event_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_zk_proof_event_proof", ("tenant_id", "proof_id"), "zk_proof", ("tenant_id", "id")),
    ),
    indexes=(
        Index(
            "ix_zk_proof_event_proof_id_created_at",
            ("tenant_id", "proof_id", "created_at", "id"),
            comment="what happened to a proof",
        ),
        Index(
            "uq_zk_proof_event_proof_id",
            ("tenant_id", "proof_id"),
            unique=True,
            where="(kind in ('consumed', 'revoked'))",
        ),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('zk_proof_event')"),
        Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", "tally.refuse_change('zk_proof_event')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_proof_event", "AFTER INSERT", "tally.proof_event('zk_proof_event')"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "proof_id", "kind", "reason", "verifier", "attestation")),
    ),
    comment="One thing that happened to a received proof. Adding it is what moves the proof's status.",
)

FUNCTIONS = {
    ASKED: "tally.proof_asked()",
    RECEIVED: "tally.proof_received()",
    EVENT: "tally.proof_event()",
}
TABLES = (ZK_PROOF, ZK_PROOF_EVENT)


def upgrade() -> None:
    """Proofs and what happened to them."""
    op.invoke(Sql(list(VERIFIERS)))
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
    op.invoke(Sql(["DROP TABLE tally_sec.proof_verifier"]))
