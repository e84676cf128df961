"""Empty, provisioned databases, and databases with the kit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.schema.support import Database, make_database

from tallystick.schema.migrate import migrate
from tallystick.testing.server import KitServer


@pytest_asyncio.fixture(loop_scope="session")
async def bare(tally_server: KitServer) -> AsyncIterator[Database]:
    """A database with roles and schemas and nothing in them."""
    made = await make_database(tally_server)
    yield made
    await tally_server.drop(made.name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kit_template(tally_server: KitServer) -> AsyncIterator[Database]:
    """A database with the kit, to copy."""
    made = await make_database(tally_server)
    await migrate(made.admin, roles=made.roles)
    yield made


@pytest_asyncio.fixture(loop_scope="session")
async def kit(tally_server: KitServer, kit_template: Database) -> AsyncIterator[Database]:
    """A database with the kit."""
    made = await make_database(tally_server, kit_template.name)
    yield made
    await tally_server.drop(made.name)
