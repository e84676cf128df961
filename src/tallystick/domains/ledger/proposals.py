"""Proposals: journals that wait for a second person."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from tallystick.entity import Entity
from tallystick.fields import Length, Once
from tallystick.rules import Index, Readable, Rules, Transitions, kept


class ProposalStatus(StrEnum):
    """Where a proposal stands; an approved one is posted."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"


_S = ProposalStatus


class Proposal(Entity):
    """What its maker wants posted. A checker, who is somebody else, approves or rejects it; it never changes.

    ``legs`` has one object a transfer: debit, credit, asset, amount in minor units as text. ``effective`` None means
    the day of the approval.
    """

    op: Annotated[str, Length(64, min=1), Once()]
    legs: Annotated[list[dict[str, str]], Once()]
    effective: Annotated[date, Once()] | None = None
    reverses: Annotated[UUID, Once()] | None = None
    source: Annotated[str, Length(63, min=1), Once()] | None = None
    source_id: Annotated[UUID, Once()] | None = None
    description: Annotated[str, Length(500), Once()] | None = None
    status: ProposalStatus = ProposalStatus.PROPOSED

    rules = Rules(
        Index("status", "created_at", query="proposals that wait, oldest first"),
        Transitions("status", {_S.PROPOSED: [_S.APPROVED, _S.REJECTED]}, initial=[_S.PROPOSED]),
        kept(),
        retain="lending",
        table="journal_proposal",
        readable={"op": Readable.CODE, "legs": Readable.TERMS, "source": Readable.CODE, "description": Readable.NOTE},
    )
