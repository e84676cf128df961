"""Loan application registers that lenders disclose under HMDA (12 CFR 1003), as applications with decisions.

The public files of 2018 and later, and those with names of 2007 to 2017. They name nobody: names and numbers are made
up here and say so. An income that is not told, or exempt, is stored as zero; so is a loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from tallystick.domains.datafiles import bad, number
from tallystick.domains.identity.profiles import EmploymentStatus
from tallystick.domains.underwriting.applications import Application, ApplicationStatus
from tallystick.domains.underwriting.boarding import Boarded
from tallystick.domains.underwriting.datasets import made_up_name, made_up_ssn
from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
from tallystick.domains.underwriting.reasons import EXEMPT, GROUPS, NOT_APPLICABLE, DenialGroup, ReasonCode
from tallystick.money import Money

if TYPE_CHECKING:
    from datetime import datetime

KEY: Final = "hmda-register:"
_S = ApplicationStatus
ACTIONS: Final[dict[str, ApplicationStatus | None]] = {
    "1": _S.APPROVED,  # originated
    "2": _S.APPROVED,  # approved but not accepted
    "3": _S.DECLINED,
    "4": _S.WITHDRAWN,
    "5": _S.EXPIRED,  # closed for incompleteness
    "6": None,  # a purchased loan, which nobody applied for here
    "7": _S.DECLINED,  # a preapproval denied
    "8": _S.APPROVED,  # a preapproval approved but not accepted
}
"""What became of an application, by its code. Source: 12 CFR 1003.4(a)(8)."""
_PURPOSES: Final = {
    "1": "home purchase",
    "2": "home improvement",
    "3": "refinancing",
    "31": "refinancing",
    "32": "cash-out refinancing",
    "4": "other",
    "5": "not applicable",
}
MONITORED: Final = {
    "race": ("derived_race", "applicant_race_name_1"),
    "ethnicity": ("derived_ethnicity", "applicant_ethnicity_name"),
    "sex": ("derived_sex", "applicant_sex_name"),
    "age_band": ("applicant_age",),
}
"""What is kept for fairness monitoring and nothing else, and the columns it is in."""
_REPORT: Final = (
    *("activity_year", "as_of_year", "lei", "respondent_id", "state_code", "county_code", "action_taken"),
    *("loan_type", "lien_status", "occupancy_type", "derived_loan_product_type", "loan_to_value_ratio"),
    *("combined_loan_to_value_ratio", "debt_to_income_ratio", "property_value", "interest_rate", "rate_spread"),
    *("loan_term", "income", "applicant_income_000s"),
)
_NUMBERS: Final = (
    *("loan_to_value_ratio", "combined_loan_to_value_ratio", "property_value", "interest_rate", "rate_spread"),
    "loan_term",
)
_BANDS: Final = frozenset({"<20%", "20%-<30%", "30%-<36%", "50%-60%", ">60%"})
_UNTOLD: Final = frozenset({"", "NA", "Exempt", str(EXEMPT)})
_MOST_MONTHS: Final = 600
_MOST_DOLLARS: Final = Decimal(10) ** 12


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One application of a register, its number among them from 1, and its values by column."""

    number: int
    status: ApplicationStatus
    amount: int
    income: int
    months: int | None
    denials: tuple[int, ...]
    values: dict[str, str]

    @property
    def told(self) -> Sequence[str]:
        """Everything the register tells, in the order of its columns' names."""
        return [f"{c}={self.values[c]}" for c in sorted(self.values) if self.values[c]]


def is_register(header: Sequence[str]) -> bool:
    """Whether a header is one of these files: what was done, for how much, and who they said they are."""
    has = set(header)
    amount = has & {"loan_amount", "loan_amount_000s"}
    return "action_taken" in has and bool(amount) and any(has & set(MONITORED[k]) for k in ("race", "ethnicity", "sex"))


def column(name: str) -> str:
    """A column as it is called here; the files write denial_reason-1 and denial_reason_1."""
    return name.lower().replace("-", "_")


def lines(header: Sequence[str], rows: Iterable[tuple[int, list[str]]]) -> tuple[list[Line], int]:
    """The applications of a register, and how many purchased loans were passed over. Raises ``Invalid``."""
    found: list[Line] = []
    purchased = 0
    for at, cells in rows:
        values = {name: text.strip() for name, text in zip(header, cells, strict=True)}
        if values["action_taken"] not in ACTIONS:
            raise bad(at, "has no action taken from 1 to 8")
        status = ACTIONS[values["action_taken"]]
        if status is None:
            purchased += 1
        else:
            found.append(_line(at, len(found) + 1, status, values))
    return found, purchased


def application_of(line: Line, decided_at: datetime, key: str) -> Boarded:
    """A line as an application, with its final decision by policy where one was made.

    Reasons are told by group: the first reason of form C-1 that is reported in a group stands for it.
    """
    values = line.values
    decided = line.status in (_S.APPROVED, _S.DECLINED)
    told = {name: next((values[c] for c in at if values.get(c)), "") for name, at in MONITORED.items()}
    application = Application(
        full_legal_name=made_up_name(line.number),
        ssn=made_up_ssn(line.number),
        annual_income=Money(line.income * 100, "USD"),
        employment_status=EmploymentStatus.OTHER,
        requested_amount=Money(line.amount * 100, "USD"),
        requested_months=line.months,
        purpose=_PURPOSES.get(values.get("loan_purpose", ""), "mortgage"),
        credit_report={
            "source": "HMDA loan application register",
            **{c: values[c] for c in _REPORT if values.get(c)},
            **({"denial_reasons": [g.value for g in _groups(line)]} if line.denials else {}),
        },
        monitoring={name: text for name, text in told.items() if text},
        submitted_at=decided_at,
        decided_at=decided_at if decided else None,
        idempotency_key=key,
    )
    if not decided:
        return Boarded(application=application, status=line.status)
    declined = line.status is _S.DECLINED
    reasons = _reasons(line) if declined else None
    untold = ", ".join(g.value for g in _groups(line)) or "The register does not tell."
    decision = Decision(
        application=application.ref,
        kind=DecisionKind.POLICY,
        outcome=Outcome.DECLINED if declined else Outcome.APPROVED,
        feature_hash=hashlib.sha256("\x1f".join(line.told).encode()).digest(),
        reasons=reasons,
        other_reason=untold if reasons and ReasonCode.OTHER in reasons else None,
    )
    return Boarded(application=application, status=line.status, decisions=(decision,))


def _line(at: int, count: int, status: ApplicationStatus, values: dict[str, str]) -> Line:
    for name in _NUMBERS:
        if values.get(name, "") not in _UNTOLD:
            number(at, values[name], name)
    ratio = values.get("debt_to_income_ratio", "")
    if ratio not in _UNTOLD | _BANDS:
        number(at, ratio, "debt_to_income_ratio")
    if values.get("loan_purpose", "1") not in _PURPOSES:
        raise bad(at, "has an unknown loan purpose")
    thousands = "loan_amount" not in values
    amount = _dollars(at, values, "loan_amount_000s" if thousands else "loan_amount", 1000 if thousands else 1)
    if amount <= 0:
        raise bad(at, "has no loan amount above zero")
    income = max(0, _dollars(at, values, "income" if "income" in values else "applicant_income_000s", 1000))
    term = values.get("loan_term", "")
    months = None if term in _UNTOLD else number(at, term, "loan_term")
    whole = months is not None and 1 <= months <= _MOST_MONTHS and months == int(months)
    return Line(
        number=count,
        status=status,
        amount=amount,
        income=income,
        months=int(months) if months is not None and whole else None,
        denials=_denials(at, values),
        values=values,
    )


def _dollars(at: int, values: dict[str, str], name: str, times: int) -> int:
    text = values.get(name, "")
    if text in _UNTOLD:
        return 0
    found = number(at, text, name) * times
    if abs(found) > _MOST_DOLLARS:
        raise bad(at, f"has no amount in dollars in {name}")
    return int(found.to_integral_value())


def _denials(at: int, values: dict[str, str]) -> tuple[int, ...]:
    """The denial reasons that are told, by number; what is not applicable or exempt is none."""
    found: list[int] = []
    for name in (f"denial_reason_{n}" for n in range(1, 5)):
        text = values.get(name, "").removesuffix(".0")
        if text in _UNTOLD or text == str(NOT_APPLICABLE):
            continue
        if text not in {str(g.number) for g in DenialGroup}:
            raise bad(at, f"has an unknown code in {name}")
        found.append(int(text))
    return tuple(dict.fromkeys(found))


def _groups(line: Line) -> list[DenialGroup]:
    return [list(DenialGroup)[n - 1] for n in line.denials]


def _reasons(line: Line) -> list[ReasonCode]:
    """A reason for each group; two groups that form C-1 has no reason for are one "other"."""
    first = {group: reason for reason, group in reversed(GROUPS.items())} | {DenialGroup.OTHER: ReasonCode.OTHER}
    found = dict.fromkeys(first.get(group, ReasonCode.OTHER) for group in _groups(line))
    return list(found) or [ReasonCode.OTHER]
