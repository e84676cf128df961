"""Files with keys in them: for this user alone, written whole, never replaced."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from tallystick.errors import Invalid, Unavailable

_LONGEST: Final = 128
TORN: Final = b"\x18"
"""What closes a line that was cut short (the control character "cancel", which no JSON holds)."""


def read_private(path: Path, make: str = "LocalKeys.create(path)", longest: int = _LONGEST) -> bytes:
    """The content of a file that nobody else can read, up to ``longest`` bytes. Raises ``Unavailable``, ``Invalid``."""
    # Not following the kind of file but what was opened: a path can be swapped between a check and a read.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"The key file {path} cannot be opened ({getattr(error, 'strerror', None) or 'not a path'}).",
            remedy=f"Check the path and its owner, or make one with {make}.",
        ) from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise Invalid(f"The key file {path} is not a regular file.", field="path", remedy="Name the file itself.")
        if found.st_uid not in (os.geteuid(), 0):
            raise Invalid(
                f"The key file {path} belongs to another user.",
                field="path",
                remedy="Make the user that runs this process its owner.",
            )
        if found.st_mode & 0o077:
            raise Invalid(
                f"The key file {path} can be reached by other users.",
                field="path",
                remedy="Set its mode to 0600, and replace the key if others may have read it.",
            )
        return os.read(handle, longest)
    finally:
        os.close(handle)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, whole or not at all; never replaces one. Raises ``Invalid``, ``Unavailable``."""
    # Written beside and linked into place: the name appears once, whole, or not at all, and nothing is replaced.
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
            os.link(draft, path)
        finally:
            draft.unlink()
        _settle(path.parent)
    except FileExistsError:
        raise Invalid(
            f"The key file {path} exists already.",
            field="path",
            remedy="Read it with LocalKeys.from_file(path); a key that was in use must never be overwritten.",
        ) from None
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"The key file {path} cannot be written ({getattr(error, 'strerror', None) or 'not a path'}).",
            remedy="Check that its folder exists and can be written to.",
        ) from None


def add_line(path: Path, line: bytes) -> None:
    """Append one line to a file of mode 0600 and wait until it is on the disk, all of it. Raises ``OSError``.

    A line before it that a crash or a full disk cut short ends in ``TORN``: no line runs into another.
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        whole = size == 0 or os.pread(handle, 1, size - 1) == b"\n"
        content = (b"" if whole else TORN + b"\n") + line + b"\n"
        if os.write(handle, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    finally:
        os.close(handle)
    if size == 0:
        _settle(path.parent)


def private_folder(path: Path, above: Path) -> None:
    """Make a folder of mode 0700, and ``above`` it too where it is not there yet. Raises ``OSError``."""
    for folder in (above, path):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _settle(folder.parent)


def _settle(folder: Path) -> None:
    """Wait until what was made in a folder is there for good."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
