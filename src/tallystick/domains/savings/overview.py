"""Where all groups of a tenant stand, summed by the database."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.domains.savings.contributions import Contribution, ContributionKind, ContributionStatus
from tallystick.domains.savings.groups import SavingsGroup
from tallystick.domains.savings.members import GroupMember
from tallystick.domains.savings.payouts import Payout, PayoutStatus
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session

_BEHIND = ("late", "defaulted")


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """One group: what was paid in (late fees not), paid out and kept as fees, what members owe, who is behind."""

    group: SavingsGroup
    paid_in: Money
    paid_out: Money
    fees: Money
    owed: Money
    in_debt: int
    received: int

    @property
    def held(self) -> Money:
        """What is in the pot."""
        return self.paid_in - self.paid_out - self.fees


class _Sums(msgspec.Struct, frozen=True):
    id: UUID
    first: int = 0
    second: int = 0


async def overview(db: Session) -> list[Overview]:
    """See ``Circles.overview``."""
    from sqlalchemy import Integer, case, cast, func, select

    c, p, m = Contribution.table.c, Payout.table.c, GroupMember.table.c
    standing = case((c.status == ContributionStatus.CONFIRMED.value, c.amount), else_=c.covered)
    open_ = case((c.status.in_(_BEHIND), c.amount - c.covered), else_=0)
    given = await db.fetch(
        select(c.group_id.label("id"), func.sum(standing).label("first"), func.sum(open_).label("second"))
        .where(c.kind == ContributionKind.REGULAR.value)
        .group_by(c.group_id),
        into=_Sums,
    )
    gone = await db.fetch(
        select(p.group_id.label("id"), func.sum(p.amount).label("first"), func.sum(p.fee).label("second"))
        .where(p.status != PayoutStatus.VOID.value)
        .group_by(p.group_id),
        into=_Sums,
    )
    flags = await db.fetch(
        select(
            m.group_id.label("id"),
            func.sum(cast(m.in_debt, Integer)).label("first"),
            func.sum(cast(m.has_received, Integer)).label("second"),
        ).group_by(m.group_id),
        into=_Sums,
    )
    ins, outs, people = ({row.id: row for row in rows} for rows in (given, gone, flags))
    found = []
    async for group in db.circles.stream():
        nothing = _Sums(group.id)
        paid, out, who = (rows.get(group.id, nothing) for rows in (ins, outs, people))
        found.append(
            Overview(
                group=group,
                paid_in=group.money(paid.first),
                owed=group.money(paid.second),
                paid_out=group.money(out.first),
                fees=group.money(out.second),
                in_debt=who.first,
                received=who.second,
            )
        )
    return found
