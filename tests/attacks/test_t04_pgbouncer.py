"""T4: a real PgBouncer in transaction mode between the application and the server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import func, select
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, Parcel, holder, parcel
from tests.bouncer import MISSING, PGBOUNCER, SERVERS, pgbouncer

from tallystick import Tallystick, usd
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import Duplicate, Invalid, Unavailable
from tallystick.settings import connect_args

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason=MISSING)
CLIENTS = 24
ROUNDS = 12


@pytest.fixture(scope="module")
async def bounced(ground: Ground) -> AsyncIterator[Tallystick]:
    """An application that knows of the pooler, with many more connections than the pooler has servers."""
    with pgbouncer(ground.url("app"), mode="transaction", lenient=False) as url:
        async with ground.opened(url, pooler="transaction", pool_max=CLIENTS) as tally:
            yield tally


async def client(tally: Tallystick, tenant: TenantInfo, number: int) -> int:
    """Reads, writes, transactions and errors of one tenant; every row it meets must be its own."""
    seen = 0
    for turn in range(ROUNDS):
        # Slugs are looked up again and again, because that happens outside the tenant's own transactions.
        tally.tenants._known.clear()
        async with tally.session(tenant.slug, actor=tenant.slug) as db:
            home = await db[Holder].upsert(holder(f"home {number}"), on=Holder.code)
            async with db.transaction():
                row = await db[Parcel].add(parcel(home, f"{number} {turn}", remark=tenant.slug))
                await asyncio.sleep(0)
                assert (await db[Parcel].lock(row.id)).version == 1
                with pytest.raises(Duplicate):
                    async with db.transaction():
                        await db[Parcel].add(parcel(home, row.label))
            await db[Parcel].update(row, fee=usd(turn))
            await db[Parcel].add_many([parcel(home, f"{row.label} {i}", remark=tenant.slug) for i in range(2)])
            found = await db[Parcel].find(limit=200)
            assert {(f.tenant_id, f.remark, f.created_by) for f in found} == {(tenant.id, tenant.slug, tenant.slug)}
            seen += len(found)
    return seen


async def test_t04_two_tenants_share_a_few_servers_and_nothing_leaks(
    ground: Ground, bounced: Tallystick, pair: tuple[TenantInfo, TenantInfo]
) -> None:
    others = await servers(ground)
    counts = await asyncio.gather(*(client(bounced, pair[n % 2], n) for n in range(CLIENTS)))
    assert all(counts)
    for tenant in pair:
        async with bounced.session(tenant, actor="count") as db:
            assert await db[Parcel].count() == CLIENTS // 2 * ROUNDS * 3
    # What this pooler has already, and what another pooler of this run holds, is not of these clients' making.
    assert await servers(ground) >= 1
    assert await servers(ground) - others <= SERVERS


async def servers(ground: Ground) -> int:
    """How many connections poolers have to the database."""
    async with ground.connected("superuser") as connection:
        return await connection.fetchval(  # type: ignore[no-any-return]
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tally_app' AND datname = $1 "
            "AND application_name <> 'tallystick'",
            ground.database,
        )


async def test_t04_cancelled_clients_leave_no_tenant_behind(
    bounced: Tallystick, pair: tuple[TenantInfo, TenantInfo]
) -> None:
    async def torn(tenant: TenantInfo, number: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.002 * (number % 10)), bounced.session(tenant, actor="a") as db:
                async with db.transaction():
                    await db[Holder].add(holder(f"{tenant.slug} {uuid4()}", name=tenant.slug))
                    await asyncio.sleep(0.005)

    await asyncio.gather(*(torn(pair[n % 2], n) for n in range(60)))
    for tenant in pair:
        async with bounced.session(tenant, actor="a") as db:
            assert {h.name for h in await db[Holder].find()} <= {tenant.slug}


async def test_t04_a_statement_timeout_holds_behind_the_pooler(
    ground: Ground, bounced: Tallystick, pair: tuple[TenantInfo, TenantInfo]
) -> None:
    """A pooler takes no startup settings, so it has to travel with each transaction."""
    async with ground.opened(bounced.settings.database_url, pooler="transaction", statement_timeout=0.2) as tally:
        async with tally.session(pair[0], actor="a") as db:
            started = time.monotonic()
            with pytest.raises(Unavailable):
                await db.fetch(select(func.pg_sleep(5).label("x")), into=dict)
            assert time.monotonic() - started < 3
            assert await db[Holder].count() == 0


async def test_t04_no_tenant_is_left_on_a_server(bounced: Tallystick, pair: tuple[TenantInfo, TenantInfo]) -> None:
    """Whoever gets the server next, from another application, finds nobody's name in it."""
    async with bounced.session(pair[0], actor="a") as db:
        await db[Holder].add(holder("mine"))
    url = bounced.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(**connect_args(url), statement_cache_size=0)
    try:
        async with connection.transaction():
            assert await connection.fetchval("SELECT coalesce(current_setting('tally.tenant', true), '')") == ""
    finally:
        await connection.close()


@pytest.mark.parametrize("lenient", [False, True], ids=["strict", "lenient"])
async def test_t04_a_pooler_that_no_setting_names_is_refused_at_the_start(ground: Ground, lenient: bool) -> None:
    """Strict, it refuses our startup parameters; lenient, it is caught handing one server to two connections."""
    with pgbouncer(ground.url("app"), mode="transaction", lenient=lenient) as url:
        with pytest.raises(Invalid) as caught:
            async with ground.opened(url, pooler="session"):
                pass
    assert caught.value.field == "pooler"
    assert "TALLYSTICK_POOLER=transaction" in caught.value.remedy


async def test_t04_a_pooler_by_the_statement_is_refused_by_name(ground: Ground) -> None:
    with pgbouncer(ground.url("app"), mode="statement") as url:
        with pytest.raises(Invalid, match="by the statement") as caught:
            async with ground.opened(url, pooler="transaction"):
                pass
    assert "pool_mode = transaction" in caught.value.remedy


async def test_t04_a_pooler_by_the_session_is_no_danger_and_is_let_through(
    ground: Ground, pair: tuple[TenantInfo, TenantInfo]
) -> None:
    with pgbouncer(ground.url("app"), mode="session", lenient=True) as url:
        async with ground.opened(url, pooler="session", pool_max=2, verify=True) as tally:
            for tenant in (*pair, *pair):
                async with tally.session(tenant, actor="a") as db:
                    await db[Holder].upsert(holder("home", name=tenant.slug), on=Holder.code)
                    assert [h.name for h in await db[Holder].find()] == [tenant.slug]
