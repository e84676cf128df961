"""Python code with ``await`` at the top level: run once, or typed at a prompt."""

from __future__ import annotations

import ast
import asyncio
import code
import inspect
import signal
import threading
import traceback
import types
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from tallystick import __version__

_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_TYPED = frozenset({"<console>", "<command>"})


def told(problem: BaseException) -> str:
    """An error as Python shows it, from the first line that somebody typed; what ran that line is no news."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename not in _TYPED:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(problem), problem, trace))


async def evaluate(source: str, names: dict[str, Any]) -> Any:
    """Run statements; answer the value of the last one when it is an expression."""
    from tallystick.errors import Invalid

    try:
        tree = ast.parse(source, "<command>")
    except (SyntaxError, ValueError) as problem:
        raise Invalid(f"The code is not Python ({type(problem).__name__}).", field="command") from None
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    await _run(compile(tree, "<command>", "exec", flags=_AWAIT, dont_inherit=True), names)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return await _run(compile(ast.Expression(last.value), "<command>", "eval", flags=_AWAIT, dont_inherit=True), names)


async def _run(compiled: types.CodeType, names: dict[str, Any]) -> Any:
    value = types.FunctionType(compiled, names)()
    return await value if inspect.iscoroutine(value) and compiled.co_flags & inspect.CO_COROUTINE else value


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
            self.write(told(problem))

    def interrupt(self) -> None:
        """Ctrl-C: end what runs; at an empty prompt there is nothing to end."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
        else:
            self.write("\nKeyboardInterrupt (Ctrl-D leaves)\n")


async def prompt(names: dict[str, Any]) -> None:
    """Talk to somebody at a terminal until they leave."""
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
