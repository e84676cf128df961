"""Wrong values for fields of every kind, by every way in which a value travels: refused before anything is written."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from tests.badinput.support import refused, unchanged, valid
from tests.entities import Detail, Sink

from tallystick import Money, Ref, Tallystick, User, eur, secret, usd
from tallystick.entity import spec_of
from tallystick.errors import Duplicate, UnknownReference
from tallystick.ids import uuid7
from tallystick.spec import Kind

NAN, INFINITY = float("nan"), float("inf")


class OtherColour(StrEnum):
    """Another enum with a member of the same value."""

    RED = "red"


class LooksLikeAReference:
    id = "not an id"


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


WRONG: dict[str, list[Any]] = {
    "label": [5, 1.5, True, b"x", ["x"], object(), "x" * 201, "a\0b", "\ud800", "ok\udfffok", None],
    "note": [5, b"x", "a\0b", "\udc80"],
    "number": ["5", 5.0, 1.5, NAN, Decimal(5), True, False, b"5", 2**63, -(2**63) - 1, 10**100, None],
    "amount": ["5", 5.0, True, 2**63],
    "flag": [0, 1, "true", "t", 1.0, b"t", None],
    "maybe": [0, 1, "false"],
    "token": ["0190f3a2-0000-7000-8000-000000000000", 5, b"x" * 16, b"x"],
    "at": [
        datetime(2026, 1, 1),
        date(2026, 1, 1),
        "2026-01-01T00:00:00Z",
        0,
        1.5,
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))),
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ],
    # The first and the last day are how the driver writes the infinities.
    "day": [datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01", 0, 20260101, date.min, date.max],
    "rate": [
        1.5,
        "1.5",
        True,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("-Infinity"),
        Decimal("0.123456789"),
        Decimal("12345"),
        Decimal("1e400"),
        Decimal("1e-400"),
        Decimal("1e999999"),
        10**5,
        None,
    ],
    "price": [1.5, Decimal("1" * 21), Decimal("0." + "1" * 19), Decimal("1234567890.1234567890123456789"), "1"],
    "share": [0.5, Decimal("1000"), Decimal("0.1234567")],
    "ratio": [Decimal("1000"), Decimal("0.001"), 0.5],
    "colour": ["purple", "RED", "", 5, b"red", OtherColour.RED, None],
    "shade": ["purple", 5, OtherColour.RED],
    "raw": ["x", 5, [1, 2], None],
    "blob": ["x", 5, (1, 2)],
    "fee": [5, 5.0, "5.00 USD", Decimal(5), True, (5, "USD"), Money(2**63, "USD"), Money(-(2**63) - 1, "USD")],
    "deposit": [5, 5.0, "5.00 USD", Money(10**30, "USD")],
    "wei": [-1, 2**256, 10**100, 1.0, "1", True, Decimal(1), b"1", None],
    "gas": [-1, 2**256, 0.5],
    "owner": ["0190f3a2-0000-7000-8000-000000000000", 5, Ref("x"), Ref(5), valid(), valid().ref, LooksLikeAReference()],
    "parent": [5, "x", User(email="a@example.org"), User(email="a@example.org").ref],
    "pin": ["1234", 1234, secret(1234), secret(b"1234"), secret("\ud800"), secret("x" * 1_000_001), secret("")],
    "score": [5, "5", secret("5"), secret(5.5), secret(True), secret(None) if False else secret(2**64)],
    "email": [5, b"a@b.c", "no at sign", "@example.org", "a@", "\ud800@example.org", "", secret("a@example.org")],
    "phone": [5, "abc", "", b"1", "+"],
    "name": [5, b"x", "\ud800", "x" * 1_000_001, ["x"]],
    "address": [
        5,
        "x",
        ["x"],
        {"a": NAN},
        {"a": [INFINITY]},
        {"a": object()},
        {"a": "\ud800"},
        {"a": 2**64},
        {5: "a"},
        nested(65),
    ],
    "payload": [
        5,
        "x",
        ["x"],
        {1: 2},
        {"a": NAN},
        {"a": {"b": [1, {"c": -INFINITY}]}},
        {"a": object()},
        {"a": lambda: None},
        {"a": "\ud800"},
        {"\ud800": 1},
        {"a": "nul\0"},
        {"nul\0": "a"},
        {"a": 2**64},
        {"a": -(2**63) - 1},
        {"a": 10**40},
        nested(65),
        nested(100_000),
        None,
    ],
    "tags": ["abc", [1], [None], {"a": 1}, [["x"]], 5, [b"x", 1]],
    "detail": [5, "x", {"name": 5}, {"score": 1}, {"name": "x", "score": "1"}, {"name": "x", "score": 1.5}, ["x"]],
}
# The client cannot know; the database refuses these, and whole.
REFUSED_BY_THE_DATABASE: dict[str, list[Any]] = {
    "ratio": [Decimal("-0.01")],
    "fee": [Money(1, "X"), Money(1, "X" * 33), Money(1, "US\0"), Money(1, "U\ud800")],
    "deposit": [Money(1, "U\0"), Money(1, "\ud800")],
    "payload": [{"score": "abc"}, {"score": 2**63}, {"score": 1.5}, {"ok": "perhaps"}, {"kind": "\udcff"}],
    "owner": [uuid7(), Ref(uuid7())],
    "parent": [uuid7(), Ref(uuid7())],
}
CASES = [(field, number) for field, values in WRONG.items() for number in range(len(values))]
DATABASE_CASES = [(f, n) for f, values in REFUSED_BY_THE_DATABASE.items() for n in range(len(values))]
SEARCHED = ("pin", "email", "phone")


def test_every_kind_of_field_is_covered() -> None:
    spec = spec_of(Sink)
    settable = {name for name, field in spec.fields.items() if not field.system}
    assert set(WRONG) | {"ceiling"} == settable
    assert len({spec.fields[name].kind for name in WRONG}) >= 15


@pytest.mark.parametrize(("field", "number"), CASES)
async def test_a_wrong_value_is_refused_everywhere(tally: Tallystick, home: str, field: str, number: int) -> None:
    value = WRONG[field][number]
    sealed = spec_of(Sink).fields[field].sealed
    async with unchanged(tally, home) as db:
        sinks, row = db[Sink], await db[Sink].one(Sink.label == "row")
        with refused() as caught:
            await sinks.add(valid(**{field: value}))
        assert field in (caught.value.field, "phone", "email", "pin", "score") or caught.value.field
        with refused():
            await sinks.add_many([valid(), valid(**{field: value}), valid()])
        with refused():
            await sinks.update(row, **{field: value})
        with refused():
            await sinks.update(row, **({"number": 7} | {field: value}))
        with refused():
            await sinks.update_where(Sink.label == "row", **{field: value})
        if value is not None and not (sealed and (field not in SEARCHED or isinstance(value, str))):
            with refused():
                await sinks.find(getattr(Sink, field) == value)
        # Inside a transaction as well, which goes on afterwards and is undone at the end.
        with pytest.raises(RuntimeError):
            async with db.transaction():
                await sinks.add(valid(label="in the transaction"))
                with refused():
                    await sinks.add(valid(**{field: value}))
                with refused():
                    await sinks.update(row, **{field: value})
                assert await sinks.count(Sink.label == "in the transaction") == 1
                raise RuntimeError


@pytest.mark.parametrize(("field", "number"), DATABASE_CASES)
async def test_what_only_the_database_can_refuse_leaves_nothing_either(
    tally: Tallystick, home: str, field: str, number: int
) -> None:
    value = REFUSED_BY_THE_DATABASE[field][number]
    async with unchanged(tally, home) as db:
        sinks, row = db[Sink], await db[Sink].one(Sink.label == "row")
        for attempt in (
            lambda: sinks.add(valid(**{field: value})),
            lambda: sinks.add_many([valid(), valid(**{field: value})]),
            lambda: sinks.update(row, **{field: value}),
            lambda: sinks.update_where(Sink.label == "row", **{field: value}),
        ):
            with refused():
                await attempt()
            with pytest.raises(RuntimeError):
                async with db.transaction():
                    await sinks.add(valid(label="in the transaction"))
                    with refused():
                        async with db.transaction():
                            await sinks.add(valid(label="in the savepoint"))
                            await attempt()
                    assert await sinks.count(Sink.label == "in the transaction") == 1
                    assert await sinks.count(Sink.label == "in the savepoint") == 0
                    raise RuntimeError


async def test_money_of_mixed_assets_in_one_row(tally: Tallystick, home: str) -> None:
    async with unchanged(tally, home) as db:
        row = await db[Sink].one(Sink.label == "row")
        with refused():
            await db[Sink].add(valid(fee=usd("1"), ceiling=eur("1")))
        with refused():
            await db[Sink].update(row, ceiling=eur("1"))
        with refused():
            await db[Sink].update(row, fee=eur("1"), ceiling=usd("1"))
        with refused():
            await db[Sink].update_where(Sink.label == "row", fee=eur("1"))


@pytest.mark.parametrize("amount", [5.0, 0.1, True, "5,00", "5.001", "1e3", "", None, Decimal("NaN"), Decimal("0.001")])
def test_money_is_never_made_of_a_float_or_of_what_is_not_exact(amount: Any) -> None:
    with refused():
        usd(amount)
    with refused():
        Money(amount, "USD")


async def test_none_for_what_is_required(tally: Tallystick, home: str) -> None:
    spec = spec_of(Sink)
    async with unchanged(tally, home) as db:
        row = await db[Sink].one(Sink.label == "row")
        for name, field in spec.fields.items():
            if field.system or field.optional:
                continue
            with refused():
                await db[Sink].add(valid(**{name: None}))
            with refused():
                await db[Sink].update(row, **{name: None})
            with refused():
                await db[Sink].update_where(Sink.label == "row", **{name: None})


async def test_a_value_that_equals_but_is_of_another_type_is_no_way_round(tally: Tallystick, home: str) -> None:
    """True equals 1, 0.0 equals 0: an update to what seems to be there already is checked like any other."""
    async with unchanged(tally, home) as db:
        row = await db[Sink].one(Sink.label == "row")
        assert (row.number, row.flag, row.wei) == (0, False, 0)
        for changes in ({"number": False}, {"number": 0.0}, {"flag": 0}, {"wei": 0.0}, {"rate": 0.0}, {"wei": False}):
            with refused():
                await db[Sink].update(row, **changes)
        assert await db[Sink].update(row, number=0, flag=False, rate=Decimal(0)) is row


async def test_text_too_large_for_its_index(tally: Tallystick, home: str) -> None:
    """A B-tree takes some 2,700 bytes; a text field in an index without a Length meets that limit late, but typed."""
    large = "".join(chr(0x4E00 + (n * 7919) % 20_000) for n in range(3_000))
    async with unchanged(tally, home) as db:
        with refused():
            await db[Sink].add(valid(payload={"kind": large, "score": 1}, label="x" * 201))
        with refused(Duplicate):
            row = await db[Sink].one(Sink.label == "row")
            await db[Sink].add(valid(id=row.id))


async def test_the_foreign_key_is_told_by_its_field(tally: Tallystick, home: str) -> None:
    async with unchanged(tally, home) as db:
        for field in ("owner", "parent"):
            with refused(UnknownReference) as caught:
                await db[Sink].add(valid(**{field: Ref(uuid7())}))
            assert caught.value.field == field
            assert caught.value.entity == "Sink"


async def test_what_is_right_at_the_edges_is_stored_and_read_back(tally: Tallystick, tenant: str) -> None:
    """The other side of every limit above: what is let through comes back as it was."""
    edges: list[dict[str, Any]] = [
        {"label": "x" * 200, "note": ""},
        {"note": "\x01\x7f\u200b\ufeff\U0010ffff"},
        {"number": 2**63 - 1, "amount": -(2**63)},
        {"at": datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC), "day": date(1, 1, 2)},
        {"at": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "day": date(9999, 12, 30)},
        {
            "rate": Decimal("9999.99999999"),
            "price": Decimal("1" * 20 + "." + "1" * 18),
            "share": Decimal("-999.999999"),
        },
        {"rate": Decimal("-9999.99999999"), "ratio": Decimal("999.99")},
        {"raw": bytes(range(256)), "blob": b""},
        {"fee": Money(2**63 - 1, "USD"), "ceiling": Money(-(2**63), "USD"), "deposit": Money(0, "KWD")},
        {"wei": 2**256 - 1, "gas": 0},
        {"pin": secret("0000"), "score": secret(-(2**63)), "email": "A@Example.org", "phone": "+1", "name": ""},
        {"address": {"a": [1, 2.5, None, True, {"b": "\U0001f4a5"}]}, "payload": {"a": 2**64 - 1, "b": -(2**63)}},
        {"payload": {"score": 2**63 - 1, "kind": "\\u0000", "ok": False}, "tags": []},
        {"payload": nested(60)["a"], "tags": ["\\", '"', "\u2028"], "detail": Detail("x", -1)},
    ]
    async with tally.session(tenant, actor="a", permissions=["*"]) as db:
        for given in edges:
            made = await db[Sink].add(valid(**given))
            found = await db[Sink].get(made.id)
            for name, value in given.items():
                if spec_of(Sink).fields[name].kind is not Kind.SECRET:
                    assert getattr(found, name) == value, name
                else:
                    assert (
                        await db[Sink].reveal(made.id, getattr(Sink, name), reason="a check")
                        == {
                            "pin": "0000",
                            "score": -(2**63),
                        }[name]
                    )


@pytest.fixture(scope="module")
async def home(tally: Tallystick) -> str:
    """A tenant with one row, which every test of this file leaves as it is."""
    slug = f"values-{uuid7().hex}"
    await tally.tenants.create(slug, name="Values")
    async with tally.session(slug, actor="setup") as db:
        await db[Sink].add(valid(label="row", fee=usd("1"), ceiling=usd("2")))
    return slug
