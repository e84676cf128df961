"""What a tenant's books must say, reckoned from its loans: every account that loans share, and every loan's own."""

from __future__ import annotations

from collections import Counter

from tests.ledger.support import audit as audit_ledger
from tests.lending.support import audit as audit_loans

from tallystick.domains.lending.books import Book, book_id
from tallystick.domains.lending.fundings import FundingStatus, LenderPayout, LoanFunding
from tallystick.domains.lending.installments import LoanSchedule
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.transactions import LoanAllocation, LoanTransaction, TransactionKind
from tallystick.session import Session

K = TransactionKind
CLEARING = {
    K.REPAYMENT: 1,
    K.DOWN_PAYMENT: 1,
    K.RECOVERY: 1,
    K.DISBURSEMENT: -1,
    K.REFUND: -1,
    K.CHARGEBACK: -1,
}


async def agree(db: Session, asset: str = "USD", *, upfront: int = 0) -> None:
    """The books balance, loans equal their accounts, and the shared accounts are the sums of what happened.

    ``upfront`` are the fees that were kept back, in minor units. Not for loans that were taken over.
    """
    await audit_ledger(db)
    await audit_loans(db)
    expected = await _expected(db)
    expected[Book.FEE_INCOME] += upfront
    expected[Book.CLEARING] += upfront
    balances = {line.account: line.net.units for line in (await db.ledger.trial_balance()).lines}
    for book in Book:
        assert balances.get(book_id(db, book, asset), 0) == expected[book], book


async def _expected(db: Session) -> Counter[Book]:
    found: Counter[Book] = Counter()
    loans = {one.id: one for one in await db[Loan].find()}
    transactions = {t.id: t for t in await db[LoanTransaction].find()}
    gone = {t.reverses.id for t in transactions.values() if t.reverses is not None}
    standing = {id: t for id, t in transactions.items() if id not in gone}
    lost_from = {t.loan.id: t.seq for t in standing.values() if t.kind is K.CHARGE_OFF}
    for t in standing.values():
        found[Book.CLEARING] += CLEARING.get(t.kind, 0) * t.amount.units
        if t.kind is K.GOODWILL:
            found[Book.GOODWILL] += t.amount.units
        elif t.kind is K.RECOVERY:
            found[Book.RECOVERY_INCOME] += t.amount.units
        elif t.kind is K.CHARGE_OFF or (t.kind is K.WRITE_OFF and loans[t.loan.id].charged_off_on is None):
            found[Book.CREDIT_LOSS] += t.principal.units
    for funding in await db[LoanFunding].find():
        if funding.status is not FundingStatus.RELEASED:
            found[Book.CLEARING] += funding.amount.units
    for payout in await db[LenderPayout].find():
        found[Book.CLEARING] -= payout.principal.units + payout.interest.units
        found[Book.LENDER_INTEREST] += payout.interest.units
    current = {s.id for s in await db[LoanSchedule].find(LoanSchedule.current == True)}  # noqa: E712  a condition
    rows = [a for a in await db[LoanAllocation].find() if a.schedule.id in current and a.settlement == "paid"]
    for a in rows:
        found[Book.INTEREST_INCOME] += a.interest.units
        found[Book.FEE_INCOME] += a.fees.units
        found[Book.PENALTY_INCOME] += a.penalties.units
        if transactions[a.transaction.id].seq > lost_from.get(a.loan.id, 10**9):
            found[Book.RECOVERY_INCOME] += a.principal.units
    return found
