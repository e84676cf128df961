"""A portal: one event loop in one thread, and how other threads have coroutines run on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, TypeVar

from tallystick.errors import Unavailable, Unsupported

R = TypeVar("R")
_GRACE = 10.0
_here = threading.local()


class Portal:
    """Runs coroutines for threads, each to its end before the thread goes on. Any number of threads may share one."""

    def __init__(self) -> None:
        self.inherited = False
        self.loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._calls: set[Call] = set()
        self._waiting: set[Call] = set()
        self._ending = False
        # Taken again by a signal's handler that calls in the middle of a call.
        self._gate = threading.RLock()

    def start(self) -> None:
        """Start the loop in a thread of its own that does not keep the process alive."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="tallystick", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self._settled())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def stop(self) -> None:
        """Cancel what still runs and end the thread."""
        if self._thread is None or self.inherited or not self._thread.is_alive():
            return
        with suppress(RuntimeError):  # it has ended by itself
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_GRACE)

    async def _settled(self) -> None:
        """Let nobody in any more, and see to it that everybody who waits hears of the end."""
        with self._gate:
            self._ending = True
        told, until = set[Call](), monotonic() + _GRACE / 2
        while waiting := tuple(self._waiting):
            for call in waiting:
                if monotonic() > until:
                    call.give_up()
                elif call not in told:
                    told.add(call)
                    call.cancel()
            await asyncio.sleep(0.001)

    def run(self, coro: Coroutine[Any, Any, R]) -> R:
        """The result of a coroutine that runs on the loop.

        An interrupt of the waiting thread cancels it. Raises ``Unsupported`` inside a running event loop, which it
        would block, and ``Unavailable`` when the portal is closed or belongs to the process that forked this one.
        """
        outer: Call | None = getattr(_here, "call", None)
        if outer is not None and outer.portal is self:
            call = Call(self, coro)
            deliver: tuple[Any, ...] = (outer._deliver, coro, call)
        else:
            self._check(coro)
            call = Call(self, coro)
            deliver = (call.begin, coro, copy_context())
        try:
            with self._gate:
                if self._ending or self.loop.is_closed():
                    call.ended = True
                    coro.close()
                    raise closed()
                self._waiting.add(call)
                self.loop.call_soon_threadsafe(*deliver)
            # An interrupt may come when it was handed over and nobody waits yet.
            problem = call.wait()
        except BaseException:
            call.abandon()
            raise
        if problem is None:
            return call.value  # type: ignore[no-any-return]
        try:
            raise problem
        finally:
            del problem, call

    async def aside(self, fn: Callable[[], Any]) -> Any:
        """On the loop: have a new thread run ``fn``, which may call back; it keeps no process alive."""
        done, context, found = asyncio.Event(), copy_context(), list[Any]()
        problems: list[BaseException] = []

        def work() -> None:
            try:
                found.append(context.run(fn))
            except BaseException as problem:
                problems.append(problem)
            # Where the loop has ended nobody waits.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(done.set)

        threading.Thread(target=work, name="tallystick-handler", daemon=True).start()
        await done.wait()
        for problem in problems:
            # The end of a thread is not that of the loop.
            raise problem if isinstance(problem, Exception) else RuntimeError(f"It ended by {type(problem).__name__}.")
        return found[0]

    def _check(self, coro: Coroutine[Any, Any, Any]) -> None:
        if asyncio._get_running_loop() is not None:
            coro.close()
            raise Unsupported(
                "The synchronous facade was called inside a running event loop, which it would block.",
                remedy="Use the asynchronous surface there: `from tallystick import Tallystick`, and await.",
            )
        if self.inherited:
            coro.close()
            raise Unavailable(
                "This session was opened before the process forked.",
                remedy="Open a session in this process: `with tally.session(...)`; the tally opens itself again.",
            )

    def finish(self, source: AsyncIterator[Any]) -> None:
        """Close an async generator that nobody reads any more, wherever this happens to be called."""
        aclose = getattr(source, "aclose", None)
        if aclose is None or self.inherited or self.loop.is_closed():
            return
        if asyncio._get_running_loop() is self.loop:
            self.loop.create_task(aclose())
        elif asyncio._get_running_loop() is None:
            self.run(aclose())


class Call:
    """One call of a thread: what runs for it on the loop, and what the thread is asked to run meanwhile."""

    __slots__ = (
        "_asked",
        "_coro",
        "_inbox",
        "_problem",
        "_turn",
        "ended",
        "inner",
        "portal",
        "task",
        "thread",
        "value",
    )

    def __init__(self, portal: Portal, coro: Coroutine[Any, Any, Any] | None = None) -> None:
        self.portal = portal
        self.thread = threading.get_ident()
        self.task: asyncio.Task[None] | None = None
        self.ended = False
        self.inner: Call | None = None
        self._turn = threading.Lock()
        self._turn.acquire()
        self._asked: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self._coro = coro
        self._inbox: asyncio.Queue[Any] | None = None
        self.value: Any = None
        self._problem: BaseException | None = None

    # -- on the loop -----------------------------------------------------------------------------------------------

    def begin(self, coro: Coroutine[Any, Any, Any], context: Context) -> None:
        """Start the coroutine, in the context of the thread that called."""
        if self.ended:
            return
        self.portal._calls.add(self)
        self.task = self.portal.loop.create_task(self._run(coro), context=context)

    async def _run(self, coro: Coroutine[Any, Any, Any]) -> None:
        try:
            self.value = await coro
        except BaseException as problem:
            self._problem = problem
        finally:
            self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self.portal._calls.discard(self)
            self.portal._waiting.discard(self)
            # It is the thread's turn already where it did not get to what it was asked.
            if self._turn.locked():
                self._turn.release()

    def cancel(self) -> None:
        """Cancel what runs for the call, or see to it that it never does; on the loop."""
        task = self.task
        if self.ended:
            return
        if task is None:
            self._never()
        else:
            task.cancel()
            task.add_done_callback(self._cancelled)

    def _cancelled(self, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step never enters its coroutine.
        if not self.ended:
            self._never()

    def _never(self) -> None:
        if self._coro is not None:
            self._coro.close()
        self.give_up()

    def give_up(self) -> None:
        """Let the thread go on without it; on the loop."""
        self._problem = asyncio.CancelledError()
        self._end()

    async def ask(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Have the calling thread run ``fn``, and run here, in this task, what ``fn`` calls meanwhile."""
        inbox = self._inbox = asyncio.Queue()
        self._asked = (fn, args)
        self._turn.release()
        try:
            while True:
                coro, reply = await inbox.get()
                if coro is None:
                    break
                await self._within(coro, reply)
        finally:
            self._inbox = None
            while not inbox.empty():
                self._deliver(*inbox.get_nowait())
        if reply._problem is not None:
            raise reply._problem
        return reply.value

    async def _within(self, coro: Coroutine[Any, Any, Any], reply: Call) -> None:
        task = reply.task = self.task
        self.inner = reply
        try:
            reply.value = await coro
        except BaseException as problem:
            if isinstance(problem, asyncio.CancelledError) and task is not None:
                task.uncancel()
            reply._problem = problem
        finally:
            self.inner = None
            reply._end()

    def _deliver(self, coro: Coroutine[Any, Any, Any] | None, reply: Call) -> None:
        if self._inbox is not None:
            self._inbox.put_nowait((coro, reply))
        elif coro is not None:
            # The call was cancelled while the thread was busy.
            coro.close()
            reply._problem = asyncio.CancelledError()
            reply._end()

    # -- in the calling thread ---------------------------------------------------------------------------------------

    def wait(self) -> BaseException | None:
        """Block until the coroutine has ended; what it raised, without the frames between the loop and it."""
        while True:
            self._turn.acquire()
            asked, self._asked = self._asked, None
            if asked is None or self.ended:
                break
            self._perform(*asked)
        problem, self._problem = self._problem, None
        if isinstance(problem, asyncio.CancelledError):
            return closed()
        if problem is not None and problem.__traceback__ is not None:
            problem = problem.with_traceback(problem.__traceback__.tb_next)
        return problem

    def _perform(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        reply = Call(self.portal)
        outer, _here.call = getattr(_here, "call", None), self
        try:
            reply.value = fn(*args)
        except BaseException as problem:
            reply._problem = problem
        finally:
            _here.call = outer
        # Where the loop has ended this call has too.
        with suppress(RuntimeError):
            self.portal.loop.call_soon_threadsafe(self._deliver, None, reply)

    def abandon(self) -> None:
        """Cancel it and wait for its end, because the thread was interrupted."""
        if self.ended:
            return
        with suppress(RuntimeError):  # the loop has ended
            self.portal.loop.call_soon_threadsafe(self.cancel)
        until = monotonic() + _GRACE
        while not self.ended and self._turn.acquire(timeout=max(0.0, until - monotonic())):
            pass


def closed() -> Unavailable:
    """What a call finds that comes too late."""
    return Unavailable(
        "Tallystick was closed while this was under way, or before it.",
        remedy="Work inside `with Tallystick.open(...) as tally`, and open it again after closing.",
    )


def current(portal: Portal) -> Call:
    """The innermost call that the running task works for; on the loop."""
    task = asyncio.current_task()
    call = next(call for call in portal._calls if call.task is task)
    while call.inner is not None:
        call = call.inner
    return call
