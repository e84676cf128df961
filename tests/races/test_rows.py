"""Sixteen callers change the same rows at once: versions, unique rules, counters, locks."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from tests.entities import Door, Gate, Member, Owner, Shelf, Sink, Visit

from tallystick import (
    Conflict,
    Duplicate,
    NotFound,
    Serialization,
    StaleVersion,
    TallystickError,
    User,
    Wallet,
    secret,
    usd,
)
from tallystick.codec import codec_of
from tallystick.entity import spec_of
from tallystick.session import Session
from tallystick.testing import Make, Race

N = 16


async def test_of_many_updates_of_one_version_one_wins(race: Race, db: Session):
    sink = await db[Sink].add(Sink(number=0))
    result = await race(N, lambda s, i: s[Sink].update(sink, number=i + 1))
    assert result.winners == 1
    assert result.kinds == {StaleVersion}
    assert await db[Sink].get(sink.id) == result.results[0]
    assert result.results[0].version == 2


async def test_of_many_adds_of_one_unique_value_one_wins(race: Race, db: Session):
    for adding in (
        lambda s: s[Shelf].add(Shelf(name="one")),
        lambda s: s.users.add(User(email="ada@example.org")),
        lambda s: s[Member].add(Member(number=secret("12-34"), name="A")),
    ):
        result = await race(N, adding)
        assert result.winners == 1
        assert result.kinds == {Duplicate}
    assert await db[Shelf].count() == await db.users.count() == await db[Member].count() == 1


async def test_of_many_batches_that_overlap_one_wins_whole(race: Race, db: Session):
    result = await race(N, lambda s, i: s[Shelf].add_many([Shelf(name=f"{n}", stock=i) for n in range(50)]))
    assert result.winners == 1
    # Batches in one order cannot lock each other out for good; in another they could, and would be told.
    assert result.kinds <= {Duplicate, Serialization}
    stored = await db[Shelf].find()
    assert len(stored) == 50
    assert len({s.stock for s in stored}) == 1


async def test_upserts_of_one_value_are_one_row(race: Race, db: Session):
    result = await race(N, lambda s, i: s[Shelf].upsert(Shelf(name="one", stock=i), on=Shelf.name))
    assert result.winners == N
    assert len({s.id for s in result.results}) == 1
    assert sorted(s.version for s in result.results) == list(range(1, N + 1))
    (stored,) = await db[Shelf].find()
    assert stored == max(result.results, key=lambda s: s.version)


async def test_upserts_of_sealed_values_are_one_readable_row(race: Race, db: Session):
    result = await race(
        N, lambda s, i: s[Member].upsert(Member(number=secret("12-34"), name=f"racer {i}", points=i), on=Member.number)
    )
    assert result.winners == N
    assert len({m.id for m in result.results}) == 1
    (stored,) = await db[Member].find()
    assert stored.name == f"racer {stored.points}"
    assert await db[Member].reveal(stored.id, Member.number, reason="a test") == "12-34"


async def test_an_upsert_that_meets_its_row_by_the_id_alone_goes_on(
    race: Race, db: Session, monkeypatch: pytest.MonkeyPatch
):
    """The rule's index may show no version of a row that others replace; the row's id is then taken, by that row."""
    assert race is not None
    there = await db[Member].upsert(Member(number=secret("12-34"), name="first"), on=Member.number)
    unit, missed = type(db.unit), list[UUID]()
    upsert, at = unit.upsert, codec_of(spec_of(Member)).insert_columns.index("id")

    async def missing(self: Any, codec: Any, rule: Any, params: list[Any]) -> Any:
        if params[at] == there.id and not missed:
            missed.append(there.id)
            raise Duplicate("Member with this id exists already.", entity="Member", rule="pk_kit_member")
        return await upsert(self, codec, rule, params)

    monkeypatch.setattr(unit, "upsert", missing)
    again = await db[Member].upsert(Member(number=secret("12-34"), name="second"), on=Member.number)
    assert (again.id, again.name, again.version) == (there.id, "second", 2)
    missed.clear()
    with pytest.raises(Serialization):
        async with db.transaction():
            await db[Member].upsert(Member(number=secret("12-34"), name="third"), on=Member.number)
    # An id that another row has is as taken as ever.
    with pytest.raises(Duplicate) as caught:
        await db[Member].upsert(Member(id=there.id, number=secret("56-78"), name="fourth"), on=Member.number)
    assert caught.value.rule == "pk_kit_member"
    assert [(m.name, m.version) for m in await db[Member].find()] == [("second", 2)]


async def test_upserts_and_purges_leave_one_row_or_none(race: Race, db: Session):
    async def churn(s: Session, i: int) -> None:
        for _ in range(5):
            shelf = await s[Shelf].upsert(Shelf(name="one", stock=i), on=Shelf.name)
            if i % 2:
                await s[Shelf].purge_where(Shelf.id == shelf.id, reason="a test")

    result = await race(N, churn)
    assert result.errors == []
    assert await db[Shelf].count() <= 1


async def test_of_many_archived_twins_one_is_restored(race: Race, db: Session):
    shelved = []
    for _ in range(N):
        shelved.append(await db[Shelf].archive(await db[Shelf].add(Shelf(name="twin"))))
    result = await race(N, lambda s, i: s[Shelf].restore(shelved[i]))
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    assert await db[Shelf].count() == 1


async def test_a_user_has_one_primary_wallet(race: Race, db: Session, make: Make):
    user = await make(User)
    wallets = await make.many(Wallet, N, user=user)
    result = await race(N, lambda s, i: s[Wallet].update(wallets[i], is_primary=True))
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    assert await db.wallets.count(Wallet.is_primary == True) == 1  # noqa: E712


async def test_a_purge_and_a_reference_to_it_do_not_both_win(race: Race, db: Session, make: Make):
    for _ in range(3):
        user = await make(User)

        async def either(s: Session, i: int, user: User = user) -> str:
            if i % 2:
                await s.users.purge(user.id, reason="a test")
                return "purged"
            await s[Visit].add(Visit(borrower=user.ref, national_id=secret(str(i)), fee=usd(i)))
            return "visited"

        result = await race(8, either)
        assert set(result.results) in ({"purged"}, {"visited"})
        assert len(result.errors) + result.winners == 8
        assert (await db.users.get_or_none(user.id) is None) == ("purged" in result.results)
        await db[Visit].purge_where(Visit.borrower == user.ref, reason="a test")


async def test_a_step_of_a_state_machine_is_taken_once(race: Race, db: Session):
    gate = await db[Gate].add(Gate(name="g"))
    states = [Door.OPEN, Door.LOCKED]
    result = await race(N, lambda s, i: s[Gate].update(gate, state=states[i % 2]))
    assert result.winners == 1
    assert result.kinds == {StaleVersion}
    bulk = await db[Gate].add(Gate(name="h"))

    async def step(s: Session, i: int) -> int:
        return await s[Gate].update_where(Gate.id == bulk.id, Gate.state == Door.SHUT, state=states[i % 2])

    result = await race(N, step)
    assert result.errors == []
    assert sorted(result.results) == [0] * (N - 1) + [1]
    assert (await db[Gate].get(bulk.id)).version == 2


async def test_a_counter_under_a_lock_loses_nothing(race: Race, db: Session):
    counter = await db[Sink].add(Sink(number=0))

    async def increment(s: Session) -> None:
        async with s.transaction():
            held = await s[Sink].lock(counter.id)
            await asyncio.sleep(0)
            await s[Sink].update(held, number=held.number + 1)

    assert (await race(N, increment)).errors == []
    assert (await db[Sink].get(counter.id)).number == N


async def test_a_counter_replayed_by_atomic_loses_nothing(race: Race, db: Session):
    for isolation in ("serializable", "repeatable read"):
        counter = await db[Sink].add(Sink(number=0))

        async def increment(s: Session, id=counter.id) -> None:
            seen = await s[Sink].get(id)
            await s[Sink].update(seen, number=seen.number + 1)

        result = await race(N, lambda s, i=isolation, f=increment: s.atomic(f, attempts=60, isolation=i))
        assert result.errors == []
        assert (await db[Sink].get(counter.id)).number == N


async def test_a_counter_without_either_tells_every_loser(race: Race, db: Session):
    counter = await db[Sink].add(Sink(number=0))

    async def increment(s: Session) -> None:
        seen = await s[Sink].get(counter.id)
        await asyncio.sleep(0)
        await s[Sink].update(seen, number=seen.number + 1)

    result = await race(N, increment)
    assert result.kinds <= {StaleVersion}
    assert (await db[Sink].get(counter.id)).number == result.winners


async def test_an_invariant_over_two_rows_holds_when_serializable(race: Race, db: Session):
    """Everybody may leave as long as one stays: write skew, which only serializable transactions refuse."""
    sinks = await db[Sink].add_many([Sink(label="on call", flag=True) for _ in range(N)])

    async def leave(s: Session, i: int) -> bool:
        async def fn(inner: Session) -> bool:
            if await inner[Sink].count(Sink.label == "on call", Sink.flag == True) < 2:  # noqa: E712
                return False
            await inner[Sink].update(await inner[Sink].get(sinks[i].id), flag=False)
            return True

        return await s.atomic(fn, attempts=60, isolation="serializable")

    result = await race(N, leave)
    assert result.errors == []
    assert sum(result.results) == N - 1
    assert await db[Sink].count(Sink.flag == True) == 1  # noqa: E712


async def _move(s: Session, giver: Sink, taker: Sink, first: Sink, second: Sink) -> None:
    held = {sink.id: await s[Sink].lock(sink.id) for sink in (first, second)}
    await s[Sink].update(held[giver.id], number=held[giver.id].number - 1)
    await s[Sink].update(held[taker.id], number=held[taker.id].number + 1)


async def test_locks_in_one_order_never_deadlock(race: Race, db: Session):
    a, b = await db[Sink].add_many([Sink(number=100), Sink(number=100)])

    async def transfer(s: Session, i: int) -> None:
        giver, taker = (a, b) if i % 2 else (b, a)
        async with s.transaction():
            await _move(s, giver, taker, *sorted((a, b), key=lambda sink: sink.id))

    assert (await race(N, transfer)).errors == []
    assert [s.number for s in await db[Sink].find(order=Sink.id)] == [100, 100]


async def test_locks_in_any_order_deadlock_are_told_and_replayed(race: Race, db: Session):
    a, b = await db[Sink].add_many([Sink(number=100), Sink(number=100)])

    async def transfer(s: Session, i: int) -> None:
        giver, taker = (a, b) if i % 2 else (b, a)

        async def fn(inner: Session) -> None:
            await inner[Sink].lock(giver.id)
            await asyncio.sleep(0.02)
            await _move(inner, giver, taker, giver, taker)

        await s.atomic(fn, attempts=20)

    assert (await race(2, transfer)).errors == []
    assert sum([s.number for s in await db[Sink].find()]) == 200


async def test_impatient_locks_are_told_at_once(race: Race, db: Session):
    sink = await db[Sink].add(Sink(number=0))
    told: list[int] = []
    all_told = asyncio.Event()

    async def grab_or_go(s: Session, i: int) -> None:
        try:
            async with s.transaction():
                await s[Sink].lock(sink.id, wait=False) if i % 2 else await s[Sink].lock(sink.id, skip=True)
                # Held until everybody else was told, however late they come.
                await all_told.wait()
        except TallystickError:
            told.append(i)
            if len(told) == N - 1:
                all_told.set()
            raise

    result = await race(N, grab_or_go)
    assert result.winners == 1
    assert result.kinds == {Conflict, NotFound}


async def test_references_are_loaded_while_rows_come_and_go(race: Race, db: Session):
    owners = await db[Owner].add_many([Owner(name=str(n)) for n in range(4)])

    async def work(s: Session, i: int) -> None:
        for _ in range(5):
            await s[Sink].add(Sink(owner=owners[i % 4].ref, number=i))
            for sink in await s[Sink].find(load=[Sink.owner]):
                assert sink.owner is not None
                assert sink.owner.value.name == str(sink.number % 4)

    assert (await race(8, work)).errors == []
    assert await db[Sink].count() == 40
