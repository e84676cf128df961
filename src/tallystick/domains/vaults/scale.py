"""Ratios that are searched: kept as whole hundred-millionths, because only integers serve an index under the wall."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tallystick.errors import Invalid

SCALE: Final = 100_000_000
"""How many parts a whole has: 1.35 is 135,000,000."""
_MOST: Final = Decimal(10_000)


def ratio(value: Decimal | str | int, field: str) -> Decimal:
    """A ratio as given by a caller, 0 to 10,000 with at most eight decimals. Raises ``Invalid``; floats are refused."""
    if value.__class__ not in (Decimal, str, int):
        raise Invalid("A ratio is a Decimal, a text or an int.", field=field, remedy="Write Decimal('0.80').")
    try:
        found = Decimal(value)
    except ArithmeticError:
        found = Decimal("NaN")
    if not found.is_finite() or not 0 <= found < _MOST or found != round(found, 8):
        raise Invalid(
            "A ratio is 0 to 10,000 with at most eight decimals.",
            field=field,
            remedy="Write fractions, not percent: Decimal('0.80') is 80 %.",
        )
    return found


def scaled(value: Decimal | str | int, field: str = "ratio") -> int:
    """A ratio in hundred-millionths: ``scaled("0.80")`` is 80,000,000. Raises ``Invalid``."""
    return int(ratio(value, field) * SCALE)


def unscaled(value: int | None) -> Decimal | None:
    """Hundred-millionths as a ratio; None stays None."""
    return None if value is None else Decimal(value).scaleb(-8)
