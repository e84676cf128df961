"""Applications on their way, and decisions on them."""

from __future__ import annotations

from typing import Any

from tallystick import (
    Application,
    ApplicationStatus,
    Decision,
    DecisionKind,
    Outcome,
    Ref,
)
from tallystick.domains.identity.users import User
from tallystick.session import Session
from tallystick.testing import Make

_S = ApplicationStatus


async def scoring(db: Session, make: Make, applicant: User | None = None, **given: Any) -> Application:
    """An application in scoring."""
    who = {} if applicant is None else {"applicant": applicant}
    application = await make(Application, **who, **given)
    for status in (_S.SUBMITTED, _S.VERIFYING, _S.SCORING):
        application = await db.applications.update(application, status=status)
    return application


def decision(of: Application, outcome: Outcome = Outcome.APPROVED, **given: Any) -> Decision:
    """A decision by policy, unless something else is given."""
    wanted: dict[str, Any] = {"kind": DecisionKind.POLICY, "is_final": outcome in (Outcome.APPROVED, Outcome.DECLINED)}
    return Decision(application=Ref(of.id), outcome=outcome, **(wanted | given))
