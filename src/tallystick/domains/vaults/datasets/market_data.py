"""Prices from files: hourly prices of tokens, daily bars of a coin, and the euro's reference rates.

Which it is, the header says. Hourly prices are CoinGecko's, daily bars CoinMarketCap's, and the rates are published by
the European Central Bank at about 16:00 in Frankfurt, which is written as 15:00 UTC.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tallystick.domains.vaults.datasets.files import Told, bad, number, text_of
from tallystick.domains.vaults.prices import AssetPrice, eighteen
from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.session import Session

GECKO, CAP, ECB = "CoinGecko", "CoinMarketCap", "ECB"
_FOLDERS: Final = ("aave_v2_prices_hourly", "crypto_daily", "fx_ecb")
_AT_ONCE: Final = 10_000
_MOST: Final = Decimal(10) ** 20
_SERIES: Final = (
    "SELECT asset, quote, count(*) AS rows, min(observed_at) AS first, max(observed_at) AS last, min(price) AS low, "
    "(array_agg(observed_at ORDER BY price, observed_at))[1] AS low_at, max(price) AS high, "
    "(array_agg(observed_at ORDER BY price DESC, observed_at))[1] AS high_at, max(high) AS peak "
    "FROM tally_ref.market_data WHERE source = $1 AND asset = ANY ($2) GROUP BY asset, quote ORDER BY asset, quote"
)


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of one price: how many, from when to when, its extremes; ``peak`` is the highest high of bars."""

    source: str
    asset: str
    quote: str
    rows: int
    first: datetime
    last: datetime
    low: Decimal
    low_at: datetime
    high: Decimal
    high_at: datetime
    peak: Decimal | None


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did, and what is stored of the series of the files."""

    files: tuple[str, ...]
    prices: int
    added: int
    series: tuple[Series, ...]


def find(path: Path) -> list[Path]:
    """The files that a path means: itself, those of a folder, or of the folders of the three kinds in it."""
    if path.is_file():
        return [path]
    folders = [path / name for name in _FOLDERS if (path / name).is_dir()] or [path]
    files = [f for folder in folders for f in sorted(folder.glob("*.csv"))]
    if not files:
        raise Invalid("There is no file of prices at that path.", field="path", remedy="Name a CSV or its folder.")
    return files


def read(path: Path) -> list[AssetPrice]:
    """The prices of a file. Raises ``Invalid`` with the line of one that is not what it should be."""
    lines = csv.reader(io.StringIO(text_of(path, "prices"), newline=""))
    header = next(lines, [])
    if header[:3] == ["symbol", "timestamp", "USD_price"]:
        found = list(_hourly(lines))
    elif {"Symbol", "Date", "Open", "High", "Low", "Close"} <= set(header):
        found = list(_daily(header, lines))
    elif header[:2] == ["Date", "USD"]:
        found = list(_rates(header, lines))
    else:
        raise Invalid("The header of the file is of no kind of prices that is known.", field="path")
    if not found:
        raise Invalid("The file holds no prices.", field="path", remedy="Check that the download is complete.")
    return found


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Store the prices of files that are not there yet; a file is stored whole or not at all.

    They are shared by all tenants, so loading takes the permission "prices.record". Raises ``Invalid`` with the line.
    """
    await db.require("prices.record")
    files = find(path)
    total = added = 0
    kinds: dict[str, set[str]] = {}
    for file in files:
        prices = read(file)
        async with db.transaction():
            for start in range(0, len(prices), _AT_ONCE):
                part = prices[start : start + _AT_ONCE]
                added += (await db.prices.record(part)).added
                if told is not None:
                    told(len(part))
        total += len(prices)
        kinds.setdefault(prices[0].source, set()).update(p.asset for p in prices)
    series = [s for source, assets in kinds.items() for s in await stored(db, source, sorted(assets))]
    return Loaded(files=tuple(f.name for f in files), prices=total, added=added, series=tuple(series))


async def stored(db: Session, source: str, assets: list[str]) -> list[Series]:
    """What is stored of some assets from a source."""
    rows = await db.unit.call(_SERIES, (source, assets))
    return [Series(source=source, **dict(row)) for row in rows]


def _hourly(lines: Iterator[list[str]]) -> Iterator[AssetPrice]:
    for at, line in enumerate(lines, 2):
        if len(line) != 3:
            raise bad(at, "has not three fields")
        stamp = number(at, line[1], "timestamp")
        yield AssetPrice(
            asset=line[0],
            price=_price(at, line[2], "USD_price"),
            observed_at=_moment(at, stamp / 1000),
            source=GECKO,
        )


def _daily(header: list[str], lines: Iterator[list[str]]) -> Iterator[AssetPrice]:
    place = {name: header.index(name) for name in ("Symbol", "Date", "Open", "High", "Low", "Close")}
    volume = header.index("Volume") if "Volume" in header else None
    for at, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise bad(at, "has another number of fields than the header")
        try:
            day = datetime.fromisoformat(line[place["Date"]]).replace(tzinfo=UTC)
        except ValueError:
            raise bad(at, "has no date") from None
        bar = {n: _price(at, line[place[n]], n) for n in ("Open", "High", "Low", "Close")}
        if not 0 < bar["Low"] <= min(bar["Open"], bar["Close"]) <= max(bar["Open"], bar["Close"]) <= bar["High"]:
            raise bad(at, "has a bar whose high is below or whose low is above it")
        yield AssetPrice(
            asset=line[place["Symbol"]],
            price=bar["Close"],
            open=bar["Open"],
            high=bar["High"],
            low=bar["Low"],
            volume=None if volume is None else _price(at, line[volume], "Volume"),
            observed_at=day,
            source=CAP,
        )


def _rates(header: list[str], lines: Iterator[list[str]]) -> Iterator[AssetPrice]:
    """Units of each currency for a euro; a day on which one was not quoted has no price."""
    for at, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise bad(at, "has another number of fields than the header")
        try:
            day = datetime.fromisoformat(line[0]).replace(hour=15, tzinfo=UTC)
        except ValueError:
            raise bad(at, "has no date") from None
        for currency, text in zip(header[1:], line[1:], strict=True):
            if currency and text not in ("N/A", ""):
                yield AssetPrice(
                    asset="EUR",
                    quote=currency,
                    price=_price(at, text, currency),
                    observed_at=day,
                    source=ECB,
                )


def _price(at: int, text: str, column: str) -> Decimal:
    found = number(at, text, column)
    if not 0 <= found < _MOST:
        raise bad(at, f"has a number in {column} that cannot be")
    return eighteen(found)


def _moment(at: int, seconds: Decimal) -> datetime:
    if not 0 <= seconds < 2**32:
        raise bad(at, "has a moment that cannot be")
    whole = int(seconds)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=int((seconds - whole) * 1_000_000))
