"""Loan applications: what was asked for, by whom, and where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec

from tallystick.domains.identity.access import acting_user
from tallystick.domains.identity.profiles import EmploymentStatus
from tallystick.domains.identity.users import User
from tallystick.domains.named import id_of
from tallystick.domains.underwriting.addresses import check_addresses
from tallystick.entity import Entity
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Internal, Json, Length, Mask, Once, Personal, Ref, Search
from tallystick.money import Money
from tallystick.privacy.sealed import Secret
from tallystick.query import at_most, one_of
from tallystick.repository import Repository, Where
from tallystick.rules import Check, Guard, Index, Readable, Rules, Transitions, Unique

if TYPE_CHECKING:
    from tallystick.domains.underwriting.decisions import Decision
    from tallystick.domains.underwriting.statistics import GroupRate, Statistics

External = Annotated[str, Length(255)]


class ApplicationStatus(StrEnum):
    """Where an application stands."""

    CREATED = "created"
    SUBMITTED = "submitted"
    VERIFYING = "verifying"
    INCOMPLETE = "incomplete"
    SCORING = "scoring"
    REVIEW = "review"
    COUNTER_OFFERED = "counter_offered"
    APPROVED = "approved"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


_S = ApplicationStatus
UNDECIDED = frozenset({_S.SCORING, _S.REVIEW})
DECIDED = frozenset({_S.APPROVED, _S.DECLINED})
_BY_APPLICANT = frozenset({_S.SUBMITTED, _S.WITHDRAWN})
_AT_ONCE = 5_000
STEPS = {
    _S.CREATED: [_S.SUBMITTED, _S.WITHDRAWN],
    _S.SUBMITTED: [_S.VERIFYING, _S.INCOMPLETE, _S.WITHDRAWN],
    _S.INCOMPLETE: [_S.SUBMITTED, _S.WITHDRAWN, _S.EXPIRED],
    _S.VERIFYING: [_S.SCORING, _S.INCOMPLETE, _S.WITHDRAWN],
    _S.SCORING: [_S.APPROVED, _S.DECLINED, _S.REVIEW, _S.WITHDRAWN],
    _S.REVIEW: [_S.APPROVED, _S.DECLINED, _S.COUNTER_OFFERED, _S.WITHDRAWN],
    _S.COUNTER_OFFERED: [_S.APPROVED, _S.WITHDRAWN, _S.EXPIRED],
}


class Application(Entity):
    """A request for credit. Decisions on it are rows of their own, so re-scoring never overwrites what was decided.

    Identity, contact, income evidence and device data are encrypted; the social security number and credit score are
    sealed. ``monitoring`` holds what the applicant told for fairness monitoring (HMDA calls it government
    monitoring information); it must never reach a scoring model. ``submitted_at`` is when it came in complete: an
    applicant who adds what it lacked submits it again. ``expires_at`` is until when they may. ``decided_at`` is the
    database's, from the final decision.
    """

    applicant: Annotated[Ref[User], Once()] | None = None
    product: External | None = None
    stripe_account_id: External | None = None
    plaid_verification_id: External | None = None
    duoplus_device_id: External | None = None
    blockchain_tx_hash: External | None = None
    full_legal_name: Annotated[Personal[str], Length(255, min=1)]
    ssn: Annotated[Secret[str], Search("digits", last=4), Mask(4)]
    annual_income: Money
    employment_status: EmploymentStatus
    requested_amount: Money | None = None
    requested_months: int | None = None
    purpose: External | None = None
    credit_score: Annotated[Secret[int] | None, Internal()] = None
    email: Annotated[Personal[str], Search("email"), Length(320, min=3)] | None = None
    phone: Annotated[Personal[str], Search("phone", last=4)] | None = None
    address: Personal[dict[str, Any]] | None = None
    identity_verification: Annotated[Personal[dict[str, Any]] | None, Internal()] = None
    credit_report: Annotated[Personal[dict[str, Any]] | None, Internal()] = None
    kyc_documents: Annotated[Personal[dict[str, Any]] | None, Internal()] = None
    ip_address: Annotated[Personal[str] | None, Internal()] = None
    user_agent: Annotated[Personal[str] | None, Internal()] = None
    device_fingerprint: Annotated[Personal[dict[str, Any]] | None, Internal()] = None
    monitoring: Annotated[dict[str, str], Json(promote={"sex": str, "age_band": str})] = msgspec.field(
        default_factory=dict
    )
    status: ApplicationStatus = ApplicationStatus.CREATED
    submitted_at: Annotated[datetime | None, Internal()] = None
    decided_at: Annotated[datetime, Once(), Internal()] | None = None
    expires_at: Annotated[datetime | None, Internal()] = None
    idempotency_key: Annotated[External | None, Internal()] = None

    rules = Rules(
        Unique("idempotency_key"),
        Index("status", "created_at", query="the application queue, a status at a time, newest first"),
        Index("created_at", query="applications of a period"),
        Index("stripe_account_id", query="applications of a Stripe account", where="stripe_account_id is not null"),
        Index("expires_at", query="incomplete applications that run out", where="status = 'incomplete'"),
        Check("income", "annual_income >= 0"),
        Check("requested_amount", "requested_amount is null or requested_amount > 0"),
        Check("requested_months", "requested_months is null or requested_months between 1 and 600"),
        Check("decided", "(decided_at is not null) = (status in ('approved', 'declined'))"),
        Transitions("status", STEPS, initial=[_S.CREATED], open=[_S.VERIFYING, _S.SCORING, _S.REVIEW]),
        Guard(
            "tally_supported",
            "BEFORE UPDATE",
            "tally.application_supported('application')",
            when='OLD."status" IS DISTINCT FROM NEW."status" AND (NEW."status" IN (\'approved\', \'declined\') '
            "OR OLD.\"status\" = 'counter_offered')",
        ),
        Guard(
            "tally_completed",
            "AFTER UPDATE",
            "tally.application_completed('application')",
            when="OLD.\"status\" = 'incomplete' AND NEW.\"status\" IN ('submitted', 'withdrawn')",
        ),
        retain="lending",
        subject="applicant",
        readable={
            "product": Readable.CODE,
            "stripe_account_id": Readable.CODE,
            "plaid_verification_id": Readable.CODE,
            "duoplus_device_id": Readable.CODE,
            "blockchain_tx_hash": Readable.CODE,
            "purpose": Readable.BY_ID,
            "monitoring": Readable.BY_ID,
            "idempotency_key": Readable.CODE,
        },
    )


class Applications(Repository[Application]):
    """The tenant's loan applications."""

    async def submit(self, application: Application, *, key: str | None = None) -> Application:
        """Store a new application and submit it, counted against the month's quota; all or nothing.

        Raises ``QuotaExceeded``, and ``Duplicate`` for an ``idempotency_key`` of its own used before. A repetition
        with its ``key`` answers the application that is there.
        """
        from tallystick.domains.idempotency import idempotent

        self._check_kind(application)
        check_addresses("Application", application.ip_address)
        a = application
        who = None if a.applicant is None else a.applicant.id
        request = (who, a.annual_income, a.requested_amount, a.requested_months, a.product, a.idempotency_key)
        async with idempotent(self.db, "applications.submit", key, request) as once:
            if once.replayed:
                return await self.get(once.results[0])
            added = await self.add(application)
            once.results = (added.id,)
            return await self.update(added, status=_S.SUBMITTED)

    async def update(self, entity: Application, /, **changes: Any) -> Application:
        """``Repository.update``; a first submission is counted, and what only operations set is refused.

        To bring an application further than submitted or withdrawn takes the permission "applications.review".
        """
        to = changes.get("status")
        if to is None or to == getattr(entity, "status", None):
            return await super().update(entity, **changes)
        self._check_kind(entity)
        await self._judge(to)
        if to != _S.SUBMITTED:
            return await super().update(entity, **changes)
        changes.setdefault("submitted_at", self.db.now())
        async with self.db.transaction():
            if entity.status is _S.CREATED:
                await self.db.consume("applications")
            return await super().update(entity, **changes)

    async def update_where(self, *where: Where, **changes: Any) -> int:
        """``Repository.update_where``; a first submission is counted, and what only operations set is refused."""
        to = changes.get("status")
        if to is None:
            return await super().update_where(*where, **changes)
        await self._judge(to)
        if to != _S.SUBMITTED:
            return await super().update_where(*where, **changes)
        changes.setdefault("submitted_at", self.db.now())
        async with self.db.transaction():
            first = await super().update_where(*where, Application.status == _S.CREATED, **changes)
            if first:
                await self.db.consume("applications", first)
            return first + await super().update_where(*where, Application.status != _S.SUBMITTED, **changes)

    async def upsert(self, entity: Application, *, on: Any) -> Application:
        """``Repository.upsert``, of applications in their first status."""
        self._check_kind(entity)
        if entity.status is not _S.CREATED:
            raise _operation("status")
        return await super().upsert(entity, on=on)

    async def move(self, applications: Iterable[UUID], to: ApplicationStatus) -> int:
        """Bring many applications to the next status, all or none; the state machine judges each.

        Answers how many moved: those that were there already, or are not the tenant's, do not. Raises
        ``InvalidTransition``, ``QuotaExceeded``, ``Invalid`` for a status that only an operation sets.
        """
        ids = (
            [] if isinstance(applications, (str, bytes)) or not isinstance(applications, Iterable) else [*applications]
        )
        if (not ids and applications != []) or not all(isinstance(i, UUID) for i in ids):
            raise Invalid(
                "Applications to move are given by their ids.",
                field="applications",
                entity="Application",
                remedy="Write move([a.id, b.id], ApplicationStatus.VERIFYING).",
            )
        await self._judge(to)
        moved = 0
        async with self.db.transaction():
            for start in range(0, len(ids), _AT_ONCE):
                part = one_of(Application.id, ids[start : start + _AT_ONCE])
                moved += await self.update_where(part, Application.status != to, status=to)
        return moved

    async def incomplete(self, id: Application | UUID, needed: str, *, answer_by: datetime) -> Application:
        """Say what a submitted application lacks, and until when the applicant may add it.

        They are owed a notice of it within thirty days of the application, see ``db.notices``. Submitting again
        (``move`` or ``update``) takes it up; ``expire`` ends it when the time is over. Needs the permission
        "applications.review". Raises ``Conflict`` when they were asked already, ``InvalidTransition``, ``Invalid``,
        ``NotFound``.
        """
        from tallystick.domains.underwriting.notices import NoticeBasis, owe

        db = self.db
        await db.require("applications.review")
        if not isinstance(answer_by, datetime) or answer_by.tzinfo is None or answer_by <= db.now():
            raise Invalid(
                "The time to answer is a moment to come, with a time zone.",
                field="answer_by",
                entity="Application",
                remedy="Write answer_by=db.now() + timedelta(days=21).",
            )
        async with db.transaction():
            found = await self.lock(id_of(id, Application, "id"))
            if found.status is _S.INCOMPLETE:
                raise Conflict(
                    "The applicant was asked already.", entity="Application", remedy="Wait until they submit it again."
                )
            done = await super().update(found, status=_S.INCOMPLETE, expires_at=answer_by)
            await owe(db, done, NoticeBasis.INCOMPLETE, since=done.submitted_at, needed=needed)
            return done

    async def expire(self) -> int:
        """End incomplete applications whose time to answer is over; answers how many. Run it daily.

        Needs the permission "applications.review".
        """
        await self.db.require("applications.review")
        over = (Application.status == _S.INCOMPLETE, at_most(Application.expires_at, self.db.now()))
        return await super().update_where(*over, status=_S.EXPIRED)

    async def withdraw(self, id: Application | UUID) -> Application:
        """The applicant takes the application back before it is decided; a review that stands for it is over.

        The applicant does it in a session of their own, anybody else with the permission "applications.review".
        Raises ``InvalidTransition`` once it is decided, ``Conflict`` while an offer stands, ``NotFound``.
        """
        from tallystick.domains.underwriting.deciding import end_review

        db = self.db
        async with db.transaction():
            found = await self.lock(id_of(id, Application, "id"))
            if found.applicant is None:
                await db.require("applications.review")
            else:
                await acting_user(db, found.applicant.id, "applications.review")
            if found.status is _S.COUNTER_OFFERED:
                raise Conflict(
                    "An offer stands.", entity="Application", remedy="Use counter_offers.withdraw(), which ends both."
                )
            done = await super().update(found, status=_S.WITHDRAWN)
            await end_review(db, found.id)
            return done

    async def decide(self, id: Application | UUID, decision: Decision, *, key: str | None = None) -> Application:
        """Record a decision and, when it is final, bring the application to its outcome; all or nothing.

        Needs the permission "applications.decide". The row is locked first, so of two final decisions one wins and
        the other raises ``Conflict``. A final decline needs reasons and owes the applicant a notice, see
        ``db.notices``; the outcome "review" brings it to review. What a person decides in a session of their own they
        sign; to sign for somebody else takes "applications.assign". A repetition with its ``key`` answers what was
        done. Raises ``NotFound``, ``Invalid``, ``Denied`` where four eyes are missing, ``KeyReused``.
        """
        from tallystick.domains.idempotency import idempotent
        from tallystick.domains.underwriting.deciding import add_decision, decidable, signed, told_apart
        from tallystick.domains.underwriting.decisions import Decision

        db = self.db
        await db.require("applications.decide")
        if decision.__class__ is not Decision or decision.application.id != id_of(id, Application, "id"):
            raise Invalid(
                "What is given is no decision about this application.",
                field="decision",
                entity="Decision",
                remedy="Write Decision(application=application.ref, ...).",
            )
        async with idempotent(db, "applications.decide", key, told_apart(decision)) as once:
            if once.replayed:
                return await self.get(decision.application.id)
            application = await decidable(db, id, among=UNDECIDED)
            done, made = await add_decision(db, application, await signed(db, decision))
            once.results = (made.id,)
            return done

    async def statistics(self, since: datetime | None = None, until: datetime | None = None) -> Statistics:
        """Total, approved, declined and average risk of the applications created in [since, until)."""
        from tallystick.domains.underwriting.statistics import statistics

        return await statistics(self.db, since, until)

    async def rates_by(self, attribute: str) -> list[GroupRate]:
        """Approval by group of a monitored attribute ("sex", "age_band", ...), groups in order of name."""
        from tallystick.domains.underwriting.statistics import rates_by

        return await rates_by(self.db, attribute)

    async def _judge(self, to: Any) -> None:
        """Refuse a status that operations set, and one that the actor may not set. Raises ``Invalid``."""
        if not isinstance(to, ApplicationStatus):
            raise Invalid(
                "A status is an ApplicationStatus.",
                field="status",
                entity="Application",
                remedy=f"Statuses are: {', '.join(ApplicationStatus)}.",
            )
        if to in DECIDED or to is _S.COUNTER_OFFERED:
            raise _operation("status")
        if to not in _BY_APPLICANT:
            await self.db.require("applications.review")


def _operation(field: str) -> Invalid:
    return Invalid(
        "An application is approved, declined or offered other terms by a decision.",
        field=field,
        entity="Application",
        remedy="Use applications.decide() or counter_offers.offer(), which record it.",
    )


__all__ = ["Application", "ApplicationStatus", "Applications", "EmploymentStatus"]
