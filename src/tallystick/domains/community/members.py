"""Who comes, goes, rises and falls in a community, and who may decide it.

Every change holds the community's row FOR NO KEY UPDATE first, and every gate holds it FOR SHARE first: one order of
locks, and no two decisions about one community at once.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.conditions import Lock
from tallystick.domains.community.communities import Community, CommunityStatus
from tallystick.domains.community.governance import MemberRole
from tallystick.domains.community.memberships import CommunityMembership, MembershipStatus
from tallystick.domains.guarded import alter, put
from tallystick.domains.identity.access import acting_user, active_user, actor_user, may
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.errors import Conflict, Denied, Invalid, RoleMissing
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.session import Session

MANAGE = "communities.manage"
_S = MembershipStatus
_OPEN = (CommunityStatus.FORMING, CommunityStatus.ACTIVE)


async def require(db: Session, community: UUID, role: MemberRole) -> CommunityMembership | None:
    """The acting user's membership, with this role or a higher one; None for who may manage all communities.

    See ``Communities.require``.
    """
    if role.__class__ is not MemberRole:
        raise _no_role()
    if await may(db, MANAGE):
        return None
    who = actor_user(db)
    if who is None:
        raise RoleMissing(
            f"This takes the role {role.value} in the community.",
            remedy=f'Open the session as "user:<id>" of a member who has it, or with the permission {MANAGE}.',
        )
    await active_user(db, who)
    share: Lock = "shared" if db.unit.depth else ""
    check_open(await db.communities.locked(community, share))
    held = await db.memberships.locked(community, who, share)
    if held is None or not held.is_active or held.role.rank < role.rank:
        raise RoleMissing(
            f"This takes the role {role.value} in the community.", remedy="Ask a member who has it, or an admin for it."
        )
    return held


def check_open(community: Community) -> None:
    """Raise ``Denied`` in a community where nothing happens any more, or for now."""
    if community.status not in _OPEN:
        raise Denied(
            f"The community is {community.status.value}.",
            remedy="Wait until it is active again; one that was dissolved is for good.",
        )


async def invite(db: Session, community: UUID, user: UserLike) -> CommunityMembership:
    """See ``Communities.invite``."""
    who = user_id(user)
    async with db.transaction():
        held_by = await _held(db, community)
        await require(db, community, held_by.governance.invited_by)
        found = await db.memberships.held(community, who)
        if found is None:
            return await put(db.memberships, CommunityMembership(community=Ref(community), user=Ref(who)))
        if found.status is _S.BANNED:
            raise Denied("The user is banned from the community.", remedy="Lift the ban first.")
        if found.status is not _S.LEFT:
            raise _is_already(found)
        return await alter(db.memberships, found, status=_S.INVITED, role=MemberRole.MEMBER)


async def join(db: Session, community: UUID, user: UserLike | None) -> CommunityMembership:
    """See ``Communities.join``."""
    who = await _themselves(db, user)
    async with db.transaction():
        held_by = await _held(db, community)
        found = await db.memberships.held(community, who)
        if found is not None and found.status in (_S.ACTIVE, _S.SUSPENDED):
            raise _is_already(found)
        invited = found is not None and found.status is _S.INVITED
        banned = found is not None and found.status is _S.BANNED
        if banned or not (invited or held_by.governance.open_to_join):
            raise Denied(
                "The user is not invited to the community.", remedy="Ask a member who may invite: communities.invite()."
            )
        now = db.now()
        if found is None:
            return await put(
                db.memberships,
                CommunityMembership(community=Ref(community), user=Ref(who), status=_S.ACTIVE, joined_at=now),
            )
        return await alter(db.memberships, found, status=_S.ACTIVE, joined_at=now, left_at=None)


async def leave(db: Session, community: UUID, user: UserLike | None) -> CommunityMembership:
    """See ``Communities.leave``. A suspended member cannot leave, or they could come back without the suspension."""
    who = await _themselves(db, user)
    async with db.transaction():
        await db.communities.locked(community, "exclusive")
        found = await db.memberships.held(community, who)
        if found is None or found.status not in (_S.ACTIVE, _S.INVITED):
            raise Denied("Only active or invited members leave.", remedy="See db.memberships.held(community, user).")
        await _another_admin(db, found)
        return await _out(db, found, _S.LEFT)


async def ban(db: Session, community: UUID, user: UserLike) -> CommunityMembership:
    """See ``Communities.ban``."""
    who = user_id(user)
    async with db.transaction():
        held_by = await _held(db, community)
        judge = await require(db, community, held_by.governance.sanctioned_by)
        found = await db.memberships.held(community, who)
        if found is None:
            # The row is what keeps them out of an open community.
            invited = await put(db.memberships, CommunityMembership(community=Ref(community), user=Ref(who)))
            return await alter(db.memberships, invited, status=_S.BANNED)
        _outranks(judge, found)
        if found.status is _S.BANNED:
            raise _is_already(found)
        await _another_admin(db, found)
        return await _out(db, found, _S.BANNED)


async def lift_ban(db: Session, community: UUID, user: UserLike) -> CommunityMembership:
    """See ``Communities.lift_ban``."""
    async with db.transaction():
        found = await _sanctioned(db, community, user_id(user), _S.BANNED)
        return await alter(db.memberships, found, status=_S.LEFT)


async def suspend(db: Session, community: UUID, user: UserLike) -> CommunityMembership:
    """See ``Communities.suspend_member``."""
    async with db.transaction():
        found = await _sanctioned(db, community, user_id(user), _S.ACTIVE)
        await _another_admin(db, found)
        return await alter(db.memberships, found, status=_S.SUSPENDED)


async def reinstate(db: Session, community: UUID, user: UserLike) -> CommunityMembership:
    """See ``Communities.reinstate_member``."""
    async with db.transaction():
        found = await _sanctioned(db, community, user_id(user), _S.SUSPENDED)
        return await alter(db.memberships, found, status=_S.ACTIVE)


async def set_role(db: Session, community: UUID, user: UserLike, role: MemberRole) -> CommunityMembership:
    """See ``Communities.set_role``."""
    who = user_id(user)
    if role.__class__ is not MemberRole:
        raise _no_role()
    async with db.transaction():
        await _held(db, community)
        await require(db, community, MemberRole.ADMIN)
        found = await member(db, community, who)
        if role is not MemberRole.ADMIN:
            await _another_admin(db, found)
        return await alter(db.memberships, found, role=role)


async def rate(db: Session, community: UUID, user: UserLike, reputation: Decimal) -> CommunityMembership:
    """See ``Communities.rate``."""
    who = user_id(user)
    if reputation.__class__ is not Decimal or not 0 <= reputation <= 1000:
        raise Invalid(
            "A reputation is a Decimal from 0 to 1,000.",
            entity="CommunityMembership",
            field="reputation",
            remedy='Write Decimal("650"); never a float.',
        )
    async with db.transaction():
        held_by = await _held(db, community)
        judge = await require(db, community, held_by.governance.rated_by)
        if actor_user(db) == who:
            raise Denied("Nobody sets their own reputation.", remedy="Ask another member who may.")
        found = await member(db, community, who)
        _outranks(judge, found, equal=True)
        return await alter(db.memberships, found, reputation=reputation)


async def member(db: Session, community: UUID, user: UUID, lock: Lock = "") -> CommunityMembership:
    """The active membership of a user. Raises ``Denied`` when there is none."""
    found = await db.memberships.locked(community, user, lock)
    if found is None or not found.is_active:
        raise Denied("The user is not an active member of the community.", remedy="Invite them, and let them join.")
    return found


# -- inside ------------------------------------------------------------------------------------------------------


async def _held(db: Session, community: UUID) -> Community:
    """The community, in which nobody else changes anything until the transaction ends."""
    found = await db.communities.locked(community, "exclusive")
    check_open(found)
    return found


async def _themselves(db: Session, user: UserLike | None) -> UUID:
    who = actor_user(db) if user is None else user_id(user)
    if who is None:
        raise Invalid("Nobody is named.", field="user", remedy='Act as "user:<id>", or name the user.')
    await acting_user(db, who, MANAGE)
    return who


async def _sanctioned(db: Session, community: UUID, user: UUID, status: MembershipStatus) -> CommunityMembership:
    """A member in this status, whom the acting user may judge."""
    held_by = await _held(db, community)
    judge = await require(db, community, held_by.governance.sanctioned_by)
    found = await db.memberships.held(community, user)
    if found is None or found.status is not status:
        raise Denied(f"The user is not {status.value} in the community.", remedy="See db.memberships.held(...).")
    _outranks(judge, found)
    return found


def _outranks(judge: CommunityMembership | None, judged: CommunityMembership, *, equal: bool = False) -> None:
    if judge is None:
        return
    if judge.role.rank < judged.role.rank or (judge.role is judged.role and not equal):
        raise RoleMissing("This takes a role above the member's own.", remedy="Ask somebody with a higher role.")


async def _another_admin(db: Session, leaving: CommunityMembership) -> None:
    """Raise ``Conflict`` when the community would be left without an active admin."""
    if leaving.role is not MemberRole.ADMIN or not leaving.is_active:
        return
    admins = await db.memberships.count(
        CommunityMembership.community == Ref(leaving.community.id),
        CommunityMembership.role == MemberRole.ADMIN,
        CommunityMembership.status == _S.ACTIVE,
    )
    if admins < 2:
        raise Conflict(
            "The community would have no admin left.",
            entity="CommunityMembership",
            rule="last_admin",
            remedy="Make somebody else admin first, or dissolve the community.",
        )


async def _out(db: Session, found: CommunityMembership, status: MembershipStatus) -> CommunityMembership:
    return await alter(db.memberships, found, status=status, role=MemberRole.MEMBER, left_at=db.now())


def _is_already(found: CommunityMembership) -> Conflict:
    return Conflict(f"The user is {found.status.value} in the community already.", entity="CommunityMembership")


def _no_role() -> Invalid:
    names = ", ".join(f"MemberRole.{r.name}" for r in MemberRole)
    return Invalid("That is no role of a member.", field="role", remedy=f"Roles are: {names}.")
