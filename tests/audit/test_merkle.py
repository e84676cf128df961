"""The tree against a naive one, for every size to 260 and every leaf; and proofs whose bytes are flipped."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import pytest

from tallystick.audit.merkle import (
    EMPTY,
    StoredTree,
    Tree,
    gather,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from tallystick.errors import Invalid, Tampered

LEAVES = [leaf_hash(sha256(b"%d" % n).digest(), b"entry %d" % n) for n in range(70_000)]
LARGEST = 260


@cache
def naive(start: int, stop: int) -> bytes:
    """The root over leaves, as RFC 9162 section 2.1.1 words it."""
    if stop - start == 1:
        return LEAVES[start]
    middle = _split(start, stop)
    return sha256(b"\x01" + naive(start, middle) + naive(middle, stop)).digest()


def naive_inclusion(index: int, start: int, stop: int) -> list[bytes]:
    """Section 2.1.3.1."""
    if stop - start == 1:
        return []
    middle = _split(start, stop)
    if index < middle:
        return [*naive_inclusion(index, start, middle), naive(middle, stop)]
    return [*naive_inclusion(index, middle, stop), naive(start, middle)]


def naive_consistency(size: int, start: int, stop: int, whole: bool = True) -> list[bytes]:
    """Section 2.1.4.1."""
    if size == stop:
        return [] if whole else [naive(start, stop)]
    middle = _split(start, stop)
    if size <= middle:
        return [*naive_consistency(size, start, middle, whole), naive(middle, stop)]
    return [*naive_consistency(size, middle, stop, False), naive(start, middle)]


def _split(start: int, stop: int) -> int:
    width = 1
    while width * 2 < stop - start:
        width *= 2
    return start + width


class Stored:
    """What a log stores, and how much of it is read."""

    def __init__(self, count: int) -> None:
        self.hashes: dict[int, list[bytes]] = {0: LEAVES[:count]}
        self.spans: list[tuple[int, int, int]] = []
        self.tree = Tree()
        for node in self.tree.extend(LEAVES[:count]):
            assert node.position == len(self.hashes.setdefault(node.level, []))
            self.hashes[node.level].append(node.hash)

    def read(self, level: int, start: int, stop: int) -> list[bytes]:
        self.spans.append((level, start, stop))
        return self.hashes[level][start:stop]


def flips(parts: Sequence[bytes]) -> list[list[bytes]]:
    return [
        [*parts[:place], part[:byte] + bytes([part[byte] ^ 1 << byte % 8]) + part[byte + 1 :], *parts[place + 1 :]]
        for place, part in enumerate(parts)
        for byte in range(32)
    ]


def test_roots_of_every_size() -> None:
    tree = Tree()
    assert tree.root() == root_of([]) == EMPTY == sha256(b"").digest()
    for size in range(1, LARGEST + 1):
        tree.append(LEAVES[size - 1])
        assert tree.root() == root_of(LEAVES[:size]) == naive(0, size)


def test_inclusion_of_every_leaf_in_every_size() -> None:
    stored = Stored(LARGEST)
    for size in range(1, LARGEST + 1):
        tree, root = StoredTree(size, stored.read), naive(0, size)
        assert tree.root() == root
        for index in range(size):
            proof = tree.inclusion(index)
            assert proof == naive_inclusion(index, 0, size)
            assert verify_inclusion(LEAVES[index], index, size, proof, root)


def test_consistency_of_every_pair_of_sizes() -> None:
    stored = Stored(LARGEST)
    for size in range(1, LARGEST + 1):
        tree, root = StoredTree(size, stored.read), naive(0, size)
        for before in range(1, size + 1):
            proof = tree.consistency(before)
            assert proof == naive_consistency(before, 0, size)
            assert verify_consistency(before, size, naive(0, before), root, proof)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 65_792, 65_793, 69_999])
def test_large_trees(size: int) -> None:
    stored = Stored(size)
    root = naive(0, size)
    assert stored.tree.root() == StoredTree(size, stored.read).root() == root
    chosen = random.Random(size)
    for index in (0, size - 1, *(chosen.randrange(size) for _ in range(40))):
        stored.spans.clear()
        proof = StoredTree(size, stored.read).inclusion(index)
        assert proof == naive_inclusion(index, 0, size)
        assert verify_inclusion(LEAVES[index], index, size, proof, root)
        assert all(level % 8 == 0 and stop - start <= 256 for level, start, stop in stored.spans)
        assert len(stored.spans) <= 2 * 3
    for before in (1, 256, 257, 65_535, *(chosen.randrange(1, size) for _ in range(40))):
        proof = StoredTree(size, stored.read).consistency(before)
        assert proof == naive_consistency(before, 0, size)
        assert verify_consistency(before, size, naive(0, before), root, proof)


def test_every_flipped_byte_is_refused() -> None:
    stored = Stored(LARGEST)
    chosen = random.Random(1)
    sizes = [*range(1, 41), *(chosen.randrange(41, LARGEST) for _ in range(10))]
    for size in sizes:
        tree, root = StoredTree(size, stored.read), naive(0, size)
        for index in range(size) if size <= 40 else [chosen.randrange(size)]:
            proof = tree.inclusion(index)
            assert not any(verify_inclusion(LEAVES[index], index, size, other, root) for other in flips(proof))
        for before in range(1, size) if size <= 40 else [chosen.randrange(1, size)]:
            proof, old = tree.consistency(before), naive(0, before)
            assert not any(verify_consistency(before, size, old, root, other) for other in flips(proof))


def test_proofs_of_another_place_or_shape_are_refused() -> None:
    stored = Stored(40)
    for size in range(2, 41):
        tree, root = StoredTree(size, stored.read), naive(0, size)
        for index in range(size):
            proof = tree.inclusion(index)
            assert not verify_inclusion(LEAVES[index], index, size, proof[:-1], root)
            assert not verify_inclusion(LEAVES[index], index, size, [*proof, root], root)
            assert not verify_inclusion(LEAVES[index], (index + 1) % size, size, proof, root)
            assert not verify_inclusion(LEAVES[index], size, size, proof, root)
            assert not verify_inclusion(LEAVES[index], -1, size, proof, root)
            assert not verify_inclusion(LEAVES[index][:-1], index, size, proof, root)
        for before in range(1, size):
            proof, old = tree.consistency(before), naive(0, before)
            assert not verify_consistency(before, size, old, root, proof[:-1])
            assert not verify_consistency(before, size, old, root, [*proof, root])
            assert not verify_consistency(before, size, root, old, proof)
            assert not verify_consistency(size, before, root, old, proof)
    assert not verify_consistency(0, 0, EMPTY, EMPTY, [])
    assert not verify_consistency(0, 3, EMPTY, naive(0, 3), [])
    assert not verify_inclusion(EMPTY, 0, 0, [], EMPTY)


def test_a_tree_is_resumed_anywhere() -> None:
    stored = Stored(70_000)
    for size in (0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 66_000):
        stored.spans.clear()
        resumed = Tree.load(size, stored.read)
        assert stored.spans == [span for span in Tree.edge(size) if span[1] < span[2]]
        assert resumed.root() == (naive(0, size) if size else EMPTY)
        assert all(len(row) <= 255 for row in resumed.rows)
        for node in resumed.extend(LEAVES[size : size + 700]):
            assert stored.hashes[node.level][node.position] == node.hash
        assert resumed.root() == naive(0, size + 700)


async def test_hashes_may_be_awaited() -> None:
    stored = Stored(1000)

    async def read(level: int, start: int, stop: int) -> list[bytes]:
        return stored.read(level, start, stop)

    assert await gather(lambda r: StoredTree(1000, r).inclusion(700), read) == naive_inclusion(700, 0, 1000)
    assert await gather(lambda r: StoredTree(1000, r).consistency(300), read) == naive_consistency(300, 0, 1000)
    assert await gather(lambda r: Tree.load(1000, r).root(), read) == naive(0, 1000)


def test_what_is_wrong_is_named() -> None:
    stored = Stored(300)
    tree = StoredTree(300, stored.read)
    for call in (
        lambda: tree.inclusion(300),
        lambda: tree.inclusion(-1),
        lambda: tree.consistency(0),
        lambda: tree.consistency(301),
        lambda: StoredTree(-1, stored.read),
        lambda: Tree().append(b"short"),
    ):
        with pytest.raises(Invalid):
            call()
    with pytest.raises(Tampered, match="not all there"):
        StoredTree(400, stored.read).inclusion(7)
    with pytest.raises(Tampered, match="not all there"):
        Tree.load(400, stored.read)
    stored.hashes[0][290] = b"short"
    with pytest.raises(Tampered, match="not all there"):
        StoredTree(300, stored.read).root()


def test_leaves_and_nodes_are_different_hashes() -> None:
    left, right = LEAVES[:2]
    assert node_hash(left, right) == sha256(b"\x01" + left + right).digest() == root_of([left, right])
    assert leaf_hash(left, right) == sha256(b"\x00" + left + right).digest() != node_hash(left, right)
