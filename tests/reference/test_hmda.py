"""The Boston HMDA data against published numbers: econometrics-with-r.org, chapter 11, and counts of the file."""

from __future__ import annotations

import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from tallystick import Invalid, RoleMissing, Session, Tallystick
from tallystick.domains.underwriting import hmda
from tallystick.domains.underwriting.fairness_metrics import impacts

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared"))
FOLDER = SHARED / "data" / "hmda_boston"
real = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no data/hmda_boston in TALLYSTICK_SHARED or ../shared beside the checkout"
)
HEADER = ",".join(hmda.COLUMNS)
LINE = "1,no,0.221,0.221,0.8,5,2,no,3.9,no,no,no,no,no,yes"


@real
def test_means_of_the_file() -> None:
    records = hmda.read(hmda.find(FOLDER))
    assert hmda.mean_payment_to_income(records) == Decimal("0.3308136")
    assert round(sum(Decimal(r.values["lvrat"]) for r in records) / len(records), 7) == Decimal("0.7377759")
    for column, mean in (("selfemp", "0.1163866"), ("single", "0.3932773")):
        share = Decimal(sum(r.values[column] == "yes" for r in records)) / len(records)
        assert round(share, 7) == Decimal(mean)


@real
async def test_denials_by_group_from_what_is_stored(db: Session) -> None:
    done = await hmda.load(db, FOLDER)
    assert (done.records, done.added, done.denied) == (2380, 2380, 285)
    no, yes = done.groups
    assert (no.group, no.total - no.selected, no.total) == ("no", 189, 2041)
    assert (yes.group, yes.total - yes.selected, yes.total) == ("yes", 96, 339)
    (impact,) = impacts(done.groups)
    assert (impact.ratio, impact.adverse) == (Fraction(243, 339) / Fraction(1852, 2041), True)
    assert [f.group_label for f in (await db.fairness.monitor("afam")).opened] == ["yes"]
    assert (await hmda.load(db, FOLDER)).added == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        f"{HEADER}\n1,no",
        f"{HEADER}\n{LINE.replace('no', 'maybe', 1)}",
        f"{HEADER}\n{LINE.replace('0.8', 'NaN')}",
        f"{HEADER}\n{LINE.replace('0.8', '1e9')}",
        f"{HEADER}\n{LINE.replace(',5,2,', ',7,2,')}",
        f'{HEADER}\n"1',
        f"{HEADER}\n{LINE}\n{LINE}é",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / hmda.FILE).write_text(text)
    with pytest.raises(Invalid):
        hmda.read(hmda.find(tmp_path))
    with pytest.raises(Invalid):
        hmda.find(tmp_path / "elsewhere")


async def test_loading_needs_the_permission(db: Session, tally: Tallystick, tenant: str, tmp_path: Path) -> None:
    (tmp_path / hmda.FILE).write_text(f"{HEADER}\n{LINE}\n")
    async with tally.session(tenant, actor="user:x", permissions=()) as nobody:
        with pytest.raises(RoleMissing):
            await hmda.load(nobody, tmp_path)
    assert (await hmda.load(db, tmp_path)).added == 1
