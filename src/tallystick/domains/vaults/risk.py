"""The arithmetic of vaults: health, LTV, liquidation; exact, and the same as the database's.

Values and prices are Decimals of one quote, ratios fractions of 1. What is in favour of the borrower is rounded down,
to eighteen decimals unless a function says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_DOWN, Context, Decimal
from typing import Any, Final

import msgspec

from tallystick.errors import Invalid

_EXACT: Final = Context(prec=200)
_STEP: Final = Decimal(1).scaleb(-18)


class Liquidity(msgspec.Struct, frozen=True):
    """What may still be borrowed, or what is missing; one of the two is zero."""

    liquidity: Decimal
    shortfall: Decimal


class Seizure(msgspec.Struct, frozen=True):
    """What a liquidation repays and what it takes, in base units."""

    repaid: int
    seized: int


def health_factor(collateral: Iterable[tuple[Any, Any]], debt: Any) -> Decimal | None:
    """The sum of value x threshold over collateral, by debt; None without debt (Aave, GenericLogic).

    Below 1 the position may be liquidated.
    """
    owed = _number(debt, "debt")
    if owed == 0:
        return None
    return _divide(_weighted(collateral), owed)


def loan_to_value(collateral: Any, debt: Any) -> Decimal | None:
    """Debt by collateral; None without debt, ``Infinity`` without collateral."""
    held, owed = _number(collateral, "collateral"), _number(debt, "debt")
    if owed == 0:
        return None
    return Decimal("Infinity") if held == 0 else _divide(owed, held)


def collateral_ratio(collateral: Any, debt: Any) -> Decimal | None:
    """Collateral by debt, as Maker counts: 1.8 is 180 %. None without debt."""
    held, owed = _number(collateral, "collateral"), _number(debt, "debt")
    return None if owed == 0 else _divide(held, owed)


def liquidation_price(debt: Any, ratio: Any, quantity: Any) -> Decimal:
    """The price of one collateral unit at which the collateral ratio falls to ``ratio`` (Maker, liquidation FAQ)."""
    units = _number(quantity, "quantity")
    if units == 0:
        raise Invalid("Without collateral there is no price at which it is liquidated.", field="quantity")
    return _divide(_EXACT.multiply(_number(debt, "debt"), _number(ratio, "ratio")), units)


def max_debt(quantity: Any, price: Any, ratio: Any) -> Decimal:
    """The most that may be owed against collateral at a collateral ratio."""
    least = _number(ratio, "ratio")
    if least == 0:
        raise Invalid("A collateral ratio is above zero.", field="ratio")
    return _divide(_EXACT.multiply(_number(quantity, "quantity"), _number(price, "price")), least)


def account_liquidity(
    supplied: Iterable[tuple[Any, Any]], debt: Any, *, borrow: Any = 0, redeem: Iterable[tuple[Any, Any]] = ()
) -> Liquidity:
    """What may still be borrowed against (value, collateral factor) pairs, after a borrow and a redemption.

    Compound's getHypotheticalAccountLiquidity.
    """
    limit = _weighted(supplied)
    out = _EXACT.add(
        _EXACT.add(_number(debt, "debt"), _number(borrow, "borrow")),
        _weighted(redeem),
    )
    rest = _EXACT.subtract(limit, out)
    return Liquidity(max(rest, Decimal(0)), max(-rest, Decimal(0)))


def close_factor(
    health: Any,
    *,
    factor: Any = Decimal("0.5"),
    full_close_health: Any = Decimal("0.95"),
    collateral: Any | None = None,
    debt: Any | None = None,
    min_position: Any = 0,
) -> Decimal:
    """What part of the debt may be liquidated at once; 0 for a healthy position.

    ``factor`` of it above ``full_close_health``, all of it at that or less (Aave, LiquidationLogic: the comparison is
    strict), and all of it where collateral or debt is worth less than ``min_position`` (Aave v3.3).
    """
    now = _number(health, "health")
    if now >= 1:
        return Decimal(0)
    least = _number(min_position, "min_position")
    small = any(side is not None and _number(side, "position") < least for side in (collateral, debt))
    return Decimal(1) if small or now <= _number(full_close_health, "full_close_health") else _number(factor, "factor")


def seize(repay: int, *, held: int, debt_unit: Any, collateral_unit: Any, bonus: Any) -> Seizure:
    """What repaying ``repay`` base units of debt takes of ``held`` base units of collateral, bonus included.

    ``debt_unit`` and ``collateral_unit`` are the values of one base unit. Where the collateral ends, less is repaid,
    rounded up (Aave, _calculateAvailableCollateralToLiquidate).
    """
    if repay.__class__ is not int or held.__class__ is not int or repay < 0 or held < 0:
        raise Invalid("Base units are whole numbers from 0.", field="repay")
    paid_for = _EXACT.multiply(_number(debt_unit, "debt_unit"), _EXACT.add(Decimal(1), _number(bonus, "bonus")))
    unit = _number(collateral_unit, "collateral_unit")
    if unit == 0 or paid_for == 0:
        raise Invalid("A base unit is worth something.", field="collateral_unit")
    taken = int(_EXACT.divide_int(_EXACT.multiply(Decimal(repay), paid_for), unit))
    if taken <= held:
        return Seizure(repay, taken)
    worth = _EXACT.multiply(Decimal(held), unit)
    whole = int(_EXACT.divide_int(worth, paid_for)) + bool(_EXACT.remainder(worth, paid_for))
    return Seizure(min(repay, whole), held)


def _weighted(pairs: Iterable[tuple[Any, Any]]) -> Decimal:
    total = Decimal(0)
    for value, factor in pairs:
        total = _EXACT.add(total, _EXACT.multiply(_number(value, "value"), _number(factor, "factor")))
    return total


def _divide(a: Decimal, b: Decimal) -> Decimal:
    return _EXACT.divide(a, b).quantize(_STEP, rounding=ROUND_DOWN, context=_EXACT)


def _number(value: Any, field: str) -> Decimal:
    if value.__class__ not in (Decimal, int, str):
        raise Invalid(
            "Values of vaults are Decimals, ints or texts.", field=field, remedy="Floats are not exact; write '1.5'."
        )
    try:
        found = Decimal(value)
    except ArithmeticError:
        found = Decimal("NaN")
    if not found.is_finite() or found < 0 or abs(found.adjusted()) > 90:
        raise Invalid("Values of vaults are finite and not negative.", field=field)
    return found
