"""Forges bundles: takes one apart into lines, lets them be changed, and makes the end line right again."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any

from tallystick.audit.merkle import leaf_hash
from tallystick.audit.verifier import Bundle, Key
from tallystick.testing.bundles import SyntheticLog

INDEX, SEQ, LEAF, PROOF, AT, SALT, XID, OP, TABLE, KEY, BODY = range(1, 12)
"""Fields of an entry's line, after its tag."""

Lines = list[list[bytes]]


def bundle_of(log: SyntheticLog, **options: Any) -> bytes:
    file = io.BytesIO()
    log.write(file, **options)
    return file.getvalue()


def take_apart(bundle: bytes) -> Lines:
    return [line.split(b"\t", 11) for line in bundle.split(b"\n")[:-2]]


def put_together(lines: Iterable[list[bytes]]) -> bytes:
    text = b"".join(b"\t".join(line) + b"\n" for line in lines)
    return text + b"Z\t" + sha256(text).hexdigest().encode() + b"\n"


def forge(bundle: bytes, change: Callable[[Lines], Lines | None]) -> bytes:
    lines = take_apart(bundle)
    made = put_together(change(lines) or lines)
    assert made != bundle
    return made


def entries(lines: Lines) -> Lines:
    return [line for line in lines if line[0] in (b"E", b"X")]


def entry(lines: Lines, index: int) -> list[bytes]:
    return next(line for line in entries(lines) if int(line[INDEX]) == index)


def renumber(lines: Lines) -> Lines:
    for place, line in enumerate(entries(lines)):
        line[INDEX] = b"%d" % place
    return lines


def reseal(line: list[bytes]) -> None:
    """Make the leaf right for what the body says now."""
    line[LEAF] = leaf_hash(bytes.fromhex(line[SALT].decode()), line[BODY]).hex().encode()


def verify(bundle: bytes, log: SyntheticLog, previous: bytes | str | None = None, key: Key | None = None) -> Bundle:
    kept = None if previous is None else io.BytesIO(previous.encode() if isinstance(previous, str) else previous)
    return Bundle(io.BytesIO(bundle), [key or log.signer.key], kept)
