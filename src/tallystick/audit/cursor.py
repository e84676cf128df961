"""How far sealing is, and who may move it.

Rows commit in another order than they are numbered, so "everything after the last number" misses some. The cursor
stands in transaction ids instead: whatever finished transactions wrote is sealed up to it, in the order (xid, seq), and
only transactions below the oldest one that is still running are touched, because below it nothing can appear any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from tallystick.errors import Conflict, LeaseLost, NotMigrated

__all__ = ["NEVER_SEALED", "Cursor", "Waiting", "give_up", "held_by", "read_cursor", "read_waiting", "take_over"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """The one row that says what is sealed: everything up to ``(xid, seq)``, in this ``epoch``.

    ``fence`` goes up each time a sealer takes over; a sealer that was thought dead and comes back has an old one, and
    can then move nothing. ``epoch`` goes up when the transaction ids start over, in a restored or upgraded server.
    """

    installation: UUID
    epoch: int
    system_identifier: str
    xid: int
    seq: int
    fence: int

    async def move(self, conn: asyncpg.Connection, xid: int, seq: int) -> Cursor:
        """Move on within the caller's transaction; raises ``LeaseLost`` when another sealer took over."""
        return self._moved(await conn.fetchrow(_MOVE, str(xid), seq, self.fence, str(self.xid), self.seq))

    async def new_epoch(self, conn: asyncpg.Connection, system_identifier: str, xid: int) -> Cursor:
        """Start over at ``xid`` of another server's ids, after everything visible was sealed. Raises ``LeaseLost``."""
        return self._moved(await conn.fetchrow(_EPOCH, str(xid), system_identifier, self.fence))

    async def hold(self, conn: asyncpg.Connection) -> None:
        """Keep others from taking over until the caller's transaction ends. Raises ``LeaseLost``."""
        self._moved(await conn.fetchrow(f"{_READ} WHERE fence = $1 FOR UPDATE", self.fence))

    def _moved(self, row: asyncpg.Record | None) -> Cursor:
        if row is None:
            raise LeaseLost(
                "Another sealer took over while this one was at work; what it had not committed was left out.",
                remedy="Run one sealer. Nothing is lost: the other one seals what this one did not.",
            )
        return _cursor(row)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Entries of one tenant that wait to be sealed, and since when, in seconds."""

    tenant: UUID
    entries: int
    age: float


async def read_cursor(conn: asyncpg.Connection) -> Cursor:
    """The cursor as it stands. Raises ``NotMigrated`` where there is no audit log."""
    try:
        row = await conn.fetchrow(_READ)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        row = None
    if row is None:
        raise NotMigrated("The database has no audit log.")
    return _cursor(row)


async def take_over(conn: asyncpg.Connection) -> Cursor:
    """Become the sealer, for as long as the connection lives. Raises ``Conflict`` while there is another one."""
    try:
        if not await conn.fetchval(_LOCK):
            raise Conflict(
                "Another sealer is at work on this database.",
                remedy="One is enough. If it hangs, end its connection; this one can then take over.",
            )
        row = await conn.fetchrow(_TAKE)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        row = None
    if row is None:
        raise NotMigrated("The database has no audit log.")
    return _cursor(row)


async def give_up(conn: asyncpg.Connection) -> None:
    """Let another sealer have its turn. A connection that is gone has given up already."""
    if not conn.is_closed():
        await conn.execute(_UNLOCK)


async def read_waiting(conn: asyncpg.Connection, cursor: Cursor) -> list[Waiting]:
    """What is committed and not sealed yet, by tenant: also what may not be sealed now because of older transactions.

    Ages are by the server's clock, from the moment of capture.
    """
    query = f"{_WAITING}{NEVER_SEALED if cursor.epoch > 1 else ''}{_GROUPED}"
    rows = await conn.fetch(query, str(cursor.xid), cursor.seq)
    return [Waiting(r["tenant_id"], r["entries"], max(0.0, r["age"])) for r in rows]


async def held_by(conn: asyncpg.Connection) -> str | None:
    """The oldest transaction that is running anywhere on the server, in words: nothing younger can be sealed."""
    row = await conn.fetchrow(_HOLDER)
    if row is None:
        return None
    what = "a prepared transaction" if row["prepared"] else f"a transaction of process {row['pid']}"
    return f"{what} in database {row['database']}" if row["database"] else what


def _cursor(row: asyncpg.Record) -> Cursor:
    return Cursor(
        row["installation"], row["epoch"], row["system_identifier"], int(row["xid"]), row["seq"], row["fence"]
    )


_COLUMNS = "installation, epoch, system_identifier, xid::text AS xid, seq, fence"
_READ = f"SELECT {_COLUMNS} FROM tally_audit.cursor"
_LOCK = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('tallystick audit sealer', 0))"
_UNLOCK = "SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended('tallystick audit sealer', 0))"
_TAKE = f"UPDATE tally_audit.cursor SET fence = fence + 1 RETURNING {_COLUMNS}"
_MOVE = f"""
UPDATE tally_audit.cursor SET xid = $1::text::xid8, seq = $2
WHERE fence = $3 AND xid = $4::text::xid8 AND seq = $5 RETURNING {_COLUMNS}
"""
_EPOCH = f"""
UPDATE tally_audit.cursor SET xid = $1::text::xid8, seq = 0, epoch = epoch + 1, system_identifier = $2
WHERE fence = $3 RETURNING {_COLUMNS}
"""
_WAITING = """
SELECT e.tenant_id, count(*) AS entries, extract(epoch FROM clock_timestamp() - min(e.at))::float8 AS age
FROM tally_audit.entry e WHERE (e.xid, e.seq) > ($1::text::xid8, $2)
"""
# Ids of the server before may lie ahead of the cursor.
NEVER_SEALED = """
AND NOT EXISTS (SELECT FROM tally_audit.leaf l WHERE l.tenant_id = e.tenant_id AND l.seq = e.seq)
"""
_GROUPED = " GROUP BY e.tenant_id ORDER BY e.tenant_id"
# Locks and prepared transactions are the views that show every role who holds the oldest transaction id.
_HOLDER = """
WITH oldest AS (
  SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::numeric % 4294967296)::text::xid AS xid
)
SELECT l.pid, p.gid IS NOT NULL AS prepared, coalesce(p.database::text, a.datname::text) AS database
FROM oldest o JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = o.xid
LEFT JOIN pg_prepared_xacts p ON p.transaction = o.xid LEFT JOIN pg_stat_activity a ON a.pid = l.pid
LIMIT 1
"""
