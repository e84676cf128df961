"""Trust edges: who trusts whom, how much, and from when until when."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from tallystick.domains.community.communities import Community
from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Once, Ref
from tallystick.rules import Check, Guard, Index, Rules, Unique, kept

if TYPE_CHECKING:
    from tallystick.domains.community.graph import TrustGraph
    from tallystick.domains.community.trust_score import TrustScore
    from tallystick.domains.identity.users import UserLike

LEAST_WEIGHT, MOST_WEIGHT = -10, 10


class TrustEdge(Entity):
    """One user's trust in another, from -10 (none at all) to 10, within a community or outside of any.

    It holds on the days from ``valid_from`` on and before ``valid_to``. Nothing of it changes but its end, once: a new
    weight is a new edge, so that the graph of any past day can be drawn. At most one for each pair stands.
    """

    from_user: Annotated[Ref[User], Once()]
    to_user: Annotated[Ref[User], Once()]
    community: Annotated[Ref[Community], Once()] | None = None
    weight: Annotated[int, Once()]
    valid_from: Annotated[date, Once()]
    valid_to: date | None = None

    rules = Rules(
        Unique("from_user", "to_user", "community", where="community_id is not null and valid_to is null"),
        Unique("from_user", "to_user", where="community_id is null and valid_to is null"),
        Index("community", "valid_from", query="the trust graph of a community, or of none, as of a day"),
        Index("from_user", "valid_from", query="whom a user trusts and trusted"),
        Index("to_user", "valid_from", query="who trusts a user and trusted them"),
        Check("weight", f"weight between {LEAST_WEIGHT} and {MOST_WEIGHT}"),
        Check("self", "from_user_id <> to_user_id"),
        Check("order", "valid_to is null or valid_to >= valid_from"),
        Guard(
            "tally_ended",
            "BEFORE UPDATE",
            "tally.refuse_change('trust_edge')",
            when='OLD."valid_to" IS NOT NULL OR (OLD."from_user_id", OLD."to_user_id", OLD."community_id", '
            'OLD."weight", OLD."valid_from") IS DISTINCT FROM (NEW."from_user_id", NEW."to_user_id", '
            'NEW."community_id", NEW."weight", NEW."valid_from")',
        ),
        kept(),
        retain="community",
    )


class Trust(Guarded[TrustEdge]):
    """Who trusts whom, and what follows from it.

    A graph is a community's own, or, without a community, the tenant's outside of any.
    """

    permission = "communities.manage"
    instead = "db.trust.connect() and disconnect()"

    async def connect(
        self,
        from_user: UserLike,
        to_user: UserLike,
        weight: int,
        *,
        community: UUID | None = None,
        on: date | None = None,
    ) -> TrustEdge:
        """Say how much one user trusts another, -10 to 10, from a day on; what was said before ends that day.

        The same weight again changes nothing. One does it for oneself, or with the permission "communities.manage";
        in a community both are active members. Raises ``Invalid`` for oneself, for a weight that is no whole number in
        the range and for a day before the last change, ``RoleMissing``, ``Denied``, ``NotFound``.
        """
        from tallystick.domains.community.trusting import connect

        return await connect(self.db, from_user, to_user, weight, community, on)

    async def disconnect(
        self, from_user: UserLike, to_user: UserLike, *, community: UUID | None = None, on: date | None = None
    ) -> TrustEdge:
        """Say nothing of another any more, from a day on. Raises ``NotFound`` where nothing is said."""
        from tallystick.domains.community.trusting import disconnect

        return await disconnect(self.db, from_user, to_user, community, on)

    async def scores(self, community: UUID | None = None, *, as_of: date | None = None) -> dict[UUID, float]:
        """How much each member of a graph is trusted by all, as of a day: EigenTrust, shares that add up to one.

        In a community those with the role that governance names are trusted beforehand; outside of any, everybody is.
        """
        from tallystick.domains.community.trust_score import scores

        return await scores(self.db, community, as_of)

    async def score(self, user: UserLike, community: UUID, *, as_of: date | None = None) -> TrustScore:
        """How much a user is to be trusted in a community, 0 to 1, and what makes it: each part with its evidence.

        The parts are the trust network, endorsements with their stakes, and the repayment record; the community's
        governance weighs them. A part without evidence says why and takes no share. Raises ``NotFound``.
        """
        from tallystick.domains.community.trust_score import score

        return await score(self.db, user, community, as_of)

    async def graph(self, community: UUID | None = None, *, as_of: date | None = None) -> TrustGraph:
        """The shape of a graph as of a day: members, edges, components, how much is mutual."""
        from tallystick.domains.community.trusting import graph

        return await graph(self.db, community, as_of)
