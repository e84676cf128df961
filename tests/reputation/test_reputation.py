"""Reputation: evidence in, standing out, and a series of records that is only ever added to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.reputation.support import DAY, agreed, done

from tallystick import (
    AIAnalysis,
    Conflict,
    Duplicate,
    Invalid,
    Purpose,
    ReputationEvidence,
    ReputationPolicy,
    ReputationRecord,
    ReputationStatus,
    RoleMissing,
    Score,
    ScoringCategory,
    ScoringPeriod,
    UnknownReference,
    Unsupported,
    uuid7,
)
from tallystick.entity import with_fields
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

POLICY = ReputationPolicy(half_life_days=Decimal(30))
_S, _P, _C = ReputationStatus, ScoringPeriod, ScoringCategory


async def test_decay_is_worked_out_when_somebody_asks(db: Session, make: Make):
    ada = await make.user()
    await db.reputation.observe(ada, good=True, count=9, at=DAY)
    await db.reputation.observe(ada, good=False, at=DAY)
    now = await db.reputation.standing(ada, as_of=DAY, policy=POLICY)
    assert (now.beta.alpha, now.beta.beta, now.score, now.evidence_count) == (10, 2, 833, 10)
    later = await db.reputation.standing(ada, as_of=DAY + timedelta(days=30), policy=POLICY)
    assert (later.beta.alpha, later.beta.beta, later.score) == (Decimal("5.5"), Decimal("1.5"), 786)
    again = await db.reputation.standing(ada, as_of=DAY + timedelta(days=30), policy=POLICY)
    assert again == later
    before = await db.reputation.standing(ada, as_of=DAY - timedelta(seconds=1), policy=POLICY)
    assert (before.score, before.evidence_count, before.last_at) == (500, 0, None)
    assert (await db.reputation.standing(uuid7(), policy=POLICY)).score == 500
    stored = await db[ReputationEvidence].find()
    assert sorted(e.count for e in stored) == [1, 9]


async def test_an_experience_counts_once_and_can_be_cancelled(db: Session, make: Make):
    ada = await make.user()
    one = await db.reputation.observe(ada, good=False, count=3, at=DAY, external_id="loan-7")
    with pytest.raises(Duplicate):
        await db.reputation.observe(ada, good=False, count=3, at=DAY, external_id="loan-7")
    await db.reputation.observe(ada, _C.DEFI, good=True, at=DAY, external_id="loan-7")
    assert (await db.reputation.standing(ada, policy=POLICY)).evidence_count == 3
    gone = await db.reputation.cancel(one, reason="it was the bank's mistake")
    assert (await db.reputation.standing(ada, policy=POLICY)).evidence_count == 0
    # What was known then is known as of then.
    assert (await db.reputation.standing(ada, as_of=DAY, policy=POLICY)).evidence_count == 3
    with pytest.raises(Duplicate):
        await db.reputation.cancel(one.id, reason="again")
    with pytest.raises(Invalid):
        await db.reputation.cancel(gone, reason="and back")
    with pytest.raises(Unsupported):
        await db[ReputationEvidence].purge(one, reason="no")


async def test_a_period_has_one_record_and_remembers_the_one_before(db: Session, make: Make):
    ada = await make.user()
    records = []
    for day in range(3):
        at = DAY + timedelta(days=day)
        await db.reputation.observe(ada, good=True, count=2, at=at)
        records.append(await db.reputation.publish(ada, at=at, policy=POLICY))
        with pytest.raises(Duplicate):
            await db.reputation.publish(ada, at=at + timedelta(hours=1), policy=POLICY)
    assert [r.previous for r in records] == [None, records[0].score, records[1].score]
    assert records[0].score == 750
    assert records[0].score < records[1].score < records[2].score
    assert records[0].period_start == datetime(2026, 3, 2, tzinfo=UTC)
    assert records[0].half_life_days == 30
    assert await db.reputation.series(ada) == records
    week = await db.reputation.publish(ada, period=_P.WEEKLY, at=DAY + timedelta(days=2), policy=POLICY)
    month = await db.reputation.publish(ada, period=_P.MONTHLY, at=DAY + timedelta(days=2), policy=POLICY)
    moment = await db.reputation.publish(ada, period=_P.INSTANT, at=DAY + timedelta(days=2), policy=POLICY)
    assert week.period_start == datetime(2026, 3, 2, tzinfo=UTC)
    assert month.period_start == datetime(2026, 3, 1, tzinfo=UTC)
    assert moment.period_start == DAY + timedelta(days=2)
    assert week.score == month.score == moment.score == records[2].score


async def test_a_records_score_halves_in_a_half_life(db: Session, make: Make):
    ada = await make.user()
    await db.reputation.observe(ada, good=True, count=3, at=DAY)
    record = await db.reputation.publish(ada, at=DAY, policy=POLICY)
    assert (record.score, record.score_at(DAY)) == (800, 800)
    assert record.score_at(DAY + timedelta(days=30)) == 400
    assert record.score_at(DAY + timedelta(days=60)) == 200
    with pytest.raises(Invalid):
        record.score_at(DAY - timedelta(days=1))
    with pytest.raises(Invalid):
        record.score_at(datetime(2026, 4, 2))
    for_ever = await db.reputation.publish(ada, _C.DEFI, at=DAY, policy=ReputationPolicy(half_life_days=None))
    assert for_ever.score_at(DAY + timedelta(days=9000)) == 500
    with pytest.raises(Invalid):
        for_ever.score_at(DAY - timedelta(microseconds=1))


async def test_what_comes_late_is_as_if_it_had_come_in_time(db: Session, make: Make):
    """Whatever the order in which experiences are told of, and in what portions, not a digit differs."""
    told = [(True, 4, 0, "1"), (False, 3, 0, "1"), (True, 2, 9, "0.25"), (False, 5, 40, "3"), (True, 1, 55, "1")]
    people = [await make.user() for _ in range(3)]
    for good, count, day, weight in told:
        await db.reputation.observe(
            people[0], good=good, count=count, weight=Decimal(weight), at=DAY + timedelta(days=day)
        )
    for good, count, day, weight in reversed(told):
        await db.reputation.observe(
            people[1], good=good, count=count, weight=Decimal(weight), at=DAY + timedelta(days=day)
        )
    for good, count, day, weight in sorted(told, key=str):
        for _ in range(count):
            await db.reputation.observe(people[2], good=good, weight=Decimal(weight), at=DAY + timedelta(days=day))
    for as_of in (0, 9, 41, 60, 3650):
        found = [
            (await db.reputation.standing(p, as_of=DAY + timedelta(days=as_of), policy=POLICY)).beta for p in people
        ]
        assert found[0] == found[1] == found[2]
    # By hand, sixty days after the first: alpha 1 + 4/4 + 0.5 x 2^(-51/30) + 2^(-5/30), beta 1 + 3/4 + 15 x 2^(-20/30).
    at_last = await db.reputation.standing(people[0], as_of=DAY + timedelta(days=60), policy=POLICY)
    assert float(at_last.beta.alpha) == pytest.approx(2 + 0.5 * 2 ** (-51 / 30) + 2 ** (-5 / 30), rel=1e-15)
    assert float(at_last.beta.beta) == pytest.approx(1.75 + 15 * 2 ** (-20 / 30), rel=1e-15)
    assert (await db.reputation.standing(people[0], as_of=DAY + timedelta(days=10**6), policy=POLICY)).score == 500


@pytest.mark.parametrize(
    ("policy", "weight"),
    [
        (ReputationPolicy(forgetting=Decimal("0.5")), Decimal(1)),
        (ReputationPolicy(forgetting=Decimal("0.001")), Decimal(1)),
        (ReputationPolicy(half_life_days=Decimal(1) / 3), Decimal(1)),
        (ReputationPolicy(half_life_days=Decimal("1e-30")), Decimal(1)),
        (ReputationPolicy(half_life_days=Decimal(1_000_000)), Decimal("999999999.999999999")),
        (ReputationPolicy(prior_good=Decimal(10) ** 12, prior_bad=Decimal(0)), Decimal("0.000000001")),
        (ReputationPolicy(prior_good=Decimal("1e-30")), Decimal(1)),
    ],
)
async def test_a_record_is_kept_of_any_policy(db: Session, make: Make, policy: ReputationPolicy, weight: Decimal):
    ada = await make.user()
    assert await db.reputation.series(ada) == []
    await db.reputation.observe(ada, good=True, count=1_000_000, weight=weight, at=DAY)
    record = await db.reputation.publish(ada, at=DAY + timedelta(hours=1), policy=policy)
    now = await db.reputation.standing(ada, as_of=DAY + timedelta(hours=1), policy=policy)
    assert await db.reputation.series(ada) == [record]
    assert record.score == now.score
    assert abs(record.alpha - now.beta.alpha) <= Decimal("5e-19")
    assert abs(record.beta - now.beta.beta) <= Decimal("5e-19")
    assert 0 <= record.score_at(DAY + timedelta(days=3650)) <= 1000


async def test_every_change_of_a_record_is_a_row(db: Session, make: Make):
    ada = await make.user()
    await db.reputation.observe(ada, good=True, count=2, at=DAY)
    first = await db.reputation.publish(ada, at=DAY, policy=POLICY)
    disputed = await db.reputation.dispute(first, reason="a payment is missing")
    assert (disputed.status, disputed.seq, disputed.score) == (_S.DISPUTED, 2, first.score)
    with pytest.raises(Conflict):
        await db.reputation.dispute(first, reason="again")
    with pytest.raises(Conflict):
        await db.reputation.dispute(disputed, reason="again")
    await db.reputation.observe(ada, good=True, count=7, at=DAY)
    revised = await db.reputation.revise(disputed, policy=POLICY)
    assert (revised.status, revised.seq, revised.evidence_count) == (_S.ACTIVE, 3, 9)
    with pytest.raises(Conflict):
        await db.reputation.uphold(revised)
    upheld = await db.reputation.uphold(await db.reputation.dispute(revised, reason="still"))
    revoked = await db.reputation.revoke(upheld, reason="an identity was stolen")
    for call in (db.reputation.revoke, db.reputation.dispute):
        with pytest.raises(Conflict):
            await call(revoked, reason="again")
    with pytest.raises(Conflict):
        await db.reputation.revise(revoked)
    assert [r.status for r in await db.reputation.series(ada, superseded=True)] == [*[_S.SUPERSEDED] * 5, _S.REVOKED]
    assert [r.status for r in await db.reputation.series(ada)] == [_S.REVOKED]
    next_day = await db.reputation.publish(ada, at=DAY + timedelta(days=1), policy=POLICY)
    assert next_day.previous is None


async def test_records_are_neither_changed_nor_made_up(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    ada = await make.user()
    first = await db.reputation.publish(ada, at=DAY, policy=POLICY)
    with pytest.raises(Unsupported):
        await db.reputation.purge(first, reason="no")
    with pytest.raises((Unsupported, Conflict, Duplicate)):
        await db.reputation.upsert(first, on=("user", "category", "period", "period_start", "seq"))
    with pytest.raises(Invalid):
        await db.reputation.add(with_fields(first, id=uuid7(), seq=2, status=_S.SUPERSEDED, reason="x"))
    async with sandbox.session(tenant, actor="clerk", permissions=()) as clerk:
        with pytest.raises(RoleMissing):
            await clerk.reputation.add(with_fields(first, id=uuid7(), seq=2, score=1000))
        for call in (
            lambda: clerk.reputation.dispute(first, reason="x"),
            lambda: clerk.reputation.revoke(first, reason="x"),
            lambda: clerk.reputation.revise(first),
            lambda: clerk.reputation.uphold(first),
        ):
            with pytest.raises(RoleMissing):
                await call()
        await clerk.reputation.observe(ada, good=True)
    assert await db.reputation.count() == 1


async def test_a_summary_has_everything(db: Session, make: Make):
    ada, credit = await agreed(db, make)
    grant = await db.consents.grant(ada, Purpose.AI_ANALYSIS, policy_version="1")
    empty = await db.reputation.summary(ada)
    assert (empty.overall, empty.evidence_count, empty.categories, empty.scores, empty.trust) == (500, 0, [], {}, None)
    now = db.now()
    inputs = [await db.inputs.receive(done(ada, n)) for n in range(3)]
    await db.inputs.mark_processed(inputs[:1])
    await db.scores.add(Score(user=ada.ref, value=640, model="m7"), consent=credit, inputs=inputs)
    half = Decimal("0.5")
    traits: dict[str, Any] = dict.fromkeys(
        ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"), half
    )
    await db.analyses.add(AIAnalysis(user=ada.ref, model="m7", trust_score=Decimal("0.8"), **traits), consent=grant)
    await db.reputation.observe(ada, _C.REPAYMENT, good=True, count=8, at=now)
    await db.reputation.observe(ada, _C.DEFI, good=False, count=8, at=now)
    found = await db.reputation.summary(ada, policy=POLICY)
    assert [(c.category, c.score, c.evidence_count) for c in found.categories] == [
        (_C.REPAYMENT, 900, 8),
        (_C.DEFI, 100, 8),
    ]
    assert (found.overall, found.evidence_count) == (500, 16)
    assert found.scores == {_C.CREDIT: 640}
    assert found.trust == Decimal("0.8")
    await db.consents.withdraw(ada, Purpose.AI_ANALYSIS)
    assert (await db.reputation.summary(ada)).trust is None
    assert (found.inputs, found.unprocessed, found.last_activity) == (3, 2, inputs[-1].occurred_at)


async def test_bad_arguments_are_refused_and_nothing_is_written(db: Session, make: Make):
    ada = await make.user()
    record = await db.reputation.publish(ada, at=DAY)
    bad: Any = None
    naive = datetime(2026, 3, 2)
    calls: list[Any] = [
        lambda: db.reputation.observe("ada", good=True),  # type: ignore[arg-type]
        lambda: db.reputation.observe(ada, good=1),  # type: ignore[arg-type]
        lambda: db.reputation.observe(ada, good=True, count=0),
        lambda: db.reputation.observe(ada, good=True, count=2_000_000),
        lambda: db.reputation.observe(ada, good=True, weight=0.5),  # type: ignore[arg-type]
        lambda: db.reputation.observe(ada, good=True, weight=Decimal("-1")),
        lambda: db.reputation.observe(ada, good=True, weight=Decimal("NaN")),
        lambda: db.reputation.observe(ada, good=True, at=naive),
        lambda: db.reputation.observe(ada, "defi", good=True),  # type: ignore[arg-type]
        lambda: db.reputation.observe(ada, good=True, external_id=""),
        lambda: db.reputation.standing(ada, as_of=naive),
        lambda: db.reputation.standing(ada, as_of=datetime.max.replace(tzinfo=UTC)),
        lambda: db.reputation.publish(ada, period=ScoringPeriod.WEEKLY, at=datetime.min.replace(tzinfo=UTC)),
        lambda: db.reputation.observe(ada, good=True, score="a score"),  # type: ignore[arg-type]
        lambda: db.reputation.series(ada, period="daily"),  # type: ignore[arg-type]
        lambda: db.reputation.summary(ada, policy=bad),
        lambda: db.reputation.dispute(record, reason="x" * 501),
        lambda: db.reputation.standing(ada, policy=bad),
        lambda: db.reputation.publish(ada, period="daily"),  # type: ignore[arg-type]
        lambda: db.reputation.dispute(record, reason=" "),
        lambda: db.reputation.revise(record, at=DAY + timedelta(days=2)),
        lambda: db.reputation.revise(bad),
        lambda: db.reputation.uphold(bad),
        lambda: db.reputation.cancel(bad, reason="x"),
    ]
    for call in calls:
        with pytest.raises(Invalid):
            await call()
    with pytest.raises(UnknownReference):
        await db.reputation.observe(uuid7(), good=True)
    assert await db[ReputationEvidence].count() == 0
    assert await db[ReputationRecord].count() == 1
