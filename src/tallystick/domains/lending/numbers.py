"""Numbers of loans: a tenant's loans are counted from one, and no two callers ever get the same number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallystick.domains.lending.checks import as_whole
from tallystick.ids import uuid7

if TYPE_CHECKING:
    from tallystick.session import Session

_SERIES = "loans"
_MOST = 100_000
# The row's lock is the queue: callers wait for each other until their transactions end.
_TAKE = (
    'INSERT INTO tally.loan_number AS n (tenant_id, id, series, "last") VALUES ($1, $2, $3, $4) '
    'ON CONFLICT (tenant_id, series) DO UPDATE SET "last" = n."last" + $4 RETURNING n."last"'
)
_RAISE = (
    'INSERT INTO tally.loan_number AS n (tenant_id, id, series, "last") VALUES ($1, $2, $3, $4) '
    'ON CONFLICT (tenant_id, series) DO UPDATE SET "last" = greatest(n."last", $4) RETURNING n."last"'
)


async def take(db: Session, count: int = 1) -> range:
    """The next ``count`` loan numbers of the tenant, for nobody else; rolled back, they are free again.

    Others who take numbers wait until the transaction ends, so take them late. Raises ``Invalid`` for a count that is
    not 1 to 100,000.
    """
    as_whole(count, "count", least=1, most=_MOST)
    async with db.transaction():
        ((last,),) = await db.unit.call(_TAKE, (db.tenant_id, uuid7(), _SERIES, count))
    return range(last - count + 1, last + 1)


async def keep(db: Session, highest: int) -> None:
    """See to it that numbers up to ``highest``, which loans brought with them, are not given out again."""
    async with db.transaction():
        await db.unit.call(_RAISE, (db.tenant_id, uuid7(), _SERIES, highest))
