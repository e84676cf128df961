"""How long statements take and how many fail, counted where they are run: per process, entity and operation."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from tallystick.errors import TallystickError
    from tallystick.spec import EntitySpec

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds, of the spans that statements are counted in; one more span has no bound."""


class StatementTimes(msgspec.Struct, frozen=True, kw_only=True):
    """What the statements of one operation on one entity took, waiting for a connection included.

    Times are seconds. ``counted`` has a number for each of ``BOUNDS`` and one for what took longer; ``errors`` are
    counted by their code. ``entity`` is empty for statements of the application's own.
    """

    entity: str
    operation: str
    calls: int
    seconds: float
    longest: float
    errors: dict[str, int]
    counted: tuple[int, ...]

    @property
    def mean(self) -> float:
        """The mean time in seconds."""
        return self.seconds / self.calls if self.calls else 0.0

    @property
    def failed(self) -> int:
        """How many ended with an error."""
        return sum(self.errors.values())


class PoolUse(msgspec.Struct, frozen=True, kw_only=True):
    """Connections of this process: in use, idle, how many callers wait for one, and how many there may be."""

    active: int
    idle: int
    waiting: int
    most: int

    @property
    def share(self) -> float:
        """Which part of the connections there may be is in use."""
        return self.active / self.most


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """How this process uses its database: connections, statements by operation, and whether the schema is right."""

    pool: PoolUse
    statements: list[StatementTimes]
    migrated: bool

    @property
    def calls(self) -> int:
        """How many statements were run."""
        return sum(s.calls for s in self.statements)

    @property
    def error_rate(self) -> float:
        """Which part of the statements ended with an error, conflicts and refusals included."""
        return sum(s.failed for s in self.statements) / self.calls if self.calls else 0.0

    def text(self) -> str:
        """The numbers in the text format that Prometheus reads; no label names a tenant or a person."""
        return "\n".join((*self._lines(), ""))

    def _lines(self) -> Iterator[str]:
        yield "# TYPE tallystick_connections gauge"
        for state in ("active", "idle", "waiting", "most"):
            yield f'tallystick_connections{{state="{state}"}} {getattr(self.pool, state)}'
        yield "# TYPE tallystick_migrated gauge"
        yield f"tallystick_migrated {int(self.migrated)}"
        yield "# TYPE tallystick_statement_seconds histogram"
        for s in self.statements:
            labels, up_to = f'entity="{s.entity}",operation="{s.operation}"', 0
            for bound, n in zip((*BOUNDS, "+Inf"), s.counted, strict=True):
                up_to += n
                yield f'tallystick_statement_seconds_bucket{{{labels},le="{bound}"}} {up_to}'
            yield f"tallystick_statement_seconds_sum{{{labels}}} {s.seconds:.6f}"
            yield f"tallystick_statement_seconds_count{{{labels}}} {s.calls}"
        yield "# TYPE tallystick_statement_errors_total counter"
        for s in self.statements:
            for code, n in sorted(s.errors.items()):
                labels = f'entity="{s.entity}",operation="{s.operation}",code="{code}"'
                yield f"tallystick_statement_errors_total{{{labels}}} {n}"


class Meter:
    """Counts statements as they end. One a store; only its event loop writes to it."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Count] = {}

    def done(self, spec: EntitySpec | None, verb: str, began: float) -> _Count:
        """Count a statement that began at a ``perf_counter()`` and ends now."""
        took = perf_counter() - began
        key = ("" if spec is None else spec.name, verb)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = _Count()
        count.calls += 1
        count.seconds += took
        count.longest = max(count.longest, took)
        count.spans[bisect_left(BOUNDS, took)] += 1
        return count

    def failed(self, spec: EntitySpec | None, verb: str, began: float, error: TallystickError) -> TallystickError:
        """Count a statement that ended with an error, which is answered to be raised."""
        self.done(spec, verb, began).errors[error.code] += 1
        return error

    def read(self) -> list[StatementTimes]:
        """Everything that was counted, by entity and operation."""
        return [
            StatementTimes(
                entity=entity,
                operation=verb,
                calls=count.calls,
                seconds=count.seconds,
                longest=count.longest,
                errors=dict(count.errors),
                counted=tuple(count.spans),
            )
            for (entity, verb), count in sorted(self._counts.items())
        ]


class _Count:
    __slots__ = ("calls", "errors", "longest", "seconds", "spans")

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = self.longest = 0.0
        self.errors: Counter[str] = Counter()
        self.spans = [0] * (len(BOUNDS) + 1)
