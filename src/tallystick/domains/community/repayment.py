"""What a community knows of the loans in it: how members repaid, which are open, which an endorsement is about.

Lending builds on communities, so its tables are read here by name, and only where the application lends.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.errors import Conflict, UnknownReference

if TYPE_CHECKING:
    from tallystick.session import Session

_RECORD = """
SELECT count(*) FILTER (WHERE i.due <= $4) AS due,
  count(*) FILTER (WHERE i.due <= $4 AND i.settled_on <= i.due
    AND (l.written_off_on IS NULL OR i.settled_on < l.written_off_on)) AS on_time,
  min(i.due) FILTER (WHERE i.due < $4 AND (i.settled_on IS NULL OR i.settled_on > $4)
    AND (l.written_off_on IS NULL OR l.written_off_on > $4)) AS oldest,
  count(DISTINCT l.id) FILTER (WHERE l.written_off_on <= $4) AS written_off
FROM tally.loan l
LEFT JOIN tally.loan_installment i ON i.tenant_id = $1 AND i.loan_id = l.id AND i.current
WHERE l.tenant_id = $1 AND l.borrower_id = $2 AND l.community_id = $3 AND l.disbursed_on <= $4
"""
_OVER = "('closed', 'written_off', 'rejected', 'withdrawn', 'cancelled', 'expired')"
_OPEN = (
    "SELECT EXISTS (SELECT FROM tally.loan WHERE tenant_id = $1 AND community_id = $2 "
    f"AND status NOT IN {_OVER}) AS open"
)
_LOAN = "SELECT borrower_id, community_id, status FROM tally.loan WHERE tenant_id = $1 AND id = $2 FOR SHARE"
_AT_RISK = frozenset({"approved", "disbursing", "active", "written_off"})


class RepaymentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Up to a day: installments that fell due, those settled by their due date, and loans written off.

    ``days_past_due`` is how late the oldest open installment is.
    """

    due: int
    on_time: int
    days_past_due: int
    written_off: int


async def repayment_record(db: Session, user: UUID, community: UUID, day: date) -> RepaymentRecord | None:
    """A borrower's record in a community as of the end of a day, by the current plans of their loans.

    None when nothing fell due yet and nothing was lost, and where the application does not lend.
    """
    if not db.has("lending"):
        return None
    ((due, on_time, oldest, lost),) = await db.unit.call(_RECORD, (db.tenant_id, user, community, day))
    if not due and not lost:
        return None
    late = 0 if oldest is None else (day - oldest).days
    return RepaymentRecord(due=due, on_time=on_time, days_past_due=late, written_off=lost)


async def has_open_loans(db: Session, community: UUID) -> bool:
    """Whether a loan of the community is asked for, under way or not repaid."""
    if not db.has("lending"):
        return False
    return bool((await db.unit.call(_OPEN, (db.tenant_id, community)))[0][0])


async def check_loan(db: Session, loan: UUID, borrower: UUID, community: UUID) -> None:
    """Raise ``UnknownReference`` unless the loan is the borrower's, in the community."""
    found = await db.unit.call(_LOAN, (db.tenant_id, loan)) if db.has("lending") else []
    if not found or (found[0][0], found[0][1]) != (borrower, community):
        raise UnknownReference(
            "The loan is not one of the endorsed member in this community.",
            entity="Endorsement",
            field="loan",
            remedy="Endorse the borrower of the loan in its community, or leave the loan out.",
        )


async def check_not_at_risk(db: Session, loan: UUID) -> None:
    """Raise ``Conflict`` while the loan is promised, paid out and not repaid, or was lost: the endorser answers for it.

    The loan's status stays what it is until the transaction ends.
    """
    if not db.has("lending"):
        return
    found = await db.unit.call(_LOAN, (db.tenant_id, loan))
    if found and found[0][2] in _AT_RISK:
        raise Conflict(
            "The endorsed loan is not repaid.",
            entity="Endorsement",
            rule="loan_at_risk",
            remedy="Withdraw when the loan is closed, or ask somebody who may manage communities.",
        )
