"""How the database would read a query: steps, indexes, sizes. The values of a query and of rows are not in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallystick.conditions import Compare, Missing, OneOf, Present

if TYPE_CHECKING:
    from tallystick.conditions import Query
    from tallystick.reader import Reader
    from tallystick.spec import EntitySpec, FieldSpec, IndexSpec

LARGE: Final = 10_000
"""From how many rows on reading a whole table is worth a word."""
_CONDITIONS = (
    "Index Cond",
    "Recheck Cond",
    "Filter",
    "Join Filter",
    "Hash Cond",
    "Merge Cond",
    "One-Time Filter",
    "TID Cond",
)
# What a plan may quote: names as they are, literals never. Numbers too: an amount is a value as much as a name is.
_LITERAL = re.compile(r'"(?:[^"]|"")*"|[A-Za-z]?\'(?:[^\']|\'\')*\'|(?<![\w$.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')


class PlanStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan, and how deep it stands in it.

    ``rows`` is what the planner expects of one run of the step; ``actual_rows`` (of all its runs together),
    ``milliseconds`` (likewise, with the steps inside it) and ``pages`` are None unless the statement was run.
    ``condition`` has a ? for every literal.
    """

    kind: str
    depth: int
    rows: int
    cost: float
    table: str | None = None
    index: str | None = None
    condition: str = ""
    actual_rows: int | None = None
    milliseconds: float | None = None
    pages: int | None = None


class QueryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the database reads a query.

    ``rows`` is what the planner expects, ``cost`` is in its own units. ``whole_tables`` are read from end to end,
    ``large_tables`` those of them that have 10,000 rows or more, all tenants' together. ``hint`` says which declared
    index should serve the query or that none does; it is empty where all is well. With ``analyze`` there are also
    ``actual_rows``, ``milliseconds`` and the ``pages_hit`` in the server's memory and ``pages_read`` from outside it.
    """

    nodes: tuple[PlanStep, ...]
    rows: int
    cost: float
    large_tables: tuple[str, ...] = ()
    hint: str = ""
    actual_rows: int | None = None
    milliseconds: float | None = None
    pages_hit: int | None = None
    pages_read: int | None = None

    @property
    def indexes(self) -> tuple[str, ...]:
        """The indexes that are read, each once."""
        return tuple(dict.fromkeys(n.index for n in self.nodes if n.index))

    @property
    def whole_tables(self) -> tuple[str, ...]:
        """The tables that are read from end to end."""
        return tuple(dict.fromkeys(n.table for n in self.nodes if n.table and n.kind.endswith("Seq Scan")))

    @property
    def text(self) -> str:
        """The plan for people: a line a step, and the hint."""
        return "\n".join((*self._lines(), *([f"Hint: {self.hint}"] if self.hint else ())))

    def _lines(self) -> Iterator[str]:
        for n in self.nodes:
            on = f" on {n.table}" if n.table else ""
            using = f" using {n.index}" if n.index else ""
            ran = "" if n.milliseconds is None else f", {n.actual_rows} came in {n.milliseconds:.2f} ms"
            pages = "" if n.pages is None else f", {n.pages} pages"
            indent = "  " * n.depth
            yield f"{indent}{n.kind}{using}{on}  ({n.rows} rows expected{ran}{pages})"
            if n.condition:
                yield f"{indent}    {n.condition}"


async def explain(repository: Reader[Any], query: Query, *, analyze: bool) -> QueryPlan:
    """The plan of a repository's query, with a hint where an index is missing."""
    found, sizes = await repository.db.unit.explain(repository._codec, query, analyze=analyze)
    plan = read(found, sizes)
    return msgspec.structs.replace(plan, hint=advice(repository.spec, query, plan))


def read(document: Mapping[str, Any], sizes: Mapping[str, float]) -> QueryPlan:
    """A plan from what ``EXPLAIN (FORMAT JSON)`` answers; ``sizes`` are the rows of the tables in it."""
    top = document["Plan"]
    nodes = tuple(_nodes(top, 0))
    plan = QueryPlan(nodes=nodes, rows=int(top["Plan Rows"]), cost=float(top["Total Cost"]))
    ran = {}
    if nodes[0].milliseconds is not None:
        ran = {
            "actual_rows": nodes[0].actual_rows,
            "milliseconds": float(document.get("Execution Time", nodes[0].milliseconds)),
            "pages_hit": int(top.get("Shared Hit Blocks", 0)),
            "pages_read": int(top.get("Shared Read Blocks", 0)),
        }
    large = tuple(t for t in plan.whole_tables if sizes.get(t, 0) >= LARGE)
    return msgspec.structs.replace(plan, large_tables=large, **ran)


def tables_in(document: Mapping[str, Any]) -> list[str]:
    """The tables that a plan names, with their schema where it is known."""
    return sorted({n.table for n in _nodes(document["Plan"], 0) if n.table})


def without_literals(condition: str) -> str:
    """The condition with a ? for every literal in it."""
    clean = _LITERAL.sub(lambda m: m[0] if m[0].startswith('"') else "?", condition)
    return clean if "'" not in clean else "?"


def _nodes(step: Mapping[str, Any], depth: int) -> Iterator[PlanStep]:
    loops = step.get("Actual Loops", 1)
    ran = "Actual Total Time" in step
    schema, name = step.get("Schema"), step.get("Relation Name")
    conditions = [f"{key}: {without_literals(str(step[key]))}" for key in _CONDITIONS if key in step]
    kind = str(step["Node Type"])
    yield PlanStep(
        kind=f"Parallel {kind}" if step.get("Parallel Aware") else kind,
        depth=depth,
        rows=int(step["Plan Rows"]),
        cost=float(step["Total Cost"]),
        table=name if name is None or schema is None else f"{schema}.{name}",
        index=step.get("Index Name"),
        condition="; ".join(conditions),
        actual_rows=round(step["Actual Rows"] * loops) if ran else None,
        milliseconds=step["Actual Total Time"] * loops if ran else None,
        pages=step["Shared Hit Blocks"] + step["Shared Read Blocks"] if "Shared Hit Blocks" in step else None,
    )
    for inner in step.get("Plans", ()):
        yield from _nodes(inner, depth + 1)


def advice(spec: EntitySpec, query: Query, plan: QueryPlan) -> str:
    """Which declared index should serve the query, where the plan does not show that one does."""
    equal: dict[str, str] = {}
    ranged: dict[str, str] = {}
    for one in query.where:
        if isinstance(one, (Compare, OneOf, Missing)):
            field = one.field.spec
            if field.name == "archived_at" or isinstance(one, Present):
                continue
            same = isinstance(one, (OneOf, Missing)) or one.op == "="
            (equal if same else ranged)[_column(field)] = field.name
    ordered = {o.field.spec.column: o.field.spec.name for o in query.order if o.field.spec.name != "id"}
    wanted = {**equal, **{c: n for c, n in (ordered or ranged).items() if c not in equal}}
    if not wanted or "id" in equal:
        return ""
    best = max(spec.indexes, key=lambda i: _serves(i, equal, ordered, ranged), default=None)
    if best is None or _serves(best, equal, ordered, ranged) == 0:
        names = ", ".join(f'"{name}"' for name in wanted.values())
        return f'No declared index serves this. Declare one in the rules of {spec.name}: Index({names}, query="...").'
    if plan.large_tables:
        return (
            f"{best.name} is declared for this and is not used: run `tallystick schema lint` to see whether it is "
            f"there, then ANALYZE {spec.qualified}."
        )
    if plan.whole_tables:
        return f"The table is small, so all of it is read; {best.name} is there for when it grows."
    return ""


def _column(field: FieldSpec) -> str:
    return field.index_column if field.sealed else field.column


def _serves(index: IndexSpec, equal: Mapping[str, str], ordered: Mapping[str, str], ranged: Mapping[str, str]) -> int:
    """How many columns of an index, after the tenant, the query can make use of; 0 is none."""
    columns = index.columns[1:]
    used = 0
    while used < len(columns) and columns[used] in equal:
        used += 1
    if used < len(columns) and (columns[used] == next(iter(ordered), None) or columns[used] in ranged):
        used += 1
    return used
