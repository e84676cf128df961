"""Circles from their founding to their end, and what they refuse."""

from __future__ import annotations

import hmac
from datetime import date
from hashlib import sha256
from typing import Any

import pytest
from tests.community.support import as_user, person
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
    terms,
    whole,
)

from tallystick import (
    Asset,
    ChainLog,
    Conflict,
    Contribution,
    ContributionKind,
    ContributionStatus,
    Denied,
    Duplicate,
    GroupMember,
    GroupMemberStatus,
    GroupRound,
    GroupStatus,
    Invalid,
    InvalidTransition,
    KeyReused,
    Money,
    NotFound,
    OrderKind,
    Payout,
    PayoutKind,
    PayoutStatus,
    Ref,
    RoleMissing,
    RoundStatus,
    SavingsGroup,
    Wallet,
    commitment,
    eur,
    register,
    usd,
    uuid7,
)
from tallystick.domains.guarded import alter, put
from tallystick.domains.savings.books import Purse, purse_id
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

TOKEN = register(Asset("cUSD", 18))
CHAIN: dict[str, Any] = {"mirrored": True, "chain_id": 42220, "contract": b"\x07" * 20, "asset": "cUSD"}


def log(n: int, tx: int = 1) -> ChainLog:
    return ChainLog(chain_id=42220, tx_hash=bytes([tx]) * 32, log_index=n)


async def test_a_circle_goes_round_and_everybody_receives_once(db: Session, make: Make):
    group, users = await running(db, make, 3, service_fee_bps=150)
    assert (group.rounds, group.current_round, group.pot) == (3, 1, usd("150"))
    received = await whole(db, group, users)
    assert received == [(await member(db, group, user)).id for user in users]
    found = await db.circles.circle(group.id)
    assert [(p.amount, p.fee) for p in found.payouts] == [(usd("147.75").units, usd("2.25").units)] * 3
    assert (found.paid_in, found.paid_out, found.fees, found.held) == (usd("450"), usd("443.25"), usd("6.75"), usd("0"))
    assert (found.group.status, found.group.ended_on) == (GroupStatus.COMPLETED, DAY + WEEK * 2)
    assert {m.status for m in found.members} == {GroupMemberStatus.COMPLETED}
    assert [(r.opens_on, r.due_on) for r in found.rounds] == [(DAY + WEEK * n, DAY + WEEK * (n + 1)) for n in range(3)]
    assert await db.ledger.balance(purse_id(db, group, Purse.FEES)) == usd("6.75")
    await agree(db, group)


async def test_what_a_source_names_by_wallet(db: Session, make: Make):
    address = "0x" + "ab" * 20
    ada = await db.wallets.upsert_owner(42220, address)
    assert (await db.wallets.upsert_owner(42220, address.upper().replace("0X", "0x"))).id == ada.id
    assert await db.wallets.owner(42220, "0x" + "cd" * 20) is None
    assert await db[Wallet].count() == 1
    with pytest.raises(Invalid):
        await db.wallets.upsert_owner(42220, "0xabc")
    group = await db.circles.create(terms(), key="g")
    assert (await db.circles.create(terms(), key="g")).id == group.id
    with pytest.raises(KeyReused):
        await db.circles.create(terms(max_members=4), key="g")
    await db.circles.join(group.id, ada, key=None)
    assert [g.id for g in await db.circles.of_user(ada)] == [group.id]
    found = await db.circles.circle(group.id)
    assert [m.user.value.id for m in found.members] == [ada.id]
    assert (await db.circles.page(SavingsGroup.status == GroupStatus.RECRUITING)).items == [found.group]


async def test_the_order_of_a_random_group_is_drawn_from_a_seed_nobody_could_choose(db: Session, make: Make):
    seed = b"the dice were cast on a friday"
    group, users = await recruiting(db, make, 5, order_kind=OrderKind.RANDOM, seed_hash=commitment(seed))
    with pytest.raises(Conflict) as early:
        await db.circles.draw(group.id, seed)
    assert early.value.rule == "status"
    await db.circles.ready(group.id)
    with pytest.raises(Conflict) as closed:
        await db.circles.join(group.id, await person(make), key=None)
    assert closed.value.rule == "status"
    with pytest.raises(Conflict):
        await db.circles.start(group.id, on=DAY, key=None)
    with pytest.raises(Invalid):
        await db.circles.draw(group.id, b"another seed altogether")
    placed = await db.circles.draw(group.id, seed)
    with pytest.raises(Conflict):
        await db.circles.draw(group.id, seed)
    wanted = sorted(users, key=lambda u: hmac.new(seed, group.id.bytes + u.id.bytes, sha256).digest())
    assert [m.user.id for m in placed] == [u.id for u in wanted]
    await db.circles.start(group.id, on=DAY, key=None)
    rounds = (await db.circles.circle(group.id)).rounds
    assert [r.recipient for r in rounds] == [m.ref for m in placed]
    with pytest.raises(Invalid):
        await db.circles.create(terms(order_kind=OrderKind.RANDOM), key=None)


async def test_the_lowest_bid_receives_and_the_discount_is_shared(db: Session, make: Make):
    group, users = await running(db, make, 4, order_kind=OrderKind.BIDDING, bid_floor_bps=6_500)
    ada, ben, cid, dan = users
    with pytest.raises(Invalid):
        await db.circles.bid(group.id, ada, amount=usd("129.99"), key=None)
    with pytest.raises(Invalid):
        await db.circles.bid(group.id, ada, amount=usd("200.01"), key=None)
    await db.circles.bid(group.id, ada, amount=usd("190"), key=None)
    await db.circles.bid(group.id, cid, amount=usd("180"), key=None)
    await db.circles.bid(group.id, ben, amount=usd("180"), key=None)
    with pytest.raises(Conflict) as higher:
        await db.circles.bid(group.id, ada, amount=usd("195"), key=None)
    assert higher.value.rule == "lower"
    await all_pay(db, group, users)
    pot = await db.circles.pay_out(group.id, on=DAY, key=None)
    # The earlier of two equal bids; twenty dollars for three: 6.67, 6.67, 6.66.
    assert (pot.member, pot.amount) == ((await member(db, group, cid)).ref, usd("180").units)
    dividends = await db[Payout].find(Payout.kind == PayoutKind.DIVIDEND)
    assert {p.member.id: p.amount for p in dividends} == {
        (await member(db, group, ada)).id: 667,
        (await member(db, group, ben)).id: 667,
        (await member(db, group, dan)).id: 666,
    }
    await agree(db, group)
    await db.circles.advance(group.id, on=DAY, key=None)
    with pytest.raises(Denied):
        await db.circles.bid(group.id, cid, amount=usd("150"), key=None)
    # Nobody bids: the next in order who has not received has the whole of it.
    await all_pay(db, group, users)
    pot = await db.circles.pay_out(group.id, on=DAY, key=None)
    assert (pot.member, pot.amount) == ((await member(db, group, ada)).ref, usd("200").units)
    await agree(db, group)


async def test_who_stops_paying_after_the_pot_leaves_collateral_and_a_claim(db: Session, make: Make):
    group, users = await running(
        db, make, 4, collateral_required=usd("80").units, late_fee=usd("5").units, grace_days=2
    )
    ada = users[0]
    assert await db.ledger.balance(purse_id(db, group, Purse.COLLATERAL)) == usd("320")
    await all_pay(db, group, users)
    await db.circles.pay_out(group.id, on=DAY, key=None)
    await db.circles.advance(group.id, on=DAY + WEEK, key=None)
    await all_pay(db, group, users[1:], DAY + WEEK)
    with pytest.raises(Conflict) as grace:
        await db.circles.default(group.id, ada, on=DAY + WEEK * 2, key=None)
    assert grace.value.rule == "grace"
    late = DAY + WEEK * 2 + (date(2026, 3, 4) - date(2026, 3, 1))
    assert await db.circles.mark_late(group.id, on=DAY + WEEK * 2, key=None) == []
    marked = await db.circles.mark_late(group.id, on=late, key=None)
    assert [m.status for m in marked] == [ContributionStatus.LATE]
    with pytest.raises(Conflict) as unfunded:
        await db.circles.pay_out(group.id, on=late, key=None)
    assert unfunded.value.rule == "not_funded"
    given_up = await db.circles.default(group.id, ada, on=late, key="d")
    assert (given_up.status, given_up.covered) == (ContributionStatus.DEFAULTED, usd("50").units)
    assert (await db.circles.default(group.id, ada, on=late, key="d")).id == given_up.id
    hers = await member(db, group, ada)
    assert (hers.status, hers.collateral, hers.in_debt) == (GroupMemberStatus.DEFAULTED, usd("30").units, False)
    # Two rounds are still to come, and she owes both.
    assert await db.ledger.balance(purse_id(db, group, Purse.RECEIVABLE)) == usd("100")
    await agree(db, group)
    assert (await db.circles.pay_out(group.id, on=late, key=None)).amount == usd("200").units
    await db.circles.advance(group.id, on=late, key=None)
    # Thirty of collateral are left for the third round.
    assert (await contribution_of(db, group, ada, 3)).covered == usd("30").units
    assert (await member(db, group, ada)).in_debt
    await all_pay(db, group, users[1:], late)
    assert (await db.circles.pay_out(group.id, on=late, key=None)).amount == usd("180").units
    await agree(db, group)
    # She pays the rest of the third; it goes to who received it short, and the claim falls.
    await db.circles.contribute(group.id, ada, usd("20"), on=late, key=None)
    await db.circles.contribute(group.id, ada, kind=ContributionKind.LATE_FEE, on=late, key=None)
    arrears = await db[Payout].one(Payout.kind == PayoutKind.ARREARS)
    assert (arrears.amount, arrears.member) == (usd("20").units, (await member(db, group, users[2])).ref)
    assert await db.ledger.balance(purse_id(db, group, Purse.RECEIVABLE)) == usd("50")
    assert await db.ledger.balance(purse_id(db, group, Purse.FEES)) == usd("5")
    await db.circles.advance(group.id, on=late, key=None)
    await all_pay(db, group, users[1:], late)
    assert (await db.circles.pay_out(group.id, on=late, key=None)).amount == usd("150").units
    await db.circles.advance(group.id, on=late, key=None)
    await agree(db, group)
    assert (await db.circles.circle(group.id)).owed == usd("50")
    assert await db.ledger.balance(purse_id(db, group, Purse.COLLATERAL)) == usd("0")


async def test_a_mirrored_group_follows_its_chain_to_the_largest_amounts(db: Session, make: Make):
    most = (2**256 - 1) // 2
    group, users = await running(db, make, 2, **CHAIN, external_id="7", contribution_amount=most, max_members=2)
    ada, ben = users
    # One transaction of a multicall carries both.
    first = await db.circles.contribute(group.id, ada, log=log(0), pending=True, on=DAY, key=None)
    second = await db.circles.contribute(group.id, ben, log=log(1), pending=True, on=DAY, key=None)
    assert (first.status, first.amount) == (ContributionStatus.PENDING, most)
    with pytest.raises(Conflict) as pending:
        await db.circles.pay_out(group.id, key=None)
    assert pending.value.rule == "not_funded"
    await db.circles.settle_contribution(first.id, ContributionStatus.CONFIRMED)
    await db.circles.settle_contribution(second.id, ContributionStatus.CONFIRMED)
    orphan = await db.circles.settle_contribution(second.id, ContributionStatus.ORPHANED)
    assert orphan.status is ContributionStatus.ORPHANED
    with pytest.raises(Conflict):
        await db.circles.pay_out(group.id, key=None)
    await db.circles.settle_contribution(second.id, ContributionStatus.CONFIRMED, log=log(1, tx=2))
    paid = await db.circles.pay_out(group.id, log=log(0, tx=3), on=DAY, key=None)
    assert (paid.status, paid.amount) == (PayoutStatus.SUBMITTED, 2 * most)
    with pytest.raises(Conflict):
        await db.circles.advance(group.id, key=None)
    await db.circles.settle_payout(paid.id, PayoutStatus.FAILED)
    await db.circles.settle_payout(paid.id, PayoutStatus.VOID)
    assert not (await member(db, group, ada)).has_received
    again = await db.circles.pay_out(group.id, log=log(0, tx=4), on=DAY, key=None)
    await db.circles.settle_payout(again.id, PayoutStatus.CONFIRMED)
    await db.circles.advance(group.id, on=DAY, key=None)
    with pytest.raises(Duplicate):
        await db.circles.contribute(group.id, ada, log=log(0), key=None)
    assert await db.ledger.accounts.count() == 0
    assert (await contribution_of(db, group, ada)).log_index == 0


async def test_a_mirrored_group_is_put_in_again_with_the_terms_of_another_branch(db: Session, make: Make):
    given = terms(**CHAIN, external_id="7")
    made = await db.circles.mirror(given)
    other = await db.circles.mirror(terms(**CHAIN, external_id="7", max_members=3, contribution_amount=2**200))
    assert (other.id, other.max_members, other.contribution_amount) == (made.id, 3, 2**200)
    assert (await db.circles.mirror(terms(**CHAIN, external_id="8"))).id != made.id
    for _ in range(2):
        await db.circles.join(made.id, await person(make), key=None)
    await db.circles.ready(made.id)
    with pytest.raises(Conflict):
        await db.circles.mirror(terms(**CHAIN, external_id="7", max_members=4))
    with pytest.raises(Invalid):
        await db.circles.mirror(terms())


async def test_a_pot_that_no_ledger_could_hold_is_refused_where_it_would_be_posted(db: Session):
    for amount in (10**38 - 1, 10**38, 2**256 - 1):
        with pytest.raises(Invalid):
            await db.circles.create(terms(asset="cUSD", contribution_amount=amount), key=None)
    with pytest.raises(Invalid):
        await db.circles.create(terms(contribution_amount=2**63 - 1), key=None)
    with pytest.raises(Invalid):
        await db.circles.create(terms(**CHAIN, external_id="1", contribution_amount=2**256 - 1), key=None)
    held = await db.circles.create(terms(asset="cUSD", contribution_amount=10**36), key=None)
    assert (await db.circles.get(held.id)).contribution_amount == 10**36
    assert await db.circles.count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"contribution_amount": 0},
        {"contribution_amount": -1},
        {"contribution_amount": 2**256},
        {"contribution_amount": 1.5},
        {"contribution_amount": True},
        {"max_members": 1},
        {"max_members": 101},
        {"frequency_days": 0},
        {"frequency_days": 2**40},
        {"grace_days": -1},
        {"service_fee_bps": 10_001},
        {"bid_floor_bps": 100},
        {"late_fee": -1},
        {"asset": "NOPE"},
        {"asset": None},
        {"name": ""},
        {"name": "x" * 201},
        {"seed_hash": b"\0" * 32},
        {"order_kind": OrderKind.RANDOM, "seed_hash": b"\0"},
        {"order_kind": "fixed!"},
        {"mirrored": True},
        {"chain_id": 1},
        {"status": GroupStatus.ACTIVE},
        {"rounds": 3},
        {"current_round": 1},
        {"started_on": DAY},
    ],
    ids=str,
)
async def test_terms_that_no_group_can_have(db: Session, wrong: dict[str, Any]):
    with pytest.raises(Invalid):
        await db.circles.create(terms(**wrong), key=None)
    assert await db.circles.count() == 0
    assert await db.ledger.accounts.count() == 0


async def test_bad_input_changes_nothing(db: Session, make: Make):
    group, users = await running(db, make, 3)
    ada = users[0]
    calls: list[Any] = [
        lambda: db.circles.contribute(group.id, ada, eur("50"), key=None),
        lambda: db.circles.contribute(group.id, ada, usd("49.99"), key=None),
        lambda: db.circles.contribute(group.id, ada, 50, key=None),  # type: ignore[arg-type]
        lambda: db.circles.contribute(group.id, ada, usd("50"), on="2026-03-02", key=None),  # type: ignore[arg-type]
        lambda: db.circles.contribute(group.id, ada, round=-1, key=None),
        lambda: db.circles.contribute(group.id, ada, round="1", key=None),  # type: ignore[arg-type]
        lambda: db.circles.contribute(group.id, ada, kind="regular", key=None),  # type: ignore[arg-type]
        lambda: db.circles.contribute(group.id, ada, log=log(0), pending=True, key=None),
        lambda: db.circles.contribute(group.id, ada, log="0x00", key=None),  # type: ignore[arg-type]
        lambda: db.circles.contribute(group.id, ada, key=""),
        lambda: db.circles.contribute(group.id, "ada", key=None),  # type: ignore[arg-type]
        lambda: db.circles.contribute("group", ada, key=None),  # type: ignore[arg-type]
        lambda: db.circles.pay_out(group.id, log=7, key=None),  # type: ignore[arg-type]
    ]
    for n, call in enumerate(calls):
        with pytest.raises(Invalid):
            await call()
            pytest.fail(f"call {n} was taken")
    with pytest.raises(NotFound):
        await db.circles.contribute(group.id, ada, round=9, key=None)
    with pytest.raises(NotFound):
        await db.circles.contribute(uuid7(), ada, key=None)
    with pytest.raises(Denied):
        await db.circles.contribute(group.id, await person(make), key=None)
    for bad in ({"chain_id": 0}, {"tx_hash": b"\1"}, {"log_index": -1}, {"chain_id": True}, {"tx_hash": "00" * 32}):
        with pytest.raises(Invalid):
            ChainLog(**{"chain_id": 1, "tx_hash": b"\1" * 32, "log_index": 0} | bad)
    found = await db.circles.circle(group.id)
    assert {c.status for c in found.contributions} == {ContributionStatus.EXPECTED}
    assert found.held == usd("0")
    await agree(db, group)


async def test_members_come_and_go_while_a_group_recruits_and_never_after(db: Session, make: Make):
    group, users = await recruiting(db, make, 3, max_members=3, collateral_required=usd("10").units)
    extra = await person(make)
    with pytest.raises(Conflict) as full:
        await db.circles.join(group.id, extra, key=None)
    assert full.value.rule == "full"
    with pytest.raises(Conflict) as twice:
        await db.circles.join(group.id, users[0], key=None)
    assert twice.value.rule == "member"
    await db.circles.leave(group.id, users[0], on=DAY, key="bye")
    assert (await db.circles.leave(group.id, users[0], on=DAY, key="bye")).status is GroupMemberStatus.LEFT
    assert await db.ledger.balance(purse_id(db, group, Purse.COLLATERAL)) == usd("20")
    await db.circles.invite(group.id, extra)
    await db.circles.join(group.id, extra, key=None)
    await db.circles.ready(group.id)
    with pytest.raises(Invalid):
        await db.circles.set_order(group.id, [extra, users[1]])
    await db.circles.set_order(group.id, [extra, users[2], users[1]])
    await db.circles.start(group.id, on=DAY, key=None)
    assert [m.user.id for m in await db.circles.members(group.id)][:3] == [extra.id, users[2].id, users[1].id]
    # The rows themselves are frozen, whoever writes them.
    hers = await member(db, group, extra)
    with pytest.raises(Conflict):
        await alter(db[GroupMember], hers, status=GroupMemberStatus.LEFT, position=None)
    with pytest.raises(Conflict):
        await alter(db[GroupMember], hers, position=9)
    with pytest.raises(Conflict):
        await put(
            db[GroupMember],
            GroupMember(group=group.ref, user=users[0].ref, status=GroupMemberStatus.ACTIVE, joined_at=db.now()),
        )
    with pytest.raises(Conflict):
        await alter(db.circles, await db.circles.get(group.id), contribution_amount=1)
    assert (await db.circles.get(group.id)).members == 3


async def test_no_row_goes_round_the_rules(db: Session, make: Make):
    group, users = await running(db, make, 3)
    hers, his = await member(db, group, users[0]), await member(db, group, users[1])
    first, second, _ = (await db.circles.circle(group.id)).rounds
    given: dict[str, Any] = {"group": group.ref, "round": first.ref, "member": hers.ref, "effective": DAY}
    for kind in (PayoutKind.POT, PayoutKind.DIVIDEND, PayoutKind.SHARE_OUT):
        with pytest.raises(Conflict):
            await put(db[Payout], Payout(**given, kind=kind, amount=usd("150").units))
    await all_pay(db, group, users)
    for wrong in ({"member": his.ref}, {"amount": 1}, {"amount": usd("150.01").units}, {"round": second.ref}):
        with pytest.raises(Conflict):
            await put(db[Payout], Payout(**{"amount": usd("150").units} | given | wrong))
    with pytest.raises(Conflict):
        await alter(db[GroupRound], await db[GroupRound].get(first.id), status=RoundStatus.PAID_OUT)
    with pytest.raises(InvalidTransition):
        await alter(db[GroupRound], second, status=RoundStatus.PAID_OUT)
    with pytest.raises(Duplicate):
        await alter(db[GroupRound], second, status=RoundStatus.OPEN)
    with pytest.raises(Conflict):
        row = Contribution(group=group.ref, round=second.ref, member=hers.ref, amount=1)
        await put(db[Contribution], row)
    # An order that was settled stays, and what was paid stands in the ledger.
    with pytest.raises(Conflict):
        await alter(db[GroupRound], second, recipient=(await member(db, group, users[2])).ref)
    with pytest.raises(Conflict):
        await alter(db[GroupRound], second, recipient=None)
    for wrong in ({"covered": 1}, {"effective": DAY + WEEK}, {"journal": None}):
        with pytest.raises(Conflict):
            await alter(db[Contribution], await contribution_of(db, group, users[0]), **wrong)
    for settled in ({"rounds": 4}, {"started_on": DAY + WEEK}):
        with pytest.raises(Conflict):
            await alter(db.circles, await db.circles.get(group.id), **settled)
    unpaid, _ = await running(db, make, 2)
    row = (await db.circles.circle(unpaid.id)).contributions[0]
    for paid in ({}, {"journal": (await contribution_of(db, group, users[0])).journal}):
        with pytest.raises(Conflict):
            await alter(db[Contribution], row, status=ContributionStatus.CONFIRMED, effective=DAY, **paid)
    other, _ = await running(db, make, 2)
    with pytest.raises(Invalid):
        row = Contribution(group=other.ref, round=second.ref, member=hers.ref, amount=usd("50").units)
        await put(db[Contribution], row)
    await agree(db, group)


async def test_what_a_chain_orphans_after_its_pot_and_confirms_again_changes_nothing(db: Session, make: Make):
    group, users = await running(db, make, 2, **CHAIN, external_id="9", contribution_amount=10**30)
    await all_pay(db, group, users)
    await db.circles.pay_out(group.id, on=DAY, key=None)
    paid = await contribution_of(db, group, users[1])
    await db.circles.settle_contribution(paid.id, ContributionStatus.ORPHANED)
    again = await db.circles.settle_contribution(paid.id, ContributionStatus.CONFIRMED, log=log(5))
    assert (again.status, again.log_index) == (ContributionStatus.CONFIRMED, 5)
    found = await db.circles.circle(group.id)
    assert [(p.kind, p.amount) for p in found.payouts] == [(PayoutKind.POT, 2 * 10**30)]
    assert found.held.units == 0


async def test_a_member_s_word_is_not_a_chain_s(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    group, users = await running(db, make, 2, **CHAIN, external_id="9")
    async with as_user(sandbox, tenant, users[0]) as hers:
        with pytest.raises(RoleMissing):
            await hers.circles.contribute(group.id, log=log(0), key=None)
        notice = await hers.circles.contribute(group.id, log=log(0), pending=True, key=None)
        with pytest.raises(RoleMissing):
            await hers.circles.settle_contribution(notice.id, ContributionStatus.CONFIRMED)
    assert (await contribution_of(db, group, users[0])).status is ContributionStatus.PENDING


async def test_a_bid_whose_payout_failed_is_paid_again_as_it_was_asked(db: Session, make: Make):
    group, users = await running(db, make, 3, **CHAIN, external_id="9", order_kind=OrderKind.BIDDING)
    await db.circles.bid(group.id, users[1], amount=group.money(12_000), key=None)
    await all_pay(db, group, users)
    first = await db.circles.pay_out(group.id, on=DAY, key=None)
    await db.circles.settle_payout(first.id, PayoutStatus.FAILED)
    await db.circles.settle_payout(first.id, PayoutStatus.VOID)
    again = await db.circles.pay_out(group.id, on=DAY, key=None)
    assert (again.amount, again.member) == (first.amount, first.member) == (12_000, first.member)
    assert [p.amount for p in await db[Payout].find(Payout.kind == PayoutKind.DIVIDEND)] == [1_500, 1_500]


async def test_members_act_for_themselves_and_the_organizer_leads(
    db: Session, make: Make, sandbox: Sandbox, tenant: str
):
    ada, ben = await person(make), await person(make)
    async with as_user(sandbox, tenant, ada) as hers:
        group = await hers.circles.create(terms(), key=None)
        assert group.organizer == Ref(ada.id)
        await hers.circles.join(group.id, key=None)
        with pytest.raises(RoleMissing):
            await hers.circles.join(group.id, ben, key=None)
        with pytest.raises(RoleMissing):
            await hers.circles.create(terms(organizer=ben.ref), key=None)
    async with as_user(sandbox, tenant, ben) as his:
        await his.circles.join(group.id, key=None)
        for call in (his.circles.ready, his.circles.cancel):
            with pytest.raises(RoleMissing):
                await call(group.id)
        with pytest.raises(RoleMissing):
            await his.circles.update(await his.circles.get(group.id), name="Mine")
        with pytest.raises(RoleMissing):
            await his[Contribution].update_where(Contribution.amount == 1, amount=2)
    async with as_user(sandbox, tenant, ada) as hers:
        await hers.circles.ready(group.id)
        await hers.circles.start(group.id, on=DAY, key=None)
        await hers.circles.contribute(group.id, on=DAY, key=None)
        with pytest.raises(RoleMissing):
            await hers.circles.waive((await contribution_of(hers, group, ben)).id, key=None)
        with pytest.raises(RoleMissing):
            await hers.circles.contribute(group.id, ben, key=None)
    async with as_user(sandbox, tenant, ben) as his:
        await his.circles.contribute(group.id, on=DAY, key=None)
        with pytest.raises(RoleMissing):
            await his.circles.pay_out(group.id, key=None)
    async with as_user(sandbox, tenant, ada) as hers:
        assert (await hers.circles.pay_out(group.id, on=DAY, key="p")).amount == usd("100").units
    await agree(db, group)


async def test_a_group_pauses_and_ends_early(db: Session, make: Make):
    group, users = await running(db, make, 2, collateral_required=usd("20").units)
    await db.circles.pause(group.id)
    with pytest.raises(Conflict):
        await db.circles.pay_out(group.id, key=None)
    await db.circles.resume(group.id)
    with pytest.raises(Conflict):
        await db.circles.resume(group.id)
    await all_pay(db, group, users)
    with pytest.raises(Conflict) as held:
        await db.circles.dissolve(group.id)
    assert held.value.rule == "pot_held"
    await db.circles.pay_out(group.id, on=DAY, key=None)
    assert (await db.circles.dissolve(group.id, on=DAY)).status is GroupStatus.DISSOLVED
    assert await db.ledger.balance(purse_id(db, group, Purse.COLLATERAL)) == usd("0")
    with pytest.raises(InvalidTransition):
        await db.circles.cancel(group.id)
    other, _ = await recruiting(db, make, 2, collateral_required=usd("20").units)
    assert (await db.circles.cancel(other.id, on=DAY)).status is GroupStatus.CANCELLED
    await agree(db, other)


async def test_a_group_that_is_dissolved_keeps_the_debts_of_rounds_that_were(db: Session, make: Make):
    group, users = await running(db, make, 4)
    await all_pay(db, group, users)
    await db.circles.pay_out(group.id, on=DAY, key=None)
    await db.circles.advance(group.id, on=DAY, key=None)
    await all_pay(db, group, users[1:])
    await db.circles.default(group.id, users[0], on=DAY + WEEK * 3, key=None)
    await db.circles.pay_out(group.id, on=DAY + WEEK * 3, key=None)
    await db.circles.advance(group.id, on=DAY + WEEK * 3, key=None)
    await agree(db, group)
    await db.circles.dissolve(group.id, on=DAY + WEEK * 3)
    await agree(db, group)
    assert await db.ledger.balance(purse_id(db, group, Purse.RECEIVABLE)) == usd("50")
    with pytest.raises(Conflict):
        await db.circles.contribute(group.id, users[1], on=DAY + WEEK * 4, key=None)
    await db.circles.contribute(group.id, users[0], on=DAY + WEEK * 4, key=None)
    with pytest.raises(Conflict):
        await db.circles.contribute(group.id, users[0], on=DAY + WEEK * 4, key=None)
    await agree(db, group)
    found = await db.circles.circle(group.id)
    assert (found.held, found.owed) == (usd("0"), usd("0"))


async def test_a_claim_is_waived(db: Session, make: Make):
    group, users = await running(db, make, 2)
    await all_pay(db, group, users[1:])
    row = await db.circles.default(group.id, users[0], on=OVERDUE, key=None)
    assert (await db.circles.waive(row.id, key=None)).status is ContributionStatus.WAIVED
    assert (await db.circles.pay_out(group.id, on=OVERDUE, key=None)).amount == usd("50").units
    assert not (await member(db, group, users[0])).in_debt
    await agree(db, group)


async def test_a_waived_contribution_leaves_the_pot_short(db: Session, make: Make):
    group, users = await running(db, make, 3)
    await all_pay(db, group, users[1:])
    row = await contribution_of(db, group, users[0])
    assert (await db.circles.waive(row.id, key="w")).status is ContributionStatus.WAIVED
    assert (await db.circles.waive(row.id, key="w")).id == row.id
    assert (await db.circles.pay_out(group.id, on=DAY, key=None)).amount == usd("100").units
    await agree(db, group)


async def test_savers_without_a_pot_take_out_their_own(db: Session, make: Make):
    group, users = await running(db, make, 3, order_kind=OrderKind.NONE, contribution_amount=0)
    ada, ben, _ = users
    await db.circles.contribute(group.id, ada, usd("12.50"), on=DAY, key=None)
    with pytest.raises(Conflict):
        await db.circles.contribute(group.id, ada, usd("1"), on=DAY, key=None)
    with pytest.raises(Invalid):
        await db.circles.contribute(group.id, ben, usd("0"), on=DAY, key=None)
    with pytest.raises(Conflict):
        await db.circles.advance(group.id, on=DAY, key=None)
    for n in range(1, 4):
        await db.circles.advance(group.id, on=DAY + WEEK * n + (OVERDUE - DAY - WEEK), key=None)
    await db.circles.contribute(group.id, ada, usd("7.50"), on=DAY + WEEK * 4, key=None)
    done = await db.circles.advance(group.id, on=DAY + WEEK * 5, key=None)
    assert done.status is GroupStatus.COMPLETED
    paid = await db.circles.share_out(group.id, ada, on=DAY + WEEK * 5, key="s")
    assert (paid.amount, paid.kind) == (usd("20").units, PayoutKind.SHARE_OUT)
    for user in (ada, ben):
        with pytest.raises(Conflict):
            await db.circles.share_out(group.id, user, key=None)
    await agree(db, group)
    assert Money(0, "USD") == (await db.circles.circle(group.id)).held
