"""Who uses a server: file locks, which the operating system drops when a process dies in any way.

Two lock files in the data directory. ``lock`` is held alone while a server is started or stopped. ``users`` is held
shared by everybody who uses the server, for as long as they do; whoever can hold it alone knows that nobody is left.
No process ids are kept, so a client that was killed leaves nothing behind and a reused id means nothing.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import time
from pathlib import Path

from tallystick.errors import Unavailable
from tallystick.stores.embedded.files import open_file

_STEP = 0.005


class FileLock:
    """One hold on a lock file, from ``acquire`` until ``release``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """True between a successful acquire and the release."""
        return self._descriptor is not None

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock if that is possible at once."""
        descriptor = open_file(self._path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return False
            raise
        self._descriptor = descriptor
        return True

    async def acquire(self, *, timeout: float) -> None:
        """Wait for the lock without blocking the event loop; tasks of one process exclude each other too."""
        deadline = time.monotonic() + timeout
        while not self.try_acquire():
            if time.monotonic() > deadline:
                raise self._busy()
            await asyncio.sleep(_STEP)

    def acquire_blocking(self, *, timeout: float) -> None:
        """Wait for the lock in this thread."""
        deadline = time.monotonic() + timeout
        while not self.try_acquire():
            if time.monotonic() > deadline:
                raise self._busy()
            time.sleep(_STEP)

    def release(self) -> None:
        """Let go. The file is closed, not unlocked: a forked child that uses the server keeps its own hold."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _busy(self) -> Unavailable:
        return Unavailable(
            f"Another process has been starting or stopping the embedded server in {self._path.parent} for too long.",
            remedy="Look for a hanging process that uses this directory, and try again.",
        )
