"""Going through tenants one by one, for scripts that change data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg

ACTOR = "system:migration"


async def for_each_tenant(
    conn: asyncpg.Connection,
    work: Callable[[asyncpg.Connection, UUID], Awaitable[int | None]],
    *,
    actor: str = ACTOR,
    name: str | None = None,
) -> int:
    """Call ``work(conn, tenant)`` for every tenant until it answers 0 or None; answer the sum of what it answered.

    Every call is a transaction of its own in which tenant and actor are set, so let one call change a batch of rows.
    With a ``name``, tenants that are finished are remembered and a second run goes on where the first was stopped;
    that needs the admin connection as the owner role, and so does every run in a hardened database. Raises whatever
    ``work`` raises, with its batch rolled back.
    """
    total = 0
    setting = "tally_sec.token($1)" if await conn.fetchval(_SIGNS) else "$1::text"
    for tenant in [r["id"] for r in await conn.fetch(_TENANTS)]:
        if name and await conn.fetchval(
            "SELECT true FROM tally_ref.backfill WHERE name = $1 AND tenant_id = $2", name, tenant
        ):
            continue
        rows = 0
        while True:
            async with conn.transaction():
                await conn.execute(
                    f"SELECT set_config('tally.tenant', {setting}, true), set_config('tally.actor', $2, true)",
                    tenant if setting != "$1::text" else str(tenant),
                    actor,
                )
                changed = await work(conn, tenant) or 0
                if name and not changed:
                    await conn.execute(
                        "INSERT INTO tally_ref.backfill (name, tenant_id, rows) VALUES ($1, $2, $3)", name, tenant, rows
                    )
            rows += changed
            if not changed:
                break
        total += rows
    return total


_SIGNS = "SELECT has_function_privilege('tally_sec.token(uuid)', 'EXECUTE')"
_TENANTS = "SELECT id FROM tally_ref.tenant_list() ORDER BY id"
