"""Sixteen callers in one community: one right answer each, and stakes that add up after it."""

from __future__ import annotations

import asyncio
from datetime import date
from decimal import Decimal

import pytest
from tests.community.support import circle, person
from tests.ledger.support import audit
from tests.soak import REPEATS

from tallystick import (
    Conflict,
    Denied,
    Duplicate,
    Endorsement,
    EndorsementStatus,
    Governance,
    InvalidTransition,
    KeyReused,
    MemberRole,
    MembershipStatus,
    TrustEdge,
    missing,
    usd,
)
from tallystick.domains.community.memberships import CommunityMembership
from tallystick.domains.community.stakes import Purse, purse_id
from tallystick.domains.ledger.journals import Journal
from tallystick.session import Session
from tallystick.testing import Make, Race

N = 16
DAY = date(2026, 3, 2)


@pytest.mark.parametrize("_", REPEATS)
async def test_two_who_endorse_each_other_at_once_end_with_one_endorsement(race: Race, db: Session, make: Make, _: int):
    club, _admin, (bob, eve) = await circle(db, make, 2)

    async def endorse(s: Session, i: int) -> Endorsement:
        sides = (bob, eve) if i % 2 else (eve, bob)
        return await s.endorsements.endorse(*sides, community=club.id, stake=usd("5"), key=f"k{i}")

    result = await race(N, endorse)
    assert result.winners == 1
    assert result.kinds == {Conflict, Duplicate}
    assert await db.endorsements.count() == 1
    assert await db.ledger.balance(purse_id(db, club, Purse.HELD)) == usd("5")
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_key_is_one_endorsement(race: Race, db: Session, make: Make, _: int):
    club, _admin, (bob, eve) = await circle(db, make, 2)
    result = await race(
        N,
        lambda s, i: s.endorsements.endorse(
            bob, eve, community=club.id, stake=usd("5") if i % 4 else usd("6"), on=DAY, key="once"
        ),
    )
    assert result.kinds == {KeyReused}
    assert len({e.id for e in result.results}) == 1
    assert await db[Journal].count() == 1
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_stake_is_given_back_or_kept_and_never_both(race: Race, db: Session, make: Make, _: int):
    club, _admin, (bob, eve, mal) = await circle(db, make, 3)
    given = await db.endorsements.endorse(bob, eve, community=club.id, stake=usd("5"), key=None)
    await db.endorsements.endorse(mal, eve, community=club.id, stake=usd("70"), key=None)

    async def end(s: Session, i: int) -> Endorsement:
        if i % 2:
            return await s.endorsements.withdraw(given.id, key=f"w{i}")
        return await s.endorsements.slash(given.id, key=f"s{i}")

    result = await race(N, end)
    assert result.winners == 1
    assert result.kinds == {Conflict}
    slashed = result.results[0].status is EndorsementStatus.SLASHED
    assert await db.ledger.balance(purse_id(db, club, Purse.HELD)) == usd("70")
    assert await db.ledger.balance(purse_id(db, club, Purse.SLASHED)) == usd("5" if slashed else "0")
    assert await db.ledger.balance(purse_id(db, club, Purse.CLEARING)) == usd("75" if slashed else "70")
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_purses_are_opened_once_for_many_first_stakes(race: Race, db: Session, make: Make, _: int):
    club, _admin, members = await circle(db, make, N + 1)
    result = await race(
        N,
        lambda s, i: s.endorsements.endorse(members[i], members[i + 1], community=club.id, stake=usd("1"), key=None),
    )
    assert result.errors == []
    assert await db.ledger.balance(purse_id(db, club, Purse.HELD)) == usd("16")
    await audit(db)


@pytest.mark.parametrize("how", ["leave", "demote", "suspend", "ban"])
@pytest.mark.parametrize("_", REPEATS)
async def test_one_admin_stays_whoever_goes(race: Race, db: Session, make: Make, _: int, how: str):
    club, admin, members = await circle(db, make, N - 1)
    for one in members:
        await db.communities.set_role(club.id, one, MemberRole.ADMIN)
    admins = [admin, *members]

    async def go(s: Session, i: int) -> CommunityMembership:
        c = s.communities
        if how == "leave":
            return await c.leave(club.id, admins[i])
        if how == "demote":
            return await c.set_role(club.id, admins[i], MemberRole.MEMBER)
        return await (c.suspend_member if how == "suspend" else c.ban)(club.id, admins[i])

    result = await race(N, go)
    assert result.winners == N - 1
    assert result.kinds == {Conflict}
    left = await db.memberships.find(
        CommunityMembership.role == MemberRole.ADMIN, CommunityMembership.status == MembershipStatus.ACTIVE
    )
    assert len(left) == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_a_user_has_one_membership_however_often_they_join(race: Race, db: Session, make: Make, _: int):
    club, _admin, _none = await circle(db, make, 0, governance=Governance(open_to_join=True))
    bob = await person(make)

    async def enter(s: Session, i: int) -> CommunityMembership:
        if i % 2:
            return await s.communities.join(club.id, bob)
        return await s.communities.invite(club.id, bob)

    result = await race(N, enter)
    assert result.kinds == {Conflict}
    held = await db.memberships.held(club.id, bob)
    assert held is not None
    assert held.is_active
    assert await db.memberships.count() == 2


@pytest.mark.parametrize("_", REPEATS)
async def test_one_edge_stands_and_history_has_no_gap(race: Race, db: Session, make: Make, _: int):
    bob, eve = await person(make), await person(make)
    result = await race(N, lambda s, i: s.trust.connect(bob, eve, i % 5 - 2, on=DAY))
    assert result.errors == []
    assert await db.trust.count(missing(TrustEdge.valid_to)) == 1
    assert (await db.trust.graph(as_of=DAY)).edges == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_nobody_borrows_behind_the_gate_after_a_ban(race: Race, db: Session, make: Make, _: int):
    club, _admin, (bob, eve) = await circle(db, make, 2)

    async def work(s: Session, i: int) -> int:
        if i == 5:
            await asyncio.sleep(0.004)
            await s.communities.ban(club.id, bob)
            return 0
        if i % 8 == 7:
            await s.communities.change(club.id, min_reputation_to_borrow=Decimal(i))
            return 0
        async with s.transaction():
            await s.communities.check_borrowing(club.id, bob.id, usd("5"))
            await s.trust.connect(eve, bob, i % 10, on=DAY)
            await asyncio.sleep(0.002)
            # A statement of its own sees what others committed: the gates must still be open when the work ends.
            assert (await s.communities.may_borrow(club.id, bob, usd("5"))).allowed
        return 1

    result = await race(N, work)
    assert result.kinds <= {Denied}
    held = await db.memberships.held(club.id, bob)
    assert held is not None
    assert held.status is MembershipStatus.BANNED


@pytest.mark.parametrize("_", REPEATS)
async def test_no_stake_enters_a_community_that_is_dissolved(race: Race, db: Session, make: Make, _: int):
    club, _admin, members = await circle(db, make, N)

    async def work(s: Session, i: int) -> bool:
        if i % 4 == 0:
            await asyncio.sleep(0.001 * (_ % 4))
            await s.communities.dissolve(club.id)
            return True
        await s.endorsements.endorse(members[i], members[i - 1], community=club.id, stake=usd("1"), key=None)
        return False

    result = await race(N, work)
    assert result.kinds <= {Conflict, Denied, InvalidTransition}
    # Either the community is gone and holds nothing, or it holds what was staked and goes on.
    dissolved = sum(result.results)
    assert dissolved in (0, 1)
    assert await db.endorsements.count() == (0 if dissolved else 12)
    await audit(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_slug_is_one_communitys(race: Race, db: Session, make: Make, _: int):
    from tallystick import Community

    ada = await person(make)
    result = await race(
        N, lambda s: s.communities.create(Community(name="Sunrise", slug="sunrise", asset="USD"), founder=ada)
    )
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    assert await db.memberships.count() == 1
