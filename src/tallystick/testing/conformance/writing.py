"""Writing one row or many: stamps, versions, rules, and all or nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tallystick.entity import spec_of
from tallystick.errors import (
    Conflict,
    Denied,
    Duplicate,
    Invalid,
    InvalidTransition,
    NotFound,
    StaleVersion,
    StillReferenced,
    UnknownReference,
    Unsupported,
)
from tallystick.fields import Ref
from tallystick.ids import uuid7
from tallystick.money import usd
from tallystick.privacy.sealed import secret
from tallystick.query import all_of, asc, missing, one_of, present
from tallystick.testing.conformance.base import Base, values_of
from tallystick.testing.conformance.capabilities import Capability, needs
from tallystick.testing.conformance.entities import Door, Entry, Gate, Member, Owner, Shelf, Sink

if TYPE_CHECKING:
    from tallystick.entity import Entity
    from tallystick.session import Session
    from tallystick.testing.factories import Make


class Writing(Base):
    """``add``, ``add_many``, ``upsert``, ``update``, ``update_where``, ``archive``, ``purge``."""

    # -- add -------------------------------------------------------------------------------------------------------

    async def test_add_stamps(self, db: Session, again: Session) -> None:
        """Tenant, version, times and actors are the store's; what the caller put there is not believed."""
        forged = datetime(2001, 1, 1, tzinfo=UTC)
        given = Sink(number=1, version=9, created_at=forged, updated_at=forged, created_by="me", updated_by="me")
        added = await db[Sink].add(given)
        assert (added.id, added.version, added.tenant_id) == (given.id, 1, db.tenant_id)
        assert (added.created_by, added.updated_by) == ("conformance", "conformance")
        assert added.created_at > forged
        assert await db[Sink].get(added.id) == added
        changed = await again[Sink].update(added, number=2)
        assert (changed.version, changed.created_by, changed.updated_by) == (2, "conformance", "again")
        assert changed.created_at == added.created_at
        assert changed.updated_at > added.updated_at
        assert await db[Sink].get(added.id) == changed

    async def test_actors_keep_their_letters(self, store_app: Any, tenant: str) -> None:
        """An actor is any text, and only text."""
        for actor in ("O'Brien', true); --", 'Zoë 🏦 \\ " $1 %s', "x" * 200, "line\nbreak"):
            async with store_app.session(tenant, actor=actor, permissions=("*",)) as db:
                added = await db[Sink].add(Sink())
                many = await db[Sink].add_many([Sink()])
                async with db.transaction():
                    inside = await db[Sink].add(Sink())
                for one in (added, many[0], inside):
                    assert (await db[Sink].get(one.id)).created_by == actor
                assert db.tenant.slug == tenant

    async def test_the_same_id_twice(self, db: Session) -> None:
        """An id is used once."""
        added = await db[Sink].add(Sink())
        with pytest.raises(Duplicate):
            await db[Sink].add(Sink(id=added.id))
        with pytest.raises(Duplicate):
            await db[Sink].add_many([Sink(), Sink(id=added.id)])
        assert await db[Sink].count() == 1

    async def test_the_wrong_kind(self, db: Session) -> None:
        """A repository takes its own entities only."""
        sinks: Any = db[Sink]
        for wrong in (Owner(name="x"), {"number": 1}, None, Sink):
            with pytest.raises(Invalid):
                await sinks.add(wrong)
        with pytest.raises(Invalid):
            await sinks.update(await db[Owner].add(Owner(name="x")), number=1)
        with pytest.raises(Invalid):
            await sinks.get("not an id")

    async def test_add_many_is_all_or_nothing(self, db: Session) -> None:
        """One bad row among thousands and none is written."""
        added = await db[Shelf].add_many([Shelf(name=f"s{n}") for n in range(2_000)])
        assert [s.version for s in added] == [1] * 2_000
        assert await db[Shelf].add_many([]) == []
        with pytest.raises(Duplicate):
            await db[Shelf].add_many([*(Shelf(name=f"t{n}") for n in range(2_000)), Shelf(name="s7")])
        with pytest.raises(Invalid):
            await db[Shelf].add_many([*(Shelf(name=f"t{n}") for n in range(2_000)), Shelf(name="")])
        assert await db[Shelf].count() == 2_000

    async def test_add_many_beyond_ten_thousand(self, db: Session) -> None:
        """Any number of rows, still all or nothing, and each read back."""
        given = [Sink(number=n, note=None if n % 3 else f"note {n}") for n in range(10_501)]
        added = await db[Sink].add_many(given)
        assert len(added) == await db[Sink].count() == 10_501
        with pytest.raises(Invalid, match="stream"):
            await db[Sink].find()
        assert [s.number async for s in db[Sink].stream(order=asc(Sink.number))] == list(range(10_501))
        with pytest.raises(Duplicate):
            await db[Sink].add_many([*(Sink(number=n) for n in range(10_500)), given[0]])
        assert await db[Sink].count() == 10_501

    # -- rules -----------------------------------------------------------------------------------------------------

    @needs(Capability.UNIQUE)
    async def test_unique_rules_name_themselves(self, db: Session) -> None:
        """The error says which rule, and never which value."""
        await db[Shelf].add(Shelf(name="Confidential"))
        with pytest.raises(Duplicate) as caught:
            await db[Shelf].add(Shelf(name="Confidential"))
        assert caught.value.entity == "Shelf"
        assert caught.value.rule
        assert "name" in str(caught.value)
        assert "Confidential" not in str(caught.value)
        await db[Member].add(Member(number=secret("12-34"), name="A"))
        with pytest.raises(Duplicate):
            await db[Member].add(Member(number=secret("1234"), name="B"))

    @needs(Capability.UNIQUE)
    async def test_missing_values_are_not_duplicates(self, db: Session) -> None:
        """A unique rule over a missing value binds nobody."""
        await db[Gate].add_many([Gate(name="same"), Gate(name="same")])
        owner = await db[Owner].add(Owner(name="x"))
        await db[Gate].add(Gate(name="same", owner=owner.ref))
        with pytest.raises(Duplicate):
            await db[Gate].add(Gate(name="same", owner=owner.ref))

    @needs(Capability.REFERENCES)
    async def test_references_must_exist(self, db: Session, other: Session) -> None:
        """Another tenant's id is refused with the words for an id that does not exist."""
        theirs = await other[Owner].add(Owner(name="theirs"))
        told = []
        for id in (uuid7(), theirs.id):
            with pytest.raises(UnknownReference) as caught:
                await db[Sink].add(Sink(owner=Ref(id)))
            told.append(str(caught.value))
            assert caught.value.field == "owner"
        assert told[0] == told[1]
        with pytest.raises(Denied):
            await db[Sink].add(Sink(owner=theirs.ref))
        kept = await db[Sink].add(Sink())
        with pytest.raises(UnknownReference):
            await db[Sink].update(kept, owner=Ref(theirs.id))
        with pytest.raises(UnknownReference):
            await db[Sink].update_where(Sink.id == kept.id, owner=Ref(theirs.id))

    @needs(Capability.REFERENCES)
    async def test_what_is_referred_to_stays(self, db: Session) -> None:
        """Nothing cascades."""
        owner = await db[Owner].add(Owner(name="x"))
        sink = await db[Sink].add(Sink(owner=owner.ref))
        with pytest.raises(StillReferenced):
            await db[Owner].purge(owner, reason="a test")
        await db[Sink].purge(sink, reason="a test")
        await db[Owner].purge(owner, reason="a test")
        assert await db[Owner].get_or_none(owner.id) is None

    @needs(Capability.CHECKS)
    async def test_checks(self, db: Session) -> None:
        """A violated check is ``Invalid`` with the check's name, on every way in."""
        kept = await db[Shelf].add(Shelf(name="kept"))
        for call in (
            db[Shelf].add(Shelf(name="x", stock=-1)),
            db[Shelf].add_many([Shelf(name="x"), Shelf(name="y", stock=-1)]),
            db[Shelf].update(kept, stock=-1),
            db[Shelf].update_where(Shelf.name == "kept", stock=-1),
            db[Shelf].upsert(Shelf(name="kept", stock=-1), on=Shelf.name),
        ):
            with pytest.raises(Invalid, match="stock"):
                await call
        assert await db[Shelf].find() == [kept]

    @needs(Capability.TRANSITIONS)
    async def test_transitions(self, db: Session) -> None:
        """A state machine is followed by every writer, bulk ones included."""
        steps = {t.field: t.steps for t in spec_of(Gate).transitions}["state"]
        for first in Door:
            if first not in (Door.SHUT, Door.LOCKED):
                with pytest.raises(InvalidTransition):
                    await db[Gate].add(Gate(name="x", state=first))
        paths = {Door.SHUT: [], Door.OPEN: [Door.OPEN], Door.LOCKED: [Door.LOCKED], Door.GONE: [Door.OPEN, Door.GONE]}
        for before in Door:
            for after in Door:
                gate = await db[Gate].add(Gate(name="x"))
                for step in paths[before]:
                    gate = await db[Gate].update(gate, state=step)
                if before == after or after in steps.get(before, ()):
                    assert (await db[Gate].update(gate, state=after)).state is after
                    continue
                with pytest.raises(InvalidTransition) as caught:
                    await db[Gate].update(gate, state=after)
                assert (caught.value.before, caught.value.after) == (before.value, after.value)
                with pytest.raises(InvalidTransition):
                    await db[Gate].update_where(Gate.id == gate.id, state=after)
                assert (await db[Gate].get(gate.id)).state is before

    @needs(Capability.APPEND_ONLY)
    async def test_append_only(self, db: Session) -> None:
        """Written once: no update, no upsert, no lock, no removal."""
        entry = await db[Entry].add(Entry(text="once", amount=usd(5)))
        with pytest.raises((Unsupported, Invalid)):
            await db[Entry].update(entry, text="twice")
        with pytest.raises((Unsupported, Invalid)):
            await db[Entry].update_where(Entry.text == "once", text="twice")
        with pytest.raises(Unsupported):
            await db[Entry].purge(entry, reason="a test")
        with pytest.raises(Unsupported):
            await db[Entry].purge_where(all_of(), reason="a test")
        assert await db[Entry].find() == [entry]

    # -- upsert ----------------------------------------------------------------------------------------------------

    @needs(Capability.UPSERT)
    async def test_upsert(self, db: Session, again: Session) -> None:
        """Adds, then replaces the row with the same unique values, which keeps its id and its making."""
        first = await db[Shelf].upsert(Shelf(name="one", stock=1), on=Shelf.name)
        assert first.version == 1
        second = await again[Shelf].upsert(Shelf(name="one", stock=2), on="name")
        assert (second.id, second.version, second.stock) == (first.id, 2, 2)
        assert (second.created_by, second.updated_by) == ("conformance", "again")
        assert await db[Shelf].find() == [second]
        with pytest.raises(Invalid):
            await db[Shelf].upsert(Shelf(name="one"), on=Shelf.stock)
        owner = await db[Owner].add(Owner(name="x"))
        gate = await db[Gate].upsert(Gate(name="g", owner=owner.ref), on=(Gate.owner, Gate.name))
        assert (await db[Gate].upsert(Gate(name="g", owner=owner.ref), on=("name", "owner"))).id == gate.id

    @needs(Capability.UPSERT, Capability.SEALED)
    async def test_upsert_of_sealed_fields(self, db: Session) -> None:
        """By a sealed unique value, with sealed values that belong to the row which was there."""
        first = await db[Member].upsert(Member(number=secret("12-34"), name="Ada", points=1), on=Member.number)
        second = await db[Member].upsert(Member(number=secret("1234"), name="Ada L.", points=2), on=Member.number)
        assert (second.id, second.version) == (first.id, 2)
        stored = await db[Member].get(first.id)
        assert (stored.name, stored.points, str(stored.number)) == ("Ada L.", 2, str(second.number))
        assert [m.id for m in await db[Member].find(Member.number == "1-2-3-4")] == [first.id]

    # -- update ----------------------------------------------------------------------------------------------------

    async def test_update_checks_the_version(self, db: Session, again: Session) -> None:
        """Of two changes to one reading the second is told, and what it did not change is untouched."""
        mine = await db[Sink].add(Sink(number=1, note="kept"))
        theirs = await again[Sink].get(mine.id)
        newer = await again[Sink].update(theirs, amount=7)
        with pytest.raises(StaleVersion):
            await db[Sink].update(mine, number=2)
        assert await db[Sink].get(mine.id) == newer
        assert (newer.number, newer.note, newer.amount) == (1, "kept", 7)
        await db[Sink].purge(newer, reason="a test")
        with pytest.raises(NotFound):
            await db[Sink].update(newer, number=3)

    async def test_update_that_changes_nothing(self, db: Session) -> None:
        """No difference, no write, no new version."""
        sink = await db[Sink].add(Sink(number=1, note="x", tags=["a"]))
        assert await db[Sink].update(sink) is sink
        assert (await db[Sink].update(sink, number=1, note="x", tags=["a"])).version == 1
        assert (await db[Sink].get(sink.id)).version == 1

    async def test_update_refuses_what_cannot_be_set(self, db: Session) -> None:
        """Unknown fields, system fields, and entities that were never stored."""
        sink = await db[Sink].add(Sink())
        for changes in ({"nope": 1}, {"id": uuid7()}, {"tenant_id": uuid7()}, {"version": 9}, {"created_by": "me"}):
            with pytest.raises(Invalid):
                await db[Sink].update(sink, **changes)
            with pytest.raises(Invalid):
                await db[Sink].update_where(Sink.id == sink.id, **changes)
        with pytest.raises(Invalid):
            await db[Sink].update(Sink(), number=1)
        assert await db[Sink].get(sink.id) == sink

    @needs(Capability.UPDATE_WHERE)
    async def test_update_where(self, db: Session, again: Session) -> None:
        """Every match, each with a new version and the actor; nothing else."""
        await db[Sink].add_many([Sink(number=n, note="x" if n % 2 else None) for n in range(20)])
        assert await again[Sink].update_where(missing(Sink.note), Sink.number >= 10, note="filled", amount=5) == 5
        changed = await db[Sink].find(present(Sink.amount))
        assert {s.number for s in changed} == {10, 12, 14, 16, 18}
        assert {(s.version, s.updated_by, s.created_by) for s in changed} == {(2, "again", "conformance")}
        assert await db[Sink].count(missing(Sink.note)) == 5
        assert await db[Sink].update_where(Sink.number == 999, amount=1) == 0
        with pytest.raises(Invalid):
            await db[Sink].update_where(amount=1)
        with pytest.raises(Invalid):
            await db[Sink].update_where(Sink.number == 1)
        with pytest.raises(Invalid):
            await db[Sink].update_where(Sink.number == 1, email="sealed@example.org")
        assert await db[Sink].update_where(all_of(), amount=0) == 20
        assert await db[Sink].update_where(one_of(Sink.number, [1, 2]), deposit=usd(5), amount=None) == 2

    # -- archive ---------------------------------------------------------------------------------------------------

    @needs(Capability.ARCHIVE)
    async def test_archive_and_restore(self, db: Session) -> None:
        """Set aside: found by id and by asking, unseen by everything else, and its unique values are free."""
        kept, shelved = await db[Shelf].add(Shelf(name="kept")), await db[Shelf].add(Shelf(name="name"))
        shelved = await db[Shelf].archive(shelved)
        assert shelved.archived_at is not None
        assert await db[Shelf].find() == [kept]
        assert await db[Shelf].count() == 1
        assert (await db[Shelf].page(count=True)).total == 1
        assert not await db[Shelf].exists(Shelf.name == "name")
        assert [s async for s in db[Shelf].stream()] == [kept]
        assert await db[Shelf].get(shelved.id) == shelved
        assert await db[Shelf].find(present(Shelf.archived_at)) == [shelved]
        assert await db[Shelf].update_where(all_of(), stock=3) == 1
        heir = await db[Shelf].add(Shelf(name="name"))
        with pytest.raises(Duplicate):
            await db[Shelf].restore(shelved)
        await db[Shelf].purge(heir, reason="a test")
        restored = await db[Shelf].restore(shelved)
        assert restored.archived_at is None
        assert await db[Shelf].count() == 2
        with pytest.raises(Unsupported):
            await db[Sink].archive(await db[Sink].add(Sink()))

    @needs(Capability.ARCHIVE, Capability.UPSERT)
    async def test_upsert_past_an_archived_row(self, db: Session) -> None:
        """An archived row is not what an upsert replaces."""
        old = await db[Shelf].archive(await db[Shelf].add(Shelf(name="name", stock=1)))
        new = await db[Shelf].upsert(Shelf(name="name", stock=2), on=Shelf.name)
        assert new.id != old.id
        assert await db[Shelf].get(old.id) == old

    # -- purge -----------------------------------------------------------------------------------------------------

    async def test_purge(self, db: Session) -> None:
        """By entity or id, with a reason, once."""
        one, two = await db[Sink].add_many([Sink(), Sink()])
        await db[Sink].purge(one, reason="a test")
        await db[Sink].purge(two.id, reason="a test")
        assert await db[Sink].count() == 0
        with pytest.raises(NotFound):
            await db[Sink].purge(one, reason="a test")
        for reason in ("", "  ", None):
            with pytest.raises(Invalid):
                await db[Sink].purge(one, reason=reason)  # type: ignore[arg-type]

    @needs(Capability.PURGE_WHERE)
    async def test_purge_where(self, db: Session) -> None:
        """Every match, archived rows included, and at least one condition."""
        await db[Sink].add_many([Sink(number=n) for n in range(30)])
        assert await db[Sink].purge_where(Sink.number >= 10, reason="a test") == 20
        assert await db[Sink].purge_where(Sink.number >= 10, reason="a test") == 0
        with pytest.raises(Invalid):
            await db[Sink].purge_where(reason="a test")
        assert await db[Sink].count() == 10
        shelf = await db[Shelf].add(Shelf(name="x"))
        await db[Shelf].archive(shelf)
        assert await db[Shelf].purge_where(Shelf.name == "x", reason="a test") == 1
        assert await db[Shelf].get_or_none(shelf.id) is None

    # -- every entity ----------------------------------------------------------------------------------------------

    async def test_every_entity_is_updated(self, entity: type[Entity], db: Session, make: Make) -> None:
        """A field changed and changed back is two versions."""
        spec, made = spec_of(entity), await make(entity)
        plain = [
            f
            for f in spec.fields.values()
            if f.kind in ("text", "integer", "timestamp")
            and f.optional
            and not (f.system or f.once or f.maintained or f.name == "archived_at")
        ]
        if spec.append_only or not plain:
            return
        field = plain[0]
        changed = await db[entity].update(made, **{field.name: make._guesses.value(spec, field)})
        back = await db[entity].update(changed, **{field.name: None})
        assert back.version == 3
        stored = await db[entity].get(made.id)
        assert stored == back
        stamps = dict.fromkeys(("version", "updated_at", "updated_by"))
        before, after = values_of(made) | stamps, values_of(stored) | stamps
        assert before == after

    async def test_every_entity_can_be_removed_or_refuses(self, entity: type[Entity], db: Session, make: Make) -> None:
        """Purged rows are gone; those of an entity that keeps its rows stay."""
        made = await make(entity)
        if spec_of(entity).kept:
            with pytest.raises((Unsupported, Denied)):
                await db[entity].purge(made, reason="a test")
            assert await db[entity].exists(entity.id == made.id)
            return
        await db[entity].purge(made, reason="a test")
        with pytest.raises(NotFound):
            await db[entity].get(made.id)
        assert await db[entity].get_or_none(made.id) is None

    async def test_one(self, db: Session) -> None:
        """Exactly one, or ``NotFound``, or ``Conflict``."""
        await db[Sink].add_many([Sink(number=1), Sink(number=2), Sink(number=2)])
        assert (await db[Sink].one(Sink.number == 1)).number == 1
        with pytest.raises(NotFound):
            await db[Sink].one(Sink.number == 3)
        with pytest.raises(Conflict):
            await db[Sink].one(Sink.number == 2)
