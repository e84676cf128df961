"""Erasure: a person's data keys are destroyed, class by class, and with them everything that was sealed under them.

One transaction does it: the person's row is locked, so that no hold is placed meanwhile; then their rows and keys;
the keys of the classes become tombstones, also where there was no key yet, so that nothing can be written about the
person any more; blind indexes are nulled; the decision is written down. Last of all, before the commit, a line goes to
the erasure ledger outside the database and is on disk when the commit is sent. A crash between the two leaves a line
whose erasure the database lacks, which ``replay_erasures`` carries out; the other way round cannot be. What is left is
wrapped keys in backups, and those are gone for good when the key epoch ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from tallystick.domains.guarded import alter, put
from tallystick.domains.identity.consents import withdraw_all
from tallystick.domains.identity.erasures import (
    ErasureGround,
    ErasureRequest,
    ErasureStatus,
    ErasureStep,
    StepStatus,
)
from tallystick.domains.identity.holds import LegalHold
from tallystick.domains.identity.users import User, UserStatus
from tallystick.domains.rights.places import (
    all_declared,
    classes_of,
    parents,
    personal,
    rows_of,
    specs_of,
    subject_column,
    touches,
)
from tallystick.domains.rights.policies import Policy, in_force, policy_for
from tallystick.entity import spec_of
from tallystick.errors import Conflict, Invalid, OnHold
from tallystick.fields import Ref
from tallystick.privacy.rotation import has_left
from tallystick.query import missing

if TYPE_CHECKING:
    from tallystick.session import Session

_FINAL: Final = (ErasureStatus.EXECUTED, ErasureStatus.REFUSED)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A class of data that stays for now: until which day, and on what ground.

    ``until`` is None where a hold of the class has no end.
    """

    data_class: str
    until: date | None
    basis: str
    reason: str
    citation: str


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure did. ``keys`` were destroyed, ``indexes`` are rows whose blind indexes were nulled.

    ``final_epoch`` is of the whole request, what was erased for it earlier included.
    """

    request: UUID | None
    user: UUID
    erased: tuple[str, ...]
    kept: tuple[Kept, ...] = ()
    keys: int = 0
    indexes: int = 0
    final_epoch: int | None = None

    @property
    def final(self) -> str:
        """When no backup can bring anything back."""
        if self.final_epoch is None:
            return "nothing was sealed, so there is nothing to wait for"
        return f"when key epoch {self.final_epoch} ends"


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the erasure ledger: ids and classes, nothing of the person."""

    at: datetime
    person: UUID
    subjects: list[UUID]
    classes: list[str]
    epoch: int | None = None
    request: UUID | None = None
    ground: ErasureGround | None = None
    v: int = 1


read_line = msgspec.json.Decoder(LedgerLine).decode


async def holds_of(db: Session, user: UUID) -> list[LegalHold]:
    """The legal holds that stand on a person."""
    return await db[LegalHold].find(LegalHold.user == Ref(user), missing(LegalHold.released_at))


async def refuse_held(db: Session, user: UUID) -> None:
    """Raise ``OnHold`` while a legal hold stands."""
    found = await holds_of(db, user)
    if found:
        raise OnHold(
            "A legal hold on this person forbids erasing anything.",
            remedy="Release it when the matter is over: db.privacy.release(hold).",
        )


async def lock_request(db: Session, id: UUID) -> tuple[User, ErasureRequest]:
    """Lock a request and its person: the person first, which is the order of everybody who decides about them."""
    asked = await db[ErasureRequest].get(id)
    return await db.users.lock(asked.user.id), await db[ErasureRequest].lock(id)


async def execute(db: Session, request: UUID, *, only: Collection[str] | None = None) -> Erasure:
    """Carry a request out, as far as holds and policies let it. See ``Privacy.erase``."""
    refuse_open(db)
    await all_declared(db)

    async def work(session: Session) -> Erasure:
        user, asked = await lock_request(session, request)
        if asked.status in _FINAL:
            raise Conflict(
                f"The request is {asked.status.value}.", entity="ErasureRequest", remedy="Make a new request."
            )
        await refuse_held(session, user.id)
        policies, now, today = await in_force(session), session.now(), session.today()
        steps = {s.data_class: s for s in await session[ErasureStep].find(ErasureStep.request == asked.ref)}
        gone = {c for c, s in steps.items() if s.status is StepStatus.ERASED}
        kept: list[Kept] = []
        wanted: list[str] = []
        for name in await _classes(session, user.id):
            if name in gone:
                continue
            last = await last_changes(session, [user.id], name)
            stays = judge(last[user.id], policy_for(policies, name), today)
            if stays is None and (only is None or name in only or name not in steps):
                wanted.append(name)
            elif stays is not None:
                kept.append(stays)
            elif name in steps:
                kept.append(_as_kept(steps[name]))
        ends = user.status is not UserStatus.ERASED and is_account({*gone, *wanted})
        if ends:
            # Before rows and keys, which whoever is behind the gate still works with.
            await withdraw_all(session, user.id)
        done = await destroy(session, user.id, wanted)
        for stays in kept:
            await _note_kept(session, asked, steps.get(stays.data_class), stays)
        for name in wanted:
            await _note_erased(session, asked, steps.get(name), name, now)
        epoch = max((e for e in (asked.final_epoch, done.epoch) if e is not None), default=None)
        status = ErasureStatus.PARTIAL if kept else ErasureStatus.EXECUTED
        if (asked.status, asked.final_epoch) != (status, epoch):
            await alter(session[ErasureRequest], asked, status=status, decided_at=now, final_epoch=epoch)
        if ends:
            await mark_erased(session, user.id)
        if wanted:
            await write_down(session, user.id, done, wanted, asked)
        return Erasure(
            request=asked.id,
            user=user.id,
            erased=tuple(wanted),
            kept=tuple(kept),
            keys=done.keys,
            indexes=done.indexes,
            final_epoch=epoch,
        )

    found = await db.atomic(work)
    db.sealer.keyring().forget(db.tenant_id)
    return found


class Destroyed(msgspec.Struct, frozen=True):
    """What ``destroy`` did."""

    subjects: list[UUID]
    keys: int
    indexes: int
    epoch: int | None


async def take(db: Session, person: UUID, rows: Iterable[UUID] = ()) -> list[UUID]:
    """Lock a person's rows, and answer whose keys theirs are. Rows before keys, which is the order of every writer."""
    unit, tenant = db.unit, db.tenant_id
    specs, mine = personal(specs_of(db.entities)), {person, *rows}
    for spec in specs:
        column = subject_column(spec)
        if column is not None:
            # A row that was written before it named anybody has a key of its own, and is the person's all the same.
            found = await unit.call(_OWN_KEYS.format(table=spec.table, column=column), (tenant, person))
            mine.update(row[0] for row in found)
    subjects = sorted(mine)
    for spec in specs:
        if not spec.append_only:
            await unit.call(_ROWS.format(table=spec.table, mine=rows_of(spec)), (tenant, subjects))
    return subjects


async def take_keys(db: Session, subjects: list[UUID], data_class: str) -> None:
    """Lock living keys of a class: whoever is writing with one has ended when this answers."""
    await db.unit.call(f"SELECT 1 {_LIVING}", (db.tenant_id, subjects, [data_class]))


async def destroy(db: Session, person: UUID, classes: Iterable[str], rows: Iterable[UUID] = ()) -> Destroyed:
    """Destroy a person's keys of some classes and null the indexes, inside the open transaction.

    ``rows`` are rows with keys of their own that belong to the person besides those that name them.
    """
    unit, tenant, names = db.unit, db.tenant_id, sorted(classes)
    specs = personal(specs_of(db.entities))
    if not names:
        return Destroyed([person], 0, 0, None)
    subjects = await take(db, person, rows)
    known = set(classes_of(specs))
    # Of a tenant that left nothing is ever sealed again, and its epochs take no tombstone either.
    epoch = None if await has_left(db) else await db.sealer.keyring().current_epoch(tenant)

    async def bury(subject: UUID, name: str) -> None:
        if epoch is not None:
            await unit.change(_TOMBSTONE, (tenant, subject, name, os.urandom(16), epoch))

    for name in names:
        if name in known:
            await bury(person, name)
    children: set[UUID] = set()
    for spec, purposes in parents(specs_of(db.entities)):
        for (row,) in await unit.call(_MINE.format(table=spec.table, mine=rows_of(spec)), (tenant, subjects)):
            for name in sorted(purposes.intersection(names)):
                await bury(row, name)
                children.add(row)
    subjects = sorted({*subjects, *children})
    erased = await unit.change(_ERASE, (tenant, subjects, names))
    indexes = 0
    for spec in specs:
        if any(f.search for f in spec.fields.values() if f.sealed):
            (touched,) = await unit.change(_FORGET, (spec.table, subject_column(spec), subjects))
            indexes += touched[0]
    # Tombstones that never wrapped anything say nothing of when it is final.
    real = [row[0] for row in erased if not row[1]]
    return Destroyed(subjects, len(real), indexes, max(real, default=None))


def is_account(classes: Collection[str]) -> bool:
    """Whether with these classes nothing is left of who somebody is, so that the account is an erased one."""
    return set(spec_of(User).purposes) <= set(classes)


async def is_left(db: Session, person: UUID) -> bool:
    """Whether a person has a key that lives: something that was kept, or came after."""
    return bool(await db.unit.call(_LEFT, (db.tenant_id, person)))


async def mark_erased(db: Session, person: UUID) -> None:
    """Close an account whose data is gone. Nulling the indexes was a change of the row, so it is read again."""
    await db.users.update(await db.users.lock(person), status=UserStatus.ERASED)


async def write_down(
    db: Session, person: UUID, done: Destroyed, classes: list[str], asked: ErasureRequest | None
) -> None:
    """Append the line to the erasure ledger; the last thing before the commit."""
    line = LedgerLine(
        at=db.now(),
        person=person,
        subjects=done.subjects,
        classes=classes,
        epoch=done.epoch,
        request=None if asked is None else asked.id,
        ground=None if asked is None else asked.ground,
    )
    provider = db.sealer.keyring().provider
    await asyncio.to_thread(provider.note_erasure, db.tenant_id, msgspec.json.encode(line))


def refuse_open(db: Session) -> None:
    """Raise ``Invalid`` inside a transaction: what is erased must not be rolled back by somebody else's failure."""
    if db.unit.depth:
        raise Invalid(
            "Erasing commits by itself and cannot be part of a transaction.", remedy="Call it outside db.transaction()."
        )


async def _classes(db: Session, person: UUID) -> list[str]:
    """The classes that there is something in, or could be."""
    rows = await db.unit.call(_CLASSES, (db.tenant_id, person))
    return sorted({*classes_of(specs_of(db.entities)), *(row[0] for row in rows)})


def judge(last: date | None, policy: Policy, today: date) -> Kept | None:
    """Why a class of which something was changed last on a day stays for now, or None."""
    if last is None:
        return None
    due = policy.due(last)
    if not policy.hold and (due is None or due <= today):
        return None
    return Kept(
        data_class=policy.data_class,
        until=None if policy.hold else due,
        basis=policy.basis.value,
        reason=policy.reason,
        citation=policy.citation,
    )


async def last_changes(db: Session, persons: Iterable[UUID], data_class: str) -> dict[UUID, date | None]:
    """The day of the last change of anything in a class about each person, UTC."""
    found: dict[UUID, date | None] = dict.fromkeys(persons)
    selects = [f"SELECT max({at}) AS at {rows}" for at, rows in touches(specs_of(db.entities), data_class, "u.id")]
    if found and selects:
        last = f"SELECT max(c.at) FROM ({' UNION ALL '.join(selects)}) AS c"
        sql = f"SELECT u.id, ({last}) FROM unnest($2::uuid[]) AS u (id)"
        for person, moment in await db.unit.call(sql, (db.tenant_id, list(found))):
            found[person] = None if moment is None else moment.date()
    return found


def _as_kept(step: ErasureStep) -> Kept:
    return Kept(data_class=step.data_class, until=step.due_on, basis="", reason=step.reason, citation=step.citation)


async def _note_kept(db: Session, asked: ErasureRequest, step: ErasureStep | None, kept: Kept) -> None:
    said: dict[str, Any] = {"reason": kept.reason, "citation": kept.citation, "due_on": kept.until}
    if step is None:
        made = ErasureStep(request=asked.ref, data_class=kept.data_class, status=StepStatus.KEPT, **said)
        await put(db[ErasureStep], made)
    elif step.status is StepStatus.KEPT:
        await alter(db[ErasureStep], step, **said)


async def _note_erased(
    db: Session, asked: ErasureRequest, step: ErasureStep | None, data_class: str, now: datetime
) -> None:
    if step is not None:
        await alter(db[ErasureStep], step, status=StepStatus.ERASED, erased_at=now)
    else:
        made = ErasureStep(request=asked.ref, data_class=data_class, status=StepStatus.ERASED, erased_at=now)
        await put(db[ErasureStep], made)


_OWN_KEYS = (
    "SELECT t.id FROM tally.{table} t JOIN tally.data_key k ON k.tenant_id = t.tenant_id AND k.subject = t.id "
    "WHERE t.tenant_id = $1 AND t.{column} = $2"
)
_ROWS = "SELECT 1 FROM tally.{table} t WHERE t.tenant_id = $1 AND {mine} ORDER BY t.id FOR NO KEY UPDATE OF t"
_MINE = "SELECT t.id FROM tally.{table} t WHERE t.tenant_id = $1 AND {mine} ORDER BY t.id"
_LEFT = "SELECT 1 FROM tally.data_key k WHERE k.tenant_id = $1 AND k.subject = $2 AND k.state = 'live' LIMIT 1"
_CLASSES = "SELECT DISTINCT k.class FROM tally.data_key k WHERE k.tenant_id = $1 AND k.subject = $2"
# Waits for whoever is making the same key. One byte is no wrapped key, which is how a tombstone is told apart.
_TOMBSTONE = (
    "INSERT INTO tally.data_key (tenant_id, subject, class, key_id, wrapped, epoch) "
    "VALUES ($1, $2, $3, $4, '\\x00', $5) ON CONFLICT (tenant_id, subject, class) DO NOTHING"
)
_LIVING = (
    "FROM tally.data_key k WHERE k.tenant_id = $1 AND k.subject = ANY ($2) AND k.class = ANY ($3) "
    "AND k.state = 'live' ORDER BY k.id FOR UPDATE"
)
_ERASE = (
    f"WITH held AS MATERIALIZED (SELECT k.id, k.wrapped = '\\x00' AS empty {_LIVING}) "
    "UPDATE tally.data_key k SET state = 'erased', wrapped = NULL FROM held "
    "WHERE k.tenant_id = $1 AND k.id = held.id RETURNING k.epoch, held.empty"
)
_FORGET = "SELECT tally.forget_indexes($1, $2, $3)"
