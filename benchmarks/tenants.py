"""Many tenants over one pool: 10, 100 and 1,000 of them, a fresh actor a request, twenty connections, twenty at once.

The other rows of the report hold one connection; here each request opens what an application opens. Three ways, in
turns of a slice each:

* ``asyncpg``: its own pool, the tenant only as a predicate, no actor, no row-level security;
* ``asyncpg-safe``: its own pool on the table with row-level security, tenant and actor set in a transaction by hand;
* ``tallystick``: a session a request.

A request reads one payment; each fifth also changes it, which is where the actor matters.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.arena import Arena
from benchmarks.runner import percentile, progress
from benchmarks.subjects.asyncpg_raw import Subject as Raw
from benchmarks.table import ASSET, SCHEMA, TABLE, TWIN, Draft, Payment, PaymentStatus, payment
from tallystick import Tallystick

COUNTS = (10, 100, 1000)
POOL = 20
PER_TENANT = 3
CHANGED = 5
"""One request in so many also writes."""

Request = Callable[[int, str], Awaitable[None]]


@dataclass(slots=True)
class Crowd:
    """Tenants beyond those of the other rows, each with a few payments in both tables."""

    slugs: list[str]
    tenants: list[UUID]
    payments: list[UUID]


async def _crowd(arena: Arena) -> Crowd:
    chance = random.Random(5)
    made = Crowd([], [], [])
    for number in range(max(COUNTS)):
        slug = f"crowd-{number}"
        tenant = await arena.tally.tenants.create(slug, name=slug)
        drafts = [
            Draft(
                UUID(int=chance.getrandbits(128), version=4), 1000, ASSET, PaymentStatus.PENDING,
                f"crowd-{at}", datetime(2026, 6, 1, 12, at, tzinfo=UTC),
            )
            for at in range(PER_TENANT)
        ]  # fmt: skip
        async with arena.tally.session(slug, actor="seed") as db:
            await db[Payment].add_many([payment(draft) for draft in drafts])
        await arena.admin.copy_records_to_table(
            TWIN,
            schema_name=SCHEMA,
            columns=("tenant_id", "id", "amount", "asset", "status", "reference", "received_at"),
            records=[(tenant.id, *draft) for draft in drafts],
        )
        made.slugs.append(slug)
        made.tenants.append(tenant.id)
        made.payments.append(drafts[0].id)
        progress(f"tenants: {number + 1} made")
    for name in (TABLE, TWIN):
        await arena.admin.execute(f"vacuum (analyze) {SCHEMA}.{name}")
    return made


async def _pool(arena: Arena) -> asyncpg.Pool:
    arguments = arena.target(TWIN).asyncpg
    return await asyncpg.create_pool(**arguments, min_size=POOL, max_size=POOL, reset=_nothing)


async def _nothing(conn: asyncpg.Connection) -> None:
    """No reset at release, a round trip saved: nothing here outlives its transaction."""


def _statements(arena: Arena, table: str) -> Raw:
    """The baseline's statements and decoder, without its held connection."""
    raw = Raw(arena.target(table))
    raw.prepare()
    return raw


def _plain(arena: Arena, crowd: Crowd, pool: asyncpg.Pool) -> Request:
    raw = _statements(arena, TWIN)

    async def request(tenant: int, actor: str) -> None:
        async with pool.acquire() as conn:
            found = raw.build(await conn.fetchrow(raw.get_sql, crowd.tenants[tenant], crowd.payments[tenant]))
            if _changes(actor):
                await conn.fetchrow(raw.update_sql, crowd.tenants[tenant], found.id, found.version, actor)

    return request


def _by_hand(arena: Arena, crowd: Crowd, pool: asyncpg.Pool) -> Request:
    raw = _statements(arena, TABLE)
    settings = "select set_config('tally.tenant', $1, true), set_config('tally.actor', $2, true)"

    async def request(tenant: int, actor: str) -> None:
        async with pool.acquire() as conn, conn.transaction():
            await conn.fetchrow(settings, str(crowd.tenants[tenant]), actor)
            found = raw.build(await conn.fetchrow(raw.get_sql, crowd.tenants[tenant], crowd.payments[tenant]))
            if _changes(actor):
                await conn.fetchrow(raw.update_sql, crowd.tenants[tenant], found.id, found.version, actor)

    return request


def _session(crowd: Crowd, tally: Tallystick) -> Request:
    async def request(tenant: int, actor: str) -> None:
        async with tally.session(crowd.slugs[tenant], actor=actor) as db:
            found = await db[Payment].get(crowd.payments[tenant])
            if _changes(actor):
                await db[Payment].update(found, reference=actor)

    return request


def _changes(actor: str) -> bool:
    return int(actor.rsplit(":", 1)[1]) % CHANGED == 0


class _Slice:
    """One turn of one way: workers take requests from a common list, each as fast as it can."""

    def __init__(self, request: Request, order: list[int], first: int) -> None:
        self.request = request
        self.todo = iter(list(enumerate(order, start=first)))
        self.taken: list[int] = []
        # Two requests of one slice must not change one payment at once: a stale version is not what is measured.
        self.locks: dict[int, asyncio.Lock] = {}

    async def worker(self) -> None:
        clock = time.perf_counter_ns
        for number, tenant in self.todo:
            actor = f"user:{number}"
            async with self.locks.setdefault(tenant, asyncio.Lock()):
                started = clock()
                await self.request(tenant, actor)
                self.taken.append(clock() - started)

    async def run(self) -> float:
        started = time.perf_counter()
        await asyncio.gather(*(self.worker() for _ in range(POOL)))
        return time.perf_counter() - started


async def measure(arena: Arena, *, quick: bool) -> list[dict[str, Any]]:
    """Rows of (tenants, subject): requests a second, the latency's median and 99th percentile, ratio to ``asyncpg``."""
    crowd = await _crowd(arena)
    slices, length = (6, 500) if quick else (20, 1000)
    pool = await _pool(arena)
    safe = await _pool(arena)
    rows: list[dict[str, Any]] = []
    try:
        ways = {
            "asyncpg": _plain(arena, crowd, pool),
            "asyncpg-safe": _by_hand(arena, crowd, safe),
            "tallystick": _session(crowd, arena.tally),
        }
        number = 0
        for count in COUNTS:
            chance = random.Random(count)
            taken: dict[str, list[int]] = {name: [] for name in ways}
            rate: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(-1, slices):
                for name, request in ways.items():
                    number += length
                    order = [chance.randrange(count) for _ in range(length)]
                    gc.collect()
                    one = _Slice(request, order, number)
                    seconds = await one.run()
                    # The first turn only opens connections.
                    if turn >= 0:
                        taken[name] += one.taken
                        rate[name].append(length / seconds)
                progress(f"tenants: {count}, turn {max(turn, 0) + 1} of {slices}")
            base = percentile(rate["asyncpg"], 0.5)
            rows += [
                {
                    "tenants": count,
                    "subject": name,
                    "requests_per_s": round(percentile(rate[name], 0.5)),
                    "p50_us": round(percentile(taken[name], 0.5) / 1000, 1),
                    "p99_us": round(percentile(taken[name], 0.99) / 1000, 1),
                    "ratio": round(base / percentile(rate[name], 0.5), 3),
                }
                for name in ways
            ]
    finally:
        await pool.close()
        await safe.close()
        progress("")
    return rows
