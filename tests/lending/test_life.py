"""The life of a loan: what may follow what, who may decide, rails that answer later, tranches, numbers."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from tests.lending.support import DAY, active, audit, balance, product

from tallystick import (
    Conflict,
    ConsentMissing,
    Duplicate,
    Invalid,
    InvalidTransition,
    Loan,
    LoanStatus,
    NotFound,
    Offset,
    Purpose,
    RoleMissing,
    Servicing,
    User,
    UserStatus,
    desc,
    one_of,
    usd,
    uuid7,
)
from tallystick.session import Session

S = LoanStatus


async def asked(db: Session, amount: str = "600", **given: object) -> Loan:
    what = await product(db, code=f"p{uuid7()}")
    person = await db.users.add(User(status=UserStatus.ACTIVE))
    return await db.loans.request(product=what, borrower=person, principal=usd(amount), on=DAY, key=None, **given)  # type: ignore[arg-type]


async def test_statuses_follow_each_other_in_the_database(db: Session) -> None:
    loan = await asked(db)
    for status in (S.ACTIVE, S.CLOSED, S.OVERPAID, S.WRITTEN_OFF, S.DISBURSING, S.EXPIRED):
        with pytest.raises((InvalidTransition, Invalid)):
            async with db.transaction():
                await db.loans.update(loan, status=status)
    rejected = await db.loans.reject(loan, reason="too new", key="no")
    assert (rejected.status, rejected.status_reason) == (S.REJECTED, "too new")
    with pytest.raises(Conflict, match="rejected"):
        await db.loans.approve(loan, on=DAY, key=None)
    with pytest.raises(Conflict, match="rejected"):
        await db.loans.disburse(loan, on=DAY, key=None)
    assert [(h.step, h.before, h.after, h.reason) for h in await db.loans.steps(loan)] == [
        (1, None, S.REQUESTED, None),
        (2, S.REQUESTED, S.REJECTED, "too new"),
    ]


async def test_who_decides(sandbox, db: Session) -> None:  # type: ignore[no-untyped-def]
    loan = await asked(db)
    async with sandbox.session(db.tenant.slug, permissions=()) as nobody:
        with pytest.raises(RoleMissing, match=r"loans\.decide"):
            await nobody.loans.approve(loan.id, key=None)
        with pytest.raises(RoleMissing):
            await nobody.loans.reject(loan.id, reason="x", key=None)
        with pytest.raises(RoleMissing, match=r"loans\.adjust"):
            await nobody.loans.write_off(loan.id, key=None)
        with pytest.raises(RoleMissing):
            await nobody.loans.goodwill(loan.id, usd("1"), key=None)
    assert (await db.loans.get(loan.id)).status is S.REQUESTED


async def test_a_rail_that_answers_later(db: Session) -> None:
    loan = await asked(db)
    await db.loans.approve(loan, on=DAY, key=None)
    waiting = await db.loans.begin_disbursement(loan, on=DAY, key="rail 1")
    assert (waiting.status, waiting.outstanding) == (S.DISBURSING, usd("0"))
    account = await db.ledger.accounts.by_code("loan:1:principal")
    assert account is not None
    assert (await db.ledger.balances(account)).debits_pending == usd("600")
    with pytest.raises(Conflict, match="disbursing"):
        await db.loans.disburse(loan, on=DAY, key=None)
    failed = await db.loans.fail_disbursement(loan, reason="no such account", key="rail 1")
    assert (failed.status, failed.payout) == (S.APPROVED, None)
    await db.loans.begin_disbursement(loan, on=DAY, key="rail 2")
    paid = await db.loans.confirm_disbursement(loan, on=date(2026, 1, 3), key="rail 2", external_id="bank 7")
    assert (paid.loan.status, paid.loan.disbursed_on, paid.transaction.external_id) == (
        S.ACTIVE,
        date(2026, 1, 3),
        "bank 7",
    )
    assert (await db.loans.confirm_disbursement(loan, on=date(2026, 1, 3), key="rail 2", external_id="bank 7")).replayed
    with pytest.raises(Conflict):
        await db.loans.fail_disbursement(loan, key="rail 3")
    assert await balance(db, "loans.clearing:USD") == usd("-600")
    await audit(db)


async def test_tranches_remake_the_schedule(db: Session) -> None:
    what = await product(db, rate=Decimal("0.12"), installments=6)
    person = await db.users.add(User(status=UserStatus.ACTIVE))
    loan = await db.loans.request(product=what, borrower=person, principal=usd("1200"), on=DAY, key=None)
    await db.loans.approve(loan, on=DAY, key=None)
    first = await db.loans.disburse(loan, usd("500"), on=DAY, key="t1")
    assert first.loan.principal_outstanding == usd("500")
    rows = await db.loans.schedule(loan)
    await db.loans.repay(loan, rows[0].total, on=rows[0].due, key=None)
    with pytest.raises(Invalid, match="more than is left"):
        await db.loans.disburse(loan, usd("700.01"), on=date(2026, 2, 10), key=None)
    second = await db.loans.disburse(loan, on=date(2026, 2, 10), key="t2")
    assert (second.loan.disbursed, second.transaction.amount) == (usd("1200"), usd("700"))
    remade = await db.loans.schedule(loan)
    assert (remade[0].principal, remade[0].interest, remade[0].settled_on) == (
        rows[0].principal,
        rows[0].interest,
        rows[0].due,
    )
    assert [i.principal for i in await db.loans.schedule(loan, edition=1)] == [i.principal for i in rows]
    with pytest.raises(Conflict, match="paid out whole"):
        await db.loans.disburse(loan, on=date(2026, 2, 11), key=None)
    await audit(db)


async def test_a_payment_dated_before_a_tranche(db: Session) -> None:
    what = await product(db, rate=Decimal("0.12"), installments=4)
    person = await db.users.add(User(status=UserStatus.ACTIVE))
    loan = await db.loans.request(product=what, borrower=person, principal=usd("1000"), on=DAY, key=None)
    await db.loans.approve(loan, on=DAY, key=None)
    await db.loans.disburse(loan, usd("600"), on=DAY, key=None)
    await db.loans.disburse(loan, usd("400"), on=date(2026, 2, 15), key=None)
    paid = await db.loans.repay(loan, usd("100"), on=date(2026, 2, 1), key=None)
    await audit(db)
    await db.loans.reverse(paid, on=date(2026, 3, 1), key=None)
    await audit(db)


async def test_upfront_fees_are_kept_back(db: Session) -> None:
    from tallystick import ChargeBasis, FeeRule

    fees = (
        FeeRule(code="file", amount=Decimal("7.50")),
        FeeRule(code="origination", basis=ChargeBasis.PERCENT_OF_PRINCIPAL, percent=Decimal("0.01")),
        FeeRule(code="account", amount=Decimal("1.25"), upfront=False),
    )
    loan = await active(db, await product(db, servicing=Servicing(fees=fees)))
    assert await balance(db, "loans.clearing:USD") == usd("-982.50")
    assert await balance(db, "loans.fee_income:USD") == usd("17.50")
    assert (loan.principal_outstanding, loan.fees_outstanding) == (usd("1000"), usd("3.75"))
    await audit(db)


async def test_consent_is_needed_where_the_product_says_so(db: Session) -> None:
    what = await product(db, servicing=Servicing(consents=(Purpose.DATA_PROCESSING,)))
    person = await db.users.add(User(status=UserStatus.ACTIVE))
    with pytest.raises(ConsentMissing):
        await db.loans.request(product=what, borrower=person, principal=usd("10"), on=DAY, key="k")
    await db.consents.grant(person, Purpose.DATA_PROCESSING, policy_version="1")
    made = await db.loans.request(product=what, borrower=person, principal=usd("10"), on=DAY, key="k")
    assert made == await db.loans.request(product=what, borrower=person, principal=usd("10"), on=DAY, key="k")
    await db.consents.withdraw(person, Purpose.DATA_PROCESSING)
    with pytest.raises(ConsentMissing):
        await db.loans.request(product=what, borrower=person, principal=usd("10"), on=DAY, key=None)


async def test_what_a_product_does_not_lend(db: Session) -> None:
    what = await product(db)
    person = await db.users.add(User(status=UserStatus.ACTIVE))

    async def ask(**given: object) -> Loan:
        fields = {"product": what, "borrower": person, "principal": usd("10"), "on": DAY, "key": None}
        return await db.loans.request(**fields | given)  # type: ignore[arg-type]

    for given in (
        {"principal": usd("0.50")},
        {"principal": usd("1000000.01")},
        {"annual_rate": Decimal("10.5")},
        {"annual_rate": Decimal(-1)},
        {"annual_rate": 0.1},
        {"installments": 0},
        {"installments": 4000},
        {"first_due": DAY},
    ):
        with pytest.raises(Invalid):
            await ask(**given)
    with pytest.raises(NotFound):
        await ask(product=uuid7())
    with pytest.raises(NotFound):
        await ask(borrower=uuid7())
    fresh = await db.products.revise(what, max_principal=usd("5"), min_principal=usd("1"))
    with pytest.raises(Invalid, match="retired"):
        await ask()
    with pytest.raises(Invalid, match=r"lends 1\.00 USD to 5\.00 USD"):
        await ask(product=fresh)
    with pytest.raises(Invalid):
        await db.products.update(fresh, max_principal=usd("50"))
    await ask(product=fresh, principal=usd("5"), external_id="x")
    with pytest.raises(Duplicate):
        await ask(product=fresh, principal=usd("5"), external_id="x")


async def test_loans_are_searched_and_paged(db: Session) -> None:
    loans = [await asked(db) for _ in range(7)]
    assert [one.number for one in loans] == list(range(1, 8))
    await db.loans.reject(loans[2], reason="x", key=None)
    where = one_of(Loan.status, [S.REQUESTED, S.FUNDING])
    first = await db.loans.page(where, order=desc(Loan.number), limit=4, count=True)
    second = await db.loans.page(where, order=desc(Loan.number), limit=4, after=first.next)
    assert [one.number for one in [*first.items, *second.items]] == [7, 6, 5, 4, 2, 1]
    assert first.total == 6
    numbered = await db.loans.page(where, order=Loan.number, after=Offset.of_page(2, 3), limit=3)
    assert [one.number for one in numbered.items] == [5, 6, 7]
    assert (await db.loans.by_number(3)).status is S.REJECTED
