"""Measure every subject in one run, interleaved, and say it as a table and as JSON.

Rules that hold for all subjects alike:

* Round-robin: in each round every subject runs one small batch, and each round starts with another subject, so that
  drift of the machine hits all of them.
* A batch of short calls is preceded by one untimed call, because the subject before it owned the CPU's caches.
* Collected before each batch, then the collector is left on during timing, as it is in a server; what was made during
  start-up is frozen. Results are dropped after the clock stopped.
* All subjects read the same ids, in the same order.
* The objects to be written exist before the clock starts, in the subject's own type.
* One event loop for all of them: asyncio's own, or uvloop when asked. Django is synchronous and is called without one.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.subjects import SUBJECTS, Subject
from benchmarks.table import FIND, fresh


@dataclass(frozen=True, slots=True)
class Operation:
    """What is timed: calls a batch, rounds and the seconds after which rounds stop, quick and in full."""

    name: str
    batch: int
    rounds: tuple[int, int]
    seconds: tuple[float, float]
    writes: int = 0
    """Rows a call writes; they are taken out again, untimed."""


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("get", 25, (40, 200), (6, 40)),
        Operation("page", 20, (25, 120), (7, 45)),
        Operation("page-500", 20, (16, 80), (7, 45)),
        Operation("find", 1, (12, 50), (14, 70)),
        Operation("add", 20, (20, 100), (7, 45), writes=1),
        Operation("add_many", 1, (5, 20), (18, 100), writes=FIND),
        Operation("update", 20, (20, 100), (7, 45)),
        Operation("transaction", 10, (20, 100), (8, 45), writes=2),
    )
}
LEAST_ROUNDS = 3
HANDLES = 40


class Loop:
    """One event loop for a whole run; synchronous subjects are called outside it."""

    def __init__(self, use_uvloop: bool = False) -> None:
        factory = None
        if use_uvloop:
            import uvloop

            factory = uvloop.new_event_loop
        self._runner = asyncio.Runner(loop_factory=factory)

    def __call__(self, value: Any) -> Any:
        return self._runner.run(value) if inspect.iscoroutine(value) else value

    def close(self) -> None:
        self._runner.close()


Call = Callable[..., Any]


async def _time_async(call: Call, inputs: Sequence[tuple[Any, ...]]) -> tuple[list[int], list[Any]]:
    clock = time.perf_counter_ns
    taken, results = [], []
    for arguments in inputs:
        started = clock()
        result = await call(*arguments)
        taken.append(clock() - started)
        results.append(result)
    return taken, results


def _time_sync(call: Call, inputs: Sequence[tuple[Any, ...]]) -> tuple[list[int], list[Any]]:
    clock = time.perf_counter_ns
    taken, results = [], []
    for arguments in inputs:
        started = clock()
        result = call(*arguments)
        taken.append(clock() - started)
        results.append(result)
    return taken, results


class Bench:
    """The subjects of one run, and what each needs to be called with."""

    def __init__(
        self, loop: Loop, subjects: Sequence[Subject], ids: Sequence[Any], tidy: Callable[[str], None]
    ) -> None:
        self.loop = loop
        self.subjects = list(subjects)
        self.ids = ids
        self.tidy = tidy
        """Takes what a subject wrote out of its table again."""
        self.handles: dict[str, deque[Any]] = {}

    def timed(self, subject: Subject, name: str, inputs: Sequence[tuple[Any, ...]]) -> tuple[list[int], list[Any]]:
        call = getattr(subject, name.replace("-", "_"))
        if subject.sync:
            return _time_sync(call, inputs)
        taken: tuple[list[int], list[Any]] = self.loop(_time_async(call, inputs))
        return taken

    def inputs(self, subject: Subject, name: str, count: int, seed: int) -> list[tuple[Any, ...]]:
        if name == "get":
            return [(id,) for id in random.Random(seed).sample(self.ids, count)]
        chance = random.Random(seed * 100 + self.subjects.index(subject))
        if name == "add":
            return [(item,) for item in subject.make(fresh(count, chance))]
        if name == "add_many":
            return [(subject.make_many(fresh(FIND, chance)),) for _ in range(count)]
        if name == "update":
            return [(self.take(subject), f"{seed}-{number}") for number in range(count)]
        if name == "transaction":
            items = subject.make(fresh(2 * count, chance))
            return [(items[2 * n], items[2 * n + 1], self.take(subject), f"{seed}-{n}") for n in range(count)]
        return [()] * count

    def take(self, subject: Subject) -> Any:
        """An item to be changed. Each subject changes its own rows, and keeps what the change answered."""
        held = self.handles.get(subject.name)
        if not held:
            place = self.subjects.index(subject)
            mine = self.ids[place :: len(self.subjects)][:HANDLES]
            held = self.handles[subject.name] = deque(self.loop(subject.get(id)) for id in mine)
        return held.popleft()

    def check(self) -> None:
        """Everybody reads the same rows and sees its own writes, or nothing is timed."""
        baseline = self.subjects[0]
        last = self.loop(baseline.last_before_page_500())  # type: ignore[attr-defined]
        expected: list[Any] | None = None
        for subject in self.subjects:
            self.loop(subject.before_page_500(last))
            first = subject.items(self.loop(subject.page()))
            far = subject.items(self.loop(subject.page_500()))
            one = self.loop(subject.get(self.ids[-1]))
            found = [str(item.id) for item in self.loop(subject.find())]
            seen = [
                [str(item.id) for item in first[0]], first[1],
                [str(item.id) for item in far[0]], far[1],
                found,
                [str(one.id), one.status, one.reference, one.received_at, one.version],
            ]  # fmt: skip
            expected = expected or seen
            if seen != expected or len(found) != FIND:
                raise AssertionError(f"{subject.name} does not read what asyncpg reads")
            self.check_writes(subject)

    def check_writes(self, subject: Subject) -> None:
        chance = random.Random(self.subjects.index(subject))
        items = subject.make(fresh(3, chance))
        self.loop(subject.add(items[0]))
        before = self.take(subject)
        version = before.version
        after = self.loop(subject.transaction(items[1], items[2], before, "checked"))
        again = self.loop(subject.get(after.id))
        stored = [str(self.loop(subject.get(id)).id) for id in (i.id for i in items)]
        if again.reference != "checked" or again.version != version + 1 or after.version != again.version or not stored:
            raise AssertionError(f"{subject.name} does not write what it says")
        self.handles[subject.name].append(after)
        self.tidy(subject.name)

    def batch(self, subject: Subject, operation: Operation, seed: int) -> list[int]:
        warm = 1 if operation.batch > 1 else 0
        inputs = self.inputs(subject, operation.name, operation.batch + warm, seed)
        gc.collect()
        taken, results = self.timed(subject, operation.name, inputs)
        if operation.name in ("update", "transaction"):
            self.handles[subject.name].extend(results)
        if operation.writes * operation.batch >= FIND:
            self.tidy(subject.name)
        return taken[warm:]

    def measure(self, operation: Operation, *, quick: bool) -> dict[str, list[int]]:
        """Nanoseconds of every call by subject; all subjects have the same number."""
        found: dict[str, list[int]] = {subject.name: [] for subject in self.subjects}
        at = 0 if quick else 1
        stop = time.monotonic() + operation.seconds[at]
        for subject in self.subjects:
            self.batch(subject, operation, seed=1)
        gc.collect()
        gc.freeze()
        done = 0
        while done < operation.rounds[at] and (done < LEAST_ROUNDS or time.monotonic() < stop):
            turn = done % len(self.subjects)
            for subject in self.subjects[turn:] + self.subjects[:turn]:
                found[subject.name] += self.batch(subject, operation, seed=1000 + done)
            done += 1
            progress(f"{operation.name}: round {done} of {operation.rounds[at]}")
        gc.unfreeze()
        if operation.writes:
            for subject in self.subjects:
                self.tidy(subject.name)
        progress("")
        return found


def progress(text: str) -> None:
    """One line on stderr that is written over, or nothing when nobody watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def note(text: str) -> None:
    progress("")
    print(text, file=sys.stderr, flush=True)


def percentile(samples: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the samples lie, interpolated between neighbours."""
    if not samples or not 0 <= share <= 1:
        raise ValueError("a percentile needs samples and a share between 0 and 1")
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def rows_of(operation: str, found: dict[str, list[int]]) -> list[dict[str, Any]]:
    """JSON rows of one operation: microseconds, and the ratio of p50 to that of raw asyncpg."""
    base = percentile(found["asyncpg"], 0.5)
    return [
        {
            "operation": operation,
            "subject": subject,
            "p50_us": round(percentile(taken, 0.5) / 1000, 1),
            "p99_us": round(percentile(taken, 0.99) / 1000, 1),
            "ratio": round(percentile(taken, 0.5) / base, 3),
        }
        for subject, taken in found.items()
    ]


def duration(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds / 1_000_000:.2f} s"


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns under their heads, the first to the left and the others to the right."""
    widths = [max(len(line[at]) for line in [head, *lines]) for at in range(len(head))]

    def row(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([row(head), "  ".join("-" * width for width in widths), *map(row, lines)])


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """Operations down, subjects across; the ratio to raw asyncpg first, the median behind it."""
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    cells = {(row["operation"], row["subject"]): row for row in rows}
    lines = []
    for operation in dict.fromkeys(row["operation"] for row in rows):
        line = [operation]
        for subject in subjects:
            row = cells[operation, subject]
            line.append(f"{row['ratio']:.2f}  {duration(row['p50_us']):>8}")
        lines.append(line)
    return grid(["operation", *(SUBJECTS[subject].label for subject in subjects)], lines)
