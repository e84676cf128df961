"""Reading live tables into the same model that declarations are written in, and declarations into the server's words.

PostgreSQL stores expressions parsed and prints them its own way. To compare a declaration with a table, the declared
table is made in a transaction that is rolled back, and read with the same queries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from tallystick.errors import Declaration, NotProvisioned
from tallystick.schema import ddl
from tallystick.schema.model import Check, Column, ForeignKey, Grant, Index, Policy, Table, Trigger, quote_name
from tallystick.schema.roles import Roles
from tallystick.spec import SCHEMA

SHADOW = "~"
"""First character of a table that is made to be read and never kept; no declared name starts with it."""


@dataclass(frozen=True, slots=True)
class Live:
    """A table as it is, and what of it is switched off or unfinished."""

    table: Table
    secured: bool
    forced: bool
    weak_triggers: tuple[str, ...] = ()
    invalid_indexes: tuple[str, ...] = ()
    unvalidated: tuple[str, ...] = ()


_TABLES = """
SELECT c.oid, c.relname::text AS name, c.relrowsecurity AS secured, c.relforcerowsecurity AS forced,
  coalesce(obj_description(c.oid, 'pg_class'), '') AS comment,
  (SELECT o.option_value::int FROM pg_options_to_table(c.reloptions) o WHERE o.option_name = 'fillfactor')
    AS fillfactor,
  ARRAY(SELECT a.attname::text FROM pg_constraint k, unnest(k.conkey) WITH ORDINALITY u (n, o)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.n
    WHERE k.conrelid = c.oid AND k.contype = 'p' ORDER BY u.o) AS primary_key
FROM pg_class c WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p')
  AND ($2::text[] IS NULL OR c.relname = ANY ($2::text[])) ORDER BY c.relname
"""
_COLUMNS = """
SELECT a.attrelid AS oid, a.attname::text AS name, NOT a.attnotnull AS nullable, a.attgenerated::text AS generated,
  format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
         THEN format(' COLLATE %I', l.collname) ELSE '' END AS sql,
  pg_get_expr(d.adbin, d.adrelid) AS expression
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""
_CONSTRAINTS = """
SELECT k.conrelid AS oid, k.conname::text AS name, k.contype::text AS kind, k.convalidated AS valid,
  pg_get_expr(k.conbin, k.conrelid) AS sql, k.confdeltype::text || k.confupdtype::text AS action,
  n.nspname::text AS schema, f.relname::text AS target,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (n, o)
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o) AS columns,
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (n, o)
    JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o) AS target_columns
FROM pg_constraint k LEFT JOIN pg_class f ON f.oid = k.confrelid LEFT JOIN pg_namespace n ON n.oid = f.relnamespace
WHERE k.conrelid = ANY ($1::oid[]) AND k.contype IN ('c', 'f') AND k.conparentid = 0
  AND coalesce(n.nspname = ANY ('{tally,tally_ref,tally_sec,tally_audit}'), true) ORDER BY k.conrelid, k.conname
"""
"""A foreign key to a table of the host's is the host's: made and dropped by its revisions."""
_INDEXES = """
SELECT i.indrelid AS oid, c.relname::text AS name, i.indisunique AS unique, i.indisvalid AS valid,
  pg_get_expr(i.indpred, i.indrelid) AS where, coalesce(obj_description(c.oid, 'pg_class'), '') AS comment,
  ARRAY(SELECT coalesce(a.attname::text, '(' || pg_get_indexdef(c.oid, u.o::int, true) || ')')
      || CASE WHEN i.indoption[u.o - 1] <> 0 THEN ' ' || i.indoption[u.o - 1] ELSE '' END
      || CASE WHEN m.amname <> 'btree' THEN ' ' || m.amname ELSE '' END
    FROM unnest(i.indkey) WITH ORDINALITY u (n, o)
      LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.n AND u.n > 0
    WHERE u.o <= i.indnkeyatts ORDER BY u.o) AS columns,
  ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY u (n, o)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.n
    WHERE u.o > i.indnkeyatts ORDER BY u.o) AS include
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE i.indrelid = ANY ($1::oid[]) AND NOT i.indisprimary ORDER BY i.indrelid, c.relname
"""
_POLICIES = """
SELECT p.polrelid AS oid, p.polname::text AS name, p.polpermissive AS permissive, p.polcmd::text AS command,
  pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS check,
  ARRAY(SELECT CASE WHEN r = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r)::text END FROM unnest(p.polroles) r) AS roles
FROM pg_policy p WHERE p.polrelid = ANY ($1::oid[]) ORDER BY p.polrelid, p.polname
"""
_TRIGGERS = """
SELECT t.tgrelid AS oid, t.tgname::text AS name, t.tgenabled::text AS enabled, pg_get_triggerdef(t.oid) AS sql
FROM pg_trigger t WHERE t.tgrelid = ANY ($1::oid[]) AND NOT t.tgisinternal ORDER BY t.tgrelid, t.tgname
"""
_GRANTS = """
SELECT c.oid, CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END AS role,
  x.privilege_type::text AS privilege, NULL::text AS column, 0 AS position
FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = ANY ($1::oid[]) AND x.grantee <> c.relowner
UNION ALL
SELECT a.attrelid, CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END,
  x.privilege_type::text, a.attname::text, a.attnum
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) x
WHERE a.attrelid = ANY ($1::oid[]) AND NOT a.attisdropped AND x.grantee <> c.relowner
  AND NOT (x.privilege_type = 'REFERENCES' AND a.attname IN ('tenant_id', 'id') AND x.grantee <> 0)
ORDER BY 1, 2, 3, 5
"""
"""The right to refer to a key, given to a role, is what a host's foreign keys need; it is no drift."""
_TRIGGER = re.compile(
    r"CREATE (?:CONSTRAINT )?TRIGGER .*? (?P<fires>(?:BEFORE|AFTER|INSTEAD OF) .+?) ON .+? "
    r"(?:REFERENCING (?P<referencing>.+?) )?FOR EACH (?P<each>ROW|STATEMENT)"
    r"(?: WHEN \((?P<when>.*)\))? EXECUTE FUNCTION (?P<calls>.*)",
    re.DOTALL,
)
_COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}


async def read(
    conn: asyncpg.Connection, roles: Roles, names: Iterable[str] | None = None, schema: str = SCHEMA
) -> dict[str, Live]:
    """The tables of a schema as they are. Run with ``search_path = pg_catalog``, so that names come out qualified."""
    tables = await conn.fetch(_TABLES, schema, None if names is None else list(names))
    oids = [t["oid"] for t in tables]
    parts: dict[str, dict[int, list[Any]]] = {}
    for part, query in _PARTS.items():
        found: dict[int, list[Any]] = {}
        for row in await conn.fetch(query, oids):
            found.setdefault(row["oid"], []).append(row)
        parts[part] = found
    return {t["name"]: _live(t, {p: f.get(t["oid"], []) for p, f in parts.items()}, roles, schema) for t in tables}


_PARTS = {
    "columns": _COLUMNS,
    "constraints": _CONSTRAINTS,
    "indexes": _INDEXES,
    "policies": _POLICIES,
    "triggers": _TRIGGERS,
    "grants": _GRANTS,
}


def _live(row: Any, parts: Mapping[str, Sequence[Any]], roles: Roles, schema: str) -> Live:
    part_of: dict[str, str] = {getattr(roles, p): p for p in ("owner", "app", "audit", "seal")}
    table = Table(
        name=row["name"],
        schema=schema,
        comment=row["comment"],
        primary_key=tuple(row["primary_key"]),
        columns=tuple(_column(c) for c in parts["columns"]),
        checks=tuple(Check(c["name"], _bare(c["sql"])) for c in parts["constraints"] if c["kind"] == "c"),
        foreign_keys=tuple(
            ForeignKey(
                c["name"],
                tuple(c["columns"]),
                c["target"],
                tuple(c["target_columns"]),
                c["schema"],
                "" if c["action"] == "aa" else c["action"],
            )
            for c in parts["constraints"]
            if c["kind"] == "f"
        ),
        indexes=tuple(
            Index(
                i["name"],
                tuple(i["columns"]),
                i["unique"],
                _bare(i["where"]) if i["where"] else None,
                i["comment"],
                tuple(i["include"]),
            )
            for i in parts["indexes"]
        ),
        policies=tuple(
            Policy(
                p["name"],
                _bare(p["using"] or ""),
                p["permissive"],
                _COMMANDS[p["command"]],
                tuple(part_of.get(r) or r for r in p["roles"]),
                None if p["check"] in (None, p["using"]) else _bare(p["check"]),
            )
            for p in parts["policies"]
        ),
        triggers=tuple(_trigger(t) for t in parts["triggers"]),
        grants=tuple(_grants(parts["grants"], part_of)),
        fillfactor=row["fillfactor"],
    )
    return Live(
        table,
        row["secured"],
        row["forced"],
        weak_triggers=tuple(t["name"] for t in parts["triggers"] if t["enabled"] != "A"),
        invalid_indexes=tuple(i["name"] for i in parts["indexes"] if not i["valid"]),
        unvalidated=tuple(c["name"] for c in parts["constraints"] if not c["valid"]),
    )


def _column(row: Any) -> Column:
    generated = row["expression"] if row["generated"] else None
    return Column(
        row["name"],
        row["sql"],
        row["nullable"],
        None if generated else row["expression"],
        _bare(generated) if generated else None,
    )


def _trigger(row: Any) -> Trigger:
    found = _TRIGGER.match(row["sql"])
    assert found, row["sql"]
    when = found["when"]
    return Trigger(
        row["name"], found["fires"], found["calls"], _bare(when) if when else None, found["each"], found["referencing"]
    )


def _grants(rows: Sequence[Any], part_of: Mapping[str, str]) -> list[Grant]:
    found: dict[tuple[str, str, bool], list[str]] = {}
    for row in rows:
        key = (part_of.get(row["role"], row["role"]), row["privilege"], row["column"] is None)
        found.setdefault(key, []).extend([row["column"]] if row["column"] else [])
    return [Grant(role, privilege, tuple(columns)) for (role, privilege, _), columns in found.items()]


def _bare(sql: str) -> str:
    """Without the parentheses that PostgreSQL puts around a whole expression."""
    while sql.startswith("(") and sql.endswith(")"):
        depth, quoted = 0, False
        for at, char in enumerate(sql):
            quoted ^= char == "'"
            depth += 0 if quoted else (char == "(") - (char == ")")
            if depth == 0 and at < len(sql) - 1:
                return sql
        sql = sql[1:-1]
    return sql


async def in_the_servers_words(conn: asyncpg.Connection, models: Sequence[Table], roles: Roles) -> dict[str, Table]:
    """What the server would show for tables made from these models, foreign keys as they are declared.

    Makes them as the owner in a transaction and rolls it back; nothing that exists is locked. Raises ``Declaration``
    for a check, predicate or default that the server does not understand, ``NotProvisioned`` without the owner role.
    """
    transaction = conn.transaction()
    await transaction.start()
    try:
        await conn.execute(f"SET LOCAL ROLE {quote_name(roles.owner)}; SET LOCAL search_path = pg_catalog")
        for model in models:
            await _make_shadow(conn, model, roles)
        live = await read(conn, roles, [SHADOW + m.name for m in models])
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotProvisioned(
            f"This connection may not act as {roles.owner}, which comparing declarations with tables needs."
        ) from error
    finally:
        await transaction.rollback()
    return {m.name: _unshadow(live[SHADOW + m.name].table, m) for m in models}


async def _make_shadow(conn: asyncpg.Connection, model: Table, roles: Roles) -> None:
    try:
        await conn.execute(ddl.script(ddl.create([_shadow(model)], roles)))
    except asyncpg.InsufficientPrivilegeError:
        raise
    except (asyncpg.SyntaxOrAccessError, asyncpg.DataError) as error:
        raise Declaration(
            f"PostgreSQL refuses the table {model.name}: {error.args[0]}.",
            remedy="Correct the Check, where= or type that it names.",
        ) from error


def _shadow(model: Table) -> Table:
    return replace(
        model,
        name=SHADOW + model.name,
        foreign_keys=(),
        indexes=tuple(replace(i, name=SHADOW + i.name) for i in model.indexes),
    )


def _unshadow(found: Table, model: Table) -> Table:
    return replace(
        found,
        name=model.name,
        foreign_keys=model.foreign_keys,
        indexes=tuple(replace(i, name=i.name.removeprefix(SHADOW)) for i in found.indexes),
    )
