"""Recording decisions: the rules that hold whoever decides, with the application locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallystick.documents import written
from tallystick.domains.guarded import put
from tallystick.domains.identity.access import acting_user, actor_user
from tallystick.domains.named import id_of
from tallystick.domains.underwriting.applications import Application, ApplicationStatus
from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
from tallystick.domains.underwriting.notices import NoticeBasis, owe
from tallystick.domains.underwriting.reasons import check_reasons
from tallystick.entity import with_fields
from tallystick.errors import Conflict
from tallystick.fields import Ref
from tallystick.query import desc, one_of, present
from tallystick.repository import Repository

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.domains.underwriting.reviews import ReviewTask
    from tallystick.session import Session

_BY_PEOPLE = (DecisionKind.MANUAL, DecisionKind.OVERRIDE)


async def decidable(db: Session, named: Application | UUID, *, among: frozenset[ApplicationStatus]) -> Application:
    """An application, locked, that is in one of some statuses. Raises ``Conflict``, ``NotFound``."""
    application = await db.applications.lock(id_of(named, Application, "application"))
    if application.status not in among:
        raise Conflict(
            f"The application is {application.status.value}, so nothing is left to decide.",
            entity="Application",
            remedy="Only applications in scoring or review are decided.",
        )
    return application


async def signed(db: Session, decision: Decision) -> Decision:
    """A decision with whoever made it, where that is the session's user. Raises ``RoleMissing`` for another's name."""
    me = actor_user(db)
    if me is None:
        return decision
    if decision.decided_by is not None:
        if decision.decided_by.id != me:
            await acting_user(db, decision.decided_by.id, "applications.assign")
        return decision
    if decision.kind in _BY_PEOPLE and await db.users.get_or_none(me) is not None:
        return with_fields(decision, decided_by=Ref(me))
    return decision


def told_apart(decision: Decision) -> tuple[Any, ...]:
    """What makes a decision another request, under one idempotency key."""
    d = decision
    by = None if d.decided_by is None else d.decided_by.id
    found = (d.risk_score, d.fraud_probability, d.identity_match, d.confidence, d.base_value, d.output_value)
    # As text, because a document may hold numbers of any kind.
    documents = (written(d.shap, dict[str, Any] | None)[0], written(d.risk_factors, list[Any] | None)[0])
    grounds = (d.model_version, d.feature_hash, d.reasons, d.other_reason)
    return (d.application.id, d.kind, d.outcome, d.is_final, by, *found, *documents, *grounds)


async def add_decision(
    db: Session, application: Application, decision: Decision, *, within: ReviewTask | None = None
) -> tuple[Application, Decision]:
    """Record a decision on a locked application; the database brings a final one to its outcome.

    A decline owes a notice, and a review that stands is over, but for the one that it is decided ``within``. A final
    decision without a risk score of its own is made at the last one that was found.
    """
    if decision.reasons is not None or (decision.is_final and decision.outcome is Outcome.DECLINED):
        decision = with_fields(decision, reasons=check_reasons(decision.reasons or ()))
    earlier = await db.decisions.find(Decision.application == application.id, order=desc(Decision.seq), limit=1)
    changes: dict[str, Any] = {"seq": earlier[0].seq + 1 if earlier else 1, "decided_at": db.now()}
    if decision.is_final and decision.risk_score is None and earlier:
        changes["risk_score"] = await _last_risk(db, application, earlier[0])
    made = await put(db.decisions, with_fields(decision, **changes))
    if made.is_final:
        if made.outcome is Outcome.DECLINED:
            await owe(db, application, NoticeBasis.APPLICATION, since=application.submitted_at, decision=made.ref)
        if within is None:
            await end_review(db, application.id)
    elif made.outcome is not Outcome.REVIEW:
        return application, made
    return await db.applications.get(application.id), made


async def end_review(db: Session, application: UUID) -> None:
    """End the review that stands for an application, because it was settled otherwise."""
    from tallystick.domains.underwriting.reviews import STANDING, ReviewState, ReviewTask

    where = (ReviewTask.application == Ref(application), one_of(ReviewTask.state, STANDING))
    await Repository.update_where(db.reviews, *where, state=ReviewState.EXPIRED)


async def _last_risk(db: Session, application: Application, last: Decision) -> int | None:
    if last.risk_score is not None:
        return last.risk_score
    where = (Decision.application == application.id, present(Decision.risk_score))
    found = await db.decisions.find(*where, order=desc(Decision.seq), limit=1)
    return found[0].risk_score if found else None
