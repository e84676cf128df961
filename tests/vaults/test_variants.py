"""Vaults of any assets against the same arithmetic in fractions: what is derived, and what a liquidation does."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Context, Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest
from tests.vaults.support import WORTH, agree, asset, at, pair, price, vault

from tallystick import (
    AlertKind,
    AssetPrice,
    Conflict,
    Duplicate,
    Invalid,
    Protection,
    RuleFiring,
    Session,
    VaultAsset,
    VaultMetric,
    VaultStatus,
)
from tallystick.domains.vaults.risk import (
    account_liquidity,
    collateral_ratio,
    health_factor,
    liquidation_price,
    loan_to_value,
    max_debt,
    seize,
)

D = Decimal


def unit(a: VaultAsset) -> Fraction:
    """What a base unit is worth, in hundred-millionths."""
    assert a.price is not None
    return Fraction(a.price) * Fraction(10) ** (8 - a.decimals)


async def some_asset(db: Session, draw: random.Random) -> VaultAsset:
    threshold = D(draw.randint(1, 9_400)) / 10_000
    most = int((1 / threshold - 1) * 10_000)
    return await asset(
        db,
        "R",
        str(D(draw.randint(1, 10**9)).scaleb(draw.randint(-12, -3))),
        decimals=draw.choice([0, 2, 6, 8, 9, 18, 24]),
        ltv=threshold * draw.randint(0, 100) / 100,
        threshold=threshold,
        bonus=D(draw.randint(0, min(most, 3_000))) / 10_000,
        close_factor=draw.choice([D("0.5"), D("0.5"), D("0.25"), D("1"), D("0.333")]),
        full_close_health=draw.choice([D("0.95"), D("0.95"), D("0.9"), D(0)]),
        min_position=draw.choice([0, 0, 10 * WORTH, 2_000 * WORTH]),
    )


def quantity(draw: random.Random, a: VaultAsset, worth: int) -> int:
    """Base units worth about so many hundred-millionths."""
    return max(1, int(worth / unit(a)) + draw.randint(0, 3))


@pytest.mark.parametrize("number", range(40))
async def test_any_vault_is_valued_and_liquidated_as_in_fractions(db: Session, number: int) -> None:
    draw = random.Random(number)
    assets = [await some_asset(db, draw) for _ in range(draw.randint(2, 5))]
    cut = draw.randint(1, len(assets) - 1)
    held = {a.id: quantity(draw, a, draw.randint(1, 10**13)) for a in assets[:cut]}
    worths = {a.id: floor(held[a.id] * unit(a)) for a in assets[:cut]}
    weighted = sum(floor(worths[a.id] * Fraction(a.threshold)) for a in assets[:cut])
    aim = Fraction(draw.randint(700, 1_050), 1_000)
    shares = [draw.randint(1, 5) for _ in assets[cut:]]
    owed = {
        a.id: quantity(draw, a, int(weighted / aim * n / sum(shares)))
        for a, n in zip(assets[cut:], shares, strict=True)
    }
    made = await vault(db, held, owed)
    exact = sum(owed[a.id] * unit(a) for a in assets[cut:])
    debt = sum(ceil(owed[a.id] * unit(a)) for a in assets[cut:])
    health = floor(Fraction(weighted * WORTH, debt))
    assert (made.collateral_value, made.weighted_threshold, made.debt_value) == (sum(worths.values()), weighted, debt)
    assert (made.health_scaled, made.ltv_scaled) == (
        min(health, 2**63 - 1),
        ceil(Fraction(debt * WORTH, sum(worths.values()))) if sum(worths.values()) else 2**63 - 1,
    )
    assert made.borrow_limit == sum(floor(worths[a.id] * Fraction(a.ltv)) for a in assets[:cut])
    c, d = draw.choice(assets[:cut]), draw.choice(assets[cut:])
    small = ceil(owed[d.id] * unit(d)) < d.min_position or worths[c.id] < d.min_position
    whole = small or health <= d.full_close_health * WORTH
    most = owed[d.id] if whole else min(owed[d.id], floor(exact * Fraction(d.close_factor) / unit(d)))
    paid, factor = most, unit(d) * (1 + Fraction(c.bonus))
    taken = floor(paid * factor / unit(c))
    if taken > held[c.id]:
        taken, paid = held[c.id], min(paid, ceil(held[c.id] * unit(c) / factor))
    left = ceil((owed[d.id] - paid) * unit(d)), floor((held[c.id] - taken) * unit(c))
    dust = paid < owed[d.id] and taken < held[c.id] and min(left) * 2 < d.min_position

    async def liquidate(repay: int | None) -> Any:
        return await db.vaults.liquidate(made, debt=d.id, collateral=c.id, repay=repay, key=None)

    if health >= WORTH or dust or not most:
        with pytest.raises(Conflict):
            await liquidate(None)
        assert (await db.vaults.get(made.id)).debt_value == debt
        return
    with pytest.raises(Conflict):
        await liquidate(most + 1)
    done = await liquidate(None)
    assert (done.repaid, done.seized, done.health_before) == (paid, taken, health)
    told = seize(most, held=held[c.id], debt_unit=_d(unit(d)), collateral_unit=_d(unit(c)), bonus=c.bonus)
    assert (told.repaid, told.seized) == (paid, taken)
    after = await db.vaults.get(made.id)
    rest = sum(floor((held[a.id] - (taken if a is c else 0)) * unit(a)) for a in assets[:cut])
    if not rest:
        assert after.status is (VaultStatus.BAD_DEBT if after.debt_value else VaultStatus.LIQUIDATED)
        assert done.bad_debt == after.debt_value
    else:
        assert after.status in (VaultStatus.ACTIVE, VaultStatus.AT_RISK)
        assert done.bad_debt == 0
    await agree(db)


def _d(value: Fraction) -> Decimal:
    """Exact: a denominator is a power of ten."""
    return Context(prec=80).divide(D(value.numerator), D(value.denominator))


async def test_half_of_an_odd_debt_is_never_more_than_half(db: Session) -> None:
    """18 decimals are finer than the eight of values, whose rounding up is not to be repaid."""
    for owed in (123_456_789_012_345_678_901, 100 * 10**18 + 1, 3):
        eth = await asset(db, "ETH", "2000", threshold=D("0.80"), ltv=D("0.75"))
        dai = await asset(db, "DAI", "1.000000000000000001")
        held = owed * 10**10 // (2_000 * 80 * 10**8 // 97) + 1
        made = await vault(db, {eth.id: held}, {dai.id: owed})
        if made.health_scaled is None or not 95_000_000 < made.health_scaled < WORTH:
            continue
        with pytest.raises(Conflict):
            await db.vaults.liquidate(made, debt=dai.id, collateral=eth.id, repay=owed // 2 + 1, key=None)
        assert (await db.vaults.liquidate(made, debt=dai.id, collateral=eth.id, key=None)).repaid == owed // 2


async def test_an_asset_held_and_owed_at_once(db: Session) -> None:
    usdc = await asset(db, "USDC", "1", decimals=6, threshold=D("0.80"), ltv=D("0.75"))
    made = await vault(db, {usdc.id: 1_000 * 10**6}, {usdc.id: 830 * 10**6})
    assert made.health_factor == D("0.96385542")
    done = await db.vaults.liquidate(made, debt=usdc.id, collateral=usdc.id, key=None)
    assert (done.repaid, done.seized) == (415 * 10**6, 435_750_000)
    await agree(db)


@pytest.mark.parametrize("value", ["0", "-1", "NaN", "1e20", "0.0000000000000000001"])
async def test_a_price_of_nothing_is_refused_and_nothing_moves(db: Session, value: str) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 10**18}, {usdc.id: 10**9})
    with pytest.raises(Invalid):
        await db.vaults.tick(AssetPrice(asset=eth.code, price=D(value), observed_at=at(1)))
    assert (await db.vaults.get(made.id)).health_factor == D("1.65")


async def test_the_least_price_there_is_leaves_bad_health_and_divides_by_nothing(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 10**9}, {usdc.id: 1})
    await db.vaults.tick(price(eth, "0.000000000000000001", 1))
    now = await db.vaults.get(made.id)
    assert (now.collateral_value, now.health_factor, now.ltv) == (0, D(0), D("Infinity"))
    assert [a.kind for a in await db.vaults.alerts(now)].count(AlertKind.LIQUIDATABLE) == 1
    assert [v.id for v in await db.vaults.find_liquidatable()] == [made.id]
    assert [v.id for v in await db.vaults.find_high_risk(D("0.8"))] == [made.id]


async def test_prices_of_equal_and_late_moments(db: Session) -> None:
    eth, usdc = await pair(db)
    await vault(db, {eth.id: 10**18}, {usdc.id: 10**9})
    steps: list[tuple[AssetPrice, bool, Any]] = [
        (price(eth, "2001", 5, source="a", round=7), True, 2001),
        (price(eth, "2002", 5, source="a", round=7), False, 2001),  # the same moment and round
        (price(eth, "2003", 5, source="b", round=7), False, 2001),  # another source at the same moment
        (price(eth, "2004", 5, source="c", round=9), True, 2004),  # a higher round at the same moment
        (price(eth, "2005", 4.999, source="d", round=99), False, 2004),  # a moment before
        (price(eth, "2006", 6, source="c", round=8), False, 2004),  # an older round of that source
        (price(eth, "2006.5", 5, source="c", round=10), True, D("2006.5")),  # a newer round at the same moment
        (price(eth, "2007", 6, source="e"), True, 2007),  # no round at a later moment
        (price(eth, "2008", 6, source="a", round=0), True, 2008),
        (price(eth, "2008.5", 6, source="a", round=1), True, D("2008.5")),
        (price(eth, "2009", 7, source="b"), True, 2009),
    ]
    for given, applied, expected in steps:
        done = await db.vaults.tick(given)
        assert (done.applied, (await db.prices.latest(eth.code)).price) == (applied, expected)
        assert (await db.vault_assets.get(eth.id)).price == expected
    kept = [p async for p in db.prices.history(eth.code, at(4.5), at(6.5))]
    assert [(p.source, p.price) for p in kept if p.source in "ac"] == [
        ("a", 2001),
        ("c", 2004),
        ("c", D("2006.5")),
        ("a", 2008),
        ("a", D("2008.5")),
        ("c", 2006),
    ]
    await agree(db)


async def test_a_late_round_hides_no_newer_one_of_its_batch(db: Session) -> None:
    eth = await asset(db, "ETH", None)
    await db.prices.record(price(eth, "100", 0, source="a", round=5))
    batch = [price(eth, "104", 9, source="a", round=4), price(eth, "106", 8, source="a", round=6)]
    await db.prices.record(batch)
    assert (await db.prices.latest(eth.code)).price == 106
    await db.prices.record([price(eth, "103", 20, source="a", round=3), price(eth, "200", 15, source="b")])
    assert (await db.prices.latest(eth.code)).price == 200
    assert (await db.prices.as_of(eth.code, at(30))).price == 103


@pytest.mark.parametrize(
    ("cooldown", "minutes", "fires"),
    [(60, (0, 59, 60, 119, 120), (1, 0, 1, 0, 1)), (0, (0, 0, 1), (1, 1, 1)), (60, (60, 0, 120), (1, 0, 1))],
)
async def test_a_cooldown_to_the_minute(db: Session, cooldown: int, minutes: Any, fires: Any) -> None:
    eth, usdc = await pair(db)
    await vault(
        db,
        {eth.id: 10**18},
        {usdc.id: 10**9},
        protection=Protection(threshold="0.5", cooldown=timedelta(minutes=cooldown)),
    )
    for n, (moment, expected) in enumerate(zip(minutes, fires, strict=True)):
        done = await db.vaults.tick(price(eth, str(1_900 - n), n + 1), at=at(moment))
        assert done.firings == expected
    assert await db[RuleFiring].count() == sum(fires)


async def test_a_rule_fires_at_its_threshold_and_not_a_hair_before_it(db: Session) -> None:
    for metric, threshold, before, reached in (
        (VaultMetric.LTV, "0.625", "1600.0001", "1600"),
        (VaultMetric.HEALTH, "1.32", "1600.0001", "1600"),
    ):
        eth, usdc = await pair(db)
        rule = Protection(threshold=threshold, metric=metric)
        await vault(db, {eth.id: 10**18}, {usdc.id: 10**9}, protection=rule)
        assert (await db.vaults.tick(price(eth, before, 1))).firings == 0
        assert (await db.vaults.tick(price(eth, reached, 2))).firings == 1


async def test_an_observation_at_the_tolerance_and_without_debt(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 10**18}, {usdc.id: 10**9})
    for n, (ltv, health, mismatch) in enumerate(
        [
            ("0.5", "1.65", False),
            ("0.505", "1.645", False),
            ("0.50500001", None, True),
            (None, "1.65500001", True),
            ("0.495", None, False),
        ]
    ):
        seen = await db.vaults.observe(made, ltv=ltv, health_factor=health, source="s", at=at(n))
        assert seen.mismatch is mismatch
    with pytest.raises(Duplicate):
        await db.vaults.observe(made, ltv="0.5", source="s", at=at(0))
    free = await vault(db, {eth.id: 10**18}, {})
    assert not (await db.vaults.observe(free, ltv="0", source="s")).mismatch
    assert (await db.vaults.observe(free, health_factor="5", source="t")).mismatch


def test_other_numbers_of_makers_page() -> None:
    for debt, ratio, units, expected in (
        (1_000, "1.5", 10, "150"),
        (2_500, "1.75", 8, "546.875"),
        (1, "1", 3, "0.333333333333333333"),
        (0, "1.5", 10, "0"),
    ):
        assert liquidation_price(debt, ratio, units) == D(expected)
    assert collateral_ratio("0.1", 3) == D("0.033333333333333333")
    assert max_debt("0.5", "199.99", "1.3") == D("76.919230769230769230")
    with pytest.raises(Invalid):
        liquidation_price(1, 1, 0)
    with pytest.raises(Invalid):
        max_debt(1, 1, 0)


def test_other_numbers_of_compounds_tests() -> None:
    """Three markets: two of them count, one has a factor of zero."""
    first, second, third = (10**6, D("0.5")), (3_000 * 2, D("0.666")), (10**6, 0)
    whole = account_liquidity([first, second, third], 0)
    assert (whole.liquidity, whole.shortfall) == (503_996, 0)
    assert account_liquidity([first, second], 0, redeem=[second]).liquidity == 500_000
    assert account_liquidity([first, second], 0, borrow=503_996 + 7).shortfall == 7
    assert account_liquidity([first, second], 1_000, redeem=[first], borrow=0).liquidity == 2_996
    assert account_liquidity([], 0) == account_liquidity([(5, 0)], 0)


def test_health_of_several_assets_is_the_weighted_one() -> None:
    held = [(10_000, "0.825"), ("500.5", "0.75"), (300, 0)]
    assert health_factor(held, "6000") == D("1.437562500000000000")
    assert health_factor([], 1) == 0
    assert loan_to_value(0, "0.0001") == D("Infinity")
