"""Writing revisions: what the declarations ask for and the database lacks, as reviewable files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import msgspec
from alembic.operations import MigrateOperation

from tallystick.errors import Invalid, MigrationUnsafe
from tallystick.schema import catalog, ddl
from tallystick.schema.connect import acting_as_owner
from tallystick.schema.diff import Difference, compare
from tallystick.schema.model import Column, Table, model_of, quote_name, quote_text
from tallystick.schema.online_operations import Backfill, RequireValue
from tallystick.schema.operations import (
    AddColumn,
    AddForeignKey,
    CreateTables,
    RenameColumn,
    SetDefault,
    Sql,
    Undo,
    WidenColumn,
)
from tallystick.schema.roles import Roles
from tallystick.spec import Kind

if TYPE_CHECKING:
    from tallystick.spec import EntitySpec

_PLACEHOLDERS = {
    "bigint": "0",
    "boolean": "false",
    "uuid": "'00000000-0000-0000-0000-000000000000'",
    "jsonb": "'{}'",
    "timestamp with time zone": "'epoch'",
    "date": "'epoch'",
    "bytea": "''",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What only a person can say about a change: new names, what may go, what old rows get."""

    rename: Mapping[str, str]
    delete: Collection[str]
    fill: Mapping[str, str]


NO_WISHES = Wishes({}, (), {})


async def changes(
    conn: asyncpg.Connection, roles: Roles, engine: ddl.Engine, specs: Sequence[EntitySpec], wishes: Wishes = NO_WISHES
) -> tuple[tuple[MigrateOperation, ...], ...]:
    """Operations by stage: renames, what runs outside a transaction before, in one, outside after.

    Raises ``MigrationUnsafe`` when a column would be lost, change its type, or leave old rows without a value, and
    nobody said what should happen.
    """
    models = [model_of(s) for s in specs]
    _refuse_sealed(specs, wishes)
    async with acting_as_owner(conn, roles):
        wanted = await catalog.in_the_servers_words(conn, models, roles)
        live = await _renamed(conn, roles, models, wishes)
        dropped = await _deleted_tables(conn, roles, models, wishes)
    renames: list[MigrateOperation] = []
    stages: tuple[list[MigrateOperation], ...] = ([], [], [])
    created = tuple(m for m in models if m.name not in live)
    if created:
        stages[1].append(CreateTables(*created))
    renames.extend(
        RenameColumn(table, column, after)
        for (table, _, column), after in ((k.partition("."), v) for k, v in wishes.rename.items())
    )
    undecided: list[Difference] = []
    to_delete = {name for name in wishes.delete if "." in name}
    for spec, model in zip(specs, models, strict=True):
        if model.name not in live:
            continue
        for difference in compare(model, wanted[model.name], live[model.name], engine):
            if difference.kind == "extra column":
                to_delete.discard(difference.object)
            operation = _decided(spec, difference, live[model.name].table, wishes)
            if isinstance(operation, RequireValue):
                stages[2].extend(_filled_first(spec, operation, wishes))
            if operation is None:
                undecided.append(difference)
            else:
                stages[difference.stage].append(operation)
    if undecided:
        raise MigrationUnsafe(
            "; ".join(f"{d.object} {d.problem}" for d in undecided) + ".",
            remedy=" ".join(dict.fromkeys(d.decide for d in undecided)),
        )
    if to_delete:
        raise Invalid(
            f"There is no column {min(to_delete)} that its entity does not declare.",
            field="delete",
            remedy="Name it as the database has it, and its entity too: of an extension that went, what it extended.",
        )
    stages[1].extend(dropped)
    return tuple(tuple(sorted(stage, key=_rank)) for stage in (renames, *stages))


def _refuse_sealed(specs: Sequence[EntitySpec], wishes: Wishes) -> None:
    """Raise for what SQL cannot do to sealed columns: each value is bound to its column's name, and to a key."""
    sealed = {f"{s.table}.{c.name}" for s in specs for f in s.fields.values() if f.sealed for c in f.columns}
    for before, after in wishes.rename.items():
        if f"{before.partition('.')[0]}.{after}" in sealed:
            raise MigrationUnsafe(
                f"{before} is sealed, and what is sealed opens under the name of its own column only.",
                remedy="Declare the new field beside the old one, copy the values in the application, then delete the "
                "old one.",
            )
    if filled := sorted(sealed & wishes.fill.keys()):
        raise MigrationUnsafe(
            f"{filled[0]} is sealed, and SQL has no key to seal a value with.",
            remedy="Declare the field optional, and give rows their values in the application.",
        )


async def _renamed(
    conn: asyncpg.Connection, roles: Roles, models: Sequence[Table], wishes: Wishes
) -> dict[str, catalog.Live]:
    """The tables as they would be after the renames: those are tried, read, and rolled back."""
    transaction = conn.transaction()
    await transaction.start()
    problem = ""
    try:
        await conn.execute("SET LOCAL lock_timeout = '2s'")
        for before, after in wishes.rename.items():
            table, _, column = before.partition(".")
            await conn.execute(
                f"ALTER TABLE tally.{quote_name(table)} RENAME COLUMN {quote_name(column)} TO {quote_name(after)}"
            )
        return await catalog.read(conn, roles, [m.name for m in models])
    except (asyncpg.SyntaxOrAccessError, asyncpg.LockNotAvailableError) as error:
        problem = str(error)
    finally:
        await transaction.rollback()
    raise Invalid(
        f"The rename cannot be made: {problem}.",
        field="rename",
        remedy="Write it as {'table.column': 'new_name'} with names that exist.",
    )


async def _deleted_tables(
    conn: asyncpg.Connection, roles: Roles, models: Sequence[Table], wishes: Wishes
) -> list[MigrateOperation]:
    wanted = [t for t in wishes.delete if "." not in t]
    if kept := [m.name for m in models if m.name in wanted]:
        raise Invalid(
            f"{kept[0]} is to be deleted and is declared.", field="delete", remedy="Take the declaration away."
        )
    found = await catalog.read(conn, roles, wanted)
    if lost := [t for t in wanted if t not in found]:
        raise Invalid(f"There is no table {lost[0]}.", field="delete", remedy="Name tables as the database has them.")
    return [Undo(CreateTables(*(found[t].table for t in wanted)))] if wanted else []


def _decided(spec: EntitySpec, difference: Difference, live: Table, wishes: Wishes) -> MigrateOperation | None:
    if not difference.decide:
        return difference.operation
    if difference.kind == "extra column" and difference.object in wishes.delete:
        column = live.column(difference.object.partition(".")[2])
        assert column is not None
        return Undo(AddColumn(spec.table, column, None if column.nullable or column.default else _placeholder(column)))
    if isinstance(difference.operation, AddColumn):
        fill = wishes.fill.get(difference.object) or _default(spec, difference.operation.column)
        return replace(difference.operation, fill=fill) if fill else None
    return None


def _filled_first(spec: EntitySpec, operation: RequireValue, wishes: Wishes) -> list[MigrateOperation]:
    """What rows without a value get before one is required."""
    column = spec.column(operation.column)
    fill = wishes.fill.get(f"{spec.table}.{column.name}") or _default(spec, Column(column.name, column.sql))
    if not fill or spec.append_only:
        return []
    name = quote_name(column.name)
    return [Backfill(spec.table, f"{name} = {fill}", f"{name} IS NULL")]


def _placeholder(column: Column) -> str:
    """What a required column holds when a downgrade brings it back: its values are gone."""
    return _PLACEHOLDERS.get(column.sql, "0" if column.sql.startswith("numeric") else "''")


def _default(spec: EntitySpec, column: Column) -> str | None:
    """The declaration's own default, where it is a constant that SQL can say."""
    field = next((f for f in spec.fields.values() if f.columns[0].name == column.name), None)
    if field is None or field.kind not in (Kind.TEXT, Kind.INTEGER, Kind.BOOLEAN, Kind.ENUM):
        return None
    default = next(
        f.default for f in msgspec.structs.fields(cast("type[msgspec.Struct]", spec.cls)) if f.name == field.name
    )
    if default is None or default is msgspec.NODEFAULT:
        return None
    return quote_text(str(getattr(default, "value", default))) if isinstance(default, str) else str(default).lower()


def _rank(operation: MigrateOperation) -> int:
    """The order within a revision: what stands in the way goes first, guards come last."""
    inner = operation.operation if isinstance(operation, Undo) else operation
    if isinstance(operation, Undo):
        return 3 if isinstance(inner, AddColumn) else 8 if isinstance(inner, CreateTables) else 1
    if isinstance(inner, CreateTables):
        return 2
    if isinstance(inner, AddColumn | WidenColumn | SetDefault):
        return 4
    return 6 if isinstance(inner, AddForeignKey) else 7 if isinstance(inner, Sql) else 5


WIDTH = 116


def source(value: Any, indent: int = 0, before: int = 0) -> str:
    """Python source of a model value or operation: arguments that have their default are left out.

    ``before`` is what stands on the line already, after the indent.
    """
    flat = _flat(value)
    if len(flat) + indent + before <= WIDTH and "\n" not in flat:
        return flat
    pad, close = " " * (indent + 4), " " * indent
    if isinstance(value, str):
        return "(\n" + "".join(f"{pad}{_text(part)}\n" for part in _pieces(value, WIDTH - indent - 4)) + f"{close})"
    if is_dataclass(value) and not isinstance(value, type):
        parts = [f"{name}{source(v, indent + 4, len(name))}" for name, v in _arguments(value)]
        return f"{type(value).__name__}(\n" + "".join(f"{pad}{p},\n" for p in parts) + f"{close})"
    if isinstance(value, tuple | list):
        opening, closing = "()" if isinstance(value, tuple) else "[]"
        return f"{opening}\n" + "".join(f"{pad}{source(v, indent + 4)},\n" for v in value) + f"{close}{closing}"
    return flat


def _pieces(text: str, width: int) -> list[str]:
    pieces = [""]
    for word in re.split(r"(?<= )", text):
        if len(_text(pieces[-1] + word)) > width and pieces[-1]:
            pieces.append("")
        pieces[-1] += word
    return pieces


def _flat(value: Any) -> str:
    if isinstance(value, Table):
        return constant(value)
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(name + _flat(v) for name, v in _arguments(value))})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flat(k)}: {_flat(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_flat, value))}]"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    plain = repr(value)
    return f'"{plain[1:-1]}"' if '"' not in value and plain[0] == "'" else plain


def _arguments(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, CreateTables):
        return [("", t) for t in value.tables]
    found = []
    for field in fields(value):
        given = getattr(value, field.name)
        if field.default is MISSING:
            found.append(("", given))
        elif given != field.default:
            found.append((f"{field.name}=", given))
    return found


def constant(table: Table) -> str:
    """The name under which a revision file holds a table."""
    return table.name.upper()


def definition(table: Table) -> str:
    """A table as a constant of a revision file."""
    parts = [f"    {name}{source(v, 4, len(name))},\n" for name, v in _arguments(table)]
    return f"{constant(table)} = Table(\n{''.join(parts)})\n"


def body(operations: Sequence[MigrateOperation]) -> str:
    """The lines of ``upgrade`` or ``downgrade``."""
    return "\n    ".join(map(_invoke, operations)) or "pass"


def _invoke(operation: MigrateOperation) -> str:
    flat = f"op.invoke({_flat(operation)})"
    return flat if len(flat) <= WIDTH else f"op.invoke(\n        {source(operation, 8)}\n    )"


def accepted(operations: Sequence[MigrateOperation]) -> dict[str, str]:
    """Rules that the operations break because somebody asked for it by name, or because it is harmless here."""
    reasons: dict[str, str] = {}
    for operation in operations:
        inner = operation.operation if isinstance(operation, Undo) else operation
        if isinstance(inner, RenameColumn):
            reasons["renaming-column"] = f"asked for: rename {inner.table}.{inner.before} to {inner.after}"
        elif isinstance(inner, WidenColumn):
            reasons["changing-column-type"] = "more digits at the same scale are not rewritten"
        elif isinstance(operation, Undo) and isinstance(inner, AddColumn):
            reasons["ban-drop-column"] = f"asked for: delete {inner.table}.{inner.column.name}"
        elif isinstance(operation, Undo) and isinstance(inner, CreateTables):
            reasons["ban-drop-table"] = f"asked for: delete {', '.join(t.name for t in inner.tables)}"
    return reasons


def tables_in(operations: Iterable[MigrateOperation]) -> list[Table]:
    """Every table that the operations make or drop."""
    inner = (o.operation if isinstance(o, Undo) else o for o in operations)
    return [t for o in inner if isinstance(o, CreateTables) for t in o.tables]


def imports(operations: Sequence[MigrateOperation]) -> str:
    """The import lines that the operations need."""
    wanted: dict[str, set[str]] = {}

    def collect(value: Any) -> None:
        if is_dataclass(value) and not isinstance(value, type):
            wanted.setdefault(type(value).__module__, set()).add(type(value).__name__)
            for field in fields(value):
                collect(getattr(value, field.name))
        elif isinstance(value, tuple | list):
            for item in value:
                collect(item)

    for operation in operations:
        collect(operation)
        collect(operation.reverse())
    return "".join(f"from {module} import {', '.join(sorted(wanted[module]))}\n" for module in sorted(wanted))
