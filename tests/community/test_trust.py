"""Trust edges as of a day, and the scores that follow from them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from tests.community.support import as_user, circle, person

from tallystick import (
    Denied,
    Duplicate,
    Governance,
    Invalid,
    NotFound,
    RoleMissing,
    TrustEdge,
    TrustPolicy,
    usd,
    uuid7,
)
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

D1, D2, D3 = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)


async def test_an_edge_ends_where_the_next_begins(db: Session, make: Make):
    bob, eve = await person(make), await person(make)
    one = await db.trust.connect(bob, eve, 5, on=D1)
    assert (await db.trust.connect(bob, eve, 5, on=D2)).id == one.id
    two = await db.trust.connect(bob, eve, -3, on=D2)
    ended = await db.trust.disconnect(bob, eve, on=D3)
    assert (ended.id, ended.valid_to) == (two.id, D3)
    weights = {}
    for day in (date(2025, 12, 31), D1, date(2026, 1, 31), D2, date(2026, 2, 28), D3):
        weights[day] = (await db.trust.graph(as_of=day)).edges, (await db.trust.graph(as_of=day)).positive
    assert list(weights.values()) == [(0, 0), (1, 1), (1, 1), (1, 0), (1, 0), (0, 0)]
    with pytest.raises(NotFound):
        await db.trust.disconnect(bob, eve)
    with pytest.raises(Invalid):
        await db.trust.connect(bob, eve, 1, on=D2)
    again = await db.trust.connect(bob, eve, 1, on=D3)
    with pytest.raises(Invalid):
        await db.trust.connect(bob, eve, 2, on=D1)
    assert again.valid_to is None
    with pytest.raises(Duplicate):
        async with db.transaction():
            await db[TrustEdge].add(TrustEdge(from_user=bob.ref, to_user=eve.ref, weight=2, valid_from=D3))
    with pytest.raises(Denied):
        async with db.transaction():
            await db[TrustEdge].update(ended, valid_to=None)


@pytest.mark.parametrize("weight", [11, -11, 5.0, "5", None, True, Decimal(5)])
async def test_a_weight_is_a_whole_number_in_its_range(db: Session, make: Make, weight: Any):
    bob, eve = await person(make), await person(make)
    with pytest.raises(Invalid) as refused:
        await db.trust.connect(bob, eve, weight)
    assert refused.value.field == "weight"
    with pytest.raises(Invalid):
        async with db.transaction():
            await db[TrustEdge].add(TrustEdge(from_user=bob.ref, to_user=eve.ref, weight=weight, valid_from=D1))


async def test_who_may_say_what_of_whom(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, _, (bob, eve) = await circle(db, make, 2)
    stranger = await person(make)
    async with as_user(sandbox, tenant, bob) as his:
        await his.trust.connect(bob, eve, 5, community=club.id)
        await his.trust.connect(bob, stranger, 5)
        with pytest.raises(Denied):
            await his.trust.connect(bob, stranger, 5, community=club.id)
        with pytest.raises(Invalid):
            await his.trust.connect(bob, bob, 5)
        with pytest.raises(RoleMissing):
            await his.trust.connect(eve, bob, 5)
        with pytest.raises(Invalid):
            async with his.transaction():
                await his.trust.connect(bob, uuid7(), 5)
        with pytest.raises(NotFound):
            await his.trust.connect(bob, eve, 5, community=uuid7())
        with pytest.raises(Invalid):
            await his.trust.connect(bob, eve, 5, on="today")  # type: ignore[arg-type]
    assert (await db.trust.graph(club.id)).edges == 1
    assert (await db.trust.graph()).edges == 1


async def test_a_community_trusts_its_elders_beforehand(db: Session, make: Make):
    club, admin, (bob, eve, mal, sock) = await circle(db, make, 4)
    assert await db.trust.scores(club.id) == {}
    for who, whom, weight in ((admin, bob, 8), (bob, eve, 9), (admin, mal, -10), (mal, sock, 10), (sock, mal, 10)):
        await db.trust.connect(who, whom, weight, community=club.id, on=D1)
    shares = await db.trust.scores(club.id)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[admin.id] > shares[bob.id] > shares[eve.id] > 0
    # Two who praise each other and whom nobody else trusts have nothing.
    assert shares[mal.id] == shares[sock.id] == 0
    assert await db.trust.scores(club.id, as_of=date(2025, 1, 1)) == {}
    assert await db.trust.scores() == {}


async def test_a_score_says_what_it_is_made_of(db: Session, make: Make):
    policy = TrustPolicy(network=1, endorsements=3, repayment=4, half_at=2)
    club, admin, (bob, eve, new) = await circle(db, make, 3, governance=Governance(trust=policy))
    empty = await db.trust.score(new, club.id)
    assert empty.score is None
    assert [(p.name, p.value, p.reason.split(":")[0]) for p in empty.parts] == [
        ("network", None, "No evidence"),
        ("endorsements", None, "No evidence"),
        ("repayment", None, "No evidence"),
    ]
    await db.trust.connect(admin, bob, 10, community=club.id, on=D1)
    await db.trust.connect(bob, eve, 10, community=club.id, on=D1)
    first = await db.endorsements.endorse(eve, bob, community=club.id, stake=usd("30"), on=D2, key=None)
    await db.endorsements.endorse(admin, bob, community=club.id, on=D2, key=None)
    found = await db.trust.score(bob, club.id)
    network = found.part("network")
    assert network.value == Decimal("0.5")
    assert network.evidence["members"] == 3
    vouched = found.part("endorsements")
    # One plain and one with a stake count three: 1 - 2^(-3/2).
    assert vouched.value == Decimal("0.646447")
    assert vouched.evidence == {"endorsements": 2, "with_stake": 1, "staked": str(usd("30")), "slashed": 0}
    assert found.part("repayment").value is None
    assert found.score == ((Decimal("0.5") + 3 * Decimal("0.646447")) / 4).quantize(Decimal("0.000001"))
    before = await db.trust.score(bob, club.id, as_of=D1)
    assert before.part("endorsements").value is None
    assert before.score == Decimal("0.5")
    await db.endorsements.slash(first.id, on=D3, key=None)
    after = await db.trust.score(bob, club.id, as_of=D3)
    assert after.part("endorsements").evidence["slashed"] == 1
    assert after.part("endorsements").value == 0
    assert (await db.trust.score(bob, club.id, as_of=D2)).part("endorsements").value == vouched.value
    for wrong in ((uuid7(), club.id), (bob, uuid7())):
        with pytest.raises(NotFound):
            await db.trust.score(*wrong)
