"""Empty, provisioned databases, and snapshots of everything a migration could have changed."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tallystick.schema.provision import provision
from tallystick.schema.roles import Roles, quoted
from tallystick.settings import build_url, connect_args
from tallystick.testing.server import KitServer

_numbers = itertools.count(1)
PASSWORD = "correct horse battery staple"
KIT = ("kit_0001", "kit_0002", "kit_0003", "kit_0004")
_OBJECTS = """
SELECT n.nspname || '.' || c.relname AS name, 'relation ' || c.relkind::text AS kind,
  concat_ws(' ', c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner),
    (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(c.relacl) a), obj_description(c.oid, 'pg_class'),
    (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation, a.attnotnull,
       a.attgenerated, pg_get_expr(d.adbin, d.adrelid), a.attacl::text), ';' ORDER BY a.attname)
     FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)) AS body
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname LIKE 'tally%' AND c.relkind NOT IN ('i', 'I')
UNION ALL SELECT c.relname, 'index',
  concat_ws(' ', pg_get_indexdef(c.oid), i.indisvalid, obj_description(c.oid, 'pg_class'))
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname LIKE 'tally%'
UNION ALL SELECT k.conrelid::regclass || '.' || k.conname, 'constraint',
  pg_get_constraintdef(k.oid) || k.convalidated::text
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE n.nspname LIKE 'tally%' AND k.contype <> 'n'
UNION ALL SELECT p.polrelid::regclass || '.' || p.polname, 'policy',
  concat_ws(' ', p.polpermissive, p.polcmd, p.polroles, pg_get_expr(p.polqual, p.polrelid),
    pg_get_expr(p.polwithcheck, p.polrelid)) FROM pg_policy p
UNION ALL SELECT t.tgrelid::regclass || '.' || t.tgname, 'trigger', pg_get_triggerdef(t.oid) || t.tgenabled::text
FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL SELECT p.oid::regprocedure::text, 'function', pg_get_functiondef(p.oid) || pg_get_userbyid(p.proowner)
  || coalesce(p.proacl::text, 'everybody')
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname LIKE 'tally%'
"""


@dataclass(frozen=True)
class Database:
    """One database of the run's server."""

    name: str
    admin: str
    app: str
    roles: Roles
    superuser: str

    async def connect(self, role: str = "admin") -> asyncpg.Connection:
        """A raw connection as the admin, the application, the owner, or a superuser."""
        urls = {"app": self.app, "superuser": self.superuser}
        conn = await asyncpg.connect(**connect_args(urls.get(role, self.admin)))
        if role == "owner":
            await conn.execute(f"SET ROLE {self.roles.owner}")
        return conn

    async def run(self, sql: str, *args: Any, role: str = "owner") -> list[asyncpg.Record]:
        """One statement on a connection of its own; a script when there are no arguments."""
        conn = await self.connect(role)
        try:
            return (
                await conn.fetch(sql, *args)
                if args or sql.lstrip().upper().startswith("SELECT")
                else (await conn.execute(sql) and [])
            )
        finally:
            await conn.close()

    async def snapshot(self) -> dict[tuple[str, str], str]:
        """Everything in our schemas that SQL can show, column order aside."""
        conn = await self.connect()
        try:
            await conn.execute("SET search_path = pg_catalog")
            return {(r["kind"], r["name"]): r["body"] for r in await conn.fetch(_OBJECTS)}
        finally:
            await conn.close()

    async def tenant(self, slug: str = "sunrise") -> UUID:
        """A new tenant."""
        tenant = uuid4()
        await self.run("SELECT tally_ref.tenant_create($1, $2, 'A tenant', '{}')", tenant, slug, role="app")
        return tenant


async def enter(conn: asyncpg.Connection, tenant: UUID, actor: str = "user:1") -> None:
    """Set the tenant for the rest of the connection."""
    await conn.execute(
        "SELECT set_config('tally.tenant', $1, false), set_config('tally.actor', $2, false)", str(tenant), actor
    )


async def make_database(server: KitServer, template: str | None = None) -> Database:
    """A new database, provisioned, or a copy of one."""
    name = f"{server._stem}_{server.worker}_schema{next(_numbers)}"
    admin = server.url("admin", "postgres")
    conn = await asyncpg.connect(**connect_args(admin))
    try:
        copied = f" TEMPLATE {quoted(template)}" if template else ""
        # The quickest where nothing waits for the disk.
        strategy = " STRATEGY file_copy" if server.embedded else ""
        await conn.execute(f"CREATE DATABASE {quoted(name)}{copied}{strategy}")
    finally:
        await conn.close()
    server._clones.append(name)
    if template is None:
        await server._provision(name)
    else:
        await provision(server.url("admin", name), roles=server.roles)
    made = server.embedded
    superuser = made._url("postgres", made._passwords["postgres"], name) if made else server.url("admin", name)
    return Database(name, server.url("admin", name), server.url("app", name), server.roles, superuser)


def other_port(url: str, port: int) -> str:
    """The URL with another port."""
    given = connect_args(url)
    return build_url(
        host="127.0.0.1", port=port, user=given["user"], password=given["password"], database=given["database"]
    )


def revisions(path: Path) -> list[Path]:
    """The revisions in a folder."""
    return sorted(path.glob("*.py"))


async def until(database: Database, question: str) -> None:
    """Wait until a question is answered with yes."""
    for _ in range(1200):
        if (await database.run(question))[0][0]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(question)
