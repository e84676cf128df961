"""Manual review: claims, leases and four eyes; counter-offers and their ends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.underwriting.support import decision, scoring

from tallystick import (
    Application,
    ApplicationStatus,
    Conflict,
    DecisionKind,
    Denied,
    Duplicate,
    Invalid,
    Money,
    Outcome,
    RoleMissing,
    usd,
)
from tallystick.clock import FixedClock
from tallystick.domains.identity.users import UserRole, UserStatus
from tallystick.domains.underwriting.counter_offers import CounterOffer, OfferState
from tallystick.domains.underwriting.notices import NoticeBasis, NoticeChannel
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.domains.underwriting.reviews import ReviewState
from tallystick.errors import KeyReused, LeaseLost
from tallystick.fields import Ref
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

_S = ApplicationStatus


async def test_a_review_ends_in_the_final_decision(db: Session, make: Make) -> None:
    ada, rev = await make.user(), await make.user()
    application = await scoring(db, make, ada)
    task = await db.reviews.open(application.id, "income and loan do not fit")
    assert (await db.applications.get(application.id)).status is _S.REVIEW
    with pytest.raises(Duplicate):
        await db.reviews.open(application.id, "again")
    with pytest.raises(LeaseLost):
        await db.reviews.resolve(task, rev, Outcome.APPROVED)
    held = await db.reviews.take(task, rev)
    assert held.state is ReviewState.CLAIMED
    with pytest.raises(Invalid):
        await db.reviews.resolve(task, rev, Outcome.DECLINED)
    why = [ReasonCode.INCOME_INSUFFICIENT]
    done = await db.reviews.resolve(task, rev, Outcome.DECLINED, reasons=why, key="resolve-1")
    assert await db.reviews.resolve(task, rev, Outcome.DECLINED, reasons=why, key="resolve-1") == done
    with pytest.raises(KeyReused):
        await db.reviews.resolve(task, rev, Outcome.APPROVED, key="resolve-1")
    assert done.status is _S.DECLINED
    ended = await db.reviews.get(task.id)
    (made,) = await db.decisions.find()
    assert (ended.state, ended.decision, ended.resolved_by) == (ReviewState.RESOLVED, made.ref, Ref(rev.id))
    assert made.kind is DecisionKind.MANUAL
    with pytest.raises(Conflict):
        await db.reviews.open(application.id, "too late")


async def test_nobody_reviews_their_own_application_nor_their_own_override(db: Session, make: Make) -> None:
    ada, rev, other = [await make.user() for _ in range(3)]
    application = await scoring(db, make, ada)
    override = decision(application, Outcome.REVIEW, kind=DecisionKind.OVERRIDE, decided_by=Ref(rev.id), is_final=False)
    await db.applications.decide(application.id, override)
    task = await db.reviews.open(application.id, "overridden")
    with pytest.raises(Denied):
        await db.reviews.take(task, ada)
    assert await db.reviews.take_next(ada) is None
    assert await db.reviews.take_next(rev) is None
    await db.reviews.take(task, rev)
    with pytest.raises(Denied):
        await db.reviews.resolve(task, rev, Outcome.APPROVED)
    assert (await db.applications.get(application.id)).status is _S.REVIEW
    await db.reviews.release(task, rev)
    assert (await db.reviews.take_next(other)) is not None
    await db.reviews.resolve(task, other, Outcome.APPROVED)


async def test_a_lease_runs_out_and_a_claim_can_be_handed_on(db: Session, make: Make) -> None:
    first, second = await make.user(), await make.user()
    application = await scoring(db, make)
    task = await db.reviews.open(application.id, "look")
    await db.reviews.take(task, first, lease=timedelta(microseconds=1))
    with pytest.raises(LeaseLost):
        await db.reviews.resolve(task, first, Outcome.APPROVED)
    await db.reviews.take(task, second)
    with pytest.raises(Conflict):
        await db.reviews.take(task, first)
    passed = await db.reviews.escalate(task, second, "beyond my limit")
    assert (passed.state, passed.claimed_by) == (ReviewState.ESCALATED, None)
    assert await db.reviews.take_next(first) is None
    assert (await db.reviews.take(task, first)).state is ReviewState.CLAIMED
    assert await db.reviews.expire(db.now() + timedelta(hours=1)) == 1
    await db.reviews.open(application.id, "look again")


async def test_a_decision_made_elsewhere_ends_the_review(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    task = await db.reviews.open(application.id, "look")
    await db.applications.decide(application.id, decision(application))
    assert (await db.reviews.get(task.id)).state is ReviewState.EXPIRED


async def test_reviewers_act_for_themselves(db: Session, make: Make, sandbox: Sandbox, tenant: str) -> None:
    first, second = [await make.user(status=UserStatus.ACTIVE, role=UserRole.REVIEWER) for _ in range(2)]
    application = await scoring(db, make)
    task = await db.reviews.open(application.id, "look")
    async with sandbox.session(tenant, actor=f"user:{first.id}", permissions=None) as mine:
        for wrong in (
            lambda: mine.reviews.take(task, second),
            lambda: mine.reviews.update(task, state=ReviewState.EXPIRED),
            lambda: mine.applications.decide(application.id, decision(application)),
            lambda: mine.counter_offers.offer(decision(application, Outcome.COUNTER_OFFER), usd("1"), 12),
        ):
            with pytest.raises(RoleMissing):
                await wrong()
        await mine.reviews.take(task, first)
        why = [ReasonCode.INCOME_UNVERIFIABLE]
        done = await mine.reviews.resolve(task, first, Outcome.DECLINED, reasons=why)
        assert done.status is _S.DECLINED
        (notice,) = await mine.notices.find()
        assert (await mine.notices.sent(notice, NoticeChannel.EMAIL)).sent_at is not None
    async with sandbox.session(tenant, actor="somebody", permissions=()) as nobody:
        with pytest.raises(RoleMissing):
            await nobody.reviews.open(application.id, "look")


async def offered(
    db: Session, make: Make, good_for: timedelta = timedelta(days=30)
) -> tuple[Application, CounterOffer]:
    application = await scoring(db, make)
    await db.reviews.open(application.id, "too much")
    given = decision(application, Outcome.COUNTER_OFFER, kind=DecisionKind.MANUAL)
    return application, await db.counter_offers.offer(given, usd("5000"), 24, good_for=good_for)


async def test_a_counter_offer_taken_approves(db: Session, make: Make) -> None:
    application, offer = await offered(db, make)
    assert (await db.applications.get(application.id)).status is _S.COUNTER_OFFERED
    with pytest.raises(Conflict):
        await db.counter_offers.expire(offer)
    done = await db.counter_offers.accept(offer, key="accept-1")
    assert (await db.counter_offers.accept(offer.id, key="accept-1")).id == done.id
    assert (done.status, (await db.counter_offers.get(offer.id)).state) == (_S.APPROVED, OfferState.APPROVED)
    assert [d.is_final for d in await db.decisions.find()] == [False, True]
    for late in (db.counter_offers.accept, db.counter_offers.withdraw, db.counter_offers.expire):
        with pytest.raises(Conflict):
            await late(offer)


async def test_a_counter_offer_refused_or_run_out(db: Session, make: Make) -> None:
    _, offer = await offered(db, make)
    assert (await db.counter_offers.withdraw(offer)).status is _S.WITHDRAWN
    _, offer = await offered(db, make, timedelta(microseconds=1))
    with pytest.raises(Conflict):
        await db.counter_offers.accept(offer)
    assert (await db.counter_offers.expire(offer)).status is _S.EXPIRED


async def test_bad_offers_are_refused_and_nothing_is_written(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    given = decision(application, Outcome.COUNTER_OFFER)
    with pytest.raises(Conflict):
        await db.counter_offers.offer(given, usd("5000"), 24)
    await db.reviews.open(application.id, "look")
    for wrong in (usd("0"), usd("-1")):
        with pytest.raises(Invalid):
            await db.counter_offers.offer(given, wrong, 24)
    with pytest.raises(Invalid):
        await db.counter_offers.offer(given, usd("1"), 0)
    with pytest.raises(Invalid):
        await db.counter_offers.offer(decision(application), usd("1"), 12)
    other = "EUR" if application.annual_income.asset == "USD" else "USD"
    for money in (Money(100, other), 100, None):
        with pytest.raises(Invalid):
            await db.counter_offers.offer(given, money, 12)  # type: ignore[arg-type]
    assert (await db.decisions.count(), await db.counter_offers.count()) == (0, 0)


async def test_what_was_escalated_stays_so(db: Session, make: Make, sandbox: Sandbox, tenant: str) -> None:
    junior, senior = [
        await make.user(status=UserStatus.ACTIVE, role=r) for r in (UserRole.REVIEWER, UserRole.UNDERWRITER)
    ]
    application = await scoring(db, make)
    task = await db.reviews.open(application.id, "look")
    async with (
        sandbox.session(tenant, actor=f"user:{junior.id}", permissions=None) as low,
        sandbox.session(tenant, actor=f"user:{senior.id}", permissions=None) as high,
    ):
        await low.reviews.take(task, junior)
        await low.reviews.escalate(task, junior, "beyond my limit")
        with pytest.raises(RoleMissing):
            await low.reviews.take(task, junior)
        await high.reviews.take(task, senior)
        assert (await high.reviews.release(task, senior)).state is ReviewState.ESCALATED
        with pytest.raises(RoleMissing):
            await low.reviews.take(task, junior)
        await high.reviews.take(task, senior, lease=timedelta(microseconds=1))
        # Over, and yet not the junior's.
        assert await low.reviews.take_next(junior) is None
        with pytest.raises(RoleMissing):
            await low.reviews.take(task, junior)
        await high.reviews.take(task, senior)
        assert (await high.reviews.resolve(task, senior, Outcome.APPROVED)).status is _S.APPROVED
        (made,) = await db.decisions.find()
        assert made.decided_by == senior.ref


async def test_who_entered_an_application_does_not_review_it(
    db: Session, make: Make, sandbox: Sandbox, tenant: str
) -> None:
    clerk, other = [await make.user(status=UserStatus.ACTIVE, role=UserRole.UNDERWRITER) for _ in range(2)]
    async with sandbox.session(tenant, actor=f"user:{clerk.id}", permissions=None) as mine:
        application = await mine.applications.submit(make.build(Application))
        for status in (_S.VERIFYING, _S.SCORING):
            await mine.applications.move([application.id], status)
        task = await mine.reviews.open(application.id, "look")
        assert await mine.reviews.take_next(clerk) is None
        with pytest.raises(Denied):
            await mine.reviews.take(task, clerk)
        # Nor does another name help, nor going past the review.
        with pytest.raises(RoleMissing):
            await mine.reviews.take(task, other)
        with pytest.raises(RoleMissing):
            await mine.applications.decide(
                application.id, decision(application, kind=DecisionKind.MANUAL, decided_by=other.ref)
            )
        with pytest.raises(Denied):
            await mine.applications.decide(application.id, decision(application, kind=DecisionKind.MANUAL))
    async with sandbox.session(tenant, actor=f"user:{other.id}", permissions=None) as theirs:
        await theirs.reviews.take(task, other)
        assert (await theirs.reviews.resolve(task, other, Outcome.APPROVED)).status is _S.APPROVED


async def test_a_task_of_an_application_that_went_on_is_nobodys(db: Session, make: Make) -> None:
    rev = await make.user()
    application = await scoring(db, make)
    task = await db.reviews.open(application.id, "look")
    await db.decisions.add(decision(application))
    assert await db.reviews.take_next(rev) is None
    with pytest.raises(Conflict):
        await db.reviews.take(task, rev)


async def test_an_offer_and_its_answers_are_repeated_with_their_keys(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    await db.reviews.open(application.id, "too much")
    given = decision(application, Outcome.COUNTER_OFFER)
    first, again = [await db.counter_offers.offer(given, usd("5000"), 24, key="offer-1") for _ in range(2)]
    assert first == again
    with pytest.raises(KeyReused):
        await db.counter_offers.offer(given, usd("4000"), 24, key="offer-1")
    out = [await db.counter_offers.withdraw(first, key="no-1") for _ in range(2)]
    assert out[0] == out[1]
    (notice,) = await db.notices.find()
    assert (notice.basis, notice.decision) == (NoticeBasis.COUNTER_OFFER, first.decision)
    assert notice.due_on - notice.counted_from == timedelta(days=90)
    assert (await db.notices.sent(notice.ref, NoticeChannel.MAIL)).sent_at is not None


async def test_offers_that_ran_out_are_ended_together(db: Session, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FixedClock(db.now())
    monkeypatch.setattr(db._app, "clock", clock)
    made = [await offered(db, make, timedelta(days=days)) for days in (1, 2, 30)]
    assert await db.counter_offers.expire_due() == 0
    clock.advance(timedelta(days=2))
    assert await db.counter_offers.expire_due() == 2
    assert await db.counter_offers.expire_due() == 0
    found = [(await db.applications.get(application.id)).status for application, _ in made]
    assert found == [_S.EXPIRED, _S.EXPIRED, _S.COUNTER_OFFERED]
    start = db.today() - timedelta(days=2)
    assert {(n.basis, n.counted_from, n.due_on) for n in await db.notices.find()} == {
        (NoticeBasis.COUNTER_OFFER, start, start + timedelta(days=90))
    }
