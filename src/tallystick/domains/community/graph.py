"""The shape of a trust network: how large it is, how far it hangs together, how much of it is mutual."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec


class TrustGraph(msgspec.Struct, frozen=True, kw_only=True):
    """What a trust network is made of.

    ``strong`` and ``weak`` count components: sets of members who all reach each other along edges, or along edges taken
    either way. ``largest`` is the members of the largest strong one. ``mutual`` counts edges that have one back.
    ``most_edges`` is the most edges, in and out, of one member.
    """

    members: int
    edges: int
    positive: int
    mutual: int
    strong: int
    weak: int
    largest: int
    most_edges: int

    @property
    def positive_share(self) -> Decimal | None:
        """The share of edges with a weight above zero, six decimals; None without edges."""
        return self._share(self.positive)

    @property
    def reciprocity(self) -> Decimal | None:
        """The share of edges that have one back, six decimals; None without edges."""
        return self._share(self.mutual)

    def _share(self, count: int) -> Decimal | None:
        if not self.edges:
            return None
        return (Decimal(count) / self.edges).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)


def shape_of(edges: Iterable[Sequence[Any]], nodes: Iterable[Hashable] = ()) -> TrustGraph:
    """The shape of a network of edges (from, to, weight); ``nodes`` adds members without edges."""
    place: dict[Hashable, int] = {node: at for at, node in enumerate(dict.fromkeys(nodes))}
    pairs: list[tuple[int, int]] = []
    positive = 0
    for source, target, weight in edges:
        pairs.append((place.setdefault(source, len(place)), place.setdefault(target, len(place))))
        positive += weight > 0
    size = len(place)
    following: list[list[int]] = [[] for _ in range(size)]
    degree = [0] * size
    root = list(range(size))
    for source, target in pairs:
        following[source].append(target)
        degree[source] += 1
        degree[target] += 1
        root[_root(root, source)] = _root(root, target)
    strong = strong_components(following)
    known = set(pairs)
    return TrustGraph(
        members=size,
        edges=len(pairs),
        positive=positive,
        mutual=sum((target, source) in known for source, target in pairs),
        strong=len(strong),
        weak=sum(_root(root, at) == at for at in range(size)),
        largest=max(strong, default=0),
        most_edges=max(degree, default=0),
    )


def strong_components(following: Sequence[Sequence[int]]) -> list[int]:
    """The sizes of the strongly connected components of a graph of numbered nodes.

    R. Tarjan, "Depth-first search and linear graph algorithms" (SIAM J. Computing 1, 1972), with a stack of its own
    where the paper recurses: a path may be longer than Python's.
    """
    size = len(following)
    seen = [0] * size
    low = [0] * size
    open_: list[int] = []
    is_open = [False] * size
    found: list[int] = []
    count = 0
    for start in range(size):
        if seen[start]:
            continue
        todo = [(start, 0)]
        while todo:
            node, at = todo.pop()
            if not at:
                count += 1
                seen[node] = low[node] = count
                open_.append(node)
                is_open[node] = True
            elif is_open[following[node][at - 1]]:
                low[node] = min(low[node], low[following[node][at - 1]])
            while at < len(following[node]):
                target = following[node][at]
                at += 1
                if not seen[target]:
                    todo.append((node, at))
                    todo.append((target, 0))
                    break
                if is_open[target]:
                    low[node] = min(low[node], seen[target])
            else:
                if low[node] == seen[node]:
                    before = len(open_)
                    while True:
                        done = open_.pop()
                        is_open[done] = False
                        if done == node:
                            break
                    found.append(before - len(open_))
    return found


def _root(root: list[int], at: int) -> int:
    while root[at] != at:
        root[at] = at = root[root[at]]
    return at
