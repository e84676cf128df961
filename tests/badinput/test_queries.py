"""Questions that are asked wrongly: conditions, orders, limits, cursors, loads, and verbs with the wrong things."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.badinput.support import refused, unchanged, valid
from tests.entities import Colour, Entry, Job, Shelf, Sink

from tallystick import (
    Offset,
    Repository,
    Session,
    Tallystick,
    User,
    all_of,
    any_of,
    asc,
    at_least,
    at_most,
    backref,
    between,
    contains,
    desc,
    key,
    less_than,
    missing,
    more_than,
    not_,
    one_of,
    order_by,
    prefix,
    present,
    secret,
    usd,
)
from tallystick.errors import Conflict, Invalid, NotFound, RoleMissing, StaleVersion, Unsupported
from tallystick.ids import uuid7

CONDITIONS: dict[str, Callable[[], Any]] = {
    "and": lambda: Sink.number == 1 and Sink.flag == True,  # noqa: E712
    "or": lambda: Sink.number == 1 or Sink.flag == True,  # noqa: E712
    "not": lambda: not (Sink.number == 1),  # noqa: SIM201
    "in": lambda: Sink.number in [1, 2],
    "if": lambda: 1 if Sink.number == 1 else 2,
    "chain": lambda: 1 <= Sink.number <= 5,  # type: ignore[operator]
    "bool": lambda: bool(Sink.flag == True),  # noqa: E712
    "max": lambda: max(Sink.number, Sink.amount),
    "and with a value": lambda: (Sink.number == 1) & True,
    "or with a value": lambda: (Sink.number == 1) | None,
    "not_ of a value": lambda: not_(True),
    "any_of of values": lambda: any_of(Sink.number == 1, "x"),
    "all_of of values": lambda: all_of(None),
    "less than None": lambda: Sink.number < None,
    "between nothing": lambda: between(Sink.number, None, 5),
    "at least nothing": lambda: at_least(Sink.number, None),
    "at most nothing": lambda: at_most(Sink.number, None),
    "more than nothing": lambda: more_than(Sink.number, None),
    "less than nothing": lambda: less_than(Sink.number, None),
    "order of a document": lambda: Sink.payload > {"a": 1},
    "equality of a document": lambda: Sink.payload == {"a": 1},
    "order of bytes": lambda: Sink.raw > b"x",
    "order of a secret": lambda: Sink.pin > "1234",
    "a secret without an index": lambda: Sink.score == 5,
    "personal without an index": lambda: Sink.name == "x",
    "one of a secret without an index": lambda: one_of(Sink.name, ["x", "y"]),
    "one of nothing sensible": lambda: one_of(Sink.number, 5),
    "one of None": lambda: one_of(Sink.number, None),
    "one of a text": lambda: one_of(Sink.label, "abc"),
    "one of Nones": lambda: one_of(Sink.number, [1, None]),
    "one of lists": lambda: one_of(Sink.number, [[1], [2]]),
    "one of too many": lambda: one_of(Sink.number, range(10_001)),
    "one of no field": lambda: one_of("number", [1]),
    "missing of no field": lambda: missing("number"),
    "present of no field": lambda: present(None),
    "contains on a number": lambda: contains(Sink.number, 5),
    "contains on a secret": lambda: contains(Sink.pin, "1"),
    "prefix of a number": lambda: prefix(Sink.number, "1"),
    "prefix of nothing": lambda: prefix(Sink.label, ""),
    "prefix by a number": lambda: prefix(Sink.label, 5),
    "prefix of a secret": lambda: prefix(Sink.email, "a"),
    "a key that is not promoted": lambda: key(Sink.payload, "other"),
    "a key of no document": lambda: key(Sink.label, "x"),
    "order of a document's field": lambda: asc(Sink.payload),
    "order of a secret's field": lambda: desc(Sink.pin),
    "order of no field": lambda: asc("number"),
    "order by a name": lambda: order_by(Sink, "nonsense"),
    "order by a secret": lambda: order_by(Sink, "-email"),
    "order by nothing": lambda: order_by(Sink, ""),
    "order by a number": lambda: order_by(Sink, 5),
    "order by a field twice": lambda: order_by(Sink, "number,-number"),
    "order by a method": lambda: order_by(Sink, "ref"),
    "backref of no reference": lambda: backref(Sink, Sink.number),
    "backref of another entity": lambda: backref(Shelf, Sink.owner),
    "filter name": lambda: Sink.Filter.parse({"nonsense": "1"}),
    "filter of a secret's range": lambda: Sink.Filter.parse({"pin_from": "1"}),
    "filter of a system column": lambda: Sink.Filter.parse({"tenant_id": str(uuid7())}),
    "filter of an index column": lambda: Sink.Filter.parse({"pin_bidx": "00"}),
    "filter twice": lambda: Sink.Filter.parse([("number", "1"), ("number", "2")]),
    "filter with a number that is none": lambda: Sink.Filter.parse({"number": "five"}),
    "filter with a float": lambda: Sink.Filter.parse({"number": "5.5"}),
    "filter with a huge number": lambda: Sink.Filter.parse({"number": "9" * 5_000}),
    "filter with a status that is none": lambda: Sink.Filter.parse({"colour": "purple"}),
    "filter with several, one wrong": lambda: Sink.Filter.parse({"colour_in": "red,purple"}),
    "filter with a moment that is none": lambda: Sink.Filter.parse({"at_from": "yesterday"}),
    "filter with an id that is none": lambda: Sink.Filter.parse({"owner": "x"}),
    "filter with a flag that is none": lambda: Sink.Filter.parse({"flag": "perhaps"}),
    "filter with money that is none": lambda: Sink.Filter.parse({"fee_from": "12"}).conditions(),
    "filter with money of no asset": lambda: Sink.Filter.parse({"fee": "12 NOPE"}).conditions(),
    "filter with an empty prefix": lambda: Sink.Filter.parse({"label_prefix": ""}).conditions(),
    "filter with a key that is no text": lambda: Sink.Filter.parse({5: "1"}),  # type: ignore[dict-item]
    "filter with a list": lambda: Sink.Filter.parse({"number": ["1"]}),
    "filter with too many": lambda: Sink.Filter.parse({"label_in": ",".join(map(str, range(10_001)))}).conditions(),
}


@pytest.mark.parametrize("how", CONDITIONS)
def test_a_condition_that_makes_no_sense_is_refused_where_it_is_written(how: str) -> None:
    with refused():
        CONDITIONS[how]()


Verb = Callable[[Session, Any], Awaitable[Any]]


async def first(stream: AsyncIterator[Any]) -> Any:
    return await anext(aiter(stream))


class Given:
    row: Sink
    shelf: Shelf
    entry: Entry


READS: dict[str, Verb] = {
    "find by a bool": lambda db, g: db[Sink].find(True),
    "find by a text": lambda db, g: db[Sink].find("number = 1"),  # type: ignore[arg-type]
    "find by an entity": lambda db, g: db[Sink].find(g.row),
    "find by None": lambda db, g: db[Sink].find(None),  # type: ignore[arg-type]
    "find by a field": lambda db, g: db[Sink].find(Sink.flag),
    "find by another entity's condition": lambda db, g: db[Sink].find(Shelf.name == "x"),
    "find by a nested foreign condition": lambda db, g: db[Sink].find(any_of(Sink.number == 1, not_(Shelf.stock == 1))),
    "find by another entity's filter": lambda db, g: db[Sink].find(Shelf.Filter.parse({"name": "x"})),
    "find by another field as value": lambda db, g: db[Sink].find(Sink.number == Sink.amount),
    "find by a condition as value": lambda db, g: db[Sink].find(Sink.number == (Sink.amount == 1)),
    "find by a masked secret": lambda db, g: db[Sink].find(Sink.pin == g.row.pin),
    "find with another entity's order": lambda db, g: db[Sink].find(order=desc(Shelf.name)),
    "find with a text as order": lambda db, g: db[Sink].find(order="number"),
    "find with a direction as order": lambda db, g: db[Sink].find(order=["-number"]),
    "find with a number as order": lambda db, g: db[Sink].find(order=5),
    "find with a condition as order": lambda db, g: db[Sink].find(order=Sink.number == 1),
    "find limit -1": lambda db, g: db[Sink].find(limit=-1),
    "find limit True": lambda db, g: db[Sink].find(limit=True),
    "find limit text": lambda db, g: db[Sink].find(limit="5"),  # type: ignore[arg-type]
    "find limit float": lambda db, g: db[Sink].find(limit=5.0),  # type: ignore[arg-type]
    "find limit huge": lambda db, g: db[Sink].find(limit=10**9),
    "find limit beyond 64 bits": lambda db, g: db[Sink].find(limit=10**20),
    "find load of no reference": lambda db, g: db[Sink].find(load=[Sink.number]),
    "find load of a name": lambda db, g: db[Sink].find(load=["owner"]),
    "find load of a text": lambda db, g: db[Sink].find(load="owner"),
    "find load of a number": lambda db, g: db[Sink].find(load=5),  # type: ignore[arg-type]
    "page limit 0": lambda db, g: db[Sink].page(limit=0),
    "page limit -1": lambda db, g: db[Sink].page(limit=-1),
    "page limit 1001": lambda db, g: db[Sink].page(limit=1_001),
    "page limit huge": lambda db, g: db[Sink].page(limit=10**9),
    "page limit True": lambda db, g: db[Sink].page(limit=True),
    "page limit None": lambda db, g: db[Sink].page(limit=None),  # type: ignore[arg-type]
    "page offset -1": lambda db, g: db[Sink].page(after=Offset(-1)),
    "page offset text": lambda db, g: db[Sink].page(after=Offset("1")),  # type: ignore[arg-type]
    "page offset True": lambda db, g: db[Sink].page(after=Offset(True)),
    "page offset huge": lambda db, g: db[Sink].page(after=Offset(2**63)),
    "page number 0": lambda db, g: db[Sink].page(after=Offset.of_page(0, 20)),
    "page after nonsense": lambda db, g: db[Sink].page(after="nonsense"),
    "page after a number": lambda db, g: db[Sink].page(after=5),  # type: ignore[arg-type]
    "page after an entity": lambda db, g: db[Sink].page(after=g.row),
    "stream batch 0": lambda db, g: first(db[Sink].stream(batch=0)),
    "stream batch -1": lambda db, g: first(db[Sink].stream(batch=-1)),
    "stream batch huge": lambda db, g: first(db[Sink].stream(batch=10**9)),
    "stream batch True": lambda db, g: first(db[Sink].stream(batch=True)),
    "stream batch text": lambda db, g: first(db[Sink].stream(batch="5")),  # type: ignore[arg-type]
    "get a text": lambda db, g: db[Sink].get("x"),  # type: ignore[arg-type]
    "get an id as text": lambda db, g: db[Sink].get(str(g.row.id)),  # type: ignore[arg-type]
    "get None": lambda db, g: db[Sink].get(None),  # type: ignore[arg-type]
    "get an entity": lambda db, g: db[Sink].get(g.row),
    "get or none of a number": lambda db, g: db[Sink].get_or_none(5),  # type: ignore[arg-type]
    "count by a text": lambda db, g: db[Sink].count("x"),  # type: ignore[arg-type]
    "exists by a text": lambda db, g: db[Sink].exists("x"),  # type: ignore[arg-type]
    "load of strangers": lambda db, g: db.load([g.shelf], Sink.owner),
    "load of texts": lambda db, g: db.load(["x"], Sink.owner),
    "load by nothing": lambda db, g: db.load([g.row], None),
    "load back of strangers": lambda db, g: db.load([g.shelf], backref(Sink, Sink.owner)),
    "load back of texts": lambda db, g: db.load(["x"], backref(Sink, Sink.owner)),  # type: ignore[list-item]
    "reveal of no secret": lambda db, g: db[Sink].reveal(g.row.id, Sink.label, reason="to see it"),
    "reveal of another entity's": lambda db, g: db[Shelf].reveal(g.shelf.id, Sink.pin, reason="to see it"),
    "reveal by a name": lambda db, g: db[Sink].reveal(g.row.id, "pin", reason="to see it"),
    "reveal without a reason": lambda db, g: db[Sink].reveal(g.row.id, Sink.pin, reason="  "),
    "reveal with a short reason": lambda db, g: db[Sink].reveal(g.row.id, Sink.pin, reason="x"),
    "reveal with a number as reason": lambda db, g: db[Sink].reveal(g.row.id, Sink.pin, reason=555),  # type: ignore[arg-type]
    "require of an unknown kind": lambda db, g: db.consume("nonsense"),
    "consume nothing": lambda db, g: db.consume("users", 0),
    "consume less": lambda db, g: db.consume("users", -1),
    "consume True": lambda db, g: db.consume("users", True),
    "consume a half": lambda db, g: db.consume("users", 0.5),  # type: ignore[arg-type]
    "consume too much": lambda db, g: db.consume("users", 2**40),
}
WRITES: dict[str, Verb] = {
    "add None": lambda db, g: db[Sink].add(None),  # type: ignore[arg-type]
    "add a dict": lambda db, g: db[Sink].add({"label": "x"}),  # type: ignore[arg-type]
    "add another entity": lambda db, g: db[Sink].add(Shelf(name="x")),  # type: ignore[arg-type]
    "add a class": lambda db, g: db[Sink].add(Sink),  # type: ignore[arg-type]
    "add an id that is none": lambda db, g: db[Sink].add(valid(id="x")),
    "add many of a number": lambda db, g: db[Sink].add_many([valid(), 5]),  # type: ignore[list-item]
    "add many of another entity": lambda db, g: db[Sink].add_many([valid(), Shelf(name="x")]),  # type: ignore[list-item]
    "update None": lambda db, g: db[Sink].update(None, number=1),  # type: ignore[arg-type]
    "update an id": lambda db, g: db[Sink].update(g.row.id, number=1),
    "update another entity": lambda db, g: db[Sink].update(g.shelf, number=1),
    "update an unstored one": lambda db, g: db[Sink].update(valid(), number=1),
    "update an unknown field": lambda db, g: db[Sink].update(g.row, nonsense=1),
    "update a good and an unknown field": lambda db, g: db[Sink].update(g.row, number=5, nonsense=1),
    "update a system field": lambda db, g: db[Sink].update(g.row, version=9),
    "update a column": lambda db, g: db[Sink].update(g.row, owner_id=uuid7()),
    "update where nothing": lambda db, g: db[Sink].update_where(number=1),
    "update where without a change": lambda db, g: db[Sink].update_where(Sink.number == 0),
    "update where a text": lambda db, g: db[Sink].update_where("number = 0", number=1),  # type: ignore[arg-type]
    "update where an unknown field": lambda db, g: db[Sink].update_where(Sink.number == 0, nonsense=1),
    "update where a secret": lambda db, g: db[Sink].update_where(Sink.number == 0, pin=secret("1")),
    "update where shared money": lambda db, g: db[Sink].update_where(Sink.number == 0, fee=usd(1)),
    "upsert on no rule": lambda db, g: db[Sink].upsert(valid(), on=Sink.label),
    "upsert on an unknown name": lambda db, g: db[Shelf].upsert(Shelf(name="x"), on="nonsense"),
    "upsert on nothing": lambda db, g: db[Shelf].upsert(Shelf(name="x"), on=None),
    "upsert on another entity's": lambda db, g: db[Shelf].upsert(Shelf(name="x"), on=Sink.label),
    "upsert None": lambda db, g: db[Shelf].upsert(None, on=Shelf.name),  # type: ignore[arg-type]
    "purge a text": lambda db, g: db[Sink].purge("x", reason="gone"),  # type: ignore[arg-type]
    "purge None": lambda db, g: db[Sink].purge(None, reason="gone"),  # type: ignore[arg-type]
    "purge another entity": lambda db, g: db[Sink].purge(g.shelf, reason="gone"),
    "purge without a reason": lambda db, g: db[Sink].purge(g.row, reason=""),
    "purge for a number": lambda db, g: db[Sink].purge(g.row, reason=5),  # type: ignore[arg-type]
    "purge for a surrogate": lambda db, g: db[Sink].purge(g.row, reason="\ud800"),
    "purge for a NUL": lambda db, g: db[Sink].purge(g.row, reason="a\0b"),
    "purge where nothing": lambda db, g: db[Sink].purge_where(reason="gone"),
    "lock outside a transaction": lambda db, g: db[Sink].lock(g.row.id),
    "claim 0": lambda db, g: first(db[Job].claim(limit=0)),
    "claim True": lambda db, g: first(db[Job].claim(limit=True)),
    "claim too many": lambda db, g: first(db[Job].claim(limit=10**9)),
    "claim a text": lambda db, g: first(db[Job].claim(limit="5")),  # type: ignore[arg-type]
    "claim for no time": lambda db, g: first(db[Job].claim(lease=timedelta(0))),
    "claim for less than no time": lambda db, g: first(db[Job].claim(lease=timedelta(seconds=-1))),
    "claim for ever": lambda db, g: first(db[Job].claim(lease=timedelta(days=999))),
    "claim for a number": lambda db, g: first(db[Job].claim(lease=5)),  # type: ignore[arg-type]
    "archive None": lambda db, g: db[Shelf].archive(None),  # type: ignore[arg-type]
    "archive an unstored one": lambda db, g: db[Shelf].archive(Shelf(name="x")),
}
UNSUPPORTED: dict[str, Verb] = {
    "claim of no queue": lambda db, g: first(db[Sink].claim()),
    "archive where undelete is no operation": lambda db, g: db[Sink].archive(g.row),
    "restore where undelete is no operation": lambda db, g: db[Sink].restore(g.row),
    "upsert of what is written once": lambda db, g: db[Entry].purge(g.entry, reason="gone"),
    "purge of what is written once": lambda db, g: db[Entry].purge_where(Entry.text == "x", reason="gone"),
}


@pytest.fixture
async def given(tally: Tallystick, tenant: str) -> Given:
    made = Given()
    async with tally.session(tenant, actor="setup") as db:
        made.row = await db[Sink].add(valid(label="row", pin=secret("1234"), fee=usd(1)))
        made.shelf = await db[Shelf].add(Shelf(name="shelf"))
        made.entry = await db[Entry].add(Entry(text="x", amount=usd(1)))
    return made


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("how", [*READS, *WRITES])
async def test_a_verb_with_the_wrong_thing_is_refused_and_does_nothing(
    tally: Tallystick, tenant: str, given: Given, how: str, inside: bool
) -> None:
    verb = READS.get(how) or WRITES[how]
    async with unchanged(tally, tenant) as db:
        if not inside:
            with refused(Invalid, NotFound) as caught:
                await verb(db, given)
        elif "outside a transaction" not in how:
            async with db.transaction():
                with refused(Invalid, NotFound) as caught:
                    # Some are refused by the server, which ends a transaction but not one around a savepoint.
                    async with db.transaction():
                        await verb(db, given)
                assert await db[Sink].count() == 1
        else:
            return
        assert isinstance(caught.value, Invalid)


@pytest.mark.parametrize("how", UNSUPPORTED)
async def test_what_an_entity_does_not_offer(tally: Tallystick, tenant: str, given: Given, how: str) -> None:
    async with unchanged(tally, tenant) as db:
        with refused(Unsupported):
            await UNSUPPORTED[how](db, given)


async def test_asking_for_nothing_is_answered_with_nothing(tally: Tallystick, tenant: str, given: Given) -> None:
    async with unchanged(tally, tenant) as db:
        assert await db[Sink].find(limit=0) == []
        assert await db[Sink].find(one_of(Sink.number, [])) == []
        assert await db[Sink].add_many([]) == []
        assert await db[Sink].update(given.row) is given.row
        assert await db[Sink].update_where(one_of(Sink.number, []), number=5) == 0
        assert await db[Sink].purge_where(one_of(Sink.id, []), reason="none") == 0
        assert await db.load([], Sink.owner) == []
        assert await db.load([], backref(Sink, Sink.owner)) == {}
        assert [item async for item in db[Job].claim()] == []
        assert [row async for row in db[Sink].stream(Sink.number == 99)] == []
        assert Sink.Filter.parse({}).conditions() == ()
        assert (await db[Sink].page(after=Offset(2**63 - 1))).items == []


async def test_find_without_a_limit_does_not_fill_the_memory(
    tally: Tallystick, tenant: str, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.reader.FIND_LIMIT", 3)
    async with tally.session(tenant, actor="a") as db:
        await db[Sink].add_many([valid() for _ in range(3)])
        with refused() as caught:
            await db[Sink].find()
        assert "stream" in caught.value.remedy
        assert len(await db[Sink].find(limit=100)) == 4


async def test_one_says_which_of_none_and_several_it_was(tally: Tallystick, tenant: str, given: Given) -> None:
    async with tally.session(tenant, actor="a") as db:
        with refused(NotFound):
            await db[Sink].one(Sink.number == 99)
        await db[Sink].add(valid())
        with refused(Conflict):
            await db[Sink].one(Sink.number == 0)


async def test_a_version_that_is_not_the_rows(tally: Tallystick, tenant: str, given: Given) -> None:
    import msgspec

    async with unchanged(tally, tenant) as db:
        for version in (0, 2, 99, -1, 2**62):
            with refused(StaleVersion):
                await db[Sink].update(msgspec.structs.replace(given.row, version=version), number=5)
        for version in ("1", None, 2**64, 1.5):
            with refused():
                await db[Sink].update(msgspec.structs.replace(given.row, version=version), number=5)  # type: ignore[arg-type]


async def test_bulk_verbs_see_what_finds_see_and_purge_sees_all(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a") as db:
        shelf = await db[Shelf].archive(await db[Shelf].add(Shelf(name="old")))
        assert shelf.archived_at is not None
        assert await db[Shelf].count() == 0
        assert await db[Shelf].update_where(Shelf.name == "old", stock=5) == 0
        assert await db[Shelf].purge_where(Shelf.name == "old", reason="gone") == 1
        assert await db[Shelf].get_or_none(shelf.id) is None


async def test_permissions_are_asked_for_and_told(tally: Tallystick, tenant: str, given: Given) -> None:
    for permissions in ([], ["loans.*"], ["secrets"], ["secrets."], None):
        async with tally.session(tenant, actor="user:nobody", permissions=permissions) as db:
            with refused(RoleMissing):
                await db[Sink].reveal(given.row.id, Sink.pin, reason="to see it")
            with refused(RoleMissing):
                await db.require("applications.decide")
    with refused():
        async with tally.session(tenant, actor="a", permissions="loans.*"):
            pass


async def test_a_repository_is_only_for_entities_the_application_was_opened_with(
    tally: Tallystick, tenant: str
) -> None:
    from tallystick import Entity

    class Stranger(Entity):
        """Not named when the application was opened."""

        name: str

    async with tally.session(tenant, actor="a") as db:
        for wrong in (Stranger, int, "Sink", None, Entity, Repository, Sink.table):
            with refused():
                db[wrong]  # type: ignore[index]
        with refused():
            await db.load([], backref(Stranger, Stranger.name))


async def test_a_filter_of_its_own_entity_composes_with_conditions(
    tally: Tallystick, tenant: str, given: Given
) -> None:
    async with tally.session(tenant, actor="a") as db:
        wanted = Sink.Filter.parse({"label": "row", "colour_in": "red,blue", "at_missing": "true", "pin": "1234"})
        assert [r.id for r in await db[Sink].find(wanted, Sink.colour == Colour.RED)] == [given.row.id]
        assert await db[Sink].count(wanted, Sink.created_at > datetime.now(UTC)) == 0
        assert await db.users.find(User.Filter.parse({"email": "nobody@example.org"})) == []
