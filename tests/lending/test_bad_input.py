"""What no loan command takes: each is refused by a typed error that says what to do, and leaves every row as it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from tests.lending.money import agree
from tests.lending.support import DAY, active, product

from tallystick import (
    Conflict,
    Invalid,
    InvalidTransition,
    Money,
    NotFound,
    Tallystick,
    TallystickError,
    Unsupported,
    User,
    UserStatus,
    usd,
    uuid7,
)
from tallystick.domains.catalog import entities_of
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.receipts import LoanReceipt
from tallystick.domains.lending.servicing import AllocationStyle, ChargeKind, Component, LateFee, Servicing, Timing
from tallystick.money import FIAT_MAX
from tallystick.session import Session

FEB, MARCH = date(2026, 2, 1), date(2026, 3, 1)
NOON = datetime(2026, 2, 1, 12)
BEFORE = date(2025, 12, 31)
TABLES = sorted({e.table.name for e in entities_of(["lending", "ledger"])} | {"command_key"})
BAD_AMOUNTS: dict[str, Any] = {
    "float": 98.76,
    "text": "12.50",
    "decimal": Decimal("12.50"),
    "int": 12,
    "bool": True,
    "another asset": Money(1_000, "EUR"),
    "zero": usd("0"),
    "negative": usd("-10"),
    "beyond bigint": Money(2**63, "USD"),
    "beyond numeric(38)": Money(10**40, "USD"),
}


@dataclass
class Case:
    db: Session
    what: LoanProduct
    loan: Loan
    """Active, with a payment."""
    paid: LoanReceipt
    person: User
    new: Loan
    """Requested."""
    ready: Loan
    """Approved."""
    open: Loan
    """In funding."""
    closed: Loan
    lost: Loan
    """Written off."""
    over: Loan
    """Paid too much."""


@pytest.fixture
async def case(db: Session) -> Case:
    what = await product(
        db, rate=Decimal("0.12"), servicing=Servicing(late_fee=LateFee(after_days=5, amount=Decimal(5)))
    )
    person = await db.users.add(User(status=UserStatus.ACTIVE))
    lender = await db.users.add(User(status=UserStatus.ACTIVE))

    async def asked() -> Loan:
        return await db.loans.request(product=what, borrower=person, principal=usd("1000"), on=DAY, key=None)

    loan = await active(db, what, borrower=person)
    paid = await db.loans.repay(loan, usd("100"), on=FEB, key=None)
    ready = await db.loans.approve(await asked(), on=DAY, key=None)
    open_ = await db.loans.open_funding(await asked(), on=DAY, key=None)
    closed = await active(db, what, borrower=person)
    await db.loans.pay_off(closed, on=FEB, key=None)
    lost = await active(db, what, borrower=person)
    await db.loans.write_off(lost, on=FEB, key=None)
    over = await active(db, what, borrower=person)
    await db.loans.repay(over, usd("2000"), on=FEB, key=None)
    new = await asked()
    found = [await db.loans.get(one.id) for one in (loan, new, ready, open_, closed, lost, over)]
    return Case(db, what, found[0], paid, lender, *found[1:])


async def rows(db: Session) -> dict[str, tuple[int, str]]:
    """How many rows each table of lending and the ledger has, and a digest of all of them."""
    found = {}
    for name in TABLES:
        if name in ("asset", "loan_number"):
            continue
        sql = (
            f"SELECT count(*), coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') "
            f'FROM tally."{name}" t WHERE tenant_id = $1'
        )
        ((count, digest),) = await db.unit.call(sql, (db.tenant_id,))
        found[name] = (count, digest)
    return found


async def refused(
    db: Session, act: Callable[[], Awaitable[Any]], kinds: type[TallystickError] | tuple[type[TallystickError], ...]
) -> TallystickError:
    before = await rows(db)
    try:
        with pytest.raises(kinds) as caught:
            await act()
    except BaseException as e:
        e.add_note(f"line {getattr(act, '__code__', act).co_firstlineno}: {getattr(act, '__defaults__', None)}")
        raise
    assert caught.value.remedy, "an error says what to do"
    assert await rows(db) == before
    return caught.value


AMOUNTS: dict[str, Callable[[Case, Any, str | None], Awaitable[Any]]] = {
    "request": lambda c, a, k: c.db.loans.request(product=c.what, borrower=c.person, principal=a, on=DAY, key=k),
    "fund": lambda c, a, k: c.db.loans.fund(c.open, c.person, a, on=DAY, key=k),
    "approve": lambda c, a, k: c.db.loans.approve(c.new, principal=a, on=DAY, key=k),
    "disburse": lambda c, a, k: c.db.loans.disburse(c.ready, a, on=DAY, key=k),
    "begin_disbursement": lambda c, a, k: c.db.loans.begin_disbursement(c.ready, a, on=DAY, key=k),
    "repay": lambda c, a, k: c.db.loans.repay(c.loan, a, on=FEB, key=k),
    "goodwill": lambda c, a, k: c.db.loans.goodwill(c.loan, a, on=FEB, key=k),
    "waive": lambda c, a, k: c.db.loans.waive(c.loan, a, [Component.INTEREST], on=FEB, key=k),
    "refund": lambda c, a, k: c.db.loans.refund(c.over, a, on=FEB, key=k),
    "chargeback": lambda c, a, k: c.db.loans.chargeback(c.paid, a, on=FEB, key=k),
    "charge": lambda c, a, k: c.db.loans.charge(c.loan, ChargeKind.FEE, a, code="visit", due=FEB, key=k),
    "recover": lambda c, a, k: c.db.loans.recover(c.lost, a, on=FEB, key=k),
}


@pytest.mark.parametrize("command", AMOUNTS)
async def test_amounts(case: Case, command: str) -> None:
    for name, amount in BAD_AMOUNTS.items():
        # What could be money of the loan may be refused for what the loan stands at.
        kinds = (Invalid, Conflict) if name.startswith("beyond") else Invalid
        for key in (None, "k"):
            try:
                problem = await refused(case.db, lambda: AMOUNTS[command](case, amount, key), kinds)  # noqa: B023
            except BaseException as e:
                e.add_note(f"{command} of {name}, key {key}")
                raise
            assert "98.7" not in str(problem)
    await agree(case.db)


def test_more_decimals_than_the_asset_has_are_no_money() -> None:
    for text in ("1.001", "1.000", "1e2", "NaN"):
        with pytest.raises(Invalid):
            usd(text)


DATES: dict[str, Callable[[Case, Any, str | None], Awaitable[Any]]] = {
    "request": lambda c, d, k: c.db.loans.request(product=c.what, borrower=c.person, principal=usd("10"), on=d, key=k),
    "open_funding": lambda c, d, k: c.db.loans.open_funding(c.new, on=d, key=k),
    "fund": lambda c, d, k: c.db.loans.fund(c.open, c.person, usd("10"), on=d, key=k),
    "approve": lambda c, d, k: c.db.loans.approve(c.new, on=d, key=k),
    "withdraw": lambda c, d, k: c.db.loans.withdraw(c.open, on=d, key=k),
    "expire": lambda c, d, k: c.db.loans.expire(c.open, on=d, key=k),
    "cancel": lambda c, d, k: c.db.loans.cancel(c.ready, reason="no", on=d, key=k),
    "disburse": lambda c, d, k: c.db.loans.disburse(c.ready, on=d, key=k),
    "begin_disbursement": lambda c, d, k: c.db.loans.begin_disbursement(c.ready, on=d, key=k),
    "repay": lambda c, d, k: c.db.loans.repay(c.loan, usd("10"), on=d, key=k),
    "pay_off": lambda c, d, k: c.db.loans.pay_off(c.loan, on=d, key=k),
    "payoff": lambda c, d, k: c.db.loans.payoff(c.loan, on=d),
    "goodwill": lambda c, d, k: c.db.loans.goodwill(c.loan, usd("10"), on=d, key=k),
    "waive": lambda c, d, k: c.db.loans.waive(c.loan, usd("1"), [Component.INTEREST], on=d, key=k),
    "refund": lambda c, d, k: c.db.loans.refund(c.over, usd("10"), on=d, key=k),
    "chargeback": lambda c, d, k: c.db.loans.chargeback(c.paid, on=d, key=k),
    "reverse": lambda c, d, k: c.db.loans.reverse(c.paid, on=d, key=k),
    "charge": lambda c, d, k: c.db.loans.charge(c.loan, ChargeKind.FEE, usd("1"), code="visit", due=d, key=k),
    "charge_late_fees": lambda c, d, k: c.db.loans.charge_late_fees(c.loan, on=d, key=k),
    "charge_off": lambda c, d, k: c.db.loans.charge_off(c.loan, on=d, key=k),
    "write_off": lambda c, d, k: c.db.loans.write_off(c.loan, on=d, key=k),
    "recover": lambda c, d, k: c.db.loans.recover(c.lost, usd("10"), on=d, key=k),
    "reschedule": lambda c, d, k: c.db.loans.reschedule(c.loan, installments=5, on=d, key=k),
    "reamortize": lambda c, d, k: c.db.loans.reamortize(c.loan, on=d, key=k),
    "reage": lambda c, d, k: c.db.loans.reage(c.loan, first_due=date(2026, 9, 1), installments=5, on=d, key=k),
}
EARLY = set(DATES) - {"request", "open_funding", "fund", "approve", "withdraw", "expire", "cancel"}


@pytest.mark.parametrize("command", DATES)
async def test_dates(case: Case, command: str) -> None:
    bad: dict[str, Any] = {"a datetime": NOON, "text": "2026-02-01", "a number": 20260201}
    if command in EARLY - {"begin_disbursement"}:
        bad["before the loan was paid out"] = BEFORE
    for name, day in bad.items():
        for key in (None, "k"):
            try:
                await refused(case.db, lambda: DATES[command](case, day, key), (Invalid, Conflict))  # noqa: B023
            except BaseException as e:
                e.add_note(f"{command} on {name}, key {key}")
                raise


@pytest.mark.parametrize(
    "command",
    sorted(EARLY - {"payoff", "charge", "charge_late_fees", "reschedule", "reamortize", "reage"} | {"fund", "expire"}),
)
async def test_a_closed_period_takes_nothing(case: Case, command: str) -> None:
    db = case.db
    if command == "expire":
        await db.loans.fund(case.open, case.person, usd("10"), on=DAY, key=None)
    period = await db.ledger.periods.open(MARCH, date(2026, 3, 31))
    await db.ledger.periods.close(period.id)
    day = date(2026, 3, 1)
    if command == "waive":
        # No money moves.
        await DATES[command](case, day, None)
        return
    await refused(db, lambda: DATES[command](case, day, "k"), Conflict)


async def test_unknown_things(case: Case) -> None:
    db, nobody = case.db, uuid7()
    for act in (
        lambda: db.loans.request(product=nobody, borrower=case.person, principal=usd("10"), on=DAY, key="k"),
        lambda: db.loans.request(product=case.what, borrower=nobody, principal=usd("10"), on=DAY, key="k"),
        lambda: db.loans.repay(nobody, usd("10"), on=FEB, key="k"),
        lambda: db.loans.reverse(nobody, on=FEB, key="k"),
        lambda: db.loans.chargeback(nobody, on=FEB, key="k"),
        lambda: db.loans.fund(case.open, nobody, usd("10"), on=FEB, key="k"),
        lambda: db.loans.disburse(nobody, on=FEB, key="k"),
        lambda: db.loans.schedule(case.loan, 7),
        lambda: db.loans.by_number(999),
    ):
        await refused(db, act, (NotFound, Invalid))
    for thing in (None, "loan", 7, 1.5):
        await refused(db, lambda: db.loans.repay(thing, usd("10"), on=FEB, key="k"), Invalid)  # type: ignore[arg-type]  # noqa: B023


async def test_a_retired_product_lends_no_more(case: Case) -> None:
    db = case.db
    newer = await db.products.revise(case.what, name="Another")

    def ask(product: LoanProduct) -> Awaitable[Any]:
        return db.loans.request(product=product, borrower=case.person, principal=usd("10"), on=DAY, key="k")

    await refused(db, lambda: ask(case.what), Invalid)
    assert (await ask(newer)).product == newer.ref
    # What was lent before goes on.
    await db.loans.repay(case.loan, usd("10"), on=FEB, key=None)


async def test_requests_out_of_a_products_bounds(case: Case) -> None:
    good: dict[str, Any] = {"product": case.what, "borrower": case.person, "principal": usd("10"), "on": DAY}
    for bad in (
        {"annual_rate": 0.12},
        {"annual_rate": Decimal(-1)},
        {"annual_rate": Decimal("NaN")},
        {"annual_rate": Decimal("1e999999")},
        {"installments": 0},
        {"installments": 10**9},
        {"installments": 2.0},
        {"installments": True},
        {"principal": usd("0.99")},
        {"principal": usd("1000000.01")},
        {"first_due": DAY},
        {"first_due": BEFORE},
        {"first_due": NOON},
        {"first_due": "soon"},
        {"external_id": ""},
        {"external_id": "x" * 121},
        {"purpose": "x" * 121},
    ):
        for key in (None, "k"):
            await refused(case.db, lambda: case.db.loans.request(**good | bad, key=key), Invalid)  # noqa: B023


async def test_a_closed_loan_takes_no_changes(case: Case) -> None:
    db, closed = case.db, case.closed
    for act in (
        lambda: db.loans.waive(closed, usd("1"), [Component.INTEREST], on=FEB, key="k"),
        lambda: db.loans.charge_off(closed, on=FEB, key="k"),
        lambda: db.loans.write_off(closed, on=FEB, key="k"),
        lambda: db.loans.recover(closed, usd("1"), on=FEB, key="k"),
        lambda: db.loans.reschedule(closed, installments=4, on=FEB, key="k"),
        lambda: db.loans.reamortize(closed, on=FEB, key="k"),
        lambda: db.loans.reage(closed, first_due=date(2026, 9, 1), installments=4, on=FEB, key="k"),
        lambda: db.loans.pay_off(closed, on=FEB, key="k"),
        lambda: db.loans.disburse(closed, on=FEB, key="k"),
        lambda: db.loans.begin_disbursement(closed, on=FEB, key="k"),
        lambda: db.loans.confirm_disbursement(closed, on=FEB, key="k"),
        lambda: db.loans.fail_disbursement(closed, on=FEB, key="k"),
        lambda: db.loans.refund(closed, on=FEB, key="k"),
        lambda: db.loans.approve(closed, on=FEB, key="k"),
        lambda: db.loans.withdraw(closed, on=FEB, key="k"),
        lambda: db.loans.fund(closed, case.person, usd("1"), on=FEB, key="k"),
    ):
        await refused(db, act, (Conflict, InvalidTransition))


async def test_a_loan_that_is_written_off_takes_recoveries_alone(case: Case) -> None:
    db, lost = case.db, case.lost
    first, *_ = await db.loans.transactions(lost)
    for act in (
        lambda: db.loans.repay(lost, usd("1"), on=FEB, key="k"),
        lambda: db.loans.goodwill(lost, usd("1"), on=FEB, key="k"),
        lambda: db.loans.waive(lost, usd("1"), [Component.INTEREST], on=FEB, key="k"),
        lambda: db.loans.charge(lost, ChargeKind.FEE, usd("1"), code="visit", due=FEB, key="k"),
        lambda: db.loans.pay_off(lost, on=FEB, key="k"),
        lambda: db.loans.refund(lost, on=FEB, key="k"),
        lambda: db.loans.write_off(lost, on=FEB, key="k"),
        lambda: db.loans.charge_off(lost, on=FEB, key="k"),
        lambda: db.loans.reschedule(lost, installments=4, on=FEB, key="k"),
        lambda: db.loans.disburse(lost, on=FEB, key="k"),
        lambda: db.loans.reverse(first, on=FEB, key="k"),
    ):
        await refused(db, act, Conflict)
    back = await db.loans.recover(lost, usd("10"), on=FEB, key=None)
    await db.loans.reverse(back, on=FEB, key=None)
    await refused(db, lambda: db.loans.reverse(back, on=FEB, key="k"), Conflict)
    await agree(db)


async def test_undo(case: Case) -> None:
    db = case.db
    await db.loans.write_off(case.loan, on=MARCH, key=None)
    # Undo after a write-off.
    await refused(db, lambda: db.loans.reverse(case.paid, on=MARCH, key="k"), Conflict)
    other = await active(db, case.what)
    given, *_ = await db.loans.transactions(other)
    await refused(db, lambda: db.loans.reverse(given, on=MARCH, key="k"), Unsupported)
    paid = await db.loans.repay(other, usd("10"), on=FEB, key=None)
    await refused(db, lambda: db.loans.reverse(paid, on=date(2026, 1, 31), key="k"), Invalid)
    undone = await db.loans.reverse(paid, on=FEB, key=None)
    # Double undo, and undo of an undo.
    await refused(db, lambda: db.loans.reverse(paid, on=FEB, key="k"), Conflict)
    await refused(db, lambda: db.loans.reverse(undone, on=FEB, key="k"), Unsupported)
    await refused(db, lambda: db.loans.chargeback(paid, on=FEB, key="k"), Conflict)
    # Undo of what was charged back.
    paid = await db.loans.repay(other, usd("10"), on=FEB, key=None)
    back = await db.loans.chargeback(paid, usd("1"), on=FEB, key=None)
    await refused(db, lambda: db.loans.reverse(paid, on=FEB, key="k"), Conflict)
    await refused(db, lambda: db.loans.reverse(back, on=FEB, key="k"), Unsupported)
    await agree(db)


async def test_refunds(case: Case) -> None:
    db = case.db
    await refused(db, lambda: db.loans.refund(case.loan, on=FEB, key="k"), Conflict)
    await refused(db, lambda: db.loans.refund(case.loan, usd("1"), on=FEB, key="k"), Conflict)
    await refused(db, lambda: db.loans.refund(case.over, case.over.overpaid + usd("0.01"), on=FEB, key="k"), Invalid)
    paid = (await db.loans.transactions(case.over))[-1]
    await db.loans.refund(case.over, on=FEB, key=None)
    # The payment that the refund stands on.
    await refused(db, lambda: db.loans.reverse(paid, on=FEB, key="k"), Conflict)
    await refused(db, lambda: db.loans.refund(case.over, on=FEB, key="k"), Conflict)
    await agree(db)


async def test_chargebacks(case: Case) -> None:
    db = case.db
    given, *_ = await db.loans.transactions(case.loan)
    await refused(db, lambda: db.loans.chargeback(given, on=FEB, key="k"), Conflict)
    await refused(db, lambda: db.loans.chargeback(case.paid, usd("100.01"), on=FEB, key="k"), (Invalid, Conflict))
    await db.loans.chargeback(case.paid, usd("60"), on=FEB, key=None)
    await refused(db, lambda: db.loans.chargeback(case.paid, usd("40.01"), on=FEB, key="k"), (Invalid, Conflict))
    await db.loans.chargeback(case.paid, on=FEB, key=None)
    await refused(db, lambda: db.loans.chargeback(case.paid, on=FEB, key="k"), Conflict)
    assert (await db.loans.get(case.loan.id)).principal_outstanding.units > 0
    await agree(db)


async def test_waivers_and_charges(case: Case) -> None:
    db, loan = case.db, case.loan
    for components in ([], [Component.PRINCIPAL], ["interest"], [None], [Component.INTEREST, Component.PRINCIPAL]):
        await refused(db, lambda: db.loans.waive(loan, usd("1"), components, on=FEB, key="k"), Invalid)  # type: ignore[arg-type]  # noqa: B023
    await refused(db, lambda: db.loans.waive(loan, usd("1"), [Component.FEE], on=FEB, key="k"), Invalid)
    await refused(db, lambda: db.loans.waive(loan, usd("999"), [Component.INTEREST], on=FEB, key="k"), Invalid)
    for kind in (ChargeKind.CHARGEBACK, "principal", None):
        await refused(db, lambda: db.loans.charge(loan, kind, usd("1"), code="x", due=FEB, key="k"), Invalid)  # type: ignore[arg-type]  # noqa: B023
    for code in ("", "late", "x" * 41, None, 7):
        await refused(
            db,
            lambda: db.loans.charge(loan, ChargeKind.FEE, usd("1"), code=code, due=FEB, key="k"),  # type: ignore[arg-type]  # noqa: B023
            Invalid,
        )
    await agree(db)


async def test_new_schedules(case: Case) -> None:
    db, loan = case.db, case.loan
    for given in (
        {"installments": 0},
        {"installments": 4.0},
        {"annual_rate": 0.1},
        {"annual_rate": Decimal(11)},
        {"annual_rate": Decimal(-1)},
        {"first_due": NOON},
        {"first_due": "soon"},
        {"first_due": date(2025, 6, 1)},
        {"since": date(2026, 2, 2)},
        {"since": "soon"},
        {"first_due": date.max, "installments": 400},
    ):
        try:
            await refused(db, lambda: db.loans.reschedule(loan, **given, on=FEB, key="k"), Invalid)  # noqa: B023
        except BaseException as e:
            e.add_note(f"{given}")
            raise
    for given in (
        {"first_due": FEB, "installments": 3},
        {"first_due": NOON, "installments": 3},
        {"first_due": MARCH, "installments": 0},
        {"first_due": MARCH, "installments": 3, "every": 0},
        {"first_due": MARCH, "installments": 3, "every": -1},
        {"first_due": MARCH, "installments": 3, "frequency": "fortnight"},
        {"first_due": date.max, "installments": 400},
    ):
        try:
            await refused(db, lambda: db.loans.reage(loan, **given, on=FEB, key="k"), Invalid)  # type: ignore[arg-type]  # noqa: B023
        except BaseException as e:
            e.add_note(f"{given}")
            raise
    await refused(db, lambda: db.loans.reamortize(loan, on=date(2026, 1, 15), key="k"), (Invalid, Conflict))
    await agree(db)


async def test_keys(case: Case) -> None:
    db, loan = case.db, case.loan
    for key in ("", "x" * 201, "a\x00b", "a\nb", 7, b"k", 1.5):
        await refused(db, lambda: db.loans.repay(loan, usd("1"), on=FEB, key=key), Invalid)  # type: ignore[arg-type]  # noqa: B023
    for id in ("", "x" * 121, 7):
        await refused(db, lambda: db.loans.repay(loan, usd("1"), on=FEB, key="k", external_id=id), Invalid)  # type: ignore[arg-type]  # noqa: B023


async def test_what_is_owed_back_has_a_bound(case: Case) -> None:
    """Each payment fits its column, and their sum does not."""
    db = case.db
    await db.loans.repay(case.over, Money(FIAT_MAX - 10**7, "USD"), on=FEB, key=None)
    await refused(db, lambda: db.loans.repay(case.over, Money(FIAT_MAX - 10**7, "USD"), on=FEB, key="k"), Invalid)
    await agree(db)


async def test_another_tenants_loan_is_one_that_does_not_exist(case: Case, tally: Tallystick) -> None:
    slug = f"other-{uuid4().hex}"
    await tally.tenants.create(slug, name="Other")
    async with tally.session(slug, actor="other", permissions=("*",)) as other:
        what = await product(other, "theirs")
        theirs = await active(other, what)
        paid = await other.loans.repay(theirs, usd("10"), on=FEB, key=None)
        person = await other.users.add(User(status=UserStatus.ACTIVE))
    db = case.db
    pairs: list[Callable[[Any], Awaitable[Any]]] = [
        lambda id: db.loans.repay(id(theirs.id), usd("10"), on=FEB, key="k"),
        lambda id: db.loans.disburse(id(theirs.id), on=FEB, key="k"),
        lambda id: db.loans.write_off(id(theirs.id), on=FEB, key="k"),
        lambda id: db.loans.payoff(id(theirs.id), on=FEB),
        lambda id: db.loans.charge(id(theirs.id), ChargeKind.FEE, usd("1"), code="x", due=FEB, key="k"),
        lambda id: db.loans.reverse(id(paid.id), on=FEB, key="k"),
        lambda id: db.loans.chargeback(id(paid.id), on=FEB, key="k"),
        lambda id: db.loans.reschedule(id(theirs.id), on=FEB, key="k"),
        lambda id: db.loans.fund(case.open, id(person.id), usd("1"), on=FEB, key="k"),
        lambda id: db.loans.request(product=id(what.id), borrower=case.person, principal=usd("9"), on=DAY, key="k"),
        lambda id: db.loans.request(product=case.what, borrower=id(person.id), principal=usd("9"), on=DAY, key="k"),
    ]
    for act in pairs:
        one = await refused(db, lambda: act(lambda given: given), TallystickError)  # noqa: B023
        none = await refused(db, lambda: act(lambda _: uuid7()), TallystickError)  # noqa: B023
        assert type(one) is type(none)
        assert str(one) == str(none)
        assert isinstance(one, (NotFound, Invalid))
    assert await db.loans.schedule(theirs.id) == []
    assert await db.loans.transactions(theirs.id) == []


async def test_a_loan_that_owes_nothing_but_unearned_interest_is_settled_without_a_payment(db: Session) -> None:
    order = tuple(f"{t.value}_{c}" for t in Timing for c in ("principal", "interest", "fee", "penalty"))
    servicing = Servicing(allocation_order=order, allocation_style=AllocationStyle.BY_COMPONENT)
    loan = await active(db, await product(db, rate=Decimal("0.12"), servicing=servicing))
    await db.loans.repay(loan, usd("1000"), on=DAY, key=None)
    assert not (await db.loans.payoff(loan, on=DAY)).total
    settled = await db.loans.pay_off(loan, on=DAY, key="k")
    assert settled.loan.status is LoanStatus.CLOSED
    assert (await db.loans.pay_off(loan, on=DAY, key="k")).id == settled.id
    await agree(db)
