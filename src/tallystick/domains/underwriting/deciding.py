"""Recording decisions: the rules that hold whoever decides, with the application locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallystick.domains.guarded import put
from tallystick.domains.underwriting.applications import Application, ApplicationStatus
from tallystick.domains.underwriting.decisions import OUTCOME_STATUS, Decision, Outcome
from tallystick.domains.underwriting.notices import NOTICE_DAYS, AdverseActionNotice
from tallystick.domains.underwriting.reasons import check_reasons
from tallystick.entity import with_fields
from tallystick.errors import Conflict

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.domains.underwriting.reviews import ReviewTask
    from tallystick.session import Session


async def decidable(db: Session, id: UUID, *, among: frozenset[ApplicationStatus]) -> Application:
    """An application, locked, that is in one of some statuses. Raises ``Conflict``, ``NotFound``."""
    application = await db.applications.lock(id)
    if application.status not in among:
        raise Conflict(
            f"The application is {application.status.value}, so nothing is left to decide.",
            entity="Application",
            remedy="Only applications in scoring or review are decided.",
        )
    return application


def told_apart(decision: Decision) -> tuple[Any, ...]:
    """What makes a decision another request, under one idempotency key."""
    by = None if decision.decided_by is None else decision.decided_by.id
    grounds = (decision.risk_score, decision.model_version, decision.reasons, decision.other_reason)
    return (decision.application.id, decision.kind, decision.outcome, decision.is_final, by, *grounds)


async def add_decision(
    db: Session, application: Application, decision: Decision, *, within: ReviewTask | None = None
) -> tuple[Application, Decision]:
    """Record a decision on a locked application; a final one brings it to its outcome, and a decline owes a notice.

    A review that stands for it is over then, but for the one that it is decided ``within``.
    """
    if decision.reasons is not None or (decision.is_final and decision.outcome is Outcome.DECLINED):
        decision = with_fields(decision, reasons=check_reasons(decision.reasons or ()))
    seq = await db.decisions.next_seq(application.id)
    made = await put(db.decisions, with_fields(decision, seq=seq))
    if not made.is_final:
        return application, made
    now = db.now()
    if made.outcome is Outcome.DECLINED:
        today = db.today()
        await put(
            db.notices,
            AdverseActionNotice(
                application=application.ref, decision=made.ref, decided_on=today, due_on=today + NOTICE_DAYS
            ),
        )
    if within is None:
        await db.reviews.overtaken(application.id)
    return await db.applications.update(application, status=OUTCOME_STATUS[made.outcome], decided_at=now), made
