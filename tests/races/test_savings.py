"""Sixteen callers at one circle, twenty times over: one right answer each, and books that say what its rows say."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from tests.community.support import person
from tests.savings.support import DAY, agree, all_pay, member, recruiting, running, terms
from tests.soak import REPEATS

from tallystick import (
    ChainLog,
    Conflict,
    ContributionStatus,
    Duplicate,
    GroupMember,
    GroupStatus,
    OrderKind,
    Payout,
    PayoutKind,
    RoundStatus,
    User,
    Wallet,
    register,
    usd,
)
from tallystick.assets import Asset
from tallystick.domains.idempotency import CommandKey
from tallystick.session import Session
from tallystick.testing import Make, Race

N = 16
register(Asset("cUSD", 18))


@pytest.mark.parametrize("_", REPEATS)
async def test_a_pot_is_paid_once(race: Race, db: Session, make: Make, _: int):
    group, users = await running(db, make, 2)
    await all_pay(db, group, users)
    result = await race(N, lambda s, i: s.circles.pay_out(group.id, on=DAY, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert [p.amount for p in await db[Payout].find()] == [usd("100").units]
    assert await db[CommandKey].count() == 1
    await agree(db, group)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_key_is_one_payout(race: Race, db: Session, make: Make, _: int):
    group, users = await running(db, make, 2)
    await all_pay(db, group, users)
    result = await race(N, lambda s: s.circles.pay_out(group.id, on=DAY, key="once"))
    assert result.errors == []
    assert len({p.id for p in result.results}) == 1
    assert await db[Payout].count() == 1
    await agree(db, group)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_member_contributes_once_in_a_round(race: Race, db: Session, make: Make, _: int):
    group, users = await running(db, make, 2)
    result = await race(N, lambda s, i: s.circles.contribute(group.id, users[0], on=DAY, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert (await db.circles.circle(group.id)).held == usd("50")
    await agree(db, group)


@pytest.mark.parametrize("_", REPEATS)
async def test_the_last_contributions_at_once_fund_the_round(race: Race, db: Session, make: Make, _: int):
    group, users = await running(db, make, N, max_members=N)
    result = await race(N, lambda s, i: s.circles.contribute(group.id, users[i], on=DAY, key=None))
    assert result.errors == []
    found = await db.circles.circle(group.id)
    assert (found.rounds[0].status, found.held) == (RoundStatus.FUNDED, usd("800"))
    await agree(db, group)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_round_is_advanced_once(race: Race, db: Session, make: Make, _: int):
    group, users = await running(db, make, 3)
    await all_pay(db, group, users)
    await db.circles.pay_out(group.id, on=DAY, key=None)
    result = await race(N, lambda s, i: s.circles.advance(group.id, on=DAY, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    found = await db.circles.circle(group.id)
    assert found.group.current_round == 2
    assert [r.status for r in found.rounds] == [RoundStatus.CLOSED, RoundStatus.OPEN, RoundStatus.SCHEDULED]
    assert len(found.contributions) == 6


@pytest.mark.parametrize("_", REPEATS)
async def test_a_full_group_takes_nobody_more(race: Race, db: Session, make: Make, _: int):
    group, _users = await recruiting(db, make, 2, max_members=5)
    others = [await person(make) for _ in range(N)]
    result = await race(N, lambda s, i: s.circles.join(group.id, others[i], key=None))
    assert result.winners == 3
    assert result.kinds == {Conflict}
    assert (await db.circles.get(group.id)).members == await db[GroupMember].count() == 5
    await agree(db, group)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_user_joins_once(race: Race, db: Session, make: Make, _: int):
    group, _users = await recruiting(db, make, 1)
    ada = await person(make)
    result = await race(N, lambda s, i: s.circles.join(group.id, ada, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert (await db.circles.get(group.id)).members == 2


@pytest.mark.parametrize("_", REPEATS)
async def test_a_log_of_a_chain_counts_once(race: Race, db: Session, make: Make, _: int):
    group, users = await running(
        db,
        make,
        N,
        mirrored=True,
        asset="cUSD",
        chain_id=1,
        contract=b"\x01" * 20,
        external_id="1",
        max_members=N,
        contribution_amount=2**200,
    )
    log = ChainLog(chain_id=1, tx_hash=b"\x02" * 32, log_index=3)
    result = await race(N, lambda s, i: s.circles.contribute(group.id, users[i], log=log, key=None))
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    paid = [c for c in await db.circles.contributions(group.id) if c.status is ContributionStatus.CONFIRMED]
    assert len(paid) == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_a_group_ends_and_gives_collateral_back_once(race: Race, db: Session, make: Make, _: int):
    group, users = await running(db, make, 2, collateral_required=usd("10").units)
    for n in range(2):
        await all_pay(db, group, users)
        await db.circles.pay_out(group.id, on=DAY, key=None)
        if not n:
            await db.circles.advance(group.id, on=DAY, key=None)
    result = await race(N, lambda s, i: s.circles.advance(group.id, on=DAY, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert (await db.circles.get(group.id)).status is GroupStatus.COMPLETED
    await agree(db, group)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_group_is_dissolved_once_and_its_savings_taken_out_once(race: Race, db: Session, make: Make, _: int):
    group, users = await running(db, make, 2, order_kind=OrderKind.NONE, contribution_amount=0)
    for user in users:
        await db.circles.contribute(group.id, user, usd("7"), on=DAY, key=None)

    async def act(s: Session, i: int) -> Any:
        if i % 2:
            return await s.circles.dissolve(group.id, on=DAY, key=f"k{i}")
        return await s.circles.share_out(group.id, users[i // 2 % 2], on=DAY, key=f"k{i}")

    result = await race(N, act)
    assert result.winners == 3
    assert result.kinds == {Conflict}
    assert [p.amount for p in await db[Payout].find()] == [usd("7").units] * 2
    found = await db.circles.circle(group.id)
    assert (found.group.status, found.held) == (GroupStatus.DISSOLVED, usd("0"))
    await agree(db, group)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_late_payment_is_taken_and_passed_on_once(race: Race, db: Session, make: Make, _: int):
    group, users = await running(db, make, 2, grace_days=0)
    await all_pay(db, group, users[:1])
    late = (await db.circles.circle(group.id)).rounds[0].due_on.replace(day=20)
    await db.circles.default(group.id, users[1], on=late, key=None)
    await db.circles.pay_out(group.id, on=late, key=None)
    result = await race(N, lambda s, i: s.circles.contribute(group.id, users[1], on=late, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert [p.amount for p in await db[Payout].find(Payout.kind == PayoutKind.ARREARS)] == [usd("50").units]
    assert not (await member(db, group, users[1])).in_debt
    await agree(db, group)


@pytest.mark.parametrize("_", REPEATS)
async def test_sixteen_of_everything_end_with_whole_rounds(race: Race, db: Session, make: Make, _: int):
    group, users = await running(db, make, 4)

    async def one(s: Session, i: int) -> None:
        verbs = (
            lambda: s.circles.contribute(group.id, users[i % 4], on=DAY, key=None),
            lambda: s.circles.pay_out(group.id, on=DAY, key=None),
            lambda: s.circles.advance(group.id, on=DAY, key=None),
        )
        for verb in verbs:
            try:
                await verb()
            except Conflict:
                continue

    result = await race(N, one)
    assert result.errors == []
    found = await db.circles.circle(group.id)
    receivers = [p.member.id for p in found.payouts]
    assert len(set(receivers)) == len(receivers)
    assert all(a.seq < b.seq for a, b in pairwise(found.rounds))
    await agree(db, group)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_wallet_is_one_user(race: Race, db: Session, _: int):
    result = await race(N, lambda s: s.wallets.upsert_owner(1, "0x" + "ab" * 20))
    assert result.errors == []
    assert len({u.id for u in result.results}) == 1
    assert await db[Wallet].count() == await db[User].count() == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_one_group_of_a_chain_is_one_group(race: Race, db: Session, _: int):
    given = {"mirrored": True, "asset": "cUSD", "chain_id": 1, "contract": b"\x01" * 20, "external_id": "1"}
    result = await race(N, lambda s, i: s.circles.mirror(terms(**given, contribution_amount=i + 1)))
    assert result.errors == []
    assert len({g.id for g in result.results}) == 1
    assert await db.circles.count() == 1
