"""Erasure requests: who asked to be forgotten, what was decided, and what of it is still due."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated

from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Length, Once, Ref
from tallystick.rules import Check, Index, Readable, Rules, Transitions, Unique, kept


class ErasureStatus(StrEnum):
    """``partial``: some classes are erased, the others are kept by law until a stated day."""

    REQUESTED = "requested"
    ON_HOLD = "on_hold"
    PARTIAL = "partial"
    EXECUTED = "executed"
    REFUSED = "refused"


class ErasureGround(StrEnum):
    """Why a person may ask: GDPR Art. 17(1)(a) to (f), in the order of the article."""

    NO_LONGER_NEEDED = "no_longer_needed"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    OBJECTION = "objection"
    UNLAWFUL = "unlawful"
    LEGAL_OBLIGATION = "legal_obligation"
    CHILD = "child"


class RefusalGround(StrEnum):
    """Why it may be refused: GDPR Art. 17(3)(a) to (e), and Art. 12(5)(b) for a manifestly unfounded request."""

    FREE_EXPRESSION = "free_expression"
    LEGAL_OBLIGATION = "legal_obligation"
    PUBLIC_HEALTH = "public_health"
    ARCHIVING = "archiving"
    LEGAL_CLAIMS = "legal_claims"
    UNFOUNDED = "unfounded"


class StepStatus(StrEnum):
    """What became of one class of a person's data."""

    ERASED = "erased"
    KEPT = "kept"


_S = ErasureStatus
OPEN = (_S.REQUESTED, _S.ON_HOLD, _S.PARTIAL)
"""The statuses of a request of which something is still to be done."""


class ErasureRequest(Entity):
    """A person's request to be erased; at most one at a time is open.

    ``final_epoch`` is the key epoch after whose end no backup can bring anything back.
    """

    user: Annotated[Ref[User], Once()]
    ground: Annotated[ErasureGround, Once()]
    requested_at: Annotated[datetime, Once()]
    status: ErasureStatus = _S.REQUESTED
    refusal: RefusalGround | None = None
    decided_at: datetime | None = None
    final_epoch: int | None = None

    rules = Rules(
        Unique("user", where="status in ('requested', 'on_hold', 'partial')"),
        Index("user", "requested_at", query="what a person asked for, oldest first"),
        Index("status", "requested_at", query="requests to decide, oldest first"),
        Check("refused", "(status = 'refused') = (refusal is not null)"),
        Check("epoch", "final_epoch is null or final_epoch >= 1"),
        Transitions(
            "status",
            {
                _S.REQUESTED: [_S.ON_HOLD, _S.PARTIAL, _S.EXECUTED, _S.REFUSED],
                _S.ON_HOLD: [_S.REQUESTED, _S.PARTIAL, _S.EXECUTED, _S.REFUSED],
                _S.PARTIAL: [_S.EXECUTED],
            },
            initial=[_S.REQUESTED, _S.ON_HOLD],
        ),
        kept(),
        retain="audit",
    )


class ErasureStep(Entity):
    """One class of the data that an erasure is about: erased, or kept until ``due_on`` for the stated reason.

    ``due_on`` is None where a hold of the whole class keeps it without an end.
    """

    request: Annotated[Ref[ErasureRequest], Once()]
    data_class: Annotated[str, Length(63, min=1), Once()]
    status: StepStatus
    reason: Annotated[str, Length(300)] = ""
    citation: Annotated[str, Length(200)] = ""
    due_on: date | None = None
    erased_at: datetime | None = None

    rules = Rules(
        Unique("request", "data_class"),
        Index("status", "due_on", query="what is due to be erased", where="status = 'kept'"),
        Check("erased", "(status = 'erased') = (erased_at is not null)"),
        Transitions(
            "status",
            {StepStatus.KEPT: [StepStatus.ERASED]},
            initial=[StepStatus.KEPT, StepStatus.ERASED],
        ),
        kept(),
        retain="audit",
        readable={"data_class": Readable.CODE, "reason": Readable.TERMS, "citation": Readable.TERMS},
    )


class ErasureRequests(Guarded[ErasureRequest]):
    """The requests to be erased."""

    permission = "privacy.erase"
    instead = "db.privacy.request_erasure() and erase()"


class ErasureSteps(Guarded[ErasureStep]):
    """What became of each class of data of an erasure."""

    permission = "privacy.erase"
    instead = "db.privacy.erase()"
