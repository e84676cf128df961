"""Pools of many processes on one server, of processes that are frozen, and prepared statements behind a pooler."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.bouncer import MISSING, PGBOUNCER, Behind, pgbouncer
from tests.entities import Member, Shelf

from tallystick import Tallystick, secret
from tallystick.errors import Invalid, Unavailable
from tallystick.schema.budget import Budget
from tallystick.settings import Settings, connect_args


def opened(tally: Tallystick, **changes: Any) -> Tallystick:
    return Tallystick.open(settings=replace(tally.settings, **changes), entities=tally.entities, keys=tally.keys)


def test_the_serverless_profile_is_a_pool_of_one_and_what_is_named_beside_it_wins() -> None:
    found = Settings(profile="serverless")
    assert (found.pool_max, found.pool_min, found.test_connection, found.pool_timeout) == (1, 0, False, 5.0)
    assert Settings.load({"TALLYSTICK_PROFILE": "serverless"}) == found
    named = Settings.load({"TALLYSTICK_PROFILE": "serverless", "TALLYSTICK_POOL_MAX": "10", "DB_TEST_CONNECTION": "1"})
    assert (named.pool_max, named.test_connection, named.connect_timeout) == (10, True, 5.0)
    assert Settings(profile="serverless", pool_max=2).pool_max == 2
    with pytest.raises(Invalid):
        Settings(profile="lambda")  # type: ignore[arg-type]


def test_workers_are_read_where_servers_of_web_applications_read_them() -> None:
    assert Settings.load({"WEB_CONCURRENCY": "8"}).workers == 8
    assert Settings.load({"WEB_CONCURRENCY": "8", "TALLYSTICK_WORKERS": "24"}).workers == 24
    for wrong in ("0", "-1", "many"):
        with pytest.raises(Invalid) as caught:
            Settings.load({"WEB_CONCURRENCY": wrong})
        assert caught.value.field == "WEB_CONCURRENCY"


async def test_one_connection_serves_everything_and_is_opened_when_it_is_needed(tally: Tallystick, tenant: str) -> None:
    async with opened(tally, profile="serverless", pool_max=1, test_connection=False) as app:
        assert app.store.pool.stats().open == 0
        async with app.session(tenant, actor="function", permissions=("*",)) as db:
            member = await db[Member].add(Member(number=secret("12-34"), name="Ada"))
            async with db.transaction():
                await db[Shelf].add(Shelf(name="one"))
                assert await db[Member].reveal(member.id, Member.number, reason="test") == "12-34"
            assert await db.atomic(lambda s: s[Shelf].count()) == 1
            assert len((await db.audit.entries(Shelf)).items) == 1
        assert app.store.pool.stats().open == 1


async def test_a_connection_that_slept_is_not_trusted(tally: Tallystick, tenant: str) -> None:
    async with opened(tally, profile="serverless", idle_lifetime=60) as app:
        pids = set()
        for asleep in (0, 90, 0):
            for link in app.store.pool._idle:
                link.used -= asleep
            async with app.session(tenant, actor="function") as db:
                await db[Shelf].count()
                async with db.transaction():
                    await db[Shelf].count()
            (link,) = app.store.pool._idle
            pids.add(link.raw.get_server_pid())
        assert len(pids) == 2


async def test_nobody_waits_for_long(tally: Tallystick, tenant: str) -> None:
    async with opened(tally, profile="serverless", pool_timeout=0.1) as app:
        async with app.session(tenant, actor="a") as one, app.session(tenant, actor="b") as other:
            async with one.transaction():
                with pytest.raises(Unavailable, match="pool of 1"):
                    await other[Shelf].count()


async def test_pools_that_do_not_add_up_are_said_at_the_start(
    tally: Tallystick, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tallystick.pool"):
        async with opened(tally, workers=2, pool_max=2) as app:
            assert (await app.connections()).fits
        assert not caplog.records
        async with opened(tally, workers=500, pool_max=20) as app:
            found = await app.connections()
    (record,) = caplog.records
    assert "500 workers with pools of 20 may open 10000 connections" in record.message
    assert found.needed == 10_000
    assert 0 < found.available <= found.max_connections - found.reserved
    caplog.clear()
    async with opened(tally, workers=500, pool_max=20, pooler="transaction") as app:
        assert (await app.connections()).fits
    assert not caplog.records


async def test_connections_of_others_are_counted_by_a_role_that_may_not_see_what_they_are(tally: Tallystick) -> None:
    assert tally.settings.admin_url is not None
    async with opened(tally) as app:
        conn = await asyncpg.connect(**connect_args(tally.settings.admin_url))
        try:
            assert (await app.connections()).others >= 1
        finally:
            await conn.close()


def test_the_numbers_that_mend_it_mend_it() -> None:
    def budget(**changes: Any) -> Budget:
        usual = Budget(workers=16, pool_max=10, max_connections=100, reserved=3, others=7, limit=None, pooled=False)
        return msgspec.structs.replace(usual, **changes)

    wrong = budget()
    assert (wrong.needed, wrong.available, wrong.fits) == (160, 90, False)
    assert "TALLYSTICK_POOL_MAX=5" in wrong.warning
    assert "max_connections to 170" in wrong.warning
    assert budget(pool_max=5).fits
    assert budget(max_connections=170).fits
    assert budget(pooled=True).warning == ""
    assert "at most 90 workers" in budget(workers=200).warning
    held = budget(workers=4, limit=30)
    assert "limit of 30" in held.warning
    assert budget(workers=3, limit=30).fits


@pytest.mark.skipif(PGBOUNCER is None, reason=MISSING)
async def test_prepared_statements_of_a_pooler_that_keeps_them(tally: Tallystick, tenant: str) -> None:
    """PgBouncer 1.21 and later follows named statements; ours has none there, so it makes no difference."""
    assert tally.settings.database_url is not None
    told = subprocess.run([str(PGBOUNCER), "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = (int(n) for n in told.split()[1].split(".")[:2])
    keeps = (major, minor) >= (1, 21)
    with pgbouncer(tally.settings.database_url, more="max_prepared_statements = 50\n" if keeps else "") as url:
        async with opened(tally, database_url=url, pooler="transaction", pool_max=4) as app:

            async def one(n: int) -> int:
                async with app.session(tenant, actor="a") as db:
                    await db[Shelf].add(Shelf(name=f"{n}"))
                    return len(await db[Shelf].find(Shelf.name == f"{n}"))

            assert await asyncio.gather(*(one(n) for n in range(24))) == [1] * 24
        if not keeps:
            return
        # Nothing of ours is left prepared on the pooler's servers.
        connection = await asyncpg.connect(**connect_args(url), statement_cache_size=0)
        try:
            assert (
                await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%tally.%'")
                == 0
            )
        finally:
            await connection.close()


async def test_an_application_joins_through_a_pooler(
    tally: Tallystick, tenant: str, pooled: Callable[[], Behind]
) -> None:
    """A transaction stays on one server, so what is set for it holds."""
    url = pooled().settings(tally.settings).database_url
    assert url is not None
    connection = await asyncpg.connect(**connect_args(url), statement_cache_size=0)
    try:
        for ending in ("rollback", "commit"):
            transaction = connection.transaction()
            await transaction.start()
            async with tally.session(tenant, actor="shop", connection=connection) as db:
                made = await db[Shelf].add(Shelf(name="one"))
                assert await db[Shelf].find() == [made]
            await getattr(transaction, ending)()
    finally:
        await connection.close()
    async with tally.session(tenant, actor="later") as db:
        assert await db[Shelf].find() == [made]
