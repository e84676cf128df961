"""Devices: the tenant's cloud devices, their state and health, and the tasks that each carries out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.underwriting.applications import Application
from tallystick.entity import Entity
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Length, Numeric, Once, Personal, Ref
from tallystick.rules import Check, Index, Readable, Rules, Transitions, Unique, kept

Name = Annotated[str, Length(255, min=1)]
_NEXT = (
    "SELECT t.id FROM tally.device_task t WHERE t.tenant_id = $1 AND t.state = 'queued' "
    "ORDER BY t.created_at, t.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"
)


class DeviceStatus(StrEnum):
    """Whether a device can work."""

    OFFLINE = "offline"
    ONLINE = "online"
    BUSY = "busy"
    MAINTENANCE = "maintenance"
    DECOMMISSIONED = "decommissioned"


_D = DeviceStatus


class Device(Entity):
    """A cloud device. ``external_id`` is its provider's name for it, once in a tenant; many tenants may know one.

    Battery in percent, signal in dBm, data in megabytes, temperature in degrees Celsius, uptime in seconds.
    ``tasks_done`` and ``tasks_failed`` never exceed ``tasks_started``.
    """

    external_id: Annotated[str, Length(255, min=1), Once()]
    device_type: Annotated[str, Length(50, min=1)]
    model: Annotated[str, Length(100)] | None = None
    os_version: Annotated[str, Length(50)] | None = None
    region: Annotated[str, Length(20, min=1)]
    status: DeviceStatus = DeviceStatus.OFFLINE
    current_task: Name | None = None
    last_heartbeat: datetime | None = None
    last_seen: datetime | None = None
    capabilities: dict[str, Any] | None = None
    installed_apps: list[str] | None = None
    battery_level: Annotated[Decimal, Numeric(5, 2)] | None = None
    signal_strength: int | None = None
    data_usage_mb: Annotated[Decimal, Numeric(12, 2)] | None = None
    temperature_celsius: Annotated[Decimal, Numeric(5, 2)] | None = None
    uptime_seconds: int | None = None
    wifi_connected: bool = False
    cellular_connected: bool = False
    bluetooth_enabled: bool = False
    ip_address: Personal[str] | None = None
    mac_address: Personal[str] | None = None
    configuration: dict[str, Any] | None = None
    automation_rules: dict[str, Any] | None = None
    provisioned_by: Name | None = None
    provisioned_at: datetime | None = None
    decommissioned_by: Name | None = None
    decommissioned_at: datetime | None = None
    tasks_started: int = 0
    tasks_done: int = 0
    tasks_failed: int = 0
    last_task_at: datetime | None = None
    security_profile: Annotated[str, Length(100)] | None = None
    security_events: list[dict[str, Any]] | None = None
    compromised: bool = False
    last_security_scan: datetime | None = None
    last_maintenance: datetime | None = None
    maintenance_notes: Annotated[str, Length(2000)] | None = None
    next_maintenance_due: datetime | None = None
    details: dict[str, Any] | None = None

    rules = Rules(
        Unique("external_id"),
        Index("status", "last_heartbeat", query="devices of a status, the longest silent first"),
        Index("device_type", "region", query="devices of a type in a region"),
        Check("battery", "battery_level is null or battery_level between 0 and 100"),
        Check("data_usage", "data_usage_mb is null or data_usage_mb >= 0"),
        Check("uptime", "uptime_seconds is null or uptime_seconds >= 0"),
        Check("tasks", "tasks_done >= 0 and tasks_failed >= 0 and tasks_done + tasks_failed <= tasks_started"),
        Check("busy", "(status = 'busy') = (current_task is not null)"),
        Check("decommissioned", "(status = 'decommissioned') = (decommissioned_at is not null)"),
        Transitions(
            "status",
            {
                _D.OFFLINE: [_D.ONLINE, _D.MAINTENANCE, _D.DECOMMISSIONED],
                _D.ONLINE: [_D.OFFLINE, _D.BUSY, _D.MAINTENANCE, _D.DECOMMISSIONED],
                _D.BUSY: [_D.ONLINE, _D.OFFLINE],
                _D.MAINTENANCE: [_D.OFFLINE, _D.ONLINE, _D.DECOMMISSIONED],
            },
            initial=[_D.OFFLINE],
        ),
        kept(),
        retain="operations",
        readable={
            "external_id": Readable.CODE,
            "device_type": Readable.CODE,
            "model": Readable.CODE,
            "os_version": Readable.CODE,
            "region": Readable.CODE,
            "current_task": Readable.CODE,
            "capabilities": Readable.TERMS,
            "installed_apps": Readable.TERMS,
            "configuration": Readable.TERMS,
            "automation_rules": Readable.TERMS,
            "provisioned_by": Readable.CODE,
            "decommissioned_by": Readable.CODE,
            "security_profile": Readable.CODE,
            "security_events": Readable.TERMS,
            "maintenance_notes": Readable.NOTE,
            "details": Readable.TERMS,
        },
    )


class TaskState(StrEnum):
    """Where a task stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_T = TaskState


class DeviceTask(Entity):
    """Something for a device to do, once; a device does one at a time."""

    name: Annotated[Name, Once()]
    application: Annotated[Ref[Application], Once()] | None = None
    payload: Annotated[dict[str, Any], Once()] = msgspec.field(default_factory=dict)
    state: TaskState = TaskState.QUEUED
    device: Ref[Device] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: Annotated[str, Length(1000, min=1)] | None = None

    rules = Rules(
        Unique("device", where="state = 'running'"),
        Index("state", "created_at", query="the queue of tasks, oldest first"),
        Index("device", "created_at", query="the tasks of a device"),
        Index("application", query="the tasks for an application"),
        Check("running", "(state in ('queued', 'cancelled')) = (device_id is null)"),
        Check("started", "(device_id is null) = (started_at is null)"),
        Check("finished", "(state in ('done', 'failed', 'cancelled')) = (finished_at is not null)"),
        Check("error", "(state = 'failed') = (error is not null)"),
        Transitions(
            "state",
            {_T.QUEUED: [_T.RUNNING, _T.CANCELLED], _T.RUNNING: [_T.DONE, _T.FAILED]},
            initial=[_T.QUEUED],
        ),
        kept(),
        retain="operations",
        readable={"name": Readable.CODE, "payload": Readable.TERMS, "error": Readable.NOTE},
    )


VITALS = frozenset(
    (
        "battery_level",
        "signal_strength",
        "data_usage_mb",
        "temperature_celsius",
        "uptime_seconds",
        "wifi_connected",
        "cellular_connected",
        "bluetooth_enabled",
        "ip_address",
        "installed_apps",
        "os_version",
    )
)
"""What a heartbeat may tell."""


class Devices(Guarded[Device]):
    """The tenant's devices. Everything that changes one needs the permission "devices.operate"."""

    permission = "devices.manage"
    instead = "db.devices.provision(), heartbeat(), set_status() and decommission()"

    async def provision(self, device: Device) -> Device:
        """Register a device, counted against the tenant's quota; all or nothing.

        Raises ``QuotaExceeded``, and ``Duplicate`` for an external id the tenant has already.
        """
        await self._may()
        self._check_kind(device)
        async with self.db.transaction():
            await self.db.consume("devices")
            return await put(self, device)

    async def by_external_id(self, external_id: str) -> Device:
        """The device its provider calls so. Raises ``NotFound``."""
        return await self.one(Device.external_id == external_id)

    async def heartbeat(self, device: Device | UUID, vitals: Mapping[str, Any] | None = None) -> Device:
        """Note that a device is alive, with its vitals by field name; one that was offline is online.

        Raises ``Conflict`` for a decommissioned one, ``Invalid`` for vitals that are none.
        """
        await self._may()
        told = dict(vitals) if isinstance(vitals, Mapping) else {}
        if not set(told) <= VITALS or (vitals is not None and not isinstance(vitals, Mapping)):
            raise Invalid(
                "A heartbeat tells vitals only.",
                field="vitals",
                entity="Device",
                remedy=f"Vitals are: {', '.join(sorted(VITALS))}.",
            )
        async with self.db.transaction():
            found = await self._locked(device)
            status = _D.ONLINE if found.status is _D.OFFLINE else found.status
            now = self.db.now()
            return await alter(self, found, status=status, last_heartbeat=now, last_seen=now, **told)

    async def set_status(self, device: Device | UUID, status: DeviceStatus) -> Device:
        """Bring a device to maintenance, online or offline. Raises ``Conflict`` while it works."""
        await self._may()
        if status not in (_D.ONLINE, _D.OFFLINE, _D.MAINTENANCE):
            raise Invalid("That status follows from tasks or decommission().", field="status", entity="Device")
        async with self.db.transaction():
            found = await self._locked(device)
            if found.status is _D.BUSY:
                raise Conflict("The device has a task.", entity="Device", remedy="Use device_tasks.finish().")
            changes = {"last_maintenance": self.db.now()} if status is _D.MAINTENANCE else {}
            return await alter(self, found, status=status, **changes)

    async def decommission(self, device: Device | UUID) -> Device:
        """Retire a device for good. Raises ``InvalidTransition`` while it works."""
        await self._may()
        async with self.db.transaction():
            found = await self._locked(device)
            by = self.db.actor[:255]
            return await alter(
                self, found, status=_D.DECOMMISSIONED, decommissioned_at=self.db.now(), decommissioned_by=by
            )

    async def _may(self) -> None:
        await self.db.require("devices.operate")

    async def _locked(self, device: Device | UUID) -> Device:
        found = await self.lock(device.id if isinstance(device, Device) else device)
        if found.status is _D.DECOMMISSIONED:
            raise Conflict("The device is decommissioned.", entity="Device", remedy="Provision another.")
        return found


class DeviceTasks(Guarded[DeviceTask]):
    """What devices have to do. Each task is one device's; taking and finishing needs "devices.operate"."""

    permission = "devices.manage"
    instead = "db.device_tasks.enqueue(), take(), finish() and cancel()"

    async def enqueue(
        self, name: str, payload: Mapping[str, Any] | None = None, *, application: UUID | None = None
    ) -> DeviceTask:
        """Put a task in the queue. Raises ``Invalid``, ``UnknownReference``."""
        await self.db.require("devices.operate")
        if payload is not None and not isinstance(payload, Mapping):
            raise Invalid("A task's payload is a dict.", field="payload", entity="DeviceTask")
        about: Ref[Application] | None = None if application is None else Ref(application)
        return await put(self, DeviceTask(name=name, payload=dict(payload or {}), application=about))

    async def take(self, device: Device | UUID, task: DeviceTask | UUID | None = None) -> DeviceTask | None:
        """Give a device a task, or the oldest of the queue; None when the queue is empty.

        Two devices never get one task, and one that is busy gets none. Raises ``Conflict`` when the device is not
        online or is compromised, or the task is no longer in the queue.
        """
        db = self.db
        await db.require("devices.operate")
        async with db.transaction():
            worker = await db.devices.lock(device.id if isinstance(device, Device) else device)
            if worker.status is not _D.ONLINE or worker.compromised:
                raise Conflict(
                    "The device takes no task: it is not online, has one, or is compromised.",
                    entity="Device",
                    remedy="Finish its task, or send a heartbeat.",
                )
            if task is None:
                rows = await db.unit.call(_NEXT, (db.tenant_id,), self.spec)
                if not rows:
                    return None
                found = await self.get(rows[0][0])
            else:
                found = await self.lock(_id(task))
            if found.state is not _T.QUEUED:
                raise Conflict(f"The task is {found.state.value}.", entity="DeviceTask", remedy="Take another.")
            now = db.now()
            await alter(
                db.devices,
                worker,
                status=_D.BUSY,
                current_task=found.name,
                tasks_started=worker.tasks_started + 1,
                last_task_at=now,
            )
            return await alter(self, found, state=_T.RUNNING, device=worker.ref, started_at=now)

    async def finish(self, task: DeviceTask | UUID, error: str | None = None) -> DeviceTask:
        """End a running task, failed where there is an error; its device is free again. Raises ``Conflict``."""
        db = self.db
        await db.require("devices.operate")
        async with db.transaction():
            named = await self.get(_id(task))
            if named.device is None:
                raise Conflict(f"The task is {named.state.value}.", entity="DeviceTask", remedy="Take it first.")
            # The device first, as take() locks them.
            worker = await db.devices.lock(named.device.id)
            found = await self.lock(named.id)
            if found.state is not _T.RUNNING:
                raise Conflict(f"The task is {found.state.value}.", entity="DeviceTask", remedy="It was finished.")
            count = "tasks_done" if error is None else "tasks_failed"
            changes: dict[str, Any] = {count: getattr(worker, count) + 1}
            await alter(db.devices, worker, status=_D.ONLINE, current_task=None, **changes)
            state = _T.DONE if error is None else _T.FAILED
            return await alter(self, found, state=state, finished_at=db.now(), error=error)

    async def cancel(self, task: DeviceTask | UUID) -> DeviceTask:
        """Take a task out of the queue. Raises ``Conflict`` once a device has it."""
        await self.db.require("devices.operate")
        async with self.db.transaction():
            found = await self.lock(_id(task))
            if found.state is not _T.QUEUED:
                raise Conflict(
                    f"The task is {found.state.value}.", entity="DeviceTask", remedy="Too late to cancel it."
                )
            return await alter(self, found, state=_T.CANCELLED, finished_at=self.db.now())


def _id(task: DeviceTask | UUID) -> UUID:
    return task.id if isinstance(task, DeviceTask) else task
