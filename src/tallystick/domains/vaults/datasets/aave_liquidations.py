"""Liquidations of Aave v2 from December 2020 to April 2022, as events that were observed.

The amounts of the file are of two scales in one column: until 27 July 2021 whole numbers of base units, with prices
that cannot be used, and after that decimal numbers of whole tokens with their worth in dollars. Each row is read by its
own scale, whatever the order, and what was noticed is said:

* an amount with a fraction is of whole tokens, because nothing is smaller than a base unit;
* without a liquidator and dollars for both sides, whole numbers are base units;
* with them, whole numbers are of whole tokens if the two sides are worth about the same, and less than a billion.

A row whose scale none of that tells is refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallystick.domains.datafiles import Told, bad, number, rows_of
from tallystick.domains.vaults.agents import Agent
from tallystick.domains.vaults.assets import VaultAsset
from tallystick.domains.vaults.liquidations import LiquidationEvent, LiquidationOrigin
from tallystick.domains.vaults.vaults import Vault
from tallystick.errors import Invalid
from tallystick.fields import Ref
from tallystick.repository import Repository

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.session import Session

RAW: Final = "liquidations_raw.csv"
TOKENS: Final = "tokens.csv"
BASE, WHOLE = "base units", "whole tokens"
_CHAIN: Final = 1
_LEAST: Final = 30
_MOST_USD: Final = Decimal(10) ** 9
_ABOUT: Final = 3
_NEEDED: Final = {
    *("collateralAmount", "collateralReserve", "principalAmount", "principalReserve", "pool", "timestamp", "user"),
    *("liquidator", "amountUSDCollateral", "amountUSDPrincipal"),
}
_BASIS_POINTS: Final = ("reserveLiquidationThreshold", "reserveLiquidationBonus")
_DESCRIBED: Final = {"symbol", "decimals", *_BASIS_POINTS}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One liquidation: amounts in base units whatever the scale of the row, dollars where the row has them."""

    reference: str
    scale: str
    user: str
    pool: str
    at: datetime
    collateral: str
    seized: int
    debt: str
    repaid: int
    liquidator: str | None
    usd: tuple[Decimal, Decimal] | None


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token of the table beside the file; ``known`` is False for one that the table lacks."""

    decimals: int
    threshold: Decimal
    bonus: Decimal
    known: bool = True


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one scale, and the days between which they are."""

    scale: str
    rows: int
    first: datetime
    last: datetime


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did, and what was noticed.

    ``notices`` are for people. ``bonuses`` is, for each collateral with thirty events or more that have dollars, how
    many those are and the median of collateral by debt.
    """

    file: str
    events: int
    added: int
    borrowers: int
    liquidators: int
    pools: dict[str, int]
    scales: tuple[Scale, ...]
    notices: tuple[str, ...]
    bonuses: dict[str, tuple[int, Decimal]]


def find(path: Path) -> Path:
    """The file that a path means. Raises ``Invalid``."""
    places = (folder / f"{RAW}{end}" for folder in (path, path / "aave_v2_liquidations") for end in ("", ".gz"))
    found = next((f for f in places if f.is_file()), path)
    if found.is_file():
        return found
    raise Invalid("There is no file of liquidations at that path.", field="path", remedy=f"Name {RAW}, or its folder.")


def tokens_of(path: Path) -> dict[str, Token]:
    """The tokens of the table beside the file, by symbol. Raises ``Invalid``."""
    table = next((f for f in (path.parent / TOKENS, path.parent / f"{TOKENS}.gz") if f.is_file()), None)
    if table is None:
        raise Invalid(
            "The table of tokens is not beside the file of liquidations.",
            field="path",
            remedy=f"Put {TOKENS} into the same folder: amounts cannot be read without the decimals of their tokens.",
        )
    found: dict[str, Token] = {}
    for at, row in rows_of(table, "Aave tokens", _DESCRIBED):
        decimals = number(at, row["decimals"], "decimals")
        threshold, bonus = (number(at, row[name] or "0", name) / 10_000 for name in _BASIS_POINTS)
        token = Token(
            decimals=int(decimals), threshold=round(threshold, 8), bonus=round(bonus, 8) - 1 if bonus else Decimal(0)
        )
        if decimals != token.decimals or not 0 <= decimals <= 77 or not 0 <= threshold < 1 or not 0 <= token.bonus <= 1:
            raise bad(at, "of the tokens has decimals, a threshold or a bonus that cannot be")
        if found.setdefault(row["symbol"], token).decimals != token.decimals:
            raise bad(at, "of the tokens has other decimals than a line before")
    return found


def read(path: Path, tokens: dict[str, Token]) -> list[Event]:
    """Every event of the file. Raises ``Invalid`` with the line of one that cannot be read, or of unknown scale."""
    events: list[Event] = []
    seen: Counter[bytes] = Counter()
    for at, row in rows_of(path, "Aave liquidations", _NEEDED):
        mark = hashlib.sha256("\x1f".join(f"{k}={row[k]}" for k in sorted(row)).encode()).digest()[:16]
        seen[mark] += 1
        events.append(_event(at, row, f"aave-v2 {mark.hex()} {seen[mark]}", tokens))
    if not events:
        raise Invalid("The file holds no liquidations.", field="path", remedy="Check that the download is complete.")
    return events


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Store the liquidations that are not there yet as observed events, all or none; vaults and agents come along.

    Needs the permission "vaults.manage". Raises ``Invalid`` with the line of a row that cannot be read.
    """
    await db.require("vaults.manage")
    file = find(path)
    tokens = tokens_of(file)
    events = read(file, tokens)
    async with db.transaction():
        assets = await _assets(db, events, tokens)
        vaults = await _vaults(db, events)
        there = {e.reference async for e in db[LiquidationEvent].stream()}
        fresh = [e for e in events if e.reference not in there]
        for start in range(0, len(fresh), 2_000):
            part = fresh[start : start + 2_000]
            await db[LiquidationEvent].add_many([_stored(e, vaults[e.pool, e.user], assets) for e in part])
            if told is not None:
                told(len(part))
    return Loaded(
        file=file.name,
        events=len(events),
        added=len(fresh),
        borrowers=len({e.user for e in events}),
        liquidators=len({e.liquidator for e in events if e.liquidator}),
        pools=dict(Counter(e.pool for e in events).most_common()),
        scales=scales_of(events),
        notices=notices_of(events, tokens),
        bonuses=_bonuses(events),
    )


def scales_of(events: list[Event]) -> tuple[Scale, ...]:
    """The scales of the amounts, the earliest first."""
    found = []
    for scale in (BASE, WHOLE):
        days = sorted(e.at for e in events if e.scale == scale)
        if days:
            found.append(Scale(scale=scale, rows=len(days), first=days[0], last=days[-1]))
    return tuple(sorted(found, key=lambda s: s.first))


def notices_of(events: list[Event], tokens: dict[str, Token]) -> tuple[str, ...]:
    """What is odd about the file: scales that are mixed, rows that are there twice, tokens nobody describes."""
    said = []
    scales = scales_of(events)
    if len(scales) > 1:
        told = " and ".join(f"{s.rows:,} rows in {s.scale} ({s.first:%Y-%m-%d} to {s.last:%Y-%m-%d})" for s in scales)
        said.append(f"Two scales are mixed in one column: {told}. Each row was read by its own.")
    broken = sum(e.usd is None for e in events)
    if broken:
        said.append(f"{broken:,} rows have no worth in dollars that could be used; none was taken from them.")
    twice = sum(not e.reference.endswith(" 1") for e in events)
    if twice:
        said.append(
            f"{twice:,} rows are there a second time, word for word; the file has no transaction to tell them by."
        )
    odd = sorted({s for e in events for s in (e.collateral, e.debt) if not tokens.get(s, _UNKNOWN).known})
    if odd:
        said.append(f"{TOKENS} lacks {', '.join(odd)}: read with {_UNKNOWN.decimals} decimals.")
    return tuple(said)


_UNKNOWN: Final = Token(decimals=18, threshold=Decimal(0), bonus=Decimal(0), known=False)


def _event(at: int, row: dict[str, str], reference: str, tokens: dict[str, Token]) -> Event:
    amounts = [number(at, row[name], name) for name in ("collateralAmount", "principalAmount")]
    usd = _dollars(at, row)
    scale = _scale(at, amounts, usd)
    units = []
    for value, symbol in zip(amounts, (row["collateralReserve"], row["principalReserve"]), strict=True):
        if not 1 <= len(symbol) <= 32:
            raise bad(at, "has a reserve without a symbol")
        shift = tokens.get(symbol, _UNKNOWN).decimals if scale == WHOLE else 0
        units.append(int(value.scaleb(shift).to_integral_value()))
        if not 0 <= units[-1] < 2**256:
            raise bad(at, "has an amount that cannot be")
    stamp = number(at, row["timestamp"], "timestamp")
    if not 0 <= stamp < 2**32:
        raise bad(at, "has a moment that cannot be")
    return Event(
        reference=reference,
        scale=scale,
        user=_hex(at, row["user"]),
        pool=_hex(at, row["pool"]),
        at=datetime.fromtimestamp(int(stamp), UTC),
        collateral=row["collateralReserve"],
        seized=units[0],
        debt=row["principalReserve"],
        repaid=units[1],
        liquidator=_hex(at, row["liquidator"]) if row["liquidator"] else None,
        usd=usd if scale == WHOLE else None,
    )


def _dollars(at: int, row: dict[str, str]) -> tuple[Decimal, Decimal] | None:
    """What both sides are worth, of a row that has all of that and the liquidator."""
    sides = (row["amountUSDCollateral"], row["amountUSDPrincipal"])
    if not row["liquidator"] or not all(sides):
        return None
    return number(at, sides[0], "amountUSDCollateral"), number(at, sides[1], "amountUSDPrincipal")


def _scale(at: int, amounts: list[Decimal], usd: tuple[Decimal, Decimal] | None) -> str:
    """See the module. Raises ``Invalid`` where nothing tells."""
    if any(a != a.to_integral_value() for a in amounts):
        return WHOLE
    if usd is None:
        return BASE
    least, most = sorted(usd)
    if most >= _MOST_USD:
        return BASE
    if least > 0 and most <= least * _ABOUT:
        return WHOLE
    raise bad(at, "has amounts whose scale cannot be told")


def _hex(at: int, text: str) -> str:
    if len(text) != 42 or not text.startswith("0x") or any(c not in "0123456789abcdefABCDEF" for c in text[2:]):
        raise bad(at, "has an address that is none")
    return text.lower()


async def _assets(db: Session, events: list[Event], tokens: dict[str, Token]) -> dict[str, UUID]:
    found = {a.code: a.id async for a in db.vault_assets.stream()}
    missing = sorted({s for e in events for s in (e.collateral, e.debt)} - found.keys())
    for symbol in missing:
        token = tokens.get(symbol, _UNKNOWN)
        made = await db.vault_assets.add(
            VaultAsset(code=symbol, decimals=token.decimals, threshold=token.threshold, bonus=token.bonus)
        )
        found[symbol] = made.id
    return found


async def _vaults(db: Session, events: list[Event]) -> dict[tuple[str, str], UUID]:
    """A vault for each borrower in a pool, of an agent for each borrower."""
    agents = {a.address: a.id async for a in db.agents.stream()}
    users = sorted({e.user for e in events})
    fresh = [Agent(name=f"Borrower {u[:10]}", address=bytes.fromhex(u[2:])) for u in users]
    made = await db.agents.add_many([a for a in fresh if a.address not in agents])
    agents |= {a.address: a.id for a in made}
    found = {("0x" + v.contract.hex(), v.external_id): v.id async for v in db.vaults.stream() if v.contract is not None}
    wanted = sorted({(e.pool, e.user) for e in events} - found.keys())
    new = [
        Vault(
            agent=Ref(agents[bytes.fromhex(user[2:])]),
            chain_id=_CHAIN,
            contract=bytes.fromhex(pool[2:]),
            external_id=user,
        )
        for pool, user in wanted
    ]
    await Repository.add_many(db.vaults, new)
    return found | {pair: v.id for pair, v in zip(wanted, new, strict=True)}


def _stored(e: Event, vault: UUID, assets: dict[str, UUID]) -> LiquidationEvent:
    details: dict[str, Any] = {"scale": e.scale}
    if e.usd is not None:
        details |= {"usd_collateral": str(e.usd[0]), "usd_debt": str(e.usd[1])}
    return LiquidationEvent(
        vault=Ref(vault),
        origin=LiquidationOrigin.OBSERVED,
        debt_asset=Ref(assets[e.debt]),
        repaid=e.repaid,
        collateral_asset=Ref(assets[e.collateral]),
        seized=e.seized,
        liquidator=None if e.liquidator is None else bytes.fromhex(e.liquidator[2:]),
        reference=e.reference,
        occurred_at=e.at,
        effective=e.at.date(),
        details=details,
    )


def _bonuses(events: list[Event]) -> dict[str, tuple[int, Decimal]]:
    """Medians, because a few of the dollars are stale."""
    ratios: dict[str, list[Decimal]] = {}
    for e in events:
        if e.usd is not None and e.usd[1] > 0:
            ratios.setdefault(e.collateral, []).append(e.usd[0] / e.usd[1])
    ranked = sorted(ratios.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return {s: (len(r), round(median(r), 4)) for s, r in ranked if len(r) >= _LEAST}
