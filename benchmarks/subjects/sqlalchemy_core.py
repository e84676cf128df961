"""SQLAlchemy Core on its asyncpg dialect, building the same struct by hand from the rows.

In its favour: one held connection, autocommit for single statements (no BEGIN and ROLLBACK around a read), statements
built once so that the compiled cache always hits, row comparison for page 500.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks import subjects
from benchmarks.table import FIND, PAGE, Draft, Payment, PaymentStatus, payment
from tallystick import Money


def table_of(target: subjects.Target) -> sa.Table:
    stamp = sa.TIMESTAMP(timezone=True)
    return sa.Table(
        target.table,
        sa.MetaData(),
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("amount", sa.BigInteger),
        sa.Column("asset", sa.Text),
        sa.Column("status", sa.Text),
        sa.Column("reference", sa.Text),
        sa.Column("received_at", stamp),
        sa.Column("version", sa.BigInteger, server_default=sa.FetchedValue()),
        sa.Column("created_at", stamp, server_default=sa.FetchedValue()),
        sa.Column("created_by", sa.Text, server_default=sa.FetchedValue()),
        sa.Column("updated_at", stamp, server_default=sa.FetchedValue()),
        sa.Column("updated_by", sa.Text, server_default=sa.FetchedValue()),
        schema=target.schema,
    )


class Subject(subjects.Subject):
    name = "sqlalchemy-core"
    paging = "row comparison"

    async def open(self) -> None:
        url = "postgresql+asyncpg://"
        self.engine = create_async_engine(url, connect_args=self.target.asyncpg, pool_size=2)
        self.conn = await self.engine.connect()
        await self.conn.execution_options(isolation_level="AUTOCOMMIT")
        self.in_transaction = await self.engine.connect()
        t = table_of(self.target)
        mine = t.c.tenant_id == self.target.tenant
        posted = sa.select(
            t.c.id, t.c.version, t.c.created_at, t.c.created_by, t.c.updated_at, t.c.updated_by,
            t.c.amount, t.c.asset, t.c.status, t.c.reference, t.c.received_at,
        ).where(mine)  # fmt: skip
        self.get_statement = posted.where(t.c.id == sa.bindparam("key"))
        posted = posted.where(t.c.status == "posted")
        newest = posted.order_by(t.c.received_at.desc(), t.c.id.desc())
        self.find_statement = newest.limit(FIND)
        newest = newest.limit(PAGE + 1)
        self.page_statement = newest
        self.after_statement = newest.where(
            sa.tuple_(t.c.received_at, t.c.id)
            < sa.tuple_(sa.bindparam("at", type_=t.c.received_at.type), sa.bindparam("key", type_=t.c.id.type))
        )
        self.insert = sa.insert(t)
        self.insert_one = sa.insert(t).returning(
            t.c.version, t.c.created_at, t.c.created_by, t.c.updated_at, t.c.updated_by
        )
        self.update_one = (
            sa.update(t)
            .where(mine, t.c.id == sa.bindparam("key"), t.c.version == sa.bindparam("read"))
            .values(reference=sa.bindparam("new"))
            .returning(t.c.version, t.c.updated_at, t.c.updated_by)
        )

    async def close(self) -> None:
        await self.conn.close()
        await self.in_transaction.close()
        await self.engine.dispose()

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        return [payment(draft) for draft in drafts]

    def build(self, row: Any) -> Payment:
        id, version, created_at, created_by, updated_at, updated_by, amount, asset, status, reference, received = row
        return Payment(
            id=id,
            tenant_id=self.target.tenant,
            version=version,
            created_at=created_at,
            created_by=created_by,
            updated_at=updated_at,
            updated_by=updated_by,
            amount=Money(amount, asset),
            status=PaymentStatus(status),
            reference=reference,
            received_at=received,
        )

    def values(self, p: Payment) -> dict[str, Any]:
        return {
            "tenant_id": self.target.tenant,
            "id": p.id,
            "amount": p.amount.units,
            "asset": p.amount.asset,
            "status": p.status,
            "reference": p.reference,
            "received_at": p.received_at,
        }

    async def get(self, id: UUID) -> Payment:
        return self.build((await self.conn.execute(self.get_statement, {"key": id})).one())

    async def page(self) -> tuple[list[Payment], bool]:
        rows = (await self.conn.execute(self.page_statement)).all()
        return [self.build(row) for row in rows[:PAGE]], len(rows) > PAGE

    async def before_page_500(self, last: Payment) -> None:
        self.after = {"at": last.received_at, "key": last.id}

    async def page_500(self) -> tuple[list[Payment], bool]:
        rows = (await self.conn.execute(self.after_statement, self.after)).all()
        return [self.build(row) for row in rows[:PAGE]], len(rows) > PAGE

    async def find(self) -> list[Payment]:
        return [self.build(row) for row in await self.conn.execute(self.find_statement)]

    async def _add(self, conn: Any, item: Payment) -> Payment:
        row = (await conn.execute(self.insert_one, self.values(item))).one()
        return msgspec.structs.replace(
            item,
            tenant_id=self.target.tenant,
            version=row[0],
            created_at=row[1],
            created_by=row[2],
            updated_at=row[3],
            updated_by=row[4],
        )

    async def _update(self, conn: Any, item: Payment, reference: str) -> Payment:
        row = (await conn.execute(self.update_one, {"key": item.id, "read": item.version, "new": reference})).one()
        return msgspec.structs.replace(item, reference=reference, version=row[0], updated_at=row[1], updated_by=row[2])

    async def add(self, item: Payment) -> Payment:
        return await self._add(self.conn, item)

    async def add_many(self, items: list[Payment]) -> int:
        async with self.in_transaction.begin():
            await self.in_transaction.execute(self.insert, [self.values(item) for item in items])
        return len(items)

    async def update(self, item: Payment, reference: str) -> Payment:
        return await self._update(self.conn, item, reference)

    async def transaction(self, first: Payment, second: Payment, item: Payment, reference: str) -> Payment:
        async with self.in_transaction.begin():
            await self._add(self.in_transaction, first)
            await self._add(self.in_transaction, second)
            return await self._update(self.in_transaction, item, reference)
