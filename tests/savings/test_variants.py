"""Circles of other sizes, seeds, floors, bids, days and debts than the reference cases, counted by hand."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.community.support import person
from tests.savings.support import DAY, WEEK, agree, all_pay, contribution_of, member, recruiting, running

from tallystick import (
    Asset,
    ChainLog,
    Conflict,
    Contribution,
    ContributionKind,
    ContributionStatus,
    Duplicate,
    GroupMember,
    GroupMemberStatus,
    GroupStatus,
    Invalid,
    InvalidTransition,
    OrderKind,
    Payout,
    PayoutKind,
    PayoutStatus,
    RoleMissing,
    RoundStatus,
    commitment,
    register,
    usd,
)
from tallystick.domains.guarded import put
from tallystick.domains.savings.books import Purse, purse_id
from tallystick.domains.savings.ordering import drawn
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

register(Asset("cUSD", 18))
DAYS = timedelta(days=1)
ON_CHAIN: dict[str, Any] = {
    "mirrored": True,
    "asset": "cUSD",
    "chain_id": 42220,
    "contract": b"\x01" * 20,
    "external_id": "1",
    "contribution_amount": 10**18,
}


def log(n: int) -> ChainLog:
    return ChainLog(chain_id=42220, tx_hash=n.to_bytes(32), log_index=n)


def hmac_by_hand(key: bytes, message: bytes) -> bytes:
    """RFC 2104, of keys up to a block."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def test_a_published_order_that_anybody_can_draw_again() -> None:
    group = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    users = [UUID(int=n) for n in range(1, 6)]
    assert [u.int for u in drawn(bytes(range(32)), group, users)] == [2, 1, 3, 4, 5]
    for seed in (b"sixteen bytes...", bytes(64), hashlib.sha512(b"another").digest()):
        assert commitment(seed) == hashlib.sha256(seed).digest()
        by_hand = sorted((hmac_by_hand(seed, group.bytes + u.bytes), u) for u in users)
        assert drawn(seed, group, users) == [u for _, u in by_hand]


@pytest.mark.parametrize(("size", "seed"), [(2, bytes(16)), (5, b"another seed of somebody"), (9, bytes(range(64)))])
async def test_the_order_of_any_seed_is_the_one_that_is_documented(db: Session, make: Make, size: int, seed: bytes):
    group, users = await running(
        db, make, size, seed=seed, order_kind=OrderKind.RANDOM, seed_hash=hashlib.sha256(seed).digest()
    )
    expected = sorted((hmac_by_hand(seed, group.id.bytes + u.id.bytes), u.id) for u in users)
    assert [m.user.id for m in await db.circles.members(group.id)] == [u for _, u in expected]
    found = await db.circles.circle(group.id)
    by_id = {m.id: m.user.id for m in found.members}
    assert [by_id[r.recipient.id] for r in found.rounds if r.recipient] == [u for _, u in expected]


@pytest.mark.parametrize(
    ("size", "amount", "fee", "floor", "bids"),
    [
        (3, 5_000, 0, 5_000, [14_999, 9_000, None]),
        (4, 3_333, 250, 6_500, [None, 9_001, 9_001, 10_000]),
        (5, 1, 0, 0, [3, None, 2, 2, 1]),
        (7, 9_999, 3_333, 0, [1, 46_000, None, None, None, None, None]),
        (2, 10_000, 0, 10_000, [20_000, None]),
        (6, 777, 1, 9_999, [4_662 - 1] + [None] * 5),
    ],
)
async def test_who_asks_least_receives_and_the_others_share(
    db: Session, make: Make, size: int, amount: int, fee: int, floor: int, bids: list[int | None]
):
    group, users = await running(
        db,
        make,
        size,
        order_kind=OrderKind.BIDDING,
        contribution_amount=amount,
        service_fee_bps=fee,
        bid_floor_bps=floor,
    )
    pot = size * amount
    kept = pot * fee // 10_000
    least = max(1, -(-pot * floor // 10_000))
    for wrong in (least - 1, pot - kept + 1):
        with pytest.raises(Invalid):
            await db.circles.bid(group.id, users[0], amount=group.money(wrong), key=None)
    standing = {}
    for n, asked in enumerate(bids):
        if asked is None:
            continue
        if not least <= asked <= pot - kept:
            with pytest.raises(Invalid):
                await db.circles.bid(group.id, users[n], amount=group.money(asked), key=None)
            continue
        await db.circles.bid(group.id, users[n], amount=group.money(asked), key=None)
        standing[n] = asked
        with pytest.raises((Conflict, Invalid)):
            await db.circles.bid(group.id, users[n], amount=group.money(asked), key=None)
    await all_pay(db, group, users)
    paid = await db.circles.pay_out(group.id, on=DAY, key=None)
    # Of equal bids the earlier; without any the first in order receives all.
    winner = min(standing, key=lambda n: (standing[n], n)) if standing else 0
    won = standing.get(winner, pot - kept)
    others = [n for n in range(size) if n != winner]
    each, rest = divmod(pot - kept - won, len(others))
    expected = {n: each + (place < rest) for place, n in enumerate(others)}
    places = {(await member(db, group, u)).id: n for n, u in enumerate(users)}
    found = await db.circles.circle(group.id)
    assert (places[paid.member.id], paid.amount, paid.fee) == (winner, won, kept)
    shares = {places[p.member.id]: p.amount for p in found.payouts if p.kind is PayoutKind.DIVIDEND}
    assert shares == {n: units for n, units in expected.items() if units}
    assert won + sum(shares.values()) + kept == pot
    await agree(db, group)


async def test_a_bid_of_who_fell_behind_does_not_count_and_a_short_pot_is_made_up_later(db: Session, make: Make):
    group, users = await running(db, make, 3, order_kind=OrderKind.BIDDING, bid_floor_bps=1_000)
    await db.circles.bid(group.id, users[0], amount=usd("100"), key=None)
    await db.circles.bid(group.id, users[1], amount=usd("120"), key=None)
    await all_pay(db, group, users[1:])
    late = DAY + WEEK + DAYS
    await db.circles.default(group.id, users[0], on=late, key=None)
    paid = await db.circles.pay_out(group.id, on=late, key=None)
    assert (paid.member, paid.amount) == ((await member(db, group, users[1])).ref, usd("100").units)
    # Fifty come in: twenty for the bid, and thirty for the two others.
    await db.circles.contribute(group.id, users[0], on=late, key=None)
    arrears = await db[Payout].find(Payout.kind == PayoutKind.ARREARS)
    assert sorted(p.amount for p in arrears) == [1_500, 1_500, 2_000]
    await agree(db, group)


@pytest.mark.parametrize(("frequency", "grace"), [(1, 0), (7, 2), (30, 10), (3_660, 3_660)])
async def test_grace_ends_with_its_last_day(db: Session, make: Make, frequency: int, grace: int):
    group, users = await running(db, make, 2, frequency_days=frequency, grace_days=grace, late_fee=7)
    last = DAY + timedelta(days=frequency + grace)
    assert await db.circles.mark_late(group.id, on=last, key="a") == []
    with pytest.raises(Conflict) as refused:
        await db.circles.default(group.id, users[0], on=last, key=None)
    assert refused.value.rule == "grace"
    late = await db.circles.mark_late(group.id, on=last + DAYS, key="b")
    assert len(late) == 2
    assert await db.circles.mark_late(group.id, on=last + DAYS * 9, key="c") == []
    fees = await db[Contribution].find(Contribution.kind == ContributionKind.LATE_FEE)
    assert [f.amount for f in fees] == [7, 7]
    assert (await member(db, group, users[0])).in_debt
    await all_pay(db, group, users, last + DAYS)
    assert not (await member(db, group, users[0])).in_debt
    await agree(db, group)


async def test_a_late_fee_is_paid_after_the_end_once(db: Session, make: Make):
    group, users = await running(db, make, 2, late_fee=usd("3").units)
    day = DAY
    for n in range(2):
        day = DAY + WEEK * (n + 1) + DAYS
        await db.circles.mark_late(group.id, on=day, key=None)
        await all_pay(db, group, users, day)
        await db.circles.pay_out(group.id, on=day, key=None)
        await db.circles.advance(group.id, on=day, key=None)
    assert (await db.circles.get(group.id)).status is GroupStatus.COMPLETED
    fee = ContributionKind.LATE_FEE
    with pytest.raises(Invalid):
        await db.circles.contribute(group.id, users[0], usd("2"), kind=fee, on=day, key=None)
    for _ in range(2):
        await db.circles.contribute(group.id, users[0], usd("3"), kind=fee, on=day, key=None)
    with pytest.raises(Conflict):
        await db.circles.contribute(group.id, users[0], kind=fee, on=day, key=None)
    assert await db.ledger.balance(purse_id(db, group, Purse.FEES)) == usd("6")
    await agree(db, group)


@pytest.mark.parametrize("collateral", [0, 1, 4_999, 5_000, 5_001, 12_345, 15_000])
async def test_what_collateral_pays_and_what_is_claimed(db: Session, make: Make, collateral: int):
    """The first of four receives and pays nothing any more: three contributions of 50."""
    group, users = await running(db, make, 4, collateral_required=collateral)
    await all_pay(db, group, users)
    await db.circles.pay_out(group.id, on=DAY, key=None)
    await db.circles.advance(group.id, on=DAY, key=None)
    left = collateral
    for n in range(1, 4):
        day = DAY + WEEK * (n + 1) + DAYS * n
        await all_pay(db, group, users[1:], day)
        if n == 1:
            await db.circles.default(group.id, users[0], on=day, key=None)
        row = await contribution_of(db, group, users[0], n + 1)
        assert (row.status, row.covered) == (ContributionStatus.DEFAULTED, min(left, 5_000))
        left -= row.covered
        paid = await db.circles.pay_out(group.id, on=day, key=None)
        assert paid.amount == 15_000 + row.covered
        owing = 15_000 - (collateral - left)
        assert await db.ledger.balance(purse_id(db, group, Purse.RECEIVABLE)) == group.money(owing)
        await agree(db, group)
        await db.circles.advance(group.id, on=day, key=None)
    found = await db.circles.circle(group.id)
    assert found.owed == group.money(max(0, 15_000 - collateral))
    gone = await member(db, group, users[0])
    assert (gone.status, gone.in_debt, gone.collateral) == (GroupMemberStatus.DEFAULTED, collateral < 15_000, 0)
    # Whatever is paid long after goes to who received short, in the order of the rounds.
    while (await db.circles.circle(group.id)).owed.units:
        await db.circles.contribute(group.id, users[0], on=DAY + WEEK * 90, key=None)
        await agree(db, group)
    found = await db.circles.circle(group.id)
    received = {m.id: sum(p.amount for p in found.payouts if p.member == m.ref) for m in found.members}
    assert set(received.values()) == {20_000}


async def test_a_full_group_of_a_hundred(db: Session, make: Make):
    group, users = await running(db, make, 100, max_members=100)
    await all_pay(db, group, users)
    assert (await db.circles.pay_out(group.id, on=DAY, key=None)).amount == usd("5000").units
    assert (await db.circles.advance(group.id, on=DAY, key=None)).current_round == 2


async def test_who_left_has_no_place_and_their_collateral(db: Session, make: Make):
    group, users = await recruiting(db, make, 4, collateral_required=usd("9").units, max_members=4)
    gone = await db.circles.leave(group.id, users[1], on=DAY, key="bye")
    assert (await db.circles.leave(group.id, users[1], on=DAY, key="bye")).id == gone.id
    assert (gone.status, gone.collateral) == (GroupMemberStatus.LEFT, 0)
    assert await db.ledger.balance(purse_id(db, group, Purse.COLLATERAL)) == usd("27")
    await db.circles.ready(group.id)
    group = await db.circles.start(group.id, on=DAY, key=None)
    assert group.rounds == 3
    order = [m.user.id for m in await db.circles.members(group.id) if m.position]
    assert order == [users[0].id, users[2].id, users[3].id]
    for call in (db.circles.leave, db.circles.join):
        with pytest.raises(Conflict):
            await call(group.id, users[2], on=DAY, key=None)
    await agree(db, group)


async def test_nobody_writes_themselves_collateral(db: Session, make: Make):
    group, users = await recruiting(db, make, 2, collateral_required=usd("9").units)
    hers = await member(db, group, users[0])
    for statement in (
        "UPDATE tally.group_member SET collateral = 901 WHERE tenant_id = $1 AND id = $2",
        "UPDATE tally.group_member SET collateral = collateral * 2 WHERE tenant_id = $1 AND group_id = "
        "(SELECT m.group_id FROM tally.group_member m WHERE m.tenant_id = $1 AND m.id = $2)",
    ):
        with pytest.raises(Conflict):
            async with db.transaction():
                await db.unit.call(statement, (db.tenant_id, hers.id))
    stranger = GroupMember(
        group=group.ref, user=(await person(make)).ref, status=hers.status, joined_at=db.now(), collateral=901
    )
    with pytest.raises(Conflict):
        async with db.transaction():
            await put(db[GroupMember], stranger)
    await agree(db, group)
    await db.circles.leave(group.id, users[0], on=DAY, key=None)
    assert (await db.circles.join(group.id, users[0], on=DAY, key=None)).collateral == 900
    await agree(db, group)


# -- groups without pots ---------------------------------------------------------------------------------------------


async def test_savings_come_back_from_a_group_that_was_dissolved(db: Session, make: Make):
    group, users = await running(db, make, 3, order_kind=OrderKind.NONE, contribution_amount=0)
    for user, amount in zip(users, ("10", "20.01", "0.99"), strict=True):
        await db.circles.contribute(group.id, user, usd(amount), on=DAY, key=None)
    assert (await db.circles.dissolve(group.id, on=DAY, key="end")).status is GroupStatus.DISSOLVED
    assert (await db.circles.dissolve(group.id, on=DAY, key="end")).status is GroupStatus.DISSOLVED
    for user, amount in zip(users, ("10", "20.01", "0.99"), strict=True):
        assert (await db.circles.share_out(group.id, user, on=DAY, key=None)).amount == usd(amount).units
        with pytest.raises(Conflict):
            await db.circles.share_out(group.id, user, on=DAY, key=None)
    await agree(db, group)
    assert await db.ledger.balance(purse_id(db, group, Purse.POT)) == usd("0")


async def test_a_log_is_one_saving_and_a_chain_s_word(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    group, users = await running(db, make, 2, **ON_CHAIN | {"order_kind": OrderKind.NONE})
    await db.circles.contribute(group.id, users[0], group.money(5), log=log(1), key=None)
    with pytest.raises(Duplicate):
        await db.circles.contribute(group.id, users[1], group.money(5), log=log(1), key=None)
    for wrong in ({"pending": True, "log": log(2)}, {"kind": ContributionKind.LATE_FEE}):
        with pytest.raises(Invalid):
            await db.circles.contribute(group.id, users[1], group.money(5), key=None, **wrong)
    async with sandbox.session(tenant, actor=f"user:{users[0].id}", permissions=()) as hers:
        with pytest.raises(RoleMissing):
            await hers.circles.share_out(group.id, key=None)
    assert (await db.circles.share_out(group.id, users[0], key=None)).amount == 5


# -- what a chain says -------------------------------------------------------------------------------------------------


async def test_a_round_is_closed_only_by_a_pot_that_its_chain_confirmed(db: Session, make: Make):
    group, users = await running(db, make, 2, **ON_CHAIN)
    for n, user in enumerate(users):
        await db.circles.contribute(group.id, user, log=log(n), key=None)
    pot = await db.circles.pay_out(group.id, log=log(9), key=None)
    for status in (PayoutStatus.SUBMITTED, PayoutStatus.FAILED):
        await db.circles.settle_payout(pot.id, status)
        with pytest.raises(Conflict) as refused:
            await db.circles.advance(group.id, key=None)
        assert refused.value.rule == "submitted"
    await db.circles.settle_payout(pot.id, PayoutStatus.VOID)
    with pytest.raises(Conflict):
        await db.circles.advance(group.id, key=None)
    again = await db.circles.pay_out(group.id, log=log(10), key=None)
    assert again.member == pot.member
    await db.circles.settle_payout(again.id, PayoutStatus.CONFIRMED)
    await db.circles.advance(group.id, key=None)
    await db.circles.settle_payout(again.id, PayoutStatus.ORPHANED)
    with pytest.raises(Conflict) as refused:
        await db.circles.settle_payout(again.id, PayoutStatus.VOID)
    assert refused.value.rule == "closed"
    await db.circles.settle_payout(again.id, PayoutStatus.SUBMITTED, log=log(11))
    assert (await db.circles.settle_payout(again.id, PayoutStatus.CONFIRMED)).log_index == 11
    assert (await db.circles.circle(group.id)).rounds[0].status is RoundStatus.CLOSED
    for call in (
        lambda: db.circles.settle_payout(again.id, PayoutStatus.ORPHANED, log="log"),  # type: ignore[arg-type]
        lambda: db.circles.pay_out(group.id, log=(1, b"", 2), key=None),  # type: ignore[arg-type]
        lambda: db.circles.contribute(group.id, users[0], log=b"\0" * 32, key=None),  # type: ignore[arg-type]
    ):
        with pytest.raises(Invalid):
            await call()


async def test_what_ends_when(db: Session, make: Make):
    group, _ = await recruiting(db, make, 2, collateral_required=usd("4").units)
    for early in (db.circles.dissolve, db.circles.pause, db.circles.resume):
        with pytest.raises((Conflict, InvalidTransition)):
            await early(group.id)
    assert (await db.circles.cancel(group.id, on=DAY, key="no")).status is GroupStatus.CANCELLED
    assert (await db.circles.cancel(group.id, on=DAY, key="no")).id == group.id
    with pytest.raises((Conflict, InvalidTransition)):
        await db.circles.cancel(group.id, on=DAY, key="again")
    assert await db.ledger.balance(purse_id(db, group, Purse.COLLATERAL)) == usd("0")
    other, _ = await running(db, make, 2)
    for late in (db.circles.cancel, db.circles.resume, db.circles.ready):
        with pytest.raises((Conflict, InvalidTransition)):
            await late(other.id)


async def test_a_waiver_has_its_day(db: Session, make: Make):
    group, users = await running(db, make, 2)
    late = DAY + WEEK * 2
    await db.circles.default(group.id, users[0], on=late, key=None)
    row = await contribution_of(db, group, users[0])
    await db.circles.waive(row.id, on=late + DAYS, key="w")
    await agree(db, group)
    assert (await db.circles.circle(group.id)).owed == usd("0")
