"""From one round to the next, and to the end."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.guarded import alter
from tallystick.domains.idempotency import idempotent
from tallystick.domains.savings.access import day_of, held, organize, round_of
from tallystick.domains.savings.books import Move, Purse, post
from tallystick.domains.savings.contributions import UNPAID, Contribution, ContributionKind, ContributionStatus
from tallystick.domains.savings.founding import open_round
from tallystick.domains.savings.groups import GroupStatus, OrderKind, SavingsGroup
from tallystick.domains.savings.members import GroupMember, GroupMemberStatus
from tallystick.domains.savings.paying import gross
from tallystick.domains.savings.payouts import Payout, PayoutKind, PayoutStatus
from tallystick.domains.savings.rounds import GroupRound, RoundStatus
from tallystick.errors import Conflict
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session

_S, _R = GroupStatus, RoundStatus
_UNSETTLED = (PayoutStatus.SUBMITTED, PayoutStatus.FAILED, PayoutStatus.ORPHANED)


async def advance(db: Session, group: UUID, on: date | None, key: str | None) -> SavingsGroup:
    """See ``Circles.advance``."""
    day = day_of(db, on)
    async with idempotent(db, "circles.advance", key, (group, on)) as once:
        if once.replayed:
            return await db.circles.get(once.results[0])
        found = await held(db, group, _S.ACTIVE)
        await organize(db, found)
        current = await round_of(db, found)
        if current.status is not _R.PAID_OUT and found.order_kind is not OrderKind.NONE:
            raise Conflict(
                "The pot of the round is not paid out.",
                entity="GroupRound",
                rule="not_paid_out",
                remedy="Pay it out first: circles.pay_out(group).",
            )
        if found.order_kind is not OrderKind.NONE and await db[Payout].exists(
            Payout.round == current.ref, Payout.kind == PayoutKind.POT, one_of(Payout.status, _UNSETTLED)
        ):
            raise Conflict(
                "The payout is not confirmed by its chain.",
                entity="Payout",
                rule="submitted",
                remedy="Say what became of it: circles.settle_payout(). A void one is paid again.",
            )
        if found.order_kind is OrderKind.NONE and day <= current.due_on:
            raise Conflict("The round is not over.", entity="GroupRound", rule="due_on", remedy="Advance after it is.")
        await alter(db[GroupRound], current, status=_R.CLOSED, closed_on=day)
        if current.seq < found.rounds:
            moved = await open_round(db, found, current.seq + 1, day)
        else:
            await _give_back(db, found, day)
            for member in await db[GroupMember].find(
                GroupMember.group == found.ref, GroupMember.status == GroupMemberStatus.ACTIVE
            ):
                await alter(db[GroupMember], member, status=GroupMemberStatus.COMPLETED)
            moved = await alter(db.circles, found, status=_S.COMPLETED, ended_on=day)
        once.results = (moved.id,)
    return moved


async def move(db: Session, group: UUID, status: GroupStatus) -> SavingsGroup:
    """See ``Circles.pause`` and ``resume``."""
    async with db.transaction():
        found = await held(db, group)
        await organize(db, found)
        if status is _S.ACTIVE and found.status is not _S.PAUSED:
            raise Conflict("The group is not paused.", entity="SavingsGroup", rule="status")
        if found.status is status:
            raise _is_already(found)
        return await alter(db.circles, found, status=status)


async def end(db: Session, group: UUID, status: GroupStatus, on: date | None, key: str | None) -> SavingsGroup:
    """See ``Circles.cancel`` and ``dissolve``."""
    day = day_of(db, on)
    early = status is _S.CANCELLED
    async with idempotent(db, f"circles.{'cancel' if early else 'dissolve'}", key, (group, on)) as once:
        if once.replayed:
            return await db.circles.get(once.results[0])
        found = await held(db, group)
        await organize(db, found)
        if found.status is status:
            raise _is_already(found)
        moved = await alter(db.circles, found, status=status, ended_on=day)
        if not early:
            current = await round_of(db, found)
            pot = found.order_kind is not OrderKind.NONE and current.status not in (_R.PAID_OUT, _R.CLOSED)
            if pot and await gross(db, current):
                raise Conflict(
                    "The round under way holds contributions.",
                    entity="SavingsGroup",
                    rule="pot_held",
                    remedy="Pay its pot out first.",
                )
            await _forgive(db, found, day)
        await _give_back(db, moved, day)
        once.results = (moved.id,)
    return moved


def _is_already(group: SavingsGroup) -> Conflict:
    return Conflict(f"The group is {group.status.value} already.", entity="SavingsGroup", rule="status")


async def _forgive(db: Session, group: SavingsGroup, day: date) -> None:
    """Nobody owes contributions to a round that never comes, nor to the one that is not paid out."""
    defaulted = await db[GroupMember].count(
        GroupMember.group == group.ref, GroupMember.status == GroupMemberStatus.DEFAULTED
    )
    claimed = defaulted * (group.rounds - group.current_round) * group.contribution_amount
    current = await round_of(db, group)
    rows = await db[Contribution].find(
        Contribution.round == current.ref,
        Contribution.kind == ContributionKind.REGULAR,
        one_of(Contribution.status, UNPAID),
    )
    for row in rows if current.status not in (_R.PAID_OUT, _R.CLOSED) else []:
        claimed += row.owed if row.status is ContributionStatus.DEFAULTED else 0
        await alter(db[Contribution], row, status=ContributionStatus.WAIVED)
    await post(db, group, [(Purse.CLAIMED, Purse.RECEIVABLE, claimed)], op="circle.dissolve", on=day)


async def _give_back(db: Session, group: SavingsGroup, day: date) -> None:
    """Return what is left of everybody's collateral."""
    members = [m for m in await db[GroupMember].find(GroupMember.group == group.ref) if m.collateral]
    moves: list[Move] = [(Purse.COLLATERAL, Purse.CLEARING, m.collateral) for m in members]
    await post(db, group, moves, op="circle.collateral_back", on=day)
    for member in members:
        await alter(db[GroupMember], member, collateral=0)
