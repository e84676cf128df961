"""Taking loans over that already live elsewhere, as they stand: nothing that happened before is played again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec

from tallystick.domains.community.communities import Community
from tallystick.domains.idempotency import idempotent
from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.domains.lending import boarded_checks, boarded_rows
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.products import LoanProduct, Products
from tallystick.errors import Invalid, UnknownReference
from tallystick.fields import Ref
from tallystick.money import Money
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session

__all__ = ["Boarding", "Overdue", "Planned", "board", "board_many"]

MOST_LOANS = 5_000
"""The most loans that one call takes over."""
ProductLike = LoanProduct | Ref[LoanProduct] | UUID


class Overdue(msgspec.Struct, frozen=True, kw_only=True):
    """What should have been paid by a day and was not, where its single installments are not known."""

    since: date
    principal: Money | None = None
    interest: Money | None = None
    fees: Money | None = None
    penalties: Money | None = None


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of one installment of a plan that was made elsewhere; interest runs from ``start``.

    Without a ``start`` it is the due date before, and for the first one interval of the product earlier.
    """

    due: date
    principal: Money
    interest: Money | None = None
    fees: Money | None = None
    penalties: Money | None = None
    start: date | None = None


class Boarding(msgspec.Struct, frozen=True, kw_only=True):
    """A loan as it stands elsewhere on the day ``on`` it is taken over (default: the tenant's business date).

    ``principal`` is what was paid out at first; where nobody knows, leave it out, and it is what is still owed.
    ``interest_paid``, ``fees_paid``, ``penalties_paid`` are what had been paid besides principal.

    What is still owed is told in one of two ways. Either ``plan`` lists every installment that is not settled, late
    ones included. Or ``overdue`` is what is late in one sum, and the rest of the principal is planned anew by the
    product's terms: ``installments_left`` of them, the first due on ``next_due``, which may lie in the past (then they
    are late one by one), with interest from ``interest_from`` (default: one interval before). ``installment`` is the
    level payment of the contract, where it stays as it was and the last pays what is left over or missing.

    ``status`` follows from the amounts and dates; where it is given it must agree. A loan with ``written_off_on`` is
    owed nothing any more: what it lists as owed is what was lost. A loan with ``charged_off_on`` is still owed, and
    has no worth in the books. Rates are nominal, a year, as fractions.
    """

    product: ProductLike
    borrower: UserLike
    community: Community | Ref[Community] | UUID | None = None
    principal_outstanding: Money
    annual_rate: Decimal
    installments: int
    disbursed_on: date
    on: date | None = None
    principal: Money | None = None
    status: LoanStatus | None = None
    next_due: date | None = None
    installments_left: int | None = None
    interest_from: date | None = None
    installment: Money | None = None
    overdue: Overdue | None = None
    plan: tuple[Planned, ...] = ()
    interest_paid: Money | None = None
    fees_paid: Money | None = None
    penalties_paid: Money | None = None
    overpaid: Money | None = None
    closed_on: date | None = None
    charged_off_on: date | None = None
    written_off_on: date | None = None
    fraud: bool = False
    external_id: str | None = None
    number: int | None = None
    purpose: str | None = None
    reason: str | None = None
    details: Mapping[str, Any] = {}


async def board(db: Session, given: Boarding, *, key: str | None) -> Loan:
    """Take one loan over; answers it as it is stored. Errors are those of ``board_many``."""
    return (await board_many(db, [given], key=key))[0]


async def board_many(db: Session, given: Sequence[Boarding], *, key: str | None) -> list[Loan]:
    """Take up to 5,000 loans over, all or none; answers them as they are stored, in the same order.

    Each gets its opening balance as a journal against ``Book.OPENING``, a schedule of what is still owed, after one
    settled installment for all that had been paid, and a ``boarding`` transaction for the latter. Needs the permission
    "loans.board". Raises ``Invalid`` for input that contradicts itself, floats, another asset than the product's and
    dates that are out of order, ``UnknownReference`` for a product or borrower that does not exist, ``Duplicate`` for
    a number or external id that is taken, ``Unsupported`` where the terms do not tell what is left and a ``plan`` is
    needed, ``KeyReused``, and what the ledger raises. Nothing is written then.
    """
    await db.require("loans.board")
    _check_batch(given)
    async with idempotent(db, "loans.board", key, [_request(one) for one in given]) as once:
        if once.replayed:
            return await _stored(db, once.results)
        products = await _products(db, given)
        await _check_borrowers(db, given)
        today = db.today()
        checked = []
        for place, one in enumerate(given):
            product, holidays = products[boarded_checks.id_of(one.product, LoanProduct, "product")]
            try:
                checked.append(boarded_checks.checked(one, product, holidays, today))
            except Invalid as problem:
                if len(given) == 1:
                    raise
                raise Invalid(
                    f"Loan {place + 1} of the batch: {problem.problem}",
                    entity=problem.entity or "Loan",
                    field=problem.field,
                    remedy=problem.remedy,
                ) from None
        once.results = await boarded_rows.write_all(db, checked)
        return await _stored(db, once.results)


async def _stored(db: Session, ids: Sequence[UUID]) -> list[Loan]:
    found = {loan.id: loan for loan in await db[Loan].find(one_of(Loan.id, list(ids)))}
    return [found[id] for id in ids]


async def _products(db: Session, given: Sequence[Boarding]) -> dict[UUID, boarded_checks.Lends]:
    wanted = {boarded_checks.id_of(one.product, LoanProduct, "product") for one in given}
    products = cast("Products", db[LoanProduct])
    found = {p.id: p for p in await products.find(one_of(LoanProduct.id, list(wanted)))}
    if wanted - found.keys():
        raise UnknownReference("The product does not exist.", entity="Loan", field="product")
    return {id: (product, await products.calendar_of(product)) for id, product in found.items()}


async def _check_borrowers(db: Session, given: Sequence[Boarding]) -> None:
    wanted = {user_id(one.borrower, "borrower") for one in given}
    if await db.users.count(one_of(User.id, list(wanted))) < len(wanted):
        raise UnknownReference("The borrower does not exist.", entity="Loan", field="borrower")


def _check_batch(given: Sequence[Boarding]) -> None:
    if not isinstance(given, (list, tuple)) or not all(one.__class__ is Boarding for one in given):
        raise Invalid("Loans are boarded by Boarding.", field="given", remedy="Pass a list of Boarding(...).")
    if not 0 < len(given) <= MOST_LOANS:
        raise Invalid(
            "The batch is empty or too large.", field="given", remedy=f"Board 1 to {MOST_LOANS} loans in one call."
        )
    boarded_checks.check_unique([one.external_id for one in given], "external_id")
    boarded_checks.check_unique([one.number for one in given], "number")


def _request(one: Boarding) -> dict[str, Any]:
    """What tells one boarding from another, for its key."""
    request = {name: getattr(one, name) for name in one.__struct_fields__}
    request["product"] = boarded_checks.id_of(one.product, LoanProduct, "product")
    request["borrower"] = user_id(one.borrower, "borrower")
    request["community"] = boarded_checks.community_of(one)
    request["details"] = boarded_checks.as_json(one.details)
    return request
