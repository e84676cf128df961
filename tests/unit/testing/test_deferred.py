"""Deferred constraints in a sandbox: checked where a commit would check them, and deferred still afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
import pytest_asyncio
from tests.entities import Sink

from tallystick import Duplicate, Tallystick
from tallystick.settings import connect_args
from tallystick.testing import KitServer, Sandbox


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(tally: Tallystick, tally_server: KitServer) -> AsyncIterator[Tallystick]:
    """An application on a database where two sinks of one number are refused when a transaction ends."""
    template = await tally_server.template(None, tally.entities)
    name = await tally_server.clone(template, "_deferred")
    connection = await asyncpg.connect(**connect_args(tally_server.url("admin", name)))
    await connection.execute(
        f"SET ROLE {tally_server.roles.owner}; ALTER TABLE tally.kit_sink ADD CONSTRAINT one_of_a_number "
        "UNIQUE (tenant_id, number) DEFERRABLE INITIALLY DEFERRED"
    )
    await connection.close()
    settings = replace(tally.settings, database_url=tally_server.url("app", name), pool_max=4)
    async with Tallystick.open(settings=settings, entities=tally.entities, keys=tally.keys) as made:
        await made.tenants.create("strict", name="Strict")
        yield made
    await tally_server.drop(name)


async def test_a_commit_checks_and_the_next_transaction_is_deferred_again(strict: Tallystick):
    async with Sandbox(strict) as sandbox, sandbox.session("strict") as db:
        for number in (1, 10):
            async with db.transaction():
                one = await db[Sink].add(Sink(number=number))
                two = await db[Sink].add(Sink(number=number))
                await db[Sink].update(two, number=number + 1)
            assert (await db[Sink].get(one.id)).number == number
        with pytest.raises(Duplicate):
            async with db.transaction():
                await db[Sink].add(Sink(number=5))
                await db[Sink].add(Sink(number=5))
        assert await db[Sink].count(Sink.number == 5) == 0
        with pytest.raises(Duplicate):
            await db[Sink].add(Sink(number=1))
        assert await db[Sink].count() == 4


async def test_an_inner_block_is_not_the_end(strict: Tallystick):
    async with Sandbox(strict) as sandbox, sandbox.session("strict") as db:
        async with db.transaction():
            async with db.transaction():
                one = await db[Sink].add(Sink(number=7))
                await db[Sink].add(Sink(number=7))
            await db[Sink].update(one, number=8)
        assert await db[Sink].count() == 2


async def test_leaving_checks_what_nobody_committed(strict: Tallystick):
    sandbox = Sandbox(strict)
    await sandbox.__aenter__()
    link = await sandbox.tally.store.pool.acquire(str((await sandbox.tally.tenants.resolve("strict")).id))
    # Past the sandbox's own checks, as a statement of the driver's would be.
    await sandbox._held.dress(link.tenant, {"actor": "test"})  # type: ignore[union-attr]
    for id in ("00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002"):
        await link.raw.execute(
            f"INSERT INTO tally.kit_sink (tenant_id, id, label, number, flag, rate, colour, raw, wei, payload) VALUES "
            f"(current_setting('tally.tenant')::uuid, '{id}', '', 3, false, 0, 'red', '', 0, '{{}}')"
        )
    with pytest.raises(Duplicate):
        await sandbox.__aexit__(None, None, None)
    async with strict.session("strict", actor="after") as db:
        assert await db[Sink].count() == 0
    assert strict.store.pool.stats().open >= 1
