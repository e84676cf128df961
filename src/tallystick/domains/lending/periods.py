"""Periods: the intervals of a schedule, from its start to its last due date, without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fractions import Fraction

from msgspec import Struct

from tallystick.domains.lending.calendar import (
    EVERY_DAY,
    MAX_INSTALLMENTS,
    HolidayCalendar,
    adjusted,
    due_dates,
    step,
)
from tallystick.domains.lending.checks import as_date
from tallystick.domains.lending.daycount import DayCount, days_between, year_fraction
from tallystick.domains.lending.terms import InterestCalc, Terms
from tallystick.errors import Invalid

__all__ = ["Period", "fraction_of", "make_periods", "periods_to"]


class Period(Struct, frozen=True):
    """Interest runs from ``start`` to ``end``; the installment is due on ``due``.

    ``whole`` says that it is exactly one repayment interval of the terms, wherever a holiday or a reschedule moved
    its end: counts that go by interval then charge one interval. Raises ``Invalid`` when it has no days.
    """

    start: date
    end: date
    due: date
    whole: bool = True

    def __post_init__(self) -> None:
        if as_date(self.end, "end") <= as_date(self.start, "start") or as_date(self.due, "due") <= self.start:
            raise Invalid(
                "A period of a schedule has no days.", field="due", remedy="Give due dates that rise from the start."
            )


def make_periods(
    terms: Terms,
    *,
    start: date,
    count: int,
    first_due: date | None = None,
    holidays: HolidayCalendar = EVERY_DAY,
) -> tuple[Period, ...]:
    """Return the periods of a loan with ``count`` repayment intervals.

    Due dates follow the frequency, month-end and business-day policies of the terms. A ``first_due`` that is not one
    interval after the start makes an odd first period. Raises ``Invalid`` as ``due_dates`` does.
    """
    dates = due_dates(start, count, terms.frequency, terms.every, first_due=first_due, month_end=terms.month_end)
    dues = adjusted(dates, start, terms.business_day, holidays)
    ends = dues if terms.accrue_to_due else dates
    starts = [start, *ends[:-1]]
    odd = dates[0] != step(start, terms.frequency, terms.every, terms.month_end)
    return tuple(
        Period(begins, end, due, not (odd and number == 0))
        for number, (begins, end, due) in enumerate(zip(starts, ends, dues, strict=True))
    )


def periods_to(terms: Terms, start: date, dues: Sequence[date]) -> tuple[Period, ...]:
    """Return the periods that end on given due dates, as a reschedule or a boarded loan has them.

    A period is whole when it is one interval of the terms by the calendar; the others count by their days. Raises
    ``Invalid`` for no dates, too many, or dates that do not rise.
    """
    if not 0 < len(dues) <= MAX_INSTALLMENTS:
        raise Invalid(
            "A schedule has at least one due date.",
            field="dues",
            remedy=f"Give 1 to {MAX_INSTALLMENTS} dates.",
        )
    made: list[Period] = []
    begins = grid = as_date(start, "start")
    for number, due in enumerate(dues, 1):
        before, grid = grid, step(start, terms.frequency, number * terms.every, terms.month_end)
        whole = due == step(begins, terms.frequency, terms.every, terms.month_end)
        made.append(Period(begins, due, due, whole or (begins == before and due == grid)))
        begins = due
    return tuple(made)


def fraction_of(terms: Terms, period: Period, start: date, end: date) -> Fraction:
    """Return the part of a year that interest is charged for on a stretch of days within a period, exactly.

    By day: the days after the day count. By period, and for 30/360, a whole period counts as one interval and a part
    of it in proportion to its actual days (Apache Fineract ``rateFactorByRepaymentPeriod``; cases 37 to 46).
    """
    if terms.interest_calc is InterestCalc.DAILY and terms.day_count is not DayCount.THIRTY_360:
        return year_fraction(start, end, terms.day_count)
    whole = terms.interval_fraction() if period.whole else _odd(terms, period)
    return whole * Fraction((end - start).days, (period.end - period.start).days)


def _odd(terms: Terms, period: Period) -> Fraction:
    """An odd period counts whole intervals back from its end, and the days that are left by the day count.

    This is how Regulation Z measures odd periods (12 CFR 1026, Appendix J, (b)(5)(ii)).
    """
    if terms.interest_calc is InterestCalc.DAILY:
        return Fraction(days_between(period.start, period.end, terms.day_count), terms.day_count.year_days)
    count = 0
    opens = period.end
    while True:
        earlier = step(period.end, terms.frequency, -(count + 1) * terms.every, terms.month_end)
        if earlier < period.start:
            break
        count, opens = count + 1, earlier
    return count * terms.interval_fraction() + year_fraction(period.start, opens, terms.day_count)
