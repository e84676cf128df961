"""Facades: for each asynchronous class a synchronous one, made when it is first met.

Nothing is written twice: a facade's methods are made from the class it stands for, and a value without asynchronous
methods (an entity, a page, a report) is handed out as it is. ``tools/sync_facade.py`` writes the types.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import types
from collections.abc import AsyncIterator, Iterator, Mapping
from threading import get_ident
from typing import Any, Generic, Protocol

import msgspec

from tallystick.errors import Invalid
from tallystick.session import Session
from tallystick.sync.portal import Call, Portal, current
from tallystick.transaction import Transaction

# Parts of the asynchronous side that have no synchronous use.
INTERNAL = frozenset({"unit", "store", "sealer", "keyring", "server", "db", "spec", "joined"})
_AHEAD = 256
_TICK = 0.05
_RENAMED = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__anext__": "__next__"}
_KEPT = frozenset({"__getitem__", "__len__", "__contains__", "__iter__", "__call__"})


class Home:
    """Whose turn it is on a session: the thread that has a transaction open on it."""

    __slots__ = ("depth", "thread")

    def __init__(self) -> None:
        self.thread: int | None = None
        self.depth = 0

    def enter(self) -> None:
        """A transaction begins in this thread."""
        self.thread = get_ident()
        self.depth += 1

    def leave(self) -> None:
        """A transaction has ended."""
        self.depth -= 1
        if not self.depth:
            self.thread = None

    def check(self) -> None:
        """Raise ``Invalid`` in any other thread than the one whose transaction is open."""
        if self.thread is not None and self.thread != get_ident():
            raise Invalid(
                "Another thread has a transaction open on this session.",
                remedy="Open a session per thread; a session is cheap.",
            )


class Facade:
    """What a thread holds instead of an object of the asynchronous side."""

    __slots__ = ("__weakref__", "_home", "_portal", "_target")

    def __init__(self, target: Any, portal: Portal, home: Home | None = None) -> None:
        self._target = target
        self._portal = portal
        self._home = home

    def __class_getitem__(cls, item: Any) -> Any:
        return types.GenericAlias(cls, item)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in INTERNAL:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}", name=name, obj=self)
        return wrap(getattr(self._target, name), self._portal, self._home)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Facade) and self._target is other._target

    def __hash__(self) -> int:
        return id(self._target)

    def __repr__(self) -> str:
        return f"<synchronous {type(self._target).__name__}>"

    def _run(self, coro: Any) -> Any:
        home = self._home
        if home is not None and home.thread is not None:
            try:
                home.check()
            except Invalid:
                coro.close()
                raise
        return self._portal.run(coro)


class Block(Facade):
    """``with db.transaction()``: the session belongs to this thread until it is over."""

    __slots__ = ()

    def __enter__(self) -> None:
        unit = self._target._unit
        depth = unit.depth
        home = self._home
        held = 0 if home is None else home.depth
        try:
            self._run(self._target.__aenter__())
            if home is not None:
                home.enter()
        except BaseException as problem:
            # An interrupt may come when it had begun: nobody would end it.
            if home is not None and home.depth > held:
                home.leave()
            if unit.depth > depth:
                self._run(self._target.__aexit__(type(problem), problem, None))
            raise

    def __exit__(self, *cause: Any) -> None:
        try:
            self._run(self._target.__aexit__(*cause))
        finally:
            if self._home is not None and self._home.thread == get_ident():
                self._home.leave()


@functools.cache
def is_asynchronous(cls: type) -> bool:
    """Whether objects of a class have anything to wait for."""
    if issubclass(cls, (type, Facade)):
        return False
    for base in cls.__mro__:
        if base is object or base is Generic or base is Protocol:
            continue
        for name, member in vars(base).items():
            if name in _RENAMED or name == "__aiter__":
                return True
            if not name.startswith("_") and _waits(member):
                return True
    return False


def _waits(member: Any) -> bool:
    function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


@functools.cache
def facade_of(cls: type) -> type[Facade]:
    """The synchronous class of an asynchronous one; its bases are the facades of that one's bases."""
    bases = tuple(facade_of(b) for b in cls.__bases__ if b is not object and is_asynchronous(b)) or (Facade,)
    if cls is Transaction:
        bases = (Block,)
    body: dict[str, Any] = {"__slots__": (), "__doc__": cls.__doc__, "__module__": "tallystick.sync"}
    for name, member in vars(cls).items():
        if cls is not Transaction and name in _RENAMED:
            body[_RENAMED[name]] = _waiting(member, _RENAMED[name])
        elif name == "__aiter__":
            body["__iter__"] = _iterating
        elif (not name.startswith("_") and name not in INTERNAL) or name in _KEPT:
            made = _member(name, member)
            if made is not None:
                body[name] = made
    return type(cls.__name__, bases, body)


def _member(name: str, member: Any) -> Any:
    if isinstance(member, (property, functools.cached_property, types.MemberDescriptorType)):
        return _property(name, member.__doc__)
    if isinstance(member, staticmethod):
        return member
    if isinstance(member, types.FunctionType):
        return _waiting(member, name) if inspect.iscoroutinefunction(member) else _calling(member)
    return None


def _property(name: str, doc: str | None) -> property:
    def read(self: Facade) -> Any:
        return wrap(getattr(self._target, name), self._portal, self._home)

    return property(read, doc=doc)


def _waiting(function: Any, name: str) -> Any:
    """A method that has a coroutine function run to its end."""
    if _callbacks(function):
        return _calling_back(function, name)

    def method(self: Facade, *args: Any, **named: Any) -> Any:
        coro = function(self._target, *map(bare, args), **_bare_values(named))
        return wrap(self._run(coro), self._portal, self._home)

    return _dressed(method, function, name)


def _calling(function: Any) -> Any:
    """A method that does not wait itself; what it answers may."""

    def method(self: Facade, *args: Any, **named: Any) -> Any:
        made = function(self._target, *map(bare, args), **_bare_values(named))
        return wrap(made, self._portal, self._home)

    return _dressed(method, function, function.__name__)


def _calling_back(function: Any, name: str) -> Any:
    """A method that takes functions, which are plain ones here and run in the calling thread; many, in others."""
    parameters = _callbacks(function)
    signature = inspect.signature(function)

    def method(self: Facade, *args: Any, **named: Any) -> Any:
        portal, home = self._portal, self._home
        given = signature.bind(self._target, *map(bare, args), **_bare_values(named))
        holder: list[Call] = []
        for parameter, value in given.arguments.items():
            if isinstance(value, threading.Event):
                given.arguments[parameter] = _Until(value)
            elif parameter in parameters and isinstance(value, Mapping):
                given.arguments[parameter] = {topic: _handling(how, portal) for topic, how in value.items()}
            elif parameter in parameters:
                given.arguments[parameter] = _asking(value, holder, portal, home)

        async def work() -> Any:
            holder.append(current(portal))
            return await function(*given.args, **given.kwargs)

        return wrap(self._run(work()), portal, home)

    return _dressed(method, function, name)


def _asking(fn: Any, holder: list[Call], portal: Portal, home: Home | None) -> Any:
    def here(*args: Any) -> Any:
        if home is None:
            return fn(*args)
        home.enter()
        try:
            return fn(*args)
        finally:
            home.leave()

    async def ask(*args: Any) -> Any:
        return await holder[0].ask(here, *(wrap(a, portal, home) for a in args))

    return ask


class _Until:
    """An event of threads, for a coroutine that looks at it now and then."""

    __slots__ = ("is_set",)

    def __init__(self, event: threading.Event) -> None:
        self.is_set = event.is_set

    async def wait(self) -> None:
        while not self.is_set():  # noqa: ASYNC110  it is set in another thread, which wakes no loop
            await asyncio.sleep(_TICK)


def _handling(how: Any, portal: Portal) -> Any:
    """A plain function that handles messages, or a description with one, for the loop: each call has its own thread."""
    described = not callable(how)
    fn: Any = getattr(how, "handler", None) if described else how
    if not callable(fn):
        return how
    if _waits(fn) or _waits(type(fn).__call__):
        raise _not_plain()

    async def handle(message: Any) -> None:
        found = await portal.aside(functools.partial(fn, wrap(message, portal, None)))
        if inspect.iscoroutine(found):
            found.close()
            raise _not_plain()

    return msgspec.structs.replace(how, handler=handle) if described else handle


def _not_plain() -> Invalid:
    return Invalid("A handler is a plain function here.", field="handlers", remedy="Write def, not async def.")


@functools.cache
def _callbacks(function: Any) -> frozenset[str]:
    notes = getattr(function, "__annotations__", {})
    return frozenset(name for name, note in notes.items() if "Callable" in str(note) and "Awaitable" in str(note))


def _dressed(method: Any, function: Any, name: str) -> Any:
    method.__name__, method.__doc__ = name, function.__doc__
    method.__qualname__ = function.__qualname__.replace(function.__name__, name)
    method.__module__ = "tallystick.sync"
    method.__wrapped__ = function
    method.__signature__ = inspect.signature(function)
    return method


def _iterating(self: Facade) -> Iterator[Any]:
    return iterate(aiter(self._target), self._portal, self._home)


def bare(value: Any) -> Any:
    """An argument as the asynchronous side takes it."""
    return value._target if isinstance(value, Facade) else value


def _bare_values(named: dict[str, Any]) -> dict[str, Any]:
    return {name: bare(value) for name, value in named.items()} if named else named


def wrap(value: Any, portal: Portal, home: Home | None) -> Any:
    """What the asynchronous side answered, as a thread can use it."""
    cls = value.__class__
    if cls is types.MethodType and isinstance(value.__self__, type) is False:
        return functools.partial(_call, value, portal, home)
    if cls is types.CoroutineType:
        return wrap(portal.run(value), portal, home)
    if cls is types.AsyncGeneratorType:
        return iterate(value, portal, home)
    if cls is list:
        return [wrap(v, portal, home) for v in value] if value and is_asynchronous(value[0].__class__) else value
    if not is_asynchronous(cls):
        return value
    return facade_of(cls)(value, portal, Home() if isinstance(value, Session) else home)


def _call(method: Any, portal: Portal, home: Home | None, *args: Any, **named: Any) -> Any:
    return wrap(method(*map(bare, args), **_bare_values(named)), portal, home)


def iterate(source: AsyncIterator[Any], portal: Portal, home: Home | None) -> Iterator[Any]:
    """The items of an async iterator. Plain values are read ahead, ever more at a time; others one by one.

    A session or a work item is alive only until the next is asked for, so those are never read ahead.
    """
    most, ended, problem = 1, False, None
    try:
        while not ended:
            if home is not None:
                home.check()
            items, ended, problem = portal.run(_pull(source, most))
            if items:
                most = 1 if is_asynchronous(items[0].__class__) else min(most * 4, _AHEAD)
            for item in items:
                yield wrap(item, portal, home)
        if problem is not None:
            raise problem
    finally:
        portal.finish(source)


async def _pull(source: AsyncIterator[Any], most: int) -> tuple[list[Any], bool, Exception | None]:
    items: list[Any] = []
    try:
        while len(items) < most:
            items.append(await anext(source))
    except StopAsyncIteration:
        return items, True, None
    except Exception as problem:
        return items, True, problem
    return items, False, None
