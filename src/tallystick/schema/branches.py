"""Which revisions exist, read without running them: branches, heads, and what a database at some revision holds.

An application asks at start-up whether its database is migrated. Answering must not cost the import of a migration
tool, so the four assignments that place a revision are read from its text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tallystick.errors import Invalid
from tallystick.schema.migrations import VERSIONS

KIT = "kit"
_PLACE = re.compile(r"^(revision|down_revision|branch_labels|depends_on)\s*(?::[^=]+)?=\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Revision:
    """Where one revision stands."""

    id: str
    branch: str
    parents: tuple[str, ...]
    depends_on: tuple[str, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class History:
    """All revisions of the library and of the application, by id."""

    revisions: Mapping[str, Revision]
    branches: tuple[str, ...]

    def heads(self, branch: str) -> tuple[str, ...]:
        """The newest revisions of a branch; one, unless somebody forked it."""
        mine = [r for r in self.revisions.values() if r.branch == branch]
        parents = {p for r in mine for p in r.parents}
        return tuple(sorted(r.id for r in mine if r.id not in parents))

    def implied(self, rows: Iterable[str]) -> frozenset[str]:
        """Everything applied when the version table holds these rows; rows this code does not know are left out."""
        found: set[str] = set()
        todo = [r for r in rows if r in self.revisions]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                revision = self.revisions[name]
                todo += [*revision.parents, *revision.depends_on]
        return frozenset(found)

    def order(self, branch: str) -> tuple[str, ...]:
        """The revisions of a branch, oldest first."""
        mine = {r.id: r for r in self.revisions.values() if r.branch == branch}
        found: list[str] = []
        while len(found) < len(mine):
            ready = sorted(
                i for i, r in mine.items() if i not in found and not set(r.parents) & (set(mine) - set(found))
            )
            if not ready:
                raise Invalid(f"The revisions of {branch} go round in a circle.", remedy="Mend their down_revision.")
            found += ready
        return tuple(found)


def locations(version_locations: Sequence[str | Path] = ()) -> tuple[Path, ...]:
    """Every folder with revisions: one a branch of the library, then the application's."""
    ours = sorted(p for p in VERSIONS.iterdir() if p.is_dir() and p.name != "__pycache__")
    theirs = [Path(p).resolve() for p in version_locations]
    for path in theirs:
        if not path.is_dir():
            raise Invalid(
                "A folder of version_locations does not exist.",
                field="version_locations",
                remedy="Make it, or write its first revision with `tallystick revision`.",
            )
    return (*ours, *theirs)


def history(version_locations: Sequence[str | Path] = ()) -> History:
    """Read the places of all revisions."""
    files = [f for folder in locations(version_locations) for f in sorted(folder.glob("*.py"))]
    return _history(tuple((f, f.stat().st_mtime_ns) for f in files if f.name != "__init__.py"))


@lru_cache(maxsize=16)
def _history(files: tuple[tuple[Path, int], ...]) -> History:
    places = [(f, _place(f)) for f, _ in files]
    found: dict[str, Revision] = {}
    todo = [(f, p) for f, p in places if p.get("revision")]
    labels: dict[str, str] = {}
    while todo:
        rest = []
        for file, place in todo:
            name, parents = place["revision"][0], place.get("down_revision", ())
            label = next(iter(place.get("branch_labels", ())), None) or next(
                (labels[p] for p in parents if p in labels), None
            )
            if label is None and parents:
                rest.append((file, place))
                continue
            labels[name] = label or file.parent.name
            found[name] = Revision(name, labels[name], parents, place.get("depends_on", ()), file)
        if len(rest) == len(todo):
            raise Invalid(
                f"The revision in {rest[0][0].name} follows one that is in no version location.",
                field="version_locations",
                remedy="Name the folder of the earlier revision too.",
            )
        todo = rest
    return History(found, tuple(dict.fromkeys(sorted(labels.values(), key=lambda b: (b != KIT, b)))))


def _place(file: Path) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, value in _PLACE.findall(file.read_text(encoding="utf-8")):
        literal = ast.literal_eval(value)
        found.setdefault(key, (literal,) if isinstance(literal, str) else tuple(literal or ()))
    return found


def chosen(history: History, domains: Iterable[str], version_locations: Sequence[str | Path] = ()) -> tuple[str, ...]:
    """The branches to install: the kit, the domains asked for, and every branch of the application's own folders."""
    own = {Path(p).resolve() for p in version_locations}
    wanted = [KIT, *domains]
    unknown = [d for d in wanted if d not in history.branches]
    if unknown:
        raise Invalid(
            f"There is no domain {unknown[0]!r}.",
            field="domains",
            remedy=f"Domains are: {', '.join(b for b in history.branches if b != KIT)}.",
        )
    wanted += sorted({r.branch for r in history.revisions.values() if r.path.parent in own})
    return tuple(dict.fromkeys(wanted))
