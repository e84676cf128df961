"""Where money goes: one payment over the installments of a loan, and a loan's whole history over its schedule.

Pure functions on minor units. A loan's state is the fold of its events, in the order of their business dates, over its
schedule; undoing an event is the fold without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final
from uuid import UUID

from tallystick.domains.lending.servicing import (
    DEFAULT_ORDER,
    NOT_YET_DUE,
    AllocationStyle,
    Component,
    FutureAllocation,
    Servicing,
    Timing,
)
from tallystick.errors import Conflict
from tallystick.money import Rounding, round_ratio

__all__ = ["COMPONENTS", "Effect", "Event", "Outcome", "Slot", "Waterfall", "allocate", "fold", "merged", "stand"]

COMPONENTS: Final = tuple(Component)
"""Penalty, fee, interest, principal: the order of amounts everywhere in this module."""
Amounts = list[int]
_PRINCIPAL: Final = COMPONENTS.index(Component.PRINCIPAL)
_NOT_YET: Final = len(COMPONENTS)
"""Added to the index of penalty or fee: the charges of an installment that are not due on the day of the payment."""


class Effect(StrEnum):
    """What an event does to what is owed."""

    PAY = "pay"
    WAIVE = "waive"
    WRITE_OFF = "write_off"
    REFUND = "refund"
    CHARGEBACK = "chargeback"
    CHARGE = "charge"
    TRANCHE = "tranche"


@dataclass(slots=True)
class Slot:
    """An installment: when it is due, and what is left of each component.

    ``charges`` are the due dates, components and amounts of its fees and penalties, where the order asks for them.
    """

    due: date
    left: Amounts
    charges: list[tuple[date, int, int]] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether anything is left."""
        return any(self.left)

    def room(self, component: int, on: date) -> int:
        """What a payment of a day can settle of a component."""
        part = component % _NOT_YET
        left = self.left[part]
        waiting = min(left, sum(units for due, c, units in self.charges if c == part and due > on))
        return left - waiting if component < _NOT_YET else waiting


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a business date; ``seq`` orders what happened on the same one.

    ``waives`` says which components a waiver is for; ``place`` is the installment that the amount of a charge or a
    chargeback is added to (None where an older version of the schedule has it), ``component`` and ``due`` are a
    charge's. A charge comes after the transaction of the same date and number.
    """

    id: UUID
    effective: date
    seq: int
    effect: Effect
    amount: int
    future: FutureAllocation = FutureAllocation.NEXT_INSTALLMENT
    waives: tuple[Component, ...] = ()
    place: int | None = None
    component: int = _PRINCIPAL
    due: date | None = None

    @property
    def key(self) -> tuple[date, int, bool]:
        """What orders events."""
        return (self.effective, self.seq, self.effect is Effect.CHARGE)


@dataclass(slots=True)
class Outcome:
    """Where an event's amount went: per installment an amount for each component, and what is owed to the borrower."""

    parts: dict[int, Amounts] = field(default_factory=dict)
    overpaid: int = 0

    def add(self, place: int, component: int, units: int) -> None:
        """Count an amount."""
        self.parts.setdefault(place, [0] * len(COMPONENTS))[component] += units

    def total(self, component: Component) -> int:
        """The sum of a component over all installments."""
        at = COMPONENTS.index(component)
        return sum(amounts[at] for amounts in self.parts.values())

    def minus(self, other: Outcome) -> Outcome:
        """What this has more than another one, without what is the same."""
        found = Outcome(overpaid=self.overpaid - other.overpaid)
        for place in self.parts.keys() | other.parts.keys():
            mine, theirs = (o.parts.get(place, [0] * len(COMPONENTS)) for o in (self, other))
            difference = [a - b for a, b in zip(mine, theirs, strict=True)]
            if any(difference):
                found.parts[place] = difference
        return found

    def __bool__(self) -> bool:
        return bool(self.overpaid or any(any(amounts) for amounts in self.parts.values()))


@dataclass(frozen=True, slots=True)
class Waterfall:
    """An allocation order, grouped by timing in the order of first appearance."""

    groups: tuple[tuple[Timing, tuple[int, ...]], ...]
    pairs: tuple[tuple[Timing, int], ...]
    style: AllocationStyle
    asks_due: bool
    """Whether charges that are not due yet have places of their own in the order."""

    @classmethod
    def of(cls, servicing: Servicing) -> Waterfall:
        """The waterfall of a product."""
        pairs = []
        for name in servicing.allocation_order:
            timing, _, component = name.rpartition("_")
            at = COMPONENTS.index(Component(component))
            pairs.append((Timing.IN_ADVANCE, at + _NOT_YET) if name in NOT_YET_DUE else (Timing(timing), at))
        groups: dict[Timing, tuple[int, ...]] = {}
        for timing_, component_ in pairs:
            groups[timing_] = (*groups.get(timing_, ()), component_)
        asks_due = len(pairs) > len(DEFAULT_ORDER)
        return cls(tuple(groups.items()), tuple(pairs), servicing.allocation_style, asks_due)


def allocate(
    slots: Sequence[Slot], amount: int, on: date, waterfall: Waterfall, future: FutureAllocation
) -> tuple[Outcome, int]:
    """Give an amount to the installments, which it changes; answers where it went and what was too much.

    By installment, the timings are served one after the other and each installment whole before the next; by
    component, each of the twelve pairs is served over all its installments before the next pair. An installment is due
    on its due date only; before that day it is in advance. (The rules are those of Apache Fineract's advanced payment
    allocation, its "horizontal" and "vertical" processing.)
    """
    found = Outcome()
    if waterfall.style is AllocationStyle.BY_INSTALLMENT:
        stages: Iterable[tuple[Timing, tuple[int, ...]]] = waterfall.groups
    else:
        stages = [(timing, (component,)) for timing, component in waterfall.pairs]
    for timing, components in stages:
        if timing is Timing.IN_ADVANCE and future is FutureAllocation.REAMORTIZE:
            amount = _spread(slots, amount, on, components, found)
            continue
        for place in _places(slots, on, timing, future):
            amount = _serve(slots[place], place, amount, on, components, found)
            if not amount:
                return found, 0
    return found, amount


def _places(slots: Sequence[Slot], on: date, timing: Timing, future: FutureAllocation) -> Iterator[int]:
    places: Iterable[int] = range(len(slots))
    if timing is Timing.IN_ADVANCE and future is FutureAllocation.LAST_INSTALLMENT:
        places = reversed(range(len(slots)))
    for place in places:
        due = slots[place].due
        stands = Timing.PAST_DUE if due < on else Timing.DUE if due == on else Timing.IN_ADVANCE
        if stands is timing:
            yield place


def _serve(  # noqa: PLR0917
    slot: Slot, place: int, amount: int, on: date, components: Iterable[int], found: Outcome
) -> int:
    for component in components:
        part = min(amount, slot.room(component, on))
        if part:
            slot.left[component % _NOT_YET] -= part
            found.add(place, component % _NOT_YET, part)
            amount -= part
    return amount


def _spread(slots: Sequence[Slot], amount: int, on: date, components: Sequence[int], found: Outcome) -> int:
    """Offer every later installment an equal part, component after component, until nothing is left to give or take.

    Parts are rounded half to even and the last installment is offered what rounding left.
    """
    while amount:
        candidates = _places(slots, on, Timing.IN_ADVANCE, FutureAllocation.NEXT_INSTALLMENT)
        places = [p for p in candidates if any(slots[p].room(c, on) for c in components)]
        if not places:
            return amount
        for component in components:
            even = round_ratio(amount, len(places), Rounding.HALF_EVEN)
            offers = [even] * (len(places) - 1) + [amount - even * (len(places) - 1)]
            for place, offer in zip(places, offers, strict=True):
                # Rounded up, the parts may come to more than there is.
                part = min(offer, amount)
                if part > 0:
                    amount -= part - _serve(slots[place], place, part, on, (component,), found)
    return 0


def fold(
    slots: Sequence[Slot],
    events: Iterable[Event],
    waterfall: Waterfall,
    overpaid: int = 0,
    held: Mapping[UUID, int] | None = None,
) -> dict[UUID, Outcome]:
    """Let events happen one after the other, by business date; changes the installments and answers every outcome.

    ``overpaid`` is what is owed to the borrower before the first of them, and ``held`` which earlier payments it is
    from: a charge takes what it can of the oldest, whose outcomes then say what changed. Raises ``Conflict`` when a
    refund or waiver has nothing left to stand on, because what came before it changed.
    """
    outcomes: dict[UUID, Outcome] = {}
    holds = dict(held or {})
    for event in sorted(events, key=lambda e: e.key):
        if event.effect is Effect.CHARGE:
            overpaid -= _charge(slots, event, outcomes, holds, overpaid)
            continue
        outcome = outcomes[event.id] = _happen(slots, event, waterfall, overpaid)
        overpaid += outcome.overpaid
        if outcome.overpaid > 0:
            holds[event.id] = outcome.overpaid
    return outcomes


def _charge(
    slots: Sequence[Slot], event: Event, outcomes: dict[UUID, Outcome], holds: dict[UUID, int], overpaid: int
) -> int:
    """Ask for a charge; answers how much of it what was paid too much covers."""
    assert event.place is not None
    slot = slots[event.place]
    covered = rest = min(event.amount, overpaid)
    slot.left[event.component] += event.amount - covered
    if event.due is not None:
        slot.charges.append((event.due, event.component, event.amount))
    for payment, units in holds.items():
        part = min(rest, units)
        if part > 0:
            outcome = outcomes.setdefault(payment, Outcome())
            outcome.overpaid -= part
            outcome.add(event.place, event.component, part)
            holds[payment] -= part
            rest -= part
    return covered


def stand(
    slots: Sequence[Slot], events: Iterable[Event], recorded: Mapping[UUID, Outcome]
) -> tuple[dict[UUID, int], dict[UUID, Outcome]]:
    """Let events have happened as it is recorded; answers what each holds of what is owed to the borrower.

    What they were drawn on for charges of a later day counts as held again, since the fold of what follows draws it
    anew; the second answer is what is recorded of that.
    """
    holds: dict[UUID, int] = {}
    for event in events:
        if event.place is not None and event.effect in (Effect.CHARGE, Effect.CHARGEBACK):
            slots[event.place].left[event.component] += event.amount
            if event.due is not None:
                slots[event.place].charges.append((event.due, event.component, event.amount))
        outcome = recorded.get(event.id, Outcome())
        holds[event.id] = outcome.overpaid
        for place, amounts in outcome.parts.items():
            slots[place].left = [a - b for a, b in zip(slots[place].left, amounts, strict=True)]
    drawn: dict[UUID, Outcome] = {}
    # The oldest are drawn on first, so the newest give back first.
    for id in reversed(holds):
        for place, amounts in recorded.get(id, Outcome()).parts.items():
            for component, units in enumerate(amounts):
                back = min(units, -slots[place].left[component])
                if back > 0:
                    slots[place].left[component] += back
                    holds[id] += back
                    outcome = drawn.setdefault(id, Outcome())
                    outcome.add(place, component, back)
                    outcome.overpaid -= back
    return holds, drawn


def _happen(slots: Sequence[Slot], event: Event, waterfall: Waterfall, overpaid: int) -> Outcome:
    if event.effect is Effect.PAY:
        found, rest = allocate(slots, event.amount, event.effective, waterfall, event.future)
        found.overpaid = rest
        return found
    if event.effect is Effect.REFUND:
        if event.amount > overpaid:
            raise _baseless("refund")
        return Outcome(overpaid=-event.amount)
    if event.effect is Effect.TRANCHE:
        found, rest = allocate(slots, overpaid, event.effective, waterfall, event.future)
        found.overpaid = rest - overpaid
        return found
    if event.effect is Effect.CHARGEBACK:
        if event.place is not None:
            slots[event.place].left[_PRINCIPAL] += event.amount
        found, rest = allocate(slots, min(event.amount, overpaid), event.effective, waterfall, event.future)
        found.overpaid = rest - min(event.amount, overpaid)
        return found
    found = Outcome()
    wanted = (
        tuple(COMPONENTS.index(c) for c in event.waives) if event.effect is Effect.WAIVE else range(len(COMPONENTS))
    )
    rest = event.amount
    for place in sorted(range(len(slots)), key=lambda p: (slots[p].due, p)):
        rest = _serve(slots[place], place, rest, date.max, wanted, found)
    if rest:
        raise _baseless("waiver" if event.effect is Effect.WAIVE else "write-off")
    return found


def _baseless(what: str) -> Conflict:
    return Conflict(
        f"A later {what} would have nothing left to stand on.",
        entity="Loan",
        remedy=f"Reverse the {what} first, or date this after it.",
    )


def merged(outcomes: Iterable[Outcome]) -> Outcome:
    """Outcomes as one whose amounts stand in a single place: what the books know of them."""
    found = Outcome()
    for outcome in outcomes:
        found.overpaid += outcome.overpaid
        for component, kind in enumerate(COMPONENTS):
            found.add(0, component, outcome.total(kind))
    return found
