"""What schedule mathematics refuses, each with a typed error that names the field and says what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal as D
from fractions import Fraction
from typing import Any

import pytest

from tallystick.domains.lending.calendar import Frequency, HolidayCalendar, due_dates
from tallystick.domains.lending.cashflow import CashFlow
from tallystick.domains.lending.daycount import DayCount, year_fraction
from tallystick.domains.lending.level import level_installment
from tallystick.domains.lending.periods import Period, make_periods, periods_to
from tallystick.domains.lending.schedule import make_schedule
from tallystick.domains.lending.terms import Amortization, InterestCalc, InterestMethod, Terms
from tallystick.domains.lending.tvm import fv, ipmt, irr, mirr, nper, npv, pmt, pmt_odd_first, pv, rate
from tallystick.errors import Invalid, TallystickError, Unsupported
from tallystick.money import Money, Rounding, eur, usd

START = date(2024, 1, 1)
SETTLED: dict[str, Any] = {
    "interest_method": InterestMethod.DECLINING_BALANCE,
    "amortization": Amortization.EQUAL_INSTALLMENTS,
    "interest_calc": InterestCalc.DAILY,
    "day_count": DayCount.ACTUAL_365,
    "frequency": Frequency.MONTHS,
}
TERMS = Terms(**SETTLED)
PERIODS = make_periods(TERMS, start=START, count=6)


def refused(act: Callable[[], object], kind: type[TallystickError] = Invalid) -> TallystickError:
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) is kind
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interest_method", "flat"), ("amortization", "annuity"), ("interest_calc", None), ("day_count", "30/360"),
        ("frequency", "months"), ("every", 0), ("every", -1), ("every", 1.0), ("every", True), ("every", 10**9),
        ("grace_principal", -1), ("grace_interest", "3"), ("interest_free", 2.0), ("rounding", "half_up"),
        ("installment_rounding", 1), ("installment_multiple", 1.0), ("installment_multiple", D(0)),
        ("installment_multiple", D(-5)), ("installment_multiple", D("NaN")), ("emi_adjustment", True),
        ("principal_share", D(0)), ("principal_share", 0.5), ("down_payment", D(1)), ("down_payment", D("-0.1")),
        ("down_payment", D("Infinity")), ("month_end", "last"), ("business_day", "next"), ("accrue_to_due", 1),
    ],
)  # fmt: skip
def test_terms(field: str, value: object) -> None:
    error = refused(lambda: Terms(**(SETTLED | {field: value})))
    assert isinstance(error, Invalid)
    assert error.field == field


@pytest.mark.parametrize(
    "others",
    [
        {"amortization": Amortization.BULLET, "grace_principal": 1},
        {"amortization": Amortization.BULLET, "grace_interest": 1},
        {"amortization": Amortization.BULLET, "interest_free": 1},
        {"amortization": Amortization.INTEREST_ONLY, "grace_principal": 1},
        {"amortization": Amortization.EQUAL_INSTALLMENTS, "principal_share": D("0.05")},
        {"amortization": Amortization.BULLET, "principal_share": D("0.05")},
    ],
)
def test_terms_that_contradict_each_other(others: dict[str, Any]) -> None:
    refused(lambda: Terms(**(SETTLED | others)), Unsupported)


@pytest.mark.parametrize("lent", [Money(0, "USD"), Money(-1, "USD"), [], [usd(5)], 100, 100.0, D(100), None, "100"])
def test_principal(lent: Any) -> None:
    refused(lambda: make_schedule(TERMS, lent, annual_rate=D("0.1"), periods=PERIODS))


@pytest.mark.parametrize("annual", [0.1, "0.1", None, True, D("-0.01"), D("NaN"), D("Infinity"), D("1E+5000")])
def test_rates(annual: Any) -> None:
    refused(lambda: make_schedule(TERMS, usd(100), annual_rate=annual, periods=PERIODS))


@pytest.mark.parametrize("count", [0, -1, 1.0, True, 10**6, None])
def test_counts(count: Any) -> None:
    refused(lambda: make_periods(TERMS, start=START, count=count))


def test_dates() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    for start in (moment, "2024-01-01", None):
        refused(lambda start=start: make_periods(TERMS, start=start, count=2))
        refused(lambda start=start: CashFlow(start, usd(1)))
        refused(lambda start=start: year_fraction(start, START, DayCount.ACTUAL_365))
    refused(lambda: make_periods(TERMS, start=START, count=2, first_due=START))
    refused(lambda: make_periods(TERMS, start=date(9999, 1, 1), count=24))
    refused(lambda: due_dates(date(9999, 12, 1), 40, Frequency.DAYS))
    refused(lambda: year_fraction(date(2024, 1, 2), START, DayCount.ACTUAL_360))
    refused(lambda: periods_to(TERMS, START, []))
    refused(lambda: periods_to(TERMS, START, [START]))
    refused(lambda: periods_to(TERMS, START, [date(2024, 3, 1), date(2024, 2, 1)]))


def test_calendars() -> None:
    refused(lambda: HolidayCalendar(frozenset({0})))
    refused(lambda: HolidayCalendar(frozenset(range(1, 8))))
    refused(lambda: HolidayCalendar(holidays=frozenset({"2024-12-25"})))


def test_periods() -> None:
    gap = (PERIODS[0], PERIODS[2])
    for periods in ((), gap, PERIODS[::-1], 6, None, [START]):
        refused(lambda periods=periods: make_schedule(TERMS, usd(100), annual_rate=0, periods=periods))
    refused(lambda: Period(START, START, START))


@pytest.mark.parametrize("field", ["grace_principal", "grace_interest", "interest_free"])
def test_graces_that_leave_nothing(field: str) -> None:
    terms = Terms(**(SETTLED | {field: 6}))
    error = refused(lambda: make_schedule(terms, usd(100), annual_rate=0, periods=PERIODS))
    assert field in error.problem


def test_tranches() -> None:
    def lend(*flows: CashFlow) -> Callable[[], object]:
        return lambda: make_schedule(TERMS, flows, annual_rate=0, periods=PERIODS)

    first = CashFlow(START, usd(1))
    refused(lend(CashFlow(date(2023, 12, 31), usd(1))))
    refused(lend(CashFlow(date(2024, 2, 1), usd(1))))
    refused(lend(first, CashFlow(PERIODS[-1].end, usd(1))))
    refused(lend(first, CashFlow(date(2030, 1, 1), usd(1))))
    refused(lend(first, CashFlow(START, eur(1))))
    refused(lambda: CashFlow(START, usd(0)))
    refused(lambda: CashFlow(START, 5))  # type: ignore[arg-type]


def test_multiples() -> None:
    small = Terms(**(SETTLED | {"installment_multiple": D(100)}))
    refused(lambda: make_schedule(small, usd(60), annual_rate=0, periods=PERIODS))
    fine = Terms(**(SETTLED | {"installment_multiple": D("0.5")}))
    refused(lambda: make_schedule(fine, Money(100, "JPY"), annual_rate=0, periods=PERIODS))
    greedy = Terms(**(SETTLED | {"down_payment": D("0.9"), "installment_multiple": D(1)}))
    refused(lambda: make_schedule(greedy, usd(1), annual_rate=0, periods=PERIODS))


def test_level_installments() -> None:
    for balance, factors in ((usd(0), [0]), (5, [0]), (usd(5), []), (usd(5), [0.1]), (usd(5), [D("-0.1")])):
        refused(lambda b=balance, f=factors: level_installment(b, f, rounding=Rounding.HALF_UP))


@pytest.mark.parametrize(
    "act",
    [
        lambda: pmt(0.1, 12, 100), lambda: pmt(D("0.1"), 12.0, 100), lambda: pmt(D("0.1"), 12, 100.0),
        lambda: pmt(-1, 12, 100), lambda: pmt(D("0.1"), -1, 100), lambda: pmt(D("0.1"), 0, 100),
        lambda: pmt(D("0.1"), 10**9, 100), lambda: pv(D("0.1"), 12, 1, 0, "end"), lambda: fv(True, 1, 1, 1),
        lambda: ipmt(D("0.1"), 1.0, 12, 100), lambda: nper(D("0.1"), 1, "100"), lambda: npv(-1, [1, 2]),
        lambda: rate(12, 1.5, 100, 0), lambda: irr([1.0, -2]), lambda: mirr([1, 2], 0, 0), lambda: mirr([-1], 0, 0),
        lambda: pmt_odd_first(D("0.01"), 12, 100, 0), lambda: pmt_odd_first(D("0.01"), 12, 100, 30.0),
    ],
)  # fmt: skip
def test_time_value(act: Callable[[], object]) -> None:
    refused(act)


def test_extremes_are_computed() -> None:
    assert pmt(D("1E-20"), 12, 1200) == pytest.approx(D(-100), abs=D("1e-15"))
    assert pmt(10**6, 1000, 1) == -(10**6)
    assert fv(10**6, 10**6, 0, 1).adjusted() > 10**6
    assert pmt(Fraction(1, 150), 60, 15000).quantize(D("1e-20")) == D("-304.14591432620523703387")
