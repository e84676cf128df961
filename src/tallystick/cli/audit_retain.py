"""``audit retain``: how long bodies of entries are kept, and dropping those of months that are past it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.audit_view import count
from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.audit.retention import Retention
    from tallystick.cli.output import Output


async def retain(
    run: Run,
    *,
    months: Annotated[
        int | None, typer.Option("--months", metavar="N", help="A new policy: keep bodies for so many months.")
    ] = None,
    basis: Annotated[
        str | None, typer.Option("--basis", metavar="TEXT", help="The new policy's legal basis, in words.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what would be dropped, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> Answer:
    """Drop the bodies and salts of months that the retention policy keeps no longer; hashes and proofs stay.

    It needs the sealing role, and the admin for a new policy. What is dropped is gone for good, and each log says so.
    """
    from tallystick.errors import Conflict, Invalid

    if not explain and (months is None) != (basis is None):
        raise Invalid(
            "A policy is a number of months and its basis.", field="months", remedy="Give --months and --basis."
        )
    async with run.opened() as tally:
        plan = await tally.audit.retention(months)
        if explain:
            return Answer(_document(plan, 0), lambda out: _show(out, plan))
        if any(month.unsealed for month in plan.expired):
            raise Conflict("Entries of these months are not sealed yet.", remedy="Seal first: tallystick audit seal.")
        entries = sum(month.entries for month in plan.expired)
        if months is not None or plan.expired:
            run.confirm(_question(plan, entries, months is not None), yes)
        if months is not None and basis is not None:
            await tally.audit.set_retention(months, basis)
            plan = replace(plan, basis=basis)
        dropped = 0
        for month in plan.expired:
            dropped += await tally.audit.drop_bodies(month.month)

    def show(out: Output) -> None:
        if months is not None:
            out.line(f"Bodies are kept for {count(plan.months, 'month', 'months')} from now on.")
        if plan.expired:
            told = f"{count(dropped, 'entry', 'entries')} of {count(len(plan.expired), 'month', 'months')}"
            out.line(f"Dropped the bodies of {told}; their hashes stay.")
        else:
            out.line("No month is past the policy.")

    return Answer(_document(plan, dropped), show)


def _question(plan: Retention, entries: int, new: bool) -> str:
    first = f"Keep bodies for {count(plan.months, 'month', 'months')}, and drop" if new else "Drop"
    of = f"{count(entries, 'entry', 'entries')} of {count(len(plan.expired), 'month', 'months')}"
    return f"{first} the bodies of {of}, for good?"


def _document(plan: Retention, dropped: int) -> dict[str, Any]:
    expired = [asdict(m) | {"month": f"{m.month:%Y-%m}"} for m in plan.expired]
    return {**asdict(plan), "expired": expired, "dropped": dropped}


def _show(out: Output, plan: Retention) -> None:
    out.line(f"Bodies of entries are kept for {count(plan.months, 'month', 'months')}. Basis now: {plan.basis}")
    if not plan.expired:
        out.line("No month is past that.")
        return
    rows = [(f"{m.month:%Y-%m}", m.entries, m.unsealed, m.bytes) for m in plan.expired]
    out.table(("month", "entries", "not sealed", "bytes"), rows, right=("entries", "not sealed", "bytes"))
    out.line("Their bodies and salts would be dropped; their hashes stay, and every proof holds.")
