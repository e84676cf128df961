"""Entities declared in a way that could not be stored safely: refused when first used, with the field and why."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from tests.badinput.support import refused

from tallystick import (
    ChainAmount,
    Check,
    Entity,
    Index,
    Json,
    Length,
    Mask,
    Money,
    Numeric,
    OwnAsset,
    Personal,
    Queue,
    Ref,
    Rules,
    Search,
    Secret,
    Tallystick,
    Transitions,
    Unique,
    append_only,
)
from tallystick.entity import spec_of
from tallystick.errors import Declaration


class State(enum.StrEnum):
    """A state machine's states."""

    NEW = "new"
    OLD = "old"


class Other(enum.StrEnum):
    """Another's."""

    NEW = "new"
    LOST = "lost"


class Number(enum.Enum):
    """Not made of text."""

    ONE = 1


class IntNumber(enum.IntEnum):
    """Not made of text either."""

    ONE = 1


class Empty(enum.StrEnum):
    """No states at all."""


class Unstorable(enum.StrEnum):
    """PostgreSQL's text has no NUL."""

    A = "a\0b"


class Plain:
    """Nothing that can be stored."""


class Target(Entity):
    """Something to refer to."""

    name: str


def declared(rules: Rules | None = None, name: str = "Probe", **annotations: Any) -> type[Entity]:
    """An entity with these fields."""
    namespace: dict[str, Any] = {"__annotations__": annotations, "__module__": __name__, "__qualname__": name}
    if rules is not None:
        namespace["rules"] = rules
    return type(Entity)(name, (Entity,), namespace)


WRONG_FIELDS: dict[str, dict[str, Any]] = {
    "float": {"x": float},
    "optional float": {"x": float | None},
    "complex": {"x": complex},
    "secret float": {"x": Secret[float]},
    "personal float": {"x": Personal[float]},
    "decimal without digits": {"x": Decimal},
    "optional decimal without digits": {"x": Decimal | None},
    "enum of numbers": {"x": Number},
    "enum of ints": {"x": IntNumber},
    "reference to nothing": {"x": Ref},
    "reference to a class": {"x": Ref[Plain]},
    "reference to a type": {"x": Ref[int]},
    "reference to a base": {"x": Ref[Any]},
    "class": {"x": Plain},
    "object": {"x": object},
    "union": {"x": int | str},
    "set": {"x": set[str]},
    "callable": {"x": Callable[[], None]},
    "searched but not sealed": {"x": Annotated[str, Search("exact")]},
    "reserved: lease_token": {"lease_token": str},
    "reserved: attempts": {"attempts": int},
    "reserved: done_at": {"done_at": datetime | None},
    "capitals": {"Name": str},
    "underscore": {"_hidden_not": str} if False else {"nAme": str},
    "too long": {"x" * 60: str},
    "not ascii": {"naïve": str},
    "hides ref": {"ref": str},
    "hides table": {"table": str},
    "word of SQL: limit": {"limit": int},
    "word of SQL: user": {"user": str},
    "word of SQL: order": {"order": int},
    "word of SQL: end": {"end": datetime},
    "word of SQL: default": {"default": bool},
    "collision with a reference": {"owner": Ref[Target], "owner_id": str},
    "collision with an index": {"x": Annotated[Secret[str], Search("exact")], "x_bidx": bytes},
    "collision with the asset": {"fee": Money, "asset": str},
    "collision with an own asset": {"fee": Annotated[Money, OwnAsset()], "fee_asset": str},
    "collision with a promoted key": {"doc": Annotated[dict[str, Any], Json(promote={"a": int})], "doc_a": int},
    "promoted key that is no name": {"doc": Annotated[dict[str, Any], Json(promote={"a b": int})]},
    "promoted key with a quote": {"doc": Annotated[dict[str, Any], Json(promote={"a'; --": int})]},
    "promoted key of a float": {"doc": Annotated[dict[str, Any], Json(promote={"a": float})]},
    "promoted key of a document": {"doc": Annotated[dict[str, Any], Json(promote={"a": dict})]},
    "a name that is not known": {"x": "Nowhere"},
    "enum of nothing": {"x": Empty},
    "enum with a NUL": {"x": Unstorable},
    "searched in a way there is none": {"x": Annotated[Secret[str], Search("nonsense")]},
    "no bits": {"x": Annotated[Secret[str], Search("exact", bits=0)]},
    "too many bits": {"x": Annotated[Secret[str], Search("exact", bits=257)]},
}
TEXT: dict[str, Any] = {"a": str, "b": Annotated[str, Length(10)]}
WRONG_RULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "index on nothing known": (Index("nonsense", query="q"), TEXT),
    "unique on nothing known": (Unique("nonsense"), TEXT),
    "unique on a column instead of a field": (Unique("owner_id"), {"owner": Ref[Target]}),
    "index on a decimal": (Index("x", query="q"), {"x": Annotated[Decimal, Numeric(12, 8)]}),
    "index on a document": (Index("x", query="q"), {"x": dict[str, Any]}),
    "index on a chain amount": (Index("x", query="q"), {"x": ChainAmount}),
    "index on a secret without search": (Index("x", query="q"), {"x": Secret[str]}),
    "unique on a personal field without search": (Unique("x"), {"x": Personal[str]}),
    "unique on a truncated index": (Unique("x"), {"x": Annotated[Secret[str], Search("exact", bits=16)]}),
    "states of another enum": (
        Transitions("x", {Other.NEW: [Other.LOST]}, initial=[Other.NEW]),
        {"x": State},
    ),
    "no initial state": (Transitions("x", {State.NEW: [State.OLD]}, initial=[]), {"x": State}),
    "states of no enum": (Transitions("a", {State.NEW: [State.OLD]}, initial=[State.NEW]), TEXT),
    "states of no field": (Transitions("nonsense", {State.NEW: [State.OLD]}, initial=[State.NEW]), {"x": State}),
    "a check named like a generated one": (Check("b_length", "b is not null"), TEXT),
    "written once and a queue": (append_only(), {"x": str}),
    "queue in the order of nothing": (Queue("nonsense"), {"x": str}),
    "queue in the order of a document": (Queue("x"), {"x": dict[str, Any]}),
}


MARKERS: dict[str, Callable[[], Any]] = {
    "length below zero": lambda: Length(-1),
    "length of nothing": lambda: Length(0),
    "length the wrong way round": lambda: Length(3, min=5),
    "length of text": lambda: Length("5"),  # type: ignore[arg-type]
    "no digits": lambda: Numeric(0, 0),
    "more digits after the point than in all": lambda: Numeric(3, 5),
    "too many digits": lambda: Numeric(2_000, 5),
    "digits below zero": lambda: Numeric(5, -2),
    "mask below zero": lambda: Mask(-1),
    "mask of everything": lambda: Mask(100),
    "index of nothing": lambda: Index(query="nothing"),
    "index of one field twice": lambda: Index("a", "a", query="twice"),
    "unique by one field twice": lambda: Unique("a", "a"),
    "check with SQL for a name": lambda: Check("a; DROP TABLE x", "true"),
    "check without a condition": lambda: Check("a", " "),
    "rules of text": lambda: Rules("x"),  # type: ignore[arg-type]
    "rules of a class": lambda: Rules(Unique),  # type: ignore[arg-type]
    "rules of None": lambda: Rules(None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("how", MARKERS)
def test_a_marker_that_means_nothing(how: str) -> None:
    with refused(Declaration):
        MARKERS[how]()


def test_two_state_machines_of_one_field() -> None:
    machine = Transitions("x", {State.NEW: [State.OLD]}, initial=[State.NEW])
    with refused(Declaration):
        spec_of(declared(Rules(machine, machine), x=State))


@pytest.mark.parametrize("how", WRONG_FIELDS)
def test_a_field_that_cannot_be_stored_safely(how: str) -> None:
    entity = declared(**WRONG_FIELDS[how])
    with refused(Declaration) as caught:
        spec_of(entity)
    assert caught.value.entity == "Probe"
    # Whatever asks first is told, every time.
    with refused(Declaration):
        entity.Filter  # noqa: B018
    with refused(Declaration):
        Tallystick.open("postgresql://localhost/x", entities=[entity])


@pytest.mark.parametrize("how", WRONG_RULES)
def test_a_rule_that_cannot_hold(how: str) -> None:
    rule, annotations = WRONG_RULES[how]
    rules = Rules(rule, Queue()) if "and a queue" in how else Rules(rule)
    with refused(Declaration):
        spec_of(declared(rules, **annotations))


@pytest.mark.parametrize(
    "table", ["Upper", "a b", "1st", "", "x" * 60, "a;b", 'a"b', "select", "order", "user", "pg-x", "ä"]
)
def test_a_table_that_is_no_name(table: str) -> None:
    if table:
        with refused(Declaration):
            spec_of(declared(Rules(table=table), a=str))


def test_a_class_whose_table_would_be_a_word_of_sql() -> None:
    for name in ("Order", "User", "Group", "Check", "Column", "Grant"):
        with refused(Declaration) as caught:
            spec_of(declared(name=name, a=str))
        assert "Rules(table=" in caught.value.remedy
        assert spec_of(declared(Rules(table=f"{name.lower()}s"), name=name, a=str)).table == f"{name.lower()}s"


def test_two_entities_with_one_table() -> None:
    one, two = declared(Rules(table="same"), name="One", a=str), declared(Rules(table="same"), name="Two", a=str)
    with refused(Declaration) as caught:
        Tallystick.open("postgresql://localhost/x", entities=[one, two])
    assert "same" in caught.value.problem
    with refused(Declaration):
        Tallystick.open("postgresql://localhost/x", entities=[declared(Rules(table="user_account"), a=str)])


@pytest.mark.parametrize("entities", [[5], ["Target"], [None], [Plain], [Target(name="x")], 5, Target], ids=range(7))
def test_entities_that_are_none(entities: Any) -> None:
    with refused():
        Tallystick.open("postgresql://localhost/x", entities=entities)


def test_what_is_right_is_let_through() -> None:
    fine = declared(
        Rules(
            Unique("x", "label"),
            Index("state", "at", query="by state"),
            Transitions("state", {State.NEW: [State.OLD]}, initial=[State.NEW]),
        ),
        x=Annotated[Secret[str], Search("exact")],
        label=Annotated[str, Length(10)],
        state=State,
        at=datetime,
        credit_limit=Money,
        time=datetime,
        values=list[str],
        position=int,
        owner=Ref[Target] | None,
    )
    assert set(spec_of(fine).fields) >= {"x", "label", "state", "at", "credit_limit", "time", "values", "position"}
