"""Races: callers start together, on connections of their own, and their errors are results."""

from __future__ import annotations

import asyncio

import pytest
from tests.entities import Shelf

from tallystick import Duplicate, Invalid, NotFound, QuotaExceeded, User
from tallystick.testing import Race


async def test_callers_are_apart_and_commit(race: Race, db, tally, tenant):
    result = await race(16, lambda s: s[Shelf].add(Shelf(name="one")))
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    assert len(result.errors) == 15
    assert result.results[0].created_by.startswith("racer:")
    assert await db[Shelf].count() == 1
    async with tally.session(tenant, actor="later") as later:
        assert await later[Shelf].count() == 1


async def test_each_has_a_connection_of_its_own(race: Race):
    async def backend(s):
        async with s.transaction():
            (row,) = await s.unit.call("SELECT pg_backend_pid()", ())
            await together.wait()
            return row[0]

    for n in (2, 16, 24):
        together = asyncio.Barrier(n)
        assert len(set((await race(n, backend)).results)) == n


async def test_callers_can_be_told_apart(race: Race):
    async def number(s, i):
        return (i, s.actor)

    assert (await race(3, number)).outcomes == ((0, "racer:0"), (1, "racer:1"), (2, "racer:2"))


async def test_db_and_make_commit_in_a_test_that_races(race: Race, make, db):
    user = await make(User)
    seen = await race(4, lambda s: s.users.get(user.id))
    assert {u.email for u in seen.results} == {user.email}


async def test_another_exception_is_raised(race: Race):
    async def broken(s):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await race(4, broken)


async def test_a_race_that_never_ends_does(race: Race):
    with pytest.raises(TimeoutError):
        await race(2, lambda s: asyncio.sleep(60), timeout=0.1)


@pytest.mark.parametrize("n", [0, 1, 61, True, "4"])
async def test_numbers_that_make_no_race(race: Race, n):
    with pytest.raises(Invalid):
        await race(n, lambda s: s.users.count())


async def test_a_tenant_is_needed_and_must_exist(tally_racers: Race):
    with pytest.raises(Invalid):
        await tally_racers(2, lambda s: s.users.count())
    with pytest.raises(NotFound):
        await tally_racers(2, lambda s: s.users.count(), tenant="nobody-here")


async def test_tenants_can_be_told(race: Race, tally):
    info = await tally.tenants.create(f"{race._tenant[:40]}-2", name="Second", max_users=3)
    result = await race(8, lambda s: s.consume("users"), tenant=info.slug)
    assert result.winners == 3
    assert result.kinds == {QuotaExceeded}
    assert sorted(result.results) == [1, 2, 3]
