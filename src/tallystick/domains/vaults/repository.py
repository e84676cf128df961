"""``db.vaults``: everything that happens to vaults."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import msgspec

from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.named import id_of
from tallystick.domains.vaults import liquidating, positions, ticking
from tallystick.domains.vaults.agents import Agent
from tallystick.domains.vaults.alerts import AlertState, RiskAlert, VaultMetric
from tallystick.domains.vaults.observations import VaultObservation
from tallystick.domains.vaults.overview import Overview, overview
from tallystick.domains.vaults.protection import ProtectionKind, ProtectionRule
from tallystick.domains.vaults.scale import ratio, scaled
from tallystick.domains.vaults.ticking import TickReceipt
from tallystick.domains.vaults.vaults import Vault, VaultPosition, VaultStatus
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Ref
from tallystick.query import desc, one_of

if TYPE_CHECKING:
    from tallystick.domains.chain_logs import ChainLog
    from tallystick.domains.vaults.assets import VaultAsset
    from tallystick.domains.vaults.liquidations import LiquidationEvent
    from tallystick.domains.vaults.positions import Quantities
    from tallystick.domains.vaults.prices import AssetPrice

VaultLike = Vault | Ref[Vault] | UUID
_OPEN = (VaultStatus.ACTIVE, VaultStatus.AT_RISK, VaultStatus.PAUSED, VaultStatus.LIQUIDATING)
_NOTHING: Mapping[Any, int] = {}


class Protection(msgspec.Struct, frozen=True, kw_only=True):
    """Protection to open a vault with: at which LTV or health factor, how often at most, and what to do."""

    threshold: Decimal | str
    metric: VaultMetric = VaultMetric.LTV
    kind: ProtectionKind = ProtectionKind.ALERT
    cooldown: timedelta = timedelta(hours=1)
    action: dict[str, Any] = msgspec.field(default_factory=dict)


class Vaults(Guarded[Vault]):
    """The tenant's vaults. Values, LTV and health factor are read here and written by nobody but the database."""

    permission: ClassVar[str] = "vaults.manage"
    instead: ClassVar[str] = "vaults.open, deposit, borrow, pause, close and the like"

    async def open(
        self,
        *,
        agent: Agent | Ref[Agent] | UUID,
        chain_id: int,
        external_id: str,
        contract: bytes | None = None,
        quote: str = "USD",
        collateral: Quantities = _NOTHING,
        debt: Quantities = _NOTHING,
        max_ltv: Decimal | str = Decimal(1),
        warn_health: Decimal | str = Decimal("1.1"),
        protection: Protection | None = None,
    ) -> Vault:
        """Open a vault as the chain has it: positions in base units by asset, limits, and a protection rule.

        Raises ``Duplicate`` for a vault of the chain that is there already, ``Invalid``, ``Conflict`` for an asset
        without a price in the vault's quote.
        """
        async with self.db.transaction():
            made = await put(
                self,
                Vault(
                    agent=Ref(id_of(agent, Agent, "agent")),
                    chain_id=chain_id,
                    contract=contract,
                    external_id=external_id,
                    quote=quote,
                    max_ltv=ratio(max_ltv, "max_ltv"),
                    warn_health=ratio(warn_health, "warn_health"),
                ),
            )
            if protection is not None:
                await self.protect(made, protection)
            return await positions.mirror(self.db, made.id, collateral, debt)

    async def positions(self, vault: VaultLike) -> list[VaultPosition]:
        """What a vault holds and owes."""
        return await self.db[VaultPosition].find(VaultPosition.vault == Ref(id_of(vault, Vault, "vault")))

    async def set_positions(
        self, vault: VaultLike, *, collateral: Quantities = _NOTHING, debt: Quantities = _NOTHING
    ) -> Vault:
        """Mirror what the chain says: the quantities named become what is given, the others stay.

        Facts are not judged: a vault may come out unhealthy. One statement, revalued in it.
        """
        return await positions.mirror(self.db, id_of(vault, Vault, "vault"), collateral, debt)

    async def deposit(
        self, vault: VaultLike, asset: str | UUID | VaultAsset, quantity: int, *, key: str | None
    ) -> Vault:
        """Add collateral, in base units."""
        return await positions.move(self.db, "deposit", id_of(vault, Vault, "vault"), asset, quantity, key=key)

    async def withdraw(
        self, vault: VaultLike, asset: str | UUID | VaultAsset, quantity: int, *, key: str | None
    ) -> Vault:
        """Take collateral out. Raises ``Conflict`` when the health factor would fall below 1, ``InsufficientFunds``."""
        return await positions.move(self.db, "withdraw", id_of(vault, Vault, "vault"), asset, quantity, key=key)

    async def borrow(
        self, vault: VaultLike, asset: str | UUID | VaultAsset, quantity: int, *, key: str | None
    ) -> Vault:
        """Owe more. Raises ``Conflict`` when it is more than the collateral's LTVs allow."""
        return await positions.move(self.db, "borrow", id_of(vault, Vault, "vault"), asset, quantity, key=key)

    async def repay(self, vault: VaultLike, asset: str | UUID | VaultAsset, quantity: int, *, key: str | None) -> Vault:
        """Owe less. Raises ``InsufficientFunds`` for more than is owed."""
        return await positions.move(self.db, "repay", id_of(vault, Vault, "vault"), asset, quantity, key=key)

    # -- prices and risk -------------------------------------------------------------------------------------------

    async def tick(
        self,
        price: AssetPrice | None = None,
        *,
        feed: str | None = None,
        quote: str = "USD",
        at: datetime | None = None,
    ) -> TickReceipt:
        """Apply a price to all the tenant's vaults, in one statement: values, statuses, alerts, protection rules.

        With a price it is recorded first, which takes the permission "prices.record"; with a ``feed`` the latest shared
        price of it is applied. A price that is not newer than the one applied does nothing, and says so. ``at`` is the
        moment that cooldowns are measured by; now, unless told.
        """
        return await ticking.tick(self.db, price, feed, quote, at)

    async def find_high_risk(self, ltv: Decimal | str, *, limit: int = 1_000) -> list[Vault]:
        """Open vaults whose LTV is above a fraction, the worst first: ``find_high_risk(Decimal("0.80"))``.

        Raises ``Invalid`` for a percentage: 80 is refused, because as a fraction it would find nothing.
        """
        least = scaled(ltv, "ltv")
        if least > 10 * 100_000_000:
            raise Invalid(
                "An LTV is a fraction, and this one is above 10.", field="ltv", remedy="Write Decimal('0.80') for 80 %."
            )
        return await self.find(
            Vault.ltv_scaled > least,  # type: ignore[operator]
            one_of(Vault.status, _OPEN),
            order=desc(Vault.ltv_scaled),
            limit=limit,
        )

    async def find_liquidatable(self, *, limit: int = 1_000) -> list[Vault]:
        """Vaults with a health factor below 1, the worst first."""
        return await self.find(
            Vault.health_scaled < 100_000_000,  # type: ignore[operator]
            one_of(Vault.status, (VaultStatus.ACTIVE, VaultStatus.AT_RISK)),
            order=Vault.health_scaled,
            limit=limit,
        )

    async def find_by_chain(self, chain_id: int, *, contract: bytes | None = None, limit: int = 1_000) -> list[Vault]:
        """The vaults of a chain, or of one contract on it."""
        where: list[Any] = [Vault.chain_id == chain_id]
        if contract is not None:
            where.append(Vault.contract == contract)
        return await self.find(*where, limit=limit)

    async def overview(self) -> Overview:
        """How all vaults stand: totals by status, bands of health, alerts that stand, the worst ones."""
        return await overview(self.db)

    async def alerts(self, vault: VaultLike | None = None) -> list[RiskAlert]:
        """The alerts that stand, of one vault or of all, newest first."""
        where: list[Any] = [RiskAlert.state != AlertState.RESOLVED]
        if vault is not None:
            where.append(RiskAlert.vault == Ref(id_of(vault, Vault, "vault")))
        return await self.db[RiskAlert].find(*where, order=desc(RiskAlert.created_at), limit=10_000)

    async def protect(self, vault: VaultLike, protection: Protection) -> ProtectionRule:
        """Add a protection rule to a vault."""
        if not isinstance(protection, Protection) or not isinstance(protection.cooldown, timedelta):
            raise Invalid(
                "Protection is given as Protection(threshold=..., cooldown=timedelta(...)).", field="protection"
            )
        return await self.db[ProtectionRule].add(
            ProtectionRule(
                vault=Ref(id_of(vault, Vault, "vault")),
                kind=protection.kind,
                metric=protection.metric,
                threshold=ratio(protection.threshold, "threshold"),
                cooldown=int(protection.cooldown.total_seconds()),
                action=protection.action,
            )
        )

    async def observe(
        self,
        vault: VaultLike,
        *,
        ltv: Decimal | str | None = None,
        health_factor: Decimal | str | None = None,
        source: str,
        at: datetime | None = None,
        block: int | None = None,
        tolerance: Decimal | str = Decimal("0.005"),
        details: dict[str, Any] | None = None,
    ) -> VaultObservation:
        """Write down what somebody says a vault's metrics are; ``mismatch``: they differ from the derived ones.

        Metrics are never written: this is what an update of them becomes. Raises ``Invalid`` without any metric,
        ``Duplicate`` for a second observation of one source and moment.
        """
        if ltv is None and health_factor is None:
            raise Invalid("An observation is of an LTV, a health factor, or both.", field="health_factor")
        async with self.db.transaction():
            made = await self.db[VaultObservation].add(
                VaultObservation(
                    vault=Ref(id_of(vault, Vault, "vault")),
                    source=source,
                    observed_at=self.db.now() if at is None else at,
                    block=block,
                    ltv=None if ltv is None else scaled(ltv, "ltv"),
                    health=None if health_factor is None else scaled(health_factor, "health_factor"),
                    tolerance=ratio(tolerance, "tolerance"),
                    details=details or {},
                )
            )
            return await self.db[VaultObservation].get(made.id)

    async def liquidate(
        self,
        vault: VaultLike,
        *,
        debt: str | UUID | VaultAsset,
        collateral: str | UUID | VaultAsset,
        repay: int | None = None,
        chain: ChainLog | None = None,
        liquidator: bytes | None = None,
        at: datetime | None = None,
        on: date | None = None,
        key: str | None,
    ) -> LiquidationEvent:
        """Repay debt for collateral with its bonus, judged again under the vault's lock at the latest price.

        ``repay`` is in base units, or None for all that the close factor allows; where the collateral ends, less is
        repaid. Raises ``Conflict`` for a healthy vault, for more than the close factor allows and for dust left behind,
        ``Duplicate`` for a chain event that was taken before.
        """
        asked = liquidating.Asked(debt=debt, collateral=collateral, repay=repay, chain=chain, liquidator=liquidator)
        return await liquidating.liquidate(self.db, id_of(vault, Vault, "vault"), asked, at, on, key)

    # -- life ------------------------------------------------------------------------------------------------------

    async def pause(self, vault: VaultLike) -> Vault:
        """Stop borrowing, withdrawing and rules of a vault; prices still revalue it."""
        return await self._become(vault, VaultStatus.PAUSED)

    async def resume(self, vault: VaultLike) -> Vault:
        """Let a paused or pending vault run; the next tick says whether it is at risk."""
        return await self._become(vault, VaultStatus.ACTIVE)

    async def close(self, vault: VaultLike) -> Vault:
        """Close a vault that owes nothing. Raises ``Conflict`` while it does."""
        return await self._become(vault, VaultStatus.CLOSED)

    async def _become(self, vault: VaultLike, status: VaultStatus) -> Vault:
        async with self.db.transaction():
            found = await self.lock(id_of(vault, Vault, "vault"))
            if status is VaultStatus.CLOSED and found.debt_value:
                raise Conflict("The vault owes something.", entity="Vault", rule="debt", remedy="Repay it first.")
            return await alter(self, found, status=status)
