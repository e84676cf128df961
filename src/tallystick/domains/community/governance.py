"""Roles, and what a community decides for itself: who may do what, and how trust is counted. All of it is data."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from tallystick.errors import Invalid


class MemberRole(StrEnum):
    """What a member may do. Each role may do everything that those before it may."""

    MEMBER = "member"
    MODERATOR = "moderator"
    TREASURER = "treasurer"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """The role's place in the order, from 0."""
        return _RANKS[self]


_RANKS = {role: rank for rank, role in enumerate(MemberRole)}


class TrustPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a trust score is made of its parts.

    ``network``, ``endorsements`` and ``repayment`` are weights, of which only the ratios count; a part without
    evidence takes no share. ``half_at`` endorsements are worth one half, twice as many three quarters; one with a
    stake counts as ``staked_counts``, one that was slashed takes one away. ``late_days`` of delay take a repayment
    record to zero. ``alpha`` is how much of each member's trust always comes from those trusted beforehand, who are
    the members with the role ``trusted_role`` or a higher one.
    """

    network: int = 40
    endorsements: int = 20
    repayment: int = 40
    half_at: int = 3
    staked_counts: int = 2
    late_days: int = 90
    alpha: Decimal = Decimal("0.15")
    trusted_role: MemberRole = MemberRole.MODERATOR

    def __post_init__(self) -> None:
        weights = (self.network, self.endorsements, self.repayment)
        if not all(_whole(w, 0, 1_000) for w in weights) or not any(weights):
            raise _wrong("trust", "Give the parts weights from 0 to 1,000, at least one of them above zero.")
        if not _whole(self.half_at, 1, 1_000) or not _whole(self.staked_counts, 1, 100):
            raise _wrong("trust", "half_at is from 1 to 1,000, staked_counts from 1 to 100.")
        if not _whole(self.late_days, 1, 3_660):
            raise _wrong("trust", "late_days is from 1 to 3,660.")
        if self.alpha.__class__ is not Decimal or not 0 < self.alpha <= 1:
            raise _wrong("trust", 'alpha is a Decimal above 0 and up to 1, Decimal("0.15") for instance.')
        _role("trusted_role", self.trusted_role)


class Governance(msgspec.Struct, frozen=True, kw_only=True):
    """What a community decides for itself: the least role for each task, and whether anybody may join.

    ``sanctioned_by`` suspends, reinstates and bans members below themselves. ``stake_needed`` refuses endorsements
    without a stake. The trusted handling of money, ``slashed_by``, is the treasurer's unless decided otherwise.
    """

    open_to_join: bool = False
    invited_by: MemberRole = MemberRole.MODERATOR
    sanctioned_by: MemberRole = MemberRole.MODERATOR
    rated_by: MemberRole = MemberRole.MODERATOR
    slashed_by: MemberRole = MemberRole.TREASURER
    endorsed_by: MemberRole = MemberRole.MEMBER
    stake_needed: bool = False
    trust: TrustPolicy = msgspec.field(default_factory=TrustPolicy)

    def __post_init__(self) -> None:
        for name in ("open_to_join", "stake_needed"):
            if getattr(self, name).__class__ is not bool:
                raise _wrong(name, f"{name} is True or False.")
        for name in ("invited_by", "sanctioned_by", "rated_by", "slashed_by", "endorsed_by"):
            _role(name, getattr(self, name))
        if self.trust.__class__ is not TrustPolicy:
            raise _wrong("trust", "Write trust=TrustPolicy(...).")
        for name in ("sanctioned_by", "rated_by", "slashed_by"):
            if getattr(self, name) is MemberRole.MEMBER:
                raise _wrong(name, f"{name} is a role above plain members, who would judge each other.")


def _whole(value: Any, low: int, high: int) -> bool:
    return value.__class__ is int and low <= value <= high


def _role(name: str, value: Any) -> None:
    if value.__class__ is not MemberRole:
        raise _wrong(name, f"{name} is one of {', '.join(f'MemberRole.{r.name}' for r in MemberRole)}.")


def _wrong(field: str, remedy: str) -> Invalid:
    return Invalid(f"The governance's {field} is not usable.", entity="Community", field=field, remedy=remedy)
