"""The notary: holds the logs against what was signed before, and signs what they have become."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from tallystick.audit import checkpoint
from tallystick.audit.anchors import Anchor, Announcement
from tallystick.audit.cursor import Cursor
from tallystick.audit.merkle import Reader, StoredTree
from tallystick.audit.state import SchemaState
from tallystick.audit.tiles import read_sizes, read_tiles
from tallystick.errors import Tampered

if TYPE_CHECKING:
    from tallystick.clock import Clock

__all__ = ["Notary", "Sealed"]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A checkpoint that a run signed: the tenant's log had ``size`` entries under ``root`` (hex)."""

    tenant: UUID
    size: int
    root: str


class Notary:
    """Signs for one installation, with a key that is not in the database, what it also publishes outside of it.

    It remembers how long each log was, so that it is kept between runs.
    """

    def __init__(
        self, conn: asyncpg.Connection, signer: checkpoint.Signer, installation: UUID, anchor: Anchor, clock: Clock
    ) -> None:
        self._conn = conn
        self._signer = signer
        self._installation = installation
        self._anchor = anchor
        self._clock = clock
        self._high: dict[UUID, int] | None = None

    async def check(self, *, adopt: bool = False) -> None:
        """Before anything is written: every log is at least as long as it was, and begins as it did.

        At the first run all roots are compared, later only lengths; the root is compared again when a log grew.
        """
        sizes = await read_sizes(self._conn)
        high = self._high if self._high is not None else await self._heights()
        for tenant, size in high.items():
            if sizes.get(tenant, 0) < size:
                raise _past(tenant, sizes.get(tenant, 0), size)
        if self._high is None:
            await self._compare_roots(high)
        for row in await self._conn.fetch(_LAST_CHECKPOINTS, list(sizes)):
            if row["size"] > sizes[row["tenant_id"]]:
                raise _past(row["tenant_id"], sizes[row["tenant_id"]], row["size"])
            if row["tenant_id"] not in high:
                # Another sealer may have signed it since we looked.
                kept = await self._known(row["tenant_id"])
                high[row["tenant_id"]] = kept.size if kept else await self._adopt(row, adopt)
                await self._compare_roots([row["tenant_id"]])
        self._high = high

    async def _heights(self) -> dict[UUID, int]:
        """How long the logs of the installation were when they were last signed, by what is kept outside."""
        tenants = [UUID(log.rpartition("/")[2]) for log in await self._anchor.origins(str(self._installation))]
        known = {tenant: await self._known(tenant) for tenant in tenants}
        return {tenant: kept.size for tenant, kept in known.items() if kept is not None}

    async def _known(self, tenant: UUID) -> checkpoint.Checkpoint | None:
        """The last checkpoint of a log that is kept outside. Raises ``Tampered`` when it is not signed by our key."""
        log = checkpoint.origin(self._installation, tenant)
        kept = await self._anchor.latest(log)
        return None if kept is None else checkpoint.open_checkpoint(kept.note, [self._signer.key], log=log)

    async def _compare_roots(self, tenants: Iterable[UUID]) -> None:
        """Raise ``Tampered`` where a tree, cut to the size of the checkpoint kept outside, has another root."""
        known = [(t, k) for t in tenants if (k := await self._known(t)) is not None]
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

    async def _adopt(self, row: asyncpg.Record, adopt: bool) -> int:
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
        log = checkpoint.origin(self._installation, tenant)
        found = checkpoint.open_checkpoint(row["note"], [self._signer.key], log=log)
        await self._anchor.publish(Announcement(log, found.size, row["note"]))
        return found.size

    async def sign(self, cursor: Cursor, state: SchemaState) -> list[Sealed]:
        """Sign a checkpoint of every log that is longer than its last one."""
        assert self._high is not None
        sizes = await read_sizes(self._conn)
        signed = {r["tenant_id"]: r for r in await self._conn.fetch(_LAST_CHECKPOINTS, list(sizes))}
        grown = [t for t, size in sizes.items() if t not in signed or signed[t]["size"] < size]
        await self._compare_roots(grown)
        made = []
        for tenant in grown:
            size, log = sizes[tenant], checkpoint.origin(self._installation, tenant)
            kept = await self._anchor.latest(log)
            if kept is not None and kept.size > size:
                raise _past(tenant, size, kept.size)
            if kept is None or kept.size < size:
                old = 0 if kept is None else kept.size
                ((root, proof),) = await read_tiles(self._conn, [(tenant, _growth(old, size))])
                note = self._signer.sign(checkpoint.write(log, size, root, state.digest))
                # Kept outside before it counts inside: what the database says is never ahead of what it is held to.
                kept = Announcement(log, size, note, old, tuple(proof))
                await self._anchor.publish(kept)
            root = checkpoint.open_checkpoint(kept.note, [self._signer.key], log=log).root
            before = signed[tenant]["at"] if tenant in signed else None
            now = self._clock.now()
            at = now if before is None or before < now else before + timedelta(microseconds=1)
            async with self._conn.transaction():
                await cursor.hold(self._conn)
                await self._conn.execute(_INSERT_CHECKPOINT, tenant, size, root, kept.note, at)
            self._high[tenant] = size
            made.append(Sealed(tenant, size, root.hex()))
        return made


def _root_at(size: int) -> Callable[[Reader], bytes]:
    return lambda read: StoredTree(size, read).root()


def _growth(old: int, size: int) -> Callable[[Reader], tuple[bytes, list[bytes]]]:
    def make(read: Reader) -> tuple[bytes, list[bytes]]:
        tree = StoredTree(size, read)
        return tree.root(), tree.consistency(old) if old else []

    return make


def _past(tenant: UUID, size: int, high: int) -> Tampered:
    return Tampered(
        f"The database was restored to the past: the log of tenant {tenant} has {size:,} entries, and {high:,} were "
        "signed already.",
        kind="past",
        tenant=tenant,
        remedy="Nothing was signed. Bring back what is missing; a log that lost entries is never signed again.",
    )


_INSERT_CHECKPOINT = "INSERT INTO tally_audit.checkpoint (tenant_id, size, root, note, at) VALUES ($1, $2, $3, $4, $5)"
_LAST_CHECKPOINTS = """
SELECT c.* FROM unnest($1::uuid[]) AS t (tenant_id) CROSS JOIN LATERAL (
  SELECT k.tenant_id, k.size, k.root, k.note, k.at FROM tally_audit.checkpoint k WHERE k.tenant_id = t.tenant_id
  ORDER BY k.size DESC LIMIT 1) AS c
"""
