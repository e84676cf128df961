"""A living community: people who know each other, lend to each other, and mostly pay back.

Dates are counted back from the tenant's business date of today, so that the community is alive whenever it is planted;
everything else is the same each time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from tallystick.domains.community.communities import Community
from tallystick.domains.community.governance import MemberRole
from tallystick.domains.identity.users import User, UserRole, UserStatus
from tallystick.domains.lending.calendar import Frequency, add_months
from tallystick.domains.lending.daycount import DayCount
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.servicing import ChargeBasis, LateFee, Servicing
from tallystick.domains.lending.terms import Amortization, InterestCalc, InterestMethod, Terms
from tallystick.money import Money
from tallystick.seeds import LOANS, Planted
from tallystick.seeds.people import FAMILY, FEMALE, MALE
from tallystick.seeds.tenants import asset_of
from tallystick.seeds.users import address

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.session import Session

SLUG, PRODUCT = "neighbours", "neighbour"
MEMBERS, INSTALLMENTS = 24, 6
_LENDERS = range(6)
_BORROWERS = range(6, MEMBERS)
Told = Callable[[int], None]


def product_for(asset: str) -> LoanProduct:
    """Six monthly installments at 12 % a year, with a late fee of 2 % after a week."""
    return LoanProduct(
        code=PRODUCT,
        name="Neighbour loan",
        min_principal=Money.of("50", asset),
        max_principal=Money.of("5000", asset),
        default_rate=Decimal("0.12"),
        default_installments=INSTALLMENTS,
        terms=Terms(
            interest_method=InterestMethod.DECLINING_BALANCE,
            amortization=Amortization.EQUAL_INSTALLMENTS,
            interest_calc=InterestCalc.PER_PERIOD,
            day_count=DayCount.THIRTY_360,
            frequency=Frequency.MONTHS,
        ),
        servicing=Servicing(
            late_fee=LateFee(after_days=7, basis=ChargeBasis.PERCENT_OF_OVERDUE, percent=Decimal("0.02"))
        ),
    )


async def plant(db: Session, told: Told | None = None) -> Planted:
    """Plant members, trust, endorsements and loans, unless the community is there already."""
    slug = db.tenant.slug
    if await db.communities.by_slug(SLUG) is not None:
        return Planted(seed="community", tenant=slug, added=0, present=MEMBERS + LOANS)
    draw = random.Random(f"community {slug}")  # noqa: S311  made-up data, not a secret
    people = await _people(db, draw)
    community = await _community(db, people, draw)
    known = await db.products.find(LoanProduct.code == PRODUCT)
    product = known[0] if known else await db.products.add(product_for(asset_of(slug)))
    for number in range(LOANS):
        await _loan(db, community.id, product, people, number, draw)
        if told is not None:
            told(1)
    return Planted(seed="community", tenant=slug, added=MEMBERS + LOANS, present=0)


async def _people(db: Session, draw: random.Random) -> list[User]:
    people = []
    for number in range(MEMBERS):
        first, last = draw.choice(FEMALE if number % 2 else MALE), draw.choice(FAMILY)
        people.append(
            User(
                email=address(first, f"{last}{number}", db.tenant.slug),
                first_name=first,
                last_name=last,
                role=UserRole.LENDER if number in _LENDERS else UserRole.BORROWER,
                status=UserStatus.ACTIVE,
                is_verified=True,
            )
        )
    return await db.users.add_many(people)


async def _community(db: Session, people: list[User], draw: random.Random) -> Community:
    asset = asset_of(db.tenant.slug)
    made = await db.communities.create(
        Community(name="The Neighbours", slug=SLUG, asset=asset, max_loan_amount=Money.of("3000", asset)),
        founder=people[0],
    )
    await db.communities.activate(made.id)
    for person in people[1:]:
        await db.communities.invite(made.id, person)
        await db.communities.join(made.id, person)
    await db.communities.set_role(made.id, people[1], MemberRole.TREASURER)
    since = db.today() - timedelta(days=400)
    for one in people:
        for other in draw.sample([p for p in people if p is not one], 4):
            await db.trust.connect(one, other, draw.randint(1, 10), community=made.id, on=since)
    for number in _BORROWERS:
        lender = people[draw.choice(_LENDERS)]
        stake = Money.of(str(draw.choice((10, 20, 50))), asset)
        await db.endorsements.endorse(
            lender, people[number], community=made.id, stake=stake, on=since, key=f"seed endorsement {number}"
        )
    return made


async def _loan(  # noqa: PLR0917
    db: Session, community: UUID, product: LoanProduct, people: list[User], number: int, draw: random.Random
) -> None:
    """One loan of the community; how it goes depends on its number."""
    borrower = people[_BORROWERS[number % len(_BORROWERS)]]
    amount = Money.of(str(draw.randrange(200, 2000, 50)), product.asset)
    begun = add_months(db.today(), -(1 + number % 9)) - timedelta(days=draw.randint(0, 20))
    key = f"seed loan {number}"
    loan = await db.loans.request(
        product=product, borrower=borrower, principal=amount, community=community, on=begun, key=key
    )
    await db.loans.open_funding(loan, on=begun, key=key)
    halves = amount.split(2)
    await db.loans.fund(loan, people[number % 6], halves[0], on=begun, key=f"{key} first")
    if number == 0:
        return
    await db.loans.fund(loan, people[(number + 3) % 6], halves[1], on=begun, key=f"{key} second")
    await db.loans.approve(loan, on=begun, key=key)
    if number == 1:
        return
    await db.loans.disburse(loan, on=begun, key=key)
    await _repay(db, loan, number, key, draw)
    await db.loans.distribute(loan, on=db.today(), key=key)


async def _repay(db: Session, loan: Loan, number: int, key: str, draw: random.Random) -> None:
    """Most pay on the day, some a few days late, every seventh stops after two installments."""
    stops = 2 if number % 7 == 6 else INSTALLMENTS
    paid: date | None = None
    for i in (await db.loans.schedule(loan))[:stops]:
        late = draw.choice((0, 0, 0, 0, 4, 12))
        paid = i.due + timedelta(days=late)
        if paid > db.today():
            return
        if late > 7:
            await db.loans.charge_late_fees(loan, on=paid, key=f"{key} fee {i.seq}")
        owed = (await db.loans.schedule(loan))[i.seq - 1].outstanding
        await db.loans.repay(loan, owed, on=paid, key=f"{key} payment {i.seq}")
    current = await db.loans.get(loan.id)
    if number == 13 and current.outstanding:
        await db.loans.write_off(loan, on=db.today(), key=f"{key} loss", reason="moved away")
