"""Where wrapped epoch keys and the erasure ledger are kept: a folder outside the database.

They must not be in the database, because a restored backup of it would bring back what was destroyed. One folder a
tenant: ``epoch-000001.key`` as long as the epoch lives, ``epoch-000001.ended`` (when it ended) for ever after,
``index.key``, and ``erasures.jsonl``, one line an erasure. Nothing is ever replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from tallystick.errors import Erased, Invalid, Unavailable
from tallystick.privacy.private_file import TORN, add_line, private_folder, read_private, write_private

_EPOCH: Final = re.compile(r"epoch-(\d{6})\.(key|ended)")
_LONGEST_WRAPPED: Final = 4096


class KeyStore(Protocol):
    """Keeps wrapped keys and erasures by tenant; implemented by a folder here, by a secret store elsewhere."""

    def epochs(self, tenant: UUID) -> dict[int, datetime | None]:
        """Every epoch there ever was, and when it ended (None while it lives)."""
        ...

    def read(self, tenant: UUID, name: str) -> bytes | None:
        """The wrapped key of that name, or None."""
        ...

    def add(self, tenant: UUID, name: str, wrapped: bytes) -> bool:
        """Keep a wrapped key; False when one of that name is there already, which is then left alone."""
        ...

    def end(self, tenant: UUID, epoch: int) -> None:
        """Destroy the key of an epoch for good; where that was cut short, what is left of it."""
        ...

    def note(self, tenant: UUID, line: bytes) -> None:
        """Append a line to the erasure ledger, durably."""
        ...

    def notes(self, tenant: UUID) -> list[bytes]:
        """The lines of the erasure ledger, oldest first."""
        ...


def epoch_name(epoch: int) -> str:
    """The name under which a store keeps the key of an epoch."""
    return f"epoch-{epoch:06d}"


class KeyFolder:
    """A ``KeyStore`` in a folder that only this user can read (modes 0700 and 0600)."""

    __slots__ = ("path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = Path(path)

    def epochs(self, tenant: UUID) -> dict[int, datetime | None]:
        """Every epoch there ever was, and when it ended (None while it lives)."""
        folder, found = self._folder(tenant), dict[int, datetime | None]()
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return found
        except OSError as error:
            raise _unreadable(folder, error) from None
        for name in names:
            match = _EPOCH.fullmatch(name)
            if match is None:
                continue
            epoch = int(match[1])
            # An epoch whose key is still being removed has ended: the tombstone is written first.
            if match[2] == "ended":
                found[epoch] = _moment(folder / name)
            else:
                found.setdefault(epoch, None)
        return found

    def read(self, tenant: UUID, name: str) -> bytes | None:
        """The wrapped key of that name, or None. Raises ``Erased`` for one that was destroyed, ``Invalid``."""
        folder = self._folder(tenant)
        file = folder / f"{name}.key"
        self._refuse_ended(folder, name)
        return read_private(file, longest=_LONGEST_WRAPPED) if _there(file) else None

    def add(self, tenant: UUID, name: str, wrapped: bytes) -> bool:
        """Keep a wrapped key; False when one of that name is there already, which is then left alone."""
        folder = self._folder(tenant)
        try:
            private_folder(folder, self.path)
        except OSError as error:
            raise _unreadable(folder, error) from None
        self._refuse_ended(folder, name)
        try:
            write_private(folder / f"{name}.key", wrapped)
        except Invalid:
            return False
        return True

    def end(self, tenant: UUID, epoch: int) -> None:
        """Destroy the key of an epoch for good: first its tombstone is made, then its bytes are overwritten."""
        folder, name = self._folder(tenant), epoch_name(epoch)
        file = folder / f"{name}.key"
        try:
            if not file.exists():
                return
            with contextlib.suppress(Invalid):  # there already: somebody else is at it, or was cut short
                write_private(folder / f"{name}.ended", datetime.now(UTC).isoformat(timespec="seconds").encode())
            with contextlib.suppress(FileNotFoundError), open(file, "r+b") as handle:
                size = os.fstat(handle.fileno()).st_size
                handle.write(b"\0" * size)
                handle.flush()
                os.fsync(handle.fileno())
            file.unlink(missing_ok=True)
        except OSError as error:
            raise _unreadable(file, error) from None

    def note(self, tenant: UUID, line: bytes) -> None:
        """Append a line to the erasure ledger, durably."""
        folder = self._folder(tenant)
        try:
            private_folder(folder, self.path)
            add_line(folder / "erasures.jsonl", line)
        except OSError as error:
            raise _unreadable(folder, error) from None

    def notes(self, tenant: UUID) -> list[bytes]:
        """The lines of the erasure ledger, oldest first. Lines that were cut short by a crash are left out."""
        file = self._folder(tenant) / "erasures.jsonl"
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(file, error) from None
        return [line for line in content.split(b"\n")[:-1] if line and not line.endswith(TORN)]

    def _folder(self, tenant: UUID) -> Path:
        return self.path / str(tenant)

    @staticmethod
    def _refuse_ended(folder: Path, name: str) -> None:
        if _there(folder / f"{name}.ended"):
            raise Erased("This key epoch was ended and its key destroyed.")


def _there(file: Path) -> bool:
    """Whether a file is there; what cannot be looked at is no answer."""
    try:
        return file.exists()
    except OSError as error:
        raise _unreadable(file, error) from None


def _moment(tombstone: Path) -> datetime:
    try:
        return datetime.fromisoformat(tombstone.read_text("ascii"))
    except (OSError, ValueError):
        # What it says was lost, that it is there was not.
        return datetime.fromtimestamp(tombstone.stat().st_mtime, UTC)


def _unreadable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"The key folder {path} cannot be used ({error.strerror or 'unknown reason'}).",
        remedy="Check TALLYSTICK_KEY_DIR, its owner and its mode (0700).",
    )
