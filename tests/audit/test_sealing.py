"""Sealing, proving and looking after the logs, where nothing is wrong and where something is missing."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from tests.audit.ground import SealedGround, once_each, trees_are_whole

from tallystick import Invalid, NotFound, NotProvisioned, Unavailable, Unsupported
from tallystick.audit import checkpoint
from tallystick.audit.anchors import Announcement, DirectoryAnchor
from tallystick.audit.cursor import read_cursor, take_over
from tallystick.audit.merkle import leaf_hash, verify_consistency
from tallystick.audit.seal_key import create_seal_key, read_seal_key
from tallystick.audit.sealer import Sealer, _agrees
from tallystick.clock import SystemClock
from tallystick.errors import Conflict, LeaseLost, Tampered
from tallystick.ids import NIL
from tallystick.testing.conformance.entities import Shelf


def sealer(
    ground: SealedGround, conn: asyncpg.Connection, batch: int = 2_000, anchor: DirectoryAnchor | None = None
) -> Sealer:
    key = read_seal_key(ground.key_file)
    return Sealer(
        conn, key=key, anchor=anchor or ground.anchor, roles=ground.server.roles, clock=SystemClock(), batch=batch
    )


async def test_what_was_captured_is_sealed_signed_and_proven(sealed: SealedGround) -> None:
    one, other = await sealed.tenant(), await sealed.tenant()
    await sealed.shelves(one, 5)
    await sealed.shelves(other, 2)
    status = await sealed.tally.audit.status()
    assert {log.tenant: (log.leaves, log.unsealed, log.signed) for log in status.logs} == {
        one: (0, 6, 0),
        other: (0, 3, 0),
    }
    assert status.unsealed_age > 0
    report = await sealed.seal()
    assert {(c.tenant, c.size) for c in report.checkpoints} == {(NIL, 1), (one, 6), (other, 3)}
    assert report.entries == 10
    again = await sealed.seal()
    assert (again.entries, again.checkpoints, again.state_changes) == (0, [], [])
    status = await sealed.tally.audit.status(deep=True, max_age=1)
    assert (status.problems, status.missed, status.unsealed, status.weak) == ((), 0, 0, ())
    assert status.partitions_until is not None
    assert status.partitions_until > datetime.now(UTC) + timedelta(days=55)
    async with sealed.connected("seal") as conn:
        assert await once_each(conn) == 10
        for row in await conn.fetch(
            "SELECT e.*, l.idx FROM tally_audit.entry e JOIN tally_audit.leaf l USING (tenant_id, seq)"
        ):
            if row["tenant_id"] == NIL:
                continue
            proof = await sealed.tally.audit.prove(row["tenant_id"], row["seq"])
            assert proof.holds
            assert proof.leaf == leaf_hash(row["salt"], row["body"].encode())
            assert (proof.index, proof.size) == (row["idx"], 6 if row["tenant_id"] == one else 3)
    async with sealed.tally.session(one, actor="test", permissions=("*",)) as db:
        await db[Shelf].add(Shelf(name="late"))
        (*_, entry) = await db.audit.entries()
    with pytest.raises(NotFound, match="not in a signed log"):
        await sealed.tally.audit.prove(one, entry)
    with pytest.raises(NotFound):
        await sealed.tally.audit.prove(other, proof.seq + 10**6)


async def test_nodes_and_proofs_across_tiles(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    async with sealed.connected("superuser") as su, sealed.connected("seal") as conn:
        async with asyncio.timeout(120):
            worker = sealer(sealed, conn, batch=700)
            previous = None
            for count in (254, 1, 1, 258, 66_000):
                await su.execute(MANY, tenant, count)
                while (await worker.run()).unsealed:  # noqa: ASYNC110  another transaction on the server
                    await asyncio.sleep(0.1)
                kept = await sealed.anchor.latest(await sealed.origin(tenant))
                assert kept is not None
                found = checkpoint.open_checkpoint(kept.note, [(await sealed.signer()).key])
                if previous is not None:
                    assert kept.old == previous.size
                    assert verify_consistency(previous.size, found.size, previous.root, found.root, kept.proof)
                previous = found
        assert previous is not None
        assert previous.size == 66_515
        await trees_are_whole(conn)
        assert await conn.fetchval("SELECT count(*) FROM tally_audit.node WHERE level = 16") == 1
        seqs = [
            r["seq"]
            for r in await conn.fetch("SELECT seq FROM tally_audit.leaf WHERE tenant_id = $1 ORDER BY idx", tenant)
        ]
    for index in (0, 255, 256, 511, 65_535, 65_536, 66_303, 66_304, 66_514):
        proof = await sealed.tally.audit.prove(tenant, seqs[index])
        assert (proof.holds, proof.index, proof.root) == (True, index, previous.root)


MANY = """
INSERT INTO tally_audit.entry (tenant_id, seq, xid, at, "table", op, key, salt, body)
SELECT $1::uuid, n, pg_current_xact_id(), m, 'kit_shelf', 'I', 'k', sha256(uuid_send(gen_random_uuid())),
  format('{"tenant":"%s","seq":%s,"xid":%s,"at":"%s","table":"kit_shelf","op":"I","key":"k","actor":null}',
    $1::uuid, n, pg_current_xact_id(), to_char(m AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
FROM (SELECT nextval('tally_audit.entry_seq') AS n, clock_timestamp() AS m FROM generate_series(1, $2::int)) AS v
"""


async def test_keys_of_every_spelling_agree_with_their_bodies(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    odd = ['"', "\\", "a\tb\nc\rd\be\f", "\x01\x1f\x7f", "ñ€😀\u2028", "/", "{}'%s", ""]
    async with sealed.tally.session(tenant, actor='te"st\\', permissions=("*",)) as db:
        for key in odd:
            await db.unit.call("SELECT tally_audit.record('E', $1, $2, '{}')", (key[:20] or "t", key))
    async with sealed.connected("seal") as conn:
        rows = await conn.fetch(
            'SELECT tenant_id, seq, xid::text, at, "table", op, key, salt, body FROM tally_audit.entry '
            "WHERE tenant_id = $1",
            tenant,
        )
    assert len(rows) == len(odd) + 1
    assert all(_agrees(row) for row in rows)
    report = await sealed.seal()
    assert report.entries >= len(rows)


async def test_a_sealer_that_was_overtaken_moves_nothing(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 2)
    async with sealed.connected("seal") as old, sealed.connected("seal") as new:
        cursor = await take_over(old)
        with pytest.raises(Conflict, match="Another sealer is at work"):
            await take_over(new)
        with pytest.raises(Conflict):
            await sealed.tally.audit.seal()
        # The lock goes with a connection that only seems dead; the fence does not.
        await old.execute("SELECT pg_advisory_unlock_all()")
        fresh = await take_over(new)
        assert fresh.fence == cursor.fence + 1
        with pytest.raises(LeaseLost):
            await cursor.move(old, cursor.xid + 1, 1)
        with pytest.raises(LeaseLost):
            await cursor.hold(old)
        with pytest.raises(LeaseLost):
            await cursor.new_epoch(old, "1", 1)
        assert await read_cursor(new) == fresh
        moved = await fresh.move(new, fresh.xid + 1, 7)
        assert (moved.xid, moved.seq) == (fresh.xid + 1, 7)


class Dying(DirectoryAnchor):
    """The sealer dies once the checkpoint is out, before the database knows of it."""

    async def publish(self, announcement: Announcement) -> None:
        await super().publish(announcement)
        raise Unavailable("The sealer is gone.")


async def test_a_crash_between_publishing_and_writing_down_is_mended(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.seal()
    await sealed.shelves(tenant, 2)
    async with sealed.connected("seal") as conn:
        await sealed.refused(sealer(sealed, conn, anchor=Dying(sealed.directory / "anchors")).run, Unavailable)
        kept = await sealed.anchor.latest(await sealed.origin(tenant))
        assert kept is not None
        signed = "SELECT note FROM tally_audit.checkpoint WHERE tenant_id = $1 AND size = $2"
        assert kept.size > 1
        assert await conn.fetchval(signed, tenant, kept.size) is None
        await sealed.seal()
        assert await conn.fetchval(signed, tenant, kept.size) == kept.note
        await trees_are_whole(conn)


async def test_a_new_anchor_is_started_only_on_demand(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 2)
    await sealed.seal()
    async with sealed.opened(anchor_dir=sealed.directory / "another") as other:
        with pytest.raises(Tampered, match="knows nothing of the log") as told:
            await other.audit.seal()
        assert "--adopt" in told.value.remedy
        await other.audit.seal(adopt=True)
        await sealed.shelves(tenant, 1)
        await sealed.seal(other)
    moved = DirectoryAnchor(sealed.directory / "another")
    kept = await moved.latest(await sealed.origin(tenant))
    assert kept is not None
    assert (kept.size, kept.old) == (4, 3)


async def test_another_key_does_not_go_on_with_a_log(sealed: SealedGround) -> None:
    await sealed.tenant()
    await sealed.seal()
    key = sealed.directory / "another.key"
    create_seal_key(key)
    async with sealed.opened(seal_key_file=key) as other:
        with pytest.raises(Tampered) as told:
            await other.audit.seal()
    assert told.value.kind == "wrong-key"


async def test_what_sealing_needs_is_named(sealed: SealedGround) -> None:
    for missing, named in (
        ("seal_url", "TALLYSTICK_SEAL_URL"),
        ("seal_key_file", "TALLYSTICK_SEAL_KEY_FILE"),
        ("anchor_dir", "TALLYSTICK_ANCHOR_DIR"),
    ):
        async with sealed.opened(**{missing: None}) as other:
            with pytest.raises(NotProvisioned) as told:
                await other.audit.seal()
            assert named in told.value.remedy
    async with sealed.opened(seal_url=sealed.url("seal").replace("tally_seal", "nobody")) as other:
        with pytest.raises(NotProvisioned, match="TALLYSTICK_SEAL_URL"):
            await other.audit.status()


async def test_citus_is_refused_until_it_is_proven_there(sealed: SealedGround) -> None:
    sealed.tally.settings = sealed.settings(engine="citus")
    with pytest.raises(Unsupported, match="Citus"):
        await sealed.tally.audit.seal()
    with pytest.raises(Unsupported):
        await sealed.tally.audit.status()


async def test_the_sealing_role_reads_the_trail_and_nothing_else(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 1)
    await sealed.seal()
    async with sealed.connected("seal") as conn:
        assert await conn.fetchval("SELECT count(*) FROM tally_audit.entry") > 0
        for statement in (
            "SELECT * FROM tally.kit_shelf",
            "UPDATE tally_audit.leaf SET seq = 1",
            "DELETE FROM tally_audit.leaf",
            "DELETE FROM tally_audit.checkpoint",
            "UPDATE tally_audit.entry SET key = ''",
            "INSERT INTO tally_audit.entry SELECT * FROM tally_audit.entry",
            "TRUNCATE tally_audit.node",
            "DELETE FROM tally_audit.cursor",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(statement)


async def test_tenants_see_their_own_log_and_no_other(sealed: SealedGround) -> None:
    one, other = await sealed.tenant(), await sealed.tenant()
    await sealed.shelves(one, 1)
    await sealed.shelves(other, 3)
    await sealed.seal()
    async with sealed.connected("app") as conn:
        await conn.execute("SELECT set_config('tally.tenant', $1, false)", str(one))
        for table, count in (("leaf", 2), ("checkpoint", 1)):
            assert await conn.fetchval(f"SELECT count(*) FROM tally_audit.{table}") == count
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.fetch("SELECT * FROM tally_audit.cursor")


# -- key files -----------------------------------------------------------------------------------------------------


def test_keys_are_read_in_three_spellings(tmp_path: Path) -> None:
    made = create_seal_key(tmp_path / "pem")
    raw = made.private_bytes_raw()
    for name, content in (("raw", raw), ("hex", raw.hex().encode() + b"\n")):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_bytes(content)
    for name in ("pem", "raw", "hex"):
        assert read_seal_key(tmp_path / name).private_bytes_raw() == raw
    assert os.stat(tmp_path / "pem").st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"x" * 31, b"-----BEGIN PRIVATE KEY-----\nnot\n-----END PRIVATE KEY-----\n", b"z" * 64]
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_bytes(content)
    with pytest.raises(Invalid, match="no Ed25519 key") as told:
        read_seal_key(file)
    assert "--new-key" in told.value.remedy


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    create_seal_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(Invalid, match="can be reached by other users"):
        read_seal_key(tmp_path / "key")
    with pytest.raises(Unavailable, match="cannot be opened") as told:
        read_seal_key(tmp_path / "nowhere")
    assert "--new-key" in told.value.remedy


def test_a_key_file_is_never_replaced(tmp_path: Path) -> None:
    create_seal_key(tmp_path / "key")
    with pytest.raises(Invalid):
        create_seal_key(tmp_path / "key")


# -- the directory -------------------------------------------------------------------------------------------------


def only(directory: Path, pattern: str) -> Path:
    (found,) = directory.rglob(pattern)
    return found


LOG = f"tallystick/{UUID(int=1)}/{UUID(int=2)}"


async def test_a_directory_keeps_what_it_was_given(tmp_path: Path) -> None:
    anchor = DirectoryAnchor(tmp_path / "made" / "later")
    assert await anchor.latest(LOG) is None
    assert await anchor.origins(str(UUID(int=1))) == []
    sizes = (1, 2, 999, 1_000, 1_001, 999_999, 1_000_000, 7 * 10**9)
    old = 0
    for size in sizes:
        given = Announcement(LOG, size, f"note {size}\n", old, (bytes(32),) if old else ())
        await anchor.publish(given)
        await anchor.publish(given)
        assert await anchor.latest(LOG) == given
        old = size
    assert await anchor.origins(str(UUID(int=1))) == [LOG]
    assert [size for _, size, _ in anchor.all()] == list(sizes)
    with pytest.raises(Tampered, match="Another checkpoint") as told:
        await anchor.publish(Announcement(LOG, 1_000, "other\n"))
    assert told.value.kind == "forked"
    assert not list((tmp_path / "made").rglob(".*"))


@pytest.mark.parametrize("origin", ["", "tallystick/../x", f"tallystick/{UUID(int=1)}", f"{LOG}/../..", LOG.upper()])
async def test_a_log_of_another_name_has_no_file(tmp_path: Path, origin: str) -> None:
    with pytest.raises(Invalid):
        await DirectoryAnchor(tmp_path).publish(Announcement(origin, 1, "note\n"))
    assert os.listdir(tmp_path) == []


async def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="anchor directory"):
        await DirectoryAnchor(tmp_path / "file").publish(Announcement(LOG, 1, "note\n"))


@pytest.mark.parametrize("text", ["", "old x\n", "new 1\n", "old 01\n", "old 1\n!!\n", "old -1\n"])
async def test_a_proof_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    anchor = DirectoryAnchor(tmp_path)
    await anchor.publish(Announcement(LOG, 5, "note\n"))
    await asyncio.to_thread(only(tmp_path, "*.consistency").write_text, text)
    with pytest.raises(Invalid):
        await anchor.latest(LOG)
