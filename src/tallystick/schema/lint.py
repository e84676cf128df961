"""Judging a live database: whatever would let one tenant see another, a guard be passed, or a query crawl."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from tallystick.errors import NotMigrated, NotProvisioned
from tallystick.schema.connect import acting_as_owner
from tallystick.schema.ddl import Engine
from tallystick.schema.harden import HARDENED, VERIFIER
from tallystick.schema.lint_rules import RULES, WALLS
from tallystick.schema.model import quote_name, quote_text
from tallystick.schema.roles import Roles

if TYPE_CHECKING:
    from tallystick.entity import Entity
    from tallystick.schema.diff import Difference


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect: a stable code, the object it is on, what is wrong, and what mends it (SQL where that is possible)."""

    code: str
    object: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.object}: {self.problem} [{self.code}] {self.remedy}"


async def lint(
    conn: asyncpg.Connection,
    roles: Roles | None = None,
    entities: Iterable[type[Entity]] = (),
    engine: Engine = "plain",
) -> list[Finding]:
    """Every defect of the schema; an empty list is a clean bill.

    Works on any connection and changes nothing; with ``entities`` it also compares their declarations with the
    tables, for which the connection must be able to act as the owner role (the admin's). Raises ``NotProvisioned``
    when roles are missing or this one may see nothing, and ``NotMigrated`` when there is nothing to judge.
    """
    roles = roles or Roles()
    try:
        async with acting_as_owner(conn, roles):
            await _ready(conn, roles)
            findings = await _rules(conn, roles, engine)
        return [*findings, *await _drift(conn, roles, tuple(entities), engine)]
    except asyncpg.InsufficientPrivilegeError:
        pass
    raise NotProvisioned("This role may not look into the schema.", remedy=f"Use one that may become {roles.owner}.")


async def _ready(conn: asyncpg.Connection, roles: Roles) -> None:
    found = await conn.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1::text[])", list(roles.all))
    if (found or 0) < len(roles.all):
        raise NotProvisioned("The roles of Tallystick are missing on this server.")
    if not await conn.fetchval("SELECT to_regclass('tally_ref.schema_version') IS NOT NULL"):
        raise NotMigrated("The database has no schema of Tallystick yet.")


async def _rules(conn: asyncpg.Connection, roles: Roles, engine: Engine) -> list[Finding]:
    named = {"owner": roles.owner, "audit": roles.audit, "app": roles.app, "seal": roles.seal}
    wall = WALLS[bool(await conn.fetchval(HARDENED))]
    quoted = {**{name: quote_name(role) for name, role in named.items()}, "wall": wall}
    literals = {**named, "wall": wall, "verifier": VERIFIER}
    findings = []
    for rule in RULES:
        if engine == "citus" and rule.plain_only:
            continue
        sql = rule.sql
        for name, value in literals.items():
            sql = sql.replace(f":{name}", quote_text(value))
        for row in await conn.fetch(sql):
            more = row["more"] if "more" in row.keys() else ""  # noqa: SIM118  a Record iterates over its values
            findings.append(
                Finding(
                    rule.code,
                    row["object"],
                    rule.problem.format(more=more, **named),
                    rule.remedy.format(object=row["object"], more=more, **quoted),
                )
            )
    return findings


async def _drift(
    conn: asyncpg.Connection, roles: Roles, entities: Sequence[type[Entity]], engine: Engine
) -> list[Finding]:
    if not entities:
        return []
    from tallystick.entity import spec_of
    from tallystick.schema import catalog
    from tallystick.schema.diff import compare
    from tallystick.schema.model import model_of

    models = [model_of(spec_of(cls)) for cls in entities]
    async with acting_as_owner(conn, roles):
        wanted = await catalog.in_the_servers_words(conn, models, roles)
        live = await catalog.read(conn, roles, [m.name for m in models])
    findings = []
    for model in models:
        if model.name not in live:
            findings.append(
                Finding(
                    "drift-missing-table",
                    f"tally.{model.name}",
                    "is declared and does not exist",
                    "Run `tallystick migrate`.",
                )
            )
            continue
        findings += [
            _finding(d, roles, engine)
            for d in compare(model, wanted[model.name], live[model.name], engine)
            if d.kind != "comment"
        ]
    return list(dict.fromkeys(findings))


def _finding(difference: Difference, roles: Roles, engine: Engine) -> Finding:
    from tallystick.schema import safety

    remedy = difference.decide
    if not remedy and difference.operation is not None:
        written = safety.statements(safety.sql_of([difference.operation], roles, engine))
        remedy = " ".join(f"{' '.join(s.split())};" for s in written if s not in ("BEGIN", "COMMIT"))
    code = f"drift-{difference.kind.replace(' ', '-')}"
    return Finding(code, f"tally.{difference.object}", difference.problem, remedy)
