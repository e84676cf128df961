"""Repaying loans of 36 installments, an installment a payment, beside one transaction written by hand.

Both write the key, the payment, its allocation, a journal of two transfers with its balances, the installment and the
loan's totals, under the loan's lock. The loans are made by Tallystick and copied to the twins; after the run all rows
of both sides are compared. One held connection each; commits do not wait for the disk, which costs both the same.
"""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.figures import TIME, Row
from benchmarks.place import SLUG, Place, rows_of
from benchmarks.runner import percentile, progress
from tallystick import Loan, Money, Session, uuid7
from tallystick.domains.lending.books import Book, Own, book_id, own_id
from tallystick.testing import Make

INSTALLMENTS = 36
TABLES = (
    "account", "account_stripe", "journal", "transfer", "command_key", "loan", "loan_schedule", "loan_installment",
    "loan_transaction", "loan_allocation",
)  # fmt: skip

Plan = list[tuple[date, int]]
"""Due dates and what is due, in minor units."""
Repay = Callable[[Loan, date, int], Awaitable[Any]]


async def make_loans(db: Session, count: int) -> list[tuple[Loan, Plan]]:
    make = Make(db)
    product = await make.loan_product(default_rate=Decimal("0.12"), default_installments=INSTALLMENTS)
    found = []
    for number in range(count):
        loan = await make.active_loan(outstanding=Money(1_000_000 + 1_000 * number, "USD"), product=product)
        plan = await db.loans.schedule(loan)
        found.append((loan, [(i.due, i.total.units) for i in plan]))
        progress(f"repay: {number + 1} loans made")
    return found


def ours(db: Session) -> Repay:
    async def repay(loan: Loan, on: date, units: int) -> Any:
        return await db.loans.repay(loan.id, Money(units, "USD"), on=on, key=str(uuid7()))

    return repay


_CLAIM = (
    "insert into hand.command_key (tenant_id, id, op, key, request, results) "
    "values ($1, $2, 'loans.repayment', $3, $4, $5) on conflict (tenant_id, op, key) do nothing returning id"
)
_LOCK = (
    "select status, asset, disbursed_on, charged_off_on from hand.loan where tenant_id = $1 and id = $2 "
    "for no key update"
)
# One look for what is open and one for what happened; after the lock, so that both see what it waited for.
_OPEN = (
    "select id, schedule_id, principal - principal_paid - principal_written_off, "
    "interest - interest_paid - interest_waived - interest_written_off, "
    "fees - fees_paid - fees_waived - fees_written_off, "
    "penalties - penalties_paid - penalties_waived - penalties_written_off "
    "from hand.loan_installment where tenant_id = $1 and loan_id = $2 and current and settled_on is null "
    "order by due, seq"
)
_LAST = "select max(seq), max(effective) from hand.loan_transaction where tenant_id = $1 and loan_id = $2"
_JOURNAL = (
    "insert into hand.journal (tenant_id, id, op, effective, source, source_id) "
    "values ($1, $2, 'loan.repayment', $3, 'loan', $4)"
)
_TRANSFER = (
    "insert into hand.transfer (tenant_id, id, journal_id, seq, debit_id, credit_id, asset, amount, phase) "
    "values ($1, $2, $3, $4, $5, $6, 'USD', $7, 'posted')"
)
_MOVE = "update hand.account set debits = debits + $3, credits = credits + $4 where tenant_id = $1 and id = $2"
_MOVE_STRIPE = (
    "update hand.account_stripe set debits = debits + $4, credits = credits + $5 "
    "where tenant_id = $1 and account_id = $2 and number = $3"
)
_PAYMENT = (
    "insert into hand.loan_transaction (tenant_id, id, loan_id, seq, kind, effective, amount, asset, principal, "
    "interest, fees, penalties, overpaid, journal_id) "
    "values ($1, $2, $3, $4, 'repayment', $5, $6, 'USD', $7, $8, $9, $10, 0, $11)"
)
_ALLOCATION = (
    "insert into hand.loan_allocation (tenant_id, id, loan_id, schedule_id, transaction_id, cause_id, effective, "
    "installment_id, settlement, principal, asset, interest, fees, penalties, overpaid) "
    "values ($1, $2, $3, $4, $5, $5, $6, $7, 'paid', $8, 'USD', $9, $10, $11, 0)"
)
_INSTALLMENT = (
    "update hand.loan_installment set principal_paid = principal_paid + $3, interest_paid = interest_paid + $4, "
    "fees_paid = fees_paid + $5, penalties_paid = penalties_paid + $6, settled_on = $7 where tenant_id = $1 and id = $2"
)
_TOTALS = (
    "update hand.loan set principal_outstanding = principal_outstanding - $3, "
    "interest_outstanding = interest_outstanding - $4, fees_outstanding = fees_outstanding - $5, "
    "penalties_outstanding = penalties_outstanding - $6, outstanding = outstanding - $3 - $4 - $5 - $6, "
    "oldest_due = (select min(due) from hand.loan_installment where tenant_id = $1 and loan_id = $2 and current and "
    "settled_on is null) where tenant_id = $1 and id = $2 returning outstanding, principal_outstanding, oldest_due"
)
_ORDER = (3, 2, 1, 0)
"""Penalties, fees, interest, principal: places in (principal, interest, fees, penalties)."""


def by_hand(conn: asyncpg.Connection, db: Session) -> Repay:
    """What a careful engineer writes: a statement an effect, nothing read or written that is not needed."""
    tenant = db.tenant_id
    clearing, income = book_id(db, Book.CLEARING, "USD"), book_id(db, Book.INTEREST_INCOME, "USD")

    async def repay(loan: Loan, on: date, units: int) -> Any:
        id, key, payment, journal = loan.id, str(uuid7()), uuid7(), uuid7()
        request = hashlib.sha256(f"{id}:{units}:{on}".encode()).digest()
        async with conn.transaction():
            if await conn.fetchval(_CLAIM, tenant, uuid7(), key, request, f'["{payment}"]') is None:
                raise LookupError(key)
            status, asset, since, charged_off = await conn.fetchrow(_LOCK, tenant, id)
            if status != "active" or asset != "USD" or on < since or charged_off is not None:
                raise LookupError(status)
            left = await conn.fetch(_OPEN, tenant, id)
            seq, last = await conn.fetchrow(_LAST, tenant, id)
            if last is not None and on < last:
                raise LookupError(last)
            parts = allocate([tuple(row) for row in left], units)
            paid = [sum(part[2][at] for part in parts) for at in range(4)]
            await conn.execute(_JOURNAL, tenant, journal, on, id)
            legs = [(own_id(id, Own.PRINCIPAL), paid[0]), (income, paid[1])]
            transfers = [(uuid7(), journal, n, clearing, to, part) for n, (to, part) in enumerate(legs, 1) if part]
            await conn.executemany(_TRANSFER, [(tenant, *row) for row in transfers])
            lane = journal.bytes[-1] % 16
            await conn.execute(_MOVE, tenant, legs[0][0], 0, paid[0])
            stripes = sorted([(clearing, lane, units, 0), (income, lane, 0, paid[1])])
            await conn.executemany(_MOVE_STRIPE, [(tenant, *row) for row in stripes])
            await conn.execute(_PAYMENT, tenant, payment, id, (seq or 0) + 1, on, units, *paid, journal)
            allocations = [(tenant, uuid7(), id, schedule, payment, on, at, *p) for at, schedule, p, _ in parts]
            await conn.executemany(_ALLOCATION, allocations)
            await conn.executemany(_INSTALLMENT, [(tenant, at, *p, on if whole else None) for at, _, p, whole in parts])
            return payment, await conn.fetchrow(_TOTALS, tenant, id, *paid)

    return repay


def allocate(left: list[tuple[Any, ...]], units: int) -> list[tuple[UUID, UUID, list[int], bool]]:
    """(installment, schedule, amounts by component, whether it is settled) by due date, then by component."""
    found = []
    for id, schedule, *open_ in left:
        if not units:
            break
        part = [0, 0, 0, 0]
        for at in _ORDER:
            part[at] = min(units, open_[at])
            units -= part[at]
        found.append((id, schedule, part, part == open_))
    return found


async def _batch(repay: Repay, calls: list[tuple[Loan, date, int]]) -> list[int]:
    clock, taken = time.perf_counter_ns, []
    for call in calls:
        started = clock()
        await repay(*call)
        taken.append(clock() - started)
    return taken


_COMPARED = {
    "loan": "id, status, outstanding, principal_outstanding, interest_outstanding, overpaid, oldest_due, closed_on",
    "loan_installment": "id, principal_paid, interest_paid, fees_paid, penalties_paid, settled_on",
    "loan_transaction": "loan_id, seq, kind, effective, amount, principal, interest, fees, penalties, overpaid",
    "loan_allocation": "loan_id, installment_id, effective, settlement, principal, interest, fees, penalties",
    "account": "id, debits, credits, debits_pending, credits_pending",
    "account_stripe": "account_id, sum(debits), sum(credits)",
    "transfer": "debit_id, credit_id, amount, seq",
}


async def check(place: Place) -> None:
    """Both sides hold the same rows, ids that they chose themselves left out."""
    for table, columns in _COMPARED.items():
        group = " group by 1" if "sum(" in columns else ""
        order = ", ".join(str(n + 1) for n in range(columns.count(",") + 1))
        mine, theirs = [
            await rows_of(place.admin, f"select {columns} from {schema}.{table}{group} order by {order}")
            for schema in ("tally", "hand")
        ]
        if mine != theirs:
            raise AssertionError(f"after the payments {table} differs from what was written by hand")


async def measure(
    place: Place, *, quick: bool, loans: int | None = None, payments: int | None = None, batch: int = 10
) -> list[Row]:
    """Medians of single payments, in turns of a batch each."""
    count = loans or (40 if quick else 80)
    each = payments or (8 if quick else 14)
    async with place.tally.session(SLUG, actor="bench", permissions=["*"]) as db:
        made = await make_loans(db, count)
    await _copy(place)
    calls = [(loan, *plan[n]) for n in range(each) for loan, plan in made]
    taken: dict[str, list[int]] = {"ours": [], "by hand": []}
    async with AsyncExitStack() as stack:
        tally = await stack.enter_async_context(place.opened(1))
        db = await stack.enter_async_context(tally.session(SLUG, actor="bench"))
        (conn,) = await stack.enter_async_context(place.by_hand())
        sides = {"ours": ours(db), "by hand": by_hand(conn, db)}
        gc.collect()
        gc.freeze()
        # The first payment of each loan prepares statements and fills tables, for which plans are then made anew.
        for repay in sides.values():
            await _batch(repay, calls[:count])
        await place.analyze(*TABLES)
        for turn, start in enumerate(range(count, len(calls), batch)):
            for side in list(sides)[:: 1 if turn % 2 else -1]:
                gc.collect()
                taken[side] += await _batch(sides[side], calls[start : start + batch])
            progress(f"repay: {start + batch} of {len(calls)}")
        gc.unfreeze()
    progress("")
    await check(place)
    mine, theirs = (percentile(taken[side], 0.5) / 1000 for side in ("ours", "by hand"))
    return [Row(f"repay, {INSTALLMENTS} installments", TIME, mine, theirs, mine / theirs)]


async def _copy(place: Place) -> None:
    """The twins as the tables are now; what other rows of the report left there is of no use any more."""
    await place.admin.execute(f"truncate {', '.join(f'hand.{table}' for table in TABLES)}")
    await place.copy(*TABLES)
