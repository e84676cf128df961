"""Where checkpoints are kept outside the database, so that whoever owns the database cannot take them back.

A database can be rewritten, or replaced by an older copy of itself, and be consistent in itself afterwards. Only a
checkpoint that was kept elsewhere tells. The sealer publishes every checkpoint to an anchor before it counts, and asks
the anchor for the last one before it signs the next. Here is the plainest anchor, a directory that is only added to; a
witness or a chain implements the same three methods.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tallystick.errors import Invalid, StorageFull, Tampered, Unavailable

__all__ = ["Anchor", "Announcement", "DirectoryAnchor"]

_ORIGIN: Final = re.compile(r"tallystick/([0-9a-f-]{36})/([0-9a-f-]{36})")
_DIGITS: Final = 12
_GROUP: Final = 3
_LONGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Announcement:
    """A checkpoint on its way out: the signed note, and the proof that its tree continues the one of ``old`` leaves.

    The first checkpoint of a log continues nothing: ``old`` is 0 and the proof is empty.
    """

    origin: str
    size: int
    note: str
    old: int = 0
    proof: tuple[bytes, ...] = ()

    def consistency(self) -> str:
        """The proof as text: ``old <size>``, then a hash a line in base64, as a C2SP witness is told it."""
        return f"old {self.old}\n" + "".join(f"{base64.b64encode(part).decode()}\n" for part in self.proof)

    @classmethod
    def read(cls, origin: str, size: int, note: str, consistency: str) -> Announcement:
        """The announcement of two texts. Raises ``Invalid`` when the second is not such a proof."""
        first, *lines = consistency.removesuffix("\n").split("\n")
        try:
            if not re.fullmatch(r"old (0|[1-9][0-9]{0,17})", first) or len(lines) > 128:
                raise ValueError
            return cls(origin, size, note, int(first[4:]), tuple(base64.b64decode(x, validate=True) for x in lines))
        except ValueError:
            raise Invalid("A consistency proof is not written as one.", field="consistency") from None


class Anchor(Protocol):
    """Keeps checkpoints where the database's owner cannot change them."""

    async def publish(self, announcement: Announcement) -> None:
        """Keep a checkpoint for good; again does nothing. Raises ``Tampered`` when another of that size is kept."""
        ...

    async def latest(self, origin: str) -> Announcement | None:
        """The largest checkpoint that is kept of a log, or None."""
        ...

    async def origins(self, installation: str) -> list[str]:
        """The logs of an installation of which something is kept."""
        ...


class DirectoryAnchor:
    """A directory of checkpoints, a file each by log and size, written once: on a disk that the database cannot reach.

    ``<installation>/<tenant>/000/000/012/000000012345.checkpoint``, each with a ``.consistency`` beside it that proves
    that it continues the one before. Mount it from a machine of its own, or from write-once storage; another machine
    that looks at it with ``tallystick audit watch`` is what makes rewriting it noticed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def publish(self, announcement: Announcement) -> None:
        """Write the files, durably. Raises ``Tampered``, ``Unavailable``, ``StorageFull``."""
        await asyncio.to_thread(self._publish, announcement)

    async def latest(self, origin: str) -> Announcement | None:
        """Read the largest. Raises ``Unavailable``."""
        return await asyncio.to_thread(self._latest, origin)

    async def origins(self, installation: str) -> list[str]:
        """The logs of an installation that have a directory. Raises ``Unavailable``."""
        return await asyncio.to_thread(self._origins, installation)

    def all(self) -> Iterator[tuple[str, int, Path]]:
        """Every checkpoint: log, size and file, log by log and in the order of their sizes."""
        with _storage(self.directory):
            for file in sorted(self.directory.glob(f"*/*/{'[0-9]' * _GROUP}/*/*/*.checkpoint")):
                origin = "/".join(("tallystick", *file.relative_to(self.directory).parts[:2]))
                if _ORIGIN.fullmatch(origin) and re.fullmatch(f"[0-9]{{{_DIGITS}}}", file.stem):
                    yield origin, int(file.stem), file

    def read(self, origin: str, size: int, file: Path) -> Announcement:
        """What a file that was found holds. Raises ``Unavailable``, ``Invalid``."""
        with _storage(self.directory):
            proof = _read(file.with_suffix(".consistency"))
            return Announcement.read(origin, size, _read(file), proof)

    def _publish(self, announcement: Announcement) -> None:
        file = self._file(announcement.origin, announcement.size)
        with _storage(self.directory):
            file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            # The checkpoint comes last: where it is, its proof is too.
            proof = file.with_suffix(".consistency")
            for path, text in ((proof, announcement.consistency()), (file, announcement.note)):
                if not _write_once(path, text) and path == file and _read(path) != text:
                    raise Tampered(
                        f"Another checkpoint of {announcement.origin} with {announcement.size:,} entries is anchored.",
                        kind="forked",
                        remedy="Two histories were signed: find out which sealer and which database wrote the other.",
                    )

    def _latest(self, origin: str) -> Announcement | None:
        with _storage(self.directory):
            top = self._file(origin, 0).parents[_DIGITS // _GROUP - 1]
            file = _last(top, _DIGITS // _GROUP - 1)
            if file is None:
                return None
        return self.read(origin, int(file.stem), file)

    def _origins(self, installation: str) -> list[str]:
        with _storage(self.directory):
            try:
                names = os.listdir(self.directory / installation)
            except FileNotFoundError:
                return []
        found = (f"tallystick/{installation}/{name}" for name in sorted(names))
        return [origin for origin in found if _ORIGIN.fullmatch(origin)]

    def _file(self, origin: str, size: int) -> Path:
        parts = _ORIGIN.fullmatch(origin)
        digits = f"{size:0{_DIGITS}d}"
        if parts is None or len(digits) != _DIGITS or size < 0:
            raise Invalid("A log is named tallystick/<installation>/<tenant>.", field="origin")
        groups = [digits[at : at + _GROUP] for at in range(0, _DIGITS - _GROUP, _GROUP)]
        return self.directory.joinpath(*parts.groups(), *groups, f"{digits}.checkpoint")


def _last(directory: Path, depth: int) -> Path | None:
    """The last checkpoint below a directory. Names are padded, so their order is that of the sizes."""
    try:
        names = sorted(os.listdir(directory), reverse=True)
    except FileNotFoundError:
        return None
    if not depth:
        return next((directory / n for n in names if re.fullmatch(rf"[0-9]{{{_DIGITS}}}\.checkpoint", n)), None)
    for name in names:
        if len(name) == _GROUP and name.isdigit() and (found := _last(directory / name, depth - 1)) is not None:
            return found
    return None


def _write_once(path: Path, text: str) -> bool:
    """Whether the file was made now. It appears whole or not at all, and one that exists is left as it is."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
    finally:
        draft.unlink()
    _sync_directory(path.parent)
    return True


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    try:
        if len(content) <= _LONGEST:
            return content.decode()
    except UnicodeDecodeError:
        pass
    raise Invalid(f"{path.name} in the anchor directory is not what a sealer writes.", field="anchor_dir")


@contextlib.contextmanager
def _storage(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "There is no space left for checkpoints.", remedy="Free space in the anchor directory; nothing is lost."
            ) from None
        raise Unavailable(
            f"The anchor directory {directory} cannot be used ({os.strerror(problem.errno or 0)}).",
            remedy="Check TALLYSTICK_ANCHOR_DIR; it must be a directory with hard links that the sealer may write.",
        ) from None
