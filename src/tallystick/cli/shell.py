"""``shell``: a Python prompt with the application open and ``await`` at the top level."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.app import Tallystick


async def shell(
    run: Run,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="SLUG", help="Open a session as `db` for this tenant.")
    ] = None,
    actor: Annotated[str, typer.Option("--actor", help="Who acts, for the record.")] = "shell",
    command: Annotated[
        str | None, typer.Option("--command", "-c", metavar="CODE", help="Run this and show its value.")
    ] = None,
) -> Answer:
    """A Python prompt with `tally`, `db` (with --tenant), every entity and every public name, and `await`.

    With --command, or with code on stdin, it runs that and shows the value of its last expression.
    """
    async with AsyncExitStack() as stack:
        tally = await stack.enter_async_context(run.opened())
        names = _names(tally)
        if tenant is not None:
            names["db"] = await stack.enter_async_context(tally.session(tenant, actor=actor, permissions=["*"]))
        source = command if command is not None or sys.stdin.isatty() else sys.stdin.read()
        if source is None:
            return await _talk(run, names)
        return await _once(source, names)


async def _talk(run: Run, names: dict[str, Any]) -> Answer:
    from tallystick.cli.prompt import prompt
    from tallystick.errors import Invalid

    if run.as_json:
        raise Invalid("A prompt has no document to answer.", remedy="Give the code: --command 'await ...' --json.")
    await prompt(names)
    return Answer({}, lambda out: None)


async def _once(source: str, names: dict[str, Any]) -> Answer:
    """Run code that was given; what it raises itself is shown as Python shows it, and ends with exit code 1."""
    from tallystick.cli.prompt import evaluate, told
    from tallystick.errors import TallystickError

    try:
        value = await evaluate(source, names)
    except TallystickError:
        raise
    except Exception as problem:
        sys.stderr.write(told(problem))
        return Answer({"error": type(problem).__name__}, lambda out: None, exits.FINDINGS)
    return Answer({"value": _documented(value)}, lambda out: None if value is None else out.raw(repr(value)))


def _names(tally: Tallystick) -> dict[str, Any]:
    import asyncio

    import tallystick
    from tallystick.domains.catalog import entities_of

    found = {name: getattr(tallystick, name) for name in tallystick.__all__}
    found |= {e.__name__: e for e in (*entities_of(tally.domains), *tally.entities)}
    return {"__name__": "__console__", "__doc__": None, "asyncio": asyncio, **found, "tally": tally}


def _documented(value: Any) -> Any:
    import msgspec

    from tallystick.cli.output import plain

    try:
        return msgspec.to_builtins(value, enc_hook=plain)
    except (TypeError, ValueError):
        return repr(value)
