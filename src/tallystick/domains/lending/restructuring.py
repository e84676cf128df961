"""New schedules for old loans: rescheduled, re-amortized, re-aged. What was settled stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec.structs import replace as changed

from tallystick.domains.idempotency import Command, idempotent
from tallystick.domains.lending.allocation import Outcome
from tallystick.domains.lending.book import LoanBook, opened
from tallystick.domains.lending.calendar import Frequency, adjusted, step
from tallystick.domains.lending.checks import Exact, as_date, as_fraction, as_whole
from tallystick.domains.lending.entry import Entry
from tallystick.domains.lending.inputs import multiple_in_units
from tallystick.domains.lending.installments import LoanInstallment, ScheduleReason
from tallystick.domains.lending.level import round_to_multiple
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.past import left
from tallystick.domains.lending.periods import periods_to
from tallystick.domains.lending.plans import next_plan, unsettled
from tallystick.domains.lending.receipts import LoanReceipt, receipt, written
from tallystick.domains.lending.schedule import InstallmentKind, make_schedule
from tallystick.domains.lending.terms import Amortization, InterestMethod, Terms
from tallystick.domains.lending.transactions import TransactionKind
from tallystick.entity import with_fields
from tallystick.errors import Conflict, Invalid
from tallystick.ids import uuid7

if TYPE_CHECKING:
    from tallystick.session import Session

_REGULAR = InstallmentKind.REGULAR


@dataclass(slots=True)
class Plan:
    """The rows of a new version, each with the old row that it continues."""

    rows: list[tuple[LoanInstallment, LoanInstallment | None]]
    moved: int
    """The principal that is asked for at another time than before, in minor units."""


async def reschedule(
    db: Session,
    loan: UUID,
    *,
    since: date | None,
    first_due: date | None,
    installments: int | None,
    annual_rate: Exact | None,
    on: date | None,
    key: str | None,
    reason: str | None,
) -> LoanReceipt:
    """Plan what is not repaid from one installment on anew: other dates, another number, another rate."""
    given = (loan, since, first_due, installments, str(annual_rate), on, reason)
    async with idempotent(db, "loans.reschedule", key, given) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await _open(db, loan)
        day = _day(book, on)
        old = [i for i in book.installments if i.kind is _REGULAR]
        from_ = as_date(since, "since") if since is not None else next((i.due for i in old if any(left(i))), None)
        replaced = [i for i in old if from_ is not None and i.due >= from_ and any(left(i))]
        if from_ is None or not replaced or replaced[0].due != from_:
            raise Invalid(
                "A loan is rescheduled from the due date of an installment that is not settled.",
                field="since",
                remedy="Take one of loans.schedule(loan), or leave it out for the first.",
            )
        rate = book.loan.annual_rate if annual_rate is None else annual_rate
        count = len(replaced) if installments is None else as_whole(installments, "installments", least=1, most=3660)
        first = from_ if first_due is None else as_date(first_due, "first_due")
        plan = await _rescheduled(book, replaced, day, first, count, rate)
        return await _store(book, plan, ScheduleReason.RESCHEDULE, day, reason, once, rate=rate)


async def _rescheduled(  # noqa: PLR0917
    book: LoanBook, replaced: Sequence[LoanInstallment], on: date, first: date, count: int, rate: Exact
) -> Plan:
    terms = _plain(book.product.terms)
    start = max((i.due for i in book.installments if i.due < replaced[0].due), default=replaced[0].start)
    start = max(start, replaced[0].start)
    if first <= start:
        raise Invalid(
            "The first new installment is due after the one before it.",
            field="first_due",
            remedy=f"Give a date after {start}.",
        )
    dues = [step(first, terms.frequency, n * terms.every, terms.month_end) for n in range(count)]
    holidays = await book.db.products.calendar_of(book.product)
    dues = adjusted(dues, start, terms.business_day, holidays)
    principal = sum(left(i)[3] for i in replaced)
    if not principal:
        raise Conflict("No principal is left to be rescheduled.", entity="Loan")
    periods = periods_to(terms, start, dues)
    made = make_schedule(terms, book.of(principal), annual_rate=rate, periods=periods)
    interest = [i.interest.units for i in made.installments]
    if terms.interest_method is InterestMethod.FLAT:
        # Flat interest is on the amount lent, whatever was repaid.
        flat = make_schedule(terms, book.loan.disbursed, annual_rate=rate, periods=periods)
        interest = [i.interest.units for i in flat.installments]
    zero, loan = book.of(0), book.loan.ref
    fresh = [
        LoanInstallment(
            loan=loan, schedule=replaced[0].schedule, seq=1, start=i.start, due=i.due,
            principal=i.principal, interest=book.of(units), fees=zero, penalties=zero,
        )
        for i, units in zip(made.installments, interest, strict=True)
    ]  # fmt: skip
    for old in replaced:
        penalties, fees, _, _ = left(old)
        at = next((n for n, i in enumerate(fresh) if i.due >= old.due), len(fresh) - 1)
        due = fresh[at]
        fresh[at] = with_fields(due, fees=due.fees + book.of(fees), penalties=due.penalties + book.of(penalties))
    # Interest of a running period that was settled before is not asked for again.
    credit = sum(i.interest.units - left(i)[2] for i in replaced)
    for n, due in enumerate(fresh):
        less = min(credit, due.interest.units)
        fresh[n], credit = with_fields(due, interest=due.interest - book.of(less)), credit - less
    gone = {i.id for i in replaced}
    kept = [(unsettled(i), i) for i in book.installments if i.id not in gone]
    paid = [(_settled(book, i, on), i) for i in replaced if _any_settled(i)]
    return Plan([*kept, *paid, *((i, None) for i in fresh)], principal)


async def reamortize(db: Session, loan: UUID, *, on: date | None, key: str | None, reason: str | None) -> LoanReceipt:
    """Spread the principal that is past due, or due on the day, over the installments to come, in equal parts."""
    async with idempotent(db, "loans.reamortize", key, (loan, on, reason)) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await _open(db, loan)
        day = _day(book, on)
        past = [i for i in book.installments if i.due <= day]
        future = [i for i in book.installments if i.due > day and i.kind is _REGULAR]
        late = sum(left(i)[3] for i in past)
        if not late or not future:
            raise Conflict(
                "Nothing is past due that later installments could take.",
                entity="Loan",
                remedy="Re-age or reschedule the loan.",
            )
        terms = book.product.terms
        share = round_to_multiple(Fraction(late, len(future)), multiple_in_units(terms, book.asset), terms.rounding)
        shares = [share] * (len(future) - 1) + [late - share * (len(future) - 1)]
        if shares[-1] < 0:
            raise Conflict("The amount is too small to be spread.", entity="Loan", remedy="Reschedule the loan.")
        rows: list[tuple[LoanInstallment, LoanInstallment | None]] = []
        rows += [(unsettled(i, principal=i.principal - book.of(left(i)[3])), i) for i in past]
        rows += [(unsettled(i, principal=i.principal + book.of(s)), i) for i, s in zip(future, shares, strict=True)]
        done = {i.id for i in (*past, *future)}
        rows += [(unsettled(i), i) for i in book.installments if i.id not in done]
        return await _store(book, Plan(rows, late), ScheduleReason.REAMORTIZE, day, reason, once)


async def reage(
    db: Session,
    loan: UUID,
    *,
    first_due: date,
    installments: int,
    frequency: Frequency | None,
    every: int | None,
    on: date | None,
    key: str | None,
    reason: str | None,
) -> LoanReceipt:
    """Ask for all outstanding principal in new installments from a date on; unpaid charges and interest stay due."""
    async with idempotent(
        db, "loans.reage", key, (loan, first_due, installments, frequency, every, on, reason)
    ) as once:
        if once.replayed:
            return await receipt(db, once.results[0], replayed=True)
        book = await _open(db, loan)
        day = _day(book, on)
        if as_date(first_due, "first_due") <= day:
            raise Invalid("The first new installment is due after the day of the change.", field="first_due")
        principal = sum(left(i)[3] for i in book.installments)
        if not principal:
            raise Conflict("No principal is left to be re-aged.", entity="Loan")
        old = book.product.terms
        terms = changed(
            _plain(old),
            frequency=old.frequency if frequency is None else frequency,
            every=old.every if every is None else every,
        )
        count = as_whole(installments, "installments", least=1, most=3660)
        dues = [step(first_due, terms.frequency, n * terms.every, terms.month_end) for n in range(count)]
        made = make_schedule(
            terms, book.of(principal), annual_rate=book.loan.annual_rate, periods=periods_to(terms, day, dues)
        )
        rows: list[tuple[LoanInstallment, LoanInstallment | None]] = []
        for i in book.installments:
            unpaid = left(i)
            interest = i.interest - book.of(unpaid[2] if i.due > day else 0)
            rows.append((unsettled(i, principal=i.principal - book.of(unpaid[3]), interest=interest), i))
        zero = book.of(0)
        rows += [
            (
                LoanInstallment(
                    loan=book.loan.ref, schedule=book.installments[0].schedule, seq=1, start=i.start, due=i.due,
                    principal=i.principal, interest=i.interest, fees=zero, penalties=zero,
                ),
                None,
            )
            for i in made.installments
        ]  # fmt: skip
        return await _store(book, Plan(rows, principal), ScheduleReason.REAGE, day, reason, once)


def _plain(terms: Terms) -> Terms:
    """Terms for the rest of a loan: graces and down payments are over."""
    share = None if terms.amortization is not Amortization.EQUAL_PRINCIPAL else terms.principal_share
    return changed(
        terms, grace_principal=0, grace_interest=0, interest_free=0, down_payment=None, principal_share=share
    )


def _settled(book: LoanBook, i: LoanInstallment, on: date) -> LoanInstallment:
    """What of a replaced installment was settled, as an installment of its own."""
    penalties, fees, interest, principal = left(i)
    return unsettled(
        i,
        due=max(i.start, min(i.due, on)),
        principal=i.principal - book.of(principal),
        interest=i.interest - book.of(interest),
        fees=i.fees - book.of(fees),
        penalties=i.penalties - book.of(penalties),
    )


def _any_settled(i: LoanInstallment) -> bool:
    return i.outstanding != i.total


async def _open(db: Session, loan: UUID) -> LoanBook:
    book = await opened(db, loan)
    book.check_status(LoanStatus.ACTIVE)
    book.check_on_books()
    return book


def _day(book: LoanBook, on: date | None) -> date:
    day = book.db.today() if on is None else on
    book.check_date(day)
    if (last := book.last_on()) is not None and day < last:
        raise Invalid("A change of plan is not dated before the last payment.", field="on", remedy="Date it after.")
    return day


async def _store(  # noqa: PLR0917
    book: LoanBook,
    plan: Plan,
    why: ScheduleReason,
    on: date,
    reason: str | None,
    once: Command,
    *,
    rate: Exact | None = None,
) -> LoanReceipt:
    """Store the new version; allocations stay with the rows that go on."""
    recorded = await book.recorded()
    before = [i.id for i in book.installments]
    ordered = sorted(plan.rows, key=lambda row: (row[0].due, row[1] is None, row[0].seq))
    at = {old.id: n for n, (_, old) in enumerate(ordered) if old is not None}
    await next_plan(book, [row for row, _ in ordered], on, why)
    moved = {
        id: Outcome({at[before[place]]: amounts for place, amounts in o.parts.items() if any(amounts)}, o.overpaid)
        for id, o in recorded.items()
    }
    loan = await book.db[Loan].get(book.loan.id)
    changes: dict[str, object] = {"matures_on": max(i.due for i in book.installments)}
    if rate is not None:
        exact = as_fraction(rate, "annual_rate")
        if not 0 <= exact <= 10:
            raise Invalid("The rate is 0 to 10 a year.", field="annual_rate", remedy="Decimal('0.12') is 12 %.")
        changes["annual_rate"] = Decimal(exact.numerator) / Decimal(exact.denominator)
    book.loan = await book.db[Loan].update(loan, **changes)
    entry = Entry(TransactionKind.RESTRUCTURE, on, book.of(plan.moved), reason=reason or why.value)
    made = await book.write(uuid7(), book.next_seq, entry, {id: o for id, o in moved.items() if o}, {})
    once.results = (made.id,)
    return await written(book.db, made)
