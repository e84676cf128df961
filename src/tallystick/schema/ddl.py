"""SQL from table models, by engine profile.

``plain`` is one PostgreSQL: row-level security enabled and forced. ``citus`` keeps the same schema, distributes each
table before its foreign keys exist, and does not force row-level security, because an online shard move loses the rows
of a forced table; there the owner is not fenced, and data migrations go tenant by tenant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from tallystick.errors import Unsupported
from tallystick.ids import NIL
from tallystick.schema.model import (
    Check,
    Column,
    ForeignKey,
    Grant,
    Index,
    Policy,
    Table,
    Trigger,
    names,
    quote_name,
    quote_text,
)
from tallystick.schema.roles import Roles
from tallystick.spec import SCHEMA

Engine = Literal["plain", "citus"]
ENGINES = ("plain", "citus")
_NEGATIVE = re.compile(r"-[0-9.]+(E[+-]?[0-9]+)?")


def checked_engine(engine: str) -> Engine:
    """The engine profile, or ``Unsupported``."""
    if engine == "plain":
        return "plain"
    if engine == "citus":
        return "citus"
    raise Unsupported("The engine profile is not known.", remedy=f"Use one of: {', '.join(ENGINES)}.")


def create(tables: Sequence[Table], roles: Roles, engine: Engine = "plain") -> list[str]:
    """Statements that make the tables, in the order both engines accept.

    All tables and what is unique in them come before any foreign key, so that entities may refer to each other in a
    circle, and to more than an id.
    """
    steps = [create_table(t) for t in tables]
    if engine == "citus":
        steps += [distribute(t) for t in tables]
    steps += [create_index(t, i) for t in tables for i in t.indexes]
    steps += _foreign_keys(tables)
    for table in tables:
        steps += comments(table)
        steps += protect(table, roles, engine)
    return steps


def _foreign_keys(tables: Sequence[Table]) -> list[str]:
    """The keys of new tables. Adding one reads the table it points at, whose wall asks for a tenant.

    The new tables are empty, so a tenant that does not exist is the honest answer; it is taken back at once.
    """
    new = {(t.schema, t.name) for t in tables}
    keys = [(t, f) for t in tables for f in t.foreign_keys]
    inner = [add_foreign_key(t, f) for t, f in keys if (f.schema, f.table) in new or f.schema != SCHEMA]
    outer = [add_foreign_key(t, f) for t, f in keys if (f.schema, f.table) not in new and f.schema == SCHEMA]
    if not outer:
        return inner
    return [*inner, as_nobody(), *outer, "SELECT pg_catalog.set_config('tally.tenant', '', true)"]


def as_nobody() -> str:
    """Set a tenant that does not exist, for the rest of the transaction."""
    return f"SELECT pg_catalog.set_config('tally.tenant', tally_sec.token('{NIL}'), true)"


def drop(tables: Sequence[Table]) -> list[str]:
    """Statements that remove the tables; nothing cascades, so an unknown dependant stops it."""
    among = {(t.schema, t.name) for t in tables}
    steps = [drop_constraint(t, f.name) for t in tables for f in t.foreign_keys if (f.schema, f.table) in among]
    return steps + [f"DROP TABLE {t.qualified}" for t in reversed(tables)]


def protect(table: Table, roles: Roles, engine: Engine = "plain") -> list[str]:
    """Policies, grants and triggers of a table that exists."""
    steps = []
    if table.policies:
        steps += security(table, engine)
        steps += [create_policy(table, p, roles) for p in table.policies]
        steps += fit_policies(table, engine)
    steps += [grant(table, g, roles) for g in table.grants]
    for trigger in table.triggers:
        steps += create_trigger(table, trigger)
    return steps


def create_table(table: Table) -> str:
    """CREATE TABLE with columns, primary key and checks."""
    parts = [column(c) for c in table.columns]
    parts.append(f"CONSTRAINT {quote_name(f'pk_{table.name}')} PRIMARY KEY ({names(table.primary_key)})")
    parts += [f"CONSTRAINT {quote_name(c.name)} CHECK ({c.sql})" for c in table.checks]
    body = ",\n  ".join(parts)
    storage = f" WITH (fillfactor = {table.fillfactor})" if table.fillfactor else ""
    return f"CREATE TABLE {table.qualified} (\n  {body}\n){storage}"


def set_fillfactor(table: Table, percent: int | None) -> str:
    """ALTER TABLE ... SET, for pages to come."""
    change = f"SET (fillfactor = {percent})" if percent else "RESET (fillfactor)"
    return f"ALTER TABLE {table.qualified} {change}"


def column(c: Column) -> str:
    """A column definition."""
    text = f"{quote_name(c.name)} {c.sql}"
    if c.generated:
        text += f" GENERATED ALWAYS AS ({c.generated}) STORED"
    if c.default:
        text += f" DEFAULT {default(c.default)}"
    return text if c.nullable else f"{text} NOT NULL"


def default(expression: str) -> str:
    """A default in SQL; a negative number is quoted, or it is an operator on a number and no constant to linters."""
    return quote_text(expression) if _NEGATIVE.fullmatch(expression) else expression


def distribute(table: Table) -> str:
    """The Citus hook between a table and its foreign keys."""
    name = quote_text(table.qualified)
    if table.policies:
        return f"SELECT create_distributed_table({name}, 'tenant_id')"
    return f"SELECT create_reference_table({name})"


def add_foreign_key(table: Table, f: ForeignKey, *, valid: bool = True) -> str:
    """ADD CONSTRAINT ... FOREIGN KEY, without actions."""
    target = f"{quote_name(f.schema)}.{quote_name(f.table)}"
    text = (
        f"ALTER TABLE {table.qualified} ADD CONSTRAINT {quote_name(f.name)} "
        f"FOREIGN KEY ({names(f.columns)}) REFERENCES {target} ({names(f.target_columns)})"
    )
    return text if valid else f"{text} NOT VALID"


def add_check(table: Table, c: Check, *, valid: bool = True) -> str:
    """ADD CONSTRAINT ... CHECK."""
    text = f"ALTER TABLE {table.qualified} ADD CONSTRAINT {quote_name(c.name)} CHECK ({c.sql})"
    return text if valid else f"{text} NOT VALID"


def validate(table: Table, name: str) -> str:
    """VALIDATE CONSTRAINT, which lets writers go on."""
    return f"ALTER TABLE {table.qualified} VALIDATE CONSTRAINT {quote_name(name)}"


def drop_constraint(table: Table, name: str) -> str:
    """DROP CONSTRAINT."""
    return f"ALTER TABLE {table.qualified} DROP CONSTRAINT {quote_name(name)}"


def create_index(table: Table, i: Index, *, concurrently: bool = False) -> str:
    """CREATE INDEX; concurrently on a table that has rows."""
    words = ["CREATE", *(["UNIQUE"] if i.unique else []), "INDEX", *(["CONCURRENTLY"] if concurrently else [])]
    text = f"{' '.join(words)} {quote_name(i.name)} ON {table.qualified} ({names(i.columns)})"
    if i.include:
        text = f"{text} INCLUDE ({names(i.include)})"
    return f"{text} WHERE {i.where}" if i.where else text


def comments(table: Table) -> list[str]:
    """The comments of the table and its indexes."""
    found = [comment_on_table(table)] if table.comment else []
    return found + [comment_on_index(table, i) for i in table.indexes if i.comment]


def comment_on_table(table: Table) -> str:
    """COMMENT ON TABLE."""
    return f"COMMENT ON TABLE {table.qualified} IS {quote_text(table.comment) if table.comment else 'NULL'}"


def comment_on_index(table: Table, i: Index) -> str:
    """COMMENT ON INDEX: the query it serves."""
    text = quote_text(i.comment) if i.comment else "NULL"
    return f"COMMENT ON INDEX {quote_name(table.schema)}.{quote_name(i.name)} IS {text}"


def security(table: Table, engine: Engine) -> list[str]:
    """ENABLE, and on one PostgreSQL FORCE, row-level security."""
    force = ", FORCE ROW LEVEL SECURITY" if engine == "plain" else ""
    return [f"ALTER TABLE {table.qualified} ENABLE ROW LEVEL SECURITY{force}"]


def create_policy(table: Table, p: Policy, roles: Roles) -> str:
    """CREATE POLICY."""
    kind = "PERMISSIVE" if p.permissive else "RESTRICTIVE"
    who = ", ".join(role(r, roles) for r in p.roles)
    text = f"CREATE POLICY {quote_name(p.name)} ON {table.qualified} AS {kind} FOR {p.command} TO {who}"
    if p.command != "INSERT":
        text += f" USING ({p.using})"
    return text if p.command in ("SELECT", "DELETE") else f"{text} WITH CHECK ({p.with_check})"


def fit_policies(table: Table, engine: Engine) -> list[str]:
    """Give the table's policies the text of a hardened database, if this is one; Citus has no such mode."""
    return [f"SELECT tally_sec.fit_policies({quote_text(table.qualified)})"] if engine == "plain" else []


def drop_policy(table: Table, name: str) -> str:
    """DROP POLICY."""
    return f"DROP POLICY {quote_name(name)} ON {table.qualified}"


def grant(table: Table, g: Grant, roles: Roles) -> str:
    """GRANT on the table or its columns."""
    return f"GRANT {_privilege(g)} ON TABLE {table.qualified} TO {role(g.role, roles)}"


def revoke(table: Table, g: Grant, roles: Roles) -> str:
    """REVOKE on the table or its columns."""
    return f"REVOKE {_privilege(g)} ON TABLE {table.qualified} FROM {role(g.role, roles)}"


def _privilege(g: Grant) -> str:
    return f"{g.privilege} ({names(g.columns)})" if g.columns else g.privilege


def create_trigger(table: Table, t: Trigger) -> list[str]:
    """CREATE TRIGGER, and fire it always: a session in replica role is no way round a guard."""
    when = f" WHEN ({t.when})" if t.when else ""
    sees = f" REFERENCING {t.referencing}" if t.referencing else ""
    return [
        f"CREATE TRIGGER {quote_name(t.name)} {t.fires} ON {table.qualified}{sees} "
        f"FOR EACH {t.each}{when} EXECUTE FUNCTION {t.calls}",
        enable_trigger(table, t.name),
    ]


def enable_trigger(table: Table, name: str) -> str:
    """ENABLE ALWAYS."""
    return f"ALTER TABLE {table.qualified} ENABLE ALWAYS TRIGGER {quote_name(name)}"


def drop_trigger(table: Table, name: str) -> str:
    """DROP TRIGGER."""
    return f"DROP TRIGGER {quote_name(name)} ON {table.qualified}"


def role(part: str, roles: Roles) -> str:
    """The real name of a role that a model names by its part; names that are no part stay as they are."""
    if part.upper() == "PUBLIC":
        return "PUBLIC"
    return quote_name(getattr(roles, part) if part in ("owner", "app", "audit", "seal") else part)


def script(statements: Iterable[str]) -> str:
    """The statements as a file for psql."""
    return "".join(f"{s};\n" for s in statements)
