"""The same tests by another way: what a test awaits goes through the synchronous facade, in a thread of its own.

A session that a test opens is then a facade's, dressed up as an asynchronous one: each call is made by a worker thread,
which has it run on the test's own event loop, so that what a test reaches into below sessions is in its loop still.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from tallystick.app import Tallystick
from tallystick.sync.facade import INTERNAL, Facade, _callbacks, wrap
from tallystick.sync.portal import Portal

_direct = Tallystick.session


class LoopPortal(Portal):
    """A portal onto a loop that somebody else runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop


class Worker(threading.Thread):
    """The thread that makes the calls of one task."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        self.serve(None)

    def serve(self, until: object) -> None:
        while (job := self.jobs.get()) is not until:
            loop, future, fn = job
            value: Any = None
            problem: BaseException | None = None
            try:
                value = fn()
            except BaseException as caught:
                problem = caught
            loop.call_soon_threadsafe(_settle, future, value, problem)
            del job, fn, value, problem


def _settle(future: asyncio.Future[Any], value: Any, problem: BaseException | None) -> None:
    if problem is None:
        future.set_result(value)
    else:
        future.set_exception(problem)


_idle: list[Worker] = []
_busy: weakref.WeakKeyDictionary[asyncio.Task[Any], Worker] = weakref.WeakKeyDictionary()
_portals: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopPortal] = weakref.WeakKeyDictionary()


def _bind(task: asyncio.Task[Any], worker: Worker) -> None:
    _busy[task] = worker


def _worker() -> Worker:
    task = asyncio.current_task()
    assert task is not None
    worker = _busy.get(task)
    if worker is None:
        worker = _busy[task] = _idle.pop() if _idle else Worker()
        task.add_done_callback(lambda _, done=worker: _idle.append(done))
    return worker


async def call(portal: Portal, fn: Callable[[], Any], undo: Callable[[], Any] | None = None) -> Any:
    """Have this task's worker call ``fn``; a cancellation interrupts what the worker waits for.

    ``undo`` is called when ``fn`` had been done by then, because nobody hears of it.
    """
    worker, loop = _worker(), portal.loop
    future = loop.create_future()
    worker.jobs.put((loop, future, fn))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        interrupted = False
        while not future.done():
            for one in tuple(portal._calls):
                if one.thread == worker.ident and not interrupted:
                    one.cancel()
                    interrupted = True
            await asyncio.wait([future], timeout=0.005)
        if future.exception() is None and undo is not None:
            undone = loop.create_future()
            worker.jobs.put((loop, undone, undo))
            await asyncio.wait([undone])
        raise


def dress(value: Any, portal: Portal) -> Any:
    """A facade as the asynchronous thing it stands for."""
    if isinstance(value, Facade):
        return Through(value, portal)
    if inspect.isgenerator(value):
        return Items(value, portal)
    if isinstance(value, list) and value and isinstance(value[0], Facade):
        return [dress(v, portal) for v in value]
    return value


def bare(value: Any) -> Any:
    return object.__getattribute__(value, "_facade") if type(value) is Through else value


class Items:
    """What a facade iterates over, for ``async for``."""

    def __init__(self, source: Iterator[Any], portal: Portal) -> None:
        self._source, self._portal = source, portal

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> Any:
        found = await call(self._portal, lambda: next(self._source, self))
        if found is self:
            raise StopAsyncIteration
        return dress(found, self._portal)

    async def aclose(self) -> None:
        close: Any = getattr(self._source, "close", None)
        if close is not None:
            await call(self._portal, close)


class Through:
    """A facade as the asynchronous thing it stands for; what is internal there is that thing's own."""

    __slots__ = ("__weakref__", "_facade", "_portal")

    def __init__(self, facade: Facade, portal: Portal) -> None:
        object.__setattr__(self, "_facade", facade)
        object.__setattr__(self, "_portal", portal)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(object.__getattribute__(self, "_facade")._target)

    def __getattr__(self, name: str) -> Any:
        facade: Facade = object.__getattribute__(self, "_facade")
        portal: Portal = object.__getattribute__(self, "_portal")
        kind = inspect.getattr_static(type(facade._target), name, None)
        if name.startswith("_") or name in INTERNAL or not hasattr(type(facade), name):
            return getattr(facade._target, name)
        if inspect.iscoroutinefunction(kind):
            return self._waiting(facade, portal, name, kind)
        value = getattr(facade, name)
        if not inspect.ismethod(value):
            return dress(value, portal)
        return lambda *args, **named: dress(value(*map(bare, args), **{k: bare(v) for k, v in named.items()}), portal)

    @staticmethod
    def _waiting(facade: Facade, portal: Portal, name: str, kind: Any) -> Any:
        method, backs = getattr(facade, name), bool(_callbacks(kind))

        async def waiting(*args: Any, **named: Any) -> Any:
            worker = _worker()

            def given(value: Any) -> Any:
                return _plain(value, worker, portal) if backs and callable(value) else bare(value)

            made, more = [given(a) for a in args], {k: given(v) for k, v in named.items()}
            return dress(await call(portal, lambda: method(*made, **more)), portal)

        return waiting

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_facade")._target, name, value)

    async def __aenter__(self) -> Any:
        facade, portal = object.__getattribute__(self, "_facade"), object.__getattribute__(self, "_portal")
        cause = (asyncio.CancelledError, asyncio.CancelledError(), None)
        entered = await call(portal, facade.__enter__, undo=lambda: facade.__exit__(*cause))
        return self if entered is facade else dress(entered, portal)

    async def __aexit__(self, *cause: Any) -> Any:
        facade, portal = object.__getattribute__(self, "_facade"), object.__getattribute__(self, "_portal")
        return await call(portal, lambda: facade.__exit__(*cause))

    def __aiter__(self) -> Items:
        return Items(iter(bare(self)), object.__getattribute__(self, "_portal"))

    def __getitem__(self, key: Any) -> Any:
        return dress(bare(self)[key], object.__getattribute__(self, "_portal"))


def _plain(fn: Callable[..., Any], worker: Worker, portal: Portal) -> Callable[..., Any]:
    """An asynchronous callback as the plain one that the facade takes; it runs on the loop, served by its thread."""

    def plain(*args: Any) -> Any:
        tasks: list[asyncio.Task[Any]] = []
        over = object()

        async def body() -> Any:
            return await fn(*(dress(a, portal) for a in args))

        def begin() -> None:
            task = portal.loop.create_task(body())
            _bind(task, worker)
            tasks.append(task)
            task.add_done_callback(lambda _: worker.jobs.put(over))

        portal.loop.call_soon_threadsafe(begin)
        worker.serve(over)
        return tasks[0].result()

    return plain


def session(self: Tallystick, *args: Any, **named: Any) -> Any:
    """``Tallystick.session`` by way of the facade."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _direct(self, *args, **named)
    portal = _portals.get(loop)
    if portal is None:
        portal = _portals[loop] = LoopPortal(loop)
    return dress(wrap(_direct(self, *args, **named), portal, None), portal)
