"""The one table every subject reads and writes: its entity, its twin without row-level security, and its rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from tallystick import Entity, Index, Length, Money, Rules

TENANTS = ("bench-1", "bench-2", "bench-3", "bench-4", "bench-5")
ROWS = 100_000
PER_TENANT = ROWS // len(TENANTS)
CHUNK = 500
PAGE = 20
FIND = 10_000
BEFORE_PAGE_500 = 499 * PAGE
SCHEMA = "tally"
TABLE = "payment"
TWIN = "bench_payment"
ASSET = "USD"
NEW = "new-"
"""What the reference of every row written during a run starts with, so that it can be taken out again."""

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class PaymentStatus(StrEnum):
    PENDING = "pending"
    POSTED = "posted"
    FAILED = "failed"


class Payment(Entity):
    """Money received. Twelve columns: amount and asset, status, reference, received_at, and the entity's own seven."""

    amount: Money
    status: PaymentStatus = PaymentStatus.PENDING
    reference: Annotated[str, Length(64)]
    received_at: datetime

    # What is compared here has no log either; what capture costs is `./run bench audit`.
    rules = Rules(Index("status", "received_at", query="payments of a status, newest first"), audit=False)


COLUMNS = (
    "id", "tenant_id", "version", "created_at", "created_by", "updated_at", "updated_by",
    "amount", "asset", "status", "reference", "received_at",
)  # fmt: skip


class Draft(NamedTuple):
    """The values of a row before any subject made its own object of them."""

    id: UUID
    amount: int
    asset: str
    status: PaymentStatus
    reference: str
    received_at: datetime


def _id(chance: random.Random, at: datetime) -> UUID:
    millis = int(at.timestamp() * 1000)
    bits = chance.getrandbits(74)
    return UUID(int=millis << 80 | 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | (bits & (1 << 62) - 1))


def seeded() -> Iterator[tuple[int, list[Draft]]]:
    """The rows of the table as (index of the tenant, drafts), in the order in which both tables store them.

    Arrival is in time order with the tenants interleaved, as a live system writes; 60 % of a tenant's 20,000 rows are
    posted, so that 10,000 of them can be found and page 500 exists.
    """
    chance = random.Random(20260101)
    at = _EPOCH
    statuses = [PaymentStatus.POSTED] * 12 + [PaymentStatus.PENDING] * 5 + [PaymentStatus.FAILED] * 3
    number = 0
    for chunk in range(ROWS // CHUNK):
        drafts = []
        for _ in range(CHUNK // len(statuses)):
            chance.shuffle(statuses)
            for status in statuses:
                number += 1
                at += timedelta(seconds=chance.randrange(1, 200), microseconds=chance.randrange(1_000_000))
                drafts.append(
                    Draft(_id(chance, at), chance.randrange(100, 5_000_000), ASSET, status, f"PMT-{number:08d}", at)
                )
        yield chunk % len(TENANTS), drafts


def fresh(count: int, chance: random.Random) -> list[Draft]:
    """Rows to be written: pending, so that no page or search of posted payments ever sees them."""
    at = _EPOCH + timedelta(days=400)
    drafts = []
    for number in range(count):
        at += timedelta(milliseconds=7)
        drafts.append(
            Draft(_id(chance, at), chance.randrange(100, 5_000_000), ASSET, PaymentStatus.PENDING, f"{NEW}{number}", at)
        )
    return drafts


def payment(draft: Draft) -> Payment:
    return Payment(
        id=draft.id,
        amount=Money(draft.amount, draft.asset),
        status=draft.status,
        reference=draft.reference,
        received_at=draft.received_at,
    )


# The constraints, indexes and triggers of the generated table come from the catalogue, not from a second text that
# could drift: the twin differs from it in row-level security and in nothing else.
_CONSTRAINTS = """
select conname, pg_get_constraintdef(oid) as text from pg_constraint
where conrelid = $1::text::regclass and contype in ('f') order by conname
"""
_TRIGGERS = """
select pg_get_triggerdef(oid) as text from pg_trigger where tgrelid = $1::text::regclass and not tgisinternal
"""


async def make_twin(admin: Any, app_role: str) -> None:
    """Clone the generated table without its policies. ``admin`` is an asyncpg connection that owns the schema."""
    table, twin = f"{SCHEMA}.{TABLE}", f"{SCHEMA}.{TWIN}"
    await admin.execute(f"drop table if exists {twin}; create table {twin} (like {table} including all)")
    for row in await admin.fetch(_CONSTRAINTS, table):
        await admin.execute(f'alter table {twin} add constraint "{row["conname"]}" {row["text"]}')
    for row in await admin.fetch(_TRIGGERS, table):
        await admin.execute(row["text"].replace(f" ON {table} ", f" ON {twin} ", 1))
    await admin.execute(f'grant select, insert, update, delete on {twin} to "{app_role}"')
