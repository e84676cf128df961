"""Where one loan stands: how late it is, what is overdue, and what follows from that."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

from msgspec import Struct

from tallystick.domains.lending.buckets import USUAL, Buckets, as_buckets
from tallystick.domains.lending.lateness import COMPONENTS, frame
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.receipts import LoanLike, id_of
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session


class Parts(Struct, frozen=True, kw_only=True):
    """An amount by component."""

    principal: Money
    interest: Money
    fees: Money
    penalties: Money

    @property
    def total(self) -> Money:
        """All components together."""
        return self.principal + self.interest + self.fees + self.penalties

    @classmethod
    def of(cls, amounts: Any, asset: str) -> Parts:
        """Minor units in the order principal, interest, fees, penalties; None is nothing."""
        return cls(**{name: Money(int(u or 0), asset) for name, u in zip(COMPONENTS, amounts, strict=True)})


class Standing(Struct, frozen=True, kw_only=True):
    """Where a loan stood on a business date.

    ``days_past_due`` is what counts by the product's rules: days since the due date with which what is unpaid passed
    the tolerance, less the days of grace, less paused days. ``days_since_due`` is what the calendar says. ``overdue``
    is what was due before the date and is unpaid, inside the tolerance or not. ``oldest_due`` is the earliest due date
    with anything unpaid, which may be to come. A loan that owed nothing, or was not paid out or was written off by
    then, stands at zero.
    """

    loan: UUID
    on: date
    days_past_due: int
    days_since_due: int
    oldest_due: date | None
    overdue: Parts
    principal_outstanding: Money
    outstanding: Money
    bucket: str | None
    non_performing: bool
    paused: bool
    charged_off: bool
    restructured: bool


_PAUSED = (
    "EXISTS (SELECT FROM tally.delinquency_pause d WHERE d.tenant_id = $1 AND d.loan_id = p.id "
    "AND $2 BETWEEN d.starts_on AND d.ends_on)"
)


async def standing(db: Session, loan: LoanLike, on: date | None, buckets: Buckets = USUAL) -> Standing:
    """Where a loan stood. Raises ``NotFound``, ``Invalid``."""
    as_buckets(buckets)
    found = await db[Loan].get(id_of(loan))
    servicing = (await db[LoanProduct].get(found.product.id)).servicing
    at = await frame(db, on, loan=found.id)
    sums = ", ".join(f"sum(o.{c})" for c in COMPONENTS)
    rows = await at.rows(
        f"SELECT p.days, p.oldest_due, p.principal, p.outstanding, {_PAUSED}, p.charged_off, p.restructured, o.* "
        f"FROM loans p CROSS JOIN (SELECT {sums} FROM owed o WHERE o.due < $2) o"
    )
    none = (0, None, 0, 0, False, False, False, 0, 0, 0, 0)
    days, oldest, principal, outstanding, paused, charged_off, restructured, *overdue = rows[0] if rows else none
    in_bucket = buckets.of_days(days)
    return Standing(
        loan=found.id,
        on=at.on,
        days_past_due=days,
        days_since_due=0 if oldest is None else max(0, (at.on - oldest).days),
        oldest_due=oldest,
        overdue=Parts.of(overdue, found.asset),
        principal_outstanding=Money(int(principal), found.asset),
        outstanding=Money(int(outstanding), found.asset),
        bucket=None if in_bucket is None else in_bucket.name,
        non_performing=days >= servicing.non_performing_days,
        paused=paused,
        charged_off=charged_off,
        restructured=restructured,
    )
