"""loan products, calendars and numbers

Revision lending_0001, the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger
from tallystick.schema.operations import CreateTables, Undo

revision = "lending_0001"
down_revision = None
branch_labels = ("lending",)
depends_on = ["community_0001", "ledger_0002"]
# Rules of the migration lint that this revision may break, each with the reason a reviewer accepted.
accepted: dict[str, str] = {}


BUSINESS_CALENDAR = Table(
    "business_calendar",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("code", 'text COLLATE "C"'),
        Column("weekend", "jsonb"),
        Column("holidays", "jsonb"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(Check("ck_business_calendar_code_length", "char_length(code) between 1 and 40"),),
    foreign_keys=(ForeignKey("fk_business_calendar_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_business_calendar_code", ("tenant_id", "code"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('business_calendar')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "code", "weekend", "holidays")),
        Grant("app", "UPDATE", columns=("weekend", "holidays")),
        Grant("app", "DELETE"),
    ),
    comment="The days on which a tenant does no business: weekdays (Monday 1 to Sunday 7) and holidays.",
)

LOAN_PRODUCT = Table(
    "loan_product",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("code", 'text COLLATE "C"'),
        Column("edition", "bigint"),
        Column("name", 'text COLLATE "C"'),
        Column("min_principal", "bigint"),
        Column("asset", 'text COLLATE "C"'),
        Column("max_principal", "bigint"),
        Column("min_rate", "numeric(12,8)"),
        Column("default_rate", "numeric(12,8)"),
        Column("max_rate", "numeric(12,8)"),
        Column("min_installments", "bigint"),
        Column("default_installments", "bigint"),
        Column("max_installments", "bigint"),
        Column("terms", "jsonb"),
        Column("servicing", "jsonb"),
        Column("calendar_id", "uuid", nullable=True),
        Column("active", "boolean"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_loan_product_code_length", "char_length(code) between 1 and 60"),
        Check("ck_loan_product_name_length", "char_length(name) between 1 and 200"),
        Check("ck_loan_product_asset", "char_length(asset) between 2 and 32"),
        Check("ck_loan_product_edition", "edition >= 1"),
        Check("ck_loan_product_principal", "0 < min_principal and min_principal <= max_principal"),
        Check("ck_loan_product_rate", "0 <= min_rate and min_rate <= default_rate and default_rate <= max_rate"),
        Check(
            "ck_loan_product_installments",
            (
                "1 <= min_installments and min_installments <= default_installments and default_installments <= "
                "max_installments and max_installments <= 3660"
            ),
        ),
    ),
    foreign_keys=(
        ForeignKey("fk_loan_product_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),
        ForeignKey(
            "fk_loan_product_calendar",
            ("tenant_id", "calendar_id"),
            "business_calendar",
            ("tenant_id", "id"),
        ),
    ),
    indexes=(
        Index("uq_loan_product_code_edition", ("tenant_id", "code", "edition"), unique=True),
        Index("uq_loan_product_code", ("tenant_id", "code"), unique=True, where="(active)"),
        Index("ix_loan_product_calendar_id", ("tenant_id", "calendar_id", "id"), comment="rows of one calendar"),
    ),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_0_audit", "AFTER INSERT OR UPDATE OR DELETE", "tally_audit.capture('loan_product')"),
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('loan_product')"),
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
                "code",
                "edition",
                "name",
                "min_principal",
                "asset",
                "max_principal",
                "min_rate",
                "default_rate",
                "max_rate",
                "min_installments",
                "default_installments",
                "max_installments",
                "terms",
                "servicing",
                "calendar_id",
                "active",
            ),
        ),
        Grant("app", "UPDATE", columns=("active",)),
    ),
    comment="What may be lent: amounts, rates, numbers of installments, and the policies, all as data.",
)

LOAN_NUMBER = Table(
    "loan_number",
    (
        Column("tenant_id", "uuid"),
        Column("id", "uuid"),
        Column("series", 'text COLLATE "C"'),
        Column("last", "bigint"),
        Column("version", "bigint", default="1"),
        Column("created_at", "timestamp with time zone", default="now()"),
        Column("created_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
        Column("updated_at", "timestamp with time zone", default="now()"),
        Column("updated_by", 'text COLLATE "C"', default="nullif(current_setting('tally.actor'), '')"),
    ),
    checks=(
        Check("ck_loan_number_series_length", "char_length(series) between 1 and 20"),
        Check("ck_loan_number_last", "last >= 0"),
    ),
    foreign_keys=(ForeignKey("fk_loan_number_tenant", ("tenant_id",), "tenant", ("id",), schema="tally_ref"),),
    indexes=(Index("uq_loan_number_series", ("tenant_id", "series"), unique=True),),
    policies=(
        Policy("tenant_rw", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"),
        Policy("tenant_wall", "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])", permissive=False),
    ),
    triggers=(
        Trigger("tally_kept", "BEFORE DELETE", "tally.refuse_change('loan_number')"),
        Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT"),
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()"),
    ),
    grants=(
        Grant("app", "SELECT"),
        Grant("app", "INSERT", columns=("tenant_id", "id", "series", "last")),
        Grant("app", "UPDATE", columns=("last",)),
    ),
    comment="The last number that was given to a loan of the tenant.",
)

TABLES = (BUSINESS_CALENDAR, LOAN_PRODUCT, LOAN_NUMBER)


def upgrade() -> None:
    """Loan products, calendars and numbers."""
    op.invoke(CreateTables(*TABLES))


def downgrade() -> None:
    """Take it back."""
    op.invoke(Undo(CreateTables(*TABLES)))
