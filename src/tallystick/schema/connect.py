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

_STATE = """
SELECT pg_catalog.current_setting('role') AS role, pg_catalog.current_setting('search_path') AS path,
  EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1 AND pg_catalog.pg_has_role(oid, 'MEMBER')) AS member
"""


@contextlib.asynccontextmanager
async def acting_as_owner(conn: asyncpg.Connection, roles: Roles) -> AsyncIterator[None]:
    """A transaction as the owner role where the connection may act as it, else as whoever it is.

    An admin is given SET on the owner and does not inherit from it, so it cannot even look into our schemas otherwise.
    """
    async with conn.transaction():
        before = await conn.fetchrow(_STATE, roles.owner)
        assert before is not None
        if before["member"]:
            await conn.execute(f"SET LOCAL ROLE {quote_name(roles.owner)}")
        # What is read here is compared with text: names are quoted where they must be, and not as a database likes.
        await conn.execute(
            "SET LOCAL search_path = pg_catalog; SET LOCAL quote_all_identifiers = off; SET LOCAL row_security = on"
        )
        yield
        # Inside a caller's transaction SET LOCAL would outlive this block.
        await conn.execute(f"SET LOCAL ROLE {quote_name(before['role']) if before['role'] != 'none' else 'NONE'}")
        await conn.execute("SELECT pg_catalog.set_config('search_path', $1, true)", before["path"])


async def connect(
    arguments: dict[str, Any], *, name: str = "TALLYSTICK_ADMIN_URL", statements: int = 0
) -> asyncpg.Connection:
    """A direct connection that keeps so many prepared statements. Raises ``Unavailable`` or ``NotProvisioned``."""
    problem: TallystickError
    try:
        return await asyncpg.connect(**arguments, timeout=30, statement_cache_size=statements)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        problem = tls_failure(error) or NotProvisioned(
            f"The server refused the connection of {name}.",
            remedy=f"Check user, password and database in {name}.",
        )
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        problem = tls_failure(error) or Unavailable(
            f"The database server of {name} does not answer.",
            remedy="Check that the server runs and that host and port are right.",
        )
    raise problem
