"""What a schedule is computed from, in minor units: periods, rate, and the tranches placed in their periods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from tallystick.assets import asset as find_asset
from tallystick.domains.lending.cashflow import CashFlow
from tallystick.domains.lending.checks import as_fraction
from tallystick.domains.lending.periods import Period, fraction_of
from tallystick.domains.lending.terms import Terms
from tallystick.errors import Invalid
from tallystick.money import round_ratio

__all__ = ["Inputs", "Placed", "multiple_in_units", "place"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A tranche in minor units: the period in which it begins to bear interest, the first installment to repay it."""

    on: date
    units: int
    period: int
    repaid_from: int


class Inputs:
    """Everything that decides the rows, checked and in integers; factors are computed once, since rows are tried."""

    __slots__ = ("_paid_out", "count", "factors", "multiple", "periods", "rate", "terms", "tranches")

    def __init__(
        self, terms: Terms, periods: tuple[Period, ...], rate: Fraction, multiple: int, tranches: tuple[Placed, ...]
    ) -> None:
        self.terms = terms
        self.periods = periods
        self.rate = rate
        self.multiple = multiple
        self.tranches = tranches
        self.count = len(periods)
        self.factors = [self.rate_of(number, period.start, period.end) for number, period in enumerate(periods)]
        """The interest on one unit for each whole period."""
        self._paid_out: dict[int, list[Placed]] = {}
        for tranche in tranches:
            self._paid_out.setdefault(tranche.period, []).append(tranche)

    def paid_out_in(self, number: int) -> Sequence[Placed]:
        """The tranches that raise the balance in a period, its last day included."""
        return self._paid_out.get(number, ())

    def begins_to_repay(self, number: int) -> bool:
        """Whether an installment is the first to repay some tranche."""
        return any(tranche.repaid_from == number for tranche in self.tranches)

    def rate_of(self, number: int, start: date, end: date) -> Fraction:
        """The interest on one unit for a stretch of days within a period."""
        if number < self.terms.interest_free:
            return Fraction(0)
        return self.rate * fraction_of(self.terms, self.periods[number], start, end)

    def rate_to_the_end(self, tranche: Placed) -> Fraction:
        """The interest on one unit of a tranche from its date to the end of the last period."""
        own = self.rate_of(tranche.period, tranche.on, self.periods[tranche.period].end)
        return own + sum(self.factors[tranche.period + 1 :], Fraction(0))

    def interest(self, balance: int, factor: Fraction) -> int:
        """The interest on a balance in minor units, by the rounding of the terms."""
        return round_ratio(balance * factor.numerator, factor.denominator, self.terms.rounding)


def place(periods: Sequence[Period], flows: Sequence[CashFlow]) -> tuple[Placed, ...]:
    """Put each tranche where its interest begins.

    One that is paid out on a due date is repaid from the next installment on. Raises ``Invalid`` when the first is
    outside the first period or one is on or after the end of the last.
    """
    placed: list[Placed] = []
    number = 0
    for flow in flows:
        while number < len(periods) - 1 and flow.on > periods[number].end:
            number += 1
        repaid_from = number + (flow.on >= periods[number].end)
        if flow.on < periods[0].start or repaid_from >= len(periods) or (not placed and repaid_from > 0):
            raise Invalid(
                "A tranche is paid out at a time that no installment repays.",
                field="principal",
                remedy="Pay out the first tranche in the first period, and every other before the last due date.",
            )
        placed.append(Placed(flow.on, flow.amount.units, number, repaid_from))
    return tuple(placed)


def multiple_in_units(terms: Terms, asset: str) -> int:
    """Return the installment multiple in minor units of an asset; 1 where the terms have none.

    Raises ``Invalid`` when the asset has fewer decimals than the multiple.
    """
    if terms.installment_multiple is None:
        return 1
    scale: int = 10 ** find_asset(asset).exponent
    units = as_fraction(terms.installment_multiple, "installment_multiple") * scale
    if units.denominator != 1:
        raise Invalid(
            f"The installment multiple has more decimals than {asset} has.",
            field="installment_multiple",
            remedy="Give a multiple that can be paid in that asset.",
        )
    return units.numerator
