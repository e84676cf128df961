"""Loan applications: what was asked for, by whom, and where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec

from tallystick.domains.identity.profiles import EmploymentStatus
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import Json, Length, Mask, Once, Personal, Ref, Search
from tallystick.money import Money
from tallystick.privacy.sealed import Secret
from tallystick.repository import Repository
from tallystick.rules import Check, Index, Readable, Rules, Transitions, Unique

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
STEPS = {
    _S.CREATED: [_S.SUBMITTED, _S.WITHDRAWN],
    _S.SUBMITTED: [_S.VERIFYING, _S.INCOMPLETE, _S.WITHDRAWN],
    _S.INCOMPLETE: [_S.SUBMITTED, _S.EXPIRED],
    _S.VERIFYING: [_S.SCORING, _S.INCOMPLETE, _S.WITHDRAWN],
    _S.SCORING: [_S.APPROVED, _S.DECLINED, _S.REVIEW],
    _S.REVIEW: [_S.APPROVED, _S.DECLINED, _S.COUNTER_OFFERED],
    _S.COUNTER_OFFERED: [_S.APPROVED, _S.WITHDRAWN, _S.EXPIRED],
}


class Application(Entity):
    """A request for credit. Decisions on it are rows of their own, so re-scoring never overwrites what was decided.

    Identity, contact, income evidence and device data are encrypted; the social security number and credit score are
    sealed. ``monitoring`` holds what the applicant told for fairness monitoring (HMDA calls it government
    monitoring information); it must never reach a scoring model.
    """

    applicant: Annotated[Ref[User], Once()] | None = None
    product: External | None = None
    stripe_account_id: External | None = None
    plaid_verification_id: External | None = None
    duoplus_device_id: External | None = None
    blockchain_tx_hash: External | None = None
    full_legal_name: Annotated[Personal[str], Length(255, min=1)]
    ssn: Annotated[Secret[str], Search("digits"), Mask(4)]
    annual_income: Money
    employment_status: EmploymentStatus
    requested_amount: Money | None = None
    requested_months: int | None = None
    purpose: External | None = None
    credit_score: Secret[int] | None = None
    email: Annotated[Personal[str], Search("email"), Length(320, min=3)] | None = None
    phone: Annotated[Personal[str], Search("phone")] | None = None
    address: Personal[dict[str, Any]] | None = None
    identity_verification: Personal[dict[str, Any]] | None = None
    credit_report: Personal[dict[str, Any]] | None = None
    kyc_documents: Personal[dict[str, Any]] | None = None
    ip_address: Personal[str] | None = None
    user_agent: Personal[str] | None = None
    device_fingerprint: Personal[dict[str, Any]] | None = None
    monitoring: Annotated[dict[str, str], Json(promote={"sex": str, "age_band": str})] = msgspec.field(
        default_factory=dict
    )
    status: ApplicationStatus = ApplicationStatus.CREATED
    submitted_at: datetime | None = None
    decided_at: datetime | None = None
    expires_at: datetime | None = None
    idempotency_key: External | None = None

    rules = Rules(
        Unique("idempotency_key"),
        Index("status", "created_at", query="the application queue, a status at a time, newest first"),
        Index("created_at", query="applications of a period"),
        Check("income", "annual_income >= 0"),
        Check("requested_amount", "requested_amount is null or requested_amount > 0"),
        Check("requested_months", "requested_months is null or requested_months between 1 and 600"),
        Check("decided", "decided_at is not null or status not in ('approved', 'declined')"),
        Transitions("status", STEPS, initial=[_S.CREATED]),
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

    async def submit(self, application: Application) -> Application:
        """Store a new application and submit it, counted against the month's quota; all or nothing.

        Raises ``QuotaExceeded``, and ``Duplicate`` for an idempotency key used before.
        """
        async with self.db.transaction():
            await self.db.consume("applications")
            added = await self.add(application)
            return await self.update(added, status=_S.SUBMITTED, submitted_at=self.db.now())

    async def move(self, applications: Sequence[UUID], to: ApplicationStatus) -> int:
        """Bring many applications to the next status; the state machine judges each. Answers how many moved."""
        from tallystick.query import one_of

        changes: dict[str, Any] = {"status": to}
        if to is _S.SUBMITTED:
            changes["submitted_at"] = self.db.now()
        if to in (_S.APPROVED, _S.DECLINED):
            raise Invalid(
                "A final status comes from a decision.",
                field="status",
                remedy="Use applications.decide(), which records it.",
            )
        moved = 0
        async with self.db.transaction():
            for start in range(0, len(applications), 5_000):
                part = applications[start : start + 5_000]
                moved += await self.update_where(one_of(Application.id, part), **changes)
        return moved

    async def decide(self, id: UUID, decision: Decision, *, key: str | None = None) -> Application:
        """Record a decision and, when it is final, bring the application to its outcome; all or nothing.

        Needs the permission "applications.decide". The row is locked first, so of two final decisions one wins and
        the other raises ``Conflict``. A final decline needs reasons and owes the applicant a notice, see
        ``db.notices``. A repetition with its ``key`` (which takes the domain "ledger") answers what was done. Raises
        ``NotFound``, ``InvalidTransition``, ``Invalid``, ``KeyReused``.
        """
        from tallystick.domains.idempotency import idempotent
        from tallystick.domains.underwriting.deciding import add_decision, decidable, told_apart
        from tallystick.domains.underwriting.decisions import Decision

        db = self.db
        await db.require("applications.decide")
        if decision.__class__ is not Decision or decision.application.id != id:
            raise Invalid(
                "What is given is no decision about this application.",
                field="decision",
                entity="Decision",
                remedy="Write Decision(application=application.ref, ...).",
            )
        async with idempotent(db, "applications.decide", key, told_apart(decision)) as once:
            if once.replayed:
                return await self.get(id)
            application = await decidable(db, id, among=UNDECIDED)
            done, made = await add_decision(db, application, decision)
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


__all__ = ["Application", "ApplicationStatus", "Applications", "EmploymentStatus"]
