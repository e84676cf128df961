"""A query's text depends on its shape alone; what it selects is what the oracle says, whatever the values are."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cells import sealer
from tests.entities import Colour, Sink
from tests.properties.test_codec_laws import decimals, int64s, moments, texts

from tallystick import (
    Entity,
    Invalid,
    LocalKeys,
    Money,
    all_of,
    any_of,
    asc,
    at_least,
    at_most,
    contains,
    desc,
    less_than,
    missing,
    more_than,
    not_,
    one_of,
    order_by,
    prefix,
    present,
    uuid7,
)
from tallystick.codec import codec_of
from tallystick.conditions import Condition
from tallystick.entity import spec_of
from tallystick.query import orders
from tallystick.session import Session
from tallystick.stores.postgres.compile import Compiler
from tallystick.testing.conformance.oracle import chosen, ordered

TENANT = uuid7()
SEALER = sealer(TENANT, LocalKeys(bytes(range(32))))
CODEC = codec_of(spec_of(Sink))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "label": texts,
    "note": texts,
    "number": int64s,
    "amount": int64s,
    "flag": st.booleans(),
    "maybe": st.booleans(),
    "token": st.uuids(),
    "at": moments,
    "rate": decimals(12, 8),
    "price": decimals(38, 18),
    "colour": st.sampled_from(Colour),
    "shade": st.sampled_from(Colour),
    "fee": st.builds(Money, int64s, st.sampled_from(["USD", "EUR"])),
    "gas": st.integers(0, 2**256 - 1),
}


@st.composite
def comparison(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from(sorted(VALUES)))
    field, value = getattr(Sink, name), draw(VALUES[name])
    made: list[Any] = [field == value, field != value, missing(field), present(field)]
    made += [f(field, value) for f in (at_least, at_most, more_than, less_than)]
    made.append(one_of(field, draw(st.lists(VALUES[name], max_size=4))))
    if name in ("label", "note"):
        made.append(contains(field, value))
        made += [prefix(field, value)] if value else []
    return draw(st.sampled_from(made))


trees = st.recursive(
    comparison(),
    lambda inner: (
        inner.map(not_)
        | st.lists(inner, max_size=3).map(lambda parts: all_of(*parts))
        | st.lists(inner, max_size=3).map(lambda parts: any_of(*parts))
    ),
    max_leaves=6,
)
keys = st.lists(st.tuples(st.sampled_from(sorted(VALUES)), st.sampled_from([asc, desc])), max_size=3)


def compiled(where: tuple[Condition, ...], order: Any = None) -> tuple[str, list[Any]]:
    query = CODEC.query(where, orders(spec_of(Sink), order), SEALER, 20)
    return Compiler(CODEC).select(query, TENANT)


@given(trees, keys)
def test_every_value_is_a_bind_and_every_bind_a_value(tree: Condition, order: Any) -> None:
    sql, values = compiled((tree,), [direction(getattr(Sink, name)) for name, direction in order])
    numbers = [int(n) for n in re.findall(r"\$(\d+)", sql)]
    assert set(numbers) == set(range(1, len(values) + 1))
    assert re.fullmatch(r"[A-Za-z0-9_$.,()<>=@:*\[\] ]+", sql)
    assert "'" not in sql
    assert values[0] == TENANT


@given(comparison(), st.data())
def test_a_text_is_made_by_its_shape(one: Condition, data: st.DataObject) -> None:
    other = data.draw(comparison())
    if one.shape() == other.shape():
        assert compiled((one,))[0] == compiled((other,))[0]
    else:
        assert compiled((one,))[0] != compiled((other,))[0] or _merged(one, other)


def _merged(one: Condition, other: Condition) -> bool:
    """Nothing else may share a text: a set that happens to have one value is an equality by its shape already."""
    return {one.shape()[0], other.shape()[0]} == {"in"}


@given(st.text(max_size=40))
def test_an_order_from_outside_is_one_of_few_texts(keys: str) -> None:
    try:
        order = order_by(Sink, keys)
    except Invalid:
        return
    sql, _ = compiled((), order)
    names = {f.column for f in spec_of(Sink).fields.values()}
    tail = sql.partition(" ORDER BY ")[2].partition(" LIMIT ")[0]
    assert all(part.removesuffix(" DESC") in names for part in tail.split(", "))


# No message of ours has this sign, so that one which has it quotes a value.
values_from_outside = st.text(max_size=30).map(lambda text: f"§{text}") | st.text("0123456789-.:TZ,tru", max_size=30)


@given(
    st.dictionaries(
        st.sampled_from(sorted(Sink.Filter._tally_plan)) | st.text("abc_in", max_size=8), values_from_outside
    )
)
def test_a_filter_from_outside_is_conditions_or_invalid(pairs: dict[str, str]) -> None:
    try:
        where = Sink.Filter.parse(pairs).conditions()
        sql, values = compiled(where)
    except Invalid as problem:
        assert "§" not in str(problem)  # noqa: PT017
        return
    assert re.fullmatch(r"[A-Za-z0-9_$.,()<>=@:*\[\] ]+", sql)
    assert len(values) == 1 + len(CODEC.bind(where, SEALER))


@settings(max_examples=80)
@given(
    rows=st.lists(st.fixed_dictionaries({}, optional=VALUES), min_size=1, max_size=8),
    conditions=st.lists(trees, min_size=1, max_size=4),
    order=keys,
)
async def test_a_server_selects_what_the_oracle_does(
    db: Session, rows: list[dict[str, Any]], conditions: list[Condition], order: Any
) -> None:
    await db[Sink].purge_where(all_of(), reason="the example before")
    stored = await db[Sink].add_many([Sink(**row) for row in rows])
    wanted = [direction(getattr(Sink, name)) for name, direction in order]
    for condition in conditions:
        expected = [s.id for s in ordered(chosen(stored, condition), wanted)]
        assert [s.id for s in await db[Sink].find(condition, order=wanted)] == expected
        assert await db[Sink].count(condition) == len(expected)
        assert await db[Sink].count(not_(condition)) == len(stored) - len(expected)
        page = await db[Sink].page(condition, order=wanted, limit=2)
        seen = [s.id for s in page]
        while page.next is not None:
            page = await db[Sink].page(condition, order=wanted, limit=2, after=page.next)
            seen += [s.id for s in page]
        assert seen == expected


def test_the_strategies_are_of_this_entity() -> None:
    assert issubclass(Sink, Entity)
    assert Sink(at=datetime(2026, 1, 1, tzinfo=UTC), rate=Decimal(1)).rate == 1
