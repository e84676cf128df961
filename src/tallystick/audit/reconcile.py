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
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

import msgspec

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
        found.append(_Table(_TENANT, "tally_ref.tenant", _REGISTRY, _TENANT_LEFT_OUT))
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
        await self._within(lambda: self._learn(report), _PLAIN)
        done, at = 0, wanted.index(name)
        while at < len(wanted):
            table = self._tables[wanted[at]]
            if (batches is not None and done >= batches) or len(report.findings) >= MOST:
                report.next = f"{step}:{table.name}:{key}"
                break
            work = {"rows": self._rows, "log": self._log, "entries": self._entries, "derived": self._derived}[step]
            settings = _PLAIN if step == "derived" else _PINNED
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
        rows = await self._unit.call(_CAPTURED, (list(self._tables),))
        report.unknown = tuple(row[0] for row in rows)

    async def _rows(self, report: ReconcileReport, table: _Table, key: str) -> str | None:
        """A batch of rows, and the last image of each. Answers the last key, or None at the end."""
        sql = _ROWS.format(rows=table.rows, batch=self._batch)
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
        known = {} if image is None else _decode(image)
        columns = differing(_decode(now), known, await self._additions(table))
        if columns:
            return Discrepancy(table.name, str(id), "edited", columns, seq)
        return None if bound is not False else Discrepancy(table.name, str(id), "rewritten", seq=seq)

    async def _additions(self, table: _Table) -> dict[str, list[Any]]:
        """What a column has in rows that are older than the column. A generated one has what the others make of it."""
        if table.name not in self._added:
            found: dict[str, list[Any]] = {}
            for name, generated, fast, default in await self._unit.call(_COLUMNS, (table.regclass,)):
                values = [] if fast is None else [_decode(fast)]
                found[name] = [...] if generated else [None, *values, *constant(default)]
            self._added[table.name] = found
        return self._added[table.name]

    async def _log(self, report: ReconcileReport, table: _Table, key: str) -> str | None:
        """A batch of the keys that the log knows, and whether their rows are there."""
        sql = _LOG.format(rows=table.rows, batch=self._batch)
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
        rows = await self._unit.call(_ENTRIES.format(batch=self._batch + 1), args)
        for row in rows[: self._batch]:
            if row[2] is not None:
                columns = differing(_decode(row[2]), _decode(row[3]), await self._additions(table))
                if columns:
                    report.findings.append(Discrepancy(table.name, row[0], "between", columns, row[1]))
        report.entries += len(rows[: self._batch])
        return f"{rows[self._batch - 1][0]}:{rows[self._batch - 1][1]}" if len(rows) > self._batch else None

    async def _derived(self, report: ReconcileReport, table: _Table, key: str) -> str | None:
        """A batch of rows whose columns no log has: are they what they come from?"""
        tenant = self._unit.tenant
        page = _PAGE.format(rows=table.rows, batch=self._batch)
        ids = [row[0] for row in await self._unit.call(page, (tenant, UUID(key)))]
        sql = _DERIVED.format(rows=table.rows, function=table.derived)
        for id, columns in await self._unit.call(sql, (tenant, ids)) if ids else ():
            report.findings.append(Discrepancy(table.name, str(id), "derived", tuple(columns)))
        report.derived += len(ids)
        return None if len(ids) < self._batch else str(ids[-1])


def differing(now: Mapping[str, Any], image: Mapping[str, Any], added: Mapping[str, list[Any]]) -> tuple[str, ...]:
    """The columns of a row that are not as its image has them.

    A column that the image lacks was added later: it may be null, have its default, or the value of a column that the
    table no longer has, for then it was renamed. ``added`` are the values that each column may have so; an ellipsis
    stands for any. A column that only the image has was dropped.
    """
    gone = [value for name, value in image.items() if name not in now]
    found = []
    for name, value in now.items():
        if name in image:
            if image[name] != value:
                found.append(name)
        elif value not in (allowed := added.get(name, [None])) and ... not in allowed and value not in gone:
            found.append(name)
    return tuple(found)


def constant(default: str | None) -> list[Any]:
    """The value of a default that is a constant; nothing is run to find out."""
    text = default or ""
    if quoted := re.fullmatch(r"'((?:[^']|'')*)'(::[a-z_ ]+(\([0-9, ]+\))?(\[\])?)?", text):
        words = quoted[1].replace("''", "'")
        if (quoted[2] or "").startswith("::json"):
            return [_decode(words)]
        if (quoted[2] or "").startswith("::timestamp"):
            # As PostgreSQL writes moments in UTC, and as they are in JSON.
            words = words.replace(" ", "T", 1)
            return [f"{words}:00" if words.endswith("+00") else words]
        return [words, *([_decode(words)] if re.fullmatch(r"-?[0-9]{1,80}(\.[0-9]{1,80})?", words) else [])]
    if text in ("true", "false") or re.fullmatch(r"-?[0-9]{1,80}(\.[0-9]{1,80})?", text):
        return [_decode(text)]
    return []


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
_decode = msgspec.json.Decoder(float_hook=Decimal).decode

# The planner takes a month without statistics for an empty one; what is left to it is the index by key.
_PINNED = """
SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, YMD', true),
  set_config('bytea_output', 'hex', true), set_config('intervalstyle', 'iso_8601', true),
  set_config('extra_float_digits', '1', true),
  set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
  set_config('enable_sort', 'off', true), set_config('enable_hashjoin', 'off', true),
  set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)
"""
# A hot account may have tens of millions of transfers, and there is no way but to add them up.
_PLAIN = "SELECT set_config('jit', 'off', true), set_config('statement_timeout', '600000', true)"
_REGISTRY = "(SELECT r.id AS tenant_id, r.* FROM tally_ref.tenant_self() r)"
_CAPTURED = """
SELECT DISTINCT c.relname::text FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'tally_audit' AND p.proname = 'capture' AND c.relname::text <> ALL ($1::text[]) ORDER BY 1
"""
_COLUMNS = """
SELECT a.attname::text, a.attgenerated <> '', (to_jsonb(a.attmissingval) -> 0)::text,
  pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
# The leaf tells whether the image is the one that was sealed; one that is not sealed yet has none. A key is asked for
# as a range, so that only the index by key gives the order.
_ROWS = """
WITH page AS MATERIALIZED (
  SELECT t.id, to_jsonb(t) - $3::text[] AS now FROM {rows} t
  WHERE t.tenant_id = $1 AND t.id > $2 ORDER BY t.id LIMIT {batch}
), found AS (
  SELECT p.id, p.now, e.seq, e.op, e.body::jsonb -> 'new' AS image,
    (SELECT l.hash FROM tally_audit.leaf l WHERE l.tenant_id = $1 AND l.seq = e.seq)
      = sha256('\\x00'::bytea || e.salt || convert_to(e.body, 'UTF8')) AS bound
  FROM page p LEFT JOIN LATERAL (
    SELECT i.seq, i.op, i.salt, i.body FROM tally_audit.entry i
    WHERE i.tenant_id = $1 AND i."table" = $4 AND i.key BETWEEN p.id::text AND p.id::text
      AND i.op IN ('I', 'U', 'D', 'B') ORDER BY i.key DESC, i.seq DESC LIMIT 1
  ) e ON true
), dropped AS MATERIALIZED (
  SELECT to_date(max(d.key), 'YYYY-MM') + interval '1 month' AS until FROM tally_audit.entry d
  WHERE d.tenant_id = $1 AND d."table" = 'tally_audit.entry' AND d.op = 'P'
)
SELECT s.rows, s.last, f.id, f.now::text, f.seq, f.op, f.image::text, f.bound,
  coalesce(f.now ->> 'updated_at', f.now ->> 'created_at')::timestamptz < (SELECT until FROM dropped)
FROM (SELECT count(*) AS rows, (array_agg(p.id ORDER BY p.id DESC))[1] AS last FROM page p) s
LEFT JOIN found f ON f.image IS DISTINCT FROM f.now OR f.bound IS FALSE
"""
# From the last key to the first, so that one step down the index finds a key's last entry.
_LOG = """
WITH RECURSIVE walk (n, key, op, seq) AS (
  (SELECT 1, e.key, e.op, e.seq FROM tally_audit.entry e
    WHERE e.tenant_id = $1 AND e."table" = $2 AND e.key < $3 AND e.op IN ('I', 'U', 'D', 'B')
    ORDER BY e.key DESC, e.seq DESC LIMIT 1)
  UNION ALL
  SELECT w.n + 1, f.key, f.op, f.seq FROM walk w CROSS JOIN LATERAL (
    SELECT e.key, e.op, e.seq FROM tally_audit.entry e
    WHERE e.tenant_id = $1 AND e."table" = $2 AND e.key < w.key AND e.op IN ('I', 'U', 'D', 'B')
    ORDER BY e.key DESC, e.seq DESC LIMIT 1
  ) f WHERE w.n < {batch}
), gone AS (
  SELECT w.key, w.seq FROM (
    SELECT k.*, CASE WHEN k.key ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' THEN k.key::uuid END AS id
    FROM walk k WHERE k.op <> 'D'
  ) w LEFT JOIN LATERAL (
    SELECT true AS there FROM {rows} t
    WHERE t.tenant_id = $1 AND t.id BETWEEN w.id AND w.id ORDER BY t.id LIMIT 1
  ) r ON true WHERE r.there IS NULL
)
SELECT s.keys, s.last, g.key, g.seq
FROM (SELECT count(*) AS keys, min(w.key) AS last FROM walk w) s LEFT JOIN gone g ON true
"""
_ENTRIES = """
SELECT f.key, f.seq, CASE WHEN f.differs THEN f.old::text END, f.before::text FROM (
  SELECT p.key, p.seq, p.old, p.before, p.op IN ('U', 'D') AND p.old <> p.before AS differs FROM (
    SELECT e.key, e.seq, e.op, e.body::jsonb -> 'old' AS old,
      lead(e.body::jsonb -> 'new') OVER (PARTITION BY e.key ORDER BY e.seq DESC) AS before
    FROM (
      SELECT i.key, i.seq, i.op, i.body FROM tally_audit.entry i
      WHERE i.tenant_id = $1 AND i."table" = $2 AND (i.key, i.seq) < ($3, $4) AND i.op IN ('I', 'U', 'D', 'B')
      ORDER BY i.key DESC, i.seq DESC LIMIT {batch}
    ) e
  ) p
) f ORDER BY f.key DESC, f.seq DESC
"""
_PAGE = "SELECT t.id FROM {rows} t WHERE t.tenant_id = $1 AND t.id > $2 ORDER BY t.id LIMIT {batch}"
# A row that the function leaves out has nothing to be compared with.
_DERIVED = """
SELECT f.id, f.columns FROM (
  SELECT d.id, (SELECT array_agg(w.key ORDER BY w.key) FROM jsonb_each(to_jsonb(d) - 'id') w
    WHERE to_jsonb(t) -> w.key IS DISTINCT FROM w.value) AS columns
  FROM {function}($1::uuid, $2::uuid[]) d
  JOIN (SELECT i.* FROM {rows} i WHERE i.tenant_id = $1 AND i.id = ANY ($2)) t ON t.id = d.id
) f WHERE f.columns IS NOT NULL ORDER BY f.id
"""
