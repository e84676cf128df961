"""Recipes that come with the kit: ``await make.active_loan(outstanding=usd("100"))``."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tallystick.testing.factories import Make, recipe

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.domains.identity.users import User
    from tallystick.domains.lending.loans import Loan
    from tallystick.domains.lending.products import LoanProduct
    from tallystick.fields import Ref
    from tallystick.money import Money

PAID_OUT = date(2020, 1, 1)
"""When a loan of a recipe was paid out: long ago, so that a payment of any day fits."""


@recipe
async def loan_product(make: Make, **given: Any) -> LoanProduct:
    """A product of monthly equal installments without interest, unless what is given says otherwise."""
    from tallystick.domains.lending.calendar import Frequency
    from tallystick.domains.lending.daycount import DayCount
    from tallystick.domains.lending.products import LoanProduct
    from tallystick.domains.lending.terms import Amortization, InterestCalc, InterestMethod, Terms
    from tallystick.ids import uuid7
    from tallystick.money import Money

    asset = given.pop("asset", "USD")
    plain = Terms(
        interest_method=InterestMethod.DECLINING_BALANCE,
        amortization=Amortization.EQUAL_INSTALLMENTS,
        interest_calc=InterestCalc.PER_PERIOD,
        day_count=DayCount.THIRTY_360,
        frequency=Frequency.MONTHS,
    )
    fields: dict[str, Any] = {
        "code": f"plain-{uuid7()}",
        "name": "Plain loan",
        "min_principal": Money(1, asset),
        "max_principal": Money(10**15, asset),
        "default_rate": Decimal(0),
        "default_installments": 3,
        "terms": plain,
    }
    return await make.db.products.add(LoanProduct(**fields | given))


@recipe
async def active_loan(
    make: Make,
    *,
    outstanding: Money,
    product: LoanProduct | None = None,
    borrower: User | Ref[User] | UUID | None = None,
    annual_rate: Decimal | None = None,
    installments: int | None = None,
    on: date = PAID_OUT,
) -> Loan:
    """A loan that was asked for, approved and paid out, and of which nothing was repaid.

    ``outstanding`` is its principal, which is all that is outstanding where it bears no interest.
    """
    from tallystick.domains.identity.users import User, UserStatus

    db = make.db
    loan = await db.loans.request(
        product=product or await loan_product(make, asset=outstanding.asset),
        borrower=borrower or await make(User, status=UserStatus.ACTIVE),
        principal=outstanding,
        annual_rate=annual_rate,
        installments=installments,
        on=on,
        key=None,
    )
    await db.loans.approve(loan, on=on, key=None)
    return (await db.loans.disburse(loan, on=on, key=None)).loan
