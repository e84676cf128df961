"""The loans of the PKDD'99 bank against the numbers published with them.

4,500 accounts, 5,369 clients, 6,471 orders and 682 loans are what the challenge's description says; statuses, shares
by sex and standing orders were recomputed from the files.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from tallystick import Invalid, Money, RoleMissing, Session, Tallystick, UserRole
from tallystick.domains.lending.datasets import berka, berka_files
from tallystick.domains.lending.datasets.berka import AS_OF
from tallystick.domains.lending.datasets.berka_report import report
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import Loan, LoanStatus

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared"))
FOLDER = SHARED / "data" / berka_files.FOLDER
real = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no data/{berka_files.FOLDER} in TALLYSTICK_SHARED or ../shared beside the checkout"
)
SMALL = {
    "loan.csv": (
        '"loan_id";"account_id";"date";"amount";"duration";"payments";"status"\n9;2;980105;12000;12;1000.00;"C"\n'
    ),
    "account.csv": '"account_id";"district_id";"frequency";"date"\n2;1;"X";930101\n',
    "client.csv": '"client_id";"birth_number";"district_id"\n4;"706213";1\n5;"450204";1\n',
    "disp.csv": '"disp_id";"client_id";"account_id";"type"\n1;4;2;"OWNER"\n2;5;2;"DISPONENT"\n',
    "order.csv": '"order_id";"account_id";"bank_to";"account_to";"amount";"k_symbol"\n3;2;"Y";"1";999.60;"UVER"\n',
}


@real
async def test_published_numbers(db: Session) -> None:
    done = await berka.load(db, SHARED / "data")
    assert (done.records, done.added, done.clients_added, done.accounts_added) == (682, 682, 5_369, 4_500)
    assert (done.orders, done.loan_orders, done.loan_orders_without_loan) == (6_471, 717, 35)
    found = await report(db)
    assert (found.loans, found.users, found.accounts) == (682, 5_369, 4_500)
    assert found.statuses == {"A": 203, "B": 31, "C": 403, "D": 45}
    assert found.our_statuses == {"active": 479, "closed": 203}
    assert found.bad == 76
    assert found.groups == {"female": (41, 348), "male": (35, 334)}
    assert found.payments_agree == 682
    # The file rounds payments to whole crowns: 620 orders are the payment when rounded, 359 as they are.
    assert (found.orders_agree, found.orders_exact, found.orders_half_apart) == (620, 359, 62)
    assert (found.late, found.accounts_agree, found.balanced) == (76, 682, True)

    (line,) = (await db.portfolio.par(AS_OF)).lines
    assert (line.asset, line.portfolio.loans, line.portfolio.principal) == ("CZK", 479, found.principal)
    assert (line.at_risk[0].late.loans, line.at_risk[0].principal) == (76, found.late_principal)

    again = await berka.load(db, FOLDER / "loan.csv")
    assert (again.records, again.added, again.clients_added, again.accounts_added) == (682, 0, 0, 0)


@real
async def test_what_a_loan_becomes(db: Session) -> None:
    await berka.load(db, FOLDER)

    async def loan_of(id: int) -> tuple[Loan, list[LoanInstallment]]:
        loan = await db.loans.one(Loan.external_id == f"berka:{id}")
        return loan, await db[LoanInstallment].find(LoanInstallment.loan == loan.ref, order=LoanInstallment.seq)

    unpaid, plan = await loan_of(5314)
    assert (unpaid.details["status"], unpaid.status) == ("B", LoanStatus.ACTIVE)
    assert unpaid.principal == Money.of(96_396, "CZK")
    assert (unpaid.principal_outstanding, unpaid.oldest_due) == (Money.of(8_033, "CZK"), date(1994, 7, 5))
    assert unpaid.details["flags"] == ["arrears_not_in_file"]
    assert len(plan) == 2
    paid, plan = await loan_of(5316)
    assert (paid.status, paid.closed_on, len(plan)) == (LoanStatus.CLOSED, date(1996, 7, 11), 1)
    owner = await db.users.get(paid.borrower.id)
    assert (owner.role, owner.first_name, owner.email) == (UserRole.BORROWER, None, None)


async def test_a_small_bank(db: Session, tmp_path: Path) -> None:
    assert (await berka.load(db, write(tmp_path))).added == 1
    (loan,) = await db.loans.find()
    # Eleven of twelve were due by the end of 1998.
    assert (loan.principal_outstanding, loan.oldest_due) == (Money.of(1_000, "CZK"), date(1999, 1, 5))
    assert loan.details["monitoring"] == {"sex": "female"}
    assert loan.details["joint_holders"] == 1
    assert loan.details["standing_order"] == {"order": 3, "amount": "999.60"}
    found = await report(db)
    assert (found.orders_agree, found.orders_exact, found.late) == (1, 0, 0)
    assert "7062" not in str(loan.details)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("loan.csv", "980105", "981305"),
        ("loan.csv", '"C"', '"E"'),
        ("loan.csv", "12000;12", "12000;0"),
        ("loan.csv", "1000.00", "-1"),
        ("loan.csv", "9;2;", "9;3;"),
        ("loan.csv", '"status"', '"state"'),
        ("loan.csv", '9;2;980105;12000;12;1000.00;"C"\n', ""),
        ("client.csv", "706213", "701313"),
        ("client.csv", "706213", "Doe"),
        ("disp.csv", "OWNER", "DOE"),
        ("disp.csv", "1;4;2", "1;6;2"),
        ("order.csv", "999.60", "x"),
        ("order.csv", "UVER", "DOE"),
        ("account.csv", "2;1;", "2;;"),
    ],
)
async def test_a_damaged_file_is_refused_whole(db: Session, tmp_path: Path, file: str, old: str, new: str) -> None:
    write(tmp_path)
    damaged = SMALL[file].replace(old, new)
    assert damaged != SMALL[file]
    (tmp_path / file).write_text(damaged)
    with pytest.raises(Invalid) as refused:
        await berka.load(db, tmp_path)
    assert "doe" not in str(refused.value).lower()
    assert await db.loans.count() == await db.users.count() == 0


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "disp.csv").unlink()
    with pytest.raises(Invalid, match=r"disp\.csv"):
        berka_files.read(tmp_path)


async def test_it_needs_the_permission_to_board(tally: Tallystick, tenant: str, tmp_path: Path) -> None:
    async with tally.session(tenant, actor="user:x", permissions=()) as db:
        with pytest.raises(RoleMissing):
            await berka.load(db, write(tmp_path))
        assert await db.users.count() == 0


def write(folder: Path) -> Path:
    for name, text in SMALL.items():
        (folder / name).write_text(text)
    return folder
