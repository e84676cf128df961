"""How a tenant's vaults stand, all together."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from tallystick.domains.vaults.vaults import Vault, VaultStatus
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session

STEPS: Final = tuple(Decimal(s) for s in ("1", "1.05", "1.1", "1.25", "1.5", "2", "3"))
"""Where health factors are cut into bands: below 1 a vault may be liquidated."""
_CUTS: Final = ", ".join(str(int(s * 100_000_000)) for s in STEPS)
_WORST: Final = 8
_RUNNING: Final = (VaultStatus.ACTIVE, VaultStatus.AT_RISK, VaultStatus.PAUSED)
_OPEN: Final = "('pending', 'active', 'at_risk', 'paused', 'liquidating')"
_TOTALS: Final = (
    "SELECT quote, status, count(*) AS vaults, sum(collateral_value) AS collateral, sum(debt_value) AS debt "
    "FROM tally.vault WHERE tenant_id = $1 GROUP BY quote, status ORDER BY quote, status"
)
_BANDS: Final = (
    f"SELECT quote, width_bucket(health_scaled, ARRAY[{_CUTS}]::bigint[]) AS band, count(*) AS vaults, "
    f"sum(debt_value) AS debt FROM tally.vault WHERE tenant_id = $1 AND status IN {_OPEN} "
    "AND health_scaled IS NOT NULL GROUP BY quote, band ORDER BY quote, band"
)
_ALERTS: Final = (
    "SELECT kind, count(*) AS alerts FROM tally.risk_alert WHERE tenant_id = $1 AND state <> 'resolved' "
    "GROUP BY kind ORDER BY kind"
)


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """The vaults of a status in a quote, with what they hold and owe in it."""

    quote: str
    status: str
    vaults: int
    collateral: Decimal
    debt: Decimal


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """Open vaults with debt whose health factor is from ``least`` to below ``below``; None is no bound."""

    quote: str
    least: Decimal | None
    below: Decimal | None
    vaults: int
    debt: Decimal


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Totals by status, bands of health, alerts that stand by kind, and the vaults of the worst health."""

    totals: tuple[Total, ...]
    bands: tuple[Band, ...]
    alerts: dict[str, int]
    worst: tuple[Vault, ...]


async def overview(db: Session) -> Overview:
    """See ``Vaults.overview``."""
    async with db.transaction("repeatable read", read_only=True) if db.unit.depth == 0 else db.transaction():
        me = (db.tenant_id,)
        totals = tuple(
            Total(quote=quote, status=status, vaults=vaults, collateral=collateral.scaleb(-8), debt=debt.scaleb(-8))
            for quote, status, vaults, collateral, debt in await db.unit.call(_TOTALS, me)
        )
        found = {(quote, band): (vaults, debt) for quote, band, vaults, debt in await db.unit.call(_BANDS, me)}
        alerts = {str(row[0]): int(row[1]) for row in await db.unit.call(_ALERTS, me)}
        worst = await db.vaults.find(
            Vault.health_scaled < 150_000_000,  # type: ignore[operator]
            one_of(Vault.status, _RUNNING),
            order=Vault.health_scaled,
            limit=_WORST,
        )
    edges = (None, *STEPS, None)
    bands = tuple(
        Band(
            quote=quote,
            least=edges[n],
            below=edges[n + 1],
            vaults=found.get((quote, n), (0, Decimal(0)))[0],
            debt=Decimal(found.get((quote, n), (0, Decimal(0)))[1]).scaleb(-8),
        )
        for quote in sorted({quote for quote, _ in found})
        for n in range(len(STEPS) + 1)
    )
    return Overview(totals=totals, bands=bands, alerts=alerts, worst=tuple(worst))
