"""Whatever members do in whatever order: money is conserved, everybody receives once, the books agree."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest
from tests.savings.support import DAY, WEEK, agree, recruiting

from tallystick import (
    ContributionStatus,
    GroupMemberStatus,
    GroupStatus,
    OrderKind,
    PayoutKind,
    SavingsGroup,
    TallystickError,
    User,
    commitment,
    usd,
)
from tallystick.domains.savings.books import Purse, purse_id
from tallystick.domains.savings.ordering import drawn
from tallystick.ids import uuid7
from tallystick.session import Session
from tallystick.testing import Make

SEED = b"sixteen bytes and some more"


async def something(db: Session, draw: random.Random, group: SavingsGroup, users: list[User], day: date) -> str:
    """One thing that somebody does; answers the code of the error that refuses it."""
    user = draw.choice(users)
    amount = group.money(draw.randint(1, 50_000))
    verbs: list[tuple[int, Any]] = [
        (6, lambda: db.circles.contribute(group.id, user, on=day, key=None)),
        (2, lambda: db.circles.bid(group.id, user, amount=amount, key=None)),
        (2, lambda: db.circles.pay_out(group.id, on=day, key=None)),
        (2, lambda: db.circles.advance(group.id, on=day, key=None)),
        (1, lambda: db.circles.mark_late(group.id, on=day, key=None)),
        (2, lambda: db.circles.default(group.id, user, on=day, key=None)),
    ]
    try:
        await draw.choices([v for _, v in verbs], weights=[w for w, _ in verbs])[0]()
    except TallystickError as error:
        return error.code
    return ""


@pytest.mark.parametrize("number", range(20))
async def test_any_course_of_things_conserves_money(db: Session, make: Make, number: int):
    draw = random.Random(number)
    kind = draw.choice([OrderKind.FIXED, OrderKind.RANDOM, OrderKind.BIDDING])
    size = draw.randint(2, 5)
    group, users = await recruiting(
        db,
        make,
        size,
        order_kind=kind,
        seed_hash=commitment(SEED) if kind is OrderKind.RANDOM else None,
        bid_floor_bps=5_000 if kind is OrderKind.BIDDING else 0,
        contribution_amount=draw.choice([1, 3, 5_000, 9_999]),
        service_fee_bps=draw.choice([0, 1, 250, 3_333]),
        late_fee=draw.choice([0, 7]),
        collateral_required=draw.choice([0, 2, 4_000, 20_000]),
        grace_days=draw.choice([0, 3]),
    )
    await db.circles.ready(group.id)
    if kind is OrderKind.RANDOM:
        await db.circles.draw(group.id, SEED)
    group = await db.circles.start(group.id, on=DAY, key=None)
    day = DAY
    refused: Counter[str] = Counter()
    for step in range(400):
        group = await db.circles.get(group.id)
        if group.status is GroupStatus.COMPLETED:
            break
        code = await something(db, draw, group, users, day)
        # Only what the rules of the domain refuse: never the database's own surprise.
        assert code in {"", "TS-1200", "TS-1600", "TS-1400"}
        refused[code] += 1
        if draw.random() < 0.15:
            day += timedelta(days=draw.randint(1, 4))
        if step % 25 == 0:
            await agree(db, group)
    assert group.status is GroupStatus.COMPLETED, refused
    await agree(db, group)
    # At last everybody pays what they owe, long after the end.
    for user in users:
        while True:
            try:
                await db.circles.contribute(group.id, user, on=day + WEEK, key=None)
            except TallystickError:
                break
    await agree(db, group)
    found = await db.circles.circle(group.id)
    pots = [p for p in found.payouts if p.kind is PayoutKind.POT]
    assert len(pots) == len({p.member for p in pots}) == len({p.round for p in pots}) == size
    assert found.owed.units == found.held.units == 0
    assert found.paid_in == found.paid_out + found.fees
    assert found.paid_in == group.money(size * size * group.contribution_amount)
    assert {c.status for c in found.contributions if c.kind.value == "regular"} <= {
        ContributionStatus.CONFIRMED,
        ContributionStatus.DEFAULTED,
    }
    assert not any(m.in_debt or m.collateral for m in found.members)
    assert {m.status for m in found.members} <= {GroupMemberStatus.COMPLETED, GroupMemberStatus.DEFAULTED}
    for purse in (Purse.POT, Purse.COLLATERAL, Purse.RECEIVABLE, Purse.CLAIMED):
        assert await db.ledger.balance(purse_id(db, group, purse)) == usd("0")


def test_a_drawn_order_is_of_everybody_and_of_nobody_s_choosing():
    group = uuid7()
    users = [uuid7() for _ in range(50)]
    order = drawn(SEED, group, users)
    assert sorted(order) == sorted(users)
    assert drawn(SEED, group, reversed(users)) == order
    assert drawn(SEED, uuid7(), users) != order
    assert drawn(SEED + b"!", group, users) != order
    first = Counter(users.index(drawn(n.to_bytes(16), group, users[:3])[0]) for n in range(3_000))
    assert all(880 < first[n] < 1_120 for n in range(3))
