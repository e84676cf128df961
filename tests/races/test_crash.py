"""The server dies under sixteen writers: every error is typed, what was acknowledged stands, nothing is half there."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.entities import Job, Sink

from tallystick import CommitUnknown, Settings, Tallystick, TallystickError, Unavailable
from tallystick.testing.conformance import ENTITIES

N = 16


@pytest_asyncio.fixture(loop_scope="session")
async def frail(pytestconfig: pytest.Config) -> AsyncIterator[Tallystick]:
    """An application on an embedded server of its own, which may be killed."""
    import shutil
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="tallystick-crash-"))
    # The account that root's servers run as has to reach it, or the server goes to a system directory and stays there.
    os.chmod(root, 0o711)
    try:
        settings = Settings.load({}, data_dir=root / "data", pool_max=N)
        async with Tallystick.open(domains=["identity"], entities=ENTITIES, settings=settings) as tally:
            await tally.migrate()
            await tally.tenants.create("frail", name="Frail")
            yield tally
    finally:
        shutil.rmtree(root, ignore_errors=True)


def kill(tally: Tallystick) -> None:
    assert tally.server is not None
    process = tally.server._cluster.postmaster()
    assert process is not None
    os.kill(process, signal.SIGKILL)


class Book:
    """What the writers were told."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.refused: set[str] = set()
        self.unknown: set[str] = set()

    def note(self, name: str, problem: TallystickError | None) -> None:
        assert problem is None or isinstance(problem, (Unavailable, CommitUnknown)), repr(problem)
        place = self.kept if problem is None else self.unknown if isinstance(problem, CommitUnknown) else self.refused
        place.add(name)


async def _run(tally: Tallystick, work, seconds: float = 0.4) -> Book:
    book, stop, begun = Book(), asyncio.Event(), asyncio.Event()

    async def writer(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            name = f"{number}.{turn}"
            problem = None
            try:
                async with tally.session("frail", actor=name, permissions=("*",)) as db:
                    await work(db, name)
            except TallystickError as caught:
                problem = caught
            book.note(name, problem)
            if problem is not None:
                return
            begun.set()

    async with asyncio.timeout(90), asyncio.TaskGroup() as writers:
        for number in range(N):
            writers.create_task(writer(number))
        # On a slow machine nobody may have had an answer by then.
        await begun.wait()
        await asyncio.sleep(seconds)
        kill(tally)
        await asyncio.sleep(0.2)
        stop.set()
    return book


async def test_transactions_are_whole_or_absent(frail: Tallystick):
    async def work(db, name: str) -> None:
        async with db.transaction():
            await db[Sink].add(Sink(label=name, number=1))
            await db[Sink].add_many([Sink(label=name, number=2), Sink(label=name, number=3)])

    for _ in range(3):
        book = await _run(frail, work)
        async with frail.session("frail", actor="afterwards") as db:
            found: dict[str, int] = {}
            async for sink in db[Sink].stream():
                found[sink.label] = found.get(sink.label, 0) + 1
            assert set(found.values()) == {3}
            assert book.kept <= set(found)
            assert not book.refused & set(found)
            assert set(found) - book.kept <= book.unknown
            assert book.kept
            await db[Sink].purge_where(Sink.number > 0, reason="next round")


async def test_a_single_write_that_was_cut_off_is_not_called_refused(frail: Tallystick):
    async def work(db, name: str) -> None:
        await db[Sink].add(Sink(label=name))

    for _ in range(3):
        book = await _run(frail, work)
        async with frail.session("frail", actor="afterwards") as db:
            found = {sink.label async for sink in db[Sink].stream()}
            assert book.kept <= found
            assert not book.refused & found
            assert found - book.kept <= book.unknown
            await db[Sink].purge_where(Sink.number == 0, reason="next round")


async def test_reads_and_claims_fail_typed_and_recover(frail: Tallystick):
    async with frail.session("frail", actor="setup") as db:
        await db[Job].add_many([Job(name=str(n)) for n in range(2_000)])

    async def work(db, name: str) -> None:
        async for item in db[Job].claim(limit=1):
            async with item:
                await db[Job].count()

    await _run(frail, work, 0.2)
    async with frail.session("frail", actor="afterwards") as db:
        assert await db[Job].count() == 2_000
        async for item in db[Job].claim(limit=5):
            async with item:
                pass


async def test_atomic_does_not_replay_an_unknown_commit(frail: Tallystick):
    runs: dict[str, int] = {}

    async def work(db, name: str) -> None:
        async def fn(inner) -> None:
            runs[name] = runs.get(name, 0) + 1
            await inner[Sink].add(Sink(label=name))

        await db.atomic(fn)

    book = await _run(frail, work)
    assert all(runs[name] == 1 for name in book.unknown)
    async with frail.session("frail", actor="afterwards") as db:
        labels = [sink.label async for sink in db[Sink].stream()]
        assert len(labels) == len(set(labels))
        assert book.kept <= set(labels) <= book.kept | book.unknown


async def test_a_server_that_was_left_is_not_started_again(frail: Tallystick):
    server = frail.server
    assert server is not None
    kill(frail)
    await server.stop()
    with pytest.raises(Unavailable, match="left already"):
        await server.recover()
    assert server._cluster.postmaster() is None
