"""Transactions of a loan, where their money went, and charges. Written once; corrected by a reversal."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from tallystick.domains.ledger.journals import Journal
from tallystick.domains.lending.installments import LoanInstallment, LoanSchedule
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.servicing import ChargeKind
from tallystick.entity import Entity
from tallystick.fields import Length, Ref
from tallystick.money import Money
from tallystick.rules import Check, Guard, Index, Readable, Rules, Unique, append_only


class TransactionKind(StrEnum):
    """What happened to a loan."""

    DISBURSEMENT = "disbursement"
    REPAYMENT = "repayment"
    DOWN_PAYMENT = "down_payment"
    GOODWILL = "goodwill"
    """A payment that the lender makes for the borrower."""
    WAIVER = "waiver"
    """Interest, fees or penalties that are no longer asked for."""
    REFUND = "refund"
    """Money given back of what was paid too much."""
    CHARGEBACK = "chargeback"
    """A payment that the payer's bank took back; its amount is owed again."""
    CHARGE_OFF = "charge_off"
    """The loan is a loss in the books; the borrower still owes it."""
    WRITE_OFF = "write_off"
    """The borrower is asked for nothing more."""
    RECOVERY = "recovery"
    """Money that came in after a write-off."""
    REVERSAL = "reversal"
    BOARDING = "boarding"
    """What had been paid before the loan was taken over."""
    RESTRUCTURE = "restructure"
    """A new schedule: rescheduled, re-aged or re-amortized."""


class Settlement(StrEnum):
    """How a part of an installment was settled."""

    PAID = "paid"
    WAIVED = "waived"
    WRITTEN_OFF = "written_off"


class LoanTransaction(Entity):
    """One thing that happened to a loan: kind, business date, amount, and its parts when it was recorded.

    Later corrections of earlier payments may move its parts: what holds now is the sum of its allocations. ``seq``
    counts a loan's transactions in the order in which they were recorded. ``external_id`` is what a payment provider
    calls it; a tenant never takes one twice. ``concerns`` is the payment that a chargeback took back.
    """

    loan: Ref[Loan]
    seq: int
    kind: TransactionKind
    effective: date
    amount: Money
    principal: Money
    interest: Money
    fees: Money
    penalties: Money
    overpaid: Money
    reverses: Ref[LoanTransaction] | None = None
    concerns: Ref[LoanTransaction] | None = None
    journal: Ref[Journal] | None = None
    external_id: Annotated[str, Length(120, min=1)] | None = None
    reason: Annotated[str, Length(300)] | None = None

    rules = Rules(
        Unique("loan", "seq"),
        Unique("reverses"),
        Unique("journal"),
        Unique("external_id"),
        Index("loan", "effective", "seq", query="a loan's transactions by business date"),
        Index("effective", query="transactions of a period"),
        Check("seq", "seq >= 1"),
        Check("amount", "amount > 0"),
        Index("concerns", query="the chargebacks of a payment", where="concerns_id is not null"),
        Check("concerns", "(kind = 'chargeback') = (concerns_id is not null)"),
        Check("reverses", "(kind = 'reversal') = (reverses_id is not null)"),
        Check(
            "parts",
            "kind in ('recovery', 'reversal', 'restructure', 'chargeback') or "
            "principal + interest + fees + penalties + overpaid = amount",
        ),
        Guard(
            "tally_paid_out",
            "AFTER INSERT",
            "tally.loan_paid_out('loan_transaction')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        append_only(),
        retain="lending",
        readable={"external_id": Readable.CODE, "reason": Readable.NOTE},
    )


class LoanAllocation(Entity):
    """Where a part of a transaction went: to an installment, or, without one, to what is owed to the borrower.

    Amounts are what this row adds; a correction adds rows with the opposite sign. ``cause`` is the transaction that
    brought the row about: the transaction itself, or the later one that moved it. ``effective`` is the business date
    of ``transaction``. Every version of the schedule has rows of its own.
    """

    loan: Ref[Loan]
    schedule: Ref[LoanSchedule]
    transaction: Ref[LoanTransaction]
    cause: Ref[LoanTransaction]
    effective: date
    installment: Ref[LoanInstallment] | None = None
    settlement: Settlement = Settlement.PAID
    principal: Money
    interest: Money
    fees: Money
    penalties: Money
    overpaid: Money

    rules = Rules(
        Index("transaction", query="where a transaction's money went"),
        Index("loan", "effective", query="what a loan had paid by a date"),
        Index("installment", query="when an installment was settled", where="installment_id is not null"),
        Index("loan", "schedule", query="what is owed to a borrower", where="overpaid <> 0"),
        Check("overpaid", "(installment_id is null) = (overpaid <> 0)"),
        Check("one_place", "overpaid = 0 or (principal = 0 and interest = 0 and fees = 0 and penalties = 0)"),
        Check("waived", "settlement <> 'waived' or principal = 0"),
        Guard(
            "tally_allocate",
            "AFTER INSERT",
            "tally.loan_allocate('loan_allocation')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        append_only(),
        retain="lending",
    )


class LoanCharge(Entity):
    """Something added to what an installment owes: a fee, a penalty, or the amount of a chargeback.

    A late fee is charged once for each installment; ``code`` says which rule of the product it came from. Payments see
    it from ``effective`` on: the business date on which it was charged, or ``due`` where that was earlier; ``after`` is
    the number of the loan's last transaction at that time, which orders what happened on one date.
    """

    loan: Ref[Loan]
    installment: Ref[LoanInstallment]
    kind: ChargeKind
    code: Annotated[str, Length(40, min=1)]
    due: date
    effective: date
    after: int
    amount: Money
    source: Ref[LoanTransaction] | None = None

    rules = Rules(
        Index("loan", "due", query="the charges of a loan"),
        Unique("installment", "code", where="code = 'late'"),
        Check("amount", "amount > 0"),
        Check("effective", "effective <= due and after >= 1"),
        Guard(
            "tally_charge",
            "AFTER INSERT",
            "tally.loan_charge('loan_charge')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        append_only(),
        retain="lending",
        readable={"code": Readable.CODE},
    )
