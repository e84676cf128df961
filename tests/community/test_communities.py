"""Communities: founding, membership, roles, sanctions, and the gates before borrowing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.community.support import as_user, circle, joined, person

from tallystick import (
    Community,
    CommunityStatus,
    Conflict,
    Denied,
    Duplicate,
    Governance,
    Invalid,
    InvalidTransition,
    MemberRole,
    MembershipStatus,
    NotFound,
    RoleMissing,
    TrustPolicy,
    UserStatus,
    eur,
    usd,
    uuid7,
)
from tallystick.domains.community.borrowing import Gate
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

_S = MembershipStatus
ROLES = list(MemberRole)


async def test_a_member_founds_a_community_and_becomes_its_admin(
    db: Session, make: Make, sandbox: Sandbox, tenant: str
):
    ada = await person(make)
    async with as_user(sandbox, tenant, ada) as mine:
        made = await mine.communities.create(Community(name="Sunrise", slug="sunrise", asset="USD"))
        assert made.status is CommunityStatus.FORMING
        await mine.communities.require(made.id, MemberRole.ADMIN)
        assert (await mine.communities.activate(made.id)).status is CommunityStatus.ACTIVE
    assert (await db.communities.by_slug("sunrise")) is not None
    held = await db.memberships.held(made.id, ada)
    assert held is not None
    assert (held.role, held.status) == (MemberRole.ADMIN, _S.ACTIVE)
    with pytest.raises(Duplicate):
        async with db.transaction():
            await db.communities.create(Community(name="Other", slug="sunrise", asset="USD"), founder=ada)


async def test_who_is_invited_joins_leaves_and_comes_back_as_a_plain_member(
    db: Session, make: Make, sandbox: Sandbox, tenant: str
):
    club, admin, _ = await circle(db, make, 0)
    bob = await person(make)
    async with as_user(sandbox, tenant, admin) as hers, as_user(sandbox, tenant, bob) as his:
        with pytest.raises(Denied):
            await his.communities.join(club.id)
        assert (await hers.communities.invite(club.id, bob)).status is _S.INVITED
        with pytest.raises(Conflict):
            await hers.communities.invite(club.id, bob)
        with pytest.raises(RoleMissing):
            await his.communities.require(club.id, MemberRole.MEMBER)
        assert (await his.communities.join(club.id)).joined_at is not None
        with pytest.raises(Conflict):
            await his.communities.join(club.id)
        await hers.communities.set_role(club.id, bob, MemberRole.ADMIN)
        gone = await his.communities.leave(club.id)
        assert (gone.status, gone.role) == (_S.LEFT, MemberRole.MEMBER)
        with pytest.raises(RoleMissing):
            await his.communities.require(club.id, MemberRole.MEMBER)
        with pytest.raises(Denied):
            await his.communities.leave(club.id)
        await hers.communities.invite(club.id, bob)
        back = await his.communities.join(club.id)
        assert (back.status, back.role, back.left_at) == (_S.ACTIVE, MemberRole.MEMBER, None)
    assert await db.memberships.count() == 2


async def test_an_open_community_lets_everybody_in_but_not_those_it_put_out(
    db: Session, make: Make, sandbox: Sandbox, tenant: str
):
    club, admin, _ = await circle(db, make, 0, governance=Governance(open_to_join=True))
    bob, eve = await person(make), await person(make)
    async with as_user(sandbox, tenant, bob) as his:
        await his.communities.join(club.id)
    async with as_user(sandbox, tenant, admin) as hers:
        await hers.communities.ban(club.id, bob)
        # Somebody who was never in can be kept out too.
        await hers.communities.ban(club.id, eve)
        with pytest.raises(Denied):
            await hers.communities.invite(club.id, bob)
        with pytest.raises(Conflict):
            await hers.communities.ban(club.id, bob)
    for out in (bob, eve):
        async with as_user(sandbox, tenant, out) as theirs:
            with pytest.raises(Denied):
                await theirs.communities.join(club.id)
    async with as_user(sandbox, tenant, admin) as hers:
        assert (await hers.communities.lift_ban(club.id, bob)).status is _S.LEFT
    async with as_user(sandbox, tenant, bob) as his:
        await his.communities.join(club.id)


@pytest.mark.parametrize("mine", ROLES)
@pytest.mark.parametrize("needed", ROLES)
async def test_roles_are_ordered(
    db: Session, make: Make, sandbox: Sandbox, tenant: str, mine: MemberRole, needed: MemberRole
):
    club, _, _ = await circle(db, make, 0)
    bob = await joined(db, make, club.id, mine)
    async with as_user(sandbox, tenant, bob) as his:
        if ROLES.index(mine) >= ROLES.index(needed):
            await his.communities.require(club.id, needed)
        else:
            with pytest.raises(RoleMissing) as refused:
                await his.communities.require(club.id, needed)
            assert needed.value in str(refused.value)


async def test_require_asks_for_an_active_person_in_an_open_community(
    db: Session, make: Make, sandbox: Sandbox, tenant: str
):
    club, admin, (bob,) = await circle(db, make, 1)
    other, _, _ = await circle(db, make, 0, slug="harbour")
    for actor in ("user:nobody", f"user:{uuid7()}", "job", str(bob.id)):
        async with sandbox.session(tenant, actor=actor, permissions=()) as stranger:
            with pytest.raises(RoleMissing):
                await stranger.communities.require(club.id, MemberRole.MEMBER)
    async with sandbox.session(tenant, actor="desk", permissions=["communities.manage"]) as desk:
        await desk.communities.require(club.id, MemberRole.ADMIN)
    async with as_user(sandbox, tenant, bob) as his:
        with pytest.raises(RoleMissing):
            await his.communities.require(other.id, MemberRole.MEMBER)
        with pytest.raises(NotFound):
            await his.communities.require(uuid7(), MemberRole.MEMBER)
        with pytest.raises(Invalid):
            await his.communities.require(club.id, "admin")  # type: ignore[arg-type]
    await db.users.update(bob, status=UserStatus.SUSPENDED)
    async with as_user(sandbox, tenant, bob) as his:
        with pytest.raises(RoleMissing):
            await his.communities.require(club.id, MemberRole.MEMBER)
    await db.communities.suspend(club.id)
    async with as_user(sandbox, tenant, admin) as hers:
        with pytest.raises(Denied):
            await hers.communities.require(club.id, MemberRole.MEMBER)
        with pytest.raises(RoleMissing):
            await hers.communities.activate(club.id)
    await db.communities.activate(club.id)


async def test_the_gates_before_borrowing(db: Session, make: Make):
    club, _, (bob,) = await circle(
        db, make, 1, min_reputation_to_borrow=Decimal("50"), max_loan_amount=usd("500"), slug="gates"
    )
    stranger = await person(make)

    async def gate(user: Any, amount: Any) -> Gate | None:
        return (await db.communities.may_borrow(club.id, user, amount)).gate

    assert await gate(bob, usd("100")) is Gate.REPUTATION
    await db.communities.rate(club.id, bob, Decimal("50"))
    assert (await db.communities.may_borrow(club.id, bob, usd("500"))).allowed
    await db.communities.check_borrowing(club.id, bob.id, usd("500"))
    assert await gate(bob, usd("500.01")) is Gate.AMOUNT
    assert await gate(bob, eur("5")) is Gate.ASSET
    assert await gate(stranger, usd("5")) is Gate.MEMBERSHIP
    await db.communities.suspend_member(club.id, bob)
    assert await gate(bob, usd("5")) is Gate.MEMBERSHIP
    await db.communities.reinstate_member(club.id, bob)
    for user, amount, error, named in (
        (bob, usd("501"), Denied, "amount"),
        (bob, eur("5"), Invalid, "asset"),
        (stranger, usd("5"), Denied, "membership"),
    ):
        with pytest.raises(error, match=f"'{named}'"):
            await db.communities.check_borrowing(club.id, user, amount)
    await db.communities.suspend(club.id)
    assert await gate(bob, usd("5")) is Gate.COMMUNITY
    with pytest.raises(NotFound):
        await db.communities.check_borrowing(uuid7(), bob, usd("5"))
    for wrong in (5, 5.0, "5", usd("0"), usd("-1"), None):
        with pytest.raises(Invalid):
            await db.communities.check_borrowing(club.id, bob, wrong)  # type: ignore[arg-type]


async def test_an_admin_changes_the_rules_and_nobody_else(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, admin, (bob,) = await circle(db, make, 1)
    async with as_user(sandbox, tenant, bob) as his:
        for attempt in (
            lambda: his.communities.change(club.id, min_reputation_to_borrow=Decimal(0)),
            lambda: his.communities.activate(club.id),
            lambda: his.communities.suspend(club.id),
            lambda: his.communities.dissolve(club.id),
        ):
            with pytest.raises(RoleMissing):
                await attempt()
    async with as_user(sandbox, tenant, admin) as hers:
        rules = Governance(open_to_join=True, trust=TrustPolicy(network=1, endorsements=0, repayment=0))
        changed = await hers.communities.change(
            club.id, name="Sunrise!", governance=rules, max_loan_amount=usd("90"), min_reputation_to_borrow=Decimal(5)
        )
        assert (await hers.communities.get(club.id)).governance == rules == changed.governance
        for wrong in ({"status": CommunityStatus.DISSOLVED}, {"asset": "EUR"}, {"slug": "x"}, {}):
            with pytest.raises(Invalid):
                await hers.communities.change(club.id, **wrong)
        with pytest.raises(Invalid):
            async with hers.transaction():
                await hers.communities.change(club.id, max_loan_amount=eur("5"))
        with pytest.raises(RoleMissing):
            await hers.communities.suspend(club.id)
        assert (await hers.communities.dissolve(club.id)).status is CommunityStatus.DISSOLVED
        with pytest.raises(Denied):
            await hers.communities.invite(club.id, bob)
    with pytest.raises(InvalidTransition):
        await db.communities.activate(club.id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"open_to_join": "yes"},
        {"invited_by": "moderator"},
        {"sanctioned_by": MemberRole.MEMBER},
        {"slashed_by": MemberRole.MEMBER},
        {"trust": {"network": 1}},
        {"endorsed_by": None},
    ],
)
def test_a_governance_that_makes_no_sense_cannot_be_made(wrong: Any):
    with pytest.raises(Invalid):
        Governance(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": 0.4},
        {"network": -1},
        {"network": 0, "endorsements": 0, "repayment": 0},
        {"half_at": 0},
        {"late_days": 0},
        {"staked_counts": True},
        {"alpha": 0.15},
        {"alpha": Decimal(0)},
        {"alpha": Decimal("1.1")},
        {"trusted_role": "admin"},
    ],
)
def test_a_trust_policy_that_makes_no_sense_cannot_be_made(wrong: Any):
    with pytest.raises(Invalid):
        TrustPolicy(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slug": "Sunrise"},
        {"slug": "-x"},
        {"slug": ""},
        {"asset": "XYZ"},
        {"asset": 5},
        {"name": ""},
        {"governance": {"open_to_join": True}},
        {"status": CommunityStatus.ACTIVE},
        {"min_reputation_to_borrow": 0.5},
        {"min_reputation_to_borrow": Decimal(-1)},
        {"max_loan_amount": usd("0")},
        {"max_loan_amount": eur("5")},
        {"max_loan_amount": 500.0},
    ],
)
async def test_a_wrong_community_is_refused(db: Session, make: Make, wrong: Any):
    ada = await person(make)
    with pytest.raises((Invalid, InvalidTransition)):
        async with db.transaction():
            await db.communities.create(
                Community(**{"name": "Sunrise", "slug": "sunrise", "asset": "USD"} | wrong), founder=ada
            )
    assert await db.communities.count() == 0


async def test_founders_and_users_there_are_not(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, _, _ = await circle(db, make, 0)
    with pytest.raises(Invalid):
        await db.communities.create(Community(name="A", slug="a", asset="USD"))
    with pytest.raises(Invalid):
        async with db.transaction():
            await db.communities.create(Community(name="A", slug="a", asset="USD"), founder=uuid7())
    with pytest.raises(Invalid):
        async with db.transaction():
            await db.communities.invite(club.id, uuid7())
    with pytest.raises(Invalid):
        await db.communities.invite(club.id, "bob")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await db.communities.invite(uuid7(), uuid7())
    with pytest.raises(Denied):
        await db.communities.set_role(club.id, uuid7(), MemberRole.ADMIN)
    ada, eve = await person(make), await person(make)
    async with as_user(sandbox, tenant, eve) as hers:
        with pytest.raises(RoleMissing):
            await hers.communities.create(Community(name="A", slug="a", asset="USD"), founder=ada)
    for wrong in (1, 0.5, "1", Decimal(-1), Decimal(1001)):
        with pytest.raises(Invalid):
            await db.communities.rate(club.id, ada, wrong)  # type: ignore[arg-type]
