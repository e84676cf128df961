"""Contributions coming in: paid, on their way, late, waived; and passed on when they come after their pot."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.domains.chain_logs import ChainLog, log_columns
from tallystick.domains.guarded import alter, put
from tallystick.domains.idempotency import idempotent
from tallystick.domains.identity.users import UserLike
from tallystick.domains.savings.access import day_of, held, member_of, organize, round_of, themselves
from tallystick.domains.savings.books import Purse, post
from tallystick.domains.savings.contributions import (
    OPEN,
    UNPAID,
    Contribution,
    ContributionKind,
    ContributionStatus,
)
from tallystick.domains.savings.groups import MANAGE, GroupStatus, OrderKind, SavingsGroup
from tallystick.domains.savings.members import GroupMember
from tallystick.domains.savings.rounds import GroupRound, RoundStatus
from tallystick.errors import Conflict, Invalid
from tallystick.money import Money
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session

_C, _K, _R = ContributionStatus, ContributionKind, RoundStatus
PAYING = (GroupStatus.ACTIVE, GroupStatus.PAUSED, GroupStatus.COMPLETED, GroupStatus.DISSOLVED)
"""Contributions are accepted even after the end of a group."""


async def contribute(  # noqa: PLR0917
    db: Session,
    group: UUID,
    user: UserLike | None,
    amount: Money | None,
    seq: int | None,
    kind: ContributionKind,
    log: ChainLog | None,
    pending: bool,
    on: date | None,
    key: str | None,
) -> Contribution:
    """See ``Circles.contribute``."""
    who = await themselves(db, user)
    day = day_of(db, on)
    log_columns(log)
    if kind.__class__ is not ContributionKind:
        raise Invalid("That is no kind of contribution.", field="kind", remedy="Give ContributionKind.REGULAR.")
    request = (group, who, amount, seq, kind, log, pending, on)
    async with idempotent(db, "circles.contribute", key, request) as once:
        if once.replayed:
            return await db[Contribution].get(once.results[0])
        found = await held(db, group, *PAYING)
        if pending and (log is None or not found.mirrored):
            raise Invalid(
                "Only what a chain has not settled yet is pending.",
                field="pending",
                remedy="Give the log, in a mirrored group.",
            )
        if found.mirrored and not pending:
            # A chain's word, and not the member's own.
            await db.require(MANAGE)
        member = await member_of(db, found, who)
        if found.order_kind is OrderKind.NONE:
            if pending or kind is not _K.REGULAR:
                raise Invalid(
                    "Savings without a pot are neither pending nor late.",
                    field="pending" if pending else "kind",
                    remedy="Put them in once they are there.",
                )
            paid = await _save(db, found, member, amount, seq, log, day)
        else:
            due = await _due(db, found, member, seq, kind)
            if amount is not None and found.units(amount) != due.owed:
                raise Invalid(
                    "The amount is not what is owed.",
                    entity="Contribution",
                    field="amount",
                    remedy="Leave it out, or see circles.contributions(group, user=...); a contribution is paid whole.",
                )
            paid = await _pay(db, found, due, log, pending=pending, day=day)
        once.results = (paid.id,)
    return paid


async def settle(
    db: Session, contribution: UUID, status: ContributionStatus, log: ChainLog | None, on: date | None
) -> Contribution:
    """See ``Circles.settle_contribution``."""
    await db.require(MANAGE)
    day, where = day_of(db, on), log_columns(log)
    if status not in (_C.CONFIRMED, _C.FAILED, _C.ORPHANED):
        raise Invalid("A chain confirms, fails or orphans.", field="status")
    known = await db[Contribution].get(contribution)
    async with db.transaction():
        found = await held(db, known.group.id, *PAYING)
        if not found.mirrored:
            raise Invalid("No chain holds the money of this group.", field="contribution")
        was = await db[Contribution].lock(contribution)
        if was.status is status:
            return was
        if status is not _C.CONFIRMED:
            # Confirmed rows are dated by when they were; what is no longer confirmed keeps its date as a trace.
            changed = await alter(db[Contribution], was, status=status, **where)
            await _reopen(db, changed)
            return changed
        return await _confirmed(db, found, was, day, None, where)


async def mark_late(db: Session, group: UUID, on: date | None, key: str | None) -> list[Contribution]:
    """See ``Circles.mark_late``."""
    day = day_of(db, on)
    async with idempotent(db, "circles.mark_late", key, (group, on)) as once:
        if once.replayed:
            return [await db[Contribution].get(id) for id in once.results]
        found = await held(db, group, GroupStatus.ACTIVE)
        await organize(db, found)
        current = await round_of(db, found)
        if not overdue(found, current, day):
            return []
        rows = await db[Contribution].find(
            Contribution.round == current.ref,
            Contribution.kind == _K.REGULAR,
            one_of(Contribution.status, [_C.EXPECTED, _C.FAILED]),
        )
        late = [await mark(db, found, row) for row in rows]
        if late and current.status is _R.OPEN:
            await alter(db[GroupRound], current, status=_R.COLLECTING_LATE)
        once.results = tuple(row.id for row in late)
    return late


async def mark(db: Session, group: SavingsGroup, row: Contribution) -> Contribution:
    """Make one contribution late, with the fee that the group agreed on."""
    late = await alter(db[Contribution], row, status=_C.LATE)
    fee = Contribution(group=row.group, round=row.round, member=row.member, kind=_K.LATE_FEE, amount=group.late_fee)
    if group.late_fee and not await db[Contribution].exists(
        Contribution.round == row.round, Contribution.member == row.member, Contribution.kind == _K.LATE_FEE
    ):
        await put(db[Contribution], fee)
    return late


def overdue(group: SavingsGroup, current: GroupRound, day: date) -> bool:
    """Whether the days of grace of a round are over."""
    return day > current.due_on + timedelta(days=group.grace_days)


async def waive(db: Session, contribution: UUID, on: date | None, key: str | None) -> Contribution:
    """See ``Circles.waive``."""
    await db.require(MANAGE)
    day = day_of(db, on)
    async with idempotent(db, "circles.waive", key, (contribution, on)) as once:
        if once.replayed:
            return await db[Contribution].get(once.results[0])
        known = await db[Contribution].get(contribution)
        found = await held(db, known.group.id, *PAYING)
        row = await db[Contribution].lock(contribution)
        if row.status is _C.DEFAULTED:
            claim = [(Purse.CLAIMED, Purse.RECEIVABLE, row.owed)]
            await post(db, found, claim, op="circle.waive", on=day)
        waived = await alter(db[Contribution], row, status=_C.WAIVED)
        if row.kind is _K.REGULAR:
            await collected(db, await db[GroupRound].get(row.round.id))
        once.results = (waived.id,)
    return waived


async def collected(db: Session, current: GroupRound) -> GroupRound:
    """Make a round payable when nothing of it is open any more."""
    if current.status not in (_R.OPEN, _R.COLLECTING_LATE, _R.DEFAULTED):
        return current
    rows = await db[Contribution].find(Contribution.round == current.ref, Contribution.kind == _K.REGULAR)
    if any(row.status in OPEN for row in rows):
        return current
    short = any(row.status is _C.DEFAULTED and row.covered < row.amount for row in rows)
    wanted = _R.DEFAULTED if short else _R.FUNDED
    return current if current.status is wanted else await alter(db[GroupRound], current, status=wanted)


# -- inside ------------------------------------------------------------------------------------------------------


async def _due(
    db: Session, group: SavingsGroup, member: GroupMember, seq: int | None, kind: ContributionKind
) -> Contribution:
    """What the member pays now: their oldest unpaid contribution, or that of a round. Raises ``Conflict``."""
    where = [Contribution.member == member.ref, Contribution.kind == kind]
    if seq is not None:
        where.append(Contribution.round == (await round_of(db, group, seq)).ref)
    rows = await db[Contribution].find(*where, one_of(Contribution.status, UNPAID))
    rounds = {r.id: r.seq for r in await db[GroupRound].find(GroupRound.group == group.ref)} if len(rows) > 1 else {}
    for row in sorted(rows, key=lambda r: rounds.get(r.round.id, 0)):
        if row.owed:
            return row
    raise Conflict(
        "The member owes no contribution: it is paid, on its way, or its round is not open.",
        entity="Contribution",
        rule="contributed",
        remedy="A member contributes once in a round; the next is due when its round opens.",
    )


async def _pay(
    db: Session, group: SavingsGroup, due: Contribution, log: ChainLog | None, *, pending: bool, day: date
) -> Contribution:
    where = log_columns(log)
    if pending:
        return await alter(db[Contribution], due, status=_C.PENDING, effective=day, **where)
    into = Purse.POT if due.kind is _K.REGULAR else Purse.FEES
    moves = [(Purse.CLEARING, into, due.owed)]
    if due.status is _C.DEFAULTED:
        moves.append((Purse.CLAIMED, Purse.RECEIVABLE, due.owed))
    journal = await post(db, group, moves, op=f"circle.{due.kind.value}", on=day)
    return await _confirmed(db, group, due, day, journal, where)


async def _confirmed(  # noqa: PLR0917
    db: Session, group: SavingsGroup, due: Contribution, day: date, journal: Any, where: dict[str, Any]
) -> Contribution:
    from tallystick.domains.savings.paying import pass_on

    owed = due.amount - due.covered
    paid = await alter(db[Contribution], due, status=_C.CONFIRMED, effective=day, journal=journal, **where)
    if due.kind is _K.REGULAR:
        current = await db[GroupRound].get(due.round.id)
        if current.status in (_R.PAID_OUT, _R.CLOSED):
            await pass_on(db, group, current, paid, owed, day)
        else:
            await collected(db, current)
    return paid


async def _reopen(db: Session, row: Contribution) -> None:
    """A round that was payable is not when a contribution to it turns out not to have been made."""
    current = await db[GroupRound].get(row.round.id)
    if row.kind is _K.REGULAR and current.is_payable:
        await alter(db[GroupRound], current, status=_R.OPEN)


async def _save(  # noqa: PLR0917
    db: Session,
    group: SavingsGroup,
    member: GroupMember,
    amount: Money | None,
    seq: int | None,
    log: ChainLog | None,
    day: date,
) -> Contribution:
    """A contribution of any amount to a group without pots, one a round."""
    units = group.units(amount)
    if units == 0:
        raise Invalid("A contribution is above zero.", entity="Contribution", field="amount")
    current = await round_of(db, group, seq)
    if current.status is not _R.OPEN:
        raise Conflict("The round is not open.", entity="GroupRound", rule="status")
    known = (Contribution.round == current.ref, Contribution.member == member.ref)
    if await db[Contribution].exists(*known):
        raise Conflict("The member contributed to this round already.", entity="Contribution", rule="contributed")
    journal = await post(db, group, [(Purse.CLEARING, Purse.POT, units)], op="circle.regular", on=day)
    return await put(
        db[Contribution],
        Contribution(
            group=group.ref,
            round=current.ref,
            member=member.ref,
            amount=units,
            status=_C.CONFIRMED,
            effective=day,
            journal=journal,
            **log_columns(log),
        ),
    )
