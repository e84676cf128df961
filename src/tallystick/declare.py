"""From an entity class to its ``EntitySpec``: reads annotations and rules, refuses what cannot be stored safely."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

import msgspec

from tallystick.entity import Entity, spec_of
from tallystick.errors import Declaration
from tallystick.fields import ChainMark, Json, Length, Mask, Numeric, OwnAsset, PersonalMark, Ref, Search
from tallystick.money import Money
from tallystick.privacy.sealed import Secret
from tallystick.rules import AppendOnly, Check, Index, Queue, Transitions, Unique
from tallystick.spec import (
    QUEUE_COLUMNS,
    REGISTRY_SCHEMA,
    SYSTEM_FIELDS,
    CheckSpec,
    ColumnSpec,
    EntitySpec,
    FieldSpec,
    ForeignKeySpec,
    IndexSpec,
    Kind,
)

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
_PROMOTED = {
    str: (TEXT, "{j} ->> '{k}'"),
    int: ("bigint", "({j} ->> '{k}')::bigint"),
    bool: ("boolean", "({j} ->> '{k}')::boolean"),
}
CHAIN_CEILING = 2**256


def snake(name: str) -> str:
    """LoanProduct -> loan_product."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def short(*parts: str) -> str:
    """A PostgreSQL identifier under 63 bytes, cut and made unique again by a hash when it is longer."""
    name = "_".join(parts)
    return name if len(name) <= 60 else f"{name[:51]}_{blake2b(name.encode(), digest_size=4).hexdigest()}"


def handles_of(cls: type[Entity]) -> dict[str, Any]:
    """What ``cls.<name>`` answers: a condition handle per field, ``Filter`` and ``table``."""
    from tallystick.filters import filter_type
    from tallystick.query import Field

    spec = spec_of(cls)
    handles: dict[str, Any] = {name: Field(spec, field) for name, field in spec.fields.items()}
    handles["Filter"] = filter_type(spec)
    handles["table"] = _LazyTable(spec)
    return _Handles(handles)


class _LazyTable:
    """Stands for the Core table until somebody asks, because importing SQLAlchemy costs a quarter of a second."""

    __slots__ = ("spec",)

    def __init__(self, spec: EntitySpec) -> None:
        self.spec = spec


class _Handles(dict[str, Any]):
    def get(self, name: str, default: Any = None) -> Any:
        found = super().get(name, default)
        if found.__class__ is _LazyTable:
            from tallystick.schema.tables import table_of

            found = self[name] = table_of(found.spec)
        return found


def resolve(cls: type[Entity]) -> EntitySpec:
    """Read one class into an ``EntitySpec``. Raises ``Declaration`` with the field and the remedy."""
    rules = cls.__dict__.get("rules") or cls.rules
    table = rules.table or snake(cls.__name__)
    if not IDENTIFIER.match(table):
        raise Declaration(
            f"{cls.__name__}: {table!r} is not a table name.",
            entity=cls.__name__,
            remedy="Use lower-case letters, digits and underscores, at most 59, or Rules(table=...).",
        )
    hints = _hints(cls)
    fields = {name: _system(name) for name in SYSTEM_FIELDS[:2]}
    shared_asset: list[FieldSpec] = []
    for name in cls.__struct_fields__:
        if name in SYSTEM_FIELDS:
            continue
        _refuse_name(cls, name)
        field = _field(cls, name, hints[name])
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


def _hints(cls: type[Entity]) -> dict[str, Any]:
    local = {k: v for k, v in (cls.__dict__.get("_tally_locals") or {}).items()} | {cls.__name__: cls}
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
        "created_by": "current_setting('tally.actor')",
        "updated_by": "current_setting('tally.actor')",
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

    search, masked = mark(Search), mark(Mask)
    origin = get_origin(hint)
    if mark(PersonalMark) is not None or hint is Secret or origin is Secret:
        kind = Kind.PERSONAL if mark(PersonalMark) is not None else Kind.SECRET
        inner = hint if kind is Kind.PERSONAL else (get_args(hint) or (str,))[0]
        columns = [ColumnSpec(name, "bytea", nullable=optional)]
        if search:
            columns.append(ColumnSpec(f"{name}_bidx", "bytea", nullable=optional))
        if masked and kind is Kind.SECRET:
            columns.append(ColumnSpec(f"{name}_mask", "bytea", nullable=optional))
        length = mark(Length)
        return FieldSpec(
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
        )
    if search or masked:
        raise wrong("is searched or masked but not sealed", "Make it Secret[...] or Personal[...].")
    if mark(ChainMark) is not None:
        return one(Kind.CHAIN, "numeric(78,0)", int)
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
            hint, optional = (rest[0] if len(rest) == 1 else Union[tuple(rest)]), True
        else:
            return hint, optional


def _assemble(cls: type[Entity], table: str, fields: dict[str, FieldSpec], shared: list[FieldSpec]) -> EntitySpec:
    rules = (cls.__dict__.get("rules") or cls.rules).items
    columns = [c for f in fields.values() for c in f.columns]
    if shared:
        nullable = all(f.optional for f in shared)
        at = columns.index(shared[0].columns[0]) + 1
        columns.insert(at, ColumnSpec("asset", TEXT, nullable=nullable))
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
    archived = fields.get("archived_at")
    archivable = archived is not None and archived.kind is Kind.TIMESTAMP and archived.optional
    hidden = (
        {f.index_column for f in fields.values() if f.search}
        | {c.name for c in columns if c.generated}
        | (set(QUEUE_COLUMNS) if queue else set())
    )
    return EntitySpec(
        cls=cls,
        table=table,
        doc=(cls.__doc__ or "").strip(),
        fields=fields,
        columns=tuple(columns),
        read_columns=tuple(n for n in names if n not in hidden),
        indexes=tuple(_indexes(cls, table, fields, rules, archivable, queue)),
        checks=tuple(_checks(table, fields, rules, shared)),
        foreign_keys=tuple(_foreign_keys(table, fields)),
        transitions=tuple(_transitions(cls, fields, rules)),
        append_only=append_only,
        queue=queue,
        archivable=archivable,
        retain=(cls.__dict__.get("rules") or cls.rules).retain,
    )


def _rule_columns(
    cls: type[Entity], fields: dict[str, FieldSpec], names: tuple[str, ...], unique: bool
) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        field = fields.get(name)
        owner = next((f for f in fields.values() if f.promoted and name in {f"{f.name}_{k}" for k in f.promoted}), None)
        if field is None and owner is None:
            raise Declaration(
                f"{cls.__name__}: a rule names {name!r}, which is not a field.",
                entity=cls.__name__,
                field=name,
                remedy=f"Fields are: {', '.join(fields)}.",
            )
        if field is None:
            found.append(name)
        elif field.sealed:
            if field.search is None:
                raise Declaration(
                    f"{cls.__name__}.{name} is sealed and has no blind index.",
                    entity=cls.__name__,
                    field=name,
                    remedy="Annotate it with Search(...).",
                )
            if unique and field.search_bits is not None:
                raise Declaration(
                    f"{cls.__name__}.{name} has a truncated index, which cannot be unique.",
                    entity=cls.__name__,
                    field=name,
                    remedy="Drop bits= from its Search(...).",
                )
            found.append(field.index_column)
        elif field.kind in (Kind.JSON, Kind.DECIMAL, Kind.CHAIN) and not unique:
            raise Declaration(
                f"{cls.__name__}.{name} cannot serve an index under row-level security ({field.kind} operators are "
                "not leakproof).",
                entity=cls.__name__,
                field=name,
                remedy="Store a scaled int, or promote the JSON key: Json(promote={...}).",
            )
        else:
            found.append(field.column)
    return tuple(found)


def _indexes(
    cls: type[Entity], table: str, fields: dict[str, FieldSpec], rules: Any, archivable: bool, queue: str | None
) -> list[IndexSpec]:
    found: dict[str, IndexSpec] = {}
    for rule in rules:
        if isinstance(rule, Unique):
            columns = ("tenant_id", *_rule_columns(cls, fields, rule.fields, unique=True))
            where = " and ".join(f"({w})" for w in (rule.where, "archived_at is null" if archivable else None) if w)
            name = short("uq", table, *columns[1:])
            found[name] = IndexSpec(name, columns, True, where or None, "", rule.fields)
        elif isinstance(rule, Index):
            columns = ("tenant_id", *_rule_columns(cls, fields, rule.fields, unique=False), "id")
            name = short("ix", table, *columns[1:-1])
            found[name] = IndexSpec(name, columns, False, rule.where, rule.query, rule.fields)
    for field in fields.values():
        if field.search and not any(field.index_column == i.columns[1] for i in found.values()):
            name = short("ix", table, field.index_column)
            found[name] = IndexSpec(
                name, ("tenant_id", field.index_column, "id"), False, None, f"find by {field.name}", (field.name,)
            )
        if field.kind is Kind.REF and not any(field.column == i.columns[1] for i in found.values()):
            name = short("ix", table, field.column)
            found[name] = IndexSpec(
                name, ("tenant_id", field.column, "id"), False, None, f"rows of one {field.name}", (field.name,)
            )
    if queue:
        columns = ("tenant_id", *_rule_columns(cls, fields, (queue,), unique=False), "id")
        name = short("ix", table, "queue")
        found[name] = IndexSpec(name, columns, False, "done_at is null", "work items to claim", (queue,))
    return list(found.values())


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _checks(table: str, fields: dict[str, FieldSpec], rules: Any, shared: list[FieldSpec]) -> list[CheckSpec]:
    found = []
    for f in fields.values():
        if f.kind is Kind.ENUM:
            values = ", ".join(quote(str(m.value)) for m in f.python)
            found.append(CheckSpec(short("ck", table, f.name), f"{f.column} in ({values})"))
        elif f.kind is Kind.TEXT and f.max_length is not None:
            found.append(
                CheckSpec(
                    short("ck", table, f.name, "length"),
                    f"char_length({f.column}) between {f.min_length} and {f.max_length}",
                )
            )
        elif f.kind is Kind.CHAIN:
            found.append(
                CheckSpec(short("ck", table, f.name, "range"), f"{f.column} >= 0 and {f.column} < {CHAIN_CEILING}")
            )
        elif f.kind is Kind.MONEY and (f.optional or f.asset_column != "asset"):
            pair = f"{f.column} is null or {f.asset_column} is not null"
            found.append(CheckSpec(short("ck", table, f.name, "asset"), pair))
    if shared:
        found.append(CheckSpec(short("ck", table, "asset"), "char_length(asset) between 2 and 32"))
    found += [CheckSpec(short("ck", table, r.name), r.sql) for r in rules if isinstance(r, Check)]
    return found


def _foreign_keys(table: str, fields: dict[str, FieldSpec]) -> list[ForeignKeySpec]:
    found = [ForeignKeySpec(short("fk", table, "tenant"), ("tenant_id",), REGISTRY_SCHEMA, "tenant", ("id",))]
    for f in fields.values():
        if f.kind is Kind.REF:
            rules = f.inner.__dict__.get("rules")
            target = (rules.table if rules else None) or snake(f.inner.__name__)
            found.append(
                ForeignKeySpec(
                    short("fk", table, f.name), ("tenant_id", f.column), "tally", target, ("tenant_id", "id")
                )
            )
    return found


def _transitions(cls: type[Entity], fields: dict[str, FieldSpec], rules: Any) -> list[Transitions]:
    found = [r for r in rules if isinstance(r, Transitions)]
    for rule in found:
        field = fields.get(rule.field)
        if field is None or field.kind is not Kind.ENUM:
            raise Declaration(
                f"{cls.__name__}: transitions need an enum field, {rule.field!r} is not one.",
                entity=cls.__name__,
                field=rule.field,
                remedy="Declare the field as a StrEnum.",
            )
        known = {str(m.value) for m in field.python}
        named = {*rule.initial, *rule.steps, *(s for to in rule.steps.values() for s in to)}
        if named - known or not rule.initial:
            raise Declaration(
                f"{cls.__name__}.{rule.field}: transitions name states the enum does not have, or no initial state.",
                entity=cls.__name__,
                field=rule.field,
                remedy=f"States are: {', '.join(sorted(known))}.",
            )
    return found
