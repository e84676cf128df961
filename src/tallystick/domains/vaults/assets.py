"""What vaults may hold and owe, and how risky it is; every change of that is kept."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from tallystick.entity import Entity
from tallystick.fields import ChainAmount, Length, Maintained, Once, Price, Rate, Ref
from tallystick.repository import Repository
from tallystick.rules import Check, Guard, Index, Readable, Rules, Unique, append_only, kept

Code = Annotated[str, Length(32, min=1)]


class VaultAsset(Entity):
    """An asset that vaults hold or owe, with its risk parameters, all fractions of 1.

    ``ltv`` is what may be borrowed against it, ``threshold`` where it may be liquidated, ``bonus`` what a liquidator
    gets on top; ltv <= threshold < 1 and threshold x (1 + bonus) <= 1, which is Aave's own listing rule
    (PoolConfigurator). Of debt in it a ``close_factor`` of all that the vault owes may be repaid at once, as in Aave
    v3.3; all of it at a health factor of ``full_close_health`` or less, or where debt or collateral is worth less than
    ``min_position``, in hundred-millionths of the quote (0 switches that off). ``feed`` is the code that its prices
    come under, its own unless told. The price that is applied to vaults is kept by ticks; no client can write it.
    """

    code: Annotated[str, Length(32, min=1), Once()]
    quote: Annotated[str, Length(32, min=1), Once()] = "USD"
    feed: Annotated[str | None, Length(32, min=1), Once()] = None
    decimals: Annotated[int, Once()] = 18
    ltv: Rate = Decimal(0)
    threshold: Rate = Decimal(0)
    bonus: Rate = Decimal(0)
    close_factor: Rate = Decimal("0.5")
    full_close_health: Rate = Decimal("0.95")
    min_position: ChainAmount = 0
    details: dict[str, Any] = msgspec.field(default_factory=dict)
    price: Annotated[Price | None, Maintained()] = None
    price_round: Annotated[ChainAmount | None, Maintained()] = None
    price_source: Annotated[str | None, Maintained()] = None
    priced_at: Annotated[datetime | None, Maintained()] = None

    rules = Rules(
        Unique("code"),
        Check("decimals", "decimals between 0 and 77"),
        Check("ltv", "0 <= ltv and ltv <= threshold and threshold < 1"),
        Check("bonus", "bonus >= 0 and threshold * (1 + bonus) <= 1"),
        Check("close", "close_factor > 0 and close_factor <= 1 and full_close_health between 0 and 1"),
        Guard(
            "tally_changed",
            "AFTER UPDATE",
            "tally.vault_asset_changed('vault_asset')",
            when="pg_trigger_depth() = 0",
        ),
        kept(),
        retain="vaults",
        readable={
            "code": Readable.CODE,
            "quote": Readable.CODE,
            "feed": Readable.CODE,
            "details": Readable.TERMS,
            "price_source": Readable.CODE,
        },
    )


class VaultAssetChange(Entity):
    """One parameter of an asset that was changed, written by the database; of ``details``, one key each."""

    asset: Ref[VaultAsset]
    parameter: str
    before: str | None = None
    after: str | None = None
    asset_version: int

    rules = Rules(
        Index("asset", "asset_version", query="the history of an asset's parameters"),
        Guard(
            "tally_by_database",
            "AFTER INSERT",
            "tally.vault_by_database('vault_asset_change')",
            when="pg_trigger_depth() = 0",
        ),
        append_only(),
        retain="vaults",
        readable={"parameter": Readable.CODE, "before": Readable.TERMS, "after": Readable.TERMS},
    )


class VaultAssets(Repository[VaultAsset]):
    """The assets of the tenant's vaults. An update of a parameter revalues every vault that it touches."""

    async def by_code(self, code: str) -> VaultAsset:
        """The asset of a code. Raises ``NotFound``."""
        return await self.one(VaultAsset.code == code)
