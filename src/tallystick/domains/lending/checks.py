"""Checks of arguments that every function of schedule mathematics makes the same way."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final, TypeVar

from tallystick.errors import Invalid

__all__ = ["Exact", "as_date", "as_fraction", "as_member", "as_whole"]

Exact = int | Decimal | Fraction
"""A number without rounding error; floats are refused everywhere."""

_LONGEST_EXPONENT: Final = 1000

E = TypeVar("E", bound=StrEnum)


def as_fraction(value: Exact, field: str) -> Fraction:
    """Return an int, Decimal or Fraction as a Fraction; raises ``Invalid`` for floats, NaN and infinities."""
    if isinstance(value, Decimal):
        # 1E+999999999 is a few bytes of text and a number that fills the memory.
        if not value.is_finite() or (value and abs(value.adjusted()) > _LONGEST_EXPONENT):
            raise Invalid(
                f"The {field} is not a number that can be computed with.",
                field=field,
                remedy="Refuse NaN, Infinity and exponents beyond a thousand earlier.",
            )
        return Fraction(value)
    if value.__class__ is int or isinstance(value, Fraction):
        return Fraction(value)
    raise Invalid(
        f"The {field} must be an int, Decimal or Fraction.",
        field=field,
        remedy="Floats are refused because they are not exact; write Decimal('0.12').",
    )


def as_whole(value: int, field: str, *, least: int, most: int) -> int:
    """Return an int within bounds; raises ``Invalid`` for anything else, bools included."""
    if value.__class__ is not int or not least <= value <= most:
        raise Invalid(
            f"The {field} is out of range.", field=field, remedy=f"Give a whole number from {least} to {most}."
        )
    return value


def as_date(value: date, field: str) -> date:
    """Return a calendar date; raises ``Invalid`` for a datetime, because a business date has no time of day."""
    if value.__class__ is not date:
        raise Invalid(f"The {field} is not a date.", field=field, remedy="Pass a datetime.date without a time.")
    return value


def as_member(value: E, kind: type[E], field: str) -> E:
    """Return a member of an enumeration; raises ``Invalid`` for its text or anything else."""
    if value.__class__ is not kind:
        raise Invalid(
            f"The {field} is not one that is known.",
            field=field,
            remedy=f"Use a member of {kind.__name__}: {', '.join(member.name for member in kind)}.",
        )
    return value
