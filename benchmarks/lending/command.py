"""``./run bench lending``: its arguments, the run, and what it prints."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.lending.figures import Row, text_of
from benchmarks.lending.place import Place, place
from benchmarks.runner import note
from tallystick.errors import TallystickError

PARTS = ("repay", "journals", "par", "trust")
MISSED = 3
"""The exit status when something was measured and an aim was not reached."""


def parts_of(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"there is no part {name!r}; choose from: {', '.join(PARTS)}")
    return [part for part in PARTS if part in names]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks lending",
        description="Journals, repayments, portfolio at risk and trust scores beside SQL written by hand.",
    )
    made.add_argument("--quick", action="store_true", help="shorter turns: about two minutes instead of four")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    made.add_argument(
        "--parts", type=parts_of, default=list(PARTS), metavar="NAMES", help=f"comma-separated: {', '.join(PARTS)}"
    )
    made.add_argument(
        "--url", help="a server to use instead of the embedded one, as a role that may create databases and roles"
    )
    made.add_argument(
        "--pin", choices=("apart", "together", "off"), default="apart",
        help="for repay: client and embedded server on cores of their own (default), on one core, or as they fall",
    )  # fmt: skip
    return made


async def run(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.lending import journals, repayments, risk, trust
    from benchmarks.lending.place import pinned

    started = time.monotonic()
    rows: list[Row] = []
    async with place(options.url) as made:
        found = {"environment": await environment(made, options)}
        for part in options.parts:
            began = time.monotonic()
            if part == "repay":
                # With eight callers, or one query on several workers, every core is wanted; here only the client's.
                async with pinned(made, options.pin):
                    rows += await repayments.measure(made, quick=options.quick)
            else:
                module = {"journals": journals, "par": risk, "trust": trust}[part]
                rows += await module.measure(made, quick=options.quick)
            note(f"{part}: {time.monotonic() - began:.0f} s")
    found["environment"]["seconds"] = round(time.monotonic() - started, 1)
    return {**found, "rows": [row.as_json() for row in rows], "text": text_of(rows)}


async def environment(made: Place, options: argparse.Namespace) -> dict[str, Any]:
    """Facts a reader needs to judge the figures; nothing that names the machine or its owner."""
    settings = ("server_version", "fsync", "wal_sync_method", "shared_buffers", "jit", "random_page_cost")
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "server": {name: await made.admin.fetchval(f"show {name}") for name in settings} | {"embedded": made.embedded},
        "quick": options.quick,
        "pinned": options.pin if made.embedded else "off",
    }


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    with _output(options.json) as written:
        try:
            found = asyncio.run(run(options))
        except TallystickError as problem:
            note(str(problem))
            return 1
        except KeyboardInterrupt:
            note("stopped; nothing is left behind")
            return 130
        about = found["environment"]
        print(found.pop("text"))
        print(
            "\nMedians; the other side is SQL written by hand with the same effects, on tables without row-level "
            "security.\nA ratio of times is better the lower, of things a second the higher.\n"
            f"PostgreSQL {about['server']['server_version']}, Python {about['python']}, {about['cores']} cores, "
            f"{about['seconds']:.0f} s."
        )
        if written is not None:
            json.dump(found, written, indent=1)
    return MISSED if any(row["reached"] is False for row in found["rows"]) else 0


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[Any]:
    """The file for the figures, opened first: minutes of measuring should not end at a folder that is not there."""
    if path is None:
        yield None
        return
    try:
        file = path.open("w")
    except OSError as problem:
        parser().error(f"--json: the file cannot be written ({problem.strerror})")
    with file:
        yield file
