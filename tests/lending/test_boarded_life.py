"""What happens to a loan after it was taken over: as to any other, and never to what had been before."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from tests.ledger.support import audit
from tests.lending.test_boarding import TODAY, given_of, product_of

from tallystick import Invalid, Session, Unsupported, usd
from tallystick.domains.lending.boarding import Overdue, board
from tallystick.domains.lending.books import Own, own_id
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.servicing import DEFAULT_ORDER, AllocationStyle, FutureAllocation, Servicing
from tallystick.domains.lending.transactions import LoanTransaction, TransactionKind

MAY = date(2026, 5, 10)


async def equal(db: Session, loan: Loan) -> Loan:
    """The loan as it is stored, which equals its accounts."""
    found = await db.loans.get(loan.id)
    worth = 0 if found.charged_off_on else found.principal_outstanding.units
    assert (await db.ledger.balance(own_id(loan.id, Own.PRINCIPAL))).units == worth
    assert (await db.ledger.balance(own_id(loan.id, Own.OVERPAID))).units == found.overpaid.units
    await audit(db)
    return found


async def left(db: Session, loan: Loan) -> list[LoanInstallment]:
    plan = await db[LoanInstallment].find(LoanInstallment.loan == loan.ref, LoanInstallment.current == True)  # noqa: E712
    return [i for i in sorted(plan, key=lambda i: i.due) if i.outstanding]


@pytest.mark.parametrize("style", AllocationStyle)
async def test_payments_and_their_undoing(db: Session, style: AllocationStyle) -> None:
    product = await db.products.revise(await product_of(db), servicing=Servicing(allocation_style=style))
    given = await given_of(db, product=product)
    loan = await board(db, given, key=None)
    before = await left(db, loan)
    first_payment = await db.loans.repay(loan, usd("103.53"), on=date(2026, 4, 10), key=None)
    assert (await equal(db, loan)).principal_outstanding == usd("502.47")
    second = await db.loans.repay(loan, usd("103.53"), on=MAY, key=None)
    await equal(db, loan)
    # Undone, the later one moves up, and all that had been paid before the loan was taken over stays where it is.
    await db.loans.reverse(first_payment.id, on=MAY, key=None)
    await equal(db, loan)
    settled = (await db[LoanInstallment].find(LoanInstallment.loan == loan.ref, order=LoanInstallment.seq))[0]
    assert (settled.principal_paid, settled.settled_on) == (usd("600"), date(2026, 3, 10))
    await db.loans.reverse(second.id, on=MAY, key=None)
    assert (await equal(db, loan)).principal_outstanding == usd("600")
    assert [i.outstanding for i in await left(db, loan)] == [i.outstanding for i in before]


async def test_it_is_paid_off_and_closed(db: Session) -> None:
    loan = await board(db, await given_of(db), key=None)
    await db.loans.pay_off(loan, on=date(2026, 4, 10), key=None)
    assert (await equal(db, loan)).status is LoanStatus.CLOSED


async def test_what_was_before_is_not_reversed(db: Session) -> None:
    loan = await board(db, await given_of(db), key=None)
    for transaction in await db[LoanTransaction].find(LoanTransaction.loan == loan.ref):
        with pytest.raises(Unsupported):
            await db.loans.reverse(transaction.id, on=TODAY, key=None)
    await equal(db, loan)


async def test_an_overpaid_loan_is_refunded(db: Session) -> None:
    given = await given_of(
        db, principal_outstanding=usd("0"), overpaid=usd("12.34"), next_due=None, installments_left=None
    )
    loan = await board(db, given, key=None)
    await db.loans.refund(loan, on=TODAY, key=None)
    assert (await equal(db, loan)).status is LoanStatus.CLOSED


async def test_new_plans(db: Session) -> None:
    loan = await board(db, await given_of(db), key=None)
    await db.loans.reschedule(loan, installments=12, annual_rate=Decimal("0.06"), on=TODAY, key=None)
    assert (await equal(db, loan)).principal_outstanding == usd("600")
    assert sum(i.outstanding.units for i in await left(db, loan)) > 600_00
    await db.loans.repay(loan, usd("50"), on=MAY, key=None)
    await equal(db, loan)
    await db.loans.reage(loan, first_due=date(2026, 7, 1), installments=3, on=date(2026, 5, 20), key=None)
    found = await equal(db, loan)
    assert found.status is LoanStatus.ACTIVE
    assert sum(i.outstanding.units for i in await left(db, loan)) == found.outstanding.units


async def test_losses(db: Session) -> None:
    loan = await board(db, await given_of(db, charged_off_on=date(2026, 3, 1), next_due=date(2025, 10, 10)), key=None)
    await db.loans.repay(loan, usd("100"), on=TODAY, key=None)
    found = await equal(db, loan)
    await db.loans.write_off(loan, on=TODAY, key=None)
    assert (await equal(db, loan)).status is LoanStatus.WRITTEN_OFF
    await db.loans.recover(loan, usd("10"), on=TODAY, key=None)
    assert found.principal_outstanding < usd("600")

    late = Overdue(since=date(2025, 10, 10), principal=usd("600"))
    given = await given_of(db, overdue=late, next_due=None, installments_left=None, written_off_on=date(2026, 3, 1))
    lost = await board(db, given, key=None)
    await db.loans.recover(lost, usd("600"), on=TODAY, key=None)
    assert (await equal(db, lost)).status is LoanStatus.WRITTEN_OFF


async def test_a_charge_off_before_boarding_is_taken_back(db: Session) -> None:
    loan = await board(db, await given_of(db, charged_off_on=date(2026, 3, 1), next_due=date(2025, 10, 10)), key=None)
    (off,) = await db[LoanTransaction].find(
        LoanTransaction.loan == loan.ref, LoanTransaction.kind == TransactionKind.CHARGE_OFF
    )
    await db.loans.reverse(off.id, on=TODAY, key=None)
    assert (await equal(db, loan)).charged_off_on is None


async def test_where_it_stands(db: Session) -> None:
    loan = await board(db, await given_of(db, next_due=date(2026, 1, 10)), key=None)
    at = await db.portfolio.standing(loan, TODAY)
    assert (at.days_past_due, at.overdue.total) == ((TODAY - date(2026, 1, 10)).days, usd("310.59"))
    assert (await db.portfolio.standing(loan, TODAY.replace(day=1))).days_past_due == 0


async def test_what_was_paid_elsewhere_stays_whatever_the_order(db: Session) -> None:
    order = tuple(sorted(DEFAULT_ORDER, key=lambda name: not name.startswith("in_advance")))
    for future in FutureAllocation:
        servicing = Servicing(allocation_order=order, future_allocation=future)
        product = await db.products.revise(await product_of(db), servicing=servicing)
        loan = await board(db, await given_of(db, product=product), key=None)
        first = await db.loans.repay(loan, usd("50"), on=date(2026, 4, 10), key=None)
        await db.loans.repay(loan, usd("60"), on=MAY, key=None)
        await db.loans.reverse(first, on=MAY, key=None)
        await equal(db, loan)
        settled = (await db[LoanInstallment].find(LoanInstallment.loan == loan.ref, order=LoanInstallment.seq))[0]
        assert (settled.principal_paid, settled.settled_on) == (usd("600"), date(2026, 3, 10))
        with pytest.raises(Invalid, match="taken over"):
            await db.loans.repay(loan, usd("5"), on=date(2026, 3, 9), key=None)
