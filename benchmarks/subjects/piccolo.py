"""Piccolo on its asyncpg engine, one pooled connection. It pages by offset; its update is one versioned statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from piccolo.columns import UUID as Uuid
from piccolo.columns import BigInt, Text, Timestamptz
from piccolo.engine.postgres import PostgresEngine
from piccolo.table import Table

from benchmarks import subjects
from benchmarks.subjects import ACTOR
from benchmarks.table import BEFORE_PAGE_500, FIND, PAGE, SCHEMA, TWIN, Draft


class Payment(Table, tablename=TWIN, schema=SCHEMA):
    tenant_id = Uuid()
    id = Uuid(primary_key=True)
    amount = BigInt()
    asset = Text()
    status = Text()
    reference = Text()
    received_at = Timestamptz()
    version = BigInt()
    created_at = Timestamptz()
    created_by = Text()
    updated_at = Timestamptz()
    updated_by = Text()


class Subject(subjects.Subject):
    name = "piccolo"

    async def open(self) -> None:
        engine = PostgresEngine(config=self.target.asyncpg, extensions=())
        await engine.start_connection_pool(min_size=1, max_size=1)
        Payment._meta._db = self.engine = engine
        self.mine = Payment.tenant_id == self.target.tenant
        self.posted = self.mine & (Payment.status == "posted")

    async def close(self) -> None:
        await self.engine.close_connection_pool()

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        # Piccolo writes every column of a new row, so its stamps are the client's.
        return [
            Payment(
                tenant_id=self.target.tenant,
                id=draft.id,
                amount=draft.amount,
                asset=draft.asset,
                status=draft.status.value,
                reference=draft.reference,
                received_at=draft.received_at,
                version=1,
                created_at=draft.received_at,
                created_by=ACTOR,
                updated_at=draft.received_at,
                updated_by=ACTOR,
            )
            for draft in drafts
        ]

    async def get(self, id: UUID) -> Any:
        found = await Payment.objects().where(self.mine, Payment.id == id).first()
        if found is None:
            raise LookupError(id)
        return found

    def _newest(self) -> Any:
        return Payment.objects().where(self.posted).order_by(Payment.received_at, Payment.id, ascending=False)

    async def _page(self, offset: int) -> tuple[list[Any], bool]:
        items = await self._newest().offset(offset).limit(PAGE + 1)
        return items[:PAGE], len(items) > PAGE

    async def page(self) -> tuple[list[Any], bool]:
        return await self._page(0)

    async def page_500(self) -> tuple[list[Any], bool]:
        return await self._page(BEFORE_PAGE_500)

    async def find(self) -> list[Any]:
        found: list[Any] = await self._newest().limit(FIND)
        return found

    async def add(self, item: Any) -> Any:
        await Payment.insert(item)
        return item

    async def add_many(self, items: list[Any]) -> int:
        # A statement takes 32,767 parameters and a row has twelve columns.
        for start in range(0, len(items), 2500):
            await Payment.insert(*items[start : start + 2500])
        return len(items)

    async def update(self, item: Any, reference: str) -> Any:
        changed = (
            await Payment.update({Payment.reference: reference})
            .where(self.mine, Payment.id == item.id, Payment.version == item.version)
            .returning(Payment.version)
        )
        if len(changed) != 1:
            raise LookupError(item.id)
        item.reference = reference
        item.version = changed[0]["version"]
        return item

    async def transaction(self, first: Any, second: Any, item: Any, reference: str) -> Any:
        async with self.engine.transaction():
            await self.add(first)
            await self.add(second)
            return await self.update(item, reference)
