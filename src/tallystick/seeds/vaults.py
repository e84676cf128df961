"""Vaults: a desk with a book of them on two chains, prices that fell, alerts that stand, and one liquidation.

Their prices come under codes of the tenant's own ("seed:sunrise:ETH"), because prices are shared by all tenants and
made-up ones must not be taken for real.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tallystick.domains.vaults.agents import Agent, CredibilityTier
from tallystick.domains.vaults.assets import VaultAsset
from tallystick.domains.vaults.prices import AssetPrice
from tallystick.domains.vaults.repository import Protection
from tallystick.seeds import VAULTS, Planted

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from tallystick.session import Session

_ASSETS: Final = (
    ("ETH", 18, "0.805", "0.83", "0.05", "2000"),
    ("WBTC", 8, "0.73", "0.78", "0.05", "40000"),
    ("USDC", 6, "0.77", "0.80", "0.045", "1"),
)
_FALLS: Final = (("ETH", "1900"), ("WBTC", "38500"), ("ETH", "1780"))
_DESKS: Final = (
    ("Harvest desk", CredibilityTier.GOLD, 820, "yield"),
    ("Night keeper", CredibilityTier.SILVER, 610, "keeper"),
    ("Bridge bot", CredibilityTier.BRONZE, 240, "arbitrage"),
)
Told = Callable[[int], None]


async def plant(db: Session, told: Told | None = None) -> Planted:
    """Plant agents, assets and vaults, unless they are there already."""
    slug = db.tenant.slug
    if await db.agents.exists(Agent.name == _DESKS[0][0]):
        return Planted(seed="vaults", tenant=slug, added=0, present=VAULTS + len(_DESKS))
    chance = random.Random(f"vaults {slug}")  # noqa: S311  made-up data, the same every time
    async with db.transaction():
        agents = await db.agents.add_many(
            [
                Agent(name=name, tier=tier, credibility=score, profile={"strategy": strategy})
                for name, tier, score, strategy in _DESKS
            ]
        )
        ids = {}
        start = db.now() - timedelta(days=2)
        for code, decimals, ltv, threshold, bonus, price in _ASSETS:
            made = await db.vault_assets.add(
                VaultAsset(
                    code=code,
                    feed=_feed(db, code),
                    decimals=decimals,
                    ltv=Decimal(ltv),
                    threshold=Decimal(threshold),
                    bonus=Decimal(bonus),
                )
            )
            ids[code] = made.id
            await _price(db, code, price, start)
        for number in range(VAULTS):
            await _vault(db, chance, agents[number % len(agents)], number, ids)
            if told is not None:
                told(1)
        for hour, (code, price) in enumerate(_FALLS, 1):
            await _price(db, code, price, start + timedelta(hours=hour))
        worst = await db.vaults.find_liquidatable(limit=1)
        if worst:
            held = {p.side.value: p.asset.id for p in await db.vaults.positions(worst[0]) if p.quantity}
            await db.vaults.liquidate(worst[0], debt=held["debt"], collateral=held["collateral"], key=None)
    return Planted(seed="vaults", tenant=slug, added=VAULTS + len(_DESKS), present=0)


async def _vault(db: Session, chance: random.Random, agent: Agent, number: int, ids: dict[str, UUID]) -> None:
    """One vault: ether or bitcoin held, dollars owed, from careful to daring."""
    code, unit, price = ("ETH", 10**18, 2_000) if number % 3 else ("WBTC", 10**8, 40_000)
    held = chance.randint(1, 40) * unit // (1 if code == "ETH" else 10)
    ltv = chance.choice((0, 20, 35, 45, 55, 62, 68, 72))
    owed = held * price * ltv // (100 * unit) * 10**6
    await db.vaults.open(
        agent=agent,
        chain_id=1 if number % 4 else 8453,
        external_id=f"{db.tenant.slug}-{number + 1:03}",
        collateral={ids[code]: held},
        debt={ids["USDC"]: owed} if owed else {},
        max_ltv="0.72",
        protection=Protection(threshold="0.70", action={"repay": "USDC", "share": "0.25"}) if number % 2 else None,
    )


async def _price(db: Session, code: str, price: str, at: datetime) -> None:
    await db.vaults.tick(AssetPrice(asset=_feed(db, code), price=Decimal(price), observed_at=at, source="seed"))


def _feed(db: Session, code: str) -> str:
    return f"seed:{db.tenant.slug}:{code}"
