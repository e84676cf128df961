"""Sessions and inputs: delivered once, found, claimed, marked, counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.reputation.support import DAY, done

from tallystick import (
    BehaviorInput,
    BehaviorSession,
    Conflict,
    Denied,
    Duplicate,
    InputSource,
    InputType,
    Invalid,
    InvalidTransition,
    LeaseLost,
    NotFound,
    SessionStatus,
    SessionType,
    UnknownReference,
    missing,
    present,
    uuid7,
)
from tallystick.session import Session
from tallystick.testing import Make


async def test_an_input_that_is_delivered_again_is_no_second_one(db: Session, make: Make):
    ada, bob = await make.user(), await make.user()
    first = await db.inputs.receive(done(ada))
    again = await db.inputs.receive(done(ada))
    assert again == first
    assert first.payload_hash is not None
    assert len(first.payload_hash) == 32
    await db.inputs.receive(done(bob))
    for other in ({"payload": {"value": 1}}, {"type": InputType.SURVEY}, {"occurred_at": DAY + timedelta(hours=5)}):
        with pytest.raises(Conflict) as refused:
            await db.inputs.receive(done(ada, **other))
        assert type(refused.value) is Conflict
    with pytest.raises(Duplicate):
        await db.inputs.add(done(ada))
    assert await db.inputs.count() == 2


async def test_inputs_are_found_filtered_and_paged(db: Session, make: Make):
    ada, bob = await make.user(), await make.user()
    visit = await db.behavior.add(BehaviorSession(user=ada.ref, type=SessionType.WEB, started_at=DAY))
    for number in range(12):
        extra: dict[str, Any] = {"session": visit.ref} if number in (1, 2) else {"client_session": f"s{number % 2}"}
        await db.inputs.receive(done(ada if number % 4 else bob, number, **extra))
    assert len(await db.inputs.of_user(ada)) == 9
    assert [i.external_id for i in await db.inputs.of_session(visit.id)] == ["event-1", "event-2"]
    assert len(await db.inputs.of_session("s1")) == 5
    assert len(await db.inputs.unprocessed()) == 12
    assert await db.inputs.mark_processed(await db.inputs.of_session(visit.id)) == 2
    assert [i.external_id for i in await db.inputs.unprocessed(limit=2)] == ["event-0", "event-3"]
    assert await db.inputs.count(present(BehaviorInput.processed_at)) == 2

    where = BehaviorInput.Filter.parse(
        {
            "user": str(ada.id),
            "type_in": "transaction,defi",
            "source": "api",
            "occurred_at_from": DAY.isoformat(),
            "occurred_at_to": (DAY + timedelta(hours=9)).isoformat(),
            "processed_at_missing": "true",
        }
    )
    page = await db.inputs.page(where, order=BehaviorInput.occurred_at, limit=2, count=True)
    assert [i.external_id for i in page.items] == ["event-3", "event-7"]
    assert page.total == 3
    assert page.has_next


async def test_what_is_processed_stays_processed(db: Session, make: Make):
    ada = await make.user()
    one, two = [await db.inputs.receive(done(ada, n)) for n in range(2)]
    async for item in db.inputs.claim(limit=1):
        assert item.value.id == one.id
        async with item:
            pass
    assert (await db.inputs.get(one.id)).processed_at is not None
    assert (await db.inputs.get(two.id)).processed_at is None
    with pytest.raises(Conflict):
        await db.inputs.mark_processed([two, one])
    assert (await db.inputs.get(two.id)).processed_at is None
    with pytest.raises(Conflict):
        await db.inputs.mark_processed([uuid7()])
    assert [i.value.id async for i in db.inputs.claim(limit=9)] == [two.id]
    with pytest.raises(Conflict):
        await db.inputs.mark_processed([two])
    assert await db.inputs.mark_processed([]) == 0
    for raw in ("done_at = NULL", "done_at = now() + interval '1 day'"):
        with pytest.raises(Denied):
            async with db.transaction():
                await db.unit.call(
                    f"UPDATE tally.behavior_input SET {raw} WHERE tenant_id = $1 AND id = $2", (db.tenant_id, one.id)
                )
    with pytest.raises(Denied):
        async with db.transaction():
            await db.unit.call(
                "UPDATE tally.behavior_input SET processed_at = now() WHERE tenant_id = $1", (db.tenant_id,)
            )


async def test_many_claimed_inputs_are_finished_in_one_statement(db: Session, make: Make):
    ada = await make.user()
    for number in range(6):
        await db.inputs.receive(done(ada, number))
    claimed = [c async for c in db.inputs.claim(limit=4)]
    await claimed[3].release()
    with pytest.raises(LeaseLost):
        await db.inputs.finish(claimed)
    assert len(await db.inputs.unprocessed()) == 6
    assert await db.inputs.finish(claimed[:3]) == 3
    with pytest.raises(LeaseLost):
        await db.inputs.finish(claimed[:1])
    assert [i.external_id for i in await db.inputs.unprocessed()] == ["event-3", "event-4", "event-5"]
    assert await db.inputs.finish([]) == 0
    for wrong in ([1], [done(ada)]):
        with pytest.raises(Invalid):
            await db.inputs.finish(wrong)  # type: ignore[arg-type]


async def test_analytics_add_up(db: Session, make: Make):
    ada, bob = await make.user(), await make.user()
    visit = await db.behavior.add(BehaviorSession(user=ada.ref, type=SessionType.MOBILE, started_at=DAY))
    for number in range(20):
        await db.inputs.receive(
            done(ada if number % 5 else bob, number, session=visit.ref if number % 5 == 1 else None)
        )
    await db.inputs.mark_processed((await db.inputs.unprocessed())[:7])
    everything = await db.inputs.analytics()
    assert (everything.total, everything.processed, everything.unprocessed, everything.sessions) == (20, 7, 13, 1)
    assert sum(everything.by_type.values()) == sum(everything.by_source.values()) == 20
    assert (everything.first_at, everything.last_at) == (DAY, DAY + timedelta(hours=19))
    some = await db.inputs.analytics(user=bob, start=DAY + timedelta(hours=5), end=DAY + timedelta(hours=15))
    assert (some.total, some.sessions, some.first_at) == (2, 0, DAY + timedelta(hours=5))
    assert some.by_source == {InputSource.BLOCKCHAIN: 1, InputSource.API: 1}
    none = await db.inputs.analytics(user=uuid7())
    assert (none.total, none.by_type, none.first_at) == (0, {}, None)


async def test_inputs_are_claimed_in_the_order_in_which_they_happened(db: Session, make: Make):
    ada = await make.user()
    for number in (5, 2, 7, 0, 3, 6, 1, 4):
        await db.inputs.receive(done(ada, number))
    for expected in (range(3), range(3, 8)):
        claimed = [c async for c in db.inputs.claim(limit=len(expected))]
        assert [c.value.external_id for c in claimed] == [f"event-{n}" for n in expected]


async def test_an_input_is_in_a_session_of_its_user(db: Session, make: Make):
    ada, bob = await make.user(), await make.user()
    visit = await db.behavior.add(BehaviorSession(user=ada.ref, type=SessionType.WEB, started_at=DAY))
    with pytest.raises(UnknownReference):
        await db.inputs.receive(done(bob, session=visit.ref))
    assert (await db.inputs.receive(done(ada, session=visit.ref))).session == visit.ref
    assert await db.inputs.count() == 1


async def test_a_session_ends_once(db: Session, make: Make):
    ada = await make.user()
    token = bytes(range(32))
    visit = await db.behavior.add(
        BehaviorSession(user=ada.ref, type=SessionType.WALLET, started_at=DAY, token_hash=token)
    )
    with pytest.raises(Duplicate):
        await db.behavior.add(BehaviorSession(user=ada.ref, type=SessionType.WEB, started_at=DAY, token_hash=token))
    with pytest.raises(InvalidTransition):
        await db.behavior.update(visit, status=SessionStatus.SCORED, ended_at=DAY)
    closed = await db.behavior.end(visit.id)
    assert closed.status is SessionStatus.CLOSED
    assert closed.ended_at is not None
    for status in (SessionStatus.EXPIRED, SessionStatus.CLOSED):
        with pytest.raises(Conflict):
            await db.behavior.end(visit.id, status)
    scored = await db.behavior.update(closed, status=SessionStatus.PROCESSING)
    scored = await db.behavior.update(scored, status=SessionStatus.SCORED)
    with pytest.raises(InvalidTransition):
        await db.behavior.update(scored, status=SessionStatus.OPEN, ended_at=None)
    with pytest.raises(NotFound):
        await db.behavior.end(uuid7())


async def test_bad_inputs_are_refused_and_nothing_is_written(db: Session, make: Make):
    ada = await make.user()
    naive: Any = datetime(2026, 3, 2)
    for wrong in (
        {"external_id": ""},
        {"external_id": "x" * 201},
        {"occurred_at": naive},
        {"type": "defi"},
        {"source": "moon"},
        {"payload": {"value": object()}},
        {"user": "somebody"},
        {"client_session": ""},
    ):
        with pytest.raises(Invalid):
            await db.inputs.receive(done(ada, **wrong))
    with pytest.raises(UnknownReference):
        await db.inputs.receive(done(ada, user=done(ada).user.__class__(uuid7())))
    calls: list[Any] = [
        lambda: db.inputs.analytics(start=naive),
        lambda: db.inputs.analytics(start=datetime(2026, 3, 3, tzinfo=UTC), end=datetime(2026, 3, 2, tzinfo=UTC)),
        lambda: db.inputs.analytics(user="ada"),  # type: ignore[arg-type]
        lambda: db.inputs.mark_processed(["a"]),  # type: ignore[list-item]
        lambda: db.inputs.mark_processed(7),  # type: ignore[arg-type]
        lambda: db.inputs.receive("event"),  # type: ignore[arg-type]
        lambda: db.inputs.of_user("ada"),  # type: ignore[arg-type]
        lambda: db.inputs.of_session(None),  # type: ignore[arg-type]
        lambda: db.inputs.finish(None),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(Invalid):
            await call()
    assert await db.inputs.count(missing(BehaviorInput.processed_at)) == 0
