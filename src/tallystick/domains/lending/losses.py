"""Losses: charge-off, which only the books know of, write-off, which ends the claim, and what is recovered after it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.idempotency import idempotent
from tallystick.domains.lending.allocation import Outcome
from tallystick.domains.lending.book import LoanBook, opened
from tallystick.domains.lending.books import Book, Own, book_id, own_id
from tallystick.domains.lending.entry import Entry
from tallystick.domains.lending.lenders import lenders_loss
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.past import left
from tallystick.domains.lending.receipts import LoanReceipt, receipt, written
from tallystick.domains.lending.transactions import TransactionKind
from tallystick.errors import Conflict, Invalid
from tallystick.ids import uuid7
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session

K = TransactionKind
_S = LoanStatus


async def charge_off(
    db: Session, loan: UUID, *, on: date | None, key: str | None, fraud: bool, reason: str | None
) -> LoanReceipt:
    """Take a loan's principal out of the books as a loss; the borrower still owes it and the loan stays active."""
    async with idempotent(db, "loans.charge_off", key, (loan, on, fraud, reason)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await opened(db, loan)
        book.check_status(_S.ACTIVE)
        if book.loan.charged_off_on is not None:
            raise Conflict("The loan is charged off.", entity="Loan", remedy="It is charged off once.")
        day = _day(book, on)
        principal = book.loan.principal_outstanding.units
        book.loan = await db[Loan].update(book.loan, charged_off_on=day, fraud=fraud)
        entry = Entry(K.CHARGE_OFF, day, book.loan.outstanding, reason=reason)
        net = {
            book_id(db, Book.CREDIT_LOSS, book.asset): principal,
            own_id(loan, Own.PRINCIPAL): -principal,
        }
        made = await book.write(uuid7(), book.next_seq, entry, {}, net, parts=_owed(book))
        once.results = (made.id,)
        return await written(db, made)


async def write_off(db: Session, loan: UUID, *, on: date | None, key: str | None, reason: str | None) -> LoanReceipt:
    """Ask the borrower for nothing more: the amount is what is outstanding in that instant, under the loan's lock."""
    async with idempotent(db, "loans.write_off", key, (loan, on, reason)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await opened(db, loan)
        book.check_status(_S.ACTIVE)
        day = _day(book, on)
        principal = book.loan.principal_outstanding.units
        amount = book.loan.outstanding
        book.loan = await db[Loan].update(book.loan, status=_S.WRITTEN_OFF, written_off_on=day, status_reason=reason)
        net = {}
        if book.loan.charged_off_on is None:
            net = {
                book_id(db, Book.CREDIT_LOSS, book.asset): principal,
                own_id(loan, Own.PRINCIPAL): -principal,
            }
        if borne := await lenders_loss(book):
            loss = book_id(db, Book.CREDIT_LOSS, book.asset)
            net[loss] = net.get(loss, 0) - borne
            net[own_id(loan, Own.LENDERS)] = borne
        id = uuid7()
        lost = Outcome({n: left(i) for n, i in enumerate(book.installments) if any(left(i))})
        made = await book.write(id, book.next_seq, Entry(K.WRITE_OFF, day, amount, reason=reason), {id: lost}, net)
        once.results = (made.id,)
        return await written(db, made)


async def recovery_account(book: LoanBook) -> UUID:
    """Where recovered money goes: to those who funded the loan, else to income."""
    own = own_id(book.loan.id, Own.LENDERS)
    funded = book.loan.funded and await book.db.ledger.accounts.get_or_none(own) is not None
    return own if funded else book_id(book.db, Book.RECOVERY_INCOME, book.asset)


async def recover(
    db: Session, loan: UUID, amount: Money, *, on: date | None, key: str | None, external_id: str | None
) -> LoanReceipt:
    """Take money that came in after a write-off, at most what was written off."""
    async with idempotent(db, "loans.recover", key, (loan, amount, on, external_id)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await opened(db, loan, serviced=False)
        if book.loan.status is not _S.WRITTEN_OFF:
            raise Conflict(
                f"The loan is {book.loan.status.value}.", entity="Loan", remedy="Take the money with loans.repay()."
            )
        book.check_amount(amount)
        day = db.today() if on is None else on
        if day.__class__ is not date or book.loan.written_off_on is None or day < book.loan.written_off_on:
            raise Invalid("A recovery is dated on or after the write-off.", field="on")
        lost = sum(t.amount.units for t in book.standing if t.kind is K.WRITE_OFF)
        lost -= sum(t.amount.units for t in book.standing if t.kind is K.RECOVERY)
        if amount.units > lost:
            raise Invalid(
                "More cannot be recovered than was written off.",
                field="amount",
                remedy=f"What is left of it is {book.of(lost)}.",
            )
        net = {
            book_id(db, Book.CLEARING, book.asset): amount.units,
            await recovery_account(book): -amount.units,
        }
        entry = Entry(K.RECOVERY, day, amount, external_id=external_id)
        made = await book.write(uuid7(), book.next_seq, entry, {}, net)
        once.results = (made.id,)
        return await written(db, made)


def _day(book: LoanBook, on: date | None) -> date:
    day = book.db.today() if on is None else on
    book.check_date(day)
    last = max(t.effective for t in book.standing)
    if day < last:
        raise Invalid(
            "A loss is not dated before the loan's last transaction.", field="on", remedy=f"Date it on or after {last}."
        )
    return day


def _owed(book: LoanBook) -> Outcome:
    found = Outcome()
    for i in book.installments:
        for component, units in enumerate(left(i)):
            found.add(0, component, units)
    return found
