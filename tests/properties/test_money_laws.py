"""Money obeys its algebra for all amounts."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.assets import assets
from tallystick.errors import Invalid
from tallystick.money import CHAIN_MAX, Money, Rounding, round_ratio, sum_of

units = st.integers(-CHAIN_MAX, CHAIN_MAX) | st.integers(-1000, 1000)
dollars = st.builds(Money, units, st.just("USD"))
codes = st.sampled_from([known.code for known in assets()])
anything = st.builds(Money, units, codes)
weights = st.lists(
    st.integers(0, 10**9) | st.fractions(0, 100) | st.decimals(0, 1000, places=4), min_size=1, max_size=12
).filter(any)
roundings = st.sampled_from(Rounding)
rates = st.decimals(-100, 100, places=8)


@given(dollars, dollars, dollars)
def test_addition_is_associative_and_commutative(a: Money, b: Money, c: Money) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a


@given(dollars, dollars)
def test_subtraction_undoes_addition(a: Money, b: Money) -> None:
    assert (a + b) - b == a
    assert a - b == -(b - a)
    assert a + -a == Money.zero("USD")


@given(dollars, dollars, st.integers(-(10**9), 10**9))
def test_multiplication_distributes(a: Money, b: Money, n: int) -> None:
    assert (a + b) * n == a * n + b * n == n * (a + b)


@given(dollars, dollars)
def test_order_agrees_with_difference(a: Money, b: Money) -> None:
    assert (a < b) == (b > a) == ((a - b).units < 0)
    assert (a <= b) == (b >= a) == ((a - b).units <= 0)


@given(anything, anything)
def test_assets_never_mix(a: Money, b: Money) -> None:
    if a.asset == b.asset:
        assert (a + b).asset == a.asset
        return
    assert a != b
    for act in (lambda: a + b, lambda: a - b, lambda: a < b, lambda: sum([a, b]), lambda: sum_of([a, b])):
        with pytest.raises(Invalid):
            act()


@given(anything)
def test_text_and_decimal_round_trip(a: Money) -> None:
    assert Money.parse(str(a)) == a
    assert Money.of(a.amount, a.asset) == a


@given(dollars, weights)
def test_allocation_loses_nothing(a: Money, by: Sequence[int | Fraction | Decimal]) -> None:
    shares = a.allocate(by)
    assert sum_of(shares) == a
    assert shares == a.allocate(by)
    total = sum(map(Fraction, by))
    for share, weight in zip(shares, by, strict=True):
        exact = a.units * Fraction(weight) / total
        assert abs(share.units - exact) < 1
        assert share.units * a.units >= 0
        if not weight:
            assert not share


@given(dollars, weights)
def test_allocation_is_even_handed_with_the_sign(a: Money, by: Sequence[int | Fraction | Decimal]) -> None:
    assert (-a).allocate(by) == [-share for share in a.allocate(by)]


@given(dollars, st.integers(1, 400))
def test_split_loses_nothing_and_differs_by_one_unit(a: Money, parts: int) -> None:
    shares = a.split(parts)
    assert sum_of(shares) == a
    assert len(shares) == parts
    sizes = [abs(share.units) for share in shares]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1


@given(dollars, rates, roundings)
def test_a_rate_is_rounded_by_less_than_a_unit(a: Money, rate: Decimal, rounding: Rounding) -> None:
    got = a.times(rate, rounding=rounding).units
    exact = a.units * Fraction(rate)
    half = rounding in {Rounding.HALF_EVEN, Rounding.HALF_UP, Rounding.HALF_DOWN}
    assert abs(got - exact) <= Fraction(1, 2) if half else abs(got - exact) < 1
    if rounding is Rounding.FLOOR:
        assert got <= exact
    if rounding is Rounding.CEILING:
        assert got >= exact


@given(st.integers(-(10**12), 10**12), rates, roundings)
def test_rounding_agrees_with_the_decimal_module(n: int, rate: Decimal, rounding: Rounding) -> None:
    with localcontext() as context:
        context.prec = 60
        wanted = (n * rate).quantize(Decimal(1), rounding=f"ROUND_{rounding.name}")
    assert Money(n, "USD").times(rate, rounding=rounding).units == int(wanted)


@given(st.integers(), st.integers().filter(bool), roundings)
def test_exact_ratios_need_no_rounding(whole: int, by: int, rounding: Rounding) -> None:
    assert round_ratio(whole * by, by, rounding) == whole


@given(dollars, st.integers(-(10**6), 10**6).filter(bool))
def test_floor_division_and_rest_make_the_whole(a: Money, n: int) -> None:
    share, rest = divmod(a, n)
    assert share * n + rest == a
    assert share == a // n
    assert rest == a % n


@given(dollars, dollars.filter(bool))
def test_times_it_fits(a: Money, b: Money) -> None:
    count, rest = divmod(a, b)
    assert b * count + rest == a
    assert abs(rest) < abs(b)


@given(st.floats() | st.booleans() | st.complex_numbers())
def test_floats_and_their_kin_are_refused_everywhere(value: float | complex) -> None:
    one = Money(1, "USD")
    for act in (
        lambda: Money(value, "USD"), lambda: Money.of(value, "USD"), lambda: one + value, lambda: value + one,
        lambda: one - value, lambda: value - one, lambda: one * value, lambda: value * one, lambda: one // value,
        lambda: one % value, lambda: one / value, lambda: one.times(value, rounding=Rounding.UP), lambda: one < value,
        lambda: value < one, lambda: one.allocate([value]), lambda: one.split(value), lambda: sum([one], value),
        lambda: sum_of([value]),
    ):  # fmt: skip
        with pytest.raises(Invalid):
            act()


@given(st.text(max_size=40))
def test_parsing_any_text_gives_money_or_invalid(text: str) -> None:
    try:
        made = Money.parse(text)
    except Invalid:
        return
    assert Money.parse(str(made)) == made
