"""An entity of one's own in ten lines, and what one gets for them."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from _scratch import run
from tallystick import (
    Check,
    Duplicate,
    Entity,
    Index,
    Invalid,
    Mask,
    Money,
    NotFound,
    Ref,
    Rules,
    Search,
    Secret,
    StaleVersion,
    Tallystick,
    Unique,
    User,
    desc,
    ngn,
    secret,
)


class Guarantor(Entity):
    """Somebody who answers for a borrower."""

    borrower: Ref[User]
    national_id: Annotated[Secret[str], Search("digits"), Mask(4)]
    up_to: Money
    signed_on: date

    rules = Rules(
        Unique("borrower", "national_id"),
        Index("signed_on", query="latest guarantees"),
        Check("up_to", "up_to > 0"),
        retain="lending",
    )


async def main() -> None:
    async with Tallystick.open(domains=["identity"], entities=[Guarantor]) as tally:
        report = await tally.migrate()
        print("made:", ", ".join([*report.revisions, *report.tables]))
        await tally.tenants.create("sunrise", name="Sunrise Co-op", time_zone="Africa/Lagos")
        await tally.tenants.create("harbour", name="Harbour Credit Union")

        async with tally.session("sunrise", actor="user:42", permissions=["secrets.reveal"]) as db:
            ada = await db.users.add(User(email="ada@example.org", first_name="Ada"))
            given = Guarantor(
                borrower=ada.ref,
                national_id=secret("123-45-6789"),
                up_to=ngn("250000.00"),
                signed_on=date(2026, 11, 2),
            )
            chidi = await db[Guarantor].add(given)
            print("stored:", chidi.up_to, "| id shown as", chidi.national_id, "| version", chidi.version)

            again = Guarantor(borrower=ada.ref, national_id=secret("123456789"), up_to=ngn("1"), signed_on=date.today())
            try:
                await db[Guarantor].add(again)
            except Duplicate as taken:
                print("unique, although encrypted:", taken)
            try:
                await db[Guarantor].update(chidi, up_to=ngn("0"))
            except Invalid as wrong:
                print("checked by the database:", wrong)

            raised = await db[Guarantor].update(chidi, up_to=ngn("300000.00"))
            try:
                await db[Guarantor].update(chidi, up_to=ngn("1000.00"))
            except StaleVersion as late:
                print("versioned:", late)

            found = await db[Guarantor].find(Guarantor.national_id == "123 45 6789", load=[Guarantor.borrower])
            print("found by its blind index:", found[0].borrower.value.first_name, found[0].up_to)
            page = await db[Guarantor].page(Guarantor.up_to >= ngn("1000"), order=desc(Guarantor.signed_on), count=True)
            print("paged:", page.total, "in all")
            number = await db[Guarantor].reveal(raised.id, Guarantor.national_id, reason="case 91")
            print("revealed for a reason, and recorded:", number)

        async with tally.session("harbour", actor="user:1") as other:
            try:
                await other[Guarantor].get(chidi.id)
            except NotFound as hidden:
                print("another tenant:", hidden)


if __name__ == "__main__":
    run(main)
