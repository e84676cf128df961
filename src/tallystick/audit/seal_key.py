"""The key that signs checkpoints: an Ed25519 key in a file, never in the database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tallystick.errors import Invalid
from tallystick.privacy.private_file import read_private, write_private

__all__ = ["create_seal_key", "read_seal_key"]

_RAW: Final = 32
_MAKE: Final = "`tallystick audit seal --new-key PATH`"


def read_seal_key(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    """Read the key from a file that nobody else may read (mode 0600): PEM (PKCS #8), 32 bytes, or 64 hex digits.

    Raises ``Unavailable`` when the file cannot be read, ``Invalid`` when it holds no such key.
    """
    content = read_private(Path(path), _MAKE)
    try:
        if content.lstrip().startswith(b"-----"):
            key = load_pem_private_key(content, password=None)
            if isinstance(key, Ed25519PrivateKey):
                return key
        elif len(content) == _RAW:
            return Ed25519PrivateKey.from_private_bytes(content)
        elif len(content.strip()) == 2 * _RAW:
            return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(content.strip().decode("ascii")))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise Invalid(
        "The sealing key file holds no Ed25519 key.",
        field="seal_key_file",
        remedy=f"Make one with {_MAKE}, or "
        "`openssl genpkey -algorithm ed25519 -out PATH`; a PEM file must have no password.",
    )


def create_seal_key(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    """Write a new key to a file of mode 0600 and answer it; never replaces a file. Raises ``Invalid``."""
    key = Ed25519PrivateKey.generate()
    write_private(Path(path), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key
