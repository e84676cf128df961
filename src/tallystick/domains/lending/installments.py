"""Schedules as they are stored: versions of a loan's plan, and what of each installment is settled."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from tallystick.domains.lending.loans import Loan, Total
from tallystick.domains.lending.schedule import InstallmentKind
from tallystick.entity import Entity
from tallystick.fields import Maintained, Once, Ref
from tallystick.money import NOTHING, Money, sum_of
from tallystick.rules import Check, Guard, Index, Rules, Unique, kept

Due = Annotated[Money, Once()]
"""What is due; after the installment was made only charges change it."""


class ScheduleReason(StrEnum):
    """Why a version of a schedule was made."""

    ORIGINAL = "original"
    TRANCHE = "tranche"
    BOARDED = "boarded"
    RESCHEDULE = "reschedule"
    REAGE = "reage"
    REAMORTIZE = "reamortize"


class LoanSchedule(Entity):
    """A version of a loan's plan, in force from ``since`` until the next version's. Versions are never edited."""

    loan: Annotated[Ref[Loan], Once()]
    edition: Annotated[int, Once()]
    reason: Annotated[ScheduleReason, Once()]
    since: Annotated[date, Once()]
    current: bool = True

    rules = Rules(
        Unique("loan", "edition"),
        Unique("loan", where="current"),
        Index("loan", query="restructured loans", where="reason in ('reschedule', 'reage', 'reamortize')"),
        Check("edition", "edition >= 1"),
        kept(),
        retain="lending",
    )


class LoanInstallment(Entity):
    """One installment of a version: what is due, and what of it was paid, waived and written off.

    The settled amounts are sums of allocations, which the database keeps; ``settled_on`` is the business date on which
    nothing was left. ``current`` says that the version is.
    """

    loan: Annotated[Ref[Loan], Once()]
    schedule: Annotated[Ref[LoanSchedule], Once()]
    seq: Annotated[int, Once()]
    kind: Annotated[InstallmentKind, Once()] = InstallmentKind.REGULAR
    start: Annotated[date, Once()]
    due: Annotated[date, Once()]
    principal: Due
    interest: Due
    fees: Due
    penalties: Due
    principal_paid: Total = NOTHING
    interest_paid: Total = NOTHING
    fees_paid: Total = NOTHING
    penalties_paid: Total = NOTHING
    interest_waived: Total = NOTHING
    fees_waived: Total = NOTHING
    penalties_waived: Total = NOTHING
    principal_written_off: Total = NOTHING
    interest_written_off: Total = NOTHING
    fees_written_off: Total = NOTHING
    penalties_written_off: Total = NOTHING
    settled_on: Annotated[date | None, Maintained()] = None
    current: bool = True

    rules = Rules(
        Unique("schedule", "seq"),
        Index("loan", "seq", query="the current plan of a loan", where="current"),
        Index("due", query="what falls due when: expected cash flow", where="current and settled_on is null"),
        Check("seq", "seq between 1 and 10000"),
        Check("dates", "start <= due"),
        Check("due", "principal >= 0 and interest >= 0 and fees >= 0 and penalties >= 0"),
        Check("principal_settled", "principal_paid + principal_written_off between 0 and principal"),
        Check("interest_settled", "interest_paid + interest_waived + interest_written_off between 0 and interest"),
        Check("fees_settled", "fees_paid + fees_waived + fees_written_off between 0 and fees"),
        Check("penalties_settled", "penalties_paid + penalties_waived + penalties_written_off between 0 and penalties"),
        Check(
            "parts",
            "least(principal_paid, interest_paid, fees_paid, penalties_paid, interest_waived, fees_waived, "
            "penalties_waived, principal_written_off, interest_written_off, fees_written_off, penalties_written_off) "
            ">= 0",
        ),
        Guard(
            "tally_total_new",
            "AFTER INSERT",
            "tally.loan_total('loan_installment')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        Guard(
            "tally_total_changed",
            "AFTER UPDATE",
            "tally.loan_total('loan_installment')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        kept(),
        retain="lending",
        fillfactor=80,
    )

    @property
    def outstanding(self) -> Money:
        """What is left of it."""
        return sum_of(
            (
                self.principal - self.principal_paid - self.principal_written_off,
                self.interest - self.interest_paid - self.interest_waived - self.interest_written_off,
                self.fees - self.fees_paid - self.fees_waived - self.fees_written_off,
                self.penalties - self.penalties_paid - self.penalties_waived - self.penalties_written_off,
            )
        )

    @property
    def total(self) -> Money:
        """Everything that is or was due."""
        return self.principal + self.interest + self.fees + self.penalties
