"""Sixteen callers at one consent: nothing behind the gate goes on after a withdrawal."""

from __future__ import annotations

import asyncio

import pytest
from tests.soak import REPEATS

from tallystick import Consent, ConsentMissing, NotFound, Purpose, Wallet
from tallystick.session import Session
from tallystick.testing import Make, Race

N = 16
WHAT = Purpose.CREDIT_CHECK


@pytest.mark.parametrize("_", REPEATS)
async def test_nothing_behind_the_gate_outlives_a_withdrawal(race: Race, db: Session, make: Make, _: int):
    ada = await make.user()
    await db.consents.grant(ada, WHAT, policy_version="1")

    async def work(s: Session, i: int) -> int:
        if i % 4 == 3:
            await asyncio.sleep(0.002 * (i % 5))
            await s.consents.withdraw(ada, WHAT)
            return 0
        async with s.transaction():
            grant = await s.consents.require(ada.id, WHAT)
            await s.wallets.add(Wallet(user=ada.ref, chain_id=1, address=bytes([i]) * 20))
            await asyncio.sleep(0.004)
            # A statement of its own sees what others committed: the consent must still stand when the work ends.
            assert (await s.consents.get(grant.id)).withdrawn_at is None
        return 1

    result = await race(N, work)
    assert result.kinds <= {ConsentMissing, NotFound}
    assert sum(r == 0 for r in result.results) == 1
    assert await db.wallets.count() == sum(result.results)
    (row,) = await db.consents.given(ada)
    assert row.withdrawn_at is not None


@pytest.mark.parametrize("_", REPEATS)
async def test_one_consent_stands_whatever_many_grant(race: Race, db: Session, make: Make, _: int):
    ada = await make.user()
    result = await race(N, lambda s, i: s.consents.grant(ada, WHAT, policy_version=str(i % 3)))
    assert result.errors == []
    history = await db.consents.given(ada)
    assert sum(c.withdrawn_at is None for c in history) == 1
    assert [c.withdrawn_at for c in history[:-1]] == [c.granted_at for c in history[1:]]
    assert await db[Consent].count() == len(history)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_consent_is_withdrawn_once(race: Race, db: Session, make: Make, _: int):
    ada = await make.user()
    await db.consents.grant(ada, WHAT, policy_version="1")
    result = await race(N, lambda s: s.consents.withdraw(ada, WHAT))
    assert result.winners == 1
    assert result.kinds == {NotFound}


@pytest.mark.parametrize("_", REPEATS)
async def test_the_gate_stays_open_while_terms_change(race: Race, db: Session, make: Make, _: int):
    ada = await make.user()
    await db.consents.grant(ada, WHAT, policy_version="1")

    async def work(s: Session, i: int) -> None:
        if i == 0:
            await s.consents.grant(ada, WHAT, policy_version="2")
            return
        async with s.transaction():
            await s.consents.require(ada, WHAT)
            await asyncio.sleep(0.002)

    result = await race(N, work)
    assert result.errors == []
