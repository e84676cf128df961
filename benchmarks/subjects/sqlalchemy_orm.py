"""The SQLAlchemy ORM: a session a unit of work on one pooled connection, as its documentation has it.

In its favour: ``expire_on_commit=False`` (nothing is read twice), RETURNING for server-made values, row comparison for
page 500, a detached object attached again for its update instead of being loaded first, the bulk INSERT of its
documentation (no objects are made) for many rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, declared_attr

from benchmarks import subjects
from benchmarks.subjects.mapped import Columns, objects, versioned
from benchmarks.table import FIND, PAGE, Draft, PaymentStatus


class Base(DeclarativeBase):
    pass


class Payment(Columns, Base):
    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        return versioned(cls)


class Subject(subjects.Subject):
    name = "sqlalchemy-orm"
    paging = "row comparison"

    async def open(self) -> None:
        url = "postgresql+asyncpg://"
        self.engine = create_async_engine(url, connect_args=self.target.asyncpg, pool_size=1, pool_pre_ping=False)
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        newest = (
            sa.select(Payment)
            .where(Payment.tenant_id == self.target.tenant, Payment.status == PaymentStatus.POSTED)
            .order_by(Payment.received_at.desc(), Payment.id.desc())
        )
        self.first = newest.limit(PAGE + 1)
        self.all = newest.limit(FIND)

    async def close(self) -> None:
        await self.engine.dispose()

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        return objects(Payment, self.target, drafts)

    def make_many(self, drafts: Sequence[Draft]) -> list[Any]:
        return objects(dict, self.target, drafts)

    async def get(self, id: UUID) -> Payment:
        async with self.sessions() as session:
            return await session.get_one(Payment, (self.target.tenant, id))

    async def page(self) -> tuple[list[Payment], bool]:
        async with self.sessions() as session:
            items = list(await session.scalars(self.first))
        return items[:PAGE], len(items) > PAGE

    async def before_page_500(self, last: Any) -> None:
        after = sa.tuple_(sa.literal(last.received_at, sa.TIMESTAMP(timezone=True)), sa.literal(last.id, sa.Uuid))
        self.after = self.first.where(sa.tuple_(Payment.received_at, Payment.id) < after)

    async def page_500(self) -> tuple[list[Payment], bool]:
        async with self.sessions() as session:
            items = list(await session.scalars(self.after))
        return items[:PAGE], len(items) > PAGE

    async def find(self) -> list[Payment]:
        async with self.sessions() as session:
            return list(await session.scalars(self.all))

    async def add(self, item: Payment) -> Payment:
        async with self.sessions() as session:
            session.add(item)
            await session.commit()
        return item

    async def add_many(self, items: list[dict[str, Any]]) -> int:
        async with self.sessions() as session:
            await session.execute(sa.insert(Payment), items)
            await session.commit()
        return len(items)

    async def update(self, item: Payment, reference: str) -> Payment:
        async with self.sessions() as session:
            session.add(item)
            item.reference = reference
            await session.commit()
        return item

    async def transaction(self, first: Payment, second: Payment, item: Payment, reference: str) -> Payment:
        async with self.sessions() as session:
            session.add_all([first, second, item])
            item.reference = reference
            await session.commit()
        return item
