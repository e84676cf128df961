"""The German credit data against published numbers.

AIF360's notebook examples/demo_json_explainers.ipynb prints 700 favourable outcomes, a mean difference of
-0.0748013090229 and a disparate impact of 0.896567328205 between women and men in this file; the rates by age and the
number of foreign workers were recomputed from it. Its code for sex is unreliable, so these are numbers and no claim.
"""

from __future__ import annotations

import gzip
import os
from fractions import Fraction
from pathlib import Path

import pytest

from tallystick import (
    ApplicationStatus,
    Decision,
    DecisionKind,
    Invalid,
    Money,
    Outcome,
    RoleMissing,
    Session,
    Tallystick,
    compare,
    prefix,
)
from tallystick.domains.underwriting import german_credit
from tallystick.domains.underwriting.applications import Application

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared"))
FOLDER = SHARED / "data" / "german_credit"
real = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no data/german_credit in TALLYSTICK_SHARED or ../shared beside the checkout"
)
LINE = "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1"
HEADER = ",".join(german_credit.COLUMNS)
QUOTE, SEVEN = ',"67,', "6\u0667"
NUMERIC = "1 6 4 12 5 5 3 4 1 67 3 2 1 2 1 0 0 1 0 0 1 0 0 1 1"
"""A line of german.data-numeric."""


@real
def test_both_files_are_the_same_thousand_records() -> None:
    spaced, commas = (german_credit.read(FOLDER / name) for name in german_credit.FILES)
    assert len(spaced) == 1000
    assert spaced == commas
    assert sum(r.good for r in spaced) == 700


@real
async def test_published_numbers(db: Session) -> None:
    done = await german_credit.load(db, FOLDER)
    assert (done.file, done.records, done.added) == ("german.data", 1000, 1000)
    found = await db.applications.statistics()
    assert (found.total, found.approved, found.declined, found.average_risk) == (1000, 700, 300, None)

    female, male = await db.applications.rates_by("sex")
    assert (female.group, female.total, female.approved) == ("female", 310, 201)
    assert (male.group, male.total, male.approved) == ("male", 690, 499)
    (between,) = compare([female, male], "male")
    assert float(between.difference) == pytest.approx(-0.0748013090229, abs=5e-14)
    assert between.ratio is not None
    assert float(between.ratio) == pytest.approx(0.896567328205, abs=5e-13)
    assert not between.adverse

    young, old = await db.applications.rates_by("age_band")
    assert (young.group, young.total, old.group, old.total) == ("25 and under", 190, "over 25", 810)
    assert (round(float(young.rate), 4), round(float(old.rate), 4)) == (0.5789, 0.7284)
    (by_age,) = compare([young, old], "over 25")
    assert float(by_age.difference) == pytest.approx(-0.149448, abs=5e-7)
    assert by_age.ratio == Fraction(110, 190) / Fraction(590, 810)
    assert by_age.adverse

    foreign = {r.group: r.total for r in await db.applications.rates_by("foreign_worker")}
    assert foreign == {"no": 37, "yes": 963}


@real
async def test_loading_again_adds_nothing_from_either_file(db: Session) -> None:
    assert (await german_credit.load(db, FOLDER / "german.csv")).added == 1000
    assert (await german_credit.load(db, FOLDER / "german.data")).added == 0
    assert await db.applications.count() == 1000
    assert await db.decisions.count() == 1000


@real
async def test_what_a_record_becomes(db: Session) -> None:
    await german_credit.load(db, SHARED / "data")
    asked = Money.of(1169, "DEM")
    first = await db.applications.one(Application.requested_amount == asked, Application.requested_months == 6)
    assert str(first.requested_amount) == "1169.00 DEM"
    assert (first.requested_months, first.purpose) == (6, "radio or TV")
    assert first.monitoring == {"sex": "male", "age_band": "over 25", "foreign_worker": "yes"}
    assert first.status is ApplicationStatus.APPROVED
    assert first.decided_at is not None
    assert first.full_legal_name == "Made-up 0001"
    assert first.ssn.mask == "••••0001"
    assert first.credit_report is not None
    assert first.credit_report["other_debtors"] == "none"
    (decision,) = await db.decisions.find(Decision.application == first.id)
    assert (decision.kind, decision.outcome, decision.is_final) == (DecisionKind.POLICY, Outcome.APPROVED, True)
    declined = await db.applications.count(Application.status == ApplicationStatus.DECLINED)
    assert declined == 300
    assert await db.applications.count(prefix(Application.idempotency_key, "german-credit:")) == 1000


@pytest.mark.parametrize("kind", ["tabs", "gzip", "mark", "crlf", "csv without header", "columns moved", "attributes"])
async def test_the_same_records_in_other_clothes(db: Session, tmp_path: Path, kind: str) -> None:
    other = altered("credit", "2").replace(" 67 ", " 22 ")
    rows = [LINE.split(), other.split()]
    assert (await german_credit.load(db, write(tmp_path, f"{LINE}\n"))).added == 1
    spaced = "".join(" ".join(r) + "\n" for r in rows)
    commas = "".join(",".join(r) + "\n" for r in rows)
    attributes = ",".join([*(f"Attribute{n}" for n in range(1, 21)), "class"])
    moved = "".join(",".join(reversed(r)) + "\r\n" for r in [list(german_credit.COLUMNS), *rows])
    name, data = {
        "tabs": ("german.data", ("\n" + spaced.replace(" ", "\t")).encode()),
        "gzip": ("german.data.gz", gzip.compress(spaced.encode())),
        "mark": ("german.csv", b"\xef\xbb\xbf" + f"{HEADER}\n{commas}".encode()),
        "crlf": ("german.data", spaced.replace("\n", "\r\n").encode() + b"\r\n\r\n"),
        "csv without header": ("german.csv", commas.encode()),
        "columns moved": ("german.csv", moved.encode()),
        "attributes": ("german.csv", f"{attributes}\n{commas}".replace("A11,", '"A11",').encode()),
    }[kind]
    folder = tmp_path / "there"
    folder.mkdir()
    file = write(folder, data, name)
    done = await german_credit.load(db, folder)
    # What is the same is known, whatever file it comes in and wherever it stands there.
    assert (done.file, done.records, done.added) == (file.name, 2, 1)
    found = await db.applications.statistics()
    assert (found.total, found.approved, found.declined) == (2, 1, 1)
    assert (await german_credit.load(db, file)).added == 0


@real
async def test_a_file_that_was_cut_short_is_completed(db: Session, tmp_path: Path) -> None:
    lines = (FOLDER / "german.data").read_text().splitlines()
    short = write(tmp_path, "\n".join(reversed(lines[:40])))
    assert (await german_credit.load(db, short)).added == 40
    again = write(tmp_path, "\n".join([*lines[:50], *lines[:50]]), "german.csv")
    assert (await german_credit.load(db, again)).added == 60
    found = await db.applications.statistics()
    twice = sum(line.endswith("1") for line in lines[:50]) * 2
    assert (found.total, found.approved, found.declined) == (90 + 10, twice, 100 - twice)


def write(folder: Path, text: str | bytes, name: str = "german.data") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def altered(column: str, value: str) -> str:
    cells = LINE.split()
    cells[german_credit.COLUMNS.index(column)] = value
    return " ".join(cells)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no records"),
        ("\n\n", "no records"),
        (f"{LINE}\n{LINE} 1\n", "Line 2"),
        (f"{LINE}\n\n{LINE[:-1]}3\n", "Line 3"),
        (f"{LINE}\n{altered('status', 'A15')}\n", "Line 2"),
        (f"{altered('credit', '3')}\n", "Line 1"),
        (f"{altered('age', '-4')}\n", "Line 1"),
        (f"{altered('age', '12.5')}\n", "Line 1"),
        (f"{altered('credit_amount', '99999999999999999999')}\n", "Line 1"),
        (f"{LINE}\n".encode() + b"\xff\xfe\n", "not text"),
        (f"{LINE}\n".encode("utf-16"), "not text"),
        (gzip.compress(f"{LINE}\n".encode() * 9, mtime=0)[:-9], "damaged"),
        (f"{altered('age', SEVEN)}\n", "Line 1"),
        (f"{NUMERIC}\n", "numeric"),
        (f"{HEADER}\n{LINE.replace(' ', ',').replace(',67,', QUOTE)}\n", "Line 2"),
        (f"{HEADER.replace('month,', '')}\n", "header"),
        (f"{LINE}\x00\n", "Line 1"),
        (f"{HEADER}x\n{LINE.replace(' ', ',')}\n", "Line 1"),
        (f"{HEADER}\n", "no records"),
        (f"{HEADER}\n{LINE.replace(' ', ',')}\n{LINE}\n", "Line 3"),
    ],
)
async def test_a_damaged_file_is_refused_whole(db: Session, tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        await german_credit.load(db, write(tmp_path, text))
    assert "1169" not in str(refused.value)
    assert await db.applications.count() == 0


async def test_a_record_that_the_database_refuses_takes_all_with_it(
    db: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_board = german_credit.board

    async def board_then_fail(*arguments: object) -> int:
        await real_board(*arguments)
        raise Invalid("The last record is refused.")

    monkeypatch.setattr(german_credit, "board", board_then_fail)
    with pytest.raises(Invalid):
        await german_credit.load(db, write(tmp_path, f"{LINE}\n{LINE}\n"))
    assert await db.applications.count() == 0
    assert await db.decisions.count() == 0


async def test_lines_may_end_as_on_other_systems(db: Session, tmp_path: Path) -> None:
    text = f"{HEADER}\r\n{LINE.replace(' ', ',')}\r\n".encode()
    assert (await german_credit.load(db, write(tmp_path, text, "german.csv"))).added == 1
    assert (await german_credit.load(db, tmp_path)).added == 0
    (decision,) = await db.decisions.find()
    assert decision.outcome is Outcome.APPROVED


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        german_credit.find(tmp_path)
    inner = tmp_path / "german_credit"
    inner.mkdir()
    file = write(inner, LINE, "german.csv")
    assert german_credit.find(tmp_path) == german_credit.find(inner) == german_credit.find(file) == file
    data = write(inner, LINE)
    assert german_credit.find(inner) == data
    with pytest.raises(Invalid, match="larger"):
        german_credit.read(write(tmp_path, b"A" * (16 * 1024 * 1024 + 1)))


async def test_it_needs_the_permission_to_decide(tally: Tallystick, tenant: str, tmp_path: Path) -> None:
    async with tally.session(tenant, actor="user:x", permissions=()) as db:
        with pytest.raises(RoleMissing):
            await german_credit.load(db, write(tmp_path, LINE))
