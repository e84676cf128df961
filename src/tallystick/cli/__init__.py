"""The command line: ``tallystick``.

Importing this package loads nothing; ``main`` is the console entry point.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code; see ``tallystick.cli.exits`` for their meaning."""
    from tallystick.cli.entry import execute

    raise SystemExit(execute(arguments))
