"""Trust edges: who trusts whom, how much, and from when until when."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from tallystick.domains.community.communities import Community
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Once, Ref
from tallystick.rules import Check, Guard, Index, Rules, Unique, kept

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
