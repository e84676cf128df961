"""Vaults and their positions: what is held as collateral, what is owed, and what the database makes of it."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from tallystick.domains.vaults.agents import Agent
from tallystick.domains.vaults.assets import VaultAsset
from tallystick.domains.vaults.scale import unscaled
from tallystick.entity import Entity
from tallystick.fields import ChainAmount, Length, Maintained, Once, Rate, Ref
from tallystick.rules import Check, Guard, Index, Readable, Rules, Transitions, Unique, kept

_MOST = 9_223_372_036_854_775_807


class VaultStatus(StrEnum):
    """Where a vault stands. Active and at risk follow from its health by themselves."""

    PENDING = "pending"
    ACTIVE = "active"
    AT_RISK = "at_risk"
    PAUSED = "paused"
    LIQUIDATING = "liquidating"
    LIQUIDATED = "liquidated"
    BAD_DEBT = "bad_debt"
    CLOSED = "closed"


_S = VaultStatus
STEPS = {
    _S.PENDING: [_S.ACTIVE, _S.CLOSED],
    _S.ACTIVE: [_S.AT_RISK, _S.PAUSED, _S.LIQUIDATING, _S.CLOSED],
    _S.AT_RISK: [_S.ACTIVE, _S.PAUSED, _S.LIQUIDATING, _S.CLOSED],
    _S.PAUSED: [_S.ACTIVE, _S.AT_RISK, _S.CLOSED],
    _S.LIQUIDATING: [_S.ACTIVE, _S.AT_RISK, _S.LIQUIDATED, _S.BAD_DEBT],
    _S.LIQUIDATED: [],
    _S.BAD_DEBT: [],
    _S.CLOSED: [],
}
Value = Annotated[ChainAmount, Maintained()]
"""A value in hundred-millionths of the vault's quote, kept by the database."""


class Vault(Entity):
    """Collateral and the debt against it, on a chain; its values, LTV and health factor are derived by the database.

    Values are in hundred-millionths of ``quote``: ``collateral_value`` rounded down, ``debt_value`` up, at most
    2^256-1. ``borrow_limit`` is what may be owed (the sum of collateral x ltv), ``weighted_threshold`` where
    liquidation begins (the sum of collateral x threshold). ``ltv_scaled`` is debt / collateral rounded up and
    ``health_scaled`` weighted_threshold / debt rounded down (Aave, GenericLogic), both in hundred-millionths and None
    without debt; so ``health_scaled < 100_000_000`` is exactly "may be liquidated". The vault is at risk above
    ``max_ltv`` or below ``warn_health``.
    """

    agent: Annotated[Ref[Agent], Once()]
    chain_id: Annotated[int, Once()]
    contract: Annotated[bytes | None, Once()] = None
    external_id: Annotated[str, Length(120, min=1), Once()]
    quote: Annotated[str, Length(32, min=1), Once()] = "USD"
    status: VaultStatus = VaultStatus.ACTIVE
    max_ltv: Rate = Decimal(1)
    warn_health: Rate = Decimal("1.1")
    collateral_value: Value = 0
    borrow_limit: Value = 0
    weighted_threshold: Value = 0
    debt_value: Value = 0
    ltv_scaled: Annotated[int | None, Maintained()] = None
    health_scaled: Annotated[int | None, Maintained()] = None

    rules = Rules(
        Unique("chain_id", "contract", "external_id"),
        Unique("chain_id", "external_id", where="contract is null"),
        Index("ltv_scaled", query="vaults of high risk, by LTV", where="ltv_scaled is not null"),
        Index(
            "health_scaled",
            query="vaults near liquidation, by health factor",
            where="health_scaled is not null and health_scaled < 150000000",
        ),
        Check("contract_length", "octet_length(contract) between 20 and 64"),
        Check("chain", "chain_id >= 0"),
        Check("limits", "max_ltv > 0 and warn_health >= 1"),
        Check("derived", "(ltv_scaled is null) = (debt_value = 0) and (health_scaled is null) = (debt_value = 0)"),
        Check(
            "ltv_is_derived",
            "ltv_scaled = case when collateral_value = 0 then 9223372036854775807 else "
            "least(div(debt_value * 100000000 + collateral_value - 1, collateral_value), 9223372036854775807) end",
        ),
        Check(
            "health_is_derived",
            "health_scaled = case when debt_value > 0 then "
            "least(div(weighted_threshold * 100000000, debt_value), 9223372036854775807) end",
        ),
        Transitions("status", STEPS, initial=[_S.PENDING, _S.ACTIVE]),
        kept(),
        retain="vaults",
        fillfactor=70,
        unaudited=(
            "collateral_value",
            "borrow_limit",
            "weighted_threshold",
            "debt_value",
            "ltv_scaled",
            "health_scaled",
        ),
        readable={"contract": Readable.DIGEST, "external_id": Readable.CODE, "quote": Readable.CODE},
        derived="tally.vault_derived",
    )

    @property
    def ltv(self) -> Decimal | None:
        """Debt / collateral; None without debt, ``Infinity`` without collateral."""
        if self.ltv_scaled == _MOST:
            return Decimal("Infinity")
        return unscaled(self.ltv_scaled)

    @property
    def health_factor(self) -> Decimal | None:
        """Collateral x threshold / debt; below 1 the vault may be liquidated. None without debt."""
        return unscaled(self.health_scaled)

    def worth(self, units: int) -> Decimal:
        """One of the vault's values in whole units of its quote."""
        return Decimal(units).scaleb(-8)


class VaultSide(StrEnum):
    """Whether a position is held or owed."""

    COLLATERAL = "collateral"
    DEBT = "debt"


class VaultPosition(Entity):
    """How much of an asset a vault holds as collateral, or owes, in base units; a mirror of what the chain says.

    Writing one revalues the vault in the same statement. The asset must have a price and the vault's quote.
    """

    vault: Annotated[Ref[Vault], Once()]
    side: Annotated[VaultSide, Once()]
    asset: Annotated[Ref[VaultAsset], Once()]
    quantity: ChainAmount

    rules = Rules(
        Unique("vault", "side", "asset"),
        Index("asset", "vault", query="vaults that a price touches", where="quantity > 0"),
        Guard(
            "tally_revalue_new",
            "AFTER INSERT",
            "tally.vault_position_changed('vault_position')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        Guard(
            "tally_revalue_changed",
            "AFTER UPDATE",
            "tally.vault_position_changed('vault_position')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        kept(),
        retain="vaults",
        fillfactor=80,
    )
