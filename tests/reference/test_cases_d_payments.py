"""Cases D: where payments go, what moves when they are taken back, and what the books say of it.

Source: apache/fineract 4198b0bcf9a9, the feature files of its end-to-end tests; each scenario names its file and line.
A merchant's refund, which Tallystick has no kind for, is played as goodwill with the same allocation rule. Where the
two differ on purpose docs/decisions/0013-payments.md says why, and the scenario is here with our numbers.
"""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import pytest
from tests.lending.support import product
from tests.reference.scenario import Scenario

from tallystick import Conflict, Invalid, KeyReused, Session, Unsupported, usd
from tallystick.domains.lending.calendar import Frequency
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.servicing import DEFAULT_ORDER, AllocationStyle, FutureAllocation, Servicing
from tallystick.domains.lending.terms import InterestMethod
from tallystick.domains.lending.transactions import TransactionKind as K

NEXT, LAST, EVEN = FutureAllocation.NEXT_INSTALLMENT, FutureAllocation.LAST_INSTALLMENT, FutureAllocation.REAMORTIZE
DAYS, MONTHS = Frequency.DAYS, Frequency.MONTHS
ADVANCED = tuple(
    f"{timing}_{part}"
    for timing in ("past_due", "due", "in_advance")
    for part in ("penalty", "fee", "principal", "interest")
)
DUE_A = (
    *DEFAULT_ORDER[:8],
    *("in_advance_penalty", "in_advance_fee", "in_advance_principal"),
    *("not_due_penalty", "not_due_fee", "in_advance_interest"),
)
DUE_B = (
    *("past_due_penalty", "past_due_interest", "past_due_principal", "past_due_fee"),
    *("due_penalty", "due_interest", "due_principal", "due_fee"),
    *("in_advance_penalty", "in_advance_fee", "not_due_penalty", "in_advance_interest"),
    *("in_advance_principal", "not_due_fee"),
)


async def lp1(db: Session, count: int = 1, **given: Any) -> LoanProduct:
    """Thirty-day installments without interest."""
    given = {"frequency": DAYS, "every": 30, "servicing": Servicing()} | given
    return await product(db, installments=count, **given)


async def lp2(db: Session, *, auto: bool = True, goodwill: FutureAllocation = LAST, **given: Any) -> LoanProduct:
    """A quarter paid down and three installments, fifteen days apart, in whole units."""
    servicing = {
        "allocation_order": ADVANCED,
        "goodwill_allocation": goodwill,
        "auto_down_payment": auto,
        "future_allocation": given.pop("future", NEXT),
        "allocation_style": given.pop("style", AllocationStyle.BY_INSTALLMENT),
    }
    base = {"frequency": DAYS, "every": 15, "down_payment": D("0.25"), "installment_multiple": D(1)}
    return await product(db, installments=3, servicing=Servicing(**servicing), **base | given)


async def monthly(db: Session, rate: str = "0", order: tuple[str, ...] = DEFAULT_ORDER) -> LoanProduct:
    """Three monthly installments, flat."""
    servicing = Servicing(allocation_order=order)
    return await product(db, rate=D(rate), interest_method=InterestMethod.FLAT, servicing=servicing)


PAYMENTS = {
    "52": """
        01-01 lend 3000
        02-01 fee 50 02-01
        a: 02-01 repay 500
        = a: fees 50 principal 450
        = active 2550
    """,
    "55": """
        01-01 lend 3000
        01-15 penalty 50 01-15
        01-15 penalty 50 01-20
        01-15 fee 50 01-20
        a: 01-15 repay 1150
        = a: principal 1000 fees 50 penalties 100
        = active 2000
        = row 1: left 0 advance 1150 on 01-15
    """,
}


@pytest.mark.parametrize("case", PAYMENTS)
async def test_payments(db: Session, case: str) -> None:
    await Scenario(db, await monthly(db), 2023).play(PAYMENTS[case])


FLAT = {
    "53": """
        01-01 lend 3000
        a: 02-01 repay 500
        = a: interest 30 principal 470
        = row 1: left 530
        = active 2590
    """,
    "54": """
        01-01 lend 3000
        01-15 penalty 50 01-15
        01-15 penalty 50 01-20
        01-15 fee 50 01-20
        a: 01-15 repay 1180
        = a: principal 1000 interest 30 fees 50 penalties 100
        = active 2060
        = row 1: left 0
        01-16 undo a
        = active 3240
    """,
}


@pytest.mark.parametrize("case", FLAT)
async def test_payments_with_interest(db: Session, case: str) -> None:
    await Scenario(db, await monthly(db, "0.12"), 2023).play(FLAT[case])


# Loan.feature. LP2 of 500: rows due 01 Jan (paid down), 16 Jan, 31 Jan, 15 Feb.
ADVANCE = {
    # T1, case 56, line 1446.
    "in advance to the next": """
        01-01 lend 500
        = left 0 125 125 125
        a: 01-16 repay 150
        = a: principal 150
        = row 3: paid 25 advance 25 left 100
        = active 225
        01-31 repay 125
        = row 3: left 0 advance 25
        = row 4: paid 25 advance 25
        = active 100
        02-15 repay 100
        = closed
    """,
    # T2, line 1528.
    "goodwill to the last": """
        01-01 lend 500
        01-16 goodwill 150
        = left 0 0 125 100
        = row 4: advance 25
        01-31 repay 125
        = left 0 0 0 100
        02-15 repay 100
        = closed
    """,
    # T3, line 1610.
    "past due first": """
        01-01 lend 500
        01-01 undo down_payment
        = left 125 125 125 125
        a: 01-16 repay 125
        = row 1: late 125 left 0
        01-16 undo a
        01-20 repay 100
        = row 1: late 100 left 25
        01-31 repay 40
        = row 1: late 125 on 01-31
        = row 2: late 15
        02-15 repay 360
        = closed
        = row 2: late 125
        = row 3: late 125
        = row 4: late 0 advance 0
    """,
    # T12, line 5165, up to the refund by cash, which there is no kind for.
    "fees of three installments": """
        01-01 lend 500
        01-01 fee 20 01-11
        01-01 fee 20 01-21
        01-01 fee 20 02-11
        a: 01-16 repay 315
        = a: principal 255 fees 60
        = row 2: paid 145 advance 0
        = row 3: paid 145 advance 145
        = row 4: paid 25 advance 25 left 120
    """,
    # T38, LoanCharge.feature 1227: the charge counts from its due date, after that day's payment.
    "a charge that is dated back": """
        01-01 lend 1000
        a: 01-10 repay 300
        b: 01-20 repay 250
        = b: principal 250
        02-10 fee 20 01-10
        = a: principal 300
        = b: principal 230 fees 20
        = row 2: paid 270 advance 250 late 20 on 01-20
        = row 3: paid 250 advance 250
        = row 4: paid 30 advance 30
        = active 220
    """,
    # T39, LoanCharge.feature 1557.
    "a penalty after maturity is waived": """
        01-01 lend 750
        = due 188 187 187 188
        02-01 repay 250
        03-01 repay 250
        a: 04-01 repay 250
        04-01 undo a
        04-05 penalty 10 04-05
        = row 5: due 10 date 04-05
        w: 04-05 waive 10 penalty
        = w: penalties 10
        = row 5: left 0 on 04-05
        = row 4: left 62
        = active 62
    """,
}


@pytest.mark.parametrize("case", ADVANCE)
async def test_what_is_due_when(db: Session, case: str) -> None:
    await Scenario(db, await lp2(db), 2023).play(ADVANCE[case])


# T4 and T5, Loan.feature 1743 and 2303: a merchant's refund is spread over what is to come.
SPREAD = {
    "T4": """
        01-01 lend 500
        01-08 goodwill 300
        = row 1: late 125
        = row 2: advance 58.33
        = row 3: advance 58.33
        = row 4: advance 58.34
        = left 0 66.67 66.67 66.66
        01-16 repay 201
        = overpaid 1
    """,
    "T5": """
        01-01 lend 500
        01-02 goodwill 400
        = left 0 33.33 33.33 33.34
        01-04 repay 50
        = left 0 0 16.66 33.34
        01-06 goodwill 40
        = row 4: advance 115
        = active 10
    """,
    # T18, line 2120, up to undoing the refund's ground.
    "T18": """
        01-01 lend 500
        a: 01-02 goodwill 400
        01-04 repay 50
        b: 01-16 repay 125
        = b: principal 50 over 75
        = overpaid 75
        c: 01-18 refund 75
        = c: over -75
        = closed
    """,
}


@pytest.mark.parametrize("case", SPREAD)
async def test_in_equal_parts(db: Session, case: str) -> None:
    await Scenario(db, await lp2(db, auto=False, goodwill=EVEN), 2023).play(SPREAD[case])


# T6, Loan.feature 2442 to 2614: 400 of which 100 is paid down, then rows due 16 Sep, 01 Oct and 16 Oct.
@pytest.mark.parametrize(
    ("future", "table"),
    [
        (LAST, "09-10 repay 150 | = left 0 100 50 0"),
        (EVEN, "09-10 repay 150 | = left 0 50 50 50"),
        (LAST, "09-16 repay 150 | = left 0 0 100 50"),
        (EVEN, "09-16 repay 150 | = left 0 0 75 75"),
        (EVEN, "09-16 repay 80 | = left 0 20 100 100 | 09-20 repay 180 | = left 0 0 20 20 | = row 2: late 20"),
    ],
)
async def test_future_installments(db: Session, future: FutureAllocation, table: str) -> None:
    lines = table.replace(" | ", "\n")
    await Scenario(db, await lp2(db, future=future), 2023).play(f"09-01 lend 400\n{lines}")


# T7 to T10, Loan.feature 3179 to 4661: two rows left, a penalty on each, and one after maturity.
BEFORE = """
    09-01 lend 1000
    09-01 penalty 20 10-17
    09-16 repay 250
    09-16 penalty 20 09-17
    09-16 penalty 20 10-16
    = due 250 250 270 270 20
    = left 0 0 270 270 20
"""
STYLES: list[tuple[str, AllocationStyle, FutureAllocation, str]] = []
for _style, _seventh, _eighth in (
    (AllocationStyle.BY_INSTALLMENT, "= a: penalties 20 principal 80", "= a: penalties 20 principal 15"),
    (AllocationStyle.BY_COMPONENT, "= a: penalties 60 principal 40", "= a: penalties 35"),
):
    _whole = _style is AllocationStyle.BY_INSTALLMENT
    STYLES += [
        ("T7", _style, LAST, f"a: 09-17 repay 100\n{_seventh}\n= left 0 0 {'170 270 20' if _whole else '210 250 0'}"),
        ("T8", _style, LAST, f"a: 10-17 goodwill 35\n{_eighth}\n= left 0 0 {'235 270 20' if _whole else '250 255 20'}"),
        ("T8b", _style, LAST, "a: 10-17 goodwill 350\n= a: penalties 40 principal 310\n= left 0 0 0 190 20"),
        ("T9", _style, LAST, "a: 09-17 goodwill 35\n= a: penalties 35\n= left 0 0 270 255 0"),
        ("T10", _style, EVEN, "a: 09-17 goodwill 30\n= a: penalties 30\n= left 0 0 260 260 10"),
    ]


@pytest.mark.parametrize(("case", "style", "goodwill", "table"), STYLES)
async def test_styles(db: Session, case: str, style: AllocationStyle, goodwill: FutureAllocation, table: str) -> None:
    await Scenario(db, await lp2(db, style=style, goodwill=goodwill), 2023).play(BEFORE + table)


# T11, LoanRepayment.feature 1371 to 1612 (one order) and T14, 2214 and 2257 (the other): charges not due yet wait.
NOT_DUE = [
    (DUE_A, "0", "02-01 penalty 50 02-01 | a: 02-01 repay 500 | = a: penalties 50 principal 450"),
    (DUE_A, "0", "01-15 penalty 50 01-15 | a: 01-15 repay 500 | = a: penalties 50 principal 450"),
    (
        DUE_A,
        "0",
        "01-15 penalty 50 01-15 | 01-15 penalty 50 01-20 | a: 01-15 repay 500 | = a: penalties 50 principal 450",
    ),
    (
        DUE_A,
        "0",
        "01-15 penalty 50 01-15 | 01-15 penalty 50 01-20 | a: 01-15 repay 1100 | = a: penalties 100 principal 1000",
    ),
    (
        DUE_A,
        "0.12",
        "01-15 penalty 50 01-15 | 01-15 penalty 50 01-20 | 01-15 fee 50 01-20 | a: 01-15 repay 1150 |"
        "= a: penalties 100 fees 50 principal 1000 | b: 01-16 repay 30 | = b: interest 30 | = row 1: left 0",
    ),
    (DUE_B, "0", "01-10 fee 20 02-01 | a: 01-25 repay 500 | = a: principal 500 | b: 02-01 repay 520 |"
     "= b: fees 20 principal 500"),
    (DUE_B, "0", "01-10 penalty 20 02-01 | a: 01-28 repay 520 | = a: penalties 20 principal 500"),
]  # fmt: skip


@pytest.mark.parametrize(("order", "rate", "table"), NOT_DUE)
async def test_charges_that_are_not_due(db: Session, order: tuple[str, ...], rate: str, table: str) -> None:
    lines = table.replace("|", "\n")
    await Scenario(db, await monthly(db, rate, order), 2023).play(f"01-01 lend 3000\n{lines}")


# T13, LoanRepayment.feature 1841, and T41, Loan.feature 1153.
ONE_ROW = {
    "T13": """
        01-01 lend 1000
        01-10 fee 10 01-10
        a: 01-15 repay 500
        = a: principal 490 fees 10
        01-18 penalty 25 01-18
        01-18 back a 500
        = row 1: principal 1500
        b: 01-21 repay 500
        = b: principal 475 penalties 25
        = active 535
    """,
    "T41": """
        01-01 lend 127.95
        01-10 fee 3.65 01-31
        a: 01-17 goodwill 125
        = a: principal 125
        b: 01-17 goodwill 3.65
        = b: principal 2.95 fees 0.70
        c: 01-17 goodwill 2.95
        = c: fees 2.95
        = closed
    """,
}


@pytest.mark.parametrize("case", ONE_ROW)
async def test_one_installment(db: Session, case: str) -> None:
    made = await lp1(db, servicing=Servicing(allocation_order=DUE_A))
    await Scenario(db, made, 2023).play(ONE_ROW[case])


# What moves when a payment is taken back or dated back. Loan.feature 350 to 516, 701, 777; LoanChargeback.feature.
MOVES = {
    "57 to 59": """
        01-01 lend 1000
        a: 01-02 repay 500
        = active 500
        b: 01-03 repay 10
        = active 490
        c: 01-04 repay 400
        = active 90
        d: 01-05 repay 390
        = d: principal 90 over 300
        = overpaid 300
        01-05 undo b
        = d: principal 100 over 290
        = overpaid 290
        01-06 undo a
        = d: principal 390
        = active 210
        e: 01-02 repay 500
        = e: principal 500
        = d: principal 100 over 290
        = overpaid 290
    """,
    "T15": """
        01-01 lend 1000
        01-03 repay 450
        b: 01-05 repay 250
        = b: principal 250
        c: 01-02 repay 400
        = b: principal 150 over 100
        = overpaid 100
    """,
    "T16": """
        01-01 lend 1000
        01-02 repay 450
        01-03 repay 450
        c: 01-04 repay 300
        = overpaid 200
        01-05 back c 300
        = active 100
    """,
    "T16, all of it covered": """
        01-01 lend 1000
        01-02 repay 450
        01-03 repay 450
        c: 01-04 repay 300
        d: 01-05 back c 200
        = closed
    """,
    "T17": """
        01-01 lend 1000
        a: 01-02 repay 450
        01-03 repay 450
        c: 01-04 repay 300
        01-05 undo a
        = active 250
        = c: principal 300
    """,
    "T17, line 701": """
        01-01 lend 1000
        a: 01-02 repay 200
        01-03 repay 700
        c: 01-04 repay 300
        01-05 undo a
        = closed
        = c: principal 300
    """,
    "T17, line 777": """
        01-01 lend 1000
        a: 01-02 repay 200
        01-03 repay 600
        c: 01-04 repay 200
        = closed
        01-05 undo a
        = active 200
    """,
    "chargeback, overpaid stays": """
        01-01 lend 1000
        a: 01-02 repay 1300
        01-03 back a 250
        = overpaid 50
    """,
    # T40, LoanRepayment.feature 3247; a second charge after maturity has a row of its own here.
    "T40": """
        01-01 lend 111.92
        01-17 goodwill 76.48
        a: 01-22 repay 35.44
        = closed
        01-24 undo a
        = active 35.44
        02-01 penalty 2.80 02-01
        = active 38.24
        = row 2: due 2.80 date 02-01
        b: 01-30 repay 38.24
        = b: principal 35.44 penalties 2.80
        = row 2: advance 2.80 on 01-30
        = closed
        c: 01-31 repay 10
        = overpaid 10
        02-06 penalty 5 01-30
        = overpaid 5
        = c: penalties 5 over 5
        = row 1: due 116.92 paid 116.92 advance 114.72 on 01-31
        02-06 penalty 5 02-02
        = closed
        = c: penalties 10
        = row 3: due 5 date 02-02 advance 5
    """,
}


@pytest.mark.parametrize("case", MOVES)
async def test_what_moves(db: Session, case: str) -> None:
    await Scenario(db, await lp1(db), 2023).play(MOVES[case])


# LoanChargeback.feature 646, 748 and 1870.
BACK = {
    "after maturity": (
        False,
        """
        01-01 lend 1000
        a: 01-01 repay 250
        02-15 repay 750
        = closed
        02-25 back a 250
        = row 5: principal 250 date 02-25
        = active 250
        """,
    ),
    "a down payment on its day": (
        True,
        """
        01-01 lend 1000
        01-01 back down_payment 250
        = due 250 500 250 250
        = left 0 500 250 250
        """,
    ),
}


@pytest.mark.parametrize("case", BACK)
async def test_chargebacks(db: Session, case: str) -> None:
    auto, table = BACK[case]
    await Scenario(db, await lp2(db, auto=auto), 2023).play(table)


async def test_a_chargeback_on_the_last_due_date(db: Session) -> None:
    played = Scenario(db, await lp1(db, 3), 2023)
    await played.play("""
        01-01 lend 750
        01-05 repay 150
        b: 01-06 repay 350
        01-07 repay 500
        = overpaid 250
        c: 04-01 back b 350
        = row 3: principal 600 left 100
        = c: principal 250 over -250
        = active 100
    """)
    assert await played.journal("c") == {"principal": usd("100"), "overpaid": usd("250"), "clearing": usd("-350")}


# T35, LoanDownPayment.feature 2389 to 2499: a tranche on a loan that was paid too much. T36 and T37: Loan.feature 5305
# and 5413.
@pytest.mark.parametrize(
    ("paid", "tranche", "then"),
    [
        ("1000", "400", "= overpaid 225 | = due 125 125 100 275 275 | = b: principal 400 over -400"),
        ("1000", "625", "= closed | = due 125 125 156 360 359"),
        ("575", "400", "= active 200 | = left 0 0 0 50 150 | = row 4: advance 225 | = row 5: advance 125"),
        ("475", "600", "= active 450 | = down_payment: principal 125 | = row 3: left 0"),
    ],
)
async def test_a_tranche_uses_what_was_paid_too_much(db: Session, paid: str, tranche: str, then: str) -> None:
    played = Scenario(db, await lp2(db), 2024)
    lines = then.replace(" | ", "\n")
    await played.play(f"02-01 lend 500\n02-16 repay {paid}\nb: 02-20 lend {tranche}\n{lines}")
    downs = [t.amount for t in await played.db.loans.transactions(played.loan) if t.kind is K.DOWN_PAYMENT]
    assert downs == ([usd("125"), usd("50")] if tranche == "600" else [usd("125")])


async def test_a_tranche_in_equal_parts(db: Session) -> None:
    played = Scenario(db, await lp2(db, future=EVEN), 2024)
    await played.play("""
        02-01 lend 200
        a: 02-02 repay 200
        = overpaid 50
        b: 02-03 lend 160
        = due 50 40 90 90 90
        = left 0 0 36.67 36.67 36.66
        = a: principal 150 over 50
        = b: principal 50 over -50
        = active 110
        02-04 undo a
        = b:
        = left 0 40 90 90 90
    """)
    assert await played.journal("b") == {"principal": usd("110"), "overpaid": usd("50"), "clearing": usd("-160")}


async def test_tranche_after_tranche(db: Session) -> None:
    await Scenario(db, await lp2(db, frequency=MONTHS, every=1), 2024).play("""
        02-01 lend 1000
        a: 02-02 repay 800
        02-03 lend 20
        = overpaid 30
        = due 250 5 255 255 255
        02-04 lend 30
        = closed
        = due 250 5 8 262 262 263
        02-05 lend 40
        = active 30
        = due 250 5 8 10 272 272 273
        b: 02-10 repay 40
        = overpaid 10
        02-11 undo b
        = active 30
        02-12 undo a
        = active 830
    """)


# T28 to T31, LoanReAging.feature: what is unpaid is asked for in new installments.
AGED = {
    "T28": """
        01-01 lend 1000
        02-20 reage 03-01 6 1
        = due 250 0 0 0 125 125 125 125 125 125
        = row 5: date 03-01
        = row 10: date 08-01
        = active 750
    """,
    "T30": """
        01-01 lend 500
        01-16 repay 50
        02-27 reage 03-01 6 1
        = due 125 50 0 0 54 54 54 54 54 55
        = active 325
    """,
    "T31": """
        01-01 lend 1000
        02-26 back down_payment 125
        02-26 penalty 20 02-26
        = row 5: due 145
        a: 02-27 goodwill 20
        = a: principal 20
        = row 2: late 20
        02-27 reage 03-01 3 1
        = row 5: due 20 left 20
        = left 0 0 0 0 20 285 285 285
    """,
}


@pytest.mark.parametrize("case", AGED)
async def test_reage(db: Session, case: str) -> None:
    await Scenario(db, await lp2(db), 2024).play(AGED[case])


async def test_reage_in_cents(db: Session) -> None:
    # T29, line 271.
    await Scenario(db, await lp2(db, installment_multiple=None), 2024).play("""
        01-01 lend 1000
        02-02 back down_payment 125
        = row 4: due 375
        02-21 reage 03-10 3 2
        = due 250 0 0 0 291.67 291.67 291.66
        = row 7: date 07-10
        a: 03-10 repay 300
        = row 5: left 0
        = row 6: advance 8.33
        03-11 undo a
        = left 0 0 0 0 291.67 291.67 291.66
    """)


# T32 and T33, LoanReAmortization.feature.
SPREAD_LATE = {
    "line 4": "01-25 reamortize | = due 125 0 187 188",
    "line 181": "02-01 reamortize | = due 125 0 0 375",
    "line 285, the due day is past": "01-31 reamortize | = due 125 0 0 375",
    "line 315": "01-17 repay 50 | 01-30 reamortize | = due 125 50 163 162 | = row 2: late 50 left 0",
    "line 151": "01-10 penalty 10 01-16 | 01-25 reamortize | = due 125 10 187 188 | = row 2: left 10",
    # Fineract makes the plan anew with what was paid since; here a plan stands until the next.
    "line 209": "02-01 reamortize | a: 01-15 repay 125 | = a: principal 125 | = left 0 0 0 250",
}


@pytest.mark.parametrize("case", SPREAD_LATE)
async def test_reamortize(db: Session, case: str) -> None:
    lines = SPREAD_LATE[case].replace(" | ", "\n")
    await Scenario(db, await lp2(db), 2024).play(f"01-01 lend 500\n{lines}")


# T34, LoanReschedule.feature 127 and 159: 3000 in three months from 01 July.
@pytest.mark.parametrize(
    ("table", "dues"),
    [
        ("07-05 reschedule 09-01 09-15 2\n= due 1000 1000 1000", ["08-01", "09-15", "10-15"]),
        ("07-05 reschedule 09-01 09-01 4\n= due 1000 500 500 500 500", ["08-01", "09-01", "10-01", "11-01", "12-01"]),
    ],
)
async def test_reschedule(db: Session, table: str, dues: list[str]) -> None:
    played = Scenario(db, await monthly(db), 2023)
    await played.play(f"07-01 lend 3000\n{table}\n= active 3000")
    assert [i.due for i in await played.rows()] == [played.on(d) for d in dues]


async def test_reschedule_at_another_rate(db: Session) -> None:
    # Line 259: flat interest of the installments to come is halved with the rate, on the whole of the loan.
    played = Scenario(db, await monthly(db, "0.12"), 2023)
    await played.play("07-01 lend 3000")
    await db.loans.reschedule(
        played.loan, since=played.on("09-01"), annual_rate=D("0.06"), on=played.on("07-05"), key=None
    )
    assert [i.interest for i in await played.rows()] == [usd("30"), usd("15"), usd("15")]


async def test_interest_that_was_paid_is_not_asked_for_again(db: Session) -> None:
    played = Scenario(db, await monthly(db, "0.12"), 2023)
    await played.play("""
        07-01 lend 3000
        a: 07-20 repay 10
        = a: interest 10
        07-25 reschedule 08-01 08-01 3
        = row 1: due 10 left 0 date 07-25
        = row 2: interest 20 date 08-01
        = row 3: interest 30
        = active 3080
        b: 08-01 repay 1020
        = b: interest 20 principal 1000
    """)


# -- journals ------------------------------------------------------------------------------------------------------
# Loans receivable is the loan's principal account, suspense is clearing; interest, fees and penalties are income when
# they are paid, and principal that comes in after a charge-off is a recovery.

JOURNALS: dict[str, tuple[str, dict[str, dict[str, str]]]] = {
    "61": (
        """
        01-01 lend 1000
        01-03 repay 450
        01-05 repay 250
        c: 01-06 goodwill 400
        = overpaid 100
        """,
        {"c": {"goodwill": "400", "principal": "-300", "overpaid": "-100"}},
    ),
    "62": (
        "01-01 lend 1000\na: 01-03 repay 450",
        {
            "disbursement": {"principal": "1000", "clearing": "-1000"},
            "a": {"clearing": "450", "principal": "-450"},
        },
    ),
    "63": (
        "01-01 lend 1000\n01-03 repay 250\nc: 02-01 off\n= active 750",
        {"c": {"credit_loss": "750", "principal": "-750"}},
    ),
    # T15: the earlier payment now holds what is too much; only that difference is posted.
    "T15": (
        "01-01 lend 1000\n01-03 repay 450\n01-05 repay 250\nc: 01-02 repay 400",
        {"c": {"clearing": "400", "principal": "-300", "overpaid": "-100"}},
    ),
    "T16": (
        """
        01-01 lend 1000
        01-02 repay 450
        01-03 repay 450
        c: 01-04 repay 300
        d: 01-05 back c 200
        = closed
        """,
        {
            "c": {"clearing": "300", "principal": "-100", "overpaid": "-200"},
            "d": {"overpaid": "200", "clearing": "-200"},
        },
    ),
    "T16, more than was too much": (
        """
        01-01 lend 1000
        01-02 repay 450
        01-03 repay 450
        c: 01-04 repay 300
        d: 01-05 back c 300
        """,
        {"d": {"principal": "100", "overpaid": "200", "clearing": "-300"}},
    ),
    "undo mirrors": (
        """
        01-01 lend 1000
        01-10 penalty 10 01-20
        01-10 fee 103 01-20
        a: 01-20 repay 100
        b: 01-20 goodwill 300
        c: 01-21 undo b
        """,
        {
            "a": {"clearing": "100", "penalty_income": "-10", "fee_income": "-90"},
            "b": {"goodwill": "300", "fee_income": "-13", "principal": "-287"},
            "c": {"goodwill": "-300", "fee_income": "13", "principal": "287"},
        },
    ),
    # T22: the penalty was never income, so that only principal is lost; what comes in later is a recovery.
    "T22": (
        """
        01-01 lend 1000
        01-10 penalty 10 01-10
        a: 01-20 off
        b: 01-20 goodwill 100
        = active 910
        c: 01-21 repay 910
        = closed
        """,
        {
            "a": {"credit_loss": "1000", "principal": "-1000"},
            "b": {"goodwill": "100", "penalty_income": "-10", "recovery_income": "-90"},
            "c": {"clearing": "910", "recovery_income": "-910"},
        },
    ),
    "refund": (
        "01-01 lend 1000\n01-02 repay 1200\nc: 01-03 refund 200\n= closed\nd: 01-04 undo c\n= overpaid 200",
        {"c": {"overpaid": "200", "clearing": "-200"}, "d": {"overpaid": "-200", "clearing": "200"}},
    ),
}


@pytest.mark.parametrize("case", JOURNALS)
async def test_journals(db: Session, case: str) -> None:
    table, journals = JOURNALS[case]
    played = Scenario(db, await lp1(db), 2023)
    await played.play(table)
    for label, wanted in journals.items():
        assert await played.journal(label) == {name: usd(amount) for name, amount in wanted.items()}, label


async def test_64_a_write_off_ends_it(db: Session) -> None:
    played = Scenario(db, await lp2(db), 2023)
    await played.play("""
        01-01 lend 1000
        a: 01-22 repay 100
        b: 01-29 lost
        = b: principal 650
        = written_off 0
    """)
    assert played.done["b"].amount == usd("650")
    assert await played.journal("b") == {"credit_loss": usd("650"), "principal": usd("-650")}
    for line in ("01-30 undo a", "01-30 repay 100", "01-23 repay 100", "01-30 back a 100", "01-30 undo down_payment"):
        with pytest.raises(Conflict, match="written_off"):
            await played.do(line)
    with pytest.raises((Conflict, Unsupported)):
        await played.do("01-30 undo b")
    await played.do("c: 01-30 recover 50")
    assert await played.journal("c") == {"clearing": usd("50"), "recovery_income": usd("-50")}
    with pytest.raises(Invalid, match="More"):
        await played.do("01-30 recover 601")


async def test_60_a_key_that_came_with_another_request(db: Session) -> None:
    # The reference answers the first result to any request with its key; here another request is an error.
    loan = (await Scenario(db, await lp1(db), 2023).play("01-01 lend 1000")).id
    on = (await db.loans.get(loan)).disbursed_on
    first = await db.loans.repay(loan, usd("200"), on=on, key="k")
    assert (await db.loans.repay(loan, usd("200"), on=on, key="k")).id == first.id
    with pytest.raises(KeyReused):
        await db.loans.repay(loan, usd("300"), on=on, key="k")
    assert (await db.loans.get(loan)).outstanding == usd("800")
    assert len([t for t in await db.loans.transactions(loan) if t.kind is K.REPAYMENT]) == 1


# What Fineract does by replaying its journals and Tallystick refuses, with the remedy; see decision 13.
REFUSED = {
    # T18: a refund is money that is gone.
    "the ground of a refund": (
        "01-01 lend 1000\na: 01-02 repay 100\n01-03 repay 500\n01-04 repay 600\n01-05 refund 200\n= closed",
        "01-06 undo a",
        "refund",
    ),
    # T19 to T21, T24, T25: a charge-off is undone before what it was reckoned from.
    "undo across a charge-off": (
        "01-01 lend 1000\na: 02-10 repay 500\n06-01 off\n06-05 repay 500\n= closed",
        "06-06 undo a",
        "charged off",
    ),
    "dated back before a charge-off": ("01-01 lend 1000\n02-01 off", "01-29 goodwill 500", "charged off"),
    "a second charge-off": ("01-01 lend 1000\n02-01 off", "02-01 off", "charged off"),
    "a charge after it": ("01-01 lend 1000\n02-01 off", "02-01 fee 5 02-01", "charged off"),
    "a new plan after it": ("01-01 lend 1000\n02-01 off", "02-01 reage 03-01 3 1", "charged off"),
    "a payment that was charged back": (
        "01-01 lend 1000\na: 01-02 repay 500\n01-03 back a 100",
        "01-04 undo a",
        "charged back",
    ),
    "more back than was paid": (
        "01-01 lend 1000\na: 01-02 repay 500\n01-03 back a 400",
        "01-04 back a 101",
        "More cannot be charged back",
    ),
    "more refunded than is owed back": ("01-01 lend 1000\n01-02 repay 1100", "01-03 refund 101", "More cannot"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused(db: Session, case: str) -> None:
    table, line, why = REFUSED[case]
    played = Scenario(db, await lp1(db), 2023)
    before = await played.play(table)
    with pytest.raises((Conflict, Invalid), match=why):
        await played.do(line)
    assert await db.loans.get(before.id) == before


async def test_a_charge_off_is_undone_and_made_anew(db: Session) -> None:
    # T19 by hand: 1000 and a fee of 20, paid 1000, charged off, and the payment was none.
    played = Scenario(db, await lp1(db), 2023)
    await played.play("""
        01-01 lend 1000
        01-25 fee 20 01-25
        a: 03-01 repay 1000
        = a: principal 980 fees 20
        b: 06-01 off
        06-02 undo b
        06-02 undo a
        c: 06-02 off
        = active 1020
    """)
    assert played.done["c"].amount == usd("1020")
    assert await played.journal("c") == {"credit_loss": usd("1000"), "principal": usd("-1000")}
