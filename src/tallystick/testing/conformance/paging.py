"""Pages: keyset pages add up to the sorted list, whatever is written meanwhile; cursors belong to one query."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tallystick.errors import Invalid
from tallystick.page import Offset
from tallystick.query import asc, desc, missing, one_of
from tallystick.testing.conformance.base import Base
from tallystick.testing.conformance.entities import Colour, Owner, Sink
from tallystick.testing.conformance.filtering import _ORDERED, rows, tangle
from tallystick.testing.conformance.oracle import chosen, ordered

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.session import Session


async def walk(db: Session, *where: Any, order: Any, limit: int) -> list[UUID]:
    """The ids of all pages, one after another."""
    found: list[UUID] = []
    after: str | None = None
    while True:
        page = await db[Sink].page(*where, order=order, after=after, limit=limit)
        assert len(page) <= limit
        found += [s.id for s in page]
        after = page.next
        if after is None:
            return found
        assert len(page) == limit


class Paging(Base):
    """``page`` and ``stream``."""

    @pytest.mark.parametrize("name", [*_ORDERED, "owner"])
    @pytest.mark.parametrize("direction", [asc, desc], ids=["asc", "desc"])
    async def test_pages_add_up(self, db: Session, name: str, direction: Any) -> None:
        """Over ties and missing values, in both directions, for several sizes of page."""
        stored = await rows(db, 40)
        order = direction(getattr(Sink, name))
        expected = [s.id for s in ordered(stored, [order])]
        for limit in (1, 3, 40, 41):
            assert await walk(db, order=order, limit=limit) == expected

    async def test_pages_of_several_keys_and_conditions_add_up(self, db: Session) -> None:
        """Mixed directions and random conditions."""
        stored, pick = await rows(db, 60), random.Random("pages")  # noqa: S311  repeatable on purpose
        for _ in range(40):
            names = pick.sample([*_ORDERED, "owner"], pick.randint(1, 3))
            order = [pick.choice([asc, desc])(getattr(Sink, n)) for n in names]
            condition = tangle(pick, 2)
            expected = [s.id for s in ordered(chosen(stored, condition), order)]
            assert await walk(db, condition, order=order, limit=pick.choice([2, 7, 20])) == expected
            streamed = [s.id async for s in db[Sink].stream(condition, order=order, batch=pick.choice([1, 9, 1000]))]
            assert streamed == expected

    async def test_pages_over_several_values_of_an_index(self, db: Session) -> None:
        """One page over a set of values is one list, merged in order."""
        stored = await rows(db, 60)
        for colours in (list(Colour), [Colour.RED, Colour.BLUE], [Colour.GREEN, Colour.GREEN]):
            where = one_of(Sink.colour, colours)
            for order in (asc(Sink.number), desc(Sink.number), [desc(Sink.number), asc(Sink.note)], desc(Sink.at)):
                keys = order if isinstance(order, list) else [order]
                expected = [s.id for s in ordered([s for s in stored if s.colour in colours], keys)]
                assert await walk(db, where, order=order, limit=7) == expected
                page = await db[Sink].page(where, order=order, after=Offset(11), limit=7)
                assert [s.id for s in page] == expected[11:18]

    async def test_writes_between_pages_shift_nothing(self, db: Session, again: Session) -> None:
        """Rows that come before the cursor never appear twice or push others out; rows after it are seen."""
        stored = await rows(db, 30)
        order = asc(Sink.number)
        first = await db[Sink].page(order=order, limit=10)
        assert first.items[-1].number > -(2**63)
        early = await again[Sink].add_many([Sink(number=-(2**63)) for _ in range(15)])
        late = await again[Sink].add(Sink(number=2**63 - 1))
        gone = ordered(stored, [order])[0]
        await again[Sink].purge(gone, reason="between two pages")
        seen = [s.id for s in first]
        after = first.next
        while after is not None:
            page = await db[Sink].page(order=order, after=after, limit=10)
            seen += [s.id for s in page]
            after = page.next
        assert len(seen) == len(set(seen))
        assert {s.id for s in stored} <= set(seen)
        assert late.id in seen
        assert not {s.id for s in early} & set(seen)

    async def test_a_row_that_moves_is_seen_where_it_goes(self, db: Session, again: Session) -> None:
        """A row whose key changes between pages may be seen twice or not at all; the others are seen once."""
        stored = await db[Sink].add_many([Sink(number=n) for n in range(20)])
        first = await db[Sink].page(order=Sink.number, limit=5)
        await again[Sink].update(await again[Sink].get(stored[0].id), number=100)
        rest = await db[Sink].page(order=Sink.number, after=first.next, limit=100)
        assert [s.number for s in first] == [0, 1, 2, 3, 4]
        assert [s.number for s in rest] == [*range(5, 20), 100]

    async def test_offset_pages_and_totals(self, db: Session) -> None:
        """Pages by number, with counts when they are asked for."""
        stored = await rows(db, 23)
        expected = [s.id for s in ordered(stored, [asc(Sink.number)])]
        for number in (1, 2, 3, 4):
            page = await db[Sink].page(order=Sink.number, after=Offset.of_page(number, 10), limit=10, count=True)
            assert [s.id for s in page] == expected[(number - 1) * 10 : number * 10]
            assert (page.total, page.pages, page.number, page.offset) == (23, 3, number, (number - 1) * 10)
            assert page.has_next == (number < 3)
        assert (await db[Sink].page(limit=10)).total is None
        assert (await db[Sink].page(missing(Sink.owner), Sink.number > 2**62, limit=10, count=True)).total is not None

    async def test_a_page_after_an_offset_page_goes_on_by_cursor(self, db: Session) -> None:
        """The cursor of an offset page leads to the page after it."""
        stored = await rows(db, 20)
        expected = [s.id for s in ordered(stored, [desc(Sink.at)])]
        page = await db[Sink].page(order=desc(Sink.at), after=Offset(5), limit=5)
        then = await db[Sink].page(order=desc(Sink.at), after=page.next, limit=5)
        assert [s.id for s in [*page, *then]] == expected[5:15]

    async def test_a_cursor_belongs_to_its_query(self, db: Session, other: Session) -> None:
        """Another tenant, entity, condition, value, order or direction, or a changed letter: ``Invalid``."""
        await rows(db, 20)
        await rows(other, 20)
        await db[Owner].add_many([Owner(name=str(n)) for n in range(5)])
        where = Sink.number >= 0
        cursor = (await db[Sink].page(where, order=Sink.number, limit=2)).next
        assert cursor is not None
        assert (await db[Sink].page(where, order=Sink.number, after=cursor, limit=7)).items
        wrong: list[Any] = [
            other[Sink].page(where, order=Sink.number, after=cursor),
            db[Owner].page(after=cursor),
            db[Sink].page(order=Sink.number, after=cursor),
            db[Sink].page(Sink.number >= 1, order=Sink.number, after=cursor),
            db[Sink].page(Sink.number > 0, order=Sink.number, after=cursor),
            db[Sink].page(where, order=desc(Sink.number), after=cursor),
            db[Sink].page(where, order=Sink.label, after=cursor),
            db[Sink].page(where, after=cursor),
            db[Sink].page(where, order=Sink.number, after=cursor[:-2]),
            db[Sink].page(where, order=Sink.number, after=""),
            db[Sink].page(where, order=Sink.number, after="!!!"),
            db[Sink].page(where, order=Sink.number, after="é"),
            db[Sink].page(where, order=Sink.number, after=cursor * 1000),
            db[Sink].page(where, order=Sink.number, after=5),  # type: ignore[arg-type]
            db[Sink].page(where, order=Sink.number, after=Offset(-1)),
            db[Sink].page(where, order=Sink.number, after=Offset(2**63)),
        ]
        for number, call in enumerate(wrong):
            with pytest.raises(Invalid):
                await call
                pytest.fail(f"case {number} was answered")

    @pytest.mark.parametrize("limit", [0, -1, 1001, 2.0, True, "10", None])
    async def test_sizes_that_are_no_page(self, db: Session, limit: Any) -> None:
        """A page has 1 to 1,000 items."""
        with pytest.raises(Invalid):
            await db[Sink].page(limit=limit)

    async def test_a_stream_may_be_left(self, db: Session) -> None:
        """Leaving a stream early holds nothing."""
        await rows(db, 30)
        for _ in range(30):
            async for _sink in db[Sink].stream(batch=5):
                break
        assert await db[Sink].count() == 30
        with pytest.raises(Invalid):
            _ = [s async for s in db[Sink].stream(batch=0)]
