"""Sealing a log of a million entries, proving one of them, and verifying a bundle, each beside what is aimed at."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from benchmarks.arena import connected, new_database, pin_cores
from benchmarks.figures import RATE, TIME, Row
from benchmarks.runner import note, percentile
from tallystick import Settings, Tallystick
from tallystick.audit import verifier
from tallystick.audit.seal_key import create_seal_key
from tallystick.schema.provision import provision
from tallystick.schema.roles import Roles
from tallystick.settings import build_url, connect_args

ENTRIES = (100_000, 1_000_000)
BUNDLED = (20_000, 100_000)
PROOFS = 300
SEALED_A_SECOND, PROVEN_WITHIN, VERIFIED_A_SECOND = 20_000, 5_000.0, 50_000

# Updates of a row of twelve columns, worded as the capture words them. Its own way of writing is measured elsewhere.
_ENTRIES = """
INSERT INTO tally_audit.entry (tenant_id, seq, xid, at, "table", op, key, salt, body)
SELECT $1::uuid, n, pg_current_xact_id(), m, 'payment', 'U', k,
  uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
  format('{"tenant":"%s","seq":%s,"xid":%s,"at":"%s","table":"payment","op":"U","key":"%s","actor":"bench",'
    '"reason":null,"request":null,"role":"bench","old":%s,"new":%s}', $1::uuid, n, pg_current_xact_id(),
    to_char(m AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), k, image, image)
FROM (SELECT nextval('tally_audit.entry_seq') AS n, clock_timestamp() AS m, gen_random_uuid()::text AS k,
    '{"id":"01a1f9df-acbc-7347-8952-73b4e2bab416","amount":"1234567","asset":"USD","status":"pending","reference":'
    '"bench-000000001","received_at":"2026-01-01T12:00:00+00:00","version":1,"created_at":"2026-01-01T12:00:00+00:00",'
    '"updated_at":"2026-01-01T12:00:00+00:00","created_by":"bench","updated_by":"bench"}'::text AS image
  FROM generate_series(1, $2::int)) AS v
"""


@dataclass(slots=True)
class Trail:
    """A database with a trail to seal; ``writer`` may write entries as they are."""

    tally: Tallystick
    writer: asyncpg.Connection
    directory: Path
    embedded: bool

    async def entries(self, count: int) -> UUID:
        """A new tenant with so many captured entries."""
        tenant = (await self.tally.tenants.create(f"bench-{secrets.token_hex(4)}", name="Benchmark")).id
        for at in range(0, count, 50_000):
            await self.writer.execute(_ENTRIES, tenant, min(50_000, count - at))
        return tenant


@contextlib.asynccontextmanager
async def opened(url: str | None) -> AsyncIterator[Trail]:
    """A fresh database, its key and a directory of checkpoints; gone again afterwards."""
    async with contextlib.AsyncExitStack() as stack:
        admin, app, password, roles, embedded = await stack.enter_async_context(new_database(url))
        seal = secrets.token_urlsafe(24)
        await provision(admin, app_password=password, seal_password=seal, roles=roles)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tallystick-bench-")))
        create_seal_key(directory / "seal.key")
        settings = Settings(
            database_url=app,
            admin_url=admin,
            seal_url=_as_seal(admin, roles, seal),
            seal_key_file=directory / "seal.key",
            anchor_dir=directory / "anchors",
            role_prefix=roles.prefix,
        )
        tally = await stack.enter_async_context(Tallystick.open(domains=[], settings=settings))
        await tally.migrate()
        writer = await stack.enter_async_context(connected(connect_args(admin)))
        name = connect_args(admin)["database"]
        await writer.execute(f'alter database "{name}" set jit = off; set synchronous_commit = off')
        await writer.execute(f'set role "{roles.audit}"')
        yield Trail(tally, writer, directory, embedded)


def _as_seal(admin: str, roles: Roles, password: str) -> str:
    where = connect_args(admin)
    host = where["host"] if isinstance(where["host"], str) else where["host"][0]
    port = where["port"] if isinstance(where["port"], int) else where["port"][0]
    return build_url(host=host, port=port, user=roles.seal, password=password, database=where["database"])


async def measure(trail: Trail, *, quick: bool) -> list[Row]:
    """Rows of the report. Client and server share one core where the server is ours."""
    count, bundled = ENTRIES[not quick], BUNDLED[not quick]
    note(f"sealing: writing {count:,} entries")
    tenant = await trail.entries(count)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    # Before the sealer connects: its server process is then where the server's first is.
    await pin_cores(trail.writer, "together" if trail.embedded else "off")
    try:
        rows = [await _seal(trail), await _prove(trail, tenant, count), await _verify(trail, bundled)]
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
    return rows


async def _seal(trail: Trail) -> Row:
    started = time.perf_counter()
    report = await trail.tally.audit.seal()
    rate = report.entries / (time.perf_counter() - started)
    return Row(
        f"seal {report.entries:,} entries", RATE, rate, SEALED_A_SECOND, rate / SEALED_A_SECOND, least=1.0, beside="aim"
    )


async def _prove(trail: Trail, tenant: UUID, count: int) -> Row:
    rows = await trail.writer.fetch("SELECT seq FROM tally_audit.leaf WHERE tenant_id = $1 ORDER BY idx", tenant)
    chance = random.Random(1)
    taken = []
    for row in chance.choices(rows, k=PROOFS):
        started = time.perf_counter()
        proof = await trail.tally.audit.prove(tenant, row["seq"])
        taken.append(time.perf_counter() - started)
        assert proof.holds
    ours = 1e6 * percentile(taken, 0.5)
    name = f"prove an entry among {count:,}"
    return Row(name, TIME, ours, PROVEN_WITHIN, ours / PROVEN_WITHIN, most=1.0, beside="aim")


async def _verify(trail: Trail, count: int) -> Row:
    tenant = await trail.entries(count)
    await trail.tally.audit.seal()
    file = trail.directory / "bundle.tally"
    started = time.perf_counter()
    report = await trail.tally.audit.export(tenant, file)
    note(f"export: {report.entries / (time.perf_counter() - started):,.0f} entries/s")
    keys = [verifier.read_key(await trail.tally.audit.vkey())]
    best = 0.0
    for _ in range(3):
        with file.open("rb") as bundle:
            started = time.perf_counter()
            read = verifier.Bundle(bundle, keys)
            best = max(best, report.entries / (time.perf_counter() - started))
        assert read.verdict == "verified", read.findings
    name = f"verify a bundle of {report.entries:,}"
    return Row(name, RATE, best, VERIFIED_A_SECOND, best / VERIFIED_A_SECOND, least=1.0, beside="aim")
