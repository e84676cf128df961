"""Liquidations: debt repaid by others for collateral with a bonus, judged by the database under the vault's lock."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from tallystick.domains.vaults.assets import VaultAsset
from tallystick.domains.vaults.vaults import Vault
from tallystick.entity import Entity
from tallystick.fields import ChainAmount, Length, Maintained, Once, Ref
from tallystick.rules import Check, Guard, Index, Readable, Rules, Unique, append_only


class LiquidationOrigin(StrEnum):
    """Whether a liquidation was made here or seen elsewhere."""

    APPLIED = "applied"
    OBSERVED = "observed"


class LiquidationEvent(Entity):
    """A liquidation. An applied one is judged and changes the vault; an observed one is written down as it was seen.

    Of an applied one ``repaid`` may be None for as much as the close factor allows, and less is repaid where the
    collateral ends; ``seized`` is the database's. ``bad_debt`` is the value that nothing is left to pay, in
    hundred-millionths of the vault's quote, like the two healths. An event of a chain counts once.
    """

    vault: Annotated[Ref[Vault], Once()]
    origin: Annotated[LiquidationOrigin, Once()] = LiquidationOrigin.APPLIED
    debt_asset: Annotated[Ref[VaultAsset], Once()]
    repaid: Annotated[ChainAmount | None, Once()] = None
    collateral_asset: Annotated[Ref[VaultAsset], Once()]
    seized: Annotated[ChainAmount | None, Once()] = None
    liquidator: Annotated[bytes | None, Once()] = None
    chain_id: Annotated[int | None, Once()] = None
    tx_hash: Annotated[bytes | None, Once()] = None
    log_index: Annotated[int | None, Once()] = None
    reference: Annotated[str | None, Length(120, min=1), Once()] = None
    occurred_at: Annotated[datetime, Once()]
    effective: Annotated[date, Once()]
    details: Annotated[dict[str, Any], Once()] = msgspec.field(default_factory=dict)
    health_before: Annotated[int | None, Maintained()] = None
    health_after: Annotated[int | None, Maintained()] = None
    bad_debt: Annotated[ChainAmount, Maintained()] = 0

    rules = Rules(
        Unique("chain_id", "tx_hash", "log_index"),
        Unique("reference"),
        Index("vault", "occurred_at", query="the liquidations of a vault"),
        Index("occurred_at", query="liquidations by time"),
        Check("done", "repaid is not null and seized is not null"),
        Check(
            "chain",
            "(tx_hash is null) = (log_index is null) and (tx_hash is null) = (chain_id is null) "
            "and (tx_hash is null or octet_length(tx_hash) = 32) and (log_index is null or log_index >= 0)",
        ),
        Check("liquidator_length", "octet_length(liquidator) between 20 and 64"),
        Guard("tally_liquidate", "BEFORE INSERT", "tally.vault_liquidate('liquidation_event')"),
        append_only(),
        retain="vaults",
        readable={
            "liquidator": Readable.DIGEST,
            "tx_hash": Readable.DIGEST,
            "reference": Readable.CODE,
            "details": Readable.TERMS,
        },
    )
