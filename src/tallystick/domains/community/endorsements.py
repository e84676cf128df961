"""Endorsements: one member vouches for another, with money or without."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import msgspec

from tallystick.domains.community.communities import Community
from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Length, Once, Personal, Ref
from tallystick.ids import NIL
from tallystick.money import Money
from tallystick.rules import Check, Index, Rules, Transitions, Unique, kept

if TYPE_CHECKING:
    from tallystick.domains.identity.users import UserLike


class EndorsementStatus(StrEnum):
    """``withdrawn`` gives the stake back; ``slashed`` keeps it, because the member who was vouched for failed."""

    ACTIVE = "active"
    WITHDRAWN = "withdrawn"
    SLASHED = "slashed"


_S = EndorsementStatus


class Endorsement(Entity):
    """A member vouches for another, for one loan or in general, with a stake that they lose when it goes wrong.

    ``low`` and ``high`` are the two users in the order of their ids, filled in by themselves. Only one active
    endorsement for each such pair may stand in a community, so nobody endorses twice and nobody endorses back.
    """

    endorser: Annotated[Ref[User], Once()]
    endorsee: Annotated[Ref[User], Once()]
    community: Annotated[Ref[Community], Once()]
    loan: Annotated[UUID, Once()] | None = None
    stake: Annotated[Money, Once()] | None = None
    text: Annotated[Personal[str], Length(2000, min=1), Once()] | None = None
    given_on: Annotated[date, Once()]
    ended_on: date | None = None
    status: EndorsementStatus = EndorsementStatus.ACTIVE
    low: Annotated[UUID, Once()] = NIL
    high: Annotated[UUID, Once()] = NIL

    rules = Rules(
        Unique("community", "low", "high", where="status = 'active'"),
        Index("endorsee", "status", query="who vouches for a user"),
        Index("endorser", "status", query="for whom a user vouches"),
        Index("loan", query="who vouches for a loan", where="loan is not null"),
        Check("self", "endorser_id <> endorsee_id"),
        Check("pair", "low = least(endorser_id, endorsee_id) and high = greatest(endorser_id, endorsee_id)"),
        Check("stake", "stake is null or stake > 0"),
        Check("ended", "(status = 'active') = (ended_on is null)"),
        Check("order", "ended_on is null or ended_on >= given_on"),
        Transitions("status", {_S.ACTIVE: [_S.WITHDRAWN, _S.SLASHED]}, initial=[_S.ACTIVE]),
        kept(),
        retain="community",
        subject="endorsee",
    )

    def __post_init__(self) -> None:
        sides = self.endorser, self.endorsee
        if all(side.__class__ is Ref and isinstance(side.id, UUID) for side in sides):
            low, high = sorted(side.id for side in sides)
            msgspec.structs.force_setattr(self, "low", low)  # type: ignore[arg-type]
            msgspec.structs.force_setattr(self, "high", high)  # type: ignore[arg-type]


class Endorsements(Guarded[Endorsement]):
    """Who vouches for whom, and the stakes behind it.

    Commands take ``key``, which makes a repetition answer what the first made; ``on`` is the business date, today
    unless given. Stakes are journals of the ledger, from the account "stakes.clearing:<asset>".
    """

    permission = "communities.manage"
    instead = "db.endorsements.endorse(), withdraw() and slash()"

    async def endorse(
        self,
        endorser: UserLike,
        endorsee: UserLike,
        *,
        community: UUID,
        stake: Money | None = None,
        text: str | None = None,
        loan: UUID | None = None,
        on: date | None = None,
        key: str | None,
    ) -> Endorsement:
        """Vouch for another active member; the stake, where there is one, is held until the endorsement ends.

        The endorser does it themselves, or somebody with the permission "communities.manage". Raises ``Invalid`` for
        oneself and for a stake that is not money of the community's asset, ``Duplicate`` where one stands already,
        ``Conflict`` with rule "circular_endorsement" where the other one vouches for the endorser, ``UnknownReference``
        for a loan that is not the endorsee's in this community, ``RoleMissing``, ``Denied`` for who is no active
        member, and the ledger's errors.
        """
        from tallystick.domains.community.vouching import Promise, endorse

        promise = Promise(stake=stake, text=text, loan=loan)
        return await endorse(self.db, endorser, endorsee, community, promise, on, key)

    async def withdraw(self, endorsement: UUID, *, on: date | None = None, key: str | None) -> Endorsement:
        """End one's own endorsement and get the stake back.

        Raises ``Conflict`` when it was withdrawn or slashed already, and with rule "loan_at_risk" while the loan that
        it is about is promised, not repaid or lost; ``RoleMissing`` for somebody else's.
        """
        from tallystick.domains.community.vouching import end

        return await end(self.db, endorsement, EndorsementStatus.WITHDRAWN, on, key)

    async def slash(self, endorsement: UUID, *, on: date | None = None, key: str | None) -> Endorsement:
        """End an endorsement that went wrong; the stake becomes the community's income.

        Takes the role that governance names, in somebody who is neither side of it. Raises ``Conflict`` when it was
        withdrawn or slashed already, ``RoleMissing``, ``Denied``.
        """
        from tallystick.domains.community.vouching import end

        return await end(self.db, endorsement, EndorsementStatus.SLASHED, on, key)
