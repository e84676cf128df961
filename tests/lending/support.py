"""Products, people and loans for the tests of lending, and what must be true of any book of loans."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from tallystick.domains.identity.users import User, UserStatus
from tallystick.domains.ledger.accounts import AccountKind
from tallystick.domains.lending.books import Own, own_id
from tallystick.domains.lending.calendar import Frequency
from tallystick.domains.lending.daycount import DayCount
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.past import left
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.servicing import Servicing
from tallystick.domains.lending.terms import Amortization, InterestCalc, InterestMethod, Terms
from tallystick.domains.lending.transactions import LoanAllocation, LoanTransaction, TransactionKind
from tallystick.money import Money, sum_of, usd
from tallystick.query import one_of
from tallystick.session import Session

DAY = date(2026, 1, 1)


def terms(**given: Any) -> Terms:
    base: dict[str, Any] = {
        "interest_method": InterestMethod.DECLINING_BALANCE,
        "amortization": Amortization.EQUAL_INSTALLMENTS,
        "interest_calc": InterestCalc.PER_PERIOD,
        "day_count": DayCount.THIRTY_360,
        "frequency": Frequency.MONTHS,
    }
    return Terms(**base | given)


async def product(db: Session, code: str = "p", *, servicing: Servicing | None = None, **given: Any) -> LoanProduct:
    return await db.products.add(
        LoanProduct(
            code=code,
            name=code,
            min_principal=usd("1"),
            max_principal=usd("1000000"),
            default_rate=given.pop("rate", Decimal(0)),
            default_installments=given.pop("installments", 3),
            terms=terms(**given),
            servicing=servicing or Servicing(),
        )
    )


async def active(
    db: Session,
    what: LoanProduct,
    principal: str = "1000",
    *,
    on: date = DAY,
    first_due: date | None = None,
    installments: int | None = None,
    rate: Decimal | None = None,
    borrower: User | None = None,
) -> Loan:
    """A loan that was asked for, approved and paid out on one day."""
    person = borrower or await db.users.add(User(status=UserStatus.ACTIVE))
    loan = await db.loans.request(
        product=what,
        borrower=person,
        principal=Money.of(principal, what.asset),
        annual_rate=rate,
        installments=installments,
        first_due=first_due,
        on=on,
        key=None,
    )
    await db.loans.approve(loan, on=on, key=None)
    return (await db.loans.disburse(loan, on=on, key=None)).loan


async def audit(db: Session) -> None:
    """Books in balance; every loan's totals are the sums of its rows, and its accounts say the same."""
    trial = await db.ledger.trial_balance()
    assert trial.balanced
    balances = {line.account: line for line in trial.lines}
    loans = await db.loans.find(one_of(Loan.status, list(LoanStatus)))
    for loan in loans:
        rows = await db.loans.schedule(loan)
        transactions = {t.id: t for t in await db.loans.transactions(loan)}
        allocations = await db[LoanAllocation].find(LoanAllocation.loan == loan.ref)
        zero = Money.zero(loan.asset)
        assert loan.outstanding == sum_of([i.outstanding for i in rows], loan.asset)
        assert loan.principal_outstanding == Money(sum(left(i)[3] for i in rows), loan.asset)
        current = {i.id for i in rows}
        schedule = rows[0].schedule if rows else None
        overpaid = sum_of([a.overpaid for a in allocations if a.schedule == schedule], loan.asset)
        assert loan.overpaid == overpaid
        assert not (loan.overpaid and loan.outstanding)
        _check_rows(rows, [a for a in allocations if a.installment is not None and a.installment.id in current])
        # An earlier version of the schedule keeps what was allocated on it, reversed since or not.
        _check_sums(transactions, [a for a in allocations if a.schedule == schedule])
        if loan.status in (LoanStatus.ACTIVE, LoanStatus.OVERPAID, LoanStatus.CLOSED):
            wanted = LoanStatus.ACTIVE if loan.outstanding else LoanStatus.OVERPAID if overpaid else LoanStatus.CLOSED
            assert loan.status is wanted
        account = balances.get(own_id(loan.id, Own.PRINCIPAL))
        books = account.net if account is not None else zero
        on_books = loan.charged_off_on is None and loan.status is not LoanStatus.WRITTEN_OFF
        assert books == (loan.principal_outstanding if on_books else zero)
        credit = balances.get(own_id(loan.id, Own.OVERPAID))
        assert (credit.net if credit is not None else zero) == loan.overpaid
        principal = sum_of([i.principal for i in rows], loan.asset)
        back = sum_of([t.amount for t in transactions.values() if t.kind is TransactionKind.CHARGEBACK], loan.asset)
        if rows:
            assert principal == loan.disbursed + back


def _check_rows(rows: list[LoanInstallment], allocations: list[LoanAllocation]) -> None:
    for i in rows:
        mine = [a for a in allocations if a.installment is not None and a.installment.id == i.id]
        for part in ("principal", "interest", "fees", "penalties"):
            for how in ("paid", "waived", "written_off"):
                kept = getattr(i, f"{part}_{how}", None)
                if kept is not None:
                    found = sum(getattr(a, part).units for a in mine if a.settlement.value == how)
                    assert kept.units == found, (i.seq, part, how)


def _check_sums(transactions: dict[Any, LoanTransaction], allocations: list[LoanAllocation]) -> None:
    gone = {t.reverses.id for t in transactions.values() if t.reverses is not None}
    sums: dict[Any, int] = {}
    for a in allocations:
        parts = (a.principal, a.interest, a.fees, a.penalties, a.overpaid)
        at = (a.transaction.id, a.schedule.id)
        sums[at] = sums.get(at, 0) + sum(m.units for m in parts)
    for (id, _), units in sums.items():
        t = transactions[id]
        sign = {"refund": -1, "chargeback": 0, "disbursement": 0}.get(t.kind.value, 1)
        assert units == (0 if id in gone else sign * t.amount.units), t.kind


async def balance(db: Session, code: str) -> Money:
    """The balance of an account by its code."""
    account = await db.ledger.accounts.by_code(code)
    assert account is not None
    assert account.kind in AccountKind
    return await db.ledger.balance(account)
