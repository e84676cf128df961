"""Endorsements and the money behind them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from tests.community.support import as_user, circle, joined, person
from tests.ledger.support import audit

from tallystick import (
    Conflict,
    Denied,
    Duplicate,
    Endorsement,
    EndorsementStatus,
    Governance,
    Invalid,
    KeyReused,
    MemberRole,
    Money,
    NotFound,
    RoleMissing,
    eur,
    usd,
    uuid7,
)
from tallystick.domains.community.stakes import Purse, purse_id
from tallystick.domains.ledger.journals import Journal
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

DAY = date(2026, 3, 2)


async def purses(db: Session, community: Any) -> dict[Purse, Money]:
    return {p: await db.ledger.balance(purse_id(db, community, p)) for p in Purse}


async def test_a_stake_is_held_and_comes_back(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, _, (bob, eve) = await circle(db, make, 2)
    async with as_user(sandbox, tenant, bob) as his:
        given = await his.endorsements.endorse(
            bob, eve, community=club.id, stake=usd("25"), text="Pays back what she borrows.", on=DAY, key="e1"
        )
        assert await purses(db, club) == {Purse.CLEARING: usd("25"), Purse.HELD: usd("25"), Purse.SLASHED: usd("0")}
        again = await his.endorsements.endorse(
            bob, eve, community=club.id, stake=usd("25"), text="Pays back what she borrows.", on=DAY, key="e1"
        )
        assert again.id == given.id
        with pytest.raises(KeyReused):
            await his.endorsements.endorse(bob, eve, community=club.id, stake=usd("26"), on=DAY, key="e1")
        ended = await his.endorsements.withdraw(given.id, on=date(2026, 3, 9), key="w1")
        assert (ended.status, ended.ended_on) == (EndorsementStatus.WITHDRAWN, date(2026, 3, 9))
        assert (await his.endorsements.withdraw(given.id, on=date(2026, 3, 9), key="w1")).id == given.id
        with pytest.raises(Conflict):
            await his.endorsements.withdraw(given.id, key="w2")
        # Over, and so free to be given again, or back.
        await his.endorsements.endorse(bob, eve, community=club.id, key=None)
    assert await purses(db, club) == {p: usd("0") for p in Purse}
    journals = await db[Journal].find(Journal.source_id == given.id, order=Journal.id)
    assert [(j.op, j.effective) for j in journals] == [
        ("endorsement.stake", DAY),
        ("endorsement.withdraw", date(2026, 3, 9)),
    ]
    await audit(db)


async def test_a_slashed_stake_is_the_communitys(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, _, (bob, eve, plain) = await circle(db, make, 3)
    treasurer = await joined(db, make, club.id, MemberRole.TREASURER)
    given = await db.endorsements.endorse(bob, eve, community=club.id, stake=usd("25"), on=DAY, key=None)
    async with as_user(sandbox, tenant, plain) as theirs:
        with pytest.raises(RoleMissing):
            await theirs.endorsements.slash(given.id, key=None)
    async with as_user(sandbox, tenant, treasurer) as theirs:
        assert (await theirs.endorsements.slash(given.id, on=DAY, key="s")).status is EndorsementStatus.SLASHED
        with pytest.raises(Conflict):
            await theirs.endorsements.slash(given.id, on=DAY, key="s2")
    with pytest.raises(Conflict):
        await db.endorsements.withdraw(given.id, key=None)
    assert await purses(db, club) == {Purse.CLEARING: usd("25"), Purse.HELD: usd("0"), Purse.SLASHED: usd("25")}
    await audit(db)


async def test_nobody_endorses_twice_or_back_or_themselves(db: Session, make: Make):
    club, _, (bob, eve) = await circle(db, make, 2)
    other, _, _ = await circle(db, make, 0, slug="harbour")
    for one in (bob, eve):
        await db.communities.invite(other.id, one)
        await db.communities.join(other.id, one)
    given = await db.endorsements.endorse(bob, eve, community=club.id, key=None)
    with pytest.raises(Duplicate):
        await db.endorsements.endorse(bob, eve, community=club.id, stake=usd("5"), key=None)
    with pytest.raises(Conflict) as circular:
        await db.endorsements.endorse(eve, bob, community=club.id, stake=usd("5"), key=None)
    assert circular.value.rule == "circular_endorsement"
    with pytest.raises(Invalid):
        await db.endorsements.endorse(bob, bob, community=club.id, key=None)
    # Another community is another circle.
    await db.endorsements.endorse(eve, bob, community=other.id, key=None)
    await db.endorsements.withdraw(given.id, key=None)
    await db.endorsements.endorse(eve, bob, community=club.id, key=None)
    assert await db[Journal].count() == 0


async def test_the_database_holds_the_pair_by_itself(db: Session, make: Make):
    club, _, (bob, eve) = await circle(db, make, 2)
    await db.endorsements.endorse(bob, eve, community=club.id, key=None)
    with pytest.raises(Duplicate):
        async with db.transaction():
            await db[Endorsement].add(Endorsement(endorser=eve.ref, endorsee=bob.ref, community=club.ref, given_on=DAY))
    sql = (
        "INSERT INTO tally.endorsement (tenant_id, id, endorser_id, endorsee_id, community_id, given_on, status, low, "
        "high) VALUES ($1, gen_random_uuid(), $2, $3, $4, '2026-03-02', 'active', gen_random_uuid(), gen_random_uuid())"
    )
    with pytest.raises(Invalid, match="ck_endorsement_pair"):
        async with db.transaction():
            await db.unit.call(sql, (db.tenant_id, eve.id, bob.id, club.id))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stake": 25.0}, Invalid),
        ({"stake": 25}, Invalid),
        ({"stake": "25"}, Invalid),
        ({"stake": usd("0")}, Invalid),
        ({"stake": usd("-5")}, Invalid),
        ({"stake": eur("5")}, Invalid),
        ({"text": ""}, Invalid),
        ({"text": "x" * 2001}, Invalid),
        ({"loan": "7"}, Invalid),
        ({"on": "2026-03-02"}, Invalid),
        ({"key": ""}, Invalid),
        ({"community": uuid7()}, NotFound),
    ],
)
async def test_bad_input_is_refused_and_nothing_is_written(db: Session, make: Make, options: Any, error: type):
    club, _, (bob, eve) = await circle(db, make, 2)
    with pytest.raises(error):
        await db.endorsements.endorse(bob, eve, **({"community": club.id, "key": None} | options))
    assert await db.endorsements.count() == 0
    assert await db[Journal].count() == 0


async def test_both_sides_are_active_members_of_an_active_community(db: Session, make: Make):
    club, admin, (bob, eve) = await circle(db, make, 2)
    stranger = await person(make)
    for pair in ((bob, stranger), (stranger, bob)):
        with pytest.raises(Denied):
            await db.endorsements.endorse(*pair, community=club.id, key=None)
    with pytest.raises(NotFound):
        await db.endorsements.withdraw(uuid7(), key=None)
    given = await db.endorsements.endorse(bob, eve, community=club.id, stake=usd("5"), key=None)
    with pytest.raises(Conflict) as held:
        await db.communities.dissolve(club.id)
    assert held.value.rule == "stakes_held"
    with pytest.raises(Invalid):
        async with db.transaction():
            await db.endorsements.withdraw(given.id, on=date(2020, 1, 1), key=None)
    await db.communities.ban(club.id, bob)
    # Out of the community, the stake is still theirs.
    await db.endorsements.withdraw(given.id, key=None)
    await db.communities.suspend(club.id)
    with pytest.raises(Denied):
        await db.endorsements.endorse(admin, eve, community=club.id, key=None)
    await db.communities.dissolve(club.id)


async def test_a_community_may_ask_for_a_stake_and_for_a_role(db: Session, make: Make):
    rules = Governance(stake_needed=True, endorsed_by=MemberRole.MODERATOR)
    club, admin, (bob, eve) = await circle(db, make, 2, governance=rules)
    with pytest.raises(Denied):
        await db.endorsements.endorse(admin, eve, community=club.id, key=None)
    with pytest.raises(RoleMissing):
        await db.endorsements.endorse(bob, eve, community=club.id, stake=usd("5"), key=None)
    await db.endorsements.endorse(admin, eve, community=club.id, stake=usd("5"), key=None)
