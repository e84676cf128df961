"""What the audit log says of logins: what happened, to whose account, and never what was typed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.audit.entries import AuditEvent

if TYPE_CHECKING:
    from tallystick.session import Session


async def record(db: Session, event: str, user: UUID | None, **data: str | int) -> None:
    """Put an event of an account into the log; where there is no such account, of none."""
    await db.audit.record(
        AuditEvent(
            type=event,
            category="authentication",
            service="tallystick",
            table="user_account",
            key="" if user is None else str(user),
            data=data or None,
        )
    )
