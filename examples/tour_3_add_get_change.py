"""The tour, 3: add, get, change."""

from __future__ import annotations

from enum import StrEnum

from _scratch import run
from tallystick import Entity, Index, Money, Ref, Rules, Secret, StaleVersion, Tallystick, User, secret, usd


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
    async with Tallystick.open(domains=["underwriting"], entities=[Visit]) as tally:
        await tally.migrate()
        await tally.tenants.create("sunrise", name="Sunrise Co-op", time_zone="Africa/Lagos")

        async with tally.session("sunrise", actor="user:42") as db:
            ada = await db.users.add(User(email="ada@example.org", first_name="Ada"))

            visit = await db[Visit].add(Visit(borrower=ada.ref, national_id=secret("1234"), fee=usd("12.50")))
            visit = await db[Visit].get(visit.id, load=[Visit.borrower])
            print("got:", visit.fee, "for", visit.borrower.value.first_name, "| national id", visit.national_id)

            before = visit
            visit = await db[Visit].update(visit, fee=usd("15.00"))
            print("changed:", before.fee, "->", visit.fee, "| version", before.version, "->", visit.version)
            try:
                await db[Visit].update(before, fee=usd("16.00"))
            except StaleVersion as late:
                print("somebody was faster:", late)


if __name__ == "__main__":
    run(main)
