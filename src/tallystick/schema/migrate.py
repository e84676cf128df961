"""Bringing a database to where the code is, and back: the entry points."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from tallystick.errors import NotMigrated
from tallystick.schema import branches
from tallystick.schema.ddl import checked_engine
from tallystick.schema.roles import Roles

if TYPE_CHECKING:
    from tallystick.entity import Entity
    from tallystick.schema.online import Report

VERSION_TABLE = "tally_ref.schema_version"


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What one run did: revisions applied or taken back, tables made or dropped straight from declarations."""

    revisions: tuple[str, ...]
    tables: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


async def migrate(
    admin_url: str,
    *,
    domains: Iterable[str] = (),
    entities: Iterable[type[Entity]] = (),
    roles: Roles | None = None,
    engine: str = "plain",
    version_locations: Sequence[str | Path] = (),
    target: str = "heads",
    report: Report | None = None,
    patience: float = 60.0,
) -> MigrationReport:
    """Bring the schema to ``target`` and make the tables of entities that have no revision of their own.

    Each revision is linted first and runs in a transaction of its own, so a failure leaves the revisions before it
    and nothing of itself; running again resumes. Tables are only ever added from declarations: an entity that
    differs from its table raises ``MigrationUnsafe`` with the command that writes the revision. Raises
    ``NotProvisioned``, ``Unavailable`` (``patience`` in seconds, for locks and other migrators), ``Unsupported``.
    """
    from tallystick.schema import declared, upgrade
    from tallystick.schema.online import runner

    started = time.monotonic()
    roles = roles or Roles()
    history = branches.history(version_locations)
    wanted = branches.chosen(history, domains, version_locations)
    async with runner(admin_url, roles, checked_engine(engine), patience=patience, report=report) as run:
        applied, notes = await upgrade.upgrade(run, history, wanted, version_locations, target)
        made = await declared.make(run, tuple(entities))
    return MigrationReport(applied, made, notes, time.monotonic() - started)


_PRESENT = """
SELECT ARRAY(SELECT version_num FROM tally_ref.schema_version) AS versions,
  ARRAY(SELECT c.relname || '.' || a.attname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'tally'::regnamespace AND c.relname = ANY ($1::text[])) AS columns
"""


async def check_migrated(
    conn: asyncpg.Connection,
    domains: Iterable[str] = (),
    *,
    entities: Collection[type[Entity]] = (),
    version_locations: Sequence[str | Path] = (),
) -> None:
    """Refuse to start on a schema that is older than the code: one cheap query, as the application role.

    Looks at the branches of ``domains`` and at the columns of ``entities``. A schema that is newer is fine, because
    a release runs on the schema of the next one. Raises ``NotMigrated`` with what is missing.
    """
    from tallystick.entity import spec_of

    history = branches.history(version_locations)
    wanted = branches.chosen(history, domains, version_locations)
    specs = [spec_of(cls) for cls in entities]
    try:
        found = await conn.fetchrow(_PRESENT, [s.table for s in specs])
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedObjectError):
        found = None
    if found is None:
        raise NotMigrated("The database has no schema of Tallystick yet.")
    applied = history.implied(found["versions"])
    behind = [
        b for b in wanted if set(history.heads(b)) - applied and not set(found["versions"]) - set(history.revisions)
    ]
    if behind:
        missing = sum(r not in applied for r in history.order(behind[0]))
        raise NotMigrated(f"The schema of {', '.join(behind)} is older than the code ({missing} revisions missing).")
    columns = set(found["columns"])
    lost = [f"{s.table}.{c.name}" for s in specs for c in s.columns if f"{s.table}.{c.name}" not in columns]
    if lost:
        raise NotMigrated(
            f"The database has no {lost[0]}" + (f", nor {len(lost) - 1} more columns." if lost[1:] else ".")
        )
