"""custom fields of tenants

Revision identity_0004, after identity_0003.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "identity_0004"
down_revision = "identity_0003"
branch_labels = None
depends_on = None
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}

CUSTOM_FIELD = Table(
    "custom_field",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("entity", 'text COLLATE "C"'),
        Column("name", 'text COLLATE "C"'),
        Column("type", 'text COLLATE "C"'),
        Column("personal", "boolean"),
        Column("required", "boolean"),
        Column("retired", "boolean"),
        Column("choices", "jsonb"),
        Column("minimum", "bigint", nullable=True),
        Column("maximum", "bigint", nullable=True),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_custom_field_entity_length", "char_length(entity) between 1 and 59"),
        Check("ck_custom_field_name_length", "char_length(name) between 1 and 40"),
        Check("ck_custom_field_type", "type in ('text', 'integer', 'decimal', 'boolean', 'date', 'choice')"),
        Check("ck_custom_field_name", "name ~ '^[a-z][a-z0-9_]*$'"),
        Check("ck_custom_field_bounds", "minimum is null or maximum is null or minimum <= maximum"),
        Check("ck_custom_field_choices", "(type = 'choice') = (choices <> '[]'::jsonb)"),
    ),
    foreign_keys=(ForeignKey("fk_custom_field_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_custom_field_entity_name", ("tenant_id", "entity", "name"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('custom_field')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('custom_field')"),
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
                "entity",
                "name",
                "type",
                "personal",
                "required",
                "retired",
                "choices",
                "minimum",
                "maximum",
            ),
        ),
        Grant("app", "UPDATE", columns=("required", "retired", "choices", "minimum", "maximum")),
    ),
    comment="A field that a tenant adds to an entity: its type, whether it is required, and what values it takes.",
)


def upgrade() -> None:
    """Custom fields of tenants."""
    op.invoke(CreateTables(CUSTOM_FIELD))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(CUSTOM_FIELD)))
