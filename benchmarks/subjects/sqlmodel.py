"""SQLModel: SQLAlchemy's session over pydantic-based models, with the same settings as the ORM subject."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from benchmarks import subjects
from benchmarks.subjects.mapped import STATUS, objects
from benchmarks.table import FIND, PAGE, SCHEMA, TWIN, Draft, PaymentStatus

_MADE = {"server_default": sa.FetchedValue()}
_MOVES = {"server_default": sa.FetchedValue(), "server_onupdate": sa.FetchedValue()}
_VERSION = sa.Column("version", sa.BigInteger, nullable=False, **_MOVES)
_STAMP: Any = sa.TIMESTAMP(timezone=True)


class Payment(SQLModel, table=True):
    __tablename__ = TWIN
    __table_args__ = {"schema": SCHEMA}
    __mapper_args__ = {"version_id_col": _VERSION, "version_id_generator": False, "eager_defaults": True}

    tenant_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    amount: int = Field(sa_type=sa.BigInteger)
    asset: str = Field(sa_type=sa.Text)
    status: PaymentStatus = Field(sa_type=STATUS)  # type: ignore[call-overload]
    reference: str = Field(sa_type=sa.Text)
    received_at: datetime = Field(sa_type=_STAMP)
    version: int | None = Field(default=None, sa_column=_VERSION)
    created_at: datetime | None = Field(default=None, sa_type=_STAMP, sa_column_kwargs=_MADE)
    created_by: str | None = Field(default=None, sa_type=sa.Text, sa_column_kwargs=_MADE)
    updated_at: datetime | None = Field(default=None, sa_type=_STAMP, sa_column_kwargs=_MOVES)
    updated_by: str | None = Field(default=None, sa_type=sa.Text, sa_column_kwargs=_MOVES)


class Subject(subjects.Subject):
    name = "sqlmodel"
    paging = "row comparison"

    async def open(self) -> None:
        url = "postgresql+asyncpg://"
        self.engine = create_async_engine(url, connect_args=self.target.asyncpg, pool_size=1, pool_pre_ping=False)
        self.sessions = async_sessionmaker(self.engine, class_=AsyncSession, expire_on_commit=False)
        at: Any = Payment.received_at
        key: Any = Payment.id
        self.row = sa.tuple_(at, key)
        newest = (
            select(Payment)
            .where(Payment.tenant_id == self.target.tenant, Payment.status == PaymentStatus.POSTED)
            .order_by(at.desc(), key.desc())
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
            items = list(await session.exec(self.first))
        return items[:PAGE], len(items) > PAGE

    async def before_page_500(self, last: Any) -> None:
        after = sa.tuple_(sa.literal(last.received_at, sa.TIMESTAMP(timezone=True)), sa.literal(last.id, sa.Uuid))
        self.after = self.first.where(self.row < after)

    async def page_500(self) -> tuple[list[Payment], bool]:
        async with self.sessions() as session:
            items = list(await session.exec(self.after))
        return items[:PAGE], len(items) > PAGE

    async def find(self) -> list[Payment]:
        async with self.sessions() as session:
            return list(await session.exec(self.all))

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
