"""Devices: the tenant's cloud devices, their state and health."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.named import id_of
from tallystick.domains.underwriting.addresses import check_addresses
from tallystick.entity import Entity, with_fields
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Length, Numeric, Once, Personal
from tallystick.query import at_most, one_of
from tallystick.rules import Check, Guard, Index, Readable, Rules, Transitions, Unique, kept

Name = Annotated[str, Length(255, min=1)]
AHEAD = timedelta(minutes=5)
"""How far a device's clock may be ahead of ours."""
_MOST_EVENTS = 100


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
    ``tasks_done`` and ``tasks_failed`` never exceed ``tasks_started``. ``last_heartbeat`` is the newest that the device
    told by its own clock, ``last_seen`` when we last heard from it by ours. The database counts a device against the
    tenant's limit until it is decommissioned, whoever adds it.
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
        Guard("tally_counted", "AFTER INSERT", "tally.device_counted('device')"),
        Guard(
            "tally_given_back",
            "AFTER UPDATE",
            "tally.device_counted('device')",
            when="OLD.\"status\" <> 'decommissioned' AND NEW.\"status\" = 'decommissioned'",
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
_EARNED = (
    "current_task",
    "last_heartbeat",
    "last_seen",
    "last_task_at",
    "tasks_started",
    "tasks_done",
    "tasks_failed",
    "decommissioned_at",
    "decommissioned_by",
)
_SWEPT = 1_000


class Devices(Guarded[Device]):
    """The tenant's devices. Everything that changes one needs the permission "devices.operate"."""

    permission = "devices.manage"
    instead = "db.devices.provision(), heartbeat(), set_status(), inspect() and decommission()"

    async def provision(self, device: Device) -> Device:
        """Register a device, counted against the tenant's quota; all or nothing.

        Raises ``QuotaExceeded``, ``Duplicate`` for an external id the tenant has already (a decommissioned one keeps
        its own), and ``Invalid`` for what only operations tell.
        """
        await self._may()
        self._check_kind(device)
        check_addresses("Device", device.ip_address, device.mac_address)
        if any(getattr(device, name) for name in _EARNED):
            raise Invalid(
                "A new device has done nothing yet.",
                field=next(n for n in _EARNED if getattr(device, n)),
                entity="Device",
                remedy="Leave that out; heartbeats, tasks and decommission() set it.",
            )
        at, by = device.provisioned_at or self.db.now(), device.provisioned_by or self.db.actor
        return await put(self, with_fields(device, provisioned_at=at, provisioned_by=by))

    async def by_external_id(self, external_id: str) -> Device:
        """The device its provider calls so. Raises ``NotFound``."""
        return await self.one(Device.external_id == external_id)

    async def heartbeat(
        self, device: Device | UUID, vitals: Mapping[str, Any] | None = None, *, at: datetime | None = None
    ) -> Device:
        """Note that a device is alive, with its vitals by field name; one that was offline is online.

        ``at`` is when it beat, by its own clock; left out it is now. One that arrives after a newer one says that the
        device was heard, and nothing else: its vitals are old. Raises ``Conflict`` for a decommissioned device,
        ``Invalid`` for vitals that are none and for a clock more than five minutes ahead.
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
        check_addresses("Device", told.get("ip_address"))
        now = self.db.now()
        beat = now if at is None else at
        if not isinstance(beat, datetime) or beat.tzinfo is None or beat > now + AHEAD:
            raise Invalid(
                "A heartbeat's moment has a time zone and is at most five minutes ahead.",
                field="at",
                entity="Device",
                remedy="Set the device's clock, or leave it out for now.",
            )
        async with self.db.transaction():
            found = await self._locked(device)
            seen = now if found.last_seen is None else max(now, found.last_seen)
            if found.last_heartbeat is not None and beat < found.last_heartbeat:
                return await alter(self, found, last_seen=seen)
            status = _D.ONLINE if found.status is _D.OFFLINE else found.status
            return await alter(self, found, status=status, last_heartbeat=beat, last_seen=seen, **told)

    async def set_status(self, device: Device | UUID, status: DeviceStatus) -> Device:
        """Bring a device to maintenance, online or offline. Raises ``Conflict`` while it works."""
        from tallystick.domains.underwriting.device_tasks import running

        await self._may()
        if status not in (_D.ONLINE, _D.OFFLINE, _D.MAINTENANCE):
            raise Invalid(
                "That status follows from tasks or decommission().",
                field="status",
                entity="Device",
                remedy="Set online, offline or maintenance.",
            )
        async with self.db.transaction():
            found = await self._locked(device)
            if await running(self.db, found.ref) is not None:
                raise Conflict("The device has a task.", entity="Device", remedy="Use device_tasks.finish().")
            changes = {"last_maintenance": self.db.now()} if status is _D.MAINTENANCE else {}
            return await alter(self, found, status=status, current_task=None, **changes)

    async def inspect(
        self, device: Device | UUID, *, compromised: bool, event: Mapping[str, Any] | None = None
    ) -> Device:
        """Note a security scan: whether the device is compromised, and what was found; the last hundred are kept.

        A compromised device takes no task until a later scan clears it.
        """
        await self._may()
        if compromised.__class__ is not bool or not (event is None or isinstance(event, Mapping)):
            raise Invalid(
                "A scan says True or False, and what it found as a dict.",
                field="compromised",
                entity="Device",
                remedy='Write inspect(device, compromised=True, event={"kind": "root"}).',
            )
        async with self.db.transaction():
            found = await self._locked(device)
            now = self.db.now()
            events = list(found.security_events or ())
            if event is not None:
                events.append({**event, "at": now.isoformat(), "by": self.db.actor})
            kept_events = events[-_MOST_EVENTS:] or None
            return await alter(
                self, found, compromised=compromised, last_security_scan=now, security_events=kept_events
            )

    async def sweep(self, silent_for: timedelta) -> int:
        """Take devices offline that nothing was heard of for so long; answers how many. Run it every few minutes.

        A task of theirs goes back to the queue, and fails once it was lost ``MOST_ATTEMPTS`` times.
        """
        await self._may()
        if not isinstance(silent_for, timedelta) or silent_for <= timedelta(0):
            raise Invalid(
                "How long is a timedelta above zero.",
                field="silent_for",
                entity="Device",
                remedy="Write sweep(timedelta(minutes=10)).",
            )
        from tallystick.domains.underwriting.device_tasks import lose

        db = self.db
        silent = (one_of(Device.status, (_D.ONLINE, _D.BUSY)), at_most(Device.last_seen, db.now() - silent_for))
        swept = 0
        for id in [d.id for d in await self.find(*silent, order=Device.last_seen, limit=_SWEPT)]:
            async with db.transaction():
                found = await self.lock(id)
                late = found.last_seen is not None and found.last_seen <= db.now() - silent_for
                if found.status not in (_D.ONLINE, _D.BUSY) or not late:
                    continue
                lost = int(await lose(db, found.ref))
                await alter(self, found, status=_D.OFFLINE, current_task=None, tasks_failed=found.tasks_failed + lost)
                swept += 1
        return swept

    async def decommission(self, device: Device | UUID) -> Device:
        """Retire a device for good, which frees its place in the tenant's limit.

        Raises ``InvalidTransition`` while it works, ``Conflict`` when it is retired already.
        """
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
        found = await self.lock(id_of(device, Device, "device"))
        if found.status is _D.DECOMMISSIONED:
            raise Conflict("The device is decommissioned.", entity="Device", remedy="Provision another.")
        return found
