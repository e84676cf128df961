"""T3: a session setting made inside a transaction or savepoint that rolls back. The tag says B, the server says A."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, holder
from tests.attacks.links import watch

import tallystick
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import NotFound, TallystickError

SET = "SELECT set_config('tally.tenant', $1, false)"
GET = "SELECT current_setting('tally.tenant', true)"
Pair = tuple[TenantInfo, TenantInfo]


@pytest.mark.parametrize("inner", [False, True], ids=["transaction", "savepoint"])
async def test_t03_the_server_takes_a_rolled_back_setting_back(ground: Ground, pair: Pair, inner: bool) -> None:
    """The hazard itself, so that it is known the day it goes away."""
    one, other = (str(t.id) for t in pair)
    async with ground.connected("app") as connection:
        await connection.fetchval(SET, one)
        outer = connection.transaction()
        await outer.start()
        nested = connection.transaction() if inner else None
        if nested:
            await nested.start()
        await connection.fetchval(SET, other)
        assert await connection.fetchval(GET) == other
        await (nested or outer).rollback()
        assert await connection.fetchval(GET) == one


@pytest.mark.own_connection
async def test_t03_no_session_setting_is_ever_made_in_a_transaction(ground: Ground, pair: Pair) -> None:
    """Tenant by tenant through one connection, every block rolling back: the watched link raises if one ever is."""
    async with ground.opened(pool_max=1) as tally:
        watch(tally)
        for turn in range(12):
            mine, theirs = pair[turn % 2], pair[1 - turn % 2]
            async with tally.session(mine, actor="a") as db:
                assert await db[Holder].count() == turn // 2
                with pytest.raises(RuntimeError):
                    async with db.transaction():
                        await db[Holder].add(holder("gone"))
                        with pytest.raises(RuntimeError):
                            async with db.transaction():
                                await db[Holder].add(holder("gone too"))
                                raise RuntimeError
                        assert await db[Holder].count() == turn // 2 + 1
                        raise RuntimeError
                await db[Holder].add(holder(f"kept {turn}"))
            async with tally.session(theirs, actor="b") as db:
                assert not await db[Holder].exists(Holder.code == f"kept {turn}")


@pytest.mark.own_connection
async def test_t03_the_pool_survives_a_cancelled_change_of_tenant(ground: Ground, pair: Pair) -> None:
    """Cancelled at every point of warming a link for another tenant, no tag outlives the doubt."""
    async with ground.opened(pool_max=1) as tally:
        watch(tally)
        async with tally.session(pair[0], actor="a") as db:
            mine = await db[Holder].add(holder("mine"))
        for delay in (0, 0, 0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.003):
            for tenant in pair:
                async with tally.session(tenant, actor="a") as db:
                    task = asyncio.create_task(db[Holder].get(mine.id))
                    await asyncio.sleep(delay)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
            async with tally.session(pair[1], actor="b") as db:
                with pytest.raises(NotFound):
                    await db[Holder].get(mine.id)
            async with tally.session(pair[0], actor="a") as db:
                assert (await db[Holder].get(mine.id)).code == "mine"


def test_t03_one_place_in_the_source_makes_the_session_setting() -> None:
    pattern = re.compile(r"set_config\(\s*'tally\.tenant'[^)]*?,\s*(?:is_local\s*=>\s*)?false", re.IGNORECASE)
    source = Path(tallystick.__file__).parent
    found = [
        p.name for p in source.rglob("*.py") if not {"testing", "cli"} & set(p.parts) and pattern.search(p.read_text())
    ]
    assert found == ["link.py"]


async def test_t03_a_savepoint_that_cannot_be_released_ends_at_its_level(ground: Ground, pair: Pair) -> None:
    """Its failure once left the outer transaction open behind the session's back; what was written next was lost."""
    async with ground.tally.session(pair[0], actor="a") as db:
        with pytest.raises(TallystickError):
            async with db.transaction(), db.transaction():
                await db[Holder].add(holder("same"))
                with suppress(TallystickError):
                    await db[Holder].add(holder("same"))
        assert db.unit.depth == 0
        await db[Holder].add(holder("afterwards"))
    async with ground.tally.session(pair[0], actor="a") as db:
        assert [h.code for h in await db[Holder].find()] == ["afterwards"]
