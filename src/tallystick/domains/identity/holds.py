"""Legal holds and restrictions: two states of a person's data that are neither use nor erasure.

A hold keeps data from being erased while a claim needs it (GDPR Art. 17(3)(e)). A restriction keeps data from being
used while it is contested, or while the person needs it kept (Art. 18(1)); it may still be stored.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Length, Once, Ref
from tallystick.rules import Check, Index, Readable, Rules, Unique, kept


class RestrictionGround(StrEnum):
    """Why processing is restricted: GDPR Art. 18(1)(a) to (d), in the order of the article."""

    ACCURACY_CONTESTED = "accuracy_contested"
    UNLAWFUL = "unlawful"
    NEEDED_FOR_CLAIMS = "needed_for_claims"
    OBJECTION_PENDING = "objection_pending"


class LegalHold(Entity):
    """Nothing of a person is erased while this stands. Several matters may each hold the same person.

    ``matter`` names the case by its number, never what it is about.
    """

    user: Annotated[Ref[User], Once()]
    matter: Annotated[str, Length(120, min=1), Once()]
    placed_at: Annotated[datetime, Once()]
    released_at: datetime | None = None

    rules = Rules(
        Unique("user", "matter", where="released_at is null"),
        Index("user", "placed_at", query="holds on a person, oldest first"),
        Check("order", "released_at is null or released_at >= placed_at"),
        kept(),
        retain="audit",
        readable={"matter": Readable.CODE},
    )


class Restriction(Entity):
    """A person's data is stored and not used while this stands; one at a time."""

    user: Annotated[Ref[User], Once()]
    ground: Annotated[RestrictionGround, Once()]
    placed_at: Annotated[datetime, Once()]
    lifted_at: datetime | None = None

    rules = Rules(
        Unique("user", where="lifted_at is null"),
        Index("user", "placed_at", query="restrictions of a person, oldest first"),
        Check("order", "lifted_at is null or lifted_at >= placed_at"),
        kept(),
        retain="audit",
    )


class LegalHolds(Guarded[LegalHold]):
    """The tenant's legal holds."""

    permission = "privacy.hold"
    instead = "db.privacy.hold() and release()"


class Restrictions(Guarded[Restriction]):
    """The restrictions of processing."""

    permission = "privacy.restrict"
    instead = "db.privacy.restrict() and lift()"
