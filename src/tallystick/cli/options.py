"""The options that every command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_PANEL = "Common options"
COMMON: dict[str, tuple[Any, Any]] = {
    "url": (
        Annotated[
            str | None,
            typer.Option("--url", metavar="URL", help="The database, instead of DATABASE_URL.", rich_help_panel=_PANEL),
        ],
        None,
    ),
    "data_dir": (
        Annotated[
            Path | None,
            typer.Option(
                "--data-dir", metavar="DIR", help="The embedded server in this directory.", rich_help_panel=_PANEL
            ),
        ],
        None,
    ),
    "app": (
        Annotated[
            str | None,
            typer.Option(
                "--app",
                metavar="MODULE:NAME",
                envvar="TALLYSTICK_APP",
                help="Your application: a Tallystick or a list of entities.",
                rich_help_panel=_PANEL,
            ),
        ],
        None,
    ),
    "domains": (
        Annotated[
            str | None,
            typer.Option(
                "--domains",
                metavar="NAMES",
                help="Built-in domains, with commas; all by default.",
                rich_help_panel=_PANEL,
            ),
        ],
        None,
    ),
    "revisions": (
        Annotated[
            Path | None,
            typer.Option(
                "--revisions",
                metavar="DIR",
                envvar="TALLYSTICK_REVISIONS",
                help="The folder with revisions of your own entities.",
                rich_help_panel=_PANEL,
            ),
        ],
        None,
    ),
    "as_json": (
        Annotated[bool, typer.Option("--json", help="Answer with one JSON document.", rich_help_panel=_PANEL)],
        False,
    ),
    "debug": (
        Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_PANEL)],
        False,
    ),
}
"""Name in ``Run``: the annotation and the default."""
