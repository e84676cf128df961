"""Writing revisions from declarations: what is found, what is asked, and that up, down and up again is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.entities import ALL
from tests.schema.support import KIT, Database, enter, make_database, revisions, until

from tallystick import (
    Check,
    Entity,
    Index,
    Json,
    Length,
    Money,
    Numeric,
    Queue,
    Ref,
    Rules,
    Search,
    Secret,
    Transitions,
    Unique,
    append_only,
)
from tallystick.errors import Invalid, MigrationUnsafe, NotMigrated
from tallystick.schema.lint import lint
from tallystick.schema.migrate import check_migrated, migrate, revision, rollback, status
from tallystick.testing.server import KitServer


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Wider(StrEnum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Place(Entity):
    """Where parcels are."""

    name: str


class Depot(Entity):
    """Where parcels wait."""

    name: str


class Parcel(Entity):
    """A parcel, as it was first declared."""

    label: str
    colour: Colour = Colour.RED
    fee: Money
    ratio: Annotated[Decimal, Numeric(5, 2)] = Decimal(0)
    note: str | None = None
    gone: str | None = None
    must: str = ""
    payload: Annotated[dict[str, Any], Json()] = {}

    rules = Rules(
        Index("colour", "label", query="parcels of a colour"),
        Unique("gone"),
        Check("gone", "gone <> ''"),
        table="parcel",
    )


class Parcel2(Entity):
    """A parcel, with everything about it changed that can change."""

    title: str
    colour: Wider = Wider.RED
    fee: Money
    ratio: Annotated[Decimal, Numeric(9, 2)] = Decimal(0)
    note: str = ""
    must: str | None = None
    payload: Annotated[dict[str, Any], Json(promote={"score": int, "kind": str, "ok": bool})] = {}
    place: Ref[Place] | None = None
    code: Annotated[Secret[str], Search("digits")] | None = None
    size: int = 3
    seen: datetime
    reason: Annotated[str, Length(40)]

    rules = Rules(
        Index("colour", "title", query="parcels of a colour, by title"),
        Index("payload_score", query="parcels by score"),
        Unique("title"),
        Check("size", "size > 0"),
        Transitions("colour", {Wider.RED: [Wider.BLUE], Wider.BLUE: [Wider.GREEN]}, initial=[Wider.RED]),
        Queue(),
        table="parcel",
    )


WISHES: dict[str, Any] = {
    "rename": {"parcel.label": "title"},
    "delete": ["parcel.gone", "depot"],
    "fill": {"parcel.seen": "'2026-01-01'", "parcel.reason": "'moved'", "parcel.attempts": "0"},
}


async def write(database: Database, folder: Path, entities: Sequence[type[Entity]], **more: Any) -> list[Path]:
    return await revision(
        database.admin,
        "a change",
        branch="app",
        entities=entities,
        roles=database.roles,
        version_locations=[folder],
        **more,
    )


async def up(database: Database, folder: Path) -> tuple[str, ...]:
    return (await migrate(database.admin, roles=database.roles, version_locations=[folder])).revisions


async def down(database: Database, folder: Path, steps: int) -> tuple[str, ...]:
    return (
        await rollback(database.admin, branch="app", steps=steps, roles=database.roles, version_locations=[folder])
    ).revisions


async def clean(database: Database, entities: Sequence[type[Entity]]) -> None:
    conn = await database.connect()
    assert [str(f) for f in await lint(conn, database.roles, entities)] == []
    await conn.close()


async def fill(database: Database, tenant: UUID, column: str, count: int = 3) -> None:
    conn = await database.connect("app")
    await enter(conn, tenant)
    for number in range(count):
        await conn.execute(
            f"INSERT INTO tally.parcel (tenant_id, id, {column}, colour, fee, asset, ratio, must, payload) "
            "VALUES ($1, $2, $3, 'red', 100, 'USD', 1.5, 'x', $4)",
            tenant,
            uuid4(),
            f"{column} {number}",
            '{"score": 7, "kind": "small", "ok": true}',
        )
    await conn.close()


def trusted(snapshot: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """The snapshot as if every constraint had been validated.

    A downgrade brings a check back without looking at rows that were written since: they may not satisfy it.
    """
    return {
        key: body.replace(" NOT VALIDfalse", "true") if key[0] == "constraint" else body
        for key, body in snapshot.items()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A path with a space, as people have them."""
    made = tmp_path / "my revisions"
    made.mkdir()
    return made


async def test_an_unchanged_model_produces_nothing(kit: Database, folder: Path) -> None:
    from tallystick.domains.catalog import entities_of

    everything = (*entities_of(["identity"]), *ALL)
    (first,) = await write(kit, folder, everything)
    assert first.name == "app_0001_a_change.py"
    assert await up(kit, folder) == ("app_0001",)
    assert await write(kit, folder, everything) == []
    await clean(kit, everything)
    assert (await migrate(kit.admin, roles=kit.roles, version_locations=[folder], entities=everything)).tables == ()


async def test_every_change_up_down_and_up_with_rows(kit: Database, folder: Path) -> None:
    tenants = [await kit.tenant("sunrise"), await kit.tenant("moon")]
    await write(kit, folder, [Parcel, Place, Depot])
    await up(kit, folder)
    for tenant in tenants:
        await fill(kit, tenant, "label")
    first = await kit.snapshot()
    with pytest.raises(MigrationUnsafe) as asked:
        await write(kit, folder, [Parcel2, Place])
    for question in ("parcel.label is not declared", "parcel.gone is not declared", "--fill parcel.seen=CONSTANT"):
        assert question in str(asked.value)
    written = await write(kit, folder, [Parcel2, Place], **WISHES)
    assert len(written) == 4, "renames; indexes dropped; what a transaction can do; indexes built and rows looked at"
    done = await up(kit, folder)
    assert done == tuple(p.name[:8] for p in written)
    assert await write(kit, folder, [Parcel2, Place]) == []
    await clean(kit, [Parcel2, Place])
    conn = await kit.connect("app")
    for tenant in tenants:
        await enter(conn, tenant)
        rows = await conn.fetch("SELECT * FROM tally.parcel ORDER BY title")
        assert [r["title"] for r in rows] == ["label 0", "label 1", "label 2"]
        assert {(r["payload_score"], r["payload_kind"], r["payload_ok"]) for r in rows} == {(7, "small", True)}
        assert {(r["size"], r["reason"], r["note"], r["attempts"]) for r in rows} == {(3, "moved", "", 0)}
        await conn.execute('UPDATE tally.parcel SET payload = \'{"score": 9, "kind": {"a": 1}}\'')
        late = await conn.fetchrow("SELECT payload_score, payload_kind, payload_ok FROM tally.parcel LIMIT 1")
        assert list(late) == [9, '{"a": 1}', None]
    second = await kit.snapshot()
    assert await down(kit, folder, 4) == tuple(reversed(done))
    assert trusted(await kit.snapshot()) == trusted(first)
    assert await up(kit, folder) == done
    assert await kit.snapshot() == second
    for tenant in tenants:
        await enter(conn, tenant)
        assert await conn.fetchval("SELECT count(*) FROM tally.parcel WHERE payload_score = 9") == 3
    await conn.close()


async def test_each_downgrade_alone(kit: Database, folder: Path) -> None:
    await write(kit, folder, [Parcel, Place, Depot])
    await up(kit, folder)
    await write(kit, folder, [Parcel2, Place], **WISHES)
    states = [await kit.snapshot()]
    for name in ("app_0002", "app_0003", "app_0004", "app_0005"):
        await migrate(kit.admin, roles=kit.roles, version_locations=[folder], target=name)
        states.append(await kit.snapshot())
    for before in reversed(states[:-1]):
        await down(kit, folder, 1)
        assert trusted(await kit.snapshot()) == trusted(before)
    assert await down(kit, folder, 9) == ("app_0001",)


async def test_rules_come_and_go(kit: Database, folder: Path) -> None:
    class Plain(Entity):
        """A thing."""

        name: str
        rules = Rules(table="thing")

    class Strict(Entity):
        """A thing written once."""

        name: str
        rules = Rules(append_only(), Index("name", query="things by name"), table="thing")

    await write(kit, folder, [Plain])
    await up(kit, folder)
    await write(kit, folder, [Strict])
    await up(kit, folder)
    await clean(kit, [Strict])
    await write(kit, folder, [Plain])
    await up(kit, folder)
    await clean(kit, [Plain])


async def test_a_unique_rule_that_changes_holds_all_the_time(kit: Database, folder: Path) -> None:
    class One(Entity):
        """A thing."""

        name: str
        rank: int
        rules = Rules(Unique("name"), Index("rank", query="by rank", where="rank > 0"), table="thing")

    class Two(Entity):
        """A thing."""

        name: str
        rank: int
        archived_at: datetime | None = None
        rules = Rules(Unique("name"), Index("rank", query="by rank", where="rank > 5"), table="thing")

    await write(kit, folder, [One])
    await up(kit, folder)
    before = await kit.snapshot()
    assert len(await write(kit, folder, [Two])) == 2
    tenant = await kit.tenant()
    conn, blocker = await kit.connect("app"), await kit.connect("app")
    await enter(conn, tenant)
    await enter(blocker, tenant)
    insert = "INSERT INTO tally.thing (tenant_id, id, name, rank) VALUES ($1, $2, $3, 1)"
    await conn.execute(insert, tenant, uuid4(), "same")
    building = asyncio.Event()
    running = asyncio.create_task(
        migrate(
            kit.admin,
            roles=kit.roles,
            version_locations=[folder],
            report=lambda p: building.set() if p.what == "building" else None,
        )
    )
    transaction = blocker.transaction()
    await until(
        kit,
        "SELECT count(*) > 0 FROM pg_attribute WHERE attname = 'archived_at' AND attrelid = 'tally.thing'::regclass",
    )
    await transaction.start()
    await blocker.execute(insert, tenant, uuid4(), "other")
    await asyncio.wait_for(building.wait(), 60)
    for _ in range(20):
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.execute(insert, tenant, uuid4(), "same")
        await asyncio.sleep(0.02)
    await transaction.commit()
    await running
    with pytest.raises(asyncpg.UniqueViolationError):
        await conn.execute(insert, tenant, uuid4(), "same")
    await conn.execute("UPDATE tally.thing SET archived_at = now() WHERE name = 'same'")
    await conn.execute(insert, tenant, uuid4(), "same")
    await conn.execute("DELETE FROM tally.thing")
    await conn.close()
    await blocker.close()
    await clean(kit, [Two])
    await down(kit, folder, 2)
    assert await kit.snapshot() == before


async def test_a_type_change_says_how(kit: Database, folder: Path) -> None:
    class Now(Entity):
        """A thing."""

        rank: int
        rules = Rules(table="thing")

    class Then(Entity):
        """A thing."""

        rank: str
        rules = Rules(table="thing")

    await write(kit, folder, [Now])
    await up(kit, folder)
    with pytest.raises(MigrationUnsafe, match="Backfill\\('thing'"):
        await write(kit, folder, [Then])


async def test_what_is_asked_for_must_make_sense(kit: Database, folder: Path) -> None:
    await write(kit, folder, [Place])
    with pytest.raises(NotMigrated, match="behind the revisions of app"):
        await write(kit, folder, [Place])
    await up(kit, folder)
    for wishes, said in (
        ({"rename": {"place.nothing": "x"}}, "does not exist"),
        ({"delete": ["nothing"]}, "There is no table nothing"),
        ({"delete": ["place"]}, "to be deleted and is declared"),
        ({"delete": ["place.nothing"]}, "no column place.nothing"),
        ({"delete": ["tenant.slug"]}, "no column tenant.slug"),
    ):
        with pytest.raises(Invalid, match=said):
            await write(kit, folder, [Place], **wishes)

    class Person(Entity):
        """Somebody, sealed."""

        ssn: Annotated[Secret[str], Search("digits")] | None = None

    for wishes in (
        {"rename": {"person.tin": "ssn"}},
        {"rename": {"person.tin_bidx": "ssn_bidx"}},
        {"fill": {"person.ssn": "''"}},
    ):
        with pytest.raises(MigrationUnsafe, match="is sealed"):
            await write(kit, folder, [Place, Person], **wishes)
    with pytest.raises(Invalid, match="branch has the wrong name"):
        await revision(kit.admin, "x", branch="No Good", roles=kit.roles, version_locations=[folder])
    assert len(revisions(folder)) == 1, "nothing half-written"


async def test_an_empty_revision_is_a_file_to_fill_in(kit: Database, folder: Path) -> None:
    (path,) = await write(kit, folder, [], empty=True)
    assert "pass" in path.read_text()
    assert await up(kit, folder) == ("app_0001",)
    assert await down(kit, folder, 1) == ("app_0001",)


async def test_a_revision_depends_on_the_branch_it_refers_to(kit: Database, folder: Path) -> None:
    class Visitor(Entity):
        """Somebody at a place."""

        place: Ref[Place]

    both = [folder / "two", folder / "one"]
    await revision(kit.admin, "places", branch="one", entities=[Place], roles=kit.roles, version_locations=both[1:])
    await migrate(kit.admin, roles=kit.roles, version_locations=both[1:])
    (path,) = await revision(
        kit.admin, "visitors", branch="two", entities=[Visitor], roles=kit.roles, version_locations=both
    )
    assert 'depends_on = "one_0001"' in path.read_text()  # which brings the kit with it
    assert (await migrate(kit.admin, roles=kit.roles, version_locations=both)).revisions == ("two_0001",)
    conn = await kit.connect("app")
    await check_migrated(conn, version_locations=both)
    await conn.close()
    told = {b.branch: b for b in await status(kit.app, version_locations=both)}
    assert [told[b].applied for b in ("kit", "one", "two")] == [KIT, ("one_0001",), ("two_0001",)]
    with pytest.raises(Invalid, match="two_0001 needs it"):
        await rollback(kit.admin, branch="one", roles=kit.roles, version_locations=both)
    with pytest.raises(Invalid, match="needs it"):
        await rollback(kit.admin, branch="kit", roles=kit.roles, version_locations=both)
    for branch in ("two", "one", "kit"):
        steps = len(KIT) if branch == "kit" else 1
        await rollback(kit.admin, branch=branch, steps=steps, roles=kit.roles, version_locations=both)
    assert (await migrate(kit.admin, roles=kit.roles, version_locations=both)).revisions == (
        *KIT,
        "one_0001",
        "two_0001",
    )


async def test_the_built_in_branches_match_their_declarations(bare: Database) -> None:
    from tallystick.domains.catalog import DOMAINS, entities_of
    from tallystick.schema.branches import history

    empty = await bare.snapshot()
    domains = [d for d in DOMAINS if d in history().branches]
    assert domains == list(DOMAINS)
    everything = entities_of(domains)
    done = (await migrate(bare.admin, roles=bare.roles, domains=domains)).revisions
    await clean(bare, everything)
    for domain in domains:
        assert await revision(bare.admin, "x", branch=domain, entities=entities_of([domain]), roles=bare.roles) == []
    full = await bare.snapshot()
    for branch in (*reversed(domains), "kit"):
        steps = len(history().order(branch))
        await rollback(bare.admin, branch=branch, steps=steps, roles=bare.roles)
    left = {name for _, name in (await bare.snapshot()).keys() - empty.keys()}
    assert all("schema_version" in name for name in left)
    assert (await migrate(bare.admin, roles=bare.roles, domains=domains)).revisions == done
    assert await bare.snapshot() == full


async def test_a_revision_that_fails_leaves_nothing_of_itself(kit: Database, folder: Path) -> None:
    (path,) = await write(kit, folder, [Place])
    text = path.read_text().replace(
        "    op.invoke(CreateTables(PLACE))", "    op.invoke(CreateTables(PLACE))\n    op.execute('SELECT 1 / 0')", 1
    )
    path.write_text(text)
    before = await kit.snapshot()
    with pytest.raises(MigrationUnsafe, match="app_0001 failed with SQLSTATE 22012"):
        await up(kit, folder)
    assert await kit.snapshot() == before
    path.write_text(text.replace("SELECT 1 / 0", "SELECT 1"))
    assert await up(kit, folder) == ("app_0001",)


async def test_the_wall_holds_on_tables_made_by_revisions(kit: Database, folder: Path) -> None:
    await write(kit, folder, [Parcel, Place, Depot])
    await up(kit, folder)
    mine, theirs = await kit.tenant("mine"), await kit.tenant("theirs")
    await fill(kit, mine, "label")
    conn = await kit.connect("app")
    await enter(conn, theirs)
    assert await conn.fetch("SELECT * FROM tally.parcel") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await conn.execute("INSERT INTO tally.place (tenant_id, id, name) VALUES ($1, $2, 'x')", mine, uuid4())
    await conn.close()


async def test_tables_made_from_declarations_are_adopted(
    kit: Database, kit_template: Database, tally_server: KitServer, folder: Path
) -> None:
    """A laptop made them without a revision; production never saw them. One history serves both."""
    await migrate(kit.admin, roles=kit.roles, entities=[Parcel, Place, Depot])
    tenant = await kit.tenant()
    await fill(kit, tenant, "label")
    assert await write(kit, folder, [Parcel, Place, Depot]) == []
    with pytest.raises(MigrationUnsafe, match="tallystick revision"):
        await migrate(kit.admin, roles=kit.roles, entities=[Parcel2, Place])
    written = await write(kit, folder, [Parcel2, Place], **WISHES)
    assert "AdoptTables(PARCEL, PLACE)" in written[0].read_text()
    assert len(await up(kit, folder)) == 5
    await clean(kit, [Parcel2, Place])
    assert [b.branch for b in await status(kit.admin, version_locations=[folder]) if b.installed] == ["kit", "app"]
    other = await make_database(tally_server, kit_template.name)
    await migrate(other.admin, roles=other.roles, entities=[Depot])
    assert len(await up(other, folder)) == 5
    await clean(other, [Parcel2, Place])
    assert await other.snapshot() == await kit.snapshot()
    await tally_server.drop(other.name)
    await down(kit, folder, 5)
    told = {b.branch: b for b in await status(kit.admin, entities=[Parcel], version_locations=[folder])}
    assert set(told["declared"].applied) >= {"parcel", "place"}
    conn = await kit.connect("app")
    await enter(conn, tenant)
    assert await conn.fetchval("SELECT count(*) FROM tally.parcel") == 3, "handed back with their rows"
    await conn.close()


async def test_a_database_without_the_kit_is_not_compared(bare: Database, folder: Path) -> None:
    with pytest.raises(NotMigrated, match="no schema of Tallystick"):
        await write(bare, folder, [Place])
    assert revisions(folder) == []
