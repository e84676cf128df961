"""A table that begins to be audited: its rows get an entry each, while it is written to, and only once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from tests.schema.support import Database, enter

from tallystick import Entity, Personal, Rules, Search
from tallystick.errors import MigrationUnsafe
from tallystick.schema.lint import lint
from tallystick.schema.migrate import migrate, revision, rollback


def folk(*, audit: bool) -> type[Entity]:
    class Folk(Entity):
        """Somebody."""

        name: str
        mail: Annotated[Personal[str], Search("email")] | None = None

        rules = Rules(audit=audit)

    return Folk


async def entries(kit: Database, tenant: UUID) -> list[tuple[str, str, Any]]:
    rows = await kit.run(
        "SELECT body FROM tally_audit.entry WHERE tenant_id = $1 AND \"table\" = 'folk' ORDER BY seq",
        tenant,
        role="superuser",
    )
    found = [json.loads(r["body"]) for r in rows]
    return [(b["op"], b["key"], b["new"] and b["new"]["name"]) for b in found]


async def test_rows_that_were_there_get_a_baseline(kit: Database, tmp_path: Path) -> None:
    where: dict[str, Any] = {"version_locations": [tmp_path]}
    made = await revision(kit.admin, "folk", branch="app", entities=[folk(audit=False)], roles=kit.roles, **where)
    assert "tally_0_audit" not in made[0].read_text()
    await migrate(kit.admin, roles=kit.roles, **where)
    tenants = [await kit.tenant(f"tenant-{n}") for n in range(2)]
    ids: dict[UUID, list[UUID]] = {}
    for tenant in tenants:
        conn = await kit.connect("app")
        await enter(conn, tenant)
        ids[tenant] = sorted(uuid4() for _ in range(3))
        for number, id in enumerate(ids[tenant]):
            await conn.execute(
                "INSERT INTO tally.data_key (tenant_id, subject, class, key_id, epoch, wrapped) "
                "VALUES ($1, $2, 'general', uuid_send($2), 1, '\\x01')",
                tenant,
                id,
            )
            await conn.execute(
                "INSERT INTO tally.folk (tenant_id, id, name, mail, mail_bidx) "
                "VALUES ($1, $2, $3, '\\x0101'::bytea || uuid_send($2), '\\x0001beefbeef')",
                tenant,
                id,
                f"n{number}",
            )
        await conn.close()
        assert await entries(kit, tenant) == []

    with pytest.raises(MigrationUnsafe):
        await migrate(kit.admin, roles=kit.roles, entities=[folk(audit=True)], **where)
    files = await revision(kit.admin, "log folk", branch="app", entities=[folk(audit=True)], roles=kit.roles, **where)
    texts = [f.read_text() for f in files]
    assert ["AddTrigger(" in t for t in texts] == [True, False]
    assert 'TakeBaseline("folk", left_out=("mail_bidx", "mail_bidx_next"))' in texts[1]
    await migrate(kit.admin, roles=kit.roles, **where)
    for tenant in tenants:
        assert await entries(kit, tenant) == [("B", str(id), f"n{n}") for n, id in enumerate(ids[tenant])]
    bodies = await kit.run("SELECT body FROM tally_audit.entry WHERE op = 'B'", role="superuser")
    assert not any("beefbeef" in b["body"] for b in bodies)
    conn = await kit.connect()
    assert await lint(conn, kit.roles, [folk(audit=True)]) == []
    await conn.close()

    # Undone and done again, rows whose last entry is what they are now are passed over; others are not.
    await rollback(kit.admin, branch="app", steps=2, roles=kit.roles, **where)
    changed = ids[tenants[0]][1]
    conn = await kit.connect("app")
    await enter(conn, tenants[0])
    await conn.execute("UPDATE tally.folk SET name = 'other' WHERE id = $1", changed)
    await conn.close()
    await migrate(kit.admin, roles=kit.roles, **where)
    assert (await entries(kit, tenants[0]))[3:] == [("B", str(changed), "other")]
    assert len(await entries(kit, tenants[1])) == 3
