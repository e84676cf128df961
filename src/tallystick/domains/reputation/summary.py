"""Everything that is known of a user's reputation, on one page."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.domains.reputation.beta import Beta, Experience, ReputationPolicy, reputation
from tallystick.domains.reputation.scores import ScoringCategory

if TYPE_CHECKING:
    from tallystick.session import Session

_EVIDENCE = (
    "SELECT e.category, e.good, e.count, e.observed_at, e.weight FROM tally.reputation_evidence e "
    "WHERE e.tenant_id = $1 AND e.user_id = $2 AND e.observed_at <= $3 AND e.cancels_id IS NULL "
    "AND NOT EXISTS (SELECT FROM tally.reputation_evidence c WHERE c.tenant_id = $1 AND c.cancels_id = e.id "
    "AND c.observed_at <= $3) ORDER BY e.observed_at, e.id"
)
_SCORES = (
    "SELECT DISTINCT ON (s.category) s.category, s.value FROM tally.score s WHERE s.tenant_id = $1 AND s.user_id = $2 "
    "AND s.scored_at <= $3 ORDER BY s.category, s.scored_at DESC, s.id DESC"
)
_INPUTS = (
    "SELECT count(*), count(b.processed_at), max(b.occurred_at) FROM tally.behavior_input b "
    "WHERE b.tenant_id = $1 AND b.user_id = $2 AND b.occurred_at <= $3"
)
_TRUST = (
    "SELECT a.trust_score FROM tally.ai_analysis a WHERE a.tenant_id = $1 AND a.user_id = $2 AND a.analysed_at <= $3 "
    "AND a.expires_at > $3 AND (a.superseded_at IS NULL OR a.superseded_at > $3) "
    "AND EXISTS (SELECT FROM tally.consent c WHERE c.tenant_id = $1 AND c.user_id = $2 "
    "AND c.purpose = 'ai_analysis' AND c.withdrawn_at IS NULL) ORDER BY a.analysed_at DESC LIMIT 1"
)


class CategoryReputation(msgspec.Struct, frozen=True, kw_only=True):
    """A user's reputation in one category, 0 to 1000, and the evidence for it."""

    category: ScoringCategory
    score: int
    beta: Beta
    evidence_count: int
    last_at: datetime


class UserReputationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A user's reputation: ``overall`` from all evidence of every category together, and each category by itself.

    Categories without evidence are left out. ``scores`` are the newest of each category that a model gave, ``trust``
    what an analysis says that has not expired and whose consent stands, a fraction.
    """

    user: UUID
    as_of: datetime
    overall: int
    evidence_count: int
    categories: list[CategoryReputation]
    scores: dict[ScoringCategory, int]
    trust: Decimal | None
    inputs: int
    unprocessed: int
    last_activity: datetime | None


async def summarise(db: Session, user: UUID, as_of: datetime, policy: ReputationPolicy) -> UserReputationSummary:
    """See ``Reputations.summary``."""
    args = (db.tenant_id, user, as_of)
    found: dict[ScoringCategory, list[Experience]] = {}
    everything: list[Experience] = []
    for category, good, count, at, weight in await db.unit.call(_EVIDENCE, args):
        one = Experience(good=good, count=count, at=at, weight=weight)
        found.setdefault(ScoringCategory(category), []).append(one)
        everything.append(one)
    scores = {ScoringCategory(c): value for c, value in await db.unit.call(_SCORES, args)}
    trust = await db.unit.call(_TRUST, args)
    total, processed, last = (await db.unit.call(_INPUTS, args))[0]
    return UserReputationSummary(
        user=user,
        as_of=as_of,
        overall=reputation(everything, as_of, policy).score,
        evidence_count=sum(e.count for e in everything),
        categories=[
            CategoryReputation(
                category=category,
                score=(beta := reputation(found[category], as_of, policy)).score,
                beta=beta,
                evidence_count=sum(e.count for e in found[category]),
                last_at=found[category][-1].at,
            )
            for category in ScoringCategory
            if category in found
        ],
        scores=scores,
        trust=trust[0][0] if trust else None,
        inputs=total,
        unprocessed=total - processed,
        last_activity=last,
    )
