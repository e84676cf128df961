"""What revisions may say beyond Alembic's own operations: tables, walls, grants, guards, changes of a live table.

A revision writes ``op.invoke(AddColumn("visit", Column("note", TEXT, nullable=True)))`` and, to take it back,
``op.invoke(Undo(AddColumn(...)))``. Every operation is a value that holds what undoing needs, and autogenerate writes
it out as such. Statements go to the server as they are, one at a time, and are printed when Alembic renders SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alembic import op
from alembic.operations import MigrateOperation, Operations

from tallystick.schema import ddl
from tallystick.schema.model import (
    Check,
    Column,
    ForeignKey,
    Grant,
    Index,
    Policy,
    Table,
    Trigger,
    quote_name,
    quote_text,
)
from tallystick.schema.roles import Roles
from tallystick.spec import SCHEMA

ROLES = "tally_roles"
ENGINE = "tally_engine"


def roles_of(operations: Operations) -> Roles:
    """The roles that this run of migrations grants to."""
    found = operations.get_context().opts[ROLES]
    assert isinstance(found, Roles)
    return found


def engine_of(operations: Operations) -> ddl.Engine:
    """The engine profile of this run."""
    return ddl.checked_engine(operations.get_context().opts[ENGINE])


def role(part: str) -> str:
    """The quoted name of a role (owner, app, audit, seal) in the run under way, for statements of a revision's own."""
    found = op.get_context().opts[ROLES]
    assert isinstance(found, Roles)
    return ddl.role(part, found)


def execute(operations: Operations, statements: Sequence[str]) -> None:
    """Execute or print statements without any parameter substitution."""
    context = operations.get_context()
    for statement in statements:
        if context.as_sql:
            context.impl.static_output(f"{statement.strip()};\n")
        else:
            operations.get_bind().exec_driver_sql(statement)


class Operation(MigrateOperation):
    """An operation of ours: it can be done and taken back."""

    def run(self, operations: Operations) -> None:
        """Do it on the connection of the run, or print it."""
        execute(operations, self._do(operations))

    def take_back(self, operations: Operations) -> None:
        """Undo it on the connection of the run, or print that."""
        execute(operations, self._undo(operations))

    def reverse(self) -> MigrateOperation:
        """The operation that undoes this one."""
        return Undo(self)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What Alembic shows for the operation."""
        return (type(self).__name__, self)

    if TYPE_CHECKING:

        def _do(self, operations: Operations) -> list[str]: ...

        def _undo(self, operations: Operations) -> list[str]: ...


@dataclass(frozen=True, eq=False)
class Undo(MigrateOperation):
    """The opposite of an operation: what it made is dropped, what it changed is as before."""

    operation: Operation

    def reverse(self) -> MigrateOperation:
        """The operation itself."""
        return self.operation

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What Alembic shows for the operation."""
        return ("Undo", self.operation)


@dataclass(frozen=True, eq=False)
class Sql(Operation):
    """Statements of one's own, and those that undo them."""

    do: Sequence[str]
    undo: Sequence[str] = ()

    def _do(self, operations: Operations) -> list[str]:
        return list(self.do)

    def _undo(self, operations: Operations) -> list[str]:
        return list(self.undo)


@dataclass(frozen=True, eq=False, init=False)
class CreateTables(Operation):
    """New tables with everything that belongs to them, in the order the engine needs."""

    tables: tuple[Table, ...]

    def __init__(self, *tables: Table) -> None:
        object.__setattr__(self, "tables", tables)

    def _do(self, operations: Operations) -> list[str]:
        return ddl.create(self.tables, roles_of(operations), engine_of(operations))

    def _undo(self, operations: Operations) -> list[str]:
        return ddl.drop(self.tables)


@dataclass(frozen=True, eq=False, init=False)
class AdoptTables(CreateTables):
    """Tables that some databases made straight from declarations: made where they are missing, else taken over.

    Undoing it hands them back with their rows: they count as made from declarations again.
    """

    def run(self, operations: Operations) -> None:
        """Make those that are missing; forget that the others had no revision."""
        if operations.get_context().as_sql:
            super().run(operations)
            return
        bind = operations.get_bind()
        there = {t.name for t in self.tables if bind.exec_driver_sql(_THERE, (t.qualified,)).scalar_one()}
        missing = [t for t in self.tables if t.name not in there]
        execute(operations, ddl.create(missing, roles_of(operations), engine_of(operations)))
        for name in there:
            bind.exec_driver_sql("DELETE FROM tally_ref.schema_entity WHERE name = $1", (name,))

    def _undo(self, operations: Operations) -> list[str]:
        rows = ", ".join(f"({quote_text(t.name)}, '{{}}')" for t in self.tables)
        return [f"INSERT INTO tally_ref.schema_entity (name, declared) VALUES {rows} ON CONFLICT DO NOTHING"]


_THERE = "SELECT to_regclass($1) IS NOT NULL"


@dataclass(frozen=True, eq=False)
class OnTable(Operation):
    """An operation on one table that exists."""

    table: str

    @property
    def target(self) -> Table:
        """Just enough of the table to name it."""
        return Table(self.table, (), schema=getattr(self, "schema", SCHEMA))


@dataclass(frozen=True, eq=False)
class AddColumn(OnTable):
    """A column more. A required one needs ``fill``, a constant that rows already there take without being rewritten."""

    column: Column
    fill: str | None = None
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        column = replace(self.column, default=self.fill) if self.fill else self.column
        steps = [f"ALTER TABLE {self.target.qualified} ADD COLUMN {ddl.column(column)}"]
        if self.fill and self.fill != self.column.default:
            steps.append(_set_default(self.target, self.column.name, self.column.default))
        return steps

    def _undo(self, operations: Operations) -> list[str]:
        return [f"ALTER TABLE {self.target.qualified} DROP COLUMN {quote_name(self.column.name)}"]


@dataclass(frozen=True, eq=False)
class RenameColumn(OnTable):
    """A column under another name, with its values, grants, checks and indexes."""

    before: str
    after: str
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return [self._rename(self.before, self.after)]

    def _undo(self, operations: Operations) -> list[str]:
        return [self._rename(self.after, self.before)]

    def _rename(self, before: str, after: str) -> str:
        return f"ALTER TABLE {self.target.qualified} RENAME COLUMN {quote_name(before)} TO {quote_name(after)}"


@dataclass(frozen=True, eq=False)
class WidenColumn(OnTable):
    """A type that holds every value of the one before and needs no rewrite (more digits at the same scale)."""

    column: str
    before: str
    after: str
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return [self._type(self.after)]

    def _undo(self, operations: Operations) -> list[str]:
        return [self._type(self.before)]

    def _type(self, sql: str) -> str:
        return f"ALTER TABLE {self.target.qualified} ALTER COLUMN {quote_name(self.column)} TYPE {sql}"


@dataclass(frozen=True, eq=False)
class SetDefault(OnTable):
    """Another default for rows to come."""

    column: str
    before: str | None
    after: str | None
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return [_set_default(self.target, self.column, self.after)]

    def _undo(self, operations: Operations) -> list[str]:
        return [_set_default(self.target, self.column, self.before)]


@dataclass(frozen=True, eq=False)
class AddCheck(OnTable):
    """A check that new and changed rows must satisfy; ``Validate`` in a later revision looks at the others."""

    check: Check
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return [ddl.add_check(self.target, self.check, valid=False)]

    def _undo(self, operations: Operations) -> list[str]:
        return [ddl.drop_constraint(self.target, self.check.name)]


@dataclass(frozen=True, eq=False)
class AddForeignKey(OnTable):
    """A foreign key that new and changed rows must satisfy; ``Validate`` in a later revision looks at the others."""

    key: ForeignKey
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return [ddl.add_foreign_key(self.target, self.key, valid=False)]

    def _undo(self, operations: Operations) -> list[str]:
        return [ddl.drop_constraint(self.target, self.key.name)]


@dataclass(frozen=True, eq=False)
class AddPolicy(OnTable):
    """A row-level security policy, and row-level security switched on.

    Undoing it leaves row-level security on, so that nobody sees more than before.
    """

    policy: Policy
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return [
            *ddl.security(self.target, engine_of(operations)),
            ddl.create_policy(self.target, self.policy, roles_of(operations)),
            *ddl.fit_policies(self.target, engine_of(operations)),
        ]

    def _undo(self, operations: Operations) -> list[str]:
        return [ddl.drop_policy(self.target, self.policy.name)]


@dataclass(frozen=True, eq=False)
class AddTrigger(OnTable):
    """A guard, always enabled."""

    trigger: Trigger
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return ddl.create_trigger(self.target, self.trigger)

    def _undo(self, operations: Operations) -> list[str]:
        return [ddl.drop_trigger(self.target, self.trigger.name)]


@dataclass(frozen=True, eq=False)
class AddGrant(OnTable):
    """A privilege."""

    grant: Grant
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return [ddl.grant(self.target, self.grant, roles_of(operations))]

    def _undo(self, operations: Operations) -> list[str]:
        return [ddl.revoke(self.target, self.grant, roles_of(operations))]


@dataclass(frozen=True, eq=False)
class CommentTable(OnTable):
    """What the table is for, in other words."""

    before: str
    after: str
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return [ddl.comment_on_table(replace(self.target, comment=self.after))]

    def _undo(self, operations: Operations) -> list[str]:
        return [ddl.comment_on_table(replace(self.target, comment=self.before))]


@dataclass(frozen=True, eq=False)
class CommentIndex(OnTable):
    """Which query the index serves, in other words."""

    index: str
    before: str
    after: str
    schema: str = SCHEMA

    def _do(self, operations: Operations) -> list[str]:
        return [ddl.comment_on_index(self.target, Index(self.index, (), comment=self.after))]

    def _undo(self, operations: Operations) -> list[str]:
        return [ddl.comment_on_index(self.target, Index(self.index, (), comment=self.before))]


def _set_default(table: Table, column: str, default: str | None) -> str:
    change = f"SET DEFAULT {ddl.default(default)}" if default else "DROP DEFAULT"
    return f"ALTER TABLE {table.qualified} ALTER COLUMN {quote_name(column)} {change}"


@Operations.implementation_for(Operation)
def _run(operations: Operations, operation: Operation) -> None:
    operation.run(operations)


@Operations.implementation_for(Undo)
def _take_back(operations: Operations, undo: Undo) -> None:
    undo.operation.take_back(operations)
