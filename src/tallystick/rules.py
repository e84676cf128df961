"""The rules an entity declares beside its fields: indexes, uniqueness, checks, state machines, retention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

S = TypeVar("S", bound=Enum)


@dataclass(frozen=True, slots=True, init=False)
class Index:
    """An index for one named query. The tenant comes first and the id last by themselves, so pages can use it.

    ``where`` is a literal SQL predicate for a partial index.
    """

    fields: tuple[str, ...]
    query: str
    where: str | None

    def __init__(self, *fields: str, query: str, where: str | None = None) -> None:
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "query", query)
        object.__setattr__(self, "where", where)


@dataclass(frozen=True, slots=True, init=False)
class Unique:
    """At most one row of a tenant has these values; archived rows do not count. ``where`` narrows it further."""

    fields: tuple[str, ...]
    where: str | None

    def __init__(self, *fields: str, where: str | None = None) -> None:
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "where", where)


@dataclass(frozen=True, slots=True)
class Check:
    """A named SQL condition every row must satisfy. Write columns as the table has them."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True, init=False)
class Transitions:
    """The state machine of a field, enforced by a trigger in the database itself.

    A new row must start in one of ``initial``; a state that ``steps`` does not name is final.
    """

    field: str
    steps: Mapping[str, tuple[str, ...]]
    initial: tuple[str, ...]

    def __init__(self, field: str, steps: Mapping[S, Iterable[S]], *, initial: Iterable[S]) -> None:
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "steps", {str(a.value): tuple(str(b.value) for b in to) for a, to in steps.items()})
        object.__setattr__(self, "initial", tuple(str(s.value) for s in initial))


@dataclass(frozen=True, slots=True)
class AppendOnly:
    """Rows are written once; see ``append_only()``."""


def append_only() -> AppendOnly:
    """Rows of this entity can be added and never changed or removed, not by the application and not by the owner."""
    return AppendOnly()


@dataclass(frozen=True, slots=True)
class Queue:
    """Rows are work items that workers claim, oldest first by ``order``, under a lease."""

    order: str = "created_at"


Rule = Index | Unique | Check | Transitions | AppendOnly | Queue


class Rules:
    """Everything an entity declares that is not a field.

    ``retain`` names the retention class whose periods and legal bases live in policy data. ``table`` overrides the
    table's name, which is otherwise the class name in snake case.
    """

    __slots__ = ("items", "retain", "table")

    def __init__(self, *items: Rule, retain: str | None = None, table: str | None = None) -> None:
        self.items = items
        self.retain = retain
        self.table = table
