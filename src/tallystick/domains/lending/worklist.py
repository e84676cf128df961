"""The collections worklist: late loans, the latest first, with what a collector has to know."""

from __future__ import annotations

from datetime import date
from hashlib import blake2b
from typing import TYPE_CHECKING, Final
from uuid import UUID

from msgspec import Struct

from tallystick.domains.lending.checks import as_whole
from tallystick.domains.lending.lateness import frame
from tallystick.domains.lending.loans import Loan
from tallystick.entity import spec_of
from tallystick.money import Money
from tallystick.page import MAX_LIMIT, Page, read_cursor, write_cursor
from tallystick.query import orders

if TYPE_CHECKING:
    from tallystick.session import Session

# Days past due and the id: the cursor's values have the kinds of these fields.
_ORDER: Final = (Loan.number,)
_LAST: Final = """
LEFT JOIN LATERAL (
  SELECT t.effective, t.amount FROM tally.loan_transaction t
  WHERE t.tenant_id = $1 AND t.loan_id = w.id AND t.effective <= $2 AND t.kind IN ('repayment', 'down_payment')
    AND NOT EXISTS (SELECT FROM tally.loan_transaction r WHERE r.tenant_id = $1 AND r.reverses_id = t.id)
  ORDER BY t.effective DESC, t.seq DESC LIMIT 1
) t ON true"""


class LateLoan(Struct, frozen=True, kw_only=True):
    """A late loan: ``due_now`` is what is unpaid of all that is due by the date, that day included."""

    loan: UUID
    number: int
    borrower: UUID
    days_past_due: int
    oldest_due: date
    overdue: Money
    due_now: Money
    principal_outstanding: Money
    charged_off: bool
    last_payment_on: date | None = None
    last_payment: Money | None = None


async def worklist(db: Session, on: date | None, least: int, after: str | None, limit: int) -> Page[LateLoan]:
    """See ``Portfolio.worklist``."""
    as_whole(least, "min_days", least=1, most=36_600)
    as_whole(limit, "limit", least=1, most=MAX_LIMIT)
    at = await frame(db, on)
    mark = blake2b(f"{db.tenant_id} worklist {at.on} {least}".encode(), digest_size=8).digest()
    more = ""
    if after is not None:
        days, id = read_cursor(after, mark, orders(spec_of(Loan), _ORDER))
        more = f" AND (-days, id) > ({at.arg(-days)}::int, {at.arg(id)}::uuid)"
    at.tables += (
        f", page AS (SELECT * FROM loans WHERE days >= {at.arg(least)}{more} ORDER BY -days, id LIMIT "
        f"{at.arg(limit + 1)})"
    )
    rows = await at.rows(
        "SELECT w.id, w.number, w.borrower_id, w.days, w.oldest_due, o.overdue, o.due_now, w.principal, w.charged_off, "
        "w.asset, t.effective, t.amount FROM page w JOIN (SELECT p.id, sum(o.total) FILTER (WHERE o.due < $2) AS "
        "overdue, sum(o.total) AS due_now FROM page p JOIN owed o ON o.loan_id = p.id GROUP BY p.id) o ON o.id = w.id "
        f"{_LAST} ORDER BY -w.days, w.id"
    )
    items = [
        LateLoan(
            loan=id,
            number=number,
            borrower=borrower,
            days_past_due=days,
            oldest_due=oldest,
            overdue=Money(int(overdue), asset),
            due_now=Money(int(due_now), asset),
            principal_outstanding=Money(int(principal), asset),
            charged_off=charged_off,
            last_payment_on=paid_on,
            last_payment=None if paid is None else Money(int(paid), asset),
        )
        for id, number, borrower, days, oldest, overdue, due_now, principal, charged_off, asset, paid_on, paid in rows
    ]
    shown = items[:limit]
    following = write_cursor(mark, (shown[-1].days_past_due, shown[-1].loan)) if len(items) > limit else None
    return Page(items=shown, limit=limit, next=following)
