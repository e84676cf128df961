"""Calendars: months that differ in length, days on which no payment is due, and the dates of a schedule."""

from __future__ import annotations

import calendar as months
from collections.abc import Iterable
from datetime import date, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct

from tallystick.domains.lending.checks import as_date, as_member, as_whole
from tallystick.errors import Invalid

__all__ = [
    "EVERY_DAY",
    "BusinessDay",
    "Frequency",
    "HolidayCalendar",
    "MonthEnd",
    "add_months",
    "adjust",
    "due_dates",
    "step",
]

MAX_INSTALLMENTS: Final = 3660
"""The most installments of one schedule: ten years of days."""
_ONE_DAY: Final = timedelta(days=1)


class Frequency(StrEnum):
    """The unit that the interval between two installments is counted in."""

    DAYS = "days"
    WEEKS = "weeks"
    MONTHS = "months"


class MonthEnd(StrEnum):
    """Where a monthly due date falls that starts late in a month."""

    SAME_DAY = "same_day"
    """On the same day, or the last of a shorter month: 31 January, 29 February, 31 March; 28 February, 28 March."""
    LAST_DAY = "last_day"
    """As the same day, but once on the last day of a month always there: 28 February, 31 March."""


class BusinessDay(StrEnum):
    """Where a due date goes that falls on a day off (the names are those of the 2006 ISDA Definitions, 4.12)."""

    UNADJUSTED = "unadjusted"
    FOLLOWING = "following"
    MODIFIED_FOLLOWING = "modified_following"
    PRECEDING = "preceding"
    MODIFIED_PRECEDING = "modified_preceding"


class HolidayCalendar(Struct, frozen=True):
    """The days off of a place, as data: weekdays by ISO number (Monday 1 to Sunday 7) and single dates.

    Raises ``Invalid`` for a weekday out of range, all seven of them, and what is not a date.
    """

    weekend: frozenset[int] = frozenset()
    holidays: frozenset[date] = frozenset()

    def __post_init__(self) -> None:
        for day in self.weekend:
            as_whole(day, "weekend", least=1, most=7)
        for holiday in self.holidays:
            as_date(holiday, "holidays")
        if len(self.weekend) == 7:
            raise Invalid(
                "A calendar without any business day has no due dates.", field="weekend", remedy="Leave out a weekday."
            )

    def is_off(self, day: date) -> bool:
        """Whether no business is done on a day."""
        return day.isoweekday() in self.weekend or day in self.holidays

    def next(self, day: date) -> date:
        """Return the day itself, or the first business day after it."""
        while self.is_off(day):
            day = _moved(day, 1)
        return day

    def previous(self, day: date) -> date:
        """Return the day itself, or the last business day before it."""
        while self.is_off(day):
            day = _moved(day, -1)
        return day


EVERY_DAY: Final = HolidayCalendar()
"""A calendar on which every day is a business day."""


def days_in_month(day: date) -> int:
    """The length of a date's month in days."""
    return months.monthrange(day.year, day.month)[1]


def days_in_year(year: int) -> int:
    """The length of a year in days."""
    return 366 if months.isleap(year) else 365


def is_month_end(day: date) -> bool:
    """Whether a date is the last of its month."""
    return day.day == days_in_month(day)


def add_months(start: date, count: int, *, anchor: int | None = None) -> date:
    """Return the date some months later, or earlier when the count is negative.

    ``anchor`` is the day of the month to fall on (default: the start's own); a month that is shorter gives its last
    day. Raises ``Invalid`` when the date lies outside the years 1 to 9999.
    """
    year, month = divmod(start.year * 12 + start.month - 1 + count, 12)
    if not date.min.year <= year <= date.max.year:
        raise _outside()
    last = months.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(anchor or start.day, last))


def step(start: date, frequency: Frequency, count: int, month_end: MonthEnd = MonthEnd.SAME_DAY) -> date:
    """Return the date ``count`` days, weeks or months after a date; raises ``Invalid`` outside the years 1 to 9999."""
    if frequency is Frequency.MONTHS:
        stays = month_end is MonthEnd.LAST_DAY and is_month_end(start)
        return add_months(start, count, anchor=31 if stays else None)
    return _moved(start, count * (7 if frequency is Frequency.WEEKS else 1))


def adjust(day: date, rule: BusinessDay, holidays: HolidayCalendar) -> date:
    """Return the business day that a date is moved to; the modified rules turn back at the end of the month."""
    if rule is BusinessDay.UNADJUSTED or not holidays.is_off(day):
        return day
    later, earlier = rule is BusinessDay.FOLLOWING, rule is BusinessDay.PRECEDING
    if later or rule is BusinessDay.MODIFIED_FOLLOWING:
        moved = holidays.next(day)
        return moved if later or moved.month == day.month else holidays.previous(day)
    moved = holidays.previous(day)
    return moved if earlier or moved.month == day.month else holidays.next(day)


def due_dates(
    start: date,
    count: int,
    frequency: Frequency,
    every: int = 1,
    *,
    first_due: date | None = None,
    month_end: MonthEnd = MonthEnd.SAME_DAY,
) -> list[date]:
    """Return the dates of ``count`` installments of a loan that starts on a date, before any move to business days.

    Each is counted from the start, or from ``first_due`` where that is given, so that a short month does not shift
    the later ones. Raises ``Invalid`` for a count or interval out of range, a first due date that is not after the
    start, and dates beyond the year 9999.
    """
    as_date(start, "start")
    as_whole(count, "count", least=1, most=MAX_INSTALLMENTS)
    as_whole(every, "every", least=1, most=MAX_INSTALLMENTS)
    as_member(frequency, Frequency, "frequency")
    as_member(month_end, MonthEnd, "month_end")
    if first_due is None:
        return [step(start, frequency, number * every, month_end) for number in range(1, count + 1)]
    if as_date(first_due, "first_due") <= start:
        raise Invalid(
            "The first installment is due before the loan starts.",
            field="first_due",
            remedy="Give a first due date after the start; a down payment is a policy of its own.",
        )
    return [step(first_due, frequency, number * every, month_end) for number in range(count)]


def adjusted(dates: Iterable[date], start: date, rule: BusinessDay, holidays: HolidayCalendar) -> list[date]:
    """Move dates to business days, each at least one business day after the one before and after the start.

    Where two would meet, as those of daily installments do over a weekend, the later one goes on to the next
    business day: sixty daily installments then fall on sixty different days.
    """
    moved: list[date] = []
    before = start
    for day in dates:
        before = max(adjust(day, rule, holidays), _after(before, rule, holidays))
        moved.append(before)
    return moved


def _after(day: date, rule: BusinessDay, holidays: HolidayCalendar) -> date:
    later = _moved(day, 1)
    return later if rule is BusinessDay.UNADJUSTED else holidays.next(later)


def _moved(day: date, by: int) -> date:
    try:
        return day + by * _ONE_DAY
    except OverflowError:
        raise _outside() from None


def _outside() -> Invalid:
    return Invalid(
        "A date lies outside the calendar.", field="start", remedy="Keep every date within the years 1 to 9999."
    )
