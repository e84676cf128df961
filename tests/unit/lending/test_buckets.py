"""Buckets, rates and spans of the calendar: what they take and what they refuse."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.domains.lending.buckets import USUAL, Buckets, DayRange
from tallystick.domains.lending.provisioning import MICROFINANCE, ProvisionRates
from tallystick.domains.lending.spans import Span, months_after, span_of
from tallystick.errors import Invalid


def test_text_and_ranges_are_the_same():
    assert Buckets.of("1-3", "4", "5+").ranges == (DayRange("1-3", 1, 3), DayRange("4", 4, 4), DayRange("5+", 5))
    assert [r.span for r in Buckets.of("1-3", "4", "5+").ranges] == ["1-3", "4", "5+"]


@pytest.mark.parametrize(
    "spans",
    [
        (),
        ("1-3", "3-30"),  # overlap
        ("1-3", "2"),
        ("1-3", "5-30"),  # gap
        ("4-30", "1-3"),  # out of order
        ("1+", "31-60"),
        ("3-1",),
        ("0-3",),
        ("-3",),
        ("1-",),
        ("1-3+",),
        ("1-3-5",),
        ("a",),
        ("",),
        ("²",),
        (7,),
        ("1-99999",),
    ],
)
def test_what_is_no_sequence_of_ranges(spans: tuple[Any, ...]):
    with pytest.raises(Invalid):
        Buckets.of(*spans)


@pytest.mark.parametrize(
    "ranges",
    [
        (DayRange("a", 1, 3), DayRange("a", 4)),
        ("1-3",),
        (),
    ],
)
def test_names_are_there_once(ranges: Any):
    with pytest.raises(Invalid):
        Buckets(ranges)


@pytest.mark.parametrize("given_", [("", 1), ("a" * 41, 1), ("a\n", 1), (5, 1), ("a", 1.5), ("a", True), ("a", 2, 1)])
def test_a_range_is_named_and_whole(given_: tuple[Any, ...]):
    with pytest.raises(Invalid):
        DayRange(*given_)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.booleans(), st.integers(1, 9), st.integers(0, 400))
def test_a_day_is_in_one_range_and_a_query_finds_the_same(widths: list[int], ends: bool, first: int, day: int):
    ranges, at = [], first
    for n, width in enumerate(widths):
        last = at + width - 1 if ends or n < len(widths) - 1 else None
        ranges.append(DayRange(f"r{n}", at, last))
        at += width
    buckets = Buckets(tuple(ranges))
    found = [r for r in ranges if day in r]
    assert len(found) <= 1
    assert buckets.of_days(day) == (found[0] if found else None)
    place = sum(1 for bound in buckets.bounds if bound <= day)  # what width_bucket answers
    assert buckets.at(place) == buckets.of_days(day)


def test_the_usual_ranges_have_every_day():
    assert all(USUAL.of_days(day) is not None for day in range(1, 2000))
    assert USUAL.of_days(0) is None
    names = [(r.name, r.span) for r in USUAL.ranges]
    assert names[:3] == [("RANGE_1", "1-3"), ("RANGE_3", "4-30"), ("RANGE_30", "31-60")]
    assert names[-1] == ("RANGE_240", "241+")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rates": {"1-90": Decimal(0)}},
        {"rates": {"1-90": Decimal(0), "91-180": Decimal(0), "181+": Decimal(0), "x": Decimal(0)}},
        {"rates": {"1-90": Decimal(0), "91-180": 0.5, "181+": Decimal(1)}},
        {"rates": {"1-90": Decimal(0), "91-180": Decimal("1.1"), "181+": Decimal(1)}},
        {"rates": {"1-90": Decimal(0), "91-180": Decimal("NaN"), "181+": Decimal(1)}},
        {"rates": [Decimal(0)]},
        {"buckets": ("1-90",)},
        {"current": Decimal(-1)},
        {"restructured": 1},
    ],
)
def test_rates_name_every_range(wrong: dict[str, Any]):
    whole = {"buckets": MICROFINANCE.buckets, "rates": MICROFINANCE.rates}
    with pytest.raises(Invalid):
        ProvisionRates(**{**whole, **wrong})


def test_the_least_rate_of_a_restructured_loan():
    assert MICROFINANCE.of(None, restructured=False) == 0
    assert MICROFINANCE.of(None, restructured=True) == Decimal("0.5")
    assert MICROFINANCE.of("181+", restructured=True) == 1


@given(st.dates(date(1900, 1, 1), date(2200, 1, 1)), st.sampled_from(list(Span)))
def test_spans_cover_the_calendar_without_overlap(day: date, span: Span):
    start, end = span.start(day), span.end(day)
    assert start <= day <= end
    assert span.start(end) == start
    assert span.start(end + timedelta(days=1)) == end + timedelta(days=1)
    assert span.label(start) == span.label(end) == span.label(day)
    assert span.label(day) != span.label(end + timedelta(days=1))


def test_months_after_are_ends_of_months():
    assert [months_after(date(2023, 12, 7), n) for n in (0, 1, 2, 14)] == [
        date(2023, 12, 31),
        date(2024, 1, 31),
        date(2024, 2, 29),
        date(2025, 2, 28),
    ]
    assert Span.QUARTER.label(date(2026, 6, 30)) == "2026-Q2"


@pytest.mark.parametrize("value", ["fortnight", "", None, 7])
def test_an_unknown_span(value: Any):
    with pytest.raises(Invalid):
        span_of(value)
    with pytest.raises(Invalid):
        span_of("week", Span.MONTH)
