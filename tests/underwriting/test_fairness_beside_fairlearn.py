"""Fairness beside fairlearn, to twelve digits: rates by group, parity, odds and impact; and where the two differ.

They differ where a number is of nothing. fairlearn takes a true or false positive rate of a group that has nobody to
take it from as zero, which makes the group the worst one; here there is no such rate, and the group is not compared.
fairlearn calls the ratio of rates that are all zero NaN, and one group in perfect parity with itself; here both are
None. And its ratio of equalized odds is NaN when nobody who deserved it was selected, but not when nobody else was:
``min`` of Python keeps a NaN that comes first; here it is the ratio that there is.
"""

from __future__ import annotations

import math
import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.underwriting.test_fairness import decided

from tallystick.domains.underwriting import german_credit
from tallystick.domains.underwriting.fairness_metrics import (
    GroupOutcome,
    Spread,
    demographic_parity,
    equalized_odds,
    impacts,
    outcomes,
    wilson,
)
from tallystick.session import Session

_HERE = Path(__file__).resolve().parent.parent.parent
GERMAN = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared")) / "data" / "german_credit"
Rows = list[tuple[str, int, int]]
"""Group, truth and selection of one person after the other."""

# Small counts, so that groups without positives, without negatives, never selected and of one person are usual.
counts = st.tuples(*[st.integers(0, 4)] * 4).filter(any)
people = st.dictionaries(st.sampled_from("abcde"), counts, min_size=1)


def rows_of(groups: dict[str, tuple[int, int, int, int]]) -> Rows:
    """One row for each person, of how many of each group are of each kind."""
    kinds = ((1, 1), (1, 0), (0, 1), (0, 0))
    return [
        (name, truth, chosen)
        for name, many in groups.items()
        for (truth, chosen), n in zip(kinds, many, strict=True)
        for _ in range(n)
    ]


def near(ours: Fraction | None) -> Any:
    """What fairlearn's double has to be; NaN where there is no number."""
    return pytest.approx(math.nan if ours is None else float(ours), rel=1e-12, abs=1e-15, nan_ok=True)


def as_fairlearn_reads(group: GroupOutcome) -> GroupOutcome:
    """The same group, where a rate of nobody is zero."""
    return GroupOutcome(
        group=group.group,
        total=group.total,
        selected=group.selected,
        positives=group.positives or 1,
        true_positives=group.true_positives,
        negatives=group.negatives or 1,
        false_positives=group.false_positives,
    )


def whole(group: GroupOutcome) -> bool:
    return bool(group.positives and group.negatives)


def ratio_of_odds(groups: list[GroupOutcome]) -> Fraction | None:
    """fairlearn's ratio: that of true positive rates first, and NaN if that is."""
    true, false = (
        (min(rates) / max(rates) if max(rates) else None)
        for rates in (
            [g.true_positive_rate or Fraction(0) for g in groups],
            [g.false_positive_rate or Fraction(0) for g in groups],
        )
    )
    return true if true is None or false is None else min(true, false)


def compare(rows: Rows) -> None:
    """Everything beside fairlearn's."""
    from fairlearn import metrics

    names, truth, chosen = ([row[n] for row in rows] for n in range(3))
    groups = outcomes(names, chosen, truth)
    frame = metrics.MetricFrame(
        metrics={
            "total": metrics.count,
            "rate": metrics.selection_rate,
            "tpr": metrics.true_positive_rate,
            "fpr": metrics.false_positive_rate,
        },
        y_true=truth,
        y_pred=chosen,
        sensitive_features=names,
    )
    by_group = frame.by_group
    for group in groups:
        assert by_group.loc[group.group, "total"] == group.total
        assert by_group.loc[group.group, "rate"] == near(group.rate)
        assert by_group.loc[group.group, "tpr"] == near(group.true_positive_rate or Fraction(0))
        assert by_group.loc[group.group, "fpr"] == near(group.false_positive_rate or Fraction(0))
    given: dict[str, Any] = {"y_true": truth, "y_pred": chosen, "sensitive_features": names}
    parity, odds = demographic_parity(groups), equalized_odds([as_fairlearn_reads(g) for g in groups])
    if len(groups) == 1:
        assert parity is odds is equalized_odds(groups) is None
        assert metrics.demographic_parity_difference(**given) == metrics.equalized_odds_difference(**given) == 0
        assert metrics.demographic_parity_ratio(**given) in (1, near(None))
        return
    assert parity is not None
    assert odds is not None
    assert metrics.demographic_parity_difference(**given) == near(parity.difference)
    assert metrics.demographic_parity_ratio(**given) == near(parity.ratio)
    assert metrics.equalized_odds_difference(**given) == near(odds.difference)
    assert metrics.equalized_odds_ratio(**given) == near(ratio_of_odds(groups))
    if any(g.true_positives for g in groups):
        assert odds.ratio == ratio_of_odds(groups)
    if all(whole(g) for g in groups):
        assert equalized_odds(groups) == odds
    highest = frame.group_max()["rate"]
    for impact in impacts(groups):
        # Doubles are divided here, and so are the rates beneath them.
        assert by_group.loc[impact.group.group, "rate"] / highest == near(impact.ratio)


# A comparison takes fairlearn a tenth of a second.
@settings(deadline=None, max_examples=40)
@given(people)
def test_any_groups_beside_fairlearn(groups: dict[str, tuple[int, int, int, int]]) -> None:
    compare(rows_of(groups))


@settings(deadline=None, max_examples=10)
@given(st.dictionaries(st.sampled_from("abc"), st.tuples(*[st.integers(0, 300)] * 4).filter(any), min_size=2))
def test_many_people_beside_fairlearn(groups: dict[str, tuple[int, int, int, int]]) -> None:
    compare(rows_of(groups))


@given(people)
def test_an_empty_group_changes_nothing(groups: dict[str, tuple[int, int, int, int]]) -> None:
    """fairlearn has rows only and knows no empty group; counts may name one."""
    rows = rows_of(groups)
    counted = outcomes(*([row[n] for row in rows] for n in (0, 2, 1)))
    more = [*counted, GroupOutcome(group="nobody", total=0, selected=0)]
    assert more[-1].rate is more[-1].true_positive_rate is more[-1].false_positive_rate is more[-1].interval() is None
    assert demographic_parity(more) == demographic_parity(counted)
    assert equalized_odds(more) == equalized_odds(counted)
    assert impacts(more) == impacts(counted)


def test_a_group_in_which_nobody_deserved_it_is_not_compared() -> None:
    """fairlearn reads its true positive rate as zero and sees the greatest difference there can be."""
    from fairlearn import metrics

    rows: Rows = [("a", 1, 1), ("a", 0, 0), ("b", 0, 0)]
    names, truth, chosen = ([row[n] for row in rows] for n in range(3))
    assert metrics.equalized_odds_difference(truth, chosen, sensitive_features=names) == 1
    assert equalized_odds(outcomes(names, chosen, truth)) == Spread(Fraction(0), None)


def test_where_nobody_who_deserved_it_was_selected_the_other_ratio_counts() -> None:
    from fairlearn import metrics

    rows: Rows = [("a", 1, 0), ("a", 0, 1), ("b", 1, 0), ("b", 0, 1), ("b", 0, 0)]
    names, truth, chosen = ([row[n] for row in rows] for n in range(3))
    assert math.isnan(metrics.equalized_odds_ratio(truth, chosen, sensitive_features=names))
    odds = equalized_odds(outcomes(names, chosen, truth))
    assert odds is not None
    assert odds.ratio == Fraction(1, 2)
    swapped = metrics.equalized_odds_ratio([1 - t for t in truth], chosen, sensitive_features=names)
    assert swapped == 0.5


def test_nobody_at_all() -> None:
    from fairlearn import metrics

    assert demographic_parity([]) is equalized_odds([]) is None
    assert impacts([]) == []
    with pytest.raises(ValueError, match="stack"):
        metrics.demographic_parity_difference([], [], sensitive_features=[])


@pytest.mark.skipif(not GERMAN.is_dir(), reason="no data/german_credit in TALLYSTICK_SHARED or beside the checkout")
@pytest.mark.parametrize("attribute", ["sex", "age", "skill"])
def test_german_credit_beside_fairlearn(attribute: str) -> None:
    """Loans of at most two years are approved here; how it turned out is the file's own."""
    records = german_credit.read(GERMAN / german_credit.FILES[0])
    names = {
        "sex": [r.label("personal_status") for r in records],
        "age": ["old" if int(r.values["age"]) >= 25 else "young" for r in records],
        "skill": [r.label("skill_level") for r in records],
    }[attribute]
    chosen = [int(int(r.values["month"]) <= 24) for r in records]
    compare([(name, int(r.good), one) for name, r, one in zip(names, records, chosen, strict=True)])
    compare([(name, one, int(r.good)) for name, r, one in zip(names, records, chosen, strict=True)])


async def test_what_is_counted_from_decisions_is_what_fairlearn_counts_from_rows(db: Session) -> None:
    from fairlearn import metrics

    names, truth, chosen, known = [], [], [], {}
    for name, approved, declined in (("a", 5, 2), ("b", 3, 4), ("c", 0, 3)):
        for n, application in enumerate(await decided(db, name, approved, declined)):
            known[application] = n % 3 != 1
            names.append(name)
            truth.append(int(n % 3 != 1))
            chosen.append(int(n < approved))
    groups = await db.fairness.groups("sex", truth=known)
    parity, odds = demographic_parity(groups), equalized_odds(groups)
    assert parity is not None
    assert odds is not None
    given: dict[str, Any] = {"y_true": truth, "y_pred": chosen, "sensitive_features": names}
    assert metrics.demographic_parity_ratio(**given) == near(parity.ratio)
    assert metrics.demographic_parity_difference(**given) == near(parity.difference)
    assert metrics.equalized_odds_difference(**given) == near(odds.difference)
    assert metrics.equalized_odds_ratio(**given) == near(odds.ratio)


@settings(deadline=None)
@given(
    st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from(["0.8", "0.9", "0.95", "0.99", "0.999"]),
)
def test_wilsons_interval_beside_scipy(part: tuple[int, int], confidence: str) -> None:
    from scipy.stats import binomtest

    ours = wilson(*part, Decimal(confidence))
    theirs = binomtest(*part).proportion_ci(float(confidence), method="wilson")
    assert (float(ours.low), float(ours.high)) == pytest.approx((theirs.low, theirs.high), rel=0, abs=1.5e-12)
