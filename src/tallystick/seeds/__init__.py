"""Seeds: data to look at. Every person in them is made up, and the same seed is the same data everywhere.

Addresses end in example.org, telephone numbers are of the range kept for fiction, and social security numbers begin
with 666, which was never issued. Seeds are planted through sessions like anybody's data and may be planted again: what
is there already stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.app import Tallystick

NAMES = ("tenants", "users", "applications", "community", "circles", "reputation", "vaults")
ALL = "all"
APPLICATIONS = {"sunrise": 1_000, "harbour": 250}
"""How many applications each tenant of the seeds has."""
LOANS = 18
"""How many loans the community of each tenant of the seeds has."""
CIRCLES = 4
"""How many savings groups each tenant of the seeds has."""
REPUTATIONS = 6
"""How many people with a reputation each tenant of the seeds has."""
VAULTS = 36
"""How many vaults each tenant of the seeds has."""
_ACTOR = "seed"
Told = Callable[[int], None]


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """What one seed did for one tenant: rows it added, and rows it found."""

    seed: str
    tenant: str
    added: int
    present: int


def wanted(name: str) -> tuple[str, ...]:
    """The seeds that a name stands for, in the order they are planted, with what they need. Raises ``Invalid``."""
    if name == ALL:
        return NAMES
    if name not in NAMES:
        raise Invalid(
            "There is no seed of that name.", field="name", remedy=f"Seeds are: {', '.join(NAMES)}, and {ALL}."
        )
    return NAMES[:1] if name == NAMES[0] else (NAMES[0], name)


async def plant(tally: Tallystick, name: str = ALL, told: Told | None = None) -> list[Planted]:
    """Plant a seed of ``NAMES``, or "all"; the tenants come along, because the others need them.

    ``told`` hears of every application, loan and savings group that is stored. Raises ``Invalid`` for another name.
    """
    from tallystick.seeds import applications, circles, community, reputation, tenants, users, vaults

    report: list[Planted] = []
    for seed in wanted(name):
        for tenant in tenants.TENANTS:
            if seed == "tenants":
                report.append(await tenants.plant(tally, tenant))
                continue
            async with tally.session(tenant.slug, actor=_ACTOR, permissions=["*"]) as db:
                if seed == "users":
                    report.append(await users.plant(db))
                elif seed == "community":
                    report.append(await community.plant(db, told))
                elif seed == "circles":
                    report.append(await circles.plant(db, told))
                elif seed == "reputation":
                    report.append(await reputation.plant(db, told))
                elif seed == "vaults":
                    report.append(await vaults.plant(db, told))
                else:
                    report.append(await applications.plant(db, APPLICATIONS[tenant.slug], told))
    return report
