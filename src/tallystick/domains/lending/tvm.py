"""The time value of money: level payments, balances, numbers of periods, rates, and the worth of cash flows.

One equation holds for all of them, with r the rate a period, n the number of periods and w 1 for payments at the
beginning of each and 0 for the end: ``fv + pv (1+r)^n + pmt (1 + r w) ((1+r)^n - 1) / r = 0``; for r = 0 it is
``fv + pv + pmt n = 0`` (OASIS OpenDocument v1.2, part 2, 6.12). What is received is positive and what is paid
negative. Arguments are int, Decimal or Fraction; results are Decimals of 28 digits. Floats raise ``Invalid``.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, localcontext
from enum import StrEnum
from itertools import pairwise
from typing import Final

from tallystick.domains.lending.checks import Exact, as_fraction, as_member
from tallystick.domains.lending.solve import DIGITS, WORKING_DIGITS, all_roots, digits, root_near, shown
from tallystick.errors import Invalid

__all__ = ["When", "fv", "ipmt", "irr", "mirr", "nper", "npv", "pmt", "pmt_odd_first", "ppmt", "pv", "rate"]

_ZERO: Final = Decimal(0)
_ONE: Final = Decimal(1)
_GUESS: Final = Decimal("0.1")
_MOST_PERIODS: Final = 1_000_000


class When(StrEnum):
    """When in each period a payment is made."""

    END = "end"
    BEGIN = "begin"


def _number(value: Exact, field: str) -> Decimal:
    """An exact argument as a Decimal; a fraction is divided with the digits of the context."""
    exact = as_fraction(value, field)
    return value if isinstance(value, Decimal) else Decimal(exact.numerator) / exact.denominator


def _rate(value: Exact) -> Decimal:
    rate = _number(value, "rate")
    if rate <= -1:
        raise Invalid("A rate is above -100 %.", field="rate", remedy="Give the rate a period as a fraction.")
    return rate


def _periods(value: Exact, field: str = "nper") -> Decimal:
    periods = _number(value, field)
    if not 0 <= periods <= _MOST_PERIODS:
        raise Invalid(
            "The number of periods is out of range.", field=field, remedy=f"Give a number from 0 to {_MOST_PERIODS}."
        )
    return periods


def _digits(rate: Exact, precision: int = DIGITS) -> Context:
    """A context whose digits survive the difference of (1+r)^n and 1 for a very small rate."""
    number = as_fraction(rate, "rate")
    small = Decimal(number.numerator) / number.denominator
    return digits(precision + (max(0, -small.adjusted() - 4) if small else 0))


def _annuity(rate: Decimal, periods: Decimal, when: When) -> tuple[Decimal, Decimal]:
    """The growth of 1 over the periods, and what payments of 1 grow to."""
    as_member(when, When, "when")
    if not rate:
        return _ONE, periods
    growth = (1 + rate) ** periods
    return growth, (1 + rate * (when is When.BEGIN)) * (growth - 1) / rate


def fv(rate: Exact, nper: Exact, pmt: Exact, pv: Exact, when: When = When.END) -> Decimal:
    """Return what a present value and level payments have grown to after some periods (cases A)."""
    with localcontext(_digits(rate)):
        growth, grown = _annuity(_rate(rate), _periods(nper), when)
        worth = -(_number(pv, "pv") * growth + _number(pmt, "pmt") * grown)
    return shown(worth)


def pv(rate: Exact, nper: Exact, pmt: Exact, fv: Exact = 0, when: When = When.END) -> Decimal:
    """Return the present value of level payments and a future value."""
    with localcontext(_digits(rate)):
        growth, grown = _annuity(_rate(rate), _periods(nper), when)
        worth = -(_number(fv, "fv") + _number(pmt, "pmt") * grown) / growth
    return shown(worth)


def pmt(rate: Exact, nper: Exact, pv: Exact, fv: Exact = 0, when: When = When.END) -> Decimal:
    """Return the level payment that turns a present into a future value, by default repays it (cases 1 to 3)."""
    with localcontext(_digits(rate)):
        growth, grown = _annuity(_rate(rate), _periods(nper), when)
        if not grown:
            raise Invalid("Nothing is paid in no periods.", field="nper", remedy="Give more than none.")
        payment = -(_number(fv, "fv") + _number(pv, "pv") * growth) / grown
    return shown(payment)


def ipmt(  # noqa: PLR0917 - the order of arguments that every spreadsheet has
    rate: Exact, per: int, nper: int, pv: Exact, fv: Exact = 0, when: When = When.END
) -> Decimal:
    """Return the interest in the payment of one period, counted from 1 (cases 7 and 14).

    It is the interest on what is owed before that payment; the first payment at the beginning of a period carries
    none. Raises ``Invalid`` for a period outside 1 to ``nper``.
    """
    if per.__class__ is not int or nper.__class__ is not int or not 1 <= per <= nper:
        raise Invalid(
            "There is no such payment.", field="per", remedy="Count payments from 1 to the number of periods."
        )
    payment = pmt(rate, nper, pv, fv, when)
    if when is When.BEGIN and per == 1:
        return _ZERO
    with localcontext(_digits(rate)):
        each = _rate(rate)
        growth, grown = _annuity(each, Decimal(per - 1), when)
        interest = -(_number(pv, "pv") * growth + payment * grown) * each
        if when is When.BEGIN:
            interest /= 1 + each
    return shown(interest)


def ppmt(  # noqa: PLR0917 - the order of arguments that every spreadsheet has
    rate: Exact, per: int, nper: int, pv: Exact, fv: Exact = 0, when: When = When.END
) -> Decimal:
    """Return the principal in the payment of one period: the payment less its interest (cases 5 and 14)."""
    with localcontext(_digits(rate)):
        return shown(pmt(rate, nper, pv, fv, when) - ipmt(rate, per, nper, pv, fv, when))


def nper(rate: Exact, pmt: Exact, pv: Exact, fv: Exact = 0, when: When = When.END) -> Decimal:
    """Return the number of periods that payments need, not rounded (case 9).

    Raises ``Invalid`` when the payments never get there, as when they do not cover the interest.
    """
    as_member(when, When, "when")
    with localcontext(_digits(rate, WORKING_DIGITS)):
        each, payment, now, later = _rate(rate), _number(pmt, "pmt"), _number(pv, "pv"), _number(fv, "fv")
        if not each:
            if payment:
                return shown(-(later + now) / payment)
            raise _never()
        perpetual = payment * (1 + each * (when is When.BEGIN)) / each
        if now + perpetual == 0 or (perpetual - later) / (now + perpetual) <= 0:
            raise _never()
        periods = ((perpetual - later) / (now + perpetual)).ln() / (1 + each).ln()
    return shown(periods)


def rate(nper: Exact, pmt: Exact, pv: Exact, fv: Exact, when: When = When.END, *, guess: Decimal = _GUESS) -> Decimal:
    """Return the rate a period that balances the payments, the one nearest the guess where there are several.

    Case 11. Raises ``Invalid`` when no rate above -100 % does, as when everything is received and nothing paid.
    """
    as_member(when, When, "when")
    with localcontext(digits()):
        periods, payment = _periods(nper), _number(pmt, "pmt")
        now, later = _number(pv, "pv"), _number(fv, "fv")

    def balance(each: Decimal) -> Decimal:
        growth, grown = _annuity(each, periods, when)
        return later + now * growth + payment * grown

    return root_near(balance, _number(guess, "guess"))


def npv(rate: Exact, values: Sequence[Exact]) -> Decimal:
    """Return what cash flows are worth when the first of them happens, one period apart (case 13)."""
    with localcontext(digits()):
        worth = _worth([_number(value, "values") for value in values], _rate(rate))
    return shown(worth)


def irr(values: Sequence[Exact]) -> Decimal:
    """Return the rate a period at which cash flows are worth nothing.

    Where several are, the smallest of zero or more; where all are negative, the one nearest zero. Rates from -99.99 %
    to 1,000,000 % are looked at when the signs change more than once. Raises ``Invalid`` when there is none.
    """
    with localcontext(digits()):
        flows = [_number(value, "values") for value in values]
    signs = [flow > 0 for flow in flows if flow]
    changes = sum(one is not other for one, other in pairwise(signs))
    if changes == 0:
        raise Invalid(
            "Cash flows of one sign have no rate of return.",
            field="values",
            remedy="Give what was paid as negative and what came back as positive amounts.",
        )
    if changes == 1:
        return root_near(lambda each: _worth(flows, each), _GUESS)
    found = all_roots(lambda each: _worth(flows, each), Decimal("-0.9999"), Decimal(10_000))
    if not found:
        return root_near(lambda each: _worth(flows, each), _GUESS)
    return min(found, key=lambda each: (each < 0, abs(each)))


def mirr(values: Sequence[Exact], finance_rate: Exact, reinvest_rate: Exact) -> Decimal:
    """Return the modified rate of return: outlays discounted at one rate, returns grown at another.

    ``(FV of returns / PV of outlays)^(1/(n-1)) - 1``. Raises ``Invalid`` unless there are both outlays and returns.
    """
    with localcontext(digits()):
        flows = [_number(value, "values") for value in values]
        reinvested = _rate(reinvest_rate)
        back = _worth([max(flow, _ZERO) for flow in flows], reinvested)
        out = -_worth([min(flow, _ZERO) for flow in flows], _rate(finance_rate))
        if not back or not out:
            raise Invalid(
                "A return needs something paid and something received.",
                field="values",
                remedy="Give what was paid as negative and what came back as positive amounts.",
            )
        modified = (back / out) ** (_ONE / (len(flows) - 1)) * (1 + reinvested) - 1
    return shown(modified)


def pmt_odd_first(rate: Exact, nper: int, pv: Exact, days: int, fv: Exact = 0) -> Decimal:
    """Return the level payment when the first is due after a number of days, not after a month (case 15).

    Whole months of 30 days compound and the days left bear simple interest, as 12 CFR 1026, Appendix J, (b)(5) to (8)
    counts an odd first period; 30 days give the ordinary payment. Raises ``Invalid`` for days below 1.
    """
    if days.__class__ is not int or days < 1:
        raise Invalid("The first payment is due after the loan starts.", field="days", remedy="Give 1 day or more.")
    with localcontext(_digits(rate)):
        each = _rate(rate)
        months, odd = divmod(days, 30)
        owed = _number(pv, "pv") * (1 + each) ** (months - 1) * (1 + each * odd / 30)
    return pmt(rate, nper, shown(owed), fv)


def _worth(flows: Sequence[Decimal], rate: Decimal) -> Decimal:
    """Horner's scheme from the last flow back."""
    worth, growth = _ZERO, 1 + rate
    for flow in reversed(flows):
        worth = flow + worth / growth
    return worth


def _never() -> Invalid:
    return Invalid(
        "These payments never reach the end.",
        field="pmt",
        remedy="A payment must exceed the interest of the first period and have the opposite sign of the balance.",
    )
