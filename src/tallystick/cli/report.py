"""``report``: statistics of applications, and how groups fared."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.domains.underwriting.fairness import BiasFlag
    from tallystick.domains.underwriting.statistics import Comparison, GroupRate, Statistics

app = typer.Typer(help="Reports on a tenant's loans, books and applications.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose applications.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="A day in UTC.")]
_SMALL = 30


@command(app, "statistics")
async def statistics(run: Run, tenant: Tenant, since: Day = None, until: Day = None) -> Answer:
    """Total, approved, declined and average risk of the applications created from --since to before --until."""
    async with run.opened() as tally, tally.session(tenant, actor="report", permissions=()) as db:
        found = await db.applications.statistics(_start(since), _start(until))
    document = {"tenant": tenant, **statistics_document(found)}
    return Answer(document, lambda out: show_statistics(out, [(tenant, found)]))


@command(app, "fairness")
async def fairness(
    run: Run,
    tenant: Tenant,
    *,
    by: Annotated[str, typer.Option("--by", metavar="ATTRIBUTE", help="A monitored attribute.")] = "sex",
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="GROUP", help="Compare with it; else with the highest rate.")
    ] = None,
    since: Day = None,
    until: Day = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="VERSION", help="Only final decisions of this model version.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write a picture there too, as SVG.")
    ] = None,
) -> Answer:
    """Approval by group of an attribute told for monitoring, and each beside a reference group.

    "difference" is the statistical parity difference, "ratio" the disparate impact; a ratio below four fifths is
    evidence of adverse impact (29 CFR 1607.4(D)). Rates are of final decisions made from --since to before --until,
    each with Wilson's interval at 95 %. Flags of the monitor that stand are told too.
    """
    from tallystick.cli.fairness_picture import picture
    from tallystick.cli.portfolio import _write
    from tallystick.domains.underwriting.fairness import STANDING, BiasFlag
    from tallystick.domains.underwriting.fairness_metrics import demographic_parity
    from tallystick.domains.underwriting.statistics import GroupRate, compare
    from tallystick.query import one_of

    async with run.opened() as tally, tally.session(tenant, actor="report", permissions=()) as db:
        groups = await db.fairness.groups(by, since=_start(since), until=_start(until), model_version=model)
        flags = await db.fairness.find(BiasFlag.attribute == by, one_of(BiasFlag.state, STANDING))
    rates = [GroupRate(group=g.group, total=g.total, approved=g.selected) for g in groups]
    parity = demographic_parity(groups)
    against = reference if reference is not None or not rates else highest(rates)
    compared = compare(rates, against) if against is not None else []
    document = {
        "tenant": tenant,
        "by": by,
        "reference": against,
        "parity_difference": None if parity is None else parity.difference,
        "parity_ratio": None if parity is None else parity.ratio,
        "groups": fairness_document(rates, compared),
        "flags": [
            {
                "group": f.group_label,
                "reference": f.reference_label,
                "model": f.model_version or None,
                "state": f.state.value,
                "decided": f.decided,
                "approved": f.selected,
                "since": f.created_at,
            }
            for f in flags
        ],
    }
    written = _write(svg, lambda: picture(by, rates, compared, tenant), document)

    def show(out: Output) -> None:
        show_fairness(out, by, rates, compared, intervals=True)
        for flag in flags:
            _show_flag(out, flag)
        if written is not None:
            out.line(f"Picture: {written}", "dim")

    return Answer(document, show)


def highest(rates: list[GroupRate]) -> str:
    """The group with the highest rate, which the four-fifths rule compares with."""
    return max(rates, key=lambda r: (r.rate, r.total)).group


def statistics_document(found: Statistics) -> dict[str, Any]:
    """Statistics for programs."""
    return {
        "total": found.total,
        "approved": found.approved,
        "declined": found.declined,
        "pending": found.pending,
        "average_risk": None if found.average_risk is None else float(found.average_risk),
    }


def fairness_document(rates: list[GroupRate], compared: list[Comparison]) -> list[dict[str, Any]]:
    """Rates and comparisons for programs; the counts are there, because rates are rounded."""
    from tallystick.domains.underwriting.fairness_metrics import wilson

    by_group = {c.group: c for c in compared}
    found = []
    for rate in rates:
        one = by_group.get(rate.group)
        interval = wilson(rate.approved, rate.total)
        found.append(
            {
                "group": rate.group,
                "decided": rate.total,
                "approved": rate.approved,
                "rate": rate.rate,
                "low": float(interval.low),
                "high": float(interval.high),
                "difference": None if one is None else one.difference,
                "ratio": None if one is None else one.ratio,
                "adverse": None if one is None else one.adverse,
            }
        )
    return found


def show_statistics(out: Output, found: list[tuple[str, Statistics]]) -> None:
    """Statistics for people, a tenant a line."""
    rows = [(name, s.total, s.approved, s.declined, s.pending, _risk(s.average_risk)) for name, s in found]
    columns = ("tenant", "applications", "approved", "declined", "pending", "average risk")
    out.table(columns, rows, right=columns[1:])


def show_fairness(
    out: Output, by: str, rates: list[GroupRate], compared: list[Comparison], *, intervals: bool = False
) -> None:
    """Rates and comparisons for people, with intervals where there is room for them."""
    if not rates:
        out.line(f"No decided application has the attribute {by}.")
        return
    from tallystick.domains.underwriting.fairness_metrics import wilson

    by_group = {c.group: c for c in compared}
    rows = []
    for rate in rates:
        one = by_group.get(rate.group)
        interval = wilson(rate.approved, rate.total)
        between = (f"{interval.low * 100:.1f} to {interval.high * 100:.1f} %",) if intervals else ()
        rows.append(
            (
                rate.group,
                rate.total,
                rate.approved,
                f"{_digits(rate.rate * 100, 2)} %",
                *between,
                "reference" if one is None else _digits(one.difference, 4, sign=True),
                None if one is None or one.ratio is None else _digits(one.ratio, 4),
                _judged(rate, one),
            )
        )
    middle = ("95 % interval",) if intervals else ()
    columns = (by, "decided", "approved", "rate", *middle, "difference", "ratio", "4/5 rule")
    out.table(columns, rows, right=columns[1:-1])


def _show_flag(out: Output, flag: BiasFlag) -> None:
    model = f" by {flag.model_version}" if flag.model_version else ""
    told = f"{flag.group_label} with {flag.selected:,} of {flag.decided:,}{model}"
    beside = f"{flag.reference_label} with {flag.reference_selected:,} of {flag.reference_decided:,}"
    out.line(f"Flag, {flag.state.value}: {told} beside {beside}.", "yellow")


def _judged(rate: GroupRate, one: Comparison | None) -> str:
    if one is None:
        return ""
    verdict = "below" if one.adverse else "kept"
    return f"{verdict} (few cases)" if rate.total < _SMALL else verdict


def _risk(risk: Decimal | None) -> str:
    return "-" if risk is None else f"{risk:.1f}"


def _digits(value: Fraction, places: int, *, sign: bool = False) -> str:
    """A fraction with so many decimals, rounded half to even, without passing through a float."""
    scaled = round(value * 10**places)
    return f"{Decimal(scaled).scaleb(-places):{'+' if sign else ''}.{places}f}"


def _start(day: datetime | None) -> datetime | None:
    return None if day is None else datetime.combine(date(day.year, day.month, day.day), time(), UTC)
