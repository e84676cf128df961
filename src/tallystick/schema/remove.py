"""Taking Tallystick out of a database again, and leaving the rest of it exactly as it was."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tallystick.errors import (
    Conflict,
    MigrationUnsafe,
    NotProvisioned,
    StillReferenced,
    TallystickError,
    Unavailable,
)
from tallystick.schema import remove_facts as ask
from tallystick.schema.connect import connect
from tallystick.schema.online import _LOCK
from tallystick.schema.roles import ALL_SCHEMAS, Roles, quoted
from tallystick.settings import connect_args

_LOCK_TIMEOUT_MS = 500
_ELSEWHERE = "used by"
_GRANTORS_SINCE = 16
_BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


@dataclass(frozen=True, slots=True)
class OurSchema:
    """One of our schemas, and how much is in it."""

    name: str
    owner: str
    tables: int
    functions: int


@dataclass(frozen=True, slots=True)
class Hanging:
    """Something of the host's that needs ours or lies among it; ``sql`` drops or moves it, where that is known."""

    what: str
    sql: str = ""


@dataclass(frozen=True, slots=True)
class HeldData:
    """A table that holds something: its size, and how many rows the server's statistics know of."""

    table: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What ``remove`` would drop, and what stands in its way. ``kept`` says why a role would stay.

    ``joined`` are roles of the host's that may act as ours, which ends with the role or is taken back.
    """

    database: str
    schemas: tuple[OurSchema, ...]
    drops: tuple[str, ...]
    kept: Mapping[str, str]
    foreign: tuple[str, ...]
    hanging: tuple[Hanging, ...]
    joined: tuple[str, ...]
    tenants: int | None
    data: tuple[HeldData, ...]
    sessions: Mapping[str, int]

    @property
    def empty(self) -> bool:
        """Whether nothing of ours is there."""
        return not self.schemas and not self.drops and not self.kept

    def refusals(self, *, data_too: bool = False) -> tuple[TallystickError, ...]:
        """Every error that ``remove`` would raise, first things first."""
        found: list[TallystickError] = []
        if self.foreign:
            found.append(
                Conflict(
                    f"These schemas bear our names and are not ours: {', '.join(self.foreign)}.",
                    rule="schema-owner",
                    remedy="They are left alone. Check TALLYSTICK_ROLE_PREFIX, or rename them.",
                )
            )
        if self.hanging:
            sql = "\n".join(h.sql for h in self.hanging if h.sql)
            found.append(
                StillReferenced(
                    f"Objects of the host need ours or lie among them: {'; '.join(h.what for h in self.hanging)}.",
                    rule="host",
                    remedy="Drop or move them in a revision of the host's first" + (f":\n{sql}" if sql else "."),
                )
            )
        if self.data and not data_too:
            tenants = "an unknown number of tenants" if self.tenants is None else f"{self.tenants} tenants"
            size = sum(d.bytes for d in self.data)
            found.append(
                Conflict(
                    f"The ledgers, records and audit logs of {tenants} would go ({size // 1024:,} KiB).",
                    rule="data",
                    remedy="Export first: `tallystick audit export --tenant NAME FILE` writes its log, `tallystick "
                    "privacy offboard FOLDER --tenant NAME` everything of a tenant (and destroys its keys), a "
                    "superuser's pg_dump --schema='tally*' keeps it all. Then give --data-too (data_too=True).",
                )
            )
        if self.sessions:
            who = ", ".join(f"{role} ({count})" for role, count in self.sessions.items())
            found.append(
                Conflict(
                    f"The application is still connected: {who}.",
                    rule="sessions",
                    remedy="Stop every process that uses DATABASE_URL or TALLYSTICK_SEAL_URL first.",
                )
            )
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Removal:
    """What one run dropped; ``kept`` says why a role stayed, with the statement that drops it."""

    database: str
    schemas: tuple[str, ...]
    roles: tuple[str, ...]
    kept: Mapping[str, str]
    seconds: float


async def plan_removal(admin_url: str, *, roles: Roles | None = None) -> RemovalPlan:
    """Say what ``remove`` would drop and what stands in its way, in one read-only transaction.

    Raises ``Unavailable`` and ``NotProvisioned`` when the server cannot be reached or refuses the login.
    """
    conn = await connect(connect_args(admin_url, name="TALLYSTICK_ADMIN_URL"))
    try:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            await conn.execute("SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL statement_timeout = 0")
            return await _plan(conn, roles or Roles())
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        problem = Unavailable(
            f"The database could not be looked at ({type(error).__name__}).",
            remedy="Try again, and look at the server's log when it stays so.",
        )
    finally:
        conn.terminate()
    raise problem


async def remove(
    admin_url: str, *, roles: Roles | None = None, data_too: bool = False, patience: float = 60.0
) -> Removal:
    """Drop our schemas with all that is in them, and our roles where nothing else lives by them, in one transaction.

    Nothing of the host's is dropped or altered: what hangs on ours is looked for first, and a fingerprint of everything
    else is compared before the commit. A second run finds nothing to do. Locks are waited for half a second and tried
    again for ``patience`` seconds. Raises ``StillReferenced`` while foreign keys or views of the host's point at our
    tables, ``Conflict`` while tenants have data and ``data_too`` is false, while the application is connected, or when
    a schema is not ours; ``NotProvisioned`` without the right to become the owners, ``Unavailable``.
    """
    roles, started = roles or Roles(), time.monotonic()
    arguments = connect_args(admin_url, name="TALLYSTICK_ADMIN_URL")
    while True:
        conn = await connect(arguments)
        problem: TallystickError
        try:
            async with conn.transaction(isolation="read_committed"):
                database = await _database(conn)
                schemas, dropped, kept = await _remove(conn, roles, data_too)
            return Removal(database, schemas, dropped, kept, time.monotonic() - started)
        except _BUSY:
            problem = Unavailable(
                f"A table stayed busy for {patience:.0f} s; nothing was removed.",
                remedy="End the long transactions that pg_stat_activity and pg_prepared_xacts show, then run it again.",
            )
        except asyncpg.InsufficientPrivilegeError as error:
            raise NotProvisioned(
                f"Nothing was removed: {error.args[0]}.",
                remedy=f"Use the role that provisioned: it may become {roles.owner} and {roles.audit}.",
            ) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise Unavailable(
                f"The removal broke off and was rolled back ({type(error).__name__}).",
                remedy="Look at the server's log, then run it again.",
            ) from error
        finally:
            conn.terminate()
        if time.monotonic() - started >= patience:
            raise problem
        await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311  jitter, not a secret


async def _database(conn: asyncpg.Connection) -> str:
    return str(await conn.fetchval("SELECT pg_catalog.current_database()"))


async def _plan(conn: asyncpg.Connection, roles: Roles) -> RemovalPlan:
    ours, names = list(ALL_SCHEMAS), list(roles.all)
    schemas = tuple(OurSchema(**r) for r in await conn.fetch(ask.SCHEMAS, ours))
    wanted = {schema: roles.audit if schema == "tally_audit" else roles.owner for schema in ALL_SCHEMAS}
    hanging = [_hanging(r) for r in await conn.fetch(ask.HANGING, ours)]
    hanging += [Hanging(**r) for r in await conn.fetch(ask.INSIDE, ours, [roles.owner, roles.audit])]
    found = await _role_rows(conn, roles)
    tenants = await _tenants(conn, roles)
    data = [] if tenants == 0 else await conn.fetch(ask.DATA)
    return RemovalPlan(
        database=await _database(conn),
        schemas=schemas,
        drops=tuple(role for role, why in found.items() if not why),
        kept={role: why for role, why in found.items() if why},
        foreign=tuple(f"{s.name} (of {s.owner})" for s in schemas if s.owner != wanted[s.name]),
        hanging=tuple(hanging),
        joined=tuple(dict.fromkeys(r["role"] for r in await conn.fetch(ask.JOINED, roles.app, names))),
        tenants=tenants,
        data=tuple(HeldData(f"{r['schema']}.{r['table']}", r["bytes"], r["rows"]) for r in data),
        sessions={r["role"]: r["sessions"] for r in await conn.fetch(ask.USERS, names)},
    )


def _hanging(row: asyncpg.Record) -> Hanging:
    if row["constraint"] is None:
        return Hanging(row["what"])
    name = quoted(row["constraint"])
    return Hanging(
        f"foreign key {name} of {row['table']} on {row['target']}",
        f"ALTER TABLE {row['table']} DROP CONSTRAINT {name};",
    )


async def _tenants(conn: asyncpg.Connection, roles: Roles) -> int | None:
    """How many tenants are registered, or None when this role may not know."""
    if not await conn.fetchval(ask.REGISTERED):
        return 0
    try:
        async with conn.transaction():
            await conn.execute(f"SET LOCAL ROLE {quoted(roles.owner)}")
            count = await conn.fetchval(ask.TENANTS)
            await conn.execute("RESET ROLE")
            return int(count or 0)
    except asyncpg.InsufficientPrivilegeError:
        return None


async def _role_rows(conn: asyncpg.Connection, roles: Roles) -> dict[str, str]:
    """Our roles that exist, each with why it has to stay, or an empty text."""
    rows = await conn.fetch(ask.ROLES, list(roles.all), list(ALL_SCHEMAS))
    return {r["role"]: _why(r) for r in rows}


def _why(row: Any) -> str:
    if row["databases"]:
        return f"{_ELSEWHERE} {_some(row['databases'])}"
    if row["here"]:
        return f"needed by {_some(row['here'])}"
    if row["groups"]:
        return f"not ours: a member of {_some(row['groups'])}"
    return "not ours: it may do what no role of ours may" if row["mighty"] else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(sorted(names)[:3]) + more


async def _remove(
    conn: asyncpg.Connection, roles: Roles, data_too: bool
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    await conn.execute(
        f"SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}; "
        "SET LOCAL statement_timeout = 0; SET LOCAL client_min_messages = error"
    )
    if not await conn.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
        raise Unavailable("A migration is under way.", remedy="Wait for it to finish, then run the removal again.")
    plan = await _plan(conn, roles)
    if refusals := plan.refusals(data_too=data_too):
        raise refusals[0]
    before = await conn.fetchval(ask.REST, list(ALL_SCHEMAS))
    there = [s.name for s in plan.schemas]
    # The audit trail first: dropping its functions with the tables that call them would want the owner's rights.
    for owner, mine in (
        (roles.audit, [s for s in there if s == "tally_audit"]),
        (roles.owner, [s for s in there if s != "tally_audit"]),
    ):
        if mine:
            await conn.execute(f"SET LOCAL ROLE {quoted(owner)}")
            await conn.execute(f"DROP SCHEMA {', '.join(mine)} CASCADE")
            await conn.execute("RESET ROLE")
    dropped, kept = await _drop_roles(conn, roles)
    if await conn.fetchval(ask.REST, list(ALL_SCHEMAS)) != before:
        raise MigrationUnsafe(
            "The rest of the database changed meanwhile; the removal was rolled back.",
            remedy="Run it again while nobody else alters tables.",
        )
    return tuple(there), dropped, kept


async def _drop_roles(conn: asyncpg.Connection, roles: Roles) -> tuple[tuple[str, ...], dict[str, str]]:
    database = quoted(await _database(conn))
    for row in await conn.fetch(ask.CONNECTS, list(roles.all)):
        await conn.execute(f"REVOKE ALL ON DATABASE {database} FROM {quoted(row[0])}")
    dropped: list[str] = []
    kept: dict[str, str] = {}
    found = await _role_rows(conn, roles)
    for role in (r for r, why in found.items() if why):
        kept[role] = found[role]
    for role in (r for r, why in found.items() if not why):
        try:
            async with conn.transaction():
                await conn.execute(f"DROP ROLE {quoted(role)}")
        except asyncpg.InsufficientPrivilegeError:
            kept[role] = f"made by another; whoever made it may DROP ROLE {role}"
        except asyncpg.DependentObjectsStillExistError:
            kept[role] = "something on the server still needs it"
        else:
            dropped.append(role)
    if roles.app in kept and (left := await _part(conn, roles, shared=kept[roles.app].startswith(_ELSEWHERE))):
        kept[roles.app] += f"; {_some(left)} may still act as it"
    return tuple(dropped), kept


async def _part(conn: asyncpg.Connection, roles: Roles, *, shared: bool) -> list[str]:
    """Take back what let roles of the host's act as ours; answers those that still may.

    Another database may live by the membership as it does by the role, so then nothing is taken back.
    """
    left: list[str] = []
    granted_by = conn.get_server_version().major >= _GRANTORS_SINCE
    for row in await conn.fetch(ask.JOINED, roles.app, list(roles.all)):
        if shared:
            left.append(row["role"])
            continue
        by = f" GRANTED BY {quoted(row['grantor'])}" if granted_by else ""
        try:
            async with conn.transaction():
                await conn.execute(f"REVOKE {quoted(roles.app)} FROM {quoted(row['role'])}{by}")
        except asyncpg.InsufficientPrivilegeError:
            left.append(row["role"])
    return left
