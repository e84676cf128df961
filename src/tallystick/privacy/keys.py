"""Keys: where the data and index keys of a tenant's columns come from.

A provider is asked for keys by tenant, table and column and hands out objects, never files or environment variables; a
key management service implements the same two methods. ``LocalKeys`` derives all of them from one root key in a file.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import stat
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final, NoReturn, Protocol
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.errors import Denied, Invalid, Unavailable
from tallystick.privacy.envelope import DataKey, length_prefixed

__all__ = ["DevelopmentKeys", "KeyProvider", "LocalKeys"]

_CACHED: Final = 4096
_LONGEST_FILE: Final = 128
_DATA: Final = b"tallystick/1/data"
_INDEX: Final = b"tallystick/1/index"
# Anybody can compute it, which is the point: it protects nothing and must not look as if it did.
_DEVELOPMENT_ROOT: Final = hashlib.sha256(b"tallystick/1/development: not a secret").digest()


class KeyProvider(Protocol):
    """Hands out the keys of a tenant's encrypted columns; implemented by files, services and tests."""

    @property
    def development(self) -> bool:
        """True when the keys protect nothing and only the embedded server may use them."""
        ...

    def data_key(self, tenant: UUID, table: str, column: str) -> DataKey:
        """Return the key that encrypts a column of a tenant; raises ``Unavailable`` when it cannot be had."""
        ...

    def index_key(self, tenant: UUID, table: str, column: str) -> bytes:
        """Return the 32 bytes that key the column's blind index, unrelated to its data key."""
        ...


class LocalKeys:
    """Keys derived from one root key of 32 bytes by HKDF-SHA256 (RFC 5869), apart for every tenant and column.

    The names go into the derivation with their lengths, so no two columns can share a key. Derived keys are
    kept in a bounded cache. Raises ``Invalid`` for a root of the wrong size, of one repeated byte, or the
    development root without ``development``.
    """

    __slots__ = ("_data", "_index", "development")

    def __init__(self, root: bytes, *, development: bool = False) -> None:
        if root.__class__ is not bytes or len(root) != 32 or len(set(root)) == 1:
            raise Invalid(
                "A root key is 32 random bytes.", field="root", remedy="Make one with LocalKeys.create(path)."
            )
        if root == _DEVELOPMENT_ROOT and not development:
            raise Invalid(
                "The root key is the public development key.",
                field="root",
                remedy="Make one of your own with LocalKeys.create(path).",
            )
        self.development: Final = development

        def derive(label: bytes, tenant: UUID, table: str, column: str) -> bytes:
            info = length_prefixed(label, tenant.bytes, table.encode(), column.encode())
            return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(root)

        # Closures, so that the root is no attribute that a printer, a logger or a pickler would meet.
        @lru_cache(_CACHED)
        def data(tenant: UUID, table: str, column: str) -> DataKey:
            return DataKey(derive(_DATA, tenant, table, column))

        @lru_cache(_CACHED)
        def index(tenant: UUID, table: str, column: str) -> bytes:
            return derive(_INDEX, tenant, table, column)

        self._data: Final[Callable[[UUID, str, str], DataKey]] = data
        self._index: Final[Callable[[UUID, str, str], bytes]] = index

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> LocalKeys:
        """Read the root key from a file of 32 bytes, or of 64 hexadecimal digits and at most one newline.

        The file must be a regular one, owned by this user or root, with no rights for anybody else (mode 0600
        or less). Raises ``Unavailable`` when it cannot be read and ``Invalid`` when it is not such a file.
        """
        return LocalKeys(_root_of(_read_private(Path(path))))

    @staticmethod
    def create(path: str | os.PathLike[str]) -> LocalKeys:
        """Write a new random root key to a file of mode 0600 and return its keys; never replaces a file.

        Losing this file is losing every encrypted value: keep a copy where the database's backups are not.
        Raises ``Invalid`` when the file exists and ``Unavailable`` when it cannot be written.
        """
        root = os.urandom(32)
        _write_private(Path(path), root.hex().encode() + b"\n")
        return LocalKeys(root)

    def data_key(self, tenant: UUID, table: str, column: str) -> DataKey:
        """Return the key that encrypts a column of a tenant."""
        return self._data(tenant, table, column)

    def index_key(self, tenant: UUID, table: str, column: str) -> bytes:
        """Return the 32 bytes that key the column's blind index."""
        return self._index(tenant, table, column)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(development={self.development})"

    def __reduce__(self) -> NoReturn:
        raise Denied("A key cannot be pickled or copied.", remedy="Read the key file where the keys are needed.")

    def __getstate__(self) -> NoReturn:
        self.__reduce__()


class DevelopmentKeys(LocalKeys):
    """Keys from a root that is written in this source: the same everywhere, protecting nothing.

    They let the encrypted columns work from the first minute on a laptop; ``development`` tells the rest of
    the library to refuse them on any server but the embedded one.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_DEVELOPMENT_ROOT, development=True)


def _read_private(path: Path, make: str = "LocalKeys.create(path)") -> bytes:
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
        return os.read(handle, _LONGEST_FILE)
    finally:
        os.close(handle)


def _root_of(content: bytes) -> bytes:
    if len(content) == 32:
        return content
    try:
        root = binascii.unhexlify(content.removesuffix(b"\n"))
    except binascii.Error:
        root = b""
    if len(root) != 32:
        raise Invalid(
            "The key file does not hold a root key.",
            field="root",
            remedy="It must be exactly 32 bytes or 64 hexadecimal digits; LocalKeys.create(path) makes one.",
        )
    return root


def _write_private(path: Path, content: bytes) -> None:
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
