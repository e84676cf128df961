"""Checkpoints: the signed statement of a log's size and root, as a C2SP signed note.

    tallystick/<installation>/<tenant>          origin: which log
    <number of leaves>
    <root, base64>
    state <digest of the schema's state, hex>   extension line

    — tallystick/<installation> <base64 of key id and Ed25519 signature>

One key signs all logs of an installation, so its name is the part of the origin before the tenant. Other signatures,
of witnesses for instance, are lines below. Reading and verifying is the offline verifier's code.
Sources: c2sp.org/signed-note and c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick.audit import verifier
from tallystick.audit.verifier import Checkpoint, Refused
from tallystick.errors import Invalid, Tampered

__all__ = ["Checkpoint", "Key", "Signer", "key_name", "open_checkpoint", "origin", "read_vkey", "write"]

_PREFIX: Final = "PRIVATE+KEY+"
_ED25519: Final = b"\x01"


class Key(NamedTuple):
    """A public key: its name, its id (the first four bytes of a hash of name and key), and the key."""

    name: str
    id: bytes
    public: bytes


def key_name(installation: UUID) -> str:
    """The name of an installation's sealing key."""
    return f"tallystick/{installation}"


def origin(installation: UUID, tenant: UUID) -> str:
    """The name of a tenant's log; the nil tenant's is the log of the installation itself."""
    return f"{key_name(installation)}/{tenant}"


class Signer:
    """A private key with its name: it signs notes, and says by which public key they are verified."""

    __slots__ = ("_private", "key")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        if not re.fullmatch(r"[^\s+\x00-\x1f]+", name):
            raise Invalid("A key's name is not empty and holds neither spaces nor a plus sign.", field="name")
        self._private = private
        public = private.public_key().public_bytes_raw()
        self.key = Key(name, sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4], public)

    def __repr__(self) -> str:
        return f"Signer({self.key.name}+{self.key.id.hex()})"

    @property
    def vkey(self) -> str:
        """The public key as one line, for auditors: ``<name>+<key id>+<base64 of 0x01 and the key>``."""
        return f"{self.key.name}+{self.key.id.hex()}+{_base64(_ED25519 + self.key.public)}"

    @property
    def skey(self) -> str:
        """The private key as one line, with its name: ``PRIVATE+KEY+<name>+<key id>+<base64 of 0x01 and the seed>``."""
        return f"{_PREFIX}{self.key.name}+{self.key.id.hex()}+{_base64(_ED25519 + self._private.private_bytes_raw())}"

    @classmethod
    def from_skey(cls, skey: str) -> Signer:
        """Read what ``skey`` wrote. Raises ``Invalid``, which never repeats it."""
        try:
            name, number, seed = skey.strip().removeprefix(_PREFIX).split("+", 2)
            raw = base64.b64decode(seed, validate=True)
            if not skey.startswith(_PREFIX) or raw[:1] != _ED25519:
                raise ValueError
            signer = cls(name, Ed25519PrivateKey.from_private_bytes(raw[1:]))
            if signer.key.id.hex() != number:
                raise ValueError
        except ValueError:
            raise Invalid(
                "This is not a signing key of the form PRIVATE+KEY+name+id+key.",
                field="skey",
                remedy="Copy the whole line, without a line break in it.",
            ) from None
        return signer

    def sign(self, note: str) -> str:
        """Sign a text that ends with a line break, or add a signature to a note that has some already."""
        text, rule, signatures = note.rpartition("\n\n")
        if rule and signatures.startswith("\u2014 "):
            text += "\n"
        else:
            text, signatures = note, ""
        if len(text) < 2 or not text.endswith("\n") or any(c < " " and c != "\n" for c in text):
            raise Invalid("A note is text that ends with a line break and holds no other control characters.")
        signed = _base64(self.key.id + self._private.sign(text.encode()))
        return f"{text}\n{signatures}\u2014 {self.key.name} {signed}\n"


def write(log: str, size: int, root: bytes, state: str) -> str:
    """The text of a checkpoint, to be signed: ``log`` is the origin, ``state`` 64 hex digits. Raises ``Invalid``."""
    if not log or any(c.isspace() or c < " " or c == "+" for c in log):
        raise Invalid("The origin of a log is one word without spaces and plus signs.", field="origin")
    if not 0 <= size < 10**18 or len(root) != 32 or not re.fullmatch("[0-9a-f]{64}", state):
        raise Invalid("A checkpoint states a size from 0, a root of 32 bytes and a state of 64 hex digits.")
    return f"{log}\n{size}\n{_base64(root)}\nstate {state}\n"


def read_vkey(vkey: str) -> Key:
    """Read a public key of one line. Raises ``Invalid``."""
    try:
        return Key(*verifier.read_key(vkey))
    except Refused as refused:
        raise Invalid(f"{refused.args[1].capitalize()}.", field="vkey") from None


def open_checkpoint(note: str, keys: Sequence[Key], *, log: str = "") -> Checkpoint:
    """Verify a checkpoint, and that it is of ``log`` where one is named. Raises ``Tampered``, which says what it is."""
    try:
        found = verifier.read_checkpoint(note.encode(), keys)
    except Refused as refused:
        raise Tampered(
            f"A checkpoint is refused ({refused.args[0]}): {refused.args[1]}.",
            kind=refused.args[0],
            remedy="Do not build on it; compare it with the checkpoints that are kept outside the database.",
        ) from None
    if log and found.origin != log:
        raise Tampered(
            f"The checkpoint is of the log {found.origin}, and not of {log}.",
            kind="other-log",
            remedy="Look whether two installations share a directory or a database.",
        )
    return found


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
