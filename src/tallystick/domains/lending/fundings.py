"""What lenders give for a loan that a community funds."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from tallystick.domains.identity.users import User
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.lending.loans import Loan
from tallystick.entity import Entity
from tallystick.fields import Once, Ref
from tallystick.money import Money
from tallystick.rules import Check, Guard, Index, Rules, Transitions, append_only, kept


class FundingStatus(StrEnum):
    """Where a lender's money is: promised and held, lent out, or given back."""

    PLEDGED = "pledged"
    COMMITTED = "committed"
    RELEASED = "released"


class LoanFunding(Entity):
    """A lender's part of a loan. The parts of a loan never add up to more than the loan; the database sees to it."""

    loan: Annotated[Ref[Loan], Once()]
    lender: Annotated[Ref[User], Once()]
    amount: Annotated[Money, Once()]
    effective: Annotated[date, Once()]
    status: FundingStatus = FundingStatus.PLEDGED
    journal: Annotated[Ref[Journal], Once()]

    rules = Rules(
        Index("loan", "status", query="who funds a loan"),
        Index("lender", "status", query="what a lender has lent"),
        Check("amount", "amount > 0"),
        Transitions(
            "status",
            {
                FundingStatus.PLEDGED: [FundingStatus.COMMITTED, FundingStatus.RELEASED],
                FundingStatus.COMMITTED: [FundingStatus.RELEASED],
            },
            initial=[FundingStatus.PLEDGED],
        ),
        Guard("tally_funded", "AFTER INSERT OR UPDATE OF status", "tally.loan_funded('loan_funding')"),
        kept(),
        retain="lending",
    )


class LenderPayout(Entity):
    """What a lender was paid of what came in for a loan: their part of its principal and of its interest."""

    loan: Ref[Loan]
    funding: Ref[LoanFunding]
    effective: date
    principal: Money
    interest: Money
    journal: Ref[Journal]

    rules = Rules(
        Index("loan", query="what the lenders of a loan were paid"),
        Index("funding", query="what a lender was paid"),
        Check("amounts", "principal >= 0 and interest >= 0 and principal + interest > 0"),
        append_only(),
        retain="lending",
    )
