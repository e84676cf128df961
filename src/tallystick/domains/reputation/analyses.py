"""AI analyses: how trustworthy a model finds a person, and the Big Five traits, for a limited time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from tallystick.domains.identity.consents import Consent, Purpose
from tallystick.domains.identity.holds import Restriction
from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.domains.reputation.analytics import moment
from tallystick.domains.reputation.consented import agreed
from tallystick.entity import UNSAVED, Entity, with_fields
from tallystick.errors import Invalid
from tallystick.fields import Fraction, Length, Once, Ref
from tallystick.query import at_most, desc, missing, more_than
from tallystick.repository import Repository
from tallystick.rules import Check, Guard, Index, Readable, Rules, Unique

LIFE = timedelta(days=90)
"""How long an analysis is good for when nothing else is said."""
_TRAITS = ("trust_score", "openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")


class AIAnalysis(Entity):
    """What a model says of a person: trustworthiness and the Big Five (Goldberg 1990), each a fraction from 0 to 1.

    It expires: ``current`` passes over one whose ``expires_at`` is over, and ``purge_expired`` removes it. One of each
    model version is current; a newer one supersedes it.
    """

    user: Annotated[Ref[User], Once()]
    model: Annotated[str, Length(64, min=1), Once()]
    trust_score: Annotated[Fraction, Once()]
    openness: Annotated[Fraction, Once()]
    conscientiousness: Annotated[Fraction, Once()]
    extraversion: Annotated[Fraction, Once()]
    agreeableness: Annotated[Fraction, Once()]
    neuroticism: Annotated[Fraction, Once()]
    explanation: Annotated[dict[str, Any], Once()] | None = None
    consent: Annotated[Ref[Consent], Once()] | None = None
    analysed_at: Annotated[datetime, Once()] = UNSAVED
    expires_at: Annotated[datetime, Once()] = UNSAVED
    superseded_at: datetime | None = None

    rules = Rules(
        Unique("user", "model", where="superseded_at is null"),
        Index("user", "analysed_at", query="a person's analyses, newest first"),
        Index("expires_at", query="analyses to remove"),
        *(Check(name, f"{name} between 0 and 1") for name in _TRAITS),
        Check("expires", "expires_at > analysed_at"),
        Check("superseded", "superseded_at is null or superseded_at >= analysed_at"),
        Check("consent", "consent_id is not null"),
        Guard("tally_consented", "BEFORE INSERT", "tally.reputation_consented('ai_analysis', 'ai_analysis')"),
        Guard(
            "tally_superseded",
            "BEFORE UPDATE",
            "tally.refuse_change('ai_analysis')",
            when='OLD."superseded_at" IS NOT NULL',
        ),
        table="ai_analysis",
        retain="scoring",
        readable={"model": Readable.CODE, "explanation": Readable.BY_ID},
    )

    def expired(self, at: datetime) -> bool:
        """Whether the analysis is no longer good at a moment."""
        return self.expires_at <= at


class Analyses(Repository[AIAnalysis]):
    """AI analyses of the tenant's users, each behind a consent and none for ever."""

    async def add(self, entity: AIAnalysis, *, consent: Consent | None = None) -> AIAnalysis:
        """Store an analysis under the person's consent; the model's earlier one of them is superseded.

        ``expires_at`` is ``analysed_at`` and ninety days where it is not given, and ``analysed_at`` is now. Raises
        ``ConsentMissing`` when the consent was taken back meanwhile, ``Invalid`` for one that is not theirs.
        """
        self._check_kind(entity)
        db, user = self.db, entity.user.id
        at = db.now() if entity.analysed_at == UNSAVED else moment(entity.analysed_at, "analysed_at")
        until = at + LIFE if entity.expires_at == UNSAVED else entity.expires_at
        async with db.transaction():
            # Whoever analyses this person meanwhile waits here. The person before their consent, as everywhere.
            await db.users.lock(user)
            held = await agreed(db, user, consent, (Purpose.AI_ANALYSIS,))
            earlier = await self.find(
                AIAnalysis.user == Ref(user), AIAnalysis.model == entity.model, missing(AIAnalysis.superseded_at)
            )
            for one in earlier:
                if one.analysed_at > at:
                    raise Invalid(
                        "The model has analysed the person later already.", field="analysed_at", entity="AIAnalysis"
                    )
                await self.update(one, superseded_at=at)
            fresh = with_fields(entity, consent=held, analysed_at=at, expires_at=until, superseded_at=None)
            return await super().add(fresh)

    async def current(self, user: UserLike, *, model: str | None = None) -> AIAnalysis | None:
        """The newest analysis of a person that has not expired, of one model where it is named.

        None once they took their consent to AI analysis back, until they give it again, and while they are restricted.
        """
        where: list[Any] = [
            AIAnalysis.user == Ref(user_id(user)),
            missing(AIAnalysis.superseded_at),
            more_than(AIAnalysis.expires_at, self.db.now()),
        ]
        if model is not None:
            where.append(AIAnalysis.model == model)
        found = await self.find(*where, order=desc(AIAnalysis.analysed_at), limit=1)
        if not found or not await self.db.consents.exists(
            Consent.user == found[0].user, Consent.purpose == Purpose.AI_ANALYSIS, missing(Consent.withdrawn_at)
        ):
            return None
        restricted = self.db[Restriction].exists(Restriction.user == found[0].user, missing(Restriction.lifted_at))
        return None if await restricted else found[0]

    async def purge_expired(self) -> int:
        """Remove for good every analysis that has expired; answers how many."""
        return await self.purge_where(at_most(AIAnalysis.expires_at, self.db.now()), reason="expired")
