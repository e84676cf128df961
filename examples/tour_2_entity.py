"""The tour, 2: an entity of one's own, with a secret, and everything its declaration says."""

from __future__ import annotations

from enum import StrEnum

from _scratch import run
from tallystick import Entity, Index, Money, Ref, Rules, Secret, Tallystick, User, desc, usd
from tallystick.entity import spec_of


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
    spec = spec_of(Visit)
    print("table:", spec.qualified)
    print("columns:", ", ".join(column.name for column in spec.columns))
    print("sealed:", ", ".join(field.name for field in spec.fields.values() if field.sealed))
    for index in spec.indexes:
        print("index:", index.name, "for", index.query)

    async with Tallystick.open(domains=["identity"], entities=[Visit]) as tally:
        await tally.migrate()
        await tally.tenants.create("sunrise", name="Sunrise Co-op")
        async with tally.session("sunrise", actor="user:42") as db:
            dear = await db[Visit].find(Visit.fee >= usd("10.00"), order=desc(Visit.created_at))
            asked = Visit.Filter.parse({"status": "planned", "fee_from": "10.00 USD"})
            print("conditions are written on the class:", len(dear), "found,", await db[Visit].count(asked), "by HTTP")


if __name__ == "__main__":
    run(main)
