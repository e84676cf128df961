"""Bars, shades, scales and SVG text."""

from __future__ import annotations

from fractions import Fraction
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.cli.chart import LEVELS, amount, bar, ceiling, level, percent, shade
from tallystick.cli.svg import Drawing
from tallystick.money import Money

values = st.fractions(min_value=0, max_value=1000)


@pytest.mark.parametrize(
    ("value", "end"),
    [("0", "1"), ("1", "1"), ("1.1", "2"), ("2.2", "2.5"), ("3", "5"), ("7", "10"), ("42.3", "50"), ("0.03", "0.05")],
)
def test_a_scale_ends_on_a_round_number(value: str, end: str):
    assert ceiling(Fraction(value)) == Fraction(end)


@given(values.filter(bool))
def test_a_scale_holds_its_value_and_is_not_too_long(value: Fraction):
    assert value <= ceiling(value) <= value * Fraction(5, 2)


@given(values, st.integers(1, 60))
def test_a_bar_is_as_long_as_its_part(value: Fraction, width: int):
    scale = Fraction(1000)
    drawn = bar(value, scale, width)
    assert len(drawn) <= width
    assert bool(drawn) == (value > 0)
    assert abs(len(drawn) - value / scale * width) <= 1
    plain = bar(value, scale, width, ascii_only=True)
    assert set(plain) <= {"#"}
    assert len(plain) <= width


@given(values)
def test_shades_grow(value: Fraction):
    step = level(value, Fraction(1000))
    assert (step == 0) == (value == 0)
    assert step <= level(value + 1, Fraction(1000)) < LEVELS
    assert shade(step, ascii_only=True).isascii()


def test_numbers_for_people():
    assert [percent(Fraction(n, 1000)) for n in (0, 5, 125, 1000)] == ["0.0 %", "0.5 %", "12.5 %", "100.0 %"]
    assert percent(Fraction(1, 3), 2) == "33.33 %"
    assert amount(Money(123456789, "USD")) == "1,234,567.89"


def test_text_in_a_drawing_is_text():
    drawing = Drawing(100, 50, title='A & <b>"', description="<script>")
    drawing.text(1, 2, "x < y & z", style='a"b')
    drawing.rect(0, 0, Fraction(1, 3), 2, "one", tip="1 < 2")
    drawing.curve([(1, 1), (2, 2)], '#000"')
    drawing.curve([(1, 1)], "#000")
    drawing.line((0, 0), (1, 1))
    root = ElementTree.fromstring(str(drawing))
    texts = {e.text for e in root.iter() if e.text and e.text.strip()}
    assert {'A & <b>"', "<script>", "x < y & z", "1 < 2"} <= texts
    assert 'width="0.33"' in str(drawing)
