"""The server, tenant and twin tables of a run, and the connections of whoever is measured."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.arena import connected, new_database, parent_of, pin_cores
from benchmarks.subjects import ACTOR
from tallystick import Settings, Tallystick
from tallystick.privacy.keys import LocalKeys
from tallystick.schema.provision import provision
from tallystick.settings import connect_args

SLUG = "bench"
CALLERS = 8

_CAPTURE = """
select tgrelid::regclass::text as table, tgname as name from pg_trigger
where tgfoid = 'tally_audit.capture()'::regprocedure and not tgisinternal
"""
_FOREIGN_KEYS = """
select conrelid::regclass::text as source, conname, pg_get_constraintdef(oid) as text
from pg_constraint where contype = 'f' and conrelid = any ($1::text[]::regclass[]) order by conname
"""


_INDEXES = """
select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as text from pg_index
where indrelid = any ($1::text[]::regclass[]) and not exists (select from pg_constraint where conindid = indexrelid)
order by indexrelid
"""
_COLUMNS = """
select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attgenerated = ''
"""


def source_of(table: str) -> str:
    """A generated table by its whole name; one of another schema than ``tally`` is named with it."""
    return table if "." in table else f"tally.{table}"


def twin_of(table: str) -> str:
    return f"hand.{table.rpartition('.')[2]}"


@dataclass(slots=True)
class Place:
    """``admin`` acts as the owner of the tables, for the tenant; the measured connect as the application."""

    settings: Settings
    keys: LocalKeys
    tally: Tallystick
    tenant: UUID
    admin: asyncpg.Connection
    embedded: bool
    superuser: bool

    @contextlib.asynccontextmanager
    async def by_hand(self, count: int = 1, *, durable: bool = False) -> AsyncIterator[list[asyncpg.Connection]]:
        """Connections of the application's role for statements written by hand."""
        where = connect_args(self.settings.database_url or "") | {"server_settings": _for_all(durable)}
        async with contextlib.AsyncExitStack() as stack:
            yield [await stack.enter_async_context(connected(where)) for _ in range(count)]

    @contextlib.asynccontextmanager
    async def opened(self, pool: int = 1) -> AsyncIterator[Tallystick]:
        """An application of its own, so that its pool is as large as the other side's."""
        settings = Settings(
            database_url=self.settings.database_url, role_prefix=self.settings.role_prefix, pool_max=pool
        )
        async with Tallystick.open(settings=settings, keys=self.keys) as tally:
            yield tally

    async def durable(self, yes: bool) -> None:
        """Whether commits of connections that are opened from now on wait for the disk."""
        name = connect_args(self.settings.database_url or "")["database"]
        await self.admin.execute(f'reset role; alter database "{name}" set synchronous_commit = {_on(yes)}')
        await self.admin.execute(f'set role "{self.settings.roles.owner}"')

    async def copy(self, *tables: str) -> None:
        """Give the twins the rows that the tables have, but for columns that the database generates."""
        async with self.trusted():
            for source in map(source_of, tables):
                names = await self.admin.fetchval(_COLUMNS, source)
                await self.admin.execute(
                    f"insert into {twin_of(source)} ({names}) select {names} from {source} on conflict do nothing"
                )

    async def unreferenced(self, *tables: str) -> None:
        """Take the references of twins away."""
        for row in await self.admin.fetch(_FOREIGN_KEYS, [f"hand.{table}" for table in tables]):
            await self.admin.execute(f'alter table {row["source"]} drop constraint "{row["conname"]}"')

    @contextlib.asynccontextmanager
    async def bare(self, *tables: str) -> AsyncIterator[None]:
        """A block in which tables and their twins have only primary keys: a million rows are written faster.

        References are not looked up again for what was written, which the policies would make a look-up a row.
        """
        names = [name for table in tables for name in (source_of(table), twin_of(table))]
        indexes = await self.admin.fetch(_INDEXES, names)
        references = await self.admin.fetch(_FOREIGN_KEYS, names)
        for row in references:
            await self.admin.execute(f'alter table {row["source"]} drop constraint "{row["conname"]}"')
        for row in indexes:
            await self.admin.execute(f"drop index {row['name']}")
        yield
        await self.admin.execute("set maintenance_work_mem = '256MB'")
        for row in indexes:
            await self.admin.execute(row["text"])
        for row in references:
            await self.admin.execute(
                f'alter table {row["source"]} add constraint "{row["conname"]}" {row["text"]} not valid'
            )

    @contextlib.asynccontextmanager
    async def trusted(self, *guarded: str) -> AsyncIterator[None]:
        """A block in which ``admin`` writes rows as they are: no triggers, and no references looked up where it may."""
        if self.superuser:
            await self.admin.execute("reset role; set session_replication_role = replica")
        else:
            for table in guarded:
                await self.admin.execute(f"alter table tally.{table} disable trigger user")
        try:
            yield
        finally:
            if self.superuser:
                await self.admin.execute("reset session_replication_role")
                await self.admin.execute(f'set role "{self.settings.roles.owner}"')
            else:
                for table in guarded:
                    await self.admin.execute(f"alter table tally.{table} enable trigger user")

    async def analyze(self, *tables: str, freeze: bool = False) -> None:
        """Settle both kinds of tables, and let no background worker change one in the middle of a row."""
        for name in [name for table in tables for name in (source_of(table), twin_of(table))]:
            await self.admin.execute(f"alter table {name} set (autovacuum_enabled = off)")
            await self.admin.execute(f"vacuum ({'freeze, ' if freeze else ''}analyze) {name}")


def _on(yes: bool) -> str:
    return "on" if yes else "off"


def _for_all(durable: bool) -> dict[str, str]:
    return {"tally.actor": ACTOR, "synchronous_commit": _on(durable)}


@contextlib.asynccontextmanager
async def place(url: str | None, twins: Sequence[str]) -> AsyncIterator[Place]:
    """Make a database with all domains, one tenant and the twins of these tables; gone again afterwards."""
    async with contextlib.AsyncExitStack() as stack:
        admin_url, app_url, password, roles, embedded = await stack.enter_async_context(new_database(url))
        await provision(admin_url, app_password=password, roles=roles)
        settings = Settings(database_url=app_url, admin_url=admin_url, role_prefix=roles.prefix)
        where = connect_args(admin_url) | {"server_settings": {"tally.actor": ACTOR, "synchronous_commit": "off"}}
        admin = await stack.enter_async_context(connected(where))
        name = where["database"]
        for setting in ("jit = off", "random_page_cost = 1.1", "synchronous_commit = off"):
            await admin.execute(f'alter database "{name}" set {setting}')
        keys = LocalKeys(secrets.token_bytes(32))
        tally = await stack.enter_async_context(Tallystick.open(settings=settings, keys=keys))
        await tally.migrate()
        tenant = (await tally.tenants.create(SLUG, name="Benchmark")).id
        superuser = await admin.fetchval("select rolsuper from pg_roles where rolname = current_user")
        await admin.execute(f'grant create, temporary on database "{name}" to "{roles.owner}"')
        await admin.execute(f'set role "{roles.owner}"')
        await admin.execute("select set_config('tally.tenant', $1, false)", str(tenant))
        await without_capture(admin)
        await make_twins(admin, roles.app, twins)
        yield Place(settings, keys, tally, tenant, admin, embedded, superuser)


async def without_capture(admin: asyncpg.Connection) -> None:
    """Take the audit's triggers away: the side written by hand keeps no log either."""
    for row in await admin.fetch(_CAPTURE):
        await admin.execute(f'drop trigger "{row["name"]}" on {row["table"]}')


async def make_twins(admin: asyncpg.Connection, app_role: str, tables: Sequence[str]) -> None:
    """Clone tables into the schema ``hand``: no policies, no triggers; references stay within it where they can."""
    await admin.execute("create schema hand")
    twins = {source_of(table): twin_of(table) for table in tables}
    for source, twin in twins.items():
        await admin.execute(f"create table {twin} (like {source} including all)")
        if options := await admin.fetchval("select reloptions from pg_class where oid = $1::text::regclass", source):
            await admin.execute(f"alter table {twin} set ({', '.join(options)})")
    for row in await admin.fetch(_FOREIGN_KEYS, list(twins)):
        text = row["text"]
        for source, twin in twins.items():
            text = text.replace(f"REFERENCES {source}(", f"REFERENCES {twin}(")
        await admin.execute(f'alter table {twins[row["source"]]} add constraint "{row["conname"]}" {text}')
    await admin.execute(f'grant usage on schema hand to "{app_role}"')
    await admin.execute(f'grant select, insert, update on all tables in schema hand to "{app_role}"')


@contextlib.asynccontextmanager
async def pinned(made: Place, pin: str) -> AsyncIterator[str]:
    """Client and embedded server on cores of their own, or on one, for connections that are opened in the block."""
    if (was := await pin_cores(made.admin, pin if made.embedded else "off")) == "off":
        yield was
        return
    backend = await made.admin.fetchval("select pg_backend_pid()")
    try:
        yield was
    finally:
        for process in (0, backend, parent_of(backend)):
            os.sched_setaffinity(process, range(os.cpu_count() or 1))


async def rows_of(conn: Any, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    """Rows as plain tuples, to be compared."""
    return [tuple(row) for row in await conn.fetch(sql, *args)]
