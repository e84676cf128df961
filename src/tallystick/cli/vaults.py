"""``report vaults`` and the data sets of vaults: reserves, borrowers, liquidations, prices."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.domains.vaults.datasets import aave_liquidations, aave_positions, aave_reserves, market_data

Tenant = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose they become.")]
_MOST = 12


async def vaults(
    run: Run,
    *,
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose vaults.")],
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write a picture there too, as SVG.")
    ] = None,
) -> Answer:
    """How vaults stand: totals by status, health factors in bands, alerts that stand, and the worst vaults."""
    from tallystick.cli.portfolio import _write
    from tallystick.cli.vaults_view import document, picture, show

    async with run.opened() as tally, tally.session(tenant, actor="report", permissions=()) as db:
        found = await db.vaults.overview()
    told = {"tenant": tenant, **document(found)}
    written = _write(svg, lambda: picture(found, tenant), told)
    return Answer(told, lambda out: show(out, found, tenant, written))


async def reserves(
    run: Run,
    path: Annotated[Path, typer.Argument(help="A snapshot, or the folder with those before and after a change.")],
    tenant: Tenant = "aave-v3",
) -> Answer:
    """Load the reserve configuration of Aave v3 (BGD Labs): assets, their risk, oracle prices, and what changed.

    The tenant is created when it does not exist, and what it has already is not loaded twice.
    """
    from tallystick.cli.load import _tenant
    from tallystick.domains.vaults.datasets.aave_reserves import load

    async with run.opened() as tally:
        await _tenant(tally, tenant)
        async with tally.session(tenant, actor="load", permissions=["prices.record"]) as db:
            with run.output.progress("Loading") as tell:
                done = await load(db, path, tell)
    return Answer({"tenant": tenant, "loaded": done}, lambda out: _reserves(out, tenant, done))


async def borrowers(
    run: Run,
    path: Annotated[Path, typer.Argument(help="The folder with 0x....csv, or one of them.")],
    tenant: Tenant = "aave-v2",
) -> Answer:
    """Replay borrowers of Aave v2 block by block (University of Pennsylvania), as vaults.

    Health factors are derived from what each row held and owed, and compared with what the row says. The tenant is
    created when it does not exist, and what it has already is not loaded twice.
    """
    from tallystick.cli.load import _tenant
    from tallystick.domains.vaults.datasets.aave_positions import load

    async with run.opened() as tally:
        await _tenant(tally, tenant)
        async with tally.session(tenant, actor="load", permissions=["prices.record"]) as db:
            with run.output.progress("Replaying") as tell:
                done = await load(db, path, tell)
    return Answer({"tenant": tenant, "loaded": done}, lambda out: _borrowers(out, tenant, done))


async def liquidations(
    run: Run,
    path: Annotated[Path, typer.Argument(help="liquidations_raw.csv with tokens.csv beside it, or their folder.")],
    tenant: Tenant = "aave-v2-liquidations",
) -> Answer:
    """Load liquidations of Aave v2 (Rensselaer IDEA) as observed events, all or none.

    Amounts of the file are of two scales; each row is read by its own, and what was noticed is said. The tenant is
    created when it does not exist, and what it has already is not loaded twice.
    """
    from tallystick.cli.load import _tenant
    from tallystick.domains.vaults.datasets.aave_liquidations import load

    async with run.opened() as tally:
        await _tenant(tally, tenant)
        async with tally.session(tenant, actor="load", permissions=["vaults.manage"]) as db:
            with run.output.progress("Loading") as tell:
                done = await load(db, path, tell)
    return Answer({"tenant": tenant, "loaded": done}, lambda out: _liquidations(out, tenant, done))


async def prices(
    run: Run,
    path: Annotated[Path, typer.Argument(help="A CSV of prices, a folder of them, or of the three kinds' folders.")],
    tenant: Annotated[
        str, typer.Option("--tenant", metavar="SLUG", help="Who records them; all read them.")
    ] = "market",
) -> Answer:
    """Load market data that all tenants share: hourly prices, daily bars, or the ECB's reference rates.

    The header says which. The tenant is created when it does not exist; prices that are there already are kept.
    """
    from tallystick.cli.load import _tenant
    from tallystick.domains.vaults.datasets.market_data import load

    async with run.opened() as tally:
        await _tenant(tally, tenant)
        async with tally.session(tenant, actor="load", permissions=["prices.record"]) as db:
            with run.output.progress("Loading") as tell:
                done = await load(db, path, tell)
    return Answer({"tenant": tenant, "loaded": done}, lambda out: _prices(out, done))


def _reserves(out: Output, tenant: str, done: aave_reserves.Loaded) -> None:
    out.line(f"{', '.join(done.files)}: {done.reserves} reserves, {done.added} added to {tenant}.")
    rows: list[tuple[Any, ...]] = [(c.asset, c.parameter, c.before, c.after) for c in done.changes]
    if not rows:
        out.line("No parameter has changed.")
        return
    many = f"{len(rows)} parameters have" if len(rows) > 1 else "Exactly one parameter has"
    out.line(f"{many} changed:")
    out.table(("asset", "parameter", "before", "after"), rows, flexible=("before", "after"))
    for change in done.changes:
        for name, told in change.strategy.items():
            out.line(f"  {change.asset} {name}: {told} (in ray, 10^27)")


def _borrowers(out: Output, tenant: str, done: aave_positions.Loaded) -> None:
    out.line(f"{done.files} borrowers, {done.rows:,} rows, {done.added:,} added to {tenant}.")
    for notice in done.notices:
        out.line(f"! {notice}", "yellow")
    rows = [
        (
            b.address,
            b.with_debt,
            b.single,
            b.single_within,
            b.within,
            b.below_one,
            None if b.greatest is None else f"{b.greatest:.5f}",
        )
        for b in done.borrowers
    ]
    columns = ("borrower", "with debt", "one asset", "of them within", "all within", "below 1", "greatest gap")
    out.table(columns, rows, right=columns[1:])
    single, within = sum(b.single for b in done.borrowers), sum(b.single_within for b in done.borrowers)
    good = single == within
    out.line(
        f"Health factor within 0.005 in {within:,} of {single:,} rows of one asset.", "green" if good else "bold red"
    )


def _liquidations(out: Output, tenant: str, done: aave_liquidations.Loaded) -> None:
    out.line(
        f"{done.file}: {done.events:,} liquidations of {done.borrowers:,} borrowers, {done.added:,} added to {tenant}."
    )
    for notice in done.notices:
        out.line(f"! {notice}", "yellow")
    rows = [(symbol, n, f"{ratio:.4f}") for symbol, (n, ratio) in done.bonuses.items()][:_MOST]
    out.table(("collateral", "with dollars", "median of collateral / debt"), rows, right=("with dollars",))


def _prices(out: Output, done: market_data.Loaded) -> None:
    out.line(f"{len(done.files)} files, {done.prices:,} prices, {done.added:,} added.")
    rows = [
        (
            f"{s.asset}/{s.quote}",
            s.source,
            s.rows,
            f"{s.first:%Y-%m-%d}",
            f"{s.last:%Y-%m-%d}",
            f"{_short(s.low)} on {s.low_at:%Y-%m-%d}",
            f"{_short(s.high)} on {s.high_at:%Y-%m-%d}",
        )
        for s in done.series
    ]
    out.table(("price", "source", "prices", "first", "last", "lowest", "highest"), rows, right=("prices",))


def _short(value: Decimal) -> str:
    """Six significant digits or four decimals, whichever is more, without trailing zeros beyond four."""
    places = max(4, 6 - value.adjusted() - 1) if value < 1 else 4
    return f"{value:,.{places}f}"
