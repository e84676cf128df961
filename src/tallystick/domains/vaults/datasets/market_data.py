"""Prices from files: hourly prices of tokens, daily bars of a coin, and the euro's reference rates.

Which it is, the header says. Hourly prices are CoinGecko's, daily bars CoinMarketCap's, and the rates are published by
the European Central Bank at about 16:00 in Frankfurt, which is written as 15:00 UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tallystick.domains.datafiles import Told, bad, files_in, number, table_of
from tallystick.domains.vaults.prices import AssetPrice, eighteen
from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.session import Session

GECKO, CAP, ECB = "CoinGecko", "CoinMarketCap", "ECB"
_FOLDERS: Final = ("aave_v2_prices_hourly", "crypto_daily", "fx_ecb")
_AT_ONCE: Final = 10_000
_MOST: Final = Decimal(10) ** 20
_QUOTED: Final = re.compile(r"[A-Z]{3,10}_price")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_FIRST_IN_MS: Final = 10**10
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
    files = [f for folder in folders for f in files_in(folder, "*.csv")]
    if not files:
        raise Invalid("There is no file of prices at that path.", field="path", remedy="Name a CSV or its folder.")
    return files


def read(path: Path) -> list[AssetPrice]:
    """The prices of a file, whatever the order of its columns.

    Raises ``Invalid`` with the line of one that is not what it should be, or that gives another price of a moment.
    """
    header, rows = table_of(path, "prices")
    quoted = [name for name in header if _QUOTED.fullmatch(name)]
    if {"symbol", "timestamp"} <= set(header) and len(quoted) == 1:
        prices = _hourly(header, quoted[0], rows)
    elif {"Symbol", "Date", "Open", "High", "Low", "Close"} <= set(header):
        prices = _daily(header, rows)
    elif "Date" in header and len(header) > 1 and all(_CURRENCY.fullmatch(n) for n in header if n not in ("", "Date")):
        prices = _rates(header, rows)
    else:
        raise Invalid(
            "The header of the file is of no kind of prices that is known.",
            field="path",
            remedy="Hourly prices have symbol, timestamp and USD_price; bars Symbol, Date, Open, High, Low and Close; "
            "rates Date and a column for each currency.",
        )
    found: dict[tuple[str, str, datetime], AssetPrice] = {}
    for at, price in prices:
        if found.setdefault((price.asset, price.quote, price.observed_at), price) != price:
            raise bad(at, "gives another price of a moment that was there before")
    if not found:
        raise Invalid("The file holds no prices.", field="path", remedy="Check that the download is complete.")
    return list(found.values())


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Store the prices of files that are not there yet; all of them, or none.

    They are shared by all tenants, so loading takes the permission "prices.record". Raises ``Invalid`` with the line.
    """
    await db.require("prices.record")
    files = find(path)
    read_ = [read(file) for file in files]
    prices = [p for found in read_ for p in found]
    kinds: dict[str, set[str]] = {}
    added = 0
    async with db.transaction():
        for start in range(0, len(prices), _AT_ONCE):
            part = prices[start : start + _AT_ONCE]
            added += (await db.prices.record(part)).added
            if told is not None:
                told(len(part))
        for found in read_:
            kinds.setdefault(found[0].source, set()).update(p.asset for p in found)
        series = [s for source, assets in kinds.items() for s in await stored(db, source, sorted(assets))]
    return Loaded(files=tuple(f.name for f in files), prices=len(prices), added=added, series=tuple(series))


async def stored(db: Session, source: str, assets: list[str]) -> list[Series]:
    """What is stored of some assets from a source."""
    rows = await db.unit.call(_SERIES, (source, assets))
    return [Series(source=source, **dict(row)) for row in rows]


def _hourly(header: list[str], quoted: str, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, AssetPrice]]:
    """Prices of a moment in milliseconds; a moment that would be of the first months of 1970 is in seconds."""
    place = {name: header.index(name) for name in ("symbol", "timestamp", quoted)}
    for at, line in rows:
        stamp = number(at, line[place["timestamp"]], "timestamp")
        yield (
            at,
            AssetPrice(
                asset=_named(at, line[place["symbol"]]),
                quote=quoted.removesuffix("_price"),
                price=_price(at, line[place[quoted]], quoted),
                observed_at=_moment(at, stamp if stamp < _FIRST_IN_MS else stamp / 1000),
                source=GECKO,
            ),
        )


def _daily(header: list[str], rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, AssetPrice]]:
    place = {name: header.index(name) for name in ("Symbol", "Date", "Open", "High", "Low", "Close")}
    volume = header.index("Volume") if "Volume" in header else None
    for at, line in rows:
        bar = {n: _price(at, line[place[n]], n) for n in ("Open", "High", "Low", "Close")}
        if not bar["Low"] <= min(bar["Open"], bar["Close"]) <= max(bar["Open"], bar["Close"]) <= bar["High"]:
            raise bad(at, "has a bar whose high is below or whose low is above it")
        yield (
            at,
            AssetPrice(
                asset=_named(at, line[place["Symbol"]]),
                price=bar["Close"],
                open=bar["Open"],
                high=bar["High"],
                low=bar["Low"],
                volume=None if volume is None or not line[volume] else _price(at, line[volume], "Volume", least=0),
                observed_at=_day(at, line[place["Date"]]),
                source=CAP,
            ),
        )


def _rates(header: list[str], rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, AssetPrice]]:
    """Units of each currency for a euro; a day on which one was not quoted has no price."""
    date = header.index("Date")
    for at, line in rows:
        day = _day(at, line[date]).replace(hour=15, minute=0, second=0, microsecond=0)
        for place, currency in enumerate(header):
            text = line[place].strip()
            if place != date and currency and text not in ("N/A", ""):
                price = _price(at, text, currency)
                yield at, AssetPrice(asset="EUR", quote=currency, price=price, observed_at=day, source=ECB)


def _named(at: int, text: str) -> str:
    if not 1 <= len(text) <= 32 or not text.isprintable():
        raise bad(at, "has no symbol of 1 to 32 characters")
    return text


def _price(at: int, text: str, column: str, *, least: int = 1) -> Decimal:
    """A number with the eighteen decimals that are kept. Raises ``Invalid`` unless it is then above zero."""
    found = number(at, text, column)
    kept = eighteen(found) if 0 <= found < _MOST else Decimal(-1)
    if kept < 0 or (least and not kept):
        raise bad(at, f"has a number in {column} that cannot be")
    return kept


def _day(at: int, text: str) -> datetime:
    for shape in (None, "%d %B %Y"):
        try:
            found = datetime.fromisoformat(text.strip()) if shape is None else datetime.strptime(text.strip(), shape)
        except ValueError:
            continue
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    raise bad(at, "has no date")


def _moment(at: int, seconds: Decimal) -> datetime:
    if not 0 <= seconds < 2**32:
        raise bad(at, "has a moment that cannot be")
    whole = int(seconds)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=int((seconds - whole) * 1_000_000))
