"""``./run bench audit``: its arguments, the run, and what it prints."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, text_of
from benchmarks.runner import note
from tallystick.errors import TallystickError

PARTS = ("capture", "sealing")
MISSED = 3
"""The exit status when something was measured and an aim was not reached."""


def parts_of(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"there is no part {name!r}; choose from: {', '.join(PARTS)}")
    return [part for part in PARTS if part in names]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks audit", description="What the audit log costs.")
    made.add_argument("--quick", action="store_true", help="fewer turns")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    made.add_argument(
        "--parts", type=parts_of, default=list(PARTS), metavar="NAMES", help=f"comma-separated: {', '.join(PARTS)}"
    )
    made.add_argument(
        "--url", help="a server to use instead of the embedded one, as a role that may create databases and roles"
    )
    made.add_argument("--durable", action="store_true", help="let every commit wait for the disk")
    return made


async def run(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    if "capture" in options.parts:
        from benchmarks.audit import capture

        async with capture.opened(options.url, durable=options.durable) as tally:
            rows += await capture.measure(tally, quick=options.quick)
    if "sealing" in options.parts:
        from benchmarks.audit import sealing

        async with sealing.opened(options.url) as trail:
            rows += await sealing.measure(trail, quick=options.quick)
    return rows


def main(arguments: Sequence[str]) -> int:
    options, started = parser().parse_args(arguments), time.monotonic()
    try:
        rows = asyncio.run(run(options))
    except TallystickError as problem:
        note(str(problem))
        return 1
    except KeyboardInterrupt:
        note("stopped; nothing is left behind")
        return 130
    print(text_of(rows))
    print(
        "\nMedians; capture is beside the same writes to a table that is not audited. Python "
        f"{platform.python_version()}, {os.cpu_count()} cores, {time.monotonic() - started:.0f} s."
    )
    if options.json is not None:
        found: dict[str, Any] = {"rows": [row.as_json() for row in rows], "quick": options.quick}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return MISSED if any(row.aims and not row.reached for row in rows) else 0
