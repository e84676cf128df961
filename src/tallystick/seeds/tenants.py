"""Two tenants who must never see each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tallystick.errors import Duplicate
from tallystick.seeds import Planted

if TYPE_CHECKING:
    from tallystick.app import Tallystick


class TenantSeed(NamedTuple):
    """A tenant to create; ``asset`` is what its applications are counted in."""

    slug: str
    name: str
    asset: str
    options: dict[str, Any]


TENANTS = (
    TenantSeed(
        "sunrise",
        "Sunrise Co-op",
        "USD",
        {"time_zone": "Africa/Lagos", "plan": "pro", "feature_flags": {"fairness_report": True}},
    ),
    TenantSeed("harbour", "Harbour Credit Union", "GBP", {"time_zone": "Europe/London", "plan": "basic"}),
)


async def plant(tally: Tallystick, tenant: TenantSeed) -> Planted:
    """Create the tenant unless there is one of its slug."""
    slugs = {slug async for _, slug, _ in tally.tenants.all()}
    added = 0
    if tenant.slug not in slugs:
        try:
            await tally.tenants.create(tenant.slug, name=tenant.name, **tenant.options)
            added = 1
        except Duplicate:
            added = 0  # Somebody else planted the same seed at the same moment, which is as good.
    return Planted(seed="tenants", tenant=tenant.slug, added=added, present=1 - added)


def asset_of(slug: str) -> str:
    """What a tenant's applications are counted in; dollars for tenants that are not of the seeds."""
    return next((t.asset for t in TENANTS if t.slug == slug), "USD")
