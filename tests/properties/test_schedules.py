"""Schedules obey the laws of money for all terms: nothing is lost, nothing is negative, everything is repaid."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal as D
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tallystick.assets import asset
from tallystick.domains.lending.apr import apr_eu, apr_us
from tallystick.domains.lending.calendar import BusinessDay, Frequency, HolidayCalendar, MonthEnd
from tallystick.domains.lending.cashflow import CashFlow
from tallystick.domains.lending.daycount import DayCount, year_fraction
from tallystick.domains.lending.level import level_installment
from tallystick.domains.lending.periods import Period, fraction_of, make_periods
from tallystick.domains.lending.schedule import InstallmentKind, Schedule, make_schedule
from tallystick.domains.lending.terms import Amortization, EmiAdjustment, InterestCalc, InterestMethod, Terms
from tallystick.domains.lending.tvm import fv, ipmt, irr, nper, npv, pmt, ppmt, pv, rate
from tallystick.errors import Invalid
from tallystick.money import Money, Rounding, round_ratio, sum_of

WEEKENDS = HolidayCalendar(frozenset({6, 7}), frozenset({date(2024, 1, 1), date(2024, 12, 25), date(2024, 12, 26)}))
COMBINATIONS = list(product(InterestMethod, Amortization, InterestCalc))

rates = st.decimals(0, 2, places=6) | st.sampled_from([D(0), D("0.12"), D("0.00000001")])
amounts = st.integers(1, 10**9) | st.integers(1, 50) | st.integers(10**20, 10**30)
currencies = st.sampled_from(["JPY", "USD", "KWD"])
starts = st.dates(date(1999, 1, 1), date(2045, 12, 31)) | st.sampled_from(
    [date(2023, 1, 31), date(2024, 1, 30), date(2024, 2, 29), date(2023, 2, 28), date(2023, 12, 31), date(2024, 12, 12)]
)


@st.composite
def policies(draw: st.DrawFn, combination: tuple[Any, Any, Any] | None = None, count: int = 36) -> Terms:
    method, amortization, calc = combination or draw(st.sampled_from(COMBINATIONS))
    graces = st.integers(0, min(count - 1, 5))
    bullet, interest_only = (amortization is kind for kind in (Amortization.BULLET, Amortization.INTEREST_ONLY))
    shares = st.none() | st.sampled_from([D("0.05"), D("0.3"), D("0.9")])
    return Terms(
        interest_method=method,
        amortization=amortization,
        interest_calc=calc,
        day_count=draw(st.sampled_from(DayCount)),
        frequency=draw(st.sampled_from(Frequency)),
        every=draw(st.integers(1, 4)),
        grace_principal=0 if bullet or interest_only else draw(graces),
        grace_interest=0 if bullet else draw(graces),
        interest_free=0 if bullet else draw(graces),
        rounding=draw(st.sampled_from(Rounding)),
        installment_rounding=draw(st.none() | st.sampled_from(Rounding)),
        emi_adjustment=draw(st.sampled_from(EmiAdjustment)),
        principal_share=draw(shares) if amortization is Amortization.EQUAL_PRINCIPAL else None,
        down_payment=draw(st.none() | st.just(D("0.25"))),
        month_end=draw(st.sampled_from(MonthEnd)),
        business_day=draw(st.sampled_from(BusinessDay)),
        accrue_to_due=draw(st.booleans()),
    )


@st.composite
def loans(draw: st.DrawFn, combination: tuple[Any, Any, Any] | None = None) -> tuple[Terms, list[CashFlow], Schedule]:
    count = draw(st.integers(1, 24))
    terms = draw(policies(combination, count))
    start = draw(starts)
    odd = draw(st.none() | st.integers(1, 100))
    first_due = None if odd is None else start + timedelta(odd)
    periods = make_periods(terms, start=start, count=count, first_due=first_due, holidays=WEEKENDS)
    code, lent = draw(currencies), draw(amounts)
    flows = [CashFlow(start, Money(lent, code))]
    if terms.down_payment:
        assume(lent >= 3)
    days = (periods[-1].end - start).days
    for later in draw(st.lists(st.integers(0, days - 1), max_size=2)):
        flows.append(CashFlow(start + timedelta(later), Money(lent + later, code)))
    return terms, flows, make_schedule(terms, flows, annual_rate=draw(rates), periods=periods)


def lawful(flows: list[CashFlow], schedule: Schedule) -> None:
    rows = schedule.installments
    lent = sum_of(flow.amount for flow in flows)
    assert schedule.principal == lent
    assert schedule.total == lent + schedule.interest == sum_of(row.total for row in rows)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert row.principal.units >= 0
        assert row.interest.units >= 0
        assert row.balance.units >= 0
    assert rows[-1].balance.units == 0
    regular = [row for row in rows if row.kind is InstallmentKind.REGULAR]
    assert all(before.due < after.due for before, after in pairwise(regular))
    assert all(row.start < row.due for row in regular)
    if len(flows) == 1:
        assert all(before.balance >= after.balance for before, after in pairwise(rows))
        assert all(before.balance == after.balance + after.principal for before, after in pairwise(rows))


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda parts: "-".join(parts))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_combination_repays_exactly_what_was_lent(combination: tuple[Any, Any, Any], data: st.DataObject) -> None:
    _, flows, schedule = data.draw(loans(combination))
    lawful(flows, schedule)


@settings(max_examples=80, deadline=None)
@given(
    policies(), rates, st.integers(1, 10**7), st.sampled_from([D("0.5"), D(1), D(50)]), st.sampled_from(["USD", "KWD"])
)
def test_multiples(terms: Terms, annual: D, lent: int, multiple: D, code: str) -> None:
    terms = _with(terms, installment_multiple=multiple)
    periods = make_periods(terms, start=date(2024, 1, 31), count=12)
    try:
        schedule = make_schedule(terms, Money(lent, code), annual_rate=annual, periods=periods)
    except Invalid as refused:
        if refused.field in {"installment_multiple", "down_payment"}:
            return
        raise
    lawful(list(schedule.tranches), schedule)
    units = int(multiple * 10 ** asset(code).exponent)
    equal = terms.amortization is Amortization.EQUAL_INSTALLMENTS
    plain = not (terms.grace_principal or terms.grace_interest or terms.interest_free)
    if equal and plain:
        for row in schedule.installments:
            if row.balance and row.principal:
                assert row.total.units % units == 0


@settings(max_examples=60, deadline=None)
@given(policies(), amounts.filter(lambda units: units > 2), starts, currencies)
def test_without_a_rate_there_is_no_interest(terms: Terms, lent: int, start: date, code: str) -> None:
    periods = make_periods(terms, start=start, count=12)
    schedule = make_schedule(terms, Money(lent, code), annual_rate=0, periods=periods)
    assert schedule.interest == Money.zero(code)
    lawful(list(schedule.tranches), schedule)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(COMBINATIONS), st.sampled_from(DayCount), st.sampled_from(Rounding), rates, amounts, starts)
def test_one_installment_is_the_principal_and_its_interest(
    combination: tuple[Any, Any, Any], count: DayCount, rounding: Rounding, annual: D, lent: int, start: date
) -> None:
    terms = _plain(combination, day_count=count, rounding=rounding)
    periods = make_periods(terms, start=start, count=1)
    schedule = make_schedule(terms, Money(lent, "USD"), annual_rate=annual, periods=periods)
    (only,) = schedule.installments
    exact = lent * Fraction(annual) * fraction_of(terms, periods[0], periods[0].start, periods[0].end)
    assert only.principal.units == lent
    assert only.interest.units == round_ratio(exact.numerator, exact.denominator, rounding)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(InterestCalc), st.sampled_from(DayCount), st.sampled_from(EmiAdjustment), st.sampled_from(Rounding),
    st.integers(2, 60), rates, st.integers(10**6, 10**12), starts,
)  # fmt: skip
def test_equal_installments_are_equal(
    calc: InterestCalc, count: DayCount, adjustment: EmiAdjustment, rounding: Rounding,
    installments: int, annual: D, lent: int, start: date,
) -> None:  # fmt: skip
    terms = _plain(
        (InterestMethod.DECLINING_BALANCE, Amortization.EQUAL_INSTALLMENTS, calc),
        day_count=count, rounding=rounding, emi_adjustment=adjustment,
    )  # fmt: skip
    periods = make_periods(terms, start=start, count=installments)
    schedule = make_schedule(terms, Money(lent, "USD"), annual_rate=annual, periods=periods)
    level, last = schedule.installments[0].total, schedule.installments[-1].total
    lawful(list(schedule.tranches), schedule)
    # A long month's interest can exceed a level that is hardly more than interest; the level is then found again.
    if not all(row.principal for row in schedule.installments):
        return
    if all(row.balance for row in schedule.installments[:-1]):
        assert {row.total for row in schedule.installments[:-1]} == {level}
    factors = [Fraction(annual) * fraction_of(terms, period, period.start, period.end) for period in periods]
    plain = level_installment(Money(lent, "USD"), factors, rounding=rounding)
    if adjustment is EmiAdjustment.NONE:
        assert level == plain
        return
    unadjusted = make_schedule(_with(terms, emi_adjustment=EmiAdjustment.NONE), Money(lent, "USD"),
                               annual_rate=annual, periods=periods)  # fmt: skip
    assert abs(last - level) <= abs(unadjusted.installments[-1].total - plain)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(Amortization), st.sampled_from(InterestCalc), rates, amounts, st.integers(1, 30), starts)
def test_flat_interest_is_the_whole_term_s(
    amortization: Amortization, calc: InterestCalc, annual: D, lent: int, count: int, start: date
) -> None:
    terms = _plain((InterestMethod.FLAT, amortization, calc), day_count=DayCount.ACTUAL_365)
    periods = make_periods(terms, start=start, count=count)
    schedule = make_schedule(terms, Money(lent, "USD"), annual_rate=annual, periods=periods)
    years = Fraction(count, 12)
    if calc is InterestCalc.DAILY:
        years = year_fraction(start, periods[-1].end, DayCount.ACTUAL_365)
    exact = lent * Fraction(annual) * years
    assert schedule.interest.units == round_ratio(exact.numerator, exact.denominator, Rounding.HALF_EVEN)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(COMBINATIONS), rates, amounts, st.integers(1, 24), starts)
def test_the_asset_decides_only_what_a_unit_is(
    combination: tuple[Any, Any, Any], annual: D, lent: int, count: int, start: date
) -> None:
    terms = _plain(combination)
    periods = make_periods(terms, start=start, count=count)
    in_units = [
        [
            (row.due, row.principal.units, row.interest.units, row.balance.units)
            for row in make_schedule(terms, Money(lent, code), annual_rate=annual, periods=periods).installments
        ]
        for code in ("JPY", "USD", "KWD")
    ]
    assert in_units[0] == in_units[1] == in_units[2]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(COMBINATIONS), rates, st.integers(3, 24), starts, st.integers(0, 20), amounts, amounts)
def test_a_tranche_changes_no_earlier_installment(
    combination: tuple[Any, Any, Any], annual: D, count: int, start: date, after: int, lent: int, more: int
) -> None:
    terms = _plain(combination)
    assume(terms.amortization is not Amortization.BULLET)
    periods = make_periods(terms, start=start, count=count)
    within = min(after, count - 2)
    first = CashFlow(start, Money(lent, "USD"))
    alone = make_schedule(terms, [first], annual_rate=annual, periods=periods)
    both = make_schedule(
        terms, [CashFlow(periods[within].end, Money(more, "USD")), first], annual_rate=annual, periods=periods
    )
    for one, other in zip(alone.installments[: within + 1], both.installments, strict=False):
        assert (one.principal, one.interest) == (other.principal, other.interest)
    lawful([first, CashFlow(periods[within].end, Money(more, "USD"))], both)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([kind for kind in Amortization if kind is not Amortization.BULLET]),
    st.decimals("0.01", "1", places=4), st.integers(2, 24), st.dates(date(2000, 1, 1), date(2040, 1, 1)),
)  # fmt: skip
def test_the_rate_of_a_loan_without_fees_is_its_apr(
    amortization: Amortization, annual: D, count: int, start: date
) -> None:
    assume(start.day <= 28)
    terms = _plain((InterestMethod.DECLINING_BALANCE, amortization, InterestCalc.PER_PERIOD))
    periods = make_periods(terms, start=start, count=count)
    lent = Money(10**20, "USD")
    schedule = make_schedule(terms, lent, annual_rate=annual, periods=periods)
    found = apr_us([CashFlow(start, lent)], schedule.payments())
    assert abs(found.rate - annual) < D("1e-9")
    effective = apr_eu([CashFlow(start, lent)], schedule.payments())
    present = sum(flow.amount.units / (1 + effective) ** (D((flow.on - start).days) / 365)
                  for flow in schedule.payments())  # fmt: skip
    assert abs(present / lent.units - 1) < D("1e-20")


@settings(max_examples=100, deadline=None)
@given(st.dates(date(1, 1, 1), date(9999, 12, 31)), st.integers(0, 4000), st.integers(0, 4000))
def test_actual_day_counts_add_up(start: date, one: int, other: int) -> None:
    assume((date.max - start).days >= one + other)
    middle = start + timedelta(one)
    end = middle + timedelta(other)
    for count in DayCount:
        whole = year_fraction(start, end, count)
        assert whole >= 0
        if count is not DayCount.THIRTY_360:
            assert year_fraction(start, middle, count) + year_fraction(middle, end, count) == whole


@settings(max_examples=60, deadline=None)
@given(st.decimals("-0.5", "3", places=6), st.integers(1, 400), st.integers(1, 10**9), st.integers(-(10**6), 10**6))
def test_the_time_value_functions_undo_each_other(each: D, periods: int, now: int, later: int) -> None:
    payment = pmt(each, periods, now, later)
    scale = max(abs(payment), D(now), abs(D(later)))
    if each >= 0:
        assert abs(pv(each, periods, payment, later) - now) <= scale * D("1e-15")
    if 0 <= each < 1 and periods < 100:
        grown = fv(each, periods, payment, now)
        assert abs(grown - later) <= scale * (1 + each) ** periods * D("1e-20")
        for per in {1, periods}:
            parts = ipmt(each, per, periods, now, later) + ppmt(each, per, periods, now, later)
            assert abs(parts - payment) <= scale * D("1e-20")


@settings(max_examples=40, deadline=None)
@given(st.decimals("0.0001", "0.5", places=6), st.integers(2, 120), st.integers(100, 10**9))
def test_solved_rates_and_periods(each: D, periods: int, now: int) -> None:
    payment = pmt(each, periods, now)
    assert abs(rate(periods, payment, now, 0) - each) < D("1e-15")
    assert abs(nper(each, payment, now) - periods) < D("1e-6")
    flows = [now, *[payment] * periods]
    assert abs(irr(flows) - each) < D("1e-15")
    assert abs(npv(each, flows)) < now * D("1e-18")


def _plain(combination: tuple[Any, Any, Any], **others: Any) -> Terms:
    method, amortization, calc = combination
    settled: dict[str, Any] = {"day_count": DayCount.ACTUAL_ACTUAL, "frequency": Frequency.MONTHS, **others}
    return Terms(interest_method=method, amortization=amortization, interest_calc=calc, **settled)


def _with(terms: Terms, **changes: Any) -> Terms:
    return Terms(**{field: getattr(terms, field) for field in terms.__struct_fields__} | changes)


def test_a_period_has_days() -> None:
    with pytest.raises(Invalid):
        Period(date(2024, 1, 1), date(2024, 1, 1), date(2024, 1, 1))
