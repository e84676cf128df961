"""Borrowers of Aave v2, block by block: what they held and owed in wei of ether, and the health factor that was said.

Each borrower becomes a vault whose positions are values: the file's totals are in wei of ETH, at the protocol's own
oracle, which its token prices in dollars (CoinGecko) are not. A token's share of the collateral goes by those. The
health factor of each row is written down as observed, beside the one that the database derives from the positions.

The file has no thresholds. Those of the common tokens are known here; one that is not, or that governance changed
since, is read from the rows of a single asset (health factor x debt / collateral), as the roundest number that agrees
with all of them, and that is said. A known one gives way to three rows in a row that agree on another; fewer are
mismatches.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallystick.domains.datafiles import Told, bad, files_in, number, rows_of
from tallystick.domains.vaults import positions
from tallystick.domains.vaults.agents import Agent
from tallystick.domains.vaults.assets import VaultAsset
from tallystick.domains.vaults.datasets.thresholds import Single, Step, steps_of
from tallystick.domains.vaults.observations import VaultObservation
from tallystick.domains.vaults.prices import AssetPrice
from tallystick.domains.vaults.scale import SCALE
from tallystick.domains.vaults.vaults import Vault, VaultSide
from tallystick.errors import Invalid
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.session import Session

SOURCE: Final = "Aave v2"
TOLERANCE: Final = Decimal("0.005")
"""Health factors are published with two decimals."""
_POOL: Final = bytes.fromhex("7d2768de32b0b80b7a3454c06bdac94a69ddc7a9")
_NEEDED: Final = {"block", "timestamp", "user", "totalCollateral", "totalDebt", "healthFactor"}
_DEBT: Final = "debt in ETH"
_HELD: Final = "_collateral"
_GREATEST: Final = Decimal(2**63 - 1) / SCALE
"""Health factors end there, as those of the database do."""
_EIGHT: Final = Decimal("1e-8")
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
"""Loan to value, threshold and bonus of Aave v2 in the winter of 2020 to 2021."""


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
    """What loading did, what is stored of each borrower now, and what was noticed, for people."""

    files: int
    rows: int
    added: int
    borrowers: tuple[Borrower, ...]
    notices: tuple[str, ...] = ()


def find(path: Path) -> list[Path]:
    """The files that a path means. Raises ``Invalid``."""
    if path.is_file():
        return [path]
    for folder in (path / "aave_v2_positions", path):
        if folder.is_dir() and (found := files_in(folder, "0x*.csv")):
            return found
    raise Invalid("There is no file of Aave positions at that path.", field="path", remedy="Name its folder.")


def read(path: Path) -> tuple[str, list[Row]]:
    """The borrower's address and the rows of a file, oldest first. Raises ``Invalid`` with the line."""
    rows: dict[datetime, Row] = {}
    users: set[str] = set()
    for at, cells in rows_of(path, "Aave positions", _NEEDED):
        users.add(cells["user"].lower())
        row = _row(at, cells)
        if rows.setdefault(row.at, row) != row:
            raise bad(at, "is of a moment that was there before, and says something else")
    if len(users) != 1 or not _is_address(min(users)):
        raise Invalid("A file of Aave positions is of one borrower.", field="path", remedy="Check the path.")
    return users.pop(), [rows[moment] for moment in sorted(rows)]


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Replay the blocks that are not stored yet, all or none, those of all borrowers by their time.

    Needs the permission "prices.record". Raises ``Invalid``.
    """
    await db.require("prices.record")
    paths = find(path)
    files = dict(read(f) for f in paths)
    if len(files) < len(paths):
        raise Invalid("Two of the files are of one borrower.", field="path", remedy="Load one of them.")
    rows = sorted(((row, user) for user, of in files.items() for row in of), key=lambda pair: (pair[0].at, pair[1]))
    added = 0
    async with db.transaction():
        vaults = {user: await _vault(db, user) for user in files}
        there = {user: await _moments(db, vault) for user, vault in vaults.items()}
        fresh = [row for row, user in rows if row.at not in there[user]]
        assets = await _assets(db, {t for row, _ in rows for t in row.tokens})
        steps = _steps(fresh, assets)
        notices = tuple(map(_said, steps))
        held: dict[str, set[str]] = {user: set() for user in files}
        for row, user in rows:
            held[user] |= row.collateral.keys()
            if row.at not in there[user]:
                while steps and steps[0].at <= row.at:
                    step = steps.pop(0)
                    assets[step.token] = await _become(db, assets[step.token], step.threshold)
                await _replay(db, vaults[user], row, held[user], assets)
                added += 1
            if told is not None:
                told(1)
        borrowers = [await _borrower(db, user) for user in files]
    return Loaded(files=len(files), rows=len(rows), added=added, borrowers=tuple(borrowers), notices=notices)


def _steps(rows: list[Row], assets: dict[str, VaultAsset]) -> list[Step]:
    """The thresholds that rows tell; what is told of a token for the first time holds from the first row on."""
    singles = [
        Single(
            token=row.tokens[0], at=row.at, collateral=sum(row.collateral.values()), debt=row.debt, health=row.health
        )
        for row in rows
        if row.debt and len(row.tokens) == 1 and sum(row.collateral.values())
    ]
    found: list[Step] = []
    known = {code: a.threshold for code, a in assets.items()}
    for step in steps_of(singles, known):
        first = not known[step.token]
        found.append(Step(at=rows[0].at, token=step.token, threshold=step.threshold) if first else step)
        known[step.token] = step.threshold
    return sorted(found)


def _said(step: Step) -> str:
    return f"{step.token} from {step.at:%Y-%m-%d}: the threshold {step.threshold:.8g} was read from rows of it alone."


async def _become(db: Session, asset: VaultAsset, threshold: Decimal) -> VaultAsset:
    """Give an asset another threshold, and less of what the threshold bounds."""
    most = (1 / threshold - 1).quantize(_EIGHT, rounding=ROUND_DOWN)
    changed = {"threshold": threshold, "ltv": min(asset.ltv, threshold), "bonus": min(asset.bonus, most)}
    return await db.vault_assets.update(asset, **changed)


async def _moments(db: Session, vault: Vault) -> set[datetime]:
    where = (VaultObservation.vault == vault.ref, VaultObservation.source == SOURCE)
    return {o.observed_at async for o in db[VaultObservation].stream(*where)}


async def _assets(db: Session, tokens: set[str]) -> dict[str, VaultAsset]:
    """The assets: each token as a value in ETH, and what is owed. Ether costs one ether at any time."""
    found = {a.code: a async for a in db.vault_assets.stream()}
    for token in (*sorted(tokens), _DEBT):
        if token in found:
            continue
        ltv, threshold, bonus = map(Decimal, _PARAMETERS.get(token, ("0", "0", "0")))
        found[token] = await db.vault_assets.add(
            VaultAsset(code=token, quote="ETH", feed="ETH", ltv=ltv, threshold=threshold, bonus=bonus)
        )
    dawn = datetime(2015, 7, 30, tzinfo=UTC)
    await db.prices.record(AssetPrice(asset="ETH", quote="ETH", price=Decimal(1), observed_at=dawn, source="identity"))
    await db.vaults.tick(feed="ETH", quote="ETH")
    # The tick has priced them, and what is updated has to be as it is now.
    return {a.code: a async for a in db.vault_assets.stream()}


async def _vault(db: Session, address: str) -> Vault:
    there = await db.vaults.find(Vault.chain_id == 1, Vault.contract == _POOL, Vault.external_id == address, limit=1)
    if there:
        return there[0]
    raw = bytes.fromhex(address[2:])
    known = await db.agents.find(Agent.address == raw, limit=1)
    who = known[0] if known else await db.agents.add(Agent(name=f"Borrower {address[:10]}", address=raw))
    return await db.vaults.open(agent=who, chain_id=1, contract=_POOL, external_id=address, quote="ETH")


async def _replay(db: Session, vault: Vault, row: Row, held: set[str], assets: dict[str, VaultAsset]) -> None:
    quantities = [(VaultSide.COLLATERAL, assets[t].id, row.collateral.get(t, 0)) for t in sorted(held)]
    quantities.append((VaultSide.DEBT, assets[_DEBT].id, row.debt))
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
    # Without debt there is no health factor, whatever is written for infinity.
    health = number(at, cells["healthFactor"], "healthFactor") if int(debt) else Decimal(0)
    if min(stamp, block, total, debt, health) < 0 or stamp >= 2**32 or block >= 2**63 or max(total, debt) >= 2**256:
        raise bad(at, "holds a number that cannot be")
    held = [
        name.removesuffix(_HELD)
        for name, value in cells.items()
        if name.endswith(_HELD) and name not in _NEEDED and value and number(at, value, name) > 0
    ]
    if any(not 1 <= len(t) <= 32 for t in held):
        raise bad(at, "holds a token without a name")
    worth: dict[str, Decimal] = {}
    if len(held) > 1:
        worth = {t: number(at, cells.get(f"{t}{_HELD} (in USD)") or "0", f"{t} in USD") for t in held}
    return Row(
        block=int(block),
        at=datetime.fromtimestamp(int(stamp), UTC),
        collateral=_shares(int(total), held, worth),
        tokens=tuple(held),
        debt=int(debt),
        health=min(health, _GREATEST),
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
