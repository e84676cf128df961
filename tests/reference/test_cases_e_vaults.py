"""The reference cases of vaults: Aave, Maker, Compound and what others wrote about them.

Where a case is of what this library stores, it goes through the database; where it is of another protocol's way of
counting, through the formulas.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

import pytest
from tests.vaults.support import USDC, WORTH, agree, asset, price, vault

from tallystick import Conflict, Invalid, Session, VaultStatus
from tallystick.domains.vaults.risk import (
    account_liquidity,
    close_factor,
    collateral_ratio,
    health_factor,
    liquidation_price,
    loan_to_value,
    max_debt,
    seize,
)

D = Decimal


async def test_70_the_health_factor_of_aaves_help_page(db: Session) -> None:
    held = await asset(db, "X", "1", decimals=6, threshold=D("0.80"), ltv=D("0.75"), bonus=D("0.05"))
    made = await vault(db, {held.id: 10_000 * USDC}, {held.id: 6_000 * USDC})
    assert made.health_factor == D("1.33333333")
    assert health_factor([(10_000, "0.80")], 6_000) == D("1.333333333333333333")


async def test_71_without_debt_nothing_is_divided(db: Session) -> None:
    held = await asset(db, "X", "1")
    made = await vault(db, {held.id: 10**18}, {})
    assert made.health_factor is None
    assert health_factor([(1, "0.8")], 0) is None
    assert loan_to_value(0, 0) is None
    assert collateral_ratio(5, 0) is None


@pytest.mark.parametrize(
    ("health", "expected"),
    [("0.9500000001", "0.5"), ("0.95", "1"), ("0.94", "1"), ("0.9999", "0.5"), ("0", "1"), ("1", "0"), ("1.2", "0")],
)
def test_72_half_above_95_percent_and_all_at_it(health: str, expected: str) -> None:
    assert close_factor(health) == D(expected)


async def test_72_in_the_database(db: Session) -> None:
    """Health factors of 0.95 itself and of a hair above it."""
    for debt, most in ((16_000 * USDC, 16_000 * USDC), (15_999_999_000, 7_999_999_500)):
        held = await asset(db, "X", "2000", threshold=D("0.80"), ltv=D("0.75"))
        usdc = await asset(db, "USDC", "1", decimals=6)
        made = await vault(db, {held.id: 10**19}, {usdc.id: debt})
        await db.vaults.tick(price(held, "1900", 1))
        with pytest.raises(Conflict):
            async with db.transaction():
                await db.vaults.liquidate(made, debt=usdc.id, collateral=held.id, repay=most + 1, key=None)
        done = await db.vaults.liquidate(made, debt=usdc.id, collateral=held.id, repay=most, key=None)
        assert done.repaid == most
        await agree(db)


async def test_73_small_positions_are_liquidated_whole(db: Session) -> None:
    """Threshold 1,000: collateral 1,200, debt 900, health factor 0.96. The old rule closes half."""
    for least, expected in ((1_000, 900 * USDC), (0, 450 * USDC)):
        held = await asset(db, "X", "2000", threshold=D("0.72"), ltv=D("0.70"))
        usdc = await asset(db, "USDC", "1", decimals=6, min_position=least * WORTH)
        made = await vault(db, {held.id: 10**18}, {usdc.id: 900 * USDC})
        await db.vaults.tick(price(held, "1200", 1))
        assert (await db.vaults.get(made.id)).health_factor == D("0.96")
        done = await db.vaults.liquidate(made, debt=usdc.id, collateral=held.id, key=None)
        assert done.repaid == expected
    assert close_factor("0.96", collateral=1_200, debt=900, min_position=1_000) == 1
    assert close_factor("0.96", collateral=1_200, debt=900) == D("0.5")


@pytest.mark.parametrize(
    ("health", "supply", "expected"), [("0.94", 100, "1"), ("0.97", "0.5", "1"), ("0.97", 100, "0.5")]
)
def test_75_close_factors_of_aaves_tests(health: str, supply: object, expected: str) -> None:
    held = D(str(supply)) * 2_000
    assert close_factor(health, collateral=held, debt=held * D("0.8"), min_position=2_000) == D(expected)


def test_77_maker() -> None:
    assert liquidation_price(1_000, "1.5", 10) == 150
    assert collateral_ratio(10 * 300, 1_000) == 3
    assert liquidation_price(1_000, "1.5", 12) == 125
    assert liquidation_price(600, "1.5", 10) == 90


def test_78_the_most_that_may_be_owed() -> None:
    assert int(max_debt(10, 200, "1.5")) == 1_333
    assert max_debt(10, 102, "1.5") == 680


def test_80_a_collateral_ratio() -> None:
    assert collateral_ratio(18_000, 10_000) == D("1.8")


def test_81_a_position_that_falls() -> None:
    debt = max_debt(1, 100_000, "1.5").quantize(D("0.01"), ROUND_DOWN)
    assert debt == D("66666.66")
    assert int(collateral_ratio(95_000, max_debt(1, 100_000, "1.5")) * 100) == 142  # type: ignore[operator]
    closed = max_debt(1, 100_000, "1.5") * D("0.5")
    assert round(closed, 2) == D("33333.33")
    taken = seize(3_333_333, held=10**9, debt_unit="0.01", collateral_unit="0.01", bonus="0.10")
    assert taken.seized - taken.repaid == 333_333


def test_82_compound() -> None:
    supply = [(1_000_000, "0.5")]
    assert account_liquidity(supply, 0).liquidity == 500_000
    borrowed = account_liquidity(supply, 0, borrow=1_000_000)
    assert (borrowed.liquidity, borrowed.shortfall) == (0, 500_000)
    redeemed = account_liquidity(supply, 0, redeem=supply)
    assert (redeemed.liquidity, redeemed.shortfall) == (0, 0)


async def test_the_sample_of_the_source_is_a_bad_source(db: Session) -> None:
    """Collateral 20,000 and debt 10,000 have a health factor of 2.0 only at a threshold of 1, which no asset has."""
    with pytest.raises(Invalid):
        await asset(db, "X", None, threshold=D(1), bonus=D(0))
    assert health_factor([(20_000, "0.7")], 10_000) == D("1.4")
    assert loan_to_value(20_000, 10_000) == D("0.5")


async def test_at_exactly_1_nothing_is_liquidated(db: Session) -> None:
    held = await asset(db, "X", "2000", threshold=D("0.80"), ltv=D("0.75"))
    usdc = await asset(db, "USDC", "1", decimals=6)
    made = await vault(db, {held.id: 10**18}, {usdc.id: 1_600 * USDC})
    assert (made.health_factor, made.status) == (D(1), VaultStatus.AT_RISK)
    with pytest.raises(Conflict):
        await db.vaults.liquidate(made, debt=usdc.id, collateral=held.id, key=None)


@pytest.mark.parametrize("bad", [0.5, -1, "x", "NaN", None, True])
def test_formulas_refuse_what_is_no_number(bad: object) -> None:
    for call in (
        lambda: health_factor([(bad, "0.8")], 1),
        lambda: loan_to_value(bad, 1),
        lambda: max_debt(bad, 1, 1),
        lambda: close_factor(bad),
    ):
        with pytest.raises(Invalid):
            call()
