"""The sealer: takes what was captured into the Merkle logs, one leaf an entry, and signs their roots."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from json.encoder import encode_basestring as quote
from typing import TYPE_CHECKING, cast
from uuid import UUID

import asyncpg

from tallystick.audit import checkpoint
from tallystick.audit.anchors import Anchor, Announcement
from tallystick.audit.cursor import NEVER_SEALED, Cursor, give_up, held_by, read_waiting, take_over
from tallystick.audit.merkle import Node, Reader, StoredTree, Tree, leaf_hash
from tallystick.audit.state import SchemaState, read_state
from tallystick.audit.tiles import read_sizes, read_tiles
from tallystick.errors import Tampered
from tallystick.ids import NIL

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tallystick.clock import Clock
    from tallystick.schema.roles import Roles

__all__ = ["SealReport", "Sealed", "Sealer", "last_state"]

_BATCH = 2_000
_PARTITIONS_EVERY = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A checkpoint that a run signed: the tenant's log had ``size`` entries under ``root`` (hex)."""

    tenant: UUID
    size: int
    root: str


@dataclass(slots=True)
class SealReport:
    """What one run of the sealer did.

    ``unsealed`` entries were committed and had to wait, because a transaction older than them was still running
    (anywhere on the server: ``held_by``); ``unsealed_age`` is how long the oldest has waited, in seconds.
    """

    entries: int = 0
    checkpoints: list[Sealed] = field(default_factory=list)
    state: str = ""
    state_changes: list[str] = field(default_factory=list)
    epoch: int = 1
    new_epoch: bool = False
    unsealed: int = 0
    unsealed_age: float = 0.0
    held_by: str | None = None


class Sealer:
    """Seals over one connection of the sealing role; use one at a time, and ``run`` it as often as you like.

    An entry is sealed once its transaction and every older one have ended. Leaves, complete nodes and the cursor move
    in one transaction, so a sealer may be killed at any point. ``key`` and ``anchor`` are outside the database.
    """

    def __init__(
        self,
        conn: asyncpg.Connection,
        *,
        key: Ed25519PrivateKey,
        anchor: Anchor,
        roles: Roles,
        clock: Clock,
        batch: int = _BATCH,
    ) -> None:
        self._conn = conn
        self._key = key
        self._anchor = anchor
        self._roles = roles
        self._clock = clock
        self._batch = batch
        self._high: dict[UUID, int] | None = None
        self._partitions_at: datetime | None = None

    async def run(self, *, adopt: bool = False) -> SealReport:
        """Seal everything that can be sealed now, and sign a checkpoint of each log that grew.

        ``adopt`` lets an anchor that knows nothing of a log start from the database's own last checkpoint. Raises
        ``Tampered`` when an entry is not what was captured, or the database is not the one that was sealed before:
        restored to the past, or rewritten; ``Conflict`` while another sealer is at work.
        """
        cursor = await take_over(self._conn)
        try:
            return await self._run(cursor, adopt)
        finally:
            await give_up(self._conn)

    async def _run(self, cursor: Cursor, adopt: bool) -> SealReport:
        report = SealReport()
        signer = checkpoint.Signer(checkpoint.key_name(cursor.installation), self._key)
        await self._check_heights(cursor, signer, adopt)
        await self._make_partitions()
        state = await read_state(self._conn, self._roles)
        report.state = state.digest
        report.state_changes = await self._record_state(state)
        if await self._restarted(cursor):
            cursor, count = await self._new_epoch(cursor)
            report.new_epoch = True
            report.entries += count
        while True:
            cursor, count = await self._seal_batch(cursor)
            report.entries += count
            if count < self._batch:
                break
        report.checkpoints = await self._sign(cursor, signer, state)
        report.epoch = cursor.epoch
        waiting = await read_waiting(self._conn, cursor)
        report.unsealed = sum(w.entries for w in waiting)
        report.unsealed_age = max((w.age for w in waiting), default=0.0)
        report.held_by = await held_by(self._conn) if waiting else None
        return report

    # -- leaves ------------------------------------------------------------------------------------------------

    async def _seal_batch(self, cursor: Cursor) -> tuple[Cursor, int]:
        """Seal the next entries of transactions that ended, and move the cursor behind them."""
        query = f"{_ENTRIES} AND {_ENDED} {NEVER_SEALED if cursor.epoch > 1 else ''} {_ORDER}"
        async with self._conn.transaction():
            await cursor.hold(self._conn)
            rows = await self._conn.fetch(query, self._batch, str(cursor.xid), cursor.seq)
            good = await self._store(rows)
            if good:
                cursor = await cursor.move(self._conn, int(rows[good - 1]["xid"]), rows[good - 1]["seq"])
        _refuse_changed(rows, good)
        return cursor, len(rows)

    async def _seal_whole(self, cursor: Cursor) -> int:
        """Seal whatever is visible and was never sealed, wherever the cursor stands."""
        query = f"{_ENTRIES} {NEVER_SEALED} {_ORDER}"
        xid, seq, total = "0", 0, 0
        while True:
            async with self._conn.transaction():
                await cursor.hold(self._conn)
                rows = await self._conn.fetch(query, self._batch, xid, seq)
                good = await self._store(rows)
            _refuse_changed(rows, good)
            total += good
            if len(rows) < self._batch:
                return total
            xid, seq = rows[-1]["xid"], rows[-1]["seq"]

    async def _store(self, rows: list[asyncpg.Record]) -> int:
        """Append entries to their logs, up to the first that was changed since its capture; answers how many."""
        rows = list(itertools.takewhile(_agrees, rows))
        if not rows:
            return 0
        by_tenant: dict[UUID, list[asyncpg.Record]] = {}
        for row in rows:
            by_tenant.setdefault(row["tenant_id"], []).append(row)
        sizes = await read_sizes(self._conn, by_tenant)
        trees = await read_tiles(self._conn, [(t, _loading(sizes[t])) for t in by_tenant])
        nodes: list[tuple[UUID, Node]] = []
        leaves: list[tuple[UUID, int, int, datetime, bytes]] = []
        for (tenant, mine), tree in zip(by_tenant.items(), trees, strict=True):
            hashes = [leaf_hash(r["salt"], r["body"].encode()) for r in mine]
            numbered = zip(itertools.count(tree.size), mine, hashes)
            leaves += [(tenant, n, r["seq"], r["at"], h) for n, r, h in numbered]
            nodes += [(tenant, node) for node in tree.extend(hashes)]
        await self._conn.execute(_INSERT_LEAVES, *map(list, zip(*leaves, strict=True)))
        if nodes:
            columns = zip(*((tenant, node.level, node.position, node.hash) for tenant, node in nodes), strict=True)
            await self._conn.execute(_INSERT_NODES, *map(list, columns))
        return len(rows)

    async def _restarted(self, cursor: Cursor) -> bool:
        """Whether transaction ids are counted by another server than the one that the cursor comes from."""
        row = await self._conn.fetchrow(_SERVER)
        assert row is not None
        return row["system_identifier"] != cursor.system_identifier or int(row["next"]) < cursor.xid

    async def _new_epoch(self, cursor: Cursor) -> tuple[Cursor, int]:
        """Seal all that is visible and was never sealed, then go on from where the new server had counted to."""
        row = await self._conn.fetchrow(_SERVER)
        assert row is not None
        total = await self._seal_whole(cursor)
        async with self._conn.transaction():
            # Not to be sealed twice: an entry of a transaction that ended meanwhile is passed over later.
            return await cursor.new_epoch(self._conn, row["system_identifier"], max(0, int(row["oldest"]) - 1)), total

    # -- checkpoints -------------------------------------------------------------------------------------------

    async def _check_heights(self, cursor: Cursor, signer: checkpoint.Signer, adopt: bool) -> None:
        """Before anything is written: every log is at least as long as it was, and begins as it did.

        At the first run all roots are compared, later only lengths; the root is compared again when a log grew.
        """
        sizes = await read_sizes(self._conn)
        high = self._high if self._high is not None else await self._heights(cursor, signer)
        for tenant, size in high.items():
            if sizes.get(tenant, 0) < size:
                raise _past(tenant, sizes.get(tenant, 0), size)
        if self._high is None:
            await self._compare_roots(cursor, signer, high)
        for row in await self._conn.fetch(_LAST_CHECKPOINTS, list(sizes)):
            if row["size"] > sizes[row["tenant_id"]]:
                raise _past(row["tenant_id"], sizes[row["tenant_id"]], row["size"])
            if row["tenant_id"] not in high:
                # Another sealer may have signed it since we looked.
                kept = await self._known(cursor, signer, row["tenant_id"])
                high[row["tenant_id"]] = kept.size if kept else await self._adopt(cursor, signer, row, adopt)
                await self._compare_roots(cursor, signer, [row["tenant_id"]])
        self._high = high

    async def _heights(self, cursor: Cursor, signer: checkpoint.Signer) -> dict[UUID, int]:
        """How long the logs of the installation were when they were last signed, by what is kept outside."""
        tenants = [UUID(log.rpartition("/")[2]) for log in await self._anchor.origins(str(cursor.installation))]
        known = {tenant: await self._known(cursor, signer, tenant) for tenant in tenants}
        return {tenant: kept.size for tenant, kept in known.items() if kept is not None}

    async def _known(self, cursor: Cursor, signer: checkpoint.Signer, tenant: UUID) -> checkpoint.Checkpoint | None:
        """The last checkpoint of a log that is kept outside. Raises ``Tampered`` when it is not signed by our key."""
        log = checkpoint.origin(cursor.installation, tenant)
        kept = await self._anchor.latest(log)
        return None if kept is None else checkpoint.open_checkpoint(kept.note, [signer.key], log=log)

    async def _compare_roots(self, cursor: Cursor, signer: checkpoint.Signer, tenants: Iterable[UUID]) -> None:
        """Raise ``Tampered`` where a tree, cut to the size of the checkpoint kept outside, has another root."""
        known = [(t, k) for t in tenants if (k := await self._known(cursor, signer, t)) is not None]
        roots = await read_tiles(self._conn, [(tenant, _root_at(kept.size)) for tenant, kept in known])
        for (tenant, kept), root in zip(known, roots, strict=True):
            if root != kept.root:
                raise Tampered(
                    f"The log of tenant {tenant} was rewritten: its first {kept.size:,} entries are not those of the "
                    "checkpoint that is kept outside the database.",
                    kind="rewritten",
                    tenant=tenant,
                    remedy="Nothing was signed. Keep the database as it is, and compare it with a backup from before.",
                )

    async def _adopt(self, cursor: Cursor, signer: checkpoint.Signer, row: asyncpg.Record, adopt: bool) -> int:
        tenant, size = row["tenant_id"], row["size"]
        if not adopt:
            raise Tampered(
                f"The anchor knows nothing of the log of tenant {tenant}, of which the database holds a signed "
                f"checkpoint with {size:,} entries.",
                kind="unknown",
                tenant=tenant,
                remedy="Point TALLYSTICK_ANCHOR_DIR to the directory that was used before. To start a new one from "
                "what the database says, though nothing vouches for it, seal once with --adopt.",
            )
        log = checkpoint.origin(cursor.installation, tenant)
        found = checkpoint.open_checkpoint(row["note"], [signer.key], log=log)
        await self._anchor.publish(Announcement(log, found.size, row["note"]))
        return found.size

    async def _sign(self, cursor: Cursor, signer: checkpoint.Signer, state: SchemaState) -> list[Sealed]:
        """Sign a checkpoint of every log that is longer than its last one."""
        assert self._high is not None
        sizes = await read_sizes(self._conn)
        signed = {r["tenant_id"]: r for r in await self._conn.fetch(_LAST_CHECKPOINTS, list(sizes))}
        grown = [t for t, size in sizes.items() if t not in signed or signed[t]["size"] < size]
        await self._compare_roots(cursor, signer, grown)
        made = []
        for tenant in grown:
            size, log = sizes[tenant], checkpoint.origin(cursor.installation, tenant)
            kept = await self._anchor.latest(log)
            if kept is not None and kept.size > size:
                raise _past(tenant, size, kept.size)
            if kept is None or kept.size < size:
                old = 0 if kept is None else kept.size
                ((root, proof),) = await read_tiles(self._conn, [(tenant, _growth(old, size))])
                note = signer.sign(checkpoint.write(log, size, root, state.digest))
                # Kept outside before it counts inside: what the database says is never ahead of what it is held to.
                kept = Announcement(log, size, note, old, tuple(proof))
                await self._anchor.publish(kept)
            root = checkpoint.open_checkpoint(kept.note, [signer.key], log=log).root
            before = signed[tenant]["at"] if tenant in signed else None
            now = self._clock.now()
            at = now if before is None or before < now else before + timedelta(microseconds=1)
            async with self._conn.transaction():
                await cursor.hold(self._conn)
                await self._conn.execute(_INSERT_CHECKPOINT, tenant, size, root, kept.note, at)
            self._high[tenant] = size
            made.append(Sealed(tenant, size, root.hex()))
        return made

    # -- the installation's own log ----------------------------------------------------------------------------

    async def _record_state(self, state: SchemaState) -> list[str]:
        """Write down what guards the data when that differs from what was written down last; answers the changes."""
        before = await last_state(self._conn)
        if before is not None and before.digest == state.digest:
            return []
        told = state.entry(before)
        await self._conn.execute("SELECT tally_audit.record_state($1, $2::text::jsonb)", state.digest, json.dumps(told))
        return list(told["changes"])

    async def _make_partitions(self) -> None:
        """Months are made ahead, so that none ever begins without its partition."""
        now = self._clock.now()
        if self._partitions_at is not None and now - self._partitions_at < _PARTITIONS_EVERY:
            return
        for attempt in range(5):
            try:
                await self._conn.fetch("SELECT * FROM tally_audit.make_partitions()")
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                # Long transactions hold the log. There are months of time, so this waits for the next run.
                await asyncio.sleep(0.05 * (attempt + 1))
            else:
                self._partitions_at = now
                return


async def last_state(conn: asyncpg.Connection) -> SchemaState | None:
    """The state of the schema that was written down last, or None."""
    body = await conn.fetchval(_LAST_STATE, NIL)
    return None if body is None else SchemaState.from_entry(body)


def _loading(size: int) -> Callable[[Reader], Tree]:
    return lambda read: Tree.load(size, read)


def _root_at(size: int) -> Callable[[Reader], bytes]:
    return lambda read: StoredTree(size, read).root()


def _growth(old: int, size: int) -> Callable[[Reader], tuple[bytes, list[bytes]]]:
    def make(read: Reader) -> tuple[bytes, list[bytes]]:
        tree = StoredTree(size, read)
        return tree.root(), tree.consistency(old) if old else []

    return make


def _agrees(row: asyncpg.Record) -> bool:
    """Whether the body begins as the capture writes it from the columns, so that neither was changed alone since."""
    tenant, seq, xid, at, table, op, key, _, body = row
    return cast("str", body).startswith(
        f'{{"tenant":"{tenant}","seq":{seq},"xid":{xid},"at":"{at:%Y-%m-%dT%H:%M:%S.%fZ}",'
        f'"table":{quote(table)},"op":"{op}","key":{quote(key)},"actor":'
    )


def _refuse_changed(rows: list[asyncpg.Record], good: int) -> None:
    if good < len(rows):
        bad = rows[good]
        raise Tampered(
            f"Entry {bad['seq']} of tenant {bad['tenant_id']} was changed after it was captured: "
            "its columns do not say what its body says.",
            kind="column",
            tenant=bad["tenant_id"],
            seq=bad["seq"],
            table=bad["table"],
            key=bad["key"],
            remedy="Everything before it is sealed. Find out who can write to tally_audit.entry.",
        )


def _past(tenant: UUID, size: int, high: int) -> Tampered:
    return Tampered(
        f"The database was restored to the past: the log of tenant {tenant} has {size:,} entries, and {high:,} were "
        "signed already.",
        kind="past",
        tenant=tenant,
        remedy="Nothing was signed. Bring back what is missing; a log that lost entries is never signed again.",
    )


_ENTRIES = """
SELECT e.tenant_id, e.seq, e.xid::text AS xid, e.at, e."table", e.op, e.key, e.salt, e.body
FROM tally_audit.entry e WHERE (e.xid, e.seq) > ($2::text::xid8, $3)
"""
_ENDED = "e.xid < pg_snapshot_xmin(pg_current_snapshot())"
_ORDER = "ORDER BY e.xid, e.seq LIMIT $1"
_INSERT_LEAVES = """
INSERT INTO tally_audit.leaf (tenant_id, idx, seq, at, hash)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::bytea[])
"""
_INSERT_NODES = """
INSERT INTO tally_audit.node (tenant_id, level, idx, hash)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bytea[])
"""
_INSERT_CHECKPOINT = "INSERT INTO tally_audit.checkpoint (tenant_id, size, root, note, at) VALUES ($1, $2, $3, $4, $5)"
_LAST_CHECKPOINTS = """
SELECT c.* FROM unnest($1::uuid[]) AS t (tenant_id) CROSS JOIN LATERAL (
  SELECT k.tenant_id, k.size, k.root, k.note, k.at FROM tally_audit.checkpoint k WHERE k.tenant_id = t.tenant_id
  ORDER BY k.size DESC LIMIT 1) AS c
"""
_SERVER = """
SELECT system_identifier::text AS system_identifier, pg_snapshot_xmax(pg_current_snapshot())::text AS next,
  pg_snapshot_xmin(pg_current_snapshot())::text AS oldest
FROM pg_control_system()
"""
# Other things that are said of the installation have other keys than a digest.
_LAST_STATE = """
SELECT body FROM tally_audit.entry WHERE tenant_id = $1 AND op = 'S' AND length(key) = 64 ORDER BY seq DESC LIMIT 1
"""
