"""The tour, 6: money. Disburse, and take a payment that may be delivered twice."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from _scratch import run
from tallystick import (
    Amortization,
    DayCount,
    Frequency,
    InterestCalc,
    InterestMethod,
    LoanProduct,
    Tallystick,
    Terms,
    User,
    usd,
)

MICRO = LoanProduct(
    code="micro",
    name="Micro loan",
    min_principal=usd("50"),
    max_principal=usd("5000"),
    default_rate=Decimal("0.09"),
    default_installments=3,
    terms=Terms(
        interest_method=InterestMethod.DECLINING_BALANCE,
        amortization=Amortization.EQUAL_INSTALLMENTS,
        interest_calc=InterestCalc.PER_PERIOD,
        day_count=DayCount.THIRTY_360,
        frequency=Frequency.MONTHS,
    ),
)
TODAY, VALUE_DATE = date(2026, 11, 2), date(2026, 11, 20)


async def main() -> None:
    async with Tallystick.open(domains=["lending"]) as tally:
        await tally.migrate()
        await tally.tenants.create("sunrise", name="Sunrise Co-op", time_zone="Africa/Lagos")

        async with tally.session("sunrise", actor="user:42", permissions=["loans.decide"]) as db:
            ada = await db.users.add(User(email="ada@example.org", first_name="Ada"))
            micro = await db.products.add(MICRO)
            loan = await db.loans.request(product=micro, borrower=ada, principal=usd("1000"), on=TODAY, key="request 1")
            await db.loans.approve(loan, on=TODAY, key="decision 1")

            paid = await db.loans.disburse(loan.id, on=TODAY, key="payout 1")
            print(f"paid out: {paid.transaction.amount}, outstanding {paid.loan.outstanding}")
            for _ in range(2):
                receipt = await db.loans.repay(loan.id, usd("120.00"), on=VALUE_DATE, key="event 77")
                print(
                    f"paid: {receipt.transaction.amount}, outstanding {receipt.loan.outstanding}, "
                    f"delivered again: {receipt.replayed}"
                )
            print("books in balance:", (await db.ledger.trial_balance()).balanced)


if __name__ == "__main__":
    run(main)
