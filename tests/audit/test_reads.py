"""A18: entities that declare it have every read written down, whichever verb it was, with the read or not at all."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.audit.entities import ENTITIES, Dossier, Errand, Note

from tallystick import NotFound, Offset, Session, Tallystick, Unsupported, backref, secret
from tallystick.repository import Repository
from tallystick.settings import Settings
from tallystick.testing import KitServer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Tallystick]:
    template = await tally_server.template(("identity",), ENTITIES, ())
    database = await tally_server.clone(template, "_audit_reads")
    settings = Settings.load(
        {},
        database_url=tally_server.url("app", database),
        admin_url=tally_server.url("admin", database),
        role_prefix=tally_server.roles.prefix,
    )
    async with Tallystick.open(settings=settings, entities=ENTITIES, domains=("identity",), keys=tally.keys) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def db(app: Tallystick) -> AsyncIterator[Session]:
    slug = f"t-{uuid4().hex}"
    await app.tenants.create(slug, name="A tenant")
    async with app.session(slug, actor="user:7", permissions=("*",), reason="case 91") as made:
        yield made


async def reads(db: Session) -> list[dict[str, Any]]:
    rows = await db.unit.call("SELECT body FROM tally_audit.entry WHERE op = 'R' ORDER BY seq", ())
    return [json.loads(r[0]) for r in rows]


async def _stream(repository: Repository[Any]) -> None:
    async for _ in repository.stream(batch=2):
        pass


async def _lock(db: Session, id: Any) -> None:
    async with db.transaction():
        await db[Dossier].lock(id)


async def _claim(db: Session) -> None:
    async for item in db[Errand].claim(limit=1):
        async with item:
            pass


VERBS: dict[str, tuple[str, ...]] = {
    "get": ("get",),
    "get_or_none": ("get",),
    "one": ("one",),
    "find": ("find",),
    "page": ("page",),
    "stream": ("stream", "stream"),
    "count": ("count",),
    "exists": ("exists",),
    # Twice, because what is sealed is bound to its row and is sealed anew for the row that was found.
    "upsert": ("upsert", "upsert"),
    "lock": ("lock",),
    "claim": ("claim",),
    "reveal": ("get",),
    "as_of": (),
    "history": (),
    # A plan holds no values, and measuring one is refused.
    "explain": (),
}
WRITES = {"add", "add_many", "update", "update_where", "archive", "restore", "purge", "purge_where", "of"}
"""What answers nothing that was not given; the changes themselves are captured."""


def test_every_verb_is_thought_of() -> None:
    public = {n for n, m in inspect.getmembers(Repository) if not n.startswith("_") and callable(m)}
    assert public - {"entity"} == set(VERBS) | WRITES


@pytest.mark.parametrize("verb", VERBS)
async def test_a18_every_verb_writes_down_who_read_what(db: Session, verb: str) -> None:
    dossiers = await db[Dossier].add_many([Dossier(title=f"d{n}") for n in range(2)])
    one = await db[Dossier].add(Dossier(title="secret", code=secret("123-45-6789")))
    await db[Errand].add(Errand(title="e"))
    assert await reads(db) == []
    repository = db[Dossier]
    calls: dict[str, Any] = {
        "get": lambda: repository.get(one.id),
        "get_or_none": lambda: repository.get_or_none(one.id),
        "one": lambda: repository.one(Dossier.title == "d0"),
        "find": lambda: repository.find(),
        "page": lambda: repository.page(limit=2),
        "stream": lambda: _stream(repository),
        "count": lambda: repository.count(),
        "exists": lambda: repository.exists(Dossier.title == "d0"),
        "upsert": lambda: repository.upsert(Dossier(title="d1", number=4), on=Dossier.title),
        "lock": lambda: _lock(db, one.id),
        "claim": lambda: _claim(db),
        "reveal": lambda: repository.reveal(one.id, Dossier.code, reason="KYC case 91"),
        "history": lambda: repository.history(one.id),
        "as_of": lambda: repository.as_of(one.id, db.now()),
        "explain": lambda: repository.explain(Dossier.title == "d0"),
    }
    answer = await calls[verb]()
    found = await reads(db)
    assert tuple(r["event"]["verb"] for r in found) == VERBS[verb]
    assert {(r["actor"], r["reason"]) for r in found} <= {("user:7", "case 91")}
    if verb == "find":
        (read,) = found
        assert sorted(read["event"]["keys"]) == sorted(str(d.id) for d in answer)
        assert (read["table"], read["key"], read["event"]["rows"]) == ("audit_dossier", "*", 3)
    if verb in ("get", "lock", "reveal"):
        assert [r["key"] for r in found] == [str(one.id)]
    assert len(dossiers) == 2


async def test_a18_references_and_statements_are_reads_too(db: Session) -> None:
    from sqlalchemy import func, select

    one, two = await db[Dossier].add_many([Dossier(title="a"), Dossier(title="b")])
    note = await db[Note].add(Note(dossier=one.ref, text="x"))
    assert await db[Note].get(note.id) is not None
    assert await reads(db) == []
    await db[Note].get(note.id, load=[Note.dossier])
    await db.load([await db[Note].get(note.id)], Note.dossier)
    assert [(r["event"]["verb"], r["key"]) for r in await reads(db)] == [("load", str(one.id))] * 2
    await db.load([one, two], backref(Note, Note.dossier))
    assert len(await reads(db)) == 2
    await db.fetch(select(func.count().label("n")).select_from(Dossier.table), into=dict)
    inner = select(Dossier.table.c.id).where(Dossier.table.c.title == "a")
    await db.fetch(select(Note.table.c.text).where(Note.table.c.dossier_id.in_(inner)), into=dict)
    await db.fetch(select(Note.table.c.text), into=dict)
    assert [(r["event"]["verb"], r["table"]) for r in await reads(db)][2:] == [("fetch", "audit_dossier")] * 2


async def test_a18_nothing_found_is_written_down(db: Session) -> None:
    nobody = uuid4()
    with pytest.raises(NotFound):
        await db[Dossier].get(nobody)
    await db[Dossier].find(Dossier.title == "nothing")
    assert [(r["key"], r["event"]["rows"]) for r in await reads(db)] == [(str(nobody), 0), ("*", 0)]


async def test_a18_a_read_and_its_entry_stand_and_fall_together(db: Session) -> None:
    one = await db[Dossier].add(Dossier(title="a"))
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            await db[Dossier].get(one.id)
            raise ZeroDivisionError
    assert await reads(db) == []
    async with db.transaction():
        await db[Dossier].get(one.id)
        async with db.transaction():
            await db[Dossier].count()
    assert [r["event"]["verb"] for r in await reads(db)] == ["get", "count"]
    async with db.transaction(read_only=True):
        await db[Note].find()
        with pytest.raises(Unsupported, match="written down"):
            await db[Dossier].get(one.id)
    await db[Dossier].get(one.id)


async def test_a18_tasks_may_share_a_session_for_reads(db: Session) -> None:
    import asyncio

    one = await db[Dossier].add(Dossier(title="a"))
    await asyncio.gather(*(db[Dossier].get(one.id) for _ in range(5)))
    assert len(await reads(db)) == 5


async def test_a18_many_keys_are_several_entries(db: Session) -> None:
    await db[Dossier].add_many([Dossier(title=f"d{n}") for n in range(4_500)])
    await db[Dossier].find()
    found = await reads(db)
    assert [len(r["event"]["keys"]) for r in found] == [2_000, 2_000, 500]
    assert len({k for r in found for k in r["event"]["keys"]}) == 4_500


async def test_pages_by_offset_and_by_secret_are_reads(db: Session) -> None:
    await db[Dossier].add(Dossier(title="a", name="Ada"))
    await db[Dossier].page(after=Offset(0), count=True)
    await db[Dossier].find(Dossier.name == "Ada")
    assert [r["event"]["verb"] for r in await reads(db)] == ["page", "count", "find"]
    assert "Ada" not in json.dumps(await reads(db))
