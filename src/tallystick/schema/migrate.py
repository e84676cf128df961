"""Bringing a database to where the code is, and back: the entry points."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from tallystick.errors import Conflict, Invalid, NotMigrated, NotProvisioned
from tallystick.schema import branches, releases
from tallystick.schema.ddl import checked_engine
from tallystick.schema.roles import Roles
from tallystick.settings import connect_args

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tallystick.entity import Entity
    from tallystick.schema.online import Report, Runner
    from tallystick.spec import EntitySpec


log = logging.getLogger("tallystick.schema")


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
    views: Sequence[EntitySpec] = (),
) -> MigrationReport:
    """Bring the schema to ``target`` and make the tables of entities that have no revision of their own.

    Each revision is linted first and runs in a transaction of its own, so a failure leaves the revisions before it
    and nothing of itself; running again resumes. Tables are only ever added from declarations: an entity that
    differs from its table raises ``MigrationUnsafe`` with the command that writes the revision. Raises
    ``NotProvisioned``, ``Unavailable`` (``patience`` in seconds, for locks and other migrators), ``Unsupported``.
    ``views`` are the entities that masked views show, where somebody was granted some.
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
        if views:
            notes += await _refresh_views(run, tuple(views))
    return MigrationReport(applied, made, notes, time.monotonic() - started)


async def _refresh_views(run: Runner, views: tuple[EntitySpec, ...]) -> tuple[str, ...]:
    """Bring the masked views of BI roles along; what stands in the way is a note, because the migration is done."""
    async with run.reading() as conn:
        if not await conn.fetchval("SELECT pg_catalog.to_regclass('tally_bi.reader') IS NOT NULL"):
            return ()
    from tallystick.schema.bi import bring_up_to_date

    def work(connection: Connection) -> None:
        with connection.begin():
            bring_up_to_date(connection, views)

    try:
        await run.attempt("The masked views", work)
    except Conflict as problem:
        return (f"{problem.problem} {problem.remedy}",)
    return ()


async def rollback(
    admin_url: str,
    *,
    branch: str,
    steps: int = 1,
    roles: Roles | None = None,
    engine: str = "plain",
    version_locations: Sequence[str | Path] = (),
    report: Report | None = None,
    patience: float = 60.0,
) -> MigrationReport:
    """Take back the newest ``steps`` revisions of a branch, with what they hold.

    The branch ``declared`` stands for tables that were made straight from declarations, newest first. Raises
    ``Invalid`` when another branch needs what would go.
    """
    from tallystick.schema import declared, upgrade
    from tallystick.schema.online import runner

    started = time.monotonic()
    history = branches.history(version_locations)
    if branch != declared.BRANCH and branch not in history.branches:
        raise Invalid(
            f"There is no branch {branch!r}.",
            field="branch",
            remedy=f"Branches are: {', '.join((*history.branches, declared.BRANCH))}.",
        )
    if steps < 1:
        raise Invalid("A rollback takes back at least one step.", field="steps", remedy="Give 1 or more.")
    async with runner(admin_url, roles or Roles(), checked_engine(engine), patience=patience, report=report) as run:
        revisions: tuple[str, ...] = ()
        tables: tuple[str, ...] = ()
        if branch == declared.BRANCH:
            tables = await declared.take_back(run, steps)
        else:
            async with run.reading() as conn:
                needed = branch == branches.KIT and await _has_tables(conn)
            if needed:
                raise Invalid(
                    "Tables made from declarations need the kit.",
                    field="branch",
                    remedy=f"Roll back {declared.BRANCH} first.",
                )
            revisions = await upgrade.downgrade(run, history, branch, steps, version_locations)
    return MigrationReport(revisions, tables, (), time.monotonic() - started)


async def _has_tables(conn: asyncpg.Connection) -> bool:
    from tallystick.schema.declared import recorded

    exists = await conn.fetchval("SELECT to_regclass('tally_ref.schema_entity') IS NOT NULL")
    return bool(exists and await recorded(conn))


@dataclass(frozen=True, slots=True)
class BranchStatus:
    """How far one branch is: what was applied and what is missing, oldest first.

    In the branch ``declared`` these are tables, made or not yet made from declarations.
    """

    branch: str
    applied: tuple[str, ...]
    pending: tuple[str, ...]
    installed: bool


async def status(
    url: str,
    *,
    domains: Iterable[str] = (),
    entities: Iterable[type[Entity]] = (),
    roles: Roles | None = None,
    version_locations: Sequence[str | Path] = (),
) -> list[BranchStatus]:
    """Every branch and how far it is; works with the application's URL as well as the admin's.

    ``installed`` says whether the branch is asked for by ``domains`` or present. Raises ``Unavailable`` and
    ``NotProvisioned`` like ``migrate``; a database without our schema has every branch pending.
    """
    from tallystick.entity import spec_of
    from tallystick.schema.connect import acting_as_owner, connect
    from tallystick.schema.declared import BRANCH

    history = branches.history(version_locations)
    wanted = branches.chosen(history, domains, version_locations)
    conn, found, hidden = await connect(connect_args(url)), None, False
    try:
        async with acting_as_owner(conn, roles or Roles()):
            found = await conn.fetchrow(_PRESENT, [])
    except _NOTHING_YET:
        found = None
    except asyncpg.InsufficientPrivilegeError:
        hidden = True
    finally:
        await conn.close()
    if hidden:
        raise NotProvisioned(_HIDDEN)
    made = list(found["made"]) if found is not None else []
    applied = history.implied(found["versions"] if found is not None else ())
    report = []
    for branch in history.branches:
        order = history.order(branch)
        have = tuple(r for r in order if r in applied)
        report.append(
            BranchStatus(branch, have, tuple(r for r in order if r not in applied), branch in wanted or bool(have))
        )
    declared = [spec_of(cls).table for cls in entities]
    if made or declared:
        pending = tuple(t for t in declared if t not in made)
        report.append(BranchStatus(BRANCH, tuple(made), pending, True))
    return report


_PRESENT = """
SELECT ARRAY(SELECT version_num FROM tally_ref.schema_version) AS versions,
  ARRAY(SELECT e.name FROM tally_ref.schema_entity e JOIN pg_catalog.pg_class c ON c.relname = e.name
    WHERE c.relnamespace = 'tally'::regnamespace ORDER BY e.created_at, e.name) AS made,
  ARRAY(SELECT c.relname || '.' || a.attname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'tally'::regnamespace AND c.relname = ANY ($1::text[])) AS columns
"""


_HIDDEN = "This role may not read how far the schema is."
_NOTHING_YET = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedObjectError)


async def _present(conn: asyncpg.Connection, tables: list[str]) -> asyncpg.Record | None:
    """What the database has, or None when it has nothing of ours."""
    try:
        return await conn.fetchrow(_PRESENT, tables)
    except _NOTHING_YET:
        return None
    except asyncpg.InsufficientPrivilegeError:
        pass
    raise NotProvisioned(_HIDDEN)


async def check_migrated(
    conn: asyncpg.Connection,
    domains: Iterable[str] = (),
    *,
    entities: Collection[type[Entity]] = (),
    version_locations: Sequence[str | Path] = (),
) -> None:
    """Refuse to start on a schema that is older than the code: one cheap query, as the application role.

    Looks at the branches of ``domains`` and at the columns of ``entities``. The schema of the release before is
    accepted with a warning; so is one that is newer, because revisions only add what the code before them can live
    with (docs/upgrading.md). Raises ``NotMigrated`` with what is missing.
    """
    from tallystick.entity import spec_of

    history = branches.history(version_locations)
    wanted = branches.chosen(history, domains, version_locations)
    specs = [spec_of(cls) for cls in entities]
    found = await _present(conn, [s.table for s in specs])
    if found is None:
        raise NotMigrated("The database has no schema of Tallystick yet.")
    applied = history.implied(found["versions"])
    # What a revision that is not known here stands on cannot be told, so nothing is called missing beside one.
    newer = set(found["versions"]) - set(history.revisions)
    if behind := () if newer else releases.behind(history, applied, wanted):
        missing = sum(r not in applied for r in history.order(behind[0]))
        told = f"The schema of {', '.join(behind)} is older than the code ({missing} revisions missing)."
        last = releases.previous()
        if not releases.runs_on(last, applied, history, behind):
            raise NotMigrated(told)
        assert last is not None
        log.warning(
            "%s It is that of %s, on which this version runs; migrate when every process has it.", told, last.version
        )
    columns = set(found["columns"])
    lost = [f"{s.table}.{c.name}" for s in specs for c in s.columns if f"{s.table}.{c.name}" not in columns]
    if lost:
        raise NotMigrated(
            f"The database has no {lost[0]}" + (f", nor {len(lost) - 1} more columns." if lost[1:] else ".")
        )


async def revision(
    admin_url: str,
    message: str,
    *,
    branch: str,
    entities: Iterable[type[Entity]] = (),
    roles: Roles | None = None,
    engine: str = "plain",
    version_locations: Sequence[str | Path] = (),
    rename: Mapping[str, str] | None = None,
    delete: Collection[str] = (),
    fill: Mapping[str, str] | None = None,
    empty: bool = False,
) -> list[Path]:
    """Write the revisions that bring the database to the declarations; an empty list when it is there.

    One file holds what a transaction can do; indexes, validations and backfills go into files before and after it,
    because they run outside one. ``rename`` ({"visit.note": "remark"}), ``delete`` (["visit.note", "old_table"]) and
    ``fill`` ({"visit.note": "''"}, constants in SQL) say what no comparison can know. Files go to the first of
    ``version_locations``, else to the library's own folder of the branch. Raises ``MigrationUnsafe`` where a decision
    is missing, ``NotMigrated`` when the database is behind.
    """
    from tallystick.schema.autogenerate import Wishes
    from tallystick.schema.online import runner
    from tallystick.schema.writer import write

    wishes = Wishes(rename or {}, delete, fill or {})
    async with runner(admin_url, roles or Roles(), checked_engine(engine)) as run:
        return await write(
            run, message, branch, tuple(entities), version_locations=version_locations, wishes=wishes, empty=empty
        )
