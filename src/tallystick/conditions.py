"""Conditions, order and the query value that every store compiles.

A query is data: it can be printed, compared and tested without a database. Its *shape* (operators and fields, without
values) is what stores key their compiled statements by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Never

import msgspec

from tallystick.errors import Invalid
from tallystick.spec import EntitySpec, FieldSpec, Kind

ORDERED = frozenset(
    {
        Kind.TEXT,
        Kind.INTEGER,
        Kind.TIMESTAMP,
        Kind.DATE,
        Kind.DECIMAL,
        Kind.MONEY,
        Kind.UUID,
        Kind.CHAIN,
        Kind.LEDGER,
        Kind.ENUM,
        Kind.BOOLEAN,
        Kind.REF,
    }
)
# Up to this many values of one condition are read as one ordered scan each, so their number belongs to the shape.
MERGED = 16
Shape = tuple[Any, ...]


class Condition:
    """Something that is true or false of a row. Combine with ``&``, ``|``, ``not_``, ``any_of`` and ``all_of``."""

    __slots__ = ()

    if TYPE_CHECKING:

        def shape(self) -> Shape:
            """What the condition is without its values."""
            ...

        def bind(self, out: list[tuple[FieldSpec, Any]]) -> None:
            """Append the condition's values in the order its shape mentions them."""
            ...

    def __and__(self, other: Condition) -> Condition:
        return All((self, condition_of(other)))

    def __or__(self, other: Condition) -> Condition:
        return AnyOf((self, condition_of(other)))

    def __bool__(self) -> Never:
        raise Invalid(
            "A condition has no truth value.",
            remedy="Pass it to find(), combine conditions with & and |, never with `and`, `or`, `not`, `in`.",
        )


class Field:
    """What ``Entity.field`` answers on the class: the thing conditions, order, load and rules refer to."""

    __slots__ = ("_hash", "entity", "spec")

    def __init__(self, entity: EntitySpec, spec: FieldSpec) -> None:
        self.entity = entity
        self.spec = spec
        self._hash = hash((entity.table, spec.name))

    @property
    def name(self) -> str:
        """The field's name in the entity."""
        return self.spec.name

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return Missing(self) if value is None else Compare(self, "=", value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return Present(self) if value is None else Compare(self, "<>", value)

    def __lt__(self, value: object) -> Condition:
        return Compare(self, "<", value)

    def __le__(self, value: object) -> Condition:
        return Compare(self, "<=", value)

    def __gt__(self, value: object) -> Condition:
        return Compare(self, ">", value)

    def __ge__(self, value: object) -> Condition:
        return Compare(self, ">=", value)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"{self.entity.name}.{self.spec.name}"


class Compare(Condition):
    """A field against one value. Sealed fields answer to equality only, through their blind index."""

    __slots__ = ("field", "op", "value")

    def __init__(self, field: Field, op: str, value: Any) -> None:
        spec = field.spec
        if value is None:
            raise Invalid(
                f"{field!r} {op} None has no meaning in SQL.",
                entity=field.entity.name,
                field=field.name,
                remedy="Use missing(field) or present(field).",
            )
        if spec.sealed:
            if spec.search is None or op not in ("=", "<>"):
                raise Invalid(
                    f"{field!r} is sealed and cannot be compared by {op}.",
                    entity=field.entity.name,
                    field=field.name,
                    remedy="Only equality works, where the field declares Search(...).",
                )
        elif op not in ("=", "<>") and spec.kind not in ORDERED:
            if spec.kind is not Kind.TEXT:
                raise Invalid(
                    f"{field!r} has no order.",
                    entity=field.entity.name,
                    field=field.name,
                    remedy="Compare it by equality, or promote a JSON key to a column.",
                )
        elif spec.kind in (Kind.JSON, Kind.BYTES) and spec.kind is Kind.JSON:
            raise Invalid(
                f"{field!r} is a document.",
                entity=field.entity.name,
                field=field.name,
                remedy="Use contains(field, {...}) or key(field, 'name') on a promoted key.",
            )
        self.field, self.op, self.value = field, op, value

    def shape(self) -> Shape:
        return (self.op, self.field.spec.name)

    def bind(self, out: list[tuple[FieldSpec, Any]]) -> None:
        out.append((self.field.spec, self.value))

    def __repr__(self) -> str:
        return f"{self.field!r} {self.op} …"


class Several(tuple[Any, ...]):
    """The operand of ``OneOf``, told apart from a value that is itself a tuple."""

    __slots__ = ()


class Part:
    """The operand of ``contains``: not a whole value of the field."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class OneOf(Condition):
    """A field against several values."""

    __slots__ = ("field", "values")

    def __init__(self, field: Field, values: tuple[Any, ...]) -> None:
        self.field, self.values = field, values

    def shape(self) -> Shape:
        return ("in", self.field.spec.name, min(len(self.values), MERGED + 1))

    def bind(self, out: list[tuple[FieldSpec, Any]]) -> None:
        if self.values:
            out.append((self.field.spec, Several(self.values)))

    def __repr__(self) -> str:
        return f"{self.field!r} in ({len(self.values)} values)"


class Missing(Condition):
    """A field without a value."""

    __slots__ = ("field",)

    def __init__(self, field: Field) -> None:
        self.field = field

    def shape(self) -> Shape:
        return ("null", self.field.spec.name)

    def bind(self, out: list[tuple[FieldSpec, Any]]) -> None:
        return None

    def __repr__(self) -> str:
        return f"missing({self.field!r})"


class Present(Missing):
    """A field with a value."""

    __slots__ = ()

    def shape(self) -> Shape:
        return ("notnull", self.field.spec.name)

    def __repr__(self) -> str:
        return f"present({self.field!r})"


class _Group(Condition):
    __slots__ = ("parts",)
    word = ""

    def __init__(self, parts: tuple[Condition, ...]) -> None:
        self.parts = parts

    def shape(self) -> Shape:
        return (self.word, *(p.shape() for p in self.parts))

    def bind(self, out: list[tuple[FieldSpec, Any]]) -> None:
        for part in self.parts:
            part.bind(out)

    def __repr__(self) -> str:
        return f"{self.word}({', '.join(map(repr, self.parts))})"


class All(_Group):
    """Every part holds."""

    __slots__ = ()
    word = "and"


class AnyOf(_Group):
    """At least one part holds."""

    __slots__ = ()
    word = "or"


class Not(_Group):
    """The part does not hold (false or unknown)."""

    __slots__ = ()
    word = "not"


class Order(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One sort key and its direction. Nulls come last ascending and first descending."""

    field: Field
    descending: bool = False


Lock = Literal["", "shared", "exclusive", "exclusive or refuse", "exclusive or skip"]
"""Until the transaction ends nobody else may change what was read ("shared"), or hold it either ("exclusive")."""


class Query(msgspec.Struct, frozen=True, gc=False):
    """What to read: conditions, order, limit, offset or the position a cursor marks, and whether to lock.

    ``values`` are the conditions' operands as the codec made them for the store, in the order the conditions bind
    them: a store sees no plain value of a sealed field. ``verb`` is what the caller asked for, in the words of the
    repository, for whoever writes reads down.
    """

    where: tuple[Condition, ...] = ()
    values: tuple[Any, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    after: tuple[Any, ...] | None = None
    lock: Lock = ""
    shape: Shape = ()
    verb: str = "find"


def width(condition: Condition) -> int:
    """How many of a query's values belong to a condition."""
    if isinstance(condition, _Group):
        return sum(width(part) for part in condition.parts)
    if isinstance(condition, Missing) or (isinstance(condition, OneOf) and not condition.values):
        return 0
    spec: FieldSpec = condition.field.spec  # type: ignore[attr-defined]
    return 2 if spec.kind is Kind.MONEY or spec.sealed else 1


def condition_of(value: Any) -> Condition:
    """The value as a condition; anything else, a plain bool above all, raises ``Invalid``."""
    if not isinstance(value, Condition):
        raise Invalid(
            "A filter is not a condition.",
            remedy="Write conditions on the class: Loan.status == LoanStatus.ACTIVE, one_of(Loan.status, ...).",
        )
    return value


def shape_of(where: Sequence[Condition], order: Sequence[Order]) -> Shape:
    """What a query is without its values: stores key their compiled text by it, cursors are tied to it."""
    return (tuple([c.shape() for c in where]), tuple([(o.field.spec.name, o.descending) for o in order]))
