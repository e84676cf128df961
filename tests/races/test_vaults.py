"""Sixteen callers at one vault, twenty times over: prices, cooldowns, liquidations, positions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.soak import REPEATS
from tests.vaults.support import ETH, USDC, WORTH, agree, asset, at, code, pair, price, vault

from tallystick import (
    AssetPrice,
    ChainLog,
    Conflict,
    Duplicate,
    LiquidationEvent,
    Protection,
    RiskAlert,
    RuleFiring,
    Session,
    VaultStatus,
)
from tallystick.domains.idempotency import CommandKey
from tallystick.testing import Race

N = 16


@pytest.mark.parametrize("_", REPEATS)
async def test_a_cooldown_fires_once(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = await vault(
        db, {eth.id: ETH}, {usdc.id: 1_000 * USDC}, protection=Protection(threshold="0.5", cooldown=timedelta(hours=1))
    )
    result = await race(N, lambda s, i: s.vaults.tick(price(eth, str(1900 - i), i + 1, round=i), at=at(i)))
    assert result.errors == []
    assert sum(r.firings for r in result.results) == 1
    assert await db[RuleFiring].count() == 1
    assert await db[RiskAlert].count(RiskAlert.vault == made.ref) <= 1
    assert (await db.vaults.get(made.id)).collateral_value == 1_885 * WORTH
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_price_delivered_by_all_is_applied_once(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = await vault(
        db, {eth.id: ETH}, {usdc.id: 1_000 * USDC}, protection=Protection(threshold="0.5", cooldown=timedelta(0))
    )
    result = await race(N, lambda s, i: s.vaults.tick(price(eth, "1050", 1, round=9), at=at(i)))
    assert result.errors == []
    assert sum(r.applied for r in result.results) == 1
    assert (sum(r.firings for r in result.results), sum(r.alerts for r in result.results)) == (1, 2)
    assert len({a.kind for a in await db.vaults.alerts(made)}) == len(await db.vaults.alerts(made)) == 2
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_the_newest_price_is_the_one_that_stays(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_000 * USDC})
    order = [(i * 7 + 3) % N for i in range(N)]
    result = await race(N, lambda s, i: s.vaults.tick(price(eth, str(2000 + order[i]), order[i] + 1)))
    assert result.errors == []
    assert (await db.prices.latest(eth.code)).price == 2015
    assert (await db.vault_assets.get(eth.id)).price == 2015
    assert (await db.vaults.get(made.id)).collateral_value == 2_015 * WORTH
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_the_highest_round_of_a_moment_is_the_one_that_stays(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_000 * USDC})
    rounds = [(i * 7 + 3) % N for i in range(N)]
    # All of one moment, but for four that come late and count higher rounds of another source.
    await db.prices.record(price(eth, "1999", 0, source="b", round=1))
    result = await race(
        N,
        lambda s, i: s.vaults.tick(
            price(eth, str(1500 + i), -1, source="b", round=100 + i)
            if i % 4 == 3
            else price(eth, str(2000 + rounds[i]), 1, source="a", round=rounds[i])
        ),
    )
    assert result.errors == []
    highest = max(rounds[i] for i in range(N) if i % 4 != 3)
    latest = await db.prices.latest(eth.code)
    assert (latest.price, latest.round) == (2000 + highest, highest)
    assert (await db.vault_assets.get(eth.id)).price == latest.price
    assert (await db.vaults.get(made.id)).collateral_value == (2000 + highest) * WORTH
    kept = [p async for p in db.prices.history(eth.code, at(-5), at(5))]
    assert len(kept) == N + 2
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_ticks_of_several_assets_meet_in_the_same_vaults(race: Race, db: Session, _: int):
    usdc = await asset(db, "USDC", "1", decimals=6)
    assets = [await asset(db, f"A{n}", "100") for n in range(4)]
    made = [await vault(db, {a.id: ETH for a in assets}, {usdc.id: 200 * USDC}) for _ in range(5)]

    async def act(s: Session, i: int) -> Any:
        if i % 4 == 3:
            return await s.vaults.deposit(made[i // 4], assets[i // 4].id, ETH, key=f"k{i}")
        return await s.vaults.tick(price(assets[i % 3], str(100 + i), i + 1))

    result = await race(N, act)
    assert result.errors == []
    await agree(db)
    now = await db.vaults.get(made[4].id)
    assert now.collateral_value == (112 + 113 + 114 + 100) * WORTH


@pytest.mark.parametrize("_", REPEATS)
async def test_a_vault_that_begins_to_hold_an_asset_is_not_missed_by_its_tick(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = [await vault(db, {usdc.id: USDC}, {}) for _ in range(N - 1)]

    async def act(s: Session, i: int) -> Any:
        if i == N - 1:
            return await s.vaults.tick(price(eth, "1000", 1))
        return await s.vaults.deposit(made[i], eth.id, ETH, key=None)

    result = await race(N, act)
    assert result.errors == []
    assert {(await db.vaults.get(v.id)).collateral_value for v in made} == {1_001 * WORTH}
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_chain_event_liquidates_once(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 100 * ETH}, {usdc.id: 160_000 * USDC})
    await db.vaults.tick(price(eth, "1900", 1))
    chain = ChainLog(chain_id=1, tx_hash=b"\7" * 32, log_index=4)
    result = await race(
        N,
        lambda s, i: s.vaults.liquidate(
            made, debt=usdc.id, collateral=eth.id, repay=1_000 * USDC, chain=chain, key=f"k{i}"
        ),
    )
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    assert {p.quantity for p in await db.vaults.positions(made)} >= {159_000 * USDC}
    assert await db[LiquidationEvent].count() == await db[CommandKey].count() == 1
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_vault_is_not_liquidated_after_it_is_healthy_again(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 10 * ETH}, {usdc.id: 16_000 * USDC})
    await db.vaults.tick(price(eth, "1920", 1))
    result = await race(N, lambda s, i: s.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    now = await db.vaults.get(made.id)
    assert now.debt_value == 8_000 * WORTH
    assert now.health_scaled is not None
    assert now.health_scaled >= WORTH
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_liquidations_prices_and_repayments_at_once_keep_the_books_right(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 10 * ETH}, {usdc.id: 16_000 * USDC})
    await db.vaults.tick(price(eth, "1930", 1))

    async def act(s: Session, i: int) -> Any:
        match i % 4:
            case 0:
                return await s.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, repay=500 * USDC, key=None)
            case 1:
                return await s.vaults.tick(price(eth, str(1930 - i), i + 1))
            case 2:
                return await s.vaults.repay(made, usdc.id, 300 * USDC, key=None)
            case _:
                return await s.vaults.deposit(made, eth.id, ETH // 100, key=None)

    result = await race(N, act)
    assert result.kinds <= {Conflict}
    events = await db[LiquidationEvent].find()
    by_side = {p.side.value: p.quantity for p in await db.vaults.positions(made)}
    assert by_side["debt"] == 16_000 * USDC - 1_200 * USDC - sum(e.repaid or 0 for e in events)
    assert by_side["collateral"] == 10 * ETH + ETH // 25 - sum(e.seized or 0 for e in events)
    assert all(e.health_before is not None and e.health_before < WORTH for e in events)
    assert (await db.vaults.get(made.id)).collateral_value > 0
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_deposits_of_all_are_held(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 100 * USDC})
    result = await race(N, lambda s, i: s.vaults.deposit(made, eth.id, ETH, key=f"k{i // 2}"))
    assert result.errors == []
    assert (await db.vaults.get(made.id)).collateral_value == 9 * 2_000 * WORTH
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_nobody_borrows_beyond_the_limit_together(race: Race, db: Session, _: int):
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {})
    result = await race(N, lambda s: s.vaults.borrow(made, usdc.id, 300 * USDC, key=None))
    assert result.winners == 5
    assert result.kinds == {Conflict}
    now = await db.vaults.get(made.id)
    assert (now.debt_value, now.status) == (1_500 * WORTH, VaultStatus.ACTIVE)
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_prices_of_a_new_year_are_recorded_by_all(race: Race, db: Session, _: int):
    name, year = code("NEW"), 2110 + _
    day = datetime(year, 1, 1, tzinfo=UTC)
    result = await race(
        N,
        lambda s, i: s.prices.record(
            [AssetPrice(asset=name, price=Decimal(n + 1), observed_at=day + timedelta(days=n)) for n in range(N - i)]
        ),
    )
    assert result.errors == []
    assert sum(r.added for r in result.results) == N
    assert (await db.prices.latest(name)).price == N
