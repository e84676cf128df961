"""Solving for a rate: bracket a change of sign, then close in on it; in Decimal, to more digits than are returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from typing import Final

from tallystick.errors import Invalid

__all__ = ["DIGITS", "WORKING_DIGITS", "all_roots", "digits", "root_near", "shown"]

DIGITS: Final = 28
"""The significant digits of what is returned: those of Decimal itself."""
WORKING_DIGITS: Final = 50
_FINE: Final = Decimal("1.02")
_LEAST: Final = Decimal("1e-12")
_MOST: Final = Decimal("1e15")
_CLOSE: Final = Decimal("1e-40")


def digits(precision: int = WORKING_DIGITS) -> Context:
    """A context of that many digits, in which no power of a rate is too large."""
    return Context(prec=precision, Emax=MAX_EMAX, Emin=MIN_EMIN)


def shown(value: Decimal) -> Decimal:
    """Return a value with the digits that results have."""
    with localcontext(digits(DIGITS)):
        return +value


def root_near(worth: Callable[[Decimal], Decimal], guess: Decimal) -> Decimal:
    """Return the rate above -100 % nearest the guess (in steps of growth) at which ``worth`` is zero.

    Steps away from the guess widen from 2 %, both ways in turn, until the sign changes. Raises ``Invalid`` when it
    does not between -100 % and 10**15.
    """
    with localcontext(digits()):
        up = down = (1 + guess, worth(guess))
        if not up[1]:
            return shown(guess)
        for ratio in _widening():
            if up[0] <= _MOST:
                ahead = _at(worth, up[0] * ratio)
                if _opposite(up[1], ahead[1]):
                    return shown(_between(worth, up, ahead))
                up = ahead
            if down[0] >= _LEAST:
                ahead = _at(worth, down[0] / ratio)
                if _opposite(down[1], ahead[1]):
                    return shown(_between(worth, ahead, down))
                down = ahead
            if up[0] > _MOST and down[0] < _LEAST:
                break
    raise _no_rate()


def all_roots(worth: Callable[[Decimal], Decimal], low: Decimal, high: Decimal) -> list[Decimal]:
    """Return the rates between two bounds at which ``worth`` changes its sign, each step of growth being 2 %."""
    found: list[Decimal] = []
    with localcontext(digits()):
        before = _at(worth, 1 + low)
        while before[0] <= 1 + high:
            after = _at(worth, before[0] * _FINE)
            if not before[1]:
                found.append(shown(before[0] - 1))
            elif after[1] and _opposite(before[1], after[1]):
                found.append(shown(_between(worth, before, after)))
            before = after
    return found


def _widening() -> Iterator[Decimal]:
    ratio = _FINE
    while True:
        yield ratio
        ratio = min(ratio * ratio, Decimal(10)) if ratio > Decimal("1.1") else ratio * Decimal("1.01")


_Point = tuple[Decimal, Decimal]
"""A growth (one plus the rate) and what it is worth there."""


def _at(worth: Callable[[Decimal], Decimal], growth: Decimal) -> _Point:
    return growth, worth(growth - 1)


def _opposite(one: Decimal, other: Decimal) -> bool:
    return not other or (one > 0) != (other > 0)


def _between(worth: Callable[[Decimal], Decimal], low: _Point, high: _Point) -> Decimal:
    """Regula falsi in the Illinois form, with a bisection whenever a step does not halve the bracket.

    (M. Dowell and P. Jarratt, "A modified regula falsi method for computing the root of an equation", BIT 11, 1971.)
    """
    (left, at_left), (right, at_right) = low, high
    for _ in range(400):
        width = right - left
        if not at_left or not at_right or width <= _CLOSE * right:
            break
        for middle in ((left * at_right - right * at_left) / (at_right - at_left), None):
            point = middle if middle is not None and left < middle < right else (left + right) / 2
            value = worth(point - 1)
            if not value:
                return point - 1
            if (value > 0) == (at_left > 0):
                left, at_left, at_right = point, value, at_right / 2
            else:
                right, at_right, at_left = point, value, at_left / 2
            if right - left <= width / 2:
                break
    return (left if not at_left or abs(at_left) < abs(at_right) else right) - 1


def _no_rate() -> Invalid:
    return Invalid(
        "No rate makes these payments worth the same.",
        field="rate",
        remedy="Check the signs: what is received and what is paid must differ in sign and be able to balance.",
    )
