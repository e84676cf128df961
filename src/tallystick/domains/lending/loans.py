"""Loans: who owes what, by which product, and where it stands; totals are kept by the database."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from tallystick.domains.community.communities import Community
from tallystick.domains.identity.users import User
from tallystick.domains.ledger.transfers import Transfer
from tallystick.domains.lending.products import LoanProduct
from tallystick.entity import Entity
from tallystick.fields import Length, Maintained, Once, Rate, Ref
from tallystick.money import NOTHING, Money
from tallystick.rules import Check, Guard, Index, Readable, Rules, Transitions, Unique, append_only, kept

Total = Annotated[Money, Maintained()]
"""An amount that only triggers of the database write."""


class LoanStatus(StrEnum):
    """Where a loan is in its life. Late, defaulted and charged off are not statuses: see ``portfolio.standing``."""

    REQUESTED = "requested"
    FUNDING = "funding"
    APPROVED = "approved"
    DISBURSING = "disbursing"
    ACTIVE = "active"
    OVERPAID = "overpaid"
    CLOSED = "closed"
    WRITTEN_OFF = "written_off"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


_S = LoanStatus
SERVICED = (_S.ACTIVE, _S.OVERPAID, _S.CLOSED)
"""Statuses between which the database moves a loan by what it owes."""
STEPS = {
    _S.REQUESTED: [_S.FUNDING, _S.APPROVED, _S.REJECTED, _S.WITHDRAWN],
    _S.FUNDING: [_S.APPROVED, _S.EXPIRED, _S.WITHDRAWN],
    _S.APPROVED: [_S.DISBURSING, _S.ACTIVE, _S.CANCELLED, _S.WITHDRAWN],
    _S.DISBURSING: [_S.ACTIVE, _S.APPROVED],
    _S.ACTIVE: [_S.CLOSED, _S.OVERPAID, _S.WRITTEN_OFF],
    _S.OVERPAID: [_S.ACTIVE, _S.CLOSED],
    _S.CLOSED: [_S.ACTIVE, _S.OVERPAID],
}


class Loan(Entity):
    """Money lent to a borrower, or asked for.

    ``principal`` is what was asked for and, from approval on, what was approved. ``outstanding`` is everything that the
    current schedule still asks for, interest to come included; ``principal_outstanding`` is what portfolio measures
    are of. ``oldest_due`` is the earliest due date that is not settled. ``payout`` is the pending transfer of a
    disbursement on its way. Totals, and the status once money was paid out, follow from schedules, charges and
    allocations by triggers; no client can write them.
    """

    number: Annotated[int, Once()]
    borrower: Annotated[Ref[User], Once()]
    product: Annotated[Ref[LoanProduct], Once()]
    community: Annotated[Ref[Community] | None, Once()] = None
    external_id: Annotated[str, Length(120, min=1), Once()] | None = None
    purpose: Annotated[str, Length(120)] | None = None
    principal: Money
    annual_rate: Rate
    installments: int
    first_due: date | None = None
    status: LoanStatus = LoanStatus.REQUESTED
    status_reason: Annotated[str, Length(300)] | None = None
    requested_on: Annotated[date, Once()]
    approved_on: date | None = None
    disbursed_on: date | None = None
    matures_on: date | None = None
    charged_off_on: date | None = None
    written_off_on: date | None = None
    closed_on: Annotated[date | None, Maintained()] = None
    fraud: bool = False
    payout: Ref[Transfer] | None = None
    boarded: Annotated[bool, Once()] = False
    details: dict[str, Any] = msgspec.field(default_factory=dict)
    funded: Total = NOTHING
    disbursed: Total = NOTHING
    outstanding: Total = NOTHING
    principal_outstanding: Total = NOTHING
    interest_outstanding: Total = NOTHING
    fees_outstanding: Total = NOTHING
    penalties_outstanding: Total = NOTHING
    overpaid: Total = NOTHING
    oldest_due: Annotated[date | None, Maintained()] = None

    rules = Rules(
        Unique("number"),
        Unique("external_id"),
        Index("borrower", "status", query="a borrower's open loans"),
        Index("community", "status", "created_at", query="a community's loans, newest first"),
        Index(
            "status",
            "oldest_due",
            query="collections worklist and portfolio at risk on the business date of today",
            # Portfolio at risk is of all loans: without these it reads whole rows, and judges the tenant of each.
            include=("principal_outstanding", "charged_off_on"),
        ),
        Index("disbursed_on", query="loans by the day they were paid out: vintages"),
        Check("principal", "principal > 0"),
        Check("terms", "installments between 1 and 3660 and annual_rate between 0 and 10"),
        Check("payout", "(status = 'disbursing') = (payout_id is not null)"),
        Check("funded", "funded between 0 and principal"),
        Check("disbursed", "disbursed between 0 and principal"),
        Check(
            "totals",
            "principal_outstanding >= 0 and interest_outstanding >= 0 and fees_outstanding >= 0 and "
            "penalties_outstanding >= 0 and outstanding = principal_outstanding + interest_outstanding + "
            "fees_outstanding + penalties_outstanding",
        ),
        Check("overpaid", "overpaid >= 0"),
        Check("closed", "status <> 'closed' or (outstanding = 0 and overpaid = 0)"),
        Check("overpaying", "status <> 'overpaid' or (outstanding = 0 and overpaid > 0)"),
        Check("active", "status <> 'active' or outstanding > 0"),
        Check("written_off", "(status = 'written_off') = (written_off_on is not null)"),
        Check("charged_off", "charged_off_on is null or charged_off_on >= disbursed_on"),
        Check("paid_out", "disbursed_on is not null or status not in ('active', 'overpaid', 'closed', 'written_off')"),
        Transitions("status", STEPS, initial=[_S.REQUESTED, _S.APPROVED]),
        Guard("tally_history", "AFTER INSERT OR UPDATE OF status", "tally.loan_history('loan')"),
        kept(),
        retain="lending",
        fillfactor=80,
        readable={
            "external_id": Readable.CODE,
            "purpose": Readable.BY_ID,
            "status_reason": Readable.NOTE,
            "details": Readable.TERMS,
        },
    )

    @property
    def asset(self) -> str:
        """The asset that was lent."""
        return self.principal.asset


class LoanStatusChange(Entity):
    """One step of a loan's life, written by the database when it happens; ``before`` is None for the first."""

    loan: Ref[Loan]
    step: int
    before: LoanStatus | None = None
    after: LoanStatus
    reason: Annotated[str, Length(300)] | None = None

    rules = Rules(
        Unique("loan", "step"),
        Guard("tally_history_only", "AFTER INSERT", "tally.loan_history_only('loan_status_change')"),
        append_only(),
        retain="lending",
        readable={"reason": Readable.NOTE},
    )


class LoanNumber(Entity):
    """The last number that was given to a loan of the tenant."""

    series: Annotated[str, Length(20, min=1), Once()]
    last: int

    rules = Rules(Unique("series"), Check("last", "last >= 0"), kept(), audit=False, readable={"series": Readable.CODE})
