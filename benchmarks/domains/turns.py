"""Two sides timed in turns, and rows of both compared."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from benchmarks.figures import TIME, Row
from benchmarks.place import Place, source_of, twin_of
from benchmarks.runner import percentile, progress

MOST = 1.3
WARM = 2
"""Turns before the clock counts: statements are prepared, and the server settles on a plan."""

Side = Callable[[int], Awaitable[Any]]
"""Does the work of a turn, numbered from 0."""


async def in_turns(
    name: str,
    mine: Side,
    theirs: Side,
    turns: int,
    *,
    calls: int = 1,
    most: float | None = MOST,
    between: Callable[[], Awaitable[None]] | None = None,
) -> Row:
    """Medians of both sides, each turn begun by the other one; ``between`` turns, off the clock.

    A side makes ``calls`` calls a turn, of which one is reported.
    """
    taken: dict[Side, list[int]] = {mine: [], theirs: []}
    for turn in range(turns + WARM):
        for side in (mine, theirs) if turn % 2 else (theirs, mine):
            gc.collect()
            started = time.perf_counter_ns()
            await side(turn)
            if turn >= WARM:
                taken[side].append(time.perf_counter_ns() - started)
        if between is not None:
            await between()
        progress(f"{name}: {turn + 1} of {turns + WARM}")
    progress("")
    found, beside = (percentile(taken[side], 0.5) / 1000 / calls for side in (mine, theirs))
    return Row(name, TIME, found, beside, found / beside, most=most)


async def same_rows(place: Place, compared: Mapping[str, str]) -> None:
    """Raise unless both sides hold the same rows in these columns of these tables."""
    for table, columns in compared.items():
        mine, theirs = (f"select {columns} from {name}" for name in (source_of(table), twin_of(table)))
        # EXCEPT ALL, because rows that are there twice on one side differ from rows that are there once.
        apart = f"({mine} except all {theirs}) union all ({theirs} except all {mine})"
        if different := await place.admin.fetchval(f"select count(*) from ({apart}) x"):
            raise AssertionError(f"{different} rows of {table} differ from what was written by hand")
