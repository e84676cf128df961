"""From an entity class to its ``EntitySpec``: puts fields and rules together, refuses what cannot be stored safely."""

from __future__ import annotations

import inspect
import typing
from dataclasses import replace
from typing import Any

from tallystick import constraints, extension
from tallystick.annotation import IDENTIFIER, TEXT, declared_field, system_field
from tallystick.entity import Entity
from tallystick.errors import Declaration
from tallystick.rules import AppendOnly, Guard, Kept, Queue
from tallystick.spec import QUEUE_COLUMNS, SYSTEM_FIELDS, ColumnSpec, EntitySpec, FieldSpec, Kind
from tallystick.words import RESERVED

_LONGEST_NAME = 63


def resolve(cls: type[Entity]) -> EntitySpec:
    """Read one class into an ``EntitySpec``. Raises ``Declaration`` with the field and the remedy."""
    rules = extension.rules_of(cls)
    table = rules.table or constraints.snake(cls.__name__)
    if not IDENTIFIER.match(table):
        raise Declaration(
            f"{cls.__name__}: {table!r} is not a table name.",
            entity=cls.__name__,
            remedy="Use lower-case letters, digits and underscores, at most 59, or Rules(table=...).",
        )
    if table in RESERVED:
        raise Declaration(
            f"{cls.__name__}: {table} is a word of SQL and cannot be a table's name.",
            entity=cls.__name__,
            remedy=f"Name the table: Rules(table={table + 's'!r}).",
        )
    hints = _hints(cls)
    fields = {name: system_field(name) for name in SYSTEM_FIELDS[:2]}
    shared_asset: list[FieldSpec] = []
    for name in cls.__struct_fields__:
        if name in SYSTEM_FIELDS:
            continue
        _refuse_name(cls, name)
        field = extension.field_of(cls, declared_field(cls, name, hints[name]))
        if field.kind is Kind.MONEY and field.asset_column == "asset":
            shared_asset.append(field)
        fields[name] = field
    fields |= {name: system_field(name) for name in SYSTEM_FIELDS[2:]}
    if shared_asset and "asset" in fields:
        raise Declaration(
            f"{cls.__name__}.asset collides with the column that its money fields share.",
            entity=cls.__name__,
            field="asset",
            remedy="Rename the field.",
        )
    return _assemble(cls, table, fields, shared_asset)


def _summary(cls: type[Entity]) -> str:
    """The first paragraph of the entity's docstring, as one line."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())


def _hints(cls: type[Entity]) -> dict[str, Any]:
    local = dict(cls.__dict__.get("_tally_locals") or {}) | {cls.__name__: cls}
    try:
        return typing.get_type_hints(cls, localns=local, include_extras=True)
    except NameError as problem:
        raise Declaration(
            f"{cls.__name__}: the name {problem.name!r} in an annotation is not known.",
            entity=cls.__name__,
            remedy="Import it in the module that declares the entity (not under TYPE_CHECKING).",
        ) from None


def _refuse_name(cls: type[Entity], name: str) -> None:
    if not IDENTIFIER.match(name) or name in QUEUE_COLUMNS:
        raise Declaration(
            f"{cls.__name__}.{name} is not a usable field name.",
            entity=cls.__name__,
            field=name,
            remedy="Use lower-case letters, digits and underscores, and none of the reserved names "
            f"{', '.join(QUEUE_COLUMNS)}.",
        )
    if name in {"ref", "rules", "table", "mro"}:
        raise Declaration(
            f"{cls.__name__}.{name} would hide a name every entity has.",
            entity=cls.__name__,
            field=name,
            remedy="Rename the field.",
        )


def _of_class(field: FieldSpec, retain: str | None) -> FieldSpec:
    """A sealed field with the class of its key: its own, its entity's, or the general one."""
    return replace(field, purpose=field.purpose or retain or "general") if field.sealed else field


def _assemble(cls: type[Entity], table: str, fields: dict[str, FieldSpec], shared: list[FieldSpec]) -> EntitySpec:
    declared, extends = extension.rules_of(cls), extension.base_of(cls)
    rules = declared.items
    fields = {n: _of_class(f, declared.retain) for n, f in fields.items()}
    subject = fields.get(declared.subject or "")
    if declared.subject is not None and (subject is None or subject.kind is not Kind.REF):
        raise Declaration(
            f"{cls.__name__} names a subject that is none of its references.",
            entity=cls.__name__,
            remedy='Write Rules(..., subject="user") for a field user: Ref[User].',
        )
    if subject is not None and not (subject.once or any(isinstance(r, AppendOnly) for r in rules)):
        raise Declaration(
            f"{cls.__name__}.{subject.name} says whose data a row is, and could be changed.",
            entity=cls.__name__,
            remedy="What is sealed stays under the first person's key: declare Annotated[Ref[User], Once()].",
        )
    columns = [c for f in fields.values() for c in f.columns]
    if shared:
        given = [f for f in shared if not f.maintained]
        if not given:
            raise Declaration(
                f"{cls.__name__}: the database keeps all its money, and nobody says of which asset.",
                entity=cls.__name__,
                remedy="Declare one Money field that is given when the entity is added.",
            )
        nullable = all(f.optional for f in given)
        at = columns.index(given[0].columns[0]) + 1
        columns.insert(at, ColumnSpec("asset", TEXT, nullable=nullable, updatable=not all(f.once for f in given)))
    queue = next((r.order for r in rules if isinstance(r, Queue)), None)
    if queue:
        columns += [
            ColumnSpec("lease_token", "uuid", nullable=True, insertable=False),
            ColumnSpec("lease_until", "timestamp with time zone", nullable=True, insertable=False),
            ColumnSpec("lease_by", TEXT, nullable=True, insertable=False),
            ColumnSpec("attempts", "bigint", default="0", insertable=False),
            ColumnSpec("done_at", "timestamp with time zone", nullable=True, insertable=False),
        ]
    append_only = any(isinstance(r, AppendOnly) for r in rules)
    if append_only:
        if queue:
            raise Declaration(
                f"{cls.__name__} is append-only and a queue.",
                entity=cls.__name__,
                remedy="Keep the work items in an entity of their own.",
            )
        columns = [replace(c, updatable=False) for c in columns]
    names = [c.name for c in columns]
    if len(set(names)) != len(names):
        raise Declaration(
            f"{cls.__name__} has two columns of one name.",
            entity=cls.__name__,
            remedy="A reference x uses the column x_id, a searched field x uses x_bidx; rename one field.",
        )
    for name in names:
        if len(name) > _LONGEST_NAME:
            raise Declaration(
                f"{cls.__name__} has a column of {len(name)} characters, more than PostgreSQL takes.",
                entity=cls.__name__,
                field=name[:_LONGEST_NAME],
                remedy="Shorten the field's name; a searched field's columns have endings of up to 18 characters.",
            )
        if name in RESERVED:
            raise Declaration(
                f"{cls.__name__}.{name} is a word of SQL and cannot be a column's name.",
                entity=cls.__name__,
                field=name,
                remedy=f"Rename the field, for instance to {constraints.snake(cls.__name__)}_{name}.",
            )
    archived = fields.get("archived_at")
    archivable = archived is not None and archived.kind is Kind.TIMESTAMP and archived.optional
    hidden = (
        {n for f in fields.values() for b in f.blind for n in (b.index_column, b.next_column)}
        | {c.name for c in columns if c.generated}
        | (set(QUEUE_COLUMNS) if queue else set())
    )
    checks = constraints.checks(table, fields, rules, shared)
    transitions = constraints.transitions(cls, fields, rules)
    for kind, named in (("check", [c.name for c in checks]), ("state machine", [t.field for t in transitions])):
        if len(set(named)) < len(named):
            raise Declaration(
                f"{cls.__name__} has two {kind}s of one name.",
                entity=cls.__name__,
                remedy="Enums, lengths and amounts bring checks named after their field; rename or merge yours.",
            )
    made = EntitySpec(
        cls=cls,
        table=table,
        doc=_summary(extends or cls),
        extends=extends,
        custom=tuple(n for n, f in fields.items() if f.custom),
        fields=fields,
        columns=tuple(columns),
        read_columns=tuple(n for n in names if n not in hidden),
        indexes=tuple(constraints.indexes(cls, table, fields, rules, archivable, queue)),
        checks=tuple(checks),
        foreign_keys=tuple(constraints.foreign_keys(cls, table, fields, rules)),
        transitions=tuple(transitions),
        append_only=append_only,
        queue=queue,
        archivable=archivable,
        retain=declared.retain,
        kept=append_only or any(isinstance(r, Kept) for r in rules),
        guards=tuple(r for r in rules if isinstance(r, Guard)),
        fillfactor=declared.fillfactor,
        audit=declared.audit,
        subject=declared.subject,
        audit_reads=declared.audit_reads,
        unaudited=constraints.unaudited(cls, fields, declared),
        readable=constraints.readable(cls, fields, declared),
        derived=constraints.derived(cls, declared),
    )
    return extension.whole(made)
