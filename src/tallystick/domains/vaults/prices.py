"""Prices, shared by all tenants: observations as they came, the latest of each asset, and that of any moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallystick.errors import Invalid, NotFound
from tallystick.values import CHAIN_CEILING

if TYPE_CHECKING:
    from tallystick.session import Session

_BATCH: Final = 10_000
_MOST: Final = Decimal(10) ** 20
_STEP: Final = Decimal(1).scaleb(-18)
_WIDE: Final = Context(prec=60)
_COLUMNS: Final = "asset, quote, source, observed_at, price, round, block, open, high, low, volume"
_RECORD: Final = (
    "SELECT added, latest FROM tally_ref.market_record($1::text[], $2::text[], $3::text[], $4::timestamptz[], "
    "$5::numeric[], $6::numeric[], $7::bigint[], $8::numeric[], $9::numeric[], $10::numeric[], $11::numeric[])"
)
_LATEST: Final = (
    "SELECT asset, quote, source, observed_at, price, round, block FROM tally_ref.asset_price "
    "WHERE asset = $1 AND quote = $2"
)
_OF: Final = f"SELECT {_COLUMNS} FROM tally_ref.market_data WHERE asset = $1 AND quote = $2"
_FIRST_YEAR, _LAST_YEAR = 1900, 2200


class AssetPrice(msgspec.Struct, frozen=True, kw_only=True):
    """A price of one whole ``asset`` in ``quote``, as a source observed it at a moment.

    ``round`` counts an oracle's answers and ``block`` says where on the chain it was read; ``open``, ``high``, ``low``
    and ``volume`` come with a span that ended then. At most 18 decimals, below 10^20.
    """

    asset: str
    price: Decimal
    observed_at: datetime
    quote: str = "USD"
    source: str = "manual"
    round: int | None = None
    block: int | None = None
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    volume: Decimal | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What recording did: observations that are new, and assets whose latest price moved."""

    added: int
    latest: int


class Prices:
    """The market data that all tenants read. Writing takes the permission "prices.record"."""

    __slots__ = ("_db",)

    def __init__(self, db: Session) -> None:
        self._db = db

    async def record(self, prices: AssetPrice | Iterable[AssetPrice]) -> Recorded:
        """Keep observations. What a source said of a moment, or of a round then, stands; the latest never goes back.

        An observation whose time, or whose round of the same source, is older than the latest is kept as a fact and
        does not become the latest. Partitions are made as they are needed. Raises ``Invalid``, ``RoleMissing``.
        """
        db = self._db
        await db.require("prices.record")
        if not isinstance(prices, (AssetPrice, Iterable)):
            raise _no_price()
        given = [prices] if isinstance(prices, AssetPrice) else list(prices)
        rows = [_row(p) for p in given]
        added = latest = 0
        if rows:
            async with db.transaction():
                for start in range(0, len(rows), _BATCH):
                    columns = [list(c) for c in zip(*rows[start : start + _BATCH], strict=True)]
                    (done,) = await db.unit.call(_RECORD, columns)
                    added, latest = added + done[0], latest + done[1]
        return Recorded(added=added, latest=latest)

    async def latest(self, asset: str, *, quote: str = "USD") -> AssetPrice:
        """The latest price of an asset, of all sources. Raises ``NotFound``."""
        rows = await self._db.unit.call(_LATEST, (_code(asset, "asset"), _code(quote, "quote")))
        if not rows:
            raise _unknown()
        return _price(rows[0])

    async def as_of(
        self,
        asset: str,
        at: datetime,
        *,
        quote: str = "USD",
        source: str | None = None,
        max_age: timedelta | None = None,
    ) -> AssetPrice:
        """The last price observed at or before a moment, of one source or of any.

        Weekends and gaps answer the last price before them; with ``max_age`` one that is older is no answer. Raises
        ``NotFound`` where there is none, ``Invalid`` for a moment without a time zone.
        """
        args: list[Any] = [_code(asset, "asset"), _code(quote, "quote"), _moment(at, "at")]
        sql = f"{_OF} AND observed_at <= $3"
        if source is not None:
            args.append(_code(source, "source", 80))
            sql += f" AND source = ${len(args)}"
        if max_age is not None:
            if not isinstance(max_age, timedelta) or max_age < timedelta(0):
                raise Invalid("A greatest age is a timedelta of zero or more.", field="max_age")
            args.append(at - max_age)
            sql += f" AND observed_at >= ${len(args)}"
        rows = await self._db.unit.call(f"{sql} ORDER BY observed_at DESC, round DESC NULLS LAST, source LIMIT 1", args)
        if not rows:
            raise _unknown()
        return _price(rows[0])

    async def history(
        self,
        asset: str,
        since: datetime,
        until: datetime,
        *,
        quote: str = "USD",
        source: str | None = None,
    ) -> AsyncIterator[AssetPrice]:
        """Every price from ``since`` to before ``until``, oldest first, read in batches."""
        args: list[Any] = [
            _code(asset, "asset"),
            _code(quote, "quote"),
            _moment(since, "since"),
            _moment(until, "until"),
        ]
        sql = f"{_OF} AND (observed_at, source, nth) > ($3, $5, $6) AND observed_at < $4"
        args += ["", Decimal(-2)]
        if source is not None:
            args.append(_code(source, "source", 80))
            sql += " AND source = $7"
        while True:
            rows = await self._db.unit.call(f"{sql} ORDER BY observed_at, source, nth LIMIT {_BATCH}", args)
            for row in rows:
                yield _price(row)
            if len(rows) < _BATCH:
                return
            last = rows[-1]
            args[2], args[4:6] = last[3], (last[2], Decimal(-1) if last[5] is None else last[5])


def _row(p: AssetPrice) -> tuple[Any, ...]:
    if not isinstance(p, AssetPrice):
        raise _no_price()
    _amount(p.price, "price")
    for name in ("open", "high", "low", "volume"):
        if getattr(p, name) is not None:
            _amount(getattr(p, name), name)
    for name, most in (("round", CHAIN_CEILING), ("block", 2**63)):
        number: Any = getattr(p, name)
        if number is not None and (number.__class__ is not int or not 0 <= number < most):
            raise Invalid(f"The {name} of a price is a whole number from 0.", field=name)
    if p.low is not None and not p.low <= min(p.price, p.open or p.price):
        raise Invalid("The low of a price is above it or its open.", field="low")
    if p.high is not None and not p.high >= max(p.price, p.open or p.price):
        raise Invalid("The high of a price is below it or its open.", field="high")
    _code(p.asset, "asset")
    _code(p.quote, "quote")
    _code(p.source, "source", 80)
    _moment(p.observed_at, "observed_at")
    return (
        p.asset,
        p.quote,
        p.source,
        p.observed_at,
        p.price,
        p.round,
        p.block,
        p.open,
        p.high,
        p.low,
        p.volume,
    )


def eighteen(value: Decimal) -> Decimal:
    """A number below 10^20 rounded half to even to the 18 decimals that prices have."""
    return value.quantize(_STEP, context=_WIDE)


def _amount(value: Any, name: str) -> None:
    if (
        value.__class__ is not Decimal
        or not value.is_finite()
        or not (0 <= value < _MOST if name == "volume" else 0 < value < _MOST)
        or value != eighteen(value)
    ):
        raise Invalid(
            f"The {name} of a price is a Decimal above zero, below 10^20, with at most 18 decimals.",
            field=name,
            remedy="Round what a source gives in more decimals; floats are refused.",
        )


def _price(row: Any) -> AssetPrice:
    found = dict(row)
    if found["round"] is not None:
        found["round"] = int(found["round"])
    return AssetPrice(**found)


def _code(value: Any, field: str, most: int = 32) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= most or not value.isprintable():
        raise Invalid(f"The {field} of a price is a text of 1 to {most} printable characters.", field=field)
    return value


def _moment(value: Any, field: str) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise Invalid("A moment is a datetime with a time zone.", field=field, remedy="Give it tzinfo=UTC.")
    if not _FIRST_YEAR <= value.astimezone(UTC).year <= _LAST_YEAR:
        raise Invalid(f"Prices are of the years {_FIRST_YEAR} to {_LAST_YEAR}.", field=field)
    return value


def _no_price() -> Invalid:
    return Invalid("A price is an AssetPrice.", field="prices", remedy="Write AssetPrice(asset=..., price=..., ...).")


def _unknown() -> NotFound:
    return NotFound(
        "There is no such price.",
        entity="AssetPrice",
        remedy="Check the asset, its quote and the moment, or record a price with db.prices.record().",
    )
