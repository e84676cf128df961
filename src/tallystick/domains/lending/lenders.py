"""Lenders: what came in for a loan that they funded is paid to them in proportion, exactly to the unit in the end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.idempotency import idempotent
from tallystick.domains.lending.book import LoanBook, opened
from tallystick.domains.lending.books import Book, Own, book_id, own_id, post
from tallystick.domains.lending.fundings import FundingStatus, LenderPayout, LoanFunding
from tallystick.domains.lending.transactions import TransactionKind
from tallystick.errors import Conflict
from tallystick.fields import Ref
from tallystick.money import Rounding

if TYPE_CHECKING:
    from tallystick.session import Session


async def distribute(db: Session, loan: UUID, *, on: date | None, key: str | None) -> list[LenderPayout]:
    """Pay the lenders of a loan what came in and was not paid to them yet."""
    async with idempotent(db, "loans.distribute", key, (loan, on)) as once:
        if once.replayed:
            return [await db[LenderPayout].get(id) for id in once.results]
        book = await opened(db, loan, serviced=False)
        day = db.today() if on is None else on
        book.check_date(day)
        fundings = await db[LoanFunding].find(
            LoanFunding.loan == book.loan.ref, LoanFunding.status == FundingStatus.COMMITTED, order=LoanFunding.id
        )
        if not fundings:
            raise Conflict("Nobody funded the loan.", entity="Loan", remedy="Only loans with lenders are distributed.")
        before = await db[LenderPayout].find(LenderPayout.loan == book.loan.ref)
        parts = [f.amount.units for f in fundings]
        principal, interest = _came_in(book)
        principals = shares(principal, parts, [_paid(before, f, "principal") for f in fundings])
        interests = shares(interest, parts, [_paid(before, f, "interest") for f in fundings])
        net = {
            own_id(loan, Own.LENDERS): sum(principals),
            book_id(db, Book.LENDER_INTEREST, book.asset): sum(interests),
            book_id(db, Book.CLEARING, book.asset): -sum(principals) - sum(interests),
        }
        journal = await post(db, net, book.asset, op="loan.distribute", on=day, loan=loan)
        made = [
            LenderPayout(
                loan=book.loan.ref,
                funding=f.ref,
                effective=day,
                principal=book.of(p),
                interest=book.of(i),
                journal=Ref(journal),
            )
            for f, p, i in zip(fundings, principals, interests, strict=True)
            if journal is not None and p + i
        ]
        added = await db[LenderPayout].add_many(made)
        once.results = tuple(payout.id for payout in added)
    return added


def _came_in(book: LoanBook) -> tuple[int, int]:
    """Principal with recoveries and without chargebacks, and the lenders' part of the interest, in minor units."""
    principal = sum(i.principal_paid.units for i in book.installments)
    principal += sum(t.amount.units for t in book.standing if t.kind is TransactionKind.RECOVERY)
    # What was charged back is principal that is owed, and paid, a second time.
    principal -= sum(t.amount.units for t in book.standing if t.kind is TransactionKind.CHARGEBACK)
    interest = book.of(sum(i.interest_paid.units for i in book.installments))
    return principal, interest.times(book.product.servicing.lenders_interest, rounding=Rounding.DOWN).units


def _paid(before: Sequence[LenderPayout], funding: LoanFunding, part: str) -> int:
    return sum(getattr(p, part).units for p in before if p.funding.id == funding.id)


def shares(total: int, weights: Sequence[int], paid: Sequence[int]) -> list[int]:
    """What each is paid now, so that all together have ``total`` and each as nearly as can be a part by weight.

    Nobody gives back: where less came in than was paid, nobody is paid now.
    """
    rest = total - sum(paid)
    if rest <= 0:
        return [0] * len(weights)
    owed = [Fraction(total * weight, sum(weights)) - had for weight, had in zip(weights, paid, strict=True)]
    now = [0] * len(weights)
    for n in sorted(range(len(owed)), key=lambda n: (-owed[n], n)):
        now[n] = min(rest, max(0, int(owed[n])))
        rest -= now[n]
    for n in sorted(range(len(owed)), key=lambda n: (now[n] - owed[n], n))[:rest]:
        now[n] += 1
    return now


async def lenders_loss(book: LoanBook) -> int:
    """What the lenders of a loan that is written off do not get back, in minor units; 0 for a loan without lenders."""
    committed = (LoanFunding.loan == book.loan.ref, LoanFunding.status == FundingStatus.COMMITTED)
    given = sum(f.amount.units for f in await book.db[LoanFunding].find(*committed))
    if not given:
        return 0
    paid = sum(p.principal.units for p in await book.db[LenderPayout].find(LenderPayout.loan == book.loan.ref))
    # What they were paid before a payment was taken back they keep; what was never paid out is still theirs.
    return max(0, min(given, book.loan.disbursed.units) - max(_came_in(book)[0], paid))
