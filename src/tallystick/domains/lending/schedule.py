"""Schedules: what is due when, and how much of it is principal and interest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from tallystick.domains.lending.amortize import Row, amortize
from tallystick.domains.lending.calendar import MAX_INSTALLMENTS
from tallystick.domains.lending.cashflow import CashFlow, ordered
from tallystick.domains.lending.checks import Exact, as_fraction
from tallystick.domains.lending.inputs import Inputs, multiple_in_units, place
from tallystick.domains.lending.level import round_to_multiple
from tallystick.domains.lending.periods import Period
from tallystick.domains.lending.terms import Amortization, Terms
from tallystick.errors import Invalid
from tallystick.money import Money, sum_of

__all__ = ["Installment", "InstallmentKind", "Schedule", "make_schedule"]


class InstallmentKind(StrEnum):
    """Why an installment is due."""

    REGULAR = "regular"
    DOWN_PAYMENT = "down_payment"
    ADDITIONAL = "additional"
    """For charges that fall due after the last installment."""


class Installment(Struct, frozen=True):
    """One installment: its interest runs from ``start``; a down payment starts and is due on the day of its tranche.

    ``balance`` is the principal owed at the end of the due date when everything was paid as due; a tranche paid out
    on that day is in it.
    """

    seq: int
    start: date
    due: date
    principal: Money
    interest: Money
    balance: Money
    kind: InstallmentKind = InstallmentKind.REGULAR

    @property
    def total(self) -> Money:
        """Principal and interest."""
        return self.principal + self.interest

    @property
    def days(self) -> int:
        """Days from the start to the due date."""
        return (self.due - self.start).days


class Schedule(Struct, frozen=True):
    """The installments of a loan by due date, and the tranches they repay."""

    tranches: tuple[CashFlow, ...]
    installments: tuple[Installment, ...]

    @property
    def principal(self) -> Money:
        """All principal; exactly what was paid out."""
        return sum_of(installment.principal for installment in self.installments)

    @property
    def interest(self) -> Money:
        """All interest."""
        return sum_of(installment.interest for installment in self.installments)

    @property
    def total(self) -> Money:
        """Everything that is due."""
        return self.principal + self.interest

    def payments(self) -> tuple[CashFlow, ...]:
        """Return what is due as cash flows, for an APR; installments of nothing are left out."""
        return tuple(CashFlow(item.due, item.total) for item in self.installments if item.total)


def make_schedule(
    terms: Terms,
    principal: Money | Sequence[CashFlow],
    *,
    annual_rate: Exact,
    periods: Sequence[Period],
) -> Schedule:
    """Return the schedule of a loan: one amount paid out at the start, or tranches on their dates.

    ``annual_rate`` is the nominal rate a year as a fraction (0.12 is 12 %). The sum of the principal due is what was
    paid out, to the unit; the last installment takes what rounding left. A tranche changes the installments that
    follow it and none before. Raises ``Invalid`` for amounts that are not above zero, floats, a negative rate, no
    periods, gaps between them, graces that leave no installment, and tranches outside the schedule.
    """
    made = _contiguous(periods)
    flows = ordered([CashFlow(made[0].start, principal)] if isinstance(principal, Money) else principal, "principal")
    asset = flows[0].amount.asset
    rate = as_fraction(annual_rate, "annual_rate")
    if rate < 0:
        raise Invalid("A rate of interest is not negative.", field="annual_rate", remedy="Give 0 or more.")
    for field in ("grace_principal", "grace_interest", "interest_free"):
        if getattr(terms, field) >= len(made):
            raise Invalid(
                f"The {field} leaves no installment.", field=field, remedy="Give a grace below the installments."
            )
    multiple = multiple_in_units(terms, asset)
    down = [_down_payment(terms, flow.amount.units, multiple) for flow in flows]
    net = [CashFlow(flow.on, Money(flow.amount.units - part, asset)) for flow, part in zip(flows, down, strict=True)]
    inputs = Inputs(terms, made, rate, multiple, place(made, net))
    regular = _regular(inputs, amortize(inputs), asset)
    first = [
        _paid_down(flow.on, Money(part, asset), net, regular) for flow, part in zip(flows, down, strict=True) if part
    ]
    rows = sorted([*regular, *first], key=lambda row: row.due)
    return Schedule(flows, tuple(replace(row, seq=seq) for seq, row in enumerate(rows, 1)))


def _contiguous(periods: Sequence[Period]) -> tuple[Period, ...]:
    made = tuple(periods) if isinstance(periods, Sequence) else ()
    if not 0 < len(made) <= MAX_INSTALLMENTS or any(period.__class__ is not Period for period in made):
        raise Invalid(
            "A schedule is made of periods.", field="periods", remedy=f"Pass 1 to {MAX_INSTALLMENTS} of them."
        )
    if any(after.start != before.end or after.due <= before.due for before, after in pairwise(made)):
        raise Invalid(
            "The periods of a schedule follow each other without gaps.",
            field="periods",
            remedy="Make them with make_periods or periods_to.",
        )
    return made


def _down_payment(terms: Terms, units: int, multiple: int) -> int:
    if terms.down_payment is None:
        return 0
    part = round_to_multiple(units * Fraction(terms.down_payment), multiple, terms.level_rounding)
    if part >= units:
        raise Invalid(
            "The down payment takes the whole tranche.",
            field="down_payment",
            remedy="Use a smaller down payment or installment multiple.",
        )
    return part


def _regular(inputs: Inputs, rows: Sequence[Row], asset: str) -> list[Installment]:
    periods = inputs.periods
    if inputs.terms.amortization is Amortization.BULLET:
        periods = (Period(periods[0].start, periods[-1].end, periods[-1].due, whole=False),)
    made: list[Installment] = []
    for period, row in zip(periods, rows, strict=True):
        principal, interest, balance = (Money(units, asset) for units in (row.principal, row.interest, row.balance))
        made.append(Installment(0, period.start, period.due, principal, interest, balance))
    return made


def _paid_down(on: date, part: Money, net: Sequence[CashFlow], regular: Sequence[Installment]) -> Installment:
    owed = sum_of((flow.amount for flow in net if flow.on <= on), part.asset)
    owed -= sum_of((row.principal for row in regular if row.due <= on), part.asset)
    return Installment(0, on, on, part, Money.zero(part.asset), owed, InstallmentKind.DOWN_PAYMENT)
