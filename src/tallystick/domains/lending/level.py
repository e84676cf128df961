"""The level installment: the equal payment that repays a balance over periods whose rates may differ."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

from tallystick.domains.lending.checks import Exact, as_fraction
from tallystick.errors import Invalid
from tallystick.money import Money, Rounding, round_ratio

__all__ = ["level_amount", "level_installment", "round_to_multiple"]


def level_installment(balance: Money, factors: Sequence[Exact], *, rounding: Rounding) -> Money:
    """Return the equal payment, rounded once to a minor unit, that repays a balance.

    ``factors`` are the interest rates of the periods (0.01 for a month at 12 % a year); one number repeated gives the
    ordinary annuity. Raises ``Invalid`` for a balance that is not money above zero, no factors, or a negative one.
    """
    if balance.__class__ is not Money or balance.units <= 0:
        raise Invalid("Only a balance above zero is repaid.", field="balance", remedy="Pass Money above zero.")
    exact = [as_fraction(factor, "factors") for factor in factors]
    if not exact or min(exact) < 0:
        raise Invalid(
            "The level installment needs a rate of zero or more for each period.",
            field="factors",
            remedy="Pass one factor a period, such as Decimal('0.01') for one percent.",
        )
    return Money(round_to_multiple(level_amount(balance.units, exact), 1, rounding), balance.asset)


def level_amount(balance: int, factors: Sequence[Fraction]) -> Fraction:
    """Return the exact level payment in minor units: P * prod(1 + r_k) / fn.

    fn_1 = 1 and fn_k = 1 + fn_(k-1) * (1 + r_k) (Apache Fineract ``ProgressiveEMICalculator``: ``calculateEMIValue``,
    ``fnValue``); with equal factors this is the annuity formula. One common denominator keeps the numbers integers:
    a product of fractions would be reduced at every step.
    """
    common = lcm(*(factor.denominator for factor in factors))
    growths = [common + factor.numerator * (common // factor.denominator) for factor in factors]
    product, fn, scale = growths[0], 1, 1
    for growth in growths[1:]:
        product *= growth
        scale *= common
        fn = scale + fn * growth
    return Fraction(balance * product, common * fn)


def round_to_multiple(amount: Fraction, multiple: int, rounding: Rounding) -> int:
    """Return an exact amount rounded once to a multiple of minor units."""
    return multiple * round_ratio(amount.numerator, amount.denominator * multiple, rounding)
