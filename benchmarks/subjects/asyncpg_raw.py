"""The baseline: asyncpg on one held connection, building the same struct by hand; the tenant predicate, no RLS.

Written as somebody would who wants it fast and right: explicit columns (the tenant is known, so it is not fetched),
rows unpacked at once, statements that asyncpg prepares once and keeps, binary COPY for many rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from benchmarks import subjects
from benchmarks.table import BEFORE_PAGE_500, FIND, PAGE, Draft, Payment, PaymentStatus, payment
from tallystick import Money

_FIELDS = "id, version, created_at, created_by, updated_at, updated_by, amount, asset, status, reference, received_at"
_STAMPS = "version, created_at, created_by, updated_at, updated_by"
_COPY = ("tenant_id", "id", "amount", "asset", "status", "reference", "received_at")


class Subject(subjects.Subject):
    name = "asyncpg"
    paging = "row comparison"

    async def open(self) -> None:
        self.conn = await asyncpg.connect(**self.target.asyncpg)
        self.prepare()

    def prepare(self) -> None:
        """The statements, without a connection."""
        self.tenant = self.target.tenant
        table = f"{self.target.schema}.{self.target.table}"
        posted = f"select {_FIELDS} from {table} where tenant_id = $1 and status = $2"
        newest = "order by received_at desc, id desc limit"
        self.get_sql = f"select {_FIELDS} from {table} where tenant_id = $1 and id = $2"
        self.page_sql = f"{posted} {newest} {PAGE + 1}"
        self.after_sql = f"{posted} and (received_at, id) < ($3, $4) {newest} {PAGE + 1}"
        self.find_sql = f"{posted} {newest} {FIND}"
        self.skip_sql = f"{posted} {newest} 1 offset {BEFORE_PAGE_500 - 1}"
        self.add_sql = (
            f"insert into {table} (tenant_id, id, amount, asset, status, reference, received_at) "
            f"values ($1, $2, $3, $4, $5, $6, $7) returning {_STAMPS}"
        )
        self.update_sql = (
            f"update {table} set reference = $4 where tenant_id = $1 and id = $2 and version = $3 "
            "returning version, updated_at, updated_by"
        )

    async def close(self) -> None:
        await self.conn.close()

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        return [payment(draft) for draft in drafts]

    def build(self, row: Any) -> Payment:
        id, version, created_at, created_by, updated_at, updated_by, amount, asset, status, reference, received = row
        return Payment(
            id=id,
            tenant_id=self.tenant,
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

    async def get(self, id: UUID) -> Payment:
        row = await self.conn.fetchrow(self.get_sql, self.tenant, id)
        if row is None:
            raise LookupError(id)
        return self.build(row)

    async def page(self) -> tuple[list[Payment], bool]:
        rows = await self.conn.fetch(self.page_sql, self.tenant, "posted")
        return [self.build(row) for row in rows[:PAGE]], len(rows) > PAGE

    async def last_before_page_500(self) -> Payment:
        """Untimed: the payment that the 499th page ends with."""
        return self.build(await self.conn.fetchrow(self.skip_sql, self.tenant, "posted"))

    async def before_page_500(self, last: Payment) -> None:
        self.after = (last.received_at, last.id)

    async def page_500(self) -> tuple[list[Payment], bool]:
        rows = await self.conn.fetch(self.after_sql, self.tenant, "posted", *self.after)
        return [self.build(row) for row in rows[:PAGE]], len(rows) > PAGE

    async def find(self) -> list[Payment]:
        return [self.build(row) for row in await self.conn.fetch(self.find_sql, self.tenant, "posted")]

    async def add(self, item: Payment) -> Payment:
        row = await self.conn.fetchrow(
            self.add_sql,
            self.tenant, item.id, item.amount.units, item.amount.asset, item.status, item.reference, item.received_at,
        )  # fmt: skip
        return Payment(
            id=item.id,
            tenant_id=self.tenant,
            version=row[0],
            created_at=row[1],
            created_by=row[2],
            updated_at=row[3],
            updated_by=row[4],
            amount=item.amount,
            status=item.status,
            reference=item.reference,
            received_at=item.received_at,
        )

    async def add_many(self, items: list[Payment]) -> int:
        tenant = self.tenant
        await self.conn.copy_records_to_table(
            self.target.table,
            schema_name=self.target.schema,
            columns=_COPY,
            records=[
                (tenant, p.id, p.amount.units, p.amount.asset, p.status, p.reference, p.received_at) for p in items
            ],
        )
        return len(items)

    async def update(self, item: Payment, reference: str) -> Payment:
        row = await self.conn.fetchrow(self.update_sql, self.tenant, item.id, item.version, reference)
        if row is None:
            raise LookupError(item.id)
        return msgspec.structs.replace(item, reference=reference, version=row[0], updated_at=row[1], updated_by=row[2])

    async def transaction(self, first: Payment, second: Payment, item: Payment, reference: str) -> Payment:
        async with self.conn.transaction():
            await self.add(first)
            await self.add(second)
            return await self.update(item, reference)
