"""What is wrong is refused with a typed error, and nothing is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.underwriting.support import decision, scoring

from tallystick import Invalid, NotFound, Outcome, TallystickError, usd
from tallystick.domains.underwriting.devices import Device, DeviceStatus
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.session import Session
from tallystick.testing import Make

Call = Callable[[Session, Any, Any], Awaitable[Any]]
CALLS: list[Call] = [
    lambda db, a, rev: db.reviews.open(a.id, ""),
    lambda db, a, rev: db.reviews.open(a.id, "x" * 501),
    lambda db, a, rev: db.reviews.open(uuid4(), "look"),
    lambda db, a, rev: db.reviews.open("application", "look"),
    lambda db, a, rev: db.reviews.take(uuid4(), rev),
    lambda db, a, rev: db.reviews.take("task", rev),
    lambda db, a, rev: db.reviews.take_next("rev"),
    lambda db, a, rev: db.reviews.take_next(rev, lease=timedelta(0)),
    lambda db, a, rev: db.reviews.take_next(rev, lease=timedelta(days=8)),
    lambda db, a, rev: db.reviews.take_next(rev, lease=30),
    lambda db, a, rev: db.reviews.expire("yesterday"),
    lambda db, a, rev: db.reviews.resolve(uuid4(), rev, Outcome.REVIEW),
    lambda db, a, rev: db.reviews.resolve(uuid4(), rev, "approved!"),
    lambda db, a, rev: db.notices.due("today"),
    lambda db, a, rev: db.notices.sent(uuid4(), "pigeon"),
    lambda db, a, rev: db.notices.sent("notice", "mail"),
    lambda db, a, rev: db.applications.decide(uuid4(), decision(a)),
    lambda db, a, rev: db.applications.decide(a.id, "approved"),
    lambda db, a, rev: db.applications.decide(a.id, decision(a, reasons=5)),
    lambda db, a, rev: db.applications.decide(a.id, decision(a, Outcome.DECLINED, reasons="bankruptcy")),
    lambda db, a, rev: db.applications.decide(a.id, decision(a), key=""),
    lambda db, a, rev: db.counter_offers.offer("offer", usd("1"), 12),
    lambda db, a, rev: db.counter_offers.accept(uuid4()),
    lambda db, a, rev: db.counter_offers.accept("offer"),
    lambda db, a, rev: db.counter_offers.withdraw(None),
    lambda db, a, rev: db.devices.provision("pad"),
    lambda db, a, rev: db.devices.provision(Device(external_id="", device_type="x", region="eu")),
    lambda db, a, rev: db.devices.heartbeat(uuid4()),
    lambda db, a, rev: db.devices.heartbeat("pad"),
    lambda db, a, rev: db.devices.heartbeat(uuid4(), [1]),
    lambda db, a, rev: db.devices.set_status(uuid4(), DeviceStatus.BUSY),
    lambda db, a, rev: db.device_tasks.enqueue(""),
    lambda db, a, rev: db.device_tasks.enqueue("x", application=uuid4()),
    lambda db, a, rev: db.device_tasks.enqueue("x", 5),
    lambda db, a, rev: db.device_tasks.take("pad"),
    lambda db, a, rev: db.device_tasks.finish(uuid4()),
    lambda db, a, rev: db.device_tasks.cancel("task"),
    lambda db, a, rev: db.fairness.dismiss(uuid4(), "note"),
    lambda db, a, rev: db.fairness.acknowledge("flag"),
    lambda db, a, rev: db.fairness.groups("sex", model_version=""),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
async def test_wrong_arguments_are_refused(db: Session, make: Make, number: int) -> None:
    application, rev = await scoring(db, make), await make.user()
    with pytest.raises((Invalid, NotFound)) as refused:
        await CALLS[number](db, application, rev)
    assert isinstance(refused.value, TallystickError)
    assert refused.value.remedy
    assert await db.decisions.count() == await db.reviews.count() == await db.devices.count() == 0
    assert await db.device_tasks.count() == await db.notices.count() == await db.counter_offers.count() == 0


async def test_a_reason_of_another_kind_is_refused_by_the_database(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    wrong: Any = [ReasonCode.BANKRUPTCY, "no such reason"]
    with pytest.raises(Invalid):
        await db.decisions.add(decision(application, Outcome.DECLINED, reasons=wrong))
