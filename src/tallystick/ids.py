"""Ids: UUIDv7 (RFC 9562 §5.7), made by the client, in the order of their making within a process."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, SafeUUID

from uuid_utils import uuid7 as _native_uuid7

from tallystick.errors import Invalid

__all__ = ["NIL", "is_uuid7", "parse_id", "timestamp_of", "uuid7", "uuid_of"]

NIL: Final = UUID(int=0)
"""The UUID of all zeros: never an id of a row."""

_CANONICAL: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# UUID.__init__ checks and converts what is known to be right here, and costs more than making the id.
_new = object.__new__
_set = object.__setattr__
_unknown = SafeUUID.unknown


def uuid7() -> UUID:
    """Return a new UUIDv7, later than every other that this process has made.

    Time-ordered ids keep inserts at the right edge of the index. They tell when they were made, so an id is
    not a secret and not a token.
    """
    made = _new(UUID)
    _set(made, "int", _native_uuid7().int)
    _set(made, "is_safe", _unknown)
    return made


def uuid_of(raw: bytes) -> UUID:
    """Return the UUID of 16 bytes; raises ``ValueError`` for any other number of them."""
    if len(raw) != 16:
        raise ValueError("a UUID has 16 bytes")
    made = _new(UUID)
    _set(made, "int", int.from_bytes(raw))
    _set(made, "is_safe", _unknown)
    return made


def is_uuid7(value: UUID) -> bool:
    """Tell whether a UUID is of version 7 and the RFC variant."""
    number = value.int
    return (number >> 76) & 0xF == 7 and (number >> 62) & 0x3 == 2


def timestamp_of(value: UUID) -> datetime:
    """Return when a UUIDv7 was made, in UTC, to the millisecond.

    Raises ``Invalid`` for other versions, which hold no such time, and for times past the year 9999.
    """
    if not is_uuid7(value):
        raise Invalid("Only a UUIDv7 holds the time it was made.", field="id", remedy="Read created_at instead.")
    elapsed = value.int >> 80
    try:
        return _EPOCH + timedelta(milliseconds=elapsed)
    except OverflowError:
        raise Invalid("The time in an id is past the year 9999.", field="id", remedy="Make ids with uuid7().") from None


def parse_id(value: str | UUID, field: str = "id") -> UUID:
    """Return an id from its canonical text (8-4-4-4-12 hexadecimal digits); a UUID is passed through.

    Stricter than ``uuid.UUID``, which also takes braces, URNs and hyphens anywhere, so that one id has one
    text. Raises ``Invalid`` naming ``field`` for everything else.
    """
    if isinstance(value, UUID):
        return value
    if isinstance(value, str) and _CANONICAL.fullmatch(value):
        return UUID(value)
    raise Invalid(
        f"The {field} is not a UUID.", field=field, remedy="Write it as 8-4-4-4-12 hexadecimal digits with hyphens."
    )
