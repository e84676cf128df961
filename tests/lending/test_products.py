"""Products and calendars: policies are data, never change, and decide the schedule."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import msgspec
import pytest
from tests.lending.support import active, product, terms

from tallystick import (
    BusinessCalendar,
    BusinessDay,
    ChargeBasis,
    FeeRule,
    Frequency,
    Invalid,
    LateFee,
    LoanProduct,
    Money,
    Servicing,
    Unsupported,
    money,
    usd,
)
from tallystick.domains.lending.servicing import DEFAULT_ORDER
from tallystick.session import Session


async def test_policies_are_stored_whole_and_read_back(db: Session) -> None:
    made = await product(
        db,
        servicing=Servicing(
            allocation_order=tuple(reversed(DEFAULT_ORDER)),
            fees=(FeeRule(code="f", basis=ChargeBasis.PERCENT_OF_PRINCIPAL, percent=Decimal("0.0125")),),
            late_fee=LateFee(after_days=3, amount=Decimal("4.50")),
            arrears_tolerance=Decimal("0.50"),
        ),
        installment_multiple=Decimal("0.05"),
    )
    read = await db.products.get(made.id)
    assert (read.terms, read.servicing) == (made.terms, made.servicing)
    assert read == made


async def test_an_edition_is_made_and_the_old_one_stands(db: Session) -> None:
    first = await product(db)
    loan = await active(db, first)
    second = await db.products.revise(first, default_rate=Decimal("0.1"), servicing=Servicing(arrears_grace_days=5))
    assert (second.edition, second.active, second.terms) == (2, True, first.terms)
    assert (await db.products.current("p")).id == second.id
    assert (await db.products.get(loan.product.id)).servicing.arrears_grace_days == 0
    with pytest.raises(Invalid, match="current edition"):
        await db.products.revise(first, default_rate=Decimal(0))
    for wrong in ({"code": "q"}, {"edition": 9}, {"active": False}, {"colour": "red"}):
        with pytest.raises(Invalid, match="policies only"):
            await db.products.revise(second, **wrong)
    with pytest.raises(Invalid, match="cannot be set"):
        await db.products.update(second, default_rate=Decimal(0))


async def test_due_dates_keep_clear_of_holidays(db: Session) -> None:
    calendar = await db[BusinessCalendar].add(
        BusinessCalendar(code="ke", weekend=[6, 7], holidays=[date(2026, 4, 6), date(2026, 6, 1)])
    )
    made = await db.products.add(
        LoanProduct(
            code="ke",
            name="x",
            min_principal=money("1", "KES"),
            max_principal=money("100000", "KES"),
            default_rate=Decimal("0.12"),
            default_installments=6,
            terms=terms(business_day=BusinessDay.MODIFIED_FOLLOWING),
            calendar=calendar.ref,
        )
    )
    loan = await active(db, made, on=date(2026, 1, 1))
    dues = [i.due for i in await db.loans.schedule(loan)]
    assert dues == [
        date(2026, 2, 2),
        date(2026, 3, 2),
        date(2026, 4, 1),
        date(2026, 5, 1),
        date(2026, 6, 2),
        date(2026, 7, 1),
    ]
    assert {i.principal.asset for i in await db.loans.schedule(loan)} == {"KES"}


async def test_weekly_loans(db: Session) -> None:
    loan = await active(db, await product(db, frequency=Frequency.WEEKS, every=2), installments=4)
    rows = await db.loans.schedule(loan)
    assert [(i.due - i.start).days for i in rows] == [14] * 4
    assert loan.matures_on == rows[-1].due


@pytest.mark.parametrize(
    "wrong",
    [
        {"allocation_order": DEFAULT_ORDER[:-1]},
        {"allocation_order": (*DEFAULT_ORDER[:-1], DEFAULT_ORDER[0])},
        {"arrears_tolerance": Decimal(-1)},
        {"arrears_grace_days": -1},
        {"non_performing_days": 0},
        {"overpayment": "keep"},
        {"lenders_interest": Decimal("1.5")},
        {"fees": (FeeRule(code="a", amount=Decimal(1)), FeeRule(code="a", amount=Decimal(2)))},
    ],
)
def test_servicing_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        Servicing(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": None},
        {"amount": 1.5},
        {"amount": Decimal(0)},
        {"amount": Decimal(1), "percent": Decimal("0.1")},
        {"basis": ChargeBasis.PERCENT_OF_PRINCIPAL},
        {"basis": ChargeBasis.PERCENT_OF_OVERDUE, "percent": Decimal("0.1")},
    ],
)
def test_fees_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        FeeRule(code="x", **wrong)  # type: ignore[arg-type]


async def test_products_that_cannot_be(db: Session) -> None:
    good = await product(db)
    fields = {n: getattr(good, n) for n in ("name", "default_rate", "default_installments", "terms")}
    fields |= {"min_principal": usd("1"), "max_principal": usd("10")}
    for wrong in (
        {"min_principal": usd("0")},
        {"min_principal": usd("11")},
        {"max_principal": Money(10, "KES")},
        {"default_rate": Decimal(11)},
        {"default_installments": 0},
        {"min_installments": 5},
    ):
        with pytest.raises((Invalid, Unsupported)):
            await db.products.add(LoanProduct(**fields | {"code": "other"} | wrong))  # type: ignore[arg-type]
    assert await db.products.count() == 1


def test_policies_travel_as_json() -> None:
    servicing = Servicing(fees=(FeeRule(code="a", amount=Decimal("1.10")),))
    assert msgspec.json.decode(msgspec.json.encode(servicing), type=Servicing) == servicing
