"""Cases B: annual percentage rates, against the examples of Regulation Z, Appendix J, and of the EU and UK formula.

Source: 12 CFR 1026, Appendix J, (c)(1) to (c)(6); those of (c)(1) to (c)(5) and the modified ones as encoded in
FSharp.Finance.Personal 204707cb5ca5, AprUsActuarialTests.fs, AprEuropeanUnionTests.fs, AprUnitedKingdomTests.fs.
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal as D
from fractions import Fraction

import pytest

from tallystick.domains.lending.apr import Years, apr_eu, apr_us, as_percent
from tallystick.domains.lending.calendar import Frequency, add_months, due_dates
from tallystick.domains.lending.cashflow import CashFlow
from tallystick.domains.lending.unit_period import Interval, UnitPeriod, periods_between
from tallystick.errors import Invalid
from tallystick.money import gbp, usd

DAYS, WEEKS, MONTHS = Frequency.DAYS, Frequency.WEEKS, Frequency.MONTHS


def series(first: date, count: int, amount: str, frequency: Frequency = MONTHS, every: int = 1) -> list[CashFlow]:
    dates = due_dates(first - timedelta(1), count, frequency, every, first_due=first)
    return [CashFlow(day, usd(amount)) for day in dates]


def lent(on: date, amount: str) -> list[CashFlow]:
    return [CashFlow(on, usd(amount))]


SEMIMONTHLY = [
    CashFlow(add_months(first, month), usd("219.17"))
    for month in range(12)
    for first in (date(1978, 3, 1), date(1978, 3, 16))
]
CASES = {
    "18 (c)(1)(i)": (lent(date(1978, 1, 10), "5000"), series(date(1978, 2, 10), 24, "230"), 12, "9.69"),
    "19 (c)(1)(ii)": (lent(date(1978, 2, 10), "6000"), series(date(1978, 4, 1), 36, "200"), 12, "11.82"),
    "(c)(1)(iii)": (lent(date(1978, 2, 23), "5000"), SEMIMONTHLY, 24, "10.34"),
    "21 (c)(1)(iv)": (
        lent(date(1978, 5, 23), "10000"), series(date(1978, 10, 1), 40, "385", every=3), 4, "8.97",
    ),
    "(c)(1)(v)": (lent(date(1978, 3, 20), "500"), series(date(1978, 4, 21), 30, "17.60", WEEKS), 52, "14.96"),
    "23 (c)(2)(i)": (
        lent(date(1978, 1, 10), "5000"),
        series(date(1978, 2, 10), 1, "250") + series(date(1978, 3, 10), 23, "230"), 12, "10.08",
    ),
    "(c)(2)(ii)": (
        lent(date(1978, 3, 18), "400"),
        series(date(1978, 4, 20), 1, "39.50") + series(date(1978, 5, 18), 11, "38.31", WEEKS, 4), 13, "28.50",
    ),
    "25 (c)(3)(i)": (
        lent(date(1978, 1, 10), "5000"),
        series(date(1978, 2, 10), 23, "230") + series(date(1980, 1, 10), 1, "280"), 12, "10.50",
    ),
    "(c)(3)(ii)": (
        lent(date(1978, 4, 3), "200"),
        series(date(1978, 4, 11), 19, "9.50", WEEKS, 2) + series(date(1979, 1, 2), 1, "30"), 26, "12.22",
    ),
    "27 (c)(4)(i)": (
        lent(date(1978, 1, 10), "5000"),
        series(date(1978, 2, 10), 1, "250") + series(date(1978, 3, 10), 22, "230")
        + series(date(1980, 1, 10), 1, "280"), 12, "10.90",
    ),
    "(c)(4)(ii)": (
        lent(date(1978, 1, 10), "8000"),
        series(date(1978, 3, 1), 1, "449.36")
        + series(date(1978, 5, 1), 18, "465", every=2) + series(date(1981, 5, 1), 1, "200"),
        6, "7.30",
    ),
    "(c)(5)(i)": (lent(date(1978, 1, 3), "1000"), series(date(1978, 9, 15), 1, "1080"), Fraction(365, 255), "11.45"),
    "quarters, shorter": (
        lent(date(1978, 6, 23), "10000"), series(date(1978, 10, 1), 40, "385", every=3), 4, "9.15",
    ),
    "quarters, short": (
        lent(date(1978, 7, 23), "10000"), series(date(1978, 10, 1), 40, "385", every=3), 4, "9.32",
    ),
    "days": (lent(date(2023, 10, 26), "1000"), series(date(2023, 11, 30), 5, "220", DAYS), 365, "94.15"),
    "weeks, long": (lent(date(2023, 10, 28), "1000"), series(date(2023, 11, 30), 5, "250", WEEKS), 52, "176.52"),
    "weeks": (lent(date(2023, 11, 23), "1000"), series(date(2023, 11, 30), 5, "250", WEEKS), 52, "412.40"),
    "weeks, short": (lent(date(2023, 11, 24), "1000"), series(date(2023, 11, 30), 5, "250", WEEKS), 52, "434.30"),
    "years": (lent(date(2023, 10, 26), "1000"), series(date(2023, 11, 30), 5, "500", every=12), 1, "78.34"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_united_states(case: str) -> None:
    advances, payments, per_year, wanted = CASES[case]
    got = apr_us(advances, payments)
    assert got.percent == D(wanted)
    assert got.per_year == per_year


@pytest.mark.parametrize(
    ("start", "first", "unit", "wanted"),
    [
        (date(1978, 1, 10), date(1978, 2, 10), UnitPeriod(Interval.MONTH), (1, Fraction(0))),
        (date(1978, 2, 10), date(1978, 4, 1), UnitPeriod(Interval.MONTH), (1, Fraction(19, 30))),
        (date(1978, 5, 23), date(1978, 10, 1), UnitPeriod(Interval.MONTH, 3), (1, Fraction(39, 90))),
        (date(1978, 2, 23), date(1978, 3, 1), UnitPeriod(Interval.SEMIMONTH), (0, Fraction(6, 15))),
        (date(1978, 3, 20), date(1978, 4, 21), UnitPeriod(Interval.WEEK), (4, Fraction(4, 7))),
    ],
)
def test_time_to_the_first_payment(start: date, first: date, unit: UnitPeriod, wanted: tuple[int, Fraction]) -> None:
    assert periods_between(start, first, unit, first.day) == wanted


def test_a_payment_that_would_be_the_second_of_a_month_is_put_off() -> None:
    # (c)(6)(i): every four weeks, or six where that would be the same month again.
    due = [date(1978, 2, 20)]
    while len(due) < 24:
        following = due[-1] + timedelta(28)
        due.append(following + timedelta(14) if following.month == due[-1].month else following)
    got = apr_us(lent(date(1978, 1, 25), "2135"), [CashFlow(day, usd(100)) for day in due])
    assert got.percent == D("12.00")
    assert got.per_year == 13


@pytest.mark.parametrize("back", ["450", "500", "550"])
def test_the_unit_period_can_be_given(back: str) -> None:
    advances, payments = lent(date(2024, 1, 1), "500"), series(date(2024, 7, 1), 1, back)
    # Six whole months: one period of which a year has two ((b)(5)(vi)).
    assert apr_us(advances, payments).rate == (D(back) / 500 - 1) * 2
    months = apr_us(advances, payments, unit=UnitPeriod(Interval.MONTH))
    assert abs((1 + months.unit_rate) ** 6 - D(back) / 500) < D("1e-24")


def test_a_single_payment_after_more_than_a_year() -> None:
    two_years = apr_us(lent(date(2024, 1, 1), "100"), series(date(2026, 1, 1), 1, "121"))
    assert (two_years.percent, two_years.per_year) == (D("10.00"), 1)
    longer = apr_us(lent(date(2024, 1, 1), "100"), series(date(2025, 1, 31), 1, "111"))
    assert abs((1 + longer.rate) * (1 + longer.rate * 30 / 365) - D("1.11")) < D("1e-24")


def test_several_advances() -> None:
    # Each advance is repaid with one per cent a month: so is the whole.
    advances = lent(date(2024, 1, 1), "100") + lent(date(2024, 3, 1), "200")
    payments = [CashFlow(date(2024, 4, 1), usd("103.03")), CashFlow(date(2024, 4, 1), usd("202"))]
    assert apr_us(advances, payments, unit=UnitPeriod(Interval.MONTH)).percent == D("12.00")


def test_29_five_days() -> None:
    got = apr_eu([CashFlow(date(2012, 10, 10), gbp(500))], [CashFlow(date(2012, 10, 15), gbp(510))])
    assert as_percent(got, 3) == D("324.436")


def test_31_the_same_day() -> None:
    assert apr_eu(lent(date(2012, 10, 10), "500"), lent(date(2012, 10, 10), "500")) == 0
    assert apr_us(lent(date(2012, 10, 10), "500"), lent(date(2012, 10, 10), "500")).rate == 0
    for find in (apr_eu, apr_us):
        with pytest.raises(Invalid, match="at once"):
            find(lent(date(2012, 10, 10), "500"), lent(date(2012, 10, 10), "510"))


def test_two_payments() -> None:
    payments = series(date(2012, 11, 10), 2, "270")
    assert as_percent(apr_eu(lent(date(2012, 10, 10), "500"), payments)) == D("84.63")
    by_month = apr_eu(lent(date(2012, 10, 10), "500"), payments, years=Years.MONTHS)
    twelfth = (1 + by_month) ** (D(1) / 12)
    assert abs(270 / twelfth + 270 / twelfth**2 - 500) < D("1e-20")


def test_what_is_refused() -> None:
    advance, payment = lent(date(2024, 1, 2), "100"), lent(date(2024, 2, 1), "110")
    for find in (apr_eu, apr_us):
        for out, back in (([], payment), (advance, []), (advance, lent(date(2024, 1, 1), "110"))):
            with pytest.raises(Invalid):
                find(out, back)
        with pytest.raises(Invalid, match="assets"):
            find(advance, [CashFlow(date(2024, 2, 1), gbp(110))])
    with pytest.raises(Invalid):
        apr_us(advance, payment, begins=date(2024, 1, 3))
    with pytest.raises(Invalid):
        UnitPeriod(Interval.MONTH, 13)
