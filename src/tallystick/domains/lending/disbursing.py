"""Paying out: at once, in tranches, or over an external rail that answers later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.idempotency import idempotent
from tallystick.domains.ledger.transfers import transfer
from tallystick.domains.lending.allocation import Effect, Event, Outcome, fold, merged
from tallystick.domains.lending.book import LoanBook, opened
from tallystick.domains.lending.books import Book, Own, book_id, own_account, own_id
from tallystick.domains.lending.cashflow import CashFlow
from tallystick.domains.lending.entry import Entry
from tallystick.domains.lending.installments import LoanSchedule, ScheduleReason
from tallystick.domains.lending.loans import SERVICED, Loan, LoanStatus
from tallystick.domains.lending.origination import commit_funding
from tallystick.domains.lending.plans import fee, first_plan, next_plan, planned, rows, with_charges
from tallystick.domains.lending.receipts import LoanReceipt, receipt, written
from tallystick.domains.lending.schedule import InstallmentKind, Schedule
from tallystick.domains.lending.servicing import ChargeBasis, FeeRule
from tallystick.domains.lending.transactions import LoanTransaction, TransactionKind
from tallystick.errors import Conflict, Invalid
from tallystick.ids import uuid7
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session

_S = LoanStatus
K = TransactionKind


async def disburse(
    db: Session, loan: UUID, amount: Money | None, *, on: date | None, key: str | None, external_id: str | None
) -> LoanReceipt:
    """Pay out what was approved, or a tranche of it, make or remake the schedule, and post the journal."""
    async with idempotent(db, "loans.disburse", key, (loan, amount, on, external_id)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await opened(db, loan, serviced=False)
        book.check_status(_S.APPROVED, *SERVICED)
        made = await pay_out(book, amount, db.today() if on is None else on, external_id)
        once.results = (made.id,)
        return await written(db, made)


async def begin(db: Session, loan: UUID, amount: Money | None, *, on: date | None, key: str | None) -> Loan:
    """Reserve the first tranche while an external rail carries it; nothing is owed until it is confirmed."""
    async with idempotent(db, "loans.begin_disbursement", key, (loan, amount, on)) as once:
        if not once.replayed:
            book = await opened(db, loan, serviced=False)
            book.check_status(_S.APPROVED)
            tranche = _tranche(book, amount)
            await _open_accounts(book)
            leg = transfer(own_id(loan, Own.PRINCIPAL), book_id(db, Book.CLEARING, book.asset), tranche)
            pended = await db.ledger.pend([leg], op="loan.disbursement", key=None, on=on, source=book.loan)
            await db[Loan].update(book.loan, status=_S.DISBURSING, payout=pended.transfers[0].ref)
            once.results = (loan,)
    return await db[Loan].get(loan)


async def confirm(db: Session, loan: UUID, *, on: date | None, key: str | None, external_id: str | None) -> LoanReceipt:
    """The rail paid out: the loan is active from the date on which it did."""
    async with idempotent(db, "loans.confirm_disbursement", key, (loan, on, external_id)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book, tranche = await _in_flight(db, loan)
        made = await pay_out(book, tranche, db.today() if on is None else on, external_id)
        once.results = (made.id,)
        return await written(db, made)


async def fail(db: Session, loan: UUID, *, reason: str | None, on: date | None, key: str | None) -> Loan:
    """The rail did not pay out: the loan is approved as before, and may be paid out again."""
    async with idempotent(db, "loans.fail_disbursement", key, (loan, reason, on)) as once:
        if not once.replayed:
            await _in_flight(db, loan)
            once.results = (loan,)
    return await db[Loan].get(loan)


async def _in_flight(db: Session, loan: UUID) -> tuple[LoanBook, Money]:
    """Give the reserved amount back and answer it; of several who resolve it one wins, because it resolves once."""
    book = await opened(db, loan, serviced=False)
    book.check_status(_S.DISBURSING)
    assert book.loan.payout is not None
    voided = await db.ledger.void(book.loan.payout.id, key=None)
    book.loan = await db[Loan].update(book.loan, status=_S.APPROVED, payout=None)
    return book, voided.transfers[0].money


def _tranche(book: LoanBook, amount: Money | None) -> Money:
    free = book.loan.principal - book.loan.disbursed
    if not free:
        raise Conflict(
            "The loan is paid out whole.", entity="Loan", remedy="Repeat a request with its key to have its receipt."
        )
    tranche = free if amount is None else amount
    book.check_amount(tranche)
    if tranche > free:
        raise Invalid(
            "The tranche is more than is left of what was approved.", field="amount", remedy=f"Pay out at most {free}."
        )
    return tranche


async def _open_accounts(book: LoanBook) -> None:
    accounts = book.db.ledger.accounts
    if await accounts.get_or_none(own_id(book.loan.id, Own.PRINCIPAL)) is None:
        loan = book.loan
        await accounts.add_many(
            [own_account(loan.id, loan.number, own, book.asset) for own in (Own.PRINCIPAL, Own.OVERPAID)]
        )


async def pay_out(book: LoanBook, amount: Money | None, on: date, external_id: str | None) -> LoanTransaction:
    """Pay out a tranche of a locked loan."""
    db, loan, product = book.db, book.loan, book.product
    tranche = _tranche(book, amount)
    first = loan.disbursed_on is None
    _check_date(book, on)
    if first:
        await _open_accounts(book)
        flows = [CashFlow(on, tranche)]
    else:
        book.check_on_books()
        paid = [CashFlow(t.effective, t.amount) for t in book.standing if t.kind is K.DISBURSEMENT]
        flows = sorted([*paid, CashFlow(on, tranche)], key=lambda flow: flow.on)
    schedule = await planned(db, loan, product, flows)
    id = uuid7()
    settled: dict[UUID, Outcome] = {}
    changes: dict[UUID, Outcome] = {}
    if first:
        await first_plan(book, schedule, on, ScheduleReason.ORIGINAL)
        await commit_funding(db, loan)
    else:
        event = book.event(id, book.next_seq, Entry(K.DISBURSEMENT, on, tranche))
        settled, changes = await _remake(book, schedule, event)
    changed = db[Loan]
    book.loan = await changed.update(
        await changed.get(loan.id),
        status=_S.ACTIVE,
        disbursed_on=loan.disbursed_on or on,
        matures_on=max(i.due for i in book.installments),
    )
    kept_back = sum(fee(rule, product, tranche).units for rule in product.servicing.fees if _counts(rule, first=first))
    if kept_back >= tranche.units:
        raise Invalid("The fees take the whole tranche.", field="amount", remedy="Pay out more than the fees.")
    net = book.money(changes, {id: K.DISBURSEMENT})
    receivable, clearing = own_id(loan.id, Own.PRINCIPAL), book_id(db, Book.CLEARING, book.asset)
    income = book_id(db, Book.FEE_INCOME, book.asset)
    for account, units in ((receivable, tranche.units), (clearing, kept_back - tranche.units), (income, -kept_back)):
        net[account] = net.get(account, 0) + units
    parts = Outcome({0: [0, 0, 0, tranche.units]})
    entry = Entry(K.DISBURSEMENT, on, tranche, external_id=external_id)
    made = await book.write(id, book.next_seq, entry, settled, net, parts=parts)
    if product.servicing.auto_down_payment:
        used = -settled[id].overpaid if id in settled else 0
        await _pay_down(await opened(db, loan.id), schedule, on, used)
    return made


async def _pay_down(book: LoanBook, schedule: Schedule, on: date, used: int) -> None:
    """Take the down payment of the tranche that was paid out last, less what had been paid too much before."""
    down = [i.principal.units for i in schedule.installments if i.due == on and i.kind is InstallmentKind.DOWN_PAYMENT]
    amount = min(down[-1] - used, book.loan.outstanding.units) if down else 0
    if amount > 0:
        await book.happen(Entry(K.DOWN_PAYMENT, on, book.of(amount)), contra=Book.CLEARING)


async def _remake(
    book: LoanBook, schedule: Schedule, tranche: Event
) -> tuple[dict[UUID, Outcome], dict[UUID, Outcome]]:
    """Store the schedule of all tranches; answers where everything is on it, and by how much sums have changed.

    What was settled stays with its installments. Where they ask for less than before, as level installments may, or
    something happened after the tranche's date, all history is on the new schedule instead.
    """
    edition = await book.db[LoanSchedule].get(book.schedule)
    if edition.reason not in (ScheduleReason.ORIGINAL, ScheduleReason.TRANCHE):
        raise Conflict(
            "A loan that was restructured takes no further tranche.",
            entity="Loan",
            remedy="Grant another loan, or disburse before restructuring.",
        )
    recorded = await book.recorded()
    _, events = await book.history()
    old = [(i.due, i.kind) for i in book.installments]
    fresh = with_charges(book, rows(book.loan, edition.id, schedule, book.product))
    last = book.last_on()
    await next_plan(book, fresh, tranche.effective, ScheduleReason.TRANCHE)
    moved = _moved(book, old, recorded) if last is None or tranche.effective >= last else None
    slots = book.slots()
    if moved is None:
        after = fold(
            slots, [*(replace(e, place=None) for e in events if e.effect is not Effect.CHARGE), tranche], book.waterfall
        )
    else:
        for place, amounts in ((p, a) for o in moved.values() for p, a in o.parts.items()):
            slots[place].left = [a - b for a, b in zip(slots[place].left, amounts, strict=True)]
        after = moved | fold(slots, [tranche], book.waterfall, book.loan.overpaid.units)
    changes = {id: merged([o]).minus(merged([recorded.get(id, Outcome())])) for id, o in after.items()}
    return {id: o for id, o in after.items() if o}, changes


def _moved(
    book: LoanBook, old: Sequence[tuple[date, InstallmentKind]], recorded: dict[UUID, Outcome]
) -> dict[UUID, Outcome] | None:
    """Recorded allocations on the installments of the new version; None where one has no room for them."""
    new = [(i.due, i.kind) for i in book.installments]
    at: dict[int, int] = {}
    for place, key in enumerate(old):
        at[place] = next((n for n, k in enumerate(new) if k == key and n not in at.values()), -1)
    free = [slot.left[:] for slot in book.slots()]
    moved: dict[UUID, Outcome] = {}
    for id, outcome in recorded.items():
        parts = {at[place]: amounts for place, amounts in outcome.parts.items() if any(amounts)}
        if -1 in parts:
            return None
        for place, amounts in parts.items():
            free[place] = [a - b for a, b in zip(free[place], amounts, strict=True)]
        moved[id] = Outcome(parts, outcome.overpaid)
    return moved if all(units >= 0 for amounts in free for units in amounts) else None


def _counts(rule: FeeRule, *, first: bool) -> bool:
    return rule.upfront and (first or rule.basis is not ChargeBasis.FLAT)


def _check_date(book: LoanBook, on: date) -> None:
    loan = book.loan
    since = loan.disbursed_on or loan.approved_on or loan.requested_on
    if on.__class__ is not date or on < since:
        raise Invalid(
            "The loan cannot be paid out before that date.",
            field="on",
            remedy="Give a date on or after its approval and its first tranche.",
        )
    if loan.matures_on is not None and on >= loan.matures_on:
        raise Invalid("The loan has matured.", field="on", remedy="Pay out before its last due date.")
