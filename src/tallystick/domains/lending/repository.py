"""``db.loans``: everything that happens to a loan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.lending import (
    charging,
    disbursing,
    lenders,
    losses,
    origination,
    payments,
    restructuring,
    settling,
)
from tallystick.domains.lending.calendar import Frequency
from tallystick.domains.lending.checks import Exact
from tallystick.domains.lending.fundings import LenderPayout, LoanFunding
from tallystick.domains.lending.installments import LoanInstallment, LoanSchedule
from tallystick.domains.lending.loans import Loan, LoanStatus, LoanStatusChange
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.receipts import LoanLike, LoanReceipt, TransactionLike, id_of
from tallystick.domains.lending.servicing import ChargeKind, Component
from tallystick.domains.lending.settling import Payoff
from tallystick.domains.lending.transactions import (
    LoanAllocation,
    LoanCharge,
    LoanTransaction,
    TransactionKind,
)
from tallystick.fields import Ref
from tallystick.money import Money
from tallystick.repository import Repository

if TYPE_CHECKING:
    from tallystick.domains.community.communities import Community
    from tallystick.domains.identity.users import User
    from tallystick.domains.lending.boarding import Boarding

_S = LoanStatus


class Loans(Repository[Loan]):
    """The tenant's loans.

    Every command takes ``on``, the business date (default: the tenant's today), and ``key``, by which a repeated call
    is known: it is answered with what the first one did. ``key=None`` is for a command inside a larger keyed one.
    All commands on one loan wait for each other, so each sees what the one before it did. They raise ``NotFound``,
    ``Invalid`` for amounts and dates that cannot be, ``Conflict`` for what the loan's state forbids, ``KeyReused`` for
    a key that came with another request, and write all or nothing.
    """

    # -- before it is paid out -------------------------------------------------------------------------------------

    async def request(
        self,
        *,
        product: LoanProduct | Ref[LoanProduct] | UUID,
        borrower: User | Ref[User] | UUID,
        principal: Money,
        annual_rate: Exact | None = None,
        installments: int | None = None,
        first_due: date | None = None,
        community: Community | Ref[Community] | UUID | None = None,
        purpose: str | None = None,
        external_id: str | None = None,
        on: date | None = None,
        key: str | None,
    ) -> Loan:
        """Ask for a loan within a product's bounds; rate and number of installments default to the product's.

        In a community its gates are checked: membership, reputation, largest amount. Raises ``ConsentMissing`` where
        the product asks for consents, ``Denied`` at a community's gate.
        """
        made, _ = await origination.request(
            self.db,
            product=id_of(product, "product"),
            borrower=id_of(borrower, "borrower"),
            principal=principal,
            annual_rate=annual_rate,
            installments=installments,
            first_due=first_due,
            community=None if community is None else id_of(community, "community"),
            purpose=purpose,
            external_id=external_id,
            on=on,
            key=key,
        )
        return made

    async def open_funding(self, loan: LoanLike, *, on: date | None = None, key: str | None) -> Loan:
        """Let lenders fund a requested loan."""
        return await origination.move(self.db, "open_funding", id_of(loan), _S.FUNDING, reason=None, on=on, key=key)

    async def fund(
        self,
        loan: LoanLike,
        lender: User | Ref[User] | UUID,
        amount: Money,
        *,
        on: date | None = None,
        key: str | None,
    ) -> LoanFunding:
        """Take a lender's money for a loan in funding. Raises ``Conflict`` for more than is left to fund."""
        made, _ = await origination.fund(self.db, id_of(loan), id_of(lender, "lender"), amount, on=on, key=key)
        return made

    async def fundings(self, loan: LoanLike) -> list[LoanFunding]:
        """Who funds a loan."""
        return await self.db[LoanFunding].find(LoanFunding.loan == Ref(id_of(loan)))

    async def approve(
        self,
        loan: LoanLike,
        *,
        principal: Money | None = None,
        reason: str | None = None,
        on: date | None = None,
        key: str | None,
    ) -> Loan:
        """Approve a requested loan, or one that is funded whole; ``principal`` approves less than was asked for.

        Needs the permission "loans.decide", or a treasurer's role in the loan's community.
        """
        return await origination.approve(self.db, id_of(loan), principal=principal, reason=reason, on=on, key=key)

    async def reject(self, loan: LoanLike, *, reason: str, on: date | None = None, key: str | None) -> Loan:
        """Decline a requested loan. Needs what ``approve`` needs."""
        await origination.may_decide(self.db, await self.get(id_of(loan)))
        return await origination.move(self.db, "reject", id_of(loan), _S.REJECTED, reason=reason, on=on, key=key)

    async def withdraw(
        self, loan: LoanLike, *, reason: str | None = None, on: date | None = None, key: str | None
    ) -> Loan:
        """The borrower no longer wants it; lenders get their money back."""
        return await origination.move(self.db, "withdraw", id_of(loan), _S.WITHDRAWN, reason=reason, on=on, key=key)

    async def expire(self, loan: LoanLike, *, on: date | None = None, key: str | None) -> Loan:
        """Lenders did not fund it in time; they get their money back."""
        return await origination.move(self.db, "expire", id_of(loan), _S.EXPIRED, reason=None, on=on, key=key)

    async def cancel(self, loan: LoanLike, *, reason: str, on: date | None = None, key: str | None) -> Loan:
        """An approved loan is not paid out after all; lenders get their money back."""
        return await origination.move(self.db, "cancel", id_of(loan), _S.CANCELLED, reason=reason, on=on, key=key)

    # -- paying out ------------------------------------------------------------------------------------------------

    async def disburse(
        self,
        loan: LoanLike,
        amount: Money | None = None,
        *,
        on: date | None = None,
        key: str | None,
        external_id: str | None = None,
    ) -> LoanReceipt:
        """Pay out all that was approved, or a tranche; the loan is active and has its schedule from then on.

        A later tranche makes the next version of the schedule. Upfront fees of the product are kept back.
        """
        return await disbursing.disburse(self.db, id_of(loan), amount, on=on, key=key, external_id=external_id)

    async def begin_disbursement(
        self, loan: LoanLike, amount: Money | None = None, *, on: date | None = None, key: str | None
    ) -> Loan:
        """Reserve the payout while an external rail carries it; nothing is owed until it is confirmed."""
        return await disbursing.begin(self.db, id_of(loan), amount, on=on, key=key)

    async def confirm_disbursement(
        self, loan: LoanLike, *, on: date | None = None, key: str | None, external_id: str | None = None
    ) -> LoanReceipt:
        """The rail paid out: the loan is active from that date on."""
        return await disbursing.confirm(self.db, id_of(loan), on=on, key=key, external_id=external_id)

    async def fail_disbursement(
        self, loan: LoanLike, *, reason: str | None = None, on: date | None = None, key: str | None
    ) -> Loan:
        """The rail did not pay out: the loan is approved as before."""
        return await disbursing.fail(self.db, id_of(loan), reason=reason, on=on, key=key)

    # -- payments --------------------------------------------------------------------------------------------------

    async def repay(
        self,
        loan: LoanLike,
        amount: Money,
        *,
        on: date | None = None,
        key: str | None,
        external_id: str | None = None,
    ) -> LoanReceipt:
        """Take a payment: partial, whole, early, late, or dated back; more than is owed is kept for the borrower.

        It goes to the installments by the product's order. Dated before other payments, those move up. Raises
        ``Duplicate`` for an ``external_id`` that was taken before.
        """
        return await payments.pay(self.db, id_of(loan), amount, on=on, key=key, external_id=external_id)

    async def pay_off(self, loan: LoanLike, *, on: date | None = None, key: str | None) -> LoanReceipt:
        """Take exactly what settles the loan on a day: interest that is not earned by then is waived."""
        return await settling.pay_off(self.db, id_of(loan), on=on, key=key)

    async def payoff(self, loan: LoanLike, *, on: date | None = None) -> Payoff:
        """What would settle the loan on a day, by component."""
        return await settling.payoff(self.db, id_of(loan), on=on)

    async def goodwill(
        self, loan: LoanLike, amount: Money, *, on: date | None = None, key: str | None, reason: str | None = None
    ) -> LoanReceipt:
        """Pay for the borrower, at the lender's expense. Needs the permission "loans.adjust"."""
        await self.db.require("loans.adjust")
        return await payments.pay(
            self.db, id_of(loan), amount, kind=TransactionKind.GOODWILL, on=on, key=key, reason=reason
        )

    async def waive(
        self,
        loan: LoanLike,
        amount: Money,
        components: Iterable[Component],
        *,
        on: date | None = None,
        key: str | None,
        reason: str | None = None,
    ) -> LoanReceipt:
        """No longer ask for interest, fees or penalties. Needs the permission "loans.adjust"."""
        await self.db.require("loans.adjust")
        return await payments.waive(self.db, id_of(loan), amount, components, on=on, key=key, reason=reason)

    async def refund(
        self, loan: LoanLike, amount: Money | None = None, *, on: date | None = None, key: str | None
    ) -> LoanReceipt:
        """Give back what was paid too much, all of it unless an amount is named."""
        return await payments.refund(self.db, id_of(loan), amount, on=on, key=key)

    async def chargeback(
        self,
        payment: TransactionLike,
        amount: Money | None = None,
        *,
        on: date | None = None,
        key: str | None,
        reason: str | None = None,
    ) -> LoanReceipt:
        """The payer's bank took a payment back: what was paid too much covers it first, the rest is owed again."""
        return await payments.chargeback(self.db, id_of(payment, "payment"), amount, on=on, key=key, reason=reason)

    async def reverse(
        self, transaction: TransactionLike, *, on: date | None = None, key: str | None, reason: str | None = None
    ) -> LoanReceipt:
        """Take a payment, waiver, refund, charge-off or recovery back, once: the loan stands as if it had not been.

        Later payments move up; what that changes is written beside them. Raises ``Conflict`` when it was reversed
        before, was charged back, or the loan is written off; ``Unsupported`` for other kinds.
        """
        return await payments.reverse(self.db, id_of(transaction, "transaction"), on=on, key=key, reason=reason)

    # -- charges ---------------------------------------------------------------------------------------------------

    async def charge(
        self,
        loan: LoanLike,
        kind: ChargeKind,
        amount: Money,
        *,
        code: str,
        due: date | None = None,
        on: date | None = None,
        key: str | None,
    ) -> LoanCharge:
        """Add a fee or penalty; it falls due on ``due`` (default: ``on``) with the installment whose period holds that.

        Payments see it from ``on`` on, or from ``due`` where that is earlier: later ones move up, as after a payment
        that is dated back. What was paid too much covers it. A closed loan is open again.
        """
        return await charging.charge(self.db, id_of(loan), kind, amount, code=code, due=due, on=on, key=key)

    async def charge_late_fees(self, loan: LoanLike, *, on: date | None = None, key: str | None) -> list[LoanCharge]:
        """Charge the product's late fee for each installment that is late enough, once for each."""
        return await charging.charge_late_fees(self.db, id_of(loan), on=on, key=key)

    # -- losses ----------------------------------------------------------------------------------------------------

    async def charge_off(
        self,
        loan: LoanLike,
        *,
        on: date | None = None,
        key: str | None,
        fraud: bool = False,
        reason: str | None = None,
    ) -> LoanReceipt:
        """Take the principal out of the books as a loss; the loan stays active and owed. Needs "loans.adjust"."""
        await self.db.require("loans.adjust")
        return await losses.charge_off(self.db, id_of(loan), on=on, key=key, fraud=fraud, reason=reason)

    async def write_off(
        self, loan: LoanLike, *, on: date | None = None, key: str | None, reason: str | None = None
    ) -> LoanReceipt:
        """Ask for nothing more; afterwards only ``recover`` takes money. Needs the permission "loans.adjust"."""
        await self.db.require("loans.adjust")
        return await losses.write_off(self.db, id_of(loan), on=on, key=key, reason=reason)

    async def recover(
        self,
        loan: LoanLike,
        amount: Money,
        *,
        on: date | None = None,
        key: str | None,
        external_id: str | None = None,
    ) -> LoanReceipt:
        """Take money that came in after a write-off."""
        return await losses.recover(self.db, id_of(loan), amount, on=on, key=key, external_id=external_id)

    async def distribute(self, loan: LoanLike, *, on: date | None = None, key: str | None) -> list[LenderPayout]:
        """Pay the lenders of a loan their part of what came in since the last time; recoveries too.

        Where a payment that was distributed is taken back, nobody is paid until as much came in again. Raises
        ``Conflict`` for a loan that nobody funded.
        """
        return await lenders.distribute(self.db, id_of(loan), on=on, key=key)

    async def payouts(self, loan: LoanLike) -> list[LenderPayout]:
        """What the lenders of a loan were paid."""
        return await self.db[LenderPayout].find(LenderPayout.loan == Ref(id_of(loan)))

    # -- new schedules ---------------------------------------------------------------------------------------------

    async def reschedule(
        self,
        loan: LoanLike,
        *,
        since: date | None = None,
        first_due: date | None = None,
        installments: int | None = None,
        annual_rate: Exact | None = None,
        on: date | None = None,
        key: str | None,
        reason: str | None = None,
    ) -> LoanReceipt:
        """Plan anew what is not repaid from the installment due on ``since`` on (default: the first unsettled).

        Dates, number and rate are what is given, else as before. Needs the permission "loans.adjust".
        """
        await self.db.require("loans.adjust")
        return await restructuring.reschedule(
            self.db,
            id_of(loan),
            since=since,
            first_due=first_due,
            installments=installments,
            annual_rate=annual_rate,
            on=on,
            key=key,
            reason=reason,
        )

    async def reamortize(
        self, loan: LoanLike, *, on: date | None = None, key: str | None, reason: str | None = None
    ) -> LoanReceipt:
        """Spread the principal that is past due over the installments to come. Needs "loans.adjust"."""
        await self.db.require("loans.adjust")
        return await restructuring.reamortize(self.db, id_of(loan), on=on, key=key, reason=reason)

    async def reage(
        self,
        loan: LoanLike,
        *,
        first_due: date,
        installments: int,
        frequency: Frequency | None = None,
        every: int | None = None,
        on: date | None = None,
        key: str | None,
        reason: str | None = None,
    ) -> LoanReceipt:
        """Ask for all outstanding principal in new installments from ``first_due`` on. Needs "loans.adjust"."""
        await self.db.require("loans.adjust")
        return await restructuring.reage(
            self.db,
            id_of(loan),
            first_due=first_due,
            installments=installments,
            frequency=frequency,
            every=every,
            on=on,
            key=key,
            reason=reason,
        )

    # -- boarding --------------------------------------------------------------------------------------------------

    async def board(self, boarding: Boarding, *, key: str | None) -> Loan:
        """Take in a loan that lives elsewhere at its present state, with its opening balances as a journal."""
        from tallystick.domains.lending.boarding import board

        return await board(self.db, boarding, key=key)

    async def board_many(self, boardings: Sequence[Boarding], *, key: str | None) -> list[Loan]:
        """Take in many loans in few statements, all or none."""
        from tallystick.domains.lending.boarding import board_many

        return await board_many(self.db, boardings, key=key)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def by_number(self, number: int) -> Loan:
        """The loan with a number of the tenant's. Raises ``NotFound``."""
        return await self.one(Loan.number == number)

    async def schedule(self, loan: LoanLike, edition: int | None = None) -> list[LoanInstallment]:
        """The installments of a loan by due date: of the current version, or of the one that is named."""
        ref = Ref[Loan](id_of(loan))
        if edition is None:
            current = LoanInstallment.current == True  # noqa: E712  a condition
            return await self.db[LoanInstallment].find(LoanInstallment.loan == ref, current, order=LoanInstallment.seq)
        plan = await self.db[LoanSchedule].one(LoanSchedule.loan == ref, LoanSchedule.edition == edition)
        return await self.db[LoanInstallment].find(LoanInstallment.schedule == plan.ref, order=LoanInstallment.seq)

    async def transactions(self, loan: LoanLike) -> list[LoanTransaction]:
        """Everything that happened to a loan's money, in the order in which it was recorded."""
        where = LoanTransaction.loan == Ref(id_of(loan))
        return await self.db[LoanTransaction].find(where, order=LoanTransaction.seq)

    async def allocations(self, transaction: TransactionLike) -> list[LoanAllocation]:
        """Every row of where a transaction's money went; sum those of the current version to know where it is."""
        return await self.db[LoanAllocation].find(LoanAllocation.transaction == Ref(id_of(transaction)))

    async def steps(self, loan: LoanLike) -> list[LoanStatusChange]:
        """The steps of a loan's life, oldest first."""
        where = LoanStatusChange.loan == Ref(id_of(loan))
        return await self.db[LoanStatusChange].find(where, order=LoanStatusChange.step)
