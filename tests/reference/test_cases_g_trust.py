"""Reference cases of family G that are about networks: EigenTrust, PageRank, and the rules behind them.

89: Karma3Labs/go-eigentrust, README. 91: networkx's test_pagerank.py, after Langville and Meyer. 93 and those beside
it: the same file, with a personalisation.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from tallystick import Invalid
from tallystick.domains.community.eigentrust import eigentrust, pagerank
from tallystick.domains.community.graph import shape_of

LANGVILLE = [(1, 2), (1, 3), (3, 1), (3, 2), (3, 5), (4, 5), (4, 6), (5, 4), (5, 6), (6, 4)]
COMPLETE = [(a, b, 1) for a, b in permutations(range(4), 2)]


def test_case_89_eigentrust_with_pre_trust() -> None:
    found = eigentrust(
        [("ek", "sd", 100), ("vm", "sd", 100), ("ek", "vm", 75)], pre_trust={"ek": 50, "vm": 100}, alpha=Decimal("0.5")
    )
    published = {"ek": 0.21705427907166472, "sd": 0.3023255433103218, "vm": 0.4806201780180134}
    assert found == pytest.approx(published, abs=1e-7)
    # Solved by hand: ek 28/129, sd 39/129, vm 62/129.
    exact = {"ek": Fraction(28, 129), "sd": Fraction(39, 129), "vm": Fraction(62, 129)}
    assert found == pytest.approx({k: float(v) for k, v in exact.items()}, abs=1e-10)


def test_case_91_pagerank_with_a_dangling_node() -> None:
    found = pagerank([(a, b, 1) for a, b in LANGVILLE], damping=Decimal("0.9"))
    published = (0.03721197, 0.05395735, 0.04150565, 0.37508082, 0.20599833, 0.28624589)
    assert [round(found[n], 8) for n in range(1, 7)] == pytest.approx(published, abs=1.1e-8)


def test_case_91_with_a_distribution_of_its_own_for_dangling_nodes() -> None:
    edges = [(a, b, 1) for a, b in LANGVILLE]
    dangling = {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5}
    found = pagerank(edges, damping=Decimal("0.9"), dangling=dangling)
    # The same as giving node 2 those edges.
    spelled = pagerank([*edges, *((2, n, w) for n, w in dangling.items())], damping=Decimal("0.9"))
    assert found == pytest.approx(spelled, abs=1e-10)
    assert found != pytest.approx(pagerank(edges, damping=Decimal("0.9")), abs=1e-3)


def test_case_93_pagerank_with_a_personalisation() -> None:
    found = pagerank(COMPLETE, damping=Decimal("0.85"), personalization={0: 1, 1: 1, 2: 4, 3: 4})
    assert [round(found[n], 7) for n in range(4)] == [0.2324675, 0.2324675, 0.2675325, 0.2675325]
    # Solved by hand, with d = 17/20: x = (1 - d) v / (1 + d/3) + (d/3) / (1 + d/3).
    d = Fraction(17, 20)
    for node, weight in enumerate((1, 1, 4, 4)):
        exact = ((1 - d) * Fraction(weight, 10) + d / 3) / (1 + d / 3)
        assert found[node] == pytest.approx(float(exact), abs=1e-11)


@pytest.mark.parametrize("start", [{3: 1}, {0: 0, 1: 0, 2: 0, 3: 1}])
def test_a_personalisation_may_name_some_nodes_only(start: dict[int, int]) -> None:
    found = pagerank(COMPLETE, damping=Decimal("0.85"), personalization=start)
    d = Fraction(17, 20)
    rest, own = (d / 3) / (1 + d / 3), ((1 - d) + d / 3) / (1 + d / 3)
    assert [found[n] for n in range(4)] == pytest.approx([float(x) for x in (rest, rest, rest, own)], abs=1e-11)


@pytest.mark.parametrize("field", ["personalization", "dangling"])
def test_a_vector_of_nothing_is_refused(field: str) -> None:
    options: Any = {field: dict.fromkeys(range(4), 0)}
    with pytest.raises(Invalid):
        pagerank(COMPLETE, **options)


def test_distrust_and_self_praise_count_for_nothing() -> None:
    plain = eigentrust([("a", "b", 3), ("b", "a", 1), ("b", "c", 1)], pre_trust={"a": 1})
    noisy = eigentrust(
        [("a", "b", 3), ("b", "a", 1), ("b", "c", 1), ("a", "c", -10), ("c", "c", 10), ("c", "a", 0)],
        pre_trust={"a": 1},
    )
    assert noisy == plain
    # What is said twice is added: 5 - 7 is distrust.
    assert eigentrust([("a", "b", 5), ("a", "b", -7)]) == {"a": pytest.approx(0.5), "b": pytest.approx(0.5)}


def test_a_clique_that_praises_itself_gains_nothing_from_nobody() -> None:
    honest = [("p", "a", 1), ("a", "b", 1), ("b", "p", 1)]
    clique = [(f"s{i}", f"s{j}", 10) for i in range(20) for j in range(20)]
    found = eigentrust([*honest, *clique, *((f"s{i}", "a", 1) for i in range(20))], pre_trust={"p": 1})
    assert sum(v for k, v in found.items() if k.startswith("s")) == 0


def test_units_and_order_do_not_matter() -> None:
    edges = [("ek", "sd", 100), ("vm", "sd", 100), ("ek", "vm", 75)]
    same = [(a, b, Fraction(w, 7)) for a, b, w in reversed(edges)]
    assert eigentrust(same) == pytest.approx(eigentrust(edges))


def test_ends_of_the_range() -> None:
    assert eigentrust([]) == {}
    assert eigentrust([], nodes=["a", "b"]) == {"a": 0.5, "b": 0.5}
    assert eigentrust([], pre_trust={"a": 1, "b": 3}) == {"a": 0.25, "b": 0.75}
    assert eigentrust([("a", "b", 1)], pre_trust={"c": 1}, alpha=1) == {"a": 0, "b": 0, "c": 1}
    assert eigentrust([("a", "b", 1), ("b", "a", 1), ("b", "c", 1), ("c", "a", 1)], alpha=0) == pytest.approx(
        {"a": 0.4, "b": 0.4, "c": 0.2}
    )
    with pytest.raises(Invalid, match="settle"):
        pagerank([("a", "b", 1), ("b", "a", 1)], damping=1, personalization={"a": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": -0.1},
        {"alpha": 1.1},
        {"alpha": float("nan")},
        {"alpha": "0.1"},
        {"alpha": True},
        {"pre_trust": {"a": -1, "b": 2}},
        {"pre_trust": {"a": 0}},
        {"pre_trust": {}},
        {"edges": [("a", "b", float("inf"))]},
        {"edges": [("a", "b", "1")]},
    ],
)
def test_what_is_no_number_is_refused(wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"edges": [("a", "b", 1)]} | wrong
    with pytest.raises(Invalid):
        eigentrust(**given)
    if "edges" in wrong:
        with pytest.raises(Invalid):
            pagerank(**wrong)
    with pytest.raises(Invalid):
        pagerank([("a", "b", -1)])


graphs = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(-10, 10)), max_size=30)


@drawn(graphs, st.dictionaries(st.integers(0, 9), st.integers(1, 9), min_size=1))
def test_shares_are_a_distribution_and_a_fixed_point(edges: list[tuple[int, int, int]], pre: dict[int, int]) -> None:
    alpha = Fraction(1, 5)
    found = eigentrust(edges, pre_trust=pre, alpha=alpha)
    assert sum(found.values()) == pytest.approx(1)
    assert all(share >= 0 for share in found.values())
    p = {node: Fraction(pre.get(node, 0), sum(pre.values())) for node in found}
    said: dict[tuple[int, int], int] = {}
    for a, b, w in edges:
        said[a, b] = said.get((a, b), 0) + w
    kept = {(a, b): w for (a, b), w in said.items() if w > 0 and a != b}
    after = {node: float(alpha * p[node]) for node in found}
    for node, share in found.items():
        mine = {b: w for (a, b), w in kept.items() if a == node}
        spread = {b: Fraction(w, sum(mine.values())) for b, w in mine.items()} or p
        for target, part in spread.items():
            after[target] += float((1 - alpha) * part) * share
    assert after == pytest.approx(found, abs=1e-11)


@drawn(graphs)
def test_components_are_those_of_reachability(edges: list[tuple[int, int, int]]) -> None:
    nodes = sorted({n for a, b, _ in edges for n in (a, b)})
    reach = {n: {n} for n in nodes}
    either = {n: {n} for n in nodes}
    for _ in nodes:
        for a, b, _w in edges:
            for seen, one, two in ((reach, a, b), (either, a, b), (either, b, a)):
                for start in nodes:
                    if one in seen[start]:
                        seen[start].add(two)
    strong = {frozenset(m for m in nodes if m in reach[n] and n in reach[m]) for n in nodes}
    found = shape_of(edges)
    assert found.strong == len(strong)
    assert found.largest == max(map(len, strong), default=0)
    assert found.weak == len({frozenset(either[n]) for n in nodes})
    assert (found.members, found.edges) == (len(nodes), len(edges))


def test_a_path_longer_than_the_stack() -> None:
    found = shape_of([(n, n + 1, 1) for n in range(50_000)])
    assert (found.strong, found.weak, found.largest) == (50_001, 1, 1)
