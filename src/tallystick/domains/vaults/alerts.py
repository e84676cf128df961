"""Risk alerts: at most one of a kind stands for a vault, raised and resolved by the database itself."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from tallystick.domains.vaults.vaults import Vault
from tallystick.entity import Entity
from tallystick.fields import Once, Rate, Ref
from tallystick.repository import Repository
from tallystick.rules import Check, Guard, Index, Rules, Transitions, Unique, kept


class AlertKind(StrEnum):
    """What is wrong with a vault."""

    LTV_HIGH = "ltv_high"
    HEALTH_LOW = "health_low"
    LIQUIDATABLE = "liquidatable"
    BAD_DEBT = "bad_debt"


class AlertSeverity(StrEnum):
    """How bad it is."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class VaultMetric(StrEnum):
    """What is measured."""

    HEALTH = "health"
    LTV = "ltv"


class AlertState(StrEnum):
    """What became of an alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SUPPRESSED = "suppressed"
    RESOLVED = "resolved"


_S = AlertState


class RiskAlert(Entity):
    """Something wrong with a vault; it is resolved when it is right again.

    While one of a kind stands, acknowledged and suppressed ones too, no second one is raised. ``observed`` is the
    metric when it was raised, in hundred-millionths.
    """

    vault: Annotated[Ref[Vault], Once()]
    kind: Annotated[AlertKind, Once()]
    severity: Annotated[AlertSeverity, Once()]
    metric: Annotated[VaultMetric, Once()]
    observed: Annotated[int, Once()]
    threshold: Annotated[Rate, Once()]
    state: AlertState = AlertState.OPEN
    resolved_at: datetime | None = None

    rules = Rules(
        Unique("vault", "kind", where="state <> 'resolved'"),
        Index("state", "created_at", query="alerts that stand, newest first"),
        Index("vault", "created_at", query="the alerts of a vault"),
        Check("resolved", "(state = 'resolved') = (resolved_at is not null)"),
        Transitions(
            "state",
            {
                _S.OPEN: [_S.ACKNOWLEDGED, _S.SUPPRESSED, _S.RESOLVED],
                _S.ACKNOWLEDGED: [_S.SUPPRESSED, _S.RESOLVED],
                _S.SUPPRESSED: [_S.OPEN, _S.RESOLVED],
                _S.RESOLVED: [],
            },
            initial=[_S.OPEN],
        ),
        Guard(
            "tally_by_database", "AFTER INSERT", "tally.vault_by_database('risk_alert')", when="pg_trigger_depth() = 0"
        ),
        kept(),
        retain="vaults",
    )


class RiskAlerts(Repository[RiskAlert]):
    """The alerts of the tenant's vaults."""

    async def acknowledge(self, alert: RiskAlert) -> RiskAlert:
        """Say that somebody looks after it. Raises ``InvalidTransition``, ``StaleVersion``."""
        return await self.update(alert, state=AlertState.ACKNOWLEDGED)

    async def suppress(self, alert: RiskAlert) -> RiskAlert:
        """Keep it from being looked at, and from being raised again, until it is right by itself."""
        return await self.update(alert, state=AlertState.SUPPRESSED)

    async def resolve(self, alert: RiskAlert) -> RiskAlert:
        """Close it by hand; the next tick raises it again if it still holds."""
        return await self.update(alert, state=AlertState.RESOLVED, resolved_at=self.db.now())
