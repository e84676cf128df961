"""The outbox under sixteen consumers that are killed: nothing lost, nothing invented, in order, repeats marked.

``TALLYSTICK_SOAK_OUTBOX=100000`` sends so many messages instead of a few thousand.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

import asyncpg
import pytest

from tallystick import OutboxMessage, OutboxState, Retry, Tallystick, Unavailable
from tallystick.session import Session
from tallystick.testing import Race

N = 16
SOAK = int(os.environ.get("TALLYSTICK_SOAK_OUTBOX", "0"))
MESSAGES = SOAK or 2_000
EVERY = 1 if not SOAK else 5
KEYS = 400 if SOAK else 100
ENOUGH = 4
CREW = Path(__file__).with_name("outbox_crew.py")
# As often as it takes: with the usual ten deliveries one in two thousand runs has a message that fails every time.
AT_ONCE = Retry(attempts=1_000, base=timedelta(0), cap=timedelta(0))


@pytest.mark.timeout(300 if not SOAK else 2_400)
async def test_consumers_are_killed(tally: Tallystick, tenant: str, db: Session, race: object):
    with tempfile.TemporaryDirectory(prefix="tally-outbox-") as made:
        notes = Path(made)
        work = {
            "settings": {"database_url": tally.settings.database_url, "pool_max": 2},
            "tenant": tenant,
            "messages": MESSAGES,
            "keys": KEYS,
            "producers": 4,
            "consumers": N,
            "lease": 0.8 if not SOAK else 3.0,
            "limit": 5 if not SOAK else 30,
            "gap": 0.5 if not SOAK else 1.0,
            "kills": ENOUGH,
            "seed": 28,
            "every": EVERY,
            "notes": made,
        }
        (notes / "work.json").write_text(json.dumps(work))
        with (notes / "crew.txt").open("wb") as out:
            killer = await asyncpg.connect(tally.settings.database_url)
            ours = await killer.fetchval(OURS)
            crew = start(notes, out)
            began, ended = time.monotonic(), 0
            try:
                ended = await until_quiet(killer, ours, db, notes, crew)
            finally:
                (notes / "stop").touch()
                crew.wait(30)
                await killer.close()
        took = time.monotonic() - began
        kills = int((notes / "kills").read_text())
        rolled, deliveries = read(notes)
    rows = {m.id: m async for m in db[OutboxMessage].stream(OutboxMessage.topic == "work")}
    assert len(rows) >= MESSAGES // 4 * 4
    assert {m.state for m in rows.values()} == {OutboxState.DONE}
    assert not rolled & {m.payload for m in rows.values()}
    handled = defaultdict(list)
    for id, attempt, at in deliveries:
        handled[id].append((attempt, at))
    assert set(handled) == set(rows), "each at least once, and none that was rolled back"
    for id, found in handled.items():
        attempts = [attempt for attempt, _ in found]
        assert len(set(attempts)) == len(attempts), "two deliveries that nobody could tell apart"
        assert max(attempts) <= rows[id].tries
    of_key = defaultdict(list)
    for message in rows.values():
        of_key[message.key].append(message)
    for mine in of_key.values():
        firsts = [min(at for _, at in handled[m.id]) for m in sorted(mine, key=lambda m: m.position)]
        assert firsts == sorted(firsts), "out of order"
    effects = Counter([m.payload async for m in db[OutboxMessage].stream(OutboxMessage.topic == "effect")])
    assert effects == Counter(str(id) for id in rows if not id.int % EVERY), (
        "what was written with a message was written once"
    )
    assert kills >= ENOUGH
    assert ended >= ENOUGH
    repeats = len(deliveries) - len(rows)
    assert repeats > 0
    if SOAK:
        print(f"{len(rows)} messages, {len(deliveries)} deliveries, {kills} kills, {ended} ends, {took:.1f} s")


def start(notes: Path, out: BinaryIO) -> subprocess.Popen[bytes]:
    """The crew, with no pipe of ours."""
    return subprocess.Popen(
        [sys.executable, str(CREW), str(notes / "work.json")], stdin=subprocess.DEVNULL, stdout=out, stderr=out
    )


async def until_quiet(
    killer: asyncpg.Connection, ours: list[int], db: Session, notes: Path, crew: subprocess.Popen[bytes]
) -> int:
    """End backends at random until everything was added and handled; answers how many were ended."""
    chance, ended = random.Random(28), 0
    patience = time.monotonic() + (180 if not SOAK else 1_800)
    while time.monotonic() < patience and crew.poll() is None:
        await asyncio.sleep(chance.uniform(0.1, 0.5) if not SOAK else chance.uniform(0.5, 1.5))
        ended += await killer.fetchval(END, ours)
        if ended >= ENOUGH:
            (notes / "ended").touch()
        # A connection that our own pool has opened since is nobody's whom the killer spares.
        with suppress(Unavailable):
            if (notes / "produced").exists() and not [s for s in await db.outbox.status() if s.topic == "work"]:
                return ended
    raise AssertionError(f"not all was handled: {(notes / 'crew.txt').read_text()[-2000:]}")


END = """
SELECT count(pg_terminate_backend(v.pid)) FROM (
  SELECT a.pid FROM pg_stat_activity a WHERE a.datname = current_database() AND a.usename = current_user
    AND a.pid <> pg_backend_pid() AND a.pid <> ALL ($1) ORDER BY random() LIMIT 1) v"""
OURS = "SELECT array_agg(a.pid) FROM pg_stat_activity a WHERE a.usename = current_user"


def read(notes: Path) -> tuple[set[str], list[tuple[UUID, int, int]]]:
    """What was rolled back, and every delivery: of what, the how many-th, when."""
    rolled: set[str] = set()
    deliveries: list[tuple[UUID, int, int]] = []
    for path in notes.glob("*.*.txt"):
        for line in path.read_text().splitlines():
            word, *rest = line.split()
            if word == "rolled":
                rolled.add(rest[0])
            elif word == "handled":
                deliveries.append((UUID(rest[0]), int(rest[1]), int(rest[2])))
    return rolled, deliveries


async def test_numbers_of_a_key_follow_the_commits(tally: Tallystick, tenant: str):
    """Whoever adds to a key waits for who added before; nobody else does, and no consumer overtakes."""
    async with (
        tally.session(tenant, actor="a", permissions=("*",)) as a,
        tally.session(tenant, actor="b", permissions=("*",)) as b,
        tally.session(tenant, actor="c", permissions=("*",)) as c,
    ):
        before = await a.outbox.add("work", "before", key="k")
        async with a.transaction():
            first = await a.outbox.add("work", "first", key="k")
            second = asyncio.create_task(b.outbox.add("work", "second", key="k"))
            await c.outbox.add("work", "free")
            await c.outbox.add("work", "other", key="l")
            await asyncio.sleep(0.1)
            assert not second.done()
            assert sorted([m.payload async for m in c.outbox.claim("work")]) == ["before", "free", "other"]
        positions = [(await c[OutboxMessage].get(m.id)).position for m in (before, first, await second)]
    assert positions == sorted(set(positions))


async def test_who_waited_for_a_transaction_that_rolled_back_goes_on(tally: Tallystick, tenant: str):
    async with tally.session(tenant, actor="a") as a, tally.session(tenant, actor="b") as b:
        with pytest.raises(ZeroDivisionError):
            async with a.transaction():
                await a.outbox.add("work", "never", key="k")
                second = asyncio.create_task(b.outbox.add("work", "second", key="k"))
                await asyncio.sleep(0.05)
                raise ZeroDivisionError
        await asyncio.wait_for(second, 10)
        assert [m.payload async for m in b.outbox.claim("work")] == ["second"]


async def test_one_consumer_has_a_key(race: Race, db: Session):
    async with db.transaction():
        for n in range(120):
            await db.outbox.add("work", n, key=f"{n % 6}")
    busy: set[str] = set()

    async def work(s: Session) -> list[tuple[int, int]]:
        seen = []
        while True:
            claimed = [m async for m in s.outbox.claim("work", limit=4)]
            last = {m.key: m for m in claimed}
            assert not set(last) & busy, "two have one key"
            busy.update(last)
            for message in claimed:
                assert message.attempt == 1
                seen.append((int(message.key), message.payload))
                if message is last[message.key]:
                    busy.remove(message.key)
                await message.done()
            if not await s.outbox.status():
                return seen

    result = await race(N, work)
    assert result.errors == []
    assert sorted(n for part in result.results for _, n in part) == list(range(120))


async def test_a_message_is_added_once_however_many_try(race: Race, db: Session):
    key = str(uuid4())

    async def add(s: Session) -> UUID:
        return (await s.outbox.add("work", 1, key="k", dedupe=key)).id

    result = await race(N, add)
    assert result.errors == []
    assert len(set(result.results)) == 1
    assert await db[OutboxMessage].count() == 1


async def test_what_fails_and_what_works_keep_the_order(race: Race, db: Session):
    async with db.transaction():
        for n in range(80):
            await db.outbox.add("work", n, key=f"{n % 5}")
    order: dict[str, list[int]] = defaultdict(list)

    async def work(s: Session, i: int) -> None:
        chance = random.Random(i)
        while await s.outbox.status():
            async for message in s.outbox.claim("work", limit=6, retry=AT_ONCE):
                if chance.random() < 0.3:
                    await message.fail(OSError)
                    continue
                order[message.key].append(message.payload)
                await message.done()

    result = await race(N, work)
    assert result.errors == []
    assert dict(order) == {f"{k}": list(range(k, 80, 5)) for k in range(5)}
