"""Beta reputation: good and bad experiences, forgotten by and by, as the parameters of a beta distribution.

Sources: Jøsang and Ismail, "The Beta Reputation System" (2002), for alpha, beta and the expected value; storj's
calculations.go for n updates in one step. All arithmetic is decimal with fifty digits; nothing is a float.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Any, Final

import msgspec

from tallystick.errors import Invalid

EXACT: Final = Context(prec=50)
_ONE, _ZERO, _TWO = Decimal(1), Decimal(0), Decimal(2)
SCALE: Final = 1000
"""A reputation score is the expected value times this, rounded half up."""
_MOST: Final = Decimal(10) ** 12
_LONGEST_HALF_LIFE: Final = Decimal(1_000_000)


class ReputationPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How experiences become a reputation.

    ``half_life_days`` is when an experience counts half (None: never less); ``forgetting`` is the factor lambda by
    which each further experience lessens all before it (1: none); ``prior_good`` and ``prior_bad`` are alpha and beta
    of somebody unknown, of which one may be nothing. Raises ``Invalid`` when it is made with a value out of range or a
    float.
    """

    half_life_days: Decimal | None = Decimal(180)
    forgetting: Decimal = _ONE
    prior_good: Decimal = _ONE
    prior_bad: Decimal = _ONE

    def __post_init__(self) -> None:
        if self.half_life_days is not None:
            _number(self.half_life_days, "half_life_days", _ZERO, most=_LONGEST_HALF_LIFE, open_low=True)
        _number(self.forgetting, "forgetting", _ZERO, most=_ONE, open_low=True)
        _masses(self.prior_good, self.prior_bad, "prior_good", "prior_bad")

    @property
    def half_life(self) -> timedelta | None:
        """The half-life as a duration."""
        return None if self.half_life_days is None else days(self.half_life_days)


class Experience(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` experiences of one kind at one moment, each of the same weight."""

    good: bool
    count: int
    at: datetime
    weight: Decimal = _ONE


class Beta(msgspec.Struct, frozen=True):
    """Alpha and beta: so much good and so much bad experience, the unknown beginning included.

    Raises ``Invalid`` when it is made of anything but two Decimals from zero, one of them above it.
    """

    alpha: Decimal
    beta: Decimal

    def __post_init__(self) -> None:
        _masses(self.alpha, self.beta, "alpha", "beta", most=None)

    @property
    def expected(self) -> Decimal:
        """The probability that the next experience is good: alpha / (alpha + beta)."""
        with localcontext(EXACT):
            return self.alpha / (self.alpha + self.beta)

    @property
    def score(self) -> int:
        """The expected value as 0 to 1000, rounded half up."""
        with localcontext(EXACT):
            return int((self.expected * SCALE).quantize(_ONE, ROUND_HALF_UP))

    def after(self, *, good: bool, count: int = 1, weight: Decimal = _ONE, forgetting: Decimal = _ONE) -> Beta:
        """After ``count`` experiences of one kind, which is the very result of as many single ones.

        alpha' = lambda^n alpha + w (1 - lambda^n) / (1 - lambda) and beta' = lambda^n beta for good ones, the other
        way round for bad ones; for lambda = 1, alpha' = alpha + w n. With forgetting every step is taken, because the
        sum of the series differs from its steps in the last digit. Raises ``Invalid``.
        """
        if good.__class__ is not bool:
            raise Invalid("An experience is good (True) or bad (False).", field="good")
        _number(weight, "weight", _ZERO, open_low=True)
        _number(forgetting, "forgetting", _ZERO, most=_ONE, open_low=True)
        steps = counted(count)
        gains, fades = (self.alpha, self.beta) if good else (self.beta, self.alpha)
        with localcontext(EXACT):
            if forgetting == 1:
                gains += weight * steps
            else:
                for _ in range(steps):
                    gains = gains * forgetting + weight
                    fades *= forgetting
            return Beta(gains, fades) if good else Beta(fades, gains)


def reputation(experiences: Iterable[Experience], at: datetime, policy: ReputationPolicy) -> Beta:
    """The reputation at a moment from all experiences until then, which are taken in the order of their time.

    What was experienced decays by half in each half-life; what is assumed of the unknown does not, so somebody of
    whom nothing is heard for long becomes unknown again. Without forgetting the order does not matter, and never does
    it whether experiences of a moment came as one batch or one by one: the digits are the same. Moments later than
    ``at`` are left out.
    """
    half, forgetting = policy.half_life, policy.forgetting
    good, bad, kept = _ZERO, _ZERO, _ONE
    with localcontext(EXACT):
        # From the last to the first, each faded once from its own moment: what lies whole half-lives back is halved
        # exactly, whatever came in between.
        for moment, is_good, count, weight in _batches([e for e in experiences if e.at <= at], forgetting):
            left, gained = _steps(count, weight, forgetting)
            gained *= kept if half is None else kept * factor(at - moment, half)
            kept *= left
            good, bad = (good + gained, bad) if is_good else (good, bad + gained)
        alpha, beta = policy.prior_good * kept + good, policy.prior_bad * kept + bad
        # When even the beginning is forgotten to the last digit, nothing is known.
        return Beta(alpha, beta) if alpha or beta else Beta(policy.prior_good, policy.prior_bad)


def _batches(known: list[Experience], forgetting: Decimal) -> Iterator[tuple[datetime, bool, int, Decimal]]:
    """Experiences from the last to the first, with those of one kind at one moment put together.

    Without forgetting all that are alike are, in an order of their own; with it only those that follow each other.
    """
    if forgetting == 1:
        alike: Counter[tuple[datetime, bool, Decimal]] = Counter()
        for e in known:
            alike[e.at, e.good, e.weight] += e.count
        for moment, is_good, weight in sorted(alike, reverse=True):
            yield moment, is_good, alike[moment, is_good, weight], weight
        return
    ordered = sorted(known, key=lambda e: e.at)
    while ordered:
        last = ordered.pop()
        count = last.count
        while ordered and (ordered[-1].at, ordered[-1].good, ordered[-1].weight) == (last.at, last.good, last.weight):
            count += ordered.pop().count
        yield last.at, last.good, count, last.weight


def factor(elapsed: timedelta, half_life: timedelta) -> Decimal:
    """What is left of one after a time: 2^(-elapsed / half-life). Raises ``Invalid`` for a time that runs backwards."""
    if half_life.__class__ is not timedelta or half_life <= timedelta(0):
        raise Invalid("A half-life is a timedelta above zero.", field="half_life", remedy="Write timedelta(days=30).")
    if elapsed.__class__ is not timedelta or elapsed < timedelta(0):
        raise Invalid("Decay runs forwards: the time is a timedelta from zero.", field="elapsed")
    with localcontext(EXACT):
        whole, rest = divmod(elapsed, half_life)
        # Whole half-lives are halved exactly, so that thirty days of thirty are exactly a half.
        part = _ONE if not rest else _TWO ** -(Decimal(_micro(rest)) / Decimal(_micro(half_life)))
        return part / _TWO**whole if whole < 10_000 else _ZERO


def decayed(value: Decimal, elapsed: timedelta, half_life: timedelta) -> Decimal:
    """A value after a time: value x 2^(-elapsed / half-life). Raises ``Invalid``, for a float too."""
    with localcontext(EXACT):
        return _number(value, "value", None) * factor(elapsed, half_life)


def decayed_count(count: int, elapsed: timedelta, half_life: timedelta) -> int:
    """A whole count after a time, rounded half up and not cut off. Raises ``Invalid``."""
    if count.__class__ is not int or not 0 <= count <= _MOST:
        raise Invalid("A count is a whole number from zero.", field="count")
    with localcontext(EXACT):
        return int((Decimal(count) * factor(elapsed, half_life)).quantize(_ONE, ROUND_HALF_UP))


def counted(count: Any) -> int:
    """How many experiences came at once. Raises ``Invalid`` unless it is 1 to a million."""
    if count.__class__ is not int or not 1 <= count <= 1_000_000:
        raise Invalid("Experiences come in whole numbers from 1 to 1,000,000.", field="count")
    return int(count)


def days(number: Decimal) -> timedelta:
    """So many days as a duration, to the microsecond."""
    with localcontext(EXACT):
        return timedelta(microseconds=max(1, int((number * 86_400_000_000).quantize(_ONE, ROUND_HALF_UP))))


def _steps(n: int, weight: Decimal, forgetting: Decimal) -> tuple[Decimal, Decimal]:
    """What n experiences leave of what was before, and what they add."""
    if forgetting == 1:
        return _ONE, weight * n
    kept = forgetting**n
    return kept, weight * (1 - kept) / (1 - forgetting)


def _masses(good: object, bad: object, *fields: str, most: Decimal | None = _MOST) -> None:
    """Refuse two masses unless each is from zero and one is above it."""
    found = [_number(value, field, _ZERO, most=most) for value, field in zip((good, bad), fields, strict=True)]
    if not any(found):
        raise Invalid(
            f"{' and '.join(fields)} are not both zero.", field=fields[0], remedy="Assume something of the unknown."
        )


def _micro(time: timedelta) -> int:
    return time // timedelta(microseconds=1)


def _number(
    value: object, field: str, low: Decimal | None, *, most: Decimal | None = _MOST, open_low: bool = False
) -> Decimal:
    if (
        not isinstance(value, Decimal)
        or not value.is_finite()
        or (low is not None and (value < low or (open_low and value == low)))
        or (most is not None and abs(value) > most)
    ):
        above = "" if low is None else f" {'above' if open_low else 'from'} {low}"
        limit = "" if most is None else f" up to {most:,}"
        raise Invalid(
            f"{field} is a Decimal{above}{limit}.", field=field, remedy='Write Decimal("0.95"); never a float.'
        )
    return value
