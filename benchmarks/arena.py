"""The server, database, tenants and two tables of one run, and who may touch them."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from benchmarks import table
from benchmarks.subjects import ACTOR, Target
from tallystick import Settings, Tallystick
from tallystick.errors import NotProvisioned, Unavailable
from tallystick.schema.provision import provision
from tallystick.schema.roles import Roles
from tallystick.settings import build_url, connect_args


@dataclass(slots=True)
class Arena:
    """Everything a run needs. ``admin`` acts as the owner of the tables; the subjects connect as the application."""

    settings: Settings
    tally: Tallystick
    admin: asyncpg.Connection
    tenants: dict[str, UUID]
    embedded: bool
    pinned: str = "off"

    def target(self, table_name: str) -> Target:
        where = connect_args(self.settings.database_url or "")
        slug = table.TENANTS[0]
        return Target(
            host=where["host"],
            port=where["port"],
            user=where["user"],
            password=where["password"],
            database=where["database"],
            schema=table.SCHEMA,
            table=table_name,
            tenant=self.tenants[slug],
            tenant_slug=slug,
            prefix=self.settings.role_prefix,
        )

    async def tidy(self, table_name: str) -> None:
        """Take out what a run wrote, and give the table back the shape it had."""
        name = f"{table.SCHEMA}.{table_name}"
        async with self.admin.transaction():
            await self.admin.execute("select set_config('tally.tenant', $1, true)", str(self.tenants[table.TENANTS[0]]))
            await self.admin.execute(
                f"delete from {name} where tenant_id = $1 and reference like '{table.NEW}%'",
                self.tenants[table.TENANTS[0]],
            )
        await self.admin.execute(f"vacuum (analyze) {name}")

    async def ids(self) -> list[UUID]:
        """Ids to read and to update: pending rows of the first tenant, so that pages of posted ones never change."""
        rows = await self.admin.fetch(
            f"select id from {table.SCHEMA}.{table.TWIN} where tenant_id = $1 and status = 'pending' order by id",
            self.tenants[table.TENANTS[0]],
        )
        return [row["id"] for row in rows]


@contextlib.asynccontextmanager
async def new_database(url: str | None) -> AsyncIterator[tuple[str, str, str, Roles, bool]]:
    """(admin URL, application URL, application password, roles, whether we started the server) of a fresh database."""
    if url is None:
        from tallystick.stores.embedded import EmbeddedServer

        async with await EmbeddedServer.start(temporary=True) as server:
            name = "tallystick"
            await server.ensure_database(name)
            yield server.url("admin", name), server.url("app", name), server.password("app"), server.roles, True
        return
    mark = secrets.token_hex(4)
    name, roles = f"tallystick_bench_{mark}", Roles(f"bench_{mark}")
    where = connect_args(url)
    async with connected(where) as conn:
        if not await conn.fetchval("select rolsuper or rolcreatedb from pg_roles where rolname = current_user"):
            raise NotProvisioned(
                "The role of --url may not create a database.",
                remedy="Grant it CREATEDB and CREATEROLE; the run makes a database of its own and drops it again.",
            )
        await conn.execute(f"create database {name}")
    try:
        admin = urlsplit(url)._replace(path=f"/{name}").geturl()
        password = secrets.token_urlsafe(24)
        app = build_url(
            host=where["host"], port=where["port"], user=roles.app, password=password, database=name,
            sslmode="" if where["ssl"] is False else "verify-full",
        )  # fmt: skip
        yield admin, app, password, roles, False
    finally:
        async with connected(where) as conn:
            await conn.execute(f"drop database if exists {name} with (force)")
            for role in roles.all:
                await conn.execute(f"drop role if exists {role}")


@contextlib.asynccontextmanager
async def connected(where: dict[str, Any]) -> AsyncIterator[asyncpg.Connection]:
    problem = None
    try:
        conn = await asyncpg.connect(**where)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as refused:
        problem = type(refused).__name__
    if problem is not None:
        raise Unavailable(
            f"The server refused the connection ({problem}).",
            remedy="Give --url a role that may connect, and create databases and roles.",
        )
    try:
        yield conn
    finally:
        await conn.close()


@contextlib.asynccontextmanager
async def arena(url: str | None, *, durable: bool, pin: str) -> AsyncIterator[Arena]:
    """Make the database, both tables and their rows; gone again afterwards.

    Unless ``durable``, commits do not wait for the disk: its flush takes the same time for every subject, so leaving
    it out makes the differences between them larger, not smaller.
    """
    async with contextlib.AsyncExitStack() as stack:
        admin_url, app_url, password, roles, embedded = await stack.enter_async_context(new_database(url))
        await provision(admin_url, app_password=password, roles=roles)
        settings = Settings(database_url=app_url, admin_url=admin_url, role_prefix=roles.prefix, pool_max=20)
        async with connected(connect_args(admin_url)) as conn:
            database = connect_args(admin_url)["database"]
            # For every subject alike. The table fits into memory, and random_page_cost says so: at its default the
            # planner changes its mind about `find` with whether LIMIT is a literal or a parameter.
            for setting in ("jit = off", "random_page_cost = 1.1", *(() if durable else ("synchronous_commit = off",))):
                await conn.execute(f'alter database "{database}" set {setting}')
        tally = await stack.enter_async_context(
            Tallystick.open(entities=[table.Payment], domains=[], settings=settings)
        )
        await tally.migrate()
        tenants = {slug: (await tally.tenants.create(slug, name=slug)).id for slug in table.TENANTS}
        where = connect_args(admin_url) | {"server_settings": {"tally.actor": ACTOR}}
        admin = await stack.enter_async_context(connected(where))
        await admin.execute(f'set role "{roles.owner}"')
        made = Arena(settings, tally, admin, tenants, embedded)
        made.pinned = await pin_cores(admin, pin if embedded else "off")
        await table.make_twin(admin, roles.app)
        await _fill(made)
        yield made


async def _fill(made: Arena) -> None:
    slugs = list(made.tenants)
    async with contextlib.AsyncExitStack() as stack:
        repositories = [
            (await stack.enter_async_context(made.tally.session(slug, actor="seed")))[table.Payment] for slug in slugs
        ]
        for at, drafts in table.seeded():
            await repositories[at].add_many([table.payment(draft) for draft in drafts])
            await made.admin.copy_records_to_table(
                table.TWIN,
                schema_name=table.SCHEMA,
                columns=("tenant_id", "id", "amount", "asset", "status", "reference", "received_at"),
                records=[(made.tenants[slugs[at]], *draft) for draft in drafts],
            )
    for name in (table.TABLE, table.TWIN):
        # Both stay as they are: no background worker changes one of them in the middle of a row of the report.
        await made.admin.execute(f"alter table {table.SCHEMA}.{name} set (autovacuum_enabled = off)")
        await made.admin.execute(f"vacuum (freeze, analyze) {table.SCHEMA}.{name}")


def parent_of(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))


async def pin_cores(admin: asyncpg.Connection, pin: str) -> str:
    """Keep this process and the server's on cores of their own, or on one; what was done.

    Where the scheduler happens to put a connection's server process decides whether each message wakes a sleeping
    core, which on a virtual machine doubles the time of a short statement, for one subject and not for another.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if pin == "off" or len(cores) < 2:
        return "off"
    backend = await admin.fetchval("select pg_backend_pid()")
    server = parent_of(backend)
    theirs = set(cores[1:]) if pin == "apart" else {cores[0]}
    os.sched_setaffinity(0, {cores[0]})
    for process in (server, backend):
        os.sched_setaffinity(process, theirs)
    return pin
