"""What loans say of members: the repayment part of a trust score, and what stays put while a loan is open."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.community.support import as_user, circle
from tests.ledger.support import audit
from tests.lending.support import product

from tallystick import (
    Conflict,
    Denied,
    Governance,
    Invalid,
    Money,
    Tallystick,
    TrustPolicy,
    UnknownReference,
    usd,
    uuid7,
)
from tallystick.domains.lending.loans import Loan
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

DAY = date(2026, 1, 1)


async def lent(db: Session, what: Any, community: UUID, borrower: Any, principal: Money, *, paid: bool = True) -> Loan:
    loan = await db.loans.request(
        product=what, borrower=borrower, principal=principal, community=community, on=DAY, key=None
    )
    await db.loans.approve(loan, on=DAY, key=None)
    return (await db.loans.disburse(loan, on=DAY, key=None)).loan if paid else loan


async def test_a_record_counts_what_was_paid_on_time_and_what_is_late_now(db: Session, make: Make):
    rules = Governance(trust=TrustPolicy(network=0, endorsements=0, repayment=1))
    club, _, (bob,) = await circle(db, make, 1, governance=rules)
    loan = await lent(db, await product(db), club.id, bob, usd("300"))
    first, second, third = [i.due for i in await db.loans.schedule(loan)]
    await db.loans.repay(loan, usd("100"), on=first, key=None)
    await db.loans.repay(loan, usd("100"), on=date(second.year, second.month, 11), key=None)

    async def part(day: date) -> tuple[Decimal | None, dict[str, Any]]:
        found = (await db.trust.score(bob, club.id, as_of=day)).part("repayment")
        return found.value, found.evidence

    assert (await part(date(2026, 1, 31)))[0] is None
    assert await part(first) == (1, {"due": 1, "on_time": 1, "days_past_due": 0, "written_off": 0})
    # A day before it was settled the second is nine days late: half on time, and a tenth of ninety days taken off.
    assert await part(date(2026, 3, 10)) == (
        Decimal("0.45"),
        {"due": 2, "on_time": 1, "days_past_due": 9, "written_off": 0},
    )
    assert (await part(date(2026, 3, 11)))[0] == Decimal("0.5")
    assert (await part(third))[1] == {"due": 3, "on_time": 1, "days_past_due": 0, "written_off": 0}
    assert (await part(date(2027, 1, 1)))[0] == 0
    whole = await db.trust.score(bob, club.id, as_of=date(2026, 3, 11))
    assert whole.score == Decimal("0.5")
    await db.loans.write_off(loan, on=date(2026, 4, 20), key=None)
    value, evidence = await part(date(2026, 4, 20))
    assert (value, evidence["written_off"]) == (0, 1)
    assert (await part(date(2026, 3, 11)))[0] == Decimal("0.5")


async def test_the_gates_stand_before_a_request(db: Session, make: Make):
    club, _, (bob,) = await circle(db, make, 1, max_loan_amount=usd("300"), min_reputation_to_borrow=Decimal(10))
    what = await product(db)
    for amount, gate in ((usd("300"), "reputation"), (usd("301"), "amount")):
        with pytest.raises(Denied, match=f"'{gate}'"):
            await lent(db, what, club.id, bob, amount)
    assert await db[Loan].count() == 0
    await db.communities.rate(club.id, bob, Decimal(10))
    assert (await lent(db, what, club.id, bob, usd("300"))).disbursed == usd("300")


async def test_an_endorser_answers_for_the_loan(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, _, (bob, eve) = await circle(db, make, 2)
    loan = await lent(db, await product(db), club.id, bob, usd("300"))
    async with as_user(sandbox, tenant, eve) as hers:
        given = await hers.endorsements.endorse(
            eve, bob, community=club.id, loan=loan.id, stake=usd("30"), on=DAY, key=None
        )
        with pytest.raises(Conflict) as early:
            await hers.endorsements.withdraw(given.id, on=DAY, key=None)
        assert early.value.rule == "loan_at_risk"
        await db.loans.pay_off(loan, on=DAY, key=None)
        await hers.endorsements.withdraw(given.id, on=DAY, key=None)
    await audit(db)


async def test_a_stake_is_not_saved_from_a_loss(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    club, admin, (bob, eve) = await circle(db, make, 2)
    loan = await lent(db, await product(db), club.id, bob, usd("300"))
    given = await db.endorsements.endorse(eve, bob, community=club.id, loan=loan.id, stake=usd("30"), on=DAY, key=None)
    await db.loans.write_off(loan, on=date(2026, 5, 1), key=None)
    async with as_user(sandbox, tenant, eve) as hers:
        with pytest.raises(Conflict):
            await hers.endorsements.withdraw(given.id, key=None)
    async with as_user(sandbox, tenant, admin) as theirs:
        await theirs.endorsements.slash(given.id, key=None)
    await audit(db)


async def test_the_loan_of_an_endorsement_is_the_endorsees_in_that_community(db: Session, make: Make):
    club, _, (bob, eve, other) = await circle(db, make, 3)
    loan = await lent(db, await product(db), club.id, bob, usd("300"), paid=False)
    for whom, named in ((other, loan.id), (bob, uuid7())):
        with pytest.raises(UnknownReference):
            await db.endorsements.endorse(eve, whom, community=club.id, loan=named, key=None)
    with pytest.raises(Invalid):
        await db.endorsements.endorse(eve, bob, community=club.id, loan=loan, key=None)  # type: ignore[arg-type]
    assert await db.endorsements.count() == 0
    with pytest.raises(Conflict) as still:
        await db.communities.dissolve(club.id)
    assert still.value.rule == "loans_open"
    await db.loans.cancel(loan, reason="dissolving", key=None)
    await db.communities.dissolve(club.id)


async def test_an_application_that_does_not_lend_has_no_record(
    db: Session, make: Make, tally: Tallystick, sandbox: Sandbox, tenant: str
):
    club, _, (bob, eve) = await circle(db, make, 2)
    part = (await db.trust.score(bob, club.id)).part("repayment")
    assert part.value is None
    assert "no loan" in part.reason
    app = Tallystick(
        tally.settings,
        ("identity", "ledger", "community"),
        (),
        keys=tally.keys,
        clock=tally.clock,
        version_locations=(),
    )
    await app.start()
    slug = f"plain-{uuid7().hex}"
    try:
        await app.tenants.create(slug, name="Plain")
        async with app.session(slug, actor="test", permissions=["*"]) as other:
            assert not other.has("lending")
            club, _, (bob, eve) = await circle(other, make.on(other), 2)
            given = await other.endorsements.endorse(bob, eve, community=club.id, stake=usd("5"), key=None)
            assert (await other.trust.score(eve, club.id)).part("repayment").value is None
            with pytest.raises(UnknownReference):
                await other.endorsements.endorse(eve, bob, community=club.id, loan=uuid7(), key=None)
            await other.endorsements.withdraw(given.id, key=None)
            await other.communities.dissolve(club.id)
    finally:
        await app.close()
