"""``load``: data sets of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tallystick.cli.run import Answer, Run, command

app = typer.Typer(help="Load a data set.", no_args_is_help=True)


@command(app, "german-credit")
async def german_credit(
    run: Run,
    path: Annotated[Path, typer.Argument(help="german.data, german.csv, or the folder of either.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose applications they become.")] = "german",
) -> Answer:
    """Load the German credit data (UCI 144): a thousand applications with decisions, all or none.

    The file names nobody; names and numbers are made up and say so. The tenant is created when it does not exist, and
    what it has already is not loaded twice.
    """
    from tallystick.domains.underwriting.german_credit import find, load
    from tallystick.errors import NotFound

    file = find(path)
    async with run.opened() as tally:
        try:
            await tally.tenants.resolve(tenant)
        except NotFound:
            await tally.tenants.create(tenant, name=tenant.replace("-", " ").title())
        async with tally.session(tenant, actor="load", permissions=["*"]) as db:
            with run.output.progress("Loading") as tell:
                done = await load(db, file, tell)
    found = done
    return Answer(
        {"tenant": tenant, "file": found.file, "records": found.records, "added": found.added},
        lambda out: out.line(
            f"{found.file}: {found.records:,} records, {found.added:,} applications added to {tenant}"
            + (f", {found.records - found.added:,} there already." if found.added < found.records else ".")
        ),
    )
