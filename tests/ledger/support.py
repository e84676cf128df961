"""Books for the ledger's tests, and what must be true of any books."""

from __future__ import annotations

from datetime import date

from tallystick.domains.ledger.accounts import Account, AccountKind, FloorRule
from tallystick.domains.ledger.transfers import Transfer
from tallystick.money import Money
from tallystick.session import Session

DAY = date(2026, 3, 2)


async def books(db: Session, *, stripes: int = 0) -> tuple[Account, Account]:
    """Cash, and a wallet that may not be overdrawn."""
    cash = await db.ledger.open_account("cash", "USD", AccountKind.ASSET, stripes=stripes)
    wallet = await db.ledger.open_account("wallet", "USD", AccountKind.LIABILITY, floor=FloorRule.DEBITS_LE_CREDITS)
    return cash, wallet


async def audit(db: Session) -> None:
    """Debits equal credits in every asset, and every balance is the sum of its account's transfers."""
    trial = await db.ledger.trial_balance()
    assert trial.balanced
    assert {line.account: line for line in (await db.ledger.trial_balance(date.max)).lines} == {
        line.account: line for line in trial.lines
    }
    transfers = {t.id: t async for t in db[Transfer].stream()}
    expected = {line.account: [0, 0, 0, 0] for line in trial.lines}
    for t in transfers.values():
        sides = expected[t.debit.id], expected[t.credit.id]
        final, waits = effect(t, transfers)
        for at, side in enumerate(sides):
            side[at] += final
            side[at + 2] += waits
    for line in trial.lines:
        amounts = (line.debits, line.credits, line.debits_pending, line.credits_pending)
        assert [m.units for m in amounts] == expected[line.account]


def effect(t: Transfer, transfers: dict[object, Transfer]) -> tuple[int, int]:
    """What a transfer adds to the final and to the pending totals of both its accounts."""
    if t.phase == "posted":
        return t.amount, 0
    if t.phase == "pending":
        return 0, t.amount
    assert t.resolves is not None
    released = transfers[t.resolves.id].amount
    return (t.amount if t.phase == "post" else 0), -released


def cents(units: int) -> Money:
    return Money(units, "USD")
