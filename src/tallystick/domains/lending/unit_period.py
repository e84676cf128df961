"""Unit-periods: what a US annual percentage rate is measured in (12 CFR 1026, Appendix J, (b)(3) to (5))."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import Final

from msgspec import Struct

from tallystick.domains.lending.calendar import add_months, is_month_end
from tallystick.domains.lending.checks import as_member, as_whole

__all__ = ["YEAR", "Interval", "UnitPeriod", "anchors", "find_unit_period", "months_and_days", "periods_between"]


class Interval(StrEnum):
    """The standard intervals of time; a year is twelve months."""

    DAY = "day"
    WEEK = "week"
    SEMIMONTH = "semimonth"
    MONTH = "month"


class UnitPeriod(Struct, frozen=True):
    """A number of days, weeks or months, or half a month; at most a year.

    Raises ``Invalid`` for a count out of range.
    """

    interval: Interval
    count: int = 1

    def __post_init__(self) -> None:
        as_whole(self.count, "count", least=1, most=_MOST[as_member(self.interval, Interval, "interval")])

    @property
    def per_year(self) -> Fraction:
        """How many of them make a year: 365 days, 52 weeks, 24 semimonths or 12 months ((b)(5)(ii) to (v))."""
        return Fraction(_PER_YEAR[self.interval], self.count)

    @property
    def about(self) -> Fraction:
        """Its length in days, to compare it with others."""
        return Fraction(365, _PER_YEAR[self.interval]) * self.count


_MOST: Final = {Interval.DAY: 366, Interval.WEEK: 52, Interval.SEMIMONTH: 1, Interval.MONTH: 12}
_PER_YEAR: Final = {Interval.DAY: 365, Interval.WEEK: 52, Interval.SEMIMONTH: 24, Interval.MONTH: 12}

Anchors = dict[date, int]
"""For each date of a series, the day of the month that the series means: 31 where it means the last."""


def anchors(series: Sequence[date]) -> Anchors:
    """Return the day of the month that each date of a series stands for ((b)(3)(iv)).

    A series on the last day of each month means that; one on the 29th or 30th means it, though February ends earlier.
    The two series of semimonthly payments are told apart.
    """
    dates = sorted(set(series))
    halves = [dates[0::2], dates[1::2]] if _is_semimonthly(dates) else [dates]
    return {day: intended for half in halves if half for intended in [_intended(half)] for day in half}


def months_back(later: date, count: int, intended: int) -> date:
    """Return the date whole months before one that stands for a day of the month."""
    clamped = later.day == min(intended, add_months(later, 0, anchor=31).day)
    return add_months(later, -count, anchor=intended if clamped else later.day)


def periods_between(earlier: date, later: date, unit: UnitPeriod, intended: int) -> tuple[int, Fraction]:
    """Return the full unit-periods and the remaining fraction of one between two dates ((b)(5)).

    Days and weeks divide the days. Months are measured back from the later date; the days left are 30ths of a month,
    for multiples of a month and half months on months of 30 days, and 365ths of a year unless they are whole months.
    """
    if unit.interval in {Interval.DAY, Interval.WEEK}:
        length = unit.count * (7 if unit.interval is Interval.WEEK else 1)
        full, rest = divmod((later - earlier).days, length)
        return full, Fraction(rest, length)
    whole, left = months_and_days(earlier, later, intended)
    if unit == YEAR:
        years, rest = divmod(whole, 12)
        if not left:
            return years, Fraction(rest, 12)
        return years, Fraction((months_back(later, 12 * years, intended) - earlier).days, 365)
    if unit.interval is Interval.MONTH and unit.count == 1:
        return whole, Fraction(left, 30)
    length = 15 if unit.interval is Interval.SEMIMONTH else 30 * unit.count
    full, rest = divmod(30 * whole + left, length)
    return full, Fraction(rest, length)


YEAR: Final = UnitPeriod(Interval.MONTH, 12)


def find_unit_period(begins: date, advances: Sequence[date], payments: Sequence[date]) -> UnitPeriod:
    """Return the unit-period of a transaction that begins to bear a finance charge on a date ((b)(4)(i)).

    The common period that occurs most often, the smaller of two that occur as often; without a common period the
    standard interval nearest the average of all. An interval counts under each reading that fits it: a February is
    four weeks and a month. Something must happen after the beginning.
    """
    counted: Counter[UnitPeriod] = Counter()
    lengths: list[int] = []
    for series in (advances, payments):
        days = sorted({begins, *series})
        lengths += [(after - before).days for before, after in pairwise(days)]
        intended = anchors(series)
        semimonthly = _is_semimonthly(sorted(set(series)))
        for before, after in pairwise(days):
            within = before in intended and after in intended
            counted.update(_readings(before, after, intended.get(after, after.day), semimonthly=semimonthly and within))
    common = {unit: times for unit, times in counted.items() if times > 1}
    if common:
        return min(common, key=lambda unit: (-common[unit], unit.about))
    average = Fraction(sum(lengths), len(lengths))
    return min(_standard(), key=lambda unit: (abs(unit.about - average), unit.about))


def _readings(before: date, after: date, intended: int, *, semimonthly: bool) -> Iterable[UnitPeriod]:
    days = (after - before).days
    if semimonthly:
        yield UnitPeriod(Interval.SEMIMONTH)
    whole, left = months_and_days(before, after, intended)
    if whole and not left:
        yield UnitPeriod(Interval.MONTH, min(whole, 12))
    if days % 7 == 0 and days <= 364:
        yield UnitPeriod(Interval.WEEK, days // 7)
    elif days <= 365:
        yield UnitPeriod(Interval.DAY, days)


def _standard() -> Iterable[UnitPeriod]:
    yield UnitPeriod(Interval.DAY)
    yield UnitPeriod(Interval.SEMIMONTH)
    yield from (UnitPeriod(Interval.WEEK, count) for count in range(1, 53))
    yield from (UnitPeriod(Interval.MONTH, count) for count in range(1, 13))


def months_and_days(earlier: date, later: date, intended: int) -> tuple[int, int]:
    """Full months measured back from the later date, and the days forward from the earlier to the first of them."""
    whole = (later.year - earlier.year) * 12 + later.month - earlier.month
    if months_back(later, whole, intended) < earlier:
        whole -= 1
    return whole, (months_back(later, whole, intended) - earlier).days


def _intended(days: Sequence[date]) -> int:
    return 31 if len(days) > 1 and all(map(is_month_end, days)) else max(day.day for day in days)


def _is_semimonthly(days: Sequence[date]) -> bool:
    """Whether every second date is a month later, on two days of the month that are about half of one apart."""
    if len(days) < 4 or not all(13 <= (after - before).days <= 18 for before, after in pairwise(days)):
        return False
    return all(
        months_and_days(before, after, _intended(half)) == (1, 0)
        for half in (days[0::2], days[1::2])
        for before, after in pairwise(half)
    )
