"""Who acts in a session: the user account behind its actor."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.errors import RoleMissing

if TYPE_CHECKING:
    from tallystick.session import Session


def actor_user(db: Session) -> UUID | None:
    """The id of the user that an actor "user:<id>" names; None for any other actor."""
    kind, _, id = db.actor.partition(":")
    if kind != "user":
        return None
    try:
        return UUID(id)
    except ValueError:
        return None


async def may(db: Session, permission: str) -> bool:
    """Whether the session's actor holds a permission."""
    try:
        await db.require(permission)
    except RoleMissing:
        return False
    return True


async def acting_user(db: Session, user: UUID, permission: str) -> None:
    """Raise ``RoleMissing`` unless the actor is that active user, or holds the permission to act for others."""
    if await may(db, permission):
        return
    if actor_user(db) != user:
        raise RoleMissing(
            "Only the person does this for themselves.",
            remedy=f'Open the session as "user:<id>" of that person, or with the permission {permission}.',
        )
    await active_user(db, user)


async def active_user(db: Session, user: UUID) -> None:
    """Raise ``RoleMissing`` unless the user has an account that is active: a suspended one acts no more."""
    from tallystick.domains.identity.users import UserStatus

    found = await db.users.get_or_none(user)
    if found is None or found.status is not UserStatus.ACTIVE:
        raise RoleMissing("The actor has no active account.", remedy="Activate the account first.")
