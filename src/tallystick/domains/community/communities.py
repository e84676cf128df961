"""Communities: groups of users who lend to each other by rules of their own."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import msgspec

from tallystick.domains.community.governance import Governance
from tallystick.entity import Entity
from tallystick.fields import Length, Numeric, Once, OwnAsset
from tallystick.money import Money
from tallystick.rules import Check, Index, Rules, Transitions, Unique, kept

Reputation = Annotated[Decimal, Numeric(10, 6)]
"""How well thought of a member is, 0 to 1,000."""


class CommunityStatus(StrEnum):
    """Where a community is in its life; ``suspended`` is the operator's doing, ``dissolved`` is for good."""

    FORMING = "forming"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DISSOLVED = "dissolved"


_S = CommunityStatus


class Community(Entity):
    """A group of users with roles, rules and one asset in which it lends and stakes.

    A member borrows with a reputation of at least ``min_reputation_to_borrow`` and no more than ``max_loan_amount``,
    where there is one.
    """

    name: Annotated[str, Length(200, min=1)]
    slug: Annotated[str, Length(63, min=1), Once()]
    asset: Annotated[str, Length(32, min=2), Once()]
    governance: Governance = msgspec.field(default_factory=Governance)
    status: CommunityStatus = CommunityStatus.FORMING
    min_reputation_to_borrow: Reputation = Decimal(0)
    max_loan_amount: Annotated[Money, OwnAsset()] | None = None

    rules = Rules(
        Unique("slug"),
        Index("status", "created_at", query="communities of a status, newest first"),
        Check("reputation", "min_reputation_to_borrow between 0 and 1000"),
        Check("max_loan", "max_loan_amount is null or max_loan_amount > 0"),
        Check("one_asset", "max_loan_amount_asset is null or max_loan_amount_asset = asset"),
        Transitions(
            "status",
            {
                _S.FORMING: [_S.ACTIVE, _S.DISSOLVED],
                _S.ACTIVE: [_S.SUSPENDED, _S.DISSOLVED],
                _S.SUSPENDED: [_S.ACTIVE, _S.DISSOLVED],
            },
            initial=[_S.FORMING],
        ),
        kept(),
        retain="community",
    )
