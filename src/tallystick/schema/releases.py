"""Which schema each release came with, and on which of them this code runs: its own and that of the release before.

A release adds its line here when it is made; the tests then run the library's core on the schema of the line before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tallystick
from tallystick.schema.branches import History
from tallystick.schema.migrations import VERSIONS


@dataclass(frozen=True, slots=True)
class Release:
    """A release: its version, and the newest revision of each branch that it came with."""

    version: str
    heads: Mapping[str, str]


RELEASES: tuple[Release, ...] = ()
"""Every release, oldest first. None was made yet."""


def previous(releases: Sequence[Release] | None = None, version: str | None = None) -> Release | None:
    """The release before a version (this code's own), or None before the second."""
    earlier = [
        r for r in (RELEASES if releases is None else releases) if r.version != (version or tallystick.__version__)
    ]
    return earlier[-1] if earlier else None


def behind(history: History, applied: frozenset[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The branches whose newest revision is missing."""
    return tuple(b for b in wanted if set(history.heads(b)) - applied)


def runs_on(release: Release | None, applied: frozenset[str], history: History, branches: Sequence[str]) -> bool:
    """Whether branches that are behind are at least where a release had them.

    A branch of the library's that the release did not have is new. The application's own are not the release's affair:
    they are as the application's code needs them, or behind.
    """
    if release is None:
        return False
    own = {r.branch for r in history.revisions.values() if r.path.parent.parent != VERSIONS}
    return all(b not in own and (b not in release.heads or release.heads[b] in applied) for b in branches)
