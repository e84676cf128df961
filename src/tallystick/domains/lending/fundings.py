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
from tallystick.rules import Check, Guard, Index, Rules, Transitions, kept


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
