"""A9: what is exported is bound to what was sealed, value by value: one bit in any column, and the entry is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from tests.audit.ground import SealedGround, sealed_ground

from tallystick.audit.checkpoint import read_vkey
from tallystick.audit.export import Part
from tallystick.audit.verifier import Bundle
from tallystick.testing import KitServer

VICTIM = 3
# The whole log's verdict, and that of a part of it.
EDITS = {
    "seq": ("entry", "seq = 1000000 + seq", "dropped", "dropped"),
    "tenant_id": ("entry", "tenant_id = gen_random_uuid()", "dropped", "dropped"),
    "xid": ("entry", "xid = ((xid::text::bigint) # 1)::text::xid8", "column", "column"),
    "at": ("entry", "at = at + interval '1 microsecond'", "column", "column"),
    "at of another month": ("entry", "at = at + interval '1 month'", "column", "column"),
    "table": ("entry", "\"table\" = 'jit_shelf'", "column", "column"),
    "op": ("entry", "op = 'D'", "column", "column"),
    "key": ("entry", "key = overlay(key PLACING chr(ascii(key) # 1) FROM 1)", "column", "column"),
    "salt": ("entry", "salt = set_bit(salt, 77, 1 - get_bit(salt, 77))", "salt", "salt"),
    "body": (
        "entry",
        "body = overlay(body PLACING chr(ascii(right(body, 3)) # 1) FROM length(body) - 2)",
        "body",
        "body",
    ),
    "leaf": ("leaf", "hash = set_bit(hash, 200, 1 - get_bit(hash, 200))", "leaf", "leaf"),
    "seq of the leaf": ("leaf", "seq = 1000000 + seq", "dropped", "dropped"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def log(
    tally_server: KitServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[SealedGround, UUID]]:
    async with sealed_ground(tally_server, tmp_path_factory.mktemp("a09"), uuid4().hex[:8]) as ground:
        tenant = await ground.tenant()
        await ground.shelves(tenant, 6)
        await ground.seal()
        yield ground, tenant


async def exported(ground: SealedGround, tenant: UUID, path: Path, part: Part | None = None) -> Bundle:
    await ground.tally.audit.export(tenant, path, part)
    with open(path, "rb") as file:  # noqa: ASYNC230
        return Bundle(file, [read_vkey(await ground.vkey())])


async def test_a09_unchanged_it_is_verified(log: tuple[SealedGround, UUID], tmp_path: Path) -> None:
    found = await exported(*log, tmp_path / "whole.tally")
    assert (found.verdict, found.findings, len(found.leaves)) == ("verified", [], 7)


@pytest.mark.parametrize("column", EDITS)
async def test_a09_one_bit_in_any_column(log: tuple[SealedGround, UUID], tmp_path: Path, column: str) -> None:
    ground, tenant = log
    table, change, whole, partial = EDITS[column]
    where = "tenant_id = $1 AND seq = (SELECT seq FROM tally_audit.leaf WHERE tenant_id = $1 AND idx = $2)"
    async with ground.unguarded() as su:
        before = await su.fetchrow(f"SELECT * FROM tally_audit.{table} WHERE {where}", tenant, VICTIM)
        names = ", ".join(f'"{name}"' for name in list(before.keys()))
        values = ", ".join(f"${place}" for place in range(1, len(before) + 1))
        after = await su.fetchrow(
            f"UPDATE tally_audit.{table} SET {change} WHERE {where} RETURNING tenant_id, seq",
            tenant,
            VICTIM,
        )
    try:
        seen = {
            "whole": await exported(ground, tenant, tmp_path / "whole.tally"),
            "part": await exported(ground, tenant, tmp_path / "part.tally", Part(since=before["at"])),
        }
    finally:
        async with ground.unguarded() as su:
            gone = await su.execute(
                f"DELETE FROM tally_audit.{table} WHERE tenant_id = $1 AND seq = $2", after["tenant_id"], after["seq"]
            )
            assert gone == "DELETE 1"
            await su.execute(f"INSERT INTO tally_audit.{table} ({names}) VALUES ({values})", *before.values())
    assert (seen["whole"].verdict, seen["part"].verdict) == (whole, partial)
    if whole == "dropped":
        return
    assert {f["index"] for f in seen["whole"].findings} == {VICTIM}
    # An edited leaf is in the proofs of its neighbours too.
    first, *others = seen["part"].findings
    assert first["index"] == VICTIM
    assert {f["kind"] for f in others} <= ({"proof"} if column == "leaf" else set())


async def test_a09_a_checkpoint_and_a_node_are_bound_as_well(log: tuple[SealedGround, UUID], tmp_path: Path) -> None:
    ground, tenant = log
    async with ground.unguarded() as su:
        note = await su.fetchval("SELECT note FROM tally_audit.checkpoint WHERE tenant_id = $1", tenant)
        change = "UPDATE tally_audit.checkpoint SET note = $2 WHERE tenant_id = $1"
        at = note.index("state ") + 6
        await su.execute(change, tenant, note[:at] + ("1" if note[at] == "0" else "0") + note[at + 1 :])
        edited = await exported(ground, tenant, tmp_path / "edited.tally")
        await su.execute(change, tenant, note)
        await su.execute("INSERT INTO tally_audit.node VALUES ($1, 8, 0, $2)", tenant, bytes(32))
        beyond = await exported(ground, tenant, tmp_path / "node.tally")
        await su.execute("DELETE FROM tally_audit.node WHERE tenant_id = $1", tenant)
    assert edited.verdict == "signature"
    # A log of seven entries has no node, so that none is exported.
    assert beyond.verdict == "verified"
