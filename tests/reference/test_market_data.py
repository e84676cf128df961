"""Prices of others against what their folders say can be reproduced."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tallystick import Invalid, NotFound, RoleMissing, Session
from tallystick.domains.vaults.datasets import market_data
from tallystick.testing import Sandbox

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared")) / "data"
D = Decimal


def real(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (SHARED / name).is_dir(), reason=f"no data/{name} in TALLYSTICK_SHARED or ../shared beside the checkout"
    )


@real("fx_ecb")
async def test_the_extremes_of_the_dollar(db: Session) -> None:
    done = await market_data.load(db, SHARED / "fx_ecb")
    by = {s.quote: s for s in done.series}
    dollar = by["USD"]
    assert dollar.rows == 7_126
    assert (dollar.high, dollar.high_at.date()) == (D("1.5990"), date(2008, 7, 15))
    assert (dollar.low, dollar.low_at.date()) == (D("0.8252"), date(2000, 10, 26))
    assert (dollar.first.date(), dollar.last.date()) == (date(1999, 1, 4), date(2026, 10, 30))
    assert len(by) == 41
    assert done.added == done.prices == sum(s.rows for s in done.series)
    first = await db.prices.as_of("EUR", datetime(1999, 1, 5, tzinfo=UTC))
    assert (first.price, first.observed_at.date()) == (D("1.1789"), date(1999, 1, 4))
    # A weekend has the rate of the Friday before; before the first day, and for a retired currency, there is none.
    sunday = datetime(2008, 7, 20, 12, tzinfo=UTC)
    assert (await db.prices.as_of("EUR", sunday)).observed_at.date() == date(2008, 7, 18)
    with pytest.raises(NotFound):
        await db.prices.as_of("EUR", datetime(1999, 1, 1, tzinfo=UTC))
    with pytest.raises(NotFound):
        await db.prices.as_of("EUR", datetime(2020, 1, 1, tzinfo=UTC), quote="SKK", max_age=timedelta(days=10))
    # A rate is not known before it is published.
    morning = datetime(2008, 7, 15, 9, tzinfo=UTC)
    assert (await db.prices.as_of("EUR", morning)).observed_at.date() == date(2008, 7, 14)


@real("aave_v2_prices_hourly")
async def test_hourly_prices(db: Session) -> None:
    folder = SHARED / "aave_v2_prices_hourly"
    for name, rows in (("WETH", 18_861), ("UST", 10_808), ("USDC", 18_869)):
        done = await market_data.load(db, folder / f"{name}_usd.csv")
        assert done.prices == rows
    by = {s.asset: s for s in await market_data.stored(db, market_data.GECKO, ["WETH", "UST", "USDC"])}
    assert (round(by["WETH"].high, 2), by["WETH"].high_at.date()) == (D("4847.87"), date(2021, 11, 10))
    assert round(by["UST"].low, 6) == D("0.006425")
    assert (round(by["USDC"].low, 4), round(by["USDC"].high, 4)) == (D("0.9631"), D("1.0362"))
    again = await market_data.load(db, folder / "UST_usd.csv")
    assert again.added == 0
    moment = datetime(2021, 11, 10, 14, 30, tzinfo=UTC)
    found = await db.prices.as_of("WETH", moment, source=market_data.GECKO)
    assert found.observed_at <= moment < found.observed_at + timedelta(hours=12)


@real("crypto_daily")
async def test_daily_bars(db: Session) -> None:
    done = await market_data.load(db, SHARED / "crypto_daily")
    (eth,) = done.series
    assert (eth.asset, eth.rows) == ("ETH", 2_160)
    assert (eth.last.date() - eth.first.date()).days == 2_159
    assert (round(eth.high, 2), eth.high_at.date()) == (D("4168.70"), date(2021, 5, 11))
    assert eth.peak is not None
    assert round(eth.peak, 2) == D("4362.35")


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n",
        "symbol,timestamp,USD_price\n",
        "symbol,timestamp,USD_price\nX,1,-1\n",
        "symbol,timestamp,USD_price\nX,1,1,1\n",
        "symbol,timestamp,USD_price\nX,later,1\n",
        "symbol,timestamp,USD_price\nX,99999999999999,1\n",
        "Date,USD,\n2020-01-01,one,\n",
        "Date,USD,\n2020-13-01,1,\n",
        "Symbol,Date,Open,High,Low,Close\nX,2020-01-01,2,1,1,1\n",
        "Symbol,Date,Open,High,Low,Close\nX,yesterday,1,1,1,1\n",
        "Symbol,Date,Open,High,Low,Close\nX,2020-01-01,1,1,0,1\n",
    ],
)
async def test_files_that_are_wrong_are_refused(db: Session, tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.csv"
    file.write_text(text)
    with pytest.raises(Invalid):
        await market_data.load(db, file)


async def test_loading_takes_a_permission(sandbox: Sandbox, db: Session, tmp_path: Path) -> None:
    async with sandbox.session(db.tenant_id, permissions=()) as other:
        with pytest.raises(RoleMissing):
            await market_data.load(other, tmp_path)
    with pytest.raises(Invalid):
        await market_data.load(db, tmp_path)
