"""Reference cases 85, 86 and 88: rotating savings as WeTrust's contracts run them."""

from __future__ import annotations

import pytest
from tests.savings.support import (
    DAY,
    OVERDUE,
    WEEK,
    agree,
    all_pay,
    contribution_of,
    member,
    recruiting,
    running,
    whole,
)

from tallystick import (
    Asset,
    Conflict,
    ContributionStatus,
    GroupStatus,
    PayoutKind,
    RoundStatus,
    register,
    usd,
)
from tallystick.session import Session
from tallystick.testing import Make

ETHER = register(Asset("ETH", 18))


async def test_case_85_pots_go_round_in_the_order_that_was_agreed(db: Session, make: Make):
    group, users = await recruiting(db, make, 4, asset="ETH", contribution_amount=10**18, max_members=4)
    order = [users[1], users[3], users[2], users[0]]
    await db.circles.set_order(group.id, order)
    await db.circles.ready(group.id)
    group = await db.circles.start(group.id, on=DAY, key=None)
    with pytest.raises(Conflict) as refused:
        await db.circles.bid(group.id, users[0], amount=group.money(10**18), key=None)
    assert refused.value.rule == "order_kind"
    received = await whole(db, group, users)
    assert received == [(await member(db, group, user)).id for user in order]
    found = await db.circles.circle(group.id)
    assert [p.amount for p in found.payouts if p.kind is PayoutKind.POT] == [4 * 10**18] * 4
    assert found.group.status is GroupStatus.COMPLETED
    assert (found.held.units, found.paid_in.units, found.paid_out.units) == (0, 16 * 10**18, 16 * 10**18)
    await agree(db, group)


async def test_case_86_who_is_behind_receives_all_the_same_and_is_marked(db: Session, make: Make):
    group, users = await running(db, make, 3)
    await all_pay(db, group, users[1:])
    await db.circles.mark_late(group.id, on=OVERDUE, key=None)
    await db.circles.default(group.id, users[0], on=OVERDUE, key=None)
    assert (await member(db, group, users[0])).in_debt
    paid = await db.circles.pay_out(group.id, on=OVERDUE, key=None)
    assert (paid.member.id, paid.amount, paid.in_debt) == (
        (await member(db, group, users[0])).id,
        usd("100").units,
        True,
    )
    await agree(db, group)
    # What comes in later is the recipient's own, and clears the mark.
    late = await db.circles.contribute(group.id, users[0], on=OVERDUE, key=None)
    assert late.status is ContributionStatus.CONFIRMED
    assert not (await member(db, group, users[0])).in_debt
    await agree(db, group)


async def test_case_88_a_late_contribution_after_the_last_round_is_accepted(db: Session, make: Make):
    group, users = await running(db, make, 3)
    for n in range(3):
        day = DAY + WEEK * n
        if n < 2:
            await all_pay(db, group, users, day)
        else:
            await all_pay(db, group, users[1:], day)
            await db.circles.default(group.id, users[0], on=day + WEEK * 2, key=None)
        await db.circles.pay_out(group.id, on=day + WEEK * 2, key=None)
        await db.circles.advance(group.id, on=day + WEEK * 2, key=None)
    await agree(db, group)
    done = await db.circles.circle(group.id)
    assert (done.group.status, done.owed) == (GroupStatus.COMPLETED, usd("50"))
    assert [r.status for r in done.rounds] == [RoundStatus.CLOSED] * 3

    late = await db.circles.contribute(group.id, users[0], usd("50"), on=DAY + WEEK * 30, key="late")
    again = await db.circles.contribute(group.id, users[0], usd("50"), on=DAY + WEEK * 30, key="late")
    assert (late.id, late.status) == (again.id, ContributionStatus.CONFIRMED)
    done = await db.circles.circle(group.id)
    assert (done.owed, done.held) == (usd("0"), usd("0"))
    last = [p for p in done.payouts if p.round == done.rounds[2].ref]
    assert [(p.kind, p.amount, p.member) for p in last] == [
        (PayoutKind.POT, usd("100").units, (await member(db, group, users[2])).ref),
        (PayoutKind.ARREARS, usd("50").units, (await member(db, group, users[2])).ref),
    ]
    assert (await contribution_of(db, group, users[0], 3)).effective == DAY + WEEK * 30
    with pytest.raises(Conflict):
        await db.circles.contribute(group.id, users[0], on=DAY + WEEK * 31, key=None)
    with pytest.raises(Conflict):
        await db.circles.contribute(group.id, users[1], key=None)
    await agree(db, group)
