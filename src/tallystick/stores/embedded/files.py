"""Files and directories of the embedded server, made so that another account cannot turn them against us."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallystick.errors import StorageFull, TallystickError, Unavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def storage_errors(directory: Path) -> Iterator[None]:
    """Turn what the operating system says about files into the errors of this library."""
    try:
        yield
    except TallystickError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                f"There is no space left for the embedded server's files in {directory}.",
                remedy="Free space there, or name another directory with TALLYSTICK_DATA_DIR.",
            ) from error
        if error.errno in _FORBIDDEN:
            raise Unavailable(
                f"This account may not use the embedded server's files in {directory}.",
                remedy="Run as the account that made them, or name another directory with TALLYSTICK_DATA_DIR.",
            ) from error
        raise Unavailable(
            f"The embedded server's files in {directory} cannot be used ({os.strerror(error.errno or 0)}).",
            remedy="Name another directory with TALLYSTICK_DATA_DIR.",
        ) from error


def make_directory(path: Path, mode: int, *, owner: tuple[int, int] | None = None) -> None:
    """Make one directory with exactly this mode; one that exists is left as it is."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(descriptor, mode)
        if owner is not None and os.geteuid() == 0:
            os.fchown(descriptor, *owner)
    finally:
        os.close(descriptor)


def open_file(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open or make a file without following a link; under root it gets the owner of its directory.

    The owner is handed on so that a file which root made does not lock out the account that owns the directory.
    """
    existed = path.exists()
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    if not existed:
        os.fchmod(descriptor, mode)
        if os.geteuid() == 0:
            parent = path.parent.stat()
            os.fchown(descriptor, parent.st_uid, parent.st_gid)
    return descriptor


def write_file(path: Path, content: bytes, *, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Replace a file in one step, durably, so that a crash leaves the old one or the new one."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = open_file(temporary, os.O_WRONLY | os.O_EXCL, mode)
        try:
            if owner is not None and os.geteuid() == 0:
                os.fchown(descriptor, *owner)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_file(path: Path) -> bytes:
    """Read a file without following a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def tail(path: Path, *, size: int = 4_000) -> str:
    """The last lines of a log, or nothing when there is no log."""
    try:
        content = read_file(path)
    except OSError:
        return ""
    return content[-size:].decode("utf-8", "replace")
