"""Sixteen callers at one loan, twenty times over: one right answer each, and books that say what its rows say."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from tests.community.support import circle
from tests.lending.money import agree
from tests.lending.support import DAY, active, product
from tests.soak import REPEATS

from tallystick import (
    Conflict,
    Denied,
    Duplicate,
    Invalid,
    InvalidTransition,
    KeyReused,
    Money,
    QuotaExceeded,
    Tallystick,
    User,
    UserStatus,
    usd,
)
from tallystick.domains.idempotency import CommandKey
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.lending.books import Own, own_id
from tallystick.domains.lending.fundings import LoanFunding
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.receipts import LoanReceipt
from tallystick.domains.lending.servicing import ChargeKind, LateFee, Overpayment, Servicing
from tallystick.domains.lending.transactions import LoanCharge, LoanTransaction, TransactionKind
from tallystick.session import Session
from tallystick.testing import Make, Race

N = 16
K = TransactionKind
FEB, MARCH = date(2026, 2, 1), date(2026, 3, 1)


async def lent(db: Session, principal: str = "1000", **given: Any) -> Loan:
    return await active(db, await product(db, **given), principal)


async def approved(db: Session, principal: str = "1000") -> Loan:
    borrower = await db.users.add(User(status=UserStatus.ACTIVE))
    loan = await db.loans.request(
        product=await product(db), borrower=borrower, principal=usd(principal), on=DAY, key=None
    )
    return await db.loans.approve(loan, on=DAY, key=None)


async def kinds(db: Session, loan: Loan) -> list[TransactionKind]:
    return [t.kind for t in await db.loans.transactions(loan)]


@pytest.mark.parametrize("_", REPEATS)
async def test_a_loan_is_paid_out_once(race: Race, db: Session, _: int):
    loan = await approved(db)
    result = await race(N, lambda s, i: s.loans.disburse(loan, on=DAY, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert await kinds(db, loan) == [K.DISBURSEMENT]
    assert len(await db.loans.schedule(loan)) == 3
    assert await db[CommandKey].count() == 1
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_tranches_stop_at_what_was_approved(race: Race, db: Session, _: int):
    loan = await approved(db)
    result = await race(N, lambda s, i: s.loans.disburse(loan, usd("150"), on=DAY, key=f"k{i}"))
    assert result.winners == 6
    assert result.kinds == {Invalid}
    found = await db.loans.get(loan.id)
    assert (found.disbursed, found.outstanding) == (usd("900"), usd("900"))
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_key_is_one_payment(race: Race, db: Session, _: int):
    loan = await lent(db)
    result = await race(N, lambda s: s.loans.repay(loan, usd("100"), on=FEB, key="once"))
    assert result.errors == []
    assert len({r.id for r in result.results}) == 1
    assert sum(not r.replayed for r in result.results) == 1
    assert (await db.loans.get(loan.id)).outstanding == usd("900")
    assert await kinds(db, loan) == [K.DISBURSEMENT, K.REPAYMENT]
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_one_key_with_two_requests_is_refused(race: Race, db: Session, _: int):
    loan = await lent(db)
    result = await race(N, lambda s, i: s.loans.repay(loan, usd("100") if i % 2 else usd("101"), on=FEB, key="once"))
    assert result.winners == N // 2
    assert result.kinds == {KeyReused}
    assert len({r.id for r in result.results}) == 1
    assert (await db.loans.transactions(loan))[-1].amount == result.results[0].transaction.amount
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_provider_names_a_payment_once(race: Race, db: Session, _: int):
    loan = await lent(db)
    result = await race(N, lambda s, i: s.loans.repay(loan, usd("100"), on=FEB, key=f"k{i}", external_id="provider-17"))
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    assert (await db.loans.get(loan.id)).outstanding == usd("900")
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_sixteen_payments_of_the_rest_pay_it_once_and_keep_the_others(race: Race, db: Session, _: int):
    loan = await lent(db)
    await db.loans.repay(loan, usd("900"), on=FEB, key=None)
    result = await race(N, lambda s, i: s.loans.repay(loan, usd("100"), on=FEB, key=f"k{i}"))
    assert result.errors == []
    found = await db.loans.get(loan.id)
    assert (found.status, found.outstanding, found.overpaid) == (LoanStatus.OVERPAID, usd("0"), usd("1500"))
    assert sorted(r.transaction.overpaid.units for r in result.results) == [0] + [10_000] * 15
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_product_that_takes_no_more_than_is_owed_takes_the_rest_once(race: Race, db: Session, _: int):
    loan = await lent(db, servicing=Servicing(overpayment=Overpayment.REFUSE))
    await db.loans.repay(loan, usd("900"), on=FEB, key=None)
    result = await race(N, lambda s, i: s.loans.repay(loan, usd("60"), on=FEB, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Invalid}
    assert (await db.loans.get(loan.id)).outstanding == usd("40")
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_loan_is_paid_off_once(race: Race, db: Session, _: int):
    loan = await lent(db, rate=Decimal("0.12"))
    result = await race(N, lambda s, i: s.loans.pay_off(loan, on=date(2026, 2, 10), key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert await kinds(db, loan) == [K.DISBURSEMENT, K.WAIVER, K.REPAYMENT]
    assert (await db.loans.get(loan.id)).status is LoanStatus.CLOSED
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_payments_that_are_dated_back_in_any_order_end_in_one_place(race: Race, db: Session, _: int):
    loan = await lent(db, rate=Decimal("0.12"))
    days = [date(2026, 1, 1 + i) for i in range(N)]
    result = await race(N, lambda s, i: s.loans.repay(loan, usd("70"), on=days[i * 7 % N], key=f"k{i}"))
    assert result.errors == []
    found = await db.loans.get(loan.id)
    assert found.overpaid == usd("1120") - sum((i.total for i in await db.loans.schedule(loan)), usd("0"))
    # The last by date has what was too much, whoever came last.
    by_day = {t.effective: t for t in await db.loans.transactions(loan) if t.kind is K.REPAYMENT}
    too_much = {day: sum(a.overpaid.units for a in await db.loans.allocations(t)) for day, t in sorted(by_day.items())}
    full, rest = divmod(found.overpaid.units, 7_000)
    assert list(too_much.values()) == [0] * (N - full - 1) + [rest] + [7_000] * full
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_payment_is_before_the_write_off_or_refused(race: Race, db: Session, _: int):
    loan = await lent(db)

    async def act(s: Session, i: int) -> LoanReceipt:
        if i % 8 == 3:
            return await s.loans.write_off(loan, on=FEB, key=f"k{i}")
        return await s.loans.repay(loan, usd("10"), on=FEB, key=f"k{i}")

    result = await race(N, act)
    assert result.kinds <= {Conflict}
    found = await db.loans.get(loan.id)
    assert (found.status, found.outstanding) == (LoanStatus.WRITTEN_OFF, usd("0"))
    (lost,) = [t for t in await db.loans.transactions(loan) if t.kind is K.WRITE_OFF]
    paid = [t for t in await db.loans.transactions(loan) if t.kind is K.REPAYMENT]
    assert all(t.seq < lost.seq for t in paid)
    assert lost.amount == usd("1000") - usd("10") * len(paid)
    assert result.winners == len(paid) + 1
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_payments_go_to_the_schedule_that_is_in_force(race: Race, db: Session, _: int):
    loan = await lent(db, rate=Decimal("0.12"))

    async def act(s: Session, i: int) -> LoanReceipt:
        if i % 8 == 3:
            return await s.loans.reschedule(loan, installments=4 + i, on=FEB, key=f"k{i}")
        return await s.loans.repay(loan, usd("20"), on=FEB, key=f"k{i}")

    result = await race(N, act)
    assert result.errors == []
    found = await db.loans.get(loan.id)
    rows = await db.loans.schedule(loan)
    assert found.principal_outstanding == usd("1000") - sum((i.principal_paid for i in rows), usd("0"))
    assert len({i.schedule.id for i in rows}) == 1
    assert sum((i.total for i in rows), usd("0")) - found.outstanding == usd("280")
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_loan_is_never_funded_beyond_itself(race: Race, db: Session, _: int):
    lenders = [await db.users.add(User(status=UserStatus.ACTIVE)) for _ in range(N + 1)]
    loan = await db.loans.request(
        product=await product(db), borrower=lenders[N], principal=usd("1000"), on=DAY, key=None
    )
    await db.loans.open_funding(loan, on=DAY, key=None)
    result = await race(N, lambda s, i: s.loans.fund(loan, lenders[i], usd("300"), on=DAY, key=f"k{i}"))
    assert result.winners == 3
    assert result.kinds == {Conflict}
    assert (await db.loans.get(loan.id)).funded == usd("900")
    assert await db[LoanFunding].count() == 3
    assert await db.ledger.balance(own_id(loan.id, Own.LENDERS)) == usd("900")
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_lenders_have_their_money_back_or_the_loan_goes_on_and_never_both(race: Race, db: Session, _: int):
    lenders = [await db.users.add(User(status=UserStatus.ACTIVE)) for _ in range(2)]
    loan = await db.loans.request(
        product=await product(db), borrower=lenders[1], principal=usd("1000"), on=DAY, key=None
    )
    await db.loans.open_funding(loan, on=DAY, key=None)
    await db.loans.fund(loan, lenders[0], usd("1000"), on=DAY, key=None)

    async def decide(s: Session, i: int) -> Loan:
        if i % 2:
            return await s.loans.expire(loan, on=DAY, key=f"k{i}")
        return await s.loans.approve(loan, on=DAY, key=f"k{i}")

    result = await race(N, decide)
    assert result.winners == 1
    assert result.kinds <= {InvalidTransition, Conflict}
    found = await db.loans.get(loan.id)
    kept = found.status is LoanStatus.APPROVED
    assert found.funded == (usd("1000") if kept else usd("0"))
    assert await db.ledger.balance(own_id(loan.id, Own.LENDERS)) == found.funded
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_lenders_are_paid_what_came_in_once(race: Race, db: Session, _: int):
    borrower, *lenders = [await db.users.add(User(status=UserStatus.ACTIVE)) for _ in range(4)]
    what = await product(db, rate=Decimal("0.12"), servicing=Servicing(lenders_interest=Decimal("0.9")))
    loan = await db.loans.request(product=what, borrower=borrower, principal=usd("1000"), on=DAY, key=None)
    await db.loans.open_funding(loan, on=DAY, key=None)
    for lender, part in zip(lenders, ("333.33", "333.33", "333.34"), strict=True):
        await db.loans.fund(loan, lender, usd(part), on=DAY, key=None)
    await db.loans.approve(loan, on=DAY, key=None)
    await db.loans.disburse(loan, on=DAY, key=None)
    await db.loans.repay(loan, usd("500"), on=FEB, key=None)

    async def act(s: Session, i: int) -> Any:
        if i % 4 == 3:
            return await s.loans.repay(loan, usd("25"), on=MARCH, key=f"k{i}")
        return await s.loans.distribute(loan, on=MARCH, key=f"k{i}")

    result = await race(N, act)
    assert result.errors == []
    await db.loans.distribute(loan, on=MARCH, key=None)
    rows = await db.loans.schedule(loan)
    payouts = await db.loans.payouts(loan)
    assert sum((p.principal for p in payouts), usd("0")) == sum((i.principal_paid for i in rows), usd("0"))
    assert sum((i.principal_paid + i.interest_paid for i in rows), usd("0")) == usd("600")
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_payout_on_its_way_is_resolved_once(race: Race, db: Session, _: int):
    loan = await approved(db)
    await db.loans.begin_disbursement(loan, usd("600"), on=DAY, key=None)

    async def resolve(s: Session, i: int) -> Any:
        if i % 2:
            return await s.loans.fail_disbursement(loan, on=DAY, key=f"k{i}")
        return await s.loans.confirm_disbursement(loan, on=DAY, key=f"k{i}")

    result = await race(N, resolve)
    assert result.winners == 1
    assert result.kinds == {Conflict}
    found = await db.loans.get(loan.id)
    paid = isinstance(result.results[0], LoanReceipt)
    assert (found.status, found.disbursed) == (
        (LoanStatus.ACTIVE, usd("600")) if paid else (LoanStatus.APPROVED, usd("0"))
    )
    held = await db.ledger.balances(own_id(loan.id, Own.PRINCIPAL))
    assert (held.debits_pending, held.net) == (usd("0"), usd("600" if paid else "0"))
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_payout_is_begun_once(race: Race, db: Session, _: int):
    loan = await approved(db)

    async def act(s: Session, i: int) -> Any:
        if i % 3 == 2:
            return await s.loans.cancel(loan, reason="changed", on=DAY, key=f"k{i}")
        if i % 3:
            return await s.loans.disburse(loan, on=DAY, key=f"k{i}")
        return await s.loans.begin_disbursement(loan, on=DAY, key=f"k{i}")

    result = await race(N, act)
    assert result.winners == 1
    assert result.kinds <= {Conflict, InvalidTransition}
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_what_was_paid_too_much_is_refunded_once(race: Race, db: Session, _: int):
    loan = await lent(db)
    await db.loans.repay(loan, usd("1045"), on=FEB, key=None)
    result = await race(N, lambda s, i: s.loans.refund(loan, usd("10"), on=FEB, key=f"k{i}"))
    assert result.winners == 4
    assert result.kinds == {Invalid}
    found = await db.loans.get(loan.id)
    assert (found.status, found.overpaid) == (LoanStatus.OVERPAID, usd("5"))
    result = await race(N, lambda s, i: s.loans.refund(loan, on=FEB, key=f"all{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert (await db.loans.get(loan.id)).status is LoanStatus.CLOSED
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_payment_is_reversed_once(race: Race, db: Session, _: int):
    loan = await lent(db)
    paid = await db.loans.repay(loan, usd("100"), on=FEB, key=None)
    await db.loans.repay(loan, usd("500"), on=MARCH, key=None)
    result = await race(N, lambda s, i: s.loans.reverse(paid, on=MARCH, key=f"k{i}"))
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert (await db.loans.get(loan.id)).outstanding == usd("500")
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_all_payments_are_reversed_by_all(race: Race, db: Session, _: int):
    loan = await lent(db, rate=Decimal("0.12"))
    paid = [
        await db.loans.repay(loan, usd("75") + Money(n, "USD"), on=date(2026, 2, 1 + n), key=None) for n in range(4)
    ]
    result = await race(N, lambda s, i: s.loans.reverse(paid[i % 4], on=MARCH, key=f"k{i}"))
    assert result.winners == 4
    assert result.kinds == {Conflict}
    found = await db.loans.get(loan.id)
    assert (found.outstanding, found.overpaid) == (loan.outstanding, usd("0"))
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_nothing_is_dated_into_a_period_once_it_has_closed(race: Race, db: Session, _: int):
    loan = await lent(db, rate=Decimal("0.12"))
    first = await db.loans.repay(loan, usd("40"), on=FEB, key=None)
    period = await db.ledger.periods.open(FEB, date(2026, 2, 28))
    closed_at: list[Money] = []

    async def act(s: Session, i: int) -> None:
        if i == 0:
            await s.ledger.periods.close(period.id)
            closed_at.append(await s.ledger.balance(own_id(loan.id, Own.PRINCIPAL), date(2026, 2, 28)))
        elif i == 1:
            await s.loans.reverse(first, on=FEB, key="undo")
        else:
            await s.loans.repay(loan, usd("10"), on=date(2026, 2, i), key=f"{i}")

    result = await race(N, act)
    assert result.kinds <= {Conflict}
    assert all("closing or closed" in str(e) for e in result.errors)
    assert closed_at == [await db.ledger.balance(own_id(loan.id, Own.PRINCIPAL), date(2026, 2, 28))]
    late = await db.loans.repay(loan, usd("10"), on=MARCH, key=None)
    assert late.transaction.effective == MARCH
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_chargeback_takes_what_no_refund_has_given_back(race: Race, db: Session, _: int):
    loan = await lent(db)
    paid = await db.loans.repay(loan, usd("1100"), on=FEB, key=None)

    async def act(s: Session, i: int) -> LoanReceipt:
        if i % 2:
            return await s.loans.refund(loan, usd("100"), on=FEB, key=f"k{i}")
        return await s.loans.chargeback(paid, usd("400"), on=FEB, key=f"k{i}")

    result = await race(N, act)
    done = [r.transaction.kind for r in result.results]
    # 1100 were paid, so two chargebacks of 400 fit; a refund only before the first of them.
    assert done.count(K.CHARGEBACK) == 2
    refunds = done.count(K.REFUND)
    assert refunds <= 1
    assert result.kinds <= {Conflict, Invalid}
    found = await db.loans.get(loan.id)
    assert (found.outstanding, found.overpaid) == (usd("800") if refunds else usd("700"), usd("0"))
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_payment_is_charged_back_or_reversed_and_never_both(race: Race, db: Session, _: int):
    loan = await lent(db)
    paid = await db.loans.repay(loan, usd("400"), on=FEB, key=None)

    async def act(s: Session, i: int) -> LoanReceipt:
        if i % 2:
            return await s.loans.reverse(paid, on=FEB, key=f"k{i}")
        return await s.loans.chargeback(paid, on=FEB, key=f"k{i}")

    result = await race(N, act)
    assert result.winners == 1
    assert result.kinds == {Conflict}
    assert (await db.loans.get(loan.id)).outstanding == usd("1000")
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_numbers_of_loans_are_given_once_and_those_of_failed_requests_again(race: Race, db: Session, _: int):
    what = await product(db)
    borrower = await db.users.add(User(status=UserStatus.ACTIVE))

    async def ask(s: Session, i: int) -> Loan:
        async with s.transaction():
            made = await s.loans.request(product=what, borrower=borrower, principal=usd("10"), on=DAY, key=f"k{i}")
            if i % 4 == 1:
                raise Conflict("changed their mind")
            return made

    result = await race(N, ask)
    assert result.winners == 12
    assert sorted(r.number for r in result.results) == list(range(1, 13))

    async def same(s: Session) -> Loan:
        return await s.loans.request(product=what, borrower=borrower, principal=usd("10"), on=DAY, key="one")

    again = await race(N, same)
    assert {r.number for r in again.results} == {13}
    assert again.errors == []


@pytest.mark.parametrize("_", REPEATS)
async def test_an_installment_has_one_late_fee(race: Race, db: Session, _: int):
    loan = await lent(db, servicing=Servicing(late_fee=LateFee(after_days=5, amount=Decimal(15))))
    result = await race(N, lambda s, i: s.loans.charge_late_fees(loan, on=date(2026, 3, 20), key=f"k{i}"))
    assert result.errors == []
    assert sorted(len(r) for r in result.results) == [0] * 15 + [2]
    found = await db.loans.get(loan.id)
    assert found.penalties_outstanding == usd("30")
    assert await db[LoanCharge].count() == 2
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_charges_of_all_are_owed(race: Race, db: Session, _: int):
    loan = await lent(db)

    async def act(s: Session, i: int) -> Any:
        if i % 2:
            return await s.loans.repay(loan, usd("60"), on=FEB, key=f"k{i}")
        return await s.loans.charge(loan, ChargeKind.FEE, usd("3"), code="visit", due=FEB, key=f"k{i}")

    result = await race(N, act)
    assert result.errors == []
    found = await db.loans.get(loan.id)
    assert found.outstanding == usd("1000") + usd("24") - usd("480")
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_a_loan_is_charged_off_once_and_paid_beside_it(race: Race, db: Session, _: int):
    loan = await lent(db, rate=Decimal("0.12"))

    async def act(s: Session, i: int) -> LoanReceipt:
        if i % 4 == 1:
            return await s.loans.charge_off(loan, on=FEB, key=f"k{i}")
        return await s.loans.repay(loan, usd("20"), on=FEB, key=f"k{i}")

    result = await race(N, act)
    assert result.winners == 13
    assert result.kinds == {Conflict}
    assert (await kinds(db, loan)).count(K.CHARGE_OFF) == 1
    await agree(db)
    off = next(t for t in await db.loans.transactions(loan) if t.kind is K.CHARGE_OFF)
    back = await race(N, lambda s, i: s.loans.reverse(off, on=FEB, key=f"back{i}"))
    assert back.winners == 1
    assert back.kinds == {Conflict}
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_no_more_is_recovered_than_was_lost(race: Race, db: Session, _: int):
    loan = await lent(db)
    await db.loans.write_off(loan, on=FEB, key=None)
    result = await race(N, lambda s, i: s.loans.recover(loan, usd("300"), on=MARCH, key=f"k{i}"))
    assert result.winners == 3
    assert result.kinds == {Invalid}
    await agree(db)


@pytest.mark.parametrize("_", REPEATS)
async def test_applications_stop_at_the_quota(race: Race, db: Session, tally: Tallystick, _: int):
    """A loan uses what its product's gates use; the tenant's own quota is counted in the same transaction."""
    await tally.tenants.update(db, max_applications_per_month=5)
    what = await product(db)
    borrower = await db.users.add(User(status=UserStatus.ACTIVE))

    async def ask(s: Session, i: int) -> Loan:
        async with s.transaction():
            made = await s.loans.request(product=what, borrower=borrower, principal=usd("10"), on=DAY, key=f"k{i}")
            await s.consume("applications")
            return made

    result = await race(N, ask)
    assert result.winners == 5
    assert result.kinds == {QuotaExceeded}
    assert sorted(one.number for one in await db.loans.find()) == [1, 2, 3, 4, 5]
    assert await db[CommandKey].count() == 5


@pytest.mark.parametrize("_", REPEATS)
async def test_who_is_banned_does_not_borrow_afterwards(race: Race, db: Session, make: Make, _: int):
    club, _admin, (bob,) = await circle(db, make, 1)
    what = await product(db)
    banned: list[int] = []

    async def act(s: Session, i: int) -> Any:
        if i == 0:
            await s.communities.ban(club.id, bob)
            banned.append(await s.loans.count())
            return None
        return await s.loans.request(
            product=what, borrower=bob, principal=usd("10"), community=club.id, on=DAY, key=f"k{i}"
        )

    result = await race(N, act)
    assert result.kinds <= {Denied}
    assert banned == [await db.loans.count()]
    assert result.winners - 1 == banned[0]


@pytest.mark.parametrize("_", REPEATS)
async def test_everything_at_once_on_one_loan_and_on_its_neighbour(race: Race, db: Session, _: int):
    what = await product(
        db, rate=Decimal("0.12"), servicing=Servicing(late_fee=LateFee(after_days=5, amount=Decimal(9)))
    )
    loans = [await active(db, what), await active(db, what)]
    paid = [await db.loans.repay(one, usd("90"), on=FEB, key=None) for one in loans]

    async def act(s: Session, i: int) -> Any:
        one, other = loans[i % 2], paid[i % 2]
        match i // 2:
            case 0:
                return await s.loans.repay(one, usd("100"), on=MARCH, key=f"k{i}")
            case 1:
                return await s.loans.repay(one, usd("33"), on=date(2026, 1, 20), key=f"k{i}")
            case 2:
                return await s.loans.reverse(other, on=MARCH, key=f"k{i}")
            case 3:
                return await s.loans.charge_late_fees(one, on=MARCH, key=f"k{i}")
            case 4:
                return await s.loans.reamortize(one, on=MARCH, key=f"k{i}")
            case 5:
                return await s.loans.goodwill(one, usd("12"), on=MARCH, key=f"k{i}")
            case 6:
                return await s.loans.chargeback(other, usd("50"), on=MARCH, key=f"k{i}")
            case _:
                return await s.loans.pay_off(one, on=MARCH, key=f"k{i}")

    result = await race(N, act)
    assert result.kinds <= {Conflict, Invalid}
    await agree(db)
    assert await db[Journal].count() >= 2
    assert await db[LoanTransaction].count() >= 6
