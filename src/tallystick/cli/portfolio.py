"""Reports of a tenant's loans: portfolio at risk, vintages, expected cash, and the trial balance."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.domains.lending.portfolio import Portfolio

Tenant = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose loans.")]
On = Annotated[
    datetime | None,
    typer.Option("--on", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The business date; today by default."),
]
Since = Annotated[
    datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The first day.")
]
Until = Annotated[
    datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The last day.")
]
Svg = Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write a picture there too, as SVG.")]
_ACTOR = "report"


async def par(
    run: Run,
    *,
    tenant: Tenant,
    on: On = None,
    by: Annotated[str | None, typer.Option("--by", metavar="GROUP", help="product or community.")] = None,
    days: Annotated[str, typer.Option("--days", metavar="LIST", help="Thresholds, with commas.")] = "1,30,60,90",
    svg: Svg = None,
) -> Answer:
    """Portfolio at risk: the whole principal of loans that are late, and of those that were restructured.

    PAR 1 is a day past due or more, any other threshold more days than it says. Written-off loans are left out.
    """
    from tallystick.cli.pictures import risk_picture
    from tallystick.cli.portfolio_view import risk_document, show_risk

    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=()) as db:
        report = await db.portfolio.par(_day(on), _numbers(days), by=by)
    document = {"tenant": tenant, **risk_document(report)}
    written = _write(svg, lambda: risk_picture(report, tenant), document)
    return Answer(document, lambda out: show_risk(out, report, tenant, written))


async def vintage(
    run: Run,
    *,
    tenant: Tenant,
    on: On = None,
    by: Annotated[str, typer.Option("--by", metavar="SPAN", help="month, quarter or year.")] = "month",
    measure: Annotated[str, typer.Option("--measure", help="loss, par1, par30, par60 or par90.")] = "loss",
    since: Since = None,
    months: Annotated[int, typer.Option("--months", help="How many months on book.")] = 36,
    svg: Svg = None,
) -> Answer:
    """How loans fared by when they were paid out and by months on book, as part of what was paid out."""
    from tallystick.cli.pictures import vintage_picture
    from tallystick.cli.portfolio_view import show_vintages, vintage_document

    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=()) as db:
        portfolio: Portfolio = db.portfolio
        report = await portfolio.vintages(_day(on), by=by, measure=measure, since=_day(since), months=months)
    document = {"tenant": tenant, **vintage_document(report)}
    written = _write(svg, lambda: vintage_picture(report, tenant), document)
    return Answer(document, lambda out: show_vintages(out, report, tenant, written))


async def cash_flow(
    run: Run,
    *,
    tenant: Tenant,
    since: Since = None,
    until: Until = None,
    by: Annotated[str, typer.Option("--by", metavar="SPAN", help="day, week, month, quarter or year.")] = "month",
    svg: Svg = None,
) -> Answer:
    """What borrowers are still to pay, by when it is due; what is overdue stands apart."""
    from tallystick.cli.pictures import cash_picture
    from tallystick.cli.portfolio_view import cash_document, show_cash

    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=()) as db:
        report = await db.portfolio.cash_flow(_day(since), _day(until), by=by)
    document = {"tenant": tenant, **cash_document(report)}
    written = _write(svg, lambda: cash_picture(report, tenant), document)
    return Answer(document, lambda out: show_cash(out, report, tenant, written))


async def trial_balance(
    run: Run,
    *,
    tenant: Tenant,
    on: On = None,
    every: Annotated[bool, typer.Option("--all", help="Each loan's accounts, not their sums.")] = False,
) -> Answer:
    """Debits and credits of every account; those of single loans are summed up by kind."""
    from tallystick.cli import exits
    from tallystick.cli.portfolio_view import show_trial, summed, trial_document

    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=()) as db:
        report = await db.ledger.trial_balance(_day(on))
        day = report.on or db.today()
    lines = summed(report, every=every)
    document = {"tenant": tenant, **trial_document(report, lines, day)}
    code = exits.OK if report.balanced else exits.FINDINGS
    return Answer(document, lambda out: show_trial(out, report, lines, tenant, day), code)


def _day(given: datetime | None) -> date | None:
    return None if given is None else given.date()


def _numbers(text: str) -> tuple[int, ...]:
    from tallystick.errors import Invalid

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise Invalid("Thresholds are whole numbers of days.", field="days", remedy="Write --days 1,30,60,90.")
    return tuple(int(part) for part in parts)


def _write(place: Path | None, picture: Any, document: dict[str, Any]) -> Path | None:
    """Write the picture where one is wanted, and say so in the document. Raises ``Unavailable``."""
    from tallystick.errors import Unavailable

    if place is None:
        return None
    text, problem = picture(), ""
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = error.strerror or type(error).__name__
    if problem:
        raise Unavailable(
            f"The picture cannot be written: {problem}.", remedy="Name a file in a directory you can write to."
        )
    document["svg"] = str(place)
    return place
