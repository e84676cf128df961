"""The audit trail on the screen, and as documents."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.cli.run import Run

if TYPE_CHECKING:
    from tallystick.audit.sealer import SealReport
    from tallystick.audit.status import AuditStatus
    from tallystick.cli.output import Output


def show_sealed(out: Output, report: SealReport, names: dict[UUID, str], vkey: str) -> None:
    """What one run of the sealer did, for people."""
    if report.new_epoch:
        out.line(f"The server counts transactions anew: this is epoch {report.epoch}; every entry was looked at again.")
    if len(report.state_changes) == 1 and report.state_changes[0].startswith("first record"):
        out.line("What guards the data (triggers, policies, functions, rights) is on record from now on.")
    elif report.state_changes:
        out.line("What guards the data has changed, and that is sealed too:", "yellow")
        for change in report.state_changes[:10]:
            out.line(f"  {change}")
        if len(report.state_changes) > 10:
            out.line(f"  and {len(report.state_changes) - 10} more")
    if report.checkpoints:
        out.line(f"Sealed {count(report.entries, 'entry', 'entries')}; signed {count(len(report.checkpoints), 'log')}.")
        rows = [(names.get(c.tenant, str(c.tenant)), c.size, c.root) for c in report.checkpoints]
        out.table(("log", "entries", "root"), rows, right=("entries",))
    else:
        out.line("Nothing is new: every entry that can be sealed is, and every log is signed.")
    if report.unsealed:
        out.line(f"{count(report.unsealed, 'entry', 'entries')} wait{_held(report)}.", "yellow")
    out.line(f"Auditors verify with this key: {vkey}")


def tell_round(run: Run, report: SealReport, document: dict[str, Any]) -> None:
    """One line a round, where there is something to say."""
    if run.as_json:
        if report.entries or report.checkpoints or report.unsealed:
            sys.stdout.write(json.dumps(document) + "\n")
            sys.stdout.flush()
        return
    for change in report.state_changes:
        run.output.line(f"guards changed: {change}", "yellow")
    if report.entries or report.checkpoints:
        waiting = f"; {report.unsealed:,} wait{_held(report)}" if report.unsealed else ""
        sealed = count(report.entries, "entry", "entries")
        run.output.line(f"sealed {sealed}, signed {count(len(report.checkpoints), 'log')}{waiting}")


def _held(report: SealReport) -> str:
    since = f", the oldest for {_age(report.unsealed_age)}"
    return f"{since}: {report.held_by} is still open" if report.held_by else since


def show_status(out: Output, found: AuditStatus, names: dict[UUID, str]) -> None:
    """How the trail is, for people."""
    from rich.text import Text

    if found.logs:
        rows = [
            (
                names.get(log.tenant, str(log.tenant)),
                log.entries,
                log.leaves,
                Text(_age(log.unsealed_age) if log.unsealed else "-", "yellow" if log.unsealed else ""),
                log.signed or None,
                None if log.signed_at is None else f"{log.signed_at:%Y-%m-%d %H:%M:%S} UTC",
            )
            for log in found.logs
        ]
        columns = ("log", "entries", "sealed", "oldest waiting", "signed", "signed at")
        out.table(columns, rows, right=columns[1:5])
    else:
        out.line("Nothing was captured yet.")
    if found.held_by:
        out.line(f"Nothing younger than {found.held_by} can be sealed while that is open.")
    if found.missed is not None and not found.missed:
        out.line("No entry was missed: each one that the cursor has passed is in its log.")
    until = found.partitions_until
    months = "are missing" if until is None else f"are made up to {until - timedelta(days=1):%B %Y}"
    out.line(f"Installation {found.installation}, epoch {found.epoch}; partitions {months}.")
    for problem in found.problems:
        out.line(f"! {problem}", "bold red")
    if found.logs and not any(log.signed for log in found.logs):
        out.line("Nothing is sealed yet: `tallystick audit seal` does it, with --every 10s for good.", "yellow")
    elif not found.problems:
        out.line("All is well: the guards are as they were sealed, and nothing waits too long.", "green")


def sealed_document(report: SealReport, names: dict[UUID, str]) -> dict[str, Any]:
    """What one run of the sealer did, for programs."""
    return {
        "entries": report.entries,
        "checkpoints": [
            {"log": names.get(c.tenant, str(c.tenant)), "tenant": str(c.tenant), "size": c.size, "root": c.root}
            for c in report.checkpoints
        ],
        "state": report.state,
        "state_changes": report.state_changes,
        "epoch": report.epoch,
        "new_epoch": report.new_epoch,
        "unsealed": report.unsealed,
        "unsealed_age": round(report.unsealed_age, 3),
        "held_by": report.held_by,
    }


def status_document(found: AuditStatus, names: dict[UUID, str]) -> dict[str, Any]:
    """How the trail is, for programs."""
    return {
        "ok": not found.problems,
        "installation": str(found.installation),
        "epoch": found.epoch,
        "unsealed": found.unsealed,
        "unsealed_age": round(found.unsealed_age, 3),
        "held_by": found.held_by,
        "missed": found.missed,
        "in_default_partition": found.in_default_partition,
        "partitions_until": None if found.partitions_until is None else found.partitions_until.date().isoformat(),
        "state": found.state,
        "state_ok": not found.state_changes and not found.weak,
        "state_changes": list(found.state_changes),
        "weak": list(found.weak),
        "logs": [
            {
                "log": names.get(log.tenant, str(log.tenant)),
                "tenant": str(log.tenant),
                "entries": log.entries,
                "leaves": log.leaves,
                "unsealed": log.unsealed,
                "unsealed_age": round(log.unsealed_age, 3),
                "signed": log.signed,
                "signed_at": None if log.signed_at is None else log.signed_at.isoformat(),
            }
            for log in found.logs
        ],
        "problems": list(found.problems),
    }


def _age(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def count(number: int, one: str, many: str = "") -> str:
    """A number and its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
