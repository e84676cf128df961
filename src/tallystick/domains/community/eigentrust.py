"""Trust in a network: EigenTrust and personalised PageRank, as pure functions.

Both answer the same question. A walker who stands on a member goes on to one that the member trusts, each in proportion
to the trust in it, and now and then starts again from somebody who is trusted beforehand; a member's score is how often
the walker is there. They differ in who may be walked to: EigenTrust takes the positive part of what members say of each
other and nothing of what they say of themselves.

Sources: S. Kamvar, M. Schlosser, H. Garcia-Molina, "The EigenTrust Algorithm for Reputation Management in P2P Networks"
(WWW 2003), sections 4.1 to 4.5; A. Langville, C. Meyer, "A Survey of Eigenvector Methods for Web Information Retrieval"
(SIAM Review 47, 2005), section 5.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from operator import mul
from typing import Any, TypeVar

from tallystick.errors import Invalid

Node = TypeVar("Node", bound=Hashable)
Weight = int | float | Decimal | Fraction
Edge = tuple[Node, Node, Weight]

TOLERANCE = 1e-12
"""The walk has settled when a step moves less than this share of all trust."""
_STEPS = 10_000


def eigentrust(
    edges: Iterable[Edge[Node]],
    *,
    pre_trust: Mapping[Node, Weight] | None = None,
    alpha: Weight = Decimal("0.15"),
    nodes: Iterable[Node] = (),
) -> dict[Node, float]:
    """How much each member is trusted by all, as shares that add up to one (Kamvar et al. 2003, algorithm 2).

    An edge is who trusts, whom, and how much, in any unit; several of one pair are added. What is left of distrust is
    nothing: a sum of zero or less counts as no edge, as does trust in oneself. ``pre_trust`` is how much each member
    is trusted beforehand, in any unit, everybody alike where it is not given; ``alpha`` is the share of every
    score that comes from it. A member who trusts nobody is taken to trust those (section 4.3). ``nodes`` adds members
    without edges. Floats: a score is a measure and not money. Raises ``Invalid`` for weights that are no finite
    numbers, for ``pre_trust`` below zero or all zero, and for ``alpha`` outside 0 to 1.
    """
    sums: dict[tuple[Node, Node], float] = {}
    place = {node: at for at, node in enumerate(dict.fromkeys(nodes))}
    for source, target, weight in edges:
        for node in (source, target):
            place.setdefault(node, len(place))
        pair = source, target
        sums[pair] = sums.get(pair, 0.0) + _number(weight, "edges")
    kept = [(source, target, weight) for (source, target), weight in sums.items() if weight > 0 and source != target]
    return _walk(place, kept, pre_trust, None, 1 - _share(alpha, "alpha"))


def pagerank(
    edges: Iterable[Edge[Node]],
    *,
    damping: Weight = Decimal("0.85"),
    personalization: Mapping[Node, Weight] | None = None,
    dangling: Mapping[Node, Weight] | None = None,
    nodes: Iterable[Node] = (),
) -> dict[Node, float]:
    """PageRank of every node, as shares that add up to one; with ``personalization``, seen from those nodes.

    ``personalization`` is where the walker starts again, in any unit, nodes left out never, all alike where it is not
    given. From a node without edges the walker goes on by ``dangling``, or as if it started again. Several edges of one
    pair are added; an edge to oneself counts. Raises ``Invalid`` for weights below zero or not finite, for vectors that
    are all zero, and for ``damping`` outside 0 to 1.
    """
    place = {node: at for at, node in enumerate(dict.fromkeys(nodes))}
    kept: list[tuple[Node, Node, float]] = []
    for source, target, weight in edges:
        for node in (source, target):
            place.setdefault(node, len(place))
        number = _number(weight, "edges")
        if number < 0:
            raise Invalid("An edge's weight is below zero.", field="edges", remedy="PageRank knows no distrust.")
        kept.append((source, target, number))
    return _walk(place, kept, personalization, dangling, _share(damping, "damping"))


def _walk(
    place: dict[Node, int],
    edges: list[tuple[Node, Node, float]],
    start: Mapping[Node, Weight] | None,
    dangling: Mapping[Node, Weight] | None,
    stay: float,
) -> dict[Node, float]:
    """The stationary distribution of the walk, by the power method."""
    again = _vector(place, start, "pre_trust")
    if not place:
        return {}
    lost = again if dangling is None else _vector(place, dangling, "dangling")
    size = len(place)
    for vector in (again, lost):
        vector.extend(0.0 for _ in range(size - len(vector)))
    out = [0.0] * size
    arriving: list[list[tuple[int, float]]] = [[] for _ in range(size)]
    for source, target, weight in edges:
        at = place[source]
        out[at] += weight
        arriving[place[target]].append((at, weight))
    # Edges in the order of their targets: one product of two flat lists is a step of the walk, and a slice of it is
    # what arrives at one node.
    sources = [at for edges_in in arriving for at, _ in edges_in]
    shares = [stay * weight / out[at] if out[at] else 0.0 for edges_in in arriving for at, weight in edges_in]
    spans: list[tuple[int, int]] = []
    end = 0
    for edges_in in arriving:
        spans.append((end, end := end + len(edges_in)))
    stuck = [at for at in range(size) if not out[at]]
    base = [(1 - stay) * share for share in again]
    trust = list(again)
    for _ in range(_STEPS):
        moved = list(map(mul, map(trust.__getitem__, sources), shares))
        left = stay * sum(map(trust.__getitem__, stuck))
        after = [
            sum(moved[begin:end]) + given + left * share
            for (begin, end), given, share in zip(spans, base, lost, strict=True)
        ]
        change = sum(map(abs, map(float.__sub__, after, trust)))
        trust = after
        if change < TOLERANCE:
            total = sum(trust)
            return {node: trust[at] / total for node, at in place.items()}
    raise Invalid(
        "The walk over the network does not settle.",
        field="alpha",
        remedy="Let a share of the trust come from beforehand: an alpha above zero, a damping below one.",
    )


def _vector(place: dict[Node, int], given: Mapping[Node, Weight] | None, field: str) -> list[float]:
    """A distribution over the nodes; those it names and the graph does not are added to the graph."""
    if given is None:
        return [1 / len(place)] * len(place) if place else []
    for node in given:
        place.setdefault(node, len(place))
    weights = {node: _number(weight, field) for node, weight in given.items()}
    total = sum(weights.values())
    if any(weight < 0 for weight in weights.values()) or not total > 0:
        raise Invalid(
            f"{field} holds a weight below zero, or nothing above it.",
            field=field,
            remedy="Give at least one member some; leave it out for everybody alike.",
        )
    vector = [0.0] * len(place)
    for node, weight in weights.items():
        vector[place[node]] = weight / total
    return vector


def _number(value: Any, field: str) -> float:
    number = (
        float(value) if isinstance(value, (int, float, Decimal, Fraction)) and value.__class__ is not bool else None
    )
    if number is None or not isfinite(number):
        raise Invalid(f"A weight of {field} is not a finite number.", field=field)
    return number


def _share(value: Any, field: str) -> float:
    number = _number(value, field)
    if not 0 <= number <= 1:
        raise Invalid(f"{field} is a share, from 0 to 1.", field=field)
    return number
