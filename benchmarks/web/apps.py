"""The two applications: the same route, the same rows, the same server; each written as its users write it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from benchmarks.subjects.sqlalchemy_orm import Payment as Mapped
from benchmarks.table import Payment, PaymentStatus
from tallystick import Page, PageQuery, Tallystick, desc
from tallystick.web.fastapi import Db, install


def ours(tally: Tallystick, tenant: str) -> FastAPI:
    app = FastAPI()
    install(app, tally, tenant=lambda _: tenant, actor=lambda _: "bench", permissions=lambda _: ())

    @app.get("/payments")
    async def payments(db: Db, where: Payment.Filter = Query(), page: PageQuery = Depends()) -> Page[Payment]:
        return await db[Payment].page(where, order=desc(Payment.received_at), after=page.after, limit=page.limit)

    return app


class PaymentOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    tenant_id: UUID
    id: UUID
    amount: int
    asset: str
    status: PaymentStatus
    reference: str
    received_at: datetime
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


class PageOut(BaseModel):
    items: list[PaymentOut]
    limit: int
    next: str | None


class Wanted(BaseModel):
    """Six of the parameters that the other side takes, because nobody writes them all by hand."""

    model_config = ConfigDict(extra="forbid")

    status: PaymentStatus | None = None
    reference: str | None = None
    received_at_from: datetime | None = None
    received_at_to: datetime | None = None
    after: str | None = None
    limit: int = 20


def theirs(sessions: async_sessionmaker[AsyncSession], tenant: UUID) -> FastAPI:
    app = FastAPI()

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as made:
            yield made

    @app.get("/payments")
    async def payments(db: AsyncSession = Depends(session), where: Wanted = Query()) -> PageOut:
        found: Any = sa.select(Mapped).where(Mapped.tenant_id == tenant)
        if where.status is not None:
            found = found.where(Mapped.status == where.status)
        if where.reference is not None:
            found = found.where(Mapped.reference == where.reference)
        if where.received_at_from is not None:
            found = found.where(Mapped.received_at >= where.received_at_from)
        if where.received_at_to is not None:
            found = found.where(Mapped.received_at <= where.received_at_to)
        if where.after is not None:
            at, _, id = where.after.partition("_")
            found = found.where(
                sa.tuple_(Mapped.received_at, Mapped.id)
                < sa.tuple_(
                    sa.literal(datetime.fromisoformat(at), sa.TIMESTAMP(timezone=True)), sa.literal(UUID(id), sa.Uuid)
                )
            )
        found = found.order_by(Mapped.received_at.desc(), Mapped.id.desc()).limit(where.limit + 1)
        rows = list(await db.scalars(found))
        items = [PaymentOut.model_validate(row) for row in rows[: where.limit]]
        last = items[-1] if len(rows) > where.limit else None
        return PageOut(
            items=items, limit=where.limit, next=f"{last.received_at.isoformat()}_{last.id}" if last else None
        )

    return app
