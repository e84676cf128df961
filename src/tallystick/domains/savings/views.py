"""What a group looks like: itself with everything in it, and where each member stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.domains.savings.contributions import Contribution, ContributionKind, ContributionStatus
from tallystick.domains.savings.groups import SavingsGroup
from tallystick.domains.savings.members import GroupMember
from tallystick.domains.savings.payouts import Payout, PayoutStatus
from tallystick.domains.savings.rounds import GroupRound
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session


class Circle(msgspec.Struct, frozen=True, kw_only=True):
    """A group with its members (each with their user loaded), rounds in order, contributions and payouts."""

    group: SavingsGroup
    members: list[GroupMember]
    rounds: list[GroupRound]
    contributions: list[Contribution]
    payouts: list[Payout]

    @property
    def paid_in(self) -> Money:
        """Everything that was contributed, collateral that was drawn included, late fees not."""
        return self.group.money(sum(_in(c) for c in self.contributions if c.kind is ContributionKind.REGULAR))

    @property
    def paid_out(self) -> Money:
        """Everything that members received."""
        return self.group.money(sum(p.amount for p in self._standing))

    @property
    def fees(self) -> Money:
        """Service fees that were kept."""
        return self.group.money(sum(p.fee for p in self._standing))

    @property
    def held(self) -> Money:
        """What is in the pot now."""
        return self.paid_in - self.paid_out - self.fees

    @property
    def owed(self) -> Money:
        """What members owe of contributions that are late or were given up."""
        behind = (ContributionStatus.LATE, ContributionStatus.DEFAULTED)
        return self.group.money(sum(c.owed for c in self.contributions if c.status in behind))

    def saved(self, member: GroupMember) -> Money:
        """What a member has contributed."""
        rows = (c for c in self.contributions if c.member == member.ref and c.kind is ContributionKind.REGULAR)
        return self.group.money(sum(_in(c) for c in rows))

    @property
    def _standing(self) -> Sequence[Payout]:
        return [p for p in self.payouts if p.status is not PayoutStatus.VOID]


def _in(row: Contribution) -> int:
    return row.amount if row.status is ContributionStatus.CONFIRMED else row.covered


async def circle(db: Session, group: UUID) -> Circle:
    """See ``Circles.circle``."""
    async with db.transaction("repeatable read", read_only=True) if not db.unit.depth else db.transaction():
        found = await db.circles.get(group)
        of = found.ref
        return Circle(
            group=found,
            members=await db[GroupMember].find(GroupMember.group == of, load=[GroupMember.user]),
            rounds=await db[GroupRound].find(GroupRound.group == of, order=GroupRound.seq),
            contributions=[c async for c in db[Contribution].stream(Contribution.group == of)],
            payouts=[p async for p in db[Payout].stream(Payout.group == of)],
        )
