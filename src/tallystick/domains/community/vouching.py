"""Endorsing, and how an endorsement ends."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.domains.community.communities import Community, CommunityStatus
from tallystick.domains.community.endorsements import Endorsement, EndorsementStatus
from tallystick.domains.community.members import MANAGE, member, require
from tallystick.domains.community.repayment import check_loan, check_not_at_risk
from tallystick.domains.community.stakes import give_back, keep, take
from tallystick.domains.guarded import alter, put
from tallystick.domains.idempotency import idempotent
from tallystick.domains.identity.access import acting_user, actor_user, may
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.errors import Conflict, Denied, Duplicate, Invalid, RoleMissing
from tallystick.fields import Ref
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What an endorser puts behind their word."""

    stake: Money | None = None
    text: str | None = None
    loan: UUID | None = None


async def endorse(  # noqa: PLR0917
    db: Session,
    endorser: UserLike,
    endorsee: UserLike,
    community: UUID,
    promise: Promise,
    on: date | None,
    key: str | None,
) -> Endorsement:
    """See ``Endorsements.endorse``."""
    who, whom = user_id(endorser, "endorser"), user_id(endorsee, "endorsee")
    if who == whom:
        raise Invalid("Nobody endorses themselves.", entity="Endorsement", field="endorsee")
    stake = promise.stake
    if stake is not None and (stake.__class__ is not Money or stake.units <= 0):
        raise Invalid(
            "A stake is Money above zero.",
            entity="Endorsement",
            field="stake",
            remedy='Write usd("25"), or leave it out; never a float.',
        )
    if promise.loan is not None and not isinstance(promise.loan, UUID):
        raise Invalid("A loan is named by its id.", entity="Endorsement", field="loan", remedy="Give loan=loan.id.")
    await acting_user(db, who, MANAGE)
    async with idempotent(db, "endorsements.endorse", key, (who, whom, community, promise, on)) as once:
        if once.replayed:
            return await db.endorsements.get(once.results[0])
        where = await _lent_to(db, community)
        if stake is not None and stake.asset != where.asset:
            raise Invalid(
                "The stake is not of the community's asset.",
                entity="Endorsement",
                field="stake",
                remedy=f"Stake an amount of {where.asset}.",
            )
        if stake is None and where.governance.stake_needed:
            raise Denied("An endorsement in this community needs a stake.", remedy="Give stake=...")
        # In the order of their ids, as everybody does who holds two members.
        held = {one: await member(db, community, one, "shared") for one in sorted((who, whom))}
        needed = where.governance.endorsed_by
        if held[who].role.rank < needed.rank:
            raise RoleMissing(f"To endorse takes the role {needed.value} in the community.")
        if promise.loan is not None:
            await check_loan(db, promise.loan, whom, community)
        day = db.today() if on is None else on
        made = await _add(
            db,
            Endorsement(
                endorser=Ref(who),
                endorsee=Ref(whom),
                community=Ref(community),
                loan=promise.loan,
                stake=stake,
                text=promise.text,
                given_on=day,
            ),
        )
        if stake is not None:
            await take(db, where, stake, made, day)
        once.results = (made.id,)
    return made


async def end(
    db: Session, endorsement: UUID, status: EndorsementStatus, on: date | None, key: str | None
) -> Endorsement:
    """See ``Endorsements.withdraw`` and ``slash``."""
    slashed = status is EndorsementStatus.SLASHED
    async with idempotent(db, f"endorsements.{status.value}", key, (endorsement, on)) as once:
        if once.replayed:
            return await db.endorsements.get(once.results[0])
        known = await db.endorsements.get(endorsement)
        where = await db.communities.locked(known.community.id, "shared")
        if slashed:
            await require(db, where.id, where.governance.slashed_by)
            if actor_user(db) in (known.endorser.id, known.endorsee.id):
                raise Denied(
                    "Neither side of an endorsement slashes it.", remedy="Ask another member who may, or withdraw it."
                )
        else:
            await acting_user(db, known.endorser.id, MANAGE)
        found = await db.endorsements.lock(endorsement)
        if found.status is not EndorsementStatus.ACTIVE:
            raise Conflict(f"The endorsement was {found.status.value} already.", entity="Endorsement", rule="ended")
        if not slashed and found.loan is not None and not await may(db, MANAGE):
            await check_not_at_risk(db, found.loan)
        day = db.today() if on is None else on
        ended = await alter(db.endorsements, found, status=status, ended_on=day)
        if found.stake is not None:
            await (keep if slashed else give_back)(db, where, found.stake, found, day)
        once.results = (ended.id,)
    return ended


async def _lent_to(db: Session, community: UUID) -> Community:
    found = await db.communities.locked(community, "shared")
    if found.status is not CommunityStatus.ACTIVE:
        raise Denied(f"The community is {found.status.value}.", remedy="Members endorse each other once it is active.")
    return found


async def _add(db: Session, given: Endorsement) -> Endorsement:
    """Store it, or say which one is in the way: the pair's unique rule stands for both directions."""
    try:
        async with db.transaction():
            return await put(db.endorsements, given)
    except Duplicate as taken:
        standing = taken
    there = await db.endorsements.find(
        Endorsement.community == given.community,
        Endorsement.endorser == given.endorsee,
        Endorsement.endorsee == given.endorser,
        Endorsement.status == EndorsementStatus.ACTIVE,
        limit=1,
    )
    if there:
        raise Conflict(
            "The member to be endorsed endorses the endorser: two who vouch for each other vouch for nobody.",
            entity="Endorsement",
            rule="circular_endorsement",
            remedy="The other endorsement is withdrawn first.",
        )
    raise Duplicate(
        "The endorser vouches for this member already.",
        entity="Endorsement",
        rule=standing.rule,
        remedy="Withdraw the endorsement that stands before giving another.",
    )
