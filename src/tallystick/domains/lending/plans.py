"""Plans: a schedule computed for a loan, and its installments as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.domains.lending.cashflow import CashFlow
from tallystick.domains.lending.installments import LoanInstallment, LoanSchedule, ScheduleReason
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.periods import make_periods
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.schedule import InstallmentKind, Schedule, make_schedule
from tallystick.domains.lending.servicing import ChargeBasis, FeeRule
from tallystick.domains.lending.transactions import TransactionKind
from tallystick.entity import with_fields
from tallystick.errors import Conflict
from tallystick.fields import Ref
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.domains.lending.book import LoanBook
    from tallystick.session import Session


async def planned(db: Session, loan: Loan, product: LoanProduct, tranches: Sequence[CashFlow]) -> Schedule:
    """The schedule of a loan by its product, for what is or will be paid out."""
    periods = make_periods(
        product.terms,
        start=tranches[0].on,
        count=loan.installments,
        first_due=loan.first_due,
        holidays=await db.products.calendar_of(product),
    )
    return make_schedule(product.terms, tranches, annual_rate=loan.annual_rate, periods=periods)


def fee(rule: FeeRule, product: LoanProduct, principal: Money) -> Money:
    """What a fee rule comes to: flat, or a part of the principal, by the product's rounding."""
    if rule.basis is ChargeBasis.FLAT:
        assert rule.amount is not None
        return Money.of(rule.amount, product.asset)
    assert rule.percent is not None
    return principal.times(rule.percent, rounding=product.servicing.charge_rounding)


def rows(loan: Loan, plan: UUID, schedule: Schedule, product: LoanProduct) -> list[LoanInstallment]:
    """The installments of a computed schedule, with the fees that the product adds to each."""
    principal = schedule.principal
    fees = sum(fee(r, product, principal).units for r in product.servicing.fees if not r.upfront)
    zero = Money.zero(loan.asset)
    return [
        LoanInstallment(
            loan=loan.ref,
            schedule=Ref(plan),
            seq=item.seq,
            kind=item.kind,
            start=item.start,
            due=item.due,
            principal=item.principal,
            interest=item.interest,
            fees=Money(fees, loan.asset) if item.total or fees else zero,
            penalties=zero,
        )
        for item in schedule.installments
    ]


def unsettled(old: LoanInstallment, **changes: Any) -> LoanInstallment:
    """An installment for the next version of the schedule: an old one's dues, with changes, and nothing settled."""
    names = ("loan", "schedule", "seq", "kind", "start", "due", "principal", "interest", "fees", "penalties")
    return LoanInstallment(**{name: getattr(old, name) for name in names} | changes)


def with_charges(book: LoanBook, fresh: Sequence[LoanInstallment]) -> list[LoanInstallment]:
    """New installments with what was charged on the old ones beyond the product's own fees, by due date.

    Raises ``Conflict`` for a loan with a chargeback, whose amount belongs to no schedule that could be remade.
    """
    if any(t.kind is TransactionKind.CHARGEBACK for t in book.standing):
        raise Conflict(
            "A loan with a chargeback takes no further tranche.", entity="Loan", remedy="Grant another loan."
        )
    own = sum(fee(r, book.product, book.loan.disbursed).units for r in book.product.servicing.fees if not r.upfront)
    made = list(fresh)
    for old in book.installments:
        extra = old.kind is InstallmentKind.ADDITIONAL
        fees, penalties = old.fees.units - (0 if extra or not old.fees else own), old.penalties.units
        if not fees and not penalties:
            continue
        at = next((n for n, i in enumerate(made) if i.due == old.due and i.kind is old.kind), None)
        if at is None:
            zero = book.of(0)
            kind = InstallmentKind.ADDITIONAL
            made.append(unsettled(old, principal=zero, interest=zero, kind=kind))
        else:
            new = made[at]
            made[at] = with_fields(new, fees=new.fees + book.of(fees), penalties=new.penalties + book.of(penalties))
    return sorted(made, key=lambda i: (i.due, i.seq))


async def first_plan(book: LoanBook, schedule: Schedule, since: date, reason: ScheduleReason) -> None:
    """Store the first version of a loan's schedule."""
    db, loan = book.db, book.loan
    plan = await db[LoanSchedule].add(LoanSchedule(loan=loan.ref, edition=1, reason=reason, since=since))
    book.installments = await db[LoanInstallment].add_many(rows(loan, plan.id, schedule, book.product))


async def next_plan(
    book: LoanBook, installments: Sequence[LoanInstallment], since: date, reason: ScheduleReason
) -> None:
    """Store the next version of a schedule; what was settled has to be allocated to it anew.

    ``installments`` are in order and need no schedule of their own yet.
    """
    db, before = book.db, await book.db[LoanSchedule].get(book.schedule)
    await db[LoanSchedule].update(before, current=False)
    plan = await db[LoanSchedule].add(
        LoanSchedule(loan=book.loan.ref, edition=before.edition + 1, reason=reason, since=since)
    )
    fresh = [with_fields(i, schedule=Ref(plan.id), seq=n) for n, i in enumerate(installments, 1)]
    book.installments = await db[LoanInstallment].add_many(fresh)
    # After the new ones are there: a loan without current installments would count as closed.
    await db[LoanInstallment].update_where(LoanInstallment.schedule == before.ref, current=False)
