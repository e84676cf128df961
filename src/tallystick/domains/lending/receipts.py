"""What a command on a loan answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.transactions import LoanTransaction
from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.session import Session

LoanLike = Loan | Ref[Loan] | UUID


class LoanReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction as it was recorded, and the loan as it is now.

    ``replayed`` says that an earlier call with the same key had done it. Later corrections may move the parts of a
    payment: ``loans.allocations(transaction)`` tells where its money is now.
    """

    transaction: LoanTransaction
    loan: Loan
    replayed: bool = False

    @property
    def id(self) -> UUID:
        """The transaction's id."""
        return self.transaction.id


TransactionLike = LoanTransaction | LoanReceipt | Ref[LoanTransaction] | UUID


async def receipt(db: Session, transaction: UUID, *, replayed: bool = False) -> LoanReceipt:
    """The receipt of a stored transaction. Raises ``NotFound``."""
    found = await db[LoanTransaction].get(transaction)
    return LoanReceipt(transaction=found, loan=await db[Loan].get(found.loan.id), replayed=replayed)


async def written(db: Session, transaction: LoanTransaction) -> LoanReceipt:
    """The receipt of a transaction that was written a moment ago, with the loan as that left it."""
    return LoanReceipt(transaction=transaction, loan=await db[Loan].get(transaction.loan.id))


def id_of(given: Entity | Ref[Any] | LoanReceipt | UUID, what: str = "loan") -> UUID:
    """The id of something that is named by itself, its receipt, its ref or its id. Raises ``Invalid``."""
    if isinstance(given, UUID):
        return given
    if isinstance(given, (Entity, Ref, LoanReceipt)):
        return given.id
    raise Invalid(f"A {what} is named by itself, its ref or its id.", field=what)
