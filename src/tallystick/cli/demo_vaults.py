"""The demo's story of vaults: a price falls while 16 monitors deliver it, and 16 liquidators find the same vault."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.domains.vaults.assets import VaultAsset
    from tallystick.domains.vaults.vaults import Vault
    from tallystick.session import Session

WORKERS = 16
VAULTS = 40
_FEED = "demo:ETH"
_PRICES = ("2000", "1930", "1850", "1790")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """A price that was delivered by everybody at once: how often it counted, and what became of the vault we watch."""

    price: str
    delivered: int
    applied: int
    vaults: int
    alerts: int
    fired: int
    health: Decimal | None
    status: str


@dataclass(slots=True, kw_only=True)
class Guarded:
    """What the story shows; all of it was read from the database."""

    falls: list[Fall] = field(default_factory=list)
    late_ignored: bool = False
    tried: int = 0
    liquidated: int = 0
    repaid: Decimal = Decimal(0)
    seized: Decimal = Decimal(0)
    before: Decimal | None = None
    after: Decimal | None = None

    @property
    def held(self) -> bool:
        """Whether each price counted once, the rule fired once, and the vault was liquidated once."""
        once = bool(self.falls) and all(f.applied == 1 for f in self.falls)
        fired = sum(f.fired for f in self.falls) == 1
        return once and fired and self.late_ignored and self.liquidated == 1


async def guard(tally: Tallystick, slug: str) -> Guarded:
    """Forty vaults, one of them daring; three falls of the price, a price that comes late, and a liquidation."""
    from tallystick.domains.vaults.prices import AssetPrice

    story = Guarded()
    async with tally.session(slug, actor="demo", permissions=["*"]) as db:
        start = db.now() - timedelta(minutes=10)
        eth, usdc, watched = await _open(db, start)
        for minute, price in enumerate(_PRICES[1:], 1):
            story.falls.append(await _fall(tally, db, slug, watched.id, price, start + timedelta(minutes=minute)))
        late = AssetPrice(asset=_FEED, price=Decimal(3_000), observed_at=start, source="late")
        story.late_ignored = not (await db.vaults.tick(late)).applied
        await _liquidate(tally, db, slug, story, watched.id, eth, usdc)
    return story


async def _open(db: Session, start: datetime) -> tuple[VaultAsset, VaultAsset, Vault]:
    from tallystick.domains.vaults.agents import Agent
    from tallystick.domains.vaults.assets import VaultAsset
    from tallystick.domains.vaults.prices import AssetPrice
    from tallystick.domains.vaults.repository import Protection

    async with db.transaction():
        desk = await db.agents.add(Agent(name="Demo desk", credibility=700))
        made = []
        for code, decimals, feed, price in (("dETH", 18, _FEED, _PRICES[0]), ("dUSD", 6, "demo:USD", "1")):
            asset = VaultAsset(
                code=code,
                decimals=decimals,
                feed=feed,
                ltv=Decimal("0.80"),
                threshold=Decimal("0.825"),
                bonus=Decimal("0.05"),
            )
            made.append(await db.vault_assets.add(asset))
            await db.vaults.tick(AssetPrice(asset=feed, price=Decimal(price), observed_at=start, source="demo"))
        eth, usdc = made
        watched = None
        for number in range(VAULTS):
            opened = await db.vaults.open(
                agent=desk,
                chain_id=1,
                external_id=f"demo {number}",
                collateral={eth.id: 10 * 10**18},
                debt={usdc.id: (15_000 if number == VAULTS - 1 else 200 * number) * 10**6},
                protection=Protection(threshold="0.80") if number == VAULTS - 1 else None,
            )
            watched = opened
    assert watched is not None
    return eth, usdc, watched


async def _fall(  # noqa: PLR0917
    tally: Tallystick, db: Session, slug: str, watched: UUID, price: str, at: datetime
) -> Fall:
    from tallystick.domains.vaults.prices import AssetPrice

    told = AssetPrice(asset=_FEED, price=Decimal(price), observed_at=at, source="demo")

    async def deliver() -> Any:
        async with tally.session(slug, actor="monitor", permissions=["prices.record"]) as worker:
            return await worker.vaults.tick(told)

    receipts = await asyncio.gather(*(deliver() for _ in range(WORKERS)))
    now = await db.vaults.get(watched)
    return Fall(
        price=price,
        delivered=len(receipts),
        applied=sum(r.applied for r in receipts),
        vaults=sum(r.vaults for r in receipts),
        alerts=sum(r.alerts for r in receipts),
        fired=sum(r.firings for r in receipts),
        health=now.health_factor,
        status=now.status.value,
    )


async def _liquidate(  # noqa: PLR0917
    tally: Tallystick, db: Session, slug: str, story: Guarded, watched: UUID, eth: VaultAsset, usdc: VaultAsset
) -> None:
    from tallystick.domains.chain_logs import ChainLog
    from tallystick.domains.vaults.liquidations import LiquidationEvent
    from tallystick.errors import Conflict
    from tallystick.fields import Ref

    chain = ChainLog(chain_id=1, tx_hash=b"\x2a" * 32, log_index=7)

    async def attempt(number: int) -> bool:
        async with tally.session(slug, actor="liquidator") as worker:
            try:
                await worker.vaults.liquidate(
                    watched, debt=usdc.id, collateral=eth.id, chain=chain, key=f"demo liquidation {number}"
                )
            except Conflict:
                return False
            return True

    done = await asyncio.gather(*(attempt(n) for n in range(WORKERS)))
    story.tried = len(done)
    events = await db[LiquidationEvent].find(LiquidationEvent.vault == Ref(watched))
    story.liquidated = len(events) if done.count(True) == len(events) else 0
    for event in events:
        story.repaid = Decimal(event.repaid or 0).scaleb(-6)
        story.seized = Decimal(event.seized or 0).scaleb(-18)
        story.before = Decimal(event.health_before or 0).scaleb(-8)
        story.after = None if event.health_after is None else Decimal(event.health_after).scaleb(-8)


def show(out: Output, story: Guarded) -> None:
    """The story for people."""
    rows = [
        (f.price, f.delivered, f.applied, f.vaults, f.alerts, f.fired, f"{f.health:.4f}", f.status) for f in story.falls
    ]
    columns = ("price of 1 ETH", "delivered", "counted", "vaults", "alerts", "fired", "health", "the vault is")
    out.table(columns, rows, right=columns[:-1])
    if story.late_ignored:
        out.line("A price of 3,000 from before the fall came late: kept as a fact, applied to nothing.")
    out.line(
        f"{story.tried} liquidators at once: {story.liquidated} liquidation, {story.repaid:,.2f} dollars repaid for "
        f"{story.seized:.4f} ETH; health {story.before:.4f} -> {story.after or 0:.4f}."
    )


def document(story: Guarded) -> dict[str, Any]:
    """The story for programs."""
    return {
        "falls": [
            {
                "price": f.price,
                "delivered": f.delivered,
                "applied": f.applied,
                "vaults": f.vaults,
                "alerts": f.alerts,
                "fired": f.fired,
                "health": None if f.health is None else str(f.health),
                "status": f.status,
            }
            for f in story.falls
        ],
        "late_ignored": story.late_ignored,
        "liquidators": story.tried,
        "liquidations": story.liquidated,
        "repaid": str(story.repaid),
        "seized": str(story.seized),
        "health_before": None if story.before is None else str(story.before),
        "health_after": None if story.after is None else str(story.after),
        "held": story.held,
    }
