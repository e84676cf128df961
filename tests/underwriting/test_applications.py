"""Applications on their way: submitted against the month's quota, lacking something, taken back, counted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from tests.underwriting.support import decision, scoring

from tallystick import (
    Application,
    ApplicationStatus,
    Conflict,
    DecisionKind,
    Duplicate,
    Invalid,
    InvalidTransition,
    KeyReused,
    NoticeBasis,
    NoticeChannel,
    Outcome,
    QuotaExceeded,
    RoleMissing,
    Tallystick,
    UserRole,
    UserStatus,
    usd,
)
from tallystick.clock import FixedClock
from tallystick.domains.underwriting.boarding import board
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.domains.underwriting.reviews import ReviewState
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

_S = ApplicationStatus


async def used(db: Session) -> int:
    """What is used of this month's quota, by using one more."""
    return await db.consume("applications") - 1


async def test_a_submission_repeated_with_its_key_is_one(db: Session, make: Make) -> None:
    given = make.build(Application, idempotency_key=None)
    first = await db.applications.submit(given, key="submit-1")
    again = await db.applications.submit(given, key="submit-1")
    assert (first.id, first.status) == (again.id, _S.SUBMITTED)
    assert first.submitted_at is not None
    assert await db.applications.count() == 1
    with pytest.raises(KeyReused):
        await db.applications.submit(make.build(Application, annual_income=usd("1")), key="submit-1")
    twice = make.build(Application, idempotency_key="mine")
    await db.applications.submit(twice)
    with pytest.raises(Duplicate):
        await db.applications.submit(make.build(Application, idempotency_key="mine"))
    assert await used(db) == 2


async def test_every_way_to_submit_counts_once_and_boarding_not(db: Session, make: Make, tally: Tallystick) -> None:
    await tally.tenants.update(db, max_applications_per_month=3)
    made = [await make(Application) for _ in range(5)]
    await db.applications.update(made[0], status=_S.SUBMITTED)
    assert await db.applications.move([made[0].id, made[1].id], _S.SUBMITTED) == 1
    assert await db.applications.update_where(Application.id == made[2].id, status=_S.SUBMITTED) == 1
    for attempt in (
        db.applications.move([made[3].id, made[4].id], _S.SUBMITTED),
        db.applications.update(made[3], status=_S.SUBMITTED),
        db.applications.update_where(Application.status == _S.CREATED, status=_S.SUBMITTED),
        db.applications.submit(make.build(Application)),
    ):
        with pytest.raises(QuotaExceeded) as refused:
            await attempt
        assert (refused.value.metric, refused.value.limit) == ("applications", 3)
    assert await db.applications.count(Application.status == _S.SUBMITTED) == 3
    assert await db.applications.count(Application.status == _S.CREATED) == 2
    await tally.tenants.update(db, max_applications_per_month=4)
    await db.applications.move([made[3].id], _S.SUBMITTED)
    await tally.tenants.update(db, max_applications_per_month=1)
    with pytest.raises(QuotaExceeded):
        await db.applications.move([made[4].id], _S.SUBMITTED)


async def test_the_month_is_the_tenants(
    db: Session, make: Make, sandbox: Sandbox, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sandbox.tally.tenants.update(db, max_applications_per_month=1, time_zone="Africa/Lagos")
    clock = FixedClock(datetime(2026, 1, 31, 22, 30, tzinfo=UTC))
    monkeypatch.setattr(sandbox.tally, "clock", clock)
    async with sandbox.session(tenant, actor="desk") as desk:
        assert desk.today() == date(2026, 1, 31)
        await desk.applications.submit(make.build(Application))
        with pytest.raises(QuotaExceeded):
            await desk.applications.submit(make.build(Application))
        clock.advance(timedelta(hours=1))
        # Half past midnight of the first of February in Lagos, still January by UTC.
        await desk.applications.submit(make.build(Application))
        with pytest.raises(QuotaExceeded):
            await desk.applications.submit(make.build(Application))


async def test_what_lacks_something_is_asked_for_and_runs_out(
    db: Session, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FixedClock(datetime(2026, 3, 2, 9, tzinfo=UTC))
    monkeypatch.setattr(db._app, "clock", clock)
    made = [await db.applications.submit(make.build(Application)) for _ in range(3)]
    clock.advance(timedelta(days=3))
    until = clock.now() + timedelta(days=21)
    for one in made:
        asked = await db.applications.incomplete(one.id, "A payslip of the last three months.", answer_by=until)
        assert (asked.status, asked.expires_at) == (_S.INCOMPLETE, until)
    notices = await db.notices.find()
    assert {(n.basis, n.decision, n.counted_from, n.due_on) for n in notices} == {
        (NoticeBasis.INCOMPLETE, None, date(2026, 3, 2), date(2026, 4, 1))
    }
    with pytest.raises(Conflict):
        await db.applications.incomplete(made[0].id, "more", answer_by=until)
    before = await used(db)
    clock.advance(timedelta(days=2))
    assert await db.applications.move([made[0].id], _S.SUBMITTED) == 1
    assert await used(db) == before + 1  # what asked, and nothing for submitting again
    assert (await db.applications.get(made[0].id)).submitted_at == clock.now()
    await db.applications.withdraw(made[1].id)
    due = await db.notices.due(date(2026, 4, 1))
    assert [n.application for n in due] == [made[2].ref]
    moot = next(n for n in await db.notices.find() if n.application == made[0].ref)
    with pytest.raises(Conflict):
        await db.notices.sent(moot, NoticeChannel.MAIL)
    assert await db.applications.expire() == 0
    clock.set(until)
    assert await db.applications.expire() == 1
    assert (await db.applications.get(made[2].id)).status is _S.EXPIRED
    assert len(await db.notices.due(date(2026, 4, 1))) == 1


async def test_a_notice_counts_from_the_day_that_the_application_was_complete(
    db: Session, make: Make, sandbox: Sandbox, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sandbox.tally.tenants.update(db, time_zone="America/New_York")
    # Eight in the evening of the first in New York.
    clock = FixedClock(datetime(2026, 7, 2, 0, tzinfo=UTC))
    monkeypatch.setattr(sandbox.tally, "clock", clock)
    async with sandbox.session(tenant, actor="desk") as desk:
        application = await desk.applications.submit(make.build(Application))
        await desk.applications.incomplete(application.id, "A signature.", answer_by=clock.now() + timedelta(days=9))
        clock.advance(timedelta(days=4))
        ids = [application.id]
        for status in (_S.SUBMITTED, _S.VERIFYING, _S.SCORING):
            await desk.applications.move(ids, status)
        clock.advance(timedelta(days=40))
        why = [ReasonCode.INCOME_INSUFFICIENT]
        await desk.applications.decide(application.id, decision(application, Outcome.DECLINED, reasons=why))
        (notice,) = [n for n in await desk.notices.find() if n.basis is NoticeBasis.APPLICATION]
        assert (notice.counted_from, notice.due_on) == (date(2026, 7, 5), date(2026, 8, 4))
        assert notice.decided_on == date(2026, 8, 14)
        assert await desk.notices.due() == [notice]


async def test_an_applicant_takes_an_application_back(db: Session, make: Make, sandbox: Sandbox, tenant: str) -> None:
    ada, other = [await make.user(status=UserStatus.ACTIVE, role=UserRole.BORROWER) for _ in range(2)]
    application = await scoring(db, make, ada)
    task = await db.reviews.open(application.id, "look")
    async with sandbox.session(tenant, actor=f"user:{other.id}", permissions=None) as hers:
        with pytest.raises(RoleMissing):
            await hers.applications.withdraw(application.id)
    async with sandbox.session(tenant, actor=f"user:{ada.id}", permissions=None) as mine:
        assert (await mine.applications.withdraw(application.id)).status is _S.WITHDRAWN
        with pytest.raises(RoleMissing):
            await mine.applications.move([application.id], _S.SCORING)
    assert (await db.reviews.get(task.id)).state is ReviewState.EXPIRED
    decided = await scoring(db, make)
    await db.applications.decide(decided.id, decision(decided))
    with pytest.raises(InvalidTransition):
        await db.applications.withdraw(decided.id)
    assert (await db.applications.get(decided.id)).status is _S.APPROVED


async def test_to_bring_an_application_further_takes_the_permission(
    db: Session, make: Make, tally: Tallystick, tenant: str
) -> None:
    async with tally.session(tenant, actor="shop", permissions=()) as shop:
        application = await shop.applications.submit(make.build(Application))
        for attempt in (
            shop.applications.move([application.id], _S.VERIFYING),
            shop.applications.update(application, status=_S.VERIFYING),
            shop.applications.update_where(Application.id == application.id, status=_S.VERIFYING),
            shop.applications.incomplete(application.id, "x", answer_by=shop.now() + timedelta(days=1)),
            shop.applications.expire(),
            shop.applications.withdraw(application.id),
        ):
            with pytest.raises(RoleMissing):
                await attempt
        assert (await shop.applications.update(application, purpose="a boat")).purpose == "a boat"


async def test_addresses_are_addresses(db: Session, make: Make) -> None:
    for wrong in ("nonsense", "192.0.2.7:80", "192.0.2.0/24", "", "300.1.1.1"):
        with pytest.raises(Invalid) as refused:
            await db.applications.submit(make.build(Application, ip_address=wrong))
        assert not wrong or wrong not in str(refused.value)
    for fine in ("192.0.2.7", "2001:db8::1", None):
        await db.applications.submit(make.build(Application, ip_address=fine))
    assert await db.applications.count() == 3


async def test_statistics_of_a_tenant_and_of_a_period(db: Session, make: Make) -> None:
    empty = await db.applications.statistics()
    assert (empty.total, empty.approved, empty.declined, empty.pending, empty.average_risk) == (0, 0, 0, 0, None)
    why = [ReasonCode.INCOME_INSUFFICIENT]
    model = {"kind": DecisionKind.MODEL, "model_version": "m1"}
    one, two, three = [await scoring(db, make) for _ in range(3)]
    await make(Application)
    await db.applications.decide(one.id, decision(one, risk_score=300, **model))
    await db.applications.decide(two.id, decision(two, Outcome.REVIEW, risk_score=640, **model))
    # The person decides at the model's score, which the average is to know.
    await db.applications.decide(two.id, decision(two, Outcome.DECLINED, kind=DecisionKind.MANUAL, reasons=why))
    await db.applications.decide(three.id, decision(three))
    found = await db.applications.statistics()
    assert (found.total, found.approved, found.declined, found.pending) == (4, 2, 1, 1)
    assert found.average_risk == Decimal(470)
    later = db.now() + timedelta(days=1)
    assert (await db.applications.statistics(later)).total == 0
    whole = await db.applications.statistics(None, later)
    assert (whole.total, whole.declined, whole.average_risk) == (4, 1, Decimal(470))
    assert (await db.applications.statistics(later)).average_risk is None
    assert (await db.applications.statistics(later, db.now())).total == 0
    for since in ("2026-01-01", date(2026, 1, 1), datetime(2026, 1, 1)):
        with pytest.raises(Invalid):
            await db.applications.statistics(since)  # type: ignore[arg-type]


async def test_what_is_moved_is_named_by_ids(db: Session, make: Make) -> None:
    application = await db.applications.submit(make.build(Application))
    for wrong in ("abc", [str(application.id)], None, 5, [None]):
        with pytest.raises(Invalid):
            await db.applications.move(wrong, _S.VERIFYING)  # type: ignore[arg-type]
    for status in ("verifying", None, 5):
        with pytest.raises(Invalid):
            await db.applications.move([application.id], status)  # type: ignore[arg-type]
    other = await make(Application)
    with pytest.raises(InvalidTransition):
        await db.applications.move([application.id, other.id], _S.VERIFYING)
    assert (await db.applications.get(application.id)).status is _S.SUBMITTED
    assert await db.applications.move([], _S.VERIFYING) == 0
    assert await db.applications.move([uuid4()], _S.VERIFYING) == 0
    assert await db.applications.move((application.id,), _S.VERIFYING) == 1
    for given in ("x", ["x"], None):
        with pytest.raises(Invalid):
            await board(db, given)  # type: ignore[arg-type]
