#!/usr/bin/env python3
"""Verify a Tallystick audit bundle offline: this file, Python 3.11 or later, and the `cryptography` package.

    python verifier.py bundle.tally --key 'tallystick/<installation>+<id>+<key>' [--previous kept.tally] [--json]

A log is an RFC 9162 Merkle tree. Leaf number `idx` is SHA-256(0x00 || salt || body), where body is the JSON text that
the database wrote down in the transaction that made the change. A checkpoint, signed with Ed25519 as a C2SP note,
states the size and the root of the tree. This program recomputes every leaf from its body, the root from the leaves (or
from an inclusion proof), and holds the root against the signature and against a checkpoint that you kept from before.
Read from top to bottom: what can be found, the tree, the signature, the bundle, the report. It trusts nothing but KEY.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "tallystick-bundle/1"
LINE = 64 << 20  # longer lines are refused, so that memory stays bounded
KINDS = {  # what can be found -> exit code; when several are found, the first of this list is the exit code
    "version": 11, "format": 10, "wrong-key": 20, "signature": 21, "other-log": 22, "past": 23, "forked": 24,
    "body": 30, "salt": 31, "leaf": 32, "column": 33, "missing": 34, "duplicated": 35, "inserted": 36, "reordered": 37,
    "proof": 38, "rewritten": 39, "dropped": 40, "node": 41, "truncated": 12, "trailing": 13, "digest": 14,
    "unproven": 3,
}  # fmt: skip


class Refused(Exception):
    """One thing that is wrong: its kind, and a sentence."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


# --- The tree: RFC 9162, section 2.1 ----------------------------------------------------------------------------------


def leaf_hash(salt: bytes, body: bytes) -> bytes:
    """The leaf of one entry; the salt keeps a dropped body from being guessed from its leaf."""
    return sha256(b"\x00" + salt + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two others; the prefix keeps a node from being passed off as a leaf."""
    return sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root above a row of hashes: pairs, level by level, where an odd last one is carried up."""
    row = list(hashes)
    while len(row) > 1:
        odd = row[-1:] if len(row) % 2 else []
        row = [sha256(b"\x01" + a + b).digest() for a, b in zip(row[::2], row[1::2], strict=False)] + odd
    return row[0] if row else sha256(b"").digest()


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof leads from leaf number `index` to the root of a tree of `size` leaves (2.1.3.2)."""
    if not 0 <= index < size or any(len(part) != 32 for part in (leaf, *proof)):
        return False
    at, last = index, size - 1
    for part in proof:
        if not last:
            return False
        if at & 1 or at == last:
            leaf = node_hash(part, leaf)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            leaf = node_hash(leaf, part)
        at, last = at >> 1, last >> 1
    return not last and leaf == root


def verify_consistency(size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of size2 leaves begins with the size1 leaves under root1 (2.1.4.2). Size 0 proves nothing."""
    if not 0 < size1 <= size2 or any(len(part) != 32 for part in proof) or (not proof) != (size1 == size2):
        return False
    if size1 == size2:
        return root1 == root2
    steps = list(proof) if size1 & (size1 - 1) else [root1, *proof]
    at, last = size1 - 1, size2 - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = steps[0]
    for part in steps[1:]:
        if not last:
            return False
        if at & 1 or at == last:
            old, new = node_hash(part, old), node_hash(part, new)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, part)
        at, last = at >> 1, last >> 1
    return not last and old == root1 and new == root2


# --- The signature: C2SP signed-note and tlog-checkpoint --------------------------------------------------------------


class Key(NamedTuple):
    """A public key by name; its id is the beginning of a hash of name and key."""

    name: str
    id: bytes
    public: bytes


class Checkpoint(NamedTuple):
    """What a checkpoint says, once its signature was verified."""

    origin: str
    size: int
    root: bytes
    state: str
    signers: tuple[str, ...]


def unbase64(text: str) -> bytes:
    """Decode base64 that has one spelling only."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("base64 is not canonical")
    return raw


def key_id(name: str, public: bytes) -> bytes:
    """The id of an Ed25519 key: SHA-256(name || 0x0A || 0x01 || key), the first four bytes."""
    return sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def named(name: str) -> bool:
    """Whether a key may have this name."""
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " for c in name)


def read_key(vkey: str) -> Key:
    """Read a verifier key, `<name>+<id as hex>+<base64 of 0x01 and the key>`."""
    try:
        name, number, rest = vkey.strip().split("+", 2)
        raw = unbase64(rest)
        key = Key(name, bytes.fromhex(number), raw[1:])
        if not named(name) or raw[:1] != b"\x01" or len(raw) != 33 or key.id != key_id(name, key.public):
            raise ValueError
    except ValueError:
        raise Refused("wrong-key", "the key is not an Ed25519 verifier key, or was not copied whole") from None
    return key


def open_note(note: bytes, keys: Sequence[Key]) -> tuple[str, tuple[str, ...]]:
    """Verify a signed note; returns its text and who signed it. Signatures of keys not given are passed over."""
    signers: list[str] = []
    seen: list[str] = []
    try:
        head, rule, tail = note.decode().rpartition("\n\n")
        lines = tail.split("\n")
        if not rule or not head or len(note) > 1 << 20 or any(c < " " and c != "\n" for c in head + tail):
            raise ValueError
        if lines.pop() or not 1 <= len(lines) <= 100:
            raise ValueError
        for line in lines:
            dash, name, signature = line.split(" ")
            raw = unbase64(signature)
            if dash != "\u2014" or not named(name) or len(raw) < 5:
                raise ValueError
            seen.append(f"{name} ({raw[:4].hex()})")
            for key in keys:
                if (key.name, key.id) == (name, raw[:4]) and name not in signers:
                    Ed25519PublicKey.from_public_bytes(key.public).verify(raw[4:], f"{head}\n".encode())
                    signers.append(name)
    except ValueError:
        raise Refused("format", "a checkpoint is not a signed note") from None
    except InvalidSignature:
        raise Refused("signature", "a checkpoint's signature does not fit: it was edited after signing") from None
    if not signers:
        raise Refused("wrong-key", f"a checkpoint is signed by {', '.join(seen)[:300]}, and not by the key given")
    return f"{head}\n", tuple(signers)


def read_checkpoint(note: bytes, keys: Sequence[Key]) -> Checkpoint:
    """Verify a checkpoint: its signature, its form, and that its log belongs to the key that signed it."""
    text, signers = open_note(note, keys)
    origin, size, root, *more = [*text.split("\n")[:-1], "", "", ""][: max(3, text.count("\n"))]
    states = [line for line in more if re.fullmatch("state [0-9a-f]{64}", line)]
    try:
        if not re.fullmatch("0|[1-9][0-9]{0,17}", size) or len(unbase64(root)) != 32 or not all(more):
            raise ValueError
        (state,) = states
    except ValueError:
        raise Refused("format", "a checkpoint does not state origin, size, root and schema state") from None
    if not any(re.fullmatch(re.escape(name) + "/[0-9a-f-]{36}", origin) for name in signers):
        raise Refused("other-log", f"the checkpoint is of {origin}, a log that is not of the key {signers[0]}")
    return Checkpoint(origin, int(size), unbase64(root), state[6:], signers)
