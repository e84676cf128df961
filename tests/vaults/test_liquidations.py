"""Liquidations: judged by the database, never beyond the close factor or the collateral, counted once."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from tests.vaults.support import ETH, T0, USDC, WORTH, agree, asset, pair, price, vault

from tallystick import (
    AlertKind,
    ChainLog,
    Conflict,
    Denied,
    Duplicate,
    Invalid,
    KeyReused,
    LiquidationEvent,
    LiquidationOrigin,
    Ref,
    Session,
    VaultStatus,
)
from tallystick.domains.vaults.risk import seize
from tallystick.testing import Sandbox


async def quantities(db: Session, made: object) -> dict[str, int]:
    return {p.side.value: p.quantity for p in await db.vaults.positions(made)}  # type: ignore[arg-type]


async def test_half_is_liquidated_above_the_full_close_health(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 10 * ETH}, {usdc.id: 16_000 * USDC})
    with pytest.raises(Conflict):
        async with db.transaction():
            await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, key=None)
    await db.vaults.tick(price(eth, "1900", 1))
    with pytest.raises(Conflict):
        async with db.transaction():
            await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, repay=8_001 * USDC, key=None)
    with pytest.raises(Conflict):
        async with db.transaction():
            await db.vaults.liquidate(made, debt=eth.id, collateral=usdc.id, key=None)
    chain = ChainLog(chain_id=1, tx_hash=b"\1" * 32, log_index=3)
    done = await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, chain=chain, on=date(2026, 3, 1), key="l")
    assert done.repaid == 8_000 * USDC
    # 8,000 x 1.05 / 1,900 of an ether, rounded down.
    assert done.seized == 8_400 * 10**18 // 1_900
    assert (done.bad_debt, done.effective, done.origin) == (0, date(2026, 3, 1), LiquidationOrigin.APPLIED)
    assert (done.health_before, done.health_after) == (97_968_750, 109_312_500)
    assert done.health_before < WORTH < done.health_after  # type: ignore[operator]
    now = await db.vaults.get(made.id)
    assert now.status is VaultStatus.AT_RISK
    assert await quantities(db, made) == {"collateral": 10 * ETH - done.seized, "debt": 8_000 * USDC}
    again = await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, chain=chain, on=date(2026, 3, 1), key="l")
    assert again == done
    with pytest.raises(KeyReused):
        async with db.transaction():
            await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, repay=1, key="l")
    await agree(db)


async def test_all_is_liquidated_at_the_full_close_health(db: Session) -> None:
    eth, usdc = await pair(db, threshold=Decimal("0.80"), ltv=Decimal("0.75"))
    # 10 ETH at 1,900: 15,200 of weighted collateral over 16,000 is 0.95 itself.
    made = await vault(db, {eth.id: 10 * ETH}, {usdc.id: 16_000 * USDC})
    await db.vaults.tick(price(eth, "1900", 1))
    done = await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, key=None)
    assert (done.repaid, done.health_before) == (16_000 * USDC, 95_000_000)
    now = await db.vaults.get(made.id)
    assert (now.status, now.debt_value, now.health_factor) == (VaultStatus.ACTIVE, 0, None)
    assert await db.vaults.alerts(made) == []
    await agree(db)


async def test_no_more_than_the_collateral_is_seized_and_the_rest_is_bad_debt(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 10 * ETH}, {usdc.id: 16_000 * USDC})
    await db.vaults.tick(price(eth, "1500", 1))
    done = await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, key=None)
    expected = seize(
        16_000 * USDC,
        held=10 * ETH,
        debt_unit=Decimal("1e-6"),
        collateral_unit=Decimal("1500e-18"),
        bonus=Decimal("0.05"),
    )
    assert (done.repaid, done.seized) == (expected.repaid, expected.seized) == (14_285_714_286, 10 * ETH)
    assert done.bad_debt == (16_000 * USDC - 14_285_714_286) * 100
    now = await db.vaults.get(made.id)
    assert (now.status, now.collateral_value, now.debt_value) == (VaultStatus.BAD_DEBT, 0, done.bad_debt)
    assert AlertKind.BAD_DEBT in {a.kind for a in await db.vaults.alerts(made)}
    with pytest.raises(Conflict):
        async with db.transaction():
            await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, key=None)
    await agree(db)


async def test_a_newer_shared_price_is_applied_before_it_is_judged(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 10 * ETH}, {usdc.id: 16_000 * USDC})
    await db.vaults.tick(price(eth, "1900", 1))
    await db.prices.record(price(eth, "2100", 2))
    with pytest.raises(Conflict):
        async with db.transaction():
            await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, key=None)
    await db.prices.record(price(eth, "1800", 3))
    done = await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, key=None)
    assert done.health_before == 92_812_500


async def test_dust_is_not_left_behind(db: Session) -> None:
    eth = await asset(db, "ETH", "2000")
    usdc = await asset(db, "USDC", "1", decimals=6, min_position=2_000 * WORTH)
    made = await vault(db, {eth.id: 10 * ETH}, {usdc.id: 16_000 * USDC})
    await db.vaults.tick(price(eth, "1800", 1))
    with pytest.raises(Conflict):
        async with db.transaction():
            await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, repay=15_500 * USDC, key=None)
    done = await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, repay=15_000 * USDC, key=None)
    assert done.repaid == 15_000 * USDC


async def test_a_chain_event_counts_once(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 100 * ETH}, {usdc.id: 160_000 * USDC})
    await db.vaults.tick(price(eth, "1900", 1))
    chain = ChainLog(chain_id=1, tx_hash=b"\2" * 32, log_index=0)
    await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, repay=1_000 * USDC, chain=chain, key=None)
    with pytest.raises(Duplicate):
        async with db.transaction():
            await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, repay=1_000 * USDC, chain=chain, key=None)
    other = ChainLog(chain_id=1, tx_hash=b"\2" * 32, log_index=1)
    await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, repay=1_000 * USDC, chain=other, key=None)
    assert (await quantities(db, made))["debt"] == 158_000 * USDC
    for hash, index in ((b"short", 0), (b"\3" * 32, -1)):
        with pytest.raises(Invalid):
            ChainLog(chain_id=1, tx_hash=hash, log_index=index)
    with pytest.raises(Invalid):
        await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, chain=(1, b"\3" * 32, 0), key=None)  # type: ignore[arg-type]
    for bad in (0, -1, 1.5, True, 2**256):
        with pytest.raises(Invalid):
            await db.vaults.liquidate(made, debt=usdc.id, collateral=eth.id, repay=bad, key=None)  # type: ignore[arg-type]


async def test_what_was_seen_elsewhere_is_written_down_and_changes_nothing(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_000 * USDC})
    seen = await db[LiquidationEvent].add(
        LiquidationEvent(
            vault=made.ref,
            origin=LiquidationOrigin.OBSERVED,
            debt_asset=usdc.ref,
            collateral_asset=eth.ref,
            repaid=5 * USDC,
            seized=7,
            reference="elsewhere 1",
            occurred_at=T0,
            effective=T0.date(),
        )
    )
    assert await db.vaults.get(made.id) == made
    with pytest.raises(Denied):
        await db.unit.call("DELETE FROM tally.liquidation_event WHERE id = $1", (seen.id,))


async def test_a_client_that_adds_the_row_itself_is_judged_all_the_same(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_000 * USDC})
    row = LiquidationEvent(
        vault=made.ref,
        debt_asset=usdc.ref,
        collateral_asset=eth.ref,
        repaid=USDC,
        occurred_at=T0,
        effective=T0.date(),
    )
    with pytest.raises(Conflict):
        async with db.transaction():
            await db[LiquidationEvent].add(row)
    await db.vaults.tick(price(eth, "1100", 1))
    forged = LiquidationEvent(
        vault=made.ref,
        debt_asset=usdc.ref,
        collateral_asset=eth.ref,
        repaid=USDC,
        seized=ETH,
        occurred_at=T0,
        effective=T0.date(),
    )
    with pytest.raises(Conflict):
        async with db.transaction():
            await db[LiquidationEvent].add(forged)
    added = await db[LiquidationEvent].add(row)
    assert (await db[LiquidationEvent].get(added.id)).seized == 1_050_000_000_000_000_000 // 1_100
    await agree(db)


async def test_another_tenants_vault_is_not_there(sandbox: Sandbox, db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_500 * USDC})
    await db.vaults.tick(price(eth, "1100", 1))
    await sandbox.tally.tenants.create("neighbour", name="Neighbour")
    async with sandbox.session("neighbour") as other:
        with pytest.raises(Invalid):
            async with other.transaction():
                await other.vaults.liquidate(made.id, debt=usdc.id, collateral=eth.id, key=None)
    assert Ref(made.id) == made.ref
