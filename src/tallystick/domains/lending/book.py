"""The book of one loan, open under its lock: what may be done to it, and how a change is written down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.lending.allocation import Effect, Outcome, fold, merged
from tallystick.domains.lending.books import Book, Own, book_id, own_id, post
from tallystick.domains.lending.entry import EFFECTS, SETTLEMENTS, Entry
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import SERVICED, Loan, LoanStatus
from tallystick.domains.lending.past import LoanPast
from tallystick.domains.lending.products import policies
from tallystick.domains.lending.servicing import ChargeKind, Component, Overpayment
from tallystick.domains.lending.transactions import (
    LoanAllocation,
    LoanCharge,
    LoanTransaction,
    Settlement,
    TransactionKind,
)
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Ref
from tallystick.ids import uuid7
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session

K = TransactionKind
_INCOME = {
    Component.INTEREST: Book.INTEREST_INCOME,
    Component.FEE: Book.FEE_INCOME,
    Component.PENALTY: Book.PENALTY_INCOME,
}


class LoanBook(LoanPast):
    """A locked loan with its current plan and its transactions. Made by ``opened``."""

    # -- what is allowed -------------------------------------------------------------------------------------------

    def check_amount(self, amount: Money) -> None:
        """Raise ``Invalid`` for an amount that is not money of the loan's asset above zero."""
        if amount.__class__ is not Money or amount.asset != self.asset or amount.units <= 0:
            raise Invalid(
                f"The amount should be Money in {self.asset} above zero.",
                field="amount",
                remedy=f'Write money("12.50", "{self.asset}"); floats and other assets are refused.',
            )

    def check_date(self, on: date) -> None:
        """Raise ``Invalid`` for a date before the loan was paid out."""
        if on.__class__ is not date:
            raise Invalid("A business date is a date without a time.", field="on", remedy="Pass a datetime.date.")
        if self.loan.disbursed_on is None or on < self.loan.disbursed_on:
            raise Invalid(
                "The date is before the loan was paid out.",
                field="on",
                remedy="Give the business date on which the money moved.",
            )
        if any(t.kind is K.BOARDING and on < t.effective for t in self.transactions):
            raise Invalid(
                "The date is before what the loan was taken over with.",
                field="on",
                remedy="What happened before is in its opening balances.",
            )

    def check_status(self, *allowed: LoanStatus) -> None:
        """Raise ``Conflict`` unless the loan is in one of these statuses."""
        if self.loan.status not in allowed:
            hint = {
                LoanStatus.WRITTEN_OFF: "After a write-off only loans.recover() takes money.",
                LoanStatus.CLOSED: "A closed loan is opened again by a chargeback or by reversing a payment.",
            }
            raise Conflict(
                f"The loan is {self.loan.status.value}.",
                entity="Loan",
                remedy=hint.get(self.loan.status, f"It would have to be {' or '.join(s.value for s in allowed)}."),
            )

    def check_on_books(self) -> None:
        """Raise ``Conflict`` for a loan that is charged off."""
        if self.loan.charged_off_on is not None:
            raise Conflict("The loan is charged off.", entity="Loan", remedy="Reverse the charge-off first.")

    # -- writing ---------------------------------------------------------------------------------------------------

    async def happen(
        self, entry: Entry, *, waives: tuple[Component, ...] = (), contra: Book | None, id: UUID | None = None
    ) -> LoanTransaction:
        """Let something happen: allocate it, move what it moves of earlier allocations, post the journal, write it.

        ``contra`` is the account on the other side of the money, None where none moves. Raises ``Conflict`` when a
        later refund or waiver would lose its ground, and what the ledger raises.
        """
        id, seq = id or uuid7(), self.next_seq
        event = self.event(id, seq, entry, waives=waives)
        slots = await self.present(entry.effective)
        if slots is not None:
            changes = fold(slots, [event], self.waterfall, self.loan.overpaid.units)
        else:
            changes = await self.again(add=event)
        self._refuse_too_much(entry, changes)
        net = self.money(changes, {id: entry.kind})
        if contra is not None:
            # A refund goes out where a payment comes in.
            out = entry.kind is K.REFUND
            net[book_id(self.db, contra, self.asset)] = -entry.amount.units if out else entry.amount.units
        return await self.write(id, seq, entry, changes, net)

    def _refuse_too_much(self, entry: Entry, changes: dict[UUID, Outcome]) -> None:
        refuses = self.product.servicing.overpayment is Overpayment.REFUSE
        # Dated back, it may be a later payment that becomes too much.
        if refuses and EFFECTS[entry.kind] is Effect.PAY and sum(o.overpaid for o in changes.values()) > 0:
            raise Invalid(
                "The payment is more than is owed, and the product takes no overpayment.",
                field="amount",
                remedy="Pay what loans.payoff() answers.",
            )

    def money(self, changes: dict[UUID, Outcome], new: dict[UUID, TransactionKind] | None = None) -> dict[UUID, int]:
        """What changed allocations mean for the books: accounts with what they are debited, or credited below zero.

        Only money moves: what is waived or written off by them is not in it. After a charge-off principal that comes
        in is a recovery, because the books hold no receivable any more.
        """
        kinds = {t.id: t.kind for t in self.transactions} | (new or {})
        paid = merged(o for id, o in changes.items() if kinds.get(id) not in SETTLEMENTS)
        db, lost = self.db, self.loan.charged_off_on is not None
        principal = book_id(db, Book.RECOVERY_INCOME, self.asset) if lost else own_id(self.loan.id, Own.PRINCIPAL)
        net = {principal: -paid.total(Component.PRINCIPAL)}
        for component, book in _INCOME.items():
            net[book_id(db, book, self.asset)] = -paid.total(component)
        net[own_id(self.loan.id, Own.OVERPAID)] = -paid.overpaid
        return net

    async def write(
        self,
        id: UUID,
        seq: int,
        entry: Entry,
        changes: dict[UUID, Outcome],
        net: dict[UUID, int],
        *,
        parts: Outcome | None = None,
        charged: tuple[LoanInstallment, str] | None = None,
    ) -> LoanTransaction:
        """Write a transaction, its journal and the allocations it brings about; the database does the totals.

        ``parts`` are the transaction's where it allocates nothing; ``charged`` is the installment that its amount is
        added to, with the code of the charge.
        """
        db, own = self.db, changes.get(id, Outcome()) if parts is None else parts
        journal = await post(db, net, self.asset, op=f"loan.{entry.kind.value}", on=entry.effective, loan=self.loan.id)
        made = await db[LoanTransaction].add(
            LoanTransaction(
                id=id,
                loan=self.loan.ref,
                seq=seq,
                kind=entry.kind,
                effective=entry.effective,
                amount=entry.amount,
                principal=self.of(own.total(Component.PRINCIPAL)),
                interest=self.of(own.total(Component.INTEREST)),
                fees=self.of(own.total(Component.FEE)),
                penalties=self.of(own.total(Component.PENALTY)),
                overpaid=self.of(abs(own.overpaid)),
                reverses=None if entry.reverses is None else Ref(entry.reverses),
                concerns=None if entry.concerns is None else Ref(entry.concerns),
                journal=None if journal is None else Ref(journal),
                external_id=entry.external_id,
                reason=entry.reason,
            )
        )
        self.transactions.append(made)
        if charged is not None:
            await db[LoanCharge].add(
                LoanCharge(
                    loan=self.loan.ref,
                    installment=charged[0].ref,
                    kind=ChargeKind.CHARGEBACK,
                    code=charged[1],
                    due=entry.effective,
                    effective=entry.effective,
                    after=made.seq,
                    amount=entry.amount,
                    source=made.ref,
                )
            )
        await self.allocate(made, changes)
        return made

    async def allocate(self, cause: LoanTransaction | None, changes: dict[UUID, Outcome]) -> None:
        """Write the rows of changed allocations; without a cause that is a transaction each is its own."""
        known = {t.id: t for t in self.transactions}
        rows = [row for id, outcome in changes.items() for row in self._rows(known[id], cause or known[id], outcome)]
        if rows:
            await self.db[LoanAllocation].add_many(rows)

    def _rows(self, t: LoanTransaction, cause: LoanTransaction, outcome: Outcome) -> Iterable[LoanAllocation]:
        places: list[tuple[UUID | None, Sequence[int], int]] = [
            (self.installments[place].id, amounts, 0)
            for place, amounts in sorted(outcome.parts.items())
            if any(amounts)
        ]
        if outcome.overpaid:
            places.append((None, (0, 0, 0, 0), outcome.overpaid))
        for installment, (penalties, fees, interest, principal), overpaid in places:
            yield LoanAllocation(
                loan=self.loan.ref,
                schedule=Ref(self.schedule),
                transaction=t.ref,
                cause=cause.ref,
                effective=t.effective,
                installment=None if installment is None else Ref(installment),
                settlement=SETTLEMENTS.get(t.kind, Settlement.PAID),
                principal=self.of(principal),
                interest=self.of(interest),
                fees=self.of(fees),
                penalties=self.of(penalties),
                overpaid=self.of(overpaid),
            )

    def of(self, units: int) -> Money:
        """Minor units as the loan's money."""
        return Money(units, self.asset)


async def opened(db: Session, loan: UUID, *, serviced: bool = True) -> LoanBook:
    """Lock a loan and read its book. Needs a transaction; with ``serviced`` the loan must have been paid out.

    Raises ``NotFound``, and ``Conflict`` for a loan that was not paid out or is written off.
    """
    locked = await db[Loan].lock(loan)
    product = await policies(db, locked.product.id)
    installments = await db[LoanInstallment].find(
        LoanInstallment.loan == locked.ref,
        LoanInstallment.current == True,  # noqa: E712  a condition
    )
    transactions = await db[LoanTransaction].find(LoanTransaction.loan == locked.ref, order=LoanTransaction.seq)
    book = LoanBook(db, locked, product, installments, transactions)
    if serviced:
        book.check_status(*SERVICED)
    return book
