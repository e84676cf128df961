"""Members who do not pay: collateral pays what it can, and the rest is a claim of the group's."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.guarded import alter, put
from tallystick.domains.idempotency import idempotent
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.domains.savings.access import day_of, held, member_of, organize, round_of
from tallystick.domains.savings.books import Purse, post
from tallystick.domains.savings.collecting import collected, mark, overdue
from tallystick.domains.savings.contributions import OPEN, Contribution, ContributionKind, ContributionStatus
from tallystick.domains.savings.groups import GroupStatus, SavingsGroup
from tallystick.domains.savings.members import GroupMember, GroupMemberStatus
from tallystick.domains.savings.rounds import GroupRound, RoundStatus
from tallystick.errors import Conflict

if TYPE_CHECKING:
    from tallystick.session import Session

_C, _M = ContributionStatus, GroupMemberStatus


async def default(db: Session, group: UUID, user: UserLike, on: date | None, key: str | None) -> Contribution:
    """See ``Circles.default``."""
    who = user_id(user)
    day = day_of(db, on)
    async with idempotent(db, "circles.default", key, (group, who, on)) as once:
        if once.replayed:
            return await db[Contribution].get(once.results[0])
        found = await held(db, group, GroupStatus.ACTIVE)
        await organize(db, found)
        member = await member_of(db, found, who)
        current = await round_of(db, found)
        rows = await db[Contribution].find(
            Contribution.round == current.ref,
            Contribution.member == member.ref,
            Contribution.kind == ContributionKind.REGULAR,
        )
        if not rows or rows[0].status not in OPEN or rows[0].status in (_C.PENDING, _C.ORPHANED):
            raise Conflict(
                "The member owes nothing in this round that could be given up.",
                entity="Contribution",
                rule="contributed",
                remedy="What is on its way is settled first.",
            )
        if not overdue(found, current, day):
            raise Conflict(
                "The contribution is not overdue: the days of grace are not over.",
                entity="Contribution",
                rule="grace",
                remedy="Wait until they are.",
            )
        row = rows[0] if rows[0].status is _C.LATE else await mark(db, found, rows[0])
        drawn = min(member.collateral, row.amount)
        claim = row.amount - drawn
        lost = member.has_received
        if lost:
            claim += (found.rounds - current.seq) * found.contribution_amount
        after = await db[GroupMember].get(member.id)
        await alter(
            db[GroupMember],
            after,
            collateral=member.collateral - drawn,
            status=_M.DEFAULTED if lost else member.status,
        )
        moves = [(Purse.COLLATERAL, Purse.POT, drawn), (Purse.RECEIVABLE, Purse.CLAIMED, claim)]
        journal = await post(db, found, moves, op="circle.default", on=day)
        given_up = await alter(
            db[Contribution], row, status=_C.DEFAULTED, covered=drawn, effective=day, journal=journal
        )
        if current.status is RoundStatus.OPEN:
            current = await alter(db[GroupRound], current, status=RoundStatus.COLLECTING_LATE)
        await collected(db, current)
        once.results = (given_up.id,)
    return given_up


async def default_again(db: Session, group: SavingsGroup, current: GroupRound, member: GroupMember, day: date) -> None:
    """The contribution of who defaulted, to a later round: claimed before, and paid by what collateral is left."""
    drawn = min(member.collateral, group.contribution_amount)
    await alter(db[GroupMember], member, collateral=member.collateral - drawn)
    moves = [(Purse.COLLATERAL, Purse.POT, drawn), (Purse.CLAIMED, Purse.RECEIVABLE, drawn)]
    journal = await post(db, group, moves, op="circle.default", on=day)
    await put(
        db[Contribution],
        Contribution(
            group=group.ref,
            round=current.ref,
            member=member.ref,
            amount=group.contribution_amount,
            covered=drawn,
            status=_C.DEFAULTED,
            effective=day,
            journal=journal,
        ),
    )
