"""Portfolio at risk over 100,000 active loans, today and at a past date, beside queries written by hand.

The loans are written as a set by the owner of the tables with triggers off, because asking for them one by one would
take an hour: three installments each, those that fell due paid on the day but for the late ones, and 10,000 loans that
are closed. Totals, payments and allocations are what the triggers would have made, and are recounted.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import date, timedelta
from typing import Any

import asyncpg

from benchmarks.figures import TIME, Row
from benchmarks.place import SLUG, Place
from benchmarks.runner import percentile, progress
from tallystick import Session, User, UserStatus
from tallystick.domains.lending.risk import PortfolioAtRisk, first_day
from tallystick.testing import Make

ACTIVE, CLOSED = 100_000, 10_000
PARTS, DAYS = 3, 60
THRESHOLDS = (1, 30, 60, 90)
DAYS_BACK = 45
MOST, WITHIN = 1.2, 150_000.0
TABLES = ("loan", "loan_schedule", "loan_installment", "loan_transaction", "loan_allocation", "loan_charge")

# $1 tenant, $2 borrower, $3 product, $4 today, $5 active, $6 closed loans. A loan is 20 to 169 days old when it is
# active and falls due every sixty; four in five pay on the day, the others are one to three installments late. Ids
# grow, as those of the library do.
_IDS = {
    name: f"('01900000-000{kind}-7000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid"
    for kind, (name, number) in enumerate(
        [("loan", "n"), ("schedule", "n"), *((row, "n * 4 + k") for row in ("installment", "payment", "allocation"))]
    )
}
_LOANS = """
create temporary table made as
select n, {loan} as id, {schedule} as schedule_id, $1::uuid as tenant_id, $2::uuid as borrower_id,
  $3::uuid as product_id, $4::date - age as since, base, least({parts}, greatest(0, age / {days} - late)) as paid
from (
  select n, 10000 + n::bigint * 7919 % 90000 as base,
    case when n <= $5 then 20 + (n::bigint * 104729 % 150)::int else 200 + n % 100 end as age,
    case when n > $5 or n % 100 < 80 then 0 when n % 100 < 90 then 1 when n % 100 < 96 then 2 else 3 end as late
  from generate_series(1, $5::int + $6::int) n
) x
"""
_WRITTEN = (
    """
insert into tally.loan (tenant_id, id, number, borrower_id, product_id, principal, asset, annual_rate, installments,
  status, requested_on, approved_on, disbursed_on, matures_on, fraud, boarded, details, disbursed, outstanding,
  principal_outstanding, interest_outstanding, oldest_due, closed_on)
select tenant_id, id, 1000000 + n, borrower_id, product_id, base * {parts}, 'USD', 0.12, {parts},
  case when paid = {parts} then 'closed' else 'active' end, since, since, since, since + {days} * {parts}, false, false,
  '{{}}', base * {parts}, (base + base / 100) * ({parts} - paid), base * ({parts} - paid),
  base / 100 * ({parts} - paid), case when paid < {parts} then since + {days} * (paid + 1) end,
  case when paid = {parts} then since + {days} * {parts} end
from made order by n
""",
    """
insert into tally.loan_schedule (tenant_id, id, loan_id, edition, reason, since, current)
select tenant_id, schedule_id, id, 1, 'original', since, true from made order by n
""",
    """
insert into tally.loan_installment (tenant_id, id, loan_id, schedule_id, seq, kind, start, due, principal, asset,
  interest, fees, penalties, principal_paid, interest_paid, settled_on, current)
select tenant_id, {installment}, id, schedule_id, k, 'regular', since + {days} * (k - 1), since + {days} * k, base,
  'USD', base / 100, 0, 0, case when k <= paid then base else 0 end, case when k <= paid then base / 100 else 0 end,
  case when k <= paid then since + {days} * k end, true
from made, generate_series(1, {parts}) k order by n, k
""",
    """
insert into tally.loan_transaction (tenant_id, id, loan_id, seq, kind, effective, amount, asset, principal, interest,
  fees, penalties, overpaid)
select tenant_id, {payment}, id, k, 'repayment', since + {days} * k, base + base / 100, 'USD', base, base / 100,
  0, 0, 0
from made, generate_series(1, paid) k order by n, k
""",
    """
insert into tally.loan_allocation (tenant_id, id, loan_id, schedule_id, transaction_id, cause_id, effective,
  installment_id, settlement, principal, asset, interest, fees, penalties, overpaid)
select i.tenant_id, {allocation}, i.loan_id, i.schedule_id, t.id, t.id, t.effective, i.id, 'paid', i.principal,
  'USD', i.interest, 0, 0, 0
from tally.loan_installment i join tally.loan_transaction t on t.tenant_id = i.tenant_id and t.loan_id = i.loan_id
  and t.seq = i.seq and t.kind = 'repayment' join made on made.id = i.loan_id, lateral (select i.seq as k) k
""",
)

_NOW = """
select asset, width_bucket(case when oldest_due < $2 then $2 - oldest_due else 0 end, $3::int[]) as band, count(*),
  sum(principal_outstanding)
from hand.loan where tenant_id = $1 and status = 'active' group by 1, 2
"""
_THEN = """
select l.asset, width_bucket(case when min(x.due) < $2 then $2 - min(x.due) else 0 end, $3::int[]) as band,
  sum(x.principal) as principal
from hand.loan l join (
  select i.loan_id, i.due, i.principal - coalesce(sum(a.principal), 0) as principal,
    i.principal + i.interest - coalesce(sum(a.principal + a.interest), 0) as total
  from hand.loan_schedule s
  join hand.loan_installment i on i.tenant_id = s.tenant_id and i.schedule_id = s.id
  left join hand.loan_allocation a on a.tenant_id = i.tenant_id and a.installment_id = i.id and a.effective <= $2
  where s.tenant_id = $1 and s.since <= $2 and s.current
  group by i.loan_id, i.id, i.due, i.principal, i.interest
) x on x.loan_id = l.id
where l.tenant_id = $1 and l.status in ('active', 'closed') and x.total > 0 group by l.id, l.asset
"""
_THEN_SUMMED = f"select asset, band, count(*), sum(principal) from ({_THEN}) y group by 1, 2"

_WRONG = """
select count(*) from tally.loan l join made m on m.id = l.id join lateral (
  select sum(i.principal - i.principal_paid) as principal, sum(i.interest - i.interest_paid) as interest,
    min(i.due) filter (where i.settled_on is null) as oldest,
    sum(i.principal_paid + i.interest_paid) - (select coalesce(sum(a.principal + a.interest), 0)
      from tally.loan_allocation a where a.tenant_id = l.tenant_id and a.loan_id = l.id) as apart
  from tally.loan_installment i where i.tenant_id = l.tenant_id and i.loan_id = l.id and i.current offset 0
) t on true
where l.principal_outstanding <> t.principal or l.interest_outstanding <> t.interest or t.apart <> 0
  or l.oldest_due is distinct from t.oldest or l.outstanding <> t.principal + t.interest
  or (l.status = 'closed') <> (l.outstanding = 0)
"""

Figures = list[tuple[int, int, int]]
"""(threshold, loans, minor units) at risk, behind the whole portfolio as threshold 0."""


def _written(statement: str) -> str:
    return statement.format(parts=PARTS, days=DAYS, **_IDS)


async def make_portfolio(place: Place, today: date, active: int, closed: int) -> None:
    admin = place.admin
    async with place.tally.session(SLUG, actor="bench", permissions=["*"]) as db:
        make = Make(db)
        product = await make.loan_product(default_installments=PARTS)
        borrower = await db.users.add(User(status=UserStatus.ACTIVE))
    async with place.trusted(*TABLES):
        await admin.execute(
            _written(_LOANS).replace("$1", f"'{place.tenant}'").replace("$2", f"'{borrower.id}'")
            .replace("$3", f"'{product.id}'").replace("$4", f"'{today}'").replace("$5", str(active))
            .replace("$6", str(closed))
        )  # fmt: skip
        await admin.execute("analyze made")
        for statement in _WRITTEN:
            table = statement.split()[2]
            await admin.execute(_written(statement))
            await admin.execute(f"analyze {table}")
            progress(f"par: {table} written")
        if wrong := await admin.fetchval(_WRONG):
            raise AssertionError(f"{wrong} loans were written otherwise than the triggers would have")
        await admin.execute("drop table made")


def figures_of(par: PortfolioAtRisk) -> Figures:
    line = par.of("USD")
    if line is None:
        return []
    whole = (0, line.portfolio.loans, line.portfolio.principal.units)
    return [whole, *((r.threshold, r.loans, r.principal.units) for r in line.at_risk)]


def figures_by_hand(rows: list[Any]) -> Figures:
    found = []
    for place, threshold in enumerate((0, *THRESHOLDS)):
        kept = [row for row in rows if row[1] >= place]
        found.append((threshold, sum(row[2] for row in kept), int(sum(row[3] for row in kept))))
    return found


Ask = Callable[[], Awaitable[Figures]]


def ours(db: Session, on: date | None) -> Ask:
    async def ask() -> Figures:
        return figures_of(await db.portfolio.par(on, THRESHOLDS))

    return ask


def by_hand(conn: asyncpg.Connection, place: Place, sql: str, on: date) -> Ask:
    steps = [first_day(threshold) for threshold in THRESHOLDS]

    async def ask() -> Figures:
        return figures_by_hand(await conn.fetch(sql, place.tenant, on, steps))

    return ask


async def measure(
    place: Place, *, quick: bool, active: int = ACTIVE, closed: int = CLOSED, rounds: int | None = None
) -> list[Row]:
    """Medians of whole answers, ours and by hand in turns, after both answered the same."""
    async with place.tally.session(SLUG, actor="bench", permissions=["*"]) as db:
        today = db.today()
    started = time.monotonic()
    await make_portfolio(place, today, active, closed)
    await place.admin.execute("truncate hand.account, hand.command_key, hand.loan cascade")
    read = ("loan", "loan_schedule", "loan_installment", "loan_allocation")
    # No query looks a reference up; a million look-ups are saved where the copies have none.
    await place.unreferenced(*read)
    await place.copy(*read)
    await place.analyze(*read, freeze=True)
    progress(f"par: {active + closed:,} loans in {time.monotonic() - started:.0f} s")
    past = today - timedelta(days=DAYS_BACK)
    times = {"now": rounds or (15 if quick else 40), "then": max(2, (rounds or 4) // 2) if quick else rounds or 6}
    async with AsyncExitStack() as stack:
        tally = await stack.enter_async_context(place.opened(1))
        db = await stack.enter_async_context(tally.session(SLUG, actor="bench"))
        (conn,) = await stack.enter_async_context(place.by_hand())
        now = await _asked("par, today", ours(db, None), by_hand(conn, place, _NOW, today), times["now"])
        then = await _asked(
            f"par, {DAYS_BACK} days ago", ours(db, past), by_hand(conn, place, _THEN_SUMMED, past), times["then"]
        )
    loans = f"par over {active:,} loans"
    return [
        Row(f"{loans}, today", TIME, *now, most=MOST, within=WITHIN),
        Row(f"{loans}, a past date", TIME, *then),
    ]


async def _asked(name: str, mine: Ask, theirs: Ask, rounds: int) -> tuple[float, float, float]:
    first, second = await mine(), await theirs()
    if first != second or not first or not first[1][1]:
        raise AssertionError(f"{name}: {first} is not {second}")
    taken: dict[Ask, list[int]] = {mine: [], theirs: []}
    for turn in range(rounds + 2):
        for ask in (mine, theirs) if turn % 2 else (theirs, mine):
            gc.collect()
            started = time.perf_counter_ns()
            await ask()
            # Twice more, until the server has settled on a plan.
            if turn > 1:
                taken[ask].append(time.perf_counter_ns() - started)
        progress(f"{name}: {turn + 1} of {rounds + 2}")
    progress("")
    found, beside = (percentile(taken[ask], 0.5) / 1000 for ask in (mine, theirs))
    return found, beside, found / beside
