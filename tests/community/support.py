"""A community with members for tests, and sessions in which they act."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tallystick import Community, MemberRole, User, UserRole, UserStatus
from tallystick.session import Session, SessionContext
from tallystick.testing import Make


async def person(make: Make, **given: Any) -> User:
    """An ordinary active user without permissions."""
    return await make(User, **{"role": UserRole.BORROWER, "status": UserStatus.ACTIVE, "permissions": []} | given)


async def circle(
    db: Session, make: Make, members: int = 2, *, slug: str = "sunrise", **fields: Any
) -> tuple[Community, User, list[User]]:
    """An active community, its admin, and so many plain members."""
    admin = await person(make)
    wanted: dict[str, Any] = {"name": "Sunrise", "slug": slug, "asset": "USD"} | fields
    made = await db.communities.create(Community(**wanted), founder=admin)
    made = await db.communities.activate(made.id)
    return made, admin, [await joined(db, make, made.id) for _ in range(members)]


async def joined(db: Session, make: Make, community: UUID, role: MemberRole = MemberRole.MEMBER) -> User:
    """Another member."""
    user = await person(make)
    await db.communities.invite(community, user)
    await db.communities.join(community, user)
    if role is not MemberRole.MEMBER:
        await db.communities.set_role(community, user, role)
    return user


def as_user(place: Any, tenant: str, user: User) -> SessionContext:
    """A session in which a user acts, with the permissions of their account alone."""
    context: SessionContext = place.session(tenant, actor=f"user:{user.id}", permissions=None)
    return context
