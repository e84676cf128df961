"""``seed``: made-up data to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.cli.output import Output


async def seed(
    run: Run,
    name: Annotated[
        str,
        typer.Argument(
            help="tenants, users, applications, reviews, fairness, devices, community, circles, reputation, vaults, "
            "or all."
        ),
    ] = "all",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, on a server that is not the embedded one.")
    ] = False,
) -> Answer:
    """Plant made-up tenants and data for every domain, or one seed with what it needs; what is there already stays."""
    from tallystick.seeds import plant, told_of, wanted

    seeds = wanted(name)
    async with run.opened() as tally:
        if tally.server is None:
            run.confirm("Put made-up data into the database of DATABASE_URL?", yes)
        with run.output.progress("Planting", told_of(seeds) or None) as tell:
            planted = await plant(tally, name, tell)

    def show(out: Output) -> None:
        rows = [(p.seed, p.tenant, p.added, p.present) for p in planted]
        out.table(("seed", "tenant", "added", "there already"), rows, right=("added", "there already"))

    return Answer({"planted": planted}, show)
