"""Loans that already live elsewhere: taken over as they stand, or refused before anything is written."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from tallystick import (
    Duplicate,
    Invalid,
    KeyReused,
    Money,
    RoleMissing,
    Session,
    Tallystick,
    TallystickError,
    UnknownReference,
    Unsupported,
    User,
    eur,
    usd,
)
from tallystick.domains.lending.boarding import Boarding, Overdue, Planned, board, board_many
from tallystick.domains.lending.books import Book, Own, book_id, own_id
from tallystick.domains.lending.calendar import Frequency
from tallystick.domains.lending.daycount import DayCount
from tallystick.domains.lending.installments import LoanInstallment, LoanSchedule, ScheduleReason
from tallystick.domains.lending.loans import Loan, LoanStatus, LoanStatusChange
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.terms import Amortization, EmiAdjustment, InterestCalc, InterestMethod, Terms
from tallystick.domains.lending.transactions import LoanAllocation, LoanTransaction, TransactionKind
from tallystick.ids import uuid7
from tallystick.session import SessionContext

TODAY = date(2026, 3, 20)
PAID_OUT = date(2025, 9, 10)
TERMS = Terms(
    interest_method=InterestMethod.DECLINING_BALANCE,
    amortization=Amortization.EQUAL_INSTALLMENTS,
    interest_calc=InterestCalc.PER_PERIOD,
    day_count=DayCount.THIRTY_360,
    frequency=Frequency.MONTHS,
    emi_adjustment=EmiAdjustment.NONE,
)


async def product_of(db: Session, terms: Terms = TERMS, asset: str = "USD") -> LoanProduct:
    return await db[LoanProduct].add(
        LoanProduct(
            code=f"p-{uuid7()}",
            name="Taken over",
            min_principal=Money.of(1, asset),
            max_principal=Money.of(100_000, asset),
            default_rate=Decimal("0.12"),
            default_installments=12,
            terms=terms,
        )
    )


async def borrower_of(db: Session) -> User:
    return await db.users.add(User())


async def given_of(db: Session, **changes: Any) -> Boarding:
    """1,200 paid out half a year ago, half of it repaid, nothing late."""
    product = changes.pop("product", None) or await product_of(db)
    fields = {
        "product": product,
        "borrower": await borrower_of(db),
        "principal": usd("1200"),
        "principal_outstanding": usd("600"),
        "annual_rate": Decimal("0.12"),
        "installments": 12,
        "disbursed_on": PAID_OUT,
        "on": TODAY,
        "next_due": date(2026, 4, 10),
        "installments_left": 6,
        "interest_paid": usd("51.30"),
    }
    return Boarding(**{**fields, **changes})


async def plan_of(db: Session, loan: Loan) -> list[LoanInstallment]:
    found = await db[LoanInstallment].find(LoanInstallment.loan == loan.ref, order=LoanInstallment.seq)
    return list(found)


async def check(db: Session, loans: Sequence[Loan]) -> None:
    """What must hold of every boarded loan, whatever it brought with it."""
    assert (await db.ledger.trial_balance()).balanced
    for loan in loans:
        plan = await plan_of(db, loan)
        (schedule,) = await db[LoanSchedule].find(LoanSchedule.loan == loan.ref)
        assert (schedule.reason, schedule.current, schedule.edition) == (ScheduleReason.BOARDED, True, 1)
        assert loan.boarded
        assert loan.disbursed == loan.principal
        assert sum(i.principal.units for i in plan) == loan.principal.units
        assert loan.outstanding.units == sum(i.outstanding.units for i in plan)
        worth = 0 if loan.charged_off_on else loan.principal_outstanding.units
        assert (await db.ledger.balance(own_id(loan.id, Own.PRINCIPAL))).units == worth
        assert (await db.ledger.balance(own_id(loan.id, Own.OVERPAID))).units == loan.overpaid.units
        dues = [i.due for i in plan]
        assert dues == sorted(dues)
        assert all(i.start <= i.due for i in plan)
        for t in await db[LoanTransaction].find(LoanTransaction.loan == loan.ref):
            if t.kind in (TransactionKind.BOARDING, TransactionKind.WRITE_OFF):
                rows = await db[LoanAllocation].find(LoanAllocation.transaction == t.ref)
                parts = (sum(getattr(r, p).units for r in rows) for p in ("principal", "interest", "fees", "penalties"))
                assert (t.principal.units, t.interest.units, t.fees.units, t.penalties.units) == tuple(parts)
                assert t.overpaid.units == sum(r.overpaid.units for r in rows)


async def test_a_running_loan(db: Session) -> None:
    given = await given_of(db, external_id="old:7", purpose="a roof", details={"branch": 4, "flags": ["moved"]})
    loan = await board(db, given, key=None)
    await check(db, [loan])
    assert (loan.status, loan.number, loan.external_id) == (LoanStatus.ACTIVE, 1, "old:7")
    assert loan.details == {"branch": 4, "flags": ["moved"]}
    assert (loan.principal_outstanding, loan.oldest_due) == (usd("600"), date(2026, 4, 10))
    assert (loan.disbursed_on, loan.matures_on) == (PAID_OUT, date(2026, 9, 10))
    settled, *left = await plan_of(db, loan)
    assert (settled.due, settled.settled_on) == (date(2026, 3, 10), date(2026, 3, 10))
    assert (settled.principal_paid, settled.interest_paid) == (usd("600"), usd("51.30"))
    # 600 at 1 % a month in six: the annuity is 103.53.
    assert [str(i.total) for i in left] == ["103.53 USD"] * 5 + ["103.51 USD"]
    assert [i.due.month for i in left] == [4, 5, 6, 7, 8, 9]
    assert (left[0].principal, left[0].interest) == (usd("97.53"), usd("6.00"))
    kinds = [t.kind for t in await db[LoanTransaction].find(LoanTransaction.loan == loan.ref)]
    assert kinds == [TransactionKind.DISBURSEMENT, TransactionKind.BOARDING]
    opening = await db.ledger.balance(book_id(db, Book.OPENING, "USD"))
    assert opening == usd("600")
    steps = await db[LoanStatusChange].find(LoanStatusChange.loan == loan.ref)
    assert {(s.before, s.after) for s in steps} == {
        (None, LoanStatus.APPROVED),
        (LoanStatus.APPROVED, LoanStatus.ACTIVE),
    }


async def test_a_new_loan_of_which_nothing_was_paid(db: Session) -> None:
    given = await given_of(
        db,
        principal=None,
        principal_outstanding=usd("1200"),
        interest_paid=None,
        disbursed_on=TODAY,
        next_due=date(2026, 4, 20),
        installments_left=12,
    )
    loan = await board(db, given, key=None)
    await check(db, [loan])
    plan = await plan_of(db, loan)
    assert len(plan) == 12
    assert plan[0].start == TODAY
    assert len(await db[LoanTransaction].find(LoanTransaction.loan == loan.ref)) == 1


async def test_the_level_payment_of_the_contract_stays(db: Session) -> None:
    product = await product_of(db)
    many = [await given_of(db, product=product, installment=usd(level)) for level in ("106.62", "90", "350")]
    loans = await board_many(db, many, key=None)
    await check(db, loans)
    same, short, ends_early = [(await plan_of(db, loan))[1:] for loan in loans]
    assert [str(i.total.amount) for i in same] == ["106.62"] * 5 + ["87.60"]
    assert [i.total for i in short[:5]] == [usd("90")] * 5
    assert short[5].total > usd("90")
    assert [str(i.total.amount) for i in ends_early] == ["350.00", "258.56"]


async def test_late_installments_one_by_one(db: Session) -> None:
    loan = await board(db, await given_of(db, next_due=date(2026, 1, 10)), key=None)
    await check(db, [loan])
    plan = await plan_of(db, loan)
    assert loan.oldest_due == date(2026, 1, 10)
    assert [i.due < TODAY for i in plan] == [True] * 4 + [False] * 3
    assert plan[0].settled_on == date(2025, 12, 10)


async def test_what_is_overdue_in_one_sum(db: Session) -> None:
    late = Overdue(since=date(2026, 2, 10), principal=usd("80"), interest=usd("7"), fees=usd("5"), penalties=usd("2"))
    loan = await board(db, await given_of(db, overdue=late), key=None)
    await check(db, [loan])
    assert loan.oldest_due == date(2026, 2, 10)
    assert (loan.fees_outstanding, loan.penalties_outstanding) == (usd("5"), usd("2"))
    plan = await plan_of(db, loan)
    assert (plan[1].due, plan[1].total) == (date(2026, 2, 10), usd("94"))
    assert sum(i.principal.units for i in plan[2:]) == 520_00


async def test_a_plan_as_it_is(db: Session) -> None:
    plan = (
        Planned(due=date(2026, 2, 28), principal=usd("100"), interest=usd("1"), penalties=usd("3")),
        Planned(due=date(2026, 4, 30), principal=usd("0"), interest=usd("9"), fees=usd("1")),
        Planned(due=date(2027, 1, 1), principal=usd("500"), interest=usd("4")),
    )
    loan = await board(db, await given_of(db, plan=plan, next_due=None, installments_left=None), key=None)
    await check(db, [loan])
    _, *rows = await plan_of(db, loan)
    assert [(r.due, str(r.total.amount)) for r in rows] == [
        (date(2026, 2, 28), "104.00"),
        (date(2026, 4, 30), "10.00"),
        (date(2027, 1, 1), "504.00"),
    ]
    assert [r.start for r in rows] == [date(2026, 1, 28), date(2026, 2, 28), date(2026, 4, 30)]
    assert loan.oldest_due == date(2026, 2, 28)


async def test_a_closed_loan(db: Session) -> None:
    ended = date(2026, 1, 3)
    given = await given_of(db, principal_outstanding=usd("0"), closed_on=ended, next_due=None, installments_left=None)
    loan = await board(db, given, key=None)
    await check(db, [loan])
    assert (loan.status, loan.closed_on, loan.oldest_due) == (LoanStatus.CLOSED, ended, None)
    assert await db.ledger.balance(book_id(db, Book.OPENING, "USD")) == usd("0")


async def test_an_overpaid_loan(db: Session) -> None:
    given = await given_of(
        db, principal_outstanding=usd("0"), overpaid=usd("12.34"), next_due=None, installments_left=None
    )
    loan = await board(db, given, key=None)
    await check(db, [loan])
    assert (loan.status, loan.overpaid) == (LoanStatus.OVERPAID, usd("12.34"))
    assert await db.ledger.balance(book_id(db, Book.OPENING, "USD")) == usd("-12.34")


async def test_a_loan_that_is_charged_off_is_owed_and_has_no_worth(db: Session) -> None:
    given = await given_of(db, charged_off_on=date(2026, 3, 1), next_due=date(2025, 10, 10), fraud=True)
    loan = await board(db, given, key=None)
    await check(db, [loan])
    assert (loan.status, loan.principal_outstanding, loan.fraud) == (LoanStatus.ACTIVE, usd("600"), True)
    off = (await db[LoanTransaction].find(LoanTransaction.loan == loan.ref))[-1]
    assert (off.kind, off.amount) == (TransactionKind.CHARGE_OFF, loan.outstanding)


async def test_a_loan_that_is_written_off(db: Session) -> None:
    late = Overdue(since=date(2025, 10, 10), principal=usd("600"), interest=usd("40"))
    given = await given_of(db, overdue=late, next_due=None, installments_left=None, written_off_on=date(2026, 3, 1))
    loan = await board(db, given, key=None)
    await check(db, [loan])
    assert (loan.status, loan.written_off_on) == (LoanStatus.WRITTEN_OFF, date(2026, 3, 1))
    assert (loan.outstanding, loan.closed_on) == (usd("0"), None)
    _, lost = await plan_of(db, loan)
    assert (lost.principal_written_off, lost.interest_written_off) == (usd("600"), usd("40"))


async def test_flat_interest_goes_on_as_the_whole_loan_had_it(db: Session) -> None:
    flat = replace(TERMS, interest_method=InterestMethod.FLAT)
    loan = await board(db, await given_of(db, product=await product_of(db, flat)), key=None)
    await check(db, [loan])
    _, *left = await plan_of(db, loan)
    # 1,200 at 12 % for a year is 144, 12 a month; what is left of the principal comes back in sixths.
    assert [(i.principal, i.interest) for i in left] == [(usd("100"), usd("12"))] * 6


async def test_a_bullet_loan_bears_interest_from_its_payout(db: Session) -> None:
    bullet = replace(TERMS, amortization=Amortization.BULLET)
    given = await given_of(
        db,
        product=await product_of(db, bullet),
        principal_outstanding=usd("1200"),
        interest_paid=None,
        installments=1,
        installments_left=1,
        next_due=date(2026, 9, 10),
    )
    loan = await board(db, given, key=None)
    await check(db, [loan])
    (only,) = await plan_of(db, loan)
    assert only.total == usd("1344")


async def test_months_of_different_length(db: Session) -> None:
    """From 31 March one interval back is 28 February, from which one interval on is 28 March."""
    loan = await board(db, await given_of(db, next_due=date(2026, 3, 31), on=date(2026, 3, 20)), key=None)
    plan = await plan_of(db, loan)
    assert plan[1].interest == usd("6.00")
    assert [i.due.day for i in plan[1:]] == [31, 30, 31, 30, 31, 31]


async def test_numbers_are_kept_or_given(db: Session) -> None:
    product = await product_of(db)
    many = [await given_of(db, product=product, number=n) for n in (None, 41, None, 7)]
    loans = await board_many(db, many, key=None)
    assert [loan.number for loan in loans] == [42, 41, 43, 7]
    assert (await board(db, await given_of(db, product=product), key=None)).number == 44
    with pytest.raises(Duplicate):
        await board(db, await given_of(db, product=product, number=42), key=None)


async def test_a_key_boards_once(db: Session) -> None:
    given = [await given_of(db, details={"note": 1.5}), await given_of(db)]
    first = await board_many(db, given, key="batch-1")
    again = await board_many(db, given, key="batch-1")
    assert [loan.id for loan in first] == [loan.id for loan in again]
    assert await db[Loan].count() == 2
    with pytest.raises(KeyReused):
        await board_many(db, given[:1], key="batch-1")
    with pytest.raises(KeyReused):
        await board_many(db, [given[0], replace(given[1], purpose="x")], key="batch-1")


async def test_one_external_id_at_once_from_many_callers(tally: Tallystick, tenant: str) -> None:
    def session() -> SessionContext:
        return tally.session(tenant, actor="user:x", permissions=["loans.board"])

    async with session() as db:
        given = await given_of(db, external_id="old:1")

    async def one() -> str:
        async with session() as db:
            try:
                await board(db, given, key=str(uuid4()))
            except Duplicate:
                return "refused"
            return "boarded"

    done = await asyncio.wait_for(asyncio.gather(*(one() for _ in range(16))), 60)
    assert sorted(done) == ["boarded"] + ["refused"] * 15
    async with session() as db:
        (loan,) = await db[Loan].find()
        await check(db, [loan])


BAD: list[tuple[dict[str, Any], type[TallystickError]]] = [
    ({"principal_outstanding": usd("1200.01")}, Invalid),
    ({"principal_outstanding": usd("-1")}, Invalid),
    ({"principal_outstanding": eur("600")}, Invalid),
    ({"principal_outstanding": 600.0}, Invalid),
    ({"principal_outstanding": 600}, Invalid),
    ({"principal": usd("0"), "principal_outstanding": usd("0")}, Invalid),
    ({"principal": None, "principal_outstanding": usd("0")}, Invalid),
    ({"interest_paid": usd("-0.01")}, Invalid),
    ({"fees_paid": 1.0}, Invalid),
    ({"penalties_paid": eur("1")}, Invalid),
    ({"overpaid": usd("1")}, Invalid),
    ({"annual_rate": 0.12}, Invalid),
    ({"annual_rate": Decimal("NaN")}, Invalid),
    ({"annual_rate": Decimal(-1)}, Invalid),
    ({"annual_rate": Decimal(11)}, Invalid),
    ({"installments": 0}, Invalid),
    ({"installments": 12.0}, Invalid),
    ({"installments": True}, Invalid),
    ({"installments_left": 13}, Invalid),
    ({"installments_left": 0}, Invalid),
    ({"installments_left": None}, Invalid),
    ({"next_due": None}, Invalid),
    ({"next_due": PAID_OUT}, Invalid),
    ({"next_due": PAID_OUT - timedelta(30)}, Invalid),
    ({"next_due": "2026-04-10"}, Invalid),
    ({"next_due": date.max}, Invalid),
    ({"interest_from": date(2026, 4, 10)}, Invalid),
    ({"interest_from": PAID_OUT - timedelta(1)}, Invalid),
    ({"disbursed_on": TODAY + timedelta(1)}, Invalid),
    ({"disbursed_on": "2025-09-10"}, Invalid),
    ({"on": PAID_OUT - timedelta(1)}, Invalid),
    ({"installment": usd("6")}, Invalid),
    ({"installment": eur("100")}, Invalid),
    ({"installment": 100.0}, Invalid),
    ({"overdue": Overdue(since=date(2026, 2, 10), principal=usd("600.01"))}, Invalid),
    ({"overdue": Overdue(since=date(2026, 2, 10))}, Invalid),
    ({"overdue": Overdue(since=TODAY, principal=usd("1"))}, Invalid),
    ({"overdue": Overdue(since=TODAY + timedelta(1), principal=usd("1"))}, Invalid),
    ({"overdue": Overdue(since=PAID_OUT, principal=usd("1"))}, Invalid),
    ({"overdue": Overdue(since=date(2026, 2, 10), principal=eur("1"))}, Invalid),
    ({"overdue": Overdue(since=date(2026, 2, 10), principal=usd("600"))}, Invalid),
    ({"overdue": Overdue(since=date(2026, 2, 10), principal=usd("1")), "next_due": date(2026, 2, 10)}, Invalid),
    ({"plan": (Planned(due=date(2026, 4, 10), principal=usd("600")),)}, Invalid),
    ({"status": LoanStatus.CLOSED}, Invalid),
    ({"status": LoanStatus.WRITTEN_OFF}, Invalid),
    ({"status": LoanStatus.REQUESTED}, Invalid),
    ({"closed_on": TODAY}, Invalid),
    ({"written_off_on": TODAY + timedelta(1)}, Invalid),
    ({"charged_off_on": PAID_OUT - timedelta(1)}, Invalid),
    ({"product": uuid7()}, UnknownReference),
    ({"product": "gold"}, Invalid),
    ({"borrower": uuid7()}, UnknownReference),
    ({"borrower": "me"}, Invalid),
    ({"community": uuid7()}, UnknownReference),
    ({"community": 1}, Invalid),
    ({"number": 0}, Invalid),
    ({"number": 1.0}, Invalid),
    ({"external_id": " "}, Invalid),
    ({"external_id": "x" * 121}, Invalid),
    ({"external_id": 7}, Invalid),
    ({"details": {"x": object()}}, Invalid),
    ({"details": ["x"]}, Invalid),
]


@pytest.mark.parametrize(("changes", "error"), BAD)
async def test_what_contradicts_itself_is_refused(
    db: Session, changes: dict[str, Any], error: type[TallystickError]
) -> None:
    good = await given_of(db)
    bad = replace(good, **changes)
    with pytest.raises(error):
        await board(db, bad, key="k")
    with pytest.raises(error):
        await board_many(db, [good, bad], key=None)
    assert await db[Loan].count() == 0
    assert all(line.debits.units == line.credits.units == 0 for line in (await db.ledger.trial_balance()).lines)


PLANS: list[tuple[tuple[Planned, ...], dict[str, Any]]] = [
    ((Planned(due=date(2026, 4, 10), principal=usd("599.99")),), {}),
    ((Planned(due=date(2026, 4, 10), principal=usd("-1")), Planned(due=date(2026, 5, 10), principal=usd("601"))), {}),
    ((Planned(due=date(2026, 4, 10), principal=usd("300")),) * 2, {}),
    ((Planned(due=PAID_OUT, principal=usd("600")),), {}),
    ((Planned(due=date(2026, 4, 10), principal=usd("600"), start=date(2026, 4, 11)),), {}),
    ((Planned(due=date(2026, 4, 10), principal=usd("600"), interest=eur("1")),), {}),
    ((Planned(due=date(2026, 4, 10), principal=600.0),), {}),  # type: ignore[arg-type]
    ((Planned(due=date(2026, 4, 10), principal=usd("600")),), {"installment": usd("100")}),
    ((Planned(due=date(2026, 4, 10), principal=usd("600")),), {"next_due": date(2026, 4, 10)}),
]


@pytest.mark.parametrize(("plan", "changes"), PLANS)
async def test_a_plan_that_does_not_hold_is_refused(
    db: Session, plan: tuple[Planned, ...], changes: dict[str, Any]
) -> None:
    given = await given_of(db, **{"next_due": None, "installments_left": None, "plan": plan, **changes})
    with pytest.raises(Invalid):
        await board(db, given, key=None)
    assert await db[Loan].count() == 0


async def test_a_batch_says_which_loan_is_wrong(db: Session) -> None:
    good = await given_of(db)
    with pytest.raises(Invalid, match="Loan 3 of the batch"):
        await board_many(db, [good, good, replace(good, interest_paid=usd("-1"))], key=None)


async def test_batches(db: Session) -> None:
    good = await given_of(db, external_id="a")
    for bad in ([], [good] * 5001, good, [1], None):
        with pytest.raises(Invalid):
            await board_many(db, bad, key=None)  # type: ignore[arg-type]
    with pytest.raises(Duplicate):
        await board_many(db, [good, good], key=None)
    other = replace(good, external_id="b", number=1)
    with pytest.raises(Duplicate):
        await board_many(db, [other, replace(other, external_id="c")], key=None)
    await board(db, good, key=None)
    with pytest.raises(Duplicate):
        await board_many(db, [replace(good, external_id="z"), good], key=None)
    assert await db[Loan].count() == 1


async def test_terms_that_do_not_tell_what_is_left_need_a_plan(db: Session) -> None:
    share = replace(TERMS, amortization=Amortization.EQUAL_PRINCIPAL, principal_share=Decimal("0.1"))
    grace = replace(TERMS, grace_interest=8)
    for terms in (share, grace):
        with pytest.raises(Unsupported):
            await board(db, await given_of(db, product=await product_of(db, terms)), key=None)
    equal = replace(TERMS, amortization=Amortization.EQUAL_PRINCIPAL)
    with pytest.raises(Unsupported):
        await board(db, await given_of(db, product=await product_of(db, equal), installment=usd("100")), key=None)


async def test_products_and_borrowers_of_another_tenant_do_not_exist(tally: Tallystick, tenant: str) -> None:
    other = f"other-{uuid4().hex}"
    await tally.tenants.create(other, name="Another")
    async with tally.session(other, actor="user:x", permissions=["loans.*"]) as db:
        theirs = await given_of(db)
    async with tally.session(tenant, actor="user:x", permissions=["loans.*"]) as db:
        mine = await given_of(db)
        for stolen in (replace(mine, product=theirs.product), replace(mine, borrower=theirs.borrower)):
            with pytest.raises(UnknownReference):
                await board(db, stolen, key=None)
        assert await db[Loan].count() == 0


async def test_it_needs_a_permission(tally: Tallystick, db: Session) -> None:
    given = await given_of(db)
    async with tally.session(db.tenant.slug, actor="user:x", permissions=["loans.decide"]) as other:
        with pytest.raises(RoleMissing):
            await board(other, given, key=None)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_boarded_holds(db: Session, seed: int) -> None:
    dice = random.Random(seed)
    borrower = await borrower_of(db)
    products = [
        await product_of(db, replace(TERMS, amortization=amortization, interest_method=method))
        for amortization in (Amortization.EQUAL_INSTALLMENTS, Amortization.EQUAL_PRINCIPAL, Amortization.INTEREST_ONLY)
        for method in InterestMethod
    ]
    many = [anything(dice, dice.choice(products), borrower, n) for n in range(120)]
    loans = await board_many(db, many, key=None)
    await check(db, loans)
    for one, loan in zip(many, loans, strict=True):
        assert loan.principal_outstanding == (usd("0") if one.written_off_on else one.principal_outstanding)
        assert loan.external_id == one.external_id
        assert one.overpaid is None or loan.overpaid == one.overpaid
    assert {loan.status for loan in loans} == {
        LoanStatus.ACTIVE,
        LoanStatus.OVERPAID,
        LoanStatus.CLOSED,
        LoanStatus.WRITTEN_OFF,
    }


def anything(dice: random.Random, product: LoanProduct, borrower: User, number: int) -> Boarding:
    """Some loan that could be: any product, any part repaid, anything overdue, any end."""
    principal = dice.randint(100, 10_000_000)
    owed = dice.choice([0, principal, dice.randint(1, principal)])
    installments = dice.randint(1, 60)
    paid_out = TODAY - timedelta(days=dice.randint(40, 2_000))
    late = dice.randint(0, owed)
    rest = owed - late
    since = paid_out + timedelta(days=dice.randint(1, (TODAY - paid_out).days - 1))
    parts = [Money(dice.choice([0, 0, dice.randint(1, 9_999)]), "USD") for _ in range(6)]
    overdue = Overdue(since=since, principal=Money(late, "USD"), interest=parts[0], fees=parts[1], penalties=parts[2])
    is_late = bool(owed and (late or any(parts[:3])))
    end = dice.choice(["", "", "", "charged off", "written off"]) if owed else ""
    lost_on = since + timedelta(days=dice.randint(0, (TODAY - since).days))
    return Boarding(
        product=product,
        borrower=borrower,
        principal=Money(principal, "USD"),
        principal_outstanding=Money(owed, "USD"),
        annual_rate=Decimal(dice.randint(0, 4_000)) / 10_000,
        installments=installments,
        disbursed_on=paid_out,
        on=TODAY,
        overdue=overdue if is_late else None,
        next_due=since + timedelta(days=dice.randint(1, 90)) if rest else None,
        installments_left=dice.randint(1, installments) if rest else None,
        interest_paid=parts[3],
        fees_paid=parts[4],
        penalties_paid=parts[5],
        overpaid=None if owed or dice.random() < 0.5 else Money(dice.randint(1, 10_000), "USD"),
        charged_off_on=lost_on if end == "charged off" else None,
        written_off_on=lost_on if end == "written off" else None,
        external_id=f"any:{number}",
    )


async def test_hundreds_in_a_few_statements(db: Session) -> None:
    product = await product_of(db)
    borrower = await borrower_of(db)
    first = await given_of(db, product=product, borrower=borrower)
    many = [replace(first, external_id=f"n:{n}", principal_outstanding=usd(str(600 + n % 7))) for n in range(400)]
    loans = await board_many(db, many, key="many")
    assert [loan.external_id for loan in loans] == [one.external_id for one in many]
    assert [loan.number for loan in loans] == list(range(1, 401))
    assert sum(loan.principal_outstanding.units for loan in loans) == sum(
        one.principal_outstanding.units for one in many
    )
    trial = await db.ledger.trial_balance()
    assert trial.balanced
    await check(db, loans[::150])
