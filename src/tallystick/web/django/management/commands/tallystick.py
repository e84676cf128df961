"""``manage.py tallystick ...``: the command line of Tallystick, for the application that the settings describe."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand

from tallystick import app
from tallystick.web.django.site import setting

described: Any = None
"""The application of the site, where ``--app`` finds it."""


class Command(BaseCommand):
    """Hand the arguments on as they are: ``manage.py tallystick migrate``."""

    help = "Runs a command of Tallystick (init, migrate, tenants, ...) for the application of settings.TALLYSTICK."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Take everything after the command's name, options included."""
        self.execute_line(argv[2:])

    def handle(self, *args: Any, **options: Any) -> None:
        """Be called by ``call_command("tallystick", "migrate", ...)``."""
        self.execute_line([str(a) for a in args])

    def add_arguments(self, parser: Any) -> None:
        """Any arguments: they are for the command line that takes them."""
        parser.add_argument("args", nargs=argparse.REMAINDER)

    def execute_line(self, arguments: list[str]) -> None:
        """Run the command line; leaves with its exit code unless that is 0."""
        from tallystick.cli.entry import execute

        global described  # noqa: PLW0603  where --app looks
        if arguments and "--app" not in arguments and setting("OPEN"):
            described = app.Tallystick.open(**setting("OPEN"))
            arguments = [*arguments, "--app", f"{__name__}:described"]
        code = execute(arguments)
        if code:
            sys.exit(code)
