"""Direct connections for migrations, lint and status."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from tallystick.errors import NotProvisioned, TallystickError, Unavailable
from tallystick.schema.model import quote_name
from tallystick.schema.roles import Roles
from tallystick.tls import tls_failure

_MEMBER = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1 AND pg_catalog.pg_has_role(oid, 'MEMBER'))
"""


@contextlib.asynccontextmanager
async def acting_as_owner(conn: asyncpg.Connection, roles: Roles) -> AsyncIterator[None]:
    """A transaction as the owner role where the connection may act as it, else as whoever it is.

    An admin is given SET on the owner and does not inherit from it, so it cannot even look into our schemas otherwise.
    """
    async with conn.transaction():
        if await conn.fetchval(_MEMBER, roles.owner):
            await conn.execute(f"SET LOCAL ROLE {quote_name(roles.owner)}")
        await conn.execute("SET LOCAL search_path = pg_catalog")
        yield


async def connect(arguments: dict[str, Any]) -> asyncpg.Connection:
    """A direct connection for migrations. Raises ``Unavailable`` or ``NotProvisioned``."""
    problem: TallystickError
    try:
        return await asyncpg.connect(**arguments, timeout=30, statement_cache_size=0)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        problem = tls_failure(error) or NotProvisioned(
            "The server refused the admin connection.",
            remedy="Check user, password and database in TALLYSTICK_ADMIN_URL.",
        )
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        problem = tls_failure(error) or Unavailable(
            "The database server of TALLYSTICK_ADMIN_URL does not answer.",
            remedy="Check that the server runs and that host and port are right.",
        )
    raise problem
