"""The planner's statistics: looked at anew after a load, before autovacuum has come by."""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.entity import Entity, spec_of
from tallystick.schema.connect import acting_as_owner, connect
from tallystick.schema.roles import Roles
from tallystick.settings import connect_args


async def analyze(admin_url: str, roles: Roles, entities: Iterable[type[Entity]]) -> None:
    """Let the database count what is in the entities' tables, so that its plans fit what was loaded.

    A server that stops with its last user may never count by itself. Raises ``Unavailable`` or ``NotProvisioned``.
    """
    conn = await connect(connect_args(admin_url))
    try:
        async with acting_as_owner(conn, roles):
            for entity in entities:
                await conn.execute(f"ANALYZE {spec_of(entity).qualified}")
    finally:
        await conn.close()
