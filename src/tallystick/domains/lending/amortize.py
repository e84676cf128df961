"""Amortization: the rows of a schedule in minor units."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tallystick.domains.lending.inputs import Inputs
from tallystick.domains.lending.interest import Declining, Flat
from tallystick.domains.lending.principal import principal_rule
from tallystick.domains.lending.terms import Amortization, InterestMethod

__all__ = ["Row", "amortize"]


@dataclass(frozen=True, slots=True)
class Row:
    """One installment: what it repays, the interest due with it, and what is then owed."""

    principal: int
    interest: int
    balance: int


def amortize(inputs: Inputs) -> list[Row]:
    """Return one row a period, or a single row for a bullet loan; the last takes whatever principal is left."""
    if inputs.terms.amortization is Amortization.BULLET:
        return [_bullet(inputs)]
    terms = inputs.terms
    interests = Flat(inputs) if terms.interest_method is InterestMethod.FLAT else Declining(inputs)
    principals = principal_rule(inputs)
    averaged = terms.interest_method is InterestMethod.FLAT and terms.amortization is Amortization.EQUAL_INSTALLMENTS
    deferred_to = 0 if averaged else terms.grace_interest
    rows: list[Row] = []
    balance = deferred = 0
    for number in range(inputs.count):
        paid_out = inputs.paid_out_in(number)
        interest = interests.of(number, balance)
        owed = balance + sum(tranche.units for tranche in paid_out if tranche.repaid_from == number)
        if number == inputs.count - 1:
            principal = owed
        elif number < terms.grace_principal:
            principal = 0
        else:
            principal = min(max(principals.of(number, owed, balance, interest), 0), owed)
        balance += sum(tranche.units for tranche in paid_out) - principal
        deferred += interest
        due = 0 if number < deferred_to else deferred
        deferred -= due
        rows.append(Row(principal, due, balance))
    return rows


def _bullet(inputs: Inputs) -> Row:
    """Simple interest on each tranche from its date to the end, rounded once."""
    total = Fraction(0)
    for tranche in inputs.tranches:
        total += tranche.units * inputs.rate_to_the_end(tranche)
    return Row(sum(tranche.units for tranche in inputs.tranches), inputs.interest(1, total), 0)
