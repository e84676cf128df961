"""The sweep: what is due is erased, by policy, a batch at a time, after saying what it would be.

Two things are due: classes that an erasure had to leave until a day, and data that was not touched for longer than its
class's maximum. A batch is a transaction for each person in it; whoever is held, or whose class is, is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from tallystick.domains.identity.consents import take_all, withdraw_all
from tallystick.domains.identity.users import UserStatus
from tallystick.domains.rights.erasure import (
    destroy,
    execute,
    is_account,
    judge,
    last_changes,
    mark_erased,
    refuse_held,
    refuse_open,
    take,
    take_keys,
    write_down,
)
from tallystick.domains.rights.places import all_declared, person_columns, specs_of, subject_column, touches
from tallystick.domains.rights.policies import Policy, in_force, later, policy_for
from tallystick.errors import Erased, Invalid, OnHold

if TYPE_CHECKING:
    from tallystick.session import Session

ERASE: Final = "erase"
KEEP: Final = "keep"
_MOST: Final = 10_000
_PAGE: Final = 500


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
    await all_declared(db)
    policies, found = await in_force(db), list[Line]()
    counts, first, asked = Counter[tuple[str, str]](), dict[str, date](), dict[str, list[UUID]]()
    async for page in _asked(db, policies, _PAGE):
        for one in page:
            for name in one.due:
                asked.setdefault(name, []).append(one.user)
            counts.update(("held" if one.held else "due", name) for name in one.due)
            counts.update(("waiting", name) for name in one.waiting)
            for name, until in one.waiting.items():
                if until is not None:
                    first[name] = min(until, first.get(name, until))
    for name in sorted({name for _, name in counts}):
        reason, citation = policy_for(policies, name).reason, policy_for(policies, name).citation
        if due := counts["due", name]:
            found.append(_line(db, ERASE, name, due, f"asked for, and the minimum has passed: {reason}"))
        if held := counts["held", name]:
            found.append(_line(db, KEEP, name, held, "asked for, and held"))
        if waiting := counts["waiting", name]:
            until_when = f"until {first[name]} at the earliest" if name in first else "while the class is on hold"
            source = f" ({citation})" if citation else ""
            found.append(_line(db, KEEP, name, waiting, f"asked for, kept {until_when}: {reason}{source}"))
    sealed = {purpose for spec in specs_of(db.entities) for purpose in spec.purposes}
    for name, policy in sorted(policies.items()):
        if policy.maximum_months is None:
            continue
        rows = await db.unit.call(
            f"SELECT count(DISTINCT f.owner), count(DISTINCT f.owner) FILTER (WHERE f.held) "
            f"FROM ({_too_old(db, name)}) AS f WHERE f.owner <> ALL ($6::uuid[])",
            (*_arguments(db, policy, _MOST, None), asked.get(name, [])),
        )
        total, held = rows[0]
        held = total if policy.hold else held
        if not total and name not in sealed and not policy.example:
            found.append(_line(db, KEEP, name, 0, "nothing of this class is sealed, so there is no key to destroy"))
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
    await all_declared(db)
    policies = await in_force(db)
    async for page in _asked(db, policies, batch):
        if any(one.due for one in page):
            yield await _asked_for(db, page)
    for name, policy in sorted(policies.items()):
        if policy.maximum_months is None or policy.hold:
            continue
        after: UUID | None = None
        seen: set[UUID] = set()
        while True:
            rows = await db.unit.call(f"{_too_old(db, name)} ORDER BY 1 LIMIT $5", _arguments(db, policy, batch, after))
            if not rows:
                break
            after = rows[-1][0]
            yield await _past_maximum(db, name, rows, seen)


class _Asked(msgspec.Struct, frozen=True):
    """A request of which something was kept: what of it is due by now, what still waits, until when."""

    id: UUID
    user: UUID
    held: bool
    due: list[str]
    waiting: dict[str, date | None]


async def _asked(db: Session, policies: dict[str, Policy], size: int) -> AsyncIterator[list[_Asked]]:
    """The open requests, judged as an erasure judges them: by the policies and the data of now."""
    after: UUID | None = None
    while rows := await db.unit.call(_OPEN, (db.tenant_id, after, size)):
        page: list[_Asked] = []
        persons = [row[1] for row in rows]
        last = {name: await last_changes(db, persons, name) for name in {n for row in rows for n in row[3]}}
        for id, user, held, classes in rows:
            judged = {n: judge(last[n][user], policy_for(policies, n), db.today()) for n in classes}
            due = [n for n, stays in judged.items() if stays is None]
            waiting = {n: stays.until for n, stays in judged.items() if stays is not None}
            page.append(_Asked(id, user, held, due, waiting))
        yield page
        after = rows[-1][0]


async def _asked_for(db: Session, page: list[_Asked]) -> Batch:
    persons = held = keys = 0
    names: set[str] = set()
    for one in page:
        if not one.due:
            continue
        try:
            done = await execute(db, one.id, only=one.due)
        except OnHold:
            held += 1
            continue
        persons += bool(done.erased)
        keys += done.keys
        names.update(done.erased)
    return Batch(data_class=", ".join(sorted(names)), persons=persons, held=held, keys=keys)


async def _past_maximum(db: Session, data_class: str, rows: Sequence[Any], seen: set[UUID]) -> Batch:
    """``seen`` are persons of whom a row with a key of its own went already, who are not counted again."""
    persons = held = keys = 0

    for subject, _, owner in rows:

        async def work(session: Session, subject: UUID = subject, owner: UUID = owner) -> int | None:
            user = await session.users.get_or_none(owner)
            if user is not None:
                user = await session.users.lock(owner)
                await refuse_held(session, owner)
            ends = user is not None and owner == subject and user.status is not UserStatus.ERASED
            ends = ends and is_account([data_class])
            if ends:
                # Before rows and keys, which whoever is behind the gate still works with.
                await take_all(session, subject)
            await take_keys(session, await take(session, subject), data_class)
            # Asked again behind the locks: it may have been touched since the batch was read, or the class be held.
            present = policy_for(await in_force(session), data_class)
            if present.hold or present.maximum_months is None:
                return None
            old = f"SELECT 1 FROM ({_too_old(session, data_class)}) AS f WHERE f.subject = $6"
            if not await session.unit.call(old, (*_arguments(session, present, 1, None), subject)):
                return None
            if ends:
                await withdraw_all(session, subject)
            done = await destroy(session, subject, [data_class])
            if ends:
                await mark_erased(session, subject)
            await write_down(session, subject, done, [data_class], None)
            return done.keys

        try:
            done = await db.atomic(work)
        except (OnHold, Erased):
            held += 1
            continue
        if done is not None:
            persons += owner not in seen
            keys += done
            if owner != subject:
                seen.add(owner)
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
    """Who has a living key of a class and nothing in it that was touched since a moment; whether held; whose row."""
    specs, fresh, owners = specs_of(db.entities), list[str](), list[str]()
    for at, rows in touches(specs, data_class, "k.subject"):
        fresh.append(f"AND NOT EXISTS (SELECT {rows} AND {at} >= $3)")
    for spec in specs:
        if spec.retain != data_class and data_class not in spec.purposes:
            continue
        if "id" not in person_columns(spec):
            # A row that has a key of its own.
            at = "updated_at" if any(c.name == "updated_at" for c in spec.columns) else "created_at"
            fresh.append(
                f"AND NOT EXISTS (SELECT FROM tally.{spec.table} t WHERE t.tenant_id = $1 AND t.id = k.subject "
                f"AND t.{at} >= $3)"
            )
        column = subject_column(spec)
        if column is not None:
            owners.append(f"(SELECT t.{column} FROM tally.{spec.table} t WHERE t.tenant_id = $1 AND t.id = k.subject)")
    owner = f"coalesce({', '.join([*owners, 'k.subject'])})"
    held = (
        "EXISTS (SELECT FROM tally.legal_hold h WHERE h.tenant_id = $1 AND h.released_at IS NULL "
        f"AND h.user_id = {owner})"
    )
    return (
        f"SELECT k.subject, {held} AS held, {owner} AS owner FROM tally.data_key k WHERE k.tenant_id = $1 "
        "AND k.class = $2 AND k.state = 'live' AND k.created_at < $3 AND ($4::uuid IS NULL OR k.subject > $4) "
        f"AND $5::bigint > 0 {' '.join(fresh)}"
    )


_OPEN = (
    "SELECT r.id, r.user_id, EXISTS (SELECT FROM tally.legal_hold h WHERE h.tenant_id = $1 AND h.user_id = r.user_id "
    "AND h.released_at IS NULL), ARRAY(SELECT s.data_class FROM tally.erasure_step s WHERE s.tenant_id = $1 "
    "AND s.request_id = r.id AND s.status = 'kept' ORDER BY 1) FROM tally.erasure_request r "
    "WHERE r.tenant_id = $1 AND r.status = 'partial' AND ($2::uuid IS NULL OR r.id > $2) ORDER BY r.id LIMIT $3"
)
