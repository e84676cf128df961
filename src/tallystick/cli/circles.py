"""``report circles`` and ``load savings-groups``: savings groups as a table, and one as a picture."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.domains.savings.mozambique import Loaded, Table
    from tallystick.domains.savings.overview import Overview
    from tallystick.domains.savings.views import Circle

Tenant = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose groups.")]
_MARKS = {
    "confirmed": ("●", "x", "green"),
    "covered": ("◐", "c", "yellow"),
    "expected": ("·", ".", "dim"),
    "pending": ("○", "o", "cyan"),
    "failed": ("✗", "!", "red"),
    "late": ("▲", "L", "yellow"),
    "defaulted": ("✗", "D", "red"),
    "waived": ("=", "-", "dim"),
    "orphaned": ("?", "?", "red"),
}


async def circles(
    run: Run,
    *,
    tenant: Tenant,
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", help="Draw one group: who paid and received in each round.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write a picture there too, as SVG.")
    ] = None,
) -> Answer:
    """Savings groups: what was paid in and out, what is held, what members owe; with --group, the rounds of one."""
    from tallystick.cli.circle_pictures import circle_picture, overview_picture
    from tallystick.cli.portfolio import _write
    from tallystick.errors import Invalid

    async with run.opened() as tally, tally.session(tenant, actor="report", permissions=()) as db:
        found = await db.circles.overview()
        if group is None:
            document = _document(tenant, found)
            written = _write(svg, lambda: overview_picture(found, tenant), document)
            return Answer(document, lambda out: _show(out, tenant, found, written))
        named = [o for o in found if group.casefold() in o.group.name.casefold()]
        if len(named) != 1:
            raise Invalid(
                "No group has that in its name." if not named else "More than one group has that in its name.",
                field="group",
                remedy="See report circles without --group.",
            )
        one = await db.circles.circle(named[0].group.id)
    document = _circle_document(tenant, one)
    written = _write(svg, lambda: circle_picture(one), document)
    return Answer(document, lambda out: _show_circle(out, one, written))


async def savings_groups(
    run: Run,
    path: Annotated[Path, typer.Argument(help="savings_contributions.csv, or the folder it is in.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose groups they become.")] = "proirri",
) -> Answer:
    """Load the savings of 3,081 households in 42 associations of Mozambique (World Bank, PROIRRI), group by group.

    The file names nobody. The tenant is created when it does not exist, and what it has already is not loaded twice.
    Prints the published table, counted from what is stored.
    """
    from tallystick.cli.load import _tenant
    from tallystick.domains.savings.mozambique import load, read, table

    total = len(read(path))
    async with run.opened() as tally:
        await _tenant(tally, tenant)
        async with tally.session(tenant, actor="load", permissions=["circles.manage"]) as db:
            with run.output.progress("Loading", total) as tell:
                done = await load(db, path, tell)
            found = await table(db)
    return Answer(_table_document(tenant, done, found), lambda out: _show_table(out, tenant, done, found))


# -- reports -----------------------------------------------------------------------------------------------------


def _document(tenant: str, found: list[Overview]) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "groups": [
            {
                "id": o.group.id,
                "name": o.group.name,
                "status": o.group.status.value,
                "order": o.group.order_kind.value,
                "members": o.group.members,
                "round": o.group.current_round,
                "rounds": o.group.rounds,
                "received": o.received,
                "in_debt": o.in_debt,
                "asset": o.group.asset,
                **{n: str(getattr(o, n).units) for n in ("paid_in", "paid_out", "fees", "held", "owed")},
            }
            for o in found
        ],
    }


def _show(out: Output, tenant: str, found: list[Overview], written: Path | None) -> None:
    from tallystick.cli.circle_pictures import told

    if not found:
        out.line(f"{tenant} has no savings groups.")
        return
    rows = [
        (
            o.group.name,
            o.group.status.value,
            o.group.members,
            f"{o.group.current_round}/{o.group.rounds}",
            told(o.paid_in),
            told(o.paid_out),
            told(o.held),
            told(o.owed),
            o.in_debt,
        )
        for o in found
    ]
    columns = ("group", "status", "members", "round", "paid in", "paid out", "held", "owed", "behind")
    out.table(columns, rows, right=columns[2:], flexible=("group",))
    _said(out, written)


def _said(out: Output, written: Path | None) -> None:
    if written is not None:
        out.line(f"Picture: {written}", "dim")


def _circle_document(tenant: str, one: Circle) -> dict[str, Any]:
    places = {m.ref: m.position for m in one.members}
    return {
        "tenant": tenant,
        "group": one.group.name,
        "status": one.group.status.value,
        "rounds": [
            {
                "round": r.seq,
                "due": r.due_on,
                "status": r.status.value,
                "recipient": None if r.recipient is None else places[r.recipient],
                "contributions": {str(places[c.member] or c.member.id): c.status.value for c in _of(one, r.id)},
            }
            for r in one.rounds
        ],
        **{n: str(getattr(one, n).units) for n in ("paid_in", "paid_out", "fees", "held", "owed")},
    }


def _of(one: Circle, round: Any) -> list[Any]:
    return [c for c in one.contributions if c.round.id == round and c.kind.value == "regular"]


def _show_circle(out: Output, one: Circle, written: Path | None) -> None:
    """A line a member, a column a round: how they paid, and where the pot came to them."""
    from rich.text import Text

    from tallystick.cli.circle_pictures import status_of

    ascii_only = not out.console.encoding.lower().startswith("utf")
    out.line(
        f"{one.group.name}: {one.group.status.value}, round {one.group.current_round} of {one.group.rounds}", "bold"
    )
    members = sorted(one.members, key=lambda m: (m.position is None, m.position or 0, m.id))
    paid = status_of(one)
    shown = [r for r in one.rounds if r.seq <= 30]
    for n, member in enumerate(members[:100], 1):
        line = Text(f"{n:>4} ")
        for current in shown:
            mark, plain, style = _MARKS[paid.get((member.ref, current.ref), "expected")]
            turn = current.recipient == member.ref
            cell = plain if ascii_only else mark
            line.append(f"[{cell}]" if turn else f" {cell} ", style=f"bold {style}" if turn else style)
        notes = [word for word, true in (("received", member.has_received), ("in debt", member.in_debt)) if true]
        line.append(f"  {member.status.value}{', ' if notes else ''}{', '.join(notes)}", style="dim")
        out.console.print(line)
    marks = {name: _MARKS[name][1 if ascii_only else 0] for name in ("confirmed", "covered", "late", "defaulted")}
    out.line("  ".join(f"{mark} {name}" for name, mark in marks.items()) + "  [ ] receives", "dim")
    _said(out, written)


# -- the data set ------------------------------------------------------------------------------------------------


def _table_document(tenant: str, done: Loaded, found: Table) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "file": done.file,
        "households": found.households,
        "associations": found.associations,
        "groups_added": done.groups,
        "contributions_added": done.contributions,
        "quarters": [
            {"quarter": q.number, "share": _digits(q.share, 3), "mean": _digits(q.mean, 3)} for q in found.quarters
        ],
        "control_mean": _digits(found.control, 2),
        "control_deviation": str(found.control_deviation),
        "planned_mean": _digits(found.planned, 2),
        "association_mean": _digits(found.association_mean, 2),
        "association_most": _digits(found.association_most, 2),
        "target_mean": _digits(found.target_mean, 2),
    }


def _show_table(out: Output, tenant: str, done: Loaded, found: Table) -> None:
    from tallystick.cli.chart import bar, ceiling

    out.line(
        f"{done.file}: {done.households:,} households; {done.groups} associations and {done.contributions:,} "
        f"contributions added to {tenant}."
    )
    scale = ceiling(max(q.mean for q in found.quarters))
    rows = [
        (q.number, _digits(q.share * 100, 1) + " %", _digits(q.mean, 3), bar(q.mean, scale, 30)) for q in found.quarters
    ]
    out.table(("up to quarter", "saved", "mean, MZN", ""), rows, right=("up to quarter", "saved", "mean, MZN"))
    out.line(
        f"By the end: {_digits(found.control, 2)} without plans (sd {found.control_deviation:.2f}), "
        f"{_digits(found.planned, 2)} with; an association {_digits(found.association_mean, 0)}, "
        f"at most {_digits(found.association_most, 0)}, of {_digits(found.target_mean, 0)} planned."
    )


def _digits(value: Fraction, places: int) -> str:
    return f"{Decimal(round(value * 10**places)).scaleb(-places):.{places}f}"
