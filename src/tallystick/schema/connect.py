"""Direct connections for migrations, lint and status."""

from __future__ import annotations

from typing import Any

import asyncpg

from tallystick.errors import NotProvisioned, TallystickError, Unavailable


async def connect(arguments: dict[str, Any]) -> asyncpg.Connection:
    """A direct connection for migrations. Raises ``Unavailable`` or ``NotProvisioned``."""
    try:
        return await asyncpg.connect(**arguments, timeout=30, statement_cache_size=0)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError):
        problem: TallystickError = NotProvisioned(
            "The server refused the admin connection.",
            remedy="Check user, password and database in TALLYSTICK_ADMIN_URL.",
        )
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        problem = Unavailable(
            "The database server of TALLYSTICK_ADMIN_URL does not answer.",
            remedy="Check that the server runs and that host, port and TLS are right.",
        )
    raise problem
