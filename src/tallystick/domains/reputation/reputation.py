"""Reputation: experiences go in, and what they come to is worked out when somebody asks."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from tallystick.domains.guarded import Guarded, put
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.domains.reputation.analytics import moment
from tallystick.domains.reputation.beta import EXACT, Beta, Experience, ReputationPolicy, counted, reputation
from tallystick.domains.reputation.evidence import ReputationEvidence
from tallystick.domains.reputation.records import (
    ReputationRecord,
    ReputationStatus,
    ScoringPeriod,
    check_period,
    period_start,
)
from tallystick.domains.reputation.scores import Score, ScoringCategory
from tallystick.entity import with_fields
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Ref
from tallystick.ids import uuid7
from tallystick.query import desc, less_than

if TYPE_CHECKING:
    from tallystick.domains.reputation.summary import UserReputationSummary

MANAGE = "reputation.manage"
DEFAULT = ReputationPolicy()
_NANO, _ATTO = Decimal("1e-9"), Decimal("1e-18")
_READ = (
    "SELECT e.good, e.count, e.observed_at, e.weight FROM tally.reputation_evidence e "
    "WHERE e.tenant_id = $1 AND e.user_id = $2 AND e.category = $3 AND e.observed_at <= $4 AND e.cancels_id IS NULL "
    "AND NOT EXISTS (SELECT FROM tally.reputation_evidence c WHERE c.tenant_id = $1 AND c.cancels_id = e.id "
    "AND c.observed_at <= $4) ORDER BY e.observed_at, e.id"
)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A user's reputation in a category as of a moment: the score, what it is made of, and of how much evidence."""

    user: UUID
    category: ScoringCategory
    as_of: datetime
    score: int
    beta: Beta
    evidence_count: int
    last_at: datetime | None


class Reputations(Guarded[ReputationRecord]):
    """The users' reputation: ``observe`` experiences, ask for a ``standing``, ``publish`` what it was in a period."""

    permission = MANAGE
    instead = "db.reputation.observe() and publish()"

    async def observe(
        self,
        user: UserLike,
        category: ScoringCategory = ScoringCategory.OVERALL,
        *,
        good: bool,
        count: int = 1,
        weight: Decimal = Decimal(1),
        at: datetime | None = None,
        external_id: str | None = None,
        score: Score | None = None,
    ) -> ReputationEvidence:
        """Record ``count`` experiences with a user at a moment; a batch comes to the same as one by one.

        Raises ``Duplicate`` for an ``external_id`` that was counted before, ``UnknownReference``, ``Invalid``.
        """
        who, when = user_id(user), self._when(at)
        if good.__class__ is not bool:
            raise Invalid("An experience is good (True) or bad (False).", field="good", entity="ReputationEvidence")
        counted(count)
        if not isinstance(weight, Decimal) or not weight.is_finite() or not 0 < weight < 10**9:
            raise Invalid(
                "A weight is a Decimal above zero.", field="weight", remedy='Write Decimal("0.5"); never a float.'
            )
        if score is not None and (score.__class__ is not Score or score.user.id != who):
            raise Invalid("A score behind an experience is one of the same user.", field="score", entity="Score")
        return await self.db[ReputationEvidence].add(
            ReputationEvidence(
                user=Ref(who),
                category=_category(category),
                good=good,
                count=count,
                weight=weight,
                observed_at=when,
                external_id=external_id,
                score=None if score is None else score.ref,
            )
        )

    async def cancel(self, evidence: ReputationEvidence | UUID, *, reason: str) -> ReputationEvidence:
        """Take a mistaken experience back, from now on; reputations as of before still count it.

        Raises ``Duplicate`` when it was cancelled before, ``NotFound``, ``Invalid`` for what is itself a cancellation,
        and ``RoleMissing`` without "reputation.manage".
        """
        await self.db.require(MANAGE)
        named: Any = evidence if isinstance(evidence, UUID) else getattr(evidence, "id", None)
        found = await self.db[ReputationEvidence].get(named)
        if found.cancels is not None:
            raise Invalid("A cancellation is not cancelled.", entity="ReputationEvidence", remedy="Observe it again.")
        return await self.db[ReputationEvidence].add(
            ReputationEvidence(
                user=found.user,
                category=found.category,
                good=found.good,
                count=found.count,
                weight=found.weight,
                observed_at=max(self.db.now(), found.observed_at),
                cancels=found.ref,
                reason=_reason(reason),
            )
        )

    async def standing(
        self,
        user: UserLike,
        category: ScoringCategory = ScoringCategory.OVERALL,
        *,
        as_of: datetime | None = None,
        policy: ReputationPolicy = DEFAULT,
    ) -> Standing:
        """A user's reputation as of a moment, decay included: worked out from the evidence, nothing is written.

        Somebody unknown has what the policy assumes of them. Raises ``Invalid``.
        """
        who, when, what = user_id(user), self._when(as_of), _category(category)
        _check_policy(policy)
        rows = await self.db.unit.call(_READ, (self.db.tenant_id, who, what.value, when))
        found = [Experience(good=good, count=count, at=at, weight=weight) for good, count, at, weight in rows]
        return Standing(
            user=who,
            category=what,
            as_of=when,
            score=(beta := reputation(found, when, policy)).score,
            beta=beta,
            evidence_count=sum(e.count for e in found),
            last_at=found[-1].at if found else None,
        )

    async def publish(
        self,
        user: UserLike,
        category: ScoringCategory = ScoringCategory.OVERALL,
        period: ScoringPeriod = ScoringPeriod.DAILY,
        *,
        at: datetime | None = None,
        policy: ReputationPolicy = DEFAULT,
    ) -> ReputationRecord:
        """Add what a user's reputation is at a moment to the series, as the record of the period it lies in.

        A period has one record; ``revise`` corrects it. Raises ``Duplicate`` for a period that has one, ``Invalid``.
        """
        when = self._when(at)
        start = period_start(period, when, self.db.tenant)
        async with self.db.transaction():
            now = await self.standing(user, category, as_of=when, policy=policy)
            before = await self._before(now.user, now.category, period, start)
            return await put(self, _record(now, period, start, before, policy))

    async def revise(
        self, record: ReputationRecord, *, policy: ReputationPolicy = DEFAULT, at: datetime | None = None
    ) -> ReputationRecord:
        """Work a period's record out again, from the evidence there is now; the new row supersedes the last.

        ``at`` is a moment of the period, by default that of the record. Raises ``Conflict`` when the record is not the
        last of its period or was revoked, ``RoleMissing`` without "reputation.manage".
        """
        await self.db.require(MANAGE)
        self._check_kind(record)
        when = self._when(record.as_of if at is None else at)
        if period_start(record.period, when, self.db.tenant) != record.period_start:
            raise Invalid("The moment is not in the record's period.", field="at", entity="ReputationRecord")
        async with self.db.transaction():
            last = await self._last(record)
            if last.status is ReputationStatus.REVOKED:
                raise Conflict("The record was revoked.", entity="ReputationRecord", rule="status")
            now = await self.standing(record.user, record.category, as_of=when, policy=policy)
            before = await self._before(now.user, now.category, record.period, record.period_start)
            made = _record(now, record.period, record.period_start, before, policy)
            return await put(self, with_fields(made, seq=last.seq + 1))

    async def dispute(self, record: ReputationRecord, *, reason: str) -> ReputationRecord:
        """Mark a record as disputed, by a further row. Raises ``Conflict`` unless it is active and the last."""
        return await self._mark(record, ReputationStatus.DISPUTED, reason, (ReputationStatus.ACTIVE,))

    async def uphold(self, record: ReputationRecord) -> ReputationRecord:
        """End a dispute in favour of the record. Raises ``Conflict`` unless it is disputed and the last."""
        return await self._mark(record, ReputationStatus.ACTIVE, None, (ReputationStatus.DISPUTED,))

    async def revoke(self, record: ReputationRecord, *, reason: str) -> ReputationRecord:
        """Take a record back for good, by a further row. Raises ``Conflict`` when that was done, or it is not the last.

        Disputing, upholding and revoking take the permission "reputation.manage".
        """
        allowed = (ReputationStatus.ACTIVE, ReputationStatus.DISPUTED)
        return await self._mark(record, ReputationStatus.REVOKED, reason, allowed)

    async def series(
        self,
        user: UserLike,
        category: ScoringCategory = ScoringCategory.OVERALL,
        period: ScoringPeriod = ScoringPeriod.DAILY,
        *,
        superseded: bool = False,
    ) -> list[ReputationRecord]:
        """A user's records, period by period, oldest first; those that were superseded only where they are asked for.

        A superseded row is answered with that status, which follows from the row after it.
        """
        rows = await self.find(
            ReputationRecord.user == Ref(user_id(user)),
            ReputationRecord.category == _category(category),
            ReputationRecord.period == check_period(period),
            order=(ReputationRecord.period_start, ReputationRecord.seq),
        )
        found: list[ReputationRecord] = []
        for row, after in zip_longest(rows, rows[1:]):
            if after is None or after.period_start != row.period_start:
                found.append(row)
            elif superseded:
                found.append(with_fields(row, status=ReputationStatus.SUPERSEDED))
        return found

    async def summary(
        self, user: UserLike, *, as_of: datetime | None = None, policy: ReputationPolicy = DEFAULT
    ) -> UserReputationSummary:
        """Everything that is known of a user's reputation: by category and overall, with scores and activity."""
        from tallystick.domains.reputation.summary import summarise

        _check_policy(policy)
        return await summarise(self.db, user_id(user), self._when(as_of), policy)

    # -- inside --------------------------------------------------------------------------------------------------

    async def _mark(
        self, record: ReputationRecord, status: ReputationStatus, reason: str | None, allowed: tuple[Any, ...]
    ) -> ReputationRecord:
        await self.db.require(MANAGE)
        self._check_kind(record)
        why = None if reason is None else _reason(reason)
        async with self.db.transaction():
            last = await self._last(record)
            if last.status not in allowed:
                raise Conflict(f"The record is {last.status.value}.", entity="ReputationRecord", rule="status")
            fresh = ReputationRecord(
                user=last.user,
                category=last.category,
                period=last.period,
                period_start=last.period_start,
                seq=last.seq + 1,
                status=status,
                score=last.score,
                previous=last.previous,
                alpha=last.alpha,
                beta=last.beta,
                half_life_days=last.half_life_days,
                evidence_count=last.evidence_count,
                as_of=last.as_of,
                reason=why,
            )
            return await put(self, fresh)

    async def _last(self, record: ReputationRecord) -> ReputationRecord:
        """The last row of a record's period, which has to be the record itself."""
        found = await self.find(
            ReputationRecord.user == Ref(record.user.id),
            ReputationRecord.category == record.category,
            ReputationRecord.period == record.period,
            ReputationRecord.period_start == record.period_start,
            order=desc(ReputationRecord.seq),
            limit=1,
        )
        if not found or found[0].id != record.id:
            raise Conflict(
                "The record is not the last of its period.", entity="ReputationRecord", remedy="Read the series again."
            )
        return found[0]

    async def _before(
        self, user: UUID, category: ScoringCategory, period: ScoringPeriod, start: datetime
    ) -> ReputationRecord | None:
        """The record that holds for the period before; one that was revoked is passed over."""
        rows = await self.find(
            ReputationRecord.user == Ref(user),
            ReputationRecord.category == category,
            ReputationRecord.period == period,
            less_than(ReputationRecord.period_start, start),
            order=(desc(ReputationRecord.period_start), desc(ReputationRecord.seq)),
            limit=50,
        )
        seen: set[datetime] = set()
        for row in rows:
            if row.period_start not in seen and row.status is not ReputationStatus.REVOKED:
                return row
            seen.add(row.period_start)
        return None

    def _when(self, at: datetime | None) -> datetime:
        return self.db.now() if at is None else moment(at, "at")


def _record(
    now: Standing, period: ScoringPeriod, start: datetime, before: ReputationRecord | None, policy: ReputationPolicy
) -> ReputationRecord:
    return ReputationRecord(
        id=uuid7(),
        user=Ref(now.user),
        category=now.category,
        period=period,
        period_start=start,
        score=now.score,
        previous=None if before is None else before.score,
        alpha=_rounded(now.beta.alpha, _ATTO),
        beta=_rounded(now.beta.beta, _ATTO),
        half_life_days=None if policy.half_life_days is None else max(_NANO, _rounded(policy.half_life_days, _NANO)),
        evidence_count=now.evidence_count,
        as_of=now.as_of,
    )


def _rounded(value: Decimal, place: Decimal) -> Decimal:
    """A value with as many decimals as its column, whatever the caller's own context of decimals is."""
    return value.quantize(place, ROUND_HALF_EVEN, EXACT)


def _check_policy(given: Any) -> None:
    if given.__class__ is not ReputationPolicy:
        raise Invalid("A policy is a ReputationPolicy.", field="policy", remedy="Write ReputationPolicy(...).")


def _category(given: Any) -> ScoringCategory:
    if given.__class__ is not ScoringCategory:
        names = ", ".join(f"ScoringCategory.{c.name}" for c in ScoringCategory)
        raise Invalid("That is no category.", field="category", remedy=f"Categories are: {names}.")
    return ScoringCategory(given)


def _reason(given: Any) -> str:
    if not isinstance(given, str) or not given.strip():
        raise Invalid("It takes a reason.", field="reason", remedy="Say why: reason='the bank confirmed the payment'.")
    return given.strip()
