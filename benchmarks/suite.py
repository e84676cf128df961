"""What the suites beside SQL written by hand share: their arguments, the run, and what it prints."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, text_of
from benchmarks.place import Place, pinned, place
from benchmarks.runner import note
from tallystick.errors import TallystickError

MISSED = 3
"""The exit status when something was measured and an aim was not reached."""

Measure = Callable[..., Awaitable[list[Row]]]
"""Measures a part: ``measure(place, quick=...)``."""


@dataclass(frozen=True, slots=True)
class Suite:
    """The parts of one suite by name, the tables whose twins they need, and the parts that keep to cores of their own.

    A part with several callers, or with one query on several workers, wants every core and is not pinned.
    """

    name: str
    about: str
    quick: str
    twins: Sequence[str]
    parts: Mapping[str, Measure]
    apart: frozenset[str]

    def parts_of(self, text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in self.parts:
                raise argparse.ArgumentTypeError(f"there is no part {name!r}; choose from: {', '.join(self.parts)}")
        return [part for part in self.parts if part in names]

    def parser(self) -> argparse.ArgumentParser:
        made = argparse.ArgumentParser(prog=f"python -m benchmarks {self.name}", description=self.about)
        made.add_argument("--quick", action="store_true", help=self.quick)
        made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
        made.add_argument(
            "--parts", type=self.parts_of, default=list(self.parts), metavar="NAMES",
            help=f"comma-separated: {', '.join(self.parts)}",
        )  # fmt: skip
        made.add_argument(
            "--url", help="a server to use instead of the embedded one, as a role that may create databases and roles"
        )
        made.add_argument(
            "--pin", choices=("apart", "together", "off"), default="apart",
            help=f"for {', '.join(part for part in self.parts if part in self.apart)}: client and embedded server on "
            "cores of their own (default), on one core, or as they fall",
        )  # fmt: skip
        return made

    async def run(self, options: argparse.Namespace) -> dict[str, Any]:
        started = time.monotonic()
        rows: list[Row] = []
        async with place(options.url, self.twins) as made:
            found = {"environment": await environment(made, options)}
            for part in options.parts:
                began = time.monotonic()
                async with pinned(made, options.pin if part in self.apart else "off"):
                    rows += await self.parts[part](made, quick=options.quick)
                note(f"{part}: {time.monotonic() - began:.0f} s")
        found["environment"]["seconds"] = round(time.monotonic() - started, 1)
        return {**found, "rows": [row.as_json() for row in rows], "text": text_of(rows)}

    def main(self, arguments: Sequence[str]) -> int:
        options = self.parser().parse_args(arguments)
        with self._output(options.json) as written:
            try:
                found = asyncio.run(self.run(options))
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
    def _output(self, path: Path | None) -> Iterator[Any]:
        """The file for the figures, opened first: minutes of measuring should not end at a folder that is not there."""
        if path is None:
            yield None
            return
        try:
            file = path.open("w")
        except OSError as problem:
            self.parser().error(f"--json: the file cannot be written ({problem.strerror})")
        with file:
            yield file


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
