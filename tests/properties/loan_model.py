"""A loan in memory: every command is kept, and the loan is what was kept, done again from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date

PENALTY, FEE, INTEREST, PRINCIPAL = range(4)
NAMES = ("penalty", "fee", "interest", "principal")
TIMINGS = ("past_due", "due", "in_advance")


class RefusedError(Exception):
    """The command is not allowed."""


@dataclass(frozen=True)
class Happened:
    """Something that happened; ``seq`` is its number, for a charge that of the transaction before it."""

    kind: str
    on: date
    seq: int
    amount: int
    place: int = -1
    parts: tuple[int, ...] = ()
    """The component of a charge; what a waiver is for."""
    of: int = 0
    """The payment that a chargeback takes back."""


@dataclass
class State:
    """What is left of each installment, how the rest was settled, and what is owed back."""

    left: list[list[int]]
    settled: dict[str, list[list[int]]]
    overpaid: int = 0


@dataclass
class Model:
    """One loan. Dates and amounts of its installments are given; money is in minor units."""

    started: date
    dues: list[date]
    asked: list[list[int]]
    order: Sequence[str]
    by_component: bool
    last_first: bool
    refuses: bool
    happened: list[Happened] = field(default_factory=list)
    undone: set[int] = field(default_factory=set)
    seq: int = 1
    lost_on: date | None = None
    lost_seq: int = 0
    written_off: bool = False

    # -- the loan as it stands -------------------------------------------------------------------------------------

    def state(self, happened: Sequence[Happened] | None = None) -> State:
        """Do everything again, by date. Raises ``RefusedError`` when something has no ground any more."""
        dues = len(self.dues)
        state = State(
            [list(row) for row in self.asked],
            {how: [[0] * 4 for _ in range(dues)] for how in ("paid", "waived", "written_off")},
        )
        # A write-off takes what is left when it is made, charges of a later day too, and nothing moves after it.
        for one in sorted(
            self.happened if happened is None else happened,
            key=lambda e: (e.kind == "write_off", e.on, e.seq, e.kind == "charge"),
        ):
            getattr(self, "_" + one.kind)(state, one)
        return state

    @property
    def now(self) -> State:
        return self.state(self.happened)

    @property
    def status(self) -> str:
        if self.written_off:
            return "written_off"
        now = self.now
        if any(any(row) for row in now.left):
            return "active"
        return "overpaid" if now.overpaid else "closed"

    def rank(self, on: date, place: int, part: int) -> tuple[int, ...]:
        """When a component of an installment has its turn in a payment of a day."""
        due = self.dues[place]
        timing = TIMINGS[0] if due < on else TIMINGS[1] if due == on else TIMINGS[2]
        turn = -place if self.last_first and timing == "in_advance" else place
        mine = self.order.index(f"{timing}_{NAMES[part]}")
        if self.by_component:
            return (mine, turn)
        first = min(n for n, name in enumerate(self.order) if name.startswith(timing + "_"))
        return (first, turn, mine)

    def _give(self, state: State, on: date, amount: int) -> int:
        turns = [(self.rank(on, place, part), place, part) for place in range(len(self.dues)) for part in range(4)]
        for _, place, part in sorted(turns):
            taken = min(amount, state.left[place][part])
            state.left[place][part] -= taken
            state.settled["paid"][place][part] += taken
            amount -= taken
        return amount

    def _pay(self, state: State, one: Happened) -> None:
        state.overpaid += self._give(state, one.on, one.amount)

    def _refund(self, state: State, one: Happened) -> None:
        if one.amount > state.overpaid:
            raise RefusedError
        state.overpaid -= one.amount

    def _charge(self, state: State, one: Happened) -> None:
        covered = min(one.amount, state.overpaid)
        state.overpaid -= covered
        state.settled["paid"][one.place][one.parts[0]] += covered
        state.left[one.place][one.parts[0]] += one.amount - covered

    def _chargeback(self, state: State, one: Happened) -> None:
        state.left[one.place][PRINCIPAL] += one.amount
        used = min(one.amount, state.overpaid)
        state.overpaid -= used - self._give(state, one.on, used)

    def _waive(self, state: State, one: Happened) -> None:
        self._settle(state, one, "waived")

    def _write_off(self, state: State, one: Happened) -> None:
        self._settle(state, one, "written_off")

    def _settle(self, state: State, one: Happened, how: str) -> None:
        rest = one.amount
        for place in range(len(self.dues)):
            for part in one.parts:
                taken = min(rest, state.left[place][part])
                state.left[place][part] -= taken
                state.settled[how][place][part] += taken
                rest -= taken
        if rest:
            raise RefusedError

    # -- commands --------------------------------------------------------------------------------------------------

    def pay(self, amount: int, on: date) -> None:
        self._check(on)
        before = self.now.overpaid
        fresh = Happened("pay", on, self.seq + 1, amount)
        if self.state([*self.happened, fresh]).overpaid > before and self.refuses:
            raise RefusedError
        self._add(fresh)

    def waive(self, amount: int, parts: tuple[int, ...], on: date) -> None:
        self._check(on)
        self._must(self.status == "active")
        self._must(amount <= sum(row[part] for row in self.now.left for part in parts))
        # It goes on to be for what it was for when it was recorded.
        before = self._without_me(on)
        fresh = Happened("waive", on, self.seq + 1, amount, parts=parts)
        after = self._until(fresh)
        reached = [
            part
            for part in parts
            if sum(row[part] for row in after.settled["waived"]) > sum(row[part] for row in before.settled["waived"])
        ]
        self._add(replace(fresh, parts=tuple(reached)))

    def _without_me(self, on: date) -> State:
        return self.state([e for e in self.happened if e.on <= on])

    def _until(self, fresh: Happened) -> State:
        return self.state([*(e for e in self.happened if e.on <= fresh.on), fresh])

    def refund(self, amount: int, on: date) -> None:
        self._check(on)
        self._must(amount <= self.now.overpaid and on >= self._last())
        self._add(Happened("refund", on, self.seq + 1, amount))

    def chargeback(self, of: int, amount: int, on: date) -> None:
        self._check(on)
        paid = self._find(of)
        self._must(paid is not None and paid.kind == "pay" and of not in self.undone and self.lost_on is None)
        assert paid is not None
        taken = sum(e.amount for e in self.happened if e.kind == "chargeback" and e.of == of)
        self._must(taken + amount <= paid.amount and on >= self._last())
        final = len(self.dues) - 1
        place = next((n for n, due in enumerate(self.dues) if due > on or (due == on and n == final)), None)
        self._add(Happened("chargeback", on, self.seq + 1, amount, self._place(place, on), of=of))

    def charge(self, part: int, amount: int, due: date, on: date) -> None:
        self._must(min(due, on) >= self.started and not self.written_off and self.lost_on is None)
        place = self._place(next((n for n, day in enumerate(self.dues) if day >= due), None), due)
        fresh = Happened("charge", min(due, on), self.seq, amount, place, parts=(part,))
        self.state([*self.happened, fresh])
        self.happened.append(fresh)

    def reverse(self, of: int, on: date) -> None:
        if self.lost_seq == of and of not in self.undone and self.lost_on is not None:
            self._must(on >= self.lost_on and not self.written_off)
            self.lost_on = None
        else:
            one = self._find(of)
            self._must(one is not None and one.kind in ("pay", "waive", "refund") and not self.written_off)
            assert one is not None
            self._must(of not in self.undone and on >= one.on)
            self._must(not any(e.kind == "chargeback" and e.of == of for e in self.happened))
            self._must(self.lost_on is None or of > self.lost_seq)
            rest = [e for e in self.happened if e is not one]
            self.state(rest)
            self.happened = rest
        self.undone.add(of)
        self.seq += 1

    def charge_off(self, on: date) -> None:
        self._check(on)
        self._must(self.status == "active" and self.lost_on is None and on >= self._last())
        self.seq += 1
        self.lost_on, self.lost_seq = on, self.seq

    def write_off(self, on: date) -> None:
        self._check(on)
        self._must(self.status == "active" and on >= self._last())
        if self.lost_on is not None:
            self._must(on >= self.lost_on)
        amount = sum(sum(row) for row in self.now.left)
        self._add(Happened("write_off", on, self.seq + 1, amount, parts=(0, 1, 2, 3)))
        self.written_off = True

    # -- what is allowed -------------------------------------------------------------------------------------------

    def _must(self, allowed: bool) -> None:
        if not allowed:
            raise RefusedError

    def _check(self, on: date) -> None:
        self._must(on >= self.started and not self.written_off)
        self._must(self.lost_on is None or on >= self.lost_on)

    def _last(self) -> date:
        found = [e.on for e in self.happened if e.kind != "charge"]
        return max([self.started, *found])

    def _find(self, seq: int) -> Happened | None:
        return next((e for e in self.happened if e.seq == seq and e.kind != "charge"), None)

    def _place(self, place: int | None, due: date) -> int:
        if place is None:
            self.dues.append(due)
            self.asked.append([0] * 4)
            return len(self.dues) - 1
        return place

    def _add(self, fresh: Happened) -> None:
        self.state([*self.happened, fresh])
        self.happened.append(fresh)
        self.seq += 1
