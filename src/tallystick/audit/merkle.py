"""The Merkle tree of a log (RFC 9162, section 2.1): growing it, and proofs from what is stored of it.

Stored are the leaves (level 0), and the roots of complete subtrees 256, 65,536, ... leaves wide (levels 8, 16, ...).
Node ``index`` of level ``l`` stands over the leaves ``index << l`` to ``(index + 1) << l``, the end left out. A proof
then reads at most 256 hashes of each of those levels, whatever the size of the tree.

Hashing and checking are imported from the offline verifier: what makes proofs is judged by the code that auditors run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from tallystick.audit.verifier import leaf_hash, node_hash, root_of, verify_consistency, verify_inclusion
from tallystick.errors import Invalid, Tampered

__all__ = [
    "EMPTY",
    "STEP",
    "AsyncReader",
    "Node",
    "Reader",
    "StoredTree",
    "Tree",
    "gather",
    "leaf_hash",
    "node_hash",
    "root_of",
    "verify_consistency",
    "verify_inclusion",
]

T = TypeVar("T")
Reader = Callable[[int, int, int], Sequence[bytes]]
AsyncReader = Callable[[int, int, int], Awaitable[Sequence[bytes]]]

STEP: Final = 8
"""Every eighth level of the tree is stored."""

EMPTY: Final = root_of([])
"""The root of a tree without leaves: the hash of nothing."""

_WIDE: Final = 1 << STEP


class Node(NamedTuple):
    """The root of a complete subtree that is stored: ``level`` is 8, 16, 24, ..."""

    level: int
    position: int
    hash: bytes


class Tree:
    """A tree that grows at its end; it holds only what later leaves still need, at most 255 hashes a stored level.

    A sealer reads it with ``load``, appends a batch with ``extend``, stores the nodes that became complete, and signs
    ``root()``. ``rows`` are the hashes of levels 0, 8, 16, ... that no complete node of the next stored level covers.
    """

    __slots__ = ("rows", "size")

    def __init__(self, size: int = 0, rows: Iterable[Iterable[bytes]] = ()) -> None:
        self.size = size
        self.rows = [list(row) for row in rows] or [[]]

    @classmethod
    def load(cls, size: int, read: Reader) -> Tree:
        """The tree of the first ``size`` stored leaves. Raises ``Tampered`` when hashes of it are missing."""
        return cls(size, [_read(read, *span) for span in cls.edge(size)])

    @staticmethod
    def edge(size: int) -> list[tuple[int, int, int]]:
        """Which stored hashes a tree of ``size`` leaves grows from: (level, start, stop), a row each."""
        return [
            (level, size >> level + STEP << STEP, size >> level) for level in range(0, max(1, size.bit_length()), STEP)
        ]

    def append(self, leaf: bytes) -> list[Node]:
        """Append one leaf hash; answers the nodes that it completes, lowest first."""
        if len(leaf) != 32:
            raise Invalid(f"A hash of the tree has 32 bytes, not {len(leaf)}.", field="leaf")
        self.size += 1
        self.rows[0].append(leaf)
        done: list[Node] = []
        while len(self.rows[len(done)]) == _WIDE:
            height = len(done)
            level = STEP * (height + 1)
            done.append(Node(level, (self.size >> level) - 1, root_of(self.rows[height])))
            self.rows[height] = []
            if len(self.rows) == height + 1:
                self.rows.append([])
            self.rows[height + 1].append(done[-1].hash)
        return done

    def extend(self, leaves: Iterable[bytes]) -> list[Node]:
        """Append leaf hashes in order; answers the nodes that became complete, in the order they did."""
        return [node for leaf in leaves for node in self.append(leaf)]

    def root(self) -> bytes:
        """The root over all leaves so far; ``EMPTY`` when there are none."""
        below: list[bytes] = []
        for row in self.rows:
            if row or below:
                below = [root_of(row + below)]
        return root_of(below)


class StoredTree:
    """Proofs in a stored tree of ``size`` leaves, of which ``read(level, start, stop)`` answers the hashes.

    Only levels 0, 8, 16, ... are read, a subtree of 256 at a time, and each at most once: keep one object for
    many proofs. A smaller size than what is stored is the tree as it was then. Raises ``Tampered`` when the reader
    has not what the size says there is.
    """

    __slots__ = ("_read", "_tiles", "size")

    def __init__(self, size: int, read: Reader) -> None:
        if size < 0:
            raise Invalid("A tree has no negative number of leaves.", field="size")
        self.size = size
        self._read = read
        self._tiles: dict[tuple[int, int], list[list[bytes]]] = {}

    def root(self) -> bytes:
        """The root of the tree."""
        return self._over(0, self.size) if self.size else EMPTY

    def inclusion(self, index: int) -> list[bytes]:
        """The proof that leaf ``index`` is in the tree, from its sibling upwards. Raises ``Invalid``."""
        if not 0 <= index < self.size:
            raise Invalid(f"The tree of {self.size} leaves has no leaf {index}.", field="index")
        return [
            self._node(level, (index >> level) ^ 1)
            for level in range((self.size - 1).bit_length())
            if ((index >> level) ^ 1) << level < self.size
        ]

    def consistency(self, size: int) -> list[bytes]:
        """The proof that the tree of the first ``size`` leaves is the beginning of this one. Raises ``Invalid``.

        From an empty tree nothing can be proven, so ``size`` is at least 1.
        """
        if not 0 < size <= self.size:
            raise Invalid(f"A tree of {self.size} leaves proves nothing of one of {size}.", field="size")
        low, high, proof = 0, self.size, []
        while size != high:
            middle = low + (1 << (high - low - 1).bit_length() - 1)
            if size <= middle:
                proof.append(self._over(middle, high))
                high = middle
            else:
                proof.append(self._over(low, middle))
                low = middle
        return [*([self._over(low, high)] if low else []), *reversed(proof)]

    def _over(self, low: int, high: int) -> bytes:
        level = (high - low - 1).bit_length()
        return self._node(level, low >> level)

    def _node(self, level: int, index: int) -> bytes:
        stored, up = divmod(level, STEP)
        if not up and stored and (index + 1) << level > self.size:
            stored, up = stored - 1, STEP
        tile = self._tile(stored, index >> STEP - up)
        return tile[up][index & (1 << STEP - up) - 1]

    def _tile(self, stored: int, index: int) -> list[list[bytes]]:
        """Nine levels over 256 hashes of a stored level; at the right edge the last one of each may be incomplete."""
        if (tile := self._tiles.get((stored, index))) is None:
            level, start = STEP * stored, index << STEP
            row = _read(self._read, level, start, min(start + _WIDE, self.size >> level))
            if len(row) < _WIDE and self.size & (1 << level) - 1:
                row.append(self._tile(stored - 1, self.size >> level)[STEP][0])
            tile = [row]
            for _ in range(STEP):
                odd = row[-1:] if len(row) % 2 else []
                row = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=False)] + odd
                tile.append(row)
            self._tiles[stored, index] = tile
        return tile


async def gather(make: Callable[[Reader], T], read: AsyncReader) -> T:
    """Answer ``make(reader)`` where hashes are awaited: ``gather(lambda r: StoredTree(n, r).inclusion(i), read)``.

    What is read depends on positions alone, never on hashes. So ``make`` runs twice: once to see what it reads, and
    once with that.
    """
    wanted: dict[tuple[int, int, int], Sequence[bytes]] = {}

    def note(level: int, start: int, stop: int) -> Sequence[bytes]:
        wanted[level, start, stop] = ()
        return [bytes(32)] * (stop - start)

    make(note)
    for span in wanted:
        wanted[span] = await read(*span)
    return make(lambda level, start, stop: wanted[level, start, stop])


def _read(read: Reader, level: int, start: int, stop: int) -> list[bytes]:
    if start >= stop:
        return []
    row = list(read(level, start, stop))
    if len(row) != stop - start or any(len(item) != 32 for item in row):
        raise Tampered(
            f"The stored hashes {start} to {stop - 1} of level {level} of a log are not all there.",
            remedy="The log was cut or restored from a backup; compare its last checkpoint with one kept outside.",
        )
    return row
