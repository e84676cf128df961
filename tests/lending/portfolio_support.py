"""Loan books written row by row, and an oracle that reads every row and counts in plain Python."""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from tallystick.domains.community.communities import Community
from tallystick.domains.identity.users import User
from tallystick.domains.lending.calendar import Frequency
from tallystick.domains.lending.daycount import DayCount
from tallystick.domains.lending.installments import LoanInstallment, LoanSchedule, ScheduleReason
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.pauses import DelinquencyPause
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.servicing import ChargeKind, Servicing
from tallystick.domains.lending.terms import Amortization, InterestCalc, InterestMethod, Terms
from tallystick.domains.lending.transactions import (
    LoanAllocation,
    LoanCharge,
    LoanTransaction,
    Settlement,
    TransactionKind,
)
from tallystick.ids import uuid7
from tallystick.money import Money
from tallystick.session import Session

K = TransactionKind
PARTS = ("principal", "interest", "fees", "penalties")
SETTLED = {K.WAIVER: Settlement.WAIVED, K.WRITE_OFF: Settlement.WRITTEN_OFF}
TERMS = Terms(
    interest_method=InterestMethod.DECLINING_BALANCE,
    amortization=Amortization.EQUAL_INSTALLMENTS,
    interest_calc=InterestCalc.PER_PERIOD,
    day_count=DayCount.THIRTY_360,
    frequency=Frequency.MONTHS,
)
RESTRUCTURES = (ScheduleReason.RESCHEDULE, ScheduleReason.REAGE, ScheduleReason.REAMORTIZE)


async def product_of(
    db: Session, code: str = "plain", asset: str = "USD", servicing: Servicing | None = None
) -> LoanProduct:
    return await db[LoanProduct].add(
        LoanProduct(
            code=code,
            name=code,
            min_principal=Money(1, asset),
            max_principal=Money(10**9, asset),
            default_rate=Decimal("0.12"),
            default_installments=4,
            terms=TERMS,
            servicing=servicing or Servicing(),
        )
    )


async def person(db: Session, name: str) -> User:
    return await db[User].add(User(email=f"{name}-{uuid7().hex}@example.org", first_name=name))


@dataclass
class Row:
    """An installment to be made, in minor units."""

    due: date
    principal: int
    interest: int = 0
    fees: int = 0
    penalties: int = 0


@dataclass
class Book:
    """A loan under construction, and what of each installment of its current version is left."""

    db: Session
    loan: Loan
    schedule: LoanSchedule
    installments: list[LoanInstallment]
    left: list[list[int]]
    seq: int = 0
    transactions: list[LoanTransaction] = field(default_factory=list)

    def money(self, units: int) -> Money:
        return Money(units, self.loan.asset)

    async def record(
        self, kind: TransactionKind, on: date, parts: Sequence[int], overpaid: int = 0, **more: Any
    ) -> LoanTransaction:
        self.seq += 1
        amount = more.pop("amount", sum(parts) + overpaid)
        made = await self.db[LoanTransaction].add(
            LoanTransaction(
                loan=self.loan.ref,
                seq=self.seq,
                kind=kind,
                effective=on,
                amount=self.money(amount),
                **{name: self.money(n) for name, n in zip(PARTS, parts, strict=True)},
                overpaid=self.money(overpaid),
                **more,
            )
        )
        self.transactions.append(made)
        return made

    async def allocate(
        self, t: LoanTransaction, places: dict[int, list[int]], overpaid: int = 0, cause: LoanTransaction | None = None
    ) -> None:
        rows = [(self.installments[at].ref, parts, 0) for at, parts in places.items()]
        if overpaid:
            rows.append((None, [0, 0, 0, 0], overpaid))  # type: ignore[arg-type]
        await self.db[LoanAllocation].add_many(
            [
                LoanAllocation(
                    loan=self.loan.ref,
                    schedule=self.schedule.ref,
                    transaction=t.ref,
                    cause=(cause or t).ref,
                    effective=t.effective,
                    installment=place,
                    settlement=SETTLED.get(t.kind, Settlement.PAID),
                    **{name: self.money(n) for name, n in zip(PARTS, parts, strict=True)},
                    overpaid=self.money(over),
                )
                for place, parts, over in rows
            ]
        )
        for at, parts in places.items():
            self.left[at] = [a - b for a, b in zip(self.left[at], parts, strict=True)]

    async def pay(self, amount: int, on: date, kind: TransactionKind = K.REPAYMENT) -> LoanTransaction:
        """The oldest installment first, interest before principal; what is too much is owed to the borrower."""
        places, rest = {}, amount
        for at, left in enumerate(self.left):
            parts = [0, 0, 0, 0]
            for n in (3, 2, 1, 0):
                parts[n] = min(rest, left[n])
                rest -= parts[n]
            if any(parts):
                places[at] = parts
        sums = [sum(p[n] for p in places.values()) for n in range(4)]
        made = await self.record(kind, on, sums, rest)
        await self.allocate(made, places, rest)
        return made

    async def waive_interest(self, at: int, on: date) -> LoanTransaction | None:
        interest = self.left[at][1]
        if not interest:
            return None
        made = await self.record(K.WAIVER, on, [0, interest, 0, 0])
        await self.allocate(made, {at: [0, interest, 0, 0]})
        return made

    async def reverse(self, t: LoanTransaction, on: date) -> None:
        rows = await self.db[LoanAllocation].find(LoanAllocation.transaction == t.ref)
        made = await self.record(K.REVERSAL, on, [0] * 4, amount=t.amount.units, reverses=t.ref)
        at = {i.id: n for n, i in enumerate(self.installments)}
        places = {
            at[r.installment.id]: [-getattr(r, name).units for name in PARTS]
            for r in rows
            if r.installment is not None and r.installment.id in at
        }
        if any(r.schedule.id == self.schedule.id for r in rows):
            await self.allocate(t, places, -sum(r.overpaid.units for r in rows), made)

    async def charge(self, kind: ChargeKind, at: int, amount: int, on: date) -> None:
        source = None
        if kind is ChargeKind.CHARGEBACK:
            paid = next(t for t in self.transactions if t.kind is K.REPAYMENT)
            source = await self.record(K.CHARGEBACK, on, [0] * 4, amount=amount, concerns=paid.ref)
        await self.db[LoanCharge].add(
            LoanCharge(
                loan=self.loan.ref,
                installment=self.installments[at].ref,
                kind=kind,
                code="test",
                due=on,
                effective=on,
                after=max((t.seq for t in self.transactions), default=1),
                amount=self.money(amount),
                source=None if source is None else source.ref,
            )
        )
        self.left[at][{ChargeKind.FEE: 2, ChargeKind.PENALTY: 3, ChargeKind.CHARGEBACK: 0}[kind]] += amount

    async def reschedule(self, rows: list[Row], on: date, reason: ScheduleReason) -> None:
        """Another plan: what was settled as one installment of its own, and rows that are all that is left."""
        db, old = self.db, self.schedule
        nets: dict[UUID, list[int]] = {}
        for a in await db[LoanAllocation].find(LoanAllocation.schedule == old.ref):
            net = nets.setdefault(a.transaction.id, [0] * 5)
            for n, name in enumerate((*PARTS, "overpaid")):
                net[n] += getattr(a, name).units
        settled = [sum(net[n] for net in nets.values()) for n in range(4)]
        # The database lets no plan go before another asks for as much.
        old_principal = sum(i.principal.units for i in await self._rows(old))
        first = Row(min(on, min(r.due for r in rows)), *settled)
        missing = max(0, old_principal - settled[0] - sum(r.principal for r in rows))
        rows = [*rows[:-1], dataclasses.replace(rows[-1], principal=rows[-1].principal + missing)]
        every = [first, *rows] if any(settled) else rows
        await db[LoanSchedule].update_where(LoanSchedule.loan == self.loan.ref, current=False)
        self.schedule, self.installments = await plan(db, self.loan, every, on, reason, old.edition + 1)
        await db[LoanInstallment].update_where(LoanInstallment.schedule == old.ref, current=False)
        self.left = [[r.principal, r.interest, r.fees, r.penalties] for r in every]
        made = await self.record(K.RESTRUCTURE, on, [0] * 4, amount=sum(r.principal + r.interest for r in rows))
        for t in self.transactions:
            net = nets.get(t.id)
            if net is not None and any(net):
                await self.allocate(t, {0: net[:4]} if any(net[:4]) else {}, net[4], made)

    async def _rows(self, schedule: LoanSchedule) -> list[LoanInstallment]:
        return await self.db[LoanInstallment].find(LoanInstallment.schedule == schedule.ref)

    async def charge_off(self, on: date) -> None:
        await self.record(K.CHARGE_OFF, on, [sum(left[n] for left in self.left) for n in range(4)])
        self.loan = await self.db[Loan].update(await self.db[Loan].get(self.loan.id), charged_off_on=on)

    async def write_off(self, on: date) -> None:
        now = await self.db[Loan].get(self.loan.id)
        self.loan = await self.db[Loan].update(now, status=LoanStatus.WRITTEN_OFF, written_off_on=on)
        places = {at: list(left) for at, left in enumerate(self.left) if any(left)}
        made = await self.record(K.WRITE_OFF, on, [sum(p[n] for p in places.values()) for n in range(4)])
        await self.allocate(made, places)


async def plan(
    db: Session, loan: Loan, rows: list[Row], since: date, reason: ScheduleReason, edition: int
) -> tuple[LoanSchedule, list[LoanInstallment]]:
    schedule = await db[LoanSchedule].add(LoanSchedule(loan=loan.ref, edition=edition, reason=reason, since=since))
    made = await db[LoanInstallment].add_many(
        [
            LoanInstallment(
                loan=loan.ref,
                schedule=schedule.ref,
                seq=n,
                start=min(since, row.due),
                due=row.due,
                **{name: Money(getattr(row, name), loan.asset) for name in PARTS},
            )
            for n, row in enumerate(rows, 1)
        ]
    )
    return schedule, made


_NUMBERS = iter(range(1, 10**9))


async def lend(
    db: Session,
    product: LoanProduct,
    borrower: User,
    rows: list[Row],
    on: date,
    *,
    community: Community | None = None,
    boarded_on: date | None = None,
) -> Book:
    """An active loan that was paid out on a day, or taken over from elsewhere on a later one."""
    principal = Money(sum(r.principal for r in rows), product.asset)
    loan = await db[Loan].add(
        Loan(
            number=next(_NUMBERS),
            borrower=borrower.ref,
            product=product.ref,
            community=None if community is None else community.ref,
            principal=principal,
            annual_rate=Decimal("0.12"),
            installments=len(rows),
            status=LoanStatus.APPROVED,
            requested_on=on,
            approved_on=on,
            boarded=boarded_on is not None,
        )
    )
    since = boarded_on or on
    reason = ScheduleReason.ORIGINAL if boarded_on is None else ScheduleReason.BOARDED
    schedule, made = await plan(db, loan, rows, since, reason, 1)
    loan = await db[Loan].update(await db[Loan].get(loan.id), status=LoanStatus.ACTIVE, disbursed_on=on)
    book = Book(db, loan, schedule, made, [[r.principal, r.interest, r.fees, r.penalties] for r in rows])
    if boarded_on is None:
        await book.record(K.DISBURSEMENT, on, [principal.units, 0, 0, 0])
    return book


# -- random books --------------------------------------------------------------------------------------------------


async def random_books(db: Session, seed: int, count: int, today: date) -> list[Book]:
    """Loans of some years, paid well and badly, with everything that can happen to them."""
    rng = random.Random(seed)
    products = [
        await product_of(db, "plain"),
        await product_of(db, "grace", servicing=Servicing(arrears_grace_days=5)),
        await product_of(db, "tolerant", servicing=Servicing(arrears_tolerance=Decimal("12.50"), arrears_grace_days=2)),
        await product_of(db, "euro", "EUR"),
    ]
    communities = [await db[Community].add(Community(name=n, slug=n, asset="USD")) for n in ("north", "south")]
    people = [await person(db, f"p{n}") for n in range(5)]
    books = []
    for _ in range(count):
        product = rng.choice(products)
        on = today - timedelta(days=rng.randint(5, 600))
        step = rng.choice((15, 30))
        rows = [
            Row(on + timedelta(days=step * n), rng.randint(500, 20_000), rng.choice((0, rng.randint(1, 900))))
            for n in range(1, rng.randint(2, 9))
        ]
        boarded = None
        if rng.random() < 0.1:
            boarded = min(on + timedelta(days=rng.randint(0, 90)), today)
        community = rng.choice([*communities, None]) if product.asset == "USD" else None
        book = await lend(db, product, rng.choice(people), rows, on, community=community, boarded_on=boarded)
        books.append(book)
        await _live(book, rng, boarded or on, today)
    return books


async def _live(book: Book, rng: random.Random, since: date, today: date) -> None:
    day, habit = since, rng.random()
    pauses: date = since
    while True:
        day += timedelta(days=rng.randint(3, 40))
        if day > today:
            return
        what = rng.random()
        loan = await book.db[Loan].get(book.loan.id)
        owed = sum(map(sum, book.left))
        if loan.status is not LoanStatus.ACTIVE:
            if loan.status is LoanStatus.WRITTEN_OFF:
                return
            if what < 0.3:
                await _take_back(book, rng, day)
            continue
        if what < 0.45 + habit / 3:
            ask = rng.choice((sum(book.left[0]) or 700, rng.randint(1, 9_000), min(owed, 1200), owed // 3 or 1))
            when = day if rng.random() < 0.8 else max(since, day - timedelta(days=rng.randint(0, 30)))
            await book.pay(min(ask, owed + 300), when)
        elif what < 0.55 + habit / 3:
            await _take_back(book, rng, day)
        elif what < 0.65 + habit / 3:
            at = rng.randrange(len(book.left))
            await book.charge(rng.choice((ChargeKind.FEE, ChargeKind.PENALTY)), at, rng.randint(1, 1500), day)
        elif what < 0.68 + habit / 3:
            if any(t.kind is K.REPAYMENT for t in book.transactions):
                await book.charge(ChargeKind.CHARGEBACK, rng.randrange(len(book.left)), rng.randint(1, 400), day)
        elif what < 0.72 + habit / 3:
            await book.waive_interest(rng.randrange(len(book.left)), day)
        elif what < 0.80 + habit / 3 and day > pauses:
            end = day + timedelta(days=rng.randint(0, 40))
            await book.db[DelinquencyPause].add(DelinquencyPause(loan=book.loan.ref, starts_on=day, ends_on=end))
            pauses = end
        elif what < 0.86 + habit / 3 and owed:
            parts = [sum(left[n] for left in book.left) for n in range(4)]
            n = rng.randint(1, 4)
            rows = [
                Row(day + timedelta(days=30 * k), *(p // n + (p % n if k == n else 0) for p in parts))
                for k in range(1, n + 1)
            ]
            await book.reschedule(rows, day, rng.choice((*RESTRUCTURES, ScheduleReason.TRANCHE)))
        elif what < 0.89 + habit / 3 and loan.charged_off_on is None:
            await book.charge_off(day)
        elif what < 0.91 + habit / 3:
            await book.write_off(day)


async def _take_back(book: Book, rng: random.Random, day: date) -> None:
    taken = {t.reverses.id for t in book.transactions if t.reverses is not None}
    rows = [
        t for t in book.transactions if t.kind in (K.REPAYMENT, K.WAIVER) and t.id not in taken and t.effective <= day
    ]
    if rows:
        await book.reverse(rng.choice(rows), day)


# -- the oracle ----------------------------------------------------------------------------------------------------


@dataclass
class Owing:
    """One installment on the day, with what was left of it."""

    due: date
    left: list[int]

    @property
    def total(self) -> int:
        return sum(self.left)


@dataclass
class Seen:
    """A loan on the day, counted in plain Python."""

    loan: Loan
    product: LoanProduct
    rows: list[Owing]
    since: date | None
    days: int
    paused: list[tuple[date, date]]
    restructured: bool
    charged_off: bool
    on: date

    @property
    def principal(self) -> int:
        return sum(r.left[0] for r in self.rows)

    @property
    def outstanding(self) -> int:
        return sum(r.total for r in self.rows)

    @property
    def overdue(self) -> list[Owing]:
        return [r for r in self.rows if r.due < self.on]

    def age(self, due: date) -> int:
        """Days since a due date that no pause holds, counted one by one."""
        days = (due + timedelta(days=n) for n in range(1, (self.on - due).days + 1))
        return sum(1 for day in days if not any(a <= day <= b for a, b in self.paused))


@dataclass
class Rows:
    """Every row of a tenant's lending."""

    loans: list[Loan]
    products: dict[UUID, LoanProduct]
    communities: dict[UUID, Community]
    schedules: dict[UUID, list[LoanSchedule]]
    installments: dict[UUID, list[LoanInstallment]]
    transactions: dict[UUID, list[LoanTransaction]]
    allocations: dict[UUID, list[LoanAllocation]]
    charges: dict[UUID, list[LoanCharge]]
    pauses: dict[UUID, list[DelinquencyPause]]

    @classmethod
    async def read(cls, db: Session) -> Rows:
        def by(rows: list[Any], name: str) -> dict[UUID, list[Any]]:
            found: dict[UUID, list[Any]] = defaultdict(list)
            for row in rows:
                found[getattr(row, name).id].append(row)
            return found

        async def all_of(entity: Any) -> list[Any]:
            return [row async for row in db[entity].stream()]

        return cls(
            loans=await all_of(Loan),
            products={p.id: p for p in await all_of(LoanProduct)},
            communities={c.id: c for c in await all_of(Community)},
            schedules=by(await all_of(LoanSchedule), "loan"),
            installments=by(await all_of(LoanInstallment), "schedule"),
            transactions=by(await all_of(LoanTransaction), "loan"),
            allocations=by([a for a in await all_of(LoanAllocation) if a.installment is not None], "installment"),
            charges=by(await all_of(LoanCharge), "installment"),
            pauses=by(await all_of(DelinquencyPause), "loan"),
        )

    def seen(self, loan: Loan, on: date) -> Seen | None:
        """A loan as of a day; None where it owed nothing, was not there yet or was written off."""
        versions = [s for s in self.schedules[loan.id] if s.since <= on]
        if not versions or (loan.written_off_on is not None and loan.written_off_on <= on):
            return None
        version = max(versions, key=lambda s: s.edition)
        undone = {t.reverses.id for t in self.transactions[loan.id] if t.reverses is not None}
        rows = []
        for i in sorted(self.installments[version.id], key=lambda i: (i.due, i.seq)):
            left = [getattr(i, name).units for name in PARTS]
            for a in self.allocations[i.id]:
                if a.effective <= on and a.transaction.id not in undone:
                    left = [n - getattr(a, name).units for n, name in zip(left, PARTS, strict=True)]
            for c in self.charges[i.id]:
                if c.effective > on:
                    left[{"chargeback": 0, "fee": 2, "penalty": 3}[c.kind.value]] -= c.amount.units
            owing = Owing(i.due, [max(0, n) for n in left])
            if owing.total:
                rows.append(owing)
        if not rows:
            return None
        product = self.products[loan.product.id]
        paused = [(p.starts_on, p.ends_on) for p in self.pauses[loan.id]]
        found = Seen(
            loan=loan,
            product=product,
            rows=rows,
            since=None,
            days=0,
            paused=paused,
            restructured=any(s.reason in RESTRUCTURES for s in versions),
            charged_off=loan.charged_off_on is not None and loan.charged_off_on <= on,
            on=on,
        )
        unpaid, tolerance = 0, int(product.servicing.arrears_tolerance * 100)
        for row in found.overdue:
            unpaid += row.total
            if unpaid > tolerance:
                found.since = row.due
                found.days = max(0, found.age(row.due) - product.servicing.arrears_grace_days)
                break
        return found

    def all_seen(self, on: date) -> list[Seen]:
        return [s for s in (self.seen(loan, on) for loan in self.loans) if s is not None]
