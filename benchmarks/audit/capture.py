"""Writes to an audited table and to its twin without capture, in turns on one connection each."""

from __future__ import annotations

import contextlib
import gc
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.arena import connected, new_database
from benchmarks.figures import TIME, Row
from benchmarks.runner import note, percentile
from benchmarks.table import Payment, PaymentStatus, fresh, payment
from tallystick import Entity, Index, Rules, Session, Settings, Tallystick
from tallystick.entity import with_fields
from tallystick.schema.provision import provision
from tallystick.settings import connect_args

MANY = 10_000
BULK = 2_000


class AuditedPayment(Payment):
    """The same twelve columns, captured."""

    rules = Rules(Index("status", "received_at", query="payments of a status, newest first"), table="audited_payment")


@dataclass(frozen=True, slots=True)
class Aim:
    """What is measured, how often a turn calls it, and how many times dearer capture may make it."""

    name: str
    calls: int
    rounds: tuple[int, int]
    most: float | None


AIMS = (
    Aim("add", 50, (12, 40), 2.0),
    Aim("update", 50, (12, 40), 2.5),
    Aim("add_many (10,000)", 1, (4, 10), 3.5),
    # Alone it changes one column of each row in place, so nearly all of its time is the entries': no aim, but said.
    Aim("update_where (2,000)", 1, (4, 10), None),
)
KINDS: tuple[type[Entity], ...] = (Payment, AuditedPayment)


@contextlib.asynccontextmanager
async def opened(url: str | None, *, durable: bool = False) -> AsyncIterator[Tallystick]:
    """A database with both tables, and an application on it with one connection."""
    async with new_database(url) as (admin, app, password, roles, _):
        await provision(admin, app_password=password, roles=roles)
        async with connected(connect_args(admin)) as conn:
            name = connect_args(admin)["database"]
            for setting in ("jit = off", *(() if durable else ("synchronous_commit = off",))):
                await conn.execute(f'alter database "{name}" set {setting}')
        settings = Settings(database_url=app, admin_url=admin, role_prefix=roles.prefix, pool_max=1)
        async with Tallystick.open(entities=KINDS, domains=[], settings=settings) as tally:
            await tally.migrate()
            await tally.tenants.create("bench", name="bench")
            yield tally


def made(kind: type[Entity], count: int, chance: random.Random) -> list[Any]:
    """Entities that were not stored yet."""
    plain = [payment(draft) for draft in fresh(count, chance)]
    if kind is Payment:
        return plain
    names = ("id", "amount", "status", "reference", "received_at")
    return [kind(**{name: getattr(one, name) for name in names}) for one in plain]


async def turn(db: Session, kind: Any, name: str, calls: int, seed: int) -> list[float]:
    """Seconds of each call of one turn, with everything made before the clock starts."""
    chance = random.Random(f"{name} {seed}")
    repository = db[kind]
    work: list[Callable[[], Awaitable[Any]]] = []
    if name == "add":
        work = [partial(repository.add, item) for item in made(kind, calls + 1, chance)]
    elif name == "update":
        stored = await repository.add_many(made(kind, calls + 1, chance))
        work = [partial(repository.update, item, reference="changed") for item in stored]
    elif name.startswith("add_many"):
        work = [partial(repository.add_many, made(kind, MANY, chance)) for _ in range(calls)]
    else:
        failed = [with_fields(one, status=PaymentStatus.FAILED) for one in made(kind, BULK, chance)]
        await repository.add_many(failed)
        where = kind.status == PaymentStatus.FAILED
        work = [partial(repository.update_where, where, reference=f"{seed}-{n}") for n in range(calls)]
    gc.collect()
    taken = []
    for call in work:
        started = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - started)
    if name.startswith("update_where"):
        await repository.purge_where(kind.status == PaymentStatus.FAILED, reason="measured")
    # The first call of several fills caches that the other side's turn emptied.
    return taken[1:] if len(taken) > 1 else taken


async def measure(tally: Tallystick, *, quick: bool) -> list[Row]:
    """Rows of the report: medians of both sides, and what was aimed at."""
    rows = []
    async with tally.session("bench", actor="bench", permissions=("*",)) as db:
        for aim in AIMS:
            taken: dict[type[Entity], list[float]] = {kind: [] for kind in KINDS}
            for kind in KINDS:
                await turn(db, kind, aim.name, aim.calls, seed=0)
            for number in range(1, aim.rounds[0 if quick else 1] + 1):
                for kind in KINDS if number % 2 else KINDS[::-1]:
                    taken[kind] += await turn(db, kind, aim.name, aim.calls, seed=number)
            plain, audited = (1e6 * percentile(taken[kind], 0.5) for kind in KINDS)
            rows.append(Row(aim.name, TIME, audited, plain, audited / plain, aim.most, beside="not audited"))
            note(f"{aim.name}: {len(taken[Payment])} calls a side")
    return rows
