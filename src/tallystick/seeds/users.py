"""Accounts of the people who work for a tenant, and of a few who borrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallystick.domains.identity.users import User, UserRole, UserStatus
from tallystick.seeds import Planted

if TYPE_CHECKING:
    from tallystick.session import Session

UNDERWRITER = ("Tomas", "Novak")
REVIEWER = ("Leila", "Haddad")
USERS = (
    ("Grace", "Mensah", UserRole.ADMIN),
    (*UNDERWRITER, UserRole.UNDERWRITER),
    (*REVIEWER, UserRole.REVIEWER),
    ("Henrik", "Falk", UserRole.AUDITOR),
    ("Amara", "Okafor", UserRole.BORROWER),
    ("Mateo", "Vargas", UserRole.BORROWER),
    ("Wanjiru", "Kamau", UserRole.LENDER),
)


def address(first: str, last: str, slug: str) -> str:
    """The e-mail address of somebody who does not exist (RFC 2606 keeps example.org for that)."""
    return f"{first}.{last}@{slug}.example.org".lower()


async def plant(db: Session) -> Planted:
    """Add the accounts whose address the tenant does not have."""
    slug, added = db.tenant.slug, 0
    async with db.transaction():
        for number, (first, last, role) in enumerate(USERS, 1):
            email = address(first, last, slug)
            if await db.users.by_email(email) is None:
                await db.users.add(
                    User(
                        email=email,
                        first_name=first,
                        last_name=last,
                        phone=f"+1 202 555 01{number:02}",
                        role=role,
                        status=UserStatus.ACTIVE,
                        is_verified=True,
                    )
                )
                added += 1
    return Planted(seed="users", tenant=slug, added=added, present=len(USERS) - added)
