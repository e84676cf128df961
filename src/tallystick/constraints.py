"""The rules of a declaration as constraints: indexes, unique rules, checks, foreign keys, state machines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from itertools import product
from typing import TYPE_CHECKING, Any

from tallystick.errors import Declaration
from tallystick.rules import Check, Foreign, Guard, Index, Readable, Rules, Transitions, Unique
from tallystick.spec import REGISTRY_SCHEMA, CheckSpec, FieldSpec, ForeignKeySpec, IndexSpec, Kind
from tallystick.values import CHAIN_CEILING

if TYPE_CHECKING:
    from tallystick.entity import Entity


CUSTOM_BYTES = 65_536
"""The most bytes a document of custom fields has, as the database writes it."""
AUDIT_TRIGGER = "tally_0_audit"
"""Sorts before the names of all other triggers that follow a change: what those change is logged after it."""


def snake(name: str) -> str:
    """LoanProduct -> loan_product."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def short(*parts: str) -> str:
    """A PostgreSQL identifier under 63 bytes, cut and made unique again by a hash when it is longer."""
    name = "_".join(parts)
    return name if len(name) <= 60 else f"{name[:51]}_{blake2b(name.encode(), digest_size=4).hexdigest()}"


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
        elif field.kind in (Kind.JSON, Kind.DECIMAL, Kind.CHAIN, Kind.LEDGER) and not unique:
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


def indexes(  # noqa: PLR0917
    cls: type[Entity], table: str, fields: dict[str, FieldSpec], rules: Any, archivable: bool, queue: str | None
) -> list[IndexSpec]:
    """Declared indexes and unique rules, and those that references, blind indexes and queues need."""
    found: dict[str, IndexSpec] = {}
    for rule in rules:
        if isinstance(rule, Unique):
            where = " and ".join(f"({w})" for w in (rule.where, "archived_at is null" if archivable else None) if w)
            carried = _carried(cls, fields, rule.include)
            for named in _either(fields, _rule_columns(cls, fields, rule.fields, unique=True)):
                name = short("uq", table, *named)
                found[name] = IndexSpec(name, ("tenant_id", *named), True, where or None, "", rule.fields, carried)
        elif isinstance(rule, Index):
            carried = _carried(cls, fields, rule.include)
            for named in _either(fields, _rule_columns(cls, fields, rule.fields, unique=False)):
                name, columns = short("ix", table, *named), ("tenant_id", *named, "id")
                found[name] = IndexSpec(name, columns, False, rule.where, rule.query, rule.fields, carried)
    for field in fields.values():
        for blind in field.blind:
            for column in (blind.index_column, blind.next_column):
                if not any(column == i.columns[1] for i in found.values()):
                    name = short("ix", table, column)
                    found[name] = IndexSpec(
                        name, ("tenant_id", column, "id"), False, None, f"find by {blind.name}", (field.name,)
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


def _either(fields: dict[str, FieldSpec], columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """A rule's columns, and the same with each blind index in its other column: either may hold the index of now."""
    other = {f.index_column: f.next_column for f in fields.values() if f.search}
    return product(*((c, other[c]) if c in other else (c,) for c in columns))


def _carried(cls: type[Entity], fields: dict[str, FieldSpec], names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of fields that an index carries along; an amount brings its asset."""
    columns = list(_rule_columns(cls, fields, names, unique=True))
    columns += [f.asset_column for n in names if (f := fields.get(n)) is not None and f.asset_column is not None]
    return tuple(dict.fromkeys(columns))


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def checks(table: str, fields: dict[str, FieldSpec], rules: Any, shared: list[FieldSpec]) -> list[CheckSpec]:
    """Declared checks, and those that enums, lengths, chain amounts and assets need."""
    found = []
    for f in fields.values():
        if f.kind is Kind.ENUM:
            values = ", ".join(quote(str(m.value)) for m in f.members)
            found.append(CheckSpec(short("ck", table, f.name), f"{f.column} in ({values})"))
        elif f.kind is Kind.TEXT and f.max_length is not None:
            found.append(
                CheckSpec(
                    short("ck", table, f.name, "length"),
                    f"char_length({f.column}) between {f.min_length} and {f.max_length}",
                )
            )
        elif f.custom and f.kind is Kind.JSON:
            whole = f"jsonb_typeof({f.column}) = 'object' and octet_length({f.column}::text) <= {CUSTOM_BYTES}"
            found.append(CheckSpec(short("ck", table, f.name, "document"), whole))
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


def foreign_keys(cls: type[Entity], table: str, fields: dict[str, FieldSpec], rules: Any) -> list[ForeignKeySpec]:
    """The tenant, and one composite key for each reference, wider where a rule says so."""
    wide = [r for r in rules if isinstance(r, Foreign)]
    found = [ForeignKeySpec(short("fk", table, "tenant"), ("tenant_id",), REGISTRY_SCHEMA, "tenant", ("id",))]
    for f in fields.values():
        if f.kind is Kind.REF and f.name not in {r.fields[0] for r in wide}:
            target = _table_of(f.inner)
            found.append(
                ForeignKeySpec(
                    short("fk", table, f.name), ("tenant_id", f.column), "tally", target, ("tenant_id", "id")
                )
            )
    for rule in wide:
        columns = ("tenant_id", *_rule_columns(cls, fields, rule.fields, unique=True))
        found.append(
            ForeignKeySpec(
                short("fk", table, *rule.fields), columns, "tally", _table_of(rule.to), ("tenant_id", *rule.of)
            )
        )
    return found


def _table_of(cls: type) -> str:
    rules = cls.__dict__.get("rules")
    if rules and rules.extends is not None:
        return _table_of(rules.extends)
    return (rules.table if rules else None) or snake(cls.__name__)


def transitions(cls: type[Entity], fields: dict[str, FieldSpec], rules: Any) -> list[Transitions]:
    """The state machines, checked against the enums they speak of."""
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
        known = {str(m.value) for m in field.members}
        named = {*rule.initial, *rule.steps, *(s for to in rule.steps.values() for s in to)}
        if named - known or not rule.initial:
            raise Declaration(
                f"{cls.__name__}.{rule.field}: transitions name states the enum does not have, or no initial state.",
                entity=cls.__name__,
                field=rule.field,
                remedy=f"States are: {', '.join(sorted(known))}.",
            )
    return found


def unaudited(cls: type[Entity], fields: dict[str, FieldSpec], rules: Rules) -> tuple[str, ...]:
    """The columns that stay out of the audit log: blind indexes, and maintained fields that the rules name.

    A blind index would let whoever has a value look for it in a log that outlives the value's erasure.
    """
    for guard in rules.items:
        if (
            rules.audit
            and isinstance(guard, Guard)
            and guard.each == "ROW"
            and guard.fires.upper().startswith("AFTER")
            and guard.name <= AUDIT_TRIGGER
        ):
            raise Declaration(
                f"{cls.__name__}: the trigger {guard.name} would fire before the row's change is in the audit log.",
                entity=cls.__name__,
                remedy=f"Triggers fire by name: give it one that sorts after {AUDIT_TRIGGER}.",
            )
    for name in rules.unaudited:
        if name not in fields or not fields[name].maintained:
            raise Declaration(
                f"{cls.__name__}.{name} cannot be left out of the audit log.",
                entity=cls.__name__,
                field=name,
                remedy="Only fields that the database maintains can be: annotate it with Maintained().",
            )
    worked_out = [fields[name].columns[0].name for name in rules.unaudited]
    return (*(n for f in fields.values() for b in f.blind for n in (b.index_column, b.next_column)), *worked_out)


READABLE_KINDS = frozenset({Kind.TEXT, Kind.JSON, Kind.BYTES})
"""What can hold anything, also what is about a person, and so has to be sealed or said to be readable."""


def readable(cls: type[Entity], fields: dict[str, FieldSpec], rules: Rules) -> dict[str, Readable]:
    """Why texts, documents and bytes may be stored readable; only such fields have a reason to give."""
    for name, why in rules.readable.items():
        field = fields.get(name)
        if field is None or field.kind not in READABLE_KINDS or not isinstance(why, Readable):
            raise Declaration(
                f"{cls.__name__}.{str(name)[:40]} is no text, document or bytes that could be readable.",
                entity=cls.__name__,
                field=str(name)[:40],
                remedy='Write Rules(readable={"code": Readable.CODE}) for a field that is not sealed.',
            )
    # Personal values are refused there by name, so what it holds is the tenant's own terms.
    return {**{f.name: Readable.TERMS for f in fields.values() if f.custom and not f.sealed}, **rules.readable}


def derived(cls: type[Entity], rules: Rules) -> str | None:
    """The function that works unaudited columns out again; without one nobody could tell that they were edited."""
    name = rules.derived
    if name is None and not (rules.audit and rules.unaudited):
        return None
    if name is None or not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}", name):
        raise Declaration(
            f"{cls.__name__} does not name the function that works its unaudited columns out again.",
            entity=cls.__name__,
            remedy='Write derived="schema.function"; it takes a tenant and an array of ids.',
        )
    return name
