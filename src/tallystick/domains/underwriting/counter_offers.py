"""Counter-offers: other terms than asked for, which the applicant takes, refuses or lets run out."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.idempotency import idempotent
from tallystick.domains.named import id_of
from tallystick.domains.underwriting.applications import Application, ApplicationStatus
from tallystick.domains.underwriting.deciding import add_decision, decidable, end_review, signed, told_apart
from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
from tallystick.domains.underwriting.notices import NoticeBasis, owe
from tallystick.entity import Entity
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Once, Rate, Ref
from tallystick.money import Money
from tallystick.query import at_most
from tallystick.rules import Check, Index, Rules, Transitions, Unique, kept

GOOD_FOR = timedelta(days=30)
"""How long an offer stands when nothing else is said."""
_LONGEST = timedelta(days=90)
_AT_ONCE = 1_000


class OfferState(StrEnum):
    """What became of a counter-offer."""

    OFFERED = "offered"
    APPROVED = "approved"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


_S = OfferState


class CounterOffer(Entity):
    """Terms offered instead of those asked for; one stands for an application. ``rate`` is a yearly fraction.

    An offer stands 90 days at most, after which 12 CFR 1002.9(a)(1)(iv) asks for a notice.
    """

    application: Annotated[Ref[Application], Once()]
    decision: Annotated[Ref[Decision], Once()]
    amount: Annotated[Money, Once()]
    months: Annotated[int, Once()]
    rate: Annotated[Rate, Once()] | None = None
    expires_at: Annotated[datetime, Once()]
    state: OfferState = OfferState.OFFERED
    answered_at: datetime | None = None

    rules = Rules(
        Unique("application", where="state = 'offered'"),
        Index("application", "created_at", query="the counter-offers of an application"),
        Index("expires_at", query="offers that run out", where="state = 'offered'"),
        Check("amount", "amount > 0"),
        Check("months", "months between 1 and 600"),
        Check("rate", "rate is null or rate >= 0"),
        Check("answered", "(state = 'offered') = (answered_at is null)"),
        Check("in_time", "state <> 'approved' or answered_at < expires_at"),
        Check("not_early", "state <> 'expired' or answered_at >= expires_at"),
        Transitions("state", {_S.OFFERED: [_S.APPROVED, _S.WITHDRAWN, _S.EXPIRED]}, initial=[_S.OFFERED]),
        kept(),
        retain="lending",
    )


class CounterOffers(Guarded[CounterOffer]):
    """The tenant's counter-offers. Each step takes the application with it; all or nothing."""

    permission = "applications.manage"
    instead = "db.counter_offers.offer(), accept(), withdraw(), expire() and expire_due()"

    async def offer(
        self,
        decision: Decision,
        amount: Money,
        months: int,
        *,
        rate: Rate | None = None,
        good_for: timedelta = GOOD_FOR,
        key: str | None = None,
    ) -> CounterOffer:
        """Offer other terms on an application in review. Needs the permission "applications.decide".

        ``decision`` has the outcome "counter_offer" and is not final. A repetition with its ``key`` answers the offer.
        Raises ``Conflict`` for an application that is not in review, ``Invalid``, ``NotFound``, ``KeyReused``.
        """
        db = self.db
        await db.require("applications.decide")
        if decision.__class__ is not Decision or decision.outcome is not Outcome.COUNTER_OFFER or decision.is_final:
            raise Invalid(
                "A counter-offer comes with a decision that says so and is not final.",
                field="decision",
                entity="CounterOffer",
                remedy="Write Decision(..., outcome=Outcome.COUNTER_OFFER, is_final=False).",
            )
        if not isinstance(good_for, timedelta) or not timedelta(0) < good_for <= _LONGEST:
            raise Invalid("An offer stands for up to 90 days.", field="good_for", entity="CounterOffer")
        request = (*told_apart(decision), amount, months, rate, good_for.total_seconds().hex())
        async with idempotent(db, "counter_offers.offer", key, request) as once:
            if once.replayed:
                return await self.get(once.results[0])
            application = await decidable(db, decision.application.id, among=frozenset({ApplicationStatus.REVIEW}))
            if not isinstance(amount, Money) or amount.asset != application.annual_income.asset:
                raise Invalid(
                    "An offer is money of the application's asset.",
                    field="amount",
                    entity="CounterOffer",
                    remedy="Offer in the asset that was asked for.",
                )
            _, made = await add_decision(db, application, await signed(db, decision))
            await end_review(db, application.id)
            await alter(db.applications, application, status=ApplicationStatus.COUNTER_OFFERED)
            offer = CounterOffer(
                application=application.ref,
                decision=made.ref,
                amount=amount,
                months=months,
                rate=rate,
                expires_at=db.now() + good_for,
            )
            once.results = (offer.id,)
            return await put(self, offer)

    async def accept(self, offer: CounterOffer | UUID, *, key: str | None = None) -> Application:
        """The applicant takes the offer: the application is approved, finally. Raises ``Conflict`` once it ran out.

        A repetition with its ``key`` answers what was done.
        """
        db = self.db
        id = id_of(offer, CounterOffer, "offer")
        async with idempotent(db, "counter_offers.accept", key, (id,)) as once:
            if once.replayed:
                return await db.applications.get(once.results[0])
            application, found = await self._standing(id)
            if found.expires_at <= db.now():
                raise Conflict("The offer has run out.", entity="CounterOffer", remedy="Offer again.")
            # The offer first: while one stands, the database lets no status follow it.
            await alter(self, found, state=_S.APPROVED, answered_at=db.now())
            decision = Decision(application=application.ref, kind=DecisionKind.POLICY, outcome=Outcome.APPROVED)
            done, _ = await add_decision(db, application, decision)
            once.results = (done.id,)
            return done

    async def withdraw(self, offer: CounterOffer | UUID, *, key: str | None = None) -> Application:
        """The applicant does not want it: offer and application are withdrawn, and a notice is owed.

        A repetition with its ``key`` answers what was done. Raises ``Conflict`` once it was answered.
        """
        return await self._end(offer, _S.WITHDRAWN, ApplicationStatus.WITHDRAWN, key)

    async def expire(self, offer: CounterOffer | UUID, *, key: str | None = None) -> Application:
        """End an offer whose time is over, and its application; a notice is owed. Raises ``Conflict`` before that."""
        return await self._end(offer, _S.EXPIRED, ApplicationStatus.EXPIRED, key)

    async def expire_due(self) -> int:
        """End every offer whose time is over, each as ``expire`` does; answers how many. Run it daily."""
        await self.db.require("applications.review")
        ended = 0
        over = (CounterOffer.state == _S.OFFERED, at_most(CounterOffer.expires_at, self.db.now()))
        for offer in await self.find(*over, order=CounterOffer.expires_at, limit=_AT_ONCE):
            try:
                await self.expire(offer)
            except Conflict:
                # Somebody answered it, or another worker ended it, since it was found.
                continue
            ended += 1
        return ended

    async def _end(
        self, offer: CounterOffer | UUID, state: OfferState, status: ApplicationStatus, key: str | None
    ) -> Application:
        db = self.db
        id = id_of(offer, CounterOffer, "offer")
        async with idempotent(db, f"counter_offers.{state.value}", key, (id,)) as once:
            if once.replayed:
                return await db.applications.get(once.results[0])
            application, found = await self._standing(id)
            if state is _S.EXPIRED and found.expires_at > db.now():
                raise Conflict("The offer still stands.", entity="CounterOffer", remedy="Wait until it runs out.")
            await alter(self, found, state=state, answered_at=db.now())
            made = (await db.decisions.get(found.decision.id)).decided_at
            await owe(db, application, NoticeBasis.COUNTER_OFFER, since=made, decision=found.decision)
            once.results = (application.id,)
            return await alter(db.applications, application, status=status)

    async def _standing(self, offer: UUID) -> tuple[Application, CounterOffer]:
        await self.db.require("applications.review")
        named = await self.get(offer)
        application = await self.db.applications.lock(named.application.id)
        found = await self.lock(named.id)
        if found.state is not _S.OFFERED:
            raise Conflict(f"The offer is {found.state.value}.", entity="CounterOffer", remedy="It was answered.")
        return application, found
