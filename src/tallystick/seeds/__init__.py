"""Seeds: data to look at. Every person in them is made up, and the same seed is the same data everywhere.

Addresses end in example.org, telephone numbers are of the range kept for fiction, and social security numbers begin
with 666, which was never issued. Seeds are planted through sessions like anybody's data and may be planted again: what
is there already stays as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.session import Session

NAMES = (
    "tenants",
    "users",
    "applications",
    "reviews",
    "fairness",
    "devices",
    "community",
    "circles",
    "reputation",
    "vaults",
)
_NEEDS = {"reviews": ("users", "applications"), "fairness": ("applications",)}
ALL = "all"
APPLICATIONS = {"sunrise": 1_000, "harbour": 250}
"""How many applications each tenant of the seeds has."""
DEVICES = 12
"""How many devices each tenant of the seeds has."""
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
    needed = {NAMES[0], name, *_NEEDS.get(name, ())}
    return tuple(n for n in NAMES if n in needed)


def told_of(seeds: Iterable[str]) -> int:
    """How often ``told`` hears when seeds are planted for the first time."""
    each = {"devices": DEVICES, "community": LOANS, "circles": CIRCLES, "reputation": REPUTATIONS, "vaults": VAULTS}
    many = {name: n * len(APPLICATIONS) for name, n in each.items()} | {"applications": sum(APPLICATIONS.values())}
    return sum(many.get(name, 0) for name in seeds)


async def plant(tally: Tallystick, name: str = ALL, told: Told | None = None) -> list[Planted]:
    """Plant a seed of ``NAMES``, or "all"; the tenants come along, because the others need them.

    ``told`` hears of every application, device, loan, savings group, person with a reputation and vault that is
    stored. Raises ``Invalid`` for another name.
    """
    from tallystick.seeds import (
        applications,
        circles,
        community,
        devices,
        fairness,
        reputation,
        reviews,
        tenants,
        users,
        vaults,
    )

    planters: dict[str, Callable[[Session], Awaitable[Planted]]] = {
        "users": users.plant,
        "applications": lambda db: applications.plant(db, APPLICATIONS[db.tenant.slug], told),
        "reviews": reviews.plant,
        "fairness": fairness.plant,
        "devices": lambda db: devices.plant(db, told),
        "community": lambda db: community.plant(db, told),
        "circles": lambda db: circles.plant(db, told),
        "reputation": lambda db: reputation.plant(db, told),
        "vaults": lambda db: vaults.plant(db, told),
    }
    report: list[Planted] = []
    for seed in wanted(name):
        for tenant in tenants.TENANTS:
            if seed == "tenants":
                report.append(await tenants.plant(tally, tenant))
                continue
            async with tally.session(tenant.slug, actor=_ACTOR, permissions=["*"]) as db:
                report.append(await planters[seed](db))
    return report
