"""The functions that make conditions and order where an operator would not read or not type-check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any, TypeVar

from tallystick.conditions import (
    ORDERED,
    All,
    AnyOf,
    Compare,
    Condition,
    Field,
    Missing,
    Not,
    OneOf,
    Order,
    Part,
    Present,
    condition_of,
)
from tallystick.conditions import _Group as Group
from tallystick.errors import Invalid
from tallystick.spec import EntitySpec, FieldSpec, IndexSpec, Kind

T = TypeVar("T")
_MAX_VALUES = 10_000


def _field(value: Any, function: str) -> Field:
    if not isinstance(value, Field):
        raise Invalid(f"{function}() needs a field of an entity class.", remedy=f"Write {function}(Loan.status, ...).")
    return value


def one_of(field: T, values: Iterable[T]) -> Condition:
    """The field has one of the values; an empty collection matches nothing."""
    handle, found = _field(field, "one_of"), _distinct(values)
    if found is None:
        raise Invalid(
            f"one_of({handle!r}) needs a collection of values.",
            field=handle.name,
            remedy="Write one_of(field, [a, b]).",
        )
    if len(found) > _MAX_VALUES:
        raise Invalid(f"one_of({handle!r}) has more than {_MAX_VALUES} values.", remedy="Query in batches.")
    if len(found) == 1:
        return Compare(handle, "=", found[0])
    for value in found:
        Compare(handle, "=", value)
    return OneOf(handle, found)


def _distinct(values: Any) -> tuple[Any, ...] | None:
    """Each value once; None for what is no collection of values, or a text, which would be taken letter by letter."""
    try:
        return None if isinstance(values, (str, bytes)) else tuple(dict.fromkeys(values))
    except TypeError:
        return None


def between(field: T | None, low: T, high: T) -> Condition:
    """Low <= field <= high."""
    handle = _field(field, "between")
    return All((Compare(handle, ">=", low), Compare(handle, "<=", high)))


def at_least(field: T | None, value: T) -> Condition:
    """Field >= value, for optional fields too."""
    return Compare(_field(field, "at_least"), ">=", value)


def at_most(field: T | None, value: T) -> Condition:
    """Field <= value, for optional fields too."""
    return Compare(_field(field, "at_most"), "<=", value)


def more_than(field: T | None, value: T) -> Condition:
    """Field > value, for optional fields too."""
    return Compare(_field(field, "more_than"), ">", value)


def less_than(field: T | None, value: T) -> Condition:
    """Field < value, for optional fields too."""
    return Compare(_field(field, "less_than"), "<", value)


def missing(field: Any) -> Condition:
    """The field has no value."""
    return Missing(_field(field, "missing"))


def present(field: Any) -> Condition:
    """The field has a value."""
    return Present(_field(field, "present"))


def prefix(field: str | None, start: str) -> Condition:
    """The text starts with ``start``: a range on a "C"-collated column, which an index serves under row security."""
    handle = _field(field, "prefix")
    if handle.spec.kind is not Kind.TEXT or not isinstance(start, str) or not start:
        raise Invalid(
            "prefix() needs a text field and a non-empty start.",
            field=handle.name,
            remedy="Write prefix(User.reference, 'A12').",
        )
    low, high = Compare(handle, ">=", start), _after_prefix(start)
    return low if high is None else All((low, Compare(handle, "<", high)))


def _after_prefix(start: str) -> str | None:
    for end in range(len(start), 0, -1):
        point = ord(start[end - 1])
        if point < 0x10FFFF:
            return start[: end - 1] + chr(0xE000 if point == 0xD7FF else point + 1)
    return None


def ends_with(field: Any, last: str) -> Condition:
    """The closing characters of a sealed value are these: as many as its ``Search(..., last=4)`` says, normalised.

    Raises ``Invalid`` for a field without such an index, and, when it is used, for more or fewer characters.
    """
    handle = _field(field, "ends_with")
    if handle.spec.ending is None:
        raise Invalid(
            f"{handle!r} cannot be searched by its closing characters.",
            entity=handle.entity.name,
            field=handle.name,
            remedy="Annotate the field with Search(..., last=4) and migrate.",
        )
    return Compare(Field(handle.entity, handle.spec.ending), "=", last)


def contains(field: Any, part: Any) -> Condition:
    """The JSON document contains ``part``, or the text contains it anywhere.

    Neither can use an index under row-level security, so every row of the tenant is read: combine it with a
    condition that narrows, or promote the key.
    """
    handle = _field(field, "contains")
    if handle.spec.kind not in (Kind.JSON, Kind.TEXT):
        raise Invalid(
            f"{handle!r} is neither text nor a document.",
            field=handle.name,
            remedy="Use contains() on text and JSON fields.",
        )
    return _Contains(handle, part)


class _Contains(Compare):
    __slots__ = ()

    def __init__(self, field: Field, part: Any) -> None:
        self.field, self.op, self.value = field, "contains", Part(part)


def key(field: Any, name: str) -> Any:
    """The promoted key of a JSON field, as something to write conditions on: ``key(Input.payload, "score") >= 5``."""
    handle = _field(field, "key")
    python = (handle.spec.promoted or {}).get(name)
    if python is None:
        raise Invalid(
            f"{handle!r} does not promote the key {name!r}.",
            field=handle.name,
            remedy=f"Annotate the field with Json(promote={{{name!r}: str}}) and migrate.",
        )
    column = handle.entity.column(f"{handle.spec.name}_{name}")
    kind = {str: Kind.TEXT, int: Kind.INTEGER, bool: Kind.BOOLEAN}[python]
    return Field(handle.entity, FieldSpec(column.name, kind, python, True, (column,)))


def not_(condition: Condition | bool) -> Condition:
    """The condition is false or unknown (a missing value included)."""
    return Not((condition_of(condition),))


def any_of(*conditions: Condition | bool) -> Condition:
    """At least one of the conditions holds."""
    return AnyOf(tuple(condition_of(c) for c in conditions))


def all_of(*conditions: Condition | bool) -> Condition:
    """All of the conditions hold."""
    return All(tuple(condition_of(c) for c in conditions))


def asc(field: Any) -> Order:
    """Smallest first; missing values last."""
    return _order(_field(field, "asc"), descending=False)


def desc(field: Any) -> Order:
    """Largest first; missing values first."""
    return _order(_field(field, "desc"), descending=True)


def order_by(entity: Any, keys: str) -> tuple[Order, ...]:
    """The order an HTTP query asks for: ``order_by(Loan, "-created_at,status")``, a minus meaning largest first.

    Raises ``Invalid`` for a key that is not a field one can sort by.
    """
    found = []
    for part in keys.split(",") if isinstance(keys, str) else ():
        name = part.strip()
        field = getattr(entity, name.lstrip("-"), None) if name.lstrip("-").isidentifier() else None
        if not isinstance(field, Field) or name.startswith("--"):
            raise Invalid(
                f"{entity.__name__} cannot be sorted by {name[:40]!r}.",
                field="order",
                remedy="Name fields, separated by commas, with a minus for largest first.",
            )
        found.append(_order(field, descending=name.startswith("-")))
    if len({one.field.name for one in found}) < len(found):
        raise Invalid("The order names a field twice.", field="order", remedy="Name each field once.")
    if not found:
        raise Invalid("The order is empty.", field="order", remedy="Name at least one field.")
    return tuple(found)


def _order(field: Field, *, descending: bool) -> Order:
    if field.spec.kind not in ORDERED:
        raise Invalid(
            f"{field!r} cannot be sorted by.",
            entity=field.entity.name,
            field=field.name,
            remedy="Sort by a text, number, date, money or id field; sealed fields and documents have no order.",
        )
    return Order(field, descending)


def orders(spec: EntitySpec, order: Any) -> tuple[Order, ...]:
    """Normalise an order argument, ending in the id so that every order is total."""
    given: Sequence[Any] = order if isinstance(order, (tuple, list)) else () if order is None else (order,)
    found: list[Order] = []
    descending = False
    for one in given:
        wanted = one if one.__class__ is Order else asc(one)
        if not spec.owns(wanted.field.entity):
            raise Invalid(
                f"{wanted.field!r} is not a field of {spec.name}.",
                entity=spec.name,
                field=wanted.field.name,
                remedy=f"Sort {spec.name} by its own fields.",
            )
        found.append(wanted)
        descending = wanted.descending
        if wanted.field.spec.name == "id":
            return tuple(found)
    found.append(_by_id(spec, descending))
    return tuple(found)


@cache
def _by_id(spec: EntitySpec, descending: bool) -> Order:
    return Order(Field(spec, spec.fields["id"]), descending)


def check_fields(spec: EntitySpec, condition: Condition) -> bool:
    """Refuse conditions on other entities; answers False when the condition speaks of archived_at itself."""
    if isinstance(condition, Group):
        return all(list(map(partial(check_fields, spec), condition.parts)))
    field: Field = condition.field  # type: ignore[attr-defined]
    if not spec.owns(field.entity):
        raise Invalid(
            f"{field!r} is not a field of {spec.name}.",
            entity=spec.name,
            field=field.name,
            remedy=f"Conditions of db[{spec.name}] are written on {spec.name}.",
        )
    return field.name != "archived_at"


def unique_rule(spec: EntitySpec, on: Any) -> IndexSpec:
    """The declared unique rule on exactly these fields. Raises ``Invalid`` where there is none."""
    given = on if isinstance(on, (tuple, list)) else (on,)
    names = tuple(o.name if isinstance(o, Field) else str(o) for o in given)
    rule = next((i for i in spec.indexes if i.unique and set(i.fields) == set(names)), None)
    if rule is None:
        raise Invalid(
            f"{spec.name} declares no unique rule on {', '.join(names)}.",
            entity=spec.name,
            remedy=f"Declare Unique({', '.join(map(repr, names))}) in its rules.",
        )
    return rule
