"""A table as the database has it: what DDL is written from, what a live catalogue is read into, what revisions hold.

A revision file holds these values literally, so that it keeps meaning what it meant when it was written, whatever the
entities say today. Roles are named by their part (owner, app, audit, seal); SQL gets their real names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallystick.constraints import AUDIT_TRIGGER
from tallystick.spec import SCHEMA

if TYPE_CHECKING:
    from tallystick.spec import EntitySpec

WALL = "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"
"""The policy expression: loud when the setting is missing, an index condition, and accepted by Citus."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``sql`` is the type with its collation, ``generated`` a stored expression."""

    name: str
    sql: str
    nullable: bool = False
    default: str | None = None
    generated: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A named check constraint."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key without actions: nothing cascades."""

    name: str
    columns: tuple[str, ...]
    table: str
    target_columns: tuple[str, ...]
    schema: str = SCHEMA
    action: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """A btree index; its comment names the query it serves."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False
    where: str | None = None
    comment: str = ""
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A row-level security policy, for all commands and everybody unless it says otherwise."""

    name: str
    using: str
    permissive: bool = True
    command: str = "ALL"
    roles: tuple[str, ...] = ("PUBLIC",)
    check: str | None = None

    @property
    def with_check(self) -> str:
        """What new rows must satisfy; the same as ``using`` unless told."""
        return self.using if self.check is None else self.check


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger, always enabled, also under replication roles."""

    name: str
    fires: str
    calls: str
    when: str | None = None
    each: str = "ROW"
    referencing: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A privilege of a role on the table, or on some of its columns."""

    role: str
    privilege: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Everything about one table. With policies it is a tenant table, without it is shared reference data."""

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ("tenant_id", "id")
    checks: tuple[Check, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    indexes: tuple[Index, ...] = ()
    policies: tuple[Policy, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    grants: tuple[Grant, ...] = ()
    comment: str = ""
    schema: str = SCHEMA
    fillfactor: int | None = None

    @property
    def qualified(self) -> str:
        """Schema and table, quoted."""
        return f"{quote_name(self.schema)}.{quote_name(self.name)}"

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((c for c in self.columns if c.name == name), None)


def quote_name(name: str) -> str:
    """An SQL identifier, quoted; words PostgreSQL reserves are column names too."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def names(columns: Iterable[str]) -> str:
    """A comma-separated list of quoted identifiers."""
    return ", ".join(map(quote_name, columns))


def policies() -> tuple[Policy, ...]:
    """The tenant wall twice: one policy lets rows in, the restrictive one outlives any later permissive policy."""
    return (Policy("tenant_rw", WALL), Policy("tenant_wall", WALL, permissive=False))


def model_of(spec: EntitySpec) -> Table:
    """The table that an entity's declaration asks for."""
    return Table(
        name=spec.table,
        schema=spec.schema,
        comment=spec.doc,
        columns=tuple(Column(c.name, c.sql, c.nullable, c.default, c.generated) for c in spec.columns),
        checks=tuple(Check(c.name, c.sql) for c in spec.checks),
        foreign_keys=tuple(
            ForeignKey(f.name, f.columns, f.table, f.target_columns, f.schema) for f in spec.foreign_keys
        ),
        indexes=tuple(Index(i.name, i.columns, i.unique, i.where, i.query, i.include) for i in spec.indexes),
        policies=policies(),
        triggers=_triggers(spec),
        grants=_grants(spec),
        fillfactor=spec.fillfactor,
    )


def _grants(spec: EntitySpec) -> tuple[Grant, ...]:
    grants = [
        Grant("app", "SELECT"),
        Grant("app", "INSERT", tuple(c.name for c in spec.columns if c.insertable and not c.generated)),
    ]
    if not spec.append_only:
        grants.append(Grant("app", "UPDATE", tuple(c.name for c in spec.columns if c.updatable and not c.generated)))
    if not spec.kept:
        grants.append(Grant("app", "DELETE"))
    return tuple(g for g in grants if g.columns or g.privilege in ("SELECT", "DELETE"))


def _triggers(spec: EntitySpec) -> tuple[Trigger, ...]:
    found = [Trigger("tally_no_truncate", "BEFORE TRUNCATE", "tally.refuse_truncate()", each="STATEMENT")]
    if spec.append_only:
        found.append(
            Trigger("tally_append_only", "BEFORE UPDATE OR DELETE", f"tally.refuse_change({quote_text(spec.table)})")
        )
    else:
        found += _touching(spec)
    found += _audit(spec)
    sealed = [
        c.name
        for f in spec.fields.values()
        if f.sealed
        for c in f.columns
        if c.sql == "bytea" and c.name in (f.name, f.mask_column)
    ]
    if sealed:
        names_of = ", ".join(map(quote_text, sealed))
        found.append(Trigger("tally_sealed", "BEFORE INSERT OR UPDATE", f"tally.sealed_live({names_of})"))
    if spec.blind:
        names_of = ", ".join(map(quote_text, (spec.table, *(b.index_column for b in spec.blind))))
        found.append(Trigger("tally_indexed", "BEFORE INSERT OR UPDATE", f"tally.indexed({names_of})"))
    found += [Trigger(g.name, g.fires, g.calls, g.when, g.each, g.referencing) for g in spec.guards]
    for rule in spec.transitions:
        column = spec.fields[rule.field].column
        refuse = f"tally.refuse_transition({quote_text(spec.table)}, {quote_text(column)})"
        initial = _one_of(f"NEW.{quote_name(column)}", rule.initial)
        found.append(Trigger(f"tally_start_{column}", "BEFORE INSERT", refuse, f"NOT ({initial})"))
        if not spec.append_only:
            found.append(
                Trigger(f"tally_step_{column}", "BEFORE UPDATE", refuse, _illegal_step(column, rule.steps, initial))
            )
    return tuple(sorted(found, key=lambda t: t.name))


def _audit(spec: EntitySpec) -> list[Trigger]:
    """What writes changes to the audit log.

    Where columns are worked out all the time and stay out of the log, the function is not even called for them.
    """
    if not spec.audit:
        return []
    capture = f"tally_audit.capture({', '.join(map(quote_text, (spec.table, *spec.unaudited)))})"
    if not set(spec.unaudited) - set(spec.index_columns):
        return [Trigger(AUDIT_TRIGGER, "AFTER INSERT OR UPDATE OR DELETE", capture)]
    logged = [quote_name(c.name) for c in spec.columns if c.name not in spec.unaudited]
    old, new = (", ".join(f"{row}.{n}" for n in logged) for row in ("OLD", "NEW"))
    changed = f"({old}) IS DISTINCT FROM ({new})"
    return [
        Trigger(AUDIT_TRIGGER, "AFTER INSERT OR DELETE", capture),
        Trigger(f"{AUDIT_TRIGGER}_step", "AFTER UPDATE", capture, changed),
    ]


def _touching(spec: EntitySpec) -> list[Trigger]:
    """What guards rows that may change.

    Maintained columns are written inside a trigger and nowhere else. That is no change of the row's version: whoever
    edits an account must not lose to every payment.
    """
    refuse = f"tally.refuse_change({quote_text(spec.table)})"
    found = [Trigger("tally_kept", "BEFORE DELETE", refuse)] if spec.kept else []
    columns = [f.columns[0] for f in spec.fields.values() if f.maintained]
    if not columns:
        return [*found, Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()")]
    changed = [f"OLD.{n} IS DISTINCT FROM NEW.{n}" for n in (quote_name(c.name) for c in columns)]
    given = [f"NEW.{quote_name(c.name)} IS DISTINCT FROM {c.default or 'NULL'}" for c in columns]
    direct = "pg_trigger_depth() = 0"
    return [
        *found,
        Trigger("tally_touch", "BEFORE UPDATE", "tally.touch()", direct),
        Trigger("tally_maintained", "BEFORE UPDATE", refuse, f"{direct} AND ({' OR '.join(changed)})"),
        Trigger("tally_maintained_start", "BEFORE INSERT", refuse, f"{direct} AND ({' OR '.join(given)})"),
    ]


def _one_of(value: str, texts: Iterable[str]) -> str:
    return f"{value} = ANY (ARRAY[{', '.join(map(quote_text, texts))}])"


def _illegal_step(column: str, steps: Mapping[str, tuple[str, ...]], initial: str) -> str:
    """The condition of the refusing trigger. IS NOT TRUE, because a null state must not slip through a NOT."""
    name = quote_name(column)
    legal = [f"OLD.{name} = {quote_text(a)} AND {_one_of(f'NEW.{name}', to)}" for a, to in steps.items() if to]
    legal.append(f"OLD.{name} IS NULL AND {initial}")
    return f"OLD.{name} IS DISTINCT FROM NEW.{name} AND ({' OR '.join(f'({pair})' for pair in legal)}) IS NOT TRUE"
