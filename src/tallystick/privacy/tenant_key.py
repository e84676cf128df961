"""The key of a hardened database: what signs the setting that names a tenant.

A signed setting is ``<uuid>.<HMAC-SHA-256(key, uuid) as hex>``. The database checks it from two blocks derived from the
key (RFC 2104), with the ``sha256`` every PostgreSQL has and no extension.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final
from uuid import UUID

from tallystick.errors import Invalid
from tallystick.privacy.keys import _root_of
from tallystick.privacy.private_file import read_private, write_private

SIZE: Final = 32
_BLOCK: Final = 64
_CACHED: Final = 4096


def checked(key: bytes) -> bytes:
    """The key itself; raises ``Invalid`` unless it is 32 bytes that are not all the same."""
    if key.__class__ is not bytes or len(key) != SIZE or len(set(key)) == 1:
        raise Invalid(
            "A tenant key is 32 random bytes.", field="key", remedy="Make one with `tallystick harden --new-key PATH`."
        )
    return key


def read(path: str | os.PathLike[str]) -> bytes:
    """Read a key from a file of 32 bytes or 64 hexadecimal digits that nobody else may read (mode 0600).

    Raises ``Unavailable`` when it cannot be read and ``Invalid`` when it is not such a file.
    """
    return checked(_root_of(read_private(Path(path))))


def create(path: str | os.PathLike[str]) -> bytes:
    """Write a new random key to a file of mode 0600 and answer it; never replaces a file. Raises ``Invalid``."""
    key = os.urandom(SIZE)
    write_private(Path(path), key.hex().encode() + b"\n")
    return key


def signer(key: bytes) -> Callable[[UUID], str]:
    """A function from a tenant to its signed setting, which remembers the last few thousand.

    What it answers is hexadecimal digits, dashes and one dot, so that it needs no quoting anywhere.
    """
    checked(key)

    # A closure, so that the key is no attribute that a printer, a logger or a pickler would meet.
    @lru_cache(_CACHED)
    def setting(tenant: UUID) -> str:
        name = str(tenant)
        return f"{name}.{hmac.new(key, name.encode(), hashlib.sha256).hexdigest()}"

    return setting


def pads(key: bytes) -> tuple[bytes, bytes]:
    """The inner and the outer block of RFC 2104, which let a server sign with ``sha256`` alone.

    They are as secret as the key, which is plain to see in them. Source: RFC 2104 §2, with B = 64 for SHA-256.
    """
    block = checked(key).ljust(_BLOCK, b"\0")
    return bytes(b ^ 0x36 for b in block), bytes(b ^ 0x5C for b in block)
