"""Borrowers of Aave v2, block by block: what they held and owed in wei of ether, and the health factor that was said.

Each borrower becomes a vault whose positions are values: the file's totals are in wei of ETH, at the protocol's own
oracle, which its token prices in dollars (CoinGecko) are not. A token's share of the collateral goes by those. The
health factor of each row is written down as observed, beside the one that the database derives from the positions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallystick.domains.vaults import positions
from tallystick.domains.vaults.agents import Agent
from tallystick.domains.vaults.assets import VaultAsset
from tallystick.domains.vaults.datasets.files import Told, bad, number, rows_of
from tallystick.domains.vaults.observations import VaultObservation
from tallystick.domains.vaults.prices import AssetPrice
from tallystick.domains.vaults.scale import SCALE
from tallystick.domains.vaults.vaults import Vault, VaultSide
from tallystick.errors import Invalid
from tallystick.fields import Ref

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.session import Session

SOURCE: Final = "Aave v2"
TOLERANCE: Final = Decimal("0.005")
"""Health factors are published with two decimals."""
_POOL: Final = bytes.fromhex("7d2768de32b0b80b7a3454c06bdac94a69ddc7a9")
_NEEDED: Final = {"block", "timestamp", "user", "totalCollateral", "totalDebt", "healthFactor"}
_DEBT: Final = "debt in ETH"
_PARAMETERS: Final = {
    "WETH": ("0.80", "0.825", "0.05"),
    "DAI": ("0.75", "0.80", "0.05"),
    "USDC": ("0.80", "0.85", "0.05"),
    "TUSD": ("0.75", "0.80", "0.05"),
    "WBTC": ("0.70", "0.75", "0.10"),
    "LINK": ("0.70", "0.75", "0.10"),
    "BAT": ("0.70", "0.75", "0.10"),
    "UNI": ("0.60", "0.65", "0.10"),
    "MKR": ("0.60", "0.65", "0.10"),
    "ZRX": ("0.60", "0.65", "0.10"),
    "AAVE": ("0.50", "0.65", "0.10"),
}
"""Loan to value, threshold and bonus of Aave v2 in the winter of 2020 to 2021; others are no collateral."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A block of one borrower; amounts in wei of ETH, the collateral by token."""

    block: int
    at: datetime
    collateral: dict[str, int]
    tokens: tuple[str, ...]
    debt: int
    health: Decimal


class Borrower(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of one borrower, in rows with debt, and the greatest difference of a row with one asset."""

    address: str
    rows: int
    with_debt: int
    single: int
    single_within: int
    within: int
    below_one: int
    greatest: Decimal | None


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did, and what is stored of each borrower now."""

    files: int
    rows: int
    added: int
    borrowers: tuple[Borrower, ...]


def find(path: Path) -> list[Path]:
    """The files that a path means. Raises ``Invalid``."""
    if path.is_file():
        return [path]
    folder = next((f for f in (path / "aave_v2_positions", path) if f.is_dir() and any(f.glob("0x*.csv"))), None)
    if folder is None:
        raise Invalid("There is no file of Aave positions at that path.", field="path", remedy="Name its folder.")
    return sorted(folder.glob("0x*.csv"))


def read(path: Path) -> tuple[str, list[Row]]:
    """The borrower's address and the rows of a file, oldest first. Raises ``Invalid`` with the line."""
    rows: dict[datetime, Row] = {}
    users: set[str] = set()
    for at, cells in rows_of(path, "Aave positions", _NEEDED):
        users.add(cells["user"].lower())
        row = _row(at, cells)
        if row.at in rows:
            raise bad(at, "is of a moment that was there before")
        rows[row.at] = row
    if len(users) != 1 or not _is_address(min(users)):
        raise Invalid("A file of Aave positions is of one borrower.", field="path", remedy="Check the path.")
    return users.pop(), [rows[moment] for moment in sorted(rows)]


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Replay every borrower's blocks that are not stored yet, all or none. Needs the permission "prices.record"."""
    files = [read(f) for f in find(path)]
    added = 0
    async with db.transaction():
        assets = await _assets(db, {t for _, rows in files for r in rows for t in r.tokens})
        for address, rows in files:
            vault = await _vault(db, address)
            there = {o.observed_at async for o in db[VaultObservation].stream(VaultObservation.vault == vault.ref)}
            held: set[str] = set()
            for row in rows:
                held |= row.collateral.keys()
                if row.at not in there:
                    await _replay(db, vault, row, held, assets)
                    added += 1
                if told is not None:
                    told(1)
        borrowers = [await _borrower(db, address) for address, _ in files]
    return Loaded(files=len(files), rows=sum(len(r) for _, r in files), added=added, borrowers=tuple(borrowers))


async def _assets(db: Session, tokens: set[str]) -> dict[str, UUID]:
    """The assets: each token as a value in ETH, and what is owed. Ether costs one ether at any time."""
    found = {a.code: a.id async for a in db.vault_assets.stream()}
    for token in (*sorted(tokens), _DEBT):
        if token in found:
            continue
        ltv, threshold, bonus = map(Decimal, _PARAMETERS.get(token, ("0", "0", "0")))
        made = await db.vault_assets.add(
            VaultAsset(code=token, quote="ETH", feed="ETH", ltv=ltv, threshold=threshold, bonus=bonus)
        )
        found[token] = made.id
    dawn = datetime(2015, 7, 30, tzinfo=UTC)
    await db.prices.record(AssetPrice(asset="ETH", quote="ETH", price=Decimal(1), observed_at=dawn, source="identity"))
    await db.vaults.tick(feed="ETH", quote="ETH")
    return found


async def _vault(db: Session, address: str) -> Vault:
    there = await db.vaults.find(Vault.chain_id == 1, Vault.contract == _POOL, Vault.external_id == address, limit=1)
    if there:
        return there[0]
    raw = bytes.fromhex(address[2:])
    known = await db.agents.find(Agent.address == raw, limit=1)
    who = known[0] if known else await db.agents.add(Agent(name=f"Borrower {address[:10]}", address=raw))
    return await db.vaults.open(agent=who, chain_id=1, contract=_POOL, external_id=address, quote="ETH")


async def _replay(db: Session, vault: Vault, row: Row, held: set[str], assets: dict[str, UUID]) -> None:
    quantities = [(VaultSide.COLLATERAL, assets[t], row.collateral.get(t, 0)) for t in sorted(held)]
    quantities.append((VaultSide.DEBT, assets[_DEBT], row.debt))
    await positions.write(db, vault.id, positions.SET, quantities)
    await db[VaultObservation].add(
        VaultObservation(
            vault=Ref(vault.id),
            source=SOURCE,
            observed_at=row.at,
            block=row.block,
            health=int(row.health * SCALE) if row.debt else None,
            tolerance=TOLERANCE,
            details={"tokens": list(row.tokens)},
        )
    )


async def _borrower(db: Session, address: str) -> Borrower:
    vault = await _vault(db, address)
    seen = [
        o
        async for o in db[VaultObservation].stream(
            VaultObservation.vault == vault.ref, VaultObservation.source == SOURCE
        )
    ]
    owing = [o for o in seen if o.health is not None]
    single = [o for o in owing if len(o.details["tokens"]) == 1]
    gaps = [abs(o.health - (o.derived_health or 0)) for o in single if o.health is not None]
    return Borrower(
        address=address,
        rows=len(seen),
        with_debt=len(owing),
        single=len(single),
        single_within=sum(not o.mismatch for o in single),
        within=sum(not o.mismatch for o in owing),
        below_one=sum(o.health is not None and o.health < SCALE for o in owing),
        greatest=Decimal(max(gaps)) / SCALE if gaps else None,
    )


def _row(at: int, cells: dict[str, str]) -> Row:
    stamp, block = number(at, cells["timestamp"], "timestamp"), number(at, cells["block"], "block")
    total, debt = number(at, cells["totalCollateral"], "totalCollateral"), number(at, cells["totalDebt"], "totalDebt")
    health = number(at, cells["healthFactor"], "healthFactor")
    if min(stamp, block, total, debt, health) < 0 or health * SCALE >= 2**63 or stamp >= 2**32:
        raise bad(at, "holds a number that cannot be")
    tokens = {
        name.removesuffix("_collateral"): number(at, value, name)
        for name, value in cells.items()
        if name.endswith("_collateral")
    }
    held = {t: q for t, q in tokens.items() if q > 0}
    worth: dict[str, Decimal] = {}
    if len(held) > 1:
        worth = {t: number(at, cells.get(f"{t}_collateral (in USD)", "0"), f"{t} in USD") for t in held}
    return Row(
        block=int(block),
        at=datetime.fromtimestamp(int(stamp), UTC),
        collateral=_shares(int(total), list(held), worth),
        tokens=tuple(held),
        debt=int(debt),
        health=health,
    )


def _shares(total: int, tokens: list[str], worth: dict[str, Any]) -> dict[str, int]:
    """The total by token, in proportion to what they are worth; the last one has what is left."""
    if not tokens:
        return {}
    whole = sum(worth.values())
    found = {t: int(total * worth[t] / whole) if whole else 0 for t in tokens[:-1]}
    return {**found, tokens[-1]: total - sum(found.values())}


def _is_address(text: str) -> bool:
    return len(text) == 42 and text.startswith("0x") and all(c in "0123456789abcdef" for c in text[2:])
