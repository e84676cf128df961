"""Money: an exact integer of minor units and the asset they are units of.

There is no float here and no silent rounding: an operation either is exact or takes a ``Rounding``. A sum of two assets
is refused instead of guessed. Amounts have no bound in memory; the stores refuse what their columns cannot hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import lcm
from typing import Any, Final, NoReturn, overload

from msgspec import Struct

from tallystick.assets import asset as find_asset
from tallystick.errors import Invalid

__all__ = [
    "CHAIN_MAX",
    "FIAT_MAX",
    "LEDGER_MAX",
    "Money",
    "Rounding",
    "eur",
    "gbp",
    "kes",
    "money",
    "ngn",
    "round_ratio",
    "sum_of",
    "usd",
]

FIAT_MAX: Final = 2**63 - 1
"""The most minor units a fiat column holds (bigint); the least is its negative."""
LEDGER_MAX: Final = 10**38 - 1
"""The most minor units a ledger row holds (numeric(38,0))."""
CHAIN_MAX: Final = 2**256 - 1
"""The most units an on-chain column holds (uint256); the least is 0."""

_AMOUNT: Final = re.compile(r"([+-]?)([0-9]{1,100})(?:\.([0-9]{1,100}))?", re.ASCII)
_LONGEST_EXPONENT: Final = 1000


class Rounding(StrEnum):
    """How a result that falls between two minor units becomes one of them; a policy of the product."""

    HALF_EVEN = "half_even"
    HALF_UP = "half_up"
    HALF_DOWN = "half_down"
    UP = "up"
    DOWN = "down"
    CEILING = "ceiling"
    FLOOR = "floor"


def round_ratio(numerator: int, denominator: int, rounding: Rounding) -> int:
    """Divide two integers exactly and round once.

    UP and DOWN are away from and towards zero, the halves likewise; CEILING and FLOOR are towards plus and
    minus infinity (the meanings of ``decimal``). Raises ``Invalid`` for a zero denominator or no rounding.
    """
    if denominator == 0:
        raise Invalid("An amount cannot be divided by zero.", remedy="Check the divisor first.")
    if not isinstance(rounding, Rounding):
        raise Invalid("The rounding is not one of Rounding.", field="rounding", remedy="Pass Rounding.HALF_EVEN, ...")
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    whole, rest = divmod(abs(numerator), denominator)
    negative = numerator < 0
    if rest:
        if rounding is Rounding.UP:
            away = True
        elif rounding is Rounding.DOWN:
            away = False
        elif rounding is Rounding.CEILING:
            away = not negative
        elif rounding is Rounding.FLOOR:
            away = negative
        else:
            twice = 2 * rest
            tie = rounding is Rounding.HALF_UP or (rounding is Rounding.HALF_EVEN and whole % 2 == 1)
            away = twice > denominator or (twice == denominator and tie)
        whole += away
    return -whole if negative else whole


def _exact(value: int | Decimal | Fraction, field: str) -> int | Fraction:
    """A rate or weight as an exact number; floats and what is not finite are refused."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise Invalid(
                f"The {field} is not a finite number.", field=field, remedy="Refuse NaN and Infinity earlier."
            )
        # 1E+999999999 is a few bytes of text and a number that fills the memory.
        if value and abs(value.adjusted()) > _LONGEST_EXPONENT:
            raise Invalid(f"The {field} is out of any sensible range.", field=field, remedy="Check its exponent.")
        return Fraction(value)
    if value.__class__ is int or isinstance(value, Fraction):
        return value
    raise Invalid(
        f"The {field} must be an int, Decimal or Fraction.",
        field=field,
        remedy="Floats are refused because they are not exact; write Decimal('0.05').",
    )


class Money(Struct, frozen=True, gc=False):
    """An amount of one asset as an integer of its minor units: ``Money(1250, "USD")`` is 12.50 dollars.

    Equal amounts of different assets are unequal; every other comparison or sum across assets raises
    ``Invalid``, as does any float. The constructor checks types only; the asset is looked up when a decimal
    text is read or written.
    """

    units: int
    asset: str

    def __post_init__(self) -> None:
        # Exact classes: a bool is an int, and a numpy integer overflows silently.
        if self.units.__class__ is not int or self.asset.__class__ is not str:
            raise Invalid(
                "Money is made of an int of minor units and an asset code.",
                field="units",
                remedy="Use Money.of('12.50', 'USD') for decimals; floats and bools are refused.",
            )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from tallystick.web.models import core_schema

        return core_schema(source)

    @classmethod
    def of(cls, amount: str | Decimal | int, asset: str) -> Money:
        """Return a decimal amount as money: ``Money.of("12.50", "USD")``; an int is whole units, not minor ones.

        A text with more decimals than the asset has is refused even when they are zeros ("12.500" is twelve
        and a half to some readers and twelve thousand to others); a Decimal is refused when it is not exact.
        Raises ``Invalid``, also for NaN, infinities, floats, exponents in text and unknown assets.
        """
        exponent = find_asset(asset).exponent
        if amount.__class__ is int:
            return cls(int(amount) * 10**exponent, asset)
        if isinstance(amount, str):
            match = _AMOUNT.fullmatch(amount)
            if match is None:
                raise Invalid(
                    "An amount of money is not a plain decimal number.",
                    field="amount",
                    remedy="Write digits with one point and no separators, for example 1250.00.",
                )
            sign, whole, decimals = match.group(1), match.group(2), match.group(3) or ""
            if len(decimals) > exponent:
                _too_precise(asset, exponent)
            units = int(whole + decimals.ljust(exponent, "0"))
            return cls(-units if sign == "-" else units, asset)
        if not isinstance(amount, Decimal):
            raise Invalid(
                "An amount of money must be a text, a Decimal or an int.",
                field="amount",
                remedy="Floats are refused because they are not exact; write '12.50'.",
            )
        scaled = _exact(amount, "amount") * 10**exponent
        if scaled.denominator != 1:
            _too_precise(asset, exponent)
        return cls(scaled.numerator, asset)

    @classmethod
    def parse(cls, text: str) -> Money:
        """Read what ``str()`` writes: ``Money.parse("12.50 USD")``; raises ``Invalid`` for anything else."""
        parts = text.split(" ") if isinstance(text, str) else []
        if len(parts) != 2:
            raise Invalid(
                "A text is not an amount of money.", field="money", remedy="Write it as '12.50 USD', with one space."
            )
        return cls.of(parts[0], parts[1])

    @classmethod
    def zero(cls, asset: str) -> Money:
        """Return nothing of an asset."""
        return cls(0, asset)

    @property
    def amount(self) -> Decimal:
        """The amount as an exact Decimal in whole units; raises ``Invalid`` when the asset is not known."""
        return Decimal(self._text())

    def _text(self) -> str:
        exponent = find_asset(self.asset).exponent
        sign = "-" if self.units < 0 else ""
        digits = str(abs(self.units)).rjust(exponent + 1, "0")
        return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}" if exponent else sign + digits

    def __str__(self) -> str:
        return f"{self._text()} {self.asset}"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __bool__(self) -> bool:
        return self.units != 0

    def __lt__(self, other: Money) -> bool:
        return self.units < other.units if self._comparable(other) else NotImplemented

    def __le__(self, other: Money) -> bool:
        return self.units <= other.units if self._comparable(other) else NotImplemented

    def __gt__(self, other: Money) -> bool:
        return self.units > other.units if self._comparable(other) else NotImplemented

    def __ge__(self, other: Money) -> bool:
        return self.units >= other.units if self._comparable(other) else NotImplemented

    def __add__(self, other: Money) -> Money:
        return Money(self.units + other.units, self.asset) if self._comparable(other) else NotImplemented

    def __radd__(self, other: int) -> Money:
        # The builtin sum() starts at the integer 0.
        if other.__class__ is int and other == 0:
            return self
        self._comparable(other)
        return NotImplemented

    def __sub__(self, other: Money) -> Money:
        return Money(self.units - other.units, self.asset) if self._comparable(other) else NotImplemented

    def __rsub__(self, other: object) -> Money:
        self._comparable(other)
        return NotImplemented

    def __neg__(self) -> Money:
        return Money(-self.units, self.asset)

    def __pos__(self) -> Money:
        return self

    def __abs__(self) -> Money:
        return Money(abs(self.units), self.asset)

    def __mul__(self, count: int) -> Money:
        if count.__class__ is not int:
            if isinstance(count, _NOT_MONEY | Money):
                raise Invalid(
                    "Money can be multiplied by an int only.",
                    remedy="Use money.times(rate, rounding=...) with a Decimal rate.",
                )
            return NotImplemented
        return Money(self.units * count, self.asset)

    __rmul__ = __mul__

    @overload
    def __floordiv__(self, other: Money) -> int: ...
    @overload
    def __floordiv__(self, other: int) -> Money: ...
    def __floordiv__(self, other: Money | int) -> Money | int:
        """Floor division: by money, how many whole times it fits; by an int, the share, with ``%`` the rest."""
        quotient: Money | int = self._divided(other)[0]
        return quotient

    @overload
    def __mod__(self, other: Money) -> Money: ...
    @overload
    def __mod__(self, other: int) -> Money: ...
    def __mod__(self, other: Money | int) -> Money:
        return self._divided(other)[1]

    @overload
    def __divmod__(self, other: Money) -> tuple[int, Money]: ...
    @overload
    def __divmod__(self, other: int) -> tuple[Money, Money]: ...
    def __divmod__(self, other: Money | int) -> tuple[Money | int, Money]:
        return self._divided(other)

    def __truediv__(self, other: object) -> NoReturn:
        raise Invalid(
            "Money has no exact division.",
            remedy="Use split(n), allocate(weights), divmod, or times(Fraction(1, n), rounding=...).",
        )

    def times(self, rate: Decimal | Fraction | int, *, rounding: Rounding) -> Money:
        """Return the amount times a rate, computed exactly and rounded once to a minor unit.

        Raises ``Invalid`` for floats, NaN, infinities and a missing rounding.
        """
        exact = _exact(rate, "rate")
        return Money(round_ratio(self.units * exact.numerator, exact.denominator, rounding), self.asset)

    def split(self, parts: int) -> list[Money]:
        """Return equal parts that add up to the whole; the first ones carry the spare minor units.

        Raises ``Invalid`` unless ``parts`` is an int of at least 1.
        """
        if parts.__class__ is not int or parts < 1:
            raise Invalid("Money is split into at least one part.", field="parts", remedy="Pass an int of 1 or more.")
        return self.allocate([1] * parts)

    def allocate(self, weights: Sequence[int | Decimal | Fraction]) -> list[Money]:
        """Return shares in proportion to the weights that add up to the whole.

        Largest remainder (Hamilton) on the magnitude: every share is rounded towards zero, and the spare minor
        units go one each to the largest remainders, the earlier weight first in a tie. A weight of zero gets
        nothing. Raises ``Invalid`` for no weights, a negative one, a float, or all of them zero.
        """
        exact = [_exact(weight, "weight") for weight in weights]
        if not any(exact) or min(exact) < 0:
            raise Invalid(
                "Weights must be zero or more, and one of them more.",
                field="weights",
                remedy="Leave out what gets nothing, and check the list is not empty.",
            )
        common = lcm(*(weight.denominator for weight in exact))
        scaled = [weight.numerator * (common // weight.denominator) for weight in exact]
        whole, total = abs(self.units), sum(scaled)
        quotas = [divmod(whole * weight, total) for weight in scaled]
        shares = [share for share, _ in quotas]
        by_remainder = sorted(range(len(quotas)), key=lambda index: -quotas[index][1])
        for index in by_remainder[: whole - sum(shares)]:
            shares[index] += 1
        sign = -1 if self.units < 0 else 1
        return [Money(sign * share, self.asset) for share in shares]

    def _comparable(self, other: object) -> bool:
        """True for money of this asset; a column or other stranger gets its own turn; the rest raises."""
        if isinstance(other, Money):
            if other.asset != self.asset:
                raise Invalid(
                    "Amounts of different assets cannot be added or compared.",
                    field="asset",
                    remedy="Convert one of them first, at a price you choose.",
                )
            return True
        if isinstance(other, _NOT_MONEY):
            raise Invalid(
                "Money can be added to and compared with money only.",
                remedy="Wrap the number: money('12.50', 'USD'). Floats are refused because they are not exact.",
            )
        return False

    def _divided(self, other: Money | int) -> tuple[Any, Money]:
        by_money = isinstance(other, Money)
        if isinstance(other, Money):
            self._comparable(other)
            divisor = other.units
        elif other.__class__ is int:
            divisor = other
        else:
            raise Invalid("Money can be divided by money or by an int only.", remedy="Use times(rate, rounding=...).")
        if divisor == 0:
            raise Invalid("An amount cannot be divided by zero.", remedy="Check the divisor first.")
        quotient, rest = divmod(self.units, divisor)
        return (quotient if by_money else Money(quotient, self.asset)), Money(rest, self.asset)


_NOT_MONEY: Final = int | float | complex | Decimal | Fraction | str | bytes | None


def _too_precise(asset: str, exponent: int) -> NoReturn:
    raise Invalid(
        f"The amount has more decimals than {asset} has ({exponent}).",
        field="amount",
        remedy="Round it first, by the product's own rule.",
    )


def sum_of(amounts: Iterable[Money], asset: str | None = None) -> Money:
    """Return the total of amounts of one asset; with ``asset``, an empty total is zero of it.

    Raises ``Invalid`` when assets differ, or when there is nothing to sum and no asset given.
    """
    total = 0
    for amount in amounts:
        if amount.__class__ is not Money:
            raise Invalid("Only money can be summed as money.", field="amounts", remedy="Wrap the numbers first.")
        if asset is None:
            asset = amount.asset
        elif amount.asset != asset:
            raise Invalid(
                "Amounts of different assets cannot be summed.",
                field="asset",
                remedy="Sum each asset apart, or convert first.",
            )
        total += amount.units
    if asset is None:
        raise Invalid("The sum of no amounts has no asset.", field="asset", remedy="Pass asset= for an empty sum.")
    return Money(total, asset)


NOTHING: Final = Money(0, "XXX")
"""What ``Annotated[Money, Maintained()] = NOTHING`` holds until the row is stored: no money, of no asset yet."""


def money(amount: str | Decimal | int, asset: str) -> Money:
    """Return ``Money.of(amount, asset)``; raises ``Invalid`` the same way."""
    return Money.of(amount, asset)


def usd(amount: str | Decimal | int) -> Money:
    """Return US dollars: ``usd("12.50")``."""
    return Money.of(amount, "USD")


def eur(amount: str | Decimal | int) -> Money:
    """Return euros."""
    return Money.of(amount, "EUR")


def gbp(amount: str | Decimal | int) -> Money:
    """Return pounds sterling."""
    return Money.of(amount, "GBP")


def ngn(amount: str | Decimal | int) -> Money:
    """Return Nigerian naira."""
    return Money.of(amount, "NGN")


def kes(amount: str | Decimal | int) -> Money:
    """Return Kenyan shillings."""
    return Money.of(amount, "KES")
