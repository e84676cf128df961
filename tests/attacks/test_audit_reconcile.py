"""What is done past the capture by whoever owns a table: the threats that reconciling answers, A5 and E2."""

from __future__ import annotations

from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.audit.ground import SealedGround

from tallystick.audit.reconcile import Discrepancy
from tallystick.audit.verifier import leaf_hash
from tallystick.errors import NotFound
from tallystick.privacy.sealed import secret
from tallystick.testing.conformance.entities import Member, Shelf

TRIGGER = "trigger tally.kit_shelf.tally_0_audit"


async def silently(conn: asyncpg.Connection, table: str, *statements: str) -> None:
    """As the owner: capture off, rows out of the wall's reach, write, everything on again as it was."""
    async with conn.transaction():
        await conn.execute("SELECT set_config('tally.actor', 'owner', true)")
        await conn.execute(f"ALTER TABLE tally.{table} DISABLE TRIGGER USER, NO FORCE ROW LEVEL SECURITY")
        for statement in statements:
            assert (await conn.execute(statement)).endswith(" 1"), statement
        await conn.execute(f"ALTER TABLE tally.{table} FORCE ROW LEVEL SECURITY")
        for row in await conn.fetch(
            f"SELECT tgname FROM pg_trigger WHERE tgrelid = 'tally.{table}'::regclass AND NOT tgisinternal"
        ):
            await conn.execute(f'ALTER TABLE tally.{table} ENABLE ALWAYS TRIGGER "{row["tgname"]}"')


async def found(ground: SealedGround, tenant: UUID) -> list[Discrepancy]:
    report = await ground.tally.audit.reconcile(tenant)
    assert report.next is None
    return report.findings


async def test_a05_a_row_that_was_edited_with_the_trigger_off_is_found(sealed: SealedGround) -> None:
    """While the trigger is off the sealed state names it; afterwards nothing does, and the row itself is found."""
    tenant = await sealed.tenant()
    shelf, other = await sealed.shelves(tenant, 2)
    first = await sealed.seal()
    async with sealed.connected("owner") as owner:
        await owner.execute("ALTER TABLE tally.kit_shelf DISABLE TRIGGER tally_0_audit")
        status = await sealed.tally.audit.status()
        assert status.state_changes == (f"{TRIGGER}: always -> disabled",)
        assert (await sealed.seal()).state_changes == [f"{TRIGGER}: always -> disabled"]
        await owner.execute("ALTER TABLE tally.kit_shelf ENABLE ALWAYS TRIGGER tally_0_audit")
        assert (await sealed.seal()).state == first.state
        # Between two looks of the sealer.
        await silently(owner, "kit_shelf", f"UPDATE tally.kit_shelf SET stock = 41 WHERE id = '{shelf.id}'")
    assert (await sealed.seal()).state == first.state
    assert (await sealed.tally.audit.status(deep=True)).problems == ()
    (one,) = await found(sealed, tenant)
    assert (one.table, one.key, one.kind, one.columns) == ("kit_shelf", str(shelf.id), "edited", ("stock",))
    # Whoever edits the row afterwards makes an entry whose old image is the silent edit: it stays in the log.
    async with sealed.tally.session(tenant, actor="clerk", permissions=("*",)) as db:
        await db[Shelf].update(await db[Shelf].get(shelf.id), name="seen")
        assert await db[Shelf].get(other.id) == other
        before, after = (await db.audit.entries(Shelf, key=shelf.id)).items
    assert before.new is not None
    assert after.old is not None
    assert (before.new["stock"], after.old["stock"]) == (0, 41)
    assert await found(sealed, tenant) == []
    (one,) = (await sealed.tally.audit.reconcile(tenant, deep=True)).findings
    assert (one.key, one.kind, one.columns, one.seq) == (str(shelf.id), "between", ("stock",), after.seq)
    assert (await sealed.tally.audit.reconcile(tenant, deep=True, batch=1)).findings == [one]


async def test_a05_rows_added_and_removed_in_silence_are_found(sealed: SealedGround) -> None:
    tenant, neighbour = await sealed.tenant(), await sealed.tenant()
    kept, gone, moved, back = await sealed.shelves(tenant, 4)
    async with sealed.tally.session(tenant, actor="clerk", permissions=("*",)) as db:
        await db[Shelf].purge(back, reason="a mistake")
        with pytest.raises(NotFound):
            await db[Shelf].get(back.id)
    planted = uuid4()
    async with sealed.connected("owner") as owner:
        await silently(
            owner,
            "kit_shelf",
            f"DELETE FROM tally.kit_shelf WHERE id = '{gone.id}'",
            f"INSERT INTO tally.kit_shelf (tenant_id, id, name, stock) VALUES ('{tenant}', '{planted}', 'planted', 1)",
            f"INSERT INTO tally.kit_shelf (tenant_id, id, name, stock) VALUES ('{tenant}', '{back.id}', 'back', 1)",
            f"UPDATE tally.kit_shelf SET tenant_id = '{neighbour}' WHERE id = '{moved.id}'",
        )
    kinds = {(one.key, one.kind) for one in await found(sealed, tenant)}
    assert kinds == {
        (str(gone.id), "removed"),
        (str(planted), "added"),
        (str(back.id), "back"),
        (str(moved.id), "removed"),
    }
    assert [(one.key, one.kind) for one in await found(sealed, neighbour)] == [(str(moved.id), "added")]
    assert kept.id not in {UUID(key) for key, _ in kinds}


async def test_a06_a_superuser_who_edits_row_and_image_is_found_by_the_leaf(sealed: SealedGround) -> None:
    """Row and log can be made to agree by whoever holds the server; then the log is not what was sealed."""
    tenant = await sealed.tenant()
    (shelf,) = await sealed.shelves(tenant)
    await sealed.seal()
    async with sealed.connected("owner") as owner:
        await silently(owner, "kit_shelf", f"UPDATE tally.kit_shelf SET stock = 7 WHERE id = '{shelf.id}'")
    async with sealed.unguarded() as su:
        await su.execute(
            "UPDATE tally_audit.entry SET body = replace(body, '\"stock\":0', '\"stock\":7') WHERE key = $1",
            str(shelf.id),
        )
    (one,) = await found(sealed, tenant)
    assert (one.key, one.kind, one.columns) == (str(shelf.id), "rewritten", ())
    # With the leaf rewritten as well the two agree; what was signed before does not, and says so to the verifier.
    async with sealed.unguarded() as su:
        row = await su.fetchrow("SELECT seq, salt, body FROM tally_audit.entry WHERE key = $1", str(shelf.id))
        assert row is not None
        forged = leaf_hash(row["salt"], row["body"].encode())
        await su.execute("UPDATE tally_audit.leaf SET hash = $1 WHERE seq = $2", forged, row["seq"])
    assert await found(sealed, tenant) == []


async def test_e02_old_ciphertext_put_back_into_its_cell_is_found(sealed: SealedGround) -> None:
    """The old bytes decrypt, because they are of the same cell; only the log knows that there were newer ones."""
    tenant = await sealed.tenant()
    async with sealed.tally.session(tenant, actor="clerk", permissions=("*",)) as db:
        member = await db[Member].add(Member(number=secret("4-567-890"), name="Ada Okafor"))
        async with sealed.connected("superuser") as su:
            old = await su.fetchval("SELECT name FROM tally.kit_member WHERE id = $1", member.id)
        assert old is not None
        changed = await db[Member].update(member, name="Kofi Mensah")
        assert await found(sealed, tenant) == []
        async with sealed.connected("owner") as owner:
            put_back = f"UPDATE tally.kit_member SET name = '\\x{bytes(old).hex()}' WHERE id = '{member.id}'"
            await silently(owner, "kit_member", put_back)
        again = await db[Member].get(member.id)
        assert (again.name, again.version) == ("Ada Okafor", changed.version)
    (one,) = await found(sealed, tenant)
    assert (one.table, one.key, one.kind, one.columns) == ("kit_member", str(member.id), "edited", ("name",))
    assert "Ada" not in repr(one)
