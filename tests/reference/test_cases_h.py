"""Cases H: fairness and the grounds of decisions, with their published numbers."""

from __future__ import annotations

import os
import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from tallystick import Invalid
from tallystick.domains.underwriting import german_credit
from tallystick.domains.underwriting.fairness_metrics import (
    GroupOutcome,
    benefits,
    demographic_parity,
    equalized_odds,
    generalized_entropy,
    impacts,
    outcomes,
    reweighing,
    wilson,
)
from tallystick.domains.underwriting.reasons import GROUPS, DenialGroup, ReasonCode, check_reasons, denial_groups

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared"))
GERMAN = SHARED / "data" / "german_credit"
TRUTH = [0, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1]
PREDICTED = [0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0]
GROUP = "bbabbcccaacabcc" + "bcc"


def test_case_98_rates_by_group() -> None:
    """fairlearn, docs/user_guide/assessment/perform_fairness_assessment.rst."""
    a, b, c = outcomes(list(GROUP), PREDICTED, TRUTH)
    assert [g.total for g in (a, b, c)] == [4, 6, 8]
    assert [g.rate for g in (a, b, c)] == [Fraction(3, 4), Fraction(1, 2), Fraction(1, 2)]
    assert [g.true_positive_rate for g in (a, b, c)] == [Fraction(1, 2), Fraction(3, 5), Fraction(2, 5)]
    assert [g.false_positive_rate for g in (a, b, c)] == [Fraction(1), Fraction(0), Fraction(2, 3)]
    assert Fraction(sum(PREDICTED), len(PREDICTED)) == Fraction(10, 18)
    parity, odds = demographic_parity([a, b, c]), equalized_odds([a, b, c])
    assert parity is not None
    assert odds is not None
    assert (parity.difference, parity.ratio) == (Fraction(1, 4), Fraction(2, 3))
    assert (odds.difference, odds.ratio) == (Fraction(1), Fraction(0))


def test_case_98_beside_fairlearn() -> None:
    """And any groups: tests/underwriting/test_fairness_beside_fairlearn.py."""
    from fairlearn import metrics

    given = {"sensitive_features": list(GROUP)}
    groups = outcomes(list(GROUP), PREDICTED, TRUTH)
    parity, odds = demographic_parity(groups), equalized_odds(groups)
    assert parity is not None
    assert odds is not None
    for name, ours in (
        ("demographic_parity_difference", parity.difference),
        ("demographic_parity_ratio", parity.ratio),
        ("equalized_odds_difference", odds.difference),
        ("equalized_odds_ratio", odds.ratio),
    ):
        assert ours is not None
        assert getattr(metrics, name)(TRUTH, PREDICTED, **given) == pytest.approx(float(ours), rel=1e-12)


class Legacy:
    """The shuffle of NumPy's RandomState: the Mersenne Twister with Knuth's seeding and masked rejection."""

    def __init__(self, seed: int) -> None:
        state = [seed]
        for i in range(1, 624):
            state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) & 0xFFFFFFFF)
        self._twister = random.Random()
        self._twister.setstate((3, (*state, 624), None))

    def permutation(self, n: int) -> list[int]:
        found = list(range(n))
        for i in range(n - 1, 0, -1):
            mask = (1 << i.bit_length()) - 1
            while (j := self._twister.getrandbits(32) & mask) > i:
                continue
            found[i], found[j] = found[j], found[i]
        return found


@pytest.mark.skipif(not GERMAN.is_dir(), reason="no data/german_credit in TALLYSTICK_SHARED or beside the checkout")
def test_case_100_the_mean_difference_by_age_and_its_weights() -> None:
    """AIF360, examples/tutorial_credit_scoring.ipynb: the split of seed 0, seven tenths, ages from 25 on privileged."""
    records = german_credit.read(GERMAN / german_credit.FILES[0])
    training = [records[i] for i in Legacy(0).permutation(len(records))[:700]]
    ages = ["old" if int(r.values["age"]) >= 25 else "young" for r in training]
    good = [r.good for r in training]
    old, young = outcomes(ages, good)
    assert old.rate is not None
    assert young.rate is not None
    assert float(young.rate - old.rate) == pytest.approx(-0.169905, abs=5e-7)
    weights = reweighing(ages, good)

    def weighted(group: str) -> Fraction:
        rows = [(w, g) for w, a, g in zip(weights, ages, good, strict=True) if a == group]
        return sum((w for w, g in rows if g), Fraction(0)) / sum((w for w, _ in rows), Fraction(0))

    assert weighted("young") == weighted("old")


def test_case_101_generalized_entropy() -> None:
    """AIF360, tests/test_classification_metric.py: two rows judged too badly and two too well, of ten."""
    truth = [0, 0, 1, 1, 1, 0, 1, 0, 0, 1]
    predicted = [0, 0, 1, 0, 1, 1, 1, 0, 1, 0]
    got = benefits(truth, predicted)
    assert sorted(got) == [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]
    assert generalized_entropy(got) == Decimal("0.2")
    assert abs(generalized_entropy(got, 1) - 4 * Decimal(2).ln() / 10) < Decimal("1e-11")
    assert generalized_entropy([0, 0, 0, 1, 1, 1, 1, 2, 2, 2]) == Decimal("0.3")
    assert generalized_entropy([1] * 10) == 0


def rates(**given: tuple[int, int]) -> list[GroupOutcome]:
    return [GroupOutcome(group=name, selected=s, total=n) for name, (s, n) in given.items()]


def test_case_103_four_fifths_itself_is_not_adverse() -> None:
    found = impacts(rates(white=(60, 100), american_indian=(45, 100), hispanic=(48, 100), black=(51, 100)))
    judged = {i.group.group: (i.ratio, i.adverse) for i in found}
    assert judged == {
        "american_indian": (Fraction(3, 4), True),
        "hispanic": (Fraction(4, 5), False),
        "black": (Fraction(17, 20), False),
    }


def test_case_104_a_ratio_well_below() -> None:
    (found,) = impacts(rates(a=(48, 120), b=(20, 80)))
    assert (found.reference.rate, found.group.rate) == (Fraction(2, 5), Fraction(1, 4))
    assert (found.ratio, found.adverse) == (Fraction(5, 8), True)


def test_case_106_reasons_and_the_groups_that_hmda_reports() -> None:
    assert set(GROUPS) == set(ReasonCode)
    assert [g.number for g in DenialGroup] == list(range(1, 10))
    assert GROUPS[ReasonCode.OBLIGATIONS_EXCESSIVE] is DenialGroup.DEBT_TO_INCOME
    assert GROUPS[ReasonCode.EMPLOYMENT_LENGTH] is DenialGroup.EMPLOYMENT_HISTORY
    assert GROUPS[ReasonCode.COLLATERAL_INSUFFICIENT] is DenialGroup.COLLATERAL
    assert GROUPS[ReasonCode.INCOME_UNVERIFIABLE] is DenialGroup.UNVERIFIABLE
    assert GROUPS[ReasonCode.APPLICATION_INCOMPLETE] is DenialGroup.INCOMPLETE
    assert GROUPS[ReasonCode.RESIDENCE_LENGTH] is DenialGroup.OTHER
    twice = [ReasonCode.DELINQUENT_OBLIGATIONS, ReasonCode.BANKRUPTCY, ReasonCode.INCOME_INSUFFICIENT]
    assert denial_groups(twice) == [DenialGroup.CREDIT_HISTORY, DenialGroup.DEBT_TO_INCOME]
    for wrong in ([], list(ReasonCode)[:5], [ReasonCode.BANKRUPTCY] * 2, ["no such reason"], None):
        with pytest.raises(Invalid):
            check_reasons(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("selected", "total", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion: comparison of seven methods", Statistics in
    # Medicine 17 (1998), 857-872, table I, method 3: the score method without a correction for continuity, at 95 %.
    [
        (81, 263, "0.2553", "0.3662"),
        (15, 148, "0.0624", "0.1605"),
        (0, 20, "0.0000", "0.1611"),
        (1, 29, "0.0061", "0.1718"),
    ],
)
def test_wilsons_interval_has_its_published_ends(selected: int, total: int, low: str, high: str) -> None:
    found = wilson(selected, total)
    assert (str(round(found.low, 4)), str(round(found.high, 4))) == (low, high)


def test_bad_counts_and_confidences_are_refused() -> None:
    with pytest.raises(Invalid):
        GroupOutcome(group="a", total=1, selected=2)
    for call in (lambda: wilson(1, 0), lambda: wilson(2, 1), lambda: wilson(1, 2, Decimal(1))):
        with pytest.raises(Invalid):
            call()
    with pytest.raises(Invalid):
        outcomes(["a"], [])
    with pytest.raises(Invalid):
        generalized_entropy([0, 0])
    assert demographic_parity(rates(a=(0, 0), b=(1, 2))) is None
    assert equalized_odds(rates(a=(1, 2), b=(1, 2))) is None
