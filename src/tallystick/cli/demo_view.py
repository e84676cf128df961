"""How the demo looks: for people on a terminal of any width from 80 columns, and as a document."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from tallystick.cli import (
    demo_audit,
    demo_circles,
    demo_lending,
    demo_privacy,
    demo_reputation,
    demo_underwriting,
    demo_vaults,
)
from tallystick.cli.report import fairness_document, show_fairness, show_statistics, statistics_document

if TYPE_CHECKING:
    from tallystick.cli.demo import Story
    from tallystick.cli.output import Output
    from tallystick.domains.underwriting.applications import Application

_WAYS = {1: "read", 2: "change", 3: "refer", 4: "page on", 5: "SQL"}
_ROOMY = 100


def show(out: Output, story: Story) -> None:
    """The story for people."""
    from rich.text import Text

    width = out.console.width
    out.line()
    for step in story.steps:
        time = f"{step.seconds:.1f} s"
        room = max(10, min(width, 100) - len(time) - 3)
        out.console.print(Text.assemble(("✓ ", "green"), f"{step.done:<{room}} ", (time, "dim")))
    _page(out, story)
    _heading(out, "Statistics, each tenant's own")
    show_statistics(out, story.statistics)
    _heading(out, f"Approval by group, {story.statistics[0][0]}")
    for attribute, rates, compared in story.fairness:
        show_fairness(out, attribute, rates, compared)
    if story.source != "generated":
        out.line("The file's code for sex is unreliable (Groemping 2019): arithmetic, no claim about people.", "dim")
    _heading(out, "Underwriting: sixteen at one application, sixteen devices, two branches")
    if story.desk is not None:
        demo_underwriting.show(out, story.desk)
    _lending(out, story)
    _heading(out, "A savings circle: five rounds, one member stops paying")
    if story.circles is not None:
        demo_circles.show(out, story.circles)
    _heading(out, "Scores, reputation and a proof: shared work, consent, and nobody to judge")
    if story.reputation is not None:
        demo_reputation.show(out, story.reputation)
    _heading(out, "Vaults: a price falls, and everybody sees it at once")
    if story.vaults is not None:
        demo_vaults.show(out, story.vaults)
    _wall(out, story)
    if story.walled:
        out.line(f"All {len(story.crossings)} attempts, five ways, were stopped.", "bold green")
    else:
        out.line("THE WALL BROKE: an attempt was not stopped.", "bold red")
    if story.desk is not None and not story.desk.held:
        out.line("A DECISION, A TASK OR A FLAG IS WRONG: see above.", "bold red")
    if story.forgotten is not None:
        demo_privacy.show(out, story.forgotten)
    if story.lending is not None and not story.lending.held:
        out.line("THE MONEY IS WRONG: see above.", "bold red")
    if story.circles is not None and not story.circles.held:
        out.line("THE POTS ARE WRONG: see above.", "bold red")
    if story.reputation is not None and not story.reputation.held:
        out.line("A SCORE OR A PROOF IS WRONG: see above.", "bold red")
    if story.vaults is not None and not story.vaults.held:
        out.line("A VAULT IS WRONG: see above.", "bold red")
    _audit(out, story)
    if story.kept is not None:
        out.line(f"Kept in {story.kept}")
        for command in ("report statistics", "shell"):
            out.raw(f"  tallystick {command} --tenant sunrise --data-dir {shlex.quote(story.kept)}")
    else:
        out.line("The server is stopped and its directory removed.")
    out.line(f"{story.seconds:.1f} s", "dim")


def document(story: Story) -> dict[str, Any]:
    """The story for programs; names and numbers of people stay masked."""
    page = story.page
    assert page is not None
    return {
        "source": story.source,
        "steps": story.steps,
        "page": {
            "items": [
                {
                    "applicant": short(a.full_legal_name),
                    "ssn": a.ssn.mask,
                    "requested": str(a.requested_amount),
                    "months": a.requested_months,
                    "purpose": a.purpose,
                    "status": a.status.value,
                    "risk": story.risks[str(a.id)],
                }
                for a in page.items
            ],
            "total": page.total,
            "has_next": page.has_next,
        },
        "statistics": [{"tenant": slug, **statistics_document(s)} for slug, s in story.statistics],
        "fairness": [
            {"by": attribute, "groups": fairness_document(rates, compared)}
            for attribute, rates, compared in story.fairness
        ],
        "underwriting": None if story.desk is None else demo_underwriting.document(story.desk),
        "lending": None if story.lending is None else demo_lending.document(story.lending),
        "circles": None if story.circles is None else demo_circles.document(story.circles),
        "reputation": None if story.reputation is None else demo_reputation.document(story.reputation),
        "vaults": None if story.vaults is None else demo_vaults.document(story.vaults),
        "crossings": story.crossings,
        "forgotten": None if story.forgotten is None else demo_privacy.document(story.forgotten),
        "audit": None if story.audited is None else demo_audit.document(story.audited),
        "held": story.held and story.proven,
        "kept": story.kept,
        "seconds": round(story.seconds, 2),
    }


def short(name: str) -> str:
    """A person's name, shortened for a screen that others see."""
    first, _, last = name.rpartition(" ")
    return name if last.isdigit() or not first else f"{first} {last[:1]}."


def _page(out: Output, story: Story) -> None:
    page = story.page
    assert page is not None
    _heading(out, f"{story.statistics[0][0]}: latest decisions, page 1 of {page.pages}")
    columns = ("applicant", "SSN", "asks for", "months", "for", "status", "risk")
    out.table(columns, [_row(a, story) for a in page.items], right=("asks for", "months", "risk"), flexible=("for",))
    if page.next is not None:
        out.line(f"next page: cursor {page.next[:24]}…, good for this tenant and query only", "dim")


def _row(application: Application, story: Story) -> tuple[Any, ...]:
    from rich.text import Text

    status = application.status.value
    return (
        short(application.full_legal_name),
        application.ssn.mask,
        _amount(application),
        application.requested_months,
        application.purpose,
        Text(status, style="green" if status == "approved" else "red"),
        story.risks[str(application.id)],
    )


def _amount(application: Application) -> str:
    from decimal import Decimal

    amount = application.requested_amount
    if amount is None:
        return "-"
    number, _, asset = str(amount).partition(" ")
    return f"{Decimal(number):,} {asset}".replace(".00 ", " ")


def _lending(out: Output, story: Story) -> None:
    from rich.text import Text

    told = story.lending
    assert told is not None
    _heading(out, "Neighbours lend: a loan, two payments, a reversal")
    rows = []
    for event in told.events:
        mark = Text("✓", style="green") if event.good else Text("✗", style="bold red")
        rows.append((mark, str(event.day), event.what, str(event.outstanding or "")))
    out.table(
        ("", "day", "what happened", "outstanding"), rows, right=("day", "outstanding"), flexible=("what happened",)
    )
    risks = []
    for when, par in told.par:
        found = [demo_lending.at_risk(par, threshold) for threshold in (1, 30)]
        shown = [f"{r.principal} {float(r.ratio):.0%}" if r is not None else "-" for r in found]
        risks.append((when, *shown))
    out.table(("portfolio at risk", "PAR 1", "PAR 30"), risks, right=("PAR 1", "PAR 30"))
    style = "bold green" if told.balanced else "bold red"
    out.line(f"Trial balance over {told.accounts} accounts: debits less credits are {told.difference}.", style)


def _wall(out: Output, story: Story) -> None:
    from rich.text import Text

    first, second = story.statistics[0][0], story.statistics[1][0]
    _heading(out, f"Five ways over the wall: {second} tries to reach {first}'s application")
    rows = []
    before = 0
    for one in story.crossings:
        mark = Text("✓ stopped", style="green") if one.stopped else Text("✗ CROSSED", style="bold red")
        way = f"{one.way} {_WAYS[one.way]}" if one.way != before else ""
        answer = f"{one.answer} [{one.code}]" if one.code and out.console.width >= _ROOMY else one.answer
        rows.append((way, one.tried, answer, mark))
        before = one.way
    out.table(("way", "tried", "answer", ""), rows, flexible=("tried", "answer"))


def _audit(out: Output, story: Story) -> None:
    _heading(out, "The audit log: sealed, verified by a stranger's file, and two who tried to cheat")
    if story.audited is not None:
        demo_audit.show(out, story.audited)
    if not story.proven:
        out.line("THE AUDIT IS WRONG: see above.", "bold red")


def _heading(out: Output, text: str) -> None:
    out.line()
    out.line(text, "bold")
