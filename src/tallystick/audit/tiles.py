"""Reading a tree from the database: two statements and a few hundred rows, however large the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar
from uuid import UUID

import asyncpg

from tallystick.audit.merkle import Reader, StoredTree
from tallystick.errors import Tampered

__all__ = ["read_path", "read_sizes", "read_tiles"]

T = TypeVar("T")
Span = tuple[UUID, int, int, int]
"""A run of stored hashes: tenant, level (0 are leaves, else 8, 16, ...), the first position, the one after the last."""


async def read_tiles(conn: asyncpg.Connection, wanted: Sequence[tuple[UUID, Callable[[Reader], T]]]) -> list[T]:
    """For each tenant what a function makes of its stored hashes: a root, a proof, a frontier.

    ``await read_tiles(conn, [(tenant, lambda read: StoredTree(size, read).root())])``. What is read depends on
    positions alone, so every function runs twice: to see what all of them read, and again when that was read at once.
    Raises ``Tampered`` when hashes are missing.
    """
    spans: dict[Span, list[bytes]] = {}

    def noting(tenant: UUID) -> Reader:
        def note(level: int, start: int, stop: int) -> Sequence[bytes]:
            spans[tenant, level, start, stop] = []
            return [bytes(32)] * (stop - start)

        return note

    for tenant, make in wanted:
        make(noting(tenant))
    for span, hashes in zip(spans, await _read_spans(conn, list(spans)), strict=True):
        spans[span] = hashes
    return [make(_reader(spans, tenant)) for tenant, make in wanted]


async def read_path(conn: asyncpg.Connection, tenant: UUID, index: int, size: int) -> tuple[list[bytes], bytes]:
    """The inclusion proof of a leaf in the tree of ``size``, and the root. Raises ``Tampered``.

    The tiles above the leaf and those at the right edge are all it takes, so they are read without asking which.
    """
    spans: list[Span] = []
    level = 0
    while not level or size >> level:
        count = size >> level
        starts = sorted({index >> level >> 8 << 8, count >> 8 << 8})
        spans += [(tenant, level, at, min(at + 256, count)) for at in starts if at < count]
        level += 8
    found = dict(zip(spans, await _read_spans(conn, spans), strict=True))
    tree = StoredTree(size, _reader(found, tenant))
    return tree.inclusion(index), tree.root()


def _reader(spans: dict[Span, list[bytes]], tenant: UUID) -> Reader:
    return lambda level, start, stop: spans[tenant, level, start, stop]


async def _read_spans(conn: asyncpg.Connection, spans: Sequence[Span]) -> list[list[bytes]]:
    """The hashes of each span, which is within one 256-wide tile. Raises ``Tampered`` when one is not there."""
    found: list[list[bytes]] = [[] for _ in spans]
    for query, chosen in (
        (_LEAVES, [(n, s) for n, s in enumerate(spans) if not s[1]]),
        (_NODES, [(n, s) for n, s in enumerate(spans) if s[1]]),
    ):
        if chosen:
            numbers = [n for n, _ in chosen]
            columns = [[s[at] for _, s in chosen] for at in range(4)]
            for n, hashes in await conn.fetch(query, numbers, *columns):
                found[n] = [hashes[at : at + 32] for at in range(0, len(hashes or b""), 32)]
    for (tenant, level, first, until), hashes in zip(spans, found, strict=True):
        if len(hashes) != until - first:
            what = f"nodes of level {level}" if level else "leaves"
            raise Tampered(
                f"The log of tenant {tenant} lacks {what} between {first:,} and {until - 1:,}.",
                kind="missing",
                tenant=tenant,
                remedy="Rows of the audit log were removed; compare with a backup and with checkpoints kept outside.",
            )
    return found


async def read_sizes(conn: asyncpg.Connection, tenants: Iterable[UUID] | None = None) -> dict[UUID, int]:
    """How many leaves each log has; without ``tenants`` of every tenant that has one."""
    if tenants is None:
        rows = await conn.fetch(_SIZES_OF_ALL)
    else:
        rows = await conn.fetch(_SIZES, list(tenants))
    return {r["tenant_id"]: r["size"] for r in rows}


# The limit says what the planner cannot know: a span is short, and the index is the way.
_LEAVES = """
SELECT f.n, (SELECT string_agg(x.hash, ''::bytea ORDER BY x.idx) FROM (
  SELECT l.idx, l.hash FROM tally_audit.leaf l
  WHERE l.tenant_id = f.tenant AND l.idx >= f.first AND l.idx < f.until ORDER BY l.idx LIMIT 256) AS x) AS hashes
FROM unnest($1::int[], $2::uuid[], $3::int[], $4::bigint[], $5::bigint[]) AS f (n, tenant, level, first, until)
"""
_NODES = """
SELECT f.n, (SELECT string_agg(x.hash, ''::bytea ORDER BY x.idx) FROM (
  SELECT d.idx, d.hash FROM tally_audit.node d
  WHERE d.tenant_id = f.tenant AND d.level = f.level AND d.idx >= f.first AND d.idx < f.until
  ORDER BY d.idx LIMIT 256) AS x) AS hashes
FROM unnest($1::int[], $2::uuid[], $3::int[], $4::bigint[], $5::bigint[]) AS f (n, tenant, level, first, until)
"""
_SIZES = """
SELECT t.tenant_id, coalesce((SELECT l.idx + 1 FROM tally_audit.leaf l WHERE l.tenant_id = t.tenant_id
  ORDER BY l.idx DESC LIMIT 1), 0) AS size FROM unnest($1::uuid[]) AS t (tenant_id)
"""
# From tenant to tenant by the index: the rows between are never read.
_SIZES_OF_ALL = """
WITH RECURSIVE t (tenant_id) AS (
  (SELECT l.tenant_id FROM tally_audit.leaf l ORDER BY l.tenant_id LIMIT 1)
  UNION ALL
  SELECT (SELECT l.tenant_id FROM tally_audit.leaf l WHERE l.tenant_id > t.tenant_id ORDER BY l.tenant_id LIMIT 1)
  FROM t WHERE t.tenant_id IS NOT NULL
)
SELECT t.tenant_id, (SELECT l.idx + 1 FROM tally_audit.leaf l WHERE l.tenant_id = t.tenant_id
  ORDER BY l.idx DESC LIMIT 1) AS size FROM t WHERE t.tenant_id IS NOT NULL
"""
