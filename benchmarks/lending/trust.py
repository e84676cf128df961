"""Trust scores over the network of Bitcoin OTC, beside a query and a power iteration in plain Python by hand.

Both read the edges of a day from the database and answer a share a member. NumPy and networkx are left out: the library
needs neither, and whoever has them may score the edges with them.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path
from uuid import UUID

import asyncpg

from benchmarks.figures import TIME, Row
from benchmarks.place import SLUG, Place
from benchmarks.runner import note, percentile, progress
from tallystick import Session
from tallystick.domains.community import bitcoin_otc

DAY = date(2016, 2, 1)
ALPHA = 0.15
TOLERANCE = 1e-12
_EDGES = (
    "select from_user_id, to_user_id, weight from hand.trust_edge where tenant_id = $1 and community_id is null "
    "and valid_from <= $2 and (valid_to is null or valid_to > $2)"
)
Ask = Callable[[], Awaitable[dict[UUID, float]]]


def folder() -> Path:
    """Where the data is: ``$TALLYSTICK_SHARED``, or ``shared`` beside the checkout."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    return Path(os.environ.get("TALLYSTICK_SHARED", beside)) / "data" / "bitcoin_otc"


def walk(edges: list[tuple[UUID, UUID, int]]) -> dict[UUID, float]:
    """EigenTrust as it is written down in textbooks: a dict of outgoing shares, a pass over the edges a step."""
    trusted: dict[UUID, dict[UUID, float]] = {}
    for source, target, weight in edges:
        row = trusted.setdefault(source, {})
        trusted.setdefault(target, {})
        if weight > 0 and source != target:
            row[target] = row.get(target, 0.0) + weight
    start = 1 / len(trusted)
    shares = {
        source: {target: weight / total for target, weight in row.items()}
        for source, row in trusted.items()
        if (total := sum(row.values()))
    }
    scores = dict.fromkeys(trusted, start)
    while True:
        lost = sum(score for member, score in scores.items() if member not in shares)
        after = dict.fromkeys(trusted, ALPHA * start + (1 - ALPHA) * lost * start)
        for source, row in shares.items():
            score = (1 - ALPHA) * scores[source]
            for target, share in row.items():
                after[target] += score * share
        change = sum(abs(after[member] - scores[member]) for member in scores)
        scores = after
        if change < TOLERANCE:
            return scores


def ours(db: Session) -> Ask:
    async def ask() -> dict[UUID, float]:
        return await db.trust.scores(None, as_of=DAY)

    return ask


def by_hand(conn: asyncpg.Connection, tenant: UUID) -> Ask:
    async def ask() -> dict[UUID, float]:
        return walk([tuple(row) for row in await conn.fetch(_EDGES, tenant, DAY)])

    return ask


def check(mine: dict[UUID, float], theirs: dict[UUID, float]) -> None:
    """The same score for each member."""
    if mine.keys() != theirs.keys() or not mine or any(abs(mine[m] - theirs[m]) > 1e-9 for m in mine):
        raise AssertionError("the trust scores are not those of the iteration written by hand")


async def measure(place: Place, *, quick: bool) -> list[Row]:
    """Medians of whole answers, in turns; nothing, with the reason, where the data is not there."""
    path = folder()
    if not (path / bitcoin_otc.FILE).is_file():
        note("skipped trust scores: no data/bitcoin_otc in TALLYSTICK_SHARED, or in shared beside the checkout")
        return []
    async with place.tally.session(SLUG, actor="bench", permissions=["communities.manage"]) as db:
        loaded = await bitcoin_otc.load(db, path)
    await place.copy("trust_edge")
    await place.analyze("trust_edge")
    rounds = 3 if quick else 9
    async with AsyncExitStack() as stack:
        tally = await stack.enter_async_context(place.opened(1))
        db = await stack.enter_async_context(tally.session(SLUG, actor="bench"))
        (conn,) = await stack.enter_async_context(place.by_hand())
        asks = [ours(db), by_hand(conn, place.tenant)]
        check(*[await ask() for ask in asks])
        taken: dict[Ask, list[int]] = {ask: [] for ask in asks}
        for turn in range(rounds):
            for ask in asks if turn % 2 else asks[::-1]:
                gc.collect()
                started = time.perf_counter_ns()
                await ask()
                taken[ask].append(time.perf_counter_ns() - started)
            progress(f"trust: {turn + 1} of {rounds}")
    progress("")
    mine, theirs = (percentile(taken[ask], 0.5) / 1000 for ask in asks)
    return [Row(f"trust scores, {loaded.graph.edges:,} edges", TIME, mine, theirs, mine / theirs)]
