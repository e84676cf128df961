"""circuits and verifying keys

Revision proofs_0001, the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "proofs_0001"
down_revision = None
branch_labels = ("proofs",)
depends_on = "identity_0001"
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

ZK_CIRCUIT = Table(
    "zk_circuit",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("name", 'text COLLATE "C"'),
        Column("type", 'text COLLATE "C"'),
        Column("modulus", "bytea"),
        Column("signals", "jsonb"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_zk_circuit_name_length", "char_length(name) between 1 and 100"),
        Check(
            "ck_zk_circuit_type",
            "type in ('identity', 'age', 'income', 'reputation', 'credit_score', 'membership', 'other')",
        ),
        Check("ck_zk_circuit_modulus", "octet_length(modulus) = 32"),
    ),
    foreign_keys=(ForeignKey("fk_zk_circuit_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(
        Index("uq_zk_circuit_name", ("tenant_id", "name"), unique=True),
        Index("uq_zk_circuit_id_modulus", ("tenant_id", "id", "modulus"), unique=True),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('zk_circuit')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('zk_circuit')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "name", "type", "modulus", "signals")),
    ),
    comment="A statement that can be proved, over a prime field, with public signals in a fixed order.",
)

ZK_VERIFYING_KEY = Table(
    "zk_verifying_key",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("circuit_id", "uuid"),
        Column("circuit_version", "bigint"),
        Column("protocol", 'text COLLATE "C"'),
        Column("document", "bytea"),
        Column("sha256", "bytea"),
        Column("ceremony", 'text COLLATE "C"', nullable=True),
        Column("retired_at", "timestamp with time zone", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check(
            "ck_zk_verifying_key_protocol",
            "protocol in ('groth16', 'plonk', 'fflonk', 'stark', 'bulletproofs', 'halo2')",
        ),
        Check("ck_zk_verifying_key_ceremony_length", "char_length(ceremony) between 0 and 500"),
        Check("ck_zk_verifying_key_sha256", "sha256 = pg_catalog.sha256(document)"),
        Check("ck_zk_verifying_key_document", "octet_length(document) between 1 and 1000000"),
        Check("ck_zk_verifying_key_circuit_version", "circuit_version >= 1"),
    ),
    foreign_keys=(
        ForeignKey("fk_zk_verifying_key_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey("fk_zk_verifying_key_circuit", ("tenant_id", "circuit_id"), "zk_circuit", ("tenant_id", "id")),
    ),
    indexes=(
        Index("uq_zk_verifying_key_sha256", ("tenant_id", "sha256"), unique=True),
        Index(
            "uq_zk_verifying_key_circuit_id_circuit_version_protocol",
            ("tenant_id", "circuit_id", "circuit_version", "protocol"),
            unique=True,
        ),
        Index("uq_zk_verifying_key_id_circuit_id", ("tenant_id", "id", "circuit_id"), unique=True),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('zk_verifying_key')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('zk_verifying_key')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger(
            "tally_retired",
            "BEFORE UPDATE",
            "tally.refuse_change('zk_verifying_key')",
            when='OLD."retired_at" IS NOT NULL',
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
                "circuit_id",
                "circuit_version",
                "protocol",
                "document",
                "sha256",
                "ceremony",
                "retired_at",
            ),
        ),
        Grant("app", "UPDATE", columns=("retired_at",)),
    ),
    comment=("The key that proofs of one version of a circuit are checked with, found by the SHA-256 of its document."),
)

TABLES = (ZK_CIRCUIT, ZK_VERIFYING_KEY)


def upgrade() -> None:
    """Circuits and verifying keys."""
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
