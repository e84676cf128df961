"""Saying whom one trusts, and the graph of it as of a day."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.community.graph import TrustGraph, shape_of
from tallystick.domains.community.members import MANAGE, check_open, member
from tallystick.domains.community.trust_edges import LEAST_WEIGHT, MOST_WEIGHT, TrustEdge
from tallystick.domains.guarded import alter, put
from tallystick.domains.identity.access import acting_user
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.errors import Invalid, NotFound
from tallystick.fields import Ref
from tallystick.query import desc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallystick.session import Session

_SET = (
    "SELECT from_user_id, to_user_id, weight FROM tally.trust_edge WHERE tenant_id = $1 AND {} "
    "AND valid_from <= $2 AND (valid_to IS NULL OR valid_to > $2)"
)


async def connect(  # noqa: PLR0917
    db: Session, from_user: UserLike, to_user: UserLike, weight: int, community: UUID | None, on: date | None
) -> TrustEdge:
    """See ``Trust.connect``."""
    who, whom = user_id(from_user, "from_user"), user_id(to_user, "to_user")
    if who == whom:
        raise Invalid("Trust in oneself says nothing.", entity="TrustEdge", field="to_user")
    if weight.__class__ is not int or not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        raise Invalid(
            f"A weight is a whole number from {LEAST_WEIGHT} to {MOST_WEIGHT}.", entity="TrustEdge", field="weight"
        )
    day = _day(db, on)
    await acting_user(db, who, MANAGE)
    async with db.transaction():
        await _within(db, community, who, whom)
        # One at a time says whom this user trusts.
        await db.users.lock(who)
        last = await _last(db, who, whom, community)
        if last is not None and last.valid_to is None:
            if last.weight == weight:
                return last
            await _end(db, last, day)
        elif last is not None and last.valid_to is not None and last.valid_to > day:
            raise _too_early()
        return await put(
            db.trust,
            TrustEdge(
                from_user=Ref(who),
                to_user=Ref(whom),
                community=None if community is None else Ref(community),
                weight=weight,
                valid_from=day,
            ),
        )


async def disconnect(
    db: Session, from_user: UserLike, to_user: UserLike, community: UUID | None, on: date | None
) -> TrustEdge:
    """See ``Trust.disconnect``."""
    who, whom = user_id(from_user, "from_user"), user_id(to_user, "to_user")
    day = _day(db, on)
    await acting_user(db, who, MANAGE)
    async with db.transaction():
        await db.users.lock(who)
        last = await _last(db, who, whom, community)
        if last is None or last.valid_to is not None:
            raise NotFound("No trust of one in the other stands.", entity="TrustEdge", remedy="Nothing is to be ended.")
        return await _end(db, last, day)


async def edges(db: Session, community: UUID | None, as_of: date | None) -> Sequence[tuple[UUID, UUID, int]]:
    """Who trusts whom, how much, as of a day: rows of (from, to, weight)."""
    day = _day(db, as_of)
    if community is None:
        return await db.unit.call(_SET.format("community_id IS NULL"), (db.tenant_id, day))  # type: ignore[return-value]
    return await db.unit.call(  # type: ignore[return-value]
        _SET.format("community_id = $3"), (db.tenant_id, day, community)
    )


async def graph(db: Session, community: UUID | None, as_of: date | None) -> TrustGraph:
    """See ``Trust.graph``."""
    if community is not None:
        await db.communities.get(community)
    return shape_of(await edges(db, community, as_of))


async def _within(db: Session, community: UUID | None, *users: UUID) -> None:
    if community is None:
        return
    check_open(await db.communities.locked(community, "shared"))
    for one in sorted(users):
        await member(db, community, one, "shared")


async def _last(db: Session, who: UUID, whom: UUID, community: UUID | None) -> TrustEdge | None:
    """What was said last; the one that stands, where one does."""
    found = await db.trust.find(
        TrustEdge.from_user == Ref(who),
        TrustEdge.to_user == Ref(whom),
        TrustEdge.community == (None if community is None else Ref(community)),
        order=(desc(TrustEdge.valid_to), desc(TrustEdge.valid_from)),
        limit=1,
    )
    return found[0] if found else None


async def _end(db: Session, edge: TrustEdge, day: date) -> TrustEdge:
    if day < edge.valid_from:
        raise _too_early()
    return await alter(db.trust, edge, valid_to=day)


def _day(db: Session, given: date | None) -> date:
    if given is None:
        return db.today()
    if given.__class__ is not date:
        raise Invalid("A day is a date.", field="on", remedy="Write date(2026, 3, 2).")
    return given


def _too_early() -> Invalid:
    return Invalid(
        "The day is before what was last said of this pair.",
        entity="TrustEdge",
        field="on",
        remedy="The past is not rewritten; give that day or a later one.",
    )
