"""``shell``: a Python prompt with the application open and ``await`` at the top level."""

from __future__ import annotations

import ast
import asyncio
import code
import inspect
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick import __version__
from tallystick.cli import exits
from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.app import Tallystick

_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_TYPED = frozenset({"<console>", "<command>"})


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
    from tallystick.errors import Invalid

    if run.as_json:
        raise Invalid("A prompt has no document to answer.", remedy="Give the code: --command 'await ...' --json.")
    await _prompt(names)
    return Answer({}, lambda out: None)


async def _once(source: str, names: dict[str, Any]) -> Answer:
    """Run code that was given; what it raises itself is shown as Python shows it, and ends with exit code 1."""
    from tallystick.errors import TallystickError

    try:
        value = await _evaluate(source, names)
    except TallystickError:
        raise
    except Exception as problem:
        sys.stderr.write(_told(problem))
        return Answer({"error": type(problem).__name__}, lambda out: None, exits.FINDINGS)
    return Answer({"value": _documented(value)}, lambda out: None if value is None else out.raw(repr(value)))


def _names(tally: Tallystick) -> dict[str, Any]:
    import tallystick
    from tallystick.domains.catalog import entities_of

    found = {name: getattr(tallystick, name) for name in tallystick.__all__}
    found |= {e.__name__: e for e in (*entities_of(tally.domains), *tally.entities)}
    return {"__name__": "__console__", "__doc__": None, "asyncio": asyncio, **found, "tally": tally}


def _told(problem: BaseException) -> str:
    """An error as Python shows it, from the first line that somebody typed; what ran that line is no news."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename not in _TYPED:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(problem), problem, trace))


async def _evaluate(source: str, names: dict[str, Any]) -> Any:
    """Run statements; answer the value of the last one when it is an expression."""
    from tallystick.errors import Invalid

    try:
        tree = ast.parse(source, "<command>")
    except (SyntaxError, ValueError) as problem:
        raise Invalid(f"The code is not Python ({type(problem).__name__}).", field="command") from None
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    await _run(compile(tree, "<command>", "exec", flags=_AWAIT), names)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return await _run(compile(ast.Expression(last.value), "<command>", "eval", flags=_AWAIT), names)


async def _run(compiled: types.CodeType, names: dict[str, Any]) -> Any:
    value = types.FunctionType(compiled, names)()
    return await value if inspect.iscoroutine(value) and compiled.co_flags & inspect.CO_COROUTINE else value


def _documented(value: Any) -> Any:
    import msgspec

    from tallystick.cli.output import plain

    try:
        return msgspec.to_builtins(value, enc_hook=plain)
    except (TypeError, ValueError):
        return repr(value)


class _Console(code.InteractiveConsole):
    """Runs in a thread of its own, so that the loop goes on while somebody types; code runs on the loop."""

    def __init__(self, names: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(names)
        self.compile.compiler.flags |= _AWAIT
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None

    def runcode(self, code: types.CodeType) -> None:
        """Run what was typed on the loop, and wait for it here."""
        done: Future[None] = Future()

        def finish(task: asyncio.Task[Any]) -> None:
            problem = KeyboardInterrupt() if task.cancelled() else task.exception()
            done.set_result(None) if problem is None else done.set_exception(problem)

        def start() -> None:
            self._task = self._loop.create_task(_run(code, self.locals))
            self._task.add_done_callback(finish)

        self._loop.call_soon_threadsafe(start)
        try:
            done.result()
        except SystemExit:
            raise
        except KeyboardInterrupt:
            self.write("KeyboardInterrupt\n")
        except BaseException as problem:
            self.write(_told(problem))

    def interrupt(self) -> None:
        """Ctrl-C: end what runs; at an empty prompt there is nothing to end."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
        else:
            self.write("\nKeyboardInterrupt (Ctrl-D leaves)\n")


async def _prompt(names: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    console = _Console(names, loop)
    there = ", ".join(n for n in ("tally", "db") if n in names)
    banner = f"Tallystick {__version__}: {there}, the entities, and await. Ctrl-D leaves."
    loop.add_signal_handler(signal.SIGINT, console.interrupt)

    def talk() -> None:
        _readline(names)
        try:
            console.interact(banner, exitmsg="")
        except SystemExit:
            pass
        finally:
            loop.call_soon_threadsafe(_settle(over))

    threading.Thread(target=talk, daemon=True, name="tallystick shell").start()
    await over


def _settle(over: asyncio.Future[None]) -> Callable[[], None]:
    return lambda: None if over.done() else over.set_result(None)


def _readline(names: dict[str, Any]) -> None:
    """Line editing and completion, where this Python has them."""
    try:
        import readline
        import rlcompleter
    except ImportError:
        return
    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")
