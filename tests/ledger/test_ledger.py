"""Accounts, journals and balances: what the ledger does when nobody disturbs it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.ledger.support import DAY, audit, books, cents

from tallystick import (
    Conflict,
    Duplicate,
    InsufficientFunds,
    Invalid,
    Money,
    NotFound,
    Tallystick,
    UnknownReference,
    eur,
    usd,
    uuid7,
)
from tallystick.domains.ledger.accounts import Account, AccountKind, FloorRule, Stripe
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.ledger.posting import draft
from tallystick.domains.ledger.transfers import MOST_TRANSFERS, Phase, Transfer, transfer
from tallystick.money import LEDGER_MAX
from tallystick.session import Session


async def test_a_journal_moves_money_and_is_read_back(db: Session):
    cash, wallet = await books(db)
    receipt = await db.ledger.post([transfer(cash, wallet, usd("100"))], op="deposit", key="1", on=DAY, source=cash)
    assert not receipt.replayed
    assert receipt.journal.effective == DAY
    assert receipt.journal.created_by == db.actor
    assert (receipt.journal.source, receipt.journal.source_id) == ("account", cash.id)
    assert receipt == await db.ledger.receipt(receipt.id)
    assert receipt.transfers[0].money == usd("100")
    assert await db.ledger.balance(cash) == usd("100")
    assert await db.ledger.balance(wallet.id) == usd("100")
    stored = await db.ledger.accounts.get(wallet.id)
    assert (stored.credits, stored.debits) == (10_000, 0)
    assert stored.version == wallet.version
    await audit(db)


async def test_without_a_date_a_journal_is_of_today(db: Session):
    cash, wallet = await books(db)
    receipt = await db.ledger.post([transfer(cash, wallet, usd("1"))], op="deposit", key=None)
    assert receipt.journal.effective == db.today()


async def test_an_account_is_named_by_itself_its_ref_or_its_id(db: Session):
    cash, wallet = await books(db)
    for one in (cash, cash.ref, cash.id):
        await db.ledger.post([transfer(one, wallet, usd("1"))], op="deposit", key=None)
    assert await db.ledger.balance(cash.ref) == usd("3")
    assert await db.ledger.accounts.by_code("cash") == await db.ledger.accounts.get(cash.id)
    assert await db.ledger.accounts.by_code("none") is None


async def test_a_code_is_taken_once(db: Session):
    await books(db)
    with pytest.raises(Duplicate):
        await db.ledger.open_account("cash", "EUR", AccountKind.ASSET)


@pytest.mark.parametrize(
    ("kind", "sign"),
    [("asset", 1), ("expense", 1), ("liability", -1), ("equity", -1), ("income", -1)],
)
async def test_a_balance_is_positive_on_its_normal_side(db: Session, kind: str, sign: int):
    one = await db.ledger.open_account("one", "USD", AccountKind(kind))
    other = await db.ledger.open_account("other", "USD", AccountKind.EQUITY)
    await db.ledger.post([transfer(one, other, usd("7"))], op="move", key=None)
    assert await db.ledger.balance(one) == usd("7") * sign


async def test_a_floor_holds_and_nothing_is_half_written(db: Session):
    cash, wallet = await books(db)
    await db.ledger.post([transfer(cash, wallet, usd("45"))], op="deposit", key="1")
    with pytest.raises(InsufficientFunds) as refused:
        await db.ledger.post([transfer(wallet, cash, usd("45.01"))], op="withdraw", key="2")
    assert "db.ledger" not in str(refused.value)
    assert await db[Journal].count() == 1
    assert await db[Transfer].count() == 1
    assert await db.ledger.balance(wallet) == usd("45")
    # What failed is not remembered: the same key may try again.
    await db.ledger.post([transfer(wallet, cash, usd("45"))], op="withdraw", key="2")
    assert not await db.ledger.balance(wallet)
    await audit(db)


async def test_the_other_floor_keeps_a_loan_from_being_overpaid(db: Session):
    cash, _ = await books(db)
    loan = await db.ledger.open_account("loan", "USD", AccountKind.ASSET, floor=FloorRule.CREDITS_LE_DEBITS)
    await db.ledger.post([transfer(loan, cash, usd("10"))], op="disburse", key=None)
    with pytest.raises(InsufficientFunds):
        await db.ledger.post([transfer(cash, loan, usd("10.01"))], op="repay", key=None)
    await db.ledger.post([transfer(cash, loan, usd("10"))], op="repay", key=None)


async def test_a_floor_looks_at_the_journal_as_a_whole(db: Session):
    cash, wallet = await books(db)
    await db.ledger.post([transfer(wallet, cash, usd("5")), transfer(cash, wallet, usd("5"))], op="both", key=None)
    assert not await db.ledger.balance(wallet)


async def test_an_asset_stays_within_itself(db: Session):
    cash, wallet = await books(db)
    euros = await db.ledger.open_account("euros", "EUR", AccountKind.ASSET)
    with pytest.raises(Invalid, match="asset"):
        transfer(cash, euros, usd("1"))
    for money in (usd("1"), eur("1")):
        with pytest.raises(UnknownReference, match="not of the transfer's asset"):
            await db.ledger.post([transfer(cash.id, euros.id, money)], op="mix", key=None)
    with pytest.raises(UnknownReference):
        await db.ledger.post([transfer(cash, uuid7(), usd("1"))], op="lost", key=None)
    assert await db[Journal].count() == 0
    assert wallet


async def test_another_tenants_account_is_one_that_does_not_exist(db: Session, sandbox, tally: Tallystick):
    cash, _ = await books(db)
    slug = f"other-{uuid7().hex}"
    await tally.tenants.create(slug, name="Other")
    async with sandbox.session(slug, actor="x", permissions=("*",)) as other:
        theirs, _ = await books(other)
        with pytest.raises(UnknownReference):
            await other.ledger.post([transfer(theirs.id, cash.id, usd("1"))], op="steal", key=None)
        with pytest.raises(NotFound):
            await other.ledger.balance(cash.id)


@pytest.mark.parametrize(
    "amount", [0, 1.5, "1", None, usd("0"), usd("-1"), Money(LEDGER_MAX + 1, "USD")], ids=lambda a: type(a).__name__
)
def test_a_bad_amount_is_refused(amount: Any):
    with pytest.raises(Invalid):
        transfer(uuid7(), uuid7(), amount)


def test_a_transfer_has_two_sides():
    one = uuid7()
    with pytest.raises(Invalid):
        transfer(one, one, usd("1"))
    with pytest.raises(Invalid):
        transfer("cash", one, usd("1"))  # type: ignore[arg-type]


@pytest.mark.parametrize("legs", [[], None, ["leg"], "leg"])
async def test_a_journal_needs_transfers(db: Session, legs: Any):
    with pytest.raises(Invalid):
        await db.ledger.post(legs, op="nothing", key=None)


async def test_bad_words_are_refused(db: Session):
    cash, wallet = await books(db)
    leg = [transfer(cash, wallet, usd("1"))]
    for op in ("", "x" * 65, 5):
        with pytest.raises(Invalid):
            await db.ledger.post(leg, op=op, key=None)  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        await db.ledger.post(leg, op="x", key=None, on="2026-01-01")  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        await db.ledger.post(leg * (MOST_TRANSFERS + 1), op="x", key=None)
    assert await db[Journal].count() == 0


async def test_amounts_go_to_thirty_eight_digits(db: Session):
    cash, _ = await books(db)
    other = await db.ledger.open_account("other", "USD", AccountKind.EQUITY)
    receipt = await db.ledger.post([transfer(cash, other, cents(LEDGER_MAX))], op="all", key="x")
    assert (await db.ledger.receipt(receipt.id)).transfers[0].amount == LEDGER_MAX
    assert await db.ledger.balance(cash) == cents(LEDGER_MAX)
    # A balance that no longer fits is refused, not rounded.
    with pytest.raises(Invalid):
        await db.ledger.post([transfer(cash, other, cents(1))], op="more", key=None)


async def test_a_striped_account_is_spread_and_summed(db: Session):
    cash, wallet = await books(db, stripes=8)
    for n in range(40):
        await db.ledger.post([transfer(cash, wallet, cents(n + 1))], op="deposit", key=None)
    assert await db.ledger.balance(cash) == cents(820)
    assert (await db.ledger.accounts.get(cash.id)).debits == 0
    used = [s for s in await db[Stripe].find(Stripe.account == cash.ref) if s.debits]
    assert len(used) > 2
    assert sum(s.debits for s in used) == 820
    await audit(db)


async def test_an_account_with_a_floor_has_no_stripes(db: Session):
    with pytest.raises(Invalid):
        await db.ledger.open_account("x", "USD", AccountKind.LIABILITY, floor=FloorRule.DEBITS_LE_CREDITS, stripes=4)
    with pytest.raises(Invalid):
        await db.ledger.open_account("x", "USD", AccountKind.LIABILITY, stripes=65)
    assert await db[Account].count() == 0


async def test_many_journals_in_one_statement(db: Session):
    cash, wallet = await books(db)
    drafts = [draft([transfer(cash, wallet, cents(n))], op="deposit", on=DAY) for n in range(1, 101)]
    receipts = await db.ledger.post_many(drafts, key="batch")
    assert [r.transfers[0].amount for r in receipts] == list(range(1, 101))
    again = await db.ledger.post_many(drafts, key="batch")
    assert all(r.replayed for r in again)
    assert [r.id for r in again] == [r.id for r in receipts]
    assert await db.ledger.balance(wallet) == cents(5050)
    with pytest.raises(Invalid):
        await db.ledger.post_many([], key=None)
    with pytest.raises(Invalid):
        await db.ledger.post_many(drafts * 11, key=None)
    await audit(db)


async def test_a_reversal_undoes_a_journal_once(db: Session):
    cash, wallet = await books(db)
    fees = await db.ledger.open_account("fees", "USD", AccountKind.INCOME)
    paid = await db.ledger.post(
        [transfer(cash, wallet, usd("10")), transfer(cash, fees, usd("1"))], op="deposit", key="1"
    )
    before = await db.ledger.trial_balance(DAY - timedelta(days=900))
    undone = await db.ledger.reverse(paid, key="2", description="wrong account")
    assert undone.journal.reverses == paid.journal.ref
    assert [await db.ledger.balance(a) for a in (cash, wallet, fees)] == [usd("0")] * 3
    assert not any(line.net.units for line in before.lines)
    with pytest.raises(Conflict, match="reversed already"):
        await db.ledger.reverse(paid.id, key="3")
    assert (await db.ledger.reverse(paid, key="2", description="wrong account")).replayed
    again = await db.ledger.reverse(undone.journal, key="4")
    assert await db.ledger.balance(fees) == usd("1")
    assert again.journal.reverses == undone.journal.ref
    await audit(db)


async def test_a_reversal_cannot_take_what_is_spent(db: Session):
    cash, wallet = await books(db)
    paid = await db.ledger.post([transfer(cash, wallet, usd("10"))], op="deposit", key=None)
    await db.ledger.post([transfer(wallet, cash, usd("4"))], op="withdraw", key=None)
    with pytest.raises(InsufficientFunds):
        await db.ledger.reverse(paid, key=None)
    with pytest.raises(NotFound):
        await db.ledger.reverse(uuid7(), key=None)
    with pytest.raises(Invalid):
        await db.ledger.reverse("x", key=None)  # type: ignore[arg-type]


async def test_an_exchange_goes_through_conversion_accounts(db: Session):
    cash, wallet = await books(db)
    euros = await db.ledger.open_account("euros", "EUR", AccountKind.LIABILITY)
    await db.ledger.post([transfer(cash, wallet, usd("110"))], op="deposit", key=None)
    done = await db.ledger.exchange(wallet, euros, debited=usd("110"), credited=eur("100"), op="fx", key="fx")
    assert [t.asset for t in done.transfers] == ["USD", "EUR"]
    again = await db.ledger.exchange(wallet, euros, debited=usd("110"), credited=eur("100"), op="fx", key="fx")
    assert again.replayed
    assert await db.ledger.balance(euros) == eur("100")
    assert not await db.ledger.balance(wallet)
    assert await db.ledger.balance(await db.ledger.conversion_account("USD")) == usd("110")
    assert await db.ledger.balance(await db.ledger.conversion_account("EUR")) == eur("-100")
    with pytest.raises(Invalid):
        await db.ledger.exchange(wallet, cash, debited=usd("1"), credited=usd("1"), op="fx", key=None)
    await audit(db)


async def test_a_pending_transfer_reserves_until_it_is_settled(db: Session):
    cash, wallet = await books(db)
    await db.ledger.post([transfer(cash, wallet, usd("100"))], op="deposit", key=None)
    held = await db.ledger.pend([transfer(wallet, cash, usd("60"))], op="payout", key="p", source=wallet)
    (pending,) = held.transfers
    assert pending.phase is Phase.PENDING
    assert await db.ledger.balance(wallet) == usd("100")
    assert (await db.ledger.balances(wallet)).debits_pending == usd("60")
    with pytest.raises(InsufficientFunds):
        await db.ledger.pend([transfer(wallet, cash, usd("41"))], op="payout", key=None)
    with pytest.raises(Invalid, match="More than is pending"):
        await db.ledger.settle(pending, usd("60.01"), key=None)
    with pytest.raises(Invalid):
        await db.ledger.settle(pending, eur("1"), key=None)
    with pytest.raises(Invalid):
        await db.ledger.reverse(held, key=None)
    done = await db.ledger.settle(pending.id, usd("55"), key="s")
    assert done.transfers[0].resolves == pending.ref
    assert (done.journal.source, done.journal.source_id) == ("account", wallet.id)
    assert await db.ledger.balance(wallet) == usd("45")
    assert not (await db.ledger.balances(wallet)).debits_pending
    assert (await db.ledger.settle(pending.id, usd("55"), key="s")).replayed
    for again in (db.ledger.settle(pending, key=None), db.ledger.void(pending.ref, key=None)):
        with pytest.raises(Conflict, match="already"):
            await again
    with pytest.raises(Conflict, match="not pending"):
        await db.ledger.void(done.transfers[0], key=None)
    await db.ledger.reverse(done, key=None)
    assert await db.ledger.balance(wallet) == usd("100")
    await audit(db)


async def test_a_void_gives_back_all_of_it(db: Session):
    cash, wallet = await books(db, stripes=4)
    await db.ledger.post([transfer(cash, wallet, usd("10"))], op="deposit", key=None)
    held = await db.ledger.pend([transfer(wallet, cash, usd("10"))], op="payout", key=None)
    done = await db.ledger.void(held.transfers[0], key="v")
    assert (await db.ledger.void(held.transfers[0], key="v")).replayed
    assert await db.ledger.balance(wallet) == usd("10")
    with pytest.raises(Invalid):
        await db.ledger.reverse(done, key=None)
    await audit(db)


async def test_a_domain_that_was_not_chosen_says_so(tally: Tallystick, tenant: str):
    app = Tallystick(tally.settings, ("identity",), (), keys=tally.keys, clock=tally.clock, version_locations=())
    async with app, app.session(tenant, actor="test") as db:
        with pytest.raises(Invalid, match="not an entity of this application"):
            _ = db.ledger
