"""A10: nothing but a leaf passes for a leaf, nothing but a node for a node, and no proof starts from nothing."""

from __future__ import annotations

import hashlib

import pytest
from tests.audit.forger import BODY, LEAF, PROOF, SALT, Lines, bundle_of, entries, entry, forge, verify

from tallystick.audit.merkle import (
    EMPTY,
    StoredTree,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from tallystick.testing.bundles import SyntheticLog

LOG = SyntheticLog(8)
LEAVES = LOG.stored[0]
ROOT = root_of(LEAVES)


def test_a10_a_node_does_not_pass_for_a_leaf() -> None:
    """The second preimage of trees without prefixes: the two children of a node, offered as the text of one leaf."""
    left, right = node_hash(*LEAVES[0:2]), node_hash(*LEAVES[2:4])
    above = node_hash(left, right)
    assert leaf_hash(left, right) != above
    assert leaf_hash(b"", left + right) != above
    # With the node itself in the place of a leaf, the tree would have four leaves.
    assert verify_inclusion(left, 0, 4, [right, node_hash(node_hash(*LEAVES[4:6]), node_hash(*LEAVES[6:8]))], ROOT)
    assert not verify_inclusion(left, 0, 8, StoredTree(8, LOG.read).inclusion(0)[1:], ROOT)
    assert not any(verify_inclusion(left, index, 8, [right, ROOT], ROOT) for index in range(8))


def test_a10_in_a_bundle_the_size_is_signed() -> None:
    """Whoever offers nodes as leaves of a smaller tree has no checkpoint of that size."""

    def change(lines: Lines) -> Lines:
        lines[0][0] = lines[0][0].replace(b'"size":8,"complete":[0,8]', b'"size":4,"complete":[0,4]')
        kept = [line for line in lines if line[0] != b"E"]
        for index in range(4):
            line = entry(lines, index)
            line[LEAF] = node_hash(*LEAVES[2 * index : 2 * index + 2]).hex().encode()
            line[SALT], line[BODY] = LEAVES[2 * index].hex().encode(), LEAVES[2 * index + 1].replace(b"\n", b"x")
            kept.append(line)
        return kept

    assert verify(forge(bundle_of(LOG), change), LOG).verdict == "other-log"


def test_a10_children_of_a_node_as_salt_and_body() -> None:
    def change(lines: Lines) -> None:
        line = entries(lines)[2]
        line[SALT], line[BODY] = LEAVES[2].hex().encode(), LEAVES[3].replace(b"\n", b"x").replace(b"\t", b"x")
        line[LEAF] = node_hash(LEAVES[2], LEAVES[3]).hex().encode()
        line[PROOF] = b",".join(line[PROOF].split(b",")[1:])

    assert verify(forge(bundle_of(LOG, complete=(0, 4)), change), LOG).verdict == "proof"
    assert verify(forge(bundle_of(LOG), change), LOG).verdict == "body"


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a10_hashes_of_another_length_are_refused(length: int) -> None:
    short = hashlib.sha512(b"x").digest()[:length]
    # The path of a single leaf is empty, so that the leaf would be the root, whatever it is.
    assert not verify_inclusion(short, 0, 1, [], short)
    assert not verify_inclusion(LEAVES[0], 0, 2, [short], node_hash(LEAVES[0], short))
    # 0x01 || left || right is the same text however it is cut in two.
    proof = StoredTree(8, LOG.read).inclusion(5)
    moved = [proof[0][:-1], proof[0][-1:] + proof[1], *proof[2:]]
    assert not verify_inclusion(LEAVES[5], 5, 8, moved, ROOT)
    assert not verify_consistency(1, 2, short, node_hash(short, LEAVES[1]), [LEAVES[1][:-1]])
    assert not verify_consistency(2, 3, ROOT, node_hash(ROOT, short), [short])


def test_a10_nothing_follows_from_an_empty_tree() -> None:
    assert not verify_consistency(0, 8, EMPTY, ROOT, [])
    assert not verify_consistency(0, 0, EMPTY, EMPTY, [])
    assert not verify_inclusion(EMPTY, 0, 0, [], EMPTY)
