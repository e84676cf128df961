"""What a store may declare that it cannot do, and how each such refusal is provoked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pytest

from tallystick.fields import Ref
from tallystick.ids import uuid7
from tallystick.money import usd
from tallystick.privacy.sealed import secret
from tallystick.query import all_of, contains, key
from tallystick.testing.conformance.entities import Door, Entry, Gate, Job, Member, Owner, Shelf, Sink

if TYPE_CHECKING:
    from tallystick.session import Session


class Capability(StrEnum):
    """Something that not every store can do. Whatever is not listed here every store does."""

    TRANSACTIONS = "transactions"
    SAVEPOINTS = "savepoints"
    ISOLATION = "isolation"
    READ_ONLY = "read_only"
    LOCK = "lock"
    CLAIM = "claim"
    UPSERT = "upsert"
    UPDATE_WHERE = "update_where"
    PURGE_WHERE = "purge_where"
    ARCHIVE = "archive"
    UNIQUE = "unique"
    REFERENCES = "references"
    CHECKS = "checks"
    TRANSITIONS = "transitions"
    APPEND_ONLY = "append_only"
    SEALED = "sealed"
    CONTAINS = "contains"
    PROMOTED = "promoted"
    FETCH = "fetch"
    QUOTAS = "quotas"


def needs(*capabilities: Capability) -> pytest.MarkDecorator:
    """Mark a test as needing capabilities; where the store declares one unsupported, the test is skipped."""
    return pytest.mark.tally_needs(*capabilities)


async def _savepoints(db: Session) -> None:
    async with db.transaction(), db.transaction():
        await db[Owner].count()


async def _isolation(db: Session) -> None:
    async with db.transaction("repeatable read"):
        await db[Owner].count()


async def _read_only(db: Session) -> None:
    async with db.transaction(read_only=True):
        await db[Owner].count()


async def _transactions(db: Session) -> None:
    async with db.transaction():
        await db[Owner].count()


async def _lock(db: Session) -> None:
    owner = await db[Owner].add(Owner(name="held"))
    async with db.transaction():
        await db[Owner].lock(owner.id)


async def _claim(db: Session) -> None:
    async for _ in db[Job].claim(limit=1, lease=timedelta(minutes=1)):
        break


async def _archive(db: Session) -> None:
    await db[Shelf].archive(await db[Shelf].add(Shelf(name=f"probe {uuid7()}")))


async def _fetch(db: Session) -> None:
    from sqlalchemy import func, select

    await db.fetch(select(func.count().label("n")).select_from(Owner.table), into=dict)


async def _references(db: Session) -> None:
    owner = await db[Owner].add(Owner(name="referred to"))
    await db[Sink].add(Sink(owner=Ref(owner.id)))


PROBES: dict[Capability, Callable[[Session], Awaitable[Any]]] = {
    Capability.TRANSACTIONS: _transactions,
    Capability.SAVEPOINTS: _savepoints,
    Capability.ISOLATION: _isolation,
    Capability.READ_ONLY: _read_only,
    Capability.LOCK: _lock,
    Capability.CLAIM: _claim,
    Capability.UPSERT: lambda db: db[Shelf].upsert(Shelf(name="probe"), on=Shelf.name),
    Capability.UPDATE_WHERE: lambda db: db[Sink].update_where(all_of(), number=1),
    Capability.PURGE_WHERE: lambda db: db[Sink].purge_where(all_of(), reason="a probe"),
    Capability.ARCHIVE: _archive,
    Capability.UNIQUE: lambda db: db[Shelf].add(Shelf(name=f"probe {uuid7()}")),
    Capability.REFERENCES: _references,
    Capability.CHECKS: lambda db: db[Shelf].add(Shelf(name=f"probe {uuid7()}", stock=1)),
    Capability.TRANSITIONS: lambda db: db[Gate].add(Gate(name="probe", state=Door.SHUT)),
    Capability.APPEND_ONLY: lambda db: db[Entry].add(Entry(text="probe", amount=usd(1))),
    Capability.SEALED: lambda db: db[Member].add(Member(number=secret(str(uuid7().int)), name="Probe")),
    Capability.CONTAINS: lambda db: db[Sink].find(contains(Sink.payload, {"a": 1})),
    Capability.PROMOTED: lambda db: db[Sink].find(key(Sink.payload, "score") >= 1),
    Capability.FETCH: _fetch,
    Capability.QUOTAS: lambda db: db.consume("users"),
}
"""The smallest use of each capability: it works, or raises ``Unsupported`` where that was declared."""
