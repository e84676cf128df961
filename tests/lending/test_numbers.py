"""Loan numbers under concurrent callers."""

from __future__ import annotations

import asyncio

import pytest

from tallystick import Invalid, Session, Tallystick
from tallystick.domains.lending import numbers


async def test_numbers_count_from_one(db: Session) -> None:
    assert list(await numbers.take(db)) == [1]
    assert list(await numbers.take(db, 3)) == [2, 3, 4]
    await numbers.keep(db, 10)
    await numbers.keep(db, 7)
    assert list(await numbers.take(db)) == [11]


@pytest.mark.parametrize("count", [0, -1, 100_001, True, 1.0, "1"])
async def test_a_count_is_a_whole_number(db: Session, count: int) -> None:
    with pytest.raises(Invalid):
        await numbers.take(db, count)
    assert list(await numbers.take(db)) == [1]


async def test_callers_at_once_get_numbers_of_their_own(tally: Tallystick, tenant: str) -> None:
    async def one(n: int) -> list[int]:
        async with tally.session(tenant, actor="user:x", permissions=["*"]) as db, db.transaction():
            return list(await numbers.take(db, n % 3 + 1))

    got = await asyncio.wait_for(asyncio.gather(*(one(n) for n in range(18))), 30)
    assert sorted(number for part in got for number in part) == list(range(1, 37))


async def test_what_is_rolled_back_is_given_again(db: Session) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            await numbers.take(db, 5)
            raise ZeroDivisionError
    assert list(await numbers.take(db)) == [1]
