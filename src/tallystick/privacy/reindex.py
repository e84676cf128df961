"""Rotation of the keys of blind indexes: every searchable value indexed anew, while everybody writes and searches.

Each index has two columns: keys of odd generations stand in ``x_bidx``, of even ones in ``x_bidx_next``. While the next
one is filled, whatever is written has both, and the unique rules stand on both; then searches go by the next alone and
the old column is emptied. How far a rotation is stands in ``index_state`` and in the rows, so a run that was killed is
simply run again. Why it is done so: docs/decisions/0025-index-rotation.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tallystick.entity import spec_of
from tallystick.errors import Conflict, Erased, Invalid, Serialization

if TYPE_CHECKING:
    from tallystick.session import Session
    from tallystick.spec import EntitySpec, FieldSpec

PERMISSION: Final = "keys.manage"
BATCH: Final = 500
REST: Final = timedelta(minutes=5)
"""For how long a key stands before it can be rotated again: processes go by what they read a minute ago."""
_PATIENCE: Final = 60
_PAUSE: Final = 0.25
_FIRST: Final = UUID(int=0)
_SETTLED: Final = "settled"
_FILLING: Final = "filling"


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One blind index of a tenant: the generation of its key, how far its rotation is, and when that began.

    ``phase`` is "settled", "filling" or "clearing"; ``begun`` is None for a key that was never rotated.
    """

    table: str
    column: str
    generation: int
    phase: str
    begun: datetime | None


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What a run did for one blind index: the generation its key has now, and the rows that were indexed anew.

    ``recent`` says that the key was rotated minutes ago and was left as it is.
    """

    table: str
    column: str
    generation: int
    rows: int
    recent: bool = False


async def index_status(db: Session) -> tuple[IndexStatus, ...]:
    """Every blind index of the application, as it is in the session's tenant. Needs the permission "keys.manage"."""
    await db.require(PERMISSION)
    known = {(row[0], row[1]): row[2:] for row in await db.unit.call(_STATES, (db.tenant_id,))}
    found = []
    for spec, blind in _indexes(db):
        generation, phase, begun = known.get((spec.table, blind.index_column), (1, _SETTLED, None))
        found.append(IndexStatus(spec.table, blind.index_column, generation, phase, begun))
    return tuple(found)


async def rotate_index(
    db: Session,
    column: str | None = None,
    *,
    batch: int = BATCH,
    report: Callable[[str, int], None] | None = None,
) -> tuple[Reindexed, ...]:
    """Rotate the keys of the session's tenant's blind indexes, all of them or those of one field ("users.email").

    It works while others do, a batch a transaction, and goes on where a killed run stood. ``report`` is told an index
    and how many of its rows are done. A key that was rotated within five minutes is left as it is, unless its field
    was named: then it is a ``Conflict``. Values of erased people have no index any more and get none; those from before
    their field declared the index get one. Needs "keys.manage". Raises ``Invalid`` for a field there is not,
    ``Duplicate`` for values that a rule declared with the index forbids, ``Conflict`` where rows are held all the time.
    """
    await db.require(PERMISSION)
    db.sealer.keyring()
    if db.unit.depth:
        raise Invalid("rotate_index() commits as it goes.", remedy="Call it outside a transaction.")
    if batch.__class__ is not int or not 1 <= batch <= 10_000:
        raise Invalid("A batch is 1 to 10,000 rows.", field="batch", remedy=f"Leave it out for {BATCH}.")
    done: list[Reindexed] = []
    for spec, blind in _chosen(db, column):
        done.append(await _Rotation(db, spec, blind, batch, report).run(named=column is not None))
    return tuple(done)


class _Rotation:
    """The rotation of one index of one tenant."""

    def __init__(
        self,
        db: Session,
        spec: EntitySpec,
        blind: FieldSpec,
        batch: int,
        report: Callable[[str, int], None] | None,
    ) -> None:
        self.db, self.spec, self.blind, self.batch, self.report = db, spec, blind, batch, report
        # The index over closing characters goes by a name of its own; the value is in the column of the field.
        self.field = next(f for f in spec.fields.values() if blind in f.blind)
        self.place = (spec.table, blind.index_column)
        self.rows = 0

    async def run(self, *, named: bool) -> Reindexed:
        generation, phase, fresh = await self._state()
        if phase == _SETTLED:
            if fresh and not named:
                return Reindexed(*self.place, generation, 0, recent=True)
            await self._step("begin")
            phase = _FILLING
        if phase == _FILLING:
            for attempt in range(_PATIENCE):
                passed = await self._fill(generation)
                # Whoever has not heard of it until now is told by the database.
                if not passed and await self._step("switch") is not None:
                    generation += 1
                    break
                await self._pause(attempt)
        for attempt in range(_PATIENCE):
            while await self._clear():
                pass
            if await self._step("settle") is not None:
                break
            await self._pause(attempt)
        self.db.sealer.renew()
        return Reindexed(*self.place, generation, self.rows)

    async def _state(self) -> tuple[int, str, bool]:
        rows = await self.db.unit.call(_STATE, (self.db.tenant_id, *self.place, REST))
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else (1, _SETTLED, False)

    async def _step(self, step: str) -> int | None:
        """The generation after a step; None where rows are left that it has to wait for."""
        for attempt in range(_PATIENCE):
            try:
                ((answer,),) = await self.db.unit.change(_STEP, (*self.place, step))
            except Serialization:
                await self._pause(attempt)
                continue
            except Conflict as problem:
                # Somebody is writing for longer than the step may keep everybody waiting.
                if attempt + 1 == _PATIENCE or (await self._taken(step)):
                    raise
                del problem
                await self._pause(attempt)
                continue
            self.db.sealer.renew()
            return None if answer is None else int(answer)
        raise self._held()

    async def _taken(self, step: str) -> bool:
        """Whether a step cannot follow on what is, however long one waits."""
        _, phase, fresh = await self._state()
        return {"begin": fresh or phase != _SETTLED, "switch": phase != _FILLING, "settle": phase != "clearing"}[step]

    async def _fill(self, generation: int) -> int:
        """Index the values that are left; answers how many rows somebody held or changed meanwhile."""
        sealer, name, after, passed = self.db.sealer, self.field.name, _FIRST, 0
        later = self._later(generation)
        sql = _LEFT.format(field=name, table=self.spec.qualified, later=later)
        mark = (generation + 1).to_bytes(2, "big")
        while rows := await self.db.unit.call(sql, (self.db.tenant_id, after, mark, self.batch)):
            opener = await sealer.opener_of({bytes(row[1][2:18]) for row in rows}, await sealer.generation())
            ids: list[UUID] = []
            seen: list[bytes] = []
            made: list[bytes] = []
            for id, envelope in rows:
                try:
                    value = opener.reveal(self.spec.table, self.field, envelope, id)
                except Erased:
                    continue
                index = sealer.at(self.spec.table, self.blind, value, generation + 1)
                if index is not None:
                    ids.append(id)
                    seen.append(envelope)
                    made.append(index)
            passed += len(ids) - await self._change(_FILL, (*self.place, ids, seen, made))
            after = rows[-1][0]
        return passed

    async def _clear(self) -> int:
        return await self._change(_CLEAR, (*self.place, self.batch), tell=False)

    async def _change(self, sql: str, args: Sequence[Any], *, tell: bool = True) -> int:
        for attempt in range(_PATIENCE):
            try:
                ((touched,),) = await self.db.unit.change(sql, args)
            except Serialization:
                await self._pause(attempt)
                continue
            if tell:
                self.rows += int(touched)
                if self.report is not None:
                    self.report(".".join(self.place), self.rows)
            return int(touched)
        raise self._held()

    async def _pause(self, attempt: int) -> None:
        if attempt + 1 == _PATIENCE:
            raise self._held()
        await asyncio.sleep(_PAUSE if attempt else 0)

    def _later(self, generation: int) -> str:
        return self.blind.next_column if generation % 2 else self.blind.index_column

    def _held(self) -> Conflict:
        return Conflict(
            f"Rows of {self.spec.name} are held by others all the time, or cannot be opened.",
            entity=self.spec.name,
            remedy="Run it again: it goes on where it stands. `tallystick keys verify` tells whether values open.",
        )


def _indexes(db: Session) -> list[tuple[EntitySpec, FieldSpec]]:
    specs = sorted(map(spec_of, db.entities), key=lambda s: s.table)
    return [(spec, blind) for spec in specs for blind in spec.blind]


def _chosen(db: Session, column: str | None) -> list[tuple[EntitySpec, FieldSpec]]:
    every = _indexes(db)
    if column is None:
        return every
    owner, _, field = column.partition(".") if isinstance(column, str) else ("", "", "")
    chosen = [
        (spec, blind)
        for spec, blind in every
        if owner.lower() in _names(spec) and field in spec.fields and blind in spec.fields[field].blind
    ]
    if not chosen:
        names = dict.fromkeys(f"{s.table}.{f.name}" for s, b in every for f in s.fields.values() if b in f.blind)
        raise Invalid("There is no such searchable field.", field="column", remedy=f"Fields are: {', '.join(names)}.")
    return chosen


def _names(spec: EntitySpec) -> set[str]:
    """What an entity may be called here; an extension also by what it extends."""
    classes = [spec.cls, *([spec.extends] if spec.extends is not None else [])]
    return {spec.table, *(f"{cls.__name__.lower()}{end}" for cls in classes for end in ("", "s"))}


_STATES: Final = (
    "SELECT logical, field, generation, phase, begun_at FROM tally.index_state WHERE tenant_id = $1 ORDER BY 1, 2"
)
_STATE: Final = (
    "SELECT generation, phase, begun_at > now() - $4::interval FROM tally.index_state "
    "WHERE tenant_id = $1 AND logical = $2 AND field = $3"
)
_STEP: Final = "SELECT tally.index_step($1, $2, $3)"
_FILL: Final = "SELECT tally.fill_index($1, $2, $3::uuid[], $4::bytea[], $5::bytea[])"
_CLEAR: Final = "SELECT tally.clear_index($1, $2, $3)"
_LEFT: Final = (
    "SELECT id, {field} FROM {table} WHERE tenant_id = $1 AND id > $2 AND {field} IS NOT NULL "
    "AND ({later} IS NULL OR substring({later} FROM 1 FOR 2) <> $3) ORDER BY id LIMIT $4"
)
