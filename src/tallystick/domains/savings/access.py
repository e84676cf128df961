"""Who may do what in a group, and the group held while it is done."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.identity.access import acting_user, actor_user, may
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.domains.savings.groups import MANAGE, GroupStatus, SavingsGroup
from tallystick.domains.savings.members import GroupMember
from tallystick.domains.savings.rounds import GroupRound
from tallystick.errors import Conflict, Denied, Invalid, RoleMissing
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.session import Session


async def held(db: Session, group: UUID, *statuses: GroupStatus) -> SavingsGroup:
    """The group, in which nobody else does anything until the transaction ends.

    Raises ``NotFound``, and ``Conflict`` with rule "status" unless it is in one of the statuses.
    """
    found = await db.circles.lock(group)
    if statuses and found.status not in statuses:
        wanted = " or ".join(s.value for s in statuses)
        raise Conflict(
            f"The group is {found.status.value}.",
            entity="SavingsGroup",
            rule="status",
            remedy=f"This is for a group that is {wanted}.",
        )
    return found


async def organize(db: Session, group: SavingsGroup) -> None:
    """Raise ``RoleMissing`` unless the actor is the group's organizer, or may manage circles."""
    if await may(db, MANAGE):
        return
    who = actor_user(db)
    if who is None or group.organizer is None or who != group.organizer.id:
        raise RoleMissing(
            "Only the organizer of the group does this.",
            remedy=f'Open the session as "user:<id>" of the organizer, or with the permission {MANAGE}.',
        )
    await acting_user(db, who, MANAGE)


async def themselves(db: Session, user: UserLike | None) -> UUID:
    """The user who is named, or who acts. Raises ``RoleMissing`` when they are not the same and may not differ."""
    who = actor_user(db) if user is None else user_id(user)
    if who is None:
        raise Invalid("Nobody is named.", field="user", remedy='Act as "user:<id>", or name the user.')
    await acting_user(db, who, MANAGE)
    return who


async def member_of(db: Session, group: SavingsGroup, user: UUID) -> GroupMember:
    """A user's membership. Raises ``Denied`` for who is not a member."""
    found = await db[GroupMember].find(GroupMember.group == group.ref, GroupMember.user == Ref(user), limit=1)
    if not found or not found[0].joined_at or found[0].left_at:
        raise Denied("The user is not a member of the group.", remedy="Members join while it recruits.")
    return found[0]


async def round_of(db: Session, group: SavingsGroup, seq: int | None = None) -> GroupRound:
    """A round by its number, the current one unless given. Raises ``NotFound``, ``Invalid``."""
    number = group.current_round if seq is None else seq
    if number.__class__ is not int or not 0 <= number < 2**31:
        raise Invalid("A round is a whole number from 1.", field="round")
    return await db[GroupRound].one(GroupRound.group == group.ref, GroupRound.seq == number)


def day_of(db: Session, on: date | None) -> date:
    """The business date, today unless given. Raises ``Invalid`` for anything but a date."""
    if on is None:
        return db.today()
    if on.__class__ is not date:
        raise Invalid("on is a date.", field="on", remedy="Write date(2026, 3, 1); a datetime is not a business date.")
    return on
