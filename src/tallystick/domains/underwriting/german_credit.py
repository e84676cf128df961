"""The German credit data (UCI 144, H. Hofmann, Hamburg 1994) as applications with decisions.

A thousand loans of a German bank of the 1970s, each with twenty attributes and whether it was a good risk. The file
names nobody: names and numbers are made up here and say so. Its code for sex is known to be unreliable (U. Groemping,
"South German Credit Data: Correcting a Widely Used Data Set", 2019), so what a fairness report computes from it shows
arithmetic, and nothing about women and men.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tallystick.assets import Asset, AssetKind, register
from tallystick.domains.datafiles import bad, text_of
from tallystick.domains.underwriting.applications import Application, ApplicationStatus, EmploymentStatus
from tallystick.domains.underwriting.boarding import Boarded, Told, board
from tallystick.domains.underwriting.datasets import keyed, made_up_name, made_up_ssn, stored_keys
from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.errors import Invalid
from tallystick.money import Money

if TYPE_CHECKING:
    from datetime import datetime

    from tallystick.session import Session

DEM: Final = register(Asset("DEM", 2, AssetKind.FIAT))
"""The Deutsche Mark, which the euro replaced in 2002; known once this module is imported."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FILES: Final = ("german.data", "german.csv")
_WHAT: Final = "the German credit data"
_NUMERIC: Final = 25
_KEY: Final = "german-credit:"
_LARGEST: Final = 16 * 1024 * 1024
_YOUNG: Final = 25

_CODES: Final[dict[str, dict[str, str]]] = {
    "status": {"A11": "below 0 DM", "A12": "0 to 200 DM", "A13": "200 DM or salary", "A14": "no checking account"},
    "credit_history": {
        "A30": "no credits, or all paid back",
        "A31": "all credits here paid back",
        "A32": "existing credits paid so far",
        "A33": "delays in the past",
        "A34": "critical, or credits elsewhere",
    },
    "purpose": {
        "A40": "car (new)",
        "A41": "car (used)",
        "A42": "furniture",
        "A43": "radio or TV",
        "A44": "appliances",
        "A45": "repairs",
        "A46": "education",
        "A47": "vacation",
        "A48": "retraining",
        "A49": "business",
        "A410": "other",
    },
    "savings": {
        "A61": "below 100 DM",
        "A62": "100 to 500 DM",
        "A63": "500 to 1000 DM",
        "A64": "1000 DM or more",
        "A65": "unknown or none",
    },
    "employment": {
        "A71": "unemployed",
        "A72": "less than 1 year",
        "A73": "1 to 4 years",
        "A74": "4 to 7 years",
        "A75": "7 years or more",
    },
    "personal_status": {"A91": "male", "A92": "female", "A93": "male", "A94": "male", "A95": "female"},
    "other_debtors": {"A101": "none", "A102": "co-applicant", "A103": "guarantor"},
    "property": {"A121": "real estate", "A122": "savings agreement", "A123": "car or other", "A124": "unknown or none"},
    "installment_plans": {"A141": "bank", "A142": "stores", "A143": "none"},
    "housing": {"A151": "rent", "A152": "own", "A153": "free"},
    "skill_level": {"A171": "unskilled, non-resident", "A172": "unskilled", "A173": "skilled", "A174": "management"},
    "telephone": {"A191": "none", "A192": "yes"},
    "foreign_worker": {"A201": "yes", "A202": "no"},
    "credit": {"1": "good", "2": "bad"},
}
_NUMBERS: Final[dict[str, tuple[int, int]]] = {
    "month": (1, 600),
    "credit_amount": (1, 10_000_000),
    "investment_as_income_percentage": (1, 4),
    "residence_since": (0, 100),
    "age": (15, 120),
    "number_of_credits": (0, 100),
    "people_liable_for": (0, 100),
}
COLUMNS: Final = _words(
    "status month credit_history purpose credit_amount savings employment investment_as_income_percentage "
    "personal_status other_debtors residence_since property age installment_plans housing number_of_credits "
    "skill_level people_liable_for telephone foreign_worker credit"
)
_APART: Final = frozenset({"month", "purpose", "credit_amount", "personal_status", "age", "foreign_worker", "credit"})


class Record(msgspec.Struct, frozen=True):
    """One line of the file: its number among the records, from 1, and its values by column, as they stand there."""

    number: int
    values: dict[str, str]

    @property
    def good(self) -> bool:
        """Whether the bank counted it as a good risk (class 1)."""
        return self.values["credit"] == "1"

    def label(self, column: str) -> str:
        """What a code means, in words."""
        return _CODES[column][self.values[column]]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did: the file's name, its records, and how many of them were new to the tenant."""

    file: str
    records: int
    added: int


def find(path: Path) -> Path:
    """The data file that a path means: itself, or german.data or german.csv (.gz too) in that folder.

    Raises ``Invalid``.
    """
    folders = (path, path / "german_credit")
    names = (*FILES, *(f"{name}.gz" for name in FILES))
    found = next((f / name for f in folders for name in names if (f / name).is_file()), path)
    if found.is_file():
        return found
    raise Invalid(
        "There is no German credit file at that path.",
        field="path",
        remedy=f"Name {' or '.join(FILES)}, or the folder it is in.",
    )


def read(path: Path) -> list[Record]:
    """Every record of german.data (separated by blanks or tabs) or german.csv (commas), gzipped or not.

    A table with commas may have a header, with the columns in any order; without one they stand in the order of UCI.
    Empty lines are passed over. Raises ``Invalid`` with the number of the first line that is not what it should be.
    """
    lines = [(n, line.strip()) for n, line in enumerate(text_of(path, _WHAT, _LARGEST).split("\n"), 1) if line.strip()]
    commas = bool(lines) and "," in lines[0][1]
    order = COLUMNS
    records: list[Record] = []
    for at, line in lines:
        cells = _cells(at, line) if commas else line.split()
        if commas and at == lines[0][0] and (named := _header(at, cells)):
            order = named
            continue
        if len(cells) == _NUMERIC and all(cell.isdigit() for cell in cells):
            raise bad(at, "is of german.data-numeric, which leaves out what loans were for; load german.data")
        if len(cells) != len(COLUMNS):
            raise bad(at, f"has {len(cells)} values instead of {len(COLUMNS)}")
        records.append(_record(at, len(records) + 1, order, cells))
    if not records:
        raise Invalid("The file holds no records.", field="path", remedy="Check that the download is complete.")
    return records


def application_of(record: Record, decided_at: datetime, key: str) -> Boarded:
    """A record as an application with its final decision: class 1 approved, class 2 declined, by policy.

    Amounts are marks (``DEM``). The file does not say what people earned; the income it has not is stored as zero.
    """
    values = record.values
    wording = {c: record.label(c) if c in _CODES else values[c] for c in COLUMNS if c not in _APART}
    application = Application(
        full_legal_name=made_up_name(record.number),
        ssn=made_up_ssn(record.number),
        annual_income=Money(0, DEM.code),
        employment_status=(EmploymentStatus.UNEMPLOYED if values["employment"] == "A71" else EmploymentStatus.EMPLOYED),
        requested_amount=Money.of(int(values["credit_amount"]), DEM.code),
        requested_months=int(values["month"]),
        purpose=record.label("purpose"),
        credit_report={"source": "German credit data (UCI 144)", **wording},
        monitoring={
            "sex": record.label("personal_status"),
            "age_band": f"{_YOUNG} and under" if int(values["age"]) <= _YOUNG else f"over {_YOUNG}",
            "foreign_worker": record.label("foreign_worker"),
        },
        submitted_at=decided_at,
        decided_at=decided_at,
        idempotency_key=key,
    )
    decision = Decision(
        application=application.ref,
        kind=DecisionKind.POLICY,
        outcome=Outcome.APPROVED if record.good else Outcome.DECLINED,
        reasons=None if record.good else [ReasonCode.OTHER],
        other_reason=None if record.good else "The data set does not tell.",
        feature_hash=hashlib.sha256(" ".join(values[c] for c in COLUMNS[:-1]).encode()).digest(),
    )
    return Boarded(
        application=application,
        status=ApplicationStatus.APPROVED if record.good else ApplicationStatus.DECLINED,
        decisions=(decision,),
    )


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Store the records of a file that the tenant does not have yet, all or none.

    Needs the permission "applications.decide". Raises ``Invalid`` with the line number for a file that is damaged.
    """
    file = find(path)
    records = read(file)
    known = keyed(records, _KEY, lambda r: [r.values[c] for c in COLUMNS])
    async with db.transaction():
        there = await stored_keys(db, _KEY)
        now = db.now()
        added = await board(db, [application_of(r, now, key) for key, r in known.items() if key not in there], told)
    return Loaded(file=file.name, records=len(records), added=added)


def _cells(at: int, line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error:
        raise bad(at, "is no line of a CSV file") from None


def _header(at: int, cells: list[str]) -> tuple[str, ...] | None:
    """The columns that a header names, in its order; None when the first line is a record."""
    if cells[0] in _CODES["status"]:
        return None
    if [c.lower() for c in cells[:-1]] == [f"attribute{n}" for n in range(1, len(COLUMNS))]:
        return COLUMNS
    if sorted(cells) != sorted(COLUMNS):
        raise bad(at, "is not the header of german.csv")
    return tuple(cells)


def _record(at: int, number: int, order: tuple[str, ...], cells: list[str]) -> Record:
    given = dict(zip(order, cells, strict=True))
    for place, (column, value) in enumerate(given.items(), 1):
        if column in _CODES and value not in _CODES[column]:
            raise bad(at, f"has an unknown code for {column} (value {place})")
        if column in _NUMBERS:
            low, high = _NUMBERS[column]
            if not (value.isascii() and value.isdigit() and len(value) <= 9 and low <= int(value) <= high):
                raise bad(at, f"has no whole number from {low} to {high} for {column} (value {place})")
    return Record(number, {c: given[c] if c in _CODES else str(int(given[c])) for c in COLUMNS})
