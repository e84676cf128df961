"""Devices: their quota, heartbeats and states, and the tasks they take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tallystick import (
    Conflict,
    Duplicate,
    Invalid,
    InvalidTransition,
    KeyReused,
    QuotaExceeded,
    RoleMissing,
    Tallystick,
    TaskState,
)
from tallystick.clock import FixedClock
from tallystick.domains.underwriting.device_tasks import MOST_ATTEMPTS
from tallystick.domains.underwriting.devices import Device, DeviceStatus
from tallystick.errors import LeaseLost
from tallystick.session import Session


def device(name: str = "pad-1") -> Device:
    return Device(external_id=name, device_type="android", region="eu-west")


async def online(db: Session, name: str = "pad-1") -> Device:
    return await db.devices.heartbeat(await db.devices.provision(device(name)))


async def test_devices_count_against_their_quota_and_have_ids_of_their_own(db: Session, tally: Tallystick) -> None:
    await tally.tenants.update(db, max_devices=2)
    first = await db.devices.provision(device())
    with pytest.raises(Duplicate):
        await db.devices.provision(device())
    await db.devices.provision(device("pad-2"))
    with pytest.raises(QuotaExceeded):
        await db.devices.provision(device("pad-3"))
    assert await db.devices.by_external_id("pad-1") == first
    assert await db.devices.count() == 2


async def test_a_heartbeat_brings_a_device_online_with_its_vitals(db: Session) -> None:
    made = await db.devices.provision(device())
    assert made.status is DeviceStatus.OFFLINE
    told = {"battery_level": Decimal("81.50"), "wifi_connected": True, "ip_address": "192.0.2.7"}
    alive = await db.devices.heartbeat(made, told)
    assert (alive.status, alive.battery_level, alive.wifi_connected) == (DeviceStatus.ONLINE, Decimal("81.50"), True)
    assert alive.last_heartbeat is not None
    for wrong in ({"status": "busy"}, {"battery_level": Decimal(101)}, {"uptime_seconds": -1}):
        with pytest.raises(Invalid):
            await db.devices.heartbeat(made, wrong)
    await db.devices.set_status(made, DeviceStatus.MAINTENANCE)
    assert (await db.devices.heartbeat(made)).status is DeviceStatus.MAINTENANCE
    await db.devices.decommission(made)
    for late in (db.devices.heartbeat, db.devices.decommission):
        with pytest.raises(Conflict):
            await late(made)


async def test_a_task_is_taken_and_finished_once_and_counted(db: Session) -> None:
    one, other = await online(db), await online(db, "pad-2")
    first = await db.device_tasks.enqueue("open the shop", {"app": "shop"})
    second = await db.device_tasks.enqueue("read the balance")
    taken = await db.device_tasks.take(one)
    assert taken is not None
    assert (taken.id, taken.state, taken.device) == (first.id, TaskState.RUNNING, one.ref)
    with pytest.raises(Conflict):
        await db.device_tasks.take(one)
    with pytest.raises(Conflict):
        await db.device_tasks.take(other, first)
    with pytest.raises(Conflict):
        await db.devices.set_status(one, DeviceStatus.OFFLINE)
    done = await db.device_tasks.finish(first)
    assert done.state is TaskState.DONE
    with pytest.raises(Conflict):
        await db.device_tasks.finish(first)
    await db.device_tasks.take(one)
    await db.device_tasks.finish(second, "the app did not answer")
    after = await db.devices.get(one.id)
    assert (after.tasks_started, after.tasks_done, after.tasks_failed) == (2, 1, 1)
    assert (after.status, after.current_task) == (DeviceStatus.ONLINE, None)
    assert await db.device_tasks.take(one) is None
    third = await db.device_tasks.enqueue("never mind")
    await db.device_tasks.cancel(third)
    with pytest.raises(Conflict):
        await db.device_tasks.cancel(third)


async def test_a_device_offline_or_compromised_takes_nothing(db: Session) -> None:
    await db.device_tasks.enqueue("open the shop")
    made = await db.devices.provision(device())
    with pytest.raises(Conflict):
        await db.device_tasks.take(made)
    alive = await db.devices.heartbeat(made)
    await db.devices.update(alive, compromised=True)
    with pytest.raises(Conflict):
        await db.device_tasks.take(made)


async def test_operating_takes_the_permission(db: Session, tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="clerk", permissions=()) as clerk:
        with pytest.raises(RoleMissing):
            await clerk.devices.provision(device())
        with pytest.raises(RoleMissing):
            await clerk.devices.add(device())
        with pytest.raises(RoleMissing):
            await clerk.device_tasks.enqueue("open the shop")


async def test_a_heartbeat_that_comes_late_changes_nothing_but_that_the_device_was_heard(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FixedClock(datetime(2026, 5, 4, 12, tzinfo=UTC))
    monkeypatch.setattr(db._app, "clock", clock)
    made = await db.devices.provision(device())
    assert (made.provisioned_at, made.provisioned_by) == (clock.now(), db.actor)
    newer, older = clock.now() - timedelta(seconds=10), clock.now() - timedelta(seconds=40)
    alive = await db.devices.heartbeat(made, {"uptime_seconds": 100}, at=newer)
    assert (alive.last_heartbeat, alive.last_seen) == (newer, clock.now())
    await db.devices.set_status(made, DeviceStatus.OFFLINE)
    clock.advance(timedelta(seconds=5))
    late = await db.devices.heartbeat(made, {"uptime_seconds": 70}, at=older)
    assert (late.last_heartbeat, late.last_seen, late.uptime_seconds) == (newer, clock.now(), 100)
    assert late.status is DeviceStatus.OFFLINE
    ahead = await db.devices.heartbeat(made, at=clock.now() + timedelta(minutes=4))
    assert ahead.status is DeviceStatus.ONLINE
    wrong = (clock.now() + timedelta(minutes=6), datetime(2026, 5, 4), "now")
    for at in wrong:
        with pytest.raises(Invalid):
            await db.devices.heartbeat(made, at=at)  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        await db.devices.heartbeat(made, {"ip_address": "nonsense"})
    for given in ({"tasks_started": 3}, {"decommissioned_by": "me"}, {"mac_address": "02:00"}):
        with pytest.raises(Invalid):
            await db.devices.provision(Device(external_id="pad-9", device_type="x", region="eu", **given))


async def test_a_silent_device_loses_its_task_to_another(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FixedClock(datetime(2026, 5, 4, 12, tzinfo=UTC))
    monkeypatch.setattr(db._app, "clock", clock)
    one, other = await online(db), await online(db, "pad-2")
    task = await db.device_tasks.enqueue("open the shop")
    await db.device_tasks.take(one)
    with pytest.raises(InvalidTransition):
        await db.devices.decommission(one)
    clock.advance(timedelta(minutes=11))
    await db.devices.heartbeat(other)
    assert await db.devices.sweep(timedelta(minutes=10)) == 1
    assert await db.devices.sweep(timedelta(minutes=10)) == 0
    lost = await db.devices.get(one.id)
    assert (lost.status, lost.current_task) == (DeviceStatus.OFFLINE, None)
    assert (lost.tasks_started, lost.tasks_failed) == (1, 1)
    assert (await db.device_tasks.get(task.id)).state is TaskState.QUEUED
    again = await db.device_tasks.take(other)
    assert again is not None
    assert (again.id, again.tries, again.device) == (task.id, 2, other.ref)
    # The first comes back and reports what is no longer its own.
    with pytest.raises(LeaseLost):
        await db.device_tasks.finish(task, device=one)
    assert (await db.device_tasks.finish(task, device=other)).state is TaskState.DONE
    await db.devices.decommission(one)
    with pytest.raises(Conflict):
        await db.device_tasks.take(one)


async def test_a_task_that_loses_its_devices_again_and_again_fails_and_is_retried(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FixedClock(datetime(2026, 5, 4, 12, tzinfo=UTC))
    monkeypatch.setattr(db._app, "clock", clock)
    pad, task = await online(db), await db.device_tasks.enqueue("open the shop")
    for _ in range(MOST_ATTEMPTS):
        await db.devices.heartbeat(pad)
        assert await db.device_tasks.take(pad) is not None
        clock.advance(timedelta(hours=1))
        await db.devices.sweep(timedelta(minutes=10))
    failed = await db.device_tasks.get(task.id)
    assert (failed.state, failed.tries) == (TaskState.FAILED, MOST_ATTEMPTS)
    waiting = await db.device_tasks.retry(task)
    assert (waiting.state, waiting.error, waiting.device) == (TaskState.QUEUED, None, None)
    with pytest.raises(Conflict):
        await db.device_tasks.retry(task)
    await db.devices.heartbeat(pad)
    await db.device_tasks.take(pad, task)
    await db.device_tasks.finish(task)
    with pytest.raises(Conflict):
        await db.device_tasks.retry(task)


async def test_a_scan_finds_a_device_compromised_and_clears_it(db: Session) -> None:
    pad = await online(db)
    await db.device_tasks.enqueue("open the shop")
    found = await db.devices.inspect(pad, compromised=True, event={"kind": "root"})
    assert found.security_events is not None
    assert (found.compromised, found.security_events[0]["kind"]) == (True, "root")
    with pytest.raises(Conflict):
        await db.device_tasks.take(pad)
    cleared = await db.devices.inspect(pad, compromised=False)
    assert (cleared.compromised, cleared.security_events) == (False, found.security_events)
    assert await db.device_tasks.take(pad) is not None
    with pytest.raises(Invalid):
        await db.devices.inspect(pad, compromised=1)  # type: ignore[arg-type]


async def test_a_task_put_in_the_queue_again_with_its_key_is_one(db: Session) -> None:
    first, again = [await db.device_tasks.enqueue("open", {"app": "shop"}, key="t-1") for _ in range(2)]
    assert first == again
    with pytest.raises(KeyReused):
        await db.device_tasks.enqueue("open", {"app": "bank"}, key="t-1")
    assert await db.device_tasks.count() == 1


async def test_a_device_left_busy_by_hand_is_set_free(db: Session) -> None:
    pad = await online(db)
    task = await db.device_tasks.enqueue("open the shop")
    taken = await db.device_tasks.take(pad)
    assert taken is not None
    with pytest.raises(Conflict):
        await db.devices.set_status(pad, DeviceStatus.OFFLINE)
    await db.device_tasks.update(taken, state=TaskState.DONE, finished_at=db.now())
    with pytest.raises(Conflict):
        await db.device_tasks.finish(task)
    freed = await db.devices.set_status(pad, DeviceStatus.OFFLINE)
    assert (freed.status, freed.current_task) == (DeviceStatus.OFFLINE, None)
