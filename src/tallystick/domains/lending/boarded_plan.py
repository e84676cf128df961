"""What is left of a boarded loan, installment by installment: as it was given, or planned by the product's terms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from tallystick.domains.lending.calendar import MAX_INSTALLMENTS, HolidayCalendar, step
from tallystick.domains.lending.checks import as_date, as_fraction, as_whole
from tallystick.domains.lending.inputs import Inputs
from tallystick.domains.lending.periods import Period, make_periods
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.schedule import make_schedule
from tallystick.domains.lending.terms import Amortization, InterestCalc, InterestMethod, Terms
from tallystick.errors import Invalid, Unsupported
from tallystick.money import Money, round_ratio

if TYPE_CHECKING:
    from tallystick.domains.lending.boarding import Boarding, Overdue, Planned

Amounts = tuple[int, int, int, int]
"""Principal, interest, fees and penalties in minor units."""


_GRACES = ("grace_principal", "grace_interest", "interest_free")


class Row(NamedTuple):
    """One installment that is not settled."""

    start: date
    due: date
    amounts: Amounts


def plan_of(
    one: Boarding, product: LoanProduct, holidays: HolidayCalendar, outstanding: int, principal: int
) -> tuple[Row, ...]:
    """Everything that is still owed, by due date. Raises ``Invalid`` and ``Unsupported``."""
    if one.plan:
        return _as_given(one, product, outstanding)
    late = _overdue(one, product)
    rest = outstanding - sum(row.amounts[0] for row in late)
    if rest < 0:
        raise Invalid("More principal is overdue than is owed.", field="overdue", entity="Loan")
    planned = {"next_due", "installments_left"}
    missing = [name for name in sorted(planned) if getattr(one, name) is None]
    if not rest:
        if len(missing) < len(planned):
            raise Invalid("Nothing is left to plan.", field="next_due", remedy="Leave next_due out.")
        return late
    if missing:
        raise Invalid(
            f"The {missing[0]} of what is left to pay is missing.",
            field=missing[0],
            remedy="Give next_due and installments_left, or the plan.",
        )
    assert one.next_due is not None
    if late and one.next_due <= late[0].due:
        raise Invalid("The next installment is due before what is overdue.", field="next_due", entity="Loan")
    return (*late, *_planned(one, product, holidays, rest, principal))


def _as_given(one: Boarding, product: LoanProduct, outstanding: int) -> tuple[Row, ...]:
    for field in ("next_due", "installments_left", "interest_from", "installment", "overdue"):
        if getattr(one, field) is not None:
            raise Invalid(
                f"A plan that is given leaves no room for {field}.", field=field, remedy="Put it into the plan."
            )
    if len(one.plan) > MAX_INSTALLMENTS:
        raise Invalid("The plan is too long.", field="plan", remedy=f"Give at most {MAX_INSTALLMENTS} installments.")
    rows: list[Row] = []
    before: date | None = None
    for item in one.plan:
        due = as_date(item.due, "plan")
        if due <= one.disbursed_on or (before is not None and due <= before):
            raise Invalid(
                "The due dates of a plan rise from the day the loan was paid out.",
                field="plan",
                remedy="Give one entry for each date, the earliest first.",
            )
        begins = item.start or before or _interval_before(product.terms, due)
        start = max(as_date(begins, "plan"), one.disbursed_on)
        if start > due:
            raise Invalid("An installment starts after it is due.", field="plan", entity="Loan")
        amounts = _amounts(product.asset, item, "plan")
        if any(amounts):
            rows.append(Row(start, due, amounts))
        before = due
    if sum(row.amounts[0] for row in rows) != outstanding:
        raise Invalid("The plan does not repay the principal that is owed.", field="plan", entity="Loan")
    return tuple(rows)


def _overdue(one: Boarding, product: LoanProduct) -> tuple[Row, ...]:
    late = one.overdue
    if late is None:
        return ()
    amounts = _amounts(product.asset, late, "overdue")
    if not any(amounts):
        raise Invalid("Nothing is overdue.", field="overdue", remedy="Leave it out where nothing is.")
    if late.since <= one.disbursed_on:
        raise Invalid("An installment is due before the loan was paid out.", field="overdue", entity="Loan")
    start = max(_interval_before(product.terms, late.since), one.disbursed_on)
    return (Row(start, late.since, amounts),)


def _planned(
    one: Boarding, product: LoanProduct, holidays: HolidayCalendar, rest: int, principal: int
) -> Sequence[Row]:
    assert one.next_due is not None
    assert one.installments_left is not None
    left = as_whole(one.installments_left, "installments_left", least=1, most=one.installments)
    terms = _terms_left(product.terms, one.installments - left)
    before = _interval_before(terms, one.next_due)
    bullet = terms.amortization is Amortization.BULLET
    start = one.interest_from or (one.disbursed_on if bullet else max(before, one.disbursed_on))
    if not one.disbursed_on <= as_date(start, "interest_from") < one.next_due:
        raise Invalid(
            "Interest runs from a day between the payout and the next due date.",
            field="interest_from",
            remedy="Leave it out where one interval ends with next_due.",
        )
    periods = make_periods(terms, start=start, count=left, first_due=one.next_due, holidays=holidays)
    if start == before:
        # Counted back from a month's last day, the interval may not lead to it again.
        periods = (replace(periods[0], whole=True), *periods[1:])
    if one.installment is not None:
        return _level(one, terms, periods, Money(rest, product.asset))
    money = Money(rest, product.asset)
    if terms.interest_method is InterestMethod.FLAT and not bullet:
        return _flat(one, product, money, principal, periods)
    made = make_schedule(terms, money, annual_rate=one.annual_rate, periods=periods)
    return [Row(i.start, i.due, (i.principal.units, i.interest.units, 0, 0)) for i in made.installments]


def _terms_left(terms: Terms, done: int) -> Terms:
    """The terms for what is left: the down payment was paid, and graces are over or partly so."""
    if terms.principal_share is not None or 0 < done < terms.grace_interest:
        raise Unsupported(
            "A share of principal or a grace of interest does not tell what is left.",
            remedy="Give the installments that are not settled as plan.",
        )
    graces = {
        name: max(0, getattr(terms, name) - done) for name in ("grace_principal", "grace_interest", "interest_free")
    }
    return replace(terms, down_payment=None, **graces)


def _level(one: Boarding, terms: Terms, periods: Sequence[Period], rest: Money) -> list[Row]:
    """Equal payments of a given amount until nothing is left; the last date takes whatever is."""
    if terms.amortization is not Amortization.EQUAL_INSTALLMENTS or terms.interest_method is InterestMethod.FLAT:
        raise Unsupported(
            "Only equal installments on a declining balance have one level payment.",
            remedy="Leave installment out, or give the plan.",
        )
    level = units_of(one.installment, rest.asset, "installment")
    rate = as_fraction(one.annual_rate, "annual_rate")
    rows: list[Row] = []
    balance = rest.units
    for period, factor in zip(periods, _factors(terms, rate, periods), strict=True):
        interest = round_ratio(balance * factor.numerator, factor.denominator, terms.rounding)
        part = balance if period is periods[-1] else min(level - interest, balance)
        if part <= 0:
            raise Invalid(
                "The installment does not even pay the interest.",
                field="installment",
                remedy="Leave it out to have it computed, or give the plan.",
            )
        rows.append(Row(period.start, period.due, (part, interest, 0, 0)))
        balance -= part
        if not balance:
            break
    return rows


def _factors(terms: Terms, rate: Fraction, periods: Sequence[Period]) -> list[Fraction]:
    """The interest on one unit for each period; whole periods that count by interval are all alike."""
    if terms.interest_calc is InterestCalc.PER_PERIOD and not terms.interest_free and all(p.whole for p in periods):
        return [rate * terms.interval_fraction()] * len(periods)
    return Inputs(terms, tuple(periods), rate, 1, ()).factors


def _flat(one: Boarding, product: LoanProduct, rest: Money, principal: int, periods: Sequence[Period]) -> list[Row]:
    """Interest as the whole loan's plan has it for its last installments; the rest of the principal in its parts."""
    whole = make_periods(product.terms, start=one.disbursed_on, count=one.installments)
    original = replace(product.terms, down_payment=None)
    interest = make_schedule(original, Money(principal, rest.asset), annual_rate=one.annual_rate, periods=whole)
    parts = make_schedule(
        _terms_left(product.terms, one.installments - len(periods)), rest, annual_rate=0, periods=periods
    )
    return [
        Row(i.start, i.due, (i.principal.units, o.interest.units, 0, 0))
        for i, o in zip(parts.installments, interest.installments[-len(periods) :], strict=True)
    ]


def units_of(amount: Money | None, asset: str, field: str) -> int:
    """The minor units of an amount, 0 for None; raises ``Invalid`` for floats, another asset and what is below zero."""
    if amount is None:
        return 0
    if amount.__class__ is not Money:
        raise Invalid(
            f"The {field} should be Money.", field=field, remedy='Write money("12.50", "USD"); floats are refused.'
        )
    if amount.asset != asset:
        raise Invalid(f"The {field} is not of the product's asset.", field=field, remedy=f"Give it in {asset}.")
    if amount.units < 0:
        raise Invalid(
            f"The {field} is below zero.",
            field=field,
            remedy="Give what is owed to the borrower as overpaid, and leave out what is nothing.",
        )
    return amount.units


def _interval_before(terms: Terms, due: date) -> date:
    return step(due, terms.frequency, -terms.every, terms.month_end)


def _amounts(asset: str, given: Overdue | Planned, field: str) -> Amounts:
    return (
        units_of(given.principal, asset, field),
        units_of(given.interest, asset, field),
        units_of(given.fees, asset, field),
        units_of(given.penalties, asset, field),
    )
