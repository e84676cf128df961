"""A watcher with a directory of checkpoints, and what a sealer or a thief could do to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick import Invalid, Unavailable
from tallystick.audit.anchors import Announcement, DirectoryAnchor
from tallystick.audit.checkpoint import Signer, write
from tallystick.audit.merkle import StoredTree, Tree
from tallystick.audit.watch import Watcher

INSTALLATION = UUID(int=1)
LOG = f"tallystick/{INSTALLATION}/{UUID(int=2)}"
SIGNER = Signer(f"tallystick/{INSTALLATION}", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = Signer(f"tallystick/{INSTALLATION}", Ed25519PrivateKey.from_private_bytes(bytes(32)))


def grown(*sizes: int, seed: int = 0, log: str = LOG, signer: Signer = SIGNER) -> list[Announcement]:
    """Checkpoints of a log that grows, each with its proof."""
    leaves = [bytes([seed, n]) * 16 for n in range(max(sizes))]
    made: list[Announcement] = []
    for size in sizes:
        tree = Tree()
        tree.extend(leaves[:size])
        stored = StoredTree(size, lambda level, start, stop: leaves[start:stop] if not level else [])
        proof = tuple(stored.consistency(made[-1].size)) if made else ()
        note = signer.sign(write(log, size, tree.root(), "0" * 64))
        made.append(Announcement(log, size, note, made[-1].size if made else 0, proof))
    return made


async def keep(directory: Path, *announcements: Announcement) -> None:
    for one in announcements:
        await DirectoryAnchor(directory).publish(one)


def file_of(directory: Path, size: int) -> Path:
    (found,) = directory.rglob(f"{size:012d}.checkpoint")
    return found


def watcher(directory: Path, memory: Path | None = None) -> Watcher:
    return Watcher(directory, [SIGNER.key], memory)


async def test_a_log_that_grows_is_followed(tmp_path: Path) -> None:
    one, two, three = grown(3, 8, 200)
    await keep(tmp_path, one)
    found = watcher(tmp_path)
    assert [c.size for c in found.look().fresh] == [3]
    assert found.look().fresh == []
    await keep(tmp_path, two, three)
    look = found.look()
    assert ([c.size for c in look.fresh], look.doubts) == ([8, 200], [])
    # Who comes later finds the same.
    assert [c.size for c in watcher(tmp_path).look().fresh] == [3, 8, 200]


async def test_what_was_seen_is_remembered(tmp_path: Path) -> None:
    directory, memory = tmp_path / "anchors", tmp_path / "seen.json"
    one, two = grown(3, 8)
    await keep(directory, one)
    assert watcher(directory, memory).look().fresh
    await keep(directory, two)
    assert [c.size for c in watcher(directory, memory).look().fresh] == [8]
    assert watcher(directory, memory).look().fresh == []


async def test_a_directory_that_was_rolled_back_is_noticed(tmp_path: Path) -> None:
    directory, memory = tmp_path / "anchors", tmp_path / "seen.json"
    await keep(directory, *grown(3, 8))
    watcher(directory, memory).look()
    file_of(directory, 8).unlink()
    (doubt,) = watcher(directory, memory).look().doubts
    assert (doubt.kind, doubt.origin) == ("past", LOG)
    shutil.rmtree(directory / str(INSTALLATION))
    (doubt,) = watcher(directory, memory).look().doubts
    assert doubt.kind == "past"


async def test_another_history_is_noticed(tmp_path: Path) -> None:
    directory, memory = tmp_path / "anchors", tmp_path / "seen.json"
    await keep(directory, *grown(3, 8))
    watcher(directory, memory).look()
    shutil.rmtree(directory)
    await keep(directory, *grown(3, 8, 9, seed=1))
    (doubt,) = watcher(directory, memory).look().doubts
    assert doubt.kind == "forked"
    assert "another than was seen" in doubt.detail


async def test_a_fork_behind_what_was_seen_is_noticed(tmp_path: Path) -> None:
    one, two = grown(3, 8)
    await keep(tmp_path, one)
    found = watcher(tmp_path)
    found.look()
    *_, forged = grown(3, 8, seed=1)
    await keep(tmp_path, Announcement(LOG, 8, forged.note, 3, forged.proof))
    (doubt,) = found.look().doubts
    assert (doubt.kind, doubt.size) == ("forked", 3)
    assert two.note != forged.note


@pytest.mark.parametrize(("old", "kind"), [(0, "forked"), (2, "forked"), (5, "missing")])
async def test_a_checkpoint_continues_the_last_one_and_no_other(tmp_path: Path, old: int, kind: str) -> None:
    one, two = grown(3, 8)
    await keep(tmp_path, one, Announcement(LOG, 8, two.note, old, two.proof))
    (doubt,) = watcher(tmp_path).look().doubts
    assert doubt.kind == kind


async def test_a_log_that_begins_in_the_middle_is_noticed(tmp_path: Path) -> None:
    await keep(tmp_path, grown(3, 8)[1])
    (doubt,) = watcher(tmp_path).look().doubts
    assert doubt.kind == "missing"


async def test_wrong_signatures_names_and_texts_are_told_apart(tmp_path: Path) -> None:
    cases = {
        "wrong-key": grown(3, signer=OTHER)[0].note,
        "other-log": grown(3, log=f"tallystick/{INSTALLATION}/{UUID(int=3)}")[0].note,
        "signature": grown(3)[0].note.replace("state 0", "state 1"),
        "format": "nothing\n",
    }
    for kind, note in cases.items():
        directory = tmp_path / kind
        await keep(directory, Announcement(LOG, 3, note))
        (doubt,) = watcher(directory).look().doubts
        assert doubt.kind == kind
    await keep(tmp_path / "size", Announcement(LOG, 4, grown(3)[0].note))
    (doubt,) = watcher(tmp_path / "size").look().doubts
    assert "holds a checkpoint of 3" in doubt.detail


async def test_one_log_in_doubt_does_not_hide_the_others(tmp_path: Path) -> None:
    other = f"tallystick/{INSTALLATION}/{UUID(int=9)}"
    await keep(tmp_path, *grown(3, 8, log=other), Announcement(LOG, 3, "nothing\n"))
    look = watcher(tmp_path).look()
    assert [c.size for c in look.fresh] == [3, 8]
    assert [d.origin for d in look.doubts] == [LOG]


def test_what_cannot_be_watched_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no such directory"):
        watcher(tmp_path / "nowhere")
    memory = tmp_path / "seen"
    memory.write_text("{}")
    with pytest.raises(Invalid, match="damaged"):
        watcher(tmp_path, memory)
