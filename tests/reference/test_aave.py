"""Aave's reserves, borrowers and liquidations against what their folders say can be reproduced."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tallystick import Invalid, LiquidationEvent, Session, Vault, VaultAssetChange, VaultObservation
from tallystick.domains.vaults.datasets import aave_liquidations, aave_positions, aave_reserves

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared")) / "data"
D = Decimal


def real(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (SHARED / name).is_dir(), reason=f"no data/{name} in TALLYSTICK_SHARED or ../shared beside the checkout"
    )


@real("aave_v3_reserves")
async def test_exactly_one_reserve_field_changed(db: Session) -> None:
    done = await aave_reserves.load(db, SHARED / "aave_v3_reserves")
    assert (done.reserves, done.added) == (25, 25)
    (change,) = done.changes
    assert (change.asset, change.parameter) == ("WETH", "interestRateStrategy")
    assert change.strategy["variableRateSlope1"].endswith("-> " + str(28 * 10**24))
    assert change.strategy["optimalUsageRatio"].endswith("-> " + str(8 * 10**26))
    assert await db[VaultAssetChange].count() == 1
    for code, *numbers in (
        ("WETH", "0.8050", "0.8300", "0.05"),
        ("WBTC", "0.73", "0.78", "0.05"),
        ("USDC", "0.77", "0.80", "0.045"),
        ("DAI", "0.77", "0.80", "0.05"),
        ("GHO", "0", "0", "0"),
    ):
        asset = await db.vault_assets.by_code(code)
        assert [asset.ltv, asset.threshold, asset.bonus] == [D(n) for n in numbers]
    moment = datetime(2023, 10, 31, tzinfo=UTC)
    assert (await db.prices.as_of("WETH", moment, source=aave_reserves.SOURCE)).price == D("1816.85499606")
    assert round((await db.prices.as_of("WBTC", moment, source=aave_reserves.SOURCE)).price, 2) == D("34814.14")
    again = await aave_reserves.load(db, SHARED)
    assert (again.added, again.changes) == (0, done.changes)


@real("aave_v2_positions")
async def test_health_factors_within_half_a_cent_in_every_row_of_one_asset(db: Session) -> None:
    heard: list[int] = []
    done = await aave_positions.load(db, SHARED / "aave_v2_positions", heard.append)
    assert (done.files, done.rows, done.added, sum(heard)) == (7, 1_073, 1_073, 1_073)
    by = {b.address[:6]: b for b in done.borrowers}
    # The last row of each file is the one with no collateral left at all: its health factor is zero on both sides.
    assert (by["0x60f9"].with_debt, by["0x60f9"].single, by["0x60f9"].below_one) == (209, 209, 118)
    assert (by["0x4cba"].with_debt, by["0x4cba"].single, by["0x4cba"].below_one) == (116, 116, 43)
    assert all(b.single_within == b.single for b in done.borrowers)
    for user, most in (("0x60f9", D("0.00495")), ("0x4cba", D("0.00497"))):
        greatest = by[user].greatest
        assert greatest is not None
        assert D("0.0049") < greatest <= most
    assert sum(b.single for b in done.borrowers) == 522
    vault = await db.vaults.one(Vault.external_id == "0x60f9c8582ba286eb076f700dbb1376371ef77599")
    assert (vault.collateral_value, vault.health_factor) == (0, D(0))
    below = await db[VaultObservation].count(VaultObservation.vault == vault.ref, VaultObservation.health < 100_000_000)  # type: ignore[operator]
    assert below == 118
    again = await aave_positions.load(db, SHARED)
    assert (again.added, again.borrowers) == (0, done.borrowers)


@real("aave_v2_liquidations")
async def test_two_scales_are_noticed_and_read_apart(db: Session) -> None:
    folder = SHARED / "aave_v2_liquidations"
    done = await aave_liquidations.load(db, folder)
    assert (done.events, done.added) == (11_497, 11_497)
    base, whole = done.scales
    assert (base.scale, base.rows, base.first.date().isoformat(), base.last.date().isoformat()) == (
        "base units",
        6_231,
        "2020-12-17",
        "2021-07-27",
    )
    assert (whole.scale, whole.rows, whole.first.date().isoformat(), whole.last.date().isoformat()) == (
        "whole tokens",
        5_266,
        "2021-07-28",
        "2022-04-03",
    )
    assert done.notices[0].startswith("Two scales are mixed in one column: 6,231 rows in base units")
    main = "0xb53c1a33016b2dc2ff3653530bff1848a515c8c5"
    assert done.pools[main] == 11_384
    assert done.bonuses["WETH"] == (3_002, D("1.0500"))
    assert (done.bonuses["DAI"][1], done.bonuses["MKR"][1]) == (D("1.0500"), D("1.0800"))
    assert done.liquidators == 59
    early = await db[LiquidationEvent].find(
        LiquidationEvent.occurred_at < datetime(2021, 5, 1, tzinfo=UTC), limit=20_000, load=[LiquidationEvent.vault]
    )
    pool = bytes.fromhex(main[2:])
    assert sum(e.vault.value.contract == pool for e in early) == 1_039
    again = await aave_liquidations.load(db, folder)
    assert again.added == 0
    # Of both scales the amounts are base units now: what an event of WETH took is below ten thousand ethers.
    weth = await db.vault_assets.by_code("WETH")
    found = await db[LiquidationEvent].find(LiquidationEvent.collateral_asset == weth.ref, limit=20_000)
    assert max(e.seized or 0 for e in found) < 50_000 * 10**18
    assert min(e.seized or 0 for e in found if e.details["scale"] == "whole tokens") < 10**18


@real("aave_v2_liquidations")
async def test_the_normalised_rows_are_of_one_scale(db: Session) -> None:
    file = SHARED / "aave_v2_liquidations" / "liquidations_normalised_rows.csv"
    done = await aave_liquidations.load(db, file)
    assert (done.events, done.borrowers, done.liquidators) == (5_266, 1_728, 59)
    assert [s.scale for s in done.scales] == ["whole tokens"]
    assert not any("scales" in n for n in done.notices)


HEAD = (
    "collateralAmount,collateralReserve,pool,principalAmount,principalReserve,timestamp,user,liquidator,"
    "amountUSDCollateral,amountUSDPrincipal"
)
POOL, USER = "0x" + "ab" * 20, "0x" + "cd" * 20


@pytest.mark.parametrize(
    "line",
    [
        f"15,WETH,{POOL},100,DAI,1626124715,{USER},{USER},1,1000",
        f"15,WETH,{POOL},100,DAI,1626124715,{USER},{USER},0,0",
        f"1.5,,{POOL},100,DAI,1626124715,{USER},{USER},1,1",
        f"x,WETH,{POOL},100.5,DAI,1626124715,{USER},{USER},1,1",
        f"1.5,WETH,{POOL},NaN,DAI,1626124715,{USER},{USER},1,1",
        f"1.5,WETH,pool,1.5,DAI,1626124715,{USER},{USER},1,1",
        f"1.5,WETH,{POOL},1.5,DAI,-1,{USER},{USER},1,1",
        f"1.5,WETH,{POOL}",
    ],
)
async def test_a_liquidation_that_cannot_be_read_names_its_line(db: Session, tmp_path: Path, line: str) -> None:
    good = f"1.5,WETH,{POOL},100.5,DAI,1626124715,{USER},{USER},105,100"
    (tmp_path / "liquidations_raw.csv").write_text(f"{HEAD}\n{good}\n{line}\n")
    (tmp_path / "tokens.csv").write_text(
        "symbol,decimals,reserveLiquidationThreshold,reserveLiquidationBonus\nWETH,18,8500.0,10500.0\n"
    )
    with pytest.raises(Invalid, match="Line 3"):
        await aave_liquidations.load(db, tmp_path)
    assert await db.vaults.count() == 0


async def test_what_is_no_data_is_refused(db: Session, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "0x1.csv").write_text("block,timestamp\n1,2\n")
    (tmp_path / "bin").write_bytes(b"\xff\xfe\0")
    for load, path in (
        (aave_reserves.load, tmp_path / "x.json"),
        (aave_reserves.load, tmp_path / "nowhere"),
        (aave_positions.load, tmp_path),
        (aave_positions.load, tmp_path / "bin"),
        (aave_liquidations.load, tmp_path),
    ):
        with pytest.raises(Invalid):
            await load(db, path)  # type: ignore[operator]
