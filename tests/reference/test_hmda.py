"""The Boston HMDA data against published numbers: econometrics-with-r.org, chapter 11, and counts of the file."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from tallystick import Application, Decision, Invalid, Outcome, RoleMissing, Session, Tallystick, desc, usd
from tallystick.domains.underwriting import hmda
from tallystick.domains.underwriting.fairness_metrics import impacts
from tallystick.domains.underwriting.hmda_boston import OTHER_NAMES
from tallystick.domains.underwriting.reasons import hmda_denial_codes

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared"))
FOLDER = SHARED / "data" / "hmda_boston"
real = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no data/hmda_boston in TALLYSTICK_SHARED or ../shared beside the checkout"
)
HEADER = ",".join(hmda.COLUMNS)
LINE = "1,no,0.221,0.221,0.8,5,2,no,3.9,no,no,no,no,no,yes"


REGISTER = {
    "activity_year": "2022",
    "lei": "549300EXAMPLE0000000",
    "derived_msa-md": "14454",
    "county_code": "25025",
    "derived_ethnicity": "Not Hispanic or Latino",
    "derived_race": "White",
    "derived_sex": "Joint",
    "action_taken": "1",
    "loan_type": "1",
    "loan_purpose": "1",
    "loan_amount": "305000.0",
    "loan_to_value_ratio": "80.0",
    "interest_rate": "NA",
    "loan_term": "360",
    "income": "96",
    "debt_to_income_ratio": "30%-<36%",
    "applicant_age": "25-34",
    "denial_reason-1": "10",
    "denial_reason-2": "",
    "denial_reason-3": "",
    "denial_reason-4": "",
}
LAR = ",".join(REGISTER)


def lar(**changes: str) -> str:
    """A line of the public register of 2018 and later."""
    return ",".join((REGISTER | changes).values())


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
        f"{HEADER}\n{LINE}".encode("utf-16"),
        gzip.compress(f"{HEADER}\n{LINE}".encode() * 9, mtime=0)[:-9],
        f"{HEADER.replace('pirat', 'ratio')}\n{LINE}",
        f"{HEADER},deny\n{LINE},no",
        f"{HEADER}\n{LINE.replace('1,no', '1,NA', 1)}",
        LAR,
        f"{LAR}\n{lar()}\n{lar(action_taken='9')}",
        f"{LAR}\n{lar(action_taken='')}",
        f"{LAR}\n{lar(loan_amount='NA')}",
        f"{LAR}\n{lar(loan_amount='0')}",
        f"{LAR}\n{lar(loan_amount='1e15')}",
        f"{LAR}\n{lar(loan_purpose='6')}",
        f"{LAR}\n{lar(income='many')}",
        f"{LAR}\n{lar(debt_to_income_ratio='30%')}",
        f"{LAR}\n{lar(loan_to_value_ratio='high')}",
        f"{LAR}\n{lar(**{'denial_reason-1': '12'})}",
        f"{LAR}\n{lar()},1",
        f"{LAR}\n{lar(action_taken='6')}",
    ],
)
async def test_a_damaged_file_is_refused(db: Session, tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / hmda.FILE).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Invalid):
        hmda.read(hmda.find(tmp_path))
    with pytest.raises(Invalid):
        await hmda.load(db, tmp_path)
    assert await db.applications.count() == 0
    with pytest.raises(Invalid):
        hmda.find(tmp_path / "elsewhere")


async def test_loading_needs_the_permission(db: Session, tally: Tallystick, tenant: str, tmp_path: Path) -> None:
    (tmp_path / hmda.FILE).write_text(f"{HEADER}\n{LINE}\n")
    async with tally.session(tenant, actor="user:x", permissions=()) as nobody:
        with pytest.raises(RoleMissing):
            await hmda.load(nobody, tmp_path)
    assert (await hmda.load(db, tmp_path)).added == 1


@pytest.mark.parametrize("kind", ["gzip", "mark", "crlf", "no counter", "columns moved", "Ecdat's names", "quoted"])
async def test_the_same_records_in_other_clothes(db: Session, tmp_path: Path, kind: str) -> None:
    rows = [hmda.COLUMNS, LINE.split(","), LINE.replace("no", "yes", 1).split(",")]
    (tmp_path / hmda.FILE).write_text(f"{HEADER}\n{LINE}\n")
    assert (await hmda.load(db, tmp_path)).added == 1
    text = "".join(",".join(r) + "\n" for r in rows)
    bare = "".join(",".join(r[1:]) + "\n" for r in rows)
    moved = "".join(",".join(reversed(r)) + "\n" for r in rows)
    renamed = [next((o for o, n in OTHER_NAMES.items() if n == c), c) for c in hmda.COLUMNS]
    quoted = "".join(",".join(f'"{cell}"' if cell != "rownames" else '""' for cell in r) + "\n" for r in rows)
    data = {
        "gzip": gzip.compress(text.encode()),
        "mark": b"\xef\xbb\xbf" + text.encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
        "no counter": bare.encode(),
        "columns moved": moved.encode(),
        "Ecdat's names": text.replace(HEADER, ",".join(renamed)).encode(),
        "quoted": quoted.encode(),
    }[kind]
    file = tmp_path / "another.csv"
    file.write_bytes(data)
    done = await hmda.load(db, file)
    assert (done.records, done.added, done.denied, done.payment_to_income) == (2, 1, 1, Decimal("0.2210000"))
    assert (await hmda.load(db, file)).added == 0


async def test_what_is_not_told_is_left_out(db: Session, tmp_path: Path) -> None:
    untold = LINE.replace(",0.221,", ",NA,", 1).replace("no,no,no,no,yes", "no,no,NA,no,NA")
    (tmp_path / hmda.FILE).write_text(f"{HEADER}\n{LINE}\n{untold}\n{untold}\n")
    done = await hmda.load(db, tmp_path)
    assert (done.added, done.payment_to_income) == (3, Decimal("0.2210000"))
    assert [(g.group, g.total) for g in done.groups] == [("no", 1)]
    # The two that tell the same are two people, and still known when they come again.
    assert (await hmda.load(db, tmp_path)).added == 0


async def test_a_register_of_another_year(db: Session, tmp_path: Path) -> None:
    file = tmp_path / "state_MA.csv"
    black = {"derived_race": "Black or African American"}
    told = [
        lar(),
        lar(),
        lar(action_taken="2", derived_race="Asian", income="NA", loan_term="Exempt", debt_to_income_ratio="Exempt"),
        lar(action_taken="8", income="-12", applicant_age="8888", **black),
        lar(action_taken="3", **{"denial_reason-1": "4", "denial_reason-2": "1"}, **black),
        lar(action_taken="7", derived_race="Asian", **{"denial_reason-1": "1111"}),
        lar(action_taken="3", **{f"denial_reason-{n}": str(n + 4) for n in range(1, 5)}),
        lar(action_taken="4", loan_to_value_ratio="NA", derived_sex="Sex Not Available"),
        lar(action_taken="5", debt_to_income_ratio=">60%", loan_purpose="32"),
        lar(action_taken="6", derived_race="Race Not Available"),
    ]
    file.write_text("\n".join([LAR, *told]))
    done = await hmda.load(db, file)
    assert (done.records, done.added, done.purchased, done.by, done.payment_to_income) == (9, 9, 1, "race", None)
    assert done.denied == 3
    assert [(g.group, g.selected, g.total) for g in done.groups] == [
        ("Asian", 1, 2),
        ("Black or African American", 1, 2),
        ("White", 2, 3),
    ]
    everything = await db.applications.find()
    counted = Counter(a.status.value for a in everything)
    assert counted == {"approved": 4, "declined": 3, "withdrawn": 1, "expired": 1}
    exempt = next(a for a in everything if a.requested_months is None)
    assert (exempt.annual_income, exempt.monitoring["race"]) == (usd("0"), "Asian")
    loss = next(a for a in everything if a.monitoring["age_band"] == "8888")
    assert (loss.annual_income, loss.requested_amount, loss.requested_months) == (usd("0"), usd("305000"), 360)
    assert loss.credit_report is not None
    assert loss.credit_report["income"] == "-12"
    assert {a.annual_income for a in everything} == {usd("0"), usd("96000")}
    reasons = {
        tuple(hmda_denial_codes(d.reasons)): d.other_reason
        for d in await db.decisions.find()
        if d.outcome is Outcome.DECLINED
    }
    assert reasons == {
        (4, 1): None,
        (9,): "The register does not tell.",
        (9, 6, 7): "insufficient_cash, unverifiable, incomplete, insurance_denied",
    }
    assert (await hmda.load(db, file)).added == 0
    with pytest.raises(Invalid):
        hmda.read(file)
    file.write_text(f"{LAR}\n{lar(activity_year='2023')}\n{told[0]}\n")
    assert (await hmda.load(db, file)).added == 1


async def test_a_register_from_before_2018(db: Session, tmp_path: Path) -> None:
    file = tmp_path / "hmda_2014.csv"
    header = "as_of_year,respondent_id,action_taken,loan_amount_000s,applicant_income_000s,loan_purpose,"
    header += "applicant_race_name_1,applicant_sex_name,applicant_ethnicity_name,denial_reason_1"
    rows = (
        "2014,7,1,120,64,3,White,Female,Not Hispanic or Latino,",
        "2014,7,3,90,,1,Asian,Male,Not Hispanic or Latino,3",
    )
    file.write_text("\n".join([header, *rows]))
    done = await hmda.load(db, file)
    assert (done.added, done.denied) == (2, 1)
    one, two = await db.applications.find(order=desc(Application.requested_amount))
    assert (one.requested_amount, one.annual_income, one.purpose) == (usd("120000"), usd("64000"), "refinancing")
    assert (two.requested_amount, two.annual_income, two.monitoring["sex"]) == (usd("90000"), usd("0"), "Male")
    (declined,) = await db.decisions.find(Decision.outcome == Outcome.DECLINED)
    assert hmda_denial_codes(declined.reasons) == [3]
