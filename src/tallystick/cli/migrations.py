"""``migrate``, ``rollback``, ``revision`` and ``status``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.schema.migrate import MigrationReport
    from tallystick.schema.online import Progress

_OWN_BRANCH = "app"

Patience = Annotated[float, typer.Option("--patience", metavar="SECONDS", help="How long to wait for busy tables.")]
Branch = Annotated[str | None, typer.Option("--branch", metavar="NAME", help="A domain, or a branch of your own.")]


async def migrate(
    run: Run,
    to: Annotated[str, typer.Option("--to", metavar="REVISION", help="How far to go.")] = "heads",
    patience: Patience = 60.0,
) -> Answer:
    """Bring the database to what the code and its entities need.

    Each revision runs in a transaction of its own; running it again resumes. Exit code 7: the migration would block or
    lose something, and says how to write it.
    """
    done = await migrated(run, target=to, patience=patience)
    return Answer(done, lambda out: show_migration(out, done))


async def migrated(run: Run, *, target: str = "heads", patience: float = 60.0) -> dict[str, Any]:
    """Migrate and answer what was done, as a document."""
    from tallystick.schema.migrate import migrate as work

    async with run.administered(make=True) as (tally, url):
        with _told(run, "Migrating") as report:
            done = await work(
                url,
                domains=tally.domains,
                entities=tally.entities,
                roles=tally.settings.roles,
                engine=tally.settings.engine,
                version_locations=tally.version_locations,
                target=target,
                report=report,
                patience=patience,
                views=tally.specs,
            )
    return _document(done)


async def rollback(
    run: Run,
    branch: Branch = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="How many revisions.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    patience: Patience = 60.0,
) -> Answer:
    """Take back the newest revisions of a branch, with the rows that they hold.

    The branch "declared" stands for tables made straight from declarations. Without --branch it is the one that nothing
    else stands on: your own first, then declared tables, then the domains, then the kit.
    """
    from tallystick.schema.migrate import rollback as work

    async with run.administered() as (tally, url):
        chosen = branch or await _newest(tally, url)
        run.confirm(f"Take back {steps} of {chosen}, with all rows that it holds?", yes)
        with _told(run, f"Rolling back {chosen}") as report:
            done = await work(
                url,
                branch=chosen,
                steps=steps,
                roles=tally.settings.roles,
                engine=tally.settings.engine,
                version_locations=tally.version_locations,
                report=report,
                patience=patience,
            )
    document = {"branch": chosen, **_document(done)}
    gone = [*done.revisions, *(f"table {t}" for t in done.tables)]
    return Answer(document, lambda out: out.line(f"Taken back from {chosen}: {', '.join(gone) or 'nothing'}."))


async def revision(
    run: Run,
    *,
    message: Annotated[str, typer.Option("--message", "-m", help="What it does, in a few words.")],
    branch: Branch = None,
    rename: Annotated[
        list[str] | None, typer.Option("--rename", metavar="TABLE.COLUMN=NAME", help="A column has a new name.")
    ] = None,
    delete: Annotated[
        list[str] | None, typer.Option("--delete", metavar="TABLE[.COLUMN]", help="It may go, with what it holds.")
    ] = None,
    fill: Annotated[
        list[str] | None,
        typer.Option("--fill", metavar="TABLE.COLUMN=SQL", help="What rows that are there get: an SQL constant."),
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="A file to fill in, when nothing differs.")] = False,
) -> Answer:
    """Write the revision that brings the database to the declarations, to read and to keep.

    Revisions of your own entities go to the folder of --revisions, or the first of your Tallystick's version_locations.
    """
    from tallystick.domains.catalog import DOMAINS, entities_of
    from tallystick.entity import spec_of
    from tallystick.errors import Invalid
    from tallystick.schema.migrate import revision as work

    if run.revisions is not None:
        run.revisions.mkdir(parents=True, exist_ok=True)
    async with run.administered() as (tally, url):
        chosen = branch or _own_branch(tally.version_locations)
        builtin = chosen in DOMAINS
        if not builtin and not tally.version_locations:
            raise Invalid(
                "There is no folder for revisions of your own.",
                field="revisions",
                remedy="Name one: --revisions migrations, or Tallystick.open(version_locations=[...]).",
            )
        # What an extension leaves behind is of a built-in table, which nobody declares once the extension is gone.
        own = {spec_of(e).table for e in tally.entities}
        left = {name.partition(".")[0] for name in delete or () if "." in name} - own
        bare = [e for e in entities_of(tally.domains) if spec_of(e).table in left]
        files = await work(
            url,
            message,
            branch=chosen,
            entities=entities_of((chosen,)) if builtin else (*tally.entities, *bare),
            roles=tally.settings.roles,
            engine=tally.settings.engine,
            version_locations=() if builtin else tally.version_locations,
            rename=_pairs(rename, "rename"),
            delete=delete or (),
            fill=_pairs(fill, "fill"),
            empty=empty,
        )

    def show(out: Output) -> None:
        if not files:
            out.line("The database is what the declarations say; nothing was written.")
        for file in files:
            out.line(f"Written: {file}")
        if files:
            out.line("Read it, then run `tallystick migrate`.")

    return Answer({"branch": chosen, "files": [str(f) for f in files]}, show)


async def status(
    run: Run,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when anything is pending.")] = False,
) -> Answer:
    """Which revisions the database has, and which are pending."""
    async with run.administered() as (tally, url):
        found = await _status(tally, url)
    pending = sum(len(b.pending) for b in found if b.installed)
    document = {
        "pending": pending,
        "branches": [
            {"branch": b.branch, "installed": b.installed, "applied": b.applied, "pending": b.pending} for b in found
        ],
    }

    def show(out: Output) -> None:
        rows = [
            (b.branch, b.applied[-1] if b.applied else None, len(b.applied), ", ".join(b.pending) or "nothing")
            for b in found
            if b.installed
        ]
        out.table(("branch", "at", "applied", "pending"), rows, right=("applied",), flexible=("pending",))
        out.line("Run `tallystick migrate`." if pending else "The database is up to date.")

    return Answer(document, show, exits.FINDINGS if check and pending else exits.OK)


def show_migration(out: Output, done: dict[str, Any]) -> None:
    """Say what a migration did."""
    if done["revisions"]:
        out.line(f"Applied: {', '.join(done['revisions'])}.")
    if done["tables"]:
        out.line(f"Made from declarations: {', '.join(done['tables'])}.")
    if not done["revisions"] and not done["tables"]:
        out.line("The database was up to date.")
    for note in done["notes"]:
        out.line(f"Note: {note}")


@contextmanager
def _told(run: Run, label: str) -> Iterator[Callable[[Progress], None]]:
    with run.output.progress(label) as tell:
        yield lambda news: tell(1, str(news))


def _document(done: MigrationReport) -> dict[str, Any]:
    return {
        "revisions": done.revisions,
        "tables": done.tables,
        "notes": [str(note) for note in done.notes],
        "seconds": round(done.seconds, 3),
    }


async def _status(tally: Any, url: str) -> list[Any]:
    from tallystick.schema.migrate import status as work

    return await work(
        url,
        domains=tally.domains,
        entities=tally.entities,
        roles=tally.settings.roles,
        version_locations=tally.version_locations,
    )


async def _newest(tally: Any, url: str) -> str:
    """The branch that nothing else stands on: an own one, declared tables, the domains backwards, the kit."""
    from tallystick.domains.catalog import DOMAINS
    from tallystick.errors import NotFound
    from tallystick.schema.branches import KIT
    from tallystick.schema.declared import BRANCH

    order = [KIT, *DOMAINS, BRANCH]
    there: list[str] = [b.branch for b in await _status(tally, url) if b.applied]
    ranked = sorted(there, key=lambda b: order.index(b) if b in order else len(order))
    if not ranked:
        raise NotFound("No revision was applied, so there is nothing to take back.", remedy="See `tallystick status`.")
    return ranked[-1]


def _own_branch(folders: Sequence[str | Path]) -> str:
    from tallystick.schema.branches import history

    if not folders:
        return _OWN_BRANCH
    own = {Path(f).resolve() for f in folders}
    found = [r.branch for r in history(folders).revisions.values() if r.path.parent in own]
    return found[0] if found else _OWN_BRANCH


def _pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    from tallystick.errors import Invalid

    found: dict[str, str] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or "." not in name or not value:
            raise Invalid(f"--{option} is not written as TABLE.COLUMN=VALUE.", field=option)
        found[name] = value
    return found
