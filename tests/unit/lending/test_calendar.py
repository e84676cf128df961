"""Dates of schedules: months that differ in length, days off, day counts."""

from __future__ import annotations

from datetime import date
from decimal import Decimal as D
from fractions import Fraction

import pytest

from tallystick.domains.lending.calendar import (
    EVERY_DAY,
    BusinessDay,
    Frequency,
    HolidayCalendar,
    MonthEnd,
    add_months,
    adjust,
    due_dates,
)
from tallystick.domains.lending.daycount import DayCount, days_between, year_fraction
from tallystick.domains.lending.periods import fraction_of, make_periods, periods_to
from tallystick.domains.lending.terms import Amortization, InterestCalc, InterestMethod, Terms

WEEKENDS = HolidayCalendar(frozenset({6, 7}), frozenset({date(2024, 12, 25), date(2024, 12, 26)}))


def terms(**others: object) -> Terms:
    settled = {
        "interest_method": InterestMethod.DECLINING_BALANCE,
        "amortization": Amortization.EQUAL_INSTALLMENTS,
        "interest_calc": InterestCalc.DAILY,
        "day_count": DayCount.ACTUAL_365,
        "frequency": Frequency.MONTHS,
    }
    return Terms(**(settled | others))


@pytest.mark.parametrize(
    ("start", "rule", "wanted"),
    [
        (date(2024, 1, 31), MonthEnd.SAME_DAY, [(2, 29), (3, 31), (4, 30), (5, 31)]),
        (date(2024, 1, 30), MonthEnd.SAME_DAY, [(2, 29), (3, 30), (4, 30), (5, 30)]),
        (date(2024, 2, 29), MonthEnd.SAME_DAY, [(3, 29), (4, 29), (5, 29), (6, 29)]),
        (date(2024, 2, 29), MonthEnd.LAST_DAY, [(3, 31), (4, 30), (5, 31), (6, 30)]),
        (date(2024, 4, 30), MonthEnd.LAST_DAY, [(5, 31), (6, 30), (7, 31), (8, 31)]),
        (date(2024, 4, 29), MonthEnd.LAST_DAY, [(5, 29), (6, 29), (7, 29), (8, 29)]),
    ],
)
def test_a_short_month_does_not_shift_the_later_ones(
    start: date, rule: MonthEnd, wanted: list[tuple[int, int]]
) -> None:
    got = due_dates(start, 4, Frequency.MONTHS, month_end=rule)
    assert [(day.month, day.day) for day in got] == wanted


def test_intervals() -> None:
    assert due_dates(date(2024, 2, 20), 2, Frequency.DAYS, 15) == [date(2024, 3, 6), date(2024, 3, 21)]
    assert due_dates(date(2024, 2, 20), 2, Frequency.WEEKS, 2) == [date(2024, 3, 5), date(2024, 3, 19)]
    assert due_dates(date(2023, 11, 30), 2, Frequency.MONTHS, 3) == [date(2024, 2, 29), date(2024, 5, 30)]
    assert due_dates(date(2024, 1, 10), 2, Frequency.MONTHS, first_due=date(2024, 3, 31)) == [
        date(2024, 3, 31), date(2024, 4, 30),
    ]  # fmt: skip
    assert add_months(date(2024, 3, 31), -1) == date(2024, 2, 29)
    assert add_months(date(2024, 1, 1), -12) == date(2023, 1, 1)


@pytest.mark.parametrize(
    ("rule", "saturday_in", "saturday_end"),
    [
        (BusinessDay.UNADJUSTED, date(2024, 6, 15), date(2024, 8, 31)),
        (BusinessDay.FOLLOWING, date(2024, 6, 17), date(2024, 9, 2)),
        (BusinessDay.MODIFIED_FOLLOWING, date(2024, 6, 17), date(2024, 8, 30)),
        (BusinessDay.PRECEDING, date(2024, 6, 14), date(2024, 8, 30)),
        (BusinessDay.MODIFIED_PRECEDING, date(2024, 6, 14), date(2024, 8, 30)),
    ],
)
def test_days_off(rule: BusinessDay, saturday_in: date, saturday_end: date) -> None:
    assert adjust(date(2024, 6, 15), rule, WEEKENDS) == saturday_in
    assert adjust(date(2024, 8, 31), rule, WEEKENDS) == saturday_end
    assert adjust(date(2024, 6, 14), rule, WEEKENDS) == date(2024, 6, 14)


def test_holidays() -> None:
    assert adjust(date(2024, 12, 25), BusinessDay.FOLLOWING, WEEKENDS) == date(2024, 12, 27)
    assert adjust(date(2024, 12, 26), BusinessDay.PRECEDING, WEEKENDS) == date(2024, 12, 24)
    # 1 June 2024 is a Saturday: before it lies May.
    assert adjust(date(2024, 6, 1), BusinessDay.MODIFIED_PRECEDING, WEEKENDS) == date(2024, 6, 3)
    assert adjust(date(2024, 12, 25), BusinessDay.FOLLOWING, EVERY_DAY) == date(2024, 12, 25)


def test_daily_installments_fall_on_different_business_days() -> None:
    policies = terms(frequency=Frequency.DAYS, business_day=BusinessDay.FOLLOWING)
    periods = make_periods(policies, start=date(2024, 6, 13), count=5, holidays=WEEKENDS)
    assert [period.due.day for period in periods] == [14, 17, 18, 19, 20]


def test_interest_runs_to_the_moved_date_or_not() -> None:
    moved = make_periods(terms(business_day=BusinessDay.FOLLOWING), start=date(2024, 5, 15), count=2, holidays=WEEKENDS)
    assert [(period.end, period.due) for period in moved] == [
        (date(2024, 6, 17), date(2024, 6, 17)), (date(2024, 7, 15), date(2024, 7, 15)),
    ]  # fmt: skip
    kept = make_periods(
        terms(business_day=BusinessDay.FOLLOWING, accrue_to_due=False),
        start=date(2024, 5, 15), count=2, holidays=WEEKENDS,
    )  # fmt: skip
    assert [(period.end, period.due) for period in kept] == [
        (date(2024, 6, 15), date(2024, 6, 17)), (date(2024, 7, 15), date(2024, 7, 15)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        # The US (NASD) rule for both ends in February and on the 31st.
        ((2024, 1, 1), (2024, 2, 1), 30),
        ((2024, 1, 31), (2024, 2, 29), 29),
        ((2024, 1, 31), (2024, 3, 31), 60),
        ((2024, 1, 30), (2024, 3, 31), 60),
        ((2024, 1, 29), (2024, 3, 31), 62),
        ((2023, 2, 28), (2023, 3, 31), 30),
        ((2024, 2, 29), (2025, 2, 28), 360),
        ((2024, 2, 28), (2024, 3, 1), 3),
        ((2023, 12, 15), (2024, 12, 15), 360),
    ],
)
def test_thirty_360(start: tuple[int, int, int], end: tuple[int, int, int], days: int) -> None:
    assert days_between(date(*start), date(*end), DayCount.THIRTY_360) == days


def test_year_fractions() -> None:
    start, end = date(2023, 12, 12), date(2024, 1, 12)
    assert year_fraction(start, end, DayCount.ACTUAL_360) == Fraction(31, 360)
    assert year_fraction(start, end, DayCount.ACTUAL_364) == Fraction(31, 364)
    assert year_fraction(start, end, DayCount.ACTUAL_365) == Fraction(31, 365)
    assert year_fraction(start, end, DayCount.ACTUAL_ACTUAL) == Fraction(19, 365) + Fraction(12, 366)
    assert year_fraction(start, end, DayCount.ACTUAL_ACTUAL_ISDA) == Fraction(20, 365) + Fraction(11, 366)
    # EMU and Market Conventions: Recent Developments (ISDA, 1998), the example of 1 November 2003 to 1 May 2004.
    long = year_fraction(date(2003, 11, 1), date(2004, 5, 1), DayCount.ACTUAL_ACTUAL_ISDA)
    assert long == Fraction(61, 365) + Fraction(121, 366)
    whole = (date(2021, 1, 1), date(2025, 1, 1))
    assert year_fraction(*whole, DayCount.ACTUAL_ACTUAL_ISDA) == 4
    assert year_fraction(date(2020, 12, 31), date(2024, 12, 31), DayCount.ACTUAL_ACTUAL) == 4
    for count in DayCount:
        assert year_fraction(date(1, 1, 1), date(9999, 12, 31), count) > 9990
        assert year_fraction(start, start, count) == 0


def test_odd_first_periods() -> None:
    monthly = terms(interest_calc=InterestCalc.PER_PERIOD, day_count=DayCount.THIRTY_360)
    (first, second) = make_periods(monthly, start=date(2024, 2, 10), count=2, first_due=date(2024, 4, 1))
    # One month back from the first due date, and the twenty-one days before that.
    assert fraction_of(monthly, first, first.start, first.end) == Fraction(1, 12) + Fraction(21, 360)
    assert fraction_of(monthly, second, second.start, second.end) == Fraction(1, 12)
    assert not first.whole
    by_day = terms(day_count=DayCount.THIRTY_360)
    assert fraction_of(by_day, first, first.start, first.end) == Fraction(51, 360)
    assert fraction_of(terms(), first, first.start, first.end) == Fraction(51, 365)
    (regular,) = make_periods(monthly, start=date(2024, 2, 10), count=1, first_due=date(2024, 3, 10))
    assert regular.whole


def test_whole_periods_between_given_dates() -> None:
    dues = [date(2024, 2, 29), date(2024, 3, 31), date(2024, 4, 15), date(2024, 5, 15)]
    assert [period.whole for period in periods_to(terms(), date(2024, 1, 31), dues)] == [True, True, False, True]


@pytest.mark.parametrize(
    ("frequency", "calc", "count", "wanted"),
    [
        (Frequency.MONTHS, InterestCalc.PER_PERIOD, DayCount.ACTUAL_365, Fraction(2, 12)),
        (Frequency.WEEKS, InterestCalc.PER_PERIOD, DayCount.ACTUAL_365, Fraction(2, 52)),
        (Frequency.DAYS, InterestCalc.PER_PERIOD, DayCount.ACTUAL_364, Fraction(2, 364)),
        (Frequency.DAYS, InterestCalc.PER_PERIOD, DayCount.ACTUAL_ACTUAL, Fraction(2, 365)),
        (Frequency.MONTHS, InterestCalc.DAILY, DayCount.THIRTY_360, Fraction(60, 360)),
        (Frequency.WEEKS, InterestCalc.DAILY, DayCount.THIRTY_360, Fraction(14, 360)),
        (Frequency.MONTHS, InterestCalc.DAILY, DayCount.ACTUAL_364, Fraction(60, 364)),
    ],
)
def test_what_an_interval_counts_as(
    frequency: Frequency, calc: InterestCalc, count: DayCount, wanted: Fraction
) -> None:
    policies = terms(frequency=frequency, interest_calc=calc, day_count=count, every=2)
    (period,) = make_periods(policies, start=date(2024, 1, 1), count=1)
    assert fraction_of(policies, period, period.start, period.end) == wanted
    assert D(wanted.numerator) / wanted.denominator < 1
