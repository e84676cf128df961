"""Annual percentage rates: what a loan costs a year, after the law of the United States and of the European Union.

Both find the rate at which what is advanced and what is paid back are worth the same; they differ in how time is
counted and in whether the rate of a period is multiplied or compounded to a year's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, localcontext
from enum import StrEnum
from fractions import Fraction
from math import lcm
from typing import Final

from msgspec import Struct

from tallystick.domains.lending.calendar import add_months
from tallystick.domains.lending.cashflow import CashFlow, ordered
from tallystick.domains.lending.checks import as_date, as_member, as_whole
from tallystick.domains.lending.solve import digits, root_near, shown
from tallystick.domains.lending.unit_period import (
    YEAR,
    UnitPeriod,
    anchors,
    find_unit_period,
    months_and_days,
    periods_between,
)
from tallystick.errors import Invalid

__all__ = ["Apr", "Years", "apr_eu", "apr_us", "as_percent"]

_GUESS: Final = Decimal("0.01")


class Apr(Struct, frozen=True):
    """An annual percentage rate of Regulation Z as a fraction, and what it was computed from.

    ``rate`` is ``unit_rate`` times ``per_year``, not compounded ((b)(1)).
    """

    rate: Decimal
    unit_rate: Decimal
    per_year: Fraction

    @property
    def percent(self) -> Decimal:
        """The rate in per cent to two decimals."""
        return as_percent(self.rate)


class Years(StrEnum):
    """How the European formula counts the time between two dates."""

    DAYS = "days"
    """The days, divided by 365 (cases 29 to 31)."""
    MONTHS = "months"
    """Equal months counted back from the later date, and the days left by the length of the year before them."""


def as_percent(rate: Decimal, places: int = 2) -> Decimal:
    """Return a rate in per cent, halves away from zero (the rounding of Directive 2008/48/EC, Annex I)."""
    as_whole(places, "places", least=0, most=12)
    with localcontext(digits()):
        return (rate * 100).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)


def apr_us(
    advances: Sequence[CashFlow],
    payments: Sequence[CashFlow],
    *,
    begins: date | None = None,
    unit: UnitPeriod | None = None,
) -> Apr:
    """Return the annual percentage rate by the actuarial method of 12 CFR 1026, Appendix J.

    The general equation (b)(8) sets the advances equal to the payments, each divided by (1 + f i)(1 + i)^t with t the
    full unit-periods and f the fraction of one since the term began. ``begins`` is the day from which the finance
    charge is earned, by default that of the first advance; ``unit`` overrides the unit-period that (b)(4) gives. A
    single advance repaid at once within a year has its term as unit-period, of whole months where it has them
    ((b)(5)(vi)). Raises ``Invalid`` for no flows, mixed assets, anything before the term begins, and flows that no
    rate makes equal.
    """
    out, back = _both(advances, payments)
    start = out[0].on if begins is None else as_date(begins, "begins")
    if min(out[0].on, back[0].on) < start:
        raise Invalid(
            "A cash flow is before the finance charge begins.",
            field="begins",
            remedy="Begin with the first advance, and count a payment before it as less advanced.",
        )
    if _costs_nothing(out, back):
        return Apr(Decimal(0), Decimal(0), (unit or YEAR).per_year)
    if len(out) == len(back) == 1 and out[0].on == start and unit is None:
        terms_per_year = _single_term(start, back[0].on)
        if terms_per_year is not None:
            return _solved([(out[0], 0, Fraction(0))], [(back[0], 1, Fraction(0))], terms_per_year)
        unit = YEAR
    chosen = unit or find_unit_period(start, [flow.on for flow in out], [flow.on for flow in back])
    return _solved(_timed(start, out, chosen), _timed(start, back, chosen), chosen.per_year)


_Timed = tuple[CashFlow, int, Fraction]
"""A cash flow, the full unit-periods to it, and the fraction of one."""


def _single_term(start: date, end: date) -> Fraction | None:
    """How many terms of a single advance and single payment make a year; None for terms of more than one."""
    months, days = months_and_days(start, end, end.day)
    if months and not days:
        return Fraction(12, months) if months <= 12 else None
    return Fraction(365, (end - start).days) if months < 12 and end > start else None


def _timed(start: date, flows: Sequence[CashFlow], unit: UnitPeriod) -> list[_Timed]:
    intended = anchors([flow.on for flow in flows])
    return [(flow, *periods_between(start, flow.on, unit, intended[flow.on])) for flow in flows]


def _solved(out: Sequence[_Timed], back: Sequence[_Timed], per_year: Fraction) -> Apr:
    def difference(rate: Decimal) -> Decimal:
        return _present(back, rate) - _present(out, rate)

    unit_rate = root_near(difference, _GUESS)
    with localcontext(digits()):
        yearly = unit_rate * per_year.numerator / per_year.denominator
    return Apr(shown(yearly), unit_rate, per_year)


def _present(flows: Sequence[_Timed], rate: Decimal) -> Decimal:
    growth = 1 + rate
    return sum(
        (
            flow.amount.units / ((1 + part.numerator * rate / part.denominator) * growth**full)
            for flow, full, part in flows
        ),
        Decimal(0),
    )


def apr_eu(advances: Sequence[CashFlow], payments: Sequence[CashFlow], *, years: Years = Years.DAYS) -> Decimal:
    """Return the effective annual rate X of Directive 2008/48/EC, Annex I, part I (in the UK: FCA CONC App 1.2).

    Sum of C_k (1 + X)^(-t_k) over the drawdowns = sum of D_l (1 + X)^(-s_l) over the payments, with t and s in years
    since the first drawdown. What is repaid in full with nothing added costs nothing, even on the same day (case 31).
    Raises ``Invalid`` for no flows, mixed assets, payments before the first drawdown, and flows that no rate makes
    equal.
    """
    as_member(years, Years, "years")
    out, back = _both(advances, payments)
    start = out[0].on
    if back[0].on < start:
        raise Invalid(
            "A payment is before the first drawdown.", field="payments", remedy="Count it as less drawn down."
        )
    if _costs_nothing(out, back):
        return Decimal(0)
    signed = [(flow, -1) for flow in out] + [(flow, 1) for flow in back]
    timed = [(flow.amount.units * sign, _years(start, flow.on, years)) for flow, sign in signed]

    # One root of the growth and whole powers of it: an exponential for every payment takes ten times as long.
    parts = lcm(*(since.denominator for _, since in timed))
    powers = [(units, int(since * parts)) for units, since in timed]

    def difference(rate: Decimal) -> Decimal:
        shrinkage = (-(1 + rate).ln() / parts).exp()
        return sum((units * shrinkage**power for units, power in powers), Decimal(0))

    return root_near(difference, _GUESS)


def _years(start: date, end: date, years: Years) -> Fraction:
    if years is Years.DAYS:
        return Fraction((end - start).days, 365)
    months, days = months_and_days(start, end, end.day)
    opens = add_months(end, -months)
    return Fraction(months, 12) + (Fraction(days, (opens - add_months(opens, -12)).days) if days else 0)


def _both(
    advances: Sequence[CashFlow], payments: Sequence[CashFlow]
) -> tuple[tuple[CashFlow, ...], tuple[CashFlow, ...]]:
    out = ordered(advances, "advances")
    return out, ordered(payments, "payments", out[0].amount.asset)


def _costs_nothing(out: Sequence[CashFlow], back: Sequence[CashFlow]) -> bool:
    """Whether the same comes back; raises ``Invalid`` when more or less does, and all of it on one day."""
    if sum(flow.amount.units for flow in out) == sum(flow.amount.units for flow in back):
        return True
    if len({flow.on for flow in (*out, *back)}) == 1:
        raise Invalid(
            "Money that comes back at once has no rate a year.",
            field="payments",
            remedy="Give the dates on which the payments are due.",
        )
    return False
