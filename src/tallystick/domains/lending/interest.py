"""Interest: how much each installment of a schedule carries."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tallystick.domains.lending.inputs import Inputs, Placed
from tallystick.domains.lending.terms import Amortization

__all__ = ["Declining", "Flat", "period_interest"]


def period_interest(inputs: Inputs, number: int, opening: int, tranches: Sequence[Placed]) -> int:
    """Return the interest of a period on its opening balance and what is paid out within it.

    Each stretch between two changes of the balance is rounded by itself (Apache Fineract
    ``InterestPeriod.getCalculatedDueInterest``).
    """
    if not tranches:
        return inputs.interest(opening, inputs.factors[number])
    period = inputs.periods[number]
    balance, since, total = opening, period.start, 0
    for tranche in tranches:
        if tranche.on > since:
            total += inputs.interest(balance, inputs.rate_of(number, since, tranche.on))
            since = tranche.on
        balance += tranche.units
    return total + inputs.interest(balance, inputs.rate_of(number, since, period.end))


class Declining:
    """Interest on the principal that is still owed."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def of(self, number: int, opening: int) -> int:
        """The interest of a period, by its opening balance."""
        return period_interest(self._inputs, number, opening, self._inputs.paid_out_in(number))


class Flat:
    """Interest on what was lent, in equal parts, the last part making up the exact total.

    Each tranche adds its own: amount, rate and the time from its date to the end, spread over the installments that
    are left. Installments of an interest grace carry none when installments are equal: the total is averaged over the
    others (Apache Fineract ``calculateTotalFlatInterestForInstallmentAveragingOutGracePeriods``); otherwise it is
    deferred, as it is for a declining balance.
    """

    def __init__(self, inputs: Inputs) -> None:
        terms, count = inputs.terms, inputs.count
        bears_from = terms.interest_free
        if terms.amortization is Amortization.EQUAL_INSTALLMENTS:
            bears_from = max(bears_from, terms.grace_interest)
        self._inputs = inputs
        self._parts = [Fraction(0)] * count
        self._known = [Fraction(0)] * count
        self._charged = 0
        for tranche in inputs.tranches:
            whole = tranche.units * inputs.rate_to_the_end(tranche)
            first = max(tranche.repaid_from, bears_from)
            for number in range(first, count):
                self._parts[number] += whole / (count - first)
                self._known[number] += whole

    def of(self, number: int, opening: int) -> int:
        """The interest of a period; the balance does not matter.

        Parts that were rounded up never exceed the total of the tranches paid out so far.
        """
        inputs = self._inputs
        left = inputs.interest(1, self._known[number]) - self._charged
        last = number == inputs.count - 1
        part = left if last else min(left, inputs.interest(1, self._parts[number]))
        self._charged += part
        return part
