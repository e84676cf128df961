"""Pages, offsets and cursors as values."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from tests.entities import Sink

from tallystick import Invalid, Offset, Page, PageQuery, asc, desc, uuid7
from tallystick.conditions import Query, shape_of
from tallystick.page import MAX_LIMIT, fingerprint, read_cursor, write_cursor

MARK = b"12345678"


def test_a_page_knows_where_it_stands():
    page = Page(items=[1, 2, 3], limit=3, next="c", total=10, offset=6)
    assert (page.has_next, page.number, page.pages, len(page), list(page)) == (True, 3, 4, 3, [1, 2, 3])
    assert (Page(items=[], limit=3).has_next, Page(items=[], limit=3).number, Page(items=[], limit=3).pages) == (
        False,
        None,
        None,
    )
    assert Page(items=[], limit=5, total=0).pages == 0
    assert Offset.of_page(3, 20) == Offset(40)


def test_paging_from_http():
    assert msgspec.convert({"limit": 5, "after": "x"}, PageQuery) == PageQuery(after="x", limit=5)
    assert PageQuery().limit == 20
    for wrong in ({"limit": 0}, {"limit": MAX_LIMIT + 1}, {"limit": "many"}, {"offset": 5}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, PageQuery)


def test_a_cursor_is_text_for_urls():
    position = ("ä&?#/+ =", 2**63 - 1, None, uuid7(), datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.50"))
    cursor = write_cursor(MARK, position)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
    order = [asc(f) for f in (Sink.label, Sink.amount, Sink.note, Sink.token, Sink.at, Sink.price)]
    assert read_cursor(cursor, MARK, order) == position


def test_a_cursor_is_for_one_mark_and_one_number_of_keys():
    cursor = write_cursor(MARK, (1,))
    assert read_cursor(cursor, MARK, [asc(Sink.number)]) == (1,)
    for mark, order in ((b"87654321", [asc(Sink.number)]), (MARK, []), (MARK, [asc(Sink.number), asc(Sink.id)])):
        with pytest.raises(Invalid):
            read_cursor(cursor, mark, order)


@pytest.mark.parametrize("value", [None, "1", 1.5, b"x", [1], True])
def test_a_position_has_the_types_of_its_keys(value):
    with pytest.raises(Invalid):
        read_cursor(write_cursor(MARK, (value,)), MARK, [asc(Sink.number)])


def test_a_fingerprint_tells_queries_apart():
    tenant, other = uuid7(), uuid7()

    def of(tenant=tenant, table="sink", where=(Sink.number == 1,), values=(1,), order=(asc(Sink.id),)):
        return fingerprint(tenant, table, Query(values=values, shape=shape_of(where, order)))

    marks = [
        of(),
        of(tenant=other),
        of(table="other"),
        of(where=(Sink.number >= 1,)),
        of(where=(Sink.amount == 1,)),
        of(values=(2,)),
        of(order=(desc(Sink.id),)),
        of(order=(asc(Sink.number), asc(Sink.id))),
        of(where=(), values=()),
    ]
    assert len(set(marks)) == len(marks)
    assert of() == marks[0]
    assert len(marks[0]) == 8
