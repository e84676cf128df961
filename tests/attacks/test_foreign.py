"""An entity of another tenant in one's hands: no verb has an effect, and none tells more than it must."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Errand, Holder, Parcel, Stage, Trail, holder, parcel

from tallystick import ApplicationStatus, Ref, Session, User, backref, one_of, secret, usd, uuid7
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import Denied, Invalid, NotFound, TallystickError, UnknownReference, WrongTenant

Pair = tuple[TenantInfo, TenantInfo]


class Theirs:
    """What the other tenant has, and what is in the tables before and after."""

    def __init__(self, home: Holder, row: Parcel, trail: Trail, errand: Errand) -> None:
        self.home, self.row, self.trail, self.errand = home, row, trail, errand


@pytest.fixture
async def theirs(ground: Ground, pair: Pair) -> Theirs:
    async with ground.tally.session(pair[1], actor="b") as db:
        home = await db[Holder].add(holder("theirs", email="b@example.org", name="B"))
        row = await db[Parcel].add(parcel(home, "theirs", national_id=secret("123-45-6789"), count=5))
        row = await db[Parcel].get(row.id, load=[Parcel.holder])
        trail = await db[Trail].add(Trail(parcel=Ref(row.id), text="theirs"))
        return Theirs(home, row, trail, await db[Errand].add(Errand(what="theirs")))


Attempt = Callable[[Session, Theirs], Awaitable[Any]]
# With the entity in hand the client itself can see whose it is.
SEEN: dict[str, Attempt] = {
    "update": lambda db, t: db[Parcel].update(t.row, count=6),
    "update with nothing": lambda db, t: db[Parcel].update(t.row),
    "update to the same": lambda db, t: db[Parcel].update(t.row, count=5),
    "purge": lambda db, t: db[Parcel].purge(t.row, reason="gone"),
    "archive": lambda db, t: db[Errand].archive(t.errand),
    "restore": lambda db, t: db[Errand].restore(t.errand),
    "add": lambda db, t: db[Holder].add(t.home),
    "add many": lambda db, t: db[Holder].add_many([holder("ok"), t.home]),
    "upsert": lambda db, t: db[Holder].upsert(t.home, on=Holder.code),
    "load": lambda db, t: db.load([t.row], Parcel.holder),
    "load back": lambda db, t: db.load([t.home], backref(Parcel, Parcel.holder)),
    "reference": lambda db, t: db[Parcel].add(parcel(t.home, "x")),
}
# With its id alone it is told like an id that does not exist.
UNSEEN: dict[str, Attempt] = {
    "get": lambda db, t: db[Parcel].get(t.row.id),
    "purge": lambda db, t: db[Parcel].purge(t.row.id, reason="gone"),
    "lock": lambda db, t: locked(db, t.row.id),
    "reveal": lambda db, t: db[Parcel].reveal(t.row.id, Parcel.national_id, reason="to see it"),
    "one": lambda db, t: db[Parcel].one(Parcel.id == t.row.id),
    "get, with load": lambda db, t: db[Parcel].get(t.row.id, load=[Parcel.holder]),
}
EMPTY: dict[str, Attempt] = {
    "get_or_none": lambda db, t: db[Parcel].get_or_none(t.row.id),
    "find": lambda db, t: db[Parcel].find(Parcel.id == t.row.id),
    "find by reference": lambda db, t: db[Parcel].find(Parcel.holder == Ref(t.home.id)),
    "find several": lambda db, t: db[Parcel].find(one_of(Parcel.id, [t.row.id, t.home.id])),
    "count": lambda db, t: db[Parcel].count(Parcel.label == "theirs"),
    "exists": lambda db, t: db[Holder].exists(Holder.email == "b@example.org"),
    "update_where": lambda db, t: db[Parcel].update_where(Parcel.id == t.row.id, count=6),
    "purge_where": lambda db, t: db[Parcel].purge_where(Parcel.id == t.row.id, reason="gone"),
    "by email": lambda db, t: db.users.by_email("b@example.org"),
}


async def locked(db: Session, id: UUID) -> Any:
    async with db.transaction():
        return await db[Parcel].lock(id)


async def untouched(ground: Ground, pair: Pair, theirs: Theirs) -> None:
    async with ground.tally.session(pair[1], actor="b", permissions=["*"]) as db:
        row = await db[Parcel].get(theirs.row.id)
        assert (row.version, row.count, row.holder.id) == (1, 5, theirs.home.id)
        assert await db[Holder].count() == await db[Parcel].count() == await db[Trail].count() == 1
        assert await db[Errand].count() == 1
        assert await db[Parcel].reveal(row.id, Parcel.national_id, reason="a check") == "123-45-6789"
    async with ground.tally.session(pair[0], actor="a") as db:
        assert await db[Holder].count() == await db[Parcel].count() == await db[Trail].count() == 0
    # What was loaded into the entity in hand is as it was.
    assert theirs.row.holder.value.id == theirs.home.id


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("how", SEEN)
async def test_an_entity_of_another_tenant_is_refused_by_every_verb(
    ground: Ground, pair: Pair, theirs: Theirs, how: str, inside: bool
) -> None:
    async with ground.tally.session(pair[0], actor="a", permissions=["*"]) as db:
        with pytest.raises(WrongTenant) as caught:
            if inside:
                async with db.transaction():
                    await SEEN[how](db, theirs)
            else:
                await SEEN[how](db, theirs)
        assert caught.value.remedy
        assert str(theirs.home.tenant_id) not in str(caught.value)
    await untouched(ground, pair, theirs)


@pytest.mark.parametrize("how", UNSEEN)
async def test_an_id_of_another_tenant_is_told_like_an_id_of_nothing(
    ground: Ground, pair: Pair, theirs: Theirs, how: str
) -> None:
    async with ground.tally.session(pair[0], actor="a", permissions=["*"]) as db:
        nothing = Theirs(holder(), parcel(uuid7()), theirs.trail, theirs.errand)
        told = []
        for target in (theirs, nothing):
            with pytest.raises(NotFound) as caught:
                await UNSEEN[how](db, target)
            error = caught.value
            told.append((type(error), str(error), error.entity, error.remedy, error.__cause__, error.__context__))
        assert told[0] == told[1]
    await untouched(ground, pair, theirs)


@pytest.mark.parametrize("how", EMPTY)
async def test_questions_about_another_tenants_rows_are_answered_with_nothing(
    ground: Ground, pair: Pair, theirs: Theirs, how: str
) -> None:
    async with ground.tally.session(pair[0], actor="a", permissions=["*"]) as db:
        assert not await EMPTY[how](db, theirs)
    await untouched(ground, pair, theirs)


async def test_a_forged_tenant_on_ones_own_copy_gains_nothing(ground: Ground, pair: Pair, theirs: Theirs) -> None:
    """The tenant of an entity is only a first look: the statement carries the session's."""
    forged = msgspec.structs.replace(theirs.row, tenant_id=pair[0].id)
    async with ground.tally.session(pair[0], actor="a", permissions=["*"]) as db:
        for attempt in (
            lambda: db[Parcel].update(forged, count=6),
            lambda: db[Parcel].update(forged, national_id=secret("999")),
            lambda: db[Parcel].purge(forged, reason="gone"),
        ):
            with pytest.raises(NotFound):
                await attempt()
        with pytest.raises(UnknownReference):
            await db[Parcel].add(parcel(theirs.home.id, "x"))
        # Its ciphertext is bound to the other tenant's row and key, and does not travel.
        with pytest.raises(Invalid):
            await db[Parcel].add(parcel(await db[Holder].add(holder("mine")), "x", national_id=theirs.row.national_id))
        await db[Holder].purge_where(Holder.code == "mine", reason="tidy")
    await untouched(ground, pair, theirs)


async def test_work_items_of_another_tenant_are_never_claimed_or_settled(
    ground: Ground, pair: Pair, theirs: Theirs
) -> None:
    async with ground.tally.session(pair[0], actor="a") as db:
        assert [item async for item in db[Errand].claim(limit=100)] == []
    async with ground.tally.session(pair[1], actor="b") as other:
        (item,) = [item async for item in other[Errand].claim()]
        # The lease's token is no key to another tenant's row.
        async with ground.tally.session(pair[0], actor="a") as db:
            assert not await db.unit.settle(item._codec, item.value.id, item._token, done=True)
        await item.release()
    await untouched(ground, pair, theirs)


async def test_operations_of_the_domains_do_not_reach_across(ground: Ground, pair: Pair) -> None:
    async with ground.tally.session(pair[1], actor="b", permissions=["*"]) as other:
        user = await other.users.add(User(email="b@example.org"))
    async with ground.tally.session(pair[0], actor=f"user:{user.id}") as db:
        with pytest.raises(Denied):
            await db.require("applications.decide")
        assert await db.applications.move([user.id], ApplicationStatus.SUBMITTED) == 0
        with pytest.raises(TallystickError):
            await db.users.update(user, email="x@example.org")
    async with ground.tally.session(pair[1], actor="b") as other:
        assert (await other.users.get(user.id)).version == 1


async def test_two_sessions_interleaved_in_one_task_stay_apart(ground: Ground, pair: Pair) -> None:
    async with ground.opened(pool_max=2, verify=True) as tally:
        async with tally.session(pair[0], actor="a") as one, tally.session(pair[1], actor="b") as two:
            async with one.transaction(), two.transaction():
                for turn in range(6):
                    for db, name in ((one, "one"), (two, "two")):
                        home = await db[Holder].upsert(holder("home", name=name), on=Holder.code)
                        await db[Parcel].add(parcel(home, f"{turn}", stage=Stage.OPEN, fee=usd(turn)))
                        assert {h.name for h in await db[Holder].find()} == {name}
                        assert await db[Parcel].count() == turn + 1
