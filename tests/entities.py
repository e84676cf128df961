"""Entities that the tests share; every one is installed in the tests' database."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from tallystick import Entity, Index, Mask, Money, Ref, Rules, Search, Secret, Transitions, Unique, User
from tallystick.testing.conformance.entities import (
    ENTITIES,
    Colour,
    Detail,
    Door,
    Entry,
    Gate,
    Job,
    Member,
    Owner,
    Shelf,
    Sink,
)


class VisitStatus(StrEnum):
    PLANNED = "planned"
    DONE = "done"
    MISSED = "missed"


class Visit(Entity):
    """A field visit to a borrower before a loan is approved."""

    borrower: Ref[User]
    national_id: Annotated[Secret[str], Search("digits"), Mask(4)]
    fee: Money
    status: VisitStatus = VisitStatus.PLANNED
    seen_at: datetime | None = None

    rules = Rules(
        Index("status", "seen_at", query="visits of a day"),
        Unique("borrower", "seen_at"),
        Transitions(
            "status", {VisitStatus.PLANNED: [VisitStatus.DONE, VisitStatus.MISSED]}, initial=[VisitStatus.PLANNED]
        ),
        retain="lending",
    )


ALL: tuple[type[Entity], ...] = (Visit, *ENTITIES)

__all__ = [
    "ALL",
    "Colour",
    "Detail",
    "Door",
    "Entry",
    "Gate",
    "Job",
    "Member",
    "Owner",
    "Shelf",
    "Sink",
    "Visit",
    "VisitStatus",
]

APART = frozenset(
    {
        "AdverseActionNotice",
        "BehaviorSession",
        "BiasFlag",
        "Bid",
        "CounterOffer",
        "Device",
        "DeviceTask",
        "ErasureStep",
        "LenderPayout",
    }
)
"""Entities without guards that only the operations of their domain make: their checks tie several fields together."""
