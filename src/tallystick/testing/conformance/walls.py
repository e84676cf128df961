"""The tenant wall of every verb, loading in both directions, and statements of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tallystick.entity import spec_of, with_fields
from tallystick.errors import Denied, Invalid, NotFound, TallystickError, Unsupported, WrongTenant
from tallystick.fields import Ref
from tallystick.ids import NIL, uuid7
from tallystick.loading import backref
from tallystick.query import all_of
from tallystick.testing.conformance.base import Base
from tallystick.testing.conformance.capabilities import Capability, needs
from tallystick.testing.conformance.entities import Job, Owner, Shelf, Sink

if TYPE_CHECKING:
    from tallystick.entity import Entity
    from tallystick.session import Session
    from tallystick.testing.factories import Make


class Total(msgspec.Struct):
    """What the statement below answers."""

    n: int


class Walls(Base):
    """Every verb called with another tenant's rows, ids, entities and cursors."""

    async def test_reading(self, entity: type[Entity], db: Session, other: Session, make: Make) -> None:
        """Another tenant's rows are not there."""
        theirs = await make.on(other)(entity)
        mine: Any = db[entity]
        with pytest.raises(NotFound):
            await mine.get(theirs.id)
        assert await mine.get_or_none(theirs.id) is None
        with pytest.raises(NotFound):
            await mine.one(entity.id == theirs.id)
        assert await mine.find(entity.id == theirs.id) == []
        assert await mine.find(entity.tenant_id == theirs.tenant_id) == []
        assert await mine.count() == 0
        assert not await mine.exists()
        assert (await mine.page(count=True)).total == 0
        assert [e async for e in mine.stream()] == []

    async def test_writing(self, entity: type[Entity], db: Session, other: Session, make: Make) -> None:
        """Another tenant's rows cannot be changed, taken over or removed, by entity, by id or in bulk."""
        theirs = await make.on(other)(entity)
        before = await other[entity].get(theirs.id)
        mine: Any = db[entity]
        with pytest.raises(TallystickError):
            await mine.add(theirs)
        with pytest.raises(TallystickError):
            await mine.add_many([theirs])
        for call in (mine.purge(theirs, reason="theft"), mine.purge(theirs.id, reason="theft")):
            with pytest.raises((Denied, NotFound, Unsupported)):
                await call
        if not spec_of(entity).kept:
            assert await mine.purge_where(all_of(), reason="theft") == 0
            assert await mine.purge_where(entity.tenant_id == theirs.tenant_id, reason="theft") == 0
        if not spec_of(entity).append_only:
            with pytest.raises((WrongTenant, Invalid)):
                await mine.update(theirs, **dict.fromkeys(_settable(entity)))
            with pytest.raises((Denied, NotFound, Unsupported)):
                async with db.transaction():
                    await mine.lock(theirs.id)
        assert await other[entity].get(theirs.id) == before
        assert await other[entity].count() == 1

    async def test_a_forged_tenant(self, db: Session, other: Session) -> None:
        """An entity that names this tenant but another's id updates nothing; one that names no tenant is new."""
        theirs = await other[Sink].add(Sink(number=1))
        forged = with_fields(theirs, tenant_id=db.tenant_id)
        with pytest.raises(NotFound):
            await db[Sink].update(forged, number=2)
        with pytest.raises(NotFound):
            await db[Sink].purge(forged, reason="theft")
        copy = await db[Sink].add(with_fields(theirs, tenant_id=NIL))
        assert copy.tenant_id == db.tenant_id
        assert await db[Sink].count() == await other[Sink].count() == 1

    async def test_unique_values_are_each_tenants_own(self, db: Session, other: Session) -> None:
        """Two tenants may have the same; an upsert replaces one's own."""
        mine, theirs = await db[Shelf].add(Shelf(name="same")), await other[Shelf].add(Shelf(name="same"))
        assert (await db[Shelf].upsert(Shelf(name="same", stock=3), on=Shelf.name)).id == mine.id
        assert await other[Shelf].get(theirs.id) == theirs
        assert await db[Shelf].update_where(all_of(), stock=9) == 1
        assert (await other[Shelf].get(theirs.id)).stock == 0

    @needs(Capability.CLAIM)
    async def test_work_items_are_each_tenants_own(self, db: Session, other: Session) -> None:
        """A worker claims its tenant's items only."""
        await other[Job].add(Job(name="theirs"))
        assert [c async for c in db[Job].claim()] == []
        assert len([c async for c in other[Job].claim()]) == 1

    @needs(Capability.TRANSACTIONS)
    async def test_sessions_of_two_tenants_at_once(self, db: Session, other: Session) -> None:
        """Interleaved transactions and single statements keep to their own."""
        async with db.transaction():
            await db[Sink].add(Sink(label="mine"))
            async with other.transaction():
                await other[Sink].add(Sink(label="theirs"))
                assert [s.label for s in await db[Sink].find()] == ["mine"]
                assert [s.label for s in await other[Sink].find()] == ["theirs"]
        for _ in range(10):
            assert [s.label for s in await db[Sink].find()] == ["mine"]
            assert [s.label for s in await other[Sink].find()] == ["theirs"]

    # -- loading ---------------------------------------------------------------------------------------------------

    async def test_loading_forward(self, db: Session) -> None:
        """References are filled in one go, by ``load=`` and by ``db.load``, missing ones left alone."""
        owners = await db[Owner].add_many([Owner(name=n) for n in "abc"])
        parent = await db[Sink].add(Sink(owner=owners[0].ref))
        sinks = [Sink(number=n, owner=owners[n % 3].ref if n % 4 else None, parent=parent.ref) for n in range(12)]
        await db[Sink].add_many(sinks)
        found = await db[Sink].find(Sink.parent == parent.ref, order=Sink.number, load=[Sink.owner, Sink.parent])
        names = [None if s.owner is None else s.owner.value.name for s in found]
        assert names == [None if n % 4 == 0 else "abc"[n % 3] for n in range(12)]
        assert {s.parent.value.id for s in found if s.parent} == {parent.id}
        again = await db.load(await db[Sink].find(order=Sink.number), Sink.owner)
        assert all(s.owner.value.name for s in again if s.owner)
        assert (await db[Sink].get(found[1].id, load=[Sink.owner])).owner.value.name == "b"  # type: ignore[union-attr]
        assert (await db[Sink].one(Sink.number == 5, load=[Sink.owner])).owner.value.name == "c"  # type: ignore[union-attr]
        assert await db.load([], Sink.owner) == []
        with pytest.raises(Invalid):
            await db[Sink].find(load=[Sink.number])
        with pytest.raises(Invalid):
            await db.load(owners, Sink.owner)

    async def test_loading_backward(self, db: Session) -> None:
        """What refers to each, oldest first; nothing is an empty list."""
        owners = await db[Owner].add_many([Owner(name=n) for n in "abc"])
        await db[Sink].add_many([Sink(number=n, owner=owners[n % 2].ref) for n in range(10)])
        found = await db.load(owners, backref(Sink, Sink.owner))
        assert [s.number for s in found[owners[0].id]] == [0, 2, 4, 6, 8]
        assert [s.number for s in found[owners[1].id]] == [1, 3, 5, 7, 9]
        assert found[owners[2].id] == []
        with pytest.raises(Invalid):
            backref(Owner, Sink.owner)
        with pytest.raises(Invalid):
            backref(Sink, Sink.number)

    async def test_loading_across_tenants(self, db: Session, other: Session) -> None:
        """Another tenant's entities are neither loaded nor loaded for."""
        owner = await other[Owner].add(Owner(name="theirs"))
        sink = await other[Sink].add(Sink(owner=owner.ref))
        with pytest.raises(WrongTenant):
            await db.load([sink], Sink.owner)
        with pytest.raises(WrongTenant):
            await db.load([owner], backref(Sink, Sink.owner))
        with pytest.raises(NotFound):
            await db.load([Sink(owner=Ref(owner.id))], Sink.owner)
        with pytest.raises(NotFound):
            await db.load([Sink(owner=Ref(uuid7()))], Sink.owner)

    # -- statements of one's own -------------------------------------------------------------------------------------

    @needs(Capability.FETCH)
    async def test_statements_are_walled(self, db: Session, other: Session) -> None:
        """A SELECT sees the tenant's rows only, wherever the table stands in it; anything else is refused."""
        from sqlalchemy import delete, func, insert, select, text, update

        table = Sink.table
        await db[Sink].add_many([Sink(number=n) for n in range(3)])
        await other[Sink].add_many([Sink(number=n) for n in range(5)])
        counted = select(func.count().label("n")).select_from(table)
        inner = select(table.c.number).subquery()
        twin = table.alias()
        for statement in (
            counted,
            select(func.count().label("n")).select_from(inner),
            select(func.count().label("n")).where(table.c.number.in_(select(twin.c.number))),
            counted.where(table.c.tenant_id.in_([db.tenant_id, other.tenant_id])),
        ):
            assert await db.fetch(statement, into=Total) == [Total(n=3)]
            assert await other.fetch(statement, into=dict) == [{"n": 5}]
        refused: list[Any] = [
            delete(table),
            update(table).values(number=1),
            insert(table),
            text("SELECT 1"),
            "SELECT 1",
        ]
        for statement in refused:
            with pytest.raises((Unsupported, Invalid)):
                await db.fetch(statement, into=dict)
        assert await db[Sink].count() == 3


def _settable(entity: type[Entity]) -> list[str]:
    return [n for n, f in spec_of(entity).fields.items() if not f.system and f.optional][:1] or ["id"]
