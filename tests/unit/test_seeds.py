"""Made-up data: the same everywhere, plausible, nobody's, and planted once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.lending.support import audit

from tallystick import (
    Application,
    ApplicationStatus,
    Decision,
    DecisionKind,
    Duplicate,
    EmploymentStatus,
    Invalid,
    Loan,
    LoanStatus,
    Outcome,
    RoleMissing,
    Session,
    Tallystick,
    less_than,
    secret,
    usd,
)
from tallystick.domains.underwriting.applications import STEPS
from tallystick.domains.underwriting.boarding import Boarded, board, way_to
from tallystick.domains.underwriting.counter_offers import OfferState
from tallystick.domains.underwriting.device_tasks import TaskState
from tallystick.domains.underwriting.devices import DeviceStatus
from tallystick.domains.underwriting.fairness import BiasFlag, FlagState
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.domains.underwriting.reviews import ReviewState
from tallystick.privacy.sealed import enc_hook, plaintext_of
from tallystick.seeds import (
    DEVICES,
    LOANS,
    NAMES,
    applications,
    community,
    devices,
    fairness,
    plant,
    reviews,
    scorecard,
    users,
    wanted,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def made(count: int = 1000, **other: Any) -> list[Boarded]:
    return list(applications.generate(count, **{"slug": "sunrise", "asset": "USD", "now": NOW, **other}))


def content(one: Boarded) -> Any:
    """Everything of an application but its ids, secrets opened."""
    a = one.application
    plain = msgspec.to_builtins(
        {n: getattr(a, n) for n in a.__struct_fields__ if n not in ("id", "ssn", "credit_score")}, enc_hook=enc_hook
    )
    decisions = [
        {n: getattr(d, n) for n in d.__struct_fields__ if n not in ("id", "application")} for d in one.decisions
    ]
    return plain, plaintext_of(a.ssn), one.status, decisions


def test_the_same_arguments_make_the_same_applications() -> None:
    assert [content(x) for x in made(50)] == [content(x) for x in made(50)]
    assert [content(x) for x in made(10)] == [content(x) for x in made(50)][:10]
    assert content(made(1)[0]) != content(made(1, seed=2)[0])
    assert content(made(1)[0]) != content(made(1, slug="harbour")[0])


def test_a_thousand_are_plausible() -> None:
    found = made()
    statuses = Counter(x.status for x in found)
    assert 0.55 < statuses[ApplicationStatus.APPROVED] / 1000 < 0.75
    assert 0.15 < statuses[ApplicationStatus.DECLINED] / 1000 < 0.35
    assert statuses[ApplicationStatus.REVIEW] > 0
    assert {x.application.employment_status for x in found} == set(EmploymentStatus)
    for x in found:
        a = x.application
        assert usd("1000") <= a.annual_income <= usd("70000")
        assert a.requested_amount is not None
        assert usd("100") <= a.requested_amount <= usd("30000")
        assert a.submitted_at is not None
        assert NOW - timedelta(days=91) < a.submitted_at < NOW
        assert a.decided_at is None or a.submitted_at < a.decided_at < NOW
    assert len({x.application.idempotency_key for x in found}) == 1000


def test_nobody_is_meant() -> None:
    found = made()
    numbers = [plaintext_of(x.application.ssn) for x in found]
    assert len(set(numbers)) == 1000
    assert all(n.startswith("666-") for n in numbers)
    assert all(str(x.application.email).endswith(".example.org") for x in found)
    assert all(str(x.application.phone).startswith("+1 202 555 01") for x in found)


def test_scores_explain_themselves_and_know_nothing_of_groups() -> None:
    for x in made():
        for d in x.decisions:
            if d.kind is DecisionKind.MODEL:
                assert d.shap is not None
                assert d.base_value is not None
                assert d.base_value + sum(Decimal(v) for v in d.shap.values()) == d.output_value
                assert d.risk_score == max(0, min(1000, int(d.output_value or 0)))
                assert not set(d.shap) & {"sex", "age", "age_band"}
    same = scorecard.Facts(EmploymentStatus.EMPLOYED, 3_000_000, 500_000, 12, 60, 0)
    assert scorecard.score(same, scorecard.points(same)) == scorecard.score(same, scorecard.points(same))
    worse = same._replace(employment=EmploymentStatus.UNEMPLOYED, late_payments=5, requested=9_000_000)
    assert scorecard.score(worse, scorecard.points(worse)) > scorecard.score(same, scorecard.points(same))


def test_decisions_agree_with_where_an_application_stands() -> None:
    for x in made():
        final = [d for d in x.decisions if d.is_final]
        if x.status in (ApplicationStatus.APPROVED, ApplicationStatus.DECLINED):
            assert [d.outcome.value for d in final] == [x.status.value]
        else:
            assert final == []


async def test_what_is_planted_is_what_was_made_and_only_once(db: Session) -> None:
    told: list[int] = []
    first = await applications.plant(db, 60, told.append)
    assert (first.added, first.present, sum(told)) == (60, 0, 60)
    again = await applications.plant(db, 80)
    assert (again.added, again.present) == (20, 60)
    stored = {x.idempotency_key: x async for x in db.applications.stream()}
    for one in applications.generate(80, slug=db.tenant.slug, asset="USD", now=db.now()):
        kept = stored[one.application.idempotency_key]
        assert kept.status is one.status
        assert kept.full_legal_name == one.application.full_legal_name
        assert await db.decisions.count(Decision.application == kept.id) == len(one.decisions)
    statistics = await db.applications.statistics()
    assert statistics.total == 80
    assert statistics.approved == sum(x.status is ApplicationStatus.APPROVED for x in stored.values())


async def test_users_are_planted_once(db: Session) -> None:
    assert (await users.plant(db)).added == len(users.USERS)
    assert (await users.plant(db)).added == 0
    found = await db.users.by_email(users.address("Grace", "Mensah", db.tenant.slug))
    assert found is not None
    assert found.first_name == "Grace"


async def test_reviewers_have_worked(db: Session) -> None:
    await users.plant(db)
    await board(db, made(400, now=db.now()))
    waiting = await db.applications.count(Application.status == ApplicationStatus.REVIEW)
    assert waiting > 10
    assert (await reviews.plant(db)).added == waiting
    assert (await reviews.plant(db)).present == waiting
    assert await db.reviews.count() == waiting
    states = Counter(task.state for task in await db.reviews.find())
    assert states == {
        ReviewState.RESOLVED: 4,
        ReviewState.EXPIRED: 3,
        ReviewState.CLAIMED: 2,
        ReviewState.ESCALATED: 1,
        ReviewState.OPEN: waiting - 10,
    }
    assert Counter(o.state for o in await db.counter_offers.find()) == dict.fromkeys(
        (OfferState.OFFERED, OfferState.APPROVED, OfferState.WITHDRAWN), 1
    )
    # Two declines, and the offer that was not taken.
    assert await db.notices.count() == 3
    assert len(await db.notices.due(db.today() + timedelta(days=30))) == 1


async def test_devices_have_worked(db: Session) -> None:
    assert (await devices.plant(db)).added == DEVICES + len(devices.TASKS)
    assert (await devices.plant(db)).added == 0
    found = await db.devices.find()
    assert {d.status for d in found} == set(DeviceStatus)
    assert len([d for d in found if d.last_heartbeat]) == DEVICES - 2
    assert {t.state for t in await db.device_tasks.find()} == set(TaskState)
    assert sum(d.tasks_done for d in found) == 4


async def test_the_monitor_flags_what_was_planted(db: Session) -> None:
    await board(db, made(250, now=db.now()))
    assert (await fairness.plant(db)).added == 2
    assert (await fairness.plant(db)).present == 2
    together, model = await db.fairness.find(order=BiasFlag.model_version)
    assert (together.attribute, together.group_label, together.state) == ("age_band", "25 and under", FlagState.OPEN)
    assert (model.model_version, model.state) == (scorecard.VERSION, FlagState.ACKNOWLEDGED)


async def test_a_community_lives(db: Session) -> None:
    assert (await community.plant(db)).added == community.MEMBERS + LOANS
    assert (await community.plant(db)).added == 0
    assert await db.loans.count() == LOANS
    await audit(db)
    made = await db.communities.by_slug(community.SLUG)
    assert made is not None
    assert await db.memberships.count() == community.MEMBERS
    assert sum((await db.trust.scores(made.id)).values()) == pytest.approx(1)
    assert await db.endorsements.count() == community.MEMBERS - 6
    late = less_than(Loan.oldest_due, db.today())
    assert await db.loans.exists(late)
    assert await db.loans.exists(Loan.status == LoanStatus.CLOSED)


async def test_seeds_by_name(tally: Tallystick) -> None:
    assert wanted("all") == NAMES
    assert wanted("tenants") == ("tenants",)
    assert wanted("users") == ("tenants", "users")
    assert wanted("reviews") == ("tenants", "users", "applications", "reviews")
    assert wanted("fairness") == ("tenants", "applications", "fairness")
    with pytest.raises(Invalid, match="no seed"):
        await plant(tally, "nobody")
    first = await plant(tally, "users")
    second = await plant(tally, "users")
    assert [(p.seed, p.tenant) for p in first] == [(p.seed, p.tenant) for p in second]
    assert sum(p.added for p in second) == 0


# -- boarding ------------------------------------------------------------------------------------------------------


def application(**fields: Any) -> Application:
    given = {
        "full_legal_name": "Ada Okafor",
        "ssn": secret("666-01-0001"),
        "annual_income": usd("30000"),
        "employment_status": EmploymentStatus.EMPLOYED,
    }
    return Application(**{**given, **fields})


def decision(of: Application, outcome: Outcome = Outcome.APPROVED, **fields: Any) -> Decision:
    why = {"reasons": [ReasonCode.BANKRUPTCY]} if outcome is Outcome.DECLINED else {}
    return Decision(application=of.ref, kind=DecisionKind.POLICY, outcome=outcome, **(why | fields))


@pytest.mark.parametrize("status", list(ApplicationStatus))
async def test_every_status_is_reached_by_legal_steps(db: Session, status: ApplicationStatus) -> None:
    way = way_to(status)
    for before, after in zip((ApplicationStatus.CREATED, *way), way, strict=False):
        assert after in STEPS[before]
    final = status in (ApplicationStatus.APPROVED, ApplicationStatus.DECLINED)
    one = application(decided_at=NOW if final else None)
    decisions = (decision(one, Outcome(status.value)),) if final else ()
    assert await board(db, [Boarded(application=one, status=status, decisions=decisions)]) == 1
    assert (await db.applications.get(one.id)).status is status


async def test_what_contradicts_itself_is_refused_before_anything_is_written(db: Session) -> None:
    decided, open_ = application(decided_at=NOW), application()
    approved = ApplicationStatus.APPROVED
    wrong = [
        Boarded(application=application(status=approved, decided_at=NOW), status=approved),
        Boarded(application=decided, status=approved),
        Boarded(application=decided, status=approved, decisions=(decision(decided, Outcome.DECLINED),)),
        Boarded(application=decided, status=approved, decisions=(decision(open_),)),
        Boarded(application=open_, status=approved, decisions=(decision(open_),)),
        Boarded(application=open_, status=ApplicationStatus.REVIEW, decisions=(decision(open_),)),
        Boarded(application=decided, status=ApplicationStatus.REVIEW),
        Boarded(
            application=decided,
            status=ApplicationStatus.DECLINED,
            decisions=(decision(decided, Outcome.DECLINED, reasons=None),),
        ),
    ]
    good = Boarded(application=application(), status=ApplicationStatus.SUBMITTED)
    for one in wrong:
        with pytest.raises(Invalid):
            await board(db, [good, one])
    assert await db.applications.count() == 0


async def test_boarding_is_all_or_nothing_and_needs_the_permission(db: Session, tally: Tallystick, tenant: str) -> None:
    first, second = (application(idempotency_key="same") for _ in range(2))
    with pytest.raises(Duplicate):
        await board(db, [Boarded(application=a, status=ApplicationStatus.SUBMITTED) for a in (first, second)])
    assert await db.applications.count() == 0
    async with tally.session(tenant, actor="user:x", permissions=()) as nobody:
        with pytest.raises(RoleMissing):
            await board(nobody, [])
