"""The rules an entity declares beside its fields: indexes, uniqueness, checks, state machines, retention."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from tallystick.errors import Declaration

S = TypeVar("S", bound=Enum)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,58}")


@dataclass(frozen=True, slots=True, init=False)
class Index:
    """An index for one named query. The tenant comes first and the id last by themselves, so pages can use it.

    ``where`` is a literal SQL predicate for a partial index. ``include`` are fields that it carries along, so that a
    query over many rows reads the index alone; each change of one writes to the index.
    """

    fields: tuple[str, ...]
    query: str
    where: str | None
    include: tuple[str, ...]

    def __init__(self, *fields: str, query: str, where: str | None = None, include: tuple[str, ...] = ()) -> None:
        if not fields or len({*fields, *include}) < len(fields) + len(include):
            raise Declaration(
                "An index names one or more fields, each once.", remedy='Write Index("status", query=...).'
            )
        object.__setattr__(self, "include", include)
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "query", query)
        object.__setattr__(self, "where", where)


@dataclass(frozen=True, slots=True, init=False)
class Unique:
    """At most one row of a tenant has these values; archived rows do not count. ``where`` narrows it further.

    ``include`` are fields that its index carries along without their being part of the rule, as with ``Index``.
    """

    fields: tuple[str, ...]
    where: str | None
    include: tuple[str, ...]

    def __init__(self, *fields: str, where: str | None = None, include: tuple[str, ...] = ()) -> None:
        if len({*fields, *include}) < len(fields) + len(include):
            raise Declaration("A unique rule names a field twice.", remedy='Write Unique("borrower", "seen_at").')
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "where", where)
        object.__setattr__(self, "include", include)


@dataclass(frozen=True, slots=True)
class Check:
    """A named SQL condition every row must satisfy. Write columns as the table has them."""

    name: str
    sql: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or not str(self.sql).strip():
            raise Declaration(
                "A check has a name of lower-case letters, digits and underscores, and a condition.",
                remedy='Write Check("amount", "amount > 0").',
            )


@dataclass(frozen=True, slots=True, init=False)
class Transitions:
    """The state machine of a field, enforced by a trigger in the database itself.

    A new row must start in one of ``initial``; a state that ``steps`` does not name is final. ``open`` are the states
    that an application's own may be entered from and lead to (``Statuses``): those no rule of the domain hangs on.
    """

    field: str
    steps: Mapping[str, tuple[str, ...]]
    initial: tuple[str, ...]
    open: tuple[str, ...] = ()

    def __init__(
        self, field: str, steps: Mapping[S, Iterable[S]], *, initial: Iterable[S], open: Iterable[S] = ()
    ) -> None:
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "open", tuple(str(s.value) for s in open))
        object.__setattr__(self, "steps", {str(a.value): tuple(str(b.value) for b in to) for a, to in steps.items()})
        object.__setattr__(self, "initial", tuple(str(s.value) for s in initial))


@dataclass(frozen=True, slots=True, init=False)
class Statuses:
    """States and steps that an extension adds to the state machine of the entity it extends.

    ``steps`` go from, to or between states made by ``added``; those that the domain has stay as they are.
    """

    field: str
    steps: Mapping[Enum, tuple[Enum, ...]]

    def __init__(self, field: str, steps: Mapping[S, Iterable[S]]) -> None:
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "steps", {a: tuple(to) for a, to in steps.items()})


@dataclass(frozen=True, slots=True)
class AppendOnly:
    """Rows are written once; see ``append_only()``."""


def append_only() -> AppendOnly:
    """Rows of this entity can be added and never changed or removed, not by the application and not by the owner."""
    return AppendOnly()


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows are never removed; see ``kept()``."""


def kept() -> Kept:
    """Rows of this entity can be added and changed, and never removed, not by the application and not by the owner."""
    return Kept()


@dataclass(frozen=True, slots=True, init=False)
class Foreign:
    """A reference that more than the id must agree with: ``Foreign("debit", "asset", to=Account, of=("id", "asset"))``.

    The first field is the reference itself, whose plain key this one replaces. ``to`` needs a ``Unique`` rule on
    exactly ``of``. The tenant comes first on both sides by itself.
    """

    fields: tuple[str, ...]
    to: type
    of: tuple[str, ...]

    def __init__(self, *fields: str, to: type, of: tuple[str, ...]) -> None:
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "to", to)
        object.__setattr__(self, "of", of)


@dataclass(frozen=True, slots=True)
class Guard:
    """A trigger whose function a revision makes: when it ``fires``, and what it ``calls``, in SQL.

    ``referencing`` names transition tables ("NEW TABLE AS fresh"); a statement's trigger runs once however many rows.
    Pass the logical table's name as an argument, because a shard has another.
    """

    name: str
    fires: str
    calls: str
    when: str | None = None
    each: str = "ROW"
    referencing: str | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """Rows are work items that workers claim, oldest first by ``order``, under a lease."""

    order: str = "created_at"


class Readable(Enum):
    """Why a text, a document or bytes may be stored readable; what may be about a person is sealed instead."""

    CODE = "a code or name of a thing, a program or a source"
    TERMS = "terms, settings and measurements, about nobody"
    DIGEST = "a hash, a key in public or a proof"
    NOTE = "words about the operation, which name nobody"
    BY_ID = "about somebody whom only an id names, and worked on by the database"


Rule = Index | Unique | Check | Transitions | Statuses | AppendOnly | Kept | Foreign | Guard | Queue


class Rules:
    """Everything an entity declares that is not a field.

    ``retain`` names the retention class whose periods and legal bases live in policy data. ``table`` overrides the
    table's name, which is otherwise the class name in snake case. ``fillfactor`` leaves room on each page for rows that
    are updated all the time (percent filled, 10 to 100).

    Every change of a row is written to the audit log in the same transaction; ``audit=False`` leaves an entity out,
    which is for machinery that says nothing about anybody. ``unaudited`` names maintained fields that stay out of the
    log because the database works them out of rows that are in it. ``derived`` names the SQL function that works them
    out again, for the reconciler: STABLE, made by a revision, callable by the application; it takes the tenant and
    an array of ids, and answers a row for each with ``id`` and the columns as they should be. With ``audit_reads``
    whoever reads rows is written down too.

    ``subject`` names the reference to the person whose data a row is: sealed fields are encrypted under that person's
    key of the class that ``retain`` names, and can be erased with it. Without one a row is its own subject.

    ``extends`` names the entity whose table this one adds columns to, and of which it is a subclass.

    ``readable`` says of each text, document and bytes that is not sealed why it need not be: the linter asks.
    """

    __slots__ = (
        "audit", "audit_reads", "derived", "extends", "fillfactor", "items", "readable", "retain", "subject",
        "table", "unaudited"
    )  # fmt: skip

    def __init__(
        self,
        *items: Rule,
        retain: str | None = None,
        table: str | None = None,
        fillfactor: int | None = None,
        audit: bool = True,
        audit_reads: bool = False,
        unaudited: tuple[str, ...] = (),
        subject: str | None = None,
        readable: Mapping[str, Readable] | None = None,
        derived: str | None = None,
        extends: type | None = None,
    ) -> None:
        self.extends = extends
        self.fillfactor = fillfactor
        self.audit = audit
        self.audit_reads = audit_reads
        self.unaudited = unaudited
        self.subject = subject
        self.readable = dict(readable or {})
        self.derived = derived
        for item in items:
            if not isinstance(item, Rule):
                raise Declaration(
                    f"Rules() was given a {type(item).__name__}, which is no rule.",
                    remedy="Give Index(...), Unique(...), Check(...), Transitions(...), Queue(), append_only().",
                )
        self.items = items
        self.retain = retain
        self.table = table
