"""Manual review: tasks that reviewers claim under a lease and resolve with a decision, four eyes on each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.identity.access import acting_user
from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.domains.named import id_of
from tallystick.domains.underwriting.applications import UNDECIDED, Application, ApplicationStatus
from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
from tallystick.entity import Entity
from tallystick.errors import Conflict, Denied, Invalid, LeaseLost
from tallystick.fields import Length, Once, Ref
from tallystick.query import one_of
from tallystick.repository import Repository
from tallystick.rules import Check, Guard, Index, Readable, Rules, Transitions, Unique, kept

if TYPE_CHECKING:
    from tallystick.domains.underwriting.reasons import ReasonCode

LEASE = timedelta(minutes=30)
"""How long a claim holds when nothing else is said."""
_LONGEST = timedelta(days=7)
_NEXT = (
    "SELECT t.id FROM tally.review_task t WHERE t.tenant_id = $1 AND {} "
    "AND EXISTS (SELECT FROM tally.application a WHERE a.tenant_id = t.tenant_id AND a.id = t.application_id "
    "AND a.status IN ('scoring', 'review') AND a.applicant_id IS DISTINCT FROM $2 "
    "AND a.created_by IS DISTINCT FROM 'user:' || $2) "
    "AND NOT EXISTS (SELECT FROM tally.decision d WHERE d.tenant_id = t.tenant_id "
    "AND d.application_id = t.application_id AND d.kind IN ('manual', 'override') AND d.decided_by_id = $2) "
    "ORDER BY t.created_at, t.id LIMIT 1 FOR NO KEY UPDATE OF t SKIP LOCKED"
)
# A state at a time, so that the index has their order however long the queue is.
_NEXT_LAPSED = _NEXT.format("t.state = 'claimed' AND t.held_until <= $3 AND t.escalated_for IS NULL")
_NEXT_OPEN = _NEXT.format("t.state = 'open'")


class ReviewState(StrEnum):
    """Where a review stands."""

    OPEN = "open"
    CLAIMED = "claimed"
    RESOLVED = "resolved"
    ESCALATED = "escalated"
    EXPIRED = "expired"


_S = ReviewState
STANDING = (_S.OPEN, _S.CLAIMED, _S.ESCALATED)


class ReviewTask(Entity):
    """An application that a person has to look at; one stands for an application at a time.

    Who resolves it is neither the applicant, nor who entered the application, nor a person who decided on it before,
    which the database checks. Once escalated it stays so, whoever claims it and gives it back.
    """

    application: Annotated[Ref[Application], Once()]
    reason: Annotated[str, Length(500, min=1), Once()]
    state: ReviewState = ReviewState.OPEN
    claimed_by: Ref[User] | None = None
    claimed_at: datetime | None = None
    held_until: datetime | None = None
    escalated_for: Annotated[str, Length(500, min=1)] | None = None
    resolved_by: Ref[User] | None = None
    resolved_at: datetime | None = None
    decision: Ref[Decision] | None = None

    rules = Rules(
        Unique("application", where="state in ('open', 'claimed', 'escalated')"),
        Index("state", "created_at", query="the review queue, a state at a time, oldest first"),
        Index("claimed_by", "state", query="what a reviewer works on"),
        Check("claimed", "state <> 'claimed' or (claimed_by_id is not null and held_until is not null)"),
        Check("lease", "(held_until is null) = (claimed_at is null) and held_until > claimed_at is not false"),
        Check("escalated", "state <> 'escalated' or escalated_for is not null"),
        Check("resolved", "(state = 'resolved') = (resolved_by_id is not null and resolved_at is not null)"),
        Check("resolution", "(state = 'resolved') = (decision_id is not null)"),
        Transitions(
            "state",
            {
                _S.OPEN: [_S.CLAIMED, _S.ESCALATED, _S.EXPIRED],
                _S.CLAIMED: [_S.OPEN, _S.RESOLVED, _S.ESCALATED, _S.EXPIRED],
                _S.ESCALATED: [_S.CLAIMED, _S.EXPIRED],
            },
            initial=[_S.OPEN],
        ),
        Guard(
            "tally_four_eyes",
            "BEFORE UPDATE",
            "tally.review_four_eyes('review_task')",
            when='NEW."resolved_by_id" IS NOT NULL',
        ),
        kept(),
        retain="lending",
        readable={"reason": Readable.NOTE, "escalated_for": Readable.NOTE},
    )


class Reviews(Guarded[ReviewTask]):
    """The tenant's reviews. Reviewers need the permission "applications.review", and "applications.assign" for others.

    An escalated task is claimed only with the permission "applications.decide".
    """

    permission = "applications.manage"
    instead = "db.reviews.open(), take(), resolve() and escalate()"

    async def open(self, application: Application | UUID, reason: str) -> ReviewTask:
        """Ask for a person's look at an application in scoring or review; it is in review then.

        Raises ``Duplicate`` while one stands, ``Conflict`` for another status, ``NotFound``.
        """
        from tallystick.domains.underwriting.deciding import decidable

        db = self.db
        await db.require("applications.review")
        async with db.transaction():
            found = await decidable(db, application, among=UNDECIDED)
            task = await put(self, ReviewTask(application=found.ref, reason=reason))
            if found.status is ApplicationStatus.SCORING:
                await db.applications.update(found, status=ApplicationStatus.REVIEW)
            return task

    async def take(self, task: ReviewTask | UUID, reviewer: UserLike, *, lease: timedelta = LEASE) -> ReviewTask:
        """Take a task for a reviewer until the lease is over.

        Whoever has it takes it again to keep it for longer. Raises ``Conflict`` while another holds it or when the
        application is no longer in review, ``Denied`` for the applicant and who entered it, ``RoleMissing``.
        """
        who = await self._reviewer(reviewer, lease)
        async with self.db.transaction():
            return await self._lease(await self.lock(_id(task)), who, lease)

    async def take_next(self, reviewer: UserLike, *, lease: timedelta = LEASE) -> ReviewTask | None:
        """Take the oldest task that nobody holds and the reviewer may resolve; None when there is none.

        One whose lease ran out comes before those that nobody had yet; an escalated one is taken by name. Two
        reviewers who ask at once get different tasks, and neither waits.
        """
        who = await self._reviewer(reviewer, lease)
        db = self.db
        async with db.transaction():
            rows = await db.unit.call(_NEXT_LAPSED, (db.tenant_id, who, db.now()), self.spec)
            rows = rows or await db.unit.call(_NEXT_OPEN, (db.tenant_id, who), self.spec)
            return await self._lease(await self.get(rows[0][0]), who, lease) if rows else None

    async def release(self, task: ReviewTask | UUID, reviewer: UserLike) -> ReviewTask:
        """Give a claimed task back. Raises ``LeaseLost``."""
        who = await self._reviewer(reviewer)
        async with self.db.transaction():
            held = await self._held(task, who)
            state = _S.OPEN if held.escalated_for is None else _S.ESCALATED
            return await alter(self, held, state=state, claimed_by=None, claimed_at=None, held_until=None)

    async def escalate(self, task: ReviewTask | UUID, reviewer: UserLike, reason: str) -> ReviewTask:
        """Hand a claimed task to somebody who may decide any application. Raises ``LeaseLost``."""
        who = await self._reviewer(reviewer)
        cleared: dict[str, Any] = {"claimed_by": None, "claimed_at": None, "held_until": None}
        async with self.db.transaction():
            held = await self._held(task, who)
            return await alter(self, held, state=_S.ESCALATED, escalated_for=reason, **cleared)

    async def resolve(
        self,
        task: ReviewTask | UUID,
        reviewer: UserLike,
        outcome: Outcome,
        *,
        reasons: Iterable[ReasonCode] | None = None,
        other_reason: str | None = None,
        key: str | None = None,
    ) -> Application:
        """Approve or decline the application of a claimed task, which is the final decision on it.

        Raises ``LeaseLost`` when the claim is over or another's, ``Denied`` where four eyes are missing, ``Conflict``
        when it is decided already, ``Invalid`` for a decline without reasons. A repetition with its ``key`` answers
        what was done.
        """
        from tallystick.domains.idempotency import idempotent
        from tallystick.domains.underwriting.deciding import add_decision, decidable

        if outcome not in (Outcome.APPROVED, Outcome.DECLINED):
            raise Invalid("A review approves or declines.", field="outcome", entity="ReviewTask")
        db = self.db
        who = await self._reviewer(reviewer)
        why = None if reasons is None else list(reasons)
        request = (_id(task), who, outcome, why, other_reason)
        async with idempotent(db, "reviews.resolve", key, request) as once:
            # The application first, as every other decision locks it.
            named = await self.get(_id(task))
            if once.replayed:
                return await db.applications.get(named.application.id)
            application = await decidable(db, named.application.id, among=UNDECIDED)
            held = await self._held(named.id, who)
            decision = Decision(
                application=application.ref,
                kind=DecisionKind.MANUAL,
                outcome=outcome,
                decided_by=Ref(who),
                reasons=why,
                other_reason=other_reason,
            )
            done, made = await add_decision(db, application, decision, within=held)
            once.results = (made.id,)
            await alter(self, held, state=_S.RESOLVED, resolved_by=Ref(who), resolved_at=db.now(), decision=made.ref)
            return done

    async def expire(self, before: datetime) -> int:
        """End tasks that were opened before a moment and still stand; answers how many.

        Their applications stay in review, where another can be opened. Needs the permission "applications.manage".
        """
        await self.db.require(self.permission)
        if not isinstance(before, datetime) or before.tzinfo is None:
            raise Invalid("A moment is a datetime with a time zone.", field="before", entity="ReviewTask")
        return await Repository.update_where(
            self, ReviewTask.created_at < before, one_of(ReviewTask.state, STANDING), state=_S.EXPIRED
        )

    async def _reviewer(self, reviewer: UserLike, lease: timedelta = LEASE) -> UUID:
        if not isinstance(lease, timedelta) or not timedelta(0) < lease <= _LONGEST:
            raise Invalid("A lease is a timedelta above zero, up to a week.", field="lease", entity="ReviewTask")
        who = user_id(reviewer, "reviewer")
        await self.db.require("applications.review")
        await acting_user(self.db, who, "applications.assign")
        return who

    async def _lease(self, task: ReviewTask, who: UUID, lease: timedelta) -> ReviewTask:
        now = self.db.now()
        mine = task.claimed_by is not None and task.claimed_by.id == who
        over = task.held_until is not None and task.held_until <= now
        if task.state is _S.CLAIMED and not (mine or over):
            raise Conflict("Another reviewer has the task.", entity="ReviewTask", remedy="Use reviews.take_next().")
        if task.state not in STANDING:
            raise Conflict(f"The task is {task.state.value}.", entity="ReviewTask")
        if task.escalated_for is not None:
            await self.db.require("applications.decide")
        application = await self.db.applications.get(task.application.id)
        if application.status not in UNDECIDED:
            raise Conflict(
                f"The application is {application.status.value}, so nothing is left to review.", entity="ReviewTask"
            )
        if application.created_by == f"user:{who}" or (application.applicant and application.applicant.id == who):
            raise Denied(
                "Nobody reviews an application that they made or entered.", remedy="Let another reviewer take it."
            )
        return await alter(self, task, state=_S.CLAIMED, claimed_by=Ref(who), claimed_at=now, held_until=now + lease)

    async def _held(self, task: ReviewTask | UUID, who: UUID) -> ReviewTask:
        found = await self.lock(_id(task))
        mine = found.state is _S.CLAIMED and found.claimed_by is not None and found.claimed_by.id == who
        if not mine or found.held_until is None or found.held_until <= self.db.now():
            raise LeaseLost("The claim on this task is over, or another's.", entity="ReviewTask")
        return found


def _id(task: ReviewTask | UUID) -> UUID:
    return id_of(task, ReviewTask, "task")
