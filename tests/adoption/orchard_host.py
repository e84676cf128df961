"""The sample host: a database of its owner's, who is no superuser, with the shop's tables and data in it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tallystick.schema.roles import Roles, quoted
from tallystick.settings import build_url, connect_args
from tallystick.testing.server import KitServer

HOST = Path(__file__).parent / "host"
PASSWORD = "apples and pears"
_LOCAL = "pg_class pg_namespace pg_proc pg_constraint pg_type pg_default_acl pg_trigger pg_policy pg_attrdef pg_rewrite"
"""Catalogs of one database whose rows are only written anew by DDL; statistics are written in place."""

if str(HOST) not in sys.path:
    sys.path.insert(0, str(HOST))


@dataclass
class Orchard:
    """The shop's database, and its migrations as its developers run them."""

    server: KitServer
    name: str
    owner: str
    roles: Roles
    migrations: Path

    @property
    def owner_url(self) -> str:
        """What a managed PostgreSQL hands out."""
        return self._url(self.owner, PASSWORD)

    def app_url(self, role: str) -> str:
        """The URL of a role of ours."""
        return self._url(role, PASSWORD)

    def _url(self, user: str, password: str) -> str:
        given = connect_args(self.server.url("admin", self.name))
        return build_url(host=given["host"], port=given["port"], user=user, password=password, database=self.name)

    @property
    def alchemy(self) -> URL:
        """The same for SQLAlchemy."""
        given = connect_args(self.owner_url)
        query = {"host": str(given["host"]), "port": str(given["port"])}
        return URL.create("postgresql+asyncpg", self.owner, PASSWORD, database=self.name, query=query)

    def engine(self) -> AsyncEngine:
        """An engine of the shop's."""
        return create_async_engine(self.alchemy, poolclass=NullPool)

    async def fill(self) -> None:
        """The shop's data."""
        from orchard.data import fill  # type: ignore[import-not-found]

        engine = self.engine()
        async with engine.begin() as connection:
            await connection.run_sync(lambda c: _in_session(c, fill))
        await engine.dispose()

    async def alembic(self, what: Callable[[Any], Any], **attributes: Any) -> Any:
        """Run an Alembic command of the shop's."""
        from alembic.config import Config

        config = Config(attributes=attributes)
        config.set_main_option("script_location", str(self.migrations))
        config.set_main_option("sqlalchemy.url", self.alchemy.render_as_string(False).replace("%", "%%"))
        return await asyncio.to_thread(what, config)

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """One query as the owner."""
        conn = await asyncpg.connect(**connect_args(self.owner_url))
        try:
            return await conn.fetch(sql, *args)
        finally:
            await conn.close()

    async def catalogs(self) -> str:
        """A fingerprint of every catalog row of this database, and of the roles with our prefix."""
        each = " UNION ALL ".join(f"SELECT '{c}' || oid || ' ' || xmin AS line FROM {c}" for c in _LOCAL.split())
        (row,) = await self.fetch(
            f"SELECT md5(string_agg(line, ',' ORDER BY line)) FROM ({each} UNION ALL SELECT concat_ws(' ', attrelid, "
            "attnum, xmin) FROM pg_attribute UNION ALL SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1)) s",
            self.roles.prefix,
        )
        return str(row[0])

    async def dump(self) -> str:
        """The whole schema as pg_dump tells it, without the lines that differ by chance."""
        from tallystick.stores.embedded.binaries import _wheel_install

        done = await asyncio.to_thread(
            subprocess.run,
            [str(_wheel_install() / "bin" / "pg_dump"), "--schema-only", "--dbname", self.owner_url],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return "\n".join(
            line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
        )

    async def counts(self) -> dict[str, int]:
        """How many rows each table of the shop has."""
        from orchard.base import Base  # type: ignore[import-not-found]

        names = [t.fullname for t in Base.metadata.sorted_tables if t.name != "borrower"]
        quoted_names = [".".join(quoted(part) for part in n.split(".")) for n in names]
        return {
            n: (await self.fetch(f"SELECT count(*) FROM {q}"))[0][0] for n, q in zip(names, quoted_names, strict=True)
        }


def _in_session(connection: Any, work: Callable[[Session], None]) -> None:
    with Session(bind=connection) as session:
        work(session)
        session.flush()
        session.commit()


async def make_orchard(server: KitServer, folder: Path) -> Orchard:
    """A database owned by a role that may log in and create roles, and nothing else; migrated and filled."""
    name, owner = f"{server._stem}_{server.worker}_orchard", f"orchard_{server.worker}"
    shutil.copytree(HOST / "migrations", folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    admin = await asyncpg.connect(**connect_args(server.url("admin", "postgres")))
    try:
        await admin.execute(f"CREATE ROLE {quoted(owner)} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
        await admin.execute(f"GRANT {quoted(owner)} TO CURRENT_USER")
        await admin.execute(f"CREATE DATABASE {quoted(name)} OWNER {quoted(owner)}")
    finally:
        await admin.close()
    server._clones.append(name)
    return Orchard(server, name, owner, Roles(f"orchard_{server.worker}_tally"), folder / "migrations")


async def drop_orchard(orchard: Orchard) -> None:
    """Leave the server as it was."""
    await orchard.server.drop(orchard.name)
    admin = await asyncpg.connect(**connect_args(orchard.server.url("admin", "postgres")))
    try:
        for role in (*orchard.roles.all, orchard.owner):
            await admin.execute(f"DROP ROLE IF EXISTS {quoted(role)}")
    finally:
        await admin.close()
