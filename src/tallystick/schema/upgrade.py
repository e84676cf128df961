"""Running revisions through Alembic, one at a time, in an order that we choose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import Script, ScriptDirectory
from sqlalchemy import text

from tallystick.errors import Invalid, MigrationUnsafe
from tallystick.schema import safety
from tallystick.schema.branches import KIT, History, locations
from tallystick.schema.ddl import Engine, role
from tallystick.schema.migrations import DIRECTORY
from tallystick.schema.online import Runner
from tallystick.schema.online_operations import LISTENER
from tallystick.schema.operations import ENGINE, ROLES
from tallystick.schema.roles import Roles

if TYPE_CHECKING:
    from sqlalchemy import Connection


def scripts(version_locations: Sequence[str | Path] = ()) -> ScriptDirectory:
    """Alembic's view of every revision."""
    return ScriptDirectory(
        str(DIRECTORY),
        file_template="%(rev)s_%(slug)s",
        version_locations=[str(p) for p in locations(version_locations)],
        messaging_opts={"quiet": True},
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


async def present(run: Runner, history: History) -> frozenset[str]:
    """Every revision the database has. Makes the version table; raises when it names revisions nobody here knows."""

    def work(connection: Connection) -> tuple[str, ...]:
        with connection.begin():
            if connection.execute(text("SELECT to_regclass('tally_ref.schema_version')")).scalar() is None:
                for statement in version_table(run.roles):
                    connection.exec_driver_sql(statement)
            return tuple(connection.execute(text("SELECT version_num FROM tally_ref.schema_version")).scalars())

    rows = await run.attempt("The version table", work)
    if unknown := [r for r in rows if r not in history.revisions]:
        raise MigrationUnsafe(
            f"The database is at revision {unknown[0]}, which this installation does not know.",
            remedy="Upgrade the library to the version that migrated it, or name the folder of the application's "
            "revisions in version_locations.",
        )
    return history.implied(rows)


async def upgrade(
    run: Runner, history: History, wanted: Sequence[str], version_locations: Sequence[str | Path], target: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Apply what is missing up to the target; answer the revisions applied and the notes of the lint."""
    applied = await present(run, history)
    goals = [h for branch in wanted for h in history.heads(branch)] if target == "heads" else [target]
    if lost := [g for g in goals if g not in history.revisions]:
        raise Invalid(
            f"There is no revision {lost[0]}.",
            field="target",
            remedy="Use heads, or a revision that `tallystick status` shows.",
        )
    needed = history.implied(goals) - applied
    order = [r for r in _in_order(history) if r in needed]
    script = scripts(version_locations)
    notes = await safety.check([_script(script, r) for r in order], run.roles, run.engine)
    for number, name in enumerate(order, 1):
        found = _script(script, name)
        run.report("applying", name, number, len(order), found.doc or "")
        await apply(run, script, RevisionStep(script.revision_map, found, True))
    return tuple(order), notes


async def downgrade(
    run: Runner, history: History, branch: str, steps: int, version_locations: Sequence[str | Path]
) -> tuple[str, ...]:
    """Take back the newest revisions of a branch; answer them."""
    applied = set(await present(run, history))
    mine = [r for r in reversed(history.order(branch)) if r in applied][:steps]
    script = scripts(version_locations)
    for number, name in enumerate(mine, 1):
        above = [r.id for r in history.revisions.values() if r.id in applied and name in (*r.parents, *r.depends_on)]
        if above:
            raise Invalid(
                f"Revision {name} cannot be taken back: {', '.join(sorted(above))} needs it.",
                field="branch",
                remedy=f"Roll back {history.revisions[above[0]].branch} first.",
            )
        run.report("taking back", name, number, len(mine))
        await apply(run, script, RevisionStep(script.revision_map, _script(script, name), False))
        applied.discard(name)
    return tuple(mine)


def _in_order(history: History) -> Iterator[str]:
    """Every revision after those it follows or depends on, the kit first."""
    done: set[str] = set()
    todo = [r for branch in sorted(history.branches, key=lambda b: (b != KIT, b)) for r in history.order(branch)]
    while todo:
        ready = [r for r in todo if {*history.revisions[r].parents, *history.revisions[r].depends_on} <= done]
        if not ready:
            raise Invalid(
                f"Revision {todo[0]} depends on one that no version location has, or on itself.",
                field="version_locations",
                remedy="Mend its depends_on, or name the folder of the revision it needs.",
            )
        yield ready[0]
        done.add(ready[0])
        todo.remove(ready[0])


def _script(script: ScriptDirectory, name: str) -> Script:
    found = script.get_revision(name)
    assert found is not None
    return found


async def apply(run: Runner, script: ScriptDirectory, step: RevisionStep) -> None:
    """Run one step in a transaction of its own."""

    def steps(_: Iterable[str], __: MigrationContext) -> list[RevisionStep]:
        return [step]

    def work(connection: Connection) -> None:
        settings = options(run.roles, run.engine, fn=steps, script=script, **{LISTENER: run.report})
        context = MigrationContext.configure(connection, opts=settings)
        with Operations.context(context):
            context.run_migrations()

    await run.attempt(f"Revision {step.revision.revision}", work)
