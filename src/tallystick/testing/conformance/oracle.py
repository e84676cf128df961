"""What a query means, told in plain Python: the judge of every store.

Conditions are two-valued. A missing value equals nothing, is less and greater than nothing, differs from everything,
and ``not_`` is the complement. Text is ordered by its UTF-8 bytes; missing values come last ascending and first
descending.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from operator import ge, gt, le, lt
from typing import Any, TypeVar
from uuid import UUID

from tallystick.conditions import Compare, Condition, Missing, OneOf, Order, Part, Present, _Group
from tallystick.entity import Entity
from tallystick.fields import Ref
from tallystick.money import Money

E = TypeVar("E", bound=Entity)
_ORDERED = {"<": lt, "<=": le, ">": gt, ">=": ge}


def matches(entity: Entity, condition: Condition) -> bool:
    """Whether an entity satisfies a condition; sealed fields are not the oracle's business."""
    if isinstance(condition, _Group):
        found = [matches(entity, part) for part in condition.parts]
        if condition.word == "not":
            return not found[0]
        return all(found) if condition.word == "and" else any(found)
    if isinstance(condition, Present):
        return _value(entity, condition) is not None
    if isinstance(condition, Missing):
        return _value(entity, condition) is None
    if isinstance(condition, OneOf):
        return any(_same(_value(entity, condition), one) for one in condition.values)
    assert isinstance(condition, Compare)
    value = _value(entity, condition)
    if condition.op == "<>":
        return not _same(value, condition.value)
    if value is None:
        return False
    if condition.op == "contains":
        assert isinstance(condition.value, Part)
        part = condition.value.value
        return part in value if isinstance(value, str) else holds(value, part)
    if condition.op == "=":
        return _same(value, condition.value)
    if isinstance(value, Money) and value.asset != condition.value.asset:
        return False
    return bool(_ORDERED[condition.op](rank(value), rank(condition.value)))


def chosen(entities: Iterable[E], *conditions: Condition) -> list[E]:
    """The entities that satisfy all conditions."""
    return [e for e in entities if all(matches(e, c) for c in conditions)]


def ordered(entities: Iterable[E], order: Sequence[Order]) -> list[E]:
    """Entities in an order that ends with the id, in the direction of the key before it."""
    found = list(entities)
    keys = [(o.field.name, o.descending) for o in order]
    if not any(name == "id" for name, _ in keys):
        keys.append(("id", keys[-1][1] if keys else False))
    for name, descending in reversed(keys):
        found.sort(key=lambda e, n=name: _key(getattr(e, n)), reverse=descending)  # type: ignore[misc]
    return found


def holds(document: Any, part: Any) -> bool:
    """Whether a JSON document contains another, as PostgreSQL's ``@>`` says."""
    if isinstance(document, dict) and isinstance(part, dict):
        return all(name in document and holds(document[name], value) for name, value in part.items())
    if isinstance(document, list):
        if not isinstance(part, list):
            return not isinstance(part, dict) and any(_equal(one, part) for one in document)
        return all(any(_within(one, wanted) for one in document) for wanted in part)
    return _equal(document, part)


def _within(one: Any, wanted: Any) -> bool:
    nested = isinstance(one, (dict, list)) and isinstance(wanted, type(one))
    return holds(one, wanted) if nested else _equal(one, wanted)


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def rank(value: Any) -> Any:
    """A value as something that sorts the way stores sort it."""
    if isinstance(value, Enum):
        return str(value.value).encode()
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (Ref, Entity)):
        return value.id.bytes
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, Money):
        return value.units
    return value


def _key(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else rank(value))


def _value(entity: Entity, condition: Any) -> Any:
    field = condition.field
    name = field.name
    if name in field.entity.fields:
        return getattr(entity, name)
    owner = next(f for f in field.entity.fields.values() if f.promoted and name.startswith(f"{f.name}_"))
    return getattr(entity, owner.name).get(name.removeprefix(f"{owner.name}_"))


def _same(value: Any, other: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, Money):
        return bool(value == other)
    if isinstance(value, Enum) or value.__class__ is str:
        return bool(rank(value) == rank(other))
    return bool(rank(value) == rank(other)) and isinstance(value, bool) == isinstance(other, bool)
