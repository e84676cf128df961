"""From an entity class to its ``EntitySpec``: reads annotations and rules, refuses what cannot be stored safely."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

import msgspec

from tallystick import constraints, extension
from tallystick.entity import Entity, default_of
from tallystick.errors import Declaration
from tallystick.fields import (
    ChainMark,
    CustomMark,
    Json,
    LedgerMark,
    Length,
    Maintained,
    Mask,
    Numeric,
    Once,
    OwnAsset,
    PersonalMark,
    Ref,
    Retain,
    Search,
)
from tallystick.money import NOTHING, Money
from tallystick.privacy.blind import NORMALISERS
from tallystick.privacy.sealed import Secret
from tallystick.rules import AppendOnly, Guard, Kept, Queue
from tallystick.spec import (
    QUEUE_COLUMNS,
    SYSTEM_FIELDS,
    ColumnSpec,
    EntitySpec,
    FieldSpec,
    Kind,
)
from tallystick.words import RESERVED

_INDEX_BITS = 256
_MOST_LAST = 16
_LONGEST_NAME = 63
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,58}\Z")
TEXT = 'text COLLATE "C"'
_PLAIN_KINDS: dict[Any, tuple[Kind, str]] = {
    str: (Kind.TEXT, TEXT),
    int: (Kind.INTEGER, "bigint"),
    bool: (Kind.BOOLEAN, "boolean"),
    UUID: (Kind.UUID, "uuid"),
    datetime: (Kind.TIMESTAMP, "timestamp with time zone"),
    date: (Kind.DATE, "date"),
    bytes: (Kind.BYTES, "bytea"),
}
_MAINTAINABLE = frozenset(
    {
        Kind.INTEGER,
        Kind.LEDGER,
        Kind.CHAIN,
        Kind.DECIMAL,
        Kind.BOOLEAN,
        Kind.TEXT,
        Kind.ENUM,
        Kind.DATE,
        Kind.TIMESTAMP,
    }
)
_PROMOTED = {
    str: (TEXT, "{j} ->> '{k}'"),
    int: ("bigint", "({j} ->> '{k}')::bigint"),
    bool: ("boolean", "({j} ->> '{k}')::boolean"),
}


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
    fields = {name: _system(name) for name in SYSTEM_FIELDS[:2]}
    shared_asset: list[FieldSpec] = []
    for name in cls.__struct_fields__:
        if name in SYSTEM_FIELDS:
            continue
        _refuse_name(cls, name)
        field = extension.field_of(cls, _fixed(cls, _field(cls, name, hints[name]), hints[name]))
        if field.kind is Kind.MONEY and field.asset_column == "asset":
            shared_asset.append(field)
        fields[name] = field
    fields |= {name: _system(name) for name in SYSTEM_FIELDS[2:]}
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


def _system(name: str) -> FieldSpec:
    kinds = {
        "tenant_id": UUID,
        "id": UUID,
        "version": int,
        "created_at": datetime,
        "updated_at": datetime,
        "created_by": str,
        "updated_by": str,
    }
    defaults = {
        "version": "1",
        "created_at": "now()",
        "updated_at": "now()",
        "created_by": "nullif(current_setting('tally.actor'), '')",
        "updated_by": "nullif(current_setting('tally.actor'), '')",
    }
    kind, sql = _PLAIN_KINDS[kinds[name]]
    key = name in ("tenant_id", "id")
    column = ColumnSpec(name, sql, default=defaults.get(name), insertable=key, updatable=False)
    return FieldSpec(name, kind, kinds[name], False, (column,), system=True)


def _field(cls: type[Entity], name: str, hint: Any) -> FieldSpec:
    marks: list[Any] = []
    hint, optional = _strip(hint, marks)

    def mark(kind: type) -> Any:
        return next((m for m in marks if isinstance(m, kind)), None)

    def wrong(problem: str, remedy: str) -> Declaration:
        return Declaration(f"{cls.__name__}.{name} {problem}.", entity=cls.__name__, field=name, remedy=remedy)

    def one(kind: Kind, sql: str, python: Any, **more: Any) -> FieldSpec:
        return FieldSpec(name, kind, python, optional, (ColumnSpec(name, sql, nullable=optional),), **more)

    search, masked, retained = mark(Search), mark(Mask), mark(Retain)
    origin = get_origin(hint)
    if mark(PersonalMark) is not None or hint is Secret or origin is Secret:
        kind = Kind.PERSONAL if mark(PersonalMark) is not None else Kind.SECRET
        inner = hint if kind is Kind.PERSONAL else (get_args(hint) or (str,))[0]
        if search and (search.normal not in NORMALISERS or not _is_width(search.bits)):
            raise wrong(
                "is searched in a way there is none",
                f"Use Search(one of {', '.join(NORMALISERS)}, bits=1 to 256 or None).",
            )
        if search and not (search.last is None or (search.last.__class__ is int and 1 <= search.last <= _MOST_LAST)):
            raise wrong("is searched by closing characters in a way there is none", "Use Search(..., last=4).")
        if kind is Kind.PERSONAL and inner is not str and not optional:
            raise wrong(
                "could not be erased: it is required and no text", "Make it optional; erasing a person leaves it empty."
            )
        if inner is float or inner is complex:
            raise wrong("seals a float", "Use Decimal, or an int of the smallest unit; floats are not exact.")
        columns = [ColumnSpec(name, "bytea", nullable=optional)]
        if search:
            # Nulled when the person is erased, required or not.
            named = [f"{name}_bidx"] + ([f"{name}_bidx_last{search.last}"] if search.last else [])
            columns += [ColumnSpec(f"{n}{end}", "bytea", nullable=True) for n in named for end in ("", "_next")]
        if masked and kind is Kind.SECRET:
            columns.append(ColumnSpec(f"{name}_mask", "bytea", nullable=optional))
        length = mark(Length)
        made = FieldSpec(
            name,
            kind,
            inner if kind is Kind.PERSONAL else Secret,
            optional,
            tuple(columns),
            search=search.normal if search else None,
            search_bits=search.bits if search else None,
            mask_last=masked.last if masked and kind is Kind.SECRET else None,
            inner=inner,
            max_length=length.max if length else None,
            min_length=length.min if length else 0,
            purpose=retained.name if retained else "",
        )
        if search is None or search.last is None:
            return made
        indexed = f"{name}_bidx_last{search.last}"
        ending = replace(made, name=f"{name}_last{search.last}", search_last=search.last, indexed=indexed)
        return replace(made, ending=ending)
    if search or masked or retained:
        raise wrong(
            "is searched, masked or kept by a class of its own but not sealed", "Make it Secret[...] or Personal[...]."
        )
    if mark(ChainMark) is not None:
        return one(Kind.CHAIN, "numeric(78,0)", int)
    if mark(LedgerMark) is not None:
        return one(Kind.LEDGER, "numeric(38,0)", int)
    if hint is Ref or origin is Ref:
        target = (get_args(hint) or (None,))[0]
        if isinstance(target, typing.ForwardRef) or not (isinstance(target, type) and issubclass(target, Entity)):
            raise wrong("does not say what it refers to", "Write Ref[TheEntity].")
        column = ColumnSpec(f"{name}_id", "uuid", nullable=optional)
        return FieldSpec(name, Kind.REF, Ref, optional, (column,), inner=target)
    if hint is Money:
        asset = f"{name}_asset" if mark(OwnAsset) else "asset"
        columns = [ColumnSpec(name, "bigint", nullable=optional)]
        if mark(OwnAsset):
            columns.append(ColumnSpec(asset, TEXT, nullable=optional))
        return FieldSpec(name, Kind.MONEY, Money, optional, tuple(columns), asset_column=asset)
    if hint is Decimal:
        digits = mark(Numeric)
        if digits is None:
            raise wrong(
                "is a Decimal without digits", "Write Annotated[Decimal, Numeric(12, 8)], Rate, Price or Fraction."
            )
        return one(
            Kind.DECIMAL,
            f"numeric({digits.precision},{digits.scale})",
            Decimal,
            precision=digits.precision,
            scale=digits.scale,
        )
    if isinstance(hint, type) and issubclass(hint, Enum):
        if not issubclass(hint, str):
            raise wrong(
                "is an enum that is not a StrEnum", "Derive it from enum.StrEnum; its values are stored as text."
            )
        if not len(hint) or any("\0" in str(member.value) for member in hint):
            raise wrong(
                "is an enum without members, or with one PostgreSQL cannot hold", "Give it members of plain text."
            )
        return one(Kind.ENUM, TEXT, hint)
    if hint in _PLAIN_KINDS and mark(Json) is None:
        kind, sql = _PLAIN_KINDS[hint]
        length = mark(Length)
        return one(kind, sql, hint, max_length=length.max if length else None, min_length=length.min if length else 0)
    if hint is float or hint is complex:
        raise wrong("is a float", "Use Money for money and Decimal with Numeric(precision, scale) for anything else.")
    if origin in (dict, list, tuple, Mapping) or hint in (dict, list, Any) or _is_struct(hint) or mark(Json):
        return _json(name, hint, optional, mark(Json) or Json(), wrong)
    raise wrong(
        f"has a type that cannot be stored ({getattr(hint, '__name__', hint)})",
        "Use str, int, bool, UUID, datetime, date, Decimal, a StrEnum, Money, Ref, Secret, Personal, "
        "ChainAmount, bytes, or a dict, list or msgspec.Struct as JSON.",
    )


def _is_width(bits: Any) -> bool:
    return bits is None or (bits.__class__ is int and 1 <= bits <= _INDEX_BITS)


def _fixed(cls: type[Entity], field: FieldSpec, hint: Any) -> FieldSpec:
    """The field with what the application may not write taken out of its reach."""
    marks: list[Any] = []
    _strip(hint, marks)
    if any(isinstance(m, CustomMark) for m in marks):
        field = replace(field, custom=True)
    maintained = any(isinstance(m, Maintained) for m in marks)
    if not maintained and not any(isinstance(m, Once) for m in marks):
        return field
    if not maintained:
        return replace(field, once=True, columns=tuple(replace(c, updatable=False) for c in field.columns))
    default = default_of(cls, field.name)
    money = field.asset_column == "asset" and default == NOTHING
    if not money and (field.kind not in _MAINTAINABLE or default is msgspec.NODEFAULT):
        raise Declaration(
            f"{cls.__name__}.{field.name} cannot be maintained by the database.",
            entity=cls.__name__,
            field=field.name,
            remedy="Make it a number, bool, text, enum, date or datetime with a default, or Money = NOTHING.",
        )
    column = replace(field.columns[0], default=_literal(default), insertable=False, updatable=False)
    return replace(field, maintained=True, columns=(column,))


def _literal(value: Any) -> str | None:
    if value is None:
        return None
    if value == NOTHING:
        return "0"
    if isinstance(value, str):
        return constraints.quote(str(getattr(value, "value", value)))
    return str(value).lower()


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct) and not issubclass(hint, Entity)


def _json(name: str, hint: Any, optional: bool, json: Json, wrong: Any) -> FieldSpec:
    columns = [ColumnSpec(name, "jsonb", nullable=optional)]
    for key, python in json.promote.items():
        if python not in _PROMOTED or not IDENTIFIER.match(key):
            raise wrong("promotes a key that cannot be a column", "Promote plain keys to str, int or bool.")
        sql, expression = _PROMOTED[python]
        columns.append(
            ColumnSpec(
                f"{name}_{key}",
                sql,
                nullable=True,
                generated=expression.format(j=name, k=key),
                insertable=False,
                updatable=False,
            )
        )
    return FieldSpec(name, Kind.JSON, hint, optional, tuple(columns), promoted=json.promote)


def _strip(hint: Any, marks: list[Any]) -> tuple[Any, bool]:
    """Take Annotated and Optional off, in any order, collecting the marks."""
    optional = False
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint, *found = get_args(hint)
            marks.extend(found)
        elif origin in (Union, types.UnionType) and type(None) in get_args(hint):
            rest = [a for a in get_args(hint) if a is not type(None)]
            hint = rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007  the members are known at run time
            optional = True
        else:
            return hint, optional


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
