"""The Bitcoin OTC network against published numbers.

SNAP publishes 5,881 members, 35,592 edges and 89 % positive; SuiteSparse 1,144 strong components and a symmetry of
79.2 %; atlas.gregas.eu 4 weak components and a largest degree of 1,298. The longer digits were recomputed from the
file.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tallystick import Invalid, RoleMissing, Session, TrustEdge, User
from tallystick.domains.community import bitcoin_otc
from tallystick.domains.community.eigentrust import eigentrust
from tallystick.domains.community.graph import shape_of
from tallystick.ids import is_uuid7
from tallystick.testing import Sandbox

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared"))
FOLDER = SHARED / "data" / "bitcoin_otc"
real = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no data/bitcoin_otc in TALLYSTICK_SHARED or ../shared beside the checkout"
)
LINE = "6,2,4,1289241911.72836"


@real
async def test_published_numbers(db: Session) -> None:
    heard: list[int] = []
    done = await bitcoin_otc.load(db, FOLDER, heard.append)
    assert (done.ratings, done.members_added, done.edges_added, sum(heard)) == (35_592, 5_881, 35_592, 35_592)
    graph = done.graph
    assert (graph.members, graph.edges) == (5_881, 35_592)
    assert graph.positive_share == Decimal("0.899893")
    assert graph.reciprocity == Decimal("0.792313")
    assert (graph.strong, graph.largest, graph.weak, graph.most_edges) == (1_144, 4_709, 4, 1_298)

    again = await bitcoin_otc.load(db, FOLDER / bitcoin_otc.FILE)
    assert (again.members_added, again.edges_added) == (0, 0)
    assert again.graph == graph

    # As of a day the network is what the ratings up to that day make it.
    ratings = bitcoin_otc.read(FOLDER / bitcoin_otc.FILE)
    for day in (date(2010, 11, 7), date(2010, 12, 31), date(2013, 4, 10)):
        expected = shape_of([(r.source, r.target, r.weight) for r in ratings if r.day <= day])
        assert await db.trust.graph(as_of=day) == expected
    assert (await db.trust.graph(as_of=date(2016, 1, 25))) == graph

    shares = await db.trust.scores()
    assert len(shares) == 5_881
    assert sum(shares.values()) == pytest.approx(1)
    expected_shares = eigentrust((r.source, r.target, r.weight) for r in ratings)
    for number in (1, 35, 2642):
        id = bitcoin_otc.member_id(db.tenant_id, number)
        assert shares[id] == pytest.approx(expected_shares[number], rel=1e-9)
    assert max(shares, key=shares.__getitem__) == bitcoin_otc.member_id(db.tenant_id, 35)

    # Nothing is known of anybody.
    one = await db.users.get(bitcoin_otc.member_id(db.tenant_id, 1))
    assert (one.email, one.first_name, one.last_name, one.phone) == (None, None, None, None)
    assert await db[TrustEdge].count(TrustEdge.weight < 0) == 35_592 - 32_029


@real
def test_scores_of_the_whole_network_take_less_than_two_seconds() -> None:
    ratings = bitcoin_otc.read(FOLDER / bitcoin_otc.FILE)
    edges = [(r.source, r.target, r.weight) for r in ratings]
    begun = time.process_time()
    eigentrust(edges)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("6,2,4", "Line 1 .* four values"),
        (f"{LINE}\n6,6,4,1289241911", "Line 2 .* two members"),
        (f"{LINE}\n-6,2,4,1289241911", "Line 2 .* two members"),
        (f"{LINE}\n6,5,11,1289241911", "Line 2 .* rating"),
        (f"{LINE}\n6,5,4.5,1289241911", "Line 2 .* rating"),
        (f"{LINE}\n6,5,4,yesterday", "Line 2 .* moment"),
        (f"{LINE}\n6,5,4,NaN", "Line 2 .* moment"),
        (f"{LINE}\n6,5,4,1e99", "Line 2 .* moment"),
        (f"{LINE}\n{LINE}", "Line 2 .* second time"),
        (f"{LINE}\n6,é,4,1289241911", "Line 2 .* four values"),
        ("", "no ratings"),
    ],
)
async def test_a_damaged_file_is_refused_by_line(db: Session, tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / bitcoin_otc.FILE).write_text(text)
    with pytest.raises(Invalid, match=problem):
        await bitcoin_otc.load(db, tmp_path)
    assert await db.users.count() == 0


async def test_what_is_there_already_is_not_loaded_twice(db: Session, tmp_path: Path) -> None:
    file = tmp_path / bitcoin_otc.FILE
    file.write_text(f"{LINE}\n")
    assert (await bitcoin_otc.load(db, file)).edges_added == 1
    file.write_text(f"{LINE}\n2,6,-10,{int(datetime(2011, 1, 2, 23, tzinfo=UTC).timestamp())}.9\n")
    done = await bitcoin_otc.load(db, file)
    assert (done.members_added, done.edges_added, done.graph.strong) == (0, 1, 1)
    assert (await db[TrustEdge].one(TrustEdge.weight == -10)).valid_from == date(2011, 1, 2)
    assert all(is_uuid7(user.id) for user in await db[User].find())


async def test_loading_takes_a_permission_and_a_file(
    sandbox: Sandbox, tenant: str, db: Session, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match="no Bitcoin OTC file"):
        await bitcoin_otc.load(db, tmp_path)
    async with sandbox.session(tenant, permissions=()) as other:
        with pytest.raises(RoleMissing):
            await bitcoin_otc.load(other, tmp_path)
