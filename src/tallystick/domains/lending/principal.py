"""Principal: how much of what is owed each installment repays."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tallystick.domains.lending.inputs import Inputs, Placed
from tallystick.domains.lending.interest import period_interest
from tallystick.domains.lending.level import level_amount, round_to_multiple
from tallystick.domains.lending.terms import Amortization, EmiAdjustment, InterestMethod
from tallystick.errors import Invalid

__all__ = ["AtTheEnd", "InShares", "Level"]


class AtTheEnd:
    """Nothing before the last installment."""

    def of(self, number: int, owed: int, opening: int, interest: int) -> int:
        """No principal."""
        return 0


class InShares:
    """Equal parts of what is owed when the last tranche was paid out, or a fixed share of what was lent.

    Flat loans with equal installments and a multiple round principal and interest apart to the multiple and pay the
    sum (Apache Fineract ``calculateTotalPrincipalPerPeriodWithoutGrace``); a multiple does nothing to equal principal
    (case 35).
    """

    def __init__(self, inputs: Inputs) -> None:
        terms = inputs.terms
        self._inputs = inputs
        self._share: int | None = None
        self._multiple = inputs.multiple if terms.amortization is Amortization.EQUAL_INSTALLMENTS else 1

    def of(self, number: int, owed: int, opening: int, interest: int) -> int:
        """The principal of an installment, before it is kept within what is owed."""
        inputs = self._inputs
        if self._share is None or inputs.begins_to_repay(number):
            self._share = self._new_share(number, owed)
        if self._multiple == 1:
            return self._share
        payable = round_to_multiple(Fraction(interest), self._multiple, inputs.terms.level_rounding)
        return self._share + payable - interest

    def _new_share(self, number: int, owed: int) -> int:
        inputs = self._inputs
        terms = inputs.terms
        if terms.principal_share is not None:
            lent = sum(tranche.units for tranche in inputs.tranches if tranche.repaid_from <= number)
            exact = lent * Fraction(terms.principal_share)
        else:
            exact = Fraction(owed, inputs.count - number)
        return _payable(exact, self._multiple, inputs)


class Level:
    """What an equal installment leaves after the interest; the installment is found anew with every tranche."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._level: int | None = None

    def of(self, number: int, owed: int, opening: int, interest: int) -> int:
        """The principal of an installment, before it is kept within what is owed.

        An installment that an odd first period's interest uses up repays nothing, and the level is found again for
        those that follow: otherwise the last would be short by what the first could not repay.
        """
        if self._level is None or self._inputs.begins_to_repay(number):
            self._level = self._find(number, owed, opening)
        left = self._level - interest
        if left < 0:
            self._level = None
        return left

    def _find(self, number: int, owed: int, opening: int) -> int:
        """The level by the annuity formula, adjusted where the terms say so (``ProgressiveEMICalculator``, 226-275)."""
        inputs = self._inputs
        terms, related = inputs.terms, inputs.count - number
        level = _payable(level_amount(owed, inputs.factors[number:]), inputs.multiple, inputs)
        if terms.emi_adjustment is EmiAdjustment.NONE or related < 2:
            return level
        difference = self._last(number, opening, level) - level
        # The rule compares a hundred times the difference in whole units: minor units, where an asset has two decimals.
        if abs(difference) <= related // 2:
            return level
        change = round_to_multiple(Fraction(difference, related), 1, terms.level_rounding)
        tried = round_to_multiple(Fraction(level + change), inputs.multiple, terms.level_rounding)
        if tried <= 0 or tried == level:
            return level
        return tried if abs(self._last(number, opening, tried) - tried) < abs(difference) else level

    def _last(self, number: int, opening: int, level: int) -> int:
        """What the last installment would be with this level and the tranches that are known so far."""
        inputs = self._inputs
        balance = opening
        tranches: Sequence[Placed] = [
            tranche for tranche in inputs.paid_out_in(number) if tranche.repaid_from == number
        ]
        for later in range(number, inputs.count - 1):
            interest = period_interest(inputs, later, balance, tranches)
            balance += sum(tranche.units for tranche in tranches)
            balance -= min(max(level - interest, 0), balance)
            tranches = ()
        return balance + period_interest(inputs, inputs.count - 1, balance, tranches)


def principal_rule(inputs: Inputs) -> AtTheEnd | InShares | Level:
    """The rule that the terms ask for."""
    terms = inputs.terms
    if terms.amortization in {Amortization.BULLET, Amortization.INTEREST_ONLY}:
        return AtTheEnd()
    if terms.amortization is Amortization.EQUAL_PRINCIPAL or terms.interest_method is InterestMethod.FLAT:
        return InShares(inputs)
    return Level(inputs)


def _payable(exact: Fraction, multiple: int, inputs: Inputs) -> int:
    rounded = round_to_multiple(exact, multiple, inputs.terms.level_rounding)
    if exact and not rounded and multiple > 1:
        raise Invalid(
            "The installment is too small for its multiple: it rounds to nothing.",
            field="installment_multiple",
            remedy="Use a smaller multiple or fewer installments, or round installments up.",
        )
    return rounded
