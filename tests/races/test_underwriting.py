"""Sixteen callers at one application, one review and one offer: one right answer each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.soak import REPEATS
from tests.underwriting.support import decision, scoring
from tests.underwriting.test_fairness import decided

from tallystick import Application, ApplicationStatus, Conflict, Decision, Duplicate, InvalidTransition, Outcome, usd
from tallystick.domains.underwriting.counter_offers import OfferState
from tallystick.domains.underwriting.device_tasks import TaskState
from tallystick.domains.underwriting.devices import Device, DeviceStatus
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.domains.underwriting.reviews import STANDING, ReviewState, ReviewTask
from tallystick.errors import LeaseLost, QuotaExceeded
from tallystick.query import one_of
from tallystick.session import Session
from tallystick.testing import Make, Race

N = 16


@pytest.mark.parametrize("_", REPEATS)
async def test_one_final_decision(race: Race, db: Session, make: Make, _: int) -> None:
    application = await scoring(db, make)

    async def decide(s: Session, i: int) -> Application:
        why: dict[str, Any] = {"reasons": [ReasonCode.BANKRUPTCY]} if i % 2 else {}
        outcome = Outcome.DECLINED if i % 2 else Outcome.APPROVED
        return await s.applications.decide(application.id, decision(application, outcome, **why))

    result = await race(N, decide)
    assert result.winners == 1
    assert result.kinds == {Conflict}
    (made,) = await db.decisions.find()
    assert made.outcome.value == result.results[0].status.value
    assert await db.notices.count() == int(made.outcome is Outcome.DECLINED)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_final_decision_past_the_operation(race: Race, db: Session, make: Make, _: int) -> None:
    application = await scoring(db, make)

    async def add(s: Session, i: int) -> Decision:
        return await s.decisions.add(decision(application, seq=i + 1))

    result = await race(N, add)
    assert result.winners == 1
    assert result.kinds == {Duplicate}


@pytest.mark.parametrize("_", REPEATS)
async def test_one_reviewer_has_the_task(race: Race, db: Session, make: Make, _: int) -> None:
    people = [await make.user() for _ in range(N)]
    task = await db.reviews.open((await scoring(db, make)).id, "look")
    result = await race(N, lambda s, i: s.reviews.take(task, people[i].id))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    held = await db.reviews.get(task.id)
    winner = result.results[0].claimed_by
    assert held.claimed_by == winner
    resolved = await race(N, lambda s, i: s.reviews.resolve(task, people[i].id, Outcome.APPROVED))
    assert resolved.winners == 1
    assert resolved.kinds <= {Conflict, LeaseLost}
    assert (await db.reviews.get(task.id)).resolved_by == winner


@pytest.mark.parametrize("_", REPEATS)
async def test_reviewers_who_ask_for_the_next_task_never_share_one(race: Race, db: Session, make: Make, _: int) -> None:
    people = [await make.user() for _ in range(N)]
    for _n in range(3):
        await db.reviews.open((await scoring(db, make)).id, "look")
    result = await race(N, lambda s, i: s.reviews.take_next(people[i].id))
    assert result.errors == []
    got = [t.id for t in result.results if t is not None]
    assert len(got) == len(set(got)) == 3


@pytest.mark.parametrize("_", REPEATS)
async def test_one_review_stands_and_a_decision_meets_its_resolution(
    race: Race, db: Session, make: Make, _: int
) -> None:
    application, rev = await scoring(db, make), await make.user()
    opened = await race(N, lambda s: s.reviews.open(application.id, "look"))
    assert opened.winners == 1
    assert opened.kinds == {Duplicate}
    task = opened.results[0]
    await db.reviews.take(task, rev)

    async def end(s: Session, i: int) -> Application:
        if i % 2:
            return await s.reviews.resolve(task, rev.id, Outcome.APPROVED)
        return await s.applications.decide(application.id, decision(application))

    result = await race(N, end)
    assert result.winners == 1
    assert result.kinds <= {Conflict, LeaseLost}
    assert (await db.reviews.get(task.id)).state in (ReviewState.RESOLVED, ReviewState.EXPIRED)
    assert await db.reviews.count(one_of(ReviewTask.state, STANDING)) == 0


@pytest.mark.parametrize("_", REPEATS)
async def test_an_offer_is_answered_once(race: Race, db: Session, make: Make, _: int) -> None:
    application = await scoring(db, make)
    await db.reviews.open(application.id, "look")
    offer = await db.counter_offers.offer(decision(application, Outcome.COUNTER_OFFER), usd("5000"), 24)

    async def answer(s: Session, i: int) -> Application:
        return await (s.counter_offers.accept(offer) if i % 2 else s.counter_offers.withdraw(offer))

    result = await race(N, answer)
    assert result.winners == 1
    assert result.kinds == {Conflict}
    accepted = (await db.counter_offers.get(offer.id)).state is OfferState.APPROVED
    assert accepted is (result.results[0].status is ApplicationStatus.APPROVED)
    assert len([d for d in await db.decisions.find() if d.is_final]) == int(accepted)


@pytest.mark.parametrize("_", REPEATS)
async def test_the_month_ends_at_its_quota(race: Race, db: Session, make: Make, _: int) -> None:
    await db._app.tenants.update(db, max_applications_per_month=5)
    result = await race(N, lambda s: s.applications.submit(make.build(Application)))
    assert result.winners == 5
    assert result.kinds == {QuotaExceeded}
    assert await db.applications.count() == 5


@pytest.mark.parametrize("_", REPEATS)
async def test_a_device_task_is_taken_and_finished_once(race: Race, db: Session, _: int) -> None:
    pads = [
        await db.devices.heartbeat(
            await db.devices.provision(Device(external_id=f"pad-{n}", device_type="android", region="eu"))
        )
        for n in range(N)
    ]
    task = await db.device_tasks.enqueue("open the shop")
    result = await race(N, lambda s, i: s.device_tasks.take(pads[i].id, task))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    ended = await race(N, lambda s: s.device_tasks.finish(task))
    assert ended.winners == 1
    assert ended.kinds == {Conflict}
    assert sum(d.tasks_done for d in await db.devices.find()) == 1
    for n in range(3):
        await db.device_tasks.enqueue(f"task {n}")
    queue = await race(N, lambda s, i: s.device_tasks.take(pads[i].id))
    assert queue.errors == []
    got = [t.id for t in queue.results if t is not None]
    assert len(got) == len(set(got)) == 3


@pytest.mark.parametrize("_", REPEATS)
async def test_monitors_at_once_open_one_flag(race: Race, db: Session, _: int) -> None:
    await decided(db, "a", 6, 4)
    await decided(db, "b", 4, 6)
    result = await race(N, lambda s: s.fairness.monitor("sex", minimum=10))
    assert result.errors == []
    assert sum(len(found.opened) for found in result.results) == 1
    assert await db.fairness.count() == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_devices_end_at_their_quota(race: Race, db: Session, _: int) -> None:
    await db._app.tenants.update(db, max_devices=5)

    async def provision(s: Session, i: int) -> Device:
        return await s.devices.provision(Device(external_id=f"pad-{i}", device_type="android", region="eu"))

    result = await race(N, provision)
    assert result.winners == 5
    assert result.kinds == {QuotaExceeded}
    assert await db.devices.count() == 5


@pytest.mark.parametrize("_", REPEATS)
async def test_deciding_withdrawing_and_adding_by_hand_meet_in_one_end(
    race: Race, db: Session, make: Make, _: int
) -> None:
    application = await scoring(db, make)

    async def end(s: Session, i: int) -> Any:
        if i % 3 == 0:
            return await s.applications.decide(application.id, decision(application))
        if i % 3 == 1:
            return await s.decisions.add(decision(application, seq=i + 100))
        withdrawn = await s.applications.withdraw(application.id)
        return withdrawn.status

    result = await race(N, end)
    found = await db.applications.get(application.id)
    final = [d for d in await db.decisions.find() if d.is_final]
    assert result.kinds <= {Conflict, Duplicate, InvalidTransition}
    if found.status is ApplicationStatus.WITHDRAWN:
        # Whoever withdraws what is withdrawn is told so, and changes nothing.
        assert (final, set(result.results)) == ([], {ApplicationStatus.WITHDRAWN})
    else:
        assert (len(final), result.winners, found.decided_at) == (1, 1, final[0].decided_at or found.decided_at)


@pytest.mark.parametrize("_", REPEATS)
async def test_places_of_devices_are_freed_and_taken_once(race: Race, db: Session, _: int) -> None:
    await db._app.tenants.update(db, max_devices=4)
    pads = [
        await db.devices.provision(Device(external_id=f"old-{n}", device_type="android", region="eu")) for n in range(4)
    ]

    async def turn(s: Session, i: int) -> Device:
        if i % 2:
            return await s.devices.decommission(pads[i // 2 % 4])
        return await s.devices.provision(Device(external_id=f"new-{i}", device_type="android", region="eu"))

    result = await race(N, turn)
    assert result.kinds <= {Conflict, QuotaExceeded}
    retired = await db.devices.count(Device.status == DeviceStatus.DECOMMISSIONED)
    assert retired == 4
    standing = await db.devices.count(Device.status != DeviceStatus.DECOMMISSIONED)
    assert standing <= 4
    used = await db.unit.call(
        "SELECT used FROM tally.usage WHERE tenant_id = $1 AND metric = 'devices'", (db.tenant_id,)
    )
    assert [row[0] for row in used] == [standing]


@pytest.mark.parametrize("_", REPEATS)
async def test_a_submission_is_one_and_counted_once(race: Race, db: Session, make: Make, _: int) -> None:
    given = make.build(Application)
    result = await race(N, lambda s: s.applications.submit(given, key="submit-1"))
    assert result.errors == []
    assert {a.id for a in result.results} == {given.id}
    assert await db.consume("applications") == 2


@pytest.mark.parametrize("_", REPEATS)
async def test_a_silent_device_is_swept_while_it_reports(race: Race, db: Session, _: int) -> None:
    pad = await db.devices.provision(Device(external_id="pad", device_type="android", region="eu"))
    await db.devices.heartbeat(pad)
    task = await db.device_tasks.enqueue("open the shop")
    await db.device_tasks.take(pad)

    async def meet(s: Session, i: int) -> Any:
        if i % 2:
            return await s.devices.sweep(timedelta(microseconds=1))
        return (await s.device_tasks.finish(task, device=pad)).state

    result = await race(N, meet)
    assert result.kinds <= {Conflict}
    found, after = await db.device_tasks.get(task.id), await db.devices.get(pad.id)
    assert (after.tasks_started, after.tasks_done + after.tasks_failed) == (1, 1)
    assert after.status is DeviceStatus.OFFLINE
    assert found.state is (TaskState.DONE if after.tasks_done else TaskState.QUEUED)
