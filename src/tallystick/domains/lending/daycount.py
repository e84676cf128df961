"""Day counts: what part of a year lies between two dates, exactly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final

from tallystick.domains.lending.calendar import days_in_year, is_month_end
from tallystick.domains.lending.checks import as_date, as_member
from tallystick.errors import Invalid

__all__ = ["DayCount", "days_between", "year_fraction"]


class DayCount(StrEnum):
    """How the days of an interval are counted, and how many make a year; a policy of the product."""

    THIRTY_360 = "30/360"
    ACTUAL_360 = "actual/360"
    ACTUAL_364 = "actual/364"
    ACTUAL_365 = "actual/365"
    ACTUAL_ACTUAL = "actual/actual"
    ACTUAL_ACTUAL_ISDA = "actual/actual isda"

    @property
    def year_days(self) -> int:
        """The days of a year where one number is needed; 365 for the counts that follow the calendar."""
        return _FIXED.get(self, 365)


_FIXED: Final = {
    DayCount.THIRTY_360: 360,
    DayCount.ACTUAL_360: 360,
    DayCount.ACTUAL_364: 364,
    DayCount.ACTUAL_365: 365,
}


def days_between(start: date, end: date, day_count: DayCount) -> int:
    """Return the days from one date to a later one: 24-hour intervals, or 30-day months for 30/360.

    30/360 is the US (NASD) bond basis: a start on the last day of February counts as the 30th, and an end there too
    when the start is; a start on the 31st counts as the 30th; an end on the 31st does when the start is on the 30th or
    31st (SIA, Standard Securities Calculation Methods). Raises ``Invalid`` when the end is before the start.
    """
    if as_date(end, "end") < as_date(start, "start"):
        raise Invalid("An interval ends before it starts.", field="end", remedy="Give the earlier date first.")
    if as_member(day_count, DayCount, "day_count") is not DayCount.THIRTY_360:
        return (end - start).days
    first, last = start.day, end.day
    if start.month == 2 and is_month_end(start):
        if end.month == 2 and is_month_end(end):
            last = 30
        first = 30
    if last == 31 and first >= 30:
        last = 30
    first = min(first, 30)
    return 360 * (end.year - start.year) + 30 * (end.month - start.month) + last - first


def year_fraction(start: date, end: date, day_count: DayCount) -> Fraction:
    """Return the exact part of a year between two dates.

    ``ACTUAL_ACTUAL`` divides each day by the length of the year in which the day *ends*, as Apache Fineract does
    (``calculatePeriodFractions``); ``ACTUAL_ACTUAL_ISDA`` by that of the year in which it *begins* (2006 ISDA
    Definitions, section 4.16(b)). They differ by one day when an interval crosses into or out of a leap year.
    Raises ``Invalid`` when the end is before the start.
    """
    days = days_between(start, end, day_count)
    if day_count in _FIXED:
        return Fraction(days, _FIXED[day_count])
    shift = timedelta(days=1) if day_count is DayCount.ACTUAL_ACTUAL else timedelta(0)
    return _by_year(start, end, lambda year: date(year, 1, 1) - shift)


def _by_year(start: date, end: date, begins: Callable[[int], date]) -> Fraction:
    """Split an interval where years begin and divide each part by its year's length."""
    total = Fraction(0)
    for year in range(start.year, end.year + 1):
        opens = start if year == start.year else begins(year)
        closes = end if year == end.year else begins(year + 1)
        total += Fraction((closes - opens).days, days_in_year(year))
    return total
