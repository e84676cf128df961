"""From a request to an approved loan: gates, funding by lenders, the decision."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.community.governance import MemberRole
from tallystick.domains.idempotency import idempotent
from tallystick.domains.identity.users import User
from tallystick.domains.lending import numbers
from tallystick.domains.lending.books import Book, Own, book_id, own_account, own_id, post
from tallystick.domains.lending.checks import Exact, as_date
from tallystick.domains.lending.fundings import FundingStatus, LoanFunding
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.products import LoanProduct, chosen
from tallystick.errors import Conflict, Invalid, RoleMissing
from tallystick.fields import Ref
from tallystick.money import Money
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session

_S = LoanStatus
_HELD = (FundingStatus.PLEDGED, FundingStatus.COMMITTED)


async def request(
    db: Session,
    *,
    product: UUID,
    borrower: UUID,
    principal: Money,
    annual_rate: Exact | None,
    installments: int | None,
    first_due: date | None,
    community: UUID | None,
    purpose: str | None,
    external_id: str | None,
    on: date | None,
    key: str | None,
) -> tuple[Loan, bool]:
    """Store a request; answers it and whether it had been stored by an earlier call."""
    given = (
        product,
        borrower,
        principal,
        str(annual_rate),
        installments,
        first_due,
        community,
        purpose,
        external_id,
        on,
    )
    async with idempotent(db, "loans.request", key, given) as once:
        if once.replayed:
            return await db[Loan].get(once.results[0]), True
        chosen_product = await db[LoanProduct].get(product)
        rate, count = chosen(chosen_product, principal, annual_rate, installments)
        day = db.today() if on is None else on
        as_date(day, "on")
        if first_due is not None and as_date(first_due, "first_due") <= day:
            raise Invalid("The first installment is due before the loan is asked for.", field="first_due")
        await db[User].get(borrower)
        for needed in chosen_product.servicing.consents:
            await db.consents.require(borrower, needed)
        if community is not None:
            await db.communities.check_borrowing(community, borrower, principal)
        (number,) = await numbers.take(db)
        made = await db[Loan].add(
            Loan(
                number=number,
                borrower=Ref(borrower),
                product=Ref(product),
                community=None if community is None else Ref(community),
                external_id=external_id,
                purpose=purpose,
                principal=principal,
                annual_rate=rate,
                installments=count,
                first_due=first_due,
                requested_on=day,
            )
        )
        once.results = (made.id,)
    return made, False


async def move(
    db: Session, op: str, loan: UUID, to: LoanStatus, *, reason: str | None, on: date | None, key: str | None
) -> Loan:
    """Bring a loan that was not paid out to another status, giving lenders their money back where it ends there.

    Raises ``InvalidTransition``.
    """
    async with idempotent(db, f"loans.{op}", key, (loan, reason, on)) as once:
        if not once.replayed:
            held = await db[Loan].lock(loan)
            if held.status is to:
                raise _done_before(held)
            day = as_date(db.today() if on is None else on, "on")
            changed = await db[Loan].update(held, status=to, status_reason=reason)
            if to in (_S.WITHDRAWN, _S.EXPIRED, _S.CANCELLED):
                await release(db, held, day)
            if to is _S.FUNDING:
                await db.ledger.accounts.add(own_account(loan, changed.number, Own.LENDERS, changed.asset))
            once.results = (loan,)
    return await db[Loan].get(loan)


async def approve(
    db: Session, loan: UUID, *, principal: Money | None, reason: str | None, on: date | None, key: str | None
) -> Loan:
    """Approve a request, or a loan that lenders have funded whole; for less than was asked where that is said."""
    async with idempotent(db, "loans.approve", key, (loan, principal, reason, on)) as once:
        if not once.replayed:
            held = await db[Loan].lock(loan)
            await may_decide(db, held)
            if held.status not in (_S.REQUESTED, _S.FUNDING):
                raise _done_before(held)
            amount = held.principal if principal is None else principal
            if (
                amount.__class__ is not Money
                or amount.asset != held.asset
                or not 0 < amount.units <= held.principal.units
            ):
                raise Invalid("What is approved is above zero and at most what was asked.", field="principal")
            if held.status is _S.FUNDING and held.funded != amount:
                raise Conflict(
                    "The loan is not funded whole.",
                    entity="Loan",
                    remedy="Wait for its lenders, or approve the principal that they have funded.",
                )
            day = db.today() if on is None else on
            await db[Loan].update(held, status=_S.APPROVED, principal=amount, approved_on=day, status_reason=reason)
            once.results = (loan,)
    return await db[Loan].get(loan)


def _done_before(loan: Loan) -> Conflict:
    return Conflict(
        f"The loan is {loan.status.value}.",
        entity="Loan",
        remedy="A decision is made once; repeat a request with its key to have its answer.",
    )


async def may_decide(db: Session, loan: Loan) -> None:
    """Raise ``RoleMissing`` unless the actor may decide on loans, or is a treasurer of the loan's community."""
    try:
        await db.require("loans.decide")
    except RoleMissing:
        if loan.community is None:
            raise
    else:
        return
    await db.communities.require(loan.community.id, MemberRole.TREASURER)


async def fund(
    db: Session, loan: UUID, lender: UUID, amount: Money, *, on: date | None, key: str | None
) -> tuple[LoanFunding, bool]:
    """Take a lender's money for a loan. The database refuses more than the loan."""
    async with idempotent(db, "loans.fund", key, (loan, lender, amount, on)) as once:
        if once.replayed:
            return await db[LoanFunding].get(once.results[0]), True
        held = await db[Loan].lock(loan)
        if held.status is not _S.FUNDING:
            raise Conflict(
                f"The loan is {held.status.value}.", entity="Loan", remedy="Lenders fund a loan that is in funding."
            )
        if amount.__class__ is not Money or amount.asset != held.asset or amount.units <= 0:
            raise Invalid(
                f"The amount should be Money in {held.asset} above zero.", field="amount", remedy="Floats are refused."
            )
        if lender == held.borrower.id:
            raise Invalid("A borrower does not fund a loan of their own.", field="lender")
        if held.funded + amount > held.principal:
            raise Conflict(
                f"The loan takes {held.principal - held.funded} more and no further.",
                entity="Loan",
                remedy="Offer at most what is left to fund.",
            )
        day = db.today() if on is None else on
        net = {book_id(db, Book.CLEARING, held.asset): amount.units, own_id(loan, Own.LENDERS): -amount.units}
        journal = await post(db, net, held.asset, op="loan.fund", on=day, loan=loan)
        assert journal is not None
        made = await db[LoanFunding].add(
            LoanFunding(loan=held.ref, lender=Ref(lender), amount=amount, effective=day, journal=Ref(journal))
        )
        once.results = (made.id,)
    return made, False


async def release(db: Session, loan: Loan, on: date) -> None:
    """Give the lenders of a loan that will not be paid out their money back."""
    held = await db[LoanFunding].find(LoanFunding.loan == loan.ref, one_of(LoanFunding.status, _HELD))
    if held:
        await db[LoanFunding].update_where(one_of(LoanFunding.id, _ids(held)), status=FundingStatus.RELEASED)
        total = sum(f.amount.units for f in held)
        net = {own_id(loan.id, Own.LENDERS): total, book_id(db, Book.CLEARING, loan.asset): -total}
        await post(db, net, loan.asset, op="loan.release", on=on, loan=loan.id)


async def commit_funding(db: Session, loan: Loan) -> None:
    """Mark the lenders' money as lent out."""
    where = (LoanFunding.loan == loan.ref, LoanFunding.status == FundingStatus.PLEDGED)
    await db[LoanFunding].update_where(*where, status=FundingStatus.COMMITTED)


def _ids(held: Iterable[LoanFunding]) -> list[UUID]:
    return [f.id for f in held]
