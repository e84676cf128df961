"""An entry: what is to happen to a loan, before it is written, and what each kind of it does to what is owed.

It stands apart from the book because whoever changes a loan says what happens, and only the book what follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from tallystick.domains.lending.allocation import Effect
from tallystick.domains.lending.transactions import Settlement, TransactionKind
from tallystick.money import Money

K = TransactionKind
EFFECTS = {
    K.REPAYMENT: Effect.PAY,
    K.DOWN_PAYMENT: Effect.PAY,
    K.GOODWILL: Effect.PAY,
    K.BOARDING: Effect.PAY,
    K.WAIVER: Effect.WAIVE,
    K.WRITE_OFF: Effect.WRITE_OFF,
    K.REFUND: Effect.REFUND,
    K.CHARGEBACK: Effect.CHARGEBACK,
    K.DISBURSEMENT: Effect.TRANCHE,
}
SETTLEMENTS = {K.WAIVER: Settlement.WAIVED, K.WRITE_OFF: Settlement.WRITTEN_OFF}


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction to be written: everything about it but its sequence, parts and journal."""

    kind: TransactionKind
    effective: date
    amount: Money
    reverses: UUID | None = None
    concerns: UUID | None = None
    external_id: str | None = None
    reason: str | None = None
