"""Events that the application records, and reading the log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from tallystick import AuditEvent, Invalid, RoleMissing, Tallystick
from tallystick.audit.entries import DOCUMENT
from tallystick.testing.conformance.entities import Shelf

FULL = AuditEvent(
    type="decision.made",
    category="decision",
    service="scoring",
    description="The model declined.",
    application=UUID(int=7),
    decision="declined",
    risk_score=612,
    confidence=Decimal("97.5"),
    user_role="underwriter",
    ip="2001:db8::1",
    user_agent="Mozilla/5.0",
    service_version="3.1",
    environment="production",
    data={"model": "m-4", "at": datetime(2026, 1, 1, tzinfo=UTC), "limit": Decimal("12.30")},
    previous_state={"status": "review"},
    new_state={"status": "declined"},
    metadata={"queue": ["a", "b"]},
    requirement="1002.9(a)(1)",
    regulation="ECOA",
    retention="credit",
    happened_at=datetime(2026, 1, 1, tzinfo=UTC),
)


async def test_an_event_with_everything(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="service:scoring", reason="nightly", permissions=("*",)) as db:
        seq = await db.audit.record(FULL)
        (entry,) = (await db.audit.entries("application", key=UUID(int=7))).items
        assert (entry.seq, entry.op, entry.actor, entry.reason) == (seq, "E", "service:scoring", "nightly")
        assert entry.event == json.loads(FULL.written(), parse_float=Decimal)
        assert entry.event["confidence"] == Decimal("97.50")
        assert entry.old is entry.new is None
        (small,) = (
            (await db.audit.entries("event")).items
            if await db.audit.record(AuditEvent(type="login", category="access", service="web"))
            else ()
        )
        assert small.event == {"type": "login", "category": "access", "service": "web"}


async def test_an_event_stands_and_falls_with_its_transaction(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                await db.audit.record(FULL)
                raise ZeroDivisionError
        assert (await db.audit.entries(ops="E")).items == []


WRONG: list[dict[str, Any]] = [
    {"type": ""}, {"type": "x" * 101}, {"type": 7}, {"category": None}, {"service": "a\0b"}, {"decision": "x" * 21},
    {"description": "\ud800"}, {"application": "not an id"}, {"risk_score": True}, {"risk_score": 2**31},
    {"risk_score": 1.5}, {"confidence": 0.5}, {"confidence": Decimal("NaN")}, {"confidence": Decimal(101)},
    {"ip": "300.1.1.1"}, {"ip": 7}, {"happened_at": datetime(2026, 1, 1)}, {"data": [1]}, {"data": {"x": object()}},
    {"data": {"x": "\0"}}, {"metadata": {"x": "y" * DOCUMENT}}, {"table": "t" * 64}, {"key": "k" * 201},
    {"regulation": "r" * 51}, {"user_agent": "u" * 501}, {"data": {"x": "\ud800"}},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda w: f"{next(iter(w))}-{WRONG.index(w)}")
async def test_what_is_wrong_with_an_event_is_said_without_saying_it(
    tally: Tallystick, tenant: str, wrong: dict[str, Any]
) -> None:
    given = {"type": "t", "category": "c", "service": "s", **wrong}
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        with pytest.raises(Invalid) as caught:
            await db.audit.record(AuditEvent(**given))
        ((name, value),) = wrong.items()
        assert caught.value.field == name
        assert value == "" or str(value) not in str(caught.value)
        assert (await db.audit.entries(ops="E")).items == []


async def test_only_events_are_recorded(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        with pytest.raises(Invalid):
            await db.audit.record({"type": "t"})  # type: ignore[arg-type]


async def test_pages_follow_each_other(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        shelves = await db[Shelf].add_many([Shelf(name=f"s{n}") for n in range(25)])
        seen: list[str] = []
        page = await db.audit.entries(Shelf, limit=10)
        while True:
            seen += [e.key for e in page.items]
            if page.next is None:
                break
            page = await db.audit.entries(Shelf, limit=10, after=page.next)
        assert seen == [str(s.id) for s in shelves]


async def test_filters(tally: Tallystick, tenant: str) -> None:
    start = datetime.now(UTC) - timedelta(minutes=5)
    async with tally.session(tenant, actor="user:1", permissions=("*",)) as db:
        shelf = await db[Shelf].add(Shelf(name="one"))
    async with tally.session(tenant, actor="user:2", permissions=("*",)) as db:
        changed = await db[Shelf].update(shelf, stock=2)
        await db[Shelf].add(Shelf(name="two"))
        find = db.audit.entries
        assert [e.op for e in (await find(Shelf, key=shelf.id)).items] == ["I", "U"]
        assert [e.changed for e in (await find(Shelf, key=shelf.id, ops="U")).items] == [("stock",)]
        assert [e.actor for e in (await find(Shelf, actor="user:1")).items] == ["user:1"]
        assert len((await find(since=start, actor="user:2")).items) == 2
        assert (await find(since=datetime.now(UTC) + timedelta(minutes=5))).items == []
        assert (await find(until=start)).items == []
        assert {e.table for e in (await find(since=start)).items} >= {"kit_shelf"}
        assert changed.version == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0}, {"limit": 1001}, {"limit": True}, {"after": "x"}, {"after": "-1"}, {"after": 7}, {"ops": "X"},
        {"key": uuid4()}, {"actor": "a"}, {"since": datetime(2026, 1, 1)}, {"until": "now"}, {"after": "9" * 30},
    ],
)  # fmt: skip
async def test_wrong_questions_are_refused(tally: Tallystick, tenant: str, wrong: dict[str, Any]) -> None:
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        with pytest.raises(Invalid):
            await db.audit.entries(**wrong)


async def test_reading_the_log_needs_the_permission(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=("applications.decide",)) as db:
        await db.audit.record(FULL)
        with pytest.raises(RoleMissing):
            await db.audit.entries()
