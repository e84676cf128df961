"""Memberships: who belongs to a community, as what, and how well thought of."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec.structs import replace

from tallystick.conditions import Lock
from tallystick.domains.community.communities import Community, Reputation
from tallystick.domains.community.governance import MemberRole
from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.entity import Entity
from tallystick.fields import Once, Ref
from tallystick.rules import Check, Index, Rules, Transitions, Unique, kept


class MembershipStatus(StrEnum):
    """Where a membership is in its life. Who left may be invited again; who was banned is out until that is lifted."""

    INVITED = "invited"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    LEFT = "left"
    BANNED = "banned"


_S = MembershipStatus


class CommunityMembership(Entity):
    """A user's place in a community; one for each pair, whatever happens between them.

    ``reputation`` is 0 to 1,000. ``joined_at`` is when they last joined, ``left_at`` when they last left.
    """

    community: Annotated[Ref[Community], Once()]
    user: Annotated[Ref[User], Once()]
    role: MemberRole = MemberRole.MEMBER
    status: MembershipStatus = MembershipStatus.INVITED
    reputation: Reputation = Decimal(0)
    joined_at: datetime | None = None
    left_at: datetime | None = None

    rules = Rules(
        Unique("community", "user"),
        Index("user", "status", query="the communities of a user"),
        Check("reputation", "reputation between 0 and 1000"),
        Check("joined", "joined_at is not null or status in ('invited', 'left', 'banned')"),
        Transitions(
            "status",
            {
                _S.INVITED: [_S.ACTIVE, _S.LEFT, _S.BANNED],
                _S.ACTIVE: [_S.SUSPENDED, _S.LEFT, _S.BANNED],
                _S.SUSPENDED: [_S.ACTIVE, _S.BANNED],
                _S.LEFT: [_S.INVITED, _S.ACTIVE, _S.BANNED],
                _S.BANNED: [_S.LEFT],
            },
            initial=[_S.INVITED, _S.ACTIVE],
        ),
        kept(),
        retain="community",
    )

    @property
    def is_active(self) -> bool:
        """Whether the member may act and be acted for."""
        return self.status is MembershipStatus.ACTIVE


class Memberships(Guarded[CommunityMembership]):
    """Who belongs to which community. They change through ``db.communities``."""

    permission = "communities.manage"
    instead = "the operations of db.communities"

    async def held(self, community: UUID, user: UserLike) -> CommunityMembership | None:
        """The membership of a user in a community, whatever its status."""
        return await self.locked(community, user, "")

    async def locked(self, community: UUID, user: UserLike, lock: Lock) -> CommunityMembership | None:
        """The same, read under a lock ("shared" keeps it from changing until the transaction ends)."""
        where = (CommunityMembership.community == Ref(community), CommunityMembership.user == Ref(user_id(user)))
        found = await self._select(replace(self._query(where, None, limit=1), lock=lock))
        return found[0] if found else None
