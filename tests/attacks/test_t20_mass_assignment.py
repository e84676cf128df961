"""T20: setting what is not the application's to set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import ENTITIES, Errand, Holder, Parcel, Trail, holder, parcel

from tallystick import Application, Decision, User, Wallet
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.entity import spec_of
from tallystick.errors import Denied, Invalid, Unsupported, WrongTenant

Pair = tuple[TenantInfo, TenantInfo]
EVERY = [*ENTITIES, User, Wallet, Application, Decision]
FORGED = datetime(2001, 1, 1, tzinfo=UTC)


def unsettable(entity: Any) -> list[str]:
    """System fields, generated, index and queue columns, and names that are nothing: none is a field to set."""
    spec = spec_of(entity)
    fields = {name for name, field in spec.fields.items() if not field.system}
    names = (
        {c.name for c in spec.columns} | set(spec.fields) | {"rules", "table", "ref", "__class__", "Filter", "x; --"}
    )
    return sorted(names if spec.append_only else names - fields)


@pytest.mark.parametrize("entity", EVERY, ids=lambda e: e.__name__)
async def test_t20_no_column_but_a_declared_field_can_be_set(ground: Ground, pair: Pair, entity: Any) -> None:
    row = msgspec.structs.replace(_blank(entity), tenant_id=pair[0].id, version=1)
    async with ground.tally.session(pair[0], actor="a", permissions=["*"]) as db:
        for name in unsettable(entity):
            for value in (uuid4(), pair[1].id, "x", 5, None, FORGED, b"x", True):
                with pytest.raises(Invalid) as caught:
                    await db[entity].update(row, **{name: value})
                assert caught.value.field == name[:40]
                with pytest.raises(Invalid):
                    await db[entity].update_where(entity.id == row.id, **{name: value})


def _blank(entity: Any) -> Any:
    """An instance without regard for its fields, which are never looked at."""
    return entity(**{f.name: None for f in msgspec.structs.fields(entity) if f.required})


async def test_t20_stamps_and_versions_given_to_add_are_not_taken(ground: Ground, pair: Pair) -> None:
    forged: dict[str, Any] = {"version": 99, "created_at": FORGED, "created_by": "boss", "updated_by": "boss"}
    async with ground.tally.session(pair[0], actor="clerk") as db:
        home = await db[Holder].add(holder("one", **forged))
        (many,) = await db[Holder].add_many([holder("two", **forged)])
        upserted = await db[Holder].upsert(holder("three", **forged), on=Holder.code)
        for made in (home, many, upserted, *await db[Holder].find()):
            assert made.version == 1
            assert made.created_by == made.updated_by == "clerk"
            assert made.created_at == made.updated_at > FORGED
        again = await db[Holder].upsert(holder("three", **forged), on=Holder.code)
        assert (again.version, again.created_at, again.created_by) == (2, upserted.created_at, "clerk")


async def test_t20_an_entity_of_another_tenant_is_not_adopted(ground: Ground, pair: Pair) -> None:
    mine, other = pair
    async with ground.tally.session(mine, actor="a") as db:
        for tenant in (other.id, uuid4()):
            for attempt in (
                lambda t=tenant: db[Holder].add(holder("x", tenant_id=t)),
                lambda t=tenant: db[Holder].add_many([holder("y"), holder("x", tenant_id=t)]),
                lambda t=tenant: db[Holder].upsert(holder("x", tenant_id=t), on=Holder.code),
            ):
                with pytest.raises(WrongTenant):
                    await attempt()
        with pytest.raises(WrongTenant):
            await db[Holder].add(holder("x", tenant_id="not an id"))
        assert await db[Holder].count() == 0


@pytest.mark.parametrize("body", ['{"code":"x","is_admin":true}', '{"code":"x","email_bidx":"00"}', '{"code":5}'])
def test_t20_a_request_body_with_something_else_in_it(body: str) -> None:
    """msgspec drops unknown keys of a Struct by default; what is kept are declared fields of their types only."""
    try:
        made = msgspec.json.decode(body, type=Holder)
    except msgspec.ValidationError:
        return
    assert set(msgspec.structs.asdict(made)) == set(spec_of(Holder).fields)


async def test_t20_the_database_grants_only_the_columns_of_fields(ground: Ground, pair: Pair) -> None:
    """The same once more, for whoever gets past the library: column privileges of the application role."""
    async with ground.tally.session(pair[0], actor="a") as db:
        await db[Parcel].add(parcel(await db[Holder].add(holder("one")), "one"))
        await db[Errand].add(Errand(what="one"))
    async with ground.connected("app") as connection:
        await connection.execute(f"SET tally.tenant = '{pair[0].id}'; SET tally.actor = 'a'")
        for entity in EVERY:
            spec = spec_of(entity)
            for column in spec.columns:
                for right, able in (("INSERT", column.insertable), ("UPDATE", column.updatable)):
                    granted = await connection.fetchval(
                        "SELECT has_column_privilege($1, $2, $3)", f"tally.{spec.table}", column.name, right
                    )
                    assert granted is (able and not column.generated), (spec.table, column.name, right)
            for right in ("TRUNCATE", "REFERENCES", "TRIGGER"):
                assert not await connection.fetchval("SELECT has_table_privilege($1, $2)", f"tally.{spec.table}", right)
        for statement in (
            "UPDATE tally.holder SET version = 99",
            "UPDATE tally.holder SET created_by = 'x'",
            "UPDATE tally.holder SET created_at = now()",
            "UPDATE tally.holder SET updated_by = 'x'",
            f"UPDATE tally.holder SET tenant_id = '{pair[1].id}'",
            "UPDATE tally.holder SET id = gen_random_uuid()",
            "INSERT INTO tally.holder (tenant_id, id, code, version) SELECT tenant_id, id, 'x', 9 FROM tally.holder",
            "INSERT INTO tally.holder (tenant_id, id, code, created_by) SELECT tenant_id, id, 'x', '' FROM holder",
            "INSERT INTO tally.usage VALUES (current_setting('tally.tenant')::uuid, 'x', now(), 0, 99)",
            "UPDATE tally.usage SET used = 0",
            "DELETE FROM tally.usage",
            "UPDATE tally.trail SET text = 'x'",
            "DELETE FROM tally.trail",
            "INSERT INTO tally_ref.tenant (id, slug, name) VALUES (gen_random_uuid(), 'x', 'x')",
            "UPDATE tally_ref.asset SET exponent = 9",
            "DELETE FROM tally_ref.schema_version",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


@pytest.mark.parametrize("role", ["owner", "superuser"])
async def test_t20_what_never_changes_does_not_change_for_the_owner_either(
    ground: Ground, pair: Pair, role: str
) -> None:
    async with ground.tally.session(pair[0], actor="a") as db:
        home = await db[Holder].add(holder("one"))
        await db[Trail].add(Trail(parcel=(await db[Parcel].add(parcel(home, "one"))).ref, text="written"))
    async with ground.connected(role) as connection:
        await connection.execute(f"SET tally.tenant = '{pair[0].id}'; SET tally.actor = 'owner'")
        mine = f"WHERE tenant_id = '{pair[0].id}'"
        for statement in (
            f"UPDATE tally.holder SET tenant_id = '{pair[1].id}' {mine}",
            f"UPDATE tally.holder SET id = gen_random_uuid() {mine}",
            f"UPDATE tally.trail SET text = 'x' {mine}",
            f"DELETE FROM tally.trail {mine}",
        ):
            with pytest.raises(asyncpg.PostgresError) as caught:
                await connection.execute(statement)
            assert caught.value.sqlstate in ("42501", "TS301")
        await connection.execute(
            f"UPDATE tally.holder SET version = 77, created_by = 'x', created_at = '2001-01-01' {mine}"
        )
    async with ground.tally.session(pair[0], actor="a") as db:
        after = await db[Holder].get(home.id)
        assert (after.version, after.created_by, after.created_at, after.updated_by) == (
            2,
            "a",
            home.created_at,
            "owner",
        )


async def test_t20_append_only_rows_refuse_every_verb_that_changes(ground: Ground, pair: Pair) -> None:
    async with ground.tally.session(pair[0], actor="a", permissions=["*"]) as db:
        row = await db[Parcel].add(parcel(await db[Holder].add(holder("one")), "one"))
        trail = await db[Trail].add(Trail(parcel=row.ref, text="written"))
        for attempt in (
            lambda: db[Trail].update(trail, text="x"),
            lambda: db[Trail].update_where(Trail.text == "written", text="x"),
            lambda: db[Trail].purge(trail, reason="gone"),
            lambda: db[Trail].purge_where(Trail.text == "written", reason="gone"),
            lambda: db[Trail].archive(trail),
        ):
            with pytest.raises((Invalid, Unsupported, Denied)) as caught:
                await attempt()
            assert caught.value.remedy
        async with db.transaction():
            with pytest.raises(Unsupported):
                await db[Trail].lock(trail.id)
        assert (await db[Trail].get(trail.id)).text == "written"


async def test_t20_an_account_cannot_give_itself_rights_unseen(ground: Ground, pair: Pair) -> None:
    """Role and permissions are fields, so a body decoded into changes must be an explicit choice of fields."""
    async with ground.tally.session(pair[0], actor="a") as db:
        user = await db.users.add(User(email="eve@example.org"))
        for unknown in ({"is_admin": True}, {"roles": ["admin"]}, {"permissions_": ["*"]}):
            with pytest.raises(Invalid):
                await db.users.update(user, **unknown)
