"""Keys: what protects a tenant's data keys, and where the keys of its blind indexes come from.

A root key protects key epochs, an epoch's key wraps data keys, a data key seals the fields of one person
(``keyring.py``). A provider is asked for epochs and index keys by tenant and hands out objects, never files or
environment variables. Epochs live outside the database (``key_store.py``), so that ending one destroys what it wrapped
in every backup too.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, NoReturn, Protocol
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.errors import Denied, Invalid, Tampered, Unavailable, Unsupported
from tallystick.privacy.envelope import DataKey, length_prefixed, open_, seal
from tallystick.privacy.key_store import KeyFolder, KeyStore, epoch_name
from tallystick.privacy.private_file import read_private, write_private

__all__ = ["DevelopmentKeys", "KeyProvider", "LocalKeys", "RootKey", "StoredKeys"]

ROOT_VARIABLE: Final = "TALLYSTICK_ROOT_KEY"
"""The variable of a root key for development: 64 hexadecimal digits."""
_CACHED: Final = 4096
_INDEX: Final = b"tallystick/1/index"
_STORED: Final = b"tallystick/1/stored key"
_ROOT: Final = b"tallystick/1/root"
INDEX: Final = "index"
"""The name under which a store keeps the root of a tenant's index keys."""
_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")
# Anybody can compute it, which is the point: it protects nothing and must not look as if it did.
_DEVELOPMENT_ROOT: Final = hashlib.sha256(b"tallystick/1/development: not a secret").digest()


class KeyProvider(Protocol):
    """Hands out the keys that protect a tenant's data; implemented by files, services and tests."""

    @property
    def development(self) -> bool:
        """True when the keys protect nothing and only the embedded server may use them."""
        ...

    def epochs(self, tenant: UUID) -> Mapping[int, datetime | None]:
        """Every key epoch of a tenant there ever was, and when it ended (None while it lives)."""
        ...

    def begin_epoch(self, tenant: UUID) -> int:
        """Begin a new epoch and answer its number; callers that race may be answered the same one."""
        ...

    def epoch_key(self, tenant: UUID, epoch: int) -> DataKey:
        """The key that wraps data keys in an epoch. Raises ``Erased`` for one that ended, ``Unavailable``."""
        ...

    def end_epoch(self, tenant: UUID, epoch: int) -> None:
        """Destroy an epoch's key for good, and with it whatever is still wrapped by it, in backups too.

        Of one that ended it destroys what is left, where it was cut short.
        """
        ...

    def index_key(self, tenant: UUID, table: str, column: str, generation: int = 1) -> bytes:
        """The 32 bytes that key a column's blind index, unrelated to every other key."""
        ...

    def note_erasure(self, tenant: UUID, line: bytes) -> None:
        """Append a line to the erasure ledger, durably and outside the database."""
        ...

    def erasures(self, tenant: UUID) -> list[bytes]:
        """The lines of the erasure ledger, oldest first."""
        ...


class RootKey(Protocol):
    """What wraps epoch keys: a key in a file here, a key management service (KMS, Vault) in production.

    A service implements two methods; ``context`` says what is wrapped for whom and must be authenticated with it
    (AWS calls it the encryption context, Google and Vault the additional or associated data).
    """

    @property
    def development(self) -> bool:
        """True when it protects nothing and only the embedded server may use it."""
        ...

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypt 32 bytes, bound to the context. Raises ``Unavailable``."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The bytes that were wrapped with this context. Raises ``Tampered``, ``Unavailable``."""
        ...


class StoredKeys:
    """Keys whose epochs are random, wrapped by a root key and kept in a store outside the database.

    What ``LocalKeys`` with a folder is, and what a key management service is used with:
    ``StoredKeys(TinkRoot(aead), KeyFolder(path))``. Unwrapped keys are cached in a bounded number.
    """

    __slots__ = ("_index_root", "_root", "_store", "development")

    def __init__(self, root: RootKey, store: KeyStore) -> None:
        self.development: Final = root.development
        self._root: Final = root
        self._store: Final = store

        @lru_cache(_CACHED)
        def index_root(tenant: UUID) -> bytes:
            wrapped = store.read(tenant, INDEX)
            if wrapped is None:
                store.add(tenant, INDEX, root.wrap(os.urandom(32), context_of(tenant, INDEX)))
                wrapped = store.read(tenant, INDEX)
                assert wrapped is not None
            return self._unwrap(tenant, INDEX, wrapped)

        self._index_root: Final = index_root

    def epochs(self, tenant: UUID) -> Mapping[int, datetime | None]:
        """Every key epoch of a tenant there ever was, and when it ended."""
        return self._store.epochs(tenant)

    def begin_epoch(self, tenant: UUID) -> int:
        """Begin a new epoch and answer its number."""
        epoch = max(self._store.epochs(tenant), default=0) + 1
        wrapped = self._root.wrap(os.urandom(32), context_of(tenant, epoch_name(epoch)))
        # Lost to somebody who began it at the same time, it is begun all the same.
        self._store.add(tenant, epoch_name(epoch), wrapped)
        return epoch

    def epoch_key(self, tenant: UUID, epoch: int) -> DataKey:
        """The key that wraps data keys in an epoch; read anew, because another process may have ended it."""
        name = epoch_name(epoch)
        wrapped = self._store.read(tenant, name)
        if wrapped is None:
            raise Unavailable(
                f"The key of epoch {epoch} is not in the key store.",
                remedy="Restore the key folder from its own backup (`tallystick keys status` shows what is there).",
            )
        return DataKey(self._unwrap(tenant, name, wrapped))

    def end_epoch(self, tenant: UUID, epoch: int) -> None:
        """Destroy an epoch's key for good."""
        self._store.end(tenant, epoch)

    def index_key(self, tenant: UUID, table: str, column: str, generation: int = 1) -> bytes:
        """The 32 bytes that key a column's blind index."""
        return _index_key(self._index_root(tenant), tenant, table, column, generation)

    def note_erasure(self, tenant: UUID, line: bytes) -> None:
        """Append a line to the erasure ledger, durably."""
        self._store.note(tenant, line)

    def erasures(self, tenant: UUID) -> list[bytes]:
        """The lines of the erasure ledger, oldest first."""
        return self._store.notes(tenant)

    def export(self, tenant: UUID) -> dict[str, bytes]:
        """The unwrapped keys of a tenant by name, living epochs and its index key: for escrow, and for nothing else."""
        names = [epoch_name(n) for n, ended in self.epochs(tenant).items() if ended is None]
        found = {name: self._store.read(tenant, name) for name in (*names, INDEX)}
        return {name: self._unwrap(tenant, name, wrapped) for name, wrapped in found.items() if wrapped is not None}

    def restore(self, tenant: UUID, name: str, key: bytes) -> bool:
        """Keep a key that came back from escrow; False when it is there already. Raises ``Erased`` for an ended one."""
        return self._store.add(tenant, name, self._root.wrap(key, context_of(tenant, name)))

    def _unwrap(self, tenant: UUID, name: str, wrapped: bytes) -> bytes:
        try:
            return self._root.unwrap(wrapped, context_of(tenant, name))
        except Tampered:
            pass
        raise Tampered(
            f"The key {name} does not open with this root key.",
            remedy="Use the root key that the key folder was made with (TALLYSTICK_KEY_FILE, TALLYSTICK_KEY_DIR), or "
            "restore the folder's file from its own backup.",
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(development={self.development})"

    def __reduce__(self) -> NoReturn:
        raise Denied("A key cannot be pickled or copied.", remedy="Read the key file where the keys are needed.")

    def __getstate__(self) -> NoReturn:
        self.__reduce__()


class LocalKeys(StoredKeys):
    """Keys under one root key of 32 bytes. ``folder`` is where epochs and the erasure ledger are kept.

    Without a folder there is one epoch for ever, derived from the root: fields are sealed as with any other, and
    nothing can be erased, because nothing could be destroyed. Index keys are derived from the root by HKDF-SHA256
    (RFC 5869), apart for every tenant and column; names go in with their lengths, so no two columns share a key.
    Raises ``Invalid`` for a root of the wrong size, of one repeated byte, or the development root without
    ``development``.
    """

    __slots__ = ("_index",)

    def __init__(self, root: bytes, *, folder: str | os.PathLike[str] | None = None, development: bool = False) -> None:
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
        store = _OneEpoch(root) if folder is None else KeyFolder(folder)
        super().__init__(_LocalRoot(root, development=development), store)

        # A closure, so that the root is no attribute that a printer, a logger or a pickler would meet.
        @lru_cache(_CACHED)
        def index(tenant: UUID, table: str, column: str, generation: int) -> bytes:
            return _index_key(root, tenant, table, column, generation)

        self._index: Final[Callable[[UUID, str, str, int], bytes]] = index

    @staticmethod
    def from_file(path: str | os.PathLike[str], *, folder: str | os.PathLike[str] | None = None) -> LocalKeys:
        """Read the root key from a file of 32 bytes, or of 64 hexadecimal digits and at most one newline.

        The file must be a regular one, owned by this user or root, with no rights for anybody else (mode 0600
        or less). ``folder`` keeps epochs and erasures; by default it is the file's name with ".d" after it. Raises
        ``Unavailable`` when it cannot be read and ``Invalid`` when it is not such a file.
        """
        file = Path(path)
        return LocalKeys(_root_of(read_private(file)), folder=_beside(file) if folder is None else folder)

    @staticmethod
    def from_environment(name: str = ROOT_VARIABLE, *, folder: str | os.PathLike[str] | None = None) -> LocalKeys:
        """Read the root key, 64 hexadecimal digits, from the environment: for development on the embedded server only.

        What is in the environment is in process listings and core dumps and is inherited by every child, so these keys
        count as ``development`` and no other server takes them. Raises ``Unavailable``, ``Invalid``.
        """
        given = os.environ.get(name)
        if given is None:
            raise Unavailable(f"{name} is not set.", remedy="Set it to 64 hexadecimal digits, or use a key file.")
        return LocalKeys(_root_of(given.encode()), folder=folder, development=True)

    @staticmethod
    def create(path: str | os.PathLike[str], *, folder: str | os.PathLike[str] | None = None) -> LocalKeys:
        """Write a new random root key to a file of mode 0600 and return its keys; never replaces a file.

        Losing this file is losing every encrypted value: keep a copy where the database's backups are not.
        Raises ``Invalid`` when the file exists and ``Unavailable`` when it cannot be written.
        """
        root, file = os.urandom(32), Path(path)
        write_private(file, root.hex().encode() + b"\n")
        return LocalKeys(root, folder=_beside(file) if folder is None else folder)

    def index_key(self, tenant: UUID, table: str, column: str, generation: int = 1) -> bytes:
        """The 32 bytes that key the column's blind index."""
        return self._index(tenant, table, column, generation)


class DevelopmentKeys(LocalKeys):
    """Keys from a root that is written in this source: the same everywhere, protecting nothing.

    They let the encrypted columns work from the first minute on a laptop; ``development`` tells the rest of
    the library to refuse them on any server but the embedded one.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_DEVELOPMENT_ROOT, development=True)


class _LocalRoot:
    """A ``RootKey`` in this process."""

    __slots__ = ("_key", "development")

    def __init__(self, root: bytes, *, development: bool) -> None:
        self.development: Final = development
        self._key: Final = DataKey(HKDF(algorithm=SHA256(), length=32, salt=None, info=_ROOT).derive(root))

    def wrap(self, key: bytes, context: bytes) -> bytes:
        return seal(self._key, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return open_(self._key, wrapped, context)


class _OneEpoch:
    """The store of keys that have no folder: one epoch, worked out from the root, and nothing that could be kept."""

    __slots__ = ("_read",)

    def __init__(self, root: bytes) -> None:
        wrapping = _LocalRoot(root, development=False)

        def read(tenant: UUID, name: str) -> bytes | None:
            if name != epoch_name(1):
                return None
            context = context_of(tenant, name)
            key = HKDF(algorithm=SHA256(), length=32, salt=None, info=context).derive(root)
            return wrapping.wrap(key, context)

        self._read: Final = read

    def epochs(self, tenant: UUID) -> dict[int, datetime | None]:
        return {1: None}

    def read(self, tenant: UUID, name: str) -> bytes | None:
        return self._read(tenant, name)

    def add(self, tenant: UUID, name: str, wrapped: bytes) -> bool:
        raise self._nowhere()

    def end(self, tenant: UUID, epoch: int) -> None:
        raise self._nowhere()

    def note(self, tenant: UUID, line: bytes) -> None:
        raise self._nowhere()

    def notes(self, tenant: UUID) -> list[bytes]:
        return []

    @staticmethod
    def _nowhere() -> Unsupported:
        return Unsupported(
            "These keys have no folder, so nothing can be rotated or erased.",
            remedy="Give one: TALLYSTICK_KEY_DIR, or LocalKeys.from_file(path, folder=...).",
        )


def context_of(tenant: UUID, name: str) -> bytes:
    """What a key of a store is bound to where it is wrapped: whose it is, and its name."""
    return length_prefixed(_STORED, tenant.bytes, name.encode())


def _index_key(root: bytes, tenant: UUID, table: str, column: str, generation: int) -> bytes:
    parts = [_INDEX, tenant.bytes, table.encode(), column.encode()]
    # The first generation is the derivation of the time when there were no others.
    if generation != 1:
        parts.append(generation.to_bytes(4, "big"))
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=length_prefixed(*parts)).derive(root)


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.d")


def _root_of(content: bytes) -> bytes:
    # Half a key in hexadecimal digits is as long as a whole one in bytes.
    if len(content) == 32 and not _DIGITS.issuperset(content):
        return content
    try:
        root = binascii.unhexlify(content.removesuffix(b"\n"))
    except binascii.Error:
        root = b""
    if len(root) != 32:
        # It may be the key and a character too many, and errors are reported with the variables of their frames.
        del content, root
        raise Invalid(
            "The key file does not hold a root key.",
            field="root",
            remedy="It must be exactly 32 bytes or 64 hexadecimal digits; LocalKeys.create(path) makes one.",
        )
    return root
