"""The gates that a community puts before borrowing."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.conditions import Lock
from tallystick.domains.community.communities import CommunityStatus
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.errors import Denied, Invalid
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session


class Gate(StrEnum):
    """What a borrower is asked for, in this order."""

    COMMUNITY = "community"
    ASSET = "asset"
    AMOUNT = "amount"
    MEMBERSHIP = "membership"
    REPUTATION = "reputation"


class Borrowing(msgspec.Struct, frozen=True, kw_only=True):
    """Whether somebody may borrow; if not, the first gate that is closed, why, and what would open it."""

    allowed: bool
    gate: Gate | None = None
    reason: str = ""
    remedy: str = ""


async def may_borrow(db: Session, community: UUID, user: UserLike, amount: Money) -> Borrowing:
    """See ``Communities.may_borrow``. Raises ``Invalid`` for what is no amount of money above zero."""
    who = user_id(user)
    if amount.__class__ is not Money or amount.units <= 0:
        raise Invalid(
            "An amount to borrow is Money above zero.", field="amount", remedy='Write usd("250"); never a float.'
        )
    share: Lock = "shared" if db.unit.depth else ""
    found = await db.communities.locked(community, share)
    if found.status is not CommunityStatus.ACTIVE:
        return _closed(Gate.COMMUNITY, f"the community is {found.status.value}", "Only active communities lend.")
    if amount.asset != found.asset:
        return _closed(Gate.ASSET, "the community lends another asset", f"Ask for an amount of {found.asset}.")
    if found.max_loan_amount is not None and amount > found.max_loan_amount:
        return _closed(Gate.AMOUNT, "the amount is above the community's limit", "Ask for max_loan_amount or less.")
    held = await db.memberships.locked(community, who, share)
    if held is None or not held.is_active:
        return _closed(Gate.MEMBERSHIP, "the borrower is not an active member", "Invite them, and let them join.")
    if held.reputation < found.min_reputation_to_borrow:
        return _closed(
            Gate.REPUTATION,
            "the borrower's reputation is below the community's minimum",
            "It rises with communities.rate().",
        )
    return Borrowing(allowed=True)


async def check_borrowing(db: Session, community: UUID, user: UserLike, amount: Money) -> None:
    """See ``Communities.check_borrowing``."""
    verdict = await may_borrow(db, community, user, amount)
    if verdict.allowed or verdict.gate is None:
        return
    problem = f"The gate {verdict.gate.value!r} is closed: {verdict.reason}."
    if verdict.gate is Gate.ASSET:
        raise Invalid(problem, field="amount", remedy=verdict.remedy)
    raise Denied(problem, remedy=verdict.remedy)


def _closed(gate: Gate, reason: str, remedy: str) -> Borrowing:
    return Borrowing(allowed=False, gate=gate, reason=reason, remedy=remedy)
