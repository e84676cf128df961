"""A database of a test's own that is sealed: with a key and checkpoints outside it, and every way into it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.entities import ALL

from tallystick import Tallystick
from tallystick.audit import checkpoint
from tallystick.audit.anchors import DirectoryAnchor
from tallystick.audit.seal_key import create_seal_key, read_seal_key
from tallystick.audit.sealer import SealReport
from tallystick.audit.verifier import root_of
from tallystick.clock import Clock
from tallystick.privacy.keys import LocalKeys
from tallystick.settings import Settings, connect_args
from tallystick.testing import KitServer
from tallystick.testing.conformance.entities import Shelf

E = TypeVar("E", bound=Exception)
PATIENCE = 2_000
"""Tenths of a second: sealing waits for every transaction on the server, and a whole test of another worker is one."""


class SealedGround:
    """One database, an application open on it as ``tally``, and a directory for what is kept outside."""

    def __init__(self, server: KitServer, database: str, directory: Path) -> None:
        self.server = server
        self.database = database
        self.directory = directory
        self.key_file = directory / "seal.key"
        self.tally: Tallystick

    @property
    def anchor(self) -> DirectoryAnchor:
        return DirectoryAnchor(self.directory / "anchors")

    def url(self, role: str) -> str:
        return self.server.url(role, self.database)  # type: ignore[arg-type]

    def settings(self, **more: Any) -> Settings:
        found: dict[str, Any] = {
            "database_url": self.url("app"),
            "admin_url": self.url("admin"),
            "seal_url": self.url("seal"),
            "seal_key_file": self.key_file,
            "anchor_dir": self.directory / "anchors",
            "role_prefix": self.server.roles.prefix,
            "pool_max": 20,
        }
        return Settings.load({}, **{**found, **more})

    @contextlib.asynccontextmanager
    async def opened(self, *, clock: Clock | None = None, **more: Any) -> AsyncIterator[Tallystick]:
        """Another application on the database: a sealer that was started anew, or on another machine."""
        keys = LocalKeys(bytes(range(32)))
        async with Tallystick.open(settings=self.settings(**more), entities=ALL, keys=keys, clock=clock) as tally:
            yield tally

    @contextlib.asynccontextmanager
    async def connected(self, role: str, database: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        """A raw connection: "app", "seal", "admin", "owner" or "audit" (the admin by SET ROLE), or "superuser"."""
        if role == "superuser":
            if self.server.embedded is None:
                pytest.skip("the superuser of a named server is not ours")
            embedded = self.server.embedded
            url = embedded._url("postgres", embedded._passwords["postgres"], database or self.database)
        else:
            name = role if role in ("app", "seal") else "admin"
            url = self.server.url(name, database or self.database)  # type: ignore[arg-type]
        connection = await asyncpg.connect(**connect_args(url))
        try:
            if role in ("owner", "audit"):
                await connection.execute(f"SET ROLE {getattr(self.server.roles, role)}")
            yield connection
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def unguarded(self) -> AsyncIterator[asyncpg.Connection]:
        """A superuser whom no trigger stops: what somebody with the server in hand can do."""
        async with self.connected("superuser") as su:
            for table in ("entry", "leaf", "node", "checkpoint"):
                await su.execute(f"ALTER TABLE tally_audit.{table} DISABLE TRIGGER ALL")
            try:
                yield su
            finally:
                for table in ("entry", "leaf", "node", "checkpoint"):
                    await su.execute(f"ALTER TABLE tally_audit.{table} ENABLE ALWAYS TRIGGER tally_append_only")
                    await su.execute(f"ALTER TABLE tally_audit.{table} ENABLE ALWAYS TRIGGER tally_no_truncate")

    async def tenant(self) -> UUID:
        return (await self.tally.tenants.create(f"t-{uuid4().hex}", name="A tenant")).id

    async def shelves(self, tenant: UUID, count: int = 1) -> list[Shelf]:
        """Rows of a tenant, each added in a transaction of its own."""
        async with self.tally.session(tenant, actor="test", permissions=("*",)) as db:
            return [await db[Shelf].add(Shelf(name=uuid4().hex)) for _ in range(count)]

    async def seal(self, tally: Tallystick | None = None) -> SealReport:
        """Seal everything, and wait for transactions of whoever else is on the server; what all rounds did together."""
        made = SealReport()
        for _ in range(PATIENCE):
            report = await (tally or self.tally).audit.seal()
            signed = {c.tenant: c for c in (*made.checkpoints, *report.checkpoints)}
            made = replace(
                report,
                entries=made.entries + report.entries,
                checkpoints=list(signed.values()),
                state_changes=[*made.state_changes, *report.state_changes],
                new_epoch=made.new_epoch or report.new_epoch,
            )
            if not report.unsealed:
                return made
            await asyncio.sleep(0.1)
        raise AssertionError(f"held up by {made.held_by}")

    async def refused(self, seal: Callable[[], Awaitable[Any]], kind: type[E]) -> E:
        """The error that sealing ends with once nobody else's transaction holds it up."""
        for _ in range(PATIENCE):
            try:
                report = await seal()
            except kind as problem:
                return problem
            assert report.unsealed, "nothing was refused"
            await asyncio.sleep(0.1)
        raise AssertionError(f"held up by {report.held_by}")

    async def vkey(self) -> str:
        return await self.tally.audit.vkey()

    async def origin(self, tenant: UUID) -> str:
        status = await self.tally.audit.status()
        return checkpoint.origin(status.installation, tenant)

    async def signer(self) -> checkpoint.Signer:
        status = await self.tally.audit.status()
        return checkpoint.Signer(checkpoint.key_name(status.installation), read_seal_key(self.key_file))


@contextlib.asynccontextmanager
async def sealed_ground(server: KitServer, directory: Path, name: str) -> AsyncIterator[SealedGround]:
    """A clone of the run's template, with a new key and nothing sealed; dropped afterwards."""
    template = await server.template(None, ALL, ())
    made = SealedGround(server, await server.clone(template, f"_{name}"), directory)
    create_seal_key(made.key_file)
    try:
        async with made.opened() as tally:
            made.tally = tally
            yield made
    finally:
        await server.drop(made.database)


async def once_each(conn: asyncpg.Connection) -> int:
    """Every captured entry has one leaf, every leaf its entry; trees are whole. Answers how many there are."""
    missed = await conn.fetchval(
        "SELECT count(*) FROM tally_audit.entry e WHERE NOT EXISTS "
        "(SELECT FROM tally_audit.leaf l WHERE l.tenant_id = e.tenant_id AND l.seq = e.seq)"
    )
    entries, leaves = await conn.fetchrow(
        "SELECT (SELECT count(*) FROM tally_audit.entry), (SELECT count(*) FROM tally_audit.leaf)"
    )
    assert (missed, leaves) == (0, entries)
    await trees_are_whole(conn)
    return int(leaves)


async def trees_are_whole(conn: asyncpg.Connection) -> None:
    """Indexes have no gap, nodes are the roots of their leaves, and each checkpoint is the root at its size."""
    trees: dict[UUID, list[bytes]] = {}
    for row in await conn.fetch("SELECT tenant_id, idx, hash FROM tally_audit.leaf ORDER BY tenant_id, idx"):
        leaves = trees.setdefault(row["tenant_id"], [])
        assert row["idx"] == len(leaves)
        leaves.append(row["hash"])
    nodes = {
        (r["tenant_id"], r["level"], r["idx"]): r["hash"] for r in await conn.fetch("SELECT * FROM tally_audit.node")
    }
    expected = {
        (tenant, 8, at): root_of(leaves[at << 8 : (at + 1) << 8])
        for tenant, leaves in trees.items()
        for at in range(len(leaves) >> 8)
    }
    assert {key: value for key, value in nodes.items() if key[1] == 8} == expected
    for row in await conn.fetch("SELECT tenant_id, size, root FROM tally_audit.checkpoint"):
        assert root_of(trees[row["tenant_id"]][: row["size"]]) == row["root"]
