"""Bringing applications on board that were made and decided elsewhere: a migration, a data set, a demonstration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from tallystick.domains.underwriting.applications import STEPS, Application, ApplicationStatus
from tallystick.domains.underwriting.decisions import OUTCOME_STATUS, Decision, Outcome
from tallystick.entity import with_fields
from tallystick.errors import Invalid
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session

_AT_ONCE = 5_000
_DECIDED = frozenset({ApplicationStatus.APPROVED, ApplicationStatus.DECLINED})
Told = Callable[[int], None]


class Boarded(msgspec.Struct, frozen=True, kw_only=True):
    """One application as it stands elsewhere, and the decisions on it, oldest first.

    ``application`` is given in its first status, with ``submitted_at`` and ``decided_at`` of its own where it has them.
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
    everything = list(given)
    for one in everything:
        _check(one)
    async with db.transaction():
        for start in range(0, len(everything), _AT_ONCE):
            part = everything[start : start + _AT_ONCE]
            await db.applications.add_many([one.application for one in part])
            await _walk(db, part)
            await db.decisions.add_many([with_fields(d, seq=n) for one in part for n, d in enumerate(one.decisions, 1)])
            if told is not None:
                told(len(part))
    return len(everything)


async def _walk(db: Session, part: Sequence[Boarded]) -> None:
    """Take every application one step at a time along the shortest way to its status."""
    ways = {status: way_to(status) for status in {one.status for one in part}}
    for step in range(max((len(way) for way in ways.values()), default=0)):
        for status in ApplicationStatus:
            ids = [
                one.application.id for one in part if len(ways[one.status]) > step and ways[one.status][step] is status
            ]
            if ids:
                await db.applications.update_where(one_of(Application.id, ids), status=status)


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
    elif one.status in _DECIDED and ends != {one.status}:
        problem = "A decided application needs one final decision, of the same outcome."
    elif any(d.outcome is Outcome.DECLINED and not d.reasons for d in final):
        problem = "A declined application needs the reasons why; ReasonCode.OTHER says that another system kept them."
    elif one.status not in _DECIDED and final:
        problem = "An application with a final decision is approved or declined."
    elif (one.application.decided_at is not None) != (one.status in _DECIDED):
        problem = "An application has decided_at exactly when it is approved or declined."
    if problem:
        raise Invalid(problem, entity="Application", remedy="Correct what the other system exported; nothing was kept.")
