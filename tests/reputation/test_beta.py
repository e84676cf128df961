"""The arithmetic of reputation: a batch is its single steps, order does not matter, decay composes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick import Beta, Invalid, ReputationPolicy, decayed
from tallystick.domains.reputation.beta import Experience, decayed_count, factor, reputation

DAY = datetime(2026, 3, 2, tzinfo=UTC)
NEAR = Decimal("1e-8")
LAMBDAS = st.decimals("0.001", "1", places=3)
WEIGHTS = st.decimals("0.01", "50", places=2)
MASSES = st.decimals("0.01", "1000", places=4)
EXPERIENCES = st.lists(
    st.builds(
        Experience,
        good=st.booleans(),
        count=st.integers(1, 40),
        at=st.integers(0, 400).map(lambda hours: DAY + timedelta(hours=hours)),
        weight=WEIGHTS,
    ),
    max_size=12,
)


@given(alpha=MASSES, beta=MASSES, good=st.booleans(), n=st.integers(1, 60), weight=WEIGHTS, forgetting=LAMBDAS)
def test_a_batch_is_its_single_steps(
    alpha: Decimal, beta: Decimal, good: bool, n: int, weight: Decimal, forgetting: Decimal
):
    one = Beta(alpha, beta)
    batch = one.after(good=good, count=n, weight=weight, forgetting=forgetting)
    for _ in range(n):
        one = one.after(good=good, weight=weight, forgetting=forgetting)
    assert batch == one
    kept = Fraction(forgetting) ** n
    added = Fraction(weight) * (n if forgetting == 1 else (1 - kept) / (1 - Fraction(forgetting)))
    gains, fades = (alpha, beta) if good else (beta, alpha)
    got = (batch.alpha, batch.beta) if good else (batch.beta, batch.alpha)
    assert abs(Fraction(got[0]) - (kept * Fraction(gains) + added)) < Fraction(1, 10**40)
    assert abs(Fraction(got[1]) - kept * Fraction(fades)) < Fraction(1, 10**40)


@given(experiences=EXPERIENCES, seed=st.integers())
def test_without_forgetting_the_order_does_not_matter(experiences: list[Experience], seed: int):
    at, policy = DAY + timedelta(days=30), ReputationPolicy(half_life_days=Decimal(7))
    shuffled = list(experiences)
    Random(seed).shuffle(shuffled)
    assert reputation(experiences, at, policy) == reputation(shuffled, at, policy)


@given(experiences=EXPERIENCES, forgetting=LAMBDAS, half=st.sampled_from([None, Decimal(7), Decimal("0.3")]))
def test_a_batch_counts_as_many_at_one_moment(experiences: list[Experience], forgetting: Decimal, half: Decimal | None):
    at, policy = DAY + timedelta(days=30), ReputationPolicy(forgetting=forgetting, half_life_days=half)
    single = [
        Experience(good=e.good, count=1, at=e.at, weight=e.weight)
        for e in sorted(experiences, key=lambda e: e.at)
        for _ in range(e.count)
    ]
    assert reputation(experiences, at, policy) == reputation(single, at, policy)


@given(experiences=EXPERIENCES, forgetting=LAMBDAS)
def test_the_reputation_is_what_steps_and_decay_come_to(experiences: list[Experience], forgetting: Decimal):
    """The same with floats, forwards and step by step."""
    at, half = DAY + timedelta(days=30), timedelta(days=7)
    good = bad = 0.0
    prior, before = 1.0, DAY
    for e in sorted(experiences, key=lambda e: e.at):
        faded = 0.5 ** ((e.at - before) / half)
        good, bad, before = good * faded, bad * faded, e.at
        for _ in range(e.count):
            good, bad, prior = good * float(forgetting), bad * float(forgetting), prior * float(forgetting)
            good, bad = (good + float(e.weight), bad) if e.good else (good, bad + float(e.weight))
    faded = 0.5 ** ((at - before) / half)
    found = reputation(experiences, at, ReputationPolicy(half_life_days=Decimal(7), forgetting=forgetting))
    assert float(found.alpha) == pytest.approx(prior + good * faded, rel=1e-9)
    assert float(found.beta) == pytest.approx(prior + bad * faded, rel=1e-9)


@given(
    value=st.decimals("0", "100000", places=6),
    first=st.integers(0, 10**14),
    second=st.integers(0, 10**14),
    half=st.integers(3600 * 10**6, 10**14),
)
def test_decay_in_two_steps_is_decay_in_one(value: Decimal, first: int, second: int, half: int):
    a, b, h = (timedelta(microseconds=n) for n in (first, second, half))
    assert abs(decayed(decayed(value, a, h), b, h) - decayed(value, a + b, h)) < NEAR
    assert 0 <= decayed(value, a + b, h) <= decayed(value, a, h) <= value


@given(experiences=EXPERIENCES)
def test_a_score_is_between_nothing_and_a_thousand_and_more_good_is_never_worse(experiences: list[Experience]):
    at, policy = DAY + timedelta(days=30), ReputationPolicy()
    before = reputation(experiences, at, policy)
    after = reputation([*experiences, Experience(good=True, count=3, at=DAY)], at, policy)
    assert 0 <= before.score <= after.score <= 1000


def test_whole_half_lives_are_halved_exactly_whatever_came_in_between():
    policy = ReputationPolicy(half_life_days=Decimal(30))
    early = Experience(good=True, count=8, at=DAY)
    between = [Experience(good=False, count=1, at=DAY + timedelta(days=n)) for n in (7, 11, 29)]
    found = reputation([early, *between], DAY + timedelta(days=90), policy)
    assert found.alpha == 2
    # 1 + 1.5 of 1 + 1.5 + 1: a tie of halves is exact and rounds up.
    tie = [Experience(good=True, count=1, at=DAY), Experience(good=False, count=1, at=DAY)]
    assert reputation(tie, DAY + timedelta(days=31), policy).score == 500
    odd = Beta(Decimal("0.8465"), Decimal("0.1535"))
    assert (odd.score, Beta(odd.beta, odd.alpha).score) == (847, 154)


def test_what_is_forgotten_to_the_last_digit_is_unknown():
    policy = ReputationPolicy(half_life_days=Decimal("0.00001"), forgetting=Decimal("0.001"), prior_good=Decimal(3))
    known = [Experience(good=True, count=1_000_000, at=DAY)]
    assert reputation(known, DAY + timedelta(days=1), policy) == Beta(Decimal(3), Decimal(1))
    assert reputation(known, DAY, policy).score == 1000


def test_one_side_of_what_is_unknown_may_be_nothing():
    """storj begins with an alpha of 1000 and no beta."""
    policy = ReputationPolicy(half_life_days=None, prior_good=Decimal(1000), prior_bad=Decimal(0))
    assert reputation([], DAY, policy).score == 1000
    bad = [Experience(good=False, count=9, at=DAY)]
    assert reputation(bad, DAY, policy) == Beta(Decimal(1000), Decimal(9))
    none = ReputationPolicy(prior_good=Decimal(0))
    assert reputation([], DAY, none).score == 0


def test_whoever_is_not_heard_of_for_long_becomes_unknown_again():
    policy = ReputationPolicy(half_life_days=Decimal(30))
    known = [Experience(good=True, count=100, at=DAY)]
    assert reputation([], DAY, policy).score == 500
    assert reputation(known, DAY, policy).score == 990
    assert reputation(known, DAY + timedelta(days=30), policy).beta == 1
    assert reputation(known, DAY + timedelta(days=30), policy).alpha == 51
    assert reputation(known, DAY + timedelta(days=3_000_000 // 100), policy).score == 500


def test_what_comes_later_is_left_out():
    later = [Experience(good=False, count=9, at=DAY + timedelta(seconds=1))]
    assert reputation(later, DAY, ReputationPolicy()) == Beta(Decimal(1), Decimal(1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"half_life_days": 30.0},
        {"half_life_days": Decimal(0)},
        {"half_life_days": Decimal("NaN")},
        {"forgetting": Decimal("1.01")},
        {"forgetting": Decimal(0)},
        {"forgetting": 1},
        {"half_life_days": Decimal(1_000_001)},
        {"prior_good": Decimal(0), "prior_bad": Decimal(0)},
        {"prior_good": 1},
        {"prior_bad": Decimal(-1)},
        {"prior_bad": Decimal("Infinity")},
    ],
)
def test_a_policy_out_of_range_is_refused(wrong: dict[str, Any]):
    with pytest.raises(Invalid) as refused:
        ReputationPolicy(**wrong)
    assert refused.value.field in wrong


def test_bad_arguments_are_refused():
    one = Beta(Decimal(1), Decimal(1))
    calls: list[Any] = [
        lambda: Beta(Decimal(0), Decimal(0)),
        lambda: Beta(Decimal(-1), Decimal(1)),
        lambda: Beta(Decimal("NaN"), Decimal(1)),
        lambda: Beta(0.5, Decimal(1)),  # type: ignore[arg-type]
        lambda: one.after(good=1),  # type: ignore[arg-type]
        lambda: one.after(good=True, count=0),
        lambda: one.after(good=True, count=1.0),  # type: ignore[arg-type]
        lambda: one.after(good=True, count=True),
        lambda: one.after(good=True, weight=Decimal(0)),
        lambda: one.after(good=True, weight=0.5),  # type: ignore[arg-type]
        lambda: one.after(good=True, forgetting=Decimal(2)),
        lambda: factor(timedelta(-1), timedelta(1)),
        lambda: factor(timedelta(1), timedelta(0)),
        lambda: decayed(1.5, timedelta(1), timedelta(1)),  # type: ignore[arg-type]
        lambda: decayed_count(-1, timedelta(1), timedelta(1)),
        lambda: decayed_count(True, timedelta(1), timedelta(1)),
    ]
    for call in calls:
        with pytest.raises(Invalid):
            call()
