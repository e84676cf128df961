"""The online runner: one migrator at a time, short locks, retries, and statements that run outside a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from tallystick.errors import MigrationUnsafe, NotProvisioned, TallystickError, Unavailable, Unsupported
from tallystick.schema.connect import acting_as_owner, connect
from tallystick.schema.ddl import Engine
from tallystick.schema.model import quote_name
from tallystick.schema.roles import Roles
from tallystick.settings import connect_args

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

LOCK_TIMEOUT_MS = 500
PATIENCE = 60.0
_LOCK = 0x74616C6C79006D67
_RETRY = ("55P03", "40P01")
_CATALOG_RACE = (
    "tuple concurrently updated",
    "tuple concurrently deleted",
    "cache lookup failed",
    "could not open relation",
)
"""What the server says, under XX000, of a catalog row that another backend changed in the same moment."""
_UNHURRIED = (
    "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN "
    "('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')"
)
"""Not every server has all of them."""
_SESSION = (
    "SET search_path = pg_catalog",
    f"SET lock_timeout = {LOCK_TIMEOUT_MS}",
    _UNHURRIED,
    # What fills in batches while writers go on could not be ordered under what a database may have by default.
    "SET default_transaction_isolation = 'read committed'",
    "SET row_security = on",
    "SET client_min_messages = warning",
)


@dataclass(frozen=True, slots=True)
class Progress:
    """One piece of news: what is being done to what, and how far it is."""

    what: str
    item: str
    done: int = 0
    total: int = 0
    detail: str = ""

    def __str__(self) -> str:
        count = f" {self.done}/{self.total}" if self.total else ""
        return f"{self.what} {self.item}{count}" + (f": {self.detail}" if self.detail else "")


Report = Callable[[Progress], None]


class Runner:
    """A migrating connection, held together with the lock that keeps other migrators away."""

    def __init__(
        self,
        *,
        lock: asyncpg.Connection,
        connection: AsyncConnection,
        roles: Roles,
        engine: Engine,
        patience: float,
        report: Report | None,
    ) -> None:
        self.lock, self.connection, self.roles = lock, connection, roles
        self.engine: Engine = engine
        self.patience, self._report = patience, report

    def report(self, what: str, item: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        """Tell whoever listens."""
        if self._report is not None:
            self._report(Progress(what, item, done, total, detail))

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncpg.Connection]:
        """The lock's connection in a transaction as the owner, to look at what is there."""
        async with acting_as_owner(self.lock, self.roles):
            yield self.lock

    async def attempt(self, item: str, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction of its own, again and again while the tables it needs are busy.

        A lock is waited for half a second, because whoever queues behind a waiting ALTER TABLE waits as well; then
        everything is rolled back and tried again after a random pause. Raises ``Unavailable`` when patience ends.
        """
        deadline = time.monotonic() + self.patience
        for round_ in range(1_000_000):
            if self.lock.is_closed():
                raise Unavailable(
                    "The connection that keeps other migrators away was lost.",
                    remedy="Run the migration again; what was done stays done.",
                )
            problem: DBAPIError
            try:
                async with self._watching():
                    return await self.connection.run_sync(work)
            except DBAPIError as error:
                problem = error
            with contextlib.suppress(DBAPIError):
                await self.connection.rollback()
            state = str(getattr(problem.orig, "sqlstate", None) or "")
            if state not in _RETRY and not (state == "XX000" and _told(problem.orig).startswith(_CATALOG_RACE)):
                raise failed(item, problem)
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"{item}: a table it changes stayed busy for {self.patience:.0f} s.",
                    remedy="End the long transactions that pg_stat_activity shows, then run it again.",
                )
            pause = random.uniform(0.5, 1.0) * min(0.1 * 2 ** min(round_, 6), 3.0)  # noqa: S311  jitter, not a secret
            self.report("waiting for", item, detail=f"busy table, next try in {pause:.1f} s")
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Report how far an index build is, while it runs."""
        if self._report is None:
            yield
            return
        done = asyncio.Event()
        watching = asyncio.create_task(self._watch(done))
        try:
            yield
        finally:
            done.set()
            await watching

    async def _watch(self, done: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(done.wait(), 1.0)
            if done.is_set() or self.lock.is_closed():
                return
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                found = await self.lock.fetchrow(_BUILDING)
                if found is not None:
                    self.report("building", found["index"], found["done"], found["total"], found["phase"])


_BUILDING = """
SELECT c.relname::text AS index, p.phase, p.blocks_done + p.tuples_done + p.lockers_done AS done,
  p.blocks_total + p.tuples_total + p.lockers_total AS total
FROM pg_catalog.pg_stat_progress_create_index p JOIN pg_catalog.pg_class c ON c.oid = p.index_relid
WHERE p.datname = pg_catalog.current_database() LIMIT 1
"""


_NAMED = ("23502", "23503", "23505", "23514")
"""Broken constraints, whose first line is the name; a value may be in the detail, which is not repeated."""


def failed(item: str, problem: DBAPIError) -> TallystickError:
    """What a failed statement means. The server's text is repeated only where it cannot hold a stored value."""
    original = problem.orig
    state = str(getattr(original, "sqlstate", None) or "")
    if not state:
        return Unavailable(
            f"{item}: the connection to the database was lost.",
            remedy="Run the migration again; what was done stays done.",
        )
    if state == "42501":
        return NotProvisioned(f"{item}: the admin role lacks a right.")
    if state == "57014":
        return Unavailable(f"{item}: the statement was cancelled.", remedy="Run the migration again.")
    told = f": {_told(original)}" if state[:2] in ("0A", "2B", "42", "55", "XX") or state in _NAMED else ""
    return MigrationUnsafe(
        f"{item} failed with SQLSTATE {state} and was rolled back{told}.",
        remedy="Mend the revision or the rows it stumbles over, then run it again.",
    )


def _told(problem: Any) -> str:
    text = str(problem.__cause__ or problem).strip().splitlines()
    return text[0].rstrip(".") if text else ""


@contextlib.asynccontextmanager
async def runner(
    admin_url: str, roles: Roles, engine: Engine = "plain", *, patience: float = PATIENCE, report: Report | None = None
) -> AsyncIterator[Runner]:
    """Connect as the owner, alone.

    Raises ``Unavailable`` when another migrator does not finish in time or the server does not answer,
    ``NotProvisioned`` when the owner role or the schemas are missing, ``Unsupported`` through a transaction pooler.
    """
    arguments = connect_args(admin_url, name="TALLYSTICK_ADMIN_URL")
    lock = await connect(arguments)
    sql_engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: connect(arguments), poolclass=NullPool
    )
    try:
        await _alone(lock, patience, report)
        connection = await sql_engine.connect()
        try:
            await _prepare(connection, roles)
            await refuse_pooler(lock, connection)
            run = Runner(lock=lock, connection=connection, roles=roles, engine=engine, patience=patience, report=report)
            yield run
        finally:
            with contextlib.suppress(DBAPIError, OSError, asyncpg.PostgresError):
                await connection.close()
    finally:
        await sql_engine.dispose()
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError):
            # A pooler would keep the server connection, and the lock with it.
            await lock.fetchval("SELECT pg_catalog.pg_advisory_unlock_all()", timeout=10)
            await lock.close(timeout=10)


async def _alone(lock: asyncpg.Connection, patience: float, report: Report | None) -> None:
    try:
        await lock.execute(_UNHURRIED)
        await _take(lock, patience, report)
    except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
        problem = _pooler()
    else:
        return
    raise problem


async def _take(lock: asyncpg.Connection, patience: float, report: Report | None) -> None:
    deadline = time.monotonic() + patience
    told = False
    while not await lock.fetchval("SELECT pg_catalog.pg_try_advisory_lock($1)", _LOCK):
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"Another migrator has been at work for {patience:.0f} s.",
                remedy="Wait for it to finish, then run the migration again.",
            )
        if report is not None and not told:
            report(Progress("waiting for", "another migrator"))
            told = True
        await asyncio.sleep(random.uniform(0.1, 0.3))  # noqa: S311  jitter, not a secret


async def _prepare(connection: AsyncConnection, roles: Roles) -> None:
    rows = await connection.exec_driver_sql(
        "SELECT (SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::text[]))::int, "
        "(SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = ANY ($2::text[]))::int",
        (list(roles.all), ["tally", "tally_ref"]),
    )
    counts: tuple[int, ...] = tuple(rows.one())
    if counts[0] < len(roles.all) or counts[1] < 2:
        raise NotProvisioned("The roles or schemas of Tallystick are missing in this database.")
    try:
        for statement in (*_SESSION, f"SET ROLE {quote_name(roles.owner)}"):
            await connection.exec_driver_sql(statement)
        await connection.commit()
    except DBAPIError:
        problem = NotProvisioned(f"The admin role may not become {roles.owner}.")
    else:
        return
    raise problem


async def refuse_pooler(lock: asyncpg.Connection, connection: AsyncConnection) -> None:
    """Raise ``Unsupported`` when session state does not stay: locks and settings of a migrator would go astray.

    A transaction is held open on the second connection, so that a transaction pooler must have given it the server
    connection that the first one took its lock on.
    """
    mine = await lock.fetchval("SELECT pg_catalog.pg_backend_pid()")
    other = (await connection.exec_driver_sql("SELECT pg_catalog.pg_backend_pid()")).scalar_one()
    again = await lock.fetchrow(
        "SELECT pg_catalog.pg_backend_pid() AS pid, EXISTS (SELECT FROM pg_catalog.pg_locks "
        "WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid() AND granted) AS held"
    )
    await connection.rollback()
    assert again is not None
    if other == mine or again["pid"] != mine or not again["held"]:
        raise _pooler()


def _pooler() -> Unsupported:
    return Unsupported(
        "TALLYSTICK_ADMIN_URL leads through a transaction pooler.",
        remedy="Point it at the server itself; only DATABASE_URL may go through the pooler.",
    )
