"""Whether the pools of all worker processes together fit in the server's connections.

Each process has a pool of its own and knows nothing of the others; the server turns away whoever comes last, which is
then some request at the busiest hour. So it is worked out when a process starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

if TYPE_CHECKING:
    from tallystick.settings import Settings


def question(role: str = "current_user") -> str:
    """The SELECT that ``Budget.of`` reads, for the role of an application's pools (an expression in SQL).

    Connections of that role are what its pools are; everybody else's are taken already. What kind of process another
    role's is an ordinary role may not see, only that it is in some database.
    """
    return f"""
SELECT current_setting('max_connections')::int AS most,
  current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
  (SELECT count(*)::int FROM pg_catalog.pg_stat_activity
    WHERE datid IS NOT NULL AND usename <> {role} AND pid <> pg_backend_pid()
      AND coalesce(backend_type, 'client backend') = 'client backend'
  ) AS others,
  coalesce((SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = {role}), -1) AS role_limit,
  (SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = current_database()) AS database_limit
"""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes may open together, and what the server has left for them.

    ``others`` are connections of other roles when it was asked; ``limit`` is what the role or the database is held to,
    None where it is not. Behind a transaction pooler the server never sees these connections, and ``pooled`` says so.
    """

    workers: int
    pool_max: int
    max_connections: int
    reserved: int
    others: int
    limit: int | None
    pooled: bool

    @classmethod
    def of(cls, settings: Settings, found: Any) -> Self:
        """From the settings and a row of ``QUESTION``."""
        limits = [n for n in (found["role_limit"], found["database_limit"]) if n >= 0]
        return cls(
            workers=settings.workers,
            pool_max=settings.pool_max,
            max_connections=found["most"],
            reserved=found["reserved"],
            others=found["others"],
            limit=min(limits, default=None),
            pooled=settings.pooler == "transaction",
        )

    @property
    def needed(self) -> int:
        """Connections that all processes together may hold."""
        return self.workers * self.pool_max

    @property
    def available(self) -> int:
        """Connections that the server has for them."""
        left = max(0, self.max_connections - self.reserved - self.others)
        return left if self.limit is None else min(left, self.limit)

    @property
    def fits(self) -> bool:
        """Whether the busiest hour finds a connection for every request that a pool lets through."""
        return self.pooled or self.needed <= self.available

    @property
    def warning(self) -> str:
        """What is wrong and the numbers that would mend it; empty where it fits."""
        if self.fits:
            return ""
        each = self.available // self.workers
        room = self.needed + self.reserved + self.others
        lower = (
            f"Set TALLYSTICK_POOL_MAX={each}"
            if each
            else f"Run at most {self.available} workers with TALLYSTICK_POOL_MAX=1"
        )
        mend = f"raise max_connections to {room}" if self.limit is None else f"raise the limit of {self.limit}"
        return (
            f"{self.workers} workers with pools of {self.pool_max} may open {self.needed} connections, and the server "
            f"has {self.available} for them (max_connections {self.max_connections}, {self.reserved} reserved, "
            f"{self.others} in use by other roles). {lower}, {mend}, or put a transaction pooler in front."
        )
