"""open orders"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        'CREATE VIEW open_order AS SELECT o.id, o.member_id, o.placed_at FROM "order" o '
        "WHERE o.state IN ('NEW', 'PACKED')"
    )
    op.execute(
        "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql "
        "AS $$ BEGIN NEW.sku = upper(NEW.sku); RETURN NEW; END $$"
    )
    op.execute("CREATE TRIGGER product_loud BEFORE INSERT OR UPDATE ON product FOR EACH ROW EXECUTE FUNCTION loud()")
    op.execute("COMMENT ON VIEW open_order IS 'Not sent yet.'")


def downgrade() -> None:
    op.execute("DROP TRIGGER product_loud ON product")
    op.execute("DROP FUNCTION loud()")
    op.execute("DROP VIEW open_order")
