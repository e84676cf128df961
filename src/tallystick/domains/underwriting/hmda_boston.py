"""The Boston HMDA data (A. Munnell et al., American Economic Review 86, 1996) as applications with decisions.

2,380 mortgage applications of 1990 with what was known of each, and whether it was denied. The file names nobody:
names and numbers are made up here and say so. What it does not tell, incomes and amounts and reasons, stays untold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from tallystick.domains.datafiles import bad, number
from tallystick.domains.underwriting.applications import Application, ApplicationStatus, EmploymentStatus
from tallystick.domains.underwriting.boarding import Boarded
from tallystick.domains.underwriting.datasets import made_up_name, made_up_ssn
from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.money import Money

if TYPE_CHECKING:
    from datetime import datetime

KEY: Final = "hmda-boston:"
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
TOLD: Final = tuple(COLUMNS[1:])
"""What is told of an application; the first column only counts."""
NEEDED: Final = frozenset(TOLD) - {"hschool"}
MONITORED: Final = ("afam", "single")
"""What is kept for fairness monitoring and nothing else: African-American, and single."""
OTHER_NAMES: Final = {
    "dir": "pirat",
    "hir": "hirat",
    "lvr": "lvrat",
    "ccs": "chist",
    "mcs": "mhist",
    "pbcr": "phist",
    "dmi": "insurance",
    "self": "selfemp",
    "uria": "unemp",
    "condominium": "condomin",
    "comdominiom": "condomin",
    "black": "afam",
}
"""What the same columns are called in Ecdat's copy of the data, its misspelling included."""
UNTOLD: Final = ("", "NA")


class Record(msgspec.Struct, frozen=True):
    """One line of the file: its number among the records, from 1, and its values by column; what is untold is "NA"."""

    number: int
    values: dict[str, str]

    @property
    def denied(self) -> bool:
        """Whether the mortgage was denied."""
        return self.values["deny"] == "yes"

    @property
    def payment_to_income(self) -> Decimal | None:
        """Payments over income, a fraction."""
        text = self.values["pirat"]
        return None if text in UNTOLD else Decimal(text)

    @property
    def told(self) -> Sequence[str]:
        """Everything the file tells, in a fixed order."""
        return [self.values.get(c, "NA") for c in TOLD]


def records(header: Sequence[str], rows: Iterable[tuple[int, list[str]]]) -> list[Record]:
    """The records of a table whose header was found to be this one's. Raises ``Invalid`` with the line."""
    names = [OTHER_NAMES.get(name, name) for name in header]
    return [_record(at, n, dict(zip(names, cells, strict=True))) for n, (at, cells) in enumerate(rows, 1)]


def mean_payment_to_income(found: Iterable[Record]) -> Decimal:
    """The mean of payments over income among those who told, rounded to seven digits; zero when nobody did."""
    told = [ratio for r in found if (ratio := r.payment_to_income) is not None]
    return (sum(told, Decimal(0)) / max(1, len(told))).quantize(Decimal("1e-7"))


def application_of(record: Record, decided_at: datetime, key: str) -> Boarded:
    """A record as an application with its final decision by policy; the reason of a denial was not told."""
    values = record.values
    status = ApplicationStatus.DECLINED if record.denied else ApplicationStatus.APPROVED
    application = Application(
        full_legal_name=made_up_name(record.number),
        ssn=made_up_ssn(record.number),
        annual_income=Money(0, "USD"),
        employment_status=(EmploymentStatus.SELF_EMPLOYED if values["selfemp"] == "yes" else EmploymentStatus.EMPLOYED),
        purpose="mortgage",
        credit_report={
            "source": "Boston HMDA 1990",
            **{c: values[c] for c in TOLD[1:] if c in values and c not in MONITORED},
        },
        monitoring={c: values[c] for c in MONITORED if values[c] != "NA"},
        submitted_at=decided_at,
        decided_at=decided_at,
        idempotency_key=key,
    )
    decision = Decision(
        application=application.ref,
        kind=DecisionKind.POLICY,
        outcome=Outcome(status.value),
        feature_hash=hashlib.sha256(" ".join(record.told[1:]).encode()).digest(),
        reasons=[ReasonCode.OTHER] if record.denied else None,
        other_reason="The data set does not tell." if record.denied else None,
    )
    return Boarded(application=application, status=status, decisions=(decision,))


def _record(at: int, count: int, given: dict[str, str]) -> Record:
    values = {c: "NA" if (text := given[c].strip()) in UNTOLD else text for c in TOLD if c in given}
    for column, text in values.items():
        if text == "NA" and column != "deny":
            continue
        if column in _FLAGS and text not in ("yes", "no"):
            raise bad(at, f"has neither yes nor no for {column}")
        if column in _NUMBERS and not 0 <= number(at, text, column) <= 100:
            raise bad(at, f"has no number from 0 to 100 for {column}")
        if column in _LEVELS:
            values[column] = level = format(number(at, text, column).normalize(), "f")
            if level not in {str(n) for n in range(1, _LEVELS[column] + 1)}:
                raise bad(at, f"has no whole number from 1 to {_LEVELS[column]} for {column}")
    return Record(count, values)
