"""Cases D, 67 and 68: delinquency, after the scenarios of Apache Fineract's own tests at 4198b0bcf9a9.

LoanDelinquency.feature, InstallmentLevelDelinquencyAPIIntegrationTests, DelinquencyBucketsIntegrationTest. A pause
holds there from the day after its start, here from its first day: the tables are in its terms, and translated. There it
is also taken off installments that fell due after it, which is not done here, so those rows are left out.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from tests.lending.portfolio_support import Book, Row, lend, person, product_of

from tallystick import Invalid
from tallystick.domains.lending.buckets import USUAL, Buckets, DayRange
from tallystick.domains.lending.servicing import ChargeKind, Servicing
from tallystick.session import Session

GRACE = Servicing(arrears_grace_days=3)
OCTOBER = [date(2023, 10, 1), date(2023, 10, 16), date(2023, 10, 31), date(2023, 11, 15)]


async def of_1000(db: Session, servicing: Servicing | None = None) -> Book:
    product = await product_of(db, servicing=servicing)
    return await lend(db, product, await person(db, "x"), [Row(due, 250_00) for due in OCTOBER], OCTOBER[0])


async def amounts(db: Session, on: date, buckets: Buckets = USUAL) -> dict[str | None, int]:
    """Whole units overdue by the age of installments."""
    found = await db.portfolio.delinquency(on, buckets=buckets)
    return {x.bucket: x.amount.units // 100 for x in found.lines if x.installments}


@pytest.mark.parametrize("servicing", [None, GRACE])
async def test_case_67(db: Session, servicing: Servicing | None):
    book = await of_1000(db, servicing)
    assert await amounts(db, date(2023, 11, 16)) == {"RANGE_1": 250, "RANGE_3": 250, "RANGE_30": 500}
    assert await amounts(db, date(2023, 12, 16)) == {"RANGE_30": 500, "RANGE_60": 500}
    await book.pay(1000_00, date(2023, 12, 17))
    assert await amounts(db, date(2023, 12, 17)) == {}
    assert await amounts(db, date(2023, 12, 16)) == {"RANGE_30": 500, "RANGE_60": 500}


async def test_case_67_by_loan(db: Session):
    await of_1000(db)
    for on, bucket, overdue in ((date(2023, 11, 16), "RANGE_30", 1000_00), (date(2023, 12, 16), "RANGE_60", 1000_00)):
        (line,) = [x for x in (await db.portfolio.delinquency(on)).lines if x.loans]
        assert (line.bucket, line.loans, line.overdue.units) == (bucket, 1, overdue)


@pytest.mark.parametrize(
    "ranges",
    [
        (DayRange("RANGE_1", 1, 3), DayRange("RANGE_3", 3, 30)),
        (DayRange("RANGE_3", 4, 30), DayRange("RANGE_1", 1, 3)),
        (DayRange("RANGE_1", 1, 3), DayRange("RANGE_30", 31, 60)),
        (DayRange("RANGE_1", 1), DayRange("RANGE_3", 4, 30)),
    ],
)
def test_case_68(ranges: tuple[DayRange, ...]):
    with pytest.raises(Invalid):
        Buckets(ranges)


def test_case_68_a_sequence_is_taken():
    assert Buckets((DayRange("RANGE_1", 1, 3), DayRange("RANGE_3", 4, 30))).of_days(4) == DayRange("RANGE_3", 4, 30)


async def pay(book: Book, day: str, units: int) -> None:
    await book.pay(units * 100, date.fromisoformat(f"2023-{day}"))


async def stop(book: Book, first: str, last: str) -> None:
    starts = date.fromisoformat(f"2023-{first}") + timedelta(days=1)
    await book.db.portfolio.pause(book.loan, starts, date.fromisoformat(f"2023-{last}"), key=None)


# label: what happens; then day: days past due by the calendar, with grace and pauses, the bucket, what is overdue
SCENARIOS: dict[str, tuple[list[tuple[Any, ...]], list[tuple[str, int, int, str | None, int]]]] = {
    "W1-W3, W19": (
        [],
        [
            ("2023-10-02", 1, 0, None, 250),
            ("2023-10-04", 3, 0, None, 250),
            ("2023-10-05", 4, 1, "RANGE_1", 250),
            ("2023-12-01", 61, 58, "RANGE_30", 1000),
        ],
    ),
    "W4-W6": (
        [(stop, "10-06", "10-30")],
        [
            ("2023-10-06", 5, 2, "RANGE_1", 250),
            ("2023-10-30", 29, 2, "RANGE_1", 500),
            ("2023-10-31", 30, 3, "RANGE_1", 500),
        ],
    ),
    "W7-W8": (
        [(stop, "10-15", "10-25")],
        [
            ("2023-10-15", 14, 11, "RANGE_3", 250),
            ("2023-10-26", 25, 12, "RANGE_3", 500),
            ("2023-11-13", 43, 30, "RANGE_3", 750),
        ],
    ),
    "W9-W11": (
        [(stop, "10-15", "10-25"), (stop, "11-14", "11-30")],
        [
            ("2023-11-14", 44, 31, "RANGE_30", 750),
            ("2023-11-30", 60, 31, "RANGE_30", 1000),
            ("2023-12-01", 61, 32, "RANGE_30", 1000),
        ],
    ),
    "W12": ([(stop, "10-06", "10-30"), (pay, "10-16", 500)], [("2023-10-16", 0, 0, None, 0)]),
    "W13": ([(stop, "10-06", "10-30"), (pay, "10-16", 150)], [("2023-10-16", 15, 2, "RANGE_1", 100)]),
    "W16": (
        [(stop, "10-25", "10-30"), (stop, "10-30", "11-15")],
        [("2023-10-30", 29, 21, "RANGE_3", 500), ("2023-10-31", 30, 21, "RANGE_3", 500)],
    ),
    "W17": (
        [(stop, "10-25", "11-15")],
        [("2023-10-25", 24, 21, "RANGE_3", 500), ("2023-10-27", 26, 21, "RANGE_3", 500)],
    ),
    "W18": (
        [(pay, "10-01", 250), (stop, "10-16", "10-25")],
        [
            ("2023-10-26", 10, 0, None, 250),
            ("2023-10-28", 12, 0, None, 250),
            ("2023-10-29", 13, 1, "RANGE_1", 250),
        ],
    ),
    "W20": ([(pay, "10-26", 250)], [("2023-10-25", 24, 21, "RANGE_3", 500), ("2023-10-26", 10, 7, "RANGE_3", 250)]),
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenarios_with_grace_and_pauses(db: Session, name: str):
    actions, expected = SCENARIOS[name]
    book = await of_1000(db, GRACE)
    for action, *given in actions:
        await action(book, *given)
    for day, calendar, counted, bucket, overdue in expected:
        found = await db.portfolio.standing(book.loan, date.fromisoformat(day))
        seen = (found.days_since_due, found.days_past_due, found.bucket, found.overdue.total.units // 100)
        assert seen == (calendar, counted, bucket, overdue), day


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("2023-10-04", {}),  # inside the grace of the loan no installment is shown
        ("2023-10-05", {"RANGE_3": 250}),
        ("2023-10-25", {"RANGE_3": 500}),
    ],
)
async def test_installments_are_shown_with_their_loan_and_by_their_own_age(db: Session, on: str, expected: Any):
    await of_1000(db, GRACE)
    assert await amounts(db, date.fromisoformat(on)) == expected


async def test_w21_charges_count_with_their_installment(db: Session):
    book = await of_1000(db, GRACE)
    await book.charge(ChargeKind.PENALTY, 1, 20_00, date(2023, 10, 5))
    await book.charge(ChargeKind.FEE, 2, 20_00, date(2023, 10, 20))
    assert await amounts(db, date(2023, 12, 16)) == {"RANGE_30": 520, "RANGE_60": 520}


async def test_w22_and_w23_periods_of_30_days(db: Session):
    product = await product_of(db, servicing=GRACE)
    first = date(2024, 1, 1)
    rows = [Row(first + timedelta(days=30 * n), 250_00) for n in range(4)]
    book = await lend(db, product, await person(db, "x"), rows, first)
    found = await db.portfolio.standing(book.loan, date(2024, 3, 5))
    assert (found.days_since_due, found.days_past_due, found.bucket) == (64, 61, "RANGE_60")
    assert await amounts(db, date(2024, 3, 5)) == {"RANGE_3": 250, "RANGE_30": 250, "RANGE_60": 250}
    one = await lend(db, product, await person(db, "y"), [Row(date(2023, 1, 31), 1000_00)], date(2023, 1, 1))
    found = await db.portfolio.standing(one.loan, date(2023, 3, 1))
    assert (found.days_since_due, found.days_past_due, found.bucket) == (29, 26, "RANGE_3")


@pytest.mark.parametrize(
    ("spans", "steps"),
    [
        (
            ("1-10", "11-30", "31-60", "61+"),
            [
                (0, 120, {"11-30": 314, "31-60": 312, "61+": 624}),
                (626, 60, {"11-30": 314, "31-60": 310}),
                (100, 60, {"11-30": 314, "31-60": 210}),
                (524, 0, {}),
            ],
        ),
        (("1-60", "61+"), [(0, 120, {"1-60": 626, "61+": 624}), (313, 90, {"1-60": 626, "61+": 311})]),
    ],
)
async def test_w24_and_w25_payments_move_what_is_overdue(db: Session, spans: Any, steps: Any):
    dues = [date(2023, 1, 31), date(2023, 3, 2), date(2023, 4, 1), date(2023, 5, 1)]
    rows = [Row(due, units * 100) for due, units in zip(dues, (312, 312, 312, 314), strict=True)]
    book = await lend(db, await product_of(db), await person(db, "x"), rows, date(2023, 1, 1))
    on = date(2023, 5, 31)
    for paid, days, expected in steps:
        if paid:
            await book.pay(paid * 100, on)
        assert (await db.portfolio.standing(book.loan, on)).days_past_due == days
        assert await amounts(db, on, Buckets.of(*spans)) == expected


async def test_w26_due_today_is_not_late(db: Session):
    rows = [Row(date(2023, 1, 31), 312_00)]
    await lend(db, await product_of(db), await person(db, "x"), rows, date(2023, 1, 1))
    buckets = Buckets.of("1", "2+")
    found = [await amounts(db, date(2023, 1, 31) + timedelta(days=n), buckets) for n in range(3)]
    assert found == [{}, {"1": 312}, {"2+": 312}]


@pytest.mark.parametrize(
    ("pauses", "expected"),
    [
        ([(6, 10)], [("2012-02-06", 5, 103333), ("2012-02-09", 5, 103333), ("2012-03-12", 36, 204999)]),
        (
            [(6, 10), (13, 18), (23, 25)],
            [
                ("2012-02-13", 8, 103333),
                ("2012-02-23", 13, 103333),
                ("2012-03-12", 29, 204999),
                ("2012-03-14", 31, 204999),
            ],
        ),
    ],
)
async def test_w27_and_w28_several_pauses(db: Session, pauses: Any, expected: Any):
    rows = [Row(date(2012, 2, 1), 1033_33), Row(date(2012, 3, 1), 1016_66)]
    book = await lend(db, await product_of(db), await person(db, "x"), rows, date(2012, 1, 1))
    for first, last in pauses:
        await db.portfolio.pause(book.loan, date(2012, 2, first + 1), date(2012, 2, last), key=None)
    for day, days, overdue in expected:
        found = await db.portfolio.standing(book.loan, date.fromisoformat(day))
        assert (found.days_past_due, found.overdue.total.units) == (days, overdue), day
    assert (await db.portfolio.standing(book.loan, date(2012, 1, 31))).days_past_due == 0
