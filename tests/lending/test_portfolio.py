"""Questions about the whole portfolio, each number beside an oracle that reads every row and counts in plain Python."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from tests.lending.portfolio_support import (
    PARTS,
    RESTRUCTURES,
    Book,
    K,
    Row,
    Rows,
    Seen,
    lend,
    person,
    product_of,
    random_books,
)

from tallystick import Invalid, NotFound, Tallystick, uuid7
from tallystick.domains.community.communities import Community
from tallystick.domains.lending.buckets import USUAL, Buckets
from tallystick.domains.lending.installments import ScheduleReason
from tallystick.domains.lending.provisioning import MICROFINANCE, ProvisionRates
from tallystick.domains.lending.risk import Held, Risk
from tallystick.domains.lending.servicing import Servicing
from tallystick.domains.lending.spans import Span
from tallystick.domains.lending.vintages import Measure
from tallystick.money import Money, Rounding, usd
from tallystick.session import Session

THRESHOLDS = (1, 7, 30, 60, 90)
BOUNDED = Buckets.of("3-10", "11-45", "46-120")


def held(seen: list[Seen], asset: str) -> Held:
    return Held(loans=len(seen), principal=Money(sum(s.principal for s in seen), asset))


def check_line(line: Risk, seen: list[Seen]) -> None:
    asset = line.asset
    assert line.portfolio == held(seen, asset)
    assert line.restructured == held([s for s in seen if s.restructured], asset)
    assert line.charged_off == held([s for s in seen if s.charged_off], asset)
    for found, threshold in zip(line.at_risk, THRESHOLDS, strict=True):
        least = 1 if threshold == 1 else threshold + 1
        late = [s for s in seen if s.days >= least]
        eased = [s for s in seen if s.days < least and s.restructured]
        assert (found.late, found.restructured) == (held(late, asset), held(eased, asset))
        assert (found.loans, found.principal) == (
            len(late) + len(eased),
            Money(sum(s.principal for s in late + eased), asset),
        )
        whole = line.portfolio.principal.units
        assert found.ratio == (Fraction(found.principal.units, whole) if whole else 0)


async def check_par(db: Session, rows: Rows, seen: list[Seen], on: date) -> None:
    groups = {
        None: lambda s: None,
        "product": lambda s: s.product.code,
        "community": lambda s: None if s.loan.community is None else rows.communities[s.loan.community.id].slug,
    }
    for by, group in groups.items():
        par = await db.portfolio.par(on, THRESHOLDS, by=by)
        assert (par.on, par.thresholds, par.by) == (on, THRESHOLDS, by)
        expected: dict[Any, list[Seen]] = defaultdict(list)
        for s in seen:
            expected[s.loan.asset, group(s)].append(s)
        assert {(line.asset, line.group) for line in par.lines} == set(expected)
        for line in par.lines:
            check_line(line, expected[line.asset, line.group])
            assert par.of(line.asset, line.group) is line


async def check_delinquency(db: Session, seen: list[Seen], on: date) -> None:
    for buckets in (USUAL, BOUNDED):
        sums: dict[Any, list[int]] = defaultdict(lambda: [0] * 5)

        def name(days: int, buckets: Buckets = buckets) -> str | None:
            found = buckets.of_days(days)
            return None if found is None else found.name

        for s in (s for s in seen if s.days):
            whole = sums[s.loan.asset, name(s.days)]
            for n, value in ((2, 1), (3, sum(r.total for r in s.overdue)), (4, s.principal)):
                whole[n] += value
            for row in s.overdue:
                if s.age(row.due):
                    cell = sums[s.loan.asset, name(s.age(row.due))]
                    cell[0] += 1
                    cell[1] += row.total
        found = await db.portfolio.delinquency(on, buckets=buckets)
        assert {
            (x.asset, x.bucket): [x.installments, x.amount.units, x.loans, x.overdue.units, x.principal.units]
            for x in found.lines
        } == sums
        names = [None, *(r.name for r in buckets.ranges)]
        order = [(x.asset, names.index(x.bucket)) for x in found.lines]
        assert order == sorted(order)


async def check_standing(db: Session, rows: Rows, seen: list[Seen], on: date) -> None:
    by_id = {s.loan.id: s for s in seen}
    for loan in rows.loans:
        found, s = await db.portfolio.standing(loan, on), by_id.get(loan.id)
        if s is None:
            assert (found.days_past_due, found.oldest_due, found.bucket) == (0, None, None)
            assert (found.outstanding.units, found.overdue.total.units, found.non_performing) == (0, 0, False)
            continue
        assert found.days_past_due == s.days
        assert found.days_since_due == max(0, (on - s.rows[0].due).days)
        assert found.oldest_due == s.rows[0].due
        assert [getattr(found.overdue, name).units for name in PARTS] == [
            sum(r.left[n] for r in s.overdue) for n in range(4)
        ]
        assert (found.principal_outstanding.units, found.outstanding.units) == (s.principal, s.outstanding)
        in_bucket = USUAL.of_days(s.days)
        assert found.bucket == (None if in_bucket is None else in_bucket.name)
        assert found.non_performing is (s.days >= s.product.servicing.non_performing_days)
        assert found.paused is any(a <= on <= b for a, b in s.paused)
        assert (found.charged_off, found.restructured) == (s.charged_off, s.restructured)


async def check_provisions(db: Session, seen: list[Seen], on: date) -> None:
    bounded = ProvisionRates(
        buckets=BOUNDED,
        rates={r.name: Decimal(n) / 7 for n, r in enumerate(BOUNDED.ranges, 1)},
        current=Decimal("0.013"),
        restructured=Decimal("0.2"),
    )
    for rates in (MICROFINANCE, bounded):
        sums: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
        for s in (s for s in seen if not s.charged_off):
            found = rates.buckets.of_days(s.days)
            cell = sums[s.loan.asset, None if found is None else found.name, s.restructured]
            cell[0] += 1
            cell[1] += s.principal
        answer = await db.portfolio.provisions(on, rates)
        assert {(x.asset, x.bucket, x.restructured): [x.loans, x.principal.units] for x in answer.lines} == sums
        for x in answer.lines:
            rate = rates.current if x.bucket is None else rates.rates[x.bucket]
            assert x.rate == (max(rate, rates.restructured) if x.restructured else rate)
            assert x.provision == x.principal.times(x.rate, rounding=Rounding.HALF_EVEN)
        for asset, total in answer.totals.items():
            assert total.units == sum(x.provision.units for x in answer.lines if x.asset == asset)


async def check_worklist(db: Session, rows: Rows, seen: list[Seen], on: date) -> None:
    late = sorted((s for s in seen if s.days >= 2), key=lambda s: (-s.days, s.loan.id))
    items, after = [], None
    while True:
        page = await db.portfolio.worklist(on, min_days=2, after=after, limit=7)
        items += page.items
        after = page.next
        if after is None:
            break
    assert [(x.loan, x.days_past_due) for x in items] == [(s.loan.id, s.days) for s in late]
    for x, s in zip(items, late, strict=True):
        assert (x.number, x.borrower, x.oldest_due) == (s.loan.number, s.loan.borrower.id, s.rows[0].due)
        assert (x.principal_outstanding.units, x.charged_off) == (s.principal, s.charged_off)
        assert x.overdue.units == sum(r.total for r in s.overdue)
        assert x.due_now.units == sum(r.total for r in s.rows if r.due <= on)
        undone = {t.reverses.id for t in rows.transactions[s.loan.id] if t.reverses is not None}
        payments = [
            t
            for t in rows.transactions[s.loan.id]
            if t.kind is K.REPAYMENT and t.effective <= on and t.id not in undone
        ]
        last = max(payments, key=lambda t: (t.effective, t.seq), default=None)
        assert (x.last_payment_on, x.last_payment) == ((None, None) if last is None else (last.effective, last.amount))


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_number_is_the_oracles_for_today_and_the_past(db: Session, seed: int):
    today = db.today()
    await random_books(db, seed, 32, today)
    rows = await Rows.read(db)
    kinds = {t.kind for many in rows.transactions.values() for t in many}
    assert {K.REVERSAL, K.CHARGEBACK, K.CHARGE_OFF, K.WRITE_OFF, K.WAIVER, K.RESTRUCTURE} <= kinds
    for back in (0, 1, 29, 30, 75, 160, 300, 450, 700):
        on = today - timedelta(days=back)
        seen = rows.all_seen(on)
        await check_par(db, rows, seen, on)
        await check_delinquency(db, seen, on)
        await check_provisions(db, seen, on)
        await check_worklist(db, rows, seen, on)
        if back in (0, 1, 160):
            await check_standing(db, rows, seen, on)
    assert await db.portfolio.par() == await db.portfolio.par(today)
    assert await db.portfolio.by_community() == await db.portfolio.par(by="community")


async def test_a_day_to_come_shows_who_will_be_late(db: Session):
    today = db.today()
    await random_books(db, 7, 20, today)
    rows = await Rows.read(db)
    on = today + timedelta(days=40)
    seen = rows.all_seen(on)
    await check_par(db, rows, seen, on)
    await check_standing(db, rows, seen, on)


async def test_vintages_are_the_oracles(db: Session):
    await random_books(db, 11, 40, db.today())
    rows = await Rows.read(db)
    for by in (Span.MONTH, Span.QUARTER, Span.YEAR):
        await check_vintages(db, rows, by)


async def check_vintages(db: Session, rows: Rows, by: Span) -> None:
    today = db.today()
    loans = [x for x in rows.loans if x.status.value in ("active", "overpaid", "closed", "written_off")]
    for measure, least in ((Measure.LOSS, 0), (Measure.PAR1, 1), (Measure.PAR30, 31), (Measure.PAR90, 91)):
        found = await db.portfolio.vintages(by=by, measure=measure, months=14)
        cohorts: dict[Any, list[Any]] = defaultdict(list)
        for loan in loans:
            assert loan.disbursed_on is not None
            cohorts[loan.asset, by.start(loan.disbursed_on)].append(loan)
        assert [(c.asset, c.start) for c in found.curves] == sorted(cohorts)
        for curve in found.curves:
            mine = cohorts[curve.asset, curve.start]
            assert curve.loans == len(mine)
            whole = sum((x.principal if x.boarded else x.disbursed).units for x in mine)
            assert curve.disbursed.units == whole
            assert curve.cohort == by.label(curve.start)
            day, expected = by.end(curve.start), list[int | None]()
            while day <= today and len(expected) < 15:
                expected.append(_cell(rows, mine, day, least))
                day = Span.MONTH.end(day + timedelta(days=1))
            assert [None if a is None else a.units for a in curve.amounts] == expected
            assert curve.rates == tuple(None if e is None else Fraction(e, whole) for e in expected)


def _cell(rows: Rows, loans: list[Any], on: date, least: int) -> int | None:
    if least:
        first = [min(rows.schedules[x.id], key=lambda s: s.edition).since for x in loans if x.boarded]
        if any(since > on for since in first):
            return None
        return sum(s.principal for s in (rows.seen(x, on) for x in loans) if s is not None and s.days >= least)
    lost = 0
    for loan in loans:
        events = [t for t in rows.transactions[loan.id] if t.kind in (K.CHARGE_OFF, K.WRITE_OFF)]
        event = min(events, key=lambda t: (t.effective, t.seq), default=None)
        if event is not None and event.effective <= on:
            lost += event.principal.units
    return lost


async def test_expected_cash_is_the_oracles(db: Session):
    today = db.today()
    await random_books(db, 13, 40, today)
    rows = await Rows.read(db)
    seen = [s for s in rows.all_seen(today) if not s.charged_off]
    for by, since, until in (
        (Span.MONTH, None, None),
        (Span.WEEK, today, today + timedelta(days=80)),
        (Span.DAY, today + timedelta(days=10), today + timedelta(days=33)),
        (Span.QUARTER, today - timedelta(days=200), None),
    ):
        found = await db.portfolio.cash_flow(since, until, by=by)
        first = max(today, since or today)
        assert (found.on, found.since, found.until, found.by) == (today, first, until, by)
        sums: dict[Any, list[int]] = defaultdict(lambda: [0] * 5)
        late: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
        for s in seen:
            for row in s.rows:
                cell = None
                if row.due < today:
                    cell = late[s.loan.asset]
                elif first <= row.due and (until is None or row.due <= until):
                    cell = sums[s.loan.asset, by.start(row.due)]
                if cell is not None:
                    for n, value in enumerate((1, *row.left)):
                        cell[n] += value
        shape = lambda x: [x.installments, *(getattr(x.parts, name).units for name in PARTS)]  # noqa: E731
        assert {x.asset: shape(x) for x in found.overdue} == late
        assert {(x.asset, x.start): shape(x) for x in found.lines} == sums
        assert [(x.asset, x.start) for x in found.lines] == sorted(sums)
        assert all(by.label(x.start) == x.span and by.end(x.start) == x.end for x in found.lines)


# -- small books with known answers --------------------------------------------------------------------------------


async def late_loan(db: Session, days: int, *, principal: int = 100_00, **more: Any) -> Book:
    """A loan with one installment, due so many days ago."""
    today = db.today()
    product = more.pop("product", None) or await product_of(db, f"p{uuid7().hex}")
    due = today - timedelta(days=days)
    return await lend(db, product, await person(db, "x"), [Row(due, principal)], due - timedelta(days=30), **more)


async def test_the_boundaries_of_portfolio_at_risk(db: Session):
    product = await product_of(db)
    for days in (0, 1, 30, 31, 60, 61, 90, 91):
        await late_loan(db, days, product=product)
    (line,) = (await db.portfolio.par()).lines
    assert line.portfolio == Held(loans=8, principal=usd(800))
    assert [(a.threshold, a.loans) for a in line.at_risk] == [(1, 7), (30, 5), (60, 3), (90, 1)]
    assert [a.ratio for a in line.at_risk] == [Fraction(n, 8) for n in (7, 5, 3, 1)]


async def test_the_whole_balance_is_at_risk_not_only_what_is_overdue(db: Session):
    today, product = db.today(), await product_of(db)
    rows = [Row(today + timedelta(days=30 * n - 31), 250_00, 10_00) for n in range(4)]
    await lend(db, product, await person(db, "x"), rows, today - timedelta(days=60))
    (line,) = (await db.portfolio.par()).lines
    assert [a.principal for a in line.at_risk] == [usd(1000), usd(1000), usd(0), usd(0)]


async def test_nothing_lent_is_nothing(db: Session):
    assert (await db.portfolio.par()).lines == ()
    assert (await db.portfolio.par(by="product")).lines == ()
    assert (await db.portfolio.delinquency()).lines == ()
    assert (await db.portfolio.vintages()).curves == ()
    assert (await db.portfolio.provisions()).lines == ()
    assert (await db.portfolio.worklist()).items == []
    flow = await db.portfolio.cash_flow()
    assert (flow.lines, flow.overdue) == ((), ())


async def test_restructuring_does_not_take_a_loan_out_of_risk(db: Session):
    today, product = db.today(), await product_of(db)
    book = await late_loan(db, 100, product=product)
    await late_loan(db, 0, product=product)
    before = (await db.portfolio.par()).lines[0]
    assert before.at_risk[3].late.loans == 1
    for reason in RESTRUCTURES:
        await book.reschedule([Row(today + timedelta(days=30), 100_00)], today, reason)
        (line,) = (await db.portfolio.par()).lines
        assert [(a.loans, a.late.loans, a.restructured.loans, a.ratio) for a in line.at_risk] == [
            (1, 0, 1, Fraction(1, 2))
        ] * 4
        assert line.restructured == Held(loans=1, principal=usd(100))
        assert (await db.portfolio.par(today - timedelta(days=1))).lines[0].restructured.loans == 0
    assert (await db.portfolio.standing(book.loan)).days_past_due == 0


async def test_a_boarded_loan_counts_from_its_boarding(db: Session):
    today = db.today()
    boarded = today - timedelta(days=10)
    book = await late_loan(db, 50, boarded_on=boarded)
    assert (await db.portfolio.par(boarded - timedelta(days=1))).lines == ()
    (line,) = (await db.portfolio.par(boarded)).lines
    assert line.at_risk[1].loans == 1
    assert (await db.portfolio.standing(book.loan, boarded)).days_past_due == 40
    assert (await db.portfolio.vintages(measure="par30")).curves[0].amounts[0] is None


async def test_written_off_is_gone_and_charged_off_is_shown(db: Session):
    today, product = db.today(), await product_of(db)
    lost, given_up = await late_loan(db, 200, product=product), await late_loan(db, 200, product=product)
    await lost.charge_off(today - timedelta(days=3))
    await given_up.write_off(today - timedelta(days=3))
    (line,) = (await db.portfolio.par()).lines
    assert (line.portfolio.loans, line.charged_off.loans) == (1, 1)
    (before,) = (await db.portfolio.par(today - timedelta(days=4))).lines
    assert (before.portfolio.loans, before.charged_off.loans) == (2, 0)
    assert (await db.portfolio.provisions()).lines == ()
    (curve,) = (await db.portfolio.vintages()).curves
    assert curve.amounts[-1] in (usd(0), usd(200))  # by whether a month ended since


async def test_a_payment_found_late_counts_from_its_business_date(db: Session):
    today = db.today()
    book = await late_loan(db, 40)
    assert (await db.portfolio.par(today - timedelta(days=5))).lines[0].at_risk[1].loans == 1
    paid = await book.pay(100_00, today - timedelta(days=20))
    assert (await db.portfolio.par(today - timedelta(days=5))).lines == ()
    assert (await db.portfolio.standing(book.loan, today - timedelta(days=21))).days_past_due == 19
    await book.reverse(paid, today)
    assert (await db.portfolio.par(today - timedelta(days=5))).lines[0].at_risk[1].loans == 1


async def test_tolerance_waits_for_what_passes_it(db: Session):
    """What is unpaid inside the tolerance is not late, and days count from the due date that passes it."""
    today = db.today()
    product = await product_of(db, servicing=Servicing(arrears_tolerance=Decimal(5)))
    rows = [Row(today - timedelta(days=d), 100_00) for d in (70, 40, 10)]
    book = await lend(db, product, await person(db, "x"), rows, today - timedelta(days=100))
    await book.pay(297_00, today - timedelta(days=10))  # three are left of the last
    found = await db.portfolio.standing(book.loan)
    assert (found.days_past_due, found.days_since_due, found.overdue.total) == (0, 10, usd(3))
    await book.reverse(book.transactions[-1], today)
    await book.pay(96_00, today - timedelta(days=60))
    for on, days in ((today, 40), (today - timedelta(days=1), 39), (today - timedelta(days=35), 5)):
        assert (await db.portfolio.standing(book.loan, on)).days_past_due == days
    assert (await db.portfolio.standing(book.loan, today - timedelta(days=41))).days_past_due == 0
    assert (await db.portfolio.standing(book.loan, today - timedelta(days=65))).days_past_due == 5


async def test_tenants_do_not_see_each_other(db: Session, sandbox: Any, tally: Tallystick):
    await late_loan(db, 40)
    slug = f"other-{uuid7().hex}"
    await tally.tenants.create(slug, name="Other")
    async with sandbox.session(slug, actor="test", permissions=("*",)) as other:
        assert (await other.portfolio.par()).lines == ()
        assert (await other.portfolio.par(other.today() - timedelta(days=1))).lines == ()
        assert (await other.portfolio.worklist()).items == []


@pytest.mark.parametrize(
    ("call", "given"),
    [
        ("par", {"thresholds": ()}),
        ("par", {"thresholds": (30, 1)}),
        ("par", {"thresholds": (1, 1)}),
        ("par", {"thresholds": (0,)}),
        ("par", {"thresholds": (1.5,)}),
        ("par", {"thresholds": 30}),
        ("par", {"by": "number"}),
        ("par", {"by": ["product"]}),
        ("standing", {"loan": "7"}),
        ("standing", {"loan": uuid7(), "buckets": None}),
        ("pause", {"loan": 7, "starts_on": date(2026, 1, 1), "ends_on": date(2026, 1, 2), "key": None}),
        ("resume", {"loan": None, "key": None}),
        ("par", {"on": "2026-01-01"}),
        ("delinquency", {"buckets": ("1-30",)}),
        ("provisions", {"rates": {"1-30": Decimal("0.1")}}),
        ("vintages", {"by": "week"}),
        ("vintages", {"measure": "par45"}),
        ("vintages", {"months": 121}),
        ("vintages", {"since": "2026"}),
        ("cash_flow", {"by": "fortnight"}),
        ("cash_flow", {"since": date(2030, 1, 2), "until": date(2030, 1, 1)}),
        ("worklist", {"limit": 0}),
        ("worklist", {"min_days": 0}),
        ("worklist", {"after": "00"}),
    ],
)
async def test_wrong_questions_are_refused(db: Session, call: str, given: dict[str, Any]):
    with pytest.raises(Invalid):
        await getattr(db.portfolio, call)(**given)


async def test_a_cursor_is_for_one_day_and_tenant(db: Session):
    product = await product_of(db)
    for days in (3, 4, 5):
        await late_loan(db, days, product=product)
    page = await db.portfolio.worklist(limit=2)
    assert [x.days_past_due for x in page] == [5, 4]
    assert [x.days_past_due for x in await db.portfolio.worklist(limit=2, after=page.next)] == [3]
    for other in ({"on": db.today() - timedelta(days=1)}, {"min_days": 2}):
        with pytest.raises(Invalid):
            await db.portfolio.worklist(after=page.next, **other)  # type: ignore[arg-type]


async def test_a_loan_that_is_not_there(db: Session):
    with pytest.raises(NotFound):
        await db.portfolio.standing(uuid7())


async def test_communities_and_assets_are_apart(db: Session):
    north = await db[Community].add(Community(name="North", slug="north", asset="USD"))
    dollars, euros = await product_of(db, "d"), await product_of(db, "e", "EUR")
    await late_loan(db, 5, product=dollars, community=north)
    await late_loan(db, 0, product=dollars)
    await late_loan(db, 5, product=euros)
    found = {(x.asset, x.group): x.at_risk[0].loans for x in (await db.portfolio.by_community()).lines}
    assert found == {("USD", "north"): 1, ("USD", None): 0, ("EUR", None): 1}


async def test_a_tranche_is_no_restructuring(db: Session):
    today = db.today()
    book = await late_loan(db, 10)
    await book.reschedule([Row(today - timedelta(days=10), 100_00)], today, ScheduleReason.TRANCHE)
    (line,) = (await db.portfolio.par()).lines
    assert line.restructured.loans == 0
