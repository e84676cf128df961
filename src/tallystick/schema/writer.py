"""Revision files: where a new one goes, what it follows, what it depends on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.operations import MigrateOperation

from tallystick.entity import spec_of
from tallystick.errors import Invalid, NotMigrated
from tallystick.schema import autogenerate, branches
from tallystick.schema.branches import KIT, History
from tallystick.schema.catalog import read
from tallystick.schema.declared import recorded
from tallystick.schema.migrations import VERSIONS
from tallystick.schema.model import Table
from tallystick.schema.online import Runner
from tallystick.schema.operations import AddForeignKey, AdoptTables, OnTable, Undo
from tallystick.schema.upgrade import scripts

if TYPE_CHECKING:
    from tallystick.entity import Entity

_BRANCH = re.compile(r"[a-z][a-z0-9_]{0,24}\Z")
_TABLE = re.compile(r"= Table\(\s*['\"](\w+)['\"]")


async def write(
    run: Runner,
    message: str,
    branch: str,
    entities: Iterable[type[Entity]],
    *,
    version_locations: Sequence[str | Path],
    wishes: autogenerate.Wishes,
    empty: bool,
) -> list[Path]:
    """Write what is missing; nothing when nothing is, unless ``empty`` asks for a file to fill in."""
    folder = _folder(branch, version_locations)
    history = branches.history(version_locations)
    specs = [spec_of(cls) for cls in entities]
    stages: tuple[tuple[MigrateOperation, ...], ...] = ()
    if specs or wishes.delete:
        await _up_to_date(run, history, branch)
        stages = await autogenerate.changes(run.lock, run.roles, run.engine, specs, wishes)
        adopted = await _adopted(run, history, {s.table for s in specs})
        if adopted and (any(stages) or empty):
            stages = ((AdoptTables(*adopted),), *stages)
    wanted = [stage for stage in stages if stage] or ([()] if empty else [])
    return [_write(message, branch, folder, stage, version_locations) for stage in wanted]


async def _up_to_date(run: Runner, history: History, branch: str) -> None:
    async with run.reading() as conn:
        if not await conn.fetchval("SELECT to_regclass('tally_ref.schema_version') IS NOT NULL"):
            raise NotMigrated("The database has no schema of Tallystick yet.")
        found = await conn.fetch("SELECT version_num FROM tally_ref.schema_version")
    applied = history.implied(r["version_num"] for r in found)
    for needed in dict.fromkeys((KIT, branch)):
        if needed in history.branches and not set(history.heads(needed)) <= applied:
            raise NotMigrated(f"The database is behind the revisions of {needed}; comparing with it would repeat them.")


async def _adopted(run: Runner, history: History, tables: set[str]) -> list[Table]:
    """Tables that were made from declarations and are about to get revisions, as they are now."""
    makers = _makers(history)
    async with run.reading() as conn:
        names = [t for t in await recorded(conn) if t in tables and t not in makers]
        live = await read(conn, run.roles, names)
    return [live[n].table for n in names]


def _folder(branch: str, version_locations: Sequence[str | Path]) -> Path:
    if not _BRANCH.match(branch):
        raise Invalid(
            "A branch has the wrong name.",
            field="branch",
            remedy="Use lower-case letters, digits and underscores, at most 25.",
        )
    folder = Path(version_locations[0]).resolve() if version_locations else VERSIONS / branch
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(
    message: str,
    branch: str,
    folder: Path,
    operations: Sequence[MigrateOperation],
    version_locations: Sequence[str | Path],
) -> Path:
    history = branches.history(version_locations)
    first = branch not in history.branches
    script = scripts(version_locations)
    tables = autogenerate.tables_in(operations)
    depends = _depends(history, branch, tables, operations)
    made = script.generate_revision(
        f"{branch}_{len(history.order(branch)) + 1:04d}",
        message,
        head="base" if first else f"{branch}@head",
        branch_labels=branch if first else None,
        version_path=str(folder),
        depends_on=depends or None,
        refresh=False,
        text=autogenerate.source,
        accepted=autogenerate.source(autogenerate.accepted(operations)),
        imports=autogenerate.imports(operations),
        tables="".join(f"{autogenerate.definition(t)}\n" for t in tables),
        upgrades=autogenerate.body(operations),
        downgrades=autogenerate.body([o.reverse() for o in reversed(operations)]),
    )
    assert made is not None
    return Path(made.path)


def _depends(
    history: History, branch: str, tables: Sequence[Table], operations: Sequence[MigrateOperation]
) -> list[str]:
    """The kit for the first of a branch, and whichever revision of another branch made a table that is referred to.

    A table of another branch that is changed, because an entity is extended, is changed as its branch has it by now.
    Those that another one brings with it are left out: Alembic would look for them among the heads, where they are not.
    """
    found = [] if branch in history.branches or branch == KIT else [history.order(KIT)[-1]]
    own = {t.name for t in tables}
    targets = {f.table for t in tables for f in t.foreign_keys if f.schema == t.schema} - own
    makers = _makers(history)
    plain = [o.operation if isinstance(o, Undo) else o for o in operations]
    altered = {o.table for o in plain if isinstance(o, OnTable)}
    targets |= {o.key.table for o in plain if isinstance(o, AddForeignKey)} - altered
    found += sorted({makers[t].id for t in targets if t in makers and makers[t].branch != branch})
    found += sorted(
        {
            head
            for t in altered
            if t in makers and makers[t].branch != branch
            for head in history.heads(makers[t].branch)
        }
    )
    brought = {r for one in found for r in history.implied([one]) - {one}}
    return [r for r in dict.fromkeys(found) if r not in brought]


def _makers(history: History) -> Mapping[str, branches.Revision]:
    return {
        name: revision
        for revision in history.revisions.values()
        for name in _TABLE.findall(revision.path.read_text(encoding="utf-8"))
    }
