"""Tables made straight from declarations, for entities that have no revision of their own.

That is for the first days of an application: tables are added, never altered. Once rows matter, a change is a revision
that somebody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg
import msgspec
from sqlalchemy import text

from tallystick.entity import spec_of
from tallystick.errors import MigrationUnsafe
from tallystick.schema import ddl, safety
from tallystick.schema.catalog import in_the_servers_words, read
from tallystick.schema.diff import Difference, compare
from tallystick.schema.model import Table, model_of, quote_name
from tallystick.schema.online import Runner

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tallystick.entity import Entity

BRANCH = "declared"
"""What status and rollback call the tables that no revision made."""


async def make(run: Runner, entities: Sequence[type[Entity]]) -> tuple[str, ...]:
    """Make the tables that are missing, all in one transaction; answer their names.

    Raises ``MigrationUnsafe`` when an entity differs from its table, with the command and the SQL that mend it.
    """
    models = {m.name: m for m in (model_of(spec_of(cls)) for cls in entities)}
    if not models:
        return ()
    async with run.reading() as conn:
        live = await read(conn, run.roles, models)
        wanted = await in_the_servers_words(conn, list(models.values()), run.roles)
    found = [d for name in live for d in compare(models[name], wanted[name], live[name], run.engine)]
    if changed := [d for d in found if d.kind != "comment"]:
        raise differing(run, changed)
    missing = _targets_first([m for name, m in models.items() if name not in live])
    words = [d.operation for d in found if d.operation is not None]

    def work(connection: Connection) -> tuple[str, ...]:
        with connection.begin():
            statements = ddl.create(missing, run.roles, run.engine)
            statements += safety.statements(safety.sql_of(words, run.roles, run.engine))
            for statement in statements:
                connection.exec_driver_sql(statement)
            for model in missing:
                connection.execute(
                    text(
                        "INSERT INTO tally_ref.schema_entity (name, declared) VALUES (:name, CAST(:declared AS jsonb)) "
                        "ON CONFLICT (name) DO UPDATE SET declared = excluded.declared, created_at = clock_timestamp()"
                    ),
                    {"name": model.name, "declared": msgspec.json.encode(model).decode()},
                )
            return tuple(m.name for m in missing)

    if missing:
        run.report("making", ", ".join(m.name for m in missing))
    return await run.attempt("Making tables from declarations", work) if missing or words else ()


def _targets_first(tables: Sequence[Table]) -> list[Table]:
    """Tables after those they refer to, so that taking back the newest takes nothing from under another."""
    ordered: list[Table] = []
    left = list(tables)
    while left:
        waiting = {t.name for t in left}
        ready = [t for t in left if not ({f.table for f in t.foreign_keys} - {t.name}) & waiting]
        # Tables that refer to each other in a circle go together, in the order they were given.
        ordered += ready or left
        left = [t for t in left if t not in ordered]
    return ordered


def differing(run: Runner, found: Sequence[Difference]) -> MigrationUnsafe:
    """The error for entities that are not what their tables are."""
    tables = sorted({d.object.partition(".")[0] for d in found})
    known = [d.operation for d in sorted(found, key=lambda d: d.stage) if d.operation is not None and not d.decide]
    sql = safety.sql_of(known, run.roles, run.engine).strip()
    decide = " ".join(dict.fromkeys(d.decide for d in found if d.decide))
    return MigrationUnsafe(
        f"The declaration of {', '.join(tables)} has changed and the table exists: "
        + "; ".join(dict.fromkeys(f"{d.object} {d.problem}" for d in found))
        + ".",
        remedy=f'Write a revision: tallystick revision -m "change {" and ".join(tables)}".'
        + (f" {decide}" if decide else "")
        + (f" It will hold:\n{sql}" if sql else ""),
    )


async def recorded(conn: asyncpg.Connection) -> tuple[str, ...]:
    """The tables that were made from declarations and are there, oldest first."""
    rows = await conn.fetch(
        "SELECT e.name FROM tally_ref.schema_entity e JOIN pg_catalog.pg_class c ON c.relname = e.name "
        "WHERE c.relnamespace = 'tally'::regnamespace ORDER BY e.created_at, e.name"
    )
    return tuple(r["name"] for r in rows)


async def take_back(run: Runner, steps: int) -> tuple[str, ...]:
    """Drop the newest of these tables, with their rows; answer their names."""

    def work(connection: Connection) -> tuple[str, ...]:
        with connection.begin():
            names = tuple(
                connection.execute(
                    text(
                        "SELECT e.name FROM tally_ref.schema_entity e JOIN pg_class c ON c.relname = e.name "
                        "WHERE c.relnamespace = 'tally'::regnamespace "
                        "ORDER BY e.created_at DESC, e.name DESC LIMIT :steps"
                    ),
                    {"steps": steps},
                ).scalars()
            )
            tables = [Table(n, ()) for n in names]
            keys = connection.execute(
                text(
                    "SELECT c.relname, k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid "
                    "JOIN pg_class f ON f.oid = k.confrelid WHERE k.contype = 'f' "
                    "AND c.relname = ANY (:names) AND f.relname = ANY (:names) "
                    "AND c.relnamespace = 'tally'::regnamespace AND f.relnamespace = 'tally'::regnamespace"
                ),
                {"names": list(names)},
            ).all()
            statements = [
                f"ALTER TABLE IF EXISTS tally.{quote_name(table)} DROP CONSTRAINT {quote_name(key)}"
                for table, key in keys
            ]
            statements += [f"DROP TABLE IF EXISTS {t.qualified}" for t in tables]
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.execute(
                text("DELETE FROM tally_ref.schema_entity WHERE name = ANY (:names)"), {"names": list(names)}
            )
            return names

    return await run.attempt("Dropping declared tables", work)
