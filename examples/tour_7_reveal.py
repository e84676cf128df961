"""The tour, 7: reveal one masked field, with a reason that the audit keeps."""

from __future__ import annotations

from typing import Annotated

from _scratch import run
from tallystick import Entity, Mask, Ref, RoleMissing, Rules, Secret, Tallystick, User, secret


class Visit(Entity):
    """A field visit to a borrower before a loan is approved."""

    borrower: Ref[User]
    national_id: Annotated[Secret[str], Mask(4)]

    rules = Rules(retain="lending")


async def main() -> None:
    async with Tallystick.open(domains=["underwriting"], entities=[Visit]) as tally:
        await tally.migrate()
        await tally.tenants.create("sunrise", name="Sunrise Co-op")

        async with tally.session("sunrise", actor="user:42", permissions=[]) as db:
            ada = await db.users.add(User(first_name="Ada"))
            visit = await db[Visit].add(Visit(borrower=ada.ref, national_id=secret("19870412-5566")))
            print("everybody sees:", (await db[Visit].get(visit.id)).national_id)
            try:
                await db[Visit].reveal(visit.id, Visit.national_id, reason="curious")
            except RoleMissing as refused:
                print("without the permission:", f"[{refused.code}]")

        async with tally.session("sunrise", actor="user:7", permissions=["secrets.reveal", "audit.read"]) as db:
            print("opened:", await db[Visit].reveal(visit.id, Visit.national_id, reason="KYC case 91"))
            for entry in (await db.audit.entries("disclosure")).items:
                kept = entry.new or {}
                print("kept:", entry.actor, "opened", kept["field"], "of a", kept["entity"], "for:", kept["reason"])


if __name__ == "__main__":
    run(main)
