"""Transactions: all or nothing, savepoints, isolation, replay; locks, leases and quotas beside them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tallystick.errors import (
    Conflict,
    Duplicate,
    Invalid,
    LeaseLost,
    NotFound,
    QuotaExceeded,
    Serialization,
    StaleVersion,
    TallystickError,
    Unsupported,
)
from tallystick.ids import uuid7
from tallystick.testing.conformance.base import Base
from tallystick.testing.conformance.capabilities import PROBES, Capability, needs
from tallystick.testing.conformance.entities import Job, Owner, Shelf, Sink

if TYPE_CHECKING:
    from tallystick.session import Session


class Transactions(Base):
    """``transaction``, ``atomic``, ``lock``, ``claim`` and ``consume``."""

    @pytest.mark.parametrize("capability", list(Capability))
    async def test_what_is_declared_is_so(self, db: Session, capability: Capability) -> None:
        """A capability works, or is declared unsupported and raises ``Unsupported``, and nothing in between."""
        if capability in self.unsupported:
            before = await db[Sink].count()
            with pytest.raises(Unsupported):
                await PROBES[capability](db)
            assert await db[Sink].count() == before
        else:
            await PROBES[capability](db)

    @needs(Capability.TRANSACTIONS)
    async def test_a_transaction_is_seen_when_it_commits(self, db: Session, again: Session) -> None:
        """Its own session sees its writes at once, others when it is over."""
        async with db.transaction():
            added = await db[Sink].add(Sink(number=1))
            changed = await db[Sink].update(added, number=2)
            await db[Sink].add_many([Sink(number=3), Sink(number=4)])
            assert await db[Sink].count() == 3
            assert await again[Sink].count() == 0
        assert await again[Sink].get(added.id) == changed
        assert await again[Sink].count() == 3

    @needs(Capability.TRANSACTIONS)
    async def test_a_transaction_that_raises_leaves_nothing(self, db: Session) -> None:
        """Whatever leaves the block, an exit or a cancellation too."""
        for problem in (ZeroDivisionError, KeyboardInterrupt, asyncio.CancelledError):
            with pytest.raises(problem):
                async with db.transaction():
                    await db[Sink].add(Sink())
                    await db[Sink].add_many([Sink() for _ in range(50)])
                    raise problem
        with pytest.raises(Duplicate):
            async with db.transaction():
                added = await db[Sink].add(Sink())
                await db[Sink].add(Sink(id=added.id))
        assert await db[Sink].count() == 0

    @needs(Capability.TRANSACTIONS)
    async def test_a_failed_transaction_does_not_pass_for_a_good_one(self, db: Session) -> None:
        """An error that was swallowed inside is told at the end."""
        added = await db[Sink].add(Sink())
        with pytest.raises(Conflict):
            async with db.transaction():
                await db[Sink].add(Sink(number=5))
                with pytest.raises(Duplicate):
                    await db[Sink].add(Sink(id=added.id))
        assert await db[Sink].count() == 1

    @needs(Capability.SAVEPOINTS)
    async def test_savepoints(self, db: Session) -> None:
        """An inner block is undone alone; an outer one with all that is in it."""
        async with db.transaction():
            kept = await db[Sink].add(Sink(number=1))
            with pytest.raises(Duplicate):
                async with db.transaction():
                    await db[Sink].add(Sink(number=2))
                    await db[Sink].add(Sink(id=kept.id))
            async with db.transaction():
                await db[Sink].add(Sink(number=3))
                with pytest.raises(ZeroDivisionError):
                    async with db.transaction():
                        await db[Sink].add(Sink(number=4))
                        raise ZeroDivisionError
                await db[Sink].add(Sink(number=5))
        assert sorted([s.number for s in await db[Sink].find()]) == [1, 3, 5]
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                async with db.transaction():
                    await db[Sink].add(Sink(number=6))
                raise ZeroDivisionError
        assert await db[Sink].count() == 3
        assert db.unit.depth == 0

    @needs(Capability.SAVEPOINTS, Capability.ISOLATION)
    async def test_a_savepoint_has_no_isolation_of_its_own(self, db: Session) -> None:
        """Only the outermost block chooses."""
        with pytest.raises(Invalid):
            async with db.transaction(), db.transaction("serializable"):
                pass
        assert db.unit.depth == 0

    @needs(Capability.ISOLATION)
    async def test_repeatable_read_sees_one_moment(self, db: Session, again: Session) -> None:
        """What others commit meanwhile is not seen, and writing over it is refused."""
        first = await db[Sink].add(Sink(number=1))
        with pytest.raises(Serialization):
            async with db.transaction("repeatable read"):
                assert await db[Sink].count() == 1
                await again[Sink].add(Sink())
                await again[Sink].update(first, number=2)
                assert await db[Sink].count() == 1
                assert (await db[Sink].get(first.id)).number == 1
                await db[Sink].update(first, number=3)
        assert (await db[Sink].get(first.id)).number == 2
        async with db.transaction("read committed"):
            assert await db[Sink].count() == 2
            await again[Sink].add(Sink())
            assert await db[Sink].count() == 3
        with pytest.raises(Invalid):
            async with db.transaction("wishful"):  # type: ignore[arg-type]
                pass

    @needs(Capability.ISOLATION)
    async def test_serializable_refuses_write_skew(self, db: Session, again: Session) -> None:
        """Two that each read what the other writes do not both commit."""
        await db[Sink].add_many([Sink(number=1), Sink(number=2)])
        with pytest.raises(Serialization):
            async with db.transaction("serializable"), again.transaction("serializable"):
                if await db[Sink].count(Sink.flag == False) == 2:  # noqa: E712
                    await db[Sink].update(await db[Sink].one(Sink.number == 1), flag=True)
                if await again[Sink].count(Sink.flag == False) == 2:  # noqa: E712
                    await again[Sink].update(await again[Sink].one(Sink.number == 2), flag=True)
        assert await db[Sink].count(Sink.flag == False) == 1  # noqa: E712

    @needs(Capability.READ_ONLY)
    async def test_read_only(self, db: Session) -> None:
        """Reading works, writing is refused, and afterwards writing works."""
        kept = await db[Sink].add(Sink())
        async with db.transaction(read_only=True):
            assert await db[Sink].find() == [kept]
        with pytest.raises(Unsupported):
            async with db.transaction(read_only=True):
                await db[Sink].add(Sink())
        with pytest.raises(Unsupported):
            async with db.transaction(read_only=True):
                await db[Sink].update(kept, number=2)
        assert (await db[Sink].update(kept, number=2)).version == 2

    @needs(Capability.TRANSACTIONS, Capability.ISOLATION)
    async def test_atomic_replays_what_lost_a_race(self, db: Session, again: Session) -> None:
        """The function runs again from the beginning, and what its first run wrote is not there."""
        counter = await db[Sink].add(Sink(number=0))
        runs = 0

        async def increment(inner: Session) -> int:
            nonlocal runs
            runs += 1
            seen = await inner[Sink].get(counter.id)
            await inner[Sink].add(Sink(label="one a run"))
            if runs == 1:
                await again[Sink].update(await again[Sink].get(counter.id), number=10)
            return (await inner[Sink].update(seen, number=seen.number + 1)).number

        assert await db.atomic(increment, isolation="repeatable read") == 11
        assert runs == 2
        assert await db[Sink].count(Sink.label == "one a run") == 1

    @needs(Capability.TRANSACTIONS)
    async def test_atomic_gives_up_and_passes_errors_on(self, db: Session) -> None:
        """After its attempts it raises what it met last; other errors leave at once."""
        runs = 0

        async def always(inner: Session) -> None:
            nonlocal runs
            runs += 1
            await inner[Sink].add(Sink())
            raise Serialization("made up")

        with pytest.raises(Serialization):
            await db.atomic(always, attempts=3)
        assert runs == 3

        async def stale(inner: Session) -> None:
            nonlocal runs
            runs += 1
            raise StaleVersion("made up")

        with pytest.raises(StaleVersion):
            await db.atomic(stale)
        assert runs == 4
        assert await db[Sink].count() == 0

    @needs(Capability.LOCK)
    async def test_lock(self, db: Session, again: Session) -> None:
        """A locked row waits, is refused or is passed over, as asked; it is free when the transaction ends."""
        sink = await db[Sink].add(Sink())
        with pytest.raises(Invalid):
            await db[Sink].lock(sink.id)
        async with db.transaction():
            assert await db[Sink].lock(sink.id) == sink
            with pytest.raises(Conflict):
                async with again.transaction():
                    await again[Sink].lock(sink.id, wait=False)
            with pytest.raises(NotFound):
                async with again.transaction():
                    await again[Sink].lock(sink.id, skip=True)
            with pytest.raises(NotFound):
                await db[Sink].lock(uuid7())
            waiting = asyncio.create_task(_bump(again, sink))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await db[Sink].update(sink, number=5)
        assert (await waiting).number == 6

    @needs(Capability.CLAIM)
    async def test_claims(self, db: Session, again: Session) -> None:
        """Oldest first, nobody gets what another holds, done is done, and an error gives back."""
        jobs = await db[Job].add_many([Job(name=f"job {n}") for n in range(6)])
        mine = [c async for c in db[Job].claim(limit=2)]
        theirs = [c async for c in again[Job].claim(limit=10)]
        assert [c.value.id for c in mine] == [j.id for j in jobs[:2]]
        assert [c.value.id for c in theirs] == [j.id for j in jobs[2:]]
        assert {c.attempt for c in [*mine, *theirs]} == {1}
        assert [c async for c in db[Job].claim()] == []
        async with mine[0]:
            pass
        with pytest.raises(ZeroDivisionError):
            async with mine[1]:
                raise ZeroDivisionError
        for claimed in theirs[:2]:
            await claimed.done()
        await theirs[2].release()
        retried = [c async for c in db[Job].claim()]
        assert {c.value.id for c in retried} == {jobs[1].id, jobs[4].id}
        assert {c.attempt for c in retried} == {2}
        with pytest.raises(LeaseLost):
            await theirs[0].done()
        with pytest.raises(LeaseLost):
            await theirs[2].done()
        await theirs[2].release()
        with pytest.raises(Unsupported):
            _ = [c async for c in db[Sink].claim()]

    @needs(Capability.CLAIM)
    async def test_a_lease_runs_out(self, db: Session, again: Session) -> None:
        """The item is claimed again, and the first worker is told when it comes back."""
        await db[Job].add(Job(name="slow"))
        (slow,) = [c async for c in db[Job].claim(lease=timedelta(milliseconds=40))]
        await asyncio.sleep(0.08)
        (quick,) = [c async for c in again[Job].claim(lease=timedelta(minutes=1))]
        assert (quick.value.id, quick.attempt) == (slow.value.id, 2)
        with pytest.raises(LeaseLost):
            await slow.done()
        await slow.release()
        await quick.done()
        assert [c async for c in db[Job].claim()] == []
        for wrong in (timedelta(0), timedelta(days=8), 5):
            with pytest.raises(Invalid):
                _ = [c async for c in db[Job].claim(lease=wrong)]  # type: ignore[arg-type]

    @needs(Capability.QUOTAS)
    async def test_quotas(self, store_app: Any, db: Session, other: Session) -> None:
        """Counted to the limit and not beyond, for each tenant alone, and undone with the transaction."""
        await store_app.tenants.update(db, max_users=3)
        assert [await db.consume("users"), await db.consume("users", 2)] == [1, 3]
        with pytest.raises(QuotaExceeded) as caught:
            await db.consume("users")
        assert (caught.value.metric, caught.value.limit) == ("users", 3)
        assert await other.consume("users") == 1
        with pytest.raises(ZeroDivisionError):
            async with other.transaction():
                await other.consume("users", 5)
                raise ZeroDivisionError
        assert await other.consume("users") == 2
        for wrong in (0, -1, 1.5, True):
            with pytest.raises(Invalid):
                await db.consume("users", wrong)  # type: ignore[arg-type]
        with pytest.raises(Invalid):
            await db.consume("wishes")

    async def test_a_closed_session_says_so(self, store_app: Any, tenant: str) -> None:
        """Nothing works on a session that has ended."""
        async with store_app.session(tenant, actor="brief") as db:
            owners = db[Owner]
        with pytest.raises(TallystickError):
            await owners.count()

    @needs(Capability.UNIQUE)
    async def test_cancelled_in_the_middle(self, db: Session, again: Session) -> None:
        """A cancelled write is whole or absent, and the session goes on."""
        for delay in (0, 0.001, 0.004, 0.01):
            task = asyncio.create_task(db[Shelf].add_many([Shelf(name=f"{delay} {n}") for n in range(2_000)]))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await again[Shelf].count() % 2_000 == 0
        assert (await db[Shelf].add(Shelf(name="after"))).version == 1


async def _bump(db: Session, sink: Sink) -> Sink:
    async with db.transaction():
        held = await db[Sink].lock(sink.id)
        return await db[Sink].update(held, number=held.number + 1)
