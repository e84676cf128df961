"""The sweep: what is due is erased, by policy, a batch at a time, after saying what it would be.

Two things are due: classes that an erasure had to leave until a day, and data that was not touched for longer than its
class's maximum. A batch is a transaction for each person in it; whoever is held, or whose class is, is passed over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from tallystick.domains.rights.erasure import Destroyed, destroy, execute, refuse_held, refuse_open, write_down
from tallystick.domains.rights.places import person_columns, specs_of, subject_column
from tallystick.domains.rights.policies import Policy, in_force, later, policy_for
from tallystick.errors import Erased, Invalid, OnHold

if TYPE_CHECKING:
    from tallystick.session import Session

ERASE: Final = "erase"
KEEP: Final = "keep"
_MOST = 10_000


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What the sweep would do with a class: how many persons (or rows of nobody's), in which entities, and why."""

    action: str
    data_class: str
    persons: int
    entities: tuple[str, ...]
    why: str


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch did: persons erased, those passed over because they are held, keys destroyed."""

    data_class: str
    persons: int
    held: int
    keys: int


async def explain(db: Session) -> list[Line]:
    """What a sweep would do now, and what it leaves alone and why. Nothing is changed."""
    policies, found = await in_force(db), list[Line]()
    steps = await db.unit.call(_DUE_BY_CLASS, (db.tenant_id, db.today()))
    for name, due, waiting, first in steps:
        policy = policy_for(policies, name)
        if due and policy.hold:
            found.append(_line(db, KEEP, name, due, "the whole class is on hold"))
        elif due:
            found.append(_line(db, ERASE, name, due, f"asked for, and the minimum has passed: {policy.reason}"))
        if waiting:
            until = f"until {first} at the earliest" if first else "while the class is on hold"
            source = f" ({policy.citation})" if policy.citation else ""
            found.append(_line(db, KEEP, name, waiting, f"asked for, kept {until}: {policy.reason}{source}"))
    for name, policy in sorted(policies.items()):
        if policy.maximum_months is None:
            continue
        sql = _too_old(db, name)
        rows = await db.unit.call(
            f"SELECT count(*), count(*) FILTER (WHERE held) FROM ({sql}) AS f", _arguments(db, policy, _MOST, None)
        )
        total, held = rows[0]
        held = total if policy.hold else held
        if total - held:
            why = f"not touched for {policy.maximum_months} months, the maximum of its class: {policy.reason}"
            found.append(_line(db, ERASE, name, total - held, why))
        if held:
            found.append(_line(db, KEEP, name, held, "past its maximum, and held"))
    return found


async def sweep(db: Session, batch: int = 500) -> AsyncIterator[Batch]:
    """Do it, a batch at a time."""
    if batch.__class__ is not int or not 1 <= batch <= _MOST:
        raise Invalid(f"A batch is of 1 to {_MOST} persons.", field="batch")
    refuse_open(db)
    policies = await in_force(db)
    after: UUID | None = None
    while True:
        rows = await db.unit.call(_DUE, (db.tenant_id, db.today(), after, batch))
        if not rows:
            break
        after = rows[-1][0]
        yield await _asked_for(db, [(r[0], r[1]) for r in rows])
    for name, policy in sorted(policies.items()):
        if policy.maximum_months is None or policy.hold:
            continue
        after = None
        while True:
            rows = await db.unit.call(f"{_too_old(db, name)} ORDER BY 1 LIMIT $5", _arguments(db, policy, batch, after))
            if not rows:
                break
            after = rows[-1][0]
            yield await _past_maximum(db, name, [r[0] for r in rows])


async def _asked_for(db: Session, due: list[tuple[UUID, list[str]]]) -> Batch:
    persons = held = keys = 0
    names: set[str] = set()
    for request, classes in due:
        try:
            done = await execute(db, request, only=classes)
        except OnHold:
            held += 1
            continue
        persons += bool(done.erased)
        keys += done.keys
        names.update(done.erased)
    return Batch(data_class=", ".join(sorted(names)), persons=persons, held=held, keys=keys)


async def _past_maximum(db: Session, data_class: str, subjects: list[UUID]) -> Batch:
    persons = held = keys = 0

    for subject in subjects:

        async def work(session: Session, subject: UUID = subject) -> Destroyed:
            user = await session.users.get_or_none(subject)
            if user is not None:
                await session.users.lock(subject)
                await refuse_held(session, subject)
            done = await destroy(session, subject, [data_class])
            await write_down(session, subject, done, [data_class], None)
            return done

        try:
            done = await db.atomic(work)
        except (OnHold, Erased):
            held += 1
            continue
        persons += 1
        keys += done.keys
    db.sealer.keyring().forget(db.tenant_id)
    return Batch(data_class=data_class, persons=persons, held=held, keys=keys)


def _line(db: Session, action: str, data_class: str, persons: int, why: str) -> Line:
    places = [s.name for s in specs_of(db.entities) if data_class in s.purposes]
    return Line(action=action, data_class=data_class, persons=persons, entities=tuple(places), why=why)


def _arguments(db: Session, policy: Policy, most: int, after: UUID | None) -> tuple[object, ...]:
    assert policy.maximum_months is not None
    before: date = later(db.today(), -policy.maximum_months)
    return (db.tenant_id, policy.data_class, datetime.combine(before, time(), UTC), after, most)


def _too_old(db: Session, data_class: str) -> str:
    """Who has a living key of a class and nothing in it that was touched since a moment; whether they are held."""
    fresh, owners = [], ["k.subject"]
    for spec in specs_of(db.entities):
        if spec.retain != data_class and data_class not in spec.purposes:
            continue
        at = "updated_at" if any(c.name == "updated_at" for c in spec.columns) else "created_at"
        mine = ["t.id", *(f"t.{c}" for c in person_columns(spec) if c != "id")]
        fresh += [
            f"AND NOT EXISTS (SELECT FROM tally.{spec.table} t WHERE t.tenant_id = k.tenant_id "
            f"AND {column} = k.subject AND t.{at} >= $3)"
            for column in mine
        ]
        column = subject_column(spec)
        if column is not None:
            owners.append(
                f"(SELECT t.{column} FROM tally.{spec.table} t WHERE t.tenant_id = k.tenant_id AND t.id = k.subject)"
            )
    held = (
        "EXISTS (SELECT FROM tally.legal_hold h WHERE h.tenant_id = k.tenant_id AND h.released_at IS NULL "
        f"AND h.user_id IN ({', '.join(owners)}))"
    )
    return (
        f"SELECT k.subject, {held} AS held FROM tally.data_key k WHERE k.tenant_id = $1 AND k.class = $2 "
        "AND k.state = 'live' AND k.created_at < $3 AND ($4::uuid IS NULL OR k.subject > $4) AND $5::bigint > 0 "
        f"{' '.join(fresh)}"
    )


_OPEN_STEP = (
    "tally.erasure_step s JOIN tally.erasure_request r ON r.tenant_id = s.tenant_id AND r.id = s.request_id "
    "WHERE s.tenant_id = $1 AND s.status = 'kept' AND r.status = 'partial'"
)
_DUE_BY_CLASS = (
    "SELECT s.data_class, count(*) FILTER (WHERE s.due_on <= $2), "
    "count(*) FILTER (WHERE s.due_on > $2 OR s.due_on IS NULL), min(s.due_on) FILTER (WHERE s.due_on > $2) "
    f"FROM {_OPEN_STEP} GROUP BY 1 ORDER BY 1"
)
_DUE = (
    f"SELECT r.id, array_agg(s.data_class) FROM {_OPEN_STEP} AND s.due_on <= $2 "
    "AND ($3::uuid IS NULL OR r.id > $3) GROUP BY r.id ORDER BY r.id LIMIT $4"
)
