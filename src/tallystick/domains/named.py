"""How a row is named in a call: by itself, its ref or its id."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import Ref


def id_of(given: Any, kind: type[Entity], field: str) -> UUID:
    """The id of a row of one kind, however it is named. Raises ``Invalid`` for anything else."""
    if isinstance(given, UUID):
        return given
    if isinstance(given, (kind, Ref)):
        return given.id
    raise Invalid(
        f"A {kind.__name__} is named by itself, its ref or its id.",
        field=field,
        entity=kind.__name__,
        remedy="Give what a call answered; parse text with tallystick.ids.parse_id().",
    )
