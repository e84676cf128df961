"""Showing things: tables and lines for people on stdout, one document for programs, progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

_WIDE = 120


class Tell(Protocol):
    """How something long says how far it is."""

    def __call__(self, done: int, now: str | None = None) -> None:
        """``done`` more of it is done; ``now`` is what goes on."""


class Output:
    """Where a command writes for people. Nothing in it is computed: it shows what it is given."""

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.console import Console

        class Piped(Console):
            def on_broken_pipe(self) -> None:
                raise BrokenPipeError

        self.quiet = quiet
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE
        self.console: Console = Piped(highlight=False, width=width)

    def line(self, text: str = "", style: str | None = None) -> None:
        """A line of plain text: what it says is never read as markup."""
        from rich.text import Text

        self.console.print(Text(text, style=style or ""))

    def raw(self, text: str) -> None:
        """Text as it is, however long its lines: SQL, or a value to pipe on."""
        self.console.file.write(text if text.endswith("\n") else f"{text}\n")

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        title: str = "",
        right: Sequence[str] = (),
        flexible: Sequence[str] = (),
    ) -> None:
        """A table. Columns named in ``right`` are numbers; only those in ``flexible`` may wrap."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left")
        for name in columns:
            shown.add_column(
                name,
                justify="right" if name in right else "left",
                no_wrap=bool(flexible) and name not in flexible,
                overflow="fold",
            )
        for row in rows:
            shown.add_row(*(cell if isinstance(cell, Text) else Text(_shown(cell)) for cell in row))
        self.console.print(shown)

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Tell]:
        """A bar on stderr while something long goes on; silent with ``--json`` and where nobody looks.

        What it yields is called with how much more is done, and with what is going on now where that changes.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda done, now=None: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

        columns = [SpinnerColumn(), TextColumn("{task.description}")]
        bars = [BarColumn(), MofNCompleteColumn()] if total is not None else []
        with Progress(*columns, *bars, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(label, total=total)

            def tell(done: int, now: str | None = None) -> None:
                progress.update(task, advance=done, description=now if now is not None else label)

            yield tell


def write_json(document: Any) -> None:
    """The one document on stdout."""
    import msgspec

    encoded = msgspec.json.encode(document, enc_hook=plain)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")


def plain(value: Any) -> Any:
    """What msgspec does not know by itself: exact fractions as numbers, secrets as their masks, the rest as text."""
    from fractions import Fraction

    from tallystick.privacy.sealed import Secret

    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, Secret):
        return value.mask
    return str(value)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
