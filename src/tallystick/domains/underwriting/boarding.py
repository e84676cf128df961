"""Bringing applications on board that were made and decided elsewhere: a migration, a data set, a demonstration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from tallystick.domains.underwriting.applications import DECIDED, STEPS, Application, ApplicationStatus
from tallystick.domains.underwriting.decisions import OUTCOME_STATUS, Decision, Outcome
from tallystick.entity import with_fields
from tallystick.errors import Invalid
from tallystick.query import one_of
from tallystick.repository import Repository

if TYPE_CHECKING:
    from tallystick.session import Session

_AT_ONCE = 5_000
Told = Callable[[int], None]


class Boarded(msgspec.Struct, frozen=True, kw_only=True):
    """One application as it stands elsewhere, and the decisions on it, oldest first.

    ``application`` is given in its first status, with ``submitted_at`` and ``decided_at`` of its own where it has them;
    ``decided_at`` is kept as the moment of the final decision.
    """

    application: Application
    status: ApplicationStatus
    decisions: tuple[Decision, ...] = ()


async def board(db: Session, given: Iterable[Boarded], told: Told | None = None) -> int:
    """Store applications with their decisions and bring each to its status, all or nothing; answers how many.

    Every step is taken, so the state machine judges each, but a step at a time for all of them. They were not
    submitted here, so the month's quota does not count them. ``told`` hears how many steps more are done, of one for
    each application. Needs the permission "applications.decide". Raises ``Invalid`` where status, decisions and
    ``decided_at`` contradict each other, and ``Duplicate`` for an idempotency key used before.
    """
    await db.require("applications.decide")
    everything = list(given) if isinstance(given, Iterable) else [given]
    for one in everything:
        if not isinstance(one, Boarded):
            raise Invalid(
                "What is boarded is a Boarded.",
                field="given",
                entity="Application",
                remedy="Write board(db, [Boarded(application=..., status=..., decisions=(...,))]).",
            )
        _check(one)
    async with db.transaction():
        for start in range(0, len(everything), _AT_ONCE):
            part = everything[start : start + _AT_ONCE]
            await db.applications.add_many([with_fields(one.application, decided_at=None) for one in part])
            await _walk(db, part)
            await db.decisions.add_many([d for one in part for d in _numbered(one)])
            if told is not None:
                told(len(part))
    return len(everything)


async def _walk(db: Session, part: Sequence[Boarded]) -> None:
    """Take every application one step at a time along the shortest way to its status, up to what decisions do."""
    ways = {status: [s for s in way_to(status) if s not in DECIDED] for status in {one.status for one in part}}
    for step in range(max((len(way) for way in ways.values()), default=0)):
        for status in ApplicationStatus:
            ids = [
                one.application.id for one in part if len(ways[one.status]) > step and ways[one.status][step] is status
            ]
            if ids:
                await Repository.update_where(db.applications, one_of(Application.id, ids), status=status)


def _numbered(one: Boarded) -> list[Decision]:
    """The decisions of an application, numbered, with the moment of the final one."""
    last = {"decided_at": one.application.decided_at}
    return [with_fields(d, seq=n, **(last if d.is_final else {})) for n, d in enumerate(one.decisions, 1)]


def way_to(status: ApplicationStatus) -> tuple[ApplicationStatus, ...]:
    """The shortest way of the state machine from "created" to a status, the start left out."""
    ways: dict[ApplicationStatus, tuple[ApplicationStatus, ...]] = {ApplicationStatus.CREATED: ()}
    todo = [ApplicationStatus.CREATED]
    while todo:
        at = todo.pop(0)
        for to in STEPS.get(at, ()):
            if to not in ways:
                ways[to] = (*ways[at], to)
                todo.append(to)
    return ways[status]


def _check(one: Boarded) -> None:
    final = [d for d in one.decisions if d.is_final]
    ends = {OUTCOME_STATUS[d.outcome] for d in final}
    problem = ""
    if one.application.status is not ApplicationStatus.CREATED:
        problem = "An application to board is given in its first status, with the status it has beside it."
    elif any(d.application.id != one.application.id for d in one.decisions):
        problem = "A decision is about another application than the one it comes with."
    elif one.status in DECIDED and ends != {one.status}:
        problem = "A decided application needs one final decision, of the same outcome."
    elif any(d.outcome is Outcome.DECLINED and not d.reasons for d in final):
        problem = "A declined application needs the reasons why; ReasonCode.OTHER says that another system kept them."
    elif one.status is ApplicationStatus.SCORING and any(d.outcome is Outcome.REVIEW for d in one.decisions):
        problem = "An application whose decision is a review is in review."
    elif one.status not in DECIDED and final:
        problem = "An application with a final decision is approved or declined."
    elif (one.application.decided_at is not None) != (one.status in DECIDED):
        problem = "An application has decided_at exactly when it is approved or declined."
    if problem:
        raise Invalid(problem, entity="Application", remedy="Correct what the other system exported; nothing was kept.")
