"""Which accounts a loan's money moves between, and journals from them.

The books are kept on a cash basis: principal is an asset from the day it is paid out; interest, fees and penalties are
income on the day they are paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from tallystick.domains.ledger.accounts import Account, AccountKind, FloorRule, Stripe
from tallystick.domains.ledger.posting import Draft, journal_of, write
from tallystick.domains.ledger.transfers import Leg
from tallystick.errors import Duplicate
from tallystick.fields import Ref
from tallystick.money import Money
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session

_HOT = 16


class Book(StrEnum):
    """The accounts of a tenant that all its loans of one asset share; their codes are "<book>:<asset>"."""

    CLEARING = "loans.clearing"
    """Money on its way: what came in from payers and went out to borrowers, until the bank's statement settles it."""
    INTEREST_INCOME = "loans.interest_income"
    FEE_INCOME = "loans.fee_income"
    PENALTY_INCOME = "loans.penalty_income"
    RECOVERY_INCOME = "loans.recovery_income"
    CREDIT_LOSS = "loans.credit_loss"
    LENDER_INTEREST = "loans.lender_interest"
    """The lenders' part of interest, as an expense beside the whole of it as income."""
    GOODWILL = "loans.goodwill"
    OPENING = "loans.opening"
    """The other side of loans that were taken over from another system."""


_KINDS = {
    Book.CLEARING: AccountKind.ASSET,
    Book.CREDIT_LOSS: AccountKind.EXPENSE,
    Book.LENDER_INTEREST: AccountKind.EXPENSE,
    Book.GOODWILL: AccountKind.EXPENSE,
    Book.OPENING: AccountKind.EQUITY,
}


def book_id(db: Session, book: Book, asset: str) -> UUID:
    """The id of a shared account, which follows from tenant, book and asset: posting needs no look-up."""
    return uuid5(db.tenant_id, f"{book.value}:{asset}")


async def open_books(db: Session, asset: str) -> None:
    """Open the shared accounts of an asset, where they are not open yet."""
    wanted = [
        Account(
            id=book_id(db, book, asset),
            code=f"{book.value}:{asset}",
            asset=asset,
            kind=_KINDS.get(book, AccountKind.INCOME),
            stripes=_HOT if book in (Book.CLEARING, Book.INTEREST_INCOME) else 0,
            name=book.name.capitalize().replace("_", " "),
        )
        for book in Book
    ]
    known = {a.id for a in await db.ledger.accounts.find(one_of(Account.id, [a.id for a in wanted]))}
    missing = [a for a in wanted if a.id not in known]
    if not missing:
        return
    try:
        async with db.transaction():
            await db.ledger.accounts.add_many(missing)
            stripes = [Stripe(account=Ref(a.id), number=n) for a in missing for n in range(a.stripes)]
            await db[Stripe].add_many(stripes)
    except Duplicate:
        # Somebody else opened them in the same moment.
        return


class Own(StrEnum):
    """The accounts of one loan; their codes are "loan:<number>:<own>"."""

    PRINCIPAL = "principal"
    """What was paid out and not repaid; the database refuses to repay more than was paid out."""
    OVERPAID = "overpaid"
    """What the borrower paid too much; the database refuses to refund more than that."""
    LENDERS = "lenders"
    """What lenders gave for the loan and are owed."""


def own_id(loan: UUID, own: Own) -> UUID:
    """The id of a loan's own account, which follows from the loan."""
    return uuid5(loan, own.value)


def own_account(loan: UUID, number: int, own: Own, asset: str) -> Account:
    """A loan's own account, not stored yet."""
    asset_side = own is Own.PRINCIPAL
    return Account(
        id=own_id(loan, own),
        code=f"loan:{number}:{own.value}",
        asset=asset,
        kind=AccountKind.ASSET if asset_side else AccountKind.LIABILITY,
        floor_rule=FloorRule.CREDITS_LE_DEBITS if asset_side else FloorRule.DEBITS_LE_CREDITS,
    )


def legs_of(net: Mapping[UUID, int], asset: str) -> tuple[Leg, ...]:
    """Transfers that debit each account by its amount, where it is above zero, and credit it where it is below.

    The amounts add up to zero. Accounts keep the order in which they are given.
    """
    credits = [(account, -units) for account, units in net.items() if units < 0]
    legs: list[Leg] = []
    for debit, units in net.items():
        rest = units
        while rest > 0:
            credit, free = credits[0]
            part = min(rest, free)
            legs.append(Leg(debit, credit, Money(part, asset)))
            rest -= part
            credits[0] = (credit, free - part)
            if part == free:
                credits.pop(0)
    return tuple(legs)


async def post(db: Session, net: Mapping[UUID, int], asset: str, *, op: str, on: date, loan: UUID) -> UUID | None:
    """Write one journal about a loan; None when nothing moves. Raises what ``ledger.post`` does."""
    legs = legs_of(net, asset)
    if not legs:
        return None
    ((journal, _),) = await write(db, [journal_of(db, Draft(legs=legs, op=op, on=on, source=("loan", loan)))])
    return journal.id
