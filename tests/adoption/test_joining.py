"""Sessions in a transaction that the application has open: one commit, one rollback, and nothing left on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from tests.adoption.shop import Shop, shop_beside
from tests.entities import Detail, Member, Shelf, Sink

from tallystick import AuditEvent, Tallystick, User, secret, usd
from tallystick.errors import (
    CommitUnknown,
    Conflict,
    Denied,
    Duplicate,
    Invalid,
    NotProvisioned,
    Serialization,
    TallystickError,
    Unavailable,
    Unsupported,
)
from tallystick.schema.lint import lint
from tallystick.testing import KitServer

STATE = (
    "SELECT current_user::text AS who, current_setting('search_path') AS path, "
    "coalesce(current_setting('tally.tenant', true), '') AS tenant, "
    "coalesce(current_setting('tally.actor', true), '') AS actor"
)
ORDER = "INSERT INTO shop.orders (item, tenant_id, borrower_id) VALUES ($1, $2, $3)"


@pytest.fixture(scope="module")
async def shop(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Shop]:
    async with shop_beside(tally_server, tally, "_join") as made:
        yield made


@pytest.fixture
async def slug(shop: Shop, request: pytest.FixtureRequest) -> str:
    made = f"j{abs(hash(request.node.nodeid)) % 10**12}"
    await shop.tally.tenants.create(made, name="A tenant")
    return made


@pytest.fixture(scope="module")
async def engine(shop: Shop) -> AsyncIterator[AsyncEngine]:
    made = shop.engine(pool_size=2)
    yield made
    await made.dispose()


async def orders(shop: Shop, item: str) -> int:
    async with shop.connected() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM shop.orders WHERE item = $1", item))


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_asyncpg_one_transaction(shop: Shop, slug: str, ending: str) -> None:
    async with shop.connected() as connection:
        transaction = connection.transaction()
        await transaction.start()
        async with shop.tally.session(slug, actor="shop", permissions=("*",), connection=connection) as db:
            user = await db.users.add(User(email="ada@example.org"))
            await connection.execute(ORDER, slug, db.tenant_id, user.id)
            assert await db.users.one(User.email == "ada@example.org") == user
        async with shop.tally.session(slug, actor="elsewhere", permissions=("*",)) as other:
            assert await other.users.count() == 0
        await getattr(transaction, ending)()
    stays = ending == "commit"
    assert await orders(shop, slug) == stays
    async with shop.tally.session(slug, actor="later", permissions=("*",)) as db:
        assert await db.users.count() == stays
        assert [c.actor for c in await db.users.history(user.id)] == ["shop"] * stays


@pytest.mark.parametrize("ending", ["commit", "rollback"])
@pytest.mark.parametrize("kind", ["connection", "session"])
async def test_sqlalchemy_one_transaction(shop: Shop, engine: AsyncEngine, slug: str, kind: str, ending: str) -> None:
    order = text("INSERT INTO shop.orders (item, tenant_id, borrower_id) VALUES (:i, :t, :b)")
    async with engine.connect() if kind == "connection" else AsyncSession(engine) as host:
        await host.begin()  # type: ignore[attr-defined]
        async with shop.tally.session(slug, actor="shop", permissions=("*",), connection=host) as db:
            user = await db.users.add(User(email="ada@example.org"))
        await host.execute(order, {"i": slug, "t": db.tenant_id, "b": user.id})
        async with shop.tally.session(slug, actor="shop", permissions=("*",), connection=host) as db:
            assert await db.users.count() == 1
        await getattr(host, ending)()
    stays = ending == "commit"
    assert await orders(shop, slug) == stays
    async with shop.tally.session(slug, actor="later", permissions=("*",)) as db:
        assert await db.users.count() == stays


async def test_sqlalchemys_own_begin_when_they_are_joined(shop: Shop, engine: AsyncEngine, slug: str) -> None:
    """As they do at their first statement; and what nobody commits is gone."""
    async with AsyncSession(engine) as host:
        assert not host.in_transaction()
        async with shop.tally.session(slug, actor="shop", permissions=("*",), connection=host) as db:
            await db[Shelf].add(Shelf(name="one"))
        assert host.in_transaction()
    async with shop.tally.session(slug, actor="later") as db:
        assert await db[Shelf].count() == 0


async def test_the_connection_is_the_applications_between_our_calls(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection:
        async with connection.transaction():
            await connection.execute("SET LOCAL search_path = shop; SELECT set_config('tally.tenant', 'theirs', true)")
            before = dict(await connection.fetchrow(STATE))
            async with shop.tally.session(slug, actor="shop", connection=connection) as db:
                assert dict(await connection.fetchrow(STATE)) == before
                await db[Shelf].add(Shelf(name="one"))
                assert dict(await connection.fetchrow(STATE)) == before
                async with db.transaction():
                    inside = await connection.fetchrow(STATE)
                    assert (inside["who"], inside["tenant"]) == (shop.server.roles.app, str(db.tenant_id))
                    await db[Shelf].add(Shelf(name="two"))
                with pytest.raises(Duplicate):
                    await db[Shelf].add(Shelf(name="two"))
                assert dict(await connection.fetchrow(STATE)) == before
            assert dict(await connection.fetchrow(STATE)) == before == {**before, "who": shop.role, "tenant": "theirs"}
            assert await connection.fetchval("SELECT count(*) FROM orders") >= 0
        assert (await connection.fetchrow(STATE))["tenant"] == ""


async def test_an_error_of_ours_leaves_the_transaction_to_go_on(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection, connection.transaction():
        async with shop.tally.session(slug, actor="shop", connection=connection) as db:
            await db[Shelf].add(Shelf(name="one"))
            with pytest.raises(Duplicate):
                await db[Shelf].add(Shelf(name="one"))
            with pytest.raises(ZeroDivisionError):
                async with db.transaction():
                    await db[Shelf].add(Shelf(name="two"))
                    raise ZeroDivisionError
            with pytest.raises(Conflict, match="failed already"):
                async with db.transaction():
                    with pytest.raises(Duplicate):
                        await db[Shelf].add(Shelf(name="one"))
            async with db.transaction():
                async with db.transaction():
                    await db[Shelf].add(Shelf(name="three"))
                with pytest.raises(Duplicate):
                    async with db.transaction():
                        await db[Shelf].add(Shelf(name="three"))
                assert db.unit.depth == 2
            assert sorted(s.name for s in await db[Shelf].find()) == ["one", "three"]
        await connection.execute("INSERT INTO shop.orders (item) VALUES ($1)", slug)
    assert await orders(shop, slug) == 1
    async with shop.tally.session(slug, actor="later") as db:
        assert await db[Shelf].count() == 2


async def test_a_session_that_ends_inside_its_block_undoes_the_block_only(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection, connection.transaction():
        context = shop.tally.session(slug, actor="shop", connection=connection)
        db = await context.__aenter__()
        await db[Shelf].add(Shelf(name="kept"))
        await db.transaction().__aenter__()
        await db[Shelf].add(Shelf(name="lost"))
        await context.__aexit__(None, None, None)
        assert (await connection.fetchrow(STATE))["who"] == shop.role
    async with shop.tally.session(slug, actor="later") as db:
        assert [s.name for s in await db[Shelf].find()] == ["kept"]


async def test_two_tenants_nest_on_one_connection(shop: Shop, slug: str) -> None:
    await shop.tally.tenants.create(f"{slug}-2", name="Another")
    async with shop.connected() as connection, connection.transaction():
        one, other = (shop.tally.session(s, actor=s, connection=connection) for s in (slug, f"{slug}-2"))
        async with one as mine, other as theirs:
            async with mine.transaction():
                row = await mine[Shelf].add(Shelf(name="one"))
                assert await theirs[Shelf].find() == []
                await theirs[Shelf].add(Shelf(name="one"))
                assert await mine[Shelf].find() == [row]
                async with theirs.transaction():
                    with pytest.raises(Invalid, match="Another"):
                        await mine[Shelf].count()


async def test_what_cannot_be_joined(shop: Shop, slug: str, engine: AsyncEngine) -> None:
    def joined(connection: Any) -> Any:
        return shop.tally.session(slug, actor="shop", connection=connection)

    async with shop.connected() as connection:
        with pytest.raises(Invalid, match="No transaction is open"):
            await joined(connection).__aenter__()
        async with connection.transaction():
            db = await joined(connection).__aenter__()
        with pytest.raises(Invalid, match="No transaction is open"):
            await db[Shelf].count()
        async with connection.transaction():
            with pytest.raises(Invalid, match="is over"):
                await db[Shelf].count()
            assert (await connection.fetchrow(STATE))["who"] == shop.role
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute("SELECT nonsense")
            with pytest.raises(Conflict, match="failed already"):
                await joined(connection).__aenter__()
    with pytest.raises(Invalid, match="closed"):
        await joined(connection).__aenter__()
    async with engine.connect() as host:
        await host.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(Invalid, match="No transaction is open"):
            await joined(host).__aenter__()
        for wrong in (host.sync_connection, "postgresql://", engine, object()):
            with pytest.raises(Unsupported, match="kind of connection"):
                await joined(wrong).__aenter__()
    with pytest.raises((Invalid, Unsupported)):
        await joined(host).__aenter__()
    async with asyncpg.create_pool(**shop.arguments(), min_size=1, max_size=1) as pool:
        async with pool.acquire() as proxy, proxy.transaction():
            async with joined(proxy) as db:
                assert await db[Shelf].count() == 0
        with pytest.raises((Invalid, Unsupported)):
            await joined(proxy).__aenter__()


async def test_another_database_is_refused(shop: Shop, tally_server: KitServer, slug: str) -> None:
    arguments = {**shop.arguments("admin"), "database": "postgres"}
    connection = await asyncpg.connect(**arguments)
    try:
        async with connection.transaction():
            with pytest.raises(Invalid, match="another database"):
                await shop.tally.session(slug, actor="shop", connection=connection).__aenter__()
            assert await connection.fetchval("SELECT 1") == 1
    finally:
        await connection.close()


async def test_a_login_that_may_not_act_as_ours_is_refused(shop: Shop, slug: str) -> None:
    stranger = f"stranger_{shop.role}"
    async with shop.connected("admin") as admin:
        await admin.execute(f"CREATE ROLE {stranger} LOGIN PASSWORD 'x'")
        await admin.execute(f"GRANT CONNECT ON DATABASE {shop.database} TO {stranger}")
    try:
        connection = await asyncpg.connect(**{**shop.arguments(), "user": stranger, "password": "x"})
        async with connection.transaction():
            with pytest.raises(NotProvisioned) as caught:
                await shop.tally.session(slug, actor="shop", connection=connection).__aenter__()
            assert f"provision --join {stranger}" in caught.value.remedy
            assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    finally:
        async with shop.connected("admin") as admin:
            await admin.execute(f"REVOKE CONNECT ON DATABASE {shop.database} FROM {stranger}; DROP ROLE {stranger}")


async def test_codecs_of_the_applications_own_do_not_reach_ours(shop: Shop, slug: str) -> None:
    """JSON as objects and numbers as floats would be stored doubly encoded, or rounded."""
    slug_id = uuid4()
    async with shop.connected() as connection:
        for name in ("json", "jsonb"):
            await connection.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        await connection.set_type_codec("numeric", encoder=str, decoder=float, schema="pg_catalog", format="text")
        await connection.set_type_codec("uuid", encoder=str, decoder=str, schema="pg_catalog", format="text")
        async with connection.transaction():
            async with shop.tally.session(slug, actor="shop", permissions=("*",), connection=connection) as db:
                made = await db[Sink].add(
                    Sink(
                        payload={"score": 7, "kind": "a"},
                        detail=Detail(name="x"),
                        rate=Decimal("0.12345678"),
                        wei=2**200 + 1,
                        fee=usd("1.25"),
                        token=slug_id,
                        pin=secret("12-34"),
                        address={"street": "x"},
                    )
                )
                assert await db[Sink].get(made.id) == made
                assert await db[Sink].find(Sink.rate == made.rate) == [made]
                await db.audit.record(AuditEvent(type="shop.sold", category="sale", service="shop"))
        assert await connection.fetchval("SELECT 1.5::numeric") == 1.5
    async with shop.tally.session(slug, actor="later", permissions=("*",)) as db:
        found = await db[Sink].get(made.id)
        assert (found.payload, found.rate, found.wei, found.token) == (made.payload, made.rate, made.wei, slug_id)
        assert await db[Sink].reveal(made.id, Sink.pin, reason="test") == "12-34"


async def test_records_of_the_applications_own_class(shop: Shop, slug: str) -> None:
    class Odd(asyncpg.Record):
        def __getitem__(self, key: Any) -> Any:
            raise KeyError(key)

    connection = await asyncpg.connect(**shop.arguments(), record_class=Odd, statement_cache_size=0)
    async with connection.transaction():
        async with shop.tally.session(slug, actor="shop", connection=connection) as db:
            made = await db[Shelf].add(Shelf(name="one"))
            assert await db[Shelf].find() == [made]
    await connection.close()


async def test_tasks_that_share_a_connection_are_told(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection, connection.transaction():
        async with shop.tally.session(slug, actor="shop", connection=connection) as db:
            found = await asyncio.gather(*(db[Shelf].add(Shelf(name=f"{n}")) for n in range(8)), return_exceptions=True)
            failed = [f for f in found if isinstance(f, BaseException)]
            assert failed
            assert {type(f) for f in failed} == {Invalid}
            assert await db[Shelf].count() == len(found) - len(failed)
        assert (await connection.fetchrow(STATE))["who"] == shop.role


async def test_a_cancelled_call_leaves_the_connection_as_it_was(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection, connection.transaction():
        async with shop.tally.session(slug, actor="shop", connection=connection) as db:
            for n in range(24):
                try:
                    async with asyncio.timeout(0.0004 * n):
                        async with db.transaction():
                            await db[Shelf].add(Shelf(name=f"{n}"))
                            await db[Shelf].count()
                except TimeoutError:
                    pass
                assert (await connection.fetchrow(STATE))["who"] == shop.role
            assert await db[Shelf].count() <= 24


async def test_the_applications_statement_timeout_stands(shop: Shop, slug: str) -> None:
    from sqlalchemy import func, select

    async with shop.connected() as connection, connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = '400ms'")
        async with shop.tally.session(slug, actor="shop", connection=connection) as db:
            with pytest.raises(Unavailable):
                await db.fetch(select(func.pg_sleep(5).label("x")), into=dict)
            assert await db[Shelf].count() == 0


async def test_a_lost_connection_is_not_an_unknown_commit(shop: Shop, slug: str) -> None:
    """Nobody has sent COMMIT, so nothing stands."""
    async with shop.connected() as connection:
        async with shop.connected() as killer:
            transaction = connection.transaction()
            await transaction.start()
            db = await shop.tally.session(slug, actor="shop", connection=connection).__aenter__()
            block = db.transaction()
            await block.__aenter__()
            await db[Shelf].add(Shelf(name="one"))
            await killer.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            with pytest.raises(TallystickError) as caught:
                await block.__aexit__(None, None, None)
            assert not isinstance(caught.value, CommitUnknown)
            await db.close()
    async with shop.tally.session(slug, actor="later") as db:
        assert await db[Shelf].count() == 0


async def test_the_isolation_is_the_applications(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection, connection.transaction(isolation="repeatable_read"):
        async with shop.tally.session(slug, actor="shop", connection=connection) as db:
            shelf = await db[Shelf].add(Shelf(name="one"))
            for options in ({"isolation": "serializable"}, {"read_only": True}):
                with pytest.raises(Invalid):
                    async with db.transaction(**options):  # type: ignore[arg-type]
                        pass
            assert await db.atomic(lambda s: s[Shelf].get(shelf.id)) == shelf
            with pytest.raises(Invalid):
                await db.atomic(lambda s: s[Shelf].get(shelf.id), isolation="serializable")


async def test_atomic_does_not_replay_what_is_not_its_own(shop: Shop, slug: str) -> None:
    async with shop.tally.session(slug, actor="before") as db:
        shelf = await db[Shelf].add(Shelf(name="one"))
    runs = 0

    async def work(s: Any) -> None:
        nonlocal runs
        runs += 1
        await s[Shelf].update_where(Shelf.name == "one", stock=5)

    async with shop.connected() as connection, connection.transaction(isolation="repeatable_read"):
        async with shop.tally.session(slug, actor="shop", connection=connection) as db:
            assert await db[Shelf].count() == 1
            async with shop.tally.session(slug, actor="other") as other:
                await other[Shelf].update(shelf, stock=2)
            with pytest.raises(Serialization):
                await db.atomic(work)
            assert runs == 1
            assert await db[Shelf].count() == 1


async def test_keys_made_in_a_transaction_that_is_rolled_back_are_not_kept(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection:
        transaction = connection.transaction()
        await transaction.start()
        async with shop.tally.session(slug, actor="shop", permissions=("*",), connection=connection) as db:
            member = await db[Member].add(Member(number=secret("56-78"), name="Ada"))
            assert await db[Member].reveal(member.id, Member.number, reason="test") == "56-78"
        await transaction.rollback()
    async with shop.tally.session(slug, actor="later", permissions=("*",)) as db:
        again = await db[Member].add(Member(id=member.id, number=secret("56-78"), name="Ada"))
        assert await db[Member].reveal(again.id, Member.number, reason="test") == "56-78"
        shop.tally.keyring.forget(db.tenant_id)  # type: ignore[union-attr]
        assert await db[Member].reveal(again.id, Member.number, reason="test") == "56-78"


async def test_what_a_commit_would_check_is_checked_and_theirs_is_left(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection:
        await connection.execute(
            "CREATE TABLE shop.pairs (id int PRIMARY KEY, "
            "other int REFERENCES shop.pairs DEFERRABLE INITIALLY DEFERRED)"
        )
        async with connection.transaction():
            await connection.execute("INSERT INTO shop.pairs VALUES (1, 2)")
            async with shop.tally.session(slug, actor="shop", connection=connection) as db:
                await db[Shelf].add(Shelf(name="one"))
            await connection.execute("INSERT INTO shop.pairs VALUES (2, 1)")
        assert await connection.fetchval("SELECT count(*) FROM shop.pairs") == 2


async def test_triggers_that_are_switched_off_are_noticed(shop: Shop, slug: str) -> None:
    if shop.server.embedded is None:
        pytest.skip("the superuser of a named server is not ours")
    embedded = shop.server.embedded
    from tallystick.settings import connect_args

    url = embedded._url("postgres", embedded._passwords["postgres"], shop.database)
    connection = await asyncpg.connect(**connect_args(url))
    try:
        async with connection.transaction():
            async with shop.tally.session(slug, actor="shop", connection=connection) as db:
                async with db.transaction():
                    assert (await connection.fetchrow(STATE))["who"] == shop.server.roles.app
            await connection.execute("SET LOCAL session_replication_role = replica")
            async with shop.tally.session(slug, actor="shop", connection=connection) as db:
                with pytest.raises(Denied, match="triggers off"):
                    await db[Shelf].add(Shelf(name="one"))
            assert (await connection.fetchrow(STATE))["who"] == "postgres"
    finally:
        await connection.close()


async def test_our_rows_refer_to_theirs(shop: Shop, slug: str) -> None:
    """A foreign key from a table of ours, made by the owner as a migration of the application's own would."""
    owner = shop.server.roles.owner
    async with shop.connected() as connection:
        await connection.execute(f"GRANT USAGE ON SCHEMA shop TO {owner}; GRANT REFERENCES ON shop.orders TO {owner}")
    async with shop.connected("admin") as admin:
        await admin.execute(f"SET ROLE {owner}")
        await admin.execute("ALTER TABLE tally.kit_sink ADD FOREIGN KEY (amount) REFERENCES shop.orders (id) NOT VALID")
        await admin.execute("ALTER TABLE tally.kit_sink VALIDATE CONSTRAINT kit_sink_amount_fkey")
    async with shop.connected() as connection:
        async with connection.transaction():
            order = await connection.fetchval("INSERT INTO shop.orders (item) VALUES ($1) RETURNING id", slug)
            async with shop.tally.session(slug, actor="shop", connection=connection) as db:
                sink = await db[Sink].add(Sink(amount=order))
                with pytest.raises(TallystickError):
                    await db[Sink].add(Sink(amount=order + 1_000_000))
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute("DELETE FROM shop.orders WHERE id = $1", order)
        async with connection.transaction():
            async with shop.tally.session(slug, actor="shop", connection=connection) as db:
                await db[Sink].purge(sink, reason="test")
            await connection.execute("DELETE FROM shop.orders WHERE id = $1", order)
    async with shop.connected("admin") as admin:
        assert await lint(admin, shop.server.roles, shop.tally.entities) == []


async def test_what_commits_in_steps_of_its_own_says_so(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection, connection.transaction():
        async with shop.tally.session(slug, actor="shop", permissions=("*",), connection=connection) as db:
            user = await db.users.add(User(email="ada@example.org"))
            assert db.unit.depth == db.unit.outer == 1
            with pytest.raises(Invalid, match="transaction"):
                await db.logins.password("ada@example.org", "a password", source="203.0.113.7")
            request = await db.privacy.request_erasure(user)
            with pytest.raises(Invalid, match="transaction"):
                await db.privacy.erase(request)


async def test_savepoints_of_the_applications_own_are_no_names_of_ours(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection, connection.transaction():
        async with shop.tally.session(slug, actor="shop", connection=connection) as db, db.transaction():
            with pytest.raises(ZeroDivisionError):
                async with db.transaction():
                    await db[Shelf].add(Shelf(name="lost"))
                    await connection.execute("SAVEPOINT s1; SAVEPOINT s2")
                    raise ZeroDivisionError
            assert await db[Shelf].find() == []


async def test_temporary_tables_of_the_applications_own_hide_nothing(shop: Shop, slug: str) -> None:
    async with shop.connected("admin") as admin:
        await admin.execute(f'GRANT TEMPORARY ON DATABASE "{shop.database}" TO {shop.role}')
    async with shop.connected() as connection, connection.transaction():
        for name in ("kit_shelf", "user_account", "pg_class", "pg_type", "pg_attribute"):
            await connection.execute(f"CREATE TEMPORARY TABLE {name} (id int) ON COMMIT DROP")
            await connection.execute(f"GRANT ALL ON pg_temp.{name} TO PUBLIC")
        async with shop.tally.session(slug, actor="shop", permissions=("*",), connection=connection) as db:
            made = await db[Shelf].add_many([Shelf(name="one"), Shelf(name="two")])
            assert {s.id for s in await db[Shelf].find()} == {s.id for s in made}
            user = await db.users.add(User(email="ada@example.org"))
            assert [version.entity.id for version in await db.users.history(user.id)] == [user.id]


async def test_tables_that_change_meanwhile_ask_for_a_replay(shop: Shop, slug: str) -> None:
    """Statements stay prepared on a connection; the server refuses one whose answer has other types now."""

    async def as_owner(kind: str) -> None:
        async with shop.connected("admin") as admin:
            await admin.execute(f"SET ROLE {shop.server.roles.owner}")
            await admin.execute(f"ALTER TABLE tally.kit_shelf ALTER COLUMN name TYPE {kind}")

    async def work(db: Any) -> int:
        made = await db[Shelf].add(Shelf(name="one"))
        assert await db[Shelf].get(made.id) == made
        found = await db[Shelf].find()
        await db[Shelf].purge(made, reason="test")
        return len(found)

    async with shop.connected() as connection:
        async with shop.tally.session(slug, actor="own") as own:
            async with connection.transaction(), shop.tally.session(slug, actor="shop", connection=connection) as db:
                await work(db)
            await own.atomic(work)
            await as_owner("varchar(500)")
            try:
                async with connection.transaction():
                    async with shop.tally.session(slug, actor="shop", connection=connection) as db:
                        with pytest.raises(Serialization):
                            await db.atomic(work)
                        assert await db.atomic(work) == 1
                assert await own.atomic(work, attempts=2) == 1
            finally:
                await as_owner("text")


@pytest.mark.parametrize("kind", ["session", "scoped"])
async def test_what_an_orm_session_nests_is_undone_with_it(
    shop: Shop, engine: AsyncEngine, slug: str, kind: str
) -> None:
    """``begin_nested()`` of an ORM session sends its SAVEPOINT with its next statement only, and ours are none."""
    scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
    async with AsyncSession(engine) if kind == "session" else scoped() as host, host.begin():
        given = host if kind == "session" else scoped
        async with shop.tally.session(slug, actor="shop", connection=given) as db:
            nested = await host.begin_nested()
            await db[Shelf].add(Shelf(name="lost"))
            await nested.rollback()
            assert await db[Shelf].count() == 0
            async with db.transaction():
                await db[Shelf].add(Shelf(name="kept"))
                nested = await host.begin_nested()
                async with db.transaction():
                    await db[Shelf].add(Shelf(name="lost"))
                await nested.rollback()
                nested = await host.begin_nested()
                await db[Shelf].add(Shelf(name="lost"))
                await nested.rollback()
            assert [s.name for s in await db[Shelf].find()] == ["kept"]
            nested = await host.begin_nested()
            with pytest.raises(DBAPIError):
                await host.execute(text("SELECT nonsense"))
            with pytest.raises((Invalid, Conflict)):
                await db[Shelf].count()
            await nested.rollback()
            assert await db[Shelf].count() == 1


async def test_what_was_never_ended_keeps_nobody_from_the_connection(shop: Shop, slug: str) -> None:
    """A pool hands the connection on; the task that left its block open may live long."""

    async def visit() -> int:
        async with pool.acquire() as connection, connection.transaction():
            async with shop.tally.session(slug, actor="shop", connection=connection) as db:
                return await db[Shelf].count()

    async with asyncpg.create_pool(**shop.arguments(), min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            left = await shop.tally.session(slug, actor="shop", connection=connection).__aenter__()
            await left.transaction().__aenter__()
            await transaction.rollback()
        assert await asyncio.create_task(visit()) == 0
        with pytest.raises(Invalid):
            await left[Shelf].count()
        assert await asyncio.create_task(visit()) == 0


@pytest.mark.parametrize("ending", ["block", "session"])
async def test_the_outer_of_two_sessions_that_ends_first_takes_the_inner_with_it(
    shop: Shop, slug: str, ending: str
) -> None:
    await shop.tally.tenants.create(f"{slug}-2", name="Another")
    async with shop.connected() as connection, connection.transaction():
        before = dict(await connection.fetchrow(STATE))
        sessions = [shop.tally.session(s, actor="shop", connection=connection) for s in (slug, f"{slug}-2")]
        outer, inner = [await context.__aenter__() for context in sessions]
        blocks = [outer.transaction(), inner.transaction()]
        for block, db in zip(blocks, (outer, inner), strict=True):
            await block.__aenter__()
            await db[Shelf].add(Shelf(name="lost"))
        if ending == "session":
            await outer.close()
        else:
            with pytest.raises(Invalid, match="not done"):
                await blocks[0].__aexit__(None, None, None)
        assert dict(await connection.fetchrow(STATE)) == before
        with pytest.raises(Invalid):
            await inner[Shelf].count()
        with pytest.raises(Invalid):
            await blocks[1].__aexit__(None, None, None)
        assert dict(await connection.fetchrow(STATE)) == before
        assert await inner[Shelf].count() == 0
        if ending == "block":
            assert await outer[Shelf].count() == 0


async def test_what_ends_late_does_not_touch_the_next_transaction(shop: Shop, slug: str) -> None:
    async with shop.connected() as connection:
        transaction = connection.transaction()
        await transaction.start()
        left = await shop.tally.session(slug, actor="shop", connection=connection).__aenter__()
        await left.transaction().__aenter__()
        await transaction.rollback()
        async with connection.transaction():
            await connection.execute("INSERT INTO shop.orders (item) VALUES ($1)", slug)
            await left.close()
            assert await connection.fetchval("SELECT 1") == 1
    assert await orders(shop, slug) == 1


@pytest.mark.parametrize("pool", ["asyncpg", "connection", "session"])
async def test_what_outlives_its_transaction_is_nobody_elses_trouble(shop: Shop, slug: str, pool: str) -> None:
    """The pool has handed the connection on, and what is sent on it now would break into a stranger's work."""
    engine, made = shop.engine(pool_size=1, max_overflow=0), contextlib.AsyncExitStack()
    native = await asyncpg.create_pool(**shop.arguments(), min_size=1, max_size=1)
    kinds: dict[str, Any] = {
        "asyncpg": native.acquire,
        "connection": engine.connect,
        "session": lambda: AsyncSession(engine),
    }

    async def begin(stack: contextlib.AsyncExitStack) -> Any:
        given = await stack.enter_async_context(kinds[pool]())
        await stack.enter_async_context(given.transaction() if pool == "asyncpg" else given.begin())
        return given

    async def works(given: Any) -> Any:
        if pool == "asyncpg":
            return await given.fetchval("SELECT 1 FROM pg_sleep(0.01)")
        return (await given.execute(text("SELECT 1 FROM pg_sleep(0.01)"))).scalar_one()

    async with made:
        async with contextlib.AsyncExitStack() as first:
            left = await shop.tally.session(slug, actor="shop", connection=await begin(first)).__aenter__()
            block = left.transaction()
            await block.__aenter__()
            await left[Shelf].count()
        stranger = await begin(made)
        await works(stranger)
        for late in (left[Shelf].count, left.close):
            other = asyncio.create_task(works(stranger))
            with contextlib.suppress(TallystickError):
                await late()
            assert await other == 1
        assert await works(stranger) == 1
        with pytest.raises(Invalid, match=r"is over|closed"):
            await left[Shelf].count()
    await native.close()
    await engine.dispose()
