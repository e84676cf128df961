"""A14: bodies that a policy dropped show as expired and not as tampering; bodies that somebody took out do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from tests.audit.ground import SealedGround, sealed_ground

from tallystick.audit import verifier
from tallystick.audit.export import Part
from tallystick.audit.partitions import drop_bodies
from tallystick.errors import Conflict, NotFound
from tallystick.testing import KitServer

OLD = datetime(2011, 3, 14, 15, 9, 26, tzinfo=UTC)
_OF_THEN = """
INSERT INTO tally_audit.entry (tenant_id, seq, xid, at, "table", op, key, salt, body)
SELECT $1::uuid, n, pg_current_xact_id(), $2::timestamptz, 'loan', 'I', 'k' || n, sha256(uuid_send(gen_random_uuid())),
  format('{"tenant":"%s","seq":%s,"xid":%s,"at":"%s","table":"loan","op":"I","key":"k%s","actor":null,"old":null,"new":{}}',
    $1::uuid, n, pg_current_xact_id(), to_char($2::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), n)
FROM (SELECT nextval('tally_audit.entry_seq') AS n FROM generate_series(1, $3::int)) AS v
"""


@pytest_asyncio.fixture(loop_scope="session")
async def sealed(tally_server: KitServer, tmp_path: Path) -> AsyncIterator[SealedGround]:
    async with sealed_ground(tally_server, tmp_path, uuid4().hex[:8]) as made:
        yield made


async def a_log_with_an_old_month(ground: SealedGround) -> tuple[UUID, list[int]]:
    """A tenant with entries of long ago and of today, sealed; answers the numbers of the old ones."""
    tenant = await ground.tenant()
    async with ground.connected("audit") as audit:
        await audit.execute("SELECT tally_audit.make_partition('2011-03-01')")
    async with ground.connected("superuser") as su:
        await su.execute(_OF_THEN, tenant, OLD, 20)
        rows = await su.fetch("SELECT seq FROM tally_audit.entry WHERE at = $1 ORDER BY seq", OLD)
    await ground.shelves(tenant, 3)
    await ground.seal()
    return tenant, [r["seq"] for r in rows]


async def verdict(ground: SealedGround, tenant: UUID, part: Part | None = None) -> tuple[str, int, list[str]]:
    """What the offline verifier says of the log now: its verdict, how many bodies are gone, and its findings."""
    file = ground.directory / f"{uuid4().hex}.tally"
    await ground.tally.audit.export(tenant, file, part)
    key = verifier.read_key(await ground.vkey())
    with file.open("rb") as bundle:
        read = verifier.Bundle(bundle, [key])
    return read.verdict, sum(gone for gone, _ in read.months.values()), [f["kind"] for f in read.findings]


async def test_a14_dropped_bodies_are_expired_and_old_proofs_hold(sealed: SealedGround) -> None:
    tenant, old = await a_log_with_an_old_month(sealed)
    before = [await sealed.tally.audit.prove(tenant, seq) for seq in old]
    assert await verdict(sealed, tenant) == ("verified", 0, [])
    async with sealed.connected("seal") as conn:
        assert await drop_bodies(conn, date(2011, 3, 1)) == 20
        # Until what was dropped is itself on record, nothing is handed out that would look like a theft.
        with pytest.raises(Conflict, match="not sealed yet"):
            await sealed.tally.audit.export(tenant, sealed.directory / "early.tally")
        await sealed.seal()
        assert not await conn.fetchval("SELECT count(*) FROM tally_audit.entry WHERE seq = ANY ($1)", old)
    assert await verdict(sealed, tenant) == ("verified", 20, [])
    assert await verdict(sealed, tenant, Part(since=OLD, until=datetime(2012, 1, 1, tzinfo=UTC))) == (
        "verified",
        20,
        [],
    )
    assert await verdict(sealed, tenant, Part(since=datetime(2020, 1, 1, tzinfo=UTC))) == ("verified", 0, [])
    for seq, earlier in zip(old, before, strict=True):
        assert earlier.holds
        later = await sealed.tally.audit.prove(tenant, seq)
        assert later.holds
        assert (later.leaf, later.index) == (earlier.leaf, earlier.index)
    with pytest.raises(NotFound, match="no entry of this row"):
        await verdict(sealed, tenant, Part(table="loan", key=f"k{old[0]}"))
    status = await sealed.tally.audit.status(deep=True)
    assert (status.missed, status.problems) == (0, ())


async def test_a14_bodies_that_were_taken_out_by_hand_are_not_expired(sealed: SealedGround) -> None:
    tenant, old = await a_log_with_an_old_month(sealed)
    async with sealed.connected("superuser") as su:
        await su.execute("DROP TABLE tally_audit.entry_2011_03")
    assert await verdict(sealed, tenant) == ("dropped", 20, ["dropped"])
    assert (await sealed.tally.audit.prove(tenant, old[0])).holds


async def test_a14_one_body_too_many_is_noticed(sealed: SealedGround) -> None:
    tenant, _ = await a_log_with_an_old_month(sealed)
    async with sealed.connected("seal") as conn:
        await drop_bodies(conn, date(2011, 3, 1))
    await sealed.seal()
    async with sealed.unguarded() as su:
        await su.execute(
            "DELETE FROM tally_audit.entry WHERE (tenant_id, seq) = (SELECT tenant_id, max(seq) FROM tally_audit.entry "
            "WHERE tenant_id = $1 AND op = 'I' GROUP BY 1)",
            tenant,
        )
    said, gone, kinds = await verdict(sealed, tenant)
    assert (said, gone) == ("dropped", 21)
    assert set(kinds) == {"dropped"}


async def test_a14_what_is_not_sealed_is_not_dropped(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    async with sealed.connected("audit") as audit:
        await audit.execute("SELECT tally_audit.make_partition('2011-03-01')")
    async with sealed.connected("superuser") as su:
        await su.execute(_OF_THEN, tenant, OLD, 3)
    async with sealed.connected("seal") as conn:
        with pytest.raises((Conflict, asyncpg.PostgresError)):
            await drop_bodies(conn, date(2011, 3, 1))
        assert await conn.fetchval("SELECT count(*) FROM tally_audit.entry WHERE at = $1", OLD) == 3
