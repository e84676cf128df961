"""Advanced Alchemy: its repository service, a session an operation on one pooled connection.

In its favour: ``uuid-utils`` installed, ``auto_expunge``, ``auto_refresh=False`` (server-made values come back by
RETURNING), ``expire_on_commit=False``, one row more than the page instead of a count. Its service pages
by offset and reads a row before it updates it; given the whole object it does so faster than given the change alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from advanced_alchemy.base import DefaultBase
from advanced_alchemy.filters import LimitOffset, OrderBy
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.service import SQLAlchemyAsyncRepositoryService
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import declared_attr

from benchmarks import subjects
from benchmarks.subjects.mapped import Columns, objects, versioned
from benchmarks.table import BEFORE_PAGE_500, FIND, PAGE, Draft, PaymentStatus


class Payment(Columns, DefaultBase):
    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        return versioned(cls)


class Payments(SQLAlchemyAsyncRepositoryService[Payment]):
    class Repo(SQLAlchemyAsyncRepository[Payment]):
        model_type = Payment

    repository_type = Repo


class Subject(subjects.Subject):
    name = "advanced-alchemy"

    async def open(self) -> None:
        url = "postgresql+asyncpg://"
        self.engine = create_async_engine(url, connect_args=self.target.asyncpg, pool_size=1, pool_pre_ping=False)
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.posted = (Payment.tenant_id == self.target.tenant, Payment.status == PaymentStatus.POSTED)
        self.newest = (OrderBy("received_at", "desc"), OrderBy("id", "desc"))

    def payments(self, session: AsyncSession) -> Payments:
        return Payments(session=session, auto_expunge=True, auto_refresh=False)

    async def close(self) -> None:
        await self.engine.dispose()

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        return objects(Payment, self.target, drafts)

    async def get(self, id: UUID) -> Payment:
        async with self.sessions() as session:
            return await self.payments(session).get((self.target.tenant, id))

    async def _page(self, offset: int) -> tuple[Sequence[Payment], bool]:
        async with self.sessions() as session:
            items = await self.payments(session).list(*self.posted, *self.newest, LimitOffset(PAGE + 1, offset))
        return items[:PAGE], len(items) > PAGE

    async def page(self) -> tuple[Sequence[Payment], bool]:
        return await self._page(0)

    async def page_500(self) -> tuple[Sequence[Payment], bool]:
        return await self._page(BEFORE_PAGE_500)

    async def find(self) -> Sequence[Payment]:
        async with self.sessions() as session:
            return await self.payments(session).list(*self.posted, *self.newest, LimitOffset(FIND, 0))

    async def add(self, item: Payment) -> Payment:
        async with self.sessions() as session:
            return await self.payments(session).create(item, auto_commit=True)

    async def add_many(self, items: list[Payment]) -> int:
        async with self.sessions() as session:
            return len(await self.payments(session).create_many(items, auto_commit=True))

    async def update(self, item: Payment, reference: str) -> Payment:
        item.reference = reference
        async with self.sessions() as session:
            return await self.payments(session).update(item, auto_commit=True)

    async def transaction(self, first: Payment, second: Payment, item: Payment, reference: str) -> Payment:
        item.reference = reference
        async with self.sessions() as session:
            payments = self.payments(session)
            await payments.create(first)
            await payments.create(second)
            updated = await payments.update(item)
            await session.commit()
        return updated
