"""The state of the schema that guards the data: triggers, policies, functions, rules, rights, as one digest.

Whoever owns a table can switch its triggers off, edit, and switch them on again. So the sealer takes this digest with
every checkpoint, and whenever it differs from the one before, the log of the installation itself (the nil tenant) gets
an entry of op S that names what changed. A change that is undone between two looks leaves no trace here; comparing rows
with their last audit image does find that one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import asyncpg

from tallystick.schema.roles import SCHEMAS, Roles

__all__ = ["SchemaState", "read_state"]

_NAMED = 200


@dataclass(frozen=True)
class SchemaState:
    """What guards the data, by name: each value is a word for people and twelve digits of the definition's SHA-256."""

    objects: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256, as hex, over the lines ``name<TAB>value`` in the order of their UTF-8 bytes."""
        lines = sorted(f"{name}\t{value}\n".encode() for name, value in self.objects.items())
        return hashlib.sha256(b"".join(lines)).hexdigest()

    def changes_since(self, before: SchemaState | None) -> list[str]:
        """What is new, gone or different, by name, with the words for it before and after."""
        if before is None:
            return [f"first record of {len(self.objects)} objects"]
        told = [f"{name}: gone" for name in before.objects.keys() - self.objects.keys()]
        for name, value in self.objects.items():
            old = before.objects.get(name)
            if old is None:
                told.append(f"{name}: new ({_word(value)})")
            elif old != value:
                same = _word(old) == _word(value)
                told.append(f"{name}: " + ("definition changed" if same else f"{_word(old)} -> {_word(value)}"))
        return sorted(told)

    @property
    def weak(self) -> list[str]:
        """Triggers that do not fire in every session, keys that are not enforced, roles that row security misses."""
        return sorted(f"{name}: {_word(value)}" for name, value in self.objects.items() if _word(value) in _WEAK)

    def entry(self, before: SchemaState | None) -> dict[str, Any]:
        """What is written about it into the log: the digest, what changed, and every object."""
        changes = self.changes_since(before)
        told = [*changes[:_NAMED], *([f"and {len(changes) - _NAMED} more"] if len(changes) > _NAMED else [])]
        return {"digest": self.digest, "changes": told, "objects": dict(self.objects)}

    @classmethod
    def from_entry(cls, body: str) -> SchemaState | None:
        """The state that an entry's body tells of, or None when it tells of none."""
        told = json.loads(body).get("event")
        return cls(told["objects"]) if isinstance(told, dict) and isinstance(told.get("objects"), dict) else None


_WEAK = frozenset({"disabled", "replica", "origin", "partly disabled", "unbound"})


def _word(value: str) -> str:
    return value.rpartition(" ")[0]


async def read_state(conn: asyncpg.Connection, roles: Roles) -> SchemaState:
    """Read the state now. Anybody who may connect may ask: catalogs are open to all roles."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        # How the server writes definitions down depends on the path.
        await conn.execute("SET LOCAL search_path = pg_catalog")
        rows = await conn.fetch(_STATE, list(SCHEMAS), list(roles.all))
    return SchemaState({f"{kind} {name}": f"{word} {digest}" for kind, name, word, digest in rows})


# Names without oids, so that the digest survives dump and restore; lists of rights in an order of their own.
_STATE = """
WITH spaces AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = ANY ($1::text[])),
tables AS (
  SELECT c.oid, format('%I.%I', s.nspname, c.relname) AS name, c.relkind, c.relrowsecurity AS guarded,
    c.relforcerowsecurity AS forced, pg_get_userbyid(c.relowner) AS owner, c.relacl, c.relispartition AS part,
    c.reloptions
  FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), found (kind, name, word, text) AS (
  SELECT 'trigger', format('%s.%I', c.name, t.tgname),
    CASE t.tgenabled WHEN 'A' THEN 'always' WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica' ELSE 'origin' END,
    pg_get_triggerdef(t.oid, false)
  FROM pg_trigger t JOIN tables c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
  UNION ALL
  SELECT 'key', format('%s.%I', c.name, k.conname),
    CASE WHEN bool_and(t.tgenabled = 'D') THEN 'disabled' WHEN bool_or(t.tgenabled = 'D') THEN 'partly disabled'
      ELSE 'enforced' END,
    string_agg(format('%s %s', t.tgfoid::regproc, t.tgenabled), ',' ORDER BY t.tgfoid::regproc::text)
  FROM pg_trigger t JOIN tables c ON c.oid = t.tgrelid JOIN pg_constraint k ON k.oid = t.tgconstraint
  WHERE t.tgisinternal GROUP BY c.name, k.conname
  UNION ALL
  SELECT 'policy', format('%s.%I', c.name, p.polname),
    CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
    format('%s %s %s %s', p.polcmd,
      ARRAY(SELECT CASE r WHEN 0 THEN 'public' ELSE pg_get_userbyid(r) END FROM unnest(p.polroles) r ORDER BY 1),
      pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  FROM pg_policy p JOIN tables c ON c.oid = p.polrelid
  UNION ALL
  SELECT 'rule', format('%s.%I', c.name, r.rulename),
    CASE r.ev_enabled WHEN 'D' THEN 'disabled' ELSE 'enabled' END, pg_get_ruledef(r.oid)
  FROM pg_rewrite r JOIN tables c ON c.oid = r.ev_class
  UNION ALL
  SELECT 'function', format('%I.%I(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
    CASE WHEN p.prosecdef THEN 'definer' ELSE 'invoker' END,
    format('%s %s %s %s %s', pg_get_userbyid(p.proowner),
      ARRAY(SELECT a::text FROM unnest(p.proacl) a ORDER BY 1), p.proconfig, p.prokind,
      CASE WHEN p.prokind IN ('f', 'p', 'w') THEN pg_get_functiondef(p.oid) ELSE p.prosrc END)
  FROM pg_proc p JOIN spaces s ON s.oid = p.pronamespace
  UNION ALL
  SELECT 'table', c.name,
    CASE WHEN c.relkind NOT IN ('r', 'p') THEN 'no rows' WHEN c.guarded AND c.forced THEN 'forced'
      WHEN c.guarded THEN 'guarded' ELSE 'open' END,
    format('%s %s %s %s', c.relkind, c.owner, ARRAY(SELECT a::text FROM unnest(c.relacl) a ORDER BY 1), c.reloptions)
  FROM tables c
  UNION ALL
  SELECT 'column', format('%s.%I', c.name, a.attname), 'granted',
    ARRAY(SELECT g::text FROM unnest(a.attacl) g ORDER BY 1)::text
  FROM pg_attribute a JOIN tables c ON c.oid = a.attrelid WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
  UNION ALL
  SELECT 'role', r.rolname::text, CASE WHEN r.rolsuper OR r.rolbypassrls THEN 'unbound' ELSE 'bound' END,
    format('%s %s %s %s %s %s', r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolreplication, r.rolcanlogin,
      ARRAY(SELECT pg_get_userbyid(m.roleid)::text FROM pg_auth_members m WHERE m.member = r.oid ORDER BY 1))
  FROM pg_roles r WHERE r.rolname = ANY ($2::text[])
)
SELECT kind, name, word, left(encode(sha256(convert_to(word || ' ' || coalesce(text, ''), 'UTF8')), 'hex'), 12)
FROM found
"""
