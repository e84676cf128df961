"""Rotation while people work: new epochs, rewrapping that is killed and resumed, the end of an epoch, escrow."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

import tallystick
from tallystick import LocalKeys, Session, Tallystick, User
from tallystick.entity import spec_of
from tallystick.errors import (
    Conflict,
    Duplicate,
    Erased,
    Invalid,
    RoleMissing,
    Serialization,
    Tampered,
    Unavailable,
    Unsupported,
)
from tallystick.privacy import keyring as rings
from tallystick.privacy import rotation
from tallystick.privacy.escrow import create_officer, deposit, withdraw
from tallystick.privacy.keyring import Keyring
from tallystick.query import one_of

ROOT = bytes(range(32))
OURS = str(Path(tallystick.__file__).parent)
SUBJECTS = int(os.environ.get("TALLYSTICK_SOAK_KEYS", "20000"))
REWRAPPER = Path(__file__).with_name("rewrapper.py")


class Bench:
    """An application whose keys can be rotated, and the folder of its keys."""

    def __init__(self, tally: Tallystick, folder: Path) -> None:
        self.tally = tally
        self.folder = folder

    def keys(self) -> LocalKeys:
        return LocalKeys(ROOT, folder=self.folder)

    def opened(self, keys: LocalKeys | None = None) -> Tallystick:
        return Tallystick(
            self.tally.settings,
            self.tally.domains,
            self.tally.entities,
            keys=keys or self.keys(),
            clock=self.tally.clock,
            version_locations=(),
        )


@pytest.fixture
async def bench(tally: Tallystick, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tally, tmp_path / "keys")
    async with made.opened() as app:
        made.tally = app
        yield made


@pytest.fixture
async def db(bench: Bench, tenant: str) -> AsyncIterator[Session]:
    async with bench.tally.session(tenant, actor="keeper", permissions=["*"]) as db:
        yield db


async def people(db: Session, count: int) -> list[User]:
    return await db.users.add_many([User(first_name=f"Person {n}") for n in range(count)])


async def names(db: Session) -> list[str | None]:
    return [u.first_name async for u in db.users.stream()]


async def test_a_round(bench: Bench, tenant: str, db: Session) -> None:
    await people(db, 30)
    told: list[tuple[int, int]] = []
    before = await rotation.status(db)
    assert (before.current, [(e.epoch, e.live) for e in before.epochs]) == (1, [(1, 30)])
    assert await rotation.rotate(db) == 2
    await people(db, 5)
    middle = await rotation.status(db)
    assert [(e.epoch, e.live) for e in middle.epochs] == [(1, 30), (2, 5)]
    with pytest.raises(Conflict, match="30 living keys"):
        await rotation.destroy_epoch(db, 1)
    done = await rotation.rewrap(db, batch=8, report=lambda n, total: told.append((n, total)))
    assert done == rotation.Rewrapped(2, 30, 0)
    assert told == [(0, 30), (8, 30), (16, 30), (24, 30), (30, 30)]
    assert await rotation.rewrap(db) == rotation.Rewrapped(2, 0, 0)
    await rotation.destroy_epoch(db, 1)
    after = await rotation.status(db)
    assert [(e.epoch, e.live, e.ended is None) for e in after.epochs] == [(1, 0, False), (2, 35, True)]
    assert after.oldest == 2
    async with bench.opened() as other, other.session(tenant, actor="reader", permissions=["*"]) as theirs:
        for session in (db, theirs):
            assert sorted(map(str, await names(session))) == sorted(
                [f"Person {n}" for n in range(30)] + [f"Person {n}" for n in range(5)]
            )
        found = await rotation.verify(theirs, [spec_of(User)])
        assert (found.keys, found.values, found.erased, found.failures) == ({2: 35}, 35, 0, ())


async def test_what_cannot_be_destroyed(bench: Bench, db: Session) -> None:
    await people(db, 1)
    with pytest.raises(Invalid, match="newest"):
        await rotation.destroy_epoch(db, 1)
    with pytest.raises(Invalid, match="no key epoch 7"):
        await rotation.destroy_epoch(db, 7)
    await rotation.rotate(db)
    await rotation.rewrap(db)
    await rotation.destroy_epoch(db, 1)
    # As if whoever ended it had died between the tombstone and the key.
    left = bench.folder / str(db.tenant_id) / "epoch-000001.key"
    left.write_bytes(b"wrapped")
    with pytest.raises(Erased):
        await rotation.destroy_epoch(db, 1)
    assert not left.exists()


async def test_a_key_that_does_not_open_keeps_no_other_back(db: Session) -> None:
    await people(db, 9)
    ((broken,),) = await db.unit.call(
        "UPDATE tally.data_key SET wrapped = set_byte(wrapped, 77, get_byte(wrapped, 77) # 1) WHERE id = "
        "(SELECT id FROM tally.data_key WHERE tenant_id = $1 LIMIT 1) RETURNING id",
        (db.tenant_id,),
    )
    await rotation.rotate(db)
    with pytest.raises(Tampered, match=f"1 data keys do not open .*{broken}.*; 8 were wrapped anew"):
        await rotation.rewrap(db, batch=4)
    assert [(e.epoch, e.live) for e in (await rotation.status(db)).epochs] == [(1, 1), (2, 8)]
    with pytest.raises(Conflict, match="1 living"):
        await rotation.destroy_epoch(db, 1)


async def test_it_takes_a_permission_and_a_folder(bench: Bench, tally: Tallystick, tenant: str) -> None:
    async with bench.tally.session(tenant, actor="nobody", permissions=["users.read"]) as db:
        for act in (rotation.status, rotation.rotate, rotation.rewrap):
            with pytest.raises(RoleMissing, match=r"keys\.manage"):
                await act(db)
    async with tally.session(tenant, actor="keeper", permissions=["keys.manage"]) as db:
        with pytest.raises(Unsupported, match="TALLYSTICK_KEY_DIR"):
            await rotation.rotate(db)


async def test_bad_input(db: Session) -> None:
    for batch in (0, -1, 10_001, True, 2.5):
        with pytest.raises(Invalid):
            await rotation.rewrap(db, batch=batch)  # type: ignore[arg-type]
    for sample in (0, 10_001, True):
        with pytest.raises(Invalid):
            await rotation.verify(db, [], sample=sample)
    async with db.transaction():
        with pytest.raises(Invalid, match="outside a transaction"):
            await rotation.rewrap(db)


async def test_a_process_that_knows_the_old_epoch_only(bench: Bench, tenant: str, db: Session) -> None:
    """It goes on in the old epoch until that is closed, and then finds the new one by itself."""
    async with bench.opened() as other, other.session(tenant, actor="late", permissions=["*"]) as late:
        await people(late, 1)
        assert await rotation.rotate(db) == 2
        await people(late, 1)
        assert [(e.epoch, e.live) for e in (await rotation.status(db)).epochs] == [(1, 2), (2, 0)]
        await rotation.rewrap(db)
        await people(late, 1)
        assert [(e.epoch, e.live) for e in (await rotation.status(db)).epochs] == [(1, 0), (2, 3)]
        await rotation.destroy_epoch(db, 1)
        await people(late, 1)
        assert len(await names(late)) == 4


async def test_inside_a_transaction_it_is_told_once(bench: Bench, tenant: str, db: Session) -> None:
    async with bench.opened() as other, other.session(tenant, actor="late", permissions=["*"]) as late:
        await people(late, 1)
        await rotation.rotate(db)
        await rotation.rewrap(db)

        async def add(_: Session) -> None:
            await people(late, 1)

        with pytest.raises(Serialization, match="epoch"):
            async with late.transaction():
                await add(late)
        async with late.transaction():
            await add(late)
        assert len(await names(db)) == 2


async def test_the_end_of_an_epoch_waits_for_who_makes_a_key(bench: Bench, tenant: str, db: Session) -> None:
    """A key made in an open transaction is either seen before the epoch ends, or refused; never lost."""
    await people(db, 1)
    async with bench.opened() as other, other.session(tenant, actor="late", permissions=["*"]) as late:
        await people(late, 1)
        await rotation.rotate(db)
        made, go = asyncio.Event(), asyncio.Event()

        async def write() -> None:
            async with late.transaction():
                await people(late, 1)
                made.set()
                await go.wait()

        writing = asyncio.create_task(write())
        await asyncio.wait_for(made.wait(), 60)
        ending = asyncio.create_task(rotation.destroy_epoch(db, 1))
        await asyncio.sleep(0.3)
        assert not ending.done()
        go.set()
        await asyncio.wait_for(writing, 60)
        with pytest.raises(Conflict, match="3 living keys"):
            await asyncio.wait_for(ending, 60)
        assert (await rotation.rewrap(db)).left == 0
        await rotation.destroy_epoch(db, 1)
        assert len(await names(late)) == 3


async def test_while_people_write(bench: Bench, tenant: str, db: Session) -> None:
    """Rewrapping passes over keys that are in use and comes back; nobody's write is refused for it."""
    users = await people(db, 40)
    stop = asyncio.Event()
    written = 0

    async def write(number: int) -> None:
        nonlocal written
        async with bench.tally.session(tenant, actor=f"w{number}", permissions=["*"]) as mine:
            while not stop.is_set():
                async with mine.transaction():
                    for user in users[number::8][:3]:
                        held = await mine.users.lock(user.id)
                        await mine.users.update(held, first_name=f"{held.first_name}.")
                written += 1

    writers = [asyncio.create_task(write(n)) for n in range(4)]
    epoch = 1
    try:
        async with asyncio.timeout(120):
            while epoch < 4 or written <= 4:
                epoch = await rotation.rotate(db)
                assert (await rotation.rewrap(db, batch=5)).left == 0
                await rotation.destroy_epoch(db, epoch - 1)
    finally:
        stop.set()
        await asyncio.gather(*writers)
    assert all(name is not None and name.startswith("Person") for name in await names(db))


@pytest.mark.timeout(max(120, SUBJECTS // 400))
async def test_killed_half_way_and_resumed(bench: Bench, tenant: str, db: Session, tmp_path: Path) -> None:
    """Twenty thousand people (a million with TALLYSTICK_SOAK_KEYS=1000000): killed with -9, resumed, nothing lost."""
    ring = Keyring(bench.keys())
    before: dict[UUID, bytes] = {}
    for start in range(0, SUBJECTS, 10_000):
        owners = [(uuid4(), "identity") for _ in range(min(10_000, SUBJECTS - start))]
        held = await ring.ready(db.unit, owners, new=True)
        before |= {owner[0]: key.key.key_id for owner, key in held.items() if key.key is not None}
    assert len(before) == SUBJECTS
    assert await rotation.rotate(db) == 2
    with tempfile.TemporaryDirectory() as place:
        url = bench.tally.settings.database_url
        given: dict[str, Any] = {
            "settings": {"database_url": url, "role_prefix": bench.tally.settings.role_prefix, "pool_max": 2},
            "tenant": tenant,
            "root": ROOT.hex(),
            "folder": str(bench.folder),
            "batch": 1_000,
            "halt": SUBJECTS * 3 // 4,
        }
        done = await _killed(Path(place), given, SUBJECTS // 2, 60 + SUBJECTS / 2_000)
    middle = {e.epoch: e.live for e in (await rotation.status(db)).epochs}
    assert sum(middle.values()) == SUBJECTS
    assert middle[2] >= done
    assert middle[1] > 0
    told: list[int] = []
    resumed = await rotation.rewrap(db, report=lambda n, _: told.append(n))
    assert resumed.left == 0
    assert resumed.done == middle[1]
    assert told == sorted(told)
    await rotation.destroy_epoch(db, 1)
    # Every key there was is there, once, and opens to the same key.
    fresh = Keyring(bench.keys())
    ids = list(before.values())
    for start in range(0, SUBJECTS, 10_000):
        part = ids[start : start + 10_000]
        opened = await fresh.load(db.unit, part)
        assert {key_id for key_id, key in opened.items() if key.key is not None and key.key.key_id == key_id} == set(
            part
        )
    assert (await rotation.verify(db, [])).failures == ()


async def test_a_blind_index_killed_half_way_and_resumed(bench: Bench, tenant: str, db: Session) -> None:
    """The rotation of an index, killed with -9 and taken up by another process, which finds every row meanwhile."""
    async with bench.tally.session(tenant, actor="a", permissions=["*"]) as mine:
        await mine.users.add_many([User(email=f"p{i}@example.org") for i in range(300)])
        with tempfile.TemporaryDirectory() as place:
            settings = bench.tally.settings
            given: dict[str, Any] = {
                "settings": {"database_url": settings.database_url, "role_prefix": settings.role_prefix, "pool_max": 2},
                "tenant": tenant,
                "root": ROOT.hex(),
                "folder": str(bench.folder),
                "batch": 5,
                "halt": 200,
                "field": "users.email",
            }
            done = await _killed(Path(place), given, 100, 60)
        (state,) = [s for s in (await rotation.status(mine)).indexes if s.column == "email_bidx" and s.begun]
        assert (state.table, state.generation, state.phase) == ("user_account", 1, "filling")
        assert await mine.users.count(one_of(User.email, [f"P{i}@example.org" for i in range(300)])) == 300
        with pytest.raises(Duplicate):
            await mine.users.add(User(email="p299@example.org"))
        late = await mine.users.add(User(email="late@example.org"))
        (resumed,) = await rotation.rotate_index(mine, "users.email")
        assert resumed.generation == 2
        assert 0 < resumed.rows <= 300 - done
        assert await mine.users.count(one_of(User.email, [f"P{i}@example.org" for i in range(300)])) == 300
        assert (await mine.users.one(User.email == "late@example.org")).id == late.id
        with pytest.raises(Duplicate):
            await mine.users.add(User(email="p0@example.org"))


async def _killed(place: Path, given: dict[str, Any], at: int, seconds: float) -> int:
    """What a process had done that was killed when it had done so much."""
    notes, file = place / "notes", place / "work.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(given | {"notes": str(notes)}))
    with (place / "output").open("wb") as output:
        child = subprocess.Popen(  # noqa: ASYNC220  it has to be killed by its id
            [sys.executable, str(REWRAPPER), str(file)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            end = time.monotonic() + seconds
            while (done := _last(notes)) < at:
                assert child.poll() is None, (place / "output").read_text()
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
        finally:
            child.kill()
            child.wait(60)
    assert "end" not in notes.read_text()
    return done


def _last(notes: Path) -> int:
    try:
        lines = notes.read_text().splitlines()
    except FileNotFoundError:
        return 0
    numbers = [int(line.split()[0]) for line in lines if line[:1].isdigit() and " " in line]
    return max(numbers, default=0)


async def test_keys_at_hand_are_bounded(db: Session, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rings, "_MOST", 40)
    ring = Keyring(bench.keys())
    for _ in range(12):
        await ring.ready(db.unit, [(uuid4(), "identity") for _ in range(10)], new=True)
    assert len(ring.of(db.tenant_id).by_id) <= 40
    assert len(ring.of(db.tenant_id).by_owner) <= 40
    assert len(ring.of(db.tenant_id).by_id) > 10


async def test_keys_at_hand_grow_old(db: Session, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rings, "_SECONDS", -1.0)
    ring = Keyring(bench.keys())
    owner = (uuid4(), "identity")
    await ring.ready(db.unit, [owner])
    held = ring.of(db.tenant_id)
    held.age()
    assert (held.by_id, held.by_owner, held.epochs, held.epoch) == ({}, {}, {}, None)


async def test_verify_names_what_does_not_open(bench: Bench, db: Session) -> None:
    user = (await people(db, 2))[0]
    folder = bench.folder / str(db.tenant_id)
    file = folder / "epoch-000001.key"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    async with bench.opened() as other, other.session(db.tenant_id, actor="k", permissions=["*"]) as theirs:
        found = await rotation.verify(theirs, [])
        assert len(found.failures) == 1
        assert "epoch 1" in found.failures[0]
        assert "Person" not in repr(found)
    file.write_bytes(content)
    found = await rotation.verify(db, [spec_of(User)])
    assert found.failures == ()
    assert user.first_name is not None


class TestEscrow:
    async def test_all_officers_are_needed(self, bench: Bench, db: Session, tmp_path: Path) -> None:
        await people(db, 1)
        await rotation.rotate(db)
        officers = [tmp_path / f"officer-{n}" for n in range(3)]
        public = [create_officer(path) for path in officers]
        file = tmp_path / "escrow"
        assert deposit(bench.keys(), [db.tenant_id], public, file) == 2
        assert oct(file.stat().st_mode)[-3:] == "600"
        for epoch in (1, 2):
            key = bench.keys().export(db.tenant_id)[f"epoch-{epoch:06d}"]
            assert key.hex() not in file.read_text()
        # What is left of a file that lost its end comes back, and that there was more is told.
        short, part = tmp_path / "short", LocalKeys(ROOT, folder=tmp_path / "part")
        short.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
        with pytest.raises(Tampered, match="1 of its 2 keys open"):
            withdraw(part, officers, short)
        assert set(part.epochs(db.tenant_id)) == {1}
        target = LocalKeys(ROOT[::-1], folder=tmp_path / "other")
        for few in (officers[:2], officers[1:], [officers[0]] * 3, []):
            with pytest.raises(Invalid, match="officers"):
                withdraw(target, few, file)
        assert withdraw(target, officers[::-1], file) == (2, 0)
        assert withdraw(target, officers, file) == (0, 2)
        # Under another root key, the same keys.
        for epoch in (1, 2):
            assert target.epoch_key(db.tenant_id, epoch).key_id == bench.keys().epoch_key(db.tenant_id, epoch).key_id

    async def test_an_ended_epoch_does_not_come_back(self, bench: Bench, db: Session, tmp_path: Path) -> None:
        await people(db, 1)
        officer = tmp_path / "officer"
        public = create_officer(officer)
        deposit(bench.keys(), [db.tenant_id], [public], tmp_path / "escrow")
        await rotation.rotate(db)
        await rotation.rewrap(db)
        await rotation.destroy_epoch(db, 1)
        assert withdraw(bench.keys(), [officer], tmp_path / "escrow") == (0, 0)
        with pytest.raises(Erased):
            bench.keys().epoch_key(db.tenant_id, 1)

    async def test_bad_files_and_keys(self, bench: Bench, db: Session, tmp_path: Path) -> None:
        await people(db, 1)
        officer, file = tmp_path / "officer", tmp_path / "escrow"
        public = create_officer(officer)
        deposit(bench.keys(), [db.tenant_id], [public], file)
        with pytest.raises(Invalid, match="exists"):
            create_officer(officer)
        with pytest.raises(Invalid, match="exists") as caught:
            deposit(bench.keys(), [db.tenant_id], [public], file)
        # Nor would it be in a report of the error that has the variables of its frames.
        walked = [frame for frame, _ in traceback.walk_tb(caught.tb)]
        frames = [frame.f_locals for frame in walked if frame.f_code.co_filename.startswith(OURS)]
        assert frames
        assert repr(bench.keys().export(db.tenant_id)["epoch-000001"]) not in repr(frames)
        with pytest.raises(Invalid, match="once"):
            deposit(bench.keys(), [db.tenant_id], [public, public], tmp_path / "x")
        with pytest.raises(Invalid, match="once"):
            deposit(bench.keys(), [db.tenant_id], [], tmp_path / "x")
        with pytest.raises(Invalid, match="public key"):
            deposit(bench.keys(), [db.tenant_id], [file], tmp_path / "x")
        with pytest.raises(Unavailable):
            deposit(bench.keys(), [db.tenant_id], [tmp_path / "none"], tmp_path / "x")
        with pytest.raises(Invalid, match="private key"):
            withdraw(bench.keys(), [file], file)
        with pytest.raises(Unavailable):
            withdraw(bench.keys(), [officer], tmp_path / "none")
        (tmp_path / "low.pub").write_text("00" * 32)
        with pytest.raises(Invalid, match="public key"):
            deposit(bench.keys(), [db.tenant_id], [tmp_path / "low.pub"], tmp_path / "x")
        target = LocalKeys(ROOT, folder=tmp_path / "other")
        whole = file.read_text()
        head, line = whole.splitlines()
        record = json.loads(line)
        bad: tuple[Any, ...] = ([], {}, None, [[]], [5])
        for edited in (
            "",
            "{}",
            "[1]",
            head + "\n" + json.dumps(record | {"tenant": str(uuid4())}),
            head + "\n" + json.dumps(record | {"name": "epoch-000009"}),
            head + "\n" + json.dumps(record | {"name": "../../x"}),
            head + "\n" + json.dumps(record | {"shares": []}),
            head + "\n" + json.dumps(record | {"shares": ["AAAA"]}),
            head + "\n" + json.dumps(record | {"shares": 5}),
            head + "\n{}",
            *(whole[:cut] for cut in range(0, len(whole) - 1, 3)),
            head + "\n",
            whole + line,
            # A file for nobody, which anybody could write: its key would be known to them.
            *(json.dumps(json.loads(head) | {"officers": o}) + "\n" + json.dumps(record | {"shares": []}) for o in bad),
        ):
            file.write_text(edited)
            with pytest.raises(Tampered):
                withdraw(target, [officer], file)
        # A line too many is told as well; what opened has come back.
        assert set(target.epochs(db.tenant_id)) == {1}
