"""Conditions and order as values: shapes, operands, and the functions that make them."""

from __future__ import annotations

import pytest
from tests.entities import Colour, Sink

from tallystick import (
    Application,
    Invalid,
    User,
    all_of,
    any_of,
    asc,
    at_least,
    between,
    contains,
    desc,
    key,
    missing,
    not_,
    one_of,
    order_by,
    prefix,
    present,
    usd,
)
from tallystick.conditions import All, AnyOf, Compare, Missing, Not, OneOf, Present
from tallystick.entity import spec_of
from tallystick.query import orders


def bound(condition):
    out = []
    condition.bind(out)
    return [value for _, value in out]


def test_operators_make_conditions():
    for condition, op in (
        (Sink.number == 1, "="),
        (Sink.number != 1, "<>"),
        (Sink.number < 1, "<"),
        (Sink.number <= 1, "<="),
        (Sink.number > 1, ">"),
        (Sink.number >= 1, ">="),
    ):
        assert isinstance(condition, Compare)
        assert condition.shape() == (op, "number")
        assert bound(condition) == [1]
    assert isinstance(Sink.note == None, Missing)  # noqa: E711
    assert isinstance(Sink.note != None, Present)  # noqa: E711


def test_a_shape_has_no_values():
    def tree(n, text):
        return all_of(
            Sink.number == n, not_(any_of(Sink.label == text, one_of(Sink.colour, [Colour.RED, Colour.BLUE])))
        )

    assert tree(1, "a").shape() == tree(2, "b").shape()
    assert hash(tree(1, "a").shape()) == hash(tree(2, "b").shape())
    assert tree(1, "a").shape() != all_of(Sink.number == 1).shape()
    assert bound(tree(7, "x"))[:2] == [7, "x"]
    assert "7" not in repr(tree(7, "x"))


def test_large_sets_share_a_shape_and_small_ones_have_one_each():
    # A small set is read value by value, so its text names each value; a large one is a single array.
    assert one_of(Sink.number, range(17)).shape() == one_of(Sink.number, range(900)).shape()
    assert one_of(Sink.number, [1, 2]).shape() == one_of(Sink.number, [8, 9]).shape()
    assert len({one_of(Sink.number, range(n)).shape() for n in range(2, 900)}) == 16
    assert one_of(Sink.number, [1]).shape() == (Sink.number == 1).shape()
    assert one_of(Sink.number, [1, 1, 1]).shape() == (Sink.number == 1).shape()
    assert isinstance(one_of(Sink.number, []), OneOf)
    assert bound(one_of(Sink.number, [])) == []
    for wrong in ("abc", 5, None, [[1]]):
        with pytest.raises(Invalid):
            one_of(Sink.number, wrong)
    with pytest.raises(Invalid, match="more than"):
        one_of(Sink.number, range(10_001))


def test_groups():
    a, b = Sink.number == 1, Sink.flag == True  # noqa: E712
    assert isinstance(a & b, All)
    assert isinstance(a | b, AnyOf)
    assert isinstance(not_(a), Not)
    assert all_of().shape() == ("and",)
    assert any_of().shape() == ("or",)
    for wrong in (True, None, "number = 1", User):
        with pytest.raises(Invalid):
            all_of(a, wrong)
        with pytest.raises(Invalid):
            _ = a & wrong  # type: ignore[operator]
        with pytest.raises(Invalid):
            not_(wrong)


@pytest.mark.parametrize("ask", [bool, lambda c: c and c, lambda c: not c, lambda _: Sink.number in [1, 2]])
def test_a_condition_has_no_truth_value(ask):
    with pytest.raises(Invalid, match="truth"):
        ask(Sink.number == 1)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("a", "b"),
        ("az", "a{"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", None),
        ("\ud7ff", "\ue000"),
        ("é", "ê"),
        ("%", "&"),
    ],
)
def test_a_prefix_is_a_range(start, end):
    condition = prefix(Sink.label, start)
    assert bound(condition) == [start] if end is None else bound(condition) == [start, end]


def test_functions_want_fields_that_fit():
    for wrong in (
        lambda: prefix(Sink.number, "1"),
        lambda: prefix(Sink.label, ""),
        lambda: contains(Sink.number, 1),
        lambda: key(Sink.payload, "other"),
        lambda: key(Sink.label, "score"),
        lambda: between("number", 1, 2),
        lambda: at_least(Sink.number, None),
        lambda: missing("number"),
        lambda: present(None),
        lambda: asc(Sink.payload),
        lambda: desc(Sink.pin),
        lambda: asc("number"),
        lambda: Sink.pin >= "1",
        lambda: Sink.name == "no index",
        lambda: Sink.payload == {},
        lambda: Sink.payload > {},
        lambda: Sink.raw > b"",
    ):
        with pytest.raises(Invalid):
            wrong()


def test_a_promoted_key_is_a_field():
    score = key(Sink.payload, "score")
    assert (score >= 5).shape() == (">=", "payload_score")
    assert missing(score).shape() == ("null", "payload_score")
    assert asc(score).field.name == "payload_score"
    assert key(Application.monitoring, "sex").spec.optional


def test_an_order_is_total():
    spec = spec_of(Sink)
    assert [(o.field.name, o.descending) for o in orders(spec, None)] == [("id", False)]
    assert [(o.field.name, o.descending) for o in orders(spec, desc(Sink.number))] == [("number", True), ("id", True)]
    assert [o.field.name for o in orders(spec, [Sink.number, desc(Sink.id), Sink.label])] == ["number", "id"]
    assert [(o.field.name, o.descending) for o in orders(spec, (Sink.number,))] == [("number", False), ("id", False)]
    with pytest.raises(Invalid):
        orders(spec, User.created_at)


def test_an_order_from_http():
    assert [(o.field.name, o.descending) for o in order_by(Sink, "-number, label")] == [
        ("number", True),
        ("label", False),
    ]
    for wrong in (
        "",
        ",",
        "--number",
        "number,number",
        "payload",
        "pin",
        "rules",
        "ref",
        "__init__",
        "number desc",
        None,
    ):
        with pytest.raises(Invalid):
            order_by(Sink, wrong)  # type: ignore[arg-type]


def test_operands_never_show():
    for condition in (Sink.label == "Secret text", one_of(Sink.label, ["Secret text", "b"]), Sink.fee == usd(5)):
        assert "Secret" not in repr(condition)
