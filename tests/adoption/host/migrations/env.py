import asyncio

from alembic import context
from orchard import models  # noqa: F401
from orchard.base import Base
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import async_engine_from_config

config = context.config
hooks = config.attributes.get("hooks", {})
all_schemas = config.attributes.get("all_schemas", True)


def not_the_search_copy(name, type_, parent_names):
    """Tables that the search engine's importer makes and drops as it likes."""
    return not (type_ == "table" and name is not None and name.startswith("search_copy_"))


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_schemas=all_schemas,
        version_table="orchard_version",
        compare_type=True,
        compare_server_default=True,
        **(hooks or {"include_name": not_the_search_copy}),
    )
    with context.begin_transaction():
        context.run_migrations()


async def online() -> None:
    engine = async_engine_from_config(config.get_section("alembic", {}), prefix="sqlalchemy.", poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(online())
