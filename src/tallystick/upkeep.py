"""Upkeep: what is owed to persons, and to keys, does not end when their tenant is closed.

Erasures are replayed, keys rotated and logs looked into in every tenant of the database. Sessions for that are the
library's own; an application has ``tally.session``, which refuses a closed tenant.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.actors import checked_who
from tallystick.session import Session

if TYPE_CHECKING:
    from tallystick.app import Tallystick


@contextlib.asynccontextmanager
async def upkeep(
    tally: Tallystick, tenant: str | UUID, *, actor: str, reason: str, permissions: Iterable[str]
) -> AsyncIterator[Session]:
    """A session of one tenant, active or not. Raises ``NotFound``."""
    who = checked_who(actor, reason)
    db = Session(tally, await tally.tenants.find(tenant), who, permissions)
    try:
        yield db
    finally:
        await db.close()
