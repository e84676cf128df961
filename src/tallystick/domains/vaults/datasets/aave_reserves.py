"""The reserve configuration of Aave v3 before and after a governance change, as assets and the history of them.

Snapshots of bgd-labs/aave-proposals-v3: every reserve with its decimals, risk parameters in basis points, flags and the
answer of its oracle. What is not a column of ``VaultAsset`` goes to its ``details``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallystick.domains.vaults.assets import VaultAsset, VaultAssetChange
from tallystick.domains.vaults.datasets.files import Told, text_of
from tallystick.domains.vaults.prices import AssetPrice
from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.session import Session

SOURCE: Final = "Aave v3 oracle"
_BASIS: Final = Decimal(10_000)
_COLUMNS: Final = frozenset({"symbol", "decimals", "ltv", "liquidationThreshold", "liquidationBonus"})
_DAY: Final = re.compile(r"_(\d{8})_(before|after)\.json$")


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The reserves of one file, by symbol, with its rate strategies by address."""

    file: str
    taken: datetime
    reserves: dict[str, dict[str, Any]]
    strategies: dict[str, dict[str, Any]]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a reserve that changed; a rate strategy comes with the numbers that differ in it."""

    asset: str
    parameter: str
    before: str | None
    after: str | None
    strategy: dict[str, str] = {}


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did: reserves of the files, assets that are new, and every change that is on record for them."""

    files: tuple[str, ...]
    reserves: int
    added: int
    changes: tuple[Change, ...]


def find(path: Path) -> list[Path]:
    """The snapshots that a path means, before those after. Raises ``Invalid``."""
    if path.is_file():
        return [path]
    folder = next((f for f in (path / "aave_v3_reserves", path) if f.is_dir() and any(f.glob("*.json"))), None)
    if folder is None:
        raise Invalid("There is no snapshot of reserves at that path.", field="path", remedy="Name its folder.")
    files = list(folder.glob("*.json"))
    return sorted(files, key=lambda f: (f.name.rpartition("_")[0], f.name.endswith("_after.json"), f.name))


def read(path: Path) -> Snapshot:
    """One snapshot. Raises ``Invalid`` for a file that is none."""
    try:
        found = msgspec.json.decode(text_of(path, "Aave reserves"))
        reserves = {r["symbol"]: dict(r) for r in found["reserves"].values()}
        strategies = {str(k): dict(v) for k, v in found.get("strategies", {}).items()}
        if len(reserves) == len(found["reserves"]) > 0 and all(map(_is_whole, reserves.values())):
            return Snapshot(file=path.name, taken=_taken(path), reserves=reserves, strategies=strategies)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
        pass
    raise Invalid("The file is no snapshot of Aave reserves.", field="path", remedy="Check the path.")


def _is_whole(reserve: dict[str, Any]) -> bool:
    return all(reserve[name].__class__ is int for name in _COLUMNS - {"symbol"})


def _taken(path: Path) -> datetime:
    """When a snapshot was taken, which only its name says, to the day; that after the change is of noon."""
    named = _DAY.search(path.name)
    if named is None:
        return datetime.now(UTC)
    day = datetime.strptime(named[1], "%Y%m%d").replace(tzinfo=UTC)
    return day + timedelta(hours=12) if named[2] == "after" else day


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Store the reserves as assets, then what changed from file to file; all or none.

    What is there already is only changed by the last file. Needs the permission "prices.record". Raises ``Invalid``.
    """
    snapshots = [read(f) for f in find(path)]
    fresh: set[str] = set()
    async with db.transaction():
        await db.prices.record([p for s in snapshots for p in _prices(s)])
        there = {a.code: a async for a in db.vault_assets.stream()}
        for at, snapshot in enumerate(snapshots):
            for symbol, reserve in sorted(snapshot.reserves.items()):
                asset = there.get(symbol)
                if asset is None:
                    there[symbol] = await db.vault_assets.add(
                        VaultAsset(code=symbol, decimals=reserve["decimals"], **parameters(reserve))
                    )
                    fresh.add(symbol)
                elif at == len(snapshots) - 1 or symbol in fresh:
                    there[symbol] = await db.vault_assets.update(asset, **parameters(reserve))
                if told is not None:
                    told(1)
        for symbol in sorted(snapshots[-1].reserves):
            await db.vaults.tick(feed=symbol)
        codes = {a.id: a.code for a in there.values() if a.code in snapshots[-1].reserves}
        changes = [
            _change(c, codes[c.asset.id], snapshots)
            async for c in db[VaultAssetChange].stream(order=VaultAssetChange.created_at)
            if c.asset.id in codes
        ]
    return Loaded(
        files=tuple(s.file for s in snapshots),
        reserves=len(snapshots[-1].reserves),
        added=len(fresh),
        changes=tuple(changes),
    )


def parameters(reserve: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an asset: basis points as fractions, a bonus of 10500 as 0.05, the rest as it is."""
    bonus = reserve["liquidationBonus"]
    return {
        "ltv": Decimal(reserve["ltv"]) / _BASIS,
        "threshold": Decimal(reserve["liquidationThreshold"]) / _BASIS,
        "bonus": Decimal(bonus) / _BASIS - 1 if bonus else Decimal(0),
        "details": {k: v for k, v in reserve.items() if k not in _COLUMNS},
    }


def _prices(snapshot: Snapshot) -> list[AssetPrice]:
    return [
        AssetPrice(
            asset=symbol,
            price=Decimal(r["oracleLatestAnswer"]).scaleb(-r.get("oracleDecimals", 8)),
            observed_at=snapshot.taken,
            source=SOURCE,
        )
        for symbol, r in snapshot.reserves.items()
        if r.get("oracleLatestAnswer", 0) > 0
    ]


def _change(c: VaultAssetChange, code: str, snapshots: list[Snapshot]) -> Change:
    known = {k: v for s in snapshots for k, v in s.strategies.items()}
    old, new = known.get(c.before or "", {}), known.get(c.after or "", {})
    differ = {k: f"{old[k]} -> {new[k]}" for k in sorted(old.keys() & new.keys()) if old[k] != new[k]}
    return Change(
        asset=code, parameter=c.parameter.removeprefix("details."), before=c.before, after=c.after, strategy=differ
    )
