"""Devices: their quota, heartbeats and states, and the tasks they take."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tallystick import Conflict, Duplicate, Invalid, QuotaExceeded, RoleMissing, Tallystick, TaskState
from tallystick.domains.underwriting.devices import Device, DeviceStatus
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
