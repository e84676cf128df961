"""Bundles: a log, or a part of it, in one file that can be verified without us.

The file is lines of fields with tabs between them, and ends with a hash over all of it; ``docs/verifier.md`` describes
it. A whole log needs no proofs, because its root is rebuilt from the leaves. A part has an inclusion proof for each
entry, and a consistency proof for each earlier checkpoint. ``Bundle`` is the offline verifier's, for programs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import BinaryIO

from tallystick.audit.verifier import FORMAT, LINE, Bundle
from tallystick.errors import Invalid, Tampered

__all__ = ["FORMAT", "Bundle", "BundleWriter", "Sealed", "instant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One entry of a log as it is stored: its leaf, and its columns.

    ``index``, ``seq``, ``at`` and ``leaf`` are from the table of leaves. The rest is None or empty where a policy
    dropped the body; ``xid``, ``table``, ``op``, ``key``, ``salt`` and ``body`` are the columns of the entry, as they
    are: a verifier wants to see for itself whether they agree.
    """

    index: int
    seq: int
    at: datetime
    leaf: bytes
    xid: int = 0
    table: str = ""
    op: str = ""
    key: str = ""
    salt: bytes | None = None
    body: str | None = None


class BundleWriter:
    """Writes one bundle to a file, in this order: the checkpoint, earlier ones, nodes, entries, the end.

    ``complete`` is the range of indexes of which every entry is in the bundle, its end left out; with the range of the
    whole log, proofs are left out. Raises ``Tampered`` for stored values that no writer of the log writes, ``Invalid``
    for a call that makes no bundle. It writes as it goes and keeps nothing; the file is not closed.
    """

    __slots__ = ("_digest", "_file", "_next", "_stage", "entries", "expired", "size", "whole")

    def __init__(self, file: BinaryIO, *, log: str, size: int, note: str, complete: tuple[int, int]) -> None:
        start, stop = complete
        if not 0 <= start <= stop <= size:
            raise Invalid("What a bundle is complete in is a range of the log's entries.", field="complete")
        self._file = file
        self._digest = sha256()
        self.size = size
        self._stage = self._next = 0
        self.entries = self.expired = 0
        self.whole = (start, stop) == (0, size)
        header = {"format": FORMAT, "origin": log, "size": size, "complete": [start, stop]}
        self._line(json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode())
        self._line(b"C", _text(note), b"")

    def checkpoint(self, note: str, proof: Sequence[bytes] = ()) -> None:
        """Add an earlier checkpoint; in a part of a log with its consistency proof."""
        self._enter(0)
        self._line(b"C", _text(note), b"" if self.whole else _hashes(proof))

    def node(self, position: int, root: bytes) -> None:
        """Add a stored node of level 8, which lets a verifier say where in a whole log a leaf was rewritten."""
        self._enter(1)
        self._line(b"N", b"%d" % position, _hashes([root]))

    def entry(self, entry: Sealed, proof: Sequence[bytes] = ()) -> None:
        """Add an entry; in a part of a log with its inclusion proof."""
        self._enter(2)
        if not self._next <= entry.index < self.size:
            raise Invalid("Entries of a bundle come in the order of the log, each once.", field="index")
        self._next = entry.index + 1
        place = (b"%d" % entry.index, b"%d" % entry.seq, _hashes([entry.leaf]), b"" if self.whole else _hashes(proof))
        moment = instant(entry.at).encode()
        if entry.body is None or entry.salt is None:
            self._line(b"X", *place, moment)
            self.expired += 1
        else:
            columns = (b"%d" % entry.xid, entry.op.encode(), _text(entry.table), _text(entry.key))
            self._line(b"E", *place, moment, _hashes([entry.salt]), *columns, entry.body.encode())
        self.entries += 1

    def end(self) -> str:
        """Write the end line; answers the hash in it, which names this file."""
        self._enter(3)
        digest = self._digest.hexdigest()
        self._line(b"Z", digest.encode())
        return digest

    def _enter(self, stage: int) -> None:
        if stage < self._stage or self._stage == 3:
            raise Invalid("A bundle is written in order: checkpoints, nodes, entries, end.")
        self._stage = stage

    def _line(self, *fields: bytes) -> None:
        line = b"\t".join(fields) + b"\n"
        if b"\n" in line[:-1] or any(b"\t" in field for field in fields[:11]) or len(line) >= LINE:
            raise Tampered(
                "An entry of the log holds a line break or a tab where none is written.",
                kind="column",
                remedy="Compare the entry with a backup: no capture writes such a text.",
            )
        self._digest.update(line)
        self._file.write(line)


def instant(moment: datetime) -> str:
    """A moment as bodies spell it: UTC, with six digits of the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _text(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def _hashes(parts: Iterable[bytes]) -> bytes:
    return b",".join(part.hex().encode() for part in parts)
