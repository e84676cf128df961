"""Sixteen callers at one person: erase, hold, write, restrict. Nothing is half done, and nothing comes after."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.privacy.rights import application, person

from tallystick import (
    Conflict,
    ConsentMissing,
    Erased,
    OnHold,
    Purpose,
    QuotaExceeded,
    Serialization,
    StaleVersion,
    User,
    UserStatus,
)
from tallystick.app import Tallystick
from tallystick.domains.identity.erasures import ErasureRequest, ErasureStatus
from tallystick.domains.identity.holds import LegalHold, RestrictionGround
from tallystick.domains.rights.export import EXPORTS_A_DAY
from tallystick.session import Session
from tallystick.testing import Race

N = 16


@pytest.fixture(scope="module")
async def racers(house: Tallystick):  # type: ignore[no-untyped-def]
    made = Race(house)
    yield made
    await made.close()


@pytest.mark.parametrize("_", range(6))
async def test_who_erases_and_who_writes_cannot_cross(racers: Race, office: Session, _: int):
    ada = await person(office)
    asked = await office.privacy.request_erasure(ada)

    async def work(db: Session, i: int) -> str:
        if i == 0:
            await asyncio.sleep(0.004)
            await db.privacy.erase(asked)
            return "erased"
        if i % 2:
            # The first of a class makes the key of it, which is what an eraser could miss.
            await application(db, ada)
            return "applied"
        await db.users.update(await db.users.get(ada.id), first_name=f"Ada {i}")
        return "renamed"

    result = await racers(N, work, tenant=office.tenant)
    assert "erased" in result.results
    assert result.kinds <= {Erased, StaleVersion, Serialization}
    rows = await office.unit.call(
        "SELECT class, count(*) FILTER (WHERE state = 'live') FROM tally.data_key "
        "WHERE tenant_id = $1 AND subject = $2 GROUP BY 1",
        (office.tenant_id, ada.id),
    )
    living = {row[0] for row in rows if row[1]}
    found = await office[ErasureRequest].get(asked.id)
    assert living <= ({"lending"} if found.status is ErasureStatus.PARTIAL else set())
    user = await office.users.get(ada.id)
    assert (user.first_name, user.email, user.status) == (None, None, UserStatus.ERASED)
    if found.status is ErasureStatus.EXECUTED:
        assert await office.applications.count() == 0 or not living


@pytest.mark.parametrize("_", range(6))
async def test_a_hold_and_an_erasure_have_one_order(racers: Race, office: Session, _: int):
    ada = await person(office)
    asked = await office.privacy.request_erasure(ada)

    async def work(db: Session, i: int) -> str:
        if i % 2:
            await db.privacy.hold(ada, matter=f"m{i}")
            return "held"
        done = await db.privacy.erase(asked)
        return "erased" if done.erased else "nothing"

    result = await racers(N, work, tenant=office.tenant)
    assert result.kinds <= {OnHold, Erased, Conflict}
    erased = result.results.count("erased")
    holds = await office[LegalHold].count()
    # Either a hold came first and nothing was erased, or the erasure did and nothing was held.
    assert (erased, bool(holds)) in {(1, False), (0, True)}
    assert ((await office.users.get(ada.id)).first_name is None) is bool(erased)


@pytest.mark.parametrize("_", range(4))
async def test_one_request_whoever_asks_and_one_execution(racers: Race, office: Session, _: int):
    ada = await person(office)
    result = await racers(N, lambda db: db.privacy.request_erasure(ada), tenant=office.tenant)
    assert result.errors == []
    assert len({r.id for r in result.results}) == 1
    (asked, *_rest) = result.results
    done = await racers(N, lambda db: db.privacy.erase(asked), tenant=office.tenant)
    assert done.winners == 1
    assert done.kinds == {Conflict}
    assert len(office.sealer.keyring().provider.erasures(office.tenant_id)) == 1


@pytest.mark.parametrize("_", range(4))
async def test_nothing_behind_the_gate_outlives_a_restriction(racers: Race, office: Session, _: int):
    ada = await office.users.add(User())
    await office.consents.grant(ada, Purpose.AI_ANALYSIS, policy_version="1")

    async def work(db: Session, i: int) -> str:
        if i == 3:
            await asyncio.sleep(0.003)
            await db.privacy.restrict(ada, RestrictionGround.UNLAWFUL)
            return "restricted"
        async with db.transaction():
            await db.consents.require(ada.id, Purpose.AI_ANALYSIS)
            await asyncio.sleep(0.004)
            assert await db.privacy.restriction(ada) is None
        return "used"

    result = await racers(N, work, tenant=office.tenant)
    assert "restricted" in result.results
    assert result.kinds <= {OnHold, ConsentMissing}


async def test_sixteen_exports_of_one_person_are_as_many_as_a_day_may_have(
    racers: Race, office: Session, tmp_path: Path
):
    ada = await person(office)

    async def work(db: Session, i: int) -> int:
        return (await db.privacy.export(ada, tmp_path / str(i), reason="her request")).rows

    result = await racers(N, work, tenant=office.tenant)
    assert (result.winners, result.kinds) == (EXPORTS_A_DAY, {QuotaExceeded})
    assert len([p for p in tmp_path.iterdir() if p.name.isdigit()]) == EXPORTS_A_DAY  # noqa: ASYNC240
