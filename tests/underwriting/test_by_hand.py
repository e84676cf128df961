"""What no hand can do, not even in SQL as the application's role: decide past decisions, sign alone, empty a place."""

from __future__ import annotations

from uuid import uuid4

import pytest
from tests.underwriting.support import decision, scoring

from tallystick import (
    Application,
    ApplicationStatus,
    DecisionKind,
    Denied,
    Device,
    Duplicate,
    Invalid,
    InvalidTransition,
    Outcome,
    QuotaExceeded,
    Ref,
    Tallystick,
    TallystickError,
    usd,
)
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.session import Session
from tallystick.testing import Make

_S = ApplicationStatus
_SET = "UPDATE tally.application SET {} WHERE tenant_id = $1 AND id = $2"


async def _sql(db: Session, changes: str, application: Application) -> None:
    """Statements as the application's role, in a savepoint."""
    async with db.transaction():
        await db.unit.call(_SET.format(changes), (db.tenant_id, application.id))


@pytest.mark.parametrize("status", [_S.APPROVED, _S.DECLINED, _S.COUNTER_OFFERED])
async def test_no_call_sets_a_status_that_a_decision_sets(db: Session, make: Make, status: ApplicationStatus) -> None:
    application = await scoring(db, make)
    for attempt in (
        db.applications.update(application, status=status),
        db.applications.update_where(Application.id == application.id, status=status),
        db.applications.move([application.id], status),
        db.applications.upsert(make.build(Application, status=status, idempotency_key="x"), on="idempotency_key"),
    ):
        with pytest.raises(Invalid) as refused:
            await attempt
        assert "decide" in refused.value.remedy
    assert await db.applications.get(application.id) == application


@pytest.mark.parametrize("before", [_S.SCORING, _S.REVIEW])
async def test_sql_sets_no_decided_status(db: Session, make: Make, before: ApplicationStatus) -> None:
    application = await scoring(db, make)
    if before is _S.REVIEW:
        await db.applications.decide(application.id, decision(application, Outcome.REVIEW))
    for status in ("approved", "declined"):
        for changes in (f"status = '{status}'", f"status = '{status}', decided_at = now()", "decided_at = now()"):
            with pytest.raises((Denied, Invalid)):
                await _sql(db, changes, application)
    found = await db.applications.get(application.id)
    assert (found.status, found.decided_at) == (before, None)


async def test_a_decision_alone_decides_even_one_added_by_hand(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    made = await db.decisions.add(decision(application, decided_at=db.now()))
    found = await db.applications.get(application.id)
    assert (found.status, found.decided_at) == (_S.APPROVED, made.decided_at)
    assert found.version == application.version + 1
    for changes in ("status = 'declined'", "status = 'review'", "decided_at = NULL"):
        with pytest.raises((Denied, Invalid, InvalidTransition)):
            await _sql(db, changes, application)
    with pytest.raises(Duplicate):
        await db.decisions.add(decision(application, Outcome.DECLINED, seq=2, reasons=[ReasonCode.BANKRUPTCY]))
    for statement in (
        "UPDATE tally.decision SET outcome = 'declined' WHERE tenant_id = $1",
        "DELETE FROM tally.decision WHERE tenant_id = $1",
    ):
        with pytest.raises((Denied, Invalid)):
            async with db.transaction():
                await db.unit.call(statement, (db.tenant_id,))


async def test_an_application_not_in_scoring_takes_no_final_decision_by_hand(db: Session, make: Make) -> None:
    application = await make(Application)
    with pytest.raises(InvalidTransition):
        await db.decisions.add(decision(application))
    assert await db.decisions.count() == 0
    assert (await db.applications.get(application.id)).status is _S.CREATED


async def test_while_an_offer_stands_no_status_follows_it(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    await db.reviews.open(application.id, "look")
    offer = await db.counter_offers.offer(decision(application, Outcome.COUNTER_OFFER), usd("5000"), 24)
    for status in ("withdrawn", "expired", "approved"):
        with pytest.raises((Denied, Invalid)):
            await _sql(db, f"status = '{status}'", application)
    with pytest.raises(Denied):
        await db.decisions.add(decision(application, seq=2))
    with pytest.raises(TallystickError):
        await db.applications.withdraw(application.id)
    assert (await db.counter_offers.accept(offer)).status is _S.APPROVED


async def test_whoever_applies_or_entered_or_decided_before_does_not_sign(
    db: Session, make: Make, tally: Tallystick, tenant: str
) -> None:
    ada, rev, other = [await make.user() for _ in range(3)]
    application = await scoring(db, make, ada)
    with pytest.raises(Denied):
        await db.applications.decide(
            application.id, decision(application, kind=DecisionKind.MANUAL, decided_by=ada.ref)
        )
    opinion = decision(application, Outcome.REVIEW, kind=DecisionKind.OVERRIDE, decided_by=rev.ref)
    await db.applications.decide(application.id, opinion)
    signed = decision(application, kind=DecisionKind.MANUAL, decided_by=rev.ref)
    with pytest.raises(Denied):
        await db.applications.decide(application.id, signed)
    with pytest.raises(Denied):
        await db.decisions.add(decision(application, seq=2, kind=DecisionKind.MANUAL, decided_by=rev.ref))
    done = await db.applications.decide(
        application.id, decision(application, kind=DecisionKind.MANUAL, decided_by=other.ref)
    )
    assert done.status is _S.APPROVED


async def test_places_of_devices_are_counted_whoever_adds_them(db: Session, tally: Tallystick) -> None:
    await tally.tenants.update(db, max_devices=2)

    def pad(n: int) -> Device:
        return Device(external_id=f"pad-{n}", device_type="android", region="eu")

    await db.devices.add(pad(1))
    second = await db.devices.provision(pad(2))
    for attempt in (db.devices.add(pad(3)), db.devices.provision(pad(3)), db.devices.add_many([pad(3), pad(4)])):
        with pytest.raises(QuotaExceeded) as refused:
            await attempt
        assert (refused.value.metric, refused.value.limit) == ("devices", 2)
    await db.devices.decommission(second)
    await db.devices.provision(pad(3))
    with pytest.raises(QuotaExceeded):
        await db.devices.provision(pad(4))
    assert await db.devices.count() == 3


async def test_rows_of_others_are_as_missing_ones(db: Session, make: Make, tally: Tallystick) -> None:
    slug = f"other-{uuid4().hex[:12]}"
    await tally.tenants.create(slug, name="Other")
    mine = await scoring(db, make)
    task = await db.reviews.open(mine.id, "look")
    async with tally.session(slug, actor="thief", permissions=["*"]) as thief:
        here = await thief.users.add(make.build(type(await make.user())))
        calls = [
            lambda id: thief.applications.decide(id, decision(Application_(id))),
            lambda id: thief.applications.withdraw(id),
            lambda id: thief.reviews.open(id, "look"),
            lambda id: thief.device_tasks.enqueue("steal", application=id),
        ]
        for call in calls:
            seen = []
            for id in (mine.id, uuid4()):
                with pytest.raises(TallystickError) as refused:
                    await call(id)
                seen.append((type(refused.value), refused.value.remedy))
            assert seen[0] == seen[1]
        told = []
        for id in (task.id, uuid4()):
            with pytest.raises(TallystickError) as refused:
                await thief.reviews.take(id, here)
            told.append((type(refused.value), refused.value.remedy))
        assert told[0] == told[1]
        assert await thief.applications.move([mine.id], _S.REVIEW) == 0
        assert (await thief.applications.statistics()).total == 0


class Application_:
    def __init__(self, id: object) -> None:
        self.id = id


async def test_references_that_are_equal_are_not_unequal() -> None:
    id = uuid4()
    assert (Ref(id) != Ref(id)) is False
    assert Ref(id) != Ref(uuid4())
