"""``audit``: seal, status, export, verify, watch."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.audit.sealer import SealReport
    from tallystick.audit.status import AuditStatus
    from tallystick.cli.output import Output

app = typer.Typer(help="The audit trail: seal it, look at it, hand it to auditors, check it.", no_args_is_help=True)

TAMPERED = 8
_INSTALLATION = "(installation)"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
Every = Annotated[
    str | None, typer.Option("--every", metavar="TIME", help="Go on, and look again so often: 10s, 5m, 1h.")
]
Once = Annotated[bool, typer.Option("--once", help="Do it once and stop; so it is without --every.")]


@command(app, "seal")
async def seal(
    run: Run,
    *,
    once: Once = False,
    every: Every = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Start a new anchor from the checkpoints that the database holds.")
    ] = False,
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", metavar="PATH", help="Make a signing key in this file first, and use it."),
    ] = None,
) -> Answer:
    """Take captured entries into the Merkle logs and sign their roots, once or for good.

    It needs TALLYSTICK_SEAL_URL, TALLYSTICK_SEAL_KEY_FILE and TALLYSTICK_ANCHOR_DIR, or the embedded server. Key and
    checkpoints belong on another machine than the database. Exit code 8: the database is not what was sealed before,
    and nothing was signed.
    """
    pause = _pause(once, every)
    if new_key is not None:
        from tallystick.audit.seal_key import create_seal_key

        create_seal_key(new_key)
        run.output.line(f"Made a signing key: TALLYSTICK_SEAL_KEY_FILE={new_key}")
    async with run.opened() as tally:
        if new_key is not None:
            tally.settings = replace(tally.settings, seal_key_file=new_key)
        report = await tally.audit.seal(adopt=adopt)
        names = await _names(tally)
        document = _sealed_document(report, names)
        if pause is None:
            vkey = await tally.audit.vkey()
            return Answer({**document, "key": vkey}, lambda out: _show_sealed(out, report, names, vkey))
        while True:
            _tell_round(run, report, document)
            await asyncio.sleep(pause)
            found = await _again(tally)
            if found is not None:
                report = found
                names = await _names(tally) if report.checkpoints else names
                document = _sealed_document(report, names)


@command(app, "status")
async def status(
    run: Run,
    *,
    deep: Annotated[
        bool, typer.Option("--deep", help="Look for entries that were missed; reads the whole trail.")
    ] = False,
    max_age: Annotated[
        str, typer.Option("--max-age", metavar="TIME", help="How long an entry may wait before it is a finding.")
    ] = "15m",
) -> Answer:
    """What is sealed and signed, what waits, and whether what guards the data is as it was. Exit code 1: findings."""
    async with run.opened() as tally:
        found = await tally.audit.status(deep=deep, max_age=_seconds(max_age))
        names = await _names(tally)
    return Answer(
        _status_document(found, names),
        lambda out: _show_status(out, found, names),
        exits.FINDINGS if found.problems else exits.OK,
    )


@command(app, "watch")
async def watch(
    run: Run,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of checkpoints.")],
    *,
    key: Annotated[list[str], typer.Option("--key", metavar="KEY", help="The public key, or a file with it.")],
    seen: Annotated[
        Path | None, typer.Option("--seen", metavar="FILE", help="Remember here what was seen, from run to run.")
    ] = None,
    once: Once = False,
    every: Every = None,
) -> Answer:
    """Check that every log only grows: each checkpoint is signed, and proven to continue the one before.

    For an auditor, or a second machine; it needs no database. Exit code 8: a log was cut, rewritten or shown in two
    ways.
    """
    from tallystick.audit.watch import Doubt, Watcher

    pause = _pause(once, every)
    watcher = Watcher(directory, [_key(text) for text in key], seen)
    while True:
        look = await asyncio.to_thread(watcher.look)
        if pause is None or look.doubts:
            break
        for checkpoint in look.fresh:
            run.output.line(f"{checkpoint.origin}  {checkpoint.size:,} entries  {checkpoint.root.hex()[:16]}")
        await asyncio.sleep(pause)

    def document(one: Doubt) -> dict[str, Any]:
        return {"log": one.origin, "size": one.size, "kind": one.kind, "detail": one.detail}

    def show(out: Output) -> None:
        for one in look.doubts:
            out.line(f"{one.kind.upper()}  {one.origin}", "bold red")
            out.line(f"  {one.detail[:1].upper()}{one.detail[1:]}.")
        fine = len(watcher.seen) - sum(d.origin in watcher.seen for d in look.doubts)
        out.line(f"{len(look.fresh):,} new checkpoints; {fine:,} logs continue what was seen of them.", "green")

    return Answer(
        {
            "ok": not look.doubts,
            "new": len(look.fresh),
            "logs": {o: {"size": c.size, "root": c.root.hex()} for o, c in sorted(watcher.seen.items())},
            "doubts": [document(one) for one in look.doubts],
        },
        show,
        TAMPERED if look.doubts else exits.OK,
    )


# -- showing -------------------------------------------------------------------------------------------------------


def _show_sealed(out: Output, report: SealReport, names: dict[UUID, str], vkey: str) -> None:
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
        out.line(
            f"Sealed {_count(report.entries, 'entry', 'entries')}; signed {_count(len(report.checkpoints), 'log')}."
        )
        rows = [(names.get(c.tenant, str(c.tenant)), c.size, c.root) for c in report.checkpoints]
        out.table(("log", "entries", "root"), rows, right=("entries",))
    else:
        out.line("Nothing is new: every entry that can be sealed is, and every log is signed.")
    if report.unsealed:
        out.line(f"{_count(report.unsealed, 'entry', 'entries')} wait{_held(report)}.", "yellow")
    out.line(f"Auditors verify with this key: {vkey}")


def _tell_round(run: Run, report: SealReport, document: dict[str, Any]) -> None:
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
        sealed = _count(report.entries, "entry", "entries")
        run.output.line(f"sealed {sealed}, signed {_count(len(report.checkpoints), 'log')}{waiting}")


def _held(report: SealReport) -> str:
    since = f", the oldest for {_age(report.unsealed_age)}"
    return f"{since}: {report.held_by} is still open" if report.held_by else since


def _show_status(out: Output, found: AuditStatus, names: dict[UUID, str]) -> None:
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


def _sealed_document(report: SealReport, names: dict[UUID, str]) -> dict[str, Any]:
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


def _status_document(found: AuditStatus, names: dict[UUID, str]) -> dict[str, Any]:
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


# -- small things --------------------------------------------------------------------------------------------------


async def _again(tally: Tallystick) -> SealReport | None:
    """One more round; a server that is away for a moment, or another sealer at work, is no reason to stop."""
    from tallystick.cli.entry import tell
    from tallystick.errors import Conflict, Unavailable

    try:
        return await tally.audit.seal()
    except (Conflict, Unavailable) as problem:
        tell(problem.problem, problem.remedy, problem.code)
        return None


async def _names(tally: Tallystick) -> dict[UUID, str]:
    from tallystick.ids import NIL

    return {NIL: _INSTALLATION, **{id: slug async for id, slug, _ in tally.tenants.all()}}


def _pause(once: bool, every: str | None) -> float | None:
    from tallystick.errors import Invalid

    if once and every is not None:
        raise Invalid("--once and --every exclude each other.", remedy="Give one of them.")
    return None if every is None else max(0.1, _seconds(every))


def _seconds(text: str) -> float:
    from tallystick.errors import Invalid

    found = re.fullmatch(r"([0-9]{1,6})(s|m|h|d)?", text)
    if found is None:
        raise Invalid("A time is a number and a unit.", field="time", remedy="Write 10s, 5m, 1h or 1d.")
    return float(int(found[1]) * _UNITS[found[2] or "s"])


def _age(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _key(text: str) -> Any:
    """A public key as it is, or the file that holds it."""
    from tallystick.audit.checkpoint import read_vkey

    path = Path(text)
    if "+" not in text and path.is_file():
        text = path.read_text(errors="replace")
    return read_vkey(text)
