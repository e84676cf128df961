"""Spans of the calendar that reports count by: days, weeks, months, quarters, years."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, timedelta
from enum import StrEnum

from tallystick.errors import Invalid

__all__ = ["Span", "months_after", "span_of"]


class Span(StrEnum):
    """A stretch of the calendar. Weeks start on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"

    def start(self, day: date) -> date:
        """The first day of the span that a day is in."""
        if self is Span.DAY:
            return day
        if self is Span.WEEK:
            return day - timedelta(days=day.weekday())
        if self is Span.MONTH:
            return day.replace(day=1)
        if self is Span.QUARTER:
            return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
        return date(day.year, 1, 1)

    def end(self, day: date) -> date:
        """The last day of the span that a day is in."""
        if self is Span.DAY:
            return day
        start = self.start(day)
        if self is Span.WEEK:
            return start + timedelta(days=6)
        return months_after(start, {Span.MONTH: 0, Span.QUARTER: 2, Span.YEAR: 11}[self])

    def label(self, day: date) -> str:
        """The span of a day as text: "2026-03", "2026-Q1"."""
        if self is Span.QUARTER:
            return f"{day.year}-Q{(day.month + 2) // 3}"
        start = self.start(day).isoformat()
        return {Span.MONTH: start[:7], Span.YEAR: start[:4]}.get(self, start)


def months_after(day: date, months: int) -> date:
    """The last day of the month that is so many months after the one of a day."""
    place = day.year * 12 + day.month - 1 + months
    year, month = place // 12, place % 12 + 1
    return date(year, month, monthrange(year, month)[1])


def span_of(value: Span | str, *allowed: Span) -> Span:
    """A span by itself or by name. Raises ``Invalid`` for another than those allowed."""
    choice = allowed or tuple(Span)
    found = next((s for s in choice if isinstance(value, str) and s.value == value), None)
    if found is None:
        raise Invalid(
            "That is not a span that is counted by.",
            field="by",
            remedy=f"Use {', '.join(s.value for s in choice)}.",
        )
    return found
