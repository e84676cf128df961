"""The directory of one embedded server: where it is, what is in it, and the secrets it keeps."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tallystick.errors import Invalid, Unavailable
from tallystick.stores.embedded.account import Account
from tallystick.stores.embedded.binaries import SYSTEM_ROOT, make_system_root
from tallystick.stores.embedded.files import make_directory, read_file, storage_errors, write_file

#: The directory a project gets when none is named.
DEFAULT_NAME = ".tallystick"

_POINTER = "location"
_OURS = (
    ".gitignore",
    _POINTER,
    "cluster",
    "socket",
    "lock",
    "users",
    "server.log",
    "initdb.log",
    "passwords.json",
    "development.key",
    "seal.key",
    "anchors",
    "keys",
    "tallystick.conf",
    "ready",
    "temporary",
    "lost+found",
)
_PASSWORDS = ("postgres", "admin", "app", "seal")
# A socket's address holds 108 bytes on Linux and 104 on macOS and BSD, the closing zero included.
_SOCKET_LIMIT = 103
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one embedded server, and the account that its processes run as.

    Everything directly inside belongs to whoever owns the directory; only ``cluster`` and ``socket`` belong to the
    server's account, so that a server which was taken over can replace none of the files that root reads.
    """

    root: Path
    account: Account

    @classmethod
    def locate(cls, data_dir: Path | None) -> Home:
        """Find or choose the directory for ``data_dir`` or, without one, for the project we are in.

        Under root a directory that the server's account cannot reach, and every default one, becomes a pointer to a
        directory below ``/var/lib/tallystick``: a private home is never opened up. Makes nothing but that pointer.
        """
        named = Path(os.path.realpath(data_dir if data_dir is not None else Path.cwd() / DEFAULT_NAME))
        with storage_errors(named):
            _check_contents(named)
            pointer = named / _POINTER
            if pointer.exists():
                return cls._at(_follow(pointer))
            home = cls._at(named)
            if os.geteuid() != 0 or home.cluster.exists():
                return home
            if data_dir is not None and home.account.can_reach(named):
                return home
            make_system_root()
            make_directory(SYSTEM_ROOT / "data", 0o711)
            target = SYSTEM_ROOT / "data" / hashlib.sha256(os.fsencode(named)).hexdigest()[:20]
            _make_parents(named)
            make_directory(named, 0o755)
            _ignore_in_git(named)
            write_file(pointer, os.fsencode(target), mode=0o644)
            return cls._at(target)

    @classmethod
    def temporary(cls) -> Home:
        """Make a directory for a server that is thrown away."""
        account = Account.current()
        place = Path(os.path.realpath(tempfile.gettempdir()))
        if account.foreign and not account.can_reach(place):
            make_system_root()
            place = SYSTEM_ROOT / "temporary"
            with storage_errors(place):
                make_directory(place, 0o711)
        with storage_errors(place):
            return cls(Path(tempfile.mkdtemp(prefix="tallystick-", dir=place)), account)

    @classmethod
    def _at(cls, root: Path) -> Home:
        cluster = root / "cluster"
        return cls(root, Account.current(cluster if cluster.exists() else root))

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.root / "cluster"

    @property
    def socket(self) -> Path:
        """The private directory of the server's socket."""
        return self.root / "socket"

    @property
    def socket_usable(self) -> bool:
        """False where the path is too long for a socket address or cannot stand in a URL; TCP is used alone then."""
        address = os.fsencode(self.socket / ".s.PGSQL.65535")
        try:
            text = address.decode("utf-8")
        except UnicodeDecodeError:
            return False
        # In a URL, for us as for libpq, a comma separates hosts.
        return len(address) <= _SOCKET_LIMIT and "," not in text

    @property
    def lock(self) -> Path:
        """Held while the server is started or stopped."""
        return self.root / "lock"

    @property
    def users(self) -> Path:
        """Held, shared, by everybody who uses the server."""
        return self.root / "users"

    @property
    def log(self) -> Path:
        """The server's log; statements and row values are kept out of it."""
        return self.root / "server.log"

    @property
    def seal_key(self) -> Path:
        """The key that signs checkpoints of the audit trail, made by the first sealer."""
        return self.root / "seal.key"

    @property
    def anchors(self) -> Path:
        """Signed checkpoints of the audit trail, kept beside the database and not in it."""
        return self.root / "anchors"

    @property
    def keys(self) -> Path:
        """Wrapped epoch keys and the erasure ledger, kept beside the database and not in it."""
        return self.root / "keys"

    @property
    def config(self) -> Path:
        """Our part of the server's configuration, written at every start."""
        return self.root / "tallystick.conf"

    @property
    def ready(self) -> Path:
        """A mark that roles and the first database were made."""
        return self.root / "ready"

    @property
    def is_temporary(self) -> bool:
        """True when the last user is to remove the directory; the directory knows, so that all users agree."""
        return (self.root / "temporary").exists()

    def mark_temporary(self) -> None:
        """Promise the directory to removal; refused when it holds a server that somebody meant to keep."""
        if self.is_temporary:
            return
        if self.cluster.exists():
            raise Invalid(
                f"{self.root} holds a server that is not temporary.",
                field="temporary",
                remedy="Leave temporary out, or name an empty directory.",
            )
        with storage_errors(self.root):
            write_file(self.root / "temporary", b"")

    def make(self) -> None:
        """Make the directory and what surrounds the cluster in it."""
        with storage_errors(self.root):
            _check_contents(self.root)
            _make_parents(self.root)
            make_directory(self.root, 0o711 if self.account.foreign else 0o700)
            if self.account.foreign and not self.account.can_reach(self.root):
                # mkdtemp made it private; only root's own directory is ever changed here.
                os.chmod(self.root, 0o711)  # noqa: S103
            _ignore_in_git(self.root)
            make_directory(self.socket, 0o700, owner=self.account.ids)

    def passwords(self) -> dict[str, str]:
        """The passwords of ``postgres``, ``admin``, ``app`` and ``seal``, chosen at random the first time."""
        file = self.root / "passwords.json"
        with storage_errors(self.root):
            if not file.exists():
                if self.cluster.exists():
                    raise Unavailable(
                        f"The passwords of the embedded server in {self.root} are gone.",
                        remedy="Restore passwords.json from a backup, or start in another directory.",
                    )
                chosen = {name: secrets.token_urlsafe(32) for name in _PASSWORDS}
                write_file(file, json.dumps(chosen).encode())
            try:
                found = json.loads(read_file(file))
                return {name: str(found[name]) for name in _PASSWORDS}
            except (ValueError, KeyError, TypeError):
                raise Unavailable(
                    f"The password file of the embedded server in {self.root} is damaged.",
                    remedy="Restore passwords.json from a backup, or start in another directory.",
                ) from None

    def make_development_key(self) -> None:
        """Choose the development key unless there is one; the caller holds the directory's lock."""
        file = self.root / "development.key"
        with storage_errors(self.root):
            if not file.exists():
                write_file(file, secrets.token_bytes(_KEY_BYTES))

    def development_key(self) -> bytes:
        """32 random bytes, made at the first start; whoever copies the directory has them."""
        try:
            with storage_errors(self.root):
                key = read_file(self.root / "development.key")
        except Unavailable as error:
            raise self._key_damaged() from error
        if len(key) != _KEY_BYTES:
            raise self._key_damaged()
        return key

    def mark_ready(self) -> None:
        """Remember that roles and the first database were made."""
        with storage_errors(self.root):
            write_file(self.ready, b"")

    def _key_damaged(self) -> Unavailable:
        return Unavailable(
            f"The development key in {self.root} is missing or damaged.",
            remedy="Restore development.key from a backup; without it, sealed values cannot be read.",
        )


def _check_contents(directory: Path) -> None:
    """Refuse a directory that holds anything we did not put there, before anything is written into it."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise Invalid(
            f"{directory} is a file; the embedded server needs a directory.",
            field="data_dir",
            remedy="Name a directory with TALLYSTICK_DATA_DIR.",
        ) from None
    if "PG_VERSION" in names:
        raise Invalid(
            f"{directory} is the data directory of a PostgreSQL server that Tallystick did not make.",
            field="data_dir",
            remedy="Name another directory, or start that server yourself and set DATABASE_URL.",
        )
    if not all(any(name == ours or name.startswith(f"{ours}.") for ours in _OURS) for name in names):
        raise Invalid(
            f"{directory} has other files in it and is not an embedded server's directory.",
            field="data_dir",
            remedy="Name an empty directory or one that does not exist yet.",
        )


def _follow(pointer: Path) -> Path:
    target = Path(os.fsdecode(read_file(pointer).strip()))
    if target.parent != SYSTEM_ROOT / "data":
        raise Invalid(
            f"{pointer} does not point into {SYSTEM_ROOT}.",
            field="data_dir",
            remedy="Remove that file to start with a new database.",
        )
    return target


def _make_parents(directory: Path) -> None:
    for parent in reversed(directory.parents):
        if not parent.exists():
            make_directory(parent, 0o755)


def _ignore_in_git(directory: Path) -> None:
    if not (directory / ".gitignore").exists():
        write_file(directory / ".gitignore", b"*\n", mode=0o644)
