"""What rows were when their table began to be audited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.ids import NIL
from tallystick.schema.model import quote_text
from tallystick.schema.online_operations import ForEachTenant
from tallystick.schema.operations import OnTable
from tallystick.spec import SCHEMA

if TYPE_CHECKING:
    from alembic.operations import Operations
    from sqlalchemy import Connection


@dataclass(frozen=True, eq=False)
class TakeBaseline(OnTable):
    """An entry for each row that is in the table and not in the log, tenant by tenant, in batches.

    It comes after the trigger, in a revision outside a transaction: each row is locked while its image is taken, so
    whoever changes it does so before, and is in the image, or after, and is the next entry. Rows whose last entry says
    what they are now are passed over, so a run that was stopped is started again. ``left_out`` are the columns that
    stay out of the log.
    """

    left_out: tuple[str, ...] = ()
    batch: int = 2000
    schema: str = SCHEMA

    @property
    def _each(self) -> ForEachTenant:
        columns = ", ".join(map(quote_text, self.left_out))
        statement = (
            f"SELECT t.id, tally_audit.baseline(t, {quote_text(self.table)}, ARRAY[{columns}]::text[]) FROM ("
            f"SELECT * FROM {self.target.qualified} WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3 FOR SHARE) t"
        )
        reached: dict[UUID, UUID] = {}

        def work(connection: Connection, tenant: UUID) -> int:
            after = (tenant, reached.get(tenant, NIL), self.batch)
            rows = connection.exec_driver_sql(statement, after).all()
            if rows:
                reached[tenant] = max(row[0] for row in rows)
            return len(rows)

        return ForEachTenant(f"{self.table}: baseline of the audit log", work)

    def run(self, operations: Operations) -> None:
        """Go through the rows that are left."""
        self._each.run(operations)

    def _undo(self, operations: Operations) -> list[str]:
        return self._each._undo(operations)
