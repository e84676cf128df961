"""Sixteen callers at scores, inputs, reputation and proofs: one right answer each."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest
from tests.proofs.support import circuit, enrolled, received, request, shown, verified
from tests.reputation.support import DAY, agreed, done
from tests.soak import REPEATS

from tallystick import (
    AIAnalysis,
    Conflict,
    ConsentMissing,
    Duplicate,
    LeaseLost,
    ProofEvent,
    ProofEventKind,
    Purpose,
    ReputationEvidence,
    ReputationPolicy,
    Score,
    Tallystick,
    VerificationStatus,
)
from tallystick.session import Session
from tallystick.testing import Make, Race

N = 16
_S = VerificationStatus


@pytest.mark.parametrize("_", REPEATS)
async def test_a_proof_is_used_once(race: Race, db: Session, tally: Tallystick, _: int):
    fine = await verified(db, await circuit(db), await enrolled(tally))
    result = await race(N, lambda s, i: s.proofs.consume(fine.id, reason=f"loan {i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert [e.kind.value for e in await db.proofs.events(fine)] == ["verified", "consumed"]


@pytest.mark.parametrize("_", REPEATS)
async def test_a_proof_is_used_once_whatever_else_happens_to_it(race: Race, db: Session, tally: Tallystick, _: int):
    """Consumed under one key and under others, revoked, judged again and handed in again, all at once."""
    verifier = await enrolled(tally)
    fine = await verified(db, await circuit(db), verifier)

    async def touch(s: Session, i: int) -> str:
        if i % 4 == 0:
            return (await s.proofs.consume(fine, reason="loan", key="one key")).status.value
        if i % 4 == 1:
            return (await s.proofs.consume(fine, reason="loan", key=f"key {i}")).status.value
        if i % 4 == 2:
            return (await s.proofs.revoke(fine, reason="stolen")).status.value
        if i % 8 == 3:
            return (await s.proofs.verify(fine, verifier=verifier)).status.value
        return (await s.proofs.receive(fine.id, b"good again", shown(fine, 8))).status.value

    result = await race(N, touch)
    assert result.kinds <= {Conflict}
    first, second = await db.proofs.events(fine)
    assert (first.kind, (await db.proofs.get(fine.id)).status.value) == (ProofEventKind.VERIFIED, second.kind.value)
    # All who asked under the key that won are told so, and nobody else.
    assert set(result.results) == {second.kind.value}
    assert result.winners in (1, 4)
    if second.kind is ProofEventKind.REVOKED:
        assert result.winners == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_a_proof_is_used_or_revoked_past_the_operations_too(race: Race, db: Session, tally: Tallystick, _: int):
    """Rows added by hand, without the lock that the operations take first."""
    fine = await verified(db, await circuit(db), await enrolled(tally))

    async def end(s: Session, i: int) -> ProofEvent:
        kind = ProofEventKind.CONSUMED if i % 2 else ProofEventKind.REVOKED
        return await s[ProofEvent].add(ProofEvent(proof=fine.ref, kind=kind, reason=f"by {i}"))

    result = await race(N, end)
    assert result.winners == 1
    assert result.kinds <= {Conflict, Duplicate}
    assert (await db.proofs.get(fine.id)).status.value == result.results[0].kind.value
    assert len(await db.proofs.events(fine)) == 2


@pytest.mark.parametrize("_", REPEATS)
async def test_one_of_many_proofs_gets_the_nullifier(race: Race, db: Session, tally: Tallystick, _: int):
    verifier, what = await enrolled(tally), await circuit(db)
    handed_in = [await received(db, what) for _ in range(N)]
    result = await race(N, lambda s, i: s.proofs.verify(handed_in[i], verifier=verifier))
    assert result.errors == []
    assert Counter(p.status for p in result.results) == {_S.VERIFIED: 1, _S.REJECTED: N - 1}


@pytest.mark.parametrize("_", REPEATS)
async def test_a_request_is_answered_once_and_judged_once(race: Race, db: Session, tally: Tallystick, _: int):
    verifier, what = await enrolled(tally), await circuit(db)
    asked = await request(db, what)
    result = await race(N, lambda s, i: s.proofs.receive(asked.id, f"good {i}".encode(), shown(asked, i)))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert (await db.proofs.get(asked.id)).proof == result.results[0].proof
    judged = await race(N, lambda s: s.proofs.verify(asked.id, verifier=verifier))
    assert judged.winners == 1
    assert judged.kinds == {Conflict}
    assert len(await db.proofs.events(asked)) == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_two_workers_never_share_an_input(race: Race, db: Session, make: Make, _: int):
    ada = await make.user()
    await db.inputs.add_many([done(ada, n) for n in range(40)])

    async def work(s: Session) -> list[str]:
        mine = []
        while claimed := [c async for c in s.inputs.claim(limit=3, lease=timedelta(minutes=5))]:
            for item in claimed:
                assert item.attempt == 1
                async with item:
                    mine.append(item.value.external_id)
        return mine

    result = await race(N, work)
    assert result.errors == []
    assert Counter(name for names in result.results for name in names) == Counter(f"event-{n}" for n in range(40))
    assert await db.inputs.unprocessed() == []


async def test_work_of_a_worker_that_died_goes_to_the_next(race: Race, db: Session, make: Make):
    """One after the other, on connections that commit: the sandbox's clock stands still."""
    assert race is not None
    ada = await make.user()
    for number in range(5):
        await db.inputs.receive(done(ada, number))
    dead = [c async for c in db.inputs.claim(limit=3, lease=timedelta(milliseconds=50))]
    dead.sort(key=lambda c: c.value.external_id)
    assert [(c.value.external_id, c.attempt) for c in dead] == [("event-0", 1), ("event-1", 1), ("event-2", 1)]
    await db.unit.call("SELECT pg_sleep(0.1) WHERE $1::uuid IS NOT NULL", (db.tenant_id,))
    # By hand what nobody holds any more; the rest is claimed again, counted, and lost to the one who came back.
    assert await db.inputs.mark_processed([dead[0].value]) == 1
    again = [c async for c in db.inputs.claim(limit=9)]
    assert sorted((c.value.external_id, c.attempt) for c in again) == [
        ("event-1", 2),
        ("event-2", 2),
        ("event-3", 1),
        ("event-4", 1),
    ]
    for item in dead:
        with pytest.raises(LeaseLost):
            await item.done()
    with pytest.raises(LeaseLost):
        await db.inputs.finish([*dead, *again])
    with pytest.raises(Conflict):
        await db.inputs.mark_processed([c.value for c in again])
    await dead[1].release()
    assert await db.inputs.finish(again) == 4
    assert await db.inputs.unprocessed() == []
    assert [c async for c in db.inputs.claim(limit=9)] == []


@pytest.mark.parametrize("_", REPEATS)
async def test_no_input_is_done_twice_when_workers_die(race: Race, db: Session, make: Make, _: int):
    """Every third worker sleeps through its lease and then tries to finish; by hand somebody marks what is free."""
    ada = await make.user()
    stored = await db.inputs.add_many([done(ada, n) for n in range(40)])
    short, patient = timedelta(milliseconds=20), timedelta(minutes=5)

    async def work(s: Session, i: int) -> list[str]:
        mine: list[str] = []
        for _turn in range(4):
            if i % 5 == 4:
                with suppress(Conflict):
                    await s.inputs.mark_processed([stored[i * 2]])
                    mine.append(stored[i * 2].external_id)
                continue
            asleep = i % 3 == 0
            claimed = [c async for c in s.inputs.claim(limit=3, lease=short if asleep else patient)]
            if asleep:
                await asyncio.sleep(0.03)
            with suppress(LeaseLost):
                await s.inputs.finish(claimed)
                mine += [c.value.external_id for c in claimed]
        return mine

    result = await race(N, work)
    assert result.errors == []
    counted = Counter(name for names in result.results for name in names)
    assert set(counted.values()) == {1}
    left = {i.external_id for i in await db.inputs.unprocessed()}
    assert left == {f"event-{n}" for n in range(40)} - set(counted)
    await asyncio.sleep(0.03)
    rest = [c async for c in db.inputs.claim(limit=40)]
    assert {c.value.external_id for c in rest} == left
    assert await db.inputs.finish(rest) == len(left)


@pytest.mark.parametrize("_", REPEATS)
async def test_marking_by_hand_and_claiming_do_not_meet(race: Race, db: Session, make: Make, _: int):
    ada = await make.user()
    one = await db.inputs.receive(done(ada))

    async def work(s: Session, i: int) -> bool:
        if i % 2:
            await s.inputs.mark_processed([one])
            return True
        claimed = [c async for c in s.inputs.claim(limit=1)]
        for item in claimed:
            async with item:
                await asyncio.sleep(0.001)
        return bool(claimed)

    result = await race(N, work)
    assert result.kinds <= {Conflict, LeaseLost}
    assert sum(result.results) == 1
    assert (await db.inputs.get(one.id)).processed_at is not None


@pytest.mark.parametrize("_", REPEATS)
async def test_an_input_that_is_delivered_sixteen_times_is_one(race: Race, db: Session, make: Make, _: int):
    ada = await make.user()
    result = await race(N, lambda s: s.inputs.receive(done(ada)))
    assert result.errors == []
    assert len({r.id for r in result.results}) == 1
    assert await db.inputs.count() == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_a_set_of_inputs_is_scored_once(race: Race, db: Session, make: Make, _: int):
    ada, grant = await agreed(db, make)
    inputs = [await db.inputs.receive(done(ada, n)) for n in range(2)]
    result = await race(
        N,
        lambda s, i: s.scores.add(
            Score(user=ada.ref, value=600 + i, model="m7"), consent=grant, inputs=inputs if i % 2 else inputs[::-1]
        ),
    )
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    assert await db.scores.count() == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_nobody_is_scored_after_a_withdrawal(race: Race, db: Session, make: Make, _: int):
    ada, grant = await agreed(db, make)

    async def work(s: Session, i: int) -> int:
        if i == 5:
            await s.consents.withdraw(ada, Purpose.CREDIT_CHECK)
            return 0
        if i % 2:
            score = Score(user=ada.ref, value=i, model=f"m{i}", scored_at=DAY, consent=grant.ref)
            await s.scores.add_many([score])
        else:
            await s.scores.add(Score(user=ada.ref, value=i, model=f"m{i}"), consent=grant)
        return 1

    result = await race(N, work)
    assert result.kinds <= {ConsentMissing}
    (row,) = await db.consents.given(ada)
    assert row.withdrawn_at is not None
    assert await db.scores.count() == sum(result.results)
    with pytest.raises(ConsentMissing):
        await db.scores.add(Score(user=ada.ref, value=1, model="late"), consent=grant)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_analysis_of_a_model_is_current(race: Race, db: Session, make: Make, _: int):
    ada, grant = await agreed(db, make, Purpose.AI_ANALYSIS)
    half = Decimal("0.5")

    async def add(s: Session, i: int) -> AIAnalysis:
        return await s.analyses.add(
            AIAnalysis(
                user=ada.ref,
                model="m7",
                trust_score=Decimal(i) / 20,
                openness=half,
                conscientiousness=half,
                extraversion=half,
                agreeableness=half,
                neuroticism=half,
                analysed_at=DAY,
                expires_at=DAY + timedelta(days=9999),
            ),
            consent=grant,
        )

    result = await race(N, add)
    assert result.errors == []
    stored = await db.analyses.find()
    assert sum(a.superseded_at is None for a in stored) == 1
    assert len(stored) == N


@pytest.mark.parametrize("_", REPEATS)
async def test_a_batch_comes_to_what_sixteen_single_ones_do(race: Race, db: Session, make: Make, _: int):
    one, many = await make.user(), await make.user()
    policy = ReputationPolicy(half_life_days=Decimal(30), forgetting=Decimal(1) if _ % 2 else Decimal("0.9"))
    await db.reputation.observe(many, good=True, count=N, at=DAY)
    result = await race(N, lambda s: s.reputation.observe(one, good=True, at=DAY))
    assert result.errors == []
    later = DAY + timedelta(days=17)
    single = await db.reputation.standing(one, as_of=later, policy=policy)
    batch = await db.reputation.standing(many, as_of=later, policy=policy)
    assert single.evidence_count == batch.evidence_count == N
    assert abs(single.beta.alpha - batch.beta.alpha) < Decimal("1e-8")
    assert abs(single.beta.beta - batch.beta.beta) < Decimal("1e-8")
    assert single.score == batch.score


@pytest.mark.parametrize("_", REPEATS)
async def test_a_period_is_published_once_and_disputed_once(race: Race, db: Session, make: Make, _: int):
    ada = await make.user()
    counted = await race(N, lambda s: s.reputation.observe(ada, good=True, at=DAY, external_id="loan-7"))
    assert counted.winners == 1
    assert counted.kinds == {Duplicate}
    assert await db[ReputationEvidence].count() == 1
    result = await race(N, lambda s: s.reputation.publish(ada, at=DAY))
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    record = result.results[0]
    disputes = await race(N, lambda s, i: s.reputation.dispute(record, reason=f"by {i}"))
    assert disputes.winners == 1
    assert disputes.kinds <= {Duplicate, Conflict}
    assert len(await db.reputation.series(ada, superseded=True)) == 2
