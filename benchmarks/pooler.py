"""``./run bench pooler``: the same calls through PgBouncer in transaction mode, where nothing outlives a transaction.

Every side works on the generated table, with row-level security, as the application's role, on one client connection
to the same pooler; so each has to say the tenant and the actor again in every transaction. The side by hand says it in
the packet that begins, as somebody would who counts round trips, and keeps no statements, which is asyncpg's advice
behind a pooler. SQLAlchemy's ORM says it in a statement of its own, and names statements as its documentation has it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, declared_attr
from tests.bouncer import MISSING, PGBOUNCER, pgbouncer

from benchmarks.arena import Arena, arena
from benchmarks.figures import TIME, Row, text_of
from benchmarks.runner import note
from benchmarks.subjects import ACTOR, Target, asyncpg_raw, tallystick
from benchmarks.subjects.mapped import Columns, objects, versioned
from benchmarks.table import PAGE, TABLE, Draft, PaymentStatus, fresh
from benchmarks.table import Payment as Ours
from tallystick import Settings, Tallystick
from tallystick.errors import TallystickError
from tallystick.settings import build_url, connect_args

OPERATIONS = {"get": 20, "page of 20": 15, "add": 15, "transaction of three writes": 8}
"""What is timed, and the calls in one turn."""
_SCOPE = "set_config('tally.tenant', {tenant}, true), set_config('tally.actor', {actor}, true)"


class Pooled(tallystick.Subject):
    """An application that was told of the pooler, and nothing else."""

    async def open(self) -> None:
        target = self.target
        url = build_url(
            host=target.host, port=target.port, user=target.user, password=target.password, database=target.database
        )
        settings = Settings(database_url=url, role_prefix=target.prefix, pool_max=1, pooler="transaction")
        self.tally_context = Tallystick.open(entities=[Ours], domains=[], settings=settings)
        self.tally = await self.tally_context.__aenter__()
        self.session_context = self.tally.session(target.tenant_slug, actor=ACTOR)
        self.db = await self.session_context.__aenter__()
        self.payments = self.db[Ours]


class ByHand(asyncpg_raw.Subject):
    """Bare asyncpg: begin and scope in one packet, the statements, commit."""

    async def open(self) -> None:
        self.conn = await asyncpg.connect(**(self.target.asyncpg | {"server_settings": {}}), statement_cache_size=0)
        self.prepare()
        # Neither can hold a quote: one is a UUID, the other a constant.
        scope = _SCOPE.format(tenant=f"'{self.tenant}'", actor=f"'{ACTOR}'")
        self.begin = f"begin; select {scope}"

    @contextlib.asynccontextmanager
    async def scoped(self) -> AsyncIterator[None]:
        await self.conn.execute(self.begin)
        try:
            yield
        except BaseException:
            await self.conn.execute("rollback")
            raise
        await self.conn.execute("commit")

    async def get(self, id: UUID) -> Ours:
        async with self.scoped():
            return await super().get(id)

    async def page(self) -> tuple[list[Ours], bool]:
        async with self.scoped():
            return await super().page()

    async def add(self, item: Ours) -> Ours:
        async with self.scoped():
            return await super().add(item)

    async def transaction(self, first: Ours, second: Ours, item: Ours, reference: str) -> Ours:
        async with self.scoped():
            await super().add(first)
            await super().add(second)
            return await super().update(item, reference)


class Base(DeclarativeBase):
    pass


class Payment(Columns, Base):
    __tablename__ = TABLE

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        return versioned(cls)


class Mapped:
    """SQLAlchemy's ORM: a session a unit of work, which says the tenant first."""

    name = "sqlalchemy-orm"

    def __init__(self, target: Target) -> None:
        self.target = target
        self.scope = sa.text(f"select {_SCOPE.format(tenant=':tenant', actor=':actor')}")
        self.given = {"tenant": str(target.tenant), "actor": ACTOR}

    async def open(self) -> None:
        connecting = self.target.asyncpg | {
            "server_settings": {},
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
        }
        self.engine = create_async_engine(
            "postgresql+asyncpg://", connect_args=connecting, pool_size=1, pool_pre_ping=False
        )
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.first = (
            sa.select(Payment)
            .where(Payment.tenant_id == self.target.tenant, Payment.status == PaymentStatus.POSTED)
            .order_by(Payment.received_at.desc(), Payment.id.desc())
            .limit(PAGE + 1)
        )

    async def close(self) -> None:
        await self.engine.dispose()

    def make(self, drafts: Sequence[Draft]) -> list[Any]:
        return objects(Payment, self.target, drafts)

    @contextlib.asynccontextmanager
    async def scoped(self) -> AsyncIterator[AsyncSession]:
        async with self.sessions() as session, session.begin():
            await session.execute(self.scope, self.given)
            yield session

    async def get(self, id: UUID) -> Any:
        async with self.scoped() as session:
            return await session.get_one(Payment, (self.target.tenant, id))

    async def page(self) -> tuple[list[Any], bool]:
        async with self.scoped() as session:
            items = (await session.scalars(self.first)).all()
            return list(items[:PAGE]), len(items) > PAGE

    def items(self, page: Any) -> Any:
        return page

    async def add(self, item: Any) -> Any:
        async with self.scoped() as session:
            session.add(item)
        return item

    async def transaction(self, first: Any, second: Any, item: Any, reference: str) -> Any:
        async with self.scoped() as session:
            session.add_all([first, second, item])
            item.reference = reference
        return item


SIDES = (("Tallystick", Pooled), ("asyncpg by hand", ByHand), ("SQLAlchemy ORM", Mapped))


async def measure(made: Arena, *, quick: bool, rounds: int | None = None) -> list[Row]:
    assert made.settings.database_url is not None
    turns = rounds or (16 if quick else 80)
    ids = await made.ids()
    async with contextlib.AsyncExitStack() as stack:
        url = stack.enter_context(pgbouncer(made.settings.database_url))
        where = connect_args(url)
        target = made.target(TABLE)
        names = ("host", "port", "user", "password", "database")
        place = Target(
            **{n: where[n] for n in names}, schema=target.schema, table=TABLE, tenant=target.tenant,
            tenant_slug=target.tenant_slug, prefix=target.prefix,
        )  # fmt: skip
        sides: list[Any] = []
        for _, kind in SIDES:
            side = kind(place)
            await side.open()
            stack.push_async_callback(side.close)
            sides.append(side)
        stack.push_async_callback(made.tidy, TABLE)
        await same(sides, ids[-1])
        held = [await side.get(ids[at]) for at, side in enumerate(sides)]
        taken: dict[str, list[list[float]]] = {name: [[] for _ in sides] for name in OPERATIONS}
        for turn in range(turns + 1):
            for name, calls in OPERATIONS.items():
                for step in range(len(sides)):
                    at = (turn + step) % len(sides)
                    spent = await _turn(name, sides[at], at, held, ids, calls, turn)
                    if turn:  # The first warms up.
                        taken[name][at] += spent
        for at, side in enumerate(sides):
            if (await side.get(held[at].id)).version != held[at].version:
                raise AssertionError(f"{side.name} does not write what it says")
    rows = []
    for name, found in taken.items():
        ours, *others = (median(one) for one in found)
        for (label, _), theirs in zip(SIDES[1:], others, strict=True):
            rows.append(Row(f"{name}, beside {label}", TIME, ours, theirs, ours / theirs, beside=label))
    return rows


async def same(sides: Sequence[Any], id: UUID) -> None:
    """Everybody reads the same rows, or nothing is timed."""
    seen = []
    for side in sides:
        items, more = side.items(await side.page())
        one = await side.get(id)
        seen.append(([str(i.id) for i in items], more, str(one.id), one.reference, one.version))
    if any(s != seen[0] for s in seen) or len(seen[0][0]) != PAGE:
        raise AssertionError("the sides do not read the same rows")


async def _turn(
    name: str, side: Any, at: int, held: list[Any], ids: Sequence[UUID], calls: int, turn: int
) -> list[float]:
    chance = random.Random(f"{name} {at} {turn}")
    drafts = side.make(fresh(2 * calls, chance))
    wanted = random.Random(turn).sample(ids[len(held) :], calls)
    gc.collect()
    spent = []
    for number in range(calls):
        started = time.perf_counter_ns()
        if name == "get":
            await side.get(wanted[number])
        elif name == "add":
            await side.add(drafts[number])
        elif name.startswith("page"):
            await side.page()
        else:
            held[at] = await side.transaction(drafts[2 * number], drafts[2 * number + 1], held[at], f"{turn}-{number}")
        spent.append((time.perf_counter_ns() - started) / 1_000)
    return spent


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks pooler", description=__doc__)
    made.add_argument("--quick", action="store_true", help="fewer rounds over as many rows")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    made.add_argument("--url", help="a server to use instead of the embedded one, as a role that may create databases")
    return made


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if PGBOUNCER is None:
        note(f"skipped: {MISSING}")
        return 0

    async def run() -> list[Row]:
        async with arena(options.url, durable=False, pin="off") as place:
            return await measure(place, quick=options.quick)

    try:
        rows = asyncio.run(run())
    except TallystickError as problem:
        note(str(problem))
        return 1
    print(text_of(rows))
    print("\nMedians through PgBouncer in transaction mode; every side has row-level security and says the tenant.")
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": [row.as_json() for row in rows]}, indent=1) + "\n")
    return 0
