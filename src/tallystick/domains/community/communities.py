"""Communities: groups of users who lend to each other by rules of their own."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec

from tallystick.conditions import Lock
from tallystick.domains.community.governance import Governance, MemberRole
from tallystick.domains.guarded import Guarded
from tallystick.entity import Entity
from tallystick.errors import NotFound
from tallystick.fields import Length, Numeric, Once, OwnAsset
from tallystick.money import Money
from tallystick.rules import Check, Index, Readable, Rules, Transitions, Unique, kept

if TYPE_CHECKING:
    from tallystick.domains.community.borrowing import Borrowing
    from tallystick.domains.community.memberships import CommunityMembership
    from tallystick.domains.identity.users import UserLike

Reputation = Annotated[Decimal, Numeric(10, 6)]
"""How well thought of a member is, 0 to 1,000."""


class CommunityStatus(StrEnum):
    """Where a community is in its life; ``suspended`` is the operator's doing, ``dissolved`` is for good."""

    FORMING = "forming"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DISSOLVED = "dissolved"


_S = CommunityStatus


class Community(Entity):
    """A group of users with roles, rules and one asset in which it lends and stakes.

    A member borrows with a reputation of at least ``min_reputation_to_borrow`` and no more than ``max_loan_amount``,
    where there is one.
    """

    name: Annotated[str, Length(200, min=1)]
    slug: Annotated[str, Length(63, min=1), Once()]
    asset: Annotated[str, Length(32, min=2), Once()]
    governance: Governance = msgspec.field(default_factory=Governance)
    status: CommunityStatus = CommunityStatus.FORMING
    min_reputation_to_borrow: Reputation = Decimal(0)
    max_loan_amount: Annotated[Money, OwnAsset()] | None = None

    rules = Rules(
        Unique("slug"),
        Index("status", "created_at", query="communities of a status, newest first"),
        Check("reputation", "min_reputation_to_borrow between 0 and 1000"),
        Check("max_loan", "max_loan_amount is null or max_loan_amount > 0"),
        Check("one_asset", "max_loan_amount_asset is null or max_loan_amount_asset = asset"),
        Transitions(
            "status",
            {
                _S.FORMING: [_S.ACTIVE, _S.DISSOLVED],
                _S.ACTIVE: [_S.SUSPENDED, _S.DISSOLVED],
                _S.SUSPENDED: [_S.ACTIVE, _S.DISSOLVED],
            },
            initial=[_S.FORMING],
        ),
        kept(),
        retain="community",
        readable={"name": Readable.CODE, "slug": Readable.CODE, "asset": Readable.CODE, "governance": Readable.TERMS},
    )


class Communities(Guarded[Community]):
    """The tenant's communities.

    Whoever acts is the user of the session's actor ("user:<id>"), by their role in the community, or anybody with the
    permission "communities.manage". Every operation holds the community while it runs, so that roles, sanctions and
    gates cannot change under it.
    """

    permission = "communities.manage"
    instead = "db.communities.create(), change(), activate() and dissolve()"

    async def create(self, community: Community, *, founder: UserLike | None = None) -> Community:
        """Add a community that is forming, with its founder, the acting user unless given, as its first admin.

        Raises ``Duplicate`` for a slug that is taken, ``RoleMissing`` for a founder who is somebody else, ``Invalid``.
        """
        from tallystick.domains.community.founding import create

        return await create(self.db, community, founder)

    async def change(self, community: UUID, **changes: Any) -> Community:
        """Change name, governance, min_reputation_to_borrow or max_loan_amount; takes an admin."""
        from tallystick.domains.community.founding import change

        return await change(self.db, community, changes)

    async def activate(self, community: UUID) -> Community:
        """Let a forming community begin (takes an admin), or a suspended one go on (takes "communities.manage")."""
        from tallystick.domains.community.founding import move

        return await move(self.db, community, _S.ACTIVE)

    async def suspend(self, community: UUID) -> Community:
        """Stop everything in a community for now; takes the permission "communities.manage"."""
        from tallystick.domains.community.founding import move

        return await move(self.db, community, _S.SUSPENDED)

    async def dissolve(self, community: UUID) -> Community:
        """End a community for good; takes an admin. Raises ``Conflict`` while stakes are held or loans are open."""
        from tallystick.domains.community.founding import move

        return await move(self.db, community, _S.DISSOLVED)

    async def by_slug(self, slug: str) -> Community | None:
        """The community with this slug."""
        found = await self.find(Community.slug == slug, limit=1)
        return found[0] if found else None

    # -- members -------------------------------------------------------------------------------------------------

    async def invite(self, community: UUID, user: UserLike) -> CommunityMembership:
        """Invite a user, or one who left; they are in when they join. Takes the role that governance names."""
        from tallystick.domains.community.members import invite

        return await invite(self.db, community, user)

    async def join(self, community: UUID, user: UserLike | None = None) -> CommunityMembership:
        """Accept an invitation, or walk in where anybody may. Raises ``Denied`` without an invitation, or banned."""
        from tallystick.domains.community.members import join

        return await join(self.db, community, user)

    async def leave(self, community: UUID, user: UserLike | None = None) -> CommunityMembership:
        """Leave, or decline an invitation; the role is gone with it.

        Raises ``Conflict`` for the last admin, ``Denied`` for somebody who is suspended or was never in.
        """
        from tallystick.domains.community.members import leave

        return await leave(self.db, community, user)

    async def ban(self, community: UUID, user: UserLike) -> CommunityMembership:
        """Put a user out for good, whether member or not yet; takes a role above theirs."""
        from tallystick.domains.community.members import ban

        return await ban(self.db, community, user)

    async def lift_ban(self, community: UUID, user: UserLike) -> CommunityMembership:
        """Let a user who was banned be invited again."""
        from tallystick.domains.community.members import lift_ban

        return await lift_ban(self.db, community, user)

    async def suspend_member(self, community: UUID, user: UserLike) -> CommunityMembership:
        """Take a member's rights for a while; takes a role above theirs."""
        from tallystick.domains.community.members import suspend

        return await suspend(self.db, community, user)

    async def reinstate_member(self, community: UUID, user: UserLike) -> CommunityMembership:
        """End a member's suspension; takes a role above theirs."""
        from tallystick.domains.community.members import reinstate

        return await reinstate(self.db, community, user)

    async def set_role(self, community: UUID, user: UserLike, role: MemberRole) -> CommunityMembership:
        """Give an active member another role; takes an admin. Raises ``Conflict`` when no admin would be left."""
        from tallystick.domains.community.members import set_role

        return await set_role(self.db, community, user, role)

    async def rate(self, community: UUID, user: UserLike, reputation: Decimal) -> CommunityMembership:
        """Set a member's reputation, 0 to 1,000; nobody sets their own. Takes the role that governance names."""
        from tallystick.domains.community.members import rate

        return await rate(self.db, community, user, reputation)

    # -- gates ---------------------------------------------------------------------------------------------------

    async def require(self, community: UUID, role: MemberRole) -> None:
        """Raise ``RoleMissing`` unless the acting user is an active member with this role or a higher one.

        In a transaction neither the role nor the community can change until it ends. The permission
        "communities.manage" passes too. Raises ``Denied`` in a community that is suspended or dissolved.
        """
        from tallystick.domains.community.members import require

        await require(self.db, community, role)

    async def may_borrow(self, community: UUID, user: UserLike, amount: Money) -> Borrowing:
        """Whether a member may borrow an amount in the community now, and if not, which gate is closed."""
        from tallystick.domains.community.borrowing import may_borrow

        return await may_borrow(self.db, community, user, amount)

    async def check_borrowing(self, community: UUID, user: UserLike, amount: Money) -> None:
        """Raise ``Denied`` (``Invalid`` for an amount of another asset) naming the gate that is closed to a borrower.

        In a transaction what was looked at stays so until it ends.
        """
        from tallystick.domains.community.borrowing import check_borrowing

        await check_borrowing(self.db, community, user, amount)

    async def locked(self, community: UUID, lock: Lock) -> Community:
        """The community, read under a lock of the open transaction.

        Raises ``NotFound``.
        """
        query = msgspec.structs.replace(self._by_id(community), limit=1, lock=lock if self.db.unit.depth else "")
        found = await self._select(query)
        if not found:
            raise NotFound("No Community has this id.", entity="Community", id=community)
        return found[0]
