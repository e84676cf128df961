"""Pauses, and how late loans are that are served by the real commands."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.lending.portfolio_support import Row, Rows, lend, person, product_of
from tests.lending.support import active, audit, product
from tests.lending.test_portfolio import (
    check_delinquency,
    check_par,
    check_provisions,
    check_standing,
    check_worklist,
    late_loan,
)

from tallystick import (
    Conflict,
    FixedClock,
    Invalid,
    KeyReused,
    NotFound,
    RoleMissing,
    Tallystick,
    TallystickError,
    usd,
    uuid7,
)
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.pauses import DelinquencyPause
from tallystick.domains.lending.servicing import ChargeKind, Servicing
from tallystick.domains.lending.transactions import LoanTransaction
from tallystick.session import Session
from tallystick.testing.races import Race


def day(db: Session, back: int) -> date:
    return db.today() - timedelta(days=back)


async def test_paused_days_do_not_count(db: Session):
    loan = (await late_loan(db, 30)).loan
    made = await db.portfolio.pause(loan, day(db, 19), day(db, 10), "flood", key=None)
    assert (made.loan.id, made.reason) == (loan.id, "flood")
    found = await db.portfolio.standing(loan)
    assert (found.days_past_due, found.days_since_due, found.paused) == (20, 30, False)
    for back, days, paused in ((20, 10, False), (19, 10, True), (15, 10, True), (10, 10, True), (9, 11, False)):
        found = await db.portfolio.standing(loan, day(db, back))
        assert (found.days_past_due, found.paused) == (days, paused)


async def test_days_before_it_was_due_are_not_taken_off(db: Session):
    loan = (await late_loan(db, 10)).loan
    await db.portfolio.pause(loan, day(db, 25), day(db, 8), key=None)
    assert (await db.portfolio.standing(loan)).days_past_due == 8


async def test_a_pause_takes_a_loan_out_of_risk_while_it_holds(db: Session):
    loan = (await late_loan(db, 20)).loan
    await db.portfolio.pause(loan, day(db, 19), db.today() + timedelta(days=5), key=None)
    (line,) = (await db.portfolio.par()).lines
    assert (line.portfolio.loans, line.at_risk[0].loans) == (1, 0)
    assert (await db.portfolio.worklist()).items == []
    assert (await db.portfolio.delinquency()).lines == ()
    later = await db.portfolio.par(db.today() + timedelta(days=6))
    assert later.lines[0].at_risk[0].loans == 1


async def test_a_pause_ends_early_when_it_is_resumed(db: Session):
    loan = (await late_loan(db, 30)).loan
    made = await db.portfolio.pause(loan, day(db, 10), db.today() + timedelta(days=30), key="p")
    assert (await db.portfolio.standing(loan)).days_past_due == 19
    ended = await db.portfolio.resume(loan, day(db, 4), key="r")
    assert (ended.id, ended.ends_on) == (made.id, day(db, 5))
    found = await db.portfolio.standing(loan)
    assert (found.days_past_due, found.paused) == (24, False)
    assert (await db.portfolio.resume(loan, day(db, 4), key="r")).id == made.id
    with pytest.raises(Conflict):
        await db.portfolio.resume(loan, day(db, 4), key=None)
    with pytest.raises(KeyReused):
        await db.portfolio.resume(loan, day(db, 3), key="r")
    again = await db.portfolio.pause(loan, day(db, 4), db.today(), key=None)
    with pytest.raises(Invalid):
        await db.portfolio.resume(loan, day(db, 4), key=None)
    assert (await db.portfolio.resume(loan, key=None)).ends_on == day(db, 1)
    assert again.starts_on == day(db, 4)


@pytest.mark.parametrize(("first", "last"), [(20, 10), (22, 20), (10, 8), (15, 12), (30, 5), (20, 20), (10, 10)])
async def test_pauses_do_not_overlap(db: Session, first: int, last: int):
    loan = (await late_loan(db, 30)).loan
    await db.portfolio.pause(loan, day(db, 20), day(db, 10), key=None)
    with pytest.raises(Conflict):
        await db.portfolio.pause(loan, day(db, first), day(db, last), key=None)
    assert await db[DelinquencyPause].count() == 1
    await db.portfolio.pause(loan, day(db, 9), day(db, 9), key=None)
    await db.portfolio.pause(loan, day(db, 25), day(db, 21), key=None)
    assert (await db.portfolio.standing(loan)).days_past_due == 30 - 11 - 1 - 5


async def test_wrong_pauses_are_refused(db: Session, sandbox: Any):
    book = await late_loan(db, 30)
    loan, today = book.loan, db.today()
    given: list[tuple[type[TallystickError], tuple[Any, ...]]] = [
        (Invalid, (loan, today, today - timedelta(days=1))),
        (Invalid, (loan, loan.disbursed_on - timedelta(days=1), today)),  # type: ignore[operator]
        (Invalid, (loan, db.now(), today)),
        (Invalid, (loan, today, "2026-01-01")),
        (Invalid, (loan, today, today, "x" * 301)),
        (NotFound, (uuid7(), today, today)),
    ]
    for error, arguments in given:
        with pytest.raises(error):
            await db.portfolio.pause(*arguments, key=None)
    with pytest.raises(Conflict):
        await db.portfolio.resume(loan, key=None)
    await book.pay(100_00, today)
    with pytest.raises(Conflict):
        await db.portfolio.pause(loan, today, today, key=None)
    assert await db[DelinquencyPause].count() == 0
    async with sandbox.session(db.tenant.slug, actor="nobody", permissions=()) as other:
        with pytest.raises(RoleMissing):
            await other.portfolio.pause(loan, today, today, key=None)
        with pytest.raises(RoleMissing):
            await other.portfolio.resume(loan, key=None)


async def test_one_key_makes_one_pause(db: Session):
    loan = (await late_loan(db, 30)).loan
    made = [await db.portfolio.pause(loan, day(db, 9), day(db, 5), key="k") for _ in range(2)]
    assert made[0].id == made[1].id
    with pytest.raises(KeyReused):
        await db.portfolio.pause(loan, day(db, 9), day(db, 4), key="k")


async def test_of_sixteen_overlapping_pauses_one_is_made(db: Session, race: Race):
    book = await late_loan(db, 60)
    start = day(db, 50)

    async def pause(session: Session, number: int) -> DelinquencyPause:
        return await session.portfolio.pause(book.loan.id, start, start + timedelta(days=number), key=f"p{number}")

    result = await race(16, pause)
    assert (result.winners, result.kinds) == (1, {Conflict})
    assert await db[DelinquencyPause].count() == 1


async def test_non_performing_is_what_the_product_says(db: Session):
    what = await product_of(db, servicing=Servicing(non_performing_days=60))
    loan = (await late_loan(db, 60, product=what)).loan
    assert (await db.portfolio.standing(loan)).non_performing is True
    assert (await db.portfolio.standing(loan, day(db, 1))).non_performing is False


async def test_a_loan_that_is_not_paid_out_stands_at_nothing(db: Session):
    what = await product(db)
    loan = await db.loans.request(
        product=what, borrower=await person(db, "x"), principal=usd("500"), on=day(db, 90), key=None
    )
    found = await db.portfolio.standing(loan)
    assert (found.days_past_due, found.outstanding, found.oldest_due) == (0, usd("0"), None)
    assert (await db.portfolio.par()).lines == ()
    assert (await db.portfolio.cash_flow()).lines == ()


async def test_a_chargeback_makes_late_what_had_been_paid(db: Session):
    what = await product(db, installments=1)
    loan = await active(db, what, "300", on=day(db, 100), first_due=day(db, 40))
    paid = (await db.loans.repay(loan, usd("300"), on=day(db, 45), key=None)).transaction
    assert (await db.portfolio.standing(loan)).outstanding == usd("0")
    await db.loans.chargeback(paid, on=day(db, 2), key=None)
    assert (await db.portfolio.standing(loan)).outstanding == usd("300")
    for back in (3, 20, 40):
        assert (await db.portfolio.standing(loan, day(db, back))).outstanding == usd("0")


@pytest.mark.parametrize("seed", [1, 2])
async def test_books_of_the_commands_are_the_oracles(db: Session, seed: int):
    """Loans that were served by ``db.loans``, with everything it can do to them, on its own business dates."""
    rng, today = random.Random(seed), db.today()
    products = [
        await product(db, "a", rate=Decimal("0.24"), installments=4),
        await product(db, "b", rate=Decimal("0.12"), installments=6, servicing=Servicing(arrears_grace_days=4)),
        await product(db, "c", installments=3, servicing=Servicing(arrears_tolerance=Decimal(20))),
    ]
    for _ in range(14):
        on = today - timedelta(days=rng.randint(20, 400))
        loan = await active(db, rng.choice(products), str(rng.randint(100, 900)), on=on)
        await _serve(db, loan, rng, on, today)
    await audit(db)
    rows = await Rows.read(db)
    for back in (0, 1, 35, 90, 200, 390):
        seen = rows.all_seen(day(db, back))
        await check_par(db, rows, seen, day(db, back))
        await check_delinquency(db, seen, day(db, back))
        await check_provisions(db, seen, day(db, back))
        await check_worklist(db, rows, seen, day(db, back))
        await check_standing(db, rows, seen, day(db, back))


async def _serve(db: Session, loan: Loan, rng: random.Random, at: date, today: date) -> None:
    payments = []
    while (at := at + timedelta(days=rng.randint(5, 45))) <= today:
        when = at if rng.random() < 0.8 else at - timedelta(days=rng.randint(0, 4))
        what = rng.random()
        try:
            async with db.transaction():
                if what < 0.5:
                    amount = usd(str(rng.randint(20, 250)))
                    payments.append((await db.loans.repay(loan, amount, on=when, key=None)).transaction)
                elif what < 0.58 and payments:
                    await db.loans.reverse(payments.pop(), on=at, key=None)
                elif what < 0.63 and payments:
                    await db.loans.chargeback(payments.pop(), on=at, key=None)
                elif what < 0.7:
                    await db.loans.charge(
                        loan, ChargeKind.FEE, usd(str(rng.randint(1, 20))), code="fee", on=at, key=None
                    )
                elif what < 0.76:
                    await db.portfolio.pause(loan, at, at + timedelta(days=rng.randint(0, 20)), key=None)
                elif what < 0.82:
                    await db.loans.reamortize(loan, on=at, key=None)
                elif what < 0.88:
                    await db.loans.reage(loan, first_due=at + timedelta(days=20), installments=3, on=at, key=None)
                elif what < 0.91:
                    await db.loans.charge_off(loan, on=at, key=None)
                elif what < 0.93:
                    await db.loans.write_off(loan, on=at, key=None)
        except (Conflict, Invalid):
            continue


@pytest.mark.parametrize("seed", [3, 4])
async def test_the_past_is_what_was_answered_then(db: Session, monkeypatch: pytest.MonkeyPatch, seed: int):
    """The business date moves on; what each day answered as the present is what it answers later as the past."""
    rng, start = random.Random(seed), date(2025, 1, 6)
    products = [
        await product(db, "a", rate=Decimal("0.24"), installments=4),
        await product(db, "b", rate=Decimal("0.12"), installments=3, servicing=Servicing(arrears_grace_days=4)),
        await product(db, "c", installments=5, servicing=Servicing(arrears_tolerance=Decimal(20))),
    ]

    def move(to: date) -> None:
        monkeypatch.setattr(db._app, "clock", FixedClock(datetime(to.year, to.month, to.day, 12, tzinfo=UTC)))

    async def answers(loans: list[Loan], on: date) -> list[Any]:
        p = db.portfolio
        found: list[Any] = [await p.standing(loan, on) for loan in loans]
        return [*found, await p.par(on, by="product"), await p.delinquency(on), await p.provisions(on)]

    loans: list[Loan] = []
    payments: dict[UUID, list[LoanTransaction]] = {}
    seen: dict[date, tuple[int, list[Any]]] = {}
    done: Counter[str] = Counter()
    for n in range(70):
        today = start + timedelta(days=5 * n)
        move(today)
        if n % 6 == 0:
            loans.append(await active(db, products[len(loans) % 3], str(rng.randint(100, 900)), on=today))
        for loan in rng.sample(loans, min(len(loans), 3)):
            done[await _today(db, loan, rng, payments.setdefault(loan.id, []), today)] += 1
        seen[today] = (len(loans), await answers(loans, today))
    move(start + timedelta(days=400))
    assert len(done) >= 9, done
    for on, (count, expected) in seen.items():
        assert await answers(loans[:count], on) == expected, on


async def _today(db: Session, loan: Loan, rng: random.Random, payments: list[LoanTransaction], on: date) -> str:
    what = rng.random()
    try:
        async with db.transaction():
            if what < 0.4:
                amount = usd(str(rng.randint(20, 250)))
                payments.append((await db.loans.repay(loan, amount, on=on, key=None)).transaction)
                return "repay"
            if what < 0.44:
                await db.loans.goodwill(loan, usd("15"), on=on, key=None)
                return "goodwill"
            if what < 0.52 and payments:
                await db.loans.chargeback(payments.pop(), on=on, key=None)
                return "chargeback"
            if what < 0.62:
                await db.loans.charge(loan, ChargeKind.FEE, usd(str(rng.randint(1, 20))), code="fee", on=on, key=None)
                return "charge"
            if what < 0.68:
                await db.portfolio.pause(loan, on, on + timedelta(days=rng.randint(0, 20)), key=None)
                return "pause"
            if what < 0.76:
                await db.loans.reamortize(loan, on=on, key=None)
                return "reamortize"
            if what < 0.82:
                await db.loans.reage(loan, first_due=on + timedelta(days=20), installments=3, on=on, key=None)
                return "reage"
            if what < 0.9:
                await db.loans.reschedule(loan, first_due=on + timedelta(days=400), installments=3, on=on, key=None)
                return "reschedule"
            if what < 0.93:
                await db.loans.charge_off(loan, on=on, key=None)
                return "charge_off"
            if what < 0.95:
                await db.loans.write_off(loan, on=on, key=None)
                return "write_off"
    except (Conflict, Invalid):
        pass
    return "nothing"


async def test_pauses_of_another_tenant_are_not_seen(db: Session, sandbox: Any, tally: Tallystick):
    loan = (await late_loan(db, 30)).loan
    await db.portfolio.pause(loan, day(db, 10), day(db, 1), key=None)
    slug = f"other-{uuid7().hex}"
    await tally.tenants.create(slug, name="Other")
    async with sandbox.session(slug, actor="test", permissions=("*",)) as other:
        mine = await late_loan(other, 30)
        assert (await other.portfolio.standing(mine.loan)).days_past_due == 30
        with pytest.raises(NotFound):
            await other.portfolio.standing(loan.id)
        with pytest.raises(NotFound):
            await other.portfolio.pause(loan.id, day(db, 0), day(db, 0), key=None)


async def test_two_loans_of_a_borrower_are_paused_apart(db: Session):
    what, who = await product_of(db), await person(db, "x")
    books = [
        await lend(db, what, who, [Row(day(db, 20), 100_00)], day(db, 50)),
        await lend(db, what, who, [Row(day(db, 20), 100_00)], day(db, 50)),
    ]
    await db.portfolio.pause(books[0].loan, day(db, 9), day(db, 0), key=None)
    found = [x.days_past_due for x in await db.portfolio.worklist()]
    assert found == [20, 10]
