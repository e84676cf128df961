"""Repayments under kill -9, many times: nothing acknowledged is lost or applied twice, a key settles doubt.

Most runs kill clients, the others a backend or the whole server under sixteen clients, which costs a restart.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest
import pytest_asyncio
from tests.lending.money import agree
from tests.lending.support import active, product
from tests.soak import KILLS

from tallystick import CommitUnknown, Settings, Tallystick, Unavailable, usd
from tallystick.domains.idempotency import CommandKey
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.receipts import LoanReceipt
from tallystick.domains.lending.transactions import LoanTransaction, TransactionKind
from tallystick.session import Session

R = TypeVar("R")
N = 16
FEB = date(2026, 2, 1)
CENT = usd("0.01")
BACKEND_KILLS, SERVER_KILLS = KILLS * 15 // 100, KILLS * 7 // 100
CLIENT_KILLS = KILLS - BACKEND_KILLS - SERVER_KILLS
REPAYER = Path(__file__).with_name("repayer.py")


@dataclass
class Told:
    """What the payers were told, by key: the loan, and the receipt's id where there was one."""

    loans: dict[str, UUID] = field(default_factory=dict)
    kept: dict[str, UUID] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    @property
    def doubtful(self) -> set[str]:
        return set(self.loans) - set(self.kept) - self.refused


async def made_of(db: Session, op: str = "loans.repayment") -> dict[str, UUID]:
    """What the database says was done, by key."""
    return {k.key: k.results[0] async for k in db[CommandKey].stream(CommandKey.op == op)}


async def answered(ask: Callable[[], Awaitable[R]]) -> tuple[R, bool]:
    """Ask until there is an answer; and whether the first try had it."""
    first, patience = True, time.monotonic() + 60
    while time.monotonic() < patience:
        try:
            return await ask(), first
        except (Unavailable, CommitUnknown):
            # Connections to the server that died are found out one after the other.
            first = False
            await asyncio.sleep(0.05)
    raise AssertionError("the server was given up")


async def repeated(db: Session, told: Told, key: str) -> tuple[LoanReceipt, bool]:
    """A payment once more, with its key."""
    return await answered(lambda: db.loans.repay(told.loans[key], CENT, on=FEB, key=key))


async def settle(db: Session, told: Told) -> None:
    """Compare what was told with what is there, then repeat every key that was not answered, and some that were."""
    found = await made_of(db)
    assert {k: found.get(k) for k in told.kept} == told.kept, "an acknowledged payment is lost"
    assert not told.refused & set(found), "a payment that was refused is there"
    had = set(found) - set(told.kept)
    assert had <= told.doubtful
    for key in told.doubtful | told.refused | set(random.Random(1).sample(sorted(told.kept), min(20, len(told.kept)))):
        again, first = await repeated(db, told, key)
        assert again.replayed == (key in found) or not first
        assert again.id == found.get(key, again.id)


async def counted(db: Session, loans: list[Loan], told: Told) -> None:
    """Every payment that was asked for is there once, and the loans say so."""
    payments = await db[LoanTransaction].find(LoanTransaction.kind == TransactionKind.REPAYMENT)
    done = await made_of(db)
    assert sorted(t.id for t in payments) == sorted(done.values())
    assert set(done) == set(told.loans)
    for loan in loans:
        mine = [k for k, id in told.loans.items() if id == loan.id]
        assert (await db.loans.get(loan.id)).outstanding == loan.outstanding - CENT * len(mine)
        assert sorted(t.seq for t in payments if t.loan.id == loan.id) == list(range(2, len(mine) + 2))
    await agree(db)


@pytest.fixture
def notes() -> object:
    with tempfile.TemporaryDirectory(prefix="tally-repayer-") as made:
        yield Path(made)


async def test_clients_are_killed(tally: Tallystick, tenant: str, db: Session, race: object, notes: Path):
    what = await product(db)
    loans = [await active(db, what, "900000") for _ in range(6)]
    work = {
        "settings": {"database_url": tally.settings.database_url, "pool_max": 2},
        "tenant": tenant,
        "loans": [str(one.id) for one in loans],
        "children": CLIENT_KILLS,
        "at_once": 6,
        "seed": 17,
        "notes": str(notes),
    }
    file = notes / "work.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(work))
    ours = await _connected(db)
    with (notes / "output").open("wb") as output:
        killer = subprocess.Popen(  # noqa: ASYNC220  it has to be polled, and killed by its id
            [sys.executable, str(REPAYER), str(file)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            async with asyncio.timeout(90):
                while killer.poll() is None:  # noqa: ASYNC110  another process
                    await asyncio.sleep(0.1)
        finally:
            if killer.poll() is None:
                killer.kill()
                killer.wait()
    assert killer.returncode == 0, (notes / "output").read_text()
    told = Told()
    for number in range(CLIENT_KILLS):
        for line in (notes / f"{number}.txt").read_text().splitlines():
            match line.split():
                case ["try", key, loan]:
                    told.loans[key] = UUID(loan)
                case ["did", key, id]:
                    told.kept[key] = UUID(id)
                case ["ready"]:
                    pass
                case other:
                    pytest.fail(f"{number}: {other}")
    assert len({key.partition(".")[0] for key in told.loans}) > CLIENT_KILLS // 2
    assert len(told.doubtful) <= CLIENT_KILLS
    await _quiet(db, ours)
    await settle(db, told)
    await counted(db, loans, told)


async def _connected(db: Session) -> set[int]:
    """The processes of the server that serve the application's role on this database."""
    sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
    return {row[0] for row in await db.unit.call(sql, ())}


async def _quiet(db: Session, ours: set[int]) -> None:
    """Wait until the server has noticed that the clients are gone: what they had sent last may still be at work."""
    patience = time.monotonic() + 60
    while await _connected(db) - ours and time.monotonic() < patience:  # noqa: ASYNC110  the server says nothing
        await asyncio.sleep(0.1)


@pytest_asyncio.fixture(loop_scope="session")
async def frail(pytestconfig: pytest.Config) -> AsyncIterator[Tallystick]:
    """An application on an embedded server of its own, which may be killed."""
    import shutil

    root = Path(tempfile.mkdtemp(prefix="tallystick-lending-crash-"))
    # The account that root's servers run as has to reach it.
    os.chmod(root, 0o711)
    try:
        settings = Settings.load({}, data_dir=root / "data", pool_max=N)
        async with Tallystick.open(domains=["lending"], settings=settings) as tally:
            await tally.migrate()
            await tally.tenants.create("frail", name="Frail")
            yield tally
    finally:
        shutil.rmtree(root, ignore_errors=True)


def postmaster(tally: Tallystick) -> int:
    assert tally.server is not None
    process = tally.server._cluster.postmaster()
    assert process is not None
    return process


def backends(tally: Tallystick) -> list[int]:
    """The server's processes that serve our application."""
    parent = postmaster(tally)
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    found = []
    for child in children:
        try:
            title = Path(f"/proc/{child}/cmdline").read_text()
        except OSError:
            continue
        if "_app" in title:
            found.append(int(child))
    return found


async def _run(
    tally: Tallystick, run: int, loans: list[Loan], told: Told, chance: random.Random, *, all_: bool
) -> None:
    """Sixteen payers, and a process of the server that dies under them."""
    stop = asyncio.Event()
    started = asyncio.Event()

    async def payer(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            key, loan = f"{run}.{number}.{turn}", loans[(number * 5 + turn) % len(loans)]
            told.loans[key] = loan.id
            try:
                async with tally.session("frail", actor=f"payer:{number}", permissions=("*",)) as db:
                    told.kept[key] = (await db.loans.repay(loan, CENT, on=FEB, key=key)).id
                    started.set()
            except CommitUnknown:
                return
            except Unavailable:
                told.refused.add(key)
                return

    async with asyncio.timeout(120), asyncio.TaskGroup() as payers:
        for number in range(N):
            payers.create_task(payer(number))
        await started.wait()
        await asyncio.sleep(chance.uniform(0.0, 0.25))
        victim = postmaster(tally) if all_ else chance.choice(backends(tally))
        os.kill(victim, signal.SIGKILL)
        await asyncio.sleep(0.02)
        stop.set()


async def test_backends_and_servers_are_killed(frail: Tallystick):
    chance = random.Random(29)
    async with frail.session("frail", actor="setup", permissions=("*",)) as db:
        what = await product(db)
        loans = [await active(db, what, "900000") for _ in range(10)]
    total = Told()
    kills = [True] * SERVER_KILLS + [False] * BACKEND_KILLS
    chance.shuffle(kills)
    for run, all_ in enumerate(kills):
        told = Told()
        await _run(frail, run, loans, told, chance, all_=all_)
        async with frail.session("frail", actor="afterwards", permissions=("*",)) as db:
            found, _ = await answered(lambda: made_of(db))
            assert {k: found.get(k) for k in told.kept} == told.kept, "an acknowledged payment is lost"
            assert not told.refused & set(found), "a payment that was refused is there"
            for key in told.doubtful | told.refused:
                again, first = await repeated(db, told, key)
                assert again.replayed == (key in found) or not first
                assert again.id == found.get(key, again.id)
                told.kept[key] = again.id
        total.loans |= told.loans
        total.kept |= told.kept
    async with frail.session("frail", actor="afterwards", permissions=("*",)) as db:
        await settle(db, total)
        await counted(db, loans, total)
