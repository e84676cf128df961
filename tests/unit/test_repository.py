"""Repositories: which class serves which entity, and what their arguments may be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.entities import Gate, Job, Owner, Shelf, Sink

from tallystick import Entity, Invalid, NotFound, Ref, Repository, Rules, User, WrongTenant, asc, desc, uuid7
from tallystick.domains.identity.users import Users
from tallystick.domains.underwriting.applications import Applications
from tallystick.entity import with_fields
from tallystick.reader import FIND_LIMIT
from tallystick.session import Session
from tallystick.testing import Make


async def test_a_domain_serves_its_entity_with_its_own_class(db: Session):
    assert isinstance(db.users, Users)
    assert db[User] is db.users
    assert isinstance(db.applications, Applications)
    assert type(db[Sink]) is Repository
    assert db[Sink] is db[Sink]


async def test_an_application_may_add_operations(db: Session):
    class Owners(Repository[Owner]):
        """Owners by name."""

        async def named(self, name: str) -> list[Owner]:
            return await self.find(Owner.name == name)

    try:
        async with db._app.session(db.tenant, actor="test") as session:
            repository = session[Owner]
            assert isinstance(repository, Owners)
            added = await repository.add(Owner(name="Ada"))
            assert await repository.named("Ada") == [added]
    finally:
        del Repository._classes[Owner]


async def test_an_entity_the_application_was_not_opened_with(db: Session):
    class Stranger(Entity):
        """Nobody installed this."""

        rules = Rules(table="stranger")

    with pytest.raises(Invalid, match="not an entity of this application"):
        _ = db[Stranger]
    with pytest.raises(Invalid):
        _ = db[int]  # type: ignore[type-var]


async def test_ids_may_be_references(db: Session):
    owner = await db[Owner].add(Owner(name="x"))
    assert await db[Owner].get(Ref(owner.id)) == owner  # type: ignore[arg-type]
    assert await db[Owner].get_or_none(owner.ref) == owner  # type: ignore[arg-type]
    for wrong in ("text", str(owner.id), 5, None, owner):
        with pytest.raises(Invalid):
            await db[Owner].get(wrong)  # type: ignore[arg-type]


async def test_not_found_says_which_entity_and_id(db: Session):
    id = uuid7()
    with pytest.raises(NotFound) as caught:
        await db[Owner].get(id)
    assert (caught.value.entity, caught.value.id) == ("Owner", id)


async def test_find_is_in_order_of_making(db: Session, make: Make):
    made = await make.many(Owner, 5)
    assert [o.id for o in await db[Owner].find()] == [o.id for o in made]
    assert [o.id for o in await db[Owner].find(order=desc(Owner.id))] == [o.id for o in reversed(made)]
    assert len(await db[Owner].find(order=[asc(Owner.name)], limit=2)) == 2


async def test_find_stops_where_a_stream_should_begin(db: Session):
    await db[Owner].add_many([Owner(name="x") for _ in range(FIND_LIMIT + 1)])
    with pytest.raises(Invalid, match="stream"):
        await db[Owner].find()
    assert len(await db[Owner].find(limit=FIND_LIMIT + 1)) == FIND_LIMIT + 1
    assert len([o async for o in db[Owner].stream(batch=10_000)]) == FIND_LIMIT + 1


async def test_conditions_on_archived_at_see_archived_rows(db: Session):
    shelf = await db[Shelf].archive(await db[Shelf].add(Shelf(name="x")))
    assert await db[Shelf].find() == []
    assert await db[Shelf].find(Shelf.archived_at != None) == [shelf]  # noqa: E711
    assert await db[Shelf].count((Shelf.archived_at != None) | (Shelf.name == "y")) == 1  # noqa: E711
    assert await db[Shelf].page() is not None
    again = await db[Shelf].archive(shelf)
    assert again.version == 3


async def test_a_filter_of_another_entity_is_refused(db: Session):
    with pytest.raises(Invalid):
        await db[Sink].find(Shelf.Filter.parse({"name": "x"}))
    with pytest.raises(Invalid):
        await db[Sink].count(Gate.name == "x")
    with pytest.raises(Invalid):
        await db[Sink].find("number = 1")  # type: ignore[arg-type]


async def test_upsert_names_a_declared_rule(db: Session, make: Make):
    owner = await make(Owner)
    for on in ((Gate.owner, Gate.name), ["name", "owner"], (Gate.name, "owner")):
        assert (await db[Gate].upsert(Gate(name="g", owner=owner.ref), on=on)).name == "g"
    assert await db[Gate].count() == 1
    for on in (Gate.name, (Gate.name, Gate.state), "nothing", (), Shelf.name):
        with pytest.raises(Invalid):
            await db[Gate].upsert(Gate(name="g"), on=on)


async def test_lock_and_claim_arguments(db: Session):
    sink = await db[Sink].add(Sink())
    with pytest.raises(Invalid, match="transaction"):
        await db[Sink].lock(sink.id)
    for limit in (0, 1001, 1.0, True):
        with pytest.raises(Invalid):
            _ = [c async for c in db[Job].claim(limit=limit)]  # type: ignore[arg-type]
    for lease in (timedelta(0), timedelta(seconds=-1), timedelta(days=8), 60):
        with pytest.raises(Invalid):
            _ = [c async for c in db[Job].claim(lease=lease)]  # type: ignore[arg-type]


async def test_an_update_needs_a_stored_entity_of_this_tenant(db: Session):
    with pytest.raises(Invalid, match="not stored"):
        await db[Sink].update(Sink(), number=1)
    sink = await db[Sink].add(Sink())
    with pytest.raises(WrongTenant):
        await db[Sink].update(with_fields(sink, tenant_id=uuid7()), number=1)
    with pytest.raises(NotFound):
        await db[Sink].update(with_fields(sink, id=uuid7()), number=1)
