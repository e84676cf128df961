"""``load``: data sets of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output

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

    file = find(path)
    async with run.opened() as tally:
        await _tenant(tally, tenant)
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


@command(app, "hmda")
async def hmda(
    run: Run,
    path: Annotated[Path, typer.Argument(help="HMDA.csv or its folder, or a public loan application register.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose applications they become.")] = "hmda",
) -> Answer:
    """Load mortgage applications disclosed under HMDA, with their decisions, all or none.

    The Boston data of 1990, or a public register of any lenders since 2007. The file names nobody; names and numbers
    are made up and say so. The tenant is created when it does not exist, and what it has already is not loaded twice.
    Prints who was denied, as it is stored.
    """
    from tallystick.domains.underwriting.hmda import find, load

    file = find(path)
    async with run.opened() as tally:
        await _tenant(tally, tenant)
        async with tally.session(tenant, actor="load", permissions=["*"]) as db:
            with run.output.progress("Loading") as tell:
                found = await load(db, file, tell)
    groups = [{found.by: g.group, "decided": g.total, "denied": g.total - g.selected} for g in found.groups]
    document = {
        "tenant": tenant,
        "file": found.file,
        "records": found.records,
        "added": found.added,
        "denied": found.denied,
        "payment_to_income": None if found.payment_to_income is None else str(found.payment_to_income),
        "purchased": found.purchased,
        "groups": groups,
    }

    def show(out: Output) -> None:
        out.line(
            f"{found.file}: {found.records:,} records, {found.added:,} applications added to {tenant}; "
            f"{found.denied:,} denied"
            + (f", payments {found.payment_to_income} of income on average." if found.payment_to_income else ".")
            + (f" {found.purchased:,} purchased loans passed over." if found.purchased else "")
        )
        columns = ("African-American" if found.by == "afam" else found.by, "decided", "denied")
        out.table(columns, [tuple(g.values()) for g in groups], right=columns[1:])

    return Answer(document, show)


@command(app, "bitcoin-otc")
async def bitcoin_otc(
    run: Run,
    path: Annotated[Path, typer.Argument(help="soc-sign-bitcoinotc.csv, or the folder it is in.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose members they become.")] = "bitcoin-otc",
) -> Answer:
    """Load the trust network of Bitcoin OTC (SNAP): 5,881 members and 35,592 ratings of each other, all or none.

    The file numbers its members and says nothing else of them. The tenant is created when it does not exist, and what
    it has already is not loaded twice. Prints the shape of the network as it is stored.
    """
    from tallystick.domains.community.bitcoin_otc import find, load

    file = find(path)
    async with run.opened() as tally:
        await _tenant(tally, tenant)
        async with tally.session(tenant, actor="load", permissions=["*"]) as db:
            with run.output.progress("Loading") as tell:
                found = await load(db, file, tell)
    graph = found.graph
    document = {
        "tenant": tenant,
        "file": found.file,
        "ratings": found.ratings,
        "members_added": found.members_added,
        "edges_added": found.edges_added,
        "members": graph.members,
        "edges": graph.edges,
        "positive_share": None if graph.positive_share is None else str(graph.positive_share),
        "reciprocity": None if graph.reciprocity is None else str(graph.reciprocity),
        "strong_components": graph.strong,
        "largest_strong_component": graph.largest,
        "weak_components": graph.weak,
        "most_edges": graph.most_edges,
    }

    def show(out: Output) -> None:
        out.line(
            f"{found.file}: {found.ratings:,} ratings; {found.members_added:,} members and {found.edges_added:,} edges "
            f"added to {tenant}."
        )
        out.line(
            f"The network: {graph.members:,} members, {graph.edges:,} edges, {graph.positive_share} of them positive, "
            f"{graph.reciprocity} mutual; {graph.strong:,} strong components (the largest of {graph.largest:,}), "
            f"{graph.weak:,} weak."
        )

    return Answer(document, show)


@command(app, "lending-club")
async def lending_club(
    run: Run,
    path: Annotated[Path, typer.Argument(help="loans_full_schema.csv, or the folder it is in.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose loans they become.")] = "lending-club",
) -> Answer:
    """Board the 10,000 loans that Lending Club issued in the first quarter of 2018 (OpenIntro), as of 30 June 2018.

    The file names nobody. The tenant is created when it does not exist, and what it has already is not loaded twice;
    a run that was stopped goes on where it was. Prints what the loans say as they are stored; look at the portfolio
    with "report par --on 2018-06-30".
    """
    from tallystick.cli.load_view import lending_club_document, show_lending_club
    from tallystick.domains.lending.datasets.lending_club import load, read
    from tallystick.domains.lending.datasets.lending_club_report import report

    total = len(read(path))
    async with run.opened() as tally:
        await _tenant(tally, tenant)
        async with tally.session(tenant, actor="load", permissions=["loans.board"]) as db:
            with run.output.progress("Boarding", total) as tell:
                done = await load(db, path, tell)
            await _counted(tally)
            found = await report(db)
    return Answer(lending_club_document(tenant, done, found), lambda out: show_lending_club(out, tenant, done, found))


@command(app, "berka")
async def berka(
    run: Run,
    path: Annotated[Path, typer.Argument(help="The folder with loan.csv, order.csv and the other tables.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose loans they become.")] = "berka",
) -> Answer:
    """Board the 682 loans of the Czech bank of the PKDD'99 challenge as of 31 December 1998, all or none.

    With them come the bank's 5,369 clients, without names or birthdays, its 4,500 accounts, and the standing order
    that pays each loan. The tenant is created when it does not exist, and what it has already is not loaded twice.
    Prints what the loans say as they are stored; look at the portfolio with "report par --on 1998-12-31".
    """
    from tallystick.cli.load_view import berka_document, show_berka
    from tallystick.domains.lending.datasets.berka import load
    from tallystick.domains.lending.datasets.berka_files import read
    from tallystick.domains.lending.datasets.berka_report import report

    read(path)
    async with run.opened() as tally:
        await _tenant(tally, tenant)
        async with tally.session(tenant, actor="load", permissions=["loans.board"]) as db:
            with run.output.progress("Boarding") as tell:
                done = await load(db, path, tell)
            await _counted(tally)
            found = await report(db)
    return Answer(berka_document(tenant, done, found), lambda out: show_berka(out, tenant, done, found))


async def _counted(tally: Tallystick) -> None:
    """Let the database count what was loaded, where its owner's connection is at hand."""
    from tallystick.domains.catalog import entities_of
    from tallystick.schema.roles import Roles
    from tallystick.schema.statistics import analyze

    if tally.server is not None or tally.settings.admin_url is not None:
        await analyze(
            tally.admin_url, Roles(tally.settings.role_prefix), entities_of(["identity", "ledger", "lending"])
        )


async def _tenant(tally: Tallystick, slug: str) -> None:
    """Make the tenant of a data set where it does not exist."""
    from tallystick.errors import NotFound

    try:
        await tally.tenants.resolve(slug)
    except NotFound:
        await tally.tenants.create(slug, name=slug.replace("-", " ").title())
