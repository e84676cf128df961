"""The tour, 1: open, migrate, make a tenant. A deploy step; the embedded server when no DATABASE_URL is set."""

from __future__ import annotations

from enum import StrEnum

from _scratch import run
from tallystick import Entity, Index, Money, Ref, Rules, Secret, Tallystick, User


class VisitStatus(StrEnum):
    """Where a visit stands."""

    PLANNED = "planned"
    DONE = "done"


class Visit(Entity):
    """A field visit to a borrower before a loan is approved."""

    borrower: Ref[User]
    national_id: Secret[str]
    fee: Money
    status: VisitStatus = VisitStatus.PLANNED

    rules = Rules(Index("status", query="visits to plan"), retain="lending")


async def main() -> None:
    async with Tallystick.open(domains=["lending", "underwriting"], entities=[Visit]) as tally:
        report = await tally.migrate()
        sunrise = await tally.tenants.create("sunrise", name="Sunrise Co-op", time_zone="Africa/Lagos")

        print("migrated:", ", ".join([*report.revisions, *report.tables]))
        print("tenant:", sunrise.slug, sunrise.name, sunrise.time_zone)


if __name__ == "__main__":
    run(main)
