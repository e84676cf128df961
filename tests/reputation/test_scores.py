"""Scores and analyses: behind a consent, once for each set of inputs, for a limited time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.reputation.support import DAY, agreed, done

from tallystick import (
    AIAnalysis,
    Consent,
    ConsentMissing,
    Denied,
    Duplicate,
    Invalid,
    Purpose,
    Score,
    ScoringCategory,
    TallystickError,
    UnknownReference,
    Unsupported,
    User,
    desc,
    input_set_hash,
    uuid7,
)
from tallystick.entity import with_fields
from tallystick.session import Session
from tallystick.testing import Make

HALF = Decimal("0.5")


def analysis(user: User, **given: Any) -> AIAnalysis:
    wanted: dict[str, Any] = {
        "user": user.ref,
        "model": "m7",
        "trust_score": Decimal("0.82"),
        "openness": HALF,
        "conscientiousness": Decimal("0.9"),
        "extraversion": HALF,
        "agreeableness": HALF,
        "neuroticism": Decimal("0.1"),
    }
    return AIAnalysis(**(wanted | given))


async def test_somebody_who_agreed_is_scored(db: Session, make: Make):
    ada, _ = await agreed(db, make)
    grant = await db.consents.require(ada.id, Purpose.CREDIT_CHECK)
    kept = await db.scores.add(Score(user=ada.ref, value=712, model="m7"), consent=grant)
    assert kept.consent == grant.ref
    assert await db.scores.get(kept.id) == kept
    assert await db.scores.latest(ada) == kept
    assert await db.scores.latest(ada, model="m8") is None
    later = await db.scores.add(
        Score(user=ada.ref, value=650, model="m8", confidence=HALF, scored_at=kept.scored_at + timedelta(days=1)),
        consent=grant,
    )
    assert await db.scores.latest(ada) == later
    assert await db.scores.latest(ada, ScoringCategory.DEFI) is None
    with pytest.raises(Unsupported):
        await db.scores.purge(kept, reason="no")
    with pytest.raises(Invalid):
        await db.scores.update(kept, value=1000)


async def test_one_model_scores_one_set_of_inputs_once(db: Session, make: Make):
    ada, grant = await agreed(db, make)
    inputs = [await db.inputs.receive(done(ada, n)) for n in range(3)]
    first = await db.scores.add(Score(user=ada.ref, value=700, model="m7"), consent=grant, inputs=inputs)
    assert (first.input_count, first.input_set) == (3, input_set_hash(inputs))
    shuffled = [inputs[2].id, inputs[0].id, inputs[1].id, inputs[0].id]
    with pytest.raises(Duplicate):
        await db.scores.add(Score(user=ada.ref, value=701, model="m7"), consent=grant, inputs=shuffled)
    for other in (
        Score(user=ada.ref, value=1, model="m8"),
        Score(user=ada.ref, value=1, model="m7", category=ScoringCategory.DEFI),
    ):
        await db.scores.add(other, consent=grant, inputs=inputs)
    await db.scores.add(Score(user=ada.ref, value=0, model="m7"), consent=grant, inputs=inputs[:2])
    assert await db.scores.count() == 4
    wrongs: list[Any] = [[], ["x"], None, 7, (), [None]]
    for wrong in wrongs:
        with pytest.raises(Invalid):
            input_set_hash(wrong)
        if wrong is not None:
            with pytest.raises(Invalid):
                await db.scores.add(Score(user=ada.ref, value=1, model="m9"), consent=grant, inputs=wrong)
    with pytest.raises(Invalid):
        await db.scores.latest(ada, "credit")  # type: ignore[arg-type]
    alone = await db.scores.add(
        Score(user=ada.ref, value=1, model="m9"), consent=grant, inputs=(i for i in [inputs[0], inputs[0].id])
    )
    assert (alone.input_count, alone.input_set) == (1, input_set_hash(inputs[0].id for _ in range(3)))


async def test_a_score_is_made_of_inputs_of_the_same_user_that_are_there(db: Session, make: Make):
    ada, grant = await agreed(db, make)
    bob, _ = await agreed(db, make)
    mine, theirs = await db.inputs.receive(done(ada)), await db.inputs.receive(done(bob))
    for inputs in ([theirs], [mine, theirs], [mine.id, uuid7()]):
        with pytest.raises(UnknownReference):
            await db.scores.add(Score(user=ada.ref, value=1, model="m7"), consent=grant, inputs=inputs)
    assert await db.scores.count() == 0
    score = await db.scores.add(Score(user=ada.ref, value=1, model="m7"), consent=grant, inputs=[mine])
    with pytest.raises(Invalid):
        await db.reputation.observe(bob, good=True, score=score)
    assert (await db.reputation.observe(ada, good=True, score=score)).score == score.ref


async def test_no_consent_no_score(db: Session, make: Make):
    ada, grant = await agreed(db, make)
    _bob, theirs = await agreed(db, make)
    marketing = await db.consents.grant(ada, Purpose.MARKETING, policy_version="1")
    score = Score(user=ada.ref, value=700, model="m7")
    for wrong in (None, theirs, marketing, "yes", grant.id):
        with pytest.raises(Invalid):
            await db.scores.add(score, consent=wrong)  # type: ignore[arg-type]
    await db.consents.withdraw(ada, Purpose.CREDIT_CHECK)
    with pytest.raises(ConsentMissing):
        await db.scores.add(score, consent=grant)
    assert await db.scores.count() == 0

    # Terms that were renewed meanwhile stand in for those that were asked for.
    renewed = await db.consents.grant(ada, Purpose.CREDIT_CHECK, policy_version="2027-1")
    assert (await db.scores.add(score, consent=grant)).consent == renewed.ref


@pytest.mark.parametrize("case", ["none", "withdrawn", "another's", "another purpose"])
async def test_the_database_asks_for_the_consent_itself(db: Session, make: Make, case: str):
    """A score that is written past ``db.scores``, in bulk for instance, needs one no less."""
    ada, grant = await agreed(db, make)
    _, theirs = await agreed(db, make)
    marketing = await db.consents.grant(ada, Purpose.MARKETING, policy_version="1")
    if case == "withdrawn":
        await db.consents.withdraw(ada, Purpose.CREDIT_CHECK)
    consents: dict[str, Consent | None] = {
        "none": None,
        "withdrawn": grant,
        "another's": theirs,
        "another purpose": marketing,
    }
    consent = consents[case]
    ref = None if consent is None else consent.ref
    score = Score(user=ada.ref, value=700, model="m7", scored_at=DAY, consent=ref)
    with pytest.raises(TallystickError) as refused:
        await db.scores.add_many([score])
    assert isinstance(refused.value, (ConsentMissing, Invalid))
    found = analysis(ada, analysed_at=DAY, expires_at=DAY + timedelta(days=1), consent=ref)
    with pytest.raises((ConsentMissing, Invalid)):
        await db.analyses.add_many([found])
    assert await db.scores.count() == await db.analyses.count() == 0


async def test_scores_out_of_range_are_refused(db: Session, make: Make):
    ada, grant = await agreed(db, make)
    for wrong in (
        {"value": -1},
        {"value": 1001},
        {"value": 700.5},
        {"value": True},
        {"confidence": Decimal("1.01")},
        {"confidence": 0.5},
        {"model": ""},
        {"category": "credit"},
        {"input_set": b"short"},
        {"shap": {"a": Decimal(1)}},
        {"base_value": Decimal(1)},
    ):
        fields: dict[str, Any] = {"user": ada.ref, "value": 700, "model": "m7"} | wrong
        with pytest.raises(Invalid):
            await db.scores.add(Score(**fields), consent=grant)
    with pytest.raises(Invalid):
        await db.scores.add(analysis(ada), consent=grant)  # type: ignore[arg-type]
    assert await db.scores.count() == 0


async def test_an_analysis_supersedes_the_models_last_and_expires(db: Session, make: Make):
    ada, grant = await agreed(db, make, Purpose.AI_ANALYSIS)
    now = db.now()
    old = await db.analyses.add(analysis(ada, analysed_at=now - timedelta(days=40)), consent=grant)
    assert old.expires_at == old.analysed_at + timedelta(days=90)
    assert await db.analyses.current(ada) == old
    new = await db.analyses.add(analysis(ada, trust_score=Decimal("0.7")), consent=grant)
    other = await db.analyses.add(
        analysis(ada, model="m8", analysed_at=now - timedelta(days=9), expires_at=now - timedelta(days=1)),
        consent=grant,
    )
    assert await db.analyses.current(ada) == new
    assert await db.analyses.current(ada, model="m8") is None
    assert other.expired(now)
    assert not new.expired(now)
    before = await db.analyses.get(old.id)
    assert before.superseded_at == new.analysed_at
    for changes in ({"superseded_at": None}, {"superseded_at": now + timedelta(days=5)}, {"trust_score": HALF}):
        with pytest.raises((Denied, Invalid)):
            async with db.transaction():
                await db.analyses.update(before, **changes)
    with pytest.raises(Invalid):
        await db.analyses.add(analysis(ada, analysed_at=now - timedelta(days=1)), consent=grant)
    # Whoever takes their consent back is no longer seen through an analysis; who agrees again is.
    await db.consents.withdraw(ada, Purpose.AI_ANALYSIS)
    assert await db.analyses.current(ada) is None
    await db.consents.grant(ada, Purpose.AI_ANALYSIS, policy_version="2")
    assert await db.analyses.current(ada) == new
    assert await db.analyses.purge_expired() == 1
    assert [a.id for a in await db.analyses.find(order=desc(AIAnalysis.analysed_at))] == [new.id, old.id]


async def test_analyses_need_their_own_consent_and_fractions(db: Session, make: Make):
    ada, credit = await agreed(db, make)
    with pytest.raises(Invalid):
        await db.analyses.add(analysis(ada), consent=credit)
    grant = await db.consents.grant(ada, Purpose.AI_ANALYSIS, policy_version="1")
    for wrong in (
        {"trust_score": Decimal("1.1")},
        {"openness": Decimal("-0.1")},
        {"neuroticism": 0.5},
        {"model": "x" * 65},
        {"analysed_at": DAY, "expires_at": DAY},
        {"analysed_at": datetime.max.replace(tzinfo=UTC)},
        {"openness": Decimal("0.1234567")},
    ):
        with pytest.raises(Invalid):
            await db.analyses.add(analysis(ada, **wrong), consent=grant)
    await db.consents.withdraw(ada, Purpose.AI_ANALYSIS)
    with pytest.raises(ConsentMissing):
        await db.analyses.add(analysis(ada), consent=grant)
    assert await db.analyses.count() == 0


async def test_another_tenants_people_are_unknown_here(db: Session, make: Make):
    ada, grant = await agreed(db, make)
    stranger = with_fields(grant, user=type(grant.user)(uuid7()))
    with pytest.raises(Invalid):
        await db.scores.add(Score(user=ada.ref, value=1, model="m"), consent=stranger)
