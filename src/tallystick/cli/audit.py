"""``audit``: seal, status, watch, export, verify."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from tallystick.cli import exits
from tallystick.cli.audit_view import count, sealed_document, show_sealed, show_status, status_document, tell_round
from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.audit.sealer import SealReport
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
    whole: Annotated[
        bool, typer.Option("--whole", help="Look at every entry again, and seal what was missed.")
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
    import asyncio

    pause = _pause(once, every)
    if new_key is not None:
        from tallystick.audit.seal_key import create_seal_key

        create_seal_key(new_key)
        run.output.line(f"Made a signing key: TALLYSTICK_SEAL_KEY_FILE={new_key}")
    async with run.opened() as tally:
        if new_key is not None:
            tally.settings = replace(tally.settings, seal_key_file=new_key)
        report = await tally.audit.seal(adopt=adopt, whole=whole)
        names = await _names(tally)
        document = sealed_document(report, names)
        if pause is None:
            vkey = await tally.audit.vkey()
            return Answer({**document, "key": vkey}, lambda out: show_sealed(out, report, names, vkey))
        while True:
            tell_round(run, report, document)
            await asyncio.sleep(pause)
            found = await _again(tally)
            if found is not None:
                report = found
                names = await _names(tally) if report.checkpoints else names
                document = sealed_document(report, names)


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
        status_document(found, names),
        lambda out: show_status(out, found, names),
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
    import asyncio

    from tallystick.audit.watch import Doubt, Watcher

    pause = _pause(once, every)
    watcher = Watcher(directory, [_key(text) for text in key], seen)
    while True:
        look = await asyncio.to_thread(watcher.look)
        if pause is None or look.doubts:
            break
        for checkpoint in look.fresh:
            run.output.line(f"{checkpoint.origin}  {checkpoint.size:,} entries  {checkpoint.root.hex()[:16]}")
        run.output.console.file.flush()
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


@command(app, "export")
async def export(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file; nothing is replaced.")],
    *,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="SLUG", help="Whose log.")] = None,
    installation: Annotated[
        bool, typer.Option("--installation", help="The installation's own log: what guards the data, retention.")
    ] = False,
    since: Annotated[
        datetime | None, typer.Option("--from", metavar="TIME", help="Captured from then on, in UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", metavar="TIME", help="Captured before then, in UTC.")
    ] = None,
    entry: Annotated[
        tuple[str, str] | None, typer.Option("--entry", metavar="TABLE KEY", help="Only the entries of one row.")
    ] = None,
    previous: Annotated[
        Path | None,
        typer.Option("--previous", metavar="FILE", help="Prove that it continues this one, which was kept."),
    ] = None,
) -> Answer:
    """Write a log, or a part of it, to one file that anybody can verify without us."""
    from tallystick.audit.export import LogPart
    from tallystick.errors import Invalid
    from tallystick.ids import NIL

    if (tenant is None) != installation:
        raise Invalid("Whose log?", field="tenant", remedy="Give --tenant SLUG, or --installation.")
    table, key = entry if entry is not None else (None, None)
    part = LogPart(since=_utc(since), until=_utc(until), table=table, key=key, previous=_size_of(previous))
    async with run.opened() as tally:
        report = await tally.audit.export(NIL if tenant is None else tenant, file, part)
        vkey = await _vkey(tally)

    def show(out: Output) -> None:
        gone = f", {report.expired:,} of them with their bodies dropped by policy" if report.expired else ""
        out.line(
            f"Wrote {count(report.entries, 'entry', 'entries')}{gone} of a log of {report.size:,} to {report.path}."
        )
        out.raw(f"Verify it with: tallystick audit verify {report.path} --key {vkey or 'KEY'}")

    document = {**asdict(report), "path": str(report.path)}
    return Answer(document, show)


@command(app, "verify")
async def verify(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle that `audit export` wrote.")],
    *,
    key: Annotated[list[str], typer.Option("--key", metavar="KEY", help="The public key, or a file with it.")],
    previous: Annotated[
        Path | None, typer.Option("--previous", metavar="FILE", help="A checkpoint or bundle that you kept before.")
    ] = None,
) -> Answer:
    """Verify a bundle offline, as auditors do with the single file verifier.py: this runs that file.

    Exit code 0: verified. The verifier's own codes say what is wrong: 10 to 14 the file, 20 to 24 the key, the log or
    the checkpoint, 30 and above an entry.
    """
    import contextlib
    import io

    from tallystick.audit import verifier

    given = [str(file), *(word for text in key for word in ("--key", _key_text(text)))]
    if previous is not None:
        given += ["--previous", str(previous)]
    if run.as_json:
        given.append("--json")
    said, complaint = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
            code = verifier.main(given)
    except SystemExit:
        raise _usage(complaint.getvalue()) from None
    text = said.getvalue()

    def show(out: Output) -> None:
        verdict, _, rest = text.partition("\n")
        out.line(verdict, "bold green" if code == 0 else "bold red")
        out.raw(rest)

    return Answer(json.loads(text) if run.as_json else None, show, code)


async def _again(tally: Tallystick) -> SealReport | None:
    """One more round; a server that is away for a moment, or another sealer at work, is no reason to stop."""
    from tallystick.cli.entry import tell
    from tallystick.errors import Conflict, Unavailable

    try:
        return await tally.audit.seal()
    except (Conflict, Unavailable) as problem:
        tell(problem.problem, problem.remedy, problem.code)
        return None


async def _vkey(tally: Tallystick) -> str | None:
    """The public key, where this machine has the key at all; exporting does not need it."""
    from tallystick.errors import TallystickError

    try:
        return await tally.audit.vkey()
    except TallystickError:
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


def _key(text: str) -> Any:
    """A public key as it is, or the file that holds it."""
    from tallystick.audit.checkpoint import read_vkey

    return read_vkey(_key_text(text))


def _key_text(text: str) -> str:
    path = Path(text)
    return path.read_text(errors="replace").strip() if "+" not in text and path.is_file() else text


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _size_of(kept: Path | None) -> int | None:
    """The size of a checkpoint that was kept, as it says itself; whoever verifies the bundle checks the rest."""
    from tallystick.errors import Invalid

    if kept is None:
        return None
    try:
        first, second = kept.read_text(errors="replace").split("\n", 2)[:2]
        return int(json.loads(first)["size"]) if first.startswith("{") else int(second)
    except (OSError, ValueError, LookupError, TypeError):
        raise Invalid(
            "The file of --previous is no checkpoint and no bundle.", field="previous", remedy="Name one that was kept."
        ) from None


def _usage(complaint: str) -> Exception:
    from tallystick.errors import Invalid

    lines = [line for line in complaint.splitlines() if "error:" in line]
    return Invalid(
        f"The verifier does not take this: {(lines or ['unknown'])[-1].partition('error: ')[2]}.",
        remedy="Check the file's name and the key.",
    )
