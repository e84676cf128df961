"""A user's trust score in a community: three parts, each with its evidence, weighed by the community itself."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from tallystick.domains.community.eigentrust import eigentrust
from tallystick.domains.community.endorsements import Endorsement, EndorsementStatus
from tallystick.domains.community.governance import MemberRole, TrustPolicy
from tallystick.domains.community.memberships import CommunityMembership, MembershipStatus
from tallystick.domains.community.repayment import repayment_record
from tallystick.domains.community.trusting import edges
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.fields import Ref
from tallystick.money import Money, sum_of
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session

_PLACES = Decimal("0.000001")


class TrustPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a trust score: its value, 0 to 1, its weight, and what it follows from.

    ``value`` is None where there is no evidence, and ``reason`` says what is missing; such a part takes no share.
    """

    name: str
    weight: int
    value: Decimal | None = None
    reason: str = ""
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)


class TrustScore(msgspec.Struct, frozen=True, kw_only=True):
    """How much a user is to be trusted in a community as of a day, 0 to 1; None where no part has evidence.

    ``score`` is the mean of the parts that have a value, by their weights.
    """

    user: UUID
    community: UUID
    as_of: date
    score: Decimal | None
    parts: tuple[TrustPart, ...]

    def part(self, name: str) -> TrustPart:
        """The part of a name: "network", "endorsements" or "repayment"."""
        return next(p for p in self.parts if p.name == name)


async def scores(db: Session, community: UUID | None, as_of: date | None) -> dict[UUID, float]:
    """See ``Trust.scores``."""
    if community is None:
        return eigentrust(await edges(db, None, as_of))
    policy = (await db.communities.get(community)).governance.trust
    roles = [role for role in MemberRole if role.rank >= policy.trusted_role.rank]
    trusted = await db.memberships.find(
        CommunityMembership.community == Ref(community),
        CommunityMembership.status == MembershipStatus.ACTIVE,
        one_of(CommunityMembership.role, roles),
    )
    said = await edges(db, community, as_of)
    pre = {m.user.id: 1 for m in trusted} or None
    return eigentrust(said, pre_trust=pre, alpha=policy.alpha) if said else {}


async def score(db: Session, user: UserLike, community: UUID, as_of: date | None) -> TrustScore:
    """See ``Trust.score``."""
    who, day = user_id(user), db.today() if as_of is None else as_of
    await db.users.get(who)
    policy = (await db.communities.get(community)).governance.trust
    parts = (
        _network(policy, who, await scores(db, community, day)),
        await _endorsements(db, policy, who, community, day),
        await _repayment(db, policy, who, community, day),
    )
    return TrustScore(user=who, community=community, as_of=day, score=weighed(parts), parts=parts)


def weighed(parts: tuple[TrustPart, ...]) -> Decimal | None:
    """The mean of the parts that have a value, by their weights; six decimals."""
    counted = [(p.value, p.weight) for p in parts if p.value is not None and p.weight]
    if not counted:
        return None
    return _rounded(sum((v * w for v, w in counted), Decimal(0)) / sum(w for _, w in counted))


def _network(policy: TrustPolicy, who: UUID, shares: dict[UUID, float]) -> TrustPart:
    """Where the member stands among the others: the share of them who are trusted less, ties counted half."""
    part = TrustPart(name="network", weight=policy.network)
    if who not in shares:
        return _nothing(part, "nobody in the community has said whom they trust" if not shares else _UNKNOWN)
    mine = shares[who]
    others = len(shares) - 1
    below = sum(s < mine for s in shares.values())
    level = sum(s == mine for s in shares.values()) - 1
    if not others:
        return _nothing(part, "there is nobody to compare with")
    return msgspec.structs.replace(
        part,
        value=_rounded((below + Decimal(level) / 2) / others),
        evidence={"share": _rounded(Decimal(mine)), "members": len(shares), "trusted_less": below},
    )


_UNKNOWN = "nobody in the community has said whether they trust them, nor they whom"


async def _endorsements(db: Session, policy: TrustPolicy, who: UUID, community: UUID, day: date) -> TrustPart:
    """Endorsements that stand on the day, by count and stake: 1 - 2^(-n / half_at)."""
    part = TrustPart(name="endorsements", weight=policy.endorsements)
    found = await db.endorsements.find(
        Endorsement.community == Ref(community), Endorsement.endorsee == Ref(who), Endorsement.given_on <= day
    )
    standing = [e for e in found if e.ended_on is None or e.ended_on > day]
    slashed = [e for e in found if e.status is EndorsementStatus.SLASHED and e not in standing]
    if not standing and not slashed:
        return _nothing(part, "nobody vouches for them")
    stakes = [e.stake for e in standing if e.stake is not None]
    counted = len(standing) + (policy.staked_counts - 1) * len(stakes) - len(slashed)
    value = 1 - Decimal(2) ** (-Decimal(max(0, counted)) / policy.half_at)
    staked: Money | None = sum_of(stakes) if stakes else None
    return msgspec.structs.replace(
        part,
        value=_rounded(value),
        evidence={
            "endorsements": len(standing),
            "with_stake": len(stakes),
            "staked": None if staked is None else str(staked),
            "slashed": len(slashed),
        },
    )


async def _repayment(db: Session, policy: TrustPolicy, who: UUID, community: UUID, day: date) -> TrustPart:
    """The share of installments paid on time, less for what is late now; zero after a write-off."""
    part = TrustPart(name="repayment", weight=policy.repayment)
    record = await repayment_record(db, who, community, day)
    if record is None:
        return _nothing(part, "they have no loan in the community of which anything was due")
    value = Decimal(0)
    if not record.written_off:
        late = min(record.days_past_due, policy.late_days)
        value = Decimal(record.on_time) / record.due * (policy.late_days - late) / policy.late_days
    return msgspec.structs.replace(
        part,
        value=_rounded(value),
        evidence={name: getattr(record, name) for name in record.__struct_fields__},
    )


def _nothing(part: TrustPart, reason: str) -> TrustPart:
    return msgspec.structs.replace(part, reason=f"No evidence: {reason}.")


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(_PLACES, ROUND_HALF_EVEN)
