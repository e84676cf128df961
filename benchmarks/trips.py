"""Round trips an operation takes, counted by the proxy, and what they cost at half a millisecond each way."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from benchmarks.arena import Arena
from benchmarks.proxy import DELAY, Proxy
from benchmarks.runner import percentile
from benchmarks.subjects import Subject
from benchmarks.subjects.asyncpg_raw import Subject as Raw
from benchmarks.subjects.tallystick import Subject as Tally
from benchmarks.table import TABLE, TENANTS, TWIN, Payment, fresh

Call = Callable[[], Any]


@contextlib.asynccontextmanager
async def _opened(subject: Subject) -> AsyncIterator[Subject]:
    await subject.open()
    try:
        yield subject
    finally:
        await subject.close()


async def _count(proxy: Proxy, call: Call, times: int, before: Call | None = None) -> tuple[float, float]:
    """(round trips, median microseconds) of a call, after three that prepare its statements."""
    taken = []
    trips = []
    for at in range(times + 3):
        if before is not None:
            await before()
        proxy.reset()
        started = time.perf_counter_ns()
        await call()
        if at >= 3:
            taken.append(time.perf_counter_ns() - started)
            trips.append(proxy.trips)
    return sum(trips) / len(trips), percentile(taken, 0.5) / 1000


def _calls(subject: Subject, arena_ids: list[Any], held: list[Any]) -> dict[str, Call]:
    chance = random.Random(11)

    async def add() -> None:
        await subject.add(subject.make(fresh(1, chance))[0])

    async def update() -> None:
        held.append(await subject.update(held.pop(0), f"trip {chance.random()}"))

    async def transaction() -> None:
        first, second = subject.make(fresh(2, chance))
        held.append(await subject.transaction(first, second, held.pop(0), f"trip {chance.random()}"))

    async def get() -> None:
        await subject.get(chance.choice(arena_ids))

    return {"get": get, "page": subject.page, "add": add, "update": update, "transaction": transaction}


async def measure(arena: Arena, *, quick: bool) -> list[dict[str, Any]]:
    """Rows of (operation, subject): round trips and the median through the proxy."""
    times = 20 if quick else 100
    ids = await arena.ids()
    rows: list[dict[str, Any]] = []

    def row(operation: str, subject: str, counted: tuple[float, float]) -> None:
        trips, median = counted
        rows.append(
            {"operation": operation, "subject": subject, "round_trips": round(trips, 2), "p50_us": round(median, 1)}
        )

    where = arena.target(TWIN)
    with Proxy(where.host, where.port, DELAY) as proxy:
        for kind, table, offset in ((Raw, TWIN, -20), (Tally, TABLE, -10)):
            target = dataclasses.replace(arena.target(table), host=proxy.host, port=proxy.port)
            async with _opened(kind(target)) as subject:
                held = [await subject.get(id) for id in ids[offset : offset + 5]]
                for operation, call in _calls(subject, ids[:1000], held).items():
                    row(operation, subject.name, await _count(proxy, call, times))
                if isinstance(subject, Tally):
                    await _cold(arena, proxy, subject, ids, times, row)
    await arena.tidy(TWIN)
    await arena.tidy(TABLE)
    return rows


async def _cold(
    arena: Arena, proxy: Proxy, subject: Tally, ids: list[Any], times: int, row: Callable[[str, str, Any], None]
) -> None:
    """A read where the only connection carries another tenant, and a read inside a transaction."""
    own = subject.db[Payment]

    async with subject.tally.session(TENANTS[1], actor="bench") as other:

        async def elsewhere() -> None:
            await other[Payment].get_or_none(ids[0])

        async def read() -> None:
            await own.get(ids[0])

        async def in_transaction() -> None:
            async with subject.db.transaction():
                await own.get(ids[0])

        row("get, cold", subject.name, await _count(proxy, read, times, before=elsewhere))
        row("get in transaction", subject.name, await _count(proxy, in_transaction, times))
