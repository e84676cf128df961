"""The arithmetic of reputation: a batch is its single steps, order does not matter, decay composes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
    assert abs(batch.alpha - one.alpha) < NEAR
    assert abs(batch.beta - one.beta) < NEAR
    if forgetting == 1:
        assert batch == one


@given(experiences=EXPERIENCES, seed=st.integers())
def test_without_forgetting_the_order_does_not_matter(experiences: list[Experience], seed: int):
    at, policy = DAY + timedelta(days=30), ReputationPolicy(half_life_days=Decimal(7))
    shuffled = list(experiences)
    Random(seed).shuffle(shuffled)
    first, second = reputation(experiences, at, policy), reputation(shuffled, at, policy)
    assert abs(first.alpha - second.alpha) < Decimal("1e-30")
    assert abs(first.beta - second.beta) < Decimal("1e-30")
    assert first.score == second.score


@given(experiences=EXPERIENCES, forgetting=LAMBDAS)
def test_a_batch_counts_as_many_at_one_moment(experiences: list[Experience], forgetting: Decimal):
    at, policy = DAY + timedelta(days=30), ReputationPolicy(forgetting=forgetting)
    single = [
        Experience(good=e.good, count=1, at=e.at, weight=e.weight)
        for e in sorted(experiences, key=lambda e: e.at)
        for _ in range(e.count)
    ]
    batch, one_by_one = reputation(experiences, at, policy), reputation(single, at, policy)
    assert abs(batch.alpha - one_by_one.alpha) < NEAR
    assert abs(batch.beta - one_by_one.beta) < NEAR


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
        {"prior_good": Decimal(0)},
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
