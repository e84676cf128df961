"""Who receives when, drawn from a seed that nobody could choose after they knew the members.

The hash of the seed (SHA-256) is a term of the group, published before anybody joins; the seed is revealed when
membership is closed. The order is ascending by HMAC-SHA-256, whose key is the seed and whose message the 16 bytes of
the group's id and then the 16 of the user's, both in the order in which an id is written (RFC 9562); the first of it
receives first. So anybody can draw it again::

    sorted(users, key=lambda user: hmac.digest(seed, group.bytes + user.bytes, "sha256"))
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from uuid import UUID

from tallystick.errors import Invalid

_LEAST, _MOST = 16, 64


def commitment(seed: bytes) -> bytes:
    """What is published of a seed before it is revealed. Raises ``Invalid`` for a seed not of 16 to 64 bytes."""
    if seed.__class__ is not bytes or not _LEAST <= len(seed) <= _MOST:
        raise Invalid(
            f"A seed is {_LEAST} to {_MOST} bytes.",
            entity="SavingsGroup",
            field="seed",
            remedy="Make one with secrets.token_bytes(32), and keep it until membership is closed.",
        )
    return sha256(seed).digest()


def drawn(seed: bytes, group: UUID, users: Iterable[UUID]) -> list[UUID]:
    """The users in the order that a seed draws for a group, whatever order they come in."""
    return sorted(users, key=lambda user: hmac.digest(seed, group.bytes + user.bytes, "sha256"))
