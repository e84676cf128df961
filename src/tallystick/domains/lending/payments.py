"""Money that comes in and goes back, what is no longer asked for, and undoing it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.idempotency import idempotent
from tallystick.domains.lending.allocation import COMPONENTS, Effect, Outcome, fold
from tallystick.domains.lending.book import LoanBook, opened
from tallystick.domains.lending.books import Book, Own, book_id, own_id
from tallystick.domains.lending.entry import EFFECTS, Entry
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.losses import recovery_account
from tallystick.domains.lending.past import left
from tallystick.domains.lending.receipts import LoanReceipt, receipt, written
from tallystick.domains.lending.schedule import InstallmentKind
from tallystick.domains.lending.servicing import Component
from tallystick.domains.lending.transactions import LoanTransaction, TransactionKind
from tallystick.errors import Conflict, Invalid, Unsupported
from tallystick.fields import Ref
from tallystick.ids import uuid7
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session

K = TransactionKind
_S = LoanStatus
_MONEY_IN = {K.REPAYMENT: Book.CLEARING, K.DOWN_PAYMENT: Book.CLEARING, K.GOODWILL: Book.GOODWILL}


async def pay(
    db: Session,
    loan: UUID,
    amount: Money,
    *,
    kind: TransactionKind = K.REPAYMENT,
    on: date | None,
    key: str | None,
    external_id: str | None = None,
    reason: str | None = None,
) -> LoanReceipt:
    """Take a payment and give it to the installments by the product's order; what is too much is owed back."""
    id = uuid7()
    request = (loan, amount, on, external_id, reason)
    async with idempotent(db, f"loans.{kind.value}", key, request, makes=(id,)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await opened(db, loan)
        book.check_amount(amount)
        day = db.today() if on is None else on
        _check_day(book, day)
        made = await book.happen(
            Entry(kind, day, amount, external_id=external_id, reason=reason), contra=_MONEY_IN[kind], id=id
        )
        return await written(db, made)


async def waive(
    db: Session,
    loan: UUID,
    amount: Money,
    components: Iterable[Component],
    *,
    on: date | None,
    key: str | None,
    reason: str | None,
) -> LoanReceipt:
    """No longer ask for interest, fees or penalties, the earliest due first."""
    wanted = tuple(components)
    if not wanted or any(c.__class__ is not Component or c is Component.PRINCIPAL for c in wanted):
        raise Invalid(
            "Interest, fees and penalties can be waived.",
            field="components",
            remedy="Name them: Component.INTEREST; principal is written off or repaid as goodwill.",
        )
    async with idempotent(db, "loans.waive", key, (loan, amount, wanted, on, reason)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await opened(db, loan)
        book.check_status(_S.ACTIVE)
        book.check_amount(amount)
        day = db.today() if on is None else on
        _check_day(book, day)
        open_ = sum(left(i)[COMPONENTS.index(c)] for i in book.installments for c in set(wanted))
        if amount.units > open_:
            raise Invalid(
                "More cannot be waived than is asked for.", field="amount", remedy=f"Waive at most {book.of(open_)}."
            )
        made = await book.happen(Entry(K.WAIVER, day, amount, reason=reason), waives=wanted, contra=None)
        once.results = (made.id,)
        return await written(db, made)


async def refund(db: Session, loan: UUID, amount: Money | None, *, on: date | None, key: str | None) -> LoanReceipt:
    """Give back what was paid too much, whole or in part."""
    async with idempotent(db, "loans.refund", key, (loan, amount, on)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await opened(db, loan)
        if not book.loan.overpaid:
            raise Conflict(
                "Nothing was paid too much.", entity="Loan", remedy="Reverse a payment that should not count."
            )
        wanted = book.loan.overpaid if amount is None else amount
        book.check_amount(wanted)
        if wanted > book.loan.overpaid:
            raise Invalid(
                "More cannot be refunded than was paid too much.",
                field="amount",
                remedy=f"Refund at most {book.loan.overpaid}.",
            )
        day = db.today() if on is None else on
        _check_day(book, day)
        if (last := book.last_on()) is not None and day < last:
            raise Invalid("A refund is not dated before the last payment.", field="on", remedy="Date it after.")
        made = await book.happen(Entry(K.REFUND, day, wanted), contra=Book.CLEARING)
        once.results = (made.id,)
        return await written(db, made)


async def chargeback(
    db: Session, payment: UUID, amount: Money | None, *, on: date | None, key: str | None, reason: str | None
) -> LoanReceipt:
    """The payer's bank took a payment back, whole or in part: its amount is owed again, due with the next installment.

    What the borrower had paid too much is used for it first. (After Apache Fineract: the first installment due after
    the chargeback; else the last one on its own due date; else one that is due on the day.)
    """
    async with idempotent(db, "loans.chargeback", key, (payment, amount, on, reason)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        paid = await db[LoanTransaction].get(payment)
        book = await opened(db, paid.loan.id)
        if paid.id in book.reversed or paid.kind not in (K.REPAYMENT, K.DOWN_PAYMENT, K.GOODWILL):
            raise Conflict("Only a payment that counts is charged back.", entity="LoanTransaction")
        book.check_on_books()
        taken = sum(t.amount.units for t in book.standing if t.concerns is not None and t.concerns.id == payment)
        left_of_it = book.of(paid.amount.units - taken)
        if amount is not None:
            book.check_amount(amount)
        wanted = left_of_it if amount is None else amount
        if not wanted or wanted > left_of_it:
            raise Conflict(
                "More cannot be charged back than the payment.",
                entity="LoanTransaction",
                remedy=f"What is left of it is {left_of_it}.",
            )
        day = db.today() if on is None else on
        _check_day(book, day)
        if (last := book.last_on()) is not None and day < last:
            raise Invalid("A chargeback is not dated before the last payment.", field="on", remedy="Date it after.")
        made = await _charge_back(book, Entry(K.CHARGEBACK, day, wanted, concerns=payment, reason=reason))
        once.results = (made.id,)
        return await written(db, made)


async def _charge_back(book: LoanBook, entry: Entry) -> LoanTransaction:
    place = await place_for(book, entry.effective, after=True)
    id, seq = uuid7(), book.next_seq
    event = book.event(id, seq, entry, place=place)
    slots = await book.present(entry.effective)
    if slots is None:
        changes = await book.again(add=event)
    else:
        changes = fold(slots, [event], book.waterfall, book.loan.overpaid.units)
    net = book.money(changes, {id: entry.kind})
    receivable, clearing = own_id(book.loan.id, Own.PRINCIPAL), book_id(book.db, Book.CLEARING, book.asset)
    net[receivable] = net.get(receivable, 0) + entry.amount.units
    net[clearing] = -entry.amount.units
    return await book.write(id, seq, entry, changes, net, charged=(book.installments[place], "chargeback"))


async def place_for(book: LoanBook, on: date, *, after: bool = False) -> int:
    """The installment that something of a date is added to; one is made where all were due before.

    A charge belongs to the installment whose period holds its date; a chargeback to the first that is due ``after`` it.
    """
    regular = [(n, i) for n, i in enumerate(book.installments) if i.kind is not InstallmentKind.DOWN_PAYMENT]
    for n, i in regular:
        if i.due > on or (i.due == on and (not after or n == regular[-1][0])):
            return n
    last = book.installments[-1]
    zero = book.of(0)
    made = await book.db[LoanInstallment].add(
        LoanInstallment(
            loan=book.loan.ref,
            schedule=Ref(book.schedule),
            seq=max(i.seq for i in book.installments) + 1,
            kind=InstallmentKind.ADDITIONAL,
            start=last.due,
            due=on,
            principal=zero,
            interest=zero,
            fees=zero,
            penalties=zero,
        )
    )
    book.installments.append(made)
    return len(book.installments) - 1


async def reverse(
    db: Session, transaction: UUID, *, on: date | None, key: str | None, reason: str | None
) -> LoanReceipt:
    """Take a transaction back: the loan stands as if it had not been, and later payments move up."""
    async with idempotent(db, "loans.reverse", key, (transaction, on, reason)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        found = await db[LoanTransaction].get(transaction)
        book = await opened(db, found.loan.id, serviced=False)
        if found.id in book.reversed:
            raise Conflict("The transaction was reversed before.", entity="LoanTransaction")
        if book.loan.status is _S.WRITTEN_OFF and found.kind is not K.RECOVERY:
            book.check_status(_S.ACTIVE)
        day = db.today() if on is None else on
        book.check_date(day)
        if day < found.effective:
            raise Invalid("A reversal is not dated before what it reverses.", field="on", remedy="Date it after.")
        entry = Entry(K.REVERSAL, day, found.amount, reverses=found.id, reason=reason)
        made = await _take_back(book, found, entry)
        once.results = (made.id,)
        return await written(db, made)


async def _take_back(book: LoanBook, found: LoanTransaction, entry: Entry) -> LoanTransaction:
    db, asset = book.db, book.asset
    clearing, receivable = book_id(db, Book.CLEARING, asset), own_id(book.loan.id, Own.PRINCIPAL)
    units = found.amount.units
    changes: dict[UUID, Outcome] = {}
    if found.kind is K.CHARGE_OFF:
        book.loan = await db[Loan].update(book.loan, charged_off_on=None, fraud=False)
        # Principal that came in since was a recovery; it is a repayment again.
        lost, owed = found.principal.units, book.loan.principal_outstanding.units
        net = {
            receivable: owed,
            book_id(db, Book.RECOVERY_INCOME, asset): lost - owed,
            book_id(db, Book.CREDIT_LOSS, asset): -lost,
        }
    elif found.kind is K.RECOVERY:
        net = {await recovery_account(book): units, clearing: -units}
    elif found.kind in EFFECTS and EFFECTS[found.kind] in (Effect.PAY, Effect.WAIVE, Effect.REFUND):
        if found.kind is K.BOARDING:
            raise _never(found.kind)
        if any(t.concerns is not None and t.concerns.id == found.id for t in book.standing):
            raise Conflict("The payment was charged back.", entity="LoanTransaction")
        _refuse_across_charge_off(book, found.seq)
        changes = await book.again(without=found.id)
        net = book.money(changes)
        if found.kind is K.REFUND:
            net[clearing] = units
        elif found.kind is not K.WAIVER:
            net[book_id(db, _MONEY_IN[found.kind], asset)] = -units
    else:
        raise _never(found.kind)
    return await book.write(uuid7(), book.next_seq, entry, changes, net)


def _never(kind: TransactionKind) -> Unsupported:
    remedies = {
        K.CHARGEBACK: "Take the payment again with loans.repay().",
        K.DISBURSEMENT: "Repay the loan in full on the same day.",
        K.WRITE_OFF: "Money that comes in after it is a recovery: loans.recover().",
        K.RESTRUCTURE: "Restructure the loan again.",
        K.REVERSAL: "Record the payment again.",
    }
    return Unsupported(
        f"A {kind.value} is not reversed.", remedy=remedies.get(kind, "Correct it with a transaction of its own.")
    )


def _refuse_across_charge_off(book: LoanBook, seq: int) -> None:
    off = next((t for t in book.standing if t.kind is K.CHARGE_OFF), None)
    if off is not None and seq < off.seq:
        raise Conflict(
            "The loan was charged off since then.",
            entity="Loan",
            remedy="Reverse the charge-off first, then charge off anew.",
        )


def _check_day(book: LoanBook, on: date) -> None:
    book.check_date(on)
    if book.loan.charged_off_on is not None and on < book.loan.charged_off_on:
        raise Conflict(
            "The date is before the loan was charged off.",
            entity="Loan",
            remedy="Reverse the charge-off first, or date it on or after the charge-off.",
        )
