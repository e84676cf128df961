"""Files of the kinds that are loaded as others might hand them in: moved columns, packed, cut short, other values."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.vaults.support import code

from tallystick import (
    Invalid,
    LiquidationEvent,
    RoleMissing,
    Session,
    VaultAssetChange,
    VaultObservation,
)
from tallystick.domains.savings import mozambique
from tallystick.domains.vaults.datasets import aave_liquidations, aave_positions, aave_reserves, market_data
from tallystick.domains.vaults.datasets.thresholds import roundest
from tallystick.testing import Sandbox

D = Decimal
POOL, USER, OTHER = "0x" + "ab" * 20, "0x" + "cd" * 20, "0x" + "ef" * 20


def packed(text: str) -> bytes:
    return gzip.compress(text.encode())


WAYS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "gzip": packed,
    "byte order mark": lambda t: b"\xef\xbb\xbf" + t.encode(),
    "other line ends": lambda t: t.replace("\n", "\r\n").encode(),
    "no last line end": lambda t: t.rstrip("\n").encode(),
    "empty lines": lambda t: (t + "\n\n").encode(),
    "all of it": lambda t: gzip.compress(b"\xef\xbb\xbf" + t.replace("\n", "\r\n").encode()),
}


# -- prices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_prices_of_any_wrapping_and_order_of_columns(db: Session, tmp_path: Path, way: str) -> None:
    coin, day = code("C"), "2021-03-04"
    files = {
        "h": f"extra,USD_price,timestamp,symbol\nx,1.25,1614816000000,{coin}h\nx,1.5,1614819600,{coin}h\n",
        "d": "Close,Low,High,Open,Name,Date,Volume,Symbol\n" + f"2,1,3,1.5,a coin,{day} 23:59:59,,{coin}\n",
        "r": "Date,CHF, JPY,XAF,\n" + f"{day},1.1,N/A,655.957,\n" + "05 March 2021,1.2,130,,\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.csv{'.gz' if way == 'gzip' else ''}").write_bytes(WAYS[way](text))
    done = await market_data.load(db, tmp_path)
    assert (len(done.files), done.prices) == (3, 7)
    hour = [p async for p in db.prices.history(f"{coin}h", _day(2021), _day(2022))]
    assert [(p.price, p.observed_at.hour) for p in hour] == [(D("1.25"), 0), (D("1.5"), 1)]
    bar = await db.prices.as_of(coin, _day(2022), source=market_data.CAP)
    assert (bar.price, bar.open, bar.high, bar.low, bar.volume) == (2, D("1.5"), 3, 1, None)
    for quote, rate, of in (("CHF", "1.2", 5), ("JPY", "130", 5), ("XAF", "655.957", 4)):
        found = await db.prices.as_of("EUR", datetime(2021, 3, 6, tzinfo=UTC), quote=quote, source=market_data.ECB)
        assert (found.price, found.observed_at.day) == (D(rate), of)
    assert (await market_data.load(db, tmp_path)).added == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "Date\n2021-01-01\n",
        "Date,usd\n2021-01-01,1\n",
        "symbol,timestamp,USD_price\nX,1614816000000,0\n",
        "symbol,timestamp,USD_price\nX,1614816000000,0.0000000000000000001\n",
        "symbol,timestamp,USD_price,USD_price\nX,1614816000000,1,1\n",
        "symbol,timestamp,USD_price\n,1614816000000,1\n",
        "symbol,timestamp,USD_price\nX,1614816000000\n",
        'symbol,timestamp,USD_price\n"X,1614816000000,1\n',
        "symbol,timestamp,USD_price\nX,1614816000000,1\nX,1614816000000,2\n",
        "Date,USD,\n2021-01-01,0,\n",
        "Symbol,Date,Open,High,Low,Close,Volume\nX,2021-01-01,1,1,1,1,-1\n",
    ],
)
async def test_prices_that_are_none(db: Session, tmp_path: Path, text: str) -> None:
    name = code("OK")
    (tmp_path / "a.csv").write_text(f"symbol,timestamp,USD_price\n{name},1614816000000,1\n")
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(Invalid) as refused:
        await market_data.load(db, tmp_path)
    assert refused.value.remedy
    assert await market_data.stored(db, market_data.GECKO, [name]) == []


async def test_files_that_are_damaged(db: Session, tmp_path: Path) -> None:
    whole = packed("symbol,timestamp,USD_price\n" + "".join(f"X,16148160{n:05},1.{n}\n" for n in range(500)))
    for content in (whole[:-9], whole[:40], whole[:12] + b"\xff\xff\xff" + whole[15:], b"\x1f\x8b", b"\xff\xfe\0\0"):
        (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(Invalid):
            await market_data.load(db, tmp_path / "x.csv")
    with pytest.raises(Invalid):
        await market_data.load(db, tmp_path / "nothing")


# -- reserves ------------------------------------------------------------------------------------------------------


def reserve(name: str, token: int, /, **given: Any) -> dict[str, Any]:
    base = {
        "symbol": name,
        "underlying": f"0x{token:040X}",
        "decimals": 18,
        "ltv": 7000,
        "liquidationThreshold": 7500,
        "liquidationBonus": 10500,
        "oracleLatestAnswer": 100_000_000,
        "oracleDecimals": 8,
        "reserveFactor": 1000,
        "isFrozen": False,
        "supplyCap": 10,
    }
    return base | given


def snapshot(folder: Path, name: str, *reserves: dict[str, Any], chain: int = 1, way: str = "plain") -> None:
    text = json.dumps({"chainId": chain, "reserves": {r["underlying"]: r for r in reserves}, "strategies": {}})
    (folder / name).write_bytes(WAYS[way](text))


@pytest.mark.parametrize(
    ("changed", "parameter", "before", "after"),
    [
        ({"ltv": 0}, "ltv", "0.70000000", "0.00000000"),
        ({"liquidationThreshold": 7600}, "threshold", "0.75000000", "0.76000000"),
        ({"liquidationBonus": 10750}, "bonus", "0.05000000", "0.07500000"),
        ({"reserveFactor": 1500}, "reserveFactor", "1000", "1500"),
        ({"isFrozen": True}, "isFrozen", "false", "true"),
        ({"supplyCap": 0}, "supplyCap", "10", "0"),
        ({"flashLoans": True}, "flashLoans", None, "true"),
        ({"oracleLatestAnswer": "100000001"}, "oracleLatestAnswer", "100000000", "100000001"),
        ({"symbol": "XYZ.e"}, "symbol", None, "XYZ.e"),
    ],
)
async def test_any_field_of_a_reserve_that_changes(
    db: Session, tmp_path: Path, changed: dict[str, Any], parameter: str, before: str | None, after: str
) -> None:
    snapshot(tmp_path, "P_20240101_before.json", reserve("XYZ", 1), reserve("ABC", 2), way="byte order mark")
    snapshot(tmp_path, "P_20240101_after.json.gz", reserve("XYZ", 1, **changed), reserve("ABC", 2), way="gzip")
    done = await aave_reserves.load(db, tmp_path)
    assert [(c.asset, c.parameter, c.before, c.after) for c in done.changes] == [("XYZ", parameter, before, after)]
    assert (done.reserves, done.added) == (2, 2)
    again = await aave_reserves.load(db, tmp_path)
    assert (again.added, again.changes) == (0, done.changes)


async def test_a_history_of_several_proposals_goes_by_their_days(db: Session, tmp_path: Path) -> None:
    for name, day, was, now in (("Zebra", 20230801, 7000, 7100), ("Ape", 20231031, 7100, 7300)):
        snapshot(tmp_path, f"{name}_{day}_before.json", reserve("XYZ", 1, ltv=was))
        snapshot(tmp_path, f"{name}_{day}_after.json", reserve("XYZ", 1, ltv=now), reserve("NEW", day))
    done = await aave_reserves.load(db, tmp_path)
    assert [c.after for c in done.changes] == ["0.71000000", "0.73000000"]
    assert await db[VaultAssetChange].count() == 2


async def test_two_reserves_of_one_symbol_are_two_assets(db: Session, tmp_path: Path) -> None:
    one, two = reserve("USDC", 1, decimals=6), reserve("USDC", 2, decimals=6, ltv=100)
    snapshot(tmp_path, "x_before.json", one, two)
    snapshot(tmp_path, "x_after.json", one, two | {"ltv": 200})
    done = await aave_reserves.load(db, tmp_path)
    assert (done.reserves, done.added, len(done.changes)) == (2, 2, 1)
    assert {a.ltv async for a in db.vault_assets.stream()} == {D("0.7"), D("0.02")}


async def test_an_asset_that_is_there_already_gets_the_reserves_parameters(db: Session, tmp_path: Path) -> None:
    from tallystick import VaultAsset

    await db.vault_assets.add(VaultAsset(code="XYZ", ltv=D("0.1"), threshold=D("0.2")))
    snapshot(tmp_path, "x.json", reserve("XYZ", 1))
    assert (await aave_reserves.load(db, tmp_path)).added == 0
    assert (await db.vault_assets.by_code("XYZ")).ltv == D("0.70")


@pytest.mark.parametrize(
    "wrong",
    [
        {"ltv": "much"},
        {"ltv": -1},
        {"ltv": 8000},
        {"liquidationThreshold": 9_999, "liquidationBonus": 20_000},
        {"liquidationThreshold": 99_999},
        {"decimals": 200},
        {"decimals": 18.5},
        {"symbol": None},
        {"oracleLatestAnswer": None},
    ],
)
async def test_reserves_that_are_wrong_store_nothing(db: Session, tmp_path: Path, wrong: dict[str, Any]) -> None:
    name = code("R")
    snapshot(tmp_path, "x_before.json", reserve(name, 1))
    snapshot(tmp_path, "x_after.json", reserve(name, 1), reserve("BAD", 2, **wrong))
    with pytest.raises(Invalid):
        await aave_reserves.load(db, tmp_path)
    assert await db.vault_assets.count() == 0
    assert await market_data.stored(db, aave_reserves.SOURCE, [name]) == []


async def test_reserves_of_two_chains_and_changed_decimals_are_refused(db: Session, tmp_path: Path) -> None:
    snapshot(tmp_path, "x_before.json", reserve("XYZ", 1))
    snapshot(tmp_path, "x_after.json", reserve("XYZ", 1), chain=137)
    with pytest.raises(Invalid, match="several chains"):
        await aave_reserves.load(db, tmp_path)
    snapshot(tmp_path, "x_after.json", reserve("XYZ", 1, decimals=6))
    with pytest.raises(Invalid, match="decimals"):
        await aave_reserves.load(db, tmp_path)
    assert await db.vault_assets.count() == 0


# -- borrowers -----------------------------------------------------------------------------------------------------


def borrower(rows: list[tuple[int, str, dict[str, str], str, str]], user: str = USER, turn: bool = False) -> str:
    """A file of rows (moment, collateral in wei, base units by token, debt in wei, health factor)."""
    tokens = sorted({t for _, _, held, _, _ in rows for t in held})
    header = ["block", "timestamp", "user", "totalCollateral", "totalDebt", "healthFactor", "tokenAddress"]
    header += [f"{t}_collateral" for t in tokens] + ["DAI_debt", "note"]
    header += [f"{t}_collateral (in USD)" for t in tokens] + ["totalCollateral (in USD)"]
    lines = [header]
    for at, total, held, debt, health in rows:
        values = [str(at // 10), str(at), user, total, debt, health, OTHER]
        values += [held.get(t, "") for t in tokens] + ["0.0", "-"]
        lines.append([*values, *(held.get(t, "0.0") for t in tokens), total])
    return "".join(",".join(reversed(line) if turn else line) + "\n" for line in lines)


WEI = "1000000000000000000"


def single(at: int, token: str, debt: str, health: str) -> tuple[int, str, dict[str, str], str, str]:
    return (at, WEI, {token: "1"}, f"{int(D(debt) * 10**18)}", health)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("turn", [False, True])
async def test_borrowers_of_any_wrapping_and_order(db: Session, tmp_path: Path, way: str, turn: bool) -> None:
    rows = [
        single(1_614_000_300, "WETH", "0.6", "1.38"),
        single(1_614_000_200, "WETH", "0.5", "1.65"),
        (1_614_000_100, WEI, {"WETH": "1"}, "0", "inf" if turn else "1.157920892373162e+59"),
        (1_614_000_400, WEI, {"WETH": "3.0", "DAI": "1.0"}, "5e17", "1.64"),
        single(1_614_000_300, "WETH", "0.6", "1.38"),
    ]
    (tmp_path / f"{USER}_x.csv{'.gz' if way == 'gzip' else ''}").write_bytes(WAYS[way](borrower(rows, turn=turn)))
    done = await aave_positions.load(db, tmp_path)
    (found,) = done.borrowers
    assert (found.rows, found.with_debt, found.single, found.single_within, found.within) == (4, 3, 2, 2, 3)
    assert (found.greatest, done.notices) == (D("0.005"), ())
    (vault,) = [v async for v in db.vaults.stream()]
    assert vault.ltv == D("0.5")
    again = await aave_positions.load(db, tmp_path)
    assert (again.added, again.borrowers) == (0, done.borrowers)


async def test_the_threshold_of_an_unknown_token_is_read_from_its_rows(db: Session, tmp_path: Path) -> None:
    rows = [
        (1_614_000_000, WEI, {"GEM": "1", "WETH": "1"}, f"{5 * 10**17}", "1.48"),
        *(single(1_614_000_100 + n, "GEM", d, f"{D('0.65') / D(d):.2f}") for n, d in enumerate(("0.5", "0.6", "0.7"))),
    ]
    (tmp_path / f"{USER}.csv").write_text(borrower(rows))
    done = await aave_positions.load(db, tmp_path)
    (found,) = done.borrowers
    assert (found.single, found.single_within, found.within) == (3, 3, 4)
    assert [n.split(":")[1] for n in done.notices] == [" the threshold 0.65 was read from rows of it alone."]
    assert (await db.vault_assets.by_code("GEM")).threshold == D("0.65")
    assert await db[VaultAssetChange].count() == 1


async def test_a_threshold_that_was_changed_is_followed_and_a_row_that_is_wrong_is_a_mismatch(
    db: Session, tmp_path: Path
) -> None:
    debts = ("0.5", "0.55", "0.6", "0.65", "0.7", "0.75")
    old = [single(1_614_000_100 + n, "WETH", d, f"{D('0.825') / D(d):.2f}") for n, d in enumerate(debts)]
    new = [single(1_650_000_100 + n, "WETH", d, f"{D('0.85') / D(d):.2f}") for n, d in enumerate(debts)]
    old[3] = single(1_614_000_103, "WETH", "0.65", "1.99")
    (tmp_path / f"{USER}.csv").write_text(borrower(old))
    (tmp_path / f"{OTHER}.csv").write_text(borrower(new, OTHER))
    done = await aave_positions.load(db, tmp_path)
    assert [(b.single, b.single_within) for b in done.borrowers] == [(6, 5), (6, 6)]
    assert [o.observed_at.second async for o in db[VaultObservation].stream(VaultObservation.mismatch == True)] == [  # noqa: E712
        datetime.fromtimestamp(1_614_000_103, UTC).second
    ]
    assert len(done.notices) == 1
    assert (await db.vault_assets.by_code("WETH")).threshold == D("0.85")


def test_a_threshold_is_the_roundest_that_fits() -> None:
    for low, high, expected in (
        ("0.821", "0.829", "0.825"),
        ("0.78", "0.82", "0.8"),
        ("0.7391", "0.7408", "0.74"),
        ("0.7512", "0.7513", "0.7512"),
        ("0.5", "0.5", "0.5"),
    ):
        assert roundest(D(low), D(high)) == D(expected)
    assert roundest(D("1.2"), D("1.3")) is None
    assert roundest(D("-1"), D(0)) is None


@pytest.mark.parametrize(
    "line",
    [
        f"1,1614000000,{USER},1e18,1e17,much,1",
        f"1,1614000000,{USER},-1,1e17,1,1",
        f"1,1614000000,{USER},1e18,1e17,1",
        f"1,1614000000,{USER},1e18,1e17,1,1,1",
        f"1,99999999999,{USER},1e18,1e17,1,1",
        f"1,1614000000,{USER},1e80,1e17,1,1",
        f"1,1613999999,{USER},1e18,1e17,1,1",
    ],
)
async def test_a_borrowers_line_that_is_wrong_is_named_and_nothing_stored(
    db: Session, tmp_path: Path, line: str
) -> None:
    head = "block,timestamp,user,totalCollateral,totalDebt,healthFactor,WETH_collateral"
    (tmp_path / "0x1.csv").write_text(f"{head}\n1,1613999999,{USER},1e18,1e17,8.25,1\n{line}\n")
    with pytest.raises(Invalid, match="Line 3"):
        await aave_positions.load(db, tmp_path)
    assert await db.vaults.count() == await db.vault_assets.count() == 0


# -- liquidations --------------------------------------------------------------------------------------------------

TOKENS = "reserveLiquidationBonus,symbol,x,decimals,reserveLiquidationThreshold\n" + "".join(
    f"10500.0,{symbol},x,{decimals},8000.0\n" for symbol, decimals in (("WETH", 18), ("USDC", 6), ("GUSD", 2))
)


def liquidations(*rows: tuple[str, str, str, str, str]) -> str:
    """A file of rows (moment, ethers, dollars owed, dollars of both sides, liquidator)."""
    head = "liquidator,timestamp,collateralAmount,collateralReserve,principalAmount,principalReserve,pool,user,extra,"
    text = head + "amountUSDCollateral,amountUSDPrincipal\n"
    for at, seized, repaid, usd, who in rows:
        of, to = usd.split("/") if usd else ("", "")
        text += f"{who},{at},{seized},WETH,{repaid},USDC,{POOL},{USER},e,{of},{to}\n"
    return text


WHOLE = [
    ("1640000000", "0.5", "1900.5", "2000/1900.5", OTHER),
    ("1640000100", "2", "7600", "8000/7600", OTHER),
    ("1640000200", "3.0", "11400.0", "12000/11400", OTHER),
    ("1640000300", "1e-3", "3.8", "", ""),
]
BASE = [
    ("1620000000", "500000000000000000", "1900500000", "", ""),
    ("1620000100", "2000000000000000000", "7600000000", "7.6e21/7600000000", OTHER),
    ("1620000200", "3.0E+18", "11400000000.0", "", ""),
    ("1620000300", "1000000000000000", "3800000", "", ""),
]
UNITS = {(5 * 10**17, 1_900_500_000), (2 * 10**18, 7_600 * 10**6), (3 * 10**18, 11_400 * 10**6), (10**15, 3_800_000)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [WHOLE, BASE, WHOLE + BASE, BASE + WHOLE])
async def test_liquidations_of_either_scale_or_both_in_any_order(
    db: Session, tmp_path: Path, way: str, rows: list[Any]
) -> None:
    end = ".gz" if way == "gzip" else ""
    (tmp_path / f"liquidations_raw.csv{end}").write_bytes(WAYS[way](liquidations(*rows)))
    (tmp_path / f"tokens.csv{end}").write_bytes(WAYS[way](TOKENS))
    done = await aave_liquidations.load(db, tmp_path)
    assert (done.events, done.added, done.borrowers) == (len(rows), len(rows), 1)
    assert {(e.seized, e.repaid) for e in await db[LiquidationEvent].find()} == UNITS
    scales = [(s.scale, s.rows) for s in done.scales]
    expected = [("base units", 4)] if BASE[0] in rows else []
    assert scales == expected + ([("whole tokens", 4)] if WHOLE[0] in rows else [])
    assert any("Two scales" in n for n in done.notices) is (len(rows) == 8)
    assert (await aave_liquidations.load(db, tmp_path)).added == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "symbol,decimals,reserveLiquidationBonus\nWETH,18,10500\n",
        TOKENS + "1.05,X,x,18,8000\n",
        TOKENS + "10500,X,x,18.5,8000\n",
        TOKENS + "10500,X,x,18,80000\n",
        TOKENS + "10500,WETH,x,6,8000\n",
        TOKENS + "10500,X,x\n",
    ],
)
async def test_tokens_that_are_wrong_store_nothing(db: Session, tmp_path: Path, text: str) -> None:
    (tmp_path / "liquidations_raw.csv").write_text(liquidations(*WHOLE))
    with pytest.raises(Invalid, match=r"tokens\.csv|table of tokens"):
        await aave_liquidations.load(db, tmp_path)
    (tmp_path / "tokens.csv").write_text(text)
    with pytest.raises(Invalid):
        await aave_liquidations.load(db, tmp_path)
    assert await db.vaults.count() == 0


# -- savings -------------------------------------------------------------------------------------------------------

HEAD = "hhid,bp_v4_boxvalue,bp_v3_boxvalue,note,bp_v2_boxvalue,bp_v1_boxvalue,bp_v0_target,treatment,associd,prov"
SAVINGS = f"{HEAD}\n1,4,3,x,2,1,NA,yes,7,Busia\n2,0,0,x,0,0.5,100,yes,7,Busia\n3,0,0,x,0,2,,0,8,Kisumu\n"


@pytest.mark.parametrize("way", WAYS)
async def test_savings_of_any_wrapping_and_order_of_columns(db: Session, tmp_path: Path, way: str) -> None:
    (tmp_path / f"savings_contributions.csv{'.gz' if way == 'gzip' else ''}").write_bytes(WAYS[way](SAVINGS))
    done = await mozambique.load(db, tmp_path)
    assert (done.households, done.groups, done.members, done.contributions) == (3, 2, 3, 6)
    found = await mozambique.table(db)
    assert [q.mean * 3 for q in found.quarters] == [D("3.5"), D("5.5"), D("8.5"), D("12.5")]
    assert (found.planned, found.control) == (D("5.25"), 2)
    assert (await mozambique.load(db, tmp_path)).groups == 0


@pytest.mark.parametrize("text", ["", HEAD + "\n", SAVINGS.replace("treatment", "treated"), SAVINGS + "4,1,1\n"])
async def test_savings_that_are_none(db: Session, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(Invalid) as refused:
        await mozambique.load(db, tmp_path / "x.csv")
    assert refused.value.remedy
    assert await db.circles.count() == 0


async def test_loading_takes_permissions(sandbox: Sandbox, db: Session, tmp_path: Path) -> None:
    snapshot(tmp_path, "x.json", reserve("XYZ", 1))
    (tmp_path / "0x1.csv").write_text(borrower([single(1_614_000_000, "WETH", "0.5", "1.65")]))
    async with sandbox.session(db.tenant_id, permissions=()) as nobody:
        for load in (aave_reserves.load, aave_positions.load, aave_liquidations.load, mozambique.load):
            with pytest.raises(RoleMissing):
                await load(nobody, tmp_path)  # type: ignore[operator]


def _day(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)
