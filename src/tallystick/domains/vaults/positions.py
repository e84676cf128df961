"""What changes a vault's positions: as its agent does it, judged by the limits, or as the chain says it, mirrored."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tallystick.domains.idempotency import idempotent
from tallystick.domains.named import id_of
from tallystick.domains.vaults.assets import VaultAsset
from tallystick.domains.vaults.vaults import Vault, VaultPosition, VaultSide, VaultStatus
from tallystick.errors import Conflict, InsufficientFunds, Invalid
from tallystick.ids import uuid7
from tallystick.values import CHAIN_CEILING

if TYPE_CHECKING:
    from tallystick.session import Session

Quantities = Mapping[str, int] | Mapping[UUID, int]
"""Base units by the code or the id of an asset."""

_ASSETS: Final = "SELECT id FROM tally.vault_asset WHERE tenant_id = $1 AND id = ANY ($2) ORDER BY id FOR SHARE"
_INTO: Final = (
    "INSERT INTO tally.vault_position AS p (tenant_id, id, vault_id, side, asset_id, quantity) "
    "SELECT $1, n.id, $2, n.side, n.asset, n.quantity "
    "FROM unnest($3::uuid[], $4::text[], $5::uuid[], $6::numeric[]) n (id, side, asset, quantity) "
    "ORDER BY n.side, n.asset ON CONFLICT (tenant_id, vault_id, side, asset_id) DO UPDATE SET quantity = "
)
SET: Final = _INTO + "excluded.quantity"
_MORE: Final = _INTO + "p.quantity + excluded.quantity"
_LESS: Final = (
    "UPDATE tally.vault_position SET quantity = quantity - $5 WHERE tenant_id = $1 AND vault_id = $2 AND side = $3 "
    "AND asset_id = $4 AND quantity >= $5 RETURNING id"
)
_ENDED: Final = frozenset({VaultStatus.LIQUIDATED, VaultStatus.BAD_DEBT, VaultStatus.CLOSED, VaultStatus.LIQUIDATING})
_RUNNING: Final = frozenset({VaultStatus.ACTIVE, VaultStatus.AT_RISK})
_ONE: Final = 100_000_000


async def asset_id(db: Session, asset: str | UUID | VaultAsset) -> UUID:
    """The id of an asset given as its code, its id or itself. Raises ``NotFound``."""
    if isinstance(asset, str):
        return (await db.vault_assets.by_code(asset)).id
    return id_of(asset, VaultAsset, "asset")


async def hold(db: Session, vault: UUID, assets: list[UUID]) -> Vault:
    """Lock assets and the vault, in the order in which ticks and liquidations do."""
    await db.unit.call(_ASSETS, (db.tenant_id, sorted(assets)))
    return await db.vaults.lock(vault)


async def write(db: Session, vault: UUID, sql: str, rows: list[tuple[VaultSide, UUID, int]]) -> None:
    """Write quantities of a vault in one statement."""
    await db.unit.call(
        sql,
        (
            db.tenant_id,
            vault,
            [uuid7() for _ in rows],
            [side.value for side, _, _ in rows],
            [asset for _, asset, _ in rows],
            [Decimal(quantity) for _, _, quantity in rows],
        ),
        db[VaultPosition].spec,
    )


async def mirror(db: Session, vault: UUID, collateral: Quantities, debt: Quantities) -> Vault:
    """See ``Vaults.set_positions``."""
    for name, given in (("collateral", collateral), ("debt", debt)):
        if not isinstance(given, Mapping):
            raise Invalid(
                "Positions are base units by asset.", field=name, remedy='Write {"ETH": 10 * 10**18}, or {} for none.'
            )
    rows = [
        (side, await asset_id(db, asset), quantity_of(quantity, least=0))
        for side, given in ((VaultSide.COLLATERAL, collateral), (VaultSide.DEBT, debt))
        for asset, quantity in given.items()
    ]
    if len({(side, asset) for side, asset, _ in rows}) < len(rows):
        raise Invalid("An asset is given twice on one side.", field="collateral")
    async with db.transaction():
        if rows:
            await hold(db, vault, [asset for _, asset, _ in rows])
            await write(db, vault, SET, rows)
        return await db.vaults.get(vault)


async def move(
    db: Session, op: str, vault: UUID, asset: str | UUID | VaultAsset, quantity: int, *, key: str | None
) -> Vault:
    """See ``Vaults.deposit``, ``withdraw``, ``borrow`` and ``repay``."""
    side = VaultSide.COLLATERAL if op in ("deposit", "withdraw") else VaultSide.DEBT
    units = quantity_of(quantity, least=1)
    of = await asset_id(db, asset)
    async with idempotent(db, f"vaults.{op}", key, (vault, of, units)) as once:
        if once.replayed:
            return await db.vaults.get(vault)
        held = await hold(db, vault, [of])
        if held.status in _ENDED or (op in ("withdraw", "borrow") and held.status not in _RUNNING):
            raise Conflict(
                f"The vault is {held.status.value} and takes no {op}.",
                entity="Vault",
                rule="status",
                remedy="Positions move in vaults that run.",
            )
        if op in ("deposit", "borrow"):
            await write(db, vault, _MORE, [(side, of, units)])
        elif not await db.unit.call(_LESS, (db.tenant_id, vault, side.value, of, Decimal(units))):
            raise InsufficientFunds(
                f"The vault does not {'hold' if side is VaultSide.COLLATERAL else 'owe'} as much.",
                remedy="Look at its positions first.",
            )
        now = await db.vaults.get(vault)
        _judge(op, now)
        once.results = (vault,)
        return now


def quantity_of(value: Any, *, least: int) -> int:
    """A quantity in base units. Raises ``Invalid`` unless it is an int from ``least`` to 2^256-1."""
    if value.__class__ is not int or not least <= value < CHAIN_CEILING:
        raise Invalid(
            f"A quantity is a whole number of base units, {least} to 2^256-1.",
            field="quantity",
            remedy="10 of a token with 18 decimals are 10 * 10**18.",
        )
    return int(value)


def _judge(op: str, now: Vault) -> None:
    if op == "borrow" and now.debt_value > now.borrow_limit:
        raise Conflict(
            "The debt would be above what may be borrowed against the collateral.",
            entity="Vault",
            rule="borrow_limit",
            remedy="Borrow less, or deposit more first.",
        )
    if op == "withdraw" and now.health_scaled is not None and now.health_scaled < _ONE:
        raise Conflict(
            "The health factor would fall below 1.",
            entity="Vault",
            rule="health",
            remedy="Withdraw less, or repay first.",
        )
