"""Random histories of loans: undoing something leaves what was there before it, and refusals leave everything."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from tests.lending.support import DAY, audit, product

from tallystick import Conflict, Invalid
from tallystick.domains.identity.users import User, UserStatus
from tallystick.domains.lending.allocation import Outcome
from tallystick.domains.lending.book import opened
from tallystick.domains.lending.calendar import Frequency
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.servicing import (
    DEFAULT_ORDER,
    NOT_YET_DUE,
    AllocationStyle,
    ChargeKind,
    Component,
    FutureAllocation,
    Servicing,
)
from tallystick.domains.lending.transactions import TransactionKind
from tallystick.money import usd
from tallystick.session import Session

K = TransactionKind
PAYMENTS = (K.REPAYMENT, K.DOWN_PAYMENT, K.GOODWILL)


class Life:
    """A loan to which things happen at random."""

    def __init__(self, db: Session, chance: Random) -> None:
        self.db, self.chance = db, chance
        self.loan: Loan
        self.day = DAY

    async def begin(self) -> None:
        chance = self.chance
        made = await self._product()
        borrower = await self.db.users.add(User(status=UserStatus.ACTIVE))
        self.loan = await self.db.loans.request(
            product=made, borrower=borrower, principal=usd("3000"), on=DAY, key=None
        )
        await self.db.loans.approve(self.loan, on=DAY, key=None)
        await self.db.loans.disburse(self.loan, usd(chance.choice(["900", "1000.01", "1200"])), on=DAY, key=None)

    async def _product(self) -> LoanProduct:
        chance = self.chance
        servicing = Servicing(
            allocation_order=DEFAULT_ORDER + chance.choice([(), NOT_YET_DUE]),
            allocation_style=chance.choice(list(AllocationStyle)),
            future_allocation=chance.choice(list(FutureAllocation)),
            goodwill_allocation=chance.choice([None, *FutureAllocation]),
            auto_down_payment=chance.choice([False, True]),
        )
        return await product(
            self.db,
            servicing=servicing,
            rate=Decimal(chance.choice(["0", "0.12"])),
            installments=chance.choice([3, 4]),
            frequency=Frequency.DAYS,
            every=10,
            down_payment=chance.choice([None, Decimal("0.25")]),
        )

    async def step(self) -> Any:
        """Let something happen, on this day or, where it can be, before it."""
        chance, loans = self.chance, self.db.loans
        self.day += timedelta(days=chance.choice([0, 0, 1, 2, 4]))
        on, back = self.day, max(DAY, self.day - timedelta(days=chance.choice([0, 0, 3, 9])))
        amount = usd(str(Decimal(chance.randint(1, 60_000)) / 100))
        what = chance.choices(
            ["repay", "goodwill", "charge", "waive", "refund", "chargeback", "undo", "tranche", "plan"],
            [8, 2, 4, 1, 2, 2, 3, 1, 1],
        )[0]
        if what == "repay":
            return await loans.repay(self.loan, amount, on=back, key=None)
        if what == "goodwill":
            return await loans.goodwill(self.loan, amount, on=back, key=None)
        if what == "charge":
            kind = chance.choice([ChargeKind.FEE, ChargeKind.PENALTY])
            due = back + timedelta(days=chance.choice([0, 0, 5, 20]))
            return await loans.charge(self.loan, kind, usd("7.50"), code="any", due=due, on=on, key=None)
        if what == "waive":
            wanted = [Component.PENALTY, Component.INTEREST]
            return await loans.waive(self.loan, usd("5"), wanted, on=on, key=None)
        if what == "refund":
            return await loans.refund(self.loan, on=on, key=None)
        if what == "tranche":
            return await loans.disburse(self.loan, usd("150"), on=back, key=None)
        if what == "plan":
            return await self.plan(on)
        paid = [t for t in await loans.transactions(self.loan) if t.kind in PAYMENTS]
        if not paid:
            return None
        if what == "undo":
            return await loans.reverse(chance.choice(paid), on=on, key=None)
        return await loans.chargeback(chance.choice(paid), usd("10"), on=on, key=None)

    async def plan(self, on: date) -> Any:
        loans = self.db.loans
        if self.chance.random() < 0.5:
            return await loans.reamortize(self.loan, on=on, key=None)
        last = max(i.due for i in await loans.schedule(self.loan))
        first = max(last, on) + timedelta(days=10)
        return await loans.reage(self.loan, first_due=first, installments=3, on=on, key=None)

    async def state(self) -> tuple[Any, ...]:
        """What is owed, row by row, and where every payment is."""
        loan = await self.db.loans.get(self.loan.id)
        rows = [
            tuple(getattr(i, f) for f in LoanInstallment.__struct_fields__ if f not in ("version", "updated_at"))
            for i in await self.db.loans.schedule(loan)
        ]
        async with self.db.transaction():
            recorded = await (await opened(self.db, loan.id)).recorded()
        return (
            loan.status,
            loan.outstanding,
            loan.overpaid,
            loan.oldest_due,
            loan.closed_on,
            rows,
            {id: o.minus(Outcome()) for id, o in recorded.items() if o},
        )


@pytest.mark.parametrize("seed", range(16))
async def test_undo_restores(db: Session, seed: int) -> None:
    life = Life(db, Random(seed))
    await life.begin()
    for _ in range(14):
        before = await life.state()
        try:
            await life.step()
        except (Conflict, Invalid):
            assert await life.state() == before
            continue
        before = await life.state()
        made = await db.loans.transactions(life.loan)
        since = max(t.effective for t in made if t.kind in (K.RESTRUCTURE, K.DISBURSEMENT))
        on = max(since, life.day - timedelta(days=life.chance.choice([0, 2, 8])))
        try:
            paid = await life.db.loans.repay(life.loan, usd("123.45"), on=on, key=None)
        except Conflict:
            assert await life.state() == before
            continue
        await db.loans.reverse(paid, on=max(on, life.day), key=None)
        after = await life.state()
        assert after[:5] == before[:5]
        assert after[5:] == before[5:]
    await audit(db)
    assert (await db.loans.get(life.loan.id)).status in (LoanStatus.ACTIVE, LoanStatus.CLOSED, LoanStatus.OVERPAID)
