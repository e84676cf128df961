"""Devices of every status, with heartbeats, and a queue of tasks that they have worked on.

What a device tells follows from the tenant and its number; heartbeats are of the moment of planting.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tallystick.domains.underwriting.devices import Device, DeviceStatus
from tallystick.query import prefix
from tallystick.seeds import DEVICES, Planted

if TYPE_CHECKING:
    from tallystick.domains.underwriting.device_tasks import DeviceTask
    from tallystick.session import Session

TASKS: Final = (
    "read the identity card",
    "photograph the payslip",
    "film a live face",
    "scan the contract",
    "confirm the address",
    "take the signature",
    "install the field app",
    "fetch the bank statement",
    "call the employer",
    "collect the stamp",
)
_PREFIX: Final = "seed-"
_KINDS: Final = (("android phone", "Moto G84", "Android 15"), ("android tablet", "Tab A9", "Android 14"))
_REGIONS: Final = ("eu-west", "af-west", "af-east")
_SILENT, _MAINTAINED, _RETIRED = 2, 1, 1
Told = Callable[[int], None]


async def plant(db: Session, told: Told | None = None) -> Planted:
    """Plant devices and tasks, unless the devices are there already."""
    slug, all_of_them = db.tenant.slug, DEVICES + len(TASKS)
    if await db.devices.exists(prefix(Device.external_id, _PREFIX)):
        return Planted(seed="devices", tenant=slug, added=0, present=all_of_them)
    async with db.transaction():
        devices = []
        for number in range(1, DEVICES + 1):
            # One generator a device: number 7 is the same whether ten are made or a thousand.
            chance = random.Random(f"{slug}/device/{number}")  # noqa: S311  data, no secret
            device = await db.devices.provision(_device(db, number, chance))
            if number <= DEVICES - _SILENT:
                device = await db.devices.heartbeat(device, _vitals(chance))
            devices.append(device)
            if told is not None:
                told(1)
        await _work(db, devices, [await db.device_tasks.enqueue(name) for name in TASKS])
        rest = devices[DEVICES - _SILENT - _MAINTAINED - _RETIRED :]
        await db.devices.set_status(rest[0], DeviceStatus.MAINTENANCE)
        await db.devices.decommission(rest[_MAINTAINED])
    return Planted(seed="devices", tenant=slug, added=all_of_them, present=0)


async def _work(db: Session, devices: list[Device], tasks: list[DeviceTask]) -> None:
    """Of ten tasks four are done, one failed, two run, one was called off, and two wait."""
    for device, task in zip(devices[:7], tasks, strict=False):
        await db.device_tasks.take(device, task)
    for task in tasks[:4]:
        await db.device_tasks.finish(task)
    await db.device_tasks.finish(tasks[4], "The applicant did not come.")
    await db.device_tasks.cancel(tasks[-1])


def _device(db: Session, number: int, chance: random.Random) -> Device:
    kind, model, system = _KINDS[number % len(_KINDS)]
    return Device(
        external_id=f"{_PREFIX}{number:03}",
        device_type=kind,
        model=model,
        os_version=system,
        region=_REGIONS[number % len(_REGIONS)],
        capabilities={"camera": True, "nfc": bool(chance.randrange(2)), "fingerprint": kind.endswith("phone")},
        provisioned_by="seed",
        provisioned_at=db.now() - timedelta(days=chance.randrange(20, 400)),
        security_profile="field",
        next_maintenance_due=db.now() + timedelta(days=chance.randrange(10, 90)),
    )


def _vitals(chance: random.Random) -> dict[str, Any]:
    return {
        "battery_level": Decimal(chance.randrange(1_500, 10_001)) / 100,
        "signal_strength": -chance.randrange(50, 111),
        "data_usage_mb": Decimal(chance.randrange(1_000, 900_000)) / 100,
        "temperature_celsius": Decimal(chance.randrange(2_200, 4_100)) / 100,
        "uptime_seconds": chance.randrange(3_600, 14 * 86_400),
        "wifi_connected": bool(chance.randrange(2)),
        "cellular_connected": True,
        # TEST-NET-2 of RFC 5737, which is nobody's.
        "ip_address": f"198.51.100.{chance.randrange(1, 255)}",
        "installed_apps": ["field", "scanner"],
    }
