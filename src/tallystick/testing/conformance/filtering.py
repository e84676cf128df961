"""Conditions mean what the oracle says they mean, alone and combined, and so do orders, counts and HTTP filters."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from tallystick.conditions import Condition
from tallystick.errors import Invalid
from tallystick.fields import Ref
from tallystick.money import Money, eur, usd
from tallystick.query import (
    all_of,
    any_of,
    asc,
    at_least,
    at_most,
    between,
    contains,
    desc,
    key,
    less_than,
    missing,
    more_than,
    not_,
    one_of,
    prefix,
    present,
)
from tallystick.testing.conformance.base import Base
from tallystick.testing.conformance.capabilities import Capability, needs
from tallystick.testing.conformance.entities import Colour, Owner, Sink
from tallystick.testing.conformance.oracle import chosen, ordered

if TYPE_CHECKING:
    from tallystick.session import Session

_WORDS = ["", "a", "A", "ab", "aB", "abc", "b", "z", "é", "zz\U0010ffff", "\U0010ffff", "%", "_", "a%", "\ue000", "ZZ"]
_DAWN = datetime(2026, 1, 1, tzinfo=UTC)
_TOKENS = [UUID(int=n) for n in (0, 1, 2**64, 2**127, 2**128 - 1)]
_VALUES: dict[str, list[Any]] = {
    "label": _WORDS,
    "note": _WORDS,
    "number": [-(2**63), -1, 0, 1, 2, 2**63 - 1],
    "amount": [-(2**63), -1, 0, 1, 2, 2**63 - 1],
    "flag": [True, False],
    "maybe": [True, False],
    "token": _TOKENS,
    "at": [_DAWN + timedelta(microseconds=n) for n in (-1, 0, 1, 2)],
    "day": [date(2026, 1, 1) + timedelta(days=n) for n in range(4)],
    "rate": [Decimal("-0.5"), Decimal(0), Decimal("0.00000001"), Decimal("1.5")],
    "price": [Decimal("-0.5"), Decimal(0), Decimal("0.000000000000000001"), Decimal(10**19)],
    "colour": list(Colour),
    "shade": list(Colour),
    "raw": [b"", b"\x00", b"\xff"],
    "blob": [b"", b"\x00", b"\xff"],
    "fee": [usd("-1"), usd(0), usd("0.01"), usd(5), eur(5), eur("0.01")],
    "deposit": [usd("-1"), usd(0), usd(5), eur(5)],
    "wei": [0, 1, 10**30, 2**256 - 1],
    "gas": [0, 1, 10**30, 2**256 - 1],
}
_OPTIONAL = (
    "note",
    "amount",
    "maybe",
    "token",
    "at",
    "day",
    "price",
    "shade",
    "blob",
    "fee",
    "deposit",
    "gas",
    "owner",
)
_ORDERED = tuple(n for n in _VALUES if n not in ("raw", "blob"))
_DOCUMENTS: list[dict[str, Any]] = [
    {},
    {"score": 1, "kind": "a", "ok": True},
    {"score": 2, "kind": "b", "ok": False, "list": [1, 2, {"x": [1]}]},
    {"score": None, "kind": None, "ok": None, "nested": {"a": {"b": 1}, "c": None}},
    {"score": -5, "list": [], "nested": {"a": {}}, "flag": False, "one": 1},
    {"list": ["a", None, True], "one": "1"},
]
_PARTS: list[Any] = [
    {},
    {"score": 1},
    {"score": None},
    {"list": []},
    {"list": [2]},
    {"list": [{"x": []}]},
    {"list": [None]},
    {"list": [1]},
    {"nested": {"a": {}}},
    {"nested": {"a": {"b": 1}}},
    {"nested": {"c": None}},
    {"flag": False},
    {"one": True},
    {"one": 1},
    {"one": "1"},
]


async def rows(db: Session, count: int = 60) -> list[Sink]:
    """Sinks with few different values, so that every condition meets ties, matches and missing values."""
    pick = random.Random("conformance")  # noqa: S311  repeatable on purpose
    owners = await db[Owner].add_many([Owner(name=n) for n in "abc"])
    made = []
    for _ in range(count):
        values: dict[str, Any] = {n: pick.choice(v) for n, v in _VALUES.items()}
        values["owner"] = Ref(pick.choice(owners).id)
        values["payload"] = pick.choice(_DOCUMENTS)
        for name in _OPTIONAL:
            if pick.random() < 0.3:
                values[name] = None
        made.append(Sink(**values))
    return await db[Sink].add_many(made)


def comparisons(name: str) -> list[Condition]:
    """Every condition on one field that its kind has."""
    field: Any = getattr(Sink, name)
    values = _VALUES[name]
    found: list[Any] = [field == v for v in values] + [field != v for v in values]
    found += [one_of(field, values[:2]), one_of(field, values[1:]), one_of(field, []), one_of(field, values[:1])]
    found += [field == None, field != None] if name in _OPTIONAL else []  # noqa: E711
    found += [missing(field), present(field)]
    if name in _ORDERED:
        for v in values:
            found += [at_least(field, v), at_most(field, v), more_than(field, v), less_than(field, v)]
        found += [between(field, values[0], values[-1]), between(field, values[-1], values[0])]
    if name in ("label", "note"):
        found += [prefix(field, w) for w in _WORDS if w] + [contains(field, w) for w in _WORDS]
    return found + [not_(c) for c in found]


def tangle(pick: random.Random, depth: int = 3) -> Condition:
    """A random tree of conditions."""
    if depth == 0 or pick.random() < 0.3:
        return pick.choice(comparisons(pick.choice(list(_VALUES))))
    parts = [tangle(pick, depth - 1) for _ in range(pick.randint(0, 3))]
    if pick.random() < 0.3:
        return not_(tangle(pick, depth - 1))
    return all_of(*parts) if pick.random() < 0.5 else any_of(*parts)


class Filters(Base):
    """``find``, ``count`` and ``exists`` against the oracle."""

    @pytest.mark.parametrize("name", _VALUES)
    async def test_every_comparison(self, db: Session, name: str) -> None:
        """Each operator of each kind selects what the oracle does."""
        stored = await rows(db)
        for condition in comparisons(name):
            expected = {s.id for s in chosen(stored, condition)}
            assert {s.id for s in await db[Sink].find(condition)} == expected, condition
            assert await db[Sink].count(condition) == len(expected), condition
            assert await db[Sink].exists(condition) == bool(expected), condition

    async def test_tangles(self, db: Session) -> None:
        """Random trees of all, any and not select what the oracle does."""
        stored, pick = await rows(db), random.Random("tangles")  # noqa: S311
        for _ in range(250):
            first, second = tangle(pick), tangle(pick)
            expected = {s.id for s in chosen(stored, first, second)}
            assert {s.id for s in await db[Sink].find(first, second)} == expected, (first, second)
            assert {s.id for s in await db[Sink].find(first & second)} == expected
            assert await db[Sink].count(first | second) == len(chosen(stored, first | second))

    async def test_not_is_the_complement(self, db: Session) -> None:
        """Every row satisfies a condition or its negation, and never both; missing values included."""
        stored, pick = await rows(db), random.Random("complement")  # noqa: S311
        for _ in range(100):
            condition = tangle(pick, 2)
            yes = {s.id for s in await db[Sink].find(condition)}
            no = {s.id for s in await db[Sink].find(not_(condition))}
            assert yes | no == {s.id for s in stored}
            assert not yes & no

    async def test_references(self, db: Session) -> None:
        """A reference is compared by id, given as a reference, an id or an entity."""
        stored = await rows(db)
        owner = (await db[Owner].find(limit=1))[0]
        field: Any = Sink.owner
        for operand in (owner.ref, Ref(owner.id), owner.id, owner):
            expected = {s.id for s in stored if s.owner == owner.ref}
            assert {s.id for s in await db[Sink].find(field == operand)} == expected
            assert {s.id for s in await db[Sink].find(field != operand)} == {s.id for s in stored} - expected
            assert {s.id for s in await db[Sink].find(one_of(field, [operand]))} == expected

    @needs(Capability.CONTAINS)
    async def test_documents(self, db: Session) -> None:
        """A document contains what PostgreSQL's containment says it does."""
        stored = await rows(db)
        for part in _PARTS:
            condition = contains(Sink.payload, part)
            assert {s.id for s in await db[Sink].find(condition)} == {s.id for s in chosen(stored, condition)}, part
            assert await db[Sink].count(not_(condition)) == len(chosen(stored, not_(condition))), part

    @needs(Capability.PROMOTED)
    async def test_promoted_keys(self, db: Session) -> None:
        """A promoted key of a document is compared like a field; a key that is absent or null is missing."""
        stored = await rows(db)
        score, kind, ok = (key(Sink.payload, name) for name in ("score", "kind", "ok"))
        conditions: list[Any] = [score == 1, score != 1, score >= 1, score < 1, kind == "a", kind != "a", ok == True]  # noqa: E712
        conditions += [missing(score), present(kind), one_of(kind, ["a", "b"]), prefix(kind, "a"), ok != True]  # noqa: E712
        for condition in [*conditions, *[not_(c) for c in conditions]]:
            expected = {s.id for s in chosen(stored, condition)}
            assert {s.id for s in await db[Sink].find(condition)} == expected, condition

    async def test_operands_that_do_not_fit(self, db: Session) -> None:
        """A condition of the wrong type, on another entity or without meaning is ``Invalid``, never no rows."""
        fields: Any = Sink
        with pytest.raises(Invalid):
            await db[Sink].find(fields.number == "1")
        with pytest.raises(Invalid):
            await db[Sink].find(fields.number == 2**63)
        with pytest.raises(Invalid):
            await db[Sink].find(fields.label == "nul\0")
        with pytest.raises(Invalid):
            await db[Sink].find(Owner.name == "x")
        with pytest.raises(Invalid):
            await db[Sink].find(True)
        with pytest.raises(Invalid):
            await db[Sink].find(fields.payload == {})
        with pytest.raises(Invalid):
            await db[Sink].find(fields.pin >= "1")
        with pytest.raises(Invalid):
            await db[Sink].find(fields.name == "not indexed")
        with pytest.raises(Invalid):
            bool(fields.number == 1)

    @pytest.mark.parametrize("name", [*_ORDERED, "owner", "created_at", "id", "version"])
    async def test_orders(self, db: Session, name: str) -> None:
        """Both directions, missing values last ascending and first descending, ties by id in the same direction."""
        stored = await rows(db, 40)
        field: Any = getattr(Sink, name)
        for order in (asc(field), desc(field)):
            assert [s.id for s in await db[Sink].find(order=order)] == [s.id for s in ordered(stored, [order])]
        assert [s.id for s in await db[Sink].find(order=field)] == [s.id for s in ordered(stored, [asc(field)])]

    async def test_orders_of_several_keys(self, db: Session) -> None:
        """Mixed directions, optional and required keys."""
        stored, pick = await rows(db, 50), random.Random("orders")  # noqa: S311
        for _ in range(60):
            names = pick.sample([*_ORDERED, "owner"], pick.randint(2, 4))
            order = [pick.choice([asc, desc])(getattr(Sink, n)) for n in names]
            found = await db[Sink].find(order=order)
            assert [s.id for s in found] == [s.id for s in ordered(stored, order)], order

    async def test_what_cannot_be_sorted_by(self, db: Session) -> None:
        """Documents, bytes and sealed fields have no order."""
        for name in ("payload", "raw", "pin", "email", "tags"):
            with pytest.raises(Invalid):
                await db[Sink].find(order=getattr(Sink, name))
        with pytest.raises(Invalid):
            await db[Sink].find(order=Owner.name)
        with pytest.raises(Invalid):
            await db[Sink].find(order="number; drop table kit_sink")

    async def test_limits(self, db: Session) -> None:
        """``find`` takes a limit from nought; ``one`` wants exactly one."""
        stored = await rows(db, 10)
        assert len(await db[Sink].find(limit=3)) == 3
        assert await db[Sink].find(limit=0) == []
        for wrong in (-1, 1.5, True, "3", 2**70):
            with pytest.raises(Invalid):
                await db[Sink].find(limit=wrong)  # type: ignore[arg-type]
        assert (await db[Sink].one(Sink.id == stored[0].id)).id == stored[0].id

    async def test_http_filters(self, db: Session) -> None:
        """A query string's parameters select what the same conditions do."""
        stored = await rows(db)
        parse = Sink.Filter.parse
        cases: list[tuple[list[tuple[str, str]], Condition | bool]] = [
            ([("colour", "red")], Sink.colour == Colour.RED),
            ([("colour_in", "red,blue")], one_of(Sink.colour, [Colour.RED, Colour.BLUE])),
            ([("colour_in", "red"), ("colour_in", "blue")], one_of(Sink.colour, [Colour.RED, Colour.BLUE])),
            ([("number_from", "0"), ("number_to", "2")], between(Sink.number, 0, 2)),
            ([("note_missing", "true")], missing(Sink.note)),
            ([("note_missing", "false")], present(Sink.note)),
            ([("label_prefix", "a")], prefix(Sink.label, "a")),
            ([("at_from", _DAWN.isoformat())], at_least(Sink.at, _DAWN)),
            ([("day_to", "2026-01-02")], at_most(Sink.day, date(2026, 1, 2))),
            ([("fee", "5 USD")], Sink.fee == usd(5)),
            ([("fee_from", "0.01 USD")], at_least(Sink.fee, usd("0.01"))),
            ([("flag", "true"), ("maybe", "false")], all_of(Sink.flag == True, Sink.maybe == False)),  # noqa: E712
            ([("token", str(_TOKENS[2]))], Sink.token == _TOKENS[2]),
            ([], all_of()),
        ]
        for pairs, condition in cases:
            expected = {s.id for s in chosen(stored, condition)}  # type: ignore[arg-type]
            assert {s.id for s in await db[Sink].find(parse(pairs))} == expected, pairs
            extra = chosen(stored, condition, Sink.number >= 0)  # type: ignore[arg-type]
            assert await db[Sink].count(parse(pairs), Sink.number >= 0) == len(extra)

    @pytest.mark.parametrize(
        "pairs",
        [
            [("colour", "mauve")],
            [("kolour", "red")],
            [("number", "many")],
            [("number", "1"), ("number", "2")],
            [("fee", "5")],
            [("fee", "5 NOPE")],
            [("fee_from", "1e5 USD")],
            [("at_from", "yesterday")],
            [("at_from", "2026-01-01T00:00:00")],
            [("token", "not-an-id")],
            [("note_missing", "perhaps")],
            [("label_prefix", "")],
            [("pin_prefix", "1")],
            [("payload", "{}")],
            [("tenant_id", str(UUID(int=1)))],
            [("number_from", str(2**63))],
            [("label", "nul\0")],
        ],
        ids=lambda p: "&".join(f"{a}={b[:12]!r}" for a, b in p),
    )
    async def test_http_filters_that_are_refused(self, db: Session, pairs: list[tuple[str, str]]) -> None:
        """Unknown parameters and values of the wrong kind are ``Invalid``, wherever that is noticed."""
        with pytest.raises(Invalid):
            await db[Sink].find(Sink.Filter.parse(pairs))

    async def test_money_is_compared_within_its_asset(self, db: Session) -> None:
        """Five dollars are not more than four euros, nor less; sorting goes by the number of minor units."""
        await db[Sink].add_many([Sink(fee=m) for m in (usd(5), eur(4), Money(1, "JPY"), None)])
        assert await db[Sink].count(more_than(Sink.fee, eur(3))) == 1
        assert await db[Sink].count(Sink.fee == eur(5)) == 0
        assert await db[Sink].count(Sink.fee != usd(5)) == 3
        assert await db[Sink].count(one_of(Sink.fee, [usd(5), Money(1, "JPY")])) == 2
        found = await db[Sink].find(order=desc(Sink.fee))
        assert [s.fee for s in found] == [None, usd(5), eur(4), Money(1, "JPY")]
