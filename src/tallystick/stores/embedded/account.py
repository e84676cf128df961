"""The operating-system account that the server runs as: ours, or an unprivileged one when we are root."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.errors import Unavailable

_CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An account to run PostgreSQL's programs as; PostgreSQL refuses to run as root."""

    uid: int
    gid: int

    @classmethod
    def current(cls, owner_of: Path | None = None) -> Account:
        """The account of this process; under root the owner of ``owner_of`` if it exists, else an existing account.

        No account is ever made. Raises ``Unavailable`` when there is none to use.
        """
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        if owner_of is not None and owner_of.exists():
            owner = owner_of.stat()
            if owner.st_uid != 0:
                return cls(owner.st_uid, owner.st_gid)
        for name in _CANDIDATES:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            if entry.pw_uid != 0:
                return cls(entry.pw_uid, entry.pw_gid)
        raise Unavailable(
            "PostgreSQL does not run as root, and there is no unprivileged account to run it as.",
            remedy="Add one with `useradd --system postgres`, or run as an ordinary user.",
        )

    @property
    def foreign(self) -> bool:
        """True when the server runs as somebody else than this process."""
        return self.uid != os.geteuid()

    @property
    def ids(self) -> tuple[int, int]:
        """User and group id, as ``os.chown`` takes them."""
        return (self.uid, self.gid)

    def process_arguments(self) -> dict[str, Any]:
        """Arguments of ``subprocess`` that run a program as this account, cut off from our terminal."""
        arguments: dict[str, Any] = {"start_new_session": True, "close_fds": True}
        if self.foreign:
            arguments |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return arguments

    def can_reach(self, directory: Path) -> bool:
        """True when this account may pass through every directory down to the nearest one that exists."""
        return all(self._may_pass(place) for place in (directory, *directory.parents) if place.exists())

    def _may_pass(self, place: Path) -> bool:
        found = place.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)
