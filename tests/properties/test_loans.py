"""Where the money of loans goes: laws of the waterfall and the fold, and lives of loans against a simple model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from tests.lending.money import agree
from tests.lending.support import DAY, active, product
from tests.properties.loan_model import NAMES, Model, RefusedError, State
from tests.soak import EXAMPLES

from tallystick import Conflict, Invalid, Money, Tallystick, Unsupported, User, UserStatus, usd
from tallystick.domains.lending.allocation import COMPONENTS, Effect, Event, Outcome, Slot, Waterfall, allocate, fold
from tallystick.domains.lending.books import Book, book_id
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.servicing import (
    DEFAULT_ORDER,
    AllocationStyle,
    ChargeBasis,
    ChargeKind,
    Component,
    FutureAllocation,
    LateFee,
    Overpayment,
    Servicing,
)
from tallystick.domains.lending.transactions import LoanTransaction, TransactionKind
from tallystick.session import Session
from tallystick.testing import Sandbox

F = FutureAllocation
ORDERS = st.one_of(st.just(DEFAULT_ORDER), st.permutations(DEFAULT_ORDER).map(tuple))
STYLES = st.sampled_from(AllocationStyle)
AMOUNTS = st.lists(st.integers(0, 400), min_size=4, max_size=4)
PLANS = st.lists(st.tuples(st.integers(0, 20), AMOUNTS), min_size=1, max_size=6)
DAYS = st.integers(0, 21)


def day(n: int) -> date:
    return DAY + timedelta(days=n)


def plan(raw: list[tuple[int, list[int]]]) -> list[Slot]:
    return [Slot(day(n), list(amounts)) for n, amounts in sorted(raw, key=lambda r: r[0])]


def waterfall(order: tuple[str, ...], style: AllocationStyle) -> Waterfall:
    return Waterfall.of(Servicing(allocation_order=order, allocation_style=style))


# -- one payment ---------------------------------------------------------------------------------------------------


@given(raw=PLANS, amount=st.integers(0, 9_000), on=DAYS, order=ORDERS, style=STYLES, future=st.sampled_from(F))
def test_a_payment_is_conserved(
    raw: Any, amount: int, on: int, order: tuple[str, ...], style: AllocationStyle, future: F
) -> None:
    slots = plan(raw)
    before = deepcopy(slots)
    found, rest = allocate(slots, amount, day(on), waterfall(order, style), future)
    assert rest >= 0
    assert sum(map(sum, found.parts.values())) + rest == amount
    assert not rest or not any(slot.open for slot in slots)
    for place, (old, new) in enumerate(zip(before, slots, strict=True)):
        taken = found.parts.get(place, [0, 0, 0, 0])
        assert all(0 <= t <= o for t, o in zip(taken, old.left, strict=True))
        assert [o - t for o, t in zip(old.left, taken, strict=True)] == new.left


@given(raw=PLANS, amount=st.integers(0, 4_000), on=DAYS, order=ORDERS, style=STYLES, last=st.booleans())
def test_nothing_is_served_before_what_comes_first(
    raw: Any, amount: int, on: int, order: tuple[str, ...], style: AllocationStyle, last: bool
) -> None:
    """With conservation this says where every cent goes."""
    slots = plan(raw)
    future = F.LAST_INSTALLMENT if last else F.NEXT_INSTALLMENT
    found, _ = allocate(slots, amount, day(on), waterfall(order, style), future)
    ranks = Model(DAY, [s.due for s in slots], [], order, style is AllocationStyle.BY_COMPONENT, last, False).rank
    turns = sorted((ranks(day(on), place, part), place, part) for place in range(len(slots)) for part in range(4))
    for (_, place, part), (_, later, other) in pairwise(turns):
        if slots[place].left[part]:
            assert not found.parts.get(later, [0] * 4)[other]
    reached = [n for n, (_, place, part) in enumerate(turns) if found.parts.get(place, [0] * 4)[part]]
    waiting = [n for n, (_, place, part) in enumerate(turns) if slots[place].left[part]]
    assert not reached or not waiting or max(reached) <= min(waiting)


@given(amount=st.integers(1, 50_000), count=st.integers(1, 9), order=ORDERS, style=STYLES)
def test_later_installments_have_equal_parts_of_a_payment(
    amount: int, count: int, order: tuple[str, ...], style: AllocationStyle
) -> None:
    slots = [Slot(day(n + 1), [0, 0, 0, amount]) for n in range(count)]
    found, rest = allocate(slots, amount, DAY, waterfall(order, style), F.REAMORTIZE)
    shares = [found.parts.get(n, [0] * 4)[3] for n in range(count)]
    assert rest == 0
    assert sum(shares) == amount
    if amount >= count * count:
        assert max(shares[:-1], default=0) - min(shares[:-1], default=0) <= 1
        assert abs(shares[-1] - shares[0]) <= count


# -- the fold ------------------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), DAYS, st.integers(1, 900)),
        st.tuples(st.just("charge"), DAYS, st.integers(1, 90), st.integers(0, 5), st.integers(0, 1)),
        st.tuples(st.just("back"), DAYS, st.integers(1, 300), st.integers(0, 5)),
        st.tuples(st.just("waive"), DAYS, st.integers(1, 100)),
        st.tuples(st.just("refund"), DAYS, st.integers(1, 200)),
    ),
    max_size=10,
)


def events_of(raw: list[Any], slots: list[Slot], *, forward: bool) -> list[Event]:
    """Events in the order in which they were recorded; ``forward``: dates do not go back."""
    made: list[Event] = []
    seq = 1
    for n, (kind, on, amount, *rest) in enumerate(sorted(raw, key=lambda r: r[1]) if forward else raw):
        place = rest[0] % len(slots) if rest else None
        base = Event(UUID(int=n + 1), day(on), seq, Effect.PAY, amount, place=place)
        if kind == "charge":
            made.append(replace(base, effect=Effect.CHARGE, component=rest[1]))
            continue
        seq += 1
        effects = {"back": Effect.CHARGEBACK, "waive": Effect.WAIVE, "refund": Effect.REFUND, "pay": Effect.PAY}
        waives = (Component.PENALTY, Component.FEE, Component.INTEREST) if kind == "waive" else ()
        made.append(replace(base, seq=seq, effect=effects[kind], waives=waives))
    return made


def grounded(slots: list[Slot], events: list[Event], rules: Waterfall) -> list[Event]:
    """The events without refunds and waivers that have no ground."""
    kept: list[Event] = []
    for event in events:
        try:
            fold(deepcopy(slots), [*kept, event], rules)
        except Conflict:
            continue
        kept.append(event)
    return kept


@given(raw=PLANS, events=EVENTS, order=ORDERS, style=STYLES, future=st.sampled_from(F))
def test_one_after_the_other_is_all_at_once_where_dates_do_not_go_back(
    raw: Any, events: list[Any], order: tuple[str, ...], style: AllocationStyle, future: F
) -> None:
    rules, start = waterfall(order, style), plan(raw)
    happened = [replace(e, future=future) for e in events_of(events, start, forward=True)]
    happened = grounded(start, happened, rules)
    at_once = deepcopy(start)
    expected = fold(at_once, happened, rules)
    slots, overpaid = deepcopy(start), 0
    found: dict[UUID, Outcome] = {}
    for event in happened:
        held = {id: o.overpaid for id, o in found.items() if o.overpaid > 0}
        for id, more in fold(slots, [event], rules, overpaid, held).items():
            found[id] = more.minus(Outcome().minus(found.get(id, Outcome())))
            overpaid += more.overpaid
    assert [s.left for s in slots] == [s.left for s in at_once]
    assert overpaid == sum(o.overpaid for o in expected.values())
    assert {id: o for id, o in found.items() if o} == {id: o for id, o in expected.items() if o}


@given(raw=PLANS, events=EVENTS, order=ORDERS, style=STYLES, future=st.sampled_from(F))
def test_the_fold_conserves_and_never_goes_below_zero(
    raw: Any, events: list[Any], order: tuple[str, ...], style: AllocationStyle, future: F
) -> None:
    rules, start = waterfall(order, style), plan(raw)
    happened = [replace(e, future=future) for e in events_of(events, start, forward=False)]
    happened = grounded(start, happened, rules)
    slots = deepcopy(start)
    outcomes = fold(slots, happened, rules)
    added = sum(e.amount for e in happened if e.effect in (Effect.CHARGE, Effect.CHARGEBACK))
    assert all(left >= 0 for slot in slots for left in slot.left)
    signs = {Effect.PAY: 1, Effect.WAIVE: 1, Effect.REFUND: -1}
    for event in happened:
        if event.effect is not Effect.CHARGE:
            outcome = outcomes[event.id]
            assert sum(map(sum, outcome.parts.values())) + outcome.overpaid == signs.get(event.effect, 0) * event.amount
    settled = sum(sum(map(sum, o.parts.values())) for o in outcomes.values())
    assert sum(sum(s.left) for s in start) + added == settled + sum(sum(s.left) for s in slots)
    assert sum(o.overpaid for o in outcomes.values()) >= 0


@given(
    raw=PLANS,
    amounts=st.lists(st.integers(1, 700), min_size=1, max_size=5),
    on=DAYS,
    order=ORDERS,
    style=STYLES,
    last=st.booleans(),
    data=st.data(),
)
def test_payments_of_one_day_come_to_the_same_in_any_order(
    raw: Any, amounts: list[int], on: int, order: tuple[str, ...], style: AllocationStyle, last: bool, data: Any
) -> None:
    rules, start = waterfall(order, style), plan(raw)
    future = F.LAST_INSTALLMENT if last else F.NEXT_INSTALLMENT

    def left(given: list[int]) -> tuple[list[list[int]], int]:
        slots = deepcopy(start)
        found = fold(
            slots, [Event(UUID(int=n + 1), day(on), n, Effect.PAY, a, future) for n, a in enumerate(given)], rules
        )
        return [s.left for s in slots], sum(o.overpaid for o in found.values())

    assert left(amounts) == left(data.draw(st.permutations(amounts))) == left([sum(amounts)])


@given(one=PLANS, other=PLANS, a=st.integers(-50, 50), b=st.integers(-50, 50))
def test_a_difference_added_is_what_it_is_the_difference_to(one: Any, other: Any, a: int, b: int) -> None:
    mine = Outcome({n: list(amounts) for n, (_, amounts) in enumerate(one)}, a)
    theirs = Outcome({n: list(amounts) for n, (_, amounts) in enumerate(other)}, b)
    back = mine.minus(theirs).minus(Outcome().minus(theirs))
    assert not back.minus(mine)
    assert not mine.minus(back)
    for kind in COMPONENTS:
        assert back.total(kind) == mine.total(kind)


# -- lives of loans on PostgreSQL ----------------------------------------------------------------------------------

WEIGHTS = {
    "repay": 6,
    "goodwill": 2,
    "too much": 2,
    "reverse": 4,
    "waive": 2,
    "refund": 3,
    "chargeback": 3,
    "charge": 2,
    "charge_off": 1,
}
MORE = {"pay_off": 1, "charge_late_fees": 2, "reschedule": 2, "reage": 1, "reamortize": 1, "disburse": 2}
SEEDS = st.integers(0, 2**63)


@dataclass(frozen=True)
class Life:
    """What happens to one loan, by chance: its product's policies, and commands, some of them undone at once."""

    servicing: Servicing
    rate: Decimal
    count: int
    commands: list[tuple[tuple[Any, ...], bool, bool]]
    """A command; whether it is tried as it was drawn, instead of where it has a meaning; whether it is undone."""


def life(seed: int, weights: dict[str, int], futures: Sequence[F]) -> Life:
    chance = Random(seed)
    order = list(DEFAULT_ORDER)
    if chance.random() < 0.7:
        chance.shuffle(order)
    commands = []
    for name in chance.choices(list(weights), list(weights.values()), k=chance.randint(4, 11)):
        amount = chance.choice([1, 33_333, chance.randint(1, 2_000), chance.randint(1, 60_000)])
        when, rest = chance.choice([chance.randint(0, 130), chance.randint(20, 60)]), []
        if name == "waive":
            rest = [frozenset(chance.sample(range(3), chance.randint(1, 3)))]
        elif name == "charge":
            rest = [chance.randint(0, 1), chance.randint(0, 130)]
        elif name in ("chargeback", "reschedule", "reage"):
            rest = [chance.randint(1, 5)]
        commands.append(((name, amount, when, *rest), chance.random() < 0.15, chance.random() < 0.4))
    if chance.random() < 0.3:
        commands.append((("write_off", 0, chance.randint(100, 130)), False, False))
    servicing = Servicing(
        allocation_order=tuple(order),
        allocation_style=chance.choice(list(AllocationStyle)),
        future_allocation=chance.choice(futures),
        overpayment=chance.choice([Overpayment.KEEP, Overpayment.KEEP, Overpayment.KEEP, Overpayment.REFUSE]),
        late_fee=LateFee(after_days=5, percent=Decimal("0.05"), basis=ChargeBasis.PERCENT_OF_OVERDUE),
    )
    rate = chance.choice([Decimal(0), Decimal("0.12"), Decimal("0.36")])
    return Life(servicing, rate, chance.randint(1, 4), commands)


# Shrinking a life takes longer than reading it.
ON_A_SERVER = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
)
REFUSALS = (Conflict, Invalid, Unsupported)


def cents(units: int) -> Money:
    return Money(units, "USD")


async def aimed(db: Session, loan: Loan, command: tuple[Any, ...]) -> tuple[Any, ...]:
    """A command with numbers, amounts and dates brought to where it has a meaning."""
    name, first, when, *rest = command
    found, transactions = await db.loans.get(loan.id), await db.loans.transactions(loan)
    gone = {t.reverses.id for t in transactions if t.reverses is not None}
    backed = {t.concerns.id for t in transactions if t.concerns is not None}
    standing = [t for t in transactions if t.id not in gone and t.kind is not TransactionKind.REVERSAL]
    latest = max((t.effective - DAY).days for t in standing)
    payments = [t for t in standing if t.kind in (TransactionKind.REPAYMENT, TransactionKind.GOODWILL)]
    if name == "too much":
        return ("repay", found.outstanding.units + first, when)
    if name == "reverse":
        of = [t for t in standing if t.kind in UNDONE and t.id not in backed]
        if of:
            one = of[first % len(of)]
            return (name, one.seq, max(when, (one.effective - DAY).days))
    if name == "refund" and found.overpaid:
        return (name, 1 + first % found.overpaid.units, max(when, latest))
    if name == "chargeback" and payments:
        one = payments[rest[0] % len(payments)]
        return (name, 1 + first % one.amount.units, max(when, latest), one.seq)
    if name == "waive":
        parts = (found.penalties_outstanding, found.fees_outstanding, found.interest_outstanding)
        if open_ := sum(parts[n].units for n in rest[0]):
            return (name, 1 + first % open_, when, *rest)
    if name in ("charge_off", "write_off", "reschedule", "reage", "reamortize", "pay_off", "disburse"):
        return (name, first, max(when, latest), *rest)
    return command


def done_in_memory(model: Model, command: tuple[Any, ...]) -> None:
    name, first, when, *rest = command
    on = day(when)
    match name:
        case "repay" | "goodwill":
            model.pay(first, on)
        case "reverse":
            model.reverse(first, on)
        case "waive":
            model.waive(first, tuple(sorted(rest[0])), on)
        case "chargeback":
            model.chargeback(rest[0], first, on)
        case "charge":
            model.charge(rest[0], first, on, day(rest[1]))
        case "refund":
            model.refund(first, on)
        case _:
            getattr(model, name)(on)


async def done_in_database(db: Session, loan: Loan, command: tuple[Any, ...]) -> LoanTransaction | None:
    name, first, when, *rest = command
    on, loans = day(when), db.loans

    async def numbered(seq: int) -> LoanTransaction:
        found = [t for t in await loans.transactions(loan) if t.seq == seq]
        if not found:
            raise Invalid("no such transaction")
        return found[0]

    match name:
        case "repay" | "goodwill" | "refund":
            return (await getattr(loans, name)(loan, cents(first), on=on, key=None)).transaction
        case "reverse":
            return (await loans.reverse(await numbered(first), on=on, key=None)).transaction
        case "waive":
            parts = [Component(NAMES[n]) for n in sorted(rest[0])]
            return (await loans.waive(loan, cents(first), parts, on=on, key=None)).transaction
        case "chargeback":
            return (await loans.chargeback(await numbered(rest[0]), cents(first), on=on, key=None)).transaction
        case "charge":
            kind = (ChargeKind.PENALTY, ChargeKind.FEE)[rest[0]]
            await loans.charge(loan, kind, cents(first), code="x", due=on, on=day(rest[1]), key=None)
            return None
        case "pay_off" | "charge_off" | "write_off" | "reamortize":
            return (await getattr(loans, name)(loan, on=on, key=None)).transaction
        case "charge_late_fees":
            await loans.charge_late_fees(loan, on=on, key=None)
            return None
        case "reschedule":
            return (await loans.reschedule(loan, installments=rest[0], on=on, key=None)).transaction
        case "reage":
            due = on + timedelta(days=first % 40)
            return (await loans.reage(loan, first_due=due, installments=rest[0], on=on, key=None)).transaction
        case "disburse":
            return (await loans.disburse(loan, cents(first), on=on, key=None)).transaction
    raise AssertionError(name)


def part(i: Any, component: int, how: str) -> int:
    names = ("penalties", "fees", "interest", "principal")
    kept = getattr(i, f"{names[component]}_{how}", None)
    return 0 if kept is None else kept.units


async def same(db: Session, loan: Loan, model: Model, state: State) -> None:
    found, rows = await db.loans.get(loan.id), await db.loans.schedule(loan)
    rows.sort(key=lambda i: (i.due, i.seq))
    assert [i.due for i in rows] == model.dues
    for how, settled in state.settled.items():
        assert [[part(i, c, how) for c in range(4)] for i in rows] == settled, how
    assert [[i.penalties.units, i.fees.units, i.interest.units, i.principal.units] for i in rows] == [
        [left + sum(s[place][c] for s in state.settled.values()) for c, left in enumerate(row)]
        for place, row in enumerate(state.left)
    ]
    assert found.overpaid.units == state.overpaid
    assert found.status.value == model.status
    await agree(db)


@ON_A_SERVER
@given(seed=SEEDS)
@example(seed=122_980_795_127).via("a charge of a later day than the write-off")
@example(seed=337_532_268_512_705_152).via("a waiver dated before everything")
async def test_a_loan_lives_as_the_model_says(tally: Tallystick, tenant: str, seed: int) -> None:
    mine = life(seed, WEIGHTS, [F.NEXT_INSTALLMENT, F.LAST_INSTALLMENT])
    async with Sandbox(tally) as sandbox, sandbox.session(tenant, actor="test", permissions=("*",)) as db:
        what = await product(db, rate=mine.rate, installments=mine.count, servicing=mine.servicing)
        loan = await active(db, what)
        rows = await db.loans.schedule(loan)
        asked = [[i.penalties.units, i.fees.units, i.interest.units, i.principal.units] for i in rows]
        model = Model(
            DAY,
            [i.due for i in rows],
            asked,
            mine.servicing.allocation_order,
            mine.servicing.allocation_style is AllocationStyle.BY_COMPONENT,
            mine.servicing.future_allocation is F.LAST_INSTALLMENT,
            mine.servicing.overpayment is Overpayment.REFUSE,
        )
        for drawn, wild, _ in mine.commands:
            command = drawn if wild and drawn[0] != "too much" else await aimed(db, loan, drawn)
            tried: Model | None = deepcopy(model)
            assert tried is not None
            try:
                done_in_memory(tried, command)
            except RefusedError:
                tried = None
            try:
                await done_in_database(db, loan, command)
            except REFUSALS as problem:
                if tried is not None:
                    raise AssertionError(f"refused: {command}") from problem
            else:
                assert tried is not None, f"not refused: {command}"
                model = tried
            await same(db, loan, model, model.now)


UNDONE = (
    TransactionKind.REPAYMENT,
    TransactionKind.GOODWILL,
    TransactionKind.WAIVER,
    TransactionKind.REFUND,
    TransactionKind.CHARGE_OFF,
    TransactionKind.RECOVERY,
)


async def picture(db: Session, loan: Loan) -> Any:
    """Everything about a loan that an undone command leaves as it was."""
    found = await db.loans.get(loan.id)
    rows = [
        {n: getattr(i, n) for n in i.__struct_fields__ if n not in ("version", "updated_at", "updated_by")}
        for i in await db.loans.schedule(loan)
    ]
    totals = {n: getattr(found, n) for n in found.__struct_fields__ if n not in ("version", "updated_at", "updated_by")}
    books = {line.account: line.net for line in (await db.ledger.trial_balance()).lines}
    return rows, totals, books, {book: books.get(book_id(db, book, "USD")) for book in Book}


async def conserved(db: Session, loan: Loan) -> None:
    """What came in less what went back is what was settled with money and what is owed back."""
    transactions = await db.loans.transactions(loan)
    gone = {t.reverses.id for t in transactions if t.reverses is not None}
    signs = {TransactionKind.REPAYMENT: 1, TransactionKind.GOODWILL: 1, TransactionKind.REFUND: -1}
    came = sum(signs.get(t.kind, 0) * t.amount.units for t in transactions if t.id not in gone)
    rows = await db.loans.schedule(loan)
    found = await db.loans.get(loan.id)
    assert came == sum(part(i, c, "paid") for i in rows for c in range(4)) + found.overpaid.units
    lent_out = sum(t.amount.units for t in transactions if t.kind is TransactionKind.DISBURSEMENT)
    back = sum(t.amount.units for t in transactions if t.kind is TransactionKind.CHARGEBACK)
    lost = sum(part(i, 3, "written_off") for i in rows)
    assert found.principal_outstanding.units == lent_out + back - sum(part(i, 3, "paid") for i in rows) - lost
    assert [t.seq for t in transactions] == list(range(1, len(transactions) + 1))


@ON_A_SERVER
@given(seed=SEEDS)
@example(seed=13).via("a payment dated before the plan that holds")
async def test_whatever_happens_to_a_loan_adds_up_and_what_is_undone_has_not_been(
    tally: Tallystick, tenant: str, seed: int
) -> None:
    mine = life(seed, WEIGHTS | MORE, list(F))
    async with Sandbox(tally) as sandbox, sandbox.session(tenant, actor="test", permissions=("*",)) as db:
        what = await product(db, rate=mine.rate, installments=mine.count, servicing=mine.servicing)
        person = await db.users.add(User(status=UserStatus.ACTIVE))
        loan = await db.loans.request(product=what, borrower=person, principal=usd("1000"), on=DAY, key=None)
        await db.loans.approve(loan, on=DAY, key=None)
        await db.loans.disburse(loan, usd("600"), on=DAY, key=None)
        for drawn, wild, undo in mine.commands:
            command = drawn if wild and drawn[0] != "too much" else await aimed(db, loan, drawn)
            before = await picture(db, loan)
            try:
                done = await done_in_database(db, loan, command)
            except REFUSALS:
                assert await picture(db, loan) == before
                continue
            await agree(db)
            await conserved(db, loan)
            if undo and done is not None and done.kind in UNDONE and command[0] != "pay_off":
                await db.loans.reverse(done, on=day(130), key=None)
                assert await picture(db, loan) == before, command
                await agree(db)
                await conserved(db, loan)
