"""The Boston HMDA data (A. Munnell et al., American Economic Review 86, 1996) as applications with decisions.

2,380 mortgage applications of 1990 with what was known of each, and whether it was denied. The file names nobody:
names and numbers are made up here and say so. What it does not tell, incomes and amounts and reasons, stays untold.
"""

from __future__ import annotations

import csv
import hashlib
import io
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tallystick.domains.underwriting.applications import Application, ApplicationStatus, EmploymentStatus
from tallystick.domains.underwriting.boarding import Boarded, Told, board
from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.errors import Invalid
from tallystick.money import Money
from tallystick.privacy.sealed import secret
from tallystick.query import prefix

if TYPE_CHECKING:
    from datetime import datetime

    from tallystick.domains.underwriting.fairness_metrics import GroupOutcome
    from tallystick.session import Session

FILE: Final = "HMDA.csv"
_KEY: Final = "hmda-boston:"
_LARGEST: Final = 16 * 1024 * 1024
_FLAGS: Final = ("deny", "phist", "selfemp", "insurance", "condomin", "afam", "single", "hschool")
_NUMBERS: Final = ("pirat", "hirat", "lvrat", "unemp")
_LEVELS: Final = {"chist": 6, "mhist": 4}
COLUMNS: Final = [
    "rownames",
    "deny",
    *("pirat", "hirat", "lvrat"),
    *("chist", "mhist", "phist"),
    "unemp",
    *("selfemp", "insurance", "condomin"),
    *("afam", "single", "hschool"),
]
MONITORED: Final = ("afam", "single")
"""What is kept for fairness monitoring and nothing else: African-American, and single."""


class Record(msgspec.Struct, frozen=True):
    """One line of the file: its number among the records, from 1, and its values by column, as they stand there."""

    number: int
    values: dict[str, str]

    @property
    def denied(self) -> bool:
        """Whether the mortgage was denied."""
        return self.values["deny"] == "yes"

    @property
    def payment_to_income(self) -> Decimal:
        """Payments over income, a fraction."""
        return Decimal(self.values["pirat"])


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did, and what the stored applications say of who was denied."""

    file: str
    records: int
    added: int
    denied: int
    payment_to_income: Decimal
    groups: list[GroupOutcome]


def find(path: Path) -> Path:
    """The data file that a path means: itself, or HMDA.csv in that folder. Raises ``Invalid``."""
    found = next((f / FILE for f in (path, path / "hmda_boston") if (f / FILE).is_file()), path)
    if found.is_file():
        return found
    raise Invalid("There is no HMDA file at that path.", field="path", remedy=f"Name {FILE}, or the folder it is in.")


def read(path: Path) -> list[Record]:
    """Every record of the file. Raises ``Invalid`` with the number of the first line that is not what it should be."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
        text = raw.decode("ascii")
    except OSError as error:
        raise Invalid(
            f"The HMDA file cannot be read ({error.strerror}).", field="path", remedy="Check its rights."
        ) from None
    except UnicodeDecodeError:
        raise _bad(1, "or a later one holds bytes that are not ASCII text") from None
    if len(raw) > _LARGEST:
        raise Invalid("The file is far larger than the HMDA data.", field="path", remedy="Check the path.")
    rows = csv.reader(io.StringIO(text), strict=True)
    records: list[Record] = []
    try:
        if next(rows, None) != COLUMNS:
            raise _bad(1, f"is not the header of {FILE}")
        for number, cells in enumerate(rows, 1):
            records.append(_record(rows.line_num, number, cells))
    except csv.Error:
        raise _bad(rows.line_num, "is no line of a CSV file") from None
    if not records:
        raise Invalid("The file holds no records.", field="path", remedy="Check that the download is complete.")
    return records


def mean_payment_to_income(records: list[Record]) -> Decimal:
    """The mean of payments over income, rounded to seven digits."""
    return (sum((r.payment_to_income for r in records), Decimal(0)) / len(records)).quantize(Decimal("1e-7"))


def application_of(record: Record, decided_at: datetime) -> Boarded:
    """A record as an application with its final decision by policy; the reason of a denial was not told."""
    values = record.values
    status = ApplicationStatus.DECLINED if record.denied else ApplicationStatus.APPROVED
    application = Application(
        full_legal_name=f"Made-up {record.number:04}",
        # Area 000 was never issued, so it is nobody's.
        ssn=secret(f"000-{record.number // 10_000 % 100:02}-{record.number % 10_000:04}"),
        annual_income=Money(0, "USD"),
        employment_status=(EmploymentStatus.SELF_EMPLOYED if values["selfemp"] == "yes" else EmploymentStatus.EMPLOYED),
        purpose="mortgage",
        credit_report={
            "source": "Boston HMDA 1990",
            **{c: values[c] for c in COLUMNS[2:] if c not in MONITORED},
        },
        monitoring={c: values[c] for c in MONITORED},
        submitted_at=decided_at,
        decided_at=decided_at,
        idempotency_key=f"{_KEY}{record.number:04}",
    )
    decision = Decision(
        application=application.ref,
        kind=DecisionKind.POLICY,
        outcome=Outcome(status.value),
        feature_hash=hashlib.sha256(" ".join(values[c] for c in COLUMNS[2:]).encode()).digest(),
        reasons=[ReasonCode.OTHER] if record.denied else None,
        other_reason="The data set does not tell." if record.denied else None,
    )
    return Boarded(application=application, status=status, decisions=(decision,))


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Store the records of a file that the tenant does not have yet, all or none.

    Needs the permission "applications.decide". Raises ``Invalid`` with the line number for a file that is damaged.
    """
    file = find(path)
    records = read(file)
    async with db.transaction():
        there = {a.idempotency_key async for a in db.applications.stream(prefix(Application.idempotency_key, _KEY))}
        now = db.now()
        given = [application_of(r, now) for r in records if f"{_KEY}{r.number:04}" not in there]
        added = await board(db, given, told)
        groups = await db.fairness.groups("afam")
    return Loaded(
        file=file.name,
        records=len(records),
        added=added,
        denied=sum(g.total - g.selected for g in groups),
        payment_to_income=mean_payment_to_income(records),
        groups=groups,
    )


def _record(at: int, number: int, cells: list[str]) -> Record:
    if len(cells) != len(COLUMNS):
        raise _bad(at, f"has {len(cells)} values instead of {len(COLUMNS)}")
    values = dict(zip(COLUMNS, cells, strict=True))
    for column in _FLAGS:
        if values[column] not in ("yes", "no"):
            raise _bad(at, f"has neither yes nor no for {column}")
    for column in _NUMBERS:
        if not _fraction(values[column]):
            raise _bad(at, f"has no number from 0 to 100 for {column}")
    for column, most in _LEVELS.items():
        if values[column] not in {str(n) for n in range(1, most + 1)}:
            raise _bad(at, f"has no whole number from 1 to {most} for {column}")
    return Record(number, values)


def _fraction(text: str) -> bool:
    try:
        return len(text) <= 40 and 0 <= Decimal(text) <= 100
    except InvalidOperation:
        return False


def _bad(line: int, problem: str) -> Invalid:
    return Invalid(
        f"Line {line} of the HMDA file {problem}.", field="path", remedy="Nothing was loaded; get the file again."
    )
