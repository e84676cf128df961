"""Attacks on the sealed trail, by their numbers in the list of threats: A1-A3, A5-A8, A13, A15 and A17."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from tests.audit.ground import PATIENCE, SealedGround, once_each, sealed_ground

from tallystick.audit import checkpoint
from tallystick.audit.anchors import Announcement
from tallystick.audit.merkle import Tree, leaf_hash, verify_inclusion
from tallystick.audit.state import read_state
from tallystick.audit.watch import Watcher
from tallystick.clock import FixedClock
from tallystick.errors import Tampered
from tallystick.testing import KitServer
from tallystick.testing.conformance.entities import Shelf

# The making of the tenant is an entry too.
LEAVES = "SELECT seq FROM tally_audit.leaf WHERE tenant_id = $1 AND idx > 0 ORDER BY idx"
STATE = "0" * 64


@pytest_asyncio.fixture(loop_scope="session")
async def sealed(tally_server: KitServer, tmp_path: Path) -> AsyncIterator[SealedGround]:
    async with sealed_ground(tally_server, tmp_path, uuid4().hex[:8]) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tally_server: KitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SealedGround]:
    """For attacks that leave nothing broken."""
    directory = tmp_path_factory.mktemp("sealed")
    async with sealed_ground(tally_server, directory, uuid4().hex[:8]) as made:
        yield made


async def open_writer(conn: asyncpg.Connection, tenant: UUID) -> None:
    """A transaction of the application that has its id and is not finished."""
    await conn.execute(
        f"BEGIN; SELECT set_config('tally.tenant', '{tenant}', true), set_config('tally.actor', 'attacker', true), "
        "pg_current_xact_id()"
    )


async def write(conn: asyncpg.Connection, tenant: UUID) -> None:
    await conn.execute(
        "INSERT INTO tally.kit_shelf (tenant_id, id, name, stock) VALUES ($1, $2, $3, 0)", tenant, uuid4(), uuid4().hex
    )


def anchored(ground: SealedGround) -> dict[str, bytes]:
    """Everything that is kept outside the database, by file."""
    return {str(f): f.read_bytes() for f in sorted((ground.directory / "anchors").rglob("*")) if f.is_file()}


# -- A1 ------------------------------------------------------------------------------------------------------------


async def test_a1_what_commits_in_another_order_than_it_is_numbered_is_not_missed(shared: SealedGround) -> None:
    tenant = await shared.tenant()
    await shared.seal()
    async with shared.connected("app") as slow, shared.connected("app") as fast:
        await open_writer(slow, tenant)
        await open_writer(fast, tenant)
        await write(fast, tenant)
        await write(slow, tenant)
        await fast.execute("COMMIT")
        # The one that committed is younger than one that has not, and must wait for it.
        report = await shared.tally.audit.seal()
        assert report.unsealed >= 1
        async with shared.connected("seal") as conn:
            assert not await conn.fetch(LEAVES, tenant)
            await slow.execute("COMMIT")
            await shared.seal()
            seqs = [r["seq"] for r in await conn.fetch(LEAVES, tenant)]
            # In the order of the transactions, which is not that of the numbers.
            assert len(seqs) == 2
            assert seqs == sorted(seqs, reverse=True)
            await once_each(conn)


async def test_a1_a_cursor_that_was_pushed_on_is_found_and_mended(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.seal()
    await sealed.shelves(tenant, 3)
    async with sealed.connected("superuser") as su:
        await su.execute(
            "UPDATE tally_audit.cursor SET seq = 1::bigint << 40, "
            "xid = (pg_snapshot_xmax(pg_current_snapshot())::text::numeric - 1)::text::xid8"
        )
    await sealed.shelves(tenant, 1)
    await sealed.seal()
    status = await sealed.tally.audit.status(deep=True)
    assert status.missed == 3
    assert any("never sealed" in problem for problem in status.problems)
    async with sealed.connected("seal") as conn:
        report = await sealed.tally.audit.seal(whole=True)
        assert (report.entries, report.new_epoch) == (3, True)
        await once_each(conn)
    assert (await sealed.tally.audit.status(deep=True)).problems == ()


# -- A2 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepared", [False, True])
async def test_a2_a_transaction_left_open_in_another_database_is_seen_and_loses_nothing(
    shared: SealedGround, prepared: bool
) -> None:
    tenant = await shared.tenant()
    await shared.seal()
    async with shared.connected("superuser", "postgres") as other:
        if prepared and await other.fetchval("SHOW max_prepared_transactions") == "0":
            pytest.skip("the server has no prepared transactions")
        await other.execute("BEGIN; SELECT pg_current_xact_id()")
        mine = str(await other.fetchval("SELECT pg_backend_pid()"))
        if prepared:
            await other.execute("CREATE TABLE a2 (); PREPARE TRANSACTION 'a2'")
        try:
            await shared.shelves(tenant, 3)
            first = await _held(shared, None if prepared else mine)
            await asyncio.sleep(0.2)
            second = await shared.tally.audit.seal()
            assert second.unsealed == 3
            assert second.unsealed_age >= first + 0.2
            assert await shared.tally.audit.unsealed_age() > second.unsealed_age - 0.001
            status = await shared.tally.audit.status(max_age=0.1)
            assert any("wait to be sealed" in p and "database postgres" in p for p in status.problems)
        finally:
            await other.execute("ROLLBACK PREPARED 'a2'" if prepared else "ROLLBACK")
    report = await shared.seal()
    assert report.entries == 3
    assert await shared.tally.audit.unsealed_age() == 0.0
    async with shared.connected("seal") as conn:
        await once_each(conn)


async def _held(sealed: SealedGround, process: str | None) -> float:
    """Seal until what holds sealing up is the transaction of this test, and no other test's; how old the oldest is."""
    for _ in range(PATIENCE):
        report = await sealed.tally.audit.seal()
        assert report.unsealed == 3
        if report.held_by and "database postgres" in report.held_by and (process or "prepared") in report.held_by:
            return report.unsealed_age
        await asyncio.sleep(0.1)
    raise AssertionError(report.held_by)


# -- A3 ------------------------------------------------------------------------------------------------------------

_FORGED = """
INSERT INTO tally_audit.entry (tenant_id, seq, xid, at, "table", op, key, salt, body)
SELECT $1::uuid, n, x::text::xid8, m, 'kit_shelf', 'I', 'k', sha256(uuid_send(gen_random_uuid())),
  format('{"tenant":"%s","seq":%s,"xid":%s,"at":"%s","table":"kit_shelf","op":"I","key":"k","actor":null}',
    $1::uuid, n, x, to_char(m AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
FROM (SELECT nextval('tally_audit.entry_seq') AS n, $2::text::numeric AS x, clock_timestamp() AS m) AS v
"""


async def test_a3_a_restored_server_that_counts_transactions_anew_starts_an_epoch(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 5)
    await sealed.seal()
    async with sealed.connected("superuser") as su:
        # What a dump brings along: a cursor and entries with transaction ids of a server that had counted further.
        now = await su.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric")
        await su.execute(
            "UPDATE tally_audit.cursor SET system_identifier = '7', xid = $1::text::xid8", str(now + 10**9)
        )
        for ahead in (10**9 + 5, 10**9 - 7, 40):
            await su.execute(_FORGED, tenant, str(now + ahead))
    await sealed.shelves(tenant, 4)
    status = await sealed.tally.audit.status()
    assert status.epoch == 1
    report = await sealed.seal()
    assert report.epoch == 2
    async with sealed.connected("seal") as conn, sealed.connected("superuser") as su:
        await once_each(conn)
        # The counter passes an id that was sealed already: it is not sealed again.
        for _ in range(60):
            await su.execute("SELECT pg_current_xact_id()")
        await sealed.shelves(tenant, 2)
        report = await sealed.seal()
        assert not report.new_epoch
        assert await once_each(conn) >= 14
        assert await conn.fetchval("SELECT epoch FROM tally_audit.cursor") == 2
    assert (await sealed.tally.audit.status(deep=True)).missed == 0


# -- A5: the part that is the sealer's -----------------------------------------------------------------------------


async def test_a5_a_trigger_that_is_switched_off_and_on_again_is_on_record(shared: SealedGround) -> None:
    first = await shared.seal()
    async with shared.connected("owner") as owner:
        trigger = await owner.fetchval(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = 'tally.kit_shelf'::regclass AND tgname LIKE '%audit%'"
        )
        name = f"trigger tally.kit_shelf.{trigger}"
        await owner.execute(f"ALTER TABLE tally.kit_shelf DISABLE TRIGGER {trigger}")
        status = await shared.tally.audit.status()
        assert status.state_changes == (f"{name}: always -> disabled",)
        assert status.weak == (f"{name}: disabled",)
        assert len(status.problems) == 2
        second = await shared.seal()
        assert second.state_changes == [f"{name}: always -> disabled"]
        # On again in the ordinary way, which a session in replica mode would go round.
        await owner.execute(f"ALTER TABLE tally.kit_shelf ENABLE TRIGGER {trigger}")
        third = await shared.seal()
        assert third.state_changes == [f"{name}: disabled -> origin"]
        await owner.execute(f"ALTER TABLE tally.kit_shelf ENABLE ALWAYS TRIGGER {trigger}")
    fourth = await shared.seal()
    assert fourth.state == first.state
    assert len({first.state, second.state, third.state}) == 3
    async with shared.connected("seal") as conn:
        rows = await conn.fetch("SELECT body, key FROM tally_audit.entry WHERE op = 'S' ORDER BY seq")
        assert [r["key"] for r in rows] == [r.state for r in (first, second, third, fourth)]
        assert name in rows[1]["body"]
    kept = await shared.anchor.latest(await shared.origin(UUID(int=0)))
    assert kept is not None
    assert f"state {fourth.state}\n" in kept.note


WEAKENED = [
    ("owner", "ALTER TABLE tally.kit_shelf NO FORCE ROW LEVEL SECURITY", "table tally.kit_shelf: forced -> guarded"),
    ("owner", "DROP POLICY tenant_wall ON tally.kit_shelf", "policy tally.kit_shelf.tenant_wall: gone"),
    ("owner", "CREATE POLICY more ON tally.kit_shelf USING (true)", "policy tally.kit_shelf.more: new (permissive)"),
    ("owner", "GRANT TRUNCATE ON tally.kit_shelf TO PUBLIC", "table tally.kit_shelf: definition changed"),
    ("owner", "GRANT UPDATE (name) ON tally.kit_shelf TO PUBLIC", "column tally.kit_shelf.name: "),
    ("audit", "CREATE RULE no AS ON INSERT TO tally_audit.leaf DO INSTEAD NOTHING", "rule tally_audit.leaf.no: new"),
    ("audit", "ALTER FUNCTION tally_audit.refuse() COST 7", "function tally_audit.refuse(): definition changed"),
    ("superuser", "ALTER TABLE tally.kit_sink DISABLE TRIGGER ALL", "key tally.kit_sink.fk_"),
]


async def test_a5_whatever_weakens_a_guard_changes_the_state(sealed: SealedGround) -> None:
    async with sealed.connected("seal") as seal:
        before = await read_state(seal, sealed.server.roles)
        for role, statement, named in WEAKENED:
            async with sealed.connected(role) as conn:
                await conn.execute(statement)
            after = await read_state(seal, sealed.server.roles)
            changes = after.changes_since(before)
            assert any(change.startswith(named) for change in changes), (statement, changes)
            assert after.digest != before.digest
            before = after


# -- A6 ------------------------------------------------------------------------------------------------------------


async def rewrite(ground: SealedGround, tenant: UUID) -> None:
    """An entry is forged, and everything in the database that was made from it is made again."""
    async with ground.unguarded() as su:
        await su.execute(
            "UPDATE tally_audit.entry SET body = replace(body, '\"stock\":0', '\"stock\":9') WHERE tenant_id = $1 "
            "AND seq = (SELECT min(seq) FROM tally_audit.entry WHERE tenant_id = $1 AND \"table\" = 'kit_shelf')",
            tenant,
        )
        rows = await su.fetch(
            "SELECT l.idx, e.salt, e.body FROM tally_audit.leaf l JOIN tally_audit.entry e USING (tenant_id, seq) "
            "WHERE l.tenant_id = $1 ORDER BY l.idx",
            tenant,
        )
        tree = Tree()
        for row in rows:
            digest = leaf_hash(row["salt"], row["body"].encode())
            tree.append(digest)
            await su.execute(
                "UPDATE tally_audit.leaf SET hash = $3 WHERE tenant_id = $1 AND idx = $2", tenant, row["idx"], digest
            )
        await su.execute("DELETE FROM tally_audit.checkpoint WHERE tenant_id = $1", tenant)


async def test_a6_a_history_that_was_rewritten_with_its_tree_fails_the_checkpoint_outside(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 4)
    await sealed.seal()
    before = anchored(sealed)
    await rewrite(sealed, tenant)
    await sealed.shelves(tenant, 1)
    # The sealer that has been running finds it when the log grows, one that is started now before anything else.
    told = await sealed.refused(sealed.tally.audit.seal, Tampered)
    assert "was rewritten" in told.problem
    assert (told.kind, told.tenant) == ("rewritten", tenant)
    async with sealed.opened() as other:
        with pytest.raises(Tampered, match="its first 5 entries"):
            await other.audit.seal()
    assert anchored(sealed) == before


async def test_a6_an_entry_that_is_changed_before_it_is_sealed_is_named(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 3)
    async with sealed.unguarded() as su:
        seq = await su.fetchval(
            "UPDATE tally_audit.entry SET \"table\" = 'kit_owner' WHERE seq = (SELECT max(seq) FROM tally_audit.entry "
            "WHERE tenant_id = $1) RETURNING seq",
            tenant,
        )
    told = await sealed.refused(sealed.tally.audit.seal, Tampered)
    assert (told.kind, told.tenant, told.seq, told.table) == ("column", tenant, seq, "kit_owner")
    assert "kit_owner" not in str(told)
    async with sealed.connected("seal") as conn:
        # What came before it is sealed, and it is not.
        assert len(await conn.fetch(LEAVES, tenant)) == 2


async def test_a6_leaves_that_were_taken_out_are_noticed(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 5)
    await sealed.seal()
    async with sealed.unguarded() as su:
        await su.execute("DELETE FROM tally_audit.leaf WHERE tenant_id = $1 AND idx = 2", tenant)
    async with sealed.opened() as other:
        with pytest.raises(Tampered) as told:
            await other.audit.seal()
    assert told.value.kind == "missing"


# -- A7 ------------------------------------------------------------------------------------------------------------


async def test_a7_the_second_of_two_histories_is_refused(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 3)
    await sealed.seal()
    log, signer = await sealed.origin(tenant), await sealed.signer()
    watcher = Watcher(sealed.directory / "anchors", [signer.key])
    assert not watcher.look().doubts
    fork = Tree()
    fork.extend(bytes([n]) * 32 for n in range(4))
    with pytest.raises(Tampered, match="Another checkpoint") as told:
        await sealed.anchor.publish(Announcement(log, 4, signer.sign(checkpoint.write(log, 4, fork.root(), STATE))))
    assert told.value.kind == "forked"
    # Longer, and signed with the right key; whoever remembers the first one takes no proof of it.
    fork.extend(bytes([n]) * 32 for n in range(4, 6))
    note = signer.sign(checkpoint.write(log, 6, fork.root(), STATE))
    await sealed.anchor.publish(Announcement(log, 6, note, 4, (bytes(32), fork.root())))
    (doubt,) = watcher.look().doubts
    assert (doubt.kind, doubt.origin) == ("forked", log)
    # The sealer does not go on from it either.
    async with sealed.opened() as other:
        with pytest.raises(Tampered, match="restored to the past"):
            await other.audit.seal()


# -- A8 ------------------------------------------------------------------------------------------------------------


async def test_a8_a_database_from_an_older_backup_is_not_sealed(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    await sealed.shelves(tenant, 3)
    await sealed.seal()
    await sealed.tally.close()
    backup = SealedGround(sealed.server, await sealed.server.clone(sealed.database, "_old"), sealed.directory)
    try:
        await sealed.tally.start()
        await sealed.shelves(tenant, 4)
        await sealed.seal()
        before = anchored(sealed)
        async with backup.opened() as tally:
            backup.tally = tally
            with pytest.raises(Tampered, match="restored to the past") as told:
                await tally.audit.seal()
            assert (told.value.kind, told.value.tenant) == ("past", tenant)
            (problem,) = (await tally.audit.status()).problems
            assert "restored to the past" in problem
        assert anchored(sealed) == before
        async with backup.connected("seal") as conn:
            assert len(await conn.fetch(LEAVES, tenant)) == 3
    finally:
        await sealed.server.drop(backup.database)


# -- A13 -----------------------------------------------------------------------------------------------------------


async def test_a13_a_leaf_does_not_give_a_short_body_away(shared: SealedGround) -> None:
    tenant = await shared.tenant()
    await shared.shelves(tenant, 2)
    await shared.seal()
    async with shared.connected("seal") as conn:
        rows = await conn.fetch(
            "SELECT e.salt, e.body, l.hash FROM tally_audit.entry e JOIN tally_audit.leaf l USING (tenant_id, seq)"
        )
        left = await conn.fetch(
            "SELECT l::text FROM tally_audit.leaf l UNION ALL SELECT n::text FROM tally_audit.node n "
            "UNION ALL SELECT c::text FROM tally_audit.checkpoint c"
        )
    assert len({r["salt"] for r in rows}) == len(rows)
    everything = "".join(str(r[0]) for r in left) + "".join(v.hex() for v in anchored(shared).values())
    for row in rows:
        assert len(row["salt"]) == 32
        body = row["body"].encode()
        # Whoever knows every word of the body does not recognise its leaf without the salt, which goes with the body.
        guesses = (body, b"\x00" + body, b"\x00" + bytes(32) + body)
        assert row["hash"] not in [hashlib.sha256(guess).digest() for guess in guesses]
        assert leaf_hash(row["salt"], body) == row["hash"]
        assert row["salt"].hex() not in everything


# -- A15 -----------------------------------------------------------------------------------------------------------


async def test_a15_a_clock_that_is_set_back_changes_neither_order_nor_checkpoints(shared: SealedGround) -> None:
    tenant = await shared.tenant()
    clock = FixedClock(datetime(2030, 1, 1, 12, tzinfo=UTC))
    async with shared.opened(clock=clock) as tally:
        await shared.shelves(tenant, 2)
        await shared.seal(tally)
        clock.advance(-timedelta(hours=1))
        await shared.shelves(tenant, 2)
        await shared.seal(tally)
    async with shared.unguarded() as su:
        times = [
            r["at"]
            for r in await su.fetch("SELECT at FROM tally_audit.checkpoint WHERE tenant_id = $1 ORDER BY size", tenant)
        ]
        assert times == sorted(set(times))
        # An entry that says it was captured an hour ago stands where its transaction stands.
        await su.execute(
            _FORGED.replace("clock_timestamp()", "clock_timestamp() - interval '1 hour'"),
            tenant,
            await su.fetchval("SELECT pg_current_xact_id()::text"),
        )
    await shared.seal()
    async with shared.connected("seal") as conn:
        rows = await conn.fetch("SELECT at FROM tally_audit.leaf WHERE tenant_id = $1 ORDER BY idx", tenant)
        assert rows[-1]["at"] < rows[0]["at"]
        await once_each(conn)


# -- A17: as far as there is no chain --------------------------------------------------------------------------------


async def test_a17_what_leaves_the_database_says_nothing_of_anybody(shared: SealedGround) -> None:
    made = await shared.tally.tenants.create(f"canary-{uuid4().hex}", name="Canary and Sons")
    async with shared.tally.session(made, actor="canary@example.org", permissions=("*",)) as db:
        for _ in range(3):
            await db[Shelf].add(Shelf(name="canary shelf"[: 6 + _] + uuid4().hex))
            await shared.seal()
    kept = anchored(shared)
    assert len(kept) >= 6
    for name, content in kept.items():
        assert b"anary" not in content
        assert "anary" not in name
        lines = content.decode().splitlines()
        # Log, size, root, state and signatures, or the hashes of a proof: no line is anything else.
        if name.endswith(".checkpoint"):
            assert lines[0].startswith("tallystick/")
            assert len(base64.b64decode(lines[2])) == 32
            assert lines[3].startswith("state ")
            assert lines[4] == ""
            assert all(line.startswith("\u2014 tallystick/") for line in lines[5:])
        else:
            assert lines[0].startswith("old ")
            assert all(len(base64.b64decode(line)) == 32 for line in lines[1:])


async def test_a17_an_inclusion_proof_holds_no_content(shared: SealedGround) -> None:
    tenant = await shared.tenant()
    await shared.shelves(tenant, 5)
    await shared.seal()
    async with shared.connected("seal") as conn:
        row = await conn.fetchrow("SELECT * FROM tally_audit.entry WHERE tenant_id = $1 ORDER BY seq LIMIT 1", tenant)
    assert row is not None
    proof = await shared.tally.audit.prove(tenant, row["seq"])
    assert proof.holds
    found = checkpoint.open_checkpoint(proof.note, [(await shared.signer()).key])
    leaf = leaf_hash(row["salt"], row["body"].encode())
    assert verify_inclusion(leaf, proof.index, found.size, proof.path, found.root)
    changed = leaf_hash(row["salt"], row["body"].replace(tenant.hex[:6], "000000").encode())
    assert not verify_inclusion(changed, proof.index, found.size, proof.path, found.root)
