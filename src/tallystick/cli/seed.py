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
        str, typer.Argument(help="tenants, users, applications, community, circles, reputation, vaults or all.")
    ] = "all",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, on a server that is not the embedded one.")
    ] = False,
) -> Answer:
    """Plant made-up tenants, users, applications, a community and savings circles; what is there already stays."""
    from tallystick.seeds import APPLICATIONS, CIRCLES, LOANS, REPUTATIONS, VAULTS, plant, wanted

    seeds = wanted(name)
    async with run.opened() as tally:
        if tally.server is None:
            run.confirm("Put made-up data into the database of DATABASE_URL?", yes)
        total = sum(APPLICATIONS.values()) if "applications" in seeds else 0
        total += LOANS * len(APPLICATIONS) if "community" in seeds else 0
        total += CIRCLES * len(APPLICATIONS) if "circles" in seeds else 0
        total += REPUTATIONS * len(APPLICATIONS) if "reputation" in seeds else 0
        total += VAULTS * len(APPLICATIONS) if "vaults" in seeds else 0
        with run.output.progress("Planting", total or None) as tell:
            planted = await plant(tally, name, tell)

    def show(out: Output) -> None:
        rows = [(p.seed, p.tenant, p.added, p.present) for p in planted]
        out.table(("seed", "tenant", "added", "there already"), rows, right=("added", "there already"))

    return Answer({"planted": planted}, show)
