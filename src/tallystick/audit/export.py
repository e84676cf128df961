"""Writing a log, or a part of it, from the database into a bundle that can be verified without us."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import asyncpg

from tallystick.audit import checkpoint
from tallystick.audit.bundle import BundleWriter, Sealed
from tallystick.audit.cursor import read_cursor
from tallystick.audit.merkle import Reader, StoredTree
from tallystick.audit.tiles import read_tiles
from tallystick.errors import Conflict, Invalid, NotFound, StorageFull, Unavailable

__all__ = ["ExportReport", "Part", "write_bundle"]

_CHUNK = 2_000
_CHECKPOINTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which entries a bundle is to hold: all of them, those captured in a span of time, or those of one row.

    ``previous`` is the size of a checkpoint that the reader kept, so that the bundle proves that it continues that one.
    """

    since: datetime | None = None
    until: datetime | None = None
    table: str | None = None
    key: str | None = None
    previous: int | None = None

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.utcoffset() is None:
                raise Invalid("A moment needs a time zone.", field=name, remedy="Use an aware datetime.")
        if (self.table is None) != (self.key is None):
            raise Invalid("A row is named by its table and its key.", field="key", remedy="Give both, or neither.")
        if self.table is not None and (self.since is not None or self.until is not None):
            raise Invalid("A row and a span of time exclude each other.", field="since", remedy="Give one of them.")

    @property
    def whole(self) -> bool:
        """Whether it is all of the log."""
        return self.since is None and self.until is None and self.table is None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """A bundle that was written: ``entries`` of the log's ``size``, of which ``expired`` bodies are gone by policy.

    ``digest`` is the hash in the file's last line.
    """

    path: Path
    log: str
    size: int
    entries: int
    expired: int
    checkpoints: int
    digest: str


async def write_bundle(conn: asyncpg.Connection, tenant: UUID, part: Part, path: Path) -> ExportReport:
    """Write a bundle to a new file of mode 0600, up to the log's last checkpoint.

    Raises ``NotFound`` when nothing of the log is signed or nothing of the row is in it, ``Invalid`` when the file is
    there already, ``Conflict`` when bodies were dropped and that is not sealed yet.
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        head = await conn.fetchrow(_HEAD, tenant)
        if head is None:
            raise NotFound("Nothing of this tenant's log is signed yet.", remedy="Seal first: `tallystick audit seal`.")
        if await conn.fetchval(_DROPPED_UNSEALED, tenant, head["size"]):
            raise Conflict(
                "Bodies were dropped by policy, and the entry that says so is not sealed yet.",
                remedy="Seal first: `tallystick audit seal`.",
            )
        chosen = await _chosen(conn, tenant, head["size"], part)
        size, note = head["size"], head["note"]
        marks = await conn.fetch(_EARLIER, tenant, size, _CHECKPOINTS, part.previous or 0)
        log = checkpoint.origin((await read_cursor(conn)).installation, tenant)
        with _new_file(path) as file:
            bundle = BundleWriter(file, log=log, size=size, note=note, complete=(chosen.start, chosen.stop))
            await _fill(bundle, conn, tenant, chosen, marks)
            digest = bundle.end()
    return ExportReport(path, log, size, bundle.entries, bundle.expired, len(marks) + 1, digest)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A run of indexes, and single ones outside of it."""

    start: int
    stop: int
    more: tuple[int, ...] = ()


async def _chosen(conn: asyncpg.Connection, tenant: UUID, size: int, part: Part) -> _Chosen:
    if part.whole:
        return _Chosen(0, size)
    if part.table is not None:
        rows = await conn.fetch(_OF_ROW, tenant, size, part.table, part.key)
        if not rows:
            raise NotFound(
                "The sealed log has no entry of this row.",
                entity=part.table,
                remedy="Check the table's name and the key; a body that was dropped cannot be found by its key.",
            )
        return _Chosen(0, 0, tuple(r["idx"] for r in rows))
    row = await conn.fetchrow(_OF_SPAN, tenant, size, part.since, part.until)
    start, stop = (0, 0) if row is None or row["start"] is None else (row["start"], row["stop"])
    gone = await conn.fetch(_DROPPED_MONTHS, tenant, size, start, stop)
    return _Chosen(start, stop, tuple(r["idx"] for r in gone if not start <= r["idx"] < stop))


async def _fill(
    bundle: BundleWriter, conn: asyncpg.Connection, tenant: UUID, chosen: _Chosen, marks: list[asyncpg.Record]
) -> None:
    for mark in marks:
        proof: list[bytes] = []
        if not bundle.whole:
            (proof,) = await read_tiles(conn, [(tenant, _consistency(bundle.size, mark["size"]))])
        bundle.checkpoint(mark["note"], proof)
    if bundle.whole:
        async for node in conn.cursor(_NODES, tenant, bundle.size >> 8, prefetch=_CHUNK):
            bundle.node(node["idx"], node["hash"])
    async for entries in _entries(conn, tenant, chosen):
        proofs: Sequence[list[bytes]] = [[]] * len(entries)
        if not bundle.whole:
            (proofs,) = await read_tiles(conn, [(tenant, _inclusions(bundle.size, [e.index for e in entries]))])
        for entry, proof in zip(entries, proofs, strict=True):
            bundle.entry(entry, proof)


async def _entries(conn: asyncpg.Connection, tenant: UUID, chosen: _Chosen) -> AsyncIterator[list[Sealed]]:
    """Entries in the order of the log, a few thousand at a time."""
    before = [i for i in chosen.more if i < chosen.start]
    after = [i for i in chosen.more if i >= chosen.stop]
    for single in (before, None, after):
        if single is None:
            for at in range(chosen.start, chosen.stop, _CHUNK):
                yield await _read(conn, tenant, list(range(at, min(at + _CHUNK, chosen.stop))))
        else:
            for at in range(0, len(single), _CHUNK):
                yield await _read(conn, tenant, single[at : at + _CHUNK])


async def _read(conn: asyncpg.Connection, tenant: UUID, indexes: list[int]) -> list[Sealed]:
    rows = await conn.fetch(_ENTRIES, tenant, indexes)
    # Found by number alone, an entry whose time was changed is shown with it, and the verifier names it.
    lost = [r["seq"] for r in rows if r["body"] is None]
    strays = {r["seq"]: r for r in await conn.fetch(_STRAYS, tenant, lost)} if lost else {}
    found = []
    for row in rows:
        found.append(_sealed(row, row if row["body"] is not None else strays.get(row["seq"])))
    return found


def _sealed(leaf: asyncpg.Record, entry: asyncpg.Record | None) -> Sealed:
    place: dict[str, Any] = {"index": leaf["idx"], "seq": leaf["seq"], "leaf": leaf["hash"]}
    if entry is None:
        return Sealed(**place, at=leaf["at"])
    columns = {name: entry[name] for name in ("at", "table", "op", "key", "salt", "body")}
    return Sealed(**place, xid=int(entry["xid"]), **columns)


def _consistency(size: int, old: int) -> Callable[[Reader], list[bytes]]:
    return lambda read: StoredTree(size, read).consistency(old)


def _inclusions(size: int, indexes: list[int]) -> Callable[[Reader], list[list[bytes]]]:
    def make(read: Reader) -> list[list[bytes]]:
        tree = StoredTree(size, read)
        return [tree.inclusion(i) for i in indexes]

    return make


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, which goes again when writing it fails."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Invalid(
            f"There is a file {path} already.", field="path", remedy="Name another; a bundle never replaces a file."
        ) from None
    except OSError as problem:
        raise Unavailable(
            f"The bundle {path} cannot be made ({os.strerror(problem.errno or 0)}).",
            remedy="Name a file in a directory that this account may write.",
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as problem:
        path.unlink(missing_ok=True)
        if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"There is no room for {path}.", remedy="Free space, or name another place.") from None
        raise


_HEAD = "SELECT size, note FROM tally_audit.checkpoint WHERE tenant_id = $1 ORDER BY size DESC LIMIT 1"
_EARLIER = """
(SELECT size, note FROM tally_audit.checkpoint WHERE tenant_id = $1 AND size < $2 AND size > 0
  ORDER BY size DESC LIMIT $3)
UNION (SELECT size, note FROM tally_audit.checkpoint WHERE tenant_id = $1 AND size < $2 AND size = $4 AND size > 0)
ORDER BY size
"""
_NODES = """
SELECT idx, hash FROM tally_audit.node WHERE tenant_id = $1 AND level = 8 AND idx < $2 ORDER BY idx
"""
_ENTRIES = """
SELECT l.idx, l.seq, l.at, l.hash, e.xid::text AS xid, e."table", e.op, e.key, e.salt, e.body
FROM tally_audit.leaf l
LEFT JOIN tally_audit.entry e ON e.tenant_id = l.tenant_id AND e.seq = l.seq AND e.at = l.at
WHERE l.tenant_id = $1 AND l.idx = ANY ($2::bigint[]) ORDER BY l.idx
"""
_STRAYS = """
SELECT e.seq, e.at, e.xid::text AS xid, e."table", e.op, e.key, e.salt, e.body FROM tally_audit.entry e
WHERE e.tenant_id = $1 AND e.seq = ANY ($2::bigint[])
"""
_OF_ROW = """
SELECT l.idx FROM tally_audit.entry e JOIN tally_audit.leaf l ON l.tenant_id = e.tenant_id AND l.seq = e.seq
WHERE e.tenant_id = $1 AND l.idx < $2 AND e."table" = $3 AND e.key = $4 ORDER BY l.idx
"""
_OF_SPAN = """
SELECT min(l.idx) AS start, max(l.idx) + 1 AS stop FROM tally_audit.leaf l
WHERE l.tenant_id = $1 AND l.idx < $2
  AND ($3::timestamptz IS NULL OR l.at >= $3) AND ($4::timestamptz IS NULL OR l.at < $4)
"""
# What says that the bodies of a month were dropped, for the months that the span touches.
_DROPPED_MONTHS = """
SELECT l.idx FROM tally_audit.entry e JOIN tally_audit.leaf l ON l.tenant_id = e.tenant_id AND l.seq = e.seq
WHERE e.tenant_id = $1 AND e."table" = 'tally_audit.entry' AND e.op = 'P' AND l.idx < $2 AND e.key IN (
  SELECT to_char(s.at AT TIME ZONE 'UTC', 'YYYY-MM') FROM tally_audit.leaf s
  WHERE s.tenant_id = $1 AND s.idx >= $3 AND s.idx < $4)
ORDER BY l.idx
"""
_DROPPED_UNSEALED = """
SELECT EXISTS (SELECT FROM tally_audit.entry e WHERE e.tenant_id = $1 AND e."table" = 'tally_audit.entry' AND e.op = 'P'
  AND NOT EXISTS (SELECT FROM tally_audit.leaf l WHERE l.tenant_id = e.tenant_id AND l.seq = e.seq AND l.idx < $2))
"""
