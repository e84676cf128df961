"""T2: a tenant left on a pooled connection. One connection, two tenants, 5,000 operations, everything going wrong."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from tests.attacks.conftest import Ground
from tests.attacks.entities import Errand, Holder, Parcel, Stage, holder, parcel
from tests.attacks.links import Leak, watch

from tallystick import Session, Tallystick, desc, one_of, usd
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import Conflict, Duplicate, InvalidTransition, NotFound, StaleVersion, TallystickError

OPERATIONS = 5_000
WORKERS = 5
EXPECTED = (Duplicate, StaleVersion, NotFound, InvalidTransition, Conflict)


class Boom(Exception):
    """What an application raises inside its own transaction."""


class Side:
    """One tenant: every text it writes starts with its mark, so that a foreign row betrays itself by content too."""

    def __init__(self, tally: Tallystick, tenant: TenantInfo, dice: random.Random) -> None:
        self.tally = tally
        self.tenant = tenant
        self.dice = dice
        self.mark = tenant.slug[:12]
        self.ids: list[UUID] = []
        self.home: Holder

    def session(self) -> Any:
        return self.tally.session(self.tenant, actor=f"worker of {self.mark}", permissions=["*"])

    def label(self) -> str:
        # Few enough to collide, so that duplicates happen.
        return f"{self.mark}-{self.dice.randrange(400)}"

    def new(self) -> Parcel:
        return parcel(self.home, self.label(), count=self.dice.randrange(100), remark=self.mark)

    def check(self, *rows: Any) -> None:
        for row in rows:
            if row.tenant_id != self.tenant.id:
                raise Leak("a row of another tenant")
            text = getattr(row, "remark", None) or getattr(row, "what", None)
            if text is not None and not text.startswith(self.mark):
                raise Leak("a row with another tenant's content")

    async def add(self, db: Session) -> None:
        made = await db[Parcel].add(self.new())
        self.check(made)
        self.ids.append(made.id)

    async def add_many(self, db: Session) -> None:
        made = await db[Parcel].add_many([self.new() for _ in range(3)])
        self.check(*made)
        self.ids.extend(m.id for m in made)

    async def get(self, db: Session) -> None:
        if self.ids:
            self.check(await db[Parcel].get(self.dice.choice(self.ids)))

    async def find(self, db: Session) -> None:
        self.check(*await db[Parcel].find(Parcel.count < 50, limit=20, load=[Parcel.holder]))

    async def page(self, db: Session) -> None:
        first = await db[Parcel].page(one_of(Parcel.stage, list(Stage)), order=desc(Parcel.created_at), limit=5)
        self.check(*first)
        if first.next:
            where = one_of(Parcel.stage, list(Stage))
            self.check(*await db[Parcel].page(where, order=desc(Parcel.created_at), limit=5, after=first.next))

    async def count(self, db: Session) -> None:
        if await db[Parcel].count() != await db[Parcel].count(Parcel.remark == self.mark):
            # Another worker of this tenant may have written between the two; a foreign row would stay.
            async with db.transaction("repeatable read"):
                if await db[Parcel].count() != await db[Parcel].count(Parcel.remark == self.mark):
                    raise Leak("rows that are not ours are counted")

    async def update(self, db: Session) -> None:
        if self.ids:
            row = await db[Parcel].get(self.dice.choice(self.ids))
            self.check(
                row, await db[Parcel].update(row, count=self.dice.randrange(100), fee=usd(self.dice.randrange(9)))
            )

    async def stale(self, db: Session) -> None:
        if self.ids:
            row = await db[Parcel].get(self.dice.choice(self.ids))
            await db[Parcel].update(row, seen_at=datetime.now(UTC))
            await db[Parcel].update(row, count=-1)

    async def wrong_step(self, db: Session) -> None:
        if self.ids:
            row = await db[Parcel].get(self.dice.choice(self.ids))
            await db[Parcel].update(row, stage=Stage.GONE)

    async def update_where(self, db: Session) -> None:
        await db[Parcel].update_where(Parcel.count == self.dice.randrange(100), due_on=datetime.now(UTC).date())

    async def upsert(self, db: Session) -> None:
        self.check(await db[Holder].upsert(holder("home", name=self.mark), on=Holder.code))

    async def purge(self, db: Session) -> None:
        if len(self.ids) > 100:
            await db[Parcel].purge(self.ids.pop(self.dice.randrange(len(self.ids))), reason="thinning out")

    async def fetch(self, db: Session) -> None:
        table = Parcel.table
        rows = await db.fetch(select(table.c.tenant_id, func.count().label("n")).group_by(table.c.tenant_id), into=dict)
        if any(row["tenant_id"] != self.tenant.id for row in rows):
            raise Leak("a statement of the application's own saw another tenant")

    async def claim(self, db: Session) -> None:
        await db[Errand].add(Errand(what=f"{self.mark} errand"))
        async for item in db[Errand].claim(limit=2):
            self.check(item.value)
            async with item:
                pass

    async def quota(self, db: Session) -> None:
        await db.consume("applications")

    async def transaction(self, db: Session) -> None:
        async with db.transaction(self.dice.choice([None, "repeatable read"])):
            for _ in range(self.dice.randrange(1, 4)):
                await self.dice.choice(SIMPLE)(self, db)

    async def rolled_back(self, db: Session) -> None:
        kept = list(self.ids)
        try:
            async with db.transaction():
                await self.add(db)
                await self.update(db)
                raise Boom
        except Boom:
            self.ids = kept
        await self.find(db)

    async def savepoints(self, db: Session) -> None:
        async with db.transaction():
            kept = list(self.ids)
            try:
                async with db.transaction():
                    await self.add(db)
                    if self.dice.random() < 0.5:
                        raise Boom
                    await self.add(db)
            except (Boom, Duplicate):
                self.ids = kept
            await self.get(db)
            await self.find(db)

    async def swallowed(self, db: Session) -> None:
        """An error caught inside the block it broke: the savepoint cannot be released, the outer one can go on."""
        async with db.transaction():
            with suppress(Conflict):
                async with db.transaction():
                    with suppress(InvalidTransition):
                        await self.wrong_step(db)
            await self.find(db)

    async def locked(self, db: Session) -> None:
        if self.ids:
            # Chosen before anything is awaited: another worker's rollback may empty the list meanwhile.
            chosen = self.dice.choice(self.ids)
            async with db.transaction():
                self.check(await db[Parcel].lock(chosen))
                await self.update(db)


Operation = Callable[[Side, Session], Awaitable[None]]
SIMPLE: list[Operation] = [Side.add, Side.get, Side.find, Side.update, Side.count, Side.stale, Side.fetch]
EVERY: list[Operation] = [
    *SIMPLE,
    *SIMPLE,
    Side.add_many,
    Side.page,
    Side.wrong_step,
    Side.update_where,
    Side.upsert,
    Side.purge,
    Side.claim,
    Side.quota,
    Side.transaction,
    Side.transaction,
    Side.rolled_back,
    Side.savepoints,
    Side.swallowed,
    Side.locked,
]


async def worker(sides: list[Side], dice: random.Random, budget: list[int], seen: Counter[str]) -> None:
    while budget[0] > 0:
        budget[0] -= 1
        side, operation, luck = dice.choice(sides), dice.choice(EVERY), dice.random()
        try:
            async with side.session() as db:
                if luck < 0.06:
                    task = asyncio.create_task(operation(side, db))
                    await asyncio.sleep(dice.choice([0, 0, dice.random() * 0.004]))
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    if not task.cancelled() and isinstance(task.exception(), Leak):
                        raise task.exception()  # type: ignore[misc]
                    seen["cancelled"] += 1
                    # The same session goes on after it.
                    await side.find(db)
                elif luck < 0.10:
                    async with asyncio.timeout(dice.random() * 0.004):
                        await operation(side, db)
                else:
                    await operation(side, db)
                    seen["done"] += 1
        except TimeoutError:
            seen["timed out"] += 1
        except EXPECTED as problem:
            seen[type(problem).__name__] += 1


@pytest.mark.parametrize("checked_by", ["the pool", "every statement"])
async def test_t02_one_connection_two_tenants_and_everything_going_wrong(ground: Ground, checked_by: str) -> None:
    """Every returned row is the caller's; at every checkout the server holds what the link's tag says."""
    seed = random.SystemRandom().randrange(2**32)
    dice, seen = random.Random(seed), Counter[str]()
    async with ground.opened(verify=checked_by == "the pool", pool_max=1) as tally:
        if checked_by == "every statement":
            watch(tally)
        sides = [Side(tally, tenant, dice) for tenant in await ground.tenants(2)]
        for side in sides:
            async with side.session() as db:
                side.home = await db[Holder].add(holder("home", name=side.mark))
        budget = [OPERATIONS // 2]
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(WORKERS):
                    workers.create_task(worker(sides, dice, budget, seen))
        except* (Leak, TallystickError) as problems:
            raise AssertionError(f"seed {seed}: {problems.exceptions!r}") from problems
        stats = tally.store.pool.stats()
        assert stats.open <= 1
        assert stats.waiting == 0
    assert seen["cancelled"] > 20, seen
    assert seen["Duplicate"] > 20, seen
    assert seen["StaleVersion"] > 20, seen
    await nothing_strayed(ground, sides)


async def nothing_strayed(ground: Ground, sides: list[Side]) -> None:
    """What lies in the tables afterwards, seen past every policy."""
    async with ground.connected("superuser") as connection:
        for side in sides:
            rows = await connection.fetch(
                "SELECT label, remark, created_by, updated_by FROM tally.parcel WHERE tenant_id = $1", side.tenant.id
            )
            assert len(rows) > 50
            for row in rows:
                assert row["label"].startswith(side.mark)
                assert row["remark"] == side.mark
                assert {row["created_by"], row["updated_by"]} == {f"worker of {side.mark}"}
