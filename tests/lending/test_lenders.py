"""Lenders: funded to the limit, paid in proportion, repaid to the unit, and bearing the loss."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lending.support import DAY, active, audit, balance, product

from tallystick import Conflict, Invalid, Loan, LoanStatus, User, UserStatus, usd
from tallystick.domains.lending.lenders import shares
from tallystick.domains.lending.servicing import Servicing
from tallystick.money import sum_of
from tallystick.session import Session


async def funded(db: Session, *parts: str, servicing: Servicing | None = None) -> Loan:
    """A loan of 1,000 in three installments at 12 %, funded in parts."""
    what = await product(db, rate=Decimal("0.12"), servicing=servicing)
    borrower, *lenders = await db.users.add_many([User(status=UserStatus.ACTIVE) for _ in range(len(parts) + 1)])
    loan = await db.loans.request(product=what, borrower=borrower, principal=usd("1000"), on=DAY, key=None)
    await db.loans.open_funding(loan, on=DAY, key=None)
    with pytest.raises(Invalid, match="loan of their own"):
        await db.loans.fund(loan, borrower, usd("1"), on=DAY, key=None)
    for lender, part in zip(lenders, parts, strict=True):
        await db.loans.fund(loan, lender, usd(part), on=DAY, key=None)
    return await db.loans.get(loan.id)


async def test_a_loan_is_funded_whole_and_no_further(db: Session) -> None:
    loan = await funded(db, "333.33", "333.33")
    with pytest.raises(Conflict, match="not funded whole"):
        await db.loans.approve(loan, on=DAY, key=None)
    lender = await db.users.add(User(status=UserStatus.ACTIVE))
    with pytest.raises(Conflict, match=r"333\.34 USD more"):
        await db.loans.fund(loan, lender, usd("333.35"), on=DAY, key=None)
    await db.loans.fund(loan, lender, usd("333.34"), on=DAY, key=None)
    assert (await db.loans.approve(loan, on=DAY, key=None)).status is LoanStatus.APPROVED
    with pytest.raises(Conflict, match="approved"):
        await db.loans.fund(loan, lender, usd("1"), on=DAY, key=None)


async def test_lenders_of_a_loan_that_is_not_paid_out_get_their_money_back(db: Session) -> None:
    loan = await funded(db, "400", "100")
    assert await balance(db, "loan:1:lenders") == usd("500")
    expired = await db.loans.expire(loan, on=DAY, key="x")
    assert (expired.status, expired.funded) == (LoanStatus.EXPIRED, usd("0"))
    assert await balance(db, "loan:1:lenders") == await balance(db, "loans.clearing:USD") == usd("0")
    assert {f.status.value for f in await db.loans.fundings(loan)} == {"released"}


async def test_what_comes_in_goes_to_the_lenders_in_proportion(db: Session) -> None:
    loan = await funded(db, "333.33", "333.33", "333.34", servicing=Servicing(lenders_interest=Decimal("0.9")))
    await db.loans.approve(loan, on=DAY, key=None)
    await db.loans.disburse(loan, on=DAY, key=None)
    assert await db.loans.distribute(loan, on=DAY, key=None) == []
    for i in await db.loans.schedule(loan):
        await db.loans.repay(loan, i.total, on=i.due, key=None)
        made = await db.loans.distribute(loan, on=i.due, key=f"pay {i.seq}")
        assert sum_of(p.principal for p in made) == i.principal
        assert made == await db.loans.distribute(loan, on=i.due, key=f"pay {i.seq}")
        assert await db.loans.distribute(loan, on=i.due, key=None) == []
    paid = await db.loans.payouts(loan)
    for funding in await db.loans.fundings(loan):
        assert sum_of(p.principal for p in paid if p.funding == funding.ref) == funding.amount
    interest = await balance(db, "loans.interest_income:USD")
    assert sum_of(p.interest for p in paid) == await balance(db, "loans.lender_interest:USD")
    assert await balance(db, "loans.lender_interest:USD") <= interest * 9 // 10 + usd("0.01")
    assert await balance(db, "loan:1:lenders") == usd("0")
    assert await balance(db, "loans.clearing:USD") == interest - await balance(db, "loans.lender_interest:USD")
    await audit(db)


async def test_lenders_bear_the_loss_and_have_what_is_recovered(db: Session) -> None:
    loan = await funded(db, "250", "750")
    await db.loans.approve(loan, on=DAY, key=None)
    await db.loans.disburse(loan, on=DAY, key=None)
    first = (await db.loans.schedule(loan))[0]
    await db.loans.repay(loan, first.total, on=first.due, key=None)
    await db.loans.write_off(loan, on=date(2026, 6, 1), key=None)
    assert await balance(db, "loans.credit_loss:USD") == usd("0")
    await db.loans.distribute(loan, on=date(2026, 6, 1), key=None)
    assert await balance(db, "loan:1:lenders") == usd("0")
    got = await db.loans.recover(loan, usd("100"), on=date(2026, 7, 1), key=None)
    assert await balance(db, "loan:1:lenders") == usd("100")
    made = await db.loans.distribute(loan, on=date(2026, 7, 2), key=None)
    assert sorted(p.principal for p in made) == [usd("25"), usd("75")]
    assert got.loan.status is LoanStatus.WRITTEN_OFF
    await audit(db)


async def test_nobody_funded(db: Session) -> None:
    loan = await active(db, await product(db))
    with pytest.raises(Conflict, match="Nobody funded"):
        await db.loans.distribute(loan, on=DAY, key=None)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8), st.lists(st.integers(0, 1000), max_size=12))
def test_shares_are_whole_and_nobody_gives_back(weights: list[int], steps: list[int]) -> None:
    paid = [0] * len(weights)
    total = 0
    for step in steps:
        total = min(sum(weights), total + step)
        now = shares(total, weights, paid)
        assert min(now) >= 0
        paid = [a + b for a, b in zip(paid, now, strict=True)]
        assert sum(paid) == total
        assert all(abs(had - total * w / sum(weights)) < len(weights) + 1 for had, w in zip(paid, weights, strict=True))
    assert shares(total - 1, weights, paid) == [0] * len(weights)
    last = shares(sum(weights), weights, paid)
    if all(had <= w for had, w in zip(paid, weights, strict=True)):
        assert [a + b for a, b in zip(paid, last, strict=True)] == list(weights)


async def test_a_payment_that_was_charged_back_is_nobodys(db: Session) -> None:
    loan = await funded(db, "250", "750", servicing=Servicing(lenders_interest=Decimal(1)))
    await db.loans.approve(loan, on=DAY, key=None)
    await db.loans.disburse(loan, on=DAY, key=None)
    first, second, third = await db.loans.schedule(loan)
    paid = await db.loans.repay(loan, first.total, on=first.due, key=None)
    await db.loans.distribute(loan, on=first.due, key=None)
    await db.loans.chargeback(paid, on=first.due, key=None)
    assert await db.loans.distribute(loan, on=first.due, key=None) == []
    await db.loans.repay(loan, second.total + first.total, on=second.due, key=None)
    await db.loans.distribute(loan, on=second.due, key=None)
    await db.loans.repay(loan, third.total, on=third.due, key=None)
    await db.loans.distribute(loan, on=third.due, key=None)
    assert (await db.loans.get(loan.id)).status is LoanStatus.CLOSED
    assert await balance(db, "loan:1:lenders") == usd("0")
    assert sum_of(p.principal for p in await db.loans.payouts(loan)) == usd("1000")
    await audit(db)


async def test_lenders_lose_no_more_than_they_have_not_got_back(db: Session) -> None:
    loan = await funded(db, "250", "750")
    await db.loans.approve(loan, on=DAY, key=None)
    await db.loans.disburse(loan, on=DAY, key=None)
    first = (await db.loans.schedule(loan))[0]
    paid = await db.loans.repay(loan, first.total, on=first.due, key=None)
    await db.loans.distribute(loan, on=first.due, key=None)
    await db.loans.reverse(paid, on=first.due, key=None)
    await db.loans.write_off(loan, on=date(2026, 6, 1), key=None)
    assert await balance(db, "loan:1:lenders") == usd("0")
    # What they were paid of a payment that bounced is the house's loss.
    assert await balance(db, "loans.credit_loss:USD") == first.principal
    await audit(db)


async def test_what_was_never_paid_out_is_not_lost(db: Session) -> None:
    loan = await funded(db, "250", "750")
    await db.loans.approve(loan, on=DAY, key=None)
    await db.loans.disburse(loan, usd("600"), on=DAY, key=None)
    await db.loans.write_off(loan, on=date(2026, 6, 1), key=None)
    assert await balance(db, "loans.credit_loss:USD") == usd("0")
    assert await balance(db, "loan:1:lenders") == usd("400")
    await audit(db)
