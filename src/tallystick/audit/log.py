"""``tally.audit``: sealing, proving and looking after the logs of all tenants, from outside any session."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from tallystick.audit import checkpoint
from tallystick.audit.anchors import Anchor, DirectoryAnchor
from tallystick.audit.cursor import read_cursor, read_waiting
from tallystick.audit.export import ExportReport, LogPart, write_bundle
from tallystick.audit.merkle import verify_inclusion
from tallystick.audit.partitions import drop_bodies
from tallystick.audit.reconcile import BATCH, Reconciler, ReconcileReport
from tallystick.audit.retention import Retention, read_retention, set_retention
from tallystick.audit.seal_key import create_seal_key, read_seal_key
from tallystick.audit.sealer import Sealer, SealReport
from tallystick.audit.status import AuditStatus, read_status
from tallystick.audit.tiles import read_path
from tallystick.errors import NotFound, NotProvisioned, Unsupported
from tallystick.ids import NIL
from tallystick.stores.postgres.errors import FAILURES, translate

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tallystick.app import Tallystick
    from tallystick.audit.entries import AuditEntry
    from tallystick.domains.identity.tenants import TenantInfo
    from tallystick.errors import TallystickError

__all__ = ["AuditLog", "InclusionProof"]


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That an entry is in its tenant's log: its leaf is number ``index`` of the tree that ``note`` signs.

    It holds no content. Together with the entry's salt and body anybody can check it, with nothing but the public key.
    """

    tenant: UUID
    seq: int
    index: int
    size: int
    leaf: bytes
    path: tuple[bytes, ...]
    root: bytes
    note: str

    @property
    def holds(self) -> bool:
        """Whether the path leads from the leaf to the root. That the root is signed is the note's matter."""
        return verify_inclusion(self.leaf, self.index, self.size, self.path, self.root)


class AuditLog:
    """What the sealing role does, over connections of its own; they are opened when they are first needed.

    ``TALLYSTICK_SEAL_URL`` names the role's URL; the embedded server has one. Only ``seal`` needs the key and the
    anchor. Raises ``NotProvisioned`` where one of them is missing, ``Unsupported`` on Citus, where transaction ids are
    counted on each node.
    """

    def __init__(self, tally: Tallystick) -> None:
        self._tally = tally
        self._reading: asyncpg.Connection | None = None
        self._sealing: asyncpg.Connection | None = None
        self._sealer: Sealer | None = None
        self._reads, self._seals = asyncio.Lock(), asyncio.Lock()

    async def seal(self, *, adopt: bool = False, whole: bool = False) -> SealReport:
        """Seal what can be sealed now and sign what grew; see ``Sealer.run``. Raises ``Tampered``, ``Conflict``."""
        self._refuse_citus()
        async with self._seals:
            if self._sealer is None or self._sealing is None or self._sealing.is_closed():
                key, anchor = self.key(make=True), self.anchor()
                self._sealing = await self._connect()
                tally = self._tally
                self._sealer = Sealer(
                    self._sealing, key=key, anchor=anchor, roles=tally.settings.roles, clock=tally.clock
                )
            with _translated():
                return await self._sealer.run(adopt=adopt, whole=whole)

    async def status(self, *, deep: bool = False, max_age: float = 900.0) -> AuditStatus:
        """How the trail is. ``deep`` reads all of it; ``max_age`` (seconds) is when waiting becomes a problem.

        Where the anchor is known here, logs that are shorter than what it keeps are problems too.
        """
        self._refuse_citus()
        async with self._read() as conn:
            found = await read_status(conn, self._tally.settings.roles, deep=deep, max_age=max_age)
        return replace(found, problems=(*await self._behind(found), *found.problems))

    async def _behind(self, found: AuditStatus) -> list[str]:
        settings = self._tally.settings
        if settings.anchor_dir is None and self._tally.server is None:
            return []
        anchor, leaves = self.anchor(), {log.tenant: log.leaves for log in found.logs}
        told = []
        for log in await anchor.origins(str(found.installation)):
            kept, tenant = await anchor.latest(log), UUID(log.rpartition("/")[2])
            size = leaves.get(tenant, 0)
            if kept is not None and kept.size > size:
                told.append(
                    f"the database was restored to the past: the log of {tenant} has {size:,} entries, and "
                    f"{kept.size:,} were signed already"
                )
        return told

    async def unsealed_age(self) -> float:
        """How long the oldest entry that is not sealed has waited, in seconds; 0.0 when all are. For metrics."""
        async with self._read() as conn:
            waiting = await read_waiting(conn, await read_cursor(conn))
        return max((w.age for w in waiting), default=0.0)

    async def prove(self, tenant: str | UUID | TenantInfo, entry: AuditEntry | int) -> InclusionProof:
        """Prove that an entry (or the one of a number) is in its tenant's log, against the log's last checkpoint.

        A few hundred rows are read, however long the log is. Raises ``NotFound`` for an entry that is not sealed, or
        of which no checkpoint was signed yet.
        """
        tenants, seq = self._tally.tenants, entry if isinstance(entry, int) else entry.seq
        found = tenants.known(tenant) or await tenants.find(tenant)
        async with self._read() as conn:
            row = await conn.fetchrow(_LEAF, found.id, seq)
            if row is None or row["size"] is None or row["size"] <= row["idx"]:
                raise NotFound(
                    "The entry is not in a signed log.",
                    entity="AuditEntry",
                    remedy="Entries are sealed a moment later; `tallystick audit status` says what waits and why.",
                )
            index, size = row["idx"], row["size"]
            path, root = await read_path(conn, found.id, index, size)
            return InclusionProof(found.id, seq, index, size, row["hash"], tuple(path), root, row["note"])

    async def export(
        self, tenant: str | UUID | TenantInfo, path: str | os.PathLike[str], part: LogPart | None = None
    ) -> ExportReport:
        """Write a tenant's log, or a part of it, to a new file that anybody can verify with the public key.

        ``part`` is the whole log by default; ``LogPart(since=..., until=...)`` is a span of time, ``LogPart(table=...,
        key=...)`` the life of one row. Raises ``NotFound``, ``Invalid``, ``Conflict``, ``StorageFull``.
        """
        found = NIL if tenant == NIL else (await self._tally.tenants.find(tenant)).id
        async with self._read() as conn:
            return await write_bundle(conn, found, part or LogPart(), Path(path))

    async def reconcile(
        self,
        tenant: str | UUID | TenantInfo,
        *,
        tables: Iterable[str] | None = None,
        deep: bool = False,
        after: str | None = None,
        batches: int | None = None,
        batch: int = BATCH,
        told: Callable[[ReconcileReport], Awaitable[None] | None] | None = None,
    ) -> ReconcileReport:
        """Compare a tenant's rows with the last image that the log has of each: what was changed past the capture?

        It runs as the application's role in the tenant's wall. ``tables`` are names as in the log, all by default.
        ``deep`` also holds each entry against the one before it, and finds rows that were edited between the two.
        ``batches`` bounds the work of one call, and the report's ``next`` is the ``after`` of the next one. ``told``
        hears of the report after each batch. Raises ``NotFound``, ``Invalid``.
        """
        await self._tally.ready()
        found = await self._tally.tenants.find(tenant)
        unit = self._tally.store.unit(found.id, "job:reconcile")
        reconciler = Reconciler(unit, self._tally.specs, batch=batch)
        return await reconciler.run(tables=tables, deep=deep, after=after, batches=batches, told=told)

    async def retention(self, months: int | None = None) -> Retention:
        """How long bodies are kept and which months are past it, or would be with ``months``. Raises ``Invalid``."""
        async with self._read() as conn:
            return await read_retention(conn, months)

    async def set_retention(self, months: int, basis: str) -> None:
        """Keep bodies for so many months, on a legal basis in words; needs the admin's URL. Raises ``Invalid``."""
        from tallystick.schema.connect import connect
        from tallystick.settings import connect_args

        tally = self._tally
        name = "TALLYSTICK_ADMIN_URL"
        conn = await connect(connect_args(tally.admin_url, name=name), name=name)
        try:
            await set_retention(conn, tally.settings.roles.owner, months, basis)
        finally:
            await conn.close()

    async def drop_bodies(self, month: date) -> int:
        """Drop the bodies of a month that is past the policy; answers how many. See ``partitions.drop_bodies``."""
        async with self._read() as conn:
            return await drop_bodies(conn, month)

    async def vkey(self) -> str:
        """The public key as auditors need it, in one line. Raises ``NotProvisioned`` without a key file."""
        async with self._read() as conn:
            cursor = await read_cursor(conn)
        return checkpoint.Signer(checkpoint.key_name(cursor.installation), self.key()).vkey

    def key(self, *, make: bool = False) -> Ed25519PrivateKey:
        """The signing key. ``make`` lets the embedded server have one made. Raises ``NotProvisioned``, ``Invalid``."""
        path, server = self._tally.settings.seal_key_file, self._tally.server
        if path is not None:
            return read_seal_key(path)
        if server is not None:
            if make and not server.seal_key_file.exists():
                return create_seal_key(server.seal_key_file)
            return read_seal_key(server.seal_key_file)
        raise NotProvisioned(
            "Sealing needs a key that is not in the database.",
            remedy="Set TALLYSTICK_SEAL_KEY_FILE; `tallystick audit seal --new-key PATH` makes one.",
        )

    def anchor(self) -> Anchor:
        """Where checkpoints are kept. Raises ``NotProvisioned`` when no directory is named."""
        path, server = self._tally.settings.anchor_dir, self._tally.server
        if path is not None:
            return DirectoryAnchor(path)
        if server is not None:
            return DirectoryAnchor(server.anchor_dir)
        raise NotProvisioned(
            "Sealing needs a place for checkpoints that is not in the database.",
            remedy="Set TALLYSTICK_ANCHOR_DIR to a directory, best on another machine or on write-once storage.",
        )

    async def close(self) -> None:
        """Close the connections."""
        found = (self._reading, self._sealing)
        self._reading = self._sealing = self._sealer = None
        for conn in found:
            if conn is not None and not conn.is_closed():
                with contextlib.suppress(*FAILURES, TimeoutError):
                    await conn.close(timeout=5)

    @contextlib.asynccontextmanager
    async def _read(self) -> AsyncIterator[asyncpg.Connection]:
        async with self._reads:
            if self._reading is None or self._reading.is_closed():
                self._reading = await self._connect()
            with _translated():
                yield self._reading

    async def _connect(self) -> asyncpg.Connection:
        from tallystick.schema.connect import connect
        from tallystick.settings import connect_args

        settings, server = self._tally.settings, self._tally.server
        url = settings.seal_url if settings.seal_url is not None or server is None else server.url("seal")
        if url is None:
            raise NotProvisioned(
                "The audit trail is sealed and read by a role of its own.",
                remedy="Set TALLYSTICK_SEAL_URL to the sealing role's URL (not through a pooler).",
            )
        name = "TALLYSTICK_SEAL_URL"
        return await connect(connect_args(url, name=name), name=name, statements=100)

    def _refuse_citus(self) -> None:
        if self._tally.settings.engine == "citus":
            raise Unsupported(
                "Sealing does not work on Citus yet: every node counts transactions by itself.",
                remedy="Entries are captured all the same; seal on one PostgreSQL.",
            )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    failure: TallystickError
    try:
        yield
        return
    except FAILURES as problem:
        failure = translate(problem)
    raise failure


_LEAF = """
SELECT l.idx, l.hash, k.size, k.note FROM tally_audit.leaf l LEFT JOIN LATERAL (
  SELECT c.size, c.note FROM tally_audit.checkpoint c WHERE c.tenant_id = l.tenant_id ORDER BY c.size DESC LIMIT 1
) AS k ON true
WHERE l.tenant_id = $1 AND l.seq = $2
"""
