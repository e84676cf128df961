"""Attacks on encryption and keys, E1 to E14 of the security page: two applications as two processes, one key folder."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, Parcel, holder, parcel

from tallystick import LocalKeys, Session, Tallystick, User, UserProfile, candidates, secret
from tallystick.domains.catalog import entities_of
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.entity import spec_of
from tallystick.errors import (
    Conflict,
    Denied,
    Duplicate,
    Erased,
    Invalid,
    RoleMissing,
    Serialization,
    TallystickError,
    Tampered,
    Unavailable,
)
from tallystick.ids import uuid7
from tallystick.page import Offset
from tallystick.privacy import reindex, rotation
from tallystick.privacy.cells import ERASED, Opener
from tallystick.privacy.envelope import DataKey, seal
from tallystick.privacy.keyring import TenantKeys, wrap_context
from tallystick.privacy.sealed import enc_hook
from tallystick.privacy.sealer import Sealer
from tallystick.query import all_of, any_of, desc, ends_with, not_, one_of

ROOT = bytes(range(32))


class Two(NamedTuple):
    """Two applications on one database, each with a keyring of its own."""

    one: Tallystick
    other: Tallystick
    ground: Ground
    folder: Path

    def keys(self) -> LocalKeys:
        return LocalKeys(ROOT, folder=self.folder)


@pytest.fixture(scope="module")
async def two(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    folder = tmp_path_factory.mktemp("keys") / "root.d"
    first, second = (Ground(ground.server, ground.database, LocalKeys(ROOT, folder=folder)) for _ in range(2))
    async with first.opened() as one, second.opened() as other:
        first.tally = one
        yield Two(one, other, first, folder)


@pytest.fixture
async def tenant(two: Two) -> TenantInfo:
    (made,) = await two.ground.tenants(1)
    return made


def at(tally: Tallystick, tenant: TenantInfo) -> Any:
    return tally.session(tenant, actor="a", permissions=["*"])


async def erase(db: Session, subject: UUID, *classes: str) -> None:
    """What an erasure does to the keys of a person."""
    which = "tenant_id = $1 AND subject = $2 AND ($3::text[] = '{}' OR class = ANY ($3))"
    args = (db.tenant_id, subject, list(classes))
    async with db.transaction():
        await db.unit.call(f"SELECT id FROM tally.data_key WHERE {which} ORDER BY id FOR UPDATE", args)
        await db.unit.call(f"UPDATE tally.data_key SET state = 'erased', wrapped = NULL WHERE {which}", args)


def everywhere(**given: Any) -> dict[str, Any]:
    return {
        "phone": "+1 555 0100",
        "national_id": secret("123-45-6789"),
        "score": secret(700),
        "address": {"street": "Main"},
    } | given


class Cell(NamedTuple):
    """One stored envelope and where it stands."""

    tenant: UUID
    table: str
    column: str
    row: UUID
    envelope: bytes


async def cells(db: Session, classes: list[Any]) -> list[Cell]:
    found = []
    for spec in map(spec_of, classes):
        names = [
            c.name for f in spec.fields.values() if f.sealed for c in f.columns if c.name not in spec.index_columns
        ]
        if not names:
            continue
        rows = await db.unit.call(
            f"SELECT id, {', '.join(names)} FROM {spec.qualified} WHERE tenant_id = $1", (db.tenant_id,)
        )
        found += [
            Cell(db.tenant_id, spec.table, name, row[0], value)
            for row in rows
            for name, value in zip(names, row[1:], strict=True)
            if value is not None
        ]
    return found


async def filled(db: Session, digit: str) -> None:
    """Rows with a value in every sealed column that there is."""
    from tests.attacks.test_secrets import loud_application

    for mark in "ab":
        user = await db.users.add(
            User(
                email=f"{mark}@example.org",
                first_name="A",
                last_name="B",
                phone=f"+1555010{digit}{ord(mark)}",
                password_hash=secret("x"),
                mfa_secret=secret("y"),
            )
        )
        await db[UserProfile].add(
            UserProfile(user=user.ref, legal_name="A B", ssn=secret(f"123-45-678{digit}"), address={"street": "x"})
        )
        await db.applications.add(loud_application(applicant=user.ref, idempotency_key=mark))
        home = await db[Holder].add(holder(mark, email=f"{mark}@example.org", name="Same"))
        await db[Parcel].add(parcel(home, mark, **everywhere()))


async def test_e1_no_ciphertext_opens_in_another_cell(two: Two) -> None:
    """The whole matrix of all sealed columns, two rows each, of two tenants, with every key at hand."""
    classes = [*entities_of(two.one.domains), *two.one.entities]
    every: list[Cell] = []
    keys: dict[bytes, Any] = {}
    for number, tenant in enumerate(await two.ground.tenants(2)):
        async with at(two.one, tenant) as db:
            await filled(db, str(number))
            mine = await cells(db, classes)
            every += mine
            keys |= await two.one.keyring.load(db.unit, {cell.envelope[2:18] for cell in mine})
    assert {(c.table, c.column) for c in every} >= {
        ("user_account", "email"),
        ("user_account", "mfa_secret"),
        ("user_profile", "ssn"),
        ("user_profile", "ssn_mask"),
        ("application", "credit_score"),
        ("parcel", "national_id_mask"),
        ("holder", "name"),
    }
    assert len(every) > 100
    openers = {cell.tenant: Opener(cell.tenant, keys) for cell in every}
    refused = 0
    for place in every:
        for cell in every:
            try:
                openers[place.tenant].plain(place.table, place.column, cell.envelope, place.row)
            except Tampered:
                refused += 1
                continue
            assert cell is place, (cell[1:4], place[1:4])
    assert refused == len(every) * (len(every) - 1)


async def test_e1_swaps_in_the_database_are_noticed(two: Two, tenant: TenantInfo) -> None:
    (neighbour,) = await two.ground.tenants(1)
    async with at(two.one, tenant) as db, at(two.one, neighbour) as theirs:
        one, other = [await db[Holder].add(holder(c, name="Same", email=f"{c}@x.org")) for c in "ab"]
        foreign = await theirs[Holder].add(holder("a", name="Same"))
        async with two.ground.connected("superuser") as root:
            await root.execute(f"SET tally.tenant = '{tenant.id}'; SET tally.actor = 'thief'")
            for column, source in (("name", "email"), ("email", "name")):
                await root.execute(f"UPDATE tally.holder SET {column} = {source} WHERE id = $1", one.id)
                with pytest.raises(Tampered):
                    await db[Holder].get(one.id)
            await root.execute(
                "UPDATE tally.holder SET name = (SELECT name FROM tally.holder WHERE id = $1) WHERE id = $2",
                one.id,
                other.id,
            )
            with pytest.raises(Tampered):
                await db[Holder].find(Holder.code == "b")
            # A mask is opened by who looks at it: theirs is never another's, and the rest of the row is as it was.
            mine, its = [await db[Parcel].add(parcel(one, digit, national_id=secret(digit * 9))) for digit in "12"]
            await root.execute(
                "UPDATE tally.parcel SET national_id_mask = (SELECT national_id_mask FROM tally.parcel WHERE id = $1) "
                "WHERE id = $2",
                mine.id,
                its.id,
            )
            forged = await db[Parcel].get(its.id)
            assert forged.label == "2"
            assert repr(forged.national_id) == "Secret(tampered)"
            shown = repr(forged) + repr([forged.national_id])
            # Longer than an id or a moment has them by chance.
            assert "•2222" not in shown
            assert "2" * 9 not in shown
            for look in (str, enc_hook, lambda held: held.mask):
                with pytest.raises(Tampered):
                    look(forged.national_id)
            assert str((await db[Parcel].get(mine.id)).national_id) == "••••1111"
            # What names another tenant's key is not even written.
            with pytest.raises(Exception, match="names no living key"):
                await root.execute(
                    "UPDATE tally.holder SET name = (SELECT name FROM tally.holder WHERE id = $1) WHERE id = $2",
                    foreign.id,
                    other.id,
                )


def test_e3_no_nonce_comes_twice() -> None:
    key = DataKey(bytes(32))
    million = {seal(key, b"", b"")[18:30] for _ in range(1_000_000)}
    assert len(million) == 1_000_000
    assert {len(nonce) for nonce in million} == {12}


def test_e3_a_forked_process_does_not_repeat_its_parent() -> None:
    key = DataKey(bytes(32))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"".join(seal(key, b"", b"")[18:30] for _ in range(100)))
        finally:
            os._exit(0)
    os.close(writer)
    ours = {seal(key, b"", b"")[18:30] for _ in range(100)}
    with os.fdopen(reader, "rb") as pipe:
        drawn = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    theirs = {drawn[at : at + 12] for at in range(0, len(drawn), 12)}
    assert len(ours | theirs) == 200


async def test_e4_another_key_under_the_right_id_is_refused_before_it_is_used(two: Two, tenant: TenantInfo) -> None:
    """Somebody who holds the epoch's key puts a data key of their own in the place of a person's."""
    async with at(two.one, tenant) as db:
        home = await db[Holder].add(holder("a", name="Ada"))
    wrapping = two.keys().epoch_key(tenant.id, 1)
    forged = seal(wrapping, os.urandom(32), wrap_context(tenant.id, home.id, "identity"))
    async with two.ground.connected("superuser") as root:
        await root.execute(f"SET tally.tenant = '{tenant.id}'; SET tally.actor = 'thief'")
        await root.execute("UPDATE tally.data_key SET wrapped = $1 WHERE subject = $2", forged, home.id)
    async with at(two.other, tenant) as db:
        with pytest.raises(Tampered, match="not the one that its row names"):
            await db[Holder].get(home.id)


async def test_e4_a_wrapped_key_belongs_to_its_person_and_class(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db:
        one, other = [await db[Holder].add(holder(c, name="Ada")) for c in "ab"]
    async with two.ground.connected("superuser") as root:
        await root.execute(f"SET tally.tenant = '{tenant.id}'; SET tally.actor = 'thief'")
        await root.execute(
            "UPDATE tally.data_key SET wrapped = (SELECT wrapped FROM tally.data_key WHERE subject = $1) "
            "WHERE subject = $2",
            one.id,
            other.id,
        )
    async with at(two.other, tenant) as db:
        with pytest.raises(Tampered):
            await db[Holder].get(other.id)


async def test_e5_one_number_in_two_tenants_or_columns_does_not_look_equal(two: Two) -> None:
    found = set()
    for tenant in await two.ground.tenants(2):
        async with at(two.one, tenant) as db:
            home = await db[Holder].add(holder("a"))
            row = await db[Parcel].add(parcel(home, national_id=secret("15550100"), phone="15550100"))
            ((national, phone),) = await db.unit.call(
                "SELECT national_id_bidx, phone_bidx FROM tally.parcel WHERE tenant_id = $1 AND id = $2",
                (tenant.id, row.id),
            )
            found |= {national, phone}
            assert [p.id for p in await db[Parcel].find(Parcel.national_id == "1555-0100")] == [row.id]
    assert len(found) == 4


async def test_e5_what_a_truncated_index_finds_is_compared(
    two: Two, tenant: TenantInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one bit: half of all values look like any other, and no answer and no change may go by the look."""
    monkeypatch.setattr(candidates, "_BATCH", 4)
    async with at(two.one, tenant) as db:
        rows = await db[Holder].add_many(
            [holder(f"{n:02}", nick=f"Nick {n}", pin=secret(f"5-{n:04}")) for n in range(24)]
        )
        for row in rows[:8]:
            number = int(row.code)
            for asked in (Holder.nick == f"nick  {number}", Holder.pin == f"5{number:04}"):
                assert [h.id for h in await db[Holder].find(asked)] == [row.id]
                assert (await db[Holder].one(asked, Holder.code == row.code)).id == row.id
                assert await db[Holder].count(asked) == 1
                assert [h.id async for h in db[Holder].stream(asked, batch=3)] == [row.id]
        assert await db[Holder].find(Holder.nick == "Nick 7", limit=0) == []
        assert not await db[Holder].exists(Holder.nick == "Nick 99")
        assert await db[Holder].exists(Holder.Filter.parse({"nick": "nick 3", "pin_last2": "03"}))
        assert [h.code for h in await db[Holder].find(ends_with(Holder.pin, "23"))] == ["23"]
        asked = one_of(Holder.nick, [f"NICK {n}" for n in range(0, 24, 2)])
        found, after = [], None
        while True:
            page = await db[Holder].page(asked, order=desc(Holder.code), limit=5, after=after, count=True)
            assert page.total == 12
            found += [h.code for h in page]
            if (after := page.next) is None:
                break
        assert found == [f"{n:02}" for n in range(22, -1, -2)]
        one = Holder.nick == "Nick 1"
        for vague in (Holder.nick != "Nick 1", not_(one), any_of(one, Holder.code == "01")):
            with pytest.raises(Invalid, match="candidates"):
                await db[Holder].find(vague)
        for change in (
            db[Holder].update_where(one, name="x"),
            db[Holder].purge_where(all_of(one), reason="gone"),
            db[Holder].page(one, after=Offset(1)),
        ):
            with pytest.raises(Invalid, match="truncated"):
                await change
        await erase(db, rows[1].id)
        assert not await db[Holder].exists(Holder.pin == "50001")
        assert await db[Holder].count() == 24


class Rotating(NamedTuple):
    """One index's rotation, taken step by step."""

    two: Two
    tenant: TenantInfo

    def of(self, db: Session) -> reindex._Rotation:
        spec = spec_of(Holder)
        return reindex._Rotation(db, spec, spec.fields["email"], 7, None)

    async def columns(self, db: Session) -> list[tuple[int | None, int | None]]:
        """The generations that stand in the two columns of every row that has an address."""
        rows = await db.unit.call(
            "SELECT email_bidx, email_bidx_next FROM tally.holder WHERE tenant_id = $1 AND email IS NOT NULL",
            (self.tenant.id,),
        )
        return [tuple(None if v is None else int.from_bytes(v[:2], "big") for v in row) for row in rows]  # type: ignore[misc]

    async def rested(self) -> None:
        """As if the last rotation were an hour ago."""
        async with self.two.ground.connected("owner") as owner:
            await owner.execute("SELECT set_config('tally.tenant', $1, false)", str(self.tenant.id))
            await owner.execute("UPDATE tally.index_state SET begun_at = now() - interval '1 hour'")


def frozen(tally: Tallystick, tenant: TenantInfo, generation: int = 1) -> None:
    """A process that goes by what it knew of index keys, and hears of nothing before it is refused."""
    held = tally.keyring.of(tenant.id)  # type: ignore[union-attr]
    held.indexes = {("holder", "email_bidx"): generation}
    held.indexes_until = float("inf")


@pytest.fixture
async def rotating(two: Two, tenant: TenantInfo) -> Rotating:
    return Rotating(two, tenant)


async def test_e6_one_of_sixteen_wins_in_every_phase(
    two: Two, tenant: TenantInfo, rotating: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen writers of one value in each phase, half of them in a process that hears of no rotation at all."""
    heard = TenantKeys.forget_generations
    monkeypatch.setattr(
        TenantKeys, "forget_generations", lambda held: None if held.indexes_until == float("inf") else heard(held)
    )
    # Refused, it may ask; it is told nothing otherwise.
    monkeypatch.setattr(
        Sealer, "renew", lambda sealer: setattr(sealer.keyring().of(sealer.tenant), "indexes_until", 0.0)
    )
    made: list[str] = []
    async with at(two.one, tenant) as db, at(two.other, tenant) as old:
        await db[Holder].add_many([holder(f"r{i}", email=f"r{i}@example.org") for i in range(20)])
        step = rotating.of(db)

        async def race(phase: str) -> None:
            frozen(two.other, tenant)

            async def write(number: int) -> str:
                app = two.one if number % 2 else two.other
                async with at(app, tenant) as mine:
                    try:
                        await mine[Holder].add(holder(f"{phase}{number}", email=f"{phase}@Example.org"))
                    except Duplicate as taken:
                        return taken.rule
                    return ""

            async def put(number: int) -> UUID:
                async with at(two.one if number % 2 else two.other, tenant) as mine:
                    one = holder(f"{phase}up{number}", email=f"{phase}-up@example.org")
                    return (await mine[Holder].upsert(one, on=Holder.email)).id

            told = await asyncio.gather(*(write(i) for i in range(16)))
            assert sorted(told) == ["", *["uq_holder_email_bidx"] * 15], phase
            assert two.other.keyring is not None
            assert two.other.keyring.of(tenant.id).indexes_until == float("inf")
            assert len(set(await asyncio.gather(*(put(i) for i in range(16))))) == 1, phase
            frozen(two.other, tenant)
            made.extend((f"{phase}@example.org", f"{phase}-up@example.org"))
            for who in (db, old):
                for address in (*made, "r0@example.org", "r19@example.org"):
                    assert await who[Holder].count(Holder.email == address) == 1, (phase, address)
                assert len(await who[Holder].find(one_of(Holder.email, made))) == len(made)

        await race("settled")
        await step._step("begin")
        await race("filling")
        await step._fill(1)
        assert all(row == (1, 2) for row in await rotating.columns(db))
        await race("filled")
        assert await step._step("switch") == 2
        await race("switched")
        while await step._clear():
            pass
        await race("cleared")
        assert await step._step("settle") == 2
        await race("new")
        assert set(await rotating.columns(db)) == {(None, 2)}
        assert len(await rotating.columns(db)) == 20 + 12


async def test_e6_searches_and_writes_go_on(two: Two, tenant: TenantInfo) -> None:
    """Three rotations, there and back, under writers, searchers and readers of pages; every row is found always."""
    rotating = Rotating(two, tenant)
    async with at(two.one, tenant) as db:
        known = [h.email for h in await db[Holder].add_many([holder(f"k{i}", email=f"k{i}@x.org") for i in range(60)])]
        done, begin = asyncio.Event(), asyncio.Barrier(5)

        async def writes(app: Tallystick, mark: str) -> int:
            number = 0
            async with at(app, tenant) as mine:
                await begin.wait()
                while not done.is_set():
                    address = f"{mark}{number}@x.org"
                    row = await mine[Holder].add(holder(f"{mark}{number}", email=address))
                    row = await mine[Holder].update(row, email=f"z{address}")
                    with pytest.raises(Duplicate):
                        await mine[Holder].add(holder(f"{mark}{number}-", email=f"Z{address}"))
                    assert (await mine[Holder].one(Holder.email == f"z{address}")).id == row.id
                    assert not await mine[Holder].exists(Holder.email == address)
                    number += 1
            return number

        async def searches(app: Tallystick) -> int:
            number = 0
            async with at(app, tenant) as mine:
                await begin.wait()
                while not done.is_set():
                    first = await mine[Holder].page(one_of(Holder.email, known), limit=30)
                    assert first.next is not None
                    await asyncio.sleep(0)
                    rest = await mine[Holder].page(one_of(Holder.email, known), limit=30, after=first.next)
                    assert [h.email for h in (*first, *rest)] == known
                    found = await mine[Holder].find(Holder.Filter.parse({"email": "K7@x.org"}))
                    assert [h.email for h in found] == ["k7@x.org"]
                    number += 1
            return number

        async def rotates() -> None:
            await begin.wait()
            try:
                for generation in (2, 3, 4):
                    await rotating.rested()
                    (one,) = await reindex.rotate_index(db, "holder.email", batch=20)
                    assert one.generation == generation
            finally:
                done.set()

        jobs = [writes(two.one, "a"), writes(two.other, "b"), searches(two.one), searches(two.other)]
        *worked, _ = await asyncio.gather(*jobs, rotates())
        assert all(worked)
        assert set(await rotating.columns(db)) == {(None, 4)}


async def test_e6_a_process_that_slept_is_refused_and_goes_on(two: Two, tenant: TenantInfo, rotating: Rotating) -> None:
    async with at(two.one, tenant) as db, at(two.other, tenant) as late:
        await db[Holder].add(holder("a", email="a@example.org"))
        for _ in range(2):
            await rotating.rested()
            await reindex.rotate_index(db, "holder.email")

        async def adds(inside: Session) -> Any:
            return await inside[Holder].add(holder("c", email="c@example.org"))

        frozen(two.other, tenant)
        with pytest.raises(Serialization):
            async with late.transaction():
                await adds(late)
        frozen(two.other, tenant)
        await late.atomic(adds)
        frozen(two.other, tenant)
        await late[Holder].add(holder("d", email="d@example.org"))
        frozen(two.other, tenant)
        with pytest.raises(Duplicate):
            await late[Holder].add(holder("e", email="a@example.org"))
        frozen(two.other, tenant)
        row = (await late[Holder].find(Holder.code == "d"))[0]
        frozen(two.other, tenant)
        await late[Holder].update(row, email="f@example.org")
        assert await db[Holder].count(one_of(Holder.email, ["a@example.org", "c@example.org", "f@example.org"])) == 3
        # A snapshot from before a step writes nothing after it.
        with pytest.raises(Serialization):
            async with late.transaction(isolation="repeatable read"):
                await late[Holder].find()
                await rotating.rested()
                await rotating.of(db)._step("begin")
                await late[Holder].add(holder("g", email="g@example.org"))
        await reindex.rotate_index(db, "holder.email")
        assert set(await rotating.columns(db)) == {(None, 4)}


async def test_e6_nobody_else_moves_an_index(two: Two, tenant: TenantInfo, rotating: Rotating) -> None:
    async with at(two.one, tenant) as db:
        await db[Holder].add(holder("a", email="a@example.org"))
        for wrong in ("code", "email_bidx_next", "email", "x_bidx"):
            with pytest.raises(Invalid):
                await db.unit.change("SELECT tally.index_step('holder', $1, 'begin')", (wrong,))
        for step in ("switch", "settle", "nonsense", None):
            with pytest.raises(Conflict):
                await db.unit.change("SELECT tally.index_step('holder', 'email_bidx', $1)", (step,))
        with pytest.raises(Conflict):
            await db.unit.change("SELECT tally.clear_index('holder', 'email_bidx', 10)", ())
        with pytest.raises(Serialization):
            await db.unit.change("UPDATE tally.holder SET email_bidx = $2 WHERE tenant_id = $1", (tenant.id, b"\0\2x"))
        with pytest.raises(Denied):
            await db.unit.change("UPDATE tally.index_state SET generation = 9 WHERE tenant_id = $1", (tenant.id,))
        async with two.one.session(tenant, actor="a") as plain:
            with pytest.raises(RoleMissing):
                await reindex.rotate_index(plain)
        assert await rotating.columns(db) == [(1, None)]


async def test_e7_erased_in_one_process_is_erased_in_the_next_read_of_every_other(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as mine, at(two.other, tenant) as theirs:
        gone, stays = [
            await mine[Holder].add(holder(c, name=f"Name {c}", email=f"{c}@example.org")) for c in ("gone", "stays")
        ]
        row = await mine[Parcel].add(parcel(gone, **everywhere()))
        for db in (mine, theirs):
            assert (await db[Holder].get(gone.id)).name == "Name gone"
            assert await db[Parcel].reveal(row.id, Parcel.national_id, reason="a check") == "123-45-6789"
        assert len(two.other.keyring.of(tenant.id).by_id) >= 2
        early = await theirs[Parcel].get(row.id)
        await erase(mine, gone.id)
        await erase(mine, row.id)
        # What was read before shows what it showed then, looked at or not; what is read from now on shows nothing.
        assert str(early.national_id) == "••••6789"
        for db in (theirs, mine):
            assert (await db[Holder].get(gone.id)).name is None
            assert [h.name for h in await db[Holder].find(order=Holder.created_at)] == [None, "Name stays"]
            with pytest.raises(Erased):
                await db[Parcel].reveal(row.id, Parcel.national_id, reason="a check")
            assert str((await db[Parcel].get(row.id)).national_id) == "••••"
            assert (await db[Holder].get(stays.id)).email == "stays@example.org"
            with pytest.raises(Erased):
                await db[Holder].update(gone, name="Again")
            # What is not sealed can still be changed: the loan book goes on.
            await db[Parcel].update(await db[Parcel].get(row.id), count=(await db[Parcel].get(row.id)).count + 1)


async def test_e7_every_way_of_reading_hears_of_it(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as mine, at(two.other, tenant) as theirs:
        home = await mine[Holder].add(holder("a", name="Ada", email="a@example.org"))
        row = await mine[Parcel].add(parcel(home, **everywhere()))

        async def read(db: Session) -> list[Any]:
            loaded = (await db[Parcel].get(row.id, load=[Parcel.holder])).holder.value
            page = await db[Holder].page()
            streamed = [h async for h in db[Holder].stream()]
            locked = await db[Holder].one(Holder.code == "a")
            return [loaded.name, page.items[0].name, streamed[0].name, locked.name]

        assert await read(theirs) == ["Ada"] * 4
        await erase(mine, home.id)
        assert await read(theirs) == [None] * 4
        async with theirs.transaction():
            assert await read(theirs) == [None] * 4
            assert (await theirs[Holder].lock(home.id)).name is None


async def test_e7_an_erasure_that_was_rolled_back_hides_no_later_one(two: Two, tenant: TenantInfo) -> None:
    """The generation of a transaction that never was must not be taken for that of one which was."""

    class Undo(Exception):
        pass

    async with at(two.one, tenant) as mine, at(two.other, tenant) as theirs:
        one, other = [await mine[Holder].add(holder(c, name=f"Name {c}")) for c in "ab"]
        with pytest.raises(Undo):
            async with mine.transaction():
                await erase(mine, one.id)
                assert [h.name for h in await mine[Holder].find()] == [
                    None,
                    "Name b",
                ]
                raise Undo
        await erase(theirs, other.id)
        assert [h.name for h in await mine[Holder].find()] == ["Name a", None]
        await mine[Holder].update(await mine[Holder].get(one.id), name="New")
        assert (await theirs[Holder].get(one.id)).name == "New"


async def test_e7_a_key_that_was_rolled_back_is_not_kept(two: Two, tenant: TenantInfo) -> None:
    class Undo(Exception):
        pass

    async with at(two.one, tenant) as db:
        again = holder("a", name="Ada")
        with pytest.raises(Undo):
            async with db.transaction():
                await db[Holder].add(again)
                assert (await db[Holder].get(again.id)).name == "Ada"
                raise Undo
        async with db.transaction():
            with pytest.raises(Undo):
                async with db.transaction():
                    await db[Holder].add(again)
                    raise Undo
            await db[Holder].add(again)
        assert (await db[Holder].get(again.id)).name == "Ada"
        async with at(two.other, tenant) as theirs:
            assert (await theirs[Holder].get(again.id)).name == "Ada"


async def test_e8_a_backup_from_before_the_end_of_an_epoch_opens_nothing(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db, at(two.other, tenant) as theirs:
        gone, stays = [await db[Holder].add(holder(c, name=f"Name {c}")) for c in "ab"]
        async with two.ground.connected("superuser") as root:
            backup = await root.fetch(
                "SELECT id, wrapped, epoch FROM tally.data_key WHERE tenant_id = $1 AND subject = $2",
                tenant.id,
                gone.id,
            )
            await erase(db, gone.id)
            assert await rotation.rotate(db) == 2
            done = await rotation.rewrap(db)
            assert (done.done, done.left) == (1, 0)
            await rotation.destroy_epoch(db, 1)
            # The restored row is as it was, alive and wrapped; what wrapped it is gone.
            await root.execute("ALTER TABLE tally.data_key DISABLE TRIGGER USER")
            for row in backup:
                await root.execute(
                    "UPDATE tally.data_key SET state = 'live', wrapped = $2, epoch = $3 WHERE id = $1", *row
                )
            await root.execute(
                "DO $$ DECLARE t name; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = "
                "'tally.data_key'::regclass AND NOT tgisinternal LOOP "
                "EXECUTE format('ALTER TABLE tally.data_key ENABLE ALWAYS TRIGGER %I', t); END LOOP; END $$"
            )
        for keyring in (two.one.keyring, two.other.keyring):
            keyring.forget(tenant.id)
        for session in (db, theirs):
            assert (await session[Holder].get(gone.id)).name is None
            assert (await session[Holder].get(stays.id)).name == "Name b"


async def test_e9_fifty_writers_and_one_eraser(two: Two, tenant: TenantInfo) -> None:
    """After the eraser has committed there is no value of that person that anything could open, whoever was first."""
    async with at(two.one, tenant) as db:
        home = await db[Holder].add(holder("a", name="Ada"))
    stop, enough = asyncio.Event(), asyncio.Event()
    written = refused = 0

    async def write(number: int) -> None:
        nonlocal written, refused
        async with at((two.one, two.other)[number % 2], tenant) as db:
            while not stop.is_set():
                try:
                    row = await db[Holder].get(home.id)
                    if row.name is None:
                        raise Erased("x")
                    async with db.transaction():
                        await db[Holder].update(await db[Holder].lock(home.id), name=f"Ada {number} {written}")
                    written += 1
                    if written == 25:
                        enough.set()
                except Erased:
                    refused += 1
                    return
                except Serialization:
                    continue

    async def end() -> None:
        async with at(two.other, tenant) as db:
            await enough.wait()
            await erase(db, home.id)

    writers = [asyncio.create_task(write(n)) for n in range(50)]
    await asyncio.wait_for(end(), 30)
    done, late = await asyncio.wait(writers, timeout=20)
    stop.set()
    await asyncio.gather(*late)
    assert not late
    assert refused == 50
    assert written >= 25
    for task in done:
        task.result()
    async with at(two.one, tenant) as db:
        ((live,),) = await db.unit.call(
            "SELECT count(*) FROM tally.holder h JOIN tally.data_key k ON k.tenant_id = h.tenant_id "
            "AND k.key_id = substr(h.name, 3, 16) WHERE h.tenant_id = $1 AND k.state = 'live'",
            (tenant.id,),
        )
        assert live == 0
        assert (await db[Holder].get(home.id)).name is None


async def test_e9_a_stale_key_in_hand_cannot_write(two: Two, tenant: TenantInfo) -> None:
    """A writer that has sealed before and comes to write after the erasure."""
    async with at(two.one, tenant) as db, at(two.other, tenant) as theirs:
        home = await db[Holder].add(holder("a", name="Ada"))
        writer = await db.sealer.writer(spec_of(Holder), [home])
        await erase(theirs, home.id)
        envelope = writer.seal("holder", spec_of(Holder).fields["name"], "Late", home.id)
        from tallystick.codec import codec_of

        with pytest.raises(Erased):
            await db.unit.update(codec_of(spec_of(Holder)), {"name": envelope}, home.id, home.version)
        with pytest.raises(Erased):
            await db[Holder].add(holder("b", name="Ada", id=home.id))


async def test_e9_the_keys_of_one_person_are_made_once(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db:
        user = await db.users.add(User())

    async def add(number: int) -> None:
        from tests.attacks.test_secrets import loud_application

        async with at((two.one, two.other)[number % 2], tenant) as db:
            await db.applications.add(loud_application(applicant=user.ref, idempotency_key=str(number)))

    await asyncio.gather(*(add(n) for n in range(20)))
    async with at(two.other, tenant) as db:
        ((count,),) = await db.unit.call(
            "SELECT count(*) FROM tally.data_key WHERE tenant_id = $1 AND subject = $2 AND class = 'lending'",
            (tenant.id, user.id),
        )
        assert count == 1
        assert len(await db.applications.find()) == 20


async def test_e10_one_of_two_people_is_erased(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db:
        people = [await db.users.add(User(first_name=n)) for n in ("Ada", "Ben")]
        for person in people:
            await db[UserProfile].add(UserProfile(user=person.ref, legal_name=person.first_name))
        await erase(db, people[0].id, "identity")
    async with at(two.other, tenant) as db:
        assert [u.first_name for u in await db.users.find()] == [None, "Ben"]
        assert [p.legal_name for p in await db[UserProfile].find()] == [None, "Ben"]


async def test_e11_classes_are_erased_one_by_one(two: Two, tenant: TenantInfo) -> None:
    from tests.attacks.test_secrets import loud_application

    async with at(two.one, tenant) as db:
        user = await db.users.add(User(first_name="Ada"))
        made = await db.applications.add(loud_application(applicant=user.ref))
        await erase(db, user.id, "identity")
    async with at(two.other, tenant) as db:
        assert (await db.users.get(user.id)).first_name is None
        kept = await db.applications.get(made.id)
        assert kept.full_legal_name == made.full_legal_name
        await erase(db, user.id, "lending")
        assert (await db.applications.get(made.id)).full_legal_name == ERASED


async def test_e13_keys_come_back_from_escrow(two: Two, tenant: TenantInfo, tmp_path: Path) -> None:
    """The drill: the key folder is lost, and two officers bring it back."""
    from tallystick.privacy.escrow import create_officer, deposit, withdraw

    officers = [tmp_path / name for name in ("first", "second")]
    public = [create_officer(path) for path in officers]
    async with at(two.one, tenant) as db:
        home = await db[Holder].add(holder("a", name="Ada"))
        assert deposit(two.keys(), [tenant.id], public, tmp_path / "file") == 1
    lost = LocalKeys(ROOT, folder=tmp_path / "empty")
    ground = Ground(two.ground.server, two.ground.database, lost)
    async with ground.opened() as tally, at(tally, tenant) as db:
        with pytest.raises(Unavailable, match="Restore the key folder"):
            await db[Holder].get(home.id)
        assert withdraw(lost, officers, tmp_path / "file") == (1, 0)
        assert (await db[Holder].get(home.id)).name == "Ada"
        found = await rotation.verify(db, [spec_of(Holder)])
        assert (found.keys, found.values, found.failures) == ({1: 1}, 1, ())


async def test_e14_nothing_that_holds_keys_shows_or_gives_them(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db:
        home = await db[Holder].add(holder("a", name="Ada"))
        await db[Holder].get(home.id)
        material = os.urandom(32)
        key = DataKey(material)
        held = two.one.keyring.of(tenant.id)
        opener = await db.sealer.opener_of(set(held.by_id), held.generation)
        shown = []
        for one in (two.one.keys, two.one.keyring, held, held.by_id, held.epochs, key, opener, db.sealer, db):
            shown.append(f"{one!r} {one} {one!s:.500}")
        for one in (two.one.keys, key, *(h.key for h in held.by_id.values())):
            for act in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(Denied):
                    act(one)
        try:
            two.keys().epoch_key(tenant.id, 99)
        except TallystickError as problem:
            shown.append("".join(traceback.format_exception(problem)))
        text = " ".join(shown)
        for form in (ROOT.hex(), material.hex(), repr(ROOT)[2:20], repr(material)[2:20]):
            assert form not in text
        assert "Ada" not in text


async def test_a_read_of_edited_bytes_is_tampered_and_names_no_value(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db:
        home = await db[Holder].add(holder("a", name="Ada"))
        whole = (await cells(db, [Holder]))[0].envelope
        async with two.ground.connected("superuser") as root:
            await root.execute(
                f"SET tally.tenant = '{tenant.id}'; SET tally.actor = 'thief'; "
                "ALTER TABLE tally.holder DISABLE TRIGGER tally_sealed"
            )
            try:
                for edited in (
                    b"",
                    whole[:5],
                    whole[:45],
                    whole[:-1],
                    whole[:-1] + bytes([whole[-1] ^ 1]),
                    b"\x02" + whole[1:],
                    whole[:1] + b"\x09" + whole[2:],
                    whole[:2] + os.urandom(16) + whole[18:],
                    os.urandom(60),
                ):
                    await root.execute("UPDATE tally.holder SET name = $1 WHERE id = $2", edited, home.id)
                    for read in (db[Holder].get(home.id), db[Holder].find()):
                        with pytest.raises(Tampered) as caught:
                            await read
                        assert caught.value.remedy
            finally:
                await root.execute("ALTER TABLE tally.holder ENABLE ALWAYS TRIGGER tally_sealed")


async def test_the_wrong_root_key_is_told(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db:
        home = await db[Holder].add(holder("a", name="Ada"))
    wrong = Ground(two.ground.server, two.ground.database, LocalKeys(ROOT[::-1], folder=two.folder))
    async with wrong.opened() as tally, at(tally, tenant) as db:
        for act in (lambda: db[Holder].get(home.id), lambda: db[Holder].update(home, name="Ben")):
            with pytest.raises(Tampered, match="root key"):
                await act()


async def test_without_a_provider_it_is_told(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db:
        home = await db[Holder].add(holder("a", name="Ada"))
    bare = Ground(two.ground.server, two.ground.database, None)
    async with bare.opened() as tally, at(tally, tenant) as db:
        for act in (lambda: db[Holder].get(home.id), lambda: db[Holder].add(holder("b", name="B"))):
            with pytest.raises(Unavailable, match="TALLYSTICK_KEY_FILE"):
                await act()


async def test_development_keys_are_refused_on_a_server(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_ROOT_KEY", ROOT.hex())
    ground = Ground(two.ground.server, two.ground.database, LocalKeys.from_environment())
    with pytest.raises(Denied, match="embedded server only"):
        async with ground.opened():
            pass


async def test_the_application_cannot_bring_an_erased_key_back(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db:
        home = await db[Holder].add(holder("a", name="Ada"))
        ((before,),) = await db.unit.call("SELECT wrapped FROM tally.data_key WHERE tenant_id = $1", (tenant.id,))
        await erase(db, home.id)
        for sql, args in (
            ("UPDATE tally.data_key SET state = 'live', wrapped = $2 WHERE tenant_id = $1", (tenant.id, before)),
            ("UPDATE tally.data_key SET wrapped = $2 WHERE tenant_id = $1", (tenant.id, before)),
            ("UPDATE tally.data_key SET subject = $2 WHERE tenant_id = $1", (tenant.id, uuid7())),
            ("DELETE FROM tally.data_key WHERE tenant_id = $1", (tenant.id,)),
            ("UPDATE tally.key_state SET generation = 0 WHERE tenant_id = $1", (tenant.id,)),
        ):
            with pytest.raises(TallystickError):
                await db.unit.call(sql, args)


async def test_who_made_a_key_is_in_the_audit_log_and_the_key_is_not(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db:
        await db[Holder].add(holder("a", name="Ada"))
        entries = [e async for e in _entries(db)]
    assert entries
    assert all(e["actor"] == "a" for e in entries)
    assert all("wrapped" not in e["new"] for e in entries)


async def test_in_a_hardened_database(hard: Ground, key_file: Path, tmp_path: Path) -> None:
    """Keys are made, erased, rotated and ended under signed tenants as under plain ones."""
    ground = Ground(hard.server, hard.database, LocalKeys(ROOT, folder=tmp_path / "keys"))
    (tenant,) = await hard.tenants(1)
    async with ground.opened(tenant_key_file=key_file) as tally, at(tally, tenant) as db:
        gone, stays = [await db[Holder].add(holder(c, name=f"Name {c}")) for c in "ab"]
        await erase(db, gone.id)
        assert [h.name for h in await db[Holder].find()] == [None, "Name b"]
        with pytest.raises(Erased):
            await db[Holder].update(gone, name="Again")
        await rotation.rotate(db)
        assert (await rotation.rewrap(db)).done == 1
        await rotation.destroy_epoch(db, 1)
        assert (await db[Holder].get(stays.id)).name == "Name b"


async def test_in_a_sandbox(two: Two, tenant: TenantInfo) -> None:
    """What a test does to keys is undone with it, and what it has seen misleads nobody."""
    from tallystick.testing import Sandbox

    async with at(two.one, tenant) as db:
        home = await db[Holder].add(holder("a", name="Ada"))
        async with Sandbox(two.one) as sandbox, sandbox.session(tenant) as inside:
            other = await inside[Holder].add(holder("b", name="Ben"))
            assert [h.name for h in await inside[Holder].find()] == ["Ada", "Ben"]
            await erase(inside, home.id)
            assert [h.name for h in await inside[Holder].find()] == [None, "Ben"]
            await inside[Holder].update(other, name="Bob")
        assert [h.name for h in await db[Holder].find()] == ["Ada"]
        await db[Holder].update(home, name="Ann")
        assert (await db[Holder].get(home.id)).name == "Ann"


async def test_an_old_snapshot_makes_no_key_in_a_closed_epoch(two: Two, tenant: TenantInfo) -> None:
    async with at(two.one, tenant) as db, at(two.other, tenant) as late:
        await db[Holder].add(holder("a", name="Ada"))
        with pytest.raises(Serialization):
            async with late.transaction(isolation="repeatable read"):
                await late[Holder].find()
                await rotation.rotate(db)
                await rotation.rewrap(db)
                await late[Holder].add(holder("b", name="Ben"))
        await rotation.destroy_epoch(db, 1)
        await late[Holder].add(holder("b", name="Ben"))
        assert [h.name for h in await db[Holder].find()] == ["Ada", "Ben"]


async def _entries(db: Session) -> AsyncIterator[dict[str, Any]]:
    rows = await db.unit.call(
        "SELECT body FROM tally_audit.entry WHERE tenant_id = $1 AND \"table\" = 'data_key'",
        (db.tenant_id,),
    )
    for (body,) in rows:
        yield json.loads(body)
