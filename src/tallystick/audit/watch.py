"""Watching a directory of checkpoints from another machine: does every log only ever grow?

The sealer can be made to sign whatever the database says, and whoever has both can show two histories to two readers.
What neither can do is make somebody else forget. A watcher remembers the last checkpoint it saw of each log, and takes
the next one only with a proof that it continues that one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tallystick.audit.anchors import Announcement, DirectoryAnchor
from tallystick.audit.checkpoint import Checkpoint, Key, open_checkpoint
from tallystick.audit.merkle import verify_consistency
from tallystick.errors import Invalid, Tampered, Unavailable

__all__ = ["Doubt", "Look", "Watcher"]


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is wrong with a log, in the offline verifier's word and in a sentence."""

    origin: str
    size: int
    kind: str
    detail: str


@dataclass(slots=True)
class Look:
    """What one look found: the checkpoints that are new and continue what was known, and what does not."""

    fresh: list[Checkpoint] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)


class Watcher:
    """Remembers the last checkpoint of each log, in ``memory`` (a file of the watcher's own) from one run to the next.

    ``keys`` are the public keys that are believed; take them from the operator by another way than the directory.
    Raises ``Invalid`` for a memory that is not one.
    """

    def __init__(self, directory: Path, keys: Sequence[Key], memory: Path | None = None) -> None:
        if not directory.is_dir():
            raise Unavailable(
                "There is no such directory of checkpoints.", remedy="Name the one that TALLYSTICK_ANCHOR_DIR names."
            )
        self._anchor = DirectoryAnchor(directory)
        self._keys = keys
        self._memory = memory
        self.seen: dict[str, Checkpoint] = {}
        self._notes: dict[str, str] = {}
        if memory is not None and memory.exists():
            self._recall(memory)

    def look(self) -> Look:
        """Take in what is new. A log in doubt is not followed any further; the others are."""
        found = Look()
        present: dict[str, dict[int, Path]] = {}
        for origin, size, file in self._anchor.all():
            present.setdefault(origin, {})[size] = file
        for origin in sorted(present.keys() | self.seen.keys()):
            files = present.get(origin, {})
            try:
                self._still_there(origin, files)
                last = self.seen[origin].size if origin in self.seen else -1
                for size in sorted(s for s in files if s > last):
                    found.fresh.append(self._follow(origin, size, files[size]))
            except Tampered as problem:
                size = self.seen[origin].size if origin in self.seen else 0
                found.doubts.append(Doubt(origin, size, problem.kind, problem.problem))
            except Invalid as problem:
                found.doubts.append(Doubt(origin, 0, "format", problem.problem))
        if found.fresh and self._memory is not None:
            self._remember(self._memory)
        return found

    def _still_there(self, origin: str, files: dict[int, Path]) -> None:
        known = self.seen.get(origin)
        if known is None:
            return
        if known.size not in files:
            kind = "past" if not files or max(files) < known.size else "missing"
            raise Tampered(f"the checkpoint of {known.size:,} entries, which was seen before, is gone", kind=kind)
        note = self._anchor.read(origin, known.size, files[known.size]).note
        if note != self._notes[origin] and open_checkpoint(note, self._keys, log=origin).root != known.root:
            raise Tampered(f"the checkpoint of {known.size:,} entries is another than was seen before", kind="forked")

    def _follow(self, origin: str, size: int, file: Path) -> Checkpoint:
        announced = self._anchor.read(origin, size, file)
        found = open_checkpoint(announced.note, self._keys, log=origin)
        if found.size != size:
            raise Tampered(f"the file for {size:,} entries holds a checkpoint of {found.size:,}", kind="format")
        self._continues(announced, found)
        self.seen[origin], self._notes[origin] = found, announced.note
        return found

    def _continues(self, announced: Announcement, found: Checkpoint) -> None:
        before = self.seen.get(found.origin)
        if before is None or not before.size:
            if announced.old:
                raise Tampered(
                    f"the checkpoint of {found.size:,} entries continues one of {announced.old:,}, which is not there",
                    kind="missing",
                )
            return
        if announced.old != before.size:
            raise Tampered(
                f"the checkpoint of {found.size:,} entries continues one of {announced.old:,} and not the last one, "
                f"of {before.size:,}",
                kind="missing" if announced.old > before.size else "forked",
            )
        if not verify_consistency(before.size, found.size, before.root, found.root, announced.proof):
            raise Tampered(
                f"the log of {found.size:,} entries does not begin with the {before.size:,} that were signed before",
                kind="forked",
            )

    def _recall(self, memory: Path) -> None:
        try:
            notes = json.loads(memory.read_bytes())["notes"]
            self._notes = {str(origin): str(note) for origin, note in notes.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise Invalid(
                "The file of what was seen before is damaged.",
                field="seen",
                remedy="Bring it back from a backup; without it nobody remembers what was seen.",
            ) from None
        self.seen = {o: open_checkpoint(note, self._keys, log=o) for o, note in self._notes.items()}

    def _remember(self, memory: Path) -> None:
        draft = memory.with_name(f".{memory.name}.draft")
        try:
            with draft.open("w") as file:
                json.dump({"notes": self._notes}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(memory)
        except OSError as problem:
            raise Unavailable(
                f"What was seen could not be written down ({os.strerror(problem.errno or 0)}).",
                remedy="Name a file with --seen in a directory that this account may write.",
            ) from None
