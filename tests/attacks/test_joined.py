"""A session in a transaction of the application's own keeps the wall, and leaves nothing of itself when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import func, select
from tests.adoption.shop import Shop, shop_beside
from tests.attacks.conftest import KEY
from tests.entities import Member, Shelf

from tallystick import Tallystick, User, secret
from tallystick.errors import Invalid, TallystickError, Unsupported, WrongTenant
from tallystick.schema.harden import harden
from tallystick.schema.lint import lint
from tallystick.settings import connect_args
from tallystick.testing import KitServer

TENANT = "SELECT coalesce(current_setting('tally.tenant', true), '')"


@pytest.fixture(scope="module")
async def shop(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Shop]:
    async with shop_beside(tally_server, tally, "_wall") as made:
        for slug in ("one", "other"):
            await made.tally.tenants.create(slug, name=slug)
            async with made.tally.session(slug, actor="seeder") as db:
                await db[Shelf].add(Shelf(name=slug))
        yield made


async def looks(connection: asyncpg.Connection, tenant: UUID) -> object:
    """What the shop's own statement sees of our table, whatever tenant it names: rows, or the refusal's SQLSTATE."""
    try:
        async with connection.transaction():
            await connection.fetchval("SELECT set_config('tally.tenant', $1, true)", str(tenant))
            return await connection.fetchval("SELECT count(*) FROM tally.kit_shelf")
    except asyncpg.PostgresError as problem:
        return problem.sqlstate


async def test_the_shops_role_sees_nothing_before_during_and_after(shop: Shop) -> None:
    one = (await shop.tally.tenants.resolve("one")).id
    async with shop.connected() as connection, connection.transaction():
        assert await looks(connection, one) == "42501"
        async with shop.tally.session("one", actor="shop", connection=connection) as db:
            assert [s.name for s in await db[Shelf].find()] == ["one"]
            assert await looks(connection, one) == "42501"
            assert await connection.fetchval(TENANT) == ""
            async with db.transaction():
                assert await looks(connection, one) == 1
        assert await looks(connection, one) == "42501"
        assert await connection.fetchval(TENANT) == ""


@pytest.mark.parametrize("role", ["admin", "owner", "superuser"])
async def test_a_mighty_role_is_put_down_while_we_work(shop: Shop, role: str) -> None:
    """The owner of our tables, and whoever no policy binds, work as the application's role or not at all."""
    if role == "superuser":
        embedded = shop.server.embedded
        if embedded is None:
            pytest.skip("the superuser of a named server is not ours")
        url = embedded._url("postgres", embedded._passwords["postgres"], shop.database)
        connection = await asyncpg.connect(**connect_args(url))
    else:
        connection = await asyncpg.connect(**shop.arguments("admin"))
    roles = shop.server.roles
    # What the admin may act as is the server's, so one worker at a time.
    turn = await asyncpg.connect(**(connect_args(shop.server.url("admin", shop.database)) | {"database": "postgres"}))
    await turn.execute("SELECT pg_advisory_lock(20261121)")
    try:
        if role != "superuser":
            await connection.execute(f"GRANT {roles.app} TO current_user")
        async with connection.transaction():
            if role == "owner":
                await connection.execute(f"SET LOCAL ROLE {roles.owner}")
            await connection.execute(
                "SELECT set_config('tally.tenant', (SELECT id::text FROM tally_ref.tenant_list() "
                "WHERE slug = 'other'), true)"
                if role == "superuser"
                else "SELECT 1"
            )
            who = await connection.fetchval("SELECT current_user")
            async with shop.tally.session("one", actor="shop", connection=connection) as db:
                async with db.transaction():
                    assert await connection.fetchval("SELECT current_user") == roles.app
                    assert await connection.fetchval("SELECT array_agg(name) FROM tally.kit_shelf") == ["one"]
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        async with connection.transaction():
                            await connection.execute("ALTER TABLE tally.kit_shelf DISABLE ROW LEVEL SECURITY")
                    rows = await db.fetch(select(func.count().label("n")).select_from(Shelf.table), into=dict)
                    assert rows == [{"n": 1}]
            assert await connection.fetchval("SELECT current_user") == who
    finally:
        if role != "superuser":
            await connection.execute(f"REVOKE {roles.app} FROM current_user")
        await connection.close()
        await turn.close()


async def test_a_session_that_the_transaction_is_taken_from_under_is_undone(shop: Shop) -> None:
    """Going back behind our savepoint takes tenant and role with it: what comes then fails, and stays undone."""
    async with shop.connected() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SAVEPOINT theirs")
        db = await shop.tally.session("one", actor="shop", connection=connection).__aenter__()
        block = db.transaction()
        await block.__aenter__()
        await db[Shelf].add(Shelf(name="lost"))
        await connection.execute("ROLLBACK TO SAVEPOINT theirs")
        with pytest.raises(TallystickError):
            await db[Shelf].find()
        with pytest.raises(TallystickError):
            await block.__aexit__(None, None, None)
        await transaction.rollback()
    async with shop.tally.session("one", actor="later") as db:
        assert [s.name for s in await db[Shelf].find()] == ["one"]


async def test_rows_of_another_tenant_are_refused_as_ever(shop: Shop) -> None:
    async with shop.tally.session("other", actor="x") as db:
        (foreign,) = await db[Shelf].find()
    async with shop.connected() as connection, connection.transaction():
        async with shop.tally.session("one", actor="shop", connection=connection) as db:
            with pytest.raises(WrongTenant):
                await db[Shelf].update(foreign, stock=5)
            assert await db[Shelf].get_or_none(foreign.id) is None
            with pytest.raises(Unsupported):
                await db.fetch(select(func.set_config("role", "none", True)), into=dict)


async def test_what_is_rolled_back_leaves_no_entry(shop: Shop) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)
    async with shop.connected() as connection:
        transaction = connection.transaction()
        await transaction.start()
        async with shop.tally.session("one", actor="ghost", permissions=("*",), connection=connection) as db:
            await db[Member].add(Member(number=secret("12-34"), name="Ada"))
            assert (await db.audit.entries(actor="ghost", since=since)).items
        await transaction.rollback()
    async with shop.tally.session("one", actor="later", permissions=("*",)) as db:
        assert not (await db.audit.entries(actor="ghost", since=since)).items


async def test_the_right_to_join_is_no_hole_that_the_lint_knows(shop: Shop) -> None:
    async with shop.connected() as connection:
        assert not await connection.fetchval("SELECT pg_has_role($1, 'USAGE')", shop.server.roles.app)
    async with shop.connected("admin") as admin:
        assert await lint(admin, shop.server.roles, shop.tally.entities) == []


async def test_a_foreign_key_of_the_shops_holds_and_tells_nothing(shop: Shop) -> None:
    async with shop.tally.session("other", actor="x", permissions=("*",)) as db:
        theirs = await db.users.add(User(email="ada@example.org"))
        other = db.tenant_id
    order = "INSERT INTO shop.orders (item, tenant_id, borrower_id) VALUES ('x', $1, $2)"
    async with shop.connected() as connection, connection.transaction():
        async with shop.tally.session("one", actor="shop", permissions=("*",), connection=connection) as db:
            mine = await db.users.add(User(email="ada@example.org"))
            await connection.execute(order, db.tenant_id, mine.id)
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                async with connection.transaction():
                    await connection.execute(order, db.tenant_id, theirs.id)
            await connection.execute(order, other, theirs.id)
            with pytest.raises(TallystickError):
                await db.users.purge(mine, reason="test")


async def test_a_hardened_database_is_joined_with_signed_tenants(
    tally_server: KitServer, tally: Tallystick, key_file: Path
) -> None:
    async with shop_beside(tally_server, tally, "_hardjoin") as shop:
        await harden(shop.server.url("admin", shop.database), key=KEY, roles=shop.server.roles)
        from dataclasses import replace

        settings = replace(shop.tally.settings, tenant_key_file=key_file)
        async with Tallystick.open(settings=settings, entities=tally.entities, keys=tally.keys) as signed:
            for slug in ("one", "other"):
                await signed.tenants.create(slug, name=slug)
            async with shop.connected() as connection, connection.transaction():
                one, other = (signed.session(s, actor=s, connection=connection) for s in ("one", "other"))
                async with one as mine, other as theirs:
                    async with mine.transaction():
                        row = await mine[Shelf].add(Shelf(name="one"))
                        assert await theirs[Shelf].find() == []
                        assert await mine[Shelf].find() == [row]
                    assert await connection.fetchval(TENANT) == ""
                    seen = await connection.fetchval(
                        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%'", str(mine.tenant_id)
                    )
                    assert seen == 0
        with pytest.raises((Invalid, TallystickError)):
            async with Tallystick.open(settings=shop.tally.settings, entities=tally.entities):
                pass
