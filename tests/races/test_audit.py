"""Sixteen writers that commit and abort at random, and a sealer that is killed ten times: one leaf for every entry."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest_asyncio
from tests.audit.ground import SealedGround, once_each, sealed_ground
from tests.races.sealing import seal_for_good

from tallystick.errors import Conflict
from tallystick.session import Session
from tallystick.testing import KitServer
from tallystick.testing.conformance.entities import Shelf

WRITERS = 16
KILLS = 10
SECONDS = float(os.environ.get("TALLYSTICK_SOAK", "8"))
ENOUGH = 50
PATIENCE = 90
SEALING = Path(__file__).with_name("sealing.py")


@pytest_asyncio.fixture(loop_scope="session")
async def sealed(tally_server: KitServer, tmp_path: Path) -> AsyncIterator[SealedGround]:
    async with sealed_ground(tally_server, tmp_path, f"seal{uuid4().hex[:6]}") as made:
        yield made


class Abort(Exception):
    """A writer changed its mind."""


async def write(
    ground: SealedGround, tenant: UUID, number: int, ended: asyncio.Event, committed: Counter[str], aborted: set[str]
) -> None:
    """Transactions short and long; what was committed is counted by the row's key."""
    dice = random.Random(number)
    async with ground.tally.session(tenant, actor=f"writer:{number}", permissions=("*",)) as db:
        while not ended.is_set():
            done: list[str] = []
            try:
                async with db.transaction():
                    await _some_changes(db, dice, done)
                    if dice.random() < 0.3:
                        raise Abort
            except Abort:
                aborted.update(done)
            else:
                committed.update(done)
            await asyncio.sleep(dice.random() * 0.02)


async def _some_changes(db: Session, dice: random.Random, done: list[str]) -> None:
    # One in fifteen is long, and holds everybody's sealing up.
    pause = dice.random() * 1.5 if dice.random() < 0.07 else dice.random() * 0.01
    for _ in range(dice.randint(1, 4)):
        shelf = await db[Shelf].add(Shelf(name=uuid4().hex))
        done.append(str(shelf.id))
        await asyncio.sleep(pause / 4)
        if dice.random() < 0.5:
            await db[Shelf].update(shelf, stock=dice.randint(1, 9))
            done.append(str(shelf.id))


async def kill_sealers(ground: SealedGround, ended: asyncio.Event) -> int:
    """One sealer after the other; each is killed at a random moment: its process, its connection, or its backend."""
    work = ground.directory / "work.json"
    found = {"url": ground.url("seal"), "key": str(ground.key_file), "anchors": str(ground.directory / "anchors")}
    await asyncio.to_thread(work.write_text, json.dumps({**found, "prefix": ground.server.roles.prefix}))
    killed, began = 0, time.monotonic()
    try:
        # Longer where transactions of others on the server left nothing to seal.
        while killed < KILLS or (await leaves(ground) < ENOUGH and time.monotonic() - began < SECONDS + PATIENCE):
            seconds = SECONDS / KILLS * random.uniform(0.6, 1.0)
            if killed % 5 == 0:
                await _process_killed(ground, work, seconds)
            else:
                await _task_killed(ground, found, seconds, backend=killed % 2 == 0)
            killed += 1
    finally:
        ended.set()
    return killed


async def leaves(ground: SealedGround) -> int:
    async with ground.connected("seal") as conn:
        return int(await conn.fetchval("SELECT count(*) FROM tally_audit.leaf"))


async def _process_killed(ground: SealedGround, work: Path, seconds: float) -> None:
    output = ground.directory / "sealer.log"
    with output.open("ab") as log:
        child = subprocess.Popen(  # noqa: ASYNC220  it has to be killed by its id
            [sys.executable, str(SEALING), str(work)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        await asyncio.sleep(seconds)
        assert child.poll() is None, await asyncio.to_thread(output.read_text)
    finally:
        child.kill()
        child.wait()


async def _task_killed(ground: SealedGround, work: dict[str, str], seconds: float, *, backend: bool) -> None:
    places = (work["url"], Path(work["key"]), Path(work["anchors"]), ground.server.roles.prefix)
    sealing = asyncio.create_task(seal_for_good(*places))
    await asyncio.sleep(seconds)
    assert not sealing.done(), sealing.exception()
    if backend:
        async with ground.connected("seal") as conn:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()"
            )
    else:
        sealing.cancel()
    await asyncio.wait([sealing], timeout=10)
    assert sealing.done()


async def test_every_committed_change_has_exactly_one_leaf(sealed: SealedGround) -> None:
    tenants = [await sealed.tenant() for _ in range(3)]
    committed: Counter[str] = Counter()
    aborted: set[str] = set()
    ended = asyncio.Event()
    async with asyncio.timeout(SECONDS + 2 * PATIENCE):
        *_, kills = await asyncio.gather(
            *(write(sealed, tenants[n % 3], n, ended, committed, aborted) for n in range(WRITERS)),
            kill_sealers(sealed, ended),
        )
    assert kills >= KILLS
    assert await leaves(sealed) >= ENOUGH, "the sealers were killed before they did anything"
    # A sealer that was cut off may still be ending on the server.
    for _ in range(300):
        with contextlib.suppress(Conflict):
            await sealed.seal()
            break
        await asyncio.sleep(0.1)
    async with sealed.connected("seal") as conn:
        await once_each(conn)
        rows = await conn.fetch("SELECT key FROM tally_audit.entry WHERE \"table\" = 'kit_shelf'")
        found = Counter(r["key"] for r in rows)
    assert found == committed
    assert not aborted & set(found)
    status = await sealed.tally.audit.status(deep=True)
    assert (status.missed, status.unsealed) == (0, 0)


async def test_sealers_at_once_take_turns(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 40)
    work = (sealed.url("seal"), sealed.key_file, sealed.directory / "anchors", sealed.server.roles.prefix)
    sealers = [asyncio.create_task(seal_for_good(*work)) for _ in range(4)]
    await sealed.shelves(tenant, 60)
    await asyncio.sleep(0.5)
    assert not any(s.done() for s in sealers)
    for task in sealers:
        task.cancel()
    await asyncio.wait(sealers, timeout=10)
    for _ in range(300):
        with contextlib.suppress(Conflict):
            await sealed.seal()
            break
        await asyncio.sleep(0.1)
    async with sealed.connected("seal") as conn:
        assert await once_each(conn) >= 100
