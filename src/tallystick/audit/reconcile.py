"""Current rows against the last image that the log has of them: what was changed past the capture.

Whoever owns a table can switch its capture off, edit a row or put old bytes back, and switch it on again. No trigger
sees that, and the log is whole; but the row is not what the log says it is. One statement compares a batch of rows with
their images in one snapshot, and an entry commits with its row, so writers at work cause no alarm. It runs as the
application's role within the wall of one tenant, and needs no right that this role does not have.

What the database works out of other rows, balances above all, has no image: it is worked out again, by the function
that the entity's rules name, in one snapshot too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from tallystick.audit.comparisons import (
    CAPTURED,
    COLUMNS,
    DERIVED,
    ENTRIES,
    LOG,
    PAGE,
    PINNED,
    PLAIN,
    REGISTRY,
    ROWS,
)
from tallystick.audit.images import constant, decode, differing
from tallystick.errors import Invalid
from tallystick.ids import NIL

if TYPE_CHECKING:
    from tallystick.spec import EntitySpec
    from tallystick.stores.base import Unit

__all__ = ["Discrepancy", "ReconcileReport", "Reconciler"]

Kind = Literal["edited", "added", "back", "removed", "rewritten", "between", "derived"]
BATCH: Final = 1_000
MOST: Final = 1_000
"""A call ends early after so many findings; it answers where it stopped."""
_END: Final = "z"
_LOGGED: Final = ("rows", "log", "entries")
_TENANT: Final = "tenant"
# The registry's rows are images without these; see the trigger of kit_0002.
_TENANT_LEFT_OUT: Final = ("billing_address", "billing_email", "tenant_id")


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A row that is not what the log says: which one, and how; never a value.

    ``edited``: the ``columns`` differ from the last image, that of entry ``seq``. ``added``: the log knows nothing of
    it. ``back``: it is there although the log says that it was removed. ``removed``: it is gone although the log does
    not say so. ``rewritten``: its last image is not what was sealed. ``between``: entry ``seq`` found other ``columns``
    than the entry before it had left, so the row was edited between the two. ``derived``: the ``columns``, which no log
    has, are not what the rows that they come from make of them.
    """

    table: str
    key: str
    kind: Kind
    columns: tuple[str, ...] = ()
    seq: int | None = None


@dataclass(slots=True)
class ReconcileReport:
    """What was compared for one tenant. ``next`` says where to go on, and is None when all was gone through.

    ``rows`` were compared with their images, ``logged`` keys of the log with the rows, and, where that was asked for,
    ``entries`` with the entry before them; what ``derived`` rows hold was worked out again. ``expired`` rows have not
    changed since before retention dropped their images, so nothing can be said of them. ``unknown`` are captured
    tables that the application was not opened with.
    """

    tenant: UUID
    rows: int = 0
    logged: int = 0
    entries: int = 0
    derived: int = 0
    expired: int = 0
    tables: int = 0
    findings: list[Discrepancy] = field(default_factory=list)
    unknown: tuple[str, ...] = ()
    next: str | None = None
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether everything was compared and nothing was found."""
        return not self.findings and self.next is None


@dataclass(frozen=True, slots=True)
class _Table:
    """A table: the name it has in the log, where its rows are, and the columns that stay out of the log.

    ``steps`` are what is done with it, in order, and ``derived`` is the function that works columns out again.
    """

    name: str
    regclass: str
    rows: str
    left_out: tuple[str, ...]
    steps: tuple[str, ...] = _LOGGED
    derived: str = ""

    @classmethod
    def of(cls, spec: EntitySpec) -> _Table:
        rows = f'{spec.schema}."{spec.table}"'
        logged = _LOGGED if spec.audit else ()
        steps = (*logged, "derived") if spec.derived else logged
        return cls(spec.table, rows, rows, spec.unaudited, steps, spec.derived or "")


class Reconciler:
    """Goes through a tenant's tables in batches by primary key, each in a short transaction of its own."""

    def __init__(self, unit: Unit, specs: Iterable[EntitySpec], *, batch: int = BATCH) -> None:
        if batch.__class__ is not int or not 1 <= batch <= 100_000:
            raise Invalid("A batch has 1 to 100,000 rows.", field="batch", remedy=f"The default is {BATCH:,}.")
        self._unit = unit
        self._batch = batch
        found = [_Table.of(s) for s in specs if (s.audit or s.derived) and s.schema == "tally"]
        found.append(_Table(_TENANT, "tally_ref.tenant", REGISTRY, _TENANT_LEFT_OUT))
        # The wrapped key stays out of the log and is bound to its key id anyway; the rest of the row is compared.
        found.append(_Table("data_key", 'tally."data_key"', 'tally."data_key"', ("wrapped",)))
        found.append(_Table("index_state", 'tally."index_state"', 'tally."index_state"', ()))
        self._tables = {t.name: t for t in sorted(found, key=lambda t: t.name)}
        self._added: dict[str, dict[str, list[Any]]] = {}

    async def run(
        self,
        *,
        tables: Iterable[str] | None = None,
        deep: bool = False,
        after: str | None = None,
        batches: int | None = None,
        told: Callable[[ReconcileReport], Awaitable[None] | None] | None = None,
    ) -> ReconcileReport:
        """Compare, from where ``after`` says on; ``batches`` is how many to do at most.

        ``deep`` also holds every entry against the one before it, which reads the whole log. ``told`` hears of the
        report after every batch. Raises ``Invalid`` for a table or position that there is not.
        """
        started = time.perf_counter()
        report = ReconcileReport(self._unit.tenant)
        wanted = self._wanted(tables)
        known = [self._tables[name] for name in wanted]
        step, name, key = _position(after, known) if after is not None else _start(known[0])
        await self._within(lambda: self._learn(report), PLAIN)
        done, at = 0, wanted.index(name)
        while at < len(wanted):
            table = self._tables[wanted[at]]
            if (batches is not None and done >= batches) or len(report.findings) >= MOST:
                report.next = f"{step}:{table.name}:{key}"
                break
            work = {"rows": self._rows, "log": self._log, "entries": self._entries, "derived": self._derived}[step]
            settings = PLAIN if step == "derived" else PINNED
            last = await self._within(lambda: work(report, table, key), settings)  # noqa: B023
            done += 1
            if last is not None:
                key = last
            else:
                rest = [s for s in table.steps[table.steps.index(step) + 1 :] if s != "entries" or deep]
                if rest:
                    step, key = rest[0], _FIRST[rest[0]]
                else:
                    at += 1
                    report.tables += 1
                    step, _, key = _start(known[min(at, len(known) - 1)])
            report.seconds = time.perf_counter() - started
            if told is not None:
                report.next = None if at == len(wanted) else f"{step}:{wanted[at]}:{key}"
                heard = told(report)
                if heard is not None:
                    await heard
                report.next = None
        report.seconds = time.perf_counter() - started
        return report

    def _wanted(self, tables: Iterable[str] | None) -> list[str]:
        if tables is None:
            return list(self._tables)
        found = sorted(set(tables))
        if not found or any(name not in self._tables for name in found):
            raise Invalid(
                "There is no audited table of that name.",
                field="tables",
                remedy="Name tables as the log does, of entities that the application was opened with.",
            )
        return found

    async def _within(self, work: Callable[[], Awaitable[Any]], settings: str) -> Any:
        """One snapshot a statement, and values look as the capture has them look."""
        unit = self._unit
        await unit.begin(None, read_only=True)
        try:
            await unit.call(settings, ())
            found = await work()
        except BaseException:
            await unit.rollback()
            raise
        await unit.rollback()
        return found

    async def _learn(self, report: ReconcileReport) -> None:
        rows = await self._unit.call(CAPTURED, (list(self._tables),))
        report.unknown = tuple(row[0] for row in rows)

    async def _rows(self, report: ReconcileReport, table: _Table, key: str) -> str | None:
        """A batch of rows, and the last image of each. Answers the last key, or None at the end."""
        sql = ROWS.format(rows=table.rows, batch=self._batch)
        args = (self._unit.tenant, UUID(key), list(table.left_out), table.name)
        count, last = 0, None
        for row in await self._unit.call(sql, args):
            count, last = row[0], row[1]
            if row[2] is not None:
                found = await self._judge(report, table, row)
                if found is not None:
                    report.findings.append(found)
        report.rows += count
        return None if count < self._batch else str(last)

    async def _judge(self, report: ReconcileReport, table: _Table, row: Any) -> Discrepancy | None:
        _, _, id, now, seq, op, image, bound, expired = row
        if seq is None:
            if expired:
                report.expired += 1
                return None
            return Discrepancy(table.name, str(id), "added")
        if op == "D":
            return Discrepancy(table.name, str(id), "back", seq=seq)
        known = {} if image is None else decode(image)
        columns = differing(decode(now), known, await self._additions(table))
        if columns:
            return Discrepancy(table.name, str(id), "edited", columns, seq)
        return None if bound is not False else Discrepancy(table.name, str(id), "rewritten", seq=seq)

    async def _additions(self, table: _Table) -> dict[str, list[Any]]:
        """What a column has in rows that are older than the column. A generated one has what the others make of it."""
        if table.name not in self._added:
            found: dict[str, list[Any]] = {}
            for name, generated, fast, default in await self._unit.call(COLUMNS, (table.regclass,)):
                values = [] if fast is None else [decode(fast)]
                found[name] = [...] if generated else [None, *values, *constant(default)]
            self._added[table.name] = found
        return self._added[table.name]

    async def _log(self, report: ReconcileReport, table: _Table, key: str) -> str | None:
        """A batch of the keys that the log knows, and whether their rows are there."""
        sql = LOG.format(rows=table.rows, batch=self._batch)
        count, last = 0, None
        for row in await self._unit.call(sql, (self._unit.tenant, table.name, key)):
            count, last = row[0], row[1]
            if row[2] is not None:
                report.findings.append(Discrepancy(table.name, row[2], "removed", seq=row[3]))
        report.logged += count
        return None if count < self._batch else last

    async def _entries(self, report: ReconcileReport, table: _Table, key: str) -> str | None:
        """A batch of entries, newest first for each key: did each find what the one before it had left?"""
        name, _, seq = key.rpartition(":")
        args = (self._unit.tenant, table.name, name, int(seq))
        rows = await self._unit.call(ENTRIES.format(batch=self._batch + 1), args)
        for row in rows[: self._batch]:
            if row[2] is not None:
                columns = differing(decode(row[2]), decode(row[3]), await self._additions(table))
                if columns:
                    report.findings.append(Discrepancy(table.name, row[0], "between", columns, row[1]))
        report.entries += len(rows[: self._batch])
        return f"{rows[self._batch - 1][0]}:{rows[self._batch - 1][1]}" if len(rows) > self._batch else None

    async def _derived(self, report: ReconcileReport, table: _Table, key: str) -> str | None:
        """A batch of rows whose columns no log has: are they what they come from?"""
        tenant = self._unit.tenant
        page = PAGE.format(rows=table.rows, batch=self._batch)
        ids = [row[0] for row in await self._unit.call(page, (tenant, UUID(key)))]
        sql = DERIVED.format(rows=table.rows, function=table.derived)
        for id, columns in await self._unit.call(sql, (tenant, ids)) if ids else ():
            report.findings.append(Discrepancy(table.name, str(id), "derived", tuple(columns)))
        report.derived += len(ids)
        return None if len(ids) < self._batch else str(ids[-1])


def _start(table: _Table) -> tuple[str, str, str]:
    return table.steps[0], table.name, _FIRST[table.steps[0]]


def _position(after: str, tables: list[_Table]) -> tuple[str, str, str]:
    step, _, rest = after.partition(":")
    name, _, key = rest.partition(":")
    form = {"rows": _ID, "log": _KEY, "entries": _NUMBERED, "derived": _ID}.get(step)
    if form is not None and form.fullmatch(key) and any(t.name == name and step in t.steps for t in tables):
        return step, name, key
    raise Invalid(
        "The position is not one of this comparison.",
        field="after",
        remedy="Give the `next` of a report over the same tables, or start from the beginning.",
    )


_FIRST: Final = {"rows": str(NIL), "log": _END, "entries": f"{_END}:0", "derived": str(NIL)}
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = re.compile(r"[^\0]{0,512}")
_NUMBERED = re.compile(r"[^\0]{0,512}:[0-9]{1,18}")
