"""Months of the log: bodies go by policy, hashes and proofs stay, and that they went is written down."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from tests.audit.ground import SealedGround

from tallystick.audit.partitions import drop_bodies, make_partitions, partitions
from tallystick.errors import Conflict, Invalid, NotFound, TallystickError

LONG_AGO = date(2020, 2, 1)


async def aged(ground: SealedGround, tenant: UUID, count: int = 3) -> list[int]:
    """Entries of a month long ago, as they would be had they been captured then; answers their numbers."""
    await ground.shelves(tenant, count)
    async with ground.connected("audit") as conn:
        await conn.fetchval("SELECT tally_audit.make_partition($1)", LONG_AGO)
        rows = await conn.fetch(
            "INSERT INTO tally_audit.entry SELECT tenant_id, nextval('tally_audit.entry_seq'), xid, "
            "'2020-02-15 12:00+00', \"table\", op, key, salt, body FROM tally_audit.entry "
            "WHERE tenant_id = $1 AND op = 'I' AND \"table\" = 'kit_shelf' RETURNING seq",
            tenant,
        )
    return [r["seq"] for r in rows]


async def leaves(ground: SealedGround, tenant: UUID, seqs: list[int]) -> None:
    """Seal by hand what is not as the sealer would check it."""
    async with ground.connected("seal") as conn:
        start = await conn.fetchval(
            "SELECT coalesce(max(idx) + 1, 0) FROM tally_audit.leaf WHERE tenant_id = $1", tenant
        )
        for number, seq in enumerate(seqs, start):
            await conn.execute(
                "INSERT INTO tally_audit.leaf SELECT tenant_id, $3, seq, at, sha256(body::bytea) "
                "FROM tally_audit.entry WHERE tenant_id = $1 AND seq = $2",
                tenant,
                seq,
                number,
            )


async def keep(ground: SealedGround, months: int) -> None:
    async with ground.connected("owner") as conn:
        await conn.execute("SELECT tally_audit.set_retention($1, 'for a test')", months)


async def test_bodies_of_a_month_go_and_hashes_stay(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    seqs = await aged(sealed, tenant)
    await keep(sealed, 12)
    async with sealed.connected("seal") as conn:
        with pytest.raises(Conflict, match="not sealed"):
            await drop_bodies(conn, LONG_AGO)
        await leaves(sealed, tenant, seqs)
        before = await conn.fetch("SELECT * FROM tally_audit.leaf ORDER BY tenant_id, idx")
        assert await drop_bodies(conn, LONG_AGO) == len(seqs)
        assert await conn.fetch("SELECT * FROM tally_audit.leaf ORDER BY tenant_id, idx") == before
        assert not await conn.fetchval("SELECT EXISTS (SELECT FROM tally_audit.entry WHERE seq = ANY ($1))", seqs)
        (said,) = await conn.fetch("SELECT tenant_id, key, body FROM tally_audit.entry WHERE op = 'P'")
        assert (said["tenant_id"], said["key"]) == (tenant, "2020-02")
        assert json.loads(said["body"])["event"] == {
            "month": "2020-02", "entries": len(seqs), "first_seq": seqs[0], "last_seq": seqs[-1],
            "keep_months": 12, "basis": "for a test",
        }  # fmt: skip
        with pytest.raises(NotFound):
            await drop_bodies(conn, LONG_AGO)


async def test_the_policy_is_kept(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await leaves(sealed, tenant, await aged(sealed, tenant))
    async with sealed.connected("seal") as conn:
        with pytest.raises(Conflict, match="still keeps"):
            await drop_bodies(conn, LONG_AGO)
        with pytest.raises(Conflict, match="still keeps"):
            await drop_bodies(conn, datetime.now(UTC).date())
        with pytest.raises(Invalid):
            await drop_bodies(conn, "2020-02")  # type: ignore[arg-type]
    await keep(sealed, 1)
    async with sealed.connected("seal") as conn:
        with pytest.raises(Conflict, match="still keeps"):
            await drop_bodies(conn, datetime.now(UTC).date() - timedelta(days=20))
        states = await conn.fetch(
            "SELECT tenant_id, key, body FROM tally_audit.entry WHERE op = 'S' AND key = 'retention'"
        )
        assert [s["tenant_id"] for s in states] == [UUID(int=0)]
        assert json.loads(states[0]["body"])["event"] == {"keep_months": 1, "basis": "for a test"}
    async with sealed.connected("owner") as owner:
        for months in (0, -1, 1201):
            with pytest.raises(asyncpg.CheckViolationError):
                await owner.execute("SELECT tally_audit.set_retention($1, 'x')", months)


async def test_a_writer_of_another_month_is_not_waited_for(sealed: SealedGround) -> None:
    """Dropping needs the log to itself for a moment, gives up soon, and then tries again."""
    tenant = await sealed.tenant()
    await leaves(sealed, tenant, await aged(sealed, tenant))
    await keep(sealed, 12)
    async with sealed.connected("seal") as conn, sealed.connected("app") as writer:
        await writer.fetchval("SELECT set_config('tally.tenant', $1, false)", str(tenant))
        await writer.fetchval("SELECT set_config('tally.actor', 'a', false)")
        async with writer.transaction():
            await writer.execute(
                "INSERT INTO tally.kit_shelf (tenant_id, id, name, stock) VALUES ($1, gen_random_uuid(), 'open', 0)",
                tenant,
            )
            with pytest.raises(TallystickError, match="busy"):
                await drop_bodies(conn, LONG_AGO, patience=0)
            await sealed.shelves(tenant)
        assert await drop_bodies(conn, LONG_AGO) == 3


async def test_months_lie_ahead(sealed: SealedGround) -> None:
    async with sealed.connected("seal") as conn:
        assert (await make_partitions(conn)).rescued == 0
        parts = await partitions(conn)
        assert sum(p.month is None for p in parts) == 1
        assert max(p.month for p in parts if p.month) > datetime.now(UTC).date() + timedelta(days=55)
        assert not any(p.holds for p in parts if p.month is None)
        for ahead in (-1, 25, True, "3"):
            with pytest.raises(Invalid):
                await make_partitions(conn, ahead)  # type: ignore[arg-type]


async def test_what_was_dropped_before_is_said_again(sealed: SealedGround) -> None:
    """The entry that names a dropped month is dropped with its own month; a verifier needs to read it for ever."""
    tenant = await sealed.tenant()
    seqs = await aged(sealed, tenant)
    async with sealed.connected("audit") as conn:
        said = await conn.fetchval(
            "INSERT INTO tally_audit.entry SELECT tenant_id, nextval('tally_audit.entry_seq'), xid, at, "
            '\'tally_audit.entry\', \'P\', \'2019-12\', salt, \'{"op":"P","event":{"month":"2019-12","entries":7}}\' '
            "FROM tally_audit.entry WHERE tenant_id = $1 AND seq = $2 RETURNING seq",
            tenant,
            seqs[0],
        )
    await leaves(sealed, tenant, [*seqs, said])
    await keep(sealed, 12)
    async with sealed.connected("seal") as conn:
        assert await drop_bodies(conn, LONG_AGO) == 4
        rows = await conn.fetch("SELECT key, body FROM tally_audit.entry WHERE op = 'P' ORDER BY seq")
    told = {r["key"]: json.loads(r["body"]) for r in rows}
    assert {key: body["event"]["entries"] for key, body in told.items()} == {"2020-02": 4, "2019-12": 7}
    assert told["2019-12"]["tenant"] == str(tenant)
