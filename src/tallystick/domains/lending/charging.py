"""Fees and penalties that are added to a loan after it was paid out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.idempotency import idempotent
from tallystick.domains.lending.book import LoanBook, opened
from tallystick.domains.lending.books import post
from tallystick.domains.lending.past import left
from tallystick.domains.lending.payments import place_for
from tallystick.domains.lending.servicing import ChargeBasis, ChargeKind, LateFee
from tallystick.domains.lending.transactions import LoanCharge
from tallystick.errors import Invalid
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.domains.lending.installments import LoanInstallment
    from tallystick.session import Session

LATE = "late"


async def charge(
    db: Session,
    loan: UUID,
    kind: ChargeKind,
    amount: Money,
    *,
    code: str,
    due: date | None,
    on: date | None,
    key: str | None,
) -> LoanCharge:
    """Add a fee or penalty to the installment whose period holds its due date."""
    if kind not in (ChargeKind.FEE, ChargeKind.PENALTY):
        raise Invalid(
            "A charge is a fee or a penalty.", field="kind", remedy="A chargeback has a command: loans.chargeback()."
        )
    if code == LATE:
        raise Invalid("The code is kept for late fees.", field="code", remedy="Use loans.charge_late_fees().")
    async with idempotent(db, "loans.charge", key, (loan, kind, amount, code, due, on)) as once:
        if once.replayed:
            return await db[LoanCharge].get(once.results[0])
        book = await _open(db, loan)
        book.check_amount(amount)
        day = db.today() if on is None else on
        book.check_date(day)
        due = day if due is None else due
        book.check_date(due)
        at = book.installments[await place_for(book, due)]
        made = LoanCharge(
            loan=book.loan.ref,
            installment=at.ref,
            kind=kind,
            code=code,
            due=due,
            effective=min(day, due),
            after=book.next_seq - 1,
            amount=amount,
        )
        await _ask(book, [made], day)
        once.results = (made.id,)
    return await db[LoanCharge].get(made.id)


async def _ask(book: LoanBook, charges: Sequence[LoanCharge], on: date) -> None:
    """Store charges. What was paid too much covers them, and payments made after their dates count again."""
    if not charges:
        return
    await book.db[LoanCharge].add_many(charges)
    since, last = min(c.effective for c in charges), book.last_on()
    if not book.loan.overpaid and (last is None or since >= last):
        return
    book = await opened(book.db, book.loan.id)
    changes = await book.again()
    await post(book.db, book.money(changes), book.asset, op="loan.charge", on=on, loan=book.loan.id)
    await book.allocate(None, changes)


async def charge_late_fees(db: Session, loan: UUID, *, on: date | None, key: str | None) -> list[LoanCharge]:
    """Charge the product's late fee for every installment that has been unpaid for long enough, once for each."""
    async with idempotent(db, "loans.charge_late_fees", key, (loan, on)) as once:
        if once.replayed:
            return [await db[LoanCharge].get(id) for id in once.results]
        book = await _open(db, loan)
        rule = book.product.servicing.late_fee
        if rule is None:
            raise Invalid("The product has no late fee.", field="loan", remedy="Give its next edition a LateFee.")
        day = db.today() if on is None else on
        book.check_date(day)
        charged = {c.due for c in await db[LoanCharge].find(LoanCharge.loan == book.loan.ref, LoanCharge.code == LATE)}
        made = []
        for i in book.installments:
            due = i.due + timedelta(days=rule.after_days)
            owed = left(i)[2] + left(i)[3]
            if owed and due <= day and due not in charged:
                amount = late_fee(book, rule, i)
                made.append(
                    LoanCharge(
                        loan=book.loan.ref,
                        installment=i.ref,
                        kind=ChargeKind.PENALTY,
                        code=LATE,
                        due=due,
                        effective=due,
                        after=book.next_seq - 1,
                        amount=amount,
                    )
                )
        made = [c for c in made if c.amount]
        await _ask(book, made, day)
        once.results = tuple(c.id for c in made)
    return [await db[LoanCharge].get(c.id) for c in made]


def late_fee(book: LoanBook, rule: LateFee, i: LoanInstallment) -> Money:
    """What a late fee comes to for an installment."""
    if rule.basis is ChargeBasis.FLAT:
        assert rule.amount is not None
        return Money.of(rule.amount, book.asset)
    assert rule.percent is not None
    overdue = rule.basis is ChargeBasis.PERCENT_OF_OVERDUE
    basis = book.of(left(i)[2] + left(i)[3]) if overdue else book.loan.disbursed
    return basis.times(rule.percent, rounding=book.product.servicing.charge_rounding)


async def _open(db: Session, loan: UUID) -> LoanBook:
    book = await opened(db, loan)
    book.check_on_books()
    return book
