"""Django's ORM, synchronous, on psycopg 3 with one persistent connection.

In its favour: called without an event loop (its async methods are the sync ones in a thread), ``CONN_MAX_AGE=None``,
server-side binding with prepared statements, stamps of a new row set by the client (``db_default`` takes three times as
long for many rows, one RETURNING longer for one), the best of several batch sizes, an update that is one statement
with the version in its filter. Its paginator is by offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import django
from django.conf import settings

from benchmarks import subjects
from benchmarks.subjects import ACTOR
from benchmarks.table import BEFORE_PAGE_500, FIND, PAGE, SCHEMA, TWIN, Draft


def _connect(target: subjects.Target) -> None:
    if settings.configured:
        raise RuntimeError("Django is configured once a process")
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": target.database,
                "USER": target.user,
                "PASSWORD": target.password,
                "HOST": target.host,
                "PORT": str(target.port),
                "CONN_MAX_AGE": None,
                "OPTIONS": {
                    "options": f"-c tally.actor={ACTOR}",
                    "server_side_binding": True,
                    "prepare_threshold": 2,
                },
            }
        },
        USE_TZ=True,
        INSTALLED_APPS=[],
    )
    django.setup()


def _model() -> Any:
    from django.db import models

    class Status(models.TextChoices):
        PENDING = "pending"
        POSTED = "posted"
        FAILED = "failed"

    class Payment(models.Model):
        tenant_id = models.UUIDField()
        id = models.UUIDField(primary_key=True)
        amount = models.BigIntegerField()
        asset = models.TextField()
        status = models.TextField(choices=Status.choices)
        reference = models.TextField()
        received_at = models.DateTimeField()
        version = models.BigIntegerField()
        created_at = models.DateTimeField()
        created_by = models.TextField()
        updated_at = models.DateTimeField()
        updated_by = models.TextField()

        class Meta:
            app_label = "benchmarks"
            managed = False
            # How a table of another schema is named in Django: the quotes are closed and opened again.
            db_table = f'{SCHEMA}"."{TWIN}'

    return Payment


class Subject(subjects.Subject):
    name = "django"
    sync = True

    def open(self) -> None:
        _connect(self.target)
        from django.db import connection, transaction

        self.connection = connection
        self.atomic = transaction.atomic
        self.model = _model()

    def close(self) -> None:
        self.connection.close()

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        return [
            self.model(
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

    def get(self, id: UUID) -> Any:
        return self.model.objects.get(tenant_id=self.target.tenant, id=id)

    def _newest(self) -> Any:
        posted = self.model.objects.filter(tenant_id=self.target.tenant, status="posted")
        return posted.order_by("-received_at", "-id")

    def _page(self, offset: int) -> tuple[list[Any], bool]:
        items = list(self._newest()[offset : offset + PAGE + 1])
        return items[:PAGE], len(items) > PAGE

    def page(self) -> tuple[list[Any], bool]:
        return self._page(0)

    def page_500(self) -> tuple[list[Any], bool]:
        return self._page(BEFORE_PAGE_500)

    def find(self) -> list[Any]:
        return list(self._newest()[:FIND])

    def add(self, item: Any) -> Any:
        item.save(force_insert=True)
        return item

    def add_many(self, items: list[Any]) -> int:
        return len(self.model.objects.bulk_create(items, batch_size=500))

    def update(self, item: Any, reference: str) -> Any:
        changed = self.model.objects.filter(tenant_id=self.target.tenant, id=item.id, version=item.version).update(
            reference=reference
        )
        if changed != 1:
            raise LookupError(item.id)
        item.reference = reference
        item.version += 1
        return item

    def transaction(self, first: Any, second: Any, item: Any, reference: str) -> Any:
        with self.atomic():
            first.save(force_insert=True)
            second.save(force_insert=True)
            return self.update(item, reference)
