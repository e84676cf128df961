"""A cursor leads to the rows after it, and one that was tampered with leads nowhere else."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.entities import Sink
from tests.properties.test_codec_laws import decimals, int64s, moments, texts

from tallystick import Invalid, asc, desc
from tallystick.page import read_cursor, write_cursor
from tallystick.session import Session

MARK = bytes(range(8))
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "label": texts,
    "note": st.none() | texts,
    "number": int64s,
    "amount": st.none() | int64s,
    "flag": st.booleans(),
    "token": st.none() | st.uuids(),
    "at": st.none() | moments,
    "price": st.none() | decimals(38, 18),
    "id": st.uuids(),
}


@given(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=4, unique=True), st.data())
def test_a_cursor_is_read_as_it_was_written(names: list[str], data: st.DataObject) -> None:
    order = [data.draw(st.sampled_from([asc, desc]))(getattr(Sink, n)) for n in names]
    position = tuple(data.draw(KEYS[n]) for n in names)
    assert read_cursor(write_cursor(MARK, position), MARK, order) == position


@given(st.text(max_size=80) | st.binary(max_size=60).map(bytes.hex))
def test_anything_else_is_invalid(text: str) -> None:
    try:
        read_cursor(text, MARK, [asc(Sink.number)])
    except Invalid as problem:
        assert "cursor" in str(problem)  # noqa: PT017
    else:
        raise AssertionError("a made-up cursor was taken")


@given(st.lists(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary() | st.floats()))
def test_a_position_of_other_types_is_invalid(position: list[Any]) -> None:
    order = [asc(Sink.number), asc(Sink.label)]
    cursor = write_cursor(MARK, position)
    try:
        found = read_cursor(cursor, MARK, order)
    except Invalid:
        return
    assert len(found) == 2
    assert isinstance(found[0], int)
    assert isinstance(found[1], str)


@settings(max_examples=150)
@given(st.data())
async def test_a_tampered_cursor_is_refused_or_leads_within_its_query(db: Session, data: st.DataObject) -> None:
    """The mark binds a cursor to tenant and query; its position may be made up, and shows nothing it could not."""
    where = Sink.number >= 0
    order = [
        data.draw(st.sampled_from([asc, desc]))(getattr(Sink, data.draw(st.sampled_from(["label", "note", "at"]))))
    ]
    if not await db[Sink].exists():
        await db[Sink].add_many([Sink(number=n - 3, label=str(n), note=None if n % 2 else "x") for n in range(12)])
    expected = [s.id for s in await db[Sink].find(where, order=order)]
    cursor = (await db[Sink].page(where, order=order, limit=3)).next
    assert cursor is not None
    at = data.draw(st.integers(0, len(cursor) - 1))
    letters = st.text("ABCDEFabcdef0123456789-_=\0é", max_size=2)
    tampered = cursor[:at] + data.draw(letters) + cursor[at + data.draw(st.integers(0, 2)) :]
    try:
        page = await db[Sink].page(where, order=order, after=tampered, limit=100)
    except Invalid:
        return
    found = [s.id for s in page]
    assert found == [id for id in expected if id in set(found)]
    assert not found or found == expected[-len(found) :]


@settings(max_examples=60)
@given(st.data())
async def test_a_position_that_was_made_up_is_a_page_or_invalid(db: Session, data: st.DataObject) -> None:
    if not await db[Sink].exists():
        await db[Sink].add_many([Sink(number=n, label=str(n)) for n in range(5)])
    name = data.draw(st.sampled_from(sorted(set(KEYS) - {"id"})))
    field: Any = getattr(Sink, name)
    cursor = (await db[Sink].page(order=field, limit=2)).next
    assert cursor is not None
    mark = msgspec.msgpack.decode(bytes.fromhex(cursor))[0]
    odd = st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(max_size=17) | st.just("\0")
    forged = write_cursor(mark, [data.draw(odd | KEYS[name]), data.draw(odd | st.uuids())])
    try:
        page = await db[Sink].page(order=field, after=forged, limit=10)
    except Invalid:
        return
    assert len(page) <= 5
