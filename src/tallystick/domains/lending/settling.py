"""Settling early: what ends a loan on a day, when interest stops on that day."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec import Struct

from tallystick.domains.idempotency import idempotent
from tallystick.domains.lending.book import LoanBook, opened
from tallystick.domains.lending.books import Book
from tallystick.domains.lending.entry import Entry
from tallystick.domains.lending.loans import LoanStatus
from tallystick.domains.lending.past import left
from tallystick.domains.lending.receipts import LoanReceipt, receipt, written
from tallystick.domains.lending.servicing import Component
from tallystick.domains.lending.transactions import TransactionKind
from tallystick.money import Money, round_ratio

if TYPE_CHECKING:
    from tallystick.session import Session


class Payoff(Struct, frozen=True, kw_only=True):
    """What settles a loan on a day: principal, interest earned by then, fees and penalties.

    ``unearned`` is the interest that the schedule would still have asked for.
    """

    on: date
    principal: Money
    interest: Money
    fees: Money
    penalties: Money
    unearned: Money

    @property
    def total(self) -> Money:
        """The amount to be paid."""
        return self.principal + self.interest + self.fees + self.penalties


async def payoff(db: Session, loan: UUID, *, on: date | None) -> Payoff:
    """What would settle a loan on a day."""
    async with db.transaction():
        book = await opened(db, loan)
        return _payoff(book, db.today() if on is None else on)


async def pay_off(db: Session, loan: UUID, *, on: date | None, key: str | None) -> LoanReceipt:
    """Waive what is not earned and take the rest, where anything is left."""
    async with idempotent(db, "loans.pay_off", key, (loan, on)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await opened(db, loan)
        book.check_status(LoanStatus.ACTIVE)
        quote = _payoff(book, db.today() if on is None else on)
        made = None
        if quote.unearned:
            waiver = Entry(TransactionKind.WAIVER, quote.on, quote.unearned, reason="settled early")
            made = await book.happen(waiver, waives=(Component.INTEREST,), contra=None)
            book = await opened(db, loan)
        if made is None or quote.total:
            made = await book.happen(Entry(TransactionKind.REPAYMENT, quote.on, quote.total), contra=Book.CLEARING)
        once.results = (made.id,)
        return await written(db, made)


def _payoff(book: LoanBook, on: date) -> Payoff:
    """Interest of a running period is earned day by day, in proportion to its days."""
    book.check_date(on)
    sums, unearned = [0, 0, 0, 0], 0
    for i in book.installments:
        owed = left(i)
        days = (i.due - i.start).days
        if i.due > on and days:
            passed = max(0, (on - i.start).days)
            earned = round_ratio(i.interest.units * passed, days, book.product.terms.rounding)
            early = min(owed[2], i.interest.units - earned)
            owed[2] -= early
            unearned += early
        sums = [a + b for a, b in zip(sums, owed, strict=True)]
    penalties, fees, interest, principal = (book.of(units) for units in sums)
    return Payoff(
        on=on, principal=principal, interest=interest, fees=fees, penalties=penalties, unearned=book.of(unearned)
    )
