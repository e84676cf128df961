"""Liquidating a vault."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.domains.chain_logs import ChainLog, log_columns
from tallystick.domains.idempotency import idempotent
from tallystick.domains.vaults.liquidations import LiquidationEvent
from tallystick.domains.vaults.positions import asset_id, quantity_of
from tallystick.domains.vaults.ticking import catch_up
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.domains.vaults.assets import VaultAsset
    from tallystick.session import Session


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a liquidator asks for."""

    debt: str | UUID | VaultAsset
    collateral: str | UUID | VaultAsset
    repay: int | None = None
    chain: ChainLog | None = None
    liquidator: bytes | None = None


async def liquidate(  # noqa: PLR0917
    db: Session, vault: UUID, asked: Asked, at: datetime | None, on: date | None, key: str | None
) -> LiquidationEvent:
    """See ``Vaults.liquidate``. The judging is done by the database, where the row is added."""
    debt, collateral = await asset_id(db, asked.debt), await asset_id(db, asked.collateral)
    repay = None if asked.repay is None else quantity_of(asked.repay, least=1)
    where = log_columns(asked.chain)
    request = (vault, debt, collateral, repay, asked.chain, asked.liquidator, on)
    await catch_up(db, vault)
    async with idempotent(db, "vaults.liquidate", key, request) as once:
        if once.replayed:
            return await db[LiquidationEvent].get(once.results[0])
        made = await db[LiquidationEvent].add(
            LiquidationEvent(
                vault=Ref(vault),
                debt_asset=Ref(debt),
                collateral_asset=Ref(collateral),
                repaid=repay,
                liquidator=asked.liquidator,
                occurred_at=db.now() if at is None else at,
                effective=db.today() if on is None else on,
                **where,
            )
        )
        once.results = (made.id,)
        return await db[LiquidationEvent].get(made.id)
