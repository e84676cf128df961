"""What came in, in numbers: inputs by type and source, processed and waiting."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from tallystick.domains.identity.users import UserLike, user_id
from tallystick.domains.reputation.inputs import InputSource, InputType
from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.session import Session

_COUNT = (
    "SELECT b.type, b.source, count(*), count(b.processed_at), min(b.occurred_at), max(b.occurred_at), "
    "count(DISTINCT b.session_id) "
    "FROM tally.behavior_input b WHERE b.tenant_id = $1 AND ($2::uuid IS NULL OR b.user_id = $2) "
    "AND ($3::timestamptz IS NULL OR b.occurred_at >= $3) AND ($4::timestamptz IS NULL OR b.occurred_at < $4) "
    "GROUP BY GROUPING SETS ((b.type, b.source), ())"
)


class BehaviorAnalyticsSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How much came in over a time: ``total`` is ``processed`` and ``unprocessed``, and the sum of either breakdown.

    Types and sources of which nothing came are in neither. ``sessions`` counts those that any of the inputs belong to.
    """

    total: int
    processed: int
    unprocessed: int
    sessions: int
    by_type: dict[InputType, int]
    by_source: dict[InputSource, int]
    first_at: datetime | None
    last_at: datetime | None


async def analytics(
    db: Session, user: UserLike | None, start: datetime | None, end: datetime | None
) -> BehaviorAnalyticsSummary:
    """See ``Inputs.analytics``."""
    for name, at in (("start", start), ("end", end)):
        if at is not None:
            moment(at, name)
    if start is not None and end is not None and end < start:
        raise Invalid("The end is before the start.", field="end", entity="BehaviorInput")
    who = None if user is None else user_id(user)
    total = processed = sessions = 0
    first = last = None
    by_type: dict[InputType, int] = {}
    by_source: dict[InputSource, int] = {}
    for type_, source, count, done, earliest, latest, distinct in await db.unit.call(
        _COUNT, (db.tenant_id, who, start, end)
    ):
        if type_ is None:
            total, processed, sessions, first, last = count, done, distinct, earliest, latest
            continue
        kind, origin = InputType(type_), InputSource(source)
        by_type[kind] = by_type.get(kind, 0) + count
        by_source[origin] = by_source.get(origin, 0) + count
    return BehaviorAnalyticsSummary(
        total=total,
        processed=processed,
        unprocessed=total - processed,
        sessions=sessions,
        by_type={t: by_type[t] for t in InputType if t in by_type},
        by_source={s: by_source[s] for s in InputSource if s in by_source},
        first_at=first,
        last_at=last,
    )


def moment(at: object, field: str) -> datetime:
    """A moment with its time zone, in the years 2 to 9998. Raises ``Invalid`` for anything else."""
    if not isinstance(at, datetime) or at.utcoffset() is None or not 2 <= at.year <= 9998:
        raise Invalid(
            "A moment is a datetime with a time zone, in the years 2 to 9998.",
            field=field,
            remedy="Write datetime(2026, 3, 2, tzinfo=UTC).",
        )
    return at
