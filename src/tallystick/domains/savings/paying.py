"""The pot: who receives it, what of it, and what comes after it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.domains.chain_logs import ChainLog, log_columns
from tallystick.domains.guarded import alter, put
from tallystick.domains.idempotency import idempotent
from tallystick.domains.identity.users import UserLike
from tallystick.domains.savings.access import day_of, held, member_of, organize, round_of, themselves
from tallystick.domains.savings.books import Move, Purse, post
from tallystick.domains.savings.contributions import Contribution, ContributionKind, ContributionStatus
from tallystick.domains.savings.groups import MANAGE, GroupStatus, OrderKind, SavingsGroup
from tallystick.domains.savings.members import GroupMember, GroupMemberStatus
from tallystick.domains.savings.payouts import Bid, Payout, PayoutKind, PayoutStatus
from tallystick.domains.savings.rounds import GroupRound, RoundStatus
from tallystick.errors import Conflict, Denied, Invalid
from tallystick.money import Money
from tallystick.query import one_of
from tallystick.repository import Repository

if TYPE_CHECKING:
    from tallystick.session import Session

_C, _K, _P = ContributionStatus, PayoutKind, PayoutStatus
_STANDING = (_P.SUBMITTED, _P.CONFIRMED, _P.FAILED, _P.ORPHANED)


async def bid(db: Session, group: UUID, user: UserLike | None, amount: Money, key: str | None) -> Bid:
    """See ``Circles.bid``."""
    who = await themselves(db, user)
    async with idempotent(db, "circles.bid", key, (group, who, amount)) as once:
        if once.replayed:
            return await db[Bid].get(once.results[0])
        found = await held(db, group, GroupStatus.ACTIVE)
        if found.order_kind is not OrderKind.BIDDING:
            raise Conflict(
                "No bids are allowed in this group.",
                entity="SavingsGroup",
                rule="order_kind",
                remedy=f"Its order is {found.order_kind.value}.",
            )
        member = await member_of(db, found, who)
        current = await round_of(db, found)
        if current.status in (RoundStatus.PAID_OUT, RoundStatus.CLOSED):
            raise Conflict("The pot of the round is paid out.", entity="GroupRound", rule="paid_out")
        if member.has_received or member.in_debt or member.status is not GroupMemberStatus.ACTIVE:
            raise Denied("Only members who have not received and owe nothing bid.", remedy="Pay what is owed, or wait.")
        units = found.units(amount)
        whole = found.pot.units - found.fee(found.pot.units)
        # Rounded up: a bid of just below the floor is below it.
        least = max(1, -(-found.pot.units * found.bid_floor_bps // 10_000))
        if not least <= units <= whole:
            raise Invalid(
                "The bid is below the group's floor or above the pot.",
                entity="Bid",
                field="amount",
                remedy=f"Bid {least} to {whole} minor units.",
            )
        known = await db[Bid].find(Bid.round == current.ref, Bid.member == member.ref, limit=1)
        if known and units >= known[0].amount:
            raise Conflict("A later bid is lower than the one before.", entity="Bid", rule="lower")
        made = (
            await alter(db[Bid], known[0], amount=units)
            if known
            else await put(db[Bid], Bid(group=found.ref, round=current.ref, member=member.ref, amount=units))
        )
        once.results = (made.id,)
    return made


async def pay_out(db: Session, group: UUID, log: ChainLog | None, on: date | None, key: str | None) -> Payout:
    """See ``Circles.pay_out``."""
    day = day_of(db, on)
    where = log_columns(log)
    async with idempotent(db, "circles.pay_out", key, (group, log, on)) as once:
        if once.replayed:
            return await db[Payout].get(once.results[0])
        found = await held(db, group, GroupStatus.ACTIVE)
        await organize(db, found)
        current = await round_of(db, found)
        if not current.is_payable:
            paid = current.status is RoundStatus.PAID_OUT
            raise Conflict(
                "The pot of the round is paid out." if paid else "Contributions to the round are still open.",
                entity="GroupRound",
                rule="paid_out" if paid else "not_funded",
                remedy="Advance to the next round." if paid else "Collect them, or give up what is overdue: default().",
            )
        members = {m.id: m for m in await db[GroupMember].find(GroupMember.group == found.ref)}
        winner, asked = await _winner(db, found, current, members)
        gathered = await gross(db, current)
        fee = found.fee(gathered)
        net = gathered - fee
        amount = net if asked is None else min(asked, net)
        if current.recipient is None:
            current = await alter(db[GroupRound], current, recipient=winner.ref)
        shares = _shares(net - amount, [m for m in _sorted(members) if m.id != winner.id])
        if await db[Payout].exists(
            Payout.round == current.ref, Payout.kind == _K.DIVIDEND, one_of(Payout.status, _STANDING)
        ):
            # The pot failed on its chain and is paid again; its dividends are not.
            shares = []
        moves = [(Purse.POT, Purse.CLEARING, amount), (Purse.POT, Purse.FEES, fee)]
        moves += [(Purse.POT, Purse.CLEARING, units) for _, units in shares]
        journal = await post(db, found, moves, op="circle.pot", on=day)
        status = _P.SUBMITTED if found.mirrored else _P.CONFIRMED
        shared: dict[str, Any] = {
            "group": found.ref,
            "round": current.ref,
            "effective": day,
            "status": status,
            "journal": journal,
        }
        made = await put(
            db[Payout],
            Payout(member=winner.ref, amount=amount, fee=fee, in_debt=winner.in_debt, **where, **shared),
        )
        await Repository.add_many(
            db[Payout], [Payout(member=m.ref, kind=_K.DIVIDEND, amount=units, **shared) for m, units in shares]
        )
        await alter(db[GroupRound], current, status=RoundStatus.PAID_OUT)
        once.results = (made.id,)
    return made


async def settle(db: Session, payout: UUID, status: PayoutStatus, log: ChainLog | None) -> Payout:
    """See ``Circles.settle_payout``."""
    await db.require(MANAGE)
    where = log_columns(log)
    known = await db[Payout].get(payout)
    async with db.transaction():
        found = await held(db, known.group.id)
        if not found.mirrored or status.__class__ is not PayoutStatus:
            raise Invalid("Only payouts of a mirrored group are settled by a chain.", field="payout")
        was = await db[Payout].lock(payout)
        if was.status is status:
            return was
        current = await db[GroupRound].get(was.round.id)
        if status is _P.VOID and was.kind is _K.POT and current.status is RoundStatus.CLOSED:
            raise Conflict(
                "The round of the pot is closed.",
                entity="GroupRound",
                rule="closed",
                remedy="Submit the payout again: settle_payout(payout, PayoutStatus.SUBMITTED).",
            )
        changed = await alter(db[Payout], was, status=status, **where)
        if status is _P.VOID and was.kind is _K.POT and current.status is RoundStatus.PAID_OUT:
            await alter(db[GroupRound], current, status=RoundStatus.FUNDED)
    return changed


async def pass_on(  # noqa: PLR0917
    db: Session, group: SavingsGroup, current: GroupRound, paid: Contribution, units: int, day: date
) -> None:
    """A contribution that came after its pot goes to who received the pot short, and to all once their bid is met."""
    given = await db[Payout].find(Payout.round == current.ref, one_of(Payout.status, _STANDING))
    # One that a chain orphaned after its pot was paid, and confirmed again, was in that pot already.
    units = min(units, await gross(db, current) - sum(p.amount + p.fee for p in given))
    if units <= 0:
        return
    fee = group.fee(units)
    net = units - fee
    pot = next(p for p in given if p.kind is _K.POT)
    to_pot = net
    members = {m.id: m for m in await db[GroupMember].find(GroupMember.group == group.ref)}
    if group.order_kind is OrderKind.BIDDING:
        asked = await db[Bid].find(Bid.round == current.ref, Bid.member == pot.member, limit=1)
        if asked:
            had = sum(p.amount for p in given if p.member == pot.member and p.kind in (_K.POT, _K.ARREARS))
            to_pot = min(net, max(0, asked[0].amount - had))
    shares = _shares(net - to_pot, [m for m in _sorted(members) if m.id != pot.member.id])
    parts = [(members[pot.member.id], to_pot)] * bool(to_pot or not shares) + shares
    moves: list[Move] = [(Purse.POT, Purse.CLEARING, amount) for _, amount in parts]
    journal = await post(db, group, [*moves, (Purse.POT, Purse.FEES, fee)], op="circle.arrears", on=day)
    status = _P.SUBMITTED if group.mirrored else _P.CONFIRMED
    await Repository.add_many(
        db[Payout],
        [
            Payout(
                group=group.ref,
                round=current.ref,
                member=member.ref,
                kind=_K.ARREARS,
                amount=amount,
                fee=0 if n else fee,
                cause=paid.ref,
                effective=day,
                status=status,
                journal=journal,
            )
            for n, (member, amount) in enumerate(parts)
        ],
    )


async def share_out(db: Session, group: UUID, user: UserLike | None, on: date | None, key: str | None) -> Payout:
    """See ``Circles.share_out``."""
    who = await themselves(db, user)
    day = day_of(db, on)
    async with idempotent(db, "circles.share_out", key, (group, who, on)) as once:
        if once.replayed:
            return await db[Payout].get(once.results[0])
        found = await held(db, group, GroupStatus.ACTIVE, GroupStatus.COMPLETED, GroupStatus.DISSOLVED)
        if found.order_kind is not OrderKind.NONE:
            raise Conflict("Members of a circle receive its pots.", entity="SavingsGroup", rule="order_kind")
        if found.mirrored:
            # A chain's word, and not the member's own.
            await db.require(MANAGE)
        member = await member_of(db, found, who)
        saved = await db[Contribution].find(Contribution.member == member.ref, Contribution.status == _C.CONFIRMED)
        had = await db[Payout].find(Payout.member == member.ref, one_of(Payout.status, _STANDING))
        left = sum(c.amount for c in saved) - sum(p.amount for p in had)
        if left <= 0:
            raise Conflict("The member has nothing left in the group.", entity="Payout", rule="share_out")
        journal = await post(db, found, [(Purse.POT, Purse.CLEARING, left)], op="circle.share_out", on=day)
        made = await put(
            db[Payout],
            Payout(
                group=found.ref,
                round=(await round_of(db, found)).ref,
                member=member.ref,
                kind=_K.SHARE_OUT,
                amount=left,
                effective=day,
                journal=journal,
            ),
        )
        once.results = (made.id,)
    return made


async def gross(db: Session, current: GroupRound) -> int:
    """What a round has collected: what was paid, and what collateral paid."""
    rows = await db[Contribution].find(Contribution.round == current.ref, Contribution.kind == ContributionKind.REGULAR)
    return sum(row.amount if row.status is _C.CONFIRMED else row.covered for row in rows)


# -- inside ------------------------------------------------------------------------------------------------------


async def _winner(
    db: Session, group: SavingsGroup, current: GroupRound, members: dict[UUID, GroupMember]
) -> tuple[GroupMember, int | None]:
    """Who receives the pot and what they asked for: the lowest bid, the earlier of equals; else the next in order.

    In a group with an order who is behind receives it all the same, and is marked; bids of who fell behind since
    do not count.
    """
    bids = await db[Bid].find(Bid.round == current.ref)
    if current.recipient is not None:
        asked = [b.amount for b in bids if b.member == current.recipient]
        return members[current.recipient.id], asked[0] if asked else None
    able = {m.id: m for m in members.values() if not m.has_received and m.status is GroupMemberStatus.ACTIVE}
    standing = [b for b in bids if b.member.id in able and not able[b.member.id].in_debt]
    if standing:
        best = min(standing, key=lambda b: (b.amount, b.updated_at, b.id))
        return able[best.member.id], best.amount
    return min(able.values(), key=lambda m: (m.in_debt, m.position or 0)), None


def _sorted(members: dict[UUID, GroupMember]) -> list[GroupMember]:
    """Members who share in what is left, in their order; who defaulted does not."""
    sharing = (GroupMemberStatus.ACTIVE, GroupMemberStatus.COMPLETED)
    return sorted((m for m in members.values() if m.status in sharing), key=lambda m: m.position or 0)


def _shares(units: int, members: list[GroupMember]) -> list[tuple[GroupMember, int]]:
    """Equal parts; the units that are left over go to the first in order, one each."""
    if not units or not members:
        return []
    each, rest = divmod(units, len(members))
    return [(m, each + (n < rest)) for n, m in enumerate(members) if each + (n < rest)]
