"""Logs and bundles without a database: for tests of a verifier, and to measure one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import BinaryIO
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick.audit import checkpoint
from tallystick.audit.bundle import BundleWriter, Sealed, instant
from tallystick.audit.merkle import StoredTree, Tree, leaf_hash

__all__ = ["SyntheticLog", "synthetic_bundle"]


class SyntheticLog:
    """A log of made-up entries, worded and sealed as the database does it, the same for the same ``seed``.

    ``entries`` may be changed at will, to see what a verifier says; what was sealed stays in ``stored``.
    """

    def __init__(self, entries: int = 0, *, body: int = 200, seed: int = 7) -> None:
        self.chance = random.Random(seed)  # noqa: S311  made-up data
        self.installation, self.tenant = self._id(), self._id()
        self.log = checkpoint.origin(self.installation, self.tenant)
        seed_bytes = self.chance.randbytes(32)
        self.signer = checkpoint.Signer(
            checkpoint.key_name(self.installation), Ed25519PrivateKey.from_private_bytes(seed_bytes)
        )
        self.entries: list[Sealed] = []
        self.stored: dict[int, list[bytes]] = {0: []}
        self.notes: dict[int, str] = {}
        self._tree = Tree()
        self._clock = datetime(2026, 1, 31, 23, 59, 58, tzinfo=UTC)
        self.add(entries, body=body)

    @property
    def size(self) -> int:
        """How many entries are sealed."""
        return self._tree.size

    def add(self, entries: int = 1, *, body: int = 200) -> None:
        """Seal so many more updates of loans, with bodies of about so many bytes."""
        filler = {"note": "x" * max(0, (body - 400) // 2)}
        for _ in range(entries):
            row = {"id": str(self._id()), "principal": self.chance.randrange(10**9), **filler}
            content = f'"old":{json.dumps(row)},"new":{json.dumps({**row, "version": 2})}'
            self.seal("loan", "U", str(row["id"]), content)

    def seal(self, table: str, op: str, key: str, content: str) -> Sealed:
        """Seal one entry whose body ends with ``content``."""
        number = self.size
        seq, xid, salt = 10 + 3 * number, 700 + number // 4, self.chance.randbytes(32)
        self._clock += timedelta(milliseconds=7)
        body = (
            f'{{"tenant":"{self.tenant}","seq":{seq},"xid":{xid},"at":"{instant(self._clock)}","table":'
            f'{json.dumps(table)},"op":"{op}","key":{json.dumps(key)},"actor":"user:1","reason":null,"request":null,'
            f'"role":"tally_app",{content}}}'
        )
        leaf = leaf_hash(salt, body.encode())
        for node in self._tree.append(leaf):
            self.stored.setdefault(node.level, []).append(node.hash)
        self.stored[0].append(leaf)
        entry = Sealed(
            index=number, seq=seq, at=self._clock, leaf=leaf, xid=xid, table=table, op=op, key=key, salt=salt, body=body
        )
        self.entries.append(entry)
        return entry

    def read(self, level: int, start: int, stop: int) -> list[bytes]:
        """The stored hashes, as a ``Reader``."""
        return self.stored[level][start:stop]

    def note(self, size: int | None = None) -> str:
        """The signed checkpoint of the first ``size`` entries."""
        size = self.size if size is None else size
        if size not in self.notes:
            root = StoredTree(size, self.read).root()
            self.notes[size] = self.signer.sign(checkpoint.write(self.log, size, root, f"{len(self.notes):064x}"))
        return self.notes[size]

    def write(
        self,
        file: BinaryIO,
        *,
        complete: tuple[int, int] | None = None,
        earlier: Iterable[int] = (),
        also: Iterable[int] = (),
        nodes: bool = True,
        note: str | None = None,
    ) -> None:
        """Write a bundle: of the whole log, or of a range and ``also`` single entries; ``earlier`` are checkpoints."""
        start, stop = complete or (0, self.size)
        tree = StoredTree(self.size, self.read)
        writer = BundleWriter(file, log=self.log, size=self.size, note=note or self.note(), complete=(start, stop))
        for size in earlier:
            writer.checkpoint(self.note(size), () if writer.whole else tree.consistency(size))
        if writer.whole and nodes:
            for position, root in enumerate(self.stored.get(8, [])):
                writer.node(position, root)
        chosen = {*range(start, stop), *also}
        for place, entry in enumerate(self.entries):
            if writer.whole or place in chosen:
                writer.entry(entry, () if writer.whole else tree.inclusion(place))
        writer.end()

    def _id(self) -> UUID:
        return UUID(bytes=self.chance.randbytes(16), version=4)


def synthetic_bundle(file: BinaryIO, entries: int, *, body: int = 1500) -> str:
    """Write a whole log of so many entries with bodies of so many bytes; answers the key that verifies it."""
    log = SyntheticLog(entries, body=body)
    log.write(file)
    return log.signer.vkey
