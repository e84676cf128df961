"""Payments: partial, whole, early, late, too much, dated back, taken back."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from tests.lending.support import DAY, active, audit, balance, product

from tallystick import Conflict, Invalid, KeyReused, usd
from tallystick.domains.lending.loans import LoanStatus
from tallystick.session import Session

D = date


async def test_a_loan_is_lent_and_repaid(db: Session) -> None:
    loan = await active(db, await product(db))
    assert (loan.number, loan.status, loan.outstanding) == (1, LoanStatus.ACTIVE, usd("1000"))
    assert await balance(db, "loan:1:principal") == usd("1000")
    assert await balance(db, "loans.clearing:USD") == usd("-1000")
    receipt = await db.loans.repay(loan, usd("500"), on=D(2026, 2, 1), key="a")
    assert receipt.loan.outstanding == usd("500")
    assert not receipt.replayed
    again = await db.loans.repay(loan, usd("500"), on=D(2026, 2, 1), key="a")
    assert again.replayed
    assert again.transaction == receipt.transaction
    with pytest.raises(KeyReused):
        await db.loans.repay(loan, usd("501"), on=D(2026, 2, 1), key="a")
    rows = await db.loans.schedule(loan)
    assert [i.principal_paid for i in rows] == [usd("333.33"), usd("166.67"), usd("0")]
    assert rows[0].settled_on == D(2026, 2, 1)
    last = await db.loans.repay(loan, usd("500"), on=D(2026, 3, 1), key="b")
    assert (last.loan.status, last.loan.closed_on, last.loan.oldest_due) == (LoanStatus.CLOSED, D(2026, 3, 1), None)
    assert [s.after.value for s in await db.loans.steps(loan)] == ["requested", "approved", "active", "closed"]
    await audit(db)


async def test_undo_is_as_if_it_had_not_been(db: Session) -> None:
    loan = await active(db, await product(db, rate=Decimal("0.12")))
    first = await db.loans.repay(loan, usd("200"), on=D(2026, 2, 1), key=None)
    before = await db.loans.schedule(loan)
    second = await db.loans.repay(loan, usd("300"), on=D(2026, 2, 10), key=None)
    await audit(db)
    await db.loans.reverse(second, on=D(2026, 2, 11), key=None)
    assert [(i.principal_paid, i.interest_paid, i.settled_on) for i in await db.loans.schedule(loan)] == [
        (i.principal_paid, i.interest_paid, i.settled_on) for i in before
    ]
    await audit(db)
    with pytest.raises(Conflict, match="reversed before"):
        await db.loans.reverse(second, on=D(2026, 2, 11), key=None)
    await db.loans.reverse(first, on=D(2026, 2, 12), key=None)
    assert (await db.loans.get(loan.id)).outstanding == loan.outstanding
    assert await balance(db, "loans.interest_income:USD") == usd("0")
    await audit(db)


async def test_a_payment_before_the_loan_is_refused(db: Session) -> None:
    loan = await active(db, await product(db))
    with pytest.raises(Invalid, match="before the loan was paid out"):
        await db.loans.repay(loan, usd("10"), on=D(2025, 12, 31), key=None)
    assert await db.loans.transactions(loan) == await db.loans.transactions(loan)
    assert len(await db.loans.transactions(loan)) == 1
    assert loan.disbursed_on == DAY
