"""The tour, 5: a report of one's own, inside the tenant's wall."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from sqlalchemy import func, select

from _scratch import run
from tallystick import Entity, Index, Money, Ref, Rules, Tallystick, User, usd


class VisitStatus(StrEnum):
    """Where a visit stands."""

    PLANNED = "planned"
    DONE = "done"


class Visit(Entity):
    """A field visit to a borrower before a loan is approved."""

    borrower: Ref[User]
    fee: Money
    status: VisitStatus = VisitStatus.PLANNED

    rules = Rules(Index("status", query="visits to plan"), retain="lending")


class StatusTotal(msgspec.Struct):
    """How many visits there are of a status, and their fees in cents."""

    status: VisitStatus
    visits: int
    fees: int


async def main() -> None:
    async with Tallystick.open(domains=["underwriting"], entities=[Visit]) as tally:
        await tally.migrate()
        for slug, count in (("sunrise", 3), ("sunset", 5)):
            await tally.tenants.create(slug, name=slug.title())
            async with tally.session(slug, actor="user:42") as db:
                ada = await db.users.add(User(first_name="Ada"))
                visits = [Visit(borrower=ada.ref, fee=usd(n + 1)) for n in range(count)]
                await db[Visit].add_many([*visits, Visit(borrower=ada.ref, fee=usd("7.50"), status=VisitStatus.DONE)])

        async with tally.session("sunrise", actor="user:42") as db:
            v = Visit.table.c
            totals = select(v.status, func.count().label("visits"), func.sum(v.fee).label("fees")).group_by(v.status)
            for row in await db.fetch(totals.order_by(v.status), into=StatusTotal):
                print(f"{row.status}: {row.visits} visits, {row.fees} cents")
        print("the other tenant's five are not in it")


if __name__ == "__main__":
    run(main)
