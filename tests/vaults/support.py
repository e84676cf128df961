"""Agents, priced assets and vaults for tests. Prices are shared by all tenants, so every test has its own assets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from tallystick import Agent, AssetPrice, Session, Vault, VaultAsset

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
ETH, USDC = 10**18, 10**6
WORTH = 10**8


def code(name: str) -> str:
    """A code that no other test uses."""
    return f"{name}.{uuid4().hex[:12]}"


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def price(asset: VaultAsset | str, value: str, minutes: float = 0, **given: Any) -> AssetPrice:
    name = asset if isinstance(asset, str) else asset.feed or asset.code
    return AssetPrice(asset=name, price=Decimal(value), observed_at=at(minutes), **given)


async def asset(db: Session, name: str, value: str | None, **given: Any) -> VaultAsset:
    """An asset with the parameters of Aave's WETH unless told, priced at noon."""
    base: dict[str, Any] = {
        "code": code(name),
        "ltv": Decimal("0.80"),
        "threshold": Decimal("0.825"),
        "bonus": Decimal("0.05"),
    }
    made = await db.vault_assets.add(VaultAsset(**base | given))
    if value is not None:
        await db.vaults.tick(price(made, value))
    return await db.vault_assets.get(made.id)


async def pair(db: Session, value: str = "2000", **given: Any) -> tuple[VaultAsset, VaultAsset]:
    """Collateral of eighteen decimals, and a dollar of six to owe."""
    return await asset(db, "ETH", value, **given), await asset(db, "USDC", "1", decimals=6)


async def agent(db: Session, name: str = "desk") -> Agent:
    return await db.agents.add(Agent(name=name))


async def vault(
    db: Session,
    held: dict[UUID, int],
    owed: dict[UUID, int],
    **given: Any,
) -> Vault:
    base: dict[str, Any] = {"agent": await agent(db), "chain_id": 1, "external_id": uuid4().hex}
    return await db.vaults.open(
        **base | given,
        collateral=held,
        debt=owed,
    )


async def agree(db: Session) -> None:
    """What every book of vaults must be: derived values that are those of the positions at the applied prices."""
    assets = {a.id: a async for a in db.vault_assets.stream()}
    async for one in db.vaults.stream():
        held = weighted = owed = 0
        for p in await db.vaults.positions(one):
            a = assets[p.asset.id]
            if not p.quantity:
                continue
            assert a.price is not None
            worth = Decimal(p.quantity) * a.price * Decimal(10) ** (8 - a.decimals)
            whole = int(worth)
            if p.side.value == "collateral":
                held += whole
                weighted += int(whole * a.threshold)
            else:
                owed += whole + (worth > whole)
        assert (one.collateral_value, one.weighted_threshold, one.debt_value) == (held, weighted, owed)
        assert one.health_scaled == (None if not owed else min(weighted * WORTH // owed, 2**63 - 1))
        assert one.ltv_scaled == (
            None if not owed else 2**63 - 1 if not held else min(-(-owed * WORTH // held), 2**63 - 1)
        )
