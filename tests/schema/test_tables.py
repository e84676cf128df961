"""Core tables from declarations: the statements an application writes itself."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from tests.entities import ALL, Sink, Visit
from tests.schema.support import Database

from tallystick import Entity
from tallystick.domains.catalog import entities_of
from tallystick.entity import spec_of
from tallystick.schema.connect import connect
from tallystick.schema.migrate import migrate
from tallystick.schema.tables import table_of
from tallystick.settings import connect_args

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def test_the_table_of_a_class_is_one_object() -> None:
    assert Visit.table is table_of(spec_of(Visit)) is Visit.table
    assert Visit.table.fullname == "tally.visit"
    assert [c.name for c in Visit.table.primary_key] == ["tenant_id", "id"]
    assert Visit.table.comment == spec_of(Visit).doc


def test_columns_can_be_selected_and_joined() -> None:
    user = next(e for e in entities_of(["identity"]) if e.__name__ == "User")
    query = (
        sa.select(Visit.table.c.status, sa.func.count())
        .join_from(Visit.table, user.table)
        .group_by(Visit.table.c.status)
    )
    text = str(query.compile(dialect=DIALECT))
    assert "FROM tally.visit JOIN tally.user_account" in text
    assert (
        "tally.visit.tenant_id = " in text.replace("tally.user_account.tenant_id = tally.visit.tenant_id", "")
        or "tenant_id = tally.visit.tenant_id" in text
    )
    assert "borrower_id" in text, "the whole key is in the join, the tenant included"


def test_texts_sort_by_code_point() -> None:
    texts = [c for e in ALL for c in e.table.c if isinstance(c.type, sa.Text)]
    assert texts
    assert all(c.type.collation == "C" for c in texts)


def test_two_declarations_of_one_table_do_not_meet() -> None:
    def make(extra: bool) -> type[Entity]:
        class Twin(Entity):
            """One of two."""

            name: str

        class TwinTwo(Entity):
            """The other."""

            name: str
            size: int = 0
            rules = __import__("tallystick").Rules(table="twin")

        return TwinTwo if extra else Twin

    first, second = make(False), make(True)
    assert "size" not in first.table.c
    assert "size" in second.table.c
    assert str(sa.select(first.table.c.name)) == str(sa.select(second.table.c.name))


async def test_values_pass_through_asyncpg_as_they_are(kit: Database) -> None:
    await migrate(kit.admin, roles=kit.roles, entities=(*entities_of(["identity"]), *ALL))
    tenant, id_ = await kit.tenant(), uuid4()
    values = {
        "tenant_id": tenant,
        "id": id_,
        "label": "x",
        "number": 2**40,
        "flag": True,
        "token": uuid4(),
        "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "day": date(2026, 2, 3),
        "rate": Decimal("0.12500000"),
        "price": Decimal("1.000000000000000001"),
        "share": None,
        "ratio": Decimal("1.25"),
        "colour": "red",
        "raw": b"\x00\xff",
        "fee": 100,
        "wei": Decimal(2**256 - 1),
        "payload": {"score": 7, "kind": "k", "ok": True},
        "asset": "USD",
        "deposit": None,
        "tags": ["a"],
    }
    table = Sink.table
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: connect(connect_args(kit.app)), poolclass=NullPool
    )
    async with engine.begin() as conn:
        await conn.execute(
            sa.text("SELECT set_config('tally.tenant', :t, true), set_config('tally.actor', 'a', true)"),
            {"t": str(tenant)},
        )
        await conn.execute(table.insert().values(**{k: v for k, v in values.items() if k in table.c}))
        row = (await conn.execute(sa.select(table))).mappings().one()
        for name, value in values.items():
            assert row[name] == value, name
        assert (row["payload_score"], row["payload_kind"], row["payload_ok"]) == (7, "k", True)
        assert row["version"] == 1
    await engine.dispose()
