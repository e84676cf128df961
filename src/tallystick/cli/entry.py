"""From arguments to exit code: everything that can go wrong ends as one readable line here."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from tallystick.cli import exits
from tallystick.errors import TallystickError


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; answers the exit code and never raises, except with ``--debug``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows another; it is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    as_json = "--json" in given
    try:
        code = _dispatch(given)
        sys.stdout.flush()
        return code
    except TallystickError as problem:
        if "--debug" in given:
            raise
        tell(problem.problem, problem.remedy, problem.code, as_json=as_json)
        return exits.code_of(problem)
    except BrokenPipeError:
        # Whoever read our output has seen enough; closing must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return exits.INTERRUPTED
    except Exception as problem:
        if "--debug" in given:
            raise
        # The text of a foreign error may hold stored values; its kind and place do not.
        tell(f"This is a bug: {type(problem).__name__}{_place(problem)}.", "Run it again with --debug and report it.")
        return exits.BUG


def tell(problem: str, remedy: str = "", code: str = "", *, as_json: bool = False) -> None:
    """One line and its remedy on stderr; with ``--json`` also the document that stdout was to have."""
    mark = f" [{code}]" if code else ""
    sys.stderr.write(f"tallystick: {problem}{mark}\n" + (f"  {remedy}\n" if remedy else ""))
    if as_json:
        import json

        sys.stdout.write(json.dumps({"error": {"code": code, "problem": problem, "remedy": remedy}}, indent=2) + "\n")


def _dispatch(given: list[str]) -> int:
    from typer import Abort
    from typer.exceptions import TyperException
    from typer.main import get_command

    from tallystick.cli.commands import app

    try:
        code = get_command(app).main(given, prog_name="tallystick", standalone_mode=False)
    except Abort:
        sys.stderr.write("Aborted; nothing was done.\n")
        return exits.FINDINGS
    except TyperException as problem:
        context = getattr(problem, "ctx", None)
        text = problem.format_message()
        if type(problem).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(f"{text}\n")
        else:
            command = context.command_path if context is not None else "tallystick"
            tell(text, f"See {command} --help.", "usage", as_json="--json" in given)
        return exits.USAGE
    return code if isinstance(code, int) else exits.OK


def _place(problem: BaseException) -> str:
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" in {os.path.basename(trace.tb_frame.f_code.co_filename)}, line {trace.tb_lineno}"
