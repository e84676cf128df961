"""Envelopes: one encrypted field, bound to the place it belongs to.

Layout of version 1, 46 bytes more than the plaintext::

    version (1) | algorithm (1) | key id (16) | nonce (12) | ciphertext | tag (16)

The primitive is AES-256-GCM with a random nonce of 96 bits (NIST SP 800-38D: at most 2**32 messages a key). GCM alone
does not commit to its key, so the header holds an id derived from the key by HKDF (RFC 5869), which is compared before
anything is decrypted. The header is authenticated together with the caller's associated data.
"""

from __future__ import annotations

import hmac
import os
from functools import lru_cache
from typing import Final, NoReturn
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tallystick.errors import Denied, Invalid, Tampered

__all__ = ["OVERHEAD", "DataKey", "associated_data", "key_id_of", "length_prefixed", "open_", "seal"]

_VERSION: Final = 1
_AES_256_GCM: Final = 1
_HEADER: Final = 18
_NONCE: Final = 12
_TAG: Final = 16
_BODY: Final = _HEADER + _NONCE
OVERHEAD: Final = _BODY + _TAG
"""How many bytes an envelope is longer than its plaintext."""

_SIXTEEN: Final = (16).to_bytes(4, "big")
_NOBODY: Final = bytes(4)
_random = os.urandom
_same = hmac.compare_digest


class DataKey:
    """A key that encrypts fields: the ready cipher and the id that commits to it, never the key itself.

    ``material`` is 32 bytes; raises ``Invalid`` for anything else. It is not kept, and the object can be neither
    printed, pickled nor copied into another place. Python cannot wipe memory: what was in it may still be there.
    """

    __slots__ = ("_cipher", "_header", "key_id")

    def __init__(self, material: bytes) -> None:
        if material.__class__ is not bytes or len(material) != 32:
            raise Invalid("A data key is 32 bytes.", field="material", remedy="Take it from a key provider.")
        self.key_id: Final = HKDFExpand(algorithm=SHA256(), length=16, info=b"commit").derive(material)
        self._header: Final = bytes((_VERSION, _AES_256_GCM)) + self.key_id
        self._cipher: Final = AESGCM(material)

    def __repr__(self) -> str:
        return f"DataKey(id={self.key_id.hex()[:8]}…)"

    def __reduce__(self) -> NoReturn:
        raise Denied("A key cannot be pickled or copied.", remedy="Ask the key provider for it where it is needed.")

    def __getstate__(self) -> NoReturn:
        self.__reduce__()


def seal(key: DataKey, plaintext: bytes, aad: bytes) -> bytes:
    """Return the envelope of a plaintext that opens only with this key and this associated data."""
    nonce = _random(_NONCE)
    header = key._header
    return header + nonce + _encrypt(key._cipher, nonce, plaintext, header + aad)


def open_(key: DataKey, envelope: bytes, aad: bytes) -> bytes:
    """Return the plaintext of an envelope.

    Raises ``Tampered`` when a byte of it was changed, it was moved to another place (other associated data),
    it is cut short, of an unknown version or algorithm, or sealed with another key, which is told before
    decrypting.
    """
    header = key._header
    if envelope.__class__ is not bytes or len(envelope) < OVERHEAD:
        raise Tampered("An encrypted field is too short to be an envelope.")
    if not _same(envelope[:_HEADER], header):
        _explain(envelope, header)
    return _decrypt(key._cipher, envelope[_HEADER:_BODY], envelope[_BODY:], header + aad)


def key_id_of(envelope: bytes) -> bytes:
    """Return the id of the key that an envelope names; raises ``Tampered`` when it is not an envelope."""
    if envelope.__class__ is not bytes or len(envelope) < OVERHEAD:
        raise Tampered("An encrypted field is too short to be an envelope.")
    return envelope[2:_HEADER]


def associated_data(tenant: UUID, table: str, column: str, row: UUID, subject: UUID | None) -> bytes:
    """Return the bytes that bind an envelope to one cell and one person.

    Each part is preceded by its length, so no two places can have the same bytes; no subject is an empty part.
    """
    whose = _NOBODY if subject is None else _SIXTEEN + subject.bytes
    return _SIXTEEN + tenant.bytes + _named(table, column) + _SIXTEEN + row.bytes + whose


@lru_cache(4096)
def _named(table: str, column: str) -> bytes:
    return length_prefixed(table.encode(), column.encode())


def length_prefixed(*parts: bytes) -> bytes:
    """Join byte strings so that they can be told apart again: four bytes of length before each, big-endian."""
    return b"".join([piece for part in parts for piece in (len(part).to_bytes(4, "big"), part)])


def _encrypt(cipher: AESGCM, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    return cipher.encrypt(nonce, plaintext, aad)


def _decrypt(cipher: AESGCM, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    # The library takes nonces of 8 to 128 bytes; any but 12 goes through GHASH and weakens the bound on messages.
    if len(nonce) != _NONCE:
        raise Tampered("An encrypted field has a nonce of the wrong length.")
    try:
        return cipher.decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Tampered("An encrypted field fails its authentication.") from None


def _explain(envelope: bytes, header: bytes) -> NoReturn:
    if envelope[0] != header[0]:
        raise Tampered("An encrypted field has an unknown version.")
    if envelope[1] != header[1]:
        raise Tampered("An encrypted field has an unknown algorithm.")
    raise Tampered("An encrypted field was sealed with another key.")
