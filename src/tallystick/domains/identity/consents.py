"""Consents: what a person agreed to have done with their data, when, and until when; and the gate that asks."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from msgspec.structs import replace

from tallystick.conditions import Lock
from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.identity.access import acting_user
from tallystick.domains.identity.users import User, UserLike, UserStatus, user_id
from tallystick.entity import Entity
from tallystick.errors import ConsentMissing, Erased, Invalid, NotFound, OnHold
from tallystick.fields import Length, Once, Ref
from tallystick.query import missing
from tallystick.rules import Check, Guard, Index, Readable, Rules, Unique, kept

if TYPE_CHECKING:
    from tallystick.session import Session

_TICK = timedelta(microseconds=1)
_RESTRICTED = "SELECT 1 FROM tally.restriction r WHERE r.tenant_id = $1 AND r.user_id = $2 AND r.lifted_at IS NULL"


class Purpose(StrEnum):
    """What a person's data is used for. Each needs a consent of its own."""

    DATA_PROCESSING = "data_processing"
    CREDIT_CHECK = "credit_check"
    AI_ANALYSIS = "ai_analysis"
    MARKETING = "marketing"
    SHARING = "sharing"
    ZK_PROOF = "zk_proof"


class LegalBasis(StrEnum):
    """Why the processing is lawful: the six grounds of GDPR Article 6(1), in the order of the article."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL_INTERESTS = "vital_interests"
    PUBLIC_TASK = "public_task"
    LEGITIMATE_INTERESTS = "legitimate_interests"


class Consent(Entity):
    """That a person agreed to one purpose under one version of a policy, and when they took it back.

    Rows are never removed, and nothing of one changes but ``withdrawn_at``, once. At most one for each purpose stands.
    ``evidence`` is how it was given: a form's version, a channel, a document's hash; no secrets.
    """

    user: Annotated[Ref[User], Once()]
    purpose: Annotated[Purpose, Once()]
    legal_basis: Annotated[LegalBasis, Once()]
    policy_version: Annotated[str, Length(64, min=1), Once()]
    granted_at: Annotated[datetime, Once()]
    evidence: Annotated[dict[str, Any], Once()] | None = None
    withdrawn_at: datetime | None = None

    rules = Rules(
        Unique("user", "purpose", where="withdrawn_at is null"),
        Index("user", "granted_at", query="what a person agreed to and took back, oldest first"),
        Check("order", "withdrawn_at is null or withdrawn_at > granted_at"),
        Guard(
            "tally_withdrawn",
            "BEFORE UPDATE",
            "tally.refuse_change('consent')",
            when='OLD."withdrawn_at" IS NOT NULL OR (OLD."user_id", OLD."purpose", OLD."legal_basis", '
            'OLD."policy_version", OLD."granted_at", OLD."evidence") IS DISTINCT FROM (NEW."user_id", NEW."purpose", '
            'NEW."legal_basis", NEW."policy_version", NEW."granted_at", NEW."evidence")',
        ),
        kept(),
        retain="consent",
        readable={"policy_version": Readable.CODE, "evidence": Readable.BY_ID},
    )


class Consents(Guarded[Consent]):
    """The persons' consents. A person grants and withdraws their own; for others it takes "consents.manage"."""

    permission = "consents.manage"
    instead = "db.consents.grant() and withdraw()"

    async def grant(
        self,
        user: UserLike,
        purpose: Purpose,
        *,
        policy_version: str,
        legal_basis: LegalBasis = LegalBasis.CONSENT,
        evidence: dict[str, Any] | None = None,
    ) -> Consent:
        """Record that a user agreed; on the same terms twice, the consent that stands already is the answer.

        Other terms (a newer policy, another basis) end the one that stands at the moment the new one begins. Raises
        ``RoleMissing`` for somebody else's consent, ``NotFound`` for a user there is not, ``Erased``, ``Invalid``.
        """
        db, id, what = self.db, user_id(user), _purpose(purpose)
        await acting_user(db, id, "consents.manage")
        async with db.transaction():
            # Whoever grants for this person meanwhile waits here.
            if (await db.users.lock(id)).status is UserStatus.ERASED:
                raise Erased("The person was erased; there is nobody who could agree.")
            before = await self._current(id, what, "exclusive")
            now = db.now()
            if before is not None:
                if (before.policy_version, before.legal_basis) == (policy_version, legal_basis):
                    return before
                now = max(now, before.granted_at + _TICK)
                await alter(self, before, withdrawn_at=now)
            return await put(
                self,
                Consent(
                    user=Ref(id),
                    purpose=what,
                    legal_basis=legal_basis,
                    policy_version=policy_version,
                    granted_at=now,
                    evidence=evidence,
                ),
            )

    async def withdraw(self, user: UserLike, purpose: Purpose) -> Consent:
        """Take a consent back, from now on; operations behind its gate that are under way end first.

        Raises ``NotFound`` when none stands, ``RoleMissing`` for somebody else's.
        """
        db, id, what = self.db, user_id(user), _purpose(purpose)
        await acting_user(db, id, "consents.manage")
        async with db.transaction():
            found = await self._current(id, what, "exclusive")
            if found is None:
                raise NotFound(
                    f"No consent to {what.value} stands.", entity="Consent", remedy="See db.consents.given(user)."
                )
            return await alter(self, found, withdrawn_at=max(db.now(), found.granted_at + _TICK))

    async def require(self, user: UserLike, purpose: Purpose) -> Consent:
        """The consent that stands. Raises ``ConsentMissing`` when there is none, ``OnHold`` for a restricted person.

        In a transaction it is kept from being withdrawn until the transaction ends; outside one, where nothing can be
        held, it is only what stands now: ask again in the transaction that writes.
        """
        id, what = user_id(user), _purpose(purpose)
        if not self.db.unit.depth:
            found = await self._current(id, what)
        else:
            # A withdrawal holds FOR NO KEY UPDATE, which FOR KEY SHARE would let through.
            found = await self._current(id, what, "shared")
            if found is None:
                # It may have been replaced by one on other terms while this waited; a new statement sees that.
                found = await self._current(id, what, "shared")
        if found is None:
            raise ConsentMissing(
                f"The person did not agree to {what.value}, or took it back.",
                remedy=f"Ask them, and record it: db.consents.grant(user, Purpose.{what.name}, policy_version=...).",
            )
        # After the consent is held, in a statement of its own: whoever restricts waits for the consent first.
        if await self.db.unit.call(_RESTRICTED, (self.db.tenant_id, id)):
            raise OnHold(
                "Processing of this person's data is restricted.",
                remedy="Lift the restriction when its ground is gone: db.privacy.lift(user).",
            )
        return found

    async def given(self, user: UserLike, purpose: Purpose | None = None) -> list[Consent]:
        """Every consent of a user, taken back or not, oldest first; of one purpose where it is given."""
        where = [Consent.user == Ref(user_id(user))]
        if purpose is not None:
            where.append(Consent.purpose == _purpose(purpose))
        return await self.find(*where, order=(Consent.granted_at, Consent.id))

    async def _current(self, user: UUID, purpose: Purpose, lock: Lock = "") -> Consent | None:
        where = (Consent.user == Ref(user), Consent.purpose == purpose, missing(Consent.withdrawn_at))
        found = await self._select(replace(self._query(where, None, limit=1), lock=lock))
        return found[0] if found else None


async def take_all(db: Session, user: UUID) -> list[Consent]:
    """Lock every consent of a person that stands; whoever is behind the gate has ended when this answers."""
    standing = (Consent.user == Ref(user), missing(Consent.withdrawn_at))
    return await db.consents._select(replace(db.consents._query(standing, Consent.id), lock="exclusive"))


async def withdraw_all(db: Session, user: UUID) -> None:
    """End every consent of a person who is erased, in the open transaction."""
    for found in await take_all(db, user):
        await alter(db.consents, found, withdrawn_at=max(db.now(), found.granted_at + _TICK))


def _purpose(given: Any) -> Purpose:
    if given.__class__ is not Purpose:
        raise Invalid(
            "That is no purpose.",
            field="purpose",
            remedy=f"Purposes are: {', '.join(f'Purpose.{p.name}' for p in Purpose)}.",
        )
    return Purpose(given)
