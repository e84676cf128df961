"""``db.portfolio``: the questions that lenders ask of their loans, answered by query as of a business date."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from tallystick.domains.lending import pausing
from tallystick.domains.lending.buckets import USUAL, Buckets
from tallystick.domains.lending.delinquency import Delinquency, delinquency
from tallystick.domains.lending.expected import ExpectedCash, cash_flow
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.pauses import DelinquencyPause
from tallystick.domains.lending.provisioning import MICROFINANCE, ProvisionRates, Provisions, provisions
from tallystick.domains.lending.receipts import LoanLike, id_of
from tallystick.domains.lending.risk import THRESHOLDS, PortfolioAtRisk, portfolio_at_risk
from tallystick.domains.lending.spans import Span
from tallystick.domains.lending.standing import Standing, standing
from tallystick.domains.lending.vintages import Measure, Vintages, vintages
from tallystick.domains.lending.worklist import LateLoan, worklist
from tallystick.page import Page

if TYPE_CHECKING:
    from tallystick.session import Session


class Portfolio:
    """The tenant's loans as a whole.

    Nothing is computed ahead: every answer is a query, exact at any moment, with no nightly job to wait for and no lock
    to hold up a payment. ``on`` is the business date, today unless given. For a past date an answer is what was
    effective by then as it is known now: a payment that was recorded late counts from its business date, one that was
    taken back never did. A date to come shows who will be late if nobody pays. A boarded loan counts from its boarding.
    While an earlier version of a schedule was in force, its plan is what a loan is measured by; a payment that is dated
    back behind a later version belongs to that one only, and counts from when it came into force.
    """

    __slots__ = ("_db",)

    def __init__(self, db: Session) -> None:
        self._db = db
        # Asked for first, because an application that did not choose the domain is told so here.
        db[Loan]

    # -- one loan ------------------------------------------------------------------------------------------------

    async def standing(self, loan: LoanLike, on: date | None = None, *, buckets: Buckets = USUAL) -> Standing:
        """How late a loan is, and what it has overdue. Raises ``NotFound``, ``Invalid``.

        Days past due are days since the due date with which what is unpaid passed the product's
        ``arrears_tolerance``, less its ``arrears_grace_days``, less the paused days after that date.
        """
        return await standing(self._db, loan, on, buckets)

    async def pause(
        self, loan: LoanLike, starts_on: date, ends_on: date, reason: str | None = None, *, key: str | None
    ) -> DelinquencyPause:
        """Do not count the days from ``starts_on`` to ``ends_on``, both included, as late; they may be past or to come.

        Needs the permission "loans.adjust". Raises ``Conflict`` where the loan is not active or has a pause on one of
        the days, ``Invalid`` for days before it was paid out.
        """
        return await pausing.pause(self._db, id_of(loan), starts_on, ends_on, reason=reason, key=key)

    async def resume(self, loan: LoanLike, on: date | None = None, *, key: str | None) -> DelinquencyPause:
        """End the pause of a day: that day counts again. Needs "loans.adjust". Raises ``Conflict`` without a pause."""
        return await pausing.resume(self._db, id_of(loan), on, key)

    # -- all loans -----------------------------------------------------------------------------------------------

    async def par(
        self, on: date | None = None, thresholds: Sequence[int] = THRESHOLDS, *, by: str | None = None
    ) -> PortfolioAtRisk:
        """Portfolio at risk: the whole outstanding principal of loans that are late, and its part of the portfolio.

        After the Microfinance Consensus Guidelines (CGAP and SEEP, 3rd edition, September 2003): the entire unpaid
        principal, installments to come included and interest not, of loans with anything past due for more than so many
        days; loans that were restructured are at risk however punctual they are, and shown apart. "PAR 1" is, as
        everywhere, a day or more; any other threshold is more days than it says, so that PAR 30 begins with day 31.
        Written-off loans are in neither part; charged-off ones are in both, and shown.

        ``by`` "product" makes a line for each product code, "community" one for each community by its slug, and one
        with the group None for loans outside of any. For today it is one query on ``loan``; a past date is added up
        from history.
        """
        return await portfolio_at_risk(self._db, on, thresholds, by)

    async def by_community(self, on: date | None = None) -> PortfolioAtRisk:
        """The portfolio of each community, and what of it is at risk: ``par`` with its usual thresholds."""
        return await self.par(on, by="community")

    async def delinquency(self, on: date | None = None, *, buckets: Buckets = USUAL) -> Delinquency:
        """What is overdue, sorted into buckets by the age of each installment and by the days of each loan."""
        return await delinquency(self._db, on, buckets)

    async def vintages(
        self,
        on: date | None = None,
        *,
        by: Span | str = Span.MONTH,
        measure: Measure | str = Measure.LOSS,
        since: date | None = None,
        months: int = 36,
    ) -> Vintages:
        """Curves of loss or lateness by when loans were paid out and by months on book; ``since`` skips older cohorts.

        "loss" is one query; the others ask for every month once, by the same rules as ``par``.
        """
        return await vintages(self._db, on, by, measure, since=since, months=months)

    async def cash_flow(
        self, since: date | None = None, until: date | None = None, *, by: Span | str = Span.MONTH
    ) -> ExpectedCash:
        """What active loans are still to pay between two dates, by when it is due, from today's plans.

        What was due before today is overdue and apart from it, so a ``since`` before today begins today. Charged-off
        loans are left out: nothing is expected of them.
        """
        return await cash_flow(self._db, since, until, by)

    async def provisions(self, on: date | None = None, rates: ProvisionRates = MICROFINANCE) -> Provisions:
        """What is to be set aside for losses: each bucket's principal by its rate, rounded half to even."""
        return await provisions(self._db, on, rates)

    async def worklist(
        self, on: date | None = None, *, min_days: int = 1, after: str | None = None, limit: int = 20
    ) -> Page[LateLoan]:
        """A page of late loans, most days past due first. Raises ``Invalid`` for a cursor of another day or tenant."""
        return await worklist(self._db, on, min_days, after, limit)
