"""What the site's settings describe: one tally a process, and who a request speaks for."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from tallystick import app as asynchronous
from tallystick.sync import Tallystick

_lock = threading.Lock()
_tally: Tallystick | None = None
_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Own] = weakref.WeakKeyDictionary()


def setting(name: str) -> Any:
    """One of ``settings.TALLYSTICK``; None where it is not given."""
    return getattr(settings, "TALLYSTICK", {}).get(name)


def function(name: str) -> Callable[[Any], Any]:
    """The function that a setting names, by its dotted path or as it is."""
    found = setting(name)
    if found is None:
        raise ImproperlyConfigured(f'settings.TALLYSTICK needs "{name}": a function of the request, or its path.')
    made: Callable[[Any], Any] = import_string(found) if isinstance(found, str) else found
    return made


def get_tally() -> Tallystick:
    """The process's tally, opened when it is first asked for; for views, commands and tasks alike.

    A server that forks its workers after loading the site may have used it before: each worker opens its own.
    """
    global _tally  # noqa: PLW0603  one a process
    with _lock:
        if _tally is None:
            _tally = Tallystick.open(**(setting("OPEN") or {}))
        tally = _tally
    tally.start()
    return tally


async def async_tally() -> asynchronous.Tallystick:
    """The tally of the running event loop, for views that are ``async def``; its connections are its own.

    It closes with the loop, which under WSGI is Django's for one request.
    """
    loop = asyncio.get_running_loop()
    own = _loops.get(loop)
    if own is None:
        own = _loops[loop] = _Own(asynchronous.Tallystick.open(**(setting("OPEN") or {})))
    # Of the first requests one opens it, and the others wait for that.
    async with own.opening:
        if own.end is None:
            await own.tally.start()
            end = own.until_the_end()
            await anext(end)
            own.end = end
    return own.tally


class _Own:
    """The tally of an event loop."""

    __slots__ = ("end", "opening", "tally")

    def __init__(self, tally: asynchronous.Tallystick) -> None:
        self.tally = tally
        self.opening = asyncio.Lock()
        self.end: AsyncGenerator[None, None] | None = None

    async def until_the_end(self) -> AsyncGenerator[None, None]:
        """Closes the tally when the loop ends, because a loop then ends the generators that stand open in it."""
        try:
            yield
        finally:
            _loops.pop(asyncio.get_running_loop(), None)
            await self.tally.close()


def close() -> None:
    """Close the process's tally, as a test does between sites; the next use opens it again."""
    global _tally
    with _lock:
        tally, _tally = _tally, None
    if tally is not None:
        tally.close()
