"""Tallystick through its synchronous facade, as a Django view or a Celery task uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from benchmarks import subjects
from benchmarks.table import FIND, PAGE, Draft, Payment, PaymentStatus, payment
from tallystick import Settings, desc
from tallystick.settings import build_url
from tallystick.sync import Tallystick


class Subject(subjects.Subject):
    name = "tallystick-sync"
    sync = True
    paging = "cursor"

    def open(self) -> None:
        target = self.target
        url = build_url(
            host=target.host,
            port=target.port,
            user=target.user,
            password=target.password,
            database=target.database,
        )
        self.tally = Tallystick.open(
            entities=[Payment], domains=[], settings=Settings(database_url=url, role_prefix=target.prefix, pool_max=1)
        )
        self.tally.start()
        self.context = self.tally.session(target.tenant_slug, actor=subjects.ACTOR)
        self.db = self.context.__enter__()
        self.payments = self.db[Payment]

    def close(self) -> None:
        self.context.__exit__(None, None, None)
        self.tally.close()

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        return [payment(draft) for draft in drafts]

    def get(self, id: UUID) -> Payment:
        return self.payments.get(id)

    def _page(self, after: str | None) -> Any:
        return self.payments.page(
            Payment.status == PaymentStatus.POSTED, order=desc(Payment.received_at), after=after, limit=PAGE
        )

    def page(self) -> Any:
        return self._page(None)

    def items(self, page: Any) -> tuple[list[Any], bool]:
        return page.items, page.has_next

    def before_page_500(self, last: Any) -> None:
        self.after = None
        for _ in range(499):
            self.after = self._page(self.after).next

    def page_500(self) -> Any:
        return self._page(self.after)

    def find(self) -> list[Payment]:
        return self.payments.find(Payment.status == PaymentStatus.POSTED, order=desc(Payment.received_at), limit=FIND)

    def add(self, item: Payment) -> Payment:
        return self.payments.add(item)

    def add_many(self, items: list[Payment]) -> list[Payment]:
        return self.payments.add_many(items)

    def update(self, item: Payment, reference: str) -> Payment:
        return self.payments.update(item, reference=reference)

    def transaction(self, first: Payment, second: Payment, item: Payment, reference: str) -> Payment:
        with self.db.transaction():
            self.payments.add(first)
            self.payments.add(second)
            return self.payments.update(item, reference=reference)
