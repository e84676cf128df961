"""Reputation records: what a user's reputation was, period by period. Rows are only ever added."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from tallystick.clock import find_zone
from tallystick.domains.identity.users import User
from tallystick.domains.reputation.analytics import moment
from tallystick.domains.reputation.beta import days, decayed
from tallystick.domains.reputation.scores import ScoringCategory
from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import Length, Numeric, Ref
from tallystick.rules import Check, Index, Readable, Rules, Unique, append_only

if TYPE_CHECKING:
    from tallystick.domains.identity.tenants import TenantInfo

Mass = Annotated[Decimal, Numeric(38, 18)]
"""So much good or bad experience."""


class ScoringPeriod(StrEnum):
    """What a record is of: a moment, or a day, week (from Monday) or month of the tenant's calendar."""

    INSTANT = "instant"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class ReputationStatus(StrEnum):
    """Where a record stands. A later row of the same period supersedes the one before; no row is changed for that."""

    ACTIVE = "active"
    SUPERSEDED = "superseded"
    DISPUTED = "disputed"
    REVOKED = "revoked"


class ReputationRecord(Entity):
    """A user's reputation in a category as of ``as_of``, for the period that begins at ``period_start``.

    ``seq`` counts the rows of one period: the last one is what holds, and every status change is a row. ``score`` and
    ``previous`` are 0 to 1000; ``alpha``, ``beta`` and ``half_life_days`` are what the score was made of and by.
    """

    user: Ref[User]
    category: ScoringCategory
    period: ScoringPeriod
    period_start: datetime
    seq: int = 1
    status: ReputationStatus = ReputationStatus.ACTIVE
    score: int
    previous: int | None = None
    alpha: Mass
    beta: Mass
    half_life_days: Annotated[Decimal, Numeric(18, 9)] | None = None
    evidence_count: int
    as_of: datetime
    reason: Annotated[str, Length(500, min=1)] | None = None

    rules = Rules(
        append_only(),
        Unique("user", "category", "period", "period_start", "seq"),
        Index("category", "period", "period_start", query="everybody's reputation in a period"),
        Check("seq", "seq >= 1"),
        Check("derived", "status <> 'superseded'"),
        Check("score", "score between 0 and 1000 and (previous is null or previous between 0 and 1000)"),
        Check("mass", "alpha >= 0 and beta >= 0"),
        Check("half_life", "half_life_days is null or half_life_days > 0"),
        Check("evidence_count", "evidence_count >= 0"),
        Check("as_of", "as_of >= period_start"),
        Check("reason", "status = 'active' or reason is not null"),
        retain="scoring",
        readable={"reason": Readable.NOTE},
    )

    def score_at(self, at: datetime) -> Decimal:
        """What is left of the score at a later moment: half of it after each half-life. Raises ``Invalid``."""
        elapsed = moment(at, "at") - self.as_of
        if elapsed < timedelta(0):
            raise Invalid("The record is of a later moment.", field="at", remedy="Read the series as of then.")
        if self.half_life_days is None:
            return Decimal(self.score)
        return decayed(Decimal(self.score), elapsed, days(self.half_life_days))


def check_period(given: ScoringPeriod) -> ScoringPeriod:
    """The period itself. Raises ``Invalid`` for anything that is none."""
    if given.__class__ is not ScoringPeriod:
        names = ", ".join(f"ScoringPeriod.{p.name}" for p in ScoringPeriod)
        raise Invalid("That is no period.", field="period", remedy=f"Periods are: {names}.")
    return given


def period_start(period: ScoringPeriod, at: datetime, tenant: TenantInfo) -> datetime:
    """When the period that a moment lies in began, by the tenant's wall clock; a moment is its own period."""
    if check_period(period) is ScoringPeriod.INSTANT:
        return at.astimezone(UTC)
    zone = find_zone(tenant.time_zone)
    day: date = at.astimezone(zone).date()
    if period is ScoringPeriod.WEEKLY:
        day -= timedelta(days=day.weekday())
    elif period is ScoringPeriod.MONTHLY:
        day = day.replace(day=1)
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
