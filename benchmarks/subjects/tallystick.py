"""Tallystick as an application uses it: an open session, row-level security on, the application's role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from benchmarks import subjects
from benchmarks.table import FIND, PAGE, Draft, Payment, PaymentStatus, payment
from tallystick import Settings, Tallystick, desc
from tallystick.settings import build_url


class Subject(subjects.Subject):
    name = "tallystick"
    paging = "cursor"

    async def open(self) -> None:
        target = self.target
        url = build_url(
            host=target.host,
            port=target.port,
            user=target.user,
            password=target.password,
            database=target.database,
        )
        self.tally_context = Tallystick.open(
            entities=[Payment], domains=[], settings=Settings(database_url=url, role_prefix=target.prefix, pool_max=1)
        )
        self.tally = await self.tally_context.__aenter__()
        self.session_context = self.tally.session(target.tenant_slug, actor=subjects.ACTOR)
        self.db = await self.session_context.__aenter__()
        self.payments = self.db[Payment]

    async def close(self) -> None:
        await self.session_context.__aexit__(None, None, None)
        await self.tally_context.__aexit__(None, None, None)

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        return [payment(draft) for draft in drafts]

    async def get(self, id: UUID) -> Payment:
        return await self.payments.get(id)

    async def _page(self, after: str | None) -> Any:
        return await self.payments.page(
            Payment.status == PaymentStatus.POSTED, order=desc(Payment.received_at), after=after, limit=PAGE
        )

    async def page(self) -> Any:
        return await self._page(None)

    def items(self, page: Any) -> tuple[list[Any], bool]:
        return page.items, page.has_next

    async def before_page_500(self, last: Any) -> None:
        self.after = None
        for _ in range(499):
            self.after = (await self._page(self.after)).next

    async def page_500(self) -> Any:
        return await self._page(self.after)

    async def find(self) -> list[Payment]:
        return await self.payments.find(
            Payment.status == PaymentStatus.POSTED, order=desc(Payment.received_at), limit=FIND
        )

    async def add(self, item: Payment) -> Payment:
        return await self.payments.add(item)

    async def add_many(self, items: list[Payment]) -> list[Payment]:
        return await self.payments.add_many(items)

    async def update(self, item: Payment, reference: str) -> Payment:
        return await self.payments.update(item, reference=reference)

    async def transaction(self, first: Payment, second: Payment, item: Payment, reference: str) -> Payment:
        async with self.db.transaction():
            await self.payments.add(first)
            await self.payments.add(second)
            return await self.payments.update(item, reference=reference)
