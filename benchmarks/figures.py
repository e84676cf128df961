"""Rows of the report: two figures, their ratio, and what was aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.runner import duration, grid

TIME, RATE = "time", "rate"


@dataclass(frozen=True, slots=True)
class Row:
    """``ours`` and ``theirs`` are microseconds, or things a second where ``unit`` is a rate.

    A ``ratio`` of times is better below one, of rates above it. ``most`` and ``least`` are aims for the ratio,
    ``within`` one for our own time; without any the row is only reported.
    """

    name: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    most: float | None = None
    least: float | None = None
    within: float | None = None
    beside: str = "by hand"

    @property
    def aims(self) -> list[tuple[str, bool]]:
        """What was aimed at, and whether it was reached."""
        found = []
        if self.most is not None:
            found.append((f"ratio <= {self.most:g}", self.ratio <= self.most))
        if self.least is not None:
            found.append((f"ratio >= {self.least:g}", self.ratio >= self.least))
        if self.within is not None:
            found.append((f"< {duration(self.within)}", self.ours < self.within))
        return found

    @property
    def reached(self) -> bool:
        return all(reached for _, reached in self.aims)

    def as_json(self) -> dict[str, Any]:
        found = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {**found, "reached": self.reached if self.aims else None}


def text_of(rows: Sequence[Row]) -> str:
    """One line a row: Tallystick, what it is beside, the ratio, the aim."""
    lines = []
    for row in rows:
        aims = "; ".join(f"{text}: {'reached' if reached else 'MISSED'}" for text, reached in row.aims)
        beside = [_figure(row, row.theirs), f"{row.ratio:.2f}"] if row.theirs else ["-", "-"]
        lines.append([row.name, _figure(row, row.ours), *beside, aims or "-"])
    return grid(["row", "Tallystick", "beside", "ratio", "aim"], lines)


def _figure(row: Row, value: float) -> str:
    return duration(value) if row.unit == TIME else f"{value:,.0f}/s"
