"""How a live table differs from its declaration, each difference with the operation that removes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from alembic.operations import MigrateOperation

from tallystick.constraints import AUDIT_TRIGGER
from tallystick.schema import ddl
from tallystick.schema.baselines import TakeBaseline
from tallystick.schema.catalog import Live
from tallystick.schema.model import Column, Grant, Index, Table, Trigger, quote_name, quote_text
from tallystick.schema.online_operations import AddIndex, Backfill, ReplaceIndex, RequireValue, Validate
from tallystick.schema.operations import (
    AddCheck,
    AddColumn,
    AddForeignKey,
    AddGrant,
    AddPolicy,
    AddTrigger,
    CommentIndex,
    CommentTable,
    Operation,
    SetDefault,
    Sql,
    Undo,
    WidenColumn,
)


class Named(Protocol):
    """Anything of a table that has a name."""

    @property
    def name(self) -> str:
        """Its name within the table."""
        ...


N = TypeVar("N", bound=Named)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as declared. ``operation`` makes it so; None when a person must decide (``decide``).

    ``stage`` says when: 0 outside a transaction before, 1 in one, 2 outside a transaction after.
    """

    kind: str
    object: str
    problem: str
    operation: MigrateOperation | None = None
    stage: int = 1
    decide: str = ""


def compare(declared: Table, wanted: Table, live: Live, engine: ddl.Engine = "plain") -> list[Difference]:
    """Everything in which the live table differs. ``wanted`` is ``declared`` in the server's words."""
    name, found = declared.name, live.table
    wanted = _filled(wanted, found)
    return [
        *_columns(declared, wanted, found),
        *_constraints(declared, wanted, live),
        *_indexes(declared, wanted, live),
        *_guards(declared, wanted, live, engine),
        *_grants(name, wanted, found),
        *_comments(name, declared, found),
    ]


FILL = "tally_fill_"


def fill_trigger(declared: Table, column: Column) -> Trigger:
    """Keeps a promoted JSON key in a column that was added later, when computing it would rewrite the table."""
    source, key = promoted(column)
    arguments = ", ".join(map(quote_text, (column.name, source, key)))
    return Trigger(f"{FILL}{column.name}"[:63], "BEFORE INSERT OR UPDATE", f"tally.fill({arguments})")


def promoted(column: Column) -> tuple[str, str]:
    """The JSON column and the key that a generated column is computed from."""
    found = re.search(r"\"?(\w+)\"? ->> '(\w+)'", column.generated or "")
    if found is None:
        raise ValueError(column.name)
    return found[1], found[2]


def _filled(wanted: Table, found: Table) -> Table:
    """A generated column that was added later is a plain column with a trigger: no difference."""
    fills = {t.name: t for t in found.triggers if t.name.startswith(FILL)}
    late = [
        c
        for c in wanted.columns
        if c.generated
        and (live := found.column(c.name))
        and not live.generated
        and fills.get(fill_trigger(wanted, c).name, t := fill_trigger(wanted, c)).calls == t.calls
        and t.name in fills
    ]
    return replace(
        wanted,
        columns=tuple(replace(c, generated=None) if c in late else c for c in wanted.columns),
        triggers=(*wanted.triggers, *(fills[fill_trigger(wanted, c).name] for c in late)),
    )


def _columns(declared: Table, wanted: Table, found: Table) -> list[Difference]:
    name = declared.name
    differences: list[Difference] = []
    for column in wanted.columns:
        live, where = found.column(column.name), f"{name}.{column.name}"
        if live is None:
            raw = declared.column(column.name)
            assert raw is not None
            differences += _missing_column(declared, raw)
            continue
        if live.sql != column.sql:
            if _widens(live.sql, column.sql):
                operation = WidenColumn(name, column.name, live.sql, column.sql)
                differences.append(Difference("column type", where, f"is {live.sql}, declared {column.sql}", operation))
            else:
                differences.append(
                    Difference(
                        "column type", where, f"is {live.sql}, declared {column.sql}", decide=_change_type(name, column)
                    )
                )
        if live.generated != column.generated:
            differences.append(
                Difference(
                    "generated column",
                    where,
                    "is computed otherwise than declared",
                    decide=f"Declare the key under another name, fill it, then delete {where}.",
                )
            )
        elif live.default != column.default:
            differences.append(
                Difference(
                    "default",
                    where,
                    "has another default than declared",
                    SetDefault(name, column.name, live.default, column.default),
                )
            )
        if live.nullable and not column.nullable:
            differences.append(
                Difference("not null", where, "may be empty, declared required", RequireValue(name, column.name), 2)
            )
        elif column.nullable and not live.nullable:
            differences.append(
                Difference("not null", where, "is required, declared optional", Undo(RequireValue(name, column.name)))
            )
    differences += [
        Difference(
            "extra column",
            f"{name}.{c.name}",
            "is not declared",
            decide=f"Say what became of it: --rename {name}.{c.name}=NEW_NAME or --delete {name}.{c.name}.",
        )
        for c in found.columns
        if wanted.column(c.name) is None
    ]
    if found.primary_key != wanted.primary_key:
        differences.append(
            Difference(
                "primary key",
                name,
                "has another primary key than declared",
                decide="Make a new table and move the rows.",
            )
        )
    return differences


def _missing_column(declared: Table, column: Column) -> list[Difference]:
    name, where = declared.name, f"{declared.name}.{column.name}"
    if column.generated:
        source, key = promoted(column)
        change = f"{quote_name(source)} = {quote_name(source)}"
        rows = f"{quote_name(source)} ->> {quote_text(key)} IS NOT NULL AND {quote_name(column.name)} IS NULL"
        plain = AddColumn(name, replace(column, generated=None))
        fill = AddTrigger(name, fill_trigger(declared, column))
        return [
            Difference("missing column", where, "does not exist", plain),
            Difference("missing trigger", f"{name}.{fill.trigger.name}", "does not exist", fill),
            Difference("missing column", where, "is not filled yet", Backfill(name, change, rows), 2),
        ]
    if not column.nullable and column.default is None:
        return [
            Difference(
                "missing column",
                where,
                "does not exist",
                AddColumn(name, column),
                decide=f"Rows that exist need a value: --fill {where}=CONSTANT, a default in the declaration, "
                "or declare it optional.",
            )
        ]
    return [Difference("missing column", where, "does not exist", AddColumn(name, column))]


def _widens(before: str, after: str) -> bool:
    digits = re.compile(r"numeric\((\d+),(\d+)\)\Z")
    old, new = digits.match(before), digits.match(after)
    return bool(old and new and old[2] == new[2] and int(new[1]) >= int(old[1]))


def _change_type(table: str, column: Column) -> str:
    return (
        f"A type change rewrites {table} under an exclusive lock. Declare a second field of the new type, fill it with "
        f'Backfill({table!r}, "new = old::{column.sql}", "new IS NULL"), then delete the first.'
    )


def _constraints(declared: Table, wanted: Table, live: Live) -> list[Difference]:
    name, found = declared.name, live.table
    raw_checks = {c.name: c for c in declared.checks}
    differences = _by_name(
        name,
        "check",
        wanted.checks,
        found.checks,
        add=lambda c: [(AddCheck(name, raw_checks[c.name]), 1), (Validate(name, c.name), 2)],
        remove=lambda c: [(Undo(AddCheck(name, c)), 1)],
    )
    differences += _by_name(
        name,
        "foreign key",
        wanted.foreign_keys,
        found.foreign_keys,
        add=lambda f: [(AddForeignKey(name, f), 1), (Validate(name, f.name), 2)],
        remove=lambda f: [(Undo(AddForeignKey(name, f)), 1)],
    )
    known = {c.name for c in wanted.checks} | {f.name for f in wanted.foreign_keys}
    differences += [
        Difference("unvalidated", f"{name}.{c}", "was never checked against the rows that exist", Validate(name, c), 2)
        for c in live.unvalidated
        if c in known
    ]
    return differences


def _indexes(declared: Table, wanted: Table, live: Live) -> list[Difference]:
    name = declared.name
    raw = {i.name: i for i in declared.indexes}
    broken = [i for i in live.table.indexes if i.name in live.invalid_indexes]

    def bare(indexes: Iterable[Index]) -> list[Index]:
        return [replace(i, comment="") for i in indexes if i not in broken]

    want = {i.name: i for i in bare(wanted.indexes)}
    replaced = [
        i
        for i in live.table.indexes
        if i.name in want
        and replace(i, comment="") != want[i.name]
        and i not in broken
        and _outlives(i, wanted, live.table)
    ]
    names = {i.name for i in replaced}
    return [
        *(
            Difference(
                "index", f"{name}.{i.name}", "differs from the declaration", ReplaceIndex(name, i, raw[i.name]), 2
            )
            for i in replaced
        ),
        *_by_name(
            name,
            "index",
            [i for i in want.values() if i.name not in names],
            [i for i in bare(live.table.indexes) if i.name not in names],
            add=lambda i: [(AddIndex(name, raw[i.name]), 2)],
            remove=lambda i: [(Undo(AddIndex(name, next(x for x in live.table.indexes if x.name == i.name))), 0)],
        ),
    ]


def _outlives(index: Index, wanted: Table, found: Table) -> bool:
    """Whether a live index names only columns that stay, so that it can stand until its successor is built."""
    gone = {c.name for c in found.columns} - {c.name for c in wanted.columns}
    return not gone & {*index.columns, *index.include, *re.findall(r"[a-z_][a-z0-9_]*", index.where or "")}


def _guards(declared: Table, wanted: Table, live: Live, engine: ddl.Engine) -> list[Difference]:
    name, found = declared.name, live.table
    differences: list[Difference] = []
    if wanted.policies and not (live.secured and live.forced == (engine == "plain")):
        differences.append(
            Difference("row-level security", name, "is not enabled and forced", Sql(ddl.security(declared, engine)))
        )
    if wanted.fillfactor != found.fillfactor:
        change = Sql(
            [ddl.set_fillfactor(declared, wanted.fillfactor)], [ddl.set_fillfactor(declared, found.fillfactor)]
        )
        differences.append(Difference("storage", name, "has another fillfactor", change))
    policies = {p.name: p for p in declared.policies}
    triggers = {t.name: t for t in (*declared.triggers, *(t for t in wanted.triggers if t.name.startswith(FILL)))}
    differences += _by_name(
        name,
        "policy",
        wanted.policies,
        found.policies,
        add=lambda p: [(AddPolicy(name, policies[p.name]), 1)],
        remove=lambda p: [(Undo(AddPolicy(name, p)), 1)],
    )
    differences += _by_name(
        name,
        "trigger",
        wanted.triggers,
        found.triggers,
        add=lambda t: [(AddTrigger(name, triggers[t.name]), 1), *_baseline(name, triggers[t.name])],
        remove=lambda t: [(Undo(AddTrigger(name, t)), 1)],
    )
    differences += [
        Difference("trigger", f"{name}.{t}", "is not enabled always", Sql([ddl.enable_trigger(declared, t)]))
        for t in live.weak_triggers
        if t in triggers
    ]
    return differences


def _baseline(table: str, trigger: Trigger) -> list[tuple[Operation, int]]:
    """Rows that are there when their table starts to be audited, or what stays out of the log changes."""
    if trigger.name != AUDIT_TRIGGER:
        return []
    _, *left_out = re.findall(r"'(\w+)'", trigger.calls)
    return [(TakeBaseline(table, tuple(left_out)), 2)]


def _grants(name: str, wanted: Table, found: Table) -> list[Difference]:
    want, have = _privileges(wanted.grants), _privileges(found.grants)
    differences = []
    for missing, what in ((want - have, "missing grant"), (have - want, "extra grant")):
        for grant in _gather(missing, (*wanted.columns, *found.columns)):
            columns = f" ({', '.join(grant.columns)})" if grant.columns else ""
            add = AddGrant(name, grant)
            differences.append(
                Difference(
                    what,
                    name,
                    f"{'lacks' if what == 'missing grant' else 'has'} {grant.privilege}{columns} for {grant.role}",
                    add if what == "missing grant" else Undo(add),
                )
            )
    return differences


def _privileges(grants: Iterable[Grant]) -> set[tuple[str, str, str]]:
    return {(g.role, g.privilege, column) for g in grants for column in (g.columns or ("",))}


def _gather(privileges: set[tuple[str, str, str]], columns: Sequence[Column]) -> list[Grant]:
    order = {c.name: i for i, c in reversed(list(enumerate(columns)))}
    found: dict[tuple[str, str, bool], list[str]] = {}
    for role, privilege, column in sorted(privileges, key=lambda p: (p[0], p[1], order.get(p[2], -1))):
        found.setdefault((role, privilege, bool(column)), []).extend([column] if column else [])
    return [Grant(role, privilege, tuple(names)) for (role, privilege, _), names in found.items()]


def _comments(name: str, declared: Table, found: Table) -> list[Difference]:
    differences = []
    if declared.comment != found.comment:
        differences.append(
            Difference(
                "comment",
                name,
                "has another comment than declared",
                CommentTable(name, found.comment, declared.comment),
            )
        )
    live = {i.name: i.comment for i in found.indexes}
    return differences + [
        Difference(
            "comment",
            f"{name}.{i.name}",
            "has another comment than declared",
            CommentIndex(name, i.name, live[i.name], i.comment),
        )
        for i in declared.indexes
        if i.name in live and live[i.name] != i.comment
    ]


def _by_name(
    table: str,
    what: str,
    wanted: Iterable[N],
    found: Iterable[N],
    *,
    add: Callable[[N], list[tuple[Operation, int]]],
    remove: Callable[[N], list[tuple[Undo, int]]],
) -> list[Difference]:
    want: Mapping[str, N] = {w.name: w for w in wanted}
    have: Mapping[str, N] = {f.name: f for f in found}
    differences: list[Difference] = []

    def note(kind: str, name: str, problem: str, steps: Sequence[tuple[Any, int]]) -> None:
        differences.extend(Difference(kind, f"{table}.{name}", problem, step, stage) for step, stage in steps)

    for name in sorted(want.keys() | have.keys()):
        if name not in have:
            note(f"missing {what}", name, "does not exist", add(want[name]))
        elif name not in want:
            note(f"extra {what}", name, "is not declared", remove(have[name]))
        elif want[name] != have[name]:
            note(what, name, "differs from the declaration", [*remove(have[name]), *add(want[name])])
    return differences
