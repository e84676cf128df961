"""Sixteen callers write the application's rows and ours in one transaction, and half think better of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.adoption.shop import Shop, shop_beside
from tests.entities import Shelf

from tallystick import Tallystick
from tallystick.testing import KitServer

N = 16
TURNS = 4


@pytest.fixture(scope="module")
async def shop(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Shop]:
    async with shop_beside(tally_server, tally, "_race") as made:
        yield made


async def test_sums_of_theirs_and_ours_agree(shop: Shop) -> None:
    await shop.tally.tenants.create("sums", name="Sums")
    async with shop.tally.session("sums", actor="seeder") as db:
        shelf = await db[Shelf].add(Shelf(name="till", stock=0))
    async with shop.connected() as connection:
        till = await connection.fetchval("INSERT INTO shop.orders (item) VALUES ('till') RETURNING id")

    async def caller(n: int) -> int:
        kept = 0
        async with shop.connected() as connection:
            for turn in range(TURNS):
                transaction = connection.transaction()
                await transaction.start()
                amount = n * TURNS + turn + 1
                await connection.execute("UPDATE shop.orders SET paid = paid + $1 WHERE id = $2", amount, till)
                async with shop.tally.session("sums", actor=f"caller {n}", connection=connection) as db:
                    async with db.transaction():
                        found = await db[Shelf].lock(shelf.id)
                        await db[Shelf].update(found, stock=found.stock + amount)
                    await db[Shelf].add(Shelf(name=f"{n} {turn}", stock=amount))
                if (n + turn) % 2:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    kept += amount
        return kept

    total = sum(await asyncio.wait_for(asyncio.gather(*map(caller, range(N))), 60))
    async with shop.connected() as connection:
        assert await connection.fetchval("SELECT paid FROM shop.orders WHERE id = $1", till) == total
    async with shop.tally.session("sums", actor="later", permissions=("*",)) as db:
        rows = await db[Shelf].find()
        assert next(s.stock for s in rows if s.id == shelf.id) == total
        assert sum(s.stock for s in rows if s.id != shelf.id) == total
        assert len(rows) == 1 + N * TURNS // 2
        assert (await db[Shelf].get(shelf.id)).version == 1 + N * TURNS // 2
