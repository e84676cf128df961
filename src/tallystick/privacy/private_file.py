"""Files with keys in them: for this user alone, written whole, never replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from tallystick.errors import Invalid, Unavailable

_LONGEST: Final = 128


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
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
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
    """Append one line to a file of mode 0600 and wait until it is on the disk. Raises ``OSError``."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, line + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
