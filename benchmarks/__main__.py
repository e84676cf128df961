"""``python -m benchmarks``: measure Tallystick beside raw asyncpg and its peers on this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import environment
from benchmarks.runner import OPERATIONS, Bench, Loop, note, rows_of, table_text
from benchmarks.subjects import BASE, DEFAULT_PEERS, OURS, SUBJECTS, Subject, load, missing

BESIDE = ("tenants", "round-trips")


def _names(text: str, known: Sequence[str], what: str) -> list[str]:
    names = [name.strip().replace("_", "-") for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no {what} {name!r}; choose from: {', '.join(known)}")
    return list(dict.fromkeys(names))


def peers_of(text: str) -> list[str]:
    """Peers by name, in the order of the table; ``default``, ``all`` and ``none`` stand for what they say."""
    every = [name for name in SUBJECTS if name not in BASE]
    groups = {"default": list(DEFAULT_PEERS), "all": every, "none": []}
    names = _names(text, [*every, *groups], "peer")
    wanted = {peer for name in names for peer in groups.get(name, [name])}
    return [name for name in every if name in wanted]


def operations_of(text: str) -> list[str]:
    # add_many keeps the underscore it has as a verb, and both spellings are understood.
    known = {name.replace("_", "-"): name for name in (*OPERATIONS, *BESIDE)}
    return [known[name] for name in _names(text, list(known), "operation")]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="`lending` as the first word measures journals, repayments, portfolio at risk and trust scores instead; "
        "`domains` price ticks, claims of inputs, the review queue and statistics; `audit` what the audit log costs; "
        "`web` a page through FastAPI; `pooler` the same calls through PgBouncer.",
    )
    made.add_argument("--quick", action="store_true", help="fewer rounds: about a minute instead of several")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    made.add_argument(
        "--peers", type=peers_of, default=list(DEFAULT_PEERS), metavar="NAMES",
        help=f"comma-separated, or default, all, none (default: {','.join(DEFAULT_PEERS)})",
    )  # fmt: skip
    made.add_argument(
        "--operations", type=operations_of, default=[*OPERATIONS, *BESIDE], metavar="NAMES",
        help=f"comma-separated: {', '.join((*OPERATIONS, *BESIDE))}",
    )  # fmt: skip
    made.add_argument(
        "--url", help="a server to use instead of the embedded one, as a role that may create databases and roles"
    )
    made.add_argument("--uvloop", action="store_true", help="run every subject on uvloop")
    made.add_argument("--durable", action="store_true", help="let every commit wait for the disk")
    made.add_argument(
        "--pin", choices=("apart", "together", "off"), default="apart",
        help="client and embedded server on cores of their own (default), on one core, or as the scheduler likes",
    )  # fmt: skip
    return made


def run(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks import table
    from benchmarks.arena import arena

    started = time.monotonic()
    skipped = {name: remedy for name in options.peers if (remedy := missing(name))}
    for name, remedy in skipped.items():
        note(f"skipped {name}: not installed ({remedy})")
    names = [*BASE, *(name for name in options.peers if name not in skipped)]
    loop = Loop(options.uvloop)
    with contextlib.ExitStack() as stack:
        stack.callback(loop.close)
        note(f"making one table of {table.ROWS:,} rows, and its twin without row-level security")
        manager = arena(options.url, durable=options.durable, pin=options.pin)
        made = loop(manager.__aenter__())
        stack.callback(lambda: loop(manager.__aexit__(None, None, None)))
        found: dict[str, Any] = {"rows": [], "environment": loop(environment(made, options, skipped))}
        wanted = [OPERATIONS[name] for name in options.operations if name in OPERATIONS]
        if wanted:
            subjects = []
            for name in names:
                subject = load(name, made.target(_table(name)))
                loop(subject.open())
                stack.callback(_close, loop, subject)
                subjects.append(subject)
            bench = Bench(loop, subjects, loop(made.ids()), lambda name: loop(made.tidy(_table(name))))
            bench.check()
            for operation in wanted:
                taken = bench.measure(operation, quick=options.quick)
                found["rows"] += rows_of(operation.name, taken)
                found["environment"]["samples"][operation.name] = len(taken["asyncpg"])
                note(f"{operation.name}: {len(taken['asyncpg'])} calls a subject")
            found["environment"]["paging"] = {subject.name: subject.paging for subject in subjects}
        if "tenants" in options.operations:
            from benchmarks.tenants import measure

            note("tenants: 10, 100 and 1,000 tenants, a fresh actor a request, pools of 20")
            found["tenants"] = loop(measure(made, quick=options.quick))
        if "round-trips" in options.operations:
            from benchmarks.trips import measure as trips

            note("round trips: through a proxy that takes 0.5 ms each way")
            found["round_trips"] = loop(trips(made, quick=options.quick))
    found["environment"]["seconds"] = round(time.monotonic() - started, 1)
    return found


def _close(loop: Loop, subject: Subject) -> None:
    loop(subject.close())


def _table(subject: str) -> str:
    from benchmarks import table

    return table.TABLE if subject in OURS else table.TWIN


def main(arguments: Sequence[str] | None = None) -> int:
    from tallystick.errors import TallystickError

    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["lending"]:
        from benchmarks.lending.command import SUITE as lending

        return lending.main(words[1:])
    if words[:1] == ["domains"]:
        from benchmarks.domains.command import SUITE as domains

        return domains.main(words[1:])
    if words[:1] == ["web"]:
        from benchmarks.web.command import main as web

        return web(words[1:])
    if words[:1] == ["audit"]:
        from benchmarks.audit.command import main as audit

        return audit(words[1:])
    if words[:1] == ["privacy"]:
        from benchmarks.privacy import main as privacy

        return privacy(words[1:])
    if words[:1] == ["pooler"]:
        from benchmarks.pooler import main as pooler

        return pooler(words[1:])
    if words[:1] == ["sync"]:
        words = ["--peers", "tallystick-sync,django", "--operations", "get,page,add", *words[1:]]
    given = parser()
    options = given.parse_args(words)
    if options.json is not None:
        # Minutes of measuring should not end at a folder that is not there.
        try:
            options.json.open("a").close()
        except OSError as problem:
            given.error(f"--json: the file cannot be written ({problem.strerror})")
    try:
        found = run(options)
    except TallystickError as problem:
        note(str(problem))
        return 1
    except KeyboardInterrupt:
        note("stopped; nothing is left behind")
        return 130
    print(text_of(found))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
        note(f"written to {options.json}")
    return 0


def text_of(found: dict[str, Any]) -> str:
    from benchmarks.report import beside_text, foot

    parts = []
    if found["rows"]:
        parts.append(table_text(found["rows"]))
    parts += beside_text(found)
    parts.append(foot(found))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
