"""Journals: the header of what moves together."""

from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

from tallystick.domains.ledger.proposals import Proposal
from tallystick.entity import Entity
from tallystick.fields import Length, Ref
from tallystick.rules import Check, Index, Readable, Rules, Unique, append_only


class Journal(Entity):
    """Transfers that happened together, for one reason. Written once; a mistake is corrected by a reversal.

    ``effective`` is the business date, ``created_at`` the moment it was recorded. ``source`` and ``source_id`` name
    the row that it is about. ``proposal`` is what a second person approved, where the tenant's limits ask for one.
    """

    op: Annotated[str, Length(64, min=1)]
    effective: date
    reverses: Ref[Journal] | None = None
    source: Annotated[str, Length(63, min=1)] | None = None
    source_id: UUID | None = None
    description: Annotated[str, Length(500)] | None = None
    proposal: Ref[Proposal] | None = None

    rules = Rules(
        Unique("reverses"),
        Unique("proposal"),
        Index("effective", query="journals in order of their dates: exports, balances as of a date"),
        Index("source_id", query="journals about one row", where="source_id is not null"),
        Check("source_pair", "(source is null) = (source_id is null)"),
        append_only(),
        retain="lending",
        readable={"op": Readable.CODE, "source": Readable.CODE, "description": Readable.NOTE},
    )
