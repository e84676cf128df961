"""The demo's second story: neighbours lend to each other, and sixteen workers deliver one payment at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.domains.community.communities import Community
    from tallystick.domains.identity.users import User
    from tallystick.domains.lending.loans import Loan
    from tallystick.domains.lending.products import LoanProduct
    from tallystick.domains.lending.risk import AtRisk, PortfolioAtRisk
    from tallystick.money import Money
    from tallystick.session import Session

WORKERS = 16
_DELIVERIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened: the business day (0 is the payout), what it was, and what the loan owed after it."""

    day: int
    what: str
    outstanding: Money | None = None
    good: bool = True


@dataclass(slots=True, kw_only=True)
class Lending:
    """What the story shows; all of it was read from the database."""

    events: list[Event] = field(default_factory=list)
    par: list[tuple[str, PortfolioAtRisk]] = field(default_factory=list)
    payments: int = 0
    deliveries: int = 0
    balanced: bool = False
    accounts: int = 0
    difference: Money | None = None

    @property
    def held(self) -> bool:
        """Whether one payment stands, and the books are in balance."""
        return self.payments == 1 and self.balanced


async def lend(tally: Tallystick, slug: str) -> Lending:
    """Members, a funded loan, a late payment, one delivered many times at once, a reversal; PAR before and after."""
    story = Lending()
    async with tally.session(slug, actor="demo", permissions=["*"]) as db:
        community, people = await _community(db)
        loan, product = await _fund(db, story, community, people)
        await _repay(tally, db, story, slug, loan)
        trial = await db.ledger.trial_balance()
        story.balanced, story.accounts = trial.balanced, len(trial.lines)
        totals = [(line.debits - line.credits) for line in trial.lines if line.debits.asset == product.asset]
        story.difference = sum(totals[1:], totals[0])
    return story


async def _community(db: Session) -> tuple[Community, list[User]]:
    from tallystick.domains.community.communities import Community
    from tallystick.domains.identity.users import User, UserRole, UserStatus

    people = await db.users.add_many(
        [
            User(
                first_name=name, status=UserStatus.ACTIVE, role=UserRole.BORROWER if name == "Ada" else UserRole.LENDER
            )
            for name in ("Ada", "Kofi", "Mei", "Rosa")
        ]
    )
    made = await db.communities.create(
        Community(name="Market street", slug="market-street", asset="USD"), founder=people[1]
    )
    await db.communities.activate(made.id)
    for person in (people[0], *people[2:]):
        await db.communities.invite(made.id, person)
        await db.communities.join(made.id, person)
    return made, people


async def _fund(db: Session, story: Lending, community: Community, people: list[User]) -> tuple[Loan, LoanProduct]:
    from tallystick.errors import Conflict
    from tallystick.money import usd
    from tallystick.seeds.community import product_for

    product = await db.products.add(product_for("USD"))
    day = db.today() - timedelta(days=75)
    ada, *lenders = people
    loan = await db.loans.request(
        product=product, borrower=ada, principal=usd("900"), installments=3, community=community, on=day, key="ask"
    )
    await db.loans.open_funding(loan, on=day, key="open")
    for lender in lenders[:2]:
        await db.loans.fund(loan, lender, usd("400"), on=day, key=f"fund {lender.id}")
    try:
        await db.loans.fund(loan, lenders[2], usd("400"), on=day, key="too much")
        story.events.append(Event(day=0, what="three lenders funded more than was asked for", good=False))
    except Conflict:
        told = "2 lenders give 400 each; a third one's 400 is refused, for 100 is left to fund"
        story.events.append(Event(day=0, what=told))
    await db.loans.fund(loan, lenders[2], usd("100"), on=day, key="rest")
    await db.loans.approve(loan, on=day, key="approve")
    paid = await db.loans.disburse(loan, on=day, key="pay out")
    told = f"paid out {paid.transaction.amount}, three installments at 12 %"
    story.events.append(Event(day=0, what=told, outstanding=paid.loan.outstanding))
    return paid.loan, product


async def _repay(tally: Tallystick, db: Session, story: Lending, slug: str, loan: Loan) -> None:
    assert loan.disbursed_on is not None
    first, second, _ = await db.loans.schedule(loan)
    late = first.due + timedelta(days=12)
    (fee,) = await db.loans.charge_late_fees(loan, on=late, key="late")
    one = await db.loans.repay(loan, first.outstanding + fee.amount, on=late, key="first")
    what = f"first payment, 12 days late: {one.transaction.amount} with a late fee of {fee.amount}"
    story.events.append(Event(day=(late - loan.disbursed_on).days, what=what, outstanding=one.loan.outstanding))

    story.par.append(("before the second payment", await db.portfolio.par()))
    today = db.today()

    async def deliver() -> bool:
        async with tally.session(slug, actor="webhook") as worker:
            return (await worker.loans.repay(loan.id, second.outstanding, on=today, key="event 77")).replayed

    for _ in range(_DELIVERIES):
        replayed = await asyncio.gather(*(deliver() for _ in range(WORKERS)))
        story.payments += replayed.count(False)
        story.deliveries += len(replayed)
    now = await db.loans.get(loan.id)
    what = f"second payment of {second.outstanding}, delivered {story.deliveries} times by {WORKERS} workers at once: "
    what += f"{story.payments} counts"
    day = (today - loan.disbursed_on).days
    story.events.append(Event(day=day, what=what, outstanding=now.outstanding, good=story.payments == 1))
    story.par.append(("after it", await db.portfolio.par()))

    undone = await db.loans.reverse(one, key="undo", reason="the bank returned it")
    what = f"first payment reversed: the second now pays the first installment, {undone.loan.oldest_due} is unpaid"
    story.events.append(Event(day=day, what=what, outstanding=undone.loan.outstanding))
    story.par.append(("after the reversal", await db.portfolio.par()))


def at_risk(par: PortfolioAtRisk, threshold: int) -> AtRisk | None:
    """What is at risk in dollars beyond a threshold."""
    line = par.of("USD")
    return None if line is None else next((r for r in line.at_risk if r.threshold == threshold), None)


def document(story: Lending) -> dict[str, Any]:
    """The story for programs."""
    return {
        "events": [
            {"day": e.day, "what": e.what, "outstanding": None if e.outstanding is None else str(e.outstanding)}
            for e in story.events
        ],
        "par": [
            {
                "when": when,
                **{
                    f"par_{risk.threshold}": {"principal": str(risk.principal), "ratio": float(risk.ratio)}
                    for line in par.lines
                    for risk in line.at_risk
                },
            }
            for when, par in story.par
        ],
        "deliveries": story.deliveries,
        "payments": story.payments,
        "trial_balance": {"accounts": story.accounts, "difference": str(story.difference), "balanced": story.balanced},
    }
