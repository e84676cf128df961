"""A scorecard to decide made-up applications with: points for what an applicant stated, and nothing of who they are.

It is an example and no model to lend by. Points add up, so the attributions of a score are the points themselves
(Shapley values of an additive model are its terms less their means; here the base carries the means).
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.domains.underwriting.applications import EmploymentStatus
from tallystick.domains.underwriting.reasons import ReasonCode

VERSION = "demo-scorecard-1"
BASE = 455
APPROVE_BELOW = 475
REVIEW_BELOW = 515

_EMPLOYMENT = {
    EmploymentStatus.EMPLOYED: -35,
    EmploymentStatus.SELF_EMPLOYED: 20,
    EmploymentStatus.RETIRED: -20,
    EmploymentStatus.STUDENT: 45,
    EmploymentStatus.OTHER: 30,
    EmploymentStatus.UNEMPLOYED: 140,
}


class Facts(NamedTuple):
    """What the scorecard looks at. Amounts are minor units of one asset; ``burden`` is derived from them."""

    employment: EmploymentStatus
    yearly_income: int
    requested: int
    months: int
    history_months: int
    late_payments: int

    @property
    def burden(self) -> int:
        """Percent of the income of the loan's months that the loan is, whole."""
        return self.requested * 1200 // (self.months * max(self.yearly_income, 1))


def points(facts: Facts) -> dict[str, int]:
    """Points for each feature: above zero speaks against lending."""
    return {
        "employment": _EMPLOYMENT[facts.employment],
        "burden": min(facts.burden * 4, 260) - 60,
        "credit_history": 70 - min(facts.history_months, 180) * 130 // 180,
        "late_payments": min(facts.late_payments, 5) * 45 - 20,
    }


_REASONS = {
    "employment": ReasonCode.EMPLOYMENT_TEMPORARY,
    "burden": ReasonCode.OBLIGATIONS_EXCESSIVE,
    "credit_history": ReasonCode.CREDIT_EXPERIENCE_LIMITED,
    "late_payments": ReasonCode.DELINQUENT_OBLIGATIONS,
}


def reasons(points: dict[str, int]) -> list[ReasonCode]:
    """Why a scored application is declined: what speaks against it, the weightiest first, or else the weightiest."""
    ranked = sorted(points, key=lambda name: -points[name])
    return [_REASONS[name] for name in ranked if points[name] > 0] or [_REASONS[ranked[0]]]


def score(facts: Facts, points: dict[str, int]) -> int:
    """The risk from 0 (none) to 1000."""
    return max(0, min(1000, BASE + sum(points.values())))
