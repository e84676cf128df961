"""Pictures made of characters: bars, shades and small curves, in Unicode blocks or plain ASCII."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Final

from tallystick.money import Money

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_SHADES: Final = ("·", "░", "▒", "▓", "█")
_ASCII_SHADES: Final = (".", "-", "+", "x", "#")
LEVELS: Final = len(_SHADES)
"""How many shades there are; the first is for nothing at all."""


def percent(value: Fraction, places: int = 1) -> str:
    """A fraction as a percentage, rounded half to even, without passing through a float."""
    scaled = round(value * 100 * 10**places)
    return f"{Decimal(scaled).scaleb(-places):.{places}f} %"


def amount(money: Money) -> str:
    """An amount for people, in groups of three digits, without its asset."""
    return f"{money.amount:,}"


def ceiling(value: Fraction) -> Fraction:
    """The least of 1, 2, 2.5 and 5, times a power of ten, that a value does not pass: where a scale ends."""
    if value <= 0:
        return Fraction(1)
    power = Fraction(1)
    while power * 10 < value:
        power *= 10
    while power >= value:
        power /= 10
    return next(step for n in (1, 2, Fraction(5, 2), 5, 10) if (step := n * power) >= value)


def bar(value: Fraction, scale: Fraction, width: int, *, ascii_only: bool = False, mark: str = "") -> str:
    """A bar of at most so many characters, to an eighth of one; what is not nothing is at least a sliver.

    With a ``mark`` it is so many of that character instead.
    """
    if value <= 0:
        return ""
    eighths = max(1, round(min(value, scale) / scale * width * 8))
    if ascii_only or mark:
        return (mark or "#") * max(1, round(Fraction(eighths, 8)))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def level(value: Fraction, scale: Fraction) -> int:
    """The shade of a value on a scale: 0 for nothing, else 1 to the most."""
    if value <= 0:
        return 0
    return min(LEVELS - 1, 1 + int(value / scale * (LEVELS - 1)))


def shade(step: int, *, ascii_only: bool = False) -> str:
    """The character of a shade."""
    return (_ASCII_SHADES if ascii_only else _SHADES)[step]
