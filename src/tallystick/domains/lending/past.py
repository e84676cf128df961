"""The past of one loan: its plan, what happened to it, and what would change if something else had happened.

It stands apart from the book because it only reads: what a payment dated back moves is worked out here, written there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.lending.allocation import COMPONENTS, Effect, Event, Outcome, Slot, Waterfall, fold, stand
from tallystick.domains.lending.entry import EFFECTS, Entry
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.servicing import ChargeKind, Component
from tallystick.domains.lending.transactions import LoanAllocation, LoanCharge, LoanTransaction, TransactionKind
from tallystick.errors import Conflict
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.session import Session

K = TransactionKind
_CHARGED = {
    ChargeKind.PENALTY: COMPONENTS.index(Component.PENALTY),
    ChargeKind.FEE: COMPONENTS.index(Component.FEE),
    ChargeKind.CHARGEBACK: COMPONENTS.index(Component.PRINCIPAL),
}


class LoanPast:
    """A loan with its current plan and its transactions, as they stand while the loan is locked."""

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
