"""Operations that leave writers alone: they run outside a transaction, may take long, and resume after a kill.

Each is idempotent, so a revision made of nothing but these can be started again wherever it was stopped. The lint
keeps them apart from other operations, which are not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from alembic.operations import Operations
from sqlalchemy.exc import DBAPIError

from tallystick.errors import MigrationUnsafe
from tallystick.schema import ddl
from tallystick.schema.model import Check, Index, names, quote_name, quote_text
from tallystick.schema.operations import OnTable, Operation, engine_of, execute
from tallystick.spec import SCHEMA

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

LISTENER = "tally_listener"
ACTOR = "system:migration"
_INDEX = """
SELECT i.indisvalid, i.indisunique, i.indrelid,
  ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k (n, o)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.o) AS columns
FROM pg_index i WHERE i.indexrelid = to_regclass($1)
"""
_BUILDING = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND relation = $1::oid AND granted
  AND mode = 'ShareUpdateExclusiveLock' AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_CONSTRAINT = """
SELECT k.convalidated, k.contype::text AS contype, k.confrelid::regclass::text AS target,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (n, o)
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o) AS columns,
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (n, o)
    JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o) AS target_columns
FROM pg_constraint k WHERE k.conrelid = to_regclass($1) AND k.conname = $2
"""
_NOT_NULL = "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2"


@contextlib.contextmanager
def outside_transaction(operations: Operations, *, patient: bool = False) -> Iterator[Connection]:
    """The connection in autocommit; ``patient`` waits for locks as long as it takes."""
    context = operations.get_context()
    with context.autocommit_block():
        connection = operations.get_bind()
        waited = connection.exec_driver_sql("SELECT current_setting('lock_timeout')").scalar_one()
        if patient:
            connection.exec_driver_sql("SET lock_timeout = 0")
        try:
            yield connection
        finally:
            if patient and not connection.closed and not connection.invalidated:
                connection.exec_driver_sql(f"SET lock_timeout = {quote_text(waited)}")


@contextlib.contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    """A transaction on a connection in autocommit."""
    connection.exec_driver_sql("BEGIN")
    try:
        yield
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")


def tell(operations: Operations, what: str, item: str, detail: str = "") -> None:
    """Pass news to whoever started the run."""
    listener: Callable[..., None] | None = operations.get_context().opts.get(LISTENER)
    if listener is not None:
        listener(what, item, detail=detail)


@dataclass(frozen=True, eq=False)
class AddIndex(OnTable):
    """An index on a table that has rows, built while they are written to.

    A build that was killed leaves an invalid index, which is dropped and built again; one that another connection is
    still building is waited for.
    """

    index: Index
    schema: str = SCHEMA

    def run(self, operations: Operations) -> None:
        """Build it, repair it, or find it done."""
        if operations.get_context().as_sql:
            with operations.get_context().autocommit_block():
                execute(operations, self._do(operations))
            return
        with outside_transaction(operations, patient=True) as connection:
            self.build(operations, connection)

    def build(self, operations: Operations, connection: Connection) -> None:
        """Build it on a connection outside a transaction."""
        name = f"{quote_name(self.schema)}.{quote_name(self.index.name)}"
        if self._usable(operations, connection, name):
            tell(operations, "found", self.index.name, "built already")
        else:
            tell(operations, "building", self.index.name)
            try:
                connection.exec_driver_sql(ddl.create_index(self.target, self.index, concurrently=True))
            except DBAPIError:
                with contextlib.suppress(DBAPIError):
                    connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                raise
        connection.exec_driver_sql(ddl.comment_on_index(self.target, self.index))

    def take_back(self, operations: Operations) -> None:
        """Drop it while rows are written to."""
        if operations.get_context().as_sql:
            with operations.get_context().autocommit_block():
                execute(operations, self._undo(operations))
            return
        with outside_transaction(operations, patient=True) as connection:
            for statement in self._undo(operations):
                connection.exec_driver_sql(statement)

    def _usable(self, operations: Operations, connection: Connection, name: str) -> bool:
        while True:
            found = connection.exec_driver_sql(_INDEX, (name,)).one_or_none()
            if found is None:
                return False
            if found.indisvalid:
                whole = (*self.index.columns, *self.index.include)
                if (tuple(found.columns), found.indisunique) == (whole, self.index.unique):
                    return True
                raise MigrationUnsafe(
                    f"An index {self.index.name} exists and is another one.",
                    remedy=f"Drop it first: DROP INDEX CONCURRENTLY {name};",
                )
            if not connection.exec_driver_sql(_BUILDING, (found.indrelid,)).scalar_one():
                break
            tell(operations, "waiting for", self.index.name, "another connection is still building it")
            connection.exec_driver_sql("SELECT pg_sleep(0.3)")
        tell(operations, "repairing", self.index.name, "an interrupted build left it invalid")
        connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        return False

    def _do(self, operations: Operations) -> list[str]:
        steps = [ddl.create_index(self.target, self.index, concurrently=True)]
        return [*steps, ddl.comment_on_index(self.target, self.index)] if self.index.comment else steps

    def _undo(self, operations: Operations) -> list[str]:
        return [f"DROP INDEX CONCURRENTLY IF EXISTS {quote_name(self.schema)}.{quote_name(self.index.name)}"]


@dataclass(frozen=True, eq=False)
class ReplaceIndex(OnTable):
    """Another index under the same name: the new one is built first, so a unique rule holds all the time."""

    before: Index
    after: Index
    schema: str = SCHEMA

    def run(self, operations: Operations) -> None:
        """Build the new one beside the old, then let it take the name."""
        self._swap(operations, self.after)

    def take_back(self, operations: Operations) -> None:
        """The same with the one before."""
        self._swap(operations, self.before)

    def _swap(self, operations: Operations, index: Index) -> None:
        draft = AddIndex(self.table, replace(index, name=f"{index.name}~"), self.schema)
        name, beside = (f"{quote_name(self.schema)}.{quote_name(i.name)}" for i in (index, draft.index))
        rename = [
            f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
            f"ALTER INDEX {beside} RENAME TO {quote_name(index.name)}",
        ]
        if operations.get_context().as_sql:
            with operations.get_context().autocommit_block():
                execute(operations, [*draft._do(operations), *rename])
            return
        with outside_transaction(operations, patient=True) as connection:
            draft.build(operations, connection)
            for statement in rename:
                connection.exec_driver_sql(statement)


@dataclass(frozen=True, eq=False)
class Validate(OnTable):
    """Look at the rows that were there before a check or foreign key was; writers go on meanwhile."""

    constraint: str
    schema: str = SCHEMA

    def run(self, operations: Operations) -> None:
        """Validate it, or find that done."""
        if operations.get_context().as_sql:
            with operations.get_context().autocommit_block():
                execute(operations, self._do(operations))
            return
        with outside_transaction(operations) as connection:
            found = connection.exec_driver_sql(_CONSTRAINT, (self.target.qualified, self.constraint)).one_or_none()
            if found is not None and found.convalidated:
                return
            tell(operations, "validating", self.constraint)
            if found is not None and found.contype == "f" and engine_of(operations) == "plain":
                self._foreign_key(connection, found)
            else:
                connection.exec_driver_sql(ddl.validate(self.target, self.constraint))

    def _foreign_key(self, connection: Connection, key: Row[Any]) -> None:
        """Validate a foreign key although the owner, too, sees one tenant at a time.

        New rows are checked since the key exists. Rows from before are looked for tenant by tenant; then the key may
        be called valid, which PostgreSQL does as a tenant that has no rows.
        """
        validate = ddl.validate(self.target, self.constraint)
        table = self.target.qualified
        if list(key.columns) == ["tenant_id"]:
            # The key that says which tenants there are cannot be judged by them.
            with _transaction(connection):
                connection.exec_driver_sql(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
                connection.exec_driver_sql(validate)
                connection.exec_driver_sql(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            return
        pairs = list(zip(key.columns, key.target_columns, strict=True))
        same = " AND ".join(f"p.{quote_name(theirs)} = t.{quote_name(own)}" for own, theirs in pairs)
        filled = " AND ".join(f"t.{quote_name(own)} IS NOT NULL" for own, _ in pairs)
        orphans = (
            f"SELECT EXISTS (SELECT FROM {table} t WHERE t.tenant_id = $1 AND {filled} "
            f"AND NOT EXISTS (SELECT FROM {key.target} p WHERE {same}))"
        )
        for tenant in connection.exec_driver_sql("SELECT id FROM tally_ref.tenant").scalars().all():
            with _transaction(connection):
                enter_tenant(connection, tenant)
                lost = connection.exec_driver_sql(orphans, (tenant,)).scalar_one()
            if lost:
                raise MigrationUnsafe(
                    f"{self.constraint} cannot hold: rows of {self.table} refer to rows that do not exist.",
                    remedy=f"Mend them tenant by tenant: {orphans.replace('$1', 'the tenant')}.",
                )
        with _transaction(connection):
            connection.exec_driver_sql(ddl.as_nobody())
            connection.exec_driver_sql(validate)

    def _do(self, operations: Operations) -> list[str]:
        return [ddl.validate(self.target, self.constraint)]

    def _undo(self, operations: Operations) -> list[str]:
        return []


@dataclass(frozen=True, eq=False)
class RequireValue(OnTable):
    """A column that may not be empty any more.

    A check that is validated on the side proves it, so that SET NOT NULL need not scan the table under its lock.
    """

    column: str
    schema: str = SCHEMA

    def run(self, operations: Operations) -> None:
        """Prove that no row is empty, then require it."""
        if operations.get_context().as_sql:
            with operations.get_context().autocommit_block():
                execute(operations, self._do(operations))
            return
        table = self.target.qualified
        with outside_transaction(operations) as connection:
            if connection.exec_driver_sql(_NOT_NULL, (table, self.column)).scalar_one_or_none():
                return
            add, validate, require, drop = self._do(operations)
            if connection.exec_driver_sql(_CONSTRAINT, (table, self._proof.name)).one_or_none() is None:
                connection.exec_driver_sql(add)
            try:
                tell(operations, "validating", f"{self.table}.{self.column}")
                connection.exec_driver_sql(validate)
            except DBAPIError:
                # The code that is running may still write empty values: it must not be stopped by a failed migration.
                connection.exec_driver_sql(drop)
                raise
            connection.exec_driver_sql(require)
            connection.exec_driver_sql(drop)

    @property
    def _proof(self) -> Check:
        from tallystick.constraints import short

        return Check(short("ck", self.table, self.column, "present"), f"{quote_name(self.column)} IS NOT NULL")

    def _do(self, operations: Operations) -> list[str]:
        return [
            ddl.add_check(self.target, self._proof, valid=False),
            ddl.validate(self.target, self._proof.name),
            f"ALTER TABLE {self.target.qualified} ALTER COLUMN {quote_name(self.column)} SET NOT NULL",
            ddl.drop_constraint(self.target, self._proof.name),
        ]

    def _undo(self, operations: Operations) -> list[str]:
        return [f"ALTER TABLE {self.target.qualified} ALTER COLUMN {quote_name(self.column)} DROP NOT NULL"]


@dataclass(frozen=True, eq=False)
class ForEachTenant(Operation):
    """A data migration: ``work(connection, tenant)`` again and again, tenant by tenant, until it answers 0 or None.

    Every call is a transaction of its own with the tenant and an actor set. Tenants that are finished are remembered
    under ``name``, so that a run that was stopped goes on where it stood. Undoing it only forgets that.
    """

    name: str
    work: Callable[[Connection, UUID], int | None]

    def run(self, operations: Operations) -> None:
        """Go through the tenants that are left."""
        if operations.get_context().as_sql:
            operations.get_context().impl.static_output(f"-- rows of each tenant: {self.name}\n")
            return
        citus = engine_of(operations) == "citus"
        with outside_transaction(operations) as connection:
            left = (
                connection.exec_driver_sql(
                    "SELECT id FROM tally_ref.tenant t WHERE NOT EXISTS (SELECT FROM tally_ref.backfill b "
                    "WHERE b.name = $1 AND b.tenant_id = t.id) ORDER BY id",
                    (self.name,),
                )
                .scalars()
                .all()
            )
            for number, tenant in enumerate(left, 1):
                tell(operations, "changing rows", self.name, f"tenant {number} of {len(left)}")
                total = 0
                while True:
                    changed = self._batch(connection, tenant, total, citus=citus)
                    total += changed
                    if not changed:
                        break

    def _batch(self, connection: Connection, tenant: UUID, total: int, *, citus: bool) -> int:
        with _transaction(connection):
            enter_tenant(connection, tenant, citus=citus)
            changed = self.work(connection, tenant) or 0
            if not changed:
                connection.exec_driver_sql(
                    "INSERT INTO tally_ref.backfill (name, tenant_id, rows) VALUES ($1, $2, $3)",
                    (self.name, tenant, total),
                )
        return changed

    def _undo(self, operations: Operations) -> list[str]:
        return [f"DELETE FROM tally_ref.backfill WHERE name = {quote_text(self.name)}"]


def enter_tenant(connection: Connection, tenant: UUID, *, citus: bool = False) -> None:
    """Set tenant and actor for the transaction under way."""
    if citus:
        connection.exec_driver_sql("SELECT tally.set_tenant($1, $2)", (tenant, ACTOR))
    else:
        connection.exec_driver_sql(
            "SELECT set_config('tally.tenant', tally_sec.token($1), true), set_config('tally.actor', $2, true)",
            (tenant, ACTOR),
        )


@dataclass(frozen=True, eq=False)
class Backfill(OnTable):
    """``UPDATE table SET change WHERE rows``, tenant by tenant in batches. ``rows`` must stop matching what is done."""

    change: str
    rows: str
    batch: int = 5000
    schema: str = SCHEMA

    @property
    def _each(self) -> ForEachTenant:
        table = self.target.qualified
        key = names(("tenant_id", "id"))
        statement = (
            f"UPDATE {table} SET {self.change} WHERE tenant_id = $1 AND ({key}) IN "
            f"(SELECT {key} FROM {table} WHERE tenant_id = $1 AND ({self.rows}) ORDER BY id LIMIT $2)"
        )

        def work(connection: Connection, tenant: UUID) -> int:
            return connection.exec_driver_sql(statement, (tenant, self.batch)).rowcount

        return ForEachTenant(f"{self.table}: {self.change} where {self.rows}", work)

    def run(self, operations: Operations) -> None:
        """Change the rows that are left."""
        self._each.run(operations)

    def _undo(self, operations: Operations) -> list[str]:
        return self._each._undo(operations)
