"""An application that was there first: a role, a schema and tables of its own, beside ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tallystick import Tallystick
from tallystick.schema.joining import allow_joining
from tallystick.schema.roles import quoted
from tallystick.settings import Settings, connect_args
from tallystick.testing import KitServer

PASSWORD = "the shop has its own"


class Shop:
    """The database, how the shop logs in to it, and an application of ours on it."""

    def __init__(self, server: KitServer, database: str, tally: Tallystick) -> None:
        self.server = server
        self.database = database
        self.tally = tally
        self.role = f"shop_{server.worker}"

    @asynccontextmanager
    async def connected(self, role: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the shop's, or of another role of the kit's."""
        connection = await asyncpg.connect(**self.arguments(role))
        try:
            yield connection
        finally:
            await connection.close()

    def arguments(self, role: str | None = None) -> dict[str, object]:
        found = connect_args(self.server.url(role or "admin", self.database))  # type: ignore[arg-type]
        return found if role else {**found, "user": self.role, "password": PASSWORD}

    def engine(self, **options: object) -> AsyncEngine:
        """SQLAlchemy's, on asyncpg."""
        where = self.arguments()
        url = URL.create(
            "postgresql+asyncpg",
            username=self.role,
            password=PASSWORD,
            database=self.database,
            query={"host": str(where["host"]), "port": str(where["port"])},
        )
        return create_async_engine(url, **options)


TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, item text NOT NULL,
  tenant_id uuid, borrower_id uuid, paid bigint NOT NULL DEFAULT 0,
  FOREIGN KEY (tenant_id, borrower_id) REFERENCES tally.user_account (tenant_id, id));
"""


@asynccontextmanager
async def shop_beside(server: KitServer, outer: Tallystick, suffix: str) -> AsyncIterator[Shop]:
    """A clone of the template with the shop's role and tables in it, and an application of ours."""
    template = await server.template(None, outer.entities, ())
    database = await server.clone(template, suffix)
    settings = Settings.load(
        {},
        database_url=server.url("app", database),
        admin_url=server.url("admin", database),
        role_prefix=server.roles.prefix,
    )
    async with Tallystick.open(settings=settings, entities=outer.entities, keys=outer.keys) as tally:
        shop = Shop(server, database, tally)
        role = shop.role = f"shop{suffix}_{server.worker}"
        async with shop.connected("admin") as admin:
            await admin.execute(f"DROP ROLE IF EXISTS {role}")
            # Before 16 it is the member that inherits or does not, for all its memberships.
            inherit = "INHERIT" if admin.get_server_version() >= (16,) else "NOINHERIT"
            await admin.execute(f"CREATE ROLE {role} LOGIN {inherit} PASSWORD '{PASSWORD}'")
            await admin.execute(f"GRANT CREATE, CONNECT ON DATABASE {quoted(database)} TO {role}")
        await allow_joining(server.url("admin", database), role, roles=server.roles, references=["user_account"])
        async with shop.connected() as connection:
            await connection.execute(TABLES)
        try:
            yield shop
        finally:
            await tally.close()
            await server.drop(database)
            admin = await asyncpg.connect(**connect_args(server.url("admin", "postgres")))
            await admin.execute(f"DROP ROLE IF EXISTS {role}")
            await admin.close()
