"""People who agreed, and what they did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tallystick import BehaviorInput, Consent, InputSource, InputType, Purpose, Ref, User
from tallystick.session import Session
from tallystick.testing import Make

DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


async def agreed(db: Session, make: Make, purpose: Purpose = Purpose.CREDIT_CHECK) -> tuple[User, Consent]:
    """A user, and the consent that they gave."""
    user = await make.user()
    return user, await db.consents.grant(user, purpose, policy_version="2026-1")


def done(user: User, number: int = 0, /, **given: Any) -> BehaviorInput:
    """Something that a user did."""
    wanted: dict[str, Any] = {
        "user": Ref(user.id),
        "type": list(InputType)[number % 3],
        "source": list(InputSource)[number % 2],
        "external_id": f"event-{number}",
        "payload": {"value": number},
        "occurred_at": DAY + timedelta(hours=number),
    }
    return BehaviorInput(**(wanted | given))
