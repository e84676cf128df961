"""Circles for tests, at whatever point of their life, and what always has to be true of them."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from tests.community.support import person

from tallystick import (
    Contribution,
    ContributionKind,
    ContributionStatus,
    GroupMember,
    GroupMemberStatus,
    GroupStatus,
    OrderKind,
    SavingsGroup,
    User,
    usd,
)
from tallystick.domains.savings.books import Purse, purse_id
from tallystick.session import Session
from tallystick.testing import Make

DAY = date(2026, 3, 2)
WEEK = timedelta(days=7)
OVERDUE = DAY + WEEK + timedelta(days=1)


def terms(**given: Any) -> SavingsGroup:
    """Fifty dollars a week."""
    wanted: dict[str, Any] = {
        "name": "Market women",
        "asset": "USD",
        "contribution_amount": usd("50").units,
        "frequency_days": 7,
        "max_members": 10,
    }
    return SavingsGroup(**wanted | given)


async def recruiting(db: Session, make: Make, members: int = 3, **given: Any) -> tuple[SavingsGroup, list[User]]:
    """A group that members have joined, in the order of the list."""
    group = await db.circles.create(terms(**given), key=None)
    users = [await person(make) for _ in range(members)]
    for user in users:
        await db.circles.join(group.id, user, on=DAY, key=None)
    return await db.circles.get(group.id), users


async def running(
    db: Session, make: Make, members: int = 3, *, seed: bytes = b"", **given: Any
) -> tuple[SavingsGroup, list[User]]:
    """A group in its first round."""
    group, users = await recruiting(db, make, members, **given)
    await db.circles.ready(group.id)
    if seed:
        await db.circles.draw(group.id, seed)
    rounds = 4 if group.order_kind is OrderKind.NONE else None
    return await db.circles.start(group.id, rounds=rounds, on=DAY, key=None), users


async def all_pay(db: Session, group: SavingsGroup, users: list[User], day: date = DAY) -> None:
    for user in users:
        await db.circles.contribute(group.id, user, on=day, key=None)


async def whole(db: Session, group: SavingsGroup, users: list[User]) -> list[Any]:
    """Run the group to its end, everybody paying; answers who received in which round."""
    received = []
    for n in range(len(users)):
        day = DAY + WEEK * n
        await all_pay(db, group, users, day)
        received.append((await db.circles.pay_out(group.id, on=day, key=None)).member.id)
        group = await db.circles.advance(group.id, on=day, key=None)
    return received


async def agree(db: Session, group: SavingsGroup) -> None:
    """The rows, the accounts and the trial balance say the same."""
    found = await db.circles.circle(group.id)
    assert found.held.units >= 0
    assert found.group.members == sum(m.status not in (_M.INVITED, _M.LEFT) for m in found.members)
    for member in found.members:
        own = [c for c in found.contributions if c.member == member.ref and c.kind is ContributionKind.REGULAR]
        behind = [c for c in own if c.status in (_C.LATE, _C.DEFAULTED) and c.covered < c.amount]
        assert member.in_debt is bool(behind)
        assert member.has_received is any(p.member == member.ref and p.kind.value == "pot" for p in found.payouts)
    if found.group.mirrored:
        return
    assert await db.ledger.balance(purse_id(db, group, Purse.POT)) == found.held
    collateral = group.money(sum(m.collateral for m in found.members))
    assert await db.ledger.balance(purse_id(db, group, Purse.COLLATERAL)) == collateral
    assert await db.ledger.balance(purse_id(db, group, Purse.RECEIVABLE)) == group.money(claims(found))
    assert await db.ledger.balance(purse_id(db, group, Purse.CLAIMED)) == group.money(claims(found))
    assert (await db.ledger.trial_balance()).balanced


def claims(found: Any) -> int:
    """What members who gave up owe: of rounds that were, and of those still to come."""
    past = sum(c.owed for c in found.contributions if c.status is _C.DEFAULTED)
    gone = sum(m.status is GroupMemberStatus.DEFAULTED for m in found.members)
    if found.group.status is GroupStatus.DISSOLVED:
        return past
    rest: int = gone * (found.group.rounds - found.group.current_round) * found.group.contribution_amount
    return past + rest


async def contribution_of(db: Session, group: SavingsGroup, user: User, seq: int = 1) -> Contribution:
    rows = await db.circles.contributions(group.id, round=seq, user=user)
    return next(c for c in rows if c.kind is ContributionKind.REGULAR)


async def member(db: Session, group: SavingsGroup, user: User) -> GroupMember:
    return await db[GroupMember].one(GroupMember.group == group.ref, GroupMember.user == user.ref)


_C, _M = ContributionStatus, GroupMemberStatus
