"""Migrating, rolling back, asking how far a database is; and declarations that became tables without a revision."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from tests.entities import ALL
from tests.schema.support import KIT, Database, other_port

from tallystick import Check, Entity, Index, Ref, Rules
from tallystick.errors import Declaration, Invalid, MigrationUnsafe, NotMigrated, NotProvisioned, Unavailable
from tallystick.schema.lint import lint
from tallystick.schema.migrate import check_migrated, migrate, rollback, status
from tallystick.schema.online import runner
from tallystick.schema.roles import Roles
from tallystick.settings import connect_args
from tallystick.testing.server import KitServer

USERS = "tallystick.domains.identity.users"


def entities() -> tuple[type[Entity], ...]:
    from tallystick.domains.catalog import entities_of

    return (*entities_of(["identity"]), *ALL)


class Road(Entity):
    """A road between two towns."""

    start: Ref[Town]
    end: Ref[Town]


class Town(Entity):
    """A town, with its main road: the two refer to each other."""

    name: str
    main: Ref[Road] | None = None


async def test_a_second_run_does_nothing(bare: Database) -> None:
    first = await migrate(bare.admin, roles=bare.roles)
    assert first.revisions == KIT
    assert first.tables == ()
    before = await bare.snapshot()
    again = await migrate(bare.admin, roles=bare.roles)
    assert (again.revisions, again.tables) == ((), ())
    assert await bare.snapshot() == before


async def test_up_down_up_is_the_same(bare: Database) -> None:
    empty = await bare.snapshot()
    await migrate(bare.admin, roles=bare.roles)
    full = await bare.snapshot()
    report = await rollback(bare.admin, branch="kit", steps=len(KIT), roles=bare.roles)
    assert report.revisions == KIT[::-1]
    left = await bare.snapshot()
    assert {name for _, name in left.keys() - empty.keys()} == {
        "tally_ref.schema_version",
        "pk_schema_version",
        "tally_ref.schema_version.pk_schema_version",
    }
    await migrate(bare.admin, roles=bare.roles)
    assert await bare.snapshot() == full


async def test_tables_are_made_from_declarations(kit: Database) -> None:
    wanted = entities()
    report = await migrate(kit.admin, roles=kit.roles, entities=wanted)
    assert len(report.tables) == len(wanted)
    conn = await kit.connect()
    assert await lint(conn, kit.roles, wanted) == []
    await conn.close()
    assert (await migrate(kit.admin, roles=kit.roles, entities=wanted)).tables == ()
    full = await kit.snapshot()
    assert (await rollback(kit.admin, branch="declared", steps=3, roles=kit.roles)).tables == report.tables[:-4:-1]
    report = await migrate(kit.admin, roles=kit.roles, entities=wanted)
    assert len(report.tables) == 3
    assert await kit.snapshot() == full
    with pytest.raises(Invalid, match="declared"):
        await rollback(kit.admin, branch="kit", roles=kit.roles)


async def test_tables_that_refer_to_each_other(kit: Database) -> None:
    assert (await migrate(kit.admin, roles=kit.roles, entities=[Road, Town])).tables == ("road", "town")
    assert set((await rollback(kit.admin, branch="declared", steps=2, roles=kit.roles)).tables) == {"road", "town"}
    assert (await status(kit.admin))[0].branch == "kit"


def shop(**more: Any) -> type[Entity]:
    """Two versions of one entity, for a table that outlives the first."""

    class Shop(Entity):
        """A shop."""

        name: str
        rules = Rules(Index("name", query="shops by name"))

    class Changed(Entity):
        """A shop that changed."""

        name: str
        owner: str
        size: int = 1
        rules = Rules(Check("size", "size > 0"), table="shop")

    class Reworded(Entity):
        """A place where things are sold."""

        name: str
        rules = Rules(Index("name", query="shops whose name begins so"), table="shop")

    return {"first": Shop, "changed": Changed, "reworded": Reworded}[more["version"]]


async def test_a_changed_declaration_is_never_applied_silently(kit: Database) -> None:
    await migrate(kit.admin, roles=kit.roles, entities=[shop(version="first")])
    before = await kit.snapshot()
    with pytest.raises(MigrationUnsafe) as unsafe:
        await migrate(kit.admin, roles=kit.roles, entities=[shop(version="changed"), Town, Road])
    text = str(unsafe.value)
    assert "shop.owner does not exist" in text
    assert "tallystick revision" in text
    assert "--fill shop.owner=CONSTANT" in text
    assert 'ADD CONSTRAINT "ck_shop_size" CHECK (size > 0) NOT VALID' in text
    assert await kit.snapshot() == before, "not even the tables that could have been made"
    await migrate(kit.admin, roles=kit.roles, entities=[shop(version="reworded")])
    said = await kit.run(
        "SELECT obj_description('tally.shop'::regclass), obj_description('tally.ix_shop_name'::regclass)"
    )
    assert list(said[0]) == ["A place where things are sold.", "shops whose name begins so"]


async def test_a_declaration_the_server_does_not_understand(kit: Database) -> None:
    class Wrong(Entity):
        """A check of nothing."""

        name: str
        rules = Rules(Check("size", "no_such_column > 0"))

    before = await kit.snapshot()
    with pytest.raises(Declaration, match="no_such_column"):
        await migrate(kit.admin, roles=kit.roles, entities=[Wrong])
    assert await kit.snapshot() == before


async def test_eight_migrators_at_once(bare: Database) -> None:
    reports = await asyncio.gather(*(migrate(bare.admin, roles=bare.roles, entities=[Town, Road]) for _ in range(8)))
    assert sorted(r.revisions for r in reports) == [()] * 7 + [KIT]
    assert sorted(r.tables for r in reports) == [()] * 7 + [("town", "road")]


async def test_a_migrator_waits_for_another_and_not_for_ever(kit: Database) -> None:
    async with runner(kit.admin, kit.roles):
        news: list[str] = []
        with pytest.raises(Unavailable, match="Another migrator"):
            await migrate(kit.admin, roles=kit.roles, patience=0.5, report=lambda p: news.append(str(p)))
        assert news == ["waiting for another migrator"]
    await migrate(kit.admin, roles=kit.roles)


async def test_what_is_asked_for_must_exist(bare: Database, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="There is no domain 'gold'"):
        await migrate(bare.admin, roles=bare.roles, domains=["gold"])
    with pytest.raises(Invalid, match="There is no revision kit_9999"):
        await migrate(bare.admin, roles=bare.roles, target="kit_9999")
    with pytest.raises(Invalid, match="version_locations does not exist"):
        await migrate(bare.admin, roles=bare.roles, version_locations=[tmp_path / "nothing"])
    with pytest.raises(Invalid, match="There is no branch 'gold'"):
        await rollback(bare.admin, roles=bare.roles, branch="gold")
    with pytest.raises(Invalid, match="at least one step"):
        await rollback(bare.admin, roles=bare.roles, branch="kit", steps=0)
    assert await bare.run("SELECT to_regclass('tally_ref.tenant') AS made") == [(None,)]


async def test_a_database_from_the_future_is_left_alone(kit: Database) -> None:
    await kit.run("INSERT INTO tally_ref.schema_version VALUES ('kit_0999')")
    with pytest.raises(MigrationUnsafe, match="kit_0999, which this installation does not know"):
        await migrate(kit.admin, roles=kit.roles)
    conn = await kit.connect("app")
    await check_migrated(conn)
    await conn.close()


async def test_an_unprovisioned_database_is_named(tally_server: KitServer, bare: Database) -> None:
    with pytest.raises(NotProvisioned, match="tallystick provision"):
        await migrate(bare.admin, roles=Roles("nobody"))
    with pytest.raises(NotProvisioned, match="may not become"):
        await migrate(bare.app, roles=bare.roles)
    await bare.run("DROP SCHEMA tally_ref", role="superuser")
    with pytest.raises(NotProvisioned, match="roles or schemas"):
        await migrate(bare.admin, roles=bare.roles)


async def test_a_server_that_is_not_there(bare: Database) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await migrate(other_port(bare.admin, 1), roles=bare.roles)


async def test_the_application_sees_whether_it_is_behind(bare: Database) -> None:
    conn = await bare.connect("app")
    with pytest.raises(NotMigrated, match="no schema of Tallystick"):
        await check_migrated(conn)
    await migrate(bare.admin, roles=bare.roles, entities=[shop(version="first")])
    await check_migrated(conn, entities=[shop(version="first")])
    with pytest.raises(NotMigrated, match=r"no shop\.owner, nor 1 more columns"):
        await check_migrated(conn, entities=[shop(version="changed")])
    with pytest.raises(NotMigrated, match=r"no town\.tenant_id"):
        await check_migrated(conn, entities=[Town])
    await bare.run("DELETE FROM tally_ref.schema_version")
    with pytest.raises(NotMigrated, match="kit is older than the code"):
        await check_migrated(conn)
    await conn.close()


async def test_status_tells_every_branch(bare: Database) -> None:
    before = {b.branch: b for b in await status(bare.app, entities=[Town])}
    assert (before["kit"].applied, before["kit"].pending) == ((), KIT)
    assert before["declared"].pending == ("town",)
    await migrate(bare.admin, roles=bare.roles, entities=[Road, Town])
    after = {b.branch: b for b in await status(bare.app, entities=[Town, Road])}
    assert (after["kit"].applied, after["kit"].pending, after["kit"].installed) == (KIT, (), True)
    assert (after["declared"].applied, after["declared"].pending) == (("road", "town"), ())


async def test_a_managed_owner_is_enough(bare: Database) -> None:
    """What managed PostgreSQL hands out: no superuser, only CREATEROLE and SET on the two owners."""
    name = f"dba_{bare.name}"
    await bare.run(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'plain enough'", role="superuser")
    version = (await bare.run("SELECT current_setting('server_version_num')::int"))[0][0]
    option = "WITH SET TRUE, INHERIT FALSE" if version >= 160000 else ""
    await bare.run(
        f"GRANT {bare.roles.owner}, {bare.roles.audit} TO {name} {option}; "
        f"GRANT CONNECT ON DATABASE {bare.name} TO {name}",
        role="superuser",
    )
    given = connect_args(bare.admin)
    url = bare.admin.replace(given["user"], name, 1).replace(quote(given["password"], safe=""), "plain%20enough", 1)
    try:
        assert (await migrate(url, roles=bare.roles, entities=entities())).revisions == KIT
        conn = await asyncpg.connect(**connect_args(url))
        assert await conn.fetchval("SELECT current_user") == name
        assert await lint(conn, bare.roles, entities()) == []
        await conn.close()
    finally:
        await bare.run(
            f"REVOKE {bare.roles.owner}, {bare.roles.audit} FROM {name}; DROP OWNED BY {name}; DROP ROLE {name}",
            role="superuser",
        )
