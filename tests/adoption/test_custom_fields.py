"""Custom fields: what a tenant defines, judged value by value, apart from other tenants, sealed where personal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.adoption.branches import BranchUser, House, application, keys_in
from tests.entities import ALL
from tests.schema.support import make_database

from tallystick import (
    Custom,
    CustomField,
    CustomFieldType,
    Entity,
    Json,
    Rules,
    Session,
    User,
    key,
)
from tallystick.domains.identity.erasures import ErasureGround
from tallystick.errors import Denied, Duplicate, Invalid, QuotaExceeded, RoleMissing, StaleVersion
from tallystick.schema.migrate import migrate, revision
from tallystick.testing import KitServer

T = CustomFieldType


@pytest.fixture
async def desk(house: House, request: pytest.FixtureRequest) -> AsyncIterator[Session]:
    """A session of a tenant that nobody defined anything for."""
    slug = f"c{abs(hash(request.node.nodeid)) % 10**12}"
    await house.tally.tenants.create(slug, name="A tenant")
    async with house.tally.session(slug, actor="admin", permissions=("*",)) as made:
        yield made


async def test_what_is_defined_is_stored_filtered_and_told(desk: Session):
    fields = desk.custom_fields
    await fields.define(BranchUser, "region", T.CHOICE, choices=["north", "south"], required=True)
    await fields.define(User, "shoe_size", T.INTEGER, minimum=20, maximum=60)
    assert [f.name for f in await fields.defined(BranchUser)] == ["region", "shoe_size"]
    made = await desk[BranchUser].add(BranchUser(custom={"region": "north", "shoe_size": 42}))
    assert (await desk[BranchUser].get(made.id)).custom == {"region": "north", "shoe_size": 42}
    await desk[BranchUser].add(BranchUser(custom={"region": "south"}))
    found = await desk[BranchUser].find(key(BranchUser.custom, "region") == "north")
    assert [u.id for u in found] == [made.id]
    with pytest.raises(Invalid, match="does not promote"):
        key(BranchUser.custom, "shoe_size")
    moved = await desk[BranchUser].update(made, custom={"region": "south"})
    assert [v.entity.custom for v in await desk[BranchUser].history(made.id) if v.entity] == [
        {"region": "north", "shoe_size": 42},
        {"region": "south"},
    ]
    assert await desk[BranchUser].count(key(BranchUser.custom, "region") == "south") == 2
    # Who changes something else is not asked for the document.
    assert (await desk[BranchUser].update(moved, desk="1")).custom == {"region": "south"}


GOOD: list[tuple[CustomFieldType, dict[str, Any], list[Any], list[Any]]] = [
    (T.TEXT, {"minimum": 2, "maximum": 5}, ["ab", "abcde", "éé"], ["a", "abcdef", 5, None, "a\0b", "\ud800a", ["ab"]]),
    (T.TEXT, {}, ["", "x" * 10_000], ["x" * 10_001, b"x"]),
    (T.INTEGER, {"minimum": 0, "maximum": 9}, [0, 9], [-1, 10, True, 1.0, "1", None, 2**63]),
    (T.INTEGER, {}, [2**63 - 1, -(2**63)], [2**63, -(2**63) - 1, float("nan")]),
    (T.DECIMAL, {"maximum": 10}, ["10", "-2.50", "0"], ["10.01", 5, "NaN", "Infinity", "1_0", " 1", "x", "1" * 61]),
    (T.BOOLEAN, {}, [True, False], [0, 1, "true", None]),
    (T.DATE, {}, ["2026-01-31"], ["2026-02-30", "20260131", "31.01.2026", "2026-1-1", 5, "2026-01-31T00:00:00"]),
    (T.CHOICE, {"choices": ["a", "b"]}, ["a", "b"], ["c", "", "A", ["a"], {"a": 1}]),
]


@pytest.mark.parametrize(("kind", "asked", "good", "bad"), GOOD)
async def test_every_type_judges_its_values_and_shows_none(
    desk: Session, kind: CustomFieldType, asked: dict[str, Any], good: list[Any], bad: list[Any]
):
    await desk.custom_fields.define(BranchUser, "thing", kind, **asked)
    made = await desk[BranchUser].add(BranchUser())
    for value in good:
        made = await desk[BranchUser].update(made, custom={"thing": value})
        assert (await desk[BranchUser].get(made.id)).custom == {"thing": value}
    for value in bad:
        with pytest.raises(Invalid) as caught:
            await desk[BranchUser].update(made, custom={"thing": value})
        assert caught.value.field == "custom.thing"
        assert caught.value.remedy
        assert not isinstance(value, str) or len(value) < 6 or value not in str(caught.value)


async def test_what_a_tenant_requires_stops_no_operation_of_the_library(desk: Session):
    await desk.custom_fields.define(BranchUser, "must", T.TEXT, required=True)
    made = await desk.users.add(User(email="plain@example.org"))
    assert isinstance(made, BranchUser)
    assert len(await desk.users.add_many([User(), User()])) == 2
    with pytest.raises(Invalid, match=r"custom\.must has no value"):
        await desk[BranchUser].add(BranchUser())
    with pytest.raises(Invalid, match=r"custom\.must has no value"):
        await desk[BranchUser].add_many([User(), BranchUser()])
    assert await desk.users.count() == 3


async def test_every_verb_that_writes_judges(desk: Session):
    await desk.custom_fields.define(BranchUser, "size", T.INTEGER)
    users = desk[BranchUser]
    made = await users.add(BranchUser(email="a@example.org", custom={"size": 1}))
    wrong: dict[str, Any] = {"size": "secret words"}
    for attempt in (
        users.add(BranchUser(custom=wrong)),
        users.add_many([BranchUser(custom={"size": 2}), BranchUser(custom=wrong)]),
        users.upsert(BranchUser(email="a@example.org", custom=wrong), on=BranchUser.email),
        users.update(made, custom=wrong),
        users.update_where(BranchUser.id == made.id, custom=wrong),
    ):
        with pytest.raises(Invalid) as caught:
            await attempt
        assert caught.value.field == "custom.size"
        assert "secret words" not in str(caught.value)
    assert await users.update_where(BranchUser.id == made.id, custom={"size": 7}) == 1
    assert (await users.upsert(BranchUser(email="a@example.org", custom={"size": 8}), on=BranchUser.email)).custom == {
        "size": 8
    }
    assert await users.count() == 1


@pytest.mark.parametrize(
    "document",
    [
        {"unknown": 1},
        {"is_verified": True},
        {"tenant_id": "x"},
        {"size": 1, "__class__": "x"},
        {"'; drop table tally.user_account; --": 1},
        {"size": {"nested": 1}},
        {1: 1},
        [],
        "text",
        None,
    ],
)
async def test_nobody_smuggles_in_what_was_not_defined(desk: Session, document: Any):
    await desk.custom_fields.define(BranchUser, "size", T.INTEGER)
    made = await desk[BranchUser].add(BranchUser())
    with pytest.raises(Invalid) as caught:
        await desk[BranchUser].update(made, custom=document)
    assert "drop table" not in str(caught.value)
    assert (await desk[BranchUser].get(made.id)).custom == {}


async def test_what_another_tenant_defined_says_nothing_here(house: House, desk: Session, db: Session):
    await desk.custom_fields.define(BranchUser, "only_ours", T.TEXT)
    await desk[BranchUser].add(BranchUser(custom={"only_ours": "x"}))
    assert "only_ours" not in [f.name for f in await db.custom_fields.defined(BranchUser)]
    with pytest.raises(Invalid, match="no custom field here") as caught:
        await db[BranchUser].add(BranchUser(custom={"only_ours": "x"}))
    assert "only_ours" not in caught.value.remedy
    async with house.tally.session(house.tenant, actor="nobody", permissions=()) as nobody:
        with pytest.raises(RoleMissing):
            await nobody.custom_fields.define(BranchUser, "sneaky", T.TEXT)
        with pytest.raises(RoleMissing):
            await nobody[CustomField].add(CustomField(entity="user_account", name="sneaky", type=T.TEXT))


async def test_a_document_has_a_largest_size_in_the_library_and_the_database(house: House, desk: Session):
    for number in range(8):
        await desk.custom_fields.define(BranchUser, f"text_{number}", T.TEXT)
    whole = {f"text_{n}": "x" * 8_000 for n in range(8)}
    made = await desk[BranchUser].add(BranchUser(custom=whole))
    with pytest.raises(Invalid, match="larger than") as caught:
        await desk[BranchUser].update(made, custom=whole | {"text_0": "x" * 10_000})
    assert caught.value.field == "custom"
    # A process that goes round the library is held by the row's own check.
    for document in ("jsonb_build_object('text_0', repeat('x', 70000))", "'[]'::jsonb", "'5'::jsonb"):
        with pytest.raises(asyncpg.CheckViolationError):
            await house.database.run(
                f"SET tally.tenant = '{desk.tenant_id}'; SET tally.actor = 'x'; "
                f"UPDATE tally.user_account SET custom = {document} WHERE id = '{made.id}'",
                role="app",
            )


async def test_personal_values_are_sealed_exported_and_erased(house: House, desk: Session, tmp_path: Path):
    await desk.custom_fields.define(BranchUser, "hobby", T.TEXT, personal=True)
    made = await desk[BranchUser].add(BranchUser(custom_personal={"hobby": "falconry"}))
    assert (await desk[BranchUser].get(made.id)).custom_personal == {"hobby": "falconry"}
    assert "falconry" not in repr(made)
    for wrong in ({"custom": {"hobby": "x"}}, {"custom_personal": {"hobby": 5}}, {"custom_personal": {"size": "x"}}):
        with pytest.raises(Invalid):
            await desk[BranchUser].update(made, **wrong)
    row = await house.database.run(
        "SELECT to_jsonb(u)::text AS t FROM tally.user_account u WHERE id = $1", made.id, role="superuser"
    )
    assert b"falconry".hex() not in row[0]["t"]
    assert "falconry" not in row[0]["t"]
    await desk.privacy.export(made.id, tmp_path / "e", reason="asked", key=Ed25519PrivateKey.generate())
    assert b"falconry" in b"".join(p.read_bytes() for p in (tmp_path / "e").rglob("*") if p.is_file())
    await desk.privacy.erase(await desk.privacy.request_erasure(made, ground=ErasureGround.CONSENT_WITHDRAWN))
    assert (await desk[BranchUser].get(made.id)).custom_personal is None


async def test_a_definition_changes_for_values_to_come_and_has_a_history(desk: Session):
    fields = desk.custom_fields
    grade = await fields.define(BranchUser, "grade", T.CHOICE, choices=["a", "b"])
    other = await fields.define(BranchUser, "size", T.INTEGER)
    made = await desk[BranchUser].add(BranchUser(custom={"grade": "a", "size": 1}))
    changed = await fields.change(grade, choices=["b", "c"], required=True)
    assert (changed.version, changed.choices, changed.type) == (2, ["b", "c"], T.CHOICE)
    with pytest.raises(StaleVersion):
        await fields.change(grade, choices=["z"])
    assert (await desk[BranchUser].get(made.id)).custom["grade"] == "a"
    with pytest.raises(Invalid):
        await desk[BranchUser].update(made, custom={"grade": "a", "size": 2})
    with pytest.raises(Invalid, match="needs one"):
        await desk[BranchUser].update(made, custom={"size": 2})
    await fields.retire(other)
    assert [f.name for f in await fields.defined(BranchUser)] == ["grade"]
    kept = await desk[BranchUser].update(made, custom=made.custom | {"grade": "c"})
    assert kept.custom == {"grade": "c", "size": 1}
    with pytest.raises(Invalid, match=r"custom\.size"):
        await desk[BranchUser].update(kept, custom={"grade": "c", "size": 2})
    assert [v.entity.choices for v in await fields.history(grade.id) if v.entity] == [["a", "b"], ["b", "c"]]
    with pytest.raises(Denied):
        await fields.purge(grade.id, reason="gone")


@pytest.mark.parametrize(
    ("name", "kind", "asked"),
    [
        ("Name", T.TEXT, {}),
        ("", T.TEXT, {}),
        ("a" * 41, T.TEXT, {}),
        ("x'; --", T.TEXT, {}),
        ("x", "text", {}),
        ("x", T.CHOICE, {}),
        ("x", T.TEXT, {"choices": ["a"]}),
        ("x", T.CHOICE, {"choices": ["a", "a"]}),
        ("x", T.CHOICE, {"choices": "ab"}),
        ("x", T.CHOICE, {"choices": [str(n) for n in range(201)]}),
        ("x", T.TEXT, {"minimum": -1}),
        ("x", T.INTEGER, {"minimum": 5, "maximum": 1}),
        ("x", T.BOOLEAN, {"minimum": 1}),
        ("x", T.INTEGER, {"minimum": 2**63}),
        ("region", T.INTEGER, {}),
        ("region", T.BOOLEAN, {}),
    ],
)
async def test_a_wrong_definition_is_refused(db: Session, name: str, kind: Any, asked: dict[str, Any]):
    with pytest.raises(Invalid) as caught:
        await db.custom_fields.define(BranchUser, name, kind, **asked)
    assert caught.value.remedy


async def test_only_what_takes_custom_fields_has_some_and_not_without_end(desk: Session):
    for entity in (CustomField, Letter):
        with pytest.raises(Invalid, match="takes no custom fields"):
            await desk.custom_fields.define(entity, "x", T.TEXT)
    made = [CustomField(entity="user_account", name=f"f{n}", type=T.TEXT) for n in range(100)]
    await desk[CustomField].add_many(made)
    with pytest.raises(QuotaExceeded):
        await desk.custom_fields.define(BranchUser, "one_more", T.TEXT)


async def test_of_eight_callers_that_define_a_field_one_does(house: House, desk: Session):
    async def define() -> bool:
        async with house.tally.session(desk.tenant_id, actor="admin", permissions=("*",)) as mine:
            try:
                await mine.custom_fields.define(BranchUser, "raced", T.TEXT)
            except Duplicate:
                return False
            return True

    wins = await asyncio.wait_for(asyncio.gather(*(define() for _ in range(8))), 60)
    assert sum(wins) == 1
    assert len(await desk.custom_fields.defined(BranchUser)) == 1


class Letter(Entity):
    """A letter of an application's own, whose tenants may add to it."""

    custom: Custom = msgspec.field(default_factory=dict)

    rules = Rules(table="letter", retain="operations")


class PromotedLetter(Entity):
    """A letter, once the application asked for a column."""

    custom: Annotated[Custom, Json(promote={"region": str})] = msgspec.field(default_factory=dict)

    rules = Rules(table="letter", retain="operations")


async def test_a_key_becomes_a_column_while_eight_writers_write(tally_server: KitServer, tmp_path: Path):
    database = await make_database(tally_server, await tally_server.template(None, ALL))
    try:
        await migrate(database.admin, entities=[Letter], roles=database.roles)
        keys = keys_in(tmp_path)
        old = application(database, keys, (Letter,))
        async with old:
            await old.tenants.create("post", name="Post")
            async with old.session("post", actor="admin", permissions=("*",)) as db:
                await db.custom_fields.define(Letter, "region", T.TEXT)
                await db[Letter].add_many([Letter(custom={"region": f"r{n % 7}"}) for n in range(300)])
            done, stop = [0], asyncio.Event()

            async def write(number: int) -> None:
                async with old.session("post", actor=f"w{number}", permissions=("*",)) as mine:
                    while not stop.is_set():
                        made = await mine[Letter].add(Letter(custom={"region": f"r{number}"}))
                        await mine[Letter].update(made, custom={"region": "r9"})
                        done[0] += 1

            writers = [asyncio.create_task(write(n)) for n in range(8)]
            try:
                await revision(
                    database.admin,
                    "promote",
                    branch="post",
                    entities=[PromotedLetter],
                    roles=database.roles,
                    version_locations=[tmp_path / "revisions"],
                )
                await migrate(
                    database.admin,
                    entities=[PromotedLetter],
                    roles=database.roles,
                    version_locations=[tmp_path / "revisions"],
                )
                ours = done[0]
                while done[0] < ours + 8:
                    assert not any(w.done() for w in writers)
                    await asyncio.sleep(0.01)
            finally:
                stop.set()
                await asyncio.wait_for(asyncio.gather(*writers), 60)
        new = application(database, keys, (PromotedLetter,), tmp_path / "revisions")
        async with new, new.session("post", actor="reader", permissions=("*",)) as db:
            rows = await db[PromotedLetter].find()
            assert len(rows) == 300 + done[0]
            for region in {r.custom["region"] for r in rows}:
                wanted = sum(r.custom["region"] == region for r in rows)
                assert await db[PromotedLetter].count(key(PromotedLetter.custom, "region") == region) == wanted
            with pytest.raises(Invalid, match="of another type"):
                await db.custom_fields.define(PromotedLetter, "region", T.INTEGER)
    finally:
        await tally_server.drop(database.name)
