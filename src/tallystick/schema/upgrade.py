"""Running revisions through Alembic, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError

from tallystick.errors import Invalid, MigrationUnsafe
from tallystick.schema.branches import History, locations
from tallystick.schema.ddl import Engine, role
from tallystick.schema.migrations import DIRECTORY
from tallystick.schema.online import Runner
from tallystick.schema.operations import ENGINE, ROLES
from tallystick.schema.roles import Roles

if TYPE_CHECKING:
    from sqlalchemy import Connection


def scripts(version_locations: Sequence[str | Path] = ()) -> ScriptDirectory:
    """Alembic's view of every revision."""
    return ScriptDirectory(
        str(DIRECTORY), file_template="%%(rev)s", version_locations=[str(p) for p in locations(version_locations)]
    )


def options(roles: Roles, engine: Engine, **more: Any) -> dict[str, Any]:
    """What every Alembic context of ours is configured with."""
    return {
        "version_table": "schema_version",
        "version_table_schema": "tally_ref",
        "transaction_per_migration": True,
        ROLES: roles,
        ENGINE: engine,
        **more,
    }


def version_table(roles: Roles) -> tuple[str, ...]:
    """The version table, which the application may read to see whether it is behind."""
    return (
        "CREATE TABLE IF NOT EXISTS tally_ref.schema_version "
        '(version_num text COLLATE "C" NOT NULL, CONSTRAINT pk_schema_version PRIMARY KEY (version_num))',
        f"GRANT SELECT ON tally_ref.schema_version TO {role('app', roles)}",
    )


def rows(connection: Connection) -> tuple[str, ...]:
    """What the version table holds."""
    found = connection.exec_driver_sql("SELECT version_num FROM tally_ref.schema_version ORDER BY 1").scalars()
    return tuple(str(r) for r in found)


async def upgrade(
    run: Runner, history: History, wanted: Iterable[str], version_locations: Sequence[str | Path], target: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Apply what is missing; answer the revisions applied and the notes of the lint."""
    script = scripts(version_locations)

    def prepare(connection: Connection) -> tuple[str, ...]:
        with connection.begin():
            for statement in version_table(run.roles):
                connection.exec_driver_sql(statement)
            return rows(connection)

    present = await run.attempt("the version table", prepare)
    goals = [f"{b}@head" for b in wanted] if target == "heads" else [target]
    steps = plan(script, history, goals, present)
    for number, step in enumerate(steps, 1):
        run.report("applying", step.revision.revision, number, len(steps), step.revision.doc or "")
        await apply(run, script, step)
    return tuple(s.revision.revision for s in steps), ()


def plan(script: ScriptDirectory, history: History, goals: Sequence[str], present: Sequence[str]) -> list[RevisionStep]:
    """The steps up to the goals, in order."""
    unknown = [r for r in present if r not in history.revisions]
    if unknown:
        raise MigrationUnsafe(
            f"The database is at revision {unknown[0]}, which this installation does not know.",
            remedy="Upgrade the library to the version that migrated it, or name the folder of the application's "
            "revisions in version_locations.",
        )
    try:
        return list(script._upgrade_revs(tuple(goals), tuple(present)))  # type: ignore[arg-type]
    except (CommandError, ResolutionError) as error:
        raise Invalid(
            f"The target cannot be reached: {error}.",
            field="target",
            remedy="Use heads, or a revision that `tallystick status` shows.",
        ) from error


async def apply(run: Runner, script: ScriptDirectory, step: RevisionStep) -> None:
    """Run one step in a transaction of its own."""

    def work(connection: Connection) -> None:
        context = MigrationContext.configure(
            connection, opts=options(run.roles, run.engine, fn=lambda heads, context: [step], script=script)
        )
        from alembic.operations import Operations

        with Operations.context(context):
            context.run_migrations()

    await run.attempt(f"Revision {step.revision.revision}", work)
