"""Lending Club's loans against the numbers published with them.

The package openintro documents 10,000 rows; the counts by status, by application and home ownership, the annuity that
holds to the cent in 9,997 rows and the identities of balances and payments were recomputed from the file.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from tallystick import Invalid, Money, RoleMissing, Session, Tallystick, User, usd
from tallystick.domains.lending.books import Own, own_id
from tallystick.domains.lending.datasets import lending_club
from tallystick.domains.lending.datasets.lending_club import AS_OF, Record, boarding_of, due_of
from tallystick.domains.lending.datasets.lending_club_report import Differs, Late, Report, report
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.products import LoanProduct

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared"))
FOLDER = SHARED / "data" / lending_club.FOLDER
SOAK = os.environ.get("TALLYSTICK_SOAK_LENDING_CLUB", "") not in ("", "0")
real = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no data/{lending_club.FOLDER} in TALLYSTICK_SHARED or ../shared beside the checkout"
)
HEADER: str = (
    "rownames,homeownership,loan_purpose,application_type,loan_amount,term,interest_rate,installment,grade,sub_grade,"
    "issue_month,loan_status,balance,paid_total,paid_principal,paid_interest,paid_late_fees"
)
LINE: str = "7,RENT,car,individual,1200,36,12.5,40.15,B,B2,Mar-2018,Current,1116.93,120.45,83.07,37.38,0"


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return lending_club.read(FOLDER)


def counted(records: list[Record]) -> Report:
    """What the report of these rows should be, counted from the file and not from a database."""
    lost = {r.row for r in records if r.status == "Charged Off"}
    owed = {r.row: (r.amount - r.principal if r.row in lost else r.balance) for r in records}
    late = {r.row: (AS_OF - due_of(r)).days if owed[r.row] else 0 for r in records}
    worth = {row: usd(0) if row in lost else money for row, money in owed.items()}
    groups = Counter((r.told["application_type"], r.told["homeownership"].lower()) for r in records)
    statuses = Counter(r.status for r in records)

    def total(rows: Iterable[int], of: dict[int, Money] = owed) -> Money:
        return sum((of[row] for row in rows), usd(0))

    return Report(
        loans=len(records),
        statuses={name: statuses[name] for name in lending_club.STATUSES},
        our_statuses=dict(sorted(Counter("active" if money else "closed" for money in owed.values()).items())),
        groups={k: {h: groups[k, h] for h in ("mortgage", "own", "rent")} for k in ("individual", "joint")},
        annuities_agree=sum(r.annuity == r.installment for r in records),
        differ=tuple(
            Differs(row=r.row, installment=r.installment, annuity=r.annuity)
            for r in records
            if r.annuity != r.installment
        ),
        balances_agree=sum(worth[r.row] + r.principal == r.amount for r in records),
        payments_agree=sum(
            abs((r.principal + r.interest + r.late_fees).amount - r.paid_total) <= Decimal("0.005") for r in records
        ),
        with_late_fees=sum(bool(r.late_fees) for r in records),
        below_the_cent=sum(r.paid_total != round(r.paid_total, 2) for r in records),
        late=tuple(
            Late(days=n, loans=len(found := [row for row, days in late.items() if days > n]), principal=total(found))
            for n in (0, 30, 60, 90)
        ),
        principal=total(owed),
        charged_off=total(lost),
        books=total(owed, worth),
        accounts_agree=len(records),
        balanced=True,
    )


@real
def test_published_numbers(records: list[Record]) -> None:
    """Those of the whole file; what a database makes of it is beside the same count in the next test."""
    found = counted(records)
    assert found.loans == 10_000
    assert found.statuses == {
        "Current": 9_375,
        "Fully Paid": 447,
        "In Grace Period": 67,
        "Late (16-30 days)": 38,
        "Late (31-120 days)": 66,
        "Charged Off": 7,
    }
    assert found.groups == {
        "individual": {"mortgage": 3_839, "own": 1_170, "rent": 3_496},
        "joint": {"mortgage": 950, "own": 183, "rent": 362},
    }
    assert found.annuities_agree == 9_997
    assert [(one.row, str(one.installment - one.annuity)) for one in found.differ] == [
        (1548, "-0.03 USD"),
        (1968, "-20.89 USD"),
        (9687, "3.21 USD"),
    ]
    assert (found.balances_agree, found.payments_agree, found.with_late_fees) == (9_993, 10_000, 52)
    # The sum of the file's balances, to the cent; nothing of what is charged off has worth in the books.
    assert found.books == usd("144589166.10")
    assert found.principal - found.charged_off == found.books
    # One loan is "Current" in the file and has no balance.
    assert found.our_statuses == {"active": 9_552, "closed": 448}
    assert [(late.days, late.loans) for late in found.late] == [(0, 178), (30, 73), (60, 69), (90, 31)]


@real
async def test_the_report_of_what_was_boarded(
    tally: Tallystick, tenant: str, records: list[Record], tmp_path: Path
) -> None:
    """Boarded and counted in the database: all with TALLYSTICK_SOAK_LENDING_CLUB=1, else every odd row and each 30th.

    The whole takes minutes; `tallystick load-loans` is the same load.
    """
    text = (FOLDER / lending_club.FILE).read_text().splitlines(keepends=True)
    assert len(text) == len(records) + 1
    plain = re.compile(r"Current|Fully Paid")
    chosen = [
        (record, line)
        for at, (record, line) in enumerate(zip(records, text[1:], strict=True))
        if SOAK
        or at % 30 == 0
        or not plain.fullmatch(record.status)
        or record.annuity != record.installment
        or record.late_fees
        or (record.status == "Current" and not record.balance)
    ]
    (tmp_path / lending_club.FILE).write_text("".join([text[0], *(line for _, line in chosen)]))
    part = [record for record, _ in chosen]
    assert len(part) > 500, "more than are boarded in one transaction"
    assert set(counted(part).statuses.values()) >= {67, 38, 66, 7}
    async with tally.session(tenant, actor="load", permissions=["loans.board"]) as db:
        steps: list[int] = []
        done = await lending_club.load(db, tmp_path, steps.append)
        assert (done.records, done.added, sum(steps)) == (len(part), len(part), len(part))
        assert await report(db) == counted(part)

        again = await lending_club.load(db, tmp_path / lending_club.FILE)
        assert (again.records, again.added) == (len(part), 0)
        assert await db.loans.count() == await db.users.count() == len(part)


@real
async def test_what_a_row_becomes(db: Session, records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [r for r in records if r.row in (1, 388, 1548, 4166)]
    late = [r for r in records if r.status not in ("Current", "Fully Paid", "Charged Off")]
    monkeypatch.setattr(lending_club, "read", lambda path: [*chosen, *late])
    assert (await lending_club.load(db, FOLDER)).added == len(chosen) + 171

    first = await db.loans.one(Loan.external_id == "lending-club:1")
    assert (first.principal, first.annual_rate, first.installments) == (usd("28000"), Decimal("0.1407"), 60)
    assert (first.status, first.principal_outstanding) == (LoanStatus.ACTIVE, usd("27015.86"))
    assert (first.disbursed_on, first.oldest_due) == (date(2018, 3, 15), date(2018, 7, 15))
    assert first.details["flags"] == []
    settled, *left = await db[LoanInstallment].find(LoanInstallment.loan == first.ref, order=LoanInstallment.seq)
    assert (settled.principal_paid, settled.interest_paid) == (usd("984.14"), usd("1015.19"))
    assert len(left) == 57
    assert {str(i.total) for i in left[:-1]} == {"652.53 USD"}
    assert left[-1].due == date(2023, 3, 15)
    # Three installments were paid as due, so the contract's own ends as it would have: within cents.
    assert abs(left[-1].total - usd("652.53")) < usd("1")
    assert all(before.due < after.due and before.due == after.start for before, after in pairwise(left))
    borrower = await db.users.get(first.borrower.id)
    assert (borrower.email, borrower.first_name, borrower.last_name, borrower.phone) == (None, None, None, None)

    lost = await db.loans.one(Loan.external_id == "lending-club:388")
    assert (lost.status, lost.charged_off_on) == (LoanStatus.ACTIVE, AS_OF)
    assert lost.principal_outstanding == usd("7500") - usd("324.15")
    assert (await db.ledger.balance(own_id(lost.id, Own.PRINCIPAL))).units == 0
    odd = await db.loans.one(Loan.external_id == "lending-club:1548")
    assert odd.details["flags"] == ["installment_differs"]
    repaid = await db.loans.one(Loan.external_id == "lending-club:4166")
    assert (repaid.status, repaid.details["flags"]) == (LoanStatus.CLOSED, ["repaid"])

    at_risk = (await db.portfolio.par(AS_OF)).lines[0].at_risk
    assert [(one.threshold, one.late.loans) for one in at_risk] == [
        (1, 172),
        (30, sum((AS_OF - due_of(r)).days > 30 for r in [*chosen, *late])),
        (60, sum((AS_OF - due_of(r)).days > 60 for r in [*chosen, *late])),
        (90, sum((AS_OF - due_of(r)).days > 90 for r in [*chosen, *late])),
    ]
    assert (await db.ledger.trial_balance()).balanced


@real
def test_days_late_are_those_of_the_status(records: list[Record]) -> None:
    within = {"In Grace Period": (1, 15), "Late (16-30 days)": (16, 30), "Late (31-120 days)": (31, 120)}
    for record in records:
        days = (AS_OF - due_of(record)).days
        least, most = within.get(record.status, (1, 181) if record.status == "Charged Off" else (-31, -1))
        assert least <= days <= most
        assert due_of(record) > record.issued


@real
def test_every_row_boards_without_a_database(records: list[Record]) -> None:
    given = [boarding_of(r, None, None) for r in records]  # type: ignore[arg-type]
    assert len({one.external_id for one in given}) == 10_000
    assert all(one.installments_left is None or one.installments_left <= one.installments for one in given)


def write(folder: Path, *lines: str) -> Path:
    file = folder / lending_club.FILE
    file.write_text("\n".join([HEADER, *lines]) + "\n")
    return file


def altered(column: str, value: str) -> str:
    cells = LINE.split(",")
    columns = HEADER.split(",")
    cells[columns.index(column)] = value
    return ",".join(cells)


async def test_a_small_file(db: Session, tmp_path: Path) -> None:
    file = write(tmp_path, LINE, altered("rownames", "8"))
    assert (await lending_club.load(db, file)).added == 2
    file = write(tmp_path, LINE, altered("rownames", "8"), altered("rownames", "9"))
    done = await lending_club.load(db, tmp_path)
    assert (done.records, done.added) == (3, 1)
    assert [loan.number for loan in await db.loans.find(order=Loan.number)] == [1, 2, 3]
    assert {product.code for product in await db[LoanProduct].find()} == {"lending-club-36", "lending-club-60"}
    assert await db[User].count() == 3


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (altered("loan_status", "Paid to J. Doe"), "line 3"),
        (altered("loan_amount", "12.5"), "line 3"),
        (altered("loan_amount", "0"), "line 3"),
        (altered("interest_rate", "-1"), "line 3"),
        (altered("interest_rate", "NaN"), "line 3"),
        (altered("installment", "1e9"), "line 3"),
        (altered("balance", "1200.01"), "line 3"),
        (altered("paid_principal", "1200.01"), "line 3"),
        (altered("issue_month", "Jun-2018"), "line 3"),
        (altered("issue_month", "Mai-2018"), "line 3"),
        (altered("term", "48"), "line 3"),
        (altered("grade", "H"), "line 3"),
        (altered("loan_purpose", "J. Doe's car"), "line 3"),
        (altered("rownames", ""), "line 3"),
        (f"{LINE},1", "line 3"),
        ('7,"RENT', "damaged"),
    ],
)
async def test_a_damaged_file_is_refused_whole(db: Session, tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        await lending_club.load(db, write(tmp_path, LINE, line))
    assert says in str(refused.value).lower()
    assert "Doe" not in str(refused.value)
    assert await db.loans.count() == await db.users.count() == 0


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        lending_club.read(tmp_path)
    file = tmp_path / lending_club.FILE
    for content in (b"", b"rownames,x\n1,2\n", HEADER.encode() + b"\n\xff\n"):
        file.write_bytes(content)
        with pytest.raises(Invalid):
            lending_club.read(file)


async def test_it_needs_the_permission_to_board(tally: Tallystick, tenant: str, tmp_path: Path) -> None:
    async with tally.session(tenant, actor="user:x", permissions=()) as db:
        with pytest.raises(RoleMissing):
            await lending_club.load(db, write(tmp_path, LINE))
        assert await db.users.count() == 0
