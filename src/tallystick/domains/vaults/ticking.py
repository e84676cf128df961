"""Applying prices."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from tallystick.domains.vaults.prices import AssetPrice
from tallystick.domains.vaults.ticks import PriceTick
from tallystick.errors import Invalid
from tallystick.ids import uuid7

if TYPE_CHECKING:
    from tallystick.session import Session

_TICK: Final = (
    "INSERT INTO tally.price_tick (tenant_id, id, feed, quote, applied_at) VALUES ($1, $2, $3, $4, $5) "
    "RETURNING id, feed, quote, applied, price, price_round, priced_at, vaults, alerts, firings"
)
# What a vault holds and owes whose shared price is newer than the one that is applied.
_BEHIND: Final = (
    "SELECT DISTINCT coalesce(a.feed, a.code) AS feed, a.quote FROM tally.vault_position p "
    "JOIN tally.vault_asset a ON a.tenant_id = p.tenant_id AND a.id = p.asset_id "
    "JOIN tally_ref.asset_price s ON s.asset = coalesce(a.feed, a.code) AND s.quote = a.quote "
    "WHERE p.tenant_id = $1 AND a.tenant_id = $1 AND p.vault_id = $2 AND p.quantity > 0 "
    "AND (a.priced_at, coalesce(a.price_round, -1)) < (s.observed_at, coalesce(s.round, -1)) ORDER BY 1, 2"
)


class TickReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a price did; ``applied`` is False for one that was not newer."""

    id: UUID
    feed: str
    quote: str
    applied: bool
    price: Decimal | None
    price_round: int | None
    priced_at: datetime | None
    vaults: int
    alerts: int
    firings: int


async def tick(db: Session, price: AssetPrice | None, feed: str | None, quote: str, at: datetime | None) -> TickReceipt:
    """See ``Vaults.tick``."""
    if (price is None) == (feed is None):
        raise Invalid("A tick is of a price, or of the latest one of a feed.", field="price")
    if price is not None:
        if price.__class__ is not AssetPrice:
            raise Invalid(
                "A tick is of one price, an AssetPrice.",
                field="price",
                remedy="Write AssetPrice(asset=..., price=...).",
            )
        await db.prices.record(price)
        feed, quote = price.asset, price.quote
    dated = at is None or (isinstance(at, datetime) and at.tzinfo is not None)
    if not isinstance(feed, str) or not isinstance(quote, str) or not dated:
        raise Invalid(
            "A tick has a feed, a quote and a moment with a time zone.",
            field="feed" if dated else "at",
            remedy='Write tick(feed="ETH", quote="USD", at=datetime.now(UTC)).',
        )
    async with db.transaction():
        moment = db.now() if at is None else at
        (row,) = await db.unit.call(_TICK, (db.tenant_id, uuid7(), feed, quote, moment), db[PriceTick].spec)
    found: dict[str, Any] = dict(row)
    if found["price_round"] is not None:
        found["price_round"] = int(found["price_round"])
    return TickReceipt(**found)


async def catch_up(db: Session, vault: UUID) -> None:
    """Apply every shared price of the vault's assets that is newer than the applied one."""
    for feed, quote in [tuple(row) for row in await db.unit.call(_BEHIND, (db.tenant_id, vault))]:
        await tick(db, None, feed, quote, None)
