"""Retention policies that hold: a tenant's own, over the examples that are shipped.

The examples are where to start and not legal advice. GDPR sets no period: Art. 5(1)(e) says no longer than needed, so
a class without a minimum may be erased as soon as the person asks. What a law wants kept
stays with its source named.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Final

import msgspec

from tallystick.domains.identity.consents import LegalBasis
from tallystick.domains.identity.retention import RetentionPolicy

if TYPE_CHECKING:
    from tallystick.session import Session
    from tallystick.spec import EntitySpec


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one retention class; see ``RetentionPolicy``. ``example`` is true for a shipped one."""

    data_class: str
    basis: LegalBasis
    reason: str
    citation: str = ""
    minimum_months: int = 0
    maximum_months: int | None = None
    hold: bool = False
    example: bool = False

    def due(self, last: date | None) -> date | None:
        """The first day on which data last changed on that day may be erased; None where nothing is kept."""
        return None if last is None or not self.minimum_months else later(last, self.minimum_months)


def _example(data_class: str, basis: LegalBasis, reason: str, citation: str, **months: int) -> Policy:
    return Policy(data_class=data_class, basis=basis, reason=reason, citation=citation, example=True, **months)  # type: ignore[arg-type]


EXAMPLES: Final = {
    p.data_class: p
    for p in (
        _example(
            "lending",
            LegalBasis.LEGAL_OBLIGATION,
            "applications and what was decided on them are kept for 25 months after the applicant was told",
            "Regulation B, 12 CFR 1002.12(b)(1)",
            minimum_months=25,
        ),
        _example("identity", LegalBasis.CONTRACT, "as long as the account is used", "GDPR Art. 6(1)(b)"),
        _example("community", LegalBasis.CONSENT, "as long as the member takes part", "GDPR Art. 6(1)(a)"),
        _example(
            "marketing", LegalBasis.CONSENT, "until consent is taken back", "GDPR Art. 6(1)(a), 7(3)", maximum_months=24
        ),
        _example("scoring", LegalBasis.CONSENT, "until consent is taken back", "GDPR Art. 6(1)(a)"),
        _example("consent", LegalBasis.LEGAL_OBLIGATION, "consent must be demonstrable", "GDPR Art. 7(1)"),
        _example("audit", LegalBasis.LEGAL_OBLIGATION, "accountability", "GDPR Art. 5(2)"),
        _example("savings", LegalBasis.CONTRACT, "as long as the group runs", "GDPR Art. 6(1)(b)"),
        _example("vaults", LegalBasis.CONTRACT, "as long as the vault runs", "GDPR Art. 6(1)(b)"),
        _example("proofs", LegalBasis.CONSENT, "as long as the proof is used", "GDPR Art. 6(1)(a)"),
        _example("operations", LegalBasis.LEGITIMATE_INTERESTS, "running the devices", "GDPR Art. 6(1)(f)"),
    )
}
"""The example policies, by class."""


async def in_force(db: Session) -> dict[str, Policy]:
    """The policies of a tenant by class: its own rows over the examples."""
    found = dict(EXAMPLES)
    for row in await db[RetentionPolicy].find():
        found[row.data_class] = Policy(
            data_class=row.data_class,
            basis=row.basis,
            reason=row.reason,
            citation=row.citation,
            minimum_months=row.minimum_months,
            maximum_months=row.maximum_months,
            hold=row.hold,
        )
    return found


def known_classes(specs: Iterable[EntitySpec]) -> set[str]:
    """The classes that entities declare, and those of the examples."""
    return {*EXAMPLES, *(c for spec in specs for c in (spec.retain, *spec.purposes) if c)}


def policy_for(policies: dict[str, Policy], data_class: str) -> Policy:
    """The policy of a class. Without one nothing is kept: keeping is what needs a ground, not erasing."""
    return policies.get(data_class) or Policy(
        data_class=data_class, basis=LegalBasis.CONSENT, reason="no policy asks to keep this class"
    )


def later(day: date, months: int) -> date:
    """The same day so many months later, or the last one of a shorter month; earlier for fewer than none."""
    number = day.year * 12 + day.month - 1 + months
    year, month = divmod(number, 12)
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, min(day.day, last))
        except ValueError:
            continue
    raise AssertionError
