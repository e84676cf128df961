"""Unit-periods of Regulation Z, Appendix J, (b)(3) to (5), beyond the examples of the regulation."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction

import pytest

from tallystick.domains.lending.calendar import Frequency, MonthEnd, due_dates
from tallystick.domains.lending.unit_period import (
    YEAR,
    Interval,
    UnitPeriod,
    anchors,
    find_unit_period,
    periods_between,
)

MONTH, WEEK, DAY = (UnitPeriod(interval) for interval in (Interval.MONTH, Interval.WEEK, Interval.DAY))
START = date(2024, 1, 10)


def times(start: date, series: list[date], unit: UnitPeriod) -> list[tuple[int, Fraction]]:
    intended = anchors(series)
    return [periods_between(start, day, unit, intended[day]) for day in series]


def test_a_series_on_last_days_is_measured_from_last_day_to_last_day() -> None:
    series = due_dates(START, 4, Frequency.MONTHS, first_due=date(2024, 1, 31), month_end=MonthEnd.LAST_DAY)
    assert series[1] == date(2024, 2, 29)
    assert times(START, series, MONTH) == [(full, Fraction(21, 30)) for full in range(4)]


@pytest.mark.parametrize("day", [29, 30])
def test_february_stands_for_the_twenty_ninth_and_thirtieth(day: int) -> None:
    start = date(2022, 12, 20)
    series = due_dates(start, 4, Frequency.MONTHS, first_due=date(2022, 12, day))
    assert series[2] == date(2023, 2, 28)
    assert times(start, series, MONTH) == [(full, Fraction(day - 20, 30)) for full in range(4)]


def test_semimonthly_on_the_fifteenth_and_the_last_day() -> None:
    series = sorted(
        due_dates(START, 3, Frequency.MONTHS, first_due=date(2024, 1, 15))
        + due_dates(START, 3, Frequency.MONTHS, first_due=date(2024, 1, 31), month_end=MonthEnd.LAST_DAY)
    )
    unit = find_unit_period(START, [START], series)
    assert unit == UnitPeriod(Interval.SEMIMONTH)
    assert times(START, series, unit) == [
        (full + extra, Fraction(rest, 15)) for full in (0, 2, 4) for extra, rest in ((0, 5), (1, 6))
    ]


@pytest.mark.parametrize(
    ("frequency", "every", "unit"),
    [
        (Frequency.DAYS, 1, DAY),
        (Frequency.DAYS, 10, UnitPeriod(Interval.DAY, 10)),
        (Frequency.DAYS, 14, UnitPeriod(Interval.WEEK, 2)),
        (Frequency.DAYS, 15, UnitPeriod(Interval.DAY, 15)),
        (Frequency.WEEKS, 1, WEEK),
        (Frequency.WEEKS, 4, UnitPeriod(Interval.WEEK, 4)),
        (Frequency.MONTHS, 1, MONTH),
        (Frequency.MONTHS, 6, UnitPeriod(Interval.MONTH, 6)),
        (Frequency.MONTHS, 12, YEAR),
        (Frequency.MONTHS, 24, YEAR),
    ],
)
@pytest.mark.parametrize("odd", [0, 3])
def test_the_common_period(frequency: Frequency, every: int, unit: UnitPeriod, odd: int) -> None:
    series = due_dates(START, 8, frequency, every)
    assert find_unit_period(START - timedelta(odd), [START - timedelta(odd)], series) == unit


def test_of_two_that_are_as_common_the_smaller() -> None:
    series = [date(2024, month, 10) for month in (2, 3, 6, 9)]
    assert find_unit_period(START, [START], series) == MONTH


def test_without_a_common_period_the_standard_interval_nearest_the_average() -> None:
    assert find_unit_period(START, [START], [date(2024, 2, 5), date(2024, 3, 9)]) == MONTH
    assert find_unit_period(START, [START], [date(2024, 1, 16), date(2024, 1, 25)]) == WEEK


def test_intervals_between_advances_count_too() -> None:
    advances = [date(2024, 1, 10) + timedelta(7 * week) for week in range(6)]
    assert find_unit_period(START, advances, [date(2024, 4, 1), date(2024, 5, 1), date(2024, 6, 1)]) == WEEK


def test_years_count_whole_months_as_twelfths_and_days_as_365ths() -> None:
    assert periods_between(date(2022, 1, 10), date(2024, 4, 10), YEAR, 10) == (2, Fraction(3, 12))
    assert periods_between(date(2022, 1, 1), date(2024, 4, 10), YEAR, 10) == (2, Fraction(99, 365))
