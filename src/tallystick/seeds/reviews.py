"""What people do with the applications that the scorecard leaves to them: reviews, notices and counter-offers.

It takes the applications of the seed of that name which are in review. What happens to each follows from its place
among them; most wait in the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tallystick.domains.identity.users import User
from tallystick.domains.underwriting.applications import Application, ApplicationStatus
from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
from tallystick.domains.underwriting.notices import AdverseActionNotice, NoticeChannel
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.domains.underwriting.reviews import ReviewTask
from tallystick.query import one_of, prefix
from tallystick.seeds import Planted
from tallystick.seeds.applications import KEY
from tallystick.seeds.users import REVIEWER, UNDERWRITER, address

if TYPE_CHECKING:
    from tallystick.session import Session

REASONS: Final = (
    "The score is between approval and review.",
    "Income and loan do not fit together.",
    "The employer could not be reached.",
)
_RESOLVED, _OFFERED, _HELD, _ESCALATED = 4, 3, 2, 1
_WHY: Final = (
    [ReasonCode.OBLIGATIONS_EXCESSIVE, ReasonCode.INCOME_INSUFFICIENT],
    [ReasonCode.CREDIT_EXPERIENCE_LIMITED],
)
_PART, _RATE = 7, Decimal("0.145")
"""How many tenths of the amount are offered instead, and at which rate a year."""


async def plant(db: Session) -> Planted:
    """Open a review for each application of the seeds that is in review, and work on some; once."""
    slug = db.tenant.slug
    there = await db.reviews.count(one_of(ReviewTask.reason, REASONS))
    if there:
        return Planted(seed="reviews", tenant=slug, added=0, present=there)
    async with db.transaction():
        where = (prefix(Application.idempotency_key, KEY), Application.status == ApplicationStatus.REVIEW)
        waiting = await db.applications.find(*where, order=Application.idempotency_key)
        tasks = [await db.reviews.open(a.id, REASONS[n % len(REASONS)]) for n, a in enumerate(waiting)]
        await _work(db, list(zip(waiting, tasks, strict=True)))
    return Planted(seed="reviews", tenant=slug, added=len(tasks), present=0)


async def _work(db: Session, cases: list[tuple[Application, ReviewTask]]) -> None:
    reviewer, underwriter = await _person(db, REVIEWER), await _person(db, UNDERWRITER)
    left = iter(cases)
    steps: tuple[tuple[int, Callable[[int, Application, ReviewTask], Any]], ...] = (
        (_RESOLVED, lambda n, _, task: _resolve(db, reviewer, n, task)),
        (_OFFERED, lambda n, application, _: _offer(db, underwriter, n, application)),
        (_HELD, lambda _n, _a, task: db.reviews.take(task, reviewer)),
        (_ESCALATED, lambda _n, _a, task: _escalate(db, reviewer, task)),
    )
    for many, step in steps:
        for n, (application, task) in zip(range(many), left, strict=False):
            await step(n, application, task)


async def _resolve(db: Session, reviewer: User, n: int, task: ReviewTask) -> None:
    """Approve every other one; the first decline's notice has gone out, the second's is due."""
    await db.reviews.take(task, reviewer)
    if n % 2 == 0:
        await db.reviews.resolve(task, reviewer, Outcome.APPROVED)
        return
    application = await db.reviews.resolve(task, reviewer, Outcome.DECLINED, reasons=_WHY[n // 2 % len(_WHY)])
    if n == 1:
        (notice,) = await db.notices.find(AdverseActionNotice.application == application.ref)
        await db.notices.sent(notice, NoticeChannel.MAIL)


async def _offer(db: Session, underwriter: User, n: int, application: Application) -> None:
    """Offer less; the first is taken, the second is not, and the third stands."""
    asked = application.requested_amount
    if asked is None:
        return
    decision = Decision(
        application=application.ref,
        kind=DecisionKind.MANUAL,
        outcome=Outcome.COUNTER_OFFER,
        is_final=False,
        decided_by=underwriter.ref,
    )
    months = application.requested_months or 12
    offer = await db.counter_offers.offer(decision, asked * _PART // 10, months, rate=_RATE)
    if n == 0:
        await db.counter_offers.accept(offer)
    elif n == 1:
        await db.counter_offers.withdraw(offer)


async def _escalate(db: Session, reviewer: User, task: ReviewTask) -> None:
    await db.reviews.take(task, reviewer)
    await db.reviews.escalate(task, reviewer, "The papers contradict each other.")


async def _person(db: Session, name: tuple[str, str]) -> User:
    return await db.users.one(User.email == address(*name, db.tenant.slug))
