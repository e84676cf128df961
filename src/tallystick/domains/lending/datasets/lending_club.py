"""Lending Club's 10,000 loans of the first quarter of 2018 (OpenIntro, "loans_full_schema"), boarded as they stand.

The file names nobody, and of what it tells about borrowers only what counts them is kept. It says in words how late a
loan is and never on which day of a month anything happened, so days are chosen here, by rules that ``due_of`` tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

import msgspec

from tallystick.domains.identity.users import User, UserRole, UserStatus
from tallystick.domains.lending.boarding import Boarding
from tallystick.domains.lending.calendar import Frequency, add_months
from tallystick.domains.lending.datasets.tables import Line, cents, find, lines
from tallystick.domains.lending.daycount import DayCount
from tallystick.domains.lending.level import level_installment
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.terms import Amortization, EmiAdjustment, InterestCalc, InterestMethod, Terms
from tallystick.money import Money, Rounding
from tallystick.query import one_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallystick.session import Session

    Told = Callable[[int], None]

FILE: Final = "loans_full_schema.csv"
FOLDER: Final = "lendingclub_openintro"
SOURCE: Final = "lending-club:"
"""What external ids begin with; the number of the file's row follows."""
AS_OF: Final = date(2018, 6, 30)
"""The day the loans are boarded on: most of those issued in January have paid five times, in March three times."""
ASSET: Final = "USD"
STATUSES: Final = (
    "Current",
    "Fully Paid",
    "In Grace Period",
    "Late (16-30 days)",
    "Late (31-120 days)",
    "Charged Off",
)
TERMS: Final = Terms(
    interest_method=InterestMethod.DECLINING_BALANCE,
    amortization=Amortization.EQUAL_INSTALLMENTS,
    interest_calc=InterestCalc.PER_PERIOD,
    day_count=DayCount.THIRTY_360,
    frequency=Frequency.MONTHS,
    installment_rounding=Rounding.UP,
    emi_adjustment=EmiAdjustment.NONE,
)
_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_AT_ONCE: Final = 500
_MID: Final = 15
_SLACK: Final = Decimal("0.05")
_COLUMNS: Final = [
    "rownames",
    "homeownership",
    "loan_purpose",
    "application_type",
    "loan_amount",
    "term",
    "interest_rate",
    "installment",
    "grade",
    "sub_grade",
    "issue_month",
    "loan_status",
    "balance",
    "paid_total",
    "paid_principal",
    "paid_interest",
    "paid_late_fees",
]
_WORD = re.compile(r"[A-Za-z_]{1,40}")
_GRADE = re.compile(r"[A-G]")
_SUB_GRADE = re.compile(r"[A-G][1-5]")
_ISSUE = re.compile(rf"({'|'.join(_MONTHS)})-20\d\d")


class Record(msgspec.Struct, frozen=True):
    """One row of the file; ``issued`` is the first of its month, ``paid_total`` as it stands there."""

    row: int
    amount: Money
    term: int
    rate: Decimal
    installment: Money
    issued: date
    status: str
    balance: Money
    principal: Money
    interest: Money
    late_fees: Money
    paid_total: Decimal
    told: dict[str, str]

    @property
    def annuity(self) -> Money:
        """The level installment of amount, rate and term, rounded up to the cent as Lending Club did."""
        return level_installment(self.amount, [Fraction(self.rate) / 12] * self.term, rounding=Rounding.UP)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did: the file's name, its rows, and how many of them were new to the tenant."""

    file: str
    records: int
    added: int


def read(path: Path) -> list[Record]:
    """Every row of the file. Raises ``Invalid`` with the number of the first line that is not what it should be."""
    return [_record(line) for line in lines(find(path, FOLDER, [FILE]) / FILE, _COLUMNS)]


def _record(line: Line) -> Record:
    month, year = line.text("issue_month", _ISSUE).split("-")
    issued = date(int(year), _MONTHS.index(month) + 1, 1)
    if issued >= AS_OF.replace(day=1):
        raise line.bad("issue_month", "a month after the data's end")
    money = {
        name: cents(line.decimal(name), ASSET)
        for name in ("installment", "balance", "paid_principal", "paid_interest", "paid_late_fees")
    }
    amount = Money.of(line.whole("loan_amount", 1), ASSET)
    if not money["balance"] <= amount or not money["paid_principal"] <= amount:
        raise line.bad("balance", "more than the loan")
    return Record(
        row=line.whole("rownames", 1),
        amount=amount,
        term=int(line.text("term", ("36", "60"))),
        rate=line.decimal("interest_rate") / 100,
        installment=money["installment"],
        issued=issued,
        status=line.text("loan_status", STATUSES),
        balance=money["balance"],
        principal=money["paid_principal"],
        interest=money["paid_interest"],
        late_fees=money["paid_late_fees"],
        paid_total=line.decimal("paid_total"),
        told={
            "grade": line.text("grade", _GRADE),
            "sub_grade": line.text("sub_grade", _SUB_GRADE),
            "purpose": line.text("loan_purpose", _WORD),
            "application_type": line.text("application_type", ("individual", "joint")),
            "homeownership": line.text("homeownership", ("MORTGAGE", "OWN", "RENT")),
        },
    )


def due_of(record: Record) -> date:
    """The due date of the oldest installment that is not paid, as near as the file tells.

    Grace period (1 to 15 days late) and 16 to 30 days late are dated in the middle of those days before ``AS_OF``.
    31 to 120 days late, and charged off, go by the installments that were paid: the next one was due on the 15th, kept
    within 31 to 120 days. All others are due on the 15th of the month after ``AS_OF``, whatever they have paid.
    """
    if record.status in ("In Grace Period", "Late (16-30 days)"):
        return AS_OF - timedelta(days=8 if record.status == "In Grace Period" else 23)
    if record.status in ("Late (31-120 days)", "Charged Off"):
        whole = int((record.principal.amount + record.interest.amount + _SLACK) // record.installment.amount)
        due = add_months(record.issued.replace(day=_MID), whole + 1)
        if record.status == "Charged Off":
            return min(due, AS_OF - timedelta(days=1))
        return min(max(due, AS_OF - timedelta(days=120)), AS_OF - timedelta(days=31))
    return add_months(AS_OF.replace(day=_MID), 1)


def boarding_of(record: Record, product: LoanProduct, borrower: UUID) -> Boarding:
    """A row as a loan to be boarded.

    The contract's installment stays and the last pays what is over or missing. A charged-off loan is still owed what
    was not repaid; the file's balance of zero is its worth in the books.
    """
    charged_off = record.status == "Charged Off"
    owed = record.amount - record.principal if charged_off else record.balance
    due = due_of(record)
    passed = (due.year - record.issued.year) * 12 + due.month - record.issued.month
    return Boarding(
        product=product,
        borrower=borrower,
        principal=record.amount,
        principal_outstanding=owed,
        annual_rate=record.rate,
        installments=record.term,
        disbursed_on=add_months(record.issued, 0, anchor=due.day),
        on=AS_OF,
        next_due=due if owed else None,
        installments_left=record.term - passed + 1 if owed else None,
        installment=record.installment if owed else None,
        interest_paid=record.interest,
        penalties_paid=record.late_fees,
        charged_off_on=AS_OF if charged_off else None,
        external_id=f"{SOURCE}{record.row}",
        purpose=record.told["purpose"],
        details=_details(record, owed),
    )


def _details(record: Record, owed: Money) -> dict[str, Any]:
    annuity = record.annuity
    flags = {
        "installment_differs": annuity != record.installment,
        "balance_differs": record.status != "Charged Off" and record.balance + record.principal != record.amount,
        "below_the_cent": record.paid_total != record.paid_total.quantize(Decimal("0.01")),
        "repaid": record.status != "Fully Paid" and not owed,
    }
    return {
        "source": "Lending Club, first quarter of 2018 (OpenIntro)",
        "row": record.row,
        "status": record.status,
        **record.told,
        "installment": str(record.installment.amount),
        "annuity": str(annuity.amount),
        "paid_total": str(record.paid_total),
        "flags": [name for name, raised in flags.items() if raised],
    }


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Board the file's loans that the tenant does not have yet, 500 in a transaction; what was done stays done.

    Needs the permission "loans.board". Raises ``Invalid`` for a damaged file, before anything is written.
    """
    records = read(path)
    products = {term: await product_of(db, term) for term in (36, 60)}
    added = 0
    for start in range(0, len(records), _AT_ONCE):
        part = records[start : start + _AT_ONCE]
        async with db.transaction():
            added += await _board(db, part, products)
        if told is not None:
            told(len(part))
    return Loaded(file=FILE, records=len(records), added=added)


async def _board(db: Session, part: Sequence[Record], products: dict[int, LoanProduct]) -> int:
    ids = [f"{SOURCE}{record.row}" for record in part]
    there = {loan.external_id for loan in await db.loans.find(one_of(Loan.external_id, ids))}
    fresh = [record for record, id in zip(part, ids, strict=True) if id not in there]
    if not fresh:
        return 0
    borrowers = [
        User(id=uuid5(db.tenant_id, f"{SOURCE}{r.row}"), role=UserRole.BORROWER, status=UserStatus.ACTIVE)
        for r in fresh
    ]
    await db.users.add_many(borrowers)
    given = [boarding_of(r, products[r.term], user.id) for r, user in zip(fresh, borrowers, strict=True)]
    await db.loans.board_many(given, key=None)
    return len(fresh)


async def product_of(db: Session, term: int) -> LoanProduct:
    """The product of a term, made where the tenant does not have it yet."""
    code = f"lending-club-{term}"
    found = await db.products.find(LoanProduct.code == code, LoanProduct.active == True)  # noqa: E712  a condition
    if found:
        return found[0]
    return await db.products.add(
        LoanProduct(
            code=code,
            name=f"Lending Club, {term} months",
            min_principal=Money.of(1_000, ASSET),
            max_principal=Money.of(40_000, ASSET),
            min_rate=Decimal("0.05"),
            default_rate=Decimal("0.12"),
            max_rate=Decimal("0.36"),
            min_installments=term,
            default_installments=term,
            max_installments=term,
            terms=TERMS,
        )
    )
