"""Fairness in numbers: rates, parity, odds and the inequality of errors, computed exactly from counts.

Sources: demographic parity and equalized odds as Hardt, Price and Srebro define them ("Equality of Opportunity in
Supervised Learning", 2016); four fifths from 29 CFR 1607.4(D); the interval of a rate from Wilson ("Probable Inference,
the Law of Succession, and Statistical Inference", 1927); generalized entropy from Speicher et al. ("A Unified Approach
to Quantifying Algorithmic Unfairness", 2018); weights from Kamiran and Calders ("Data Preprocessing Techniques for
Classification without Discrimination", 2012).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from statistics import NormalDist
from typing import Any, TypeVar

import msgspec

from tallystick.errors import Invalid

G = TypeVar("G")

FOUR_FIFTHS = Fraction(4, 5)
"""A ratio of selection rates strictly below it is evidence of adverse impact; four fifths itself is not."""
CONFIDENCE = Decimal("0.95")
"""The confidence of an interval when nothing else is said."""
_PLACES = Decimal(1).scaleb(-12)


class Interval(msgspec.Struct, frozen=True):
    """Between which rates the true one lies, at the confidence that was asked for."""

    low: Decimal
    high: Decimal


class GroupOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How many of a group were decided and selected, and of those whose truth is known, how it turned out.

    ``positives`` are those who deserved selection and ``true_positives`` those of them who were selected; the same with
    negatives, of whom ``false_positives`` were selected.
    """

    group: str
    total: int
    selected: int
    positives: int = 0
    true_positives: int = 0
    negatives: int = 0
    false_positives: int = 0

    def __post_init__(self) -> None:
        pairs = (
            (self.selected, self.total),
            (self.true_positives, self.positives),
            (self.false_positives, self.negatives),
        )
        if not all(part.__class__ is int and whole.__class__ is int and 0 <= part <= whole for part, whole in pairs):
            raise Invalid("A group's counts are whole numbers, and no part exceeds its whole.", field="groups")

    @property
    def rate(self) -> Fraction | None:
        """The selection rate, exact; None for an empty group."""
        return _over(self.selected, self.total)

    @property
    def true_positive_rate(self) -> Fraction | None:
        """Of those who deserved it, how many were selected."""
        return _over(self.true_positives, self.positives)

    @property
    def false_positive_rate(self) -> Fraction | None:
        """Of those who did not deserve it, how many were selected."""
        return _over(self.false_positives, self.negatives)

    def interval(self, confidence: Decimal = CONFIDENCE) -> Interval | None:
        """Wilson's interval of the selection rate; None for an empty group."""
        return wilson(self.selected, self.total, confidence) if self.total else None


class Spread(msgspec.Struct, frozen=True):
    """The highest rate less the lowest, and the lowest over the highest (None where the highest is zero)."""

    difference: Fraction
    ratio: Fraction | None


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """A group's selection beside that of the group that was selected most."""

    group: GroupOutcome
    reference: GroupOutcome

    @property
    def ratio(self) -> Fraction | None:
        """The group's rate over the reference's; None where that is zero."""
        return _ratio(self.group.rate, self.reference.rate)

    @property
    def adverse(self) -> bool:
        """Whether the ratio is strictly below four fifths."""
        return self.ratio is not None and self.ratio < FOUR_FIFTHS


def wilson(selected: int, total: int, confidence: Decimal = CONFIDENCE) -> Interval:
    """Wilson's score interval of a rate, rounded to twelve digits; it holds for small groups and rates near 0 and 1.

    (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). Raises ``Invalid`` for an empty group or a confidence that is
    not between 0 and 1.
    """
    if total.__class__ is not int or selected.__class__ is not int or not 0 <= selected <= total or not total:
        raise Invalid("An interval is of a part of one or more.", field="total")
    if not isinstance(confidence, Decimal) or not 0 < confidence < 1:
        raise Invalid("A confidence is a Decimal between 0 and 1.", field="confidence", remedy='Say Decimal("0.95").')
    with localcontext() as context:
        context.prec = 40
        z = Decimal(NormalDist().inv_cdf(0.5 + float(confidence) / 2))
        n = Decimal(total)
        p, square = Decimal(selected) / n, z * z
        middle = p + square / (2 * n)
        reach = z * (p * (1 - p) / n + square / (4 * n * n)).sqrt()
        whole = 1 + square / n
        low, high = max(Decimal(0), (middle - reach) / whole), min(Decimal(1), (middle + reach) / whole)
        return Interval(low.quantize(_PLACES), high.quantize(_PLACES))


def outcomes(groups: Sequence[str], selected: Sequence[Any], truth: Sequence[Any] | None = None) -> list[GroupOutcome]:
    """Count one row for each person into groups, in the order of their names. Raises ``Invalid``."""
    if len(groups) != len(selected) or (truth is not None and len(truth) != len(groups)):
        raise Invalid("There is one group, one selection and one truth for each person.", field="groups")
    known = truth if truth is not None else [None] * len(groups)
    counts: Counter[tuple[str, str]] = Counter()
    for group, chosen, deserved in zip(groups, selected, known, strict=True):
        counts[group, "total"] += 1
        counts[group, "selected"] += bool(chosen)
        if deserved is not None:
            counts[group, "positives" if deserved else "negatives"] += 1
            counts[group, "true_positives" if deserved else "false_positives"] += bool(chosen)
    names = ("total", "selected", "positives", "true_positives", "negatives", "false_positives")
    return [GroupOutcome(group=g, **{n: counts[g, n] for n in names}) for g in sorted(set(groups))]


def demographic_parity(groups: Iterable[GroupOutcome]) -> Spread | None:
    """How far selection rates are apart; None where fewer than two groups have one."""
    return _spread(g.rate for g in groups)


def equalized_odds(groups: Iterable[GroupOutcome]) -> Spread | None:
    """The greater difference and the lesser ratio of true and false positive rates; None where nothing compares."""
    given = list(groups)
    both = (_spread(g.true_positive_rate for g in given), _spread(g.false_positive_rate for g in given))
    found = [s for s in both if s is not None]
    if not found:
        return None
    ratios = [s.ratio for s in found if s.ratio is not None]
    return Spread(max(s.difference for s in found), min(ratios) if ratios else None)


def impacts(groups: Iterable[GroupOutcome], reference: str | None = None) -> list[Impact]:
    """Every other group beside a reference, which is the one selected most unless it is named. Raises ``Invalid``."""
    given = [g for g in groups if g.total]
    if not given:
        return []
    chosen = next((g for g in given if g.group == reference), None)
    if chosen is None and reference is not None:
        raise Invalid(
            "The reference group has no decided applications.",
            field="reference",
            remedy=f"Groups are: {', '.join(g.group for g in given)}.",
        )
    base = chosen or max(given, key=lambda g: (Fraction(g.selected, g.total), g.total))
    return [Impact(group=g, reference=base) for g in given if g is not base]


def benefits(truth: Sequence[Any], predicted: Sequence[Any]) -> list[int]:
    """What each person gets of a prediction: 1 when it is right, 2 when it is too good, 0 when it is too bad."""
    if len(truth) != len(predicted):
        raise Invalid("There is one prediction for each truth.", field="predicted")
    return [bool(p) - bool(t) + 1 for t, p in zip(truth, predicted, strict=True)]


def generalized_entropy(benefits: Sequence[int], alpha: int = 2) -> Decimal:
    """How unequal benefits are, zero when equal; ``alpha`` 1 is the Theil index. Raises ``Invalid``."""
    n, total = len(benefits), sum(benefits)
    if not n or total <= 0 or min(benefits) < 0 or alpha.__class__ is not int or not 1 <= alpha <= 10:
        raise Invalid("Inequality is of benefits from zero, not all zero, with alpha from 1 to 10.", field="benefits")
    if alpha == 1:
        with localcontext() as context:
            context.prec = 40
            shares = [Decimal(b * n) / total for b in benefits if b]
            return (sum((s * s.ln() for s in shares), Decimal(0)) / n).quantize(_PLACES)
    excess = sum((Fraction(b * n, total) ** alpha - 1 for b in benefits), Fraction(0))
    found = excess / (n * alpha * (alpha - 1))
    return (Decimal(found.numerator) / Decimal(found.denominator)).quantize(_PLACES)


def reweighing(groups: Sequence[G], favourable: Sequence[Any]) -> list[Fraction]:
    """A weight for each row that makes group and outcome independent: what was expected over what was observed."""
    if len(groups) != len(favourable):
        raise Invalid("There is one outcome for each group.", field="favourable")
    n = len(groups)
    labels = [bool(f) for f in favourable]
    by_group, by_label, both = Counter(groups), Counter(labels), Counter(zip(groups, labels, strict=True))
    return [Fraction(by_group[g] * by_label[y], n * both[g, y]) for g, y in zip(groups, labels, strict=True)]


def _over(part: int, whole: int) -> Fraction | None:
    return Fraction(part, whole) if whole else None


def _ratio(one: Fraction | None, other: Fraction | None) -> Fraction | None:
    return one / other if one is not None and other else None


def _spread(rates: Iterable[Fraction | None]) -> Spread | None:
    known = [r for r in rates if r is not None]
    if len(known) < 2:
        return None
    return Spread(max(known) - min(known), _ratio(min(known), max(known)))
