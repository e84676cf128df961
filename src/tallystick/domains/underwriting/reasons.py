"""Why credit was declined: the reasons of Regulation B's form C-1 and the groups that HMDA reports them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from enum import StrEnum
from typing import Any

from tallystick.errors import Invalid

NOT_APPLICABLE = 10
"""The code of a HMDA file for an application that was not denied. Source: 12 CFR 1003.4(a)(16), comment 4(a)(16)-1."""
EXEMPT = 1111
"""The code of a HMDA file for a lender that need not tell. Source: 12 CFR 1003.3(d)."""
MOST_REASONS = 4
"""How many principal reasons a notice gives at most (comment 9(b)(2)-1 to 12 CFR 1002.9)."""


class ReasonCode(StrEnum):
    """The principal reasons for a denial. Source: form C-1, appendix C to 12 CFR 1002 (Regulation B)."""

    APPLICATION_INCOMPLETE = "application_incomplete"
    CREDIT_REFERENCES_INSUFFICIENT = "credit_references_insufficient"
    CREDIT_REFERENCES_UNACCEPTABLE = "credit_references_unacceptable"
    CREDIT_REFERENCES_UNVERIFIABLE = "credit_references_unverifiable"
    EMPLOYMENT_TEMPORARY = "employment_temporary"
    EMPLOYMENT_UNVERIFIABLE = "employment_unverifiable"
    EMPLOYMENT_LENGTH = "employment_length"
    INCOME_INSUFFICIENT = "income_insufficient"
    OBLIGATIONS_EXCESSIVE = "obligations_excessive"
    INCOME_UNVERIFIABLE = "income_unverifiable"
    RESIDENCE_LENGTH = "residence_length"
    RESIDENCE_TEMPORARY = "residence_temporary"
    RESIDENCE_UNVERIFIABLE = "residence_unverifiable"
    NO_CREDIT_FILE = "no_credit_file"
    CREDIT_EXPERIENCE_LIMITED = "credit_experience_limited"
    POOR_PERFORMANCE_WITH_US = "poor_performance_with_us"
    DELINQUENT_OBLIGATIONS = "delinquent_obligations"
    COLLECTION_OR_JUDGMENT = "collection_or_judgment"
    GARNISHMENT = "garnishment"
    FORECLOSURE = "foreclosure"
    BANKRUPTCY = "bankruptcy"
    RECENT_INQUIRIES = "recent_inquiries"
    COLLATERAL_INSUFFICIENT = "collateral_insufficient"
    OTHER = "other"


class DenialGroup(StrEnum):
    """The groups that HMDA reports denials in. Source: 12 CFR 1003.4(a)(16) (Regulation C)."""

    DEBT_TO_INCOME = "debt_to_income"
    EMPLOYMENT_HISTORY = "employment_history"
    CREDIT_HISTORY = "credit_history"
    COLLATERAL = "collateral"
    INSUFFICIENT_CASH = "insufficient_cash"
    UNVERIFIABLE = "unverifiable"
    INCOMPLETE = "incomplete"
    INSURANCE_DENIED = "insurance_denied"
    OTHER = "other"

    @property
    def number(self) -> int:
        """The code of the group in a HMDA file, 1 to 9."""
        return list(DenialGroup).index(self) + 1


_R, _G = ReasonCode, DenialGroup
GROUPS = {
    _R.INCOME_INSUFFICIENT: _G.DEBT_TO_INCOME,
    _R.OBLIGATIONS_EXCESSIVE: _G.DEBT_TO_INCOME,
    _R.EMPLOYMENT_TEMPORARY: _G.EMPLOYMENT_HISTORY,
    _R.EMPLOYMENT_LENGTH: _G.EMPLOYMENT_HISTORY,
    _R.CREDIT_REFERENCES_INSUFFICIENT: _G.CREDIT_HISTORY,
    _R.CREDIT_REFERENCES_UNACCEPTABLE: _G.CREDIT_HISTORY,
    _R.NO_CREDIT_FILE: _G.CREDIT_HISTORY,
    _R.CREDIT_EXPERIENCE_LIMITED: _G.CREDIT_HISTORY,
    _R.POOR_PERFORMANCE_WITH_US: _G.CREDIT_HISTORY,
    _R.DELINQUENT_OBLIGATIONS: _G.CREDIT_HISTORY,
    _R.COLLECTION_OR_JUDGMENT: _G.CREDIT_HISTORY,
    _R.GARNISHMENT: _G.CREDIT_HISTORY,
    _R.FORECLOSURE: _G.CREDIT_HISTORY,
    _R.BANKRUPTCY: _G.CREDIT_HISTORY,
    _R.RECENT_INQUIRIES: _G.CREDIT_HISTORY,
    _R.COLLATERAL_INSUFFICIENT: _G.COLLATERAL,
    _R.CREDIT_REFERENCES_UNVERIFIABLE: _G.UNVERIFIABLE,
    _R.EMPLOYMENT_UNVERIFIABLE: _G.UNVERIFIABLE,
    _R.INCOME_UNVERIFIABLE: _G.UNVERIFIABLE,
    _R.RESIDENCE_UNVERIFIABLE: _G.UNVERIFIABLE,
    _R.APPLICATION_INCOMPLETE: _G.INCOMPLETE,
    _R.RESIDENCE_LENGTH: _G.OTHER,
    _R.RESIDENCE_TEMPORARY: _G.OTHER,
    _R.OTHER: _G.OTHER,
}
"""Which group each reason is reported in."""


def check_reasons(reasons: Iterable[Any]) -> list[ReasonCode]:
    """One to four different reasons, the weightiest first. Raises ``Invalid``."""
    try:
        # A set has no first one.
        found = [] if isinstance(reasons, (str, Set, Mapping)) else [ReasonCode(r) for r in reasons]
    except (TypeError, ValueError):
        found = []
    if not 1 <= len(found) <= MOST_REASONS or len(set(found)) < len(found):
        raise Invalid(
            f"A decision is given one to {MOST_REASONS} different reasons.",
            field="reasons",
            entity="Decision",
            remedy="Write reasons=[ReasonCode.INCOME_INSUFFICIENT], the weightiest first.",
        )
    return found


def hmda_denial_codes(reasons: Iterable[Any] | None, *, exempt: bool = False) -> list[int]:
    """What a HMDA file has for the reasons of a denial: one to four codes of 1 to 9, the weightiest first.

    Without reasons (nothing was denied) it is 10, "not applicable"; for a lender that is ``exempt`` it is 1111. Codes 5
    (insufficient cash) and 8 (mortgage insurance denied) stand for no reason of form C-1: what a mortgage lender tells
    as ``ReasonCode.OTHER`` is code 9 with its text. Raises ``Invalid``.
    """
    if exempt:
        return [EXEMPT]
    return [NOT_APPLICABLE] if reasons is None else [group.number for group in denial_groups(reasons)]


def denial_groups(reasons: Iterable[Any]) -> list[DenialGroup]:
    """The groups that HMDA reports for a denial, in the order of their reasons and each once. Raises ``Invalid``."""
    return list(dict.fromkeys(GROUPS[r] for r in check_reasons(reasons)))
