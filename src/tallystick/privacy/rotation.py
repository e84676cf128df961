"""Rotation: a new key epoch, every data key wrapped anew in it, and the end of the old one.

Values are never touched: a data key stays what it is, and only what protects it changes. All of it happens while
everybody works. Where it stands is in the rows themselves, so a run that was killed is simply run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tallystick.errors import Conflict, Erased, Invalid, Tampered
from tallystick.privacy.envelope import seal
from tallystick.privacy.keyring import unwrapped, wrap_context
from tallystick.privacy.reindex import IndexStatus, Reindexed, index_status, rotate_index

if TYPE_CHECKING:
    from tallystick.privacy.keyring import Keyring
    from tallystick.session import Session
    from tallystick.spec import EntitySpec

__all__ = [
    "EpochStatus",
    "IndexStatus",
    "KeyStatus",
    "Reindexed",
    "Rewrapped",
    "Verified",
    "destroy_epoch",
    "index_status",
    "rewrap",
    "rotate",
    "rotate_index",
    "status",
    "verify",
]
PERMISSION: Final = "keys.manage"
BATCH: Final = 2_000
_PATIENCE: Final = 40
_PAUSE: Final = 0.25
_FIRST: Final = UUID(int=0)
NEVER: Final = 2**31 - 1
"""The oldest epoch of a tenant that left: none in which a key could be made is ever to come."""


@dataclass(frozen=True, slots=True)
class EpochStatus:
    """One epoch of a tenant: when it ended, and how many data keys it wraps (``live``) or wrapped (``erased``)."""

    epoch: int
    ended: datetime | None
    live: int
    erased: int


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """The keys of a tenant. New keys are wrapped in ``current``; before ``oldest`` nothing can be wrapped any more.

    ``indexes`` are its blind indexes, each with the generation of its key.
    """

    current: int | None
    oldest: int
    epochs: tuple[EpochStatus, ...]
    erasures: int
    indexes: tuple[IndexStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What a run of ``rewrap`` did: keys wrapped anew in ``epoch``, and keys that somebody held all the time."""

    epoch: int
    done: int
    left: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What ``verify`` found: keys that opened by epoch, values that opened, those of erased people, and failures."""

    keys: dict[int, int]
    values: int
    erased: int
    failures: tuple[str, ...]


async def status(db: Session) -> KeyStatus:
    """The epochs of the session's tenant, what they wrap, and its blind indexes. Needs the permission "keys.manage"."""
    keyring = await _keyring(db)
    known = await asyncio.to_thread(keyring.provider.epochs, db.tenant_id)
    rows = await db.unit.call(_COUNT, (db.tenant_id,))
    counts = {row[0]: (row[1], row[2]) for row in rows}
    states = await db.unit.call(_OLDEST, (db.tenant_id,))
    epochs = tuple(EpochStatus(n, known.get(n), *counts.get(n, (0, 0))) for n in sorted({*known, *counts}))
    living = [n for n, ended in known.items() if ended is None]
    lines = await asyncio.to_thread(keyring.provider.erasures, db.tenant_id)
    return KeyStatus(
        max(living, default=None), states[0][0] if states else 1, epochs, len(lines), await index_status(db)
    )


async def rotate(db: Session) -> int:
    """Begin a new epoch for the session's tenant and answer its number; new data keys are wrapped in it from now on.

    Processes that know the epoch before may wrap new keys in it until ``rewrap`` closes it. Needs "keys.manage".
    Raises ``Unsupported`` for keys without a folder, ``Unavailable``.
    """
    keyring = await _keyring(db)
    epoch = await asyncio.to_thread(keyring.provider.begin_epoch, db.tenant_id)
    keyring.forget(db.tenant_id)
    return epoch


async def rewrap(db: Session, *, batch: int = BATCH, report: Callable[[int, int], None] | None = None) -> Rewrapped:
    """Wrap every data key of the session's tenant in the newest epoch, a batch a transaction, while others work.

    ``report`` is told how many are done and how many there were. A key whose person is being written about at the
    moment is passed over and tried again, for some ten seconds. Run it again after a crash. Needs "keys.manage".
    Raises ``Tampered`` for keys that do not open, after all others were wrapped anew.
    """
    keyring, tenant = await _keyring(db), db.tenant_id
    if db.unit.depth:
        raise Invalid("rewrap() commits as it goes.", remedy="Call it outside a transaction.")
    if batch.__class__ is not int or not 1 <= batch <= 10_000:
        raise Invalid("A batch is 1 to 10,000 keys.", field="batch", remedy=f"Leave it out for {BATCH}.")
    keyring.forget(tenant)
    epoch = await keyring.current_epoch(tenant)
    await db.unit.change(_CLOSE, (epoch,))
    total, done = await _older(db, epoch), 0
    left = total
    broken: set[UUID] = set()
    if report is not None:
        report(0, total)
    for attempt in range(_PATIENCE):
        if attempt:
            await asyncio.sleep(_PAUSE)
        for (old,) in await db.unit.call(_EPOCHS, (tenant, epoch)):
            after = _FIRST
            while (moved := await _batch(db, keyring, (old, epoch), after, batch, broken)) is not None:
                count, after = moved
                done += count
                if report is not None:
                    report(done, max(done, total))
        left = await _older(db, epoch)
        if left <= len(broken):
            break
    if broken:
        named = ", ".join(map(str, sorted(broken)[:3]))
        raise Tampered(
            f"{len(broken)} data keys do not open and were left as they are ({named}); {done} were wrapped anew.",
            remedy="Restore those rows of tally.data_key from a backup of their epoch, or erase their people.",
        )
    return Rewrapped(epoch, done, left)


async def destroy_epoch(db: Session, epoch: int) -> None:
    """Destroy an epoch's key for good: what it wrapped can be opened by nobody, in no backup.

    Everything that lives must have been wrapped anew before; backups from before then cannot be read any more. Needs
    "keys.manage". Raises ``Conflict`` while living keys are wrapped by it, ``Invalid`` for the newest epoch or one that
    there is not, ``Erased`` for one that ended.
    """
    keyring, tenant = await _keyring(db), db.tenant_id
    known = await asyncio.to_thread(keyring.provider.epochs, tenant)
    if epoch not in known:
        raise Invalid(f"There is no key epoch {epoch}.", field="epoch", remedy="See `tallystick keys status`.")
    if known[epoch] is not None:
        # Whoever ended it may have died between its tombstone and its key.
        await asyncio.to_thread(keyring.provider.end_epoch, tenant, epoch)
        raise Erased(f"The key epoch {epoch} was ended before.")
    if epoch == max(n for n, ended in known.items() if ended is None):
        raise Invalid(
            f"The key epoch {epoch} is the newest, and new keys are wrapped in it.",
            field="epoch",
            remedy="Begin another first: `tallystick keys rotate`, then `tallystick keys rewrap`.",
        )
    # From here on the database lets nobody wrap a key in it, and whoever was about to has finished.
    await db.unit.change(_CLOSE, (epoch + 1,))
    ((live,),) = await db.unit.call(_LIVE, (tenant, epoch))
    if live:
        raise Conflict(
            f"The key epoch {epoch} still wraps {live} living keys.", remedy="Run `tallystick keys rewrap` first."
        )
    await asyncio.to_thread(keyring.provider.end_epoch, tenant, epoch)
    keyring.forget(tenant)


async def verify(db: Session, specs: Iterable[EntitySpec], *, sample: int = 100) -> Verified:
    """Open a random sample of every living epoch's keys, and the newest values of every sealed column.

    It answers counts and places, never values. Needs "keys.manage".
    """
    keyring, tenant = await _keyring(db), db.tenant_id
    if sample.__class__ is not int or not 1 <= sample <= 10_000:
        raise Invalid("A sample is 1 to 10,000.", field="sample", remedy="Leave it out for 100.")
    keys: dict[int, int] = {}
    failures: list[str] = []
    for (epoch,) in await db.unit.call(_EPOCHS, (tenant, 2**31 - 1)):
        rows = await db.unit.call(_SAMPLE, (tenant, epoch, sample))
        keys[epoch] = 0
        try:
            wrapping = (await keyring.epoch_keys(tenant, (epoch,)))[epoch]
        except Tampered as problem:
            failures.append(f"epoch {epoch}: {problem.problem}")
            continue
        if wrapping is None:
            failures.append(f"epoch {epoch}: it was ended, and living keys are wrapped by it")
            continue
        for id, subject, purpose, key_id, wrapped in rows:
            try:
                unwrapped(wrapping, wrapped, wrap_context(tenant, subject, purpose), key_id)
                keys[epoch] += 1
            except Tampered:
                failures.append(f"data_key {id} (epoch {epoch})")
    values = erased = 0
    for spec in specs:
        if spec.sealed:
            good, gone, bad = await _values(db, spec, sample)
            values, erased = values + good, erased + gone
            failures += bad
    return Verified(keys, values, erased, tuple(failures))


async def has_left(db: Session) -> bool:
    """Whether the session's tenant left: every epoch of its keys has ended, and none will follow."""
    rows = await db.unit.call(_OLDEST, (db.tenant_id,))
    return bool(rows) and rows[0][0] == NEVER


async def _keyring(db: Session) -> Keyring:
    await db.require(PERMISSION)
    return db.sealer.keyring()


async def _older(db: Session, epoch: int) -> int:
    ((count,),) = await db.unit.call(_LEFT, (db.tenant_id, epoch))
    return int(count)


async def _batch(  # noqa: PLR0917
    db: Session, keyring: Keyring, step: tuple[int, int], after: UUID, batch: int, broken: set[UUID]
) -> tuple[int, UUID] | None:
    tenant, (old, epoch) = db.tenant_id, step
    keys = await keyring.epoch_keys(tenant, (old, epoch))
    before, wrapping = keys[old], keys[epoch]
    if before is None or wrapping is None:
        raise Erased(f"The key of epoch {old if before is None else epoch} was destroyed.")
    async with db.transaction():
        rows = await db.unit.call(_TAKE, (tenant, old, after, batch))
        if not rows:
            return None
        ids, wrapped = [], []
        for id, subject, purpose, key_id, held in rows:
            context = wrap_context(tenant, subject, purpose)
            try:
                wrapped.append(seal(wrapping, unwrapped(before, held, context, key_id)[1], context))
            except Tampered:
                broken.add(id)
                continue
            ids.append(id)
        await db.unit.call(_PUT, (tenant, epoch, ids, wrapped))
    return len(ids), rows[-1][0]


async def _values(db: Session, spec: EntitySpec, sample: int) -> tuple[int, int, list[str]]:
    from tallystick.privacy.cells import Opener

    columns = [c.name for f in spec.fields.values() if f.sealed for c in f.columns if c.name in (f.name, f.mask_column)]
    sql = f"SELECT id, {', '.join(columns)} FROM {spec.qualified} WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2"
    rows = await db.unit.call(sql, (db.tenant_id, sample))
    values = erased = 0
    failures: list[str] = []
    keyring = db.sealer.keyring()
    for row in rows:
        for column, envelope in zip(columns, row[1:], strict=True):
            if envelope is None:
                continue
            try:
                opener = Opener(db.tenant_id, await keyring.load(db.unit, [bytes(envelope[2:18])]))
                plain: Any = opener.plain(spec.table, column, envelope, row[0])
            except Tampered:
                failures.append(f"{spec.table}.{column} of {row[0]}")
                continue
            values, erased = values + (plain is not None), erased + (plain is None)
    return values, erased, failures


_COUNT: Final = (
    "SELECT epoch, count(*) FILTER (WHERE state = 'live'), count(*) FILTER (WHERE state = 'erased') "
    "FROM tally.data_key WHERE tenant_id = $1 GROUP BY epoch"
)
_OLDEST: Final = "SELECT oldest_epoch FROM tally.key_state WHERE tenant_id = $1"
_CLOSE: Final = "SELECT tally.close_epochs($1)"
_LIVE: Final = "SELECT count(*) FROM tally.data_key WHERE tenant_id = $1 AND state = 'live' AND epoch <= $2"
_LEFT: Final = "SELECT count(*) FROM tally.data_key WHERE tenant_id = $1 AND state = 'live' AND epoch < $2"
_EPOCHS: Final = (
    "SELECT DISTINCT epoch FROM tally.data_key WHERE tenant_id = $1 AND state = 'live' AND epoch < $2 ORDER BY epoch"
)
# Never waiting while it holds keys itself, so it cannot lock up with anybody who writes about several people.
_TAKE: Final = (
    "SELECT id, subject, class, key_id, wrapped FROM tally.data_key WHERE tenant_id = $1 AND epoch = $2 "
    "AND state = 'live' AND id > $3 ORDER BY id LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED"
)
_PUT: Final = (
    "UPDATE tally.data_key AS k SET epoch = $2, wrapped = w.wrapped FROM unnest($3::uuid[], $4::bytea[]) "
    "AS w (id, wrapped) WHERE k.tenant_id = $1 AND k.id = w.id"
)
_SAMPLE: Final = (
    "SELECT id, subject, class, key_id, wrapped FROM tally.data_key WHERE tenant_id = $1 AND epoch = $2 "
    "AND state = 'live' ORDER BY random() LIMIT $3"
)
