"""What was revealed: one row for each sealed field that somebody opened, and why."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from tallystick.entity import Entity
from tallystick.fields import Length
from tallystick.rules import Index, Readable, Rules, append_only


class Disclosure(Entity):
    """A sealed field of one row was opened by ``created_by`` for a stated reason. Never holds the value."""

    entity: Annotated[str, Length(63)]
    row_id: UUID
    field: Annotated[str, Length(63)]
    reason: Annotated[str, Length(500, min=3)]

    rules = Rules(
        append_only(),
        Index("row_id", "created_at", query="who opened a row's secrets, newest first"),
        retain="audit",
        readable={"entity": Readable.CODE, "field": Readable.CODE, "reason": Readable.NOTE},
    )
