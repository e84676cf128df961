"""The demo's story and the seed: true, quick, and the same when planted again."""

from __future__ import annotations

import time

from tallystick import (
    BehaviorInput,
    Proof,
    Score,
    ScoringPeriod,
    Tallystick,
    User,
    VerificationStatus,
    missing,
    prefix,
)
from tallystick.cli.demo_reputation import INPUTS, document, repute
from tallystick.seeds import REPUTATIONS
from tallystick.seeds.reputation import INPUTS as SEEDED
from tallystick.seeds.reputation import plant
from tallystick.session import Session


async def test_the_story_holds_and_is_short(tally: Tallystick, tenant: str):
    started = time.monotonic()
    story = await repute(tally, tenant)
    assert time.monotonic() - started < 15  # under 3 s on a quiet machine
    assert story.held, [t for t in story.told if not t.good]
    assert story.told[0].answer == f"{INPUTS} done, 0 of them twice, 0 left"
    assert [score for _, score in story.standings] == [909, 846, 765, 501]
    assert document(story)["held"] is True
    async with tally.session(tenant, actor="test") as db:
        assert await db.scores.count() == 1
        (proof,) = await db.proofs.find()
        assert proof.status is VerificationStatus.RECEIVED


async def test_the_seed_is_planted_once(db: Session):
    first = await plant(db)
    assert (first.added, first.present) == (REPUTATIONS, 0)
    again = await plant(db)
    assert (again.added, again.present) == (0, REPUTATIONS)
    assert await db.inputs.count(prefix(BehaviorInput.external_id, "seed:")) == REPUTATIONS * SEEDED
    assert await db.inputs.count(missing(BehaviorInput.processed_at)) == REPUTATIONS * SEEDED // 3
    assert await db[Score].count() == await db.analyses.count() == REPUTATIONS
    (person, *_) = await db.users.find(order=User.created_at)
    summary = await db.reputation.summary(person)
    assert summary.inputs == SEEDED
    assert summary.trust is not None
    assert len(await db.reputation.series(person, period=ScoringPeriod.WEEKLY)) == 8
    assert await db.proofs.count(Proof.status == VerificationStatus.VERIFIED) == 0
