"""Changing tables that are in use: short locks and retries, indexes that were interrupted, rows tenant by tenant."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.bouncer import MISSING, PGBOUNCER, pgbouncer
from tests.schema.support import Database, enter, until

from tallystick import Entity, Ref, Rules
from tallystick.errors import MigrationUnsafe, Unavailable, Unsupported
from tallystick.schema.lint import lint
from tallystick.schema.migrate import migrate, revision, rollback
from tallystick.schema.online import Progress
from tallystick.schema.tenants import for_each_tenant

REVISION = """
from alembic import op
from tallystick.schema.model import *
from tallystick.schema.operations import *
from tallystick.schema.online_operations import *

revision = "app_{number:04d}"
down_revision = {before!r}
branch_labels = None
depends_on = None


def upgrade():
    {up}


def downgrade():
    {down}
"""


class Owner(Entity):
    """Somebody who has things."""

    name: str


class Thing(Entity):
    """A thing."""

    name: str
    rank: int = 0
    owner: Ref[Owner] | None = None
    rules = Rules(table="thing")


class Folder:
    """Revisions written by hand, after the first that makes the tables."""

    def __init__(self, path: Path, database: Database) -> None:
        self.path, self.database, self.count = path, database, 1

    def add(self, up: str, down: str = "pass") -> str:
        self.count += 1
        before = f"app_{self.count - 1:04d}"
        text = REVISION.format(number=self.count, before=before, up=up, down=down)
        (self.path / f"app_{self.count:04d}.py").write_text(text)
        return f"app_{self.count:04d}"

    async def up(self, **more: Any) -> tuple[str, ...]:
        report = await migrate(self.database.admin, roles=self.database.roles, version_locations=[self.path], **more)
        return report.revisions

    async def down(self, steps: int = 1) -> tuple[str, ...]:
        report = await rollback(
            self.database.admin, branch="app", steps=steps, roles=self.database.roles, version_locations=[self.path]
        )
        return report.revisions


@pytest.fixture
async def folder(kit: Database, tmp_path: Path) -> Folder:
    await revision(
        kit.admin, "things", branch="app", entities=[Owner, Thing], roles=kit.roles, version_locations=[tmp_path]
    )
    made = Folder(tmp_path, kit)
    await made.up()
    return made


async def fill(database: Database, tenant: UUID, count: int, name: str = "n || 'th'") -> None:
    conn = await database.connect("app")
    await enter(conn, tenant)
    await conn.execute(
        f"INSERT INTO tally.thing (tenant_id, id, name, rank) SELECT $1, gen_random_uuid(), {name}, n "
        "FROM generate_series(1, $2::int) n",
        tenant,
        count,
    )
    await conn.close()


async def test_a_busy_table_is_tried_again_and_readers_do_not_queue(folder: Folder) -> None:
    tenant = await folder.database.tenant()
    await fill(folder.database, tenant, 10)
    folder.add('op.invoke(AddColumn("thing", Column("note", "text", nullable=True)))')
    blocker, reader = await folder.database.connect("app"), await folder.database.connect("app")
    await enter(blocker, tenant)
    await enter(reader, tenant)
    open_reader = blocker.transaction()
    await open_reader.start()
    await blocker.fetch("SELECT * FROM tally.thing")
    news: list[Progress] = []
    running = asyncio.create_task(folder.up(report=news.append))
    # A reader that queued behind the change would wait for ever: what it waits for is still open after three tries.
    async with asyncio.timeout(60):
        while sum(p.what == "waiting for" and "busy table" in p.detail for p in news) < 3:
            await reader.fetch("SELECT * FROM tally.thing LIMIT 1")
            await asyncio.sleep(0.02)
    assert not running.done()
    await open_reader.commit()
    assert await running == ("app_0002",)
    await blocker.close()
    await reader.close()


async def test_patience_ends(folder: Folder) -> None:
    tenant = await folder.database.tenant()
    folder.add('op.invoke(AddColumn("thing", Column("note", "text", nullable=True)))')
    blocker = await folder.database.connect("app")
    await enter(blocker, tenant)
    async with blocker.transaction():
        await blocker.fetch("SELECT * FROM tally.thing")
        with pytest.raises(Unavailable, match="app_0002: a table it changes stayed busy"):
            await folder.up(patience=1.0)
    assert await folder.up() == ("app_0002",)
    await blocker.close()


INDEX = 'AddIndex("thing", Index("ix_thing_rank", ("tenant_id", "rank", "id"), comment="things by rank"))'


async def test_an_index_is_built_while_others_write(folder: Folder) -> None:
    tenant = await folder.database.tenant()
    await fill(folder.database, tenant, 2000)
    folder.add(f"op.invoke({INDEX})", f"op.invoke(Undo({INDEX}))")
    begun, stop = asyncio.Event(), asyncio.Event()

    async def write() -> int:
        conn = await folder.database.connect("app")
        await enter(conn, tenant)
        count = 0
        while not stop.is_set():
            await conn.execute("UPDATE tally.thing SET rank = rank + 1 WHERE name = $1", f"{count % 2000 + 1}th")
            count += 1
            begun.set()
        await conn.close()
        return count

    writing = asyncio.create_task(write())
    await asyncio.wait_for(begun.wait(), 60)
    assert await folder.up() == ("app_0002",)
    stop.set()
    assert await writing > 1
    assert await folder.database.run("SELECT obj_description('tally.ix_thing_rank'::regclass)") == [("things by rank",)]
    await folder.down()
    assert await folder.database.run("SELECT to_regclass('tally.ix_thing_rank')") == [(None,)]


async def test_an_invalid_index_is_repaired(folder: Folder) -> None:
    """What an interrupted build leaves, made the way PostgreSQL makes it: a unique index that met duplicates."""
    tenant = await folder.database.tenant()
    await fill(folder.database, tenant, 10, name="'same'")
    conn = await folder.database.connect("owner")
    with pytest.raises(asyncpg.UniqueViolationError):
        await conn.execute("CREATE UNIQUE INDEX CONCURRENTLY ix_thing_rank ON tally.thing (tenant_id, name)")
    assert [f.code for f in await lint(conn, folder.database.roles)] == ["invalid-index"]
    folder.add(f"op.invoke({INDEX})")
    news: list[str] = []
    await folder.up(report=lambda p: news.append(str(p)))
    assert "repairing ix_thing_rank: an interrupted build left it invalid" in news
    assert await lint(conn, folder.database.roles) == []
    columns = await conn.fetchval("SELECT pg_get_indexdef('tally.ix_thing_rank'::regclass)")
    assert columns.endswith("(tenant_id, rank, id)")
    await conn.close()


async def test_a_valid_index_is_taken_as_done_and_another_one_is_not(folder: Folder) -> None:
    await folder.database.run("CREATE INDEX ix_thing_rank ON tally.thing (tenant_id, rank, id)")
    folder.add(f"op.invoke({INDEX})")
    assert await folder.up() == ("app_0002",)
    await folder.database.run("CREATE INDEX ix_thing_name ON tally.thing (tenant_id, rank)")
    folder.add('op.invoke(AddIndex("thing", Index("ix_thing_name", ("tenant_id", "name", "id"))))')
    with pytest.raises(MigrationUnsafe, match="ix_thing_name exists and is another one"):
        await folder.up()


async def test_an_index_carries_columns_along(folder: Folder) -> None:
    carrying = 'op.invoke(AddIndex("thing", Index("ix_thing_rank", ("tenant_id", "rank", "id"), include=("name",))))'
    folder.add(carrying)
    assert await folder.up() == ("app_0002",)
    conn = await folder.database.connect("owner")
    text = await conn.fetchval("SELECT pg_get_indexdef('tally.ix_thing_rank'::regclass)")
    assert text.endswith("(tenant_id, rank, id) INCLUDE (name)")
    await conn.close()


async def test_duplicates_leave_no_invalid_index(folder: Folder) -> None:
    tenant = await folder.database.tenant()
    await fill(folder.database, tenant, 3, name="'same'")
    folder.add('op.invoke(AddIndex("thing", Index("uq_thing_name", ("tenant_id", "name"), unique=True)))')
    with pytest.raises(MigrationUnsafe, match="SQLSTATE 23505") as told:
        await folder.up()
    assert "uq_thing_name" in str(told.value), "and the rule that does not hold"
    assert "same" not in str(told.value), "no stored value in a message"
    assert await folder.database.run("SELECT to_regclass('tally.uq_thing_name')") == [(None,)]


MIGRATOR = """
import asyncio, sys
from tallystick.schema.migrate import migrate
from tallystick.schema.roles import Roles
asyncio.run(migrate(sys.argv[1], roles=Roles(sys.argv[2]), version_locations=[sys.argv[3]],
                    report=lambda p: print(p, flush=True)))
"""


async def test_a_killed_migrator_is_resumed(folder: Folder) -> None:
    """kill -9 while an index is being built: the build goes on in the server, or leaves an invalid index."""
    tenant = await folder.database.tenant()
    await fill(folder.database, tenant, 500)
    blocker = await folder.database.connect("app")
    await enter(blocker, tenant)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("UPDATE tally.thing SET rank = 0 WHERE name = '1th'")
    folder.add(
        f"op.invoke({INDEX})\n    op.invoke(AddIndex('thing', Index('ix_thing_name', ('tenant_id', 'name', 'id'))))"
    )
    arguments = [sys.executable, "-c", MIGRATOR, folder.database.admin, folder.database.roles.prefix, str(folder.path)]
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "src"}
    )
    assert process.stdout is not None
    while b"building ix_thing_rank" not in (line := await process.stdout.readline()):
        assert line, "the migrator ended too early"
    await until(
        folder.database,
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE c.relname = 'ix_thing_rank' AND NOT i.indisvalid)",
    )
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    news: list[str] = []
    second = asyncio.create_task(folder.up(report=lambda p: news.append(str(p))))
    async with asyncio.timeout(60):
        while not all(any(words in n for n in news) for words in ("still building", "waiting for writers")):
            assert not second.done(), news
            await asyncio.sleep(0.05)
    await transaction.commit()
    await blocker.close()
    assert await second == ("app_0002",)
    conn = await folder.database.connect()
    assert await lint(conn, folder.database.roles) == []
    await conn.close()
    assert await folder.database.run(
        "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE c.relname IN ('ix_thing_rank', 'ix_thing_name') AND i.indisvalid"
    ) == [(2,)]


async def test_a_check_is_added_first_and_proved_later(folder: Folder) -> None:
    tenant = await folder.database.tenant()
    await fill(folder.database, tenant, 5)
    folder.add(
        'op.invoke(AddCheck("thing", Check("ck_thing_rank", "rank > 1")))',
        'op.invoke(Undo(AddCheck("thing", Check("ck_thing_rank", "rank > 1"))))',
    )
    folder.add('op.invoke(Validate("thing", "ck_thing_rank"))')
    with pytest.raises(MigrationUnsafe, match='"ck_thing_rank" of relation "thing" is violated by some row'):
        await folder.up()
    conn = await folder.database.connect("app")
    await enter(conn, tenant)
    with pytest.raises(asyncpg.CheckViolationError):
        await conn.execute(
            "INSERT INTO tally.thing (tenant_id, id, name, rank) VALUES ($1, $2, 'x', 0)", tenant, uuid4()
        )
    await conn.execute("UPDATE tally.thing SET rank = 9 WHERE rank <= 1")
    await conn.close()
    assert await folder.up() == ("app_0003",)


async def test_a_foreign_key_is_proved_for_every_tenant(folder: Folder) -> None:
    database = folder.database
    tenants = [await database.tenant("one"), await database.tenant("two"), await database.tenant("three")]
    await database.run("ALTER TABLE tally.thing DROP CONSTRAINT fk_thing_owner")
    conn = await database.connect("app")
    for tenant in tenants:
        await enter(conn, tenant)
        owner = uuid4()
        await conn.execute("INSERT INTO tally.owner (tenant_id, id, name) VALUES ($1, $2, 'x')", tenant, owner)
        await conn.execute(
            "INSERT INTO tally.thing (tenant_id, id, name, rank, owner_id) VALUES ($1, $2, 'x', 1, $3)",
            tenant,
            uuid4(),
            owner,
        )
    await conn.execute("UPDATE tally.thing SET owner_id = gen_random_uuid()")
    key = 'ForeignKey("fk_thing_owner", ("tenant_id", "owner_id"), "owner", ("tenant_id", "id"))'
    folder.add(f'op.invoke(AddForeignKey("thing", {key}))')
    folder.add('op.invoke(Validate("thing", "fk_thing_owner"))')
    with pytest.raises(MigrationUnsafe, match="refer to rows that do not exist"):
        await folder.up()
    state = "SELECT convalidated FROM pg_constraint WHERE conname = 'fk_thing_owner'"
    assert await database.run(state) == [(False,)]
    await conn.execute("UPDATE tally.thing SET owner_id = NULL")
    await conn.close()
    assert await folder.up() == ("app_0003",)
    assert await database.run(state) == [(True,)]


async def test_the_key_to_the_tenants_is_proved_under_a_lock(folder: Folder) -> None:
    tenant = await folder.database.tenant()
    await fill(folder.database, tenant, 5)
    await folder.database.run("ALTER TABLE tally.thing DROP CONSTRAINT fk_thing_tenant")
    folder.add(
        'op.invoke(AddForeignKey("thing", ForeignKey("fk_thing_tenant", ("tenant_id",), "tenant", ("id",), '
        'schema="tally_ref")))'
    )
    folder.add('op.invoke(Validate("thing", "fk_thing_tenant"))')
    await folder.up()
    conn = await folder.database.connect()
    assert await lint(conn, folder.database.roles, [Thing, Owner]) == []
    await conn.close()


async def test_a_table_that_refers_to_one_with_rows(folder: Folder) -> None:
    """PostgreSQL reads the referred table to check a new key, under policies that raise without a tenant."""
    tenant = await folder.database.tenant()
    await fill(folder.database, tenant, 2000)
    await folder.database.run("ANALYZE tally.thing")

    class Part(Entity):
        """A part of a thing."""

        thing: Ref[Thing]

    await migrate(folder.database.admin, roles=folder.database.roles, version_locations=[folder.path], entities=[Part])


async def test_a_value_becomes_required(folder: Folder) -> None:
    tenant = await folder.database.tenant()
    await folder.database.run(
        "ALTER TABLE tally.thing ADD COLUMN note text; GRANT UPDATE (note), INSERT (note) ON "
        f"tally.thing TO {folder.database.roles.app}"
    )
    await fill(folder.database, tenant, 5)
    require = 'RequireValue("thing", "note")'
    folder.add(f"op.invoke({require})", f"op.invoke(Undo({require}))")
    with pytest.raises(MigrationUnsafe, match="is violated by some row"):
        await folder.up()
    await fill(folder.database, tenant, 1)  # the code that runs may go on writing empty values
    conn = await folder.database.connect("app")
    await enter(conn, tenant)
    await conn.execute("UPDATE tally.thing SET note = 'x'")
    assert await folder.up() == ("app_0002",)
    with pytest.raises(asyncpg.NotNullViolationError):
        await conn.execute("UPDATE tally.thing SET note = NULL")
    assert await folder.database.run("SELECT count(*) FROM pg_constraint WHERE conname LIKE '%present'") == [(0,)]
    await folder.down()
    await conn.execute("UPDATE tally.thing SET note = NULL")
    await conn.close()


async def test_rows_are_changed_tenant_by_tenant_and_resumed(folder: Folder) -> None:
    tenants = sorted([await folder.database.tenant(f"t{n}") for n in range(4)])
    for tenant in tenants:
        await fill(folder.database, tenant, 25)
    folder.add('op.invoke(Backfill("thing", "rank = 1 / (rank - rank)", "rank < 100", batch=10))')
    with pytest.raises(MigrationUnsafe, match="SQLSTATE 22012"):
        await folder.up()
    assert await folder.database.run("SELECT count(*) FROM tally_ref.backfill") == [(0,)]
    (folder.path / "app_0002.py").unlink()
    folder.count = 1
    folder.add(
        """
    def work(connection, tenant):
        from sqlalchemy import text
        if stop == str(tenant):
            raise RuntimeError("stopped here")
        found = connection.execute(text("UPDATE tally.thing SET rank = rank + 1000 WHERE id IN "
            "(SELECT id FROM tally.thing WHERE rank < 1000 ORDER BY id LIMIT 10)"))
        return found.rowcount
    import os
    stop = os.environ.get("TALLY_TEST_STOP")
    op.invoke(ForEachTenant("raise ranks", work))""",
        'op.invoke(Undo(ForEachTenant("raise ranks", None)))',
    )
    os.environ["TALLY_TEST_STOP"] = str(tenants[2])
    try:
        with pytest.raises(RuntimeError, match="stopped here"):
            await folder.up()
    finally:
        del os.environ["TALLY_TEST_STOP"]
    done = await folder.database.run("SELECT tenant_id, rows FROM tally_ref.backfill ORDER BY tenant_id")
    assert [tuple(r) for r in done] == [(tenants[0], 25), (tenants[1], 25)]
    assert await folder.up() == ("app_0002",)
    conn = await folder.database.connect("app")
    for tenant in tenants:
        await enter(conn, tenant)
        ranks = [r["rank"] for r in await conn.fetch("SELECT rank FROM tally.thing ORDER BY rank")]
        assert ranks == list(range(1001, 1026)), "every row once, whatever was interrupted"
        assert await conn.fetchval("SELECT DISTINCT updated_by FROM tally.thing") == "system:migration"
    await conn.close()
    await folder.down()
    assert await folder.database.run("SELECT count(*) FROM tally_ref.backfill") == [(0,)]


async def test_a_script_goes_through_tenants(folder: Folder) -> None:
    tenants = sorted([await folder.database.tenant(f"t{n}") for n in range(3)])
    for tenant in tenants:
        await fill(folder.database, tenant, 7)
    seen: list[UUID] = []

    async def work(conn: asyncpg.Connection, tenant: UUID) -> int:
        seen.append(tenant)
        if len(seen) == 6:
            raise RuntimeError("stopped")
        tag = await conn.execute(
            "UPDATE tally.thing SET rank = 50 WHERE id IN (SELECT id FROM tally.thing WHERE rank < 50 LIMIT 4)"
        )
        return int(tag.split()[-1])

    owner = await folder.database.connect("owner")
    with pytest.raises(RuntimeError):
        await for_each_tenant(owner, work, name="fifty")
    assert seen == [tenants[0]] * 3 + [tenants[1]] * 3
    assert await for_each_tenant(owner, work, name="fifty") == 7
    assert await for_each_tenant(owner, work, name="fifty") == 0
    with pytest.raises(asyncpg.PostgresError):
        await owner.fetch("SELECT * FROM tally.thing")
    await owner.close()
    app = await folder.database.connect("app")

    async def count(conn: asyncpg.Connection, tenant: UUID) -> None:
        assert await conn.fetchval("SELECT count(*) FROM tally.thing WHERE rank = 50") == 7

    assert await for_each_tenant(app, count, actor="job:count") == 0
    await app.close()


async def test_a_transaction_pooler_is_refused(folder: Folder) -> None:
    if PGBOUNCER is None:
        pytest.skip(MISSING)
    with pgbouncer(folder.database.admin) as url, pytest.raises(Unsupported, match="transaction pooler"):
        await migrate(url, roles=folder.database.roles, version_locations=[folder.path])
    await folder.up()
