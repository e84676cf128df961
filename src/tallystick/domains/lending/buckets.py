"""Buckets: named ranges of days past due, by which lenders sort what is late."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from msgspec import Struct

from tallystick.domains.lending.checks import as_whole
from tallystick.errors import Invalid

__all__ = ["USUAL", "Buckets", "DayRange", "as_buckets"]

_LONGEST: Final = 40
_MOST_DAYS: Final = 36_600


class DayRange(Struct, frozen=True):
    """Days past due from ``first`` to ``last``, both included; ``last`` None is without end."""

    name: str
    first: int
    last: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= _LONGEST or not self.name.isprintable():
            raise Invalid(f"A range has a name of 1 to {_LONGEST} printable characters.", field="name")
        as_whole(self.first, "first", least=1, most=_MOST_DAYS)
        if self.last is not None:
            as_whole(self.last, "last", least=1, most=_MOST_DAYS)
            if self.last < self.first:
                raise Invalid("A range ends before it starts.", field="last", remedy="Give first <= last.")

    def __contains__(self, days: int) -> bool:
        return self.first <= days and (self.last is None or days <= self.last)

    @property
    def span(self) -> str:
        """The days as text: "31-60", "241+"."""
        if self.last is None:
            return f"{self.first}+"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


class Buckets(Struct, frozen=True):
    """Ranges in order, each starting on the day after the one before ends, so that no day is in two or in none.

    Days before the first range or after the last are in no bucket. Raises ``Invalid`` for ranges that overlap, leave
    a gap or are out of order, and for a name that is there twice.
    """

    ranges: tuple[DayRange, ...]

    def __post_init__(self) -> None:
        if not self.ranges or any(not isinstance(r, DayRange) for r in self.ranges):
            raise Invalid(
                "Buckets are made of one DayRange or more.", field="ranges", remedy='DayRange("31-60", 31, 60).'
            )
        for before, after in pairwise(self.ranges):
            if before.last is None or after.first <= before.last:
                raise Invalid(
                    f"The ranges {before.span} and {after.span} overlap or are out of order.",
                    field="ranges",
                    remedy="Give them in ascending order; only the last is without end.",
                )
            if after.first != before.last + 1:
                raise Invalid(
                    f"The ranges {before.span} and {after.span} leave days out between them.",
                    field="ranges",
                    remedy=f"Start the second one on day {before.last + 1}.",
                )
        if len({r.name for r in self.ranges}) < len(self.ranges):
            raise Invalid("Two ranges have one name.", field="ranges")

    @classmethod
    def of(cls, *spans: str) -> Buckets:
        """Ranges from text, named by it: ``Buckets.of("1-30", "31-60", "61+")``. Raises ``Invalid``."""
        return cls(tuple(_range(span) for span in spans))

    def of_days(self, days: int) -> DayRange | None:
        """The range that a number of days is in."""
        return next((r for r in self.ranges if days in r), None)

    @property
    def bounds(self) -> list[int]:
        """The first day of each range and, where the last one ends, the day after it: what a query counts by."""
        last = self.ranges[-1].last
        return [*(r.first for r in self.ranges), *([] if last is None else [last + 1])]

    def at(self, place: int) -> DayRange | None:
        """The range of a place that ``width_bucket(days, bounds)`` answered."""
        return self.ranges[place - 1] if 0 < place <= len(self.ranges) else None


def _range(span: str) -> DayRange:
    text = span.strip() if isinstance(span, str) else ""
    first, dash, last = text.removesuffix("+").partition("-")
    parts = [first, last] if dash else [first]
    if not all(p.isascii() and p.isdigit() for p in parts) or (dash and text.endswith("+")):
        raise Invalid("A range of days is not readable.", field="ranges", remedy='Write "31-60", "5" or "61+".')
    end = None if text.endswith("+") else int(parts[-1])
    return DayRange(text, int(first), end)


def as_buckets(value: Buckets) -> Buckets:
    """Return buckets; raises ``Invalid`` for anything else."""
    if not isinstance(value, Buckets):
        raise Invalid("Buckets are given as Buckets.", field="buckets", remedy='Write Buckets.of("1-30", "31+").')
    return value


USUAL: Final = Buckets(
    (
        DayRange("RANGE_1", 1, 3),
        DayRange("RANGE_3", 4, 30),
        DayRange("RANGE_30", 31, 60),
        DayRange("RANGE_60", 61, 90),
        DayRange("RANGE_90", 91, 120),
        DayRange("RANGE_120", 121, 150),
        DayRange("RANGE_150", 151, 180),
        DayRange("RANGE_180", 181, 240),
        DayRange("RANGE_240", 241),
    )
)
"""The ranges that Apache Fineract installs by default (``DelinquencyGlobalInitializerStep``)."""
