"""Climbing in a community: promotion by oneself, revenge on those above, leaving it without anybody in charge."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.community.support import as_user, circle, joined, person

from tallystick import (
    Community,
    CommunityMembership,
    Conflict,
    Denied,
    EndorsementStatus,
    Governance,
    MemberRole,
    MembershipStatus,
    RoleMissing,
    TallystickError,
    TrustEdge,
    usd,
)
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

R = MemberRole


@pytest.mark.parametrize("mine", [R.MEMBER, R.MODERATOR, R.TREASURER])
async def test_nobody_below_admin_makes_roles(db: Session, make: Make, sandbox: Sandbox, tenant: str, mine: R):
    club, admin, (other,) = await circle(db, make, 1)
    bob = await joined(db, make, club.id, mine)
    async with as_user(sandbox, tenant, bob) as his:
        for whom, role in ((bob, R.ADMIN), (bob, R.TREASURER), (other, R.ADMIN), (admin, R.MEMBER)):
            with pytest.raises(RoleMissing):
                await his.communities.set_role(club.id, whom, role)
    held = await db.memberships.held(club.id, bob)
    assert held is not None
    assert held.role is mine


async def test_a_plain_member_decides_about_nobody(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, admin, (bob, other) = await circle(db, make, 2)
    friend = await person(make)
    async with as_user(sandbox, tenant, bob) as his:
        c = his.communities
        for attempt in (
            c.invite(club.id, friend),
            c.ban(club.id, other),
            c.ban(club.id, admin),
            c.suspend_member(club.id, other),
            c.rate(club.id, other, Decimal(9)),
            c.rate(club.id, bob, Decimal(1000)),
            c.leave(club.id, other),
            c.join(club.id, friend),
        ):
            with pytest.raises((RoleMissing, Denied)):
                await attempt


async def test_sanctions_reach_only_those_below(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, admin, (plain,) = await circle(db, make, 1)
    mod, equal, above = [await joined(db, make, club.id, r) for r in (R.MODERATOR, R.MODERATOR, R.TREASURER)]
    async with as_user(sandbox, tenant, mod) as theirs:
        c = theirs.communities
        for whom in (mod, equal, above, admin):
            for attempt in (c.ban(club.id, whom), c.suspend_member(club.id, whom)):
                with pytest.raises(RoleMissing):
                    await attempt
        for whom in (above, admin):
            with pytest.raises(RoleMissing):
                await c.rate(club.id, whom, Decimal(0))
        with pytest.raises(Denied):
            await c.rate(club.id, mod, Decimal(1000))
        assert (await c.suspend_member(club.id, plain)).status is MembershipStatus.SUSPENDED


@pytest.mark.parametrize("how", ["leave", "demote", "ban", "suspend"])
async def test_the_last_admin_cannot_go(db: Session, make: Make, sandbox: Sandbox, tenant: str, how: str):
    club, admin, (bob,) = await circle(db, make, 1)

    async def go(s: Session) -> None:
        c = s.communities
        if how == "leave":
            await c.leave(club.id, admin)
        elif how == "demote":
            await c.set_role(club.id, admin, R.MEMBER)
        elif how == "ban":
            await c.ban(club.id, admin)
        else:
            await c.suspend_member(club.id, admin)

    # Not even with the permission to manage all communities.
    with pytest.raises(Conflict) as refused:
        await go(db)
    assert refused.value.rule == "last_admin"
    async with as_user(sandbox, tenant, admin) as hers:
        with pytest.raises((Conflict, RoleMissing)):
            await go(hers)
        await hers.communities.set_role(club.id, bob, R.ADMIN)
    await go(db)
    with pytest.raises(Conflict):
        await db.communities.leave(club.id, bob)


async def test_a_suspension_is_not_shed_by_leaving_and_a_role_not_kept(
    db: Session, make: Make, sandbox: Sandbox, tenant: str
):
    club, _, _ = await circle(db, make, 0, governance=Governance(open_to_join=True))
    bob = await joined(db, make, club.id, R.TREASURER)
    await db.communities.suspend_member(club.id, bob)
    async with as_user(sandbox, tenant, bob) as his:
        for attempt in (his.communities.leave(club.id), his.communities.join(club.id)):
            with pytest.raises(TallystickError):
                await attempt
    await db.communities.ban(club.id, bob)
    await db.communities.lift_ban(club.id, bob)
    async with as_user(sandbox, tenant, bob) as his:
        assert (await his.communities.join(club.id)).role is R.MEMBER


async def test_trust_and_endorsements_are_given_by_oneself(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, _, (bob, other) = await circle(db, make, 2)
    async with as_user(sandbox, tenant, bob) as his:
        given = await his.endorsements.endorse(bob, other, community=club.id, stake=usd("5"), key=None)
        for attempt in (
            his.endorsements.endorse(other, bob, community=club.id, key=None),
            his.trust.connect(other, bob, 10, community=club.id),
            his.trust.connect(other, bob, 10),
            his.trust.disconnect(other, bob),
            his.endorsements.slash(given.id, key=None),
        ):
            with pytest.raises(RoleMissing):
                await attempt
    async with as_user(sandbox, tenant, other) as theirs:
        with pytest.raises(RoleMissing):
            await theirs.endorsements.withdraw(given.id, key=None)


async def test_who_profits_from_a_stake_does_not_slash_it(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, admin, (bob,) = await circle(db, make, 1)
    treasurer = await joined(db, make, club.id, R.TREASURER)
    given = await db.endorsements.endorse(bob, treasurer, community=club.id, stake=usd("5"), key=None)
    async with as_user(sandbox, tenant, treasurer) as theirs:
        with pytest.raises(Denied):
            await theirs.endorsements.slash(given.id, key=None)
    async with as_user(sandbox, tenant, admin) as hers:
        await hers.endorsements.slash(given.id, key=None)


async def test_the_plain_verbs_do_not_go_round_the_roles(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, _, (bob, other) = await circle(db, make, 2)
    given = await db.endorsements.endorse(bob, other, community=club.id, stake=usd("5"), key=None)
    mine = await db.memberships.held(club.id, bob)
    assert mine is not None
    async with as_user(sandbox, tenant, bob) as his:
        edge = TrustEdge(from_user=other.ref, to_user=bob.ref, weight=10, valid_from=his.today())
        for attempt in (
            lambda: his.memberships.update(mine, role=R.ADMIN),
            lambda: his[CommunityMembership].update(mine, reputation=Decimal(1000)),
            lambda: his.memberships.update_where(CommunityMembership.user == bob.ref, role=R.ADMIN),
            lambda: his.memberships.upsert(mine, on=(CommunityMembership.community, CommunityMembership.user)),
            lambda: his.communities.update(club, min_reputation_to_borrow=Decimal(0)),
            lambda: his.communities.add(Community(name="Mine", slug="mine", asset="USD")),
            lambda: his.endorsements.update(given, status=EndorsementStatus.SLASHED, ended_on=his.today()),
            lambda: his.trust.add(edge),
            lambda: his.trust.add_many([edge]),
        ):
            with pytest.raises(RoleMissing) as refused:
                await attempt()
            assert "db." in refused.value.remedy
        assert (await his.memberships.get(mine.id)).role is R.MEMBER
