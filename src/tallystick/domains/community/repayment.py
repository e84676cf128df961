"""How a member repaid what they borrowed in a community, read from the loans' current plans."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from tallystick.session import Session

_RECORD = """
SELECT count(*) FILTER (WHERE i.due <= $4) AS due,
  count(*) FILTER (WHERE i.due <= $4 AND i.settled_on <= i.due) AS on_time,
  min(i.due) FILTER (WHERE i.due < $4 AND (i.settled_on IS NULL OR i.settled_on > $4)
    AND (l.written_off_on IS NULL OR l.written_off_on > $4)) AS oldest,
  count(DISTINCT l.id) FILTER (WHERE l.written_off_on <= $4) AS written_off
FROM tally.loan l
LEFT JOIN tally.loan_installment i ON i.tenant_id = $1 AND i.loan_id = l.id AND i.current
WHERE l.tenant_id = $1 AND l.borrower_id = $2 AND l.community_id = $3 AND l.disbursed_on <= $4
"""


class RepaymentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Up to a day: installments that fell due, those settled by their due date, and loans written off.

    ``days_past_due`` is how late the oldest open installment is.
    """

    due: int
    on_time: int
    days_past_due: int
    written_off: int


async def repayment_record(db: Session, user: UUID, community: UUID, day: date) -> RepaymentRecord | None:
    """A borrower's record in a community as of the end of a day; None when nothing fell due yet and nothing was lost.

    Also None where the application does not lend.
    """
    if not db.has("lending"):
        return None
    ((due, on_time, oldest, lost),) = await db.unit.call(_RECORD, (db.tenant_id, user, community, day))
    if not due and not lost:
        return None
    late = 0 if oldest is None else (day - oldest).days
    return RepaymentRecord(due=due, on_time=on_time, days_past_due=late, written_off=lost)
