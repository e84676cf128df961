"""Beside an application's own Alembic, which looks into every schema and has models for none of ours."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import SAWarning
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from tests.schema.support import Database

from tallystick.schema.connect import connect
from tallystick.schema.host import beside
from tallystick.settings import connect_args


@pytest.mark.filterwarnings("error::sqlalchemy.exc.SAWarning")
async def test_a_hosts_autogenerate_leaves_ours_alone(kit: Database) -> None:
    await kit.run("CREATE SCHEMA shop; CREATE TABLE shop.old (id int)", role="superuser")
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: connect(connect_args(kit.superuser)), poolclass=NullPool
    )

    def differences(connection: sa.Connection, **more: object) -> set[str]:
        context = MigrationContext.configure(connection, opts={"include_schemas": True, **more})
        found = compare_metadata(context, sa.MetaData())
        return {d[1].schema for d in found if d[0] == "remove_table"}

    async with engine.connect() as connection:
        # Only who looks into our schemas meets types that SQLAlchemy does not know.
        with pytest.warns(SAWarning, match="xid8"):
            assert await connection.run_sync(differences) >= {"tally", "tally_ref", "shop"}
        assert await connection.run_sync(lambda c: differences(c, **beside())) == {"shop"}
    await engine.dispose()
