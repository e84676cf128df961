"""How communities begin, change and end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.assets import asset
from tallystick.domains.community.communities import Community, CommunityStatus
from tallystick.domains.community.endorsements import Endorsement, EndorsementStatus
from tallystick.domains.community.governance import Governance, MemberRole
from tallystick.domains.community.members import require
from tallystick.domains.community.memberships import CommunityMembership, MembershipStatus
from tallystick.domains.community.repayment import has_open_loans
from tallystick.domains.guarded import alter, put
from tallystick.domains.identity.access import acting_user, actor_user
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.errors import Conflict, Invalid, InvalidTransition
from tallystick.fields import Ref
from tallystick.query import present

if TYPE_CHECKING:
    from tallystick.session import Session

_SLUG = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_CHANGES = frozenset({"name", "governance", "min_reputation_to_borrow", "max_loan_amount"})
_S = CommunityStatus


async def create(db: Session, community: Community, founder: UserLike | None) -> Community:
    """See ``Communities.create``."""
    if community.__class__ is not Community:
        raise Invalid("A community is given as Community(...).", field="community")
    asset(community.asset)
    _check(community.governance)
    if not isinstance(community.slug, str) or set(community.slug) - _SLUG or community.slug.startswith("-"):
        raise Invalid(
            "A slug is lower-case letters, digits and dashes.",
            entity="Community",
            field="slug",
            remedy='Say "sunrise".',
        )
    who = actor_user(db) if founder is None else user_id(founder, "founder")
    if who is None:
        raise Invalid(
            "Nobody is named as the founder.",
            field="founder",
            remedy='Act as "user:<id>", or give founder=... with the permission communities.manage.',
        )
    await acting_user(db, who, "communities.manage")
    async with db.transaction():
        made = await put(db.communities, community)
        await put(
            db.memberships,
            CommunityMembership(
                community=Ref(made.id),
                user=Ref(who),
                role=MemberRole.ADMIN,
                status=MembershipStatus.ACTIVE,
                joined_at=db.now(),
            ),
        )
    return made


async def change(db: Session, community: UUID, changes: Mapping[str, Any]) -> Community:
    """See ``Communities.change``."""
    unknown = sorted(set(changes) - _CHANGES)
    if unknown or not changes:
        raise Invalid(
            f"A community's {unknown[0][:40] if unknown else 'nothing'} is not changed like this.",
            entity="Community",
            field=unknown[0][:40] if unknown else "",
            remedy=f"Name one of: {', '.join(sorted(_CHANGES))}; statuses have verbs of their own.",
        )
    if "governance" in changes:
        _check(changes["governance"])
    async with db.transaction():
        found = await db.communities.locked(community, "exclusive")
        await require(db, community, MemberRole.ADMIN)
        return await alter(db.communities, found, **changes)


async def move(db: Session, community: UUID, status: CommunityStatus) -> Community:
    """See ``Communities.activate``, ``suspend`` and ``dissolve``."""
    async with db.transaction():
        found = await db.communities.locked(community, "exclusive")
        if status is _S.SUSPENDED or found.status is _S.SUSPENDED:
            await db.require("communities.manage")
        else:
            await require(db, community, MemberRole.ADMIN)
        if found.status is status:
            raise InvalidTransition(
                f"The community is {status.value} already.", entity="Community", before=status.value, after=status.value
            )
        if status is _S.DISSOLVED:
            await _check_settled(db, found)
        return await alter(db.communities, found, status=status)


def _check(governance: object) -> None:
    """A dict of the same shape could be stored, and would be no Governance until it is read again."""
    if governance.__class__ is not Governance:
        raise Invalid(
            "A governance is given as Governance(...).",
            entity="Community",
            field="governance",
            remedy="See its fields.",
        )


async def _check_settled(db: Session, community: Community) -> None:
    """Raise ``Conflict`` while somebody's money is in the community."""
    if await db.endorsements.exists(
        Endorsement.community == Ref(community.id),
        Endorsement.status == EndorsementStatus.ACTIVE,
        present(Endorsement.stake),
    ):
        raise Conflict(
            "Stakes of members are held in the community.",
            entity="Community",
            rule="stakes_held",
            remedy="Withdraw or slash every endorsement with a stake first.",
        )
    if await has_open_loans(db, community.id):
        raise Conflict(
            "Loans of the community are open.",
            entity="Community",
            rule="loans_open",
            remedy="Wait until they are repaid, or write off what is lost; decide or withdraw requests.",
        )
