"""The consent behind what is written about a person, asked for again in the transaction that writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.domains.identity.consents import Consent, Purpose
from tallystick.errors import Invalid
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.session import Session


async def agreed(db: Session, user: UUID, consent: Any, purposes: tuple[Purpose, ...]) -> Ref[Consent]:
    """The consent that stands now for what was agreed to, held until the transaction ends.

    Raises ``Invalid`` for no consent, one of somebody else or to something else; ``ConsentMissing`` when it stands no
    more.
    """
    if consent.__class__ is not Consent:
        names = " or ".join(f"Purpose.{p.name}" for p in purposes)
        raise Invalid(
            "What is written about a person names their consent.",
            field="consent",
            remedy=f"Give what db.consents.require(user, {names}) answered.",
        )
    if consent.user.id != user or consent.purpose not in purposes:
        raise Invalid(
            "The consent is another person's, or to something else.",
            field="consent",
            remedy=f"It takes one to {' or '.join(p.value for p in purposes)} of the same user.",
        )
    return Ref((await db.consents.require(user, consent.purpose)).id)
