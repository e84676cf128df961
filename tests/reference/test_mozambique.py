"""Savings of Mozambican households against what the authors published (tabA02 and tab02 of their repository)."""

from __future__ import annotations

import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from tallystick import Contribution, GroupMember, GroupStatus, Invalid, RoleMissing, SavingsGroup, User
from tallystick.domains.ledger.accounts import Account
from tallystick.domains.savings import mozambique
from tallystick.session import Session
from tallystick.testing import Sandbox

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared"))
FOLDER = SHARED / "data" / "savings_groups_mozambique"
real = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no savings_groups_mozambique in TALLYSTICK_SHARED or ../shared beside the checkout"
)
HEAD = "prov,associd,hhid,treatment,bp_v0_target,bp_v1_boxvalue,bp_v2_boxvalue,bp_v3_boxvalue,bp_v4_boxvalue"
GOOD = ["Manica,10,1,No,,0.0,2825.0,0.0,0.0", "Manica,10,2,No,8475.0,1.005,0.0,0.0,0.0"]


def digits(value: Fraction, places: int) -> str:
    return f"{Decimal(round(value * 10**places)).scaleb(-places):.{places}f}"


@real
async def test_published_numbers(db: Session) -> None:
    heard: list[int] = []
    done = await mozambique.load(db, FOLDER, heard.append)
    assert (done.households, done.groups, done.members, done.contributions) == (3_081, 42, 3_081, 1_129)
    assert sum(heard) == 3_081
    found = await mozambique.table(db)
    assert (found.households, found.associations) == (3_081, 42)
    assert [digits(q.mean, 3) for q in found.quarters] == ["200.153", "930.211", "1496.056", "1725.210"]
    assert [digits(q.share, 3) for q in found.quarters] == ["0.075", "0.154", "0.177", "0.216"]
    assert (digits(found.control, 2), digits(found.planned, 2)) == ("1135.78", "2821.98")
    assert round(found.control_deviation, 2) == Decimal("5455.28")
    assert (digits(found.association_mean, 0), digits(found.association_most, 0)) == ("126556", "589875")
    assert round(found.association_deviation) == 174_665
    assert digits(found.target_mean, 0) == "326727"
    # The books say what the rows say.
    trial = await db.ledger.trial_balance()
    assert trial.balanced
    pots = await db.ledger.accounts.find(Account.asset == "MZN")
    held = sum(a.credits - a.debits for a in pots if a.code.endswith(":pot"))
    assert digits(Fraction(held, 100 * 3_081), 3) == "1725.210"
    assert await db.circles.count(SavingsGroup.status == GroupStatus.COMPLETED) == 42

    again = await mozambique.load(db, FOLDER / mozambique.FILE)
    assert (again.groups, again.members, again.contributions) == (0, 0, 0)
    assert await mozambique.table(db) == found


async def test_what_is_not_there_is_loaded(db: Session, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("\n".join([HEAD, *GOOD, "Sofala,11,3,Yes,5,1,1,1,1", "Sofala,11,4,Yes,5,0,0,0,0"]))
    done = await mozambique.load(db, file)
    assert (done.groups, done.members, done.contributions) == (2, 4, 6)
    found = await mozambique.table(db)
    assert [q.share for q in found.quarters] == [Fraction(1, 2), Fraction(3, 4), Fraction(3, 4), Fraction(3, 4)]
    # 1.005 is half a centavo too much, and goes to the even one.
    assert found.quarters[0].mean == Fraction(200, 400)
    assert found.planned == 2


@pytest.mark.parametrize(
    "line",
    [
        "Manica,10,3,No,,0.0,NaN,0.0,0.0",
        "Manica,10,3,No,,0.0,-1,0.0,0.0",
        "Manica,10,3,No,,0.0,1e99,0.0,0.0",
        "Manica,10,3,No,,0.0,x,0.0,0.0",
        "Manica,10,3,Maybe,,0,0,0,0",
        "Manica,x,3,No,,0,0,0,0",
        "Manica,10,1,No,,0,0,0,0",
        "Manica,10,3,No,,0,0",
        ",10,3,No,,0,0,0,0",
        '"',
    ],
)
async def test_a_wrong_line_is_named_and_nothing_is_written(db: Session, tmp_path: Path, line: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("\n".join([HEAD, *GOOD, line]))
    with pytest.raises(Invalid, match="Line 4"):
        await mozambique.load(db, file)
    assert await db[User].count() == await db[GroupMember].count() == await db[Contribution].count() == 0


async def test_files_that_are_none(db: Session, sandbox: Sandbox, tenant: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        await mozambique.load(db, tmp_path)
    for content in (b"", b"\xff\xfe\x00", HEAD.encode(), b"a,b\n1,2\n"):
        (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(Invalid):
            await mozambique.load(db, tmp_path / "x.csv")
    (tmp_path / "one.csv").write_text("\n".join([HEAD, GOOD[0]]))
    with pytest.raises(Invalid):
        await mozambique.table(db)
    assert await db.circles.count() == 0
    async with sandbox.session(tenant, actor="load", permissions=()) as nobody:
        with pytest.raises(RoleMissing):
            await mozambique.load(nobody, tmp_path / "one.csv")
