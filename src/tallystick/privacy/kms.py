"""Root keys that a key management service keeps: the adapter through Tink (the extra ``kms``).

Tink speaks to AWS KMS, Google Cloud KMS and Vault's transit engine, and its clients give an ``Aead``::

    from tink.integration import awskms            # pip install 'tallystick[kms]' 'tink[awskms]'

    client = awskms.AwsKmsClient("aws-kms://arn:aws:kms:eu-central-1:...:key/...", credentials_path)
    keys = StoredKeys(TinkRoot(client.get_aead(uri)), KeyFolder("/var/lib/tallystick/keys"))

The root key never leaves the service. Only epoch keys (one a tenant and epoch) and roots of index keys are wrapped by
it, so it is asked rarely. The address of the service comes from who runs the application, never from a tenant's data.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from tallystick.errors import Tampered, Unavailable, Unsupported

__all__ = ["Aead", "TinkRoot"]


class Aead(Protocol):
    """What Tink calls an AEAD: encryption with associated data."""

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """The ciphertext."""
        ...

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        """The plaintext."""
        ...


class TinkRoot:
    """A ``RootKey`` over an ``Aead`` of Tink, which asks the service; no key is held here.

    What a key is for (tenant and name) goes to the service as associated data. Raises ``Unavailable`` when the service
    cannot be asked or refuses, ``Tampered`` for what it does not open, ``Unsupported`` without Tink.
    """

    __slots__ = ("_aead", "_problem", "development")

    def __init__(self, aead: Aead) -> None:
        self.development: Final = False
        self._aead: Final = aead
        self._problem: Final = _tink_error()

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypt 32 bytes, bound to the context."""
        try:
            return self._aead.encrypt(key, context)
        except self._problem:
            pass
        raise Unavailable("The key management service did not wrap a key.", remedy=_REMEDY)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The bytes that were wrapped with this context."""
        answer = ""
        try:
            return self._aead.decrypt(wrapped, context)
        except self._problem as problem:
            answer = str(problem).lower()
        # What the service says of itself is not shown; it may name accounts and addresses.
        if any(word in answer for word in _TRANSIENT):
            raise Unavailable("The key management service did not answer.", remedy=_REMEDY)
        raise Tampered(
            "The key management service does not open a wrapped key.",
            remedy="Check that it is the key that the key folder was made with, and that this identity may use it.",
        )

    def __repr__(self) -> str:
        return "TinkRoot()"


_TRANSIENT: Final = ("unavailable", "timeout", "timed out", "deadline", "connect", "throttl", "temporar")
_REMEDY: Final = "Check that the service can be reached and that this identity may use the key, then try again."


def _tink_error() -> Any:
    try:
        import tink  # pyright: ignore[reportMissingImports]
    except ImportError:
        pass
    else:
        return tink.TinkError
    raise Unsupported("Tink is not installed.", remedy="pip install 'tallystick[kms]'.")
