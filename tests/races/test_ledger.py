"""Sixteen callers at one ledger, twenty times over: one right answer each, and books that add up after it."""

from __future__ import annotations

import asyncio
from datetime import date
from itertools import pairwise

import pytest
from tests.ledger.support import DAY, audit, books, cents
from tests.soak import REPEATS

from tallystick import Conflict, InsufficientFunds, KeyReused, Money, usd
from tallystick.domains.idempotency import CommandKey
from tallystick.domains.ledger.accounts import AccountKind
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.ledger.posting import Receipt
from tallystick.domains.ledger.transfers import Transfer, transfer
from tallystick.session import Session
from tallystick.testing import Race

N = 16


@pytest.mark.parametrize("_", REPEATS)
async def test_a_pending_transfer_is_resolved_once(race: Race, db: Session, _: int):
    cash, wallet = await books(db)
    await db.ledger.post([transfer(cash, wallet, usd("100"))], op="deposit", key=None)
    pending = (await db.ledger.pend([transfer(wallet, cash, usd("60"))], op="payout", key=None)).transfers[0]

    async def resolve(s: Session, i: int) -> Receipt:
        if i % 2:
            return await s.ledger.void(pending, key=f"k{i}")
        return await s.ledger.settle(pending, usd("55"), key=f"k{i}")

    result = await race(N, resolve)
    assert result.winners == 1
    assert result.kinds == {Conflict}
    settled = result.results[0].transfers[0].phase == "post"
    assert await db.ledger.balance(wallet) == (usd("45") if settled else usd("100"))
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_an_account_is_drawn_to_its_floor_and_no_further(race: Race, db: Session, _: int):
    cash, wallet = await books(db, stripes=4)
    await db.ledger.post([transfer(cash, wallet, usd("45"))], op="deposit", key=None)

    async def draw(s: Session, i: int) -> Receipt:
        return await s.ledger.post([transfer(wallet, cash, usd("10"))], op="withdraw", key=f"k{i}")

    result = await race(N, draw)
    assert result.winners == 4
    assert result.kinds == {InsufficientFunds}
    assert await db.ledger.balance(wallet) == usd("5")
    assert await db[CommandKey].count() == 4
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_key_makes_one_journal(race: Race, db: Session, _: int):
    cash, wallet = await books(db)

    async def pay(s: Session) -> Receipt:
        return await s.ledger.post([transfer(cash, wallet, usd("10"))], op="deposit", key="once", on=DAY)

    result = await race(N, pay)
    assert result.errors == []
    assert len({r.id for r in result.results}) == 1
    assert sum(not r.replayed for r in result.results) == 1
    assert await db.ledger.balance(wallet) == usd("10")
    assert await db[Journal].count() == 1
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_key_with_two_requests_is_refused(race: Race, db: Session, _: int):
    cash, wallet = await books(db)

    async def pay(s: Session, i: int) -> Receipt:
        amount = usd("10") if i % 2 else usd("11")
        return await s.ledger.post([transfer(cash, wallet, amount)], op="deposit", key="once", on=DAY)

    result = await race(N, pay)
    assert result.winners == N // 2
    assert result.kinds == {KeyReused}
    assert len({r.id for r in result.results}) == 1
    assert await db[Journal].count() == 1
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_failure_leaves_the_key_to_the_next(race: Race, db: Session, _: int):
    cash, wallet = await books(db)
    await db.ledger.post([transfer(cash, wallet, usd("5"))], op="deposit", key=None)

    async def draw(s: Session, i: int) -> Receipt:
        if i == 0:
            await s.ledger.post([transfer(cash, wallet, usd("5"))], op="deposit", key="top up")
        return await s.ledger.post([transfer(wallet, cash, usd("10"))], op="withdraw", key="once")

    result = await race(N, draw)
    assert result.kinds <= {InsufficientFunds}
    assert sum(not r.replayed for r in result.results) == 1
    assert not await db.ledger.balance(wallet)
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_journal_is_reversed_once(race: Race, db: Session, _: int):
    cash, wallet = await books(db)
    paid = await db.ledger.post([transfer(cash, wallet, usd("10"))], op="deposit", key=None)
    await db.ledger.post([transfer(cash, wallet, usd("500"))], op="deposit", key=None)
    result = await race(N, lambda s, i: s.ledger.reverse(paid.id, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert await db.ledger.balance(wallet) == usd("500")
    await audit(db)


@pytest.mark.parametrize("opened", [True, False], ids=["a period", "a period opened meanwhile"])
@pytest.mark.parametrize("_", REPEATS)
async def test_nothing_enters_a_period_once_it_has_closed(race: Race, db: Session, _: int, opened: bool):
    cash, wallet = await books(db)
    span = (date(2026, 3, 1), date(2026, 3, 31))
    if opened:
        period = await db.ledger.periods.open(*span)
    closed_at: list[Money] = []

    async def post(s: Session, i: int) -> Receipt | None:
        if i == 0:
            made = period if opened else await s.ledger.periods.open(*span)
            await s.ledger.periods.close(made.id)
            closed_at.append(await s.ledger.balance(wallet, DAY))
            return None
        for n in range(i % 3):
            await s.ledger.post([transfer(cash, wallet, cents(1))], op="deposit", key=f"{i}-{n}", on=DAY)
        return await s.ledger.post([transfer(cash, wallet, cents(1))], op="deposit", key=f"{i}", on=DAY)

    result = await race(N, post)
    assert result.kinds <= {Conflict}
    assert all("closing or closed" in str(e) for e in result.errors)
    # What the books said when they closed is what they say now.
    assert closed_at == [await db.ledger.balance(wallet, DAY)]
    assert closed_at == [await db.ledger.balance(wallet)]
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_periods_that_overlap_are_opened_once(race: Race, db: Session, _: int):
    result = await race(N, lambda s, i: s.ledger.periods.open(date(2026, 3, 1 + i), date(2026, 4, 30)))
    assert result.winners == 1
    assert result.kinds == {Conflict}


@pytest.mark.parametrize("_", REPEATS)
async def test_a_proposal_is_posted_once(race: Race, db: Session, _: int):
    cash, wallet = await books(db)
    proposal = await db.ledger.approval.propose([transfer(cash, wallet, usd("10"))], op="x", key=None)
    result = await race(N, lambda s, i: s.ledger.approval.approve(proposal.id, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert await db.ledger.balance(wallet) == usd("10")
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_journals_in_every_order_never_lock_each_other_out(race: Race, db: Session, _: int):
    accounts = [
        await db.ledger.open_account(f"a{n}", "USD", AccountKind.ASSET, stripes=3 if n % 3 == 0 else 0)
        for n in range(6)
    ]

    async def shuffle(s: Session, i: int) -> None:
        for n in range(4):
            sides = [accounts[(i * 5 + n * k) % 6] for k in (1, 2, 3, 4)]
            legs = [transfer(a, b, cents(i + 1)) for a, b in pairwise(sides) if a != b]
            if legs:
                await s.ledger.post(legs, op="shuffle", key=None)

    result = await race(N, shuffle)
    assert result.errors == []
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_conversion_account_is_opened_once(race: Race, db: Session, _: int):
    result = await race(N, lambda s: s.ledger.conversion_account("USD"))
    assert result.errors == []
    assert len({a.id for a in result.results}) == 1


async def test_many_post_to_a_striped_account_and_to_a_plain_one(race: Race, db: Session):
    hot, wallet = await books(db, stripes=16)

    async def post(s: Session, i: int) -> None:
        for n in range(20):
            await s.ledger.post([transfer(hot, wallet, cents(1))], op="deposit", key=f"{i}-{n}")

    await race(N, post)
    assert await db.ledger.balance(hot) == cents(N * 20)
    assert await db[Transfer].count() == N * 20
    await audit(db)


async def test_a_balance_is_never_seen_half_moved(race: Race, db: Session):
    cash, wallet = await books(db, stripes=4)
    done = asyncio.Event()

    async def work(s: Session, i: int) -> None:
        if i == 0:
            while not done.is_set():
                assert (await s.ledger.trial_balance()).balanced
                assert (await s.ledger.trial_balance(date.max)).balanced
            return
        for _ in range(10):
            await s.ledger.post([transfer(cash, wallet, cents(i))], op="deposit", key=None)
        if i == 1:
            done.set()

    await race(N, work)
    await audit(db)
