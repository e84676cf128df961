"""What the books say, when they close, and who has to agree."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from typing import Any

import pytest
from tests.ledger.support import DAY, audit, books, cents

from tallystick import (
    Conflict,
    Denied,
    Invalid,
    InvalidTransition,
    KeyReused,
    NotFound,
    RoleMissing,
    Tallystick,
    eur,
    usd,
    uuid7,
)
from tallystick.domains.ledger.accounts import AccountKind
from tallystick.domains.ledger.export import HEADER, csv_lines
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.ledger.periods import Period, PeriodStatus
from tallystick.domains.ledger.proposals import ProposalStatus
from tallystick.domains.ledger.transfers import transfer
from tallystick.session import Session


async def test_a_balance_as_of_a_date_is_what_was_effective_then(db: Session):
    cash, wallet = await books(db, stripes=2)
    for n in (3, 1, 2):  # recorded out of order
        await db.ledger.post([transfer(cash, wallet, cents(10**n))], op="x", key=None, on=DAY + timedelta(days=n))
    seen = [(await db.ledger.balance(cash, DAY + timedelta(days=n))).units for n in range(5)]
    assert seen == [0, 10, 110, 1110, 1110]
    trial = await db.ledger.trial_balance(DAY + timedelta(days=2))
    assert trial.balanced
    assert trial.totals == {"USD": (cents(110), cents(110))}
    assert [line.code for line in trial.lines] == ["cash", "wallet"]
    for bad in ("2026-03-02", db.now(), 5):
        with pytest.raises(Invalid):
            await db.ledger.balance(cash, bad)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await db.ledger.balance(uuid7(), DAY)
    await audit(db)


async def test_what_was_pending_on_a_date_is_known(db: Session):
    cash, wallet = await books(db)
    await db.ledger.post([transfer(cash, wallet, usd("10"))], op="x", key=None, on=DAY)
    held = await db.ledger.pend([transfer(wallet, cash, usd("6"))], op="x", key=None, on=DAY)
    await db.ledger.settle(held.transfers[0], usd("5"), key=None, on=DAY + timedelta(days=3))
    then = await db.ledger.balances(wallet, DAY + timedelta(days=2))
    assert (then.net, then.debits_pending) == (usd("10"), usd("6"))
    after = await db.ledger.balances(wallet, DAY + timedelta(days=3))
    assert (after.net, after.debits_pending) == (usd("5"), usd("0"))
    assert after == await db.ledger.balances(wallet)


async def test_a_trial_balance_is_by_asset(db: Session):
    cash, wallet = await books(db)
    euros = await db.ledger.open_account("euros", "EUR", AccountKind.LIABILITY)
    await db.ledger.post([transfer(cash, wallet, usd("9"))], op="x", key=None)
    await db.ledger.exchange(wallet, euros, debited=usd("9"), credited=eur("8"), op="fx", key=None)
    trial = await db.ledger.trial_balance()
    assert trial.balanced
    assert trial.totals == {"USD": (usd("18"), usd("18")), "EUR": (eur("8"), eur("8"))}


async def test_a_statement_is_paged_by_keyset(db: Session):
    cash, wallet = await books(db)
    other = await db.ledger.open_account("other", "USD", AccountKind.EQUITY)
    for n in range(1, 8):
        sides = (cash, wallet) if n % 2 else (other, cash)
        await db.ledger.post([transfer(*sides, cents(n))], op=f"op{n}", key=None, on=DAY)
    found, after = [], None
    while True:
        page = await db.ledger.statement(cash.id, after=after, limit=3)
        found += page.items
        # What is recorded meanwhile comes at the end and shifts nothing.
        if after is None:
            await db.ledger.post([transfer(cash, wallet, cents(8))], op="op8", key=None, on=DAY)
        if (after := page.next) is None:
            break
    assert [line.op for line in found] == [f"op{n}" for n in range(1, 9)]
    assert [line.change.units for line in found] == [1, -2, 3, -4, 5, -6, 7, 8]
    assert found[1].credit == cents(2)
    assert found[1].other == other.id
    assert found[0].effective == DAY
    first = await db.ledger.statement(cash, limit=1)
    for bad in ("x", first.next):
        with pytest.raises(Invalid):
            await db.ledger.statement(wallet, after=bad)
    for limit in (0, 1001, 1.5):
        with pytest.raises(Invalid):
            await db.ledger.statement(cash, limit=limit)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await db.ledger.statement(uuid7())


async def test_the_general_ledger_gets_every_final_line(db: Session):
    cash, wallet = await books(db)
    await db.ledger.post(
        [transfer(cash, wallet, usd("1250.5")), transfer(cash, wallet, usd("1"))],
        op="deposit",
        key=None,
        on=DAY,
        description='=1+1, "quoted"',
    )
    held = await db.ledger.pend([transfer(wallet, cash, usd("3"))], op="hold", key=None, on=DAY)
    await db.ledger.settle(held.transfers[0], usd("2"), key=None, on=DAY + timedelta(days=1))
    await db.ledger.post([transfer(cash, wallet, usd("7"))], op="later", key=None, on=DAY + timedelta(days=9))
    entries = [e async for e in db.ledger.entries(DAY, DAY + timedelta(days=1))]
    rows = list(csv.reader(csv_lines(entries)))
    assert tuple(rows[0]) == HEADER
    lines = [dict(zip(HEADER, r, strict=True)) for r in rows[1:]]
    assert [(x["account"], x["debit"], x["credit"]) for x in lines] == [
        ("cash", "1250.50", ""),
        ("wallet", "", "1250.50"),
        ("cash", "1.00", ""),
        ("wallet", "", "1.00"),
        ("wallet", "2.00", ""),
        ("cash", "", "2.00"),
    ]
    assert lines[0]["description"] == '\'=1+1, "quoted"'
    assert list(csv_lines([])) == [",".join(HEADER) + "\r\n"]


async def test_a_long_export_goes_on_from_batch_to_batch(db: Session, monkeypatch: pytest.MonkeyPatch):
    from tallystick.domains.ledger import export

    monkeypatch.setattr(export, "_BATCH", 3)
    cash, wallet = await books(db)
    for n in range(1, 5):
        legs = [transfer(cash, wallet, cents(n))] * 2
        await db.ledger.post(legs, op="x", key=None, on=DAY - timedelta(days=n))
    entries = [e async for e in db.ledger.entries(date.min, date.max)]
    assert [e.amount.units for e in entries] == [4, 4, 3, 3, 2, 2, 1, 1]


async def test_a_period_that_is_closing_takes_nothing(db: Session):
    cash, wallet = await books(db)
    march = await db.ledger.periods.open(date(2026, 3, 1), date(2026, 3, 31), name="March")
    assert await db.ledger.periods.covering(DAY) == march
    assert await db.ledger.periods.covering(date(2026, 4, 1)) is None
    paid = await db.ledger.post([transfer(cash, wallet, usd("1"))], op="x", key="1", on=DAY)
    held = await db.ledger.pend([transfer(cash, wallet, usd("1"))], op="x", key=None, on=DAY)
    assert (await db.ledger.periods.begin_closing(march.id)).status is PeriodStatus.CLOSING
    with pytest.raises(Conflict, match="closing or closed"):
        await db.ledger.post([transfer(cash, wallet, usd("1"))], op="x", key="2", on=march.ends_on)
    assert (await db.ledger.periods.close(march.id)).status is PeriodStatus.CLOSED
    late: list[Any] = [
        db.ledger.post([transfer(cash, wallet, usd("1"))], op="x", key="3", on=march.starts_on),
        db.ledger.pend([transfer(cash, wallet, usd("1"))], op="x", key="3", on=DAY),
        db.ledger.reverse(paid, key="3", on=DAY),
        db.ledger.settle(held.transfers[0], key="3", on=DAY),
        db.ledger.void(held.transfers[0], key="3", on=DAY),
    ]
    for call in late:
        with pytest.raises(Conflict, match="closing or closed"):
            await call
    # What is repeated was posted while it was open; a correction is of a later date.
    assert (await db.ledger.post([transfer(cash, wallet, usd("1"))], op="x", key="1", on=DAY)).replayed
    await db.ledger.reverse(paid, key="3", on=date(2026, 4, 1))
    with pytest.raises(Conflict):
        await db.ledger.periods.close(march.id)
    with pytest.raises(Conflict):
        await db.ledger.periods.begin_closing(march.id)
    with pytest.raises(InvalidTransition):
        await db.ledger.periods.update(await db.ledger.periods.get(march.id), status=PeriodStatus.OPEN)
    with pytest.raises(Denied):
        await db.ledger.periods.purge(march.id, reason="reopen it")
    await audit(db)


async def test_periods_do_not_overlap(db: Session):
    await db.ledger.periods.open(date(2026, 3, 1), date(2026, 3, 31))
    with pytest.raises(Conflict, match="overlaps"):
        await db.ledger.periods.open(date(2026, 3, 31), date(2026, 4, 30))
    await db.ledger.periods.open(date(2026, 4, 1), date(2026, 4, 30))
    with pytest.raises(Invalid):
        await db.ledger.periods.open(date(2026, 6, 2), date(2026, 6, 1))
    assert await db[Period].count() == 2


async def test_closing_needs_a_permission(sandbox, tenant: str, db: Session):
    period = await db.ledger.periods.open(DAY, DAY)
    async with sandbox.session(tenant, actor="clerk", permissions=()) as clerk:
        for call in (clerk.ledger.periods.begin_closing, clerk.ledger.periods.close):
            with pytest.raises(RoleMissing):
                await call(period.id)


async def _limited(tally: Tallystick, sandbox, tenant: str, db: Session) -> None:
    settings = {"ledger": {"checker_above": {"USD": 10_000}}}
    await tally.tenants.update(db, settings=settings)


async def test_above_the_limit_a_second_person_agrees(sandbox, tally: Tallystick, tenant: str, db: Session):
    await _limited(tally, sandbox, tenant, db)
    cash, wallet = await books(db)
    euros = await db.ledger.open_account("euros", "EUR", AccountKind.ASSET)
    equity = await db.ledger.open_account("equity", "EUR", AccountKind.EQUITY)
    await db.ledger.post([transfer(cash, wallet, usd("100"))], op="x", key=None)
    await db.ledger.post([transfer(euros, equity, eur("101"))], op="x", key=None)
    large = [transfer(cash, wallet, usd("60")), transfer(cash, wallet, usd("40.01"))]
    for verb in (db.ledger.post, db.ledger.pend):
        with pytest.raises(Denied, match="second person"):
            await verb(large, op="x", key=None)
    proposal = await db.ledger.approval.propose(large, op="big", key="p", on=DAY, description="why", source=cash)
    assert (
        await db.ledger.approval.propose(large, op="big", key="p", on=DAY, description="why", source=cash) == proposal
    )
    with pytest.raises(KeyReused):
        await db.ledger.approval.propose(large, op="big", key="p", on=DAY, description="why not", source=cash)
    with pytest.raises(Denied, match="does not approve"):
        await db.ledger.approval.approve(proposal.id, key="a")
    async with sandbox.session(tenant, actor="clerk", permissions=()) as clerk:
        with pytest.raises(RoleMissing):
            await clerk.ledger.approval.approve(proposal.id, key="a")
        with pytest.raises(RoleMissing):
            await clerk.ledger.approval.reject(proposal.id)
    async with sandbox.session(tenant, actor="checker", permissions=["ledger.approve"]) as checker:
        receipt = await checker.ledger.approval.approve(proposal.id, key="a")
        assert (await checker.ledger.approval.approve(proposal.id, key="a")).replayed
        with pytest.raises(Conflict):
            await checker.ledger.approval.approve(proposal.id, key="b")
        with pytest.raises(Conflict):
            await checker.ledger.approval.reject(proposal.id)
    assert receipt.journal.effective == DAY
    assert receipt.journal.created_by == "checker"
    assert [t.money for t in receipt.transfers] == [usd("60"), usd("40.01")]
    assert await db.ledger.balance(wallet) == usd("200.01")
    # Undoing it is as large, and goes the same way.
    with pytest.raises(Denied):
        await db.ledger.reverse(receipt, key=None)
    undo = await db.ledger.approval.propose(
        await db.ledger.reversal_of(receipt), op="reverse", key=None, reverses=receipt.id
    )
    async with sandbox.session(tenant, actor="checker", permissions=["ledger.approve"]) as checker:
        done = await checker.ledger.approval.approve(undo.id, key=None)
    assert done.journal.reverses == receipt.journal.ref
    assert await db.ledger.balance(wallet) == usd("100")
    await audit(db)


async def test_an_approval_is_for_what_was_proposed(sandbox, tally: Tallystick, tenant: str, db: Session):
    from tallystick.domains.ledger.posting import draft, journal_of, write

    await _limited(tally, sandbox, tenant, db)
    cash, wallet = await books(db)
    proposal = await db.ledger.approval.propose([transfer(cash, wallet, usd("101"))], op="x", key=None)
    async with sandbox.session(tenant, actor="checker", permissions=["ledger.approve"]) as checker:
        for legs in ([transfer(cash, wallet, usd("102"))], [transfer(wallet, cash, usd("101"))]):
            with pytest.raises(Denied):
                async with checker.transaction():
                    await write(checker, [journal_of(checker, draft(legs, op="x"), proposal)])
        assert (await checker.ledger.approval.reject(proposal.id)).status is ProposalStatus.REJECTED
        with pytest.raises(Conflict):
            await checker.ledger.approval.approve(proposal.id, key=None)
    with pytest.raises(Invalid):
        await db[type(proposal)].update(proposal, legs=[])
    assert await db[Journal].count() == 0


async def test_a_maker_may_take_a_proposal_back(db: Session):
    cash, wallet = await books(db)
    proposal = await db.ledger.approval.propose([transfer(cash, wallet, usd("1"))], op="x", key=None)
    assert (await db.ledger.approval.reject(proposal.id)).status is ProposalStatus.REJECTED
