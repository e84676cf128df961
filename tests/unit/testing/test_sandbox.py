"""The sandbox: what happens in it is real, and nothing of it stays."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.entities import Entry, Shelf

from tallystick import Conflict, Duplicate, Invalid, Tallystick, Unsupported, User, usd
from tallystick.session import Session
from tallystick.testing import Sandbox


async def test_what_is_written_is_there_until_the_end(tally, tenant):
    async with Sandbox(tally) as sandbox, sandbox.session(tenant) as db:
        kept = await db.users.add(User(email="ada@example.org"))
        assert (await db.users.get(kept.id)).email == "ada@example.org"
        assert kept.version == 1
        assert kept.created_by == "test"
        updated = await db.users.update(kept, first_name="Ada")
        assert updated.version == 2
    async with tally.session(tenant, actor="after") as db:
        assert await db.users.count() == 0


async def test_an_error_that_the_test_catches_spoils_nothing(db: Session):
    await db[Shelf].add(Shelf(name="one"))
    with pytest.raises(Duplicate):
        await db[Shelf].add(Shelf(name="one"))
    with pytest.raises(Invalid):
        await db[Shelf].add(Shelf(name="two", stock=-1))
    await db[Shelf].add(Shelf(name="two"))
    assert await db[Shelf].count() == 2


async def test_transactions_commit_roll_back_and_nest(db: Session):
    shelves = db[Shelf]
    async with db.transaction():
        await shelves.add(Shelf(name="kept"))
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                await shelves.add(Shelf(name="inner"))
                raise ZeroDivisionError
        assert await shelves.count() == 1
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            await shelves.add(Shelf(name="undone"))
            raise ZeroDivisionError
    assert [s.name for s in await shelves.find()] == ["kept"]


async def test_a_transaction_that_failed_cannot_be_committed(db: Session):
    await db[Shelf].add(Shelf(name="one"))
    with pytest.raises(Conflict, match="rolled back"):
        async with db.transaction():
            await db[Shelf].add(Shelf(name="two"))
            with pytest.raises(Duplicate):
                await db[Shelf].add(Shelf(name="one"))
    assert await db[Shelf].count() == 1


async def test_atomic_works(db: Session):
    async def twice(inner: Session) -> int:
        await inner[Shelf].add(Shelf(name="a"))
        await inner[Shelf].add(Shelf(name="b"))
        return await inner[Shelf].count()

    assert await db.atomic(twice, isolation="serializable") == 2


async def test_read_only_is_kept_and_given_back(db: Session):
    async with db.transaction(read_only=True):
        assert await db[Shelf].count() == 0
    with pytest.raises(Unsupported):
        async with db.transaction(read_only=True):
            await db[Shelf].add(Shelf(name="no"))
    await db[Shelf].add(Shelf(name="yes"))


async def test_tenants_are_apart_and_can_be_made_inside(sandbox: Sandbox, db: Session):
    await sandbox.tally.tenants.create("sandboxed-neighbour", name="Neighbour")
    async with sandbox.session("sandboxed-neighbour") as other:
        theirs = await other[Shelf].add(Shelf(name="one"))
        assert await db[Shelf].count() == 0
        mine = await db[Shelf].add(Shelf(name="one"))
        assert await other[Shelf].get_or_none(mine.id) is None
        async with other.transaction():
            await other[Shelf].update(theirs, stock=4)
            assert (await db[Shelf].get(mine.id)).stock == 0
        assert (await other[Shelf].get(theirs.id)).stock == 4
        assert (await db[Shelf].get(mine.id)).created_by == "test"


async def test_the_tenant_made_inside_is_gone(sandbox: Sandbox, tally):
    known = [slug async for _, slug, _ in tally.tenants.all()]
    assert "sandboxed-neighbour" not in known


async def test_actors_of_two_sessions_stay_apart(sandbox: Sandbox, tenant):
    async with sandbox.session(tenant, actor="first") as one, sandbox.session(tenant, actor="second") as two:
        async with one.transaction():
            a = await one[Shelf].add(Shelf(name="a"))
            b = await two[Shelf].add(Shelf(name="b"))
            c = await one[Shelf].add(Shelf(name="c"))
    assert (a.created_by, b.created_by, c.created_by) == ("first", "second", "first")


async def test_transactions_of_two_sessions_must_nest(sandbox: Sandbox, tenant):
    async with sandbox.session(tenant) as one, sandbox.session(tenant) as two:
        outer, inner = one.transaction(), two.transaction()
        await outer.__aenter__()
        await inner.__aenter__()
        with pytest.raises(Unsupported, match="interleaved"):
            await one[Shelf].count()
        await inner.__aexit__(None, None, None)
        await one[Shelf].add(Shelf(name="fine"))
        await outer.__aexit__(None, None, None)
        assert await two[Shelf].count() == 1


async def test_tasks_take_turns(sandbox: Sandbox, tenant):
    async def work(number: int) -> int:
        async with sandbox.session(tenant, actor=f"worker:{number}") as db:
            async with db.transaction():
                await db[Shelf].add(Shelf(name=f"shelf {number}"))
                await asyncio.sleep(0)
                await db[Entry].add(Entry(text=f"{number}", amount=usd(1)))
            return len(await db[Shelf].find())

    seen = await asyncio.gather(*(work(n) for n in range(8)))
    assert max(seen) == 8


async def test_a_cancelled_statement_leaves_the_sandbox_usable(db: Session):
    await db[Shelf].add(Shelf(name="before"))
    for delay in (0, 0.0005, 0.002):
        task = asyncio.create_task(db[Shelf].add_many([Shelf(name=f"{delay} {i}") for i in range(3000)]))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await db[Shelf].exists(Shelf.name == "before")
    await db[Shelf].add(Shelf(name="after"))


async def test_a_transaction_cancelled_in_the_middle_is_undone(db: Session):
    async def work() -> None:
        async with db.transaction():
            await db[Shelf].add(Shelf(name="lost"))
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await db[Shelf].count() == 0


async def test_a_session_that_is_left_open_undoes_its_transaction(sandbox: Sandbox, tenant, db: Session):
    async with sandbox.session(tenant) as other:
        await other.transaction().__aenter__()
        await other[Shelf].add(Shelf(name="never committed"))
    assert await db[Shelf].count() == 0


async def test_every_verb_runs_in_a_sandbox(db: Session):
    one = await db[Shelf].add(Shelf(name="one"))
    many = await db[Shelf].add_many([Shelf(name=f"n{i}") for i in range(30)])
    await db[Shelf].upsert(Shelf(name="one", stock=3), on=Shelf.name)
    await db[Shelf].update_where(Shelf.stock == 0, stock=1)
    page = await db[Shelf].page(limit=10, count=True)
    assert page.total == 31
    assert (await db[Shelf].page(after=page.next, limit=10)).items[0].id != page.items[0].id
    shelved = await db[Shelf].archive(await db[Shelf].get(one.id))
    await db[Shelf].restore(shelved)
    await db[Shelf].purge(many[0].id, reason="test")
    assert await db[Shelf].purge_where(Shelf.stock == 1, reason="test") == 29
    async with db.transaction():
        assert (await db[Shelf].lock(one.id)).stock == 3
    assert [s.name async for s in db[Shelf].stream()] == ["one"]
    assert await db.consume("applications") == 1


async def test_the_form_for_poolers_works_in_a_sandbox_too(tally, tenant):
    settings = replace(tally.settings, pooler="transaction")
    async with Tallystick.open(settings=settings, entities=tally.entities, keys=tally.keys) as app:
        async with Sandbox(app) as sandbox, sandbox.session(tenant) as db:
            await sandbox.tally.tenants.create("pooled-neighbour", name="Neighbour")
            one = await db[Shelf].add(Shelf(name="one"))
            async with db.transaction():
                await db[Shelf].update(one, stock=3)
            assert (await db[Shelf].get(one.id)).created_by == "test"
        async with app.session(tenant, actor="after") as db:
            assert await db[Shelf].count() == 0
        assert "pooled-neighbour" not in [slug async for _, slug, _ in app.tenants.all()]


async def test_a_migration_is_refused(sandbox: Sandbox):
    with pytest.raises(Unsupported):
        await sandbox.tally.migrate()


async def test_a_sandbox_that_is_not_open_says_so(tally):
    with pytest.raises(Unsupported, match="not open"):
        Sandbox(tally).session("x")


async def test_stamps_are_the_servers(db: Session):
    before = datetime.now(UTC)
    shelf = await db[Shelf].add(Shelf(name="x"))
    assert abs((shelf.created_at - before).total_seconds()) < 60
