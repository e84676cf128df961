"""Verify a Tallystick audit bundle offline, with this file, Python 3.11 or later, and the `cryptography` package:

    python verifier.py bundle.tally --key 'tallystick/<installation>+<id>+<key>' [--previous kept.tally] [--json]

A leaf is SHA-256(0x00 || salt || body), and body the text that the database wrote when it made a change. Here leaves
are computed from bodies, the root from leaves or proofs, and compared with what was signed and kept: docs/verifier.md.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from binascii import unhexlify
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT, SEALED, LINE = "tallystick-bundle/1", "it is not what was sealed", 64 << 20  # longer lines are refused
KINDS = {  # what can be wrong, and its exit code; of several findings, the first in this list gives the exit code
    "version": 11, "wrong-key": 20, "signature": 21, "other-log": 22, "past": 23, "forked": 24, "body": 30, "salt": 31,
    "leaf": 32, "column": 33, "duplicated": 34, "inserted": 35, "reordered": 36, "missing": 37, "proof": 38, "node": 41,
    "rewritten": 39, "dropped": 40, "truncated": 12, "trailing": 13, "format": 10, "digest": 14, "unproven": 3,
}  # fmt: skip
Key = tuple[str, bytes, bytes]  # name, id and public key; the id is SHA-256(name || 0x0A || 0x01 || key)[:4]
Row = tuple[int, int, bytes, bytes]  # which entry: the index of its leaf, seq, table and key, as in the file


class Refused(ValueError):
    """Something after which reading on makes no sense: its kind, and more words."""


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
        row = [node_hash(a, b) for a, b in zip(row[::2], row[1::2], strict=False)] + row[len(row) // 2 * 2 :]
    return row[0] if row else sha256(b"").digest()


def sides(at: int, last: int, proof: Sequence[bytes]) -> list[bool] | None:
    """For each hash of a proof whether it stands on the left; None when the proof has a wrong shape."""
    inner = (at ^ last).bit_length()  # above these levels there is nothing to the right
    if len(proof) != inner + (at >> inner).bit_count() or any(len(part) != 32 for part in proof):
        return None
    return [level >= inner or bool(at >> level & 1) for level in range(len(proof))]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof leads from leaf `index` to the root of a tree of `size` leaves (2.1.3.2)."""
    left = sides(index, size - 1, proof) if 0 <= index < size and len(leaf) == 32 else None
    for on_left, part in zip(left or (), proof, strict=False):
        leaf = node_hash(part, leaf) if on_left else node_hash(leaf, part)
    return left is not None and leaf == root


def verify_consistency(size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of size2 begins with the size1 leaves under root1 (2.1.4.2); never from size 0."""
    if not 0 < size1 < size2 or not proof:
        return 0 < size1 == size2 and not proof and root1 == root2
    old, *rest = proof if size1 & (size1 - 1) else [root1, *proof]
    whole = (size1 & -size1).bit_length() - 1  # the height of the last complete subtree under root1
    new, left = old, sides(size1 - 1 >> whole, size2 - 1 >> whole, rest)
    for on_left, part in zip(left or (), rest, strict=False):
        old, new = (node_hash(part, old), node_hash(part, new)) if on_left else (old, node_hash(new, part))
    return left is not None and old == root1 and new == root2


# --- The signature: a C2SP signed-note with a tlog-checkpoint ---------------------------------------------------------
class Checkpoint(NamedTuple):
    """What a checkpoint says, after its signature was verified."""

    origin: str
    size: int
    root: bytes
    state: str


def read_key(vkey: str) -> Key:
    """Read a verifier key: <name>+<id in hex>+<base64 of 0x01 and the key>."""
    form = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", vkey.strip())
    raw = base64.b64decode(form[3]) if form else b""
    if not form or raw[0] != 1 or sha256(f"{form[1]}\n".encode() + raw).hexdigest()[:8] != form[2]:
        raise Refused("wrong-key", "this is no Ed25519 verifier key, or it was not copied whole")
    return form[1], unhexlify(form[2]), raw[1:]


def read_checkpoint(note: bytes, keys: Sequence[Key]) -> Checkpoint:
    """Verify a checkpoint: its form, signatures of the keys given (others are passed over), and whose log it is."""
    signers = []
    try:
        form = re.fullmatch(
            "(([^\x00-\x1f]+)\n(0|[1-9][0-9]{0,17})\n([A-Za-z0-9+/]{43}=)\nstate ([0-9a-f]{64})\n(?:[^\0-\x1f]+\n)*)\n"
            "((?:\u2014 [^\\s+]+ [A-Za-z0-9+/]{7,}=*\n){1,100})", note[: 1 << 20].decode()
        )  # fmt: skip
        if not form:
            raise ValueError
        for line in form[6].split("\n")[:-1]:
            _, name, signature = line.split(" ")
            raw = base64.b64decode(signature, validate=True)
            for key in keys:
                if key[:2] == (name, raw[:4]):
                    Ed25519PublicKey.from_public_bytes(key[2]).verify(raw[4:], form[1].encode())
                    signers.append(name)
    except InvalidSignature:
        raise Refused("signature", "the checkpoint was edited: its signature does not fit") from None
    except ValueError:
        raise Refused("format", "a checkpoint is no signed note of a log's size, root and schema state") from None
    if form[2].rpartition("/")[0] not in signers:
        raise Refused("other-log" if signers else "wrong-key", f"the key given is not that of {form[2]}")
    return Checkpoint(form[2], int(form[3]), base64.b64decode(form[4]), form[5])


# --- The bundle -------------------------------------------------------------------------------------------------------
class Bundle:
    """One reading of one bundle: `findings` says what is wrong with it, `marks[0]` what all of it was compared with."""

    def __init__(self, file: BinaryIO, keys: Sequence[Key], kept: BinaryIO | None = None) -> None:
        self.file, self.keys, self.next, self.last = file, keys, 0, (0, 0)
        self.findings, self.marks = list[dict[str, Any]](), list[Checkpoint]()  # marks: what counts, then older ones
        self.leaves, self.nodes = list[bytes](), dict[bytes, bytes]()  # as stored; a node is a root over 256 leaves
        self.altered = dict[int, tuple[str, Row, bytes]]()  # entries that give another leaf than the one stored
        self.unordered, self.missing, self.months = list[Row](), set[int](), dict[str, list[int]]()
        try:
            self.read()
            self.judge(kept)
        except Refused as refused:
            self.find(*refused.args)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # what a malformed line leads to
            self.find("format", f"after {len(self.leaves)} entries")
        self.verdict: str = min((found["kind"] for found in self.findings), key=list(KINDS).index, default="verified")

    def find(self, kind: str, more: str = "", row: Row | None = None) -> None:
        """Write down what is wrong; a hundred findings are enough."""
        where = {"index": row[0], "seq": row[1], "table": json.loads(row[2]), "key": json.loads(row[3])} if row else {}
        if len(self.findings) < 100:
            self.findings.append({"kind": kind, **where, "detail": more})

    def read(self) -> None:
        """Read all lines: a header, checkpoints, nodes, entries, and the end with the hash of all lines before it."""
        says = json.loads(line := self.file.readline(LINE))
        if says["format"] != FORMAT:
            raise Refused("version", f"this verifier reads {FORMAT}")
        self.origin, self.size, (self.start, self.stop) = says["origin"], says["size"], says["complete"]
        self.whole, digest = self.stop - self.start == self.size, sha256(line)
        tags: dict[bytes, Any] = {b"C": self.mark, b"N": self.nodes.__setitem__, b"E": self.entry, b"X": self.entry}
        for line in iter(lambda: self.file.readline(LINE), b""):
            tag, *fields = line[:-1].split(b"\t", 11)
            if line[-1:] != b"\n":
                raise Refused("format" if len(line) == LINE else "truncated", "in the middle of a line")
            if tag == b"Z":
                if fields != [digest.hexdigest().encode()]:
                    self.find("digest", "the file was changed after it was written")
                if self.file.read(1):
                    self.find("trailing", "the file goes on after the end line")
                return
            tags[tag](*fields)
            digest.update(line)
        raise Refused("truncated", "the end line is missing")

    def mark(self, note: bytes, proof: bytes) -> None:
        """A checkpoint: first the one that everything is compared with, then earlier ones of the same log."""
        self.marks.append(mark := read_checkpoint(json.loads(note).encode(), self.keys))
        head, path = self.marks[0], [unhexlify(part) for part in proof.split(b",") if part]
        if mark.origin != self.origin or head.size != self.size:
            raise Refused("other-log", f"{head.size} entries of {mark.origin}")
        if not self.whole and not verify_consistency(mark.size, head.size, mark.root, head.root, path):
            raise Refused("forked", f"the log does not continue its checkpoint of size {mark.size}")

    def entry(self, *fields: bytes) -> None:
        """One entry; where a policy dropped the body, it has five fields, and its leaf stands for it."""
        empty = (b"", b"0", b"", b'""', b'""', b"")
        index, seq, leaf, proof, at, salt, xid, op, table, key, body = (*fields, *empty[len(fields) - 5 :])
        row, place, head = (int(index), int(seq), table, key), int(index), self.marks[0]
        raw, stored, kind = unhexlify(salt), unhexlify(leaf), ""
        computed = leaf_hash(raw, body) if salt else stored
        columns = (self.origin[-36:].encode(), seq, xid, at, table, op, key)
        begin = b'{"tenant":"%s","seq":%s,"xid":%s,"at":"%s","table":%s,"op":"%s","key":%s,' % columns
        if computed != stored:
            salts = (raw[:i] + bytes([b]) + raw[i + 1 :] for b in range(256) for i in range(32))
            few = len(self.altered) + len(self.findings) < 20
            kind = "salt" if few and any(leaf_hash(s, body[:65536]) == stored for s in salts) else "body"
        elif salt and (len(raw) != 32 or not body.startswith(begin)):
            self.find("column", "tenant, seq, xid, at, table, op or key is not what the sealed body says", row)
        elif not salt or op == b"P":
            month = self.months.setdefault((key[1:-1] if salt else at[:7]).decode(), [0, 0])  # gone, and by policy
            month[bool(salt)] = max(month[1], json.loads(body)["event"]["entries"]) if salt else month[0] + 1
        if place >= head.size or (place < self.next and place not in self.missing):
            self.find("duplicated" if stored in self.leaves[-256:] else "inserted", "where no place is left", row)
        elif place < self.next:
            self.find("reordered", "behind a later one", row)
        elif salt and (int(xid), row[1]) <= self.last:
            self.unordered.append(row)  # judged with the root, because a restored server counts from the start again
        if place > self.next and len(self.missing) < 1000:
            self.missing.update(range(max(self.next, self.start), min(place, self.stop, self.next + 1000)))
        self.missing.discard(place)
        self.next, self.last = max(self.next, place + 1), (int(xid), row[1]) if salt else self.last
        self.leaves.append(stored)
        if kind and self.whole:
            self.altered[len(self.leaves) - 1] = kind, row, computed
        elif not self.whole:
            path = [unhexlify(part) for part in proof.split(b",") if part]
            fits = [verify_inclusion(leaf, place, head.size, path, head.root) for leaf in (stored, computed)]
            if kind or not fits[0]:
                self.find(kind if fits[0] else "leaf" if fits[1] else "proof", SEALED, row)

    def judge(self, kept: BinaryIO | None) -> None:
        """Judge what only all lines together show, and whether they continue the checkpoint or bundle that was kept."""
        if kept:
            text = kept.read(LINE)
            note = json.loads(text.split(b"\n", 2)[1].split(b"\t")[1]).encode() if text[:1] == b"{" else text
            old = read_checkpoint(note, self.keys)
            if old.origin != self.origin:
                raise Refused("other-log", f"what you kept is of {old.origin}")
            if old.size > self.size:
                raise Refused("past", f"you kept one of {old.size} entries: restored to the past, or older")
            sizes = {mark.size: mark.root for mark in self.marks}
            if old.size and not self.whole and sizes.get(old.size) != old.root:
                self.find("forked" if old.size in sizes else "unproven", f"from what you kept, of {old.size} entries")
            self.marks.append(old)
        self.missing.update(range(max(self.next, self.start), min(self.stop, self.next + 1000)))
        if self.missing:
            self.find("missing", f"{len(self.missing)} from {min(self.missing)} to {max(self.missing)}")
        for month, (gone, dropped) in self.months.items():
            if gone and (gone != dropped if self.whole else not dropped):
                self.find("dropped", f"{gone} of {month}, where a policy dropped {dropped}")
        if self.whole:
            self.rebuild()

    def rebuild(self) -> None:
        """Compute the root from the leaves, as stored and as recomputed; where both are wrong, say between which."""
        again = [self.altered[n][2] if n in self.altered else leaf for n, leaf in enumerate(self.leaves)]
        rows = [self.leaves, again] if self.altered else [self.leaves]
        tops = [[root_of(row[i : i + 256]) for i in range(0, len(row), 256)] for row in rows]
        good = [root_of(top) == self.marks[0].root for top in tops]
        fine, (leaves, tiles) = any(good), (rows[good.index(max(good))], tops[good.index(max(good))])
        for kind, row, _ in self.altered.values():
            self.find("leaf" if good == [False, True] else kind, SEALED if fine else f"{SEALED} (or the leaf)", row)
        low, high = 0, self.size
        for mark in self.marks[1:]:
            edge = [root_of(leaves[mark.size >> 8 << 8 : mark.size])] if mark.size & 255 else []
            same = root_of(tiles[: mark.size >> 8] + edge) == mark.root
            low, high = (max(low, mark.size), high) if same else (low, min(high, mark.size))
            if fine and not same:
                self.find("forked", f"the log does not continue its checkpoint of {mark.size} entries")
        for place, node in sorted((int(index), unhexlify(node)) for index, node in self.nodes.items()):
            if node not in tiles[place : place + 1]:
                low, high = max(low, min(256 * place, high - 1)), min(high, 256 * place + 256)
                if fine:
                    self.find("node", f"number {place} of level 8")
        for row in () if fine else self.unordered:
            self.find("reordered", "by transaction and seq it belongs further up", row)
        if not self.findings and not fine:
            self.find("rewritten", f"body and leaf together, at least one from {low} to {high - 1}")


# --- The report -------------------------------------------------------------------------------------------------------
def main(arguments: Sequence[str] | None = None) -> int:
    """Run on the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Verify a Tallystick audit bundle offline.")
    parser.add_argument("bundle", type=argparse.FileType("rb"))
    parser.add_argument("--key", type=read_key, action="append", required=True, help="the log's verifier key")
    parser.add_argument("--previous", type=argparse.FileType("rb"), help="checkpoint or bundle that you kept before")
    parser.add_argument("--json", action="store_true", help="write JSON")
    given = parser.parse_args(arguments)
    read = Bundle(given.bundle, given.key, given.previous)
    told: dict[str, Any] = {"entries": len(read.leaves), "dropped": sum(gone for gone, _ in read.months.values())}
    for mark in read.marks[:1]:
        told |= {**mark._asdict(), "root": mark.root.hex(), "complete": f"{read.start} up to {read.stop}"}
    told["previous"] = given.previous.name if given.previous else "none: a log rewritten and signed anew would pass"
    verdict = f"REFUSED: {read.verdict}" if read.findings else "VERIFIED"
    lines = [verdict, *(f"  {name:8}  {value}" for name, value in told.items())]
    lines += ["  " + ", ".join(f"{name} {value}" for name, value in found.items()) for found in read.findings]
    lines = ["".join(c if c.isprintable() else "?" for c in line) for line in lines]
    if sys.stdout.isatty():
        lines[0] = f"\033[{31 if read.findings else 32}m{lines[0]}\033[0m"
    whole = {"verdict": read.verdict, **told, "findings": read.findings}
    print(json.dumps(whole, indent=2) if given.json else "\n".join(lines))
    return KINDS.get(read.verdict, 0)


if __name__ == "__main__":
    sys.exit(main())
