"""Sixteen workers at one queue: no item is done twice, and none is forgotten."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta

from tests.entities import Job

from tallystick import LeaseLost
from tallystick.session import Session
from tallystick.testing import Race

N = 16


async def test_no_item_is_claimed_twice(race: Race, db: Session):
    await db[Job].add_many([Job(name=f"{n}") for n in range(300)])

    async def work(s: Session) -> list[str]:
        done = []
        while True:
            claimed = [c async for c in s[Job].claim(limit=7)]
            if not claimed:
                return done
            for item in claimed:
                assert item.attempt == 1
                async with item:
                    done.append(item.value.name)

    result = await race(N, work)
    assert result.errors == []
    assert Counter(name for names in result.results for name in names) == Counter(str(n) for n in range(300))


async def test_items_of_workers_that_die_are_done_by_others_once(race: Race, db: Session):
    """Workers drop half of what they claim; leases run out, and every item is done exactly once."""
    await db[Job].add_many([Job(name=f"{n}") for n in range(60)])

    async def work(s: Session, i: int) -> list[str]:
        pick, done = random.Random(i), []
        empty = 0
        while empty < 4:
            claimed = [c async for c in s[Job].claim(limit=3, lease=timedelta(milliseconds=60))]
            empty = 0 if claimed else empty + 1
            for item in claimed:
                if pick.random() < 0.4:
                    continue
                if pick.random() < 0.1:
                    await asyncio.sleep(0.08)
                try:
                    await item.done()
                except LeaseLost:
                    continue
                done.append(item.value.name)
            await asyncio.sleep(0.02)
        return done

    result = await race(N, work)
    assert result.errors == []
    assert Counter(name for names in result.results for name in names) == Counter(str(n) for n in range(60))
    assert [c async for c in db[Job].claim()] == []


async def test_one_item_has_one_holder(race: Race, db: Session):
    for _ in range(5):
        await db[Job].add(Job(name="only"))

        async def claim(s: Session) -> int:
            return len([c async for c in s[Job].claim(limit=10)])

        result = await race(N, claim)
        assert sorted(result.results) == [0] * (N - 1) + [1]


async def test_an_item_given_back_is_claimed_once_more(race: Race, db: Session):
    await db[Job].add(Job(name="hot potato"))

    async def juggle(s: Session) -> int:
        held = 0
        for _ in range(6):
            async for item in s[Job].claim(limit=1):
                held += 1
                await item.release()
        return held

    result = await race(N, juggle)
    (last,) = [c async for c in db[Job].claim()]
    assert last.attempt == sum(result.results) + 1
