"""A row's versions out of the log, with everything exact, and the row as of any moment."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from tests.audit.entities import ENTITIES, Dossier, Mood, Note

from tallystick import Entity, Invalid, RoleMissing, Rules, Session, Tallystick, secret, usd
from tallystick.privacy.sealed import ciphertext_of
from tallystick.settings import Settings
from tallystick.testing import KitServer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Tallystick]:
    template = await tally_server.template((), ENTITIES, ())
    database = await tally_server.clone(template, "_audit_history")
    settings = Settings.load(
        {},
        database_url=tally_server.url("app", database),
        admin_url=tally_server.url("admin", database),
        role_prefix=tally_server.roles.prefix,
    )
    async with Tallystick.open(settings=settings, entities=ENTITIES, domains=(), keys=tally.keys) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def db(app: Tallystick) -> AsyncIterator[Session]:
    slug = f"t-{uuid4().hex}"
    await app.tenants.create(slug, name="A tenant")
    async with app.session(slug, actor="user:7", permissions=("*",), reason="case 91", request_id="r-1") as made:
        yield made


def dossier(**more: Any) -> Dossier:
    given: dict[str, Any] = {
        "title": 'line\nbreak, "quotes" and ✂ \u2028 \\u0000',
        "number": -(2**63),
        "cost": usd("12.50"),
        "wei": 2**256 - 1,
        "rate": Decimal("0.10000000"),
        "day": date(2024, 2, 29),
        "moment": datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC),
        "raw": bytes(range(256)),
        "other": UUID(int=5),
        "flag": True,
        "extra": {"a": [1, 2.5, None, {"b": "ü"}], "n": 12345678901234567890},
        "name": "Ada Lovelace",
        "code": secret("123-45-6789"),
    }
    return Dossier(**{**given, **more})


async def test_every_kind_of_value_comes_back_exactly(db: Session) -> None:
    added = await db[Dossier].add(dossier())
    stored = await db[Dossier].get(added.id)
    (version,) = await db[Dossier].history(added.id)
    assert version.entity == stored
    assert ciphertext_of(version.entity.code) == ciphertext_of(stored.code)
    assert (version.op, version.actor, version.reason, version.request) == ("I", "user:7", "case 91", "r-1")
    assert (version.changed, version.unread) == ((), ())
    assert abs((version.at - stored.created_at).total_seconds()) < 60


async def test_versions_say_what_changed(db: Session) -> None:
    first = await db[Dossier].add(dossier(title=uuid4().hex))
    second = await db[Dossier].update(first, number=2, mood=Mood.CROSS)
    third = await db[Dossier].update(second, cost=usd("1"), code=secret("987-65-4321"))
    await db[Dossier].purge(third, reason="withdrawn")
    versions = await db[Dossier].history(first.id)
    assert [v.op for v in versions] == ["I", "U", "U", "D"]
    assert [set(v.changed) for v in versions] == [set(), {"number", "mood"}, {"cost", "code"}, set()]
    assert [v.entity.version if v.entity else None for v in versions] == [1, 2, 3, None]
    assert [v.reason for v in versions] == ["case 91", "case 91", "case 91", "withdrawn"]
    assert [v.seq for v in versions] == sorted(v.seq for v in versions)
    assert await db[Dossier].history(uuid4()) == []


async def test_a_row_as_of_any_moment(db: Session) -> None:
    before = datetime.now(UTC)
    first = await db[Dossier].add(dossier(title=uuid4().hex))
    second = await db[Dossier].update(first, number=2)
    await db[Dossier].purge(second, reason="withdrawn")
    added, updated, removed = await db[Dossier].history(first.id)
    at = {v.op: v.at for v in (added, updated, removed)}
    repository = db[Dossier]
    assert await repository.as_of(first.id, min(before, at["I"]).replace(year=2020)) is None
    assert (await repository.as_of(first.id, at["I"])).number == first.number  # type: ignore[union-attr]
    assert (await repository.as_of(first.id, at["U"])).number == 2  # type: ignore[union-attr]
    assert await repository.as_of(first.id, at["D"]) is None
    assert await repository.as_of(first.id, datetime.now(UTC)) is None
    with pytest.raises(Invalid):
        await repository.as_of(first.id, datetime.now())


async def test_it_needs_the_permission(app: Tallystick, db: Session) -> None:
    added = await db[Dossier].add(dossier(title=uuid4().hex))
    async with app.session(db.tenant, actor="somebody", permissions=()) as other:
        with pytest.raises(RoleMissing):
            await other[Dossier].history(added.id)
        with pytest.raises(RoleMissing):
            await other[Dossier].as_of(added.id, datetime.now(UTC))
    async with app.session(db.tenant, actor="auditor", permissions=("audit.read",)) as auditor:
        assert len(await auditor[Dossier].history(added.id)) == 1


async def test_another_tenant_sees_no_history(app: Tallystick, db: Session) -> None:
    added = await db[Dossier].add(dossier(title=uuid4().hex))
    slug = f"t-{uuid4().hex}"
    await app.tenants.create(slug, name="Another")
    async with app.session(slug, actor="a", permissions=("*",)) as other:
        assert await other[Dossier].history(added.id) == []
        assert await other[Dossier].as_of(added.id, datetime.now(UTC)) is None
        assert (await other.audit.entries(Dossier, ops="IUD")).items == []
        others = "SELECT count(*) FROM tally_audit.entry WHERE tenant_id <> $1"
        assert await other.unit.call(others, (other.tenant_id,)) == [(0,)]


async def test_versions_of_another_shape_are_read_as_far_as_they_go(db: Session, tally_server: KitServer) -> None:
    """Columns that were not there yet have their defaults; what cannot be read any more is named, not guessed."""
    added = await db[Dossier].add(dossier(title=uuid4().hex))
    (stored,) = (await db.audit.entries(Dossier, key=added.id, ops="I")).items
    from tallystick.audit.history import _Body, _decode, _version

    def reshaped(**changes: Any) -> _Body:
        body = json.loads(stored.body)
        for name, value in changes.items():
            if value is None:
                body["new"].pop(name)
            else:
                body["new"][name] = value
        return _decode(json.dumps(body))

    repository = db[Dossier]
    early = await _version(repository, reshaped(flag=None, other=None, mood=None, extra=None))
    assert early.entity is not None or early.unread == ("extra",)
    fewer = await _version(repository, reshaped(flag=None, other=None, mood=None))
    assert (fewer.entity.flag, fewer.entity.other, fewer.entity.mood) == (False, None, Mood.CALM)  # type: ignore[union-attr]
    assert fewer.unread == ()
    more = await _version(repository, reshaped(nickname="x"))
    assert (more.entity is not None, more.unread) == (True, ("nickname",))
    renamed = await _version(repository, reshaped(title=None, heading="x"))
    assert (renamed.entity, renamed.unread) == (None, ("heading", "title"))
    gone = await _version(repository, reshaped(mood="ecstatic"))
    assert (gone.entity, gone.unread) == (None, ("values",))
    retyped = await _version(repository, reshaped(day="soon"))
    assert (retyped.entity, retyped.unread) == (None, ("day",))


async def test_an_unaudited_entity_has_no_history(tally: Tallystick, tenant: str) -> None:
    from tallystick.domains.idempotency import CommandKey

    class Plain(Entity):
        text: str
        rules = Rules(audit=False, table="audit_plain")

    assert not Plain.rules.audit
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        with pytest.raises(Invalid, match="not audited"):
            await db[CommandKey].history(uuid4())


async def test_rows_that_nobody_changed_since_are_as_they_are(db: Session) -> None:
    added = await db[Dossier].add(dossier(title=uuid4().hex))
    note = await db[Note].add(Note(dossier=added.ref, text="x"))
    assert (await db[Note].as_of(note.id, datetime.now(UTC))) == note
