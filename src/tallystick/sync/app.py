"""``Tallystick`` for threads: the asynchronous one behind a portal, opened again in a process that forked."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from tallystick import app as asynchronous
from tallystick.errors import Unavailable, Unsupported
from tallystick.sync.facade import Facade, facade_of, wrap
from tallystick.sync.portal import Portal

_all: weakref.WeakSet[Tallystick] = weakref.WeakSet()
# What a fork has copied is the parent's: collecting it here would unregister the parent's sockets.
_inherited: list[Any] = []
if TYPE_CHECKING:
    _Base = Facade
else:
    _Base = facade_of(asynchronous.Tallystick)


class Tallystick(_Base):
    """An application's hold on its database, for threads: one per process, used by all of them.

    ``with Tallystick.open(...) as tally``, or ``start()`` and ``close()`` where a process has no such block. A process
    that forks after ``start()`` opens connections of its own when it first needs one; sessions do not cross a fork.
    """

    __slots__ = ("_app", "_door", "_lock", "_make", "_wanted")

    def __init__(self, make: Callable[[], asynchronous.Tallystick]) -> None:
        self._make = make
        self._app = make()
        self._home = None
        self._lock = threading.Lock()
        self._door: Portal | None = None
        self._wanted = False
        _all.add(self)

    @classmethod
    def open(cls, *args: Any, **named: Any) -> Self:
        """Describe an application; nothing is touched until it is entered or started.

        Takes what the asynchronous ``Tallystick.open`` takes.
        """
        return cls(lambda: asynchronous.Tallystick.open(*args, **named))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *cause: object) -> None:
        self.close()

    def session(self, *args: Any, connection: Any = None, **named: Any) -> Any:
        """The asynchronous ``session`` for a thread: ``with tally.session(...) as db``. It joins no ``connection``."""
        if connection is not None:
            raise Unsupported(
                "A synchronous session joins no transaction: its connections live in another thread.",
                remedy="Use the asynchronous surface there, or db.outbox with a step after the other commit.",
            )
        return wrap(self._target.session(*args, **named), self._portal, None)

    def start(self) -> None:
        """Open it, once however many threads ask. Raises what the asynchronous ``start`` raises."""
        with self._lock:
            self._wanted = True
            self._started()

    def close(self) -> None:
        """Close every connection and end the thread; the embedded server stops when its last user leaves."""
        with self._lock:
            self._wanted = False
            door, self._door = self._door, None
            if door is None:
                return
            try:
                door.run(self._app.close())
            finally:
                door.stop()

    def _started(self) -> Portal:
        if self._door is None:
            door = self._portal_made()
            try:
                door.run(self._app.start())
            except BaseException:
                door.stop()
                raise
            self._door = door
        return self._door

    def _portal_made(self) -> Portal:
        door = Portal()
        door.start()
        return door

    @property
    def _portal(self) -> Portal:  # type: ignore[override]
        if self._door is not None:
            return self._door
        with self._lock:
            if not self._wanted:
                raise Unavailable("Tallystick is not open.", remedy="Use `with Tallystick.open(...) as tally`.")
            return self._started()

    @property
    def _target(self) -> asynchronous.Tallystick:
        return self._app

    def _forked(self) -> None:
        """In the child: leave what is the parent's alone, and start anew when asked for something."""
        self._lock = threading.Lock()
        if self._door is not None:
            self._door.inherited = True
        if self._wanted:
            # Without a door it was being opened by a thread that did not come along.
            _inherited.append((self._app, self._door))
            self._door, self._app = None, self._make()


def _after_fork() -> None:
    for tally in tuple(_all):
        tally._forked()


@atexit.register
def _at_exit() -> None:
    for tally in tuple(_all):
        tally.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

__all__ = ["Facade", "Tallystick"]
