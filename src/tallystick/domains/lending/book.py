"""The book of one loan, open under its lock: what it owes, what happened, and how a change is written down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.lending.allocation import (
    COMPONENTS,
    Effect,
    Event,
    Outcome,
    Slot,
    Waterfall,
    fold,
    merged,
    stand,
)
from tallystick.domains.lending.books import Book, Own, book_id, own_id, post
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import SERVICED, Loan, LoanStatus
from tallystick.domains.lending.products import LoanProduct, policies
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
_CHARGED = {
    ChargeKind.PENALTY: COMPONENTS.index(Component.PENALTY),
    ChargeKind.FEE: COMPONENTS.index(Component.FEE),
    ChargeKind.CHARGEBACK: COMPONENTS.index(Component.PRINCIPAL),
}
_INCOME = {
    Component.INTEREST: Book.INTEREST_INCOME,
    Component.FEE: Book.FEE_INCOME,
    Component.PENALTY: Book.PENALTY_INCOME,
}


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


class LoanBook:
    """A locked loan with its current plan and its transactions. Made by ``opened``."""

    def __init__(
        self,
        db: Session,
        loan: Loan,
        product: LoanProduct,
        installments: Sequence[LoanInstallment],
        transactions: Sequence[LoanTransaction],
    ) -> None:
        self.db, self.loan, self.product = db, loan, product
        self.installments = sorted(installments, key=lambda i: (i.due, i.seq))
        self.transactions = list(transactions)
        self.waterfall = Waterfall.of(product.servicing)

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    def asset(self) -> str:
        """The loan's asset."""
        return self.loan.asset

    @property
    def schedule(self) -> UUID:
        """The id of the current version of the schedule."""
        return self.installments[0].schedule.id

    @cached_property
    def reversed(self) -> frozenset[UUID]:
        """The transactions that were taken back."""
        return frozenset(t.reverses.id for t in self.transactions if t.reverses is not None)

    @property
    def standing(self) -> list[LoanTransaction]:
        """The transactions that were not taken back, reversals left out."""
        return [t for t in self.transactions if t.kind is not K.REVERSAL and t.id not in self.reversed]

    @property
    def next_seq(self) -> int:
        """The number of the loan's next transaction."""
        return max((t.seq for t in self.transactions), default=0) + 1

    def last_on(self) -> date | None:
        """The last business date on which something was allocated."""
        return max((t.effective for t in self.standing if t.kind in EFFECTS), default=None)

    def slots(self) -> list[Slot]:
        """What is left of each installment."""
        return [Slot(i.due, left(i)) for i in self.installments]

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

    # -- events ----------------------------------------------------------------------------------------------------

    def event(
        self, id: UUID, seq: int, entry: Entry, *, waives: tuple[Component, ...] = (), place: int | None = None
    ) -> Event:
        """A transaction as the fold sees it."""
        servicing = self.product.servicing
        future = servicing.future_allocation
        if entry.kind is K.GOODWILL and servicing.goodwill_allocation is not None:
            future = servicing.goodwill_allocation
        return Event(
            id=id,
            effective=entry.effective,
            seq=seq,
            effect=EFFECTS[entry.kind],
            amount=entry.amount.units,
            future=future,
            waives=waives,
            place=place,
        )

    async def charges(self) -> list[tuple[int, LoanCharge]]:
        """What was charged on the installments of the current version, each with its place."""
        at = {i.id: n for n, i in enumerate(self.installments)}
        found = await self.db[LoanCharge].find(LoanCharge.loan == self.loan.ref)
        return [(at[c.installment.id], c) for c in found if c.installment.id in at]

    async def present(self, on: date) -> list[Slot] | None:
        """What is left of each installment, for something of a day; None when something counts from a later day."""
        if (last := self.last_on()) is not None and on < last:
            return None
        slots = self.slots()
        if any(i.fees or i.penalties for i in self.installments):
            for place, charge in await self.charges():
                if charge.effective > on:
                    return None
                if self.waterfall.asks_due and charge.source is None:
                    slots[place].charges.append((charge.due, _CHARGED[charge.kind], charge.amount.units))
        return slots

    async def history(self) -> tuple[list[Slot], list[Event]]:
        """The plan as if nothing had been settled or charged, and everything that settled or charged it."""
        slots = [
            Slot(i.due, [i.penalties.units, i.fees.units, i.interest.units, i.principal.units])
            for i in self.installments
        ]
        events: list[Event] = []
        places: dict[UUID, int] = {}
        for place, charge in await self.charges():
            slots[place].left[_CHARGED[charge.kind]] -= charge.amount.units
            if charge.source is None:
                events.append(self.asked(charge, place))
            else:
                places[charge.source.id] = place
        for t in self.standing:
            if t.kind in EFFECTS:
                entry = Entry(t.kind, t.effective, t.amount)
                parts = {Component.PENALTY: t.penalties, Component.FEE: t.fees, Component.INTEREST: t.interest}
                waives = tuple(c for c in COMPONENTS if t.kind is K.WAIVER and c in parts and parts[c])
                events.append(self.event(t.id, t.seq, entry, waives=waives, place=places.get(t.id)))
        return slots, events

    def asked(self, charge: LoanCharge, place: int) -> Event:
        """A charge as the fold sees it."""
        return Event(
            id=charge.id,
            effective=charge.effective,
            seq=charge.after,
            effect=Effect.CHARGE,
            amount=charge.amount.units,
            place=place,
            component=_CHARGED[charge.kind],
            due=charge.due if self.waterfall.asks_due else None,
        )

    async def recorded(self) -> dict[UUID, Outcome]:
        """Where the money of each transaction is now, by the current version of the schedule."""
        found: dict[UUID, Outcome] = {}
        at = {i.id: n for n, i in enumerate(self.installments)}
        rows = self.db[LoanAllocation].stream(
            LoanAllocation.loan == self.loan.ref, LoanAllocation.schedule == Ref(self.schedule)
        )
        async for row in rows:
            outcome = found.setdefault(row.transaction.id, Outcome())
            outcome.overpaid += row.overpaid.units
            if row.installment is not None:
                amounts = (row.penalties, row.fees, row.interest, row.principal)
                for component, amount in enumerate(amounts):
                    if amount:
                        outcome.add(at[row.installment.id], component, amount.units)
        return found

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

    async def again(self, *, add: Event | None = None, without: UUID | None = None) -> dict[UUID, Outcome]:
        """What changes for every transaction when one is added to the past or taken out of it.

        What was recorded before the current version of the schedule was made stays where that put it; all else is
        folded from there, what is dated before it first. Only where something from before a tranche is taken out all
        history is on the version that holds now, since the tranche has used what was paid too much.
        """
        slots, events = await self.history()
        before = await self.recorded()
        if add is not None:
            events.append(add)
        overpaid = 0
        held: dict[UUID, int] = {}
        version = self._version()
        standing = [] if version is None else [e for e in events if _was_known(e, version)]
        known = {e.id for e in standing}
        if version is not None and not (version.kind is K.DISBURSEMENT and without in known):
            stood = sorted((e for e in standing if e.id != without), key=lambda e: e.key)
            held, drawn = stand(slots, stood, {e.id: before[e.id] for e in stood if e.id in before})
            overpaid = sum(held.values())
            if overpaid < 0:
                raise Conflict(
                    "What was paid too much was used since then.",
                    entity="Loan",
                    remedy="Reverse the refund, or take the payment back with loans.chargeback().",
                )
            before = {id: o for id, o in before.items() if id not in held} | drawn
            events = [e for e in events if e.id not in known]
        after = fold(slots, [e for e in events if e.id != without], self.waterfall, overpaid, held)
        nothing = Outcome()
        found = {id: after.get(id, nothing).minus(before.get(id, nothing)) for id in after.keys() | before.keys()}
        return {id: o for id, o in found.items() if o or (add is not None and id == add.id)}

    def _version(self) -> LoanTransaction | None:
        """The transaction that made the current version of the schedule; None for the first version.

        What had been paid before a loan was taken over is settled like what came before a version.
        """
        made = [t for t in self.standing if t.kind in (K.RESTRUCTURE, K.DISBURSEMENT, K.BOARDING)][1:]
        return made[-1] if made else None

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


def _was_known(event: Event, version: LoanTransaction) -> bool:
    """Whether something had been recorded when a version of the schedule was made, and was not dated after it."""
    # A charge with the version's number was made after it.
    recorded = (event.seq, event.effect is Effect.CHARGE) <= (version.seq, False)
    return recorded and event.key <= (version.effective, version.seq, True)


def left(i: LoanInstallment) -> list[int]:
    """What is left of an installment, by component."""
    return [
        i.penalties.units - i.penalties_paid.units - i.penalties_waived.units - i.penalties_written_off.units,
        i.fees.units - i.fees_paid.units - i.fees_waived.units - i.fees_written_off.units,
        i.interest.units - i.interest_paid.units - i.interest_waived.units - i.interest_written_off.units,
        i.principal.units - i.principal_paid.units - i.principal_written_off.units,
    ]


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
