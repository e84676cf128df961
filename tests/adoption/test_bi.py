"""Masked views for a BI role: granted, kept up to date, taken away, removed with the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from tests.attacks.conftest import Ground
from tests.entities import ALL, Shelf, Visit

from tallystick import Conflict, Denied, Entity, Invalid, NotFound, Rules, Session, Tallystick, Unsupported, User
from tallystick.entity import spec_of
from tallystick.fields import Length
from tallystick.schema.bi import BiReader, bi_readers, grant_bi, refresh_bi, revoke_bi
from tallystick.schema.bi_views import MASK, seen
from tallystick.schema.host import may_look
from tallystick.schema.migrate import migrate
from tallystick.schema.remove import plan_removal, remove
from tallystick.settings import connect_args
from tallystick.testing import KitServer
from tallystick.testing.factories import Make

PASSWORD = "only-for-this-test"


class ShelfBefore(Entity):
    """What a shelf was a release ago."""

    name: Annotated[str, Length(80, min=1)]

    rules = Rules(table="kit_shelf")


@dataclass
class Place:
    ground: Ground
    role: str

    async def grant(self, role: str | None = None, **options: Any) -> Any:
        return await grant_bi(
            self.ground.url("admin"), role or self.role, roles=self.ground.server.roles, **{"entities": ALL, **options}
        )

    async def refresh(self, *entities: type[Entity]) -> Any:
        return await refresh_bi(self.ground.url("admin"), entities=entities, roles=self.ground.server.roles)

    async def read(self, sql: str) -> list[asyncpg.Record]:
        arguments: dict[str, Any] = connect_args(self.ground.url("app")) | {"user": self.role, "password": PASSWORD}
        conn = await asyncpg.connect(**arguments)
        try:
            return await conn.fetch(sql)
        finally:
            await conn.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Place]:
    template = await tally_server.template(None, ALL, ())
    ground = Ground(tally_server, await tally_server.clone(template, "_bi"), tally.keys)
    role = f"bi_{uuid4().hex[:12]}"
    async with ground.connected("admin") as admin:
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        await admin.execute(f"GRANT CONNECT ON DATABASE {ground.database} TO {role}")
    async with ground.opened(entities=ALL) as app:
        ground.tally = app
        await app.tenants.create("sunrise", name="Sunrise")
        await app.tenants.create("harbour", name="Harbour")
        yield Place(ground, role)
    await tally_server.drop(ground.database)
    conn = await asyncpg.connect(**connect_args(tally_server.url("admin", "postgres")))
    await conn.execute(f"DROP ROLE {role}")
    await conn.close()


@pytest_asyncio.fixture(loop_scope="session")
async def db(place: Place) -> AsyncIterator[Session]:
    async with place.ground.tally.session("sunrise", actor="user:jane", permissions=("*",)) as session:
        yield session


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, Invalid),
        ({"tenant": "sunrise", "all_tenants": True}, Invalid),
        ({"tenant": "nowhere"}, NotFound),
        ({"tenant": "sunrise", "role": "nobody_of_that_name"}, Invalid),
        ({"tenant": "sunrise", "engine": "citus"}, Unsupported),
    ],
)
async def test_what_cannot_be_granted(place: Place, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await place.grant(**options)


async def test_roles_that_could_go_past_the_views_are_refused(place: Place) -> None:
    with pytest.raises(Denied):
        await place.grant(place.ground.server.roles.app, tenant="sunrise")
    with pytest.raises(Denied):
        await place.grant(place.ground.server.roles.seal, tenant="sunrise")


async def test_a_tenants_rows_masked_with_amounts_in_whole_units(place: Place, db: Session, make: Make) -> None:
    visit = await make(Visit)
    report = await place.grant(tenant="sunrise")
    assert {"kit_shelf", "visit"} <= set(report.views)
    assert report.readers[0].role == place.role
    (row,) = await place.read("SELECT * FROM tally_bi.visit")
    assert row["id"] == visit.id
    assert row["borrower_id"] == visit.borrower.id
    assert row["national_id"] == MASK
    assert row["status"] == "planned"
    assert (row["fee"], row["asset"]) == (visit.fee.units, visit.fee.asset)
    assert row["fee_major"] == Decimal(visit.fee.units) / 100
    assert "created_by" not in row
    assert not [n for n in row.keys() if "bidx" in n or n.endswith("_mask")]  # noqa: SIM118
    async with place.ground.tally.session("harbour", actor="a", permissions=("*",)) as other:
        await other[Shelf].add(Shelf(name="elsewhere"))
    assert await place.read("SELECT tenant_id FROM tally_bi.kit_shelf") == []


async def test_granting_again_changes_nothing_and_another_tenant_is_refused(place: Place) -> None:
    await place.grant(tenant="sunrise")
    assert (await place.grant(tenant="sunrise")).changed == ()
    with pytest.raises(Conflict):
        await place.grant(tenant="harbour")
    with pytest.raises(Conflict):
        await place.grant(all_tenants=True)
    (reader,) = await bi_readers(place.ground.url("admin"), roles=place.ground.server.roles)
    assert reader.role == place.role
    assert reader.tenant_id is not None


async def test_views_follow_their_tables_and_what_stands_on_them_stays(place: Place) -> None:
    await place.grant(tenant="sunrise")
    assert "kit_shelf" in (await place.refresh(ShelfBefore)).changed
    async with place.ground.connected("superuser") as superuser:
        await superuser.execute("CREATE SCHEMA team CREATE VIEW shelves AS SELECT name FROM tally_bi.kit_shelf")
    try:
        # A column more is replaced under it: by a migration, as it comes along.
        report = await migrate(
            place.ground.url("admin"),
            entities=[Shelf],
            roles=place.ground.server.roles,
            domains=["identity"],
            views=[spec_of(Shelf)],
        )
        assert report.notes == ()
        assert await place.read("SELECT stock FROM tally_bi.kit_shelf") == []
        with pytest.raises(Conflict, match="kit_shelf"):
            await place.refresh(ShelfBefore)
    finally:
        async with place.ground.connected("superuser") as superuser:
            await superuser.execute("DROP SCHEMA team CASCADE")
    assert (await place.refresh(ShelfBefore)).changed == ("kit_shelf",)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await place.read("SELECT stock FROM tally_bi.kit_shelf")
    assert (await place.refresh(*ALL)).changed == ("kit_shelf",)
    async with place.ground.connected("owner") as owner:
        unused = await owner.fetchval(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'tally_bi'::regnamespace AND proname LIKE 'kit_shelf%'"
        )
    assert unused == 1


def test_what_could_be_about_anybody_is_masked() -> None:
    for entity in (User, *ALL):
        spec = spec_of(entity)
        for column in seen(spec):
            field = next((f for f in spec.fields.values() if f.column == column.name), None)
            if field is not None and (field.sealed or field.custom):
                assert MASK in column.sql
            assert not column.name.endswith(("_bidx", "_mask"))
    assert not may_look("tally_bi", "schema", {})


async def test_revoked_and_removed(place: Place) -> None:
    await place.grant(tenant="sunrise")
    admin, roles = place.ground.url("admin"), place.ground.server.roles
    assert await revoke_bi(admin, place.role, roles=roles)
    assert not await revoke_bi(admin, place.role, roles=roles)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await place.read("SELECT * FROM tally_bi.visit")
    assert (await place.grant(all_tenants=True)).readers == (BiReader(place.role, None),)
    assert [r["name"] for r in await place.read("SELECT name FROM tally_bi.kit_shelf")] == [MASK]
    await place.ground.tally.close()
    assert "tally_bi" in {s.name for s in (await plan_removal(admin, roles=roles)).schemas}
    done = await remove(admin, roles=roles, data_too=True)
    assert "tally_bi" in done.schemas
    async with place.ground.connected("admin") as conn:
        assert await conn.fetchval("SELECT to_regnamespace('tally_bi') IS NULL")
        await conn.execute(f"REVOKE ALL ON DATABASE {place.ground.database} FROM {place.role}")
