"""Metrics: connections, times and errors of statements, and whether the database is migrated."""

from __future__ import annotations

import asyncio
import re

import pytest

from tallystick import Duplicate, Tallystick, User
from tallystick.errors import Unavailable
from tallystick.stores.postgres.meter import BOUNDS, Meter, Metrics, PoolUse, StatementTimes


def of(found: Metrics, operation: str) -> StatementTimes:
    times = [s for s in found.statements if (s.entity, s.operation) == ("User", operation)]
    return (
        times[0]
        if times
        else StatementTimes(
            entity="User", operation=operation, calls=0, seconds=0.0, longest=0.0, errors={}, counted=(0,) * 14
        )
    )


async def test_statements_are_counted_by_what_they_did_and_how_they_ended(tally: Tallystick, tenant: str) -> None:
    before = await tally.metrics()
    async with tally.session(tenant, actor="test", permissions=["*"]) as db:
        ada = await db.users.add(User(email="ada@example.org"))
        for _ in range(3):
            await db.users.get(ada.id)
        with pytest.raises(Duplicate):
            await db.users.add(User(email="ada@example.org"))
        async with db.transaction():
            await db.users.get(ada.id)
    after = await tally.metrics()
    assert of(after, "get").calls - of(before, "get").calls == 4
    added, was = of(after, "add"), of(before, "add")
    assert added.calls - was.calls == 2
    assert added.failed - was.failed == 1
    assert added.errors[Duplicate.code] - was.errors.get(Duplicate.code, 0) == 1
    assert sum(added.counted) == added.calls
    assert 0 < added.mean <= added.longest <= added.seconds
    assert 0 < after.error_rate < 1
    assert after.migrated


async def test_the_text_is_what_a_scraper_reads_and_names_nobody(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="somebody", permissions=["*"]) as db:
        await db.users.add(User(email="grace@example.org"))
    text = (await tally.metrics()).text()
    line = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.]+')
    for one in text.splitlines():
        assert one.startswith("# TYPE tallystick_") or line.fullmatch(one), one
    assert 'tallystick_statement_seconds_bucket{entity="User",operation="add",le="+Inf"}' in text
    assert "tallystick_migrated 1" in text
    for personal in (tenant, "somebody", "grace"):
        assert personal not in text


async def test_the_pool_says_how_full_it_is(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="test", permissions=["*"]) as db, db.transaction():
        await db.users.count()
        found = (await tally.metrics()).pool
        assert found.active >= 1
        assert 0 < found.share <= 1
        assert found.active + found.idle <= found.most


def test_spans_hold_what_is_counted() -> None:
    meter = Meter()
    for began in (0.0, 1e12):
        meter.done(None, "fetch", began)
    meter.failed(None, "fetch", 1e12, Unavailable("No connection came free."))
    (times,) = meter.read()
    assert (times.entity, times.calls, times.failed) == ("", 3, 1)
    assert len(times.counted) == len(BOUNDS) + 1
    assert (times.counted[0], times.counted[-1]) == (2, 1)
    nothing = Metrics(pool=PoolUse(active=0, idle=0, waiting=0, most=1), statements=[], migrated=False)
    assert (nothing.error_rate, nothing.calls) == (0, 0)
    assert "tallystick_migrated 0" in nothing.text()


async def test_workers_at_once_lose_no_count(tally: Tallystick, tenant: str) -> None:
    before = of(await tally.metrics(), "count").calls

    async def ask() -> None:
        async with tally.session(tenant, actor="test", permissions=["*"]) as db:
            for _ in range(10):
                await db.users.count()

    await asyncio.gather(*(ask() for _ in range(16)))
    assert of(await tally.metrics(), "count").calls - before == 160
