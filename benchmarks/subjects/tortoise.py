"""Tortoise ORM on asyncpg, one pooled connection. It pages by offset; its update is one statement with the version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from tortoise import Tortoise, fields
from tortoise.models import Model
from tortoise.transactions import in_transaction

from benchmarks import subjects
from benchmarks.subjects import ACTOR
from benchmarks.table import BEFORE_PAGE_500, FIND, PAGE, SCHEMA, TWIN, Draft, PaymentStatus


class Payment(Model):
    tenant_id = fields.UUIDField()
    id = fields.UUIDField(primary_key=True)
    amount = fields.BigIntField()
    asset = fields.TextField()
    status = fields.CharEnumField(PaymentStatus)
    reference = fields.TextField()
    received_at = fields.DatetimeField()
    version = fields.BigIntField()
    created_at = fields.DatetimeField()
    created_by = fields.TextField()
    updated_at = fields.DatetimeField()
    updated_by = fields.TextField()

    class Meta:
        schema = SCHEMA
        table = TWIN


class Subject(subjects.Subject):
    name = "tortoise"

    async def open(self) -> None:
        await Tortoise.init(
            config={
                "connections": {
                    "default": {
                        "engine": "tortoise.backends.asyncpg",
                        "credentials": {
                            "host": self.target.host,
                            "port": self.target.port,
                            "user": self.target.user,
                            "password": self.target.password,
                            "database": self.target.database,
                            "minsize": 1,
                            "maxsize": 1,
                            "server_settings": {"tally.actor": ACTOR},
                        },
                    }
                },
                "apps": {"benchmarks": {"models": [__name__], "default_connection": "default"}},
                "use_tz": True,
            }
        )

    async def close(self) -> None:
        await Tortoise.close_connections()

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        # Tortoise has no column it leaves to the database, so the stamps of a new row are the client's.
        return [
            Payment(
                tenant_id=self.target.tenant,
                id=draft.id,
                amount=draft.amount,
                asset=draft.asset,
                status=draft.status,
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

    async def get(self, id: UUID) -> Payment:
        return await Payment.get(tenant_id=self.target.tenant, id=id)

    def _newest(self) -> Any:
        posted = Payment.filter(tenant_id=self.target.tenant, status=PaymentStatus.POSTED)
        return posted.order_by("-received_at", "-id")

    async def _page(self, offset: int) -> tuple[list[Payment], bool]:
        items = await self._newest().offset(offset).limit(PAGE + 1)
        return items[:PAGE], len(items) > PAGE

    async def page(self) -> tuple[list[Payment], bool]:
        return await self._page(0)

    async def page_500(self) -> tuple[list[Payment], bool]:
        return await self._page(BEFORE_PAGE_500)

    async def find(self) -> list[Payment]:
        found: list[Payment] = await self._newest().limit(FIND)
        return found

    async def add(self, item: Payment) -> Payment:
        await item.save(force_create=True)
        return item

    async def add_many(self, items: list[Payment]) -> int:
        await Payment.bulk_create(items)
        return len(items)

    async def _update(self, item: Payment, reference: str, using: Any = None) -> Payment:
        rows = Payment.filter(tenant_id=self.target.tenant, id=item.id, version=item.version)
        if using is not None:
            rows = rows.using_db(using)
        if await rows.update(reference=reference) != 1:
            raise LookupError(item.id)
        item.reference = reference
        item.version += 1
        return item

    async def update(self, item: Payment, reference: str) -> Payment:
        return await self._update(item, reference)

    async def transaction(self, first: Payment, second: Payment, item: Payment, reference: str) -> Payment:
        async with in_transaction() as using:
            await first.save(using_db=using, force_create=True)
            await second.save(using_db=using, force_create=True)
            return await self._update(item, reference, using)
