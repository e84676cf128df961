"""The reserve configuration of Aave v3 before and after a governance change, as assets and the history of them.

Snapshots of bgd-labs/aave-proposals-v3: every reserve with its decimals, risk parameters in basis points, flags and the
answer of its oracle. What is not a column of ``VaultAsset`` goes to its ``details``.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallystick.domains.datafiles import Told, files_in, text_of
from tallystick.domains.vaults.assets import VaultAsset, VaultAssetChange
from tallystick.domains.vaults.prices import AssetPrice, eighteen
from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.session import Session

SOURCE: Final = "Aave v3 oracle"
_BASIS: Final = Decimal(10_000)
_COLUMNS: Final = frozenset({"symbol", "decimals", "ltv", "liquidationThreshold", "liquidationBonus"})
_WHOLE: Final = ("decimals", "ltv", "liquidationThreshold", "liquidationBonus")
_DAY: Final = re.compile(r"_(\d{8})_(before|after)\.json(\.gz)?$")
_AFTER: Final = re.compile(r"after\.json(\.gz)?$")


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The reserves of one file, by the address of their token, with its rate strategies by address."""

    file: str
    chain: int | None
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
    places = [f for f in (path / "aave_v3_reserves", path) if f.is_dir() and files_in(f, "*.json")]
    if not places:
        raise Invalid("There is no snapshot of reserves at that path.", field="path", remedy="Name its folder.")
    return sorted(files_in(places[0], "*.json"), key=lambda f: _AFTER.search(f.name) is not None)


def read(path: Path) -> Snapshot:
    """One snapshot. Raises ``Invalid`` for a file that is none."""
    try:
        found = msgspec.json.decode(text_of(path, "Aave reserves"))
        reserves = {_underlying(k, r): _reserve(r) for k, r in found["reserves"].items()}
        strategies = {str(k): dict(v) for k, v in found.get("strategies", {}).items() if isinstance(v, dict)}
        if len(reserves) == len(found["reserves"]) > 0:
            return Snapshot(
                file=path.name,
                chain=found.get("chainId"),
                taken=_taken(path),
                reserves=reserves,
                strategies=strategies,
            )
    except (msgspec.DecodeError, ArithmeticError, KeyError, TypeError, ValueError, AttributeError):
        pass
    raise Invalid("The file is no snapshot of Aave reserves.", field="path", remedy="Check the path.")


def read_all(path: Path) -> list[Snapshot]:
    """The snapshots that a path means, the oldest first. Raises ``Invalid``, for those of several chains too."""
    found = sorted((read(f) for f in find(path)), key=lambda s: s.taken)
    if len({s.chain for s in found}) > 1:
        raise Invalid("The snapshots are of several chains.", field="path", remedy="Load each chain to its own tenant.")
    return found


def _underlying(key: str, reserve: dict[str, Any]) -> str:
    return str(reserve.get("underlying", key)).lower()


def _reserve(given: dict[str, Any]) -> dict[str, Any]:
    """A reserve whose numbers are whole: newer reports write the large ones as texts."""
    found = dict(given)
    for name in (*_WHOLE, *(n for n in ("oracleLatestAnswer", "oracleDecimals") if n in found)):
        if found[name].__class__ is str:
            found[name] = int(found[name])
        if found[name].__class__ is not int:
            raise ValueError
    if not isinstance(found["symbol"], str) or not 0 <= found["decimals"] <= 77:
        raise ValueError
    for name in ("ltv", "liquidationThreshold", "liquidationBonus"):
        if not 0 <= found[name] <= 65_535:
            raise ValueError
    return found


def _taken(path: Path) -> datetime:
    """When a snapshot was taken, which only its name says, to the day; that after the change is of noon."""
    named = _DAY.search(path.name)
    if named is None:
        return datetime.now(UTC)
    day = datetime.strptime(named[1], "%Y%m%d").replace(tzinfo=UTC)
    return day + timedelta(hours=12) if named[2] == "after" else day


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Store the reserves as assets, then what changed from file to file; all or none.

    A reserve is known by its token's address, and its asset has the symbol for a code, with the address behind it where
    two reserves share one. What is there already is only changed by the last file. Needs the permission
    "prices.record". Raises ``Invalid``.
    """
    await db.require("prices.record")
    snapshots = read_all(path)
    fresh: set[str] = set()
    async with db.transaction():
        assets = [a async for a in db.vault_assets.stream()]
        there = {str(a.details["underlying"]).lower(): a for a in assets if "underlying" in a.details}
        codes = _codes(snapshots, {a.code: a.details["underlying"] for a in assets if "underlying" in a.details})
        names = {token: there[token].code if token in there else code for token, code in codes.items()}
        # Of an asset that nobody gave a token's address the code is all there is.
        nameless = {a.code: a for a in assets if "underlying" not in a.details}
        there |= {token: nameless[code] for token, code in names.items() if token not in there and code in nameless}
        await db.prices.record([p for s in snapshots for p in _prices(s, names)])
        for at, snapshot in enumerate(snapshots):
            for token, reserve in sorted(snapshot.reserves.items(), key=lambda pair: names[pair[0]]):
                asset = there.get(token)
                if asset is None:
                    there[token] = await db.vault_assets.add(
                        VaultAsset(code=names[token], decimals=reserve["decimals"], **parameters(reserve, names[token]))
                    )
                    fresh.add(token)
                elif asset.decimals != reserve["decimals"]:
                    raise Invalid(
                        "A reserve has other decimals than before.", field="decimals", remedy="Nothing was stored."
                    )
                elif at == len(snapshots) - 1 or token in fresh:
                    there[token] = await db.vault_assets.update(asset, **parameters(reserve, asset.code))
                if told is not None:
                    told(1)
        last = snapshots[-1].reserves
        for token in sorted(last, key=names.__getitem__):
            await db.vaults.tick(feed=names[token])
        known = {there[token].id: there[token].code for s in snapshots for token in s.reserves}
        rows = [c async for c in db[VaultAssetChange].stream() if c.asset.id in known]
        # Several changes of one load are of one moment; versions count on.
        rows.sort(key=lambda c: (c.created_at, c.asset_version, known[c.asset.id], c.parameter))
        changes = [_change(c, known[c.asset.id], snapshots) for c in rows]
    return Loaded(
        files=tuple(s.file for s in snapshots),
        reserves=len(last),
        added=len(fresh),
        changes=tuple(changes),
    )


def _codes(snapshots: list[Snapshot], taken: dict[str, Any]) -> dict[str, str]:
    """The code of each token: its first symbol, unless another token has that."""
    symbols = {token: r["symbol"] for s in reversed(snapshots) for token, r in s.reserves.items()}
    shared = Counter(symbols.values())
    return {
        token: symbol
        if shared[symbol] == 1 and (symbol not in taken or str(taken[symbol]).lower() == token)
        else f"{symbol[:19]} {token[-12:]}"
        for token, symbol in symbols.items()
    }


def parameters(reserve: dict[str, Any], code: str) -> dict[str, Any]:
    """The parameters of an asset: basis points as fractions, a bonus of 10500 as 0.05, the rest as it is."""
    bonus = reserve["liquidationBonus"]
    left_out = _COLUMNS if reserve["symbol"] == code else _COLUMNS - {"symbol"}
    return {
        "ltv": Decimal(reserve["ltv"]) / _BASIS,
        "threshold": Decimal(reserve["liquidationThreshold"]) / _BASIS,
        "bonus": Decimal(bonus) / _BASIS - 1 if bonus else Decimal(0),
        "details": {k: v for k, v in reserve.items() if k not in left_out},
    }


def _prices(snapshot: Snapshot, names: dict[str, str]) -> list[AssetPrice]:
    return [
        AssetPrice(
            asset=names[token],
            price=eighteen(Decimal(r["oracleLatestAnswer"]).scaleb(-r.get("oracleDecimals", 8))),
            observed_at=snapshot.taken,
            source=SOURCE,
        )
        for token, r in snapshot.reserves.items()
        if r.get("oracleLatestAnswer", 0) > 0
    ]


def _change(c: VaultAssetChange, code: str, snapshots: list[Snapshot]) -> Change:
    known = {k: v for s in snapshots for k, v in s.strategies.items()}
    old, new = known.get(c.before or "", {}), known.get(c.after or "", {})
    differ = {k: f"{old[k]} -> {new[k]}" for k in sorted(old.keys() & new.keys()) if old[k] != new[k]}
    return Change(
        asset=code, parameter=c.parameter.removeprefix("details."), before=c.before, after=c.after, strategy=differ
    )
