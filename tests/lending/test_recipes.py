"""The tour's test: a payment counts once, whoever delivers it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from tests.lending.support import audit

from tallystick import usd
from tallystick.session import Session
from tallystick.testing import Make, Race

DAY = date(2026, 3, 2)


async def test_a_payment_counts_once(db: Session, make: Make, race: Race) -> None:
    loan = await make.active_loan(outstanding=usd("100"))
    await race(16, lambda s: s.loans.repay(loan.id, usd("10"), on=DAY, key="k"))
    assert (await db.loans.get(loan.id)).outstanding == usd("90")
    await audit(db)


async def test_a_recipe_takes_terms(db: Session, make: Make) -> None:
    product = await make.loan_product(default_rate=Decimal("0.12"), asset="KES")
    loan = await make.active_loan(outstanding=product.max_principal, product=product, installments=2, on=DAY)
    assert loan.outstanding > loan.principal_outstanding == product.max_principal
    assert [i.due for i in await db.loans.schedule(loan)] == [date(2026, 4, 2), date(2026, 5, 2)]
